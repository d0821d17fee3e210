//! What every member of a cell agrees on beforehand.

use trust::Key;
use wire::{Cell, Hexagons, Nanos};

use crate::message::Peer;
use crate::suspicion::CONFIRMATIONS_MAX;

/// Seats in the one cell of a fleet of machines, eight by eight; see [`Config::sparse`].
pub const SEATS_SPARSE: u32 = 64;

/// How long members wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// See [`Config::period`].
    pub period: Nanos,
    /// See [`Config::ack_timeout`]; below the window.
    pub ack_timeout: Nanos,
    /// See [`Config::window`]; below the period.
    pub window: Nanos,
    /// See [`Config::suspicion_min`].
    pub suspicion_min: Nanos,
    /// See [`Config::suspicion_max`]; no shorter.
    pub suspicion_max: Nanos,
}

impl Timings {
    /// Of a fleet of machines; see [`Config::sparse`].
    pub const SPARSE: Self = Self {
        period: Nanos::from_millis(400),
        ack_timeout: Nanos::from_millis(150),
        window: Nanos::from_millis(350),
        suspicion_min: Nanos::from_secs(2),
        suspicion_max: Nanos::from_secs(4),
    };
}

/// The agreement of one cell; its members share one copy.
///
/// The defaults are for round trips up to 50 ms. What follows from them for a
/// cell of 1,000 tiles, loss of 1 % and a burst that kills 5 %, is measured by
/// `tests/cell.rs`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which cell this is; messages of another are refused.
    pub cell: Cell,
    /// Who sits next to whom. At most 65,535 tiles.
    pub grid: Hexagons,
    /// Proves that a message comes from a member.
    pub key: Key,
    /// Whether messages are tagged and tags verified. Off only in a world whose
    /// links cannot lie.
    pub authenticate: bool,
    /// Each member probes one other this often.
    pub period: Nanos,
    /// How long a direct answer may take before others are asked to try.
    pub ack_timeout: Nanos,
    /// How long an answer by any way may take before the target is suspected.
    pub window: Nanos,
    /// How many others are asked to try; at most 8.
    pub relays: u8,
    /// A suspicion that enough others confirm lasts this long.
    pub suspicion_min: Nanos,
    /// A suspicion nobody confirms lasts this long.
    pub suspicion_max: Nanos,
    /// How many confirmations are enough; 1 or 2.
    pub confirmations: u8,
    /// While there is news, it is told to some others this often …
    pub gossip_interval: Nanos,
    /// … namely to this many, twice as many if one message cannot hold it all.
    pub gossip_fanout: u8,
    /// Each member tells each piece of news `spread · ⌈log₂(tiles + 1)⌉` times.
    pub spread: u8,
    /// When the turn of a removed member comes, it is knocked at once in this many times.
    pub knock_one_in: u8,
    /// The random walk all members share; see [`crate::schedule`].
    stride: u32,
    start: u32,
}

impl Config {
    /// The defaults for one cell. `root` is the fleet's key, from which the
    /// cell's own is derived.
    ///
    /// # Panics
    /// If the lattice has more tiles than a [`Peer`] can number.
    #[must_use]
    pub fn new(cell: Cell, grid: Hexagons, root: &Key) -> Self {
        assert!(
            grid.tiles() <= u32::from(u16::MAX),
            "a cell has at most 65,535 tiles, this one {}",
            grid.tiles()
        );
        let key = root.derive("membership", cell.0);
        let (stride, start) = walk(grid.tiles() - 1, &key);
        Self {
            cell,
            grid,
            key,
            authenticate: true,
            period: Nanos::SECOND,
            ack_timeout: Nanos::from_millis(200),
            window: Nanos::from_millis(600),
            relays: 3,
            suspicion_min: Nanos::from_secs(2),
            suspicion_max: Nanos::from_secs(4),
            confirmations: 2,
            gossip_interval: Nanos::from_millis(250),
            gossip_fanout: 2,
            spread: 1,
            knock_one_in: 4,
            stride,
            start,
        }
    }

    /// The same for a cell most of whose seats are vacant. There the turns fall on empty seats, so whom to probe is
    /// drawn at random, and the unluckiest of three members waits many turns to be missed. Shorter turns
    /// make up for it; few members can afford them. What follows is measured by `tests/cell.rs`.
    #[must_use]
    pub const fn sparse(self) -> Self {
        self.timed(Timings::SPARSE)
    }

    /// The same with other timings.
    #[must_use]
    pub const fn timed(mut self, timings: Timings) -> Self {
        self.period = timings.period;
        self.ack_timeout = timings.ack_timeout;
        self.window = timings.window;
        self.suspicion_min = timings.suspicion_min;
        self.suspicion_max = timings.suspicion_max;
        self
    }

    /// Tiles in the cell.
    #[must_use]
    pub const fn tiles(&self) -> u32 {
        self.grid.tiles()
    }

    /// The six who sit next to a peer.
    #[must_use]
    pub fn neighbours(&self, peer: Peer) -> [Peer; 6] {
        self.grid
            .neighbours(u32::from(peer.0))
            .map(|tile| Peer(tile as u16))
    }

    /// How often a member tells one piece of news.
    #[must_use]
    pub fn tellings(&self) -> u8 {
        let doublings = u32::BITS - self.tiles().leading_zeros();
        self.spread.saturating_mul(doublings as u8)
    }

    /// How long after a death every member that can be reached should hold the dead one
    /// removed, by these timeouts: to judge by, nothing in the protocol waits for it.
    ///
    /// Four turns, since every tile is probed once in each and those whose turn it is may have
    /// died of the same; the window of the probe; the longest a suspicion runs, which is three
    /// times `suspicion_max` where a crowd died; and as many rounds of gossip as each
    /// member tells a piece of news. Members that are slow themselves take longer.
    #[must_use]
    pub fn detection_span(&self) -> Nanos {
        self.period * 4
            + self.window
            + self.suspicion_max * 3
            + self.gossip_interval * u64::from(self.tellings())
    }

    /// More suspects at once than this are rather cut off than dead.
    pub(crate) const fn crowd(&self) -> usize {
        8 + self.tiles() as usize / 12
    }

    pub(crate) const fn walk(&self) -> (u32, u32) {
        (self.stride, self.start)
    }

    /// What the rest of the crate takes for granted.
    pub(crate) fn assert_sound(&self) {
        assert!(self.ack_timeout > Nanos::ZERO && self.gossip_interval > Nanos::ZERO);
        assert!(self.ack_timeout < self.window, "no time for relays");
        assert!(self.window < self.period, "one probe at a time");
        assert!(self.suspicion_min <= self.suspicion_max);
        assert!((1..=8).contains(&self.relays));
        assert!((1..=CONFIRMATIONS_MAX as u8).contains(&self.confirmations));
        assert!(self.spread > 0 && self.gossip_fanout > 0 && self.knock_one_in > 0);
    }
}

/// A stride coprime to the length and a start, both out of the cell's key, so
/// that who probes whom next is known to members only.
fn walk(length: u32, key: &Key) -> (u32, u32) {
    let secret = key.tag(b"whom to probe");
    let word = |at: usize| {
        let bytes = secret.as_bytes();
        u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
    };
    let mut stride = 1 + word(0) % length;
    while gcd(stride, length) != 1 {
        stride = stride % length + 1;
    }
    (stride, word(4) % length)
}

const fn gcd(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}
