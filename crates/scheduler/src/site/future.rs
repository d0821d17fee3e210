//! Who starts when, if nobody else comes?
//!
//! A copy of the scheduler lives on: those who run end as promised, or as their tenant's
//! jobs tended to, whoever starts then ends likewise, and the copy does what the scheduler would
//! do. So a prediction cannot follow other rules than the scheduler does.
//!
//! **Heat.** What loops will carry nobody knows, but what they carry now and what the
//! books say of their heat is known. Where a loop has no headroom, its meter is read in the future
//! too: it shows what the books lead to, and is as far off as it was when last read. So a loop eases
//! as its jobs end, and opens with the next reading. Two futures bound what a
//! failure, or a neighbour, means for a job: loops stay as they are ([`Loops::AsTheyAre`]), or carry at once
//! what they carry when they are sound and ours alone ([`Loops::Sound`]). Between them is what is believed of anything of which only its age is known: a loop
//! that is weak stays so for as long again ([`Loops::AsLongAgain`]), which is too long as often as too short
//! if nothing is known of how long such things last (Gott, *Implications of the Copernican principle*, Nature 363, 1993).
//!
//! Deliberately absent: jobs that end later because they are slowed, or move because of it, and
//! loops that weaken later.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use machine::Machine;
use wire::{Instant, Nanos};

use crate::cooling::{self, Cooling};
use crate::ledger::State;

use super::habit::Habits;
use super::{Effect, Input, Reading, Running, SiteScheduler};

/// A look ahead sees this many ends and no further; what lies beyond is told as that.
pub const ENDS_MAX: usize = 20_000;

/// Readings of a loop that change something before the look goes on without another.
const READINGS_MAX: usize = 100;

/// How a look ahead lets jobs end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ends {
    Promised,
    Likely,
}

/// What cooling loops carry in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loops {
    AsTheyAre,
    AsLongAgain,
    Sound,
}

/// A copy that lives on.
#[derive(Debug)]
pub(super) struct Future {
    site: SiteScheduler,
    since: Instant,
    ends: Ends,
    /// How long jobs run, as believed when it began: what ends in it was believed and teaches nothing, and would move ends
    /// that are due.
    habits: Habits,
    due: BTreeSet<(Instant, u64)>,
    /// When weak loops are believed to be sound again.
    repairs: BTreeSet<(Instant, usize)>,
    /// When meters are read next, if that could change something.
    reading: Option<Instant>,
    readings: usize,
    ended: usize,
    /// How far it has come.
    now: Instant,
}

impl Future {
    /// Begins at a moment with a copy of the scheduler of then; gives who starts with it.
    pub(super) fn new(
        mut site: SiteScheduler,
        now: Instant,
        ends: Ends,
        loops: Loops,
    ) -> (Self, Vec<u64>) {
        let mut started = Vec::new();
        if loops == Loops::Sound {
            site.restore(now, 0..site.cooling.len(), &mut started);
        }
        let mut repairs = BTreeSet::new();
        if loops == Loops::AsLongAgain {
            let weak = site.weak_since.iter().zip(0..);
            // Of what was not seen for longer than meters are apart, not even the age is known.
            let age = |since: Instant| now.since(since).max(site.config.period);
            repairs.extend(weak.filter_map(|(since, l)| Some((now + age((*since)?), l))));
        }
        let mut future = Self {
            since: now,
            ends,
            habits: site.habits.clone(),
            due: BTreeSet::new(),
            repairs,
            reading: None,
            readings: 0,
            ended: 0,
            now,
            site,
        };
        let running: Vec<u64> = future.site.running.keys().copied().collect();
        future.end(&running);
        future.expect_reading();
        (future, started)
    }

    /// How far the look has come.
    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    /// Whether it ended for the number of ends and not because nothing happens any more.
    pub(super) fn is_cut_short(&self) -> bool {
        self.ended >= ENDS_MAX && !self.due.is_empty()
    }

