//! How does a capsule live through the death of its machine?
//!
//! By being nothing but memory between two events. A module that exports `on_event` is such a capsule: the function is
//! called once for each event, finds it on standard input, and what it writes to standard output is the answer. What
//! the host keeps for it, its descriptors and streams, is made anew for each event, so that a [`Snapshot`] of its
//! memories and globals is all of it.
//!
//! # Once
//! Events are numbered, from 1. A capsule that has seen n of them takes the one with number n + 1 next, and nothing
//! else. After an event its snapshot is on disk before its answer is said: an answer is a promise. So whoever feeds it
//! may begin again anywhere (`--first`), after `kill -9` too: events it has seen are passed over, and the answers of
//! the last ones, which may not have reached anybody, are said once more. Nothing is lost, and nothing is done twice.
//!
//! A trap, and any other end in the midst of an event, leaves the capsule as it was before it.
//!
//! # What it costs
//! The whole snapshot is written and synced, not what has changed: that is one file which is there or not, and no log
//! that must be replayed by a capsule which may read clocks. The price is paid once for all the events that lie ready
//! ([`BATCH_MAX`]), so who sends many at a time has them cheap.
//! Why: docs/decisions/2026-11-21-a-capsule-is-its-memory-between-events.md.
//!
//! # Under a lease
//! What the fleet runs is kept by several machines before its answer is said ([`keeping`](crate::keeping)): then it goes on elsewhere
//! if its machine dies, with the same promise. Events from a network come over HTTP (`asked`).
//!
//! Deliberately absent: folders (their state is not the capsule's), components (their memories cannot be seen), and moving to
//! another version of the module.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use wasmtime::{Engine, Instance, Linker, Module, Store, TypedFunc, Val};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::{MemoryInputPipe, MemoryOutputPipe};

use super::meter::{self, Meter};
use super::rehearsed::{self, Clock};
use super::snapshot::{Answered, Memory, Snapshot, Value};
use super::{Ended, Failed, Used, code, ended, inside, link_module, read, unstartable, words};
use crate::control::{self, Answer, Request};
use crate::lease::Tenancy;
use crate::program::{Kind, Program};

/// No event and no answer is longer, in bytes.
pub const EVENT_MAX: usize = 1 << 20;

/// So many events that lie ready share a snapshot.
pub const BATCH_MAX: usize = 1024;

/// Once the answers of a batch are longer than this together, in bytes, they are kept and said before it goes on.
const ANSWERS_MAX: usize = 8 << 20;

/// Answers of earlier batches that are kept are together no longer, in bytes.
const ANSWERS_BEFORE_MAX: usize = 256 << 10;

/// Where a capsule's life is kept, and where its events go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// The file with the snapshot; if there is none, it has not begun.
    pub state: PathBuf,
    /// The number of the first event of the input.
    pub first: u64,
}

/// Lets a capsule live through the events of `input`, a line each, and says its answers to `output`: each line of them
/// behind the number of the event and a tab.
///
/// # Errors
/// If it could not live on. What was answered until then stays so.
pub fn live(
    program: &Program,
    kind: Kind,
    data: &Path,
    life: &Life,
    input: impl Read,
    output: &mut impl Write,
) -> Result<Ended, Failed> {
    let home = Home {
        state: &life.state,
        keeper: None,
    };
    with_living(program, kind, data, &home, |living| {
        if life.first == 0 || life.first > living.seen() + 1 {
            return Err(Failed::Input {
                name: program.name.clone(),
                because: format!(
                    "it begins with event {}, expected one from 1 to {}, which is next (--first)",
                    life.first,
                    living.seen() + 1
                ),
            });
        }
        feed(living, &program.name, life.first, input, output)
    })
}

