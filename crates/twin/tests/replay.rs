//! A described site through its public face: gpu-1024 an eighth of its size, with work and
//! a neighbour made by hand, and the real one where its data is.

use std::fmt::Write as _;
use std::fs::File;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use machine::{Purpose, Stream};
use parquet::file::reader::{FileReader, SerializedFileReader};
use telemetry::Action;
use twin::record::cluster::{Job, State};
use twin::rehearsal::{self, Given, Replay, Request, Universe};
use twin::site::config::Config;
use twin::site::jobs::{Format, Jobs, Source, Workload};
use twin::site::neighbour::PowerRecord;
use twin::site::{self, Fate, Outcome, Record, Scene, swf};
use twin::universe::{Document, Override};
use wire::{Nanos, Tile};

const UNIVERSE: &str = include_str!("../../../universes/gpu-1024.toml");

/// The universe at an eighth: 128 nodes in eight rows of two racks, and an eighth of what the
/// neighbour takes.
const AN_EIGHTH: [&str; 7] = [
    "nodes.h100.count=48",
    "nodes.h200.count=24",
    "nodes.gh200.count=16",
    "nodes.b200.count=24",
    "nodes.cpu.count=16",
    "site.racks_per_row=2",
    "fault.0.most=386 kW",
];

fn universe(settings: &[&str]) -> Universe {
    let settings = AN_EIGHTH.iter().chain(settings);
    let settings: Vec<Override> = settings.map(|s| s.parse().unwrap()).collect();
    let document = Document::parse("gpu-1024.toml", UNIVERSE, &settings).unwrap();
    Universe::read(&document).unwrap_or_else(|e| panic!("{e}"))
}

fn config(settings: &[&str]) -> Config {
    match universe(settings) {
        Universe::Site(config, _) => *config,
        _ => panic!("gpu-1024 is a site"),
    }
}

/// A tenant's list: one job every so many seconds for a day, of up to 16 GPUs.
fn list(tenant: u64, every: u64) -> String {
    let mut chance = Stream::new(7, Tile(tenant), Purpose::Work);
    let mut text = "job_type,num_steps,arrival_s,gpus\n".to_owned();
    for i in 0..86_400 / every {
        let gpus = [1, 1, 2, 4, 8, 8, 12, 16][chance.below(8) as usize];
        let hours = 1 + chance.below(8);
        // 43.9 steps a second.
        let steps = hours * 3_600 * 44;
        let at = i * every + chance.below(every);
        writeln!(text, "LM (batch size 80),{steps},{at},{gpus}").unwrap();
    }
    text
}

/// Two tenants that ask for as much as there is, and one that asks for little.
fn work(config: &Config) -> Workload {
    let mut load = Workload::described(&config.groups, config.building.cpus_per_node);
    let philly = config
        .sources
        .iter()
        .find(|s| s.format == Some(Format::Philly));
    let source = Source {
        from: Nanos::ZERO,
        speed: 1.0,
        faster: 1.0,
        copies: 1,
        ..philly.unwrap().clone()
    };
    let mut all = Jobs::default();
    for (tenant, every) in [("b436b2", 240), ("ee9e8c", 240), ("small", 1_800)] {
        let text = list(all.tenants.len() as u64, every);
        let file = format!("{tenant}.csv");
        let jobs = Jobs::parse(text.as_bytes(), Path::new(&file), &source, &load.models).unwrap();
        all.habits.clone_from(&jobs.habits);
        let tenant = all.tenants.len() as u16;
        all.tenants.extend(jobs.tenants);
        all.jobs.extend(jobs.jobs.into_iter().map(|mut job| {
            job.tenant = tenant;
            job
        }));
    }
    all.jobs.sort_by_key(|job| job.arrives);
    load.jobs = all;
    load
}

/// From 15.56 MW by 3.09 MW in 15 s and on to 24 MW, as Frontier did, and an hour later down
/// again for a while and up at once.
fn surge() -> PowerRecord {
    let mut text = "time,power[1]\n".to_owned();
    for i in 0..1_200_u32 {
        let seconds = f64::from(i) * 15.0;
        let since = 70_215.0 + seconds;
        let megawatts = match i {
            0..5 => 15.556,
            5..24 => 18.65 + 0.28 * f64::from(i - 5),
            260..300 => 14.0,
            _ => 24.0,
        };
        writeln!(text, "{since},{}", megawatts * 1e6).unwrap();
    }
    PowerRecord::parse(text.as_bytes(), Path::new("surge.csv")).unwrap()
}

