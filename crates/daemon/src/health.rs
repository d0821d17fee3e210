//! Is a program well, though it runs?
//!
//! Whoever stands directly over a program asks it now and then: by connecting to a port, by getting a page, or by
//! running something beside it. It stands inside the program's walls, so it sees what the program's own clients
//! there would see. A program that does not answer several times in a row is ended, asked first and forced after
//! [`GRACE`](crate::supervision::GRACE), and its end has a code of its own, [`UNWELL`]: so what happens then is what
//! its restart policy says, and needs no other mechanism.
//!
//! Until it was well once, or [`Health::start_ms`] are over, nothing counts: a database that replays its log is not ill.
//!
//! Deliberately absent: health that others see. A program is well or is being ended.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitStatus};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The exit code of a program that was ended because it was not well: that of `timeout`, for the same reason.
pub const UNWELL: u8 = 124;

/// Between questions to a program that was not well yet and need not be, in milliseconds.
const FIRST_MS: u64 = 500;

/// How to find out whether a program is well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// What is asked.
    pub check: Check,
    /// Between one answer and the next question, in milliseconds.
    pub every_ms: u64,
    /// An answer that takes longer is none, in milliseconds.
    pub patience_ms: u64,
    /// So many times in a row without an answer, and the program is ended.
    pub failures: u32,
    /// For so long after its start a program that was never well is left alone, in milliseconds.
    pub start_ms: u64,
}

/// What is asked of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Check {
    /// That these words, run beside it, end with 0.
    Exec(Vec<String>),
    /// That it takes a connection on this port of its loopback.
    Tcp(u16),
    /// That it answers a GET there with a status from 200 to 399.
    Http {
        /// The port.
        port: u16,
        /// What is got, beginning with `/`.
        path: String,
    },
}

/// Children besides the program, and who waits for the end of each. All children of a warden are reaped in one place.
#[derive(Clone, Debug, Default)]
pub struct Others(Arc<Mutex<BTreeMap<i32, SyncSender<WaitStatus>>>>);

impl Others {
    /// A child has ended.
    pub fn ended(&self, child: Pid, status: WaitStatus) {
        let mut waited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waits) = waited.remove(&child.as_raw_pid()) {
            let _ = waits.try_send(status);
        }
    }

    fn start(&self, command: &mut Command) -> io::Result<(Pid, Receiver<WaitStatus>)> {
        // Held, so that its end cannot be told before somebody waits for it.
        let mut waited = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = Pid::from_child(&command.spawn()?);
        let (tells, told) = sync_channel(1);
        waited.insert(child.as_raw_pid(), tells);
        Ok((child, told))
    }
}

/// Asks from now on, in a thread of its own; calls `well` when it answers for the first time, and `unwell` once with what was wrong, if it comes to that.
///
/// # Errors
/// If the kernel gives no thread.
pub fn watch(
    health: Health,
    others: Others,
    beside: impl Fn(&[String]) -> Command + Send + 'static,
    well: impl Fn() + Send + 'static,
    unwell: impl FnOnce(String) + Send + 'static,
) -> io::Result<()> {
    let span = Duration::from_millis;
    let thread = thread::Builder::new().name("health".into());
    thread.spawn(move || {
        let began = clock();
        let (mut failed, mut was_well) = (0, false);
        loop {
            let beginning = clock().duration_since(began) < span(health.start_ms);
            // Who waits for a program to be well should not wait for the pace of one that is.
            let pause = match was_well || !beginning {
                true => health.every_ms,
                false => health.every_ms.min(FIRST_MS),
            };
            thread::park_timeout(span(pause));
            let asked = health.check.ask(span(health.patience_ms), &others, &beside);
            let Err(because) = asked else {
                if !std::mem::replace(&mut was_well, true) {
                    well();
                }
                failed = 0;
                continue;
            };
            if was_well || clock().duration_since(began) >= span(health.start_ms) {
                failed += 1;
            }
            if failed >= health.failures {
                return unwell(format!(
                    "{} {failed} times in a row: {because}",
                    health.check
                ));
            }
        }
    })?;
    Ok(())
}

#[expect(
    clippy::disallowed_methods,
    reason = "a host's program lives by the host's clock"
)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exec(words) => write!(f, "{:?} failed", words.join(" ")),
            Self::Tcp(port) => write!(f, "port {port} took no connection"),
            Self::Http { port, path } => write!(f, "port {port} did not serve {path}"),
        }
    }
}

impl Check {
    fn ask(
        &self,
        patience: Duration,
        others: &Others,
        beside: &impl Fn(&[String]) -> Command,
    ) -> Result<(), String> {
        match self {
            Self::Tcp(port) => connect(*port, patience).map(drop).map_err(words),
            Self::Http { port, path } => get(*port, path, patience),
            Self::Exec(asked) => {
                let mut command = beside(asked);
                command
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null());
                let (child, told) = others.start(&mut command).map_err(words)?;
                match told.recv_timeout(patience) {
                    Ok(status) if status.exit_status() == Some(0) => Ok(()),
                    Ok(status) => Err(match status.exit_status() {
                        Some(code) => format!("it ended with {code}"),
                        None => "it was killed".to_owned(),
                    }),
                    Err(_) => {
                        let _ = rustix::process::kill_process(child, Signal::KILL);
                        Err(format!("no end within {} ms", patience.as_millis()))
                    }
                }
            }
        }
    }
}

fn words(error: io::Error) -> String {
    error.to_string()
}

fn connect(port: u16, patience: Duration) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), patience)
}

fn get(port: u16, path: &str, patience: Duration) -> Result<(), String> {
    let answered = || -> io::Result<Vec<u8>> {
        let mut stream = connect(port, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write!(
            stream,
            "GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )?;
        let mut head = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut head)?;
        Ok(head.into())
    };
    let head = answered().map_err(words)?;
    let head = String::from_utf8_lossy(&head);
    let status = head
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.get(2..)?.parse::<u16>().ok());
    match status {
        Some(200..=399) => Ok(()),
        _ => Err(format!("found {head:?}, expected a status from 200 to 399")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_page_is_served_if_its_status_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let answers = [
            "HTTP/1.1 204 No\r\n\r\n",
            "HTTP/1.0 302 X\r\n",
            "HTTP/1.1 500 X\r\n",
            "nonsense",
            "",
        ];
        let server = thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                // All of it: a connection closed with something unread takes the answer with it.
                let mut asked = Vec::new();
                while !asked.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).unwrap();
                    asked.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let patience = Duration::from_secs(20);
        let served: Vec<_> = answers.map(|_| get(port, "/x", patience).is_ok()).into();
        assert_eq!(served, [true, true, false, false, false]);
        server.join().unwrap();
        assert!(get(port, "/", patience).is_err(), "nobody listens any more");
    }
}
