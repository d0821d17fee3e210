//! How much of what is idle can nobody use?
//!
//! A node with 300 thousandths left on each of eight GPUs has 2,400 idle and no
//! room for a task that wants half of one. Whether that is a loss depends on what
//! people ask for, so it is measured against the *typical shapes* of the work: for
//! each shape, the idle GPU of the node that this shape cannot use, weighted by how
//! often the shape is asked for (Weng et al., *Beware of Fragmentation: Scheduling
//! GPU-Sharing Workloads with Fragmentation Gradient Descent*, ATC 2023, § 4.1).
//!
//! A shape that does not fit a node at all cannot use any of it; one that fits
//! cannot use the GPUs with less left than it wants of each; one that wants no GPU
//! uses none. Memory is not looked at, as in the paper.
//!
//! # How it is computed
//!
//! A shape of one GPU can use exactly the GPUs that have its share left, if the CPU
//! is enough. So what a GPU's rest is worth depends only on that rest and on the
//! node's CPU: it is a sum of weights over a rectangle, read from a table. A node of
//! eight GPUs costs ten reads whatever the number of shapes.
//!
//! Weights are counts, so all of it is whole numbers: what is kept incrementally is
//! equal, not nearly equal, to what is computed from scratch.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use crate::ledger::{Demand, GPUS_MAX, Ledger, Models, Node, Room, WHOLE};

/// The most frequent shapes cover this share of the list, in percent (ATC 2023, § 6.1,
/// and the published simulator's configuration).
pub const COVERAGE_PERCENT: u64 = 95;
/// A set of models has so many bits.
const MODELS_MAX: usize = 32;

/// The shapes that work usually has, each with how often it came.
#[derive(Clone, Debug)]
pub struct Typical {
    /// All shapes, most frequent first, and how many of them are typical.
    all: Vec<(Demand, u32)>,
    kept: usize,
    /// Sum of their counts.
    weight: u64,
    /// What they ask of the CPU and of a single GPU: distinct, ascending.
    cpus: Vec<u32>,
    shares: Vec<u16>,
    /// How many of `shares` a rest of so many thousandths is enough for.
    shares_within: Vec<u16>,
    /// Which of the tables is for each model.
    table_of: [u8; MODELS_MAX],
    tables: Vec<Table>,
}

/// Counts of shapes allowed on a model, summed over rectangles.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    /// Of one GPU or a share of it; a row for each number of `cpus` that are enough,
    /// in it an entry for each number of `shares` that are.
    one: Vec<u32>,
    /// Of several GPUs, of which as many as the index are enough; rows likewise.
    several: Vec<[u32; GPUS_MAX + 1]>,
}

