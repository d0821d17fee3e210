//! Damage, silence, strangers, full queues, missed deadlines, one at a time.

use crate::world::{Errand, LINES_FINE, Lines, Teller, World, config};
use machine::Machine;
use proptest::prelude::*;
use runtime::{
    Effect, Input, Offer, PROJECTION_BYTES_MAX, Projection, Refused, Stopped, Strand, Torus, Weight,
};
use wire::{Encode, Instant, Nanos};

const STOPS: u64 = 6;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// With an audit for each snapshot, a stray write at any moment into any
    /// process is found and repaired. Without audits it is found if the process had
    /// not run since the last snapshot, which the next test shows.
    #[test]
    fn a_stray_write_is_found_and_repaired(
        seed: u64, victim in 0_usize..3, at_us in 0_u64..8_000, which: u32,
    ) {
        let mut config = config();
        (config.replay_max, config.audit_every) = (60, 1);
        let mut world = World::new(config, seed);
        // What it was includes the damage; what is compared is what comes of it.
        world.compares = false;
        let names = world.settle(12);
        let begun = world.now;
        let death = begun + Nanos(at_us * 1_000);
        let mut written = false;
        let mut number = 0;
        for step in 0..40_u64 {
            for _ in 0..5 {
                world.errand(number, &names, STOPS, 0);
                number += 1;
            }
            let until = begun + Nanos(step * 250_000);
            if !written && death <= until {
                world.run(death.max(world.now));
                let torus = world.tori[victim].as_mut().unwrap();
                let here: Vec<_> = torus.lattice().iter().map(|(pid, _)| pid.site()).collect();
                let site = here[which as usize % here.len()];
                torus.lattice_mut().damage(site, |teller| teller.passed ^= 1 << 40);
                written = true;
            }
            world.run(until.max(world.now));
        }
        world.peace();
        prop_assert!(written && world.rebuilt >= 1, "damage was not found");
        world.check_errands(&names, number, STOPS);
    }
}

/// A world in which nothing happens, and one of whose processes is damaged.
fn damaged(audit_every: u32) -> World {
    let mut config = config();
    config.audit_every = audit_every;
    let mut world = World::new(config, 1);
    world.compares = false;
    let names = world.settle(200);
    world.run_for(Nanos::SECOND);
    let site = names[7].site();
    let torus = world.tori[names[7].strand() as usize].as_mut().unwrap();
    assert!(torus.lattice_mut().damage(site, |teller| teller.order += 1));
    world
}

#[test]
fn damage_to_a_process_that_never_runs_is_found() {
    let mut world = damaged(0);
    world.trace = Some(Vec::new());
    world.run_for(Nanos::from_secs(2));
    assert_eq!((world.rebuilt, world.lost), (1, 0));
    assert!(world.trace.unwrap()[0].contains("stops: Damaged"));
    for strand in Strand::ALL {
        let mut tellers = world.tori[strand as usize]
            .as_ref()
            .unwrap()
            .lattice()
            .iter();
        assert!(tellers.all(|(_, teller)| *teller == Teller::default()));
    }
}

#[test]
fn damage_is_found_before_the_process_runs() {
    let mut world = damaged(0);
    let victim = world.tori.iter().flatten().find_map(|torus| {
        let mut all = torus.lattice().iter();
        all.find(|(_, teller)| teller.order == 1)
            .map(|(pid, _)| pid)
    });
    let to = victim.unwrap();
    let message = Errand::default();
    world.offer(
        to.strand(),
        Offer::Message {
            to,
            message,
            due: Instant::END,
        },
    );
    world.peace();
    assert_eq!((world.rebuilt, world.lost), (1, 0));
    assert_eq!(world.ended(), [0]);
    let teller = world.torus(to.strand()).lattice().find(to).unwrap();
    assert_eq!((teller.passed, teller.order), (1, 0));
}

