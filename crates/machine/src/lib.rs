//! What is a protocol?
//!
//! A deterministic state machine that performs no input or output of its own.
//! Time, chance, messages and sensor readings come in as arguments; what it
//! wants done comes out as data. A test reads that data, the twin runs a million
//! machines over simulated links, a daemon sends it to a socket, and none of
//! them can be told apart from the inside.
//!
//! # The contract
//!
//! * [`Machine::handle`] takes one input and may emit effects.
//! * [`Machine::deadline`] names the one instant at which the machine next wants
//!   to be woken, or nothing. The world calls [`Machine::wake`] at that instant or
//!   later, and reads the deadline again after every call. There are no timer
//!   tokens, so none can go stale.
//! * Time never goes backwards between calls; it may stand still.
//! * A write that must be durable before a message may leave is the effect
//!   [`Persist`]; the world answers with the input [`Persisted`], however long
//!   its disk takes.
//! * Chance is a [`Stream`] handed in when the machine is made.
//!
//! Deliberately absent: clocks, threads, sockets, files, `async`, and any way
//! for a machine to call another. Machines are composed by routing one's effects
//! into another's inputs, which is the `node` crate's whole work.
//!
//! Tour: [`stream`] chance · [`pair`] two machines and one virtual time, for tests.
#![no_std]

extern crate alloc;

pub mod pair;
pub mod stream;

pub use stream::{Purpose, Stream};

use alloc::vec::Vec;
use wire::Instant;

/// A protocol as seen by the world that drives it.
pub trait Machine {
    /// What can happen to it.
    type Input;
    /// What it can ask for.
    type Effect;

    /// Takes one input; effects go to `out` in the order they are to be done.
    fn handle(&mut self, now: Instant, input: Self::Input, out: &mut impl FnMut(Self::Effect));

    /// Called at or after [`Machine::deadline`].
    ///
    /// Calling it early must be harmless: a world may wake a machine whose
    /// deadline has just moved.
    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Self::Effect));

    /// When the machine next wants [`Machine::wake`]; `None` for never.
    fn deadline(&self) -> Option<Instant>;
}

/// An effect: make these bytes durable, then answer [`Persisted`] with the same
/// token. Effects after it in the same call do not wait for it; a machine that
/// must not speak before the write is safe emits the message only on the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Chosen by the machine, returned in the answer.
    pub token: u64,
    /// What to write.
    pub bytes: Vec<u8>,
}

/// An input: everything up to and including this token survives a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persisted {
    /// The token of the [`Persist`] it answers.
    pub token: u64,
}
