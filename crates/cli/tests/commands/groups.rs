//! Programs that are supervised together: who falls with whom, how often, how many at a time, by when, and with what
//! weight.

use std::fs;

use crate::place::{Place, Up, has, wait_until};
use serde_json::Value;

/// A program of a group that runs until a file of its name appears in the folder `gate`, and then fails.
fn member(place: &Place, group: &[&str], name: &str) {
    let gate = place.real("gate");
    let script =
        format!("until [ -e {gate}/{name} ]; do sleep 0.05; done; rm {gate}/{name}; exit 7");
    let ends = [
        "--restart",
        "on-failure",
        "--dir",
        "gate",
        "sh",
        "-c",
        &script,
    ];
    place.ok(&[&["run", "-d", "--name", name], group, &ends].concat());
}

fn starts(place: &Place, names: &[&str]) -> Vec<u64> {
    let of = |name: &&str| place.program(name)["starts"].as_u64().unwrap();
    names.iter().map(of).collect()
}

#[test]
fn all_for_one_falls_and_rises_together_and_one_for_one_does_not() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir(place.path("gate")).unwrap();
    let names = ["a", "b", "c"];
    for name in names {
        member(
            &place,
            &["--group", "trio", "--strategy", "all-for-one"],
            name,
        );
    }
    for name in ["x", "y"] {
        member(&place, &["--group", "pair"], name);
    }
    wait_until("all run", || starts(&place, &names) == [1, 1, 1]);
    place.write("gate/b", b"");
    wait_until("all were started again", || {
        starts(&place, &names) == [2, 2, 2]
    });
    wait_until("all run", || {
        names.iter().all(|name| place.phase(name) == "running")
    });
    assert_eq!(
        starts(&place, &["x", "y"]),
        [1, 1],
        "another group is another matter"
    );
    let told = place.ok(&["why", "a"]);
    assert!(
        told.contains("b failed, and trio falls and rises together"),
        "{told}"
    );
    let told: Value = serde_json::from_str(&place.ok(&["why", "a", "--json"])).unwrap();
    let all = told["decisions"].as_array().unwrap();
    let stop = all.iter().find(|one| one["action"] == "stop").unwrap();
    let cause = all
        .iter()
        .find(|one| one["number"] == stop["cause"])
        .expect("its cause is told too");
    assert_eq!(
        (&cause["program"], &cause["reason"]),
        (&"b".into(), &"it failed".into())
    );
    place.write("gate/x", b"");
    wait_until("it was started again", || {
        starts(&place, &["x", "y"]) == [2, 1]
    });
    // What cannot be is refused, and nothing has changed.
    for (more, says) in [
        (
            &["--group", "trio"][..],
            "the group trio is there already, all-for-one",
        ),
        (
            &["--group", "new", "--strategy", "all-for-one"],
            "is never started again",
        ),
        (&["--strategy", "all-for-one"], "--group"),
        (
            &["--group", "new", "--intensity", "often"],
            "expected restarts and a time",
        ),
    ] {
        let words = [&["run", "-d", "--name", "no"], more, &["true"]].concat();
        let refused = place.cosmos(&words, "");
        assert_eq!(refused.code, Some(2), "{more:?}");
        assert!(refused.err.contains(says), "{more:?}: {}", refused.err);
    }
    assert_eq!(place.program("no"), Value::Null);
    place.ok(&["stop", "--group", "trio"]);
    assert!(names.iter().all(|name| place.phase(name) == "ended"));
    place.ok(&["rm", "--group", "trio"]);
    assert_eq!(place.program("a"), Value::Null);
}

#[test]
fn a_group_that_fails_too_often_is_given_up_and_not_resumed() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    place.write(
        "app.toml",
        br#"
            [group]
            name = "shaky"
            strategy = "one-for-one"
            restarts = 2
            within = "1 min"

            [[programs]]
            program = "sleep"
            arguments = ["1000"]
            name = "sound"
            restart = "always"

            [[programs]]
            program = "false"
            name = "broken"
            restart = "on-failure"
        "#,
    );
    assert_eq!(
        place.ok(&["run", "-d", "-f", "app.toml"]),
        "sound\nbroken\n"
    );
    wait_until("it was given up", || {
        place.phase("broken") == "ended" && place.phase("sound") == "ended"
    });
    assert_eq!(place.program("broken")["starts"], 3);
    assert!(
        place
            .ok(&["why", "sound"])
            .contains("broken failed too often, and shaky was given up")
    );
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    let (_up, line) = Up::at(&place);
    assert!(!line.contains("resuming"), "{line}");
}

