//! The desk at which a tile asks the voters and reports to them: one errand at a time, in order.
//!
//! What this tile owes the voters is asked for as long as it takes; what somebody else wants to know, until an instant that they name. Whoever gives up
//! does not know whether it was done: a voter may have heard it.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use consensus::envoy::{Envoy, Telling, Told};
use consensus::{Ask, Author, Index, Lease, Message, Outcome};
use machine::Machine as _;
use wire::{Cell, Encode as _, Instant, Nanos, Tile};

use super::Effect;
use super::register::{Command, Fate, Query, Room};

/// So much may wait that others asked.
const ASKED_MAX: usize = 32;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unanswered {
    /// No majority of the voters was heard in time. If they heard, it may be done yet.
    Silence,
    /// Too much waits here already. Nothing was done.
    Crowd,
    /// It cannot be done by anybody: it is too long, or another life of this tile has spoken.
    Impossible,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Take away the vote of this tile.
    Retire,
    /// It has so much room.
    Offer(Room),
    /// How is this run?
    Spec(u64),
    /// This came of that.
    Report(Lease, Index, Fate),
    /// Somebody asks.
    Asked {
        token: u64,
        ask: Ask,
        until: Instant,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Desk {
    me: Tile,
    envoy: Envoy,
    waiting: VecDeque<Errand>,
    /// What the envoy is out for.
    under_way: Option<Errand>,
}

impl Desk {
    pub(super) fn new(cell: Cell, author: Author, contacts: Vec<Tile>, patience: Nanos) -> Self {
        Self {
            me: author.tile,
            envoy: Envoy::new(cell, author, contacts, patience),
            waiting: VecDeque::new(),
            under_way: None,
        }
    }

    /// Puts an errand of this tile in the queue, unless it is there.
    pub(super) fn queue(&mut self, errand: Errand) {
        if !self.waiting.contains(&errand) && self.under_way.as_ref() != Some(&errand) {
            self.waiting.push_back(errand);
        }
    }

    /// Says how something that is held runs now, in place of how it ran before.
    pub(super) fn report(&mut self, lease: Lease, fence: Index, fate: Fate) {
        self.waiting.retain(|errand| {
            let old = |fate: &Fate| matches!(fate, Fate::Up | Fate::Fell(_));
            !matches!(errand, Errand::Report(of, _, fate) if *of == lease && old(fate))
        });
        self.queue(Errand::Report(lease, fence, fate));
    }

    /// Takes what somebody asks; `false` if there is no room for it.
    pub(super) fn take(&mut self, token: u64, ask: Ask, until: Instant) -> bool {
        let asked = |errand: &&Errand| matches!(errand, Errand::Asked { .. });
        let room = self.waiting.iter().filter(asked).count() < ASKED_MAX;
        if room {
            self.waiting.push_back(Errand::Asked { token, ask, until });
        }
        room
    }

    /// Nothing need be said of this any more.
    pub(super) fn forget(&mut self, lease: Lease) {
        self.waiting
            .retain(|errand| !matches!(errand, Errand::Report(of, ..) if *of == lease));
    }

    /// Gives up what has taken too long: the tokens of it.
    pub(super) fn late(&mut self, now: Instant) -> Vec<u64> {
        let late = |errand: &Errand| match errand {
            Errand::Asked { token, until, .. } if now >= *until => Some(*token),
            _ => None,
        };
        let mut tokens = Vec::new();
        if let Some(token) = self.under_way.as_ref().and_then(late) {
            self.under_way = None;
            self.envoy.handle(now, Told::GiveUp, &mut |_| {});
            tokens.push(token);
        }
        self.waiting.retain(|errand| {
            let late = late(errand);
            tokens.extend(late);
            late.is_none()
        });
        tokens
    }

    /// Sends the envoy on the next errand, if it is free.
    pub(super) fn pursue(
        &mut self,
        now: Instant,
        inbox: &mut VecDeque<Message>,
        out: &mut impl FnMut(Effect),
    ) {
        if self.under_way.is_some() {
            return;
        }
        let Some(errand) = self.waiting.pop_front() else {
            return;
        };
        let apply = |command: Command| Ask::Apply(command.to_bytes().into());
        let ask = match &errand {
            Errand::Retire => Ask::Retire(self.me),
            Errand::Offer(room) => apply(Command::Offer(*room)),
            Errand::Spec(program) => Ask::Read(Query::Spec(*program).to_bytes().into()),
            Errand::Report(lease, fence, fate) => apply(Command::Report {
                lease: *lease,
                fence: *fence,
                fate: fate.clone(),
            }),
            Errand::Asked { ask, .. } => ask.clone(),
        };
        self.under_way = Some(errand);
        let me = self.me;
        self.envoy.handle(now, Told::Ask(ask), &mut |telling| {
            carry(me, telling, inbox, out);
        });
    }

    /// An answer has come; the errand that is over by it, if one is.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        message: Message,
        inbox: &mut VecDeque<Message>,
        out: &mut impl FnMut(Effect),
    ) -> Option<(Errand, Outcome)> {
        let mut answer = None;
        let me = self.me;
        self.envoy
            .handle(now, Told::Received(message), &mut |telling| {
                answer = carry(me, telling, inbox, out);
            });
        let outcome = answer?;
        let errand = self.under_way.take()?;
        Some((errand, outcome))
    }

    pub(super) fn contacts(&mut self, now: Instant, contacts: Vec<Tile>) {
        self.envoy
            .handle(now, Told::Contacts(contacts), &mut |_| {});
    }

    pub(super) fn wake(
        &mut self,
        now: Instant,
        inbox: &mut VecDeque<Message>,
        out: &mut impl FnMut(Effect),
    ) {
        let me = self.me;
        self.envoy.wake(now, &mut |telling| {
            carry(me, telling, inbox, out);
        });
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        let until = |errand: &Errand| match errand {
            Errand::Asked { until, .. } => Some(*until),
            _ => None,
        };
        let all = self.waiting.iter().chain(&self.under_way);
        all.filter_map(until).chain(self.envoy.deadline()).min()
    }
}

fn carry(
    me: Tile,
    telling: Telling,
    inbox: &mut VecDeque<Message>,
    out: &mut impl FnMut(Effect),
) -> Option<Outcome> {
    match telling {
        Telling::Send { to, message } if to == me => inbox.push_back(message),
        Telling::Send { to, message } => out(Effect::Send { to, message }),
        Telling::Answered { outcome, .. } => return Some(outcome),
    }
    None
}
