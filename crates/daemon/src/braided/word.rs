//! What machines of one braid say to each other, and how it is cut into frames.
//!
//! A word is cut into pieces that fit a frame, each with the word's number, its own and how many there are. Streams keep
//! their order, so pieces are put together by appending; where one is missing (a full queue, a connection
//! that ended) the word is lost, as on any line.

use std::collections::BTreeMap;

use runtime::drill::{Ball, Player, Sums};
use runtime::{Offer, Report, Says, Strand};
use wire::codec::decode_all;
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Class, Decode, DecodeError, Encode, Reader, Tile};

use super::Id;

/// No word is longer, in bytes: a sheet of slots is some 32 KiB, and so is that of a long run of messages.
pub const WORD_BYTES_MAX: usize = 4 << 20;
/// Words of one machine that are incomplete at a time.
pub const UNFINISHED_MAX: usize = 4;
/// In front of each piece: the word's number, the piece's, how many.
const HEAD_BYTES_MAX: usize = 10 + 5 + 5;
const PIECE: usize = PAYLOAD_BYTES_MAX - HEAD_BYTES_MAX;

/// What a machine that gives a torus a seat must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Proves to each torus that the others are the others.
    pub key: [u8; 32],
    /// Room for so many processes on each.
    pub players: u32,
    /// Where the torus of each strand sits at first.
    pub hosts: [Tile; 3],
    /// Whether each machine writes down what its torus amounts to, sheet by sheet.
    pub witness: bool,
}

/// One thing said.
#[derive(Clone, Debug)]
pub enum Word {
    /// Give the torus of a strand a seat.
    Sit {
        /// How.
        terms: Terms,
        /// Which.
        strand: Strand,
    },
    /// The torus of this strand sits here.
    Here {
        /// Which.
        strand: Strand,
        /// How often it has been rebuilt.
        incarnation: u32,
    },
    /// From torus to torus.
    Packet {
        /// To which.
        to: Strand,
        /// Sealed.
        bytes: Vec<u8>,
    },
    /// The world wants something done.
    Offered {
        /// By which strand.
        strand: Strand,
        /// Its number.
        number: u64,
        /// What.
        offer: Offer<Player>,
    },
    /// All offers below this number will happen once.
    Accepted {
        /// Of which strand.
        strand: Strand,
        /// The first that may not.
        upto: u64,
    },
    /// A process says something to the world.
    Told {
        /// Of which strand.
        strand: Strand,
        /// Its number.
        number: u64,
        /// What.
        report: Report<Ball>,
    },
    /// The world has all reports below this number; and it is still there.
    Taken {
        /// Of which strand.
        strand: Strand,
        /// The first it does not have.
        upto: u64,
    },
    /// How does the torus of this strand stand?
    Ask {
        /// Which.
        strand: Strand,
    },
    /// So it stands.
    Sums {
        /// Which.
        strand: Strand,
        /// How often it has been rebuilt.
        incarnation: u32,
        /// What its players amount to.
        sums: Sums,
    },
    /// The torus of this strand was lost and cannot be rebuilt.
    Lost {
        /// Which.
        strand: Strand,
    },
    /// No seat for the torus of this strand: this machine has part in as many braids as it can.
    Full {
        /// Which.
        strand: Strand,
    },
    /// It is over.
    End,
}

impl Word {
    /// How urgent it is: a projection that is late is worth nothing, everything else is said in its order.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Packet { bytes, .. } if Says::of(bytes) == Some(Says::Projection) => Class::A,
            _ => Class::B,
        }
    }

    pub(super) const fn is_for_the_conductor(&self) -> bool {
        matches!(
            self,
            Self::Accepted { .. }
                | Self::Told { .. }
                | Self::Sums { .. }
                | Self::Lost { .. }
                | Self::Full { .. }
        )
    }
}

impl Encode for Terms {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.key);
        self.players.encode(out);
        self.hosts.iter().for_each(|host| host.0.encode(out));
        out.push(u8::from(self.witness));
    }
}

impl Decode for Terms {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let key = from.bytes(32)?.try_into().expect("32 bytes");
        let players = u32::decode(from)?;
        let mut hosts = [Tile(0); 3];
        for host in &mut hosts {
            *host = Tile(u64::decode(from)?);
        }
        let at = from.position();
        let witness = match from.byte()? {
            bit @ (0 | 1) => bit == 1,
            found => return Err(invalid(at, "truth value", found)),
        };
        Ok(Self {
            key,
            players,
            hosts,
            witness,
        })
    }
}

