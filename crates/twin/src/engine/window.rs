//! How do many threads run many processes without ever disagreeing?
//!
//! Processes lie in chunks, each behind a lock that is never contended: a worker
//! takes the next chunk from a counter and runs every process in it to the end
//! of the window. Between windows the coordinator, which is also worker 0, holds
//! all locks at once; that is the moment for whoever watches.
//!
//! Which worker ran a process shows in one place only, the outbox a message lies
//! in, and is removed there: a destination reads its letters by source and
//! sequence.

use std::mem;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use wire::{Class, Instant, Nanos};

use super::{Event, PROCESSES_MAX, Process, Queue, Schedule, key};

/// Processes and their future.
pub struct Engine<P: Process> {
    chunks: Vec<Chunk<P>>,
    /// One for each worker; empty while the run rests.
    outboxes: Vec<Mutex<Outbox<P::Message>>>,
    layout: Layout,
    lookahead: Nanos,
    threads: usize,
    now: Instant,
    events: u64,
}

/// Why a run came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The time asked for has come; events are still pending.
    Reached,
    /// The time asked for has come, and nothing will ever happen again unless it
    /// is scheduled from outside.
    Exhausted,
    /// Whoever watches said stop; the run stands at the end of that window.
    Interrupted,
}

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Every event before this has fired, and no other.
    pub now: Instant,
    /// Where the run is to stop.
    pub until: Instant,
    /// Events fired since the engine was made.
    pub events: u64,
}

impl<P: Process> Engine<P> {
    /// An engine at the epoch with nothing scheduled. `threads` includes the one
    /// that calls [`Engine::run_until`].
    ///
    /// # Panics
    /// If the lookahead is zero (no window has room for an event) or there are
    /// more processes than [`PROCESSES_MAX`].
    #[must_use]
    pub fn new(processes: Vec<P>, lookahead: Nanos, threads: usize) -> Self {
        // Enough chunks to even out the load of workers, few enough to lock all
        // of them at every barrier for about a microsecond.
        let chunk = processes.len().div_ceil(32 * threads.max(1));
        Self::with_chunks_of(chunk, processes, lookahead, threads)
    }

    /// As [`Engine::new`], with the number of processes a worker takes at a time,
    /// rounded up to a power of two. Changes nothing but the speed.
    ///
    /// # Panics
    /// As [`Engine::new`].
    #[must_use]
    pub fn with_chunks_of(
        chunk: usize,
        processes: Vec<P>,
        lookahead: Nanos,
        threads: usize,
    ) -> Self {
        assert!(lookahead > Nanos::ZERO, "a lookahead of zero");
        let threads = threads.max(1);
        let layout = Layout {
            processes: u32::try_from(processes.len())
                .ok()
                .filter(|&n| n <= PROCESSES_MAX)
                .expect("too many processes"),
            bits: chunk.max(1).next_power_of_two().ilog2(),
        };
        // Delays are mostly of the order of the lookahead or longer. The queue
        // finds a better width by itself after a thousand events.
        let queue = Queue::new(lookahead / 16);
        let mut chunks = Vec::with_capacity(layout.chunks());
        let mut processes = processes.into_iter();
        for first in (0..layout.processes).step_by(1 << layout.bits) {
            let lanes = (processes.by_ref())
                .take(1 << layout.bits)
                .map(|process| Lane {
                    process,
                    queue: queue.clone(),
                    sequence: 0,
                    lately: 0,
                    inbox: (0..threads).map(|_| Vec::new()).collect(),
                })
                .collect::<Vec<_>>();
            chunks.push(Chunk {
                first,
                due: vec![Due::NEVER; lanes.len()],
                earliest: Instant::END,
                mailed: false,
                events: 0,
                lanes,
            });
        }
        Self {
            chunks,
            outboxes: layout.outboxes(threads),
            layout,
            lookahead,
            threads,
            now: Instant::EPOCH,
            events: 0,
        }
    }

