//! What a run leaves, seen by those who read it: scripts, SQL, a browser, `ls`.

mod sample;
mod sample_cluster;

use std::fs;
use std::path::Path;

use rusqlite::Connection;
use telemetry::{Action, Decision, Reason};
use twin::observer::Link;
use twin::record::report::{comparison_page, packing_page, run_page, sweep_page};
use twin::record::summary::{
    Braid, Distance, FaultWindow, Fleet, Quantiles, Rebuilds, Replay, Scale, Span, Tenant,
};
use twin::record::{
    Comparison, Curve, Fingerprint, History, Map, Metric, Packing, ReadError, RecordError,
    RunDirectory, Series, Stored, Summary, Sweep,
};
use wire::{Instant, Tile};

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn decision(nanos: u64, work: u64) -> Decision {
    Decision {
        at: Instant(nanos),
        action: Action::Refuse,
        reason: Reason::NoHeadroomOutward,
        subject: Tile(nanos % 1_000),
        work,
        found: 0.93,
        bound: 0.9,
    }
}

#[test]
fn the_keys_of_a_summary_are_a_promise() {
    let (mut summary, _) = sample::shells(false);
    summary.site = sample::site().0.site;
    summary.replay = Some(Replay {
        fault_window: Some(FaultWindow::default()),
        tenants: vec![Tenant::default()],
        distances: vec![Distance::default()],
        ..Replay::default()
    });
    summary.fleet = Some(Fleet {
        spans: vec![Span::default()],
        ..Fleet::default()
    });
    summary.braid = Some(Braid {
        rebuilds: vec![Rebuilds::default()],
        scale: vec![Scale::default()],
        ..Braid::default()
    });
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    for promised in [
        "universe",
        "intent",
        "kind",
        "seed",
        "threads",
        "tiles",
        "simulated_seconds",
        "wall_seconds",
        "events",
        "events_per_second",
        "peak_rss_bytes",
        "history_hash",
        "complete",
        "overrides",
        "command",
        "os_overhead_fraction",
        "invariants/0/name",
        "invariants/0/held",
        "invariants/0/first_violation/seconds",
        "invariants/0/first_violation/subject",
        "invariants/0/first_violation/found",
        "invariants/0/first_violation/bound",
        "invariants/0/first_violation/unit",
        "invariants/0/first_violation/text",
        "membership/detection_seconds/p50",
        "membership/detection_seconds/p99",
        "membership/detection_seconds/max",
        "membership/false_removals",
        "membership/messages",
        "membership/bytes_per_tile",
        "locality/cell",
        "locality/cluster",
        "locality/region",
        "locality/system",
        "heat/max_kelvin_over_limit",
        "heat/tiles_lost",
        "heat/overshoot",
        "faults/0/kind",
        "faults/0/injected",
        "faults/0/fired",
        "decisions/0/action",
        "decisions/0/reason",
        "decisions/0/count",
        "site/utilisation",
        "site/gpu_allocated_fraction",
        "site/waiting_seconds/p50",
        "site/waiting_seconds/p95",
        "site/waiting_seconds/max",
        "site/placed",
        "site/refused",
        "site/throttled_device_seconds",
        "site/device_max_kelvin",
        "site/loop_overload_seconds",
        "replay/gangs",
        "replay/backfilled",
        "replay/preempted",
        "replay/slowdown/p95",
        "replay/gpu_seconds",
        "replay/gpu_seconds_lost",
        "replay/max_kelvin_over_throttle",
        "replay/fault_window/from_seconds",
        "replay/fault_window/gpu_seconds",
        "replay/fault_window/max_kelvin_over_throttle",
        "replay/tenants/0/name",
        "replay/tenants/0/gpu_share",
        "replay/tenants/0/waiting_seconds/p95",
        "replay/tenants/0/slowdown/p95",
        "replay/distances/0/measured",
        "replay/distances/0/replayed",
        "replay/distances/0/distance",
        "fleet/rehearsals",
        "fleet/measured",
        "fleet/spans/0/what",
        "fleet/spans/0/predicted_seconds/p50",
        "fleet/spans/0/measured_seconds/p50",
        "fleet/spans/0/predicted",
        "fleet/spans/0/measured",
        "fleet/spans/0/ratio_p50",
        "braid/players",
        "braid/begun",
        "braid/ended",
        "braid/turns",
        "braid/passes",
        "braid/missed",
        "braid/migrated",
        "braid/packets",
        "braid/projection_bytes",
        "braid/rebuilds/0/after",
        "braid/rebuilds/0/times",
        "braid/rebuilds/0/seconds/p50",
        "braid/replayed_max",
        "braid/unrebuilt",
        "braid/found_seconds/max",
        "braid/scale/0/players",
        "braid/scale/0/bytes",
    ] {
        assert!(
            json.pointer(&format!("/{promised}")).is_some(),
            "{promised} is gone"
        );
    }
    assert_eq!(json["kind"], "shells");
    assert_eq!(json["history_hash"], "00f35b1c9a7740d28e61c2b4a9f01d3e");
    assert_eq!(json["seed"].as_u64(), Some(summary.seed));
}

