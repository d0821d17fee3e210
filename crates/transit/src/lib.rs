//! How do bytes cross a line that is slower than those who use it?
//!
//! In classes. A line between two shells carries orders to slow down, a few dozen
//! bytes that must not wait, and the state of work that moves, gigabytes that may.
//! Whoever sends is not asked to be considerate: the line itself always takes up
//! the most urgent class that waits, and it gives the line to nobody for longer
//! than one frame. A class A frame therefore waits for the rest of one frame and
//! for what is before it in its own class, whatever the load of the others
//! (requirement N1); that is the classic non-preemptive priority queue (Cobham,
//! *Priority Assignment in Waiting Line Problems*, Operations Research, 1954).
//!
//! Every queue has an end. A class that is full refuses what comes, visibly, and
//! hands it back to its sender.
//!
//! Deliberately absent, until something needs them: loss, custody, contact plans,
//! and how long light takes. A [`Line`] says when the last bit has left.
//!
//! Tour: [`mod@line`] the queue of one line.
#![no_std]

extern crate alloc;

pub mod line;

pub use line::Line;
