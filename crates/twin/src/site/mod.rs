//! What happens to this trace if a cooling loop fails?
//!
//! A recorded GPU cluster is set up again on racks, rows and cooling loops, its jobs
//! come and go at the times they really did, and their power becomes heat that has to
//! leave. Who places, slows and moves them is [`scheduler::SiteScheduler`], the very
//! code that runs a live site; what keeps each device from burning is
//! [`scheduler::Guard`]; what heat does is [`physics::site`]. This world only
//! carries messages between them and keeps the time.
//!
//! ```text
//!   trace ──arrivals──▶ scheduler ──start, stop──▶ work ──departures─┐
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
//! # Assumptions
//!
//! Those about power and place are listed in [`floor`], those about the trace in
//! [`trace`]. A job's work is the time it ran in the trace; slowed devices stretch it.
//! What moves starts again from its beginning. A node that a device's shutdown took down
//! stays dark (requirements K2). A parked node starts again at once.
//!
//! Deliberately absent: networks between nodes, storage, and people who repair things.
//!
//! Tour: [`trace`] the lists · [`config`] the universe file · [`floor`] racks, loops and
//! devices · [`work`] progress of jobs · [`world`] the run · [`invariant`] what must
//! hold · [`outcome`] what came of it.

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
pub use world::visit::{Called, Change, Since, Visit};
pub use world::{Progress, Record, Scene, run};
