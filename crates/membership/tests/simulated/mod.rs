//! A small world for one cell: one virtual time, links that delay and lose, tiles that die,
//! start again, oversleep or lag, and a partition that can be drawn anywhere.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary compiles this module and uses its own part of it"
)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use machine::{Machine, Persisted, Purpose, Stream};
use membership::{
    Config, Effect, Input, Member, Message, Peer, Reason, State, Why, incarnation_after, record,
};
use trust::Key;
use wire::{Cell, Hexagons, Instant, Nanos, Tile};

pub fn at_ms(ms: u64) -> Instant {
    Instant::EPOCH + Nanos::from_millis(ms)
}

/// The configuration of a cell of so many tiles. Unauthenticated: a simulated link cannot
/// lie, and tags would take nine tenths of the time. What tags are for is `hostile.rs`.
pub fn config(tiles: u32) -> Config {
    let grid = Hexagons::of(tiles).expect("a lattice");
    let mut config = Config::new(Cell(3), grid, &Key::new([7; 32]));
    config.authenticate = false;
    config
}

/// So many different peers of a cell, by a stream of its own.
pub fn some(tiles: u32, count: usize, seed: u64) -> Vec<Peer> {
    let mut chance = Stream::new(seed, Tile(0), Purpose::Faults);
    let mut chosen: Vec<Peer> = Vec::new();
    while chosen.len() < count {
        let peer = Peer(chance.below(tiles.into()) as u16);
        if !chosen.contains(&peer) {
            chosen.push(peer);
        }
    }
    chosen
}

/// Things due at instants, in order of time, then of coming.
pub struct Agenda<T> {
    heap: BinaryHeap<Reverse<(Instant, u64, u32)>>,
    slots: Vec<Option<T>>,
    free: Vec<u32>,
    sequence: u64,
}

impl<T> Agenda<T> {
    pub fn new() -> Self {
        Self {
            heap: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            sequence: 0,
        }
    }

    pub fn add(&mut self, at: Instant, what: T) {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() as u32 - 1
        });
        self.slots[slot as usize] = Some(what);
        self.heap.push(Reverse((at, self.sequence, slot)));
        self.sequence += 1;
    }

    pub fn next_until(&mut self, until: Instant) -> Option<(Instant, T)> {
        let Reverse((at, ..)) = self.heap.peek()?;
        if *at > until {
            return None;
        }
        let Reverse((at, _, slot)) = self.heap.pop()?;
        self.free.push(slot);
        let what = self.slots[slot as usize].take().expect("filled when added");
        Some((at, what))
    }
}

/// What links do to messages.
pub struct Links {
    pub chance: Stream,
    pub loss: f64,
    pub delay_min: Nanos,
    pub delay_max: Nanos,
    /// Which side of the partition each tile is on.
    pub side: Vec<u8>,
    /// Added to everything a tile sends and receives.
    pub lag: Vec<Nanos>,
}

impl Links {
    pub fn new(tiles: u32, seed: u64) -> Self {
        Self {
            chance: Stream::new(seed, Tile(0), Purpose::Links),
            loss: 0.0,
            delay_min: Nanos::from_millis(1),
            delay_max: Nanos::from_millis(25),
            side: vec![0; tiles as usize],
            lag: vec![Nanos::ZERO; tiles as usize],
        }
    }

    /// How long a message takes; `None` if it is lost.
    pub fn carry(&mut self, from: usize, to: usize) -> Option<Nanos> {
        if self.chance.chance(self.loss) || self.side[from] != self.side[to] {
            return None;
        }
        let jitter = self
            .chance
            .span(self.delay_max.saturating_sub(self.delay_min) + Nanos(1));
        Some(self.delay_min + jitter + self.lag[from] + self.lag[to])
    }
}

enum Event {
    Arrive(Message),
    Wake(Peer),
    Durable(Peer, u64),
}

impl Event {
    const fn of(&self) -> Peer {
        match self {
            Self::Arrive(message) => message.to,
            Self::Wake(peer) | Self::Durable(peer, _) => *peer,
        }
    }
}

/// A belief that changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Change {
    pub at: Instant,
    pub observer: Peer,
    pub peer: Peer,
    pub state: State,
    pub incarnation: u32,
    pub why: Why,
}

