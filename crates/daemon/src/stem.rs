//! What is executed once, so that wardens need not be executed each.
//!
//! Executing this executable costs more than what a warden does with it: it is large, a dynamic linker writes a thousand
//! of its pages, and the kernel maps them all anew. So a node executes it once more when it begins, as its *stem*: a process
//! with one thread that waits for orders, and forks for each. What is forked is a warden that has read nothing yet; its
//! orders are in a file that the stem hands on unread, so nothing of one program is ever in the memory of another's warden.
//!
//! ```text
//! node ── stem ┄ forks ┄┐
//!   └── outer warden ◀──┘ (CLONE_PARENT: a child of the node's, of the same thread)
//! ```
//!
//! Where a program needs nobody outside its walls (it has neither a lease nor a port), what is forked is in namespaces of
//! its own at once, process 1 of them (`Walls`): that is one process fewer, and a third of what a start costs.
//!
//! A capsule needs no walls but its own, so its warden can be forked before anybody asks for it: a spare.
//!
//! A fork is its *sibling* and not its child. So nothing of what [`warden`](crate::warden) promises depends on the stem: the node waits
//! for its wardens itself, they end with the thread that would have started them, and a stem that dies takes nobody
//! with it. The node then [starts another](Stem::start), after it has looked for strays.
//!
//! All wardens of a node have the same layout of addresses, that of the stem. A program is executed, and has its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

/// Orders, three streams, and perhaps a grip.
const HANDED_MAX: usize = 5;

/// The process that is forked.
#[derive(Debug)]
pub struct Stem {
    socket: OwnedFd,
    process: Pid,
}

/// Within what a warden is forked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Walls {
    /// Where the stem is: it goes on from there itself.
    None,
    /// In namespaces of its own, but for the network.
    ButNetwork,
    /// In namespaces of its own.
    All,
}

impl Walls {
    const fn byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::ButNetwork => 1,
            Self::All => 2,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Self::None, Self::ButNetwork, Self::All]
            .into_iter()
            .find(|walls| walls.byte() == byte)
    }

    const fn flags(self) -> i32 {
        let but_network = libc::CLONE_NEWUSER
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWNS
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS;
        match self {
            Self::None => 0,
            Self::ButNetwork => but_network,
            Self::All => but_network | libc::CLONE_NEWNET,
        }
    }
}

/// Instead of [`Walls`]: a warden that waits until there is something to do.
const SPARE: u8 = 3;

/// What a warden that was forked begins with; its standard streams are the program's already.
pub(crate) struct Forked {
    pub(crate) told: File,
    pub(crate) grip: Option<OwnedFd>,
    pub(crate) within: Within,
}

/// Where a warden that was forked is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Within {
    /// Where the stem is.
    Nothing,
    /// In namespaces of its own, process 1 of them.
    Namespaces,
    /// Where it waited: in control groups that are the program's from now on.
    Groups,
}

/// In a fork, what it is.
pub(crate) enum Grown {
    Warden(Forked),
    /// With what it is to prepare, the line on which its orders come, and the stem's process.
    Spare {
        told: File,
        line: OwnedFd,
        stem: OwnedFd,
    },
}

impl Stem {
    /// Starts it. It ends with the calling thread, whose children its forks are. With the node's directory it
    /// sets the scene there, if it may: whoever gives it watches the host.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn start(scene: Option<&Path>) -> io::Result<Self> {
        let (socket, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = crate::warden::begin_stem(other)?;
        let stem = Self { socket, process };
        // Not as a word of its command line, which programs could read: their wardens are forks of it.
        let scene = scene.map_or(&[][..], |data| data.as_os_str().as_bytes());
        let first = [&[0][..], scene].concat();
        rustix::io::write(&stem.socket, &first)?;
        Ok(stem)
    }

