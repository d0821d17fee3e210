//! Which machine of a fleet runs a replica, and why that one?
//!
//! A fleet runs programs for as long as they are wanted. Nobody promises an end and nobody waits for a turn; what counts is that the death of a machine takes as
//! little of a program as can be. So there is no queue here and no clock: [`settle`] is told of every machine and every program, and says for each replica that
//! nobody holds where it goes and what that rests on. Whoever decides keeps nothing between two looks, and the same state leads to the same choice.
//!
//! A machine falls to the first of these [tests](Test::OF_A_FLEET) that it fails: it is heard from, serves, has room, has the ports free, does not rest from a
//! failure. Of those that are left the one goes first that [keeps equals apart](Apart), and the lowest number among equals.
//!
//! # The ledger
//!
//! Room is what a [`Ledger`] says it is. That counts in `u32`: thousandths of a CPU, and MiB, of which a machine has so many as are whole and a replica takes
//! those it begins. What is larger is cut: a machine to one less than a replica that asks for more, which so fits nowhere.
//! A node has eight GPUs at most; those of a machine with more are counted in pairs, threes and so on, as many as are whole, and less than one of these is a share of it.
//! What asks for nothing fits anywhere, also where more was promised than there is by now.
//!
//! # Why
//!
//! [`explain`] asks [`settle`] again with something changed, so no answer can differ from what would be done. What would be done is told by [`words`].
//!
//! Deliberately absent: moving what runs, which is for whoever knows what is well ([`settle`] fills gaps); when there will be room, which nobody promises.

pub mod words;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use wire::Nanos;

use crate::evidence::{CANDIDATES_MAX, Funnel, Test};
use crate::ledger::{Demand, GPUS_MAX, Lack, Ledger, Models, Node, State, WHOLE};
use crate::policy::Apart;

/// What a machine has, or a replica takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// Thousandths of a CPU.
    pub cpu_milli: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Whole GPUs.
    pub gpus: u64,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Which; machines are given in the order of their numbers.
    pub number: u32,
    /// What it has.
    pub has: Amounts,
    /// Why it is given nothing, if so: [`Test::Silent`] or [`Test::Draining`].
    pub out: Option<Test>,
}

/// A program and its replicas, which are all alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What one takes.
    pub each: Amounts,
    /// The ports of its machine that one takes.
    pub ports: Vec<u16>,
    /// How many there should be.
    pub replicas: u32,
    /// On which machine each one is that somebody holds.
    pub standing: Vec<u32>,
    /// How many nobody holds.
    pub waiting: u32,
    /// Which machines rest from it, and for how long yet.
    pub resting: BTreeMap<u32, Nanos>,
}

/// A machine that could take a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Its number.
    pub machine: u32,
    /// What speaks against it.
    pub score: Apart,
}

/// What the place of a replica rests on, or that it has none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Evidence {
    /// The machines.
    pub funnel: Funnel,
    /// The best that were left, from the best, which takes it; at most [`CANDIDATES_MAX`].
    pub candidates: Vec<Candidate>,
}

/// Why a replica waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// How many machines fell to which test.
    pub funnel: Funnel,
    /// Which.
    pub fallen: Vec<(u32, Test)>,
    /// Of those that fell to the last test for room: which has most of it free, and how much, in the unit of [`Amounts`].
    pub nearest: Option<(u32, u64)>,
    /// Of those that but rest: which has rested first, and in how long.
    pub rested: Option<(u32, Nanos)>,
    /// With what it would start at once, the cheapest first.
    pub changes: Vec<Change>,
}

/// What to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    /// A machine that drains serves again.
    Serving(u32),
    /// One port less.
    WithoutPort(u16),
    /// So much CPU for each replica, in thousandths.
    Cpu(u64),
    /// So much memory for each, in bytes.
    Memory(u64),
    /// So many GPUs for each.
    Gpus(u64),
    /// So many replicas.
    Replicas(u32),
}

const MIB: u64 = 1 << 20;

impl Amounts {
    /// How many GPUs of a machine with this one of its node in the ledger stands for.
    fn gpus_in_one(&self) -> u64 {
        self.gpus.div_ceil(GPUS_MAX as u64).max(1)
    }

