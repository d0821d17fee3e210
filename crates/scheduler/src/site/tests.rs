//! What the scheduler does, read as scripts, and the laws it keeps.

use super::explain::{Change, Explanation};
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
        policy: Policy::BestFit,
        heat_weight: 0.25,
        setpoint: 0.9,
        period: Nanos::MINUTE,
        budget_min: 0.001,
        clock_exponent: 3.0,
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
        others_watts: 0.0,
    }
}

use Action::{Migrate, Park, Place, Queue, Refuse, Release, Throttle, Unpark};
use Quality::{BestEffort, LatencySensitive};
use Reason::{
    Backpressure, BestScore, HostLost, Idle, Impossible, NearLimit, NoCapacity, NoHeadroomOutward,
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
fn an_overloaded_loop_parks_idle_nodes_slows_down_and_only_then_moves_best_effort_jobs() {
    let nodes = vec![node(0), node(0), node(0), node(1)];
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        ..config(nodes, vec![4_000.0, 4_000.0])
    });
    assert_eq!(site.arrive(1, 4, BestEffort).2, 0);
    assert_eq!(site.arrive(2, 4, LatencySensitive).2, 1);
    // 600 W idle and 1,600 W of jobs meet half of what they need: slower, all can stay.
    assert_eq!(
        site.decided(metered(0, 2_200.0, 1_100.0)),
        [
            (Park, Backpressure, Decision::NO_WORK, 2),
            (Throttle, Backpressure, Decision::NO_WORK, 0),
            (Throttle, Backpressure, Decision::NO_WORK, 1),
        ]
    );
    // Two nodes that do nothing draw 400 W.
    assert_eq!(
        site.decided(metered(0, 2_200.0, 300.0)),
        [
            (Migrate, Backpressure, 1, 3),
            (Park, Backpressure, Decision::NO_WORK, 0),
            (Release, Idle, Decision::NO_WORK, 0),
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
fn a_loop_that_stays_overloaded_throttles_each_node_once_and_lets_it_go_once() {
    // A kilowatt of best effort, and a latency-sensitive job that need not give way.
    let mut nodes = vec![node(0), node(0), node(1)];
    nodes.iter_mut().for_each(|node| node.gpu_watts = 250.1);
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        period: Nanos::SECOND,
        ..config(nodes, vec![4_000.0, 10.0])
    });
    assert_eq!(site.arrive(1, 4, BestEffort).2, 0);
    assert_eq!(site.arrive(2, 1, LatencySensitive).2, 1);
    // An hour at about two thirds of what it needs, never twice the same; devices do as the books say.
    let (mut decided, mut second) = (vec![], 0);
    let mut read = |site: &mut Site, seconds, capacity: &dyn Fn(u64) -> f64| {
        for _ in 0..seconds {
            second += 1;
            site.now = Instant::EPOCH + Nanos::SECOND * second;
            let heat = site.scheduler.cooling()[0].foretold(site.now);
            decided.extend(site.decided(metered(0, heat, capacity(second))));
        }
        core::mem::take(&mut decided)
    };
    let slowed = read(&mut site, 3_600, &|second| 1_200.0 + (second % 97) as f64);
    assert_eq!(slowed, [(Throttle, Backpressure, Decision::NO_WORK, 0)]);
    let eased = read(&mut site, 600, &|_| 4_000.0);
    assert_eq!(eased, [(Release, PressureEased, Decision::NO_WORK, 0)]);
    // Within a fraction of a percent of the setpoint, above it and below.
    let draws = 400.0 + 5.0 * 250.1;
    let at_the_setpoint = |second: u64| draws / 0.9 + [2.0, -2.0][second as usize % 2];
    assert_eq!(read(&mut site, 600, &at_the_setpoint), []);
}

