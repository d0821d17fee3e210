//! Programs that were not written for cosmOS: servers and their own load generators, from the distribution's packages
//! (`cargo xtask setup` installs them). Nothing here is timed: that they work is the claim.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::place::{Place, Up, has, wait_until, walled};

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().unwrap().port()
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut page = String::new();
    stream.read_to_string(&mut page).ok()?;
    Some(page)
}

#[test]
fn nginx_serves_pages_through_a_port_and_is_looked_into() {
    if !walled() || !has("nginx", Path::new("/usr/sbin/nginx").exists()) {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir_all(place.path("site")).unwrap();
    let page = "<h1>served from within walls</h1>".repeat(1000);
    place.write("site/index.html", page.as_bytes());
    let site = place.real("site");
    let config = format!(
        "user root root; daemon off; pid /tmp/nginx.pid; error_log stderr; worker_processes 2; events {{}} http {{ access_log off; \
         client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f; uwsgi_temp_path /tmp/u; \
         scgi_temp_path /tmp/s; server {{ listen 127.0.0.1:80; root {site}; }} }}"
    );
    // Of users there is one inside, so whoever is root there stays root: `user` says so, and is unheard otherwise.
    // Port 80 of its own network takes a capability that no program has, so it listens above.
    place.write(
        "site/nginx.conf",
        config.replace(":80;", ":8080;").as_bytes(),
    );
    let (port, config) = (free_port(), format!("{site}/nginx.conf"));
    let lead = format!("{port}:8080");
    place.ok(&[
        "run", "-d", "--name", "nginx", "--dir", "site", "--port", &lead, "--mem", "256MiB",
        "nginx", "-c", &config, "-e", "stderr",
    ]);
    wait_until("it serves", || {
        get(port, "/").is_some_and(|page| page.contains("200 OK"))
    });
    for _ in 0..200 {
        let answer = get(port, "/").expect("an answer");
        assert!(answer.ends_with(&page), "{:.200}", answer);
    }
    assert!(get(port, "/../../etc/passwd").is_some_and(|page| page.contains(" 400 ")));
    // Beside it, in the same walls: the same network, folders and processes.
    let look = "cat /tmp/nginx.pid && ls /proc | grep -c '^[0-9]' && ls";
    let inside = place.cosmos(&["exec", "--env", "X=1", "nginx", "sh", "-c", look], "");
    assert_eq!(inside.code, Some(0), "{inside:?}");
    let inside = place.cosmos(&["exec", "nginx", "cat"], "to and fro");
    assert_eq!(
        (inside.out.as_str(), inside.code),
        ("to and fro", Some(0)),
        "{inside:?}"
    );
    assert_eq!(
        place
            .cosmos(&["exec", "nginx", "sh", "-c", "exit 9"], "")
            .code,
        Some(9)
    );
    assert_eq!(
        place.cosmos(&["exec", "nginx", "no-such-program"], "").code,
        Some(127)
    );
    assert_eq!(
        place.cosmos(&["exec", "nginx", "/no/such"], "").code,
        Some(127)
    );
    let status = place
        .cosmos(&["exec", "nginx", "cat", "/proc/self/status"], "")
        .out;
    for line in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    place.ok(&["stop", "nginx"]);
    assert_eq!(
        place.program("nginx")["code"],
        0,
        "{}",
        place.ok(&["logs", "nginx"])
    );
    let gone = place.cosmos(&["exec", "nginx", "true"], "");
    assert!(
        gone.code == Some(2) && gone.err.contains("does not run"),
        "{gone:?}"
    );
}

#[test]
fn redis_keeps_what_it_was_told_through_a_restart_and_bears_its_own_benchmark() {
    if !walled() || !has("redis", Path::new("/usr/bin/redis-server").exists()) {
        return;
    }
    let place = Place::new();
    let (_up, _) = Up::at(&place);
    fs::create_dir(place.path("redis")).unwrap();
    let folder = place.real("redis");
    let port = free_port();
    let lead = format!("{port}:6379");
    place.ok(&[
        "run",
        "-d",
        "--name",
        "redis",
        "--dir",
        "redis",
        "--port",
        &lead,
        "--restart",
        "on-failure",
        "redis-server",
        "--bind",
        "127.0.0.1",
        "--dir",
        &folder,
        "--appendonly",
        "yes",
    ]);
    let cli = |words: &[&str]| {
        let port = port.to_string();
        let output = Command::new("redis-cli")
            .args(["-p", &port])
            .args(words)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    wait_until("it answers", || cli(&["ping"]) == "PONG\n");
    assert_eq!(cli(&["set", "a", "kept"]), "OK\n");
    let port_word = port.to_string();
    // From outside through the port, and from inside without one.
    let bench = ["-c", "20", "-n", "2000", "-q", "-t", "set,get"];
    let outside = Command::new("redis-benchmark")
        .args(["-p", &port_word])
        .args(bench)
        .output();
    let outside = String::from_utf8(outside.unwrap().stdout).unwrap();
    let inside = place.cosmos(
        &[&["exec", "redis", "redis-benchmark"], &bench[..]].concat(),
        "",
    );
    for said in [&outside, &inside.out] {
        for test in ["SET: ", "GET: "] {
            assert!(
                said.contains(test) && said.contains("requests per second"),
                "{said}{}",
                inside.err
            );
        }
    }
    // Killed from within, started again by its node, and nothing is lost.
    let kill = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = redis-server ] && kill -KILL ${p#/proc/}; done; true";
    // Whoever goes inside ends with what it is in.
    place.cosmos(&["exec", "redis", "sh", "-c", kill], "");
    wait_until("it was started again", || {
        place.program("redis")["starts"] == 2
    });
    wait_until("it answers", || cli(&["ping"]) == "PONG\n");
    assert_eq!(cli(&["get", "a"]), "kept\n");
    place.ok(&["stop", "redis"]);
    assert_eq!(place.program("redis")["code"], 0);
}

#[test]
fn postgresql_bears_pgbench() {
    let versions = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let bin = versions.map(|version| version.path().join("bin")).max();
    let bin = bin.filter(|bin| bin.join("pgbench").exists());
    if !walled() || !has("postgresql", bin.is_some()) {
        return;
    }
    let bin = bin.unwrap().display().to_string();
    let place = Place::new();
    // It refuses to be root.
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    fs::set_permissions(place.0.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let cosmos = |words: &[&str]| {
        let mut command = place.command(words);
        if root {
            command.uid(65534).gid(65534);
        }
        command
    };
    let mut made = Command::new("mkdir");
    made.arg(place.path("pg"));
    if root {
        made.uid(65534).gid(65534);
    }
    assert!(made.status().unwrap().success());
    let folder = place.real("pg");
    let cluster = format!("{folder}/cluster");
    let initdb = format!("{bin}/initdb");
    let output = cosmos(&[
        "run",
        "--dir",
        "pg",
        "--env",
        "USER=postgres",
        &initdb,
        "-D",
        &cluster,
        "-A",
        "trust",
        "-U",
        "postgres",
        "--no-sync",
    ])
    .output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            eprintln!("skipped: nobody cannot execute the command here: {error}");
            return;
        }
    };
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let (_up, _) = Up::with_warnings(&mut cosmos(&["up"]));
    let ok = |words: &[&str]| {
        let output = cosmos(words).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let port = free_port();
    let lead = format!("{port}:5432");
    let postgres = format!("{bin}/postgres");
    let started = ok(&[
        "run",
        "-d",
        "--name",
        "pg",
        "--dir",
        "pg",
        "--port",
        &lead,
        &postgres,
        "-D",
        &cluster,
        "-k",
        "/tmp",
        "-h",
        "127.0.0.1",
    ]);
    assert_eq!(started.0, Some(0), "{started:?}");
    let psql = |words: &[&str]| {
        let port = port.to_string();
        let server = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        let output = Command::new(format!("{bin}/psql"))
            .args(server)
            .args(words)
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    wait_until("it answers", || psql(&["-Atc", "select 6*7"]) == "42\n");
    let pgbench = format!("{bin}/pgbench");
    let inside = |words: &[&str]| {
        let asked = ["exec", "pg", &pgbench, "-h", "127.0.0.1", "-U", "postgres"];
        ok(&[&asked, words].concat())
    };
    let filled = inside(&["-i", "-s", "1", "-q", "postgres"]);
    assert_eq!(filled.0, Some(0), "{filled:?}");
    let bench = inside(&["-n", "-c", "4", "-t", "50", "postgres"]);
    assert!(
        bench
            .1
            .contains("number of transactions actually processed: 200/200"),
        "{bench:?}"
    );
    let port_word = port.to_string();
    let outside = Command::new(&pgbench)
        .args([
            "-h",
            "127.0.0.1",
            "-p",
            &port_word,
            "-U",
            "postgres",
            "-n",
            "-c",
            "2",
            "-t",
            "20",
            "postgres",
        ])
        .output();
    let outside = String::from_utf8(outside.unwrap().stdout).unwrap();
    assert!(outside.contains("actually processed: 40/40"), "{outside}");
    assert_eq!(
        psql(&["-Atc", "select count(*) from pgbench_history"]),
        "240\n"
    );
    let stopped = ok(&["stop", "pg"]);
    assert_eq!(stopped.0, Some(0), "{stopped:?}");
    let listed = ok(&["ps"]).1;
    assert!(
        listed.contains("ended (0)"),
        "{listed} {}",
        ok(&["logs", "pg"]).1
    );
}

#[test]
fn sqlite_keeps_its_files_in_the_folder_it_was_given() {
    if !has("sqlite3", Path::new("/usr/bin/sqlite3").exists()) {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("db")).unwrap();
    let run = |sql: &str| place.ok(&["run", "--dir", "db", "/usr/bin/sqlite3", "db/x.sqlite", sql]);
    run(
        "pragma journal_mode=wal; create table t(n); insert into t select value from generate_series(1,1000);",
    );
    assert_eq!(run("select sum(n) from t"), "500500\n");
    assert!(fs::metadata(place.path("db/x.sqlite")).unwrap().len() > 0);
}

#[test]
fn a_python_script_finds_its_interpreter_its_words_and_its_folder() {
    if !walled() || !has("python3", Path::new("/usr/bin/python3").exists()) {
        return;
    }
    let place = Place::new();
    fs::create_dir(place.path("app")).unwrap();
    let low = "import socket; socket.socket().bind(('127.0.0.1', 80))";
    let said = place.cosmos(&["run", "/usr/bin/python3", "-c", low], "");
    assert_eq!(
        said.code,
        Some(0),
        "a low port of its own network: {}",
        said.err
    );
    let script = "#!/usr/bin/python3\nimport sys, json, pathlib, hashlib, threading\n\
                  pathlib.Path('app/out.json').write_text(json.dumps(sys.argv[1:]))\n\
                  threading.Thread(target=lambda: print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())).start()\n";
    place.write("app/run.py", script.as_bytes());
    fs::set_permissions(place.path("app/run.py"), fs::Permissions::from_mode(0o755)).unwrap();
    let said = place.cosmos(
        &["run", "--dir", "app", "app/run.py", "a b", "--json"],
        "abc",
    );
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n";
    assert_eq!((said.out.as_str(), said.code), (sum, Some(0)), "{said:?}");
    assert_eq!(
        fs::read_to_string(place.path("app/out.json")).unwrap(),
        "[\"a b\", \"--json\"]"
    );
}
