//! Who holds what, and for how long?
//!
//! A program must never run twice as one replica, and must run again soon after its machine has
//! died. Nobody can tell a dead machine from one that is cut off, so a holder must stop by itself, and
//! whoever gives the lease to another must wait until it surely has.
//!
//! # The idea
//!
//! No time of day is ever compared with another: the log contains no time at all. Only spans are
//! measured, each by one clock (Gray and Cheriton, *Leases*, SOSP 1989).
//!
//! * A holder asks for all its leases to be renewed, and notes when *it* asked. The answer, once
//!   the renewal is in the log, says what it holds; it holds that until `term` after it asked.
//! * The leader notes, by its own clock, when it *saw* that renewal applied. If none has
//!   followed `wait` later, it proposes that this renewal was the last. When that is in the log,
//!   the leases are free. If a newer renewal came before it in the log, it means nothing.
//!
//! A leader that has just begun sees every renewal anew, which only makes it wait longer. It does not
//! matter whether it still leads when what it proposed is agreed: that the span was over is true for ever.
//!
//! # Why nobody holds what another holds
//!
//! Let a clock's rate be wrong by at most *r*, and let its reading jump, if it is set while a span is
//! measured, between two readings that are each within *e* of the truth. A span that truly lasts *t* is
//! then measured as *m* with *t* (1 − *r*) − 2*e* ≤ *m* ≤ *t* (1 + *r*) + 2*e*. So a holder, who stops at
//! *m* = `term`, has truly stopped (`term` + 2*e*) / (1 − *r*) after it asked. A leader that measured `wait` has
//! truly waited (`wait` − 2*e*) / (1 + *r*), and began after the renewal was applied, which was after the
//! holder asked. It suffices that
//!
//! ```text
//! wait ≥ (term + 2e) (1 + r) / (1 − r) + 2e
//! ```
//!
//! How far two clocks are apart does not occur in it. A clock that is never set has *e* = 0; the
//! ± 500 ms that machines may be wrong are charged in full here, twice at each end, for worlds whose
//! instants follow a clock that is set.
//!
//! What a world owes for this: its clock goes on while the machine is suspended, and ends nothing late. A
//! holder's programs are over by the instant it names, or die with whoever watches that instant.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader, Tile};

use crate::log::{Author, Index};
use crate::message::{maybe, option, tag};
use crate::state::State;

/// What can be held by one tile at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lease {
    /// Which program.
    pub program: u64,
    /// Which of its replicas.
    pub replica: u32,
}

/// The spans everybody agrees on. They are part of the state, because a holder and a leader that
/// went by different ones would be wrong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Terms {
    /// How long a renewal lasts, by the holder's clock from when it asked.
    pub term: Nanos,
    /// How wrong the rate of a clock may be, in millionths.
    pub rate_error_ppm: u32,
    /// How far from the truth a clock that is set may be at any time.
    pub skew: Nanos,
}

impl Default for Terms {
    /// Three seconds: with the wait that follows, 5.01 s, and an election, a dead machine's leases
    /// are free within 10 s. 1,000 ppm: Linux slews its clock by at most 500 ppm (`MAXFREQ` in
    /// `include/linux/timex.h`), and an oscillator is wrong by 100 at most. 500 ms: what a fleet
    /// must bear.
    fn default() -> Self {
        Self {
            term: Nanos::from_secs(3),
            rate_error_ppm: 1_000,
            skew: Nanos::from_millis(500),
        }
    }
}

impl Terms {
    /// How long a leader waits after the last renewal it saw before it calls it the last. The
    /// module's text derives it.
    #[must_use]
    pub fn wait(&self) -> Nanos {
        const MILLION: u128 = 1_000_000;
        let (rate, jump) = (u128::from(self.rate_error_ppm), self.skew * 2);
        let span = u128::from((self.term + jump).0) * (MILLION + rate);
        let span = span.div_ceil(MILLION.saturating_sub(rate).max(1));
        Nanos(u64::try_from(span).unwrap_or(u64::MAX)) + jump
    }
}

