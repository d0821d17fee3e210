#![no_main]

use daemon::braided::word::{Arriving, UNFINISHED_MAX, WORD_BYTES_MAX, Word, pieces};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use runtime::Strand;
use wire::Tile;

#[derive(Debug, Arbitrary)]
enum Came {
    /// Anything.
    Bytes { from: u8, payload: Vec<u8> },
    /// A piece of no word, or of one in another order.
    Piece {
        from: u8,
        number: u8,
        nth: u8,
        count: u32,
        bytes: Vec<u8>,
        times: u16,
    },
    /// A whole word as it is cut, perhaps with a piece of it missing.
    Word {
        from: u8,
        length: u16,
        lacks: Option<u8>,
    },
}

// Whatever members say in the protocol of braids: what is a word has one spelling, what is none is refused, nobody makes a machine hold more than a few
// words, and a word that was cut arrives as it was.
libfuzzer_sys::fuzz_target!(|all: Vec<Came>| {
    let mut arriving = Arriving::default();
    // Nobody gives two words one number.
    for (number, came) in (1_u64 << 32..).zip(all) {
        let sender = |from: u8| Tile(u64::from(from % 4));
        match came {
            Came::Bytes { from, payload } => {
                fuzz::is_canonical::<Word>(&payload);
                arriving.take(sender(from), &payload);
            }
            Came::Piece {
                from,
                number,
                nth,
                count,
                bytes,
                times,
            } => {
                let mut nth = u32::from(nth);
                for _ in 0..=times % 512 {
                    use wire::Encode as _;
                    let mut piece = u64::from(number).to_bytes();
                    nth.encode(&mut piece);
                    count.encode(&mut piece);
                    piece.extend(&bytes);
                    arriving.take(sender(from), &piece);
                    nth = nth.saturating_add(1);
                }
            }
            Came::Word {
                from,
                length,
                lacks,
            } => {
                let bytes: Vec<u8> = (0..length).map(|at| at.to_le_bytes()[0]).collect();
                let to = Strand::Io;
                let said = bytes.clone();
                let word = Word::Packet { to, bytes };
                let mut all = pieces(number, 9, &word).expect("it is short");
                if let Some(lacks) = lacks {
                    all.remove(usize::from(lacks) % all.len());
                }
                let came: Vec<_> = all
                    .iter()
                    .filter_map(|piece| arriving.take(sender(from), piece))
                    .collect();
                match (lacks, &came[..]) {
                    (None, [(9, Word::Packet { bytes, .. })]) => assert_eq!(*bytes, said),
                    (Some(_), []) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
        let (bytes, words) = arriving.unfinished();
        assert!(words <= 4 * UNFINISHED_MAX && bytes <= words * WORD_BYTES_MAX);
    }
});
