//! A host's seat in the council, and what runs there under leases.
//!
//! The machine is [`node::Council`], as daemons run it, with their terms. What stands over a program is modelled: it ends when nobody has
//! put off its end, whether or not its daemon is stopped, and it dies with its daemon. A program takes no time to start or to end; nobody
//! asks a server under load for anything, whose throughput is where it ran when.

use std::collections::BTreeMap;

use consensus::lease::{self, Duty};
use consensus::{Index, Lease, Message};
use machine::{Machine as _, Persist, Persisted};
use node::Council;
use node::council::{Became, Command, Config, Effect, Fate, Input, Room, Vote, apply};
use wire::{Class, Encode as _, Instant, Nanos, Tile};

use super::{Event, World};
use crate::fleet::history::Leases;
use crate::fleet::leases;

/// From being granted a program to saying that it is well.
const WELL_AFTER: Nanos = Nanos::from_millis(200);
/// What is lost is sent again after so long (RFC 9002: a probe after a round trip and the longest delay of an acknowledgement).
const AGAIN_AFTER: Nanos = Nanos::from_millis(30);

/// What a host keeps of the council and of what it runs.
#[derive(Default)]
pub(super) struct Seat {
    council: Option<Council>,
    disk: Vec<Vec<u8>>,
    runs: BTreeMap<Lease, Run>,
    armed: Option<Instant>,
    lines: Vec<leases::Line>,
    deaths_ns: Vec<u64>,
}

struct Run {
    fence: Index,
    name: String,
    /// By the host's clock: it ends then, if nobody has said a later one.
    until: Instant,
}

/// What can happen to a seat.
pub(super) enum Happening {
    Arrives(Message),
    Wakes,
    Durable(Persist, bool),
    /// The end of what runs under a lease may have come.
    Grip(Lease, Index),
    Over(Lease, Index),
    Well(Lease, Index),
    /// Everything is handed to the fleet.
    Given,
}

impl Happening {
    /// Whether it happens to a host whose daemon is stopped.
    pub(super) const fn needs_no_daemon(&self) -> bool {
        matches!(self, Self::Grip(..))
    }
}

