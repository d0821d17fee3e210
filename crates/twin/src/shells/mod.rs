//! Shells of tiles around a star: their heat, their light, their protocols.
//!
//! The world holds the truth, nodes hold beliefs, and the two meet only in
//! sensor readings and messages. Per cell the world keeps every tile's
//! temperature and power ([`physics::tiles::Tiles`]), the messages under way, and
//! which tiles are alive; it drives the same [`node::Node`] and
//! [`scheduler::CellScheduler`] that a real host would.
//!
//! Two rates of time: heat is stepped for all tiles of a cell in one batch, every
//! few minutes; membership ticks by the second, on every tile or only in sample
//! cells, as the universe file says.
//!
//! What crosses between cells takes light time and no less: thermal signals
//! inward, work in either direction, and the heat itself, which leaves one shell
//! and arrives in the next through [`physics::shells`].
//!
//! Stand-ins, so that nobody mistakes them for more: a cell's scheduler runs
//! beside the tiles rather than on one of them, and does not die with a tile; it
//! learns of a lost tile by missing its report. Each shell's heat spreads evenly
//! over the next.
//!
//! Tour: [`config`] a universe in numbers · [`schema`] read from a file · `cell` the
//! engine's process · `post` messages under way in it · `faults` what goes wrong where · [`world`] a run ·
//! [`step_response`] the edges of the backpressure loop.

mod cell;
pub mod config;
mod faults;
mod post;
pub mod schema;
pub mod step_response;
pub mod world;

pub use config::Config;
