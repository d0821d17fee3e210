//! How a command talks to its node: one request, one answer, over a socket in the node's directory.
//!
//! The directory is its owner's alone and so is the socket (mode 0600): who may connect may command, unless it
//! lives in another namespace of processes, as programs do.
//! A frame is a byte for the [`VERSION`], four for the length, most significant first, and JSON of
//! that length, at most [`FRAME_MAX`]. An answer to [`Request::Logs`] is followed by what the program
//! said, as it is, until the connection ends.
//!
//! A path of more than about a hundred bytes does not fit a socket's address, so the socket is named
//! through the descriptor of its folder.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::affairs::Affairs;
use crate::braided;
use crate::fleet::{self, FleetStatus};
use crate::heat::{Atmosphere, Reading};
use crate::history::Why;
use crate::lease::Tenancy;
use crate::load::Load;
use crate::make;
use crate::program::Program;
use crate::services::Service;
use crate::store::Membership;
use crate::supervision::{Phase, Restart};
use crate::warden::Host;

/// The version of what is said here.
pub const VERSION: u8 = 1;

/// No frame is longer, in bytes. A command line may be 2 MiB long (a quarter of the 8 MiB that a stack is), and in JSON
/// a byte may become up to six; more than four times as much is nonsense.
pub const FRAME_MAX: u32 = 8 << 20;

/// A side that is silent this long in the midst of a request or an answer is given up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A piece of what a program said is no longer, in bytes: in JSON a byte becomes up to four, and a letter to another machine
/// has its limit ([`crate::fleet::post::LETTER_BYTES_MAX`]).
pub const PIECE_MAX: usize = 64 << 10;

/// Who follows what is said on another machine asks so often whether there is more.
pub const PIECE_EVERY: Duration = Duration::from_millis(500);

const SOCKET: &str = "control.sock";