    /// Schedules an event from outside, as if the process had done so itself.
    ///
    /// # Panics
    /// If `at` is past, or there is no such process.
    pub fn schedule_initial(
        &mut self,
        process: u32,
        at: Instant,
        class: Class,
        target: u32,
        payload: u64,
    ) {
        assert!(at >= self.now, "an event was scheduled in the past");
        let (chunk, lane) = self.layout.place(process);
        self.chunks[chunk].schedule(lane, at, class, target, payload);
    }

    /// [`Engine::run_until`] with nobody watching.
    pub fn run(&mut self, until: Instant) -> Outcome {
        self.run_until(until, &mut |_, _| ControlFlow::Continue(()))
    }

    /// Fires every event before `until`, and none at or after it. Between windows
    /// `at_barrier` sees all processes and may change them.
    ///
    /// # Panics
    /// With whatever a process or `at_barrier` panics with; the engine is empty
    /// afterwards.
    //= requirements W1
    pub fn run_until(
        &mut self,
        until: Instant,
        at_barrier: &mut dyn FnMut(&mut World<'_, P>, Progress) -> ControlFlow<()>,
    ) -> Outcome {
        let chunks = mem::take(&mut self.chunks)
            .into_iter()
            .map(Mutex::new)
            .collect::<Vec<_>>();
        let outboxes = mem::take(&mut self.outboxes);
        let crew = Crew {
            chunks: &chunks,
            outboxes: &outboxes,
            claimed: AtomicUsize::new(0),
            window_end: AtomicU64::new(0),
            begin: Gate::default(),
            done: Gate::default(),
            home: AtomicBool::new(false),
            hurt: AtomicBool::new(false),
        };
        let outcome = thread::scope(|scope| {
            // Dropped last, also when this thread panics: a worker that waits
            // for a window that never comes would keep the scope from ending.
            let _dismissal = Dismissal(&crew);
            for worker in 1..self.threads {
                let crew = &crew;
                scope.spawn(move || crew.work(worker));
            }
            self.conduct(&crew, until, at_barrier)
        });
        self.chunks = chunks
            .into_iter()
            .map(|chunk| chunk.into_inner().expect("no worker panicked"))
            .collect();
        self.outboxes = outboxes;
        // A run that rests has no letters under way: whoever looks at the
        // processes or clones them finds every message received.
        for chunk in &mut self.chunks {
            chunk.receive_all();
        }
        outcome
    }

    fn conduct(
        &mut self,
        crew: &Crew<'_, P>,
        until: Instant,
        at_barrier: &mut dyn FnMut(&mut World<'_, P>, Progress) -> ControlFlow<()>,
    ) -> Outcome {
        let mut round = 0;
        let mut world = World::lock(crew, self.layout, self.now);
        loop {
            let earliest = world.earliest();
            if earliest >= until {
                self.now = self.now.max(until);
                return if earliest == Instant::END {
                    Outcome::Exhausted
                } else {
                    Outcome::Reached
                };
            }
            let window = earliest.0 / self.lookahead.0;
            let end = Instant(window.saturating_add(1).saturating_mul(self.lookahead.0)).min(until);

            let busy = world.busy(end);
            drop(world);
            crew.claimed.store(0, Ordering::Relaxed);
            crew.window_end.store(end.0, Ordering::Relaxed);
            // A single chunk with work is not worth waking anybody for.
            if busy > 1 && self.threads > 1 {
                round += 1;
                crew.begin.pass(round);
                crew.run(0);
                crew.done.wait_for(round * (self.threads as u64 - 1));
                assert!(!crew.hurt.load(Ordering::Relaxed), "a worker panicked");
            } else {
                crew.run(0);
            }
            self.now = end;

            world = World::lock(crew, self.layout, end);
            self.events = world.hand_over(crew);
            let progress = Progress {
                now: end,
                until,
                events: self.events,
            };
            if at_barrier(&mut world, progress).is_break() {
                return Outcome::Interrupted;
            }
        }
    }

    /// One process.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn process(&self, process: u32) -> &P {
        let (chunk, lane) = self.layout.place(process);
        &self.chunks[chunk].lanes[lane].process
    }

    /// All processes, in order.
    pub fn processes(&self) -> impl Iterator<Item = &P> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.lanes.iter().map(|lane| &lane.process))
    }

    /// All processes, in order.
    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.chunks
            .iter_mut()
            .flat_map(|chunk| chunk.lanes.iter_mut().map(|lane| &mut lane.process))
    }

    /// Events fired since the engine was made.
    #[must_use]
    pub const fn events(&self) -> u64 {
        self.events
    }

    /// Every event before this has fired, and no other.
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Events that are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.chunks
            .iter()
            .flat_map(|chunk| &chunk.lanes)
            .map(|lane| lane.queue.len())
            .sum()
    }
}

