//! Where does this work cost least of what can still come?
//!
//! Fragmentation ([`super::fragmentation`]) looks one task ahead: what of the idle GPU
//! could the next task not use? A node can look whole by that measure and still have
//! its CPU run out before its GPUs. So this policy asks what a node is *worth*: how much
//! of its idle GPU the work to come would still fill, task after task, until nothing
//! fits any more. A placement costs what the node loses in worth beyond what the work
//! itself takes.
//!
//! Worth alone does not see that the last nodes for an eight-GPU gang, or for those who
//! need one model, are about to go: other work would fill them as well. So room for each
//! *kind* of work has a price as soon as it may run short, and only then. Work is of one
//! kind if it competes for the same room: as many GPUs or the same quarter of one, the
//! same models, and CPU enough for it in the same of the site's nodes. Were CPU left out,
//! a gang that runs anywhere would take the last nodes of one that needs many CPUs.
//!
//! The cost of a place, in thousandths of a GPU ([`Terms`]; the least wins):
//!
//! 1. **Unusable**: worth before − worth after − GPU of the work itself. The worth of a
//!    node is the mean, over [`FUTURES`] fixed random futures of [`HORIZON`] tasks each,
//!    of the GPU that the tasks take there, each the tightest GPU, passing over those
//!    that do not fit: a rollout of the future (Bertsekas, Tsitsiklis, Wu, *Rollout
//!    Algorithms for Combinatorial Optimization*, J. Heuristics 1997). All nodes see the
//!    same futures, so chance does not tell them apart. Negative where work fills what
//!    the future would leave.
//! 2. **Scarcity**: Σ over kinds of the places
//!    lost for the kind × its bid price (Talluri, van Ryzin, *An Analysis of Bid-Price
//!    Controls for Network Revenue Management*, Management Science 1998). The price is
//!    the GPU the kind asks for × P(D > N): N is how many more of it the whole site
//!    holds, D, Poisson, how many will come that need as much as it does or more until
//!    the site is full: until what all nodes are worth is spent, or the CPU, whichever
//!    is first. (Not until all idle GPU is: where CPUs run out first, most of it never
//!    will be, and everything would seem to run short.)
//! 3. **Spread**: one hundredth of what the node is still worth ([`SPREAD_PERCENT`]): of
//!    places that cost the same, the fuller node, be it full of GPU or of CPU.
//!
//! What will come is taken from what came: from the list the policy is told, if it is,
//! and from every arrival, learnt anew each time their number has doubled; work that no
//! node could hold, were it empty, is left out. There are no weights to tune; nothing in it knows a trace
//! (`docs/decisions/2026-11-21-the-cosmos-policy-places-by-worth.md`).
//!
//! # How it is kept
//!
//! Nodes with the same model and the same rest are the same *state*; worth and room of
//! a state are computed once. For each shape of demand each node keeps where the demand
//! could go there, until the node changes. Prices are of this moment, so costs are added
//! up anew for each decision. The work of a decision is bounded ([`FRESH_MAX`]): beyond
//! that it passes over places nobody looked at yet, as long as it has found one.
//!
//! Deliberately absent: moving what runs ([`super::migration`]), queues and heat.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use machine::{Purpose, Stream};
use wire::Tile;

use super::{Choice, Typical};
use crate::ledger::{Claim, Demand, GPUS_MAX, Ledger, Models, Node, Room, State, WHOLE};

/// Futures a node's worth is the mean of. With 8 the gain over fragmentation gradient
/// descent is a little smaller, with 4 clearly; with 64 it is as with 16.
pub const FUTURES: usize = 16;
/// Tasks in a future: enough to fill a node of eight GPUs several times over.
pub const HORIZON: usize = 64;
/// A place costs this much of what its node is worth then, in percent.
pub const SPREAD_PERCENT: f64 = 1.0;
/// Standard deviations of supply over demand from which a kind has no price: it would
/// run short once in 30,000 times.
const AMPLE_SIGMA: f64 = 4.0;
/// Shares of a GPU are of so many kinds by size: what wants more than three quarters
/// needs another rest than what wants less than one.
const SHARE_CLASSES: u16 = 4;
/// Kinds that may have a price; of more, those that ask for most GPU.
const KINDS_MAX: usize = 64;
/// New worths that a decision computes at most, once it has found a place.
pub const FRESH_MAX: usize = 32;
/// As many findings of where a demand could go cost what a worth costs.
const FRESH_PER_WORTH: usize = 8;
/// States, shapes and ways to place that are kept; beyond, they are forgotten and met anew.
const STATES_MAX: usize = 1 << 17;
const SHAPES_MAX: usize = 512;
const WAYS_MAX: usize = 1 << 20;

/// What of a demand matters here: memory does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shape {
    cpu_milli: u32,
    gpus: u8,
    share: u16,
    models: Models,
}

impl Shape {
    const fn of(demand: &Demand) -> Self {
        let share = demand.share();
        match share {
            0 => Self {
                cpu_milli: demand.cpu_milli,
                gpus: 0,
                share: 0,
                models: Models::ANY,
            },
            _ => Self {
                cpu_milli: demand.cpu_milli,
                gpus: demand.gpus,
                share,
                models: demand.models,
            },
        }
    }

    const fn gpu_total(&self) -> u32 {
        self.gpus as u32 * self.share as u32
    }
}

