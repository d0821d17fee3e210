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
//! A fork is its *sibling* and not its child. So nothing of what [`warden`](crate::warden) promises depends on the stem: the node waits
//! for its wardens itself, they end with the thread that would have started them, and a stem that dies takes nobody
//! with it. The node then [starts another](Stem::start), after it has looked for strays.
//!
//! All wardens of a node have the same layout of addresses, that of the stem. A program is executed, and has its own.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, Signal, WaitOptions};

/// Orders, three streams, and perhaps a grip.
const HANDED_MAX: usize = 5;

/// The process that is forked.
#[derive(Debug)]
pub struct Stem {
    socket: OwnedFd,
    process: Pid,
}

/// What a warden that was forked begins with; its standard streams are the program's already.
pub(crate) struct Forked {
    pub(crate) told: File,
    pub(crate) grip: Option<OwnedFd>,
}

impl Stem {
    /// Starts it. It ends with the calling thread, whose children its forks are.
    ///
    /// # Errors
    /// If no process can be started.
    pub fn start() -> io::Result<Self> {
        let (socket, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = crate::warden::begin_stem(other)?;
        Ok(Self { socket, process })
    }

    /// Forks a warden that is told what is in a file, with these standard streams: its process, in a group of its own.
    ///
    /// # Errors
    /// If the kernel forks nobody, or the stem is gone ([`io::ErrorKind::BrokenPipe`]).
    pub(crate) fn fork(
        &self,
        told: BorrowedFd<'_>,
        streams: [BorrowedFd<'_>; 3],
        grip: Option<BorrowedFd<'_>>,
    ) -> io::Result<Pid> {
        let [stdin, stdout, stderr] = streams;
        let all = [Some(told), Some(stdin), Some(stdout), Some(stderr), grip];
        let handed: Vec<_> = all.into_iter().flatten().collect();
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
        let mut beside = SendAncillaryBuffer::new(&mut room);
        assert!(beside.push(SendAncillaryMessage::ScmRights(&handed)));
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        let word = [IoSlice::new(&[1])];
        rustix::net::sendmsg(&self.socket, &word, &mut beside, SendFlags::NOSIGNAL)
            .map_err(gone)?;
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

/// The life of a stem, in its process, which has no other thread and no other descriptor: returns in each fork, and
/// nothing when nobody is left to ask for one.
///
/// # Errors
/// If the socket fails.
pub(crate) fn live(socket: OwnedFd) -> io::Result<Option<Forked>> {
    loop {
        let mut word = [0];
        let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(HANDED_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut room);
        let received = rustix::io::retry_on_intr(|| {
            let words = &mut [IoSliceMut::new(&mut word)];
            rustix::net::recvmsg(&socket, words, &mut beside, RecvFlags::CMSG_CLOEXEC)
        })?;
        if received.bytes == 0 {
            return Ok(None);
        }
        let handed = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(handed) => Some(handed),
            _ => None,
        });
        let mut handed = handed.flatten();
        let mut next = || handed.next().ok_or(io::ErrorKind::InvalidData);
        let (told, streams) = (next()?, [next()?, next()?, next()?]);
        let grip = handed.next();
        // SAFETY: this process has one thread, so its copy finds no lock held by one that is not there. The copy has
        // memory of its own, and no stack is given.
        let forked = unsafe {
            libc::syscall(
                libc::SYS_clone,
                libc::c_long::from(libc::CLONE_PARENT | libc::SIGCHLD),
                0_usize,
                0_usize,
                0_usize,
                0_usize,
            )
        };
        if forked == 0 {
            // Or a program could find it with its warden, and give orders.
            drop(socket);
            rustix::process::setpgid(None, None)?;
            for (number, stream) in (0..).zip(&streams) {
                put(stream.as_fd(), number)?;
            }
            let told = File::from(told);
            return Ok(Some(Forked { told, grip }));
        }
        let answer = match forked {
            -1 => -io::Error::last_os_error()
                .raw_os_error()
                .unwrap_or(libc::EAGAIN),
            child => i32::try_from(child).expect("the kernel's numbers of processes"),
        };
        let told = rustix::io::write(&socket, &answer.to_le_bytes());
        if told.is_err() {
            return Ok(None);
        }
    }
}

/// Makes a descriptor a standard stream, which whoever is executed inherits.
fn put(descriptor: BorrowedFd<'_>, number: i32) -> io::Result<()> {
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
