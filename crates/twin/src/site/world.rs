//! The run: who is told what, and when.
//!
//! What happens at one instant happens in this order: heat flows up to it and sensors
//! are read, jobs end, loops break or are repaired, jobs arrive, meters are read. Within
//! a kind the lower number goes first. Everything is sequential and every sum has
//! one order, so a run is a function of its universe, its trace and its seed.

pub mod look;
pub mod visit;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use machine::{Machine, Purpose, Stream};
use physics::site::Flows;
use scheduler::guard::{self, Guard};
use scheduler::ledger::{Claim, GPUS_MAX};
use scheduler::site::{
    self, Effect, Evidence, Input, Job, Quality, SiteScheduler, Spread, Task, Tenant, words,
};
use telemetry::{Action, Decision, Reason, Sketch};
use wire::{Instant, Kelvin, Nanos, Tile, Watts};

use super::config::{Config, Pace, Protection};
use super::floor::Floor;
use super::heat::Devices;
use super::invariant::{GRACE, Invariant, Violations};
use super::jobs::{BUSY, Workload};
use super::measured::{Histogram, Measured};
use super::neighbour::PowerRecord;
use super::outcome::{Fate, JobRecord, Jobs, Outcome, TenantBook, Window};
use super::plan::Network;
use super::seen::{self, Nodes, Witness};
use super::work::{FULL, Work};
use crate::engine::history;
use crate::observer::Link;
use crate::record::cluster::Moment;
use crate::record::series::{Group, Sample, Series};

/// How far a run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Simulated so far.
    pub now: Instant,
    /// When it ends.
    pub end: Instant,
    /// Things that happened.
    pub events: u64,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that wait.
    pub waiting: usize,
    /// The hottest device so far, in kelvin.
    pub max_kelvin: f64,
}

/// Something for the history.
#[derive(Clone, Debug, PartialEq)]
pub enum Record<'a> {
    /// A decision, whose subject is a node, and what it rests on.
    Decision(&'a Decision, Option<&'a Evidence>, Link),
    /// What became of a job, once for each.
    Job(JobRecord<'a>),
    /// Something that happened.
    Event {
        /// When.
        at: Instant,
        /// What, in a word.
        kind: &'static str,
        /// To which node, if to one.
        node: Option<u64>,
        /// In words.
        detail: String,
        /// Its place in the chain of causes.
        link: Link,
    },
}

/// What the scheduler is being told, so what its decisions are caused by.
#[derive(Clone, Copy, Debug, Default)]
enum Because {
    /// Something nobody told of: an arrival, a limit, a change from outside.
    #[default]
    Nothing,
    /// This record.
    Record(u64),
    /// The reading of this loop's meter.
    Reading(usize),
}

/// What is known of the causes of a loop's trouble.
#[derive(Clone, Copy, Debug, Default)]
struct Trouble {
    /// What last changed its capacity: a failure, a repair, a neighbour.
    changed: Option<u64>,
    /// The last reading that something was decided for because it was too warm, and the last because it was cool enough.
    read: [Option<(u64, Instant)>; 2],
}

/// What is decided because of a meter is told with a reading that is no older.
const READING_AGE_MAX: Nanos = Nanos(Nanos::MINUTE.0);

/// What a neighbour takes is told whenever it differs by this share of what the plant carries from what was told last.
const TAKEN_STEP: f64 = 0.05;

/// What a run begins with.
#[derive(Clone, Debug, Default)]
pub struct Scene {
    /// What stands there and what comes.
    pub load: Workload,
    /// The power of each of [`Config::neighbours`].
    pub neighbours: Vec<PowerRecord>,
    /// What was measured elsewhere, to be compared with.
    pub measured: Vec<Measured>,
}

impl<L: Into<Workload>> From<L> for Scene {
    fn from(load: L) -> Self {
        Self {
            load: load.into(),
            neighbours: Vec::new(),
            measured: Vec::new(),
        }
    }
}

/// Replays a workload. `progress` is called with every sample and can stop the run;
/// `history` is handed every decision, event and job in order.
///
/// # Panics
/// If the universe has neighbours whose power was not read.
pub fn run(
    config: &Config,
    scene: &Scene,
    seed: u64,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    history: &mut dyn FnMut(Record<'_>),
) -> Outcome {
    let mut world = World::new(config, scene, seed, Sink(Some(history)));
    world.explains = true;
    let complete = world.run(progress).is_continue();
    world.finish(complete)
}

/// Something that was planned happens.
#[derive(Clone, Copy, Debug)]
struct Change {
    at: Instant,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// A loop breaks, or is repaired.
    Capacity {
        coolant: usize,
        /// Share of the capacity that is there from now on.
        left: f64,
        /// The last step of its change, and which way it went.
        told: Option<bool>,
    },
    /// Neighbours take this share of what they would take.
    Shares(f64),
    /// A neighbour begins to take from the plant, or ends.
    Neighbour { begins: bool },
    /// The time in which something is broken begins or ends.
    Window,
}

/// Where a job is.
#[derive(Clone, Debug, Default)]
struct Place {
    /// Its tasks; none while it does not run.
    on: Vec<Task>,
    /// When it first started.
    started: Option<Instant>,
    /// Thousandths of GPU × thousandths of clock.
    rate: u64,
    /// What the network between its tasks leaves of its speed, in thousandths.
    network: u32,
    /// Whether its rate is to be set again at this instant.
    is_stale: bool,
    /// Whether what became of it has been told.
    is_told: bool,
}

#[derive(Clone, Debug, Default)]
struct Host {
    /// What runs here, in order of its start.
    jobs: Vec<u64>,
    is_dark: bool,
    history: u64,
}

/// What is next, in the order of things that happen at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Heat,
    Departure,
    Fault,
    Arrival,
    Meter,
    Patience,
}

/// While every device is this far, in kelvin, below throttling and every loop holds
/// its coolant, no guard has anything to do.
const MARGIN: f64 = 5.0;
/// Quiet begins when for this long nothing has changed: some time constants of any
/// device.
const QUIET_AFTER: Nanos = Nanos(5 * Nanos::MINUTE.0);

/// Run times below this, in seconds, count as this in a slowdown: that of a job of a
/// second says nothing (*bounded slowdown*; Feitelson et al., *Theory and Practice in Parallel
/// Job Scheduling*, JSSPP '97, § 4.1).
const SHORT: f64 = 10.0;
/// A file system's share is passed on to jobs when it has moved by this many thousandths.
const IO_STEP_MIN: u32 = 20;

/// Records kept in words, to be told as causes of others: the newest; those of faults that
/// last are few.
const TALES_MAX: usize = 256;

/// Who is told what happens. A copy of a world tells nobody.
struct Sink<'a>(Option<&'a mut dyn FnMut(Record<'_>)>);

impl Sink<'_> {
    fn tell(&mut self, record: Record<'_>) {
        if let Some(told) = &mut self.0 {
            told(record);
        }
    }
}

impl Clone for Sink<'_> {
    fn clone(&self) -> Self {
        Self(None)
    }
}

#[derive(Clone)]
struct World<'a> {
    config: &'a Config,
    load: &'a Workload,
    neighbours: &'a [PowerRecord],
    floor: Floor,
    record: Sink<'a>,
    end: Instant,

    scheduler: SiteScheduler,
    effects: Vec<Effect>,
    devices: Devices,
    guards: Vec<Guard>,
    /// Of each device: whether its guard has seen it hot and not yet cooled; and how
    /// many they are.
    is_hot: Vec<bool>,
    hot: u64,
    work: Work,
    places: Vec<Place>,
    hosts: Vec<Host>,
    changes: Vec<Change>,
    /// Jobs whose rate is to be set again.
    stale: Vec<u64>,
    /// Jobs that wait for their first start.
    unstarted: BTreeSet<u64>,
    /// Thousandths of GPU that run with each habit, and what the file system leaves of
    /// their speed, in thousandths.
    io: Vec<(u64, u32)>,
    /// The share of each loop's capacity that is sound; the share that neighbours take of what they would, and what they
    /// take of all.
    sound: Vec<f64>,
    neighbours_share: f64,
    taken: f64,
    taken_as_told: f64,
    /// Since when each loop is given more than it can carry.
    overloaded_since: Vec<Option<Instant>>,

    next_arrival: usize,
    /// Jobs that come by themselves: those of the lists.
    listed: usize,
    next_change: usize,
    next_heat: Instant,
    next_meter: Instant,
    next_sample: Instant,
    restless_until: Instant,

    /// Thousandths of GPU claimed, and those × thousandths of clock, integrated.
    claimed_milli: u64,
    claimed: u128,
    clocked: u128,
    clocked_rate: u64,
    /// The part of it that came to nothing.
    discarded: u128,
    integrated_until: Instant,
    heat_at_start: f64,
    violations: Violations,
    outcome: Outcome,
    scratch: Vec<f32>,
    witness: Witness,
    /// Records told so far, and what the next decisions are caused by.
    told: u64,
    because: Because,
    troubles: Vec<Trouble>,
    /// The last records that cause others: when, what, and by what they were caused.
    tales: BTreeMap<u64, (Instant, String, Option<u64>)>,
    /// The last decision that something caused, and what.
    caused: Option<(u64, u64)>,
    /// Whether jobs that begin to wait are asked about, for the report.
    explains: bool,
    /// When it is next asked when they start.
    next_look: Instant,
    /// Of each node, the decision that last slowed it down because a device is hot.
    slowed_by: Vec<Option<u64>>,
    /// A latency-sensitive job that was stopped and must start elsewhere at once.
    uprooted: Option<u64>,
}

