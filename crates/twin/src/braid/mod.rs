//! What becomes of a braid whose tori die?
//!
//! Three tori of crate `runtime`, the very ones that a daemon gives threads and machines, in virtual time: lines between them
//! that delay, lose, double, damage and reorder what they carry, and a world that kills tori, cuts them off, and writes into
//! their memory. Players do work whose outcome is known beforehand ([`runtime::drill`]), so that at the end nothing can be lost or
//! doubled without being noticed; and every torus that is rebuilt is compared, byte by byte, with the one that was lost.
//!
//! # Assumptions
//! A turn takes `braid.turn_time`, and so does each that is run again while a torus is rebuilt: so long neither the keeper, which
//! does it, nor its successor says a word. Copying memory, tags and snapshots take nothing; what they cost is measured on a real
//! processor (docs/bench/braid.md). Whoever uses the braid is never cut off from it.
//!
//! A torus that is cut off lives on; once it is given up there are two of that strand, and both hear what is sent to it.
//!
//! Deliberately absent: programs, and what they ask of an operating system.
//!
//! Tour: [`config`] the universe file · `world` three tori and what befalls them · [`outcome`] whether it went well.

pub mod config;
pub mod outcome;
mod world;

pub use config::Config;
pub use outcome::{Outcome, run};
