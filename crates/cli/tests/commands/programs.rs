//! `cosmos run` of programs of this host: their ends, their limits, and what they can see.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use crate::place::{Place, processes, unheard_of, wait_until, walled};

/// A number that nobody else sleeps for.
#[test]
fn a_program_has_our_streams_and_we_end_as_it_does() {
    let place = Place::new();
    let said = place.cosmos(&["run", "cat"], "to and fro");
    assert_eq!(
        (said.code, said.out.as_str(), said.err.as_str()),
        (Some(0), "to and fro", "")
    );
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let said = place.cosmos(&["run", "sh", "-c", script], "");
        assert_eq!(said.code, Some(code), "{script}: {}", said.err);
    }
    let said = place.cosmos(&["run", "no-such-program"], "");
    assert_eq!(said.code, Some(127));
    assert_eq!(
        said.err,
        "error: there is no program \"no-such-program\": found no such file in the folders of PATH\n"
    );
    // Words after the program are its own.
    let said = place.cosmos(&["run", "echo", "--json", "-n", "--env"], "");
    assert_eq!(said.out, "--json -n --env\n");
}

#[test]
fn a_program_has_the_environment_it_was_promised() {
    let place = Place::new();
    let output = place
        .command(&["run", "--env", "PROMISED=yes", "env"])
        .env("SECRET", "no")
        .output();
    let out = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(out.lines().any(|line| line == "PROMISED=yes"), "{out}");
    assert!(out.lines().any(|line| line.starts_with("PATH=")), "{out}");
    assert!(
        !out.contains("SECRET") && !out.contains("COSMOS_DATA"),
        "{out}"
    );
}

#[test]
fn signals_reach_the_program() {
    let place = Place::new();
    for (signal, code) in [("TERM", 40), ("INT", 41), ("HUP", 42), ("USR1", 43)] {
        let script =
            format!("trap 'exit {code}' {signal}; echo ready; while :; do sleep 0.05; done");
        let mut child = place.ready(&["run", "sh", "-c", &script]);
        let pid = child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status();
        assert!(sent.unwrap().success());
        assert_eq!(child.wait().unwrap().code(), Some(code), "{signal}");
    }
}

#[test]
fn nothing_outlives_its_program_nor_whoever_ran_it() {
    let place = Place::new();
    // A daemon as daemons are made: its own session, its streams elsewhere.
    let left = unheard_of(1);
    let script = format!("setsid sleep {left} </dev/null >/dev/null 2>&1 & sleep 0.2; exit 3");
    let said = place.cosmos(&["run", "sh", "-c", &script], "");
    assert_eq!(said.code, Some(3), "{}", said.err);
    wait_until("what it left behind is gone", || {
        processes(&format!("sleep {left}")).is_empty()
    });

    let left = unheard_of(2);
    let script = format!("setsid sleep {left} </dev/null >/dev/null 2>&1 & echo ready; wait");
    let mut child = place.ready(&["run", "sh", "-c", &script]);
    wait_until("it runs", || {
        !processes(&format!("sleep {left}")).is_empty()
    });
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("all of it is gone", || processes(&left).is_empty());
}

#[test]
fn a_program_sees_what_it_was_promised_and_nothing_else() {
    if !walled() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("shared")).unwrap();
    fs::create_dir(place.path("data")).unwrap();
    place.write("shared/ours.txt", b"ours");
    place.write("secret.txt", b"secret");
    let sh = |script: &str| {
        let said = place.cosmos(&["run", "--dir", "shared", "sh", "-c", script], "");
        (said.code, said.out.trim().to_owned(), said.err)
    };
    let at = |name: &str| {
        place
            .path(name)
            .canonicalize()
            .unwrap()
            .display()
            .to_string()
    };
    assert_eq!(sh(&format!("cat {}", at("shared/ours.txt"))).1, "ours");
    assert_eq!(
        sh(&format!("echo theirs > {}/new.txt", at("shared"))).0,
        Some(0)
    );
    assert_eq!(
        fs::read_to_string(place.path("shared/new.txt")).unwrap(),
        "theirs\n"
    );
    assert_ne!(sh(&format!("cat {}", at("secret.txt"))).0, Some(0));
    assert_ne!(
        sh(&format!("ls {}", at("data"))).0,
        Some(0),
        "the node's directory"
    );
    for folder in ["/usr", "/etc", "/bin", "/", "/dev"] {
        let (code, _, err) = sh(&format!("echo x > {folder}/cosmos-was-here"));
        assert_ne!(code, Some(0), "{folder}");
        assert!(err.contains("cosmos-was-here"), "{err}");
    }
    // Its /tmp is empty but for the way to what is shared, and its own.
    assert_eq!(sh("echo mine > /tmp/x && cat /tmp/x").1, "mine");
    assert!(!fs::exists("/tmp/x").unwrap() || fs::read_to_string("/tmp/x").unwrap() != "mine\n");
    // Process 1 is its warden; of the host's there is none.
    let (_, out, _) = sh("ls /proc | grep -c '^[0-9]'");
    assert!(out.parse::<u32>().unwrap() < 8, "{out} processes");
    let status = sh("cat /proc/self/status").1;
    for line in [
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line} in {status}");
    }
    for forbidden in [
        "unshare -U true",
        "unshare -m true",
        "mount -t tmpfs x /tmp",
        "hostname other",
    ] {
        assert_ne!(sh(forbidden).0, Some(0), "{forbidden}");
    }
}

