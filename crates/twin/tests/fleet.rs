//! Hosts on a switch through their public face: what is rehearsed, and how it is held against what was measured.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use twin::observer::Nobody;
use twin::record::Summary;
use twin::record::summary::Invariant;
use twin::rehearsal::{Given, Request, Universe, simulate};
use twin::universe::Document;

const THREE: &str = "\
name = 'three'
intent = 'Three hosts, one of which dies and returns.'
kind = 'fleet'
[time]
end = '30 s'
rehearsals = 40
[hosts]
count = 3
[[fault]]
kind = 'kill'
at = '2 s'
lasts = '15 s'
hosts = [3]
[bounds]
prediction = '25 %'
";

fn universe(text: &str) -> Result<Universe, String> {
    let document = Document::parse("three.toml", text, &[]).map_err(|e| e.to_string())?;
    Universe::read(&document).map_err(|e| e.to_string())
}

fn rehearse(universe: Universe, seed: u64) -> Summary {
    let request = Request {
        seed,
        threads: 1,
        out: None,
        overrides: Vec::new(),
        command: String::new(),
        replay: None,
        inputs: None,
    };
    simulate(universe, &request, &mut Nobody).summary
}

fn broken(summary: &Summary) -> Vec<&str> {
    let broken = summary
        .invariants
        .iter()
        .filter(|invariant| !invariant.held);
    broken.map(|Invariant { name, .. }| name.as_str()).collect()
}

#[test]
fn the_dead_are_missed_and_the_same_seed_gives_the_same_history() {
    let three = || rehearse(universe(THREE).unwrap(), 7);
    let summary = three();
    assert_eq!(broken(&summary), [""; 0]);
    let fleet = summary.fleet.as_ref().unwrap();
    assert_eq!(fleet.spans[0].what, "held removed after kill");
    assert_eq!(fleet.spans[0].predicted, 40 * 2);
    assert_eq!(fleet.spans[1].what, "held alive again after kill");
    assert_eq!(three().history_hash, summary.history_hash);
    let other = rehearse(universe(THREE).unwrap(), 8);
    assert_ne!(other.history_hash, summary.history_hash);
}

#[test]
fn a_partition_shows_and_a_fleet_without_faults_has_nothing_to_notice() {
    let cut = THREE.replace("'kill'", "'partition'");
    let summary = rehearse(universe(&cut).unwrap(), 1);
    assert_eq!(broken(&summary), [""; 0]);
    let fleet = summary.fleet.unwrap();
    assert_eq!(fleet.spans[0].what, "held removed after partition");
    // By the other two; who is alone hears nobody, and accuses nobody.
    assert_eq!(fleet.spans[0].predicted, 40 * 2);

    let from = THREE.find("[[fault]]").unwrap();
    let to = THREE.find("[bounds]").unwrap();
    let calm = format!("{}{}", &THREE[..from], &THREE[to..]);
    let summary = rehearse(universe(&calm).unwrap(), 1);
    assert_eq!(broken(&summary), [""; 0]);
    assert!(summary.fleet.unwrap().spans.is_empty());
}

#[test]
fn half_of_all_messages_lost_breaks_what_must_hold() {
    let lossy = THREE.replace("[hosts]", "[links]\nloss = '70 %'\n[hosts]");
    let summary = rehearse(universe(&lossy).unwrap(), 1);
    assert!(
        broken(&summary).contains(&"no_false_removals"),
        "{:?}",
        broken(&summary)
    );
}

/// Who notices after so many milliseconds, in a history of real hosts.
fn measured(took_ms: [u64; 2]) -> (TempDir, std::path::PathBuf) {
    let ms = 1_000_000;
    let change = |at_ms: u64, observer: u32, state: &str| json!({ "at_ns": at_ms * ms, "observer": observer, "subject": 2, "state": state });
    let history = json!({
        "struck": [{ "at_ns": 2_010 * ms, "until_ns": 17_020 * ms }],
        "changes": [
            change(2_010 + took_ms[0], 0, "removed"),
            change(2_010 + took_ms[1], 1, "removed"),
            change(17_500, 0, "alive"),
            change(17_600, 1, "alive"),
        ],
    });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("history.json");
    fs::write(&file, history.to_string()).unwrap();
    (folder, file)
}

fn beside(file: &Path, text: &str) -> Result<Summary, String> {
    let mut universe = universe(text)?;
    let given = Given {
        measured: Some(file),
        ..Given::default()
    };
    universe.load(&given).map_err(|e| e.to_string())?;
    Ok(rehearse(universe, 7))
}

