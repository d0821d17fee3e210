//! How do others write work down?
//!
//! The Standard Workload Format, version 2.2 (Feitelson; Chapin et al., *Benchmarks and
//! Standards for the Evaluation of Parallel Job Schedulers*, JSSPP '99), in which the
//! Parallel Workloads Archive keeps the logs of 40 machines: a line of 18 numbers for
//! each job, −1 for what is not known, comments after `;`, the first of them a header of
//! `; Key: value` lines. What is read here is written here: [`Log::parse`] and its `Display`
//! are each other's inverse.
//!
//! # What is read into it
//!
//! * A processor is a GPU with its share of CPU and memory ([`Source`]): the format knows
//!   one kind of processor, and what runs out at a GPU site is GPUs.
//! * The user's group is the tenant, or the universe's name for the list if that is unknown.
//! * Queue 0 is interactive, as the standard suggests: latency-sensitive. All else is best
//!   effort.
//! * Times may have decimals, as some logs of the archive do.
//! * Requested processors and time count before used ones. A job without either processors
//!   or run time, cancelled before it began, is left out and counted.
//! * Waiting time, status and dependencies tell how the log's scheduler fared, and
//!   are not replayed: ours has to fare by itself.
//!
//! # What is written
//!
//! [`Scribe`] writes jobs as they ran. User, group, executable, queue and partition of a job that
//! came from a log stay what they were there; tenants of other lists are groups after the
//! highest of those, and the header says which is whose. Status is 1 for a job that finished, 0 for
//! one that was ended at its limit or lost with its machine, 5 for one that was turned away;
//! one that still ran or waited at the end has no status yet, and no run time: −1.

use std::fmt;
use std::io::BufRead;
use std::path::Path;

use scheduler::site::Quality;

use scheduler::ledger::{GPUS_MAX, WHOLE};
use wire::Instant;

use super::jobs::{Job, Labels, Listed, Source, Workload, gang, whole_gpus};
use super::outcome::{Fate, JobRecord};
use super::trace::{SECONDS_MAX, TraceError, ends_at, unreadable_text};

/// The fields of a line, in their order, as errors call them.
pub const FIELDS: [&str; 18] = [
    "job number",
    "submit time",
    "wait time",
    "run time",
    "allocated processors",
    "average CPU time",
    "used memory",
    "requested processors",
    "requested time",
    "requested memory",
    "status",
    "user",
    "group",
    "executable",
    "queue",
    "partition",
    "preceding job",
    "think time",
];

/// Which field is what.
pub mod field {
    #![expect(missing_docs, reason = "the names are those of the standard")]
    pub const JOB: usize = 0;
    pub const SUBMITTED: usize = 1;
    pub const WAITED: usize = 2;
    pub const RAN: usize = 3;
    pub const PROCESSORS: usize = 4;
    pub const PROCESSORS_REQUESTED: usize = 7;
    pub const TIME_REQUESTED: usize = 8;
    pub const MEMORY_REQUESTED: usize = 9;
    pub const STATUS: usize = 10;
    pub const USER: usize = 11;
    pub const GROUP: usize = 12;
    pub const QUEUE: usize = 14;
    pub const PARTITION: usize = 15;
}

/// A log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// `; Key: value`, in order. Comments of another shape are not kept.
    pub header: Vec<(String, String)>,
    /// A line each, −1 for what is not known.
    pub jobs: Vec<[f64; 18]>,
}

/// A job is at most 65,535 tasks, each on one node.
const PROCESSORS_MAX: f64 = (u16::MAX as usize * GPUS_MAX) as f64;

/// The most a field can be.
const fn most(field: usize) -> f64 {
    match field {
        field::SUBMITTED | field::WAITED | field::RAN | field::TIME_REQUESTED => SECONDS_MAX as f64,
        field::PROCESSORS | field::PROCESSORS_REQUESTED => PROCESSORS_MAX,
        // Where whole numbers end in binary fractions.
        _ => 9_007_199_254_740_992.0,
    }
}

impl Log {
    /// Reads a log; `file` is for errors.
    ///
    /// # Errors
    /// The first line that is not 18 numbers.
    pub fn parse(from: impl BufRead, file: &Path) -> Result<Self, TraceError> {
        Self::parse_to_its_end(from, file).map(|(log, _)| log)
    }

