//! A cell's scheduler through its public face.

use std::sync::Arc;

use machine::Machine;
use scheduler::cell::{Config, Effect, Input};
use scheduler::lease::ServiceLevel;
use scheduler::{CellScheduler, Descriptor, Outward, Service, Signal, Work, thermos};
use telemetry::{Action, Reason};
use trust::Key;
use wire::{Instant, Nanos, Tile};

fn config() -> Config {
    Config {
        first: Tile(1_000),
        tiles: 10,
        layer: 1,
        layers: 3,
        capacity_watts: 1_400.0,
        throttle_kelvin: 390.0,
        heat_aware: true,
        load_quantile: 0.95,
        queue_max: 2,
        hops_max: 1,
        migrate_below: 0.8,
        thermos: thermos::Config {
            setpoint: 0.9,
            budget_min: 0.05,
            resolution: 0.0,
            period: Nanos::MINUTE,
            outward: vec![thermos::Link {
                layer: 2,
                light_time: Nanos::HOUR,
                lag: Nanos::ZERO,
                gain: None,
            }],
        },
        outward: vec![Outward {
            layer: 2,
            light_time: Nanos::HOUR,
            lag: Nanos::ZERO,
            sharers: 1,
            load_per_watt: 0.0005,
            assumed: 0.3,
        }],
    }
}

fn work(id: u64, shards: u32) -> Work {
    Work {
        id,
        hot: false,
        shards,
        activity: 0.5,
        memory_mib: 100,
        priority: 0,
        service: Service::default(),
        term: Nanos::HOUR,
        hops: 0,
    }
}

fn at(s: u64) -> Instant {
    Instant::EPOCH + Nanos::from_secs(s)
}

struct Cell(CellScheduler);

fn key() -> Key {
    Key::new([8; 32])
}

fn descriptor(tile: u64) -> Descriptor {
    Descriptor {
        tile: Tile(1_000 + tile),
        cpu_milli: 0,
        accelerators: 1,
        memory_mib: 1_000,
        idle_mw: 100_000,
        max_mw: 1_000_000,
        limit_mk: 400_000,
        failures_per_year_ppm: 50_000,
    }
}

impl Cell {
    /// All of whose tiles have said what they can do.
    fn new(config: Config) -> Self {
        let mut cell = Self::unknown(config);
        (0..10).for_each(|tile| cell.describe(&descriptor(tile)));
        cell
    }
    fn unknown(config: Config) -> Self {
        Self(CellScheduler::new(Arc::new(config), key(), Instant::EPOCH))
    }
    fn describe(&mut self, descriptor: &Descriptor) {
        let told = Input::Described(descriptor.clone(), descriptor.sign(&key()));
        assert_eq!(self.give(at(0), told), []);
    }
    fn give(&mut self, now: Instant, input: Input) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.0.handle(now, input, &mut |e| effects.push(e));
        effects
    }
    fn warm(&mut self, kelvin: impl Fn(u32) -> f64) {
        for tile in 0..10 {
            self.give(
                at(0),
                Input::Sensed {
                    tile,
                    kelvin: kelvin(tile),
                    load: 0.5,
                    clock: 1.0,
                },
            );
        }
    }
}

fn decisions(effects: &[Effect]) -> Vec<(Action, Reason)> {
    let decided = |e: &Effect| match e {
        Effect::Decided(d) => Some((d.action, d.reason)),
        _ => None,
    };
    effects.iter().filter_map(decided).collect()
}

fn assigned(effects: &[Effect]) -> Vec<u32> {
    let assigned = |e: &Effect| match e {
        Effect::Assign { tile, .. } => Some(*tile),
        _ => None,
    };
    effects.iter().filter_map(assigned).collect()
}

#[test]
fn work_goes_to_the_coolest_tiles_and_says_so() {
    let mut cell = Cell::new(config());
    cell.warm(|tile| 380.0 - f64::from(tile));
    let effects = cell.give(at(1), Input::Arrived(work(1, 3)));
    assert_eq!(assigned(&effects), [9, 8, 7]);
    assert_eq!(decisions(&effects), [(Action::Place, Reason::BestScore)]);
    let Some(Effect::Decided(decision)) = effects.last() else {
        panic!("{effects:?}")
    };
    assert_eq!((decision.subject, decision.found), (Tile(1_009), 371.0));
}

