//! How long does one decision take on a site of 1,523 nodes, two thirds full?
//! `cargo bench -p scheduler`

use divan::Bencher;
use machine::{Machine, Purpose, Stream};
use scheduler::ledger::{Demand, Models, Node};
use scheduler::site::{Config, Effect, Input, Job, Overrun, Quality, SiteScheduler, Tenant};
use wire::{Instant, Nanos, Tile};

fn main() {
    divan::main();
}

fn site(heat_aware: bool) -> SiteScheduler {
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
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: 0.027,
        queue_max: 100_000,
        overtake_max: 32,
        patience: Nanos::HOUR,
        tenants: vec![Tenant::default()],
        limit: None,
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

/// A job arrives and the oldest ends: two decisions.
#[divan::bench(args = [false, true])]
fn arrive_and_finish(bencher: Bencher<'_, '_>, heat_aware: bool) {
    const RUNNING: u64 = 5_000;
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let mut site = site(heat_aware);
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
