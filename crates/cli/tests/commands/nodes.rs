//! A node on this machine as whoever runs it meets it: it keeps what it was given, through every end.

use crate::place::{Place, Up, has, processes, unheard_of, wait_until, walled};
use serde_json::Value;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

#[test]
fn a_node_that_dies_or_cannot_be_heard_is_not_taken_for_a_program_that_ended() {
    let place = Place::new();
    let (up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "talk",
        "sh",
        "-c",
        "echo one; exec sleep 1000",
    ]);
    let mut follows = place.command(&["logs", "-f", "talk"]).spawn().unwrap();
    let mut said = BufReader::new(follows.stdout.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    fs::remove_file(place.path("data/control.sock")).unwrap();
    // Until it has noticed, that is said; then there is another.
    wait_until("it is made again", || {
        let said = place.cosmos(&["ps"], "");
        assert!(
            said.code == Some(0) || said.err.contains("the node makes another within seconds"),
            "{said:?}"
        );
        said.code == Some(0)
    });
    assert!(place.ok(&["ps"]).contains("talk"));
    up.signal("-KILL");
    let mut because = String::new();
    let mut complaint = follows.stderr.take().unwrap();
    complaint.read_to_string(&mut because).unwrap();
    assert!(because.contains("no node runs on"), "{because}");
    assert_eq!(follows.wait().unwrap().code(), Some(2));
}

#[test]
fn a_node_that_is_told_to_end_says_for_whom_it_waits() {
    let place = Place::new();
    let mut command = place.command(&["up", "--http", "off"]);
    let mut node = command.spawn().unwrap();
    let mut said = BufReader::new(node.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("node: ready on ") {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it is never ready");
    }
    place.ok(&["run", "-d", "--name", "sleeper", "sleep", "1000"]);
    let node = Up(node);
    node.signal("-TERM");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    let expected = "node: ends; 1 program is asked to end, and forced after 10";
    assert!(rest.contains(expected), "{rest:?}");
}

/// As when its terminal is closed.
#[test]
fn a_hangup_ends_a_node_as_ctrl_c_does_unless_it_was_told_to_ignore_that() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    place.ok(&["run", "-d", "--name", "stays", "sleep", "1000"]);
    up.signal("-HUP");
    assert_eq!(up.0.wait().unwrap().code(), Some(0));
    let cosmos = env!("CARGO_BIN_EXE_cosmos");
    let script = format!("trap '' HUP; exec '{cosmos}' up");
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script]).current_dir(place.0.path());
    let alike = place.command(&["up"]);
    shell.envs(
        alike
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null());
    shell.stderr(std::process::Stdio::piped());
    let (up, lines) = Up::with_warnings(&mut shell);
    assert!(lines.concat().contains("resuming 1 program"), "{lines:?}");
    up.signal("-HUP");
    assert!(place.ok(&["ps"]).contains("stays"));
}

