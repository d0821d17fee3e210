//! What keepers are asked, and what they answer.
//!
//! A snapshot is a row of sections that say what they are by their seals ([`capsule::snapshot`](crate::capsule::snapshot)), and most of them are those of the version
//! before. So what is given is a *recipe*: runs of sections that the keeper has, and those that it lacks. Where it has nothing to build on, or too much
//! is new for a letter, the whole is brought to it in pieces first.
//!
//! Every length is bounded before anything is kept of it.

use consensus::Index;
use consensus::keep::{Mark, Stint, Version};
use wire::{Decode, DecodeError, Encode, Reader, Tile};

/// No snapshot that is kept is longer, in bytes.
pub(crate) const KEPT_BYTES_MAX: usize = 64 << 20;
/// So many bytes of one go into a letter.
pub(super) const PIECE_BYTES_MAX: usize = 900 << 10;
/// So many words a recipe has at most.
const WORDS_MAX: usize = 1 << 16;
/// So long is an answer in words cut to, in bytes.
const SAID_BYTES_MAX: usize = 300;

/// What a keeper is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letter {
    /// Promise yourself to this stint, and say what you have.
    Ask {
        /// The program's number.
        program: u64,
        /// Whose.
        stint: Stint,
    },
    /// Say what that version is, from this byte on.
    Fetch {
        /// The program's number.
        program: u64,
        /// Which.
        version: Version,
        /// The first byte.
        from: u64,
    },
    /// This is a piece of that version, which will be given later.
    Bring {
        /// The program's number.
        program: u64,
        /// Of which.
        version: Version,
        /// Its first byte.
        from: u64,
        /// The piece.
        bytes: Vec<u8>,
    },
    /// Keep this.
    Give {
        /// The program's number.
        program: u64,
        /// What it is.
        version: Version,
        /// BLAKE3 of all of it.
        hash: [u8; 32],
        /// How it is made.
        recipe: Recipe,
    },
    /// You hold its lease: this machine is about to go, so let another keep it.
    Relieve {
        /// The program's number.
        program: u64,
        /// Who goes.
        tile: Tile,
    },
}

/// How a version is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// Of the pieces that were brought.
    Brought,
    /// Of another version, which the keeper has if it took all that it said it took.
    From(Version, Vec<Word>),
}

/// A part of a version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// So many parts of the other, from this one on.
    Run(u32, u32),
    /// These bytes.
    New(Vec<u8>),
}

/// What a keeper answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is promised; this is what it has, on which shelf.
    Has(Mark, Option<Version>),
    /// It is promised to a later stint.
    Later(Stint),
    /// It has put that version on this shelf, or has a newer one there.
    Kept(Mark),
    /// It is done.
    Taken,
    /// It does not have what that is made of, or what was asked for.
    Lacks,
    /// What was asked for, from that byte on, and how long all of it is.
    Piece(u64, Vec<u8>),
    /// It cannot, and why.
    Unable(String),
}

fn stint(from: &mut Reader<'_>) -> Result<Stint, DecodeError> {
    Ok(Stint {
        fence: Index::decode(from)?,
        start: u64::decode(from)?,
    })
}

fn version(from: &mut Reader<'_>) -> Result<Version, DecodeError> {
    Ok(Version {
        by: stint(from)?,
        number: u64::decode(from)?,
    })
}

fn put_stint(stint: Stint, out: &mut Vec<u8>) {
    stint.fence.encode(out);
    stint.start.encode(out);
}

fn put_version(version: Version, out: &mut Vec<u8>) {
    put_stint(version.by, out);
    version.number.encode(out);
}

fn tag(from: &mut Reader<'_>, what: &'static str, most: u8) -> Result<u8, DecodeError> {
    let at = from.position();
    let found = from.byte()?;
    let wrong = DecodeError::Invalid {
        at,
        what,
        found: found.into(),
    };
    (found <= most).then_some(found).ok_or(wrong)
}

impl Letter {
    /// About which program.
    pub(super) const fn program(&self) -> u64 {
        match self {
            Self::Ask { program, .. }
            | Self::Fetch { program, .. }
            | Self::Bring { program, .. }
            | Self::Give { program, .. }
            | Self::Relieve { program, .. } => *program,
        }
    }
}