#[test]
fn a_tile_that_cannot_reject_its_heat_gives_its_work_to_one_that_can() {
    let mut cell = Cell::new(config());
    cell.warm(|tile| 380.0 - f64::from(tile));
    cell.give(at(1), Input::Arrived(work(1, 2)));
    let broken = |load| Input::Sensed {
        tile: 9,
        kelvin: 371.0,
        load,
        clock: 1.0,
    };
    cell.give(at(2), broken(1.0));
    assert_eq!(assigned(&cell.give(at(60), Input::Measure)), [0; 0]);
    cell.give(at(61), broken(1.3));
    let effects = cell.give(at(120), Input::Measure);
    // Tile 8 has half of its compute free and is the next coolest, but 9 has work of its own.
    assert_eq!(assigned(&effects), [9, 8]);
    assert_eq!(
        decisions(&effects),
        [(Action::Migrate, Reason::NoHeadroomHere)]
    );
    // As long as it is overloaded it gets none back, although it is the coolest.
    cell.give(at(121), broken(1.1));
    let placed = cell.give(at(122), Input::Arrived(work(2, 1)));
    assert_eq!(assigned(&placed), [7]);
    // The lease knows where its work is: it is all freed at the end.
    let mut freed = Vec::new();
    (cell.0).wake(at(3_600 + 130), &mut |e| freed.push(e));
    let mut freed = assigned(&freed);
    freed.sort_unstable();
    assert_eq!((freed, cell.0.busy()), (vec![7, 8, 8], 0.0));
}

#[test]
fn work_stays_on_an_overloaded_tile_when_no_other_could_bear_it() {
    let mut cell = Cell::new(config());
    for tile in 0..10 {
        let (kelvin, load) = (380.0, 0.8);
        cell.give(
            at(0),
            Input::Sensed {
                tile,
                kelvin,
                load,
                clock: 1.0,
            },
        );
    }
    cell.give(at(1), Input::Arrived(work(1, 1)));
    let (tile, kelvin, load) = (0, 385.0, 1.2);
    cell.give(
        at(2),
        Input::Sensed {
            tile,
            kelvin,
            load,
            clock: 1.0,
        },
    );
    // 0.8 and the 0.32 of a shard are more than one.
    let effects = cell.give(at(60), Input::Measure);
    assert_eq!(assigned(&effects), [0; 0]);
}

#[test]
fn a_tile_whose_sensor_gives_no_number_gets_no_new_work() {
    let mut cell = Cell::new(config());
    cell.warm(|tile| 380.0 - f64::from(tile));
    let says = |kelvin| Input::Sensed {
        tile: 9,
        kelvin,
        load: 0.5,
        clock: 1.0,
    };
    cell.give(at(1), says(f64::NAN));
    let placed = cell.give(at(2), Input::Arrived(work(1, 1)));
    assert_eq!(assigned(&placed), [8]);
    cell.give(at(3), says(360.0));
    let placed = cell.give(at(4), Input::Arrived(work(2, 1)));
    assert_eq!(assigned(&placed), [9]);
}

#[test]
fn a_sensor_that_gives_no_number_changes_no_belief() {
    let mut cell = Cell::new(config());
    let hot = |kelvin, load| Input::Sensed {
        tile: 0,
        kelvin,
        load,
        clock: 1.0,
    };
    cell.warm(|_| 380.0);
    cell.give(at(0), hot(380.0, 1.0e6));
    cell.give(at(0), hot(380.0, f64::NAN));
    cell.give(at(0), hot(f64::NAN, 0.0));
    cell.give(at(1), Input::Measure);
    // The cell is as loaded as it was: there is no room for more heat in it.
    let refused = cell.give(at(2), Input::Arrived(work(1, 1)));
    assert_eq!(assigned(&refused), [0; 0]);
    let decided = decisions(&refused);
    assert_eq!(decided, [(Action::Migrate, Reason::NoHeadroomHere)]);
}

#[test]
fn blind_to_heat_work_goes_to_the_first_tiles_with_room() {
    let mut cell = Cell::new(Config {
        heat_aware: false,
        ..config()
    });
    cell.warm(|tile| 395.0 - f64::from(tile));
    assert_eq!(
        assigned(&cell.give(at(1), Input::Arrived(work(1, 3)))),
        [0, 1, 2]
    );
}

