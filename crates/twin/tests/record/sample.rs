//! Invented runs, for tests of the pages and for looking at them. Nothing here was
//! simulated; the curves only have the shapes real ones have.

use telemetry::{Action, Reason};
use twin::record::series::Frame;
use twin::record::summary::{
    DecisionCount, Fault, Heat, Invariant, Kind, Locality, Membership, Quantiles, Site, Violation,
};
use twin::record::{Group, Holon, Layout, Map, Sample, Series, Summary};

/// Noise in −1..1 that is the same every time.
fn noise(a: usize, b: usize) -> f32 {
    let mut x = (a as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (b as u64 + 1) << 32;
    x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 32)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x >> 40) as f32 / (1 << 23) as f32) - 1.0
}

/// From 0 to 1 as `t` goes from `from` to `to`.
fn ramp(t: f32, from: f32, to: f32) -> f32 {
    ((t - from) / (to - from)).clamp(0.0, 1.0)
}

fn held(name: &str) -> Invariant {
    Invariant {
        name: name.to_owned(),
        held: true,
        first_violation: None,
    }
}

/// Five shells of 1,000 cells, of which the middle one loses radiators.
pub(crate) fn shells(thermos: bool) -> (Summary, Series) {
    const NAMES: [&str; 5] = ["Mercury", "Venus", "Earth", "Mars", "Belt"];
    const LIMITS: [f32; 5] = [720.0, 560.0, 430.0, 360.0, 290.0];
    let (cells, length) = ([80_usize, 140, 200, 260, 320], 14_400.0_f32);
    let groups = (0..5).map(|g| {
        let tiles = cells[g] as u64 * 1_000;
        Group::new(NAMES[g], tiles, LIMITS[g], LIMITS[g] - 18.0)
    });
    let holons = (0..5_usize).flat_map(|g| {
        (0..cells[g]).map(move |i| Holon {
            name: format!("{} cell {i}", NAMES[g].to_lowercase()),
            group: g as u32,
            x: i as f32 / cells[g] as f32,
            y: 0.0,
        })
    });
    let map = Map::new(Layout::Rings, holons.collect());
    let mut series = Series::new(groups.collect(), Some(map));
    let lost = |g: usize, t: f32| {
        let share = if thermos { 0.001 } else { 0.16 };
        let hit = [0.1, 0.5, 1.0, 0.35, 0.0][g];
        share * hit * ramp(t, 5_600.0 + 300.0 * g as f32, 11_000.0)
    };
    let heat = |g: usize, t: f32| {
        let demand = 0.55 + 0.3 * ramp(t, 900.0, 3_600.0) + 0.05 * (t / 900.0).sin();
        let fault = [0.04, 0.1, 0.34, 0.12, 0.02][g] * ramp(t, 5_000.0, 5_400.0);
        let rise = demand + fault * (1.0 - 0.7 * ramp(t, 10_200.0, 11_400.0));
        let slowed = (rise - 0.88).max(0.0) * ramp(t, 5_000.0, 5_300.0);
        if thermos { rise - slowed } else { rise }
    };
    for step in 0..=2_400_usize {
        let t = length * step as f32 / 2_400.0;
        let samples: Vec<_> = (0..5)
            .map(|g| {
                let load = heat(g, t) + 0.004 * noise(step, g);
                let over = (load - 0.9).max(0.0) * if thermos { 60.0 } else { 320.0 };
                let mean = LIMITS[g] * (0.72 + 0.19 * load) + over + 0.3 * noise(step, g + 9);
                Sample {
                    kelvin_mean: mean,
                    kelvin_max: mean + 0.045 * LIMITS[g] + over + 1.2 * noise(step, g + 20),
                    kelvin_p99: mean + 0.03 * LIMITS[g],
                    load,
                    clock: if thermos {
                        (1.0 - 1.4 * (load - 0.86).max(0.0) - 0.2 * lost(g, t)).min(1.0)
                            - 0.25
                                * [0.0, 0.3, 1.0, 0.2, 0.0][g]
                                * ramp(t, 5_200.0, 6_000.0)
                                * (1.0 - ramp(t, 10_400.0, 12_000.0))
                    } else {
                        1.0
                    },
                    budget: 1.0 - 0.3 * lost(g, t),
                    budget_min: 1.0 - 0.4 * lost(g, t),
                    utilisation: (0.62 + 0.3 * ramp(t, 900.0, 3_600.0)) * (1.0 - lost(g, t)),
                    dark: (lost(g, t) * cells[g] as f32 * 1_000.0).floor(),
                    waiting: f32::NAN,
                }
            })
            .collect();
        series.push(f64::from(t), &samples);
        if step % 20 == 0 {
            let (mut kelvin, mut dark) = (Vec::new(), Vec::new());
            for g in 0..5 {
                for i in 0..cells[g] {
                    let turn = i as f32 / cells[g] as f32;
                    // The failed radiators sit together, a third of the way round.
                    let near = (1.0 - ((turn - 0.35).abs() * 7.0)).max(0.0);
                    let load = heat(g, t) + near * (heat(g, t) - 0.8).max(0.0);
                    let over = (load - 0.9).max(0.0) * if thermos { 70.0 } else { 330.0 };
                    let k = LIMITS[g] * (0.745 + 0.19 * load) + over + 4.0 * noise(i, g);
                    let gone = (lost(g, t) * (0.3 + 6.0 * near)).min(1.0);
                    kelvin.push(if gone >= 1.0 { f32::NAN } else { k });
                    dark.push(gone);
                }
            }
            let seconds = f64::from(t);
            series.map_mut().unwrap().push(Frame {
                seconds,
                kelvin,
                dark,
            });
        }
    }
    series.note(900.0, "Demand begins to rise in all shells");
    series.note(5_000.0, "Radiators of Earth fail: 40 % of 70 cells");
    series.note(5_260.0, "First tile throttles (Earth cell 71)");
    if !thermos {
        series.note(5_620.0, "First tile goes dark (Earth cell 69, tile 211)");
    }
    series.note(10_200.0, "Radiators of Earth repaired");
    let dark: f32 = (0..5)
        .map(|g| lost(g, length) * cells[g] as f32 * 1_000.0)
        .sum();
    let count = DecisionCount::new;
    let summary = Summary {
        universe: "five shells, Earth's radiators fail".to_owned(),
        intent: "A million tiles around a star lose radiators in the middle shell; with Thermos \
                 nothing passes its limit, without it the heat runs away."
            .to_owned(),
        kind: Kind::Shells,
        seed: 18_446_744_073_709_551_557,
        threads: 2,
        tiles: 1_000_000,
        simulated_seconds: f64::from(length),
        wall_seconds: 412.7,
        events: 1_284_556_201,
        events_per_second: 3_112_566.0,
        peak_rss_bytes: 1_911_000_000,
        history_hash: 0x00f3_5b1c_9a77_40d2_8e61_c2b4_a9f0_1d3e,
        complete: true,
        overrides: if thermos {
            vec![]
        } else {
            vec!["thermos.enabled=false".to_owned()]
        },
        command: format!(
            "cosmos twin run universes/five-shells.toml --seed 18446744073709551557{}",
            if thermos {
                ""
            } else {
                " --set thermos.enabled=false"
            }
        ),
        invariants: if thermos {
            [
                "no_thermal_runaway",
                "no_tile_above_limit",
                "no_false_removal",
                "locality",
                "detection",
                "energy_conserved",
                "loop_damped",
            ]
            .map(held)
            .to_vec()
        } else {
            vec![
                Invariant {
                    name: "no_thermal_runaway".to_owned(),
                    held: false,
                    first_violation: Some(Violation {
                        seconds: 5_480.0,
                        subject: "Earth".to_owned(),
                        found: 0.31,
                        bound: 0.0,
                        unit: "K/s".to_owned(),
                        text: "Earth warms by 0.31 K/s and faster every second: its leakage \
                               grows more than its radiators can take away."
                            .to_owned(),
                    }),
                },
                Invariant {
                    name: "no_tile_above_limit".to_owned(),
                    held: false,
                    first_violation: Some(Violation {
                        seconds: 5_620.0,
                        subject: "tile 289211".to_owned(),
                        found: 431.4,
                        bound: 430.0,
                        unit: "K".to_owned(),
                        text: "Tile 289211 in Earth cell 69 reached 431.4 K; its limit is 430 K."
                            .to_owned(),
                    }),
                },
                held("no_false_removal"),
                held("locality"),
                held("detection"),
                held("energy_conserved"),
                held("loop_damped"),
            ]
        },
        membership: Some(Membership {
            detection_seconds: Quantiles {
                p50: 2.4,
                p95: 4.9,
                p99: 6.8,
                max: 8.9,
            },
            failures: 5_132,
            undetected: 0,
            false_suspicions: 1_204,
            false_removals: 0,
            messages: 984_221_003,
            bytes_per_tile: 231.0,
        }),
        locality: Some(Locality {
            cell: 0.999_931,
            cluster: 0.999_992,
            region: 0.999_999,
            system: 1.0,
        }),
        bit_flips: None,
        leases: Vec::new(),
        operations: Vec::new(),
        trunks: Vec::new(),
        heat: Some(Heat {
            max_kelvin: 689.2,
            max_kelvin_over_limit: if thermos { -3.4 } else { 148.0 },
            max_load: if thermos { 0.94 } else { 1.19 },
            tiles_lost: if thermos { 0 } else { dark as u64 },
            overshoot: if thermos { 0.021 } else { f64::NAN },
            energy_error: 3.1e-9,
            budget_min: 0.62,
            throttled_tile_seconds: 6.1e8,
            work_tile_seconds: 7.4e11,
        }),
        os_overhead_fraction: Some(0.0061),
        faults: vec![
            Fault {
                kind: "radiator".to_owned(),
                injected: 70,
                fired: 70,
            },
            Fault {
                kind: "hard failure".to_owned(),
                injected: 5_140,
                fired: 5_132,
            },
            Fault {
                kind: "partition".to_owned(),
                injected: 2,
                fired: 0,
            },
        ],
        decisions: vec![
            count(Action::Place, Reason::BestScore, 4_120_331),
            count(Action::Throttle, Reason::Backpressure, 912_004),
            count(Action::Throttle, Reason::NearLimit, 88_120),
            count(Action::Release, Reason::PressureEased, 901_778),
            count(Action::Refuse, Reason::NoHeadroomOutward, 120_553),
            count(Action::Queue, Reason::NoCapacity, 40_211),
            count(Action::Migrate, Reason::HostLost, 4_870),
            count(
                Action::Darken,
                Reason::OverLimit,
                if thermos { 0 } else { dark as u64 },
            ),
            count(Action::Expire, Reason::Term, 3_981_226),
        ],
        site: None,
        replay: None,
        fleet: None,
        braid: None,
    };
    (summary, series)
}

