//! What programs, disks and strangers do to a node, and to whom it matters: to nobody but themselves.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::place::{Place, Up, has, processes, wait_until, walled};
use serde_json::Value;

const PYTHON: &str = "/usr/bin/python3";

pub(crate) fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().expect("id");
    output.stdout == b"0\n"
}

impl Place {
    fn segment(&self) -> PathBuf {
        let entries = fs::read_dir(self.path("data/annals")).unwrap().flatten();
        let segments = entries.map(|entry| entry.path());
        let segments = segments.filter(|path| path.extension().is_some_and(|e| e == "segment"));
        segments.max().expect("a segment")
    }
}

#[test]
fn nobody_sees_the_nodes_directory_whatever_folder_they_were_given() {
    if !walled() {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    place.write("ours.txt", b"ours");
    symlink(".", place.path("link")).unwrap();
    let here = place.real(".");
    // By its name, by another, from above, and from where it cannot be opened but by changing its mode.
    for folder in [".", "link", &here, &format!("{here}:/srv/here")] {
        let script = format!(
            "cat {here}/ours.txt && chmod 777 {here}/data; ls {here}/data; cat {here}/data/annals/*"
        );
        let said = place.cosmos(&["run", "--dir", folder, "sh", "-c", &script], "");
        assert!(said.out.starts_with("ours"), "{folder}: {said:?}");
        assert_ne!(said.code, Some(0));
        for ours in ["annals", "control.sock", "lock", "logs"] {
            assert!(!said.out.contains(ours), "{folder}: {}", said.out);
        }
    }
    let temporary = Path::new("/tmp").canonicalize().unwrap();
    if Path::new(&here).starts_with(&temporary) {
        let script = format!("cat {here}/ours.txt; ls {here}/data");
        let said = place.cosmos(&["run", "--dir", "/tmp", "sh", "-c", &script], "");
        assert_eq!(said.out, "ours", "{}", said.err);
    }
    place.ok(&[
        "run", "-d", "--name", "spy", "--dir", ".", "sh", "-c", "ls data",
    ]);
    wait_until("it has ended", || place.phase("spy") == "ended");
    assert_ne!(place.program("spy")["code"], 0);
    let inside = place.cosmos(&["run", "--dir", "data/logs", "true"], "");
    assert_eq!(inside.code, Some(125));
    assert!(
        inside.err.contains("inside the node's own directory"),
        "{}",
        inside.err
    );
    // Nothing can be hidden from a capsule.
    place.write(
        "c.wasm",
        &wat::parse_str(r#"(module (func (export "_start")))"#).unwrap(),
    );
    let capsule = place.cosmos(&["run", "--dir", ".", "c.wasm"], "");
    assert_eq!(capsule.code, Some(125));
    assert!(
        capsule.err.contains("cannot be hidden from a capsule"),
        "{}",
        capsule.err
    );
}

#[test]
fn whoever_comes_to_the_socket_from_within_walls_is_turned_away() {
    if !walled() || !has(PYTHON, Path::new(PYTHON).exists()) {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    // The way in is one that walls of files would have to miss: the socket is moved to where the program may look.
    fs::create_dir(place.path("open")).unwrap();
    fs::rename(place.path("data/control.sock"), place.path("open/sock")).unwrap();
    let ask = format!(
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('{}/sock'); s.sendall(b'\\x01\\0\\0\\0\\x0e' + \
         b'{{\"ask\":\"list\"}}'); print(s.recv(1000))",
        place.real("open")
    );
    let outside = Command::new(PYTHON).args(["-c", &ask]).output().unwrap();
    assert!(
        String::from_utf8_lossy(&outside.stdout).contains("programs"),
        "{outside:?}"
    );
    let inside = place.cosmos(&["run", "--dir", "open", PYTHON, "-c", &ask], "");
    assert!(inside.out.contains("another namespace"), "{inside:?}");
}

#[test]
fn a_full_disk_refuses_new_programs_and_nothing_else() {
    if !is_root() {
        eprintln!("skipped: only root can mount a small disk");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    // A disk of the node's own, which goes with it.
    let cosmos = env!("CARGO_BIN_EXE_cosmos");
    let script = format!("mount -t tmpfs -o size=2m,mode=700 small data && exec '{cosmos}' up");
    let mut up = Command::new("unshare");
    up.args(["-m", "sh", "-c", &script])
        .current_dir(place.0.path());
    up.env("COSMOS_DATA", place.path("data"));
    up.stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let (up, _) = Up::with_warnings(&mut up);
    let data = format!("/proc/{}/root{}", up.0.id(), place.real("data"));
    let cosmos = |arguments: &[&str]| {
        let mut command = place.command(arguments);
        let output = command.env("COSMOS_DATA", &data).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    for name in ["one", "two", "three"] {
        let taken = cosmos(&["run", "-d", "--name", name, "sleep", "1000"]);
        assert_eq!(taken.0, Some(0), "{taken:?}");
    }
    let chatter = "while :; do echo many words; done";
    cosmos(&["run", "-d", "--name", "chatter", "sh", "-c", chatter]);
    let filler = format!("{data}/filler");
    wait_until("the disk is full", || {
        let mut file = fs::File::options()
            .create(true)
            .append(true)
            .open(&filler)
            .unwrap();
        let mut piece = 1 << 16;
        while piece > 0 {
            if file.write_all(&vec![0; piece]).is_err() {
                piece /= 2;
            }
        }
        let refused = cosmos(&["run", "-d", "true"]);
        refused.0 == Some(2) && refused.2.contains("No space left on device")
    });
    // What the fleet keeps grows as invitations are given out, until that is refused too.
    let full = (0..200)
        .map(|_| cosmos(&["invite"]))
        .find(|(code, ..)| *code != Some(0));
    let (_, _, err) = full.expect("a full disk takes no invitation");
    assert!(err.contains("No space left on device"), "{err}");
    let listed = cosmos(&["ps"]).1;
    assert!(
        listed
            .lines()
            .any(|line| line.split_whitespace().take(2).eq(["one", "running"])),
        "{listed:.400}"
    );
    for name in ["one", "two", "chatter"] {
        assert_eq!(
            cosmos(&["stop", name]),
            (Some(0), format!("{name}\n"), String::new())
        );
    }
    let status: Value = serde_json::from_str(&cosmos(&["status", "--json"]).1).unwrap();
    assert_eq!(
        status["unwritten"], 0,
        "there was room kept for this: {status}"
    );
    // What is on the disk now says the same to another node.
    let copied = Command::new("cp")
        .args(["-r", &data])
        .arg(place.path("copy"))
        .status();
    assert!(copied.unwrap().success());
    fs::remove_file(&filler).unwrap();
    let taken = cosmos(&["run", "-d", "--name", "four", "true"]);
    assert_eq!(taken.0, Some(0), "there is room again: {taken:?}");
    let invited = cosmos(&["invite"]);
    assert_eq!(invited.0, Some(0), "and for the fleet's: {invited:?}");
    let mut other = place.command(&["up"]);
    let (_other, lines) = Up::with_warnings(other.env("COSMOS_DATA", place.path("copy")));
    assert!(
        lines.concat().ends_with("resuming 1 program\n"),
        "{lines:?}"
    );
}

#[test]
fn every_part_of_a_nodes_state_that_is_damaged_is_named_and_nothing_else_is_lost() {
    let place = Place::new();
    let run = |name: &str| place.ok(&["run", "-d", "--name", name, "true"]);
    let up = Up::at(&place);
    run("one");
    let place_of_two = fs::metadata(place.segment()).unwrap().len();
    run("two");
    drop(up);
    let damage = |change: &dyn Fn(&mut Vec<u8>)| {
        let segment = place.segment();
        let whole = fs::read(&segment).unwrap();
        let mut bytes = whole.clone();
        change(&mut bytes);
        fs::write(&segment, &bytes).unwrap();
        let (up, lines) = Up::with_warnings(&mut place.command(&["up"]));
        let names = || {
            place
                .ok(&["ps", "--json"])
                .lines()
                .filter(|l| l.contains("\"name\""))
                .map(str::to_owned)
                .collect::<Vec<_>>()
                .concat()
        };
        let listed = names();
        let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert_eq!(
            format!("warning: {}\n", status["damaged"][0].as_str().unwrap()),
            lines[0]
        );
        drop(up);
        // It is told once, what was there is kept, and what was good goes on.
        let aside = segment.with_extension("damaged");
        assert_eq!(fs::read(&aside).unwrap(), bytes);
        let (up, again) = Up::with_warnings(&mut place.command(&["up"]));
        assert!(!again.concat().contains("is damaged"), "{again:?}");
        assert_eq!(names(), listed);
        drop(up);
        let anew = fs::read_dir(place.path("data/annals")).unwrap().flatten();
        for entry in anew {
            fs::remove_file(entry.path()).unwrap();
        }
        fs::write(&segment, whole).unwrap();
        (lines[0].clone(), listed)
    };
    let at = usize::try_from(place_of_two).unwrap() + 30;
    let (said, listed) = damage(&|bytes| bytes[at] ^= 1);
    assert!(
        said.contains(&format!("is damaged at byte {place_of_two}: found seal")),
        "{said}"
    );
    assert!(
        listed.contains("\"one\"") && !listed.contains("\"two\""),
        "{listed}"
    );
    let (said, listed) = damage(&|bytes| bytes.truncate(at));
    assert!(
        said.contains(&format!("is damaged at byte {place_of_two}: found")),
        "{said}"
    );
    assert!(listed.contains("\"one\""), "{listed}");
    let (said, listed) = damage(&|bytes| bytes.clear());
    assert!(
        said.contains("is damaged at byte 0: found 0 bytes, expected a header"),
        "{said}"
    );
    assert!(!listed.contains("\"one\""), "{listed}");
    // Gone altogether: the logs tell that there was something.
    fs::remove_dir_all(place.path("data/annals")).unwrap();
    let (_up, lines) = Up::with_warnings(&mut place.command(&["up"]));
    assert!(lines[0].contains("found 2 logs of programs"), "{lines:?}");
}

#[test]
fn a_directory_is_made_private_only_if_that_takes_nothing_from_anybody() {
    let place = Place::new();
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    let open = |name: &str, mode| {
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(place.path("data")).unwrap();
    open("data", 0o755);
    let up = Up::at(&place);
    assert_eq!(mode("data"), 0o700);
    place.ok(&["run", "-d", "--name", "x", "true"]);
    drop(up);
    let segment = place.segment();
    open("data", 0o755);
    // As a drill makes it.
    fs::create_dir(place.path("data/braids")).unwrap();
    for file in ["lock", "logs/x.log"] {
        open(&format!("data/{file}"), 0o644);
    }
    fs::set_permissions(&segment, fs::Permissions::from_mode(0o644)).unwrap();
    let up = Up::at(&place);
    for file in ["data", "data/logs/x.log"] {
        assert_eq!(mode(file) & 0o077, 0, "{file}");
    }
    assert_eq!(
        fs::metadata(&segment).unwrap().permissions().mode() & 0o777,
        0o600
    );
    drop(up);
    open("data", 0o755);
    place.write("data/thesis.txt", b"not ours");
    let refused = place.cosmos(&["up"], "");
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .err
            .contains("it has mode 0755 and holds \"thesis.txt\""),
        "{}",
        refused.err
    );
    assert_eq!(mode("data"), 0o755);
    open("data", 0o700);
    drop(Up::at(&place));
}

#[test]
fn a_hundred_who_connect_and_say_nothing_keep_nobody_out() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let silent: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(place.path("data/control.sock")).unwrap())
        .collect();
    assert!(place.ok(&["status"]).contains("0 running of 0"));
    // And nobody who has been heard is cut off by those who come later.
    place.ok(&[
        "run",
        "-d",
        "--name",
        "long",
        "sh",
        "-c",
        "echo here; exec sleep 1000",
    ]);
    let mut follower = place.command(&["logs", "-f", "long"]).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(follower.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "here\n");
    let more: Vec<_> = (0..100)
        .map(|_| UnixStream::connect(place.path("data/control.sock")).unwrap())
        .collect();
    place.ok(&["stop", "long"]);
    assert!(follower.wait().unwrap().success());
    drop((silent, more));
}

#[test]
fn a_program_has_a_network_of_its_own_and_the_ports_it_was_given() {
    if !walled() || !has(PYTHON, Path::new(PYTHON).exists()) {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let host = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let call =
        format!("import socket; socket.create_connection(('127.0.0.1', {port})); print('reached')");
    let own = place.cosmos(&["run", PYTHON, "-c", &call], "");
    assert!(own.err.contains("ConnectionRefused"), "{own:?}");
    let shared = place.cosmos(&["run", "--net", "host", PYTHON, "-c", &call], "");
    assert_eq!(shared.out, "reached\n", "{shared:?}");
    drop(host);
    // Both listen on the same port inside, and neither is in the other's way.
    let mut others = Vec::new();
    for name in ["a", "b"] {
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        fs::create_dir(place.path(name)).unwrap();
        place.write(&format!("{name}/name"), name.as_bytes());
        let lead = format!("{free}:8000");
        let folder = place.real(name);
        place.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "--dir",
            name,
            "--port",
            &lead,
            PYTHON,
            "-m",
            "http.server",
            "8000",
            "--directory",
            &folder,
        ]);
        others.push((name, free));
    }
    for (name, port) in others {
        let get = || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
            stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").ok()?;
            let mut page = String::new();
            stream.read_to_string(&mut page).ok()?;
            page.contains("200 OK").then_some(page)
        };
        let mut page = None;
        wait_until("it serves", || {
            page = get();
            page.is_some()
        });
        assert!(page.unwrap().ends_with(&format!("\r\n\r\n{name}")));
        // A port that is taken is not shared.
        let lead = format!("{port}:1");
        let taken = place.cosmos(&["run", "--port", &lead, "true"], "");
        assert_eq!(taken.code, Some(125));
        assert!(
            taken
                .err
                .contains(&format!("listening on 127.0.0.1:{port}")),
            "{taken:?}"
        );
    }
}

#[test]
fn who_forks_without_end_stops_at_a_limit_and_the_node_and_others_go_on() {
    let place = Place::new();
    if !has(PYTHON, Path::new(PYTHON).exists()) {
        return;
    }
    let (_up, _) = Up::at(&place);
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    if !status["limits"]["processes"]
        .as_str()
        .unwrap()
        .contains("cgroup")
    {
        eprintln!("skipped: this host limits processes for nobody");
        return;
    }
    place.ok(&["run", "-d", "--name", "other", "sleep", "1000"]);
    let bomb = "\
import os, signal, time
n = 0
try:
    while True:
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError as error:
    print(n, error, flush=True)
signal.pause()";
    place.ok(&["run", "-d", "--name", "bomb", PYTHON, "-c", bomb]);
    wait_until("it has met its limit", || {
        place.ok(&["logs", "bomb"]).contains("Resource")
    });
    let said = place.ok(&["logs", "bomb"]);
    let forked: u32 = said.split(' ').next().unwrap().parse().unwrap();
    assert!((3000..4096).contains(&forked), "{forked}");
    assert_eq!(place.phase("other"), "running");
    place.ok(&["run", "-d", "--name", "new", "true"]);
    wait_until("it has ended", || place.phase("new") == "ended");
    assert_eq!(place.program("new")["code"], 0);
    place.ok(&["stop", "bomb"]);
    wait_until("all of it is gone", || {
        processes("n, error, flush").is_empty()
    });
    assert_eq!(place.phase("other"), "running");
}

#[test]
fn who_eats_memory_is_ended_and_the_node_says_why() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let status: Value = serde_json::from_str(&place.ok(&["status", "--json"])).unwrap();
    if !status["limits"]["memory"]
        .as_str()
        .unwrap()
        .contains("cgroup")
    {
        eprintln!("skipped: this host has no control group for memory");
        return;
    }
    place.ok(&[
        "run", "-d", "--name", "other", "--mem", "64MiB", "sleep", "1000",
    ]);
    let hungry = "head -c 300000000 /dev/zero | tail -n 1 | wc -c; exit 9";
    let run = [
        "run", "-d", "--name", "hungry", "--mem", "64MiB", "sh", "-c", hungry,
    ];
    place.ok(&run);
    wait_until("it has ended", || place.phase("hungry") == "ended");
    assert_eq!(place.program("hungry")["out_of_memory"], true);
    let said = place.ok(&["logs", "hungry"]);
    assert!(
        said.contains("used more than its limit of 67108864 bytes of memory (--mem)"),
        "{said}"
    );
    assert!(
        place.ok(&["ps"]).contains("out of memory)"),
        "{}",
        place.ok(&["ps"])
    );
    // What it holds in files of its /tmp counts as well.
    let files = "head -c 300000000 /dev/zero > /tmp/x; exit 0";
    place.ok(&[
        "run", "-d", "--name", "files", "--mem", "64MiB", "sh", "-c", files,
    ]);
    wait_until("it has ended", || place.phase("files") == "ended");
    let files = place.program("files");
    assert!(
        files["out_of_memory"] == true || files["code"] != 0,
        "{files}"
    );
    assert_eq!(place.phase("other"), "running");
    assert_eq!(place.program("other")["out_of_memory"], false);
}

