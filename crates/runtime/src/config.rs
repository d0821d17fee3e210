//! The numbers of a braid.

use trust::Key;
use wire::Nanos;

use crate::lattice::Limits;

/// What the three tori of a braid agree on.
#[derive(Clone, Debug)]
pub struct Config {
    /// How much each lattice holds.
    pub limits: Limits,
    /// Proves to each that the others are the others.
    pub key: Key,
    /// The shortest braid interval, while things change.
    pub interval_min: Nanos,
    /// The longest, while nothing does.
    pub interval_max: Nanos,
    /// A torus that has said nothing for so many of the intervals it announced is
    /// given up. Being wrong loses nothing that was acknowledged, but it costs a
    /// rebuild, and the copy that the other kept has to be made anew.
    pub patience: u32,
    /// Turns for each wake; one record of the log.
    pub turns: u32,
    /// How long a turn takes in a world whose clock does not move by itself; 0 in
    /// one whose clock does.
    pub turn_time: Nanos,
    /// Turns between two snapshots at most. A rebuild runs no more than this again,
    /// plus one wake's.
    pub replay_max: u64,
    /// Every so many snapshots is an audit instead: the keeper runs the log and
    /// compares. 0 for never, which leaves undetected what changes a process's
    /// memory between its first turn after a snapshot and the next snapshot.
    pub audit_every: u32,
    /// Slots looked at for damage in each interval, beside those that run.
    pub scrub: u32,
}

impl Config {
    /// For a machine of today: 1 to 10 ms between projections, so that a torus that
    /// has died is given up within some 60 ms; 2¹⁹ turns are run again in some ten
    /// (docs/bench/braid.md).
    #[must_use]
    pub fn new(key: Key) -> Self {
        Self {
            limits: Limits::default(),
            key,
            interval_min: Nanos::MILLISECOND,
            interval_max: Nanos::from_millis(10),
            patience: 5,
            turns: 1_024,
            turn_time: Nanos::ZERO,
            replay_max: 1 << 19,
            audit_every: 16,
            scrub: 64,
        }
    }
}
