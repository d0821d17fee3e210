//! Who waits, in which order, and who of them could start at all?
//!
//! Jobs that ask for the same thing in the same name are one *group*: if the first of
//! them cannot start, none of them can. Thousands of waiting jobs are some tens of
//! groups, unless each asks for something of its own. So nothing here is done for every
//! group when a node changes: the change is noted, and that is all.
//!
//! Who could start is asked in the order of the queue, in two steps. A [`Skyline`] of the
//! site, the most that any node has of each thing, says of nearly all who cannot that
//! they cannot, in some nanoseconds each. Of the others a [`Tally`] says it exactly: groups
//! that ask for the same on each node share one, and it takes in the changes since it was
//! last asked, or is counted anew if they are too many ([`LOG_MAX`]).

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::ops::Bound;

use wire::{Instant, Nanos};

use crate::ledger::{Demand, Ledger, Room};

use super::job::{Job, Quality, Spread};
use super::skyline::Skyline;
use super::topology::{Shape, Tally, Topology};

/// Place among equals: when it came, and its number.
pub(super) type Turn = (Instant, u64);

/// Place within a tenant: priority, then turn.
pub(super) type Front = (Reverse<u8>, Turn);

/// A job that waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) job: Job,
    pub(super) arrived: Instant,
    pub(super) preempted: u8,
}

/// What the jobs of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Alike {
    tenant: u16,
    priority: u8,
    tasks: u16,
    demand: Demand,
    spread: Spread,
    quality: Quality,
    limit: Option<Nanos>,
}

impl Alike {
    pub(super) const fn of(job: &Job) -> Self {
        Self {
            tenant: job.tenant,
            priority: job.priority,
            tasks: job.tasks,
            demand: job.demand,
            spread: job.spread,
            quality: job.quality,
            limit: job.limit,
        }
    }
}

/// Changes of nodes that are noted; a tally that missed more is counted anew. Taking in a
/// change costs about what counting ten nodes does.
/// Tests take fewer, so that both happen.
const LOG_MAX: usize = if cfg!(test) { 6 } else { 128 };

#[derive(Clone, Debug)]
struct Group {
    turns: BTreeSet<Turn>,
    /// Which of the shapes it asks for.
    shape: u32,
    tasks: u16,
    spread: Spread,
}

/// What the first of a group asks for. It stands beside its place in the line, so that whoever walks
/// along thousands of them follows no pointer.
#[derive(Clone, Copy, Debug)]
struct Wish {
    group: u32,
    demand: Demand,
    tasks: u16,
}

/// A shape that somebody asks for.
#[derive(Clone, Debug)]
struct Kept {
    shape: Shape,
    /// How many groups ask for it.
    groups: u32,
    /// What was counted, and how many changes there had been; none if nobody asked yet.
    counted: Option<(Tally, u64)>,
}

/// A node's books changed.
#[derive(Clone, Copy, Debug)]
struct Change {
    node: u32,
    before: Room,
    after: Room,
}

/// The last changes of nodes.
#[derive(Clone, Debug, Default)]
struct Log {
    last: VecDeque<Change>,
    /// How many there were in all.
    count: u64,
}

impl Log {
    fn note(&mut self, change: Change) {
        if self.last.len() == LOG_MAX {
            self.last.pop_front();
        }
        self.last.push_back(change);
        self.count += 1;
    }

    /// Those since there had been so many, if they are all known.
    fn since(&self, count: u64) -> Option<impl Iterator<Item = &Change>> {
        let missed = (self.count - count) as usize;
        let known = self.last.len().checked_sub(missed)?;
        Some(self.last.range(known..))
    }
}

impl Kept {
    /// Where it could go now.
    fn tally(&mut self, log: &Log, topology: &Topology, ledger: &Ledger) -> &Tally {
        let shape = self.shape;
        let missed = match &self.counted {
            Some((_, upto)) => log.since(*upto),
            None => None,
        };
        match (&mut self.counted, missed) {
            (Some((tally, upto)), Some(changes)) => {
                for change in changes {
                    let node = &ledger.nodes()[change.node as usize];
                    let (was, is) = (
                        shape.on(node, &change.before),
                        shape.on(node, &change.after),
                    );
                    tally.change(node, &shape, was, is);
                }
                *upto = log.count;
            }
            (counted, _) => *counted = Some((Tally::new(topology, ledger, &shape), log.count)),
        }
        let (tally, _) = self.counted.as_ref().expect("counted above");
        tally
    }
}

