//! What does the braid cost? Prints the page for `docs/bench/braid.md`.
//! `cargo bench -p runtime`, or with words of the wanted lines after `--`.
//!
//! Times are processor time of the one thread that does all the work, the fastest
//! of several rounds: the machine has other users. Three tori on one thread also
//! pay for each other, as the wires between them are calls.

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::VecDeque;
use std::fs;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};

use machine::Machine;
use runtime::{
    Config, Effect, Input, Lattice, Limits, Offer, Pid, Process, Projection, Strand, Torus, Turn,
    Weight,
};
use trust::Key;
use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader};

/// Counts the bytes that are allocated now.
struct Counting;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The processes of the benchmarks.
#[derive(Clone, Debug)]
enum Actor {
    /// Passes a count on, one less each time.
    Ring { next: Pid },
    /// Divides itself by ten until there is one, and adds up what comes back.
    Sky { parent: Pid, sum: u64, missing: u8 },
}

impl Encode for Actor {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ring { next } => {
                out.push(0);
                next.encode(out);
            }
            Self::Sky {
                parent,
                sum,
                missing,
            } => {
                out.push(1);
                parent.encode(out);
                sum.encode(out);
                missing.encode(out);
            }
        }
    }
}

impl Decode for Actor {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()? {
            0 => Self::Ring {
                next: Pid::decode(from)?,
            },
            1 => Self::Sky {
                parent: Pid::decode(from)?,
                sum: u64::decode(from)?,
                missing: u8::decode(from)?,
            },
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "actor",
                    found: found.into(),
                });
            }
        })
    }
}

/// Two words, as skynet needs them; a ring's hop uses the second.
#[derive(Clone, Copy, Debug, Default)]
struct Word {
    size: u64,
    value: u64,
}

/// In `size`: the message is a result.
const RESULT: u64 = 0;
/// In `size`: the message is the name of the next in the ring.
const NEXT: u64 = u64::MAX;

impl Encode for Word {
    fn encode(&self, out: &mut Vec<u8>) {
        self.size.encode(out);
        self.value.encode(out);
    }
}

impl Decode for Word {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            size: u64::decode(from)?,
            value: u64::decode(from)?,
        })
    }
}

fn pid(bits: u64) -> Pid {
    wire::codec::decode_all(&bits.to_bytes()).expect("a name")
}

fn bits(pid: Pid) -> u64 {
    wire::codec::decode_all(&pid.to_bytes()).expect("a number")
}

impl Process for Actor {
    type Message = Word;

    #[inline]
    fn handle(&mut self, word: Word, turn: &mut Turn<'_, Self>) {
        match self {
            Self::Ring { next } if word.size == NEXT => *next = pid(word.value),
            Self::Ring { next } => {
                if word.value > 0 {
                    let value = word.value - 1;
                    let done = turn.send(*next, Word { size: 0, value });
                    debug_assert_eq!(done, Ok(()));
                }
            }
            Self::Sky {
                parent,
                sum,
                missing,
            } => {
                if word.size == RESULT {
                    *sum += word.value;
                    *missing -= 1;
                } else if word.size == 1 {
                    *sum = word.value;
                } else {
                    let parent = turn.me();
                    let size = word.size / 10;
                    for child in 0..10 {
                        let actor = Self::Sky {
                            parent,
                            sum: 0,
                            missing: 0,
                        };
                        let child_pid = turn.spawn(actor, Weight::LEAST).expect("a free site");
                        let value = word.value + child * size;
                        turn.send(child_pid, Word { size, value }).expect("room");
                    }
                    *missing = 10;
                }
                if *missing == 0 {
                    let word = Word {
                        size: RESULT,
                        value: *sum,
                    };
                    if *parent == turn.me() {
                        turn.tell(word).expect("room");
                    } else {
                        turn.send(*parent, word).expect("room");
                        turn.exit();
                    }
                }
            }
        }
    }
}

/// Three tori whose wires are calls, and a clock that nobody moves but the work.
struct Braid {
    tori: [Option<Torus<Actor>>; 3],
    now: Instant,
    line: VecDeque<(Strand, Vec<u8>)>,
    offered: [u64; 3],
    taken: [u64; 3],
    told: Vec<runtime::Report<Word>>,
    rebuilt: Vec<(Strand, f64)>,
    packets: u64,
    bytes: u64,
    /// Processor time of each torus.
    spent: [f64; 3],
}

