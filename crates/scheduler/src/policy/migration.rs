//! Would something that runs do better elsewhere?
//!
//! A place that was the best when work came may be a poor one now: a share left a rest too
//! small for anybody and would fit into a larger rest elsewhere; work without GPUs took
//! the CPU that idle ones need. [`Ranking::tidy`] moves such work, one piece at a time, to
//! where the policy would put it if it came only now. A move gains what its present place
//! would cost then, less what the cheapest costs, in thousandths of a GPU
//! ([`super::Terms`]); those that gain most go first.
//!
//! There is no second search for work that fits nowhere. Making room for it when it
//! knocks gained 0.02 to 0.03 points of allocated GPU and looked at every node, which took
//! 0.6 ms; by then the rests that are left are too small to be joined
//! (`docs/decisions/2026-11-21-the-cosmos-policy-places-by-worth.md`).
//!
//! # How it is kept
//!
//! A call is one bounded step, a decision of its own like a placement. It looks at a few
//! nodes, those that changed and the others in turn, and notes for each what its best move
//! would gain, by what the cheapest place for such work cost when it was last asked for.
//! If a move may be made, the few best of all nodes are worked out exactly, and the best
//! of these is made. So notes may be old, but no move is made by an old note. Looking and
//! working out may each compute half the new worths that a placement may.
//!
//! How many moves are worth it is the caller's to say; the twin gives a budget for each
//! hundred arrivals and lets it be saved up.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec;
use alloc::vec::Vec;

use super::cosmos::FRESH_MAX;
use super::{Choice, Cosmos, DEMANDS_MAX, Ranking};
use crate::ledger::{Claim, Demand, Ledger, Node, WHOLE};

/// A move gains at least so many thousandths of a GPU.
pub const GAIN_MIN: f64 = 20.0;
/// Work moves once no more than so much of the GPU is idle, in percent: as long as more
/// is, work to come has its choice of places, and may undo what a move gained.
pub const IDLE_PERCENT: u64 = 50;
/// Nodes that a step looks at.
pub const LOOKS: usize = 16;
/// Of these steps looking for the cheapest place of so many demands.
pub const ASKS: usize = 8;
/// Moves that a step works out exactly.
pub const TRIES: usize = 3;
/// What the cheapest place cost is believed for so many steps, unless its node changed.
pub const BELIEVED: u64 = 64;

/// Work in its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// Whatever the caller calls it.
    pub work: u64,
    /// What it asked for.
    pub demand: Demand,
    /// What it got.
    pub claim: Claim,
}

/// Work that moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub work: u64,
    /// From this node.
    pub from: u32,
    /// To this, which may be the same if it only changed its GPU.
    pub to: u32,
}

/// All work in its place, by node, and what moving it might gain.
#[derive(Clone, Debug)]
pub struct Residents {
    each: Vec<Vec<Placed>>,
    /// By node: the best move from there when it was last looked at.
    wishes: Vec<Wish>,
    /// Nodes that changed and were not looked at since, oldest first, and whether each
    /// node is among them.
    changed: VecDeque<u32>,
    waits: Vec<bool>,
    /// How often each node changed, as far as was seen; and [`Ledger::changes`] then.
    versions: Vec<u32>,
    seen: u64,
    /// Whose turn it is of the nodes that did not change.
    turn: u32,
    steps: u64,
    elsewhere: BTreeMap<Demand, Elsewhere>,
}

/// A move that was thought of.
#[derive(Clone, Copy, Debug, Default)]
struct Wish {
    gain: f64,
    work: u64,
}

/// The cheapest place for a demand when it was last asked for.
#[derive(Clone, Copy, Debug)]
struct Elsewhere {
    cost: f64,
    /// Where, and that node's version; none if it fitted nowhere.
    at: Option<(u32, u32)>,
    step: u64,
}

