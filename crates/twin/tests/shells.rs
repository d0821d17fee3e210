//! Shells of tiles through their public face: small universes, whole runs.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use telemetry::{Action, Decision, Reason};
use twin::observer::{Nobody, Observer, Progress};
use twin::record::Metric;
use twin::record::summary::{Fault, Invariant};
use twin::rehearsal::{Outcome, Request, Universe, simulate};
use twin::universe::{Document, Override, Reference};
use wire::Instant;

/// One cell in which everything happens, quickly.
const CELL: &str = r#"
name = "cell"
intent = "A hundred tiles watch each other, work, warm up and fail."
kind = "shells"

[time]
end = "60 s"
sample = "2 s"

[holons]
tiles_per_cell = 100

[[shell]]
name = "cell"
distance = "1 AU"
limit = "370 K"
throttle = "360 K"
initial = "330 K"
radiator = "1.5 m^2"
heat_capacity = "1 kJ/K"
idle = "100 W"
dynamic = "900 W"
neighbour_conductance = "2 W/K"
leakage = { power = "40 W", reference = "320 K", e_fold = "30 K" }

[heat]
step = "1 s"

[thermos]
period = "2 s"

[membership]
period = "1 s"

[links]
delay_min = "2 ms"
delay_max = "20 ms"
loss = "1 %"

[[work]]
kind = "hot"
utilisation = "60 %"
shards = 10
activity = 0.9
term = "20 s"
priority = 1

[[fault]]
kind = "burst"
at = "20 s"
share = "5 %"
"#;

/// Two shells of two cells each, 30 light-seconds apart. Outside, the radiators
/// cannot carry what both shells make at full load, and leakage grows fast enough
/// that one lost tile's work is too much for the next.
const SHELLS: &str = r#"
name = "shells"
intent = "The outer of two shells cannot carry what both make at full load."
kind = "shells"

[time]
end = "40 min"
sample = "20 s"

[holons]
tiles_per_cell = 25
cells_per_cluster = 2

[[shell]]
name = "inner"
distance = "1 AU"
limit = "400 K"
throttle = "390 K"
initial = "340 K"
radiator = "1.2 m^2"
heat_capacity = "2 kJ/K"
idle = "100 W"
dynamic = "900 W"
neighbour_conductance = "2 W/K"

[[shell]]
name = "outer"
distance = "1.06 AU"
limit = "360 K"
throttle = "353 K"
initial = "335 K"
radiator = "2 m^2"
heat_capacity = "3 kJ/K"
idle = "100 W"
dynamic = "900 W"
neighbour_conductance = "2 W/K"
coverage = "80 %"
leakage = { power = "40 W", reference = "320 K", e_fold = "20 K" }

[heat]
step = "2 s"

[thermos]
period = "10 s"

[[work]]
kind = "hot"
shells = [1]
utilisation = "95 %"
shards = 4
activity = 1.0
term = "4 min"
priority = 1

[[work]]
kind = "cold"
shells = [2]
utilisation = "95 %"
shards = 4
activity = 1.0
term = "4 min"

[[fault]]
kind = "radiators"
at = "10 min"
shell = 2
share = "20 %"
remaining = "60 %"

[failures]
rate = "1000 /year"
"#;

/// A piece of work has the line to itself for half a minute.
const BUSY_TRUNKS: &[&str] = &[
    "trunks.rate=100 Mbit/s",
    "trunks.state=100 MB",
    "work.1.kind=hot",
    "work.1.priority=1",
];

fn universe(text: &str, settings: &[&str]) -> Universe {
    let settings: Vec<Override> = (settings.iter())
        .map(|setting| setting.parse().expect("a setting"))
        .collect();
    Document::parse("test.toml", text, &settings)
        .and_then(|document| Universe::read(&document))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn request(seed: u64, threads: usize) -> Request {
    Request {
        seed,
        threads,
        out: None,
        overrides: Vec::new(),
        command: String::new(),
        replay: None,
        inputs: None,
    }
}

fn run(text: &str, settings: &[&str]) -> Outcome {
    simulate(universe(text, settings), &request(1, 2), &mut Nobody)
}

/// The universe that newcomers run first, as it stands. With other seeds a tile may die within the seconds after the partition has healed, while
/// everybody's news queues, and be known too late: the sixth is one.
//= requirements M1
//= requirements M4
#[test]
fn the_cell_that_is_shipped_holds_everything_with_each_of_the_first_seeds() {
    let text = include_str!("../../../universes/cell.toml");
    for seed in 1..=3 {
        let outcome = simulate(universe(text, &[]), &request(seed, 2), &mut Nobody);
        assert_eq!(broken(&outcome), Vec::<&str>::new(), "seed {seed}");
        for kind in ["burst", "partition", "bit flips in messages"] {
            assert!(fault(&outcome, kind).fired > 0, "seed {seed}: {kind}");
        }
    }
}

#[test]
fn what_no_tile_can_be_and_what_would_take_for_ever_is_refused() {
    for (setting, found) in [
        ("shell.0.radiator=1e300m^2", "radiator"),
        ("shell.0.heat_capacity=1e-9J/K", "heat_capacity"),
        ("shell.0.sky=1e9K", "sky"),
        (
            "shell.0.neighbour_conductance=1e9W/K",
            "9000000 steps of the model",
        ),
    ] {
        let setting: Override = setting.parse().expect("a setting");
        let read = Document::parse("test.toml", CELL, &[setting]);
        let problems = match read.and_then(|document| Universe::read(&document)) {
            Err(problems) => problems.to_string(),
            Ok(_) => panic!("{found} was believed"),
        };
        assert!(problems.contains(found), "{problems}");
    }
}

fn invariant<'a>(outcome: &'a Outcome, name: &str) -> &'a Invariant {
    let mut all = outcome.summary.invariants.iter();
    all.find(|i| i.name == name)
        .unwrap_or_else(|| panic!("{name} was not looked at"))
}

