//! How long may a silent member object?
//!
//! Every member that hears of a suspicion runs its own clock for it, and removes
//! the suspect by itself when it runs out. Alone, an accuser may be mistaken or
//! ill, so the clock starts at the maximum; each further accuser shortens it
//! towards the minimum on a logarithmic curve, so that the first confirmation
//! counts most (Lifeguard: Dadgar, Phillips, Currey, *Local Health Awareness for
//! More Accurate Failure Detection*, DSN 2018, § IV-B).
//!
//! After a partition half a cell must object at once, and each objection queues with
//! all the others. Two kinds of suspicion are therefore *patient*: one that began with
//! somebody else's removal, and any that runs among a crowd. Confirmations do not
//! shorten them, for all of them may be echoes of one cut.

use alloc::vec::Vec;
use core::ops::Range;
use wire::{Instant, Nanos};

use crate::config::Config;
use crate::message::Peer;
use crate::search::bytes;

/// The most confirmations that can be asked for.
pub(crate) const CONFIRMATIONS_MAX: usize = 2;

/// log₂(1 + confirmations) in 1,024ths; integers, so that every machine
/// computes the same deadline.
const LOG2: [u64; CONFIRMATIONS_MAX + 1] = [0, 1024, 1623];

/// How patient a suspicion is that began with somebody else's removal: its suspect may
/// be on this side of a partition, and has not heard of it yet.
const HEARSAY: u8 = 2;

/// How patient one is that runs among a crowd: refutations queue with all the other
/// news. After halves of a cell of 1,000 have met again the last arrive after ten seconds.
const CROWD: u8 = 3;

/// A suspicion under way. In a burst a million members hold fifty each, so it takes no
/// byte too many.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicion {
    peer: Peer,
    accusers: [Peer; CONFIRMATIONS_MAX + 1],
    /// In milliseconds, the upper half left out. In bytes: a word would be aligned.
    since: [u8; 4],
    count: u8,
    /// If not 0, it runs this many times the maximum, whoever confirms it.
    patience: u8,
}

const _: () = assert!(size_of::<Suspicion>() == 14);

/// In `count`: this member has taken its own look at the suspect, or is not one of those
/// who should.
const SETTLED: u8 = 0x80;

impl Suspicion {
    pub(crate) fn accusers(&self) -> &[Peer] {
        &self.accusers[..self.count()]
    }

    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) const fn confirmations(&self) -> u8 {
        self.count() as u8 - 1
    }

    const fn count(&self) -> usize {
        (self.count & !SETTLED) as usize
    }

    const fn is_settled(&self) -> bool {
        self.count & SETTLED != 0
    }

    /// Which it is of two instants 50 days apart, `now` decides.
    const fn since(&self, now: Instant) -> i64 {
        let now = millis(now.0) as i64;
        let age = (now as u32).wrapping_sub(u32::from_le_bytes(self.since)) as i32;
        now - age as i64
    }

    /// When its clock runs out, in milliseconds.
    //= spec 9
    const fn deadline(&self, now: Instant, clocks: &Clocks) -> i64 {
        let runs = if self.patience > 0 {
            clocks.longest * self.patience as i64
        } else {
            clocks.confirmed[self.count() - 1]
        };
        self.since(now) + runs
    }
}

/// Whole milliseconds that hold so many nanoseconds: no clock runs out too soon.
const fn millis(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000)
}

const fn instant(millis: i64) -> Instant {
    Instant((millis as u64).saturating_mul(1_000_000))
}

/// How long suspicions run, in milliseconds.
struct Clocks {
    longest: i64,
    /// By the number of confirmations.
    confirmed: [i64; CONFIRMATIONS_MAX + 1],
}

impl Clocks {
    fn of(config: &Config) -> Self {
        let (longest, shortest) = (
            millis(config.suspicion_max.0),
            millis(config.suspicion_min.0),
        );
        let enough = LOG2[usize::from(config.confirmations)];
        let runs = |reached: u64| longest - (longest - shortest) * reached.min(enough) / enough;
        Self {
            longest: longest as i64,
            confirmed: LOG2.map(|reached| runs(reached) as i64),
        }
    }
}

/// The suspicions a member is timing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicions {
    /// In the order in which they began.
    running: Vec<Suspicion>,
    /// No later than the earliest deadline; [`Instant::END`] if none runs.
    next: Instant,
}