#[test]
fn what_was_not_measured_is_null_and_comes_back_as_nan() {
    let summary = Summary {
        events_per_second: f64::INFINITY,
        membership: Some(Default::default()),
        os_overhead_fraction: Some(f64::NAN),
        ..Summary::default()
    };
    let json: serde_json::Value = serde_json::from_str(&summary.to_json()).unwrap();
    assert!(json["events_per_second"].is_null());
    assert!(json["membership"]["detection_seconds"]["p99"].is_null());
    let back: Summary = serde_json::from_value(json).unwrap();
    assert!(back.events_per_second.is_nan());
    assert!(back.membership.unwrap().detection_seconds.p99.is_nan());
    assert_eq!(back.os_overhead_fraction, None);
}

#[test]
fn a_summary_reads_back_as_it_was_written() {
    let (summary, _) = sample::shells(true);
    let back: Summary = serde_json::from_str(&summary.to_json()).unwrap();
    assert_eq!(back, summary);
}

#[test]
fn quantiles_of_nothing_are_unknown_rather_than_zero() {
    let mut sketch = telemetry::Sketch::new();
    assert!(Quantiles::of(&sketch, 1e-9).max.is_nan());
    sketch.record_many(2_000_000_000, 99);
    sketch.record(9_000_000_000);
    let quantiles = Quantiles::of(&sketch, 1e-9);
    assert!((quantiles.p50 - 2.0).abs() < 0.07, "{quantiles:?}");
    assert_eq!(quantiles.max, 9.0);
}

#[test]
fn a_history_answers_why() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("history.db");
    let (summary, series) = sample::cell();
    let mut history = History::create(&path).unwrap();
    for i in 0..10_000 {
        let it = decision(i * 1_000_000_000, i % 7);
        history
            .decision(&it, Some(3), 1, "", Link::default())
            .unwrap();
    }
    let mut batch = decision(20_000_000_000_000, Decision::NO_WORK);
    batch.bound = f64::INFINITY;
    history
        .decision(&batch, None, 3, "tiles 4, 5, 6", Link::default())
        .unwrap();
    history
        .event(
            120.0,
            "burst",
            None,
            "50 tiles fail at once",
            Link::default(),
        )
        .unwrap();
    history.series(&series).unwrap();
    history.finish(&summary).unwrap();

    let db = Connection::open(&path).unwrap();
    let one = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(*) FROM decisions"), 10_001);
    assert_eq!(one("SELECT sum(count) FROM decisions"), 10_003);
    assert_eq!(
        one("SELECT count(*) FROM decisions WHERE work = 3 AND cell = 3"),
        1_429
    );
    let (reason, found, seconds): (String, f64, f64) = db
        .query_row(
            "SELECT reason, found, seconds FROM decisions WHERE work = 3 ORDER BY seconds",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )
        .unwrap();
    assert_eq!(
        (reason.as_str(), found, seconds),
        ("no heat headroom outward", 0.93, 3.0)
    );
    assert_eq!(
        one(
            "SELECT count(*) FROM decisions WHERE work IS NULL AND bound IS NULL \
             AND detail = 'tiles 4, 5, 6'"
        ),
        1
    );
    assert_eq!(one("SELECT count(*) FROM events WHERE kind = 'burst'"), 1);
    assert_eq!(
        one("SELECT count(*) FROM samples WHERE metric = 'dark'"),
        301
    );
    assert_eq!(
        one("SELECT count(*) FROM samples WHERE metric = 'waiting'"),
        0
    );
    let summary_back: String = db
        .query_row("SELECT summary FROM runs", [], |row| row.get(0))
        .unwrap();
    assert_eq!(summary_back, summary.to_json());
    assert_eq!(one("SELECT held FROM runs"), 0);
}

