//! Several machines as one fleet, as whoever runs them meets it: five real nodes on loopback that join, die, pause, return,
//! leave, and turn away who is not expected.

use std::process::Command;

use crate::place::{Place, Said, Up, wait_until};
use serde_json::Value;

/// A node of its own in a folder that others are in as well.
pub(crate) struct Machine<'a> {
    pub(crate) place: &'a Place,
    pub(crate) name: &'static str,
    pub(crate) node: Up,
}

impl<'a> Machine<'a> {
    pub(crate) fn up(place: &'a Place, name: &'static str, more: &[&str]) -> Self {
        let words = ["up", "--data", name, "--name", name];
        let words: Vec<_> = words.iter().chain(more).copied().collect();
        let (node, lines) = Up::with_warnings(&mut place.command(&words));
        assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        Self { place, name, node }
    }

    pub(crate) fn joined(&self, name: &'static str) -> Self {
        let invitation = self.invite();
        Machine::up(
            self.place,
            name,
            &["--listen", "127.0.0.1:0", "--join", &invitation],
        )
    }

    fn invite(&self) -> String {
        let line = self.ok(&["invite"]);
        assert!(
            line.starts_with("cosmos1-") && line.lines().count() == 1,
            "{line}"
        );
        line.trim().to_owned()
    }

    pub(crate) fn ok(&self, words: &[&str]) -> String {
        let words: Vec<_> = words.iter().copied().chain(["--data", self.name]).collect();
        let Said { code, out, err } = self.place.cosmos(&words, "");
        assert_eq!((code, err.as_str()), (Some(0), ""), "{words:?}");
        out
    }

    fn member(&self, name: &str) -> Value {
        let members: Value = serde_json::from_str(&self.ok(&["members", "--json"])).expect("JSON");
        let members = members["members"].as_array().expect("a list").clone();
        let found = members.into_iter().find(|member| member["name"] == name);
        found.unwrap_or(Value::Null)
    }

    fn holds(&self, name: &str, state: &str) -> bool {
        self.member(name)["state"] == state
    }

    fn incarnation(&self, name: &str) -> u64 {
        self.member(name)["incarnation"].as_u64().expect("a number")
    }

    fn refused(&self, word: &str) -> u64 {
        let status: Value = serde_json::from_str(&self.ok(&["status", "--json"])).expect("JSON");
        status["fleet"]["refused"][word].as_u64().unwrap_or(0)
    }
}

#[track_caller]
pub(crate) fn all_hold(machines: &[Machine<'_>], names: &[&str], state: &str) {
    wait_until(&format!("{names:?} are {state} to all"), || {
        let hold = |machine: &Machine<'_>| names.iter().all(|name| machine.holds(name, state));
        machines.iter().all(hold)
    });
}

const NAMES: [&str; 5] = ["ada", "ben", "cleo", "dan", "eve"];

fn five(place: &Place) -> Vec<Machine<'_>> {
    let mut machines = vec![Machine::up(place, NAMES[0], &[])];
    for name in &NAMES[1..] {
        machines.push(machines[0].joined(name));
    }
    all_hold(&machines, &NAMES, "alive");
    machines
}

#[test]
fn five_machines_see_each_other_join_die_and_return() {
    let place = Place::new();
    let mut machines = five(&place);
    for machine in &machines {
        let tiles: Vec<_> = NAMES
            .iter()
            .map(|name| machine.member(name)["tile"].clone())
            .collect();
        assert_eq!(tiles, [0, 1, 2, 3, 4]);
        assert_eq!(machine.member(machine.name)["here"], true);
    }
    let table = machines[4].ok(&["members"]);
    assert!(
        table.starts_with("NAME") && table.lines().count() == 6,
        "{table}"
    );

    // Killed without a word: all others remove it, and nobody else.
    let dead = machines.remove(3);
    let before = machines[0].incarnation("dan");
    drop(dead);
    all_hold(&machines, &["dan"], "removed");
    all_hold(&machines, &["ada", "ben", "cleo", "eve"], "alive");

    // Back without an invitation, under a higher incarnation.
    machines.push(Machine::up(&place, "dan", &[]));
    all_hold(&machines, &NAMES, "alive");
    assert!(machines[0].incarnation("dan") > before);

    // By its own word.
    let mut leaver = machines.remove(1);
    leaver.node.signal("-INT");
    assert!(leaver.node.0.wait().unwrap().success());
    all_hold(&machines, &["ben"], "left");
    machines.push(Machine::up(&place, "ben", &[]));
    all_hold(&machines, &NAMES, "alive");
    assert_eq!(machines[2].ok(&["leave"]), "eve has left the fleet\n");
    assert!(machines[2].holds("eve", "left"));
    let eve = machines.remove(2);
    all_hold(&machines, &["eve"], "left");
    assert!(
        eve.ok(&["ps"]).starts_with("NAME"),
        "the node itself goes on"
    );
}