#[test]
fn who_fills_the_disk_fills_its_own() {
    if !walled() {
        return;
    }
    let place = Place::new();
    let fill = "head -c 5000000000 /dev/zero > /tmp/x || head -c 5000000000 /dev/zero > /dev/shm/x || echo full";
    let said = place.cosmos(&["run", "sh", "-c", fill], "");
    assert_eq!(said.out, "full\n", "{}", said.err);
}

#[test]
fn what_is_roots_alone_is_not_for_the_programs_that_root_runs() {
    if !walled() || !is_root() || !Path::new("/etc/shadow").exists() {
        eprintln!("skipped: nobody here may read secrets");
        return;
    }
    let place = Place::new();
    let script = "chmod 644 /etc/shadow; cat /etc/shadow; cat /etc/passwd | head -1";
    let said = place.cosmos(&["run", "sh", "-c", script], "");
    assert_eq!(said.out.lines().count(), 1, "{}", said.out);
    assert!(said.out.starts_with("root:"), "{}", said.out);
    assert_eq!(
        said.err
            .lines()
            .filter(|line| line.contains("/etc/shadow"))
            .count(),
        2
    );
}

#[test]
fn what_becomes_secret_while_a_node_runs_is_not_for_the_programs_it_starts() {
    use std::os::unix::fs::OpenOptionsExt as _;
    struct Gone(String);
    impl Drop for Gone {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }
    if !walled() || !is_root() {
        eprintln!("skipped: nobody here may keep secrets");
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("shared")).unwrap();
    let (_up, _) = Up::at(&place);
    let file = Gone(format!("/etc/cosmos-test-{}", std::process::id()));
    let shared = place.real("shared");
    // One sees what stands ready for all, the other a root of its own.
    let folders: [&[&str]; 2] = [&[], &["--dir", &shared]];
    let read = |name: &str, more: &[&str]| {
        let script = format!("cat {}; echo read", file.0);
        let mut words = vec!["run", "-d", "--name", name];
        words.extend(more);
        words.extend(["sh", "-c", script.as_str()]);
        place.ok(&words);
        place.ok(&["wait", name]);
        place.ok(&["logs", name])
    };
    for (number, more) in folders.iter().enumerate() {
        let said = read(&format!("before-{number}"), more);
        assert!(
            said.contains("No such file") && said.ends_with("read\n"),
            "{said}"
        );
    }
    let mut options = fs::File::options();
    let mut made = options
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&file.0)
        .unwrap();
    made.write_all(b"hidden words").unwrap();
    for (number, more) in folders.iter().enumerate() {
        let said = read(&format!("after-{number}"), more);
        assert!(
            said.contains("Permission denied") && said.ends_with("read\n"),
            "{said}"
        );
        assert!(!said.contains("hidden"), "{said}");
    }
    // What is no secret any more shows.
    fs::set_permissions(&file.0, fs::Permissions::from_mode(0o644)).unwrap();
    for (number, more) in folders.iter().enumerate() {
        let said = read(&format!("open-{number}"), more);
        assert_eq!(said, "hidden wordsread\n");
    }
}