/// Until its input ends, or it does: with which code.
fn feed(
    living: &mut Living<'_>,
    name: &str,
    first: u64,
    input: impl Read,
    output: &mut impl Write,
) -> Result<u8, Failed> {
    let mut feed = Feed {
        name,
        input: BufReader::with_capacity(64 << 10, input),
        next: first,
    };
    let mut speak = |said: &mut Vec<u8>| {
        let done = output.write_all(said).and_then(|()| output.flush());
        said.clear();
        done.map_err(|source| Failed::Unheard {
            name: name.to_owned(),
            source,
        })
    };
    loop {
        let (events, broken) = feed.batch();
        let seen = |number: u64| number <= living.seen();
        let (old, new): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|(number, _)| seen(*number));
        let mut said = Vec::new();
        for (number, _) in old {
            if let Some(answer) = living.answer_to(number) {
                say(&mut said, number, answer);
            }
        }
        speak(&mut said)?;
        let mut rest = new.as_slice();
        while !rest.is_empty() {
            let (count, stop) = living.answer(rest, &[], 0)?;
            let (answered, more) = rest.split_at(count);
            for (number, _) in answered {
                if let Some(answer) = living.answer_to(*number) {
                    say(&mut said, *number, answer);
                }
            }
            speak(&mut said)?;
            rest = more;
            match stop {
                Some(Stop::Ended(code)) => return Ok(code),
                Some(Stop::Failed(failed)) => return Err(failed),
                None => {}
            }
        }
        match broken {
            None => {}
            Some(Broken::End) => return Ok(0),
            Some(Broken::Failed(failed)) => return Err(failed),
        }
    }
}

/// Where a capsule is kept.
pub(super) struct Home<'a> {
    /// The file with the snapshot.
    pub(super) state: &'a Path,
    /// The node that keeps it with others, if it runs under a lease.
    pub(super) keeper: Option<Keeper<'a>>,
}

/// The node of a directory, and the lease.
#[derive(Clone, Copy)]
pub(super) struct Keeper<'a> {
    pub(super) data: &'a Path,
    pub(super) tenancy: &'a Tenancy,
}

