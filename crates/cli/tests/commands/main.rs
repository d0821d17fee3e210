//! `cosmos` as people call it: the built executable, real files, real processes.

mod capsules;
mod command;
mod dashboard;
mod fleet;
mod hostile;
mod lives;
mod nodes;
mod place;
mod programs;
mod real;
mod rehearsal;
mod served;
mod why;
