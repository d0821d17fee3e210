//! What a torus can be told by its world, and what it asks of it.

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::packet::Unreadable;
use crate::pid::Strand;
use crate::post::{Offer, Report};
use crate::process::{Process, Refused};
use crate::torus::Torus;

/// What can happen to a torus.
#[derive(Clone, Debug)]
pub enum Input<P: Process> {
    /// Bytes came from another torus, or so they say.
    Received(Vec<u8>),
    /// The world wants something done. Offers are numbered from 0 for each strand,
    /// for ever; one is offered again until [`Effect::Accepted`] covers it.
    Offered {
        /// Its number.
        number: u64,
        /// What is wanted.
        offer: Offer<P>,
    },
    /// The world has all reports below this number.
    Taken {
        /// The first it does not have.
        upto: u64,
    },
}

/// What a torus wants done.
#[derive(Clone, Debug)]
pub enum Effect<P: Process> {
    /// Carry this to another torus.
    Send {
        /// To whom.
        to: Strand,
        /// What.
        bytes: Vec<u8>,
    },
    /// All offers below this number are acknowledged: they will happen once,
    /// whichever torus is lost next.
    Accepted {
        /// The first that is not.
        upto: u64,
    },
    /// This offer was not taken.
    Refused {
        /// Its number.
        number: u64,
        /// Why.
        why: Refused,
    },
    /// A process says something to the world. May be said again under the same
    /// number until [`Input::Taken`] covers it.
    Told {
        /// Its number, counted for each strand from 0 without gaps.
        number: u64,
        /// What.
        report: Report<P::Message>,
    },
    /// Deadlines were missed.
    Missed {
        /// How many since this was last said.
        deadlines: u64,
    },
    /// The previous torus was lost and this is it, as it was when it last wrote
    /// anything that counts. To be run in its place from now on.
    Rebuilt(Box<Torus<P>>),
    /// The previous torus was lost and cannot be rebuilt from what is kept here.
    Lost(Strand),
    /// This torus has stopped and does nothing any more.
    Stopped(Stopped),
    /// Bytes were not taken for a packet.
    Rejected(Unreadable),
}

/// Why a torus has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// The memory of this site is damaged.
    //= requirements K2
    Damaged {
        /// The site.
        site: u32,
    },
    /// It was given up, and another is in its place.
    Succeeded,
}
