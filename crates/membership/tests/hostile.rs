//! What arrives from outside: forged, replayed, cut, misaddressed, and every spelling there is.

mod simulated;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use machine::{Machine, Persisted, Purpose, Stream};
use membership::{
    Batch, Claim, Config, Content, Effect, INCARNATION_MAX, Input, Kind, Member, Message, Peer,
    Reason, State, Update, Updates, incarnation_after,
};
use proptest::prelude::*;
use simulated::at_ms;
use trust::{Key, Tag};
use wire::codec::decode_all;
use wire::{Cell, DecodeError, Encode, Hexagons, Instant, Tile};

const ME: Peer = Peer(4);
const OTHER: Peer = Peer(5);

fn config() -> Arc<Config> {
    let grid = Hexagons::of(9).unwrap();
    Arc::new(Config::new(Cell(3), grid, &Key::new([7; 32])))
}

fn member(config: &Arc<Config>, peer: Peer, incarnation: u32) -> Member {
    let stream = Stream::new(1, Tile(peer.0.into()), Purpose::Membership);
    Member::new(config.clone(), peer, incarnation, stream, at_ms(0))
}

fn state(member: &Member) -> u64 {
    let mut hasher = DefaultHasher::new();
    member.hash(&mut hasher);
    hasher.finish()
}

/// A message as `OTHER` would send it, before the tag.
fn message(kind: Kind) -> Message {
    Message {
        cell: Cell(3),
        from: OTHER,
        to: ME,
        kind,
        number: 0,
        incarnation: 0,
        digest: 0,
        content: Content::Claims(Updates::NONE),
        tag: Tag::from_bytes([0; 16]),
    }
}

fn claiming(update: Update) -> Message {
    let mut updates = Updates::NONE;
    updates.push(update);
    Message {
        content: Content::Claims(updates),
        ..message(Kind::Gossip)
    }
}

fn handled(member: &mut Member, now: Instant, input: Input) -> Vec<Effect> {
    let mut effects = Vec::new();
    member.handle(now, input, &mut |effect| effects.push(effect));
    effects
}

fn refused(message: Message) -> Option<Reason> {
    let mut member = member(&config(), ME, 0);
    let before = state(&member);
    match handled(&mut member, at_ms(1), Input::Received(message)).as_slice() {
        [Effect::Rejected { reason, .. }] => {
            assert_eq!(state(&member), before, "a refusal changes nothing");
            Some(*reason)
        }
        _ => None,
    }
}

//= requirements M1
//= spec 13
#[test]
fn what_is_not_proven_to_be_for_me_is_refused_and_changes_nothing() {
    let key = &config().key;
    let removal = Claim::new(State::Removed, 0);
    let about = |peer| Update {
        peer,
        accuser: Peer(0),
        claim: removal,
    };
    let cell = |cell| Message {
        cell: Cell(cell),
        ..message(Kind::Ping)
    };
    let from_to = |from, to| Message {
        from,
        to,
        ..message(Kind::Ping)
    };
    let ack = |number| Message {
        number,
        ..message(Kind::Ack)
    };
    let target = Peer(9);
    for (sent, expected) in [
        (message(Kind::Ping).sealed(key), None),
        (claiming(about(Peer(1))).sealed(key), None),
        (message(Kind::Ping), Some(Reason::Forged)),
        (
            message(Kind::Ping).sealed(&Key::new([8; 32])),
            Some(Reason::Forged),
        ),
        (cell(4).sealed(key), Some(Reason::WrongCell)),
        (from_to(OTHER, Peer(6)).sealed(key), Some(Reason::NotForMe)),
        (from_to(ME, ME).sealed(key), Some(Reason::Nobody)),
        (from_to(Peer(9), ME).sealed(key), Some(Reason::Nobody)),
        // It would answer by a message to itself: found by `cargo xtask fuzz member`.
        (
            message(Kind::RelayAck { origin: ME }).sealed(key),
            Some(Reason::Nobody),
        ),
        (
            message(Kind::PingReq { target: ME }).sealed(key),
            Some(Reason::Nobody),
        ),
        (claiming(about(Peer(9))).sealed(key), Some(Reason::Nobody)),
        (
            message(Kind::PingReq { target }).sealed(key),
            Some(Reason::Nobody),
        ),
        (ack(1).sealed(key), Some(Reason::Stale)),
        (ack(1 << 32).sealed(key), Some(Reason::Stale)),
    ] {
        assert_eq!(refused(sent.clone()), expected, "{sent:?}");
    }
}

