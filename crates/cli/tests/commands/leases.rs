//! Programs that a fleet runs, as whoever runs it meets them: real nodes on loopback that die, are stopped in the middle of a word, drain and start
//! again, and programs that write down themselves when they were there.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::Value;

use crate::fleet::{Machine, all_hold};
use crate::lives::{ask, counter};
use crate::place::{Place, Said, has, wait_until, walled};
use crate::served::free_port;

/// Machines of one fleet in which all vote.
pub(crate) fn three(place: &Place) -> Vec<Machine<'_>> {
    let mut machines = vec![Machine::up(place, "ada", &[])];
    for name in ["ben", "cleo"] {
        machines.push(machines[0].joined(name));
    }
    all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    wait_until("all three vote", || voters(&machines[0]) == 3);
    machines
}

fn council(machine: &Machine<'_>) -> Value {
    let status: Value = serde_json::from_str(&machine.ok(&["status", "--json"])).expect("JSON");
    status["fleet"]["council"].clone()
}

fn voters(machine: &Machine<'_>) -> usize {
    council(machine)["voters"].as_array().map_or(0, Vec::len)
}

/// A program that notes every few hundredths of a second that it is there: who, and when by the clock of all processes here.
const MARKS: &str = "id=$(cat /proc/sys/kernel/random/uuid); while :; do read up rest < /proc/uptime; echo $id $up >> marks/marks; sleep 0.05; done";

/// Hands so many of it to the fleet.
fn run_marks(machine: &Machine<'_>, name: &str, replicas: &str, more: &[&str]) {
    fs::create_dir_all(machine.place.path("marks")).unwrap();
    let words = [
        "run",
        "-d",
        "--replicas",
        replicas,
        "--name",
        name,
        "--restart",
        "always",
        "--dir",
        "marks",
        "--data",
        machine.name,
    ];
    let words: Vec<_> = words
        .iter()
        .chain(more)
        .copied()
        .chain(["sh", "-c", MARKS])
        .collect();
    let Said { code, out, err } = machine.place.cosmos(&words, "");
    assert_eq!(
        (code, out, err.as_str()),
        (Some(0), format!("{name}\n"), "")
    );
}

/// The first and last time at which each instance of it noted that it was there.
fn marks(place: &Place) -> BTreeMap<String, (f64, f64)> {
    let text = fs::read_to_string(place.path("marks/marks")).unwrap_or_default();
    let mut marks = BTreeMap::new();
    // The last line may be half written.
    for line in text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
    {
        let (id, at) = line.trim().split_once(' ').expect("two words");
        let at: f64 = at.parse().expect("a time");
        let (_, last) = marks.entry(id.to_owned()).or_insert((at, at));
        *last = at;
    }
    marks
}

/// No two of these were there at a time.
#[track_caller]
fn assert_alone(marks: &BTreeMap<String, (f64, f64)>) {
    let mut spans: Vec<_> = marks.values().copied().collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    for pair in spans.windows(2) {
        assert!(
            pair[0].1 < pair[1].0,
            "one was there until {} and the next from {}",
            pair[0].1,
            pair[1].0
        );
    }
}

