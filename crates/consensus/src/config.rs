//! What the voters of a cell agree on beforehand.

use wire::{Cell, Nanos};

/// Timings and bounds of one voter. None of them decides what is true: voters with different ones
/// are slower, never wrong. What must be equal for all is in the state itself
/// ([`crate::Terms`]).
///
/// The defaults are for round trips up to 50 ms and disks that take no longer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Which cell this is; messages of another are refused.
    pub cell: Cell,
    /// A leader is heard from this often, and repeats what was not answered.
    pub beat: Nanos,
    /// A follower that heard no leader for this long, and up to twice as long by chance, asks for
    /// an election; until then it helps nobody else to one. A leader that hears less than a quorum for
    /// this long leads no more.
    pub patience: Nanos,
    /// About how many bytes of entries go in one message.
    pub append_bytes_max: usize,
    /// How many bytes of a snapshot go in one message.
    pub piece_bytes_max: usize,
    /// The longest command or question, in bytes; longer ones are refused.
    pub command_bytes_max: usize,
    /// How many entries, questions or both a leader holds that are not yet decided; more are
    /// refused as [`crate::Outcome::Busy`].
    pub undecided_max: usize,
    /// When the log in memory weighs more than this, in bytes, a snapshot takes its place.
    pub log_bytes_max: usize,
    /// How many entries are kept behind a snapshot, for followers that are only a little late.
    pub trail: u64,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub const fn new(cell: Cell) -> Self {
        Self {
            cell,
            beat: Nanos::from_millis(100),
            patience: Nanos::from_millis(500),
            append_bytes_max: 64 << 10,
            piece_bytes_max: 64 << 10,
            command_bytes_max: 64 << 10,
            undecided_max: 4_096,
            log_bytes_max: 1 << 20,
            trail: 256,
        }
    }

    /// What the rest of the crate takes for granted.
    pub(crate) fn assert_sound(&self) {
        assert!(self.beat > Nanos::ZERO, "a leader that never rests");
        assert!(self.beat * 2 <= self.patience, "no beat may be lost");
        assert!(self.append_bytes_max > 0 && self.piece_bytes_max > 0);
        assert!(self.undecided_max > 0);
    }
}
