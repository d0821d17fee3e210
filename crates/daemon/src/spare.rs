//! A warden that is there before it is needed.
//!
//! From the second capsule on, what a start waits for is mostly what is the same for every capsule: a process, its control
//! groups, the pages that it writes, a thread that waits in WASI. So a node that runs capsules has one process more, its
//! *spare*, in which all of that is done: it is [forked from the stem](crate::stem) as every warden, enters control groups
//! of its own, [rehearses](crate::capsule::rehearse) and then waits for orders. Who gets them is the warden of that
//! capsule from then on, as if it had been forked for it, and the node has another one forked.
//!
//! It knows nothing of any program before, and of one afterwards. It is used once: the line on which its orders come is
//! closed on both sides with the first. It ends with the node, whose child it is; with the stem; and when the node throws it
//! away, because the host is no longer as the stem knows it. What asks for more than its groups give is started without it.
//!
//! Programs of the host have none: their walls stand for one program, and a process of many threads cannot have any.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags};
use rustix::fs::MemfdFlags;
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketFlags, SocketType};
use rustix::process::{Pid, Signal, WaitOptions};
use serde::{Deserialize, Serialize};

use crate::capsule;
use crate::cgroup::Group;
use crate::stem::{self, Forked, Stem, Within};

/// What it is to do while nobody needs it.
#[derive(Debug, Serialize, Deserialize)]
struct Preparation {
    /// Its parent, as the process that wrote this numbers processes.
    parent: i32,
    /// Files to write `0` to.
    doors: Vec<PathBuf>,
    /// The node's directory, where compiled code is kept.
    data: PathBuf,
}

/// One that waits, as its node has it; it is killed with this.
#[derive(Debug)]
pub(crate) struct Spare {
    /// None once it is a warden.
    process: Option<Pid>,
    line: OwnedFd,
    group: Option<Group>,
}

impl Spare {
    /// Has one forked, which prepares itself while the node goes on, as a member of this group.
    ///
    /// # Errors
    /// As [`Stem::fork`].
    pub(crate) fn start(stem: &Stem, group: Option<Group>, data: &Path) -> io::Result<Self> {
        let preparation = Preparation {
            parent: rustix::process::getpid().as_raw_pid(),
            doors: group.as_ref().map(Group::doors).unwrap_or_default(),
            data: data.to_owned(),
        };
        let mut told = File::from(rustix::fs::memfd_create("spare", MemfdFlags::CLOEXEC)?);
        told.write_all(&serde_json::to_vec(&preparation).expect("plain data"))?;
        let (line, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        let process = Some(stem.fork_spare(told.as_fd(), other.as_fd())?);
        Ok(Self {
            process,
            line,
            group,
        })
    }

    /// Makes it the warden that is told what is in a file, with these standard streams: its process, and its group.
    ///
    /// # Errors
    /// If it has ended. It has done nothing then.
    pub(crate) fn order(
        mut self,
        told: BorrowedFd<'_>,
        streams: [BorrowedFd<'_>; 3],
        grip: Option<BorrowedFd<'_>>,
    ) -> io::Result<(Pid, Option<Group>)> {
        let [stdin, stdout, stderr] = streams;
        let all = [Some(told), Some(stdin), Some(stdout), Some(stderr), grip];
        let handed: Vec<_> = all.into_iter().flatten().collect();
        stem::hand(&self.line, 0, &handed)?;
        let process = self.process.take().ok_or(io::ErrorKind::NotFound)?;
        Ok((process, self.group.take()))
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        if let Some(process) = self.process {
            let _ = rustix::process::kill_process(process, Signal::KILL);
            let wait = || rustix::process::waitpid(Some(process), WaitOptions::empty());
            let _ = rustix::io::retry_on_intr(wait);
        }
    }
}

/// The life of a spare, in its process: its orders, or nothing if it is not needed any more.
///
/// # Errors
/// If it cannot prepare itself.
pub(crate) fn wait(mut told: File, line: &OwnedFd, stem: &OwnedFd) -> io::Result<Option<Forked>> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    told.rewind()?;
    // At once: a reader that is not buffered is asked for byte after byte.
    let mut orders = Vec::new();
    told.read_to_end(&mut orders)?;
    let preparation: Preparation = serde_json::from_slice(&orders)?;
    if rustix::process::getppid().map(Pid::as_raw_pid) != Some(preparation.parent) {
        return Ok(None);
    }
    // Before it has another thread, which would stay outside.
    for door in &preparation.doors {
        std::fs::write(door, "0")?;
    }
    let nothing = File::options().read(true).write(true).open("/dev/null")?;
    for number in 0..3 {
        stem::put(nothing.as_fd(), number)?;
    }
    drop(nothing);
    capsule::rehearse(&preparation.data);
    let mut asked = [line, stem].map(|one| PollFd::new(one, PollFlags::IN));
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut asked, None))?;
    let mut flags = RecvFlags::empty();
    if asked[0].revents().is_empty() {
        // The stem has ended. Whoever has orders from now on is told so, and whoever had some has given them.
        rustix::net::shutdown(line, Shutdown::Both)?;
        flags = RecvFlags::DONTWAIT;
    }
    match stem::take(line, flags)? {
        Some((_, handed)) => stem::begin(handed, Within::Groups).map(Some),
        None => Ok(None),
    }
}