/// How each replica of a program is, by its number: state and machine.
pub(crate) fn replicas(machine: &Machine<'_>, name: &str) -> BTreeMap<u64, (String, String)> {
    let seen: Value =
        serde_json::from_str(&machine.ok(&["members", "--leases", "--json"])).expect("JSON");
    let programs = seen["affairs"]["programs"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let program = programs.into_iter().find(|program| program["name"] == name);
    let standing = program.and_then(|program| program["standing"].as_array().cloned());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let standing = standing.unwrap_or_default();
    let each = standing.iter().map(|one| {
        (
            one["replica"].as_u64().expect("a number"),
            (text(&one["state"]), text(&one["machine"])),
        )
    });
    each.collect()
}

pub(crate) fn running(machine: &Machine<'_>, name: &str) -> Vec<String> {
    let replicas = replicas(machine, name).into_values();
    let running = replicas.filter(|(state, _)| state == "running");
    running.map(|(_, machine)| machine).collect()
}

fn decisions(machine: &Machine<'_>) -> String {
    machine.ok(&["members", "--leases"])
}

/// Which of them has this name.
pub(crate) fn at(machines: &[Machine<'_>], name: &str) -> usize {
    machines
        .iter()
        .position(|machine| machine.name == name)
        .expect("it is one of them")
}

/// When something happened to a replica, by a machine's history of its leases, in nanoseconds since the host was started.
fn history(place: &Place, machine: &str, event: &str, replica: u64) -> Option<u64> {
    let text = fs::read_to_string(place.path(machine).join("leases.jsonl")).unwrap_or_default();
    let lines = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut found = lines.filter(|line| line["event"] == event && line["replica"] == replica);
    found.next_back()?["boottime_ns"].as_u64()
}

#[test]
fn what_ran_on_a_machine_that_was_killed_runs_elsewhere_and_never_twice() {
    let place = Place::new();
    let mut machines = three(&place);
    run_marks(&machines[1], "solo", "1", &[]);
    wait_until("it runs", || running(&machines[0], "solo").len() == 1);
    let holder = running(&machines[0], "solo").remove(0);
    let dead = machines.remove(at(&machines, &holder));
    drop(dead);
    wait_until("it runs elsewhere", || {
        marks(&place).len() == 2
            && running(&machines[0], "solo")
                .iter()
                .any(|machine| *machine != holder)
    });
    assert_alone(&marks(&place));
    let decided = decisions(&machines[1]);
    assert!(
        decided.contains(&format!("solo~0 was taken from {holder}")),
        "{decided}"
    );
    // What it says is where it is, and a fleet's program cannot be stopped in one place only.
    let now = running(&machines[0], "solo").remove(0);
    let now = &machines[at(&machines, &now)];
    assert!(now.ok(&["ps"]).contains("solo~0"));
    let said = place.cosmos(&["stop", "--data", now.name, "solo~0"], "");
    assert!(
        said.err.contains("`cosmos stop solo` ends all of it"),
        "{}",
        said.err
    );
    assert_eq!(machines[0].ok(&["stop", "solo"]), "solo\n");
    assert!(running(&machines[1], "solo").is_empty());
    assert_eq!(machines[1].ok(&["rm", "solo"]), "solo\n");
    assert!(replicas(&machines[0], "solo").is_empty());
}

//= requirements S2
#[test]
fn what_a_stopped_node_holds_ends_with_its_lease_before_another_begins() {
    let place = Place::new();
    let machines = three(&place);
    run_marks(&machines[0], "solo", "1", &[]);
    wait_until("it runs", || running(&machines[0], "solo").len() == 1);
    let holder = running(&machines[0], "solo").remove(0);
    let stopped = at(&machines, &holder);
    let asked = &machines[(stopped + 1) % 3];
    // The node and everything that decides in it; its wardens live.
    machines[stopped].node.signal("-STOP");
    wait_until("it runs elsewhere", || marks(&place).len() == 2);
    machines[stopped].node.signal("-CONT");
    wait_until("it is well there", || {
        let running = running(asked, "solo");
        running.len() == 1 && running[0] != holder
    });
    all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    let seen = marks(&place);
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_alone(&seen);
    let now = running(asked, "solo").remove(0);
    let (ended, begun) = (
        history(&place, &holder, "end", 0),
        history(&place, &now, "begin", 0),
    );
    assert!(
        ended.expect("it ended") < begun.expect("it began"),
        "{ended:?} {begun:?}"
    );
    let why = machines[stopped].ok(&["why", "solo~0"]);
    // Both stories, each under its heading: what is so now, and what happened here.
    let (so_now, here) = why
        .split_once(&format!("what happened here, on {holder}:\n"))
        .expect("both");
    assert!(so_now.starts_with("what is so now"), "{why}");
    assert!(
        so_now.contains("solo~0 runs") && so_now.contains(&format!("was given to {now}")),
        "{why}"
    );
    assert!(here.contains("its lease here has"), "{why}");
    assert!(!why.contains("it stays ended: somebody asked"), "{why}");
}

#[test]
fn a_drain_starts_each_replica_elsewhere_before_it_ends_it() {
    let place = Place::new();
    let machines = three(&place);
    run_marks(&machines[0], "web", "2", &[]);
    wait_until("both run", || running(&machines[0], "web").len() == 2);
    let before = replicas(&machines[0], "web");
    let leaver = before[&0].1.clone();
    assert_ne!(before[&0].1, before[&1].1, "each on a machine of its own");
    let told = machines[0].ok(&["drain", &leaver]);
    assert!(told.starts_with(&leaver), "{told}");
    wait_until("it is handed over", || {
        let after = replicas(&machines[1], "web");
        !after.contains_key(&0) && running(&machines[1], "web").len() == 2
    });
    let after = replicas(&machines[1], "web");
    assert_eq!(after[&1], before[&1], "the other stayed where it was");
    let instead = &after[&2].1;
    assert_ne!(*instead, leaver);
    let (begun, ended) = (
        history(&place, instead, "begin", 2),
        history(&place, &leaver, "end", 0),
    );
    assert!(
        begun.expect("it began") < ended.expect("it ended"),
        "{begun:?} {ended:?}"
    );
    // One more goes anywhere but there, until the drain is called off.
    run_marks(&machines[0], "more", "3", &[]);
    wait_until("all three run", || running(&machines[2], "more").len() == 3);
    assert!(!running(&machines[2], "more").contains(&leaver));
    machines[2].ok(&["drain", &leaver, "--undo"]);
    run_marks(&machines[0], "most", "3", &[]);
    wait_until("it has work again", || {
        running(&machines[2], "most").contains(&leaver)
    });
}

#[test]
fn a_fleet_without_its_leader_and_one_that_was_switched_off_go_on() {
    let place = Place::new();
    let mut machines = three(&place);
    run_marks(&machines[0], "web", "2", &[]);
    wait_until("both run", || running(&machines[0], "web").len() == 2);
    let leader = council(&machines[0])["leader"].as_u64().expect("one leads");
    let dead = machines.remove(usize::try_from(leader).unwrap());
    let name = dead.name;
    drop(dead);
    wait_until("both run without the leader", || {
        let running = running(&machines[1], "web");
        running.len() == 2 && running.iter().all(|machine| machine != name)
    });
    // All at once, and none of them gone for good.
    drop(machines);
    let lived = marks(&place).len();
    let machines: Vec<_> = ["ada", "ben", "cleo"]
        .map(|name| Machine::up(&place, name, &[]))
        .into();
    wait_until("both run again", || marks(&place).len() >= lived + 2);
    wait_until("and are said to", || {
        running(&machines[2], "web").len() == 2
    });
}

#[test]
fn a_minority_takes_no_new_work_and_says_why() {
    let place = Place::new();
    let mut machines = three(&place);
    run_marks(&machines[0], "web", "1", &[]);
    wait_until("it runs", || running(&machines[0], "web").len() == 1);
    machines.truncate(1);
    let alone = &machines[0];
    let said = place.cosmos(
        &["run", "-d", "--replicas", "1", "--data", alone.name, "true"],
        "",
    );
    assert_eq!(said.code, Some(2), "{}", said.out);
    assert!(
        said.err.contains("no majority of the machines that vote"),
        "{}",
        said.err
    );
    wait_until("what it held is over", || {
        !alone.ok(&["ps"]).contains("running")
    });
    // What is its own it still does.
    assert_eq!(
        place
            .cosmos(
                &["run", "-d", "--name", "own", "--data", alone.name, "true"],
                ""
            )
            .out,
        "own\n"
    );
    machines.push(Machine::up(&place, "ben", &[]));
    wait_until("two of three agree again", || {
        running(&machines[1], "web").len() == 1
    });
}

#[test]
fn what_cannot_be_run_says_so_and_rests() {
    let place = Place::new();
    let machines = three(&place);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("{}:80", port.local_addr().unwrap().port());
    let words = [
        "run",
        "-d",
        "--replicas",
        "1",
        "--name",
        "door",
        "--port",
        &taken,
        "--data",
        "ben",
        "sleep",
        "1000",
    ];
    assert_eq!(place.cosmos(&words, "").out, "door\n");
    wait_until("all three have tried", || {
        let decided = decisions(&machines[0]);
        ["ada", "ben", "cleo"]
            .iter()
            .all(|name| decided.contains(&format!("door~0 could not be run on {name}: ")))
    });
    let decided = decisions(&machines[0]);
    assert!(decided.contains("listening on 127.0.0.1"), "{decided}");
    drop(port);
    wait_until("it runs when it can", || {
        running(&machines[1], "door").len() == 1
    });
    // By itself and for good.
    let words = [
        "run",
        "-d",
        "--replicas",
        "2",
        "--name",
        "once",
        "--data",
        "cleo",
        "true",
    ];
    assert_eq!(place.cosmos(&words, "").out, "once\n");
    wait_until("both have ended", || {
        let ended = replicas(&machines[0], "once");
        ended.len() == 2 && ended.values().all(|(state, _)| state == "ended")
    });
}

#[test]
fn who_falls_is_said_to_be_started_again_and_is_well_afterwards() {
    let place = Place::new();
    let machines = three(&place);
    let fall =
        "while :; do if test -e marks/fall; then exit 7; fi; echo > marks/up; sleep 0.1; done";
    fs::create_dir_all(place.path("marks")).unwrap();
    let words = "run -d --replicas 1 --name web --restart always --dir marks --data ada sh -c";
    let words: Vec<_> = words.split(' ').chain([fall]).collect();
    assert_eq!(place.cosmos(&words, "").out, "web\n");
    let state = || replicas(&machines[1], "web")[&0].0.clone();
    wait_until("it is well", || state() == "running");
    fs::write(place.path("marks/fall"), "").unwrap();
    wait_until("it fell", || state() == "restarting");
    let told = machines[2].ok(&["ps", "--fleet"]);
    assert!(told.contains("fell with exit code 7"), "{told}");
    let decided = decisions(&machines[0]);
    assert!(
        decided.contains("with exit code 7, where it is started again"),
        "{decided}"
    );
    fs::remove_file(place.path("marks/fall")).unwrap();
    wait_until("it is well again", || state() == "running");
}

#[test]
fn of_what_fails_by_itself_why_says_so_and_offers_no_other_place() {
    let place = Place::new();
    let machines = three(&place);
    let port = free_port();
    let ports = format!("0.0.0.0:{port}:80");
    // Of four, one has no machine for its port; that is not what is wrong.
    for (name, replicas, restart, port) in [
        ("fails", "4", "always", true),
        ("ends", "1", "never", false),
    ] {
        let words = [
            "run",
            "-d",
            "--replicas",
            replicas,
            "--name",
            name,
            "--restart",
            restart,
        ];
        let ports = ["--port", &ports];
        let ports = if port { &ports[..] } else { &[] };
        let what = ["--data", "ada", "sh", "-c", "sleep 0.2; exit 7"];
        assert_eq!(
            place.ok(&[&words[..], ports, &what].concat()),
            format!("{name}\n")
        );
    }
    let why = |name: &str| machines[1].ok(&["why", name]);
    wait_until("it has failed again and again", || {
        why("fails").contains(" times in the last ")
    });
    let said = why("fails");
    for part in [
        "its program itself fails: fails~",
        "ended with exit code 7 on ",
        "is started again there",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("sooner"), "{said}");
    wait_until("it has ended", || {
        why("ends").contains("its program itself fails: ends~0")
    });
    assert!(
        why("ends").contains("is not started again"),
        "{}",
        why("ends")
    );
}

/// Each answer takes two seconds, and who is told to end ends at once.
const SLOW: &str = "import http.server, time
class Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(2)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'whole')
http.server.HTTPServer(('127.0.0.1', 80), Slow).serve_forever()";

#[test]
fn whoever_is_being_answered_is_answered_before_a_server_ends() {
    const PYTHON: &str = "/usr/bin/python3";
    if !walled() || !has("python3", std::path::Path::new(PYTHON).exists()) {
        return;
    }
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = free.local_addr().unwrap();
    drop(free);
    let port = format!("{}:80", at.port());
    let words = [
        "run",
        "-d",
        "--replicas",
        "1",
        "--name",
        "slow",
        "--port",
        &port,
    ];
    let words = [&words[..], &["--data", "ada", PYTHON, "-c", SLOW]].concat();
    assert_eq!(place.cosmos(&words, "").out, "slow\n");
    let ask = || {
        let mut asked = TcpStream::connect(at).ok()?;
        asked.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
        Some(asked)
    };
    let answer = |asked: Option<TcpStream>| {
        let mut answer = String::new();
        let _ = asked.map(|mut asked| asked.read_to_string(&mut answer));
        answer
    };
    wait_until("it answers", || answer(ask()).ends_with("whole"));
    wait_until("it is well", || running(&ada, "slow").len() == 1);
    let asked = ask();
    assert_eq!(ada.ok(&["stop", "slow"]), "slow\n");
    assert!(answer(asked).ends_with("whole"));
    assert!(ask().is_none(), "nobody is let in any more");
}

#[test]
fn the_fleets_program_and_its_namesake_here_are_two() {
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    for more in [&["--replicas", "1"][..], &[]] {
        let words = [
            &["run", "-d", "--name", "web"],
            more,
            &["--data", "ada", "sleep", "1000"],
        ]
        .concat();
        assert_eq!(place.cosmos(&words, "").out, "web\n");
    }
    wait_until("both run", || {
        running(&ada, "web").len() == 1 && ada.ok(&["ps"]).contains("web~0")
    });
    let listed = ada.ok(&["ps"]);
    let of = |name: &str| {
        let mut lines = listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines
            .find(|words| words.first() == Some(&name))
            .map(|words| words[1])
    };
    assert_eq!(
        (of("web"), of("web~0")),
        (Some("here"), Some("fleet")),
        "{listed}"
    );
    assert!(
        listed.contains("`cosmos stop web` ends the one here"),
        "{listed}"
    );
    assert_eq!(ada.ok(&["stop", "web"]), "web\n");
    assert_eq!(running(&ada, "web").len(), 1, "what is the fleet's runs on");
    assert_eq!(ada.ok(&["stop", "--fleet", "web"]), "web\n");
    assert!(running(&ada, "web").is_empty());
    // A replica that is over is listed by the fleet, if at all.
    assert!(!ada.ok(&["ps"]).contains("web~0"));
    assert_eq!(ada.ok(&["rm", "--fleet", "web"]), "web\n");
    assert!(
        ada.ok(&["ps"]).contains("web"),
        "what is this machine's is still known"
    );
    let none = place.cosmos(&["stop", "--fleet", "web", "--data", "ada"], "");
    assert!(none.err.contains("no program of that name"), "{}", none.err);
}

#[test]
fn who_leaves_hands_over_first_and_serves_again_when_it_is_back() {
    let place = Place::new();
    let mut machines = three(&place);
    run_marks(&machines[0], "web", "2", &[]);
    wait_until("both run", || running(&machines[0], "web").len() == 2);
    let leaver = running(&machines[0], "web").remove(0);
    let gone = machines.remove(at(&machines, &leaver));
    gone.ok(&["leave"]);
    let left = running(&machines[0], "web");
    assert!(left.len() == 2 && !left.contains(&leaver), "{left:?}");
    let decided = decisions(&machines[0]);
    assert!(
        !decided.contains(&format!("was taken from {leaver}")),
        "{decided}"
    );
    let name = gone.name;
    drop(gone);
    let back = Machine::up(&place, name, &[]);
    wait_until("it serves", || {
        decisions(&machines[0]).contains(&format!("{name} is serving\n"))
    });
    drop(back);
}

fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").expect("a clock");
    let first = text.split_whitespace().next().expect("a time");
    first.parse().expect("a number")
}

