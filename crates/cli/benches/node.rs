//! What a node costs: programs per second, the start of one, an idle node, and what a busy program loses to it.
//!
//! The release executable is driven as an operator would; beside each figure stands what the host does without it, in
//! the same run. Wall time says what somebody waits for and depends on who else uses the machine; processor time says
//! what was done for it, and hardly does. `-- N` sets how many programs are started at a time (500 unless said otherwise).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use daemon::control::{self, Answer, Request};
use daemon::program::{Limits, Network, Program};
use daemon::supervision::Restart;

/// How often each is measured; the median is told.
const TIMES: usize = 5;
/// How long a node is watched that has nothing to do.
const IDLE: Duration = Duration::from_secs(30);
/// A loop of a shell that takes a second or so.
const BUSY: &str = "i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done";

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
    fn up(data: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        command
            .args(["up", "--http", "127.0.0.1:0"])
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

    /// Processor time of the node and of all that it has waited for, in seconds.
    fn spent(&self) -> f64 {
        let (own, children) = ticks(self.child.id());
        own + children
    }
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

fn per_second(node: &Node, count: usize) {
    let (mut rows, mut ours) = (Vec::new(), Vec::new());
    for round in 0..TIMES {
        let (took, spent) = bare(&format!("seq {count} | xargs -P 2 -n 1 /bin/true"));
        rows.push((count as f64 / took, spent * 1000.0 / count as f64));
        let (name, before, began) = (format!("r{round}"), node.spent(), clock());
        node.cosmos(&[
            "run",
            "-d",
            "--count",
            &count.to_string(),
            "--name",
            &name,
            "/bin/true",
        ]);
        node.cosmos(&["wait", "--group", &name]);
        let took = began.elapsed().as_secs_f64();
        let spent = node.spent() - before;
        ours.push((count as f64 / took, spent * 1000.0 / count as f64));
        node.cosmos(&["rm", "--group", &name]);
    }
    let say = |what: &str, rows: &[(f64, f64)]| {
        let rate = median(rows.iter().map(|row| row.0).collect());
        let cost = median(rows.iter().map(|row| row.1).collect());
        println!("{what:<44} {rate:>8.0} /s   {cost:>6.2} ms of processor each");
    };
    say(&format!("xargs -P 2, {count} x /bin/true"), &rows);
    say(&format!("cosmos run -d --count {count} /bin/true"), &ours);
}

fn start_and_end(node: &Node) {
    let program = Program {
        path: "/bin/true".into(),
        name: "true".into(),
        arguments: Vec::new(),
        environment: Vec::new(),
        directory: "/".into(),
        folders: Vec::new(),
        limits: Limits::default(),
        network: Network::default(),
        ports: Vec::new(),
        seed: None,
        devices: Vec::new(),
        health: None,
    };
    let mut took = Vec::new();
    for round in 0..100 {
        let name = format!("s{round}");
        let began = clock();
        let given = node.ask(&Request::Run {
            name: Some(name.clone()),
            program: program.clone(),
            restart: Restart::Never,
        });
        assert!(matches!(given, Answer::Done { .. }), "{given:?}");
        node.ask(&Request::Wait { name: name.clone() });
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        node.ask(&Request::Remove { name });
    }
    let (half, most) = (at(&mut took, 0.5), at(&mut took, 0.99));
    println!("from a request to the end of /bin/true        p50 {half:.1} ms   p99 {most:.1} ms");
    let mut alone: Vec<f64> = (0..100).map(|_| bare("/bin/true").0 * 1000.0).collect();
    let (half, most) = (at(&mut alone, 0.5), at(&mut alone, 0.99));
    println!("sh -c /bin/true                               p50 {half:.1} ms   p99 {most:.1} ms");
}

fn idle(node: &Node) {
    let (before, _) = ticks(node.child.id());
    pause(IDLE);
    let (after, _) = ticks(node.child.id());
    let share = (after - before) / IDLE.as_secs_f64() * 100.0;
    let status = fs::read_to_string(format!("/proc/{}/status", node.child.id())).expect("it lives");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    let mebibytes = resident.unwrap_or(f64::NAN) / 1024.0;
    let programs = match node.ask(&Request::List) {
        Answer::List { programs } => programs.len(),
        other => panic!("{other:?}"),
    };
    println!(
        "a node that does nothing, {programs} programs known     {mebibytes:.1} MiB resident   {share:.2} % of a core"
    );
}

fn busy(node: &Node) {
    let (mut without, mut with, mut own) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..TIMES {
        without.push(bare(BUSY).1);
        let name = format!("b{round}");
        let (before, began) = (ticks(node.child.id()), clock());
        node.cosmos(&["run", "-d", "--name", &name, "sh", "-c", BUSY]);
        node.cosmos(&["wait", &name]);
        let after = ticks(node.child.id());
        let took = began.elapsed().as_secs_f64();
        with.push(after.1 - before.1);
        own.push((after.0 - before.0) / took * 100.0);
        node.cosmos(&["rm", &name]);
    }
    let (without, with, own) = (median(without), median(with), median(own));
    let loss = (with / without - 1.0) * 100.0;
    println!(
        "a busy program: processor time for the same work  {without:.2} s bare, {with:.2} s on the node ({loss:+.1} %); the node's own share {own:.2} % of a core"
    );
}

fn main() {
    // Cargo hands on `--bench`.
    let count = std::env::args()
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(500);
    let data = tempfile::tempdir().expect("a temporary folder");
    let node = Node::up(data.path());
    idle(&node);
    start_and_end(&node);
    busy(&node);
    per_second(&node, count);
    idle(&node);
}
