//! `cosmos` as people call it: the built executable, real files, real processes.

mod atmosphere;
mod braid;
mod capsules;
mod command;
mod dashboard;
mod fleet;
mod followed;
mod gpus;
mod groups;
mod hostile;
mod leases;
mod live;
mod lives;
mod nodes;
mod place;
mod programs;
mod real;
mod reasons;
mod rehearsal;
mod served;
mod spares;
mod top;
mod why;