#[test]
fn a_history_describes_itself_and_leaves_an_ordinary_file() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("history.db");
    History::create(&path)
        .unwrap()
        .finish(&Summary::default())
        .unwrap();
    assert_eq!(names(place.path()), ["history.db"]);
    let db = Connection::open(&path).unwrap();
    let text = |sql: &str| {
        db.query_row(sql, [], |row| row.get::<_, String>(0))
            .unwrap()
    };
    assert_eq!(text("PRAGMA integrity_check"), "ok");
    assert_eq!(text("PRAGMA journal_mode"), "delete");
    assert_eq!(
        text("SELECT unit FROM schema WHERE table_name = 'runs' AND column_name = 'wall_seconds'"),
        "s"
    );
    let undescribed = text(
        "SELECT ifnull(group_concat(t.name || '.' || c.name), 'none') FROM sqlite_schema t, \
         pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name <> 'schema' AND NOT \
         EXISTS (SELECT 1 FROM schema WHERE table_name = t.name AND column_name = c.name)",
    );
    assert_eq!(undescribed, "none");
}

#[test]
fn a_history_that_was_dropped_half_way_is_readable() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("history.db");
    let mut history = History::create(&path).unwrap();
    for i in 0..5_000 {
        history
            .decision(&decision(i, i), None, 1, "", Link::default())
            .unwrap();
    }
    drop(history);
    let db = Connection::open(&path).unwrap();
    let count: i64 = db
        .query_row("SELECT count(*) FROM decisions", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 5_000);
}

#[test]
fn a_finished_run_is_whole_and_the_next_one_gets_a_number() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("out/runs");
    let (summary, series) = sample::cell();
    for expected in ["a-b-seed7", "a-b-seed7-2", "a-b-seed7-3"] {
        let run = RunDirectory::begin(&root, "../a/b", 7).unwrap();
        let history = run.history().unwrap();
        let path = run.finish(history, &summary, &series).unwrap();
        assert_eq!(path, root.join(expected));
        assert_eq!(
            names(&path),
            ["history.db", "history.db.b3", "report.html", "summary.json"]
        );
    }
    assert_eq!(names(&root), ["a-b-seed7", "a-b-seed7-2", "a-b-seed7-3"]);
}

#[test]
fn a_run_that_fails_leaves_nothing_not_even_its_parent() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("out/runs");
    let run = RunDirectory::begin(&root, "mercury", 1).unwrap();
    run.write("summary.json", "{}").unwrap();
    assert!(root.exists());
    drop(run);
    assert_eq!(names(place.path()), [""; 0]);
}

#[test]
fn an_existing_run_is_never_touched() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("mine");
    let late = RunDirectory::begin_at(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let early = RunDirectory::begin_at(&path).unwrap_err();
    assert!(
        matches!(&early, RecordError::Exists { path: p } if *p == path),
        "{early}"
    );
    // Taken while the run was under way, though empty.
    let error = late.keep().unwrap_err();
    assert!(
        matches!(&error, RecordError::Exists { path: p } if *p == path),
        "{error}"
    );
    assert_eq!(names(place.path()), ["mine"]);
    assert_eq!(names(&path), [""; 0]);
}

