//! Can something that runs make way?
//!
//! There are two reasons to move what runs: to let in work that fits nowhere, and to
//! keep the GPU that is left of use.
//!
//! Work that fits nowhere may fit once something that is already placed has moved. At
//! that moment [`Ranking::make_room`] looks for the smallest such move:
//! one piece of work that leaves, after which the new one fits, and that fits somewhere
//! else; or, for work on whole GPUs, all the shares on the GPUs that have least on them.
//! Where it goes decides the policy, as for any work. Either all of it can be done, and
//! is, or nothing changes.
//!
//! Before that, as room gets scarce, [`Ranking::tidy`] moves work whose place would cost
//! more, if it came only now, than another: a share that left a rest too small for
//! anybody and would fit into a larger rest elsewhere, work without GPUs that took the
//! CPU of idle ones. Work goes where the policy would put it anew, one piece at a time.
//!
//! How many moves are worth it is the caller's to say; the twin gives a budget for each
//! hundred arrivals and lets it be saved up.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use super::{Choice, Ranking};
use crate::ledger::{Claim, Demand, GPUS_MAX, Ledger, Node, WHOLE};

/// Moves for one arrival are at most so many: enough to clear a GPU of small shares.
pub const MOVES_MAX: usize = 4;
/// Of the places that could be cleared, so many are tried, the smallest move first.
const TRIES_MAX: usize = 64;
/// Work is tidied up once no more than so much of the GPU is idle, in percent: as long
/// as more is, work to come has its choice of places.
pub const TIDY_IDLE_PERCENT: u64 = 15;
/// A move gains at least so many thousandths of a GPU.
pub const TIDY_GAIN_MIN: f64 = 20.0;
/// Tidying up looks at all work, so it is done once in so many arrivals.
pub const TIDY_EVERY: u64 = 20;

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

/// All work in its place, by node.
#[derive(Clone, Debug)]
pub struct Residents {
    each: Vec<Vec<Placed>>,
    /// For which demands room was sought in vain, and with how many moves, since
    /// anything moved: where work was only added since, it would be in vain again.
    vain: BTreeMap<Demand, usize>,
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

impl Residents {
    /// Nobody on so many nodes.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        Self {
            each: vec![Vec::new(); nodes],
            vain: BTreeMap::new(),
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
}

/// What would have to leave a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Clearing {
    moves: usize,
    gpu_milli: u32,
    cpu_milli: u32,
    node: u32,
    /// Positions in [`Residents::on`], ascending.
    leaving: Vec<usize>,
}

impl Ranking {
    /// Places work that fits nowhere by moving at most so many others, and tells which;
    /// none if that cannot be done, and then nothing has changed.
    pub fn make_room(
        &mut self,
        ledger: &mut Ledger,
        residents: &mut Residents,
        work: u64,
        demand: &Demand,
        most: usize,
    ) -> Option<Vec<Move>> {
        let most = most.min(MOVES_MAX);
        if most <= residents.vain.get(demand).copied().unwrap_or(0) {
            return None;
        }
        let mut clearings = Vec::new();
        for node in 0..ledger.nodes().len() as u32 {
            clearings.extend(clearings_of(ledger, residents.on(node), node, demand, most));
        }
        clearings.sort_unstable();
        let mut tried = clearings.iter().take(TRIES_MAX);
        let made = tried.find_map(|c| self.attempt(ledger, residents, work, demand, c));
        match made {
            None => _ = residents.vain.insert(*demand, most),
            Some(_) => residents.vain.clear(),
        }
        made
    }

    /// Moves at most so many to where they cost less than where they are, those that
    /// gain most first, and tells which. Nothing where room is plenty, and under any
    /// policy that puts no price on a place: only [`super::cosmos`] does.
    ///
    /// A move gains what the place would cost if the work came now, less what the
    /// cheapest place costs, in thousandths of a GPU ([`super::Terms`]).
    pub fn tidy(
        &mut self,
        ledger: &mut Ledger,
        residents: &mut Residents,
        most: usize,
    ) -> Vec<Move> {
        let mut moves = Vec::new();
        let Some(cosmos) = &mut self.cosmos else {
            return moves;
        };
        let gpus = |node: &Node| u64::from(node.gpus) * u64::from(WHOLE);
        let built: u64 = ledger.nodes().iter().map(gpus).sum();
        if most == 0 || cosmos.refresh(ledger) * 100 > built * TIDY_IDLE_PERCENT {
            return moves;
        }
        // What everybody would gain now; each is asked again when its turn comes.
        let mut elsewhere = BTreeMap::<Demand, f64>::new();
        let mut wishes = Vec::new();
        for from in 0..ledger.nodes().len() as u32 {
            for placed in residents.on(from) {
                let here = cosmos.regret(ledger, from, &placed.demand, &placed.claim);
                if here < TIDY_GAIN_MIN {
                    continue;
                }
                let there = *elsewhere.entry(placed.demand).or_insert_with(|| {
                    let found = cosmos.cheapest(ledger, &placed.demand);
                    found.map_or(f64::INFINITY, |(_, cost)| cost)
                });
                if here - there >= TIDY_GAIN_MIN {
                    wishes.push((here - there, from, placed.work));
                }
            }
        }
        wishes.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (_, from, work) in wishes {
            if moves.len() >= most {
                break;
            }
            let Some(at) = residents.on(from).iter().position(|p| p.work == work) else {
                continue;
            };
            let placed = residents.on(from)[at];
            cosmos.refresh(ledger);
            let here = cosmos.regret(ledger, from, &placed.demand, &placed.claim);
            ledger.release(from, &placed.claim);
            let found = cosmos.cheapest(ledger, &placed.demand);
            match found {
                Some((Choice { node, gpus, .. }, there)) if here - there >= TIDY_GAIN_MIN => {
                    let claim = ledger.claim_on(node, &placed.demand, gpus);
                    let claim = claim.expect("a policy chooses among places that fit");
                    residents.each[from as usize].remove(at);
                    residents.place(node, Placed { claim, ..placed });
                    moves.push(Move {
                        work,
                        from,
                        to: node,
                    });
                }
                _ => {
                    let back = ledger.claim_on(from, &placed.demand, placed.claim.gpus);
                    back.expect("it was there before");
                }
            }
        }
        if !moves.is_empty() {
            residents.vain.clear();
        }
        moves
    }