    fn node(&self) -> Node {
        // One less than the most that can be asked for.
        let cut = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX).min(u32::MAX - 1);
        Node {
            cpu_milli: cut(self.cpu_milli),
            memory_mib: cut(self.memory / MIB),
            gpus: (self.gpus / self.gpus_in_one()) as u8,
            model: 0,
            coolant: 0,
            rack: 0,
            row: 0,
            idle_watts: 0.0,
            gpu_watts: 0.0,
            cpu_watts: 0.0,
        }
    }

    /// What it asks of a node, each of whose GPUs stands for so many.
    fn demand(&self, gpus_in_one: u64) -> Demand {
        let cut = |amount: u64| u32::try_from(amount).unwrap_or(u32::MAX);
        let (gpus, gpu_milli) = match self.gpus {
            0 => (0, 0),
            few if few < gpus_in_one => {
                let share = u128::from(few) * u128::from(WHOLE);
                (1, share.div_ceil(gpus_in_one.into()) as u16)
            }
            many => {
                let whole = many.div_ceil(gpus_in_one);
                (u8::try_from(whole).unwrap_or(u8::MAX), WHOLE)
            }
        };
        Demand {
            cpu_milli: cut(self.cpu_milli),
            memory_mib: cut(self.memory.div_ceil(MIB)),
            gpus,
            gpu_milli,
            models: Models::ANY,
        }
    }
}

/// What is free where, and what stands there.
struct Books<'a> {
    machines: &'a [Machine],
    ledger: Ledger,
    ports: Vec<BTreeSet<u16>>,
}

impl<'a> Books<'a> {
    fn new(machines: &'a [Machine], programs: &[Wanted]) -> Self {
        let nodes = machines.iter().map(|machine| machine.has.node());
        let mut books = Self {
            machines,
            ledger: Ledger::new(nodes.collect()),
            ports: vec![BTreeSet::new(); machines.len()],
        };
        for wanted in programs {
            for node in books.nodes_of(wanted) {
                books.take(node, wanted);
            }
        }
        for (machine, node) in machines.iter().zip(0..) {
            if machine.out.is_some() {
                books.ledger.set_state(node, State::Parked);
            }
        }
        books
    }

    /// Where its replicas stand, as far as the machine is known.
    fn nodes_of(&self, wanted: &Wanted) -> Vec<u32> {
        let node = |number: &u32| {
            let found = self.machines.binary_search_by_key(number, |m| m.number);
            found.ok().map(|node| node as u32)
        };
        wanted.standing.iter().filter_map(node).collect()
    }

    fn demand(&self, node: u32, wanted: &Wanted) -> Demand {
        let machine = &self.machines[node as usize];
        wanted.each.demand(machine.has.gpus_in_one())
    }

    /// Notes that a replica is there: what it takes, or of that as much as there is.
    fn take(&mut self, node: u32, wanted: &Wanted) {
        self.ports[node as usize].extend(&wanted.ports);
        let demand = self.demand(node, wanted);
        if self.ledger.claim(node, &demand).is_some() {
            return;
        }
        // It came back with less than it had.
        let room = self.ledger.room(node);
        let gpus = match demand.gpus {
            1 => u8::from(room.gpu_widest > 0),
            several => several.min(room.gpu_whole),
        };
        let rest = Demand {
            cpu_milli: demand.cpu_milli.min(room.cpu_milli),
            memory_mib: demand.memory_mib.min(room.memory_mib),
            gpus,
            gpu_milli: demand.gpu_milli.min(room.gpu_widest),
            ..demand
        };
        let claim = self.ledger.claim(node, &rest);
        debug_assert!(claim.is_some(), "as much as there is can be had");
    }

    /// The first test that it fails.
    fn falls_to(&self, node: u32, wanted: &Wanted) -> Option<Test> {
        let machine = &self.machines[node as usize];
        let taken = &self.ports[node as usize];
        let lack = || -> Option<Lack> { self.ledger.lacks(node, &self.demand(node, wanted)) };
        if machine.out.is_some() {
            machine.out
        } else if let Some(lack) = lack() {
            Some(lack.into())
        } else if wanted.ports.iter().any(|port| taken.contains(port)) {
            Some(Test::Port)
        } else {
            let rests = wanted.resting.contains_key(&machine.number);
            rests.then_some(Test::Resting)
        }
    }

    fn nodes(&self) -> impl Iterator<Item = u32> + use<> {
        0..self.machines.len() as u32
    }

