//! Where should this piece of work go, of all the places where it fits?
//!
//! A [`Policy`] scores a node for a demand; a [`Ranking`] keeps the scores of all
//! nodes for every demand that was asked about, and answers with the best node and
//! the GPUs to take there. Policies see the [`Ledger`] and what work is typical, and
//! nothing else: no clock, no queue, nothing of who asks.
//!
//! # How it is kept
//!
//! A placement changes one node. So for each distinct demand the scores of all nodes
//! stay, with the ledger's count of changes at which they were true; when the demand
//! comes again, only nodes that changed since are scored again. The answer is the
//! same as from scoring every node, which a property test holds it to.
//!
//! Nodes have an order of preference that never changes, and of several best the first
//! in it wins, always. That it is fixed matters: it fills one node before it touches its
//! equals, where a fresh draw each time would spread work over all of them.
//!
//! Deliberately absent: queues, preemption and heat ([`crate::site`]).
//!
//! Tour: [`score`] the published policies one by one · [`fragmentation`] what nobody can
//! use · [`cosmos`] our own policy · [`migration`] what would do better
//! elsewhere · [`apart`] the other question: what keeps equals from dying together.

pub mod apart;
pub mod cosmos;
pub mod fragmentation;
pub mod migration;
pub mod score;

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::str::FromStr;

use machine::Stream;

use crate::ledger::{Demand, GPUS_MAX, Ledger};
pub use apart::Apart;
pub use cosmos::{Cosmos, Terms};
pub use fragmentation::{Fragmentation, Typical};
pub use migration::{Move, Placed, Residents};

/// How one place is preferred to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Any node, and any of its GPUs.
    Random,
    /// [`score::dot_product`].
    DotProd,
    /// [`score::gpu_clustering`].
    GpuClustering,
    /// [`score::gpu_packing`].
    GpuPacking,
    /// [`score::best_fit`].
    BestFit,
    /// [`score::fgd`].
    Fgd,
    /// Our own: [`cosmos`].
    Cosmos,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Random,
        Self::DotProd,
        Self::GpuClustering,
        Self::GpuPacking,
        Self::BestFit,
        Self::Fgd,
        Self::Cosmos,
    ];

    /// As one writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::DotProd => "dotprod",
            Self::GpuClustering => "gpu-clustering",
            Self::GpuPacking => "gpu-packing",
            Self::BestFit => "bestfit",
            Self::Fgd => "fgd",
            Self::Cosmos => "cosmos",
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no policy of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownPolicy;

impl FromStr for Policy {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let found = Self::ALL.into_iter().find(|policy| policy.name() == name);
        found.ok_or(UnknownPolicy)
    }
}

/// Where work is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Which node.
    pub node: u32,
    /// Which of its GPUs, a bit each: what [`Ledger::claim_on`] takes.
    pub gpus: u8,
    /// The node's score under the policy.
    pub score: u32,
}

/// What a policy thinks of a node where a demand fits; the least is the best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Fit {
    /// For the published policies what a score lacks of the best one, 0 to 1; for
    /// [`cosmos`] the cost of the place over all GPU of a full node, which may be a
    /// little below 0. Two nodes that differ by 1 differ by eight GPUs.
    pub cost: f64,
    /// What it is made of, for [`cosmos`], in the same unit.
    pub terms: Option<Terms>,
}

/// What a place costs that the policy did not come round to look at
/// ([`cosmos::FRESH_MAX`]): it goes after all others, by the looseness of its fit.
const UNSEEN: f64 = 100.0;

/// Distinct demands whose scores are kept; of more, the one that was not asked about
/// for longest is forgotten. The published lists have up to 337. A thousand nodes
/// take 4 KiB for each.
pub const DEMANDS_MAX: usize = 2_048;

/// The scores of all nodes for each demand, kept as nodes change.
#[derive(Clone, Debug)]
pub struct Ranking {
    policy: Policy,
    typical: Typical,
    /// There for its own policy, which keeps its own books.
    cosmos: Option<Cosmos>,
    cpu_milli_max: u32,
    /// Which node has each rank, and which rank each node.
    nodes: Vec<u32>,
    ranks: Vec<u32>,
    demands: BTreeMap<Demand, Scores>,
    /// What arrived, for a policy that knows work by a table, and how much was known
    /// when the table was made.
    arrivals: BTreeMap<Demand, u32>,
    arrived: u64,
    learnt: u64,
    /// By node: see [`Self::weigh`].
    fits: Vec<Fit>,
    /// How often it was asked, to know which demand rested longest.
    asked: u64,
    stream: Stream,
}