/// What `docs/bench/fleet.md` says of failovers:
/// `cargo nextest run -p daemon -p cli --run-ignored only --no-capture -E 'test(how_long_a_failover_takes)'`.
#[test]
#[ignore = "it measures, for minutes"]
fn how_long_a_failover_takes() {
    let place = Place::new();
    let mut machines = vec![Machine::up(&place, "ada", &[])];
    for name in ["ben", "cleo", "dan", "eve"] {
        machines.push(machines[0].joined(name));
    }
    wait_until("all five vote", || voters(&machines[0]) == 5);
    run_marks(&machines[0], "solo", "1", &[]);
    let (mut taken, mut with_leader) = (Vec::new(), Vec::new());
    for turn in 0_usize..40 {
        wait_until("it runs", || {
            running(&machines[turn % 5], "solo").len() == 1
        });
        let holder = running(&machines[0], "solo").remove(0);
        let leader = council(&machines[0])["leader"].as_u64().expect("one leads");
        let leader = ["ada", "ben", "cleo", "dan", "eve"][usize::try_from(leader).unwrap()];
        // At any moment between two renewals.
        let _passed = Command::new("sleep")
            .arg(format!("0.{:02}", turn * 37 % 75))
            .status();
        let before = marks(&place).len();
        let killed = uptime();
        let mut names = vec![holder.as_str()];
        if turn % 2 == 1 && leader != holder {
            names.push(leader);
        }
        let led = names.contains(&leader);
        machines.retain(|machine| !names.contains(&machine.name));
        wait_until("it runs elsewhere", || marks(&place).len() > before);
        let marks_now = marks(&place);
        let begun = marks_now.values().map(|(first, _)| *first);
        let took = begun.fold(0.0, f64::max) - killed;
        println!(
            "{names:?}, {}: {took:.2} s",
            if led {
                "one of which led"
            } else {
                "none of which led"
            }
        );
        if led { &mut with_leader } else { &mut taken }.push(took);
        for name in ["ada", "ben", "cleo", "dan", "eve"] {
            if names.contains(&name) {
                machines.push(Machine::up(&place, name, &[]));
            }
        }
        wait_until("all five are there", || {
            machines
                .iter()
                .all(|machine| council(machine)["leader"].is_u64())
        });
        assert_alone(&marks(&place));
    }
    for (what, mut taken) in [("another led", taken), ("a leader died", with_leader)] {
        taken.sort_by(f64::total_cmp);
        let (count, last) = (taken.len(), taken.last().expect("it happened"));
        println!(
            "{what}: {count} deaths, median {:.2} s, worst {last:.2} s",
            taken[count / 2]
        );
    }
}

