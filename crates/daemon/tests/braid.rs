//! A braid on real threads: whoever uses it notices nothing of a torus that dies.

use std::collections::BTreeMap;
use std::time::Duration;

use daemon::braid::{Braid, VAIN_MAX};
use runtime::{Config, Offer, Pid, Process, Refused, Report, Strand, Turn, Weight};
use trust::Key;
use wire::{Decode, DecodeError, Encode, Instant, Reader};

/// Counts who passes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Gatekeeper {
    passed: u64,
}

/// Passes so many gates, the last of which tells the world.
#[derive(Clone, Debug, Default)]
struct Walk {
    number: u64,
    gates: Vec<Pid>,
}

/// Whoever meets it dies of it.
const POISON: u64 = u64::MAX;

impl Encode for Gatekeeper {
    fn encode(&self, out: &mut Vec<u8>) {
        self.passed.encode(out);
    }
}
impl Decode for Gatekeeper {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let passed = u64::decode(from)?;
        Ok(Self { passed })
    }
}
impl Encode for Walk {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        (self.gates.len() as u64).encode(out);
        self.gates.iter().for_each(|gate| gate.encode(out));
    }
}
impl Decode for Walk {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u64::decode(from)?;
        let count = from.count(1)?;
        let gates = (0..count)
            .map(|_| Pid::decode(from))
            .collect::<Result<_, _>>()?;
        Ok(Self { number, gates })
    }
}

impl Process for Gatekeeper {
    type Message = Walk;

    fn handle(&mut self, mut walk: Walk, turn: &mut Turn<'_, Self>) {
        assert_ne!(walk.number, POISON, "a handler that panics");
        let before = walk.clone();
        self.passed += 1;
        let sent = match walk.gates.pop() {
            Some(next) => turn.send(next, walk),
            None => turn.tell(walk),
        };
        if let Err(why) = sent {
            // No room yet: it stays here and tries again.
            assert_eq!(why, Refused::Full);
            self.passed -= 1;
            turn.send(turn.me(), before)
                .expect("it just left this mailbox");
        }
    }
}

fn config() -> Config {
    let mut config = Config::new(Key::new([7; 32]));
    config.limits.processes = 1 << 12;
    config.limits.mailbox = 4_096;
    // Whoever has moved away reaches even itself by a lane.
    config.limits.lane = 1 << 16;
    config
}

fn insist<P>(braid: &Braid<P>, strand: Strand, mut offer: Offer<P>)
where
    P: Process + Send + 'static,
    P::Message: Send,
{
    while let Err(back) = braid.offer(strand, offer) {
        offer = back;
        std::thread::yield_now();
    }
}

/// So many gatekeepers on each strand.
fn settle(braid: &Braid<Gatekeeper>, each: usize) -> Vec<Pid> {
    for strand in Strand::ALL {
        for _ in 0..each {
            let (process, weight) = (Gatekeeper::default(), Weight::new(2));
            insist(braid, strand, Offer::Spawn { process, weight });
        }
    }
    let mut names = Vec::new();
    while names.len() < 3 * each {
        for strand in Strand::ALL {
            for report in braid.reports(strand, Duration::from_millis(1)) {
                if let Report::Spawned { pid, .. } = report {
                    names.push(pid);
                }
            }
        }
    }
    names
}

fn walk(braid: &Braid<Gatekeeper>, number: u64, names: &[Pid], gates: u64) {
    // Any fixed way through all of them will do.
    let gate = |n: u64| names[(number * 7_919 + n * 104_729) as usize % names.len()];
    let to = gate(0);
    let gates = (1..=gates).map(gate).collect();
    let message = Walk { number, gates };
    insist(
        braid,
        to.strand(),
        Offer::Message {
            to,
            message,
            due: Instant::END,
        },
    );
}

