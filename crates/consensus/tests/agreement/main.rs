//! Agreement and leases through their public face: told by hand, in a simulated world, under a model checker.

mod faults;
mod golden;
mod hostile;
mod leases;
mod model;
mod promises;
mod simulated;