/// Whether a tile is given leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Duty {
    /// It is.
    Serving,
    /// It is given no more, keeps what it has until it has handed it over.
    Draining,
    /// It is given none, and renews none: what it holds ends.
    Removed,
    /// As one that drains, on its way out: whatever else it has is handed over as well.
    Leaving,
}

impl Duty {
    /// Whether it keeps what it has only until that is handed over.
    #[must_use]
    pub const fn hands_over(self) -> bool {
        matches!(self, Self::Draining | Self::Leaving)
    }
}

/// What can be asked of the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// By a holder: I am here; what do I hold?
    Renew,
    /// By a holder: I have stopped this, which I held since this entry.
    Release {
        /// What.
        lease: Lease,
        /// The entry that granted it.
        fence: Index,
    },
    /// Give this to that tile, if nobody holds it.
    Grant {
        /// What.
        lease: Lease,
        /// To whom.
        to: Tile,
    },
    /// Its holder is to finish what runs under it and let it go. Until it has, the lease is held.
    Recall {
        /// What.
        lease: Lease,
    },
    /// What a tile is to do from now on.
    Assign {
        /// Which tile.
        tile: Tile,
        /// Its duty.
        duty: Duty,
    },
    /// By a leader whose wait is over: this renewal was the holder's last.
    Expire {
        /// Who is silent.
        holder: Tile,
        /// Its renewal.
        renewed: Index,
    },
}

/// What came of a command, or the answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To a renewal.
    Renewed {
        /// How long it lasts from when it was asked.
        term: Nanos,
        /// What the holder is to do.
        duty: Duty,
        /// All it holds, each with the entry that granted it. The later of two grants has the higher
        /// one: whoever is shown both can refuse the earlier holder.
        leases: Vec<(Lease, Index)>,
        /// Those of them it is to let go as soon as what runs under them has finished.
        recalled: Vec<Lease>,
    },
    /// It is so now.
    Done,
    /// The tile holds it, since this entry.
    Granted {
        /// The entry that granted it.
        fence: Index,
    },
    /// Another holds it.
    Held {
        /// Who.
        by: Tile,
    },
    /// Nobody holds it, and the tile is not given it: it has not renewed, or is not serving.
    Unfit,
    /// Nobody holds it.
    Free,
    /// It was no command or query.
    Unreadable,
}

/// What can be asked about the leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Query {
    /// Who holds this?
    Who(Lease),
}

