//! What holds whatever comes in whatever order.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use machine::{Machine, Purpose, Stream};
use proptest::prelude::*;
use telemetry::{Action, Reason};
use wire::{Instant, Nanos, Tile};

use super::topology::{Shape, Tally};
use super::*;
use crate::Demand;
use crate::ledger::Models;

/// A site whose jobs take the time they take.
#[derive(Clone)]
struct Life {
    scheduler: SiteScheduler,
    now: Instant,
    lasts: BTreeMap<u64, Nanos>,
    due: BTreeMap<u64, Instant>,
    effects: Vec<Effect>,
}

impl Life {
    fn new(config: Config) -> Self {
        Self {
            scheduler: SiteScheduler::new(config, Instant::EPOCH),
            now: Instant::EPOCH,
            lasts: BTreeMap::new(),
            due: BTreeMap::new(),
            effects: vec![],
        }
    }

    fn tell(&mut self, input: Input) {
        let Self {
            scheduler, effects, ..
        } = self;
        effects.clear();
        scheduler.handle(self.now, input, &mut |e| effects.push(e));
        self.apply();
    }

    fn apply(&mut self) {
        for effect in &self.effects {
            match effect {
                Effect::Start { job, .. } => {
                    self.due.insert(*job, self.now + self.lasts[job]);
                }
                Effect::Stop { job, .. } => {
                    self.due.remove(job);
                }
                _ => {}
            }
        }
    }

    fn arrives(&mut self, job: Job, lasts: Nanos) {
        self.lasts.insert(job.id, lasts);
        self.tell(Input::Arrived(job));
    }

    /// The next end or deadline up to some time; false if there is none.
    fn step(&mut self, until: Instant) -> bool {
        let end = self.due.iter().map(|(&job, &at)| (at, job)).min();
        let deadline = self.scheduler.deadline();
        let next = end.map(|(at, _)| at).into_iter().chain(deadline).min();
        let Some(next) = next.filter(|&at| at <= until) else {
            self.now = until;
            self.effects.clear();
            return false;
        };
        self.now = next;
        match end {
            // An end at the limit comes before the limit does.
            Some((at, job)) if at == next => {
                self.due.remove(&job);
                self.tell(Input::Finished { job });
            }
            _ => {
                let Self {
                    scheduler, effects, ..
                } = self;
                effects.clear();
                scheduler.wake(next, &mut |e| effects.push(e));
                self.apply();
            }
        }
        true
    }

    /// Everything up to some time, with a reading of every meter each minute that shows what the
    /// books lead to; gives who started when.
    fn meters(&mut self, until: Instant, capacity: &[f64]) -> Vec<(u64, Instant)> {
        let mut started = vec![];
        while self.now < until {
            let minute = (self.now.0 / Nanos::MINUTE.0 + 1) * Nanos::MINUTE.0;
            let next = Instant(minute).min(until);
            while self.step(next) {
                started.extend(self.started().map(|id| (id, self.now)));
            }
            if next.0 == minute {
                for (coolant, &capacity_watts) in capacity.iter().enumerate() {
                    let heat_watts = self.scheduler.cooling()[coolant].foretold(next);
                    self.tell(Input::Metered {
                        coolant: coolant as u16,
                        heat_watts,
                        capacity_watts,
                        others_watts: 0.0,
                    });
                    started.extend(self.started().map(|id| (id, self.now)));
                }
            }
        }
        started
    }

    fn started(&self) -> impl Iterator<Item = u64> {
        self.effects.iter().filter_map(|e| match e {
            Effect::Start { job, .. } => Some(*job),
            _ => None,
        })
    }

    /// When a job starts if nobody comes any more.
    fn start_of(mut self, id: u64) -> Instant {
        while !self.started().any(|started| started == id) {
            assert!(self.step(Instant(u64::MAX)), "job {id} never starts");
        }
        self.now
    }
}