#[test]
fn a_program_without_lease_and_port_has_one_warden_and_ends_with_it() {
    if !walled() {
        return;
    }
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let node = up.0.id();
    let [stem] = children(node)[..] else {
        panic!("{:?}", children(node));
    };
    let script = "echo well; (setsid sleep 1000 &); exec sleep 1000";
    place.ok(&[
        "run",
        "-d",
        "--restart",
        "never",
        "--name",
        "one",
        "sh",
        "-c",
        script,
    ]);
    wait_until("it has spoken", || place.ok(&["logs", "one"]) == "well\n");
    wait_until("it has a child", || descendants(node).len() == 4);
    let mut below = descendants(node);
    below.retain(|process| *process != stem);
    let mut wardens = children(node);
    wardens.retain(|process| *process != stem);
    let [warden] = wardens[..] else {
        panic!("{wardens:?}");
    };
    let sent = Command::new("kill")
        .args(["-9", &warden.to_string()])
        .status();
    assert!(sent.unwrap().success());
    wait_until("it has ended", || place.phase("one") == "ended");
    let left: Vec<_> = below
        .into_iter()
        .filter(|process| is_there(*process))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_program_inherits_three_streams_and_no_other_file() {
    let place = Place::new();
    let cosmos = env!("CARGO_BIN_EXE_cosmos");
    let script =
        format!("exec 7</etc/passwd 8</etc/passwd; '{cosmos}' run sh -c 'ls /proc/self/fd'");
    let mut sh = Command::new("sh");
    sh.args(["-c", &script])
        .env("COSMOS_DATA", place.path("data"));
    let output = sh.output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    // The fourth is the folder that `ls` lists.
    assert_eq!(
        out.split_whitespace().collect::<Vec<_>>(),
        ["0", "1", "2", "3"]
    );
    let open = "sleep 1000";
    let (_up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "open",
        "sh",
        "-c",
        &format!("ls -l /proc/self/fd; exec {open}"),
    ]);
    wait_until("it has spoken", || {
        place.ok(&["logs", "open"]).contains("3 ->")
    });
    assert!(
        !place.ok(&["logs", "open"]).contains("4 ->"),
        "{}",
        place.ok(&["logs", "open"])
    );
}