/// All leases of a cell, as the log has them.
//= requirements S2
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leases {
    terms: Terms,
    holders: BTreeMap<Tile, Holder>,
    /// Who holds what: the same as in `holders`, the other way round.
    by_lease: BTreeMap<Lease, Tile>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Holder {
    /// Its last renewal, unless that has expired.
    renewed: Option<Index>,
    duty: Duty,
    leases: BTreeMap<Lease, Index>,
    /// Those of them that it is asked to let go.
    recalled: BTreeSet<Lease>,
}

impl Leases {
    /// None held.
    #[must_use]
    pub const fn new(terms: Terms) -> Self {
        Self {
            terms,
            holders: BTreeMap::new(),
            by_lease: BTreeMap::new(),
        }
    }

    /// The spans agreed on.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Who holds a lease, and since which entry.
    #[must_use]
    pub fn holder(&self, lease: Lease) -> Option<(Tile, Index)> {
        let holder = *self.by_lease.get(&lease)?;
        Some((holder, self.holders[&holder].leases[&lease]))
    }

    /// Every lease that is held, by whom, and since which entry.
    pub fn held(&self) -> impl Iterator<Item = (Lease, Tile, Index)> + '_ {
        self.holders.iter().flat_map(|(tile, holder)| {
            let leases = holder.leases.iter();
            leases.map(|(lease, fence)| (*lease, *tile, *fence))
        })
    }

    /// Whether its holder has been asked to let it go.
    #[must_use]
    pub fn is_recalled(&self, lease: Lease) -> bool {
        let holder = self.by_lease.get(&lease);
        holder.is_some_and(|tile| self.holders[tile].recalled.contains(&lease))
    }

    /// What a tile is to do, and the renewal it is present by, if it is.
    #[must_use]
    pub fn tile(&self, tile: Tile) -> Option<(Duty, Option<Index>)> {
        let holder = self.holders.get(&tile)?;
        Some((holder.duty, holder.renewed))
    }

    /// Every tile that has renewed or was told its duty; whether it is present: has renewed, and that
    /// has not expired.
    pub fn tiles(&self) -> impl Iterator<Item = (Tile, Duty, bool)> + '_ {
        let tiles = self.holders.iter();
        tiles.map(|(tile, holder)| (*tile, holder.duty, holder.renewed.is_some()))
    }

    fn obey(&mut self, at: Index, by: Option<Author>, command: Command) -> Answer {
        match (command, by) {
            (Command::Renew, Some(author)) => self.renew(at, author.tile),
            (Command::Release { lease, fence }, Some(author)) => {
                if self.holder(lease) == Some((author.tile, fence)) {
                    self.free(lease);
                }
                Answer::Done
            }
            (Command::Grant { lease, to }, _) => self.grant(at, lease, to),
            (Command::Recall { lease }, _) => {
                let holder = self.by_lease.get(&lease);
                if let Some(holder) = holder.and_then(|tile| self.holders.get_mut(tile)) {
                    holder.recalled.insert(lease);
                }
                Answer::Done
            }
            (Command::Assign { tile, duty }, _) => {
                self.known(tile).duty = duty;
                self.forget_the_idle(tile);
                Answer::Done
            }
            (Command::Expire { holder, renewed }, None) => {
                self.expire(holder, renewed);
                Answer::Done
            }
            // Only a tile renews and releases, only a leader expires.
            (Command::Renew | Command::Release { .. }, None)
            | (Command::Expire { .. }, Some(_)) => Answer::Unreadable,
        }
    }

    fn known(&mut self, tile: Tile) -> &mut Holder {
        self.holders.entry(tile).or_insert(Holder {
            renewed: None,
            duty: Duty::Serving,
            leases: BTreeMap::new(),
            recalled: BTreeSet::new(),
        })
    }

    fn renew(&mut self, at: Index, tile: Tile) -> Answer {
        let term = self.terms.term;
        let holder = self.known(tile);
        let duty = holder.duty;
        let (mut leases, mut recalled) = (Vec::new(), Vec::new());
        if duty != Duty::Removed {
            holder.renewed = Some(at);
            leases.extend(holder.leases.iter().map(|(lease, fence)| (*lease, *fence)));
            recalled.extend(holder.recalled.iter().copied());
        }
        Answer::Renewed {
            term,
            duty,
            leases,
            recalled,
        }
    }

    fn grant(&mut self, at: Index, lease: Lease, to: Tile) -> Answer {
        if let Some((by, fence)) = self.holder(lease) {
            return if by == to {
                Answer::Granted { fence }
            } else {
                Answer::Held { by }
            };
        }
        match self.holders.get_mut(&to) {
            Some(holder) if holder.renewed.is_some() && holder.duty == Duty::Serving => {
                holder.leases.insert(lease, at);
                self.by_lease.insert(lease, to);
                Answer::Granted { fence: at }
            }
            _ => Answer::Unfit,
        }
    }

    fn free(&mut self, lease: Lease) {
        let holder = self.by_lease.remove(&lease);
        if let Some(holder) = holder.and_then(|tile| self.holders.get_mut(&tile)) {
            holder.leases.remove(&lease);
            holder.recalled.remove(&lease);
        }
    }

    fn expire(&mut self, tile: Tile, renewed: Index) {
        let Some(holder) = self.holders.get_mut(&tile) else {
            return;
        };
        if holder.renewed == Some(renewed) {
            holder.renewed = None;
            holder.recalled.clear();
            for lease in core::mem::take(&mut holder.leases).into_keys() {
                self.by_lease.remove(&lease);
            }
            self.forget_the_idle(tile);
        }
    }

    /// A tile that is silent and was told nothing special takes no room.
    fn forget_the_idle(&mut self, tile: Tile) {
        let idle = |h: &Holder| h.renewed.is_none() && h.duty == Duty::Serving;
        if self.holders.get(&tile).is_some_and(idle) {
            self.holders.remove(&tile);
        }
    }
}

