//! One rehearsal: virtual time, simulated links, the members of a daemon's cell.

mod seat;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use consensus::lease::Duty;
use machine::{Machine, Persisted, Purpose, Stream};
use membership::{Member, Message, Peer, State, config::SEATS_SPARSE, incarnation_after, record};
use node::{Effect, Input, Node};
use scheduler::Guard;
use scheduler::guard::Limits;
use trust::Key;
use wire::{Cell, Encode as _, Hexagons, Instant, Nanos, Tile};

use super::config::{Blow, Config, What};
use super::history::{Change, History, Struck};
use crate::engine::history;
use seat::{Happening, Seat};

/// What the fleet lives through before its time begins to count, so that it has settled.
const SETTLING: Nanos = Nanos::from_secs(40);

/// One way over a bridge of the kernel and two stacks: half of what `ping` takes between two network namespaces here,
/// rounded up.
const SWITCH: Nanos = Nanos(50_000);

/// What a message is longer by on the wire: the frame and its envelope (wire::frame, trust::envelope), QUIC's short header and
/// tag (RFC 9000), UDP, IPv4 and Ethernet.
const HEADERS_BYTES: usize = 45 + 35 + 28 + 14;

/// Where the phase of turns is drawn from: they depend on the time of day.
const DAY: u64 = Nanos::DAY.0;

/// What is the same for all rehearsals.
pub(super) struct Scene<'a> {
    pub(super) config: &'a Config,
    protocol: Arc<membership::Config>,
    limits: Arc<Limits>,
}

/// What one rehearsal leaves.
pub(super) struct Rehearsed {
    pub(super) history: History,
    pub(super) events: u64,
    pub(super) messages: u64,
    pub(super) false_suspicions: u64,
    pub(super) footprint: usize,
    /// Of each host's history.
    pub(super) hashes: Vec<u64>,
}

impl<'a> Scene<'a> {
    pub(super) fn new(config: &'a Config) -> Self {
        let grid = Hexagons::of(SEATS_SPARSE).expect("a lattice");
        // A simulated link cannot lie, and the key decides nothing else than who probes whom first.
        let mut protocol =
            membership::Config::new(Cell(0), grid, &Key::new([7; 32])).timed(config.timings);
        protocol.authenticate = false;
        Self {
            config,
            protocol: Arc::new(protocol),
            limits: Arc::new(Limits {
                throttle_kelvin: config.device.throttle.0,
                limit_kelvin: config.device.shutdown.0,
                clock_min: 0.05,
                clock_exponent: 1.0,
                throttles: true,
            }),
        }
    }

    /// One rehearsal with chance from this seed.
    pub(super) fn rehearse(&self, seed: u64) -> Rehearsed {
        let mut world = World::new(self, seed);
        world.run();
        world.leave()
    }
}

enum Event {
    Arrive {
        from: u32,
        life: u32,
        message: Message,
    },
    Wake,
    Durable {
        life: u32,
        token: u64,
        bytes: Vec<u8>,
    },
    Begin {
        life: u32,
    },
    Seat {
        life: u32,
        what: Happening,
    },
    /// The nth blow falls, or is over.
    Strike(usize),
    Relent(usize),
}

struct Due {
    at: Instant,
    sequence: u64,
    /// Whom it concerns.
    host: u32,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.sequence == other.sequence
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

struct Host {
    /// Absent while it is dead.
    node: Option<Node>,
    /// How often it was started.
    life: u32,
    disk: Vec<u8>,
    full: bool,
    /// Until when it is stopped; what comes meanwhile waits.
    asleep: Instant,
    armed: Instant,
    /// When the last of what it sent has left it.
    busy: Instant,
    seat: Seat,
    hash: u64,
}

struct World<'a> {
    scene: &'a Scene<'a>,
    now: Instant,
    /// What a right clock says at the beginning.
    origin: u64,
    seed: u64,
    chance: Stream,
    hosts: Vec<Host>,
    agenda: BinaryHeap<Reverse<Due>>,
    sequence: u64,
    /// The blows that last.
    lasting: BTreeMap<usize, &'a Blow>,
    struck: Vec<Struck>,
    changes: Vec<Change>,
    /// Of what was asked of the council.
    asked: u64,
    events: u64,
    messages: u64,
    false_suspicions: u64,
}

