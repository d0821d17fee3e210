//! A council of several tiles in a world that loses, doubles and delays messages, tears writes, cuts the cell in two, crashes machines, stops them in the
//! middle of a word and gives each a clock of its own; and a judge who sees at every instant what runs where.
//!
//! `COUNCIL_SEEDS=500 cargo nextest run -p node --test council` looks at more histories; a failure names its seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use consensus::lease::{self, Duty};
use consensus::{Author, Index, Lease, Message, State as _, Terms};
use machine::{Machine as _, Persist, Persisted, Purpose, Stream};
use node::council::register::{Door, Explained, Standing, What, Why};
use node::council::{
    Affairs, Became, Command, Config, Council, Effect, Fate, Input, Query, Refusal, Register,
    Reply, Room, Unanswered, Vote, apply, read,
};
use scheduler::fleet::{Candidate, Change, Evidence};
use scheduler::policy::Apart;
use scheduler::{Funnel, Test};
use wire::codec::decode_all;
use wire::{Class, Encode as _, Instant, Nanos, Tile};

const MS: Nanos = Nanos::MILLISECOND;
const BEGINNING: Instant = Instant(100 * Nanos::SECOND.0);
/// As everywhere, but that a log is replaced by a snapshot every few dozen lines.
fn config() -> Config {
    let mut config = Config::of_a_fleet();
    (config.voter.log_bytes_max, config.voter.trail) = (4_000, 16);
    config
}

/// A clock that is never set, and as wrong as it may be.
#[derive(Clone, Copy)]
struct Clock {
    offset: i128,
    rate_ppm: i128,
}

impl Clock {
    fn read(self, truth: Instant) -> Instant {
        let passed = i128::from(truth.0 - BEGINNING.0);
        let shown = i128::from(BEGINNING.0)
            + self.offset
            + passed * (1_000_000 + self.rate_ppm) / 1_000_000;
        Instant(u64::try_from(shown).unwrap())
    }

    fn when(self, shown: Instant) -> Instant {
        let passed = i128::from(shown.0) - i128::from(BEGINNING.0) - self.offset;
        let truth = i128::from(BEGINNING.0) + passed * 1_000_000 / (1_000_000 + self.rate_ppm) + 1;
        Instant(u64::try_from(truth.max(0)).unwrap())
    }
}

/// Something that runs under a lease.
#[derive(Clone, Copy)]
struct Run {
    fence: Index,
    /// Which of all that ever ran: the same lease may be begun again under the same entry.
    number: u64,
    /// By this tile's clock: whoever watches it ends it then, if nobody has said a later one.
    handle: Instant,
    since: Instant,
    finishing: bool,
}

struct Host {
    council: Option<Council>,
    lives: u64,
    clock: Clock,
    disk: Vec<Vec<u8>>,
    wet: Vec<(Persist, bool)>,
    runs: BTreeMap<Lease, Run>,
    /// Stopped in the middle of a word: it hears and says nothing, and what it watches is watched by others.
    paused: bool,
    held_up: Vec<Input>,
    /// Programs that cannot be run here.
    lacks: BTreeSet<String>,
    wakes_at: Instant,
}

enum Happening {
    Arrives(Message),
    Written(usize, u64, u64),
    Wakes(usize),
    /// Whoever watches a program looks at its deadline.
    Handle(usize, Lease, u64),
    Over(usize, Lease, u64),
    /// The program says that it is well.
    Well(usize, Lease, u64),
}

