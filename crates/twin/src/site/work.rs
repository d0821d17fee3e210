//! How far has each job come?
//!
//! A job's work is the time it ran in the trace, at full clock. On slower devices it
//! advances in proportion to the clock and ends later by as much. A job that is
//! stopped goes on from its last checkpoint; one that writes none starts from its beginning.
//!
//! Progress is counted in whole nanoseconds × thousandths of clock, so nothing is
//! rounded away: what all jobs executed and what the site executed are the same
//! number, added up in two ways, and [`Work::audit`] gives both.

use std::collections::BTreeSet;

use wire::{Instant, Nanos};

/// Full clock, in the thousandths that progress is counted in.
pub const FULL: u32 = 1_000;

/// Work executed: nanoseconds × thousandths of full clock.
pub type Executed = u128;

/// Every job's progress.
#[derive(Clone, Debug, Default)]
pub struct Work {
    jobs: Vec<Progress>,
    /// When each job that runs would end at its present clock.
    due: BTreeSet<(Instant, u64)>,
    /// The site's own count: sum of clocks, integrated over time.
    clocks: u64,
    executed: Executed,
    counted_until: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    /// All it has to do; none if it never ends.
    needed: Option<Executed>,
    done: Executed,
    discarded: Executed,
    /// Its clock, and since when; 0 while it does not run.
    clock: u32,
    since: Instant,
    due: Option<Instant>,
}

impl Work {
    /// Takes in a job that lasts this long at full clock; gives its number.
    pub fn add(&mut self, lasts: Option<Nanos>) -> u64 {
        self.jobs.push(Progress {
            needed: lasts.map(|n| Executed::from(n.0) * Executed::from(FULL)),
            done: 0,
            discarded: 0,
            clock: 0,
            since: Instant::EPOCH,
            due: None,
        });
        self.jobs.len() as u64 - 1
    }

    /// From now on the job runs at this clock, in thousandths; 0 stands still.
    pub fn set_clock(&mut self, now: Instant, job: u64, clock: u32) {
        self.advance(now, job);
        let p = &mut self.jobs[job as usize];
        self.clocks = self.clocks - u64::from(p.clock) + u64::from(clock);
        p.clock = clock;
        if let Some(due) = p.due.take() {
            self.due.remove(&(due, job));
        }
        self.plan(now, job);
    }

    /// The job stops. What it did since its last checkpoint is lost, everything if it
    /// writes none; gives how much that is.
    pub fn stop(&mut self, now: Instant, job: u64, checkpoint: Option<Nanos>) -> Executed {
        self.set_clock(now, job, 0);
        let p = &mut self.jobs[job as usize];
        let lost = match checkpoint {
            Some(every) => p.done % (Executed::from(every.0) * Executed::from(FULL)),
            None => p.done,
        };
        p.done -= lost;
        p.discarded += lost;
        lost
    }

    /// The next job to reach its end, and when.
    #[must_use]
    pub fn next_due(&self) -> Option<(Instant, u64)> {
        self.due.first().copied()
    }

    /// The job reached its end, as [`Self::next_due`] said.
    pub fn finish(&mut self, now: Instant, job: u64) {
        self.set_clock(now, job, 0);
        let p = &self.jobs[job as usize];
        assert!(
            p.needed
                .is_some_and(|needed| p.done >= needed && p.done - needed < FULL.into()),
            "job {job} ended after {} of {:?}",
            p.done,
            p.needed
        );
    }

    /// What was executed and came to nothing, in seconds at full clock.
    #[must_use]
    pub fn discarded_seconds(&self) -> f64 {
        let sum: Executed = self.jobs.iter().map(|p| p.discarded).sum();
        sum as f64 / f64::from(FULL) / 1e9
    }

    /// What a job executed and kept so far.
    #[must_use]
    pub fn done(&self, job: u64) -> Executed {
        self.jobs[job as usize].done
    }