impl<'a> World<'a> {
    fn new(scene: &'a Scene<'a>, seed: u64) -> Self {
        let mut chance = Stream::new(seed, Tile(0), Purpose::Links);
        // No clock may fall below nought however far behind it is.
        let origin = DAY + chance.below(DAY);
        let hosts = scene.config.hosts;
        let host = |_| Host {
            node: None,
            life: 0,
            disk: Vec::new(),
            full: false,
            asleep: Instant::EPOCH,
            armed: Instant::END,
            busy: Instant::EPOCH,
            seat: Seat::default(),
            hash: 0,
        };
        let mut world = Self {
            scene,
            now: Instant::EPOCH,
            origin,
            seed,
            chance,
            hosts: (0..hosts).map(host).collect(),
            agenda: BinaryHeap::new(),
            sequence: 0,
            lasting: BTreeMap::new(),
            struck: Vec::new(),
            changes: Vec::new(),
            asked: 0,
            events: 0,
            messages: 0,
            false_suspicions: 0,
        };
        for host in 0..hosts {
            let at = Instant::EPOCH + world.chance.span(Nanos::SECOND);
            world.start(host, at);
        }
        if !scene.config.programs.is_empty() {
            let at = Instant::EPOCH + SETTLING / 2;
            world.add_seat(at, 0, Happening::Given);
        }
        for (number, blow) in scene.config.blows.iter().enumerate() {
            let at = Instant::EPOCH + SETTLING;
            world.add(at + blow.at, 0, Event::Strike(number));
            if let Some(until) = blow.until {
                world.add(at + until, 0, Event::Relent(number));
            }
            world.struck.push(Struck {
                at_ns: blow.at.0,
                until_ns: blow.until.map(|until| until.0),
            });
        }
        world
    }

    fn add(&mut self, at: Instant, host: u32, event: Event) {
        let sequence = self.sequence;
        self.sequence += 1;
        self.agenda.push(Reverse(Due {
            at,
            sequence,
            host,
            event,
        }));
    }

    fn run(&mut self) {
        let end = Instant::EPOCH + SETTLING + self.scene.config.end;
        while let Some(Reverse(due)) = self.agenda.pop() {
            if due.at > end {
                break;
            }
            self.now = due.at;
            let (number, asleep) = (due.host as usize, self.hosts[due.host as usize].asleep);
            let is_its_own = match &due.event {
                Event::Strike(_) | Event::Relent(_) => false,
                Event::Seat { what, .. } => !what.needs_no_daemon(),
                _ => true,
            };
            if is_its_own && asleep > due.at {
                if matches!(due.event, Event::Wake) && self.hosts[number].armed == due.at {
                    self.hosts[number].armed = asleep;
                }
                self.agenda.push(Reverse(Due { at: asleep, ..due }));
                continue;
            }
            self.events += 1;
            self.fire(due);
        }
        self.now = end;
    }

    fn fire(&mut self, due: Due) {
        let host = due.host;
        let at = &mut self.hosts[host as usize];
        at.hash = history::fold(at.hash, due.at, due.sequence, u64::from(host));
        match due.event {
            Event::Arrive {
                from,
                life,
                message,
            } => {
                let cut = self.cut(from, host);
                if !cut && life == self.hosts[host as usize].life {
                    self.tell(host, Some(Input::Received(message)));
                }
            }
            Event::Wake => {
                if at.armed == due.at {
                    at.armed = Instant::END;
                    self.tell(host, None);
                }
            }
            Event::Durable { life, token, bytes } => {
                if life == at.life && at.node.is_some() {
                    at.disk = bytes;
                    self.tell(host, Some(Input::Persisted(Persisted { token })));
                }
            }
            Event::Begin { life } => {
                if life == at.life {
                    self.begin(host);
                }
            }
            Event::Seat { life, what } => {
                if life == at.life {
                    self.befalls_seat(host, what);
                }
            }
            Event::Strike(number) => self.strike(number),
            Event::Relent(number) => self.relent(number),
        }
    }

