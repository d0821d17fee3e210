//! What the scheduler does, read as scripts, and the laws it keeps.

use super::*;
use crate::Demand;
use crate::ledger::Models;
use machine::{Purpose, Stream};

fn node(coolant: u16) -> Node {
    Node {
        cpu_milli: 32_000,
        memory_mib: 131_072,
        gpus: 4,
        model: 0,
        coolant,
        rack: coolant.into(),
        row: 0,
        idle_watts: 200.0,
        gpu_watts: 200.0,
        cpu_watts: 0.0,
    }
}

fn config(nodes: Vec<Node>, loop_watts: Vec<f64>) -> Config {
    Config {
        nodes,
        loop_watts,
        heat_aware: true,
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: 0.001,
        queue_max: 100,
        overtake_max: 2,
        patience: Nanos::HOUR,
        tenants: vec![Tenant::default()],
        limit: None,
        overrun: Overrun::Ended,
        preempt_max: 3,
    }
}

fn job(id: u64, gpus: u8, quality: Quality) -> Job {
    let demand = Demand {
        cpu_milli: 1_000,
        memory_mib: 1_024,
        gpus,
        gpu_milli: 1_000,
        models: Models::ANY,
    };
    Job::single(id, quality, demand)
}

fn at(minutes: u64) -> Instant {
    Instant::EPOCH + Nanos::MINUTE * minutes
}

/// A site, its time, and what it asked for: reads like a script.
struct Site {
    scheduler: SiteScheduler,
    now: Instant,
}

impl Site {
    fn new(config: Config) -> Self {
        Self {
            scheduler: SiteScheduler::new(config, Instant::EPOCH),
            now: Instant::EPOCH,
        }
    }

    fn after(&mut self, input: Input) -> Vec<Effect> {
        let mut effects = vec![];
        self.scheduler
            .handle(self.now, input, &mut |e| effects.push(e));
        effects
    }

    /// What was decided, for which job or none, at which node.
    fn decided(&mut self, input: Input) -> Vec<(Action, Reason, u64, u64)> {
        let effects = self.after(input).into_iter();
        let decisions = effects.filter_map(|e| match e {
            Effect::Decided(d, _) => Some((d.action, d.reason, d.work, d.subject.0)),
            _ => None,
        });
        decisions.collect()
    }

    fn arrive(&mut self, id: u64, gpus: u8, quality: Quality) -> (Action, Reason, u64) {
        let decided = self.decided(Input::Arrived(job(id, gpus, quality)));
        assert_eq!((decided.len(), decided[0].2), (1, id));
        (decided[0].0, decided[0].1, decided[0].3)
    }
}

fn metered(coolant: u16, heat_watts: f64, capacity_watts: f64) -> Input {
    Input::Metered {
        coolant,
        heat_watts,
        capacity_watts,
    }
}

use Action::{Migrate, Park, Place, Queue, Refuse, Release, Throttle, Unpark};
use Quality::{BestEffort, LatencySensitive};
use Reason::{
    Backpressure, BestScore, HostLost, Impossible, NearLimit, NoCapacity, NoHeadroomOutward,
    NotItsTurn, PressureEased,
};

#[test]
fn blind_to_heat_nodes_fill_up_and_aware_of_it_loops_share() {
    let nodes = || vec![node(0), node(0), node(1)];
    let mut blind = Site::new(Config {
        heat_aware: false,
        ..config(nodes(), vec![1_000.0, 1_000.0])
    });
    let placed = (0..4).map(|id| blind.arrive(id, 1, BestEffort));
    assert!(placed.eq([(Place, BestScore, 0); 4]));

    let mut aware = Site::new(Config {
        heat_weight: 1.0,
        ..config(nodes(), vec![1_500.0, 1_500.0])
    });
    let placed: Vec<u64> = (0..4).map(|id| aware.arrive(id, 1, BestEffort).2).collect();
    assert_eq!(placed, [2, 2, 2, 0], "loop 1 idles cooler than loop 0");
}

//= requirements H2
#[test]
fn nothing_is_placed_on_a_loop_that_would_pass_its_setpoint() {
    // Idle 200 W of 500 W; one GPU more is 0.8, two would be 1.2.
    let mut site = Site::new(config(vec![node(0)], vec![500.0]));
    assert_eq!(site.arrive(1, 1, BestEffort), (Place, BestScore, 0));
    assert_eq!(site.arrive(2, 1, BestEffort), (Queue, NoHeadroomOutward, 0));
    // The loop gets stronger: who waited for heat starts with the next reading.
    assert_eq!(
        site.decided(metered(0, 400.0, 1_000.0)),
        [(Place, BestScore, 2, 0)]
    );
}

