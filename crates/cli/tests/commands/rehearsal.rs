//! Rehearsals as a person or a script runs them: what is left behind, and what is
//! said when something is wrong.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::{Said, wait_until};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

/// Twenty-five tiles, a minute, everything on.
const TINY: &str = r#"name = "tiny"
intent = "Twenty-five tiles watch each other for a minute."
kind = "shells"

[time]
end = "60 s"
sample = "2 s"

[holons]
tiles_per_cell = 25

[[shell]]
name = "cell"
distance = "1 AU"
limit = "370 K"
throttle = "360 K"
initial = "330 K"
radiator = "1.5 m^2"
heat_capacity = "1 kJ/K"
idle = "100 W"
dynamic = "900 W"

[heat]
step = "1 s"

[thermos]
period = "2 s"

[membership]
period = "1 s"

[[work]]
kind = "hot"
utilisation = "60 %"
shards = 5
activity = 0.9
term = "20 s"

[[fault]]
kind = "burst"
at = "20 s"
share = "15 %"
"#;

/// Keys of `summary.json` that others may rely on.
//= requirements U4
const PROMISED: [&str; 32] = [
    "universe",
    "seed",
    "tiles",
    "simulated_seconds",
    "wall_seconds",
    "events",
    "peak_rss_bytes",
    "history_hash",
    "invariants.0.name",
    "invariants.0.held",
    "membership.detection_seconds.p50",
    "membership.detection_seconds.p99",
    "membership.detection_seconds.max",
    "membership.false_removals",
    "locality.cell",
    "locality.cluster",
    "locality.region",
    "locality.system",
    "heat.max_kelvin_over_limit",
    "heat.tiles_lost",
    "heat.overshoot",
    "heat.energy_error",
    "os_overhead_fraction",
    "faults.0.kind",
    "faults.0.injected",
    "faults.0.fired",
    "decisions.0.action",
    "decisions.0.reason",
    "decisions.0.count",
    "complete",
    "command",
    "threads",
];

/// A folder to call the command in, with `tiny.toml` in it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a temporary folder"));
        place.write("tiny.toml", TINY);
        place
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path().join(name), text).expect("a file in it");
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path());
        command
    }

    fn cosmos(&self, arguments: &[&str]) -> Said {
        said(&mut self.command(COSMOS, arguments))
    }

    fn run(&self, arguments: &[&str]) -> Said {
        self.cosmos(&[&["twin", "run", "tiny.toml"], arguments].concat())
    }

    /// Everything in it but `tiny.toml`, hidden or not.
    fn left(&self) -> Vec<String> {
        let mut names = names(self.path());
        names.retain(|name| name != "tiny.toml");
        names
    }

    fn summary(&self, run: &str) -> Value {
        let text = fs::read_to_string(self.path().join(run).join("summary.json"));
        serde_json::from_str(&text.expect("a summary")).expect("JSON")
    }
}

const COSMOS: &str = env!("CARGO_BIN_EXE_cosmos");

fn said(command: &mut Command) -> Said {
    Said::of(command.output().expect("the command starts"))
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> = entries
        .map(|entry| entry.expect("an entry").file_name())
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The value at a dotted path; null if there is none.
fn at<'v>(value: &'v Value, path: &str) -> &'v Value {
    path.split('.').fold(value, |value, key| {
        let index = key.parse::<usize>();
        index.map_or_else(|_| &value[key], |i| &value[i])
    })
}

fn count(history: &Connection, what: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {what}");
    let count = history.query_row(&sql, [], |row| row.get(0));
    count.unwrap_or_else(|error| panic!("{sql}: {error}"))
}

fn history(run: &Path) -> Connection {
    Connection::open(run.join("history.db")).expect("any SQLite opens it")
}