/// What can be asked of a node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "ask", deny_unknown_fields)]
pub enum Request {
    /// Run this, and keep it running as `restart` says.
    Run {
        /// What to call it; the node finds a name if there is none.
        name: Option<String>,
        /// What to run.
        program: Program,
        /// When to start it again.
        restart: Restart,
    },
    /// Run all of these, or none.
    RunAll {
        /// What.
        programs: Vec<Wanted>,
    },
    /// Run this somewhere in the fleet, and keep it running wherever that is.
    Give {
        /// What to call it; a name is found if there is none.
        name: Option<String>,
        /// What to run; its files lie on every machine under the same paths.
        program: Program,
        /// When a machine starts it again by itself.
        restart: Restart,
        /// How many of it.
        replicas: u32,
    },
    /// Say how everything stands that the fleet has agreed on.
    Affairs,
    /// Let a machine hand over what it runs for the fleet, and be given nothing more; or take that back.
    Drain {
        /// Its name; this one if there is none.
        member: Option<String>,
        /// Whether to take it back.
        undo: bool,
    },
    /// Say what runs, and what ran.
    List,
    /// Say when a program has ended for good.
    Wait {
        /// Which.
        name: String,
    },
    /// Say when all of these have ended for good.
    WaitAll {
        /// Which.
        names: Vec<String>,
    },
    /// Say why a program is as it is, or why the machine is.
    Why {
        /// The program.
        name: Option<String>,
    },
    /// Say why a program of the fleet, or one of its replicas, is where it is, whatever runs here under the same name.
    WhyShared {
        /// Which.
        name: String,
    },
    /// Say why a machine of the fleet is as it is.
    WhyMember {
        /// Its name.
        name: String,
    },
    /// Say what a program said: one of this machine, or if there is none of that name, a replica of the fleet wherever it runs.
    Logs {
        /// Which.
        name: String,
        /// Whether to go on as more is said, until the program ends for good.
        follow: bool,
    },
    /// Say a piece of what a program said, at most [`PIECE_MAX`] bytes.
    Piece {
        /// Which.
        name: String,
        /// From this position on, counted from the first byte ever said.
        from: u64,
    },
    /// Ask a program to end, force it later, and do not start it again. Answered when it has ended. One of this machine, or if there is
    /// none of that name, of the fleet.
    Stop {
        /// Which.
        name: String,
    },
    /// Forget a program that has ended, with what it said.
    Remove {
        /// Which.
        name: String,
    },
    /// Let a program of the fleet run no more, whatever runs here under the same name. Answered when none of it runs.
    StopShared {
        /// Which.
        name: String,
    },
    /// Forget a program of the fleet of which nothing runs.
    RemoveShared {
        /// Which.
        name: String,
    },
    /// Say what there is to know to start something beside a program that runs.
    Inside {
        /// Which.
        name: String,
    },
    /// Say how the node is.
    Status,
    /// Say what the machine, the node and its programs have used so far.
    Load,
    /// Say how the layers are, by their names.
    Services,
    /// Where a model stands in for the processor's temperature: cool it with air of this temperature, in degrees
    /// Celsius, from now on.
    Outside {
        /// The temperature.
        celsius: f64,
    },
    /// Say who is in the fleet, as this node believes.
    Members,
    /// Make an invitation to the fleet.
    Invite {
        /// For how long it is good, in seconds.
        lasts_s: u64,
    },
    /// Take leave of the fleet. What this machine runs and keeps for it, and its vote, is handed over first, as far as others take it within
    /// [`LEAVING_MAX`](crate::affairs::LEAVING_MAX); what is left of the first ends with its leases, and what it runs itself runs on. Answered by [`Answer::Leaving`] as often as
    /// something else is waited for, and then by [`Answer::Left`].
    Leave,
    /// Throw a machine out of the fleet for good, where the fleet's key is.
    Expel {
        /// Its name.
        member: String,
    },
    /// Measure how long a word takes to another machine and back.
    Ping {
        /// Its name.
        member: String,
        /// For how long, in milliseconds; no longer than [`fleet::echo::LASTS_MAX`].
        lasts_ms: u64,
        /// Whether class D has all it can take meanwhile.
        beside_bulk: bool,
    },
    /// By the warden of a capsule that runs under a lease: say what it has become, in the file that is handed.
    Recover {
        /// The lease.
        tenancy: Tenancy,
    },
    /// By the same: keep what it has become by so many events, which lies in that file. Answered when it may be told.
    Keep {
        /// The lease.
        tenancy: Tenancy,
        /// How many events it has seen.
        events: u64,
    },
    /// Start a drill on one braid whose tori sit on these three machines.
    Braid {
        /// Their names, in the order in which the tori hold each other.
        on: Vec<String>,
        /// What is to be done.
        drill: braided::course::Drill,
    },
    /// Say how a drill stands that was started here.
    BraidProgress {
        /// Which: 16 hexadecimal digits.
        braid: String,
    },
    /// End a drill that was started here.
    BraidEnd {
        /// Which.
        braid: String,
    },
    /// Ask another node of the fleet, which answers [`Request::Run`], [`Request::List`], [`Request::Stop`],
    /// [`Request::Remove`], [`Request::Why`] and [`Request::Piece`]. Of [`Request::Logs`] the node that is asked makes pieces.
    On {
        /// Its name.
        member: String,
        /// What.
        request: Box<Self>,
    },
}

/// A program that is to run, and on which terms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// What to call it; the node finds a name if there is none.
    pub name: Option<String>,
    /// What to run.
    pub program: Program,
    /// When to start it again.
    pub restart: Restart,
    /// The group it is to belong to.
    #[serde(default)]
    pub group: Option<Membership>,
    /// By when it has to have ended, in milliseconds since 1970.
    #[serde(default)]
    pub deadline_unix_ms: Option<u64>,
}

