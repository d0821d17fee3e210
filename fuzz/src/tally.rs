//! A process that adds up what it is told and halves it on.

use runtime::{Process, Turn};
use wire::{Decode, DecodeError, Encode, Reader};

/// The sum of everything.
#[derive(Clone, Debug, Default)]
pub struct Tally(u64);

impl Encode for Tally {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Decode for Tally {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u64::decode(from).map(Self)
    }
}

impl Process for Tally {
    type Message = u64;

    fn handle(&mut self, message: u64, turn: &mut Turn<'_, Self>) {
        self.0 = self.0.wrapping_add(message);
        // What is refused is let go: the fuzzer looks at the torus.
        let me = turn.me();
        let _ = match message % 5 {
            0 => turn.tell(message),
            1 => turn.send(me, message / 2),
            2 => turn
                .spawn(Self(message), runtime::Weight::LEAST)
                .map(|_| ()),
            3 => turn.spawn_on(
                runtime::Strand::Compute,
                Self(message),
                runtime::Weight::LEAST,
            ),
            _ => {
                turn.exit();
                Ok(())
            }
        };
    }
}