struct World {
    seed: u64,
    now: Instant,
    agenda: BinaryHeap<Reverse<(Instant, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    sequence: u64,
    hosts: Vec<Host>,
    side: Vec<u8>,
    chance: Stream,
    foul: bool,
    answers: BTreeMap<u64, Result<Reply, Unanswered>>,
    token: u64,
    count: BTreeMap<&'static str, u64>,
    faults: Vec<String>,
}

impl World {
    fn new(hosts: usize, seed: u64) -> Self {
        let mut chance = Stream::new(seed, Tile(0), Purpose::Faults);
        let hosts: Vec<_> = (0..hosts)
            .map(|_| Host {
                council: None,
                lives: 0,
                clock: Clock {
                    offset: i128::from(chance.below(1_000_000_000)) - 500_000_000,
                    rate_ppm: i128::from(chance.below(2_001)) - 1_000,
                },
                disk: Vec::new(),
                wet: Vec::new(),
                runs: BTreeMap::new(),
                paused: false,
                held_up: Vec::new(),
                lacks: BTreeSet::new(),
                wakes_at: Instant::END,
            })
            .collect();
        let mut world = Self {
            seed,
            now: BEGINNING,
            agenda: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            sequence: 0,
            side: vec![0; hosts.len()],
            hosts,
            chance,
            foul: false,
            answers: BTreeMap::new(),
            token: 0,
            count: BTreeMap::new(),
            faults: Vec::new(),
        };
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

    fn local(&self, host: usize) -> Instant {
        self.hosts[host].clock.read(self.now)
    }

    fn start(&mut self, host: usize) {
        let local = self.local(host);
        let all = (0..self.hosts.len() as u64).map(Tile);
        let it = &mut self.hosts[host];
        it.lives += 1;
        let vote = match (it.disk.is_empty(), host) {
            (false, _) => Vote::Again(it.disk.clone()),
            (true, 0) => Vote::Found,
            (true, _) => Vote::Never,
        };
        let room = Room {
            cpu_milli: 4_000,
            memory: 8 << 30,
            gpus: [0, 0, 2, 2, 4].get(host).copied().unwrap_or(0),
        };
        let seed = self.seed ^ it.lives << 32;
        let council = Council::new(
            config(),
            (Tile(host as u64), it.lives),
            vote,
            room,
            all,
            seed,
            local,
        );
        it.council = Some(council.expect("what was durable can be read"));
        it.wakes_at = Instant::END;
        self.plan(host);
        // What membership would say in a while.
        for other in 0..self.hosts.len() {
            self.believe(other, host, true);
            let present = self.hosts[other].council.is_some();
            self.believe(host, other, present);
        }
    }

    fn believe(&mut self, host: usize, about: usize, present: bool) {
        self.tell(host, Input::Believed(Tile(about as u64), present));
    }

    fn crash(&mut self, host: usize) {
        if self.hosts[host].council.take().is_none() {
            return;
        }
        *self.count.entry("crash").or_default() += 1;
        let it = &mut self.hosts[host];
        // Programs die with whoever started them.
        it.runs.clear();
        it.held_up.clear();
        it.paused = false;
        let wet = std::mem::take(&mut it.wet);
        let survive = self.chance.below(wet.len() as u64 + 1) as usize;
        for (write, replaces) in wet.into_iter().take(survive) {
            self.write(host, write, replaces);
        }
        for other in 0..self.hosts.len() {
            self.believe(other, host, false);
        }
    }

    fn write(&mut self, host: usize, write: Persist, replaces: bool) {
        let disk = &mut self.hosts[host].disk;
        if replaces {
            disk.clear();
        }
        disk.push(write.bytes);
    }

    fn pause(&mut self, host: usize) {
        if self.hosts[host].council.is_some() {
            *self.count.entry("pause").or_default() += 1;
            self.hosts[host].paused = true;
        }
    }

    fn go_on(&mut self, host: usize) {
        if !std::mem::take(&mut self.hosts[host].paused) {
            return;
        }
        let held_up = std::mem::take(&mut self.hosts[host].held_up);
        // Which of what has come is seen first is chance: a message, or the time.
        if self.chance.chance(0.5) {
            self.wake(host);
        }
        for input in held_up {
            self.tell(host, input);
        }
        self.plan(host);
    }

    fn plan(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let Some(due) = it.council.as_ref().and_then(|council| council.deadline()) else {
            return;
        };
        let at = it.clock.when(due).max(self.now);
        if at < it.wakes_at && !it.paused {
            it.wakes_at = at;
            self.add(at.since(self.now), Happening::Wakes(host));
        }
    }

    fn tell(&mut self, host: usize, input: Input) {
        let local = self.local(host);
        let it = &mut self.hosts[host];
        if it.paused {
            return it.held_up.push(input);
        }
        let Some(council) = &mut it.council else {
            return;
        };
        let mut effects = Vec::new();
        council.handle(local, input, &mut |effect| effects.push(effect));
        self.obey(host, effects);
    }

    fn wake(&mut self, host: usize) {
        let local = self.local(host);
        let it = &mut self.hosts[host];
        it.wakes_at = Instant::END;
        if it.paused {
            return;
        }
        let Some(council) = &mut it.council else {
            return;
        };
        let mut effects = Vec::new();
        council.wake(local, &mut |effect| effects.push(effect));
        self.obey(host, effects);
    }

    fn obey(&mut self, host: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { message, .. } => self.post(message),
                Effect::Persist(write) => self.wet(host, write, false),
                Effect::Replace(write) => self.wet(host, write, true),
                Effect::Rejoined => self.hosts[host].disk.clear(),
                Effect::Begin {
                    lease,
                    fence,
                    name,
                    spec,
                } => {
                    assert_eq!(*spec, *name.as_bytes());
                    self.begin(host, lease, fence, &name);
                }
                Effect::Finish { lease, .. } => {
                    let span = self.chance.span(Nanos::from_millis(800));
                    if let Some(run) = self.hosts[host].runs.get_mut(&lease) {
                        run.finishing = true;
                        let number = run.number;
                        self.add(span, Happening::Over(host, lease, number));
                    }
                }
                Effect::End { lease, .. } => {
                    *self.count.entry("end").or_default() += 1;
                    // The longest it may take, by the clock of the machine.
                    let clock = self.hosts[host].clock;
                    let over = clock.when(self.local(host) + config().halt).since(self.now);
                    if let Some(run) = self.hosts[host].runs.get_mut(&lease) {
                        run.finishing = false;
                        let number = run.number;
                        self.add(over, Happening::Over(host, lease, number));
                    }
                }
                Effect::Answered { token, answer } => {
                    let answer = answer.map(|bytes| match bytes.is_empty() {
                        // That of a change of voters.
                        true => Reply::Done,
                        false => decode_all(&bytes).unwrap_or_else(|_| {
                            decode_all::<lease::Answer>(&bytes).expect("an answer");
                            Reply::Done
                        }),
                    });
                    self.answers.insert(token, answer);
                }
                Effect::Refused { reason, .. } => {
                    self.faults.push(format!("{host} refused: {reason}"))
                }
            }
        }
        self.extend(host);
        self.plan(host);
    }

    /// What a daemon does after each word: says how long everything that is held may go on.
    fn extend(&mut self, host: usize) {
        let it = &mut self.hosts[host];
        let Some(council) = &it.council else {
            return;
        };
        let until = council.until();
        let held: BTreeMap<_, _> = council.held().collect();
        for (lease, run) in &mut it.runs {
            if held.get(lease) == Some(&run.fence) {
                run.handle = run.handle.max(until);
            }
        }
    }

    fn post(&mut self, message: Message) {
        let again = decode_all::<Message>(&message.to_bytes());
        assert_eq!(again.as_ref(), Ok(&message), "one spelling");
        *self.count.entry("message").or_default() += 1;
        let (from, to) = (message.from.0 as usize, message.to.0 as usize);
        assert_ne!(from, to, "what is said to oneself never leaves");
        if self.side[from] != self.side[to] {
            return;
        }
        if self.foul && self.chance.below(15) == 0 {
            return;
        }
        let delay = |world: &mut Self| match world.foul {
            true => MS + world.chance.span(MS * 80),
            false => MS + world.chance.span(MS * 3),
        };
        if self.foul && self.chance.below(15) == 0 {
            let after = delay(self) * 10;
            self.add(after, Happening::Arrives(message.clone()));
        }
        let after = delay(self);
        self.add(after, Happening::Arrives(message));
    }

    fn wet(&mut self, host: usize, write: Persist, replaces: bool) {
        *self.count.entry("write").or_default() += 1;
        let (token, life) = (write.token, self.hosts[host].lives);
        self.hosts[host].wet.push((write, replaces));
        let after = MS + self.chance.span(MS * if self.foul { 50 } else { 5 });
        self.add(after, Happening::Written(host, life, token));
    }

    fn begin(&mut self, host: usize, lease: Lease, fence: Index, name: &str) {
        *self.count.entry("begin").or_default() += 1;
        for other in (0..self.hosts.len()).filter(|other| *other != host) {
            if self.hosts[other].runs.contains_key(&lease) {
                let (now, seed) = (self.now.since(BEGINNING), self.seed);
                self.faults.push(format!(
                    "seed {seed}, {now}: {host} begins {lease:?}, which {other} still runs"
                ));
            }
        }
        if self.hosts[host].lacks.contains(name) {
            let why = Became::Fated(Fate::Unable("no such file".into()));
            return self.tell(host, Input::Became(lease, fence, why));
        }
        let handle = self.hosts[host]
            .council
            .as_ref()
            .map_or(Instant::EPOCH, Council::until);
        self.token += 1;
        let number = self.token;
        let run = Run {
            fence,
            number,
            handle,
            since: self.now,
            finishing: false,
        };
        self.hosts[host].runs.insert(lease, run);
        let watch = self.hosts[host].clock.when(handle).since(self.now);
        self.add(watch, Happening::Handle(host, lease, number));
        self.add(MS * 200, Happening::Well(host, lease, number));
    }