fn broken(outcome: &Outcome) -> Vec<&str> {
    let broken = outcome.summary.invariants.iter().filter(|i| !i.held);
    broken.map(|i| i.name.as_str()).collect()
}

fn fault<'a>(outcome: &'a Outcome, kind: &str) -> &'a Fault {
    let mut faults = outcome.summary.faults.iter();
    faults
        .find(|f| f.kind == kind)
        .unwrap_or_else(|| panic!("no fault is called {kind}"))
}

fn decided(outcome: &Outcome, action: Action, reason: Reason) -> u64 {
    let (action, reason) = (action.name(), reason.name());
    (outcome.summary.decisions.iter())
        .filter(|d| (d.action.as_str(), d.reason.as_str()) == (action, reason))
        .map(|d| d.count)
        .sum()
}

/// A metric of one shell over time.
fn column(outcome: &Outcome, shell: usize, metric: Metric) -> &[f32] {
    outcome.series.groups()[shell].column(metric)
}

/// For one cell: which tiles are dark at the last sample before an instant.
fn dark_tiles(outcome: &Outcome, seconds: f64) -> Vec<usize> {
    let frames = outcome.series.map().expect("a cell has a map").frames();
    let frame = frames.iter().rfind(|frame| frame.seconds <= seconds);
    let dark = &frame.expect("a frame").dark;
    (0..dark.len()).filter(|&tile| dark[tile] > 0.0).collect()
}

//= requirements W1
#[test]
fn a_history_depends_on_the_seed_and_not_on_threads() {
    for (text, settings) in [
        (CELL, &[][..]),
        (CELL, FLIPS),
        (SHELLS, &["time.end=10min", "membership.period=5s"]),
        (SHELLS, BUSY_TRUNKS),
    ] {
        let hash = |seed, threads| {
            let outcome = simulate(
                universe(text, settings),
                &request(seed, threads),
                &mut Nobody,
            );
            assert!(outcome.summary.complete);
            outcome.summary.history_hash
        };
        let first = hash(1, 1);
        for threads in [1, 2, 3] {
            assert_eq!(hash(1, threads), first, "{threads} threads");
        }
        assert_ne!(hash(2, 1), first);
    }
}

//= requirements W1
#[test]
fn everything_told_of_a_run_but_its_cost_is_the_same_for_any_number_of_threads() {
    let told = |threads| {
        let settings = ["time.end=10min", "membership.period=5s"];
        let outcome = simulate(
            universe(SHELLS, &settings),
            &request(1, threads),
            &mut Nobody,
        );
        let mut summary = outcome.summary;
        summary.threads = 0;
        (summary.wall_seconds, summary.events_per_second) = (0.0, 0.0);
        (summary.peak_rss_bytes, summary.os_overhead_fraction) = (0, None);
        // Through JSON and text, because a gap in a chart is NaN.
        (summary.to_json(), format!("{:?}", outcome.series))
    };
    assert_eq!(told(1), told(3));
}

//= requirements U3
//= requirements H1
//= requirements H5
#[test]
fn without_thermos_shells_run_away_and_with_it_none_does_under_the_same_faults() {
    let without = run(SHELLS, &["thermos.enabled=false"]);
    let with = run(SHELLS, &[]);

    let lost = without.summary.heat.expect("heat was modelled").tiles_lost;
    assert!(lost > 25, "{lost} of 100");
    let broken_without = broken(&without);
    for name in ["no_thermal_runaway", "no_tile_above_limit"] {
        assert!(broken_without.contains(&name), "{broken_without:?}");
    }
    let passed = invariant(&without, "no_tile_above_limit");
    let passed = passed.first_violation.as_ref().expect("it failed");
    assert!(passed.subject.starts_with("tile "), "{passed:?}");
    assert!(passed.found >= passed.bound && passed.bound > 300.0);
    let runaway = invariant(&without, "no_thermal_runaway");
    let runaway = runaway.first_violation.as_ref().expect("it failed");
    assert!(runaway.found > runaway.bound, "{runaway:?}");
    assert!(runaway.seconds >= passed.seconds, "one tile comes first");
    assert_eq!(
        decided(&without, Action::Darken, Reason::OverLimit),
        lost,
        "each says why"
    );
    // It does not stop at one: the tiles that are left take over the work.
    let dark = column(&without, 1, Metric::Dark);
    let most = dark.last().copied().expect("a sample");
    let steps = dark.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(most > 3.0 && steps > 2, "{dark:?}");

    assert_eq!(broken(&with), [""; 0]);
    let heat = with.summary.heat.expect("heat was modelled");
    assert_eq!(heat.tiles_lost, 0);
    assert!(heat.max_kelvin_over_limit < 0.0, "{heat:?}");
    assert!(heat.work_tile_seconds > 0.0 && heat.throttled_tile_seconds > 0.0);

    for (a, b) in with.summary.faults.iter().zip(&without.summary.faults) {
        assert_eq!((&a.kind, a.injected), (&b.kind, b.injected));
    }
    let radiators = fault(&with, "radiators");
    assert!(radiators.injected > 0 && radiators.fired == radiators.injected);
}

