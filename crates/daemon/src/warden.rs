//! The process that stands over one program, and outlives nobody.
//!
//! A program must end with whoever answers for it, however that ends: `kill -9` included. So between
//! the two stand wardens, which are this same executable started with [`WORD`]:
//!
//! ```text
//! cosmos or its node ── outer ──┆── inner (process 1 of its namespace) ── program ── its children
//! ```
//!
//! The **outer** warden asks the kernel to be killed when its parent dies, becomes a member of the
//! program's control groups, and unshares namespaces. The **inner** asks the same of the outer, builds
//! the program's world (see [`confinement`]), starts it, and reaps whatever ends. It
//! is process 1 of its namespace: when it ends, for whatever reason, the kernel kills everything in there,
//! daemons that have detached themselves included. No cooperation of the program is needed, and no
//! moment is without a keeper: each warden checks, after asking, that its parent still lives.
//!
//! Where namespaces are refused, the outer warden does the inner's work, as the *reaper* of its
//! descendants: what the program leaves behind becomes its child and is killed. That holds for every end
//! but one: `kill -9` of the warden itself. Whoever runs the program is told which of both it is.
//!
//! Signals meant for the program are sent to its process group, to which the wardens belong; they
//! take note of them and do nothing.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};
use signal_hook::iterator::Signals;

use crate::capsule;
use crate::cgroup::Group;
use crate::confinement;
use crate::program::{self, Kind, Program};

/// The first argument that makes this executable a warden; see [`main`].
pub const WORD: &str = "__warden";

/// What cosmos itself could not do, as an exit code.
const FAILED: u8 = 125;

/// What a warden is told.
#[derive(Debug, Serialize, Deserialize)]
struct Ward {
    program: Program,
    /// The warden's parent, as the process that wrote this numbers processes.
    parent: i32,
    stage: Stage,
    /// Files to write `0` to.
    doors: Vec<PathBuf>,
    /// Whether resource limits must stand in for a control group, for memory and for cores.
    limit_memory: bool,
    limit_cores: bool,
    /// Where compiled code is kept.
    data: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Outer,
    Inner,
}

/// Starts a program under a warden, in a process group of its own, whose number is the child's.
/// Standard streams are as `streams` sets them. The calling thread must outlive the program: when it
/// ends, the kernel ends the program.
///
/// # Errors
/// If no process can be started.
pub fn start(
    program: &Program,
    group: Option<&Group>,
    data: PathBuf,
    streams: impl FnOnce(&mut Command) -> &mut Command,
) -> io::Result<Child> {
    let holds = |controller| group.is_some_and(|group| group.holds(controller));
    let ward = Ward {
        program: program.clone(),
        parent: rustix::process::getpid().as_raw_pid(),
        stage: Stage::Outer,
        doors: group.map(Group::doors).unwrap_or_default(),
        limit_memory: !holds("memory"),
        limit_cores: !holds("cpu"),
        data,
    };
    let mut command = command(&ward);
    // The program's environment goes as the warden's own, so that nobody else can read it.
    command
        .env_clear()
        .envs(program.environment.iter().map(|(key, value)| (key, value)));
    streams(command.process_group(0)).spawn()
}

/// This executable as a warden. By this name it is found even when it has been replaced on disk.
fn command(ward: &Ward) -> Command {
    let mut told = serde_json::to_value(ward).expect("a ward is plain data");
    told["program"]["environment"] = serde_json::json!([]);
    let mut command = Command::new("/proc/self/exe");
    command.arg0("cosmos").arg(WORD).arg(told.to_string());
    command
}