#[test]
fn what_no_node_could_ever_hold_is_refused_and_a_full_queue_refuses_too() {
    let mut site = Site::new(Config {
        queue_max: 1,
        ..config(vec![node(0)], vec![1e6])
    });
    assert_eq!(site.arrive(1, 5, BestEffort), (Refuse, Impossible, 0));
    assert_eq!(site.arrive(2, 4, BestEffort), (Place, BestScore, 0));
    assert_eq!(site.arrive(3, 1, BestEffort), (Queue, NoCapacity, 0));
    assert_eq!(site.arrive(4, 1, BestEffort), (Refuse, NoCapacity, 0));
    assert_eq!(
        site.decided(Input::Finished { job: 2 }),
        [(Place, BestScore, 3, 0)]
    );
}

#[test]
fn small_jobs_overtake_a_large_one_until_it_has_waited_long_enough() {
    let mut site = Site::new(config(vec![node(0)], vec![1e6]));
    site.arrive(1, 2, BestEffort);
    assert_eq!(site.arrive(2, 4, BestEffort), (Queue, NoCapacity, 0));
    assert_eq!(site.arrive(3, 1, BestEffort), (Place, BestScore, 0));
    site.now = at(61);
    assert_eq!(site.arrive(4, 1, BestEffort), (Queue, NotItsTurn, 0));
    assert_eq!(site.decided(Input::Finished { job: 3 }), []);
    assert_eq!(
        site.decided(Input::Finished { job: 1 }),
        [(Place, BestScore, 2, 0)]
    );
    assert_eq!(
        site.decided(Input::Finished { job: 2 }),
        [(Place, BestScore, 4, 0)]
    );
}

#[test]
fn nobody_overtakes_more_than_the_bound() {
    let mut site = Site::new(config(vec![node(0)], vec![1e6]));
    site.arrive(1, 3, BestEffort);
    for id in 2..5 {
        assert_eq!(site.arrive(id, 4, BestEffort), (Queue, NoCapacity, 0));
    }
    assert_eq!(site.arrive(5, 1, BestEffort), (Queue, NotItsTurn, 0));
}

//= requirements H3
//= requirements S3
#[test]
fn an_overloaded_loop_parks_idle_nodes_moves_best_effort_jobs_and_keeps_the_others() {
    let nodes = vec![node(0), node(0), node(0), node(1)];
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        ..config(nodes, vec![4_000.0, 4_000.0])
    });
    assert_eq!(site.arrive(1, 4, BestEffort).2, 0);
    assert_eq!(site.arrive(2, 4, LatencySensitive).2, 1);
    // 600 W idle and 1,600 W of jobs meet half of what they need.
    let decided = site.decided(metered(0, 2_200.0, 1_100.0));
    assert_eq!(
        decided,
        [
            (Park, Backpressure, Decision::NO_WORK, 2),
            (Migrate, Backpressure, 1, 3),
            (Park, Backpressure, Decision::NO_WORK, 0),
            (Throttle, Backpressure, Decision::NO_WORK, 1),
        ]
    );
    // Some readings later the loop is sound again and everything is on.
    let mut eased = vec![];
    for minute in 1..200 {
        site.now = at(minute);
        eased.extend(site.decided(metered(0, 1_000.0, 4_000.0)));
    }
    assert_eq!(
        eased,
        [
            (Unpark, PressureEased, Decision::NO_WORK, 0),
            (Unpark, PressureEased, Decision::NO_WORK, 2),
            (Release, PressureEased, Decision::NO_WORK, 1),
        ]
    );
    assert_eq!(site.scheduler.running(), 2);
}

//= requirements H3
#[test]
fn the_budget_falls_on_best_effort_nodes_before_the_others() {
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        ..config(vec![node(0), node(0)], vec![2_600.0])
    });
    site.arrive(1, 4, BestEffort);
    site.arrive(2, 4, LatencySensitive);
    let mut budgets = [1.0, 1.0];
    for minute in 1..400 {
        site.now = at(minute);
        let heat = 400.0 + 800.0 * (budgets[0] + budgets[1]);
        for effect in site.after(metered(0, heat, 2_000.0)) {
            if let Effect::Budget { node, share } = effect {
                budgets[node as usize] = share;
            }
        }
    }
    // 1,800 W are left for a load of 0.9: 800 for the sensitive, 600 for the other.
    assert_eq!(budgets[1], 1.0);
    assert!((budgets[0] - 0.75).abs() < 0.01, "{budgets:?}");
}