#[test]
fn a_line_of_the_table_is_a_line_whatever_its_words() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "odd",
        "true",
        "one\ntwo\x1b[31mred\u{9b}x",
    ]);
    let table = place.ok(&["ps"]);
    assert_eq!(table.lines().count(), 2, "{table}");
    assert!(table.contains(r"one\ntwo\u{1b}[31mred\u{9b}x"), "{table}");
}

#[test]
fn signals_find_the_program_and_only_those_they_are_meant_for() {
    let place = Place::new();
    let told = |arguments: &[&str], signal: &str| {
        let mut child = place.command(arguments).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let sent = Command::new("kill")
            .args([signal, &child.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
        let mut rest = String::new();
        out.read_to_string(&mut rest).unwrap();
        (child.wait().unwrap().code(), rest)
    };
    // Whoever has left for a session of its own.
    let script = "trap 'exit 40' TERM; echo ready; while :; do sleep 0.05; done";
    assert_eq!(
        told(&["run", "setsid", "sh", "-c", script], "-TERM").0,
        Some(40)
    );
    // Who is in the group hears it once.
    let script = "n=0; trap 'n=$((n+1))' TERM; echo ready; until [ $n -gt 0 ]; do sleep 0.05; done; sleep 0.3; \
                  echo heard $n; exit 7";
    assert_eq!(
        told(&["run", "sh", "-c", script], "-TERM"),
        (Some(7), "heard 1\n".to_owned())
    );
    // A child does not know what SIGUSR1 means, and would die of it.
    let script = "n=0; trap 'n=1' USR1; sleep 1000 & child=$!; echo ready; until [ $n = 1 ]; do sleep 0.05; done; \
                  kill -0 $child && echo lives; kill $child";
    assert_eq!(told(&["run", "sh", "-c", script], "-USR1").1, "lives\n");
    let (_up, _) = Up::at(&place);
    let script = "trap 'exit 41' TERM; echo ready; while :; do sleep 0.05; done";
    place.ok(&["run", "-d", "--name", "apart", "setsid", "sh", "-c", script]);
    wait_until("it is ready", || place.ok(&["logs", "apart"]) == "ready\n");
    place.ok(&["stop", "apart"]);
    assert_eq!(place.program("apart")["code"], 41);
}

#[test]
fn folders_are_where_they_were_named_and_where_the_host_has_them() {
    if !walled() {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("real")).unwrap();
    place.write("real/x", b"yes");
    symlink("real", place.path("link")).unwrap();
    fs::create_dir(place.path("a:b")).unwrap();
    place.write("a:b/x", b"colon");
    let cat = |folder: &str, file: &str| place.cosmos(&["run", "--dir", folder, "cat", file], "");
    let here = place.real(".");
    for file in ["link/x", &format!("{here}/link/x"), "real/x"] {
        assert_eq!(
            cat("link", file).out,
            "yes",
            "{file}: {:?}",
            cat("link", file)
        );
    }
    assert_eq!(cat("real:/srv/data", "/srv/data/x").out, "yes");
    assert_eq!(cat(r"a\:b", "a:b/x").out, "colon");
    let divided = cat("a:b", "a:b/x");
    assert_eq!(divided.code, Some(2));
    assert!(divided.err.contains(r"found no folder a, expected one that is there; a colon that is part of a name is written \:"), "{}", divided.err);
    for (folder, says) in [
        ("/", "name the folders that are meant"),
        ("/proc", "every program has /proc of its own"),
        ("/dev/shm", "every program has /dev of its own"),
    ] {
        let said = cat(folder, "/etc/hostname");
        assert_eq!(said.code, Some(2));
        assert!(said.err.contains(says), "{}", said.err);
    }
    let taken = cat("real:/usr/real", "/usr/real/x");
    assert_eq!(taken.code, Some(125));
    assert!(
        taken.err.contains("inside a folder of the system"),
        "{}",
        taken.err
    );
}

#[test]
fn a_megabyte_of_words_is_not_too_much() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    let word = "x".repeat(100_000);
    let mut words = vec!["sh", "-c", "echo $# ${#1} ${#10}", "sh"];
    words.extend([word.as_str(); 10]);
    let attached = place.cosmos(&[&["run"], &words[..]].concat(), "");
    assert_eq!(attached.out, "10 100000 100000\n", "{:.300}", attached.err);
    place.ok(&[&["run", "-d", "--name", "long"], &words[..]].concat());
    wait_until("it has spoken", || {
        place.ok(&["logs", "long"]) == "10 100000 100000\n"
    });
}

#[test]
fn what_cannot_be_executed_ends_as_it_would_in_a_shell() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    for (name, bytes, code, says) in [
        (
            "text",
            &b"only words\n"[..],
            126,
            "found neither an executable of this machine",
        ),
        (
            "elf",
            b"\x7fELF and then nothing of the kind",
            126,
            "found neither an executable of this machine",
        ),
        (
            "orphan",
            b"#!/no/such/interpreter\n",
            127,
            "the interpreter it names is not there",
        ),
        ("closed", b"#!/etc/passwd\n", 126, "Permission denied"),
    ] {
        place.write(name, bytes);
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        let word = format!("./{name}");
        let said = place.cosmos(&["run", &word], "");
        assert_eq!(said.code, Some(code), "{name}: {}", said.err);
        assert!(said.err.contains(says), "{name}: {}", said.err);
        place.ok(&["run", "-d", "--name", name, &word]);
        wait_until("it has ended", || place.phase(name) == "ended");
        assert_eq!(place.program(name)["code"], code);
    }
}