//= requirements S1
//= requirements S2
#[test]
fn leases_are_held_to_their_service_level_and_tiles_to_their_own_word() {
    let leases = |outcome: &Outcome| {
        let [latency, best_effort] = &outcome.summary.leases[..] else {
            panic!("{:?}", outcome.summary.leases)
        };
        assert_eq!(latency.level, "latency-sensitive");
        let breached = decided(outcome, Action::Breach, Reason::ServiceLevel);
        assert_eq!(breached, latency.breached + best_effort.breached);
        [latency, best_effort].map(|l| (l.ended, l.breached))
    };
    // Work by the hour keeps a cell's own pace: none is late but what was lost.
    let [calm, none] = leases(&run(CELL, &["fault.0.share=0", "work.0.activity=0.4"]));
    assert!(calm.0 > 5 && calm.1 == 0, "{calm:?}");
    assert_eq!(none, (0, 0));
    // Shells that slow down for others keep less than they promise, and more the less they promise.
    let [pressed, _] = leases(&run(SHELLS, &["thermos.admission=false"]));
    assert!(pressed.1 > 0 && pressed.0 > pressed.1, "{pressed:?}");
    let humble = ["thermos.admission=false", "work.0.promised=10%"];
    let [humble, _] = leases(&run(SHELLS, &humble));
    assert!(humble.1 < pressed.1, "{humble:?} and {pressed:?}");
    let [hot, cold] = leases(&run(SHELLS, &["work.0.service=best effort"]));
    assert_eq!(hot, (0, 0));
    assert!(cold.0 > 0, "{cold:?}");

    // Two pieces never share a tile whose memory one of them fills, and none comes to where it
    // finds no room at all.
    let memory = |asked: &str| {
        let asked = format!("work.0.memory={asked}");
        let settings = ["shell.0.memory=1 GiB", "work.0.activity=0.4"];
        run(
            CELL,
            &[&settings[..], &["work.0.utilisation=300%", &asked]].concat(),
        )
    };
    let busiest = |outcome: &Outcome| {
        let utilisation = column(outcome, 0, Metric::Utilisation);
        utilisation.iter().copied().fold(0.0, f32::max)
    };
    let (shared, alone) = (memory("512 MiB"), memory("513 MiB"));
    assert!(busiest(&alone) < 0.4 + 1e-3, "{}", busiest(&alone));
    assert!(busiest(&shared) > busiest(&alone), "{}", busiest(&shared));
    let none = memory("2 GiB");
    assert_eq!(busiest(&none), 0.0);
    assert!(decided(&none, Action::Refuse, Reason::Impossible) > 5);
}

/// A technology whose operations would cost a little less than what erasing their bits does.
//= requirements H8
#[test]
fn where_landauer_sets_the_price_of_operations_warm_tiles_draw_more_and_reversible_ones_do_not() {
    let told = |settings: &[&str]| {
        let outcome = run(CELL, settings);
        assert_eq!(outcome.summary.operations.len(), 1);
        let drawn = column(&outcome, 0, Metric::KelvinMean).to_vec();
        (outcome.summary.operations[0].clone(), drawn)
    };
    let settings = |energy, reversible| {
        let operation = format!("shell.0.operation={{energy='{energy}', reversible={reversible}}}");
        [operation, "work.0.activity=0.5".to_owned()]
    };
    let told = |energy, reversible| {
        let settings = settings(energy, reversible);
        told(&settings.each_ref().map(String::as_str))
    };
    let (plain, cool) = told("0.7 pJ", 0.0);
    assert!((1e6..1e8).contains(&plain.times_least), "{plain:?}");
    let (bound, warm) = told("0.04 aJ", 0.0);
    // 16 bits at some 340 K are 5.2e-20 J.
    assert!((bound.times_least - 1.0).abs() < 1e-3, "{bound:?}");
    assert!(bound.joules > 1.2 * 4e-20, "{bound:?}");
    assert!(warm.iter().zip(&cool).all(|(warm, cool)| warm >= cool));
    assert!(
        warm[10] > cool[10] + 0.2,
        "{} K and {} K",
        warm[10],
        cool[10]
    );
    // With half of them done reversibly the technology sets the price again, to the last bit.
    let (half, as_cool) = told("0.04 aJ", 0.5);
    assert_eq!(as_cool, cool);
    assert!(half.times_least > 1.2, "{half:?}");
    let (free, as_cool) = told("0.04 aJ", 1.0);
    assert!(
        free.times_least.is_nan() && free.least_joules == 0.0,
        "{free:?}"
    );
    assert_eq!(as_cool, cool);
}

fn of_the_repository(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes");
    fs::read_to_string(folder.join(name)).expect("it can be read")
}