impl<'a> World<'a> {
    fn new(config: &'a Config, scene: &'a Scene, seed: u64, record: Sink<'a>) -> Self {
        let load = &scene.load;
        assert_eq!(
            scene.neighbours.len(),
            config.neighbours.len(),
            "a record of power for each neighbour"
        );
        let floor = Floor::new(load, &config.building);
        let mut manufacture = Stream::new(seed, Tile(0), Purpose::Manufacture);
        let spread = config.firmware.spread;
        let exponent = config.firmware.clock_exponent;
        let devices = Devices::new(&floor, exponent, || {
            1.0 + spread * (2.0 * manufacture.unit() - 1.0)
        });
        let rules = rules(config, load, &floor);
        let scheduler = SiteScheduler::new(rules, Instant::EPOCH);
        let mut work = Work::default();
        let jobs = &load.jobs.jobs;
        for job in jobs {
            work.add(job.runs);
        }
        let last = jobs
            .iter()
            .map(|job| job.arrives + job.runs.unwrap_or(Nanos::DAY));
        let last = last.max().unwrap_or(Instant::EPOCH);
        let weights: Vec<f64> = tenants(config, load).iter().map(|t| t.weight).collect();
        let series = series(config, load, &floor);
        let series = series.with_cluster(seen::cluster(
            load,
            &floor,
            &weights,
            config.scheduler.placement,
        ));
        let end = config.end.map_or(last, |end| Instant::EPOCH + end);
        Self {
            end,
            guards: guards(config, &floor),
            is_hot: vec![false; floor.devices.len()],
            hot: 0,
            places: vec![Place::default(); jobs.len()],
            hosts: vec![Host::default(); load.nodes.len()],
            changes: changes(config, seed),
            stale: Vec::new(),
            unstarted: BTreeSet::new(),
            io: vec![(0, FULL); load.jobs.habits.len()],
            sound: vec![1.0; floor.loops.len()],
            neighbours_share: 1.0,
            taken: 0.0,
            taken_as_told: 0.0,
            overloaded_since: vec![None; floor.loops.len()],
            heat_at_start: devices.site().heat().0,
            outcome: Outcome {
                series,
                invariants: Vec::new(),
                decisions: Default::default(),
                waiting: Sketch::new(),
                waiting_at_least: Sketch::new(),
                jobs: Jobs::default(),
                gpu_allocated: f64::NAN,
                gpu_utilised: f64::NAN,
                max_kelvin: f64::NAN,
                max_kelvin_over_limit: f64::NEG_INFINITY,
                max_kelvin_over_throttle: f64::NEG_INFINITY,
                window: None,
                tenants: vec![TenantBook::default(); load.jobs.tenants.len()],
                names: load.jobs.tenants.clone(),
                slowdown: Sketch::new(),
                gangs: 0,
                backfilled: 0,
                gpu_seconds: f64::NAN,
                discarded_gpu_seconds: 0.0,
                left_out: load.jobs.left_out,
                before_begin: load.jobs.before_begin,
                after_end: 0,
                gpu_watts: Histogram::new(1.0, 2_000),
                gpu_share: Histogram::new(0.001, 1_200),
                gpu_celsius: Histogram::new(0.25, 600),
                storage_least: 1.0,
                max_load: 0.0,
                throttled_device_seconds: 0.0,
                throttled_hot_device_seconds: 0.0,
                overload_seconds: 0.0,
                nodes_lost: 0,
                discarded_seconds: 0.0,
                flows: Flows::default(),
                energy_error: f64::NAN,
                faults: (config.faults.len() as u64, 0),
                surges: (config.neighbours.len() as u64, 0),
                devices: floor.devices.len() as u64,
                events: 0,
                simulated: Nanos::ZERO,
                complete: false,
                history_hash: 0,
            },
            config,
            load,
            neighbours: &scene.neighbours,
            troubles: vec![Trouble::default(); floor.loops.len()],
            floor,
            record,
            scheduler,
            effects: Vec::new(),
            devices,
            work,
            next_arrival: 0,
            listed: jobs.len(),
            next_change: 0,
            next_heat: Instant::EPOCH + config.pace.step,
            next_meter: Instant::EPOCH + config.pace.step,
            next_sample: Instant::EPOCH,
            restless_until: Instant::EPOCH,
            claimed_milli: 0,
            claimed: 0,
            clocked: 0,
            clocked_rate: 0,
            discarded: 0,
            integrated_until: Instant::EPOCH,
            violations: Violations::default(),
            scratch: Vec::new(),
            witness: Witness::new(load, end),
            told: 0,
            tales: BTreeMap::new(),
            caused: None,
            explains: false,
            next_look: Instant::EPOCH,
            because: Because::Nothing,
            slowed_by: vec![None; load.nodes.len()],
            uprooted: None,
        }
    }

    fn run(&mut self, progress: &mut dyn FnMut(Progress) -> ControlFlow<()>) -> ControlFlow<()> {
        self.until(self.end, progress)?;
        self.heat(self.end);
        ControlFlow::Continue(())
    }

    /// Lets everything happen that happens up to a moment, itself included.
    fn until(
        &mut self,
        moment: Instant,
        progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        loop {
            let (now, next) = self.next();
            if self.explains
                && let Some(at) = self.witness.queued_before(now)
            {
                let cluster = self.outcome.series.cluster_mut().expect("made with one");
                self.witness
                    .explain_queued(cluster, self.load, &self.scheduler, at);
            }
            if now > moment.min(self.end) {
                return ControlFlow::Continue(());
            }
            self.outcome.events += 1;
            match next {
                Next::Heat => {
                    self.heat(now);
                    if now >= self.next_sample {
                        self.sample(now);
                        progress(Progress {
                            now,
                            end: self.end,
                            events: self.outcome.events,
                            running: self.scheduler.running(),
                            waiting: self.scheduler.waiting(),
                            max_kelvin: self.outcome.max_kelvin,
                        })?;
                    }
                    self.next_heat = now + self.step_from(now);
                }
                Next::Departure => self.departure(now),
                Next::Fault => self.change(now),
                Next::Arrival => self.arrival(now),
                Next::Meter => {
                    self.next_meter = now + self.config.pace.step;
                    self.meter(now);
                }
                Next::Patience => {
                    let Self {
                        scheduler, effects, ..
                    } = self;
                    scheduler.wake(now, &mut |e| effects.push(e));
                    self.apply(now);
                }
            }
        }
    }

    fn next(&self) -> (Instant, Next) {
        let departure = self.work.next_due().map(|(at, _)| (at, Next::Departure));
        let fault = self.changes.get(self.next_change);
        let fault = fault.map(|c| (c.at, Next::Fault));
        let arrival = self.load.jobs.jobs[..self.listed].get(self.next_arrival);
        let arrival = arrival.map(|job| (job.arrives, Next::Arrival));
        let patience = self.scheduler.deadline().map(|at| (at, Next::Patience));
        let sure = [(self.next_heat, Next::Heat), (self.next_meter, Next::Meter)];
        let maybe = [departure, fault, arrival, patience];
        sure.into_iter()
            .chain(maybe.into_iter().flatten())
            .min()
            .expect("the next heat step is always due")
    }

