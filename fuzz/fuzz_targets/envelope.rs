#![no_main]

use trust::Key;
use trust::envelope::{Opening, Refused, Sealing};
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Class, Tile};

/// Bytes from a stranger, and of frames the kind, the bit to flip and the payload.
type Plan = (Vec<u8>, Vec<(u8, Option<u16>, Vec<u8>)>);

// Whatever comes is refused, but for what the other side sealed, and that once; nothing that is refused
// changes what is heard afterwards.
libfuzzer_sys::fuzz_target!(|plan: Plan| {
    let (noise, said) = plan;
    let key = || Key::new([7; 32]);
    let mut sealing = Sealing::new(key(), Tile(3), Tile(4));
    let mut opening = Opening::new(key(), Tile(3), Tile(4));
    for (class, flip, mut payload) in said {
        assert!(opening.open(&noise).is_err());
        payload.truncate(PAYLOAD_BYTES_MAX);
        let class = Class::ALL[usize::from(class) % Class::ALL.len()];
        let sealed = sealing.seal(class, 1, &payload);
        if let Some(at) = flip {
            let mut flipped = sealed.clone();
            let at = usize::from(at) % (flipped.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            assert!(opening.open(&flipped).is_err());
        }
        assert_eq!(
            opening.open(&sealed).expect("as it was sealed").payload,
            payload
        );
        let again = opening.open(&sealed);
        assert!(matches!(again, Err(Refused::Replayed { .. })), "{again:?}");
    }
});