impl Typical {
    /// The most frequent shapes that cover [`COVERAGE_PERCENT`] of these demands;
    /// among the equally frequent the larger come first. Memory is no part of a shape.
    #[must_use]
    pub fn of<'d>(demands: impl IntoIterator<Item = &'d Demand>) -> Self {
        Self::counted(demands.into_iter().map(|demand| (demand, 1)))
    }

    /// The same of demands that came so many times each.
    #[must_use]
    pub fn counted<'d>(demands: impl IntoIterator<Item = (&'d Demand, u32)>) -> Self {
        let mut counts = BTreeMap::<_, u32>::new();
        let mut total = 0_u64;
        for (demand, count) in demands {
            let (gpus, models) = match demand.share() {
                0 => (0, Models::ANY),
                _ => (demand.gpus, demand.models),
            };
            let shape = (demand.cpu_milli, demand.share(), gpus, models);
            *counts.entry(shape).or_default() += count;
            total += u64::from(count);
        }
        let mut shapes: Vec<_> = counts.into_iter().map(|(s, count)| (count, s)).collect();
        shapes.sort_unstable_by(|a, b| b.cmp(a));
        let (mut weight, mut kept) = (0, 0);
        let mut all = Vec::new();
        for (count, (cpu_milli, gpu_milli, gpus, models)) in shapes {
            if weight * 100 < total * COVERAGE_PERCENT {
                weight += u64::from(count);
                kept += 1;
            }
            let demand = Demand {
                cpu_milli,
                memory_mib: 0,
                gpus,
                gpu_milli,
                models,
            };
            all.push((demand, count));
        }
        Self::from_shapes(all, kept, weight)
    }

    fn from_shapes(all: Vec<(Demand, u32)>, kept: usize, weight: u64) -> Self {
        let shapes = &all[..kept];
        let with_gpus = || shapes.iter().filter(|(shape, _)| shape.share() > 0);
        let mut cpus: Vec<u32> = with_gpus().map(|(shape, _)| shape.cpu_milli).collect();
        cpus.sort_unstable();
        cpus.dedup();
        let mut shares: Vec<u16> = (with_gpus().filter(|(shape, _)| shape.gpus == 1))
            .map(|(shape, _)| shape.share())
            .collect();
        shares.sort_unstable();
        shares.dedup();
        let shares_within = (0..=WHOLE).map(|rest| shares.partition_point(|&s| s <= rest) as u16);
        let mut typical = Self {
            weight,
            shares_within: shares_within.collect(),
            table_of: [0; MODELS_MAX],
            tables: Vec::new(),
            cpus,
            shares,
            all,
            kept,
        };
        // Most models are named by no shape and share a table.
        let masks: BTreeSet<u32> = typical.shapes().iter().map(|(s, _)| s.models.0).collect();
        let mut known: Vec<Vec<bool>> = Vec::new();
        for model in 0..MODELS_MAX {
            let may = |mask: &u32| Models(*mask).contains(model as u8);
            let named: Vec<bool> = masks.iter().map(may).collect();
            let table = known.iter().position(|other| *other == named);
            typical.table_of[model] = table.unwrap_or(known.len()) as u8;
            if table.is_none() {
                let table = typical.table(model as u8);
                typical.tables.push(table);
                known.push(named);
            }
        }
        typical
    }

    fn table(&self, model: u8) -> Table {
        let width = self.shares.len() + 1;
        let mut one = vec![0; (self.cpus.len() + 1) * width];
        let mut several = vec![[0; GPUS_MAX + 1]; self.cpus.len() + 1];
        for (shape, count) in self.shapes() {
            if shape.share() == 0 || !shape.models.contains(model) {
                continue;
            }
            let row = self.cpus.partition_point(|&c| c < shape.cpu_milli) + 1;
            if shape.gpus == 1 {
                let share = usize::from(self.shares_within[usize::from(shape.share())]);
                one[row * width + share] += count;
            } else {
                several[row][usize::from(shape.gpus)] += count;
            }
        }
        // Who has more has enough for all who need less: sums along both axes.
        for row in 0..=self.cpus.len() {
            for share in 1..width {
                one[row * width + share] += one[row * width + share - 1];
            }
            for gpus in 1..=GPUS_MAX {
                several[row][gpus] += several[row][gpus - 1];
            }
            if row > 0 {
                for share in 0..width {
                    one[row * width + share] += one[(row - 1) * width + share];
                }
                let (before, here) = several.split_at_mut(row);
                for (sum, less) in here[0].iter_mut().zip(&before[row - 1]) {
                    *sum += less;
                }
            }
        }
        Table { one, several }
    }

    /// The shapes and how often each came, most frequent first.
    #[must_use]
    pub fn shapes(&self) -> &[(Demand, u32)] {
        &self.all[..self.kept]
    }

    /// The same, and then those too rare to be typical.
    #[must_use]
    pub fn all(&self) -> &[(Demand, u32)] {
        &self.all
    }

    /// How many pieces of work the shapes stand for.
    #[must_use]
    pub const fn weight(&self) -> u64 {
        self.weight
    }

    /// Expected idle GPU that a typical shape cannot use there, in thousandths times
    /// [`Self::weight`].
    #[inline]
    #[must_use]
    pub fn fragmented(&self, node: &Node, room: &Room) -> u64 {
        let worth = self.worth(node, room.cpu_milli);
        let usable: u64 = room.gpu_milli.iter().map(|&rest| worth.of_rest(rest)).sum();
        let several = worth.of_whole(room.gpu_whole);
        u64::from(room.gpu_total) * self.weight - usable - several
    }

    /// The same once the demand, which fits, has taken these GPUs, a bit each.
    #[inline]
    #[must_use]
    pub fn fragmented_after(&self, node: &Node, room: &Room, demand: &Demand, gpus: u8) -> u64 {
        let worth = self.worth(node, room.cpu_milli - demand.cpu_milli);
        let share = demand.share();
        let (mut idle, mut whole, mut usable) = (0, 0, 0);
        for (g, &rest) in room.gpu_milli.iter().enumerate() {
            let rest = rest - if gpus >> g & 1 == 1 { share } else { 0 };
            idle += u64::from(rest);
            whole += u8::from(rest == WHOLE);
            usable += worth.of_rest(rest);
        }
        idle * self.weight - usable - worth.of_whole(whole)
    }

    /// [`Self::fragmented_after`] for each GPU on which the demand, a share, fits,
    /// with the number of that GPU. Of GPUs with the same rest only the first is tried.
    #[inline]
    pub(crate) fn each_after(
        &self,
        node: &Node,
        room: &Room,
        demand: &Demand,
        mut each: impl FnMut(u8, u64),
    ) {
        let worth = self.worth(node, room.cpu_milli - demand.cpu_milli);
        let share = demand.share();
        let rests = room.gpu_milli.map(|rest| worth.of_rest(rest));
        let usable: u64 = rests.iter().sum();
        let idle = u64::from(room.gpu_total - share) * self.weight;
        for (g, &rest) in room.gpu_milli.iter().enumerate() {
            if rest < share || room.gpu_milli[..g].contains(&rest) {
                continue;
            }
            let whole = room.gpu_whole - u8::from(rest == WHOLE && share > 0);
            let usable = usable - rests[g] + worth.of_rest(rest - share);
            each(g as u8, idle - usable - worth.of_whole(whole));
        }
    }

    #[inline]
    fn worth(&self, node: &Node, cpu_milli: u32) -> Worth<'_> {
        let table = &self.tables[usize::from(self.table_of[usize::from(node.model)])];
        let row = self.cpus.partition_point(|&c| c <= cpu_milli);
        let width = self.shares.len() + 1;
        Worth {
            shares_within: &self.shares_within,
            one: &table.one[row * width..(row + 1) * width],
            several: &table.several[row],
        }
    }
}