#[test]
fn a_place_that_cannot_be_written_is_named_with_the_cause() {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let error = RunDirectory::begin(&file.join("runs"), "mercury", 1)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("file/runs") && error.contains("Not a directory"),
        "{error}"
    );
}

/// `/dev/full` takes every byte and keeps none: what a full disk says, without one.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_and_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let run = RunDirectory::begin(place.path(), "mercury", 1).unwrap();
    std::os::unix::fs::symlink("/dev/full", run.path("summary.json")).unwrap();
    let (summary, series) = sample::cell();
    let history = run.history().unwrap();
    let error = run
        .finish(history, &summary, &series)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("summary.json") && error.contains("No space left"),
        "{error}"
    );
    assert_eq!(names(place.path()), [""; 0]);
}

fn pages(title: &str) -> Vec<String> {
    let (mut summary, series) = sample::cell();
    summary.universe = title.to_owned();
    let comparison = Comparison {
        title: title.to_owned(),
        intent: title.to_owned(),
        command: title.to_owned(),
        runs: vec![(title.to_owned(), &summary, &series)],
        curves: Vec::new(),
    };
    let sweep = Sweep {
        universe: title.to_owned(),
        ..Sweep::default()
    };
    let packing = Packing {
        title: title.to_owned(),
        curves: sample_cluster::curves(),
        ..Packing::default()
    };
    vec![
        run_page(&summary, &series),
        comparison_page(&comparison),
        sweep_page(&sweep),
        packing_page(&packing),
    ]
}

#[test]
fn a_page_names_no_place_outside_itself() {
    for page in pages("mercury") {
        for outside in ["http:", "https:", "//cdn", "@import", "src=", "href="] {
            assert!(!page.contains(outside), "{outside}");
        }
        assert!(page.contains("default-src 'none'"));
    }
}

#[test]
fn a_name_cannot_leave_the_page_it_is_written_in() {
    for name in [
        "</script><script>alert(1)</script>",
        "<!--<script>",
        "{{script}}",
        "a & b",
    ] {
        let plain = pages("mercury");
        for (page, plain) in pages(name).iter().zip(plain) {
            let tags = |page: &str| page.matches('<').count();
            assert_eq!(tags(page), tags(&plain), "{name}");
            let data = page.split("id=\"data\">").nth(1).unwrap();
            let data = data.split("</script>").next().unwrap();
            let data: serde_json::Value = serde_json::from_str(data).unwrap();
            let found = [
                &data["summary"]["universe"],
                &data["title"],
                &data["sweep"]["universe"],
            ];
            assert!(
                found.iter().any(|text| text.as_str() == Some(name)),
                "{found:?}"
            );
        }
    }
}

#[test]
fn a_page_of_the_largest_map_stays_below_ten_megabytes() {
    let (summary, series) = sample::shells(false);
    let map = series.map().unwrap();
    assert!(map.frames().len() * map.holons().len() <= Map::VALUES_MAX);
    let page = run_page(&summary, &series);
    assert!(page.len() < 10_000_000, "{}", page.len());
}

#[test]
fn a_run_that_measured_nothing_still_has_a_page() {
    let page = run_page(&Summary::default(), &Series::default());
    assert!(page.contains("id=\"data\""));
}

/// What a run leaves, in a place of its own.
fn left(summary: &Summary, series: &Series) -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    let run = RunDirectory::begin_at(&place.path().join("run")).unwrap();
    let history = run.history().unwrap();
    run.finish(history, summary, series).unwrap();
    place
}

