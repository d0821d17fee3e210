//! A process that waits for the next capsule: it is what that capsule is run in, once, and it outlives nobody.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::hostile::{children, is_root, is_there};
use crate::place::{Place, Up, wait_until};

/// Says `well`, and then sleeps for a thousand seconds.
const SLEEPER: &str = r#"(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (data (i32.const 512) "well\n")
  (func (export "_start")
    (i32.store (i32.const 256) (i32.const 512))
    (i32.store (i32.const 260) (i32.const 5))
    (drop (call $write (i32.const 1) (i32.const 256) (i32.const 1) (i32.const 264)))
    (i32.store offset=16 (i32.const 0) (i32.const 1))
    (i64.store offset=24 (i32.const 0) (i64.const 1000000000000))
    (drop (call $poll (i32.const 0) (i32.const 64) (i32.const 1) (i32.const 128)))))"#;

fn sends(signal: &str, process: u32) {
    let process = process.to_string();
    let sent = Command::new("kill").args([signal, &process]).status();
    assert!(sent.unwrap().success());
}

/// What a process has open.
fn held(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/fd"));
    let entries = entries.unwrap().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.display().to_string()).collect()
}

/// Whether a process has ended, also if nobody has waited for it yet.
fn is_over(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    matches!(state, None | Some(b'Z' | b'X'))
}

/// A node that runs capsules.
struct Spared<'a> {
    place: &'a Place,
    node: u32,
    stem: u32,
}

impl<'a> Spared<'a> {
    fn of(place: &'a Place, up: &Up) -> Self {
        place.write("sleeper.wasm", &wat::parse_str(SLEEPER).unwrap());
        let node = up.0.id();
        let [stem] = children(node)[..] else {
            panic!("{:?}", children(node));
        };
        Self { place, node, stem }
    }

    /// Starts one that sleeps: its process.
    fn sleeps(&self, name: &str, more: &[&str]) -> u32 {
        let words = ["run", "-d", "--name", name];
        let words = words.iter().chain(more).copied();
        let words: Vec<_> = words.chain(["sleeper.wasm"]).collect();
        self.place.ok(&words);
        wait_until("it has spoken", || {
            self.place.ok(&["logs", name]) == "well\n"
        });
        let program = self.place.program(name);
        assert_eq!(
            (&program["phase"], &program["starts"]),
            (&"running".into(), &1.into())
        );
        program["process"].as_u64().unwrap().try_into().unwrap()
    }

    /// The process that waits for the next one, besides these.
    fn spare(&self, known: &[u32]) -> u32 {
        let others = || -> Vec<u32> {
            let mut others = children(self.node);
            others.retain(|one| !known.contains(one) && *one != self.stem && !is_over(*one));
            others
        };
        wait_until("there is a spare", || others().len() == 1);
        others()[0]
    }
}

#[test]
fn a_capsule_is_started_in_a_process_that_waited_for_it_and_for_nobody_else() {
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let spared = Spared::of(&place, &up);
    let one = spared.sleeps("one", &[]);
    let spare = spared.spare(&[one]);
    let two = spared.sleeps("two", &[]);
    assert_eq!(two, spare, "it was used");
    let next = spared.spare(&[one, two]);
    // What it was ordered by is closed with the order, and nobody has the line to the stem.
    let lines = |process| -> Vec<String> {
        let held = held(process).into_iter();
        held.filter(|link| link.starts_with("socket:") || link.contains("pidfd"))
            .collect()
    };
    assert_eq!(lines(two), Vec::<String>::new());
    let (of_stem, of_next) = (lines(spared.stem), lines(next));
    assert_eq!(
        (of_stem.len(), of_next.len()),
        (1, 2),
        "{of_stem:?} {of_next:?}"
    );
    assert!(!of_next.contains(&of_stem[0]), "{of_next:?}");
    // Each has groups of its own, with every thread.
    let groups = |process: u32| {
        let threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
        let groups = threads
            .map(|thread| fs::read_to_string(thread.unwrap().path().join("cgroup")).unwrap());
        let mut groups: Vec<_> = groups.collect();
        assert!(groups.len() > 1, "one more waits in WASI");
        groups.dedup();
        assert_eq!(groups.len(), 1, "{groups:?}");
        groups.remove(0)
    };
    let all = [two, next].map(groups);
    let status: serde_json::Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    if status["limits"]["processes"]
        .as_str()
        .unwrap()
        .starts_with("cgroup")
    {
        assert!(all[0].contains("cosmos-"), "{all:?}");
        assert_ne!(all[0], all[1]);
    }
    // Who wants more than its groups give has others.
    let heavy = spared.sleeps("heavy", &["--class", "A"]);
    assert_ne!(heavy, next);
    // One that was killed meanwhile is missed by nobody, and its number is not kept.
    sends("-9", next);
    let three = spared.sleeps("three", &[]);
    assert_ne!(three, next);
    assert!(!is_there(next), "it is waited for");
}

#[test]
fn a_spare_ends_with_the_stem_and_with_the_node() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    let spared = Spared::of(&place, &up);
    let one = spared.sleeps("one", &[]);
    let spare = spared.spare(&[one]);
    sends("-9", spared.stem);
    wait_until("it has ended with the stem", || is_over(spare));
    assert!(!is_over(one));
    let two = spared.sleeps("two", &[]);
    assert_ne!(two, spare);
    assert!(!is_there(spare), "it is waited for");
    let mut all = children(spared.node);
    wait_until("there are a stem and a spare again", || {
        all = children(spared.node);
        all.len() == 4
    });
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    wait_until("all of it is over", || {
        !all.iter().any(|process| is_there(*process))
    });
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_spare_is_thrown_away_when_the_host_changes() {
    if !is_root() {
        eprintln!("skipped: nobody here may change the host");
        return;
    }
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let spared = Spared::of(&place, &up);
    let one = spared.sleeps("one", &[]);
    let spare = spared.spare(&[one]);
    // What is made there may be a secret.
    let file = Removed(format!("/etc/cosmos-spare-{}", spared.node).into());
    fs::write(&file.0, "").unwrap();
    let two = spared.sleeps("two", &[]);
    assert_ne!(two, spare);
    assert!(!is_there(spare) && !is_there(spared.stem));
}
