//! Three tori, one virtual time, and lines between them that lose, double, delay
//! and damage what they carry. The world also kills tori and writes into their
//! memory, and runs whatever the others rebuild. It checks each rebuilt torus
//! against what the lost one was when it wrote the same sheet.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Machine, Purpose, Stream};
use runtime::{
    Config, Effect, Input, Limits, Offer, Pid, Process, Refused, Report, Strand, Torus, Turn,
    Weight,
};
use trust::Key;
use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader, Tile};

/// Adds up what passes it, and remembers in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Teller {
    pub(crate) passed: u64,
    pub(crate) order: u64,
    pub(crate) children: u64,
    /// How often there was no room for an errand's next stop.
    pub(crate) refused: u64,
}

/// An errand from process to process; the last one tells the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Errand {
    pub(crate) number: u64,
    pub(crate) stops: Vec<Pid>,
    /// Time for each stop, in nanoseconds; 0 for whenever.
    pub(crate) hurry: u64,
}

/// At stops with such numbers a short-lived child is left behind, or a teller ends.
pub(crate) const LEAVES_CHILD: u64 = 7;

impl Encode for Teller {
    fn encode(&self, out: &mut Vec<u8>) {
        self.passed.encode(out);
        self.order.encode(out);
        self.children.encode(out);
        self.refused.encode(out);
    }
}
impl Decode for Teller {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            passed: u64::decode(from)?,
            order: u64::decode(from)?,
            children: u64::decode(from)?,
            refused: u64::decode(from)?,
        })
    }
}
impl Encode for Errand {
    fn encode(&self, out: &mut Vec<u8>) {
        self.number.encode(out);
        self.hurry.encode(out);
        (self.stops.len() as u64).encode(out);
        self.stops.iter().for_each(|stop| stop.encode(out));
    }
}
impl Decode for Errand {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u64::decode(from)?;
        let hurry = u64::decode(from)?;
        let count = from.count(1)?;
        let stops = (0..count)
            .map(|_| Pid::decode(from))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            number,
            stops,
            hurry,
        })
    }
}

impl Process for Teller {
    type Message = Errand;

    fn handle(&mut self, mut errand: Errand, turn: &mut Turn<'_, Self>) {
        self.passed += 1;
        self.order = self.order.wrapping_mul(31).wrapping_add(errand.number);
        if errand.number == u64::MAX {
            return turn.exit();
        }
        if errand.number.is_multiple_of(LEAVES_CHILD) {
            let child = turn.spawn(Self::default(), Weight::MOST).expect("room");
            let last = Errand {
                number: u64::MAX,
                ..Errand::default()
            };
            turn.send(child, last).expect("room");
            self.children += 1;
        }
        let due = turn.now() + Nanos(errand.hurry);
        let before = errand.clone();
        let sent = match errand.stops.pop() {
            Some(next) if errand.hurry > 0 => turn.send_due(next, errand, due),
            Some(next) => turn.send(next, errand),
            None => turn.tell(errand),
        };
        // No room: the errand stays here and tries again.
        if let Err(why) = sent {
            assert_eq!(why, Refused::Full);
            self.refused += 1;
            self.passed -= 1;
            turn.send(turn.me(), before)
                .expect("it just left this mailbox");
        }
    }
}

/// What the lines do to what they carry.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lines {
    pub(crate) loss: f64,
    pub(crate) doubling: f64,
    pub(crate) damage: f64,
    pub(crate) delay: Nanos,
    /// Up to so much more, so that packets overtake each other.
    pub(crate) jitter: Nanos,
}

pub(crate) const LINES_FINE: Lines = Lines {
    loss: 0.0,
    doubling: 0.0,
    damage: 0.0,
    delay: Nanos(20_000),
    jitter: Nanos(0),
};

pub(crate) fn config() -> Config {
    let mut config = Config::new(Key::new([3; 32]));
    config.limits = Limits {
        processes: 1 << 12,
        mailbox: 4_096,
        mail: 1 << 20,
        lane: 1 << 16,
    };
    config.turns = 16;
    config.turn_time = Nanos(1_000);
    config
}

type Line = BTreeMap<(Instant, u64), (Strand, Vec<u8>)>;

pub(crate) struct World {
    pub(crate) tori: [Option<Torus<Teller>>; 3],
    pub(crate) now: Instant,
    pub(crate) lines: Lines,
    pub(crate) chance: Stream,
    line: Line,
    carried: u64,
    /// What each torus was after so many sheets.
    history: [BTreeMap<u64, Vec<u8>>; 3],
    /// Offers of each strand, as numbered.
    pub(crate) offers: [Vec<Offer<Teller>>; 3],
    pub(crate) accepted: [u64; 3],
    pub(crate) told: [BTreeMap<u64, Report<Errand>>; 3],
    pub(crate) rebuilt: u32,
    pub(crate) lost: u32,
    pub(crate) rejected: u32,
    pub(crate) missed: u64,
    /// Whether what a torus was can be relied on to compare with.
    pub(crate) compares: bool,
    pub(crate) trace: Option<Vec<String>>,
}