impl Braid {
    fn new(config: &Config) -> Self {
        let torus = |strand| Some(Torus::new(config.clone(), strand, Instant::EPOCH));
        Self {
            tori: Strand::ALL.map(torus),
            now: Instant::EPOCH,
            line: VecDeque::new(),
            offered: [0; 3],
            taken: [0; 3],
            told: Vec::new(),
            rebuilt: Vec::new(),
            packets: 0,
            bytes: 0,
            spent: [0.0; 3],
        }
    }

    fn act(&mut self, strand: Strand, input: Option<Input<Actor>>) {
        let Some(torus) = &mut self.tori[strand as usize] else {
            return;
        };
        let mut effects = Vec::new();
        let started = processor();
        match input {
            Some(input) => torus.handle(self.now, input, &mut |effect| effects.push(effect)),
            None => torus.wake(self.now, &mut |effect| effects.push(effect)),
        }
        let took = processor() - started;
        self.spent[strand as usize] += took;
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => {
                    self.packets += 1;
                    self.bytes += bytes.len() as u64;
                    self.line.push_back((to, bytes));
                }
                Effect::Told { number, report } => {
                    let taken = &mut self.taken[strand as usize];
                    if number == *taken {
                        *taken += 1;
                        self.told.push(report);
                    }
                }
                Effect::Rebuilt(torus) => {
                    let of = torus.strand();
                    self.tori[of as usize] = Some(*torus);
                    self.rebuilt.push((of, took));
                }
                Effect::Accepted { .. } | Effect::Missed { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }

    fn offer(&mut self, strand: Strand, offer: Offer<Actor>) {
        let number = self.offered[strand as usize];
        self.offered[strand as usize] += 1;
        self.act(strand, Some(Input::Offered { number, offer }));
        if self.offered[strand as usize].is_multiple_of(500) {
            self.settle();
        }
    }

    /// A message in no hurry to a process of the compute torus.
    fn tell(&mut self, to: Pid, message: Word) {
        let due = Instant::END;
        self.offer(Strand::Compute, Offer::Message { to, message, due });
    }

    /// Delivers everything and runs whatever has work, without moving the clock.
    fn settle(&mut self) {
        loop {
            while let Some((to, bytes)) = self.line.pop_front() {
                self.act(to, Some(Input::Received(bytes)));
            }
            for strand in Strand::ALL {
                let upto = self.taken[strand as usize];
                self.act(strand, Some(Input::Taken { upto }));
            }
            let now = self.now;
            let due = |torus: &Torus<Actor>| torus.deadline().is_some_and(|at| at <= now);
            let busy = Strand::ALL.into_iter();
            let busy: Vec<_> = busy
                .filter(|&strand| self.tori[strand as usize].as_ref().is_some_and(due))
                .collect();
            if busy.is_empty() && self.line.is_empty() {
                break;
            }
            for strand in busy {
                self.act(strand, None);
            }
        }
    }

    fn pass(&mut self, span: Nanos) {
        self.now += span;
        self.settle();
    }
}

fn config(processes: u32) -> Config {
    let mut config = Config::new(Key::new([1; 32]));
    config.limits = Limits {
        processes,
        ..Limits::default()
    };
    config
}

/// Seconds of processor time this process has had.
fn processor() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours.
    let done = unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    assert_eq!(done, 0, "the host has no clock of processor time");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

const ROUNDS: u32 = 5;

/// The fastest of several rounds, in seconds.
fn fastest(mut round: impl FnMut() -> f64) -> f64 {
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn ring(lattice: &mut Lattice<Actor>, members: u32) -> Pid {
    let nobody = pid(0);
    let ring = |lattice: &mut Lattice<Actor>| {
        let actor = Actor::Ring { next: nobody };
        lattice.start(actor, Weight::LEAST).expect("a free site")
    };
    let names: Vec<_> = (0..members).map(|_| ring(lattice)).collect();
    for (at, &name) in names.iter().enumerate() {
        let value = bits(names[(at + 1) % names.len()]);
        lattice
            .send(name, Word { size: NEXT, value })
            .expect("room");
    }
    while lattice.run(Instant::EPOCH, 1 << 20) > 0 {}
    names[0]
}

fn line(wanted: &[String], name: &str, measure: impl FnOnce() -> String) {
    if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
        println!("| {name} | {} |", measure());
    }
}

fn main() {
    let wanted: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    println!("| what | measured |\n|---|---|");
    for members in [1_000, 1_000_000] {
        line(
            &wanted,
            &format!("ring of {members}, one lattice alone"),
            || {
                let mut lattice = Lattice::new(Strand::Compute, Limits::default());
                let first = ring(&mut lattice, members);
                let hops = 5_000_000;
                let seconds = fastest(|| {
                    let started = processor();
                    lattice
                        .send(
                            first,
                            Word {
                                size: 0,
                                value: hops,
                            },
                        )
                        .expect("room");
                    while lattice.run(Instant::EPOCH, 1_024) > 0 {}
                    processor() - started
                });
                rate(hops, seconds, "hops")
            },
        );
    }
    for members in [1_000, 1_000_000] {
        line(
            &wanted,
            &format!("ring of {members}, logged and kept by the next torus"),
            || braided_ring(members),
        );
    }
    line(
        &wanted,
        "skynet of 1,111,111 processes, one lattice alone",
        || {
            let limits = Limits {
                processes: 1 << 21,
                ..Limits::default()
            };
            let seconds = fastest(|| {
                let started = processor();
                let mut lattice = Lattice::new(Strand::Compute, limits);
                let root = Actor::Sky {
                    parent: pid(0),
                    sum: 0,
                    missing: 0,
                };
                let root = lattice.start(root, Weight::LEAST).expect("a free site");
                lattice
                    .send(
                        root,
                        Word {
                            size: 1_000_000,
                            value: 0,
                        },
                    )
                    .expect("room");
                while lattice.run(Instant::EPOCH, 1_024) > 0 {}
                processor() - started
            });
            format!("{:.0} ms", seconds * 1e3)
        },
    );
    line(
        &wanted,
        "skynet of 1,111,111 processes, logged and kept by the next torus",
        braided_skynet,
    );
    line(
        &wanted,
        "bytes for each of 1,000,000 idle processes",
        idle_bytes,
    );
    line(&wanted, "bytes of a projection, of at most 5,000", || {
        Projection::BYTES.to_string()
    });
    for processes in [1_000, 10_000, 100_000, 1_000_000] {
        line(
            &wanted,
            &format!("interval with 64 events among {processes} processes"),
            || interval(processes),
        );
    }
    for processes in [1_000, 10_000, 100_000] {
        line(
            &wanted,
            &format!("rebuild of {processes} processes"),
            || rebuild(processes),
        );
    }
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    eprintln!(
        "load average {}",
        load.split(' ').next().unwrap_or_default()
    );
}

fn rate(count: u64, seconds: f64, what: &str) -> String {
    let each = seconds * 1e9 / count as f64;
    format!(
        "{:.1} M {what}/s, {each:.1} ns each",
        count as f64 / seconds / 1e6
    )
}

/// A braid with this many ring members on the first torus; the first of them.
fn braid_with_ring(config: &Config, members: u32) -> (Braid, Vec<Pid>) {
    let mut braid = Braid::new(config);
    for _ in 0..members {
        let process = Actor::Ring { next: pid(0) };
        let weight = Weight::LEAST;
        braid.offer(Strand::Compute, Offer::Spawn { process, weight });
    }
    braid.pass(Nanos::MILLISECOND);
    let names: Vec<_> = braid
        .told
        .drain(..)
        .map(|report| match report {
            runtime::Report::Spawned { pid, .. } => pid,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(names.len(), members as usize);
    for (at, &to) in names.iter().enumerate() {
        let value = bits(names[(at + 1) % names.len()]);
        let message = Word { size: NEXT, value };
        braid.tell(to, message);
    }
    braid.pass(Nanos::MILLISECOND);
    // Until the next torus has it all in a snapshot.
    for _ in 0..40 {
        braid.pass(Nanos::from_millis(50));
    }
    (braid, names)
}

fn braided_ring(members: u32) -> String {
    let (mut braid, names) = braid_with_ring(&config(1 << 20), members);
    let hops = 5_000_000;
    let mut own = f64::INFINITY;
    let seconds = fastest(|| {
        braid.spent = [0.0; 3];
        let message = Word {
            size: 0,
            value: hops,
        };
        let started = processor();
        braid.tell(names[0], message);
        // As if a turn took 50 ns, so that intervals pass meanwhile.
        while braid.tori[0].as_ref().expect("alive").lattice().ready() > 0 {
            braid.act(Strand::Compute, None);
            braid.now += Nanos(1_024 * 50);
            while let Some((to, bytes)) = braid.line.pop_front() {
                braid.act(to, Some(Input::Received(bytes)));
            }
            for strand in [Strand::Io, Strand::Accelerator] {
                braid.act(strand, None);
            }
        }
        own = own.min(braid.spent[0]);
        processor() - started
    });
    let all = seconds * 1e9 / hops as f64;
    format!(
        "{}, {all:.1} ns with the work of the other two",
        rate(hops, own, "hops")
    )
}

fn braided_skynet() -> String {
    let mut own = f64::INFINITY;
    let seconds = fastest(|| {
        let mut braid = Braid::new(&config(1 << 21));
        let started = processor();
        let process = Actor::Sky {
            parent: pid(0),
            sum: 0,
            missing: 0,
        };
        let weight = Weight::LEAST;
        braid.offer(Strand::Compute, Offer::Spawn { process, weight });
        braid.settle();
        let message = Word {
            size: 1_000_000,
            value: 0,
        };
        braid.tell(pid(0), message);
        braid.settle();
        let [.., runtime::Report::Said { message, .. }] = braid.told[..] else {
            panic!("{:?}", braid.told);
        };
        assert_eq!(message.value, 499_999_500_000);
        own = own.min(braid.spent[0]);
        processor() - started
    });
    format!(
        "{:.0} ms, {:.0} ms with the work of the other two",
        own * 1e3,
        seconds * 1e3
    )
}

fn idle_bytes() -> String {
    let before = ALLOCATED.load(Ordering::Relaxed);
    let mut lattice = Lattice::new(Strand::Compute, Limits::default());
    ring(&mut lattice, 1_000_000);
    let alone = ALLOCATED.load(Ordering::Relaxed) - before;
    drop(black_box(lattice));
    let before = ALLOCATED.load(Ordering::Relaxed);
    let (braid, names) = braid_with_ring(&config(1 << 20), 1_000_000);
    drop(names);
    let whole = ALLOCATED.load(Ordering::Relaxed) - before;
    drop(black_box(braid));
    format!(
        "{} on its own, {} with the copy that is kept",
        alone / 1_000_000,
        whole / 1_000_000
    )
}

/// All three tori's work for one interval, with the same few events each time.
fn interval(processes: u32) -> String {
    let (mut braid, names) = braid_with_ring(&config(1 << 20), processes);
    let intervals = 200;
    let mut packets = 0;
    let seconds = fastest(|| {
        (braid.packets, braid.bytes) = (0, 0);
        let started = processor();
        for number in 0..intervals {
            let to = names[number * 7_919 % names.len()];
            let message = Word { size: 0, value: 63 };
            braid.tell(to, message);
            braid.pass(Nanos::from_millis(50));
        }
        packets = braid.packets;
        processor() - started
    });
    let each = seconds * 1e6 / intervals as f64;
    let (packets, bytes) = (packets / intervals as u64, braid.bytes / intervals as u64);
    format!("{each:.0} µs, {packets} packets, {bytes} bytes")
}

/// From the moment it is given up to the moment it could run, with as long a log
/// as there can be.
fn rebuild(processes: u32) -> String {
    let config = config(1 << 20);
    let (mut braid, names) = braid_with_ring(&config, processes);
    let mut run_again = 0;
    let seconds = fastest(|| {
        // Just short of the next snapshot.
        let message = Word {
            size: 0,
            value: config.replay_max - 20_000,
        };
        braid.tell(names[0], message);
        braid.settle();
        run_again = message.value;
        let lost = braid.tori[0].take().expect("alive").lattice().canonical();
        braid.rebuilt.clear();
        while braid.rebuilt.is_empty() {
            braid.pass(Nanos::from_millis(50));
        }
        let (of, seconds) = braid.rebuilt[0];
        assert_eq!(of, Strand::Compute);
        let found = braid.tori[0]
            .as_ref()
            .expect("rebuilt")
            .lattice()
            .canonical();
        assert!(found == lost, "it is not what it was");
        for _ in 0..4 {
            braid.pass(Nanos::from_millis(50));
        }
        assert!(braid.tori.iter().flatten().all(Torus::keeps_a_copy));
        seconds
    });
    format!("{:.1} ms, {run_again} turns run again", seconds * 1e3)
}