/// What a leader has seen of renewals, by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Seen(BTreeMap<Tile, (Index, Instant)>);

impl Seen {
    /// Since when a tile's last renewal has been known here, if it is present.
    #[must_use]
    pub fn since(&self, tile: Tile) -> Option<Instant> {
        self.0.get(&tile).map(|(_, since)| *since)
    }
}

/// A leader looks for silent holders this many times in one wait, so that is how late it may be.
const LOOKS_PER_WAIT: u64 = 20;

impl State for Leases {
    type Memory = Seen;

    fn apply(&mut self, at: Index, by: Option<Author>, command: &[u8]) -> Vec<u8> {
        let answer = match decode_all(command) {
            Ok(command) => self.obey(at, by, command),
            Err(_) => Answer::Unreadable,
        };
        answer.to_bytes()
    }

    /// The renewal of a tile that is present and holds nothing: it has nothing to lose, and is told of nothing new. A fleet
    /// that has little to do writes little: renewals of many share one entry's messages and syncs.
    fn may_wait(&self, by: Author, command: &[u8]) -> bool {
        let holder = self.holders.get(&by.tile);
        holder.is_some_and(|holder| {
            holder.renewed.is_some() && holder.duty == Duty::Serving && holder.leases.is_empty()
        }) && decode_all(command) == Ok(Command::Renew)
    }

    fn read(&self, _: &Seen, _: Instant, query: &[u8]) -> Vec<u8> {
        let answer = match decode_all(query) {
            Ok(Query::Who(lease)) => match self.holder(lease) {
                Some((by, _)) => Answer::Held { by },
                None => Answer::Free,
            },
            Err(_) => Answer::Unreadable,
        };
        answer.to_bytes()
    }

    /// Compares what was seen at the last look with what is so now: a renewal is noted when it is
    /// first seen, which is later than it was applied and so errs towards waiting.
    fn look(
        &self,
        seen: &mut Seen,
        now: Instant,
        decree: &mut impl FnMut(Vec<u8>),
    ) -> Option<Instant> {
        let wait = self.terms.wait();
        seen.0.retain(|tile, _| self.holders.contains_key(tile));
        for (tile, holder) in &self.holders {
            let Some(renewed) = holder.renewed else {
                continue;
            };
            let (last, since) = seen.0.entry(*tile).or_insert((renewed, now));
            if *last != renewed {
                (*last, *since) = (renewed, now);
            } else if now.since(*since) >= wait {
                // If it is lost, it is said again after another wait.
                *since = now;
                let holder = *tile;
                decree(Command::Expire { holder, renewed }.to_bytes());
            }
        }
        Some(now + wait / LOOKS_PER_WAIT)
    }
}

impl Encode for Leases {
    fn encode(&self, out: &mut Vec<u8>) {
        self.terms.encode(out);
        (self.holders.len() as u64).encode(out);
        for (tile, holder) in &self.holders {
            tile.encode(out);
            option(holder.renewed.as_ref(), out);
            holder.duty.encode(out);
            (holder.leases.len() as u64).encode(out);
            for (lease, fence) in &holder.leases {
                lease.encode(out);
                fence.encode(out);
                out.push(holder.recalled.contains(lease).into());
            }
        }
    }
}