    /// Lets the next thing happen; gives who starts with it, or none if there is nothing
    /// more to see.
    pub(super) fn step(&mut self) -> Option<Vec<u64>> {
        let mut started = Vec::new();
        let due = self.due.first().map(|&(at, _)| at);
        let next = self.reading.into_iter().chain(due).min();
        if let Some(&(at, coolant)) = self.repairs.first()
            && next.is_none_or(|next| at <= next)
        {
            self.repairs.pop_first();
            self.now = at;
            self.site.restore(at, [coolant], &mut started);
            self.readings = 0;
            self.expect_reading();
        } else if let Some(at) = self.reading
            && due.is_none_or(|due| at < due)
        {
            self.reading = None;
            self.now = at;
            let before = (self.site.running.len(), self.parked());
            for coolant in 0..self.site.cooling.len() {
                if self.site.is_troubled(coolant) {
                    let carries = self.site.carries(coolant);
                    self.site.reads(at, [(coolant, carries)], &mut started);
                }
            }
            self.readings += 1;
            let changed = !started.is_empty() || before != (self.site.running.len(), self.parked());
            if changed && self.readings < READINGS_MAX {
                self.expect_reading();
            }
        } else {
            if self.ended >= ENDS_MAX {
                return None;
            }
            let (at, id) = self.due.pop_first()?;
            self.now = at;
            self.ended += 1;
            let running = self.site.running.get(&id);
            if running.and_then(|r| self.end_of(r)) != Some(at) {
                // It was stopped and perhaps started again.
                return Some(started);
            }
            self.site
                .handle(at, Input::Finished { job: id }, &mut |effect| {
                    if let Effect::Start { job, .. } = effect {
                        started.push(job);
                    }
                });
            self.readings = 0;
            self.expect_reading();
        }
        self.end(&started);
        Some(started)
    }

    /// Until when a job that runs in it is believed to run.
    fn end_of(&self, running: &Running) -> Option<Instant> {
        let now = self.since;
        let promised = running.promised?;
        if promised <= now {
            // Beyond its promise: as long again.
            return Some(now + now.since(running.started));
        }
        if self.ends == Ends::Promised {
            return Some(promised);
        }
        let limit = promised.since(running.started).as_secs_f64();
        let elapsed = now.since(running.started).as_secs_f64() / limit;
        let likely = limit * self.habits.likely(running.job.tenant, elapsed);
        let end = running.started + Nanos((likely * 1e9) as u64);
        Some(end.max(now).min(promised))
    }

    fn end(&mut self, jobs: &[u64]) {
        for &id in jobs {
            let running = self.site.running.get(&id);
            if let Some(end) = running.and_then(|r| self.end_of(r)) {
                self.due.insert((end, id));
            }
        }
    }

    fn parked(&self) -> usize {
        self.site.parked.iter().map(BTreeSet::len).sum()
    }

    fn expect_reading(&mut self) {
        let loops = 0..self.site.cooling.len();
        let troubled = loops.filter(|&coolant| self.site.is_troubled(coolant));
        let next = troubled.map(|coolant| self.site.cooling[coolant].reading_after(self.now));
        self.reading = next.min();
    }
}

/// What a meter cannot tell from sound.
const TOLERANCE: f64 = 1e-3;

/// Whether a loop that carries so much carries less than it should.
pub(super) fn is_less(carries: f64, should: f64) -> bool {
    carries < should * (1.0 - TOLERANCE)
}

/// What a loop carries, in watts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Carries {
    /// Of ours.
    ours: f64,
    /// Of what others give it.
    others: f64,
}

impl Carries {
    fn all(self) -> f64 {
        self.ours + self.others
    }
}

impl SiteScheduler {
    /// What a loop carried when its meter was last read.
    pub(super) fn carries(&self, coolant: usize) -> Carries {
        Carries {
            ours: self.cooling[coolant].capacity_watts(),
            others: self.others_watts[coolant],
        }
    }

