//! What does the braid do on real threads? Prints lines for `docs/bench/braid.md`.
//! `cargo bench -p daemon --bench threads`.
//!
//! How long is a strand away when its thread is killed: from the kill to the answer to a question that was asked right
//! after it. And how many hops a second do three rings make, one on each strand, by the clock on the wall.

#![expect(
    clippy::disallowed_methods,
    reason = "how long something takes is a question for the wall clock"
)]

use std::time::{Duration, Instant as Wall};

use daemon::braid::Braid;
use runtime::{Config, Offer, Pid, Process, Report, Strand, Turn, Weight};
use trust::Key;
use wire::{Decode, DecodeError, Encode, Instant, Reader};

/// Passes a token on; who has no next one tells the world what came.
#[derive(Clone, Debug, Default)]
struct Hop {
    next: Option<Pid>,
    passed: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Token {
    /// Who is next from now on.
    next: Option<Pid>,
    hops: u64,
}

fn encode(pid: Option<Pid>, out: &mut Vec<u8>) {
    u8::from(pid.is_some()).encode(out);
    if let Some(pid) = pid {
        pid.encode(out);
    }
}

fn decode(from: &mut Reader<'_>) -> Result<Option<Pid>, DecodeError> {
    Ok(match u8::decode(from)? {
        0 => None,
        _ => Some(Pid::decode(from)?),
    })
}

impl Encode for Hop {
    fn encode(&self, out: &mut Vec<u8>) {
        encode(self.next, out);
        self.passed.encode(out);
    }
}
impl Decode for Hop {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let next = decode(from)?;
        let passed = u64::decode(from)?;
        Ok(Self { next, passed })
    }
}
impl Encode for Token {
    fn encode(&self, out: &mut Vec<u8>) {
        encode(self.next, out);
        self.hops.encode(out);
    }
}
impl Decode for Token {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let next = decode(from)?;
        let hops = u64::decode(from)?;
        Ok(Self { next, hops })
    }
}

impl Process for Hop {
    type Message = Token;

    #[inline]
    fn handle(&mut self, token: Token, turn: &mut Turn<'_, Self>) {
        if token.next.is_some() {
            self.next = token.next;
            return;
        }
        self.passed += 1;
        match (self.next, token.hops.checked_sub(1)) {
            (Some(next), Some(hops)) => {
                let token = Token { next: None, hops };
                turn.send(next, token).expect("a ring has one token");
            }
            _ => turn.tell(token).expect("the world listens"),
        }
    }
}

fn insist(braid: &Braid<Hop>, strand: Strand, mut offer: Offer<Hop>) {
    while let Err(back) = braid.offer(strand, offer) {
        offer = back;
        std::thread::yield_now();
    }
}

fn settle(braid: &Braid<Hop>, strand: Strand, count: usize) -> Vec<Pid> {
    let mut names = Vec::with_capacity(count);
    let mut asked = 0;
    while names.len() < count {
        while asked < count {
            let (process, weight) = (Hop::default(), Weight::new(2));
            if braid
                .offer(strand, Offer::Spawn { process, weight })
                .is_err()
            {
                break;
            }
            asked += 1;
        }
        for report in braid.reports(strand, Duration::from_millis(1)) {
            if let Report::Spawned { pid, .. } = report {
                names.push(pid);
            }
        }
    }
    names
}

fn say(braid: &Braid<Hop>, to: Pid, message: Token) {
    let due = Instant::END;
    insist(braid, to.strand(), Offer::Message { to, message, due });
}

/// Waits until the strand says that a token has come to its end.
fn hear(braid: &Braid<Hop>, strand: Strand) {
    while braid.reports(strand, Duration::from_secs(1)).is_empty() {}
}

fn config() -> Config {
    let mut config = Config::new(Key::new([7; 32]));
    config.limits.processes = 1 << 18;
    config
}

fn deaths(processes: usize) {
    let braid = Braid::start(&config()).expect("threads");
    let strand = Strand::Compute;
    let names = settle(&braid, strand, processes);
    let mut away = Vec::new();
    for death in 0..20 {
        // Everybody has something new since the last snapshot but a few.
        for name in names.iter().step_by(97) {
            say(&braid, *name, Token::default());
        }
        let mut heard = 0;
        while heard < names.len().div_ceil(97) {
            heard += braid.reports(strand, Duration::from_secs(1)).len();
        }
        let whole = |s: Strand| braid.touch(s, |t| t.keeps_a_copy()) == Some(true);
        while !Strand::ALL.into_iter().all(whole) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        let before = Wall::now();
        braid.kill(strand);
        say(&braid, names[death], Token::default());
        hear(&braid, strand);
        away.push(before.elapsed());
    }
    let counts = braid.counts();
    assert!(counts.rebuilt >= 20 && counts.lost == 0, "{counts:?}");
    let passed = braid.touch(strand, |t| {
        t.lattice().iter().map(|(_, hop)| hop.passed).sum::<u64>()
    });
    let asked = 20 * (names.len().div_ceil(97) as u64 + 1);
    assert_eq!(passed, Some(asked), "each question was counted once");
    away.sort_unstable();
    let ms = |d: Duration| d.as_secs_f64() * 1e3;
    println!(
        "| strand of {processes} processes killed 20 times, from the kill to the next answer | {:.1} ms in the median, {:.1} ms at most |",
        ms(away[10]),
        ms(away[19])
    );
}

fn rings(length: usize, hops: u64) {
    let braid = Braid::start(&config()).expect("threads");
    let rings: Vec<Vec<Pid>> = Strand::ALL.map(|s| settle(&braid, s, length)).into();
    for ring in &rings {
        for (from, to) in ring.iter().zip(ring.iter().cycle().skip(1)) {
            let next = Some(*to);
            say(&braid, *from, Token { next, hops: 0 });
        }
    }
    let before = Wall::now();
    for ring in &rings {
        say(&braid, ring[0], Token { next: None, hops });
    }
    for strand in Strand::ALL {
        hear(&braid, strand);
    }
    let seconds = before.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(3);
    let rate = 3.0 * hops as f64 / seconds / 1e6;
    println!(
        "| three rings of {length}, one on each strand | {rate:.1} M hops/s on {cores} cores, {:.1} M each |",
        rate / cores as f64
    );
}

fn main() {
    rings(1_000, 60_000_000);
    for processes in [1_000, 10_000, 100_000] {
        deaths(processes);
    }
}