#[test]
fn a_machine_that_pauses_is_there_again_afterwards() {
    let place = Place::new();
    let machines = five(&place);
    machines[2].node.signal("-STOP");
    let _stopped = Command::new("sleep").arg("3").status();
    machines[2].node.signal("-CONT");
    // Whether it was suspected, or removed on a slow machine: it objects or rises.
    let before = machines[0].incarnation("cleo");
    all_hold(&machines, &NAMES, "alive");
    wait_until("all hold the same incarnation", || {
        let held: Vec<_> = machines
            .iter()
            .map(|machine| machine.incarnation("cleo"))
            .collect();
        held.iter()
            .all(|held| *held == held_by(&machines[2]) && *held >= before)
    });
}

fn held_by(machine: &Machine<'_>) -> u64 {
    machine.incarnation(machine.name)
}

#[test]
fn a_fleet_that_was_switched_off_finds_itself_again() {
    let place = Place::new();
    let machines = five(&place);
    let addresses: Vec<_> = NAMES
        .iter()
        .map(|name| machines[0].member(name)["address"].clone())
        .collect();
    drop(machines);
    let machines: Vec<_> = NAMES
        .iter()
        .map(|name| Machine::up(&place, name, &[]))
        .collect();
    all_hold(&machines, &NAMES, "alive");
    let again: Vec<_> = NAMES
        .iter()
        .map(|name| machines[4].member(name)["address"].clone())
        .collect();
    assert_eq!(again, addresses, "each where it was");
}

#[test]
fn who_is_not_expected_does_not_come_in_and_is_told_why() {
    let place = Place::new();
    let first = Machine::up(&place, "first", &[]);
    let other = Machine::up(&place, "other", &[]);
    // Who is let in by mistake would stay for ever.
    let refused = |name: &'static str, invitation: &str, because: &str| {
        let up = place.command(&["up", "--data", name, "--join", invitation]);
        let said = Command::new("timeout")
            .arg("60")
            .arg(up.get_program())
            .args(up.get_args())
            .current_dir(place.path(""))
            .output()
            .expect("timeout, of the host");
        let err = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2), "{err}");
        assert!(err.contains(because), "{because}: {err}");
    };
    let invitation = first.invite();
    let second = Machine::up(&place, "second", &["--join", &invitation]);
    refused("thief", &invitation, "refused: invitation-used");
    assert_eq!(first.refused("invitation-used"), 1);
    // Its own invitation, once more, is what a service's unit file would say.
    drop(second);
    let second = Machine::up(&place, "second", &["--join", &invitation]);

    let short = first.ok(&["invite", "--lasts", "1s"]);
    let _passed = Command::new("sleep").arg("2").status();
    refused("late", short.trim(), "invitation-expired");

    // Of another fleet, for a machine that is in one already.
    drop(second);
    refused("second", &other.invite(), "invitation-of-another-fleet");

    let mut damaged = first.invite();
    damaged.replace_range(20..21, if &damaged[20..21] == "A" { "B" } else { "A" });
    refused("typo", &damaged, "the line is damaged");
    refused(
        "typo",
        "hello",
        "expected the line that `cosmos invite` prints",
    );

    // A fleet of one gives itself up for a larger one.
    drop(other);
    let other = first.joined("other");
    wait_until("it was taken in", || {
        first.holds("other", "alive") && other.holds("first", "alive")
    });
    let said = place.cosmos(&["invite", "--data", "other"], "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("only first can invite"), "{}", said.err);
    let said = place.cosmos(&["up", "--data", "wide", "--listen", "0.0.0.0:0"], "");
    assert!(
        said.err
            .contains("expected the one at which others reach this machine"),
        "{}",
        said.err
    );
}

