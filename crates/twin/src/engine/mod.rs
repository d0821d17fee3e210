//! In which order do a million nodes' events happen, on several cores?
//!
//! **In one order.** Every event has a key: the class of what it carries, the
//! process that scheduled it, and that process's count. Events fire by time and
//! then by key. Nothing in that says thread, machine or luck, so the history is
//! the same on any number of them.
//!
//! **A process is the unit of work.** A [`Process`] is a cell of about a thousand
//! tiles with everything in them. Events inside it are its own affair and go
//! through its own [`Queue`]; it is run as far as possible before the next one
//! is touched, so that its tiles and its queue stay in a core's second-level
//! cache. That, not clever threading, is where the speed comes from: the same
//! events in global order cost five to ten times as much.
//!
//! **Windows.** Nothing sent to another process arrives sooner than the
//! *lookahead*, the smallest delay between processes. Events within one window of
//! that width therefore cannot affect another process within the same window,
//! and all processes can be run through it independently. The longer the light
//! takes between cells, the wider the windows and the faster the twin. Windows
//! lie on a grid of multiples of the lookahead, cut only where the caller asked
//! to stop, so that two runs that differ in a fault still share their windows.
//! Windows in which nothing happens are skipped.
//!
//! **Messages** leave a process into the worker's outbox, sorted by destination
//! as they are written. At the barrier the lists change hands; each destination
//! turns its list into events of its own when it is next visited, which is in
//! the very next window and before any of them can be due.
//!
//! Deliberately absent: rollback, wall-clock time, any knowledge of links, loss
//! or faults (a process decides about a message when it sends and when the event
//! fires), and events that can be cancelled (a process that no longer wants a
//! wake-up ignores it, as [`machine::Machine::wake`] allows).
//!
//! Tour: [`queue`] one process's calendar · [`window`] many processes, many
//! threads, one barrier · [`history`] did two runs do the same? · [`phold`] the
//! usual yardstick.

pub mod history;
pub mod phold;
pub mod queue;
pub mod window;

pub use queue::Queue;
pub use window::{Engine, Outcome, Progress, World};

use std::ops::Range;

use wire::{Class, Instant};

/// Something due in one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// Its place among events of the same instant; unique in a run. See [`key`].
    pub key: u64,
    /// To whom, in the process's own numbering: a tile.
    pub target: u32,
    /// What, in the process's own terms: a number, or a handle to something it
    /// keeps.
    pub payload: u64,
}

impl Event {
    /// Events fire in ascending order of this.
    #[inline]
    #[must_use]
    pub const fn order(&self) -> u128 {
        (self.at.0 as u128) << 64 | self.key as u128
    }

    /// How urgent whoever scheduled it said it was.
    #[must_use]
    pub const fn class(&self) -> Class {
        Class::ALL[(self.key >> (SOURCE_BITS + SEQUENCE_BITS)) as usize]
    }

    /// The process that scheduled it.
    #[must_use]
    pub const fn source(&self) -> u32 {
        (self.key >> SEQUENCE_BITS) as u32 & (PROCESSES_MAX - 1)
    }
}

const SOURCE_BITS: u32 = 26;
const SEQUENCE_BITS: u32 = 36;
// The class has what is left: two bits for four classes.
const _: () = assert!(SOURCE_BITS + SEQUENCE_BITS + 2 == 64 && Class::ALL.len() == 4);

/// The most processes one run can have: 6.7 × 10⁷, of a thousand tiles each.
pub const PROCESSES_MAX: u32 = 1 << SOURCE_BITS;

/// The key of the `sequence`-th event scheduled by a process: class, then
/// source, then sequence, from the most significant bit down.
///
/// # Panics
/// When a process has scheduled 2³⁶ events: 19 hours of real time at a million
/// a second, in a single cell.
#[inline]
#[must_use]
pub const fn key(class: Class, source: u32, sequence: u64) -> u64 {
    assert!(sequence >> SEQUENCE_BITS == 0, "a process ran out of keys");
    (class as u64) << (SOURCE_BITS + SEQUENCE_BITS) | (source as u64) << SEQUENCE_BITS | sequence
}

/// A part of the universe whose events affect only itself, except by messages.
pub trait Process: Send {
    /// What it sends to other processes.
    type Message: Send;