impl Residents {
    /// Nobody on so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            each: vec![Vec::new(); nodes],
            wishes: vec![Wish::default(); nodes],
            changed: VecDeque::new(),
            waits: vec![false; nodes],
            versions: vec![0; nodes],
            seen: 0,
            turn: 0,
            steps: 0,
            elsewhere: BTreeMap::new(),
        }
    }

    /// Notes work that was placed.
    pub fn place(&mut self, node: u32, placed: Placed) {
        self.each[node as usize].push(placed);
    }

    /// The work on a node, in the order in which it came there.
    #[must_use]
    pub fn on(&self, node: u32) -> &[Placed] {
        &self.each[node as usize]
    }

    /// Takes in which nodes changed.
    fn follow(&mut self, ledger: &Ledger) {
        for node in ledger.changed_since(self.seen) {
            self.versions[node as usize] += 1;
            if !core::mem::replace(&mut self.waits[node as usize], true) {
                self.changed.push_back(node);
            }
        }
        self.seen = ledger.changes();
    }

    /// Looks at a few nodes, every other one in turn so that none waits for ever.
    fn look(&mut self, cosmos: &mut Cosmos, ledger: &Ledger) {
        let mut asks = ASKS;
        for look in 0..LOOKS {
            let waiting = if look % 2 == 0 {
                self.changed.pop_front()
            } else {
                None
            };
            let node = waiting.unwrap_or(self.turn);
            match self.best_from(cosmos, ledger, node, &mut asks) {
                Some(wish) => self.wishes[node as usize] = wish,
                // The next step goes on where this one had asked enough.
                None => {
                    if waiting.is_some() {
                        self.changed.push_front(node);
                    }
                    return;
                }
            }
            match waiting {
                Some(node) => self.waits[node as usize] = false,
                None => self.turn = (self.turn + 1) % self.each.len() as u32,
            }
        }
    }

    /// The move from a node that gains most; none if that takes more asking.
    fn best_from(
        &mut self,
        cosmos: &mut Cosmos,
        ledger: &Ledger,
        node: u32,
        asks: &mut usize,
    ) -> Option<Wish> {
        let mut best = Wish::default();
        for placed in &self.each[node as usize] {
            let here = cosmos.regret(ledger, node, &placed.demand, &placed.claim);
            if here < GAIN_MIN {
                continue;
            }
            let known = self.elsewhere.get(&placed.demand).filter(|known| {
                let same = |(node, version)| self.versions[node as usize] == version;
                self.steps - known.step <= BELIEVED && known.at.is_none_or(same)
            });
            let cost = match known {
                Some(known) => known.cost,
                None => {
                    *asks = asks.checked_sub(1)?;
                    let found = cosmos.cheapest(ledger, &placed.demand);
                    let known = Elsewhere {
                        cost: found.map_or(f64::INFINITY, |(_, cost)| cost),
                        at: found.map(|(c, _)| (c.node, self.versions[c.node as usize])),
                        step: self.steps,
                    };
                    if self.elsewhere.len() >= DEMANDS_MAX {
                        self.elsewhere.clear();
                    }
                    self.elsewhere.insert(placed.demand, known);
                    known.cost
                }
            };
            if here - cost > best.gain {
                (best.gain, best.work) = (here - cost, placed.work);
            }
        }
        Some(best)
    }

    /// The node whose wish is the largest, if it is more than so much.
    fn wishes_most(&self, more_than: f64) -> Option<u32> {
        let mut best = (more_than, None);
        for (wish, node) in self.wishes.iter().zip(0..) {
            if wish.gain > best.0 {
                best = (wish.gain, Some(node));
            }
        }
        best.1
    }
}