    fn run(&mut self, span: Nanos) {
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
                self.tell(message.to.0 as usize, Input::Received(message))
            }
            Happening::Written(host, life, token) => {
                if self.hosts[host].lives == life && self.hosts[host].council.is_some() {
                    let (write, replaces) = self.hosts[host].wet.remove(0);
                    assert_eq!(write.token, token);
                    self.write(host, write, replaces);
                    self.tell(host, Input::Persisted(Persisted { token }));
                }
            }
            Happening::Wakes(host) => self.wake(host),
            Happening::Handle(host, lease, number) => {
                let Some(run) = self.run_of(host, lease, number) else {
                    return;
                };
                if self.local(host) < run.handle {
                    let again = self.hosts[host].clock.when(run.handle).since(self.now);
                    let what = Happening::Handle(host, lease, number);
                    return self.add(again.max(Nanos(1)), what);
                }
                *self.count.entry("dead man's handle").or_default() += 1;
                let clock = self.hosts[host].clock;
                let over = clock.when(run.handle + config().halt).since(self.now);
                self.add(over, Happening::Over(host, lease, number));
            }
            Happening::Over(host, lease, number) => {
                let Some(run) = self.run_of(host, lease, number) else {
                    return;
                };
                self.hosts[host].runs.remove(&lease);
                if run.finishing {
                    self.tell(host, Input::Became(lease, run.fence, Became::Over));
                }
            }
            Happening::Well(host, lease, number) => {
                if let Some(run) = self.run_of(host, lease, number) {
                    let up = Became::Fated(Fate::Up);
                    self.tell(host, Input::Became(lease, run.fence, up));
                }
            }
        }
    }

    fn run_of(&self, host: usize, lease: Lease, number: u64) -> Option<Run> {
        let run = self.hosts[host].runs.get(&lease).copied();
        run.filter(|run| run.number == number)
    }

    /// Asks at a machine and waits for the answer.
    fn ask(&mut self, host: usize, ask: consensus::Ask) -> Result<Reply, Unanswered> {
        self.token += 1;
        let token = self.token;
        let until = self.local(host) + Nanos::from_secs(10);
        self.tell(host, Input::Ask { token, ask, until });
        for _ in 0..1_100 {
            if let Some(answer) = self.answers.remove(&token) {
                return answer;
            }
            self.run(MS * 10);
        }
        panic!(
            "seed {}: it is answered in time, whatever happens",
            self.seed
        );
    }

    fn give(
        &mut self,
        host: usize,
        name: &str,
        replicas: u32,
        cpu_milli: u64,
    ) -> Result<Reply, Unanswered> {
        let demand = Room {
            cpu_milli,
            ..Room::default()
        };
        self.give_to(host, name, replicas, demand)
    }

    fn give_to(
        &mut self,
        host: usize,
        name: &str,
        replicas: u32,
        demand: Room,
    ) -> Result<Reply, Unanswered> {
        let command = Command::Give {
            name: name.into(),
            spec: name.as_bytes().into(),
            replicas,
            demand,
            class: Class::C,
            doors: Vec::new(),
        };
        self.ask(host, apply(&command))
    }

    fn affairs(&mut self, host: usize) -> Affairs {
        match self.ask(host, read(Query::Affairs)) {
            Ok(Reply::Affairs(affairs)) => affairs,
            other => panic!("seed {}: {other:?}", self.seed),
        }
    }

    /// On which machines something of a program runs, by the number of the replica.
    fn runs(&mut self, host: usize, name: &str) -> BTreeMap<u32, usize> {
        let affairs = self.affairs(host);
        let program = affairs.programs.iter().find(|program| program.name == name);
        let number = program.expect("it is known").number;
        let all = self.hosts.iter().enumerate();
        let runs = all.flat_map(|(host, it)| it.runs.keys().map(move |lease| (*lease, host)));
        let own = runs.filter(|(lease, _)| lease.program == number);
        own.map(|(lease, host)| (lease.replica, host)).collect()
    }

    fn duty(&mut self, host: usize, about: u64, duty: Duty) {
        let tile = Tile(about);
        let command = Command::Lease(lease::Command::Assign { tile, duty });
        assert_eq!(self.ask(host, apply(&command)), Ok(Reply::Done));
    }

    #[track_caller]
    fn judged(&self) {
        assert!(self.faults.is_empty(), "{:#?}", self.faults);
    }
}

/// Five machines in peace, with votes.
fn five(seed: u64) -> World {
    let mut world = World::new(5, seed);
    world.run(Nanos::from_secs(15));
    world
}

#[test]
fn three_vote_of_three_and_five_of_five_and_one_of_two() {
    for (hosts, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (7, 5)] {
        let mut world = World::new(hosts, 7);
        world.run(Nanos::from_secs(20));
        let held = world.hosts[0].council.as_ref().unwrap().voters().unwrap();
        assert_eq!(held.len(), voters, "of {hosts}");
        world.judged();
    }
}

/// Every machine renews four times in a term of three seconds. Who holds nothing can wait for the leader's beat, so that what
/// five of them say between two beats is one write of each voter, and who holds something does not wait for it.
#[test]
fn who_holds_nothing_renews_with_the_beat_and_who_holds_something_at_once() {
    let mut world = five(2);
    let span = Nanos::from_secs(60);
    let beats = span.0 / config().voter.beat.0;
    let counted = |world: &mut World| {
        world.count.clear();
        world.run(span);
        (world.count["write"], world.count["message"])
    };
    let (writes, messages) = counted(&mut world);
    let renewals = 4 * 5 * span.0 / lease_term().0;
    // Not one write of all five for each renewal, nor a beat besides.
    assert!(writes <= 5 * (beats + 2), "{writes} writes, {beats} beats");
    let most = 8 * (beats + 2) + 2 * renewals;
    assert!(messages <= most, "{messages} messages, expected {most}");
    assert!(matches!(world.give(3, "web", 5, 500), Ok(Reply::Given(_))));
    world.run(Nanos::from_secs(10));
    let (busy, _) = counted(&mut world);
    assert!(
        busy > writes + 5 * renewals / 2,
        "{busy} writes, {writes} when idle"
    );
    world.judged();
}

fn lease_term() -> Nanos {
    config().terms.term
}