fn scene(config: &Config) -> Scene {
    Scene {
        load: work(config),
        neighbours: config.neighbours.iter().map(|_| surge()).collect(),
        measured: Vec::new(),
    }
}

fn run(config: &Config, history: &mut dyn FnMut(Record<'_>)) -> Outcome {
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    site::run(config, &scene(config), 1, on, history)
}

fn broken(outcome: &Outcome) -> Vec<&str> {
    let broken = outcome.invariants.iter().filter(|i| !i.held);
    broken.map(|i| i.name.as_str()).collect()
}

//= requirements S3
//= requirements S4
//= requirements W1
#[test]
fn a_busy_day_with_gangs_tenants_quotas_and_faults_is_the_same_day_again() {
    let mut config = config(&[
        "time.end=17 h",
        "storage.bandwidth=40 GB/s",
        "tenant.small.gpus=64",
    ]);
    config.invariants = site::Invariant::ALL.to_vec();
    let mut fates = Vec::new();
    let first = run(&config, &mut |record| {
        if let Record::Job(job) = record {
            let started = job.started.is_some();
            assert_eq!(job.fate == Fate::Waiting && !started, !started, "{job:?}");
            if job.fate == Fate::Finished || job.fate == Fate::Running {
                assert_eq!(job.tasks.len(), usize::from(job.job.tasks), "{job:?}");
            }
            fates.push(job.id);
        }
    });
    let again = run(&config, &mut |_| {});
    assert_eq!(first.history_hash, again.history_hash);
    assert_eq!(broken(&first), [""; 0]);
    assert_eq!((first.faults, first.surges), ((1, 1), (1, 1)));
    // Every job that came was told of once.
    fates.sort_unstable();
    assert!(fates.iter().copied().eq(0..first.jobs.arrived));
    let Outcome { jobs, .. } = first;
    assert_eq!(
        jobs.arrived,
        jobs.finished + jobs.refused + jobs.lost + jobs.at_limit + jobs.running + jobs.waiting
    );
    assert!(
        first.gangs > 20 && jobs.waiting > 0 && first.backfilled > 0,
        "{first:?}"
    );
    assert!(
        first.storage_least < 1.0,
        "the file system had to be shared"
    );
    // The one with little to ask for waits less than those who ask for everything.
    let waits = |tenant: usize| first.tenants[tenant].waiting.quantile(0.9).unwrap();
    assert!(waits(2) < waits(0) && waits(2) < waits(1));
    let cluster = first.series.cluster().unwrap();
    assert!(cluster.film.frames().len() > 100 && cluster.tenants().len() == 3);
    let shares = cluster.tenants().iter().map(|t| t.dominant_share.last());
    assert!(shares.flatten().all(|share| (0.0..=1.0).contains(share)));
    let queue = cluster.queue();
    let waited = queue.jobs.iter().zip(&queue.oldest_seconds);
    assert!(
        waited
            .clone()
            .any(|(&jobs, &oldest)| jobs > 0.0 && oldest > 0.0)
    );
    assert!(
        waited
            .into_iter()
            .all(|(&jobs, &oldest)| jobs > 0.0 || oldest == 0.0)
    );
    // Each job's life adds up to the run's.
    let lives: Vec<_> = cluster.jobs.all().collect();
    assert!(lives.iter().map(|job| job.id).eq(0..jobs.arrived));
    let became = |state| lives.iter().filter(|job| job.state == state).count() as u64;
    assert_eq!(became(State::Finished), jobs.finished);
    assert_eq!(became(State::Refused), jobs.refused);
    assert_eq!(became(State::Running), jobs.running);
    assert_eq!(became(State::Waiting), jobs.waiting);
    let placed = lives.iter().filter(|job| !job.started.is_nan());
    assert_eq!(placed.count() as u64, jobs.placed);
    let is_on = |job: &&Job| job.stays.iter().any(|stay| stay.to.is_nan());
    assert_eq!(lives.iter().filter(is_on).count() as u64, jobs.running);
    let whys = || {
        let steps = lives.iter().flat_map(|job| &job.steps);
        steps.filter_map(|step| step.why.as_ref())
    };
    assert!(whys().any(|why| !why.candidates.is_empty()), "who competed");
    assert!(
        whys().any(|why| why.start_seconds.is_some()),
        "when it is to start"
    );
}

//= requirements H2
//= requirements H3
#[test]
fn who_looks_at_heat_throttles_nobody_and_finishes_more_while_plants_fail() {
    let from_noon = [
        "time.end=18 h",
        "fault.0.at=10 h",
        "fault.1.at=11 h",
        "fault.0.lasts=3 h",
    ];
    let mut aware = config(&from_noon);
    aware.invariants = site::Invariant::ALL.to_vec();
    aware.end = Some(Nanos::HOUR * 13);
    let mut blind = aware.clone();
    blind.scheduler.heat_aware = false;
    let [aware, blind] = [aware, blind].map(|config| run(&config, &mut |_| {}));
    assert_eq!(broken(&aware), [""; 0]);
    assert!(broken(&blind).contains(&"no_tile_throttles_itself"));
    let window = |outcome: &Outcome| outcome.window.unwrap();
    assert!(window(&aware).max_kelvin_over_throttle < 0.0);
    assert_eq!(window(&aware).throttled_hot_device_seconds, 0.0);
    assert!(window(&blind).throttled_hot_device_seconds > 0.0);
    let more = window(&aware).gpu_seconds_kept / window(&blind).gpu_seconds_kept;
    println!("{more}");
    assert!(more > 1.1, "{more}");
    assert_eq!(aware.nodes_lost, 0);
    assert_eq!(aware.decided(Action::Lose), 0);
}

#[test]
fn idle_gpus_in_the_hands_of_jobs_draw_less_and_change_nothing_else() {
    let config = config(&["time.end=2h", "scheduler.heat_aware=false"]);
    let mut scene = scene(&config);
    let busy = run(&config, &mut |_| {});
    scene
        .load
        .jobs
        .jobs
        .iter_mut()
        .for_each(|job| job.busy /= 4);
    let idle = site::run(
        &config,
        &scene,
        1,
        &mut |_| ControlFlow::Continue(()),
        &mut |_| {},
    );
    let same = |of: fn(&Outcome) -> f64| assert_eq!(of(&busy), of(&idle));
    same(|o| o.gpu_allocated);
    same(|o| o.gpu_seconds);
    same(|o| o.jobs.finished as f64);
    // A quarter of the work leaves less than half of what a claimed GPU draws.
    let claimed = |o: &Outcome| o.gpu_watts.quantile(0.95);
    assert!(
        claimed(&idle) < claimed(&busy) / 2.0,
        "{} {}",
        claimed(&idle),
        claimed(&busy)
    );
    assert!(idle.max_kelvin < busy.max_kelvin);
}

#[test]
fn a_day_leaves_no_more_in_memory_than_its_bounded_pictures() {
    let mut config = config(&["time.sample=1 min"]);
    config.faults.clear();
    config.neighbours.clear();
    let mut sizes = Vec::new();
    for hours in [2, 8] {
        config.end = Some(Nanos::HOUR * hours);
        let outcome = run(&config, &mut |_| {});
        sizes.push(outcome.series.cluster().unwrap().film.frames().len());
    }
    let most = twin::record::Film::FRAMES_MAX;
    assert!(
        sizes.iter().all(|&n| n > most / 3 && n <= most),
        "{sizes:?}"
    );
}

//= requirements W3
#[test]
fn a_replay_leaves_jobs_and_decisions_that_other_tools_read() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("night.swf");
    let lines = (0..50).map(|i| {
        let (at, gpus, group) = (i * 60, [1, 8, 16][i % 3], i % 2);
        format!(
            "{} {at} -1 600 {gpus} -1 -1 {gpus} 1200 -1 1 1 {group} -1 1 -1 -1 -1\n",
            i + 1
        )
    });
    std::fs::write(&log, lines.collect::<String>()).unwrap();
    let mut universe = universe(&["time.end=2 h"]);
    if let Universe::Site(config, _) = &mut universe {
        config.faults.clear();
        config.neighbours.clear();
    }
    let jobs = [log];
    universe
        .load(&Given {
            jobs: &jobs,
            ..Given::default()
        })
        .unwrap();
    let request = Request {
        seed: 1,
        threads: 1,
        out: Some(folder.path().join("run")),
        overrides: Vec::new(),
        command: String::new(),
        replay: Some(Replay::default()),
        inputs: None,
    };
    let on = &mut |_: twin::observer::Progress| ControlFlow::Continue(());
    let finished = rehearsal::run(universe, &request, on).unwrap();
    assert!(finished.summary.held());
    let site = finished.summary.site.as_ref().unwrap();
    assert_eq!((site.arrived, site.finished), (50, 50));
    let replay = finished.summary.replay.as_ref().unwrap();
    let tenants: Vec<_> = replay
        .tenants
        .iter()
        .map(|t| (t.name.as_str(), t.finished))
        .collect();
    assert_eq!(tenants, [("group 0", 25), ("group 1", 25)]);
    assert_eq!(replay.gangs, 16);

    let path = finished.directory.join("jobs.swf");
    let text = std::fs::read(&path).unwrap();
    let log = swf::Log::parse(&text[..], &path).unwrap();
    assert_eq!(log.jobs.len(), 50);
    assert!(log.jobs.iter().all(|job| job[swf::field::STATUS] == 1.0));
    let ran = log.jobs.iter().map(|job| job[swf::field::RAN]);
    assert!(
        ran.clone().all(|ran| (600.0..700.0).contains(&ran)),
        "{:?}",
        ran.collect::<Vec<_>>()
    );
    // What it wrote it can replay.
    let source = Source::default();
    let again = Jobs::parse(&text[..], &path, &source, &[]).unwrap();
    assert_eq!(again.jobs.len(), 50);

    let parquet = File::open(finished.directory.join("decisions.parquet")).unwrap();
    let rows = SerializedFileReader::new(parquet).unwrap();
    let rows = rows.metadata().file_metadata().num_rows();
    assert_eq!(
        rows as u64,
        finished
            .summary
            .decisions
            .iter()
            .map(|d| d.count)
            .sum::<u64>()
    );

    let history = rusqlite::Connection::open(finished.directory.join("history.db")).unwrap();
    let one = |sql: &str| {
        history
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
    };
    assert_eq!(
        one("SELECT count(*) FROM jobs WHERE outcome = 'finished'"),
        50
    );
    assert_eq!(
        one("SELECT count(*) FROM jobs WHERE nodes LIKE '% %' AND gpus = 16"),
        16
    );
}

