//! What was said, in order.

use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Reader, Tile};

use crate::voters::Voters;

/// The reign of at most one leader. 0 is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Term(pub u64);

/// A place in the log. The first entry is at 1; 0 is before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Index(pub u64);

impl Term {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Index {
    /// The one after.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The one before; that of 0 is 0.
    #[must_use]
    pub const fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// Who asks, and in which of its lives. After a tile has started again, what an earlier life still
/// had under way is refused from the first word of the new one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Author {
    /// Which tile.
    pub tile: Tile,
    /// Which of those on it that ask; each has one command under way.
    pub desk: u8,
    /// A number that grows with each start of that tile.
    pub life: u64,
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    /// The term of the leader that wrote it.
    pub term: Term,
    /// What it says.
    pub payload: Payload,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payload {
    /// Nothing. A leader begins its term with it, because only an entry of its own term tells it
    /// what is committed (Ongaro, *Consensus: Bridging Theory and Practice*, 2014, § 3.6.2).
    Opening,
    /// Who has a vote from this entry on, committed or not.
    Voters(Voters),
    /// What an author asks of the state, at most once.
    Command {
        /// Who asks.
        author: Author,
        /// Which of its commands; grows by at least one each time.
        number: u64,
        /// The state's business.
        bytes: Arc<[u8]>,
    },
    /// What the leader asks by itself; the state makes nothing of a repetition.
    Decree(Arc<[u8]>),
}

impl Entry {
    /// About how many bytes it takes on a line or a disk: exact but for a few bytes.
    pub(crate) fn weight(&self) -> usize {
        12 + match &self.payload {
            Payload::Opening => 0,
            Payload::Voters(voters) => voters.len() * 3,
            Payload::Command { bytes, .. } => 6 + bytes.len(),
            Payload::Decree(bytes) => bytes.len(),
        }
    }
}

/// The part of the log that is in memory: everything after `base`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Log {
    base: Index,
    base_term: Term,
    entries: Vec<Entry>,
    bytes: usize,
}

impl Log {
    pub(crate) const fn after(base: Index, base_term: Term) -> Self {
        Self {
            base,
            base_term,
            entries: Vec::new(),
            bytes: 0,
        }
    }

    pub(crate) const fn base(&self) -> Index {
        self.base
    }

    #[cfg(test)]
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) const fn last(&self) -> Index {
        Index(self.base.0 + self.entries.len() as u64)
    }

    pub(crate) fn last_term(&self) -> Term {
        self.entries.last().map_or(self.base_term, |e| e.term)
    }

    /// The term at a place; `None` for places that are no longer or not yet here.
    pub(crate) fn term_at(&self, index: Index) -> Option<Term> {
        if index == self.base {
            return Some(self.base_term);
        }
        self.get(index).map(|entry| entry.term)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&Entry> {
        let at = index.0.checked_sub(self.base.0 + 1)?;
        self.entries.get(at as usize)
    }

    /// The first place of the run of entries of one term that ends here.
    pub(crate) fn start_of_term(&self, mut index: Index) -> Index {
        let term = self.term_at(index);
        while index > self.base.next() && self.term_at(index.before()) == term {
            index = index.before();
        }
        index
    }

    pub(crate) fn push(&mut self, entry: Entry) -> Index {
        self.bytes += entry.weight();
        self.entries.push(entry);
        self.last()
    }

    /// Drops this place and everything after it.
    pub(crate) fn cut(&mut self, from: Index) {
        let keep = (from.0 - self.base.0 - 1) as usize;
        self.bytes -= self
            .entries
            .drain(keep..)
            .map(|e| e.weight())
            .sum::<usize>();
    }

    /// Drops everything up to and including this place.
    pub(crate) fn forget(&mut self, through: Index) {
        let Some(term) = self.term_at(through) else {
            return;
        };
        let gone = (through.0 - self.base.0) as usize;
        self.bytes -= self
            .entries
            .drain(..gone)
            .map(|e| e.weight())
            .sum::<usize>();
        (self.base, self.base_term) = (through, term);
    }

    /// Entries from here on, as many as weigh so much, but one at least if there is one.
    pub(crate) fn from(&self, first: Index, weight_max: usize) -> Vec<Entry> {
        let mut weight = 0;
        let rest = self.entries.get((first.0 - self.base.0 - 1) as usize..);
        let taken = rest.unwrap_or_default().iter().take_while(|entry| {
            let fits = weight == 0 || weight + entry.weight() <= weight_max;
            weight += entry.weight();
            fits
        });
        taken.cloned().collect()
    }
}

macro_rules! numbers {
    ($($t:ident),*) => {$(
        impl Encode for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                self.0.encode(out);
            }
        }
        impl Decode for $t {
            /// Refuses the upper half of its range, so that counting on never overflows.
            fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let at = from.position();
                let found = u64::decode(from)?;
                let what = stringify!($t);
                let fits = found <= u64::MAX / 2;
                fits.then_some(Self(found)).ok_or(DecodeError::Invalid { at, what, found })
            }
        }
    )*};
}
numbers!(Term, Index);

