//! What a node costs: programs per second, the start of one, a node that does nothing, alone and as a voter among five,
//! and what a busy program loses to it. Prints the table of `docs/bench/node.md`, with what is wanted beside what was measured.
//!
//! The release executable is driven as an operator would; beside each figure stands what the host does without it, in
//! the same run. Wall time says what somebody waits for and depends on who else uses the machine; processor time says
//! what was done for it, and hardly does. `-- N` sets how many programs are started at a time (500 unless said otherwise),
//! and words choose rows: `batch`, `start`, `idle`, `fleet`, `busy`.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::control::{self, Answer, Request};
use daemon::program::{Limits, Network, Program};
use daemon::supervision::Restart;

/// How often each is measured; the median is told.
const TIMES: usize = 5;
/// How often the busy program runs with the node and without, in turns.
const PAIRS: usize = 21;
/// How long a node is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(30);
/// A loop of a shell that takes half a second or so, and says how many nanoseconds it had a processor.
const BUSY: &str =
    "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done; read a b c < /proc/self/schedstat; echo $a";
/// How often something is started.
const STARTS: usize = 100;
/// Says what time it is as soon as it can, in nanoseconds since 1970 (eight bytes, the lowest first).
const CAPSULE: &str = r#"(module
  (import "wasi_snapshot_preview1" "clock_time_get" (func $now (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)
  (func (export "_start")
    (drop (call $now (i32.const 0) (i64.const 1) (i32.const 64)))
    (i32.store (i32.const 0) (i32.const 64))
    (i32.store (i32.const 4) (i32.const 8))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 32)))))"#;

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures by the host's clock"
)]
fn clock() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a benchmark measures by the host's clock"
)]
fn pause(span: Duration) {
    std::thread::sleep(span);
}

