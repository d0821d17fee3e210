//! The real code under a model checker: three tori, an errand over all of them,
//! and a death, a loss, a doubled packet and late ones at every moment at which
//! they can be.
//!
//! Packets arrive in the order sent except for those that are late, which come after
//! the next tick of anybody. How many may be late is given: all schedules with so
//! many deviations are tried (delay-bounded scheduling, Emmi, Qadeer and Rakamarić,
//! POPL 2011). `lost.rs` shuffles without a bound, and without trying everything.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};

use crate::world::{Errand, Teller, World, config};
use machine::Machine;
use runtime::{Effect, Input, Offer, Pid, Report, Strand, Torus};
use stateright::{Checker, Model, Property};
use wire::{Instant, Nanos};

/// What is explored.
#[derive(Clone, Copy, Debug)]
struct Trial {
    losses: u8,
    doubles: u8,
    deaths: u8,
    lates: u8,
    horizon: Nanos,
    /// From when on every errand must have ended.
    settled: Nanos,
}

/// By whom, to whom.
type Packet = (Strand, Strand, Vec<u8>);

#[derive(Clone, Debug)]
struct Universe {
    /// Of everything below, made when an action is done.
    digest: u64,
    tori: [Option<Torus<Teller>>; 3],
    line: Vec<Packet>,
    now: Instant,
    begun: Instant,
    losses: u8,
    doubles: u8,
    deaths: u8,
    lates: u8,
    /// Comes after the next tick.
    late: Vec<Packet>,
    offers: [Vec<Offer<Teller>>; 3],
    accepted: [u64; 3],
    told: [BTreeMap<u64, Report<Errand>>; 3],
    /// What each torus was after so many sheets.
    history: [BTreeMap<u64, u64>; 3],
    rebuilt: u8,
    wrong: Option<String>,
}

/// Everything that can be seen of a value goes into its hash.
struct Seen(DefaultHasher);

impl Write for Seen {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}

fn digest(value: &impl fmt::Debug) -> u64 {
    let mut seen = Seen(DefaultHasher::new());
    write!(seen, "{value:?}").expect("hashing does not fail");
    seen.0.finish()
}

impl Hash for Universe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.digest.hash(state);
    }
}

impl PartialEq for Universe {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Deliver,
    Lose,
    Double,
    Delay,
    Kill(Strand),
    Wait,
}

impl Universe {
    fn digest(&mut self) {
        self.digest = 0;
        self.digest = digest(self);
    }

    fn act(&mut self, strand: Strand, input: Option<Input<Teller>>) {
        let Some(torus) = &mut self.tori[strand as usize] else {
            return;
        };
        let mut effects = Vec::new();
        match input {
            Some(input) => torus.handle(self.now, input, &mut |e| effects.push(e)),
            None => torus.wake(self.now, &mut |e| effects.push(e)),
        }
        self.remember(strand);
        for effect in effects {
            match effect {
                Effect::Send { to, bytes } => self.line.push((strand, to, bytes)),
                Effect::Accepted { upto } => {
                    let accepted = &mut self.accepted[strand as usize];
                    *accepted = upto.max(*accepted);
                }
                Effect::Told { number, report } => {
                    let told = &mut self.told[strand as usize];
                    let before = told.insert(number, report.clone());
                    if before.is_some_and(|before| before != report) {
                        self.wrong = Some(format!("{strand} told {number} twice"));
                    }
                    let upto = (0..).find(|n| !told.contains_key(n)).unwrap_or(0);
                    self.act(strand, Some(Input::Taken { upto }));
                }
                Effect::Rebuilt(torus) => {
                    let of = torus.strand();
                    let sheet = torus.held();
                    let was = self.history[of as usize].range(sheet..).next();
                    let is = digest(&torus.lattice().canonical());
                    if was.is_none_or(|(_, &was)| was != is) {
                        self.wrong = Some(format!("{of} is not what it was at {sheet}"));
                    }
                    self.history[of as usize].split_off(&(sheet + 1));
                    self.tori[of as usize] = Some(*torus);
                    self.rebuilt += 1;
                    self.remember(of);
                    // The client offers again what it has no word of.
                    let offers = self.offers[of as usize].clone();
                    let first = self.accepted[of as usize];
                    for (number, offer) in (0..).zip(offers).skip(first as usize) {
                        self.act(of, Some(Input::Offered { number, offer }));
                    }
                }
                other => self.wrong = Some(format!("{strand}: {other:?}")),
            }
        }
    }

    fn remember(&mut self, strand: Strand) {
        let Some(torus) = &self.tori[strand as usize] else {
            return;
        };
        if let Some(written) = torus.written() {
            let history = &mut self.history[strand as usize];
            // The few before the keeper's place are what can be rebuilt.
            let keep = torus.held();
            let of_use = history.range(..keep).next_back().map_or(0, |(&at, _)| at);
            *history = history.split_off(&of_use);
            let now = || digest(&torus.lattice().canonical());
            history.entry(written).or_insert_with(now);
        }
    }

    fn ended(&self) -> Vec<u64> {
        let reports = self.told.iter().flat_map(BTreeMap::values);
        let said = reports.filter_map(|report| match report {
            Report::Said { message, .. } => Some(message.number),
            _ => None,
        });
        let mut ended: Vec<_> = said.collect();
        ended.sort_unstable();
        ended
    }

    /// How often each errand was seen by the tellers that are there.
    fn passed(&self) -> u64 {
        let tori = self.tori.iter().flatten();
        tori.flat_map(|torus| torus.lattice().iter().map(|(_, teller)| teller.passed))
            .sum()
    }
}

const ERRANDS: u64 = 1;
const STOPS: u64 = 2;

impl Model for Trial {
    type State = Universe;
    type Action = Action;

