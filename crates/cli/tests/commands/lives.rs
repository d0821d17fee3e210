//! Capsules that live from event to event, through every end.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use crate::capsules::example;
use crate::place::{Place, Up, wait_until};
use crate::served::free_port;

pub(crate) fn counter() -> Option<String> {
    example("counter", "wasm32-wasip1")
}

#[test]
fn a_count_goes_on_where_it_was() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let run = |first: &str, input: &str| {
        place.cosmos(
            &["run", "--state", "count", "--first", first, &counter],
            input,
        )
    };
    let said = run("1", "\n\n5\n");
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), "1\t1\n2\t2\n3\t7\n", "")
    );
    assert_eq!(run("4", "\n").out, "4\t8\n");
    // From the beginning again: what it has seen it has seen, and the last answer may not have been heard.
    assert_eq!(run("1", "\n\n5\n\n\n").out, "4\t8\n5\t9\n");
    assert_eq!(run("5", "\n").out, "5\t9\n");
    // Elsewhere, with the same module.
    fs::create_dir(place.path("elsewhere")).unwrap();
    fs::copy(place.path("count"), place.path("elsewhere/count")).unwrap();
    let asked = [
        "run",
        "--state",
        "elsewhere/count",
        "--first",
        "6",
        &counter,
    ];
    assert_eq!(place.cosmos(&asked, "100\n").out, "6\t109\n");
    // An event is missing.
    let said = run("7", "\n");
    assert_eq!(said.code, Some(125));
    assert!(
        said.err
            .contains("begins with event 7, expected one from 1 to 6"),
        "{}",
        said.err
    );
}

#[test]
fn what_ends_in_an_event_is_as_it_was_before_it() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let run = |first: &str, input: &str| {
        place.cosmos(
            &["run", "--state", "count", "--first", first, &counter],
            input,
        )
    };
    // All in one batch: the two before it are told once more to one that is whole.
    let said = run("1", "\n10\nno number\n\n");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(134), "1\t1\n2\t11\n"),
        "{}",
        said.err
    );
    assert!(said.err.contains("stopped by a trap"), "{}", said.err);
    assert_eq!(run("3", "1\n").out, "3\t12\n");
    let said = run("4", "1\n1");
    assert_eq!((said.code, said.out.as_str()), (Some(125), "4\t13\n"));
    assert!(said.err.contains("event 5 was cut off"), "{}", said.err);
    assert_eq!(run("5", "1\n").out, "5\t14\n");
    let said = place.cosmos(&["run", "--fuel", "5", "--state", "new", &counter], "\n");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(137), ""),
        "{}",
        said.err
    );
}

#[test]
fn a_damaged_state_is_named_by_its_place_and_that_of_another_module_refused() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let run = || place.cosmos(&["run", "--state", "count", &counter], "\n");
    assert_eq!(run().out, "1\t1\n");
    let whole = fs::read(place.path("count")).unwrap();
    for at in [3, 40, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        fs::write(place.path("count"), &damaged).unwrap();
        let said = run();
        assert_eq!((said.code, said.out.as_str()), (Some(125), ""));
        assert!(
            said.err.contains("error: the state in ") && said.err.contains(": at byte "),
            "{}",
            said.err
        );
        assert_eq!(
            fs::read(place.path("count")).unwrap(),
            damaged,
            "it was touched"
        );
    }
    fs::write(place.path("count"), &whole).unwrap();
    let other = r#"(module (memory (export "memory") 1) (func (export "on_event")))"#;
    place.write("other.wasm", &wat::parse_str(other).unwrap());
    let said = place.cosmos(&["run", "--state", "count", "other.wasm"], "\n");
    assert_eq!(said.code, Some(125));
    assert!(
        said.err.contains("found that of another module"),
        "{}",
        said.err
    );
    // One that has no events, and one whose memory cannot be seen.
    let none = r#"(module (memory (export "memory") 1) (func (export "_start")))"#;
    place.write("none.wasm", &wat::parse_str(none).unwrap());
    let said = place.cosmos(&["run", "--state", "none", "none.wasm"], "\n");
    assert_eq!(said.code, Some(126));
    assert!(
        said.err.contains("exports a function on_event"),
        "{}",
        said.err
    );
    let said = place.cosmos(&["run", "--state", "none", "true"], "\n");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("is no capsule"), "{}", said.err);
}