    /// How long nothing needs to be looked at.
    fn step_from(&self, now: Instant) -> Nanos {
        let Pace {
            step,
            step_hot,
            step_quiet: long,
            ..
        } = self.config.pace;
        // Steps end on multiples of themselves, whatever cut the last one.
        let to_multiple = |of: Nanos| of - Nanos(now.0 % of.0);
        if !self.everything_holds() {
            return to_multiple(step_hot);
        }
        let is_settled = now >= self.restless_until && now.0.is_multiple_of(step.0);
        let budgets = self.scheduler.cooling().iter();
        if !is_settled || budgets.into_iter().any(|c| c.budget() < 1.0) {
            return to_multiple(step);
        }
        let departure = self.work.next_due().map(|(at, _)| at);
        let fault = self.changes.get(self.next_change).map(|c| c.at);
        let arrival = self.load.jobs.jobs[..self.listed].get(self.next_arrival);
        let arrival = arrival.map(|job| job.arrives);
        let soonest = [departure, fault, arrival].into_iter().flatten().min();
        if soonest.is_some_and(|at| at < now + long) {
            return to_multiple(step);
        }
        long
    }

    /// Whether loops keep up and devices are far from their limits.
    fn everything_holds(&self) -> bool {
        self.devices.extremes().over_throttle < -MARGIN
            && (0..self.floor.loops.len()).all(|l| self.devices.holds(l))
    }

    fn arrival(&mut self, now: Instant) {
        let id = self.next_arrival;
        self.next_arrival += 1;
        self.outcome.jobs.arrived += 1;
        let listed = &self.load.jobs.jobs[id];
        self.outcome.tenants[usize::from(listed.tenant)].arrived += 1;
        self.unstarted.insert(id as u64);
        let job = self.request(id as u64);
        let cluster = self.outcome.series.cluster_mut().expect("made with one");
        self.witness.arrived(cluster, self.load, job.id);
        self.tell(now, Input::Arrived(job));
    }

    /// A job as it is submitted.
    fn request(&self, id: u64) -> Job {
        let listed = &self.load.jobs.jobs[id as usize];
        Job {
            checkpoint: self.load.jobs.habits[usize::from(listed.habit)].checkpoint,
            ..asked(id, listed)
        }
    }

    fn departure(&mut self, now: Instant) {
        let (_, job) = self.work.next_due().expect("a departure is due");
        self.work.finish(now, job);
        let tasks = self.leave(now, job);
        let node = tasks[0].node;
        self.outcome.jobs.finished += 1;
        self.fold(node, now, 1, job);
        let listed = &self.load.jobs.jobs[job as usize];
        let took = now.since(listed.arrives).as_secs_f64();
        let ran = listed.runs.map_or(0.0, |r| r.as_secs_f64());
        let slowdown = (took.max(SHORT) / ran.max(SHORT) * 1_000.0) as u64;
        let book = &mut self.outcome.tenants[usize::from(listed.tenant)];
        book.finished += 1;
        book.slowdown.record(slowdown);
        self.outcome.slowdown.record(slowdown);
        let ended = self.happened(now, "finished", Some(node), None, format!("job {job}"));
        self.became(job, now, &tasks, Fate::Finished);
        self.because = Because::Record(ended);
        self.tell(now, Input::Finished { job });
    }

    fn change(&mut self, now: Instant) {
        // The step so far had the old capacity.
        self.heat(now);
        self.next_heat = now + self.step_from(now);
        let Change { what, .. } = self.changes[self.next_change];
        self.next_change += 1;
        self.restless_until = now + QUIET_AFTER;
        let (kind, text) = match what {
            What::Capacity {
                coolant,
                left,
                told,
            } => {
                self.sound[coolant] = left;
                self.set_capacities();
                match told {
                    None => return,
                    Some(true) => {
                        let cluster = self.outcome.series.cluster_mut().expect("made with one");
                        cluster.loop_changed(coolant, now.as_secs_f64(), left);
                        let met = self.devices.site().load(coolant) > Watts::ZERO;
                        self.outcome.faults.1 += u64::from(met);
                        let left = left * 100.0;
                        let text =
                            format!("loop {coolant} fails: {left:.0} % of its capacity left");
                        ("loop_failed", text)
                    }
                    Some(false) => {
                        let cluster = self.outcome.series.cluster_mut().expect("made with one");
                        cluster.loop_changed(coolant, now.as_secs_f64(), 1.0);
                        ("loop_repaired", format!("loop {coolant} is repaired"))
                    }
                }
            }
            What::Neighbour { begins: true } => {
                self.outcome.surges.1 += 1;
                let text = "a neighbour draws on the plant from now on";
                ("neighbour_begins", text.to_owned())
            }
            What::Neighbour { begins: false } => {
                let text = "the neighbour no longer draws on the plant";
                ("neighbour_ends", text.to_owned())
            }
            What::Shares(share) => {
                self.neighbours_share = share;
                self.taken *= share;
                self.set_capacities();
                let share = share * 100.0;
                let text = format!("the neighbour takes {share:.0} % of what it would");
                ("neighbour_shares", text)
            }
            What::Window => return self.open_or_close_window(now),
        };
        self.outcome.series.note(now.as_secs_f64(), text.clone());
        let id = self.happened(now, kind, None, None, text);
        let changed = Some(id);
        let befallen = match what {
            What::Capacity { coolant, .. } => &mut self.troubles[coolant..=coolant],
            _ => &mut self.troubles[..],
        };
        befallen.fill(Trouble {
            changed,
            read: [None; 2],
        });
        self.next_sample = now;
    }

    /// Work kept, in seconds of a GPU at full clock.
    fn kept(&mut self, now: Instant) -> f64 {
        self.integrate(now);
        // What is lost now may have been done before a window began: it counts against it.
        (self.clocked as f64 - self.discarded as f64) / GPU_SECOND
    }

    fn open_or_close_window(&mut self, now: Instant) {
        let kept = self.kept(now);
        let lost = self.discarded as f64 / GPU_SECOND;
        let throttled = self.outcome.throttled_hot_device_seconds;
        match &mut self.outcome.window {
            None => {
                self.outcome.window = Some(Window {
                    from: now.as_secs_f64(),
                    to: f64::NAN,
                    gpu_seconds_kept: -kept,
                    gpu_seconds_lost: -lost,
                    throttled_hot_device_seconds: -throttled,
                    max_kelvin_over_throttle: f64::NEG_INFINITY,
                });
            }
            Some(window) => {
                window.to = now.as_secs_f64();
                window.gpu_seconds_kept += kept;
                window.gpu_seconds_lost += lost;
                window.throttled_hot_device_seconds += throttled;
            }
        }
    }

    /// Tells what became of a job, and when.
    fn became(&mut self, id: u64, at: Instant, tasks: &[Task], fate: Fate) {
        let place = &mut self.places[id as usize];
        if std::mem::replace(&mut place.is_told, true) {
            return;
        }
        self.unstarted.remove(&id);
        let cluster = self.outcome.series.cluster_mut().expect("made with one");
        self.witness.became(cluster, self.load, id, at, fate);
        let job = &self.load.jobs.jobs[id as usize];
        self.record.tell(Record::Job(JobRecord {
            id,
            job,
            tenant: &self.load.jobs.tenants[usize::from(job.tenant)],
            started: place.started,
            ended: matches!(fate, Fate::Finished | Fate::AtLimit | Fate::Lost).then_some(at),
            tasks,
            fate,
        }));
    }