    /// Forks a warden that is told what is in a file, with these standard streams: its process, in a group of its own.
    /// Where the kernel refuses the namespaces it is forked without.
    ///
    /// # Errors
    /// If the kernel forks nobody, or the stem is gone ([`io::ErrorKind::BrokenPipe`]).
    pub(crate) fn fork(
        &self,
        told: BorrowedFd<'_>,
        streams: [BorrowedFd<'_>; 3],
        grip: Option<BorrowedFd<'_>>,
        walls: Walls,
    ) -> io::Result<Pid> {
        let [stdin, stdout, stderr] = streams;
        let all = [Some(told), Some(stdin), Some(stdout), Some(stderr), grip];
        let handed: Vec<_> = all.into_iter().flatten().collect();
        self.order(walls.byte(), &handed)
    }

    /// Forks a warden that prepares what is in a file and waits at the other end of this line.
    ///
    /// # Errors
    /// As [`Stem::fork`].
    pub(crate) fn fork_spare(&self, told: BorrowedFd<'_>, line: BorrowedFd<'_>) -> io::Result<Pid> {
        self.order(SPARE, &[told, line])
    }

    fn order(&self, word: u8, handed: &[BorrowedFd<'_>]) -> io::Result<Pid> {
        hand(&self.socket, word, handed)?;
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let mut answer = [0; 4];
        let read = rustix::io::retry_on_intr(|| rustix::io::read(&self.socket, &mut answer));
        if read.map_err(gone)? != answer.len() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let answer = i32::from_le_bytes(answer);
        if answer < 0 {
            return Err(io::Error::from_raw_os_error(-answer));
        }
        let child = Pid::from_raw(answer).ok_or(io::ErrorKind::InvalidData)?;
        // It does so itself, but perhaps not before somebody has a signal for its group.
        let _ = rustix::process::setpgid(Some(child), Some(child));
        Ok(child)
    }

    pub(crate) fn process(&self) -> Pid {
        self.process
    }
}

impl Drop for Stem {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(self.process, Signal::KILL);
        let wait = || rustix::process::waitpid(Some(self.process), WaitOptions::empty());
        let _ = rustix::io::retry_on_intr(wait);
    }
}

/// Children of the calling thread that are not `known`: what a stem forked that was killed before it could say so.
pub(crate) fn strays(known: impl Fn(Pid) -> bool) -> Vec<Pid> {
    let list = format!("/proc/self/task/{}/children", rustix::thread::gettid());
    let children = std::fs::read_to_string(list).unwrap_or_default();
    let children = children.split_whitespace();
    let children = children.filter_map(|number| Pid::from_raw(number.parse().ok()?));
    children.filter(|child| !known(*child)).collect()
}

/// What a stem is told first: where to set the scene, if it is to.
///
/// # Errors
/// If the socket fails.
pub(crate) fn told_first(socket: &OwnedFd) -> io::Result<Option<PathBuf>> {
    let mut first = [0; 1 + libc::PATH_MAX as usize];
    let length = rustix::io::retry_on_intr(|| rustix::io::read(socket, &mut first))?;
    let scene = first[..length].get(1..).unwrap_or_default();
    Ok((!scene.is_empty()).then(|| PathBuf::from(OsStr::from_bytes(scene))))
}

/// Says a word on a line, and hands these on with it.
///
/// # Errors
/// [`io::ErrorKind::BrokenPipe`] if nobody is there any more.
pub(crate) fn hand(line: &OwnedFd, word: u8, handed: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
    let mut beside = SendAncillaryBuffer::new(&mut room);
    assert!(beside.push(SendAncillaryMessage::ScmRights(handed)));
    let word = [word];
    let word = [IoSlice::new(&word)];
    let sent = rustix::net::sendmsg(line, &word, &mut beside, SendFlags::NOSIGNAL);
    sent.map_err(|_| io::ErrorKind::BrokenPipe)?;
    Ok(())
}

/// What is said next on a line, and what came with it; nothing once nobody is there any more.
///
/// # Errors
/// If the line fails, or nothing has come and the flags say not to wait for it.
pub(crate) fn take(line: &OwnedFd, flags: RecvFlags) -> io::Result<Option<(u8, Vec<OwnedFd>)>> {
    let mut word = [0];
    let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
    let mut beside = RecvAncillaryBuffer::new(&mut room);
    let received = rustix::io::retry_on_intr(|| {
        let words = &mut [IoSliceMut::new(&mut word)];
        rustix::net::recvmsg(line, words, &mut beside, flags | RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes == 0 {
        return Ok(None);
    }
    let handed = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(handed) => Some(handed),
        _ => None,
    });
    Ok(Some((word[0], handed.flatten().collect())))
}

/// The orders of a warden, of which the standard streams become this process's.
///
/// # Errors
/// If there are too few, or a stream cannot be taken.
pub(crate) fn begin(handed: Vec<OwnedFd>, within: Within) -> io::Result<Forked> {
    let mut handed = handed.into_iter();
    let told = handed.next().ok_or(io::ErrorKind::InvalidData)?;
    for number in 0..3 {
        let stream = handed.next().ok_or(io::ErrorKind::InvalidData)?;
        put(stream.as_fd(), number)?;
    }
    Ok(Forked {
        told: File::from(told),
        grip: handed.next(),
        within,
    })
}

/// The life of a stem, in its process, which has no other thread and no other descriptor: returns in each fork, and
/// nothing when nobody is left to ask for one.
///
/// # Errors
/// If the socket fails.
pub(crate) fn live(socket: OwnedFd) -> io::Result<Option<Grown>> {
    loop {
        let Some((word, handed)) = take(&socket, RecvFlags::empty())? else {
            return Ok(None);
        };
        let walls = match word {
            SPARE => None,
            word => Some(Walls::of(word).ok_or(io::ErrorKind::InvalidData)?),
        };
        // By which a spare knows when this process has ended.
        let itself = || rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty());
        let itself = walls.is_none().then(itself).transpose();
        let mut within = match walls {
            None | Some(Walls::None) => Within::Nothing,
            Some(Walls::ButNetwork | Walls::All) => Within::Namespaces,
        };
        let mut forked = match itself {
            Ok(_) => fork_a_sibling(walls.map_or(0, Walls::flags)),
            Err(error) => Err(error.into()),
        };
        if within == Within::Namespaces && forked.is_err() {
            within = Within::Nothing;
            forked = fork_a_sibling(0);
        }
        if let Ok(0) = forked {
            // Or a program could find it with its warden, and give orders.
            drop(socket);
            rustix::process::setpgid(None, None)?;
            return match itself? {
                None => Ok(Some(Grown::Warden(begin(handed, within)?))),
                Some(stem) => {
                    let [told, line] =
                        <[OwnedFd; 2]>::try_from(handed).map_err(|_| io::ErrorKind::InvalidData)?;
                    let told = File::from(told);
                    Ok(Some(Grown::Spare { told, line, stem }))
                }
            };
        }
        drop(handed);
        let answer = forked.unwrap_or_else(|error| -error.raw_os_error().unwrap_or(libc::EAGAIN));
        let told = rustix::io::write(&socket, &answer.to_le_bytes());
        if told.is_err() {
            return Ok(None);
        }
    }
}

/// Copies this process, which must have one thread, as another child of its parent: 0 in the copy, which is in such
/// namespaces of its own.
fn fork_a_sibling(namespaces: i32) -> io::Result<i32> {
    let flags = libc::CLONE_PARENT | libc::SIGCHLD | namespaces;
    // SAFETY: as this process has one thread, its copy finds no lock held by one that is not there. The copy has memory
    // of its own, and no stack is given.
    let forked = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            0_usize,
            0_usize,
            0_usize,
            0_usize,
        )
    };
    match forked {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(i32::try_from(child).expect("the kernel's numbers of processes")),
    }
}