#[test]
fn replicas_go_to_different_machines_and_a_dead_machines_elsewhere() {
    let mut world = five(1);
    assert!(matches!(world.give(3, "web", 3, 500), Ok(Reply::Given(_))));
    assert_eq!(
        world.give(1, "web", 1, 0),
        Ok(Reply::Refused(Refusal::NameTaken))
    );
    world.run(Nanos::from_secs(3));
    let runs = world.runs(2, "web");
    let machines: BTreeSet<_> = runs.values().copied().collect();
    assert_eq!((runs.len(), machines.len()), (3, 3), "{runs:?}");
    let dead = runs[&1];
    let asks = (0..5).find(|host| *host != dead).unwrap();
    world.crash(dead);
    world.run(Nanos::from_secs(8));
    let runs = world.runs(asks, "web");
    assert!(
        runs.len() == 3 && !runs.values().any(|host| *host == dead),
        "{runs:?}"
    );
    let decided = world.affairs(asks).decisions;
    let expired = |what: &What| *what == What::Expired(Tile(dead as u64));
    assert!(
        decided
            .iter()
            .any(|d| d.program == "web" && d.replica == Some(1) && expired(&d.what)),
        "{decided:?}"
    );
    // Who stops it, stops it everywhere.
    let stop = Command::Stop { name: "web".into() };
    let forget = Command::Forget { name: "web".into() };
    assert_eq!(
        world.ask(asks, apply(&forget)),
        Ok(Reply::Refused(Refusal::Runs))
    );
    assert_eq!(world.ask(asks, apply(&stop)), Ok(Reply::Done));
    world.run(Nanos::from_secs(3));
    assert!(world.runs(asks, "web").is_empty());
    assert_eq!(world.ask(asks, apply(&forget)), Ok(Reply::Done));
    assert!(world.affairs(asks).programs.is_empty());
    world.judged();
}

#[test]
fn a_drain_moves_one_replica_at_a_time_and_as_many_serve_throughout() {
    let mut world = World::new(3, 2);
    world.run(Nanos::from_secs(15));
    world.give(0, "web", 2, 0).unwrap();
    world.give(0, "alone", 1, 0).unwrap();
    world.run(Nanos::from_secs(3));
    let runs = world.runs(0, "web");
    let leaver = runs[&0];
    world.duty(0, leaver as u64, Duty::Draining);
    let mut moved = false;
    for _ in 0..1_000 {
        world.run(MS * 10);
        let served = |world: &World| {
            let all = world.hosts.iter().flat_map(|host| host.runs.iter());
            let web = all.filter(|(lease, run)| {
                let well = world.now.since(run.since) >= MS * 200;
                lease.replica < 99
                    && well
                    && !run.finishing
                    && world.programs_of("web").contains(&lease.program)
            });
            web.count()
        };
        assert!(
            served(&world) >= 2,
            "one of two is gone before another serves"
        );
        moved = world.hosts[leaver].runs.is_empty();
    }
    assert!(moved, "the machine is empty");
    let runs = world.runs(0, "web");
    assert!(
        runs.len() == 2 && !runs.values().any(|host| *host == leaver),
        "{runs:?}"
    );
    assert_eq!(world.runs(0, "alone").len(), 1);
    let decided = world.affairs(0).decisions;
    let recalled = What::Recalled(Tile(leaver as u64), Why::Drained);
    assert!(decided.iter().any(|d| d.what == recalled), "{decided:?}");
    // It is given nothing until the drain is called off.
    world.give(0, "more", 3, 0).unwrap();
    world.run(Nanos::from_secs(3));
    assert!(world.hosts[leaver].runs.is_empty());
    world.duty(1, leaver as u64, Duty::Serving);
    world.give(0, "again", 3, 0).unwrap();
    world.run(Nanos::from_secs(3));
    assert_eq!(world.hosts[leaver].runs.len(), 1);
    world.judged();
}

/// Of those of a program that wait, what keeps away the machines that came nearest.
fn lacks(affairs: &Affairs, program: usize) -> Vec<Test> {
    let standing = affairs.programs[program].standing.iter();
    let waits = standing.filter_map(|(_, standing)| match standing {
        Standing::Waits(on) => on.and_then(|on| on.furthest()),
        _ => None,
    });
    waits.collect()
}

fn funnel(nodes: u32, fell: &[(Test, u32)]) -> Funnel {
    let mut funnel = Funnel {
        nodes,
        ..Funnel::default()
    };
    for (test, count) in fell {
        funnel.fell[*test as usize] = *count;
    }
    funnel
}

fn why(world: &mut World, name: &str) -> Explained {
    match world.ask(1, read(Query::Why(name.into()))) {
        Ok(Reply::Why(explained)) => *explained,
        other => panic!("{other:?}"),
    }
}

//= requirements S7
#[test]
fn whoever_leads_says_who_fell_to_what_and_what_would_start_it_now() {
    let mut world = five(3);
    world.give(0, "big", 6, 3_000).unwrap();
    world.run(Nanos::from_secs(3));
    world.duty(0, 4, Duty::Draining);
    world.run(Nanos::from_secs(3));
    let told = why(&mut world, "big");
    let pending = told.pending.clone().expect("some of it waits");
    // The one that drains keeps what it has, as there is no place to go for it.
    assert_eq!(
        pending.funnel,
        funnel(5, &[(Test::Draining, 1), (Test::Cpu, 4)])
    );
    assert_eq!(pending.nearest, Some((0, 1_000)));
    let fell = |test| {
        let fell = pending.fallen.iter().filter(move |(_, of)| *of == test);
        fell.map(|(machine, _)| *machine).collect::<Vec<_>>()
    };
    assert_eq!(fell(Test::Draining), [4]);
    assert_eq!(fell(Test::Cpu), [0, 1, 2, 3]);
    // Two on each of four machines, as the fifth stays full while it drains.
    assert_eq!(pending.changes, [Change::Cpu(2_000)]);
    // What each place rests on is kept with it: the first had five to choose from, the last one.
    let (_, first) = &told.on[0];
    assert_eq!((first.funnel.left(), first.candidates.len()), (5, 5));
    assert_eq!(first.candidates[0].score, Apart::default());
    let lefts: Vec<_> = told.on.iter().map(|(_, on)| on.funnel.left()).collect();
    assert_eq!(lefts, [5, 4, 3, 2, 1]);
    let reply = Reply::Why(Box::new(told));
    assert_eq!(decode_all::<Reply>(&reply.to_bytes()), Ok(reply));
    // What it said would help does.
    world
        .ask(0, apply(&Command::Stop { name: "big".into() }))
        .unwrap();
    world.run(Nanos::from_secs(3));
    world.give(0, "small", 6, 2_000).unwrap();
    world.run(Nanos::from_secs(3));
    assert_eq!(why(&mut world, "small").pending, None);
    let unknown = world.ask(1, read(Query::Why("nothing".into())));
    assert_eq!(unknown, Ok(Reply::Refused(Refusal::Unknown)));
    // Who fails rests, and that is not in the register: only who leads knows for how long.
    for host in 0..5 {
        world.hosts[host].lacks.insert("rare".into());
    }
    world.give(0, "rare", 1, 0).unwrap();
    let resting = funnel(5, &[(Test::Draining, 1), (Test::Resting, 4)]);
    let mut moments = (0..200).filter_map(|_| {
        world.run(MS * 100);
        why(&mut world, "rare").pending
    });
    let rare = moments.find(|pending| pending.funnel == resting);
    let rare = rare.expect("there is a moment at which all four rest");
    drop(moments);
    let (_, left) = rare.rested.expect("one has rested first");
    assert!(
        left > Nanos::ZERO && left <= Nanos::from_secs(60),
        "{left:?}"
    );
    assert_eq!(rare.changes, [Change::Serving(4)]);
    world.judged();
}

