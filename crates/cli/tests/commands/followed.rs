//! Programs of a fleet, asked about from any of its machines: why they are where they are or nowhere, and what they say.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};

use crate::fleet::Machine;
use crate::leases::{at, replicas, running, three};
use crate::place::{Place, Said, Up, wait_until};

const SPEAKS: &str = "echo it is $$ that speaks; exec sleep 1000";

fn give(machine: &Machine<'_>, name: &str, replicas: &str, more: &[&str]) {
    let words = ["run", "-d", "--replicas", replicas, "--name", name];
    let words = [
        &words[..],
        more,
        &["--data", machine.name, "sh", "-c", SPEAKS],
    ]
    .concat();
    let Said { code, out, err } = machine.place.cosmos(&words, "");
    assert_eq!((code, out), (Some(0), format!("{name}\n")), "{err}");
}

fn why(machine: &Machine<'_>, name: &str) -> Value {
    serde_json::from_str(&machine.ok(&["why", name, "--json"])).expect("JSON")
}

//= requirements S7
#[test]
fn why_says_who_fell_to_which_test_and_what_would_start_it_now_and_it_does() {
    let place = Place::new();
    let machines = three(&place);
    let leases = machines[0].ok(&["members", "--leases", "--json"]);
    let leases: Value = serde_json::from_str(&leases).expect("JSON");
    let cores = leases["affairs"]["machines"][0]["cpu_milli"].as_u64();
    let cores = cores.expect("a number") / 1_000;
    machines[1].ok(&["drain", "cleo"]);
    // Each takes a machine whole.
    let all = cores.to_string();
    give(&machines[0], "big", "3", &["--cpu", &all]);
    wait_until("two of three run", || {
        running(&machines[2], "big").len() == 2
    });
    let cpus = |n: u64| match n {
        1 => "1 CPU".to_owned(),
        n => format!("{n} CPUs"),
    };
    let sentence = format!(
        "no machine has enough CPU free: ada, which comes nearest, has 0 CPUs where {} are asked for",
        cpus(cores)
    );
    let asked = format!("  asks     3 × {}\n", cpus(cores));
    let told = machines[2].ok(&["why", "big"]);
    for line in [
        &format!("big waits: 1 of 3 have no machine: {sentence}\n"),
        &asked,
        "  machines      3 there are\n",
        "-1 draining, 2 left: cleo\n",
        "-2 too little CPU free, 0 left: ada, ben\n",
        "  sooner   with cleo serving again: now\n",
        "           with 2 instead of 3 replicas: now\n",
        "big~0 was given to ada:\n",
        "the fleet agreed: big~2 waits: no machine has enough CPU free; of 3 machines 1 draining, 2 too little CPU free\n",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    let waits = why(&machines[1], "big")["fleet"]["waits"].clone();
    assert_eq!(
        (&waits["replicas"], &waits["nodes"]),
        (&json!(1), &json!(3))
    );
    assert_eq!(waits["sentence"], sentence);
    let funnel = json!([
        { "test": "draining", "fell": 1, "left": 2, "nodes": ["cleo"] },
        { "test": "too little CPU free", "fell": 2, "left": 0, "nodes": ["ada", "ben"] },
    ]);
    assert_eq!(waits["funnel"], funnel);
    assert_eq!(waits["changes"][0], "with cleo serving again");
    let listed = machines[0].ok(&["ps", "--fleet"]);
    assert!(
        listed.contains("(no machine has enough CPU free; of 3 machines"),
        "{listed}"
    );
    // What it said would help does.
    machines[0].ok(&["drain", "cleo", "--undo"]);
    wait_until("all three run", || running(&machines[0], "big").len() == 3);
    assert_eq!(replicas(&machines[0], "big")[&2].1, "cleo");
    // Its holder says what it did itself, and those who vote why it is there; whoever is asked.
    let told = machines[0].ok(&["why", "big~2"]);
    for line in [
        "big~2 runs; it was started (start 1): the fleet placed it here\n",
        "big~2 was given to cleo:\n",
        "-2 too little CPU free, 1 left\n",
        "  score    cleo: 0 replicas of it, 0.0 % taken, 0 replicas in all\n",
        "the fleet agreed: big~2 was placed on cleo",
    ] {
        assert!(told.contains(line), "{line:?} is not in\n{told}");
    }
    assert_eq!(why(&machines[0], "big~2"), why(&machines[2], "big~2"));
    let beside = place.cosmos(&["exec", "--data", "ada", "big~2", "true"], "");
    assert!(beside.err.contains("big~2 runs on cleo"), "{}", beside.err);
    let none = place.cosmos(&["why", "big~7", "--data", "ada"], "");
    assert!(
        none.err.contains("no program named \"big~7\""),
        "{}",
        none.err
    );
}

#[test]
fn a_taken_port_is_why_and_so_is_a_rest() {
    let place = Place::new();
    let machines = three(&place);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let door = format!("{port}:80");
    // All three are on one host here, where one of them can have the port; the fleet believes that they are three.
    give(&machines[0], "web", "1", &["--port", &door]);
    wait_until("it runs", || running(&machines[0], "web").len() == 1);
    let holder = replicas(&machines[0], "web")[&0].1.clone();
    give(&machines[0], "other", "1", &["--port", &door]);
    let mut waits = Value::Null;
    wait_until("both others have tried and rest", || {
        waits = why(&machines[1], "other")["fleet"]["waits"].clone();
        waits["funnel"]
            .as_array()
            .is_some_and(|funnel| funnel.len() == 2)
    });
    let taken = json!({
        "test": "run something that takes one of its ports", "fell": 1, "left": 2, "nodes": [holder],
    });
    assert_eq!(waits["funnel"][0], taken);
    let rests = &waits["funnel"][1];
    assert_eq!(
        rests["test"],
        "resting, as they could not run it a moment ago"
    );
    assert_eq!((&rests["fell"], &rests["left"]), (&json!(2), &json!(0)));
    assert_eq!(waits["changes"][0], format!("without port {port}"));
    assert!(waits["starts_in_ms"].as_u64() <= Some(60_000), "{waits}");
}

#[test]
fn logs_go_to_where_it_runs_and_along_when_it_runs_elsewhere() {
    let place = Place::new();
    let mut machines = three(&place);
    give(&machines[0], "two", "2", &[]);
    give(&machines[0], "solo", "1", &["--restart", "always"]);
    let runs = |machine: &Machine<'_>| {
        (
            running(machine, "solo").len(),
            running(machine, "two").len(),
        )
    };
    wait_until("all run", || runs(&machines[0]) == (1, 2));
    for machine in &machines {
        for name in ["solo", "solo~0", "two~0", "two~1"] {
            wait_until("it has spoken", || {
                let said = machine.ok(&["logs", name]);
                said.starts_with("it is ") && said.ends_with(" that speaks\n")
            });
        }
        let many = place.cosmos(&["logs", "two", "--data", machine.name], "");
        assert_eq!(many.code, Some(2));
        assert!(
            many.err.contains("expected one of two~0, two~1"),
            "{}",
            many.err
        );
        let none = place.cosmos(&["logs", "two~9", "--data", machine.name], "");
        assert!(
            none.err.contains("there is no two~9 any more"),
            "{}",
            none.err
        );
    }
    let holder = running(&machines[0], "solo").remove(0);
    let dead = machines.remove(at(&machines, &holder));
    let words = ["logs", "-f", "solo", "--data", machines[0].name];
    let mut follows = Up(place.command(&words).spawn().expect("it starts"));
    let mut lines = BufReader::new(follows.0.stdout.take().unwrap()).lines();
    let mut line = || lines.next().expect("there is more").expect("UTF-8");
    let first = line();
    drop(dead);
    let mut next = line();
    while next.is_empty() {
        next = line();
    }
    let (_, now) = &replicas(&machines[0], "solo")[&0];
    assert_eq!(next, format!("[solo~0 is on {now} from here on]"));
    let second = line();
    assert!(second.ends_with("that speaks") && first.ends_with("that speaks"));
    // Its program was stopped: there is no more to come.
    assert_eq!(machines[1].ok(&["stop", "solo"]), "solo\n");
    assert!(lines.next().is_none());
    assert!(follows.0.wait().unwrap().success());
}
