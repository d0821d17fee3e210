//! Who waited, who got what, and why?
//!
//! What a run of a cluster has besides its [`super::Series`]: the [`Film`] of its nodes, the
//! queue, each tenant's dominant share, each cooling loop's heat against what it can
//! carry, and its jobs with the decisions that made their lives.
//!
//! Everything over time is a *course*: at most [`Cluster::POINTS_MAX`] samples, after
//! which two become one and from then on twice as many share one. Of two the worse is
//! kept where harm lies upward (a queue, heat), the lesser where it lies downward (a capacity),
//! and the mean of what is a share. Jobs are bounded too ([`Jobs::JOBS_MAX`]): a page with more
//! is one nobody opens. What went untold is counted, and its decisions are in `history.db`. A job
//! that is over is put away in a file and forgotten (`ended`).

use std::collections::BTreeMap;

use serde::Serialize;
use telemetry::{Action, Reason};

use super::ended::Ended;
use super::film::Film;

/// A cluster over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// Its nodes.
    pub film: Film,
    /// Its jobs.
    pub jobs: Jobs,
    tenants: Vec<Tenant>,
    loops: Vec<Loop>,
    /// Samples that share a point; 0 stands for 1.
    every: u64,
    offered: u64,
    seconds: Vec<f64>,
    queue: Queue,
}

/// The queue over time, a value per sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// Jobs that wait.
    pub jobs: Vec<f32>,
    /// GPUs they ask for, in all.
    pub gpus: Vec<f32>,
    /// How long the one that waits longest has waited, in seconds; 0 if none waits.
    pub oldest_seconds: Vec<f32>,
}

/// Who asks for work to be done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// Its weight among the tenants.
    pub weight: f64,
    /// Its dominant share over time (Ghodsi et al., NSDI 2011, § 4.1), a value per sample.
    pub dominant_share: Vec<f32>,
}

/// A cooling loop.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loop {
    /// Its name.
    pub name: String,
    /// The heat it is given over time, in watts, a value per sample.
    pub watts: Vec<f32>,
    /// What it can carry over time, in watts, a value per sample.
    pub capacity_watts: Vec<f32>,
    /// When parts of it failed.
    pub faults: Vec<LoopFault>,
}

/// A time during which a loop could carry less.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LoopFault {
    /// From when.
    pub from_seconds: f64,
    /// Until when; NaN if to the end.
    pub to_seconds: f64,
    /// The share of its capacity that was left.
    pub left: f64,
}

/// What is sampled at one time.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// See [`Queue::jobs`].
    pub waiting_jobs: f32,
    /// See [`Queue::gpus`].
    pub waiting_gpus: f32,
    /// See [`Queue::oldest_seconds`].
    pub oldest_seconds: f32,
    /// See [`Tenant::dominant_share`]; one per tenant.
    pub dominant_shares: &'a [f32],
    /// See [`Loop::watts`]; one per loop.
    pub loop_watts: &'a [f32],
    /// See [`Loop::capacity_watts`]; one per loop.
    pub capacity_watts: &'a [f32],
}

/// The jobs of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jobs {
    /// The terms a candidate's score is made of, in the order of [`Candidate::terms`].
    pub terms: Vec<String>,
    /// The tests of [`Why::funnel`], in their order: what a node lacks that falls to each.
    pub tests: Vec<&'static str>,
    /// What jobs ask for, each wording once, and its number.
    wants: BTreeMap<Box<str>, u32>,
    /// Those that wait or run, or ended just now.
    here: BTreeMap<u64, Job>,
    /// Those that ended at the last instant at which any did: what was decided of them may still come.
    going: Vec<u64>,
    ended: Ended,
    told: usize,
    whys: usize,
    whys_at_once: usize,
    steps: usize,
    stays: usize,
    untold: u64,
}

/// A job's life.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its number, as in `decisions.work` of `history.db`.
    pub id: u64,
    /// Its name in the trace.
    pub name: Box<str>,
    /// Its tenant, an index into [`Cluster::tenants`].
    pub tenant: u32,
    /// What it asks for, a number that [`Jobs::want`] gave.
    pub wants: u32,
    /// Thousandths of a GPU it asks for, all tasks together.
    pub gpu_milli: u64,
    /// Tasks that start together.
    pub tasks: u32,
    /// When it arrived.
    pub arrived: f64,
    /// When it first started; NaN if it never did.
    pub started: f64,
    /// When it ended, refused ones when they were refused; NaN if it had not.
    pub ended: f64,
    /// What became of it.
    pub state: State,
    /// What was decided about it, in order of time.
    pub steps: Vec<Step>,
    /// Where it was, in order of time.
    pub stays: Vec<Stay>,
}

