//! The real code under a model checker: three voters and every order in which messages arrive, are lost or
//! doubled, in which disks finish, patience ends, and one of them crashes with what it had not
//! written.
//!
//! Each voter has its own time, which moves only when that voter is woken, to its deadline: so
//! every election that any clocks could bring about is tried, in whatever order. What is bounded is
//! how often somebody is woken, how much is lost, and how far terms go.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use consensus::{
    Ask, Author, Config, Effect, Entry, Index, Input, Kind, Message, Payload, State, Term, Voter,
};
use machine::{Machine, Persist, Persisted, Purpose, Stream};
use stateright::{Checker, Model, Property};
use wire::{Cell, Decode, DecodeError, Encode, Instant, Reader, Tile};

/// The commands applied, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Lines(Vec<u8>);

impl State for Lines {
    type Memory = ();

    fn apply(&mut self, _: Index, _: Option<Author>, command: &[u8]) -> Vec<u8> {
        self.0.extend(command);
        Vec::new()
    }

    fn read(&self, (): &(), _: Instant, _: &[u8]) -> Vec<u8> {
        self.0.clone()
    }

    fn look(&self, (): &mut (), _: Instant, _: &mut impl FnMut(Vec<u8>)) -> Option<Instant> {
        None
    }
}

impl Encode for Lines {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Lines {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Vec::decode(from).map(Self)
    }
}

/// What is explored.
#[derive(Clone, Copy, Debug)]
struct Trial {
    wakes: u8,
    losses: u8,
    doubles: u8,
    crashes: u8,
    commands: u8,
    /// The first leads at the beginning, and all know it.
    led: bool,
}

#[derive(Clone, Debug, PartialEq, Hash)]
struct Node {
    voter: Option<Voter<Lines>>,
    now: Instant,
    disk: Vec<Vec<u8>>,
    wet: Vec<(Bytes, bool)>,
}

/// The token and bytes of a write.
type Bytes = (u64, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Hash)]
struct Universe {
    nodes: Vec<Node>,
    /// In flight, sorted, so that equal sets are equal.
    wire: Vec<Vec<u8>>,
    used: (u8, u8, u8, u8, u8),
    /// Who led which term.
    leaders: BTreeMap<Term, Tile>,
    /// What was agreed.
    agreed: BTreeMap<Index, Entry>,
    wrong: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Deliver(usize),
    Lose(usize),
    Double(usize),
    Written(usize),
    Wake(usize),
    Crash(usize),
    Command(usize),
}

const VOTERS: u64 = 3;

fn config() -> Config {
    Config::new(Cell(1))
}

fn stream(node: usize) -> Stream {
    Stream::new(1, Tile(node as u64), Purpose::Agreement)
}

impl Universe {
    fn give(&mut self, at: usize, input: Option<Input>) {
        let node = &mut self.nodes[at];
        let Some(voter) = &mut node.voter else {
            return;
        };
        let mut effects = Vec::new();
        let mut out = |effect| effects.push(effect);
        match input {
            Some(input) => voter.handle(node.now, input, &mut out),
            None => voter.wake(node.now, &mut out),
        }
        let tile = Tile(at as u64);
        for effect in effects {
            match effect {
                // Whoever asked is not part of this.
                Effect::Send { message, .. } if matches!(message.kind, Kind::Reply { .. }) => {}
                Effect::Send { message, .. } => self.wire.push(message.to_bytes()),
                Effect::Persist(Persist { token, bytes }) => {
                    self.nodes[at].wet.push(((token, bytes), false));
                }
                Effect::Replace(Persist { token, bytes }) => {
                    self.nodes[at].wet.push(((token, bytes), true));
                }
                Effect::Led { term, by } if by == Some(tile) => self.leads(at, term),
                Effect::Led { .. } | Effect::Applied { .. } => {}
                Effect::Refused { reason, .. } => self.wrong = Some(reason.to_string()),
            }
        }
        self.look(at);
        self.wire.sort();
    }

    fn leads(&mut self, at: usize, term: Term) {
        let tile = Tile(at as u64);
        let other = *self.leaders.entry(term).or_insert(tile);
        if other != tile {
            self.wrong = Some(format!("{other:?} and {tile:?} lead {term:?}"));
        }
        let voter = self.nodes[at].voter.as_ref().expect("it leads");
        // The opening entry is already there; what was agreed must be below it.
        let lacks = self
            .agreed
            .iter()
            .find(|(i, e)| voter.entry(**i) != Some(e));
        if let Some((index, _)) = lacks {
            self.wrong = Some(format!("{tile:?} leads without {index:?}"));
        }
    }

