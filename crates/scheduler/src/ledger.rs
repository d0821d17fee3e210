//! What is free where?
//!
//! The books of a GPU site: for each node its free CPU, memory and GPU shares.
//! Every entry changes by the one claim that was made or returned, and what a
//! search asks most often, the widest free share and the number of untouched
//! GPUs, is kept beside it, so looking at a node costs a few comparisons.
//!
//! A share of a GPU always comes from a single GPU. Work for several GPUs takes
//! them whole. This is how GPU sharing works where it is in use (time slices and
//! memory limits on one device), and how the openb trace counts it.

use alloc::sync::Arc;
use alloc::vec::Vec;

/// Most GPUs in one node; a [`Claim`] names them in the bits of a byte.
pub const GPUS_MAX: usize = 8;
/// A whole GPU, in thousandths.
pub const WHOLE: u16 = 1_000;

/// A node as built: what it has, where its heat goes, and how much it can make.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Node {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
    /// Number of GPUs, at most [`GPUS_MAX`].
    pub gpus: u8,
    /// Number of their model, below 32.
    pub model: u8,
    /// The cooling loop that takes its heat.
    pub coolant: u16,
    /// Its rack; numbers count from 0 over the whole site.
    pub rack: u32,
    /// The row of its rack.
    pub row: u32,
    /// Heat it makes when switched on and idle, in watts.
    pub idle_watts: f64,
    /// What one busy GPU makes beyond that at full clock, in watts.
    pub gpu_watts: f64,
    /// What all its CPUs, busy, make beyond that at full clock, in watts.
    pub cpu_watts: f64,
}

/// A set of GPU models, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Models(pub u32);

impl Models {
    /// Any will do.
    pub const ANY: Self = Self(u32::MAX);

    /// Whether this model is among them.
    #[must_use]
    pub const fn contains(self, model: u8) -> bool {
        self.0 >> model & 1 == 1
    }
}

/// What a piece of work needs at once, all of it on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
    /// How many GPUs.
    pub gpus: u8,
    /// The share of a single GPU, in thousandths; several are taken whole.
    pub gpu_milli: u16,
    /// On which of the models.
    pub models: Models,
}

impl Demand {
    /// The share it takes of each of its GPUs.
    #[must_use]
    pub const fn share(&self) -> u16 {
        match self.gpus {
            0 => 0,
            1 => self.gpu_milli,
            _ => WHOLE,
        }
    }

    /// Its bit in [`Room::kinds`]; 0 if it takes no GPU.
    #[must_use]
    pub const fn kind(&self) -> u16 {
        match kind(self.gpus as u32, self.share()) {
            None => 0,
            Some(kind) => 1 << kind,
        }
    }

    /// GPU it takes in all, in thousandths.
    #[must_use]
    pub const fn gpu_total(&self) -> u32 {
        self.gpus as u32 * self.share() as u32
    }

    /// Heat it makes on such a node beyond idling, in watts.
    #[must_use]
    pub fn watts_on(&self, node: &Node) -> f64 {
        let gpu = f64::from(self.gpu_total()) / f64::from(WHOLE) * node.gpu_watts;
        let cpu = f64::from(self.cpu_milli) / f64::from(node.cpu_milli.max(1)) * node.cpu_watts;
        gpu + cpu
    }
}

/// What was given to a piece of work on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Which GPUs, a bit each.
    pub gpus: u8,
    /// The share of each of them, in thousandths.
    pub share: u16,
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
}

impl Claim {
    const fn new(demand: &Demand, gpus: u8) -> Self {
        Self {
            gpus,
            share: demand.share(),
            cpu_milli: demand.cpu_milli,
            memory_mib: demand.memory_mib,
        }
    }
}

/// How claims use GPUs: a share of one, or this many whole ones.
const KINDS: usize = GPUS_MAX + 1;

