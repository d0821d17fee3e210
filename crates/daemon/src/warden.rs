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
//! program's control groups, and unshares namespaces. The **inner**, its fork, asks the same of the outer, builds
//! the program's world (see [`confinement`]), starts it, and reaps whatever ends. It
//! is process 1 of its namespace: when it ends, for whatever reason, the kernel kills everything in there,
//! daemons that have detached themselves included. No cooperation of the program is needed, and no
//! moment is without a keeper: each warden checks, after asking, that its parent still lives.
//!
//! What only the outer can do is done outside: ending what a lease no longer covers, and listening on ports of the host.
//! A program of a node that has neither has the inner alone, a child of the node's (`Walls`): it becomes a member of the
//! control groups itself.
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
//! (128 KiB for a word), and can be read by everybody. Of descriptors a program inherits three. A node does not execute
//! each of its wardens: they are forks of its [`stem`], and its children as if it had.
//!
//! **A lease.** A program may run until an instant that the node puts off, and not longer ([`lease`](crate::lease)): then the outer warden kills what
//! stands below it, whatever the node does meanwhile, and waits until nothing of it is left.
//!
//! **Handing over.** Whoever runs elsewhere from now on must first be unreachable here, and lose nobody it was serving: so before it is asked to end, its
//! warden is asked to [`shut`] its ports. That says when nobody is served any more, in the same memory ([`Grip::is_quiet`]).
//!
//! **Going inside** ([`go_inside`]) is a third way to stand over a program: the outer warden enters the namespaces of
//! one that runs, and the inner one is a *guest* there. It ends with what it was started for, with whoever asked for it, or
//! with its host, and what it started with it.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::net::TcpListener;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
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
use crate::lease::{Grip, Ledger, Tenancy, Timer, boottime};
use crate::network::{self, Doors};
use crate::program::{self, Kind, Network, Port, Program};
use crate::spare::{self, Spare};
use crate::stem::{self, Forked, Grown, Stem, Walls, Within};
use crate::supervision::GRACE;

/// The first argument that makes this executable a warden; see [`main`].
pub const WORD: &str = "__warden";

/// The second, of what is no warden yet; see [`stem`].
const STEM: &str = "stem";

/// What cosmos itself could not do, as an exit code.
const FAILED: u8 = 125;