#[test]
fn a_lost_tiles_work_moves_and_its_own_activity_is_not_counted_twice() {
    let mut cell = Cell::new(config());
    cell.warm(f64::from);
    cell.give(at(1), Input::Arrived(work(1, 2)));
    let moved = cell.give(at(2), Input::Lost { tile: 0 });
    assert_eq!(decisions(&moved), [(Action::Migrate, Reason::HostLost)]);
    assert_eq!(cell.0.busy(), 1.0);
    assert_eq!(cell.0.leases().iter().next().unwrap().tiles.len(), 2);
    assert_eq!(cell.give(at(3), Input::Lost { tile: 0 }), []);
}

#[test]
fn shards_that_came_together_on_a_tile_all_leave_it_when_it_is_lost() {
    let mut cell = Cell::new(config());
    cell.warm(f64::from);
    let light = Work {
        activity: 0.4,
        ..work(1, 2)
    };
    cell.give(at(1), Input::Arrived(light));
    cell.warm(|tile| if tile == 1 { 300.0 } else { 395.0 });
    assert_eq!(assigned(&cell.give(at(2), Input::Lost { tile: 0 })), [1]);
    cell.warm(f64::from);
    let moved = cell.give(at(3), Input::Lost { tile: 1 });
    assert_eq!(
        decisions(&moved),
        [(Action::Migrate, Reason::HostLost); 2],
        "{moved:?}"
    );
    let tiles = &cell.0.leases().iter().next().unwrap().tiles;
    assert!(!tiles.contains(&1), "{tiles:?}");
    assert!((cell.0.busy() - 0.8).abs() < 1e-12, "{}", cell.0.busy());
}

#[test]
fn work_that_lost_its_last_shard_is_over_and_moves_nowhere() {
    let mut cell = Cell::new(config());
    cell.warm(f64::from);
    let urgent = Work {
        priority: 3,
        ..work(1, 1)
    };
    cell.give(at(1), Input::Arrived(urgent));
    cell.warm(|_| 395.0);
    let lost = cell.give(at(2), Input::Lost { tile: 0 });
    let breach = (Action::Breach, Reason::ServiceLevel);
    assert_eq!(
        decisions(&lost),
        [(Action::Lose, Reason::NoHeadroomHere), breach]
    );
    assert!(cell.0.leases().is_empty());
    // Pressed hard enough that priority work would move inward, if there were any.
    for minute in 1..600 {
        let measured = Instant::EPOCH + Nanos::MINUTE * minute;
        let (layer, load) = (2, 1.3);
        let hot = Signal {
            layer,
            load,
            measured,
        };
        cell.give(measured, Input::Heard(hot));
    }
    let measured = cell.give(Instant::EPOCH + Nanos::HOUR * 11, Input::Measure);
    assert_eq!(decisions(&measured), []);
    // Nor would an inner cell know where to put it.
    let refused = cell.give(at(40_000), Input::Arrived(work(2, 0)));
    assert_eq!(decisions(&refused), [(Action::Refuse, Reason::Impossible)]);
}

//= requirements H6
#[test]
fn what_does_not_fit_is_passed_on_then_waits_then_is_refused() {
    let mut cell = Cell::new(config());
    cell.warm(|_| 395.0); // every tile too warm
    let passed = cell.give(at(1), Input::Arrived(work(1, 1)));
    assert_eq!(
        decisions(&passed),
        [(Action::Migrate, Reason::NoHeadroomHere)]
    );
    assert!(matches!(
        passed.last(),
        Some(Effect::Forward { inward: false, .. })
    ));
    let hot = cell.give(
        at(1),
        Input::Arrived(Work {
            hot: true,
            ..work(2, 1)
        }),
    );
    assert!(matches!(
        hot.last(),
        Some(Effect::Forward { inward: true, .. })
    ));
    let travelled = |id| {
        Input::Arrived(Work {
            hops: 1,
            ..work(id, 1)
        })
    };
    for (id, action) in [(3, Action::Queue), (4, Action::Queue), (5, Action::Refuse)] {
        assert_eq!(decisions(&cell.give(at(1), travelled(id)))[0].0, action);
    }
    cell.warm(|_| 300.0);
    let started = cell.give(at(2), Input::Measure);
    assert_eq!(decisions(&started), [(Action::Place, Reason::BestScore); 2]);
}