    /// The log, and how many lines it has.
    fn parse_to_its_end(mut from: impl BufRead, file: &Path) -> Result<(Self, u64), TraceError> {
        let mut log = Self::default();
        let (mut bytes, mut number) = (Vec::new(), 0);
        loop {
            number += 1;
            bytes.clear();
            let read = from.read_until(b'\n', &mut bytes);
            let read = read.map_err(|e| unreadable_text(file, number, &e))?;
            if read == 0 {
                return Ok((log, number - 1));
            }
            let line = std::str::from_utf8(&bytes).map_err(|e| TraceError::Text {
                file: file.to_owned(),
                line: number,
                found: e.to_string(),
                expected: "text in UTF-8",
            })?;
            let line = line.trim();
            if let Some(comment) = line.strip_prefix(';') {
                if let Some((key, value)) = comment.split_once(':') {
                    log.header
                        .push((key.trim().to_owned(), value.trim().to_owned()));
                }
            } else if !line.is_empty() {
                log.jobs.push(fields(line, file, number)?);
            }
        }
    }
}

fn fields(line: &str, file: &Path, number: u64) -> Result<[f64; 18], TraceError> {
    let words = line.split_whitespace();
    let mut job = [-1.0; 18];
    let found = words.clone().count();
    if found != FIELDS.len() {
        return Err(TraceError::Truncated {
            file: file.to_owned(),
            line: number,
            found,
            expected: FIELDS.len(),
        });
    }
    for (i, (word, value)) in words.zip(&mut job).enumerate() {
        let read = word.parse::<f64>().ok();
        let counts = matches!(i, field::PROCESSORS | field::PROCESSORS_REQUESTED);
        let fits = |x: &f64| (-1.0..=most(i)).contains(x);
        // Half a processor would be read as none of it.
        let is_count = |x: f64| x.fract() == 0.0 && (x < 1.0 || gang(x as u32).is_some());
        *value = read
            .filter(|x| fits(x) && (!counts || is_count(*x)))
            .ok_or_else(|| TraceError::Value {
                file: file.to_owned(),
                line: number,
                column: FIELDS[i],
                found: word.to_owned(),
                expected: if counts {
                    format!(
                        "a whole number up to {}, above {} one that tasks of at most {GPUS_MAX} divide (a job \
                         is at most {} tasks, each on one node), −1 for what is not known",
                        most(i),
                        u16::MAX,
                        u16::MAX
                    )
                } else {
                    format!("a number up to {}, −1 for what is not known", most(i))
                },
            })?;
    }
    Ok(job)
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.header.iter().try_for_each(|line| head(f, line))?;
        self.jobs.iter().try_for_each(|job| line(f, job))
    }
}

fn head(f: &mut impl fmt::Write, (key, value): &(String, String)) -> fmt::Result {
    writeln!(f, "; {key}: {value}")
}

fn line(f: &mut impl fmt::Write, job: &[f64; 18]) -> fmt::Result {
    for (i, value) in job.iter().enumerate() {
        let space = if i == 0 { "" } else { " " };
        write!(f, "{space}{value}")?;
    }
    writeln!(f)
}

pub(super) fn read(
    from: impl BufRead,
    file: &Path,
    source: &Source,
) -> Result<Vec<Listed>, TraceError> {
    let (log, lines) = Log::parse_to_its_end(from, file)?;
    if log.jobs.is_empty() {
        let expected = "at least one job, a line of 18 numbers";
        return Err(ends_at(file, lines + 1, expected));
    }
    let mut jobs = Vec::with_capacity(log.jobs.len());
    for job in &log.jobs {
        let first = |a: usize, b: usize| if job[a] > 0.0 { job[a] } else { job[b] };
        let processors = first(field::PROCESSORS_REQUESTED, field::PROCESSORS);
        let (ran, requested) = (job[field::RAN], job[field::TIME_REQUESTED]);
        let submitted = job[field::SUBMITTED].max(0.0);
        let is_work = processors >= 1.0 && ran > 0.0;
        let parts = is_work.then(|| gang(processors as u32)).flatten();
        let (tasks, each) = parts.unwrap_or((0, 0));
        let mut demand = whole_gpus(each, source);
        if job[field::MEMORY_REQUESTED] > 0.0 {
            // Kilobytes per processor.
            let mib = job[field::MEMORY_REQUESTED] / 1024.0 * f64::from(each);
            demand.memory_mib = mib.min(f64::from(u32::MAX)) as u32;
        }
        let group = job[field::GROUP];
        jobs.push(Listed {
            name: format!("{}", job[field::JOB]).into(),
            arrives: submitted,
            runs: Some(ran.max(0.0)),
            limit: (requested > 0.0).then_some(requested),
            tenant: (group >= 0.0).then(|| format!("group {group}").into()),
            quality: if job[field::QUEUE] == 0.0 {
                Quality::LatencySensitive
            } else {
                Quality::BestEffort
            },
            tasks,
            demand,
            labels: Some(labels(job)),
        });
    }
    Ok(jobs)
}

