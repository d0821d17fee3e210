#![no_main]

use daemon::control::Request;
use daemon::fleet::{parcel, post};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use wire::Tile;

#[derive(Debug, Arbitrary)]
struct Came {
    from: u8,
    payload: Payload,
}

#[derive(Debug, Arbitrary)]
enum Payload {
    /// Anything.
    Bytes(Vec<u8>),
    /// What fits together.
    Piece {
        number: u8,
        answers: bool,
        more: bool,
        bytes: Vec<u8>,
        times: u16,
    },
    /// A whole message as it is packed, perhaps with a piece of it missing.
    Packed {
        number: u8,
        length: u16,
        lacks: Option<u8>,
    },
}

// Whatever members send one another as letters and parcels: nothing longer is put together than may be, nobody holds more than they may, and what was packed
// arrives as it was.
libfuzzer_sys::fuzz_target!(|all: Vec<Came>| {
    let (mut letters, mut parcels) = (post::Arriving::default(), parcel::Arriving::default());
    for Came { from, payload } in all {
        let from = Tile(u64::from(from % 4));
        let mut letter = |payload: &[u8]| {
            let Ok(piece) = post::Piece::read(payload) else {
                return;
            };
            assert_eq!(piece.write(), payload);
            if let Some(whole) = letters.take(from, &piece) {
                assert!(whole.len() <= post::LETTER_BYTES_MAX);
                let _ = serde_json::from_slice::<Request>(&whole);
            }
            assert!(letters.number() <= post::LETTERS_MAX);
        };
        match payload {
            Payload::Bytes(bytes) => {
                letter(&bytes);
                if let Ok(Some(message)) = parcels.take(from, &bytes) {
                    assert!(message.len() <= parcel::MESSAGE_BYTES_MAX);
                }
            }
            Payload::Piece {
                number,
                answers,
                more,
                bytes,
                times,
            } => {
                let piece = post::Piece {
                    number: number.into(),
                    answers,
                    more,
                    bytes: &bytes,
                };
                let payload = piece.write();
                for _ in 0..=times % 2048 {
                    letter(&payload);
                }
            }
            Payload::Packed {
                number,
                length,
                lacks,
            } => {
                let message: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
                let mut pieces = parcel::pack(number.into(), &message).expect("it is short");
                if let Some(lacks) = lacks {
                    pieces.remove(usize::from(lacks) % pieces.len());
                }
                let came: Vec<_> = pieces
                    .iter()
                    .filter_map(|piece| parcels.take(from, piece).ok().flatten())
                    .collect();
                match lacks {
                    None => assert_eq!(came, [message]),
                    Some(_) => assert!(came.is_empty()),
                }
            }
        }
    }
});
