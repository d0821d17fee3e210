//! Asking a run of a site: why did it do that, and what if?

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use scheduler::ledger::{Demand, Models};
use scheduler::site::Quality;
use scheduler::site::explain::{Change as Cheaper, Explanation, Pending, Prediction};
use scheduler::site::words;
use serde_json::Value;
use telemetry::Reason;
use twin::again::AgainError;
use twin::observer::Progress;
use twin::record::cluster::Tried;
use twin::record::{Inputs, Past, PastError, ReadError};
use twin::rehearsal::{self, Given, Request, Universe};
use twin::site::jobs::{Habit, Job, Jobs, Workload};
use twin::site::whatif::{self, WhatIfError, Wish, whatif};
use twin::site::why::{self, WhyError, why};
use twin::site::{self, Config, Scene, Visit};
use twin::universe::Document;
use wire::{Instant, Nanos};

const UNIVERSE: &str = include_str!("../../../universes/why.toml");
const HOUR: Nanos = Nanos::HOUR;

fn lists() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes/why")
}

fn read(text: &str, settings: &[&str]) -> Universe {
    let settings: Vec<_> = settings.iter().map(|s| s.parse().unwrap()).collect();
    let document = Document::parse("why.toml", text, &settings).unwrap();
    Universe::read(&document).unwrap_or_else(|e| panic!("{e}"))
}

/// Replays `universes/why.toml` from a copy of its lists, into a folder of its own.
struct Run {
    place: tempfile::TempDir,
    past: Past,
}

impl Run {
    fn new(settings: &[&str]) -> Self {
        Self::of(UNIVERSE, "", settings)
    }

    /// The same with other words in the universe and more lines in the list of research.
    fn of(text: &str, more: &str, settings: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("lists");
        fs::create_dir(&folder).unwrap();
        for list in ["research.csv", "vision.csv"] {
            fs::copy(lists().join(list), folder.join(list)).unwrap();
        }
        let list = folder.join("research.csv");
        fs::write(&list, fs::read_to_string(&list).unwrap() + more).unwrap();
        fs::write(folder.join("power.csv"), "time,power\n0,1e6\n").unwrap();
        let mut universe = read(text, settings);
        let given = Given {
            folder: Some(&folder),
            ..Given::default()
        };
        universe.load(&given).unwrap();
        let mut inputs = Inputs {
            universe: "why.toml".to_owned(),
            text: text.to_owned(),
            settings: settings.iter().map(|&s| s.to_owned()).collect(),
            folder: Some(folder.clone()),
            version: "0".to_owned(),
            ..Inputs::default()
        };
        inputs.read(&universe.files(&given).unwrap()).unwrap();
        let request = Request {
            seed: 1,
            threads: 1,
            out: Some(place.path().join("run")),
            overrides: inputs.settings.clone(),
            command: String::new(),
            replay: None,
            inputs: Some(inputs),
        };
        rehearsal::run(universe, &request, &mut on).unwrap();
        let past = Past::open(&place.path().join("run")).unwrap();
        Self { place, past }
    }

    fn ask(&self, job: &str, at: Option<Nanos>) -> Result<why::Answer, WhyError> {
        let asked = why::Asked {
            job,
            at: at.map(|at| Instant::EPOCH + at),
            folder: None,
            records_only: false,
        };
        why(&self.past, &asked, &mut on)
    }

    fn what_if(&self, at: Nanos, changes: Vec<Wish>) -> Result<whatif::Difference, WhatIfError> {
        let asked = whatif::Asked {
            at: Instant::EPOCH + at,
            changes,
            ..whatif::Asked::default()
        };
        whatif(&self.past, &asked, &mut on)
    }
}

fn on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    let found = value.pointer(path);
    found
        .and_then(Value::as_str)
        .unwrap_or_else(|| panic!("no {path} in {value:#}"))
}

