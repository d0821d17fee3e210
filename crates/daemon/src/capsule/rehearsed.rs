//! How does a capsule run the same way twice?
//!
//! WebAssembly itself says what each instruction does, with two exceptions that the compiler is told to close: the
//! bits of a NaN, and relaxed SIMD. What is left is what a program learns from outside. In a rehearsed run that is
//! time from a [`Clock`] of its own and chance from a stream of its seed; its input is read to the end before it
//! starts, because how much of it is there at a moment is the host's affair; and none of its streams is a terminal.
//! It has no folders: names come in the order, and files bear the times, of the host.
//!
//! The clock moves for two reasons only. Who waits is at once where it wanted to be: of several who wait together the
//! first due is woken. And each look at it takes a microsecond, so that who waits by looking gets there too.
//!
//! It begins at Unix time 0 and owes nothing to the host, and neither does the amount of fuel. What stays the host's:
//! how deep a recursion may be before it traps, and whether memory can be had at all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Read as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use machine::stream::{Purpose, Stream};
use wasmtime::component::{HasData, Linker, Resource, ResourceTable};
use wasmtime::{Caller, Extern};
use wasmtime_wasi::cli::{self, StdoutStream};
use wasmtime_wasi::p2::bindings::clocks::monotonic_clock;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{DynPollable, OutputStream, Pollable, subscribe};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};
use wire::Tile;

use super::Failed;

/// What a look at the clock takes, in nanoseconds of the clock.
const LOOK_NS: u64 = 1_000;

/// No input is longer that must be read before it begins, in bytes.
pub const INPUT_MAX: u64 = 64 << 20;

/// A clock that only moves when somebody waits for it or looks at it.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Hands>>);

#[derive(Debug, Default)]
struct Hands {
    /// Nanoseconds since it began.
    now: u64,
    /// How many wait for each moment.
    awaited: BTreeMap<u64, usize>,
}

impl Clock {
    /// That shows so many nanoseconds.
    #[must_use]
    pub fn at(now: u64) -> Self {
        let hands = Hands {
            now,
            awaited: BTreeMap::new(),
        };
        Self(Arc::new(Mutex::new(hands)))
    }

    /// Lets it show something else, earlier or later.
    pub(super) fn set(&self, now: u64) {
        self.with(|hands| hands.now = now);
    }

    /// What it shows, in nanoseconds; looking here is free.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.with(|hands| hands.now)
    }

    fn look(&self) -> u64 {
        self.with(|hands| {
            hands.now = hands.now.saturating_add(LOOK_NS);
            hands.now
        })
    }

    fn move_to(&self, when: u64) {
        self.with(|hands| hands.now = hands.now.max(when));
    }

    fn with<R>(&self, ask: impl FnOnce(&mut Hands) -> R) -> R {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl HostMonotonicClock for Clock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        self.look()
    }
}

impl HostWallClock for Clock {
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    fn now(&self) -> Duration {
        Duration::from_nanos(self.look())
    }
}

/// Somebody who waits for a moment of a [`Clock`].
struct Deadline {
    clock: Clock,
    when: u64,
}

/// That somebody waits, for as long as they do.
struct Waiting<'a>(&'a Deadline);

impl<'a> Waiting<'a> {
    fn begin(deadline: &'a Deadline) -> Self {
        let count = |hands: &mut Hands| *hands.awaited.entry(deadline.when).or_default() += 1;
        deadline.clock.with(count);
        Self(deadline)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.clock.with(|hands| {
            if let Some(count) = hands.awaited.get_mut(&self.0.when) {
                *count -= 1;
                if *count == 0 {
                    hands.awaited.remove(&self.0.when);
                }
            }
        });
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Deadline {
    async fn ready(&mut self) {
        let waiting = Waiting::begin(self);
        let mut asked = false;
        poll_fn(|context| {
            let Deadline { clock, when } = waiting.0;
            let first = clock.with(|hands| hands.awaited.keys().next().copied());
            // Who waits beside us has only said so once everybody was asked.
            if asked && first == Some(*when) {
                clock.move_to(*when);
            }
            if clock.now() >= *when {
                return Poll::Ready(());
            }
            asked = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

/// What a component is given for `wasi:clocks/monotonic-clock`.
pub(super) struct Clockwork<'a> {
    pub(super) clock: &'a Clock,
    pub(super) table: &'a mut ResourceTable,
}

struct HasClockwork;

impl HasData for HasClockwork {
    type Data<'a> = Clockwork<'a>;
}

impl Clockwork<'_> {
    fn wait(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        let clock = self.clock.clone();
        let deadline = self.table.push(Deadline { clock, when })?;
        subscribe(self.table, deadline)
    }
}

impl monotonic_clock::Host for Clockwork<'_> {
    fn now(&mut self) -> wasmtime::Result<u64> {
        Ok(self.clock.look())
    }

    fn resolution(&mut self) -> wasmtime::Result<u64> {
        Ok(1)
    }

    fn subscribe_instant(&mut self, when: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wait(when)
    }

    fn subscribe_duration(&mut self, span: u64) -> wasmtime::Result<Resource<DynPollable>> {
        self.wait(self.clock.now().saturating_add(span))
    }
}

/// Lets a component wait by its clock: WASI's own would wait by the host's.
pub(super) fn wait_in_components<T: Send + 'static>(
    linker: &mut Linker<T>,
    clockwork: fn(&mut T) -> Clockwork<'_>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    monotonic_clock::add_to_linker::<T, HasClockwork>(linker, clockwork)
}

/// `errno` of preview 1.
mod errno {
    pub(super) const SUCCESS: i32 = 0;
    pub(super) const FAULT: i32 = 21;
    pub(super) const INVAL: i32 = 28;
}

/// A `subscription` and an `event` of preview 1, in bytes.
const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
/// More than that nobody waits for at once.
const SUBSCRIPTIONS_MAX: u32 = 4096;

/// Lets a module wait by its clock. Streams are always ready here: input is in memory, and output is written at once.
pub(super) fn wait_in_modules<T: 'static>(
    linker: &mut wasmtime::Linker<T>,
    clock: Clock,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    linker.func_wrap(
        "wasi_snapshot_preview1",
        "poll_oneoff",
        move |mut caller: Caller<'_, T>, from: u32, to: u32, count: u32, stored: u32| {
            let Some(Extern::Memory(memory)) = caller.get_export("memory") else {
                return errno::INVAL;
            };
            let memory = memory.data_mut(&mut caller);
            match poll_oneoff(&clock, memory, from, to, count, stored) {
                Ok(()) => errno::SUCCESS,
                Err(code) => code,
            }
        },
    )?;
    Ok(())
}