    fn strike(&mut self, number: usize) {
        let blow = &self.scene.config.blows[number];
        self.lasting.insert(number, blow);
        let never = Instant::EPOCH + SETTLING + self.scene.config.end + Nanos::DAY;
        let until = blow
            .until
            .map_or(never, |until| Instant::EPOCH + SETTLING + until);
        for &host in &blow.hosts {
            if blow.what == What::Kill {
                self.unseat(host);
            }
            let at = &mut self.hosts[host as usize];
            match blow.what {
                What::Kill => {
                    at.node = None;
                    at.armed = Instant::END;
                    // What is under way to it is for nobody.
                    at.life += 1;
                }
                What::Pause => at.asleep = until,
                What::FullDisk => at.full = true,
                What::Drain => self.assign(host, Duty::Draining),
                What::Partition | What::Loss { .. } | What::Delay { .. } | What::Rate { .. } => {}
            }
        }
    }

    fn relent(&mut self, number: usize) {
        let Some(blow) = self.lasting.remove(&number) else {
            return;
        };
        for &host in &blow.hosts {
            match blow.what {
                What::Kill => self.start(host, self.now),
                What::FullDisk => self.hosts[host as usize].full = false,
                What::Drain => self.assign(host, Duty::Serving),
                _ => {}
            }
        }
    }

    /// Its process begins at `at`; it speaks a little later.
    fn start(&mut self, host: u32, at: Instant) {
        let began = at + self.scene.config.boot;
        self.hosts[host as usize].life += 1;
        let life = self.hosts[host as usize].life;
        self.add(began, host, Event::Begin { life });
    }

    fn begin(&mut self, host: u32) {
        let now = self.local(host);
        let at = &mut self.hosts[host as usize];
        let incarnation = match at.disk.as_slice() {
            // Nought is what a seat has that was never taken.
            [] => 1,
            bytes => incarnation_after(bytes).expect("its own bytes").max(1),
        };
        if at.disk.is_empty() {
            at.disk = record(0);
        }
        let owner = Tile(u64::from(host) << 32 | u64::from(at.life));
        let stream = Stream::new(self.seed, owner, Purpose::Membership);
        let protocol = Arc::clone(&self.scene.protocol);
        let seats = protocol.tiles();
        let mut member = Member::new(protocol, Peer(host as u16), incarnation, stream, now);
        for seat in self.scene.config.hosts..seats {
            member.vacate(Peer(seat as u16));
        }
        let guard = Guard::new(Arc::clone(&self.scene.limits));
        at.node = Some(Node::new(guard, Some(member)));
        at.armed = Instant::END;
        self.tell(host, None);
        if !self.scene.config.programs.is_empty() {
            self.sit(host);
        }
    }

    /// What a host's clock says.
    fn local(&self, host: u32) -> Instant {
        let ahead = self.scene.config.ahead_ns[host as usize];
        Instant((self.now.0 + self.origin).saturating_add_signed(ahead))
    }

    /// Hands a host an input, or wakes it, and does what it says.
    fn tell(&mut self, host: u32, input: Option<Input>) {
        let now = self.local(host);
        let at = &mut self.hosts[host as usize];
        let Some(node) = &mut at.node else { return };
        let mut effects = Vec::new();
        match input {
            Some(input) => node.handle(now, input, &mut |effect| effects.push(effect)),
            None => node.wake(now, &mut |effect| effects.push(effect)),
        }
        let due = node.deadline().map(|due| self.now + due.since(now));
        if let Some(due) = due
            && due < at.armed
        {
            at.armed = due;
            self.add(due, host, Event::Wake);
        }
        for effect in effects {
            self.obey(host, effect);
        }
    }