impl World<'_> {
    /// A host takes its seat as it begins.
    pub(super) fn sit(&mut self, host: u32) {
        let now = self.local(host);
        let seed = self.chance.next_u64();
        let at = &mut self.hosts[host as usize];
        let vote = match (at.seat.disk.is_empty(), host) {
            (false, _) => Vote::Again(at.seat.disk.clone()),
            (true, 0) => Vote::Found,
            (true, _) => Vote::Never,
        };
        let room = Room {
            cpu_milli: 2_000,
            memory: 8 << 30,
            gpus: 0,
        };
        let all = (0..u64::from(self.scene.config.hosts)).map(Tile);
        let me = (Tile(host.into()), u64::from(at.life));
        let council = Council::new(Config::of_a_fleet(), me, vote, room, all.clone(), seed, now);
        at.seat.council = Some(council.expect("its own records"));
        at.seat.armed = None;
        for tile in all {
            self.tell_seat(host, Input::Believed(tile, true));
        }
    }

    /// Its daemon dies, and what it runs with it.
    pub(super) fn unseat(&mut self, host: u32) {
        let boottime = self.boottime();
        let seat = &mut self.hosts[host as usize].seat;
        seat.council = None;
        seat.runs.clear();
        seat.deaths_ns.push(boottime);
    }

    pub(super) fn believe(&mut self, host: u32, about: u32, present: bool) {
        self.tell_seat(host, Input::Believed(Tile(about.into()), present));
    }

    pub(super) fn befalls_seat(&mut self, host: u32, what: Happening) {
        match what {
            Happening::Arrives(message) => self.tell_seat(host, Input::Received(message)),
            Happening::Wakes => {
                if self.hosts[host as usize].seat.armed == Some(self.now) {
                    self.hosts[host as usize].seat.armed = None;
                    self.wake_seat(host);
                }
            }
            Happening::Durable(persist, replaces) => {
                let disk = &mut self.hosts[host as usize].seat.disk;
                if replaces {
                    disk.clear();
                }
                disk.push(persist.bytes);
                let token = persist.token;
                self.tell_seat(host, Input::Persisted(Persisted { token }));
            }
            Happening::Grip(lease, fence) => {
                let now = self.local(host);
                let Some(until) = self.run_of(host, lease, fence).map(|run| run.until) else {
                    return;
                };
                if until <= now {
                    self.ends(host, lease);
                } else {
                    let at = self.now + until.since(now);
                    self.add_seat(at, host, Happening::Grip(lease, fence));
                }
            }
            Happening::Over(lease, fence) => {
                if self.run_of(host, lease, fence).is_some() {
                    self.ends(host, lease);
                    self.tell_seat(host, Input::Became(lease, fence, Became::Over));
                }
            }
            Happening::Well(lease, fence) => {
                if self.run_of(host, lease, fence).is_some() {
                    let well = Became::Fated(Fate::Up);
                    self.tell_seat(host, Input::Became(lease, fence, well));
                }
            }
            Happening::Given => {
                for program in &self.scene.config.programs {
                    let give = Command::Give {
                        name: program.name.clone(),
                        spec: program.name.as_bytes().into(),
                        replicas: program.replicas,
                        demand: Room::default(),
                        class: Class::C,
                        doors: Vec::new(),
                    };
                    self.ask(host, &give);
                }
            }
        }
    }

    fn ask(&mut self, host: u32, command: &Command) {
        self.asked += 1;
        let (token, ask) = (self.asked, apply(command));
        let until = self.local(host) + Nanos::from_secs(10);
        self.tell_seat(host, Input::Ask { token, ask, until });
    }

    /// Somebody asks at a host that it drain, or serve again.
    pub(super) fn assign(&mut self, host: u32, duty: Duty) {
        let tile = Tile(host.into());
        let assign = lease::Command::Assign { tile, duty };
        self.ask(host, &Command::Lease(assign));
    }

    fn run_of(&self, host: u32, lease: Lease, fence: Index) -> Option<&Run> {
        let run = self.hosts[host as usize].seat.runs.get(&lease);
        run.filter(|run| run.fence == fence)
    }

    pub(super) fn add_seat(&mut self, at: Instant, host: u32, what: Happening) {
        let life = self.hosts[host as usize].life;
        self.add(at, host, Event::Seat { life, what });
    }

    fn wake_seat(&mut self, host: u32) {
        let now = self.local(host);
        let Some(council) = &mut self.hosts[host as usize].seat.council else {
            return;
        };
        let mut effects = Vec::new();
        council.wake(now, &mut |effect| effects.push(effect));
        self.obey_seat(host, effects);
    }

    fn tell_seat(&mut self, host: u32, input: Input) {
        let now = self.local(host);
        let Some(council) = &mut self.hosts[host as usize].seat.council else {
            return;
        };
        let mut effects = Vec::new();
        council.handle(now, input, &mut |effect| effects.push(effect));
        self.obey_seat(host, effects);
    }

    fn obey_seat(&mut self, host: u32, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    let to = u32::try_from(to.0).expect("a tile of this fleet");
                    let bytes = message.to_bytes().len();
                    if let Some(at) = self.reliably(host, to, bytes) {
                        self.add_seat(at, to, Happening::Arrives(message));
                    }
                }
                Effect::Persist(persist) => self.keep(host, persist, false),
                Effect::Replace(persist) => self.keep(host, persist, true),
                Effect::Rejoined => self.hosts[host as usize].seat.disk.clear(),
                Effect::Begin {
                    lease, fence, name, ..
                } => self.begins(host, lease, fence, name),
                Effect::Finish { lease, fence } => {
                    self.add_seat(self.now, host, Happening::Over(lease, fence));
                }
                Effect::End { lease, .. } => self.ends(host, lease),
                Effect::Answered { .. } | Effect::Refused { .. } => {}
            }
        }
        self.put_off(host);
        let now = self.local(host);
        let seat = &mut self.hosts[host as usize].seat;
        let due = seat.council.as_ref().and_then(|council| council.deadline());
        let due = due.map(|due| self.now + due.since(now));
        if let Some(due) = due
            && seat.armed.is_none_or(|armed| due < armed)
        {
            seat.armed = Some(due);
            self.add_seat(due, host, Happening::Wakes);
        }
    }

    /// When what is sent until it arrives does so; never if it cannot.
    fn reliably(&mut self, from: u32, to: u32, bytes: usize) -> Option<Instant> {
        let mut late = Nanos::ZERO;
        for _ in 0..10 {
            if let Some(at) = self.way(from, to, bytes) {
                return Some(at + late);
            }
            if self.cut(from, to) {
                return None;
            }
            late = late * 2 + AGAIN_AFTER;
        }
        None
    }

    fn keep(&mut self, host: u32, persist: Persist, replaces: bool) {
        if !self.hosts[host as usize].full {
            let at = self.now + self.scene.config.links.persist;
            self.add_seat(at, host, Happening::Durable(persist, replaces));
        }
    }

    fn begins(&mut self, host: u32, lease: Lease, fence: Index, name: String) {
        let now = self.local(host);
        let seat = &mut self.hosts[host as usize].seat;
        let until = seat.council.as_ref().map_or(now, Council::until);
        let run = Run { fence, name, until };
        seat.runs.insert(lease, run);
        self.note(host, lease, leases::Event::Begin);
        self.add_seat(
            self.now + until.since(now),
            host,
            Happening::Grip(lease, fence),
        );
        self.add_seat(self.now + WELL_AFTER, host, Happening::Well(lease, fence));
    }

    fn ends(&mut self, host: u32, lease: Lease) {
        if self.hosts[host as usize].seat.runs.contains_key(&lease) {
            self.note(host, lease, leases::Event::End);
            self.hosts[host as usize].seat.runs.remove(&lease);
        }
    }

    /// Whatever is held may go on as long as the council says.
    fn put_off(&mut self, host: u32) {
        let seat = &mut self.hosts[host as usize].seat;
        let Some(council) = &seat.council else { return };
        let until = council.until();
        for (lease, fence) in council.held() {
            if let Some(run) = seat.runs.get_mut(&lease)
                && run.fence == fence
            {
                run.until = run.until.max(until);
            }
        }
    }

    fn note(&mut self, host: u32, lease: Lease, event: leases::Event) {
        let boottime_ns = self.boottime();
        let seat = &mut self.hosts[host as usize].seat;
        let Some(run) = seat.runs.get(&lease) else {
            return;
        };
        seat.lines.push(leases::Line {
            boottime_ns,
            unix_ns: boottime_ns,
            event,
            program: run.name.clone(),
            number: lease.program,
            replica: lease.replica,
            fence: run.fence.0,
        });
    }

    /// What all hosts' clocks since boot say.
    pub(super) fn boottime(&self) -> u64 {
        self.now.0 + self.origin
    }
}

