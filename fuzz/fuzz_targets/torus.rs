#![no_main]

use fuzz::contract::{Pause, Rig};
use fuzz::tally::Tally;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use runtime::{Config, Effect, Input, Limits, Offer, Report, Strand, Torus, Weight};
use trust::Key;
use wire::Instant;

#[derive(Debug, Arbitrary)]
enum Act {
    Spawn(u8),
    Say(u8, u8),
    Taken(u8),
    /// Bytes as they come, or under the braid's key.
    Hear(Vec<u8>, bool),
}

// Whatever is offered to a torus and said to it by strangers, and however late it is woken: its queues
// stay within their limits and nothing leaves it that nobody keeps.
libfuzzer_sys::fuzz_target!(|plan: Vec<(Pause, bool, Act)>| {
    let key = Key::new([7; 32]);
    let mut config = Config::new(key.clone());
    config.limits = Limits {
        processes: 64,
        mailbox: 8,
        mail: 64,
        lane: 16,
    };
    let mut rig = Rig {
        machine: Torus::<Tally>::new(config, Strand::Io, Instant::EPOCH),
        now: Instant::EPOCH,
        effects_max: 1_024,
        wakes_max: 600,
    };
    let mut number = 0;
    let mut heard = false;
    let mut names = Vec::new();
    for (pause, punctual, act) in plan {
        let mut seen = |torus: &Torus<Tally>, effect| {
            let lattice = torus.lattice();
            assert!(lattice.processes() <= 64 && lattice.mail() <= 64);
            match effect {
                // Until somebody has spoken nobody can hold anything.
                Effect::Accepted { .. } => assert!(heard, "acknowledged, and held by nobody"),
                Effect::Told { report, .. } => {
                    assert!(heard, "told, and held by nobody");
                    if let Report::Spawned { pid, .. } = report {
                        names.push(pid);
                    }
                }
                _ => {}
            }
        };
        rig.pass(pause, punctual, &mut seen);
        let input = match act {
            Act::Spawn(weight) => Input::Offered {
                number,
                offer: Offer::Spawn {
                    process: Tally::default(),
                    weight: Weight::new(weight),
                },
            },
            Act::Say(to, message) => {
                let all: Vec<_> = rig.machine.lattice().iter().map(|(pid, _)| pid).collect();
                let Some(&to) = all.get(usize::from(to) % all.len().max(1)) else {
                    continue;
                };
                Input::Offered {
                    number,
                    offer: Offer::Message {
                        to,
                        message: message.into(),
                        due: Instant::END,
                    },
                }
            }
            Act::Taken(upto) => Input::Taken { upto: upto.into() },
            Act::Hear(bytes, false) => Input::Received(bytes),
            Act::Hear(mut bytes, true) => {
                // A packet that says it may hold something, and no log: that is the others' own.
                if bytes.get(3) == Some(&1) {
                    continue;
                }
                heard = true;
                let tag = key.tag(&bytes);
                bytes.extend(tag.as_bytes());
                Input::Received(bytes)
            }
        };
        let offered = matches!(input, Input::Offered { .. });
        let mut refused = false;
        rig.give(input, |_, effect| {
            refused |= matches!(effect, Effect::Refused { .. })
        });
        number += u64::from(offered && !refused && rig.machine.stopped().is_none());
    }
});
