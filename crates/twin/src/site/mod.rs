//! What happens to this work if a cooling loop fails?
//!
//! A GPU cluster, recorded or described, is set up on racks, rows and cooling loops, its jobs
//! come at the times at which they really did, and their power becomes heat that has to
//! leave. Who places, slows and moves them is [`scheduler::SiteScheduler`], the very
//! code that runs a live site; what keeps each device from burning is
//! [`scheduler::Guard`] or its own hardware; what heat does is [`physics::site`]. This world
//! only carries messages between them and keeps the time.
//!
//! ```text
//!   lists ──arrivals──▶ scheduler ──start, stop──▶ work ──departures─┐
//!                          ▲   └──budgets──▶ guards ──clocks──▶ watts│
//!                          │meters, losses          ▲kelvin       ▼  │
//!                          └──────────────────── heat of the site ◀──┘
//! ```
//!
//! # Time
//!
//! Jobs arrive and depart at their exact nanosecond. Heat advances in steps, and what
//! a device drew during a step enters as its mean, so no joule is lost to the grid. While
//! nothing changes, loops keep up and everything is far from its limits, steps are
//! longer ([`config::Pace`]); the solution is exact for any length as long as the
//! coolant is held, so this buys time and costs nothing.
//!
//! # Memory
//!
//! A run holds its list of jobs, some hundred bytes each, from beginning to end, and what
//! is bounded: sketches, histograms, a [`crate::record::Cluster`]. What became of a job is told once
//! and kept by whoever listens; its life as the report shows it is put away in a file when it is over, of
//! which 16 bytes stay, for up to 50,000 jobs.
//!
//! # Assumptions
//!
//! Those about power and place are listed in [`floor`], those about lists of jobs in
//! [`trace`], [`philly`] and [`swf`]. A job's work is its run time at full clock. It is as fast as
//! the slowest device that any of its tasks holds, times what the network between them
//! leaves, but no faster than its data comes. What is stopped goes on from its last checkpoint, or from its
//! beginning if it writes none. A node that a device's shutdown took down stays dark
//! (requirements K2). A parked node starts again at once.
//!
//! Deliberately absent: messages between nodes, bytes on disks, and people who repair things.
//!
//! Tour: [`jobs`] work in one form · [`trace`], [`philly`], [`swf`] lists of it · [`config`] and
//! [`plan`] the universe file · [`floor`] racks, loops and devices · [`neighbour`] who shares the
//! plant · [`work`] progress of jobs · [`world`] the run · [`world::visit`] a moment of it, [`world::look`] seen as it stands ·
//! [`why`] and [`whatif`] what is asked there · [`invariant`] what must hold · [`outcome`] what came
//! of it · [`measured`] what it is compared with · `seen` what the report shows.

pub mod config;
pub mod floor;
mod heat;
pub mod invariant;
pub mod jobs;
pub mod measured;
pub mod neighbour;
pub mod outcome;
pub mod philly;
pub mod plan;
mod seen;
mod slowed;
pub mod swf;
pub mod trace;
pub mod whatif;
pub mod why;
pub mod work;
pub mod world;

pub use config::{Config, schema};
pub use invariant::Invariant;
pub use jobs::{Jobs, Workload};
pub use outcome::Outcome;
pub use outcome::{Fate, JobRecord};
pub use trace::{Trace, TraceError};
pub use world::look::{JobNow, NodeNow, Power, RowNow, SiteNow};
pub use world::visit::{Called, Change, Since, Visit};
pub use world::{Progress, Record, Scene, run};
