//! A golden trace: which protocol of a node answers what, and in whose name it leaves.
//! `UPDATE_EXPECT=1 cargo test -p node --test golden` writes it anew after a change that
//! is meant.

use std::fmt::Write;
use std::sync::Arc;

use expect_test::expect_file;
use machine::{Machine, Persisted, Purpose, Stream};
use membership::message::Update;
use membership::{Claim, Config, Content, Kind, Member, Message, Peer, State, Updates};
use node::{Effect, Input, Node};
use scheduler::guard::{Guard, Limits};
use trust::{Key, Tag};
use wire::{Cell, Hexagons, Instant, Nanos, Tile};

const ME: Peer = Peer(4);
const OTHER: Peer = Peer(7);

/// The node, and what has been written of it.
struct Scene {
    node: Node,
    now: Instant,
    text: String,
}

impl Scene {
    fn line(&mut self, effect: &Effect) {
        let text = match effect {
            Effect::SetClock(clock) => format!("set clock {clock:.3}"),
            Effect::Panic => "cut the power".to_owned(),
            Effect::Send { to, class, message } => {
                let claims = message.claims().iter().map(|u| {
                    let Update { peer, claim, .. } = u;
                    let of = claim.incarnation();
                    format!(", {} is {} at incarnation {of}", peer.0, claim.state())
                });
                let (kind, speaks) = (message.kind, message.incarnation);
                let claims: String = claims.collect();
                format!(
                    "send {} {kind:?} in class {class:?}, as incarnation {speaks}{claims}",
                    to.0
                )
            }
            Effect::Persist(write) => format!("persist {:?} as {}", write.bytes, write.token),
            Effect::Changed { peer, state } => format!("hold {} {state}", peer.0),
            Effect::Rejected(reason) => format!("reject: {reason}"),
            Effect::Decided(action, reason, found, bound) => {
                format!("record {action} ({reason}): {found:.1} against {bound:.1}")
            }
        };
        writeln!(self.text, "        {text}").unwrap();
    }

    fn give(&mut self, what: &str, input: Input) {
        writeln!(self.text, "{:>4} ms {what}", self.now.0 / 1_000_000).unwrap();
        let mut effects = Vec::new();
        self.node
            .handle(self.now, input, &mut |effect| effects.push(effect));
        effects.iter().for_each(|effect| self.line(effect));
    }

    /// Wakes it once, when it asked to be woken.
    fn wake(&mut self) {
        let Some(due) = self.node.deadline() else {
            return writeln!(self.text, "        never asks to be woken again").unwrap();
        };
        self.now = self.now.max(due);
        writeln!(self.text, "{:>4} ms is woken", self.now.0 / 1_000_000).unwrap();
        let mut effects = Vec::new();
        self.node.wake(self.now, &mut |effect| effects.push(effect));
        effects.iter().for_each(|effect| self.line(effect));
    }
}

fn from_other(kind: Kind, content: Updates) -> Input {
    Input::Received(Message {
        cell: Cell(3),
        from: OTHER,
        to: ME,
        kind,
        number: 1,
        incarnation: 0,
        digest: 0,
        content: Content::Claims(content),
        tag: Tag::from_bytes([0; Tag::BYTES]),
    })
}

//= requirements K1
//= requirements K2
#[test]
fn each_input_reaches_its_protocol_and_a_dark_node_is_silent() {
    let grid = Hexagons::of(9).expect("a lattice");
    let mut config = Config::new(Cell(3), grid, &Key::new([7; 32]));
    config.authenticate = false;
    let stream = Stream::new(1, Tile(4), Purpose::Membership);
    let member = Member::new(Arc::new(config), ME, 0, stream, Instant::EPOCH);
    let guard = Guard::new(Arc::new(Limits {
        throttle_kelvin: 390.0,
        limit_kelvin: 400.0,
        clock_min: 0.1,
        clock_exponent: 3.0,
        throttles: true,
    }));
    let mut scene = Scene {
        node: Node::new(guard, Some(member)),
        now: Instant::EPOCH,
        text: String::new(),
    };

    scene.give("senses 350 K", Input::Sensed(350.0));
    scene.give("may spend an eighth of its power", Input::Budget(0.125));
    scene.give(
        "7 asks whether it is there",
        from_other(Kind::Ping, Updates::NONE),
    );
    let mut accusation = Updates::NONE;
    accusation.push(Update {
        peer: ME,
        accuser: OTHER,
        claim: Claim::new(State::Suspect, 0),
    });
    scene.give(
        "7 says that it is suspect",
        from_other(Kind::Gossip, accusation),
    );
    scene.now += Nanos::from_millis(5);
    scene.give("its disk answers", Input::Persisted(Persisted { token: 1 }));
    scene.wake();
    let Input::Received(mut astray) = from_other(Kind::Ping, Updates::NONE) else {
        unreachable!()
    };
    astray.cell = Cell(4);
    scene.give("another cell's message comes", Input::Received(astray));
    scene.give("may spend all its power", Input::Budget(1.0));
    scene.give("senses 395 K", Input::Sensed(395.0));
    scene.give("senses 400 K", Input::Sensed(400.0));
    scene.give(
        "7 asks whether it is there",
        from_other(Kind::Ping, Updates::NONE),
    );
    scene.give("senses 300 K", Input::Sensed(300.0));
    scene.wake();
    expect_file!["golden/routing.txt"].assert_eq(&scene.text);
}