/// What is free on one node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Room {
    /// Thousandths of a CPU.
    pub cpu_milli: u32,
    /// Memory.
    pub memory_mib: u32,
    /// The share left of each GPU, in thousandths; 0 where there is no GPU.
    pub gpu_milli: [u16; GPUS_MAX],
    /// Their sum.
    pub gpu_total: u16,
    /// The largest of them.
    pub gpu_widest: u16,
    /// How many of them are untouched.
    pub gpu_whole: u8,
    claims: u16,
    /// How many claims hold a share of one GPU, at 0, or so many whole ones.
    kinds: [u16; KINDS],
    state: State,
}

/// Whether a node takes work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Open,
    /// It is switched off for a while and keeps nothing.
    Parked,
    /// It is gone for good.
    Lost,
}

impl Room {
    fn of(node: &Node) -> Self {
        let mut room = Self {
            cpu_milli: node.cpu_milli,
            memory_mib: node.memory_mib,
            gpu_milli: [0; GPUS_MAX],
            gpu_total: 0,
            gpu_widest: 0,
            gpu_whole: 0,
            claims: 0,
            kinds: [0; KINDS],
            state: State::Open,
        };
        room.gpu_milli[..usize::from(node.gpus)].fill(WHOLE);
        room.tally();
        room
    }

    fn tally(&mut self) {
        self.gpu_total = self.gpu_milli.iter().sum();
        self.gpu_widest = self.gpu_milli.iter().copied().max().unwrap_or(0);
        self.gpu_whole = self.gpu_milli.iter().filter(|&&m| m == WHOLE).count() as u8;
    }

    fn give_back(&mut self, claim: &Claim) {
        self.cpu_milli += claim.cpu_milli;
        self.memory_mib += claim.memory_mib;
        for g in (0..GPUS_MAX).filter(|g| claim.gpus >> g & 1 == 1) {
            self.gpu_milli[g] += claim.share;
        }
    }

    /// Whether it takes work.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open)
    }

    pub(crate) const fn holds(&self, demand: &Demand) -> bool {
        self.is_open()
            && demand.cpu_milli <= self.cpu_milli
            && demand.memory_mib <= self.memory_mib
            && match demand.gpus {
                0 => true,
                1 => demand.gpu_milli <= self.gpu_widest,
                n => n <= self.gpu_whole,
            }
    }

    /// The GPUs of a claim that takes the least it can: for a share the GPU with
    /// the least room that is enough, otherwise untouched ones; the first of equals.
    /// A bit each; meaningless for a demand that does not fit.
    #[must_use]
    pub fn snuggest(&self, demand: &Demand) -> u8 {
        let share = demand.share();
        if demand.gpus == 1 {
            let roomy =
                (0..GPUS_MAX).filter(|&g| self.gpu_milli[g] >= share && self.gpu_milli[g] > 0);
            return roomy
                .min_by_key(|&g| self.gpu_milli[g])
                .map_or(0, |g| 1 << g);
        }
        let whole = (0..GPUS_MAX).filter(|&g| self.gpu_milli[g] == WHOLE);
        (whole.take(demand.gpus.into())).fold(0, |gpus, g| gpus | 1 << g)
    }

    /// How many tasks with this demand it holds side by side; models are not looked at.
    #[must_use]
    pub fn copies(&self, demand: &Demand) -> u32 {
        if !self.holds(demand) {
            return 0;
        }
        let of = |have: u32, each: u32| have.checked_div(each).unwrap_or(u32::MAX);
        let gpu = match demand.gpus {
            0 => u32::MAX,
            1 if demand.gpu_milli == 0 => u32::MAX,
            1 => (self.gpu_milli.iter())
                .map(|&free| u32::from(free / demand.gpu_milli))
                .sum(),
            n => u32::from(self.gpu_whole / n),
        };
        gpu.min(of(self.cpu_milli, demand.cpu_milli))
            .min(of(self.memory_mib, demand.memory_mib))
            .min(u16::MAX.into())
    }

    /// Takes what the demand asks for, as [`Ledger::claim`] does.
    pub(crate) fn claim(&mut self, demand: &Demand) -> Claim {
        let claim = Claim::new(demand, self.snuggest(demand));
        self.hold(&claim);
        claim
    }

    /// Whether what a claim names is free.
    pub(crate) fn has(&self, claim: &Claim) -> bool {
        let gpus = (0..GPUS_MAX).filter(|g| claim.gpus >> g & 1 == 1);
        claim.cpu_milli <= self.cpu_milli
            && claim.memory_mib <= self.memory_mib
            && gpus.into_iter().all(|g| claim.share <= self.gpu_milli[g])
    }

    /// Takes what a claim names.
    pub(crate) fn hold(&mut self, claim: &Claim) {
        self.cpu_milli -= claim.cpu_milli;
        self.memory_mib -= claim.memory_mib;
        for g in (0..GPUS_MAX).filter(|g| claim.gpus >> g & 1 == 1) {
            self.gpu_milli[g] -= claim.share;
        }
        self.claims += 1;
        if let Some(kind) = kind(claim.gpus.count_ones(), claim.share) {
            self.kinds[kind] += 1;
        }
        self.tally();
    }

    /// How GPUs are used there: bit 0 is set if a claim holds a share of one, bit
    /// *n* if a claim holds *n* whole ones.
    #[must_use]
    pub fn kinds(&self) -> u16 {
        (0..KINDS).fold(0, |set, kind| set | u16::from(self.kinds[kind] > 0) << kind)
    }
}