#[test]
fn a_run_is_read_back_as_it_was() {
    let (summary, series) = sample::site();
    let place = left(&summary, &series);
    let stored = Stored::read(&place.path().join("run")).unwrap();
    // NaN is not equal to itself; as JSON both are null.
    assert_eq!(stored.summary.to_json(), summary.to_json());
    assert_eq!(stored.series.seconds(), series.seconds());
    let bits = |column: &[f32]| column.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for (read, written) in stored.series.groups().iter().zip(series.groups()) {
        assert_eq!((&read.name, read.tiles), (&written.name, written.tiles));
        assert_eq!(read.limit_kelvin, written.limit_kelvin);
        assert_eq!(read.setpoint.is_nan(), written.setpoint.is_nan());
        for metric in Metric::ALL {
            assert_eq!(
                bits(read.column(metric)),
                bits(written.column(metric)),
                "{metric:?}"
            );
        }
    }
    assert_eq!(stored.series.groups().len(), series.groups().len());
}

#[test]
fn a_directory_that_is_no_whole_run_is_refused_with_what_is_wrong() {
    let (summary, series) = sample::cell();
    let broken = |what: &dyn Fn(&Path)| {
        let place = left(&summary, &series);
        let run = place.path().join("run");
        what(&run);
        let before = names(place.path());
        let error = Stored::read(&run).unwrap_err().to_string();
        assert_eq!(names(place.path()), before, "reading writes nothing");
        error.replace(&place.path().display().to_string(), "")
    };
    let changed = |sql: &'static str| {
        move |run: &Path| {
            Connection::open(run.join("history.db"))
                .unwrap()
                .execute_batch(sql)
                .unwrap()
        }
    };
    // By somebody who makes it look whole.
    let sealed = |run: &Path| {
        let print = Fingerprint::of(&run.join("history.db")).unwrap();
        fs::write(run.join("history.db.b3"), print.as_line()).unwrap();
    };
    let sql = |sql: &'static str| {
        move |run: &Path| {
            changed(sql)(run);
            sealed(run);
        }
    };
    for (what, says) in [
        (
            &(|run: &Path| fs::remove_dir_all(run).unwrap()) as &dyn Fn(&Path),
            "cannot read /run: No such file",
        ),
        (
            &|run| fs::remove_file(run.join("summary.json")).unwrap(),
            "/run is no run: it holds no summary.json",
        ),
        (
            &|run| fs::remove_file(run.join("history.db")).unwrap(),
            "/run is no run: it holds no history.db",
        ),
        (
            &|run| fs::write(run.join("summary.json"), "{\n \"universe\": 7}").unwrap(),
            "/run/summary.json:2:14: invalid type: integer `7`, expected a string",
        ),
        (
            &|run| {
                fs::write(run.join("history.db"), "no database at all, only text").unwrap();
                sealed(run);
            },
            "/run/history.db is damaged or no history: file is not a database",
        ),
        (
            &sql("PRAGMA user_version = 99"),
            "/run/history.db: found tables of version 99; expected 1",
        ),
        (
            &sql("DELETE FROM runs"),
            "/run/history.db: its run was stopped before",
        ),
        (
            &sql("DROP TABLE groups"),
            "/run/history.db is damaged or no history: no such table: groups",
        ),
        (
            &sql("UPDATE runs SET history_hash = 'f'"),
            "/run: summary.json and history.db are of different runs",
        ),
        (
            &changed("DELETE FROM decisions"),
            "/run/history.db was changed after its run: found BLAKE3 ",
        ),
        (
            &|run| fs::remove_file(run.join("history.db.b3")).unwrap(),
            "/run is no run: it holds no history.db.b3",
        ),
        (
            &|run| fs::write(run.join("history.db.b3"), "torn").unwrap(),
            "/run/history.db.b3: found \"torn\"; expected the BLAKE3 of history.db",
        ),
    ] {
        let error = broken(what);
        assert!(error.starts_with(says), "{error}");
    }
}

#[test]
fn a_log_beside_a_history_is_not_the_runs_and_reading_leaves_nothing() {
    let (summary, series) = sample::cell();
    let place = left(&summary, &series);
    let run = place.path().join("run");
    let copy = place.path().join("copy.db");
    fs::copy(run.join("history.db"), &copy).unwrap();
    let db = Connection::open(&copy).unwrap();
    db.execute_batch("PRAGMA journal_mode = wal; DELETE FROM runs")
        .unwrap();
    fs::copy(place.path().join("copy.db-wal"), run.join("history.db-wal")).unwrap();
    let before = names(&run);
    let stored = Stored::read(&run).unwrap();
    assert_eq!(stored.summary.to_json(), summary.to_json());
    assert_eq!(names(&run), before);
}

