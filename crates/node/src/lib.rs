//! The whole node as one machine.
//!
//! A [`Node`] is the protocols of one tile, composed: the guard that keeps it
//! below its limit and the member that keeps the cell's roster. The protocols do
//! not know each other. [`Node::handle`](machine::Machine::handle) gives each
//! input to the one it concerns, and `route` turns one protocol's effect into
//! another's input or into an effect of the node: when the guard cuts the power,
//! the member falls silent with it.
//!
//! Whatever drives a node (simulated links and heat, sockets and sensors, a bare
//! machine) sees only [`Input`] and [`Effect`] and cannot be told apart from the
//! inside.
//!
//! Beside it, and only in fleets that agree on what runs where, a tile has a seat in the [`council`]: voter, tenant and
//! placement as a machine of its own, fed by the same world. A million nodes without one do not pay for it.
//!
//! Deliberately absent: anything a protocol could know by itself.
#![no_std]

extern crate alloc;

pub mod council;

pub use council::Council;

use alloc::boxed::Box;

use machine::{Machine, Persist, Persisted};
use membership::{Member, Message, Peer, State};
use scheduler::{Guard, guard};
use telemetry::{Action, Reason};
use wire::{Class, Instant};

/// What happens to a node.
#[derive(Debug)]
pub enum Input {
    /// The tile's temperature sensor, in kelvin.
    Sensed(f64),
    /// The heat budget its cell allows, 0 to 1.
    Budget(f64),
    /// Bits of the tile's memory flipped.
    Upset(guard::Upset),
    /// A message of the membership protocol.
    Received(Message),
    /// Something asked for by [`Effect::Persist`] survives a crash now.
    Persisted(Persisted),
    /// Take leave of the cell, and be silent from then on.
    Leave,
}

/// What a node asks for.
#[derive(Debug)]
pub enum Effect {
    /// Run at this share of full clock.
    SetClock(f64),
    /// Cut the power, for good. Nothing follows.
    Panic,
    /// Send a message to a cell-mate.
    Send {
        /// To whom.
        to: Peer,
        /// How urgent.
        class: Class,
        /// What.
        message: Message,
    },
    /// Make bytes durable, then answer.
    Persist(Persist),
    /// The node's belief about a cell-mate changed.
    Changed {
        /// About whom.
        peer: Peer,
        /// What it is held to be now.
        state: State,
    },
    /// A message was refused, by this reason; nothing changed.
    Rejected(membership::event::Reason),
    /// For the record: what was measured and what it was held against.
    Decided(Action, Reason, f64, f64),
}

/// The protocols of one tile.
#[derive(Clone, Debug)]
pub struct Node {
    guard: Guard,
    /// Absent in worlds that run heat alone. Boxed: a million nodes without it
    /// must not pay for it.
    member: Option<Box<Member>>,
}

impl Node {
    /// A running node.
    #[must_use]
    pub fn new(guard: Guard, member: Option<Member>) -> Self {
        Self {
            guard,
            member: member.map(Box::new),
        }
    }

    /// Its guard.
    #[must_use]
    pub const fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Its view of the cell, while it has power and runs membership.
    #[must_use]
    pub fn member(&self) -> Option<&Member> {
        self.member.as_deref()
    }

    /// Bytes it occupies, all told.
    #[must_use]
    pub fn footprint(&self) -> usize {
        size_of::<Self>() + self.member().map_or(0, Member::footprint)
    }

    /// The power fails: everything but the guard's last word is gone.
    pub fn kill(&mut self) {
        self.member = None;
    }

    fn tell_guard(&mut self, now: Instant, input: guard::Input, out: &mut impl FnMut(Effect)) {
        let member = &mut self.member;
        self.guard.handle(now, input, &mut |effect| match effect {
            guard::Effect::SetClock(clock) => out(Effect::SetClock(clock)),
            guard::Effect::Decided(action, reason, found, bound) => {
                out(Effect::Decided(action, reason, found, bound));
            }
            //= requirements K2
            guard::Effect::Panic => {
                *member = None;
                out(Effect::Panic);
            }
        });
    }
}

fn route(effect: membership::Effect, out: &mut impl FnMut(Effect)) {
    match effect {
        // Accusations and proofs of life are safety traffic.
        membership::Effect::Send { to, message } => {
            out(Effect::Send {
                to,
                class: Class::A,
                message,
            });
        }
        membership::Effect::Persist(persist) => out(Effect::Persist(persist)),
        membership::Effect::Changed { peer, state, .. } => out(Effect::Changed { peer, state }),
        membership::Effect::Rejected { reason, .. } => out(Effect::Rejected(reason)),
    }
}

impl Machine for Node {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        let to_member = match input {
            Input::Sensed(kelvin) => {
                return self.tell_guard(now, guard::Input::Sensed(kelvin), out);
            }
            Input::Budget(budget) => {
                return self.tell_guard(now, guard::Input::Budget(budget), out);
            }
            Input::Upset(upset) => {
                return self.tell_guard(now, guard::Input::Upset(upset), out);
            }
            Input::Received(message) => membership::Input::Received(message),
            Input::Persisted(done) => membership::Input::Persisted(done),
            Input::Leave => membership::Input::Leave,
        };
        if let Some(member) = &mut self.member {
            member.handle(now, to_member, &mut |effect| route(effect, out));
        }
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        if let Some(member) = &mut self.member {
            member.wake(now, &mut |effect| route(effect, out));
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.member()?.deadline()
    }
}
