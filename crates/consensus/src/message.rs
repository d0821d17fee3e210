//! What voters say to each other, and what others ask of them.
//!
//! Who says it is proven below: by the transport where it knows its ends (QUIC with mutual TLS),
//! by a tag over the frame where it does not. A message here carries no proof of its own.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::{Cell, Decode, DecodeError, Encode, Reader, Tile};

use crate::log::{Author, Entry, Index, Term, decode_entries, encode_entries, shared};
use crate::voters::Voters;

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The cell both belong to.
    pub cell: Cell,
    /// Who speaks.
    pub from: Tile,
    /// To whom.
    pub to: Tile,
    /// What.
    pub kind: Kind,
}

/// What is said. `round` is a leader's count of what it sent; the answer repeats it, which proves
/// that the answer is younger than whatever made the leader send.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Will you vote for me?
    Vote {
        /// The term I want to lead; of a canvass, the one I would ask for.
        term: Term,
        /// Only a question: would you? Nobody is bound by the answer.
        canvass: bool,
        /// Where my log ends, …
        last: Index,
        /// … and the term of what is there.
        last_term: Term,
    },
    /// I will, or not.
    Voted {
        /// The term asked for; if not granted, the one I am in.
        term: Term,
        /// Whether it answers a canvass.
        canvass: bool,
        /// Whether I will.
        granted: bool,
    },
    /// I lead; this comes next.
    Append {
        /// My term.
        term: Term,
        /// My count.
        round: u64,
        /// The place before the entries, …
        prev: Index,
        /// … and the term of what is there.
        prev_term: Term,
        /// Everything up to here is committed.
        commit: Index,
        /// What comes next; maybe nothing.
        entries: Vec<Entry>,
    },
    /// How far my log is yours, on my disk.
    Appended {
        /// The term I am in.
        term: Term,
        /// The count answered.
        round: u64,
        /// How far.
        matched: Matched,
    },
    /// I lead; what you lack I only have as a snapshot, of which this is a part.
    Piece {
        /// My term.
        term: Term,
        /// My count.
        round: u64,
        /// The place the snapshot stands for, …
        index: Index,
        /// … and the term of what was there.
        index_term: Term,
        /// Bytes in the whole snapshot.
        total: u64,
        /// Where this part begins.
        offset: u64,
        /// The part.
        bytes: Arc<[u8]>,
    },
    /// I have so much of the snapshot.
    Pieced {
        /// The term I am in.
        term: Term,
        /// The count answered.
        round: u64,
        /// Which snapshot.
        index: Index,
        /// The first byte I lack.
        wanted: u64,
    },
    /// Please do this. Sent to whoever is believed to lead.
    Request {
        /// Who asks.
        author: Author,
        /// Which of its requests.
        number: u64,
        /// What.
        ask: Ask,
    },
    /// What became of it.
    Reply {
        /// Who had asked.
        author: Author,
        /// Which request.
        number: u64,
        /// What became of it.
        outcome: Outcome,
    },
}

/// How far a follower's log is its leader's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Matched {
    /// It is, up to here.
    To(Index),
    /// Not at the place you named; try from here.
    Not(Index),
}

/// What can be asked of the voters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Ask {
    /// Apply this command, once.
    Apply(Arc<[u8]>),
    /// Answer this question by a state that has seen every command answered before it was asked.
    Read(Arc<[u8]>),
    /// Give this tile a vote, once it has caught up.
    Admit(Tile),
    /// Take its vote away.
    Retire(Tile),
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It was done; this is the state's answer (nothing for [`Ask::Admit`] and [`Ask::Retire`]).
    Done(Arc<[u8]>),
    /// I do not lead, or no longer. It may yet be done: ask again, by the same number.
    Elsewhere {
        /// Who does, as far as I know.
        leader: Option<Tile>,
        /// Who has a vote, as far as I know.
        voters: Option<Voters>,
    },
    /// Too much is under way, or another change of voters is. Nothing was done: ask later.
    Busy,
    /// Its author has asked for something since, or lives again. It was not done now, and will not
    /// be.
    Past,
    /// It cannot be done by anybody: too long, or a change that leaves too few or too many voters.
    Impossible,
}

impl Kind {
    /// The word for it in traces and counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Vote { canvass: true, .. } => "canvass",
            Self::Vote { .. } => "vote",
            Self::Voted { .. } => "voted",
            Self::Append { .. } => "append",
            Self::Appended { .. } => "appended",
            Self::Piece { .. } => "piece",
            Self::Pieced { .. } => "pieced",
            Self::Request { .. } => "request",
            Self::Reply { .. } => "reply",
        }
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        self.cell.0.encode(out);
        self.from.encode(out);
        self.to.encode(out);
        match &self.kind {
            Kind::Vote {
                term,
                canvass,
                last,
                last_term,
            } => {
                out.push(0);
                term.encode(out);
                out.push((*canvass).into());
                last.encode(out);
                last_term.encode(out);
            }
            Kind::Voted {
                term,
                canvass,
                granted,
            } => {
                out.push(1);
                term.encode(out);
                out.push((*canvass).into());
                out.push((*granted).into());
            }
            Kind::Append {
                term,
                round,
                prev,
                prev_term,
                commit,
                entries,
            } => {
                out.push(2);
                term.encode(out);
                round.encode(out);
                prev.encode(out);
                prev_term.encode(out);
                commit.encode(out);
                encode_entries(entries, out);
            }
            Kind::Appended {
                term,
                round,
                matched,
            } => {
                out.push(3);
                term.encode(out);
                round.encode(out);
                let (tag, index) = match matched {
                    Matched::To(index) => (1, index),
                    Matched::Not(index) => (0, index),
                };
                out.push(tag);
                index.encode(out);
            }
            Kind::Piece {
                term,
                round,
                index,
                index_term,
                total,
                offset,
                bytes,
            } => {
                out.push(4);
                term.encode(out);
                round.encode(out);
                index.encode(out);
                index_term.encode(out);
                total.encode(out);
                offset.encode(out);
                bytes.encode(out);
            }
            Kind::Pieced {
                term,
                round,
                index,
                wanted,
            } => {
                out.push(5);
                term.encode(out);
                round.encode(out);
                index.encode(out);
                wanted.encode(out);
            }
            Kind::Request {
                author,
                number,
                ask,
            } => {
                out.push(6);
                author.encode(out);
                number.encode(out);
                ask.encode(out);
            }
            Kind::Reply {
                author,
                number,
                outcome,
            } => {
                out.push(7);
                author.encode(out);
                number.encode(out);
                outcome.encode(out);
            }
        }
    }
}

