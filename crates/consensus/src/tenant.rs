//! One who holds leases: renews them, and stops by its own clock.
//!
//! See [`crate::lease`] for why this is safe. A tenant needs no vote; every tile that runs programs
//! has one.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;

use machine::Machine;
use wire::codec::decode_all;
use wire::{Cell, Encode, Instant, Nanos, Tile};

use crate::envoy::{Envoy, Telling, Told};
use crate::lease::{Answer, Command, Duty, Lease};
use crate::log::{Author, Index};
use crate::message::{Ask, Message, Outcome};

/// The holder of a tile's leases.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tenant {
    envoy: Envoy,
    /// How long the world may need to end what runs under a lease.
    halt: Nanos,
    /// What it holds, since which entry …
    held: BTreeMap<Lease, Index>,
    /// … and until when.
    until: Instant,
    /// What of it is to be let go, and was said to be.
    recalled: BTreeSet<Lease>,
    /// What it stopped and has not yet given back.
    stopped: VecDeque<(Lease, Index)>,
    /// What the envoy is out for.
    errand: Errand,
    duty: Duty,
    next_renewal: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Errand {
    None,
    Renewal,
    Release,
    /// There is a later life of this tile; this one is over.
    Past,
}

/// What can happen to a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply arrived.
    Received(Message),
    /// What ran under this lease has stopped, and the lease may go to another.
    Release(Lease),
    /// These are worth asking.
    Contacts(Vec<Tile>),
}

/// What a tenant asks for or reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Carry this; losing it is allowed.
    Send {
        /// To whom.
        to: Tile,
        /// What.
        message: Message,
    },
    /// This is ours now. The fence goes with whatever it writes elsewhere, so that a store can refuse an
    /// earlier holder.
    Begin {
        /// What.
        lease: Lease,
        /// The entry that granted it.
        fence: Index,
    },
    /// End this, within the span the tenant was made with, and by force. It is not ours thereafter.
    End {
        /// What.
        lease: Lease,
        /// Why.
        why: Ending,
    },
    /// Let what runs under this finish, then say that it has stopped ([`Event::Release`]). Until then it is ours.
    Recall {
        /// What.
        lease: Lease,
    },
    /// What this tile is to do has changed. One that drains stops what it runs and releases it.
    Duty(Duty),
}

/// Why a lease ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// It could not be renewed in time.
    Lapsed,
    /// The voters say that this tile does not hold it.
    Revoked,
    /// A later life of this tile has spoken.
    Superseded,
}

impl Ending {
    /// The word for it in history and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Lapsed => "lapsed",
            Self::Revoked => "revoked",
            Self::Superseded => "superseded",
        }
    }
}

/// How often an answer is looked for before the next contact is tried, in one term.
const TRIES_PER_TERM: u64 = 8;

impl Tenant {
    /// A tile's tenant in a new life, holding nothing. `term` is what the fleet is believed to have
    /// agreed on and only sets the pace; what counts comes with each answer.
    #[must_use]
    pub fn new(
        cell: Cell,
        author: Author,
        contacts: Vec<Tile>,
        term: Nanos,
        halt: Nanos,
        now: Instant,
    ) -> Self {
        Self {
            envoy: Envoy::new(cell, author, contacts, term / TRIES_PER_TERM),
            halt,
            held: BTreeMap::new(),
            until: now,
            recalled: BTreeSet::new(),
            stopped: VecDeque::new(),
            errand: Errand::None,
            duty: Duty::Serving,
            next_renewal: now,
        }
    }

    /// Whether a lease is held at this instant of this tile's clock.
    #[must_use]
    pub fn holds(&self, now: Instant, lease: Lease) -> bool {
        now < self.until && self.held.contains_key(&lease)
    }