impl Seat {
    /// As a daemon writes it down.
    pub(super) fn told(&self) -> Leases {
        let line = |line| serde_json::to_string(line).expect("a line is plain data") + "\n";
        Leases {
            text: self.lines.iter().map(line).collect(),
            deaths_ns: self.deaths_ns.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scene;
    use crate::fleet::{Samples, config, leases};
    use crate::universe::Document;

    #[test]
    fn what_is_given_runs_before_the_time_begins_to_count_and_again_after_a_death() {
        let text = "[time]\nend = '40 s'\n[hosts]\ncount = 5\n\
                    [[program]]\nname = 'web'\nreplicas = 3\ncommand = ['true']\n\
                    [[fault]]\nkind = 'kill'\nat = '1 s'\nhosts = [2]\n";
        let document = Document::parse("five.toml", text, &[]).unwrap();
        let read = document.read(|root| config::read(root, String::new(), String::new()));
        let config = read.unwrap();
        let scene = Scene::new(&config);
        let mut moved = 0;
        for seed in 0..10 {
            let history = scene.rehearse(seed).history;
            assert_eq!(history.wrong_with_leases().unwrap(), [], "seed {seed}");
            let told = history.leases.iter();
            let told: Vec<_> = told
                .map(|told| (leases::read(&told.text).unwrap(), told.deaths_ns.clone()))
                .collect();
            let (held, _) = leases::held(&told);
            assert_eq!(held.len(), 3, "seed {seed}: {held:?}");
            let failovers = Samples::of(&config, &history).failover;
            let failovers = failovers.get("kill").map_or(0, Vec::len);
            let lost = held.values().filter(|held| held[0].host == 1).count();
            assert_eq!(failovers, lost, "seed {seed}: {held:?}");
            for held in held.values() {
                assert!(held[0].from < history.began_boottime_ns, "seed {seed}");
                let last = held.last().unwrap();
                assert!(
                    last.host != 1 && last.until == u64::MAX,
                    "seed {seed}: {held:?}"
                );
                moved += usize::from(held[0].host == 1);
            }
        }
        assert!(moved > 0, "the dead one never held anything");
    }
}