    /// Lets heat flow up to now, reads every sensor and does what guards ask for.
    fn heat(&mut self, now: Instant) {
        let span = now.since(self.devices.now()).as_secs_f64();
        if span == 0.0 {
            return;
        }
        self.let_neighbours_take(now, span);
        self.devices.advance(now, &self.config.outside);
        let hottest = self.devices.extremes();
        let most = |a: &mut f64, b: f64| {
            if b > *a || a.is_nan() {
                *a = b;
            }
        };
        most(&mut self.outcome.max_kelvin, hottest.kelvin);
        most(
            &mut self.outcome.max_kelvin_over_limit,
            hottest.over_shutdown,
        );
        most(
            &mut self.outcome.max_kelvin_over_throttle,
            hottest.over_throttle,
        );
        if let Some(window) = self.outcome.window.as_mut().filter(|w| w.to.is_nan()) {
            most(&mut window.max_kelvin_over_throttle, hottest.over_throttle);
        }
        self.outcome.throttled_device_seconds += self.devices.slowed() as f64 * span;
        let (mut darkened, mut slowed) = (Vec::new(), Vec::new());
        if hottest.over_throttle >= 0.0 || self.hot > 0 {
            self.read_sensors(now, span, &mut darkened, &mut slowed);
        }
        self.settle(now);
        for node in darkened {
            self.darken(now, node);
        }
        for (node, kelvin, bound) in slowed {
            if !self.hosts[node as usize].is_dark {
                let slowed = self.slowed_by[node as usize];
                self.because = slowed.map_or(Because::Nothing, Because::Record);
                self.tell(
                    now,
                    Input::NearLimit {
                        node,
                        kelvin,
                        bound,
                    },
                );
            }
        }
        for l in 0..self.floor.loops.len() {
            let site = self.devices.site();
            let (given, part) = (site.load(l), &site.loops()[l]);
            if given > part.capacity {
                self.outcome.overload_seconds += span;
                let since = *self.overloaded_since[l].get_or_insert(now);
                let lasts = now.since(since).as_secs_f64();
                if lasts > GRACE {
                    let (subject, at) = (|| format!("loop {l}"), now.as_secs_f64());
                    let broken = Invariant::LoopsWithinCapacity;
                    self.violations.note(broken, at, subject, lasts, GRACE);
                }
            } else {
                self.overloaded_since[l] = None;
            }
            let load = load(given.0, part.capacity.0);
            self.outcome.max_load = self.outcome.max_load.max(load);
            let excess = site.inlet_excess(l);
            if excess.0 > 0.0 {
                let (found, bound) = (site.supply(l).0, part.inlet_max.0);
                let subject = || format!("loop {l}");
                let at = now.as_secs_f64();
                self.violations
                    .note(Invariant::NoInletAboveLimit, at, subject, found, bound);
            }
        }
    }

    /// Hands the devices that are hot, or were, to their guards.
    fn read_sensors(
        &mut self,
        now: Instant,
        span: f64,
        darkened: &mut Vec<u32>,
        slowed: &mut Vec<(u32, f64, f64)>,
    ) {
        let mut throttled_hot = 0_u64;
        for d in 0..self.guards.len() {
            let kelvin = self.devices.site().kelvin()[d];
            let throttle = self.floor.devices[d].throttle.0;
            let was_hot = self.is_hot[d];
            let cooled = match self.config.firmware.protection {
                Protection::Hardware { hysteresis, .. } if was_hot => throttle - hysteresis.0,
                _ => throttle,
            };
            let is_hot = kelvin >= cooled;
            if !is_hot && !was_hot {
                continue;
            }
            throttled_hot += u64::from(was_hot && self.devices.is_slowed(d));
            self.hot = self.hot + u64::from(is_hot) - u64::from(was_hot);
            self.is_hot[d] = is_hot;
            let node = self.floor.node_of[d];
            if self.hosts[node as usize].is_dark {
                continue;
            }
            if is_hot {
                self.judge(now, d, kelvin);
            }
            let was_slowed = self.devices.clock(d) < 1.0;
            if self.sensed(now, d, guard::Input::Sensed(kelvin)) {
                self.hosts[node as usize].is_dark = true;
                darkened.push(node);
            } else if !was_slowed && self.devices.clock(d) < 1.0 {
                slowed.push((node, kelvin, throttle));
            }
        }
        self.outcome.throttled_hot_device_seconds += throttled_hot as f64 * span;
    }

    /// Takes from the loops what their neighbours take from the last step on.
    fn let_neighbours_take(&mut self, now: Instant, span: f64) {
        if self.neighbours.is_empty() {
            return;
        }
        let since = self.devices.now();
        let pairs = self.config.neighbours.iter().zip(self.neighbours);
        let (mut target, mut slowest) = (0.0, 0.0_f64);
        for (neighbour, record) in pairs {
            target += self.neighbours_share * neighbour.takes(record, since).0;
            slowest = slowest.max(neighbour.inertia.as_secs_f64());
        }
        let follows = if slowest > 0.0 {
            -libm::expm1(-span / slowest)
        } else {
            1.0
        };
        let before = self.taken;
        self.taken += (target - before) * follows;
        if self.taken != before {
            self.restless_until = since + QUIET_AFTER;
            self.set_capacities();
        }
        let whole = self.carried();
        if (self.taken - self.taken_as_told).abs() > TAKEN_STEP * whole {
            self.taken_as_told = self.taken;
            let text = format!(
                "the neighbour takes {:.2} MW of the {:.2} MW that the plant carries",
                self.taken / 1e6,
                whole / 1e6
            );
            let changed = Some(self.happened(now, "neighbour_takes", None, None, text));
            self.troubles.fill(Trouble {
                changed,
                read: [None; 2],
            });
        }
    }

    /// What all loops carry when they are sound, in watts.
    fn carried(&self) -> f64 {
        self.floor.loops.iter().map(|l| l.capacity.0).sum()
    }

    /// What neighbours take of what a loop can carry, in watts.
    fn taken_from(&self, l: usize) -> f64 {
        self.floor.loops[l].capacity.0 * self.sound[l] * self.taken / self.carried()
    }

    fn set_capacities(&mut self) {
        let whole = self.carried();
        for (l, part) in self.floor.loops.iter().enumerate() {
            let left = part.capacity.0 * self.sound[l] * (1.0 - self.taken / whole);
            self.devices.site_mut().set_capacity(l, Watts(left));
        }
    }

    /// Holds a hot device against what must not happen.
    fn judge(&mut self, now: Instant, device: usize, kelvin: f64) {
        let limits = &self.floor.devices[device];
        let held = limits.throttle.0 + 0.9 * (limits.shutdown.0 - limits.throttle.0);
        let at = now.as_secs_f64();
        for (broken, bound) in [
            (Invariant::NoTileThrottlesItself, limits.throttle.0),
            (Invariant::NoThermalRunaway, held),
            (Invariant::NoTileAboveLimit, limits.shutdown.0),
        ] {
            if kelvin >= bound {
                let subject = || name(&self.floor, self.load, device);
                self.violations.note(broken, at, subject, kelvin, bound);
            }
        }
    }

    /// Hands a device's guard an input; true if the guard cut the power.
    fn sensed(&mut self, now: Instant, device: usize, input: guard::Input) -> bool {
        let node = self.floor.node_of[device];
        let (mut clock, mut panic) = (None, false);
        let mut decided = None;
        self.guards[device].handle(now, input, &mut |effect| match effect {
            guard::Effect::SetClock(to) => clock = Some(to),
            guard::Effect::Panic => panic = true,
            guard::Effect::Decided(action, reason, found, bound) => {
                decided = Some((action, reason, found, bound));
            }
        });
        if let Some((action, reason, found, bound)) = decided {
            let decision = Decision {
                at: now,
                action,
                reason,
                subject: Tile(node.into()),
                work: Decision::NO_WORK,
                found,
                bound,
            };
            let coolant = usize::from(self.floor.nodes[node as usize].coolant);
            // What it was told to do by budget, the scheduler decided.
            let before = self.because;
            if let guard::Input::Sensed(_) = input {
                let changed = self.troubles[coolant].changed;
                self.because = changed.map_or(Because::Nothing, Because::Record);
            }
            let id = self.decided(&decision, None);
            self.because = before;
            if action == Action::Throttle || action == Action::Darken {
                self.slowed_by[node as usize] = Some(id);
            }
        }
        // The clock that was asked for, or the one its own hardware insists on.
        let asked = clock.unwrap_or_else(|| self.guards[device].clock());
        let clock = match self.config.firmware.protection {
            Protection::Hardware { clock, .. } if self.is_hot[device] => asked.min(clock),
            _ => asked,
        };
        if clock != self.devices.clock(device) {
            self.devices.set_clock(now, device, clock);
            self.restless_until = now + QUIET_AFTER;
            self.fold(node, now, 2, clock.to_bits());
            for &job in &self.hosts[node as usize].jobs {
                let place = &mut self.places[job as usize];
                if !std::mem::replace(&mut place.is_stale, true) {
                    self.stale.push(job);
                }
            }
        }
        panic
    }

    //= requirements K2
    fn darken(&mut self, now: Instant, node: u32) {
        self.outcome.nodes_lost += 1;
        self.restless_until = now + QUIET_AFTER;
        for device in self.floor.nodes[node as usize].devices() {
            self.devices.switch(now, device, false);
        }
        let name = &self.load.nodes[node as usize].name;
        let text = format!("{name} goes dark from heat");
        self.outcome.series.note(now.as_secs_f64(), text.clone());
        let cause = self.slowed_by[node as usize];
        let dark = self.happened(now, "dark", Some(node), cause, text);
        self.because = Because::Record(dark);
        self.tell(now, Input::NodeLost { node });
    }

