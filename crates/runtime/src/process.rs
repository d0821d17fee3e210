//! What is a process, and what may it do in its turn?
//!
//! A value with a message handler. A turn takes one message and runs to its end;
//! there is no stack to keep between turns and nothing to switch. The lattice is
//! generic over one type of process, an enum where there are several kinds, so
//! that a turn is a direct call.

use core::fmt::Debug;

use wire::{Decode, Encode, Instant};

use crate::lattice::Lattice;
use crate::pid::{Pid, Strand, Weight};

/// What runs. Its handler must depend on nothing but the process, the message and
/// the turn: a torus is rebuilt by running it again.
pub trait Process: Clone + Debug + Encode + Decode {
    /// What can be said to it.
    type Message: Clone + Debug + Default + Encode + Decode;

    /// Takes one message.
    fn handle(&mut self, message: Self::Message, turn: &mut Turn<'_, Self>);

    /// Whether it can run on a lattice of this kind; nobody moves it elsewhere.
    fn suits(&self, strand: Strand) -> bool {
        let _ = strand;
        true
    }
}

/// Why something was not done. Nothing has changed, and what was to be sent is
/// still the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A mailbox, a lane or the lattice is full: try again later, or do less.
    #[error("full: nothing more is taken until some of it is done")]
    Full,
    /// No process has this name any more.
    #[error("no process has this name")]
    Nobody,
    /// The torus is overloaded and takes only heavier work.
    #[error("overloaded: only heavier work is taken")]
    TooLight,
    /// Offers are numbered from 0 without gaps, and this is not the next.
    #[error("out of order: offer {expected} comes next")]
    OutOfOrder {
        /// The number that comes next.
        expected: u64,
    },
}

/// One turn of one process.
#[derive(Debug)]
pub struct Turn<'a, P: Process> {
    lattice: &'a mut Lattice<P>,
    me: Pid,
    site: u32,
    exits: bool,
}

impl<'a, P: Process> Turn<'a, P> {
    pub(crate) const fn new(lattice: &'a mut Lattice<P>, me: Pid, site: u32) -> Self {
        Self {
            lattice,
            me,
            site,
            exits: false,
        }
    }

    pub(crate) const fn exits(&self) -> bool {
        self.exits
    }

    /// The process's own name.
    #[must_use]
    pub const fn me(&self) -> Pid {
        self.me
    }

    /// When the run began that this turn belongs to.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.lattice.clock()
    }

    /// Sends a message. On the same strand it waits in the other's mailbox before
    /// this returns; to another strand it leaves once this turn is in a log that
    /// the next torus holds.
    ///
    /// # Errors
    /// [`Refused::Full`] and [`Refused::Nobody`]. That a process on another strand
    /// is gone is not known here: what finds nobody there is counted as astray.
    pub fn send(&mut self, to: Pid, message: P::Message) -> Result<(), Refused> {
        self.lattice.post(to, message, Instant::END)
    }

    /// Sends a message that is to be taken before an instant. Later is a miss,
    /// and counted; the message is taken all the same.
    ///
    /// # Errors
    /// As [`Turn::send`].
    pub fn send_due(&mut self, to: Pid, message: P::Message, due: Instant) -> Result<(), Refused> {
        self.lattice.post(to, message, due)
    }

    /// Starts a process as close to this one as there is a free site.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn spawn(&mut self, process: P, weight: Weight) -> Result<Pid, Refused> {
        self.lattice.spawn(self.site, process, weight)
    }

    /// Has a process started on another strand; nobody learns its name but itself.
    ///
    /// # Errors
    /// [`Refused::Full`].
    pub fn spawn_on(&mut self, strand: Strand, process: P, weight: Weight) -> Result<(), Refused> {
        if strand == self.lattice.strand() {
            return self.spawn(process, weight).map(|_| ());
        }
        self.lattice.spawn_on(strand, process, weight)
    }

    /// Tells the world something; it leaves once this turn is in a log that the
    /// next torus holds.
    ///
    /// # Errors
    /// [`Refused::Full`] while the world has not taken what it was told before.
    pub fn tell(&mut self, message: P::Message) -> Result<(), Refused> {
        self.lattice.tell(self.me, message)
    }

    /// This is the last turn. What waits in the mailbox is counted as astray.
    pub const fn exit(&mut self) {
        self.exits = true;
    }
}