impl Keeper<'_> {
    fn ask(&self, request: &Request) -> Result<(), String> {
        match control::ask(self.data, request) {
            Ok((Answer::Done { .. }, _)) => Ok(()),
            Ok((Answer::Refused { because }, _)) => Err(because),
            Ok((other, _)) => Err(format!(
                "the node answered something else than was asked: {other:?}"
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// Whether a module lives from event to event.
pub(crate) fn lives(bytes: &[u8]) -> bool {
    inside::exports(bytes, "on_event")
}

/// Wakes a capsule up as it was kept, and lets it live as long as `drive` does, which says with which code it ended.
pub(super) fn with_living(
    program: &Program,
    kind: Kind,
    data: &Path,
    home: &Home<'_>,
    drive: impl FnOnce(&mut Living<'_>) -> Result<u8, Failed>,
) -> Result<Ended, Failed> {
    let unstartable = |because: String| Failed::Unstartable {
        name: program.name.clone(),
        because,
    };
    if kind != Kind::Module {
        let because =
            "what a component keeps inside cannot be seen: expected a module (wasm32-wasip1)";
        return Err(unstartable(because.to_owned()));
    }
    let bytes = read(program, data)?;
    let open = inside::open(&bytes).map_err(|shut| unstartable(shut.to_string()))?;
    let engine = code::engine(&code::config(program));
    let (module, code_from) = code::code::<Module>(&engine, &open.bytes, program, data)?;
    if module.get_export("on_event").is_none() {
        let because = "it has no events: expected a module that exports a function on_event";
        return Err(unstartable(because.to_owned()));
    }
    let archive = Archive::open(home)?;
    let breed = Breed {
        program,
        engine,
        module,
        open,
        hash: *blake3::hash(&bytes).as_bytes(),
    };
    let mut capsule = breed.bear()?;
    let kept = match archive.read()? {
        Some(snapshot) if snapshot.module != breed.hash => {
            return Err(archive.refuse("found that of another module, or of another version of it"));
        }
        Some(snapshot) => {
            capsule
                .become_(&snapshot)
                .map_err(|because| archive.refuse(because))?;
            snapshot
        }
        None => capsule.snapshot(0, Vec::new())?,
    };
    let mut living = Living {
        breed: &breed,
        archive,
        capsule,
        kept,
        fuel: 0,
    };
    let code = drive(&mut living)?;
    Ok(Ended {
        code,
        code_from,
        used: breed.used(living.fuel, &living.capsule),
    })
}

/// A capsule, and what is kept of it.
pub(super) struct Living<'a> {
    breed: &'a Breed<'a>,
    archive: Archive<'a>,
    capsule: Capsule<'a>,
    kept: Snapshot,
    fuel: u64,
}

impl Living<'_> {
    /// How many events it has seen.
    pub(super) const fn seen(&self) -> u64 {
        self.kept.events
    }

    /// What it answered to an event, if that is kept.
    pub(super) fn answer_to(&self, number: u64) -> Option<&[u8]> {
        let back = usize::try_from(self.kept.events.checked_sub(number)?).ok()?;
        // The answers to the last events are kept, in order.
        let place = self.kept.answers.len().checked_sub(1 + back)?;
        self.kept.answers.get(place)?.said.as_deref()
    }

    /// The last event whose key begins so, with its number and what it answered, as far as that is kept.
    pub(super) fn answer_for(&self, name: &[u8]) -> Option<(u64, &Answered)> {
        let answers = self.kept.answers.iter().rev().zip(0..);
        let mut found = answers.filter(|(answered, _)| answered.key.starts_with(name));
        found
            .next()
            .map(|(answered, back)| (self.kept.events - back, answered))
    }

    /// Answers as many of these events as it can, at least one, and keeps that: how many, and what stopped it. Of the answers before
    /// so many are kept besides.
    pub(super) fn answer(
        &mut self,
        events: &[(u64, Vec<u8>)],
        keys: &[Vec<u8>],
        before: usize,
    ) -> Result<(usize, Option<Stop>), Failed> {
        let (breed, capsule) = (self.breed, &mut self.capsule);
        let (answers, stop) = breed.answer(capsule, &self.kept, events, &mut self.fuel)?;
        let count = answers.len();
        if count > 0 {
            let keys = keys.iter().cloned().chain(std::iter::repeat(Vec::new()));
            let new = answers.into_iter().zip(keys);
            let new = new.map(|(said, key)| Answered {
                key,
                said: Some(said),
            });
            let mut all: Vec<_> = match before {
                0 => Vec::new(),
                _ => self.kept.answers.clone(),
            };
            all.extend(new);
            let first = all.len().saturating_sub(before.max(count));
            all.drain(..first);
            // Of what was said long ago it is remembered that it was said, so that it is not done again.
            let mut length = 0;
            for answered in all.iter_mut().rev().skip(count) {
                length += answered.said.as_ref().map_or(0, Vec::len);
                if length > ANSWERS_BEFORE_MAX {
                    answered.said = None;
                }
            }
            self.kept = self
                .capsule
                .snapshot(self.kept.events + count as u64, all)?;
            self.archive.write(&self.kept)?;
        }
        Ok((count, stop))
    }
}

fn say(to: &mut Vec<u8>, number: u64, answer: &[u8]) {
    let answer = answer.strip_suffix(b"\n").unwrap_or(answer);
    for line in answer.split(|byte| *byte == b'\n') {
        to.extend_from_slice(format!("{number}\t").as_bytes());
        to.extend_from_slice(line);
        to.push(b'\n');
    }
}

/// Events as they come, numbered.
struct Feed<'a, R> {
    name: &'a str,
    input: BufReader<R>,
    next: u64,
}

/// Why no more events come.
enum Broken {
    End,
    Failed(Failed),
}

impl<R: Read> Feed<'_, R> {
    /// Waits for an event, and takes along what lies ready behind it.
    fn batch(&mut self) -> (Vec<(u64, Vec<u8>)>, Option<Broken>) {
        let mut batch = Vec::new();
        loop {
            let mut line = Vec::new();
            let mut limited = (&mut self.input).take(EVENT_MAX as u64 + 1);
            let failed = |because: String| {
                Some(Broken::Failed(Failed::Input {
                    name: self.name.to_owned(),
                    because,
                }))
            };
            match limited.read_until(b'\n', &mut line) {
                Ok(0) => return (batch, Some(Broken::End)),
                Ok(_) if line.ends_with(b"\n") => batch.push((self.next, line)),
                Ok(length) if length > EVENT_MAX => {
                    let because = format!("event {} is longer than {EVENT_MAX} bytes", self.next);
                    return (batch, failed(because));
                }
                // Half a word is no word: who sends it may have died of the same cause as we did.
                Ok(_) => {
                    let because = format!(
                        "event {} was cut off: found its end before a line feed; it did not take place",
                        self.next
                    );
                    return (batch, failed(because));
                }
                Err(error) => return (batch, failed(error.to_string())),
            }
            self.next += 1;
            if batch.len() == BATCH_MAX || !self.input.buffer().contains(&b'\n') {
                return (batch, None);
            }
        }
    }
}

/// What all capsules of a module have in common.
struct Breed<'a> {
    program: &'a Program,
    engine: Engine,
    module: Module,
    open: inside::Open,
    hash: [u8; 32],
}