/// Work that competes for the same room: so many GPUs or such a share of one, of these
/// models, on the same nodes.
#[derive(Clone, Debug)]
struct Kind {
    /// The mean of the shapes of this kind.
    typical: Shape,
    /// How often a task comes that asks for at least as much of everything, counted in
    /// places of this kind, of all tasks.
    demanded: f64,
}

/// What is left of a node, whichever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rest {
    cpu_milli: u32,
    /// Descending.
    gpu_milli: [u16; GPUS_MAX],
    model: u8,
}

impl Rest {
    fn built(node: &Node) -> Self {
        let mut gpu_milli = [0; GPUS_MAX];
        gpu_milli[..usize::from(node.gpus)].fill(WHOLE);
        Self {
            cpu_milli: node.cpu_milli,
            gpu_milli,
            model: node.model,
        }
    }

    fn of(node: &Node, room: &Room, state: State) -> Self {
        Self::unsorted(node, room, state).sorted()
    }

    fn unsorted(node: &Node, room: &Room, state: State) -> Self {
        // A node that takes no work has nothing left.
        let open = state == State::Open;
        Self {
            cpu_milli: if open { room.cpu_milli } else { 0 },
            gpu_milli: if open { room.gpu_milli } else { [0; GPUS_MAX] },
            model: node.model,
        }
    }

    fn sorted(mut self) -> Self {
        self.gpu_milli.sort_unstable_by(|a, b| b.cmp(a));
        self
    }

    fn idle(&self) -> u32 {
        self.gpu_milli.iter().map(|&rest| u32::from(rest)).sum()
    }

    /// How many have at least this much left.
    fn with_left(&self, share: u16) -> usize {
        self.gpu_milli.iter().filter(|&&rest| rest >= share).count()
    }

    fn fits(&self, shape: &Shape) -> bool {
        shape.cpu_milli <= self.cpu_milli
            && (shape.gpus == 0
                || shape.models.contains(self.model)
                    && self.with_left(shape.share) >= usize::from(shape.gpus))
    }

    /// What is left once the shape, which fits, has taken its GPUs: a share from the
    /// `at`-th, several from the first.
    fn without(mut self, shape: &Shape, at: usize) -> Self {
        self.cpu_milli -= shape.cpu_milli;
        for rest in &mut self.gpu_milli[at..at + usize::from(shape.gpus)] {
            *rest -= shape.share;
        }
        self.sorted()
    }

    /// How many of the kind, and nothing else, would fit.
    fn room_for(&self, kind: &Shape) -> u16 {
        if !kind.models.contains(self.model) {
            return 0;
        }
        let by_gpu = match kind.share {
            WHOLE => (self.with_left(WHOLE) / usize::from(kind.gpus)) as u32,
            share => self
                .gpu_milli
                .iter()
                .map(|rest| u32::from(rest / share))
                .sum(),
        };
        let by_cpu = self.cpu_milli.checked_div(kind.cpu_milli);
        by_gpu.min(by_cpu.unwrap_or(u32::MAX)) as u16
    }
}

/// Where a demand could go on a node.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// The state it would leave.
    state: u32,
    /// What the GPU it would take has left now.
    rest: u16,
}

/// Where the demands of a shape could go on each node.
#[derive(Clone, Debug, Default)]
struct Places {
    /// [`Ledger::changes`] when they were true.
    changes: u64,
    /// By node: its ways, from where to where; none if nobody looked yet.
    each: Vec<Option<(u32, u32)>>,
}

/// What a place costs, in thousandths of a GPU.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Terms {
    /// GPU that work to come can no longer use there, beyond what this work takes.
    pub unusable: f64,
    /// Room for kinds of work that may run short, at its price.
    pub scarcity: f64,
    /// A hundredth of what the node is worth then.
    pub spread: f64,
}

impl Terms {
    /// Their sum: the place with the least is taken.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.unusable + self.scarcity + self.spread
    }

    /// Each of them over the same.
    pub(super) fn over(&self, unit: f64) -> Self {
        Self {
            unusable: self.unusable / unit,
            scarcity: self.scarcity / unit,
            spread: self.spread / unit,
        }
    }
}

/// The policy and what it has learnt.
#[derive(Clone, Debug)]
pub struct Cosmos {
    /// Each sort of node that there is, empty.
    built: Vec<Rest>,
    /// What came, and how many when it was learnt from last.
    counts: BTreeMap<Shape, u64>,
    total: u64,
    learnt: u64,
    /// GPU and CPU that a task asks for in the mean, in thousandths.
    mean_milli: f64,
    mean_cpu_milli: f64,
    /// All futures, one after another.
    futures: Vec<Shape>,
    kinds: Vec<Kind>,
    /// The least that any work with GPUs needs.
    least_cpu: u32,
    least_share: u32,

    /// All states met, with their worth, the sum over the futures, and room for each of
    /// the kinds.
    states: Vec<Rest>,
    numbers: BTreeMap<Rest, u32>,
    worths: Vec<Option<u32>>,
    rooms: Vec<u16>,
    /// At which decision a state was looked at last, and its least cost and the rest of
    /// the GPU to take then.
    looked: Vec<(u64, Terms, u16)>,
    searches: u64,
    /// What this decision may still compute, in findings ([`FRESH_PER_WORTH`]).
    fresh: usize,

