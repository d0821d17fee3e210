//! One member: the protocol itself.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use core::ops::Range;

use machine::{Machine, Persist, Persisted, Stream};
use wire::codec::decode_all;
use wire::{DecodeError, Encode, Instant, Reader};

use crate::claim::{Claim, INCARNATION_MAX, State};
use crate::config::Config;
use crate::event::{Effect, Input, Reason, Why};
use crate::exile::Exile;
use crate::health::Health;
use crate::message::{
    Content, Kind, Message, Peer, SEATS, SECTIONS, Update, Updates, read_incarnation,
};
use crate::news::News;
use crate::roster::{self, Roster};
use crate::schedule;
use crate::suspicion::{Manner, Suspicions};

/// One tile's view of its cell.
#[derive(Clone, Debug)]
pub struct Member {
    config: Arc<Config>,
    stream: Stream,
    roster: Roster,
    suspicions: Suspicions,
    news: News,
    probe: Option<Probe>,
    /// When to probe next, once no probe is under way.
    next_turn: Instant,
    /// When to gossip next; [`Instant::END`] while there is no news.
    next_gossip: Instant,
    /// The incarnation it speaks as.
    incarnation: u32,
    /// A higher one, on its way to the disk.
    pending: Option<u32>,
    /// Probes sent in this life.
    probes: u32,
    me: Peer,
    health: Health,
    presence: Presence,
    exile: Exile,
    /// Whether the last message heard came from a roster unlike its own.
    doubt: bool,
}

/// Whether a member takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Presence {
    /// It has an incarnation to make durable before it may speak.
    Arriving,
    /// It waits for the disk.
    Waiting,
    Present,
    /// It has said goodbye.
    Gone,
}

/// The probe under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Probe {
    number: u64,
    /// When relays are asked; afterwards, when it is over.
    due: Instant,
    over: Instant,
    /// The target's incarnation when the probe began.
    incarnation: u32,
    target: Peer,
    relays: [Peer; RELAYS_MAX],
    asked: u8,
    /// Bit i: relay i was heard.
    heard: u8,
    direct: bool,
}

const _: () = assert!(SECTIONS == u16::BITS as usize);

/// So many seats go to the patient suspicions that have run longest, before any news.
const SEATS_FOR_THE_PATIENT: usize = 4;

/// No section.
const NOTHING: u16 = 0;

const RELAYS_MAX: usize = 8;

/// An answer this many probes late is late; beyond that it is stale.
const LATE_PROBES: u32 = 8;

/// The incarnation for a member that starts again, out of the bytes of its last
/// durable [`Persist`]: one above. A tile in service for the first time starts at 0, and its disk
/// must hold the [`record`] of that before it does: a blank disk cannot tell a second life from a first.
///
/// # Errors
/// If the bytes are not those of a membership `Persist`.
//= spec 3
pub fn incarnation_after(persisted: &[u8]) -> Result<u32, DecodeError> {
    let mut reader = Reader::new(persisted);
    read_incarnation(&mut reader)?;
    let last: u32 = decode_all(persisted)?;
    Ok(last.saturating_add(1).min(INCARNATION_MAX))
}

/// What a disk holds of an incarnation.
#[must_use]
pub fn record(incarnation: u32) -> Vec<u8> {
    incarnation.to_bytes()
}