#[test]
fn the_files_of_the_manual_are_understood() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    for name in ["store", "till"] {
        let path = place.path(name);
        fs::write(&path, "#!/bin/sh\nexec sleep 1000\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let manual = include_str!("../../../../docs/manifest.md");
    let files: Vec<_> = manual.split("```toml\n").skip(1).collect();
    for (file, names) in files.iter().zip([&["clock"][..], &["store", "till"]]) {
        let (file, _) = file.split_once("```").unwrap();
        fs::write(place.path("app.toml"), file).unwrap();
        let names: String = names.iter().map(|name| format!("{name}\n")).collect();
        assert_eq!(place.ok(&["run", "-d", "-f", "app.toml"]), names);
    }
    assert_eq!(files.len(), 2);
}

#[test]
fn a_file_says_all_of_how_its_programs_run() {
    let place = Place::new();
    fs::write(place.path("x.toml"), "words = [\"true\"]\n").unwrap();
    for more in [["--deadline", "1s"], ["--gpu", "1"], ["--cpu", "1"]] {
        let refused = place.cosmos(&[&["run", "-d", "-f", "x.toml"], &more[..]].concat(), "");
        assert_eq!(refused.code, Some(2), "{more:?}");
        assert!(
            refused.err.contains("cannot be used with"),
            "{}",
            refused.err
        );
    }
}

#[test]
fn a_program_lives_on_the_node_and_is_seen_heard_stopped_and_forgotten() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let said = place.ok(&[
        "run",
        "-d",
        "--name",
        "talk",
        "sh",
        "-c",
        "echo one; echo two >&2; exec sleep 1000",
    ]);
    assert_eq!(said, "talk\n");
    wait_until("it has spoken", || {
        place.ok(&["logs", "talk"]) == "one\ntwo\n"
    });
    let talk = place.program("talk");
    assert_eq!(
        (talk["phase"].as_str(), talk["starts"].as_u64()),
        (Some("running"), Some(1))
    );
    assert!(talk["process"].as_u64().is_some(), "{talk}");
    let table = place.ok(&["ps"]);
    assert!(table.contains("talk  running"), "{table}");
    let refused = place.cosmos(&["rm", "talk"], "");
    assert_eq!(refused.code, Some(2));
    assert_eq!(
        refused.err,
        "error: talk has not ended; `cosmos stop talk` ends it\n"
    );
    let twice = place.cosmos(&["run", "-d", "--name", "talk", "true"], "");
    assert_eq!(twice.code, Some(2));
    assert!(
        twice
            .err
            .contains("there is a program named \"talk\" already"),
        "{}",
        twice.err
    );
    assert_eq!(place.ok(&["stop", "talk"]), "talk\n");
    assert_eq!(place.program("talk")["code"], 143);
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    assert_eq!(
        (status["running"].as_u64(), status["known"].as_u64()),
        (Some(0), Some(1))
    );
    assert!(
        status["limits"]["memory"]
            .as_str()
            .is_some_and(|who| !who.is_empty())
    );
    assert_eq!(place.ok(&["rm", "talk"]), "talk\n");
    assert_eq!(place.program("talk"), Value::Null);
    assert_eq!(fs::read_dir(place.path("data/logs")).unwrap().count(), 0);
    let unknown = place.cosmos(&["logs", "talk"], "");
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("there is no program named \"talk\""),
        "{}",
        unknown.err
    );
}

#[test]
fn logs_are_followed_until_the_program_ends() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir(place.path("gate")).unwrap();
    let gate = place
        .path("gate")
        .canonicalize()
        .unwrap()
        .display()
        .to_string();
    let script =
        format!("echo before; until [ -e {gate}/open ]; do sleep 0.05; done; echo after; exit 6");
    place.ok(&[
        "run", "-d", "--name", "gated", "--dir", "gate", "sh", "-c", &script,
    ]);
    let mut follower = place.command(&["logs", "-f", "gated"]).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "before");
    place.write("gate/open", b"");
    assert_eq!(lines.next().unwrap().unwrap(), "after");
    assert!(lines.next().is_none());
    assert!(follower.wait().unwrap().success());
    wait_until("it has ended", || place.phase("gated") == "ended");
    assert_eq!(place.program("gated")["code"], 6);
}

#[test]
fn capsules_run_on_the_node_too() {
    let place = Place::new();
    let spin = r#"(module (func (export "_start") (loop (br 0))))"#;
    let trap = r#"(module (func (export "_start") unreachable))"#;
    place.write("spin.wasm", &wat::parse_str(spin).unwrap());
    place.write("trap.wasm", &wat::parse_str(trap).unwrap());
    let (_up, _) = Up::at(&place);
    assert_eq!(place.ok(&["run", "-d", "spin.wasm"]), "spin-1\n");
    place.ok(&[
        "run",
        "-d",
        "--name",
        "spent",
        "--fuel",
        "1000",
        "spin.wasm",
    ]);
    place.ok(&["run", "-d", "--name", "trap", "trap.wasm"]);
    for (name, code, says) in [
        ("spent", 137, "its 1000 units of fuel"),
        ("trap", 134, "stopped by a trap"),
    ] {
        wait_until("it has ended", || place.phase(name) == "ended");
        assert_eq!(place.program(name)["code"], code);
        assert!(place.ok(&["logs", name]).contains(says));
    }
    assert_eq!(place.phase("spin-1"), "running");
    assert_eq!(place.ok(&["stop", "spin-1"]), "spin-1\n");
    assert_eq!(place.program("spin-1")["code"], 143);
}