/// Adds a number, and asks again by the same name until it is answered: the count, and whether it had been done before.
fn add(port: u16, number: u64) -> (u64, bool) {
    let mut heard = None;
    let (key, event) = (format!("event {number}"), number.to_string());
    wait_until(&format!("event {number} is answered"), || {
        heard = ask(port, "POST", &key, &event).filter(|heard| heard.status == 200);
        heard.is_some()
    });
    let heard = heard.expect("it was waited for");
    let count = heard.body.trim().parse().expect("a count");
    (count, heard.head.contains("idempotent-replayed: true"))
}

/// A capsule that counts and was given to the fleet, and how many numbers were added to it.
struct Count {
    port: u16,
    added: u64,
}

impl Count {
    fn given(place: &Place, counter: &str) -> Self {
        let port = free_port();
        let ports = format!("{port}:1");
        let words = "run -d --data ada --replicas 1 --name count --restart always --port";
        let words: Vec<_> = words.split(' ').chain([&*ports, counter]).collect();
        assert_eq!(place.ok(&words), "count\n");
        Self { port, added: 0 }
    }

    /// Adds so many more, 1, 2, 3, …, and each time all of them are there.
    fn next(&mut self, more: u64) {
        for _ in 0..more {
            self.added += 1;
            let number = self.added;
            let sum = number * (number + 1) / 2;
            assert_eq!(add(self.port, number).0, sum, "event {number}");
        }
    }
}

