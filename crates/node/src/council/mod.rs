//! Who runs what in the whole fleet, and who decides it?
//!
//! Every machine has a seat in the council. A few of them vote on one log ([`consensus::Voter`]); from it follows the
//! [`Register`]: programs, machines and leases. Every machine is a tenant of that register ([`consensus::Tenant`]): it renews, runs
//! what it is granted, and stops by its own clock what it could not renew. Whoever leads places, recalls and seats; it is no other program than the rest run.
//!
//! A [`Council`] is all of that on one tile as one machine: voter, tenant, the desk at which the tile asks and reports, and the chair it
//! takes while it leads. The parts do not know each other; here one's words are another's, and what is said to oneself never leaves.
//!
//! # What the world owes
//!
//! * A clock that goes on while the machine is suspended and is never set. Its rate may be wrong by what [`consensus::Terms`] says.
//! * What [`Effect::End`] names is over within [`Config::halt`]; and by [`Council::until`] nothing runs that is held, though nobody tells the world so: whoever
//!   watches a program must know that instant, because this machine may be stopped in the middle of a word.
//! * That something fell and is started again, with [`Fate::Fell`], and that it is well again, whenever it is so: what of that the voters are told is decided here ([`DOUBT_MIN`]).
//! * After an end, [`Input::Became`] with [`Became::Over`] only when nothing of it runs any more.
//!
//! # Who votes
//!
//! The founder alone at first. From three machines on three vote, from five on five: an odd number, because an even one survives no more than the odd one
//! below it. Who has been away for [`AWAY`] loses its vote if somebody is there to take it, or if fewer voters are enough by now. Who is to go for good
//! ([`Duty::Leaving`]) gives its own back ([`Ask::Retire`]) once others have their votes, and is counted no more meanwhile: so a fleet shrinks to its last machine
//! without ever waiting for one that has left. See [`chair`](self).
//!
//! Tour: [`register`] what was agreed · [`placing`] what a leader decrees · `desk` how a tile asks · `chair` who votes · `codec` how it is written.
//!
//! Deliberately absent: what a program is (bytes here), processes, names of machines, time of day.

mod chair;
mod codec;
mod desk;
pub mod placing;
pub mod register;

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use consensus::lease::Duty;
use consensus::tenant::{Ending, Event, Order};
use consensus::{
    Ask, Author, Index, Kind, Lease, Message, Outcome, Tenant, Terms, Unreadable, Voter, Voters,
    event,
};
use machine::{Machine, Persist, Persisted, Purpose, Stream};
use wire::codec::decode_all;
use wire::{Cell, Encode as _, Instant, Nanos, Tile};

pub use chair::AWAY;
use chair::Chair;
pub use desk::Unanswered;
use desk::{Desk, Errand};
use register::WORDS_BYTES_MAX;
pub use register::{Affairs, Command, Fate, Query, Refusal, Register, Reply, Room};

/// What a council takes for granted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Config {
    /// Of the voters.
    pub voter: consensus::Config,
    /// How long a lease lasts, if this tile founds the fleet; otherwise what sets the pace until it is told.
    pub terms: Terms,
    /// How long the world may need to end what runs under a lease.
    pub halt: Nanos,
}

impl Config {
    /// Of a fleet of machines: what every one of them goes by, real or rehearsed.
    ///
    /// Their clock is never set, so leases are charged for no jumps. Disks of busy machines take longer than the voters' defaults allow for,
    /// and waiting for an election costs less than a false one. What a message carries fits into fifty frames.
    #[must_use]
    pub fn of_a_fleet() -> Self {
        let mut voter = consensus::Config::new(Cell(0));
        (voter.beat, voter.patience) = (Nanos::from_millis(300), Nanos::SECOND);
        (voter.append_bytes_max, voter.piece_bytes_max) = (16 << 10, 16 << 10);
        voter.command_bytes_max = 40 << 10;
        Self {
            voter,
            terms: Terms {
                skew: Nanos::ZERO,
                ..Terms::default()
            },
            // Until a program that is killed is over, and until the timer that kills it is heard on a machine that is busy.
            halt: Nanos::from_millis(500),
        }
    }
}