    fn attempt(
        &mut self,
        ledger: &mut Ledger,
        residents: &mut Residents,
        work: u64,
        demand: &Demand,
        clearing: &Clearing,
    ) -> Option<Vec<Move>> {
        let from = clearing.node;
        let on = residents.on(from);
        let leaving: Vec<Placed> = clearing.leaving.iter().map(|&at| on[at]).collect();
        for placed in &leaving {
            ledger.release(from, &placed.claim);
        }
        let claim = ledger.claim(from, demand);
        let claim = claim.expect("it fits once they have left");
        let mut arrived: Vec<(u32, Placed)> = Vec::new();
        for placed in &leaving {
            let Some(Choice { node, gpus, .. }) = self.find(ledger, &placed.demand) else {
                for (node, placed) in arrived {
                    ledger.release(node, &placed.claim);
                }
                ledger.release(from, &claim);
                for placed in &leaving {
                    let back = ledger.claim_on(from, &placed.demand, placed.claim.gpus);
                    back.expect("it was there before");
                }
                return None;
            };
            let claim = ledger.claim_on(node, &placed.demand, gpus);
            let claim = claim.expect("a policy chooses among places that fit");
            arrived.push((node, Placed { claim, ..*placed }));
        }
        for &at in clearing.leaving.iter().rev() {
            residents.each[from as usize].remove(at);
        }
        let demand = *demand;
        residents.each[from as usize].push(Placed {
            work,
            demand,
            claim,
        });
        let moves = arrived.into_iter().map(|(to, placed)| {
            residents.each[to as usize].push(placed);
            let work = placed.work;
            Move { work, from, to }
        });
        Some(moves.collect())
    }
}