/// All work is let in from the beginning and stays: admission has nothing to refuse.
//= requirements H3
//= requirements H4
#[test]
fn the_loop_saves_tiles_when_admission_comes_too_late() {
    let text = of_the_repository("backpressure.toml");
    let mut migrated = Vec::new();
    let mut watch = Decided(|decision: &Decision| {
        if (decision.action, decision.reason) == (Action::Migrate, Reason::Backpressure) {
            migrated.push(*decision);
        }
    });
    let with = simulate(universe(&text, &[]), &request(1, 2), &mut watch);
    let without = run(&text, &["thermos.gain=0/h"]);
    let lost = |outcome: &Outcome| outcome.summary.heat.expect("heat was modelled").tiles_lost;
    assert_eq!((broken(&with), lost(&with)), (vec![], 0));
    assert!(lost(&without) > 10, "{}", lost(&without));
    assert!(broken(&without).contains(&"no_thermal_runaway"));
    assert_eq!(
        fault(&with, "radiators"),
        fault(&without, "radiators"),
        "the same fault"
    );

    // Priority work moves inward, and only that, while the budget is below the bound.
    assert!(!migrated.is_empty());
    assert!(migrated.iter().all(|d| d.found < d.bound), "{migrated:?}");
    let throttles = decided(&with, Action::Throttle, Reason::Backpressure);
    assert_eq!(throttles, 10, "each inner cell slows down once");
    assert_eq!(decided(&without, Action::Throttle, Reason::Backpressure), 0);

    // An operator sees it: full before, low after, on its way back up at the end.
    let strikes = 2.0 * 86_400.0;
    for shell in 0..2 {
        let budget = column(&with, shell, Metric::Budget);
        let lowest = column(&with, shell, Metric::BudgetMin);
        for (&at, (&mean, &low)) in with.series.seconds().iter().zip(budget.iter().zip(lowest)) {
            assert!(low <= mean + 1e-6);
            assert!(at > strikes || mean > 0.99, "{mean} at {at} s");
        }
        let least = budget.iter().copied().fold(1.0, f32::min);
        assert!(least < 0.7, "shell {shell}: {least}");
        assert!(*budget.last().expect("a sample") > least);
        let still = column(&without, shell, Metric::Budget);
        assert!(still.iter().all(|&budget| budget == 1.0));
    }
    let outermost = column(&with, 2, Metric::Budget);
    assert!(outermost.iter().all(|b| b.is_nan()), "nobody lies outside");
    let heat = with.summary.heat.expect("heat was modelled");
    assert!(heat.budget_min < 0.7, "{}", heat.budget_min);
}

/// `matroska` at a thousandth of its size, its sample cell of membership included.
//= requirements H5
#[test]
fn a_small_matroska_bears_the_loss_of_a_tenth_of_a_shells_radiators() {
    let text = of_the_repository("matroska.toml");
    let small = [
        "holons.cells_per_cluster=1",
        "holons.clusters_per_region=1",
        "membership.period=10min",
        "membership.suspicion_min=20min",
        "membership.suspicion_max=40min",
        "membership.gossip_interval=2min",
        "bounds.detection_p99=5h",
        // With so few probes, news between shells is more of what is sent.
        "bounds.locality=0.9",
    ];
    let with = run(&text, &small);
    let off = [&small[..], &["thermos.enabled=false"]].concat();
    let without = run(&text, &off);
    assert_eq!(broken(&with), [""; 0]);
    let heat = with.summary.heat.expect("heat was modelled");
    assert_eq!(heat.tiles_lost, 0);
    assert!(heat.budget_min < 0.9, "the loop had to act: {heat:?}");
    assert!(broken(&without).contains(&"no_thermal_runaway"));
    assert_eq!(fault(&with, "radiators"), fault(&without, "radiators"));
}

#[test]
fn the_same_tiles_fail_at_the_same_time_whatever_the_policy() {
    let cool = ["shell.0.initial=300K", "shell.0.radiator=4m^2"];
    let failures = ["failures.rate=0.01/s", "membership.gossip_interval=1s"];
    let with = |thermos| {
        let settings = [&[thermos][..], &cool, &failures].concat();
        run(CELL, &settings)
    };
    let (on, off) = (with("thermos.enabled=true"), with("thermos.enabled=false"));
    for seconds in [10.0, 30.0, 60.0] {
        let dark = dark_tiles(&on, seconds);
        assert!(!dark.is_empty());
        assert_eq!(dark, dark_tiles(&off, seconds), "at {seconds} s");
    }
    for kind in ["burst", "failures"] {
        assert!(fault(&on, kind).fired > 0);
        assert_eq!(fault(&on, kind), fault(&off, kind));
    }
}

#[test]
fn a_fault_added_to_a_universe_does_not_move_the_others() {
    let more = format!("{CELL}\n[[fault]]\nkind = \"burst\"\nat = \"50 s\"\nshare = \"20 %\"\n");
    let (one, two) = (run(CELL, &[]), run(&more, &[]));
    let first = dark_tiles(&one, 40.0);
    assert!(!first.is_empty());
    assert_eq!(first, dark_tiles(&two, 40.0));
    assert!(dark_tiles(&two, 60.0).len() > first.len());
}

//= requirements H1
#[test]
fn tiles_that_lose_their_radiators_slow_down_and_stay() {
    let text = CELL.replace(
        "[[fault]]\nkind = \"burst\"\nat = \"20 s\"\nshare = \"5 %\"",
        "",
    );
    let text = format!(
        "{text}\n[[fault]]\nkind = \"radiators\"\nat = \"30 s\"\nshell = 1\nshare = \"30 %\"\n\
         remaining = \"25 %\"\n"
    );
    let full = ["work.0.utilisation=100%", "time.end=5min", "links.loss=0"];
    let whole = run(&CELL.replace("share = \"5 %\"", "share = 0.0"), &full);
    assert_eq!(broken(&whole), [""; 0]);
    let outcome = run(&text, &full);
    assert_eq!(broken(&outcome), [""; 0]);
    let radiators = fault(&outcome, "radiators");
    assert!((10..60).contains(&radiators.fired), "{radiators:?}");
    assert_eq!(radiators.fired, radiators.injected);
    let throttled = |outcome: &Outcome| {
        let heat = outcome.summary.heat.expect("heat was modelled");
        heat.throttled_tile_seconds
    };
    assert!(throttled(&outcome) > throttled(&whole));
    assert!(decided(&outcome, Action::Throttle, Reason::NearLimit) >= radiators.fired / 2);
    let frames = outcome.series.map().expect("a cell has a map").frames();
    let mut last = frames.last().expect("a frame").kelvin.clone();
    last.sort_by(f32::total_cmp);
    assert!(last[99] > last[0] + 10.0, "{last:?}");
}