/// How a tile stands to the vote when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Vote {
    /// It founds the fleet.
    Found,
    /// It never had one.
    Never,
    /// It may have one, and these are the records of it that survived, in order.
    Again(Vec<Vec<u8>>),
    /// It may have one, and what it had written down is lost. It must not vote before the others have agreed that it has none.
    Lost,
}

/// What can happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A message arrived. That its sender is its `from` has been proven.
    Received(Message),
    /// A record is durable.
    Persisted(Persisted),
    /// A tile is held to be there, or not.
    Believed(Tile, bool),
    /// Something that ran under a lease since that entry has come to this.
    Became(Lease, Index, Became),
    /// Somebody asks; [`Effect::Answered`] answers with the same token, at that instant at the latest.
    Ask {
        /// Chosen by the world.
        token: u64,
        /// What.
        ask: Ask,
        /// Until when it may take.
        until: Instant,
    },
}

/// What came of something that runs under a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Became {
    /// A report for the voters. After [`Fate::Ended`] and [`Fate::Unable`] it runs no more, and is let go.
    Fated(Fate),
    /// It is over, as [`Effect::Finish`] asked.
    Over,
}

/// What a council asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Carry this message; losing it is allowed.
    Send {
        /// To whom: never this tile.
        to: Tile,
        /// What.
        message: Message,
    },
    /// Make this record durable behind those before it.
    Persist(Persist),
    /// Make this record durable in the place of all before it.
    Replace(Persist),
    /// This tile has no vote and no record of one from now on.
    Rejoined,
    /// Run this: it is ours.
    Begin {
        /// Which replica.
        lease: Lease,
        /// The entry that granted it.
        fence: Index,
        /// What its program is called.
        name: String,
        /// How it is run.
        spec: Arc<[u8]>,
    },
    /// Ask what runs under this to end, and say when it has. It is ours until then.
    Finish {
        /// Which replica.
        lease: Lease,
        /// The entry that granted it.
        fence: Index,
    },
    /// End what runs under this by force, within [`Config::halt`]. It is not ours thereafter, and nothing need be said.
    End {
        /// Which replica.
        lease: Lease,
        /// The entry that had granted it.
        fence: Index,
        /// Why.
        why: Ending,
    },
    /// To [`Input::Ask`].
    Answered {
        /// As it was given.
        token: u64,
        /// The voters' answer, or why there is none.
        answer: Result<Arc<[u8]>, Unanswered>,
    },
    /// A message was dropped; nothing changed.
    Refused {
        /// Who it was from.
        from: Tile,
        /// Why.
        reason: event::Reason,
    },
}

/// What fell is believed to be well again once it has been so for this long, and each time it falls for twice as long, …
pub const DOUBT_MIN: Nanos = Nanos::SECOND;
/// … up to this, after which its falls are forgotten. So what falls again and again costs two entries of the log in a minute at most.
pub const DOUBT_MAX: Nanos = Nanos::from_secs(60);

/// One tile's seat.
#[derive(Clone, Debug, PartialEq)]
pub struct Council {
    config: Config,
    me: Author,
    stream: Stream,
    /// Absent while the vote of an earlier life may still count, see [`Vote::Lost`].
    voter: Option<Voter<Register>>,
    tenant: Tenant,
    desk: Desk,
    chair: Chair,
    holdings: BTreeMap<Lease, Holding>,
    /// How programs that are held here are run.
    specs: BTreeMap<u64, (String, Arc<[u8]>)>,
    /// Who is held to be there, this tile included.
    present: BTreeSet<Tile>,
    /// Said by one part of this tile to another.
    inbox: VecDeque<Message>,
}