/// What became of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It still waits.
    #[default]
    Waiting,
    /// It still runs.
    Running,
    /// It ran to its end.
    Finished,
    /// It was turned away.
    Refused,
    /// It was lost with its machines.
    Lost,
    /// It ended at the limit its owner set.
    AtLimit,
}

/// A decision about a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// When.
    pub seconds: f64,
    /// What was done.
    pub action: Action,
    /// Why, in a word.
    pub reason: Reason,
    /// The node it is about, an index into the film; of a gang, the first.
    pub node: Option<u32>,
    /// Why, in a sentence: which decision caused it. May be empty.
    pub text: Box<str>,
    /// What it rests on; `None` if that was not kept. Boxed, as most decisions have none.
    pub why: Option<Box<Why>>,
}

/// What a decision rests on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Why {
    /// Nodes there were to begin with.
    pub nodes: u32,
    /// How many nodes were left after each of [`Jobs::tests`].
    pub funnel: Box<[u32]>,
    /// Jobs that stand before it, or that it made room for.
    pub ahead: Box<[u64]>,
    /// Between which times it was expected to start, in seconds of coordinate time;
    /// `None` if there was no telling.
    pub start_seconds: Option<[f64; 2]>,
    /// The same in words, with what it rests on; empty if nobody looked ahead.
    pub start_text: Box<str>,
    /// Whether it was tried what would let it start sooner.
    pub tried: Tried,
    /// What would let it start sooner, cheapest first.
    pub changes: Box<[Change]>,
    /// Nodes that were left, from the best.
    pub candidates: Box<[Candidate]>,
}

/// What was tried that could let a job start sooner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Tried {
    /// Nothing.
    #[default]
    Nothing,
    /// Whether a change would start it at once.
    AtOnce,
    /// Whether a change would start it at all sooner.
    Sooner,
}

impl Tried {
    /// Every one, by its number.
    pub const ALL: [Self; 3] = [Self::Nothing, Self::AtOnce, Self::Sooner];
}

/// Something asked for less, and when the job could start then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// What: `6 instead of 8 GPUs`.
    pub text: Box<str>,
    /// The start that could be expected then, in seconds of coordinate time.
    pub start_seconds: f64,
}

/// Terms that a score can have.
pub const TERMS_MAX: usize = 4;

/// A node that could take a job, and its score; the lowest wins.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// An index into the film.
    pub node: u32,
    /// Its score.
    pub score: f64,
    /// What it is the sum of, one for each of [`Jobs::terms`]; the rest are 0.
    pub terms: [f64; TERMS_MAX],
}

/// A time a job spent on a node.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stay {
    /// An index into the film.
    pub node: u32,
    /// Thousandths of a GPU it held there.
    pub gpu_milli: u32,
    /// From when.
    pub from: f64,
    /// Until when; NaN if to the end.
    pub to: f64,
}

impl Cluster {
    /// Samples per course.
    pub const POINTS_MAX: usize = 1_000;

    /// A cluster of these nodes, tenants and loops, without samples or jobs.
    #[must_use]
    pub fn new(film: Film, tenants: &[(String, f64)], loops: &[String]) -> Self {
        let tenants = tenants.iter().map(|(name, weight)| Tenant {
            name: name.clone(),
            weight: *weight,
            dominant_share: Vec::new(),
        });
        let loops = loops.iter().map(|name| Loop {
            name: name.clone(),
            ..Loop::default()
        });
        Self {
            film,
            tenants: tenants.collect(),
            loops: loops.collect(),
            ..Self::default()
        }
    }

    /// When samples were taken; of several that share a point, the first.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The queue over time.
    #[must_use]
    pub const fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Its tenants.
    #[must_use]
    pub fn tenants(&self) -> &[Tenant] {
        &self.tenants
    }

    /// Its cooling loops.
    #[must_use]
    pub fn loops(&self) -> &[Loop] {
        &self.loops
    }