/// A GPU site with four cooling loops, one of which fails; stopped by the user.
pub(crate) fn site() -> (Summary, Series) {
    let (loops, rows, racks, length) = (4_usize, 8_usize, 24_usize, 86_400.0_f32 * 3.0);
    let tiles = (rows / loops * racks * 64) as u64;
    let groups = (0..loops).map(|g| Group::new(format!("loop {}", g + 1), tiles, 363.15, 356.15));
    let holons = (0..rows).flat_map(|row| {
        (0..racks).map(move |rack| Holon {
            name: format!("row {} rack {}", row + 1, rack + 1),
            group: (row / (rows / loops)) as u32,
            x: rack as f32,
            y: row as f32,
        })
    });
    let map = Map::new(Layout::Rows, holons.collect());
    let mut series = Series::new(groups.collect(), Some(map));
    let failed = |g: usize, t: f32| {
        if g == 2 {
            ramp(t, 100_000.0, 101_000.0) - ramp(t, 160_000.0, 164_000.0)
        } else {
            0.0
        }
    };
    let day = |t: f32| 0.5 - 0.5 * (t / 86_400.0 * std::f32::consts::TAU).cos();
    for step in 0..=1_500_usize {
        let t = length * step as f32 / 1_500.0;
        let samples: Vec<_> = (0..loops)
            .map(|g| {
                let used = 0.55 + 0.38 * day(t) + 0.04 * noise(step / 6, g);
                let used = used * (1.0 - 0.55 * failed(g, t));
                let load = used * (0.86 + 0.7 * failed(g, t));
                let mean = 309.0 + 30.0 * load;
                Sample {
                    kelvin_mean: mean,
                    kelvin_max: mean + 11.0 + 2.0 * noise(step, g) + 8.0 * failed(g, t),
                    kelvin_p99: mean + 8.0,
                    load,
                    clock: 1.0 - 0.45 * failed(g, t),
                    utilisation: used.min(1.0),
                    dark: 6.0 * failed(g, t).ceil() + if t > 30_000.0 { 2.0 } else { 0.0 },
                    waiting: (40.0 * (day(t) - 0.55).max(0.0) + 300.0 * failed(g, t)).floor(),
                    budget: f32::NAN,
                    budget_min: f32::NAN,
                }
            })
            .collect();
        series.push(f64::from(t), &samples);
        if step % 10 == 0 {
            let kelvin = (0..rows * racks).map(|i| {
                let g = i / racks / (rows / loops);
                let used = 0.5 + 0.4 * day(t) + 0.25 * noise(i, step / 60);
                316.0 + 34.0 * used * (0.86 + 0.7 * failed(g, t) * (1.0 - 0.5 * failed(g, t)))
            });
            let dark = (0..rows * racks).map(|i| match i {
                117..=119 => failed(2, t).min(1.0),
                40 if t > 30_000.0 => 0.25,
                _ => 0.0,
            });
            let (kelvin, dark) = (kelvin.collect(), dark.collect());
            let seconds = f64::from(t);
            series.map_mut().unwrap().push(Frame {
                seconds,
                kelvin,
                dark,
            });
        }
    }
    series.note(30_000.0, "Power supply of row 2 rack 17 fails");
    series.note(100_000.0, "Loop 3 loses its pump");
    series.note(100_400.0, "First device throttles (row 5 rack 4)");
    series.note(160_000.0, "Loop 3 runs again");
    let count = DecisionCount::new;
    let summary = Summary {
        universe: "north-hall".to_owned(),
        intent: "What happens to a week of jobs if one of four cooling loops fails at noon?"
            .to_owned(),
        kind: Kind::Site,
        seed: 42,
        threads: 16,
        tiles: 4 * tiles,
        simulated_seconds: f64::from(length),
        wall_seconds: 8.21,
        events: 9_114_220,
        events_per_second: 1_110_136.4,
        peak_rss_bytes: 212_000_000,
        history_hash: 0x8e61_c2b4_a9f0_1d3e_00f3_5b1c_9a77_40d2,
        complete: false,
        overrides: vec!["faults.cooling_loop.at=100000s".to_owned()],
        command: "cosmos twin run universes/north-hall.toml --seed 42 --set \
                  faults.cooling_loop.at=100000s"
            .to_owned(),
        invariants: vec![
            held("no_tile_above_limit"),
            held("energy_conserved"),
            held("locality"),
        ],
        locality: Some(Locality {
            cell: 0.981,
            cluster: 0.999_97,
            region: 1.0,
            system: 1.0,
        }),
        heat: Some(Heat {
            max_kelvin: 361.2,
            max_kelvin_over_limit: -1.95,
            max_load: 0.97,
            ..Heat::default()
        }),
        os_overhead_fraction: Some(0.0142),
        faults: vec![Fault {
            kind: "cooling_loop".to_owned(),
            injected: 1,
            fired: 1,
        }],
        decisions: vec![
            count(Action::Place, Reason::BestScore, 18_220),
            count(Action::Queue, Reason::NoCapacity, 6_120),
            count(Action::Queue, Reason::NoHeadroomHere, 2_240),
            count(Action::Refuse, Reason::Impossible, 31),
            count(Action::Throttle, Reason::Backpressure, 3_070),
        ],
        site: Some(Site {
            utilisation: 0.713,
            gpu_allocated_fraction: 0.846,
            waiting_seconds: Quantiles {
                p50: 42.0,
                p95: 3_480.0,
                p99: 9_900.0,
                max: 31_000.0,
            },
            waiting: 149,
            waiting_at_least_seconds: Quantiles {
                p50: 43.0,
                p95: 3_700.0,
                p99: 10_200.0,
                max: 31_000.0,
            },
            arrived: 18_400,
            placed: 18_220,
            refused: 31,
            finished: 17_902,
            lost: 6,
            throttled_device_seconds: 1.84e7,
            device_max_kelvin: 361.2,
            loop_overload_seconds: 1_240.0,
        }),
        replay: None,
        ..Summary::default()
    };
    (summary, series)
}