fn invalid(at: usize, what: &'static str, found: u8) -> DecodeError {
    DecodeError::Invalid {
        at,
        what,
        found: found.into(),
    }
}

impl Encode for Word {
    fn encode(&self, out: &mut Vec<u8>) {
        let mut begin = |kind: u8, strand: &Strand| {
            out.push(kind);
            strand.encode(out);
        };
        match self {
            Self::Sit { terms, strand } => {
                begin(0, strand);
                terms.encode(out);
            }
            Self::Here {
                strand,
                incarnation,
            } => {
                begin(1, strand);
                incarnation.encode(out);
            }
            Self::Packet { to, bytes } => {
                begin(2, to);
                out.extend(bytes);
            }
            Self::Offered {
                strand,
                number,
                offer,
            } => {
                begin(3, strand);
                number.encode(out);
                offer.encode(out);
            }
            Self::Accepted { strand, upto } => {
                begin(4, strand);
                upto.encode(out);
            }
            Self::Told {
                strand,
                number,
                report,
            } => {
                begin(5, strand);
                number.encode(out);
                report.encode(out);
            }
            Self::Taken { strand, upto } => {
                begin(6, strand);
                upto.encode(out);
            }
            Self::Ask { strand } => begin(7, strand),
            Self::Sums {
                strand,
                incarnation,
                sums,
            } => {
                begin(8, strand);
                incarnation.encode(out);
                for count in [
                    sums.players,
                    sums.passed,
                    sums.turns,
                    sums.missed,
                    sums.astray,
                    sums.mail,
                ] {
                    count.encode(out);
                }
            }
            Self::Lost { strand } => begin(9, strand),
            Self::End => begin(10, &Strand::Compute),
            Self::Full { strand } => begin(11, strand),
        }
    }
}

impl Decode for Word {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let kind = from.byte()?;
        let strand = Strand::decode(from)?;
        Ok(match kind {
            0 => Self::Sit {
                terms: Terms::decode(from)?,
                strand,
            },
            1 => Self::Here {
                strand,
                incarnation: u32::decode(from)?,
            },
            2 => Self::Packet {
                to: strand,
                bytes: from.bytes(from.remaining())?.to_vec(),
            },
            3 => Self::Offered {
                strand,
                number: u64::decode(from)?,
                offer: Offer::decode(from)?,
            },
            4 => Self::Accepted {
                strand,
                upto: u64::decode(from)?,
            },
            5 => Self::Told {
                strand,
                number: u64::decode(from)?,
                report: Report::decode(from)?,
            },
            6 => Self::Taken {
                strand,
                upto: u64::decode(from)?,
            },
            7 => Self::Ask { strand },
            8 => Self::Sums {
                strand,
                incarnation: u32::decode(from)?,
                sums: Sums {
                    players: u64::decode(from)?,
                    passed: u64::decode(from)?,
                    turns: u64::decode(from)?,
                    missed: u64::decode(from)?,
                    astray: u64::decode(from)?,
                    mail: u64::decode(from)?,
                },
            },
            9 => Self::Lost { strand },
            10 if strand == Strand::Compute => Self::End,
            11 => Self::Full { strand },
            found => return Err(invalid(at, "word of a braid", found)),
        })
    }
}

/// A word as frames carry it; none if it is too long.
#[must_use]
pub fn pieces(number: u64, braid: Id, word: &Word) -> Option<Vec<Vec<u8>>> {
    let mut whole = braid.to_le_bytes().to_vec();
    word.encode(&mut whole);
    if whole.len() > WORD_BYTES_MAX {
        return None;
    }
    let count = whole.len().div_ceil(PIECE) as u32;
    let piece = |(nth, bytes): (u32, &[u8])| {
        let mut piece = number.to_bytes();
        nth.encode(&mut piece);
        count.encode(&mut piece);
        piece.extend(bytes);
        piece
    };
    Some((0..).zip(whole.chunks(PIECE)).map(piece).collect())
}

/// Words on their way in, by sender and number.
#[derive(Debug, Default)]
pub struct Arriving(BTreeMap<Tile, BTreeMap<u64, Unfinished>>);

#[derive(Debug)]
struct Unfinished {
    /// The piece that comes next, of how many.
    next: u32,
    count: u32,
    bytes: Vec<u8>,
}