/// What could leave a node so that the demand fits there.
fn clearings_of(
    ledger: &Ledger,
    residents: &[Placed],
    node: u32,
    demand: &Demand,
    most: usize,
) -> Vec<Clearing> {
    let clearing = |leaving: Vec<usize>| {
        let demands = || leaving.iter().map(|&at| &residents[at].demand);
        let claims = leaving.iter().map(|&at| &residents[at].claim);
        ledger.would_fit(node, demand, claims).then(|| Clearing {
            moves: leaving.len(),
            gpu_milli: demands().map(Demand::gpu_total).sum(),
            cpu_milli: demands().map(|d| d.cpu_milli).sum(),
            node,
            leaving: leaving.clone(),
        })
    };
    let alone: Vec<_> = (0..residents.len())
        .filter_map(|at| clearing(vec![at]))
        .collect();
    if !alone.is_empty() || demand.share() != WHOLE {
        return alone;
    }
    // The GPUs with least on them have to be free of everything.
    let room = ledger.room(node);
    let built = usize::from(ledger.nodes()[node as usize].gpus);
    let mut gpus: Vec<usize> = (0..built.min(GPUS_MAX)).collect();
    gpus.sort_by_key(|&g| core::cmp::Reverse(room.gpu_milli[g]));
    let wanted = gpus.iter().take(demand.gpus.into());
    let wanted = wanted.fold(0_u8, |set, g| set | 1 << g);
    let on_them = |at: &usize| residents[*at].claim.gpus & wanted != 0;
    let leaving: Vec<usize> = (0..residents.len()).filter(on_them).collect();
    let few = leaving.len() > 1 && leaving.len() <= most;
    few.then(|| clearing(leaving))
        .flatten()
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Models;
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
        fn new(nodes: Vec<Node>, policy: Policy) -> Self {
            Self::told(nodes, policy, &[])
        }

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

        fn make_room(&mut self, work: u64, demand: &Demand, most: usize) -> Option<Vec<Move>> {
            let Self {
                ledger,
                ranking,
                residents,
            } = self;
            ranking.make_room(ledger, residents, work, demand, most)
        }

        fn tidy(&mut self, most: usize) -> Vec<Move> {
            let Self {
                ledger,
                ranking,
                residents,
            } = self;
            ranking.tidy(ledger, residents, most)
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
    fn the_smallest_move_makes_room() {
        let mut site = Site::new(vec![node(1, 0), node(1, 0), node(1, 0)], Policy::BestFit);
        site.put(1, 0, 1, demand(1, 600));
        site.put(2, 1, 1, demand(1, 300));
        site.put(3, 2, 1, demand(1, 500));
        // A whole GPU is free nowhere; the 300 move in with the 600, or 500.
        let moves = site.make_room(4, &demand(1, 1_000), 1).unwrap();
        assert_eq!((moves.len(), moves[0].work, moves[0].from), (1, 2, 1));
        assert_eq!(site.residents.on(1)[0].work, 4);
        assert!(site.agrees());
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
        assert_eq!(site.tidy(0), []);
        let (work, from, to) = (1, 0, 1);
        assert_eq!(site.tidy(5), [Move { work, from, to }]);
        assert!(site.agrees());
        assert_eq!(site.ranking.choose(&site.ledger, &one).unwrap().node, 0);
        // Now nothing is gained any more.
        assert_eq!(site.tidy(5), []);
    }

    #[test]
    fn several_make_room_only_if_so_many_may() {
        let mut site = Site::new(vec![node(1, 0), node(2, 1)], Policy::BestFit);
        site.put(1, 0, 1, demand(1, 200));
        site.put(2, 0, 1, demand(1, 300));
        site.put(3, 1, 0b01, demand(1, 400));
        site.put(4, 1, 0b10, demand(1, 400));
        // Only node 0 has its model: both shares have to go.
        let one = Demand {
            models: Models(1),
            ..demand(1, 1_000)
        };
        assert_eq!(site.make_room(5, &one, 1), None);
        assert!(site.agrees());
        let moves = site.make_room(5, &one, 2).unwrap();
        assert_eq!(
            moves.iter().map(|m| (m.work, m.to)).collect::<Vec<_>>(),
            [(1, 1), (2, 1)]
        );
        assert!(site.agrees());
    }

    proptest! {
        /// Moves only to where it costs less, no more than may, and the books agree.
        #[test]
        fn tidying_up_keeps_the_books(
            arrivals in prop::collection::vec((0..3_u8, 1..=10_u16, 0..3_u32), 1..80),
            most in 0..6_usize,
        ) {
            let list: Vec<_> = arrivals.iter().map(|&(gpus, tenths, cpus)| Demand {
                cpu_milli: 4_000 * cpus,
                ..demand(gpus, tenths * 100)
            }).collect();
            let nodes = vec![node(4, 0), node(8, 1), node(2, 0)];
            let mut site = Site::told(nodes, Policy::Cosmos, &list);
            for (work, demand) in (0..).zip(&list) {
                if let Some(Choice { node, gpus, .. }) = site.ranking.choose(&site.ledger, demand) {
                    site.put(work, node, gpus, *demand);
                }
                let count = |site: &Site| (0..3).map(|n| site.residents.on(n).len()).sum::<usize>();
                let before = count(&site);
                let moves = site.tidy(most);
                prop_assert!(moves.len() <= most);
                prop_assert_eq!(count(&site), before);
                prop_assert!(site.agrees());
            }
        }

        #[test]
        fn all_of_it_or_nothing(
            arrivals in prop::collection::vec((0..5_u8, 1..=10_u16, 0..3_u32, 0..5_usize), 1..80),
            policy in prop::sample::select(vec![Policy::Cosmos, Policy::Fgd]),
        ) {
            let mut site = Site::new(vec![node(4, 0), node(8, 1), node(2, 0)], policy);
            for (work, (gpus, tenths, models, most)) in (0..).zip(arrivals) {
                let models = if models == 0 { Models::ANY } else { Models(models) };
                let demand = Demand { models, ..demand(gpus, tenths * 100) };
                if let Some(Choice { node, gpus, .. }) = site.ranking.choose(&site.ledger, &demand) {
                    site.put(work, node, gpus, demand);
                    continue;
                }
                let before: Vec<_> = (0..3).map(|n| *site.ledger.room(n)).collect();
                match site.make_room(work, &demand, most) {
                    Some(moves) => {
                        prop_assert!(moves.len() <= most);
                        let mut all = (0..3).flat_map(|n| site.residents.on(n));
                        prop_assert!(all.any(|placed| placed.work == work));
                    }
                    None => {
                        let after: Vec<_> = (0..3).map(|n| *site.ledger.room(n)).collect();
                        prop_assert_eq!(before, after);
                    }
                }
                prop_assert!(site.agrees());
            }
        }
    }
}