/// A capsule that waits for an event.
struct Capsule<'a> {
    breed: &'a Breed<'a>,
    store: Store<(WasiP1Ctx, Meter)>,
    instance: Instance,
    on_event: TypedFunc<(), ()>,
    clock: Option<Clock>,
}

/// Why an event was not answered.
pub(super) enum Stop {
    /// It ended itself, with this code.
    Ended(u8),
    Failed(Failed),
}

impl Breed<'_> {
    fn bear(&self) -> Result<Capsule<'_>, Failed> {
        let clock = self.program.seed.map(|_| Clock::default());
        let mut linker = Linker::new(&self.engine);
        link_module(&mut linker, clock.as_ref());
        let state = (
            words(self.program).build_p1(),
            Meter::new(self.program.limits.memory),
        );
        let fuel = meter::fuel(self.program);
        let mut store = meter::store(&self.engine, state, fuel, |(_, meter)| meter);
        let born = linker
            .instantiate(&mut store, &self.module)
            .and_then(|instance| {
                let on_event = instance.get_typed_func(&mut store, "on_event")?;
                Ok((instance, on_event))
            });
        let (instance, on_event) = match born {
            Ok(born) => born,
            Err(error) => return Err(unstartable(self.program, &error, &store.data().1)),
        };
        let mut capsule = Capsule {
            breed: self,
            store,
            instance,
            on_event,
            clock,
        };
        // What compilers of C and Rust call the beginning of a program that does not end.
        if let Ok(initialize) = instance.get_typed_func(&mut capsule.store, "_initialize") {
            match capsule.call(initialize, 0, Vec::new()) {
                Ok(_) => {}
                Err(Stop::Failed(failed)) => return Err(failed),
                Err(Stop::Ended(code)) => {
                    return Err(Failed::Unstartable {
                        name: self.program.name.clone(),
                        because: format!("it ended with code {code} before its first event"),
                    });
                }
            }
        }
        Ok(capsule)
    }

    /// One that is as it was kept.
    fn wake(&self, before: &Snapshot) -> Result<Capsule<'_>, Failed> {
        let mut capsule = self.bear()?;
        let done = capsule.become_(before);
        done.expect("it was a snapshot of this module");
        Ok(capsule)
    }

    /// Answers as many events as it can. If the next one stops it, what stopped it is said too, and the capsule is as it was after the one before.
    fn answer<'b>(
        &'b self,
        capsule: &mut Capsule<'b>,
        before: &Snapshot,
        events: &[(u64, Vec<u8>)],
        fuel: &mut u64,
    ) -> Result<(Vec<Vec<u8>>, Option<Stop>), Failed> {
        let spent = *fuel;
        let (mut answers, mut length) = (Vec::new(), 0);
        for (number, event) in events {
            if length > ANSWERS_MAX {
                break;
            }
            match capsule.on(*number, event.clone(), fuel) {
                Ok(answer) => {
                    length += answer.len();
                    answers.push(answer);
                }
                Err(stop) => {
                    // Its memory is in the midst of something: the others are told to one that is not.
                    let few = &events[..answers.len()];
                    return self.again(capsule, before, few, (fuel, spent), stop);
                }
            }
        }
        Ok((answers, None))
    }

    /// Answers these events anew, of which the one behind them was stopped.
    fn again<'b>(
        &'b self,
        capsule: &mut Capsule<'b>,
        before: &Snapshot,
        few: &[(u64, Vec<u8>)],
        (fuel, spent): (&mut u64, u64),
        stop: Stop,
    ) -> Result<(Vec<Vec<u8>>, Option<Stop>), Failed> {
        *fuel = spent;
        *capsule = self.wake(before)?;
        let mut tell = |(number, event): &(u64, Vec<u8>)| capsule.on(*number, event.clone(), fuel);
        // One that reads a clock may answer otherwise now, and nobody has heard it answer before.
        if let Ok(answers) = few.iter().map(&mut tell).collect() {
            return Ok((answers, Some(stop)));
        }
        // Or stop where it did not: then each by itself, so that whoever stops it is the one that is said to.
        *fuel = spent;
        *capsule = self.wake(before)?;
        let (number, event) = &few[0];
        match capsule.on(*number, event.clone(), fuel) {
            Ok(answer) => Ok((vec![answer], None)),
            Err(stop) => {
                *fuel = spent;
                *capsule = self.wake(before)?;
                Ok((Vec::new(), Some(stop)))
            }
        }
    }

    fn used(&self, fuel: u64, capsule: &Capsule<'_>) -> Option<Used> {
        let clock = capsule.clock.as_ref()?;
        Some(Used {
            fuel,
            clock_ns: clock.now(),
        })
    }
}

