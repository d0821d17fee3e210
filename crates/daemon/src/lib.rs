//! A real node on Linux.
//!
//! The twin rehearses; this is what runs. A node takes programs, WebAssembly or of
//! the host, runs each in a process of its own, keeps what they say, starts again what should run,
//! and knows after a crash what it had promised.
//!
//! # Tour
//! [`program`] what is to run · [`capsule`] running WebAssembly · [`cache`] its compiled code · [`foreground`] a
//! program of the host with this terminal · [`warden`] the process that stands over it · [`stem`] from what it is forked · [`confinement`] what it can
//! see and do · [`network`] whom it can reach · [`health`] whether it is well · [`cgroup`] limits that the kernel keeps · [`supervision`] what is started again, and when ·
//! [`journal`] what programs said · [`news`] what happened to them · [`history`] what was decided, and why · [`store`] what is remembered, in its [`annals`] · [`control`] how
//! commands talk to the node · [`front`] the dashboard and the API · [`sensors`] how hot and busy the machine is · [`load`] what everybody uses · [`services`] how the layers are ·
//! [`energy`] what it draws · [`make`] what machine it is · [`gpu`] who has which of its GPUs · [`nvml`] what those say, and [`gpu_guard`] what they may draw · [`heat`] keeping it below its limit,
//! by [`frequency`] and by [`duty`] · [`before`] how that was before · [`fleet`] the other machines · [`braid`] three tori on threads, [`braided`] on machines · [`affairs`] what they run together · [`reasons`] and why there · [`lease`] until when · [`node`] which joins them.
//!
//! Deliberately absent: work that takes its state along. The node machine that the twin drives runs in
//! [`fleet`]: its membership, its seat in the council, and the guard against heat.

pub mod affairs;
pub mod annals;
pub mod before;
pub mod braid;
pub mod braided;
pub mod cache;
mod calls;
pub mod capsule;
pub mod cgroup;
pub mod confinement;
pub mod control;
pub mod duty;
pub mod energy;
pub mod fleet;
pub mod foreground;
pub mod frequency;
pub mod front;
pub mod gpu;
pub mod gpu_guard;
pub mod health;
pub mod heat;
pub mod history;
pub mod journal;
pub mod keeping;
pub mod lease;
pub mod load;
pub mod make;
pub mod network;
pub mod news;
pub mod node;
pub mod nvml;
pub mod program;
pub mod reasons;
mod recital;
pub mod sensors;
pub mod services;
mod spare;
pub mod stem;
pub mod store;
pub mod supervision;
mod verdict;
pub mod warden;
