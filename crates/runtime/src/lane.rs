//! What has come from one neighbour, and what waits to go to it?
//!
//! A torus has five lanes: two to each of the others and one to the world. Posts
//! are numbered without gaps; the sender keeps each until the receiver has it in
//! a log that is held, the receiver takes each number once. So a lane survives
//! the loss of either end, and of anything under way.
//!
//! There are two to each torus so that no circle of full lanes can close (Dally
//! and Seitz, *Deadlock-free message routing*, 1987): what travels on the second
//! ends in a mailbox and never needs another lane first, except for a process
//! that comes home, and home always has its site.

use alloc::collections::VecDeque;

use crate::pid::Strand;
use crate::post::Post;
use crate::process::Process;

/// How many lanes a torus has.
pub(crate) const LANES: usize = 5;
/// The lane to and from the world.
pub(crate) const WORLD: usize = 4;

/// Which of the two lanes between tori.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Channel {
    /// As sent.
    First = 0,
    /// Passed on by the home of a process that is away.
    Onward = 1,
}

/// The lane between this torus and another; both ends count alike.
pub(crate) const fn between(me: Strand, other: Strand, channel: Channel) -> usize {
    // The next torus is one ahead, the previous one two.
    let ahead = (other as usize + 3 - me as usize) % 3;
    (ahead - 1) * 2 + channel as usize
}

#[derive(Clone, Debug)]
pub(crate) struct Lane<P: Process> {
    /// The number of the next post to take from it.
    pub(crate) taken: u64,
    /// The number of the first post in `outbox`.
    pub(crate) base: u64,
    pub(crate) outbox: VecDeque<Post<P>>,
    /// Up to here a snapshot has the posts.
    pub(crate) sealed: u64,
}

impl<P: Process> Lane<P> {
    pub(crate) const fn new() -> Self {
        Self {
            taken: 0,
            base: 0,
            outbox: VecDeque::new(),
            sealed: 0,
        }
    }

    /// The number that the next post sent will have.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.outbox.len() as u64
    }

    /// Posts from this number on.
    pub(crate) fn from(&self, first: u64) -> impl Iterator<Item = &Post<P>> {
        let skip = first.saturating_sub(self.base) as usize;
        self.outbox.iter().skip(skip)
    }

    /// The receiver holds everything below this number.
    pub(crate) fn trim(&mut self, upto: u64) {
        while self.base < upto && self.outbox.pop_front().is_some() {
            self.base += 1;
        }
    }
}
