//! The command as a person or a script meets it: words, streams, exit codes.

use std::fs;
use std::process::{Command, Output};

use tempfile::TempDir;

/// A folder with universes, to call the command in.
fn folder(universes: &[(&str, &str)]) -> TempDir {
    let folder = TempDir::new().expect("a temporary folder");
    fs::create_dir(folder.path().join("universes")).expect("a folder in it");
    for (name, text) in universes {
        fs::write(folder.path().join("universes").join(name), text).expect("a file in it");
    }
    folder
}

fn cosmos(folder: &TempDir, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_cosmos"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the command starts");
    let text = |bytes| String::from_utf8(bytes).expect("the command writes UTF-8");
    (
        output.status.code().expect("no signal ended it"),
        text(output.stdout),
        text(output.stderr),
    )
}

#[test]
fn the_list_says_what_each_universe_is_for() {
    let folder = folder(&[
        ("zz-test-one.toml", "intent = \"Show one.\"\nanything = 1\n"),
        ("zz-test-two.toml", "intent = \n"),
        ("notes.txt", "not a universe"),
    ]);
    let (code, out, err) = cosmos(&folder, &["universes"]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains("zz-test-one  Show one.\n"), "{out}");
    assert!(
        out.contains("zz-test-two  (cannot be read) universes/zz-test-two.toml:1: "),
        "{out}"
    );
    assert!(!out.contains("notes"), "{out}");

    let (code, out, _) = cosmos(&folder, &["universes", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let one = list
        .as_array()
        .expect("a list")
        .iter()
        .find(|one| one["name"] == "zz-test-one");
    let one = one.expect("the first universe");
    assert_eq!(code, 0);
    assert_eq!(one["intent"], "Show one.");
    assert_eq!(one["file"], "universes/zz-test-one.toml");
    assert!(one["problem"].is_null());
}

#[test]
fn a_file_that_is_not_toml_is_refused_with_its_line() {
    let folder = folder(&[("torn.toml", "intent = \"x\"\n[time\nend = \"1 d\"\n")]);
    for asked in ["torn", "universes/torn.toml"] {
        let (code, out, err) = cosmos(&folder, &["twin", "run", asked]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.starts_with("universes/torn.toml:2: "), "{err}");
        assert!(err.contains("2 | [time\n"), "{err}");
        assert!(
            err.ends_with("error: 1 problem, nothing was run\n"),
            "{err}"
        );
    }
    let (code, out, err) = cosmos(&folder, &["twin", "run", "torn", "--json"]);
    let problem: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, err.as_str()), (2, ""));
    assert_eq!(problem["problems"][0]["line"], 2);
}

#[test]
fn a_universe_that_does_not_exist_is_refused_with_the_nearest() {
    let folder = folder(&[("zz-quiet-shell.toml", "intent = \"x\"\n")]);
    for (asked, says) in [
        (
            "zz-quite-shell",
            "error: there is no universe \"zz-quite-shell\"; did you mean \"zz-quiet-shell\"?\n",
        ),
        (
            "something-else-entirely-0123456789",
            "error: there is no universe \"something-else-entirely-0123456789\"; `cosmos universes` lists them\n",
        ),
        ("./no/such.toml", "error: there is no file ./no/such.toml\n"),
    ] {
        let (code, out, err) = cosmos(&folder, &["twin", "run", asked]);
        assert_eq!((code, out.as_str(), err.as_str()), (2, "", says));
    }
}

#[test]
fn wrong_arguments_are_refused_before_anything_is_read() {
    let folder = folder(&[]);
    for (arguments, says) in [
        (&["twin", "run"][..], "<UNIVERSE>"),
        (&["twin", "run", "x", "--threads", "0"], "1..=1024"),
        (&["twin", "run", "x", "--seed", "x"], "--seed"),
        (&["twin", "run", "x", "--set", "a"], "expected KEY=VALUE"),
        (&["twin", "run", "x", "--set", "a=[1"], "is not a value"),
        (&["twin", "sweep", "x"], "--set <KEY=FROM..TO:STEPS>"),
        (
            &["twin", "sweep", "x", "--set", "a=1..2"],
            "expected FROM..TO:STEPS",
        ),
        (
            &["twin", "sweep", "x", "--set", "a=1h..2d:3"],
            "write both in the same unit",
        ),
        (&["orbit"], "unrecognized subcommand"),
        (&[], "Usage: cosmos <COMMAND>"),
    ] {
        let (code, out, err) = cosmos(&folder, arguments);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(err.contains(says), "{arguments:?}: {err}");
    }
}

#[test]
fn help_teaches_with_examples_and_exit_codes() {
    let folder = folder(&[]);
    let (code, out, _) = cosmos(&folder, &["--help"]);
    assert_eq!(code, 0);
    for part in [
        "Examples:",
        "Exit codes:",
        "./universes/NAME.toml",
        "twin sweep",
    ] {
        assert!(out.contains(part), "{part} not in:\n{out}");
    }
}

#[test]
fn nothing_is_coloured_that_no_terminal_shows() {
    let folder = folder(&[]);
    let (_, out, err) = cosmos(&folder, &["twin", "run", "nothing"]);
    assert!(!format!("{out}{err}").contains('\u{1b}'));
}
