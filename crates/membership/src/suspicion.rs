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

/// A suspicion under way, or none if it has no accuser. In a burst a million members hold
/// fifty each, so it takes no byte too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicion {
    /// In milliseconds, the upper half left out.
    since: u32,
    accusers: [Peer; CONFIRMATIONS_MAX + 1],
    count: u8,
    /// If not 0, it runs this many times the maximum, whoever confirms it.
    patience: u8,
}

const _: () = assert!(size_of::<Suspicion>() == 12);

/// In `count`: this member has taken its own look at the suspect, or is not one of those
/// who should.
const SETTLED: u8 = 0x80;

impl Suspicion {
    const NONE: Self = Self {
        since: 0,
        accusers: [Peer(0); CONFIRMATIONS_MAX + 1],
        count: 0,
        patience: 0,
    };

    pub(crate) fn accusers(&self) -> &[Peer] {
        &self.accusers[..self.count()]
    }

    /// Of one that runs.
    pub(crate) const fn confirmations(&self) -> u8 {
        self.count() as u8 - 1
    }

    const fn count(&self) -> usize {
        (self.count & !SETTLED) as usize
    }

    const fn is_running(&self) -> bool {
        self.count != 0
    }

    const fn is_settled(&self) -> bool {
        self.count & SETTLED != 0
    }

    /// Which it is of two instants 50 days apart, `now` decides.
    const fn since(&self, now: Instant) -> i64 {
        let now = millis(now.0) as i64;
        let age = (now as u32).wrapping_sub(self.since) as i32;
        now - age as i64
    }

    /// When its clock runs out, in milliseconds.
    //= spec 9
    const fn deadline(&self, now: Instant, clocks: &Clocks) -> i64 {
        let runs = if self.patience > 0 {
            clocks.longest * self.patience as i64
        } else {
            clocks.confirmed[self.confirmations() as usize]
        };
        self.since(now) + runs
    }
}

/// Whole milliseconds that hold so many nanoseconds: no clock runs out too soon.
const fn millis(nanos: u64) -> u64 {
    nanos.div_ceil(1_000_000)
}

/// The end of time if there is none.
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

/// The suspicions a member is timing. Each is found where the roster has its suspect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicions {
    /// One for each exception in the roster, or nothing at all if none runs.
    all: Vec<Suspicion>,
    /// No later than the earliest deadline; [`Instant::END`] if none runs.
    next: Instant,
    running: u16,
    patient: u16,
}

impl Suspicions {
    pub(crate) const fn new() -> Self {
        Self {
            all: Vec::new(),
            next: Instant::END,
            running: 0,
            patient: 0,
        }
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    pub(crate) fn get(&self, at: usize) -> Option<&Suspicion> {
        self.all.get(at).filter(|s| s.is_running())
    }

    /// The places of those on the longest clocks, the oldest first, so many at most.
    pub(crate) fn patient<const N: usize>(&self) -> impl Iterator<Item = usize> {
        let mut oldest = [(i32::MAX, 0); N];
        let count = if self.patient > 0 { self.all.len() } else { 0 };
        let mut first = None;
        for (at, suspicion) in self.all[..count].iter().enumerate() {
            if suspicion.patience == 0 {
                continue;
            }
            let first = *first.get_or_insert(suspicion.since);
            let mut younger = (suspicion.since.wrapping_sub(first) as i32, at);
            if younger < oldest[N - 1] {
                for one in &mut oldest {
                    if younger < *one {
                        core::mem::swap(one, &mut younger);
                    }
                }
            }
        }
        let found = oldest.into_iter().take(self.patient.into());
        found.map(|(_, at)| at)
    }

    /// The roster has a new exception at this place.
    pub(crate) fn make_room(&mut self, at: usize) {
        if !self.all.is_empty() {
            if self.all.len() == self.all.capacity() {
                // By little at a time: in a burst a million members grow together.
                self.all.reserve_exact((self.all.len() / 8).max(8));
            }
            self.all.insert(at, Suspicion::NONE);
        }
    }

    /// Begins one at a place of a roster of so many. That its accuser is the suspect itself
    /// stands for hearsay.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        (at, exceptions): (usize, usize),
        accuser: Peer,
        manner: Manner,
        config: &Config,
    ) {
        if self.all.is_empty() {
            self.all.reserve_exact(exceptions);
            self.all.resize(exceptions, Suspicion::NONE);
        }
        let suspicion = &mut self.all[at];
        assert!(!suspicion.is_running(), "it is suspected already");
        *suspicion = Suspicion {
            since: millis(now.0) as u32,
            accusers: [accuser; CONFIRMATIONS_MAX + 1],
            count: 1 | if manner.settled { SETTLED } else { 0 },
            patience: if manner.hearsay { HEARSAY } else { 0 },
        };
        let deadline = suspicion.deadline(now, &Clocks::of(config));
        self.next = self.next.min(instant(deadline));
        self.running += 1;
        self.patient += u16::from(manner.hearsay);
        let crowd = config.crowd();
        if usize::from(self.running) == crowd + 1 {
            self.be_patient();
        } else if usize::from(self.running) > crowd {
            self.patient += u16::from(!manner.hearsay);
            self.all[at].patience = CROWD;
        }
    }