#[test]
fn a_batch_runs_so_many_at_a_time_and_each_knows_which_it_is() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir(place.path("seen")).unwrap();
    let seen = place.real("seen");
    let script = format!(
        "mkdir {seen}/$COSMOS_INDEX; ls {seen} | wc -l; sleep 0.05; rmdir {seen}/$COSMOS_INDEX"
    );
    let said = place.ok(&[
        "run",
        "-d",
        "--count",
        "12",
        "--at-once",
        "2",
        "--name",
        "t",
        "--dir",
        "seen",
        "sh",
        "-c",
        &script,
    ]);
    assert_eq!(said.lines().count(), 12);
    assert!(said.starts_with("t-1\nt-2\n"), "{said}");
    place.ok(&["wait", "--group", "t"]);
    for index in 1..=12 {
        let name = format!("t-{index}");
        assert_eq!(place.program(&name)["code"], 0, "{name}");
        let at_once: u32 = place.ok(&["logs", &name]).trim().parse().unwrap();
        assert!((1..=2).contains(&at_once), "{name} saw {at_once}");
    }
    let waited = place.ok(&["why", "t-12"]);
    assert!(
        waited.contains("as many of t run as may at a time"),
        "{waited}"
    );
    place.ok(&["rm", "--group", "t"]);
    // Lines of a file, and what is wrong with one is said with its number, and nothing is run.
    let lines = "# two of them\necho 'a  b'\n\nsh -c \"exit 4\"\n";
    let said = place.cosmos(&["run", "-d", "--batch", "-", "--name", "l"], lines);
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "l-2\nl-4\n"),
        "{}",
        said.err
    );
    place.ok(&["wait", "l-2", "l-4"]);
    // For all of them, and not for the first that ends; who has ended already keeps nobody waiting.
    place.ok(&["run", "-d", "--name", "late", "sh", "-c", "sleep 2; exit 3"]);
    place.ok(&["wait", "l-2", "late", "l-4"]);
    assert_eq!(place.program("late")["code"], 3);
    let said = place.cosmos(&["wait", "l-2", "nobody"], "");
    assert!(
        said.code != Some(0) && said.err.contains("nobody"),
        "{said:?}"
    );
    place.ok(&["rm", "late"]);
    assert_eq!(place.ok(&["logs", "l-2"]), "a  b\n");
    assert_eq!(place.program("l-4")["code"], 4);
    let said = place.cosmos(&["run", "-d", "--batch", "-"], "true\necho 'half\n");
    assert_eq!(said.code, Some(2));
    assert!(
        said.err.contains("-:2: there is no second '"),
        "{}",
        said.err
    );
    let listed: Value = serde_json::from_str(&place.ok(&["ps", "--json"])).unwrap();
    assert_eq!(listed["programs"].as_array().unwrap().len(), 2);
}

#[test]
fn a_program_that_has_not_ended_by_its_deadline_is_ended_and_says_so() {
    let place = Place::new();
    let said = place.cosmos(&["run", "--deadline", "1s", "sleep", "1000"], "");
    assert_eq!(said.code, Some(124), "{}", said.err);
    assert!(
        said.err.contains("had not ended after 1 s (--deadline)"),
        "{}",
        said.err
    );
    assert_eq!(
        place
            .cosmos(&["run", "--deadline", "1min", "true"], "")
            .code,
        Some(0)
    );
    let spin = r#"(module (func (export "_start") (loop (br 0))))"#;
    place.write("spin.wasm", &wat::parse_str(spin).unwrap());
    let said = place.cosmos(&["run", "--deadline", "1s", "spin.wasm"], "");
    assert_eq!(said.code, Some(124), "{}", said.err);
    let (_up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "slow",
        "--restart",
        "always",
        "--deadline",
        "1s",
        "sleep",
        "1000",
    ]);
    place.ok(&["wait", "slow"]);
    let slow = place.program("slow");
    assert_eq!((&slow["late"], &slow["code"]), (&true.into(), &143.into()));
    assert!(place.ok(&["ps"]).contains("ended (143, late)"));
    assert!(place.ok(&["why", "slow"]).contains("its deadline passed"));
}

/// What a program's control group for the processor says.
fn shares(place: &Place, name: &str) -> Option<(String, u64)> {
    let process = place.program(name)["process"].as_u64()?;
    let groups = fs::read_to_string(format!("/proc/{process}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (file, known) = match controllers {
            "" => ("cpu.weight", "/sys/fs/cgroup"),
            _ if controllers.split(',').any(|word| word == "cpu") => {
                ("cpu.shares", "/sys/fs/cgroup/cpu")
            }
            _ => return None,
        };
        let text = fs::read_to_string(format!("{known}{path}/{file}")).ok()?;
        Some((file.to_owned(), text.trim().parse().ok()?))
    })
}

#[test]
fn a_program_of_a_higher_class_gets_more_where_others_want_the_same() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    let dealt = status["limits"]["cores"]
        .as_str()
        .is_some_and(|who| who.starts_with("cgroup"));
    if !has("a control group for cpu", dealt) {
        return;
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    for class in ["B", "D"] {
        for number in 0..cores {
            let name = format!("{class}{number}");
            place.ok(&[
                "run",
                "-d",
                "--name",
                &name,
                "--class",
                class,
                "sh",
                "-c",
                "while :; do :; done",
            ]);
        }
    }
    place.ok(&["run", "-d", "--name", "usual", "sleep", "1000"]);
    let weights = ["B0", "D0", "usual"].map(|name| shares(&place, name).expect("a weight"));
    let expected = match weights[0].0.as_str() {
        "cpu.weight" => [400, 25, 100],
        _ => [4096, 256, 1024],
    };
    assert_eq!(weights.map(|(_, weight)| weight), expected);
    // Whatever else this host does takes from both and lets cores idle in between: it shows sooner or later.
    wait_until("four times as much goes to the higher class", || {
        let said = place.ok(&["top", "--once", "--json", "--every", "3s"]);
        let said: Value = serde_json::from_str(&said).unwrap();
        let used = |class: &str| -> f64 {
            let programs = said["programs"].as_array().unwrap().iter();
            let of = programs.filter(|one| one["name"].as_str().unwrap().starts_with(class));
            of.map(|one| one["cores"].as_f64().unwrap()).sum()
        };
        used("B") > 4.0 * used("D")
    });
    let wrong = place.cosmos(&["run", "--class", "E", "true"], "");
    assert!(wrong.err.contains("expected A, B, C or D"), "{}", wrong.err);
}
