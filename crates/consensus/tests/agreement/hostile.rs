//! What arrives from outside: misaddressed, in another's name, too long, too much, and every spelling
//! there is.

use consensus::{
    Ask, Author, Config, Effect, Entry, Index, Input, Kind, Leases, Matched, Message, Outcome,
    Payload, Reason, Term, Terms, Voter, Voters,
};
use machine::{Machine, Persisted, Purpose, Stream};
use proptest::prelude::*;
use wire::codec::decode_all;
use wire::{Cell, DecodeError, Encode, Instant, Tile};

const ME: Tile = Tile(0);
const OTHER: Tile = Tile(1);
const NOW: Instant = Instant(1_000_000_000);

/// A founder that leads, alone.
fn founder() -> Voter<Leases> {
    let config = Config {
        undecided_max: 4,
        command_bytes_max: 100,
        ..Config::new(Cell(3))
    };
    let stream = Stream::new(1, ME, Purpose::Agreement);
    let state = Leases::new(Terms::default());
    let mut voter = Voter::found(config, ME, state, stream, NOW);
    let mut writes = Vec::new();
    let mut note = |effect| {
        if let Effect::Persist(write) | Effect::Replace(write) = effect {
            writes.push(write.token);
        }
    };
    voter.wake(NOW, &mut note);
    for _ in 0..4 {
        let Some(token) = writes.pop() else { break };
        let mut note = |effect| {
            if let Effect::Persist(write) | Effect::Replace(write) = effect {
                writes.push(write.token);
            }
        };
        voter.handle(NOW, Input::Persisted(Persisted { token }), &mut note);
    }
    assert!(voter.leads());
    voter
}

fn message(kind: Kind) -> Message {
    Message {
        cell: Cell(3),
        from: OTHER,
        to: ME,
        kind,
    }
}

fn ask(number: u64, ask: Ask) -> Kind {
    let author = Author {
        tile: OTHER,
        desk: number as u8,
        life: 1,
    };
    Kind::Request {
        author,
        number,
        ask,
    }
}

fn tell(voter: &mut Voter<Leases>, message: Message) -> Vec<Effect> {
    let mut effects = Vec::new();
    voter.handle(NOW, Input::Received(message), &mut |effect| {
        effects.push(effect)
    });
    effects
}

#[test]
fn what_is_refused_changes_nothing() {
    let append = |term| Kind::Append {
        term: Term(term),
        round: 1,
        prev: Index(1),
        prev_term: Term(0),
        commit: Index(9),
        entries: Vec::new(),
    };
    let author = Author {
        tile: Tile(7),
        desk: 0,
        life: 1,
    };
    let forged = Kind::Request {
        author,
        number: 1,
        ask: Ask::Apply([].into()),
    };
    let reply = Kind::Reply {
        author,
        number: 1,
        outcome: Outcome::Busy,
    };
    let elsewhere = Message {
        cell: Cell(4),
        ..message(append(1))
    };
    let to = Message {
        to: OTHER,
        ..message(append(1))
    };
    for (message, reason) in [
        (elsewhere, Reason::WrongCell),
        (to, Reason::NotForMe),
        (message(reply), Reason::NotForMe),
        (message(forged), Reason::NotItsAuthor),
        (message(append(1)), Reason::Rival),
    ] {
        let mut voter = founder();
        let before = voter.clone();
        let from = OTHER;
        let effects = tell(&mut voter, message);
        assert_eq!(effects, [Effect::Refused { from, reason }]);
        assert_eq!(voter, before, "{reason}");
    }
}

#[test]
fn what_is_too_long_or_too_much_is_refused_to_whoever_asked() {
    let mut voter = founder();
    let outcome = |effects: &[Effect]| {
        effects.iter().find_map(|effect| match effect {
            Effect::Send { message, .. } => match &message.kind {
                Kind::Reply { outcome, .. } => Some(outcome.clone()),
                _ => None,
            },
            _ => None,
        })
    };
    let long = tell(&mut voter, message(ask(1, Ask::Apply(vec![0; 101].into()))));
    assert_eq!(outcome(&long), Some(Outcome::Impossible));
    let mut refused = 0;
    for number in 2..20 {
        let effects = tell(&mut voter, message(ask(number, Ask::Apply([9].into()))));
        refused += u64::from(outcome(&effects) == Some(Outcome::Busy));
    }
    assert_eq!(
        refused, 14,
        "four are under way, because the disk does not answer"
    );
    let only = tell(&mut voter, message(ask(30, Ask::Retire(ME))));
    assert_eq!(
        outcome(&only),
        Some(Outcome::Impossible),
        "somebody must be left"
    );
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..300_u64,
        any::<u32>().prop_map(u64::from),
        any::<u64>().prop_map(|n| n / 2)
    ]
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..20)
}

fn author() -> impl Strategy<Value = Author> {
    (number(), any::<u8>(), any::<u64>()).prop_map(|(tile, desk, life)| Author {
        tile: Tile(tile),
        desk,
        life,
    })
}