#[test]
fn a_wrong_call_is_said_as_json_to_whoever_wants_json() {
    let place = Place::new();
    for arguments in [
        &["ps", "--json", "--no-such-flag"][..],
        &["run", "--json", "--mem", "64", "true"],
        &["status", "--json"],
    ] {
        let said = place.cosmos(arguments, "");
        assert_eq!(said.code, Some(2), "{arguments:?}");
        let error: Value = serde_json::from_str(&said.err).expect(&said.err);
        assert!(
            error["error"]
                .as_str()
                .is_some_and(|error| !error.is_empty()),
            "{error}"
        );
    }
    // What a program is told is its own affair.
    let said = place.cosmos(&["run", "--mem", "64", "true", "--json"], "");
    assert!(said.err.starts_with("error: invalid value"), "{}", said.err);
    assert_eq!(place.cosmos(&["--help", "--json"], "").code, Some(0));
}

#[test]
fn a_manifest_says_what_a_command_line_can_and_each_mistake_has_its_line() {
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir_all(place.path("app/data")).unwrap();
    place.write("app/data/x", b"found");
    let good = r#"
program = "sh"
arguments = ["-c", "cat data/x; echo \" $GREETING\"; exit 3"]
name = "app"
env = ["GREETING=hello"]
dirs = ["data"]
memory = "64 MiB"
cores = 0.5
"#;
    place.write("app/app.toml", good.as_bytes());
    let said = place.cosmos(&["run", "-f", "app/app.toml"], "");
    assert_eq!(
        (said.out.as_str(), said.code),
        ("found hello\n", Some(3)),
        "{said:?}"
    );
    assert_eq!(place.ok(&["run", "-d", "-f", "app/app.toml"]), "app\n");
    wait_until("it has ended", || place.phase("app") == "ended");
    assert_eq!(place.program("app")["code"], 3);
    assert_eq!(place.ok(&["logs", "app"]), "found hello\n");
    for (wrong, says) in [
        ("program = 3", "app.toml:1: program:"),
        (
            "program = \"sh\"\nmemry = \"1 GiB\"",
            "app.toml:2: memry: unknown key; did you mean `memory`?",
        ),
        ("program = \"sh\"\ncores = 5000.0", "app.toml:2: cores:"),
        ("program = \"sh\"\n\nports = [\"80\"]", "app.toml:3: ports:"),
        (
            "program = \"sh\"\ndirs = [\"nowhere\"]",
            "found no folder nowhere",
        ),
        (
            "program = \"sh\"\nrestart = \"always\"",
            "only a node starts programs again",
        ),
        ("arguments = []", "program"),
        ("program = ", "app.toml:1:"),
    ] {
        place.write("app/app.toml", wrong.as_bytes());
        let said = place.cosmos(&["run", "-f", "app/app.toml"], "");
        assert_eq!(said.code, Some(2), "{wrong}: {said:?}");
        assert!(said.err.contains(says), "{wrong}: {}", said.err);
    }
    assert_eq!(place.cosmos(&["run", "-f", "no.toml"], "").code, Some(2));
    // A device has no length to be looked at, and no end.
    let said = place.cosmos(&["run", "-f", "/dev/zero"], "");
    assert!(
        said.code == Some(2) && said.err.contains("expected at most"),
        "{said:?}"
    );
    assert_eq!(
        place
            .cosmos(&["run", "-f", "app/app.toml", "true"], "")
            .code,
        Some(2)
    );
}