#[test]
fn killed_at_any_moment_it_loses_no_event_and_does_none_twice() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    // Each event adds its own number, so that one that is lost or doubled shows in every sum behind it.
    let event = |number: u64| format!("{number}\n");
    let sum = |number: u64| number * (number + 1) / 2;
    let mut acknowledged = 0;
    for life in 0..40 {
        // Begins one before what is acknowledged, as who has not written that down might.
        let first = acknowledged.max(1);
        let asked = [
            "run",
            "--state",
            "count",
            "--first",
            &first.to_string(),
            &counter,
        ];
        let mut child = place.command(&asked).spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let events: String = (first..first + 400).map(event).collect();
        let feeding = std::thread::spawn(move || {
            // It is killed in the midst of it.
            let _ = input.write_all(events.as_bytes());
        });
        let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut hear = |line: String| {
            let (number, said) = line.split_once('\t').expect("an answer");
            let number: u64 = number.parse().unwrap();
            assert_eq!(said, sum(number).to_string(), "in life {life}");
            assert!(
                number <= acknowledged + 1,
                "{number} was answered behind {acknowledged}"
            );
            acknowledged = acknowledged.max(number);
        };
        for _ in 0..life % 4 {
            hear(answers.next().expect("it answers").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it was killed may be cut off.
        for line in answers.map_while(Result::ok) {
            hear(line);
        }
        feeding.join().unwrap();
    }
    assert!(acknowledged > 100, "it never got anywhere: {acknowledged}");
    let last = format!("{}", acknowledged + 1);
    let asked = ["run", "--state", "count", "--first", &last, &counter];
    let said = place.cosmos(&asked, &event(acknowledged + 1));
    assert!(
        said.out
            .ends_with(&format!("\t{}\n", sum(acknowledged + 1))),
        "{said:?}"
    );
}

#[test]
fn two_cannot_live_the_same_life_and_a_rehearsed_life_is_one_whole() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let mut child = place
        .command(&["run", "--state", "count", &counter])
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "1\t1\n");
    let said = place.cosmos(&["run", "--state", "count", &counter], "\n");
    assert_eq!(said.code, Some(125));
    assert!(
        said.err.contains("a capsule that runs has it already"),
        "{}",
        said.err
    );
    drop(input);
    assert!(child.wait().unwrap().success());
    // In one go or in two, its snapshots are the same, and so is what it used in all.
    let run = |state: &str, first: &str, input: &str| {
        let asked = [
            "run",
            "--deterministic",
            "--state",
            state,
            "--first",
            first,
            &counter,
        ];
        let said = place.cosmos(&asked, input);
        assert_eq!(said.code, Some(0), "{}", said.err);
        let words: Vec<_> = said.err.split(' ').collect();
        let at = words
            .iter()
            .position(|word| *word == "units")
            .expect("a note");
        words[at - 1].parse::<u64>().unwrap()
    };
    let whole = run("whole", "1", "\n7\n\n");
    let parts = run("parts", "1", "\n") + run("parts", "2", "7\n\n");
    assert_eq!(whole, parts);
    let again = run("again", "1", "\n7\n\n");
    assert_eq!(whole, again);
    assert_eq!(
        fs::read(place.path("whole")).unwrap(),
        fs::read(place.path("again")).unwrap()
    );
}

/// What was answered over HTTP: status, head and body.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Asks at a port; none if nobody answered.
pub(crate) fn ask(port: u16, method: &str, key: &str, body: &str) -> Option<Heard> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    // A test that would wait for ever fails instead.
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .ok()?;
    let key = match key {
        "" => String::new(),
        key => format!("Idempotency-Key: {key}\r\n"),
    };
    let head = format!(
        "{method} / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{key}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    let _ = stream.write_all(body.as_bytes());
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Heard {
        status: head.split(' ').nth(1)?.parse().ok()?,
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    })
}

