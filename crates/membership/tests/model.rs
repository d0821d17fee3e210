//! The real code under a model checker: a few members and every order in which their messages can
//! arrive, be lost or doubled, with a crash or a false accusation at the start.
//!
//! Time is part of the state. It moves to the next deadline, but not past the moment at which a
//! message in flight has been under way for [`TRANSIT`]; until then messages arrive in any order.
//! So the schedules explored are those of a network with bounded delay, which is what the
//! time-outs presume, and what is lost is counted.

mod simulated;

use std::hash::{DefaultHasher, Hash, Hasher};

use machine::{Machine, Persisted};
use membership::{
    Claim, Content, Effect, Input, Kind, Member, Message, Peer, State as Belief, Update, Updates,
};
use simulated::{World, config};
use stateright::{Checker, Model, Property};
use wire::{Instant, Nanos};

const TRANSIT: Nanos = Nanos::from_millis(50);

/// What is explored.
#[derive(Clone, Copy, Debug)]
struct Trial {
    members: u16,
    /// How many messages may be lost, and how many doubled.
    losses: u8,
    doubles: u8,
    /// One member is dead from the beginning on.
    crash: bool,
    /// The others were told that the last one is suspected.
    accusation: bool,
    /// How long is looked at.
    horizon: Nanos,
    /// From when on all must agree, if they must.
    settled: Option<Nanos>,
}

impl Trial {
    fn is_over(&self, state: &Universe) -> bool {
        let passed = state.now.since(state.begun);
        self.settled.is_some_and(|settled| passed >= settled)
    }
}

#[derive(Clone, Debug)]
struct Universe {
    members: Vec<Option<Member>>,
    /// In flight: when sent, and what. Sorted by content, so that equal sets are equal.
    wire: Vec<(Instant, Message)>,
    now: Instant,
    begun: Instant,
    losses: u8,
    doubles: u8,
    suspected: bool,
    refuted: bool,
}

impl Hash for Universe {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.members.hash(state);
        self.wire.hash(state);
        self.now.hash(state);
        (self.losses, self.doubles, self.suspected, self.refuted).hash(state);
    }
}

impl PartialEq for Universe {
    fn eq(&self, other: &Self) -> bool {
        let digest = |universe: &Self| {
            let mut hasher = DefaultHasher::new();
            universe.hash(&mut hasher);
            hasher.finish()
        };
        digest(self) == digest(other)
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Deliver(usize),
    Lose(usize),
    Double(usize),
    Wait,
}

impl Universe {
    fn settle(&mut self, of: usize, input: Option<Input>) {
        let Some(mut member) = self.members[of].take() else {
            return;
        };
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let mut effects = Vec::new();
            let mut out = |effect| effects.push(effect);
            match input {
                Some(input) => member.handle(self.now, input, &mut out),
                None => member.wake(self.now, &mut out),
            }
            for effect in effects {
                match effect {
                    // What goes to the dead and the departed is nobody's.
                    Effect::Send { to, message } => {
                        if self.members.len() > usize::from(to.0) {
                            self.wire.push((self.now, message));
                        }
                    }
                    Effect::Persist(write) => {
                        self.refuted = true;
                        inputs.push(Some(Input::Persisted(Persisted { token: write.token })));
                    }
                    Effect::Changed { state, .. } => self.suspected |= state == Belief::Suspect,
                    Effect::Rejected { .. } => {}
                }
            }
        }
        self.members[of] = Some(member);
        let members = &self.members;
        self.wire.retain(|(_, message)| {
            let to = usize::from(message.to.0);
            to == of || members[to].is_some()
        });
        self.wire
            .sort_by_cached_key(|(sent, message)| (*sent, wire::Encode::to_bytes(message)));
    }

    fn agrees_with_the_truth(&self) -> bool {
        let digest = self.living().next().map(Member::digest);
        let believes_the_truth = |m: &Member| {
            let mut truth = self.members.iter().zip(0..);
            truth.all(|(there, peer)| there.is_some() == m.is_alive(Peer(peer)))
        };
        self.living()
            .all(|m| Some(m.digest()) == digest && believes_the_truth(m))
    }

    fn living(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().flatten()
    }
}

impl Model for Trial {
    type State = Universe;
    type Action = Action;

    /// Members of a cell of nine whose others have left, and peace among them.
    fn init_states(&self) -> Vec<Universe> {
        let mut config = config(9);
        (config.suspicion_min, config.suspicion_max) = (Nanos::SECOND, Nanos::SECOND * 2);
        (config.gossip_fanout, config.relays, config.confirmations) = (1, 2, 1);
        let mut world = World::new(config, 1);
        for peer in world.peers().skip(usize::from(self.members)) {
            world.give(peer, Input::Leave);
        }
        world.run(Nanos::from_secs(30));
        world.members.truncate(usize::from(self.members));
        let last = self.members - 1;
        let mut universe = Universe {
            members: world.members,
            wire: Vec::new(),
            now: world.now,
            begun: world.now,
            losses: 0,
            doubles: 0,
            suspected: false,
            refuted: false,
        };
        if self.crash {
            universe.members[usize::from(last)] = None;
        }
        if self.accusation {
            let mut updates = Updates::NONE;
            updates.push(Update {
                peer: Peer(last),
                accuser: Peer(0),
                claim: Claim::new(Belief::Suspect, 0),
            });
            for to in 0..last {
                let from = Peer((to + 1) % last);
                let (content, digest) = (Content::Claims(updates.clone()), 0);
                let message = Message {
                    cell: wire::Cell(3),
                    from,
                    to: Peer(to),
                    kind: Kind::Gossip,
                    number: 0,
                    incarnation: 0,
                    digest,
                    content,
                    tag: trust::Tag::from_bytes([0; 16]),
                };
                universe.settle(usize::from(to), Some(Input::Received(message)));
            }
            universe.wire.clear();
        }
        vec![universe]
    }