#[test]
fn what_a_fleet_of_one_was_given_to_run_is_not_lost_by_joining_another() {
    let place = Place::new();
    let first = Machine::up(&place, "first", &[]);
    let ada = Machine::up(&place, "ada", &[]);
    for (name, more) in [
        ("web", &["--replicas", "1"][..]),
        ("db", &["--replicas", "2"]),
        ("here", &[]),
    ] {
        let words = [
            &["run", "-d", "--data", "ada", "--name", name],
            more,
            &["sleep", "1000"],
        ];
        assert_eq!(place.ok(&words.concat()), format!("{name}\n"));
    }
    ada.ok(&["stop", "--fleet", "db"]);
    drop(ada);
    let invitation = first.invite();
    let said = place.cosmos(&["up", "--data", "ada", "--join", &invitation], "");
    assert_eq!(said.code, Some(2), "{}", said.err);
    for part in [
        "found web, db, expected none",
        "`cosmos rm --fleet NAME`",
        "the invitation was not shown",
    ] {
        assert!(said.err.contains(part), "{part}: {}", said.err);
    }
    // Nothing has changed, and whoever does as it was told comes in by the same invitation.
    let ada = Machine::up(&place, "ada", &[]);
    wait_until("it runs on", || ada.ok(&["ps"]).contains("web~0"));
    ada.ok(&["stop", "--fleet", "web"]);
    for name in ["web", "db"] {
        ada.ok(&["rm", "--fleet", name]);
    }
    drop(ada);
    // It does not guess what a damaged log says, also not the second time.
    let log = place.path("ada/council");
    let log = std::fs::read_dir(log).unwrap().next().unwrap().unwrap();
    let segments = || std::fs::read_dir(log.path()).unwrap().flatten();
    let segment = segments().find(|one| one.path().extension().is_some_and(|it| it == "segment"));
    let segment = segment.expect("it wrote something").path();
    let whole = std::fs::read(&segment).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 4;
    std::fs::write(&segment, flipped).unwrap();
    for _ in 0..2 {
        let said = place.cosmos(&["up", "--data", "ada", "--join", &invitation], "");
        assert!(
            said.err.contains("cannot be made out from "),
            "{}",
            said.err
        );
    }
    std::fs::write(&segment, whole).unwrap();
    let ada = Machine::up(&place, "ada", &["--join", &invitation]);
    wait_until("it was taken in", || first.holds("ada", "alive"));
    assert!(ada.ok(&["ps"]).contains("here"), "what is its own it keeps");
}

