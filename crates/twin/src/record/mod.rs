//! What is left of a run when it is over?
//!
//! A directory with files that tell the same story to three readers:
//! `summary.json` to a script, `history.db` to whoever asks why, `report.html` to
//! whoever looks. All of it is written from four values that the engine fills while
//! it runs ([`Summary`], [`Series`], and the rows of [`History`]), and appears under
//! its name in one step ([`RunDirectory`]): a directory that can be seen is whole.
//!
//! Deliberately absent: any measuring. Nothing here reads a clock, counts an event
//! or judges an invariant; what is not handed in is shown as unknown, which is NaN
//! in memory, `null` in JSON, `NULL` in SQL and a gap in a chart.
//!
//! Tour: [`summary`] the outcome · [`series`] how it went over time · [`cluster`] queue, tenants,
//! loops and jobs of a cluster, those that are over in a file (`ended`) · [`film`] its nodes · [`history`] every decision · [`inputs`] what
//! it was made from · [`past`] asking a run of a site again · [`report`] the page · [`curve`]
//! policies that pack · [`directory`] how they get to disk · [`stored`] reading them back ·
//! [`difference`] what of them differs.

pub mod cluster;
pub mod curve;
pub mod decisions;
pub mod difference;
pub mod directory;
mod ended;
pub mod film;
pub mod history;
pub mod inputs;
pub mod past;
pub mod report;
pub mod series;
pub mod stored;
pub mod summary;

use std::path::PathBuf;

pub use cluster::Cluster;
pub use curve::{Curve, CurvePoint};
pub use decisions::Decisions;
pub use difference::{Difference, differences};
pub use directory::RunDirectory;
pub use film::Film;
pub use history::History;
pub use inputs::{Fingerprint, Inputs};
pub use past::{Past, PastError};
pub use report::{Comparison, Packing, Sweep};
pub use series::{Group, Holon, Layout, Map, Metric, Notable, Sample, Series};
pub use stored::{ReadError, Stored};
pub use summary::Summary;

/// Why a run could not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The operating system refused a step.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// The step, as a verb.
        doing: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A run is never written over another.
    #[error("{} already exists and was left as it is; choose another name", path.display())]
    Exists {
        /// What was asked for.
        path: PathBuf,
    },
    /// SQLite refused a step.
    #[error("cannot {doing} {}: {source}", path.display())]
    History {
        /// The step, as a verb.
        doing: &'static str,
        /// The history.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A Parquet file could not be written.
    #[error("cannot {doing} {}: {source}", path.display())]
    Parquet {
        /// The step, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What was wrong.
        source: parquet::errors::ParquetError,
    },
}
