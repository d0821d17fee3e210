//! What did we agree?
//!
//! A few tiles of a cell, its voters, keep one log of what was decided, so that it is still decided when
//! some of them are gone, and a state that follows from the log, so that all of them know the same. On it
//! lie the leases: who runs what. A fleet begins with one voter and grows to as many as seven.
//!
//! # The idea
//!
//! Raft (Ongaro and Ousterhout, *In Search of an Understandable Consensus Algorithm*, ATC 2014; Ongaro,
//! *Consensus: Bridging Theory and Practice*, 2014). In each term at most one voter leads, because
//! a majority gave it a vote each, and a vote is given once. Only the leader adds to the log; what
//! a majority has on disk is agreed. A vote is refused to whoever's log is behind, so whoever leads has
//! all that was agreed. `docs/decisions` says why not another.
//!
//! # What is promised
//!
//! * Two voters never apply different commands at one place, whatever is lost, doubled, late or out of
//!   order, whoever crashes and comes back with its disk, and whatever their clocks say.
//! * A command is applied at most once, however often it is sent ([`Author`]).
//! * A question ([`Ask::Read`]) is answered by a state that has all that was answered before
//!   it was asked. The leader asks a majority whether it still leads; no clock is trusted for it.
//! * One tile at a time holds a lease. That alone needs clocks, and of them only that
//!   they run at nearly the right rate: [`lease`] derives by how much.
//! * While a majority can reach each other for a few times [`Config::patience`], somebody leads.
//!
//! # What is done so that it works in a fleet
//!
//! * *Canvassing*: whoever misses the leader asks whether it would be elected before it begins a term, and
//!   whoever hears the leader does not answer. One that was cut off or removed disturbs nobody.
//! * A leader that does not hear a majority stops leading, so that its callers go elsewhere.
//! * Nothing that promises is said before it is durable (`ink`). One write is under way at a time and takes
//!   all that gathered meanwhile; the leader sends entries while its own disk writes them.
//! * A snapshot takes the place of a long log. Every fleet's log begins with one, so whoever
//!   joins is handed the whole state and assumes nothing.
//! * Voters come and go one at a time, a newcomer once it has caught up.
//! * Everything is bounded: what is undecided, what a message carries, what the log weighs.
//!
//! # What is assumed
//!
//! Voters may be slow, silent, crash and come back; they do not lie, and messages come from whom they
//! say (requirement O2 asks for more: that is to come, and is not here). A disk keeps what it
//! called durable; a voter whose disk is lost is retired before its number returns.
//!
//! Deliberately absent: sockets, clocks, threads; lies; reads that trust a clock; the hand-over of
//! leadership (a leader that leaves is missed for one patience); more than one command under way for each
//! desk of a tile; more than one message with entries under way to each follower.
//!
//! Tour: [`voters`] who, and how many are enough · [`log`] what was said · [`state`] what it is about ·
//! `session` at most once · [`message`] how it is said · [`event`] what comes in and goes out ·
//! [`config`] timings and bounds · [`record`] what a disk holds · `ink` what must not be said yet ·
//! `lead` what only a leader knows · [`voter`] the machine · [`lease`] who holds what · [`envoy`] how to ask ·
//! [`tenant`] how to hold · [`keep`] where what is held outlives its holder.
#![no_std]

extern crate alloc;

pub mod config;
pub mod envoy;
pub mod event;
mod ink;
pub mod keep;
mod lead;
pub mod lease;
pub mod log;
pub mod message;
pub mod record;
mod session;
pub mod state;
pub mod tenant;
pub mod voter;
pub mod voters;

pub use config::Config;
pub use envoy::Envoy;
pub use event::{Effect, Input, Reason};
pub use lease::{Lease, Leases, Terms};
pub use log::{Author, Entry, Index, Payload, Term};
pub use message::{Ask, Kind, Matched, Message, Outcome};
pub use record::Unreadable;
pub use state::State;
pub use tenant::Tenant;
pub use voter::Voter;
pub use voters::{VOTERS_MAX, Voters};
