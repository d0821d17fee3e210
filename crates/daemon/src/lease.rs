//! What stands over a program that runs under a lease, besides its warden.
//!
//! A lease ends at an instant, and nothing that runs under it may outlive that: not if this machine is cut off, and not if the very process that
//! should end it is stopped in the middle of a word. So the node does not end the program; it *puts off* its end. Between them lies a
//! [`Grip`], a file of a few bytes in memory that both have open: the node writes into it until when the lease holds, the warden lets a timer
//! of the kernel's run until then, reads it again, and if nobody has put it off kills what it stands over. That is a dead man's handle: whoever lets
//! go of it stops the train.
//!
//! All of it is in nanoseconds of `CLOCK_BOOTTIME`, which goes on while the machine is suspended and is never set.
//!
//! `Ledger` is what is left of it: a line when something begins and one when nothing of it is left, written by the warden, which sees both.
//!
//! Deliberately absent: who holds what, which is the [council](crate::fleet)'s.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::MemfdFlags;
use serde::{Deserialize, Serialize};

/// Nanoseconds since the machine was started, those included in which it was suspended.
#[must_use]
pub fn boottime() -> u64 {
    let mut read = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the kernel fills the one structure it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut read) };
    let (seconds, nanos) = (read.tv_sec.unsigned_abs(), read.tv_nsec.unsigned_abs());
    seconds * 1_000_000_000 + nanos
}

/// Until when a program may run, as node and warden both see it.
#[derive(Clone, Debug)]
pub struct Grip(Arc<File>);

/// Where it says that the program is well.
const WELL: u64 = 8;
/// And that nobody is served any more.
const QUIET: u64 = 9;

impl Grip {
    /// One that holds until then.
    ///
    /// # Errors
    /// If the kernel gives no memory.
    pub fn new(until: u64) -> io::Result<Self> {
        let file = File::from(rustix::fs::memfd_create("lease", MemfdFlags::CLOEXEC)?);
        file.write_all_at(&[0; 10], 0)?;
        let grip = Self(Arc::new(file));
        grip.put_off(until);
        Ok(grip)
    }

    /// The one a warden was handed.
    pub(crate) fn inherited(descriptor: OwnedFd) -> Self {
        Self(Arc::new(descriptor.into()))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// It holds until then from now on.
    pub fn put_off(&self, until: u64) {
        // Memory that is there takes eight bytes.
        let _ = self.0.write_all_at(&until.to_le_bytes(), 0);
    }

    /// Until when it holds. What cannot be read holds no more.
    #[must_use]
    pub fn until(&self) -> u64 {
        let mut bytes = [0; 8];
        let read = self.0.read_exact_at(&mut bytes, 0);
        read.map_or(0, |()| u64::from_le_bytes(bytes))
    }

    /// Whether it holds now.
    #[must_use]
    pub fn holds(&self) -> bool {
        boottime() < self.until()
    }

    /// Says whether the program was found well.
    pub fn set_well(&self, well: bool) {
        let _ = self.0.write_all_at(&[well.into()], WELL);
    }

    /// Whether it was.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.says(WELL)
    }

    /// Says that the program's ports are shut and nobody is served any more.
    pub fn set_quiet(&self) {
        let _ = self.0.write_all_at(&[1], QUIET);
    }

    /// Whether that was said.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.says(QUIET)
    }

    fn says(&self, at: u64) -> bool {
        let mut byte = [0];
        self.0.read_exact_at(&mut byte, at).is_ok() && byte == [1]
    }
}

/// A timer of the kernel's that sends this process `SIGALRM` at an instant, however long the machine sleeps.
#[derive(Debug)]
pub(crate) struct Timer(libc::timer_t);

