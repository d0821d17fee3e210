//! `cosmos run` of WebAssembly as a person meets it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::place::{Place, Up, has};

impl Place {
    /// A module given as text.
    fn module(&self, name: &str, text: &str) {
        self.write(name, &wat::parse_str(text).expect("valid text"));
    }

    fn cached(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("data/code")).expect("a cache");
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

/// Exits with the code that its one word is, in the first digit.
const EXIT: &str = r#"(module
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $args (i32.const 0) (i32.const 64)))
    (call $exit (i32.sub (i32.load8_u (i32.load (i32.const 4))) (i32.const 48)))))"#;

const ENDLESS: &str = r#"(module (func (export "_start") (loop (br 0))))"#;

/// Grows by a mebibyte at a time, and gives itself up when it may not.
const HUNGRY: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "_start")
    (loop
      (br_if 0 (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
    unreachable))"#;

/// Says sixteen bytes of chance, as letters from `a` to `p`.
const CHANCE: &str = r#"(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start") (local $at i32)
    (drop (call $random (i32.const 64) (i32.const 16)))
    (loop
      (i32.store8 offset=64 (local.get $at)
        (i32.add (i32.const 97) (i32.and (i32.const 15) (i32.load8_u offset=64 (local.get $at)))))
      (br_if 0 (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 1))) (i32.const 16))))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 16))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

#[test]
fn capsules_of_one_node_have_chance_of_their_own() {
    let place = Place::new();
    place.module("chance.wasm", CHANCE);
    let (_up, _) = Up::at(&place);
    let names = ["one", "two", "three", "four"];
    let said = names.map(|name| {
        place.ok(&[
            "run",
            "-d",
            "--restart",
            "never",
            "--name",
            name,
            "chance.wasm",
        ]);
        place.ok(&["wait", name]);
        place.ok(&["logs", name])
    });
    for (number, one) in said.iter().enumerate() {
        assert_eq!(one.len(), 16, "{one}");
        assert!(!said[..number].contains(one), "{said:?}");
    }
}

#[test]
fn a_module_ends_with_its_own_exit_code() {
    let place = Place::new();
    place.module("exit.wasm", EXIT);
    for code in ["0", "7"] {
        let said = place.cosmos(&["run", "exit.wasm", code], "");
        assert_eq!(said.code, code.parse().ok(), "{}", said.err);
        assert_eq!((said.out.as_str(), said.err.as_str()), ("", ""));
    }
}

#[test]
fn a_limit_that_is_reached_is_named() {
    let place = Place::new();
    place.module("endless.wasm", ENDLESS);
    place.module("hungry.wasm", HUNGRY);
    let said = place.cosmos(&["run", "--fuel", "100000", "endless.wasm"], "");
    assert_eq!(said.code, Some(137));
    assert_eq!(
        said.err,
        "error: endless.wasm was stopped: it has used its 100000 units of fuel (--fuel)\n"
    );
    let said = place.cosmos(&["run", "--mem", "3MiB", "hungry.wasm"], "");
    assert_eq!(said.code, Some(137));
    // A page of 64 KiB, and three times a mebibyte.
    assert_eq!(
        said.err,
        "error: hungry.wasm was stopped: it asked for 3211264 bytes of memory, its limit is 3145728 (--mem)\n"
    );
}

#[test]
fn a_capsule_may_live_with_being_refused_memory() {
    let place = Place::new();
    let modest = r#"(module
      (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
      (memory (export "memory") 1)
      (func (export "_start")
        (loop
          (br_if 0 (i32.ge_s (memory.grow (i32.const 16)) (i32.const 0))))
        (call $exit (memory.size))))"#;
    place.module("modest.wasm", modest);
    // One page of 64 KiB and twice a mebibyte; the third would be too much.
    let said = place.cosmos(&["run", "--mem", "3MiB", "modest.wasm"], "");
    assert_eq!((said.code, said.err.as_str()), (Some(33), ""));
}