/// The one that is behind and the one that was emptied are a majority, and neither knows the last events.
#[test]
fn a_keeper_that_was_emptied_is_not_heard_as_one_that_never_kept_anything() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let mut machines = three(&place);
    let mut count = Count::given(&place, &counter);
    count.next(5);
    wait_until("it is well", || running(&machines[0], "count").len() == 1);
    let holder = running(&machines[0], "count").remove(0);
    let holder = machines.remove(at(&machines, &holder));
    let (behind, emptied) = (machines.remove(0), machines.remove(0));
    let (first, second, third) = (holder.name, behind.name, emptied.name);
    drop(behind);
    count.next(5);
    drop((holder, emptied));
    fs::remove_dir_all(place.path(third).join("kept")).unwrap();
    let back = [second, third].map(|name| Machine::up(&place, name, &[]));
    let status = || back[1].ok(&["status"]);
    wait_until("it misses what it kept", || {
        status().contains("what this machine kept of count is gone")
    });
    // It is tried, and nobody goes on with what only the other knows.
    wait_until("nobody can go on with it", || {
        decisions(&back[0]).contains("count~0 could not be run on ")
    });
    assert!(ask(count.port, "POST", "other", "0").is_none_or(|heard| heard.status != 200));
    // The third has it all, and with its next events whoever was emptied is a keeper again.
    let _first = Machine::up(&place, first, &[]);
    count.next(5);
    wait_until("it keeps it again", || {
        !status().contains("what this machine kept")
    });
}

