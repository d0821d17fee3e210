//! Three tori, the lines between them, and what befalls both.

use std::collections::{BTreeMap, VecDeque};

use machine::{Machine, Purpose, Stream};
use runtime::drill::{Conductor, Player, Sums};
use runtime::{Effect, Input, Lattice, Offer, Says, Stopped, Strand, Torus};
use trust::{Key, Tag};
use wire::{Instant, Nanos, Tile};

use super::config::{Blow, Config, What, name};
use crate::engine::history::fold;

/// What a torus did not take at once is offered again after so long.
const LOOKS_AGAIN: Nanos = Nanos(100_000);
/// Offers given to a torus at once.
const OFFERS_AT_ONCE: usize = 256;

/// One torus that runs. There may be two of a strand: one that was given up and does not know.
struct Living {
    torus: Torus<Player>,
    /// Until then it does nothing: it rebuilds, or is being rebuilt.
    busy: Instant,
    /// What it would be had nobody written into its memory, and up to which sheet of its log.
    innocent: Option<(Lattice<Player>, u64)>,
    departed: u64,
    /// From when to when it is cut off from the others.
    cut: Option<(Instant, Instant)>,
}

impl Living {
    fn new(torus: Torus<Player>, busy: Instant) -> Self {
        Self {
            torus,
            busy,
            innocent: None,
            departed: 0,
            cut: None,
        }
    }

    fn is_cut(&self, now: Instant) -> bool {
        self.cut.is_some_and(|(_, until)| now < until)
    }
}

/// A torus that is gone, for what comes in its place to be compared with.
struct Body {
    torus: Torus<Player>,
    innocent: Option<(Lattice<Player>, u64)>,
    /// What it was given up for, and since when it was lost if anybody knows.
    of: &'static str,
    at: Option<Instant>,
}

/// What stands between a strand and whoever uses it, and outlives every torus.
struct Gate {
    /// Offers that are not acknowledged, the first of which has this number.
    first: u64,
    offers: VecDeque<Offer<Player>>,
    /// The next to give to the torus.
    offered: u64,
    looks_at: Instant,
    /// Reports below this number were heard.
    heard: u64,
}

/// Packets on their way, by when they arrive.
type Line = BTreeMap<(Instant, u64), (Strand, Vec<u8>)>;

/// What went over the lines.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Carried {
    pub(super) packets: u64,
    pub(super) bytes: u64,
    pub(super) projections: u64,
    pub(super) projection_bytes_max: u64,
    pub(super) lost: u64,
}

/// One rebuild.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rebuild {
    pub(super) at: Instant,
    pub(super) strand: Strand,
    /// What the lost one died of; nothing that anybody did, if it was given up by mistake.
    pub(super) of: Option<&'static str>,
    /// From then until its successor runs.
    pub(super) took: Option<Nanos>,
    pub(super) replayed: u64,
    /// Whether it is what the lost one was.
    pub(super) equal: bool,
}

/// Something to be told of.
pub(super) struct Event {
    pub(super) at: Instant,
    pub(super) kind: &'static str,
    pub(super) strand: Option<Strand>,
    pub(super) text: String,
}

pub(super) struct World<'a> {
    config: &'a Config,
    braid: runtime::Config,
    pub(super) now: Instant,
    tori: Vec<Living>,
    bodies: Vec<Body>,
    gates: [Gate; 3],
    pub(super) conductor: Conductor,
    line: Line,
    numbered: u64,
    chance: Stream,
    faults: Stream,
    blows: Vec<(Blow, bool)>,
    next_blow: usize,
    pub(super) carried: Carried,
    pub(super) rebuilds: Vec<Rebuild>,
    /// Tori that could not be rebuilt.
    pub(super) unrebuilt: Vec<(Instant, Strand)>,
    /// From a stray write until it was found.
    pub(super) found: Vec<Nanos>,
    /// Stray writes that nobody found yet, of each strand.
    written: [Option<Instant>; 3],
    pub(super) migrated: u64,
    pub(super) refused: u64,
    pub(super) rejected: u64,
    pub(super) events: Vec<Event>,
    pub(super) hashes: [u64; 3],
}

