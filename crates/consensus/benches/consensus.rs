//! What does agreement cost? Prints the page for `docs/bench/consensus.md`.
//! `cargo bench -p consensus`.
//!
//! Three voters on one thread, joined by calls, with disks that answer when everybody is idle: what is
//! measured is the processor time of all three together for each command, without network
//! or disk. The fastest of several rounds, because the machine has other users.

use std::collections::VecDeque;
use std::hint::black_box;

use consensus::lease::Command;
use consensus::{
    Ask, Author, Config, Effect, Index, Input, Kind, Leases, Message, Outcome, State, Terms, Voter,
};
use machine::{Machine, Persisted, Purpose, Stream};
use wire::{Cell, Decode, DecodeError, Encode, Instant, Reader, Tile};

const CELL: Cell = Cell(1);
const ROUNDS: usize = 5;

/// A state that does nothing: what is measured is agreement.
#[derive(Clone)]
struct Count(u64);

impl State for Count {
    type Memory = ();
    fn apply(&mut self, _: Index, _: Option<Author>, command: &[u8]) -> Vec<u8> {
        self.0 += command.len() as u64;
        Vec::new()
    }
    fn read(&self, (): &(), _: Instant, _: &[u8]) -> Vec<u8> {
        self.0.to_bytes()
    }
    fn look(&self, (): &mut (), _: Instant, _: &mut impl FnMut(Vec<u8>)) -> Option<Instant> {
        None
    }
}
impl Encode for Count {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}
impl Decode for Count {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Self)
    }
}

struct Cluster<S: State> {
    voters: Vec<Voter<S>>,
    now: Instant,
    wire: VecDeque<Message>,
    writes: VecDeque<(usize, u64)>,
    done: u64,
    disk_bytes: u64,
    wire_bytes: u64,
    writes_made: u64,
    /// Whether bytes on the line are counted, which takes time.
    weighs: bool,
}

impl<S: State> Cluster<S> {
    fn new(state: S) -> Self {
        let now = Instant(1);
        let config = Config::new(CELL);
        let stream = |tile| Stream::new(1, tile, Purpose::Agreement);
        let founder = Voter::found(config.clone(), Tile(0), state, stream(Tile(0)), now);
        let others = (1..3).map(Tile);
        let others = others.map(|t| Voter::join(config.clone(), t, stream(t), now));
        let mut cluster = Self {
            voters: [founder].into_iter().chain(others).collect(),
            now,
            wire: VecDeque::new(),
            writes: VecDeque::new(),
            done: 0,
            disk_bytes: 0,
            wire_bytes: 0,
            writes_made: 0,
            weighs: false,
        };
        cluster.beat();
        for tile in 1..3 {
            cluster.request(tile, 0, Ask::Admit(Tile(u64::from(tile))));
            for _ in 0..10 {
                cluster.beat();
            }
        }
        assert_eq!(cluster.voters[0].voters().map(|v| v.len()), Some(3));
        cluster
    }

    fn beat(&mut self) {
        self.now += Config::new(CELL).beat;
        let mut effects = Vec::new();
        self.voters[0].wake(self.now, &mut |e| effects.push(e));
        self.take(0, effects);
        self.rest();
    }

    fn request(&mut self, desk: u8, number: u64, ask: Ask) {
        let author = Author {
            tile: Tile(0),
            desk,
            life: 1,
        };
        self.request_by(author, number, ask);
    }

    fn request_by(&mut self, author: Author, number: u64, ask: Ask) {
        let kind = Kind::Request {
            author,
            number,
            ask,
        };
        self.wire.push_back(Message {
            cell: CELL,
            from: author.tile,
            to: Tile(0),
            kind,
        });
    }

    /// Messages first, then disks, until nothing is under way.
    fn rest(&mut self) {
        loop {
            if let Some(message) = self.wire.pop_front() {
                if let Kind::Reply { outcome, .. } = &message.kind {
                    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
                    self.done += 1;
                    continue;
                }
                if self.weighs {
                    self.wire_bytes += message.to_bytes().len() as u64;
                }
                self.give(message.to.0 as usize, Input::Received(message));
            } else if let Some((at, token)) = self.writes.pop_front() {
                self.give(at, Input::Persisted(Persisted { token }));
            } else {
                return;
            }
        }
    }