impl Capsule<'_> {
    fn on(&mut self, number: u64, event: Vec<u8>, fuel: &mut u64) -> Result<Vec<u8>, Stop> {
        if let Some(given) = meter::fuel(self.breed.program) {
            self.store.set_fuel(given).expect("the engine counts fuel");
        }
        let answer = self.call(self.on_event.clone(), number, event)?;
        if let Some(given) = meter::fuel(self.breed.program) {
            let left = self.store.get_fuel().unwrap_or(given);
            *fuel = fuel.saturating_add(given - left);
        }
        Ok(answer)
    }

    fn call(
        &mut self,
        function: TypedFunc<(), ()>,
        number: u64,
        event: Vec<u8>,
    ) -> Result<Vec<u8>, Stop> {
        let program = self.breed.program;
        let answer = MemoryOutputPipe::new(EVENT_MAX);
        let mut wasi = words(program);
        wasi.stdin(MemoryInputPipe::new(event))
            .stdout(answer.clone());
        wasi.inherit_stderr().allow_blocking_current_thread(true);
        if let (Some(clock), Some(seed)) = (&self.clock, program.seed) {
            rehearsed::clock_and_chance(&mut wasi, clock, seed, number);
        }
        let (own, meter) = self.store.data_mut();
        *own = wasi.build_p1();
        meter.refused = None;
        match function.call(&mut self.store, ()) {
            Ok(()) => Ok(answer.contents().to_vec()),
            Err(error) => Err(match ended(program, Err(error), &self.store.data().1) {
                Ok(code) => Stop::Ended(code),
                Err(failed) => Stop::Failed(failed),
            }),
        }
    }

    fn snapshot(&mut self, events: u64, answers: Vec<Answered>) -> Result<Snapshot, Failed> {
        let Breed { open, hash, .. } = self.breed;
        let mut globals = Vec::new();
        for name in &open.globals {
            let global = self.instance.get_global(&mut self.store, name);
            globals.push(match global.expect("it was added").get(&mut self.store) {
                Val::I32(value) => Value::I32(value.cast_unsigned()),
                Val::I64(value) => Value::I64(value.cast_unsigned()),
                Val::F32(bits) => Value::F32(bits),
                Val::F64(bits) => Value::F64(bits),
                Val::V128(bits) => Value::V128(bits.as_u128()),
                _ => unreachable!("modules with references in globals stay shut"),
            });
        }
        let memories = open.memories.iter().map(|name| {
            let memory = self.instance.get_memory(&mut self.store, name);
            Memory::of(memory.expect("it was added").data(&self.store))
        });
        Ok(Snapshot {
            module: *hash,
            events,
            clock: self.clock.as_ref().map_or(0, Clock::now),
            answers,
            globals,
            memories: memories.collect(),
        })
    }

    /// What it was when the snapshot was taken.
    fn become_(&mut self, snapshot: &Snapshot) -> Result<(), &'static str> {
        let Breed { open, .. } = self.breed;
        if snapshot.globals.len() != open.globals.len() {
            return Err("found another number of globals than the module has");
        }
        if snapshot.memories.len() != open.memories.len() {
            return Err("found another number of memories than the module has");
        }
        for (name, value) in open.globals.iter().zip(&snapshot.globals) {
            let global = self.instance.get_global(&mut self.store, name);
            let value = match *value {
                Value::I32(bits) => Val::I32(bits.cast_signed()),
                Value::I64(bits) => Val::I64(bits.cast_signed()),
                Value::F32(bits) => Val::F32(bits),
                Value::F64(bits) => Val::F64(bits),
                Value::V128(bits) => Val::V128(bits.into()),
            };
            let set = global.expect("it was added").set(&mut self.store, value);
            set.map_err(|_| "found a global of another type than the module's")?;
        }
        for (name, kept) in open.memories.iter().zip(&snapshot.memories) {
            let memory = self.instance.get_memory(&mut self.store, name);
            let memory = memory.expect("it was added");
            let more = kept.length.checked_sub(memory.size(&self.store));
            let more =
                more.ok_or("found a memory that is shorter than the module's at its beginning")?;
            let grown = memory.grow(&mut self.store, more);
            grown.map_err(|_| "found a memory that is longer than it may be (--mem)")?;
            kept.write_over(memory.data_mut(&mut self.store));
        }
        if let Some(clock) = &self.clock {
            clock.set(snapshot.clock);
        }
        Ok(())
    }
}