fn poll_oneoff(
    clock: &Clock,
    memory: &mut [u8],
    from: u32,
    to: u32,
    count: u32,
    stored: u32,
) -> Result<(), i32> {
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return Err(errno::INVAL);
    }
    let place = |base: u32, index: usize, size: usize| {
        let start = base as usize + index * size;
        start..start + size
    };
    let count = count as usize;
    let u64_at = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    /// When something is due, what it answers with, and what it is.
    struct Asked {
        due: Option<u64>,
        userdata: u64,
        tag: u8,
    }
    let mut asked = Vec::with_capacity(count);
    for index in 0..count {
        let bytes = memory.get(place(from, index, SUBSCRIPTION));
        let bytes = bytes.ok_or(errno::FAULT)?;
        let (userdata, tag) = (u64_at(bytes, 0), bytes[8]);
        let due = match tag {
            // Both clocks began together, so they show the same.
            0 if bytes[16] > 1 => return Err(errno::INVAL),
            0 if bytes[40] & 1 == 1 => Some(u64_at(bytes, 24)),
            0 => Some(clock.now().saturating_add(u64_at(bytes, 24))),
            1 | 2 => None,
            _ => return Err(errno::INVAL),
        };
        asked.push(Asked { due, userdata, tag });
    }
    if asked.iter().all(|one| one.due.is_some()) {
        let first = asked.iter().filter_map(|one| one.due).min();
        clock.move_to(first.unwrap_or(0));
    }
    let now = clock.now();
    let mut written = 0;
    for one in asked
        .iter()
        .filter(|one| one.due.is_none_or(|due| due <= now))
    {
        let event = memory.get_mut(place(to, written, EVENT));
        let event = event.ok_or(errno::FAULT)?;
        event.fill(0);
        event[..8].copy_from_slice(&one.userdata.to_le_bytes());
        event[10] = one.tag;
        // How many bytes can be read or written at least.
        event[16] = 1;
        written += 1;
    }
    let stored = memory.get_mut(place(stored, 0, 4)).ok_or(errno::FAULT)?;
    let written = u32::try_from(written).expect("no more than were asked");
    stored.copy_from_slice(&written.to_le_bytes());
    Ok(())
}

/// A stream of chance as WASI wants one.
struct Chance(Stream);

