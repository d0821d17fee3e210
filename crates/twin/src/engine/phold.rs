//! How fast is an engine that does almost nothing else?
//!
//! PHOLD (Fujimoto, *Performance of Time Warp under synthetic workloads*, 1990)
//! is what simulators of discrete events are compared by. Each of N logical
//! processes starts with one event. Firing it draws a delay, here 0.1 plus an
//! exponential of mean 0.9, and schedules one event for the process itself or,
//! with probability `remote`, for one drawn at random. N events are pending at
//! all times, and every one moves.
//!
//! The twin's processes hold a thousand logical processes each, as they hold a
//! thousand tiles. [`Reference`] runs the same model on one binary heap: it is
//! what the engine is measured against, and what it must agree with.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use machine::{Purpose, Stream};
use wire::{Class, Instant, Nanos, Tile};

use super::{Engine, Event, Process, Schedule, anticipate, history, key};

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// Engine processes.
    pub cells: u32,
    /// Logical processes in each.
    pub members: u32,
    /// The probability that an event's successor is drawn at random rather than
    /// scheduled for the same logical process.
    pub remote: f64,
    /// Where it is drawn from.
    pub reach: Reach,
    /// The run's seed.
    pub seed: u64,
}

/// Where random targets are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The own cell. Nothing ever leaves it, so any lookahead is right.
    Cell,
    /// All cells, uniformly. The lookahead is [`LOOKAHEAD`] at most.
    Everywhere,
}

/// The smallest delay.
pub const LOOKAHEAD: Nanos = Nanos::from_millis(100);

/// The mean of what is added to it, in nanoseconds.
const MEAN_NS: f64 = 0.9e9;

/// One cell of logical processes.
#[derive(Clone)]
pub struct Cell {
    first: u32,
    model: Model,
    members: Vec<Member>,
}

/// One logical process: 16 bytes.
#[derive(Clone)]
struct Member {
    chance: Stream,
    history: u64,
}

impl Model {
    /// Logical processes in all.
    #[must_use]
    pub const fn population(&self) -> u32 {
        self.cells * self.members
    }

    /// An engine with one event scheduled in each logical process.
    #[must_use]
    pub fn engine(self, lookahead: Nanos, threads: usize) -> Engine<Cell> {
        self.start(Engine::new(self.cells().collect(), lookahead, threads))
    }

    /// As [`Model::engine`], in chunks of this many cells.
    #[must_use]
    pub fn engine_with_chunks_of(
        self,
        chunk: usize,
        lookahead: Nanos,
        threads: usize,
    ) -> Engine<Cell> {
        let cells = self.cells().collect();
        self.start(Engine::with_chunks_of(chunk, cells, lookahead, threads))
    }

    fn start(self, mut engine: Engine<Cell>) -> Engine<Cell> {
        for cell in 0..self.cells {
            for (member, at) in (0..).zip(self.first_events(cell)) {
                engine.schedule_initial(cell, at, Class::C, member, 0);
            }
        }
        engine
    }

    /// The history of all logical processes.
    pub fn history<'a>(self, cells: impl IntoIterator<Item = &'a Cell>) -> u128 {
        history::combine(cells.into_iter().flat_map(|cell| {
            (u64::from(cell.first)..).zip(cell.members.iter().map(|member| member.history))
        }))
    }

    fn cells(self) -> impl Iterator<Item = Cell> {
        (0..self.cells).map(move |cell| {
            let first = cell * self.members;
            Cell {
                first,
                model: self,
                members: (first..first + self.members)
                    .map(|lp| Member {
                        chance: Stream::new(self.seed, Tile(lp.into()), Purpose::Work),
                        history: 0,
                    })
                    .collect(),
            }
        })
    }

    /// When a cell's members begin, from streams of their own.
    fn first_events(self, cell: u32) -> impl Iterator<Item = Instant> {
        (0..self.members).map(move |member| {
            let lp = Tile((cell * self.members + member).into());
            Instant::EPOCH + delay(&mut Stream::new(self.seed, lp, Purpose::Manufacture))
        })
    }
}