impl Member {
    /// A member as it starts. An incarnation of 0 is a tile in service for the
    /// first time: every roster already holds it alive, so it just begins. Any
    /// other is a tile that starts again; it makes the incarnation durable
    /// before its first word.
    ///
    /// # Panics
    /// If the configuration contradicts itself, the peer is not in the lattice,
    /// or the incarnation exceeds [`INCARNATION_MAX`].
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        me: Peer,
        incarnation: u32,
        stream: Stream,
        now: Instant,
    ) -> Self {
        config.assert_sound();
        assert!(
            u32::from(me.0) < config.tiles(),
            "{me:?} is not in the lattice"
        );
        assert!(incarnation <= INCARNATION_MAX);
        let first_life = incarnation == 0;
        Self {
            next_turn: if first_life {
                schedule::turn_after(&config, me, now)
            } else {
                now
            },
            config,
            stream,
            roster: Roster::default(),
            suspicions: Suspicions::new(),
            news: News::default(),
            probe: None,
            next_gossip: Instant::END,
            incarnation,
            pending: None,
            probes: 0,
            me,
            health: Health::default(),
            exile: Exile::new(incarnation),
            doubt: false,
            presence: if first_life {
                Presence::Present
            } else {
                Presence::Arriving
            },
        }
    }

    /// Holds that a seat of the lattice is vacant, until whoever takes it speaks: a cell may have
    /// more seats than machines, and those nobody sits on must be neither probed nor suspected.
    /// Who is known to be there, and the member itself, are left as they are. Whoever
    /// takes such a seat starts at incarnation 1 or above, for 0 has left.
    ///
    /// All members should begin with the same vacancies but for those since taken; where they differ, the
    /// rosters are repaired as after any other difference.
    //= spec 17
    pub fn vacate(&mut self, peer: Peer) {
        let vacant = Claim::new(State::Left, 0);
        if peer != self.me && self.roster.claim(peer) < vacant {
            self.roster.raise(peer, vacant, &self.config);
        }
    }

    /// What a peer is held to be.
    #[must_use]
    pub fn state(&self, peer: Peer) -> State {
        self.roster.claim(peer).state()
    }

    /// Whether a peer is held to be there. The suspect are not: work and routes
    /// go round them until they have objected.
    //= requirements M2
    #[must_use]
    pub fn is_alive(&self, peer: Peer) -> bool {
        self.state(peer) == State::Alive
    }

    /// Every peer held to be anything but alive at incarnation 0, with its
    /// state and incarnation, in order of their number.
    pub fn exceptions(&self) -> impl Iterator<Item = (Peer, State, u32)> + '_ {
        let claims = self.roster.known(self.config.tiles(), Peer(0));
        claims.map(|(peer, claim)| (peer, claim.state(), claim.incarnation()))
    }

    /// How ill this member believes itself to be, from 0 (well) to 8.
    #[must_use]
    pub const fn local_health(&self) -> u8 {
        self.health.score()
    }

    /// What it agreed on with its cell.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The six around it, whatever their state.
    #[must_use]
    pub fn neighbours(&self) -> [Peer; 6] {
        self.config.neighbours(self.me)
    }

    /// Its own number.
    #[must_use]
    pub const fn me(&self) -> Peer {
        self.me
    }

    /// The incarnation it speaks as.
    #[must_use]
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// Equal for two members that hold the same of everybody.
    #[must_use]
    pub const fn digest(&self) -> u32 {
        self.roster.digest()
    }

    /// Where its lists are in memory, for a world that would rather have them at hand
    /// before it wakes the member.
    #[must_use]
    pub fn lies_elsewhere(&self) -> [Range<*const u8>; 3] {
        let Self {
            roster,
            suspicions,
            news,
            ..
        } = self;
        [roster.list(), suspicions.list(), news.list()]
    }

    /// Bytes it takes, heap included; the shared [`Config`] is not.
    #[must_use]
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.roster.heap() + self.suspicions.heap() + self.news.heap()
    }
}