#[test]
fn what_waits_costs_the_log_nothing_however_often_it_is_looked_at() {
    let mut world = five(3);
    world.give(0, "small", 5, 0).unwrap();
    world.run(Nanos::from_secs(3));
    let entries_in_a_while = |world: &mut World, names: [&str; 2]| {
        let [from, to] = names.map(|name| {
            world.run(Nanos::from_secs(20));
            match world.give(0, name, 1, 0) {
                Ok(Reply::Given(number)) => number,
                other => panic!("{other:?}"),
            }
        });
        to - from
    };
    let before = entries_in_a_while(&mut world, ["a", "b"]);
    world.give(0, "big", 6, 3_000).unwrap();
    let after = entries_in_a_while(&mut world, ["c", "d"]);
    assert_eq!(
        why(&mut world, "big").pending.map(|p| p.funnel.left()),
        Some(0)
    );
    assert!(after <= before + 10, "{before} entries, then {after}");
    world.judged();
}

/// A funnel that says more than it can is not read: its numbers are subtracted from each other.
#[test]
fn a_funnel_that_does_not_add_up_is_refused() {
    let lease = Lease {
        program: 3,
        replica: 0,
    };
    for (nodes, fell) in [(2, 3), (1_025, 1)] {
        let on = funnel(nodes, &[(Test::Cpu, fell)]);
        let bytes = Command::Wait { lease, on }.to_bytes();
        assert!(decode_all::<Command>(&bytes).is_err(), "{nodes} {fell}");
    }
}

/// As much as may be of everything, on as many machines as a fleet of daemons has, and it fits into one message of theirs.
#[test]
fn how_everything_stands_fits_into_a_message() {
    const MESSAGE_BYTES_MAX: usize = 60_000;
    let by = |tile| {
        Some(Author {
            tile: Tile(tile),
            desk: 1,
            life: 1,
        })
    };
    let mut register = Register::new(Terms::default());
    let (mut at, mut numbers) = (1_000_000, Vec::new());
    let mut say = |author, command: &Command| {
        at += 1;
        register.apply(Index(at), author, &command.to_bytes());
        at
    };
    for tile in 0..64 {
        say(by(tile), &Command::Lease(lease::Command::Renew));
        say(
            by(tile),
            &Command::Offer(Room {
                cpu_milli: 128_000,
                memory: 1 << 40,
                gpus: 8,
            }),
        );
    }
    for program in 0..256 {
        let name = format!("{program:0>48}");
        let door = |port: u16| Door {
            port: 60_000 + port,
            outside: true,
        };
        numbers.push(say(
            by(1),
            &Command::Give {
                name,
                spec: [7; 9].as_slice().into(),
                replicas: 2,
                demand: Room::default(),
                class: Class::C,
                doors: (0..4).map(door).collect(),
            },
        ));
    }
    let all = Test::OF_A_FLEET.map(|test| (test, 9));
    let lease = |program: u64, replica: u32| Lease { program, replica };
    for program in &numbers {
        for replica in 0..2 {
            let (lease, on) = (lease(*program, replica), funnel(64, &all));
            say(None, &Command::Wait { lease, on });
        }
    }
    for program in &numbers[..64] {
        for replica in 0..2 {
            let lease = lease(*program, replica);
            let candidates = (0..5).map(|machine| Candidate {
                machine,
                score: Apart {
                    beside: 64,
                    taken: 1_000,
                    claims: 512,
                },
            });
            let on = Evidence {
                funnel: funnel(64, &all),
                candidates: candidates.collect(),
            };
            let to = Tile(program % 64);
            let fence = Index(say(None, &Command::Place { lease, to, on }));
            let fate = Fate::Unable("w".repeat(120));
            say(by(to.0), &Command::Report { lease, fence, fate });
        }
    }
    let affairs = register.affairs();
    assert_eq!((affairs.programs.len(), affairs.machines.len()), (256, 64));
    assert_eq!(affairs.decisions.len(), 128);
    let bytes = Reply::Affairs(affairs).to_bytes();
    assert!(
        (35_000..MESSAGE_BYTES_MAX).contains(&bytes.len()),
        "{}",
        bytes.len()
    );
    assert_eq!(decode_all::<Register>(&register.to_bytes()), Ok(register));
}

#[test]
fn what_fits_nowhere_waits_and_says_why() {
    let mut world = five(3);
    world.give(0, "big", 6, 3_000).unwrap();
    world.run(Nanos::from_secs(3));
    assert_eq!(
        world.runs(0, "big").len(),
        5,
        "four cores each, three for one"
    );
    let affairs = world.affairs(0);
    assert_eq!(lacks(&affairs, 0), [Test::Cpu]);
    let noted = affairs
        .decisions
        .iter()
        .filter(|d| matches!(d.what, What::Waits(_)));
    assert_eq!(
        noted.count(),
        1,
        "noted once, however often it was looked at"
    );
    world.judged();
}

#[test]
fn gpus_are_given_where_they_are_and_no_oftener() {
    let mut world = five(3);
    let demand = Room {
        gpus: 2,
        ..Room::default()
    };
    world.give_to(0, "train", 5, demand).unwrap();
    world.run(Nanos::from_secs(3));
    let mut on: Vec<_> = world.runs(0, "train").into_values().collect();
    on.sort_unstable();
    assert_eq!(
        on,
        [2, 3, 4, 4],
        "two, two and four GPUs, and none elsewhere"
    );
    let affairs = world.affairs(0);
    assert_eq!(lacks(&affairs, 0), [Test::Gpu]);
    assert_eq!(affairs.machines[4].room.gpus, 4);
}