    /// The state of each node; of the site room for each kind, idle GPU and CPU, and the
    /// worth of all nodes.
    at: Vec<u32>,
    supply: Vec<u64>,
    idle: u64,
    idle_cpu: u64,
    worth_of_all: u64,
    changes: u64,

    shapes: BTreeMap<Shape, Places>,
    ways: Vec<Way>,
    /// Kinds with a price now.
    prices: Vec<(usize, f64)>,
}

impl Cosmos {
    /// Knows what work is typical, which may be nothing, and what nodes there are.
    #[must_use]
    pub fn new(typical: &Typical, nodes: &[Node]) -> Self {
        let mut counts = BTreeMap::new();
        for (demand, count) in typical.all() {
            *counts.entry(Shape::of(demand)).or_default() += u64::from(*count);
        }
        let total = counts.values().sum();
        let built: BTreeSet<Rest> = nodes.iter().map(Rest::built).collect();
        let mut cosmos = Self {
            built: built.into_iter().collect(),
            counts,
            total,
            learnt: 0,
            mean_milli: 1.0,
            mean_cpu_milli: 1.0,
            futures: Vec::new(),
            kinds: Vec::new(),
            least_cpu: 0,
            least_share: 0,
            states: Vec::new(),
            numbers: BTreeMap::new(),
            worths: Vec::new(),
            rooms: Vec::new(),
            looked: Vec::new(),
            searches: 0,
            fresh: 0,
            at: Vec::new(),
            supply: Vec::new(),
            idle: 0,
            idle_cpu: 0,
            worth_of_all: 0,
            changes: 0,
            shapes: BTreeMap::new(),
            ways: Vec::new(),
            prices: Vec::new(),
        };
        cosmos.learn();
        cosmos
    }

    /// Everything that depends on what work is expected, anew.
    fn learn(&mut self) {
        self.learnt = self.total;
        // Most frequent first, so that little changes in the futures when little does.
        let mut shapes: Vec<_> = self.counts.iter().map(|(&s, &count)| (count, s)).collect();
        shapes.retain(|(_, shape)| self.nodes_for(shape) > 0);
        shapes.sort_unstable_by(|a, b| b.cmp(a));
        let total = shapes.iter().map(|(count, _)| count).sum::<u64>().max(1) as f64;
        let mean = |of: &dyn Fn(&Shape) -> u32| {
            let asked = shapes.iter().map(|(count, s)| count * u64::from(of(s)));
            asked.sum::<u64>() as f64 / total
        };
        self.mean_milli = mean(&Shape::gpu_total);
        self.mean_cpu_milli = mean(&|s| s.cpu_milli);

        self.futures.clear();
        let mut stream = Stream::new(0, Tile(0), Purpose::Work);
        let mut upto = 0;
        let bounds: Vec<u64> = (shapes.iter())
            .map(|(count, _)| {
                upto += count;
                upto
            })
            .collect();
        for _ in 0..if upto > 0 { FUTURES * HORIZON } else { 0 } {
            let drawn = stream.below(upto);
            self.futures
                .push(shapes[bounds.partition_point(|&b| b <= drawn)].1);
        }
        let with_gpus = || shapes.iter().map(|(_, s)| s).filter(|s| s.gpus > 0);
        self.least_cpu = with_gpus().map(|s| s.cpu_milli).min().unwrap_or(0);
        self.least_share = with_gpus().map(|s| s.share.into()).min().unwrap_or(0);

        self.learn_kinds(&shapes, total);
        self.forget();
    }

    /// On how many sorts of nodes, empty, a shape fits. Of shapes that differ in CPU
    /// alone those with the same number fit on the same ones.
    fn nodes_for(&self, shape: &Shape) -> usize {
        self.built.iter().filter(|node| node.fits(shape)).count()
    }

    fn learn_kinds(&mut self, shapes: &[(u64, Shape)], total: f64) {
        // Count, and sums of CPU and shares.
        let mut sums = BTreeMap::<(u8, u16, Models, usize), (u64, u64, u64)>::new();
        for (count, s) in shapes.iter().filter(|(_, s)| s.gpus > 0) {
            let class = s.share / (WHOLE / SHARE_CLASSES);
            let kind = (s.gpus, class, s.models, self.nodes_for(s));
            let sum = sums.entry(kind).or_default();
            sum.0 += count;
            sum.1 += count * u64::from(s.cpu_milli);
            sum.2 += count * u64::from(s.share);
        }
        let mut kinds: Vec<(u64, Shape)> = (sums.into_iter())
            .map(|((gpus, _, models, _), (count, cpu, share))| {
                let typical = Shape {
                    cpu_milli: (cpu / count) as u32,
                    gpus,
                    share: ((share + count / 2) / count) as u16,
                    models,
                };
                (count, typical)
            })
            .collect();
        kinds.sort_by_key(|(count, kind)| core::cmp::Reverse(count * u64::from(kind.gpu_total())));
        kinds.truncate(KINDS_MAX);
        let needs_as_much = |other: &Shape, kind: &Shape| {
            let per_gpu = |a: &Shape, b: &Shape| u64::from(a.cpu_milli) * u64::from(b.gpus);
            other.gpus >= kind.gpus
                && other.share >= kind.share
                && per_gpu(other, kind) >= per_gpu(kind, other)
                && other.models.0 & !kind.models.0 == 0
        };
        let demanded = |kind: &Shape| {
            let others = kinds.iter().filter(|(_, other)| needs_as_much(other, kind));
            let places = others.map(|(count, other)| count * u64::from(other.gpus / kind.gpus));
            places.sum::<u64>() as f64 / total
        };
        self.kinds = (kinds.iter())
            .map(|&(_, typical)| Kind {
                typical,
                demanded: demanded(&typical),
            })
            .collect();
    }

