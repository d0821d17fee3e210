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
//!
//! Of a crowd nothing but the time left is therefore kept, in four bits each, in place of
//! sixteen bytes: all clocks of a crowd tick together, a quarter of the maximum at a time.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::Range;
use machine::Stream;
use wire::{Instant, Nanos};

use crate::config::Config;
use crate::message::Peer;
use crate::plane::Plane;
use crate::search::{self, bytes};

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

/// A suspicion under way. In a burst a million members hold fifty each, so it takes no byte
/// too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Suspicion {
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
    fn accusers(&self) -> &[Peer] {
        &self.accusers[..self.count()]
    }

    const fn confirmations(&self) -> u8 {
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

/// The suspicions a member is timing.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Suspicions {
    all: All,
    /// No later than the earliest deadline; [`Instant::END`] if none runs.
    next: Instant,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum All {
    None,
    /// In the order in which they began.
    List(Box<List>),
    /// In place of a list that would be too long.
    Crowd(Box<Crowd>),
}

/// Suspects, looked up for every claim heard and therefore close together, and beside them how
/// they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct List {
    suspects: Vec<Peer>,
    suspicions: Vec<Suspicion>,
}

impl List {
    fn find(&self, suspect: Peer) -> Option<usize> {
        search::anywhere(&self.suspects, suspect)
    }

    fn push(&mut self, suspect: Peer, suspicion: Suspicion) {
        if self.suspects.len() == self.suspects.capacity() {
            // By little at a time: in a burst a million members grow together.
            let more = (self.suspects.len() / 8).max(8);
            self.suspects.reserve_exact(more);
            self.suspicions.reserve_exact(more);
        }
        self.suspects.push(suspect);
        self.suspicions.push(suspicion);
    }

    fn iter(&self) -> impl Iterator<Item = (Peer, &Suspicion)> {
        self.suspects.iter().copied().zip(&self.suspicions)
    }
}

/// Clocks that tick together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Crowd {
    /// Of each suspect, how many ticks are left, and [`RUN_OUT`].
    left: Plane<4>,
    /// When they tick next.
    tick: Instant,
    /// Neighbours this member should look at itself.
    unsettled: Vec<Peer>,
}

const RUN_OUT: u8 = 1;

/// The parts of the longest clock in which a crowd's tick.
const TICKS: u8 = 4;

const _: () = assert!(RUN_OUT + CROWD * TICKS < Plane::<4>::MAX);

impl Suspicions {
    pub(crate) const fn new() -> Self {
        Self {
            all: All::None,
            next: Instant::END,
        }
    }

    pub(crate) const fn next(&self) -> Instant {
        self.next
    }

    pub(crate) const fn running(&self) -> usize {
        match &self.all {
            All::None => 0,
            All::List(list) => list.suspects.len(),
            All::Crowd(crowd) => crowd.left.len(),
        }
    }

    /// Whom to name as the accuser of a suspect the so manieth time: each telling names another,
    /// so that all become known. A crowd's are forgotten, and it is hearsay.
    pub(crate) fn accuser(&self, suspect: Peer, told: u8) -> Peer {
        let All::List(list) = &self.all else {
            return suspect;
        };
        list.find(suspect).map_or(suspect, |at| {
            let accusers = list.suspicions[at].accusers();
            accusers[usize::from(told) % accusers.len()]
        })
    }

    /// Those on the longest clocks, the oldest first, so many at most.
    pub(crate) fn patient<const N: usize>(&self, me: Peer) -> impl Iterator<Item = Peer> + use<N> {
        let mut oldest = [(i32::MAX, Peer(0)); N];
        let mut found = 0;
        match &self.all {
            All::None => {}
            All::Crowd(crowd) => {
                let ticks = RUN_OUT..=Plane::<4>::MAX;
                let in_turn = ticks.flat_map(|left| crowd.left.with(left, me));
                for peer in in_turn.take(N) {
                    oldest[found].1 = peer;
                    found += 1;
                }
            }
            All::List(list) => {
                let first = list.suspicions.first().map_or(0, |s| s.since);
                for (suspect, suspicion) in list.iter().filter(|(_, s)| s.patience > 0) {
                    let age = suspicion.since.wrapping_sub(first) as i32;
                    let mut younger = (age, suspect);
                    found = N.min(found + 1);
                    for one in &mut oldest {
                        if younger < *one {
                            core::mem::swap(one, &mut younger);
                        }
                    }
                }
            }
        }
        oldest.into_iter().take(found).map(|(_, peer)| peer)
    }

