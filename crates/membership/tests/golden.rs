//! Golden traces: what a handful of members say of each other when one dies, is falsely accused,
//! or is cut off, line by line. The traces are documentation; `UPDATE_EXPECT=1 cargo test -p
//! membership --test golden` writes them anew after a change that is meant.
//!
//! Only what is seen from outside is in them, and time to a tenth of a second: a change
//! of layout leaves them alone, a change of protocol does not.

mod simulated;

use std::fmt::Write;

use expect_test::{ExpectFile, expect_file};
use membership::{Input, Peer, State, Why};
use simulated::{World, config};
use wire::{Instant, Nanos};

/// A scene among peers 0 to 3, and what has been written of it.
struct Scene {
    world: World,
    start: Instant,
    script: Vec<(Instant, String)>,
}

impl Scene {
    /// Four members: the five others of a cell of nine, the smallest there is, have left.
    fn of_four() -> Self {
        let mut world = World::new(config(9), 1);
        for peer in world.peers().skip(4) {
            world.give(peer, Input::Leave);
        }
        world.run(Nanos::from_secs(60));
        world.agrees_on_the_four();
        world.changes.clear();
        let start = world.now;
        Self {
            world,
            start,
            script: Vec::new(),
        }
    }

    fn run(&mut self, seconds: u64) {
        self.world.run(Nanos::from_secs(seconds));
    }

    fn note(&mut self, what: &str) {
        self.script.push((self.world.now, format!("** {what}")));
    }

    /// Compares with a file in `tests/golden/`.
    fn is(mut self, golden: &ExpectFile) {
        for change in &self.world.changes {
            let (observer, peer) = (change.observer.0, change.peer.0);
            let of = change.incarnation;
            let line = match (change.state, change.why) {
                (State::Alive, Why::OwnWord) if observer == peer => {
                    format!("{peer} rises to incarnation {of}")
                }
                (state, why) => {
                    let why = match why {
                        Why::Told { by } => format!("told by {}", by.0),
                        Why::Expired { confirmations } => {
                            format!("not refuted, confirmed {confirmations} times")
                        }
                        why => why.to_string(),
                    };
                    format!("{observer} holds {peer} {state} at incarnation {of}: {why}")
                }
            };
            self.script.push((change.at, line));
        }
        self.script.sort_by_key(|(at, _)| *at);
        let mut text = String::new();
        for (at, line) in &self.script {
            let tenths = (at.since(self.start).0 + 50_000_000) / 100_000_000;
            writeln!(text, "{:>3}.{} s  {line}", tenths / 10, tenths % 10).unwrap();
        }
        golden.assert_eq(&text);
    }
}

impl World {
    fn agrees_on_the_four(&self) {
        for (me, member) in self.members.iter().enumerate().take(4) {
            let member = member.as_ref().unwrap();
            let present = self.peers().filter(|&peer| member.state(peer).is_present());
            assert!(present.eq((0..4).map(Peer)), "{me}");
        }
    }
}

//= requirements M1
#[test]
fn one_that_loses_power_is_suspected_then_removed_and_returns() {
    let mut scene = Scene::of_four();
    scene.run(5);
    scene.note("2 loses power");
    scene.world.kill(Peer(2));
    scene.run(20);
    scene.note("2 has power again");
    scene.world.start(Peer(2));
    scene.run(10);
    scene.world.agrees_on_the_four();
    scene.is(&expect_file!["golden/kill.txt"]);
}

//= requirements M1
#[test]
fn one_that_was_only_slow_refutes_the_suspicion() {
    let mut scene = Scene::of_four();
    scene.run(5);
    scene.note("2 is not scheduled for 2 s");
    scene.world.asleep[2] = scene.world.now + Nanos::from_secs(2);
    scene.run(20);
    scene.world.agrees_on_the_four();
    scene.is(&expect_file!["golden/refutation.txt"]);
}

//= requirements M1
#[test]
fn two_halves_remove_each_other_and_heal() {
    let mut scene = Scene::of_four();
    scene.run(5);
    scene.note("0 and 1 lose sight of 2 and 3");
    scene.world.links.side[2] = 1;
    scene.world.links.side[3] = 1;
    scene.run(20);
    scene.note("all see each other again");
    scene.world.links.side.fill(0);
    scene.run(30);
    scene.world.agrees_on_the_four();
    scene.is(&expect_file!["golden/healing.txt"]);
}