impl Arriving {
    /// Bytes of words that are not whole, and how many words those are.
    #[must_use]
    pub fn unfinished(&self) -> (usize, usize) {
        let words = self.0.values().flat_map(BTreeMap::values);
        words.fold((0, 0), |(bytes, number), word| {
            (bytes + word.bytes.len(), number + 1)
        })
    }

    /// Takes a piece; gives the word back when it is whole.
    pub fn take(&mut self, from: Tile, payload: &[u8]) -> Option<(Id, Word)> {
        let mut reader = Reader::new(payload);
        let number = u64::decode(&mut reader).ok()?;
        let (nth, count) = (
            u32::decode(&mut reader).ok()?,
            u32::decode(&mut reader).ok()?,
        );
        let bytes = reader.bytes(reader.remaining()).ok()?;
        if count as usize > WORD_BYTES_MAX.div_ceil(PIECE) || nth >= count {
            return None;
        }
        if count == 1 {
            return read(bytes);
        }
        let words = self.0.entry(from).or_default();
        if nth == 0 {
            while words.len() >= UNFINISHED_MAX {
                words.pop_first();
            }
            let (next, bytes) = (0, Vec::new());
            words.insert(number, Unfinished { next, count, bytes });
        }
        let word = words.get_mut(&number)?;
        let is_long = word.bytes.len() + bytes.len() > WORD_BYTES_MAX;
        if (word.next, word.count) != (nth, count) || is_long {
            words.remove(&number);
            return None;
        }
        word.next += 1;
        word.bytes.extend(bytes);
        if word.next < count {
            return None;
        }
        read(&words.remove(&number)?.bytes)
    }
}