//= requirements S7
#[test]
fn three_jobs_wait_or_fall_for_three_reasons_and_each_says_so() {
    let run = Run::new(&[]);
    // 20 of 40 H100 are free, four on each node, and it wants eight on one.
    let gang = run.ask("train-8", Some(HOUR * 2)).unwrap();
    let explained = &gang.json["explanation"];
    assert_eq!(
        explained["reason"],
        Reason::Fragmented.name(),
        "{}",
        gang.text
    );
    let sentence = text(explained, "/sentence");
    assert!(
        sentence.starts_with("24 GPUs are free, but scattered"),
        "{sentence}"
    );
    assert_eq!(text(explained, "/changes/0/start/text"), "now");
    assert_eq!(
        text(explained, "/changes/0/text"),
        "with 4 instead of 8 GPUs"
    );

    let behind = run.ask("detect-b", Some(Nanos::MINUTE * 141)).unwrap();
    let explained = &behind.json["explanation"];
    assert_eq!(explained["reason"], Reason::Quota.name(), "{}", behind.text);
    let sentence = text(explained, "/sentence");
    assert_eq!(
        sentence,
        "tenant vision may hold 4 GPUs at most, holds 3 GPUs now, and this job asks for 2 GPUs"
    );

    let taken = run.ask("eval-h200", Some(Nanos::MINUTE * 161)).unwrap();
    assert_eq!(
        taken.json["explanation"]["reason"],
        Reason::Model.name(),
        "{}",
        taken.text
    );
    let change = text(&taken.json, "/explanation/changes/0/text");
    assert_eq!(change, "without the restriction to H200");

    let never = run.ask("train-gh200", None).unwrap();
    assert_eq!(never.json["job"]["outcome"], "refused");
    let explained = &never.json["explanations"][0];
    assert_eq!(explained["reason"], Reason::Impossible.name());
    assert_eq!(
        text(explained, "/sentence"),
        "it asks for 8 GPUs on one node, and no node with GH200 has more than 4 GPUs; it could run without the restriction to GH200"
    );
}

#[test]
fn a_model_that_is_nowhere_is_named_with_those_that_are_here() {
    let job = "train-x,96000,786432,8,1000,X900|H100Z,LS,600,1200\n";
    let run = Run::of(UNIVERSE, job, &[]);
    let never = run.ask("train-x", None).unwrap();
    assert_eq!(never.json["job"]["outcome"], "refused");
    assert_eq!(
        text(&never.json, "/explanations/0/sentence"),
        "no node here has X900 or H100Z, only H100, H200 or GH200; it could run without the restriction to X900 or H100Z"
    );
    assert_eq!(text(&never.json, "/job/wants"), "8 X900 or H100Z");
}

//= requirements S7
#[test]
fn what_heat_does_to_a_job_leads_back_to_what_failed() {
    let fault = "\n[[fault]]\nkind = \"cooling_loop\"\nloop = 0\nat = \"3 h\"\nlasts = \"2 h\"\ncapacity_left = \"10 %\"\n";
    let run = Run::of(&format!("{UNIVERSE}{fault}"), "", &["cooling.loops=2"]);
    let db = rusqlite::Connection::open(run.place.path().join("run/history.db")).unwrap();
    let ask = |query: &str| -> Vec<(i64, Option<i64>)> {
        let mut asked = db.prepare(query).unwrap();
        let rows = asked.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
        rows.unwrap().map(Result::unwrap).collect()
    };
    let [(failed, None)] = ask("SELECT id, cause FROM events WHERE kind = 'loop_failed'")[..]
    else {
        panic!("one loop fails, and nothing that was told made it");
    };
    let caused = ask(
        "SELECT id, cause FROM decisions WHERE seconds >= 10800 AND seconds < 18000 AND reason LIKE 'backpressure%'",
    );
    assert!(caused.len() > 3, "{caused:?}");
    for (id, cause) in caused {
        let mut back = vec![];
        let mut next = cause.map(|id| id as u64);
        while let Some(cause) = next {
            let found = run.past.cause(cause).unwrap().expect("it is recorded");
            assert!(found.id < id as u64, "a cause comes first");
            next = found.cause;
            back.push(found.id);
        }
        assert_eq!(
            back.last(),
            Some(&(failed as u64)),
            "decision {id}: {back:?}"
        );
        assert_eq!(back.len(), 2, "by the reading of a meter: {back:?}");
    }
    // What is decided because of a meter is told with what it read then, and that justifies it.
    let stale = "SELECT d.id, e.id FROM decisions d JOIN events e ON e.id = d.cause WHERE e.kind = 'loop_read' AND d.seconds > e.seconds + 60";
    assert_eq!(ask(stale), []);
    let releases = "SELECT d.id, e.id FROM decisions d JOIN events e ON e.id = d.cause WHERE e.kind = 'loop_read' AND d.reason LIKE '%pressure eased'";
    assert_ne!(ask(releases), []);
    let unfounded = "SELECT id, cause FROM decisions WHERE action IN ('throttle', 'migrate') AND reason LIKE 'backpressure%' AND found <= bound";
    assert_eq!(ask(unfounded), []);
    // Whoever lost its place to heat, or was slowed, is told so.
    let moved = "SELECT work, NULL FROM decisions WHERE reason LIKE 'backpressure%' AND work IS NOT NULL LIMIT 1";
    let (job, _) = ask(moved)[0];
    let why = run.ask(&format!("#{job}"), None).unwrap();
    assert!(
        why.text.contains("loop 0 fails: 10 % of its capacity left"),
        "{}",
        why.text
    );
    assert!(
        why.text.contains("the meter of loop 0 reads"),
        "{}",
        why.text
    );
    let page = fs::read_to_string(run.place.path().join("run/report.html")).unwrap();
    assert!(
        page.contains("; because at 3 h loop 0 fails"),
        "the page says so too"
    );
}