impl Ranking {
    /// One step towards work being where it costs least: looks at a few nodes and, if it
    /// may, makes at most one move and tells which. Does nothing under a policy that puts
    /// no price on a place: only [`super::cosmos`] does.
    pub fn tidy(
        &mut self,
        ledger: &mut Ledger,
        residents: &mut Residents,
        may_move: bool,
    ) -> Option<Move> {
        let cosmos = self.cosmos.as_mut()?;
        let gpus = |node: &Node| u64::from(node.gpus) * u64::from(WHOLE);
        let built: u64 = ledger.nodes().iter().map(gpus).sum();
        let idle = cosmos.refresh(ledger);
        residents.steps += 1;
        residents.follow(ledger);
        if idle * 100 > built * IDLE_PERCENT {
            return None;
        }
        cosmos.allow(FRESH_MAX / 2);
        residents.look(cosmos, ledger);
        if !may_move {
            return None;
        }
        cosmos.allow(FRESH_MAX / 2);
        let mut best: Option<(f64, u32, usize, Choice)> = None;
        for _ in 0..TRIES {
            let least = best.map_or(GAIN_MIN, |(gain, ..)| gain);
            let Some(from) = residents.wishes_most(least) else {
                break;
            };
            let wish = core::mem::take(&mut residents.wishes[from as usize]);
            let at = residents.on(from).iter().position(|p| p.work == wish.work);
            let Some(at) = at else { continue };
            let placed = residents.on(from)[at];
            let here = cosmos.regret(ledger, from, &placed.demand, &placed.claim);
            ledger.release(from, &placed.claim);
            let found = cosmos.cheapest(ledger, &placed.demand);
            ledger.hold(from, &placed.claim);
            cosmos.refresh(ledger);
            // It is as it was, so nobody has to look there again.
            residents.seen = ledger.changes();
            residents.elsewhere.remove(&placed.demand);
            let Some((choice, there)) = found else {
                continue;
            };
            let gain = here - there;
            if gain > least {
                if let Some((gain, from, at, _)) = best.replace((gain, from, at, choice)) {
                    let work = residents.on(from)[at].work;
                    residents.wishes[from as usize] = Wish { gain, work };
                }
            } else if gain > GAIN_MIN {
                let work = placed.work;
                residents.wishes[from as usize] = Wish { gain, work };
            }
        }
        let (_, from, at, Choice { node: to, gpus, .. }) = best?;
        let placed = residents.each[from as usize].remove(at);
        ledger.release(from, &placed.claim);
        let claim = ledger.claim_on(to, &placed.demand, gpus);
        let claim = claim.expect("a policy chooses among places that fit");
        residents.place(to, Placed { claim, ..placed });
        let work = placed.work;
        Some(Move { work, from, to })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::cases;
    use crate::policy::{Policy, Typical};
    use machine::{Purpose, Stream};
    use proptest::prelude::*;
    use wire::Tile;

    fn node(gpus: u8, model: u8) -> Node {
        cases::node(32_000, gpus, model)
    }

    fn demand(gpus: u8, gpu_milli: u16) -> Demand {
        cases::demand(1_000, gpus, gpu_milli)
    }

    struct Site {
        ledger: Ledger,
        ranking: Ranking,
        residents: Residents,
    }

    impl Site {
        fn told(nodes: Vec<Node>, policy: Policy, list: &[Demand]) -> Self {
            let ledger = Ledger::new(nodes);
            let count = ledger.nodes().len() as u32;
            let stream = Stream::new(1, Tile(0), Purpose::Placement);
            let preference = (0..count).collect();
            let typical = Typical::of(list);
            Self {
                ranking: Ranking::new(policy, typical, &ledger, preference, stream),
                residents: Residents::new(count as usize),
                ledger,
            }
        }

        fn put(&mut self, work: u64, node: u32, gpus: u8, demand: Demand) {
            let claim = self.ledger.claim_on(node, &demand, gpus).unwrap();
            self.residents.place(
                node,
                Placed {
                    work,
                    demand,
                    claim,
                },
            );
        }

        fn tidy(&mut self, may_move: bool) -> Option<Move> {
            let Self {
                ledger,
                ranking,
                residents,
            } = self;
            ranking.tidy(ledger, residents, may_move)
        }

        /// What is left is what the residents leave.
        fn agrees(&self) -> bool {
            let mut fresh = Ledger::new(self.ledger.nodes().to_vec());
            for node in 0..self.ledger.nodes().len() as u32 {
                for placed in self.residents.on(node) {
                    let claim = fresh.claim_on(node, &placed.demand, placed.claim.gpus);
                    if claim != Some(placed.claim) {
                        return false;
                    }
                }
            }
            (0..fresh.nodes().len() as u32).all(|node| fresh.room(node) == self.ledger.room(node))
        }
    }

    #[test]
    fn a_move_in_time_lets_in_what_would_be_dropped() {
        // Everybody takes a whole GPU and 8 CPUs. The two CPUs of work without GPUs leave
        // one node a GPU without the CPU for it; the other has CPUs to spare.
        let one = Demand {
            cpu_milli: 8_000,
            ..demand(1, 1_000)
        };
        let plain = Demand {
            cpu_milli: 2_000,
            ..demand(0, 0)
        };
        let mut large = node(8, 0);
        large.cpu_milli = 68_000;
        let mut site = Site::told(vec![node(4, 0), large], Policy::Cosmos, &[one]);
        site.put(1, 0, 0, plain);
        for work in 2..5 {
            site.put(work, 0, 1 << (work - 2), one);
        }
        for work in 5..13 {
            site.put(work, 1, 1 << (work - 5), one);
        }
        assert_eq!(site.ranking.choose(&site.ledger, &one), None);
        assert_eq!(site.tidy(false), None);
        let (work, from, to) = (1, 0, 1);
        assert_eq!(site.tidy(true), Some(Move { work, from, to }));
        assert!(site.agrees());
        assert_eq!(site.ranking.choose(&site.ledger, &one).unwrap().node, 0);
        // Now nothing is gained any more.
        assert_eq!(site.tidy(true), None);
    }

    proptest! {
        /// At most one moves, if it may, nothing else changes, and the books agree.
        #[test]
        fn tidying_up_keeps_the_books(
            arrivals in prop::collection::vec((0..3_u8, 1..=10_u16, 0..3_u32), 1..80),
            may_move in any::<bool>(),
            policy in prop::sample::select(vec![Policy::Cosmos, Policy::Fgd]),
        ) {
            let list: Vec<_> = arrivals.iter().map(|&(gpus, tenths, cpus)| Demand {
                cpu_milli: 4_000 * cpus,
                ..demand(gpus, tenths * 100)
            }).collect();
            let nodes = vec![node(4, 0), node(8, 1), node(2, 0)];
            let mut site = Site::told(nodes, policy, &list);
            for (work, demand) in (0..).zip(&list) {
                if let Some(Choice { node, gpus, .. }) = site.ranking.choose(&site.ledger, demand) {
                    site.put(work, node, gpus, *demand);
                }
                let count = |site: &Site| (0..3).map(|n| site.residents.on(n).len()).sum::<usize>();
                let before = count(&site);
                let rooms: Vec<_> = (0..3).map(|n| *site.ledger.room(n)).collect();
                match site.tidy(may_move) {
                    Some(moved) => {
                        prop_assert!(may_move && policy == Policy::Cosmos);
                        let there = site.residents.on(moved.to);
                        prop_assert!(there.iter().any(|placed| placed.work == moved.work));
                    }
                    None => {
                        let after: Vec<_> = (0..3).map(|n| *site.ledger.room(n)).collect();
                        prop_assert_eq!(rooms, after);
                    }
                }
                prop_assert_eq!(count(&site), before);
                prop_assert!(site.agrees());
            }
        }
    }
}