//= requirements S3
#[test]
fn near_its_limit_on_an_overloaded_loop_a_node_is_left_by_those_who_can_start_elsewhere() {
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        ..config(vec![node(0), node(1)], vec![2_000.0, 1_000.0])
    });
    let near = Input::NearLimit {
        node: 0,
        kelvin: 361.0,
        bound: 356.0,
    };
    assert_eq!(site.arrive(1, 2, LatencySensitive).2, 0);
    assert_eq!(site.arrive(2, 2, LatencySensitive).2, 0);
    assert_eq!(site.after(near), [], "its loop is fine");
    site.after(metered(0, 1_000.0, 500.0));
    // The other loop has room for the heat of one.
    assert_eq!(site.decided(near), [(Migrate, NearLimit, 2, 1)]);
    assert_eq!(
        site.scheduler.running(),
        2,
        "the other stays and does not wait"
    );
    site.decided(Input::Finished { job: 2 });
    assert_eq!(
        site.decided(near),
        [
            (Migrate, NearLimit, 1, 1),
            (Park, Backpressure, Decision::NO_WORK, 0)
        ]
    );
}

#[test]
fn jobs_of_a_lost_node_start_again_elsewhere_wait_or_are_lost() {
    let big = Node { gpus: 8, ..node(0) };
    let mut site = Site::new(config(vec![big, node(0)], vec![1e6]));
    site.arrive(1, 8, LatencySensitive);
    site.arrive(2, 1, BestEffort);
    assert_eq!(site.arrive(3, 8, BestEffort), (Queue, NoCapacity, 1));
    assert_eq!(site.arrive(4, 4, BestEffort), (Queue, NoCapacity, 1));
    let effects = site.after(Input::NodeLost { node: 0 });
    assert!(effects.contains(&Effect::Stop {
        job: 1,
        reason: HostLost
    }));
    let lost = |e: &Effect| matches!(e, Effect::Decided(d, _) if d.action == Action::Lose);
    assert_eq!(
        effects.iter().filter(|e| lost(e)).count(),
        2,
        "jobs 1 and 3"
    );
    assert_eq!(site.after(Input::NodeLost { node: 0 }), []);
    assert_eq!(
        site.decided(Input::Finished { job: 2 }),
        [(Place, BestScore, 4, 1)]
    );
    let mut site = Site::new(config(vec![node(0), node(0)], vec![1e6]));
    let first = site.arrive(1, 4, LatencySensitive).2 as u32;
    assert_eq!(
        site.decided(Input::NodeLost { node: first }),
        [(Migrate, HostLost, 1, u64::from(1 - first))]
    );
}

#[test]
fn meters_mean_nothing_to_a_scheduler_that_is_blind_to_heat() {
    let mut site = Site::new(Config {
        heat_aware: false,
        ..config(vec![node(0)], vec![500.0])
    });
    site.arrive(1, 4, BestEffort);
    assert_eq!(site.after(metered(0, 1_000.0, 10.0)), []);
    assert_eq!(site.scheduler.deadline(), None);
}

/// Every claim is in exactly one place, whatever happens in whatever order.
#[test]
fn a_long_random_life_leaves_the_books_even() {
    let mut stream = Stream::new(1, Tile(0), Purpose::Work);
    let nodes = (0..40).map(|i| node(i % 4)).collect();
    let mut site = Site::new(config(nodes, vec![9_000.0; 4]));
    let mut alive: BTreeSet<u64> = BTreeSet::new();
    for step in 0..20_000 {
        site.now = Instant::EPOCH + Nanos::SECOND * step;
        let quality = [BestEffort, LatencySensitive][stream.below(2) as usize];
        let input = match stream.below(100) {
            0..45 => Input::Arrived(job(step, stream.below(5) as u8, quality)),
            45..89 => {
                let running = site.scheduler.running.keys().copied();
                let pick = stream.below(site.scheduler.running().max(1) as u64);
                let Some(job) = running.into_iter().nth(pick as usize) else {
                    continue;
                };
                alive.remove(&job);
                Input::Finished { job }
            }
            89..99 => {
                let coolant = stream.below(4) as u16;
                metered(coolant, 9_000.0 * stream.unit(), 9_000.0 * stream.unit())
            }
            _ => Input::NodeLost {
                node: stream.below(4_000) as u32,
            },
        };
        if let Input::Arrived(job) = input {
            alive.insert(job.id);
        }
        for effect in site.after(input) {
            if let Effect::Decided(d, _) = effect
                && matches!(d.action, Refuse | Action::Lose)
            {
                alive.remove(&d.work);
            }
        }
        let scheduler = &site.scheduler;
        assert_eq!(
            scheduler.running() + scheduler.waiting(),
            alive.len(),
            "step {step}"
        );
    }
    let scheduler = &mut site.scheduler;
    let running: Vec<u64> = scheduler.running.keys().copied().collect();
    for id in running {
        scheduler.end(id);
    }
    assert!((0..40).all(|n| scheduler.ledger.claims(n) == 0));
    assert!(scheduler.loads.iter().all(|l| l.latency_sensitive == 0));
}
