//! How is it going?
//!
//! The words in which the system tells what it did: [`decision`] why something
//! was placed, refused, moved, slowed or darkened; [`sketch`] distributions in
//! fixed memory. History, summary, report and tests all read these, so they agree.
//!
//! Deliberately absent: anywhere to write to. A core emits; its world records.
#![no_std]

extern crate alloc;

pub mod decision;
pub mod sketch;

pub use decision::{Action, Decision, Reason};
pub use sketch::Sketch;
