//! The run and its curve.

use std::path::Path;
use std::time::Duration;

use machine::{Purpose, Stream};
use scheduler::ledger::{self, Demand, Ledger, WHOLE};
use scheduler::policy::{Choice, Fragmentation, Placed, Policy, Ranking, Residents, Typical};
use serde::Serialize;
use wire::Tile;

use super::{Order, PackError};
use crate::site::Trace;

/// Steps towards better places after each arrival, where moves are allowed at all. With one, many moves that are
/// worth their while are found too late; with four no more are (`docs/bench/pack.md`).
const STEPS: usize = 2;
/// The curve has a point each time so much more of the capacity has arrived.
pub const STEP_PERCENT: u32 = 5;
/// It ends here, as the published one does.
pub const ARRIVED_PERCENT_MAX: u32 = 130;

/// What is packed, and into what.
#[derive(Clone, Debug)]
pub struct Cluster {
    nodes: Vec<ledger::Node>,
    demands: Vec<Demand>,
    typical: Typical,
    capacity_milli: u64,
}

impl Cluster {
    /// The nodes and pods of a trace; the paths are for errors.
    ///
    /// # Errors
    /// If there are no GPUs, or nobody asks for any.
    pub fn new(trace: &Trace, nodes_file: &Path, pods_file: &Path) -> Result<Self, PackError> {
        let nodes: Vec<_> = (trace.nodes.iter())
            .map(|node| ledger::Node {
                cpu_milli: node.cpu_milli,
                memory_mib: node.memory_mib,
                gpus: node.gpus,
                // Nobody asks a node without GPUs for their model.
                model: node.model.unwrap_or(0),
                // Neither heat nor distance is part of the experiment.
                coolant: 0,
                rack: 0,
                row: 0,
                idle_watts: 0.0,
                gpu_watts: 0.0,
                cpu_watts: 0.0,
            })
            .collect();
        let gpus = |node: &ledger::Node| u64::from(node.gpus);
        let capacity_milli = nodes.iter().map(gpus).sum::<u64>() * u64::from(WHOLE);
        if capacity_milli == 0 {
            return Err(PackError::NoGpus {
                file: nodes_file.to_owned(),
                nodes: nodes.len(),
            });
        }
        let demands: Vec<_> = trace.pods.iter().map(|pod| pod.demand).collect();
        if demands.iter().all(|demand| demand.gpu_total() == 0) {
            return Err(PackError::NoDemand {
                file: pods_file.to_owned(),
                pods: demands.len(),
            });
        }
        Ok(Self {
            typical: Typical::of(&demands),
            nodes,
            demands,
            capacity_milli,
        })
    }

    /// All of its GPU, in thousandths.
    #[must_use]
    pub const fn capacity_milli(&self) -> u64 {
        self.capacity_milli
    }
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Experiment<'a> {
    /// What is packed, and into what.
    pub cluster: &'a Cluster,
    /// Who arrives when.
    pub order: &'a Order,
    /// Of several nodes that the policy finds equal, the first of these is taken: all
    /// nodes, as positions in their list.
    pub preference: &'a [u32],
    /// Who decides.
    pub policy: Policy,
    /// Where the policy's own chance comes from.
    pub seed: u64,
    /// How many placed pods may be moved for each hundred arrivals, one at a time, to
    /// where they cost less; what is not used is saved up. Only `cosmos` moves any.
    pub migrate: u32,
}

/// What came of it: a function of the experiment, but for the times.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// By what had arrived, ascending, as far as the order went.
    pub curve: Vec<Point>,
    /// How many pods were placed.
    pub placed: u64,
    /// How many found no place and were dropped.
    pub dropped: u64,
    /// How many placed pods were moved.
    pub moved: u64,
    /// How long each placement took, by the clock that was handed in, ascending.
    pub decisions: Vec<Duration>,
    /// How long each step took that looked for a move, and made one if it found one and
    /// might, likewise; without a budget there are none.
    pub steps: Vec<Duration>,
}

/// A quantile of times in ascending order, from 0 to 1: no less than this share took no
/// longer.
#[must_use]
pub fn quantile(times: &[Duration], q: f64) -> Duration {
    let rank = (q * times.len() as f64).ceil() as usize;
    let at = rank.clamp(1, times.len().max(1)) - 1;
    times.get(at).copied().unwrap_or_default()
}

impl Outcome {
    /// The point of the curve when so much had arrived.
    #[must_use]
    pub fn at(&self, arrived_percent: u32) -> Option<&Point> {
        let mut points = self.curve.iter();
        points.find(|point| point.arrived_percent == arrived_percent)
    }
}