/// The bit of [`Room::kinds`] that work of so many GPUs and such a share of each
/// falls under; none without GPUs.
const fn kind(gpus: u32, share: u16) -> Option<usize> {
    match (gpus, share) {
        (0, _) => None,
        (1, share) if share < WHOLE => Some(0),
        (gpus, _) => Some(gpus as usize),
    }
}

/// What a node lacks for a demand, in the order in which it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lack {
    /// It is lost.
    Lost,
    /// It is switched off for a while.
    Parked,
    /// It has another GPU model.
    Model,
    /// CPU.
    Cpu,
    /// Memory.
    Memory,
    /// GPUs, or the share of one.
    Gpu,
}

/// Every node's books.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// Shared between copies, which are made to ask "what if".
    nodes: Arc<[Node]>,
    rooms: Vec<Room>,
    /// How often anything changed, and that count at each node's last change.
    changes: u64,
    changed: Vec<u64>,
    /// One over the CPUs of the largest node, for scores between 0 and 1.
    per_cpu: f64,
}

impl Ledger {
    /// A site of empty nodes.
    ///
    /// # Panics
    /// If a node has more GPUs than [`GPUS_MAX`].
    #[must_use]
    pub fn new(nodes: Vec<Node>) -> Self {
        assert!(nodes.iter().all(|n| usize::from(n.gpus) <= GPUS_MAX));
        let cpu_max = nodes.iter().map(|n| n.cpu_milli).max().unwrap_or(1).max(1);
        Self {
            rooms: nodes.iter().map(Room::of).collect(),
            changes: 1,
            changed: alloc::vec![1; nodes.len()],
            per_cpu: 1.0 / f64::from(cpu_max),
            nodes: nodes.into(),
        }
    }

    /// The nodes as built.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What is free on a node.
    #[inline]
    #[must_use]
    pub fn room(&self, node: u32) -> &Room {
        &self.rooms[node as usize]
    }

    /// How often anything changed. Whoever keeps what was true of a node notes this
    /// beside it.
    #[must_use]
    pub const fn changes(&self) -> u64 {
        self.changes
    }

