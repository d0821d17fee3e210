//! Who is there?
//!
//! In a cell of a thousand tiles somebody is always failing, and everybody must
//! know within seconds, without a list kept anywhere and without anybody being
//! declared dead for a lost message.
//!
//! # The idea
//!
//! Each member probes one other each second, by turns a neighbour on the lattice
//! and somebody far away (SWIM: Das, Gupta, Motivala, DSN 2002). One that does not
//! answer is asked again through three relays, then suspected. A suspicion is
//! a rumour with a clock: everybody who hears it starts one, each independent
//! accuser shortens it (Lifeguard: Dadgar, Phillips, Currey, DSN 2018), and the
//! suspect, who is told first, ends it by announcing a higher incarnation of
//! itself. Rumours ride on probes and answers, and for as long as there are any
//! also travel by themselves, four times a second.
//!
//! Nobody is removed on another's word. After a partition each side hears that the
//! other has removed everybody on it, among them those it never lost touch with;
//! it takes this for an accusation and gives them time to object.
//!
//! Four things are cosmOS's own:
//!
//! * **The roster is held by exception.** A member everybody believes alive at the
//!   incarnation most are at takes no memory at any other. An idle member is one
//!   struct of fewer than 256 bytes and no heap, and handling a probe touches only that.
//! * **Whom to probe is a function of time**, so every tile is probed exactly once
//!   in every turn ([`schedule`]).
//! * **Who is heard by nobody accuses nobody.** Relays say at once that they heard
//!   the request. A member none of them heard concludes that it is the one cut
//!   off, so an isolated one causes no storm and returns without a word.
//! * **Agreement is checked in passing.** Every message carries four bytes that
//!   are equal for equal rosters. Where they differ, the answer's empty seats
//!   are filled from the roster, so what rumour missed is repaired by
//!   traffic that flows anyway, and a healed partition converges.
//!
//! # What is assumed
//!
//! Holders of the cell's key may fail but do not lie; those who do are the business
//! of `immune`. Messages may be lost, delayed, doubled and reordered. A cell's
//! size is fixed; seats that are said to be vacant ([`Member::vacate`]) are left alone until somebody
//! takes them, and any other tile that never was in service is held alive until its first
//! probe, then removed like all that are silent.
//!
//! Deliberately absent: a list of members, a leader, a table per peer, timers by the
//! peer, any message to or about another cell.
//!
//! The protocol's statements are numbered in `spec/membership.md` and cited in the code.
//!
//! Tour: [`claim`] what may be claimed and which of two holds · [`message`] how it
//! is said · [`event`] what comes in and goes out · [`config`] what a cell agrees on ·
//! `roster` beliefs by exception · [`schedule`] whose turn it is · `suspicion` the clock
//! and its confirmations · `health` is it me? · `exile` when to come back · `news` what to tell next · `search` in short lists · `plane` in place of long ones ·
//! [`member`] the machine.
#![no_std]

extern crate alloc;

pub mod claim;
pub mod config;
pub mod event;
mod exile;
mod health;
pub mod member;
pub mod message;
mod news;
mod plane;
mod roster;
pub mod schedule;
mod search;
mod suspicion;

pub use claim::{Claim, INCARNATION_MAX, State};
pub use config::Config;
pub use event::{Effect, Input, Reason, Why};
pub use member::{Member, incarnation_after, record};
pub use message::{Batch, Content, Kind, Message, Peer, Update, Updates};