/// A lease this tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holding {
    fence: Index,
    /// Whether the world was told to begin.
    begun: bool,
    /// Since when the world has found it well.
    well: Option<Instant>,
    /// How often in a row it fell.
    falls: u32,
    /// What the voters were told last: that it is up, or that it fell.
    told_up: Option<bool>,
}

impl Holding {
    const fn new(fence: Index) -> Self {
        Self {
            fence,
            begun: false,
            well: None,
            falls: 0,
            told_up: None,
        }
    }

    /// How long it must be well before that is believed.
    fn doubt(&self) -> Nanos {
        match self.falls {
            0 => Nanos::ZERO,
            falls => Nanos(DOUBT_MIN.0.saturating_mul(1 << (falls - 1).min(16))).min(DOUBT_MAX),
        }
    }

    /// When the voters are to be told that it is well.
    fn believed(&self) -> Option<Instant> {
        let well = self.well.filter(|_| self.told_up != Some(true))?;
        Some(well + self.doubt())
    }
}

/// Who of a tile asks: the tenant …
const TENANT: u8 = 0;
/// … its desk …
const DESK: u8 = 1;
/// … and whoever leads, of itself.
const CHAIR: u8 = 2;

impl Council {
    /// A tile's seat in a new life, whose number is higher than that of every earlier one. `others` may be worth asking.
    ///
    /// # Errors
    /// If the records are not those of a voter on a [`Register`].
    pub fn new(
        config: Config,
        (me, life): (Tile, u64),
        vote: Vote,
        room: Room,
        others: impl IntoIterator<Item = Tile>,
        seed: u64,
        now: Instant,
    ) -> Result<Self, Unreadable> {
        let stream = Stream::new(seed, me, Purpose::Agreement);
        let (voters, chance) = (config.voter.clone(), stream.clone());
        let lost = vote == Vote::Lost;
        let voter = match vote {
            Vote::Found => Some(Voter::found(
                voters,
                me,
                Register::new(config.terms),
                chance,
                now,
            )),
            Vote::Never => Some(Voter::join(voters, me, chance, now)),
            Vote::Again(records) => {
                let records = records.iter().map(Vec::as_slice);
                Some(Voter::again(voters, me, records, chance, now)?)
            }
            Vote::Lost => None,
        };
        let mut present: BTreeSet<_> = others.into_iter().collect();
        present.insert(me);
        let contacts: Vec<_> = present.iter().copied().collect();
        let author = |desk| Author {
            tile: me,
            desk,
            life,
        };
        let (cell, term) = (config.voter.cell, config.terms.term);
        let tenant = Tenant::new(
            cell,
            author(TENANT),
            contacts.clone(),
            term,
            config.halt,
            now,
        );
        let mut desk = Desk::new(cell, author(DESK), contacts, config.voter.patience / 2);
        if lost {
            desk.queue(Errand::Retire);
        }
        desk.queue(Errand::Offer(room));
        Ok(Self {
            me: author(CHAIR),
            stream,
            voter,
            tenant,
            desk,
            chair: Chair::new(now),
            holdings: BTreeMap::new(),
            specs: BTreeMap::new(),
            present,
            inbox: VecDeque::new(),
            config,
        })
    }

    /// Until when everything is held that is held.
    #[must_use]
    pub const fn until(&self) -> Instant {
        self.tenant.until()
    }

