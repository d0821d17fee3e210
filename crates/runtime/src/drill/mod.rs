//! Is anything lost or doubled?
//!
//! Work for a braid whose outcome is known beforehand, so that whoever kills its
//! tori can say afterwards what became of it. Players stand on all three strands;
//! a [`Conductor`], which is the world of the braid and outlives every torus, gives
//! them one piece of work after the other and is told when one has ended. Each
//! piece must end once. When all have, the players together must have passed
//! exactly so many balls, which no average and no part can imitate.
//!
//! The twin drives it through virtual time and the daemon over threads and
//! machines: the same players, the same judge.
//!
//! Tour: `player` what stands there, and what it is thrown · `conductor` who
//! throws, and who counts.

mod conductor;
mod player;

pub use conductor::{Conductor, Plan, Sums, Work, Wrong};
pub use player::{Ball, Player};
