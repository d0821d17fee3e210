#![no_main]

use fuzz::contract::{Pause, Rig};
use fuzz::speech::{Said, member};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use machine::Persisted;
use membership::Input;

#[derive(Debug, Arbitrary)]
enum Act {
    Hear(Said),
    Sync,
    Leave,
}

// Whatever is said to a member, and however late it is woken: it never speaks as an incarnation that a
// crash would forget.
libfuzzer_sys::fuzz_target!(|plan: (bool, Vec<(Pause, bool, Act)>)| {
    let (again, acts) = plan;
    let (machine, mut promise) = member(again.into());
    let mut rig = Rig {
        machine,
        now: wire::Instant::EPOCH,
        effects_max: 64,
        wakes_max: 8,
    };
    for (pause, punctual, act) in acts {
        rig.pass(pause, punctual, |_, effect| promise.note(effect));
        let input = match act {
            Act::Hear(said) => Input::Received(said.message(&rig.machine, &promise.key)),
            Act::Leave => Input::Leave,
            Act::Sync => match promise.sync() {
                Some(token) => Input::Persisted(Persisted { token }),
                None => continue,
            },
        };
        rig.give(input, |_, effect| promise.note(effect));
        promise.holds(&rig.machine);
    }
});