//= requirements S7
#[test]
fn every_job_that_waits_has_what_would_help_and_its_start_on_its_page() {
    let run = Run::new(&[]);
    let page = fs::read_to_string(run.place.path().join("run/report.html")).unwrap();
    let summary: Value = serde_json::from_str(
        &fs::read_to_string(run.place.path().join("run/summary.json")).unwrap(),
    )
    .unwrap();
    let data = page.split_once("<script type=\"application/json\" id=\"data\">");
    let data = data
        .expect("the page has data")
        .1
        .split_once("</script>")
        .unwrap()
        .0;
    let data: Value = serde_json::from_str(data).unwrap();
    assert_eq!(data["summary"]["history_hash"], summary["history_hash"]);
    let whys = data["cluster"]["jobs"]["steps"]["whys"].as_array().unwrap();
    let told = |key: &str| whys.iter().filter(|why| why.get(key).is_some()).count();
    // train-8, detect-b and eval-h200 wait, and each could start at once with less.
    assert_eq!((told("changes"), told("start_text")), (3, 3), "{whys:#?}");
    for why in whys.iter().filter(|why| why.get("start_text").is_some()) {
        let said = text(why, "/start_text");
        assert!(said.starts_with("asked at "), "{said}");
        assert!(why["start"][0].as_f64() <= why["start"][1].as_f64());
    }
}

#[test]
fn a_whole_life_holds_every_decision_and_the_reasons_of_the_wait() {
    let run = Run::new(&[]);
    let life = run.ask("train-8", None).unwrap();
    let actions = life.json["life"].as_array().unwrap();
    let actions: Vec<&str> = actions.iter().map(|d| text(d, "/action")).collect();
    assert_eq!(actions, ["queue", "place"]);
    let place = &life.json["life"][1];
    let start = life.json["job"]["start_seconds"].as_f64();
    assert_eq!(place["seconds"].as_f64(), start);
    assert!(
        place["evidence"]["candidates"]
            .as_array()
            .is_some_and(|c| !c.is_empty())
    );
    let waits = life.json["waits"].as_array().unwrap();
    assert_eq!(waits[0]["reason"], Reason::Fragmented.name());
    assert_eq!(waits.last().unwrap()["to_seconds"].as_f64(), start);
    // The records alone say the same of what was decided.
    let asked = why::Asked {
        job: "train-8",
        at: None,
        folder: None,
        records_only: true,
    };
    let records = why(&run.past, &asked, &mut on).unwrap();
    assert_eq!(records.json["life"], life.json["life"]);
    assert_eq!(records.json["waits"], serde_json::json!([]));
}

/// Asked a nanosecond before and at each change, a job says what its life says of the wait.
#[test]
fn the_reason_of_a_wait_is_told_to_the_instant_at_which_it_changes() {
    let fault = "\n[[fault]]\nkind = \"cooling_loop\"\nloop = 0\nat = \"3 h\"\nlasts = \"2 h\"\ncapacity_left = \"10 %\"\n";
    let mut changes = 0;
    for loops in ["cooling.loops=1", "cooling.loops=2"] {
        let run = Run::of(&format!("{UNIVERSE}{fault}"), "", &[loops]);
        for id in run.past.waited().unwrap() {
            let name = format!("#{id}");
            let life = run.ask(&name, None).unwrap();
            assert_eq!(life.json["note"], Value::Null);
            let waits = life.json["waits"].as_array().unwrap();
            let at =
                |of: &Value, key: &str| Nanos((of[key].as_f64().unwrap() * 1e9).round() as u64);
            let says = |at: Nanos| {
                let answer = run.ask(&name, Some(at)).unwrap();
                text(&answer.json, "/explanation/reason").to_owned()
            };
            for pair in waits.windows(2) {
                let change = at(&pair[1], "from_seconds");
                if change != at(&pair[0], "to_seconds") {
                    continue;
                }
                changes += 1;
                let [before, after] = [0, 1].map(|i| text(&pair[i], "/reason"));
                assert_ne!(before, after, "{name} at {change:?}");
                assert_eq!(says(change - Nanos(1)), before, "{name} before {change:?}");
                assert_eq!(says(change), after, "{name} at {change:?}");
            }
        }
    }
    assert!(changes > 3, "{changes}");
}

#[test]
fn every_job_can_be_asked_at_any_moment() {
    let run = Run::new(&[]);
    for job in [
        "tune-00",
        "tune-39",
        "train-8",
        "detect-a",
        "detect-b",
        "eval-h200",
        "train-gh200",
    ] {
        for hours in [0, 1, 3, 5, 8, 16] {
            let said = run
                .ask(job, Some(HOUR * hours))
                .unwrap_or_else(|e| panic!("{job}: {e}"));
            assert!(!said.text.is_empty() && said.text.ends_with('\n'));
        }
        run.ask(job, None).unwrap();
    }
}

