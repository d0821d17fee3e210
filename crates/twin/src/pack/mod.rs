//! How much work fits into this cluster before the rest of it is of no use?
//!
//! The published packing experiment (Weng et al., *Beware of Fragmentation: Scheduling
//! GPU-Sharing Workloads with Fragmentation Gradient Descent*, ATC 2023, § 6): an empty
//! cluster; pods arrive one at a time in a given order until what has arrived is worth
//! 130 % of its GPU; each is placed at once or dropped; none leaves, none is retried.
//! What is looked at is how much GPU is allocated, and how much of the rest is
//! fragmented, as work arrives.
//!
//! Who decides is [`scheduler::policy`], the code a live site runs. The experiment
//! keeps no clock: whoever wants to know how long decisions took hands one in.
//!
//! Deliberately absent: time, departures, queues and heat ([`crate::site`] has them).
//!
//! Tour: [`order`] who arrives when · `chance` what a seed stands for ·
//! [`experiment`] the run and its curve.

mod chance;
pub mod experiment;
pub mod order;

pub use experiment::{
    ARRIVED_PERCENT_MAX, Cluster, Experiment, Outcome, Point, STEP_PERCENT, quantile,
};
pub use order::{Draw, Order};

use std::path::PathBuf;

/// Why an experiment cannot be run. Nothing was.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The operating system refused.
    #[error("cannot read {}: {source}; expected a list of pod names, one a line, plain or gzipped", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The order names a pod that the list does not have.
    #[error("{}:{line}: found {found:?}; expected the name of a pod of {}, or such a name followed by -tuned-N for a clone", file.display(), pods.display())]
    Unknown {
        /// The order.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        found: String,
        /// The list of pods.
        pods: PathBuf,
    },
    /// The order names a pod a second time.
    #[error("{}:{line}: found {found:?} a second time; expected each pod once, clones named -tuned-N", file.display())]
    Twice {
        /// The order.
        file: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What stands there.
        found: String,
    },
    /// The order has no names.
    #[error("{}:1: found no name; expected the names of the pods in order of arrival, one a line", file.display())]
    Nobody {
        /// The order.
        file: PathBuf,
    },
    /// There is nothing to allocate.
    #[error("{}: found {nodes} nodes without a single GPU; expected GPUs, of which shares are allocated", file.display())]
    NoGpus {
        /// The list of nodes.
        file: PathBuf,
        /// How many nodes it has.
        nodes: usize,
    },
    /// Nobody wants what there is.
    #[error("{}: found {pods} pods of which none asks for GPU; expected some, since arrivals are counted in GPU asked for", file.display())]
    NoDemand {
        /// The list of pods.
        file: PathBuf,
        /// How many pods it has.
        pods: usize,
    },
}