/// A snapshot: both go on from here, and to the same end if nobody interferes.
impl<P: Process + Clone> Clone for Engine<P> {
    fn clone(&self) -> Self {
        Self {
            chunks: self.chunks.iter().map(Chunk::snapshot).collect(),
            outboxes: self.layout.outboxes(self.threads),
            ..*self
        }
    }
}

/// All processes between two windows.
///
/// Messages sent in the window just over are still under way: a process receives
/// them when it is next run.
pub struct World<'a, P: Process> {
    chunks: Vec<MutexGuard<'a, Chunk<P>>>,
    layout: Layout,
    now: Instant,
    /// Of the letters under way; all of them are received in the next window.
    earliest_letter: Instant,
}

impl<P: Process> World<'_, P> {
    /// The number of processes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.layout.processes as usize
    }

    /// Whether there is nothing to see.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.layout.processes == 0
    }

    /// One process.
    ///
    /// # Panics
    /// If there is none of this number.
    #[must_use]
    pub fn process(&self, process: u32) -> &P {
        let (chunk, lane) = self.layout.place(process);
        &self.chunks[chunk].lanes[lane].process
    }

    /// One process, to be changed.
    ///
    /// # Panics
    /// If there is none of this number.
    pub fn process_mut(&mut self, process: u32) -> &mut P {
        let (chunk, lane) = self.layout.place(process);
        &mut self.chunks[chunk].lanes[lane].process
    }

    /// All processes, in order.
    pub fn iter(&self) -> impl Iterator<Item = &P> {
        self.chunks
            .iter()
            .flat_map(|chunk| chunk.lanes.iter().map(|lane| &lane.process))
    }

    /// All processes, in order, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut P> {
        self.chunks
            .iter_mut()
            .flat_map(|chunk| chunk.lanes.iter_mut().map(|lane| &mut lane.process))
    }

    /// Schedules an event, as if the process had done so itself.
    ///
    /// # Panics
    /// If `at` is past, or there is no such process.
    pub fn schedule(&mut self, process: u32, at: Instant, class: Class, target: u32, payload: u64) {
        assert!(at >= self.now, "an event was scheduled in the past");
        let (chunk, lane) = self.layout.place(process);
        self.chunks[chunk].schedule(lane, at, class, target, payload);
    }

    /// Has a process receive a message at once, as if it had sent it to itself.
    ///
    /// # Panics
    /// If `at` is past, or there is no such process.
    pub fn send(&mut self, to: u32, at: Instant, class: Class, message: P::Message) {
        let (target, payload) = self.process_mut(to).receive(at, message);
        self.schedule(to, at, class, target, payload);
    }
}

impl<'a, P: Process> World<'a, P> {
    fn lock(crew: &Crew<'a, P>, layout: Layout, now: Instant) -> Self {
        Self {
            chunks: crew.chunks.iter().map(lock).collect(),
            layout,
            now,
            earliest_letter: Instant::END,
        }
    }

