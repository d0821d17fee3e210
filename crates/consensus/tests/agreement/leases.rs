//! Leases against the clock: the worst clocks that the bound allows, and those who are removed.

use crate::simulated::{Weather, World, ask_for, lease};
use consensus::lease::{Command, Duty};
use wire::{Nanos, Tile};

/// Three voters; the last runs program 7 and is cut off.
fn cut_off(seed: u64) -> World {
    let mut world = World::new(3, seed, false);
    world.grow(3);
    let (lease, to) = (lease(7), Tile(2));
    world.insist("grant", ask_for(Command::Grant { lease, to }));
    world.run(Nanos::from_secs(2));
    assert_eq!(world.runs_of(2), [lease]);
    world
}

/// Asks for the lease until it has moved; how long it was free of both, judged by the world.
fn claim(world: &mut World) {
    let (lease, to) = (lease(7), Tile(1));
    for _ in 0..400 {
        world.order(1, "grant", Command::Grant { lease, to });
        world.run(Nanos::from_millis(25));
        if world.judge.last_run[&lease] == 1 {
            return;
        }
    }
    panic!("the lease did not move in 10 s");
}

/// The holder's clock is slow and is set back; those of the others are fast and are set forward,
/// all within 500 ms of the truth, over every phase of a renewal.
//= requirements S2
#[test]
fn nobody_holds_what_another_holds_by_the_worst_clocks() {
    for phase in 0..30 {
        let mut world = cut_off(phase);
        let edge = 499_000_000;
        world.set_clock(2, edge, -1_000);
        for other in 0..2 {
            world.set_clock(other, -edge, 1_000);
        }
        // Answers take long, and a lease counts from the question.
        world.weather.delay = (Nanos::from_millis(150), Nanos::from_millis(150));
        world.run(Nanos::from_secs(3) + Nanos::from_millis(25 * phase));
        assert_eq!(world.runs_of(2), [lease(7)]);
        world.side[2] = 1;
        world.weather = Weather::fine();
        world.set_clock(2, -edge, -1_000);
        // In steps, because a leader whose clock leaps further than its patience stops leading, and
        // the next one waits anew.
        for step in [-250_000_000, 0, 250_000_000, edge] {
            world.run(Nanos::from_millis(400));
            for other in 0..2 {
                world.set_clock(other, step, 1_000);
            }
        }
        claim(&mut world);
        assert!(world.judge.faults.is_empty(), "{:?}", world.judge.faults);
    }
}

//= requirements S2
#[test]
fn what_a_removed_member_held_is_free_when_it_has_surely_stopped() {
    for is_cut in [false, true] {
        let mut world = cut_off(7);
        world.side[2] = u8::from(is_cut);
        let tile = Tile(2);
        let duty = Duty::Removed;
        world.insist("removal", ask_for(Command::Assign { tile, duty }));
        claim(&mut world);
        assert!(world.judge.faults.is_empty(), "{:?}", world.judge.faults);
        assert_eq!(world.runs_of(2), []);
    }
}

/// A machine that starts again soon still holds what it held, and nobody else was given it.
#[test]
fn a_holder_that_starts_again_goes_on() {
    let mut world = cut_off(9);
    world.crash(2);
    world.run(Nanos::SECOND);
    world.start(2);
    world.run(Nanos::from_secs(1));
    assert_eq!(world.runs_of(2), [lease(7)]);
    assert_eq!(world.count.get("begin"), Some(&2));
}
