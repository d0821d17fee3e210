//! A world for one cell's voters: links that lose, double, delay and reorder; disks that are slow and
//! lose what they had not yet written; clocks that are wrong and are set; partitions; crashes; and
//! judges who look at every step.

pub(crate) mod book;
pub(crate) mod clock;
pub(crate) mod linear;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::hash::{DefaultHasher, Hash, Hasher};

use book::{Book, Line};
use clock::Clock;
use consensus::envoy::{Telling, Told};
use consensus::lease::{Command, Duty};
use consensus::tenant::{Event, Order};
use consensus::{
    Ask, Author, Config, Effect, Envoy, Index, Input, Kind, Lease, Message, Outcome, Tenant, Term,
    Terms, Voter,
};
use linear::{Deed, Operation};
use machine::{Machine, Persist, Persisted, Purpose, Stream};
use wire::codec::decode_all;
use wire::{Cell, Encode, Instant, Nanos, Tile};

pub(crate) const CELL: Cell = Cell(3);
pub(crate) const BEGINNING: Instant = Instant(10 * Nanos::SECOND.0);

/// What may go wrong; all nought for a world in peace.
#[derive(Clone, Debug)]
pub(crate) struct Weather {
    /// One in so many messages is lost, or doubled; 0 for none.
    pub(crate) lost_one_in: u64,
    pub(crate) doubled_one_in: u64,
    pub(crate) delay: (Nanos, Nanos),
    pub(crate) write: (Nanos, Nanos),
}

impl Weather {
    pub(crate) fn fine() -> Self {
        Self {
            lost_one_in: 0,
            doubled_one_in: 0,
            delay: (Nanos::MILLISECOND, Nanos::from_millis(4)),
            write: (Nanos::from_millis(1), Nanos::from_millis(3)),
        }
    }

    pub(crate) fn foul() -> Self {
        Self {
            lost_one_in: 12,
            doubled_one_in: 12,
            delay: (Nanos::MILLISECOND, Nanos::from_millis(60)),
            write: (Nanos::from_millis(1), Nanos::from_millis(40)),
        }
    }
}

/// What one machine holds in memory, and loses.
pub(crate) struct Life {
    pub(crate) voter: Voter<Book>,
    pub(crate) tenant: Tenant,
    /// Who swaps and gets, and who changes voters and gives leases.
    customer: Envoy,
    clerk: Envoy,
    /// On which register, its place in the history, and when it is given up.
    deed: Option<(u8, usize, Instant)>,
    next_deed: Instant,
    errand: &'static str,
}

pub(crate) struct Host {
    pub(crate) life: Option<Life>,
    lives: u64,
    clock: Clock,
    disk: Vec<Vec<u8>>,
    wet: Vec<(Persist, bool)>,
    wakes_at: Instant,
    reported: Index,
}

#[derive(Debug)]
enum Happening {
    Arrives(Message),
    Written {
        tile: usize,
        life: u64,
        token: u64,
    },
    Wakes(usize),
    /// What ran under a lapsed lease is over.
    Stopped(usize, u64, Lease),
}

pub(crate) struct World {
    pub(crate) now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    pub(crate) hosts: Vec<Host>,
    pub(crate) config: Config,
    pub(crate) terms: Terms,
    pub(crate) halt: Nanos,
    pub(crate) weather: Weather,
    pub(crate) chance: Stream,
    faults: Stream,
    seed: u64,
    /// Which side of a partition each is on.
    pub(crate) side: Vec<u8>,
    /// Whether customers go on asking.
    pub(crate) busy: bool,
    /// How long they rest at most between two deeds.
    pub(crate) pause: Nanos,
    /// How long they wait for an answer.
    pub(crate) give_up: Nanos,
    pub(crate) judge: Judge,
    pub(crate) count: BTreeMap<&'static str, u64>,
    /// What was seen, for golden traces.
    pub(crate) seen: Vec<(Instant, String)>,
    value: u64,
}