    /// Forgets all states; the next decision meets them anew.
    pub(super) fn forget(&mut self) {
        self.states.clear();
        self.numbers.clear();
        self.worths.clear();
        self.rooms.clear();
        self.looked.clear();
        self.at.clear();
        self.supply = vec![0; self.kinds.len()];
        self.idle = 0;
        self.idle_cpu = 0;
        self.worth_of_all = 0;
        self.changes = 0;
        self.forget_ways();
    }

    /// Forgets where demands could go; the states stay.
    fn forget_ways(&mut self) {
        self.shapes.clear();
        self.ways.clear();
    }

    /// The number of a state.
    fn number(&mut self, rest: Rest) -> u32 {
        if let Some(&number) = self.numbers.get(&rest) {
            return number;
        }
        let number = self.states.len() as u32;
        self.numbers.insert(rest, number);
        self.states.push(rest);
        self.worths.push(None);
        self.looked.push((0, Terms::default(), 0));
        let rooms = self.kinds.iter().map(|kind| rest.room_for(&kind.typical));
        self.rooms.extend(rooms);
        number
    }

    fn rooms_of(&self, state: u32) -> &[u16] {
        let kinds = self.kinds.len();
        &self.rooms[state as usize * kinds..][..kinds]
    }

    /// Takes in what changed in the ledger.
    fn follow(&mut self, ledger: &Ledger) {
        for node in ledger.changed_since(self.changes) {
            let i = node as usize;
            let rest = Rest::of(&ledger.nodes()[i], ledger.room(node), ledger.state(node));
            let now = self.number(rest);
            let was = self.at.get(i).copied();
            for kind in 0..self.kinds.len() {
                let was = was.map_or(0, |was| self.rooms_of(was)[kind]);
                self.supply[kind] += u64::from(self.rooms_of(now)[kind]);
                self.supply[kind] -= u64::from(was);
            }
            self.idle += u64::from(rest.idle());
            self.idle_cpu += u64::from(rest.cpu_milli);
            self.worth_of_all += u64::from(self.worth(now));
            match was {
                Some(was) => {
                    self.idle -= u64::from(self.states[was as usize].idle());
                    self.idle_cpu -= u64::from(self.states[was as usize].cpu_milli);
                    self.worth_of_all -= u64::from(self.worth(was));
                    self.at[i] = now;
                }
                // Nothing was known, so all nodes come, in their order.
                None => self.at.push(now),
            }
        }
        self.changes = ledger.changes();
    }

    /// GPU that the futures would fill, summed over them, in thousandths.
    fn worth(&mut self, state: u32) -> u32 {
        if let Some(worth) = self.worths[state as usize] {
            return worth;
        }
        let rest = self.states[state as usize];
        let futures = self.futures.chunks(HORIZON);
        let worth = futures.map(|future| self.filled(rest, future)).sum();
        self.worths[state as usize] = Some(worth);
        worth
    }

    /// GPU that one future would fill.
    fn filled(&self, mut rest: Rest, future: &[Shape]) -> u32 {
        let before = rest.idle();
        let mut idle = before;
        for task in future {
            if idle < self.least_share || rest.cpu_milli < self.least_cpu {
                break;
            }
            if task.cpu_milli > rest.cpu_milli || !task.models.contains(rest.model) {
                continue;
            }
            match task.gpus {
                0 => {}
                1 => {
                    // The tightest, as the least of (what it leaves, which). Signed, because every
                    // x86-64 finds the least of eight signed words at once.
                    let mut tightest = i16::MAX;
                    for (g, &left) in (0..).zip(&rest.gpu_milli) {
                        let leaves = left as i16 - task.share as i16;
                        let key = if leaves < 0 {
                            i16::MAX
                        } else {
                            leaves << 3 | g
                        };
                        tightest = tightest.min(key);
                    }
                    if tightest == i16::MAX {
                        continue;
                    }
                    rest.gpu_milli[(tightest & 7) as usize] -= task.share;
                }
                several => {
                    if rest.with_left(WHOLE) < usize::from(several) {
                        continue;
                    }
                    let whole = rest.gpu_milli.iter_mut().filter(|left| **left == WHOLE);
                    whole.take(several.into()).for_each(|left| *left = 0);
                }
            }
            rest.cpu_milli -= task.cpu_milli;
            idle -= task.gpu_total();
        }
        before - idle
    }

    /// What room for each kind is worth now.
    fn price(&mut self) {
        self.prices.clear();
        let by_gpu = self.worth_of_all as f64 / FUTURES as f64 / self.mean_milli.max(1.0);
        let by_cpu = self.idle_cpu as f64 / self.mean_cpu_milli.max(1.0);
        let tasks = by_gpu.min(by_cpu);
        for (number, kind) in self.kinds.iter().enumerate() {
            let demand = kind.demanded * tasks;
            if demand <= 0.0 {
                continue;
            }
            let over = self.supply[number] as f64 + 0.5 - demand;
            let sigma = over / libm::sqrt(demand);
            if sigma < AMPLE_SIGMA {
                let short = 0.5 * libm::erfc(sigma * core::f64::consts::FRAC_1_SQRT_2);
                let price = short * f64::from(kind.typical.gpu_total());
                self.prices.push((number, price));
            }
        }
    }

