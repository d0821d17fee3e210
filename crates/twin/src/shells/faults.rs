//! Which tile does what goes wrong befall, and when?
//!
//! Drawn from the run's seed before anything runs, by streams of their own: two
//! runs with different policies meet the same faults. Every fault is counted
//! twice, when it is planned and when it finds a tile to befall.
//!
//! Bits flip too often to be planned: a cell draws them one after the other while it
//! runs, by streams of their own again.

use machine::{Purpose, Stream};
use wire::{Cell, Instant, Nanos, Tile};

use scheduler::guard::Upset;

use super::config::{Config, FaultKind};
use super::post::Flip;

/// Something that happens to one cell.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CellFault {
    pub(super) at: Instant,
    pub(super) blow: Blow,
    /// Which of the universe's kinds it belongs to; see [`kinds`].
    pub(super) kind: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Blow {
    Kill { tile: u32 },
    Radiator { tile: u32, remaining: f64 },
    Partition { until: Instant },
}

/// The kinds of fault a run counts: the universe's, in order, then wear.
pub(super) fn kinds(config: &Config) -> Vec<&'static str> {
    let listed = config.faults.iter().map(|f| f.kind.name());
    listed
        .chain((config.failures_per_second > 0.0).then_some("failures"))
        .collect()
}

/// Whether a kind is wear, and none that the universe lists.
pub(super) const fn is_wear(config: &Config, kind: usize) -> bool {
    kind == config.faults.len()
}

/// Everything that will go wrong in one cell, in order of time.
pub(super) fn plan(config: &Config, seed: u64, cell: u32) -> Vec<CellFault> {
    let tiles = config.grid.tiles();
    let first = u64::from(cell) * u64::from(tiles);
    let shell = (cell / config.cells_per_shell()) as usize;
    let mut plan = Vec::new();
    // The cell's own stream lies beyond all tiles' streams.
    let mut own = Stream::new(seed, Tile(u64::MAX - u64::from(cell)), Purpose::Faults);
    let partitions: Vec<bool> = (config.faults.iter())
        .map(|fault| match fault.kind {
            FaultKind::Partition { share, .. } => own.chance(share),
            _ => false,
        })
        .collect();
    for (kind, fault) in config.faults.iter().enumerate() {
        if let (true, FaultKind::Partition { lasts, .. }) = (partitions[kind], &fault.kind) {
            let at = Instant::EPOCH + fault.at;
            plan.push(CellFault {
                at,
                blow: Blow::Partition { until: at + *lasts },
                kind,
            });
        }
    }
    for tile in 0..tiles {
        let mut stream = Stream::new(seed, Tile(first + u64::from(tile)), Purpose::Faults);
        for (kind, fault) in config.faults.iter().enumerate() {
            // One draw per tile and fault, wherever it strikes: a fault added to
            // a universe does not move the others.
            let drawn = stream.unit();
            let blow = match fault.kind {
                FaultKind::Burst { share } if drawn < share => Blow::Kill { tile },
                FaultKind::Radiators {
                    shell: s,
                    share,
                    remaining,
                } if s == shell && drawn < share => Blow::Radiator { tile, remaining },
                _ => continue,
            };
            plan.push(CellFault {
                at: Instant::EPOCH + fault.at,
                blow,
                kind,
            });
        }
        if config.failures_per_second > 0.0 {
            // Exponential lifetime: constant hazard, as the requirement states a rate.
            let life = -libm::log(1.0 - stream.unit()) / config.failures_per_second;
            let at = Instant::EPOCH + Nanos::from_secs_f64(life);
            if at < Instant::EPOCH + config.end {
                plan.push(CellFault {
                    at,
                    blow: Blow::Kill { tile },
                    kind: config.faults.len(),
                });
            }
        }
    }
    plan.sort_by_key(|fault| fault.at);
    plan
}

/// Bits that flip in one cell.
#[derive(Clone, Debug)]
pub(super) struct Flips {
    messages: Stream,
    memory: [Stream; UPSETS.len()],
}

/// Whichever a word in memory meets, in the order of [`Flips`].
pub(super) const UPSETS: [Upset; 2] = [Upset::Corrected, Upset::Uncorrectable];

impl Flips {
    pub(super) fn new(seed: u64, cell: u32) -> Self {
        // Owners beyond all tiles, one per cell and what it concerns.
        let stream = |of: u64| {
            let owner = Tile(u64::MAX - (u64::from(cell) << 2) - of);
            Stream::new(seed, owner, Purpose::Flips)
        };
        Self {
            messages: stream(0),
            memory: [stream(1), stream(2)],
        }
    }

    /// Whether a message that is being sent loses a bit, and which.
    pub(super) fn in_message(&mut self, config: &Config) -> Option<Flip> {
        let chance = config.flips.messages;
        // Most universes have none, and most of their events are messages.
        (chance > 0.0 && self.messages.chance(chance)).then(|| Flip::of(self.messages.next_u64()))
    }

    /// When a tile's memory meets the next of these, and which tile's.
    pub(super) fn in_memory(
        &mut self,
        upset: usize,
        config: &Config,
        now: Instant,
    ) -> Option<(Instant, u32)> {
        let each = match UPSETS[upset] {
            Upset::Corrected => config.flips.corrected_per_second,
            Upset::Uncorrectable => config.flips.uncorrectable_per_second,
        };
        let (tiles, chance) = (config.grid.tiles(), &mut self.memory[upset]);
        if each == 0.0 {
            return None;
        }
        // What befalls tiles independently befalls the cell as often as all of them.
        let gap = -libm::log(1.0 - chance.unit()) / (each * f64::from(tiles));
        let at = now + Nanos::from_secs_f64(gap).max(Nanos(1));
        let tile = chance.below(tiles.into()) as u32;
        (at < Instant::EPOCH + config.end).then_some((at, tile))
    }
}

/// The cell's name in streams and keys.
pub(super) const fn cell_name(cell: u32) -> Cell {
    Cell(cell as u64)
}