impl Timer {
    pub(crate) fn new() -> io::Result<Self> {
        let mut timer = std::ptr::null_mut();
        // SAFETY: without an event of its own a timer sends SIGALRM; the kernel writes the one number it is given room for.
        let made = unsafe {
            libc::timer_create(libc::CLOCK_BOOTTIME, std::ptr::null_mut(), &raw mut timer)
        };
        match made {
            0 => Ok(Self(timer)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// At once, if that instant is past.
    pub(crate) fn set(&self, at: u64) -> io::Result<()> {
        let zero = libc::timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // Nought would mean never.
        let at = at.max(1);
        let setting = libc::itimerspec {
            it_interval: zero,
            it_value: libc::timespec {
                tv_sec: i64::try_from(at / 1_000_000_000).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(at % 1_000_000_000).unwrap_or(0),
            },
        };
        // SAFETY: the kernel reads the one structure; the timer is this one's own.
        let set = unsafe {
            libc::timer_settime(
                self.0,
                libc::TIMER_ABSTIME,
                &raw const setting,
                std::ptr::null_mut(),
            )
        };
        match set {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Which lease a program runs under, as its warden is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenancy {
    /// What the fleet calls the program.
    pub program: String,
    /// The entry that gave it.
    pub number: u64,
    /// Which of its replicas.
    pub replica: u32,
    /// The entry that granted it.
    pub fence: u64,
}

/// The file in a node's directory that holds the history of its leases.
pub const LEDGER: &str = "leases.jsonl";
/// The part of it before the present one.
pub const LEDGER_BEFORE: &str = "leases.jsonl.old";
/// Longer than this, in bytes, it is begun anew, and what was is kept once: some 20,000 lines.
pub const LEDGER_BYTES_MAX: u64 = 4 << 20;

/// A line of the history.
#[derive(Debug, Serialize)]
struct Line<'a> {
    boottime_ns: u64,
    unix_ns: u64,
    event: &'a str,
    program: &'a str,
    number: u64,
    replica: u32,
    fence: u64,
}

/// The history of a node's leases.
#[derive(Debug)]
pub(crate) struct Ledger(File);

impl Ledger {
    pub(crate) fn open(data: &Path) -> io::Result<Self> {
        let file = File::options()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(data.join(LEDGER))?;
        Ok(Self(file))
    }

    /// One line, in one write: several wardens write here.
    pub(crate) fn note(&self, tenancy: &Tenancy, event: &str) {
        let line = Line {
            boottime_ns: boottime(),
            unix_ns: unix_ns(),
            event,
            program: &tenancy.program,
            number: tenancy.number,
            replica: tenancy.replica,
            fence: tenancy.fence,
        };
        let mut line = serde_json::to_vec(&line).expect("a line is plain data");
        line.push(b'\n');
        // A full disk costs the history a line, and the program nothing.
        let _ = (&self.0).write_all(&line);
    }
}

/// Begins the history anew if it has grown long. Who has it open goes on in the old one.
pub(crate) fn bound_ledger(data: &Path) {
    let path = data.join(LEDGER);
    if fs::metadata(&path).is_ok_and(|found| found.len() > LEDGER_BYTES_MAX) {
        let _ = fs::rename(&path, data.join(LEDGER_BEFORE));
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "whoever lays histories of several machines side by side starts from here"
)]
fn unix_ns() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or(Duration::ZERO).as_nanos()).unwrap_or(u64::MAX)
}

/// Where a node keeps what programs said that it held.
pub(crate) fn said(data: &Path) -> PathBuf {
    data.join("held")
}

#[cfg(test)]
mod tests {
    use super::*;
    use signal_hook::iterator::Signals;

    #[test]
    fn a_grip_is_seen_through_another_descriptor_and_ends() {
        let grip = Grip::new(boottime() + 3_600_000_000_000).unwrap();
        let other = Grip(Arc::new(grip.0.try_clone().unwrap()));
        assert!(other.holds() && !other.is_well());
        grip.put_off(boottime());
        grip.set_well(true);
        assert!(!other.holds() && other.is_well());
    }

    #[test]
    fn a_timer_wakes_whoever_waits_for_signals() {
        let mut signals = Signals::new([libc::SIGALRM]).unwrap();
        let timer = Timer::new().unwrap();
        let at = boottime() + 20_000_000;
        timer.set(at).unwrap();
        assert_eq!(signals.wait().collect::<Vec<_>>(), [libc::SIGALRM]);
        assert!(boottime() >= at);
        timer.set(0).unwrap();
        assert_eq!(
            signals.wait().collect::<Vec<_>>(),
            [libc::SIGALRM],
            "what is past comes at once"
        );
    }
}