    /// Some that run, so many at most.
    pub(crate) fn some<const N: usize>(
        &self,
        stream: &mut Stream,
    ) -> impl Iterator<Item = Peer> + use<N> {
        let mut some = [Peer(0); N];
        let mut found = 0;
        let mut take = |peer| {
            some[found] = peer;
            found += 1;
        };
        match &self.all {
            All::Crowd(crowd) => {
                let start = Peer(stream.below(crowd.left.tiles().into()) as u16);
                let running = crowd.left.marked(start);
                running.take(N).for_each(|(peer, _)| take(peer));
            }
            All::None => {}
            All::List(list) => {
                let suspects = &list.suspects;
                let start = stream.below(suspects.len() as u64) as usize;
                let (before, after) = suspects.split_at(start);
                let running = after.iter().chain(before).take(N);
                running.for_each(|&suspect| take(suspect));
            }
        }
        some.into_iter().take(found)
    }

    /// Begins one. That its accuser is the suspect itself stands for hearsay.
    pub(crate) fn start(
        &mut self,
        now: Instant,
        suspect: Peer,
        accuser: Peer,
        manner: Manner,
        config: &Config,
    ) {
        if let All::List(list) = &mut self.all
            && list.suspects.len() >= config.crowd()
        {
            let crowd = Crowd::of(list, now, config);
            self.all = All::Crowd(Box::new(crowd));
        }
        if matches!(self.all, All::None) {
            self.all = All::List(Box::default());
        }
        let list = match &mut self.all {
            All::None => unreachable!("just made"),
            All::List(list) => list,
            All::Crowd(crowd) => {
                assert_eq!(crowd.left.get(suspect), 0, "it is suspected already");
                // Whoever joins must not be charged for ticks before.
                crowd.advance(now, config);
                crowd.left.set(suspect, RUN_OUT + CROWD * TICKS + 1);
                if !manner.settled {
                    crowd.unsettled.push(suspect);
                }
                self.next = crowd.next(config);
                return;
            }
        };
        debug_assert!(list.find(suspect).is_none(), "it is suspected already");
        let suspicion = Suspicion {
            since: millis(now.0) as u32,
            accusers: [accuser; CONFIRMATIONS_MAX + 1],
            count: 1 | if manner.settled { SETTLED } else { 0 },
            patience: if manner.hearsay { HEARSAY } else { 0 },
        };
        let deadline = suspicion.deadline(now, &Clocks::of(config));
        self.next = self.next.min(instant(deadline));
        list.push(suspect, suspicion);
    }

