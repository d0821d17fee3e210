//! A million nodes and their sky.
//!
//! Tour: [`universe`] the file that describes a world, read with line, key and
//! unit for everything that is wrong in it.

pub mod universe;
