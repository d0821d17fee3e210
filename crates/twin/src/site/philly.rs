//! What ran on Microsoft's Philly clusters?
//!
//! Lists as the Gavel project derived them from the Philly trace (Jeon et al.,
//! *Analysis of Large-Scale Multi-Tenant GPU Clusters*, ATC '19), one file per virtual
//! cluster, which is one tenant: the type of a job, the steps it makes, when it arrives in
//! seconds, and its GPUs. A type is a synthetic stand-in that Gavel gave each job, so that its run
//! time is steps ÷ steps per second ([`RATES`]).
//!
//! # Assumptions
//!
//! * The steps per second are a V100's; with several GPUs a step takes as long as with one,
//!   each working on a batch of its own (weak scaling). Gavel measured up to four GPUs,
//!   where steps came between 1.2 and 6 times as fast; Philly has up to 64.
//! * More than eight GPUs are several nodes ([`super::jobs::gang`]).
//! * Every job is best effort and may be stopped: the lists do not say.

use std::io::Read;
use std::path::Path;

use scheduler::site::Quality;

use super::jobs::{Listed, Source, gang, whole_gpus};
use super::trace::{List, SECONDS_MAX, TraceError};

/// Steps a second of each job type on one NVIDIA V100.
///
/// Source: the measurements of Gavel (Narayanan et al., *Heterogeneity-Aware Cluster
/// Scheduling Policies for Deep Learning Workloads*, OSDI '20), repository
/// stanford-futuredata/gavel, `scheduler/oracle_throughputs.json`. For A3C, LM with 5, 10, 40
/// and 80, Recommendation with 512 to 2048, and Transformer with 128 and 256 it is the rate of a job alone.
/// The others were read off beside the lightest other job, "Recommendation" or "LM", so
/// they may be some percent too low. ResNet-50 with 128 is the P100's 1.08 times the 2.5 between both
/// devices for 64: a stand-in.
pub const RATES: [(&str, f64); 26] = [
    ("A3C", 8.233),
    ("CycleGAN", 4.356),
    ("LM (batch size 5)", 167.1),
    ("LM (batch size 10)", 143.4),
    ("LM (batch size 20)", 92.08),
    ("LM (batch size 40)", 71.72),
    ("LM (batch size 80)", 43.90),
    ("Recommendation (batch size 512)", 0.3315),
    ("Recommendation (batch size 1024)", 0.4800),
    ("Recommendation (batch size 2048)", 0.5675),
    ("Recommendation (batch size 4096)", 0.5557),
    ("Recommendation (batch size 8192)", 0.5498),
    ("ResNet-18 (batch size 16)", 66.98),
    ("ResNet-18 (batch size 32)", 57.56),
    ("ResNet-18 (batch size 64)", 42.50),
    ("ResNet-18 (batch size 128)", 27.09),
    ("ResNet-18 (batch size 256)", 15.42),
    ("ResNet-50 (batch size 16)", 15.64),
    ("ResNet-50 (batch size 32)", 9.123),
    ("ResNet-50 (batch size 64)", 5.101),
    ("ResNet-50 (batch size 128)", 2.71),
    ("Transformer (batch size 16)", 12.18),
    ("Transformer (batch size 32)", 11.30),
    ("Transformer (batch size 64)", 8.644),
    ("Transformer (batch size 128)", 5.771),
    ("Transformer (batch size 256)", 1.707),
];

/// More steps than any job makes in [`SECONDS_MAX`].
const STEPS_MAX: u64 = 1 << 40;
/// More GPUs than one job takes.
const GPUS_MAX: u64 = 4_096;

pub(super) fn read(
    from: impl Read,
    file: &Path,
    source: &Source,
) -> Result<Vec<Listed>, TraceError> {
    let mut list = List::open(file, from)?;
    let kind = list.column("job_type")?;
    let steps = list.column("num_steps")?;
    let arrival = list.column("arrival_s")?;
    let gpus = list.column("gpus")?;
    let cluster = file.file_stem().unwrap_or_default().to_string_lossy();
    let mut jobs = Vec::new();
    while list.next()? {
        let rate = RATES.iter().find(|(name, _)| *name == list.text(kind));
        let Some((_, rate)) = rate else {
            return Err(list.wrong(
                kind,
                "a job type whose steps per second are known, such as \"A3C\"",
            ));
        };
        let (tasks, each) = gang(list.number(gpus, 1, GPUS_MAX)? as u32)
            .expect("fewer GPUs than a job can have tasks");
        jobs.push(Listed {
            name: format!("{cluster}-{}", jobs.len() + 1).into(),
            arrives: list.decimal(arrival, 0.0, SECONDS_MAX as f64)?,
            runs: Some(list.number(steps, 0, STEPS_MAX)? as f64 / rate),
            limit: None,
            tenant: None,
            quality: Quality::BestEffort,
            tasks,
            demand: whole_gpus(each, source),
            labels: None,
        });
    }
    if jobs.is_empty() {
        return Err(list.ends_here("at least one job"));
    }
    Ok(jobs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::jobs::tests::source;

    fn message(line: &str) -> String {
        let text = format!("job_type,num_steps,arrival_s,gpus\n{line}\n");
        let error = read(text.as_bytes(), Path::new("0e4a51.csv"), &source());
        error.unwrap_err().to_string()
    }

    //= requirements W3
    #[test]
    fn a_job_runs_for_its_steps_over_the_steps_a_second_of_its_type() {
        let text = "gpus,job_type,num_steps,arrival_s\n16,\"LM (batch size 80)\",87800,6.5\n";
        let jobs = read(text.as_bytes(), Path::new("0e4a51.csv"), &source()).unwrap();
        assert_eq!((jobs[0].arrives, jobs[0].runs), (6.5, Some(2_000.0)));
        assert_eq!((jobs[0].tasks, jobs[0].demand.gpus), (2, 8));
        assert_eq!(jobs[0].demand.cpu_milli, 96_000);
        assert_eq!(&*jobs[0].name, "0e4a51-1");
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_what_was_expected() {
        for (line, expected) in [
            (
                "GPT,1,0.0,1",
                r#"0e4a51.csv:2: job_type: found "GPT"; expected a job type whose steps per second are known, such as "A3C""#,
            ),
            (
                "A3C,-1,0.0,1",
                r#"0e4a51.csv:2: num_steps: found "-1"; expected a whole number from 0 to 1099511627776"#,
            ),
            (
                "A3C,1,soon,1",
                r#"0e4a51.csv:2: arrival_s: found "soon"; expected a number from 0 to 946080000"#,
            ),
            (
                "A3C,1,0.0,0",
                r#"0e4a51.csv:2: gpus: found "0"; expected a whole number from 1 to 4096"#,
            ),
            (
                "A3C,1,0.0",
                "0e4a51.csv:2: found 3 values; expected 4, one per column",
            ),
        ] {
            assert_eq!(message(line), expected);
        }
        let header = "job_type,num_steps,arrival_s,gpus\n";
        let error = read(header.as_bytes(), Path::new("0e4a51.csv"), &source()).unwrap_err();
        let expected = "0e4a51.csv:2: the list ends here; expected at least one job";
        assert_eq!(error.to_string(), expected);
    }
}