    fn meter(&mut self, now: Instant) {
        for l in 0..self.floor.loops.len() {
            let metered = Input::Metered {
                coolant: l as u16,
                heat_watts: self.devices.to_reject(l),
                capacity_watts: self.devices.site().loops()[l].capacity.0,
                others_watts: self.taken_from(l),
            };
            self.because = Because::Reading(l);
            self.tell(now, metered);
            if self.scheduler.cooling()[l].budget() >= 1.0 && !self.scheduler.has_parked(l) {
                self.troubles[l].read = [None; 2];
            }
        }
    }

    /// Tells of an event; gives its number.
    fn happened(
        &mut self,
        at: Instant,
        kind: &'static str,
        node: Option<u32>,
        cause: Option<u64>,
        detail: String,
    ) -> u64 {
        self.told += 1;
        let id = self.told;
        if kind != "finished" {
            self.tales.insert(id, (at, detail.clone(), cause));
            if self.tales.len() > TALES_MAX {
                self.tales.pop_first();
            }
        }
        self.record.tell(Record::Event {
            at,
            kind,
            node: node.map(u64::from),
            detail,
            link: Link { id, cause },
        });
        id
    }

    /// What a decision that was just told was caused by, to be put after a sentence; empty if
    /// by nothing that happened to the site.
    fn because_in_words(&self, id: u64) -> String {
        let mut text = String::new();
        let mut next = self
            .caused
            .filter(|(of, _)| *of == id)
            .map(|(_, cause)| cause);
        while let Some(cause) = next
            && let Some((at, what, before)) = self.tales.get(&cause)
        {
            let at = words::moment(*at);
            text.push_str(&format!("; because at {at} {what}"));
            next = *before;
        }
        text
    }

    /// The record that what is decided now is caused by. A reading is told of when it causes something, unless
    /// one that caused the like was told of a moment ago.
    fn cause_of(&mut self, now: Instant, decision: &Decision) -> Option<u64> {
        let by_heat = matches!(
            decision.reason,
            Reason::Backpressure | Reason::PressureEased | Reason::NearLimit
        );
        match self.because {
            Because::Nothing => None,
            Because::Record(id) => Some(id),
            // What starts because a loop opened was not brought about by what closed it.
            Because::Reading(_) if !by_heat => None,
            Because::Reading(l) => {
                let Trouble { changed, read } = self.troubles[l];
                let kind = usize::from(decision.reason == Reason::PressureEased);
                if let Some((id, at)) = read[kind]
                    && now.since(at) <= READING_AGE_MAX
                {
                    return Some(id);
                }
                let (heat, carries) = (
                    self.devices.to_reject(l),
                    self.devices.site().loops()[l].capacity.0,
                );
                let detail = format!(
                    "the meter of loop {l} reads {:.1} kW of heat where {:.1} kW can be carried: {:.0} %, and it is held to {:.0} %",
                    heat / 1_000.0,
                    carries / 1_000.0,
                    load(heat, carries) * 100.0,
                    self.config.scheduler.setpoint * 100.0
                );
                let id = self.happened(now, "loop_read", None, changed, detail);
                self.troubles[l].read[kind] = Some((id, now));
                Some(id)
            }
        }
    }

    fn tell(&mut self, now: Instant, input: Input) {
        let Self {
            scheduler, effects, ..
        } = self;
        scheduler.handle(now, input, &mut |e| effects.push(e));
        if !self.effects.is_empty() {
            self.apply(now);
        }
        self.because = Because::Nothing;
    }