/// The scores of one demand.
#[derive(Clone, Debug)]
struct Scores {
    /// [`Ledger::changes`] when they were true.
    changes: u64,
    asked: u64,
    /// By rank: 0 where it does not fit, otherwise one more than the score.
    each: Vec<u32>,
}

impl Ranking {
    /// Nothing scored yet. Of nodes with equal scores the first in `preference` wins;
    /// the stream is for policies that draw.
    ///
    /// # Panics
    /// If `preference` is not every node once.
    #[must_use]
    pub fn new(
        policy: Policy,
        typical: Typical,
        ledger: &Ledger,
        preference: Vec<u32>,
        stream: Stream,
    ) -> Self {
        let (count, nodes) = (ledger.nodes().len(), preference);
        let mut ranks = vec![u32::MAX; count];
        for (rank, &node) in nodes.iter().enumerate() {
            ranks[node as usize] = rank as u32;
        }
        assert!(
            nodes.len() == count && !ranks.contains(&u32::MAX),
            "a preference names every node once"
        );
        Self {
            policy,
            arrivals: typical.all().iter().copied().collect(),
            arrived: 0,
            learnt: typical.all().iter().map(|&(_, n)| u64::from(n)).sum(),
            fits: vec![Fit::default(); count],
            cosmos: (policy == Policy::Cosmos).then(|| Cosmos::new(&typical, ledger.nodes())),
            typical,
            cpu_milli_max: cpu_milli_max(ledger),
            nodes,
            ranks,
            demands: BTreeMap::new(),
            asked: 0,
            stream,
        }
    }

    /// What work is typical.
    #[must_use]
    pub const fn typical(&self) -> &Typical {
        &self.typical
    }

    /// The best node for the demand and the GPUs to take there; none where it fits
    /// nowhere now. Has to be the ledger that was there from the start.
    pub fn choose(&mut self, ledger: &Ledger, demand: &Demand) -> Option<Choice> {
        if let Some(cosmos) = &mut self.cosmos {
            cosmos.arrived(demand, 1);
        }
        self.find(ledger, demand)
    }

    /// Learns what work is typical from so many arrivals of a demand: the policies that
    /// look at it begin to, or learn anew, each time as many have come as were known.
    /// [`Self::choose`] learns by itself what it learns.
    pub fn learn(&mut self, demand: &Demand, times: u16) {
        match (self.policy, &mut self.cosmos) {
            (_, Some(cosmos)) => cosmos.arrived(demand, times.into()),
            (Policy::Fgd, None) => {
                let shape = Demand {
                    memory_mib: 0,
                    ..*demand
                };
                let count = self.arrivals.entry(shape).or_default();
                *count = count.saturating_add(times.into());
                self.arrived += u64::from(times);
                if self.arrived >= self.learnt {
                    self.learnt += self.arrived;
                    self.arrived = 0;
                    self.typical = Typical::counted(self.arrivals.iter().map(|(d, &n)| (d, n)));
                    self.demands.clear();
                }
            }
            _ => {}
        }
    }

    /// Works out what the policy thinks of every node where the demand fits; read it
    /// with [`Self::fits`]. Has to be the ledger that was there from the start.
    pub fn weigh(&mut self, ledger: &Ledger, demand: &Demand) {
        let fits = &mut self.fits;
        if let Some(cosmos) = &mut self.cosmos {
            cosmos.allow(cosmos::FRESH_MAX);
            cosmos.weigh(ledger, demand, |node, place| {
                fits[node as usize] = match place {
                    Some((terms, _)) => {
                        let terms = terms.over(f64::from(score::GPU_MAX));
                        Fit {
                            cost: terms.cost(),
                            terms: Some(terms),
                        }
                    }
                    None => Fit {
                        cost: UNSEEN + ledger.looseness(node, demand),
                        terms: None,
                    },
                };
            });
            return;
        }
        if self.policy == Policy::Random {
            fits.iter_mut()
                .for_each(|fit| fit.cost = self.stream.unit());
            return;
        }
        self.asked += 1;
        self.refresh(ledger, demand);
        for (score, &node) in self.demands[demand].each.iter().zip(&self.nodes) {
            let lacks = score::SCORE_MAX.saturating_sub(score.saturating_sub(1));
            self.fits[node as usize].cost = f64::from(lacks) / f64::from(score::SCORE_MAX);
        }
    }