pub struct World {
    pub config: Arc<Config>,
    pub now: Instant,
    /// `None` is a dead tile.
    pub members: Vec<Option<Member>>,
    pub links: Links,
    pub changes: Vec<Change>,
    pub rejected: BTreeMap<Reason, u64>,
    pub sent: u64,
    pub bytes: u64,
    /// Each member's clock runs ahead of the world's by this much.
    pub skew: Vec<Nanos>,
    /// Until when each member is not scheduled: its messages and wakes wait.
    pub asleep: Vec<Instant>,
    disk_delay: Nanos,
    /// What each disk holds.
    disk: Vec<Vec<u8>>,
    /// What is being written to it.
    writing: Vec<Vec<(u64, Vec<u8>)>>,
    agenda: Agenda<Event>,
    armed: Vec<Instant>,
    lives: Vec<u64>,
    seed: u64,
}

impl World {
    pub fn new(config: Config, seed: u64) -> Self {
        Self::skewed(config, seed, |_| Nanos::ZERO)
    }

    pub fn skewed(config: Config, seed: u64, skew: impl FnMut(u64) -> Nanos) -> Self {
        let tiles = config.tiles();
        let mut world = Self {
            config: Arc::new(config),
            now: Instant::EPOCH,
            members: (0..tiles).map(|_| None).collect(),
            links: Links::new(tiles, seed),
            changes: Vec::new(),
            rejected: BTreeMap::new(),
            sent: 0,
            bytes: 0,
            skew: (0..u64::from(tiles)).map(skew).collect(),
            asleep: vec![Instant::EPOCH; tiles as usize],
            disk_delay: Nanos::from_millis(5),
            disk: vec![record(0); tiles as usize],
            writing: vec![Vec::new(); tiles as usize],
            agenda: Agenda::new(),
            armed: vec![Instant::END; tiles as usize],
            lives: vec![0; tiles as usize],
            seed,
        };
        for peer in world.peers() {
            world.start(peer);
        }
        world
    }

    pub fn peers(&self) -> impl Iterator<Item = Peer> + use<> {
        (0..self.config.tiles() as u16).map(Peer)
    }

    pub fn living(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }

    /// Puts a tile into service, out of what its disk holds.
    pub fn start(&mut self, peer: Peer) {
        let at = usize::from(peer.0);
        let first = self.lives[at] == 0;
        let incarnation = if first {
            0
        } else {
            incarnation_after(&self.disk[at]).expect("its own bytes")
        };
        self.lives[at] += 1;
        let owner = Tile(u64::from(peer.0) << 16 | self.lives[at]);
        let stream = Stream::new(self.seed, owner, Purpose::Membership);
        let now = self.local(peer);
        self.members[at] = Some(Member::new(
            self.config.clone(),
            peer,
            incarnation,
            stream,
            now,
        ));
        self.arm(peer);
    }

    /// A hard failure: what was not on the disk is lost.
    pub fn kill(&mut self, peer: Peer) {
        let at = usize::from(peer.0);
        self.members[at] = None;
        self.writing[at].clear();
        self.armed[at] = Instant::END;
    }

    pub fn give(&mut self, peer: Peer, input: Input) {
        self.drive(peer, Some(input));
    }

    pub fn run_until(&mut self, until: Instant) {
        while let Some((at, event)) = self.agenda.next_until(until) {
            assert!(at >= self.now);
            self.now = at;
            let asleep = self.asleep[usize::from(event.of().0)];
            if asleep > at {
                if matches!(event, Event::Wake(_)) {
                    let armed = &mut self.armed[usize::from(event.of().0)];
                    *armed = if *armed == at { asleep } else { *armed };
                }
                self.agenda.add(asleep, event);
                continue;
            }
            match event {
                Event::Arrive(message) => self.give(message.to, Input::Received(message)),
                Event::Wake(peer) => {
                    let index = usize::from(peer.0);
                    // A wake is worth keeping only if it is the one last armed.
                    if self.armed[index] == at {
                        self.armed[index] = Instant::END;
                        self.drive(peer, None);
                    }
                }
                Event::Durable(peer, token) => {
                    let index = usize::from(peer.0);
                    let writing = &mut self.writing[index];
                    if let Some(found) = writing.iter().position(|(t, _)| *t == token) {
                        self.disk[index] = writing.remove(found).1;
                        self.give(peer, Input::Persisted(Persisted { token }));
                    }
                }
            }
        }
        self.now = until;
    }

    pub fn run(&mut self, span: Nanos) {
        self.run_until(self.now + span);
    }