#[test]
fn the_books_of_heat_balance() {
    for (text, settings) in [
        (CELL, &[][..]),
        (SHELLS, &[]),
        (SHELLS, &["thermos.enabled=false"]),
    ] {
        let outcome = run(text, settings);
        let heat = outcome.summary.heat.expect("heat was modelled");
        assert!(heat.energy_error <= 1e-6, "{}", heat.energy_error);
        assert!(invariant(&outcome, "energy_conserved").held);
    }
    let strict = run(CELL, &["bounds.energy_error=0.0"]);
    let error = invariant(&strict, "energy_conserved");
    let error = error.first_violation.as_ref().expect("nothing is exact");
    assert_eq!(error.subject, "cell");
}

/// Heat that leaves a shell warms the next one a light time later, and only then.
#[test]
fn light_carries_heat_outward_and_no_sooner_than_it_travels() {
    let quiet = [
        "failures.rate=0/s",
        "time.end=4min",
        "time.sample=2s",
        "fault.0.at=1min",
        "fault.0.share=0.0",
        "work.1.utilisation=0.0",
        "work.0.constant=true",
        "work.0.shards=25",
        "thermos.enabled=false",
    ];
    let hot = run(SHELLS, &quiet);
    let cold = run(SHELLS, &[&quiet[..], &["work.0.activity=0.0"]].concat());
    let warmer = |shell| {
        let means = [&hot, &cold].map(|o| column(o, shell, Metric::KelvinMean));
        let differs = (means[0].iter().zip(means[1])).position(|(a, b)| a != b);
        hot.series.seconds()[differs.expect("it warms up")]
    };
    let light_seconds = 0.06 * 499.004_78;
    let delay = warmer(1) - warmer(0);
    assert!(
        (light_seconds - 2.0..=light_seconds + 6.0).contains(&delay),
        "{delay}"
    );
}

//= requirements H2
#[test]
fn work_is_refused_whose_heat_the_shell_outside_cannot_take() {
    // Outside it is as good as full from its own work; inside there is all the room.
    let outer_full = [
        "work.1.utilisation=150%",
        "shell.0.radiator=4m^2",
        "time.end=20min",
        "failures.rate=0/s",
        "fault.0.share=0.0",
    ];
    let with = run(SHELLS, &outer_full);
    let turned_away = |outcome: &Outcome| {
        [Action::Refuse, Action::Queue, Action::Migrate]
            .map(|action| decided(outcome, action, Reason::NoHeadroomOutward))
            .iter()
            .sum::<u64>()
    };
    assert!(turned_away(&with) > 0, "{:?}", with.summary.decisions);
    let without = run(
        SHELLS,
        &[&outer_full[..], &["thermos.admission=false"]].concat(),
    );
    assert_eq!(turned_away(&without), 0);
    let busy = |outcome: &Outcome| {
        let column = column(outcome, 0, Metric::Utilisation);
        f64::from(column.iter().sum::<f32>()) / column.len() as f64
    };
    assert!(
        busy(&with) < 0.8 * busy(&without),
        "{} and {}",
        busy(&with),
        busy(&without)
    );
}

//= requirements M1
//= requirements H7
#[test]
fn throttle_signals_overtake_the_work_that_moves() {
    let outcome = run(SHELLS, BUSY_TRUNKS);
    let class = |name| {
        let trunk = outcome.summary.trunks.iter().find(|t| t.class == name);
        *trunk.expect("every class is told of")
    };
    let (signals, work) = (class('A'), class('D'));
    assert!(work.sent > 5, "{work:?}");
    assert!(work.waited_max_seconds > 20.0, "{work:?}");
    // One frame of 1,280 bytes at 100 Mbit/s.
    assert!(signals.sent > 100, "{signals:?}");
    assert!(signals.waited_max_seconds > 0.0, "{signals:?}");
    assert!(
        signals.waited_max_seconds <= 1_280.0 * 8.0 / 100e6,
        "{signals:?}"
    );
    assert!(invariant(&outcome, "no_thermal_runaway").held);

    let unlimited = run(SHELLS, &[]);
    assert!(unlimited.summary.trunks.is_empty());
}

#[test]
fn failures_are_known_in_time_and_messages_to_the_dead_are_counted() {
    let outcome = run(CELL, &[]);
    let membership = outcome.summary.membership.expect("it ran");
    assert!(membership.failures > 0);
    assert_eq!(membership.undetected, 0);
    assert_eq!(membership.false_removals, 0);
    let detection = membership.detection_seconds;
    assert!(detection.p50 > 0.5, "nobody knows at once: {detection:?}");
    assert!(detection.p99 < 10.0 && detection.p50 <= detection.p99);
    assert!(invariant(&outcome, "detection").held);
    for kind in ["burst", "message loss", "messages in flight"] {
        assert!(fault(&outcome, kind).fired > 0, "{kind}");
    }
    assert_eq!(fault(&outcome, "burst").fired, membership.failures);

    let hasty = run(CELL, &["bounds.detection_p99=1s"]);
    let late = invariant(&hasty, "detection");
    let late = late
        .first_violation
        .as_ref()
        .expect("a second is too short");
    assert_eq!((late.found, late.bound), (detection.p99, 1.0));
}

