//! Who waits, in which order, and who of them could start at all?
//!
//! Jobs that ask for the same thing in the same name are one *group*: if the first of
//! them cannot start, none of them can. Thousands of waiting jobs are some tens of
//! groups. Groups that ask for the same on each node share a [`Tally`], which every
//! change of a node's books keeps true. So what has become possible is known without
//! looking at the queue, and what has not is not looked at.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;

use wire::{Instant, Nanos};

use crate::ledger::{Demand, Ledger, Node, Room};

use super::job::{Job, Quality, Spread};
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

#[derive(Clone, Debug)]
struct Group {
    turns: BTreeSet<Turn>,
    is_possible: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    tally: Tally,
    /// Whose groups it is, and whether they would find room; those that need the
    /// same number of tasks in the same domain stand together.
    groups: Vec<(Alike, bool)>,
}

impl Kept {
    fn place(&self, alike: &Alike) -> Result<usize, usize> {
        let key = |a: &Alike| (a.tasks, a.spread, *a);
        self.groups
            .binary_search_by_key(&key(alike), |(a, _)| key(a))
    }
}

/// One tenant's jobs.
#[derive(Clone, Debug, Default)]
struct Line {
    /// All of them, by priority.
    classes: BTreeMap<Reverse<u8>, BTreeSet<Turn>>,
    /// The first of each group, and those of them that would find room.
    fronts: BTreeSet<Front>,
    possible: BTreeSet<Front>,
}

/// Everybody who waits.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    jobs: BTreeMap<u64, Waiting>,
    lines: Vec<Line>,
    groups: BTreeMap<Alike, Group>,
    /// Where each shape stands in the two lists, which stand side by side so that a
    /// change of a node looks at thousands of shapes without following a pointer.
    places: BTreeMap<Shape, u32>,
    shapes: Vec<Shape>,
    kept: Vec<Kept>,
    possible: usize,
}

impl Queue {
    pub(super) fn new(tenants: usize) -> Self {
        Self {
            jobs: BTreeMap::new(),
            lines: alloc::vec![Line::default(); tenants],
            groups: BTreeMap::new(),
            places: BTreeMap::new(),
            shapes: Vec::new(),
            kept: Vec::new(),
            possible: 0,
        }
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
        let fronts = self.lines[tenant].fronts.iter();
        fronts.map(|&(_, (_, id))| &self.jobs[&id])
    }

    /// Whether any group would find room.
    pub(super) const fn anything_possible(&self) -> bool {
        self.possible > 0
    }

    /// The first of each of a tenant's groups that would find room.
    pub(super) fn possible(&self, tenant: usize) -> &BTreeSet<Front> {
        &self.lines[tenant].possible
    }

    /// Whether a job would find room, its heat and everybody else's rights aside.
    pub(super) fn is_possible(&self, job: &Job) -> bool {
        self.groups[&Alike::of(job)].is_possible
    }

    /// The first of a job's group.
    pub(super) fn front_of(&self, job: &Job) -> Option<Front> {
        let group = self.groups.get(&Alike::of(job))?;
        group.turns.first().map(|&t| (Reverse(job.priority), t))
    }

    /// Where a job's demand could go.
    pub(super) fn tally(&self, job: &Job) -> &Tally {
        &self.kept[self.places[&Shape::of(job)] as usize].tally
    }

    /// Jobs of its tenant and priority, in order of arrival.
    pub(super) fn class(&self, job: &Job) -> &BTreeSet<Turn> {
        &self.lines[usize::from(job.tenant)].classes[&Reverse(job.priority)]
    }