#[test]
fn who_is_not_well_is_ended_and_started_again_and_who_is_well_is_left_alone() {
    let place = Place::new();
    if !walled() || !has(PYTHON, Path::new(PYTHON).exists()) {
        return;
    }
    let (_up, _) = Up::at(&place);
    let app = |name: &str, program: &str, health: &str| {
        let text = format!(
            "{program}\nname = \"{name}\"\nrestart = \"on-failure\"\n[health]\n{health}\nevery = \"100 ms\"\n\
             patience = \"20 s\"\nstart = \"10 ms\"\nfailures = 2\n"
        );
        place.write("app.toml", text.as_bytes());
        place.ok(&["run", "-d", "-f", "app.toml"]);
    };
    let serves = format!(
        "program = \"{PYTHON}\"\narguments = [\"-m\", \"http.server\", \"8000\", \"--directory\", \"/usr\"]"
    );
    let sleeps = "program = \"sleep\"\narguments = [\"1000\"]";
    app("exec-ill", sleeps, "exec = [\"sh\", \"-c\", \"exit 7\"]");
    app("port-ill", sleeps, "port = 8000");
    app("page-ill", &serves, "port = 8000\npath = \"/no/such\"");
    app("exec-well", sleeps, "exec = [\"true\"]");
    place.write("app.toml", b"");
    for (name, says) in [
        (
            "exec-ill",
            "\"sh -c exit 7\" failed 2 times in a row: it ended with 7",
        ),
        ("port-ill", "port 8000 took no connection 2 times in a row"),
        (
            "page-ill",
            "port 8000 did not serve /no/such 2 times in a row",
        ),
    ] {
        wait_until("it was ended and started again", || {
            place.program(name)["starts"].as_u64() >= Some(2)
        });
        let said = place.ok(&["logs", name]);
        assert!(said.contains(says), "{name}: {said}");
    }
    assert_eq!(place.program("exec-well")["starts"], 1);
    assert_eq!(place.phase("exec-well"), "running");
    for (wrong, says) in [
        ("exec = [\"true\"]\nport = 1", "app.toml:3: health.exec:"),
        (
            "every = \"1 s\"",
            "expected either exec, or port, or port and path",
        ),
        ("port = 1\npath = \"x\"", "app.toml:4: health.path:"),
        ("port = 70000", "app.toml:3: health.port:"),
    ] {
        place.write(
            "app.toml",
            format!("program = \"true\"\n[health]\n{wrong}").as_bytes(),
        );
        let said = place.cosmos(&["run", "-f", "app.toml"], "");
        assert_eq!(said.code, Some(2), "{wrong}");
        assert!(said.err.contains(says), "{wrong}: {}", said.err);
    }
}

