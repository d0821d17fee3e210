//! How long does one decision take on a site of 1,523 nodes, two thirds full?
//! `cargo bench -p scheduler`

use divan::Bencher;
use machine::{Machine, Purpose, Stream};
use scheduler::Policy;
use scheduler::ledger::{Demand, Models, Node};
use scheduler::site::{Config, Effect, Input, Job, Overrun, Quality, SiteScheduler, Tenant};
use wire::{Instant, Nanos, Tile};

fn main() {
    tell_percentiles();
    divan::main();
}

fn site(heat_aware: bool, policy: Policy) -> SiteScheduler {
    site_of(heat_aware, policy, 1, None)
}

fn site_of(
    heat_aware: bool,
    policy: Policy,
    tenants: usize,
    limit: Option<Nanos>,
) -> SiteScheduler {
    let node = |i: u16| Node {
        cpu_milli: 96_000,
        memory_mib: 786_432,
        gpus: if i < 310 { 0 } else { 8 },
        model: (i % 5) as u8,
        coolant: i % 10,
        rack: u32::from(i) / 20,
        row: u32::from(i) / 160,
        idle_watts: 300.0,
        gpu_watts: 134.0,
        cpu_watts: 311.0,
    };
    let config = Config {
        nodes: (0..1_523).map(node).collect(),
        loop_watts: vec![200_000.0; 10],
        heat_aware,
        policy,
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: 0.027,
        clock_exponent: 3.0,
        queue_max: 100_000,
        overtake_max: 32,
        patience: Nanos::HOUR,
        tenants: vec![Tenant::default(); tenants],
        limit,
        overrun: Overrun::Ended,
        preempt_max: 3,
    };
    SiteScheduler::new(config, Instant::EPOCH)
}

fn job(stream: &mut Stream, id: u64) -> Job {
    let demand = Demand {
        cpu_milli: 1_000 * (1 + stream.below(12) as u32),
        memory_mib: 16_384,
        gpus: [0, 1, 1, 1, 1, 1, 1, 8][stream.below(8) as usize],
        gpu_milli: 100 * (1 + stream.below(10) as u16),
        models: Models::ANY,
    };
    Job::single(id, Quality::BestEffort, demand)
}

/// A full site of ten tenants with 5,000 jobs waiting, of some tens of shapes or each
/// of its own: a job arrives and one ends, which starts others.
#[divan::bench(args = 0..SITES.len())]
fn arrive_and_finish_with_5000_waiting(bencher: Bencher<'_, '_>, which: usize) {
    let mut busy = Busy::new(&SITES[which]);
    bencher.bench_local(|| busy.turn());
}

/// What is measured: whether heat is looked at, the policy, and whether every job has a
/// demand of its own.
const SITES: [(bool, Policy, bool); 5] = [
    (false, Policy::BestFit, false),
    (true, Policy::BestFit, false),
    (false, Policy::Cosmos, false),
    (true, Policy::Cosmos, false),
    (false, Policy::BestFit, true),
];

/// One in a hundred takes longer than p99, which a mean does not show. A decision takes
/// from the event or the decision before it on; what follows the last one, to find that
/// nobody else starts, counts as one more.
fn tell_percentiles() {
    println!("processor time in µs (p50, p99, most) of an arrival, an end, a decision:");
    for site in &SITES {
        let mut busy = Busy::new(site);
        busy.decisions.clear();
        let took: Vec<(u64, u64)> = (0..20_000).map(|_| busy.timed_turn()).collect();
        let (arrivals, ends) = took.into_iter().unzip();
        let each = [arrivals, ends, core::mem::take(&mut busy.decisions)].map(percentiles);
        let [heat, policy, demands] = [
            ["heat-blind", "heat-aware"][usize::from(site.0)],
            site.1.name(),
            ["alike", "all different"][usize::from(site.2)],
        ];
        let waiting = busy.site.waiting();
        println!("{heat}, {policy}, {waiting} waiting, {demands}: {each:?}");
    }
}

fn percentiles(mut nanos: Vec<u64>) -> (u64, u64, u64) {
    nanos.sort_unstable();
    let at = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] / 1_000;
    (at(0.5), at(0.99), at(1.0))
}

struct Busy {
    site: SiteScheduler,
    stream: Stream,
    differ: bool,
    now: Instant,
    id: u64,
    running: Vec<u64>,
    /// What each took, in nanoseconds.
    decisions: Vec<u64>,
}