struct Node {
    child: Child,
    data: PathBuf,
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Node {
    fn up(data: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        command
            .args(["up", "--http", "127.0.0.1:0"])
            .args(more)
            .env("COSMOS_DATA", data);
        let mut child = command
            .stderr(Stdio::piped())
            .spawn()
            .expect("a node starts");
        let mut said = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        while !said
            .next()
            .expect("it says that it is ready")
            .expect("text")
            .starts_with("node: ready")
        {}
        std::thread::spawn(move || said.for_each(drop));
        let data = data.to_owned();
        Self { child, data }
    }

    fn cosmos(&self, words: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        command
            .args(words)
            .env("COSMOS_DATA", &self.data)
            .stdout(Stdio::null());
        assert!(command.status().expect("it starts").success(), "{words:?}");
    }

    fn ask(&self, request: &Request) -> Answer {
        control::ask(&self.data, request)
            .expect("the node answers")
            .0
    }

    /// Processor time of the node, of all that it has waited for, and of its stem, in seconds.
    fn spent(&self) -> f64 {
        let (own, waited_for) = ticks(self.child.id());
        let children = children(self.child.id()).into_iter();
        own + waited_for + children.map(|child| ticks(child).0).sum::<f64>()
    }
}

fn children(process: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
    let list = list.expect("it lives");
    let numbers = list.split_whitespace().map(|number| number.parse());
    numbers.map(|number| number.expect("a number")).collect()
}

/// Processor time of a process, and of its children that have ended, in seconds.
fn ticks(process: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("it lives");
    let (_, rest) = stat.rsplit_once(')').expect("a name in parentheses");
    let fields: Vec<_> = rest.split_whitespace().collect();
    // Fields 14 to 17 of proc(5), counted from the third.
    let of = |number: usize| fields[number - 3].parse::<f64>().expect("a number");
    // USER_HZ is 100 on every Linux there is.
    ((of(14) + of(15)) / 100.0, (of(16) + of(17)) / 100.0)
}

/// Processor time of the threads that a process has now, in seconds, to the nanosecond.
fn nanoseconds(process: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("it lives");
    let stats = tasks.flatten().filter_map(|task| {
        let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        stat.split_whitespace().next()?.parse::<f64>().ok()
    });
    stats.sum::<f64>() / 1e9
}

/// Processor time of the kernel's own threads, which clear up after namespaces, in seconds: those of all the machine.
fn kernels() -> f64 {
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let stats = all.filter_map(|entry| fs::read_to_string(entry.path().join("stat")).ok());
    let of_kernel = stats.filter_map(|stat| {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        // Its parent is kthreadd.
        let spent: f64 = fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?;
        (fields[1] == "2").then_some(spent / 100.0)
    });
    of_kernel.sum()
}

/// A row of the table: what is measured, what came of it, and what is wanted of it.
fn row(what: &str, measured: &str, wanted: &str, holds: Option<bool>) {
    let holds = match holds {
        Some(true) => "yes",
        Some(false) => "**no**",
        None => "",
    };
    println!("| {what} | {measured} | {wanted} | {holds} |");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// A command of the host: how long it takes, and how much processor time it and its children.
fn bare(script: &str) -> (f64, f64) {
    let (_, before) = ticks(std::process::id());
    let began = clock();
    let mut command = Command::new("sh");
    assert!(command.args(["-c", script]).status().expect("sh").success());
    let took = began.elapsed().as_secs_f64();
    (took, ticks(std::process::id()).1 - before)
}

/// As many at a time as there are cores, which is usual, and twice as many, of which some may wait.
const AT_ONCE: [Option<&str>; 2] = [None, Some("4")];

fn per_second(node: &Node, count: usize) {
    let each = |spent: f64| spent * 1000.0 / count as f64;
    let rate = |took: f64| count as f64 / took;
    let mut bare_rows = Vec::new();
    let mut rows = AT_ONCE.map(|_| Vec::new());
    let counted = count.to_string();
    for round in 0..TIMES {
        let (took, spent) = bare(&format!("seq {count} | xargs -P 2 -n 1 /bin/true"));
        bare_rows.push([rate(took), each(spent), 0.0]);
        for (at_once, rows) in AT_ONCE.iter().zip(&mut rows) {
            let name = format!("r{round}");
            let mut words = vec!["run", "-d", "--count", &counted, "--name", &name];
            words.extend(at_once.iter().flat_map(|most| ["--at-once", most]));
            words.push("/bin/true");
            let (before, of_kernel, began) = (node.spent(), kernels(), clock());
            node.cosmos(&words);
            node.cosmos(&["wait", "--group", &name]);
            let took = began.elapsed().as_secs_f64();
            let spent = node.spent() - before;
            rows.push([rate(took), each(spent), each(kernels() - of_kernel)]);
            node.cosmos(&["rm", "--group", &name]);
        }
    }
    let of =
        |rows: &[[f64; 3]], column: usize| median(rows.iter().map(|row| row[column]).collect());
    row(
        &format!("`xargs -P 2`, {count} × `/bin/true`"),
        &format!(
            "{:.0} /s, {:.2} ms of processor each",
            of(&bare_rows, 0),
            of(&bare_rows, 1)
        ),
        "",
        None,
    );
    for (at_once, rows) in AT_ONCE.iter().zip(&rows) {
        let ratios = rows.iter().zip(&bare_rows);
        let ratio = median(ratios.map(|(ours, bare)| ours[0] / bare[0]).collect());
        let (rate, cost, beside) = (of(rows, 0), of(rows, 1), of(rows, 2));
        let most = at_once.map_or_else(String::new, |most| format!(" --at-once {most}"));
        row(
            &format!("`cosmos run -d --count {count}{most} /bin/true`"),
            &format!("{rate:.0} /s, {ratio:.2} × that"),
            "≥ 500 /s",
            Some(rate >= 500.0),
        );
        row(
            "its processor time, and that of the kernel's threads meanwhile, others' work included",
            &format!("{cost:.2} ms each, {beside:.2} ms"),
            "≤ 4 ms in all",
            Some(cost + beside <= 4.0),
        );
    }
}

fn program(path: &Path, words: &[&str]) -> Program {
    Program {
        path: path.to_owned(),
        name: "start".into(),
        arguments: words.iter().map(|word| (*word).to_owned()).collect(),
        environment: Vec::new(),
        directory: "/".into(),
        folders: Vec::new(),
        limits: Limits::default(),
        network: Network::default(),
        ports: Vec::new(),
        seed: None,
        devices: Vec::new(),
        health: None,
    }
}

/// From before a request is sent until the program says what time it is, and until its end is answered, in milliseconds.
fn starts(node: &Node, program: &Program, read: impl Fn(&[u8]) -> u64) -> (Vec<f64>, Vec<f64>) {
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for round in 0..=STARTS {
        let name = format!("s{round}");
        let (began, unix) = (clock(), unix_ns());
        let given = node.ask(&Request::Run {
            name: Some(name.clone()),
            program: program.clone(),
            restart: Restart::Never,
        });
        assert!(matches!(given, Answer::Done { .. }), "{given:?}");
        node.ask(&Request::Wait { name: name.clone() });
        let took = began.elapsed().as_secs_f64() * 1000.0;
        let follow = false;
        let logs = Request::Logs {
            name: name.clone(),
            follow,
        };
        let (answer, mut stream) = control::ask(&node.data, &logs).expect("the node answers");
        assert!(matches!(answer, Answer::Logs), "{answer:?}");
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("it is sent");
        node.ask(&Request::Remove { name });
        // The first of all compiles what is compiled, and fills caches.
        if round > 0 {
            first.push(read(&said).saturating_sub(unix) as f64 / 1e6);
            whole.push(took);
        }
    }
    (first, whole)
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "what a program says is by the host's time of day"
)]
fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.expect("after 1970").as_nanos()).expect("before 2554")
}