    /// What is held here, and since which entry.
    pub fn held(&self) -> impl Iterator<Item = (Lease, Index)> + '_ {
        self.holdings
            .iter()
            .map(|(lease, holding)| (*lease, holding.fence))
    }

    /// What this tile is to do, as far as it knows.
    #[must_use]
    pub const fn duty(&self) -> Duty {
        self.tenant.duty()
    }

    /// Who is held to be there, this tile included.
    #[must_use]
    pub const fn present(&self) -> &BTreeSet<Tile> {
        &self.present
    }

    /// What was agreed, as far as it is known here; only voters know.
    #[must_use]
    pub fn register(&self) -> Option<&Register> {
        self.voter.as_ref()?.state()
    }

    /// Who has a vote, as far as it is known here.
    #[must_use]
    pub fn voters(&self) -> Option<&Voters> {
        self.voter.as_ref()?.voters()
    }

    /// Who leads, as far as it is known here.
    #[must_use]
    pub fn leader(&self) -> Option<Tile> {
        self.voter.as_ref()?.leader()
    }

    fn tell_voter(&mut self, now: Instant, input: event::Input, out: &mut impl FnMut(Effect)) {
        let (me, inbox) = (self.me.tile, &mut self.inbox);
        if let Some(voter) = &mut self.voter {
            voter.handle(now, input, &mut |effect| route(me, inbox, effect, out));
        }
    }

    fn tell_tenant(&mut self, now: Instant, event: Event, out: &mut impl FnMut(Effect)) {
        let mut orders = Vec::new();
        self.tenant
            .handle(now, event, &mut |order| orders.push(order));
        self.obey(now, orders, out);
    }

    fn obey(&mut self, now: Instant, orders: Vec<Order>, out: &mut impl FnMut(Effect)) {
        for order in orders {
            match order {
                Order::Send { to, message } => self.say(to, message, out),
                Order::Begin { lease, fence } => {
                    self.holdings.insert(lease, Holding::new(fence));
                    self.begin(lease, out);
                }
                Order::Recall { lease } => match self.holdings.get(&lease) {
                    Some(Holding {
                        fence, begun: true, ..
                    }) => out(Effect::Finish {
                        lease,
                        fence: *fence,
                    }),
                    Some(_) => self.let_go(now, lease, out),
                    None => {}
                },
                Order::End { lease, why } => {
                    if let Some(Holding {
                        fence, begun: true, ..
                    }) = self.drop_holding(lease)
                    {
                        out(Effect::End { lease, fence, why });
                    }
                }
                Order::Duty(_) => {}
            }
        }
    }

    fn say(&mut self, to: Tile, message: Message, out: &mut impl FnMut(Effect)) {
        if to == self.me.tile {
            self.inbox.push_back(message);
        } else {
            out(Effect::Send { to, message });
        }
    }

    /// Begins what is held, once it is known how.
    fn begin(&mut self, lease: Lease, out: &mut impl FnMut(Effect)) {
        let known = self
            .voter
            .as_ref()
            .and_then(|voter| voter.state()?.spec(lease.program));
        let known = known.map(|(name, spec)| (name.into(), spec.clone()));
        let Some((name, spec)) = known.or_else(|| self.specs.get(&lease.program).cloned()) else {
            return self.desk.queue(Errand::Spec(lease.program));
        };
        if let Some(holding) = self
            .holdings
            .get_mut(&lease)
            .filter(|holding| !holding.begun)
        {
            holding.begun = true;
            let fence = holding.fence;
            out(Effect::Begin {
                lease,
                fence,
                name,
                spec,
            });
        }
    }

    fn drop_holding(&mut self, lease: Lease) -> Option<Holding> {
        let holding = self.holdings.remove(&lease);
        if !self
            .holdings
            .keys()
            .any(|held| held.program == lease.program)
        {
            self.specs.remove(&lease.program);
        }
        self.desk.forget(lease);
        holding
    }

    fn let_go(&mut self, now: Instant, lease: Lease, out: &mut impl FnMut(Effect)) {
        self.drop_holding(lease);
        self.tell_tenant(now, Event::Release(lease), out);
    }

    fn became(
        &mut self,
        now: Instant,
        lease: Lease,
        fence: Index,
        became: Became,
        out: &mut impl FnMut(Effect),
    ) {
        let holding = self.holdings.get_mut(&lease);
        let Some(holding) = holding.filter(|holding| holding.fence == fence) else {
            return;
        };
        match became {
            Became::Fated(Fate::Up) => holding.well = holding.well.or(Some(now)),
            Became::Fated(Fate::Fell(code)) => {
                let settled = (holding.well).is_some_and(|well| now.since(well) >= DOUBT_MAX);
                holding.well = None;
                holding.falls = if settled {
                    1
                } else {
                    holding.falls.saturating_add(1)
                };
                if holding.told_up.replace(false) != Some(false) {
                    self.desk.report(lease, fence, Fate::Fell(code));
                }
            }
            Became::Over => self.let_go(now, lease, out),
            Became::Fated(Fate::Unable(mut words)) => {
                let mut end = words.len().min(WORDS_BYTES_MAX);
                while !words.is_char_boundary(end) {
                    end -= 1;
                }
                words.truncate(end);
                let fate = Fate::Unable(words);
                self.desk.queue(Errand::Report(lease, fence, fate));
            }
            Became::Fated(fate) => self.desk.queue(Errand::Report(lease, fence, fate)),
        }
    }

    /// Tells the voters what has been well for long enough to be believed.
    fn vouch(&mut self, now: Instant) {
        for (lease, holding) in &mut self.holdings {
            if holding.believed().is_some_and(|at| at <= now) {
                holding.told_up = Some(true);
                self.desk.report(*lease, holding.fence, Fate::Up);
            }
        }
    }

    fn hear(&mut self, now: Instant, message: Message, out: &mut impl FnMut(Effect)) {
        match &message.kind {
            Kind::Reply { author, .. } if author.tile != self.me.tile => out(Effect::Refused {
                from: message.from,
                reason: event::Reason::NotForMe,
            }),
            Kind::Reply { author, .. } => match author.desk {
                TENANT => self.tell_tenant(now, Event::Received(message), out),
                DESK => {
                    let answered = self.desk.hear(now, message, &mut self.inbox, out);
                    self.answered(now, answered, out);
                }
                // The chair looks at what is so, not at what it was told.
                _ => {}
            },
            _ => self.tell_voter(now, event::Input::Received(message), out),
        }
    }

    fn answered(
        &mut self,
        now: Instant,
        answered: Option<(Errand, Outcome)>,
        out: &mut impl FnMut(Effect),
    ) {
        let Some((errand, outcome)) = answered else {
            return;
        };
        match (errand, outcome) {
            (Errand::Asked { token, .. }, outcome) => {
                let answer = match outcome {
                    Outcome::Done(bytes) => Ok(bytes),
                    _ => Err(Unanswered::Impossible),
                };
                out(Effect::Answered { token, answer });
            }
            (Errand::Retire, Outcome::Done(_)) => {
                let (config, me) = (self.config.voter.clone(), self.me.tile);
                self.voter = Some(Voter::join(config, me, self.stream.clone(), now));
                out(Effect::Rejoined);
            }
            (Errand::Spec(program), Outcome::Done(bytes)) => {
                if let Ok(Reply::Spec { name, spec }) = decode_all(&bytes) {
                    self.specs.insert(program, (name, spec));
                    let held: Vec<_> = self
                        .holdings
                        .keys()
                        .copied()
                        .filter(|held| held.program == program)
                        .collect();
                    held.into_iter().for_each(|lease| self.begin(lease, out));
                }
            }
            (Errand::Report(lease, fence, Fate::Ended(_) | Fate::Unable(_)), Outcome::Done(_))
                if self
                    .holdings
                    .get(&lease)
                    .is_some_and(|holding| holding.fence == fence) =>
            {
                self.let_go(now, lease, out);
            }
            _ => {}
        }
    }

    fn believe(&mut self, now: Instant, tile: Tile, present: bool, out: &mut impl FnMut(Effect)) {
        self.chair.believe(now, tile, present);
        let changed = match present {
            true => self.present.insert(tile),
            false => tile != self.me.tile && self.present.remove(&tile),
        };
        if changed {
            let contacts: Vec<_> = self.present.iter().copied().collect();
            self.desk.contacts(now, contacts.clone());
            self.tell_tenant(now, Event::Contacts(contacts), out);
        }
    }

    /// What the leader asks of itself: a vote for one who lacks it, or none for one who has been away.
    fn preside(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        let Some(voter) = self.voter.as_ref().filter(|voter| voter.leads()) else {
            return;
        };
        let (Some(voters), Some(register)) = (voter.voters(), voter.state()) else {
            return;
        };
        let Some((number, ask)) =
            self.chair
                .look(now, self.me.tile, voters, &self.present, register.leases())
        else {
            return;
        };
        let message = Message {
            cell: self.config.voter.cell,
            from: self.me.tile,
            to: self.me.tile,
            kind: Kind::Request {
                author: self.me,
                number,
                ask,
            },
        };
        self.tell_voter(now, event::Input::Received(message), out);
    }

    /// Until nobody here has anything to say to anybody else here.
    fn settle(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        self.preside(now, out);
        self.vouch(now);
        loop {
            for token in self.desk.late(now) {
                let answer = Err(Unanswered::Silence);
                out(Effect::Answered { token, answer });
            }
            self.desk.pursue(now, &mut self.inbox, out);
            let Some(message) = self.inbox.pop_front() else {
                return;
            };
            self.hear(now, message, out);
        }
    }
}

