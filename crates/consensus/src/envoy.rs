//! How does somebody without a vote get something done?
//!
//! It asks whoever it believes to lead, is sent on, asks again where nothing comes back, and numbers
//! what it asks so that nothing is done twice. One errand at a time: the next one ends the
//! one before, which then was done before it or never will be.

use alloc::vec::Vec;

use machine::Machine;
use wire::{Cell, Instant, Nanos, Tile};

use crate::log::Author;
use crate::message::{Ask, Kind, Message, Outcome};
use crate::voters::Voters;

/// One who asks.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envoy {
    cell: Cell,
    author: Author,
    /// Whom to try, in turn.
    contacts: Vec<Tile>,
    turn: usize,
    number: u64,
    errand: Option<Errand>,
    /// How long an answer may take.
    patience: Nanos,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Errand {
    ask: Ask,
    /// When it was first sent.
    began: Instant,
    /// When to send it again.
    due: Instant,
    /// How often it was sent on since it was last due.
    sent_on: u8,
}

/// How often an errand is sent on in a row.
const SENT_ON_MAX: u8 = 4;

/// What can happen to an envoy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// Go and ask this; what was asked before is given up.
    Ask(Ask),
    /// Nobody waits any more for what was asked. It may be done all the same.
    GiveUp,
    /// A reply arrived. Others are ignored.
    Received(Message),
    /// These are worth trying.
    Contacts(Vec<Tile>),
}

/// What an envoy asks for or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Carry this; losing it is allowed.
    Send {
        /// To whom.
        to: Tile,
        /// What.
        message: Message,
    },
    /// The errand is over.
    Answered {
        /// What became of it: never [`Outcome::Elsewhere`] nor [`Outcome::Busy`].
        outcome: Outcome,
        /// When it was first asked, by this tile's clock.
        asked: Instant,
    },
}

impl Envoy {
    /// The envoy of an author, whose life must be later than that of every envoy its desk had before.
    ///
    /// # Panics
    /// Without anybody to try.
    #[must_use]
    pub fn new(cell: Cell, author: Author, contacts: Vec<Tile>, patience: Nanos) -> Self {
        assert!(!contacts.is_empty(), "an envoy needs somebody to try");
        Self {
            cell,
            author,
            contacts,
            turn: 0,
            number: 0,
            errand: None,
            patience,
        }
    }

    /// Whether nothing is under way.
    #[must_use]
    pub const fn is_idle(&self) -> bool {
        self.errand.is_none()
    }

    /// How long it waits for an answer before it tries somebody else.
    #[must_use]
    pub const fn patience(&self) -> Nanos {
        self.patience
    }

    /// Tries whose turn it is.
    fn send(&mut self, now: Instant, out: &mut impl FnMut(Telling)) {
        self.send_to(now, self.contacts[self.turn % self.contacts.len()], out);
    }

    fn send_to(&mut self, now: Instant, to: Tile, out: &mut impl FnMut(Telling)) {
        let Some(errand) = &mut self.errand else {
            return;
        };
        errand.due = now + self.patience;
        let kind = Kind::Request {
            author: self.author,
            number: self.number,
            ask: errand.ask.clone(),
        };
        let message = Message {
            cell: self.cell,
            from: self.author.tile,
            to,
            kind,
        };
        out(Telling::Send { to, message });
    }

    fn receive(&mut self, now: Instant, message: Message, out: &mut impl FnMut(Telling)) {
        let Kind::Reply {
            author,
            number,
            outcome,
        } = message.kind
        else {
            return;
        };
        let awaited = message.cell == self.cell && author == self.author && number == self.number;
        let Some(errand) = self.errand.as_mut().filter(|_| awaited) else {
            return;
        };
        match outcome {
            Outcome::Elsewhere { leader, voters } => {
                // Added, never put in the place of those known: who was removed long ago and does not
                // know it names others like it.
                for voter in voters.iter().flat_map(Voters::iter) {
                    place_of(&mut self.contacts, voter);
                }
                // Being sent on does not change whose turn is next: two who each hold the other to
                // lead would be asked for ever. Where nobody leads just now, it has its time.
                if let Some(leader) = leader.filter(|l| *l != message.from)
                    && errand.sent_on < SENT_ON_MAX
                {
                    errand.sent_on += 1;
                    self.send_to(now, leader, out);
                }
            }
            Outcome::Busy => errand.due = now + self.patience,
            outcome => {
                let asked = errand.began;
                self.turn = place_of(&mut self.contacts, message.from);
                self.errand = None;
                out(Telling::Answered { outcome, asked });
            }
        }
    }
}

/// Where somebody is among the contacts; at their end from now on, if nowhere.
fn place_of(contacts: &mut Vec<Tile>, tile: Tile) -> usize {
    let known = contacts.iter().position(|contact| *contact == tile);
    known.unwrap_or_else(|| {
        contacts.push(tile);
        contacts.len() - 1
    })
}

impl Machine for Envoy {
    type Input = Told;
    type Effect = Telling;

    fn handle(&mut self, now: Instant, input: Told, out: &mut impl FnMut(Telling)) {
        match input {
            Told::Ask(ask) => {
                if self.errand.as_ref().is_some_and(|errand| now >= errand.due) {
                    self.turn += 1;
                }
                self.number += 1;
                self.errand = Some(Errand {
                    ask,
                    began: now,
                    due: now,
                    sent_on: 0,
                });
                self.send(now, out);
            }
            Told::GiveUp => self.errand = None,
            Told::Received(message) => self.receive(now, message, out),
            Told::Contacts(contacts) if contacts.is_empty() => {}
            Told::Contacts(contacts) => (self.contacts, self.turn) = (contacts, 0),
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Telling)) {
        if let Some(errand) = self.errand.as_mut().filter(|errand| now >= errand.due) {
            errand.sent_on = 0;
            self.turn += 1;
            self.send(now, out);
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.errand.as_ref().map(|errand| errand.due)
    }
}
