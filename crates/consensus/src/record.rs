//! What a disk holds of a voter, and how it is read again.

use alloc::vec::Vec;

use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

use crate::log::{Entry, Index, Log, Payload, Term, decode_entries, encode_entries};
use crate::message::{maybe, option, tag};
use crate::state::Snapshot;

/// One write: the term and vote as they are then, and what changed of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) term: Term,
    pub(crate) voted: Option<Tile>,
    pub(crate) change: Change,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These take the place of whatever was from here on.
    Entries { from: Index, entries: Vec<Entry> },
    /// This takes the place of everything.
    Whole {
        snapshot: Snapshot,
        entries: Vec<Entry>,
    },
}

/// Why a voter cannot start from what its disk holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// A record is not one.
    #[error("record {record} of the agreement: {why}")]
    Record {
        /// Its number, from 0.
        record: usize,
        /// What is wrong with it.
        why: DecodeError,
    },
    /// A record continues a log that ends before it.
    #[error(
        "record {record} of the agreement continues at entry {from}, but the log ends at {last}"
    )]
    Gap {
        /// Its number, from 0.
        record: usize,
        /// Where it continues.
        from: u64,
        /// Where the log before it ends.
        last: u64,
    },
    /// The snapshot is not one of this state.
    #[error("the snapshot in the agreement's records: {0}")]
    Snapshot(DecodeError),
}

/// What the records amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    pub(crate) term: Term,
    pub(crate) voted: Option<Tile>,
    pub(crate) snapshot: Option<Snapshot>,
    pub(crate) log: Log,
}

impl Recovered {
    /// Of a disk that holds nothing yet.
    pub(crate) const BLANK: Self = Self {
        term: Term(0),
        voted: None,
        snapshot: None,
        log: Log::after(Index(0), Term(0)),
    };

    pub(crate) fn read<'a>(
        records: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Self, Unreadable> {
        let mut all = Self::BLANK;
        for (number, bytes) in records.into_iter().enumerate() {
            let unreadable = |why| Unreadable::Record {
                record: number,
                why,
            };
            let record: Record = decode_all(bytes).map_err(unreadable)?;
            (all.term, all.voted) = (record.term, record.voted);
            let (from, entries) = match record.change {
                Change::Entries { from, entries } => (from, entries),
                Change::Whole { snapshot, entries } => {
                    all.log = Log::after(snapshot.index, snapshot.term);
                    let from = snapshot.index.next();
                    all.snapshot = Some(snapshot);
                    (from, entries)
                }
            };
            let last = all.log.last();
            if from <= all.log.base() || from > last.next() {
                return Err(Unreadable::Gap {
                    record: number,
                    from: from.0,
                    last: last.0,
                });
            }
            all.log.cut(from);
            for entry in entries {
                all.log.push(entry);
            }
        }
        Ok(all)
    }

    /// The places and voters of all changes of voters in the log.
    pub(crate) fn changes_of_voters(&self) -> impl Iterator<Item = (Index, &crate::Voters)> {
        let places = (self.log.base().0 + 1..=self.log.last().0).map(Index);
        places.filter_map(|at| match &self.log.get(at)?.payload {
            Payload::Voters(voters) => Some((at, voters)),
            _ => None,
        })
    }
}

impl Encode for Record {
    fn encode(&self, out: &mut Vec<u8>) {
        self.term.encode(out);
        option(self.voted.as_ref(), out);
        match &self.change {
            Change::Entries { from, entries } => {
                out.push(0);
                from.encode(out);
                encode_entries(entries, out);
            }
            Change::Whole { snapshot, entries } => {
                out.push(1);
                snapshot.encode(out);
                encode_entries(entries, out);
            }
        }
    }
}

impl Decode for Record {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            term: Term::decode(from)?,
            voted: maybe(from)?,
            change: match tag(from, "kind of record", 1)? {
                0 => Change::Entries {
                    from: Index::decode(from)?,
                    entries: decode_entries(from)?,
                },
                _ => Change::Whole {
                    snapshot: Snapshot::decode(from)?,
                    entries: decode_entries(from)?,
                },
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use alloc::vec;

    fn step(from: u64, terms: &[u64]) -> Vec<u8> {
        let entry = |term: &u64| Entry {
            term: Term(*term),
            payload: Payload::Opening,
        };
        let record = Record {
            term: Term(9),
            voted: Some(Tile(1)),
            change: Change::Entries {
                from: Index(from),
                entries: terms.iter().map(entry).collect(),
            },
        };
        record.to_bytes()
    }

    fn read(records: &[Vec<u8>]) -> Result<Recovered, Unreadable> {
        Recovered::read(records.iter().map(Vec::as_slice))
    }

    #[test]
    fn later_records_take_the_place_of_earlier_ones() {
        let all = read(&[step(1, &[1, 1, 1]), step(2, &[2]), step(3, &[])]).unwrap();
        assert_eq!((all.log.last(), all.log.last_term()), (Index(2), Term(2)));
        assert_eq!((all.term, all.voted), (Term(9), Some(Tile(1))));
    }

    #[test]
    fn a_gap_and_a_damaged_record_are_named() {
        assert_eq!(
            read(&[step(1, &[1]), step(4, &[1])])
                .unwrap_err()
                .to_string(),
            "record 1 of the agreement continues at entry 4, but the log ends at 1"
        );
        let mut torn = step(1, &[1]);
        torn.pop();
        let error = read(&[step(1, &[1]), torn]).unwrap_err().to_string();
        assert!(
            error.starts_with("record 1 of the agreement: byte "),
            "{error}"
        );
        assert!(read(&[vec![0xff]]).is_err());
    }
}
