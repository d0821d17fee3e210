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
//! Tour: [`engine`] events in order, on as many cores as there are · [`universe`]
//! the file that describes a world, read with line, key and unit for everything
//! that is wrong in it · [`site`] a GPU cluster's trace on racks and cooling loops ·
//! [`record`] what is left of a run when it is over.

pub mod engine;
pub mod record;
pub mod site;
pub mod universe;