    /// Counts another accuser; whether it was new and mattered.
    pub(crate) fn confirm(
        &mut self,
        now: Instant,
        at: usize,
        accuser: Peer,
        config: &Config,
    ) -> bool {
        let Some(suspicion) = self.all.get_mut(at).filter(|s| s.is_running()) else {
            return false;
        };
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
    pub(crate) fn end(&mut self, at: usize) {
        let Some(suspicion) = self.all.get_mut(at).filter(|s| s.is_running()) else {
            return;
        };
        self.running -= 1;
        self.patient -= u16::from(suspicion.patience > 0);
        *suspicion = Suspicion::NONE;
        if self.running == 0 {
            *self = Self::new();
        }
    }

    /// The place of one whose clock has run out, and how many confirmed it.
    pub(crate) fn expired(&mut self, now: Instant, config: &Config) -> Option<(usize, u8)> {
        if self.next > now {
            return None;
        }
        let clocks = Clocks::of(config);
        let (mut next, reached) = (i64::MAX, (now.0 / 1_000_000) as i64);
        for (at, suspicion) in self.all.iter().enumerate() {
            if suspicion.is_running() {
                let deadline = suspicion.deadline(now, &clocks);
                if deadline <= reached {
                    return Some((at, suspicion.confirmations()));
                }
                next = next.min(deadline);
            }
        }
        self.next = instant(next);
        None
    }

    /// Grants all that run now the longest clock.
    pub(crate) fn be_patient(&mut self) {
        for suspicion in self.all.iter_mut().filter(|s| s.is_running()) {
            suspicion.patience = CROWD;
        }
        self.patient = self.running;
    }

    /// The place of a suspect this member ought to look at itself; each is given out once.
    pub(crate) fn unsettled(&mut self) -> Option<usize> {
        let mut all = self.all.iter();
        let at = all.position(|s| s.is_running() && !s.is_settled())?;
        self.all[at].count |= SETTLED;
        Some(at)
    }

    /// Grants every suspect the time this member was not itself.
    pub(crate) fn postpone(&mut self, by: Nanos) {
        let by = millis(by.0);
        for suspicion in &mut self.all {
            suspicion.since = suspicion.since.wrapping_add(by as u32);
        }
        if self.next < Instant::END {
            self.next += Nanos(by * 1_000_000);
        }
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        bytes(self.all.as_slice())
    }

    pub(crate) const fn heap(&self) -> usize {
        self.all.capacity() * size_of::<Suspicion>()
    }
}

/// How a suspicion begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    /// This member need not look at the suspect itself.
    pub(crate) settled: bool,
    /// Somebody else's clock has run out.
    pub(crate) hearsay: bool,
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
        let manner = Manner {
            settled: true,
            hearsay: false,
        };
        suspicions.start(at(0), (0, 1), Peer(1), manner, &config);
        assert_eq!(suspicions.next(), at(4_000));
        assert!(!suspicions.confirm(at(0), 0, Peer(1), &config));
        assert!(suspicions.confirm(at(0), 0, Peer(2), &config));
        assert!((at(2_700)..at(2_800)).contains(&suspicions.next()));
        assert!(suspicions.confirm(at(0), 0, Peer(4), &config));
        assert_eq!(suspicions.next(), at(2_000));
        assert!(!suspicions.confirm(at(0), 0, Peer(5), &config), "enough");
        assert!(suspicions.expired(at(1_999), &config).is_none());
        assert_eq!(suspicions.expired(at(2_000), &config), Some((0, 2)));
        suspicions.postpone(Nanos::SECOND);
        assert_eq!(suspicions.next(), at(3_000));
        suspicions.end(0);
        assert_eq!((suspicions.next(), suspicions.heap()), (Instant::END, 0));
    }
}