impl Busy {
    fn new(&(heat_aware, policy, differ): &(bool, Policy, bool)) -> Self {
        let mut busy = Self {
            site: site_of(heat_aware, policy, 10, Some(Nanos::HOUR * 4)),
            stream: Stream::new(1, Tile(0), Purpose::Work),
            differ,
            now: Instant::EPOCH,
            id: 0,
            running: Vec::new(),
            decisions: Vec::new(),
        };
        while busy.site.waiting() < 5_000 {
            busy.arrive();
        }
        for _ in 0..2_000 {
            busy.turn();
        }
        busy
    }

    fn arrive(&mut self) {
        let stream = &mut self.stream;
        let gpus = [0, 1, 1, 1, 2, 4, 8, 8][stream.below(8) as usize];
        let cpus = 4;
        let odd = stream.below(900) as u32 * u32::from(self.differ);
        let job = Job {
            tenant: stream.below(10) as u16,
            priority: (stream.below(20) == 0).into(),
            tasks: [1, 1, 1, 1, 1, 2, 4, 16][stream.below(8) as usize],
            limit: Some(Nanos::MINUTE * (30 << stream.below(4))),
            demand: Demand {
                cpu_milli: 1_000 * cpus * u32::from(gpus.max(1)) + odd,
                memory_mib: 16_384,
                gpus,
                gpu_milli: [250, 500, 1_000, 1_000]
                    [stream.below(if gpus == 1 { 4 } else { 1 }) as usize],
                models: Models::ANY,
            },
            ..job(stream, self.id)
        };
        self.id += 1;
        self.tell(Input::Arrived(job));
    }

    fn tell(&mut self, input: Input) {
        let (running, decisions) = (&mut self.running, &mut self.decisions);
        let mut since = processor_nanos();
        let mut lap = || {
            let now = processor_nanos();
            decisions.push(now - core::mem::replace(&mut since, now));
        };
        self.site
            .handle(self.now, input, &mut |effect| match effect {
                Effect::Start { job, .. } => running.push(job),
                Effect::Stop { job, .. } => running.retain(|&j| j != job),
                other => {
                    divan::black_box(other);
                    lap();
                }
            });
        lap();
    }

    fn finish(&mut self) {
        let some = self.stream.below(self.running.len() as u64) as usize;
        let job = self.running.swap_remove(some);
        self.tell(Input::Finished { job });
    }

    fn turn(&mut self) {
        self.now += Nanos::SECOND;
        self.arrive();
        // As many leave as come, on average.
        if self.site.waiting() > 4_990 {
            self.finish();
        }
    }

    /// Nanoseconds for the arrival, and for an end.
    fn timed_turn(&mut self) -> (u64, u64) {
        self.now += Nanos::SECOND;
        let start = processor_nanos();
        self.arrive();
        let between = processor_nanos();
        self.finish();
        let end = processor_nanos();
        (between - start, end - between)
    }
}

/// Processor time of this thread: other programs on the machine are not in it.
fn processor_nanos() -> u64 {
    #[repr(C)]
    struct Time {
        seconds: i64,
        nanos: i64,
    }
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut Time) -> i32;
    }
    const THREAD_CPUTIME: i32 = 3;
    let mut time = Time {
        seconds: 0,
        nanos: 0,
    };
    // SAFETY: the layout is that of `timespec` on 64-bit Linux, and the pointer is
    // valid for the call.
    let failed = unsafe { clock_gettime(THREAD_CPUTIME, &raw mut time) };
    assert_eq!(failed, 0, "the thread has a clock");
    time.seconds as u64 * 1_000_000_000 + time.nanos as u64
}

/// A job arrives and the oldest ends: two decisions.
#[divan::bench(args = [(false, Policy::BestFit), (true, Policy::BestFit), (true, Policy::Cosmos)])]
fn arrive_and_finish(bencher: Bencher<'_, '_>, (heat_aware, policy): (bool, Policy)) {
    const RUNNING: u64 = 5_000;
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let mut site = site(heat_aware, policy);
    let out = &mut |effect: Effect| {
        divan::black_box(effect);
    };
    for id in 0..RUNNING {
        let job = job(&mut stream, id);
        site.handle(Instant::EPOCH, Input::Arrived(job), out);
    }
    let mut id = RUNNING;
    bencher.bench_local(|| {
        let job = job(&mut stream, id);
        site.handle(Instant::EPOCH, Input::Arrived(job), out);
        site.handle(Instant::EPOCH, Input::Finished { job: id - RUNNING }, out);
        id += 1;
    });
}