    /// What going from one state to another costs work that takes so much GPU.
    fn terms(&mut self, from: u32, to: u32, taken: u32) -> Terms {
        let left = f64::from(self.worth(to)) / FUTURES as f64;
        let lost = f64::from(self.worth(from)) / FUTURES as f64 - left;
        let (before, after) = (self.rooms_of(from), self.rooms_of(to));
        let fewer = |kind: usize| f64::from(before[kind]) - f64::from(after[kind]);
        let scarcity = self.prices.iter().map(|&(kind, price)| fewer(kind) * price);
        Terms {
            unusable: lost - f64::from(taken),
            scarcity: scarcity.sum(),
            spread: left * SPREAD_PERCENT / 100.0,
        }
    }

    /// Where the shape could go in a state: on one of each equal GPUs.
    fn ways_of(&mut self, state: u32, shape: &Shape) -> (u32, u32) {
        let rest = self.states[state as usize];
        let first = self.ways.len() as u32;
        if rest.fits(shape) {
            let last = if shape.gpus == 1 { GPUS_MAX } else { 1 };
            for at in 0..last {
                let left = rest.gpu_milli[at];
                let equal = at > 0 && rest.gpu_milli[at - 1] == left;
                if left < shape.share || equal {
                    continue;
                }
                let state = self.number(rest.without(shape, at));
                self.ways.push(Way { state, rest: left });
            }
        }
        (first, self.ways.len() as u32)
    }

    /// Learns from so many arrivals of a demand.
    pub fn arrived(&mut self, demand: &Demand, times: u64) {
        *self.counts.entry(Shape::of(demand)).or_default() += times;
        self.total += times;
        if self.total >= 2 * self.learnt {
            self.learn();
        }
    }

    /// The place that costs least; none where the demand fits nowhere now.
    pub fn choose(&mut self, ledger: &Ledger, demand: &Demand) -> Option<Choice> {
        self.allow(FRESH_MAX);
        let (choice, _) = self.cheapest(ledger, demand)?;
        Some(choice)
    }

    /// Begins a decision, or a part of one, that may compute so many new worths in all.
    pub(super) fn allow(&mut self, worths: usize) {
        self.fresh = worths * FRESH_PER_WORTH;
    }