fn nodes(count: u32) -> Vec<Node> {
    let node = |i: u32| Node {
        cpu_milli: 32_000 + 32_000 * (i % 2),
        memory_mib: 131_072,
        gpus: [8, 4, 8, 2][i as usize % 4],
        model: (i % 3) as u8,
        coolant: (i % 2) as u16,
        rack: i / 3,
        row: i / 6,
        idle_watts: 200.0,
        gpu_watts: 300.0,
        cpu_watts: 200.0,
    };
    (0..count).map(node).collect()
}

fn config(policy: Policy, nodes: Vec<Node>, tenants: Vec<Tenant>) -> Config {
    Config {
        nodes,
        loop_watts: vec![1e6; 2],
        heat_aware: false,
        policy,
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: 0.001,
        clock_exponent: 3.0,
        queue_max: 10_000,
        overtake_max: 8,
        patience: Nanos::HOUR,
        tenants,
        limit: None,
        overrun: Overrun::Ended,
        preempt_max: 2,
    }
}

/// A job, what it lasts, and the pause before it.
fn any_job(tenants: u16, priorities: u8) -> impl Strategy<Value = (Job, u64, u64)> {
    let shares = prop::sample::select(vec![250_u16, 500, 1_000]);
    let shape = (0..9_u8, shares, 1..4_u16, 0..4_usize, 0..5_u32);
    let terms = (0..tenants, 0..priorities, any::<bool>());
    (shape, terms, 1..60_u64, 0..8_u64).prop_map(
        |((gpus, gpu_milli, tasks, spread, models), (tenant, priority, calm), minutes, pause)| {
            let demand = Demand {
                cpu_milli: 1_000 * (1 + u32::from(gpus)),
                memory_mib: 4_096,
                gpus,
                gpu_milli,
                models: if models == 0 {
                    Models(0b011)
                } else {
                    Models::ANY
                },
            };
            let quality = [Quality::LatencySensitive, Quality::BestEffort][usize::from(calm)];
            let job = Job {
                tenant,
                priority,
                tasks,
                spread: Spread::ALL[spread],
                limit: Some(Nanos::MINUTE * minutes),
                ..Job::single(0, quality, demand)
            };
            (job, minutes, pause)
        },
    )
}

fn any_policy() -> impl Strategy<Value = Policy> {
    prop::sample::select(Policy::ALL.to_vec())
}