    fn look(&mut self, at: usize) {
        let Some(voter) = &self.nodes[at].voter else {
            return;
        };
        for index in (2..=voter.commit().0).map(Index) {
            let entry = voter.entry(index).expect("nothing is snapshotted here");
            let agreed = self.agreed.entry(index).or_insert_with(|| entry.clone());
            if agreed != entry {
                self.wrong = Some(format!("two entries agreed at {index:?}"));
            }
        }
        let count = |number| {
            let state = voter.state().map_or(&[][..], |state| &state.0);
            state.iter().filter(|line| **line == number).count()
        };
        if (0..4).any(|number| count(number) > 1) {
            self.wrong = Some("a command is applied twice".into());
        }
    }

    fn alike(&self) -> bool {
        let voters: Vec<_> = self.nodes.iter().filter_map(|n| n.voter.as_ref()).collect();
        let alike = |a: &Voter<Lines>, b: &Voter<Lines>| {
            let last = a.last().min(b.last());
            let mut places = (2..=last.0).rev().map(Index);
            let same = places.find(|i| a.entry(*i).map(|e| e.term) == b.entry(*i).map(|e| e.term));
            let same = same.unwrap_or(Index(1));
            (2..=same.0).map(Index).all(|i| a.entry(i) == b.entry(i))
        };
        voters.iter().all(|a| voters.iter().all(|b| alike(a, b)))
    }
}

impl Model for Trial {
    type State = Universe;
    type Action = Action;

    /// Three voters that know of each other, none of which leads: the first has founded the fleet and
    /// admitted the others, in peace, and all have started again.
    fn init_states(&self) -> Vec<Universe> {
        let start = Instant(1 << 40);
        let blank = |at: usize| {
            let tile = Tile(at as u64);
            let voter = match at {
                0 => Voter::found(config(), tile, Lines::default(), stream(at), start),
                _ => Voter::join(config(), tile, stream(at), start),
            };
            Node {
                voter: Some(voter),
                now: start,
                disk: Vec::new(),
                wet: Vec::new(),
            }
        };
        let mut universe = Universe {
            nodes: (0..VOTERS as usize).map(blank).collect(),
            wire: Vec::new(),
            used: (0, 0, 0, 0, 0),
            leaders: BTreeMap::new(),
            agreed: BTreeMap::new(),
            wrong: None,
        };
        universe.give(0, None);
        universe.rest();
        for tile in 1..VOTERS {
            universe.ask(0, 0, tile, Ask::Admit(Tile(tile)));
            for _ in 0..20 {
                universe.nodes[0].now += config().beat;
                universe.give(0, None);
                universe.rest();
            }
        }
        let all = consensus::Voters::new((0..VOTERS).map(Tile));
        for at in 0..VOTERS as usize {
            let node = &mut universe.nodes[at];
            assert_eq!(node.voter.as_ref().unwrap().voters(), all.as_ref());
            node.now = start;
            let voter = again(at, &node.disk, start);
            node.voter = Some(voter);
        }
        universe.wire.clear();
        if self.led {
            let node = &mut universe.nodes[0];
            node.now = node.voter.as_ref().unwrap().deadline().unwrap();
            universe.give(0, None);
            universe.rest();
            assert!(universe.nodes[0].voter.as_ref().unwrap().leads());
        }
        vec![universe]
    }

    fn actions(&self, state: &Universe, actions: &mut Vec<Action>) {
        let (wakes, losses, doubles, crashes, commands) = state.used;
        // Copies of one message are one action.
        let distinct = |at: &usize| *at == 0 || state.wire[at - 1] != state.wire[*at];
        for at in (0..state.wire.len()).filter(distinct) {
            actions.push(Action::Deliver(at));
            if losses < self.losses {
                actions.push(Action::Lose(at));
            }
            if doubles < self.doubles {
                actions.push(Action::Double(at));
            }
        }
        for (at, node) in state.nodes.iter().enumerate() {
            if !node.wet.is_empty() {
                actions.push(Action::Written(at));
            }
            if wakes < self.wakes {
                actions.push(Action::Wake(at));
            }
            if crashes < self.crashes {
                actions.push(Action::Crash(at));
            }
            let leads = node.voter.as_ref().is_some_and(Voter::leads);
            if leads && commands < self.commands {
                actions.push(Action::Command(at));
            }
        }
    }

