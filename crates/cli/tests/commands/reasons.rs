//! Whoever asks is told: why a program is as it is, how the layers are, and what the command itself can do.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::process::Command;

use crate::place::{Place, Up, wait_until};
use serde_json::Value;

fn why(place: &Place, name: &str) -> Value {
    serde_json::from_str(&place.ok(&["why", name, "--json"])).expect("JSON")
}

fn decisions(why: &Value) -> &Vec<Value> {
    why["decisions"].as_array().expect("a list")
}

//= requirements S7
#[test]
fn why_walks_from_a_start_to_the_failure_that_caused_it_also_after_the_node_was_killed() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "weak",
        "--restart",
        "on-failure",
        "sh",
        "-c",
        "sleep 0.1; exit 3",
    ]);
    wait_until("it was started again", || {
        place.program("weak")["starts"].as_u64() >= Some(2)
    });
    let told = why(&place, "weak");
    let by = |action: &str| decisions(&told).iter().find(|one| one["action"] == action);
    let (restart, starts) = (by("restart").expect("one"), decisions(&told).iter());
    assert_eq!(
        (&restart["reason"], &restart["found"]),
        (&"it failed".into(), &3.0.into())
    );
    let again = starts
        .filter(|one| one["action"] == "start")
        .nth(1)
        .expect("a second start");
    assert_eq!(again["cause"], restart["number"]);
    assert_eq!(again["reason"], "its pause is over");
    let said = place.ok(&["why", "weak"]);
    assert!(
        said.contains("it ended with 3") && said.contains("(because of #"),
        "{said}"
    );
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    let (_up, _) = Up::at(&place);
    wait_until("it is resumed", || {
        place.program("weak")["starts"].as_u64() >= Some(1)
    });
    let told = why(&place, "weak");
    let resumed = decisions(&told)
        .iter()
        .find(|one| one["reason"] == "it ran when the node ended");
    let resumed = resumed.expect("it says that it was resumed");
    let cause = decisions(&told)
        .iter()
        .find(|one| one["number"] == resumed["cause"]);
    assert!(
        cause.expect("the node's start")["said"]
            .as_str()
            .unwrap()
            .contains("the node started")
    );
    assert!(
        decisions(&told)
            .iter()
            .any(|one| one["number"] == restart["number"]),
        "nothing is forgotten"
    );
    // Stopped by a person, which is a reason too.
    place.ok(&["stop", "weak"]);
    let told = why(&place, "weak");
    assert!(
        told["now"]
            .as_str()
            .unwrap()
            .starts_with("weak does not run"),
        "{told}"
    );
    let end = decisions(&told).last().unwrap();
    assert_eq!(
        (&end["action"], &end["reason"]),
        (&"end".into(), &"it was asked for".into())
    );
    // A name that neither a node nor a run knows is said to be unknown to both.
    let unknown = place.cosmos(&["why", "nobody"], "");
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("no program named \"nobody\"") && unknown.err.contains("runs"),
        "{}",
        unknown.err
    );
}

#[test]
fn why_says_that_a_program_was_slowed_and_by_which_heat() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let status = || serde_json::from_str::<Value>(&place.ok(&["status", "--json"])).expect("JSON");
    wait_until("a temperature is known", || status()["heat"].is_object());
    if status()["heat"]["temperature"]["source"] != "modelled" {
        println!(
            "skipped: this machine shows its temperature, and nobody may make it hot for a test"
        );
        return;
    }
    place.ok(&["run", "-d", "--name", "worker", "sleep", "1000"]);
    assert!(place.ok(&["why"]).contains("the whole processor"));
    place.ok(&["outside", "84"]);
    wait_until("programs get less", || {
        status()["heat"]["clock"].as_f64() < Some(0.9)
    });
    let told = why(&place, "worker");
    let throttle = decisions(&told)
        .iter()
        .find(|one| one["action"] == "throttle")
        .expect("a decision");
    assert_eq!(throttle["reason"], "near its own limit");
    assert!(
        throttle["found"].as_f64() >= throttle["bound"].as_f64(),
        "{throttle}"
    );
    let now = told["now"].as_str().unwrap();
    assert!(
        now.contains("% of the processor") && now.contains(&format!("(#{})", throttle["number"])),
        "{now}"
    );
    assert!(place.ok(&["why"]).contains("programs are slowed"));
}