impl<'a> World<'a> {
    pub(super) fn new(config: &'a Config, conductor: Conductor, seed: u64) -> Self {
        let mut secret = [0; 32];
        secret[..8].copy_from_slice(&seed.to_le_bytes());
        let braid = runtime::Config {
            key: Key::new(secret),
            ..config.braid.clone()
        };
        let living = |strand| {
            let torus = Torus::new(braid.clone(), strand, Instant::EPOCH);
            Living::new(torus, Instant::EPOCH)
        };
        let gate = |_| Gate {
            first: 0,
            offers: VecDeque::new(),
            offered: 0,
            looks_at: Instant::END,
            heard: 0,
        };
        Self {
            tori: Strand::ALL.map(living).into(),
            gates: Strand::ALL.map(gate),
            config,
            braid,
            now: Instant::EPOCH,
            bodies: Vec::new(),
            conductor,
            line: Line::new(),
            numbered: 0,
            chance: Stream::new(seed, Tile(0), Purpose::Links),
            faults: Stream::new(seed, Tile(0), Purpose::Faults),
            blows: config.blows.iter().map(|blow| (*blow, false)).collect(),
            next_blow: 0,
            carried: Carried::default(),
            rebuilds: Vec::new(),
            unrebuilt: Vec::new(),
            found: Vec::new(),
            written: [None; 3],
            migrated: 0,
            refused: 0,
            rejected: 0,
            events: Vec::new(),
            hashes: [0; 3],
        }
    }

    /// The torus of a strand that its users speak with: the latest.
    fn sitting(&self, strand: Strand) -> Option<usize> {
        let of = |living: &Living| living.torus.strand() == strand;
        self.tori.iter().rposition(of)
    }

    /// The torus that users of a strand speak with now.
    pub(super) fn torus(&self, strand: Strand) -> Option<&Torus<Player>> {
        self.sitting(strand).map(|at| &self.tori[at].torus)
    }

    /// What players amount to on each strand; nothing on one that is gone.
    pub(super) fn sums(&self) -> [Sums; 3] {
        Strand::ALL.map(|strand| {
            let torus = self.torus(strand);
            torus.map_or_else(Sums::default, |torus| Sums::of(torus.lattice()))
        })
    }

    /// Everything that was written is held, and every torus could be rebuilt.
    pub(super) fn is_quiet(&self) -> bool {
        Strand::ALL.iter().all(|strand| {
            let torus = self.torus(*strand);
            torus.is_some_and(|t| t.keeps_a_copy() && t.written() == Some(t.held()))
        })
    }

    /// Whether a blow met something it could break.
    pub(super) fn fired(&self) -> impl Iterator<Item = (What, bool)> {
        self.blows.iter().map(|(blow, fired)| (blow.what, *fired))
    }

    /// Strands whose memory was written into and who run on with it.
    pub(super) fn unfound(&self) -> impl Iterator<Item = (Strand, Instant)> {
        let at = |strand: Strand| Some((strand, self.written[strand as usize]?));
        Strand::ALL.into_iter().filter_map(at)
    }

    pub(super) fn run(&mut self, until: Instant) {
        loop {
            self.throw();
            let Some((at, what)) = self.next().filter(|(at, _)| *at <= until) else {
                break;
            };
            self.now = self.now.max(at);
            match what {
                Next::Blow => self.strike(),
                Next::Look(strand) => self.pass_offers(strand),
                Next::Wake(at) => self.act(at, None),
                Next::Packet => self.deliver(),
                Next::Throw => {}
            }
        }
        self.now = self.now.max(until);
    }

    fn next(&self) -> Option<(Instant, Next)> {
        let blow = self.blows.get(self.next_blow);
        let blow = blow.map(|(blow, _)| (Instant::EPOCH + blow.at, Next::Blow));
        let looks = Strand::ALL.map(|strand| {
            let at = self.gates[strand as usize].looks_at;
            (at < Instant::END).then_some((at, Next::Look(strand)))
        });
        let wakes = self.tori.iter().enumerate().map(|(nth, living)| {
            let at = living.torus.deadline()?.max(living.busy);
            Some((at, Next::Wake(nth)))
        });
        let packet = self.line.keys().next();
        let packet = packet.map(|(at, _)| (*at, Next::Packet));
        let throw = self.conductor.deadline().map(|at| (at, Next::Throw));
        let all = [blow, packet, throw].into_iter().chain(looks).chain(wakes);
        all.flatten().min_by_key(|(at, _)| *at)
    }