    /// Counts another accuser; whether it was new and mattered.
    pub(crate) fn confirm(
        &mut self,
        now: Instant,
        suspect: Peer,
        accuser: Peer,
        config: &Config,
    ) -> bool {
        let All::List(list) = &mut self.all else {
            return false;
        };
        let Some(at) = list.find(suspect) else {
            return false;
        };
        let suspicion = &mut list.suspicions[at];
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

    /// Ends the suspicion of a peer, if there is one.
    pub(crate) fn end(&mut self, suspect: Peer, config: &Config) {
        match &mut self.all {
            All::None => {}
            All::List(list) => {
                if let Some(at) = list.find(suspect) {
                    list.suspects.remove(at);
                    list.suspicions.remove(at);
                }
            }
            All::Crowd(crowd) => {
                crowd.left.set(suspect, 0);
                crowd.unsettled.retain(|peer| *peer != suspect);
                if crowd.left.len() <= config.crowd() / 4 {
                    self.all = All::List(Box::new(crowd.list(config)));
                }
            }
        }
        if self.running() == 0 {
            *self = Self::new();
        }
    }

    /// Whose clock has run out, and how many confirmed it.
    pub(crate) fn expired(&mut self, now: Instant, config: &Config) -> Option<(Peer, u8)> {
        if self.next > now {
            return None;
        }
        let list = match &mut self.all {
            All::None => return None,
            All::List(list) => list,
            All::Crowd(crowd) => {
                crowd.advance(now, config);
                self.next = crowd.next(config);
                let mut run_out = crowd.left.with(RUN_OUT, Peer(0));
                return run_out.next().map(|peer| (peer, 0));
            }
        };
        let clocks = Clocks::of(config);
        let (mut next, reached) = (i64::MAX, (now.0 / 1_000_000) as i64);
        for (suspect, suspicion) in list.iter() {
            let deadline = suspicion.deadline(now, &clocks);
            if deadline <= reached {
                return Some((suspect, suspicion.confirmations()));
            }
            next = next.min(deadline);
        }
        self.next = instant(next);
        None
    }

    /// Grants all that run now the longest clock, which a crowd's have.
    pub(crate) fn be_patient(&mut self) {
        if let All::List(list) = &mut self.all {
            let suspicions = list.suspicions.iter_mut();
            suspicions.for_each(|s| s.patience = CROWD);
        }
    }

    /// A suspect this member ought to look at itself; each is given out once.
    pub(crate) fn unsettled(&mut self) -> Option<Peer> {
        match &mut self.all {
            All::None => None,
            All::List(list) => {
                let at = list.suspicions.iter().position(|s| !s.is_settled())?;
                list.suspicions[at].count |= SETTLED;
                Some(list.suspects[at])
            }
            All::Crowd(crowd) => crowd.unsettled.pop(),
        }
    }

    /// Grants every suspect the time this member was not itself.
    pub(crate) fn postpone(&mut self, by: Nanos) {
        let by = millis(by.0);
        let span = Nanos(by * 1_000_000);
        match &mut self.all {
            All::None => {}
            All::List(list) => {
                let later = |s: &mut Suspicion| s.since = s.since.wrapping_add(by as u32);
                list.suspicions.iter_mut().for_each(later);
            }
            All::Crowd(crowd) => crowd.tick += span,
        }
        if self.next < Instant::END {
            self.next += span;
        }
    }

    pub(crate) const fn list(&self) -> Range<*const u8> {
        match &self.all {
            All::None => bytes::<u8>(&[]),
            All::List(list) => bytes(list.suspects.as_slice()),
            All::Crowd(crowd) => crowd.left.list(),
        }
    }

    pub(crate) const fn heap(&self) -> usize {
        match &self.all {
            All::None => 0,
            All::List(list) => {
                let each = size_of::<Peer>() + size_of::<Suspicion>();
                size_of::<List>() + list.suspects.capacity() * each
            }
            All::Crowd(crowd) => {
                let unsettled = crowd.unsettled.capacity() * size_of::<Peer>();
                size_of::<Crowd>() + crowd.left.heap() + unsettled
            }
        }
    }
}

impl Crowd {
    fn of(list: &List, now: Instant, config: &Config) -> Self {
        let (clocks, tick) = (Clocks::of(config), tick(config));
        let reached = (now.0 / 1_000_000) as i64;
        let mut crowd = Self {
            left: Plane::new(config.tiles()),
            tick: now + tick,
            unsettled: Vec::new(),
        };
        for (suspect, suspicion) in list.iter() {
            let mut suspicion = *suspicion;
            suspicion.patience = CROWD;
            let left = (suspicion.deadline(now, &clocks) - reached).max(0) as u64;
            let ticks = left
                .div_ceil(millis(tick.0))
                .min((CROWD * TICKS + 1).into());
            crowd.left.set(suspect, RUN_OUT + ticks as u8);
            if !suspicion.is_settled() {
                crowd.unsettled.push(suspect);
            }
        }
        crowd
    }

    /// Lets the clocks tick as often as it is time for.
    fn advance(&mut self, now: Instant, config: &Config) {
        while self.tick <= now {
            self.left.count_down();
            self.tick += tick(config);
        }
    }

    /// The same as a list, once there are so few.
    fn list(&self, config: &Config) -> List {
        let runs = millis(config.suspicion_max.0) * u64::from(CROWD);
        let mut list = List::default();
        for (suspect, left) in self.left.marked(Peer(0)) {
            let out = millis(self.runs_out(left, config).0);
            let unsettled = self.unsettled.contains(&suspect);
            let suspicion = Suspicion {
                // It may have begun before the world did; only the lower half counts.
                since: out.wrapping_sub(runs) as u32,
                accusers: [suspect; CONFIRMATIONS_MAX + 1],
                count: 1 | if unsettled { 0 } else { SETTLED },
                patience: CROWD,
            };
            list.push(suspect, suspicion);
        }
        list
    }