/// By inversion; `libm`, because its logarithm is the same on every machine.
#[inline]
fn delay(chance: &mut Stream) -> Nanos {
    // 1 − u lies in (0, 1].
    let exponential = -libm::log(1.0 - chance.unit());
    LOOKAHEAD + Nanos((exponential * MEAN_NS) as u64)
}

impl Cell {
    /// Fires an event; returns when and at which logical process of the whole
    /// model the next one is due.
    #[inline]
    fn step(&mut self, event: Event) -> (Instant, u32) {
        let member = &mut self.members[event.target as usize];
        member.history = history::fold(member.history, event.at, event.key, event.payload);
        let at = event.at + delay(&mut member.chance);
        let Model {
            remote,
            reach,
            members,
            ..
        } = self.model;
        let target = if remote > 0.0 && member.chance.chance(remote) {
            match reach {
                Reach::Cell => self.first + member.chance.below(members.into()) as u32,
                Reach::Everywhere => member.chance.below(self.model.population().into()) as u32,
            }
        } else {
            self.first + event.target
        };
        (at, target)
    }
}

/// What travels between cells.
pub struct Hop {
    target: u32,
    hops: u32,
}

impl Process for Cell {
    type Message = Hop;

    #[inline]
    fn fire(&mut self, event: Event, schedule: &mut Schedule<'_, Hop>) {
        let (at, target) = self.step(event);
        let hops = event.payload + 1;
        // Wraps, and is then larger than any member's number, for cells before
        // this one.
        let local = target.wrapping_sub(self.first);
        if local < self.model.members {
            schedule.local(at, Class::C, local, hops);
        } else {
            let members = self.model.members;
            schedule.send(
                target / members,
                at,
                Class::C,
                Hop {
                    target: target % members,
                    hops: hops as u32,
                },
            );
        }
    }

    fn anticipate(&self, events: usize) {
        anticipate(&self.members, events, |member| member.history);
    }

    #[inline]
    fn receive(&mut self, _at: Instant, message: Hop) -> (u32, u64) {
        (message.target, message.hops.into())
    }
}

/// The same model on one binary heap, event by event in global order.
///
/// Shares no code with the engine but the making of keys.
pub struct Reference {
    model: Model,
    cells: Vec<Cell>,
    sequences: Vec<u64>,
    heap: BinaryHeap<Reverse<Pending>>,
    events: u64,
}

/// Time, key, target in the whole model, hops: 24 bytes.
type Pending = (u64, u64, u32, u32);

impl Reference {
    /// One event scheduled in each logical process.
    #[must_use]
    pub fn new(model: Model) -> Self {
        let mut reference = Self {
            model,
            cells: model.cells().collect(),
            sequences: vec![0; model.cells as usize],
            heap: BinaryHeap::with_capacity(model.population() as usize),
            events: 0,
        };
        for cell in 0..model.cells {
            for (member, at) in (0..).zip(model.first_events(cell)) {
                reference.push(cell, at, cell * model.members + member, 0);
            }
        }
        reference
    }

    fn push(&mut self, source: u32, at: Instant, target: u32, hops: u32) {
        let sequence = &mut self.sequences[source as usize];
        let key = key(Class::C, source, *sequence);
        *sequence += 1;
        self.heap.push(Reverse((at.0, key, target, hops)));
    }

    /// Fires every event before `until`.
    pub fn run_until(&mut self, until: Instant) {
        while let Some(&Reverse((at, key, target, hops))) = self.heap.peek()
            && at < until.0
        {
            self.events += 1;
            self.heap.pop();
            let members = self.model.members;
            let cell = target / members;
            let (next, to) = self.cells[cell as usize].step(Event {
                at: Instant(at),
                key,
                target: target % members,
                payload: hops.into(),
            });
            self.push(cell, next, to, hops + 1);
        }
    }

    /// Events fired.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// The history of all logical processes.
    #[must_use]
    pub fn history(&self) -> u128 {
        self.model.history(&self.cells)
    }
}