/// Things by number; a number is used again once its thing is gone.
#[derive(Clone, Debug)]
struct Numbered<T> {
    all: Vec<T>,
    free: Vec<u32>,
}

impl<T> Numbered<T> {
    const fn new() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
        }
    }

    fn add(&mut self, thing: T) -> u32 {
        match self.free.pop() {
            Some(number) => {
                self.all[number as usize] = thing;
                number
            }
            None => {
                self.all.push(thing);
                self.all.len() as u32 - 1
            }
        }
    }

    fn remove(&mut self, number: u32) {
        self.free.push(number);
    }

    fn get(&self, number: u32) -> &T {
        &self.all[number as usize]
    }

    fn get_mut(&mut self, number: u32) -> &mut T {
        &mut self.all[number as usize]
    }
}

/// One tenant's jobs.
#[derive(Clone, Debug, Default)]
struct Line {
    /// All of them, by priority.
    classes: BTreeMap<Reverse<u8>, BTreeSet<Turn>>,
    /// The first of each group.
    fronts: BTreeMap<Front, Wish>,
}

/// Everybody who waits.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    jobs: BTreeMap<u64, Waiting>,
    lines: Vec<Line>,
    numbers: BTreeMap<Alike, u32>,
    groups: Numbered<Group>,
    places: BTreeMap<Shape, u32>,
    shapes: Numbered<Kept>,
    skyline: Skyline,
    log: Log,
    /// How often somebody came or went.
    changes: u64,
}

impl Queue {
    pub(super) fn new(tenants: usize, ledger: &Ledger) -> Self {
        Self {
            jobs: BTreeMap::new(),
            lines: alloc::vec![Line::default(); tenants],
            numbers: BTreeMap::new(),
            groups: Numbered::new(),
            places: BTreeMap::new(),
            shapes: Numbered::new(),
            skyline: Skyline::of(ledger),
            log: Log::default(),
            changes: 0,
        }
    }