/// What idle GPU is worth to typical shapes on a node with so much CPU left.
struct Worth<'t> {
    shares_within: &'t [u16],
    one: &'t [u32],
    several: &'t [u32; GPUS_MAX + 1],
}

impl Worth<'_> {
    #[inline]
    fn of_rest(&self, rest: u16) -> u64 {
        let within = self.shares_within[usize::from(rest)];
        u64::from(rest) * u64::from(self.one[usize::from(within)])
    }

    #[inline]
    fn of_whole(&self, whole: u8) -> u64 {
        u64::from(whole) * u64::from(WHOLE) * u64::from(self.several[usize::from(whole)])
    }
}

/// Fragmentation of all nodes, kept as they change.
#[derive(Clone, Debug, Default)]
pub struct Fragmentation {
    each: Vec<u64>,
    sum: u64,
    idle_milli: u64,
    idle: Vec<u32>,
    changes: u64,
}

impl Fragmentation {
    /// Takes in what changed in the ledger since the last time.
    pub fn refresh(&mut self, ledger: &Ledger, typical: &Typical) {
        let nodes = ledger.nodes();
        self.each.resize(nodes.len(), 0);
        self.idle.resize(nodes.len(), 0);
        for number in ledger.changed_since(self.changes) {
            let (i, room) = (number as usize, ledger.room(number));
            let now = typical.fragmented(&nodes[i], room);
            let idle = u32::from(room.gpu_total);
            self.sum = self.sum - self.each[i] + now;
            self.idle_milli = self.idle_milli - u64::from(self.idle[i]) + u64::from(idle);
            (self.each[i], self.idle[i]) = (now, idle);
        }
        self.changes = ledger.changes();
    }

    /// The expected share of the idle GPU that a typical shape cannot use; 0 if
    /// nothing is idle.
    #[must_use]
    pub fn of_idle(&self, typical: &Typical) -> f64 {
        let idle = self.idle_milli * typical.weight();
        if idle == 0 {
            return 0.0;
        }
        self.sum as f64 / idle as f64
    }