/// Whom the deciding thread of a node has started, and what is forked as if it had.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    let numbers = list.split_whitespace().map(|number| number.parse());
    numbers.map(|number| number.expect("a number")).collect()
}

fn descendants(of: u32) -> Vec<u32> {
    let mut all = children(of);
    let mut next = 0;
    while let Some(process) = all.get(next) {
        all.extend(children(*process));
        next += 1;
    }
    all
}

pub(crate) fn is_there(process: u32) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

#[test]
fn who_kills_the_stem_kills_no_program_and_keeps_none_from_starting() {
    let place = Place::new();
    let (mut up, _) = Up::at(&place);
    let node = up.0.id();
    let [stem] = children(node)[..] else {
        panic!("{:?}", children(node));
    };
    let kill = |process: u32| {
        let process = process.to_string();
        let sent = Command::new("kill").args(["-9", &process]).status();
        assert!(sent.unwrap().success());
    };
    place.ok(&["run", "-d", "--name", "before", "sleep", "1000"]);
    wait_until("it runs", || descendants(node).len() > 2);
    kill(stem);
    place.ok(&[
        "run",
        "-d",
        "--name",
        "after",
        "sh",
        "-c",
        "echo well; exec sleep 1000",
    ]);
    wait_until("it has spoken", || place.ok(&["logs", "after"]) == "well\n");
    assert_eq!(place.phase("before"), "running");
    assert_eq!(place.program("before")["starts"], 1);
    assert_eq!(place.program("after")["starts"], 1);
    assert!(!is_there(stem), "it is waited for");
    // Whoever was forked by the first is still the node's, and so is whoever was by the second.
    place.ok(&["stop", "before"]);
    assert_eq!(place.phase("before"), "ended");
    let all = descendants(node);
    assert!(all.len() >= 3, "{all:?}");
    up.0.kill().unwrap();
    up.0.wait().unwrap();
    wait_until("all of it is over", || {
        !all.iter().any(|process| is_there(*process))
    });
}

