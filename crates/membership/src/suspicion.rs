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
use wire::{Instant, Nanos};

use crate::config::Config;
use crate::message::Peer;

/// The most confirmations that can be asked for.
pub(crate) const CONFIRMATIONS_MAX: usize = 4;

/// log₂(1 + confirmations) in 1,024ths; integers, so that every machine
/// computes the same deadline.
const LOG2: [u64; CONFIRMATIONS_MAX + 1] = [0, 1024, 1623, 2048, 2378];

/// How patient a suspicion is that began with somebody else's removal: its suspect may
/// be on this side of a partition, and has not heard of it yet.
const HEARSAY: u8 = 2;

/// How patient one is that runs among a crowd: refutations queue with all the other
/// news. After halves of a cell of 1,000 have met again the last arrive after ten seconds.
const CROWD: u8 = 3;

/// A suspicion under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicion {
    since: Instant,
    peer: Peer,
    accusers: [Peer; CONFIRMATIONS_MAX + 1],
    count: u8,
    /// Set when this member has taken its own look at the suspect, or is not
    /// one of those who should.
    settled: bool,
    /// If not 0, it runs this many times the maximum, whoever confirms it.
    patience: u8,
}

impl Suspicion {
    pub(crate) fn accusers(&self) -> &[Peer] {
        &self.accusers[..usize::from(self.count)]
    }

    pub(crate) const fn peer(&self) -> Peer {
        self.peer
    }

    pub(crate) const fn confirmations(&self) -> u8 {
        self.count - 1
    }

    //= spec 9
    fn deadline(&self, config: &Config) -> Instant {
        if self.patience > 0 {
            return self.since + config.suspicion_max * u64::from(self.patience);
        }
        let enough = LOG2[usize::from(config.confirmations)];
        let reached = LOG2[usize::from(self.confirmations())].min(enough);
        let range = config.suspicion_max.0 - config.suspicion_min.0;
        // To a microsecond, so that a range of an hour fits.
        let cut = range / 1024 * reached / enough * 1024;
        self.since + Nanos(config.suspicion_max.0 - cut)
    }
}

/// The suspicions a member is timing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicions {
    /// In the order in which they began.
    running: Vec<Suspicion>,
    /// Whom they are about, in the same order: looked up for every claim heard or
    /// told, so kept close together.
    suspects: Vec<Peer>,
    /// No later than the earliest deadline; [`Instant::END`] if none runs.
    next: Instant,
}

impl Suspicions {
    pub(crate) const fn new() -> Self {
        Self {
            running: Vec::new(),
            suspects: Vec::new(),
            next: Instant::END,
        }
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    fn find(&self, peer: Peer) -> Option<usize> {
        self.suspects.iter().position(|&suspect| suspect == peer)
    }

    pub(crate) fn get(&self, peer: Peer) -> Option<&Suspicion> {
        self.find(peer).map(|at| &self.running[at])
    }

    pub(crate) fn peers(&self) -> impl Iterator<Item = Peer> + '_ {
        self.suspects.iter().copied()
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
        let mut accusers = [Peer(0); CONFIRMATIONS_MAX + 1];
        accusers[0] = accuser;
        let suspicion = Suspicion {
            since: now,
            peer,
            accusers,
            count: 1,
            settled,
            patience: if accuser == peer { HEARSAY } else { 0 },
        };
        self.next = self.next.min(suspicion.deadline(config));
        if self.running.len() == self.running.capacity() {
            // By little at a time: in a burst a million members grow together.
            self.running.reserve_exact(8);
            self.suspects.reserve_exact(8);
        }
        self.running.push(suspicion);
        self.suspects.push(peer);
        if self.running.len() > config.crowd() {
            self.be_patient();
        }
    }

    /// Counts another accuser; whether it was new and mattered.
    pub(crate) fn confirm(&mut self, peer: Peer, accuser: Peer, config: &Config) -> bool {
        let Some(at) = self.find(peer) else {
            return false;
        };
        let suspicion = &mut self.running[at];
        let enough = suspicion.confirmations() >= config.confirmations;
        if suspicion.patience > 0 || enough || suspicion.accusers().contains(&accuser) {
            return false;
        }
        suspicion.accusers[usize::from(suspicion.count)] = accuser;
        suspicion.count += 1;
        self.next = self.next.min(suspicion.deadline(config));
        true
    }

    /// Ends a suspicion, if there is one.
    pub(crate) fn end(&mut self, peer: Peer, config: &Config) {
        if let Some(at) = self.find(peer) {
            let ended = self.running.remove(at);
            self.suspects.remove(at);
            if self.running.is_empty() {
                (self.running, self.suspects) = (Vec::new(), Vec::new());
            }
            if ended.deadline(config) <= self.next {
                self.reckon(config);
            }
        }
    }

    /// One whose clock has run out.
    pub(crate) fn expired(&mut self, now: Instant, config: &Config) -> Option<&Suspicion> {
        if self.next > now {
            return None;
        }
        self.reckon(config);
        self.running.iter().find(|s| s.deadline(config) <= now)
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
        let suspicion = self.running.iter_mut().find(|s| !s.settled)?;
        suspicion.settled = true;
        Some(suspicion.peer)
    }

    /// Grants every suspect the time this member was not itself.
    pub(crate) fn postpone(&mut self, by: Nanos, config: &Config) {
        for suspicion in &mut self.running {
            suspicion.since += by;
        }
        self.reckon(config);
    }

    pub(crate) const fn heap(&self) -> usize {
        self.running.capacity() * size_of::<Suspicion>()
            + self.suspects.capacity() * size_of::<Peer>()
    }

    fn reckon(&mut self, config: &Config) {
        let deadlines = self.running.iter().map(|s| s.deadline(config));
        self.next = deadlines.min().unwrap_or(Instant::END);
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
        assert!(!suspicions.confirm(Peer(3), Peer(1), &config));
        assert!(suspicions.confirm(Peer(3), Peer(2), &config));
        assert!((at(2_700)..at(2_800)).contains(&suspicions.next()));
        assert!(suspicions.confirm(Peer(3), Peer(4), &config));
        assert_eq!(suspicions.next(), at(2_000));
        assert!(!suspicions.confirm(Peer(3), Peer(5), &config), "enough");
        assert!(suspicions.expired(at(1_999), &config).is_none());
        assert_eq!(
            suspicions
                .expired(at(2_000), &config)
                .unwrap()
                .confirmations(),
            2
        );
        suspicions.postpone(Nanos::SECOND, &config);
        assert_eq!(suspicions.next(), at(3_000));
        suspicions.end(Peer(3), &config);
        assert_eq!((suspicions.next(), suspicions.heap()), (Instant::END, 0));
    }
}