#[test]
fn what_is_missing_is_named_before_anything_runs() {
    let error = universe(&[]).load_trace(None).unwrap_err().to_string();
    assert_eq!(
        error,
        "universe gpu-1024 replays what was recorded: say where it is with --trace DIR, a folder that holds philly, \
         openb/openb_pod_list_default.csv, frontier/cdu_power_2024-04-07.csv"
    );
    let error = universe(&[])
        .load_trace(Some(Path::new("/no/such")))
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read /no/such/philly: "),
        "{error}"
    );
}

/// Where the recorded work is, if it is.
fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let all = ["philly", "openb", "frontier", "acme"];
    if all.iter().all(|part| folder.join(part).is_dir()) {
        return Some(folder);
    }
    println!("skipped: {all:?} are not all in {}", folder.display());
    None
}

//= requirements S4
//= requirements W3
#[test]
fn the_first_hour_of_the_thousand_nodes() {
    let Some(folder) = data() else { return };
    let document = Document::parse(
        "gpu-1024.toml",
        UNIVERSE,
        &["time.end=1 h".parse().unwrap()],
    );
    let mut universe = Universe::read(&document.unwrap()).unwrap();
    universe.load_trace(Some(&folder)).unwrap();
    let Universe::Site(config, Some(scene)) = universe else {
        panic!("a site with its work")
    };
    assert_eq!(scene.load.nodes.len(), 1_024);
    assert_eq!(
        scene
            .load
            .nodes
            .iter()
            .map(|n| u32::from(n.gpus))
            .sum::<u32>(),
        6_656
    );
    assert_eq!(scene.load.jobs.tenants.len(), 13);
    let (at, step) = scene.neighbours[0].largest_step();
    assert_eq!((at, (step.0 / 1e4).round()), (70_275.0, 309.0));
    let on = &mut |_: site::Progress| ControlFlow::Continue(());
    let [first, again] = [1, 1].map(|seed| site::run(&config, &scene, seed, on, &mut |_| {}));
    assert_eq!(first.history_hash, again.history_hash);
    assert_eq!(broken(&first), [""; 0]);
    assert!(first.gpu_allocated > 0.5, "{}", first.gpu_allocated);
    for measured in &scene.measured {
        let distance = first.gpu_watts.distance(&measured.power, 1.0);
        assert!((0.0..=1.0).contains(&distance));
    }
}