fn numbered(jobs: Vec<(Job, u64, u64)>) -> impl Iterator<Item = (Job, Nanos, Nanos)> {
    jobs.into_iter()
        .zip(0..)
        .map(|((job, minutes, pause), id)| {
            (
                Job { id, ..job },
                Nanos::MINUTE * minutes,
                Nanos::MINUTE * pause,
            )
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// With promises kept to the minute, whoever stands first starts no later than it
    /// would if nobody went ahead; if jobs end early, no later than was reserved.
    #[test]
    fn who_goes_ahead_never_delays_the_head(
        jobs in prop::collection::vec(any_job(1, 1), 5..60),
        early in any::<bool>(),
        policy in any_policy(),
    ) {
        let mut life = Life::new(config(policy, nodes(6), vec![Tenant::default()]));
        let mut promised: BTreeMap<u64, Instant> = BTreeMap::new();
        let mut arrivals = numbered(jobs).peekable();
        let mut next = Instant::EPOCH;
        loop {
            if let Some((job, lasts, pause)) = arrivals.next_if(|_| next == life.now) {
                let lasts = if early { lasts / (1 + job.id % 3) } else { lasts };
                life.arrives(job, lasts.max(Nanos::SECOND));
                next = life.now + pause;
            } else if arrivals.peek().is_some() {
                life.step(next);
            } else if !life.step(Instant(u64::MAX)) {
                break;
            }
            for id in life.started() {
                if let Some(&bound) = promised.get(&id) {
                    prop_assert!(life.now <= bound, "{id} at {:?}, not {bound:?}", life.now);
                }
            }
            let Some(head) = life.scheduler.head(life.now) else { continue };
            if promised.contains_key(&head) {
                continue;
            }
            let mut alone = life.clone();
            let others: Vec<u64> = alone.scheduler.queue.jobs().map(|w| w.job.id).collect();
            for other in others.into_iter().filter(|&id| id != head) {
                alone.scheduler.queue.remove(other);
            }
            if early {
                // What was promised, whatever comes of it.
                for (id, due) in &mut alone.due {
                    *due = alone.scheduler.running[id].promised.expect("all have limits");
                }
            }
            alone.effects.clear();
            promised.insert(head, alone.start_of(head));
        }
        prop_assert_eq!(life.scheduler.waiting(), 0);
    }

    /// While others wait, nobody is a whole job above its weighted share.
    #[test]
    fn nobody_exceeds_its_share_by_more_than_a_job_while_others_wait(
        weights in prop::collection::vec(1..5_u32, 2..5),
        lasts in prop::collection::vec(1..30_u64, 40..200),
    ) {
        let tenants = weights.iter().map(|&w| Tenant { weight: w.into(), ..Tenant::default() });
        let eight = Node { gpus: 8, ..nodes(1)[0] };
        let mut life = Life::new(config(Policy::BestFit, vec![eight; 4], tenants.collect()));
        let demand = Demand { cpu_milli: 1, memory_mib: 1, gpus: 1, gpu_milli: 1_000, models: Models::ANY };
        // Somebody holds everything until all are there.
        let all = Job { tasks: 4, demand: Demand { gpus: 8, ..demand }, ..Job::single(u64::MAX, Quality::BestEffort, demand) };
        life.arrives(all, Nanos::SECOND);
        let count = weights.len() as u64;
        for (&minutes, id) in lasts.iter().cycle().zip(0..count * 60) {
            let job = Job {
                tenant: (id % count) as u16,
                limit: Some(Nanos::HOUR),
                ..Job::single(id, Quality::BestEffort, demand)
            };
            life.arrives(job, Nanos::MINUTE * minutes);
        }
        let sum: u32 = weights.iter().sum();
        while life.step(Instant(u64::MAX)) {
            let waits = |t: usize| life.scheduler.queue.fronts(t).next().is_some();
            if !(0..weights.len()).all(waits) {
                break;
            }
            for (tenant, &weight) in weights.iter().enumerate() {
                let fair = 32_000.0 * f64::from(weight) / f64::from(sum);
                let used = life.scheduler.used(tenant as u16).gpu_milli as f64;
                prop_assert!(used < fair + 1_000.0, "{tenant} has {used} of {fair}");
            }
        }
    }

    /// What is kept up as nodes change is what counting from scratch would give, and
    /// when an event is over nobody waits who could start without a head in the way.
    #[test]
    fn counts_kept_are_counts_made_anew_and_nobody_waits_for_nothing(
        jobs in prop::collection::vec(any_job(3, 2), 5..80),
        policy in any_policy(),
        looks in any::<bool>(),
    ) {
        let tenants = vec![Tenant::default(); 3];
        let mut life = Life::new(config(policy, nodes(7), tenants));
        for (job, lasts, pause) in numbered(jobs) {
            life.arrives(job, lasts);
            let until = life.now + pause;
            loop {
                // A copy is asked, so that in the original tallies fall behind as they do.
                let mut again = life.scheduler.clone();
                let waiting: Vec<Job> = again.queue.jobs().map(|w| w.job).collect();
                let mut fit = BTreeSet::new();
                for job in &waiting {
                    let anew = Tally::new(&again.topology, &again.ledger, &Shape::of(job));
                    let fits = anew.fits(job.tasks, job.spread);
                    prop_assert_eq!(again.is_possible(job), fits);
                    let kept = again.queue.tally(job, &again.topology, &again.ledger);
                    prop_assert_eq!(kept, &anew);
                    fit.extend(fits.then_some(job.id));
                }
                for tenant in 0..3 {
                    let fronts = again.queue.fronts(tenant).map(|w| w.job.id);
                    let slowly: Vec<u64> = fronts.filter(|id| fit.contains(id)).collect();
                    if looks {
                        again.queue.look_up(&again.ledger);
                    }
                    let mut quickly = vec![];
                    let mut from = None;
                    while let Some(front) =
                        again.queue.possible_after(tenant, from, &again.topology, &again.ledger)
                    {
                        quickly.push(front.1.1);
                        from = Some(front);
                    }
                    prop_assert_eq!(quickly, slowly);
                }
                again.sweep(life.now, &mut |_| panic!("somebody waited for nothing"));
                if !life.step(until) {
                    break;
                }
            }
        }
    }

    /// Every job of a busy site ends, however often others take its place.
    #[test]
    fn preemption_is_bounded_and_everybody_ends(
        jobs in prop::collection::vec(any_job(3, 4), 5..80),
        quota in 0..20_u64,
        policy in any_policy(),
    ) {
        let owner = Tenant {
            quota: Resources { gpu_milli: quota * 1_000, ..Resources::UNBOUNDED },
            ..Tenant::default()
        };
        let mut life = Life::new(config(policy, nodes(6), vec![owner, Tenant::default(), Tenant::default()]));
        let mut stopped: BTreeMap<u64, u8> = BTreeMap::new();
        let mut quality = BTreeMap::new();
        let mut refused = 0;
        let mut count = |life: &Life, quality: &BTreeMap<u64, Quality>| {
            for effect in &life.effects {
                match effect {
                    Effect::Stop { job, reason: Reason::Priority | Reason::Lent } => {
                        let times = stopped.entry(*job).or_default();
                        *times += 1;
                        assert!(*times <= 2, "job {job} was preempted {times} times");
                        assert_eq!(quality[job], Quality::BestEffort);
                    }
                    Effect::Decided(d, _) if d.action == Action::Refuse => refused += 1,
                    _ => {}
                }
            }
        };
        for (job, lasts, pause) in numbered(jobs) {
            quality.insert(job.id, job.quality);
            life.arrives(job, lasts);
            count(&life, &quality);
            let until = life.now + pause;
            while life.step(until) {
                count(&life, &quality);
            }
        }
        let mut steps = 0;
        while life.step(Instant(u64::MAX)) {
            count(&life, &quality);
            steps += 1;
            prop_assert!(steps < 1_000, "it does not come to an end");
        }
        prop_assert_eq!((life.scheduler.waiting(), life.scheduler.running()), (0, 0));
    }

    /// Who was not worth trying again could not have been helped.
    #[test]
    fn what_is_remembered_to_be_in_vain_is_in_vain(
        jobs in prop::collection::vec(any_job(3, 4), 5..80),
        quota in 0..20_u64,
        policy in any_policy(),
    ) {
        let owner = Tenant {
            quota: Resources { gpu_milli: quota * 1_000, ..Resources::NONE },
            ..Tenant::default()
        };
        let tenants = vec![owner, Tenant::default(), Tenant::default()];
        let mut life = Life::new(config(policy, nodes(6), tenants));
        let mut forgetful = life.clone();
        for (job, lasts, pause) in numbered(jobs) {
            forgetful.scheduler.vain.clear();
            forgetful.arrives(job, lasts);
            life.arrives(job, lasts);
            prop_assert_eq!(&life.effects, &forgetful.effects);
            let until = life.now + pause;
            loop {
                forgetful.scheduler.vain.clear();
                let more = forgetful.step(until);
                prop_assert_eq!(life.step(until), more);
                prop_assert_eq!(&life.effects, &forgetful.effects);
                if !more {
                    break;
                }
            }
        }
    }

    /// If promises are kept, nobody else comes and loops carry what they do, a job that waits
    /// for heat starts when it was foretold, to the reading. Work that may be moved is left out:
    /// what slowness costs it is not foretold. So is chance, which draws again with every reading.
    #[test]
    fn what_is_foretold_of_heat_comes_true(
        jobs in prop::collection::vec(any_job(2, 2), 5..40),
        left in prop::collection::vec(0.2..1.2_f64, 2..3),
        policy in any_policy().prop_filter("no chance", |p| *p != Policy::Random),
    ) {
        let config = config(policy, nodes(5), vec![Tenant::default(); 2]);
        let sound = vec![4_000.0; 2];
        let mut life = Life::new(Config { heat_aware: true, loop_watts: sound, ..config });
        let capacity: Vec<f64> = left.iter().map(|left| 4_000.0 * left.min(1.0)).collect();
        for (job, lasts, pause) in numbered(jobs) {
            let job = Job { quality: Quality::LatencySensitive, ..job };
            life.arrives(job, lasts);
            let until = life.now + pause;
            life.meters(until, &capacity);
        }
        let now = life.now;
        let starts = life.scheduler.starts(now);
        let mut real = BTreeMap::new();
        let mut alone = life.clone();
        for _ in 0..3_000 {
            let next = alone.now + Nanos::MINUTE;
            for (id, at) in alone.meters(next, &capacity) {
                real.entry(id).or_insert(at);
            }
        }
        for (id, start) in starts {
            prop_assert_eq!(start.latest, real.get(&id).copied(), "job {}", id);
            if let explain::Explanation::Pending(why) = life.scheduler.explain(id, now) {
                prop_assert_eq!(why.start, start, "all at once and one by one");
            }
        }
    }

    /// If promises are kept and nobody else comes, a job starts when it was foretold.
    #[test]
    fn what_is_foretold_comes_true(
        jobs in prop::collection::vec(any_job(2, 2), 5..50),
        policy in any_policy(),
    ) {
        let mut life = Life::new(config(policy, nodes(5), vec![Tenant::default(); 2]));
        for (job, lasts, pause) in numbered(jobs) {
            life.arrives(job, lasts);
            let until = life.now + pause;
            while life.step(until) {}
        }
        let waiting: Vec<u64> = life.scheduler.queue.jobs().map(|w| w.job.id).collect();
        for id in waiting.into_iter().step_by(3) {
            let explain::Explanation::Pending(why) = life.scheduler.explain(id, life.now) else {
                panic!("it waits");
            };
            prop_assert_eq!(why.start.latest, Some(life.clone().start_of(id)));
            prop_assert!(why.start.likely <= why.start.latest);
        }
    }
}

/// One random life of everything at once; the effects as they came.
fn random_life(policy: Policy, seed: u64, steps: u64) -> (SiteScheduler, Vec<Effect>) {
    let mut stream = Stream::new(seed, Tile(0), Purpose::Work);
    let quota = |gpus: u64| Tenant {
        quota: Resources {
            gpu_milli: gpus * 1_000,
            ..Resources::UNBOUNDED
        },
        ..Tenant::default()
    };
    let capped = Tenant {
        weight: 2.0,
        ceiling: Resources {
            gpu_milli: 60_000,
            ..Resources::UNBOUNDED
        },
        ..Tenant::default()
    };
    let mut life = Life::new(Config {
        heat_aware: true,
        loop_watts: vec![40_000.0; 2],
        queue_max: 300,
        ..config(policy, nodes(40), vec![quota(40), quota(20), capped])
    });
    let mut history = vec![];
    let mut alive: BTreeSet<u64> = BTreeSet::new();
    for id in 0..steps {
        let until = life.now + Nanos::SECOND * stream.below(40);
        loop {
            let more = life.step(until);
            history.append(&mut life.effects);
            if !more {
                break;
            }
        }
        match stream.below(100) {
            0..80 => {
                let demand = Demand {
                    cpu_milli: 500 * (1 + stream.below(16) as u32),
                    memory_mib: 8_192,
                    gpus: [0, 1, 1, 1, 2, 4, 8][stream.below(7) as usize],
                    gpu_milli: [250, 500, 1_000][stream.below(3) as usize],
                    models: [Models::ANY, Models(0b001), Models(0b110)][stream.below(3) as usize],
                };
                let quality = [Quality::BestEffort, Quality::LatencySensitive];
                let limit = Nanos::SECOND * (60 + stream.below(3_000));
                let job = Job {
                    tenant: stream.below(3) as u16,
                    priority: stream.below(3) as u8,
                    tasks: [1, 1, 1, 2, 4, 9][stream.below(6) as usize],
                    spread: Spread::ALL[stream.below(4) as usize],
                    limit: (stream.below(20) > 0).then_some(limit),
                    ..Job::single(id, quality[stream.below(2) as usize], demand)
                };
                alive.insert(id);
                // One in ten takes longer than it promised.
                life.arrives(job, limit * (1 + stream.below(11)) / 10);
            }
            80..98 => life.tell(Input::Metered {
                coolant: stream.below(2) as u16,
                heat_watts: 40_000.0 * stream.unit(),
                capacity_watts: 20_000.0 + 20_000.0 * stream.unit(),
                others_watts: 10_000.0 * stream.unit(),
            }),
            98 => life.tell(Input::NearLimit {
                node: stream.below(40) as u32,
                kelvin: 361.0,
                bound: 356.0,
            }),
            _ => life.tell(Input::NodeLost {
                node: stream.below(400) as u32,
            }),
        }
        history.append(&mut life.effects);
    }
    while life.step(Instant(u64::MAX - Nanos::DAY.0)) && life.scheduler.running() > 0 {
        history.append(&mut life.effects);
    }
    history.append(&mut life.effects);
    (life.scheduler, history)
}

#[test]
fn a_long_random_life_of_everything_leaves_the_books_even_and_can_be_repeated() {
    let policy = Policy::Cosmos;
    let (mut scheduler, history) = random_life(policy, 7, 12_000);
    assert!(
        history == random_life(policy, 7, 12_000).1,
        "two lives, one seed"
    );
    let mut actions: BTreeMap<(Action, Reason), u32> = BTreeMap::new();
    let mut running: BTreeSet<u64> = BTreeSet::new();
    for effect in &history {
        match effect {
            Effect::Start { job, .. } => assert!(running.insert(*job), "{job} started twice"),
            Effect::Stop { job, .. } => assert!(running.remove(job), "{job} stopped twice"),
            Effect::Decided(d, _) => *actions.entry((d.action, d.reason)).or_default() += 1,
            _ => {}
        }
    }
    // Everything that can happen did.
    for happened in [
        (Action::Place, Reason::BestScore),
        (Action::Preempt, Reason::Priority),
        (Action::Preempt, Reason::Lent),
        (Action::Expire, Reason::Term),
        (Action::Migrate, Reason::HostLost),
        (Action::Migrate, Reason::Backpressure),
        (Action::Queue, Reason::Quota),
        (Action::Queue, Reason::Reserved),
        (Action::Queue, Reason::NotItsTurn),
        (Action::Queue, Reason::Fragmented),
        (Action::Queue, Reason::Topology),
        (Action::Queue, Reason::NoHeadroomOutward),
        (Action::Refuse, Reason::Impossible),
        (Action::Park, Reason::Backpressure),
    ] {
        assert!(
            actions.contains_key(&happened),
            "{happened:?} of {actions:?}"
        );
    }
    let left: Vec<u64> = scheduler.running.keys().copied().collect();
    for id in left {
        scheduler.end(id);
    }
    assert!((0..40).all(|n| scheduler.ledger.claims(n) == 0));
    assert!((0..3).all(|t| scheduler.used(t) == Resources::NONE));
    assert!(scheduler.ends.is_empty() && scheduler.youngest.is_empty());
    assert!(scheduler.loads.iter().all(|l| l.latency_sensitive == 0));
}
