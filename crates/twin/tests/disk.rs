//! Members whose power fails in the middle of a write, and start again from what the disk kept.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use machine::{Machine, Purpose, Stream};
use membership::{Config, Effect, Input, Member, Message, Peer, State, incarnation_after, record};
use trust::Key;
use twin::disk::{Disk, Temper};
use wire::{Cell, Hexagons, Instant, Nanos, Tile};

const TILES: u16 = 9;

/// A disk as bad as they come: half of its syncs are lost, and most crashes tear what they meet.
const TEMPER: Temper = Temper {
    latency_min: Nanos::MILLISECOND,
    latency_max: Nanos::from_millis(400),
    lost: 0.5,
    torn: 0.7,
};

enum Event {
    Arrive(Box<Message>),
    Wake(Peer),
    Sync(Peer),
    Crash(Peer),
    Start(Peer),
    /// Nothing it sends or should receive arrives until then.
    Cut(Peer, Instant),
}

/// A cell of members with disks and failures, all out of one seed.
struct World {
    seed: u64,
    now: Instant,
    config: Arc<Config>,
    members: Vec<Option<Member>>,
    disks: Vec<Disk>,
    cut: Vec<Instant>,
    /// How often each has started.
    lives: Vec<u64>,
    /// Per tile, in which life it spoke as an incarnation.
    spoken: Vec<BTreeMap<u32, u64>>,
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    events: BTreeMap<u64, Event>,
    chance: Stream,
    /// Until when power fails.
    peace: Instant,
    crashed: u32,
    crashed_writing: u32,
}

impl World {
    fn new(seed: u64, troubled: Nanos) -> Self {
        let grid = Hexagons::of(TILES.into()).expect("a lattice");
        let mut config = Config::new(Cell(3), grid, &Key::new([7; 32]));
        config.authenticate = false;
        let disk = |tile: u16| {
            let chance = Stream::new(seed, Tile(tile.into()), Purpose::Faults);
            Disk::new(TEMPER, chance, &record(0))
        };
        let mut world = Self {
            seed,
            now: Instant::EPOCH,
            config: Arc::new(config),
            members: (0..TILES).map(|_| None).collect(),
            disks: (0..TILES).map(disk).collect(),
            cut: vec![Instant::EPOCH; TILES.into()],
            lives: vec![0; TILES.into()],
            spoken: vec![BTreeMap::new(); TILES.into()],
            agenda: BinaryHeap::new(),
            events: BTreeMap::new(),
            chance: Stream::new(seed, Tile(99), Purpose::Faults),
            peace: Instant::EPOCH + troubled,
            crashed: 0,
            crashed_writing: 0,
        };
        for peer in (0..TILES).map(Peer) {
            world.members[usize::from(peer.0)] = Some(world.member(peer, 0));
            world.arm(peer);
            // Each is cut off once or twice, for long enough to be removed: it will rise.
            for _ in 0..2 {
                let at = Instant::EPOCH + world.chance.span(troubled);
                let span = Nanos::from_secs(6) + world.chance.span(Nanos::from_secs(6));
                world.add(at, Event::Cut(peer, at + span));
            }
        }
        world
    }

    fn member(&self, peer: Peer, incarnation: u32) -> Member {
        let owner = Tile(u64::from(peer.0) << 16 | self.lives[usize::from(peer.0)]);
        let stream = Stream::new(self.seed, owner, Purpose::Membership);
        Member::new(self.config.clone(), peer, incarnation, stream, self.now)
    }

    fn add(&mut self, at: Instant, event: Event) {
        let number = self.events.last_key_value().map_or(0, |(last, _)| last + 1);
        self.events.insert(number, event);
        self.agenda.push(Reverse((at, number)));
    }

    fn arm(&mut self, peer: Peer) {
        let member = self.members[usize::from(peer.0)].as_ref();
        if let Some(due) = member.and_then(Machine::deadline) {
            self.add(due.max(self.now), Event::Wake(peer));
        }
    }

    fn arm_disk(&mut self, peer: Peer) {
        if let Some(due) = self.disks[usize::from(peer.0)].deadline() {
            self.add(due, Event::Sync(peer));
        }
    }

