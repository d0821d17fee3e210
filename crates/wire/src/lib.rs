//! What do the words mean?
//!
//! Every other crate speaks in these: where a machine sits ([`Tile`], [`Path`],
//! [`Fanout`]), when something happened and how sure anyone can be ([`Instant`],
//! [`Stamp`]), how much of a physical quantity there is ([`Kelvin`], [`Watts`],
//! …), how urgent a message is ([`Class`]), and how all of it is written as bytes
//! ([`Encode`], [`Decode`], [`Frame`]).
//!
//! The encoding is *canonical*: a value has exactly one byte string, and every
//! other byte string is refused with the place and the reason. Two nodes that
//! agree on a value therefore agree on its hash, and a signature over bytes is a
//! signature over meaning.
//!
//! Deliberately absent: a clock, a socket, an allocator of identities, and any
//! notion of *now*. There is no floating-point number in anything that orders
//! events.
//!
//! Tour: [`holon`] the tree · [`grid`] neighbours · [`time`] instants and durations · [`stamp`] what a
//! time means to somebody else · [`units`] physical quantities · [`codec`] bytes ·
//! [`frame`] the envelope.
#![no_std]

extern crate alloc;

pub mod codec;
pub mod frame;
pub mod grid;
pub mod holon;
pub mod stamp;
pub mod time;
pub mod units;

pub use codec::{Decode, DecodeError, Encode, Reader};
pub use frame::{Class, Frame, Version};
pub use grid::Hexagons;
pub use holon::{Cell, Fanout, Level, Path, Tile};
pub use stamp::Stamp;
pub use time::{Instant, Nanos};
pub use units::{
    Joules, JoulesPerKelvin, Kelvin, KelvinPerWatt, Metres, Seconds, SquareMetres, Watts,
    WattsPerKelvin, WattsPerSquareMetre,
};
