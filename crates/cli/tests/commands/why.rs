//! `cosmos why` and `cosmos twin whatif` as a person meets them: output, errors and exit codes.

use std::path::Path;
use std::process::Command;

use crate::place::Said;
use serde_json::Value;
use tempfile::TempDir;

/// In a folder that holds one run, `runs/why-seed1`.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().expect("a temporary folder"));
        let universes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes");
        let lists = universes.join("why").display().to_string();
        let done = place.cosmos(&["twin", "replay", "why", "--trace", &lists, "--quiet"]);
        assert_eq!((done.code, done.err.as_str()), (Some(0), ""));
        place
    }

    fn cosmos(&self, arguments: &[&str]) -> Said {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        let output = command.args(arguments).current_dir(self.0.path()).output();
        Said::of(output.expect("the command starts"))
    }
}

//= requirements S7
#[test]
fn why_takes_the_newest_run_and_answers_in_words_or_json() {
    let place = Place::new();
    let words = place.cosmos(&["why", "train-8", "--at", "2h"]);
    assert_eq!(words.code, Some(0), "{}", words.err);
    assert!(
        words.err.starts_with("run: runs/why-seed1"),
        "{}",
        words.err
    );
    assert!(
        words.out.contains("with 4 instead of 8 GPUs: now"),
        "{}",
        words.out
    );
    let json = place.cosmos(&["why", "#43", "--run", "runs/why-seed1", "--json", "--quiet"]);
    assert_eq!((json.code, json.err.as_str()), (Some(0), ""));
    let json: Value = serde_json::from_str(&json.out).expect("JSON");
    assert_eq!(json["job"]["name"], "detect-b");
    let keys = [
        "at_seconds",
        "explanations",
        "job",
        "life",
        "note",
        "run",
        "waits",
    ];
    let has: Vec<_> = json.as_object().expect("an object").keys().collect();
    assert_eq!(has, keys);
}

#[test]
fn whatif_shows_both_futures_and_can_leave_them_in_a_folder() {
    let place = Place::new();
    let ask = |more: &[&str]| {
        let asked = [
            "twin",
            "whatif",
            "runs/why-seed1",
            "--at",
            "2h 21min",
            "--quiet",
        ];
        place.cosmos(&[&asked[..], more].concat())
    };
    let done = ask(&["--ceiling", "vision=5", "--out", "higher"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(
        done.out
            .contains("Jobs that start at another time: 1 earlier.\n"),
        "{}",
        done.out
    );
    let kept = std::fs::read_to_string(place.0.path().join("higher/whatif.json")).expect("a file");
    let kept: Value = serde_json::from_str(&kept).expect("JSON");
    assert_eq!(kept["start_earlier"], 1);
    let again = ask(&["--ceiling", "vision=5", "--out", "higher"]);
    assert_eq!(again.code, Some(2));
    assert!(again.err.contains("higher already exists"), "{}", again.err);
    for (wrong, said) in [
        (&["--remove-node", "h1000"][..], "found node \"h1000\""),
        (&["--quota", "vision"], "expected a name and a number"),
        (
            &["--loop-capacity", "0=150%"],
            "expected a share from 0 to 1",
        ),
        (&["--submit", "gpus=8"], "how long it runs is missing"),
        (
            &["--neighbour", "0%"],
            "nobody else draws on this run's plant",
        ),
        (&[], "nothing to change"),
    ] {
        let answer = ask(wrong);
        assert_eq!(answer.code, Some(2), "{wrong:?}");
        assert!(answer.err.contains(said), "{wrong:?}: {}", answer.err);
    }
}

#[test]
fn a_question_without_an_answer_ends_with_2_and_says_what_was_expected() {
    let place = Place::new();
    for (asked, said) in [
        (&["why", "trian-8"][..], "did you mean train-8"),
        (&["why", "train-8", "--at", "17h"], "the run ends at 16 h"),
        (
            &["why", "train-8", "--at", "soon"],
            "expected a time, such as 14h",
        ),
        (
            &["why", "train-8", "--run", "nowhere"],
            "nowhere is no run: it holds no history.db",
        ),
        (
            &["twin", "whatif", "nowhere", "--at", "1h"],
            "nowhere is no run: it holds no history.db",
        ),
    ] {
        let answer = place.cosmos(asked);
        assert_eq!(answer.code, Some(2), "{asked:?}");
        assert!(answer.err.contains(said), "{asked:?}: {}", answer.err);
    }
    let json = place.cosmos(&["why", "trian-8", "--json", "-q"]);
    assert_eq!(json.out, "");
    let json: Value = serde_json::from_str(&json.err).expect("JSON");
    assert!(
        json["error"]
            .as_str()
            .is_some_and(|e| e.contains("trian-8"))
    );
}
