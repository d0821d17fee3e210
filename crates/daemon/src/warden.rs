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
//! Signals that ask for an end go to the program's process group, to which the wardens belong. The one who stands
//! directly over it passes them on if it has left that group, as whoever calls `setsid` does. `SIGUSR1` and `SIGUSR2`
//! mean what a program says they mean and end whoever does not know them: so they go from warden to warden to the
//! program alone. See [`signal`].
//!
//! A warden is told what to do in a file without a name, whose descriptor it inherits: a command line is too short
//! (128 KiB for a word), and can be read by everybody. Of descriptors a program inherits three.
//!
//! **Going inside** ([`go_inside`]) is a third way to stand over a program: the outer warden enters the namespaces of
//! one that runs, and the inner one is a *guest* there. It ends with what it was started for, or with its host.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::fs::MemfdFlags;
use rustix::io::FdFlags;
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, Signal, WaitOptions};
use rustix::thread::{ThreadNameSpaceType, UnshareFlags};
use serde::{Deserialize, Serialize};
use signal_hook::iterator::Signals;

use crate::capsule;
use crate::cgroup::Group;
use crate::confinement;
use crate::health::{self, Others};
use crate::network;
use crate::program::{self, Kind, Network, Port, Program};
use crate::supervision::GRACE;

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
    /// The node's directory: compiled code is kept there, and no program sees it.
    data: PathBuf,
    /// Inherited sockets that listen on the host, and the ports inside they lead to.
    listening: Vec<(i32, u16)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Outer,
    Inner,
    /// Of the program over which this warden stands, an outer one.
    GoingInside(i32),
    Guest,
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
        listening: Vec::new(),
    };
    begin(&ward, Path::new("/proc/self/exe"), |command| {
        streams(command.process_group(0))
    })
}

/// What there is to know to start something beside a program that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The program, as it was started.
    pub program: Program,
    /// The outer warden's process.
    pub process: i32,
    /// The doors of its control groups.
    pub doors: Vec<PathBuf>,
}

/// Starts `program` in the namespaces and control groups of another, as [`start`] would.
///
/// # Errors
/// If no process can be started.
pub fn go_inside(
    host: &Host,
    program: &Program,
    data: PathBuf,
    streams: impl FnOnce(&mut Command) -> &mut Command,
) -> io::Result<Child> {
    let ward = Ward {
        program: program.clone(),
        parent: rustix::process::getpid().as_raw_pid(),
        stage: Stage::GoingInside(host.process),
        doors: host.doors.clone(),
        limit_memory: host.doors.is_empty(),
        limit_cores: host.doors.is_empty(),
        data,
        listening: Vec::new(),
    };
    begin(&ward, Path::new("/proc/self/exe"), |command| {
        streams(command.process_group(0))
    })
}

/// Sends a signal to the program under the warden that [`start`] gave.
pub fn signal(warden: Pid, signal: Signal) {
    // Gone is as good as told.
    let _ = match signal {
        Signal::USR1 | Signal::USR2 => rustix::process::kill_process(warden, signal),
        _ => rustix::process::kill_process_group(warden, signal),
    };
}

/// Starts this executable as a warden. As `/proc/self/exe` it is found even when it has been replaced on disk.
fn begin(
    ward: &Ward,
    executable: &Path,
    set: impl FnOnce(&mut Command) -> &mut Command,
) -> io::Result<Child> {
    let mut told = File::from(rustix::fs::memfd_create("ward", MemfdFlags::empty())?);
    told.write_all(&serde_json::to_vec(ward).expect("a ward is plain data"))?;
    let mut command = Command::new(executable);
    command
        .arg0("cosmos")
        .args([WORD, &told.as_raw_fd().to_string()])
        .env_clear();
    set(&mut command);
    // SAFETY: it takes no lock and no memory.
    unsafe {
        command.pre_exec(|| {
            hold_back(true);
            Ok(())
        });
    }
    command.spawn()
}