#[test]
fn who_fails_is_started_again_if_that_was_wished() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir(place.path("tally")).unwrap();
    let tally = place
        .path("tally")
        .canonicalize()
        .unwrap()
        .display()
        .to_string();
    let script = format!("echo x >> {tally}/starts; [ $(wc -l < {tally}/starts) -ge 3 ]");
    let run = |name: &str, restart: &str, script: &str| {
        place.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--restart",
            restart,
            "--dir",
            "tally",
            "sh",
            "-c",
            script,
        ]);
    };
    run("third", "on-failure", &script);
    wait_until("the third start succeeded", || {
        place.phase("third") == "ended"
    });
    assert_eq!(place.program("third")["starts"], 3);
    run("once", "never", "exit 1");
    wait_until("it has ended", || place.phase("once") == "ended");
    run("ever", "always", "exit 0");
    wait_until("it was started again", || {
        place.program("ever")["starts"].as_u64() >= Some(3)
    });
    assert_eq!(place.program("once")["starts"], 1);
    place.ok(&["stop", "ever"]);
    let starts = place.program("ever")["starts"].clone();
    assert_eq!(place.phase("ever"), "ended");
    assert_eq!(place.program("ever")["starts"], starts);
}

#[test]
fn a_node_that_is_told_to_end_ends_its_programs_and_the_next_resumes_them() {
    let place = Place::new();
    let left = unheard_of(1);
    let (mut up, line) = Up::at(&place);
    assert!(!line.contains("resuming"), "{line}");
    let script =
        format!("trap 'echo bye; exit 0' TERM; setsid sleep {left} & while :; do sleep 0.05; done");
    place.ok(&["run", "-d", "--name", "long", "sh", "-c", &script]);
    place.ok(&["run", "-d", "--name", "short", "true"]);
    place.ok(&["run", "-d", "--name", "stopped", "sleep", "1000"]);
    place.ok(&["stop", "stopped"]);
    wait_until("it runs", || {
        !processes(&format!("sleep {left}")).is_empty()
    });
    wait_until("it has ended", || place.phase("short") == "ended");
    up.signal("-TERM");
    assert!(up.0.wait().unwrap().success());
    wait_until("its programs are gone", || processes(&left).is_empty());
    let said = place.cosmos(&["ps"], "");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("no node runs on"), "{}", said.err);

    let (_up, line) = Up::at(&place);
    assert!(line.ends_with("resuming 1 program\n"), "{line}");
    wait_until("it runs again", || {
        !processes(&format!("sleep {left}")).is_empty()
    });
    assert_eq!(place.phase("long"), "running");
    assert_eq!(
        (place.phase("short"), place.phase("stopped")),
        ("ended".into(), "ended".into())
    );
    assert!(
        place.ok(&["logs", "long"]).contains("bye"),
        "what was said before is still there"
    );
}

#[test]
fn a_node_that_is_killed_takes_its_programs_along_and_has_forgotten_nothing() {
    let place = Place::new();
    let left = unheard_of(2);
    for round in 1..=5 {
        let (mut up, line) = Up::at(&place);
        let resumes = match round {
            1 => "data\n".to_owned(),
            2 => "resuming 1 program\n".to_owned(),
            n => format!("resuming {} programs\n", n - 1),
        };
        assert!(line.ends_with(&resumes), "{line}");
        let name = format!("p{round}");
        let script = format!("setsid sleep {left} & wait");
        // Killed the moment it has acknowledged.
        place.ok(&["run", "-d", "--name", &name, "sh", "-c", &script]);
        up.0.kill().unwrap();
        up.0.wait().unwrap();
        wait_until("nothing is left", || processes(&left).is_empty());
    }
}