    /// Everything a history is, in one number.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.members.hash(&mut hasher);
        self.changes.hash(&mut hasher);
        (self.sent, self.bytes).hash(&mut hasher);
        hasher.finish()
    }

    /// From a death to its victims' first removal by each survivor.
    pub fn removal_delays(&self, victims: &[Peer], since: Instant) -> Delays {
        let mut removed = BTreeMap::new();
        for change in &self.changes {
            if change.state == State::Removed
                && change.at >= since
                && victims.contains(&change.peer)
            {
                removed
                    .entry((change.peer, change.observer))
                    .or_insert(change.at.since(since));
            }
        }
        let observers = self.living().count() * victims.len();
        let mut delays: Vec<Nanos> = removed
            .into_iter()
            .filter(|((_, observer), _)| self.members[usize::from(observer.0)].is_some())
            .map(|(_, delay)| delay)
            .collect();
        delays.sort();
        Delays { delays, observers }
    }

    /// Removals of tiles that were alive when they were removed.
    pub fn removals_but(&self, victims: &[Peer]) -> Vec<Change> {
        let removals = self.changes.iter().filter(|c| c.state == State::Removed);
        removals
            .filter(|c| !victims.contains(&c.peer))
            .copied()
            .collect()
    }

    pub fn suspicions_but(&self, victims: &[Peer]) -> Vec<Change> {
        let raised = self.changes.iter().filter(|c| c.why == Why::Unanswered);
        raised
            .filter(|c| !victims.contains(&c.peer))
            .copied()
            .collect()
    }

    /// Whether all living members hold the same of everybody, the living alive and
    /// the dead removed.
    pub fn agrees_with_the_truth(&self) -> Result<(), String> {
        let digest = self.living().next().map(Member::digest);
        for member in self.living() {
            for peer in self.peers() {
                let alive = self.members[usize::from(peer.0)].is_some();
                let state = member.state(peer);
                let agrees = if alive {
                    state == State::Alive
                } else {
                    !state.is_present()
                };
                if !agrees {
                    let me = member.me();
                    return Err(format!(
                        "{me:?} holds {peer:?} {state}, truly alive: {alive}"
                    ));
                }
            }
            if Some(member.digest()) != digest {
                return Err(format!("{:?} differs", member.me()));
            }
        }
        Ok(())
    }

    fn local(&self, peer: Peer) -> Instant {
        self.now + self.skew[usize::from(peer.0)]
    }

    fn arm(&mut self, peer: Peer) {
        let index = usize::from(peer.0);
        let deadline = self.members[index].as_ref().and_then(Machine::deadline);
        let due = deadline.map_or(Instant::END, |at| {
            Instant(at.0.saturating_sub(self.skew[index].0)).max(self.now)
        });
        if due < self.armed[index] {
            self.armed[index] = due;
            self.agenda.add(due, Event::Wake(peer));
        }
    }

    /// Hands over an input, or wakes if there is none.
    fn drive(&mut self, peer: Peer, input: Option<Input>) {
        let index = usize::from(peer.0);
        let local = self.local(peer);
        let Some(mut member) = self.members[index].take() else {
            return;
        };
        let mut effects = Vec::new();
        let mut out = |effect| effects.push(effect);
        match input {
            Some(input) => member.handle(local, input, &mut out),
            None => member.wake(local, &mut out),
        }
        self.members[index] = Some(member);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.sent += 1;
                    if let Some(delay) = self.links.carry(index, usize::from(to.0)) {
                        self.agenda.add(self.now + delay, Event::Arrive(message));
                    }
                }
                Effect::Persist(write) => {
                    let due = self.now + self.disk_delay;
                    self.agenda.add(due, Event::Durable(peer, write.token));
                    self.writing[index].push((write.token, write.bytes));
                }
                Effect::Changed {
                    peer: of,
                    state,
                    incarnation,
                    why,
                } => self.changes.push(Change {
                    at: self.now,
                    observer: peer,
                    peer: of,
                    state,
                    incarnation,
                    why,
                }),
                Effect::Rejected { reason, .. } => *self.rejected.entry(reason).or_default() += 1,
            }
        }
        self.arm(peer);
    }
}

/// How long each pair of a victim and a survivor took, and how many pairs there are.
#[derive(Default)]
pub struct Delays {
    delays: Vec<Nanos>,
    observers: usize,
}

impl Delays {
    pub fn add(&mut self, more: Self) {
        self.delays.extend(more.delays);
        self.delays.sort();
        self.observers += more.observers;
    }

    pub fn missing(&self) -> usize {
        self.observers - self.delays.len()
    }

    pub fn sorted(&self) -> &[Nanos] {
        &self.delays
    }

    pub fn quantile(&self, q: f64) -> Nanos {
        let at = (q * self.delays.len() as f64).ceil() as usize;
        self.delays[at.clamp(1, self.delays.len()) - 1]
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.delays.len();
        write!(
            f,
            "{pairs} pairs: p50 {:.2} s, p99 {:.2} s, max {:.2} s, missing {}",
            self.quantile(0.5).as_secs_f64(),
            self.quantile(0.99).as_secs_f64(),
            self.quantile(1.0).as_secs_f64(),
            self.missing()
        )
    }
}
