//! Which tile does what goes wrong befall, and when?
//!
//! Drawn from the run's seed before anything runs, by streams of their own: two
//! runs with different policies meet the same faults. Every fault is counted
//! twice, when it is planned and when it finds a tile to befall.

use machine::{Purpose, Stream};
use wire::{Cell, Instant, Nanos, Tile};

use super::config::{Config, FaultKind};

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

/// The cell's name in streams and keys.
pub(super) const fn cell_name(cell: u32) -> Cell {
    Cell(cell as u64)
}