//= requirements S3
#[test]
fn who_was_slow_for_as_long_as_a_restart_costs_moves_to_where_it_is_not() {
    let nodes = vec![node(0), node(0), node(1)];
    let mut site = Site::new(Config {
        heat_weight: 0.0,
        ..config(nodes, vec![2_300.0, 1e6])
    });
    let writes = |id, minutes| Job {
        checkpoint: Some(Nanos::MINUTE * minutes),
        ..job(id, 4, BestEffort)
    };
    site.after(Input::Arrived(writes(1, 1_000)));
    site.now = at(10);
    site.after(Input::Arrived(writes(2, 15)));
    let nowhere_yet = site.decided(Input::Arrived(job(3, 1, LatencySensitive)));
    assert_eq!(nowhere_yet, [(Place, BestScore, 3, 2)]);
    // From the thirtieth minute on there is room for a third of what they draw: a clock of 0.7.
    let mut moved = vec![];
    for minute in 30..120 {
        site.now = at(minute);
        for effect in site.after(metered(0, 1_000.0, 1_000.0)) {
            if let Effect::Decided(
                Decision {
                    action: Migrate,
                    work,
                    ..
                },
                _,
            ) = effect
            {
                moved.push((minute, work));
            }
        }
        if minute == 60 {
            assert_eq!(moved, [], "where 3 runs no 4 GPUs are free");
            site.after(Input::Finished { job: 3 });
        }
    }
    let (minute, job) = moved[0];
    assert_eq!((moved.len(), job), (1, 2), "1 would lose more than it lost");
    assert!((61..=63).contains(&minute), "{minute}");
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

/// Two racks of two nodes in a row, and a third rack in another; four GPUs each.
fn hall() -> Config {
    let place = |rack, row| Node {
        rack,
        row,
        ..node(0)
    };
    let nodes = vec![
        place(0, 0),
        place(0, 0),
        place(1, 0),
        place(1, 0),
        place(2, 1),
        place(2, 1),
    ];
    Config {
        heat_aware: false,
        ..config(nodes, vec![1e6])
    }
}

fn gang(id: u64, tasks: u16, gpus: u8, spread: Spread) -> Job {
    Job {
        tasks,
        spread,
        ..job(id, gpus, BestEffort)
    }
}

fn nodes_of(effects: &[Effect], id: u64) -> Vec<u32> {
    let tasks = effects.iter().find_map(|e| match e {
        Effect::Start { job, tasks } if *job == id => Some(tasks),
        _ => None,
    });
    tasks.map_or(vec![], |tasks| tasks.iter().map(|t| t.node).collect())
}

//= requirements S4
#[test]
fn a_gang_starts_whole_in_the_tightest_domain_that_holds_it() {
    let mut site = Site::new(hall());
    let mut places = |id, tasks, gpus, spread| {
        nodes_of(
            &site.after(Input::Arrived(gang(id, tasks, gpus, spread))),
            id,
        )
    };
    assert_eq!(places(1, 2, 2, Spread::Site), [0, 0], "one node");
    assert_eq!(places(2, 2, 4, Spread::Site), [2, 3], "one rack");
    assert_eq!(places(3, 1, 4, Spread::Site), [1]);
    assert_eq!(places(4, 3, 4, Spread::Site), [0; 0], "two nodes are left");
    assert_eq!(places(5, 2, 3, Spread::Rack), [4, 5]);
}

//= requirements S4
#[test]
fn a_gang_that_fits_only_too_far_apart_waits_and_says_so() {
    let mut site = Site::new(hall());
    for id in [1, 2, 3] {
        site.after(Input::Arrived(job(id, 4, BestEffort)));
    }
    // Left are one node of rack 1 and both of rack 2; three of four do not fit a row.
    let row = gang(4, 3, 4, Spread::Row);
    assert_eq!(
        site.decided(Input::Arrived(row)),
        [(Queue, Reason::Topology, 4, 3)]
    );
    let rack = gang(5, 3, 4, Spread::Rack);
    assert_eq!(site.decided(Input::Arrived(rack))[0].1, Impossible);
    let Explanation::Pending(why) = site.scheduler.explain(4, at(0)) else {
        panic!("it waits");
    };
    assert_eq!((why.reason, why.tasks_that_fit), (Reason::Topology, 3));
    assert_eq!(why.funnel.fell[Test::Topology as usize], 3);
    assert_eq!(why.changes[0].change, Change::Spread(Spread::Site));
    assert_eq!(why.changes[0].start.latest, Some(at(0)));
    // When a node of its row is free again, it starts there.
    let effects = site.after(Input::Finished { job: 2 });
    assert_eq!(
        nodes_of(&effects, 4).len(),
        0,
        "two of the row are not three"
    );
    let effects = site.after(Input::Finished { job: 1 });
    assert_eq!(nodes_of(&effects, 4).len(), 3);
}

#[test]
fn what_can_never_run_is_refused_with_the_reason() {
    let mut site = Site::new(Config {
        tenants: vec![Tenant {
            ceiling: Resources {
                gpu_milli: 8_000,
                ..Resources::UNBOUNDED
            },
            ..Tenant::default()
        }],
        ..hall()
    });
    let mut reason = |job: Job| site.decided(Input::Arrived(job))[0];
    let plain = job(1, 1, BestEffort);
    assert_eq!(reason(Job { tenant: 7, ..plain }).1, Reason::Malformed);
    assert_eq!(reason(Job { tasks: 0, ..plain }).1, Reason::Malformed);
    assert_eq!(reason(gang(1, 3, 3, Spread::Site)).1, Reason::Quota);
    assert_eq!(reason(gang(1, 2, 3, Spread::Node)).1, Impossible);
    assert_eq!(reason(job(1, 5, BestEffort)).0, Refuse);
    assert_eq!(site.scheduler.waiting(), 0);
}

fn sharers(tenants: Vec<Tenant>) -> Site {
    Site::new(Config {
        tenants,
        heat_aware: false,
        limit: Some(Nanos::HOUR),
        ..config(vec![node(0), node(0)], vec![1e6])
    })
}

fn of(tenant: u16, job: Job) -> Input {
    Input::Arrived(Job { tenant, ..job })
}

/// Ghodsi et al., NSDI 2011, § 4.1: 9 CPUs and 18 GB, tasks of ⟨1 CPU, 4 GB⟩ and of
/// ⟨3 CPUs, 1 GB⟩; dominant resource fairness runs three of the one and two of the other.
#[test]
fn the_example_of_the_paper_comes_out_as_in_the_paper() {
    let nine = Node {
        cpu_milli: 9_000,
        memory_mib: 18_432,
        gpus: 0,
        ..node(0)
    };
    let mut site = Site::new(Config {
        tenants: vec![Tenant::default(); 2],
        heat_aware: false,
        limit: Some(Nanos::HOUR),
        overtake_max: 100,
        ..config(vec![nine], vec![1e6])
    });
    let task = |id, cpus: u32, gigabytes: u32| Job {
        demand: Demand {
            cpu_milli: cpus * 1_000,
            memory_mib: gigabytes * 1_024,
            ..job(id, 0, BestEffort).demand
        },
        ..job(id, 0, BestEffort)
    };
    // Something holds everything until all have come.
    site.after(of(0, task(100, 9, 18)));
    for id in 0..5 {
        site.after(of(0, task(id, 1, 4)));
        site.after(of(1, task(10 + id, 3, 1)));
    }
    site.after(Input::Finished { job: 100 });
    assert_eq!(site.scheduler.used(0).cpu_milli, 3_000);
    assert_eq!(site.scheduler.used(1).cpu_milli, 6_000);
}

fn with_quota(gpus: u64) -> Tenant {
    Tenant {
        quota: Resources {
            gpu_milli: gpus * 1_000,
            ..Resources::UNBOUNDED
        },
        ..Tenant::default()
    }
}

//= requirements S3
#[test]
fn what_is_lent_is_taken_back_from_the_youngest_and_no_more_than_is_needed() {
    let mut site = sharers(vec![with_quota(4), with_quota(4)]);
    for id in 0..4 {
        site.now = at(id);
        site.after(of(1, job(id, 2, BestEffort)));
    }
    assert_eq!(site.scheduler.used(1).gpu_milli, 8_000, "lent");
    site.now = at(10);
    let decided = site.decided(of(0, job(10, 1, BestEffort)));
    assert_eq!(decided[0], (Action::Preempt, Reason::Lent, 3, 1));
    assert_eq!(decided[1].0, Place);
    assert_eq!(decided[1].2, 10);
    // One GPU of the two is left to the next of the owner; nobody has to go for it.
    let decided = site.decided(of(0, job(11, 1, LatencySensitive)));
    assert_eq!(decided, [(Place, BestScore, 11, 1)]);
    let decided = site.decided(of(0, job(12, 2, BestEffort)));
    assert_eq!(decided[0], (Action::Preempt, Reason::Lent, 2, 1));
    // Beyond its quota it waits like everybody.
    let decided = site.decided(of(0, job(13, 1, BestEffort)));
    assert_eq!(decided, [(Queue, NoCapacity, 13, 0)]);
    assert_eq!(site.scheduler.used(1).gpu_milli, 4_000);
    // The two that made room wait at their old places.
    assert_eq!(site.scheduler.waiting(), 3);
    let Explanation::Pending(why) = site.scheduler.explain(3, at(10)) else {
        panic!("it waits");
    };
    assert_eq!((why.preempted, why.since), (1, at(3)));
}

//= requirements S7
#[test]
fn a_quota_and_a_higher_ceiling_are_offered_where_they_would_help_and_do() {
    let pending = |site: &Site, id| match site.scheduler.explain(id, site.now) {
        Explanation::Pending(why) => why,
        other => panic!("it waits: {other:?}"),
    };
    let change = |why: &explain::Pending| {
        let mut all = why.changes.iter().map(|a| (a.change, a.start.latest));
        all.find(|(change, _)| matches!(change, Change::Quota(_) | Change::Ceiling(_)))
    };
    // All is lent to the third; the first two are guaranteed what is said.
    let lent = |first, second| {
        let mut site = sharers(vec![first, second, Tenant::default()]);
        for id in 0..4 {
            site.after(of(2, job(id, 2, BestEffort)));
        }
        site.now = at(10);
        let decided = site.decided(of(1, job(10, 2, BestEffort)));
        (site, decided[0].0)
    };
    let (site, waits) = lent(with_quota(4), Tenant::default());
    assert_eq!(waits, Queue);
    let offered = change(&pending(&site, 10));
    assert_eq!(offered, Some((Change::Quota(2_000), Some(at(10)))));
    let (site, takes_back) = lent(with_quota(4), with_quota(2));
    assert_eq!(takes_back, Action::Preempt);
    let runs = site.scheduler.explain(10, at(10));
    assert!(matches!(runs, Explanation::Running(_)), "{runs:?}");
    // Of eight GPUs seven are promised already.
    let (site, _) = lent(with_quota(7), Tenant::default());
    assert_eq!(change(&pending(&site, 10)), None);

    // Half of the site is free, and the tenant may not have it.
    let most = Resources {
        gpu_milli: 3_000,
        ..Resources::UNBOUNDED
    };
    let bounded = Tenant {
        ceiling: most,
        ..Tenant::default()
    };
    let mut site = sharers(vec![bounded]);
    site.after(of(0, job(1, 2, BestEffort)));
    assert_eq!(
        site.decided(of(0, job(2, 2, BestEffort)))[0].1,
        Reason::Quota
    );
    let why = pending(&site, 2);
    assert_eq!(change(&why), Some((Change::Ceiling(1_000), Some(at(0)))));
}

//= requirements S3
#[test]
fn who_is_due_behind_a_head_that_cannot_be_helped_takes_back_too() {
    let mut site = sharers(vec![with_quota(4), with_quota(3), Tenant::default()]);
    // On each node one GPU of the second for good, the rest lent to the third.
    for (minute, id) in [(0, 1), (1, 3)] {
        site.now = at(minute);
        site.after(of(1, job(id, 1, LatencySensitive)));
        site.after(of(2, job(id + 1, 3, BestEffort)));
    }
    site.now = at(10);
    // Nobody's going leaves the first a whole node, so it waits for the node that is
    // empty first; the second takes its own back on the other.
    let head = site.decided(of(0, job(10, 4, BestEffort)));
    assert_eq!(head.len(), 1, "{head:?}");
    let decided = site.decided(of(1, job(11, 1, BestEffort)));
    assert_eq!(decided[0], (Action::Preempt, Reason::Lent, 4, 1));
    assert_eq!(decided[1], (Place, BestScore, 11, 1));
    // Once its node is without the second's work the first takes back the rest of it.
    let effects = site.after(Input::Finished { job: 1 });
    assert_eq!(nodes_of(&effects, 10), [0]);
}

//= requirements S3
#[test]
fn nothing_is_taken_back_where_it_would_delay_the_head() {
    let mut site = sharers(vec![with_quota(4), with_quota(6), Tenant::default()]);
    let with_limit = |hours: u64, job: Job| Job {
        limit: Some(Nanos::HOUR * hours / 2),
        ..job
    };
    site.after(of(1, job(1, 1, LatencySensitive)));
    site.after(of(1, with_limit(6, job(2, 4, LatencySensitive))));
    site.after(of(2, job(3, 3, BestEffort)));
    site.now = at(10);
    // The first node is the head's in 50 minutes.
    site.after(of(0, job(10, 4, BestEffort)));
    let long = site.decided(of(1, job(11, 1, BestEffort)));
    assert_eq!(long.len(), 1, "{long:?}");
    assert_eq!((long[0].0, long[0].2), (Queue, 11));
    site.scheduler.queue.remove(11);
    let short = site.decided(of(1, with_limit(1, job(12, 1, BestEffort))));
    assert_eq!(short[0], (Action::Preempt, Reason::Lent, 3, 0));
    assert_eq!(short[1], (Place, BestScore, 12, 0));
}

#[test]
fn what_cannot_be_taken_back_is_not_lent() {
    let mut site = sharers(vec![with_quota(4), with_quota(2)]);
    let sensitive = |id, gpus| of(1, job(id, gpus, LatencySensitive));
    assert_eq!(site.decided(sensitive(1, 2))[0].0, Place, "its own");
    assert_eq!(site.decided(sensitive(2, 2))[0].0, Place, "nobody's");
    let decided = site.decided(sensitive(3, 1));
    assert_eq!(decided, [(Queue, Reason::Quota, 3, 0)]);
    let borrowed = of(1, job(4, 4, BestEffort));
    assert_eq!(site.decided(borrowed)[0].0, Place, "can be taken back");
    let owner = of(0, job(5, 4, LatencySensitive));
    let decided = site.decided(owner);
    assert_eq!(decided[0].2, 4);
    assert_eq!(decided[1].0, Place);
}

//= requirements S3
#[test]
fn priority_preempts_best_effort_work_of_the_lower_ones_and_never_the_sensitive() {
    let mut site = sharers(vec![Tenant::default()]);
    let ranked = |priority, job| Input::Arrived(Job { priority, ..job });
    site.after(ranked(0, job(1, 4, LatencySensitive)));
    site.after(ranked(1, job(2, 4, BestEffort)));
    let decided = site.decided(ranked(1, job(3, 4, BestEffort)));
    assert_eq!(decided[0].0, Queue, "equals do not preempt");
    let effects = site.after(ranked(2, job(4, 4, BestEffort)));
    let stops: Vec<&Effect> = effects
        .iter()
        .filter(|e| matches!(e, Effect::Stop { .. }))
        .collect();
    let stop = Effect::Stop {
        job: 2,
        reason: Reason::Priority,
    };
    assert_eq!(stops, [&stop]);
    let because = effects.iter().find_map(|e| match e {
        Effect::Decided(d, Some(evidence)) if d.action == Action::Preempt => {
            Some(evidence.because_of.clone())
        }
        _ => None,
    });
    assert_eq!(
        because,
        Some(vec![4]),
        "the victim's record names its cause"
    );
    let decided = site.decided(ranked(9, gang(5, 2, 4, Spread::Site)));
    assert_eq!(decided, [(Queue, NoCapacity, 5, 0)], "node 0 is sacred");
}

//= requirements S2
#[test]
fn at_its_limit_a_job_ends_or_is_believed_to_need_as_long_again() {
    let hour = Some(Nanos::HOUR);
    let promises = |overrun| {
        Site::new(Config {
            overrun,
            heat_aware: false,
            ..config(vec![node(0)], vec![1e6])
        })
    };
    let limited = |id, limit| {
        Input::Arrived(Job {
            limit,
            ..job(id, 4, BestEffort)
        })
    };
    let mut site = promises(Overrun::Ended);
    site.after(limited(1, hour));
    site.after(limited(2, hour));
    assert_eq!(site.scheduler.deadline(), Some(at(60)));
    let mut effects = vec![];
    site.scheduler.wake(at(60), &mut |e| effects.push(e));
    let stop = Effect::Stop {
        job: 1,
        reason: Reason::Term,
    };
    assert_eq!(effects[1], stop);
    assert_eq!(nodes_of(&effects, 2), [0]);

    let mut site = promises(Overrun::Tolerated);
    site.after(limited(1, hour));
    site.after(limited(2, hour));
    assert_eq!(site.scheduler.deadline(), None);
    let Explanation::Pending(why) = site.scheduler.explain(2, at(90)) else {
        panic!("it waits");
    };
    assert_eq!(why.start.latest, Some(at(180)));
}

#[test]
fn short_work_goes_ahead_of_the_head_and_long_work_only_beside_it() {
    let limited = |id, gpus, minutes| {
        Input::Arrived(Job {
            limit: Some(Nanos::MINUTE * minutes),
            ..job(id, gpus, BestEffort)
        })
    };
    let mut site = Site::new(Config {
        heat_aware: false,
        overtake_max: 0,
        ..config(vec![node(0), node(0)], vec![1e6])
    });
    site.after(limited(1, 4, 60));
    site.after(limited(2, 2, 30));
    site.after(limited(3, 4, 60));
    // It is to start at minute 30 on node 1.
    let decided = site.decided(limited(4, 2, 31));
    assert_eq!(decided, [(Queue, Reason::Reserved, 4, 1)]);
    let Explanation::Pending(why) = site.scheduler.explain(4, at(0)) else {
        panic!("it waits");
    };
    assert_eq!((why.reason, why.ahead.first), (Reason::Reserved, vec![3]));
    assert_eq!(why.changes[0].change, Change::Limit(Nanos::MINUTE * 30));
    assert_eq!(why.changes[0].start.latest, Some(at(0)));
    assert_eq!(site.decided(limited(5, 2, 30)), [(Place, BestScore, 5, 1)]);
    site.now = at(30);
    site.after(Input::Finished { job: 2 });
    let effects = site.after(Input::Finished { job: 5 });
    assert_eq!(nodes_of(&effects, 3), [1]);
}

//= requirements S7
#[test]
fn why_names_the_reason_the_funnel_and_what_would_help() {
    let mut other = node(0);
    other.model = 1;
    let mut site = Site::new(Config {
        heat_aware: false,
        limit: Some(Nanos::HOUR),
        ..config(vec![node(0), node(0), other], vec![1e6])
    });
    let gpus = |id, gpus, models| {
        let plain = job(id, gpus, BestEffort);
        let demand = Demand {
            models,
            ..plain.demand
        };
        Input::Arrived(Job { demand, ..plain })
    };
    let (first, any) = (Models(1), Models::ANY);
    site.after(gpus(1, 2, first));
    site.now = at(1);
    site.after(gpus(2, 3, first));
    // Three GPUs of the model are free, on two nodes.
    assert_eq!(site.decided(gpus(3, 3, first))[0].1, Reason::Fragmented);
    let Explanation::Pending(why) = site.scheduler.explain(3, at(1)) else {
        panic!("it waits");
    };
    assert_eq!(why.reason, Reason::Fragmented);
    assert_eq!(why.gpu_milli_free, 3_000);
    assert_eq!(why.funnel.left_after(Test::Model), 2);
    assert_eq!(why.funnel.fell[Test::Gpu as usize], 2);
    assert_eq!(why.start.latest, Some(at(60)));
    let changes: Vec<(Change, Option<Instant>)> = (why.changes.iter())
        .map(|a| (a.change, a.start.latest))
        .collect();
    let now = Some(at(1));
    assert_eq!(changes, [(Change::AnyModel, now), (Change::Gpus(2), now)]);

    site.after(gpus(4, 1, any));
    let Explanation::Running(why) = site.scheduler.explain(4, at(2)) else {
        panic!("it runs");
    };
    assert_eq!(why.evidence.funnel.left(), 3);
    let nodes: Vec<u32> = why.evidence.candidates.iter().map(|c| c.node).collect();
    assert_eq!(nodes, [1, 0, 2], "the tightest first");
    assert_eq!(site.scheduler.explain(99, at(2)), Explanation::Unknown);
}

fn lasting(id: u64, gpus: u8, minutes: u64) -> Input {
    Input::Arrived(Job {
        limit: Some(Nanos::MINUTE * minutes),
        ..job(id, gpus, LatencySensitive)
    })
}

/// A node of 200 W idle and 200 W a GPU, two of which are busy for an hour, on a loop of 2 kW of
/// which this much is left from the first minute on, and a job of two GPUs that waits for it.
fn waits_for_heat(capacity_watts: f64) -> (Site, explain::Pending) {
    let mut site = Site::new(config(vec![node(0)], vec![2_000.0]));
    site.after(lasting(1, 2, 60));
    site.now = at(1);
    // Once devices are warm.
    let heat = site.scheduler.cooling()[0].foretold(at(1));
    site.after(metered(0, heat, capacity_watts));
    site.after(lasting(2, 2, 10));
    let Explanation::Pending(why) = site.scheduler.explain(2, at(1)) else {
        panic!("it waits");
    };
    (site, *why)
}

//= requirements S7
#[test]
fn who_waits_for_heat_is_told_when_its_loop_eases_and_what_a_repair_is_worth() {
    let (mut site, why) = waits_for_heat(700.0);
    assert_eq!(why.reason, NoHeadroomOutward);
    assert_eq!(
        why.start.latest,
        Some(at(60)),
        "600 of 700 W when 1 has ended"
    );
    assert_eq!(why.start.eased, Some(at(1)), "sound, the loop takes both");
    // One GPU less is 800 of 700 W still; what helps is not its owner's to give.
    let changes = why.changes.iter().map(|a| (a.change, a.start.latest));
    let now = Some(at(1));
    assert!(
        changes.eq([(Change::Sound(0), now), (Change::Blind, now)]),
        "{:?}",
        why.changes
    );
    site.now = at(60);
    assert_eq!(
        site.decided(Input::Finished { job: 1 }),
        [(Place, BestScore, 2, 0)]
    );
}

/// What ends in a look ahead was only believed: it moves no end that is due.
//= requirements S7
#[test]
fn who_ends_in_a_look_ahead_changes_nobodys_habits() {
    let mut site = Site::new(config(vec![node(0)], vec![1e6]));
    // Half of what was promised, and nine tenths of it.
    for (id, minutes) in [(1, 30), (2, 54)] {
        let begun = site.now;
        site.after(lasting(id, 1, 60));
        site.now = begun + Nanos::MINUTE * minutes;
        site.after(Input::Finished { job: id });
    }
    let begun = site.now;
    site.after(lasting(3, 2, 60));
    site.after(lasting(4, 2, 120));
    site.after(lasting(5, 4, 10));
    let Explanation::Pending(why) = site.scheduler.explain(5, begun) else {
        panic!("it waits");
    };
    // The median of both is told by the upper end of its step: 55 %.
    assert_eq!(why.start.likely, Some(begun + Nanos::MINUTE * 66));
    assert_eq!(why.start.latest, Some(begun + Nanos::MINUTE * 120));
}

//= requirements S7
#[test]
fn who_waits_at_a_ceiling_stands_behind_those_who_do_and_is_told_what_would_let_all_in() {
    let mut rules = config(vec![node(0), node(0), node(0)], vec![1e6]);
    rules.tenants[0].ceiling.gpu_milli = 4_000;
    let mut site = Site::new(rules);
    site.after(lasting(1, 3, 60));
    site.after(lasting(2, 2, 60));
    site.after(lasting(3, 3, 60));
    let Explanation::Pending(why) = site.scheduler.explain(3, at(0)) else {
        panic!("it waits");
    };
    assert_eq!(
        (why.reason, &why.ahead.first[..]),
        (Reason::Quota, &[2][..])
    );
    let now = why.changes.iter().find(|it| it.start.latest == Some(at(0)));
    assert_eq!(
        now.map(|it| it.change),
        Some(Change::Gpus(1)),
        "{:?}",
        why.changes
    );
    let all = why
        .changes
        .iter()
        .find(|it| it.change == Change::Ceiling(4_000));
    assert_eq!(
        all.and_then(|it| it.start.latest),
        Some(at(0)),
        "{:?}",
        why.changes
    );
}

/// What others take of a loop is theirs to leave, and no repair of it.
//= requirements S7
#[test]
fn who_waits_for_what_a_neighbour_takes_is_told_of_the_neighbour() {
    // Sound; and half of it lost, which a repair alone does not make up for.
    for (ours, others, faulty) in [(700.0, 1_300.0, vec![]), (350.0, 650.0, vec![(0, 0.5)])] {
        let mut site = Site::new(config(vec![node(0)], vec![2_000.0]));
        site.after(lasting(1, 2, 60));
        site.now = at(1);
        let heat = site.scheduler.cooling()[0].foretold(at(1));
        site.after(Input::Metered {
            coolant: 0,
            heat_watts: heat,
            capacity_watts: ours,
            others_watts: others,
        });
        site.after(lasting(2, 2, 10));
        let Explanation::Pending(why) = site.scheduler.explain(2, at(1)) else {
            panic!("it waits");
        };
        assert_eq!(why.reason, NoHeadroomOutward);
        assert!((why.loops.others - 0.65).abs() < 1e-9);
        assert_eq!(why.loops.faulty, faulty);
        let changes: Vec<_> = why.changes.iter().map(|it| it.change).collect();
        assert!(changes.contains(&Change::Blind), "{changes:?}");
        assert!(!changes.contains(&Change::Sound(0)), "{changes:?}");
        let told = why.changes.iter().find(|it| it.change == Change::Alone);
        // With half of it lost it does not carry both, but one after the other.
        let starts = match faulty.is_empty() {
            true => at(1),
            false => at(60),
        };
        let told = told.and_then(|it| it.start.latest);
        assert_eq!(told, Some(starts), "{changes:?}");
    }
}

/// Of two weak loops the one is offered that could take the job, though the other lost more.
//= requirements S7
#[test]
fn the_repair_that_is_offered_is_of_a_loop_that_could_take_the_job() {
    let other = Node {
        model: 1,
        ..node(1)
    };
    let mut site = Site::new(config(vec![node(0), other], vec![5_000.0, 2_000.0]));
    let second = |id, minutes| match lasting(id, 2, minutes) {
        Input::Arrived(mut job) => {
            job.demand.models = Models(1 << 1);
            Input::Arrived(job)
        }
        other => other,
    };
    site.after(second(1, 60));
    site.now = at(1);
    let heat = |site: &Site, coolant: usize| site.scheduler.cooling()[coolant].foretold(at(1));
    let (first, its) = (heat(&site, 0), heat(&site, 1));
    site.after(metered(0, first, 700.0));
    site.after(metered(1, its, 700.0));
    site.after(second(2, 10));
    let Explanation::Pending(why) = site.scheduler.explain(2, at(1)) else {
        panic!("it waits");
    };
    assert_eq!(why.reason, NoHeadroomOutward);
    let sound: Vec<_> = (why.changes.iter().map(|it| it.change))
        .filter(|change| matches!(change, Change::Sound(_)))
        .collect();
    assert_eq!(sound, [Change::Sound(1)]);
}

//= requirements S7
#[test]
fn who_needs_more_than_a_weak_loop_ever_has_is_told_so_and_what_it_would_have() {
    let (mut site, why) = waits_for_heat(500.0);
    assert_eq!(why.reason, NoHeadroomOutward);
    // The loop was first read to be weak a moment ago: a period later it may be sound.
    assert_eq!((why.start.likely, why.start.latest), (Some(at(2)), None));
    assert_eq!(why.start.eased, Some(at(1)));
    let changes: Vec<_> = (why.changes.iter())
        .map(|a| (a.change, a.start.latest))
        .collect();
    let now = Some(at(1));
    assert_eq!(
        changes,
        [
            (Change::Gpus(1), Some(at(60))),
            (Change::Sound(0), now),
            (Change::Blind, now)
        ]
    );
    // That is true: who asks for one starts with the reading after the end.
    site.after(lasting(3, 1, 10));
    for minute in 2..=60 {
        site.now = at(minute);
        if minute == 60 {
            assert_eq!(site.decided(Input::Finished { job: 1 }), []);
        }
        let heat = site.scheduler.cooling()[0].foretold(at(minute));
        let decided = site.decided(metered(0, heat, 500.0));
        let starts = decided.contains(&(Place, BestScore, 3, 0));
        assert_eq!(starts, minute == 60, "{minute}: {decided:?}");
    }
}

//= requirements S7
#[test]
fn what_has_been_weak_for_long_is_believed_to_stay_so_for_as_long_again() {
    let (mut site, why) = waits_for_heat(500.0);
    assert_eq!(why.start.likely, Some(at(2)));
    for minute in 2..=21 {
        site.now = at(minute);
        let heat = site.scheduler.cooling()[0].foretold(at(minute));
        site.after(metered(0, heat, 500.0));
    }
    let foretold = |site: &Site| match site.scheduler.explain(2, site.now) {
        Explanation::Pending(why) => why.start,
        other => panic!("it waits: {other:?}"),
    };
    let start = foretold(&site);
    assert_eq!((start.likely, start.latest), (Some(at(41)), None));
    assert_eq!(start.eased, Some(at(21)));
    assert_eq!(site.scheduler.starts(at(21))[&2], start);
    // Once it was sound in between, it has not been weak for long.
    for (minute, capacity, since) in [
        (22, 500.0, Some(at(1))),
        (23, 2_000.0, None),
        (24, 500.0, Some(at(24))),
    ] {
        site.now = at(minute);
        let heat = site.scheduler.cooling()[0].foretold(at(minute));
        site.after(metered(0, heat, capacity));
        assert_eq!(site.scheduler.weak_since, [since], "{minute}");
    }
}

//= requirements S7
#[test]
fn who_would_find_room_on_nodes_that_are_off_for_heat_waits_for_heat() {
    let mut site = Site::new(config(vec![node(0), node(1)], vec![4_000.0, 1e6]));
    let parks = site.decided(metered(0, 200.0, 100.0));
    assert_eq!(parks, [(Park, Backpressure, Decision::NO_WORK, 0)]);
    assert_eq!(site.arrive(1, 2, LatencySensitive), (Place, BestScore, 1));
    let (action, reason, nearest) = site.arrive(2, 4, LatencySensitive);
    assert_eq!((action, reason, nearest), (Queue, NoHeadroomOutward, 0));
    let Explanation::Pending(why) = site.scheduler.explain(2, site.now) else {
        panic!("it waits");
    };
    let fell = |test: Test| why.funnel.fell[test as usize];
    assert_eq!((fell(Test::Parked), fell(Test::Lost)), (1, 0));
    assert_eq!((why.reason, fell(Test::Gpu)), (NoHeadroomOutward, 1));
    // 200 W idle and 800 W of GPUs, of 100 W.
    assert_eq!((why.found, why.bound), (10.0, 0.9));
    // Both nodes would be needed, and one of them is not free, off or on.
    let both = Job {
        tasks: 2,
        ..job(3, 4, LatencySensitive)
    };
    let decided = site.decided(Input::Arrived(both));
    assert_eq!((decided[0].0, decided[0].1), (Queue, NoCapacity));
}

/// The site has room for two tasks of three, so number is what is lacking, not nearness.
#[test]
fn a_gang_that_lacks_nodes_is_not_told_that_they_stand_apart() {
    let nodes = vec![node(0), node(1), node(1)];
    let mut site = Site::new(config(nodes, vec![1e6; 2]));
    site.after(lasting(1, 3, 60));
    site.after(lasting(2, 3, 60));
    let gang = Job {
        tasks: 3,
        spread: Spread::Rack,
        ..job(3, 2, BestEffort)
    };
    let wide = Job {
        spread: Spread::Site,
        ..gang
    };
    for gang in [gang, wide] {
        let free = site.scheduler.clone();
        site.after(Input::Arrived(gang));
        if let Explanation::Pending(why) = site.scheduler.explain(3, site.now) {
            let fell = |test: Test| why.funnel.fell[test as usize];
            assert_eq!((fell(Test::Gpu), fell(Test::Number)), (2, 1));
            assert_eq!(fell(Test::Topology), 0, "no nearness would help");
            assert_eq!(
                why.reason,
                Reason::Fragmented,
                "6 GPUs are free, 6 asked for"
            );
        } else {
            panic!("it waits");
        }
        site.scheduler = free;
    }
}

#[test]
fn of_a_gang_far_too_large_the_most_that_could_start_is_exact() {
    let many = (0..401).map(|_| node(0)).collect();
    let mut site = Site::new(Config {
        heat_aware: false,
        ..config(many, vec![1e9])
    });
    site.after(lasting(1, 1, 60));
    // One of 401 nodes is not whole, so 400 tasks could start and 401 some day.
    for (asked, now, ever) in [(401, 400, None), (9_000, 400, Some(401))] {
        let gang = Job {
            tasks: asked,
            ..job(2, 4, BestEffort)
        };
        let Some(ever) = ever else {
            site.after(Input::Arrived(gang));
            let Explanation::Pending(why) = site.scheduler.explain(2, site.now) else {
                panic!("it waits");
            };
            let fewer = why.changes.iter().map(|a| a.change);
            let tasks: Vec<Change> = fewer.filter(|c| matches!(c, Change::Tasks(_))).collect();
            assert_eq!(tasks, [Change::Tasks(now)]);
            continue;
        };
        let refused = site.scheduler.refusal(&gang).expect("it is too large");
        assert_eq!(refused.nearest, Some(Change::Tasks(ever)));
        assert_eq!(refused.found, f64::from(ever));
    }
}

/// Two nodes of four GPUs, one with CPUs to spare; whole GPUs with eight CPUs each have
/// come eight times. Then somebody wants CPUs alone.
fn told_of_gpus_with_many_cpus(policy: Policy) -> Site {
    let lean = Node { rack: 0, ..node(0) };
    let rich = Node {
        cpu_milli: 96_000,
        rack: 1,
        ..node(0)
    };
    let mut site = Site::new(Config {
        heat_aware: false,
        policy,
        ..config(vec![lean, rich], vec![1e6])
    });
    let whole = Demand {
        cpu_milli: 8_000,
        ..job(0, 1, BestEffort).demand
    };
    for id in 0..8 {
        site.after(Input::Arrived(Job::single(id, BestEffort, whole)));
    }
    for job in 0..8 {
        site.after(Input::Finished { job });
    }
    site
}

fn placed(effects: Vec<Effect>) -> Evidence {
    let evidence = effects.into_iter().find_map(|effect| match effect {
        Effect::Decided(d, evidence) if d.action == Place => evidence,
        _ => None,
    });
    *evidence.expect("it is placed")
}

#[test]
fn policies_place_differently_and_the_evidence_says_why() {
    let cpus = Demand {
        cpu_milli: 8_000,
        ..job(0, 0, BestEffort).demand
    };
    let wish = Input::Arrived(Job::single(8, BestEffort, cpus));
    // The tightest fit takes the CPUs that a GPU will need.
    let mut site = told_of_gpus_with_many_cpus(Policy::BestFit);
    let evidence = placed(site.after(wish));
    assert_eq!(evidence.candidates[0].node, 0);
    assert!(evidence.candidates.iter().all(|c| c.terms.is_none()));
    // What came before says that they will be needed: one GPU of eight that are one.
    let mut site = told_of_gpus_with_many_cpus(Policy::Cosmos);
    let evidence = placed(site.after(wish));
    let [rich, lean] = evidence.candidates[..] else {
        panic!("two nodes have room");
    };
    assert_eq!((rich.node, lean.node), (1, 0));
    let (terms, lost) = (rich.terms.unwrap(), lean.terms.unwrap());
    assert_eq!((terms.unusable, lost.unusable), (0.0, 0.125));
    assert!((lost.cost() - lean.fit).abs() < 1e-12);
    // Fragmentation looks one task ahead, and one task still finds its eight CPUs.
    let mut site = told_of_gpus_with_many_cpus(Policy::Fgd);
    assert_eq!(placed(site.after(wish)).candidates[0].node, 0);
}

#[test]
fn another_policy_from_here_on_knows_what_is_here() {
    let mut site = told_of_gpus_with_many_cpus(Policy::BestFit);
    let whole = Demand {
        cpu_milli: 8_000,
        ..job(0, 1, BestEffort).demand
    };
    site.after(Input::Arrived(Job::single(20, BestEffort, whole)));
    let mut rules = site.scheduler.config().clone();
    rules.policy = Policy::Cosmos;
    site.scheduler.reconfigure(site.now, rules, &mut |_| {});
    let cpus = Demand { gpus: 0, ..whole };
    let evidence = placed(site.after(Input::Arrived(Job::single(21, BestEffort, cpus))));
    assert_eq!(evidence.candidates[0].node, 1);
    assert!(evidence.candidates[0].terms.is_some());
}

#[test]
fn a_head_that_nobody_makes_room_for_does_not_stop_the_site_for_ever() {
    // Two services that promise no end leave no node whole, and somebody asks for one.
    let mut site = Site::new(Config {
        heat_aware: false,
        ..config(vec![node(0), node(0)], vec![1e6])
    });
    assert_eq!(site.arrive(1, 3, LatencySensitive).0, Place);
    assert_eq!(site.arrive(2, 3, LatencySensitive).0, Place);
    assert_eq!(site.arrive(3, 4, BestEffort).0, Queue);
    let patience = Nanos::HOUR;
    // Let by, held up, let by for twice as long, held up for four times as long, and so on.
    let mut passes = vec![];
    for hours in [0, 1, 2, 3, 4, 7, 8, 15, 16, 31, 32] {
        site.now = Instant::EPOCH + patience * hours + Nanos::MINUTE;
        let id = 100 + hours;
        let starts = site.arrive(id, 1, BestEffort).0 == Place;
        passes.push((hours, starts));
        // Whoever waits for a turn is gone with whoever has it.
        site.scheduler.queue.remove(id);
        site.after(Input::Finished { job: id });
    }
    let let_by = passes.iter().filter(|(_, starts)| *starts);
    let let_by: Vec<u64> = let_by.map(|(hours, _)| *hours).collect();
    assert_eq!(let_by, [0, 2, 3, 8, 15, 32]);
}