fn read(whole: &[u8]) -> Option<(Id, Word)> {
    let (braid, word) = whole.split_first_chunk()?;
    Some((Id::from_le_bytes(*braid), decode_all(word).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(length: usize) -> Word {
        Word::Packet {
            to: Strand::Io,
            bytes: (0..length).map(|at| at as u8).collect(),
        }
    }

    #[test]
    fn a_word_arrives_as_it_was_said_however_long_and_whatever_comes_between() {
        let (us, them) = (Tile(1), Tile(2));
        for length in [0, 1, PIECE - 12, PIECE, 40_000] {
            let mut arriving = Arriving::default();
            let ours = pieces(7, 9, &packet(length)).unwrap();
            let theirs = pieces(7, 8, &packet(length + 1)).unwrap();
            let mut come = Vec::new();
            for nth in 0..theirs.len() {
                for (from, said) in [(us, &ours), (them, &theirs)] {
                    let piece = said.get(nth);
                    come.extend(piece.and_then(|piece| arriving.take(from, piece)));
                }
            }
            let come = come.into_iter().map(|(braid, word)| match word {
                Word::Packet {
                    to: Strand::Io,
                    bytes,
                } => (braid, bytes.len()),
                other => panic!("{other:?}"),
            });
            assert_eq!(come.collect::<Vec<_>>(), [(9, length), (8, length + 1)]);
        }
    }

    #[test]
    fn a_word_with_a_hole_is_lost_and_those_after_it_are_not() {
        let mut arriving = Arriving::default();
        let pieces_of = |number| pieces(number, 1, &packet(5_000)).unwrap();
        for (nth, piece) in pieces_of(1).iter().enumerate() {
            if nth != 2 {
                assert!(arriving.take(Tile(1), piece).is_none());
            }
        }
        // Nor are two of one number mended with each other, as they might be once their machine has begun anew.
        let (short, long) = (pieces(3, 1, &packet(3_000)), pieces(3, 1, &packet(5_000)));
        let (short, long) = (short.unwrap(), long.unwrap());
        assert!(short.len() < long.len());
        for piece in short[..short.len() - 1]
            .iter()
            .chain(&long[short.len() - 1..])
        {
            assert!(arriving.take(Tile(1), piece).is_none());
        }
        let last = pieces_of(2);
        let come: Vec<_> = last
            .iter()
            .filter_map(|piece| arriving.take(Tile(1), piece))
            .collect();
        assert_eq!(come.len(), 1);
    }

    #[test]
    fn words_without_end_take_no_more_than_their_share() {
        let mut arriving = Arriving::default();
        for number in 0..1_000 {
            let first = &pieces(number, 1, &packet(5_000)).unwrap()[0];
            assert!(arriving.take(Tile(1), first).is_none());
        }
        assert_eq!(arriving.0[&Tile(1)].len(), UNFINISHED_MAX);
        for nonsense in [
            &b""[..],
            b"\x01",
            b"\x01\x00\x00",
            b"\x01\x05\x02",
            b"\x01\x00\x01\xff",
        ] {
            assert!(arriving.take(Tile(2), nonsense).is_none());
        }
    }

    /// Each kind of word.
    fn all() -> Vec<Word> {
        use runtime::Weight;
        let terms = Terms {
            key: [7; 32],
            players: 300,
            hosts: [Tile(3), Tile(0), Tile(9)],
            witness: true,
        };
        let strand = Strand::Accelerator;
        let offer = Offer::Spawn {
            process: Player::default(),
            weight: Weight::MOST,
        };
        let sums = Sums {
            players: 1,
            passed: 2,
            turns: 3,
            missed: 4,
            astray: 5,
            mail: 6,
        };
        vec![
            Word::Sit { terms, strand },
            Word::Here {
                strand,
                incarnation: 3,
            },
            packet(3),
            Word::Offered {
                strand,
                number: 5,
                offer,
            },
            Word::Accepted { strand, upto: 6 },
            Word::Told {
                strand,
                number: 8,
                report: Report::Nobody { offer: 4 },
            },
            Word::Taken { strand, upto: 9 },
            Word::Ask { strand },
            Word::Sums {
                strand,
                incarnation: 1,
                sums,
            },
            Word::Lost { strand },
            Word::Full { strand },
            Word::End,
        ]
    }

    #[test]
    fn every_word_is_read_as_it_was_written() {
        for word in all() {
            let again: Word = decode_all(&word.to_bytes()).unwrap();
            assert_eq!(format!("{again:?}"), format!("{word:?}"));
        }
    }

    #[test]
    fn what_is_no_word_is_refused() {
        let read = |bytes: &[u8]| decode_all::<Word>(bytes);
        for word in all() {
            let bytes = word.to_bytes();
            let is_open = matches!(word, Word::Packet { .. });
            for end in 0..bytes.len() {
                let cut = read(&bytes[..end]);
                assert!(cut.is_err() || (is_open && end >= 2), "{word:?} {cut:?}");
            }
            let longer = [&bytes[..], &[0]].concat();
            assert!(read(&longer).is_err() || is_open, "{word:?}");
            let elsewhere = [&bytes[..1], &[3], &bytes[2..]].concat();
            assert!(read(&elsewhere).is_err(), "{word:?}");
        }
        assert!(read(&[12, 0]).is_err() && read(&[255, 0]).is_err());
        // One spelling each.
        assert!(read(&[10, 0]).is_ok() && read(&[10, 1]).is_err());
        let mut sit = all()[0].to_bytes();
        *sit.last_mut().unwrap() = 2;
        assert!(read(&sit).is_err());
    }

    #[test]
    fn what_is_too_long_is_neither_said_nor_heard() {
        assert!(pieces(1, 1, &packet(WORD_BYTES_MAX - 10)).is_some());
        assert!(pieces(1, 1, &packet(WORD_BYTES_MAX - 9)).is_none());
        let mut arriving = Arriving::default();
        let piece = |nth: u32, count: u32, length: usize| {
            let mut piece = 1_u64.to_bytes();
            nth.encode(&mut piece);
            count.encode(&mut piece);
            piece.resize(piece.len() + length, 0);
            piece
        };
        let most = WORD_BYTES_MAX.div_ceil(PIECE) as u32;
        for (nth, count) in [(0, most + 1), (0, u32::MAX), (0, 0), (most, most)] {
            assert!(arriving.take(Tile(1), &piece(nth, count, 10)).is_none());
        }
        assert_eq!(arriving.unfinished(), (0, 0));
        // Pieces that say they fit, and are larger than any frame.
        for nth in 0..most {
            assert!(
                arriving
                    .take(Tile(1), &piece(nth, most, 8 * PIECE))
                    .is_none()
            );
            assert!(arriving.unfinished().0 <= WORD_BYTES_MAX);
        }
        // One after another, as often as one likes.
        for number in 0..100_u64 {
            let mut first = number.to_bytes();
            0_u32.encode(&mut first);
            2_u32.encode(&mut first);
            arriving.take(Tile(1), &first);
        }
        assert_eq!(arriving.unfinished(), (0, UNFINISHED_MAX));
    }
}
