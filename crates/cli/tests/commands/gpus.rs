//! GPUs are counted and given whole. The device nodes that are counted are made for the test and lead to nothing (as `/dev/null` does); what counts,
//! gives and hides them is what a machine with real ones runs.

use std::process::Command;

use crate::place::{Place, Up, has, wait_until, walled};
use serde_json::Value;

/// A folder with device nodes of so many GPUs and the one beside them; none if this user may make none.
fn devices(place: &Place, number: u32) -> Option<String> {
    let folder = place.path("devices");
    std::fs::create_dir(&folder).unwrap();
    let names = (0..number).map(|n| format!("nvidia{n}"));
    for name in names.chain(["nvidiactl".to_owned()]) {
        let made = Command::new("mknod")
            .arg(folder.join(name))
            .args(["c", "1", "3"])
            .output();
        if !made.is_ok_and(|made| made.status.success()) {
            return None;
        }
    }
    Some(place.real("devices"))
}

const LOOK: &str = "cd /dev; echo nvidia*; echo $CUDA_VISIBLE_DEVICES; exec sleep 1000";

#[test]
fn whole_gpus_are_given_to_one_program_each_and_no_other_sees_them() {
    let place = Place::new();
    let found = devices(&place, 2);
    if !has("the right to make device nodes", found.is_some()) || !walled() {
        return;
    }
    let folder = found.unwrap();
    let up = ["up", "--http", "off", "--devices", &folder];
    let (node, _) = Up::with_warnings(&mut place.command(&up));
    let status = || -> Value { serde_json::from_str(&place.ok(&["status", "--json"])).unwrap() };
    let free = || (status()["gpus"].as_u64(), status()["gpus_free"].as_u64());
    assert_eq!(free(), (Some(2), Some(2)));
    let run = |name: &str, gpus: &str| {
        place.cosmos(
            &["run", "-d", "--name", name, "--gpu", gpus, "sh", "-c", LOOK],
            "",
        )
    };
    let sees = |name: &str, what: &str| {
        wait_until(&format!("{name} has looked"), || {
            place.ok(&["logs", name]).lines().count() >= 2
        });
        assert_eq!(place.ok(&["logs", name]), what, "{name}");
    };
    assert_eq!(run("first", "1").code, Some(0));
    assert_eq!(run("second", "1").code, Some(0));
    assert_eq!(run("without", "0").code, Some(0));
    sees("first", "nvidia0 nvidiactl\n0\n");
    sees("second", "nvidia1 nvidiactl\n1\n");
    sees("without", "nvidia*\n\n");
    assert_eq!(free(), (Some(2), Some(0)));
    let third = run("third", "1");
    assert_eq!(third.code, Some(2));
    assert_eq!(
        third.err,
        "error: third: found 2 GPUs on this machine, of which 0 are free, expected 1 (--gpu)\n"
    );
    // What is given back is there for the next.
    place.ok(&["stop", "first"]);
    assert_eq!(free(), (Some(2), Some(1)));
    assert_eq!(run("third", "2").code, Some(2));
    assert_eq!(run("fourth", "1").code, Some(0));
    sees("fourth", "nvidia0 nvidiactl\n0\n");
    // A node that starts again gives what runs again as many as it had.
    drop(node);
    let (_again, _) = Up::with_warnings(&mut place.command(&up));
    wait_until("both run again", || {
        ["second", "fourth"]
            .iter()
            .all(|name| place.phase(name) == "running")
    });
    assert_eq!(free(), (Some(2), Some(0)));
}

#[test]
fn where_there_are_too_few_it_is_said_how_many_there_are() {
    let place = Place::new();
    std::fs::create_dir(place.path("devices")).unwrap();
    // What only has such a name is no GPU.
    place.write("devices/nvidia0", b"");
    let folder = place.real("devices");
    let (_up, _) =
        Up::with_warnings(&mut place.command(&["up", "--http", "off", "--devices", &folder]));
    let refused = place.cosmos(&["run", "-d", "--name", "train", "--gpu", "2", "true"], "");
    assert_eq!(refused.code, Some(2));
    assert_eq!(
        refused.err,
        "error: train: found 0 GPUs on this machine, expected 2 (--gpu)\n"
    );
    place.write("train.wasm", b"\0asm\x01\0\0\0");
    let capsule = place.cosmos(&["run", "-d", "--gpu", "1", "./train.wasm"], "");
    assert_eq!(capsule.code, Some(2));
    assert!(
        capsule.err.contains("is a capsule, which sees no devices"),
        "{}",
        capsule.err
    );
    let many = place.cosmos(&["run", "--gpu", "4096", "true"], "");
    assert_eq!(many.code, Some(2));
    assert!(
        many.err.contains("GPUs on this machine") && many.err.contains("expected 4096"),
        "{}",
        many.err
    );
}