    fn earliest(&self) -> Instant {
        self.chunks
            .iter()
            .map(|chunk| chunk.earliest)
            .fold(self.earliest_letter, Instant::min)
    }

    fn busy(&self, end: Instant) -> usize {
        self.chunks
            .iter()
            .filter(|chunk| chunk.mailed || chunk.earliest < end)
            .count()
    }

    /// Gives every list of letters to its destination; returns the events fired
    /// so far.
    fn hand_over(&mut self, crew: &Crew<'_, P>) -> u64 {
        for (worker, outbox) in crew.outboxes.iter().enumerate() {
            let mut outbox = lock(outbox);
            let Outbox {
                letters,
                addressed,
                earliest,
            } = &mut *outbox;
            self.earliest_letter = self
                .earliest_letter
                .min(mem::replace(earliest, Instant::END));
            for to in addressed.drain(..) {
                let (chunk, lane) = self.layout.place(to);
                let chunk = &mut *self.chunks[chunk];
                let list = &mut letters[to as usize];
                chunk.mailed = true;
                chunk.due[lane].mailed = true;
                mem::swap(list, &mut chunk.lanes[lane].inbox[worker]);
            }
        }
        self.chunks.iter().map(|chunk| chunk.events).sum()
    }
}

/// Where a process lies: in chunks of 2^`bits`.
#[derive(Clone, Copy)]
struct Layout {
    processes: u32,
    bits: u32,
}

impl Layout {
    const fn chunks(self) -> usize {
        self.processes.div_ceil(1 << self.bits) as usize
    }

    fn outboxes<M>(self, threads: usize) -> Vec<Mutex<Outbox<M>>> {
        (0..threads)
            .map(|_| {
                Mutex::new(Outbox {
                    letters: (0..self.processes).map(|_| Vec::new()).collect(),
                    addressed: Vec::new(),
                    earliest: Instant::END,
                })
            })
            .collect()
    }

    #[inline]
    const fn place(self, process: u32) -> (usize, usize) {
        let lane = process & ((1 << self.bits) - 1);
        ((process >> self.bits) as usize, lane as usize)
    }
}

/// A message on its way between processes.
pub(super) struct Letter<M> {
    pub(super) at: Instant,
    pub(super) key: u64,
    pub(super) message: M,
}

/// What one worker's processes have sent in this window, by destination.
pub(super) struct Outbox<M> {
    letters: Vec<Vec<Letter<M>>>,
    /// The destinations with a letter.
    addressed: Vec<u32>,
    earliest: Instant,
}

impl<M> Outbox<M> {
    #[inline]
    pub(super) fn put(&mut self, to: u32, letter: Letter<M>) {
        self.earliest = self.earliest.min(letter.at);
        let letters = &mut self.letters[to as usize];
        if letters.is_empty() {
            self.addressed.push(to);
        }
        letters.push(letter);
    }
}

/// A process and what is its own.
struct Lane<P: Process> {
    process: P,
    queue: Queue,
    sequence: u64,
    /// Events fired when it was last run: a guess at how many will be.
    lately: usize,
    /// One list of letters from each worker.
    inbox: Vec<Vec<Letter<P::Message>>>,
}

/// Processes that are run by the same worker in a window.
struct Chunk<P: Process> {
    first: u32,
    lanes: Vec<Lane<P>>,
    /// Beside the lanes, so that an idle process is not touched.
    due: Vec<Due>,
    /// The earliest of all events, letters not yet received excepted.
    earliest: Instant,
    /// Whether any lane has letters to receive.
    mailed: bool,
    events: u64,
}

#[derive(Clone, Copy)]
struct Due {
    earliest: Instant,
    mailed: bool,
}

impl Due {
    const NEVER: Self = Self {
        earliest: Instant::END,
        mailed: false,
    };
}

