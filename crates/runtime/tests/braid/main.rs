//! The braid through its public face, in a world of virtual time.

mod faults;
mod golden;
mod lost;
mod model;
mod world;