    fn init_states(&self) -> Vec<Universe> {
        let mut config = config();
        config.limits.processes = 64;
        (config.interval_min, config.interval_max) = (Nanos::MILLISECOND, Nanos::MILLISECOND);
        (config.patience, config.audit_every) = (2, 2);
        let mut world = World::new(config, 1);
        let names = world.settle(1);
        world.insist();
        world.run_for(Nanos::from_millis(20));
        // Through the torus that is nobody's first, and back.
        let stops: Vec<Pid> = vec![names[0], names[1]];
        for number in 1..=ERRANDS {
            let (to, stops) = (names[number as usize % 3], stops.clone());
            let message = Errand {
                number,
                stops,
                hurry: 0,
            };
            world.offer(
                to.strand(),
                Offer::Message {
                    to,
                    message,
                    due: Instant::END,
                },
            );
        }
        let mut universe = Universe {
            digest: 0,
            tori: world.tori,
            line: Vec::new(),
            now: world.now,
            begun: world.now,
            losses: 0,
            doubles: 0,
            deaths: 0,
            lates: 0,
            late: Vec::new(),
            offers: world.offers,
            accepted: world.accepted,
            told: world.told,
            history: Default::default(),
            rebuilt: 0,
            wrong: None,
        };
        Strand::ALL
            .into_iter()
            .for_each(|strand| universe.remember(strand));
        universe.digest();
        vec![universe]
    }

    fn actions(&self, state: &Universe, actions: &mut Vec<Action>) {
        if state.line.is_empty() {
            actions.push(Action::Wait);
        } else {
            actions.push(Action::Deliver);
            for (action, had, budget) in [
                (Action::Lose, state.losses, self.losses),
                (Action::Double, state.doubles, self.doubles),
                (Action::Delay, state.lates, self.lates),
            ] {
                if had < budget {
                    actions.push(action);
                }
            }
        }
        if state.deaths < self.deaths {
            actions.extend(Strand::ALL.map(Action::Kill));
        }
    }

    fn next_state(&self, state: &Universe, action: Action) -> Option<Universe> {
        let mut next = state.clone();
        match action {
            Action::Deliver => {
                let (_, to, bytes) = next.line.remove(0);
                next.act(to, Some(Input::Received(bytes)));
            }
            Action::Lose => {
                next.line.remove(0);
                next.losses += 1;
            }
            Action::Double => {
                let copy = next.line[0].clone();
                next.line.push(copy);
                next.doubles += 1;
            }
            Action::Delay => {
                let late = next.line.remove(0);
                next.late.push(late);
                next.lates += 1;
            }
            Action::Kill(strand) => {
                next.tori[strand as usize] = None;
                next.deaths += 1;
            }
            Action::Wait => {
                let deadlines = Strand::ALL.into_iter().filter_map(|strand| {
                    let torus = next.tori[strand as usize].as_ref()?;
                    Some((torus.deadline()?, strand))
                });
                let (due, strand) = deadlines.min()?;
                next.now = next.now.max(due);
                let late = core::mem::take(&mut next.late);
                next.act(strand, None);
                next.line.extend(late);
            }
        }
        // What goes to the dead is nobody's.
        let dead = next.tori.each_ref().map(Option::is_none);
        next.line.retain(|(_, to, _)| !dead[*to as usize]);
        next.digest();
        Some(next)
    }

    fn within_boundary(&self, state: &Universe) -> bool {
        state.now.since(state.begun) <= self.horizon && state.wrong.is_none()
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("who is rebuilt is what it was", |_, state: &Universe| {
                state.wrong.is_none()
            }),
            Property::always("no errand ends twice", |_, state: &Universe| {
                let ended = state.ended();
                ended.iter().collect::<BTreeSet<_>>().len() == ended.len()
            }),
            Property::always("every errand ends in time", |trial, state: &Universe| {
                let passed = state.now.since(state.begun);
                let all = (1..=ERRANDS).collect::<Vec<_>>();
                passed < trial.settled || state.ended() == all
            }),
            Property::always("no stop is counted twice", |_, state: &Universe| {
                state.passed() <= ERRANDS * (STOPS + 1)
            }),
            Property::sometimes("somebody is rebuilt", |trial, state: &Universe| {
                trial.deaths == 0 || state.rebuilt > 0
            }),
            Property::sometimes("all errands end", |_, state: &Universe| {
                state.ended().len() as u64 == ERRANDS
            }),
        ]
    }
}

fn check(name: &str, trial: Trial) {
    let checker = trial.checker().threads(2).spawn_dfs().join();
    println!(
        "{name}: {} states, {} distinct, depth {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth()
    );
    assert!(checker.is_done());
    checker.assert_properties();
}

const PEACE: Trial = Trial {
    losses: 0,
    doubles: 0,
    deaths: 0,
    lates: 0,
    horizon: Nanos::from_millis(2),
    settled: Nanos::from_millis(2),
};

#[test]
fn with_packets_late() {
    let trial = Trial {
        lates: 2,
        horizon: Nanos::from_millis(5),
        settled: Nanos::from_millis(5),
        ..PEACE
    };
    check("late", trial);
}

#[test]
fn with_a_packet_lost_one_doubled_and_one_late() {
    let trial = Trial {
        losses: 1,
        doubles: 1,
        lates: 1,
        settled: Nanos::from_millis(5),
        horizon: Nanos::from_millis(5),
        ..PEACE
    };
    check("lossy", trial);
}

//= requirements B3
#[test]
fn with_a_death_at_any_moment() {
    let trial = Trial {
        deaths: 1,
        lates: 1,
        horizon: Nanos::from_millis(8),
        settled: Nanos::from_millis(8),
        ..PEACE
    };
    check("death", trial);
}