#[track_caller]
fn counted(port: u16, key: &str, event: &str, number: u64, count: i64, again: bool) {
    let heard = ask(port, "POST", key, event).expect("it answers");
    assert_eq!(
        (heard.status, heard.body.as_str()),
        (200, format!("{count}\n").as_str()),
        "{heard:?}"
    );
    assert!(
        heard.head.contains(&format!("event-number: {number}\r\n")),
        "{heard:?}"
    );
    assert_eq!(
        heard.head.contains("idempotent-replayed: true"),
        again,
        "{heard:?}"
    );
}

#[test]
fn asked_over_http_it_counts_each_event_once_and_refuses_what_is_none() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let port = free_port();
    let ports = format!("{port}:1");
    let begin = || {
        let asked = ["run", "--state", "kept/count", "--port", &ports, &counter];
        let child = Up(place.command(&asked).spawn().expect("it starts"));
        wait_until("it listens", || ask(port, "GET", "", "").is_some());
        child
    };
    let mut life = begin();
    counted(port, "", "5", 1, 5, false);
    counted(port, "a", "", 2, 6, false);
    counted(port, "a", "", 2, 6, true);
    counted(port, "b", "4", 3, 10, false);
    let heard = ask(port, "GET", "", "").unwrap();
    assert!(heard.body.contains("\"events\":3"), "{heard:?}");
    // A trap is the event's alone.
    let heard = ask(port, "POST", "c", "x").unwrap();
    assert_eq!(heard.status, 500, "{heard:?}");
    assert!(heard.body.contains("was stopped by a trap"), "{heard:?}");
    counted(port, "c", "1", 4, 11, false);
    for (method, key, body, status, says) in [
        ("PUT", "", "1", 405, "found PUT, expected POST"),
        (
            "POST",
            "",
            &*"1".repeat(1 << 20),
            413,
            "expected at most that",
        ),
        (
            "POST",
            &*"k".repeat(129),
            "1",
            400,
            "found an Idempotency-Key of 129 bytes",
        ),
        ("POST", "a", "7", 422, "of event 2, which was another"),
    ] {
        let heard = ask(port, method, key, body).expect("it is refused");
        assert_eq!(heard.status, status, "{heard:?}");
        assert!(heard.body.contains(says), "{heard:?}");
    }
    // Many at once are all counted, each once.
    let many: Vec<_> = (0..40)
        .map(|n| std::thread::spawn(move || ask(port, "POST", &format!("m{}", n / 2), "1")))
        .collect();
    for one in many {
        assert_eq!(one.join().unwrap().expect("it answers").status, 200);
    }
    counted(port, "", "0", 25, 31, false);
    // Whatever end it comes to, it goes on, and knows what it answered.
    life.0.kill().unwrap();
    life.0.wait().unwrap();
    let mut life = begin();
    counted(port, "c", "1", 4, 11, true);
    assert_eq!(ask(port, "POST", "c", "2").unwrap().status, 422);
    counted(port, "", "", 26, 32, false);
    life.signal("-TERM");
    assert_eq!(life.0.wait().unwrap().code(), Some(0));
    // Kept nowhere it is not asked.
    let said = place.cosmos(&["run", "--port", &ports, &counter], "");
    assert_eq!(said.code, Some(125));
    assert!(
        said.err.contains("expected --state FILE, or --detach"),
        "{}",
        said.err
    );
}

#[test]
fn a_node_keeps_what_it_becomes_until_it_is_forgotten() {
    let (place, Some(counter)) = (Place::new(), counter()) else {
        return;
    };
    let port = free_port();
    let ports = format!("{port}:1");
    let run = [
        "run",
        "-d",
        "--name",
        "count",
        "--restart",
        "always",
        "--port",
        &ports,
        &counter,
    ];
    let listens = || wait_until("it listens", || ask(port, "GET", "", "").is_some());
    let (mut node, _) = Up::at(&place);
    assert_eq!(place.cosmos(&run, "").err, "");
    listens();
    counted(port, "a", "5", 1, 5, false);
    node.0.kill().unwrap();
    node.0.wait().unwrap();
    wait_until("it ended with its node", || {
        ask(port, "GET", "", "").is_none()
    });
    let (_node, _) = Up::at(&place);
    listens();
    counted(port, "a", "5", 1, 5, true);
    counted(port, "b", "", 2, 6, false);
    place.ok(&["stop", "count"]);
    place.ok(&["rm", "count"]);
    assert_eq!(place.cosmos(&run, "").err, "");
    listens();
    counted(port, "b", "", 1, 1, false);
}