/// What an executable that uses [`start`] must do first if its first argument is [`WORD`].
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let ward = arguments
        .next()
        .and_then(|told| serde_json::from_str::<Ward>(&told).ok());
    let Some(mut ward) = ward else {
        eprintln!("error: {WORD} is not for people");
        return ExitCode::from(2);
    };
    ward.program.environment = std::env::vars().collect();
    let name = ward.program.name.clone();
    match ward.keep() {
        Ok(code) => ExitCode::from(code),
        Err((what, error)) => {
            eprintln!("error: {name} was not started: {what}: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// What was being done, and what came of it.
type Failed = (String, io::Error);

fn doing<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> Failed {
    move |error| (what.to_owned(), error.into())
}

impl Ward {
    fn keep(self) -> Result<u8, Failed> {
        let kind = self.kind()?;
        if kind != Kind::Native {
            return self.capsule(kind);
        }
        // Handlers are undone when the program is executed; ignoring would be inherited.
        let passed = [
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGHUP,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGUSR2,
        ];
        let mut signals = Signals::new(passed.into_iter().chain([libc::SIGCHLD]))
            .map_err(doing("catching signals"))?;
        match self.stage {
            Stage::Outer => self.outer(&mut signals),
            Stage::Inner => self.inner(&mut signals),
        }
    }

    /// A capsule needs no walls but its own, and has no children: this process is it, and a signal
    /// ends it.
    fn capsule(&self, kind: Kind) -> Result<u8, Failed> {
        die_with_parent(Signal::KILL)?;
        if rustix::process::getppid().map(Pid::as_raw_pid) != Some(self.parent) {
            return Ok(FAILED);
        }
        self.enter_groups()?;
        let ended = capsule::run(&self.program, kind, &capsule::cache_in(&self.data));
        Ok(match ended {
            Ok(ended) => ended.code,
            Err(error) => {
                eprintln!("error: {error}");
                error.exit_code()
            }
        })
    }

    fn enter_groups(&self) -> Result<(), Failed> {
        for door in &self.doors {
            let entered = std::fs::write(door, "0");
            entered.map_err(doing(&format!("entering {}", door.display())))?;
        }
        Ok(())
    }

    fn outer(mut self, signals: &mut Signals) -> Result<u8, Failed> {
        die_with_parent(Signal::KILL)?;
        let parent = rustix::process::getppid().map(Pid::as_raw_pid);
        if parent != Some(self.parent) {
            return Ok(FAILED);
        }
        self.enter_groups()?;
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let own = UnshareFlags::NEWUSER
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS;
        // SAFETY: nothing of this process that is shared with threads is unshared: it has one thread.
        let unshared = unsafe { rustix::thread::unshare_unsafe(own) };
        if let Err(error) = unshared {
            eprintln!(
                "note: {} has no namespaces of its own ({}): it sees other processes, can reach \
                 the node's socket, and what it leaves behind is killed by a reaper, unless that is killed first",
                self.program.name,
                io::Error::from(error)
            );
            return self.reap(signals);
        }
        let map = |file: &str, text: String| {
            std::fs::write(file, text).map_err(doing(&format!("writing {file}")))
        };
        map("/proc/self/setgroups", "deny".to_owned())?;
        map("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
        map("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))?;
        keep_over_exec().map_err(doing("keeping capabilities"))?;
        self.stage = Stage::Inner;
        self.parent = rustix::process::getpid().as_raw_pid();
        let mut inner = command(&self);
        let inner = inner
            .spawn()
            .map_err(doing("starting process 1 of its namespace"))?;
        let inner = pid(&inner);
        await_end(inner, signals)
    }

    fn inner(self, signals: &mut Signals) -> Result<u8, Failed> {
        die_with_parent(Signal::KILL)?;
        // Seen from in here the parent has no number, but /proc is still the outer one.
        let status = std::fs::read_to_string("/proc/self/status");
        let status = status.map_err(doing("reading /proc/self/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        if parent.and_then(|parent| parent.trim().parse().ok()) != Some(self.parent) {
            return Ok(FAILED);
        }
        confinement::enter_own_root(&self.program)?;
        self.start_and_await(true, signals)
    }

    /// Without namespaces: the program as a child, and what it leaves behind as children.
    fn reap(self, signals: &mut Signals) -> Result<u8, Failed> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(doing("becoming a reaper"))?;
        // A signal that can be caught: the descendants must be killed before this process ends.
        die_with_parent(Signal::HUP)?;
        let ended = self.start_and_await(false, signals);
        kill_descendants();
        ended
    }

    fn kind(&self) -> Result<Kind, Failed> {
        program::kind(&self.program.path).map_err(|error| {
            let what = format!("looking at {}", self.program.path.display());
            (what, io::Error::other(error))
        })
    }

    fn start_and_await(self, own_root: bool, signals: &mut Signals) -> Result<u8, Failed> {
        let note = |missing: &str, why: String| {
            eprintln!("note: {} runs without {missing}: {why}", self.program.name);
        };
        self.resource_limits()
            .map_err(doing("setting its limits"))?;
        confinement::give_up_privileges().map_err(doing("giving up privileges"))?;
        if let Err(why) = confinement::close_files(&self.program, own_root) {
            note("Landlock", why);
        }
        if let Err(why) = confinement::refuse_calls() {
            note("seccomp", why);
        }
        let mut command = Command::new(&self.program.path);
        command
            .arg0(&self.program.name)
            .args(&self.program.arguments)
            // Where it was started, if that is there for it.
            .current_dir(match self.program.directory.is_dir() {
                true => &self.program.directory,
                false => std::path::Path::new("/"),
            });
        let child = command.spawn().map_err(doing("executing it"))?;
        await_end(pid(&child), signals)
    }

    /// What of the limits no control group keeps, and what only a resource limit can.
    fn resource_limits(&self) -> io::Result<()> {
        let both = |value| Rlimit {
            current: Some(value),
            maximum: Some(value),
        };
        rustix::process::setrlimit(Resource::Core, both(0))?;
        if let (true, Some(bytes)) = (self.limit_memory, self.program.limits.memory) {
            // Of address space, which is more than memory: stricter, never laxer, and for each process.
            rustix::process::setrlimit(Resource::As, both(bytes))?;
        }
        if let (true, Some(cores)) = (self.limit_cores, self.program.limits.cores) {
            let mut allowed = rustix::thread::sched_getaffinity(None)?;
            let mut left = cores.ceil();
            for core in 0..rustix::thread::CpuSet::MAX_CPU {
                if allowed.is_set(core) {
                    if left < 1.0 {
                        allowed.unset(core);
                    }
                    left -= 1.0;
                }
            }
            rustix::thread::sched_setaffinity(None, &allowed)?;
        }
        Ok(())
    }
}

/// Whoever is not root loses the capabilities over its new namespaces with the next executable, which
/// needs them: the inner warden. It gives them up itself, with [`confinement::give_up_privileges`].
fn keep_over_exec() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = sets.permitted;
    rustix::thread::set_capabilities(None, sets)?;
    for capability in sets.permitted.iter() {
        rustix::thread::configure_capability_in_ambient_set(capability, true)?;
    }
    Ok(())
}

fn die_with_parent(signal: Signal) -> Result<(), Failed> {
    let asked = rustix::process::set_parent_process_death_signal(Some(signal));
    asked.map_err(doing("asking to end with its parent"))
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// Reaps whatever ends until this child does: its exit code, or 128 + the signal that ended it.
fn await_end(child: Pid, signals: &mut Signals) -> Result<u8, Failed> {
    let born_to = rustix::process::getppid();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended == child => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|n| 128 + n));
                return Ok(code.unwrap_or(FAILED.into()).to_le_bytes()[0]);
            }
            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
            Ok(None) => {
                for signal in signals.wait() {
                    // Only where this is a reaper; elsewhere the kernel has killed us already.
                    if signal == libc::SIGHUP && rustix::process::getppid() != born_to {
                        return Ok(128 + 9);
                    }
                }
            }
            Err(error) => return Err(("waiting for it".to_owned(), error.into())),
        }
    }
}

/// Until there are none: what is killed hands its children to its reaper, which is us.
fn kill_descendants() {
    let own = rustix::process::getpid().as_raw_pid();
    let list = format!("/proc/self/task/{own}/children");
    loop {
        let children = std::fs::read_to_string(&list).unwrap_or_default();
        for child in children
            .split_whitespace()
            .filter_map(|n| Pid::from_raw(n.parse().ok()?))
        {
            let _ = rustix::process::kill_process(child, Signal::KILL);
        }
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
