#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use fuzz::contract::{Pause, Rig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use scheduler::Policy;
use scheduler::ledger::{Claim, Demand, GPUS_MAX, Models, Node, State};
use scheduler::site::{
    Config, Effect, Input, Job, Overrun, Quality, Resources, SiteScheduler, Spread, Task, Tenant,
};
use telemetry::{Action, Decision, Reason};
use wire::{Instant, Nanos};

const NODES: u32 = 8;
const TENANTS: u16 = 3;
const QUEUE_MAX: usize = 5;
const BUDGET_MIN: f64 = 0.05;

#[derive(Debug, Arbitrary)]
enum Act {
    Arrive {
        gpus: u8,
        share: u16,
        cpus: u8,
        models: u8,
        tasks: u8,
        spread: u8,
        tenant: u8,
        priority: u8,
        sensitive: bool,
        limit: Option<u16>,
    },
    Finish(u8),
    Metered {
        coolant: u8,
        watts: f64,
        capacity: f64,
    },
    Warm {
        coolant: u8,
        percent: u8,
        left: u8,
    },
    Near(u8),
    Lost(u8),
    Rules {
        policy: u8,
        heat_aware: bool,
        quota: u8,
    },
    Explain(u8),
}

fn config(policy: Policy, overrun: Overrun) -> Config {
    let node = |i: u32| Node {
        cpu_milli: 32_000,
        memory_mib: 65_536,
        gpus: [8, 4, 2, 0][i as usize % 4],
        model: (i % 2) as u8,
        coolant: (i % 2) as u16,
        rack: i / 2,
        row: i / 4,
        idle_watts: 200.0,
        gpu_watts: 300.0,
        cpu_watts: 100.0,
    };
    Config {
        nodes: (0..NODES).map(node).collect(),
        loop_watts: vec![8_000.0; 2],
        heat_aware: true,
        policy,
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: BUDGET_MIN,
        clock_exponent: 3.0,
        queue_max: QUEUE_MAX,
        overtake_max: 2,
        patience: Nanos::HOUR,
        tenants: vec![Tenant::default(); TENANTS.into()],
        limit: None,
        overrun,
        preempt_max: 2,
    }
}

/// What the effects say, from outside.
#[derive(Default)]
struct Books {
    /// Jobs that came and have not ended.
    jobs: BTreeMap<u64, Job>,
    running: BTreeMap<u64, Vec<Task>>,
    preempted: BTreeMap<u64, u8>,
    parked: BTreeSet<u32>,
}

impl Books {
    fn note(&mut self, site: &SiteScheduler, effect: Effect) {
        match effect {
            Effect::Start { job: id, tasks } => {
                let job = self.jobs[&id];
                assert_eq!(tasks.len(), usize::from(job.tasks));
                self.check(site, &job, &tasks);
                assert!(self.running.insert(id, tasks).is_none(), "{id} ran");
            }
            Effect::Stop { job, reason } => {
                assert!(self.running.remove(&job).is_some(), "{job} did not run");
                if matches!(reason, Reason::Priority | Reason::Lent) {
                    assert_eq!(self.jobs[&job].quality, Quality::BestEffort);
                    let times = self.preempted.entry(job).or_default();
                    *times += 1;
                    assert!(*times <= 2, "{job} was preempted {times} times");
                }
                if reason == Reason::Term {
                    self.jobs.remove(&job);
                }
            }
            Effect::Budget { node, share } => {
                assert!(node < NODES && (0.0..=1.0).contains(&share), "{share}");
            }
            Effect::Power { node, on } => {
                let changed = if on {
                    self.parked.remove(&node)
                } else {
                    self.parked.insert(node)
                };
                assert!(changed, "{node} was so already");
                let mut tasks = self.running.values().flatten();
                assert!(tasks.all(|task| task.node != node), "{node} was in use");
            }
            Effect::Decided(decision, evidence) => {
                if let Some(evidence) = evidence {
                    let scores = evidence.candidates.iter().map(|c| c.score());
                    assert!(scores.is_sorted(), "the best comes first");
                    assert!(evidence.funnel.fell.iter().sum::<u32>() <= NODES);
                }
                let work = decision.work;
                if work != Decision::NO_WORK
                    && matches!(decision.action, Action::Refuse | Action::Lose)
                {
                    assert!(!self.running.contains_key(&work));
                    assert!(self.jobs.remove(&work).is_some());
                }
            }
        }
    }

    fn check(&self, site: &SiteScheduler, job: &Job, tasks: &[Task]) {
        let nodes = site.ledger().nodes();
        let first = &nodes[tasks[0].node as usize];
        for task in tasks {
            let node = &nodes[task.node as usize];
            let together = match job.spread {
                Spread::Node => task.node == tasks[0].node,
                Spread::Rack => node.rack == first.rack,
                Spread::Row => node.row == first.row,
                Spread::Site => true,
            };
            assert!(together, "{:?}", job.spread);
            assert!(!self.parked.contains(&task.node), "it is off");
            let gpus = task.claim.gpus.count_ones();
            // A share of nothing may come from no GPU.
            assert!(gpus == u32::from(job.demand.gpus) || job.demand.share() == 0);
            assert!(job.demand.gpus == 0 || job.demand.models.contains(node.model));
        }
    }