impl<P: Process> Chunk<P> {
    fn schedule(&mut self, lane: usize, at: Instant, class: Class, target: u32, payload: u64) {
        let source = self.first + lane as u32;
        let due = &mut self.due[lane].earliest;
        *due = at.min(*due);
        self.earliest = at.min(self.earliest);
        let lane = &mut self.lanes[lane];
        lane.queue.insert(Event {
            at,
            key: key(class, source, lane.sequence),
            target,
            payload,
        });
        lane.sequence += 1;
    }

    /// Runs every process to the end of the window.
    fn run(&mut self, window_end: Instant, outbox: &mut Outbox<P::Message>) {
        if !self.mailed && self.earliest >= window_end {
            return;
        }
        self.mailed = false;
        self.earliest = Instant::END;
        for ((process, lane), due) in (self.first..).zip(&mut self.lanes).zip(&mut self.due) {
            if due.mailed || due.earliest < window_end {
                lane.anticipate();
                if due.mailed {
                    lane.receive();
                }
                self.events += lane.run(process, window_end, outbox);
                *due = Due {
                    earliest: lane.queue.earliest().unwrap_or(Instant::END),
                    mailed: false,
                };
            }
            self.earliest = self.earliest.min(due.earliest);
        }
    }

    fn receive_all(&mut self) {
        if !mem::take(&mut self.mailed) {
            return;
        }
        for (lane, due) in self.lanes.iter_mut().zip(&mut self.due) {
            if due.mailed {
                lane.receive();
                *due = Due {
                    earliest: lane.queue.earliest().unwrap_or(Instant::END),
                    mailed: false,
                };
                // A letter may be due before everything the chunk knew of; a run
                // that goes on must not begin its first window behind it.
                self.earliest = self.earliest.min(due.earliest);
            }
        }
    }

    fn snapshot(&self) -> Self
    where
        P: Clone,
    {
        debug_assert!(!self.mailed, "letters are received before a run rests");
        Self {
            first: self.first,
            lanes: self.lanes.iter().map(Lane::snapshot).collect(),
            due: self.due.clone(),
            ..*self
        }
    }
}

impl<P: Process> Lane<P> {
    /// Between two windows a million nodes have passed through the cache. What
    /// this lane is about to touch here and there, it reads in order first.
    fn anticipate(&self) {
        self.queue.anticipate(self.lately);
        self.process.anticipate(self.lately);
    }

    fn run(&mut self, process: u32, window_end: Instant, outbox: &mut Outbox<P::Message>) -> u64 {
        let mut events = 0;
        while let Some(event) = self.queue.pop_before(window_end) {
            events += 1;
            if let Some(later) = self.queue.upcoming(1) {
                self.process.prepare(later, false);
            }
            if let Some(next) = self.queue.upcoming(0) {
                self.process.prepare(next, true);
            }
            let mut schedule = Schedule {
                now: event.at,
                window_end,
                process,
                sequence: &mut self.sequence,
                queue: &mut self.queue,
                outbox,
            };
            self.process.fire(event, &mut schedule);
        }
        if events > 0 {
            let mut schedule = Schedule {
                now: window_end,
                window_end,
                process,
                sequence: &mut self.sequence,
                queue: &mut self.queue,
                outbox,
            };
            self.process.end_of_window(window_end, &mut schedule);
        }
        self.lately = events;
        events as u64
    }

    /// Turns letters into events, in an order that does not show which worker
    /// they came from.
    fn receive(&mut self) {
        let Self {
            process,
            queue,
            inbox,
            ..
        } = self;
        let mut accept = |letter: Letter<P::Message>| {
            let (target, payload) = process.receive(letter.at, letter.message);
            queue.insert(Event {
                at: letter.at,
                key: letter.key,
                target,
                payload,
            });
        };
        // A worker takes chunks in ascending order, so each list is already in
        // order of source and sequence.
        match inbox.iter().filter(|letters| !letters.is_empty()).count() {
            0 | 1 => inbox
                .iter_mut()
                .for_each(|letters| letters.drain(..).for_each(&mut accept)),
            _ => {
                let mut lists = inbox
                    .iter_mut()
                    .map(|letters| letters.drain(..).peekable())
                    .collect::<Vec<_>>();
                while let Some(list) = (lists.iter_mut())
                    .filter_map(|list| Some((without_class(list.peek()?.key), list)))
                    .min_by_key(|&(order, _)| order)
                    .map(|(_, list)| list)
                {
                    list.next().into_iter().for_each(&mut accept);
                }
            }
        }
    }