/// The trap: there is nothing right to rebuild from, and it must not say it did.
#[test]
fn a_damaged_copy_rebuilds_nothing_and_says_so() {
    let mut world = World::new(config(), 1);
    world.settle(20);
    world.run_for(Nanos::SECOND);
    let copy = world.tori[Strand::Io as usize]
        .as_mut()
        .unwrap()
        .copy_mut()
        .unwrap();
    let site = copy.iter().next().unwrap().0.site();
    assert!(copy.damage(site, |teller| teller.passed = 9));
    world.kill(Strand::Compute);
    world.run_for(Nanos::SECOND);
    assert_eq!((world.rebuilt, world.lost), (0, 1));
}

/// It is written anew while the one it was a copy of lives.
#[test]
fn a_damaged_copy_is_replaced_when_it_is_used() {
    let mut config = config();
    config.audit_every = 1;
    let mut world = World::new(config, 1);
    let names = world.settle(20);
    let copy = world.tori[Strand::Io as usize]
        .as_mut()
        .unwrap()
        .copy_mut()
        .unwrap();
    for (site, _) in copy
        .iter()
        .map(|(pid, _)| (pid.site(), ()))
        .collect::<Vec<_>>()
    {
        copy.damage(site, |teller| teller.passed = 9);
    }
    for number in 0..100 {
        world.errand(number, &names, STOPS, 0);
    }
    world.peace();
    assert_eq!((world.rebuilt, world.lost), (0, 0));
    world.kill(Strand::Compute);
    world.peace();
    assert_eq!((world.rebuilt, world.lost), (1, 0));
    world.check_errands(&names, 100, STOPS);
}

#[test]
fn nobody_is_given_up_while_lines_are_fine() {
    let mut world = World::new(config(), 1);
    let names = world.settle(20);
    for number in 0..500 {
        world.errand(number, &names, STOPS, 0);
        world.run_for(Nanos::from_millis(3));
    }
    world.run_for(Nanos::from_secs(60));
    assert_eq!((world.rebuilt, world.rejected), (0, 0));
}

/// Cut off from the others it is given up; what it does then nobody hears of, and
/// when it hears of the other it stops.
#[test]
fn one_that_was_given_up_too_early_stops_and_did_nothing() {
    let mut world = World::new(config(), 1);
    let names = world.settle(20);
    world.insist();
    world.run_for(Nanos::from_millis(500));
    let mut zombie = world.torus(Strand::Compute).clone();
    world.kill(Strand::Compute);
    world.run_for(Nanos::SECOND);
    assert_eq!(world.rebuilt, 1);
    // Alone it gives nobody up, and acknowledges nothing.
    let mut alone = zombie.clone();
    let mut effects = Vec::new();
    while let Some(at) = alone.deadline().filter(|&at| at < world.now) {
        alone.wake(at, &mut |e| effects.push(e));
    }
    assert!(effects.len() > 15);
    let silent = |effect: &Effect<Teller>| matches!(effect, Effect::Send { .. });
    assert!(effects.iter().all(silent), "{effects:?}");
    let to = *names
        .iter()
        .find(|pid| pid.strand() == Strand::Compute)
        .unwrap();
    let message = Errand::default();
    let number = world.offers[0].len() as u64;
    let offer = Offer::Message {
        to,
        message,
        due: Instant::END,
    };
    let mut effects = Vec::new();
    zombie.handle(world.now, Input::Offered { number, offer }, &mut |e| {
        effects.push(e)
    });
    zombie.wake(world.now, &mut |e| effects.push(e));
    let mut answers = Vec::new();
    for effect in effects {
        match effect {
            Effect::Send { to, bytes } => {
                let torus = world.tori[to as usize].as_mut().unwrap();
                torus.handle(world.now, Input::Received(bytes), &mut |e| answers.push(e));
            }
            other => panic!("it should have kept silent: {other:?}"),
        }
    }
    for answer in answers {
        if let Effect::Send {
            to: Strand::Compute,
            bytes,
        } = answer
        {
            zombie.handle(world.now, Input::Received(bytes), &mut |_| ());
        }
    }
    assert_eq!(zombie.stopped(), Some(Stopped::Succeeded));
    assert_eq!(world.torus(Strand::Compute).incarnation(), 1);
}

