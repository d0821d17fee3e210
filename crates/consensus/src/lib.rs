//! What did we agree?
#![no_std]

extern crate alloc;

pub mod config;
pub mod envoy;
pub mod event;
mod ink;
mod lead;
pub mod lease;
pub mod log;
pub mod message;
pub mod record;
mod session;
pub mod state;
pub mod tenant;
pub mod voter;
pub mod voters;

pub use config::Config;
pub use envoy::Envoy;
pub use event::{Effect, Input, Reason};
pub use lease::{Lease, Leases, Terms};
pub use log::{Author, Entry, Index, Payload, Term};
pub use message::{Ask, Kind, Matched, Message, Outcome};
pub use record::Unreadable;
pub use state::State;
pub use tenant::Tenant;
pub use voter::Voter;
pub use voters::{VOTERS_MAX, Voters};