    /// By node, for the demand that was last weighed; of a node where it did not fit it
    /// says nothing.
    #[must_use]
    pub fn fits(&self) -> &[Fit] {
        &self.fits
    }

    /// [`Self::choose`] for work that did not just arrive.
    fn find(&mut self, ledger: &Ledger, demand: &Demand) -> Option<Choice> {
        if let Some(cosmos) = &mut self.cosmos {
            return cosmos.choose(ledger, demand);
        }
        self.asked += 1;
        self.refresh(ledger, demand);
        let scores = &self.demands[demand].each;
        let rank = match self.policy {
            Policy::Random => {
                let fitting = scores.iter().filter(|&&score| score > 0).count() as u64;
                let drawn = self.stream.below(fitting) as usize;
                let mut ranks = (0..scores.len()).filter(|&rank| scores[rank] > 0);
                ranks.nth(drawn)?
            }
            _ => {
                let best = scores.iter().fold(0, |best, &score| best.max(score));
                if best == 0 {
                    return None;
                }
                scores.iter().position(|&score| score == best)?
            }
        };
        let (node, score) = (self.nodes[rank], scores[rank] - 1);
        let gpus = self.gpus(ledger, node, demand);
        Some(Choice { node, gpus, score })
    }

    fn refresh(&mut self, ledger: &Ledger, demand: &Demand) {
        if !self.demands.contains_key(demand) {
            if self.demands.len() >= DEMANDS_MAX {
                let rested = self.demands.iter().min_by_key(|(_, scores)| scores.asked);
                let rested = rested.map(|(&demand, _)| demand);
                rested.map(|demand| self.demands.remove(&demand));
            }
            let fresh = Scores {
                changes: 0,
                asked: 0,
                each: vec![0; self.nodes.len()],
            };
            self.demands.insert(*demand, fresh);
        }
        let scores = self.demands.get_mut(demand).expect("it was put there");
        for node in ledger.changed_since(scores.changes) {
            let rank = self.ranks[node as usize] as usize;
            let (policy, typical) = (self.policy, &self.typical);
            scores.each[rank] = match ledger.fits(node, demand) {
                true => 1 + score_of(policy, typical, self.cpu_milli_max, ledger, node, demand),
                false => 0,
            };
        }
        scores.changes = ledger.changes();
        scores.asked = self.asked;
    }

    /// The GPUs of a node to take there for a demand that fits, a bit each.
    pub fn gpus(&mut self, ledger: &Ledger, node: u32, demand: &Demand) -> u8 {
        if let Some(cosmos) = &mut self.cosmos {
            return cosmos.gpus(ledger, node, demand);
        }
        let (built, room) = (&ledger.nodes()[node as usize], ledger.room(node));
        match self.policy {
            Policy::Random if demand.gpus == 1 => {
                let share = demand.share().max(1);
                let roomy = (0..GPUS_MAX).filter(|&g| room.gpu_milli[g] >= share);
                let drawn = self.stream.below(roomy.clone().count() as u64) as usize;
                roomy.into_iter().nth(drawn).map_or(0, |g| 1 << g)
            }
            Policy::Fgd => score::fgd(&self.typical, built, room, demand).1,
            _ => room.snuggest(demand),
        }
    }
}

fn cpu_milli_max(ledger: &Ledger) -> u32 {
    let cpus = ledger.nodes().iter().map(|node| node.cpu_milli);
    cpus.max().unwrap_or(1).max(1)
}

/// The score of a node where the demand fits.
fn score_of(
    policy: Policy,
    typical: &Typical,
    cpu_milli_max: u32,
    ledger: &Ledger,
    node: u32,
    demand: &Demand,
) -> u32 {
    let (built, room) = (&ledger.nodes()[node as usize], ledger.room(node));
    match policy {
        // The last keeps its own books and never comes here.
        Policy::Random | Policy::Cosmos => 0,
        Policy::DotProd => score::dot_product(room, demand, cpu_milli_max),
        Policy::GpuClustering => score::gpu_clustering(room, demand),
        Policy::GpuPacking => score::gpu_packing(built, room, demand),
        Policy::BestFit => score::best_fit(room, demand, cpu_milli_max),
        Policy::Fgd => score::fgd(typical, built, room, demand).0,
    }
}

