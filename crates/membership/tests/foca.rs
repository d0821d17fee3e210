//! Side by side with foca, the SWIM of the Rust world: the same cell, the same deaths, the same
//! loss and delay, each with the configuration its authors recommend.

mod simulated;

use std::num::NonZeroU32;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, Identity, OwnedNotification, PostcardCodec, Timer};
use membership::Peer;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde::{Deserialize, Serialize};
use simulated::{Agenda, Links, World, config, some};
use wire::{Instant, Nanos};

const TILES: u32 = 100;
const DEATHS: usize = 5;
const LOSS: f64 = 0.01;
const WARM_UP: Nanos = Nanos::from_secs(20);
const WATCHED: Nanos = Nanos::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Id(u16);

impl Identity for Id {
    type Addr = u16;
    fn renew(&self) -> Option<Self> {
        None
    }
    fn addr(&self) -> u16 {
        self.0
    }
    fn win_addr_conflict(&self, _: &Self) -> bool {
        unreachable!("identities are addresses")
    }
}

enum Event {
    Arrive(usize, Vec<u8>),
    Timer(usize, Timer<Id>),
}

struct FocaCell {
    members: Vec<Option<Foca<Id, PostcardCodec, StdRng, foca::NoCustomBroadcast>>>,
    agenda: Agenda<Event>,
    links: Links,
    now: Instant,
    sent: u64,
    downs: Vec<(Instant, usize, u16)>,
}

impl FocaCell {
    fn new(config: &foca::Config, seed: u64) -> Self {
        let mut cell = Self {
            members: Vec::new(),
            agenda: Agenda::new(),
            links: Links::new(TILES, seed),
            now: Instant::EPOCH,
            sent: 0,
            downs: Vec::new(),
        };
        cell.links.loss = LOSS;
        let all = || (0..TILES as u16).map(|id| foca::Member::alive(Id(id)));
        for id in 0..TILES as u16 {
            let chance = StdRng::seed_from_u64(seed << 16 | u64::from(id));
            let mut foca = Foca::new(Id(id), config.clone(), chance, PostcardCodec);
            let mut runtime = AccumulatingRuntime::new();
            let others = all().filter(|member| member.id().0 != id);
            foca.apply_many(others, true, &mut runtime).unwrap();
            cell.members.push(Some(foca));
            cell.settle(usize::from(id), runtime);
        }
        cell
    }

    fn run(&mut self, span: Nanos) {
        let until = self.now + span;
        while let Some((at, event)) = self.agenda.next_until(until) {
            self.now = at;
            let mut runtime = AccumulatingRuntime::new();
            let (Event::Arrive(of, _) | Event::Timer(of, _)) = event;
            let Some(member) = &mut self.members[of] else {
                continue;
            };
            // Its errors are of the kind "a stale timer"; it keeps its state.
            let _ = match event {
                Event::Arrive(_, bytes) => member.handle_data(&bytes, &mut runtime),
                Event::Timer(_, timer) => member.handle_timer(timer, &mut runtime),
            };
            self.settle(of, runtime);
        }
        self.now = until;
    }

    fn settle(&mut self, of: usize, mut runtime: AccumulatingRuntime<Id>) {
        while let Some((to, bytes)) = runtime.to_send() {
            self.sent += 1;
            if let Some(delay) = self.links.carry(of, usize::from(to.0)) {
                let arrival = Event::Arrive(usize::from(to.0), bytes.to_vec());
                self.agenda.add(self.now + delay, arrival);
            }
        }
        while let Some((after, timer)) = runtime.to_schedule() {
            let due = self.now + nanos(after);
            self.agenda.add(due, Event::Timer(of, timer));
        }
        while let Some(notification) = runtime.to_notify() {
            if let OwnedNotification::MemberDown(id) = notification {
                self.downs.push((self.now, of, id.0));
            }
        }
    }
}

fn nanos(duration: Duration) -> Nanos {
    Nanos(u64::try_from(duration.as_nanos()).unwrap())
}

/// Delays from death to each survivor's removal of each victim, messages before and after.
type Measured = (Vec<Nanos>, u64, u64);

fn foca_measured(config: &foca::Config, seed: u64, victims: &[Peer]) -> Measured {
    let mut cell = FocaCell::new(config, seed);
    cell.run(WARM_UP);
    let quiet = cell.sent;
    let died = cell.now;
    for victim in victims {
        cell.members[usize::from(victim.0)] = None;
    }
    cell.run(WATCHED);
    let is_victim = |id: u16| victims.contains(&Peer(id));
    let downs = cell.downs.iter().filter(|(at, ..)| *at >= died);
    let delays = downs
        .filter(|(_, observer, id)| is_victim(*id) && !is_victim(*observer as u16))
        .map(|(at, ..)| at.since(died))
        .collect();
    (delays, quiet, cell.sent - quiet)
}

fn measured(seed: u64, victims: &[Peer]) -> Measured {
    let mut world = World::new(config(TILES), seed);
    world.links.loss = LOSS;
    world.run(WARM_UP);
    let quiet = world.sent;
    let died = world.now;
    for &victim in victims {
        world.kill(victim);
    }
    world.run(WATCHED);
    let delays = world.removal_delays(victims, died);
    (delays.sorted().to_vec(), quiet, world.sent - quiet)
}

//= requirements M1
#[test]
fn a_death_is_known_no_later_than_with_foca_and_for_fewer_messages() {
    const RUNS: u64 = 8;
    let recommended = foca::Config::new_lan(NonZeroU32::new(TILES).unwrap());
    // As fast as cosmOS ever removes, without asking for confirmation, and as impatient.
    let mut hurried = recommended.clone();
    hurried.suspect_to_down_after = Duration::from_secs(2);
    hurried.probe_rtt = Duration::from_millis(200);

    let tabulate = |name: &str, measure: &dyn Fn(u64, &[Peer]) -> Measured| {
        let mut pairs = Vec::new();
        let (mut quiet, mut busy) = (0, 0);
        for seed in 0..RUNS {
            let (delays, before, after) = measure(seed, &some(TILES, DEATHS, seed));
            pairs.extend(delays);
            quiet += before;
            busy += after;
        }
        pairs.sort();
        let at = |q: f64| pairs[(q * (pairs.len() - 1) as f64) as usize].as_secs_f64();
        let rate = |sent: u64, span: Nanos| {
            sent as f64 / (RUNS * u64::from(TILES)) as f64 / span.as_secs_f64()
        };
        let (quiet, busy) = (rate(quiet, WARM_UP), rate(busy, WATCHED));
        println!(
            "{name}: {} pairs, p50 {:.2} s, p99 {:.2} s, max {:.2} s; {quiet:.2} messages per tile and second, {busy:.2} after the deaths",
            pairs.len(),
            at(0.5),
            at(0.99),
            at(1.0),
        );
        (pairs.len(), [at(0.5), at(0.99), quiet, busy])
    };
    let (pairs, ours) = tabulate("cosmOS", &measured);
    let all = RUNS as usize * DEATHS * (TILES as usize - DEATHS);
    assert_eq!(pairs, all, "somebody was never told");
    for (name, config) in [("foca", recommended), ("foca, hurried", hurried)] {
        let (_, theirs) = tabulate(name, &|seed, victims| foca_measured(&config, seed, victims));
        let no_worse = ours.iter().zip(&theirs).all(|(our, their)| our <= their);
        assert!(no_worse, "{name}: {ours:?} against {theirs:?}");
    }
}