#[test]
fn a_slow_membership_is_given_the_time_its_own_timeouts_take() {
    let slow = [
        "membership.period=1 min",
        "bounds.detection_p99=20 min",
        "time.end=40 min",
        "time.sample=1 min",
        "fault.0.at=5 min",
    ];
    let early = run(CELL, &slow);
    let failed = fault(&early, "burst").fired;
    let membership = early.summary.membership.as_ref().expect("it ran");
    assert!(failed > 0);
    assert_eq!((membership.failures, membership.undetected), (failed, 0));
    assert!(membership.detection_seconds.p50 > 60.0, "{membership:?}");
    assert!(invariant(&early, "detection").held);

    // Nobody was asked yet: no reason to say that nobody noticed.
    let late = run(CELL, &[&slow[..], &["fault.0.at=38 min"]].concat());
    assert_eq!(fault(&late, "burst").fired, failed);
    let membership = late.summary.membership.as_ref().expect("it ran");
    assert_eq!((membership.failures, membership.undetected), (0, 0));
    assert!(invariant(&late, "detection").held, "{late:?}");
}

#[test]
fn nothing_is_lost_where_no_link_loses_and_nobody_fails() {
    let calm = [
        "links.loss=0",
        "fault.0.share=0.0",
        "work.0.utilisation=10%",
    ];
    let outcome = run(CELL, &calm);
    assert_eq!(broken(&outcome), [""; 0]);
    let membership = outcome.summary.membership.expect("it ran");
    assert_eq!((membership.failures, membership.false_suspicions), (0, 0));
    assert!(membership.messages > 100 * 60);
    let fired = |fault: &Fault| (fault.kind.clone(), fault.fired);
    let fired: Vec<_> = outcome.summary.faults.iter().map(fired).collect();
    assert_eq!(
        fired,
        [
            ("burst".to_owned(), 0),
            ("messages in flight".to_owned(), 0)
        ]
    );
}

const FLIPS: &[&str] = &[
    "bit_flips.messages=2%",
    "bit_flips.corrected=40 /h",
    "bit_flips.uncorrectable=4 /h",
];

//= requirements M4
//= requirements K2
#[test]
fn bits_that_flip_are_refused_corrected_or_the_end_of_their_tile() {
    let flipped = run(CELL, FLIPS);
    let flips = flipped.summary.bit_flips.expect("bits flip");
    assert!(flips.undecodable > 0 && flips.untrue > 0, "{flips:?}");
    assert_eq!(flips.arrived, flips.undecodable + flips.untrue);
    assert_eq!(flips.believed, 0);
    assert!(
        flips.corrected_met > 20 && flips.corrected_max > 1,
        "{flips:?}"
    );
    for kind in [
        "bit flips in messages",
        "bit flips corrected",
        "bit flips beyond correction",
    ] {
        let Fault {
            injected, fired, ..
        } = *fault(&flipped, kind);
        assert!(
            fired > 0 && fired <= injected,
            "{kind}: {fired} of {injected}"
        );
    }
    // The tile knows by its memory, and all others as they know of any death.
    let darkened = decided(&flipped, Action::Darken, Reason::MemoryCorrupt);
    assert_eq!(darkened, flips.uncorrectable_met);
    let plain = run(CELL, &[]);
    let members = |outcome: &Outcome| outcome.summary.membership.expect("it ran");
    let more = members(&flipped).failures - members(&plain).failures;
    assert!(more > 0 && more <= darkened, "{more} of {darkened}");
    assert_eq!(members(&flipped).undetected, 0);
    assert_eq!(
        flipped.summary.heat.expect("heat was modelled").tiles_lost,
        0,
        "no heat did that"
    );
    assert_eq!(broken(&flipped), [""; 0]);
    // Drawn apart from all else.
    assert_eq!(
        fault(&flipped, "burst").injected,
        fault(&plain, "burst").injected
    );
    assert!(plain.summary.bit_flips.is_none());
}

//= requirements M4
#[test]
fn without_tags_flipped_messages_are_believed_and_the_checker_says_so() {
    let settings = [FLIPS, &["membership.authenticate=false"]].concat();
    let trusting = run(CELL, &settings);
    let flips = trusting.summary.bit_flips.expect("bits flip");
    assert!(flips.believed > 0 && flips.untrue == 0, "{flips:?}");
    let checked = invariant(&trusting, "no_flipped_message_believed");
    let violation = checked.first_violation.as_ref().expect("it is broken");
    assert!(violation.subject.starts_with("tile "), "{violation:?}");
    assert_eq!(violation.found, flips.believed as f64);
}

#[test]
fn a_partition_loses_messages_and_is_no_reason_to_call_anybody_wrong() {
    let text = CELL.replace(
        "kind = \"burst\"\nat = \"20 s\"\nshare = \"5 %\"",
        "kind = \"partition\"\nat = \"20 s\"\nlasts = \"10 s\"\nshare = 1.0",
    );
    let outcome = run(&text, &["time.end=35s"]);
    assert_eq!(fault(&outcome, "partition").fired, 1);
    assert!(fault(&outcome, "messages in flight").fired > 100);
    let membership = outcome.summary.membership.expect("it ran");
    assert_eq!(membership.failures, 0, "who cannot be heard has not failed");
}