    /// A loop can carry this share of its capacity from now on; 1 ends a fault.
    pub fn loop_changed(&mut self, index: usize, seconds: f64, left: f64) {
        let faults = &mut self.loops[index].faults;
        if let Some(last) = faults.last_mut().filter(|f| f.to_seconds.is_nan()) {
            last.to_seconds = seconds;
        }
        if left < 1.0 {
            faults.push(LoopFault {
                from_seconds: seconds,
                to_seconds: f64::NAN,
                left,
            });
        }
    }

    /// Takes a sample.
    ///
    /// # Panics
    /// If it does not have one value per tenant and per loop.
    pub fn push(&mut self, seconds: f64, moment: Moment<'_>) {
        assert_eq!(moment.dominant_shares.len(), self.tenants.len());
        assert_eq!(moment.loop_watts.len(), self.loops.len());
        assert_eq!(moment.capacity_watts.len(), self.loops.len());
        let every = self.every.max(1);
        let place = self.offered % every;
        self.offered += 1;
        self.every = every;
        if place == 0 {
            self.seconds.push(seconds);
        }
        let values = [
            moment.waiting_jobs,
            moment.waiting_gpus,
            moment.oldest_seconds,
        ];
        let values = values.iter().chain(moment.dominant_shares);
        let values: Vec<f32> = values
            .chain(moment.loop_watts)
            .chain(moment.capacity_watts)
            .copied()
            .collect();
        for ((column, of), value) in self.columns().into_iter().zip(values) {
            match column.last_mut().filter(|_| place > 0) {
                Some(last) => *last = of.two(*last, place as f32, value),
                None => column.push(value),
            }
        }
        if self.seconds.len() > Self::POINTS_MAX {
            super::film::keep_every_second(&mut self.seconds);
            for (column, of) in self.columns() {
                *column = column
                    .chunks(2)
                    .map(|pair| of.two(pair[0], 1.0, pair[pair.len() - 1]))
                    .collect();
            }
            self.every *= 2;
        }
    }

    fn columns(&mut self) -> Vec<(&mut Vec<f32>, Of)> {
        let queue = &mut self.queue;
        let queue = [&mut queue.jobs, &mut queue.gpus, &mut queue.oldest_seconds];
        let shares = self.tenants.iter_mut().map(|t| &mut t.dominant_share);
        let mut heat = Vec::new();
        let mut capacity = Vec::new();
        for l in &mut self.loops {
            heat.push((&mut l.watts, Of::Most));
            capacity.push((&mut l.capacity_watts, Of::Least));
        }
        queue
            .into_iter()
            .map(|c| (c, Of::Most))
            .chain(shares.map(|c| (c, Of::Mean)))
            .chain(heat)
            .chain(capacity)
            .collect()
    }
}

/// What several samples look like as one.
#[derive(Clone, Copy, Debug)]
enum Of {
    Most,
    Least,
    Mean,
}

impl Of {
    /// `first` stands for so many samples already. What is unknown does not count.
    fn two(self, first: f32, many: f32, second: f32) -> f32 {
        match (first.is_nan(), second.is_nan()) {
            (true, _) => return second,
            (_, true) => return first,
            _ => {}
        }
        match self {
            Self::Most => first.max(second),
            Self::Least => first.min(second),
            Self::Mean => (first * many + second) / (many + 1.0),
        }
    }
}

impl Jobs {
    /// Jobs told one by one.
    pub const JOBS_MAX: usize = 50_000;
    /// Decisions told, of all jobs together.
    pub const STEPS_MAX: usize = 200_000;
    /// Times on nodes told, of all jobs together.
    pub const STAYS_MAX: usize = 200_000;
    /// Decisions told with what they rest on, some 300 bytes of a page each.
    pub const WHYS_MAX: usize = 40_000;
    /// Those among them that placed a job at once, which few ask about: most decisions
    /// of most runs, they would leave no room for the others.
    pub const WHYS_AT_ONCE_MAX: usize = 20_000;