#[test]
fn what_cannot_be_asked_is_said_with_what_was_expected() {
    let run = Run::new(&[]);
    let said = |job, at| run.ask(job, at).unwrap_err().to_string();
    assert!(
        said("train8", None).contains("did you mean train-8?"),
        "{}",
        said("train8", None)
    );
    assert!(
        said("train-8", Some(HOUR * 17)).contains("the run ends at 16 h; there is no moment 17 h")
    );
    assert!(matches!(
        Past::open(run.place.path()),
        Err(PastError::Read(ReadError::NoRun { .. }))
    ));
    assert!(matches!(
        Past::newest(&run.place.path().join("lists")),
        Err(PastError::None { .. })
    ));

    let broken = run.place.path().join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("history.db"), "no database at all, only words").unwrap();
    let error = Past::open(&broken).unwrap_err().to_string();
    assert!(error.contains("history.db is damaged"), "{error}");

    // A list that was changed gives another run: nothing is simulated, the records stay.
    let list = run.place.path().join("lists/vision.csv");
    let before = fs::read_to_string(&list).unwrap();
    fs::write(&list, before.replace("detect-b,16000", "detect-b,17000")).unwrap();
    let error = said("train-8", Some(HOUR * 3));
    assert!(
        error.contains("vision.csv is not what the run was made from"),
        "{error}"
    );
    let life = run.ask("train-8", None).unwrap();
    assert!(text(&life.json, "/note").contains("only what the history holds"));
    fs::remove_file(&list).unwrap();
    assert!(matches!(
        run.what_if(HOUR, vec![Wish::RemoveNode("0".to_owned())]),
        Err(WhatIfError::Again(AgainError::Input(_)))
    ));
    // The lists may lie elsewhere now.
    let asked = why::Asked {
        job: "train-8",
        at: Some(Instant::EPOCH + HOUR * 3),
        folder: Some(&lists()),
        records_only: false,
    };
    why(&run.past, &asked, &mut on).unwrap();
}

#[test]
fn a_change_that_changes_nothing_changes_nothing() {
    let run = Run::new(&[]);
    let same = run
        .what_if(HOUR * 2, vec![Wish::Weight("vision".to_owned(), 1.0)])
        .unwrap();
    assert_eq!(same.affected, whatif::Affected::default());
    let json = same.json();
    assert_eq!(json["unchanged"], json["changed"]);
}

#[test]
fn who_started_at_the_moment_itself_did_so_in_neither_future() {
    let run = Run::new(&[]);
    let first = run.past.job("#0").unwrap();
    assert_eq!(first.start, Some(first.arrival));
    let at = Nanos((first.arrival * 1e9) as u64);
    // It is stopped, and begins again later.
    let node = run.past.node(first.nodes[0]).unwrap();
    let gone = run.what_if(at, vec![Wish::RemoveNode(node)]).unwrap();
    assert!(gone.changed.stopped > 0, "{}", gone.text());
    assert_eq!(
        gone.unchanged.started,
        gone.changed.started,
        "{}",
        gone.text()
    );
}

