//! What does the world do?
//!
//! Machines draw power, and every joule becomes heat that has to leave: into the
//! neighbours, into a coolant, or as light into the sky, where the next shell
//! outward stands in it. Light takes its time, orbits move its ends, and clocks
//! deeper in the Sun's well run slower. This crate computes those things and
//! nothing else; what anybody *does* about the heat is decided elsewhere, from
//! what sensors said.
//!
//! # What can be relied on
//!
//! * Energy is conserved to rounding. Every step answers with `Flows`, in which
//!   each term is accumulated from its own law (radiated from T⁴, leakage from
//!   its exponential, stored from the temperatures themselves); none is defined
//!   as what the others leave over, so adding them up is a test and not a tautology.
//! * The same numbers on every machine, bit for bit. Only `+ − × ÷` and square
//!   roots, which IEEE 754 fixes, and functions made of them: `libm`'s and, in the
//!   hot loops, [`exp`]. Sums run in an order that the code states.
//! * Any step is safe. A step too long for the physics is cut where it must be.
//!
//! Deliberately absent: randomness, faults, clocks, and anything that throttles or
//! switches off. A world sets the watts and cuts them; a body only warms.
//!
//! Tour: [`constants`] with their sources · [`light`] how long it takes ·
//! [`orbit`] where things are and how fast their clocks run · [`tiles`] the heat of
//! a cell in space, the hot loop · [`runaway`] where leakage wins · [`shells`] who
//! stands in whose light, and when · [`site`] the heat of a GPU site on the ground ·
//! [`devices`] figures of real devices · [`exp`] the one function fast enough.
#![no_std]

extern crate alloc;

pub mod constants;
pub mod devices;
pub mod exp;
pub mod light;
pub mod orbit;
pub mod runaway;
pub mod shells;
pub mod site;
pub mod tiles;

pub use devices::Device;
pub use light::light_time;
pub use orbit::Orbit;
pub use runaway::{Fold, fold, steady_state};
pub use shells::{DelayLine, Shell, Shells};
pub use site::Site;
pub use tiles::{Leakage, Operation, TileModel, Tiles, landauer, power};