    /// Meters show what the books lead to, for loops that carry this; tells who starts with it.
    fn reads(
        &mut self,
        now: Instant,
        loops: impl IntoIterator<Item = (usize, Carries)>,
        started: &mut Vec<u64>,
    ) {
        let out = &mut |effect| {
            if let Effect::Start { job, .. } = effect {
                started.push(job);
            }
        };
        let mut is_worth = false;
        for (coolant, carries) in loops {
            let reading = Reading {
                heat_watts: self.cooling[coolant].foretold(now),
                capacity_watts: carries.ours,
                others_watts: carries.others,
            };
            is_worth |= self.read(now, coolant, reading, out);
        }
        if is_worth {
            self.sweep(now, out);
        }
    }

    /// These loops are sound and ours alone; tells who starts with it.
    pub(super) fn restore(
        &mut self,
        now: Instant,
        loops: impl IntoIterator<Item = usize>,
        started: &mut Vec<u64>,
    ) {
        let sound = self.config.loop_watts.clone();
        let restored = loops.into_iter().map(|coolant| {
            let ours = sound[coolant];
            (coolant, Carries { ours, others: 0.0 })
        });
        self.reads(now, restored, started);
    }

    /// A loop is sound, and others take the same part of it; tells who starts with it.
    pub(super) fn repair(&mut self, now: Instant, coolant: usize, started: &mut Vec<u64>) {
        let (carries, sound) = (self.carries(coolant), self.config.loop_watts[coolant]);
        let others = sound * self.part_of_others(coolant);
        let repaired = Carries {
            ours: (sound - others).max(carries.ours),
            others,
        };
        self.reads(now, [(coolant, repaired)], started);
    }

    /// Nobody else takes anything of any loop, and they are as sound as they were; tells who starts with it.
    pub(super) fn part_from_others(&mut self, now: Instant, started: &mut Vec<u64>) {
        let shared = (0..self.cooling.len()).map(|coolant| (coolant, self.carries(coolant)));
        let shared = shared.filter(|(_, carries)| carries.others > 0.0);
        let alone = shared.map(|(coolant, carries)| {
            let ours = carries.all();
            (coolant, Carries { ours, others: 0.0 })
        });
        let alone: Vec<_> = alone.collect();
        self.reads(now, alone, started);
    }

    /// The part of what a loop carries that others take, 0 to 1.
    pub(super) fn part_of_others(&self, coolant: usize) -> f64 {
        let carries = self.carries(coolant);
        match carries.all() {
            all if all > 0.0 => carries.others / all,
            _ => 0.0,
        }
    }

    /// The loops that carry less, with what others take of them, than when they are sound, and which part of that.
    pub(super) fn faulty(&self) -> impl Iterator<Item = (usize, f64)> {
        let loops = self.config.loop_watts.iter().zip(0..);
        let left = loops.map(|(sound, coolant)| (coolant, self.carries(coolant).all() / sound));
        left.filter(|(_, left)| is_less(*left, 1.0))
    }

    /// Whether others take so much of some loop that a meter can tell.
    pub(super) fn is_shared(&self) -> bool {
        (0..self.cooling.len()).any(|coolant| self.part_of_others(coolant) > TOLERANCE)
    }

    /// Whether a reading of a loop could let something start: because it opens, or nodes of it are
    /// switched on again, or switched off so that it opens sooner.
    fn is_troubled(&self, coolant: usize) -> bool {
        if !self.config.heat_aware {
            return false;
        }
        let cooling = &self.cooling[coolant];
        let predicted = cooling.predicted(0.0);
        let is_idle = |node: &&u32| {
            self.ledger.claims(**node) == 0 && self.ledger.state(**node) == State::Open
        };
        (cooling.budget() < 1.0 && predicted <= self.config.setpoint)
            || (!self.parked[coolant].is_empty() && predicted <= cooling::EASE)
            || (predicted > cooling::OVERLOAD && cooling.nodes().iter().any(|n| is_idle(&n)))
    }

    /// Whether some loop carries less than when it is sound and ours alone.
    pub(super) fn is_weakened(&self) -> bool {
        let mut loops = self.cooling.iter().zip(&self.config.loop_watts);
        let is_weak =
            |(cooling, sound): (&Cooling, &f64)| is_less(cooling.capacity_watts(), *sound);
        self.config.heat_aware && loops.any(is_weak)
    }
}
