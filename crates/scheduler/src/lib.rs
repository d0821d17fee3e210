//! Who works, within which heat?
//!
//! Heat that was made must be radiated, and the layers outward do the radiating.
//! So heat rejection is scheduled like any other resource, in four places that
//! each decide with what they know:
//!
//! * On every tile a [`Guard`] watches the tile's own temperature. It lowers the
//!   clock near the limit and cuts the power at it, and asks nobody.
//! * In every cell [`Thermos`] integrates the loads it hears from the layers
//!   outward into a *heat budget*: the share of its dynamic power the cell may
//!   spend. The signals are old by their light time, so the gain is derived from
//!   the delay and the loop is overdamped by construction.
//! * [`admission`] refuses work whose heat the layers outward could not take even
//!   if everybody did the same meanwhile.
//! * A [`CellScheduler`] puts those together with [`lease`]s: it places work on
//!   the coolest of the tiles whose signed [`Descriptor`]s say that they can hold it, moves it off lost ones, passes on what it cannot hold,
//!   and records every decision with the numbers that settled it.
//!
//! A GPU site has the same question with other pieces: its jobs need CPU, memory and
//! shares of GPUs at once, so a [`SiteScheduler`] keeps a [`ledger`] of what is free
//! and a [`cooling`] belief per loop, and places by both. A [`fleet`] keeps its replicas apart, by the same
//! ledger and the same tests. What either decided rests on [`evidence`], and is told in the same [`words`].
//!
//! Glossary: *load*, heat to be rejected over what can be rejected at the limit
//! temperature; *budget*, allowed share of dynamic power, 0 to 1; *activity*, share
//! of a tile's compute in use; *inward* and *outward*, towards and away from the
//! sun, or for a site from device to cooling loop to outside air.
//!
//! Deliberately absent: any reading of the true temperature field. A scheduler
//! knows what sensors and signals told it, and when.
#![no_std]

extern crate alloc;

pub mod admission;
pub mod cell;
pub mod cooling;
pub mod descriptor;
pub mod evidence;
pub mod fleet;
pub mod guard;
pub mod lease;
pub mod ledger;
pub mod policy;
pub mod site;
pub mod thermos;
pub mod words;

pub use admission::{Admission, Outward};
pub use cell::{CellScheduler, Work};
pub use cooling::Cooling;
pub use descriptor::Descriptor;
pub use evidence::{Funnel, Test};
pub use guard::Guard;
pub use lease::{Lease, Leases, Service};
pub use ledger::{Claim, Demand, Ledger, Models};
pub use policy::{Policy, Ranking};
pub use site::{Job, SiteScheduler};
pub use thermos::{Signal, Thermos};