    fn apply(&mut self, now: Instant) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Start { job, tasks } => self.start(now, job, tasks),
                Effect::Stop { job, reason } => self.stop(now, job, reason),
                Effect::Budget { node, share } => {
                    for device in self.floor.nodes[node as usize].devices() {
                        self.sensed(now, device, guard::Input::Budget(share));
                    }
                }
                Effect::Power { node, on } => {
                    self.restless_until = now + QUIET_AFTER;
                    self.fold(node, now, 3, on.into());
                    for device in self.floor.nodes[node as usize].devices() {
                        self.devices.switch(now, device, on);
                    }
                }
                Effect::Decided(decision, evidence) => {
                    let id = self.decided(&decision, evidence.as_deref());
                    let because = self.because_in_words(id);
                    let cluster = self.outcome.series.cluster_mut().expect("made with one");
                    let evidence = evidence.as_deref();
                    self.witness
                        .decided(cluster, self.load, &decision, evidence, &because);
                }
            }
        }
        self.effects = effects;
        self.settle(now);
        if let Some(job) = self.uprooted.take() {
            let subject = || format!("job {job}");
            let broken = Invariant::OnlyBestEffortPreempted;
            self.violations
                .note(broken, now.as_secs_f64(), subject, 1.0, 0.0);
        }
    }

    fn start(&mut self, now: Instant, job: u64, tasks: Vec<Task>) {
        for &Task { node, .. } in &tasks {
            // The node may be dark already: of several that go at one instant the scheduler
            // hears one after the other, and may choose one it has not heard of yet. The
            // job stops there when it does, at the same instant.
            let host = &mut self.hosts[node as usize];
            if host.jobs.last() != Some(&job) {
                host.jobs.push(job);
            }
        }
        if self.uprooted == Some(job) {
            self.uprooted = None;
        }
        let listed = &self.load.jobs.jobs[job as usize];
        if tasks.len() != usize::from(listed.tasks) {
            let (found, bound) = (tasks.len() as f64, f64::from(listed.tasks));
            let (subject, at) = (|| format!("job {job}"), now.as_secs_f64());
            self.violations
                .note(Invariant::GangsWhole, at, subject, found, bound);
        }
        let book = &mut self.outcome.tenants[usize::from(listed.tenant)];
        book.runs(now, listed.gpu_milli() as i64);
        let place = &mut self.places[job as usize];
        if place.started.is_some() {
            self.outcome.jobs.restarted += 1;
        } else {
            place.started = Some(now);
            self.outcome.jobs.placed += 1;
            self.outcome.gangs += u64::from(listed.tasks > 1);
            self.unstarted.remove(&job);
            // Numbers are in the order of arrival.
            let ahead = self.unstarted.first().is_some_and(|&first| first < job);
            self.outcome.backfilled += u64::from(ahead);
            let waited = now.since(listed.arrives).0;
            self.outcome.waiting.record(waited);
            book.waiting.record(waited);
        }
        let cluster = self.outcome.series.cluster_mut().expect("made with one");
        self.witness.started(cluster, self.load, job, now, &tasks);
        self.places[job as usize].network = self.network(job, &tasks);
        self.shares_storage(job, 1);
        let busy = listed.busy;
        for &Task { node, claim } in &tasks {
            self.fold(node, now, 4, job);
            self.take(now, node, claim, 1, busy);
        }
        self.places[job as usize].on = tasks;
        self.set_rate(now, job);
    }

    fn stop(&mut self, now: Instant, job: u64, reason: Reason) {
        let listed = &self.load.jobs.jobs[job as usize];
        let is_preempted = !matches!(reason, Reason::HostLost | Reason::Term);
        if listed.quality == Quality::LatencySensitive && is_preempted {
            self.uprooted = Some(job);
        }
        let checkpoint = self.load.jobs.habits[usize::from(listed.habit)].checkpoint;
        let lost = self.work.stop(now, job, checkpoint);
        self.discarded += lost * u128::from(listed.gpu_milli());
        let tasks = self.leave(now, job);
        for Task { node, .. } in &tasks {
            self.fold(*node, now, 5, job);
        }
        if reason == Reason::Term {
            self.outcome.jobs.at_limit += 1;
            self.became(job, now, &tasks, Fate::AtLimit);
        } else {
            self.outcome.tenants[usize::from(listed.tenant)].stopped += 1;
            let cluster = self.outcome.series.cluster_mut().expect("made with one");
            self.witness.stopped(cluster, self.load, job, now);
        }
    }

    /// What the network leaves of a gang's speed, in thousandths: the part of a step
    /// that communicates takes longer the farther apart its nodes are.
    fn network(&self, job: u64, tasks: &[Task]) -> u32 {
        let racks = || tasks.iter().map(|t| self.floor.nodes[t.node as usize].rack);
        let apart = |of: &dyn Fn(u32) -> u32| {
            let mut all = racks().map(of);
            let first = all.next();
            all.any(|other| Some(other) != first)
        };
        let Network {
            across_racks,
            across_rows,
        } = self.config.network;
        let longer = if apart(&|rack| self.floor.row_of[rack as usize]) {
            across_rows
        } else if apart(&|rack| rack) {
            across_racks
        } else {
            return FULL;
        };
        let habit = self.load.jobs.jobs[job as usize].habit;
        let share = self.load.jobs.habits[usize::from(habit)].communication;
        (f64::from(FULL) / (1.0 + share * (longer - 1.0))) as u32
    }

    /// A job begins or ends to read and write. The file system is shared max-min fairly
    /// between GPUs: when all ask for more than it carries, there is a level above which
    /// nobody gets more, and who asks for less gets what it asks for.
    fn shares_storage(&mut self, job: u64, sign: i64) {
        let listed = &self.load.jobs.jobs[job as usize];
        let here = &mut self.io[usize::from(listed.habit)].0;
        *here = here.saturating_add_signed(sign * listed.gpu_milli() as i64);
        let Some(storage) = self.config.storage else {
            return;
        };
        let habits = &self.load.jobs.habits;
        let asks = self.io.iter().zip(habits);
        let mut asks: Vec<(f64, f64)> = asks
            .map(|((gpus, _), habit)| (habit.storage_rate(), *gpus as f64 / 1_000.0))
            .collect();
        let level = level(storage.bytes_per_second, &mut asks);
        for (h, habit) in habits.iter().enumerate() {
            let share = (level / habit.storage_rate()).min(1.0);
            self.outcome.storage_least = self.outcome.storage_least.min(share);
            let share = (share * f64::from(FULL)) as u32;
            let before = self.io[h].1;
            if share != before && (share.abs_diff(before) >= IO_STEP_MIN || share == FULL) {
                self.io[h].1 = share.max(1);
                self.mark_habit(h);
            }
        }
    }

    fn mark_habit(&mut self, habit: usize) {
        for host in &self.hosts {
            for &job in &host.jobs {
                let place = &mut self.places[job as usize];
                let same = usize::from(self.load.jobs.jobs[job as usize].habit) == habit;
                if same && !std::mem::replace(&mut place.is_stale, true) {
                    self.stale.push(job);
                }
            }
        }
    }

    /// Sets the rates that no longer hold, each once, however often its devices changed
    /// their clocks at this instant.
    fn settle(&mut self, now: Instant) {
        let mut stale = std::mem::take(&mut self.stale);
        for job in stale.drain(..) {
            let place = &mut self.places[job as usize];
            place.is_stale = false;
            if !place.on.is_empty() {
                self.set_rate(now, job);
            }
        }
        self.stale = stale;
    }

    /// Takes a job off its nodes; gives where its tasks were.
    fn leave(&mut self, now: Instant, job: u64) -> Vec<Task> {
        self.integrate(now);
        let place = &mut self.places[job as usize];
        self.clocked_rate -= std::mem::take(&mut place.rate);
        let tasks = std::mem::take(&mut place.on);
        assert!(!tasks.is_empty(), "a job that leaves was somewhere");
        let listed = &self.load.jobs.jobs[job as usize];
        let book = &mut self.outcome.tenants[usize::from(listed.tenant)];
        book.runs(now, -(listed.gpu_milli() as i64));
        let busy = listed.busy;
        self.shares_storage(job, -1);
        for &Task { node, claim } in &tasks {
            self.hosts[node as usize].jobs.retain(|&j| j != job);
            self.take(now, node, claim, -1, busy);
        }
        tasks
    }

    /// Claims devices, or returns them; the GPUs among them are as busy as their job keeps them.
    fn take(&mut self, now: Instant, node: u32, claim: Claim, sign: i64, busy: u16) {
        self.integrate(now);
        self.restless_until = now + QUIET_AFTER;
        let place = self.floor.nodes[node as usize];
        let gpu = sign * i64::from(claim.gpus.count_ones()) * i64::from(claim.share);
        self.claimed_milli = self.claimed_milli.saturating_add_signed(gpu);
        let gpus = (0..GPUS_MAX).filter(|g| claim.gpus >> g & 1 == 1);
        let gpus = gpus.map(|g| (place.first as usize + g, i64::from(claim.share), busy));
        let cpu = (place.processors(), i64::from(claim.cpu_milli), BUSY);
        for (device, amount, busy) in gpus.chain([cpu]) {
            let (claimed, whole) = self.devices.claim(now, device, sign * amount, busy);
            if claimed > whole {
                let name = &self.load.nodes[node as usize].name;
                let (at, found) = (now.as_secs_f64(), claimed.into());
                let broken = Invariant::ClaimsWithinNodes;
                self.violations
                    .note(broken, at, || name.clone(), found, whole.into());
            }
        }
    }

    /// A job is as fast as the slowest device that any of its tasks holds.
    fn set_rate(&mut self, now: Instant, job: u64) {
        let (mut clock, mut gpu) = (1.0, 0);
        for &Task { node, claim } in &self.places[job as usize].on {
            let place = &self.floor.nodes[node as usize];
            let gpus = (0..GPUS_MAX).filter(|g| claim.gpus >> g & 1 == 1);
            let gpus = gpus.map(|g| place.first as usize + g);
            let cpu = (claim.cpu_milli > 0).then_some(place.processors());
            let clocks = gpus.chain(cpu).map(|d| self.devices.clock(d));
            clock = clocks.fold(clock, f64::min);
            gpu += u64::from(claim.gpus.count_ones()) * u64::from(claim.share);
        }
        let habit = usize::from(self.load.jobs.jobs[job as usize].habit);
        let network = f64::from(self.places[job as usize].network);
        // Who computes more slowly also asks for less: the slower of both counts.
        let clock = ((clock * network) as u32).min(self.io[habit].1);
        let clock = clock.clamp(1, FULL);
        self.work.set_clock(now, job, clock);
        self.integrate(now);
        let rate = gpu * u64::from(clock);
        let before = std::mem::replace(&mut self.places[job as usize].rate, rate);
        self.clocked_rate = self.clocked_rate - before + rate;
    }

    fn integrate(&mut self, now: Instant) {
        let span = u128::from(now.since(self.integrated_until).0);
        self.claimed += span * u128::from(self.claimed_milli);
        self.clocked += span * u128::from(self.clocked_rate);
        self.integrated_until = now;
    }

    /// Tells of a decision; gives its number.
    fn decided(&mut self, decision: &Decision, evidence: Option<&Evidence>) -> u64 {
        self.outcome.count(decision);
        let cause = self.cause_of(decision.at, decision);
        self.told += 1;
        let id = self.told;
        let key = (decision.action as u64) << 8 | decision.reason as u64;
        let payload = decision.work ^ decision.found.to_bits().rotate_left(32);
        let node = decision.subject.0 as u32;
        self.fold(node, decision.at, 0x100 | key << 16, payload);
        match decision.action {
            Action::Throttle => self.note_first(decision),
            Action::Refuse => self.became(decision.work, decision.at, &[], Fate::Refused),
            Action::Lose => self.became(decision.work, decision.at, &[], Fate::Lost),
            _ => {}
        }
        if decision.work == Decision::NO_WORK {
            let jobs = &self.hosts[decision.subject.0 as usize].jobs;
            self.witness.decided_of_node(decision, jobs);
        }
        self.caused = cause.map(|cause| (id, cause));
        let link = Link { id, cause };
        self.record.tell(Record::Decision(decision, evidence, link));
        id
    }

    /// Marks the first throttling of each cause.
    fn note_first(&mut self, decision: &Decision) {
        let cause = (decision.action, decision.reason);
        if self.outcome.decisions.get(&cause) == Some(&1) {
            let node = decision.subject.0 as usize;
            let name = &self.load.nodes[node].name;
            let why = match decision.reason {
                Reason::NearLimit => "a device is hot",
                _ => "its cooling loop is overloaded",
            };
            let text = format!("{name} is the first to slow down: {why}");
            self.outcome.series.note(decision.at.as_secs_f64(), text);
        }
    }

    fn fold(&mut self, node: u32, at: Instant, key: u64, payload: u64) {
        let host = &mut self.hosts[node as usize];
        host.history = history::fold(host.history, at, key, payload);
    }

    fn sample(&mut self, now: Instant) {
        let site = self.devices.site();
        let overloaded = (0..self.floor.loops.len())
            .any(|l| site.load(l) > site.loops()[l].capacity || !self.devices.holds(l));
        let pace = &self.config.pace;
        self.next_sample = now
            + if overloaded {
                pace.sample_hot
            } else {
                pace.sample
            };
        let seconds = now.as_secs_f64();
        let mut samples = Vec::with_capacity(self.floor.loops.len() + 1);
        samples.push(self.sample_of(None));
        for l in 0..self.floor.loops.len() {
            let sample = self.sample_of(Some(l));
            samples.push(sample);
        }
        self.outcome.series.push(seconds, &samples);
        self.compare();
        self.show(now, seconds);
    }

    /// Counts what GPUs draw and how hot they are.
    fn compare(&mut self) {
        for (place, host) in self.floor.nodes.iter().zip(&self.hosts) {
            if host.is_dark {
                continue;
            }
            for d in place.devices() {
                if d == place.processors() {
                    continue;
                }
                let watts = self.devices.watts(d);
                self.outcome.gpu_watts.count(watts);
                self.outcome
                    .gpu_share
                    .count(watts / self.floor.devices[d].max.0);
                let kelvin = Kelvin(self.devices.site().kelvin()[d]);
                self.outcome.gpu_celsius.count(kelvin.as_celsius());
            }
        }
    }

    /// For the report: every node, the queue, tenants and loops.
    fn show(&mut self, now: Instant, seconds: f64) {
        let cluster = self.outcome.series.cluster_mut().expect("made with one");
        let tenants = cluster.tenants().iter().zip(0..);
        let shares = tenants.map(|(tenant, t)| (self.scheduler.share(t) * tenant.weight) as f32);
        let shares: Vec<f32> = shares.collect();
        let site = self.devices.site();
        let loops = 0..self.floor.loops.len();
        let [waiting_jobs, waiting_gpus, oldest_seconds] = self.witness.queue(now);
        cluster.push(
            seconds,
            Moment {
                waiting_jobs,
                waiting_gpus,
                oldest_seconds,
                dominant_shares: &shares,
                loop_watts: &loops
                    .clone()
                    .map(|l| site.load(l).0 as f32)
                    .collect::<Vec<_>>(),
                capacity_watts: &loops
                    .map(|l| site.loops()[l].capacity.0 as f32)
                    .collect::<Vec<_>>(),
            },
        );
        if self.explains && now >= self.next_look {
            self.next_look = now + Nanos(self.end.0 / seen::LOOKS_MAX);
            self.witness.look_ahead(cluster, &self.scheduler, now);
        }
        if !cluster.film.wants() {
            cluster.film.skip();
            return;
        }
        let ledger = self.scheduler.ledger();
        let mut nodes = Nodes::default();
        for ((place, host), n) in self.floor.nodes.iter().zip(&self.hosts).zip(0..) {
            let all = &site.kelvin()[place.devices()];
            let hottest = all.iter().copied().fold(f64::NAN, f64::max) as f32;
            let used = match place.gpus {
                0 => self.devices.used(place.processors()),
                gpus => f64::from(ledger.gpu_claimed(n)) / f64::from(gpus) / f64::from(FULL),
            };
            let lit = |value: f32| if host.is_dark { f32::NAN } else { value };
            nodes.utilisation.push(lit(used as f32));
            nodes.kelvin.push(lit(hottest));
        }
        self.witness
            .film(&mut cluster.film, &self.scheduler, seconds, &nodes);
    }

    /// A sample of one loop, or of the whole site.
    fn sample_of(&mut self, of: Option<usize>) -> Sample {
        let mut kelvins = std::mem::take(&mut self.scratch);
        kelvins.clear();
        let (mut sum, mut clock, mut gpus, mut claimed) = (0.0, 0.0, 0_u64, 0_u64);
        let mut dark = 0_u32;
        let here = |coolant: u16| of.is_none_or(|l| l == usize::from(coolant));
        let nodes = self.floor.nodes.iter().zip(&self.hosts);
        for (place, host) in nodes.filter(|(place, _)| here(place.coolant)) {
            gpus += u64::from(place.gpus) * u64::from(FULL);
            if host.is_dark {
                dark += 1;
                continue;
            }
            for d in place.devices() {
                let kelvin = self.devices.site().kelvin()[d];
                sum += kelvin;
                clock += self.devices.clock(d);
                kelvins.push(kelvin as f32);
            }
        }
        let racks = self.scheduler.ledger();
        for (place, node) in self.floor.nodes.iter().zip(0_u32..) {
            if here(place.coolant) {
                claimed += u64::from(racks.gpu_claimed(node));
            }
        }
        let count = kelvins.len();
        let p99 = if count == 0 {
            f32::NAN
        } else {
            let rank = (count * 99 / 100).min(count - 1);
            *kelvins.select_nth_unstable_by(rank, f32::total_cmp).1
        };
        let site = self.devices.site();
        let load = match of {
            Some(l) => load(site.load(l).0, site.loops()[l].capacity.0),
            None => {
                let loops = 0..site.loops().len();
                let given: f64 = loops.clone().map(|l| site.load(l).0).sum();
                load(given, loops.map(|l| site.loops()[l].capacity.0).sum())
            }
        };
        let sample = Sample {
            kelvin_mean: (sum / count as f64) as f32,
            kelvin_max: kelvins.iter().copied().fold(f32::NAN, f32::max),
            kelvin_p99: p99,
            load: load as f32,
            clock: (clock / count as f64) as f32,
            utilisation: (claimed as f64 / gpus as f64) as f32,
            dark: dark as f32,
            // Jobs wait for the site, not for a loop.
            waiting: of.map_or(self.scheduler.waiting() as f32, |_| f32::NAN),
            ..Sample::UNKNOWN
        };
        self.scratch = kelvins;
        sample
    }

    fn finish(mut self, complete: bool) -> Outcome {
        let now = self.devices.now();
        self.integrate(now);
        if self.outcome.window.is_some_and(|w| w.to.is_nan()) {
            self.open_or_close_window(now);
        }
        let gpu_seconds = self.kept(now);
        self.outcome.waiting_at_least = self.outcome.waiting.clone();
        for &id in &self.unstarted {
            let job = &self.load.jobs.jobs[id as usize];
            let waited = now.since(job.arrives).0;
            self.outcome.waiting_at_least.record(waited);
            self.outcome.tenants[usize::from(job.tenant)].unstarted += 1;
        }
        let listed = &self.load.jobs.jobs[..self.listed];
        let too_late = listed.iter().filter(|job| job.arrives > self.end);
        self.outcome.after_end = too_late.count() as u64;
        let submitted = self.listed as u64..self.load.jobs.jobs.len() as u64;
        for id in (0..self.next_arrival as u64).chain(submitted) {
            let tasks = std::mem::take(&mut self.places[id as usize].on);
            let fate = if tasks.is_empty() {
                Fate::Waiting
            } else {
                Fate::Running
            };
            self.became(id, now, &tasks, fate);
        }
        for book in &mut self.outcome.tenants {
            book.runs(now, 0);
        }
        let (site, jobs) = self.work.audit(now);
        let seconds = now.as_secs_f64();
        if site != jobs {
            let unit = f64::from(FULL) * 1e9;
            let (found, bound) = (jobs as f64 / unit, site as f64 / unit);
            let subject = || "all jobs".to_owned();
            self.violations
                .note(Invariant::WorkConserved, seconds, subject, found, bound);
        }
        let flows = self.devices.flows;
        // Two opinions on what is stored: the steps' own, and the temperatures now.
        let stored = self.devices.site().heat().0 - self.heat_at_start;
        let error = (flows.imbalance().0.abs()).max((stored - flows.stored.0).abs());
        let error = if flows.supplied.0 > 0.0 {
            error / flows.supplied.0
        } else {
            0.0
        };
        if error > 1e-6 {
            let subject = || "the whole site".to_owned();
            self.violations
                .note(Invariant::EnergyConserved, seconds, subject, error, 1e-6);
        }
        for d in 0..self.guards.len() {
            let kelvin = self.devices.site().kelvin()[d].to_bits();
            self.fold(self.floor.node_of[d], now, 6, kelvin);
        }
        let hosts = self.hosts.iter().zip(0_u64..);
        let gpus: u64 = self.floor.nodes.iter().map(|n| u64::from(n.gpus)).sum();
        let possible = gpus as f64 * f64::from(FULL) * now.0 as f64;
        Outcome {
            invariants: self.violations.verdict(&self.config.invariants),
            gpu_allocated: self.claimed as f64 / possible,
            gpu_utilised: self.clocked as f64 / (possible * f64::from(FULL)),
            discarded_seconds: self.work.discarded_seconds(),
            gpu_seconds,
            discarded_gpu_seconds: self.discarded as f64 / GPU_SECOND,
            flows,
            energy_error: error,
            simulated: now.since(Instant::EPOCH),
            complete,
            history_hash: history::combine(hosts.map(|(host, node)| (node, host.history))),
            jobs: Jobs {
                running: self.scheduler.running() as u64,
                waiting: self.scheduler.waiting() as u64,
                ..self.outcome.jobs
            },
            ..self.outcome
        }
    }
}

