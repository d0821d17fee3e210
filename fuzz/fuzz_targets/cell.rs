#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use fuzz::contract::{Pause, Rig};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use scheduler::cell::{CellScheduler, Config, Effect, Input, Work};
use scheduler::lease::ServiceLevel;
use scheduler::thermos::{self, Signal};
use scheduler::{Descriptor, Outward, Service};
use telemetry::Action;
use trust::Key;
use wire::{Instant, Nanos, Tile};

const TILES: u32 = 6;
const QUEUE_MAX: usize = 3;

#[derive(Debug, Arbitrary)]
enum Act {
    Arrive {
        hot: bool,
        shards: u8,
        activity: u8,
        priority: u8,
        seconds: u16,
        hops: u8,
    },
    Sensed {
        tile: u8,
        kelvin: f32,
        load: f32,
    },
    Warm {
        tile: u8,
        kelvin: u8,
        load: u8,
    },
    Lost(u8),
    Heard {
        hundredths: u8,
        age: u16,
    },
    Measure,
}

/// Where a piece of work is.
#[derive(Debug, PartialEq)]
enum Fate {
    Held,
    Waiting,
    Gone,
}

#[derive(Default)]
struct Books {
    fates: BTreeMap<u64, Fate>,
    activity: BTreeMap<u32, f64>,
}

impl Books {
    fn note(&mut self, effect: &Effect) {
        match effect {
            Effect::Assign { tile, activity } => {
                assert!(*tile < TILES);
                assert!((0.0..=1.001).contains(activity), "{activity} on {tile}");
                self.activity.insert(*tile, *activity);
            }
            Effect::Budget(budget) => assert!((0.05..=1.0).contains(budget)),
            Effect::Signal(signal) => assert_eq!(signal.layer, 1),
            Effect::Forward { work, .. } => {
                assert_eq!(self.fates.insert(work.id, Fate::Gone), Some(Fate::Gone));
            }
            Effect::Decided(decision) => {
                let fate = match decision.action {
                    Action::Place => Fate::Held,
                    Action::Queue => Fate::Waiting,
                    Action::Refuse | Action::Expire => Fate::Gone,
                    // What runs here is passed on under pressure; for any other reason it moves to another tile.
                    Action::Migrate
                        if decision.reason != telemetry::Reason::Backpressure
                            && self.fates.get(&decision.work) == Some(&Fate::Held) =>
                    {
                        return;
                    }
                    // Passed on, which `Forward` confirms.
                    Action::Migrate => Fate::Gone,
                    _ => return,
                };
                assert!(self.fates.insert(decision.work, fate).is_some());
            }
        }
    }

    /// What the decisions say became of the work is what the scheduler holds.
    fn balance(&mut self, cell: &CellScheduler) {
        let held: Vec<u64> = cell.leases().iter().map(|lease| lease.work).collect();
        // A lease whose last shard is lost ends without another word.
        for (id, fate) in &mut self.fates {
            if *fate == Fate::Held && !held.contains(id) {
                *fate = Fate::Gone;
            }
        }
        let of = |what: Fate| {
            self.fates
                .iter()
                .filter(|(_, f)| **f == what)
                .map(|(id, _)| *id)
                .collect::<Vec<_>>()
        };
        assert_eq!(of(Fate::Held), held);
        assert_eq!(of(Fate::Waiting).len(), cell.waiting());
        assert!(cell.waiting() <= QUEUE_MAX);
        let leased: f64 = cell
            .leases()
            .iter()
            .map(|l| l.tiles.len() as f64 * l.activity)
            .sum();
        assert!(
            (cell.busy() - leased).abs() < 1e-6,
            "busy {}, leased {leased}",
            cell.busy()
        );
        let mut on = BTreeMap::<u32, f64>::new();
        for lease in cell.leases().iter() {
            for &tile in &lease.tiles {
                *on.entry(tile).or_default() += lease.activity;
            }
        }
        for (tile, leased) in on {
            let told = self.activity.get(&tile).copied().unwrap_or_default();
            assert!(
                (told - leased).abs() < 1e-4,
                "tile {tile} was told {told}, holds {leased}"
            );
        }
    }
}