/// The file with a snapshot, which one process at a time may have.
struct Archive<'a> {
    path: &'a Path,
    keeper: Option<Keeper<'a>>,
    _lock: File,
}

impl<'a> Archive<'a> {
    fn open(home: &Home<'a>) -> Result<Self, Failed> {
        let path = home.state;
        let failed = |because: String| Failed::State {
            path: path.to_owned(),
            because,
        };
        // The snapshot itself is replaced, so it cannot be what is locked.
        let beside = with_more(path, ".lock");
        let lock = File::options().create(true).append(true).open(&beside);
        let lock =
            lock.map_err(|error| failed(format!("opening {}: {error}", beside.display())))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(failed("a capsule that runs has it already".to_owned()));
            }
            Err(error) => return Err(failed(io::Error::from(error).to_string())),
        }
        if let Some(keeper) = &home.keeper {
            let tenancy = keeper.tenancy.clone();
            keeper
                .ask(&Request::Recover { tenancy })
                .map_err(|because| {
                    failed(format!("taking it from those who keep it: {because}"))
                })?;
        }
        Ok(Self {
            path,
            keeper: home.keeper,
            _lock: lock,
        })
    }

    fn refuse(&self, because: impl ToString) -> Failed {
        Failed::State {
            path: self.path.to_owned(),
            because: because.to_string(),
        }
    }

    fn read(&self) -> Result<Option<Snapshot>, Failed> {
        match fs::read(self.path) {
            Ok(bytes) => match Snapshot::from_bytes(&bytes) {
                Ok(snapshot) => Ok(Some(snapshot)),
                Err(damaged) => Err(self.refuse(damaged)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.refuse(error)),
        }
    }

    /// On disk when it returns, or with those who keep it; on an error what was there before is there, or nobody knows.
    fn write(&self, snapshot: &Snapshot) -> Result<(), Failed> {
        let aside = with_more(self.path, ".new");
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let written = File::create(&aside)
            .and_then(|mut file| {
                file.write_all(&snapshot.to_bytes())?;
                // What others keep is only handed over in this file.
                match self.keeper {
                    Some(_) => Ok(()),
                    None => file.sync_all(),
                }
            })
            .and_then(|()| fs::rename(&aside, self.path))
            .and_then(|()| match self.keeper {
                Some(_) => Ok(()),
                None => File::open(folder)?.sync_all(),
            });
        let unanswered = "; the event is not answered";
        written.map_err(|error| self.refuse(format!("writing it: {error}{unanswered}")))?;
        if let Some(keeper) = &self.keeper {
            let kept = keeper.ask(&Request::Keep {
                tenancy: keeper.tenancy.clone(),
                events: snapshot.events,
            });
            kept.map_err(|because| self.refuse(format!("keeping it: {because}{unanswered}")))?;
        }
        Ok(())
    }
}

fn with_more(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    PathBuf::from(name)
}
