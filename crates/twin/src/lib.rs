//! A million nodes and their sky.
//!
//! Tour: [`record`] what is left of a run when it is over · [`universe`] the file
//! that describes a world, read with line, key and unit for everything that is
//! wrong in it.

pub mod record;
pub mod universe;