/// What the keeper says to its successor reaches it too, as long as it does not know that
/// it has one: it must not take that for an answer to its own.
#[test]
fn one_that_was_given_up_lets_nothing_go_on_an_answer_to_its_successor() {
    let mut world = World::new(config(), 1);
    let names = world.settle(20);
    let to = *(names.iter().find(|pid| pid.strand() == Strand::Compute)).unwrap();
    world.insist();
    world.run_for(Nanos::from_millis(500));
    let mut zombie = world.torus(Strand::Compute).clone();
    world.kill(Strand::Compute);
    world.run_for(Nanos::SECOND);
    assert_eq!(world.rebuilt, 1);
    // Both are asked for something else, under one number.
    let number = world.offers[0].len() as u64;
    let offered = |errand| {
        let message = Errand {
            number: errand,
            ..Errand::default()
        };
        let due = Instant::END;
        let offer = Offer::Message { to, message, due };
        Input::Offered { number, offer }
    };
    let now = world.now;
    let mut ignored = |_| ();
    zombie.handle(now, offered(1), &mut ignored);
    zombie.wake(now, &mut ignored);
    let successor = world.tori[Strand::Compute as usize].as_mut().unwrap();
    let mut said = Vec::new();
    successor.handle(now, offered(2), &mut |effect| said.push(effect));
    successor.wake(now, &mut |effect| said.push(effect));
    let keeper = world.tori[Strand::Io as usize].as_mut().unwrap();
    let mut answers = Vec::new();
    for effect in said {
        if let Effect::Send { to, bytes } = effect
            && to == Strand::Io
        {
            keeper.handle(now, Input::Received(bytes), &mut |e| answers.push(e));
        }
    }
    let mut let_go = Vec::new();
    for answer in answers {
        if let Effect::Send { to, bytes } = answer
            && to == Strand::Compute
        {
            zombie.handle(now, Input::Received(bytes), &mut |e| let_go.push(e));
        }
    }
    let is_word = |e: &Effect<Teller>| matches!(e, Effect::Accepted { .. } | Effect::Told { .. });
    assert!(!let_go.iter().any(is_word), "{let_go:?}");
    assert_eq!(zombie.stopped(), Some(Stopped::Succeeded));
}

//= requirements B2
#[test]
fn a_projection_is_as_long_for_none_as_for_many() {
    let mut world = World::new(config(), 1);
    let empty = world.torus(Strand::Io).projection().to_bytes();
    let names = world.settle(500);
    for number in 0..2_000 {
        world.errand(number, &names, STOPS, 0);
    }
    let full = world.torus(Strand::Io).projection().to_bytes();
    assert_eq!(
        (empty.len(), full.len()),
        (Projection::BYTES, Projection::BYTES)
    );
    assert!(full.len() < PROJECTION_BYTES_MAX && empty != full);
}

/// Whatever a stranger sends, or sends again.
#[test]
fn what_is_not_proven_changes_nothing() {
    let mut world = World::new(config(), 1);
    let names = world.settle(5);
    world.lines = Lines {
        damage: 1.0,
        ..LINES_FINE
    };
    let before = world.torus(Strand::Io).clone();
    world.errand(0, &names, STOPS, 0);
    world.run_for(Nanos::from_millis(10));
    assert!(world.rejected > 0);
    assert_eq!(
        before.heard().map(|p| p.sequence),
        world.torus(Strand::Io).heard().map(|p| p.sequence)
    );
}