#[test]
fn no_program_and_no_warden_has_the_line_to_the_stem() {
    let place = Place::new();
    let (up, _) = Up::at(&place);
    let node = up.0.id();
    let [stem] = children(node)[..] else {
        panic!("{:?}", children(node));
    };
    let held = |process: u32| -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{process}/fd"))
            .unwrap()
            .flatten();
        let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.map(|link| link.display().to_string()).collect()
    };
    let line = held(stem)
        .into_iter()
        .find(|link| link.starts_with("socket:"));
    let line = line.expect("it waits for orders");
    // Two, of which the second could have inherited what was handed to the first.
    for name in ["one", "two"] {
        place.ok(&[
            "run",
            "-d",
            "--name",
            name,
            "sh",
            "-c",
            "echo well; exec sleep 1000",
        ]);
        wait_until("it has spoken", || place.ok(&["logs", name]) == "well\n");
    }
    let below: Vec<_> = descendants(node)
        .into_iter()
        .filter(|process| *process != stem)
        .collect();
    assert!(below.len() >= 4, "{below:?}");
    for process in below {
        assert!(!held(process).contains(&line), "{process} holds {line}");
    }
    // And the stem keeps nothing of theirs: its streams and the line.
    let kept: Vec<_> = held(stem)
        .into_iter()
        .filter(|link| *link != line)
        .collect();
    assert_eq!(kept.len(), 3, "{kept:?}");
}