#[test]
fn a_program_is_sent_to_a_machine_by_its_name_and_seen_from_another() {
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    let (ben, cleo) = (ada.joined("ben"), ada.joined("cleo"));
    let machines = [ada, ben, cleo];
    all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    let [ada, ben, cleo] = &machines;
    // More than a frame carries, so that it travels in pieces.
    let long = "x".repeat(50_000);
    let script = format!("echo {}; exec sleep 1000", &long[..10]);
    let words = [
        "run",
        "-d",
        "--on",
        "ben",
        "--name",
        "far",
        "--env",
        &format!("LONG={long}"),
    ];
    let words: Vec<_> = words
        .into_iter()
        .chain(["--data", "ada", "sh", "-c", &script])
        .collect();
    let Said { code, out, err } = place.cosmos(&words, "");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(0), "far\n", ""));
    assert!(ben.ok(&["ps"]).contains("far   running"));
    assert!(!ada.ok(&["ps"]).contains("far"));
    wait_until("it has spoken there", || {
        ben.ok(&["logs", "far"]) == "xxxxxxxxxx\n"
    });
    let seen: Value = serde_json::from_str(&cleo.ok(&["ps", "--fleet", "--json"])).expect("JSON");
    let programs = seen["machines"].as_array().unwrap().iter().map(|machine| {
        (
            machine["machine"].as_str().unwrap(),
            machine["programs"].as_array().unwrap().len(),
        )
    });
    assert_eq!(
        programs.collect::<Vec<_>>(),
        [("ada", 0), ("ben", 1), ("cleo", 0)]
    );
    // A machine is asked by its own name as well, which takes no journey.
    let words = [
        "run", "-d", "--on", "ben", "--name", "near", "--data", "ben", "true",
    ];
    let said = place.cosmos(&words, "");
    assert_eq!(said.out, "near\n", "{}", said.err);
    let refused = |words: &[&str], because: &str| {
        let said = place.cosmos(words, "");
        assert_eq!(said.code, Some(2), "{}", said.err);
        assert!(said.err.contains(because), "{because}: {}", said.err);
    };
    refused(
        &[
            "run", "-d", "--on", "ben", "--name", "far", "--data", "ada", "true",
        ],
        "there is a program named \"far\" already",
    );
    refused(
        &["run", "-d", "--on", "eve", "--data", "ada", "true"],
        "no machine named \"eve\"",
    );
    // What it says there is read here, and by the page of any machine.
    let talks = "echo from afar; sleep 1000";
    let talker = ["run", "-d", "--on", "ben", "--name", "talker", "--data"];
    let given = [&talker[..], &["cleo", "sh", "-c", talks]].concat();
    assert_eq!(place.cosmos(&given, "").code, Some(0));
    wait_until("it has spoken", || {
        cleo.ok(&["logs", "--on", "ben", "talker"]) == "from afar\n"
    });
    assert_eq!(ben.ok(&["logs", "--on", "ben", "talker"]), "from afar\n");
    let follow = ["logs", "-f", "--on", "ben", "talker", "--data", "cleo"];
    let following = place.command(&follow).spawn().unwrap();
    cleo.ok(&["stop", "--on", "ben", "talker"]);
    let followed = Said::of(following.wait_with_output().unwrap());
    assert_eq!(
        (followed.code, followed.out.as_str()),
        (Some(0), "from afar\n")
    );
    cleo.ok(&["rm", "--on", "ben", "talker"]);
    refused(
        &["logs", "--on", "ben", "talker", "--data", "ada"],
        "no program named \"talker\" on this node",
    );
    assert_eq!(cleo.ok(&["stop", "--on", "ben", "far"]), "far\n");
    assert!(ben.ok(&["ps"]).contains("far   ended (143)"));
    assert_eq!(ada.ok(&["rm", "--on", "ben", "far"]), "far\n");
    assert!(!ben.ok(&["ps"]).contains("far"));
}

#[test]
fn a_word_to_another_machine_comes_back_idle_and_beside_bulk() {
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    let machines = [ada.joined("ben"), ada];
    all_hold(&machines, &["ada", "ben"], "alive");
    let ada = &machines[1];
    let ping = |more: &[&str]| -> Value {
        let words = [&["ping", "ben", "--lasts", "1s", "--json"], more].concat();
        serde_json::from_str(&ada.ok(&words)).expect("JSON")
    };
    let idle = ping(&[]);
    assert!(idle["asked"].as_u64() > Some(0), "{idle}");
    assert!(idle["p99_us"].as_u64() >= idle["p50_us"].as_u64(), "{idle}");
    assert_eq!(idle["bulk_bits_per_second"], Value::Null);
    // Two at once know their answers apart.
    let both = std::thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| ping(&[])));
        both.map(|one| one.join().unwrap())
    });
    for one in both {
        assert!(one["asked"].as_u64() > Some(10), "{one}");
        assert!(one["lost"].as_u64() < Some(10), "{one}");
    }
    let beside = ping(&["--beside-bulk"]);
    assert!(
        beside["asked"].as_u64() > beside["lost"].as_u64(),
        "{beside}"
    );
    assert!(
        beside["bulk_bits_per_second"].as_u64() > Some(0),
        "{beside}"
    );
    for (name, because) in [("eve", "no such machine"), ("ada", "that is this machine")] {
        let said = place.cosmos(&["ping", name, "--data", "ada"], "");
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(because), "{}", said.err);
    }
    assert!(
        ada.holds("ben", "alive"),
        "bulk costs nobody his membership"
    );
}

#[test]
fn a_damaged_record_of_the_fleet_is_named_with_what_follows_from_it() {
    let place = Place::new();
    drop(Machine::up(&place, "ada", &[]));
    let file = place.path("ada/fleet.redb");
    std::fs::write(&file, vec![7; 5000]).unwrap();
    let said = place.cosmos(&["up", "--data", "ada"], "");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains(&file.display().to_string()) && said.err.contains("needs an invitation"),
        "{}",
        said.err
    );
}