    /// [`Self::choose`], and what the place costs; one search of a decision that may make
    /// several.
    pub(super) fn cheapest(&mut self, ledger: &Ledger, demand: &Demand) -> Option<(Choice, f64)> {
        let mut best: Option<(f64, u32, u16)> = None;
        self.weigh(ledger, demand, |node, place| {
            let Some((terms, rest)) = place else {
                return;
            };
            let cost = terms.cost();
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, node, rest));
            }
        });
        let (cost, node, rest) = best?;
        let gpus = gpus_of(ledger.room(node), demand, rest);
        let score = score(cost);
        Some((Choice { node, gpus, score }, cost))
    }

    /// Tells of every node where the demand fits, in their order, what its best place
    /// there costs and how much the GPU to take has left; none for a node that was not
    /// looked at because the decision had enough to do ([`FRESH_MAX`]).
    pub(super) fn weigh(
        &mut self,
        ledger: &Ledger,
        demand: &Demand,
        mut tell: impl FnMut(u32, Option<(Terms, u16)>),
    ) {
        if self.states.len() > STATES_MAX {
            self.forget();
        }
        // Where everybody asks for something else nothing kept of a shape is of use.
        if self.shapes.len() >= SHAPES_MAX || self.ways.len() > WAYS_MAX {
            self.forget_ways();
        }
        let shape = Shape::of(demand);
        self.follow(ledger);
        self.price();
        self.searches += 1;
        let mut places = self.shapes.remove(&shape).unwrap_or_default();
        places.each.resize(ledger.nodes().len(), None);
        for node in ledger.changed_since(places.changes) {
            places.each[node as usize] = None;
        }
        places.changes = ledger.changes();

        let mut any = false;
        for node in 0..ledger.nodes().len() as u32 {
            if !ledger.fits(node, demand) {
                continue;
            }
            let state = self.at[node as usize];
            let (when, mut least, mut rest) = self.looked[state as usize];
            if when != self.searches {
                let spent = self.fresh == 0 && any;
                let place = &mut places.each[node as usize];
                let (first, last) = match *place {
                    Some(known) => known,
                    None if spent => {
                        tell(node, None);
                        continue;
                    }
                    None => {
                        self.fresh = self.fresh.saturating_sub(1);
                        *place.insert(self.ways_of(state, &shape))
                    }
                };
                let ways = first as usize..last as usize;
                let unknown = (self.ways[ways.clone()].iter())
                    .filter(|o| self.worths[o.state as usize].is_none())
                    .count();
                if unknown > 0 && spent {
                    tell(node, None);
                    continue;
                }
                self.fresh = self.fresh.saturating_sub(unknown * FRESH_PER_WORTH);
                let mut cost = f64::INFINITY;
                for i in ways {
                    let way = self.ways[i];
                    let terms = self.terms(state, way.state, demand.gpu_total());
                    if terms.cost() < cost {
                        (cost, least, rest) = (terms.cost(), terms, way.rest);
                    }
                }
                self.looked[state as usize] = (self.searches, least, rest);
            }
            any = true;
            tell(node, Some((least, rest)));
        }
        self.shapes.insert(shape, places);
    }

    /// The GPUs of a node where the demand, which fits there, costs least.
    pub(super) fn gpus(&mut self, ledger: &Ledger, node: u32, demand: &Demand) -> u8 {
        let room = ledger.room(node);
        let rest = self.place_on(ledger, node, demand).map(|(_, rest)| rest);
        rest.map_or_else(|| room.snuggest(demand), |rest| gpus_of(room, demand, rest))
    }

    /// What its place would cost work that is there, if it came only now. After
    /// [`Self::refresh`].
    pub(super) fn regret(
        &mut self,
        ledger: &Ledger,
        node: u32,
        demand: &Demand,
        claim: &Claim,
    ) -> f64 {
        let mut freed = Rest::unsorted(
            &ledger.nodes()[node as usize],
            ledger.room(node),
            ledger.state(node),
        );
        freed.cpu_milli += demand.cpu_milli;
        for g in 0..GPUS_MAX {
            if claim.gpus >> g & 1 == 1 {
                freed.gpu_milli[g] += demand.share();
            }
        }
        let freed = self.number(freed.sorted());
        let at = self.at[node as usize];
        self.terms(freed, at, demand.gpu_total()).cost()
    }

    /// Takes in what changed, so that [`Self::regret`] is of this moment, and tells how
    /// much GPU is idle, in thousandths.
    pub(super) fn refresh(&mut self, ledger: &Ledger) -> u64 {
        if self.states.len() > STATES_MAX {
            self.forget();
        }
        self.follow(ledger);
        self.price();
        self.idle
    }

    /// What the demand would cost on a node, on the GPU where it costs least; none where
    /// it does not fit.
    pub fn explain(&mut self, ledger: &Ledger, node: u32, demand: &Demand) -> Option<Terms> {
        self.place_on(ledger, node, demand).map(|(terms, _)| terms)
    }

    fn place_on(&mut self, ledger: &Ledger, node: u32, demand: &Demand) -> Option<(Terms, u16)> {
        self.follow(ledger);
        self.price();
        if !ledger.fits(node, demand) {
            return None;
        }
        let state = self.at[node as usize];
        let (first, last) = self.ways_of(state, &Shape::of(demand));
        let ways = self.ways.split_off(first as usize);
        debug_assert_eq!(ways.len(), (last - first) as usize);
        let terms = ways
            .iter()
            .map(|o| (self.terms(state, o.state, demand.gpu_total()), o.rest));
        terms.min_by(|(a, _), (b, _)| a.cost().total_cmp(&b.cost()))
    }
}

/// The GPUs to take: for a share the first with just this much left.
fn gpus_of(room: &Room, demand: &Demand, rest: u16) -> u8 {
    if demand.gpus != 1 || demand.share() == 0 {
        return room.snuggest(demand);
    }
    let at = room.gpu_milli.iter().position(|&left| left == rest);
    at.map_or(0, |g| 1 << g)
}