fn labels(job: &[f64; 18]) -> Labels {
    let mut labels = [-1.0; 5];
    labels.copy_from_slice(&job[field::USER..=field::PARTITION]);
    labels
}

/// Writes jobs as they ran, by their numbers. It keeps none of them.
#[derive(Clone, Debug)]
pub struct Scribe {
    /// `; Key: value`.
    header: Vec<(String, String)>,
    /// The group of the first tenant; the others follow.
    first: f64,
}

impl Scribe {
    /// Begins the log of a universe that replays this.
    #[must_use]
    pub fn new(universe: &str, load: &Workload) -> Self {
        let jobs = &load.jobs.jobs;
        let group = |job: &Job| job.labels.map_or(0.0, |labels| labels[1]);
        // The standard counts groups from 1.
        let first = jobs.iter().map(group).fold(0.0, f64::max) + 1.0;
        let gpus: u64 = load.nodes.iter().map(|node| u64::from(node.gpus)).sum();
        let mut header = vec![
            ("Version".to_owned(), "2.2".to_owned()),
            ("Computer".to_owned(), universe.to_owned()),
            ("UnixStartTime".to_owned(), "0".to_owned()),
            ("MaxNodes".to_owned(), load.nodes.len().to_string()),
            ("MaxProcs".to_owned(), gpus.to_string()),
            (
                "Note".to_owned(),
                "simulated; a processor is a GPU".to_owned(),
            ),
        ];
        let mut named: Vec<u16> = jobs
            .iter()
            .filter(|job| job.labels.is_none())
            .map(|job| job.tenant)
            .collect();
        named.sort_unstable();
        named.dedup();
        header.extend(named.into_iter().map(|tenant| {
            let name = &load.jobs.tenants[usize::from(tenant)];
            let note = format!("group {} is {name}", first + f64::from(tenant));
            ("Note".to_owned(), note)
        }));
        Self { header, first }
    }

    /// How the log of so many jobs begins.
    #[must_use]
    pub fn header(&self, jobs: u64) -> String {
        let mut header = self.header.clone();
        for key in ["MaxJobs", "MaxRecords"] {
            header.insert(2, (key.to_owned(), jobs.to_string()));
        }
        let mut text = String::new();
        let written = header.iter().try_for_each(|line| head(&mut text, line));
        written.expect("a string takes everything");
        text
    }

