//! How will a few real machines take it?
//!
//! A fleet of hosts on one switch, as `cosmos up` makes them: the machines that a daemon feeds with datagrams, a clock and
//! a disk, its node and its seat in the council, are fed with simulated ones, in the very cell (seats, turns and timeouts) that daemons form. Hosts are killed and started
//! again, paused, cut off, slowed; what is noticed, by whom and when is what this world is for.
//!
//! The same file is a script for real hosts: `cargo xtask fleet` does to daemons in network namespaces what this world does
//! to members, and writes down what happened as a [`History`]. Both histories are read by the same function
//! ([`Samples::of`]), so that prediction and measurement mean the same by every word.
//!
//! One rehearsal of five hosts says little: when in its turn a host dies is chance, and all that notice it draw on the same. So a
//! run is many rehearsals, each with chance of its own.
//!
//! # Assumptions
//! A message takes what the switch takes, which is below a tenth of a millisecond, and what the file adds. Processor time costs
//! nothing. A host that is started speaks after `hosts.boot`. Connections are not modelled: what a class A datagram needs of one is there
//! as soon as its host is.
//!
//! Deliberately absent: what a program does, and heat.
//!
//! Tour: [`config`] the universe file · `world` one rehearsal · [`history`] what happened, and what to make of it ·
//! [`leases`] whether two ever held one · [`outcome`] what came of all of them.

pub mod config;
pub mod history;
pub mod leases;
pub mod outcome;
mod world;

pub use config::{Blow, Config, What};
pub use history::{
    Answered, Asked, Change, History, HistoryError, Leases, Samples, Served, Struck,
};
pub use outcome::{Outcome, run};