// Whatever comes, whatever fails, however late it is woken: every piece of work is somewhere, once.
libfuzzer_sys::fuzz_target!(|plan: (bool, Vec<(Pause, bool, Act)>)| {
    let (heat_aware, acts) = plan;
    let config = Config {
        first: Tile(0),
        tiles: TILES,
        layer: 1,
        layers: 3,
        capacity_watts: 1_400.0,
        throttle_kelvin: 390.0,
        heat_aware,
        load_quantile: 0.95,
        queue_max: QUEUE_MAX,
        hops_max: 2,
        migrate_below: 0.8,
        thermos: thermos::Config {
            setpoint: 0.9,
            budget_min: 0.05,
            resolution: 0.01,
            period: Nanos::MINUTE,
            outward: vec![thermos::Link {
                layer: 2,
                light_time: Nanos::MINUTE * 10,
                lag: Nanos::ZERO,
                gain: None,
            }],
        },
        outward: vec![Outward {
            layer: 2,
            light_time: Nanos::MINUTE * 10,
            lag: Nanos::ZERO,
            sharers: 1,
            load_per_watt: 0.0005,
            assumed: 0.3,
        }],
    };
    let key = Key::new([8; 32]);
    let mut rig = Rig {
        machine: CellScheduler::new(Arc::new(config), key.clone(), Instant::EPOCH),
        now: Instant::EPOCH,
        effects_max: 400,
        wakes_max: 1,
    };
    let mut books = Books::default();
    for tile in 0..u64::from(TILES) {
        let descriptor = Descriptor {
            tile: Tile(tile),
            cpu_milli: 0,
            accelerators: 1,
            memory_mib: 100,
            idle_mw: 100_000,
            max_mw: 1_000_000,
            limit_mk: 400_000,
            failures_per_year_ppm: 50_000,
        };
        let tag = descriptor.sign(&key);
        rig.give(Input::Described(descriptor, tag), |_, effect| {
            books.note(&effect)
        });
    }
    for (id, (pause, punctual, act)) in (0..).zip(acts) {
        rig.pass(pause, punctual, |_, effect| books.note(&effect));
        books.balance(&rig.machine);
        let input = match act {
            Act::Arrive {
                hot,
                shards,
                activity,
                priority,
                seconds,
                hops,
            } => {
                books.fates.insert(id, Fate::Gone);
                Input::Arrived(Work {
                    id,
                    hot,
                    shards: u32::from(shards % 8),
                    activity: f64::from(activity) / 200.0,
                    memory_mib: u32::from(priority % 3) * 50,
                    priority,
                    service: Service {
                        level: ServiceLevel::LatencySensitive,
                        speed: f64::from(activity) / 250.0,
                    },
                    term: Nanos::from_secs(seconds.into()),
                    hops: hops % 3,
                })
            }
            Act::Sensed { tile, kelvin, load } => Input::Sensed {
                tile: tile.into(),
                kelvin: kelvin.into(),
                load: load.into(),
                clock: 1.0,
            },
            Act::Warm { tile, kelvin, load } => Input::Sensed {
                tile: u32::from(tile) % TILES,
                kelvin: 300.0 + f64::from(kelvin),
                load: f64::from(load) / 100.0,
                clock: 1.0,
            },
            Act::Lost(tile) => Input::Lost { tile: tile.into() },
            Act::Heard { hundredths, age } => Input::Heard(Signal {
                layer: 2,
                load: f64::from(hundredths) / 100.0,
                measured: Instant(rig.now.0.saturating_sub(Nanos::from_secs(age.into()).0)),
            }),
            Act::Measure => Input::Measure,
        };
        rig.give(input, |_, effect| books.note(&effect));
        books.balance(&rig.machine);
    }
});