/// Where a voter's words go.
fn route(
    me: Tile,
    inbox: &mut VecDeque<Message>,
    effect: event::Effect,
    out: &mut impl FnMut(Effect),
) {
    match effect {
        event::Effect::Send { to, message } if to == me => inbox.push_back(message),
        event::Effect::Send { to, message } => out(Effect::Send { to, message }),
        event::Effect::Persist(persist) => out(Effect::Persist(persist)),
        event::Effect::Replace(persist) => out(Effect::Replace(persist)),
        event::Effect::Refused { from, reason } => out(Effect::Refused { from, reason }),
        event::Effect::Led { .. } | event::Effect::Applied { .. } => {}
    }
}

impl Machine for Council {
    type Input = Input;
    type Effect = Effect;

    fn handle(&mut self, now: Instant, input: Input, out: &mut impl FnMut(Effect)) {
        match input {
            Input::Received(message) => self.hear(now, message, out),
            Input::Persisted(persisted) => {
                self.tell_voter(now, event::Input::Persisted(persisted), out)
            }
            Input::Believed(tile, present) => self.believe(now, tile, present, out),
            Input::Became(lease, fence, became) => self.became(now, lease, fence, became, out),
            Input::Ask { token, ask, until } => {
                if !self.desk.take(token, ask, until) {
                    let answer = Err(Unanswered::Crowd);
                    out(Effect::Answered { token, answer });
                }
            }
        }
        self.settle(now, out);
    }