#[test]
fn each_change_does_what_it_says() {
    let run = Run::new(&[]);
    let at = Nanos::MINUTE * 141;
    // detect-b waits behind its tenant's ceiling; with a higher one it starts at once.
    let wider = run
        .what_if(at, vec![Wish::Ceiling("vision".to_owned(), 5)])
        .unwrap();
    let expected = whatif::Affected {
        start_earlier: 1,
        ..whatif::Affected::default()
    };
    assert_eq!(wider.affected, expected, "{}", wider.text());
    assert_eq!(wider.most[0].name, "detect-b");
    let started = wider.most[0].changed.and_then(|c| c.started);
    assert_eq!(started, Some(Instant::EPOCH + at));

    // A node less: what ran there starts again elsewhere or waits.
    let fewer = run
        .what_if(at, vec![Wish::RemoveNode("h100-000".to_owned())])
        .unwrap();
    assert_eq!(fewer.changed.since.nodes_lost, 1);
    assert_eq!(fewer.unchanged.since.gpu_seconds_lost, 0.0);
    assert!(
        fewer.changed.since.gpu_seconds_lost > 0.0,
        "{}",
        fewer.text()
    );

    // Who lost its place begins elsewhere, and ends later though it first starts when it would.
    assert_eq!((fewer.unchanged.moved, fewer.changed.moved > 0), (0, true));
    assert!(fewer.affected.end_later > 0, "{}", fewer.text());
    assert!(fewer.text().contains(" ends at "), "{}", fewer.text());
    // Who never starts waits too.
    let none = (0..5).map(|n| format!("h100-00{n}"));
    let none = run
        .what_if(at, none.map(Wish::RemoveNode).collect())
        .unwrap();
    assert!(none.changed.stopped > 0);
    assert!(none.affected.start_no_more + none.affected.end_otherwise > 0);
    assert!(
        none.changed.waiting.max > none.unchanged.waiting.max,
        "{}",
        none.text()
    );

    // One more job, and why it stands where it stands.
    let small = "gpus=4,model=H100,runs=1h,limit=2h".parse().unwrap();
    let more = run.what_if(at, vec![Wish::Submit(small)]).unwrap();
    let (_, json) = more.submitted.as_ref().unwrap();
    assert_eq!(
        json["started_seconds"].as_f64(),
        Some(at.as_secs_f64()),
        "{json:#}"
    );
    assert_eq!(
        json["ended_seconds"].as_f64(),
        Some((at + HOUR).as_secs_f64())
    );
    // Another policy places it for other reasons, and says so.
    let small = || Wish::Submit("gpus=1,runs=1h".parse().unwrap());
    let policy = |name: &str| Wish::Set(format!("scheduler.policy={name}").parse().unwrap());
    for (name, term) in [("bestfit", "fit 0."), ("cosmos", "unusable -0.1250")] {
        let more = run.what_if(at, vec![policy(name), small()]).unwrap();
        let (words, _) = more.submitted.as_ref().unwrap();
        assert!(words.contains(term), "{name}: {words}");
    }
    let large = "gpus=16,runs=1h".parse().unwrap();
    let never = run.what_if(at, vec![Wish::Submit(large)]).unwrap();
    let (words, json) = never.submitted.as_ref().unwrap();
    assert_eq!(json["state"], "refused", "{words}");
    assert!(
        words.contains("it could run with 8 instead of 16 GPUs"),
        "{words}"
    );

    // A loop that carries little slows or stops what it cools.
    let hot = run.what_if(at, vec![Wish::LoopCapacity(0, 0.2)]).unwrap();
    assert!(
        hot.changed.since.max_load > hot.unchanged.since.max_load,
        "{}",
        hot.text()
    );
    assert!(hot.changed.throttled > 0);
    let blind = "scheduler.heat_aware=false".parse().unwrap();
    let blind = run
        .what_if(at, vec![Wish::LoopCapacity(0, 0.2), Wish::Set(blind)])
        .unwrap();
    assert!(
        blind.changed.since.max_kelvin > hot.changed.since.max_kelvin,
        "{}",
        blind.text()
    );
}

#[test]
fn a_neighbour_that_takes_what_loops_carry_is_named_and_can_be_told_to_take_nothing() {
    let fault = "\n[[fault]]\nkind = \"neighbour\"\nrecord = \"power.csv\"\nat = \"1 h\"\nfrom = \"0 s\"\n\
                 lasts = \"9 h\"\nabove = \"0 W\"\nmost = \"30 kW\"\n";
    let run = Run::of(&format!("{UNIVERSE}{fault}"), "", &[]);
    let at = HOUR * 2;
    let asked = |job, at| run.ask(job, Some(at)).unwrap();
    let told = "loops    the neighbour takes 55.5 % of what they can carry\n";
    let fragmented = asked("train-8", at);
    assert!(fragmented.text.contains(told), "{}", fragmented.text);
    let hot = asked("detect-a", at + Nanos::MINUTE * 10);
    assert_eq!(
        text(&hot.json, "/explanation/reason"),
        "no heat headroom outward"
    );
    let helps = "once the neighbour takes nothing from the cooling loops: now\n";
    assert!(hot.text.contains(helps), "{}", hot.text);
    let alone = run.what_if(at, vec![Wish::Neighbour(0.0)]).unwrap();
    assert!(alone.changed.since.max_load < alone.unchanged.since.max_load);
    let nobody = Run::new(&[]).what_if(at, vec![Wish::Neighbour(0.0)]);
    assert!(matches!(nobody, Err(WhatIfError::NoNeighbour)));
}

