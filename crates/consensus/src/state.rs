//! What the log is about: a state that every voter computes alike.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Debug;
use core::hash::Hash;

use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Instant, Reader};

use crate::log::{Author, Index, Term};
use crate::session::Sessions;
use crate::voters::Voters;

/// A state that follows from the log and from nothing else: no clock, no chance.
pub trait State: Clone + Encode + Decode {
    /// What a leader remembers by its own clock, and nobody replicates. It begins anew with every
    /// leader.
    type Memory: Default + Clone + Debug + PartialEq + Hash;

    /// Takes one command and answers it. `by` is who asked, `None` for a leader's decree.
    ///
    /// Bytes it does not understand must have the same effect everywhere, such as none.
    fn apply(&mut self, at: Index, by: Option<Author>, command: &[u8]) -> Vec<u8>;

    /// Whether nobody is worse off if a command is written a beat later, with whatever else is by then. A leader asks this
    /// of the state it has applied.
    fn may_wait(&self, _by: Author, _command: &[u8]) -> bool {
        false
    }

    /// Answers a question about what is now so: on a leader, so what it remembers is there too.
    fn read(&self, memory: &Self::Memory, now: Instant, query: &[u8]) -> Vec<u8>;

    /// Called on a leader when the instant returned last has come: what should be proposed because
    /// time has passed, and when to look again.
    fn look(
        &self,
        memory: &mut Self::Memory,
        now: Instant,
        decree: &mut impl FnMut(Vec<u8>),
    ) -> Option<Instant>;
}

/// Everything the log said up to a place, without the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Snapshot {
    pub(crate) index: Index,
    pub(crate) term: Term,
    /// The encoded [`Contents`]: made once, sent in pieces.
    pub(crate) bytes: Arc<[u8]>,
}

/// What a snapshot says.
pub(crate) struct Contents<S> {
    pub(crate) voters: Voters,
    pub(crate) sessions: Sessions,
    pub(crate) state: S,
}

impl Snapshot {
    pub(crate) fn new<S: State>(
        index: Index,
        term: Term,
        voters: &Voters,
        sessions: &Sessions,
        state: &S,
    ) -> Self {
        let mut bytes = Vec::new();
        voters.encode(&mut bytes);
        sessions.encode(&mut bytes);
        state.encode(&mut bytes);
        Self {
            index,
            term,
            bytes: bytes.into(),
        }
    }

    pub(crate) fn contents<S: State>(&self) -> Result<Contents<S>, DecodeError> {
        decode_all(&self.bytes)
    }
}

impl<S: State> Decode for Contents<S> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            voters: Voters::decode(from)?,
            sessions: Sessions::decode(from)?,
            state: S::decode(from)?,
        })
    }
}

impl Encode for Snapshot {
    fn encode(&self, out: &mut Vec<u8>) {
        self.index.encode(out);
        self.term.encode(out);
        self.bytes.encode(out);
    }
}

impl Decode for Snapshot {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            index: Index::decode(from)?,
            term: Term::decode(from)?,
            bytes: crate::log::shared(from)?,
        })
    }
}