#[test]
fn memory_is_limited_and_who_wants_more_ends() {
    let place = Place::new();
    // `tail` keeps the last line, and there is only one.
    let hungry = "head -c 300000000 /dev/zero | tail -n 1 | wc -c";
    let said = place.cosmos(&["run", "sh", "-c", hungry], "");
    assert_eq!(
        (said.code, said.out.trim()),
        (Some(0), "300000000"),
        "{}",
        said.err
    );
    let said = place.cosmos(&["run", "--mem", "64MiB", "sh", "-c", hungry], "");
    assert_ne!(said.out.trim(), "300000000", "{}", said.err);
    // Killed by the kernel and told by us, or refused by the kernel and told by itself.
    let told = said
        .err
        .contains("its limit of 67108864 bytes of memory (--mem)");
    assert!(
        told || said.err.contains("memory exhausted"),
        "{}",
        said.err
    );
}

#[test]
fn the_kernel_is_told_the_limits_where_it_keeps_them() {
    let place = Place::new();
    let asked = [
        "run",
        "--cpu",
        "0.2",
        "--mem",
        "64MiB",
        "sh",
        "-c",
        "echo ready; read wait",
    ];
    let mut child = place.ready(&asked);
    let group = format!("cosmos-{}-run", child.id());
    let mut found = Vec::new();
    let mut folders = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().unwrap().is_dir() {
                match entry.file_name().to_str() == Some(group.as_str()) {
                    true => found.push(entry.path()),
                    false => folders.push(entry.path()),
                }
            }
        }
    }
    let set = |name: &str| {
        found
            .iter()
            .find_map(|at| fs::read_to_string(at.join(name)).ok())
    };
    let or = |one: &str, other: &str| set(one).or(set(other)).map(|text| text.trim().to_owned());
    if found.is_empty() {
        eprintln!("skipped: this host lets nobody make control groups here");
    } else {
        assert!(matches!(
            or("cpu.max", "cpu.cfs_quota_us").as_deref(),
            Some("20000 100000" | "20000")
        ));
        assert_eq!(
            or("memory.max", "memory.limit_in_bytes").as_deref(),
            Some("67108864")
        );
        assert_eq!(set("pids.max").as_deref(), Some("4096\n"));
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    assert!(
        found.iter().all(|at| !at.exists()),
        "groups are left: {found:?}"
    );
}

#[test]
fn whoever_is_not_root_has_the_same_walls() {
    if !walled() {
        return;
    }
    let place = Place::new();
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let script = "id -u; ls /proc | grep -c '^[0-9]'; grep CapEff /proc/self/status; touch /usr/x";
    let mut command = place.command(&["run", "sh", "-c", script]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.uid(65534).gid(65534);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: nobody cannot execute the command here: {error}");
            return;
        }
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let lines: Vec<_> = out.lines().collect();
    let [user, processes, capabilities] = lines[..] else {
        panic!("{out}{err}");
    };
    assert_ne!(user, "0");
    assert!(
        processes.parse::<u32>().unwrap() < 8,
        "{processes} processes"
    );
    assert_eq!(capabilities, "CapEff:\t0000000000000000");
    assert!(err.contains("/usr/x"), "{err}");
}

#[test]
fn where_namespaces_are_refused_a_reaper_stands_in_and_says_so() {
    let place = Place::new();
    let left = unheard_of(3);
    let cosmos = env!("CARGO_BIN_EXE_cosmos");
    let inside = format!(
        "echo 0 > /proc/sys/user/max_user_namespaces || exit 99
         exec '{cosmos}' run sh -c 'setsid sleep {left} </dev/null >/dev/null 2>&1 & sleep 0.2; exit 4'"
    );
    let mut command = place.command(&[]);
    let mut unshare = Command::new("unshare");
    unshare
        .args(["-Ur", "sh", "-c", &inside])
        .current_dir(place.0.path());
    unshare.envs(
        command
            .env("X", "")
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?))),
    );
    let output = unshare.stdin(Stdio::null()).output();
    let output = match output {
        Ok(output) if output.status.code() != Some(99) => output,
        _ => {
            eprintln!("skipped: namespaces cannot be forbidden here");
            return;
        }
    };
    let err = String::from_utf8_lossy(&output.stderr);
    if err.contains("unshare failed") {
        eprintln!("skipped: this host gives programs no namespaces");
        return;
    }
    assert_eq!(output.status.code(), Some(4), "{err}");
    assert!(
        err.contains("note: sh has no namespaces of its own"),
        "{err}"
    );
    wait_until("what it left behind is gone", || {
        processes(&format!("sleep {left}")).is_empty()
    });
}

#[test]
fn a_program_that_writes_without_end_is_ended_by_whoever_closes_the_pipe() {
    let place = Place::new();
    let mut child = place.command(&["run", "yes"]).spawn().unwrap();
    let mut few = [0; 4];
    child.stdout.take().unwrap().read_exact(&mut few).unwrap();
    assert_eq!(&few, b"y\ny\n");
    // 128 + SIGPIPE, or what `yes` makes of it.
    let code = child.wait().unwrap().code().unwrap();
    assert!(code == 141 || code == 1, "{code}");
}