    /// What the conductor wants goes to the gates.
    fn throw(&mut self) {
        while let Some((strand, offer)) = self.conductor.next(self.now) {
            let gate = &mut self.gates[strand as usize];
            gate.offers.push_back(offer);
            gate.looks_at = gate.looks_at.min(self.now);
        }
    }

    fn pass_offers(&mut self, strand: Strand) {
        self.gates[strand as usize].looks_at = Instant::END;
        for _ in 0..OFFERS_AT_ONCE {
            let Some(at) = self.sitting(strand) else {
                return;
            };
            if self.tori[at].busy > self.now {
                self.gates[strand as usize].looks_at = self.tori[at].busy;
                return;
            }
            let gate = &mut self.gates[strand as usize];
            let number = gate.offered.max(gate.first);
            let Some(offer) = gate.offers.get((number - gate.first) as usize) else {
                return;
            };
            let offer = offer.clone();
            gate.offered = number + 1;
            self.act(at, Some(Input::Offered { number, offer }));
            if self.gates[strand as usize].offered <= number {
                break;
            }
        }
        self.gates[strand as usize].looks_at = self.now + LOOKS_AGAIN;
    }

    fn deliver(&mut self) {
        let ((_, number), (to, bytes)) = self.line.pop_first().expect("just seen");
        let here = |living: &&Living| living.torus.strand() == to;
        let busy = self.tori.iter().filter(here).map(|living| living.busy);
        if let Some(busy) = busy.max().filter(|busy| *busy > self.now) {
            // It waits in front of who is busy.
            self.line.insert((busy, number), (to, bytes));
            return;
        }
        let mut at = 0;
        while let Some(living) = self.tori.get(at) {
            let before = self.tori.len();
            if here(&living) && !living.is_cut(self.now) {
                self.act(at, Some(Input::Received(bytes.clone())));
            }
            // One that has stopped is gone, and the next is in its place.
            at += usize::from(self.tori.len() >= before);
        }
    }