    /// The jobs by their numbers, which is in order of arrival; those that are over are read from
    /// where they were put away. Fewer if that cannot be: see [`Self::failed`].
    pub fn all(&self) -> impl Iterator<Item = Job> + '_ {
        let mut ended = self.ended.by_number().peekable();
        let mut here = self.here.values().peekable();
        std::iter::from_fn(move || match (ended.peek(), here.peek()) {
            (Some(gone), Some(job)) if gone.id < job.id => ended.next(),
            (Some(_), None) => ended.next(),
            _ => here.next().cloned(),
        })
    }

    /// How many jobs are told.
    #[must_use]
    pub const fn told(&self) -> usize {
        self.told
    }

    /// What went wrong with those that were put away, if something did; once.
    #[must_use]
    pub fn failed(&self) -> Option<std::io::Error> {
        self.ended.failed()
    }

    /// Jobs beyond [`Jobs::JOBS_MAX`].
    #[must_use]
    pub const fn untold(&self) -> u64 {
        self.untold
    }

    /// The number of what a job asks for in words, such as `4 × 8 H100 in one row`.
    pub fn want(&mut self, words: String) -> u32 {
        let next = self.wants.len() as u32;
        *self.wants.entry(words.into()).or_insert(next)
    }

    /// What jobs ask for, by number.
    #[must_use]
    pub fn wants(&self) -> Vec<&str> {
        let mut wants = vec![""; self.wants.len()];
        for (words, &number) in &self.wants {
            wants[number as usize] = words;
        }
        wants
    }

    /// A job is there.
    pub fn arrived(&mut self, job: Job) {
        if self.told < Self::JOBS_MAX {
            self.told += 1;
            self.here.insert(job.id, job);
        } else {
            self.untold += 1;
        }
    }

    /// Whether the grounds of another decision about this job would be kept: those that would not
    /// need not be computed.
    #[must_use]
    pub fn wants_why(&self, job: u64) -> bool {
        self.whys < Self::WHYS_MAX && self.here.contains_key(&job)
    }

    /// Something was decided about a job.
    pub fn step(&mut self, job: u64, mut step: Step) {
        let Some(job) = self.here.get_mut(&job) else {
            return;
        };
        if self.steps >= Self::STEPS_MAX {
            return;
        }
        self.steps += 1;
        if step.why.is_some() {
            let at_once = step.action == Action::Place && job.steps.is_empty();
            if self.whys < Self::WHYS_MAX
                && (!at_once || self.whys_at_once < Self::WHYS_AT_ONCE_MAX)
            {
                self.whys += 1;
                self.whys_at_once += usize::from(at_once);
            } else {
                step.why = None;
            }
        }
        // Most jobs have few: room for four would be room for none twice over.
        job.steps.reserve_exact(1);
        job.steps.push(step);
    }

    /// Something befell a job that is only told afterwards: in its place among what was told before.
    pub fn step_between(&mut self, job: u64, step: Step) {
        let Some(job) = self.here.get_mut(&job) else {
            return;
        };
        if self.steps >= Self::STEPS_MAX {
            return;
        }
        self.steps += 1;
        let place = job.steps.partition_point(|s| s.seconds <= step.seconds);
        job.steps.reserve_exact(1);
        job.steps.insert(place, step);
    }

    /// What is to become of a job that waits: with the decision that made it wait if that is of the
    /// same instant, else as a step of its own.
    pub fn outlook(&mut self, job: u64, step: Step) {
        let Some(told) = self.here.get_mut(&job) else {
            return;
        };
        match told.steps.last_mut() {
            Some(last)
                if last.why.is_some()
                    && (last.seconds, last.action) == (step.seconds, step.action) =>
            {
                *last = step;
            }
            _ => self.step(job, step),
        }
    }

    /// When a job that waits was expected to start, and that in words: with what it was last told.
    pub fn expects(&mut self, job: u64, start_seconds: Option<[f64; 2]>, text: String) {
        let Some(job) = self.here.get_mut(&job) else {
            return;
        };
        if let Some(why) = job.steps.last_mut().and_then(|step| step.why.as_mut()) {
            (why.start_seconds, why.start_text) = (start_seconds, text.into());
        }
    }

    /// A job starts on these nodes, with so many thousandths of a GPU on each.
    pub fn started(&mut self, job: u64, seconds: f64, on: &[(u32, u32)]) {
        let Some(job) = self.here.get_mut(&job) else {
            return;
        };
        if job.started.is_nan() {
            job.started = seconds;
        }
        job.state = State::Running;
        let room = Self::STAYS_MAX - self.stays;
        let before = job.stays.len();
        let on = on.iter().take(room);
        job.stays.extend(on.map(|&(node, gpu_milli)| Stay {
            node,
            gpu_milli,
            from: seconds,
            to: f64::NAN,
        }));
        self.stays += job.stays.len() - before;
    }

    /// A job leaves every node it is on, and is from now on what is said. One that leaves
    /// to wait or to move is [`State::Waiting`].
    pub fn left(&mut self, id: u64, seconds: f64, state: State) {
        self.put_away_before(seconds);
        let Some(job) = self.here.get_mut(&id) else {
            return;
        };
        job.state = state;
        let open = job.stays.iter_mut().filter(|stay| stay.to.is_nan());
        open.for_each(|stay| stay.to = seconds);
        if !matches!(state, State::Waiting | State::Running) {
            job.ended = seconds;
            self.going.push(id);
        }
    }

    /// Nothing more comes of who ended before now.
    fn put_away_before(&mut self, now: f64) {
        let last = self.going.last().and_then(|id| self.here.get(id));
        if last.is_none_or(|job| job.ended >= now) {
            return;
        }
        for id in self.going.drain(..) {
            if let Some(job) = self.here.remove(&id) {
                self.ended.push(&job);
            }
        }
    }
}