/// Where each walk was told to have ended.
fn listen(braid: &Braid<Gatekeeper>, ended: &mut BTreeMap<u64, Strand>) {
    for strand in Strand::ALL {
        for report in braid.reports(strand, Duration::ZERO) {
            match report {
                Report::Said { message, .. } => {
                    // At once: for one that ends twice another never does, and would be waited for.
                    let before = ended.insert(message.number, strand);
                    assert_eq!(before, None, "walk {} ended twice", message.number);
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

fn wait_for(mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(1));
    }
    panic!("waited a minute");
}

fn whole(braid: &Braid<Gatekeeper>) -> bool {
    (Strand::ALL.into_iter()).all(|strand| braid.touch(strand, |t| t.keeps_a_copy()) == Some(true))
}

fn passed(braid: &Braid<Gatekeeper>) -> u64 {
    let all = Strand::ALL.into_iter().map(|strand| {
        braid.touch(strand, |t| {
            t.lattice()
                .iter()
                .map(|(_, keeper)| keeper.passed)
                .sum::<u64>()
        })
    });
    all.map(|sum| sum.expect("it is alive")).sum()
}

const GATES: u64 = 9;

//= requirements B3
#[test]
fn threads_are_killed_under_load_and_every_walk_ends_once() {
    let braid = Braid::start(&config()).unwrap();
    let names = settle(&braid, 200);
    let mut ended = BTreeMap::new();
    let mut number = 0;
    for death in 0..12_usize {
        for _ in 0..500 {
            walk(&braid, number, &names, GATES);
            number += 1;
            listen(&braid, &mut ended);
        }
        wait_for(|| {
            listen(&braid, &mut ended);
            whole(&braid)
        });
        braid.kill(Strand::ALL[death % 3]);
        for _ in 0..500 {
            walk(&braid, number, &names, GATES);
            number += 1;
        }
        wait_for(|| {
            listen(&braid, &mut ended);
            braid.counts().rebuilt > death as u64
        });
    }
    wait_for(|| {
        listen(&braid, &mut ended);
        ended.len() as u64 == number
    });
    wait_for(|| whole(&braid));
    assert_eq!(passed(&braid), number * (GATES + 1));
    let counts = braid.counts();
    assert_eq!(
        (counts.lost, counts.dead, counts.panicked),
        (0, 0, 0),
        "{counts:?}"
    );
    assert!(counts.rebuilt >= 12);
}

#[test]
fn a_torus_with_damaged_memory_is_replaced_by_what_it_was() {
    let braid = Braid::start(&config()).unwrap();
    let names = settle(&braid, 50);
    for number in 0..200 {
        walk(&braid, number, &names, GATES);
    }
    let mut ended = BTreeMap::new();
    wait_for(|| {
        listen(&braid, &mut ended);
        ended.len() == 200 && whole(&braid)
    });
    let victim = names[17];
    // Sealed by now: a damaged slot is found by looking at it.
    std::thread::park_timeout(Duration::from_millis(100));
    let hit = braid.touch(victim.strand(), move |torus| {
        torus
            .lattice_mut()
            .damage(victim.site(), |keeper| keeper.passed += 1 << 40)
    });
    assert_eq!(hit, Some(true));
    wait_for(|| braid.counts().rebuilt == 1);
    wait_for(|| whole(&braid));
    assert_eq!(passed(&braid), 200 * (GATES + 1));
    assert_eq!(braid.counts().damaged, 1);
}

#[test]
fn a_handler_that_always_panics_ends_its_strand_and_not_the_machine() {
    let braid = Braid::start(&config()).unwrap();
    let names = settle(&braid, 1);
    wait_for(|| whole(&braid));
    let to = names[0];
    let message = Walk {
        number: POISON,
        gates: Vec::new(),
    };
    insist(
        &braid,
        to.strand(),
        Offer::Message {
            to,
            message,
            due: Instant::END,
        },
    );
    // A thread has died when it has said so, which takes it longer than to be replaced.
    wait_for(|| braid.counts().dead > 0 && braid.counts().panicked > u64::from(VAIN_MAX));
    assert_eq!(braid.counts().panicked, u64::from(VAIN_MAX) + 1);
    // The other two go on.
    for strand in Strand::ALL
        .into_iter()
        .filter(|strand| *strand != to.strand())
    {
        assert!(braid.touch(strand, |t| t.stopped().is_none()).is_some());
    }
}