/// Counts events, stops at many of them by chance, and answers with four digits.
const CHANCE: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (global $count (mut i32) (i32.const 0))
    (func $digit (param $at i32) (param $unit i32)
        (i32.store8 (local.get $at) (i32.add (i32.const 48)
            (i32.rem_u (i32.div_u (global.get $count) (local.get $unit)) (i32.const 10)))))
    (func (export "on_event")
        (global.set $count (i32.add (global.get $count) (i32.const 1)))
        (drop (call $random (i32.const 0) (i32.const 1)))
        (if (i32.lt_u (i32.load8_u (i32.const 0)) (i32.const 100)) (then unreachable))
        (call $digit (i32.const 16) (i32.const 1000))
        (call $digit (i32.const 17) (i32.const 100))
        (call $digit (i32.const 18) (i32.const 10))
        (call $digit (i32.const 19) (i32.const 1))
        (i32.store (i32.const 32) (i32.const 16))
        (i32.store (i32.const 36) (i32.const 4))
        (drop (call $write (i32.const 1) (i32.const 32) (i32.const 1) (i32.const 40)))))"#;

/// Answers with a hundred thousand bytes.
const LONG: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 2)
    (func (export "on_event")
        (i32.store (i32.const 0) (i32.const 16))
        (i32.store (i32.const 4) (i32.const 100000))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

#[test]
fn what_was_answered_with_an_error_did_not_take_place_though_chance_stops_others_too() {
    let place = Place::new();
    place.write("chance.wasm", &wat::parse_str(CHANCE).unwrap());
    let port = free_port();
    let ports = format!("{port}:1");
    let asked = ["run", "--state", "chance", "--port", &ports, "chance.wasm"];
    let _life = Up(place.command(&asked).spawn().expect("it starts"));
    wait_until("it listens", || ask(port, "GET", "", "").is_some());
    let many: Vec<_> = (0..24)
        .map(|_| {
            std::thread::spawn(move || {
                let answers = (0..20).map(|_| ask(port, "POST", "", "").expect("it answers"));
                answers.filter(|heard| heard.status == 200).count()
            })
        })
        .collect();
    let done: usize = many.into_iter().map(|one| one.join().unwrap()).sum();
    assert!((100..400).contains(&done), "{done} of 480");
    let mut last = ask(port, "POST", "", "").expect("it answers");
    while last.status != 200 {
        last = ask(port, "POST", "", "").expect("it answers");
    }
    assert_eq!(last.body, format!("{:04}", done + 1));
}

#[test]
fn what_was_done_is_not_done_again_when_its_answer_is_no_longer_kept() {
    let place = Place::new();
    place.write("long.wasm", &wat::parse_str(LONG).unwrap());
    let port = free_port();
    let ports = format!("{port}:1");
    let asked = ["run", "--state", "long", "--port", &ports, "long.wasm"];
    let _life = Up(place.command(&asked).spawn().expect("it starts"));
    wait_until("it listens", || ask(port, "GET", "", "").is_some());
    for key in ["a", "b", "c", "d", "e"] {
        let heard = ask(port, "POST", key, "").expect("it answers");
        assert_eq!((heard.status, heard.body.len()), (200, 100_000));
    }
    let heard = ask(port, "POST", "e", "").expect("it answers");
    assert_eq!((heard.status, heard.body.len()), (200, 100_000));
    let heard = ask(port, "POST", "a", "").expect("it answers");
    assert_eq!(heard.status, 410, "{heard:?}");
    assert!(heard.body.contains("it was done as event 1;"), "{heard:?}");
    let heard = ask(port, "GET", "", "").expect("it answers");
    assert!(heard.body.contains("\"events\":5"), "{heard:?}");
}
