//! In what do these runs differ?
//!
//! Every number and verdict of `summary.json` under a flat name, of which those are kept that are
//! not the same in all runs. Lists whose entries have names (invariants, faults, decisions, tenants)
//! go by these, not by their places: a run with one more tenant differs in that tenant only.

use serde::Serialize;
use serde_json::Value;

use super::Summary;

/// A number or verdict that is not the same in all runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Its place in `summary.json`: `site/waiting_seconds/p95`, `decisions/queue/no free capacity`.
    pub key: String,
    /// Its value in each run; null where it was not measured or is not there.
    pub values: Vec<Value>,
    /// Whether it tells of the machine the run was computed on rather than of the run.
    pub host: bool,
}

/// What only tells of the machine a run was computed on.
const HOST: [&str; 5] = [
    "threads",
    "wall_seconds",
    "events_per_second",
    "peak_rss_bytes",
    "os_overhead_fraction",
];

/// Where these runs differ, in the order of `summary.json`, what tells of the host last.
#[must_use]
pub fn differences(runs: &[&Summary]) -> Vec<Difference> {
    let mut keys: Vec<String> = Vec::new();
    let flat: Vec<Vec<(String, Value)>> = runs.iter().map(|run| leaves(run)).collect();
    for (key, _) in flat.iter().flatten() {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    let all = keys.into_iter().map(|key| {
        let of = |leaves: &Vec<(String, Value)>| {
            let found = leaves.iter().find(|(k, _)| *k == key);
            found.map_or(Value::Null, |(_, value)| value.clone())
        };
        Difference {
            values: flat.iter().map(of).collect(),
            host: HOST.contains(&key.as_str()),
            key,
        }
    });
    let mut all: Vec<Difference> = all
        .filter(|d| d.values.iter().any(|v| *v != d.values[0]))
        .collect();
    all.sort_by_key(|d| d.host);
    all
}

fn leaves(run: &Summary) -> Vec<(String, Value)> {
    let json = serde_json::to_value(run).expect("a summary is JSON");
    let mut leaves = Vec::new();
    walk("", &json, &mut leaves);
    leaves
}

fn walk(key: &str, value: &Value, to: &mut Vec<(String, Value)>) {
    let under = |name: &str| match key {
        "" => name.to_owned(),
        key => format!("{key}/{name}"),
    };
    match value {
        // Words say nothing that a number does not, and differ with every path.
        Value::String(_) => {}
        Value::Null | Value::Bool(_) | Value::Number(_) => to.push((key.to_owned(), value.clone())),
        Value::Object(entries) => {
            for (name, value) in entries {
                walk(&under(name), value, to);
            }
        }
        Value::Array(entries) => {
            for (place, entry) in entries.iter().enumerate() {
                let word = |key: &str| entry[key].as_str();
                let name = match (word("name").or_else(|| word("kind")), word("action")) {
                    (Some(name), _) => name.to_owned(),
                    (_, Some(action)) => format!("{action}/{}", word("reason").unwrap_or_default()),
                    _ => match (word("replayed"), word("measured")) {
                        (Some(a), Some(b)) => format!("{a}/{b}"),
                        _ => place.to_string(),
                    },
                };
                walk(&under(&name), entry, to);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::summary::{DecisionCount, Fault, Invariant};

    fn run(held: bool, faults: &[(&str, u64)], queued: u64, wall: f64) -> Summary {
        let fault = |(kind, fired): &(&str, u64)| Fault {
            kind: (*kind).to_owned(),
            injected: 1,
            fired: *fired,
        };
        Summary {
            command: format!("cosmos --threads {wall}"),
            wall_seconds: wall,
            invariants: vec![Invariant {
                name: "quiet".to_owned(),
                held,
                first_violation: None,
            }],
            faults: faults.iter().map(fault).collect(),
            decisions: vec![DecisionCount {
                action: "queue".to_owned(),
                reason: "no free capacity".to_owned(),
                count: queued,
            }],
            ..Summary::default()
        }
    }

    #[test]
    fn only_what_differs_is_told_by_its_name_and_the_host_comes_last() {
        let one = run(true, &[("pump", 1)], 3, 1.0);
        let two = run(false, &[("node", 1), ("pump", 1)], 3, 2.0);
        let told: Vec<_> = differences(&[&one, &two])
            .into_iter()
            .map(|d| format!("{} {} {}", d.key, d.values[0], d.values[1]))
            .collect();
        assert_eq!(
            told,
            [
                "invariants/quiet/held true false",
                "faults/node/fired null 1",
                "faults/node/injected null 1",
                "wall_seconds 1.0 2.0",
            ]
        );
        assert_eq!(differences(&[&one, &one, &one]), []);
    }
}
