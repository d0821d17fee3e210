//! How is a command that is sent twice applied once?
//!
//! An author numbers its commands and has one under way at a time. The voters remember, for each
//! desk of each tile, its latest life, the number of the last command applied and the answer. A repetition is
//! given the answer again; what is older than the last is refused, and so is an earlier life.
//! That makes giving up safe: a command whose author has gone on to the next is either applied
//! before that or never.
//!
//! One line for each desk that ever asked, kept for ever: forgetting one would let a message that
//! was under way for that long be applied again. A cell is bounded, and so is this.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Reader, Tile};

use crate::log::{Author, shared};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Sessions(BTreeMap<(Tile, u8), Last>);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Last {
    life: u64,
    number: u64,
    answer: Arc<[u8]>,
}

/// What a numbered command is to the sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    New,
    Repeated(Arc<[u8]>),
    /// Its author has gone on, or lives again.
    Past,
}

impl Sessions {
    pub(crate) fn standing(&self, author: Author, number: u64) -> Standing {
        let Some(last) = self.0.get(&(author.tile, author.desk)) else {
            return Standing::New;
        };
        match (author.life, number).cmp(&(last.life, last.number)) {
            core::cmp::Ordering::Less => Standing::Past,
            core::cmp::Ordering::Equal => Standing::Repeated(last.answer.clone()),
            core::cmp::Ordering::Greater => Standing::New,
        }
    }

    pub(crate) fn applied(&mut self, author: Author, number: u64, answer: Arc<[u8]>) {
        let life = author.life;
        self.0.insert(
            (author.tile, author.desk),
            Last {
                life,
                number,
                answer,
            },
        );
    }
}

impl Encode for Sessions {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u64).encode(out);
        for ((tile, desk), last) in &self.0 {
            tile.encode(out);
            desk.encode(out);
            last.life.encode(out);
            last.number.encode(out);
            last.answer.encode(out);
        }
    }
}

impl Decode for Sessions {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.count(5)?;
        let mut sessions = BTreeMap::new();
        for _ in 0..count {
            let at = from.position();
            let desk = (Tile::decode(from)?, u8::decode(from)?);
            if sessions
                .last_key_value()
                .is_some_and(|(last, _)| *last >= desk)
            {
                return Err(DecodeError::Invalid {
                    at,
                    what: "session out of order",
                    found: desk.0.0,
                });
            }
            let last = Last {
                life: u64::decode(from)?,
                number: u64::decode(from)?,
                answer: shared(from)?,
            };
            sessions.insert(desk, last);
        }
        Ok(Self(sessions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_repeated_is_answered_and_what_is_past_is_not() {
        let (old, new) = (life(1), life(2));
        let mut sessions = Sessions::default();
        assert_eq!(sessions.standing(old, 5), Standing::New);
        sessions.applied(old, 5, Arc::from(*b"done"));
        let repeated = Standing::Repeated(Arc::from(*b"done"));
        assert_eq!(sessions.standing(old, 5), repeated);
        assert_eq!(sessions.standing(old, 4), Standing::Past);
        assert_eq!(
            sessions.standing(old, 9),
            Standing::New,
            "gaps are given up"
        );
        assert_eq!(sessions.standing(new, 1), Standing::New);
        sessions.applied(new, 1, Arc::from(*b""));
        assert_eq!(sessions.standing(old, 6), Standing::Past);
    }

    const fn life(life: u64) -> Author {
        Author {
            tile: Tile(7),
            desk: 0,
            life,
        }
    }
}