#[test]
fn a_change_to_what_there_is_not_says_what_there_is() {
    let run = Run::new(&[]);
    for (wish, said) in [
        (
            Wish::RemoveNode("h100-00".to_owned()),
            "found node \"h100-00\"; expected one such as \"h100-000\"",
        ),
        (
            Wish::Quota("visoin".to_owned(), 4),
            "found tenant \"visoin\"; expected one such as \"vision\"",
        ),
        (
            Wish::LoopCapacity(3, 0.5),
            "found loop \"3\"; expected 0, the only one",
        ),
        (
            Wish::Set("time.end=2h".parse().unwrap()),
            "found time.end=2h, which cannot change in the middle of a run",
        ),
        (
            Wish::Set("scheduler.policy=best".parse().unwrap()),
            "found \"best\", expected one of \"random\"",
        ),
        (
            Wish::Set("scheduler.patients=2h".parse().unwrap()),
            "did you mean `scheduler.patience`",
        ),
        (
            Wish::Submit("gpus=1,model=H300,runs=1h".parse().unwrap()),
            "found GPU model \"H300\"; expected one such as \"H100\"",
        ),
    ] {
        let error = run.what_if(HOUR, vec![wish]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let late = run.what_if(HOUR * 20, vec![Wish::RemoveNode("0".to_owned())]);
    let late = late.unwrap_err().to_string();
    assert!(
        late.contains("found 20 h for --at; expected a moment from 0 s to 16 h"),
        "{late}"
    );
    assert!(matches!(
        run.what_if(HOUR, vec![]),
        Err(WhatIfError::Nothing)
    ));
}

// A site made for a question: so many nodes of eight GPUs, blind to heat, and jobs that
// keep their promises to the nanosecond.

fn site(nodes: u32) -> Config {
    let count = format!("nodes.h100.count={nodes}");
    let settings = [
        count.as_str(),
        "scheduler.heat_aware=false",
        "time.end=10 d",
    ];
    match read(UNIVERSE, &settings) {
        Universe::Site(config, _) => *config,
        _ => panic!("why is a site"),
    }
}

#[derive(Clone, Copy, Debug)]
struct Asks {
    tenant: u16,
    arrives: u64,
    gpus: u8,
    tasks: u16,
    minutes: u64,
    h200: bool,
    priority: u8,
    /// Part of its promise that it needs, in percent.
    needs: u64,
}

fn job(id: usize, asks: &Asks) -> Job {
    let promised = Nanos::MINUTE * asks.minutes;
    Job {
        name: format!("j{id}").into(),
        arrives: Instant::EPOCH + Nanos::SECOND * asks.arrives,
        runs: Some(Nanos(promised.0 / 100 * asks.needs)),
        limit: Some(promised),
        tenant: asks.tenant,
        priority: asks.priority,
        quality: Quality::BestEffort,
        tasks: asks.tasks,
        demand: Demand {
            cpu_milli: 4_000 * u32::from(asks.gpus),
            memory_mib: 8_192 * u32::from(asks.gpus),
            gpus: asks.gpus,
            gpu_milli: 1_000,
            models: if asks.h200 { Models(0b10) } else { Models::ANY },
        },
        habit: 0,
        busy: twin::site::jobs::BUSY,
        labels: None,
    }
}

fn scene(config: &Config, jobs: Vec<Job>) -> Scene {
    let mut load = Workload::described(&config.groups, config.building.cpus_per_node);
    load.jobs = Jobs {
        jobs,
        tenants: vec!["a".to_owned(), "b".to_owned()],
        habits: vec![Habit::default()],
        left_out: 0,
        before_begin: 0,
        other_models: Vec::new(),
    };
    load.into()
}

fn go(visit: &mut Visit<'_>, to: Instant) {
    let done = visit.until(to, &mut |_: site::Progress| ControlFlow::Continue(()));
    assert!(done.is_continue());
}

/// When each job started in a run to its end.
fn starts(config: &Config, scene: &Scene) -> Vec<Option<Instant>> {
    let mut starts = vec![None; scene.load.jobs.jobs.len()];
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let _ = site::run(config, scene, 1, on, &mut |record| {
        if let site::Record::Job(job) = record {
            starts[job.id as usize] = job.started;
        }
    });
    starts
}

fn pending(config: &Config, scene: &Scene, job: u64, at: Instant) -> Option<Pending> {
    let mut visit = Visit::new(config, scene, 1);
    go(&mut visit, at);
    match visit.explain(job, at) {
        Explanation::Pending(pending) => Some(*pending),
        _ => None,
    }
}

/// Four nodes on two loops, of which one fails, and two tenants, of whom one has a quota and a ceiling.
fn pressed() -> Config {
    let more = "\n[tenant.a]\ngpus = 8\ngpus_max = 16\n\n[[fault]]\nkind = \"cooling_loop\"\nloop = 0\nat = \"30 min\"\nlasts = \"4 h\"\ncapacity_left = \"10 %\"\n";
    let settings = [
        "nodes.h100.count=4",
        "site.nodes_per_rack=2",
        "site.racks_per_row=1",
        "cooling.loops=2",
        "time.end=1 d",
    ];
    match read(&format!("{UNIVERSE}{more}"), &settings) {
        Universe::Site(config, _) => *config,
        _ => panic!("why is a site"),
    }
}

/// Asks of each job that a page was asked about at the same moment: what both say has to be the same, to the word.
/// Gives what was offered to each.
fn compared_with_the_page(config: &Config, scene: &Scene) -> Vec<Vec<Cheaper>> {
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let outcome = site::run(config, scene, 1, on, &mut |_| {});
    let told: Vec<_> = outcome.series.cluster().unwrap().jobs.all().collect();
    let asked = told.iter().flat_map(|told| {
        let steps = told.steps.iter().filter_map(|s| Some((s, s.why.as_ref()?)));
        steps
            .filter(|(_, why)| why.tried != Tried::Nothing)
            .map(|(step, why)| (told.id, step, why))
    });
    let mut asked: Vec<_> = asked.collect();
    asked.sort_by(|(_, a, _), (_, b, _)| a.seconds.total_cmp(&b.seconds));
    let names = site::Called(&scene.load);
    let mut visit = Visit::new(config, scene, 1);
    let offered = asked.into_iter().map(|(id, step, why)| {
        let at = Instant::EPOCH + Nanos::from_secs_f64(step.seconds);
        go(&mut visit, at);
        let Explanation::Pending(pending) = visit.explain(id, at) else {
            panic!("job {id} waits at {at:?}")
        };
        let start = |start: &Prediction| start.likely.or(start.latest);
        let expected = pending.changes.iter().filter_map(|better| {
            let text = words::change(&pending.job, better.change, &names);
            Some((text, start(&better.start)?))
        });
        // Where only that was tried what starts it at once, the page offers that and no more.
        let expected = expected.filter(|(_, start)| why.tried == Tried::Sooner || *start == at);
        let expected = expected.map(|(text, start)| (text, start.as_secs_f64()));
        let offered = why.changes.iter();
        let offered = offered.map(|c| (c.text.to_string(), c.start_seconds));
        assert_eq!(
            offered.collect::<Vec<_>>(),
            expected.collect::<Vec<_>>(),
            "job {id} at {at:?}"
        );
        assert!(
            step.text.starts_with(&words::dominant(&pending, &names)),
            "{} is not {}",
            step.text,
            words::dominant(&pending, &names)
        );
        // When it starts may have been asked again later.
        let said = words::start(&pending.start, at);
        let moment = format!("asked at {}: ", words::moment(at));
        assert!(
            why.start_text
                .strip_prefix(&*moment)
                .is_none_or(|it| it == said),
            "{} is not {said}",
            why.start_text
        );
        pending.changes.iter().map(|c| c.change).collect()
    });
    offered.collect()
}

fn asks(needs: std::ops::RangeInclusive<u64>) -> impl Strategy<Value = Asks> {
    let of = (0..2_u16, 0..7_200_u64, 1..=8_u8, 1..=3_u16, 20..400_u64);
    (of, 0..10_u8, 0..8_u8, needs).prop_map(
        |((tenant, arrives, gpus, tasks, minutes), model, priority, needs)| Asks {
            tenant,
            arrives,
            gpus,
            tasks,
            minutes,
            h200: model == 0,
            priority: u8::from(priority == 0),
            needs,
        },
    )
}

fn in_order(mut all: Vec<Asks>) -> Vec<Job> {
    all.sort_by_key(|a| a.arrives);
    all.iter()
        .enumerate()
        .map(|(id, asks)| job(id, asks))
        .collect()
}

/// All come within two hours; then nobody.
const MOMENT: Instant = Instant(Nanos::HOUR.0 * 2);

/// The workload with its last job changed, as if it had come so.
fn changed(scene: &Scene, change: Cheaper) -> Scene {
    let mut scene = scene.clone();
    let job = scene.load.jobs.jobs.last_mut().unwrap();
    let asked = change.apply(scheduler::Job {
        id: 0,
        tenant: job.tenant,
        priority: job.priority,
        quality: job.quality,
        tasks: job.tasks,
        demand: job.demand,
        spread: scheduler::site::Spread::Site,
        limit: job.limit,
        checkpoint: None,
    });
    (job.tasks, job.demand, job.limit) = (asked.tasks, asked.demand, asked.limit);
    job.runs = job.runs.min(job.limit);
    scene
}

/// Not one job or three, but each of a site on which everything is short.
//= requirements S7
#[test]
fn a_page_offers_what_why_offers_whatever_a_job_lacks() {
    let config = pressed();
    let all = (0..150_u64).map(|i| Asks {
        tenant: u16::from(i % 3 != 0),
        arrives: i / 3 * 180,
        gpus: [1, 2, 4, 8, 8][i as usize % 5],
        tasks: 1 + u16::from(i % 7 == 0),
        minutes: 20 + i * 37 % 150,
        h200: i % 11 == 0,
        priority: u8::from(i % 13 == 0),
        needs: 40 + i * 17 % 60,
    });
    let scene = scene(&config, in_order(all.collect()));
    let offered = compared_with_the_page(&config, &scene);
    assert!(offered.len() > 60, "{} were asked", offered.len());
    let count = |is: fn(&Cheaper) -> bool| offered.iter().flatten().filter(|c| is(c)).count();
    let of_each_kind = [
        count(|c| matches!(c, Cheaper::Gpus(_))),
        count(|c| matches!(c, Cheaper::AnyModel)),
        count(|c| matches!(c, Cheaper::Quota(_))),
        count(|c| matches!(c, Cheaper::Ceiling(_))),
        count(|c| matches!(c, Cheaper::Sound(_))),
        count(|c| matches!(c, Cheaper::Blind)),
    ];
    assert!(of_each_kind.iter().all(|n| *n > 0), "{of_each_kind:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    //= requirements S7
    #[test]
    fn a_page_offers_what_why_offers_at_the_same_moment(
        all in prop::collection::vec(asks(30..=100), 5..40),
        together in 1..1_800_u64,
        is_pressed in any::<bool>(),
    ) {
        let mut all = all;
        for asks in &mut all {
            asks.arrives -= asks.arrives % together;
        }
        let config = if is_pressed { pressed() } else { site(3) };
        let scene = scene(&config, in_order(all));
        let _ = compared_with_the_page(&config, &scene);
    }

    #[test]
    fn what_is_said_at_a_moment_is_the_same_however_it_is_reached(
        all in prop::collection::vec(asks(30..=100), 5..60),
        stops in prop::collection::vec(0..7_200_u64, 0..6),
    ) {
        let config = site(3);
        let scene = scene(&config, in_order(all));
        let mut direct = Visit::new(&config, &scene, 1);
        go(&mut direct, MOMENT);
        let mut halting = Visit::new(&config, &scene, 1);
        let mut stops = stops;
        stops.sort_unstable();
        for stop in stops {
            let stop = Instant::EPOCH + Nanos::SECOND * stop;
            go(&mut halting, stop);
            for id in 0..scene.load.jobs.jobs.len() as u64 {
                let _ = halting.explain(id, stop);
            }
        }
        let mut copy = halting.clone();
        go(&mut halting, MOMENT);
        go(&mut copy, MOMENT);
        for id in 0..scene.load.jobs.jobs.len() as u64 {
            let said = direct.explain(id, MOMENT);
            prop_assert_eq!(&said, &halting.explain(id, MOMENT));
            prop_assert_eq!(&said, &copy.explain(id, MOMENT));
        }
        let run = site::run(&config, &scene, 1, &mut |_| ControlFlow::Continue(()), &mut |_| {});
        let end = halting.end();
        go(&mut halting, end);
        prop_assert_eq!(halting.finish(true).history_hash, run.history_hash);
    }

    #[test]
    fn who_waits_starts_when_it_was_said_if_everybody_keeps_to_what_they_promised(
        all in prop::collection::vec(asks(100..=100), 5..60),
    ) {
        let config = site(3);
        let scene = scene(&config, in_order(all));
        let starts = starts(&config, &scene);
        let mut visit = Visit::new(&config, &scene, 1);
        go(&mut visit, MOMENT);
        for (id, started) in starts.iter().enumerate() {
            if let Explanation::Pending(pending) = visit.explain(id as u64, MOMENT)
                && pending.preempted == 0
            {
                prop_assert_eq!(pending.start.latest, *started, "job {}", id);
            }
        }
    }

    #[test]
    fn who_asks_for_less_starts_when_that_was_said(
        all in prop::collection::vec(asks(100..=100), 10..60),
        last in asks(100..=100),
    ) {
        let config = site(3);
        let mut jobs = in_order(all);
        let last = Asks { arrives: 7_200, ..last };
        jobs.push(job(jobs.len(), &last));
        let id = jobs.len() as u64 - 1;
        let scene = scene(&config, jobs);
        let Some(pending) = pending(&config, &scene, id, MOMENT) else {
            return Ok(());
        };
        for better in &pending.changes {
            // A limit is a promise: to keep it the job has to be shorter, which is another job.
            let scene = changed(&scene, better.change);
            let started = starts(&config, &scene)[id as usize];
            prop_assert_eq!(started, better.start.latest, "{:?}", better.change);
        }
    }

    // With several tenants or priorities who is first changes when somebody ends early.
    #[test]
    fn the_first_in_the_queue_of_equals_never_starts_after_its_latest(
        mut all in prop::collection::vec(asks(20..=100), 5..60),
    ) {
        let config = site(3);
        for asks in &mut all {
            (asks.tenant, asks.priority) = (0, 0);
        }
        let scene = scene(&config, in_order(all));
        let starts = starts(&config, &scene);
        let mut visit = Visit::new(&config, &scene, 1);
        go(&mut visit, MOMENT);
        for (id, started) in starts.iter().enumerate() {
            if let Explanation::Pending(pending) = visit.explain(id as u64, MOMENT)
                && pending.ahead.jobs == 0
                && let Some(latest) = pending.start.latest
            {
                prop_assert!(started.is_some_and(|at| at <= latest), "job {id}: {started:?} after {latest}");
            }
        }
    }
}