    fn give(&mut self, at: usize, input: Input) {
        let mut effects = Vec::new();
        self.voters[at].handle(self.now, input, &mut |e| effects.push(e));
        self.take(at, effects);
    }

    fn take(&mut self, at: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => self.wire.push_back(message),
                Effect::Persist(write) | Effect::Replace(write) => {
                    self.disk_bytes += black_box(write.bytes).len() as u64;
                    self.writes_made += 1;
                    self.writes.push_back((at, write.token));
                }
                Effect::Refused { reason, .. } => panic!("refused: {reason}"),
                Effect::Led { .. } | Effect::Applied { .. } => {}
            }
        }
    }
}

/// Processor time of this thread, in seconds.
fn processor_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec that lives through the call.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn fastest(mut round: impl FnMut()) -> f64 {
    let rounds = (0..ROUNDS).map(|_| {
        let start = processor_time();
        round();
        processor_time() - start
    });
    rounds.fold(f64::INFINITY, f64::min)
}

/// So many authors with one command each under way, a great many times.
fn commands(payload: usize, at_once: u64) {
    let mut cluster = Cluster::new(Count(0));
    let batches = 40_000 / at_once;
    let bytes: std::sync::Arc<[u8]> = vec![7; payload].into();
    let mut number = 0;
    let mut run = |cluster: &mut Cluster<Count>, batches: u64| {
        for _ in 0..batches {
            number += 1;
            for author in 0..at_once {
                let author = Author {
                    tile: Tile(author / 200),
                    desk: 10 + (author % 200) as u8,
                    life: 1,
                };
                cluster.request_by(author, number, Ask::Apply(bytes.clone()));
            }
            cluster.rest();
        }
    };
    let time = fastest(|| {
        let before = cluster.done;
        run(&mut cluster, batches);
        assert_eq!(
            cluster.done - before,
            batches * at_once,
            "every command is answered"
        );
    });
    (cluster.disk_bytes, cluster.writes_made, cluster.weighs) = (0, 0, true);
    run(&mut cluster, batches);
    let total = (batches * at_once) as f64;
    println!(
        "| {payload} B | {at_once} | {:.0} | {:.2} | {:.0} | {:.0} | {:.2} |",
        total / time,
        time / total * 1e6,
        cluster.disk_bytes as f64 / 3.0 / total - payload as f64,
        cluster.wire_bytes as f64 / total - 3.0 * payload as f64,
        cluster.writes_made as f64 / 3.0 / total,
    );
}

/// Renewals of holders with so many leases each.
fn renewals(holders: u64, leases: u64) {
    let mut cluster = Cluster::new(Leases::new(Terms::default()));
    let author = |tile| Author {
        tile: Tile(tile),
        desk: 0,
        life: 1,
    };
    let mut number = 0;
    let mut all = |cluster: &mut Cluster<Leases>| {
        number += 1;
        for tile in 0..holders {
            let ask = Ask::Apply(Command::Renew.to_bytes().into());
            cluster.request_by(author(tile), number, ask);
        }
        cluster.rest();
    };
    all(&mut cluster);
    for lease in 0..holders * leases {
        let command = Command::Grant {
            lease: consensus::Lease {
                program: lease,
                replica: 0,
            },
            to: Tile(lease % holders),
        };
        cluster.request(1, 10 + lease, Ask::Apply(command.to_bytes().into()));
        cluster.rest();
    }
    let times = 20_000 / holders;
    let time = fastest(|| (0..times).for_each(|_| all(&mut cluster)));
    let total = (times * holders) as f64;
    println!("| {holders} | {leases} | {:.2} |", time / total * 1e6);
}

fn main() {
    println!(
        "| command | under way | commands/s | µs each | bytes more on each disk | bytes more on the line | writes for each |"
    );
    println!("|---|---:|---:|---:|---:|---:|---:|");
    for (payload, at_once) in [
        (16, 1),
        (16, 64),
        (16, 1_000),
        (128, 64),
        (128, 1_000),
        (1_024, 64),
    ] {
        commands(payload, at_once);
    }
    println!("\n| holders | leases each | µs for a renewal |");
    println!("|---:|---:|---:|");
    for (holders, leases) in [(10, 10), (100, 10), (1_000, 10)] {
        renewals(holders, leases);
    }
}