#[test]
fn no_two_that_take_the_same_port_share_a_machine() {
    let mut world = World::new(3, 12);
    world.run(Nanos::from_secs(15));
    for (name, port, replicas) in [("web", 80, 2), ("other", 80, 2), ("else", 81, 3)] {
        let door = Door {
            port,
            outside: true,
        };
        let command = Command::Give {
            name: name.into(),
            spec: name.as_bytes().into(),
            replicas,
            demand: Room::default(),
            class: Class::C,
            doors: vec![door],
        };
        assert!(matches!(world.ask(0, apply(&command)), Ok(Reply::Given(_))));
        world.run(Nanos::from_secs(3));
    }
    let affairs = world.affairs(0);
    let waits = [0, 1, 2].map(|program| lacks(&affairs, program));
    assert_eq!(waits, [vec![], vec![Test::Port], vec![]]);
    assert_eq!(world.runs(0, "else").len(), 3);
    let [web, other] = ["web", "other"].map(|name| world.runs(0, name));
    let machines: BTreeSet<_> = web.values().chain(other.values()).collect();
    assert_eq!((web.len(), other.len(), machines.len()), (2, 1, 3));
    // Where one has ended there is room for the next.
    let stop = Command::Stop { name: "web".into() };
    world.ask(0, apply(&stop)).unwrap();
    world.run(Nanos::from_secs(3));
    assert_eq!(world.runs(0, "other").len(), 2);
    world.judged();
}

#[test]
fn who_cannot_run_it_rests_and_another_is_tried() {
    let mut world = five(4);
    for host in 0..4 {
        world.hosts[host].lacks.insert("rare".into());
    }
    world.give(0, "rare", 1, 0).unwrap();
    world.run(Nanos::from_secs(12));
    assert_eq!(
        world.runs(0, "rare").values().copied().collect::<Vec<_>>(),
        [4]
    );
    world.hosts[4].lacks.insert("none".into());
    for host in 0..5 {
        world.hosts[host].lacks.insert("none".into());
    }
    world.give(0, "none", 1, 0).unwrap();
    world.run(Nanos::from_secs(60));
    let decided = world.affairs(0).decisions;
    let failed = decided
        .iter()
        .filter(|d| d.program == "none" && matches!(d.what, What::Unable(..)));
    // Five machines after 0, 1, 3, 7, 15, 31 s and so on: no loop.
    let failed = failed.count();
    assert!((10..=40).contains(&failed), "{failed}");
    world.judged();
}

#[test]
fn who_falls_is_said_to_and_who_falls_again_and_again_costs_the_log_little() {
    let mut world = five(11);
    world.give(0, "web", 1, 0).unwrap();
    world.run(Nanos::from_secs(3));
    let standing = |world: &mut World| world.affairs(0).programs[0].standing[0].1;
    let Standing::Held { by, fence, up, .. } = standing(&mut world) else {
        panic!("it is placed");
    };
    assert!(up);
    let (host, lease) = {
        let held = world.hosts[by.0 as usize].council.as_ref().unwrap().held();
        (by.0 as usize, held.last().unwrap().0)
    };
    let became = |world: &mut World, fate: Fate| {
        world.tell(host, Input::Became(lease, fence, Became::Fated(fate)));
    };
    let held = |up: bool, fell: Option<u8>| Standing::Held {
        by,
        fence,
        up,
        fell,
        recalled: false,
    };
    became(&mut world, Fate::Fell(9));
    world.run(Nanos::SECOND);
    assert_eq!(standing(&mut world), held(false, Some(9)));
    // It is believed to be well once it has been for a second, and not at its first word.
    became(&mut world, Fate::Up);
    world.run(MS * 500);
    assert_eq!(standing(&mut world), held(false, Some(9)));
    world.run(MS * 1_500);
    assert_eq!(standing(&mut world), held(true, None));
    // Four minutes of falls: the voters hear of two, and that it is down throughout.
    let mut told = BTreeSet::new();
    for _ in 0..80 {
        became(&mut world, Fate::Fell(7));
        world.run(Nanos::SECOND);
        became(&mut world, Fate::Up);
        world.run(Nanos::from_secs(2));
        let decided = world.affairs(0).decisions;
        let fell = |d: &&node::council::register::Decision| d.what == What::Fell(by, 7);
        told.extend(decided.iter().filter(fell).map(|d| d.at));
        assert!(decided.iter().filter(fell).count() <= 1);
    }
    assert!((1..=3).contains(&told.len()), "{told:?}");
    assert_eq!(standing(&mut world), held(false, Some(7)));
    // Who lives long enough is believed again, and its next fall is its first.
    world.run(Nanos::from_secs(130));
    assert_eq!(standing(&mut world), held(true, None));
    became(&mut world, Fate::Fell(3));
    became(&mut world, Fate::Up);
    world.run(MS * 1_500);
    assert_eq!(standing(&mut world), held(true, None));
    world.judged();
}

#[test]
fn a_minority_stops_what_it_holds_and_answers_nobody_anything_else() {
    let mut world = five(5);
    world.give(0, "web", 5, 0).unwrap();
    world.run(Nanos::from_secs(3));
    world.side = vec![1, 1, 0, 0, 0];
    for (host, other) in [(0, 2), (0, 3), (0, 4), (1, 2), (1, 3), (1, 4)] {
        world.believe(host, other, false);
        world.believe(other, host, false);
    }
    world.run(Nanos::from_secs(4));
    assert!(world.hosts[0].runs.is_empty() && world.hosts[1].runs.is_empty());
    assert_eq!(world.give(0, "more", 1, 0), Err(Unanswered::Silence));
    assert!(matches!(world.give(2, "most", 1, 0), Ok(Reply::Given(_))));
    world.run(Nanos::from_secs(6));
    assert_eq!(world.runs(3, "web").len(), 5, "on three machines");
    world.side = vec![0; 5];
    world.run(Nanos::from_secs(10));
    assert!(matches!(
        world.give(0, "more", 1, 0),
        Ok(Reply::Given(_)) | Ok(Reply::Refused(_))
    ));
    world.judged();
}