impl rand_core::TryRng for Chance {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0.next_u64() >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(self.0.next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.0.next_u64().to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

/// A standard stream of this process that does not say whether it is a terminal.
#[derive(Clone, Copy, Debug)]
enum Plain {
    Out,
    Err,
}

impl cli::IsTerminal for Plain {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Plain {
    fn async_stream(&self) -> Box<dyn tokio::io::AsyncWrite + Send + Sync> {
        match self {
            Self::Out => cli::stdout().async_stream(),
            Self::Err => cli::stderr().async_stream(),
        }
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        match self {
            Self::Out => cli::stdout().p2_stream(),
            Self::Err => cli::stderr().p2_stream(),
        }
    }
}

/// Gives a capsule its clock and its chance, of this seed. A capsule that lives from event to event has a stream for
/// each; `event` is 0 for all others.
///
/// The stream does not depend on the machine: the same capsule with the same seed does the same everywhere.
pub(super) fn clock_and_chance(wasi: &mut WasiCtxBuilder, clock: &Clock, seed: u64, event: u64) {
    let mut stream = Stream::new(seed, Tile(event), Purpose::Capsule);
    let halves = [stream.next_u64(), stream.next_u64()].map(u128::from);
    wasi.insecure_random_seed(halves[0] << 64 | halves[1]);
    let mut fork = || {
        Chance(Stream::new(
            stream.next_u64(),
            Tile(event),
            Purpose::Capsule,
        ))
    };
    wasi.secure_random(fork());
    wasi.insecure_random(fork());
    wasi.monotonic_clock(clock.clone())
        .wall_clock(clock.clone());
}

/// All of this process's standard input in memory, and streams that are no terminals.
///
/// # Errors
/// If it cannot be read, or is longer than [`INPUT_MAX`].
pub(super) fn streams(wasi: &mut WasiCtxBuilder, name: &str) -> Result<(), Failed> {
    let mut input = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(INPUT_MAX + 1)
        .read_to_end(&mut input);
    let because = match read {
        Err(error) => Some(error.to_string()),
        Ok(length) if length as u64 > INPUT_MAX => Some(format!(
            "found more than {INPUT_MAX} bytes; in a deterministic run it is read to its end first"
        )),
        Ok(_) => None,
    };
    if let Some(because) = because {
        return Err(Failed::Input {
            name: name.to_owned(),
            because,
        });
    }
    wasi.stdin(MemoryInputPipe::new(input));
    wasi.stdout(Plain::Out).stderr(Plain::Err);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscription(userdata: u64, tag: u8, timeout: u64, absolute: bool) -> [u8; SUBSCRIPTION] {
        let mut bytes = [0; SUBSCRIPTION];
        bytes[..8].copy_from_slice(&userdata.to_le_bytes());
        bytes[8] = tag;
        bytes[16] = u8::from(tag == 0);
        bytes[24..32].copy_from_slice(&timeout.to_le_bytes());
        bytes[40] = u8::from(absolute);
        bytes
    }

    /// Who was woken, of those who wait at address 0.
    fn woken(clock: &Clock, subscriptions: &[[u8; SUBSCRIPTION]]) -> Vec<u64> {
        let mut memory = subscriptions.concat();
        let events = u32::try_from(memory.len()).unwrap();
        let count = u32::try_from(subscriptions.len()).unwrap();
        memory.resize(memory.len() + EVENT * subscriptions.len() + 4, 0xff);
        let stored = u32::try_from(memory.len()).unwrap() - 4;
        poll_oneoff(clock, &mut memory, 0, events, count, stored).unwrap();
        let count = u32::from_le_bytes(memory[stored as usize..].try_into().unwrap());
        let event = |index: u32| (events + index * 32) as usize;
        (0..count)
            .map(|index| u64::from_le_bytes(memory[event(index)..][..8].try_into().unwrap()))
            .collect()
    }

    #[test]
    fn of_those_who_wait_the_first_is_woken_and_the_clock_is_where_it_wanted_to_be() {
        let clock = Clock::at(100);
        let late = subscription(1, 0, 5_000, false);
        let soon = subscription(2, 0, 2_100, true);
        assert_eq!(woken(&clock, &[late, soon]), [2]);
        assert_eq!(clock.now(), 2_100);
        assert_eq!(woken(&clock, &[late]), [1]);
        assert_eq!(clock.now(), 7_100);
        // A stream is ready at once, and then no time passes.
        let stream = subscription(3, 2, 0, false);
        assert_eq!(woken(&clock, &[late, stream]), [3]);
        assert_eq!(clock.now(), 7_100);
    }

    #[test]
    fn what_lies_outside_of_memory_is_refused() {
        let clock = Clock::default();
        let mut memory = [0; 100];
        for (from, to, count, stored, code) in [
            (0, 50, 0, 96, errno::INVAL),
            (80, 0, 1, 96, errno::FAULT),
            (0, 90, 1, 96, errno::FAULT),
            (0, 50, 1, 98, errno::FAULT),
            (u32::MAX, 0, 1, 0, errno::FAULT),
            (0, 0, u32::MAX, 0, errno::INVAL),
        ] {
            let done = poll_oneoff(&clock, &mut memory, from, to, count, stored);
            assert_eq!(done, Err(code), "{from} {to} {count} {stored}");
        }
    }

    #[test]
    fn who_waits_by_looking_gets_there() {
        let clock = Clock::default();
        let looks = (0..)
            .take_while(|_| HostMonotonicClock::now(&clock) < 1_000_000)
            .count();
        assert_eq!(looks, 999);
    }

    #[test]
    fn components_wait_in_the_same_order() {
        let clock = Clock::default();
        let mut table = ResourceTable::new();
        let mut clockwork = Clockwork {
            clock: &clock,
            table: &mut table,
        };
        use monotonic_clock::Host as _;
        let late = clockwork.subscribe_duration(9_000).unwrap();
        let soon = clockwork.subscribe_instant(4_000).unwrap();
        use wasmtime_wasi::p2::bindings::sync::io::poll::Host as _;
        let ready = table.poll(vec![late, soon]).unwrap();
        assert_eq!((ready, clock.now()), (vec![1], 4_000));
    }
}