    /// Until when all that is held is held: by then whatever runs under it must have been ended, and has as long to
    /// be over as this tenant was told that it takes.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.until
    }

    /// What it is to do.
    #[must_use]
    pub const fn duty(&self) -> Duty {
        self.duty
    }

    fn tell(&mut self, now: Instant, told: Told, out: &mut impl FnMut(Order)) {
        let mut answered = None;
        self.envoy.handle(now, told, &mut |telling| match telling {
            Telling::Send { to, message } => out(Order::Send { to, message }),
            Telling::Answered { outcome, asked } => answered = Some((outcome, asked)),
        });
        if let Some((outcome, asked)) = answered {
            self.answered(now, outcome, asked, out);
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        outcome: Outcome,
        asked: Instant,
        out: &mut impl FnMut(Order),
    ) {
        let errand = core::mem::replace(&mut self.errand, Errand::None);
        match (outcome, errand) {
            (Outcome::Done(bytes), Errand::Renewal) => {
                if let Ok(Answer::Renewed {
                    term,
                    duty,
                    leases,
                    recalled,
                }) = decode_all(&bytes)
                {
                    self.next_renewal = asked + term / 4;
                    self.renewed(now, (asked + term, duty), leases, out);
                    for lease in recalled {
                        if self.held.contains_key(&lease) && self.recalled.insert(lease) {
                            out(Order::Recall { lease });
                        }
                    }
                }
            }
            (Outcome::Done(_), Errand::Release) => {
                self.stopped.pop_front();
            }
            (Outcome::Past, _) => {
                self.errand = Errand::Past;
                self.end_all(Ending::Superseded, out);
            }
            _ => {}
        }
    }

    fn renewed(
        &mut self,
        now: Instant,
        (end, duty): (Instant, Duty),
        mut leases: Vec<(Lease, Index)>,
        out: &mut impl FnMut(Order),
    ) {
        if self.duty != duty {
            self.duty = duty;
            out(Order::Duty(duty));
        }
        let until = Instant(end.0.saturating_sub(self.halt.0));
        if until <= now {
            // The answer took as long as what it says is good for.
            return;
        }
        self.until = until;
        // What was stopped since the question is not begun again by the answer.
        leases.retain(|grant| !self.stopped.contains(grant));
        let still: BTreeMap<_, _> = leases.iter().copied().collect();
        let gone = self.held.iter().filter(|(l, f)| still.get(l) != Some(f));
        let gone: Vec<_> = gone.map(|(lease, _)| *lease).collect();
        for lease in gone {
            self.held.remove(&lease);
            self.recalled.remove(&lease);
            let why = Ending::Revoked;
            out(Order::End { lease, why });
        }
        for (lease, fence) in leases {
            if self.held.insert(lease, fence).is_none() {
                out(Order::Begin { lease, fence });
            }
        }
    }

    fn end_all(&mut self, why: Ending, out: &mut impl FnMut(Order)) {
        self.recalled.clear();
        for lease in core::mem::take(&mut self.held).into_keys() {
            out(Order::End { lease, why });
        }
    }

    fn lapse(&mut self, now: Instant, out: &mut impl FnMut(Order)) {
        if now >= self.until {
            self.end_all(Ending::Lapsed, out);
        }
    }

    /// Sends the envoy on its next errand, if it is free or has been away too long.
    fn pursue(&mut self, now: Instant, out: &mut impl FnMut(Order)) {
        let command = match self.errand {
            Errand::None if now >= self.next_renewal => Command::Renew,
            Errand::None => match self.stopped.front() {
                Some((lease, fence)) => Command::Release {
                    lease: *lease,
                    fence: *fence,
                },
                None => return,
            },
            // A renewal counts from when it was asked: one that takes so long is worth little.
            Errand::Renewal if now >= self.next_renewal => Command::Renew,
            Errand::Renewal | Errand::Release | Errand::Past => return,
        };
        self.errand = if command == Command::Renew {
            self.next_renewal = now + self.pace();
            Errand::Renewal
        } else {
            Errand::Release
        };
        self.tell(now, Told::Ask(Ask::Apply(command.to_bytes().into())), out);
    }

    /// How long a renewal is waited for before another takes its place: two tries.
    fn pace(&self) -> Nanos {
        self.envoy.patience() * 2
    }
}

impl Machine for Tenant {
    type Input = Event;
    type Effect = Order;

    fn handle(&mut self, now: Instant, input: Event, out: &mut impl FnMut(Order)) {
        self.lapse(now, out);
        match input {
            Event::Received(message) => self.tell(now, Told::Received(message), out),
            Event::Contacts(contacts) => self.tell(now, Told::Contacts(contacts), out),
            Event::Release(lease) => {
                self.recalled.remove(&lease);
                if let Some(fence) = self.held.remove(&lease) {
                    self.stopped.push_back((lease, fence));
                }
            }
        }
        self.pursue(now, out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Order)) {
        self.lapse(now, out);
        let replaced = self.errand == Errand::Renewal && now >= self.next_renewal;
        if !replaced {
            self.envoy.wake(now, &mut |telling| {
                if let Telling::Send { to, message } = telling {
                    out(Order::Send { to, message });
                }
            });
        }
        self.pursue(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        if self.errand == Errand::Past {
            return None;
        }
        let lapse = (!self.held.is_empty()).then_some(self.until);
        let renewal = (self.errand != Errand::Release).then_some(self.next_renewal);
        [lapse, renewal, self.envoy.deadline()]
            .into_iter()
            .flatten()
            .min()
    }
}