#[test]
fn what_cannot_run_is_told_from_what_ended_badly() {
    let place = Place::new();
    place.module(
        "trap.wasm",
        r#"(module (func (export "_start") unreachable))"#,
    );
    place.module("library.wasm", r#"(module (func (export "add")))"#);
    place.module(
        "foreign.wasm",
        r#"(module (import "env" "f" (func)) (func (export "_start")))"#,
    );
    place.write("broken.wasm", b"\0asm\x01\0\0\0\xff\xff");
    place.write("text.wasm", b"hello");
    for (asked, code, says) in [
        (&["trap.wasm"][..], 134, "stopped by a trap"),
        (&["library.wasm"], 126, "_start"),
        (&["foreign.wasm"], 126, "`env::f`"),
        (&["broken.wasm"], 126, "is no valid WebAssembly"),
        (&["text.wasm"], 126, "a file without permission to execute"),
        (&["absent.wasm"], 127, "there is no program \"absent.wasm\""),
        (
            &["--dir", "nowhere", "trap.wasm"],
            2,
            "found no folder nowhere",
        ),
        (&["--mem", "3", "trap.wasm"], 2, "expected a size"),
        (&["--env", "X", "trap.wasm"], 2, "expected KEY=VALUE"),
        (
            &["--portt", "1", "trap.wasm"],
            2,
            "unexpected argument '--portt'",
        ),
    ] {
        let said = place.cosmos(&[&["run"], asked].concat(), "");
        assert_eq!(said.code, Some(code), "{asked:?}: {}", said.err);
        assert!(said.err.contains(says), "{asked:?}: {}", said.err);
    }
}

#[test]
fn compiled_code_is_kept_and_a_damaged_copy_is_seen_and_replaced() {
    let place = Place::new();
    place.module("exit.wasm", EXIT);
    let run = || place.cosmos(&["run", "exit.wasm", "3"], "");
    assert_eq!(run().code, Some(3));
    let [entry] = place.cached().try_into().expect("one entry");
    let whole = fs::read(&entry).unwrap();
    let touched = fs::metadata(&entry).unwrap().modified().unwrap();
    assert_eq!((run().code, run().err.as_str()), (Some(3), ""));
    let still = fs::metadata(&entry).unwrap().modified().unwrap();
    assert_eq!(touched, still, "compiled again");
    let mut damaged = whole.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x10;
    fs::write(&entry, damaged).unwrap();
    let said = run();
    assert_eq!(said.code, Some(3));
    assert!(
        said.err.contains("was damaged; it was compiled anew"),
        "{}",
        said.err
    );
    assert_eq!(fs::read(&entry).unwrap(), whole);
    assert_eq!(run().err, "");
    // Metered code is other code.
    assert_eq!(
        place
            .cosmos(&["run", "--fuel", "9999", "exit.wasm", "3"], "")
            .code,
        Some(3)
    );
    assert_eq!(place.cached().len(), 2);
}

/// One example, as a word of a command.
pub(crate) fn example(name: &str, target: &str) -> Option<String> {
    let file = examples(target)?.join(name).with_extension("wasm");
    Some(file.display().to_string())
}

/// The examples, built for a target; `None`, said aloud, where its compiler is missing. A build
/// server has run `cargo xtask setup`, so there that is a failure.
fn examples(target: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let libraries = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", target])
        .current_dir(&root)
        .output()
        .expect("rustc answers");
    let folder = String::from_utf8(libraries.stdout).expect("UTF-8");
    if !Path::new(folder.trim()).exists() {
        let missing =
            format!("the target {target} is not installed; cargo xtask setup installs it");
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    let without = match target {
        "wasm32-wasip1" => "http",
        _ => "counter",
    };
    let built = Command::new("cargo")
        .args(["build", "--quiet", "--locked", "--offline", "--release"])
        .args(["--manifest-path", "examples/Cargo.toml", "--target", target])
        .args(["--workspace", "--exclude", without])
        .args(["--target-dir", "examples/target"])
        .current_dir(&root)
        .status()
        .expect("cargo starts");
    assert!(built.success());
    Some(root.join("examples/target").join(target).join("release"))
}

/// Modules of WASI preview 1 and components of preview 2.
const TARGETS: [&str; 2] = ["wasm32-wasip1", "wasm32-wasip2"];

#[test]
fn a_greeting_has_words_and_environment() {
    let place = Place::new();
    for target in TARGETS {
        let Some(folder) = examples(target) else {
            return;
        };
        let greeting = folder.join("greeting.wasm").display().to_string();
        let said = place.cosmos(
            &["run", "--env", "GREETING=Moin", &greeting, "Ada", "--json"],
            "",
        );
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert_eq!(said.out, "Moin, Ada!\nMoin, --json!\n");
        // What is in the environment of the command is not in that of the capsule.
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        let output = command
            .args(["run", "--data", "data", &greeting])
            .current_dir(place.0.path())
            .env("GREETING", "Leaked")
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), "Hello, world!\n");
    }
}