/// Judges all hosts together, by what they do.
#[derive(Default)]
pub(crate) struct Judge {
    leaders: BTreeMap<Term, Tile>,
    /// What each entry ever seen says, and the term of the one before it.
    entries: BTreeMap<(Index, Term), (u64, Option<Term>)>,
    agreed: BTreeMap<Index, Term>,
    applied: BTreeMap<Index, u64>,
    value_at: BTreeMap<u64, Index>,
    pub(crate) runs: BTreeMap<Lease, BTreeSet<usize>>,
    pub(crate) last_run: BTreeMap<Lease, usize>,
    pub(crate) histories: BTreeMap<u8, Vec<Operation>>,
    pub(crate) faults: Vec<String>,
    hash: DefaultHasher,
}

fn hash_of(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl World {
    /// So many machines; the first has founded the fleet, the others know nothing yet.
    pub(crate) fn new(hosts: usize, seed: u64, wrong_clocks: bool) -> Self {
        let mut config = Config::new(CELL);
        (config.log_bytes_max, config.trail) = (1_500, 8);
        (config.append_bytes_max, config.piece_bytes_max) = (400, 300);
        let terms = Terms::default();
        let mut faults = Stream::new(seed, Tile(0), Purpose::Faults);
        let hosts = (0..hosts).map(|_| {
            let (offset, rate) = match wrong_clocks {
                true => Clock::error(&mut faults, Nanos::from_millis(480), 1_000),
                false => (0, 0),
            };
            Host {
                life: None,
                lives: 0,
                clock: Clock::new(offset, rate),
                disk: Vec::new(),
                wet: Vec::new(),
                wakes_at: Instant::END,
                reported: Index(0),
            }
        });
        let hosts: Vec<_> = hosts.collect();
        let mut world = Self {
            now: BEGINNING,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            side: vec![0; hosts.len()],
            hosts,
            config,
            terms,
            halt: Nanos::from_millis(200),
            weather: Weather::fine(),
            chance: Stream::new(seed, Tile(0), Purpose::Links),
            faults,
            seed,
            busy: false,
            pause: Nanos::from_millis(400),
            give_up: Nanos::from_secs(4),
            judge: Judge::default(),
            count: BTreeMap::new(),
            seen: Vec::new(),
            value: 0,
        };
        book::applied();
        for host in 0..world.hosts.len() {
            world.start(host);
        }
        world
    }

    fn add(&mut self, after: Nanos, what: Happening) {
        self.sequence += 1;
        self.agenda.push(Reverse((self.now + after, self.sequence)));
        self.happenings.insert(self.sequence, what);
    }

    fn between(&mut self, (least, most): (Nanos, Nanos)) -> Nanos {
        least + self.chance.span(Nanos(most.0 - least.0 + 1))
    }

    fn counted(&mut self, what: &'static str) {
        *self.count.entry(what).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, what: String) {
        let (now, seed) = (self.now.since(BEGINNING), self.seed);
        self.judge
            .faults
            .push(format!("seed {seed}, {now}: {what}"));
    }

    fn clock(&mut self, host: usize) -> Instant {
        let now = self.now;
        self.hosts[host].clock.read(now)
    }

    /// Starts a machine, for the first time or again.
    pub(crate) fn start(&mut self, host: usize) {
        let local = self.clock(host);
        let (config, tile) = (self.config.clone(), Tile(host as u64));
        self.hosts[host].lives += 1;
        let life = self.hosts[host].lives;
        let stream = Stream::new(self.seed ^ life << 32, tile, Purpose::Agreement);
        let disk = &self.hosts[host].disk;
        let voter = if !disk.is_empty() {
            let records = disk.iter().map(Vec::as_slice);
            let voter = Voter::again(config, tile, records, stream, local);
            voter.expect("what was durable can be read")
        } else if host == 0 {
            Voter::found(config, tile, Book::new(self.terms), stream, local)
        } else {
            Voter::join(config, tile, stream, local)
        };
        let contacts: Vec<_> = (0..self.hosts.len() as u64).map(Tile).collect();
        let author = |desk| Author { tile, desk, life };
        let (term, patience) = (self.terms.term, Nanos::from_millis(400));
        let tenant = Tenant::new(CELL, author(0), contacts.clone(), term, self.halt, local);
        self.hosts[host].life = Some(Life {
            voter,
            tenant,
            customer: Envoy::new(CELL, author(1), contacts.clone(), Nanos::from_millis(50)),
            clerk: Envoy::new(CELL, author(2), contacts, patience),
            deed: None,
            next_deed: local,
            errand: "",
        });
        self.hosts[host].wakes_at = Instant::END;
        self.plan_to_wake(host);
    }

    /// Ends a machine. What its disk had not finished survives up to some point, the rest is torn and
    /// cut away, as a log with checksums does.
    pub(crate) fn crash(&mut self, host: usize) {
        if self.hosts[host].life.take().is_none() {
            return;
        }
        self.counted("crash");
        let wet = core::mem::take(&mut self.hosts[host].wet);
        let survive = self.faults.below(wet.len() as u64 + 1) as usize;
        if survive < wet.len() {
            self.counted("torn write");
        }
        for (write, replaces) in wet.into_iter().take(survive) {
            self.write(host, write, replaces);
        }
        for runs in self.judge.runs.values_mut() {
            runs.remove(&host);
        }
    }

    fn write(&mut self, host: usize, write: Persist, replaces: bool) {
        let disk = &mut self.hosts[host].disk;
        if replaces {
            disk.clear();
        }
        disk.push(write.bytes);
    }

    pub(crate) fn set_clock(&mut self, host: usize, offset: i64, rate_ppm: i64) {
        let now = self.now;
        self.hosts[host].clock.set(now, offset, rate_ppm);
        self.hosts[host].wakes_at = Instant::END;
        self.plan_to_wake(host);
    }

    fn plan_to_wake(&mut self, host: usize) {
        let busy = self.busy;
        let Some(life) = &self.hosts[host].life else {
            return;
        };
        let deed = life.deed.map_or(life.next_deed, |(.., given_up)| given_up);
        let deed = busy.then_some(deed);
        let deadlines = [
            life.voter.deadline(),
            life.tenant.deadline(),
            life.customer.deadline(),
            life.clerk.deadline(),
            deed,
        ];
        let Some(local) = deadlines.into_iter().flatten().min() else {
            return;
        };
        let at = self.hosts[host].clock.when(local).max(self.now);
        if at < self.hosts[host].wakes_at {
            self.hosts[host].wakes_at = at;
            self.add(at.since(self.now), Happening::Wakes(host));
        }
    }

    pub(crate) fn run(&mut self, span: Nanos) {
        let until = self.now + span;
        while let Some(Reverse((at, id))) = self.agenda.peek().copied() {
            if at > until {
                break;
            }
            self.agenda.pop();
            self.now = at;
            let what = self.happenings.remove(&id).expect("each happens once");
            self.happen(what);
        }
        self.now = until;
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::Arrives(message) => {
                let host = message.to.0 as usize;
                hash_message(&mut self.judge.hash, self.now, &message);
                self.receive(host, message);
            }
            Happening::Written { tile, life, token } => {
                if self.hosts[tile].lives != life || self.hosts[tile].life.is_none() {
                    return;
                }
                let (write, replaces) = self.hosts[tile].wet.remove(0);
                assert_eq!(write.token, token);
                self.write(tile, write, replaces);
                self.tell(tile, Input::Persisted(Persisted { token }));
            }
            Happening::Wakes(host) => self.wake(host),
            Happening::Stopped(host, life, lease) => {
                if self.hosts[host].lives == life {
                    self.stops(host, lease);
                }
            }
        }
    }

    fn receive(&mut self, host: usize, message: Message) {
        let local = self.clock(host);
        let Some(life) = &mut self.hosts[host].life else {
            return;
        };
        let Kind::Reply { author, .. } = &message.kind else {
            return self.tell(host, Input::Received(message));
        };
        match author.desk {
            0 => {
                let mut orders = Vec::new();
                let mut out = |order| orders.push(order);
                life.tenant
                    .handle(local, Event::Received(message), &mut out);
                self.obey(host, orders);
            }
            desk => {
                let envoy = if desk == 1 {
                    &mut life.customer
                } else {
                    &mut life.clerk
                };
                let mut tellings = Vec::new();
                envoy.handle(local, Told::Received(message), &mut |t| tellings.push(t));
                self.carry(host, desk, tellings);
            }
        }
        self.plan_to_wake(host);
    }

    fn wake(&mut self, host: usize) {
        if self.now < self.hosts[host].wakes_at {
            return;
        }
        self.hosts[host].wakes_at = Instant::END;
        let local = self.clock(host);
        let busy = self.busy;
        let Some(life) = &mut self.hosts[host].life else {
            return;
        };
        let due = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= local);
        let (mut effects, mut orders) = (Vec::new(), Vec::new());
        let (mut swaps, mut errands) = (Vec::new(), Vec::new());
        if due(life.tenant.deadline()) {
            life.tenant.wake(local, &mut |order| orders.push(order));
        }
        if due(life.voter.deadline()) {
            life.voter.wake(local, &mut |effect| effects.push(effect));
        }
        life.customer.wake(local, &mut |t| swaps.push(t));
        life.clerk.wake(local, &mut |t| errands.push(t));
        let due = life.deed.map_or(life.next_deed, |(.., given_up)| given_up);
        let deed = busy && due <= local;
        self.obey(host, orders);
        self.take(host, effects);
        self.carry(host, 1, swaps);
        self.carry(host, 2, errands);
        if deed {
            self.begin_deed(host);
        }
        self.plan_to_wake(host);
    }

    fn tell(&mut self, host: usize, input: Input) {
        let local = self.clock(host);
        let Some(life) = &mut self.hosts[host].life else {
            return;
        };
        let mut effects = Vec::new();
        life.voter
            .handle(local, input, &mut |effect| effects.push(effect));
        self.take(host, effects);
        self.plan_to_wake(host);
    }

    fn post(&mut self, message: Message) {
        if self.sequence.is_multiple_of(16) {
            let again = decode_all::<Message>(&message.to_bytes());
            assert_eq!(again.as_ref(), Ok(&message), "one spelling");
        }
        let (from, to) = (message.from.0 as usize, message.to.0 as usize);
        if from == to {
            return self.add(Nanos(1_000), Happening::Arrives(message));
        }
        if self.side[from] != self.side[to] {
            return self.counted("cut message");
        }
        let one_in = |chance: &mut Stream, n: u64| n > 0 && chance.below(n) == 0;
        if one_in(&mut self.chance, self.weather.lost_one_in) {
            return self.counted("lost message");
        }
        if one_in(&mut self.chance, self.weather.doubled_one_in) {
            self.counted("doubled message");
            let after = self.between(self.weather.delay) + self.between(self.weather.delay) * 10;
            self.add(after, Happening::Arrives(message.clone()));
        }
        let after = self.between(self.weather.delay);
        self.add(after, Happening::Arrives(message));
    }

    fn take(&mut self, host: usize, effects: Vec<Effect>) {
        let tile = Tile(host as u64);
        self.judge_applied(host);
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => self.post(message),
                Effect::Persist(write) => self.begin_write(host, write, false),
                Effect::Replace(write) => {
                    self.counted("snapshot");
                    self.begin_write(host, write, true);
                }
                Effect::Led { term, by } => {
                    if by == Some(tile) {
                        self.counted("election");
                        self.judge_leader(host, term);
                    }
                    let by = by.map_or("nobody".into(), |by| by.0.to_string());
                    let line = format!("{host} holds {by} to lead term {}", term.0);
                    self.seen.push((self.now, line));
                }
                Effect::Applied { .. } => self.judge_agreed(host),
                Effect::Refused { reason, .. } => {
                    self.fault(format!("{host} refused a message: {reason}"));
                }
            }
        }
    }

    fn begin_write(&mut self, host: usize, write: Persist, replaces: bool) {
        let (token, life) = (write.token, self.hosts[host].lives);
        self.hosts[host].wet.push((write, replaces));
        let after = self.between(self.weather.write);
        let tile = host;
        self.add(after, Happening::Written { tile, life, token });
    }

    fn obey(&mut self, host: usize, orders: Vec<Order>) {
        for order in orders {
            match order {
                Order::Send { message, .. } => self.post(message),
                Order::Begin { lease, fence } => {
                    let (Lease { program, replica }, at) = (lease, fence.0);
                    let line = format!("{host} begins {program}.{replica}, granted at {at}");
                    self.seen.push((self.now, line));
                    self.begins(host, lease);
                }
                Order::End { lease, why } => {
                    let Lease { program, replica } = lease;
                    let line = format!("{host} ends {program}.{replica}: {}", why.name());
                    self.seen.push((self.now, line));
                    self.counted(why.name());
                    // The longest it may take, by the clock of the machine.
                    let local = self.clock(host) + self.halt;
                    let over = self.hosts[host].clock.when(local).since(self.now);
                    let life = self.hosts[host].lives;
                    self.add(over, Happening::Stopped(host, life, lease));
                }
                Order::Recall { lease } => self.release(host, lease),
                Order::Duty(duty) => {
                    self.seen.push((self.now, format!("{host} is {duty:?}")));
                    if duty == Duty::Draining {
                        let leases: Vec<_> = self.runs_of(host);
                        for lease in leases {
                            self.release(host, lease);
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn runs_of(&self, host: usize) -> Vec<Lease> {
        let runs = self.judge.runs.iter();
        let runs = runs.filter(|(_, hosts)| hosts.contains(&host));
        runs.map(|(lease, _)| *lease).collect()
    }

    /// What runs under a lease stops, then the lease is given back.
    pub(crate) fn release(&mut self, host: usize, lease: Lease) {
        let local = self.clock(host);
        if let Some(life) = &mut self.hosts[host].life
            && life.tenant.holds(local, lease)
        {
            let mut orders = Vec::new();
            life.tenant
                .handle(local, Event::Release(lease), &mut |o| orders.push(o));
            self.stops(host, lease);
            self.counted("release");
            self.obey(host, orders);
            self.plan_to_wake(host);
        }
    }

    fn begins(&mut self, host: usize, lease: Lease) {
        self.counted("begin");
        if self
            .judge
            .last_run
            .insert(lease, host)
            .is_some_and(|last| last != host)
        {
            self.counted("lease that moved");
        }
        let runs = self.judge.runs.entry(lease).or_default();
        runs.insert(host);
        if runs.len() > 1 {
            let what = format!("{lease:?} is held by {runs:?} at once");
            self.fault(what);
        }
    }

    fn stops(&mut self, host: usize, lease: Lease) {
        let local = self.clock(host);
        let life = self.hosts[host].life.as_ref();
        // It may have been renewed while what ran before was being stopped.
        if life.is_none_or(|life| !life.tenant.holds(local, lease)) {
            self.judge.runs.entry(lease).or_default().remove(&host);
        }
    }
}

/// Customers and clerks.
impl World {
    fn begin_deed(&mut self, host: usize) {
        let register = self.chance.below(3) as u8;
        let local = self.clock(host);
        let history = self.judge.histories.entry(register).or_default();
        if history.len() >= linear::OPERATIONS_MAX {
            if let Some(life) = &mut self.hosts[host].life {
                (life.deed, life.next_deed) = (None, Instant::END);
            }
            return;
        }
        self.value += 1;
        let (deed, ask) = if self.chance.below(2) == 0 {
            let value = self.value;
            let line = Line::Swap { register, value };
            (Deed::Swap(value), Ask::Apply(line.to_bytes().into()))
        } else {
            (Deed::Get, Ask::Read([register].into()))
        };
        let place = history.len();
        let given_up = local + self.give_up;
        history.push(Operation {
            deed,
            called: self.now,
            returned: None,
        });
        if let Some(life) = &mut self.hosts[host].life {
            life.deed = Some((register, place, given_up));
        }
        self.errand(host, 1, ask);
    }

    /// A clerk asks for something, once.
    pub(crate) fn clerk(&mut self, host: usize, what: &'static str, ask: Ask) {
        if let Some(life) = &mut self.hosts[host].life {
            life.errand = what;
        }
        self.errand(host, 2, ask);
    }

    pub(crate) fn order(&mut self, host: usize, what: &'static str, command: Command) {
        self.clerk(host, what, ask_for(command));
    }

    fn errand(&mut self, host: usize, desk: u8, ask: Ask) {
        let local = self.clock(host);
        let Some(life) = &mut self.hosts[host].life else {
            return;
        };
        let envoy = if desk == 1 {
            &mut life.customer
        } else {
            &mut life.clerk
        };
        let mut tellings = Vec::new();
        envoy.handle(local, Told::Ask(ask), &mut |t| tellings.push(t));
        self.carry(host, desk, tellings);
        self.plan_to_wake(host);
    }

    fn carry(&mut self, host: usize, desk: u8, tellings: Vec<Telling>) {
        for telling in tellings {
            match telling {
                Telling::Send { message, .. } => self.post(message),
                Telling::Answered { outcome, .. } if desk == 1 => {
                    self.counted("answer");
                    let pause = self.chance.span(self.pause);
                    let (local, now) = (self.clock(host), self.now);
                    let Some(life) = &mut self.hosts[host].life else {
                        continue;
                    };
                    life.next_deed = local + pause;
                    let (deed, Outcome::Done(bytes)) = (life.deed.take(), outcome) else {
                        self.fault(format!("{host} was refused a deed"));
                        continue;
                    };
                    // Given up, and answered after all.
                    let Some((register, place, _)) = deed else {
                        continue;
                    };
                    let value = decode_all(&bytes).expect("a register's value");
                    let history = self.judge.histories.entry(register).or_default();
                    history[place].returned = Some((now, value));
                }
                Telling::Answered { outcome, .. } => {
                    let what = self.hosts[host]
                        .life
                        .as_ref()
                        .map_or("", |life| life.errand);
                    if let Outcome::Done(_) = outcome {
                        self.counted(what);
                    }
                    if !what.is_empty() {
                        self.seen
                            .push((self.now, format!("{host} is answered: {what}")));
                    }
                }
            }
        }
    }

    /// Has the first machine's clerk ask, and waits until it is done.
    pub(crate) fn insist(&mut self, what: &'static str, ask: Ask) {
        let count = |world: &Self| world.count.get(what).copied().unwrap_or_default();
        let before = count(self);
        self.clerk(0, what, ask);
        for _ in 0..200 {
            self.run(Nanos::from_millis(100));
            if count(self) > before {
                return;
            }
        }
        self.fault(format!("{what} was not done in 20 s of peace"));
    }

    /// Lets the fleet grow from its founder to so many voters.
    pub(crate) fn grow(&mut self, voters: usize) {
        self.run(Nanos::from_millis(200));
        for tile in 1..voters {
            self.insist("admission", Ask::Admit(Tile(tile as u64)));
        }
    }

    pub(crate) fn leader(&self) -> Option<usize> {
        let lives = self.hosts.iter().enumerate();
        let leaders = lives.filter_map(|(at, host)| {
            let voter = &host.life.as_ref()?.voter;
            voter.leads().then_some((voter.term(), at))
        });
        leaders.max().map(|(_, at)| at)
    }

    pub(crate) fn voter(&self, host: usize) -> &Voter<Book> {
        &self.hosts[host].life.as_ref().expect("it runs").voter
    }

    /// How every voter is, a line each.
    pub(crate) fn describe(&self) -> String {
        let lives = self.hosts.iter().filter_map(|host| host.life.as_ref());
        let line = |life: &Life| {
            let v = &life.voter;
            let (tile, term, leader) = (v.me().0, v.term().0, v.leader().map(|tile| tile.0));
            let voters: Option<Vec<_>> = v.voters().map(|v| v.iter().map(|t| t.0).collect());
            let (last, commit) = (v.last().0, v.commit().0);
            let at = v.entry(v.last()).map(|entry| entry.term.0);
            format!(
                "{tile}: term {term}, led by {leader:?}, voters {voters:?}, log to {last} of {at:?}, \
                 agreed to {commit}"
            )
        };
        lives.map(line).collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn hash(&self) -> u64 {
        self.judge.hash.clone().finish()
    }

    /// Whether every pair of registers' operations could have happened one after the other.
    pub(crate) fn judge_histories(&mut self) {
        let histories = core::mem::take(&mut self.judge.histories);
        for (register, history) in histories {
            if !linear::is_linear(&history) {
                self.fault(format!(
                    "register {register} is not linearizable: {history:#?}"
                ));
            }
        }
    }
}

/// Judges.
impl World {
    //= requirements C3
    fn judge_leader(&mut self, host: usize, term: Term) {
        let tile = Tile(host as u64);
        if let Some(other) = self.judge.leaders.insert(term, tile)
            && other != tile
        {
            self.fault(format!("{other:?} and {tile:?} both lead {term:?}"));
        }
        let Some(life) = &self.hosts[host].life else {
            return;
        };
        let voter = &life.voter;
        let lacks = self
            .judge
            .agreed
            .iter()
            .rev()
            .take(300)
            .find(|(index, term)| {
                let entry = voter.entry(**index);
                **index > voter.commit() && entry.is_none_or(|entry| entry.term != **term)
            });
        if let Some((index, _)) = lacks {
            let what = format!("{tile:?} leads {term:?} without {index:?}, which was agreed");
            self.fault(what);
        }
    }

    fn judge_applied(&mut self, host: usize) {
        for (index, command, value) in book::applied() {
            let before = *self.judge.applied.entry(index).or_insert(command);
            if before != command {
                self.fault(format!("{host} applied another command at {index:?}"));
            }
            let at = value.map(|value| *self.judge.value_at.entry(value).or_insert(index));
            if at.is_some_and(|at| at != index) {
                self.fault(format!(
                    "{host} applied {value:?} at {at:?} and at {index:?}"
                ));
            }
        }
    }

    fn judge_agreed(&mut self, host: usize) {
        let Some(life) = &self.hosts[host].life else {
            return;
        };
        let voter = &life.voter;
        let mut wrong = None;
        for index in self.hosts[host].reported.0 + 1..=voter.applied().0 {
            let index = Index(index);
            if let Some(entry) = voter.entry(index) {
                let agreed = *self.judge.agreed.entry(index).or_insert(entry.term);
                if agreed != entry.term {
                    wrong = Some(index);
                }
            }
        }
        let applied = voter.applied();
        self.hosts[host].reported = applied;
        if let Some(index) = wrong {
            self.fault(format!("{host} agreed to another entry at {index:?}"));
        }
    }

    /// If two logs have an entry of one term at one place, they are alike up to there: by induction,
    /// if what each such entry says and the term before it are always the same.
    pub(crate) fn judge_logs(&mut self) {
        let mut wrong = Vec::new();
        for (at, host) in self.hosts.iter().enumerate() {
            let Some(voter) = host.life.as_ref().map(|life| &life.voter) else {
                continue;
            };
            for index in (1..=voter.last().0).rev().map(Index) {
                let Some(entry) = voter.entry(index) else {
                    break;
                };
                let before = voter.entry(index.before()).map(|entry| entry.term);
                let says = hash_of(&entry.payload);
                let known = self.judge.entries.entry((index, entry.term));
                let known = known.or_insert((says, before));
                known.1 = known.1.or(before);
                if known.0 != says || before.is_some_and(|before| known.1 != Some(before)) {
                    wrong.push(format!("{at} has another {index:?} of {:?}", entry.term));
                }
            }
        }
        for what in wrong {
            self.fault(what);
        }
    }
}

fn hash_message(hasher: &mut DefaultHasher, now: Instant, message: &Message) {
    (now, message).hash(hasher);
}

pub(crate) fn ask_for(command: Command) -> Ask {
    Ask::Apply(Line::Lease(command).to_bytes().into())
}

/// One replica of a program.
pub(crate) fn lease(program: u64) -> Lease {
    Lease {
        program,
        replica: 0,
    }
}