fn start_and_end(node: &Node) {
    let tell = |what: &str, (mut first, mut whole): (Vec<f64>, Vec<f64>), most: f64| {
        let half = at(&mut first, 0.5);
        row(
            &format!("from a request to the first word of {what}"),
            &format!("p50 {half:.2} ms, p99 {:.2} ms", at(&mut first, 0.99)),
            &format!("p50 ≤ {most} ms"),
            Some(half <= most),
        );
        row(
            "and until its end is answered",
            &format!(
                "p50 {:.2} ms, p99 {:.2} ms",
                at(&mut whole, 0.5),
                at(&mut whole, 0.99)
            ),
            "",
            None,
        );
    };
    let date = program(Path::new("/bin/date"), &["+%s%N"]);
    let text = |said: &[u8]| {
        let said = std::str::from_utf8(said).expect("digits").trim();
        said.parse().expect("nanoseconds")
    };
    tell("a program of the host", starts(node, &date, text), 10.0);
    let alone = (0..STARTS).map(|_| {
        let before = unix_ns();
        let output = Command::new("/bin/date")
            .arg("+%s%N")
            .output()
            .expect("date");
        text(&output.stdout).saturating_sub(before) as f64 / 1e6
    });
    let mut alone: Vec<f64> = alone.collect();
    row(
        "the same program, executed by this one",
        &format!(
            "p50 {:.2} ms, p99 {:.2} ms",
            at(&mut alone, 0.5),
            at(&mut alone, 0.99)
        ),
        "",
        None,
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("now.wasm");
    fs::write(&file, wat::parse_str(CAPSULE).expect("text")).expect("a file");
    let capsule = program(&file, &[]);
    let eight = |said: &[u8]| u64::from_le_bytes(said.try_into().expect("eight bytes"));
    tell("a warm capsule", starts(node, &capsule, eight), 1.0);
}

/// What a node and its stem have in memory, in MiB: pages that several processes share count for each with its part.
fn resident(node: u32) -> (f64, f64) {
    let read = |process: u32, file: &str, key: &str| {
        let text = fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(key).map(str::to_owned));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    };
    let below = children(node).into_iter();
    let below: f64 = below.map(|child| read(child, "smaps_rollup", "Pss:")).sum();
    (read(node, "status", "VmRSS:"), below)
}

/// Watches nodes that do nothing; of each the share of a core it takes.
fn idle(what: &str, nodes: &[Node]) {
    let spent = || -> Vec<f64> {
        nodes
            .iter()
            .map(|node| nanoseconds(node.child.id()))
            .collect()
    };
    let before = spent();
    pause(IDLE);
    let after = spent();
    let shares = after.iter().zip(&before);
    let shares: Vec<f64> = shares
        .map(|(after, before)| (after - before) / IDLE.as_secs_f64() * 100.0)
        .collect();
    let sizes: Vec<_> = nodes.iter().map(|node| resident(node.child.id())).collect();
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
    let (share, size) = (
        most(&mut shares.iter().copied()),
        most(&mut sizes.iter().map(|size| size.0)),
    );
    let below = most(&mut sizes.iter().map(|size| size.1));
    let each: Vec<_> = shares.iter().map(|share| format!("{share:.2}")).collect();
    row(
        &format!("{what}: resident, and its stem besides"),
        &format!("{size:.1} MiB, {below:.1} MiB"),
        "≤ 60 MB",
        Some((size + below) * 1.048_576 <= 60.0),
    );
    row(
        &format!("{what}: share of a core"),
        &format!("{} %", each.join(", ")),
        "≤ 0.5 %",
        Some(share <= 0.5),
    );
}