impl Decode for Leases {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut leases = Self::new(Terms::decode(from)?);
        for _ in 0..from.count(4)? {
            let at = from.position();
            let invalid = |what, found| DecodeError::Invalid { at, what, found };
            let tile = Tile::decode(from)?;
            let mut holder = Holder {
                renewed: maybe(from)?,
                duty: Duty::decode(from)?,
                leases: BTreeMap::new(),
                recalled: BTreeSet::new(),
            };
            for _ in 0..from.count(4)? {
                let lease = Lease::decode(from)?;
                let ascends = holder.leases.keys().next_back().is_none_or(|l| *l < lease);
                holder.leases.insert(lease, Index::decode(from)?);
                if tag(from, "mark of a recall", 1)? == 1 {
                    holder.recalled.insert(lease);
                }
                if !ascends || leases.by_lease.insert(lease, tile).is_some() {
                    return Err(invalid("lease held twice or out of order", lease.program));
                }
            }
            let ascends = leases.holders.keys().next_back().is_none_or(|t| *t < tile);
            leases.holders.insert(tile, holder);
            if !ascends {
                return Err(invalid("holder out of order", tile.0));
            }
        }
        Ok(leases)
    }
}

impl Encode for Terms {
    fn encode(&self, out: &mut Vec<u8>) {
        self.term.0.encode(out);
        self.rate_error_ppm.encode(out);
        self.skew.0.encode(out);
    }
}

impl Decode for Terms {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            term: Nanos(u64::decode(from)?),
            rate_error_ppm: u32::decode(from)?,
            skew: Nanos(u64::decode(from)?),
        })
    }
}

impl Encode for Lease {
    fn encode(&self, out: &mut Vec<u8>) {
        self.program.encode(out);
        self.replica.encode(out);
    }
}

impl Decode for Lease {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            program: u64::decode(from)?,
            replica: u32::decode(from)?,
        })
    }
}

impl Encode for Duty {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for Duty {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "duty", 3)? {
            0 => Self::Serving,
            1 => Self::Draining,
            2 => Self::Removed,
            _ => Self::Leaving,
        })
    }
}

impl Encode for Command {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Renew => out.push(0),
            Self::Release { lease, fence } => {
                out.push(1);
                lease.encode(out);
                fence.encode(out);
            }
            Self::Grant { lease, to } => {
                out.push(2);
                lease.encode(out);
                to.encode(out);
            }
            Self::Assign { tile, duty } => {
                out.push(3);
                tile.encode(out);
                duty.encode(out);
            }
            Self::Expire { holder, renewed } => {
                out.push(4);
                holder.encode(out);
                renewed.encode(out);
            }
            Self::Recall { lease } => {
                out.push(5);
                lease.encode(out);
            }
        }
    }
}

impl Decode for Command {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "command about leases", 5)? {
            0 => Self::Renew,
            1 => Self::Release {
                lease: Lease::decode(from)?,
                fence: Index::decode(from)?,
            },
            2 => Self::Grant {
                lease: Lease::decode(from)?,
                to: Tile::decode(from)?,
            },
            3 => Self::Assign {
                tile: Tile::decode(from)?,
                duty: Duty::decode(from)?,
            },
            4 => Self::Expire {
                holder: Tile::decode(from)?,
                renewed: Index::decode(from)?,
            },
            _ => Self::Recall {
                lease: Lease::decode(from)?,
            },
        })
    }
}

impl Encode for Query {
    fn encode(&self, out: &mut Vec<u8>) {
        let Self::Who(lease) = self;
        out.push(0);
        lease.encode(out);
    }
}

impl Decode for Query {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        tag(from, "question about leases", 0)?;
        Lease::decode(from).map(Self::Who)
    }
}