impl Suspicions {
    pub(crate) const fn new() -> Self {
        Self {
            running: Vec::new(),
            next: Instant::END,
        }
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    fn find(&self, peer: Peer) -> Option<usize> {
        self.running.iter().position(|s| s.peer == peer)
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Suspicion> {
        self.running.iter().find(|s| s.peer == peer)
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.running.iter().map(|s| s.peer)
    }

    /// Those on the longest clocks, the oldest first.
    pub(crate) fn patient(&self) -> impl Iterator<Item = Peer> + '_ {
        let patient = self.running.iter().filter(|s| s.patience > 0);
        patient.map(|s| s.peer)
    }

    pub(crate) fn start(
        &mut self,
        now: Instant,
        peer: Peer,
        accuser: Peer,
        settled: bool,
        config: &Config,
    ) {
        assert!(self.get(peer).is_none(), "{peer:?} is suspected already");
        let suspicion = Suspicion {
            peer,
            accusers: [accuser; CONFIRMATIONS_MAX + 1],
            since: (millis(now.0) as u32).to_le_bytes(),
            count: 1 | if settled { SETTLED } else { 0 },
            patience: if accuser == peer { HEARSAY } else { 0 },
        };
        let deadline = suspicion.deadline(now, &Clocks::of(config));
        self.next = self.next.min(instant(deadline));
        if self.running.len() == self.running.capacity() {
            // By little at a time: in a burst a million members grow together.
            self.running.reserve_exact(8);
        }
        self.running.push(suspicion);
        if self.running.len() > config.crowd() {
            self.be_patient();
        }
    }

    /// Counts another accuser; whether it was new and mattered.
    pub(crate) fn confirm(
        &mut self,
        now: Instant,
        peer: Peer,
        accuser: Peer,
        config: &Config,
    ) -> bool {
        let Some(at) = self.find(peer) else {
            return false;
        };
        let suspicion = &mut self.running[at];
        let enough = suspicion.confirmations() >= config.confirmations;
        if suspicion.patience > 0 || enough || suspicion.accusers().contains(&accuser) {
            return false;
        }
        suspicion.accusers[suspicion.count()] = accuser;
        suspicion.count += 1;
        let deadline = suspicion.deadline(now, &Clocks::of(config));
        self.next = self.next.min(instant(deadline));
        true
    }

    /// Ends a suspicion, if there is one.
    pub(crate) fn end(&mut self, peer: Peer) {
        if let Some(at) = self.find(peer) {
            self.running.remove(at);
            if self.running.is_empty() {
                *self = Self::new();
            }
        }
    }

    /// One whose clock has run out.
    pub(crate) fn expired(&mut self, now: Instant, config: &Config) -> Option<&Suspicion> {
        if self.next > now {
            return None;
        }
        let clocks = Clocks::of(config);
        let (mut next, reached) = (i64::MAX, (now.0 / 1_000_000) as i64);
        let expired = self.running.iter().position(|suspicion| {
            let deadline = suspicion.deadline(now, &clocks);
            next = next.min(deadline);
            deadline <= reached
        });
        if expired.is_none() {
            self.next = if next == i64::MAX {
                Instant::END
            } else {
                instant(next)
            };
        }
        expired.map(|at| &self.running[at])
    }

    /// Grants all that run now the longest clock.
    pub(crate) fn be_patient(&mut self) {
        // Those before one that is patient became so with it.
        let running = self.running.iter_mut().rev();
        for suspicion in running.take_while(|s| s.patience < CROWD) {
            suspicion.patience = CROWD;
        }
    }

    /// A suspect this member ought to look at itself; each is given out once.
    pub(crate) fn unsettled(&mut self) -> Option<Peer> {
        let suspicion = self.running.iter_mut().find(|s| !s.is_settled())?;
        suspicion.count |= SETTLED;
        Some(suspicion.peer)
    }

    /// Grants every suspect the time this member was not itself.
    pub(crate) fn postpone(&mut self, by: Nanos) {
        let by = millis(by.0);
        for suspicion in &mut self.running {
            let since = u32::from_le_bytes(suspicion.since).wrapping_add(by as u32);
            suspicion.since = since.to_le_bytes();
        }
        if self.next < Instant::END {
            self.next += Nanos(by * 1_000_000);
        }
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        bytes(self.running.as_slice())
    }

    pub(crate) const fn heap(&self) -> usize {
        self.running.capacity() * size_of::<Suspicion>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trust::Key;
    use wire::{Cell, Hexagons};

    //= spec 9
    #[test]
    fn each_accuser_shortens_the_clock_and_a_repeated_one_does_not() {
        let config = Config::new(Cell(0), Hexagons::of(9).unwrap(), &Key::new([0; 32]));
        let mut suspicions = Suspicions::new();
        let at = |ms| Instant::EPOCH + Nanos::from_millis(ms);
        suspicions.start(at(0), Peer(3), Peer(1), true, &config);
        assert_eq!(suspicions.next(), at(4_000));
        assert!(!suspicions.confirm(at(0), Peer(3), Peer(1), &config));
        assert!(suspicions.confirm(at(0), Peer(3), Peer(2), &config));
        assert!((at(2_700)..at(2_800)).contains(&suspicions.next()));
        assert!(suspicions.confirm(at(0), Peer(3), Peer(4), &config));
        assert_eq!(suspicions.next(), at(2_000));
        assert!(
            !suspicions.confirm(at(0), Peer(3), Peer(5), &config),
            "enough"
        );
        assert!(suspicions.expired(at(1_999), &config).is_none());
        assert_eq!(
            suspicions
                .expired(at(2_000), &config)
                .unwrap()
                .confirmations(),
            2
        );
        suspicions.postpone(Nanos::SECOND);
        assert_eq!(suspicions.next(), at(3_000));
        suspicions.end(Peer(3));
        assert_eq!((suspicions.next(), suspicions.heap()), (Instant::END, 0));
    }
}