/// One second of one GPU at full clock, in thousandths × thousandths × nanoseconds.
const GPU_SECOND: f64 = 1e15;

/// The rate above which nobody gets more, if all together ask for more than there is:
/// water rises in vessels of height `rate` and width `gpus` until it is used up.
fn level(there_is: f64, asks: &mut [(f64, f64)]) -> f64 {
    asks.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let mut left = there_is;
    let mut wanting: f64 = asks.iter().map(|(_, gpus)| gpus).sum();
    for &(rate, gpus) in &*asks {
        if rate * wanting > left {
            return left / wanting;
        }
        left -= rate * gpus;
        wanting -= gpus;
    }
    f64::INFINITY
}

/// A job as the scheduler knows it.
pub(crate) fn asked(id: u64, listed: &super::jobs::Job) -> Job {
    Job {
        id,
        tenant: listed.tenant,
        priority: listed.priority,
        quality: listed.quality,
        tasks: listed.tasks,
        demand: listed.demand,
        spread: Spread::Site,
        limit: listed.limit,
        // Matters only to who is about to be stopped.
        checkpoint: None,
    }
}

/// What the scheduler is told.
fn rules(config: &Config, load: &Workload, floor: &Floor) -> site::Config {
    let policy = &config.scheduler;
    site::Config {
        nodes: floor.ledger_nodes(load),
        loop_watts: floor.loops.iter().map(|l| l.capacity.0).collect(),
        policy: policy.placement,
        heat_aware: policy.heat_aware,
        heat_weight: policy.heat_weight,
        setpoint: policy.setpoint,
        period: config.pace.step,
        budget_min: libm::pow(config.firmware.clock_min, config.firmware.clock_exponent),
        clock_exponent: config.firmware.clock_exponent,
        queue_max: policy.queue_max,
        overtake_max: policy.overtake_max,
        patience: policy.patience,
        tenants: tenants(config, load),
        limit: None,
        overrun: policy.overrun,
        preempt_max: policy.preempt_max,
    }
}