    /// What became of a job, as a line: times in whole seconds, as the standard has them, each event at the
    /// nearest, who ran for less than one for one; a processor for each GPU or part of one.
    #[must_use]
    pub fn line(&self, record: &JobRecord<'_>) -> String {
        let job = record.job;
        let at = |at: Instant| at.since(Instant::EPOCH).as_secs_f64().round();
        let mut line = [-1.0; 18];
        let gpus = job.gpu_milli().div_ceil(u64::from(WHOLE));
        line[field::JOB] = record.id as f64 + 1.0;
        line[field::SUBMITTED] = at(job.arrives);
        if let Some(started) = record.started {
            line[field::WAITED] = at(started) - at(job.arrives);
            line[field::PROCESSORS] = gpus as f64;
            if let Some(ended) = record.ended {
                // Who ran for nothing did not run, to whoever reads it.
                line[field::RAN] = (at(ended) - at(started)).max(1.0);
            }
        }
        line[field::PROCESSORS_REQUESTED] = gpus as f64;
        line[field::TIME_REQUESTED] = job.limit.map_or(-1.0, |l| l.as_secs_f64().ceil());
        if gpus > 0 {
            let mib = f64::from(job.demand.memory_mib) * f64::from(job.tasks) / gpus as f64;
            line[field::MEMORY_REQUESTED] = (mib * 1024.0).round();
        }
        line[field::STATUS] = match record.fate {
            Fate::Finished => 1.0,
            Fate::AtLimit | Fate::Lost => 0.0,
            Fate::Refused => 5.0,
            Fate::Running | Fate::Waiting => -1.0,
        };
        if let Some(labels) = job.labels {
            line[field::USER..=field::PARTITION].copy_from_slice(&labels);
        } else {
            line[field::GROUP] = self.first + f64::from(job.tenant);
            line[field::QUEUE] = f64::from(u8::from(job.quality == Quality::BestEffort));
        }
        let mut text = String::new();
        self::line(&mut text, &line).expect("a string takes everything");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::jobs::Jobs;
    use crate::site::jobs::tests::source;
    use proptest::prelude::*;
    use wire::Nanos;

    const LOG: &str = "; Version: 2.2\n; UnixStartTime: 807926400\n;\n; a remark\n\
        1 0 10 3600 16 -1 -1 -1 7200 -1 1 3 2 -1 1 -1 -1 -1\n\
        2 60 -1 -1 -1 -1 -1 4 600 -1 5 3 2 -1 1 -1 -1 -1\n\
        3 90 0 30.5 2 -1 -1 4 60 2048 1 4 -1 -1 0 -1 -1 -1\n";

    //= requirements W3
    #[test]
    fn requests_count_before_use_and_what_never_ran_is_left_out() {
        let jobs = Jobs::parse(LOG.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        assert_eq!((jobs.jobs.len(), jobs.left_out), (2, 1));
        let [gang, small] = &jobs.jobs[..] else {
            panic!("{jobs:?}")
        };
        assert_eq!((gang.tasks, gang.demand.gpus), (2, 8));
        assert_eq!(gang.limit, Some(Nanos::HOUR * 2));
        assert_eq!(
            (small.tasks, small.demand.gpus, small.demand.memory_mib),
            (1, 4, 8)
        );
        assert_eq!(small.arrives, Instant::EPOCH + Nanos::from_secs(90));
        assert_eq!(small.quality, Quality::LatencySensitive);
        assert_eq!(jobs.tenants, ["group 2", "test"]);
    }

    #[test]
    fn the_largest_machines_of_the_archive_fit() {
        // All of Intrepid, as ANL-Intrepid-2009 has it.
        let line = "7 0 0 60 163840 -1 -1 163840 60 -1 1 3 2 -1 1 -1 -1 -1\n";
        let jobs = Jobs::parse(line.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        assert_eq!((jobs.jobs[0].tasks, jobs.jobs[0].demand.gpus), (20_480, 8));
        assert_eq!(jobs.jobs[0].gpu_milli(), 163_840_000);
    }

    #[test]
    fn what_became_of_a_job_is_its_status_and_whose_it_was_stays() {
        let mut jobs = Jobs::parse(LOG.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        // One of a list without numbers.
        jobs.jobs[1].labels = None;
        let load = Workload {
            jobs,
            ..Workload::default()
        };
        let started = Some(Instant::EPOCH + Nanos::from_secs(100));
        let ended = Some(Instant::EPOCH + Nanos::from_secs(130));
        for (fate, ended, status, ran) in [
            (Fate::Finished, ended, 1.0, 30.0),
            (Fate::AtLimit, ended, 0.0, 30.0),
            (Fate::Lost, ended, 0.0, 30.0),
            (Fate::Running, None, -1.0, -1.0),
        ] {
            let scribe = Scribe::new("test", &load);
            let mut log = scribe.header(2);
            for id in [0, 1] {
                log += &scribe.line(&JobRecord {
                    id,
                    job: &load.jobs.jobs[id as usize],
                    tenant: "",
                    started,
                    ended,
                    tasks: &[],
                    fate,
                });
            }
            let log = Log::parse(log.as_bytes(), Path::new("x.swf")).unwrap();
            let [first, second] = &log.jobs[..] else {
                panic!("{log}")
            };
            assert_eq!((first[field::STATUS], first[field::RAN]), (status, ran));
            assert_eq!((first[field::USER], first[field::GROUP]), (3.0, 2.0));
            assert_eq!((second[field::USER], second[field::GROUP]), (-1.0, 4.0));
            let told = |key: &str, value: &str| {
                let pair = (key.to_owned(), value.to_owned());
                assert!(log.header.contains(&pair), "{key}: {value} in {log}");
            };
            told("Note", "group 4 is test");
            told("MaxJobs", "2");
            told("MaxProcs", "0");
        }
    }

    #[test]
    fn packed_logs_are_read_like_plain_ones() {
        use std::io::Write as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("log.swf.gz");
        let to = std::fs::File::create(&file).unwrap();
        let mut gz = flate2::write::GzEncoder::new(to, flate2::Compression::fast());
        gz.write_all(LOG.as_bytes()).unwrap();
        gz.finish().unwrap();
        let packed = Source {
            path: file.clone(),
            ..source()
        };
        let read = Jobs::read(Path::new(""), &[packed], &[]).unwrap();
        let plain = Jobs::parse(LOG.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        assert_eq!(read, plain);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_what_was_expected() {
        for (line, message) in [
            (
                "1 2 3",
                "x.swf:2: found 3 values; expected 18, one per column",
            ),
            (
                "1 0 10 soon 16 -1 -1 -1 7200 -1 1 3 2 -1 1 -1 -1 -1",
                "x.swf:2: run time: found \"soon\"; expected a number up to 946080000, −1 for what is not known",
            ),
            (
                "1 0 10 -7 16 -1 -1 -1 7200 -1 1 3 2 -1 1 -1 -1 -1",
                "x.swf:2: run time: found \"-7\"; expected a number up to 946080000, −1 for what is not known",
            ),
            (
                "1 0 10 60 -1 -1 -1 65537 7200 -1 1 3 2 -1 1 -1 -1 -1",
                "x.swf:2: requested processors: found \"65537\"; expected a whole number up to 524280, above 65535 one \
                 that tasks of at most 8 divide (a job is at most 65535 tasks, each on one node), −1 for what is not known",
            ),
            (
                "1 0 10 60 600000 -1 -1 -1 7200 -1 1 3 2 -1 1 -1 -1 -1",
                "x.swf:2: allocated processors: found \"600000\"; expected a whole number up to 524280, above 65535 one \
                 that tasks of at most 8 divide (a job is at most 65535 tasks, each on one node), −1 for what is not known",
            ),
            (
                "1 0 10 60 2.5 -1 -1 -1 7200 -1 1 3 2 -1 1 -1 -1 -1",
                "x.swf:2: allocated processors: found \"2.5\"; expected a whole number up to 524280, above 65535 one \
                 that tasks of at most 8 divide (a job is at most 65535 tasks, each on one node), −1 for what is not known",
            ),
        ] {
            let text = format!("; Version: 2.2\n{line}\n");
            let error = Log::parse(text.as_bytes(), Path::new("x.swf")).unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }

    #[test]
    fn a_log_without_a_job_is_an_error() {
        for (text, line) in [("", 1), ("; Version: 2.2\n; a remark\n\n", 4)] {
            let read = Jobs::parse(text.as_bytes(), Path::new("x.swf"), &source(), &[]);
            assert_eq!(
                read.unwrap_err().to_string(),
                format!(
                    "x.swf:{line}: the list ends here; expected at least one job, a line of 18 numbers"
                )
            );
        }
    }

    #[test]
    fn times_may_have_decimals() {
        let line = "1 0.25 1.5 30.125 2 -1 -1 2 60.5 -1 1 3 2 -1 1 -1 -1 -1\n";
        let jobs = Jobs::parse(line.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        let job = &jobs.jobs[0];
        assert_eq!(job.arrives, Instant::EPOCH + Nanos::from_millis(250));
        assert_eq!(job.runs, Some(Nanos::from_millis(30_125)));
        assert_eq!(job.limit, Some(Nanos::from_millis(60_500)));
    }

    #[test]
    fn what_is_written_of_a_job_has_whole_seconds_that_follow_each_other() {
        let line = "1 0.25 -1 30.125 2 -1 -1 2 60.5 -1 1 3 2 -1 1 -1 -1 -1\n";
        let jobs = Jobs::parse(line.as_bytes(), Path::new("x.swf"), &source(), &[]).unwrap();
        let scribe = Scribe {
            header: Vec::new(),
            first: 1.0,
        };
        let at = |millis| Some(Instant::EPOCH + Nanos::from_millis(millis));
        for (started, ended, told) in [
            (1_750, 31_875, "1 0 2 30 2 -1 -1 2 61 "),
            (600, 700, "1 0 1 1 2 -1 -1 2 61 "),
        ] {
            let record = JobRecord {
                id: 0,
                job: &jobs.jobs[0],
                tenant: "a",
                started: at(started),
                ended: at(ended),
                tasks: &[],
                fate: Fate::Finished,
            };
            let line = scribe.line(&record);
            assert!(line.starts_with(told), "{line}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            header in prop::collection::vec(("[A-Za-z]{1,10}", "[ -~&&[^ ]]{1,20}"), 0..5),
            jobs in prop::collection::vec(prop::array::uniform18(prop_oneof![Just(-1.0), (0_u32..1 << 16).prop_map(f64::from), 0.0..6e4]), 0..20),
        ) {
            let whole = |mut job: [f64; 18]| {
                for of in [field::PROCESSORS, field::PROCESSORS_REQUESTED] {
                    job[of] = job[of].trunc();
                }
                job
            };
            let jobs = jobs.into_iter().map(whole).collect();
            let log = Log { header, jobs };
            let read = Log::parse(log.to_string().as_bytes(), Path::new("x.swf")).unwrap();
            prop_assert_eq!(read, log);
        }
    }
}