#[test]
fn what_was_measured_stands_beside_and_is_judged_by_the_median() {
    let predicted = rehearse(universe(THREE).unwrap(), 7).fleet.unwrap().spans[0].predicted_seconds;
    let p50_ms = (predicted.p50 * 1e3) as u64;
    let (_folder, file) = measured([p50_ms, p50_ms + 100]);
    let summary = beside(&file, THREE).unwrap();
    assert_eq!(broken(&summary), [""; 0]);
    let span = &summary.fleet.as_ref().unwrap().spans[0];
    assert_eq!(span.measured, 2);
    assert!((span.ratio_p50 - 1.0).abs() < 0.01, "{}", span.ratio_p50);

    let (_folder, file) = measured([p50_ms * 2, p50_ms * 2 + 1]);
    assert_eq!(broken(&beside(&file, THREE).unwrap()), ["prediction"]);
    let (_folder, file) = measured([14_000, 50_000]);
    let late = beside(&file, THREE).unwrap();
    let late = broken(&late);
    for name in [
        "measured_deaths_noticed",
        "measured_detection_p99",
        "prediction",
    ] {
        assert!(late.contains(&name), "{name}: {late:?}");
    }
    let nothing = fs::write(&file, r#"{"struck":[],"changes":[]}"#).map(|()| beside(&file, THREE));
    assert!(
        nothing
            .unwrap()
            .unwrap_err()
            .contains("expected 1 as in the universe")
    );
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    let wrong = |from: &str, to: &str| {
        let text = THREE.replacen(from, to, 1);
        assert_ne!(text, THREE, "{from}");
        universe(&text).unwrap_err()
    };
    for (from, to, line, said) in [
        ("hosts = [3]", "hosts = [4]", 13, "expected"),
        ("hosts = [3]", "hosts = []", 13, "expected"),
        ("'kill'", "'kil'", 10, "did you mean \"kill\"?"),
        ("'kill'", "'rate'", 9, "rate"),
        ("count = 3", "count = 65", 8, "64"),
        (
            "hosts = [3]",
            "hosts = [3]\ntimes = 3\nevery = '20 s'",
            15,
            "the last of 3",
        ),
    ] {
        let problems = wrong(from, to);
        assert!(
            problems.contains(&format!("three.toml:{line}: ")) && problems.contains(said),
            "{to}: {problems}"
        );
    }
}

#[test]
fn a_host_is_not_killed_while_it_is_dead_nor_cut_off_twice() {
    let again =
        format!("{THREE}[[fault]]\nkind = 'pause'\nat = '5 s'\nlasts = '1 s'\nhosts = [3]\n");
    let problems = universe(&again).unwrap_err();
    assert!(
        problems.contains("a kill of 2s") || problems.contains("a kill of 2 s"),
        "{problems}"
    );
    let twice = THREE.replace("'kill'", "'partition'");
    let twice =
        format!("{twice}[[fault]]\nkind = 'partition'\nat = '5 s'\nlasts = '1 s'\nhosts = [1]\n");
    assert!(universe(&twice).unwrap_err().contains("a partition of 2"));
    let after =
        format!("{THREE}[[fault]]\nkind = 'pause'\nat = '17 s'\nlasts = '1 s'\nhosts = [3]\n");
    assert!(universe(&after).is_ok());
}

#[test]
fn a_request_that_is_lost_while_a_machine_drains_is_a_violation_and_one_lost_with_a_machine_is_not()
{
    let text = "\
name = 'served'
intent = 'A server in two replicas, one of whose machines drains, and another dies.'
kind = 'fleet'
[time]
end = '50 s'
rehearsals = 20
[hosts]
count = 3
[[program]]
name = 'web'
replicas = 2
takes = '50 ms'
[[fault]]
kind = 'drain'
at = '5 s'
lasts = '15 s'
hosts = [1]
[[fault]]
kind = 'kill'
at = '30 s'
hosts = [2]
";
    let summary = rehearse(universe(text).unwrap(), 3);
    assert_eq!(broken(&summary), [""; 0]);
    let fleet = summary.fleet.unwrap();
    let served: Vec<_> = fleet.served.iter().map(|row| row.during.as_str()).collect();
    assert_eq!(served, ["drain", "kill", "peace"]);
    // Two of two run while a machine drains, 20 answers a second each; and fewer while one is dead and not missed yet.
    let [drain, kill, _] = fleet.served.as_slice() else {
        panic!("{:?}", fleet.served);
    };
    assert!(
        (39.0..=40.0).contains(&drain.predicted_per_second),
        "{drain:?}"
    );
    assert!(
        kill.predicted_per_second < drain.predicted_per_second,
        "{kill:?}"
    );
    let folder = TempDir::new().unwrap();
    let measured = |at_s: u64, fate: &str| {
        let request = |at_s: u64, fate: &str| json!({ "at_ns": at_s * 1_000_000_000, "took_ns": 50_000_000, "fate": fate, "turned_away": 0 });
        let history = json!({
            "struck": [
                { "at_ns": 5_000_000_000_u64, "until_ns": 20_000_000_000_u64 },
                { "at_ns": 30_000_000_000_u64, "until_ns": null },
            ],
            "changes": [
                { "at_ns": 33_000_000_000_u64, "observer": 0, "subject": 1, "state": "removed" },
                { "at_ns": 33_000_000_000_u64, "observer": 2, "subject": 1, "state": "removed" },
            ],
            "requests": [request(6, "whole"), request(21, "whole"), request(at_s, fate)],
        });
        let path = folder.path().join("history.json");
        fs::write(&path, history.to_string()).unwrap();
        broken(&beside(&path, text).unwrap()).join(" ")
    };
    assert_eq!(measured(7, "whole"), "");
    assert_eq!(measured(7, "lost"), "measured_none_lost_in_drain");
    assert_eq!(measured(7, "nowhere"), "measured_none_lost_in_drain");
    assert_eq!(measured(22, "lost"), "measured_none_lost_in_peace");
    assert_eq!(measured(31, "lost"), "");
}