#[test]
fn what_could_never_fit_is_refused_at_once() {
    let mut cell = Cell::new(config());
    let refused = cell.give(at(1), Input::Arrived(work(1, 11)));
    assert_eq!(decisions(&refused), [(Action::Refuse, Reason::Impossible)]);
}

//= requirements S2
#[test]
fn an_expired_lease_frees_its_tiles() {
    let mut cell = Cell::new(config());
    cell.warm(f64::from);
    cell.give(at(1), Input::Arrived(work(1, 3)));
    let end = at(1) + Nanos::HOUR;
    let mut effects = Vec::new();
    cell.0.wake(end, &mut |e| effects.push(e));
    assert!(decisions(&effects).contains(&(Action::Expire, Reason::Term)));
    assert_eq!(cell.0.busy(), 0.0);
    assert!(cell.0.leases().is_empty());
}

//= requirements H3
#[test]
fn under_pressure_from_outward_the_budget_falls_and_priority_work_moves_inward() {
    let mut cell = Cell::new(config());
    cell.warm(f64::from);
    cell.give(
        at(1),
        Input::Arrived(Work {
            priority: 3,
            ..work(1, 2)
        }),
    );
    let mut budgets = Vec::new();
    for minute in 1..600 {
        let now = Instant::EPOCH + Nanos::MINUTE * minute;
        let hot = Signal {
            layer: 2,
            load: 1.3,
            measured: now,
        };
        for effect in cell.give(now, Input::Heard(hot)) {
            if let Effect::Budget(budget) = effect {
                budgets.push(budget);
            }
        }
    }
    assert!(
        budgets.is_sorted_by(|a, b| a > b) && cell.0.budget() < 0.8,
        "{budgets:?}"
    );
    let effects = cell.give(Instant::EPOCH + Nanos::HOUR * 11, Input::Measure);
    assert!(decisions(&effects).contains(&(Action::Migrate, Reason::Backpressure)));
    let inward = |e: &Effect| matches!(e, Effect::Forward { inward: true, .. });
    assert!(effects.iter().any(inward));
}

#[test]
fn the_load_reported_is_that_of_the_worst_tiles() {
    let mut cell = Cell::new(config());
    for tile in 0..10 {
        let load = if tile == 4 { 1.25 } else { 0.5 };
        cell.give(
            at(0),
            Input::Sensed {
                tile,
                kelvin: 300.0,
                load,
                clock: 1.0,
            },
        );
    }
    let effects = cell.give(at(1), Input::Measure);
    let expected = Signal {
        layer: 1,
        load: 1.25,
        measured: at(1),
    };
    assert_eq!(effects[0], Effect::Signal(expected));
}

//= requirements S1
#[test]
fn nothing_is_placed_on_a_tile_but_what_its_own_signed_word_says_it_can_hold() {
    let mut cell = Cell::unknown(config());
    cell.warm(|tile| 380.0 - f64::from(tile));
    let placed = |cell: &mut Cell, id, shards, memory_mib| {
        let memory = Work {
            memory_mib,
            ..work(id, shards)
        };
        let effects = cell.give(at(id), Input::Arrived(memory));
        (assigned(&effects), decisions(&effects))
    };
    let refused = |reason| (Vec::new(), vec![(Action::Refuse, reason)]);
    let passed_on = (vec![], vec![(Action::Migrate, Reason::NoCapacity)]);
    assert_eq!(placed(&mut cell, 1, 1, 0), passed_on, "nobody is known");
    // Another cell's tile, one whose tag is another's, and one that cannot compute.
    cell.describe(&descriptor(10));
    cell.describe(&Descriptor {
        accelerators: 0,
        ..descriptor(9)
    });
    let tag = descriptor(7).sign(&key());
    cell.give(at(0), Input::Described(descriptor(8), tag));
    assert_eq!(placed(&mut cell, 2, 1, 0), passed_on);
    // Two that say so, and one that must not become as warm as it is.
    cell.describe(&descriptor(3));
    cell.describe(&descriptor(4));
    cell.describe(&Descriptor {
        limit_mk: 370_000,
        ..descriptor(5)
    });
    assert_eq!(placed(&mut cell, 3, 2, 600).0, [3, 4]);
    // Half of their compute is free, and less than half of their memory.
    let cause = (Action::Migrate, Reason::NoHeadroomHere);
    assert_eq!(placed(&mut cell, 4, 1, 600), (vec![], vec![cause]));
    assert_eq!(placed(&mut cell, 5, 1, 400).0, [4]);
    assert_eq!(placed(&mut cell, 6, 1, 1_001), refused(Reason::Impossible));
    // Its first word holds: it cannot be given the memory twice.
    cell.describe(&descriptor(3));
    assert_eq!(placed(&mut cell, 7, 1, 600), (vec![], vec![cause]));
    (cell.0).wake(at(3_700), &mut |_| {});
    assert_eq!(placed(&mut cell, 3_701, 2, 1_000).0, [3, 4], "all is free");
}