    fn snapshot(&self) -> Self
    where
        P: Clone,
    {
        Self {
            process: self.process.clone(),
            queue: self.queue.clone(),
            sequence: self.sequence,
            lately: self.lately,
            inbox: self.inbox.iter().map(|_| Vec::new()).collect(),
        }
    }
}

/// Source and sequence alone.
const fn without_class(key: u64) -> u64 {
    key << 2
}

/// What workers share.
struct Crew<'a, P: Process> {
    chunks: &'a [Mutex<Chunk<P>>],
    outboxes: &'a [Mutex<Outbox<P::Message>>],
    /// Chunks taken in this window. Relaxed, as `window_end`: the gates order them.
    claimed: AtomicUsize,
    window_end: AtomicU64,
    /// Counts windows.
    begin: Gate,
    /// Counts workers that are done with one.
    done: Gate,
    /// There are no more windows.
    home: AtomicBool,
    /// A worker panicked.
    hurt: AtomicBool,
}

impl<P: Process> Crew<'_, P> {
    fn run(&self, worker: usize) {
        let mut outbox = lock(&self.outboxes[worker]);
        let window_end = Instant(self.window_end.load(Ordering::Relaxed));
        while let Some(chunk) = self
            .chunks
            .get(self.claimed.fetch_add(1, Ordering::Relaxed))
        {
            lock(chunk).run(window_end, &mut outbox);
        }
    }

    fn work(&self, worker: usize) {
        for round in 1.. {
            self.begin.wait_for(round);
            if self.home.load(Ordering::Relaxed) {
                return;
            }
            let _report = Report(self);
            self.run(worker);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no other worker panicked")
}

/// Sends all workers home when dropped.
struct Dismissal<'a, 'b, P: Process>(&'a Crew<'b, P>);

impl<P: Process> Drop for Dismissal<'_, '_, P> {
    fn drop(&mut self) {
        self.0.home.store(true, Ordering::Relaxed);
        self.0.begin.pass(u64::MAX);
    }
}

/// Says that a worker is done with a window, however it ended.
struct Report<'a, 'b, P: Process>(&'a Crew<'b, P>);

impl<P: Process> Drop for Report<'_, '_, P> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.hurt.store(true, Ordering::Relaxed);
        }
        self.0.done.pass_one_more();
    }
}

/// A count that threads wait for.
///
/// Windows take from microseconds to seconds. A worker that is early looks on
/// for some ten microseconds and then sleeps: whoever shares the machine is
/// likely to be the one we are waiting for.
#[derive(Default)]
struct Gate {
    count: AtomicU64,
    sleepers: Mutex<()>,
    changed: Condvar,
}

const SPINS: u32 = 400;

impl Gate {
    fn pass(&self, count: u64) {
        self.count.store(count, Ordering::Release);
        self.wake();
    }

    fn pass_one_more(&self) {
        self.count.fetch_add(1, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // Through the lock, or a thread that has just looked at the count and is
        // about to sleep would miss it. The lock guards no data.
        drop(self.sleepers.lock());
        self.changed.notify_all();
    }

    fn wait_for(&self, count: u64) {
        for _ in 0..SPINS {
            if self.count.load(Ordering::Acquire) >= count {
                return;
            }
            std::hint::spin_loop();
        }
        let guard = lock(&self.sleepers);
        let waited = self
            .changed
            .wait_while(guard, |()| self.count.load(Ordering::Acquire) < count);
        drop(waited.expect("nothing panics with this lock held"));
    }
}