    /// Where it could go, `beside` saying how many of it each has.
    fn seek(&self, wanted: &Wanted, beside: &[u32]) -> Evidence {
        let mut funnel = Funnel {
            nodes: self.machines.len() as u32,
            ..Funnel::default()
        };
        let mut candidates = Vec::new();
        for node in self.nodes() {
            match self.falls_to(node, wanted) {
                Some(test) => funnel.falls(test),
                None => candidates.push(Candidate {
                    machine: self.machines[node as usize].number,
                    score: Apart::of(&self.ledger, node, beside[node as usize]),
                }),
            }
        }
        candidates.sort_unstable_by_key(|candidate| (candidate.score, candidate.machine));
        candidates.truncate(CANDIDATES_MAX);
        Evidence { funnel, candidates }
    }

    /// Of those that fell to this test for room, the one that has most of it free, and how much.
    fn nearest(&self, wanted: &Wanted, test: Test) -> Option<(u32, u64)> {
        let free = |node: u32| {
            let (machine, room) = (&self.machines[node as usize], self.ledger.room(node));
            let one = machine.has.gpus_in_one();
            let free = match test {
                Test::Cpu => room.cpu_milli.into(),
                Test::Memory => u64::from(room.memory_mib) * MIB,
                Test::Gpu => {
                    let share = u64::from(room.gpu_widest).saturating_mul(one) / u64::from(WHOLE);
                    share.max(u64::from(room.gpu_whole) * one)
                }
                _ => return None,
            };
            let fell = self.falls_to(node, wanted) == Some(test);
            fell.then_some((machine.number, free))
        };
        let all = self.nodes().filter_map(free);
        all.max_by_key(|(number, free)| (*free, u32::MAX - number))
    }
}

