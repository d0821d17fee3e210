//! A braid on machines, one member of whose fleet says whatever it likes.

mod waiting;

use std::path::Path;

use daemon::braided::course::{Drill, Kind, Progress};
use daemon::braided::word::{Terms, Word, pieces};
use daemon::braided::{Braids, PLAYERS_MAX, PROTOCOL};
use daemon::fleet::archive::Archive;
use daemon::fleet::{self, Fleet, INVITATION_LASTS, SEATS, Wishes};
use runtime::drill::{Ball, Player, Sums};
use runtime::{Offer, Report, Strand, Weight};
use wire::{Class, Tile};

use waiting::wait_until;

fn member(data: &Path, name: &str, invited_by: Option<&Fleet>) -> Fleet {
    let archive = Archive::open(&data.join("fleet.redb")).expect("it opens");
    let wishes = Wishes {
        name: Some(name.to_owned()),
        join: invited_by.map(|fleet| fleet.invite(INVITATION_LASTS).expect("it invites")),
        ..Wishes::default()
    };
    fleet::start(data, archive, wishes).expect("it starts")
}

/// Words that are well-formed, from one who has no part in the braid.
fn lies(here: Tile) -> Vec<Word> {
    let terms = |hosts: [u64; 3], players: u32| Terms {
        key: [1; 32],
        players,
        hosts: hosts.map(Tile),
        witness: false,
    };
    let us = here.0;
    let mut all = vec![Word::End];
    for strand in Strand::ALL {
        let sit = |terms| Word::Sit { terms, strand };
        all.extend([
            sit(terms([us; 3], 10)),
            sit(terms([us, us, SEATS.into()], 10)),
            sit(terms([u64::MAX; 3], 10)),
            sit(terms([us; 3], PLAYERS_MAX + 1)),
            Word::Here {
                strand,
                incarnation: 1,
            },
            Word::Here {
                strand,
                incarnation: u32::MAX,
            },
            Word::Packet {
                to: strand,
                bytes: vec![7; 3_000],
            },
            Word::Packet {
                to: strand,
                bytes: Vec::new(),
            },
            Word::Offered {
                strand,
                number: 0,
                offer: Offer::Spawn {
                    process: Player::default(),
                    weight: Weight::MOST,
                },
            },
            Word::Accepted {
                strand,
                upto: u64::MAX,
            },
            Word::Taken {
                strand,
                upto: u64::MAX,
            },
            Word::Told {
                strand,
                number: 0,
                report: Report::<Ball>::Nobody { offer: 0 },
            },
            Word::Sums {
                strand,
                incarnation: 0,
                sums: Sums::default(),
            },
            Word::Ask { strand },
            Word::Full { strand },
            Word::Lost { strand },
        ]);
    }
    all
}

#[test]
fn who_has_no_part_in_a_braid_can_say_what_it_likes() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let good = member(ours.path(), "ada", None);
    let rogue = member(theirs.path(), "mal", Some(&good));
    let alive = |fleet: &Fleet| {
        let members = fleet.members().expect("it lives");
        members
            .iter()
            .filter(|member| member.state == "alive")
            .count()
            == 2
    };
    wait_until("they know each other", || alive(&good) && alive(&rogue));
    let braids = Braids::open(good.clone(), ours.path()).expect("it opens");
    let here = Tile(0);
    let on = [const { "ada" }; 3].map(str::to_owned);
    let drill = Drill {
        players: 90,
        work: Kind::Errands,
        pieces: 2_000,
        at_once: 8,
        length: 6,
        seed: 1,
        witness: false,
    };
    let progress = braids.start(&on, &drill).expect("it starts");
    let id = u64::from_str_radix(&progress.braid, 16).expect("its name is its number");
    let say = |class, payload| rogue.send(here, class, PROTOCOL, payload).is_ok();

    let mut number = 0;
    let mut said = 0;
    let mut ended: Option<Progress> = None;
    wait_until("it is over", || {
        for word in lies(here) {
            number += 1;
            let all = pieces(number, id, &word).expect("it is short");
            said += u32::from(all.into_iter().all(|piece| say(Class::B, piece)));
        }
        // No words at all, and pieces of none.
        for nonsense in [
            &b""[..],
            b"\xff",
            b"\x01\x00\x01",
            b"\x01\x00\x05abc",
            b"\x01\x04\x05abc",
        ] {
            let long = [nonsense, &[0xa5; 700]].concat();
            said += u32::from(say(Class::A, nonsense.to_vec()) && say(Class::B, long));
        }
        ended = braids.progress(id);
        let state = ended.as_ref().map(|progress| progress.state.as_str());
        !matches!(state, Some("settling" | "working"))
    });
    let ended = ended.expect("it is known");
    assert_eq!(
        (ended.state.as_str(), &ended.wrong[..]),
        ("over", &[][..]),
        "{ended:?}"
    );
    let passed: u64 = ended.tori.iter().map(|torus| torus.passed).sum();
    assert_eq!((ended.ended, passed), (2_000, 14_000));
    assert!(
        ended.tori.iter().all(|torus| torus.rebuilt == 0),
        "{ended:?}"
    );
    // Each of them, and more than once.
    assert!(
        said as usize > 2 * lies(here).len(),
        "only {said} were said"
    );

    // A braid of its own it may begin, and none under a name that is another's to give. Each that begins writes a witness.
    let members = rogue.members().expect("it lives");
    let itself = members.iter().find(|member| member.here).expect("itself");
    let named = |tile: u64| 7 << 8 | tile;
    for braid in [named(here.0), named(itself.tile)] {
        for strand in Strand::ALL {
            let terms = Terms {
                key: [1; 32],
                players: 10,
                hosts: [here; 3],
                witness: true,
            };
            number += 1;
            for piece in pieces(number, braid, &Word::Sit { terms, strand }).expect("it is short") {
                wait_until("there is room", || say(Class::B, piece.clone()));
            }
        }
    }
    let begun = || {
        let files = std::fs::read_dir(ours.path().join("braids"));
        let files = files.into_iter().flatten().flatten();
        let names = files.map(|file| file.file_name().to_string_lossy()[..16].to_owned());
        names.collect::<Vec<_>>()
    };
    // What was said before it was heard before it.
    wait_until("its own has begun", || {
        let own = format!("{:016x}", named(itself.tile));
        begun().iter().filter(|name| **name == own).count() == 3
    });
    assert_eq!(begun().len(), 3, "{:?}", begun());
}
