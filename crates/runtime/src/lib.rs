//! What runs?
#![no_std]

extern crate alloc;

mod config;
mod correction;
mod image;
mod lane;
mod lattice;
mod mail;
mod packet;
mod pid;
mod place;
mod post;
mod process;
mod projection;
mod ready;
mod record;
mod seal;
mod sites;
mod stream;
mod torus;
mod ward;

pub use config::Config;
pub use lattice::{Lattice, Limits, Tally};
pub use packet::{Packet, Unreadable};
pub use pid::{Pid, Strand, Weight};
pub use place::{PAGE_BITS, Place, Shape};
pub use post::{Offer, Report};
pub use process::{Process, Refused, Turn};
pub use projection::{PROJECTION_BYTES_MAX, Projection};
pub use torus::{Effect, Input, Stopped, Torus};
