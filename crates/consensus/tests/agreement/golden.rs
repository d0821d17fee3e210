//! Golden traces: a fleet that grows, loses its leader, is cut, drains a machine, line by line.
//! `UPDATE_EXPECT=1 cargo test -p consensus --test agreement golden` writes them anew after a change that is meant.

use std::fmt::Write;

use crate::simulated::{BEGINNING, World, ask_for, lease};
use consensus::Ask;
use consensus::lease::{Command, Duty};
use expect_test::{ExpectFile, expect_file};
use wire::{Nanos, Tile};

fn note(world: &mut World, what: &str) {
    let now = world.now;
    world.seen.push((now, format!("** {what}")));
}

fn is(world: &mut World, golden: &ExpectFile) {
    world.judge_logs();
    assert!(world.judge.faults.is_empty(), "{:?}", world.judge.faults);
    let mut text = String::new();
    for (at, line) in &world.seen {
        let tenths = (at.since(BEGINNING).0 + 50_000_000) / 100_000_000;
        writeln!(text, "{:>3}.{} s  {line}", tenths / 10, tenths % 10).unwrap();
    }
    golden.assert_eq(&text);
}

fn grant(world: &mut World, program: u64, to: u64) {
    let (lease, to) = (lease(program), Tile(to));
    world.insist("grant", ask_for(Command::Grant { lease, to }));
}

//= requirements S2
#[test]
fn a_fleet_grows_loses_its_leader_and_moves_what_it_ran() {
    let mut world = World::new(4, 1, false);
    world.grow(3);
    note(
        &mut world,
        "three of four have a vote; programs 7 and 8 are given to 0 and 3",
    );
    grant(&mut world, 7, 0);
    grant(&mut world, 8, 3);
    world.run(Nanos::from_secs(2));
    note(&mut world, "0, which leads, dies");
    world.crash(0);
    world.run(Nanos::from_secs(9));
    let to = Tile(1);
    let again = Command::Grant {
        lease: lease(7),
        to,
    };
    world.order(1, "grant after a death", again);
    world.run(Nanos::from_secs(2));
    note(&mut world, "3 is drained");
    let drain = Command::Assign {
        tile: Tile(3),
        duty: Duty::Draining,
    };
    world.order(1, "drain", drain);
    world.run(Nanos::from_secs(2));
    note(&mut world, "0 comes back, and 2 is retired");
    world.start(0);
    world.clerk(1, "retirement", Ask::Retire(Tile(2)));
    world.run(Nanos::from_secs(3));
    is(&mut world, &expect_file!["traces/growth.txt"]);
}

//= requirements S2
#[test]
fn a_minority_stops_before_the_majority_goes_on() {
    let mut world = World::new(3, 2, true);
    world.grow(3);
    grant(&mut world, 7, 2);
    world.run(Nanos::from_secs(2));
    note(&mut world, "2, which runs program 7, is cut off");
    world.side[2] = 1;
    let to = Tile(1);
    for _ in 0..40 {
        let lease = lease(7);
        world.order(1, "", Command::Grant { lease, to });
        world.run(Nanos::from_millis(250));
        if world.judge.last_run.get(&lease) == Some(&1) {
            break;
        }
    }
    note(&mut world, "it is heard again");
    world.side.fill(0);
    world.run(Nanos::from_secs(3));
    assert_eq!(world.runs_of(1), [lease(7)]);
    is(&mut world, &expect_file!["traces/partition.txt"]);
}