#[test]
fn curves_are_read_as_they_are_printed_and_as_they_were_published() {
    let place = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = place.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let one = r#"{"policy": "fgd", "pods": "openb_pod_list_default.csv", "seed": 42, "wall_seconds": 1,
        "curve": [{"arrived_percent": 5, "allocated_percent": 4.9, "fragmented_of_idle_percent": 1.5}]}"#;
    let several = format!("{{\"experiments\": [{one}, {one}], \"means\": []}}");
    let read = Curve::read(&file("one.json", one)).unwrap();
    assert_eq!(
        (read.len(), read[0].seed, read[0].migrate, read[0].published),
        (1, Some(42), 0, false)
    );
    assert_eq!(read[0].points[0].fragmented_of_idle_percent, Some(1.5));
    assert_eq!(
        Curve::read(&file("several.json", &several)).unwrap().len(),
        2
    );
    let moved = one.replacen('{', "{\"migrate\": 5, ", 1);
    let moved = Curve::read(&file("moved.json", &moved)).unwrap();
    assert_eq!(moved[0].migrate, 5);
    let header = "pod_list,policy,arrived_percent,allocated_percent_mean,allocated_percent_sd,\
                  fragmented_of_idle_percent_mean,seeds\n";
    let published = format!(
        "{header}default,FGD,5,5.0,0.1,,10\ndefault,FGD,10,9.9,0.1,2.5,10\nlarge,FGD,5,5,0,0,10\n"
    );
    let read = Curve::read_published(&file("published.csv", &published)).unwrap();
    assert_eq!((read.len(), read[0].points.len()), (2, 2));
    assert_eq!(read[0].points[0].fragmented_of_idle_percent, None);
    assert!(read[0].is_for("openb_pod_list_default.csv") && read[0].is_for("default"));
    assert!(!read[0].is_for("openb_pod_list_nodefault.csv") && !read[1].is_for("default"));
    let wrong = |error: ReadError| {
        error
            .to_string()
            .replace(&place.path().display().to_string(), "")
    };
    let empty = one.replace(
        r#"{"arrived_percent": 5, "allocated_percent": 4.9, "fragmented_of_idle_percent": 1.5}"#,
        "",
    );
    for (text, says) in [
        (
            "{\n  7",
            "/x.json:2:3: this is no JSON (key must be a string); expected what `cosmos twin pack --json` prints",
        ),
        (
            "{",
            "/x.json:1:1: the file ends in the middle; expected what `cosmos twin pack --json` prints",
        ),
        (
            "{}",
            "/x.json: found no curve of a placement policy; expected",
        ),
        (&empty, "/x.json: the curve of fgd has no points"),
    ] {
        let error = wrong(Curve::read(&file("x.json", text)).unwrap_err());
        assert!(error.starts_with(says), "{error}");
    }
    let error = wrong(
        Curve::read_published(&file("x.csv", &format!("{header}a,b,x,1,2,3,4\n"))).unwrap_err(),
    );
    assert!(
        error.contains("line: 2") && error.contains("invalid float"),
        "{error}"
    );
}

#[test]
fn a_day_of_a_thousand_nodes_and_twelve_thousand_jobs_is_a_page_of_seven_megabytes() {
    let (summary, series) = sample_cluster::cluster(12_000);
    let page = run_page(&summary, &series);
    assert!(page.len() < 7_000_000, "{}", page.len());
    let cluster = series.cluster().unwrap();
    assert_eq!(
        (cluster.jobs.all().count(), cluster.jobs.untold()),
        (12_000, 0)
    );
    let stays = cluster.jobs.all().map(|job| job.stays.len());
    assert!(stays.sum::<usize>() >= 10_000);
}