/// What a warden is told.
#[derive(Debug, Serialize, Deserialize)]
struct Ward {
    program: Program,
    /// The warden's parent, as the process that wrote this numbers processes.
    parent: i32,
    /// That process's user and group, which are the warden's and the program's.
    user: (u32, u32),
    stage: Stage,
    /// Files to write `0` to.
    doors: Vec<PathBuf>,
    /// Whether resource limits must stand in for a control group, for memory and for cores.
    limit_memory: bool,
    limit_cores: bool,
    /// The node's directory: compiled code is kept there, and no program sees it.
    data: PathBuf,
    /// Where what it becomes is kept, if it is a capsule that is asked for events.
    state: Option<PathBuf>,
    /// Of a guest, whose parent has no number for it: an inherited pipe that ends with that.
    parents: Option<i32>,
    /// The lease it runs under.
    lease: Option<Tenancy>,
    /// And its grip, which is handed on beside this.
    #[serde(skip)]
    grip: Option<Grip>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Stage {
    Outer,
    /// In its namespaces from the beginning, as process 1.
    First,
    /// Of a capsule, for which it waited.
    Spare,
    /// Of the program over which this warden stands, an outer one.
    GoingInside(i32),
    Guest,
}

/// Starts a program under a warden, in a process group of its own, whose number is the child's.
/// Standard streams are as this process's.
/// The calling thread must outlive the program: when it ends, the kernel ends the program.
///
/// # Errors
/// If no process can be started.
pub fn start(program: &Program, group: Option<&Group>, data: PathBuf) -> io::Result<Pid> {
    let ward = Ward::outer(program, group, None, (data, None));
    begin(&ward, Path::new("/proc/self/exe"), true)
}

/// The same of a program that is of this kind, with a warden that is forked from a stem, which the calling thread has
/// started. `place` is the node's directory, and where a capsule that is asked for events is kept.
///
/// # Errors
/// If no process can be started; [`io::ErrorKind::BrokenPipe`] if the stem has ended.
pub fn fork(
    stem: &Stem,
    (program, kind): (&Program, Kind),
    group: Option<&Group>,
    lease: Option<(&Tenancy, &Grip)>,
    place: (PathBuf, Option<PathBuf>),
    streams: [BorrowedFd<'_>; 3],
) -> io::Result<Pid> {
    let ward = Ward::outer(program, group, lease, place);
    let grip = lease.map(|(_, grip)| grip.as_fd());
    let walls = match program.network {
        _ if lease.is_some() || kind != Kind::Native => Walls::None,
        Network::Host => Walls::ButNetwork,
        Network::Own if program.ports.is_empty() => Walls::All,
        Network::Own => Walls::None,
    };
    let told = ward.told(MemfdFlags::CLOEXEC)?;
    stem.fork(told.as_fd(), streams, grip, walls)
}

/// The same of a capsule, with a warden that has waited for it; and the control group that it is in.
///
/// # Errors
/// If that has ended.
pub(crate) fn order(
    spare: Spare,
    program: &Program,
    lease: Option<(&Tenancy, &Grip)>,
    place: (PathBuf, Option<PathBuf>),
    streams: [BorrowedFd<'_>; 3],
) -> io::Result<(Pid, Option<Group>)> {
    let told = Ward::outer(program, None, lease, place).told(MemfdFlags::CLOEXEC)?;
    spare.order(told.as_fd(), streams, lease.map(|(_, grip)| grip.as_fd()))
}

/// Kills the program under the warden that [`start`] gave, and leaves it to the warden to see that nothing of it is left.
pub fn end(warden: Pid) {
    let number = warden.as_raw_pid();
    let below = std::fs::read_to_string(format!("/proc/{number}/task/{number}/children"));
    let below = below.unwrap_or_default();
    let mut below = below
        .split_whitespace()
        .filter_map(|n| Pid::from_raw(n.parse().ok()?))
        .peekable();
    if below.peek().is_none() {
        // It has started nobody yet, or is a capsule.
        return signal(warden, Signal::KILL);
    }
    for process in below {
        let _ = rustix::process::kill_process(process, Signal::KILL);
    }
}

/// What there is to know to start something beside a program that runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The program, as it was started.
    pub program: Program,
    /// The process of its warden, of the outer one where there are two.
    pub process: i32,
    /// The doors of its control groups.
    pub doors: Vec<PathBuf>,
}

/// Starts `program` in the namespaces and control groups of another, as [`start`] would.
///
/// # Errors
/// If no process can be started.
pub fn go_inside(host: &Host, program: &Program, data: PathBuf) -> io::Result<Pid> {
    let ward = Ward {
        program: program.clone(),
        parent: rustix::process::getpid().as_raw_pid(),
        user: user(),
        stage: Stage::GoingInside(host.process),
        doors: host.doors.clone(),
        limit_memory: host.doors.is_empty(),
        limit_cores: host.doors.is_empty(),
        data,
        state: None,
        parents: None,
        lease: None,
        grip: None,
    };
    begin(&ward, Path::new("/proc/self/exe"), true)
}

/// Of this process, as it takes effect.
fn user() -> (u32, u32) {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    (user.as_raw(), group.as_raw())
}

/// Lets the warden look at its lease at once, which is over: it kills what stands below it and writes down the end. To kill
/// that for it would be a race with its own timer, and a warden that is itself killed writes nothing.
pub fn lapse(warden: Pid) {
    // Gone is as good as told.
    let _ = rustix::process::kill_process(warden, Signal::ALARM);
}

/// Sends a signal to the program under the warden that [`start`] gave.
pub fn signal(warden: Pid, signal: Signal) {
    // Gone is as good as told.
    let _ = match signal {
        Signal::USR1 | Signal::USR2 => rustix::process::kill_process(warden, signal),
        _ => rustix::process::kill_process_group(warden, signal),
    };
}

/// Asks the warden that [`start`] gave to shut the ports of what runs under a lease.
pub fn shut(warden: Pid) {
    // Gone is as good as shut.
    let _ = rustix::process::kill_process(warden, Signal::URG);
}

/// Starts this executable as a warden, in a process group of its own if it is a program's first. As `/proc/self/exe` it
/// is found even when it has been replaced on disk.
///
/// [`PASSED_ON`] wait in it until it can hear them, so that none is lost.
fn begin(ward: &Ward, executable: &Path, own_group: bool) -> io::Result<Pid> {
    let told = ward.told(MemfdFlags::empty())?;
    let descriptor = CString::new(told.as_raw_fd().to_string())?;
    execute(executable, own_group, &[descriptor.as_c_str()], None)
}

/// Starts this executable as a stem, which waits for orders at this socket.
pub(crate) fn begin_stem(socket: OwnedFd) -> io::Result<Pid> {
    let descriptor = CString::new(socket.as_raw_fd().to_string())?;
    let parent = CString::new(rustix::process::getpid().as_raw_pid().to_string())?;
    let word = CString::new(STEM)?;
    execute(
        Path::new("/proc/self/exe"),
        // What is typed to the node is not meant for it.
        true,
        &[&word, &descriptor, &parent],
        Some(socket.as_raw_fd()),
    )
}

/// This is not [`std::process::Command`], which can make signals wait only by copying this process first (fork): it may
/// have megabytes to copy.
fn execute(
    executable: &Path,
    own_group: bool,
    arguments: &[&CStr],
    handed_on: Option<i32>,
) -> io::Result<Pid> {
    use std::os::unix::ffi::OsStrExt as _;
    let executable = CString::new(executable.as_os_str().as_bytes())?;
    let word = CString::new(WORD)?;
    let words = [c"cosmos", &word].into_iter();
    let words = words.chain(arguments.iter().copied()).map(CStr::as_ptr);
    let words: Vec<_> = words.chain([std::ptr::null()]).collect();
    let nothing = [std::ptr::null::<libc::c_char>()];
    let mut flags = libc::POSIX_SPAWN_SETSIGMASK | libc::POSIX_SPAWN_SETSIGDEF;
    if own_group {
        flags |= libc::POSIX_SPAWN_SETPGROUP;
    }
    let done = |code: i32| match code {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    };
    let mut child = 0;
    // SAFETY: attributes and actions are made before they are used and unmade after; every pointer is to something
    // that lives until the call returns, by when the child has its own copy or has not come to be.
    unsafe {
        let mut attributes = std::mem::zeroed();
        let mut actions = std::mem::zeroed();
        done(libc::posix_spawnattr_init(&raw mut attributes))?;
        done(libc::posix_spawn_file_actions_init(&raw mut actions))?;
        let mut set = || -> io::Result<()> {
            let mut waiting = std::mem::zeroed();
            libc::sigemptyset(&raw mut waiting);
            for signal in PASSED_ON {
                libc::sigaddset(&raw mut waiting, signal);
            }
            done(libc::posix_spawnattr_setsigmask(
                &raw mut attributes,
                &raw const waiting,
            ))?;
            // Rust ignores it in this process, and programs expect to end of it.
            let mut usual = std::mem::zeroed();
            libc::sigemptyset(&raw mut usual);
            libc::sigaddset(&raw mut usual, libc::SIGPIPE);
            done(libc::posix_spawnattr_setsigdefault(
                &raw mut attributes,
                &raw const usual,
            ))?;
            done(libc::posix_spawnattr_setpgroup(&raw mut attributes, 0))?;
            let flags = libc::c_short::try_from(flags).expect("a few bits");
            done(libc::posix_spawnattr_setflags(&raw mut attributes, flags))?;
            if let Some(descriptor) = handed_on {
                // To this process alone: others that are started at the same time have it closed.
                let actions = &raw mut actions;
                done(libc::posix_spawn_file_actions_adddup2(
                    actions, descriptor, descriptor,
                ))?;
            }
            done(libc::posix_spawn(
                &raw mut child,
                executable.as_ptr(),
                &raw const actions,
                &raw const attributes,
                words.as_ptr().cast(),
                nothing.as_ptr().cast(),
            ))
        };
        let set = set();
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
        libc::posix_spawnattr_destroy(&raw mut attributes);
        set?;
    }
    Ok(Pid::from_raw(child).expect("a child has a number"))
}

/// What an executable that uses [`start`] must do first if its first argument is [`WORD`].
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = String>) -> ExitCode {
    let first = arguments.next().unwrap_or_default();
    let told = match first == STEM {
        true => {
            let words = [arguments.next(), arguments.next()];
            let grown = live_as_stem(words).and_then(|grown| match grown {
                Some(Grown::Spare { told, line, stem }) => spare::wait(told, &line, &stem),
                Some(Grown::Warden(forked)) => Ok(Some(forked)),
                None => Ok(None),
            });
            match grown {
                Ok(Some(forked)) => read(forked),
                Ok(None) => return ExitCode::SUCCESS,
                Err(_) => None,
            }
        }
        false => first.parse().ok().and_then(|descriptor: i32| {
            let told = File::open(format!("/proc/self/fd/{descriptor}")).ok()?;
            read(Forked {
                told,
                grip: None,
                within: Within::Nothing,
            })
        }),
    };
    let Some(ward) = told else {
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

/// Waits for orders, and returns in each fork with its own.
fn live_as_stem(words: [Option<String>; 2]) -> io::Result<Option<Grown>> {
    let [Some(Ok(descriptor)), Some(Ok(parent))] = words.map(|word| Some(word?.parse::<i32>()))
    else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let socket = stem::alone_with(descriptor)?;
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(parent) {
        return Ok(None);
    }
    // Once for all that will be forked.
    let _ = confinement::filter();
    capsule::warm();
    if let Some(data) = stem::told_first(&socket)? {
        // Where that is refused, each puts together its own.
        let _ = confinement::set_the_scene(&data);
    }
    stem::live(socket)
}

/// What a warden is told.
fn read(
    Forked {
        mut told,
        grip,
        within,
    }: Forked,
) -> Option<Ward> {
    let mut text = Vec::new();
    told.rewind().ok()?;
    told.read_to_end(&mut text).ok()?;
    let mut ward = serde_json::from_slice::<Ward>(&text).ok()?;
    ward.grip = grip.map(Grip::inherited);
    match within {
        Within::Nothing => {}
        Within::Namespaces => ward.stage = Stage::First,
        Within::Groups => ward.stage = Stage::Spare,
    }
    Some(ward)
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

/// The lease a program runs under, in its warden.
#[derive(Clone)]
struct Held {
    tenancy: Tenancy,
    grip: Grip,
    ledger: Option<Arc<Ledger>>,
}

impl Held {
    fn note(&self, event: &str) {
        if let Some(ledger) = &self.ledger {
            ledger.note(&self.tenancy, event);
        }
    }

    /// Begins to look after the lease.
    fn watch(&self, child: Pid) -> Result<Timer, Failed> {
        let timer = Timer::new().map_err(doing("watching its lease"))?;
        self.look(child, &timer)?;
        Ok(timer)
    }

    /// Kills what runs under it if nobody has put its end off, and otherwise looks again then.
    fn look(&self, child: Pid, timer: &Timer) -> Result<(), Failed> {
        let until = self.grip.until();
        if boottime() >= until {
            // Gone is as good as killed.
            let _ = rustix::process::kill_process(child, Signal::KILL);
            return Ok(());
        }
        timer.set(until).map_err(doing("watching its lease"))
    }
}

/// Whom the child of a warden is: another one, or the program.
#[derive(Debug)]
enum Below {
    Warden,
    /// Whose ports are carried here until they are shut.
    Program(Option<Doors>),
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

/// Tells a reaper that its parent has died. Nobody sends it to a program, and who is not asked for it ends of it.
const LOST: i32 = libc::SIGPWR;

/// Asks for ports to be shut, see [`shut`]. Who is not asked for it ignores it.
const SHUT: i32 = libc::SIGURG;

impl Ward {
    fn outer(
        program: &Program,
        group: Option<&Group>,
        lease: Option<(&Tenancy, &Grip)>,
        (data, state): (PathBuf, Option<PathBuf>),
    ) -> Self {
        let holds = |controller| group.is_some_and(|group| group.holds(controller));
        Self {
            program: program.clone(),
            parent: rustix::process::getpid().as_raw_pid(),
            user: user(),
            stage: Stage::Outer,
            doors: group.map(Group::doors).unwrap_or_default(),
            limit_memory: !holds("memory"),
            limit_cores: !holds("cpu"),
            data,
            state,
            parents: None,
            lease: lease.map(|(tenancy, _)| tenancy.clone()),
            grip: None,
        }
    }

    /// As a file without a name.
    fn told(&self, flags: MemfdFlags) -> io::Result<File> {
        let mut told = File::from(rustix::fs::memfd_create("ward", flags)?);
        told.write_all(&serde_json::to_vec(self).expect("a ward is plain data"))?;
        Ok(told)
    }

    fn keep(self) -> Result<u8, Failed> {
        let refuse = |because: String| {
            let error = io::Error::other(because);
            Err(Failed::from(("looking at what it is".to_owned(), error)))
        };
        let folders = &self.program.folders;
        if !folders.is_empty()
            && let Ok(data) = self.data.canonicalize()
            && let Some(folder) = folders.iter().find(|f| f.host.starts_with(&data))
        {
            let folder = folder.host.display();
            return refuse(format!("{folder} is inside the node's own directory"));
        }
        match (self.stage, self.kind()) {
            (Stage::Spare, Ok(Kind::Native)) => {
                return refuse("it was a capsule a moment ago".to_owned());
            }
            // What it is shows inside.
            (Stage::GoingInside(_), _) | (_, Ok(Kind::Native)) => {}
            (Stage::Guest, Ok(_)) => {
                return refuse("a capsule has no inside but its own".to_owned());
            }
            (Stage::First, Ok(_)) => {
                return refuse("it was a program of the host a moment ago".to_owned());
            }
            (_, kind) => {
                let kind = kind?;
                hear();
                return self.capsule(kind);
            }
        }
        match self.stage {
            Stage::Outer => self.keep_outer(),
            Stage::First => {
                self.stay_who_it_is()?;
                self.enter_groups()?;
                self.inner(Vec::new(), None, &mut catch_signals()?)
            }
            Stage::GoingInside(warden) => self.go_inside(warden, &mut catch_signals()?),
            Stage::Guest => self.guest(&mut catch_signals()?),
            Stage::Spare => unreachable!("no capsule comes so far, and what is none was refused"),
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
        let held = self.held()?;
        if let Some(held) = held.clone() {
            let watched = std::thread::Builder::new().name("lease".into());
            watched
                .spawn(move || {
                    let timer = Timer::new();
                    let mut alarms = Signals::new([libc::SIGALRM]);
                    while let (true, Ok(timer), Ok(alarms)) =
                        (held.grip.holds(), &timer, &mut alarms)
                    {
                        if timer.set(held.grip.until()).is_err() {
                            break;
                        }
                        alarms.wait().for_each(drop);
                    }
                    // All of it is this process.
                    held.note("end");
                    let _ = rustix::process::kill_process(rustix::process::getpid(), Signal::KILL);
                })
                .map_err(doing("watching its lease"))?;
        }
        if let Some(held) = &held {
            held.note("begin");
        }
        let home = self.state.clone().map(|state| capsule::Home {
            state,
            lease: self.lease.clone(),
        });
        let ended = capsule::run(&self.program, kind, &self.data, home.as_ref());
        if let Some(held) = &held {
            held.note("end");
        }
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

    /// In a new namespace of users: nobody else is known there.
    fn stay_who_it_is(&self) -> Result<(), Failed> {
        let (user, group) = self.user;
        for (file, text) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("{user} {user} 1")),
            ("/proc/self/gid_map", format!("{group} {group} 1")),
        ] {
            std::fs::write(file, text).map_err(doing(&format!("writing {file}")))?;
        }
        Ok(())
    }

    /// The lease.
    fn held(&self) -> Result<Option<Held>, Failed> {
        let Some(tenancy) = self.lease.clone() else {
            return Ok(None);
        };
        let without = || {
            Failed::from((
                "taking the grip of its lease".to_owned(),
                io::Error::other("found none"),
            ))
        };
        let grip = self.grip.clone().ok_or_else(without)?;
        let ledger = Ledger::open(&self.data).map_err(doing("opening the history of leases"))?;
        Ok(Some(Held {
            tenancy,
            grip,
            ledger: Some(Arc::new(ledger)),
        }))
    }

    fn keep_outer(mut self) -> Result<u8, Failed> {
        if !self.ties_its_life_to_its_parent()? {
            return Ok(FAILED);
        }
        let held = self.held()?;
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
            return self.reap(held, &mut catch_signals()?);
        }
        self.stay_who_it_is()?;
        self.parent = rustix::process::getpid().as_raw_pid();
        // SAFETY: this process has one thread, so the child holds no lock that nobody gives back. Executing it anew
        // would cost as much as all the rest of a start.
        let inner = unsafe { libc::fork() };
        if inner < 0 {
            let error = io::Error::last_os_error();
            return Err(doing("starting process 1 of its namespace")(error));
        }
        let Some(inner) = Pid::from_raw(inner) else {
            let listening = listening.into_iter();
            let listening = listening
                .map(|(listener, port)| (listener, port.guest))
                .collect();
            // From inside its walls the ledger cannot be seen, and the outer warden writes there.
            let held = held.map(|held| Held {
                ledger: None,
                ..held
            });
            return self.inner(listening, held, &mut catch_signals()?);
        };
        drop(listening);
        let signals = &mut catch_signals()?;
        pass_on_early(inner, signals);
        if let Some(held) = &held {
            held.note("begin");
        }
        let (others, lease) = (Others::default(), held.as_ref());
        let ended = await_end(inner, Below::Warden, &others, lease, signals);
        // Process 1 is gone, and with it everything in its namespace.
        if let Some(held) = &held {
            held.note("end");
        }
        ended
    }

    /// Asks the kernel to be killed with its parent; `false` if that is gone already.
    fn ties_its_life_to_its_parent(&self) -> Result<bool, Failed> {
        die_with_parent(Signal::KILL)?;
        let parent = rustix::process::getppid().map(Pid::as_raw_pid);
        Ok(parent == Some(self.parent))
    }

    fn inner(
        self,
        listening: Vec<(TcpListener, u16)>,
        held: Option<Held>,
        signals: &mut Signals,
    ) -> Result<u8, Failed> {
        die_with_parent(Signal::KILL)?;
        // Seen from in here the parent has no number, but /proc is still the outer one.
        let mut status = [0; 256];
        let read = File::open("/proc/self/stat").and_then(|mut file| file.read(&mut status));
        let length = read.map_err(doing("reading /proc/self/stat"))?;
        if parent_of(&status[..length]) != Some(self.parent) {
            return Ok(FAILED);
        }
        if self.program.network == Network::Own {
            network::bring_up_loopback().map_err(doing("bringing up its loopback"))?;
        }
        confinement::enter_own_root(&self.program, &self.data)?;
        self.start_and_await(true, listening, held, signals)
    }

    fn go_inside(mut self, warden: i32, signals: &mut Signals) -> Result<u8, Failed> {
        if !self.ties_its_life_to_its_parent()? {
            return Ok(FAILED);
        }
        let looking = || doing("looking for the program");
        let among = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/pid"));
        let inside = if among(&warden.to_string()).ok() == among("self").ok() {
            let below = std::fs::read_to_string(format!("/proc/{warden}/task/{warden}/children"));
            let below = below.map_err(looking())?;
            let below = below.split_whitespace().next();
            below.and_then(|number| Pid::from_raw(number.parse().ok()?))
        } else {
            // It is the inner one, and there is no other.
            Pid::from_raw(warden)
        };
        let inside = inside.ok_or_else(|| looking()(io::Error::other("it has ended")))?;
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
            return self.reap(None, signals);
        }
        // Inside there is neither this file nor, for this process, /proc/self.
        let executable = File::open("/proc/self/exe").map_err(doing("opening itself"))?;
        hand_on(&executable).map_err(doing("handing itself on"))?;
        rustix::thread::move_into_thread_name_spaces(held.as_fd(), spaces)
            .map_err(doing("going inside"))?;
        keep_over_exec().map_err(doing("keeping capabilities"))?;
        let (parents, _held) = io::pipe().map_err(doing("making a pipe"))?;
        hand_on(&parents).map_err(doing("handing on a pipe"))?;
        self.parents = Some(parents.as_raw_fd());
        self.stage = Stage::Guest;
        let executable_inside = format!("/proc/self/fd/{}", executable.as_raw_fd());
        let guest = begin(&self, Path::new(&executable_inside), false);
        let guest = guest.map_err(doing("starting inside"))?;
        await_end(guest, Below::Warden, &Others::default(), None, signals)
    }

    /// Not process 1 here: what it started goes on when it ends, unless it ends that first. So it is the reaper of
    /// its descendants, and told of its parent's end by a signal that can be caught.
    fn guest(self, signals: &mut Signals) -> Result<u8, Failed> {
        become_reaper()?;
        die_with_parent(Signal::POWER)?;
        if self.parents.is_some_and(has_ended) {
            return Ok(FAILED);
        }
        let ended = self.start_and_await(true, Vec::new(), None, signals);
        kill_descendants();
        ended
    }

    /// Without namespaces: the program as a child, and what it leaves behind as children.
    fn reap(self, held: Option<Held>, signals: &mut Signals) -> Result<u8, Failed> {
        become_reaper()?;
        if let Some(folder) = confinement::shows(&self.program, &self.data, true) {
            let because = format!(
                "{} shows the node's own directory, {}, which cannot be hidden without namespaces",
                folder.display(),
                self.data.display()
            );
            return Err(doing("looking at its folders")(io::Error::other(because)));
        }
        // A signal that can be caught: the descendants must be killed before this process ends.
        die_with_parent(Signal::POWER)?;
        if let Some(held) = &held {
            held.note("begin");
        }
        let ended = self.start_and_await(false, Vec::new(), held.clone(), signals);
        kill_descendants();
        if let Some(held) = &held {
            held.note("end");
        }
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
        held: Option<Held>,
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
            note("seccomp", why.to_string());
        }
        // From here on: a thread keeps what was closed to the one that starts it.
        let mut doors = Doors::default();
        for (listener, port) in listening {
            doors
                .carry(listener, port)
                .map_err(doing("carrying a port"))?;
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
        let child = Pid::from_child(&child);
        let (others, unwell) = (Others::default(), Arc::new(OnceLock::new()));
        pass_on_early(child, signals);
        if let Some(health) = &program.health {
            let because = Arc::clone(&unwell);
            let beside = move |words: &[String]| match words {
                [file, arguments @ ..] => beside(Path::new(file), file, arguments),
                [] => beside(Path::new("true"), "true", &[]),
            };
            let grip = held.as_ref().map(|held| held.grip.clone());
            let well = move || {
                if let Some(grip) = &grip {
                    grip.set_well(true);
                }
            };
            let watched =
                health::watch(health.clone(), others.clone(), beside, well, move |said| {
                    let _ = because.set(said);
                    // The rest of its processes end with it.
                    let _ = rustix::process::kill_process(child, Signal::TERM);
                    std::thread::park_timeout(Duration::from_nanos(GRACE.0));
                    let _ = rustix::process::kill_process(child, Signal::KILL);
                });
            watched.map_err(doing("watching its health"))?;
        }
        let below = Below::Program(Some(doors));
        let ended = await_end(child, below, &others, held.as_ref(), signals)?;
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

/// By the beginning of `/proc/PID/stat`: number, name in parentheses, state, and then it.
fn parent_of(status: &[u8]) -> Option<i32> {
    let after = status.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&status[after + 1..]).ok()?;
    rest.split_whitespace().nth(1)?.parse().ok()
}

/// Whether nobody holds the other side of a pipe any more.
fn has_ended(pipe: i32) -> bool {
    // SAFETY: this process inherited it for this, and has it until it ends.
    let pipe = unsafe { BorrowedFd::borrow_raw(pipe) };
    let mut asked = [PollFd::from_borrowed_fd(pipe, PollFlags::IN)];
    let now = Timespec::default();
    rustix::event::poll(&mut asked, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// What descendants leave behind becomes this process's child.
fn become_reaper() -> Result<(), Failed> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(doing("becoming a reaper"))
}

fn die_with_parent(signal: Signal) -> Result<(), Failed> {
    let asked = rustix::process::set_parent_process_death_signal(Some(signal));
    asked.map_err(doing("asking to end with its parent"))
}

/// Reaps whatever ends until this child does: its exit code, or 128 + the signal that ended it.
fn await_end(
    child: Pid,
    mut below: Below,
    others: &Others,
    held: Option<&Held>,
    signals: &mut Signals,
) -> Result<u8, Failed> {
    let timer = held.map(|held| held.watch(child)).transpose()?;
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
                    if let (libc::SIGALRM, Some(held), Some(timer)) = (signal, held, &timer) {
                        held.look(child, timer)?;
                        continue;
                    }
                    if signal == LOST {
                        return Ok(128 + 9);
                    }
                    if signal == SHUT {
                        shut_below(child, &mut below, held);
                    } else if let Some(signal) = Signal::from_named_raw(signal) {
                        pass_on(child, &below, signal);
                    }
                }
            }
            Err(error) => return Err(doing("waiting for it")(error)),
        }
    }
}

/// Lets those that waited come. Handlers are undone when the program is executed; ignoring would be inherited.
fn catch_signals() -> Result<Signals, Failed> {
    let signals =
        Signals::new(
            PASSED_ON
                .into_iter()
                .chain([libc::SIGCHLD, libc::SIGALRM, LOST, SHUT]),
        );
    let signals = signals.map_err(doing("catching signals"))?;
    hear();
    Ok(signals)
}

/// What came before there was a child to give it to.
fn pass_on_early(child: Pid, signals: &mut Signals) {
    for signal in signals.pending().filter_map(Signal::from_named_raw) {
        if !matches!(signal, Signal::CHILD | Signal::ALARM) {
            let _ = rustix::process::kill_process(child, signal);
        }
    }
}

/// Shuts the ports of what is below, beside all else, and says when nobody is served any more.
fn shut_below(child: Pid, below: &mut Below, held: Option<&Held>) {
    match (below, held) {
        (Below::Warden, _) => drop(rustix::process::kill_process(child, Signal::URG)),
        (Below::Program(doors), Some(held)) => {
            let (doors, grip) = (doors.take(), held.grip.clone());
            // Where there is no thread for it the node loses patience.
            let _ = std::thread::Builder::new()
                .name("shut".into())
                .spawn(move || {
                    if let Some(doors) = doors {
                        doors.shut();
                        grip.set_quiet();
                    }
                });
        }
        (Below::Program(_), None) => {}
    }
}

/// Lets [`PASSED_ON`] come, which [`begin`] made wait.
fn hear() {
    // SAFETY: a set of signals on the stack is filled before it is read.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in PASSED_ON {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// What the kernel has not given the child by itself: see the beginning of this file.
fn pass_on(child: Pid, below: &Below, signal: Signal) {
    // SAFETY: two numbers in, one out. A group outside this namespace has no number that rustix could hold: 0.
    let group = |process: i32| unsafe { libc::getpgid(process) };
    let _ = match (signal, below) {
        (Signal::CHILD | Signal::ALARM, _) => Ok(()),
        (Signal::USR1 | Signal::USR2, _) => rustix::process::kill_process(child, signal),
        (_, Below::Warden) => Ok(()),
        (_, Below::Program(_)) => match group(child.as_raw_pid()) {
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