    /// Brings every job's count up to now. Gives what the site executed, and what
    /// the jobs executed; the two are equal or work was made up or lost.
    pub fn audit(&mut self, now: Instant) -> (Executed, Executed) {
        for job in 0..self.jobs.len() as u64 {
            self.advance(now, job);
        }
        self.count(now);
        let each = self.jobs.iter().map(|p| p.done + p.discarded);
        (self.executed, each.sum())
    }

    fn count(&mut self, now: Instant) {
        let span = now.since(self.counted_until);
        self.executed += Executed::from(span.0) * Executed::from(self.clocks);
        self.counted_until = now;
    }

    fn advance(&mut self, now: Instant, job: u64) {
        self.count(now);
        let p = &mut self.jobs[job as usize];
        p.done += Executed::from(now.since(p.since).0) * Executed::from(p.clock);
        p.since = now;
    }

    fn plan(&mut self, now: Instant, job: u64) {
        let p = &mut self.jobs[job as usize];
        if let (Some(needed), 1..) = (p.needed, p.clock) {
            let left = needed.saturating_sub(p.done).div_ceil(p.clock.into());
            let due = now + Nanos(u64::try_from(left).unwrap_or(u64::MAX));
            p.due = Some(due);
            self.due.insert((due, job));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::EPOCH + Nanos::from_secs(seconds)
    }

    #[test]
    fn a_job_slowed_for_a_while_ends_later_by_what_it_missed() {
        let mut work = Work::default();
        let job = work.add(Some(Nanos::from_secs(100)));
        work.set_clock(at(0), job, FULL);
        assert_eq!(work.next_due(), Some((at(100), job)));
        work.set_clock(at(40), job, 300);
        work.set_clock(at(60), job, FULL);
        // 40 s and 20 s × 0.3 are done.
        assert_eq!(work.next_due(), Some((at(114), job)));
        work.finish(at(114), job);
        assert_eq!(work.next_due(), None);
        assert_eq!(work.done(job), 100_000_000_000_000);
    }

    #[test]
    fn a_job_that_stopped_starts_from_its_beginning_and_what_it_did_is_counted_as_lost() {
        let mut work = Work::default();
        let job = work.add(Some(Nanos::from_secs(10)));
        work.set_clock(at(0), job, FULL);
        work.stop(at(7), job, None);
        assert_eq!(work.next_due(), None);
        work.set_clock(at(20), job, FULL);
        assert_eq!(work.next_due(), Some((at(30), job)));
        assert_eq!(work.discarded_seconds(), 7.0);
        work.finish(at(30), job);
        let (site, jobs) = work.audit(at(50));
        assert_eq!(site, jobs);
        assert_eq!(jobs, 17_000_000_000_000);
    }

    #[test]
    fn a_job_with_checkpoints_loses_only_what_it_did_since_the_last() {
        let mut work = Work::default();
        let job = work.add(Some(Nanos::from_secs(100)));
        work.set_clock(at(0), job, FULL);
        let lost = work.stop(at(47), job, Some(Nanos::from_secs(20)));
        assert_eq!(lost, 7_000_000_000_000);
        work.set_clock(at(50), job, FULL);
        assert_eq!(work.next_due(), Some((at(110), job)));
        let (site, jobs) = work.audit(at(60));
        assert_eq!(site, jobs);
    }

    #[test]
    fn what_the_site_executed_is_what_its_jobs_executed_however_odd_the_clocks() {
        let mut work = Work::default();
        for job in 0..50 {
            work.add((job % 7 > 0).then(|| Nanos(job * 1_234_567_891)));
            work.set_clock(Instant(0), job, 1 + (job as u32 * 37) % FULL);
        }
        let mut finished = 0;
        while let Some((due, job)) = work.next_due() {
            work.finish(due, job);
            finished += 1;
            match job % 3 {
                0 => {
                    work.stop(due, 7 * (job % 5), None);
                }
                1 => work.set_clock(due, 7 * (job % 5), 1 + finished),
                _ => {}
            }
        }
        assert_eq!(finished, 42);
        let (site, jobs) = work.audit(at(1_000_000));
        assert_eq!(site, jobs);
    }
}