impl State {
    /// In the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Waiting,
        Self::Running,
        Self::Finished,
        Self::Refused,
        Self::Lost,
        Self::AtLimit,
    ];

    /// The word for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Refused => "refused",
            Self::Lost => "lost",
            Self::AtLimit => "at its limit",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: u64) -> Job {
        Job {
            id,
            name: format!("job-{id}").into(),
            tenant: 0,
            wants: 0,
            gpu_milli: 1_000,
            tasks: 1,
            arrived: 0.0,
            started: f64::NAN,
            ended: f64::NAN,
            state: State::Waiting,
            steps: Vec::new(),
            stays: Vec::new(),
        }
    }

    fn course(samples: u32) -> Cluster {
        let tenants = [("a".to_owned(), 1.0)];
        let mut cluster = Cluster::new(Film::default(), &tenants, &["loop".to_owned()]);
        for t in 0..samples {
            cluster.push(
                f64::from(t),
                Moment {
                    // One sample in the middle stands out.
                    waiting_jobs: if t == samples / 2 { 99.0 } else { 1.0 },
                    waiting_gpus: f32::NAN,
                    oldest_seconds: 0.0,
                    dominant_shares: &[(t % 2) as f32],
                    loop_watts: &[5.0],
                    capacity_watts: &[if t == samples / 3 { 2.0 } else { 9.0 }],
                },
            );
        }
        cluster
    }

    #[test]
    fn a_course_of_any_length_is_bounded_and_keeps_what_stands_out() {
        for samples in [1_000, 1_001, 7_777, 86_400] {
            let cluster = course(samples);
            let seconds = cluster.seconds();
            assert!(seconds.len() <= Cluster::POINTS_MAX && seconds.len() >= 450);
            assert!(
                seconds
                    .windows(2)
                    .all(|w| w[1] - w[0] == seconds[1] - seconds[0])
            );
            let queue = cluster.queue();
            assert_eq!(queue.jobs.len(), seconds.len());
            assert_eq!(queue.jobs.iter().copied().fold(0.0, f32::max), 99.0);
            assert!(queue.gpus.iter().all(|v| v.is_nan()));
            let capacity = &cluster.loops()[0].capacity_watts;
            assert_eq!(capacity.iter().copied().fold(9.0, f32::min), 2.0);
            // Zeros and ones by turns; the last point may hold a single sample.
            let shares = &cluster.tenants()[0].dominant_share;
            let whole = &shares[..shares.len() - 1];
            assert!(samples == 1_000 || whole.iter().all(|&v| (v - 0.5).abs() < 1e-3));
        }
    }

    #[test]
    fn a_job_that_moves_stays_twice_and_ends_once() {
        let mut jobs = Jobs::default();
        jobs.arrived(job(7));
        jobs.arrived(job(8));
        jobs.started(7, 10.0, &[(3, 500), (4, 500)]);
        jobs.started(8, 11.0, &[(3, 250)]);
        jobs.left(7, 20.0, State::Waiting);
        jobs.started(7, 30.0, &[(5, 1_000)]);
        jobs.left(7, 40.0, State::Finished);
        let all: Vec<Job> = jobs.all().collect();
        let [moved, other] = &all[..] else {
            panic!("two jobs");
        };
        let stays: Vec<_> = (moved.stays.iter())
            .map(|s| (s.node, s.from, s.to))
            .collect();
        assert_eq!(stays, [(3, 10.0, 20.0), (4, 10.0, 20.0), (5, 30.0, 40.0)]);
        assert_eq!((moved.started, moved.ended), (10.0, 40.0));
        assert_eq!(moved.state, State::Finished);
        assert!(other.state == State::Running && other.ended.is_nan());
    }

    #[test]
    fn who_ended_is_put_away_once_nothing_more_is_decided_of_it() {
        let mut jobs = Jobs::default();
        (0..4).for_each(|id| jobs.arrived(job(id)));
        jobs.left(2, 5.0, State::Refused);
        let told = Step {
            seconds: 5.0,
            action: Action::Refuse,
            reason: Reason::Quota,
            node: None,
            text: "why not".into(),
            why: None,
        };
        jobs.step(2, told.clone());
        assert_eq!(jobs.here.len(), 4);
        jobs.left(0, 6.0, State::Finished);
        jobs.step(2, told.clone());
        assert!(!jobs.here.contains_key(&2) && jobs.here.len() == 3);
        jobs.left(3, 7.0, State::Waiting);
        assert_eq!((jobs.here.len(), jobs.ended.len()), (2, 2));
        let all: Vec<Job> = jobs.all().collect();
        assert!(all.iter().map(|job| job.id).eq(0..4));
        assert_eq!(all[2].steps, [told]);
        assert_eq!(
            [0, 2, 3].map(|i| all[i].state),
            [State::Finished, State::Refused, State::Waiting]
        );
    }

    #[test]
    fn jobs_beyond_the_bound_are_counted_and_their_decisions_ignored() {
        let mut jobs = Jobs::default();
        for id in 0..Jobs::JOBS_MAX as u64 + 3 {
            jobs.arrived(job(id));
        }
        let late = Jobs::JOBS_MAX as u64 + 1;
        jobs.started(late, 1.0, &[(0, 1)]);
        jobs.left(late, 2.0, State::Finished);
        assert_eq!((jobs.told(), jobs.untold()), (Jobs::JOBS_MAX, 3));
        assert!(jobs.stays == 0 && !jobs.wants_why(late));
        // Who ended makes no room for others: the page would be as long.
        jobs.left(0, 3.0, State::Finished);
        jobs.left(1, 4.0, State::Finished);
        jobs.arrived(job(late));
        assert_eq!((jobs.all().count(), jobs.untold()), (Jobs::JOBS_MAX, 4));
    }

    #[test]
    fn jobs_that_start_at_once_leave_room_for_what_people_ask_about() {
        let mut jobs = Jobs::default();
        let step = |action| Step {
            seconds: 0.0,
            action,
            reason: Reason::BestScore,
            node: None,
            text: Box::default(),
            why: Some(Box::default()),
        };
        for id in 0..Jobs::WHYS_MAX as u64 {
            jobs.arrived(job(id));
            jobs.step(id, step(Action::Place));
        }
        jobs.step(0, step(Action::Migrate));
        let kept = jobs.all().flat_map(|job| job.steps);
        let kept = kept.filter(|step| step.why.is_some()).count();
        assert_eq!(kept, Jobs::WHYS_AT_ONCE_MAX + 1);
        assert!(jobs.all().next().unwrap().steps[1].why.is_some());
    }

    #[test]
    fn a_fault_ends_when_the_loop_changes_again() {
        let mut cluster = course(1);
        cluster.loop_changed(0, 5.0, 0.5);
        cluster.loop_changed(0, 9.0, 1.0);
        cluster.loop_changed(0, 12.0, 0.0);
        let faults = &cluster.loops()[0].faults;
        let told = faults.iter().map(|f| (f.from_seconds, f.left));
        assert_eq!(told.collect::<Vec<_>>(), [(5.0, 0.5), (12.0, 0.0)]);
        assert!(faults[0].to_seconds == 9.0 && faults[1].to_seconds.is_nan());
    }
}