impl Encode for Letter {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ask { program, stint } => {
                out.push(0);
                program.encode(out);
                put_stint(*stint, out);
            }
            Self::Fetch {
                program,
                version,
                from,
            } => {
                out.push(1);
                program.encode(out);
                put_version(*version, out);
                from.encode(out);
            }
            Self::Bring {
                program,
                version,
                from,
                bytes,
            } => {
                out.push(2);
                program.encode(out);
                put_version(*version, out);
                from.encode(out);
                bytes.encode(out);
            }
            Self::Give {
                program,
                version,
                hash,
                recipe,
            } => {
                out.push(3);
                program.encode(out);
                put_version(*version, out);
                out.extend_from_slice(hash);
                match recipe {
                    Recipe::Brought => out.push(0),
                    Recipe::From(base, words) => {
                        out.push(1);
                        put_version(*base, out);
                        (words.len() as u64).encode(out);
                        for word in words {
                            match word {
                                Word::Run(first, count) => {
                                    out.push(0);
                                    first.encode(out);
                                    count.encode(out);
                                }
                                Word::New(bytes) => {
                                    out.push(1);
                                    bytes.encode(out);
                                }
                            }
                        }
                    }
                }
            }
            Self::Relieve { program, tile } => {
                out.push(4);
                program.encode(out);
                tile.encode(out);
            }
        }
    }
}

impl Decode for Letter {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = tag(from, "letter to a keeper", 4)?;
        let program = u64::decode(from)?;
        if kind == 0 {
            let stint = stint(from)?;
            return Ok(Self::Ask { program, stint });
        }
        if kind == 4 {
            let tile = Tile::decode(from)?;
            return Ok(Self::Relieve { program, tile });
        }
        let version = version(from)?;
        Ok(match kind {
            1 => Self::Fetch {
                program,
                version,
                from: u64::decode(from)?,
            },
            2 => Self::Bring {
                program,
                version,
                from: u64::decode(from)?,
                bytes: Vec::decode(from)?,
            },
            _ => Self::Give {
                program,
                version,
                hash: *from
                    .bytes(32)?
                    .first_chunk()
                    .expect("so many were asked for"),
                recipe: recipe(from)?,
            },
        })
    }
}

fn recipe(from: &mut Reader<'_>) -> Result<Recipe, DecodeError> {
    if tag(from, "recipe", 1)? == 0 {
        return Ok(Recipe::Brought);
    }
    let base = version(from)?;
    let at = from.position();
    let count = from.count(1)?;
    if count > WORDS_MAX {
        return Err(DecodeError::Invalid {
            at,
            what: "number of words in a recipe",
            found: count as u64,
        });
    }
    let word = |from: &mut Reader<'_>| {
        Ok(match tag(from, "word of a recipe", 1)? {
            0 => Word::Run(u32::decode(from)?, u32::decode(from)?),
            _ => Word::New(Vec::decode(from)?),
        })
    };
    let words = (0..count).map(|_| word(from));
    Ok(Recipe::From(base, words.collect::<Result<_, _>>()?))
}

impl Encode for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Has(mark, None) => {
                out.push(0);
                mark.0.encode(out);
            }
            Self::Has(mark, Some(version)) => {
                out.push(1);
                mark.0.encode(out);
                put_version(*version, out);
            }
            Self::Later(stint) => {
                out.push(2);
                put_stint(*stint, out);
            }
            Self::Taken => out.push(3),
            Self::Lacks => out.push(4),
            Self::Piece(all, bytes) => {
                out.push(5);
                all.encode(out);
                bytes.encode(out);
            }
            Self::Unable(because) => {
                out.push(6);
                let end = because.floor_char_boundary(SAID_BYTES_MAX);
                because.as_bytes()[..end].encode(out);
            }
            Self::Kept(mark) => {
                out.push(7);
                mark.0.encode(out);
            }
        }
    }
}

