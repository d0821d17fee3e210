//! A million nodes and their sky.
//!
//! Tour: [`record`] what is left of a run when it is over.

pub mod record;