/// What an executable that uses [`start`] must do first if its first argument is [`WORD`].
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let told = arguments.next().and_then(|descriptor| {
        let descriptor: i32 = descriptor.parse().ok()?;
        File::open(format!("/proc/self/fd/{descriptor}")).ok()
    });
    let Some(ward) = told.and_then(|told| serde_json::from_reader::<_, Ward>(told).ok()) else {
        eprintln!("error: {WORD} is not for people");
        return ExitCode::from(2);
    };
    let name = ward.program.name.clone();
    match inherit_nothing()
        .map_err(doing("closing files"))
        .and_then(|()| ward.keep())
    {
        Ok(code) => ExitCode::from(code),
        Err(Failed { code, what, error }) => {
            eprintln!("error: {name} was not started: {what}: {error}");
            ExitCode::from(code)
        }
    }
}

/// Every descriptor but those of the standard streams ends with the next executable.
fn inherit_nothing() -> io::Result<()> {
    // SAFETY: this flag closes nothing; it has effect when a program is executed.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            3_u32,
            u32::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn hand_on(descriptor: impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(rustix::io::fcntl_setfd(descriptor, FdFlags::empty())?)
}

/// What was being done, what came of it, and the exit code that says so.
struct Failed {
    code: u8,
    what: String,
    error: io::Error,
}

impl From<(String, io::Error)> for Failed {
    fn from((what, error): (String, io::Error)) -> Self {
        let code = FAILED;
        Self { code, what, error }
    }
}

fn doing<E: Into<io::Error>>(what: &str) -> impl FnOnce(E) -> Failed {
    move |error| (what.to_owned(), error.into()).into()
}

/// What a shell says when a file is there and cannot be executed, or what it needs is not there.
fn unexecutable(path: &Path) -> impl FnOnce(io::Error) -> Failed {
    move |error| {
        let (code, found) = match error.raw_os_error() {
            Some(libc::ENOENT) => (
                127,
                ": the interpreter it names is not there, or not among what it sees (--dir)",
            ),
            Some(libc::ENOEXEC) => (
                126,
                ": found neither an executable of this machine nor a script that begins with #!",
            ),
            Some(libc::EAGAIN | libc::ENOMEM) => (FAILED, ""),
            _ => (126, ""),
        };
        let what = format!("executing {}{found}", path.display());
        Failed { code, what, error }
    }
}

/// Whom the child of a warden is: another one, or the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Below {
    Warden,
    Program,
}