//= requirements U2
#[test]
fn messages_stay_near_and_the_bound_is_held_against_what_was_counted() {
    let settings = [
        "time.end=4min",
        "membership.period=1s",
        "fault.0.at=1min",
        "bounds.locality=99%",
    ];
    let outcome = run(SHELLS, &settings);
    let locality = outcome.summary.locality.expect("membership ran");
    assert!(invariant(&outcome, "locality").held, "{locality:?}");
    // Only light between shells leaves a region, and there is some.
    assert!(locality.cell < 1.0 && locality.cell > 0.99, "{locality:?}");
    assert_eq!(locality.cell, locality.region);
    assert_eq!(locality.system, 1.0);
    let strict = run(SHELLS, &[&settings[..], &["bounds.locality=1.0"]].concat());
    let failed = invariant(&strict, "locality").first_violation.as_ref();
    assert_eq!(failed.expect("too strict").found, locality.cluster);
}

/// Keeps what happened, by kind.
#[derive(Default)]
struct Diary(Vec<(Instant, &'static str, Option<u64>)>);

impl Observer for Diary {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn decision(&mut self, _: &Decision, _: Option<u64>) {}
    fn event(&mut self, at: Instant, kind: &'static str, subject: Option<u64>, _: &str) {
        self.0.push((at, kind, subject));
    }
}

#[test]
fn every_tile_that_wears_out_is_an_event_with_its_moment() {
    let worn = universe(SHELLS, &["failures.rate=20000 /year"]);
    let mut diary = Diary::default();
    let outcome = simulate(worn, &request(1, 2), &mut diary);
    let fired = fault(&outcome, "failures").fired;
    assert!(fired > 10, "{fired}");
    assert_eq!(diary.0.len() as u64, fired);
    let mut tiles: Vec<u64> = diary.0.iter().filter_map(|(.., tile)| *tile).collect();
    tiles.sort_unstable();
    tiles.dedup();
    assert_eq!(tiles.len() as u64, fired, "no tile fails twice");
    assert!(tiles.iter().all(|&tile| tile < 100));
    assert!(diary.0.iter().all(|&(_, kind, _)| kind == "worn_out"));
    // At moments of their own, not at those of samples.
    let between = |at: &Instant| !at.0.is_multiple_of(20_000_000_000);
    assert!(diary.0.iter().any(|(at, ..)| between(at)));

    // What a burst kills is told by the burst.
    let mut diary = Diary::default();
    simulate(universe(CELL, &[]), &request(1, 2), &mut diary);
    assert_eq!(diary.0, []);
}

/// Stops a run after so many looks at it.
struct Impatient {
    looks: u32,
    decisions: u64,
}

/// Sees every decision.
struct Decided<F>(F);

impl<F: FnMut(&Decision)> Observer for Decided<F> {
    fn progress(&mut self, _: Progress) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
    fn decision(&mut self, decision: &Decision, _: Option<u64>) {
        self.0(decision);
    }
    fn event(&mut self, _: Instant, _: &'static str, _: Option<u64>, _: &str) {}
}

impl Observer for Impatient {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        assert!(progress.now <= progress.end);
        self.looks -= 1;
        if self.looks == 0 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
    fn decision(&mut self, _: &Decision, cell: Option<u64>) {
        assert!(cell.is_some_and(|cell| cell < 4));
        self.decisions += 1;
    }
    fn event(&mut self, _: Instant, _: &'static str, _: Option<u64>, _: &str) {}
}

#[test]
fn a_run_that_is_stopped_tells_what_happened_until_then() {
    for (text, looks, end) in [(CELL, 15, 60.0), (SHELLS, 40, 2_400.0)] {
        let mut observer = Impatient {
            looks,
            decisions: 0,
        };
        let wear = "failures.rate=0/s";
        let outcome = simulate(
            universe(text, &[wear, "fault.0.at=20s"]),
            &request(1, 2),
            &mut observer,
        );
        let summary = &outcome.summary;
        assert!(!summary.complete);
        assert!(summary.simulated_seconds > 0.0 && summary.simulated_seconds < end);
        assert_eq!(
            outcome.series.seconds().last(),
            Some(&summary.simulated_seconds)
        );
        let counted: u64 = summary.decisions.iter().map(|d| d.count).sum();
        assert_eq!(counted, observer.decisions);
        assert!(counted > 0 && summary.events > 0);
        // The same part of the same history as a run that was meant to be short.
        let short = format!("time.end={}ns", (summary.simulated_seconds * 1e9).round());
        let whole = run(text, &[&short, wear, "fault.0.at=20s"]);
        assert_eq!(whole.summary.history_hash, summary.history_hash);
    }
}

/// Steady work, so that nothing but the step differs between two runs.
#[test]
fn temperatures_do_not_depend_on_the_step_of_the_heat_model() {
    let steady = |step| {
        let settings = [
            step,
            "time.end=20min",
            "failures.rate=0/s",
            "work.0.constant=true",
            "work.1.constant=true",
            "work.0.shards=15",
            "work.1.shards=10",
            "work.0.activity=0.7",
            "work.1.activity=0.7",
        ];
        run(SHELLS, &settings)
    };
    let (coarse, fine) = (steady("heat.step=2s"), steady("heat.step=1s"));
    for shell in 0..2 {
        let [coarse, fine] =
            [&coarse, &fine].map(|outcome| column(outcome, shell, Metric::KelvinMean));
        assert!(fine.iter().any(|&k| (k - fine[0]).abs() > 5.0), "it warms");
        for (a, b) in coarse.iter().zip(fine) {
            assert!((a - b).abs() < 1e-3 * b, "shell {shell}: {a} K and {b} K");
        }
    }
}

#[test]
fn a_step_that_light_outruns_is_refused_with_both_numbers() {
    let setting = "heat.step=20s".parse().expect("a setting");
    let document = Document::parse("test.toml", SHELLS, &[setting]).expect("it is TOML");
    let problems = Universe::read(&document).expect_err("two steps take 40 s");
    let text = problems.to_string();
    assert!(text.contains("20 s") && text.contains("29.9"), "{text}");
}

#[test]
fn every_universe_of_the_repository_reads_and_is_called_as_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../universes");
    let mut read = 0;
    for entry in fs::read_dir(folder).expect("the universes") {
        let path = entry.expect("a file").path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let name = path.file_name().expect("a name").to_string_lossy();
        let text = fs::read_to_string(&path).expect("it can be read");
        let universe = Document::parse(&name, &text, &[])
            .and_then(|document| Universe::read(&document))
            .unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(format!("{}.toml", universe.name()), name);
        read += 1;
    }
    assert!(read >= 4, "{read}");
}

#[test]
fn the_schema_writes_its_own_reference() {
    let reference = Reference::of(Universe::schema);
    let text = reference.to_string();
    for key in [
        "shell.N.limit\n",
        "thermos.gain\n",
        "fault.N.remaining\n",
        "work.N.burst.factor\n",
        "membership.suspicion_max\n",
        "invariants\n",
    ] {
        assert!(text.contains(key), "{key} is not in\n{text}");
    }
    for note in &reference.keys {
        assert!(note.doc.ends_with('.'), "{}.{}", note.table, note.key);
    }
}

#[test]
fn timeouts_of_membership_that_contradict_each_other_are_refused() {
    for (setting, key, says) in [
        (
            "membership.window=1 s",
            "membership.window",
            "must be shorter than `period`, 1 s: one probe at a time",
        ),
        (
            "membership.ack_timeout=600 ms",
            "membership.ack_timeout",
            "must be shorter than `window`, 600 ms: relays need time too",
        ),
        (
            "membership.suspicion_min=5 s",
            "membership.suspicion_min",
            "must not be longer than `suspicion_max`, 4 s",
        ),
    ] {
        let settings = [setting.parse().expect("a setting")];
        let document = Document::parse("test.toml", CELL, &settings).unwrap();
        let problems = Universe::read(&document).unwrap_err();
        let [problem] = &problems.0[..] else {
            panic!("{setting}: {problems}")
        };
        assert_eq!(problem.key, key);
        assert!(problem.to_string().contains(says), "{problem}");
    }
    // At the edge of what is allowed.
    run(
        CELL,
        &[
            "membership.suspicion_min=4 s",
            "time.end=2 s",
            "fault.0.at=1 s",
        ],
    );
}

#[test]
fn the_reference_says_what_follows_from_what() {
    let text = Reference::of(Universe::schema).to_string();
    let told = |key: &str| {
        let mut lines = text.lines().skip_while(|line| *line != key);
        lines.nth(2).unwrap_or_else(|| panic!("no {key}")).trim()
    };
    for (key, says) in [
        (
            "shell.N.throttle",
            "a temperature from 3 K to 2000 K, such as \"350 K\"; default: 97.5 % of `limit`",
        ),
        (
            "shell.N.initial",
            "a temperature from 3 K to 2000 K, such as \"350 K\"; default: 90 % of `throttle`",
        ),
        (
            "membership.suspicion_max",
            "a time from 1 ms to 1 h, such as \"90 s\"; default: four times `period`",
        ),
        (
            "links.delay_max",
            "a time from `delay_min` to 1 min, such as \"90 s\"; default: ten times `delay_min`",
        ),
        (
            "work.N.shells",
            "a list of up to 64 values, each a whole number from 1 to the number of shells, such as \
             1000; default []",
        ),
        (
            "work.N.burst.lasts",
            "a time from 1 s to `every`, such as \"90 s\"; required",
        ),
        (
            "seed",
            "a whole number from 0 to 9223372036854775807, such as 1000; default 1",
        ),
    ] {
        assert_eq!(told(key), says);
    }
    // A number that only stands in for one to come (3 K less a tenth, less a tenth again) is
    // never told as a bound.
    assert!(!text.contains("2.925") && !text.contains("2.6325") && !text.contains("from 1 to 1,"));

    // Whoever is wrong about one file is told the numbers of that file.
    let short = ["fault.0.at=70s".parse().expect("a setting")];
    let document = Document::parse("test.toml", CELL, &short).unwrap();
    let problems = Universe::read(&document).unwrap_err().to_string();
    assert!(
        problems.contains("expected a time from 0 ns to 1 min"),
        "{problems}"
    );
    // What the reference allows is what is read.
    let last = ["seed=9223372036854775807".parse().expect("a setting")];
    let document = Document::parse("test.toml", CELL, &last).unwrap();
    assert_eq!(Universe::read(&document).unwrap().seed(), i64::MAX as u64);
}