fn reports(cell: &mut Cell, seconds: u64, clock: impl Fn(u32) -> f64) {
    for tile in 0..10 {
        let (kelvin, load, clock) = (380.0, 0.5, clock(tile));
        let report = Input::Sensed {
            tile,
            kelvin,
            load,
            clock,
        };
        cell.give(at(seconds), report);
    }
}

fn breaches(effects: &[Effect]) -> Vec<(u64, f64, f64)> {
    let breach = |e: &Effect| match e {
        Effect::Decided(d) if d.action == Action::Breach => Some((d.work, d.found, d.bound)),
        _ => None,
    };
    effects.iter().filter_map(breach).collect()
}

//= requirements S2
#[test]
fn at_its_end_a_lease_is_held_to_what_it_promised() {
    let promised = |id, shards, speed| Work {
        service: Service {
            level: ServiceLevel::LatencySensitive,
            speed,
        },
        ..work(id, shards)
    };
    let mut cell = Cell::new(config());
    reports(&mut cell, 0, |_| 1.0);
    // Tiles 0 and 1, then 0 to 3, then one of best effort.
    cell.give(at(0), Input::Arrived(promised(1, 2, 0.75)));
    cell.give(at(0), Input::Arrived(promised(2, 4, 0.76)));
    cell.give(at(0), Input::Arrived(work(3, 1)));
    // For half an hour all run at half their clock.
    reports(&mut cell, 900, |_| 0.5);
    reports(&mut cell, 2_700, |_| 1.0);
    let mut over = Vec::new();
    (cell.0).wake(at(3_600), &mut |e| over.push(e));
    let [(work, found, bound)] = breaches(&over)[..] else {
        panic!("{over:?}")
    };
    assert_eq!((work, bound), (2, 0.76));
    assert!((found - 0.75).abs() < 1e-9, "{found}");
    let [latency, best_effort] = ServiceLevel::ALL.map(|level| cell.0.served(level));
    assert_eq!((latency.ended, latency.breached), (2, 1));
    assert_eq!((best_effort.ended, best_effort.breached), (1, 0));
}

#[test]
fn what_a_lost_tile_ran_counts_as_far_as_it_reported_and_lost_work_is_a_breach() {
    let mut cell = Cell::new(Config {
        tiles: 2,
        ..config()
    });
    for tile in 0..2 {
        let (kelvin, load, clock) = (380.0, 0.5, 1.0);
        let report = Input::Sensed {
            tile,
            kelvin,
            load,
            clock,
        };
        cell.give(at(0), report.clone());
        cell.give(at(1_800), report);
    }
    let whole = Work {
        service: Service {
            level: ServiceLevel::LatencySensitive,
            speed: 1.0,
        },
        ..work(1, 1)
    };
    cell.give(at(1_800), Input::Arrived(whole));
    let report = |tile, load| Input::Sensed {
        tile,
        kelvin: 380.0,
        load,
        clock: 1.0,
    };
    // Half an hour on tile 0 by its reports, then a quarter of which nobody knows.
    cell.give(at(3_600), report(0, 0.5));
    cell.give(at(3_600), report(1, 0.5));
    let moved = cell.give(at(4_500), Input::Lost { tile: 0 });
    assert_eq!(decisions(&moved), [(Action::Migrate, Reason::HostLost)]);
    // And the last quarter on tile 1.
    let mut over = Vec::new();
    (cell.0).wake(at(5_400), &mut |e| over.push(e));
    assert_eq!(breaches(&over), [(1, 0.75, 1.0)]);

    cell.give(at(6_000), Input::Arrived(work(2, 1)));
    let lost = cell.give(at(6_000), Input::Lost { tile: 1 });
    assert_eq!(breaches(&lost).len(), 1, "even what was promised no speed");
    assert_eq!(cell.0.served(ServiceLevel::BestEffort).breached, 1);
}