fn voters() -> impl Strategy<Value = Voters> {
    let tiles = proptest::collection::btree_set(number(), 1..=7);
    tiles.prop_map(|tiles| Voters::new(tiles.into_iter().map(Tile)).expect("one to seven"))
}

fn entry() -> impl Strategy<Value = Entry> {
    let payload = prop_oneof![
        Just(Payload::Opening),
        voters().prop_map(Payload::Voters),
        bytes().prop_map(|bytes| Payload::Decree(bytes.into())),
        (author(), any::<u64>(), bytes()).prop_map(|(author, number, bytes)| Payload::Command {
            author,
            number,
            bytes: bytes.into(),
        }),
    ];
    (number(), payload).prop_map(|(term, payload)| Entry {
        term: Term(term),
        payload,
    })
}

fn kind() -> impl Strategy<Value = Kind> {
    let numbers = || (number(), number(), number(), number(), number());
    let entries = proptest::collection::vec(entry(), 0..5);
    let outcome = prop_oneof![
        bytes().prop_map(|bytes| Outcome::Done(bytes.into())),
        (
            proptest::option::of(number()),
            proptest::option::of(voters())
        )
            .prop_map(|(leader, voters)| Outcome::Elsewhere {
                leader: leader.map(Tile),
                voters,
            }),
        Just(Outcome::Busy),
        Just(Outcome::Past),
        Just(Outcome::Impossible),
    ];
    let ask = prop_oneof![
        bytes().prop_map(|bytes| Ask::Apply(bytes.into())),
        bytes().prop_map(|bytes| Ask::Read(bytes.into())),
        number().prop_map(|tile| Ask::Admit(Tile(tile))),
        number().prop_map(|tile| Ask::Retire(Tile(tile))),
    ];
    prop_oneof![
        (numbers(), any::<bool>()).prop_map(|((term, last, last_term, ..), canvass)| {
            Kind::Vote {
                term: Term(term),
                canvass,
                last: Index(last),
                last_term: Term(last_term),
            }
        }),
        (number(), any::<bool>(), any::<bool>()).prop_map(|(term, canvass, granted)| Kind::Voted {
            term: Term(term),
            canvass,
            granted,
        }),
        (numbers(), entries).prop_map(|((term, round, prev, prev_term, commit), entries)| {
            Kind::Append {
                term: Term(term),
                round,
                prev: Index(prev),
                prev_term: Term(prev_term),
                commit: Index(commit),
                entries,
            }
        }),
        (number(), number(), number(), any::<bool>()).prop_map(|(term, round, at, is)| {
            let at = Index(at);
            let matched = if is {
                Matched::To(at)
            } else {
                Matched::Not(at)
            };
            let term = Term(term);
            Kind::Appended {
                term,
                round,
                matched,
            }
        }),
        (numbers(), number(), bytes()).prop_map(
            |((term, round, index, index_term, total), offset, bytes)| Kind::Piece {
                term: Term(term),
                round,
                index: Index(index),
                index_term: Term(index_term),
                total,
                offset,
                bytes: bytes.into(),
            }
        ),
        (number(), number(), number(), number()).prop_map(|(term, round, index, wanted)| {
            Kind::Pieced {
                term: Term(term),
                round,
                index: Index(index),
                wanted,
            }
        }),
        (author(), any::<u64>(), ask).prop_map(|(author, number, ask)| Kind::Request {
            author,
            number,
            ask,
        }),
        (author(), any::<u64>(), outcome).prop_map(|(author, number, outcome)| Kind::Reply {
            author,
            number,
            outcome,
        }),
    ]
}

proptest! {
    /// Whatever is said, in whatever order, by whoever else: nothing panics, and what was agreed
    /// stays. That it may be misled is what "they do not lie" means.
    #[test]
    fn a_voter_survives_what_it_is_told(kinds in proptest::collection::vec(kind(), 1..30)) {
        let mut voter = founder();
        for kind in kinds {
            let commit = voter.commit();
            tell(&mut voter, message(kind));
            prop_assert!(voter.commit() >= commit);
            voter.wake(NOW, &mut |_| {});
        }
    }

    #[test]
    fn every_message_has_one_spelling(kind in kind(), cut in any::<u16>()) {
        let message = message(kind);
        let bytes = message.to_bytes();
        prop_assert_eq!(decode_all::<Message>(&bytes), Ok(message));
        let cut = usize::from(cut) % bytes.len();
        let short = decode_all::<Message>(&bytes[..cut]);
        prop_assert!(matches!(short, Err(DecodeError::Truncated { .. })), "{short:?}");
    }

    #[test]
    fn other_bytes_are_refused_or_are_the_one_spelling(bytes in bytes()) {
        if let Ok(message) = decode_all::<Message>(&bytes) {
            prop_assert_eq!(message.to_bytes(), bytes);
        }
    }
}