impl Encode for Author {
    fn encode(&self, out: &mut Vec<u8>) {
        self.tile.encode(out);
        self.desk.encode(out);
        self.life.encode(out);
    }
}

impl Decode for Author {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            tile: Tile::decode(from)?,
            desk: u8::decode(from)?,
            life: u64::decode(from)?,
        })
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.term.encode(out);
        match &self.payload {
            Payload::Opening => out.push(0),
            Payload::Voters(voters) => {
                out.push(1);
                voters.encode(out);
            }
            Payload::Command {
                author,
                number,
                bytes,
            } => {
                out.push(2);
                author.encode(out);
                number.encode(out);
                bytes.encode(out);
            }
            Payload::Decree(bytes) => {
                out.push(3);
                bytes.encode(out);
            }
        }
    }
}

impl Decode for Entry {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let term = Term::decode(from)?;
        let at = from.position();
        let payload = match from.byte()? {
            0 => Payload::Opening,
            1 => Payload::Voters(Voters::decode(from)?),
            2 => Payload::Command {
                author: Author::decode(from)?,
                number: u64::decode(from)?,
                bytes: shared(from)?,
            },
            3 => Payload::Decree(shared(from)?),
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "kind of entry",
                    found: found.into(),
                });
            }
        };
        Ok(Self { term, payload })
    }
}

/// A byte string that many may hold.
pub(crate) fn shared(from: &mut Reader<'_>) -> Result<Arc<[u8]>, DecodeError> {
    let len = from.count(1)?;
    from.bytes(len).map(Arc::from)
}

/// The least an entry takes: a term and a tag.
const ENTRY_BYTES_MIN: usize = 2;

pub(crate) fn encode_entries(entries: &[Entry], out: &mut Vec<u8>) {
    (entries.len() as u64).encode(out);
    for entry in entries {
        entry.encode(out);
    }
}

pub(crate) fn decode_entries(from: &mut Reader<'_>) -> Result<Vec<Entry>, DecodeError> {
    let count = from.count(ENTRY_BYTES_MIN)?;
    (0..count).map(|_| Entry::decode(from)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(terms: &[u64]) -> Log {
        let mut log = Log::after(Index(3), Term(1));
        for term in terms {
            log.push(Entry {
                term: Term(*term),
                payload: Payload::Decree(Arc::from([0; 10])),
            });
        }
        log
    }

    #[test]
    fn places_survive_cutting_at_both_ends() {
        let mut log = log(&[1, 2, 2, 3]);
        let weight = log.bytes() / 4;
        assert_eq!((log.last(), log.last_term()), (Index(7), Term(3)));
        assert_eq!(log.start_of_term(Index(6)), Index(5));
        log.cut(Index(7));
        log.forget(Index(4));
        assert_eq!((log.base(), log.last()), (Index(4), Index(6)));
        assert_eq!(log.term_at(Index(4)), Some(Term(1)));
        assert_eq!(log.term_at(Index(3)), None);
        assert_eq!(log.term_at(Index(7)), None);
        assert_eq!(log.bytes(), 2 * weight);
        assert_eq!(log.from(Index(5), 1).len(), 1, "one at least");
        assert_eq!(log.from(Index(5), 2 * weight).len(), 2);
        assert_eq!(log.from(Index(7), 100), []);
    }
}