    /// What was started and not ended is what the scheduler's books hold.
    fn balance(&self, site: &SiteScheduler) {
        assert_eq!(self.running.len(), site.running());
        assert_eq!(self.jobs.len(), site.running() + site.waiting());
        let mut free: Vec<(u32, u32, [u32; GPUS_MAX])> = (site.ledger().nodes().iter())
            .map(|n| {
                let whole = |g| if g < usize::from(n.gpus) { 1_000 } else { 0 };
                (n.cpu_milli, n.memory_mib, std::array::from_fn(whole))
            })
            .collect();
        let mut used = [Resources::NONE; TENANTS as usize];
        for (id, tasks) in &self.running {
            let job = &self.jobs[id];
            used[usize::from(job.tenant)] += job.total();
            for Task { node, claim } in tasks {
                take(&mut free[*node as usize], claim);
            }
        }
        for (node, (cpu_milli, memory_mib, gpus)) in (0..).zip(free) {
            let room = site.ledger().room(node);
            assert_eq!((room.cpu_milli, room.memory_mib), (cpu_milli, memory_mib));
            assert_eq!(room.gpu_milli.map(u32::from), gpus);
            let is_parked = site.ledger().state(node) == State::Parked;
            assert!(!is_parked || self.parked.contains(&node));
        }
        for (tenant, used) in (0..).zip(used) {
            assert_eq!(site.used(tenant), used);
        }
    }
}

fn take((cpu_milli, memory_mib, gpus): &mut (u32, u32, [u32; GPUS_MAX]), claim: &Claim) {
    let too_much = "more is given than there is";
    *cpu_milli = cpu_milli.checked_sub(claim.cpu_milli).expect(too_much);
    *memory_mib = memory_mib.checked_sub(claim.memory_mib).expect(too_much);
    for (g, left) in gpus.iter_mut().enumerate() {
        if claim.gpus >> g & 1 == 1 {
            *left = left.checked_sub(claim.share.into()).expect(too_much);
        }
    }
}

// Whoever comes, ends, overheats or is lost, under whatever rules: nothing is given twice, gangs
// start whole, and nobody is forgotten.
libfuzzer_sys::fuzz_target!(|input: (u8, bool, Vec<(Pause, bool, Act)>)| {
    let (first, tolerated, plan) = input;
    let policy = |n: u8| Policy::ALL[usize::from(n) % Policy::ALL.len()];
    let overrun = [Overrun::Ended, Overrun::Tolerated][usize::from(tolerated)];
    let rules = config(policy(first), overrun);
    let mut rig = Rig {
        machine: SiteScheduler::new(rules.clone(), Instant::EPOCH),
        now: Instant::EPOCH,
        effects_max: 4_096,
        wakes_max: 1,
    };
    let mut books = Books::default();
    for ((pause, punctual, act), id) in plan.into_iter().zip(0..) {
        rig.pass(pause, punctual, |site, effect| books.note(site, effect));
        books.balance(&rig.machine);
        let input = match act {
            Act::Arrive {
                gpus,
                share,
                cpus,
                models,
                tasks,
                spread,
                tenant,
                priority,
                sensitive,
                limit,
            } => {
                let demand = Demand {
                    cpu_milli: u32::from(cpus) * 250,
                    memory_mib: u32::from(cpus) * 64,
                    gpus,
                    gpu_milli: share % 1_100,
                    models: [Models::ANY, Models(0b01), Models(0b10)][usize::from(models % 3)],
                };
                let job = Job {
                    id,
                    tenant: u16::from(tenant) % (TENANTS + 1),
                    priority,
                    quality: [Quality::BestEffort, Quality::LatencySensitive]
                        [usize::from(sensitive)],
                    tasks: u16::from(tasks % 16),
                    demand,
                    spread: Spread::ALL[usize::from(spread) % 4],
                    limit: limit.map(|s| Nanos::from_secs(1 + u64::from(s))),
                    checkpoint: sensitive.then_some(Nanos::MINUTE),
                };
                books.jobs.insert(id, job);
                Input::Arrived(job)
            }
            Act::Finish(n) => {
                let count = books.running.len().max(1);
                let Some(&job) = books.running.keys().nth(usize::from(n) % count) else {
                    continue;
                };
                books.running.remove(&job);
                books.jobs.remove(&job);
                Input::Finished { job }
            }
            Act::Metered {
                coolant,
                watts,
                capacity,
            } => Input::Metered {
                coolant: coolant.into(),
                heat_watts: watts,
                capacity_watts: capacity,
                others_watts: watts - capacity,
            },
            Act::Warm {
                coolant,
                percent,
                left,
            } => Input::Metered {
                coolant: u16::from(coolant % 2),
                heat_watts: 80.0 * f64::from(percent),
                capacity_watts: 8_000.0 * f64::from(left) / 255.0,
                others_watts: 8_000.0 * f64::from(255 - left) / 255.0,
            },
            Act::Near(node) => Input::NearLimit {
                node: node.into(),
                kelvin: 361.0,
                bound: 356.0,
            },
            Act::Lost(node) => Input::NodeLost { node: node.into() },
            Act::Rules {
                policy: other,
                heat_aware,
                quota,
            } => {
                let mut rules = rules.clone();
                rules.policy = policy(other);
                rules.heat_aware = heat_aware;
                rules.tenants[0].quota.gpu_milli = u64::from(quota) * 250;
                let mut effects = Vec::new();
                rig.machine
                    .reconfigure(rig.now, rules, &mut |effect| effects.push(effect));
                for effect in effects {
                    books.note(&rig.machine, effect);
                }
                books.balance(&rig.machine);
                continue;
            }
            Act::Explain(n) => {
                let job = books.jobs.keys().nth(usize::from(n)).copied();
                job.map(|job| rig.machine.explain(job, rig.now));
                continue;
            }
        };
        rig.give(input, |site, effect| books.note(site, effect));
        books.balance(&rig.machine);
    }
});