/// What a person, a script or a node sends to a program.
pub(crate) const PASSED_ON: [i32; 6] = [
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

impl Ward {
    fn keep(self) -> Result<u8, Failed> {
        let refuse = |because: String| {
            let error = io::Error::other(because);
            Err(Failed::from(("looking at what it is".to_owned(), error)))
        };
        let data = self.data.canonicalize().ok();
        if let Some(data) = data
            && let Some(folder) = self
                .program
                .folders
                .iter()
                .find(|f| f.host.starts_with(&data))
        {
            let folder = folder.host.display();
            return refuse(format!("{folder} is inside the node's own directory"));
        }
        match (self.stage, self.kind()) {
            // What it is shows inside.
            (Stage::GoingInside(_), _) | (_, Ok(Kind::Native)) => {}
            (Stage::Guest, Ok(_)) => {
                return refuse("a capsule has no inside but its own".to_owned());
            }
            (_, kind) => {
                let kind = kind?;
                hold_back(false);
                return self.capsule(kind);
            }
        }
        // Handlers are undone when the program is executed; ignoring would be inherited.
        let mut signals = Signals::new(PASSED_ON.into_iter().chain([libc::SIGCHLD]))
            .map_err(doing("catching signals"))?;
        hold_back(false);
        match self.stage {
            Stage::Outer => self.outer(&mut signals),
            Stage::Inner => self.inner(&mut signals),
            Stage::GoingInside(warden) => self.go_inside(warden, &mut signals),
            Stage::Guest => self.guest(&mut signals),
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
        let ended = capsule::run(&self.program, kind, &self.data);
        Ok(match ended {
            Ok(ended) => {
                if let Some(used) = ended.used {
                    eprintln!("note: {} used {used}", self.program.name);
                }
                ended.code
            }
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
        if !self.ties_its_life_to_its_parent()? {
            return Ok(FAILED);
        }
        self.enter_groups()?;
        let ports = match self.program.network {
            Network::Own => self.program.ports.as_slice(),
            Network::Host => &[],
        };
        let listening = ports.iter().map(|port| {
            let listener = TcpListener::bind(port.host);
            let listener = listener.map_err(doing(&format!("listening on {}", port.host)))?;
            Ok((listener, port))
        });
        let listening: Vec<(TcpListener, &Port)> = listening.collect::<Result<_, Failed>>()?;
        // What is to be seen of the node's directory is nothing, also if it is made while the program runs.
        if let Some(_folder) = confinement::shows(&self.program, &self.data, false) {
            let _ = crate::cache::make_private(&self.data);
        }
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let mut own = UnshareFlags::NEWUSER
            | UnshareFlags::NEWPID
            | UnshareFlags::NEWNS
            | UnshareFlags::NEWIPC
            | UnshareFlags::NEWUTS;
        if self.program.network == Network::Own {
            own |= UnshareFlags::NEWNET;
        }
        // SAFETY: nothing of this process that is shared with threads is unshared: it has one thread.
        let unshared = unsafe { rustix::thread::unshare_unsafe(own) };
        if let Err(error) = unshared {
            eprintln!(
                "note: {} has no namespaces of its own ({}): it sees other processes, has the host's network, can \
                 reach the node's socket, and what it leaves behind is killed by a reaper, unless that is killed first",
                self.program.name,
                io::Error::from(error)
            );
            drop(listening);
            return self.reap(signals);
        }
        let map = |file: &str, text: String| {
            std::fs::write(file, text).map_err(doing(&format!("writing {file}")))
        };
        map("/proc/self/setgroups", "deny".to_owned())?;
        map("/proc/self/uid_map", format!("{0} {0} 1", user.as_raw()))?;
        map("/proc/self/gid_map", format!("{0} {0} 1", group.as_raw()))?;
        keep_over_exec().map_err(doing("keeping capabilities"))?;
        for (listener, port) in &listening {
            hand_on(listener).map_err(doing("handing on a port"))?;
            self.listening.push((listener.as_raw_fd(), port.guest));
        }
        self.stage = Stage::Inner;
        self.parent = rustix::process::getpid().as_raw_pid();
        let inner = begin(&self, Path::new("/proc/self/exe"), |command| command);
        let inner = inner.map_err(doing("starting process 1 of its namespace"))?;
        drop(listening);
        pass_on_early(pid(&inner), signals);
        await_end(pid(&inner), Below::Warden, &Others::default(), signals)
    }

    /// Asks the kernel to be killed with its parent; `false` if that is gone already.
    fn ties_its_life_to_its_parent(&self) -> Result<bool, Failed> {
        die_with_parent(Signal::KILL)?;
        let parent = rustix::process::getppid().map(Pid::as_raw_pid);
        Ok(parent == Some(self.parent))
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
        let mut listening = Vec::new();
        for (descriptor, port) in &self.listening {
            // SAFETY: this process inherited it for this, and nothing else here knows its number.
            let listener = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(*descriptor) };
            listening.push((TcpListener::from(listener), *port));
        }
        if self.program.network == Network::Own {
            network::bring_up_loopback().map_err(doing("bringing up its loopback"))?;
        }
        confinement::enter_own_root(&self.program, &self.data)?;
        self.start_and_await(true, listening, signals)
    }

    fn go_inside(mut self, warden: i32, signals: &mut Signals) -> Result<u8, Failed> {
        if !self.ties_its_life_to_its_parent()? {
            return Ok(FAILED);
        }
        let below = std::fs::read_to_string(format!("/proc/{warden}/task/{warden}/children"));
        let below = below.map_err(doing("looking for the program"))?;
        let below = below.split_whitespace().next();
        let inside = below.and_then(|number| Pid::from_raw(number.parse().ok()?));
        let inside = inside.ok_or_else(|| {
            let error = io::Error::other("it has ended");
            doing::<io::Error>("looking for the program")(error)
        })?;
        let held = rustix::process::pidfd_open(inside, PidfdFlags::empty())
            .map_err(doing("holding the program"))?;
        self.enter_groups()?;
        let mut spaces = ThreadNameSpaceType::empty();
        for (name, space) in [
            ("user", ThreadNameSpaceType::USER),
            ("pid", ThreadNameSpaceType::PROCESS_ID),
            ("mnt", ThreadNameSpaceType::MOUNT),
            ("net", ThreadNameSpaceType::NETWORK),
            ("ipc", ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION),
            ("uts", ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME),
        ] {
            let of = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}"));
            let theirs = of(&inside.as_raw_pid().to_string()).map_err(doing("looking inside"))?;
            // Entering what one is in already takes a right that is lost on the way.
            if of("self").ok() != Some(theirs) {
                spaces |= space;
            }
        }
        if spaces.is_empty() {
            // Where namespaces are refused there is no inside.
            return self.reap(signals);
        }
        // Inside there is neither this file nor, for this process, /proc/self.
        let executable = File::open("/proc/self/exe").map_err(doing("opening itself"))?;
        hand_on(&executable).map_err(doing("handing itself on"))?;
        rustix::thread::move_into_thread_name_spaces(held.as_fd(), spaces)
            .map_err(doing("going inside"))?;
        keep_over_exec().map_err(doing("keeping capabilities"))?;
        self.stage = Stage::Guest;
        let executable_inside = format!("/proc/self/fd/{}", executable.as_raw_fd());
        let guest = begin(&self, Path::new(&executable_inside), |command| command);
        let guest = guest.map_err(doing("starting inside"))?;
        await_end(pid(&guest), Below::Warden, &Others::default(), signals)
    }

    fn guest(self, signals: &mut Signals) -> Result<u8, Failed> {
        die_with_parent(Signal::KILL)?;
        // A parent that is outside has no number here; who lost it is given to process 1.
        if rustix::process::getppid().is_some() {
            return Ok(FAILED);
        }
        self.start_and_await(true, Vec::new(), signals)
    }

    /// Without namespaces: the program as a child, and what it leaves behind as children.
    fn reap(self, signals: &mut Signals) -> Result<u8, Failed> {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(doing("becoming a reaper"))?;
        if let Some(folder) = confinement::shows(&self.program, &self.data, true) {
            let because = format!(
                "{} shows the node's own directory, {}, which cannot be hidden without namespaces",
                folder.display(),
                self.data.display()
            );
            return Err(doing("looking at its folders")(io::Error::other(because)));
        }
        // A signal that can be caught: the descendants must be killed before this process ends.
        die_with_parent(Signal::HUP)?;
        let ended = self.start_and_await(false, Vec::new(), signals);
        kill_descendants();
        ended
    }

    fn kind(&self) -> Result<Kind, Failed> {
        program::kind(&self.program.path).map_err(|error| Failed {
            code: error.exit_code(),
            what: format!("looking at {}", self.program.path.display()),
            error: io::Error::other(error),
        })
    }

    fn start_and_await(
        self,
        own_root: bool,
        listening: Vec<(TcpListener, u16)>,
        signals: &mut Signals,
    ) -> Result<u8, Failed> {
        let note = |missing: &str, why: String| {
            eprintln!("note: {} runs without {missing}: {why}", self.program.name);
        };
        self.resource_limits()
            .map_err(doing("setting its limits"))?;
        // Should all of the host's memory be used up, programs go before what stands over them.
        let _ = std::fs::write("/proc/self/oom_score_adj", "500");
        confinement::give_up_privileges().map_err(doing("giving up privileges"))?;
        if let Err(why) = confinement::close_files(&self.program, own_root) {
            note("Landlock", why);
        }
        if let Err(why) = confinement::refuse_calls() {
            note("seccomp", why);
        }
        // From here on: a thread keeps what was closed to the one that starts it.
        for (listener, port) in listening {
            network::carry(listener, port).map_err(doing("carrying a port"))?;
        }
        let program = Arc::new(self.program);
        let beside = {
            let program = Arc::clone(&program);
            move |file: &Path, name: &str, arguments: &[String]| {
                let mut command = Command::new(file);
                command
                    .arg0(name)
                    .args(arguments)
                    .env_clear()
                    .envs(program.environment.iter().map(|(key, value)| (key, value)))
                    // Where it was started, if that is there for it.
                    .current_dir(match program.directory.is_dir() {
                        true => &program.directory,
                        false => Path::new("/"),
                    });
                command
            }
        };
        let mut command = beside(&program.path, &program.name, &program.arguments);
        let child = command.spawn().map_err(unexecutable(&program.path))?;
        let (child, others, unwell) = (pid(&child), Others::default(), Arc::new(OnceLock::new()));
        pass_on_early(child, signals);
        if let Some(health) = &program.health {
            let because = Arc::clone(&unwell);
            let beside = move |words: &[String]| match words {
                [file, arguments @ ..] => beside(Path::new(file), file, arguments),
                [] => beside(Path::new("true"), "true", &[]),
            };
            let watched = health::watch(health.clone(), others.clone(), beside, move |said| {
                let _ = because.set(said);
                // The rest of its processes end with it.
                let _ = rustix::process::kill_process(child, Signal::TERM);
                std::thread::park_timeout(Duration::from_nanos(GRACE.0));
                let _ = rustix::process::kill_process(child, Signal::KILL);
            });
            watched.map_err(doing("watching its health"))?;
        }
        let ended = await_end(child, Below::Program, &others, signals)?;
        Ok(match unwell.get() {
            Some(because) => {
                eprintln!("error: {} was ended: {because}", program.name);
                health::UNWELL
            }
            None => ended,
        })
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
fn await_end(
    child: Pid,
    below: Below,
    others: &Others,
    signals: &mut Signals,
) -> Result<u8, Failed> {
    let born_to = rustix::process::getppid();
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((ended, status))) if ended == child => {
                let code = status
                    .exit_status()
                    .or(status.terminating_signal().map(|n| 128 + n));
                return Ok(code.unwrap_or(FAILED.into()).to_le_bytes()[0]);
            }
            Ok(Some((other, status))) => others.ended(other, status),
            Err(rustix::io::Errno::INTR) => {}
            Ok(None) => {
                for signal in signals.wait() {
                    // Only where this is a reaper; elsewhere the kernel has killed us already.
                    if signal == libc::SIGHUP && rustix::process::getppid() != born_to {
                        return Ok(128 + 9);
                    }
                    if let Some(signal) = Signal::from_named_raw(signal) {
                        pass_on(child, below, signal);
                    }
                }
            }
            Err(error) => return Err(doing("waiting for it")(error)),
        }
    }
}

/// What came before there was a child to give it to.
fn pass_on_early(child: Pid, signals: &mut Signals) {
    for signal in signals.pending().filter_map(Signal::from_named_raw) {
        if signal != Signal::CHILD {
            let _ = rustix::process::kill_process(child, signal);
        }
    }
}

/// Lets [`PASSED_ON`] wait, or no more. A warden is executed with them waiting, so that none is lost before it
/// has its handlers.
fn hold_back(hold: bool) {
    let how = if hold {
        libc::SIG_BLOCK
    } else {
        libc::SIG_UNBLOCK
    };
    // SAFETY: a set of signals on the stack is filled before it is read; all these may be called between
    // fork and exec.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in PASSED_ON {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, std::ptr::null_mut());
    }
}

/// What the kernel has not given the child by itself: see the beginning of this file.
fn pass_on(child: Pid, below: Below, signal: Signal) {
    // SAFETY: two numbers in, one out. A group outside this namespace has no number that rustix could hold: 0.
    let group = |process: i32| unsafe { libc::getpgid(process) };
    let _ = match (signal, below) {
        (Signal::CHILD, _) => Ok(()),
        (Signal::USR1 | Signal::USR2, _) => rustix::process::kill_process(child, signal),
        (_, Below::Warden) => Ok(()),
        (_, Below::Program) => match group(child.as_raw_pid()) {
            left if left == group(0) => Ok(()),
            left if left == child.as_raw_pid() => {
                rustix::process::kill_process_group(child, signal)
            }
            _ => rustix::process::kill_process(child, signal),
        },
    };
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