impl Encode for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Renewed {
                term,
                duty,
                leases,
                recalled,
            } => {
                out.push(0);
                term.0.encode(out);
                duty.encode(out);
                (leases.len() as u64).encode(out);
                for (lease, fence) in leases {
                    lease.encode(out);
                    fence.encode(out);
                }
                (recalled.len() as u64).encode(out);
                recalled.iter().for_each(|lease| lease.encode(out));
            }
            Self::Done => out.push(1),
            Self::Granted { fence } => {
                out.push(2);
                fence.encode(out);
            }
            Self::Held { by } => {
                out.push(3);
                by.encode(out);
            }
            Self::Unfit => out.push(4),
            Self::Free => out.push(5),
            Self::Unreadable => out.push(6),
        }
    }
}

impl Decode for Answer {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match tag(from, "answer about leases", 6)? {
            0 => {
                let (term, duty) = (Nanos(u64::decode(from)?), Duty::decode(from)?);
                let count = from.count(3)?;
                let leases = (0..count).map(|_| Ok((Lease::decode(from)?, Index::decode(from)?)));
                let leases = leases.collect::<Result<_, _>>()?;
                let count = from.count(2)?;
                let recalled = (0..count).map(|_| Lease::decode(from));
                Self::Renewed {
                    term,
                    duty,
                    leases,
                    recalled: recalled.collect::<Result<_, _>>()?,
                }
            }
            1 => Self::Done,
            2 => Self::Granted {
                fence: Index::decode(from)?,
            },
            3 => Self::Held {
                by: Tile::decode(from)?,
            },
            4 => Self::Unfit,
            5 => Self::Free,
            _ => Self::Unreadable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: Lease = Lease {
        program: 7,
        replica: 0,
    };

    struct Book {
        leases: Leases,
        at: u64,
    }

    impl Book {
        fn new() -> Self {
            let leases = Leases::new(Terms::default());
            Self { leases, at: 10 }
        }

        fn by(&mut self, tile: u64, command: Command) -> Answer {
            let author = Author {
                tile: Tile(tile),
                desk: 0,
                life: 1,
            };
            self.say(Some(author), command)
        }

        fn say(&mut self, by: Option<Author>, command: Command) -> Answer {
            self.at += 1;
            let answer = self.leases.apply(Index(self.at), by, &command.to_bytes());
            let again = decode_all::<Leases>(&self.leases.to_bytes());
            assert_eq!(again.as_ref(), Ok(&self.leases));
            decode_all(&answer).unwrap()
        }

        fn grant(&mut self, to: u64) -> Answer {
            let to = Tile(to);
            self.by(9, Command::Grant { lease: WEB, to })
        }

        fn assign(&mut self, tile: u64, duty: Duty) {
            let tile = Tile(tile);
            assert_eq!(self.by(9, Command::Assign { tile, duty }), Answer::Done);
        }
    }

    //= requirements S2
    #[test]
    fn one_holds_it_until_it_lets_go_or_is_silent() {
        let mut book = Book::new();
        assert_eq!(book.grant(1), Answer::Unfit, "nobody has heard of it");
        book.by(1, Command::Renew);
        book.by(2, Command::Renew);
        let Answer::Granted { fence } = book.grant(1) else {
            panic!("it was free");
        };
        assert_eq!(book.grant(1), Answer::Granted { fence });
        let who = |book: &Book| {
            let (query, now) = (Query::Who(WEB).to_bytes(), Instant(0));
            decode_all(&book.leases.read(&Seen::default(), now, &query))
        };
        assert_eq!(who(&book), Ok(Answer::Held { by: Tile(1) }));
        assert_eq!(book.grant(2), Answer::Held { by: Tile(1) });
        let release = Command::Release { lease: WEB, fence };
        book.by(2, release);
        assert_eq!(
            book.grant(2),
            Answer::Held { by: Tile(1) },
            "not its to let go"
        );
        book.by(1, release);
        assert!(matches!(book.grant(2), Answer::Granted { .. }));
        book.by(1, release);
        assert_eq!(book.grant(1), Answer::Held { by: Tile(2) }, "an old fence");

        let renewed = Index(book.at + 1);
        let holder = Tile(2);
        book.by(2, Command::Renew);
        let stale = Index(renewed.0 - 5);
        let expire = |renewed| Command::Expire { holder, renewed };
        book.say(None, expire(stale));
        assert_eq!(book.grant(1), Answer::Held { by: Tile(2) });
        assert_eq!(
            book.by(1, expire(renewed)),
            Answer::Unreadable,
            "not a leader"
        );
        book.say(None, expire(renewed));
        assert!(matches!(book.grant(1), Answer::Granted { .. }));
    }