/// Places what waits, program by program; says for each replica what was found.
fn run(
    machines: &[Machine],
    programs: &[Wanted],
    mut found: impl FnMut(&Books<'_>, usize, Evidence),
) {
    let mut books = Books::new(machines, programs);
    for (at, wanted) in programs.iter().enumerate() {
        let mut beside = vec![0_u32; machines.len()];
        for node in books.nodes_of(wanted) {
            beside[node as usize] += 1;
        }
        for _ in 0..wanted.waiting {
            let evidence = books.seek(wanted, &beside);
            let best = evidence.candidates.first().map(|best| best.machine);
            found(&books, at, evidence);
            let node =
                best.and_then(|best| machines.binary_search_by_key(&best, |m| m.number).ok());
            if let Some(node) = node {
                books.take(node as u32, wanted);
                beside[node] += 1;
            }
        }
    }
}

/// For each program, in their order, what the place of each of its replicas that wait rests on: it is the first of the candidates, if there is one.
#[must_use]
pub fn settle(machines: &[Machine], programs: &[Wanted]) -> Vec<Vec<Evidence>> {
    let mut all = vec![Vec::new(); programs.len()];
    run(machines, programs, |_, at, evidence| all[at].push(evidence));
    all
}

/// How many of those of a program that wait would be placed.
fn placed(machines: &[Machine], programs: &[Wanted], at: usize) -> u32 {
    let mut count = 0;
    run(machines, programs, |_, of, evidence| {
        count += u32::from(of == at && !evidence.candidates.is_empty());
    });
    count
}

/// Why some of a program waits after all that can be placed is placed; none if nothing of it does.
//= requirements S7
#[must_use]
pub fn explain(machines: &[Machine], programs: &[Wanted], at: usize) -> Option<Pending> {
    let wanted = programs.get(at)?;
    let mut pending = None;
    run(
        machines,
        programs,
        |books, of, Evidence { funnel, candidates }| {
            if of != at || !candidates.is_empty() || pending.is_some() {
                return;
            }
            let fell = |node| {
                Some((
                    machines[node as usize].number,
                    books.falls_to(node, wanted)?,
                ))
            };
            let fallen: Vec<(u32, Test)> = books.nodes().filter_map(fell).collect();
            let only_rest = |number: &u32| fallen.contains(&(*number, Test::Resting));
            let rested = wanted
                .resting
                .iter()
                .filter(|(number, _)| only_rest(number));
            pending = Some(Pending {
                funnel,
                nearest: funnel
                    .furthest()
                    .and_then(|test| books.nearest(wanted, test)),
                rested: rested
                    .map(|(number, left)| (*number, *left))
                    .min_by_key(|(_, left)| *left),
                fallen,
                changes: Vec::new(),
            });
        },
    );
    let mut pending = pending?;
    pending.changes = changes(machines, programs, at, &pending.funnel);
    Some(pending)
}

fn changes(machines: &[Machine], programs: &[Wanted], at: usize, funnel: &Funnel) -> Vec<Change> {
    let wanted = &programs[at];
    let fell = |test: Test| funnel.fell[test as usize] > 0;
    let with = |machines: &[Machine], wanted: Wanted| {
        let mut programs = programs.to_vec();
        let all = wanted.waiting;
        programs[at] = wanted;
        placed(machines, &programs, at) == all
    };
    let works = |change: Change| with(machines, change.apply(wanted.clone()));
    let mut changes = Vec::new();
    let draining = machines.iter().filter(|m| m.out == Some(Test::Draining));
    let serving = |number: u32| {
        let mut machines = machines.to_vec();
        let machine = machines.iter_mut().find(|m| m.number == number);
        machine.into_iter().for_each(|machine| machine.out = None);
        with(&machines, wanted.clone())
    };
    let mut serving = draining.map(|m| m.number).filter(|number| serving(*number));
    changes.extend(serving.next().map(Change::Serving));
    if fell(Test::Port) {
        let ports = wanted.ports.iter().map(|port| Change::WithoutPort(*port));
        changes.extend(ports.filter(|change| works(*change)));
    }
    let Amounts {
        cpu_milli,
        memory,
        gpus,
    } = wanted.each;
    if fell(Test::Cpu) {
        changes.extend(most(cpu_milli, |cpu| works(Change::Cpu(cpu))).map(Change::Cpu));
    }
    if fell(Test::Memory) {
        let most = most(memory.div_ceil(MIB), |mib| works(Change::Memory(mib * MIB)));
        changes.extend(most.map(|mib| Change::Memory(mib * MIB)));
    }
    if fell(Test::Gpu) {
        changes.extend(most(gpus, |gpus| works(Change::Gpus(gpus))).map(Change::Gpus));
    }
    let there = wanted.standing.len() as u32;
    let could = there + placed(machines, programs, at);
    if there + wanted.waiting == wanted.replicas && could > 0 {
        changes.push(Change::Replicas(could));
    }
    changes.sort_by_key(|change| change.price(wanted));
    changes
}

impl Change {
    /// The program with this change; what machines do is not its.
    fn apply(self, mut wanted: Wanted) -> Wanted {
        match self {
            Self::Serving(_) | Self::Replicas(_) => {}
            Self::WithoutPort(port) => wanted.ports.retain(|one| *one != port),
            Self::Cpu(cpu) => wanted.each.cpu_milli = cpu,
            Self::Memory(memory) => wanted.each.memory = memory,
            Self::Gpus(gpus) => wanted.each.gpus = gpus,
        }
        wanted
    }

    /// How much it gives up, in thousandths: GPUs and replicas before other things, as at a site.
    fn price(self, wanted: &Wanted) -> (u64, u64) {
        let part = |left: u64, of: u64| {
            let gone = u128::from(of.saturating_sub(left)) * 1_000 / u128::from(of.max(1));
            gone as u64
        };
        let Amounts {
            cpu_milli,
            memory,
            gpus,
        } = wanted.each;
        match self {
            Self::Serving(_) => (0, 0),
            Self::WithoutPort(_) => (0, 1),
            Self::Cpu(n) => (0, part(n, cpu_milli).max(2)),
            Self::Memory(n) => (0, part(n, memory).max(2)),
            Self::Gpus(n) => (part(n, gpus).max(1), 0),
            Self::Replicas(n) => (part(n.into(), wanted.replicas.into()).max(1), 0),
        }
    }
}

/// The most below what is asked, and at least 1, with which it works, if less always works better; none if nothing does.
fn most(asked: u64, works: impl Fn(u64) -> bool) -> Option<u64> {
    if asked < 2 || !works(1) {
        return None;
    }
    let (mut yes, mut no) = (1, asked);
    while no - yes > 1 {
        let mid = yes + (no - yes) / 2;
        if works(mid) {
            yes = mid;
        } else {
            no = mid;
        }
    }
    Some(yes)
}

#[cfg(test)]
mod tests;