#[test]
fn a_message_changed_on_the_way_in_any_byte_is_refused() {
    let key = &config().key;
    let suspicion = Claim::new(State::Suspect, 300);
    let update = Update {
        peer: Peer(1),
        accuser: Peer(2),
        claim: suspicion,
    };
    let bytes = claiming(update).sealed(key).to_bytes();
    assert_eq!(refused(decode_all(&bytes).unwrap()), None);
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            // Most no longer decode; those that do must not pass.
            if let Ok(message) = decode_all::<Message>(&changed) {
                assert!(refused(message).is_some(), "byte {at}, bit {bit}");
            }
        }
    }
}

/// Everything two members said while one died and came back is played to the other again.
//= spec 13
#[test]
fn a_replayed_conversation_changes_no_belief_and_answers_no_probe() {
    let config = config();
    let mut me = member(&config, ME, 0);
    let mut heard = Vec::new();
    let mut other = member(&config, OTHER, 0);
    let mut now = at_ms(0);
    let mut carry = |from: &mut Member, to: &mut Member, now: Instant, record: bool| {
        let mut said = Vec::new();
        if from.deadline().is_some_and(|due| due <= now) {
            from.wake(now, &mut |effect| said.push(effect));
        }
        for effect in said {
            if let Effect::Send {
                to: addressee,
                message,
            } = effect
                && addressee == to.me()
            {
                if record {
                    heard.push(message.clone());
                }
                for answer in handled(to, now, Input::Received(message)) {
                    if let Effect::Send {
                        to: addressee,
                        message,
                    } = answer
                        && addressee == from.me()
                    {
                        handled(from, now, Input::Received(message));
                    }
                }
            }
        }
    };
    for tick in 0..4_000 {
        now = at_ms(tick * 50);
        if tick == 2_000 {
            other = member(&config, OTHER, 1);
            other.wake(now, &mut |_| {});
            handled(&mut other, now, Input::Persisted(Persisted { token: 1 }));
        }
        carry(&mut other, &mut me, now, true);
        carry(&mut me, &mut other, now, false);
    }
    assert!(heard.len() > 20, "only {} messages", heard.len());
    let beliefs = |member: &Member| member.exceptions().collect::<Vec<_>>();
    assert!(beliefs(&me).contains(&(OTHER, State::Alive, 1)));

    let (believed, health) = (beliefs(&me), me.local_health());
    for message in heard {
        for effect in handled(&mut me, now, Input::Received(message)) {
            assert!(
                !matches!(effect, Effect::Changed { .. } | Effect::Persist(_)),
                "{effect:?}"
            );
        }
    }
    assert_eq!((beliefs(&me), me.local_health()), (believed, health));
}

/// A dead member's answers to other probes, played back, do not keep it alive: neither old ones
/// nor such as are hardly late.
//= spec 13
#[test]
fn old_heartbeats_do_not_keep_the_dead_alive() {
    let config = config();
    for age in [1, 7, 30] {
        let mut me = member(&config, ME, 0);
        let mut suspected = false;
        for _ in 0..400 {
            let now = me.deadline().unwrap();
            let mut said = Vec::new();
            me.wake(now, &mut |effect| said.push(effect));
            for effect in said {
                suspected |= matches!(
                    effect,
                    Effect::Changed {
                        peer: OTHER,
                        state: State::Suspect,
                        ..
                    }
                );
                let Effect::Send { to, message: asked } = effect else {
                    continue;
                };
                let answer = |kind, number| Message {
                    from: to,
                    number,
                    ..message(kind)
                };
                let answer = match asked.kind {
                    Kind::Ping if to == OTHER => {
                        answer(Kind::Ack, asked.number.saturating_sub(age))
                    }
                    Kind::Ping => answer(Kind::Ack, asked.number),
                    Kind::PingReq { target } => answer(Kind::Relaying { target }, asked.number),
                    _ => continue,
                };
                let answer = Input::Received(answer.sealed(&config.key));
                handled(&mut me, now, answer);
            }
        }
        assert!(suspected, "answers {age} probes old");
    }
}

//= spec 3
#[test]
fn only_its_own_persisted_bytes_tell_the_next_incarnation() {
    assert_eq!(incarnation_after(&41_u32.to_bytes()), Ok(42));
    assert_eq!(
        incarnation_after(&INCARNATION_MAX.to_bytes()),
        Ok(INCARNATION_MAX)
    );
    for refused in [&[][..], &[0x80, 0], &[1, 1], &u32::MAX.to_bytes()] {
        assert!(incarnation_after(refused).is_err(), "{refused:?}");
    }
}

fn any_update() -> impl Strategy<Value = Update> {
    (any::<u16>(), any::<u16>(), any::<u32>()).prop_map(|(peer, accuser, bits)| {
        let claim = Claim::from_bits(bits);
        let suspicion = claim.state() == State::Suspect;
        Update {
            peer: Peer(peer),
            accuser: Peer(if suspicion { accuser } else { 0 }),
            claim,
        }
    })
}