/// What a node answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer", deny_unknown_fields)]
pub enum Answer {
    /// It is done; this is the program concerned.
    Done {
        /// Its name.
        name: String,
    },
    /// To [`Request::RunAll`] and [`Request::WaitAll`].
    Given {
        /// Their names, in the order in which they were asked for.
        names: Vec<String>,
    },
    /// To [`Request::Why`].
    Why(Box<Why>),
    /// To [`Request::List`], by name.
    List {
        /// All that are known.
        programs: Vec<Listed>,
    },
    /// To [`Request::Logs`]: what was said follows.
    Logs,
    /// To [`Request::Piece`].
    Piece(Piece),
    /// To [`Request::Inside`].
    Inside(Box<Host>),
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Load`].
    Load(Box<Load>),
    /// To [`Request::Services`], all that have a name.
    Services {
        /// In the order of the requirements.
        services: Vec<Service>,
    },
    /// To [`Request::Members`], by tile.
    Members {
        /// All that ever came.
        members: Vec<fleet::Listed>,
        /// The holons that they are in, larger ones first.
        #[serde(default)]
        holons: Vec<fleet::Holon>,
    },
    /// To [`Request::Ping`].
    Echoes(fleet::echo::Echoes),
    /// To [`Request::Braid`] and [`Request::BraidProgress`].
    Braid(Box<braided::course::Progress>),
    /// To [`Request::Affairs`].
    Affairs(Box<Affairs>),
    /// To [`Request::Invite`].
    Invitation {
        /// The line to hand over.
        line: String,
    },
    /// To [`Request::Leave`]: this is waited for, and more answers follow.
    Leaving {
        /// For what, in sentences.
        waits: String,
    },
    /// To [`Request::Leave`]: this machine has left.
    Left {
        /// Its name.
        name: String,
        /// What it could not hand over, in sentences.
        behind: Vec<String>,
    },
    /// It cannot be done, and nothing was.
    Refused {
        /// Why, in a sentence.
        because: String,
    },
}

/// A piece of what a program said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// How many bytes before it are no longer kept.
    pub lost: u64,
    /// What was said, as it came.
    pub bytes: Vec<u8>,
    /// Where to go on.
    pub next: u64,
    /// Whether more may come.
    pub open: bool,
}

/// A program as a node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its file.
    pub program: String,
    /// The words after that.
    pub arguments: Vec<String>,
    /// When it is started again.
    pub restart: Restart,
    /// How it is.
    #[serde(flatten)]
    pub phase: Phase,
    /// The process that stands over it while it runs.
    pub process: Option<u32>,
    /// When it was started, while it runs, in milliseconds since 1970.
    #[serde(default)]
    pub since_unix_ms: Option<u64>,
    /// How often it was started.
    pub starts: u64,
    /// Whether the kernel ended some of it, the last time it ended, because its memory was used up.
    #[serde(default)]
    pub out_of_memory: bool,
    /// Whether it was ended because its deadline passed.
    #[serde(default)]
    pub late: bool,
    /// Its group.
    #[serde(default)]
    pub group: Option<Membership>,
    /// Whether it runs here for the fleet, as a replica of a program that was given to that. What was given to this machine has names of its own,
    /// which may be the same as those of the fleet's programs: see [`Request::StopShared`].
    #[serde(default)]
    pub shared: bool,
}

/// How a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Of the executable.
    pub version: String,
    /// Its process.
    pub process: u32,
    /// For how long it has run, in seconds.
    pub seconds: f64,
    /// How many programs run.
    pub running: usize,
    /// How many are known.
    pub known: usize,
    /// How many cores the machine has for it.
    pub cores: usize,
    /// Whether it was told to end and waits for its programs.
    pub ending: bool,
    /// Where it serves its dashboard and API over HTTP, if it does.
    pub dashboard: Option<SocketAddr>,
    /// Who keeps memory, processor and the number of processes within limits: `cgroup v1`,
    /// `cgroup v2`, or what stands in where the host has none.
    pub limits: Limited,
    /// How hot it is, and what programs are given for that; none in the first second.
    pub heat: Option<Reading>,
    /// Which sensors and actuators are in force, and what they say besides.
    #[serde(default)]
    pub atmosphere: Atmosphere,
    /// How it is as a member of its fleet.
    pub fleet: FleetStatus,
    /// The seal over every change of its state so far, shortened: another history has another one.
    pub changes: String,
    /// How many programs' ends could not be written down yet, because the disk is full.
    pub unwritten: usize,
    /// What of its state was found to be damaged when it started, each in a sentence.
    pub damaged: Vec<String>,
    /// How many GPUs the machine has.
    #[serde(default)]
    pub gpus: usize,
    /// And how many of them no program has.
    #[serde(default)]
    pub gpus_free: usize,
    /// What machine it is, and what it is held to.
    #[serde(default)]
    pub machine: make::Told,
    /// What is rehearsed, if this is no node but a rehearsal that is lived as slowly as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rehearsal: Option<Rehearsal>,
}

/// A rehearsal that is shown as a node is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rehearsal {
    /// The universe.
    pub universe: String,
    /// Why somebody would rehearse it, in a sentence.
    pub intent: String,
    /// Where its chance comes from.
    pub seed: u64,
    /// How far it is, in seconds since its beginning.
    pub at_s: f64,
    /// When it ends.
    pub end_s: f64,
    /// How many of its seconds are to pass in one.
    pub pace: f64,
    /// By how many of its seconds it is behind that.
    pub behind_s: f64,
}

/// Who keeps each limit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limited {
    /// `--mem`.
    pub memory: String,
    /// `--cpu`.
    pub cores: String,
    /// The number of processes.
    pub processes: String,
}

impl Limited {
    /// Whether the kernel deals out processor time, so that a hot machine's programs are slowed by it.
    #[must_use]
    pub fn deals_time(&self) -> bool {
        self.cores.starts_with("cgroup")
    }
}

/// Why a conversation failed.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens there.
    #[error("no node runs on {data}; `cosmos up --data {data}` starts one")]
    NoNode {
        /// The node's directory.
        data: String,
    },
    /// Whoever asks may not.
    #[error("the node on {data} is somebody else's: {because}")]
    Denied {
        /// The node's directory.
        data: String,
        /// What the system says.
        because: io::Error,
    },
    /// One runs and cannot be asked.
    #[error(
        "a node runs on {data} (process {process}), but nobody answers at its socket, {SOCKET}: it begins or ends just now, or the socket was removed, and the node makes another within seconds"
    )]
    Deaf {
        /// The node's directory.
        data: String,
        /// Its process.
        process: u32,
    },
    /// It ended meanwhile.
    #[error("the node ended before it had answered")]
    Ended,
    /// The other side speaks otherwise.
    #[error(
        "found version {found} of the control protocol, expected {VERSION}: node and command are of different versions"
    )]
    Version {
        /// What it speaks.
        found: u8,
    },
    /// More than anybody may say.
    #[error("a control frame of {length} bytes, expected at most {FRAME_MAX}")]
    TooLong {
        /// What was announced or to be sent.
        length: u64,
    },
    /// No JSON, or not of the right kind.
    #[error("a control frame that cannot be understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// The socket.
    #[error("talking to the node: {0}")]
    Io(#[from] io::Error),
}

/// Writes one frame.
///
/// # Errors
/// If it is too long, or the socket fails.
pub fn send(to: &mut impl Write, said: &impl Serialize) -> Result<(), ControlError> {
    let said = serde_json::to_vec(said)?;
    let length = u32::try_from(said.len())
        .ok()
        .filter(|length| *length <= FRAME_MAX);
    let length = length.ok_or(ControlError::TooLong {
        length: said.len() as u64,
    })?;
    let mut frame = vec![VERSION];
    frame.extend(length.to_be_bytes());
    frame.extend(said);
    to.write_all(&frame)?;
    Ok(to.flush()?)
}

/// Reads one frame. No more memory is taken than has arrived.
///
/// # Errors
/// If it is of another version, too long, cut short, or not understood.
pub fn receive<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, ControlError> {
    let mut head = [0; 5];
    from.read_exact(&mut head)?;
    let [version, length @ ..] = head;
    if version != VERSION {
        return Err(ControlError::Version { found: version });
    }
    let length = u32::from_be_bytes(length);
    if length > FRAME_MAX {
        return Err(ControlError::TooLong {
            length: length.into(),
        });
    }
    let mut said = Vec::new();
    from.take(length.into()).read_to_end(&mut said)?;
    if said.len() < length as usize {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(serde_json::from_slice(&said)?)
}

/// So often, and so far apart, it is looked whether a node that does not answer is going.
const GOING_LOOKS: u32 = 10;
const GOING_LOOK: Duration = Duration::from_millis(20);

/// Asks the node of a directory; what follows the answer can be read from the stream.
///
/// # Errors
/// If no node listens there, or it does not answer as it should.
pub fn ask(data: &Path, request: &Request) -> Result<(Answer, UnixStream), ControlError> {
    let nobody = |because: io::Error| {
        // One that is being ended lets go of its lock a moment after its socket.
        let mut process = crate::node::of(data);
        for _ in 0..GOING_LOOKS {
            if process.is_some() {
                thread::park_timeout(GOING_LOOK);
                process = crate::node::of(data);
            }
        }
        let data = data.display().to_string();
        match process {
            _ if because.kind() == io::ErrorKind::PermissionDenied => {
                ControlError::Denied { data, because }
            }
            Some(process) => ControlError::Deaf { data, process },
            None => ControlError::NoNode { data },
        }
    };
    let folder = File::open(data).map_err(nobody)?;
    let mut stream = UnixStream::connect(address(&folder)).map_err(nobody)?;
    send(&mut stream, request)?;
    let answer = receive(&mut stream).map_err(|error| match error {
        ControlError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            ControlError::Ended
        }
        other => other,
    })?;
    Ok((answer, stream))
}

/// Listens in a directory that is locked: what lies there under the socket's name is of a node that died.
///
/// # Errors
/// If the socket cannot be made.
pub fn listen(data: &Path) -> io::Result<UnixListener> {
    let folder = File::open(data)?;
    let path = data.join(SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(address(&folder))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Where a node is talked to, for as long as it lives: a socket that somebody removed is made again.
#[derive(Debug)]
pub struct Door {
    data: PathBuf,
    listener: UnixListener,
    /// Which file it is.
    is: Option<(u64, u64)>,
}

impl Door {
    /// Opens it, see [`listen`].
    ///
    /// # Errors
    /// If the socket cannot be made.
    pub fn open(data: &Path) -> io::Result<Self> {
        let listener = listen(data)?;
        Ok(Self {
            data: data.to_owned(),
            is: which(data),
            listener,
        })
    }

    /// Who comes next, or nobody for a while.
    pub fn comes(&mut self) -> Option<UnixStream> {
        const LOOK: Timespec = Timespec {
            tv_sec: 1,
            tv_nsec: 0,
        };
        let mut waits = [PollFd::new(&self.listener, PollFlags::IN)];
        match rustix::event::poll(&mut waits, Some(&LOOK)) {
            Ok(0) => {
                if which(&self.data) != self.is
                    && let Ok(listener) = listen(&self.data)
                {
                    (self.listener, self.is) = (listener, which(&self.data));
                }
                None
            }
            Ok(_) => self.listener.accept().ok().map(|(stream, _)| stream),
            Err(_) => None,
        }
    }
}

/// The file that lies where the socket should.
fn which(data: &Path) -> Option<(u64, u64)> {
    let found = fs::symlink_metadata(data.join(SOCKET)).ok()?;
    Some((found.dev(), found.ino()))
}

/// Which process connected, as this one numbers processes: 0 if it has no number here.
///
/// # Errors
/// As the kernel.
pub fn process_of_peer(stream: &UnixStream) -> io::Result<i32> {
    let mut found = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).expect("it is short");
    // SAFETY: the kernel writes no more than `length` bytes, which is what there is. Not rustix, whose process
    // numbers cannot be 0.
    let done = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut found).cast(),
            &raw mut length,
        )
    };
    match done {
        0 => Ok(found.pid),
        _ => Err(io::Error::last_os_error()),
    }
}

fn address(folder: &File) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_read_as_it_was_written() {
        let mut bytes = Vec::new();
        let request = Request::Logs {
            name: "a".into(),
            follow: true,
        };
        send(&mut bytes, &request).unwrap();
        assert_eq!(receive::<Request>(&mut bytes.as_slice()).unwrap(), request);
        for cut in 0..bytes.len() {
            let error = receive::<Request>(&mut &bytes[..cut]).unwrap_err();
            assert!(matches!(error, ControlError::Io(_)), "{cut}: {error}");
        }
    }

    #[test]
    fn what_is_too_long_of_another_version_or_not_understood_is_refused() {
        let refused = |bytes: &[u8]| receive::<Request>(&mut &bytes[..]).unwrap_err().to_string();
        assert!(refused(&[2, 0, 0, 0, 0]).contains("version 2"));
        // A length that nobody could send takes no memory.
        assert!(refused(&[VERSION, 255, 255, 255, 255]).contains("4294967295 bytes"));
        assert!(refused(b"\x01\0\0\0\x02{}").contains("cannot be understood"));
        assert!(
            refused(b"\x01\0\0\0\x23{\"ask\":\"stop\",\"name\":\"a\",\"more\":true}")
                .contains("cannot be understood")
        );
        let long = Request::Stop {
            name: "x".repeat(FRAME_MAX as usize),
        };
        assert!(matches!(
            send(&mut Vec::new(), &long),
            Err(ControlError::TooLong { .. })
        ));
    }
}