#[test]
fn two_hundred_kills_in_the_midst_of_requests_lose_nothing_that_was_acknowledged() {
    const ROUNDS: usize = 200;
    const REQUESTS: usize = 4;
    let place = Place::new();
    let mut acknowledged = Vec::new();
    let mut unheard = 0;
    for round in 0..=ROUNDS {
        let (mut up, _) = Up::at(&place);
        let listed: Value = serde_json::from_str(&place.ok(&["ps", "--json"])).expect("JSON");
        let known: Vec<_> = listed["programs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|p| p["name"].clone())
            .collect();
        for name in &acknowledged {
            assert!(
                known.iter().any(|other| other == name),
                "round {round}: {name} was acknowledged and is lost"
            );
        }
        if round == ROUNDS {
            break;
        }
        let request = |number| {
            let name = format!("r{round}-{number}");
            let child = place
                .command(&["run", "-d", "--name", &name, "true"])
                .spawn()
                .expect("a request");
            (name, child)
        };
        let mut requests: Vec<_> = (0..REQUESTS).map(request).collect();
        // Some rounds see an answer first, some do not.
        let heard = round % (REQUESTS + 1);
        let mut done: Vec<_> = requests
            .drain(..heard)
            .map(|(name, child)| (name, child.wait_with_output()))
            .collect();
        up.0.kill().unwrap();
        up.0.wait().unwrap();
        done.extend(
            requests
                .into_iter()
                .map(|(name, child)| (name, child.wait_with_output())),
        );
        for (name, output) in done {
            match output.unwrap().status.success() {
                true => acknowledged.push(name),
                false => unheard += 1,
            }
        }
    }
    assert!(
        acknowledged.len() >= ROUNDS && unheard >= ROUNDS / 10,
        "{} and {unheard}",
        acknowledged.len()
    );
}

#[test]
fn a_directory_has_one_node_and_belongs_to_its_owner() {
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let second = place.cosmos(&["up"], "");
    assert_eq!(second.code, Some(2));
    let expected = format!("already (process {})\n", up.0.id());
    assert!(second.err.ends_with(&expected), "{}", second.err);
    for (name, mode) in [
        ("data", 0o700),
        ("data/control.sock", 0o600),
        ("data/logs", 0o700),
    ] {
        let found = fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{name}");
    }
}

#[test]
fn nonsense_on_the_control_socket_is_refused_and_costs_nobody_else_anything() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x01\xff\xff\xff\xff",
        b"\x01\0\0\0\x02{}",
        b"",
    ] {
        let mut stream = UnixStream::connect(place.path("data/control.sock")).unwrap();
        stream.write_all(nonsense).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(
            String::from_utf8_lossy(&answer).contains("refused"),
            "{nonsense:?}"
        );
    }
    // Who connects and says nothing keeps nobody waiting.
    let _silent: Vec<_> = (0..10)
        .map(|_| UnixStream::connect(place.path("data/control.sock")).unwrap())
        .collect();
    assert!(place.ok(&["status"]).contains("0 running of 0"));
}

/// Programs that count.
pub(crate) const COUNTERS: [&str; 4] = ["one", "two", "three", "four"];

/// What they have counted by now, as they say in their logs, all together.
pub(crate) fn counted(place: &Place) -> u64 {
    let each = COUNTERS.map(|name| {
        let said = place.ok(&["logs", name]);
        let last = said.lines().last().and_then(|line| line.parse().ok());
        last.unwrap_or(0)
    });
    each.into_iter().sum()
}

/// How far they count in so many seconds.
#[expect(
    clippy::disallowed_methods,
    reason = "a rate is what this is about, and programs live by the host's clock"
)]
pub(crate) fn rate(place: &Place, seconds: u64) -> u64 {
    let before = counted(place);
    std::thread::sleep(std::time::Duration::from_secs(seconds));
    counted(place) - before
}