fn any_content() -> impl Strategy<Value = Content> {
    let claims = prop::collection::vec(any_update(), 0..=16).prop_map(|list| {
        let mut updates = Updates::NONE;
        for update in list {
            updates.push(update);
        }
        Content::Claims(updates)
    });
    prop_oneof![
        claims,
        any::<[u32; 16]>().prop_map(|s| Content::Sections(Box::new(s)))
    ]
}

fn any_kind() -> impl Strategy<Value = Kind> {
    (0..8_u8, any::<u16>()).prop_map(|(kind, party)| {
        let party = Peer(party);
        match kind {
            0 => Kind::Ping,
            1 => Kind::Ack,
            2 => Kind::PingReq { target: party },
            3 => Kind::Relaying { target: party },
            4 => Kind::RelayPing { origin: party },
            5 => Kind::RelayAck { origin: party },
            6 => Kind::ForwardedAck { target: party },
            _ => Kind::Gossip,
        }
    })
}

prop_compose! {
    fn any_message()(
        cell: u64, from: u16, to: u16, kind in any_kind(), number: u64,
        incarnation in 0..=INCARNATION_MAX, digest: u32, content in any_content(), tag: [u8; 16],
    ) -> Message {
        let (from, to, tag) = (Peer(from), Peer(to), Tag::from_bytes(tag));
        Message { cell: Cell(cell), from, to, kind, number, incarnation, digest, content, tag }
    }
}

proptest! {
    #[test]
    fn messages_round_trip_in_the_length_foretold(message in any_message()) {
        let bytes = message.to_bytes();
        prop_assert_eq!(bytes.len(), message.encoded_len());
        prop_assert!(bytes.len() <= Message::BYTES_MAX);
        prop_assert_eq!(decode_all::<Message>(&bytes), Ok(message));
    }

    //= requirements M1
    #[test]
    fn messages_sealed_together_are_as_sealed_alone(messages in prop::collection::vec(any_message(), 0..60)) {
        let key = &config().key;
        let mut batch = Batch::default();
        for _ in 0..2 {
            messages.iter().for_each(|message| batch.add(message));
            let mut tags = vec![None; messages.len()];
            batch.tags(key, |at, tag| assert!(tags[at].replace(tag).is_none()));
            for (message, tag) in messages.iter().zip(tags) {
                assert_eq!(tag, Some(message.clone().sealed(key).tag));
            }
        }
    }

    #[test]
    fn a_cut_message_is_refused_at_its_end(message in any_message(), keep in 0.0..1.0_f64) {
        let bytes = message.to_bytes();
        let cut = &bytes[..(bytes.len() as f64 * keep) as usize];
        let refused = decode_all::<Message>(cut);
        let at_end = matches!(refused, Err(DecodeError::Truncated { at, .. }) if at == cut.len());
        prop_assert!(at_end, "{:?}", refused);
    }

    /// Whatever decodes is the one spelling of what it decoded to.
    #[test]
    fn no_message_has_a_second_spelling(message in any_message(), at: prop::sample::Index, byte: u8) {
        let mut bytes = message.to_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(decoded) = decode_all::<Message>(&bytes) {
            prop_assert_eq!(decoded.to_bytes(), bytes);
        }
    }

    /// Any authentic message whatever leaves a member able to go on.
    #[test]
    fn no_message_breaks_a_member(messages in prop::collection::vec((any_message(), 0..9_u16, 0..3_u64), 1..40)) {
        let mut config = Config::clone(&config());
        config.authenticate = false;
        let mut me = member(&Arc::new(config), ME, 0);
        let mut now = at_ms(0);
        for (mut message, from, seconds) in messages {
            now += wire::Nanos::from_secs(seconds);
            (message.cell, message.from, message.to) = (Cell(3), Peer(from), ME);
            if let Content::Claims(updates) = message.content {
                let mut inside = Updates::NONE;
                for update in updates.as_slice() {
                    let (peer, accuser) = (Peer(update.peer.0 % 9), Peer(update.accuser.0 % 9));
                    inside.push(Update { peer, accuser, ..*update });
                }
                message.content = Content::Claims(inside);
            }
            for effect in handled(&mut me, now, Input::Received(message)) {
                if let Effect::Persist(write) = effect {
                    handled(&mut me, now, Input::Persisted(Persisted { token: write.token }));
                }
            }
            me.wake(now, &mut |_| {});
            prop_assert!(me.deadline().is_some_and(|due| due > now));
        }
    }
}