impl Decode for Message {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cell: Cell(u64::decode(from)?),
            from: Tile::decode(from)?,
            to: Tile::decode(from)?,
            kind: Kind::decode(from)?,
        })
    }
}

impl Decode for Kind {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "kind of message between voters", 7)? {
            0 => Self::Vote {
                term: Term::decode(from)?,
                canvass: flag(from)?,
                last: Index::decode(from)?,
                last_term: Term::decode(from)?,
            },
            1 => Self::Voted {
                term: Term::decode(from)?,
                canvass: flag(from)?,
                granted: flag(from)?,
            },
            2 => Self::Append {
                term: Term::decode(from)?,
                round: u64::decode(from)?,
                prev: Index::decode(from)?,
                prev_term: Term::decode(from)?,
                commit: Index::decode(from)?,
                entries: decode_entries(from)?,
            },
            3 => Self::Appended {
                term: Term::decode(from)?,
                round: u64::decode(from)?,
                matched: match flag(from)? {
                    true => Matched::To(Index::decode(from)?),
                    false => Matched::Not(Index::decode(from)?),
                },
            },
            4 => Self::Piece {
                term: Term::decode(from)?,
                round: u64::decode(from)?,
                index: Index::decode(from)?,
                index_term: Term::decode(from)?,
                total: u64::decode(from)?,
                offset: u64::decode(from)?,
                bytes: shared(from)?,
            },
            5 => Self::Pieced {
                term: Term::decode(from)?,
                round: u64::decode(from)?,
                index: Index::decode(from)?,
                wanted: u64::decode(from)?,
            },
            6 => Self::Request {
                author: Author::decode(from)?,
                number: u64::decode(from)?,
                ask: Ask::decode(from)?,
            },
            _ => Self::Reply {
                author: Author::decode(from)?,
                number: u64::decode(from)?,
                outcome: Outcome::decode(from)?,
            },
        })
    }
}

impl Encode for Ask {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Apply(bytes) => {
                out.push(0);
                bytes.encode(out);
            }
            Self::Read(bytes) => {
                out.push(1);
                bytes.encode(out);
            }
            Self::Admit(tile) => {
                out.push(2);
                tile.encode(out);
            }
            Self::Retire(tile) => {
                out.push(3);
                tile.encode(out);
            }
        }
    }
}

impl Decode for Ask {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "kind of request", 3)? {
            0 => Self::Apply(shared(from)?),
            1 => Self::Read(shared(from)?),
            2 => Self::Admit(Tile::decode(from)?),
            _ => Self::Retire(Tile::decode(from)?),
        })
    }
}

impl Encode for Outcome {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Done(bytes) => {
                out.push(0);
                bytes.encode(out);
            }
            Self::Elsewhere { leader, voters } => {
                out.push(1);
                option(leader.as_ref(), out);
                option(voters.as_ref(), out);
            }
            Self::Busy => out.push(2),
            Self::Past => out.push(3),
            Self::Impossible => out.push(4),
        }
    }
}

impl Decode for Outcome {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "outcome", 4)? {
            0 => Self::Done(shared(from)?),
            1 => Self::Elsewhere {
                leader: maybe(from)?,
                voters: maybe(from)?,
            },
            2 => Self::Busy,
            3 => Self::Past,
            _ => Self::Impossible,
        })
    }
}

/// Reads a tag of at most so much.
pub(crate) fn tag(from: &mut Reader<'_>, what: &'static str, max: u8) -> Result<u8, DecodeError> {
    let at = from.position();
    let found = from.byte()?;
    let invalid = DecodeError::Invalid {
        at,
        what,
        found: found.into(),
    };
    (found <= max).then_some(found).ok_or(invalid)
}

fn flag(from: &mut Reader<'_>) -> Result<bool, DecodeError> {
    tag(from, "yes or no", 1).map(|tag| tag == 1)
}

pub(crate) fn option<T: Encode>(value: Option<&T>, out: &mut Vec<u8>) {
    out.push(value.is_some().into());
    if let Some(value) = value {
        value.encode(out);
    }
}

pub(crate) fn maybe<T: Decode>(from: &mut Reader<'_>) -> Result<Option<T>, DecodeError> {
    flag(from)?.then(|| T::decode(from)).transpose()
}
