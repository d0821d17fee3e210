//! What can happen to a member, and what it asks for.

use core::fmt;
use machine::{Persist, Persisted};

use crate::claim::State;
use crate::message::{Message, Peer};

/// What can happen to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message arrived.
    Received(Message),
    /// An incarnation is durable.
    Persisted(Persisted),
    /// Say goodbye and fall silent.
    Leave,
}

/// What a member asks for or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Carry this message; losing it is allowed.
    Send {
        /// To whom.
        to: Peer,
        /// What.
        message: Message,
    },
    /// Make the member's next incarnation durable; nothing is said of it before
    /// [`Input::Persisted`]. See [`crate::incarnation_after`].
    Persist(Persist),
    /// What is believed of a peer changed.
    Changed {
        /// Of whom.
        peer: Peer,
        /// What it is now held to be.
        state: State,
        /// For which of its incarnations.
        incarnation: u32,
        /// Why.
        why: Why,
    },
    /// A message was dropped; the member's state is as before.
    Rejected {
        /// Who it claimed to be from.
        from: Peer,
        /// Why it was dropped.
        reason: Reason,
    },
}

/// Why a belief changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// It answered neither this member nor its relays.
    Unanswered,
    /// Another member said so.
    Told {
        /// Who.
        by: Peer,
    },
    /// Nobody refuted the suspicion in time.
    Expired {
        /// How many had confirmed it.
        confirmations: u8,
    },
    /// The peer said so itself.
    OwnWord,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It belongs to another cell.
    WrongCell,
    /// It is addressed to somebody else.
    NotForMe,
    /// Its tag does not prove it.
    Forged,
    /// It names a peer the cell does not have, comes from this member itself, or asks it to
    /// carry word to or of itself.
    Nobody,
    /// It answers a probe that was over long ago: a very late answer or a replay.
    Stale,
}

impl Why {
    /// The word for it in history and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::Told { .. } => "told",
            Self::Expired { .. } => "expired",
            Self::OwnWord => "own word",
        }
    }
}

impl Reason {
    /// Every word of the vocabulary.
    pub const ALL: [Self; 5] = [
        Self::WrongCell,
        Self::NotForMe,
        Self::Forged,
        Self::Nobody,
        Self::Stale,
    ];

    /// The word for it in history and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongCell => "wrong cell",
            Self::NotForMe => "not for me",
            Self::Forged => "forged",
            Self::Nobody => "names nobody",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