#[test]
fn a_full_mailbox_is_said_to_be_full_and_loses_nothing() {
    let mut config = config();
    config.limits.mailbox = 4;
    let mut torus = Torus::<Teller>::new(config, Strand::Compute, Instant::EPOCH);
    let mut said = Vec::new();
    let (process, weight) = (Teller::default(), Weight::LEAST);
    let spawn = Offer::Spawn { process, weight };
    let mut give = |torus: &mut Torus<Teller>, number, offer| {
        torus.handle(Instant::EPOCH, Input::Offered { number, offer }, &mut |e| {
            said.push(e)
        });
    };
    give(&mut torus, 0, spawn);
    let to = torus.lattice().iter().next().unwrap().0;
    let message = |number| {
        let message = Errand {
            number,
            ..Errand::default()
        };
        Offer::Message {
            to,
            message,
            due: Instant::END,
        }
    };
    (1..=4).for_each(|number| give(&mut torus, number, message(number)));
    give(&mut torus, 5, message(5));
    give(&mut torus, 7, message(7));
    let [
        Effect::Refused {
            number: 5,
            why: Refused::Full,
        },
        Effect::Refused {
            number: 7,
            why: Refused::OutOfOrder { expected: 5 },
        },
    ] = said[..]
    else {
        panic!("{said:?}");
    };
    torus.wake(Instant::EPOCH, &mut |_| ());
    assert_eq!(torus.lattice().find(to).unwrap().passed, 4);
    let mut said = Vec::new();
    let input = Input::Offered {
        number: 5,
        offer: message(5),
    };
    torus.handle(Instant::EPOCH, input, &mut |e| said.push(e));
    assert!(said.is_empty(), "{said:?}");
}

/// Lanes of four posts and one loss: whoever sends is told that there is no room,
/// and nothing is lost, doubled or stuck.
#[test]
fn full_lanes_are_said_to_be_full_and_nothing_is_stuck() {
    let mut config = config();
    config.limits.lane = 4;
    config.turn_time = Nanos(50_000);
    let mut world = World::new(config, 1);
    let names = world.settle(12);
    for number in 0..200 {
        world.errand(number, &names, STOPS, 0);
    }
    world.run_for(Nanos::from_millis(50));
    world.kill(Strand::Accelerator);
    world.peace();
    world.check_errands(&names, 200, STOPS);
    let tori = Strand::ALL.map(|strand| {
        let tellers = world.torus(strand).lattice().iter();
        tellers.map(|(_, teller)| teller.refused).sum::<u64>()
    });
    assert!(tori.iter().all(|&refused| refused > 0), "{tori:?}");
}

//= requirements B4
#[test]
fn missed_deadlines_are_told_and_kept_ones_are_not() {
    for (hurry, missed) in [(1_000_000_000, false), (1, true)] {
        let mut world = World::new(config(), 1);
        let names = world.settle(5);
        for number in 0..200 {
            world.errand(number, &names, STOPS, hurry);
        }
        world.peace();
        world.check_errands(&names, 200, STOPS);
        assert_eq!(world.missed > 0, missed, "{}", world.missed);
        let tallied: u64 = Strand::ALL
            .iter()
            .map(|&s| world.torus(s).lattice().tally().missed)
            .sum();
        assert_eq!(world.missed, tallied);
    }
}

//= requirements B4
#[test]
fn load_flows_to_the_torus_that_has_less_and_comes_to_the_same() {
    let mut config = config();
    config.turn_time = Nanos(50_000);
    let mut world = World::new(config, 1);
    let names = world.settle(100);
    let is_io = |strand: &Strand| *strand == Strand::Io;
    let mine: Vec<_> = names
        .iter()
        .copied()
        .filter(|pid| is_io(&pid.strand()))
        .collect();
    for number in 0..400 {
        world.errand(number, &mine, STOPS, 0);
    }
    world.compares = false;
    world.run_for(Nanos::from_millis(130));
    let guests = world.torus(Strand::Compute).lattice().iter();
    let away = guests.filter(|(pid, _)| is_io(&pid.strand())).count();
    assert!(away > 4, "{away} processes of io are on compute");
    // The names still lead there after both ends were lost in turn.
    world.compares = true;
    for victim in [Strand::Io, Strand::Compute] {
        world.run_for(Nanos::from_millis(300));
        world.kill(victim);
        world.peace();
    }
    assert_eq!((world.rebuilt, world.lost), (2, 0));
    for number in 400..600 {
        world.errand(number, &mine, STOPS, 0);
    }
    world.peace();
    world.check_errands(&names, 600, STOPS);
}