#[test]
fn words_are_counted_in_what_is_given_to_read_and_in_folders_that_were_promised() {
    let place = Place::new();
    fs::create_dir(place.0.path().join("texts")).unwrap();
    place.write("texts/two.txt", b"one two\nthree\n");
    place.write("secret.txt", b"not yours\n");
    for target in TARGETS {
        let Some(folder) = examples(target) else {
            return;
        };
        let count = folder.join("wordcount.wasm").display().to_string();
        let said = place.cosmos(&["run", &count], "a b c\nd\n");
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), "2 4 8 -\n"),
            "{}",
            said.err
        );
        let asked = ["run", "--dir", "texts", &count, "texts/two.txt"];
        let said = place.cosmos(&asked, "");
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), "2 3 14 texts/two.txt\n")
        );
        let said = place.cosmos(&["run", "--dir", "texts:/in", &count, "/in/two.txt"], "");
        assert_eq!(
            (said.code, said.out.as_str()),
            (Some(0), "2 3 14 /in/two.txt\n")
        );
        // Neither a folder that was not promised, nor one above it.
        for secret in ["secret.txt", "texts/../secret.txt", "/etc/passwd"] {
            let said = place.cosmos(&["run", "--dir", "texts", &count, secret], "");
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{secret}");
            assert!(said.err.starts_with("wordcount: "), "{}", said.err);
        }
    }
}

#[test]
fn a_rehearsed_capsule_does_the_same_for_the_same_seed() {
    let place = Place::new();
    for target in TARGETS {
        let Some(dice) = example("dice", target) else {
            return;
        };
        let throw = |seed: &str| {
            let asked = ["run", "--deterministic", "--seed", seed, &dice, "20"];
            let said = place.cosmos(&asked, "");
            assert_eq!(said.code, Some(0), "{}", said.err);
            (said.out, said.err)
        };
        let first = throw("7");
        assert_eq!(first, throw("7"));
        let (out, err) = first;
        assert_ne!(out, throw("8").0);
        // Its own time began at 0 and it slept twenty times for 10 ms; looking took the rest.
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[19].contains(" after 2000"), "{}", lines[19]);
        assert!(lines[20].starts_with("at 2000"), "{}", lines[20]);
        assert_eq!(lines[21], "7ff8000000000000");
        assert!(
            err.starts_with("note: ") && err.contains(" units of fuel and 2000"),
            "{err}"
        );
        // Without it, chance is chance.
        let chance = [0; 2].map(|_| place.cosmos(&["run", &dice, "20"], "").out);
        assert_ne!(chance[0], chance[1]);
    }
}

#[test]
fn what_cannot_be_repeated_is_refused_in_a_rehearsal_and_input_is_read_first() {
    let place = Place::new();
    place.module("exit.wasm", EXIT);
    fs::create_dir(place.path("texts")).unwrap();
    for (asked, says) in [
        (
            &["--deterministic", "--dir", "texts", "exit.wasm"][..],
            "cannot be used with",
        ),
        (&["--seed", "3", "exit.wasm"], "--deterministic"),
        (
            &["--deterministic", "true"],
            "its time and chance are the host's",
        ),
    ] {
        let said = place.cosmos(&[&["run"], asked].concat(), "");
        assert_eq!(said.code, Some(2), "{asked:?}: {}", said.err);
        assert!(said.err.contains(says), "{asked:?}: {}", said.err);
    }
    place.write(
        "app.toml",
        b"program = \"./exit.wasm\"\ndeterministic = true\ndirs = [\"texts\"]\n",
    );
    let said = place.cosmos(&["run", "-f", "app.toml"], "");
    assert!(said.err.contains("what lies in a folder"), "{}", said.err);
    for target in TARGETS {
        let Some(count) = example("wordcount", target) else {
            return;
        };
        let asked = ["run", "--deterministic", &count];
        let said = [0; 2].map(|_| place.cosmos(&asked, "a b c\nd\n"));
        assert_eq!(said[0].out, "2 4 8 -\n", "{}", said[0].err);
        assert_eq!(said[0].err, said[1].err);
    }
}

#[test]
fn a_component_may_be_written_in_c() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let clang = Command::new("clang").arg("--version").output().is_ok();
    if !has("clang", clang) || examples("wasm32-wasip2").is_none() {
        return;
    }
    let place = Place::new();
    let built = Command::new("sh")
        .args([
            "examples/total/build.sh",
            &place.path("total.wasm").display().to_string(),
        ])
        .current_dir(root)
        .status();
    assert!(built.expect("a shell").success());
    // A component, not a module.
    assert_eq!(
        fs::read(place.path("total.wasm")).unwrap()[4..8],
        [0x0d, 0, 1, 0]
    );
    let said = place.cosmos(&["run", "total.wasm", "sum"], "1\n20\n-300\n");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(0), "sum: -279\n"),
        "{}",
        said.err
    );
    let said = place.cosmos(&["run", "total.wasm"], "");
    assert_eq!(
        (said.code, said.out.as_str()),
        (Some(1), "total: 0\n"),
        "{}",
        said.err
    );
}