#[test]
fn machines_that_leave_one_right_after_another_take_neither_votes_nor_states_along() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let mut machines = three(&place);
    for name in ["dan", "eve"] {
        machines.push(machines[0].joined(name));
    }
    wait_until("all five vote", || voters(&machines[4]) == 5);
    let mut count = Count::given(&place, &counter);
    count.next(5);
    // The founder first. Each is gone for good as soon as its word is back, whatever it had.
    while machines.len() > 1 {
        let gone = machines.remove(0);
        assert_eq!(
            gone.ok(&["leave"]),
            format!("{} has left the fleet\n", gone.name)
        );
        drop(gone);
        count.next(1);
    }
    let last = &machines[0];
    assert_eq!(voters(last), 1);
    run_marks(last, "more", "1", &[]);
    wait_until("it runs", || running(last, "more").len() == 1);
    count.next(1);
    // There is nobody to whom it could hand anything over, and it says so.
    let said = place.cosmos(&["leave", "--data", last.name], "");
    assert_eq!(said.code, Some(1), "{said:?}");
    for left in [
        "nobody has taken more~0 yet",
        "what count has become is kept here",
    ] {
        assert!(said.err.contains(left), "{said:?}");
    }
}

#[test]
fn a_capsule_goes_on_where_it_was_on_whatever_machine_runs_it() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let mut machines = three(&place);
    let (port, sum) = (free_port(), |number: u64| number * (number + 1) / 2);
    let ports = format!("{port}:1");
    let run = |machine: &str, replicas: &str, name: &str| {
        let asked = [
            "run",
            "-d",
            "--data",
            machine,
            "--replicas",
            replicas,
            "--name",
            name,
        ];
        let asked = [
            &asked[..],
            &["--restart", "always", "--port", &ports, &counter],
        ]
        .concat();
        place.cosmos(&asked, "")
    };
    let said = run("ada", "1", "count");
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
    let holder = |machines: &[Machine<'_>]| {
        wait_until("somebody runs it", || {
            running(&machines[0], "count").len() == 1
        });
        running(&machines[0], "count").remove(0)
    };
    let mut number = 0;
    let mut next = || {
        number += 1;
        let (count, _) = add(port, number);
        assert_eq!(count, sum(number), "event {number}");
    };
    for _ in 0..30 {
        next();
    }
    // Machines die, one after the other, each in the midst of events; what was answered is so, and what is asked again is done once.
    for _ in 0..2 {
        let from = holder(&machines);
        let at = at(&machines, &from);
        let killing = machines.remove(at);
        let name = killing.name;
        let asking = std::thread::scope(|scope| {
            let asking = scope.spawn(|| {
                for _ in 0..20 {
                    next();
                }
            });
            drop(killing);
            asking.join()
        });
        asking.expect("every event is answered");
        assert_ne!(holder(&machines), from);
        machines.push(Machine::up(&place, name, &[]));
        all_hold(&machines, &["ada", "ben", "cleo"], "alive");
        for _ in 0..10 {
            next();
        }
    }
    // While the others are dead, nothing is said that only one machine has: it dies with that.
    let from = holder(&machines);
    let at = at(&machines, &from);
    let killing = machines.remove(at);
    let name = killing.name;
    let others: Vec<_> = machines.iter().map(|other| other.name).collect();
    machines.clear();
    std::thread::scope(|scope| {
        let asking = scope.spawn(&mut next);
        let _passed = Command::new("sleep").arg("0.5").status();
        drop(killing);
        for name in others {
            machines.push(Machine::up(&place, name, &[]));
        }
        asking.join().expect("it is answered");
    });
    next();
    machines.push(Machine::up(&place, name, &[]));
    all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    // A drained one hands it over.
    let from = holder(&machines);
    machines[0].ok(&["drain", &from]);
    wait_until("it runs elsewhere", || {
        let elsewhere = running(&machines[0], "count");
        !elsewhere.is_empty() && elsewhere[0] != from
    });
    for _ in 0..10 {
        next();
    }
    let (last, again) = (number, add(port, number));
    assert_eq!(again, (sum(last), true), "asked again it is not done again");
    let said = run(machines[0].name, "2", "counts");
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err.contains("found 2 replicas, expected 1"),
        "{said:?}"
    );
}