/// A cost as a score, of which more is better: thousandths of a GPU below 100 GPUs.
fn score(cost: f64) -> u32 {
    (100_000.0 - libm::round(cost)).clamp(0.0, f64::from(u32::MAX)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cases::{demand, node};
    use proptest::prelude::*;

    fn told(list: &[Demand], ledger: &Ledger) -> Cosmos {
        Cosmos::new(&Typical::of(list), ledger.nodes())
    }

    fn cost_on(cosmos: &mut Cosmos, ledger: &Ledger, node: u32, demand: &Demand) -> Terms {
        let terms = cosmos.explain(ledger, node, demand);
        terms.expect("it fits there")
    }

    #[test]
    fn gpu_that_no_work_to_come_has_the_cpu_for_is_unusable() {
        // Everyone wants a whole GPU and 8 CPUs; 16 are there for two GPUs. Who takes 9
        // CPUs leaves 7 and a GPU that nobody can use: 1,000. Who takes 8 leaves all.
        let ledger = Ledger::new(vec![node(16_000, 2, 0), node(64_000, 2, 0)]);
        let mut cosmos = told(&[demand(8_000, 1, 1_000)], &ledger);
        let heavy = demand(9_000, 1, 1_000);
        assert_eq!(cost_on(&mut cosmos, &ledger, 0, &heavy).unusable, 1_000.0);
        assert_eq!(cost_on(&mut cosmos, &ledger, 1, &heavy).unusable, 0.0);
        let usual = demand(8_000, 1, 1_000);
        assert_eq!(cost_on(&mut cosmos, &ledger, 0, &usual).unusable, 0.0);
        // Work without GPUs that takes the CPU of one of them costs that GPU.
        let plain = demand(1_000, 0, 0);
        assert_eq!(cost_on(&mut cosmos, &ledger, 0, &plain).unusable, 1_000.0);
        assert_eq!(cosmos.choose(&ledger, &plain).unwrap().node, 1);
    }

    #[test]
    fn a_share_goes_where_the_rest_of_the_gpu_is_of_use() {
        // Everyone takes 400. Of a whole GPU 200 stay that nobody takes, so it is worth
        // 800, and with 600 taken 400. The 600 cost nothing on a whole GPU, and would
        // cost what is taken from 800 left: 200 stay, of 800: 800 − 0 − 600 = 200.
        let mut ledger = Ledger::new(vec![node(64_000, 2, 0)]);
        let mut cosmos = told(&[demand(1_000, 1, 400)], &ledger);
        let large = demand(1_000, 1, 600);
        assert_eq!(cost_on(&mut cosmos, &ledger, 0, &large).unusable, -200.0);
        let claim = ledger.claim_on(0, &demand(1_000, 1, 200), 0b01);
        claim.expect("an empty node takes it");
        assert_eq!(cost_on(&mut cosmos, &ledger, 0, &large).unusable, -200.0);
        assert_eq!(cosmos.choose(&ledger, &large).unwrap().gpus, 0b10);
    }

    #[test]
    fn searches_of_one_decision_share_what_it_may_compute() {
        // No two nodes are alike, so every place of every demand is a new state.
        let nodes: Vec<_> = (0..64).map(|n| node(64_000 + 1_000 * n, 8, 0)).collect();
        let ledger = Ledger::new(nodes);
        let known = |cosmos: &Cosmos| cosmos.worths.iter().flatten().count();
        let usual = demand(8_000, 1, 1_000);
        let odd = |n: u16| demand(1_000 + 100 * u32::from(n), 1, 110 + 10 * n);
        let mut together = told(&[usual], &ledger);
        together.refresh(&ledger);
        let before = known(&together);
        together.allow(16);
        let found = (0..10).filter(|&n| together.cheapest(&ledger, &odd(n)).is_some());
        assert_eq!(found.count(), 10, "each finds a place all the same");
        let together = known(&together) - before;
        let mut alone = told(&[usual], &ledger);
        alone.refresh(&ledger);
        let before = known(&alone);
        for n in 0..10 {
            alone.allow(16);
            alone.cheapest(&ledger, &odd(n));
        }
        let alone = known(&alone) - before;
        // The sixteen, and what the first place of each search costs.
        assert!(together <= 16 + 10 * 2, "{together}");
        assert!(alone >= 3 * (16 + 10 * 2), "{alone}");
    }

    #[test]
    fn the_fuller_of_two_nodes_that_cost_the_same() {
        let mut ledger = Ledger::new(vec![node(64_000, 4, 0), node(64_000, 4, 0)]);
        let mut cosmos = told(&[demand(1_000, 1, 1_000)], &ledger);
        let one = demand(1_000, 1, 1_000);
        ledger.claim(1, &one).unwrap();
        let (first, second) = (
            cost_on(&mut cosmos, &ledger, 0, &one),
            cost_on(&mut cosmos, &ledger, 1, &one),
        );
        // A hundredth of 3,000 and of 2,000 left.
        assert_eq!((first.spread, second.spread), (30.0, 20.0));
        assert_eq!((first.unusable, second.unusable), (0.0, 0.0));
        assert_eq!(cosmos.choose(&ledger, &one).unwrap().node, 1);
    }

    #[test]
    fn room_has_a_price_once_it_may_run_short() {
        let gang = demand(8_000, 8, 1_000);
        let one = demand(1_000, 1, 1_000);
        // One in nine is a gang, so half of the GPU asked for is asked for by gangs.
        let list = [[one; 8].as_slice(), &[gang]].concat();
        let mut ledger = Ledger::new(vec![node(64_000, 8, 0); 2]);
        let mut cosmos = told(&list, &ledger);
        // 16 idle GPUs are 9 tasks of 16/9 GPUs, one of them a gang; there is room for 2.
        // P(Poisson(1) > 2) in the normal approximation: ½ erfc((2.5 − 1) ÷ √2) = 0.0668.
        let gangs = 0.066_807_2 * 8_000.0;
        // Singles, or more: 16 of them, with room for 16: ½ erfc(0.5 ÷ 4 ÷ √2) = 0.4503.
        let singles = 0.450_261_8 * 1_000.0;
        let terms = cost_on(&mut cosmos, &ledger, 0, &one);
        assert!((terms.scarcity - gangs - singles).abs() < 0.1, "{terms:?}");
        // Once no node is whole there is no room for gangs left to lose.
        for node in 0..2 {
            ledger.claim(node, &one).unwrap();
        }
        let terms = cost_on(&mut cosmos, &ledger, 0, &one);
        assert!(terms.scarcity < 1_000.0, "{terms:?}");
    }

    #[test]
    fn scarce_models_are_kept_for_those_who_need_them() {
        // Every other task needs model 1, of which there is one node in four.
        let one = demand(1_000, 1, 1_000);
        let bound = Demand {
            models: Models(0b10),
            ..one
        };
        let nodes = vec![node(64_000, 4, 1), node(64_000, 8, 0), node(64_000, 4, 0)];
        let ledger = Ledger::new(nodes);
        let mut cosmos = told(&[one, bound], &ledger);
        assert_ne!(cosmos.choose(&ledger, &one).unwrap().node, 0);
        assert_eq!(cosmos.choose(&ledger, &bound).unwrap().node, 0);
    }

    #[test]
    fn it_learns_from_who_arrives() {
        let ledger = Ledger::new(vec![node(16_000, 2, 0), node(64_000, 2, 0)]);
        let mut cosmos = told(&[], &ledger);
        // Knowing nothing, the first of equals; knowing that GPUs come with 8 CPUs each,
        // the node that has CPUs to spare.
        let plain = demand(1_000, 0, 0);
        assert_eq!(cosmos.choose(&ledger, &plain).unwrap().node, 0);
        for _ in 0..4 {
            cosmos.arrived(&demand(8_000, 1, 1_000), 1);
        }
        assert_eq!(cosmos.choose(&ledger, &plain).unwrap().node, 1);
    }

    #[test]
    fn work_that_needs_many_cpus_is_another_kind_than_work_that_fits_everywhere() {
        // Gangs of eight: most run anywhere, one in four needs 100 CPUs, which one node has.
        let (usual, heavy) = (demand(64_000, 8, 1_000), demand(100_000, 8, 1_000));
        let nodes = vec![node(128_000, 8, 0), node(64_000, 8, 0)];
        let ledger = Ledger::new(nodes);
        let mut cosmos = told(&[usual, usual, usual, heavy], &ledger);
        assert_eq!(cosmos.kinds.len(), 2);
        assert_eq!(cosmos.choose(&ledger, &usual).unwrap().node, 1);
    }

    #[test]
    fn where_cpus_run_out_first_idle_gpu_is_not_work_to_come() {
        // Forty nodes of 8 GPUs with CPU for one task each: 40 will come, not 320. Work
        // that fits no node does not count.
        let ledger = Ledger::new(vec![node(8_000, 8, 0); 40]);
        let one = demand(8_000, 1, 1_000);
        let mut cosmos = told(&[one, demand(200_000, 8, 1_000)], &ledger);
        let terms = cost_on(&mut cosmos, &ledger, 0, &one);
        // 40 come where there is room for 40: ½ erfc(0.5 ÷ √40 ÷ √2) = 0.4685.
        assert!((terms.scarcity - 468.5).abs() < 0.1, "{terms:?}");
        // The node is full then: no GPU is left that work to come would fill.
        assert_eq!(terms.spread, 0.0);
    }

    #[test]
    fn a_node_that_takes_no_work_is_no_room() {
        let one = demand(1_000, 1, 1_000);
        let mut ledger = Ledger::new(vec![node(64_000, 8, 0), node(64_000, 8, 0)]);
        let mut cosmos = told(&[one], &ledger);
        ledger.set_state(0, State::Parked);
        assert_eq!(cosmos.choose(&ledger, &one).unwrap().node, 1);
        assert_eq!((cosmos.supply[0], cosmos.idle), (8, 8_000));
        ledger.set_state(0, State::Open);
        assert_eq!(cosmos.choose(&ledger, &one).unwrap().node, 0);
        assert_eq!((cosmos.supply[0], cosmos.idle), (16, 16_000));
    }

    fn any_shape() -> impl Strategy<Value = Shape> {
        let cpus = prop::sample::select(vec![0_u32, 1_000, 4_000, 8_000]);
        let shares = prop::sample::select(vec![100_u16, 300, 500, 1_000]);
        (cpus, 0..5_u8, shares, 0..4_u32).prop_map(|(cpu_milli, gpus, gpu_milli, models)| {
            let models = if models == 0 {
                Models::ANY
            } else {
                Models(models)
            };
            Shape::of(&Demand {
                cpu_milli,
                memory_mib: 0,
                gpus,
                gpu_milli,
                models,
            })
        })
    }

    proptest! {
        /// One future, played on a ledger as the live system would.
        #[test]
        fn a_future_fills_what_the_ledger_would_give_it(
            future in prop::collection::vec(any_shape(), 1..80),
            gpus in 0..9_u8,
            cpus in 0..40_u32,
            model in 0..2_u8,
        ) {
            let node = node(cpus * 1_000, gpus, model);
            let mut ledger = Ledger::new(vec![node]);
            let rest = Rest::of(&node, ledger.room(0), State::Open);
            let filled = told(&[], &ledger).filled(rest, &future);
            let mut expected = 0;
            for shape in &future {
                let demand = Demand {
                    cpu_milli: shape.cpu_milli,
                    memory_mib: 0,
                    gpus: shape.gpus,
                    gpu_milli: shape.share,
                    models: shape.models,
                };
                if ledger.claim(0, &demand).is_some() {
                    expected += demand.gpu_total();
                }
            }
            prop_assert_eq!(filled, expected);
        }

        /// What is kept per state is what the ledger says.
        #[test]
        fn room_for_a_kind_is_how_often_it_can_be_claimed(
            shape in any_shape().prop_filter("asks for GPUs", |s| s.gpus > 0 && s.cpu_milli > 0),
            gpus in 0..9_u8,
            cpus in 0..40_u32,
        ) {
            let node = node(cpus * 1_000, gpus, 0);
            let mut ledger = Ledger::new(vec![node]);
            let room = Rest::of(&node, ledger.room(0), State::Open).room_for(&shape);
            let demand = Demand {
                cpu_milli: shape.cpu_milli,
                memory_mib: 0,
                gpus: shape.gpus,
                gpu_milli: shape.share,
                models: shape.models,
            };
            let claims = core::iter::from_fn(|| ledger.claim(0, &demand)).count();
            prop_assert_eq!(usize::from(room), claims);
        }
    }
}
