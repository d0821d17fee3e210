//! How full did each policy pack a cluster?
//!
//! What `cosmos twin pack --json` prints, read back, and results that were published, to be
//! drawn over each other ([`super::report::packing_page`]).

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::stored::ReadError;

/// How one policy filled a cluster that begins empty and loses nothing (the experiment of
/// Weng et al., USENIX ATC 2023, § 6): one result of `cosmos twin pack --json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// The policy.
    pub policy: String,
    /// The list of pods.
    pub pods: String,
    /// The seed of the order they arrived in, if it was drawn from one.
    #[serde(default)]
    pub seed: Option<u64>,
    /// How many placed pods might be moved for each hundred arrivals.
    #[serde(default)]
    pub migrate: u32,
    /// Not measured here: a published result, which others are held against.
    #[serde(default)]
    pub published: bool,
    /// A point per step of arrival.
    #[serde(rename = "curve")]
    pub points: Vec<CurvePoint>,
}

/// Where a curve is when so much has arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// GPUs asked for so far, in percent of those there are.
    pub arrived_percent: f64,
    /// GPUs given, in percent of those there are.
    pub allocated_percent: f64,
    /// Of the GPUs not given, those no typical pod could use, in percent; `None` if nothing is idle.
    #[serde(default)]
    pub fragmented_of_idle_percent: Option<f64>,
}

/// What a file of curves is.
const PACKED: &str = "what `cosmos twin pack --json` prints";

/// What a file of `cosmos twin pack --json` holds: one experiment, or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Packed {
    Several { experiments: Vec<Curve> },
    One(Curve),
}

/// A line of published results: a mean over seeds.
#[derive(Deserialize)]
struct Published {
    pod_list: String,
    policy: String,
    arrived_percent: f64,
    allocated_percent_mean: f64,
    fragmented_of_idle_percent_mean: Option<f64>,
}

impl Curve {
    /// Reads what `cosmos twin pack --json` printed.
    ///
    /// # Errors
    /// If there is no such file, or it holds something else.
    pub fn read(path: &Path) -> Result<Vec<Self>, ReadError> {
        let text = fs::read_to_string(path).map_err(ReadError::file(path))?;
        // Twice, because only the first names the place of a mistake and only the second the key.
        let json: serde_json::Value =
            serde_json::from_str(&text).map_err(ReadError::json(path, PACKED))?;
        let curves = match serde_json::from_value(json) {
            Ok(Packed::Several { experiments }) => experiments,
            Ok(Packed::One(curve)) => vec![curve],
            Err(_) => {
                return Err(ReadError::wrong(
                    path,
                    &format!("found no curve of a placement policy; expected {PACKED}"),
                ));
            }
        };
        match curves.iter().find(|curve| curve.points.is_empty()) {
            Some(empty) => Err(ReadError::wrong(
                path,
                &format!("the curve of {} has no points", empty.policy),
            )),
            None => Ok(curves),
        }
    }

    /// Reads published results: CSV with the columns `pod_list`, `policy`, `arrived_percent`,
    /// `allocated_percent_mean` and `fragmented_of_idle_percent_mean`.
    ///
    /// # Errors
    /// If there is no such file, or a line does not have these columns.
    pub fn read_published(path: &Path) -> Result<Vec<Self>, ReadError> {
        let text = fs::read_to_string(path).map_err(ReadError::file(path))?;
        let mut curves: Vec<Self> = Vec::new();
        for line in csv::Reader::from_reader(text.as_bytes()).deserialize() {
            let line: Published = line.map_err(|e| ReadError::wrong(path, &e.to_string()))?;
            let point = CurvePoint {
                arrived_percent: line.arrived_percent,
                allocated_percent: line.allocated_percent_mean,
                fragmented_of_idle_percent: line.fragmented_of_idle_percent_mean,
            };
            let same = |c: &&mut Self| c.policy == line.policy && c.pods == line.pod_list;
            match curves.iter_mut().find(same) {
                Some(curve) => curve.points.push(point),
                None => curves.push(Self {
                    policy: line.policy,
                    pods: line.pod_list,
                    seed: None,
                    migrate: 0,
                    published: true,
                    points: vec![point],
                }),
            }
        }
        Ok(curves)
    }

    /// Whether a published list is the one of this name: `default` is `openb_pod_list_default.csv`.
    #[must_use]
    pub fn is_for(&self, pods: &str) -> bool {
        let stem = pods.strip_suffix(".csv").unwrap_or(pods);
        stem == self.pods
            || stem
                .strip_suffix(&self.pods)
                .is_some_and(|s| s.ends_with('_'))
    }
}