#[test]
fn runs_on_disk_are_compared_and_what_differs_is_told() {
    let place = Place::new();
    for (out, settings) in [("one", &[][..]), ("two", &["--set", "time.end=40s"])] {
        let quiet = ["--quiet", "--out", out];
        let said = place.run(&[&quiet[..], settings].concat());
        assert!(matches!(said.code, Some(0 | 1)), "{}", said.err);
    }
    let said = place.cosmos(&["twin", "compare", "one", "two", "--out", "both"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let head = said.out.lines().next().expect("a heading");
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        ["unchanged", "time.end=40s", "change"]
    );
    let line = said
        .out
        .lines()
        .find(|l| l.starts_with("simulated_seconds "));
    let cells: Vec<_> = line.expect("its line").split_whitespace().collect();
    assert_eq!(cells[1..], ["60", "40", "-33.3", "%"]);
    assert!(
        said.out.ends_with("report: both/report.html\n"),
        "{}",
        said.out
    );
    assert_eq!(
        names(&place.path().join("both")),
        ["comparison.json", "report.html"]
    );
    let page = fs::read_to_string(place.path().join("both/report.html")).expect("a page");
    assert!(page.contains("\"page\":\"comparison\"") && page.contains("kelvin_mean"));

    let said = place.cosmos(&["twin", "compare", "one", "two", "--json"]);
    let json: Value = serde_json::from_str(&said.out).expect("JSON");
    let differences = json["differences"].as_array().expect("a list");
    let ended = differences.iter().find(|d| d["key"] == "simulated_seconds");
    assert_eq!(
        ended.expect("it")["values"],
        serde_json::json!([60.0, 40.0])
    );
    assert_eq!(json["report"], "runs/comparison/report.html");
}

#[test]
fn what_cannot_be_compared_is_refused_and_nothing_is_left() {
    let place = Place::new();
    assert!(matches!(
        place.run(&["--quiet", "--out", "one"]).code,
        Some(0 | 1)
    ));
    fs::create_dir(place.path().join("torn")).expect("a folder");
    place.write("torn/summary.json", "{");
    place.write("torn/history.db", "");
    place.write("pack.json", r#"{"policy": "fgd", "pods": "a.csv"}"#);
    let before = place.left();
    for (what, says) in [
        (
            &["one"][..],
            "error: found one run, one; expected at least two to compare",
        ),
        (&["one", "none"], "error: cannot read none: No such file"),
        (
            &["one", "torn"],
            "error: torn/summary.json:1:1: the file ends in the middle; expected the summary.json of a run",
        ),
        (
            &["one", "."],
            "error: . is no run: it holds no summary.json",
        ),
        (
            &["pack.json"],
            "error: pack.json: found no curve of a placement policy",
        ),
        (
            &["one", "one", "--published", "x.csv"],
            "error: --published x.csv: found no curve",
        ),
        (
            &["one", "one", "one", "one", "one"],
            "error: found 5 runs; expected at most 4",
        ),
    ] {
        let said = place.cosmos(&[&["twin", "compare"], what].concat());
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{what:?}");
        assert!(said.err.starts_with(says), "{}", said.err);
        assert_eq!(place.left(), before, "{what:?}");
    }
}

//= requirements U4
//= requirements S7
#[test]
fn a_run_leaves_a_summary_a_history_and_a_page() {
    let place = Place::new();
    let said = place.run(&["--quiet"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    assert!(
        said.out.ends_with("report: runs/tiny-seed1/report.html\n"),
        "{}",
        said.out
    );
    assert_eq!(names(&place.path().join("runs")), ["tiny-seed1"]);
    let run = place.path().join("runs/tiny-seed1");
    assert_eq!(
        names(&run),
        ["history.db", "history.db.b3", "report.html", "summary.json"]
    );

    let summary = place.summary("runs/tiny-seed1");
    for key in PROMISED {
        assert!(!at(&summary, key).is_null(), "{key} in {summary:#}");
    }
    assert_eq!(summary["universe"], "tiny");
    assert_eq!(summary["tiles"], 25);
    assert_eq!(summary["simulated_seconds"], 60.0);
    assert_eq!(summary["complete"], true);
    assert_eq!(
        summary["history_hash"].as_str().expect("digits").len(),
        "0123456789abcdef0123456789abcdef".len()
    );
    for invariant in summary["invariants"].as_array().expect("a list") {
        assert_eq!(invariant["held"], true, "{invariant}");
        assert!(invariant["first_violation"].is_null());
    }

    let history = history(&run);
    assert_eq!(count(&history, "runs WHERE held = 1 AND complete = 1"), 1);
    assert_eq!(count(&history, "samples WHERE metric = 'dark'"), 30);
    assert!(count(&history, "events WHERE detail LIKE '%fail at once%'") == 1);
    // Every decision that was counted is there, with what settled it.
    let decided = summary["decisions"].as_array().expect("a list");
    let counted: i64 = decided.iter().filter_map(|d| d["count"].as_i64()).sum();
    let recorded = history.query_row("SELECT sum(count) FROM decisions", [], |row| {
        row.get::<_, i64>(0)
    });
    assert_eq!(recorded.expect("decisions"), counted);
    assert_eq!(count(&history, "decisions WHERE found IS NULL"), 0);

    let page = fs::read_to_string(run.join("report.html")).expect("a page");
    assert!(page.contains("tiny") && page.len() > 10_000);
}

#[test]
fn json_is_the_summary_and_nothing_else() {
    let place = Place::new();
    let said = place.run(&["--json"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let file = place.path().join("runs/tiny-seed1/summary.json");
    assert_eq!(said.out, fs::read_to_string(file).expect("a summary"));
}

#[test]
fn a_broken_invariant_is_exit_code_1_and_names_who_where_and_when() {
    let place = Place::new();
    let hot = [
        "--set",
        "thermos.enabled=false",
        "--set",
        "shell.0.radiator=0.5m^2",
        "--set",
        "work.0.utilisation=100%",
        "--set",
        "time.end=3min",
    ];
    let said = place.run(&hot);
    assert_eq!(said.code, Some(1), "{}", said.err);
    assert!(said.out.contains("  FAILED  no_tile_above_limit: "));
    let summary = place.summary("runs/tiny-seed1");
    let invariants = summary["invariants"].as_array().expect("a list");
    let failed = invariants
        .iter()
        .find(|i| i["name"] == "no_tile_above_limit");
    let violation = &failed.expect("it is looked at")["first_violation"];
    assert_eq!(violation["bound"], 370.0);
    assert!(violation["found"].as_f64().expect("kelvin") >= 370.0);
    assert!(violation["seconds"].as_f64().expect("a time") > 0.0);
    assert!(violation["subject"].as_str().expect("a tile").len() > 4);
    let history = history(&place.path().join("runs/tiny-seed1"));
    assert!(count(&history, "decisions WHERE action = 'darken'") > 0);
}

#[test]
fn what_is_wrong_with_a_universe_is_said_with_line_field_found_and_expected() {
    let edit = |from: &str, to: &str| {
        assert!(TINY.contains(from), "{from}");
        TINY.replace(from, to)
    };
    for (text, says) in [
        (
            edit("throttle = \"360 K\"", "throtle = \"360 K\""),
            &[
                "tiny.toml:16: shell.0.throtle: unknown key; did you mean `throttle`?",
                "16 | throtle = \"360 K\"",
            ][..],
        ),
        (
            edit("limit = \"370 K\"", "limit = \"370 W\""),
            &[
                "tiny.toml:15: shell.0.limit: found \"370 W\", expected a temperature",
                "15 | limit = \"370 W\"",
            ],
        ),
        (
            edit("limit = \"370 K\"", "limit = 370"),
            &["tiny.toml:15: shell.0.limit: found 370, expected a temperature"],
        ),
        (
            edit("limit = \"370 K\"", "limit = \"-5 K\""),
            &["tiny.toml:15: shell.0.limit: found \"-5 K\", expected"],
        ),
        (
            edit("tiles_per_cell = 25", "tiles_per_cell = 3"),
            &["tiny.toml:10: holons.tiles_per_cell: found 3, expected a whole number from 9"],
        ),
        (
            edit("tiles_per_cell = 25", "tiles_per_cell = 26"),
            &[
                "tiny.toml:10: holons.tiles_per_cell: found 26, but",
                "no lattice",
            ],
        ),
        (
            edit("heat_capacity = \"1 kJ/K\"", "heat_capacity = \"0 J/K\""),
            &["tiny.toml:19: shell.0.heat_capacity: found \"0 J/K\", expected"],
        ),
        (
            edit("at = \"20 s\"", "at = \"2 min\""),
            &["tiny.toml:41: fault.0.at: found \"2 min\", expected a time from 0 ns to"],
        ),
        (
            edit("utilisation = \"60 %\"", "utilisation = nan"),
            &["tiny.toml:34: work.0.utilisation: found"],
        ),
        (
            edit("end = \"60 s\"\n", ""),
            &["tiny.toml", "time.end: missing, expected a time"],
        ),
        (
            edit("kind = \"shells\"", "kind = \"shelves\""),
            &[
                "tiny.toml:3: kind: found \"shelves\", expected",
                "\"shells\"",
            ],
        ),
        // Cut off in the middle of a line, as by a full disk.
        (
            TINY[..TINY.find("370 K").expect("a limit") + 2].to_owned(),
            &["tiny.toml:15: ", "15 | limit = \"37"],
        ),
        // Cut off between two lines: still TOML.
        (
            TINY[..TINY.find("[[shell]]").expect("a shell")].to_owned(),
            &["tiny.toml: shell: missing"],
        ),
        (String::new(), &["tiny.toml: name: missing"]),
    ] {
        let place = Place::new();
        place.write("tiny.toml", &text);
        let said = place.run(&[]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""), "{says:?}");
        for part in says {
            assert!(said.err.contains(part), "{part:?} is not in\n{}", said.err);
        }
        assert!(said.err.ends_with(", nothing was run\n"), "{}", said.err);
        assert_eq!(place.left(), [""; 0], "{says:?}");
    }
}

#[test]
fn a_wrong_request_is_exit_code_2_and_leaves_nothing() {
    for (arguments, says) in [
        (
            &["--set", "thermos.gian=1/h"][..],
            "--set thermos.gian=1/h: unknown key; did you mean `thermos.gain`?",
        ),
        (
            &["--set", "shell.4.limit=350K"],
            "--set shell.4.limit=350K: leads nowhere: `shell` has one entry, shell.0",
        ),
        (
            &["--set", "time.end=10K"],
            "--set time.end=10K: found \"10K\", expected a time",
        ),
        (&["--threads", "0"], "1..=1024"),
        (&["--seed=-1"], "--seed"),
        (
            &["--out", "tiny.toml"],
            "tiny.toml already exists and was left as it is",
        ),
        (&["--out", "tiny.toml/run"], "tiny.toml"),
    ] {
        let place = Place::new();
        let said = place.run(arguments);
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(2), ""),
            "{arguments:?}"
        );
        assert!(said.err.contains(says), "{arguments:?}: {}", said.err);
        assert_eq!(place.left(), [""; 0], "{arguments:?}");
    }
    let place = Place::new();
    let said = place.cosmos(&["twin", "run", "none.toml"]);
    assert_eq!(said.code, Some(2));
    assert_eq!(said.err, "error: there is no file none.toml\n");
    assert_eq!(place.left(), [""; 0]);
}

#[test]
fn a_run_is_never_written_over_another() {
    let place = Place::new();
    for run in ["tiny-seed1", "tiny-seed1-2", "tiny-seed1-3"] {
        let said = place.run(&["--quiet"]);
        assert_eq!(said.code, Some(0));
        let report = format!("report: runs/{run}/report.html\n");
        assert!(said.out.ends_with(&report), "{}", said.out);
    }
    let hash = |run| place.summary(run)["history_hash"].clone();
    assert_eq!(hash("runs/tiny-seed1"), hash("runs/tiny-seed1-3"));

    assert_eq!(place.run(&["--out", "mine"]).code, Some(0));
    let before = fs::read(place.path().join("mine/summary.json")).expect("a summary");
    let again = place.run(&["--out", "mine"]);
    assert_eq!(again.code, Some(2));
    assert_eq!(
        again.err,
        "error: mine already exists and was left as it is; choose another name\n"
    );
    let after = fs::read(place.path().join("mine/summary.json")).expect("a summary");
    assert_eq!(before, after);
    assert_eq!(place.left(), ["mine", "runs"]);
}

//= requirements U3
#[test]
fn the_command_in_a_summary_repeats_the_run() {
    let place = Place::new();
    let settings = ["--set", "time.end=30s", "--set", "work.0.kind=cold"];
    let said = place.run(&[&settings[..], &["--seed", "7", "--threads", "1"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    let first = place.summary("runs/tiny-seed7");
    assert_eq!(first["simulated_seconds"], 30.0);
    assert_eq!(
        first["overrides"],
        serde_json::json!(["time.end=30s", "work.0.kind=cold"])
    );
    let command = first["command"].as_str().expect("a command");
    let bin = Path::new(COSMOS).parent().expect("a folder");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut shell = place.command("sh", &["-c", command]);
    assert_eq!(said_by(shell.env("PATH", path)), Some(0), "{command}");
    let again = place.summary("runs/tiny-seed7-2");
    assert_eq!(first["history_hash"], again["history_hash"]);
    assert_eq!(first["command"], again["command"]);
    place.run(&["--seed", "8", "--set", "time.end=30s"]);
    let other = place.summary("runs/tiny-seed8");
    assert_ne!(first["history_hash"], other["history_hash"]);
}

fn said_by(command: &mut Command) -> Option<i32> {
    said(command).code
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_a_run_in_order_and_keeps_what_there_is() {
    let place = Place::new();
    let long = ["twin", "run", "tiny.toml", "--set", "time.end=3000d"];
    let mut command = place.command(COSMOS, &long);
    let mut child = (command.stdout(Stdio::piped()).stderr(Stdio::piped()))
        .spawn()
        .expect("the command starts");
    // Its hidden folder appears after it began to listen for Ctrl-C.
    let begun = || {
        let runs = place.path().join("runs");
        runs.is_dir() && !names(&runs).is_empty()
    };
    wait_until("the run began", begun);
    pause(200);
    let interrupt = place.command("kill", &["-INT", &child.id().to_string()]);
    assert_eq!(said_by(&mut { interrupt }), Some(0));
    let ended = || child.try_wait().expect("a child").is_some();
    wait_until("the run stopped", ended);
    let output = child.wait_with_output().expect("it ended");
    assert_eq!(output.status.code(), Some(130));
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(out.contains("stopped before its end"), "{out}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("stopping"));

    assert_eq!(names(&place.path().join("runs")), ["tiny-seed1"]);
    let run = place.path().join("runs/tiny-seed1");
    let summary = place.summary("runs/tiny-seed1");
    assert_eq!(summary["complete"], false);
    let simulated = summary["simulated_seconds"].as_f64().expect("a time");
    assert!(simulated > 0.0 && simulated < 3000.0 * 86_400.0);
    let history = history(&run);
    assert_eq!(count(&history, "runs WHERE complete = 0"), 1);
    assert!(count(&history, "samples") > 0 && count(&history, "decisions") > 0);
    let whole = history.query_row("PRAGMA integrity_check", [], |row| row.get::<_, String>(0));
    assert_eq!(whole.expect("a history"), "ok");
    let page = fs::read_to_string(run.join("report.html")).expect("a page");
    assert!(page.contains("</html>"));
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_ends_a_run_at_once_and_leaves_nothing() {
    let place = Place::new();
    // Looked at once a month, so that the first finds nobody listening for long.
    let deaf = ["--set", "time.sample=30d", "--set", "time.end=3000d"];
    let mut command = place.command(COSMOS, &[&["twin", "run", "tiny.toml"], &deaf[..]].concat());
    let mut child = (command.stdout(Stdio::piped()).stderr(Stdio::piped()))
        .spawn()
        .expect("the command starts");
    let runs = place.path().join("runs");
    let begun = || runs.is_dir() && names(&runs).iter().any(|name| name.starts_with('.'));
    wait_until("the run began", begun);
    pause(200);
    let ended = || {
        let mut interrupt = place.command("kill", &["-INT", &child.id().to_string()]);
        assert_eq!(said_by(&mut interrupt), Some(0));
        pause(200);
        child.try_wait().expect("a child").is_some()
    };
    wait_until("the run stopped", ended);
    let output = child.wait_with_output().expect("it ended");
    assert_eq!(output.status.code(), Some(130));
    assert!(output.stdout.is_empty(), "it was not to end in order");
    assert_eq!(place.left(), [""; 0]);
}

#[expect(
    clippy::disallowed_methods,
    reason = "another process is waited for, which has no deadline()"
)]
fn pause(milliseconds: u64) {
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
}

/// A file that may not grow, as under a quota, in the middle of a run.
#[cfg(unix)]
#[test]
fn a_file_that_cannot_grow_is_named_and_the_run_leaves_nothing() {
    let place = Place::new();
    // 64 blocks of 512 bytes: less than the history. Without the trap the system
    // would kill the process instead of refusing the write.
    let limited = "trap '' XFSZ; ulimit -f 64; exec \"$0\" twin run tiny.toml --quiet";
    let said = said(&mut place.command("sh", &["-c", limited, COSMOS]));
    assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
    assert!(said.err.contains("history.db: "), "{}", said.err);
    assert_eq!(place.left(), [""; 0]);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_the_run_leaves_nothing() {
    let place = Place::new();
    fs::create_dir(place.path().join("full")).expect("a folder");
    // In a mount namespace of its own, so that it goes when the command ends.
    let script = "mount -t tmpfs -o size=48k tmpfs full || exit 77
        \"$0\" twin run tiny.toml --quiet --out full/run; code=$?
        echo \"left: $(ls -A full)\"; exit $code";
    let in_namespace = ["--user", "--map-root-user", "--mount", "sh", "-c"];
    let arguments = [&in_namespace[..], &[script, COSMOS]].concat();
    let started = place.command("unshare", &arguments).output();
    let Ok(output) = started else {
        return println!("skipped: no unshare here");
    };
    let err = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(77) || err.contains("unshare") {
        return println!("skipped: nothing can be mounted here: {err}");
    }
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("full/.run."), "{err}");
    let cause = "history.db: database or disk is full";
    assert!(err.contains(cause), "{err}");
    assert!(!err.contains(&format!("{cause}: database")), "{err}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "left: \n");
}

//= requirements H4
#[test]
fn a_sweep_finds_both_edges_of_the_loop_where_theory_has_them() {
    let place = Place::new();
    let universes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes");
    let universe: PathBuf = universes.join("loop.toml");
    let said = place.cosmos(&[
        "twin",
        "sweep",
        &universe.display().to_string(),
        "--set",
        "thermos.gain=0.2/h..2.2/h:6",
        "--set",
        "heat.step=20s",
        "--set",
        "thermos.period=20s",
        "--json",
        "--quiet",
    ]);
    // Beyond the second edge the loop swings, which is what the sweep was to find.
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let sweep: Value = serde_json::from_str(&said.out).expect("JSON");
    let theory = [
        ("overshoot_begins", 1.0 / std::f64::consts::E),
        ("instability_begins", std::f64::consts::FRAC_PI_2),
    ];
    for (edge, theory) in theory {
        let found = sweep["boundaries"][edge].as_f64().expect("an edge");
        assert!(
            (found / theory - 1.0).abs() < 0.1,
            "{edge}: {found}, not {theory}"
        );
    }
    let points = sweep["points"].as_array().expect("points");
    assert!(points.len() > 6, "edges are refined");
    let values = points.iter().filter_map(|point| point["value"].as_f64());
    let values: Vec<_> = values.collect();
    assert!(values.is_sorted() && values[0] == 0.2 && values.last() == Some(&2.2));
    for point in points {
        let x = point["gain_times_delay"].as_f64().expect("a number");
        if x < 0.3 {
            assert_eq!(point["overshoot"], 0.0, "{point}");
        }
        assert_eq!(point["stable"], x < 1.571, "{point}");
        let broken = point["broken"].as_array().expect("a list");
        assert_eq!(point["held"], broken.is_empty());
        assert!(
            broken.is_empty() || (x > 0.368 && broken == &["loop_damped"]),
            "{point}"
        );
    }
    assert_eq!(
        names(&place.path().join("runs/loop-sweep-seed1")),
        ["report.html", "sweep.json"]
    );
}

#[test]
fn a_sweep_without_a_loop_says_so_and_fails_where_a_run_breaks_an_invariant() {
    let place = Place::new();
    let sweep = |key: &str, more: &[&str]| {
        let range = ["twin", "sweep", "tiny.toml", "--quiet", "--set", key];
        place.cosmos(&[&range[..], more].concat())
    };
    let fine = sweep("fault.0.share=0..0.1:2", &[]);
    assert_eq!((fine.code, fine.err.as_str()), (Some(0), ""));
    assert!(!fine.out.contains("NaN"), "{}", fine.out);
    assert!(
        fine.out
            .contains("no loop between shells had anything to do")
    );
    let json = sweep("fault.0.share=0..0.1:2", &["--json"]);
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert!(json["points"][0]["gain_times_delay"].is_null(), "{json}");
    assert!(json["points"][0]["stable"].is_null(), "{json}");

    let hasty = ["--set", "bounds.detection_p99=1s"];
    let broken = sweep("fault.0.share=0.1..0.2:2", &hasty);
    assert_eq!((broken.code, broken.err.as_str()), (Some(1), ""));
    assert!(broken.out.contains("detection"), "{}", broken.out);
}

#[test]
fn a_sweep_with_one_wrong_value_runs_none_of_them() {
    let place = Place::new();
    for (setting, says) in [
        ("thermos.gian=1/h..2/h:3", "did you mean `thermos.gain`?"),
        // The second of three values is beyond the range.
        ("work.0.utilisation=300%..900%:3", "found \"600 %\""),
    ] {
        let said = place.cosmos(&["twin", "sweep", "tiny.toml", "--set", setting]);
        assert_eq!((said.code, said.out.as_str()), (Some(2), ""));
        assert!(said.err.contains(says), "{}", said.err);
        assert_eq!(place.left(), [""; 0]);
    }
}

#[test]
fn the_universes_of_the_repository_are_built_in() {
    let place = Place::new();
    let said = place.cosmos(&["universes"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    for name in ["cell", "loop", "matroska", "openb", "swarm"] {
        let line = said.out.lines().find(|line| line.starts_with(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not in\n{}", said.out));
        assert!(line.ends_with('.') && line.len() > 40, "{line}");
    }
    assert_eq!(place.left(), [""; 0]);
    let said = place.cosmos(&[
        "twin",
        "run",
        "cell",
        "--set",
        "time.end=100s",
        "--set",
        "time.end=0s",
    ]);
    assert_eq!(said.code, Some(2));
    let says = "--set time.end=0s: found \"0s\", expected a time from 1 s";
    assert!(said.err.contains(says), "{}", said.err);
}

/// Sixteen GPUs in two nodes.
const HALL: &str = r#"name = "hall"
intent = "Two nodes replay what they are given."
kind = "site"

[time]
end = "1 h"

[nodes.n]
count = 2
gpus = 8
model = "H100"
cpus = 128
memory = "1 TiB"

[cooling]
loops = 1
capacity = "150 %"
"#;

/// Columns of a log that a replay of what ran as it did must keep: user, group, executable, queue,
/// partition, processors and run time, all of them and not the jobs' names for order only.
fn kept(log: &str) -> Vec<Vec<f64>> {
    let lines = log.lines().filter(|line| !line.starts_with(';'));
    let job = |line: &str| {
        let fields: Vec<f64> = (line.split(' ').map(|n| n.parse().expect("a number"))).collect();
        assert_eq!(fields.len(), 18);
        [11, 12, 13, 14, 15, 7, 3]
            .map(|i| fields[i].round())
            .to_vec()
    };
    lines.map(job).collect()
}

//= requirements W3
#[test]
fn a_log_comes_back_from_a_replay_as_it_went_in_and_what_did_not_run_is_said() {
    let place = Place::new();
    place.write("hall.toml", HALL);
    let lines = [
        "1 0 -1 600 16 -1 -1 16 900 -1 1 12 7 3 2 1 -1 -1",
        "2 60 -1 60 8 -1 -1 8 90 -1 1 13 9 -1 2 1 -1 -1",
        // Still runs at the end, so that the next still waits.
        "3 1200 -1 7200 16 -1 -1 16 9000 -1 1 12 7 3 2 1 -1 -1",
        "4 1300 -1 60 8 -1 -1 8 90 -1 1 14 9 -1 2 1 -1 -1",
        // Comes too late, and never ran.
        "5 4000 -1 60 8 -1 -1 8 90 -1 1 14 9 -1 2 1 -1 -1",
        "6 10 -1 -1 -1 -1 -1 8 90 -1 5 14 9 -1 2 1 -1 -1",
    ];
    place.write("night.swf", &lines.join("\n"));
    let replay = |log: &str| place.cosmos(&["twin", "replay", "hall.toml", "--jobs", log, "-q"]);
    let done = replay("night.swf");
    for says in [
        "3 jobs placed, 0 refused",
        "; 1 still wait at the end, with them p95 is at least 2",
        "  left out  1 jobs of the lists never ran",
        "  left out  1 jobs of the lists come after the end of the run (time.end)",
        "  tenant  group 9       2 jobs, 1 wait at the end",
    ] {
        assert!(done.out.contains(says), "{says} is not in {}", done.out);
    }
    let summary = place.summary("runs/hall-seed1");
    assert_eq!(at(&summary, "site.waiting"), 1);
    let waited = at(&summary, "site.waiting_at_least_seconds.max")
        .as_f64()
        .expect("a time");
    assert!((2_250.0..2_350.0).contains(&waited), "{waited}");
    assert_eq!(at(&summary, "replay.after_end"), 1);

    let log = fs::read_to_string(place.path().join("runs/hall-seed1/jobs.swf")).expect("a log");
    for line in ["; MaxProcs: 16", "; MaxNodes: 2", "; MaxJobs: 4"] {
        assert!(log.lines().any(|l| l == line), "{line} is not in {log}");
    }
    let expected = [
        [12.0, 7.0, 3.0, 2.0, 1.0, 16.0, 600.0],
        [13.0, 9.0, -1.0, 2.0, 1.0, 8.0, 60.0],
        // How long they run nobody knows at the end.
        [12.0, 7.0, 3.0, 2.0, 1.0, 16.0, -1.0],
        [14.0, 9.0, -1.0, 2.0, 1.0, 8.0, -1.0],
    ];
    assert_eq!(kept(&log), expected);
    let status = log.lines().filter(|line| !line.starts_with(';'));
    let status: Vec<_> = status.map(|line| line.split(' ').nth(10)).collect();
    assert_eq!(status, [Some("1"), Some("1"), Some("-1"), Some("-1")]);

    let again = replay("runs/hall-seed1/jobs.swf");
    assert_eq!(again.code, Some(0), "{}", again.err);
    let log = fs::read_to_string(place.path().join("runs/hall-seed1-2/jobs.swf")).expect("a log");
    assert_eq!(kept(&log), expected[..2]);
}

/// When the job of this number in a log first started, if it did.
fn started(history: &Connection, tenant: &str, name: &str) -> Option<f64> {
    let query = "SELECT start FROM jobs WHERE tenant = ? AND name = ?";
    let found = history.query_row(query, [tenant, name], |row| row.get(0));
    found.expect("such a job")
}

//= requirements S3
#[test]
fn what_is_guaranteed_is_lent_and_taken_back() {
    let place = Place::new();
    place.write(
        "hall.toml",
        &format!("{HALL}\n[tenant.\"group 7\"]\ngpus = 8\n"),
    );
    // Somebody has everything for longer than the run, when the owner of a half comes.
    place.write(
        "x.swf",
        "1 0 -1 7200 8 -1 -1 8 9000 -1 1 1 1 -1 1 -1 -1 -1\n\
         2 0 -1 7200 8 -1 -1 8 9000 -1 1 1 1 -1 1 -1 -1 -1\n\
         3 600 -1 60 8 -1 -1 8 90 -1 1 1 7 -1 1 -1 -1 -1\n",
    );
    let replay = |more: &[&str]| {
        let files = ["twin", "replay", "hall.toml", "--jobs", "x.swf", "-q"];
        let done = place.cosmos(&[&files[..], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.err);
    };
    replay(&["--out", "owner"]);
    replay(&["--out", "guest", "--set", "tenant.\"group 7\".gpus=0"]);
    let owner = started(&history(&place.path().join("owner")), "group 7", "3");
    assert!(owner.is_some_and(|at| at < 700.0), "{owner:?}");
    assert_eq!(at(&place.summary("owner"), "replay.preempted"), 1);
    let guest = started(&history(&place.path().join("guest")), "group 7", "3");
    assert_eq!(guest, None, "without the guarantee it waits for its turn");
}

//= requirements S3
#[test]
fn work_with_a_priority_goes_before_work_without() {
    let place = Place::new();
    let lists =
        "\n[work.low]\npath = \"low.swf\"\n[work.high]\npath = \"high.swf\"\npriority = 5\n";
    place.write("hall.toml", &format!("{HALL}{lists}"));
    // Two that take everything, one after the other, and one that comes last.
    place.write(
        "low.swf",
        "1 0 -1 600 16 -1 -1 16 900 -1 1 1 1 -1 0 -1 -1 -1\n\
         2 10 -1 600 16 -1 -1 16 900 -1 1 1 1 -1 0 -1 -1 -1\n",
    );
    place.write(
        "high.swf",
        "1 20 -1 600 16 -1 -1 16 900 -1 1 1 2 -1 0 -1 -1 -1\n",
    );
    let order = |out: &str, more: &[&str]| {
        let asked = [
            "twin",
            "run",
            "hall.toml",
            "--trace",
            ".",
            "-q",
            "--out",
            out,
        ];
        let done = place.cosmos(&[&asked[..], more].concat());
        assert_eq!(done.code, Some(0), "{}", done.err);
        let history = history(&place.path().join(out));
        let of = |tenant, name| started(&history, tenant, name).expect("it started");
        (of("group 1", "2"), of("group 2", "1"))
    };
    let (second, last) = order("with", &[]);
    assert!(last < second, "{last} and {second}");
    let (second, last) = order("without", &["--set", "work.high.priority=0"]);
    assert!(second < last, "{second} and {last}");
}

#[test]
fn nobody_is_guaranteed_more_than_there_is() {
    let place = Place::new();
    place.write("hall.toml", &format!("{HALL}\n[tenant.x]\ngpus = 17\n"));
    let said = place.cosmos(&["twin", "run", "hall.toml"]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("hall.toml:20: tenant.x.gpus: "),
        "{}",
        said.err
    );
    assert!(
        said.err
            .contains("found 17, but the site has 16 GPUs, and can guarantee no more"),
        "{}",
        said.err
    );
    let all = ["--set", "tenant.x.gpus=16", "--quiet"];
    let said = place.cosmos(&[&["twin", "run", "hall.toml"], &all[..]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
}

//= requirements W3
#[test]
fn a_replay_takes_jobs_from_files_and_leaves_files_for_other_tools() {
    let place = Place::new();
    place.write("hall.toml", HALL);
    place.write(
        "night.swf",
        "; Version: 2.2\n1 0 -1 600 16 -1 -1 16 900 -1 1 1 7 -1 1 -1 -1 -1\n2 60 -1 60 8 -1 -1 8 90 -1 1 1 7 -1 1 -1 -1 -1\n",
    );
    place.write(
        "day.csv",
        "job_type,num_steps,arrival_s,gpus\nA3C,823,30,4\nA3C,1,1,99\n",
    );
    let replay = |more: &[&str]| {
        let files = ["--jobs", "night.swf", "--jobs", "day.csv"];
        place.cosmos(&[&["twin", "replay", "hall.toml"], &files[..], more].concat())
    };
    let done = replay(&["--quiet", "--decisions", "why.parquet"]);
    assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
    assert!(done.out.contains("tenant  group 7"), "{}", done.out);
    let run = place.path().join("runs/hall-seed1");
    assert_eq!(
        names(&run),
        [
            "history.db",
            "history.db.b3",
            "jobs.swf",
            "report.html",
            "summary.json"
        ]
    );
    let parquet = fs::read(place.path().join("why.parquet")).expect("decisions");
    assert!(parquet.starts_with(b"PAR1") && parquet.ends_with(b"PAR1"));
    let history = history(&run);
    assert_eq!(count(&history, "jobs WHERE outcome = 'finished'"), 3);
    // Ninety-nine GPUs there are not.
    assert_eq!(count(&history, "jobs WHERE outcome = 'refused'"), 1);
    let ran = fs::read_to_string(run.join("jobs.swf")).expect("a log");
    assert_eq!(ran.lines().filter(|line| !line.starts_with(';')).count(), 4);

    let again = replay(&["--quiet", "--decisions", "why.parquet"]);
    assert_eq!(again.code, Some(2));
    assert!(
        again.err.contains("why.parquet already exists"),
        "{}",
        again.err
    );
    place.write("night.swf", "1 0 -1 soon\n");
    let wrong = replay(&["--quiet"]);
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong
            .err
            .contains("night.swf:1: found 4 values; expected 18"),
        "{}",
        wrong.err
    );
    assert_eq!(names(&place.path().join("runs")), ["hall-seed1"]);
}