/// What `docs/bench/fleet.md` says of capsules:
/// `cargo nextest run -p daemon -p cli --run-ignored only --no-capture -E 'test(how_long_a_capsule_is_missed)'`.
#[test]
#[ignore = "it measures, for minutes"]
fn how_long_a_capsule_is_missed() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let mut machines = three(&place);
    let port = free_port();
    let ports = format!("{port}:1");
    let run = [
        "run",
        "-d",
        "--data",
        "ada",
        "--replicas",
        "1",
        "--name",
        "count",
    ];
    let run = [
        &run[..],
        &["--restart", "always", "--port", &ports, &counter],
    ]
    .concat();
    assert_eq!(place.cosmos(&run, "").code, Some(0));
    let took = |times: &mut Vec<f64>, what: &str| {
        times.sort_by(f64::total_cmp);
        let (middle, last) = (times.len() / 2, times.len() - 1);
        println!(
            "{what}: {} times, median {:.4} s, worst {:.4} s",
            times.len(),
            times[middle],
            times[last]
        );
    };
    let mut number = 0;
    let mut timed = || {
        number += 1;
        let begun = boottime();
        add(port, number);
        boottime() - begun
    };
    timed();
    let mut one = (0..300).map(|_| timed()).collect();
    took(&mut one, "an event");
    let mut missed = Vec::new();
    for turn in 0..20 {
        wait_until("somebody runs it", || {
            running(&machines[0], "count").len() == 1
        });
        let holder = running(&machines[0], "count").remove(0);
        let killed = machines.remove(at(&machines, &holder));
        let _passed = Command::new("sleep")
            .arg(format!("0.{:02}", turn * 37 % 75))
            .status();
        let name = killed.name;
        drop(killed);
        missed.push(timed());
        machines.push(Machine::up(&place, name, &[]));
        all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    }
    took(&mut missed, "from a death to the next answer");
}

fn boottime() -> f64 {
    daemon::lease::boottime() as f64 / 1e9
}