impl World {
    pub(crate) fn new(config: Config, seed: u64) -> Self {
        let torus = |strand| Some(Torus::new(config.clone(), strand, Instant::EPOCH));
        let mut world = Self {
            tori: Strand::ALL.map(torus),
            now: Instant::EPOCH,
            lines: LINES_FINE,
            chance: Stream::new(seed, Tile(0), Purpose::Links),
            line: BTreeMap::new(),
            carried: 0,
            history: Default::default(),
            offers: Default::default(),
            accepted: [0; 3],
            told: Default::default(),
            rebuilt: 0,
            lost: 0,
            rejected: 0,
            missed: 0,
            compares: true,
            trace: None,
        };
        Strand::ALL.into_iter().for_each(|s| world.remember(s));
        world
    }

    pub(crate) fn torus(&self, strand: Strand) -> &Torus<Teller> {
        self.tori[strand as usize].as_ref().expect("it is alive")
    }

    pub(crate) fn offer(&mut self, strand: Strand, offer: Offer<Teller>) {
        let offers = &mut self.offers[strand as usize];
        offers.push(offer.clone());
        let number = offers.len() as u64 - 1;
        self.give(strand, Input::Offered { number, offer });
    }

    /// Offers again what is not acknowledged, and says what was heard.
    pub(crate) fn insist(&mut self) {
        for strand in Strand::ALL {
            let accepted = self.accepted[strand as usize];
            let offers = self.offers[strand as usize].clone();
            for (number, offer) in (0..).zip(offers).skip(accepted as usize) {
                self.give(strand, Input::Offered { number, offer });
            }
            let told = &self.told[strand as usize];
            let upto = (0..).find(|number| !told.contains_key(number)).unwrap_or(0);
            self.give(strand, Input::Taken { upto });
        }
    }

    pub(crate) fn kill(&mut self, strand: Strand) {
        self.tori[strand as usize] = None;
    }

    pub(crate) fn give(&mut self, strand: Strand, input: Input<Teller>) {
        self.act(strand, Some(input));
    }

    pub(crate) fn run_for(&mut self, span: Nanos) {
        self.run(self.now + span);
    }

    pub(crate) fn run(&mut self, until: Instant) {
        loop {
            let packet = self.line.keys().next().map(|&(at, _)| (at, None));
            let wakes = Strand::ALL.map(|strand| {
                let torus = self.tori[strand as usize].as_ref();
                torus.and_then(|t| Some((t.deadline()?, Some(strand))))
            });
            let next = wakes.into_iter().chain([packet]).flatten().min();
            let Some((at, what)) = next.filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            match what {
                Some(strand) => self.act(strand, None),
                None => {
                    let (_, (to, bytes)) = self.line.pop_first().expect("just seen");
                    self.give(to, Input::Received(bytes));
                }
            }
        }
        self.now = self.now.max(until);
    }

    fn act(&mut self, strand: Strand, input: Option<Input<Teller>>) {
        let Some(torus) = &mut self.tori[strand as usize] else {
            return;
        };
        let mut effects = Vec::new();
        match input {
            Some(input) => torus.handle(self.now, input, &mut |effect| effects.push(effect)),
            None => torus.wake(self.now, &mut |effect| effects.push(effect)),
        }
        self.remember(strand);
        for effect in effects {
            self.obey(strand, effect);
        }
    }

    fn remember(&mut self, strand: Strand) {
        let torus = self.tori[strand as usize].as_ref().expect("it just acted");
        if !self.compares {
            return;
        }
        if let (Some(written), None) = (torus.written(), torus.stopped()) {
            let history = &mut self.history[strand as usize];
            history
                .entry(written)
                .or_insert_with(|| torus.lattice().canonical());
        }
    }

