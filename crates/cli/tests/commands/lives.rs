//! Capsules that live from event to event, through every end.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};

use crate::capsules::example;
use crate::place::Place;

fn counter() -> Option<String> {
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