#[test]
fn whoever_is_away_for_long_loses_its_vote_to_one_who_is_there() {
    let mut world = World::new(6, 8);
    world.run(Nanos::from_secs(20));
    let voters = |world: &World, host: usize| {
        let voters = world.hosts[host].council.as_ref().unwrap().voters();
        voters
            .unwrap()
            .iter()
            .map(|tile| tile.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(voters(&world, 0), [0, 1, 2, 3, 4]);
    world.crash(2);
    world.run(Nanos::from_secs(20));
    assert_eq!(voters(&world, 0), [0, 1, 2, 3, 4], "it may be back soon");
    world.run(Nanos::from_secs(20));
    assert_eq!(voters(&world, 0), [0, 1, 3, 4, 5]);
    // Two more, and nobody to take their votes: three are enough.
    world.crash(1);
    world.crash(3);
    world.run(Nanos::from_secs(50));
    assert_eq!(voters(&world, 0), [0, 4, 5]);
    for host in 1..4 {
        world.start(host);
    }
    world.run(Nanos::from_secs(20));
    assert_eq!(voters(&world, 5).len(), 5);
    world.judged();
}

/// Each gives its vote back before it goes, and the next goes at once: nobody waits for one that has left.
#[test]
fn machines_that_leave_one_after_another_take_no_vote_along() {
    for (hosts, seed) in [(2, 1), (3, 2), (5, 3), (6, 4)] {
        let mut world = World::new(hosts, seed);
        world.run(Nanos::from_secs(20));
        world.give(0, "web", 1, 0).unwrap();
        for leaver in 0..hosts - 1 {
            if seed % 2 == 0 {
                world.duty(leaver, leaver as u64, Duty::Draining);
                world.run(Nanos::from_secs(2));
            }
            leave(&mut world, leaver);
            world.crash(leaver);
        }
        world.run(Nanos::from_secs(10));
        assert_eq!(world.runs(hosts - 1, "web").len(), 1, "of {hosts}");
        // Who comes back serves, and votes where that makes sense.
        (0..hosts - 1).for_each(|host| world.start(host));
        world.run(Nanos::from_secs(25));
        let machines = world.affairs(0).machines;
        assert!(
            machines.iter().all(|it| it.duty == Duty::Serving),
            "{machines:?}"
        );
        let voters = world.hosts[hosts - 1].council.as_ref().unwrap().voters();
        let expected = [1, 1, 3, 3, 5, 5][hosts - 1];
        assert!(voters.unwrap().len() >= expected, "of {hosts}: {voters:?}");
        world.judged();
    }
}

/// One says that it leaves and gives back its vote, as often as it takes.
fn leave(world: &mut World, leaver: usize) {
    let (tile, last) = (Tile(leaver as u64), world.hosts.len() - 1);
    world.duty(leaver, tile.0, Duty::Leaving);
    let asked = world.now;
    let left = |world: &World| {
        let voters = world.hosts[last].council.as_ref().unwrap().voters();
        voters.is_some_and(|voters| !voters.contains(tile))
    };
    // As long as nobody else has a vote it cannot be given back, and it is asked again.
    while !left(world) {
        assert!(
            world.now.since(asked) < Nanos::from_secs(15),
            "{leaver} of {}",
            last + 1
        );
        world.run(Nanos::from_millis(500));
        let (token, until) = (0, world.local(leaver) + Nanos::SECOND);
        let ask = consensus::Ask::Retire(tile);
        world.tell(leaver, Input::Ask { token, ask, until });
        world.run(Nanos::from_millis(500));
    }
    // It is there for a while yet, and is not given it anew.
    world.run(Nanos::from_secs(3));
    assert!(left(world), "{leaver} of {}", last + 1);
}

#[test]
fn a_vote_goes_to_one_who_drains_rather_than_away() {
    let mut world = World::new(2, 5);
    world.run(Nanos::from_secs(20));
    world.duty(0, 1, Duty::Draining);
    world.run(Nanos::from_secs(2));
    leave(&mut world, 0);
    world.crash(0);
    world.run(Nanos::from_secs(10));
    // It can still agree on something, alone.
    world.duty(1, 1, Duty::Serving);
    world.run(Nanos::from_secs(2));
    let machines = world.affairs(1).machines;
    assert!(
        machines
            .iter()
            .any(|it| it.tile == Tile(1) && it.duty == Duty::Serving)
    );
    world.judged();
}

/// Bytes that nobody should say: whatever a voter is told by its log, every voter comes to the same state, which has one spelling, and a member can neither
/// decree nor report what is not its own.
#[test]
fn a_register_survives_what_it_is_told() {
    let mut chance = Stream::new(9, Tile(0), Purpose::Faults);
    let lease = Lease {
        program: 3,
        replica: 0,
    };
    let by = |tile| {
        Some(Author {
            tile: Tile(tile),
            desk: 1,
            life: 1,
        })
    };
    let give = Command::Give {
        name: "web".into(),
        spec: [7; 9].as_slice().into(),
        replicas: 2,
        demand: Room::default(),
        class: Class::C,
        doors: vec![Door {
            port: 80,
            outside: true,
        }],
    };
    let place = Command::Place {
        lease,
        to: Tile(1),
        on: Evidence {
            funnel: funnel(3, &[(Test::Silent, 1), (Test::Gpu, 1)]),
            candidates: vec![Candidate {
                machine: 1,
                score: Apart {
                    beside: 1,
                    taken: 250,
                    claims: 2,
                },
            }],
        },
    };
    let report = Command::Report {
        lease,
        fence: Index(4),
        fate: Fate::Unable("no".into()),
    };
    let commands: Vec<Vec<u8>> = [
        give.clone(),
        place.clone(),
        report.clone(),
        Command::Lease(lease::Command::Renew),
        Command::Lease(lease::Command::Grant { lease, to: Tile(2) }),
        Command::Offer(Room::default()),
        Command::Open {
            program: 3,
            replica: 2,
        },
        Command::Recall {
            lease,
            why: Why::Surplus,
        },
        Command::Wait {
            lease,
            on: funnel(5, &[(Test::Draining, 2), (Test::Port, 3)]),
        },
        Command::Stop { name: "web".into() },
        Command::Forget { name: "web".into() },
    ]
    .iter()
    .map(|command| {
        let bytes = command.to_bytes();
        assert_eq!(decode_all::<Command>(&bytes).as_ref(), Ok(command));
        bytes
    })
    .collect();
    let mut register = Register::new(Terms::default());
    for at in 1..20_000 {
        let mut bytes = commands[chance.below(commands.len() as u64) as usize].clone();
        for _ in 0..chance.below(3) {
            let place = chance.below(bytes.len() as u64) as usize;
            match chance.below(3) {
                0 => bytes[place] = chance.next_u64() as u8,
                1 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, chance.next_u64() as u8),
            }
        }
        let author = chance.chance(0.7).then(|| by(chance.below(3)).unwrap());
        register.apply(Index(at), author, &bytes);
        if at % 16 == 0 {
            let written = register.to_bytes();
            assert_eq!(decode_all::<Register>(&written).as_ref(), Ok(&register));
            let affairs = register.affairs();
            let written = Reply::Affairs(affairs).to_bytes();
            assert!(decode_all::<Reply>(&written).is_ok());
        }
    }
    // In order, by whom it may be said, and by whom not.
    let mut register = Register::new(Terms::default());
    let said = |register: &mut Register, at: u64, author: Option<Author>, command: &Command| {
        register.apply(Index(at), author, &command.to_bytes());
        register.leases().holder(lease).map(|(tile, _)| tile.0)
    };
    let renew = Command::Lease(lease::Command::Renew);
    said(&mut register, 1, by(1), &renew);
    said(&mut register, 3, by(2), &give);
    assert_eq!(
        said(&mut register, 4, by(2), &place),
        None,
        "only a leader places"
    );
    assert_eq!(said(&mut register, 4, None, &place), Some(1));
    let ended = Command::Report {
        lease,
        fence: Index(4),
        fate: Fate::Ended(0),
    };
    said(&mut register, 5, by(2), &ended);
    said(&mut register, 6, None, &ended);
    assert!(
        matches!(
            register.affairs().programs[0].standing[0].1,
            Standing::Held { .. }
        ),
        "it is not theirs"
    );
    // Who rises and falls all day leaves of it the last, and what was decided before.
    for turn in 0..200 {
        let fate = if turn % 2 == 0 {
            Fate::Up
        } else {
            Fate::Fell(1)
        };
        let report = Command::Report {
            lease,
            fence: Index(4),
            fate,
        };
        said(&mut register, 100 + turn, by(1), &report);
    }
    let decided: Vec<_> = register.decisions().map(|d| d.what.clone()).collect();
    let expected = [
        What::Given(2),
        What::Placed(Tile(1), 1),
        What::Fell(Tile(1), 1),
    ];
    assert_eq!(decided, expected);
    said(&mut register, 400, by(1), &ended);
    assert_eq!(
        register.affairs().programs[0].standing[0].1,
        Standing::Ended(0)
    );
}

#[test]
fn a_vote_that_was_lost_is_taken_back_before_it_is_given_again() {
    let mut world = World::new(3, 6);
    world.run(Nanos::from_secs(15));
    world.crash(1);
    world.hosts[1].disk.clear();
    let local = world.local(1);
    let all = (0..3).map(Tile);
    world.hosts[1].lives += 1;
    let lives = world.hosts[1].lives;
    let council = Council::new(
        config(),
        (Tile(1), lives),
        Vote::Lost,
        Room::default(),
        all,
        99,
        local,
    );
    world.hosts[1].council = Some(council.unwrap());
    for (host, other) in [(0, 1), (2, 1), (1, 0), (1, 2)] {
        world.believe(host, other, true);
    }
    world.plan(1);
    world.run(Nanos::from_secs(20));
    for host in &world.hosts {
        let council = host.council.as_ref().unwrap();
        assert_eq!(council.voters().map(|voters| voters.len()), Some(3));
        assert!(council.register().is_some());
    }
    world.judged();
}

impl World {
    /// The numbers of a program, as any voter knows them.
    fn programs_of(&self, name: &str) -> BTreeSet<u64> {
        let councils = self.hosts.iter().filter_map(|host| host.council.as_ref());
        let registers = councils.filter_map(Council::register);
        let all = registers.flat_map(|register| register.affairs().programs);
        all.filter(|program| program.name == name)
            .map(|program| program.number)
            .collect()
    }
}

//= requirements S2
#[test]
fn nobody_runs_what_another_runs_whatever_happens_and_peace_brings_all_of_it_back() {
    let seeds = std::env::var("COUNCIL_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(40);
    let mut total: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let mut world = five(1_000 + seed);
        let mut faults = Stream::new(seed, Tile(9), Purpose::Faults);
        for (name, replicas) in [("a", 1), ("b", 2), ("c", 4)] {
            world.give(0, name, replicas, 100).unwrap();
        }
        world.foul = true;
        for _ in 0..40 {
            let host = faults.below(5) as usize;
            match faults.below(8) {
                0 | 1 => world.crash(host),
                2 | 3 => world.pause(host),
                4 => world.side = (0..5).map(|_| faults.below(2) as u8).collect(),
                5 => {
                    let (tile, duty) = (
                        Tile(host as u64),
                        [Duty::Draining, Duty::Serving, Duty::Leaving][faults.below(3) as usize],
                    );
                    let command = Command::Lease(lease::Command::Assign { tile, duty });
                    let until = world.local(host) + Nanos::from_secs(2);
                    world.tell(
                        host,
                        Input::Ask {
                            token: 0,
                            ask: apply(&command),
                            until,
                        },
                    );
                }
                _ => {
                    for host in 0..5 {
                        if world.hosts[host].council.is_none() && faults.chance(0.7) {
                            world.start(host);
                        }
                        if faults.chance(0.6) {
                            world.go_on(host);
                        }
                    }
                    world.side = vec![0; 5];
                }
            }
            let span = faults.span(Nanos::from_secs(5));
            world.run(span);
        }
        // Peace.
        world.foul = false;
        world.side = vec![0; 5];
        for host in 0..5 {
            world.go_on(host);
            if world.hosts[host].council.is_none() {
                world.start(host);
            }
        }
        world.run(Nanos::from_secs(40));
        for host in 0..5 {
            world.duty(host, host as u64, Duty::Serving);
        }
        world.run(Nanos::from_secs(20));
        for (name, replicas) in [("a", 1), ("b", 2), ("c", 4)] {
            let runs = world.runs(4, name);
            // Two may have come to one machine when there were few: nothing moves for beauty.
            assert_eq!(runs.len(), replicas, "seed {seed}, {name}: {runs:?}");
        }
        assert_eq!(
            world.hosts[0]
                .council
                .as_ref()
                .unwrap()
                .voters()
                .unwrap()
                .len(),
            5,
            "seed {seed}"
        );
        world.judged();
        for (what, count) in world.count {
            *total.entry(what).or_default() += count;
        }
    }
    println!("{total:?}");
    // Each kind of trouble was met.
    for what in ["crash", "pause", "end", "dead man's handle", "begin"] {
        assert!(
            total.get(what).is_some_and(|count| *count > seeds / 4),
            "{what}: {total:?}"
        );
    }
}