    pub(super) fn add(&mut self, waiting: Waiting, topology: &Topology, ledger: &Ledger) {
        let Waiting { job, arrived, .. } = waiting;
        let turn = (arrived, job.id);
        self.jobs.insert(job.id, waiting);
        let alike = Alike::of(&job);
        let line = &mut self.lines[usize::from(job.tenant)];
        let class = line.classes.entry(Reverse(job.priority)).or_default();
        class.insert(turn);
        let shape = Shape::of(&job);
        let place = *self.places.entry(shape).or_insert_with(|| {
            self.shapes.push(shape);
            self.kept.push(Kept {
                tally: Tally::new(topology, ledger, &shape),
                groups: Vec::new(),
            });
            self.kept.len() as u32 - 1
        });
        let kept = &mut self.kept[place as usize];
        let group = self.groups.entry(alike).or_insert_with(|| {
            let is_possible = kept.tally.fits(job.tasks, job.spread);
            let at = kept.place(&alike).expect_err("it is new");
            kept.groups.insert(at, (alike, is_possible));
            Group {
                turns: BTreeSet::new(),
                is_possible,
            }
        });
        let first = group.turns.first().copied();
        group.turns.insert(turn);
        if first.is_none_or(|first| turn < first) {
            let is_possible = group.is_possible;
            if let Some(first) = first {
                self.withdraw((Reverse(job.priority), first), job.tenant);
            }
            self.put_forward((Reverse(job.priority), turn), job.tenant, is_possible);
        }
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiting> {
        let waiting = self.jobs.remove(&id)?;
        let job = &waiting.job;
        let (alike, turn) = (Alike::of(job), (waiting.arrived, id));
        let line = &mut self.lines[usize::from(job.tenant)];
        let class = line.classes.get_mut(&Reverse(job.priority));
        let class = class.expect("its class holds it");
        class.remove(&turn);
        if class.is_empty() {
            line.classes.remove(&Reverse(job.priority));
        }
        let group = self.groups.get_mut(&alike).expect("its group holds it");
        let was_first = group.turns.first() == Some(&turn);
        group.turns.remove(&turn);
        let (next, is_possible) = (group.turns.first().copied(), group.is_possible);
        if was_first {
            self.withdraw((Reverse(job.priority), turn), job.tenant);
            if let Some(next) = next {
                self.put_forward((Reverse(job.priority), next), job.tenant, is_possible);
            }
        }
        if next.is_none() {
            self.groups.remove(&alike);
            let shape = Shape::of(job);
            let place = self.places[&shape] as usize;
            let kept = &mut self.kept[place];
            let at = kept.place(&alike).expect("it was put there");
            kept.groups.remove(at);
            if kept.groups.is_empty() {
                self.places.remove(&shape);
                self.shapes.swap_remove(place);
                self.kept.swap_remove(place);
                if let Some(moved) = self.shapes.get(place) {
                    self.places.insert(*moved, place as u32);
                }
            }
        }
        Some(waiting)
    }

    fn put_forward(&mut self, front: Front, tenant: u16, is_possible: bool) {
        let line = &mut self.lines[usize::from(tenant)];
        line.fronts.insert(front);
        if is_possible {
            line.possible.insert(front);
            self.possible += 1;
        }
    }

    fn withdraw(&mut self, front: Front, tenant: u16) {
        let line = &mut self.lines[usize::from(tenant)];
        line.fronts.remove(&front);
        self.possible -= usize::from(line.possible.remove(&front));
    }

    /// A node's books changed.
    pub(super) fn node_changed(&mut self, node: &Node, before: &Room, after: &Room) {
        for (shape, place) in self.shapes.iter().zip(0..) {
            let (was, is) = (shape.on(node, before), shape.on(node, after));
            if was == is {
                continue;
            }
            let kept: &mut Kept = &mut self.kept[place];
            kept.tally.change(node, shape, was, is);
            let mut last = None;
            for (alike, was_possible) in &mut kept.groups {
                let wish = (alike.tasks, alike.spread);
                let is_possible = match last {
                    Some((same, answer)) if same == wish => answer,
                    _ => kept.tally.fits(alike.tasks, alike.spread),
                };
                last = Some((wish, is_possible));
                if *was_possible == is_possible {
                    continue;
                }
                *was_possible = is_possible;
                let group = self.groups.get_mut(alike).expect("a shape's group");
                group.is_possible = is_possible;
                let first = *group.turns.first().expect("groups are not empty");
                let front = (Reverse(alike.priority), first);
                let line = &mut self.lines[usize::from(alike.tenant)];
                if is_possible {
                    line.possible.insert(front);
                    self.possible += 1;
                } else {
                    line.possible.remove(&front);
                    self.possible -= 1;
                }
            }
        }
    }
}
