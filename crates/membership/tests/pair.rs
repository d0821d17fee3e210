//! Two members and a wire: probing, suspicion, refutation and return, seen step by step.

mod simulated;

use std::sync::Arc;

use machine::pair::{Pair, Side};
use machine::{Machine, Persisted};
use membership::{Effect, Input, Member, Peer, State, Why};
use simulated::{World, at_ms, config};
use wire::Nanos;

/// Two members of a cell of nine whose seven others have left.
fn two() -> [Member; 2] {
    let mut world = World::new(config(9), 1);
    for peer in world.peers().skip(2) {
        world.give(peer, Input::Leave);
    }
    world.run(Nanos::from_secs(30));
    let mut two = world.members.into_iter().take(2).map(Option::unwrap);
    [two.next().unwrap(), two.next().unwrap()]
}

fn changes(seen: &[(wire::Instant, Side, Effect)], by: Side) -> Vec<(Peer, State, u32, Why)> {
    let by_side = seen.iter().filter(|(_, side, _)| *side == by);
    by_side
        .filter_map(|(.., effect)| match *effect {
            Effect::Changed {
                peer,
                state,
                incarnation,
                why,
            } => Some((peer, state, incarnation, why)),
            _ => None,
        })
        .collect()
}

//= spec 10
#[test]
fn a_pair_parted_and_joined_again_removes_and_takes_back_each_other() {
    let [left, right] = two();
    let start = at_ms(30_000);
    let mut pair = Pair::new(
        left,
        right,
        Nanos::from_millis(10),
        |_, effect| match effect {
            Effect::Send { message, .. } => Ok(Input::Received(message)),
            other => Err(other),
        },
    );
    pair.run(start + Nanos::from_secs(30));
    assert_eq!(pair.seen, []);

    pair.cut(true);
    pair.run(start + Nanos::from_secs(60));
    for (side, other) in [(Side::Left, Peer(1)), (Side::Right, Peer(0))] {
        let unconfirmed = Why::Expired { confirmations: 0 };
        let expected = [
            (other, State::Suspect, 0, Why::Unanswered),
            (other, State::Removed, 0, unconfirmed),
        ];
        assert_eq!(changes(&pair.seen, side), expected);
    }

    pair.cut(false);
    pair.seen.clear();
    // The disk answers a second later; until then neither may claim anything new.
    pair.run(start + Nanos::from_secs(75));
    let writes = pair
        .seen
        .iter()
        .filter(|(.., effect)| matches!(effect, Effect::Persist(_)));
    assert_eq!(writes.count(), 2);
    assert_eq!(changes(&pair.seen, Side::Left), []);
    assert_eq!(changes(&pair.seen, Side::Right), []);
    for side in [Side::Left, Side::Right] {
        pair.give(side, Input::Persisted(Persisted { token: 1 }));
    }
    pair.run(start + Nanos::from_secs(90));
    for (side, me, other) in [
        (Side::Left, Peer(0), Peer(1)),
        (Side::Right, Peer(1), Peer(0)),
    ] {
        let member = pair.machine(side);
        assert_eq!(
            (member.incarnation(), member.state(other)),
            (1, State::Alive)
        );
        let expected = [
            (me, State::Alive, 1, Why::OwnWord),
            (other, State::Alive, 1, Why::OwnWord),
        ];
        assert_eq!(changes(&pair.seen, side), expected);
    }
    assert_eq!(
        pair.machine(Side::Left).digest(),
        pair.machine(Side::Right).digest()
    );
}

#[test]
fn waking_a_member_early_does_nothing() {
    let config = Arc::new(config(9));
    let stream = machine::Stream::new(1, wire::Tile(0), machine::Purpose::Membership);
    let mut member = Member::new(config, Peer(0), 0, stream, at_ms(0));
    let due = member.deadline().unwrap();
    member.wake(at_ms(0), &mut |effect| panic!("{effect:?}"));
    assert_eq!(member.deadline(), Some(due));
}