    fn obey(&mut self, host: u32, effect: Effect) {
        match effect {
            Effect::Send { to, message, .. } => self.send(host, u32::from(to.0), message),
            Effect::Persist(persist) => {
                let at = &self.hosts[host as usize];
                // Who cannot write hears of nothing written.
                if !at.full {
                    let event = Event::Durable {
                        life: at.life,
                        token: persist.token,
                        bytes: persist.bytes,
                    };
                    self.add(self.now + self.scene.config.links.persist, host, event);
                }
            }
            Effect::Changed { peer, state } => self.changed(host, u32::from(peer.0), state),
            Effect::Rejected(_) | Effect::SetClock(_) | Effect::Panic | Effect::Decided(..) => {}
        }
    }

    fn changed(&mut self, observer: u32, subject: u32, state: State) {
        if subject < self.scene.config.hosts && subject != observer {
            self.believe(observer, subject, state.is_present());
        }
        if state == State::Suspect && subject < self.scene.config.hosts {
            let at = &self.hosts[subject as usize];
            let is_there = at.node.is_some() && at.asleep <= self.now;
            let heard = is_there && !self.cut(observer, subject);
            self.false_suspicions += u64::from(heard);
        }
        let began = Instant::EPOCH + SETTLING;
        if self.now < began || subject >= self.scene.config.hosts || subject == observer {
            return;
        }
        self.changes.push(Change {
            at_ns: self.now.since(began).0,
            observer,
            subject,
            state: state.name().to_owned(),
        });
    }

    fn send(&mut self, from: u32, to: u32, message: Message) {
        self.messages += 1;
        if to >= self.scene.config.hosts {
            return;
        }
        if let Some(at) = self.way(from, to, message.to_bytes().len()) {
            let life = self.hosts[to as usize].life;
            let event = Event::Arrive {
                from,
                life,
                message,
            };
            self.add(at, to, event);
        }
    }

    /// When so many bytes arrive, if they do.
    fn way(&mut self, from: u32, to: u32, bytes: usize) -> Option<Instant> {
        let links = self.scene.config.links;
        let (mut delay, mut rate) = (SWITCH + links.delay, links.rate);
        let mut arrives = !self.chance.chance(links.loss);
        for blow in self.lasting.values() {
            let (sends, hears) = (blow.hosts.contains(&from), blow.hosts.contains(&to));
            for _ in 0..u8::from(sends) + u8::from(hears) {
                match blow.what {
                    What::Loss { share } => arrives &= !self.chance.chance(share),
                    What::Delay { more } => delay += more,
                    _ => {}
                }
            }
            if let (true, What::Rate { bits_per_second }) = (sends, blow.what) {
                rate = Some(bits_per_second);
            }
        }
        let mut leaves = self.now;
        if let Some(rate) = rate {
            let bits = (bytes + HEADERS_BYTES) as u64 * 8;
            let takes = Nanos(bits * 1_000_000_000 / rate.max(1));
            let at = &mut self.hosts[from as usize];
            leaves = leaves.max(at.busy) + takes;
            at.busy = leaves;
        }
        (arrives && !self.cut(from, to)).then_some(leaves + delay)
    }

    fn cut(&self, one: u32, other: u32) -> bool {
        self.lasting.values().any(|blow| {
            blow.what == What::Partition && blow.hosts.contains(&one) != blow.hosts.contains(&other)
        })
    }

    fn leave(self) -> Rehearsed {
        Rehearsed {
            footprint: (self.hosts.iter().filter_map(|host| host.node.as_ref()))
                .map(Node::footprint)
                .sum(),
            history: History {
                struck: self.struck,
                changes: self.changes,
                leases: match self.scene.config.programs.is_empty() {
                    true => Vec::new(),
                    false => self.hosts.iter().map(|host| host.seat.told()).collect(),
                },
                began_boottime_ns: self.origin + SETTLING.0,
                requests: Vec::new(),
            },
            events: self.events,
            messages: self.messages,
            false_suspicions: self.false_suspicions,
            hashes: self.hosts.iter().map(|host| host.hash).collect(),
        }
    }
}