    /// The nodes that changed since [`Self::changes`] was this; all of them if it
    /// was 0.
    #[inline]
    pub fn changed_since(&self, changes: u64) -> impl Iterator<Item = u32> + '_ {
        let changed = self.changed.iter().zip(0_u32..);
        changed.filter_map(move |(&at, node)| (at > changes).then_some(node))
    }

    fn touch(&mut self, node: u32) {
        self.changes += 1;
        self.changed[node as usize] = self.changes;
    }

    /// Whether the demand fits there now.
    #[inline]
    #[must_use]
    pub fn fits(&self, node: u32, demand: &Demand) -> bool {
        let i = node as usize;
        self.rooms[i].holds(demand)
            && (demand.gpus == 0 || demand.models.contains(self.nodes[i].model))
    }

    /// Whether the demand would fit there once these claims were returned.
    #[must_use]
    pub fn would_fit<'c>(
        &self,
        node: u32,
        demand: &Demand,
        returned: impl IntoIterator<Item = &'c Claim>,
    ) -> bool {
        let i = node as usize;
        if demand.gpus > 0 && !demand.models.contains(self.nodes[i].model) {
            return false;
        }
        let mut room = self.rooms[i];
        for claim in returned {
            room.give_back(claim);
        }
        room.tally();
        room.holds(demand)
    }

    /// What the node lacks first for the demand; nothing if it fits.
    #[inline]
    #[must_use]
    pub fn lacks(&self, node: u32, demand: &Demand) -> Option<Lack> {
        let (built, room) = (&self.nodes[node as usize], &self.rooms[node as usize]);
        if room.state != State::Open {
            Some(match room.state {
                State::Lost => Lack::Lost,
                State::Parked | State::Open => Lack::Parked,
            })
        } else if demand.gpus > 0 && !demand.models.contains(built.model) {
            Some(Lack::Model)
        } else if demand.cpu_milli > room.cpu_milli {
            Some(Lack::Cpu)
        } else if demand.memory_mib > room.memory_mib {
            Some(Lack::Memory)
        } else {
            (!room.holds(demand)).then_some(Lack::Gpu)
        }
    }

    /// How many tasks with this demand fit there now.
    #[inline]
    #[must_use]
    pub fn copies(&self, node: u32, demand: &Demand) -> u32 {
        if self.fits(node, demand) {
            self.rooms[node as usize].copies(demand)
        } else {
            0
        }
    }

    /// How many would fit there, were it open and empty.
    #[must_use]
    pub fn copies_when_built(&self, node: u32, demand: &Demand) -> u32 {
        let built = &self.nodes[node as usize];
        let allowed = demand.gpus == 0 || demand.models.contains(built.model);
        if !allowed || demand.share() > WHOLE {
            0
        } else {
            Room::of(built).copies(demand)
        }
    }

    /// How loosely the demand would sit there, 0 for a perfect fit to 1: the
    /// mean of the CPU left over the largest node's and the GPU left over eight
    /// (BestFit of Weng et al., *Beware of Fragmentation*, ATC 2023, § 6.1).
    #[inline]
    #[must_use]
    pub fn looseness(&self, node: u32, demand: &Demand) -> f64 {
        let room = &self.rooms[node as usize];
        let cpu = f64::from(room.cpu_milli - demand.cpu_milli) * self.per_cpu;
        let gpu = f64::from(u32::from(room.gpu_total) - demand.gpu_total());
        0.5 * cpu + 0.5 * gpu / (GPUS_MAX as f64 * f64::from(WHOLE))
    }

    /// The node that comes nearest to the demand among those of its models, and
    /// how much of what it lacks is there: found and asked, in the unit of the
    /// first thing missing (thousandths of GPU, thousandths of CPU, MiB).
    #[must_use]
    pub fn nearest(&self, demand: &Demand) -> (u32, f64, f64) {
        let asked = demand.gpu_total();
        let gpu_of = |room: &Room| match demand.gpus {
            0 => 0,
            1 => u32::from(room.gpu_widest),
            _ => u32::from(room.gpu_whole) * u32::from(WHOLE),
        };
        let candidates = self.nodes.iter().zip(&self.rooms).zip(0_u32..);
        let allowed = candidates.filter(|((node, room), _)| {
            room.state == State::Open && (demand.gpus == 0 || demand.models.contains(node.model))
        });
        // Enough GPU first, then the most CPU; the first node among equals.
        let best = allowed.max_by_key(|((_, room), i)| {
            let gpu = gpu_of(room).min(asked);
            let cpu = room.cpu_milli.min(demand.cpu_milli);
            (gpu, cpu, room.memory_mib, u32::MAX - i)
        });
        let Some(((_, room), node)) = best else {
            return (0, 0.0, f64::from(asked.max(demand.cpu_milli)));
        };
        let shortage = [
            (gpu_of(room), asked),
            (room.cpu_milli, demand.cpu_milli),
            (room.memory_mib, demand.memory_mib),
        ]
        .into_iter()
        .find(|(found, asked)| found < asked);
        let (found, asked) = shortage.unwrap_or((asked, asked));
        (node, f64::from(found), f64::from(asked))
    }

    /// Gives the demand its share of a node, or nothing if it does not fit. Which
    /// GPUs it gets says [`Room::snuggest`].
    pub fn claim(&mut self, node: u32, demand: &Demand) -> Option<Claim> {
        if !self.fits(node, demand) {
            return None;
        }
        let gpus = self.room(node).snuggest(demand);
        Some(self.take(node, demand, gpus))
    }

    /// Gives the demand these GPUs of a node, a bit each; nothing if it does not fit
    /// there, or not on those, or they are too few or too many.
    pub fn claim_on(&mut self, node: u32, demand: &Demand, gpus: u8) -> Option<Claim> {
        let room = self.room(node);
        let share = demand.share().max(1);
        let roomy = (0..GPUS_MAX).all(|g| gpus >> g & 1 == 0 || room.gpu_milli[g] >= share);
        let right = gpus.count_ones() == u32::from(demand.gpus) && roomy;
        (right && self.fits(node, demand)).then(|| self.take(node, demand, gpus))
    }

    fn take(&mut self, node: u32, demand: &Demand, gpus: u8) -> Claim {
        let claim = Claim::new(demand, gpus);
        self.hold(node, &claim);
        claim
    }

    /// Takes exactly what a claim names, as after [`Self::release`].
    ///
    /// # Panics
    /// If it is not free.
    pub fn hold(&mut self, node: u32, claim: &Claim) {
        self.touch(node);
        self.rooms[node as usize].hold(claim);
    }

    /// Returns what was claimed.
    ///
    /// # Panics
    /// If more comes back than the node has: a claim was returned twice.
    pub fn release(&mut self, node: u32, claim: &Claim) {
        self.touch(node);
        let built = &self.nodes[node as usize];
        let room = &mut self.rooms[node as usize];
        room.give_back(claim);
        let whole = room.gpu_milli.iter().all(|&left| left <= WHOLE);
        assert!(whole, "a GPU share was returned twice");
        assert!(
            room.cpu_milli <= built.cpu_milli && room.memory_mib <= built.memory_mib,
            "a claim was returned twice"
        );
        room.claims -= 1;
        if let Some(kind) = kind(claim.gpus.count_ones(), claim.share) {
            room.kinds[kind] -= 1;
        }
        room.tally();
    }

    /// GPU claimed on a node, in thousandths.
    #[must_use]
    pub fn gpu_claimed(&self, node: u32) -> u32 {
        let built = u32::from(self.nodes[node as usize].gpus) * u32::from(WHOLE);
        built - u32::from(self.rooms[node as usize].gpu_total)
    }

    /// How many claims a node carries.
    #[must_use]
    pub fn claims(&self, node: u32) -> u16 {
        self.rooms[node as usize].claims
    }

    /// Claims stay when a node's state changes; whoever changes it returns them.
    pub fn set_state(&mut self, node: u32, state: State) {
        self.touch(node);
        self.rooms[node as usize].state = state;
    }

    /// Whether a node takes work.
    #[must_use]
    pub fn state(&self, node: u32) -> State {
        self.rooms[node as usize].state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    fn node(gpus: u8, model: u8) -> Node {
        Node {
            cpu_milli: 16_000,
            memory_mib: 65_536,
            gpus,
            model,
            coolant: 0,
            rack: 0,
            row: 0,
            idle_watts: 100.0,
            gpu_watts: 200.0,
            cpu_watts: 100.0,
        }
    }

    fn demand(cpu_milli: u32, gpus: u8, gpu_milli: u16) -> Demand {
        Demand {
            cpu_milli,
            memory_mib: 1_024,
            gpus,
            gpu_milli,
            models: Models::ANY,
        }
    }

    #[test]
    fn a_share_comes_from_one_gpu_and_from_the_fullest_that_has_it() {
        let mut ledger = Ledger::new(vec![node(2, 0)]);
        let mut take = |milli| ledger.claim(0, &demand(1_000, 1, milli)).map(|c| c.gpus);
        assert_eq!(take(600), Some(0b01));
        assert_eq!(take(600), Some(0b10));
        // 400 + 400 are free, but on two GPUs.
        assert_eq!(take(500), None);
        assert_eq!(take(300), Some(0b01));
        assert_eq!(take(400), Some(0b10));
    }

    #[test]
    fn several_gpus_are_taken_whole() {
        let mut ledger = Ledger::new(vec![node(4, 0)]);
        ledger.claim(0, &demand(1_000, 1, 10)).unwrap();
        assert_eq!(ledger.claim(0, &demand(1_000, 4, 1_000)), None);
        let claim = ledger.claim(0, &demand(1_000, 3, 1_000)).unwrap();
        assert_eq!((claim.gpus, claim.share), (0b1110, WHOLE));
    }

    #[test]
    fn a_model_that_is_not_allowed_does_not_fit_but_work_without_gpus_does() {
        let ledger = Ledger::new(vec![node(1, 3)]);
        let picky = |gpus| Demand {
            models: Models(0b0001),
            ..demand(1_000, gpus, 1_000)
        };
        assert!(!ledger.fits(0, &picky(1)));
        assert_eq!(ledger.copies_when_built(0, &picky(1)), 0);
        assert!(ledger.fits(0, &picky(0)));
    }

    #[test]
    fn the_nearest_node_names_what_it_lacks() {
        let mut ledger = Ledger::new(vec![node(1, 0), node(2, 0)]);
        ledger.claim(1, &demand(12_000, 1, 700)).unwrap();
        assert_eq!(
            ledger.nearest(&demand(1_000, 2, 1_000)),
            (0, 1_000.0, 2_000.0)
        );
        assert_eq!(
            ledger.nearest(&demand(17_000, 1, 300)),
            (0, 16_000.0, 17_000.0)
        );
    }

    #[test]
    #[should_panic(expected = "returned twice")]
    fn a_claim_cannot_be_returned_twice() {
        let mut ledger = Ledger::new(vec![node(1, 0)]);
        let claim = ledger.claim(0, &demand(1_000, 1, 1_000)).unwrap();
        ledger.claim(0, &demand(1_000, 0, 0)).unwrap();
        ledger.release(0, &claim);
        ledger.release(0, &claim);
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_and_returned_in_any_order_leaves_the_node_as_built(
            wishes in prop::collection::vec((0..8_000_u32, 0..4_u8, 1..=1_000_u16), 1..40),
            order in any::<u64>(),
        ) {
            let mut ledger = Ledger::new(vec![node(4, 0)]);
            let fresh = ledger.rooms.clone();
            let mut held = vec![];
            for (cpu, gpus, milli) in wishes {
                held.extend(ledger.claim(0, &demand(cpu, gpus, milli)));
                let taken: u32 = held.iter().map(|c| c.gpus.count_ones() * u32::from(c.share)).sum();
                prop_assert_eq!(u32::from(ledger.rooms[0].gpu_total) + taken, 4_000);
            }
            held.sort_by_key(|c| (u64::from(c.cpu_milli) ^ order).wrapping_mul(0x9e37_79b9));
            held.iter().for_each(|claim| ledger.release(0, claim));
            prop_assert_eq!(ledger.rooms, fresh);
        }
    }
}