    fn next_state(&self, state: &Universe, action: Action) -> Option<Universe> {
        let mut next = state.clone();
        match action {
            Action::Deliver(at) => {
                let message = next.wire.remove(at);
                next.deliver(&message);
            }
            Action::Lose(at) => {
                next.wire.remove(at);
                next.used.1 += 1;
            }
            Action::Double(at) => {
                let message = next.wire[at].clone();
                next.deliver(&message);
                next.used.2 += 1;
            }
            Action::Written(at) => next.written(at),
            Action::Wake(at) => {
                let node = &mut next.nodes[at];
                node.now = node.now.max(node.voter.as_ref()?.deadline()?);
                next.give(at, None);
                next.used.0 += 1;
            }
            Action::Crash(at) => {
                let node = &mut next.nodes[at];
                node.wet.clear();
                node.voter = Some(again(at, &node.disk, node.now));
                next.used.3 += 1;
            }
            Action::Command(at) => {
                let number = next.used.4;
                next.used.4 += 1;
                // The same author and number from the second on: a retry.
                let number = number.min(1);
                next.ask(at, 1, u64::from(number), Ask::Apply([number].into()));
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("nothing is wrong", |_, state: &Universe| {
                state.wrong.is_none()
            }),
            Property::always("logs are alike", |_, state: &Universe| state.alike()),
            Property::sometimes("somebody leads", |_, state: &Universe| {
                !state.leaders.keys().all(|term| *term == Term(1))
            }),
        ];
        if self.commands > 0 {
            properties.push(Property::sometimes(
                "a command is agreed",
                |_, state: &Universe| {
                    let is_command = |e: &Entry| matches!(e.payload, Payload::Command { .. });
                    state.agreed.values().any(is_command)
                },
            ));
        }
        if self.wakes > 2 {
            properties.push(Property::sometimes(
                "two terms are led",
                |_, state: &Universe| state.leaders.len() > 2,
            ));
        }
        properties
    }
}

fn again(at: usize, disk: &[Vec<u8>], now: Instant) -> Voter<Lines> {
    let records = disk.iter().map(Vec::as_slice);
    let voter = Voter::again(config(), Tile(at as u64), records, stream(at), now);
    voter.expect("what was durable can be read")
}

impl Universe {
    fn deliver(&mut self, message: &[u8]) {
        let message: Message = wire::codec::decode_all(message).expect("one spelling");
        let to = message.to.0 as usize;
        self.give(to, Some(Input::Received(message)));
    }

    fn written(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let ((token, bytes), replaces) = node.wet.remove(0);
        if replaces {
            node.disk.clear();
        }
        node.disk.push(bytes);
        self.give(at, Some(Input::Persisted(Persisted { token })));
    }

    fn ask(&mut self, at: usize, desk: u8, number: u64, ask: Ask) {
        let tile = Tile(at as u64);
        let author = Author {
            tile,
            desk,
            life: 1,
        };
        let message = Message {
            cell: Cell(1),
            from: tile,
            to: tile,
            kind: Kind::Request {
                author,
                number,
                ask,
            },
        };
        self.give(at, Some(Input::Received(message)));
    }

    /// Lets everything under way happen, in order.
    fn rest(&mut self) {
        loop {
            if let Some(at) = self.nodes.iter().position(|node| !node.wet.is_empty()) {
                self.written(at);
            } else if !self.wire.is_empty() {
                let message = self.wire.remove(0);
                self.deliver(&message);
            } else {
                return;
            }
        }
    }
}

fn check(name: &str, trial: Trial, states: usize) {
    let checker = trial
        .checker()
        .threads(2)
        .target_state_count(states)
        .spawn_bfs()
        .join();
    println!(
        "{name}: {} states, {} distinct, depth {}, all {}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        checker.state_count() < states,
    );
    checker.assert_no_discovery("nothing is wrong");
    checker.assert_no_discovery("logs are alike");
    checker.assert_any_discovery("somebody leads");
    if trial.led {
        checker.assert_any_discovery("a command is agreed");
    }
}

/// A hash that two runs share: what is explored does not depend on the run.
fn fingerprint(universe: &Universe) -> u64 {
    let mut hasher = DefaultHasher::new();
    universe.hash(&mut hasher);
    hasher.finish()
}

const QUIET: Trial = Trial {
    wakes: 2,
    losses: 0,
    doubles: 0,
    crashes: 0,
    commands: 1,
    led: false,
};

#[test]
fn the_beginning_is_always_the_same() {
    let begin = || fingerprint(&QUIET.init_states()[0]);
    assert_eq!(begin(), begin());
}

//= requirements C3
#[test]
fn one_leads_a_term_and_what_is_agreed_stays() {
    check("two rivals", QUIET, 400_000);
}

#[test]
fn a_crash_forgets_nothing_that_was_promised() {
    let crash = Trial {
        crashes: 1,
        commands: 0,
        ..QUIET
    };
    check("a crash", crash, 400_000);
}

#[test]
fn loss_and_doubles_change_nothing_that_was_agreed() {
    let lossy = Trial {
        losses: 1,
        doubles: 1,
        ..QUIET
    };
    check("loss and doubles", lossy, 300_000);
}

#[test]
fn what_a_leader_agreed_stays_when_it_is_replaced() {
    let led = Trial { led: true, ..QUIET };
    check("replaced", led, 600_000);
    let crash = Trial { crashes: 1, ..led };
    check("replaced, and a crash", crash, 400_000);
    let retry = Trial {
        commands: 3,
        wakes: 0,
        losses: 2,
        doubles: 2,
        ..led
    };
    check("retries", retry, 400_000);
}