impl Decode for Answer {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mark = |from: &mut Reader<'_>| u64::decode(from).map(Mark);
        Ok(match tag(from, "answer of a keeper", 7)? {
            0 => Self::Has(mark(from)?, None),
            1 => Self::Has(mark(from)?, Some(version(from)?)),
            2 => Self::Later(stint(from)?),
            3 => Self::Taken,
            4 => Self::Lacks,
            5 => Self::Piece(u64::decode(from)?, Vec::decode(from)?),
            7 => Self::Kept(mark(from)?),
            _ => Self::Unable(String::from_utf8_lossy(&Vec::decode(from)?).into_owned()),
        })
    }
}

/// How one version is made of another; none if that would be longer than a letter.
pub(super) fn recipe_for(base: &[&[u8]], parts: &[&[u8]]) -> Option<Vec<Word>> {
    let mut places = std::collections::BTreeMap::new();
    for (place, part) in base.iter().enumerate() {
        places.entry(*part).or_insert(place);
    }
    let (mut words, mut length) = (Vec::new(), 0);
    for part in parts {
        // What goes on as it went on there is one run.
        let next = match words.last() {
            Some(Word::Run(first, count)) => (*first + *count) as usize,
            _ => usize::MAX,
        };
        if base.get(next) == Some(part) {
            let Some(Word::Run(_, count)) = words.last_mut() else {
                continue;
            };
            *count += 1;
            continue;
        }
        let word = match places.get(part) {
            Some(place) => Word::Run(u32::try_from(*place).ok()?, 1),
            None => Word::New(part.to_vec()),
        };
        length += match &word {
            Word::Run(..) => 11,
            Word::New(bytes) => 11 + bytes.len(),
        };
        words.push(word);
        if length > PIECE_BYTES_MAX || words.len() > WORDS_MAX {
            return None;
        }
    }
    Some(words)
}

/// A version made by a recipe; none if it is not made of what is there, or too long.
pub(super) fn made(base: &[&[u8]], words: &[Word]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    for word in words {
        match word {
            Word::New(bytes) => all.extend_from_slice(bytes),
            Word::Run(first, count) => {
                let first = *first as usize;
                let parts = base.get(first..first.checked_add(*count as usize)?)?;
                for part in parts {
                    all.extend_from_slice(part);
                    if all.len() > KEPT_BYTES_MAX {
                        return None;
                    }
                }
            }
        }
    }
    (all.len() <= KEPT_BYTES_MAX).then_some(all)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use wire::codec::decode_all;

    use super::*;

    const VERSION: Version = Version {
        by: Stint {
            fence: Index(7),
            start: 1 << 40,
        },
        number: 12,
    };

    proptest! {
        #[test]
        fn what_a_recipe_says_is_made(
            base in vec(vec(0_u8..3, 1..4), 0..12), parts in vec(vec(0_u8..3, 1..4), 0..12),
        ) {
            let base: Vec<&[u8]> = base.iter().map(Vec::as_slice).collect();
            let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
            let words = recipe_for(&base, &parts).unwrap();
            let letter = Letter::Give {
                program: 3,
                version: VERSION,
                hash: [9; 32],
                recipe: Recipe::From(VERSION, words.clone()),
            };
            prop_assert_eq!(decode_all::<Letter>(&letter.to_bytes()), Ok(letter));
            prop_assert_eq!(made(&base, &words), Some(parts.concat()));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in vec(any::<u8>(), 0..80)) {
            if let Ok(letter) = decode_all::<Letter>(&bytes) {
                prop_assert_eq!(letter.to_bytes(), bytes.clone());
            }
            if let Ok(answer) = decode_all::<Answer>(&bytes) {
                prop_assert_eq!(decode_all::<Answer>(&answer.to_bytes()), Ok(answer));
            }
        }
    }

    #[test]
    fn what_is_the_same_is_not_said_again() {
        let pages: Vec<Vec<u8>> = (0..200_u8).map(|byte| vec![byte; 4096]).collect();
        let base: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
        let mut parts = base.clone();
        let other = vec![255; 4096];
        (parts[100], parts[0]) = (&other, base[7]);
        let words = recipe_for(&base, &parts).unwrap();
        assert_eq!(words.len(), 4, "{words:?}");
        assert_eq!(made(&base, &words), Some(parts.concat()));
        assert_eq!(made(&base, &[Word::Run(199, 2)]), None);
        let much: Vec<&[u8]> = base.iter().copied().cycle().take(400).collect();
        assert_eq!(recipe_for(&[], &much), None);
    }
}
