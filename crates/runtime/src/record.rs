//! What does a lattice's log say?
//!
//! Everything that was decided outside the lattice, in order. The log is cut into
//! sheets. A sheet is what is sent to the next torus, acknowledged and sent again;
//! one is filled for each wake, however much happened.

use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Instant, Reader};

use crate::lane::LANES;
use crate::lattice::Lattice;
use crate::pid::Strand;
use crate::post::Post;
use crate::process::Process;

/// One change of a lattice from outside.
#[derive(Clone, Debug)]
pub(crate) enum Record<P: Process> {
    /// So many turns were taken, beginning at this time.
    Ran { now: Instant, turns: u32 },
    /// The next post of a lane was taken.
    Took { lane: u8, post: Post<P> },
    /// The receiver of a lane has everything below this number.
    Trimmed { lane: u8, upto: u64 },
    /// The process on this site moved away.
    Departed { site: u32, to: Strand },
}

impl<P: Process> Lattice<P> {
    /// Does again what a record says.
    pub(crate) fn replay(&mut self, record: Record<P>) {
        match record {
            Record::Ran { now, turns } => {
                self.run(now, turns);
            }
            Record::Took { lane, post } => self.take(lane.into(), post),
            Record::Trimmed { lane, upto } => self.lanes[usize::from(lane)].trim(upto),
            Record::Departed { site, to } => self.depart(site, to),
        }
    }
}

impl<P: Process> Encode for Record<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ran { now, turns } => {
                out.push(0);
                now.0.encode(out);
                turns.encode(out);
            }
            Self::Took { lane, post } => {
                out.push(1);
                out.push(*lane);
                post.encode(out);
            }
            Self::Trimmed { lane, upto } => {
                out.push(2);
                out.push(*lane);
                upto.encode(out);
            }
            Self::Departed { site, to } => {
                out.push(3);
                site.encode(out);
                to.encode(out);
            }
        }
    }
}

fn decode_lane(from: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let at = from.position();
    let found = from.byte()?;
    if usize::from(found) < LANES {
        return Ok(found);
    }
    Err(DecodeError::Invalid {
        at,
        what: "lane",
        found: found.into(),
    })
}

impl<P: Process> Decode for Record<P> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()? {
            0 => Self::Ran {
                now: Instant(u64::decode(from)?),
                turns: u32::decode(from)?,
            },
            1 => Self::Took {
                lane: decode_lane(from)?,
                post: Post::decode(from)?,
            },
            2 => Self::Trimmed {
                lane: decode_lane(from)?,
                upto: u64::decode(from)?,
            },
            3 => Self::Departed {
                site: u32::decode(from)?,
                to: Strand::decode(from)?,
            },
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "record",
                    found: found.into(),
                });
            }
        })
    }
}

/// What the next torus files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sheet {
    /// Records, one after the other.
    Log(Vec<u8>),
    /// Slots of a snapshot in the making: site, length and bytes of each.
    Slots(Vec<u8>),
    /// A snapshot is complete with this header, and amounts to this digest.
    Cut { header: Vec<u8>, digest: u64 },
    /// A snapshot is made by running the log, and amounts to this digest.
    Audit { digest: u64 },
    /// What was filed before is void; a whole snapshot follows.
    Begin,
}

impl Encode for Sheet {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Log(bytes) => {
                out.push(0);
                bytes.encode(out);
            }
            Self::Slots(bytes) => {
                out.push(1);
                bytes.encode(out);
            }
            Self::Cut { header, digest } => {
                out.push(2);
                header.encode(out);
                digest.encode(out);
            }
            Self::Audit { digest } => {
                out.push(3);
                digest.encode(out);
            }
            Self::Begin => out.push(4),
        }
    }
}

impl Decode for Sheet {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()? {
            0 => Self::Log(Vec::decode(from)?),
            1 => Self::Slots(Vec::decode(from)?),
            2 => Self::Cut {
                header: Vec::decode(from)?,
                digest: u64::decode(from)?,
            },
            3 => Self::Audit {
                digest: u64::decode(from)?,
            },
            4 => Self::Begin,
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "sheet",
                    found: found.into(),
                });
            }
        })
    }
}

/// Slots as a [`Sheet::Slots`] has them.
pub(crate) fn slots(bytes: &[u8]) -> Result<Vec<(u32, &[u8])>, DecodeError> {
    let mut from = Reader::new(bytes);
    let mut slots = Vec::new();
    while from.remaining() > 0 {
        let site = u32::decode(&mut from)?;
        let length = from.count(1)?;
        slots.push((site, from.bytes(length)?));
    }
    Ok(slots)
}