/// A point of the curve: the mean over the arrivals that, rounded to whole percent of
/// the capacity, brought what has arrived to just this; if there was none, what was
/// true before it was passed. (The mean is how the published results were read off.)
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// GPU asked for by all that have arrived, in percent of the capacity.
    pub arrived_percent: u32,
    /// GPU allocated, in percent of the capacity.
    pub allocated_percent: f64,
    /// GPU that typical work is expected not to be able to use, in percent of what is
    /// idle ([`scheduler::policy::fragmentation`]).
    pub fragmented_of_idle_percent: f64,
}

/// The curve while it is drawn.
#[derive(Default)]
struct Pencil {
    points: Vec<Point>,
    /// Sums of the point being drawn, and of how many arrivals.
    allocated: f64,
    fragmented: f64,
    arrivals: u32,
    /// What was true after the last arrival.
    last: (f64, f64),
}

impl Pencil {
    /// The percent of the point being drawn.
    fn next(&self) -> u32 {
        (self.points.len() as u32 + 1) * STEP_PERCENT
    }

    fn finish_point(&mut self) {
        let (allocated, fragmented) = match self.arrivals {
            0 => self.last,
            n => (
                self.allocated / f64::from(n),
                self.fragmented / f64::from(n),
            ),
        };
        self.points.push(Point {
            arrived_percent: self.next(),
            allocated_percent: allocated,
            fragmented_of_idle_percent: fragmented,
        });
        (self.allocated, self.fragmented, self.arrivals) = (0.0, 0.0, 0);
    }

    fn arrival(&mut self, arrived_percent: f64, allocated: f64, fragmented: f64) {
        let arrived = arrived_percent.round_ties_even() as u32;
        while arrived > self.next() && self.next() <= ARRIVED_PERCENT_MAX {
            self.finish_point();
        }
        if arrived == self.next() {
            self.allocated += allocated;
            self.fragmented += fragmented;
            self.arrivals += 1;
        }
        self.last = (allocated, fragmented);
    }

    fn end(mut self) -> Vec<Point> {
        if self.arrivals > 0 && self.next() <= ARRIVED_PERCENT_MAX {
            self.finish_point();
        }
        self.points
    }
}

impl Experiment<'_> {
    /// Runs it. The clock is read before and after each decision.
    //= requirements S4
    //= requirements W3
    #[must_use]
    pub fn run(&self, mut clock: impl FnMut() -> Duration) -> Outcome {
        let Cluster {
            nodes,
            demands,
            typical,
            capacity_milli,
        } = self.cluster;
        let percent = |milli: u64| 100.0 * milli as f64 / *capacity_milli as f64;
        let mut ledger = Ledger::new(nodes.clone());
        let stream = Stream::new(self.seed, Tile(0), Purpose::Placement);
        let preference = self.preference.to_vec();
        let mut ranking = Ranking::new(self.policy, typical.clone(), &ledger, preference, stream);
        let mut fragmentation = Fragmentation::default();
        fragmentation.refresh(&ledger, typical);
        let mut pencil = Pencil {
            last: (0.0, 100.0 * fragmentation.of_idle(typical)),
            ..Pencil::default()
        };
        let mut steps = Vec::new();
        let mut decisions = Vec::with_capacity(self.order.0.len());
        let (mut placed, mut dropped, mut arrived) = (0, 0, 0_u64);
        let (mut residents, mut moved) = (Residents::new(nodes.len()), 0);
        // Moves that may be made, in hundredths.
        let mut credit = 0;
        let steps_each = if self.migrate > 0 { STEPS } else { 0 };
        for &pod in &self.order.0 {
            let demand = &demands[pod as usize];
            arrived += u64::from(demand.gpu_total());
            let before = clock();
            let choice = ranking.choose(&ledger, demand);
            let work = decisions.len() as u64;
            credit += self.migrate;
            match choice {
                Some(Choice { node, gpus, .. }) => {
                    let claim = ledger.claim_on(node, demand, gpus);
                    let claim = claim.expect("a policy chooses among places that fit");
                    placed += 1;
                    if self.migrate > 0 {
                        let demand = *demand;
                        residents.place(
                            node,
                            Placed {
                                work,
                                demand,
                                claim,
                            },
                        );
                    }
                }
                None => dropped += 1,
            }
            decisions.push(clock().saturating_sub(before));
            for _ in 0..steps_each {
                let before = clock();
                let one = ranking.tidy(&mut ledger, &mut residents, credit >= 100);
                steps.push(clock().saturating_sub(before));
                if one.is_some() {
                    credit -= 100;
                    moved += 1;
                }
            }
            fragmentation.refresh(&ledger, typical);
            pencil.arrival(
                percent(arrived),
                percent(capacity_milli - fragmentation.idle_milli()),
                100.0 * fragmentation.of_idle(typical),
            );
        }
        decisions.sort_unstable();
        steps.sort_unstable();
        Outcome {
            curve: pencil.end(),
            placed,
            dropped,
            moved,
            decisions,
            steps,
        }
    }
}
