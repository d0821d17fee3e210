//! A real node on Linux.
//!
//! The twin rehearses; this is what runs. A node takes programs, WebAssembly or of
//! the host, runs each in a process of its own, keeps what they say, starts again what should run,
//! and knows after a crash what it had promised.
//!
//! # Tour
//! [`program`] what is to run · [`capsule`] running WebAssembly · [`cache`] its compiled code · [`foreground`] a
//! program of the host with this terminal · [`warden`] the process that stands over it · [`confinement`] what it can
//! see and do · [`cgroup`] limits that the kernel keeps · [`supervision`] what is started again, and when ·
//! [`journal`] what programs said · [`store`] what is remembered · [`control`] how commands talk to the node ·
//! [`fleet`] the other machines · [`node`] which joins them.
//!
//! Deliberately absent: heat, and work that moves between machines. The node machine that the twin drives
//! runs in [`fleet`], its membership only.

pub mod cache;
pub mod capsule;
pub mod cgroup;
pub mod confinement;
pub mod control;
pub mod fleet;
pub mod foreground;
pub mod journal;
pub mod node;
pub mod program;
pub mod store;
pub mod supervision;
pub mod warden;