/// What tests of policies are made of.
#[cfg(test)]
mod cases {
    use crate::ledger::{Demand, Models, Node};

    /// A node whose place and heat do not matter.
    pub(super) fn node(cpu_milli: u32, gpus: u8, model: u8) -> Node {
        Node {
            cpu_milli,
            memory_mib: 262_144,
            gpus,
            model,
            coolant: 0,
            rack: 0,
            row: 0,
            idle_watts: 0.0,
            gpu_watts: 0.0,
            cpu_watts: 0.0,
        }
    }

    /// Work that takes any model and next to no memory.
    pub(super) fn demand(cpu_milli: u32, gpus: u8, gpu_milli: u16) -> Demand {
        Demand {
            cpu_milli,
            memory_mib: 1_024,
            gpus,
            gpu_milli,
            models: Models::ANY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Models, Node};
    use machine::Purpose;
    use proptest::prelude::*;
    use wire::Tile;

    fn nodes() -> Vec<Node> {
        let node = |i: u32| {
            super::cases::node(
                32_000 + 32_000 * (i % 3),
                [8, 2, 4, 0][i as usize % 4],
                (i % 2) as u8,
            )
        };
        (0..12).map(node).collect()
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        let cpus = prop::sample::select(vec![1_000_u32, 4_000, 8_000, 16_000]);
        let shares = prop::sample::select(vec![100_u16, 300, 500, 1_000]);
        (cpus, 0..5_u8, shares, 0..3_u32).prop_map(|(cpu_milli, gpus, gpu_milli, models)| Demand {
            cpu_milli,
            memory_mib: 1_024,
            gpus,
            gpu_milli,
            models: if models == 0 {
                Models::ANY
            } else {
                Models(models)
            },
        })
    }

    proptest! {
        #[test]
        fn scores_kept_as_nodes_change_choose_what_scores_from_scratch_choose(
            arrivals in prop::collection::vec((any_demand(), any::<u8>()), 1..120),
            policy in prop::sample::select(Policy::ALL.to_vec()),
        ) {
            let mut ledger = Ledger::new(nodes());
            let typical = Typical::of(arrivals.iter().map(|(demand, _)| demand));
            let stream = Stream::new(1, Tile(0), Purpose::Placement);
            let preference = (0..12).rev().collect();
            let mut kept = Ranking::new(policy, typical, &ledger, preference, stream);
            let mut held = vec![];
            for (demand, back) in arrivals {
                let mut fresh = kept.clone();
                fresh.demands.clear();
                fresh.cosmos.iter_mut().for_each(Cosmos::forget);
                let choice = kept.choose(&ledger, &demand);
                prop_assert_eq!(choice, fresh.choose(&ledger, &demand));
                let fits = (0..12).any(|node| ledger.fits(node, &demand));
                prop_assert_eq!(choice.is_some(), fits);
                if let Some(Choice { node, gpus, .. }) = choice {
                    held.push((node, ledger.claim_on(node, &demand, gpus).unwrap()));
                }
                if back < 80 && !held.is_empty() {
                    let (node, claim) = held.swap_remove(usize::from(back) % held.len());
                    ledger.release(node, &claim);
                }
            }
        }
    }

    #[test]
    fn names_are_read_as_they_are_written() {
        for policy in Policy::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert_eq!("best".parse::<Policy>(), Err(UnknownPolicy));
    }

    #[test]
    fn of_many_demands_the_one_not_asked_about_for_longest_is_forgotten() {
        let ledger = Ledger::new(nodes());
        let demand = |n: usize| Demand {
            cpu_milli: n as u32,
            memory_mib: 1,
            gpus: 0,
            gpu_milli: 0,
            models: Models::ANY,
        };
        let stream = Stream::new(1, Tile(0), Purpose::Placement);
        let (typical, preference) = (Typical::of([]), (0..12).collect());
        let mut ranking = Ranking::new(Policy::BestFit, typical, &ledger, preference, stream);
        for n in (0..DEMANDS_MAX).chain([0, DEMANDS_MAX]) {
            ranking.choose(&ledger, &demand(n)).unwrap();
        }
        assert_eq!(ranking.demands.len(), DEMANDS_MAX);
        assert!(ranking.demands.contains_key(&demand(0)));
        assert!(!ranking.demands.contains_key(&demand(1)));
    }
}
