//! What would a million nodes do?
//!
//! The twin drives the very code that runs on machines through virtual time:
//! simulated links with light time, simulated disks, a physical world that heats
//! up. A run is a function of its universe and its seed. The number of threads,
//! the order in which they are handed work, and whether the run was paused,
//! cloned or watched leave no trace in its history.
//!
//! Deliberately absent: wall-clock time below the command line, rollback, a stack
//! or a task for each node, and any event that happens because a thread was fast.
//!
//! Tour: [`engine`] events in order, on as many cores as there are · [`disk`] what
//! survives a crash · [`universe`]
//! the file that describes a world, and everything that can be wrong in it ·
//! [`shells`] tiles around a star · [`site`] a GPU cluster's trace on racks and
//! cooling loops · [`fleet`] a few hosts on a switch · [`braid`] three tori, one of which dies · [`pack`] how much of a list fits a cluster ·
//! [`rehearsal`] from a file to a run · [`observer`] who watches ·
//! [`record`] what is left of a run · [`again`] living it again.

pub mod again;
pub mod braid;
pub mod disk;
pub mod engine;
pub mod fleet;
pub mod observer;
pub mod pack;
pub mod record;
pub mod rehearsal;
pub mod shells;
pub mod site;
pub mod universe;