    fn next(&self, config: &Config) -> Instant {
        let ticks = RUN_OUT..=Plane::<4>::MAX;
        let mut left = ticks.filter(|&left| self.left.count(left) > 0);
        left.next()
            .map_or(Instant::END, |left| self.runs_out(left, config))
    }

    /// When a clock with so much left runs out; of one that has, the last tick.
    fn runs_out(&self, left: u8, config: &Config) -> Instant {
        let tick = tick(config);
        let after = self.tick + tick * u64::from(left - RUN_OUT);
        Instant(after.0.saturating_sub(tick.0))
    }
}

/// How often a crowd's clocks tick.
fn tick(config: &Config) -> Nanos {
    Nanos(millis(config.suspicion_max.0).div_ceil(TICKS.into()) * 1_000_000)
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
    use alloc::collections::BTreeMap;
    use trust::Key;
    use wire::{Cell, Hexagons};

    //= spec 9
    #[test]
    fn each_accuser_shortens_the_clock_and_a_repeated_one_does_not() {
        let config = Config::new(Cell(0), Hexagons::of(16).unwrap(), &Key::new([0; 32]));
        let mut suspicions = Suspicions::new();
        let at = |ms| Instant::EPOCH + Nanos::from_millis(ms);
        let manner = Manner {
            settled: true,
            hearsay: false,
        };
        suspicions.start(at(0), Peer(9), Peer(1), manner, &config);
        assert_eq!(suspicions.next(), at(4_000));
        assert!(!suspicions.confirm(at(0), Peer(9), Peer(1), &config));
        assert!(suspicions.confirm(at(0), Peer(9), Peer(2), &config));
        assert!((at(2_700)..at(2_800)).contains(&suspicions.next()));
        assert!(suspicions.confirm(at(0), Peer(9), Peer(4), &config));
        assert_eq!(suspicions.next(), at(2_000));
        assert!(
            !suspicions.confirm(at(0), Peer(9), Peer(5), &config),
            "enough"
        );
        assert!(suspicions.expired(at(1_999), &config).is_none());
        assert_eq!(suspicions.expired(at(2_000), &config), Some((Peer(9), 2)));
        suspicions.postpone(Nanos::SECOND);
        assert_eq!(suspicions.next(), at(3_000));
        suspicions.end(Peer(9), &config);
        assert_eq!((suspicions.next(), suspicions.heap()), (Instant::END, 0));
    }

    /// A crowd's clocks tick together, and are looked at when the first runs out: whoever is
    /// suspected late has all of its time before it nonetheless.
    //= spec 9
    #[test]
    fn a_crowd_grants_those_who_join_it_late_as_much_time_as_the_first() {
        let config = Config::new(Cell(0), Hexagons::of(36).unwrap(), &Key::new([0; 32]));
        let at = |ms| Instant::EPOCH + Nanos::from_millis(ms);
        let manner = Manner {
            settled: true,
            hearsay: false,
        };
        let mut suspicions = Suspicions::new();
        let crowd = config.crowd() as u16 + 1;
        for peer in 1..=crowd {
            suspicions.start(at(0), Peer(peer), Peer(0), manner, &config);
        }
        let longest = 4_000 * u64::from(CROWD);
        let late = Peer(crowd + 1);
        suspicions.start(at(longest - 500), late, Peer(0), manner, &config);
        let mut run_out = BTreeMap::new();
        for ms in (0..3 * longest).step_by(100) {
            while let Some((peer, _)) = suspicions.expired(at(ms), &config) {
                run_out.insert(peer, ms);
                suspicions.end(peer, &config);
            }
        }
        let a_tick = tick(&config).0 / 1_000_000;
        for (peer, ms) in &run_out {
            let began = if *peer == late { longest - 500 } else { 0 };
            let ran = ms - began;
            assert!(
                (longest..=longest + 2 * a_tick).contains(&ran),
                "{peer:?} ran {ran}"
            );
        }
        assert_eq!(run_out.len(), usize::from(crowd) + 1);
    }
}