    fn actions(&self, state: &Universe, actions: &mut Vec<Action>) {
        let in_flight = 0..state.wire.len();
        // Copies of one message are one action.
        let distinct = |at: &usize| *at == 0 || state.wire[at - 1] != state.wire[*at];
        for at in in_flight.filter(distinct) {
            actions.push(Action::Deliver(at));
            if state.losses < self.losses {
                actions.push(Action::Lose(at));
            }
            if state.doubles < self.doubles {
                actions.push(Action::Double(at));
            }
        }
        actions.push(Action::Wait);
    }

    fn next_state(&self, state: &Universe, action: Action) -> Option<Universe> {
        let mut next = state.clone();
        match action {
            Action::Deliver(at) => {
                let (_, message) = next.wire.remove(at);
                next.settle(usize::from(message.to.0), Some(Input::Received(message)));
            }
            Action::Lose(at) => {
                next.wire.remove(at);
                next.losses += 1;
            }
            Action::Double(at) => {
                let twin = next.wire[at].clone();
                next.wire.insert(at, twin);
                next.doubles += 1;
            }
            Action::Wait => {
                let deadlines = next.members.iter().enumerate();
                let deadlines = deadlines.filter_map(|(at, m)| Some((m.as_ref()?.deadline()?, at)));
                let (due, of) = deadlines.min()?;
                if next.wire.iter().any(|(sent, _)| *sent + TRANSIT < due) {
                    return None;
                }
                next.now = next.now.max(due);
                next.settle(of, None);
            }
        }
        Some(next)
    }

    fn within_boundary(&self, state: &Universe) -> bool {
        state.now.since(state.begun) <= self.horizon
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            // Two lost messages are a lost path; that justifies a suspicion, never a removal.
            Property::always("the living are not removed", |_, state: &Universe| {
                let spares = |m: &Member, of: &Member| m.state(of.me()) != Belief::Removed;
                state
                    .living()
                    .all(|m| state.living().all(|of| spares(m, of)))
            }),
            Property::always(
                "only its owner raises an incarnation",
                |_, state: &Universe| {
                    let owner = |peer: Peer| state.members.get(usize::from(peer.0))?.as_ref();
                    let raised = |(peer, _, incarnation)| {
                        owner(peer).is_some_and(|owner| owner.incarnation() < incarnation)
                    };
                    !state.living().any(|m| m.exceptions().any(raised))
                },
            ),
        ];
        if self.settled.is_some() {
            properties.extend([
                Property::always(
                    "in the end all agree with the truth",
                    |trial: &Self, state| !trial.is_over(state) || state.agrees_with_the_truth(),
                ),
                Property::sometimes("the end is reached", Self::is_over),
            ]);
        }
        if self.crash || self.accusation || self.losses > 1 {
            let suspected = |_: &Self, state: &Universe| state.suspected;
            properties.push(Property::sometimes("somebody is suspected", suspected));
        }
        if self.accusation || self.losses > 1 {
            let refuted = |_: &Self, state: &Universe| state.refuted;
            properties.push(Property::sometimes("somebody refutes", refuted));
        }
        properties
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

const QUIET: Trial = Trial {
    members: 3,
    losses: 1,
    doubles: 1,
    crash: false,
    accusation: false,
    horizon: Nanos::from_secs(5),
    settled: Some(Nanos::ZERO),
};

//= requirements M1
#[test]
fn nobody_notices_one_lost_and_one_doubled_message() {
    check("quiet", QUIET);
    let four = Trial {
        members: 4,
        horizon: Nanos::from_secs(3),
        ..QUIET
    };
    check("quiet, four", four);
}

//= requirements M1
#[test]
fn two_lost_messages_remove_nobody() {
    let lossy = Trial {
        losses: 2,
        settled: None,
        ..QUIET
    };
    check("lossy", lossy);
}

//= requirements M1
#[test]
fn the_dead_are_removed_by_all_in_time() {
    let crash = Trial {
        crash: true,
        horizon: Nanos::from_secs(9),
        settled: Some(Nanos::from_secs(8)),
        ..QUIET
    };
    check("crash", crash);
    check(
        "crash, four",
        Trial {
            members: 4,
            ..crash
        },
    );
}

//= spec 10
#[test]
fn a_refutation_wins() {
    let accusation = Trial {
        accusation: true,
        horizon: Nanos::from_secs(5),
        settled: Some(Nanos::from_secs(4)),
        ..QUIET
    };
    check("accusation", accusation);
    let four = Trial {
        members: 4,
        doubles: 0,
        ..accusation
    };
    check("accusation, four", four);
}