    fn run(&mut self, until: Instant) {
        while let Some(&Reverse((at, number))) = self.agenda.peek() {
            if at > until {
                break;
            }
            self.agenda.pop();
            self.now = at;
            match self.events.remove(&number).expect("each is fired once") {
                Event::Arrive(message) => {
                    let [from, to] = [message.from, message.to].map(|p| self.cut[usize::from(p.0)]);
                    if from.max(to) <= at {
                        self.drive(message.to, Some(Input::Received(*message)));
                    }
                }
                Event::Wake(peer) => {
                    let member = self.members[usize::from(peer.0)].as_ref();
                    // Deadlines move; only the one that is due is worth a wake.
                    if member
                        .and_then(Machine::deadline)
                        .is_some_and(|due| due <= at)
                    {
                        self.drive(peer, None);
                    }
                }
                Event::Sync(peer) => {
                    let answer = self.disks[usize::from(peer.0)].wake(at);
                    self.arm_disk(peer);
                    if let Some(done) = answer {
                        self.drive(peer, Some(Input::Persisted(done)));
                    }
                }
                Event::Crash(peer) => self.crash(peer),
                Event::Start(peer) => self.start(peer),
                Event::Cut(peer, until) => self.cut[usize::from(peer.0)] = until,
            }
        }
        self.now = until;
    }

    fn crash(&mut self, peer: Peer) {
        let at = usize::from(peer.0);
        if self.members[at].take().is_some() {
            self.crashed += 1;
            self.crashed_writing += u32::from(self.disks[at].is_writing());
            self.disks[at].crash();
            let off = self.chance.span(Nanos::from_secs(5));
            self.add(self.now + off, Event::Start(peer));
        }
    }

    fn start(&mut self, peer: Peer) {
        let at = usize::from(peer.0);
        self.lives[at] += 1;
        let kept = self.disks[at].kept().unwrap_or_else(|e| panic!("{e}"));
        let incarnation = incarnation_after(&kept).unwrap_or_else(|e| panic!("{e}"));
        self.members[at] = Some(self.member(peer, incarnation));
        self.arm(peer);
    }

    fn drive(&mut self, peer: Peer, input: Option<Input>) {
        let at = usize::from(peer.0);
        let Some(member) = self.members[at].as_mut() else {
            return;
        };
        let mut effects = Vec::new();
        match input {
            Some(input) => member.handle(self.now, input, &mut |e| effects.push(e)),
            None => member.wake(self.now, &mut |e| effects.push(e)),
        }
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => {
                    let life = self.lives[at];
                    let first = *self.spoken[at].entry(message.incarnation).or_insert(life);
                    assert_eq!(
                        first, life,
                        "seed {}: {peer:?} speaks as {} in two lives",
                        self.seed, message.incarnation
                    );
                    let delay = Nanos::MILLISECOND + self.chance.span(Nanos::from_millis(20));
                    if !self.chance.chance(0.01) {
                        self.add(self.now + delay, Event::Arrive(Box::new(message)));
                    }
                }
                Effect::Persist(write) => {
                    self.disks[at].write(self.now, write);
                    self.arm_disk(peer);
                    // Half the writes meet a power cut, at any moment up to when most are done.
                    if self.now < self.peace && self.chance.chance(0.5) {
                        let soon = self.chance.span(TEMPER.latency_max * 2);
                        self.add(self.now + soon, Event::Crash(peer));
                    }
                }
                Effect::Changed { .. } | Effect::Rejected { .. } => {}
            }
        }
        self.arm(peer);
    }

    fn living(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }
}

//= requirements M1
//= requirements M4
#[test]
fn no_incarnation_is_spoken_in_two_lives_whenever_the_power_fails() {
    let (mut crashed, mut crashed_writing, mut lives) = (0, 0, 0);
    for seed in 0..200 {
        let mut world = World::new(seed, Nanos::from_secs(40));
        world.run(Instant::EPOCH + Nanos::from_secs(40));
        // Then peace: all come to hold all alive again.
        world.run(Instant::EPOCH + Nanos::from_secs(160));
        assert_eq!(world.living().count(), usize::from(TILES), "seed {seed}");
        for member in world.living() {
            for peer in (0..TILES).map(Peer) {
                let (me, state) = (member.me(), member.state(peer));
                assert_eq!(state, State::Alive, "seed {seed}: {me:?} of {peer:?}");
            }
        }
        crashed += world.crashed;
        crashed_writing += world.crashed_writing;
        lives = lives.max(world.lives.iter().copied().max().unwrap_or(0));
    }
    assert!(
        crashed > 1_000 && crashed_writing > 500,
        "{crashed}, {crashed_writing}"
    );
    assert!(lives > 5, "{lives}");
}
