//! A program of the host in the foreground: this process's streams, terminal and signals are its own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions};
use signal_hook::iterator::Signals;

use crate::cgroup::Hierarchy;
use crate::program::Program;
use crate::supervision::GRACE;
use crate::warden::{self, Host};

/// How a program of the host ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code, or 128 + the signal that ended it.
    pub code: u8,
    /// Whether the kernel killed some of it because its memory was used up.
    pub out_of_memory: bool,
    /// Whether it was ended because its deadline passed.
    pub late: bool,
}

/// Runs a program to its end, which is asked for if it has not come by the deadline, and forced after
/// [`GRACE`]. To be called from the main thread: the program ends with the thread.
///
/// # Errors
/// If no process can be started or waited for.
pub fn run(program: &Program, data: &Path, deadline: Option<Duration>) -> io::Result<Ended> {
    let host = Hierarchy::of_this_host().map(|host| match crate::node::of(data) {
        // A hot machine's node slows all that are in its group.
        Some(node) => host.beside_those_of(node),
        None => host,
    });
    let group = host.and_then(|host| host.group("run", program.limits));
    // Before there is a child, so that none of its signals is missed.
    let mut signals = Signals::new(
        warden::PASSED_ON
            .into_iter()
            // A terminal tells of its size whoever has it, which is us.
            .chain([libc::SIGWINCH, libc::SIGCHLD]),
    )?;
    let (group_of, data) = (group.as_ref(), data.to_owned());
    let child = warden::start(program, group_of, data)?;
    let late = Arc::new(AtomicBool::new(false));
    if let Some(deadline) = deadline {
        let (child, late) = (child, Arc::clone(&late));
        thread::Builder::new()
            .name("deadline".into())
            .spawn(move || {
                thread::park_timeout(deadline);
                late.store(true, Ordering::Relaxed);
                warden::signal(child, Signal::TERM);
                thread::park_timeout(Duration::from_nanos(GRACE.0));
                warden::signal(child, Signal::KILL);
            })?;
    }
    let code = accompany(child, &mut signals)?;
    let killed = group
        .as_ref()
        .map_or(0, crate::cgroup::Group::killed_for_memory);
    Ok(Ended {
        code,
        out_of_memory: killed > 0,
        late: late.load(Ordering::Relaxed),
    })
}

/// Runs a program inside another to its end; its limits and walls are the other's. To be called from the main thread.
///
/// # Errors
/// As [`run`].
pub fn run_inside(host: &Host, program: &Program, data: &Path) -> io::Result<u8> {
    let mut signals = Signals::new(
        warden::PASSED_ON
            .into_iter()
            // A terminal tells of its size whoever has it, which is us.
            .chain([libc::SIGWINCH, libc::SIGCHLD]),
    )?;
    let child = warden::go_inside(host, program, data.to_owned())?;
    accompany(child, &mut signals)
}

fn accompany(child: Pid, signals: &mut Signals) -> io::Result<u8> {
    let terminal = Terminal::lend(child);
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::NOHANG | WaitOptions::UNTRACED) {
            Ok(Some((_, status))) if status.stopped() => {
                // Ctrl-Z stopped the program; whoever started us expects us to stop as well.
                terminal.take_back();
                signal_hook::low_level::raise(libc::SIGSTOP)?;
                terminal.lend_again(child);
                let _ = rustix::process::kill_process_group(child, Signal::CONT);
            }
            Ok(Some((_, status))) => {
                terminal.take_back();
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|n| 128 + n));
                return Ok(code.unwrap_or(125).to_le_bytes()[0]);
            }
            Ok(None) => {
                for signal in signals.wait() {
                    if let Some(signal) =
                        Signal::from_named_raw(signal).filter(|s| *s != Signal::CHILD)
                    {
                        warden::signal(child, signal);
                    }
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// The terminal on standard input, if there is one and it is ours: what is typed goes to the process
/// group it is lent to.
struct Terminal(Option<Pid>);

impl Terminal {
    fn lend(to: Pid) -> Self {
        let own = rustix::process::getpgrp();
        let ours = rustix::termios::tcgetpgrp(io::stdin()).is_ok_and(|group| group == own);
        if ours {
            // SAFETY: ignoring a signal runs no code of ours. Taking a terminal back from the background
            // would stop us otherwise. The program was started before and does not inherit it.
            unsafe { libc::signal(libc::SIGTTOU, libc::SIG_IGN) };
        }
        let terminal = Self(ours.then_some(own));
        terminal.lend_again(to);
        if ours {
            // It may have been stopped for reading before the terminal was its own.
            let _ = rustix::process::kill_process_group(to, Signal::CONT);
        }
        terminal
    }

    fn lend_again(&self, to: Pid) {
        if self.0.is_some() {
            let _ = rustix::termios::tcsetpgrp(io::stdin(), to);
        }
    }

    fn take_back(&self) {
        if let Some(own) = self.0 {
            let _ = rustix::termios::tcsetpgrp(io::stdin(), own);
        }
    }
}