    fn note(&mut self, strand: Strand, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!(
                "{:>10} {strand:<11} {}",
                self.now.to_string(),
                what()
            ));
        }
    }

    fn obey(&mut self, strand: Strand, effect: Effect<Teller>) {
        match effect {
            Effect::Send { to, bytes } => self.carry(to, bytes),
            Effect::Accepted { upto } => {
                let accepted = &mut self.accepted[strand as usize];
                if upto > *accepted {
                    *accepted = upto;
                    self.note(strand, || format!("acknowledges all offers below {upto}"));
                }
            }
            Effect::Told { number, report } => {
                let again = self.told[strand as usize].insert(number, report.clone());
                match again {
                    Some(before) => assert_eq!(before, report, "report {number} of {strand}"),
                    None => self.note(strand, || format!("tells {report:?}")),
                }
            }
            Effect::Rebuilt(torus) => {
                let of = torus.strand();
                self.rebuilt += 1;
                if self.compares {
                    self.check(&torus);
                }
                self.note(strand, || {
                    let processes = torus.lattice().processes();
                    format!(
                        "rebuilds {of}: {processes} processes, sheet {}",
                        torus.held()
                    )
                });
                // What the lost one wrote beyond this never was.
                self.history[of as usize].split_off(&(torus.held() + 1));
                self.tori[of as usize] = Some(*torus);
                self.remember(of);
            }
            Effect::Lost(of) => {
                self.lost += 1;
                self.note(strand, || format!("cannot rebuild {of}"));
            }
            Effect::Stopped(why) => {
                self.note(strand, || format!("stops: {why:?}"));
                self.tori[strand as usize] = None;
            }
            Effect::Missed { deadlines } => self.missed += deadlines,
            Effect::Rejected(_) => self.rejected += 1,
            Effect::Refused { .. } => {}
        }
    }

    /// Whether a rebuilt torus is what the lost one was.
    fn check(&self, torus: &Torus<Teller>) {
        let (strand, sheet) = (torus.strand(), torus.held());
        let history = &self.history[strand as usize];
        let (_, lost) = history
            .range(sheet..)
            .next()
            .expect("the lost one got so far");
        let equal = torus.lattice().canonical() == *lost;
        assert!(
            equal,
            "{strand} was rebuilt at sheet {sheet} and is not what it was"
        );
    }

    fn carry(&mut self, to: Strand, mut bytes: Vec<u8>) {
        let lines = self.lines;
        let copies = if self.chance.chance(lines.loss) {
            0
        } else if self.chance.chance(lines.doubling) {
            2
        } else {
            1
        };
        for _ in 0..copies {
            if self.chance.chance(lines.damage) {
                let bit = self.chance.below(bytes.len() as u64 * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            let at = self.now + lines.delay + self.chance.span(lines.jitter);
            self.carried += 1;
            self.line.insert((at, self.carried), (to, bytes.clone()));
        }
    }

    /// So many tellers on each strand; their names.
    pub(crate) fn settle(&mut self, each: usize) -> Vec<Pid> {
        for strand in Strand::ALL {
            for _ in 0..each {
                let (process, weight) = (Teller::default(), Weight::new(2));
                self.offer(strand, Offer::Spawn { process, weight });
            }
        }
        for _ in 0..each {
            self.run_for(Nanos::from_millis(100));
            self.insist();
        }
        self.run_for(Nanos::from_millis(100));
        let mut names = Vec::new();
        for told in &self.told {
            for report in told.values() {
                if let Report::Spawned { pid, .. } = report {
                    names.push(*pid);
                }
            }
        }
        assert_eq!(names.len(), 3 * each);
        names
    }

    /// Sends an errand with this number over some of these tellers.
    pub(crate) fn errand(&mut self, number: u64, names: &[Pid], stops: u64, hurry: u64) {
        let mut any = || names[self.chance.below(names.len() as u64) as usize];
        let to = any();
        let stops = (0..stops).map(|_| any()).collect();
        let message = Errand {
            number,
            stops,
            hurry,
        };
        let due = Instant::END;
        self.offer(to.strand(), Offer::Message { to, message, due });
    }

    /// Heals everything and gives it time.
    pub(crate) fn peace(&mut self) {
        self.lines = LINES_FINE;
        for _ in 0..60 {
            self.insist();
            self.run_for(Nanos::from_millis(100));
        }
    }

    /// The numbers of the errands that ended, each as often as the world was told.
    pub(crate) fn ended(&self) -> Vec<u64> {
        let mut ended = Vec::new();
        for told in &self.told {
            for report in told.values() {
                if let Report::Said { message, .. } = report {
                    ended.push(message.number);
                }
            }
        }
        ended.sort_unstable();
        ended
    }

    /// In peace: every errand ended once, every teller is there, every stop was
    /// counted once, nothing is left over.
    pub(crate) fn check_errands(&self, names: &[Pid], errands: u64, stops: u64) {
        assert_eq!(self.ended(), (0..errands).collect::<Vec<_>>());
        let offers = |of: usize| self.offers[of].len() as u64;
        assert_eq!(self.accepted, [offers(0), offers(1), offers(2)]);
        let mut passed = 0;
        let mut found = BTreeSet::new();
        for strand in Strand::ALL {
            let lattice = self.torus(strand).lattice();
            assert_eq!((lattice.ready(), lattice.mail()), (0, 0));
            assert_eq!(lattice.tally().astray, 0);
            for (pid, teller) in lattice.iter() {
                assert!(found.insert(pid), "{pid} is there twice");
                passed += teller.passed;
            }
        }
        assert_eq!(found, names.iter().copied().collect());
        assert_eq!(passed, errands * (stops + 1));
        for strand in Strand::ALL {
            assert!(self.torus(strand).keeps_a_copy());
        }
    }
}