#[test]
fn every_layer_is_listed_by_its_name_with_what_was_found_of_it() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    let services = || -> Value {
        let said = place.cosmos(&["services", "--json"], "");
        assert_eq!(said.err, "");
        serde_json::from_str(&said.out).expect("JSON")
    };
    let find = |name: &str| {
        let services = services();
        let all = services["services"].as_array().unwrap().clone();
        all.into_iter().find(|one| one["name"] == name).unwrap()
    };
    let names: Vec<_> = services()["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].clone())
        .collect();
    let expected = "cosmOS logOS etymOS atmOS chronOS karmOS chaOS theOS pneumOS aetherOS hypnOS oneirOS thanatOS mythOS nomOS daemOS pandemoniOS harmoniOS anomOS";
    assert_eq!(names, expected.split(' ').collect::<Vec<_>>());
    wait_until("the sensors have been read", || {
        find("atmOS")["health"] == "well"
    });
    for name in ["cosmOS", "logOS", "karmOS", "pneumOS", "thanatOS", "daemOS"] {
        assert_eq!(find(name)["health"], "well", "{}", find(name));
    }
    assert_eq!(find("harmoniOS")["health"], "absent");
    // What is unwell is found by looking.
    place.ok(&[
        "run",
        "-d",
        "--name",
        "weak",
        "--restart",
        "always",
        "false",
    ]);
    wait_until("somebody is started again and again", || {
        find("daemOS")["health"] == "unwell"
    });
    assert!(
        find("daemOS")["found"]
            .as_str()
            .unwrap()
            .contains("weak ended with 1")
    );
    let said = place.cosmos(&["services"], "");
    assert_eq!(said.code, Some(1), "something is unwell");
    assert!(
        said.out.contains("daemOS       unwell  supervision"),
        "{}",
        said.out
    );
    place.ok(&["stop", "weak"]);
    assert_eq!(find("daemOS")["health"], "well");
    assert!(
        find("logOS")["found"]
            .as_str()
            .unwrap()
            .contains("records, whole")
    );
    let segments = fs::read_dir(place.path("data/annals")).unwrap().flatten();
    let mut segments: Vec<_> = segments.map(|entry| entry.path()).collect();
    segments.sort();
    let last = fs::File::options()
        .read(true)
        .write(true)
        .open(segments.last().unwrap())
        .unwrap();
    let mut byte = [0];
    last.read_exact_at(&mut byte, 200).unwrap();
    last.write_all_at(&[!byte[0]], 200).unwrap();
    let log = find("logOS");
    assert_eq!(log["health"], "unwell");
    assert!(
        log["found"].as_str().unwrap().contains("damaged at byte"),
        "{log}"
    );
    up.0.kill().unwrap();
    up.0.wait().unwrap();
}

#[test]
fn a_shell_can_complete_its_words_and_man_can_show_its_pages() {
    let place = Place::new();
    for (shell, checks) in [("bash", true), ("zsh", false), ("fish", false)] {
        let script = place.ok(&["completions", shell]);
        assert!(
            script.contains("services") && script.contains("at-once"),
            "{shell}"
        );
        if checks {
            place.write("completions", script.as_bytes());
            let parsed = Command::new("bash")
                .arg("-n")
                .arg(place.path("completions"))
                .status();
            assert!(parsed.unwrap().success());
        }
    }
    assert_eq!(place.ok(&["man", "pages"]), "");
    for page in [
        "cosmos.1",
        "cosmos-run.1",
        "cosmos-top.1",
        "cosmos-twin-run.1",
    ] {
        let text = fs::read_to_string(place.path("pages").join(page)).unwrap();
        assert!(
            text.contains(".TH ") && text.contains(".SH SYNOPSIS"),
            "{page}: {text}"
        );
    }
    assert!(
        fs::read_to_string(place.path("pages/cosmos-run.1"))
            .unwrap()
            .contains("COSMOS_INDEX")
    );
}

#[test]
fn what_a_node_is_told_at_its_start_and_what_a_program_says_can_be_had_as_json() {
    let place = Place::new();
    let mut up = place
        .command(&["up", "--json", "--http", "off"])
        .spawn()
        .unwrap();
    let mut said = String::new();
    wait_until("it answers", || {
        place.cosmos(&["status"], "").code == Some(0)
    });
    place.ok(&[
        "run",
        "-d",
        "--name",
        "talk",
        "printf",
        "one\\ntwo \"x\"\\nthree",
    ]);
    place.ok(&["wait", "talk"]);
    let lines = place.ok(&["logs", "--json", "talk"]);
    let lines: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let texts: Vec<_> = lines
        .iter()
        .map(|line| line["line"].as_str().unwrap())
        .collect();
    assert_eq!(texts, ["one", "two \"x\"", "three"]);
    up.kill().unwrap();
    std::io::Read::read_to_string(up.stdout.as_mut().unwrap(), &mut said).unwrap();
    up.wait().unwrap();
    let ready: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!(
        (&ready["resumed"], &ready["dashboard"]),
        (&0.into(), &Value::Null)
    );
    assert!(ready["fleet"]["address"].is_string());
}