    fn wake(&mut self, now: Instant, out: &mut impl FnMut(Effect)) {
        // What must end ends first.
        let mut orders = Vec::new();
        self.tenant.wake(now, &mut |order| orders.push(order));
        self.obey(now, orders, out);
        let (me, inbox) = (self.me.tile, &mut self.inbox);
        if let Some(voter) = &mut self.voter {
            voter.wake(now, &mut |effect| route(me, inbox, effect, out));
        }
        self.desk.wake(now, &mut self.inbox, out);
        self.settle(now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        let voter = self.voter.as_ref();
        let chair = voter
            .filter(|voter| voter.leads())
            .map(|_| self.chair.deadline());
        let believed = self.holdings.values().filter_map(Holding::believed).min();
        let others = [
            self.tenant.deadline(),
            self.desk.deadline(),
            chair,
            believed,
        ];
        others
            .into_iter()
            .chain([voter.and_then(Voter::deadline)])
            .flatten()
            .min()
    }
}

/// The bytes of a [`Command`], as [`Input::Ask`] takes them.
#[must_use]
pub fn apply(command: &Command) -> Ask {
    Ask::Apply(command.to_bytes().into())
}

/// The bytes of a [`Query`], as [`Input::Ask`] takes them.
#[must_use]
pub fn read(query: Query) -> Ask {
    Ask::Read(query.to_bytes().into())
}