    #[test]
    fn who_drains_keeps_what_it_has_and_who_is_removed_renews_nothing() {
        let mut book = Book::new();
        book.by(1, Command::Renew);
        book.grant(1);
        book.assign(1, Duty::Draining);
        let other = Command::Grant {
            lease: Lease { replica: 1, ..WEB },
            to: Tile(1),
        };
        assert_eq!(book.by(9, other), Answer::Unfit);
        let renewed = book.by(1, Command::Renew);
        let (last, is_listed) = (Index(book.at), |a: &Answer| match a {
            Answer::Renewed { leases, .. } => leases.iter().any(|(lease, _)| *lease == WEB),
            _ => false,
        });
        assert!(is_listed(&renewed));
        book.assign(1, Duty::Removed);
        assert!(!is_listed(&book.by(1, Command::Renew)));
        assert_eq!(book.leases.holder(WEB).map(|(tile, _)| tile), Some(Tile(1)));
        let holder = Tile(1);
        book.say(
            None,
            Command::Expire {
                holder,
                renewed: last,
            },
        );
        assert_eq!(book.leases.holder(WEB), None);
        assert_eq!(book.leases.tiles().count(), 1, "that it is removed is kept");
    }

    #[test]
    fn a_lease_that_is_recalled_is_held_until_it_is_let_go() {
        let mut book = Book::new();
        book.by(1, Command::Renew);
        book.by(2, Command::Renew);
        let recall = Command::Recall { lease: WEB };
        book.by(9, recall);
        let Answer::Granted { fence } = book.grant(1) else {
            panic!("it was free");
        };
        assert!(!book.leases.is_recalled(WEB), "nobody held it");
        book.say(None, recall);
        let Answer::Renewed {
            leases, recalled, ..
        } = book.by(1, Command::Renew)
        else {
            panic!("a renewal");
        };
        assert_eq!(
            (leases, recalled),
            (Vec::from([(WEB, fence)]), [WEB].into())
        );
        assert_eq!(book.grant(2), Answer::Held { by: Tile(1) });
        book.by(1, Command::Release { lease: WEB, fence });
        assert!(matches!(book.grant(2), Answer::Granted { .. }));
        assert!(!book.leases.is_recalled(WEB), "the next one may keep it");
    }

    /// The proof in the module's text, at the corners: the slowest holder's clock that is set back,
    /// the fastest leader's that is set forward.
    #[test]
    fn the_wait_covers_the_worst_clocks() {
        for terms in [
            Terms::default(),
            Terms {
                term: Nanos(1),
                rate_error_ppm: 0,
                skew: Nanos::ZERO,
            },
            Terms {
                term: Nanos::DAY,
                rate_error_ppm: 90_000,
                skew: Nanos::SECOND,
            },
        ] {
            let rate = f64::from(terms.rate_error_ppm) / 1e6;
            let jump = 2.0 * terms.skew.as_secs_f64();
            let stopped = (terms.term.as_secs_f64() + jump) / (1.0 - rate);
            let waited = (terms.wait().as_secs_f64() - jump) / (1.0 + rate);
            assert!(waited >= stopped - 1e-9, "{terms:?}: {waited} < {stopped}");
        }
        let ms = Terms::default().wait().0 / Nanos::MILLISECOND.0;
        assert_eq!(ms, 5_008);
    }
}
