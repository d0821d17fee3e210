//! What can happen to a voter, and what it asks for.

use core::fmt;

use machine::{Persist, Persisted};
use wire::Tile;

use crate::log::{Index, Term};
use crate::message::Message;

/// What can happen to a voter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message arrived. That its sender is its `from` has been proven.
    Received(Message),
    /// A write is durable.
    Persisted(Persisted),
}

/// What a voter asks for or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Carry this message; losing it is allowed.
    Send {
        /// To whom.
        to: Tile,
        /// What.
        message: Message,
    },
    /// Make this record durable behind those before it. There is never a second one under way.
    Persist(Persist),
    /// Make this record durable; from then on, none before it is needed. A crash must leave either
    /// all of those or this one.
    Replace(Persist),
    /// Whom this voter holds to lead changed.
    Led {
        /// In which term.
        term: Term,
        /// By whom; `None` while nobody is known to.
        by: Option<Tile>,
    },
    /// [`crate::Voter::state`] has changed: it is now what the log says up to here.
    Applied {
        /// The last entry applied.
        through: Index,
    },
    /// A message was dropped; the voter's state is as before.
    Refused {
        /// Who it was from.
        from: Tile,
        /// Why it was dropped.
        reason: Reason,
    },
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It belongs to another cell.
    WrongCell,
    /// It is addressed to somebody else, or nothing a voter is told.
    NotForMe,
    /// It asks in the name of another tile.
    NotItsAuthor,
    /// It claims to lead a term that another leads: somebody lost its disk, or lies.
    Rival,
    /// It says something else where something was agreed: somebody lost its disk, or lies.
    Unsaid,
    /// A snapshot that nothing can be read from.
    Unreadable,
}

impl Reason {
    /// Every word of the vocabulary.
    pub const ALL: [Self; 6] = [
        Self::WrongCell,
        Self::NotForMe,
        Self::NotItsAuthor,
        Self::Rival,
        Self::Unsaid,
        Self::Unreadable,
    ];

    /// The word for it in history and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WrongCell => "wrong cell",
            Self::NotForMe => "not for me",
            Self::NotItsAuthor => "not its author",
            Self::Rival => "rival",
            Self::Unsaid => "unsays what was agreed",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