//= requirements K1
#[test]
fn a_hot_machine_slows_its_programs_and_a_cool_one_gives_them_all_back() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let status = || serde_json::from_str::<Value>(&place.ok(&["status", "--json"])).expect("JSON");
    wait_until("a temperature is known", || status()["heat"].is_object());
    let heat = status()["heat"].clone();
    if heat["temperature"]["source"] != "modelled" {
        println!(
            "skipped: this machine shows its temperature, and nobody may make it hot for a test"
        );
        return;
    }
    let limits = status()["limits"].clone();
    let dealt = limits["cores"]
        .as_str()
        .is_some_and(|who| who.starts_with("cgroup"));
    if !has("a control group for cpu", dealt) {
        return;
    }
    // More than there are processors; what all get together counts, as the kernel does not deal it evenly.
    let script = "n=0; while :; do n=$((n + 1)); [ $((n % 20000)) = 0 ] && echo $n; done";
    for name in COUNTERS {
        place.ok(&["run", "-d", "--name", name, "sh", "-c", script]);
    }
    wait_until("they count", || counted(&place) > 0);
    let cool = rate(&place, 4);
    // Without any work it would be 95 °C: in the band in which the guard slows, and below the limit.
    place.ok(&["outside", "78"]);
    let clock = || status()["heat"]["clock"].as_f64().unwrap();
    // So much less that it shows beside whoever else has work for the processors.
    wait_until("programs get less", || clock() < 0.3);
    let hot = rate(&place, 4);
    assert!(hot < cool * 3 / 4, "{hot} while hot, {cool} while cool");
    assert!(place.ok(&["status"]).contains("modelled"));
    place.ok(&["outside", "-20"]);
    wait_until("programs get everything", || clock() == 1.0);
    // Others may have work for the processors just then.
    let mut again = Vec::new();
    while again.last().is_none_or(|again| hot >= again * 3 / 4) {
        assert!(
            again.len() < 10,
            "{again:?} when cool again, {hot} while hot"
        );
        again.push(rate(&place, 4));
    }
}

//= requirements K2
#[test]
fn a_machine_past_its_limit_goes_dark_with_its_programs() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    let status = || serde_json::from_str::<Value>(&place.ok(&["status", "--json"])).expect("JSON");
    wait_until("a temperature is known", || status()["heat"].is_object());
    if status()["heat"]["temperature"]["source"] != "modelled" {
        println!(
            "skipped: this machine shows its temperature, and nobody may make it hot for a test"
        );
        return;
    }
    let left = unheard_of(7);
    place.ok(&["run", "-d", "--name", "sleeper", "sleep", &left]);
    wait_until("it runs", || {
        !processes(&format!("sleep {left}")).is_empty()
    });
    place.ok(&["outside", "200"]);
    let mut ended = None;
    wait_until("the node has ended", || {
        ended = up.0.try_wait().expect("a child");
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(2));
    wait_until("its programs are gone", || {
        processes(&format!("sleep {left}")).is_empty()
    });
}

#[test]
fn a_program_that_has_only_just_been_started_can_be_asked_to_end() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    for name in ["one", "two", "three"] {
        place.ok(&["run", "-d", "--name", name, "sleep", "1000"]);
        place.ok(&["stop", name]);
        // By the request, not by force after ten seconds.
        assert_eq!(place.program(name)["code"], 143, "{name}");
    }
}