    /// One of its events is due.
    fn fire(&mut self, event: Event, schedule: &mut Schedule<'_, Self::Message>);

    /// Takes a message that is due at `at` and says as which event: its target
    /// and payload.
    ///
    /// This happens some time before `at`, as soon as the window in which it was
    /// sent is over. A process must not let anything but the event's later
    /// firing depend on that: what is large is kept, and the payload is a handle
    /// to it that means nothing by itself.
    fn receive(&mut self, at: Instant, message: Self::Message) -> (u32, u64);

    /// About this many events are going to fire, after other processes have had
    /// the cache to themselves.
    ///
    /// Each event's first look at its tile then waits for main memory, one after
    /// the other. Reading all tiles' hot state in order is often faster: with 100
    /// events a window, PHOLD runs three times as fast for it. [`anticipate`]
    /// does that for a slice.
    fn anticipate(&self, events: usize) {
        let _ = events;
    }

    /// This event fires soon: after the next one if `next` is not set, and next if it is. A
    /// place to [`prefetch`] what it will touch; first what is known to be
    /// touched, then what that points to.
    #[inline]
    fn prepare(&self, event: &Event, next: bool) {
        let _ = (event, next);
    }

    /// Every event of this process before `until` has fired; called only if there
    /// was one. A place for work that is cheaper done for many tiles at once.
    ///
    /// The run's history must not depend on where windows end: they end earlier
    /// where a caller stops to look.
    fn end_of_window(&mut self, until: Instant, schedule: &mut Schedule<'_, Self::Message>) {
        let _ = (until, schedule);
    }
}

/// Reads through a slice in order, so that it lies in the cache, if about
/// `events` looks at random places of it would take longer.
#[inline]
pub fn anticipate<T>(slice: &[T], events: usize, look: impl Fn(&T) -> u64) {
    const LINE_BYTES: usize = 64;
    /// Lines read in order in the time of one look. Measured with PHOLD on a
    /// million logical processes: about 25 for the members, which an event looks
    /// at once, and 55 for the queue, which it looks at twice.
    const LINES_PER_LOOK: usize = 32;
    if size_of_val(slice) / LINE_BYTES <= events * LINES_PER_LOOK {
        let step = (LINE_BYTES / size_of::<T>().max(1)).max(1);
        let seen = slice.iter().step_by(step).fold(0, |seen, x| seen ^ look(x));
        std::hint::black_box(seen);
    }
}

/// Has the processor fetch what lies there into its first cache and does not wait for them.
#[inline]
pub fn prefetch<T>(of: Range<*const T>) {
    const LINE_BYTES: usize = 64;
    let bytes = of.start as usize..of.end as usize;
    for line in (bytes.start & !(LINE_BYTES - 1)..bytes.end).step_by(LINE_BYTES) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch is a hint, which reads and changes nothing, whatever the address.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line as *const i8);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// What a process may ask for while one of its events fires.
pub struct Schedule<'a, M> {
    now: Instant,
    /// Every process has reached the start of the window and none its end.
    window_end: Instant,
    process: u32,
    sequence: &'a mut u64,
    queue: &'a mut Queue,
    outbox: &'a mut window::Outbox<M>,
}

impl<M> Schedule<'_, M> {
    /// The instant of the event that fires.
    #[inline]
    #[must_use]
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// The first instant at which a message may arrive elsewhere.
    #[inline]
    #[must_use]
    pub const fn window_end(&self) -> Instant {
        self.window_end
    }

    /// The number of the process that is run.
    #[inline]
    #[must_use]
    pub const fn process(&self) -> u32 {
        self.process
    }

    /// An event in this process, now or later.
    ///
    /// # Panics
    /// If `at` is past: the process has a bug.
    #[inline]
    pub fn local(&mut self, at: Instant, class: Class, target: u32, payload: u64) {
        assert!(at >= self.now, "an event was scheduled in the past");
        let key = self.next_key(class);
        self.queue.insert(Event {
            at,
            key,
            target,
            payload,
        });
    }

    /// A message to a process, which may be this one.
    ///
    /// # Panics
    /// If it would arrive before the end of the window. The receiver may be past
    /// that instant already: the engine was given a lookahead longer than the
    /// shortest delay.
    #[inline]
    pub fn send(&mut self, to: u32, at: Instant, class: Class, message: M) {
        assert!(
            at >= self.window_end,
            "lookahead violated: a message would arrive within the window it was sent in"
        );
        let key = self.next_key(class);
        self.outbox.put(to, window::Letter { at, key, message });
    }

    #[inline]
    fn next_key(&mut self, class: Class) -> u64 {
        let key = key(class, self.process, *self.sequence);
        *self.sequence += 1;
        key
    }
}