/// One cell of 1,000 tiles, of which a twentieth is lost at once.
pub(crate) fn cell() -> (Summary, Series) {
    let grid = wire::Hexagons::of(1_000).unwrap();
    let holons = (0..grid.tiles()).map(|i| Holon {
        name: String::new(),
        group: 0,
        x: (i % grid.columns()) as f32,
        y: (i / grid.columns()) as f32,
    });
    let map = Map::new(Layout::Hexagons, holons.collect());
    let mut series = Series::new(vec![Group::new("cell 0", 1_000, 370.0, 352.0)], Some(map));
    for step in 0..=300_usize {
        let t = step as f32;
        let burst = ramp(t, 120.0, 121.0);
        let mean = 318.0 + 14.0 * ramp(t, 0.0, 60.0) + 6.0 * burst + 0.4 * noise(step, 3);
        series.push(
            f64::from(t),
            &[Sample {
                kelvin_mean: mean,
                kelvin_max: mean + 16.0 + 2.0 * noise(step, 4),
                load: 0.6 + 0.1 * burst,
                clock: 1.0,
                dark: 50.0 * burst,
                ..Sample::UNKNOWN
            }],
        );
        if step % 5 == 0 {
            let dark = |i: usize| burst > 0.5 && noise(i, 77) > 0.9;
            let kelvin = (0..1_000).map(|i| {
                let (x, y) = ((i % 40) as f32 / 40.0, (i / 40) as f32 / 25.0);
                let warm = (x * 6.3 + t / 40.0).sin() * (y * 6.3).cos();
                if dark(i) {
                    f32::NAN
                } else {
                    mean + 9.0 * warm + 3.0 * noise(i, 5)
                }
            });
            let gone = (0..1_000).map(|i| f32::from(u8::from(dark(i))));
            let (kelvin, dark) = (kelvin.collect(), gone.collect());
            let seconds = f64::from(t);
            series.map_mut().unwrap().push(Frame {
                seconds,
                kelvin,
                dark,
            });
        }
    }
    series.note(120.0, "50 tiles fail at once");
    let summary = Summary {
        universe: "burst in one cell".to_owned(),
        intent: "One tile in twenty fails at the same moment; all of it is known within 10 s."
            .to_owned(),
        kind: Kind::Shells,
        seed: 7,
        threads: 1,
        tiles: 1_000,
        simulated_seconds: 300.0,
        wall_seconds: 0.92,
        events: 1_204_000,
        events_per_second: 1_308_000.0,
        peak_rss_bytes: 14_200_000,
        history_hash: 7,
        complete: true,
        command: "cosmos twin run universes/burst.toml --seed 7".to_owned(),
        invariants: vec![
            held("no_false_removal"),
            Invariant {
                name: "detection".to_owned(),
                held: false,
                first_violation: Some(Violation {
                    seconds: 132.4,
                    subject: "tile 871".to_owned(),
                    found: 12.4,
                    bound: 10.0,
                    unit: "s".to_owned(),
                    text: "The failure of tile 871 was known in its cell after 12.4 s; 10 s are \
                           allowed."
                        .to_owned(),
                }),
            },
        ],
        membership: Some(Membership {
            detection_seconds: Quantiles {
                p50: 2.1,
                p95: 4.8,
                p99: 11.9,
                max: 12.4,
            },
            failures: 50,
            false_suspicions: 3,
            messages: 1_180_000,
            bytes_per_tile: 512.0,
            ..Membership::default()
        }),
        faults: vec![Fault {
            kind: "burst".to_owned(),
            injected: 1,
            fired: 1,
        }],
        ..Summary::default()
    };
    (summary, series)
}