/// Five on loopback that all vote.
fn fleet() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut nodes: Vec<Node> = Vec::new();
    for number in 0..5 {
        let (name, data) = (format!("n{number}"), folder.path().join(number.to_string()));
        let mut words = vec!["--name", &name];
        let invitation =
            nodes
                .first()
                .map(|first| match first.ask(&Request::Invite { lasts_s: 600 }) {
                    Answer::Invitation { line } => line,
                    other => panic!("{other:?}"),
                });
        if let Some(line) = &invitation {
            words.extend(["--listen", "127.0.0.1:0", "--join", line]);
        }
        nodes.push(Node::up(&data, &words));
    }
    let voters = |node: &Node| match node.ask(&Request::Status) {
        Answer::Status(status) => status
            .fleet
            .council
            .map_or(0, |council| council.voters.len()),
        other => panic!("{other:?}"),
    };
    let until = clock() + Duration::from_secs(120);
    while nodes.iter().any(|node| voters(node) < 5) {
        assert!(clock() < until, "five machines do not all vote");
        pause(Duration::from_millis(200));
    }
    idle("each of five voters", &nodes);
}

/// What a busy program has of a processor for the same work, with the node and without, in turns: a pair meets the same
/// machine.
fn busy(node: &Node) {
    let mut ratios = Vec::new();
    let mut own = Vec::new();
    let read = |said: &[u8]| -> f64 {
        let said = std::str::from_utf8(said).expect("digits").trim();
        said.parse::<f64>().expect("nanoseconds") / 1e9
    };
    for round in 0..PAIRS {
        let bare = || {
            let mut command = Command::new("sh");
            read(&command.args(["-c", BUSY]).output().expect("sh").stdout)
        };
        let with = || {
            let name = format!("b{round}");
            let before = nanoseconds(node.child.id());
            node.cosmos(&["run", "-d", "--name", &name, "sh", "-c", BUSY]);
            node.cosmos(&["wait", &name]);
            let own = nanoseconds(node.child.id()) - before;
            let output = Command::new(env!("CARGO_BIN_EXE_cosmos"))
                .args(["logs", &name])
                .env("COSMOS_DATA", &node.data)
                .output()
                .expect("it starts");
            node.cosmos(&["rm", &name]);
            (read(&output.stdout), own)
        };
        // Who is first has it warmer or colder: every other time it is the other.
        let (without, (took, node)) = match round % 2 {
            0 => (bare(), with()),
            _ => {
                let with = with();
                (bare(), with)
            }
        };
        ratios.push((took + node) / without);
        own.push(node / took * 100.0);
    }
    let spread = (at(&mut ratios, 0.25) - 1.0, at(&mut ratios, 0.75) - 1.0);
    let (loss, own) = ((median(ratios) - 1.0) * 100.0, median(own));
    row(
        &format!(
            "processor time of a busy program and the node, over that of the program alone: median of {PAIRS} pairs"
        ),
        &format!(
            "{loss:+.2} % (half of them from {:+.2} to {:+.2} %); of that the node {own:.2} %",
            spread.0 * 100.0,
            spread.1 * 100.0
        ),
        "≤ +1 %",
        Some(loss <= 1.0),
    );
}

fn main() {
    // Cargo hands on `--bench`.
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let count = words
        .iter()
        .find_map(|word| word.parse().ok())
        .unwrap_or(500);
    let rows: Vec<_> = words
        .iter()
        .filter(|word| word.parse::<usize>().is_err())
        .collect();
    let wanted = |what: &str| rows.is_empty() || rows.iter().any(|row| *row == what);
    println!("| what | measured | wanted | holds |\n|---|---|---|---|");
    {
        let data = tempfile::tempdir().expect("a temporary folder");
        let nodes = [Node::up(data.path(), &[])];
        let node = &nodes[0];
        if wanted("idle") {
            idle("a node that does nothing", &nodes);
        }
        if wanted("start") {
            start_and_end(node);
        }
        if wanted("busy") {
            busy(node);
        }
        if wanted("batch") {
            per_second(node, count);
        }
    }
    if wanted("fleet") {
        fleet();
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!("\n{cores} cores, load average {load} at the end");
}