#[test]
fn what_exec_started_ends_with_whoever_asked_for_it() {
    if !walled() {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let script = "echo up; exec sleep 1000";
    place.ok(&["run", "-d", "--name", "host", "sh", "-c", script]);
    wait_until("it runs", || place.ok(&["logs", "host"]) == "up\n");
    let left = unheard_of(21);
    let script = format!("setsid sleep {left} & echo ready; wait");
    let mut exec = place.ready(&["exec", "host", "sh", "-c", &script]);
    wait_until("it runs", || {
        !processes(&format!("sleep {left}")).is_empty()
    });
    exec.kill().unwrap();
    exec.wait().unwrap();
    wait_until("nothing of it is left", || processes(&left).is_empty());
    assert_eq!(place.phase("host"), "running");
}

#[test]
fn a_program_in_the_foreground_shares_what_the_nodes_programs_are_given() {
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let groups = place.ok(&["run", "cat", "/proc/self/cgroup"]);
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    let dealt = status["limits"]["cores"].as_str();
    if !has(
        "a control group for cpu",
        dealt.is_some_and(|who| who.starts_with("cgroup")),
    ) {
        return;
    }
    let around = format!("/cosmos-{}/cosmos-", up.0.id());
    assert!(groups.contains(&around), "{groups}");
    let wrong = place.cosmos(&["outside", "nan"], "");
    assert_eq!(wrong.code, Some(2));
    assert!(
        wrong.err.contains("found \"nan\", expected a temperature"),
        "{}",
        wrong.err
    );
}

/// A universe of hosts of which one is to be slowed long before others would be.
const CAREFUL: &str = "kind = \"fleet\"\nname = \"careful\"\nintent = \"To be taken by a node.\"\n[time]\nend = \"1 min\"\n[hosts]\ncount = 3\ndevice = \"EPYC-7763\"\nthrottle = \"15 degC\"\nshutdown = \"100 degC\"\n[membership]\nperiod = \"500 ms\"\n[[fault]]\nkind = \"kill\"\nat = \"2 s\"\nhosts = [3]\n";

#[test]
fn a_node_is_held_to_what_its_universe_says_of_its_machine() {
    let place = Place::new();
    place.write("careful.toml", CAREFUL.as_bytes());
    let file = place.path("careful.toml");
    let file = file.to_str().unwrap();
    let mut command = place.command(&["up", "--http", "off", "--universe", file]);
    let (_up, said) = Up::with_warnings(&mut command);
    let said = said.join("\n");
    assert!(
        said.contains(
            "a EPYC-7763, slowed from 15 °C on, ends at 100 °C; members probe every 500 ms"
        ),
        "{said}"
    );
    assert!(said.contains("left to rehearsals: 1 fault"), "{said}");
    let status = || -> Value { serde_json::from_str(&place.ok(&["status", "--json"])).unwrap() };
    let machine = &status()["machine"];
    assert_eq!(machine["universe"], "careful");
    assert_eq!(machine["device"], "EPYC-7763");
    assert_eq!(machine["period_ms"], 500);
    assert!(place.ok(&["status"]).contains("(universe careful)"));
    // The machine is warmer than that, whether measured or modelled: the guard goes by the file.
    wait_until("it is slowed", || {
        status()["heat"]["clock"]
            .as_f64()
            .is_some_and(|clock| clock < 1.0)
    });
    // What the rehearsal goes by is read by the same words.
    let plan = place.cosmos(&["twin", "plan", file], "");
    assert_eq!(plan.code, Some(0), "{}", plan.err);
}

#[test]
fn what_a_node_cannot_honour_of_a_universe_is_refused_with_its_line() {
    let place = Place::new();
    let refused = |text: &str| {
        place.write("wrong.toml", text.as_bytes());
        let said = place.cosmos(
            &[
                "up",
                "--http",
                "off",
                "--universe",
                place.path("wrong.toml").to_str().unwrap(),
            ],
            "",
        );
        assert_eq!(said.code, Some(2), "{}", said.err);
        said.err
    };
    let gpu = refused(
        &CAREFUL
            .replace("EPYC-7763", "H100")
            .replace("shutdown = \"100 degC\"\n", ""),
    );
    assert!(
        gpu.contains("wrong.toml:8: hosts.device: found \"H100\""),
        "{gpu}"
    );
    assert!(
        gpu.contains("expected \"CPU-NODE\" or \"EPYC-7763\""),
        "{gpu}"
    );
    let cold = refused(&CAREFUL.replace("100 degC", "10 degC"));
    assert!(cold.contains("wrong.toml:10: hosts.shutdown"), "{cold}");
    let hasty = refused(&CAREFUL.replace("500 ms", "300 ms"));
    assert!(hasty.contains("membership.window"), "{hasty}");
    let site = place.cosmos(&["up", "--http", "off", "--universe", "gpu-1024"], "");
    assert_eq!(site.code, Some(2));
    assert!(site.err.contains("kind: found \"site\""), "{}", site.err);
    let unknown = place.cosmos(&["up", "--http", "off", "--universe", "fiv"], "");
    assert!(
        unknown.err.contains("did you mean \"five\"?"),
        "{}",
        unknown.err
    );
    // None of them left a node, or anything of one.
    assert!(!place.path("data").join("fleet.redb").exists());
}