#[test]
fn a_machine_whose_fleet_is_forgotten_founds_no_other_in_silence() {
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    let fleet =
        serde_json::from_str::<Value>(&ada.ok(&["status", "--json"])).unwrap()["fleet"]["fleet"]
            .as_str()
            .unwrap()
            .to_owned();
    drop(ada);
    let file = place.path("ada/fleet.redb");
    for emptied in [false, true] {
        std::fs::remove_file(&file).unwrap();
        if emptied {
            std::fs::write(&file, "").unwrap();
        }
        let said = place.cosmos(&["up", "--data", "ada"], "");
        assert_eq!(said.code, Some(2), "{}", said.err);
        for part in [
            "knows of no fleet",
            &fleet,
            "--join",
            "to found a new fleet",
        ] {
            assert!(said.err.contains(part), "{part}: {}", said.err);
        }
    }
    // Whoever means it does as it was told.
    std::fs::remove_dir_all(place.path("ada/council").join(&fleet)).unwrap();
    drop(Machine::up(&place, "ada", &[]));
}

/// One of two removes the other by itself. Of more, each that does not answer makes a member doubt itself first.
#[test]
fn who_hears_nobody_says_so_of_all_others() {
    let place = Place::new();
    let names = ["ada", "ben", "cleo", "dora", "emil"];
    let ada = Machine::up(&place, "ada", &[]);
    let others: Vec<_> = names[1..].iter().map(|name| ada.joined(name)).collect();
    wait_until("all are there", || {
        names.iter().all(|name| ada.holds(name, "alive"))
    });
    drop((ada, others));
    let ada = Machine::up(&place, "ada", &[]);
    let unheard = || names[1..].iter().all(|name| ada.holds(name, "unheard"));
    wait_until("nobody was heard", unheard);
    assert!(ada.holds("ada", "alive"));
    let ben = Machine::up(&place, "ben", &[]);
    all_hold(&[ada, ben], &["ada", "ben"], "alive");
}

//= requirements A5
#[test]
fn whoever_is_expelled_is_turned_away_by_all_and_counted() {
    let place = Place::new();
    let ada = Machine::up(&place, "ada", &[]);
    let (ben, cleo) = (ada.joined("ben"), ada.joined("cleo"));
    let mut machines = vec![ada, ben, cleo];
    all_hold(&machines, &["ada", "ben", "cleo"], "alive");
    let said = place.cosmos(&["expel", "cleo", "--data", "ben"], "");
    assert!(
        said.err.contains("the fleet's key is there"),
        "{}",
        said.err
    );
    assert!(
        machines[0]
            .ok(&["expel", "cleo"])
            .starts_with("cleo is expelled")
    );
    let cleo = machines.pop().unwrap();
    all_hold(&machines, &["cleo"], "expelled");
    for machine in &machines {
        wait_until("it is turned away", || {
            machine.refused("certificate-revoked") > 0
        });
    }
    wait_until("it is told", || {
        let status: Value = serde_json::from_str(&cleo.ok(&["status", "--json"])).expect("JSON");
        status["fleet"]["expelled"] == true
    });
    assert!(cleo.ok(&["status"]).contains("was expelled"));
    wait_until("nobody speaks with it", || {
        !cleo.holds("ada", "alive") && !cleo.holds("ben", "alive")
    });
    // Nor after all have started again; and another takes another seat.
    drop(cleo);
    machines.clear();
    let ada = Machine::up(&place, "ada", &[]);
    let ben = Machine::up(&place, "ben", &[]);
    // It may be told so before it is ready.
    let mut again = place.command(&["up", "--data", "cleo", "--name", "cleo"]);
    let (cleo, _) = Up::with_warnings(&mut again);
    for machine in [&ada, &ben] {
        wait_until("it is turned away again", || {
            machine.refused("certificate-revoked") > 0
        });
        assert!(machine.holds("cleo", "expelled"));
    }
    let dan = ada.joined("dan");
    // A new invitation gives it another seat, and another name, as its own is still that of the seat which was taken away.
    drop(cleo);
    let cleo = ada.joined("cleo");
    let machines = [ada, ben, dan, cleo];
    all_hold(&machines, &["ada", "ben", "dan", "cleo-2"], "alive");
    assert_eq!(machines[3].member("cleo-2")["tile"], 4);
}