/// The tenants of the lists, with the rights the universe gives them.
fn tenants(config: &Config, load: &Workload) -> Vec<Tenant> {
    let rights = |name: &String| {
        let named = config.tenants.iter().find(|t| t.name == *name);
        named.map_or_else(Tenant::default, |t| t.rights)
    };
    let tenants: Vec<Tenant> = load.jobs.tenants.iter().map(rights).collect();
    if tenants.is_empty() {
        vec![Tenant::default()]
    } else {
        tenants
    }
}

fn load(watts: f64, capacity: f64) -> f64 {
    if capacity > 0.0 {
        (watts / capacity).min(scheduler::cooling::LOAD_MAX)
    } else {
        scheduler::cooling::LOAD_MAX
    }
}

fn name(floor: &Floor, load: &Workload, device: usize) -> String {
    let node = floor.node_of[device] as usize;
    let (place, name) = (&floor.nodes[node], &load.nodes[node].name);
    if device == place.processors() {
        format!("{name}, processors")
    } else {
        format!("{name}, GPU {}", device - place.first as usize)
    }
}

/// One guard per device; devices of a kind share their limits.
fn guards(config: &Config, floor: &Floor) -> Vec<Guard> {
    let mut kinds: Vec<Arc<guard::Limits>> = Vec::new();
    let of = |device: &physics::devices::Device| {
        let limits = guard::Limits {
            throttle_kelvin: device.throttle.0,
            limit_kelvin: device.shutdown.0,
            clock_min: config.firmware.clock_min,
            clock_exponent: config.firmware.clock_exponent,
            throttles: config.firmware.protection == Protection::Guard,
        };
        let known = kinds.iter().find(|k| ***k == limits).cloned();
        let limits = known.unwrap_or_else(|| {
            kinds.push(Arc::new(limits));
            kinds[kinds.len() - 1].clone()
        });
        Guard::new(limits)
    };
    floor.devices.iter().map(of).collect()
}

/// Steps in which a capacity changes, at most.
const STEPS_MAX: u64 = 600;

/// Every beginning and end of a fault, in order of time.
fn changes(config: &Config, seed: u64) -> Vec<Change> {
    let mut chance = Stream::new(seed, Tile(0), Purpose::Faults);
    let mut changes = Vec::new();
    for fault in &config.faults {
        let drawn = chance.below(config.building.loops.into()) as usize;
        let coolant = fault.coolant.map_or(drawn, usize::from);
        let begins = Instant::EPOCH + fault.at;
        let ends = begins + fault.lasts;
        // What takes a while happens in steps.
        let steps = fault
            .takes
            .0
            .div_ceil(config.pace.step_hot.0)
            .clamp(1, STEPS_MAX);
        for step in 1..=steps {
            let done = step as f64 / steps as f64;
            let later = Nanos(fault.takes.0 * step / steps);
            let down = 1.0 - done * (1.0 - fault.capacity_left);
            let up = fault.capacity_left + done * (1.0 - fault.capacity_left);
            let told = step == steps;
            for (at, left, fails) in [(begins + later, down, true), (ends + later, up, false)] {
                changes.push(Change {
                    at,
                    what: What::Capacity {
                        coolant,
                        left,
                        told: told.then_some(fails),
                    },
                });
            }
        }
    }
    for neighbour in &config.neighbours {
        for (at, begins) in [
            (neighbour.at, true),
            (neighbour.at + neighbour.lasts, false),
        ] {
            changes.push(Change {
                at: Instant::EPOCH + at,
                what: What::Neighbour { begins },
            });
        }
    }
    let loops = config.faults.iter().map(|f| (f.at, f.at + f.lasts));
    let all = loops.chain(config.neighbours.iter().map(|n| (n.at, n.at + n.lasts)));
    let window = all.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
    for at in window.into_iter().flat_map(|(from, to)| [from, to]) {
        changes.push(Change {
            at: Instant::EPOCH + at,
            what: What::Window,
        });
    }
    changes.sort_by_key(|change| change.at);
    changes
}

fn series(config: &Config, load: &Workload, floor: &Floor) -> Series {
    let limits = |here: &dyn Fn(u32) -> bool| {
        // The most cautious device speaks for all.
        let devices = floor.devices.iter().zip(&floor.cooled_by);
        let here = devices.filter(|(_, l)| here(**l));
        here.fold((f32::NAN, f32::NAN), |(shutdown, throttle), (d, _)| {
            (
                shutdown.min(d.shutdown.0 as f32),
                throttle.min(d.throttle.0 as f32),
            )
        })
    };
    let (shutdown, throttle) = limits(&|_| true);
    let mut groups = vec![Group::new(
        "whole site",
        load.nodes.len() as u64,
        shutdown,
        throttle,
    )];
    for l in 0..floor.loops.len() {
        let nodes = floor.nodes.iter().filter(|n| usize::from(n.coolant) == l);
        let (shutdown, throttle) = limits(&|of| of as usize == l);
        let count = nodes.count() as u64;
        let group = Group::new(format!("loop {l}"), count, shutdown, throttle);
        groups.push(if config.scheduler.heat_aware {
            group.below(config.scheduler.setpoint)
        } else {
            group
        });
    }
    // Of the map the report draws every node: see `seen`.
    let mut series = Series::new(groups, None);
    for model in &floor.unknown {
        let stand_in = super::floor::STAND_IN.name;
        series.note(
            0.0,
            format!("GPU model {model} is unknown; {stand_in} stands in"),
        );
    }
    if config.copies.get() > 1 {
        series.note(0.0, format!("each pod comes {} times", config.copies));
    }
    series
}