/// Makes a descriptor a standard stream, which whoever is executed inherits.
pub(crate) fn put(descriptor: BorrowedFd<'_>, number: i32) -> io::Result<()> {
    // SAFETY: what was under the number is a standard stream of a process that no longer needs it.
    match unsafe { libc::dup2(descriptor.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Takes the descriptor a stem was started with, and closes every other but the standard streams.
pub(crate) fn alone_with(descriptor: i32) -> io::Result<OwnedFd> {
    let close = |from: u32, to: u32| {
        // SAFETY: nothing in this process has opened a descriptor yet that it would use again.
        match unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let number = u32::try_from(descriptor).map_err(|_| io::ErrorKind::InvalidInput)?;
    if number > 3 {
        close(3, number - 1)?;
    }
    close(number + 1, u32::MAX)?;
    // SAFETY: whoever started this process left it open for this, and nothing else here knows its number.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_that_nobody_knows_is_a_stray() {
        let cat = || {
            Command::new("cat")
                .stdin(Stdio::piped())
                .spawn()
                .expect("cat")
        };
        let (mut known, mut unknown) = (cat(), cat());
        let [one, other] = [&known, &unknown].map(Pid::from_child);
        assert_eq!(strays(|child| child == one), [other]);
        for child in [&mut known, &mut unknown] {
            child.kill().expect("it lives");
            child.wait().expect("it ends");
        }
    }
}
