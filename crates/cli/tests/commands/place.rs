//! A folder to call `cosmos` in, with a node's directory of its own, and a node there.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Place(pub(crate) TempDir);

/// What a call came to.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    pub(crate) fn of(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().expect("a temporary folder"))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Where it lies, without symbolic links.
    pub(crate) fn real(&self, name: &str) -> String {
        self.path(name)
            .canonicalize()
            .unwrap()
            .display()
            .to_string()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path(name), bytes).expect("a file in it");
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cosmos"));
        command
            .args(arguments)
            .current_dir(self.0.path())
            .env("COSMOS_DATA", self.path("data"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// A program that has said `ready`.
    pub(crate) fn ready(&self, arguments: &[&str]) -> Child {
        let mut child = self.command(arguments).spawn().expect("it starts");
        let mut line = String::new();
        let mut said = BufReader::new(child.stdout.as_mut().expect("a pipe"));
        said.read_line(&mut line).expect("it says something");
        assert_eq!(line, "ready\n");
        child
    }

    pub(crate) fn cosmos(&self, arguments: &[&str], input: &str) -> Said {
        let mut child = self.command(arguments).spawn().expect("the command starts");
        // A program that does not read may be gone by now.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        Said::of(child.wait_with_output().expect("the command ends"))
    }
}

/// A node that has said it is ready; it is killed with this.
pub(crate) struct Up(pub(crate) Child);

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Up {
    /// And the line in which it says so.
    pub(crate) fn at(place: &Place) -> (Self, String) {
        let (up, mut lines) = Self::with_warnings(&mut place.command(&["up"]));
        assert_eq!(lines.len(), 1, "{lines:?}");
        (up, lines.remove(0))
    }

    /// And every line up to that.
    pub(crate) fn with_warnings(command: &mut Command) -> (Self, Vec<String>) {
        let mut child = command.spawn().expect("a node starts");
        let mut lines = Vec::new();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        while !lines
            .last()
            .is_some_and(|line: &String| line.starts_with("node: ready on "))
        {
            let mut line = String::new();
            let read = said.read_line(&mut line).expect("it says something");
            assert!(read > 0, "it is never ready: {lines:?}");
            lines.push(line);
        }
        // Kept open: a node that cannot speak must not end of it.
        std::thread::spawn(move || said.read_to_string(&mut String::new()));
        (Self(child), lines)
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([signal, &self.0.id().to_string()])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Place {
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let Said { code, out, err } = self.cosmos(arguments, "");
        assert_eq!((code, err.as_str()), (Some(0), ""), "{arguments:?}");
        out
    }

    pub(crate) fn program(&self, name: &str) -> Value {
        let listed: Value = serde_json::from_str(&self.ok(&["ps", "--json"])).expect("JSON");
        let programs = listed["programs"].as_array().expect("a list").clone();
        programs
            .into_iter()
            .find(|program| program["name"] == name)
            .unwrap_or(Value::Null)
    }

    pub(crate) fn phase(&self, name: &str) -> String {
        self.program(name)["phase"]
            .as_str()
            .unwrap_or("unknown")
            .to_owned()
    }
}

/// Waits until something is so; a minute without it is a failure, however slow the machine.
#[expect(
    clippy::disallowed_methods,
    reason = "other processes are waited for, and they live by the host's clock"
)]
#[track_caller]
pub(crate) fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain until {what}");
}

/// The processes whose command line holds this.
pub(crate) fn processes(holding: &str) -> Vec<String> {
    let entries = fs::read_dir("/proc").expect("processes").flatten();
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<u32>().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(holding)).collect()
}

/// Whether this host gives a program namespaces of its own. Where it does not, `cosmos run` says so,
/// and what needs them cannot be tested; a build server must have them.
pub(crate) fn walled() -> bool {
    let said = Place::new().cosmos(&["run", "true"], "");
    let walled = !said.err.contains("has no namespaces of its own");
    assert!(
        walled || std::env::var("CI").as_deref() != Ok("true"),
        "{}",
        said.err
    );
    if !walled {
        eprintln!("skipped: this host gives programs no namespaces");
    }
    walled
}

/// Whether something is here; a build server must have it.
pub(crate) fn has(what: &str, there: bool) -> bool {
    assert!(
        there || std::env::var("CI").as_deref() != Ok("true"),
        "{what} is missing"
    );
    if !there {
        eprintln!("skipped: {what} is missing");
    }
    there
}

/// A number of seconds that nobody else sleeps, by which a process can be found.
pub(crate) fn unheard_of(salt: u32) -> String {
    let seconds = 100_000_000 + u64::from(std::process::id()) * 10 + u64::from(salt);
    seconds.to_string()
}