impl Machine for Member {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        self.notice_lateness(now);
        match input {
            Input::Received(message) if self.presence == Presence::Present => {
                self.receive(now, &message, out);
            }
            // Deaf before its first word and after its last.
            Input::Received(_) => {}
            Input::Persisted(Persisted { token }) => self.persisted(now, token, out),
            Input::Leave => self.leave(out),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        match self.presence {
            Presence::Arriving => {
                self.presence = Presence::Waiting;
                persist(self.incarnation, out);
            }
            Presence::Waiting | Presence::Gone => {}
            Presence::Present => {
                self.notice_lateness(now);
                self.remove_the_expired(now, out);
                self.pursue_the_probe(now, out);
                if self.probe.is_none() && self.next_turn <= now {
                    self.take_turn(now, out);
                }
                if self.next_gossip <= now {
                    self.gossip(now, out);
                }
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self.presence {
            Presence::Arriving => Some(self.next_turn),
            Presence::Waiting | Presence::Gone => None,
            Presence::Present => {
                let turn = self
                    .probe
                    .as_ref()
                    .map_or(self.next_turn, |probe| probe.due);
                Some(turn.min(self.next_gossip).min(self.suspicions.next()))
            }
        }
    }
}

/// Hearing.
impl Member {
    fn receive(&mut self, now: Instant, message: &Message, out: &mut impl FnMut(Effect)) {
        let from = message.from;
        if let Some(reason) = self.refusal(message) {
            return out(Effect::Rejected { from, reason });
        }
        let mut corrections = Updates::NONE;
        let own_word = Update {
            peer: from,
            accuser: from,
            claim: Claim::new(State::Alive, message.incarnation),
        };
        self.hear(now, own_word, from, &mut corrections, out);
        for &update in message.claims() {
            self.hear(now, update, from, &mut corrections, out);
        }
        let number = message.number;
        let differ = self.differences(message);
        self.doubt = differ != 0;
        match message.kind {
            Kind::Ping => self.send(from, Kind::Ack, number, corrections, differ, out),
            Kind::PingReq { target } => {
                let ping = Kind::RelayPing { origin: from };
                self.send(target, ping, number, Updates::NONE, NOTHING, out);
                let relaying = Kind::Relaying { target };
                self.send(from, relaying, number, corrections, differ, out);
            }
            Kind::RelayPing { origin } => {
                let ack = Kind::RelayAck { origin };
                self.send(from, ack, number, corrections, differ, out);
            }
            Kind::RelayAck { origin } => {
                let ack = Kind::ForwardedAck { target: from };
                self.send(origin, ack, number, Updates::NONE, NOTHING, out);
            }
            Kind::Ack => self.answered(now, from, number),
            Kind::ForwardedAck { target } => self.answered(now, target, number),
            Kind::Relaying { .. } => self.relay_heard(from, number),
            Kind::Gossip if corrections.is_empty() => {}
            Kind::Gossip => self.send(from, Kind::Gossip, 0, corrections, NOTHING, out),
        }
    }

    //= requirements M1
    //= spec 13
    fn refusal(&self, message: &Message) -> Option<Reason> {
        if message.cell != self.config.cell {
            return Some(Reason::WrongCell);
        }
        if message.to != self.me {
            return Some(Reason::NotForMe);
        }
        if self.config.authenticate && !message.is_proven(&self.config.key) {
            return Some(Reason::Forged);
        }
        let tiles = self.config.tiles();
        let concerns_itself = message.from == self.me || message.kind.party() == Some(self.me);
        if concerns_itself || message.named().any(|peer| u32::from(peer.0) >= tiles) {
            return Some(Reason::Nobody);
        }
        let answers = matches!(
            message.kind,
            Kind::Ack | Kind::ForwardedAck { .. } | Kind::Relaying { .. }
        );
        (answers && self.is_stale(message.number)).then_some(Reason::Stale)
    }

    /// In which sections the sender's roster differs from this one, one bit
    /// each; all of them if it did not say.
    fn differences(&self, message: &Message) -> u16 {
        if message.digest == self.roster.digest() {
            return NOTHING;
        }
        let Content::Sections(theirs) = &message.content else {
            return u16::MAX;
        };
        let ours = self.roster.sections(self.config.tiles());
        (0..SECTIONS).fold(NOTHING, |bits, at| {
            bits | u16::from(theirs[at] != ours[at]) << at
        })
    }

    fn is_stale(&self, number: u64) -> bool {
        let age = self.probes.wrapping_sub(number as u32);
        age > LATE_PROBES || (number >> 32) as u32 > self.incarnation
    }

    /// Takes one claim into account. What it contradicts, and loses to, is
    /// noted for whoever still believes it.
    //= spec 1
    //= spec 12
    fn hear(
        &mut self,
        now: Instant,
        heard: Update,
        by: Peer,
        corrections: &mut Updates,
        out: &mut impl FnMut(Effect),
    ) {
        let Update { peer, claim, .. } = heard;
        if peer == self.me {
            if claim.incarnation() < self.incarnation {
                corrections.push(self.update(peer));
            }
            return self.defend(now, claim, out);
        }
        let held = self.roster.claim(peer);
        if claim < held {
            // Whoever suspects what is removed here has a clock of its own for it.
            if held != claim.but(State::Removed) || !claim.is_suspicion() {
                corrections.push(self.update(peer));
            }
            return;
        }
        let Update { accuser, claim, .. } = taken(heard, held);
        if claim > held {
            let why = if by == peer {
                Why::OwnWord
            } else {
                Why::Told { by }
            };
            let update = Update {
                peer,
                accuser,
                claim,
            };
            self.adopt(now, update, why, out);
        } else if claim.is_suspicion() && self.suspicions.confirm(now, peer, accuser, &self.config)
        {
            self.announce(now, peer);
        }
    }

    fn adopt(&mut self, now: Instant, update: Update, why: Why, out: &mut impl FnMut(Effect)) {
        let Update {
            peer,
            accuser,
            claim,
        } = update;
        if self.roster.claim(peer).is_suspicion() {
            self.suspicions.end(peer, &self.config);
        }
        self.roster.raise(peer, claim, &self.config);
        if claim.is_suspicion() {
            let mine_to_check = accuser != self.me && self.neighbours().contains(&peer);
            let manner = Manner {
                settled: !mine_to_check,
                hearsay: accuser == peer,
            };
            self.suspicions
                .start(now, peer, accuser, manner, &self.config);
            if mine_to_check {
                // Out of turn, though not all six at once.
                let soon = now + self.stream.span(self.config.ack_timeout / 2);
                self.next_turn = self.next_turn.min(soon);
            }
        }
        if let Why::Expired { .. } = why {
            // Everybody who heard the suspicion has a clock of its own.
            self.news.drop(peer);
        } else {
            self.announce(now, peer);
        }
        out(Effect::Changed {
            peer,
            state: claim.state(),
            incarnation: claim.incarnation(),
            why,
        });
    }

    /// Answers a claim about itself that cannot stand, by rising above it. The
    /// new incarnation is spoken of only once it is durable; otherwise a crash
    /// could lead to two lives under one number.
    //= spec 3
    //= spec 10
    //= spec 16
    fn defend(&mut self, now: Instant, claim: Claim, out: &mut impl FnMut(Effect)) {
        if claim.state() == State::Removed {
            let longest = self.config.suspicion_max;
            self.exile.note(now, claim.incarnation(), longest);
        }
        let above = (claim.incarnation() + 1).min(INCARNATION_MAX);
        let alive = Claim::new(State::Alive, self.incarnation);
        if claim <= alive || above <= self.pending.unwrap_or(self.incarnation) {
            return;
        }
        if !self.exile.is_over(now, self.config.suspicion_max) {
            return;
        }
        self.health.worsen(1);
        self.pending = Some(above);
        persist(above, out);
    }

    fn persisted(&mut self, now: Instant, token: u64, out: &mut impl FnMut(Effect)) {
        let durable = |incarnation: u32| u64::from(incarnation) <= token;
        match (self.presence, self.pending) {
            (Presence::Waiting, _) if durable(self.incarnation) => {
                self.presence = Presence::Present;
                self.next_turn = schedule::turn_after(&self.config, self.me, now);
            }
            (Presence::Present, Some(pending)) if durable(pending) => {
                self.pending = None;
                self.incarnation = pending;
            }
            _ => return,
        }
        let claim = Claim::new(State::Alive, self.incarnation);
        self.roster.raise(self.me, claim, &self.config);
        self.announce(now, self.me);
        self.next_gossip = now;
        out(Effect::Changed {
            peer: self.me,
            state: State::Alive,
            incarnation: self.incarnation,
            why: Why::OwnWord,
        });
    }

    fn answered(&mut self, now: Instant, target: Peer, number: u64) {
        if self
            .probe
            .take_if(|probe| probe.number == number && probe.target == target)
            .is_some()
        {
            self.health.improve();
            // A turn that came while it waited is not one it slept through.
            self.next_turn = self.next_turn.max(now);
        }
    }

    fn relay_heard(&mut self, relay: Peer, number: u64) {
        if let Some(probe) = self.probe.as_mut().filter(|probe| probe.number == number) {
            let asked = &probe.relays[..usize::from(probe.asked)];
            if let Some(at) = asked.iter().position(|&peer| peer == relay) {
                probe.heard |= 1 << at;
            }
        }
    }
}

/// Acting.
impl Member {
    /// Whoever slept through its own deadline has not seen what the others
    /// answered meanwhile: it accuses nobody and grants every suspect the time
    /// it was away.
    //= spec 8
    fn notice_lateness(&mut self, now: Instant) {
        if self.presence != Presence::Present {
            return;
        }
        let due = self.deadline().expect("a present member has a next turn");
        let late = now.since(due);
        if late <= self.config.ack_timeout {
            return;
        }
        self.health.worsen(1);
        self.suspicions.postpone(late);
        self.probe = None;
        self.next_turn = schedule::turn_after(&self.config, self.me, now);
        if !self.news.is_empty() {
            self.next_gossip = now;
        }
    }

    //= spec 9
    fn remove_the_expired(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if self.news.fresh() > self.config.crowd()
            && self.suspicions.expired(now, &self.config).is_some()
        {
            self.suspicions.be_patient();
        }
        while let Some((peer, confirmations)) = self.suspicions.expired(now, &self.config) {
            let removal = Update {
                peer,
                accuser: self.me,
                claim: self.roster.claim(peer).but(State::Removed),
            };
            self.adopt(now, removal, Why::Expired { confirmations }, out);
        }
    }

    //= spec 5
    fn take_turn(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.next_turn = schedule::turn_after(&self.config, self.me, now);
        let scheduled = schedule::target(&self.config, self.me, now);
        let target = match self.suspicions.unsettled() {
            Some(neighbour) => Some(neighbour),
            None if self.state(scheduled).is_present() => Some(scheduled),
            None => self.somebody(&[]),
        };
        //= spec 14
        let removed = match self.state(scheduled) {
            State::Removed => Some(scheduled),
            // Where most seats are vacant, a removed peer's own turn comes once in a minute.
            State::Left => self.somebody_removed(),
            State::Alive | State::Suspect => None,
        };
        if let Some(removed) = removed {
            let often = target.is_none();
            if often || self.stream.below(self.config.knock_one_in.into()) == 0 {
                let number = self.next_number();
                self.send(removed, Kind::Ping, number, Updates::NONE, NOTHING, out);
            }
        }
        let Some(target) = target else { return };
        let number = self.next_number();
        self.probe = Some(Probe {
            number,
            due: now + self.config.ack_timeout * self.health.factor(),
            over: now + self.config.window * self.health.factor(),
            incarnation: self.roster.claim(target).incarnation(),
            target,
            relays: [Peer(0); RELAYS_MAX],
            asked: 0,
            heard: 0,
            direct: true,
        });
        self.send(target, Kind::Ping, number, Updates::NONE, NOTHING, out);
    }

    fn next_number(&mut self) -> u64 {
        self.probes = self.probes.wrapping_add(1);
        u64::from(self.incarnation) << 32 | u64::from(self.probes)
    }

    fn pursue_the_probe(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let Some(probe) = self.probe.as_ref().filter(|probe| probe.due <= now) else {
            return;
        };
        if probe.direct && now < probe.over {
            self.ask_relays(out);
        } else {
            self.give_up(now, out);
        }
    }

    //= spec 6
    fn ask_relays(&mut self, out: &mut impl FnMut(Effect)) {
        let Some(mut probe) = self.probe.take() else {
            return;
        };
        let request = Kind::PingReq {
            target: probe.target,
        };
        let mut others = [probe.target; RELAYS_MAX + 1];
        for _ in 0..self.config.relays {
            let asked = usize::from(probe.asked);
            let Some(relay) = self.somebody(&others[..=asked]) else {
                break;
            };
            self.send(relay, request, probe.number, Updates::NONE, NOTHING, out);
            others[asked + 1] = relay;
            probe.relays[asked] = relay;
            probe.asked += 1;
        }
        if probe.asked == 0 {
            // The two are alone: a second try must do for the relays.
            self.send(
                probe.target,
                Kind::Ping,
                probe.number,
                Updates::NONE,
                NOTHING,
                out,
            );
        }
        probe.direct = false;
        probe.due = probe.over;
        self.probe = Some(probe);
    }

    /// The target answered by no way. Whether it is the target's fault, the
    /// relays tell: a member none of them heard is itself cut off.
    //= spec 7
    //= spec 8
    fn give_up(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let Some(probe) = self.probe.take() else {
            return;
        };
        let heard = probe.heard.count_ones() as u8;
        self.health.worsen(probe.asked - heard);
        let cut_off = heard == 0 && probe.asked > 0;
        let held = self.roster.claim(probe.target);
        if cut_off || held.incarnation() != probe.incarnation {
            return;
        }
        match held.state() {
            State::Alive => self.accuse(now, probe.target, held, out),
            State::Suspect => {
                let (suspect, me) = (probe.target, self.me);
                if self.suspicions.confirm(now, suspect, me, &self.config) {
                    self.announce(now, suspect);
                }
            }
            State::Removed | State::Left => {}
        }
    }

    /// Raises a suspicion, and tells at once those whom it concerns: the
    /// suspect, so that it can object, and those around it, so that they look.
    //= spec 7
    fn accuse(&mut self, now: Instant, target: Peer, held: Claim, out: &mut impl FnMut(Effect)) {
        let suspicion = Update {
            peer: target,
            accuser: self.me,
            claim: held.but(State::Suspect),
        };
        self.adopt(now, suspicion, Why::Unanswered, out);
        let around = self.config.neighbours(target);
        for peer in core::iter::once(target).chain(around) {
            if peer != self.me && self.state(peer).is_present() {
                let mut about = Updates::NONE;
                about.push(suspicion);
                self.send(peer, Kind::Gossip, 0, about, NOTHING, out);
            }
        }
        // What was told to these seven does not count as spread.
        self.announce(now, target);
    }

    fn announce(&mut self, now: Instant, peer: Peer) {
        let refutes = peer == self.me || self.roster.claim(peer).state() == State::Alive;
        self.news.add(peer, refutes, &self.config);
        if self.next_gossip == Instant::END {
            // Soon, but not in step with everybody who heard it with us.
            self.next_gossip = now + self.stream.span(self.config.gossip_interval / 2);
        }
    }

    //= spec 11
    fn gossip(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let crowded = self.news.len() > SEATS;
        let fanout = u16::from(self.config.gossip_fanout) * (1 + u16::from(crowded));
        for _ in 0..fanout {
            if self.news.is_empty() {
                break;
            }
            let Some(peer) = self.somebody(&[]) else {
                break;
            };
            self.send(peer, Kind::Gossip, 0, Updates::NONE, NOTHING, out);
        }
        if self.news.is_empty() {
            self.next_gossip = Instant::END;
            self.roster.release(&self.config);
        } else {
            self.next_gossip = now + self.config.gossip_interval;
        }
    }

    /// Tells the six around and as many at random, so that the word is out
    /// unless all twelve are lost.
    //= spec 15
    fn leave(&mut self, out: &mut impl FnMut(Effect)) {
        if self.presence == Presence::Present {
            let mut farewell = Updates::NONE;
            farewell.push(Update {
                peer: self.me,
                accuser: self.me,
                claim: Claim::new(State::Left, self.incarnation),
            });
            let around = self.neighbours();
            for peer in around {
                self.send(peer, Kind::Gossip, 0, farewell.clone(), NOTHING, out);
            }
            for _ in around {
                if let Some(peer) = self.somebody(&around) {
                    self.send(peer, Kind::Gossip, 0, farewell.clone(), NOTHING, out);
                }
            }
        }
        self.presence = Presence::Gone;
    }

    /// Somebody present, at random, but for these.
    fn somebody(&mut self, but: &[Peer]) -> Option<Peer> {
        let tiles = self.config.tiles();
        let will_do = |peer: Peer, roster: &Roster| {
            peer != self.me && !but.contains(&peer) && roster.claim(peer).state().is_present()
        };
        // In all but a ruined cell one of a few draws will do.
        for _ in 0..8 {
            let peer = Peer(self.stream.below(tiles.into()) as u16);
            if will_do(peer, &self.roster) {
                return Some(peer);
            }
        }
        let start = self.stream.below(tiles.into()) as u32;
        let round = (start..tiles).chain(0..start).map(|tile| Peer(tile as u16));
        round.into_iter().find(|&peer| will_do(peer, &self.roster))
    }

    /// A removed peer at random, if there is one.
    fn somebody_removed(&mut self) -> Option<Peer> {
        let tiles = self.config.tiles();
        let is_removed = |(_, claim): &(Peer, Claim)| claim.state() == State::Removed;
        // Chance is drawn only where there is something to choose.
        self.roster.known(tiles, Peer(0)).find(is_removed)?;
        let from = Peer(self.stream.below(tiles.into()) as u16);
        let removed = self.roster.known(tiles, from).find(is_removed);
        removed.map(|(peer, _)| peer)
    }

    /// What this member would tell of a peer.
    fn update(&self, peer: Peer) -> Update {
        self.telling(peer, 0)
    }

    /// The same for the so manieth time: each telling names another accuser, so that all
    /// become known.
    fn telling(&self, peer: Peer, told: u8) -> Update {
        if peer == self.me {
            let claim = Claim::new(State::Alive, self.incarnation);
            let accuser = Peer(0);
            return Update {
                peer,
                accuser,
                claim,
            };
        }
        let claim = self.roster.claim(peer);
        let accuser = if claim.is_suspicion() {
            self.suspicions.accuser(peer, told)
        } else {
            Peer(0)
        };
        Update {
            peer,
            accuser,
            claim,
        }
    }

    /// Sends a message and fills its seats: corrections first, then what is held
    /// of the recipient if it should object, then news, then suspicions, whose
    /// refutation this member may have missed, and of the sections in which the
    /// rosters differ as much as there is room for. A ping that would go empty
    /// from a member in doubt carries the digests of its sections instead.
    //= spec 12
    fn send(
        &mut self,
        to: Peer,
        kind: Kind,
        number: u64,
        corrections: Updates,
        differ: u16,
        out: &mut impl FnMut(Effect),
    ) {
        let parties = (self.me, to);
        let view = (self.incarnation, self.roster.digest());
        let mut message = Message::unsealed(self.config.cell, parties, kind, number, view);
        let mut seats = corrections;
        if !self.roster.is_blank() {
            self.fill(&mut seats, to, kind, differ);
        }
        let in_doubt = kind == Kind::Ping && self.doubt && seats.is_empty();
        message.content = if in_doubt {
            Content::Sections(Box::new(self.roster.sections(self.config.tiles())))
        } else {
            Content::Claims(seats)
        };
        if self.config.authenticate {
            message = message.sealed(&self.config.key);
        }
        out(Effect::Send { to, message });
    }

    fn fill(&mut self, seats: &mut Updates, to: Peer, kind: Kind, differ: u16) {
        if self.state(to) != State::Alive {
            seats.push(self.update(to));
        }
        // Whoever knows of a refutation, say so before these expire.
        let patient = self.suspicions.patient::<SEATS_FOR_THE_PATIENT>(self.me);
        for suspect in patient {
            seats.push(self.update(suspect));
        }
        if !self.news.is_empty() {
            self.tell_the_news(seats);
        }
        // Rumours of their own carry news; a few suspicions ride on what goes anyway.
        if kind == Kind::Gossip {
            return;
        }
        let some = self
            .suspicions
            .some::<SEATS_FOR_THE_PATIENT>(&mut self.stream);
        for suspect in some {
            seats.push(self.update(suspect));
        }
        if differ != NOTHING {
            let tiles = self.config.tiles();
            let start = Peer(self.stream.below(tiles.into()) as u16);
            for (peer, _) in self.roster.known(tiles, start) {
                if seats.is_full() {
                    break;
                }
                if differ >> roster::section(peer) & 1 == 1 {
                    seats.push(self.update(peer));
                }
            }
        }
    }
}

impl Member {
    fn tell_the_news(&mut self, seats: &mut Updates) {
        let seated = seats.as_slice().len();
        let mut news = core::mem::take(&mut self.news);
        let mut stream = self.stream.clone();
        news.tell(&self.config, &mut stream, |peer, told| {
            if seats.is_full() {
                return false;
            }
            // The news is of each peer once.
            if !seats.mentions_within(seated, peer) {
                seats.push_new(self.telling(peer, told));
            }
            true
        });
        (self.news, self.stream) = (news, stream);
    }
}

/// As what a claim heard is taken: a removal by somebody else's clock is an accusation, for
/// after a partition the other side has removed everybody on this one, who shall object
/// before they are removed here too. Its accuser is the suspect itself, which stands for
/// hearsay: however many repeat it, it is one piece of evidence.
//= spec 9
fn taken(heard: Update, held: Claim) -> Update {
    if heard.claim.state() != State::Removed || heard.claim <= held {
        return heard;
    }
    Update {
        peer: heard.peer,
        accuser: heard.peer,
        claim: heard.claim.but(State::Suspect),
    }
}

fn persist(incarnation: u32, out: &mut impl FnMut(Effect)) {
    out(Effect::Persist(Persist {
        token: incarnation.into(),
        bytes: record(incarnation),
    }));
}

/// Two members with equal hashes go on alike, given the same configuration.
impl Hash for Member {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.stream.clone().next_u64().hash(state);
        self.roster.hash(state);
        self.suspicions.hash(state);
        self.news.hash(state);
        self.probe.hash(state);
        (self.next_turn, self.next_gossip).hash(state);
        (self.incarnation, self.pending, self.probes).hash(state);
        (self.me, self.health, self.presence).hash(state);
        (self.exile, self.doubt).hash(state);
    }
}

const _: () = assert!(size_of::<Member>() <= 256);
