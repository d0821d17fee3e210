//! Problems known from other gossip memberships, foca's list among them, as regressions.

mod simulated;

use membership::{Peer, State};
use simulated::{World, config, some};
use wire::Nanos;

const TILES: u32 = 100;

fn lossy(seed: u64) -> World {
    let mut world = World::new(config(TILES), seed);
    world.links.loss = 0.01;
    world
}

fn settles(world: &mut World, within: Nanos) {
    let end = world.now + within;
    while let Err(disagreement) = world.agrees_with_the_truth() {
        assert!(world.now < end, "{disagreement}");
        world.run(Nanos::SECOND);
    }
}

/// A region that was away when a member died still believes it alive, and must not bring the
/// others back to that belief.
#[test]
fn a_region_that_was_away_does_not_revive_the_dead() {
    let mut world = lossy(1);
    world.run(Nanos::from_secs(5));
    let away = some(TILES, 5, 1);
    for peer in &away {
        world.links.side[usize::from(peer.0)] = 1;
    }
    world.run(Nanos::from_secs(20));
    let dead = world
        .peers()
        .filter(|peer| !away.contains(peer))
        .take(10)
        .collect::<Vec<_>>();
    for &peer in &dead {
        world.kill(peer);
    }
    world.run(Nanos::MINUTE * 2);
    let far = world.members[usize::from(away[0].0)].as_ref().unwrap();
    assert!(
        dead.iter().any(|&peer| far.state(peer) != State::Removed),
        "they are to know nothing"
    );

    world.links.side.fill(0);
    world.changes.clear();
    settles(&mut world, Nanos::MINUTE * 2);
    world.run(Nanos::MINUTE * 5);
    let revived = |c: &&simulated::Change| {
        dead.contains(&c.peer) && c.state == State::Alive && !away.contains(&c.observer)
    };
    assert_eq!(world.changes.iter().find(revived), None);
    assert_eq!(world.agrees_with_the_truth(), Ok(()));
}

/// There is one record of a member, whichever of its lives and whoever holds it.
#[test]
fn a_renewed_member_is_one_member() {
    let mut world = lossy(2);
    let peer = Peer(42);
    for life in 1..=5 {
        world.run(Nanos::from_secs(20));
        world.kill(peer);
        world.run(Nanos::from_secs(if life % 2 == 0 { 20 } else { 1 }));
        world.start(peer);
        world.run(Nanos::from_secs(5));
        settles(&mut world, Nanos::from_secs(30));
        let incarnation = world.members[42].as_ref().unwrap().incarnation();
        assert!(
            incarnation >= life,
            "life {life} at incarnation {incarnation}"
        );
        for member in world.living() {
            let records: Vec<_> = member.exceptions().filter(|(of, ..)| *of == peer).collect();
            assert_eq!(records, [(peer, State::Alive, incarnation)]);
        }
    }
}

/// Everybody else restarts while one is cut off, so that nobody it knew is there any more.
#[test]
fn a_member_that_lost_all_others_finds_its_way_back() {
    let mut world = lossy(3);
    world.run(Nanos::from_secs(5));
    world.links.side[9] = 1;
    world.run(Nanos::MINUTE);
    for peer in world.peers().filter(|&peer| peer != Peer(9)) {
        world.kill(peer);
    }
    world.run(Nanos::MINUTE);
    for peer in world.peers().filter(|&peer| peer != Peer(9)) {
        world.start(peer);
    }
    world.run(Nanos::MINUTE);
    assert_eq!(
        world.members[0].as_ref().unwrap().state(Peer(9)),
        State::Removed
    );

    world.links.side.fill(0);
    settles(&mut world, Nanos::from_secs(30));
}

/// Restarts in the middle of each other, some before anybody noticed, some after, some twice.
#[test]
fn members_that_restart_at_the_same_time_all_return() {
    let mut world = lossy(4);
    world.run(Nanos::from_secs(5));
    let restarting = some(TILES, 30, 4);
    for (at, &peer) in restarting.iter().enumerate() {
        world.kill(peer);
        if at % 3 == 0 {
            world.start(peer);
        }
        world.run(Nanos::from_millis(200));
        if at % 3 == 0 {
            world.kill(peer);
        }
    }
    world.run(Nanos::from_millis(500));
    for &peer in &restarting {
        world.start(peer);
    }
    settles(&mut world, Nanos::from_secs(45));
    world.changes.clear();
    world.run(Nanos::MINUTE);
    assert_eq!(world.removals_but(&[]), []);
}

/// A tile that crashes between asking for an incarnation to be written and the disk's answer has
/// not spoken of it, so the next life may use the same number.
//= spec 3
#[test]
fn a_crash_before_the_disk_answers_leaves_no_trace() {
    let mut world = lossy(5);
    world.run(Nanos::from_secs(5));
    world.kill(Peer(7));
    world.start(Peer(7));
    world.run(Nanos::from_millis(2));
    let restarted = world.members[7].as_ref().unwrap();
    assert_eq!(restarted.incarnation(), 1);
    let spoken = world.living().flat_map(membership::Member::exceptions);
    assert_eq!(spoken.filter(|(peer, ..)| *peer == Peer(7)).count(), 0);
    world.kill(Peer(7));
    world.start(Peer(7));
    settles(&mut world, Nanos::from_secs(20));
    assert_eq!(world.members[7].as_ref().unwrap().incarnation(), 1);
}