    /// Idle GPU in all, in thousandths.
    #[must_use]
    pub const fn idle_milli(&self) -> u64 {
        self.idle_milli
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cases;
    use proptest::prelude::*;

    pub(crate) fn node(gpus: u8, model: u8) -> Node {
        cases::node(32_000, gpus, model)
    }

    fn demand(cpu_milli: u32, gpus: u8, gpu_milli: u16, models: Models) -> Demand {
        Demand {
            cpu_milli,
            memory_mib: 0,
            gpus,
            gpu_milli,
            models,
        }
    }

    /// The definition, shape by shape.
    fn by_definition(typical: &Typical, node: &Node, room: &Room) -> u64 {
        let each = typical.shapes().iter().map(|(shape, count)| {
            let roomy = room.gpu_milli.iter().filter(|&&rest| rest >= shape.share());
            let fits = shape.share() > 0
                && shape.models.contains(node.model)
                && shape.cpu_milli <= room.cpu_milli
                && roomy.clone().count() >= usize::from(shape.gpus);
            let usable: u64 = roomy.map(|&rest| u64::from(rest)).sum();
            let lost = u64::from(room.gpu_total) - if fits { usable } else { 0 };
            lost * u64::from(*count)
        });
        each.sum()
    }

    #[test]
    fn what_a_shape_cannot_use_is_weighted_by_how_often_it_comes() {
        let mut list = vec![demand(4_000, 1, 500, Models::ANY); 6];
        list.extend([demand(8_000, 2, 1_000, Models::ANY); 3]);
        list.push(demand(4_000, 0, 0, Models::ANY));
        let typical = Typical::of(&list);
        let mut ledger = Ledger::new(vec![node(2, 0)]);
        // Empty: only the shape without GPUs, 1 of 10, uses nothing of 2,000.
        let fragmented = |ledger: &Ledger| typical.fragmented(&node(2, 0), ledger.room(0));
        assert_eq!(fragmented(&ledger), 2_000);
        // 400 and 1,000 left: halves lose 400 each, pairs and none all 1,400.
        ledger
            .claim(0, &demand(4_000, 1, 600, Models::ANY))
            .unwrap();
        assert_eq!(fragmented(&ledger), 6 * 400 + 4 * 1_400);
        // Without CPU nobody can use anything.
        ledger.claim(0, &demand(27_000, 0, 0, Models::ANY)).unwrap();
        assert_eq!(fragmented(&ledger), 10 * 1_400);
    }

    #[test]
    fn shapes_beyond_95_percent_do_not_count_and_larger_ones_go_first() {
        let mut list = vec![demand(1_000, 1, 100, Models::ANY); 94];
        list.push(demand(2_000, 1, 100, Models::ANY));
        list.extend([demand(3_000, 1, 100, Models::ANY); 1]);
        list.extend([demand(4_000, 1, 100, Models::ANY); 4]);
        let kept: Vec<u32> = (Typical::of(&list).shapes().iter())
            .map(|(shape, _)| shape.cpu_milli)
            .collect();
        assert_eq!(kept, [1_000, 4_000]);
        list.truncate(96);
        let kept: Vec<u32> = (Typical::of(&list).shapes().iter())
            .map(|(shape, _)| shape.cpu_milli)
            .collect();
        assert_eq!(kept, [1_000]);
        list.truncate(3);
        list.extend([demand(2_000, 1, 100, Models::ANY); 3]);
        let typical = Typical::of(&list);
        assert_eq!(typical.shapes()[0].0.cpu_milli, 2_000);
        assert_eq!(typical.weight(), 6);
    }

    fn any_demand() -> impl Strategy<Value = Demand> {
        (0..9_000_u32, 0..5_u8, 1..=10_u16, 0..4_u32).prop_map(|(cpu, gpus, tenths, models)| {
            let models = if models == 0 {
                Models::ANY
            } else {
                Models(models)
            };
            demand(cpu / 1_000 * 1_000, gpus, tenths * 100, models)
        })
    }

    proptest! {
        #[test]
        fn tables_agree_with_the_definition_and_the_kept_sum_with_a_fresh_one(
            list in prop::collection::vec(any_demand(), 1..60),
            wishes in prop::collection::vec((any_demand(), 0..4_u32, any::<u8>()), 1..60),
        ) {
            let typical = Typical::of(&list);
            let nodes = vec![node(4, 0), node(8, 1), node(2, 2), node(0, 0)];
            let mut ledger = Ledger::new(nodes);
            let mut kept = Fragmentation::default();
            let mut held = vec![];
            for (demand, at, back) in wishes {
                let (built, room) = (ledger.nodes()[at as usize], *ledger.room(at));
                if ledger.fits(at, &demand) {
                    let gpus = room.snuggest(&demand);
                    let promised = typical.fragmented_after(&built, &room, &demand, gpus);
                    if demand.gpus == 1 {
                        let mut told = None;
                        typical.each_after(&built, &room, &demand, |g, f| {
                            if gpus == 1 << g { told = Some(f) }
                        });
                        prop_assert_eq!(told, Some(promised));
                    }
                    held.push((at, ledger.claim_on(at, &demand, gpus).unwrap()));
                    prop_assert_eq!(typical.fragmented(&built, ledger.room(at)), promised);
                }
                if back < 64 && !held.is_empty() {
                    let (at, claim) = held.swap_remove(usize::from(back) % held.len());
                    ledger.release(at, &claim);
                }
                kept.refresh(&ledger, &typical);
                let fresh = ledger.nodes().iter().zip(0..).map(|(built, number)| {
                    by_definition(&typical, built, ledger.room(number))
                });
                prop_assert_eq!(kept.sum, fresh.sum::<u64>());
                let idle = (0..4).map(|n| u64::from(ledger.room(n).gpu_total)).sum::<u64>();
                prop_assert_eq!(kept.idle_milli(), idle);
            }
        }
    }
}