    fn act(&mut self, at: usize, input: Option<Input<Player>>) {
        let now = self.now;
        let living = &mut self.tori[at];
        let strand = living.torus.strand();
        let mut effects = Vec::new();
        match input {
            Some(input) => living.torus.handle(now, input, &mut |e| effects.push(e)),
            None => living.torus.wake(now, &mut |e| effects.push(e)),
        }
        if let Some((lattice, sheet)) = &mut living.innocent {
            // What it takes from outside it takes in any case.
            *sheet = (living.torus.replay_onto(lattice, *sheet)).unwrap_or_else(|sheet| sheet);
        }
        self.migrated += living.torus.departed() - living.departed;
        living.departed = living.torus.departed();
        let mut taken = false;
        let mut stopped = None;
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => self.carry(at, to, bytes),
                Effect::Accepted { upto } => {
                    let gate = &mut self.gates[strand as usize];
                    let known = upto.saturating_sub(gate.first);
                    let known = known.min(gate.offers.len() as u64);
                    gate.offers.drain(..known as usize);
                    gate.first += known;
                    gate.offered = gate.offered.max(upto);
                    self.mark(strand, 1, upto);
                }
                Effect::Refused { number, .. } => {
                    let gate = &mut self.gates[strand as usize];
                    gate.offered = gate.offered.min(number);
                    self.refused += 1;
                }
                Effect::Told { number, report } => {
                    taken = true;
                    let gate = &mut self.gates[strand as usize];
                    if number == gate.heard {
                        gate.heard += 1;
                        self.mark(strand, 2, number);
                        self.conductor.hear(strand, report);
                    }
                }
                Effect::Missed { .. } => {}
                Effect::Rebuilt(torus) => self.seat(at, *torus),
                Effect::Lost(of) => {
                    self.unrebuilt.push((now, of));
                    let text = format!("{} could not be rebuilt", name(of));
                    self.tell("lost", Some(of), text);
                }
                Effect::Stopped(why) => stopped = Some(why),
                Effect::Rejected(_) => self.rejected += 1,
            }
        }
        if let Some(why) = stopped {
            self.bury(at, why);
        } else if taken {
            let upto = self.gates[strand as usize].heard;
            self.act(at, Some(Input::Taken { upto }));
        }
    }

    /// A torus has stopped by itself.
    fn bury(&mut self, at: usize, why: Stopped) {
        let living = self.tori.remove(at);
        let strand = living.torus.strand();
        match why {
            Stopped::Damaged { .. } => {
                if let Some(since) = self.written[strand as usize].take() {
                    self.found.push(self.now.since(since));
                }
                self.tell(
                    "damage",
                    Some(strand),
                    format!("{} finds its memory damaged", name(strand)),
                );
                self.lay(living, "corrupt");
            }
            Stopped::Succeeded => {
                let text = format!("the old {} hears of its successor and ends", name(strand));
                self.tell("succeeded", Some(strand), text);
            }
        }
    }

    fn lay(&mut self, living: Living, of: &'static str) {
        let strand = living.torus.strand();
        self.bodies.retain(|body| body.torus.strand() != strand);
        self.bodies.push(Body {
            torus: living.torus,
            innocent: living.innocent,
            of,
            at: Some(self.now),
        });
    }

    /// A torus was rebuilt by the one of this number.
    fn seat(&mut self, keeper: usize, torus: Torus<Player>) {
        let strand = torus.strand();
        let copy = self.tori[keeper].torus.copy_mut();
        let kept = copy.map_or(0, |copy| copy.tally().events);
        let replayed = torus.lattice().tally().events.saturating_sub(kept);
        let ready = self.now + self.braid.turn_time * replayed;
        let body = self.bodies.iter().position(|b| b.torus.strand() == strand);
        let body = body.map(|at| self.bodies.remove(at));
        // One that was given up and lives is as good to compare with as one that is dead.
        let body = body.or_else(|| {
            let living = &self.tori[self.sitting(strand)?];
            let (of, at) = match (&living.innocent, living.cut) {
                (Some(_), _) => ("corrupt", None),
                (None, Some((since, _))) => ("partition", Some(since)),
                (None, None) => ("", None),
            };
            Some(Body {
                torus: living.torus.clone(),
                innocent: living.innocent.clone(),
                of,
                at,
            })
        });
        // Convicted by an audit: what was written into it has been found.
        if let Some(since) = self.written[strand as usize].take() {
            self.found.push(self.now.since(since));
        }
        let equal = body
            .as_ref()
            .is_some_and(|body| is_equal(&torus, body, self.now));
        let of = body
            .as_ref()
            .map(|body| body.of)
            .filter(|of| !of.is_empty());
        let took = (body.and_then(|body| body.at)).map(|at| ready.since(at));
        self.rebuilds.push(Rebuild {
            at: self.now,
            strand,
            of,
            took,
            replayed,
            equal,
        });
        let (processes, sheet) = (torus.lattice().processes(), torus.held());
        let text = format!(
            "{} is rebuilt: {processes} processes, sheet {sheet}, {replayed} turns again",
            name(strand)
        );
        self.tell("rebuilt", Some(strand), text);
        self.tori[keeper].busy = ready;
        self.tori.push(Living::new(torus, ready));
        let gate = &mut self.gates[strand as usize];
        gate.offered = gate.first;
        gate.looks_at = ready;
    }

    fn lasting(&self) -> impl Iterator<Item = &Blow> {
        let now = self.now.since(Instant::EPOCH);
        let struck = self.blows[..self.next_blow].iter();
        struck
            .map(|(blow, _)| blow)
            .filter(move |blow| now < blow.until)
    }

    fn carry(&mut self, at: usize, to: Strand, bytes: Vec<u8>) {
        let from = self.tori[at].torus.strand();
        let says = Says::of(&bytes).expect("a torus sends packets");
        let tag = bytes[bytes.len() - Tag::BYTES..].first_chunk();
        self.mark(
            from,
            8 + (to as u64) * 8 + says as u64,
            u64::from_le_bytes(*tag.expect("a tag is longer")),
        );
        let length = bytes.len() as u64;
        self.carried.packets += 1;
        self.carried.bytes += length;
        if says == Says::Projection {
            self.carried.projections += 1;
            let most = &mut self.carried.projection_bytes_max;
            *most = length.max(*most);
        }
        let mut lines = self.config.lines;
        for blow in self.lasting() {
            let concerns = |projections: bool| !projections || says == Says::Projection;
            match blow.what {
                What::Loss { share, projections } if concerns(projections) => {
                    lines.loss = lines.loss.max(share);
                }
                What::Reorder { more, projections } if concerns(projections) => {
                    lines.jitter = lines.jitter.max(more);
                }
                _ => {}
            }
        }
        if self.tori[at].is_cut(self.now) {
            self.carried.lost += 1;
            return;
        }
        let copies = if self.chance.chance(lines.loss) {
            self.carried.lost += 1;
            0
        } else {
            1 + u32::from(self.chance.chance(lines.doubling))
        };
        for _ in 0..copies {
            let mut bytes = bytes.clone();
            if self.chance.chance(lines.damage) {
                let bit = self.chance.below(length * 8);
                bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
            }
            let at = self.now + lines.delay + self.chance.span(lines.jitter);
            self.numbered += 1;
            self.line.insert((at, self.numbered), (to, bytes));
        }
    }

    fn strike(&mut self) {
        let (blow, fired) = &mut self.blows[self.next_blow];
        self.next_blow += 1;
        let what = blow.what;
        // Lines are always there to be broken; tori may not be.
        *fired = true;
        let at = self.next_blow - 1;
        match what {
            What::Kill(strand) => match self.sitting(strand) {
                Some(living) => {
                    let living = self.tori.remove(living);
                    self.written[strand as usize] = None;
                    self.lay(living, "kill");
                }
                None => self.blows[at].1 = false,
            },
            What::Corrupt(strand) => self.blows[at].1 = self.scribble(strand),
            What::Partition(strand) => match self.sitting(strand) {
                Some(living) => {
                    let until = Instant::EPOCH + self.blows[at].0.until;
                    self.tori[living].cut = Some((self.now, until));
                }
                None => self.blows[at].1 = false,
            },
            What::Loss { .. } | What::Reorder { .. } => {}
        }
        if self.blows[at].1 {
            let on = what
                .strand()
                .map_or_else(String::new, |s| format!(" of {}", name(s)));
            self.tell("fault", what.strand(), format!("{}{on}", what.name()));
        }
    }

    /// Writes into the memory of one process, and keeps what the torus would be without.
    fn scribble(&mut self, strand: Strand) -> bool {
        let Some(at) = self.sitting(strand) else {
            return false;
        };
        let before = self.tori.len();
        // Up to here its log tells everything.
        self.act(at, None);
        if self.tori.len() != before {
            return false;
        }
        let living = &mut self.tori[at];
        let sites = living.torus.lattice().shape().sites();
        let Some(sheet) = living
            .torus
            .written()
            .filter(|_| living.torus.lattice().processes() > 0)
        else {
            return false;
        };
        let innocent = living.torus.lattice().clone();
        // Those that are there lie together, from the first site on.
        let first = self
            .faults
            .below(u64::from(living.torus.lattice().processes())) as u32;
        let hit = (0..sites).any(|next| {
            let site = (first + next) % sites;
            living.torus.lattice_mut().damage(site, Player::scribble)
        });
        if hit && living.innocent.is_none() {
            living.innocent = Some((innocent, sheet));
            self.written[strand as usize] = Some(self.now);
        }
        hit
    }

    fn mark(&mut self, strand: Strand, key: u64, payload: u64) {
        let hash = &mut self.hashes[strand as usize];
        *hash = fold(*hash, self.now, key, payload);
    }

    fn tell(&mut self, kind: &'static str, strand: Option<Strand>, text: String) {
        self.events.push(Event {
            at: self.now,
            kind,
            strand,
            text,
        });
    }
}

#[derive(Clone, Copy)]
enum Next {
    Blow,
    Look(Strand),
    Wake(usize),
    Packet,
    Throw,
}

/// Whether a rebuilt torus is what the lost one was. What the lost one wrote and nobody held never was; with that, the two
/// must come to the same.
fn is_equal(rebuilt: &Torus<Player>, body: &Body, now: Instant) -> bool {
    let mut lost = body.torus.clone();
    // What is not on a sheet yet is put on one.
    lost.wake(now, &mut |_| ());
    let mut lattice = rebuilt.lattice().clone();
    if lost.replay_onto(&mut lattice, rebuilt.held()).is_err() {
        return false;
    }
    match &body.innocent {
        None => lattice.canonical() == lost.lattice().canonical(),
        Some((innocent, sheet)) => {
            let mut innocent = innocent.clone();
            let led = lost.replay_onto(&mut innocent, *sheet);
            led.is_ok() && lattice.canonical() == innocent.canonical()
        }
    }
}