    pub(super) const fn changes(&self) -> u64 {
        self.changes
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn get(&self, job: u64) -> Option<&Waiting> {
        self.jobs.get(&job)
    }

    pub(super) fn jobs(&self) -> impl Iterator<Item = &Waiting> {
        self.jobs.values()
    }

    /// One job of each group: the first of it.
    pub(super) fn fronts(&self, tenant: usize) -> impl Iterator<Item = &Waiting> {
        let fronts = self.lines[tenant].fronts.keys();
        fronts.map(|&(_, (_, id))| &self.jobs[&id])
    }

    /// Makes the skyline as low as it is: starting a job leaves it too high.
    pub(super) fn look_up(&mut self, ledger: &Ledger) {
        self.skyline.refresh(ledger);
    }

    /// The next of a tenant's fronts behind one, or from the first on, that would find room.
    pub(super) fn possible_after(
        &mut self,
        tenant: usize,
        front: Option<Front>,
        topology: &Topology,
        ledger: &Ledger,
    ) -> Option<Front> {
        let Self {
            lines,
            groups,
            shapes,
            skyline,
            log,
            ..
        } = self;
        let from = front.map_or(Bound::Unbounded, Bound::Excluded);
        let mut behind = lines[tenant].fronts.range((from, Bound::Unbounded));
        let possible = behind.find(|(_, wish)| {
            skyline.may_hold(&wish.demand, wish.tasks) && {
                let group = groups.get(wish.group);
                let tally = shapes.get_mut(group.shape).tally(log, topology, ledger);
                tally.fits(group.tasks, group.spread)
            }
        });
        possible.map(|(&front, _)| front)
    }

    /// Whether a job that waits would find room, its heat and everybody else's rights aside.
    pub(super) fn is_possible(&mut self, job: &Job, topology: &Topology, ledger: &Ledger) -> bool {
        self.skyline.may_hold(&job.demand, job.tasks)
            && (self.tally(job, topology, ledger)).fits(job.tasks, job.spread)
    }

    /// Where the demand of a job that waits could go.
    pub(super) fn tally(&mut self, job: &Job, topology: &Topology, ledger: &Ledger) -> &Tally {
        let shape = self.places[&Shape::of(job)];
        let kept = self.shapes.get_mut(shape);
        kept.tally(&self.log, topology, ledger)
    }

    /// What [`Self::tally`] or [`Self::is_possible`] last counted of it, if no node changed since.
    pub(super) fn counted(&self, job: &Job) -> &Tally {
        let kept = self.shapes.get(self.places[&Shape::of(job)]);
        let (tally, upto) = kept.counted.as_ref().expect("asked for before");
        debug_assert_eq!(*upto, self.log.count, "a node changed since");
        tally
    }

    /// Jobs of its tenant and priority, in order of arrival.
    pub(super) fn class(&self, job: &Job) -> &BTreeSet<Turn> {
        &self.lines[usize::from(job.tenant)].classes[&Reverse(job.priority)]
    }

    pub(super) fn add(&mut self, waiting: Waiting) {
        let Waiting { job, arrived, .. } = waiting;
        let turn = (arrived, job.id);
        self.changes += 1;
        self.jobs.insert(job.id, waiting);
        let line = &mut self.lines[usize::from(job.tenant)];
        let class = line.classes.entry(Reverse(job.priority)).or_default();
        class.insert(turn);
        let number = *self.numbers.entry(Alike::of(&job)).or_insert_with(|| {
            let shape = Shape::of(&job);
            let place = *self.places.entry(shape).or_insert_with(|| {
                self.shapes.add(Kept {
                    shape,
                    groups: 0,
                    counted: None,
                })
            });
            self.shapes.get_mut(place).groups += 1;
            self.groups.add(Group {
                turns: BTreeSet::new(),
                shape: place,
                tasks: job.tasks,
                spread: job.spread,
            })
        });
        let wish = Wish {
            group: number,
            demand: job.demand,
            tasks: job.tasks,
        };
        let group = self.groups.get_mut(number);
        let first = group.turns.first().copied();
        group.turns.insert(turn);
        if first.is_none_or(|first| turn < first) {
            if let Some(first) = first {
                line.fronts.remove(&(Reverse(job.priority), first));
            }
            line.fronts.insert((Reverse(job.priority), turn), wish);
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.jobs.remove(&id)?;
        self.changes += 1;
        let job = &waiting.job;
        let (alike, turn) = (Alike::of(job), (waiting.arrived, id));
        let line = &mut self.lines[usize::from(job.tenant)];
        let class = line.classes.get_mut(&Reverse(job.priority));
        let class = class.expect("its class holds it");
        class.remove(&turn);
        if class.is_empty() {
            line.classes.remove(&Reverse(job.priority));
        }
        let number = self.numbers[&alike];
        let group = self.groups.get_mut(number);
        group.turns.remove(&turn);
        let next = group.turns.first().copied();
        if let Some(wish) = line.fronts.remove(&(Reverse(job.priority), turn))
            && let Some(next) = next
        {
            line.fronts.insert((Reverse(job.priority), next), wish);
        }
        if next.is_none() {
            let place = group.shape;
            self.numbers.remove(&alike);
            self.groups.remove(number);
            let kept = self.shapes.get_mut(place);
            kept.groups -= 1;
            if kept.groups == 0 {
                self.places.remove(&kept.shape);
                kept.counted = None;
                self.shapes.remove(place);
            }
        }
        Some(waiting)
    }

    /// A node's books changed.
    pub(super) fn node_changed(&mut self, node: u32, before: &Room, after: &Room) {
        self.skyline.node_changed(before, after);
        self.log.note(Change {
            node,
            before: *before,
            after: *after,
        });
    }
}
