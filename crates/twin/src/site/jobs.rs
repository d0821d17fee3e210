//! What work comes, from whom, and when?
//!
//! The one form that every list of jobs is brought into, whatever it was written in:
//! [`super::trace`] reads openb's lists, [`super::philly`] those of the Philly
//! clusters, [`super::swf`] the Standard Workload Format. What a format does not tell is
//! stated in the universe ([`Source`]), never guessed silently.
//!
//! # Time in a list and time in a run
//!
//! A list is entered at [`Source::from`], lived [`Source::speed`] times as fast, and may
//! come in several [`Source::copies`], each entering it [`Source::stagger`] later than the
//! last, so that copies do not knock at the same instant. Run times are divided by
//! [`Source::faster`], by how much these devices outrun those of the list. What would have
//! started earlier and still run is there at the beginning, with what it would have had
//! left: a site does not start empty.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use machine::{Purpose, Stream};
use scheduler::ledger::{Demand, GPUS_MAX, Models, WHOLE};
use scheduler::site::Quality;
use wire::{Instant, Nanos, Tile};

use super::measured::Distribution;
use super::plan::Group;
use super::trace::{Node, Pod, Trace, TraceError};
use super::{philly, swf, trace};

/// A job of a list: a gang of equal tasks.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// Its name in the list.
    pub name: Box<str>,
    /// When it comes.
    pub arrives: Instant,
    /// How long it runs at full clock: the work it has. None stays for good.
    pub runs: Option<Nanos>,
    /// How long its owner says it runs at most.
    pub limit: Option<Nanos>,
    /// Whose it is: an index into [`Jobs::tenants`].
    pub tenant: u16,
    /// Higher goes first.
    pub priority: u8,
    /// How it may be treated.
    pub quality: Quality,
    /// How many tasks start together.
    pub tasks: u16,
    /// What each of them needs, on one node.
    pub demand: Demand,
    /// What it does besides computing: an index into [`Jobs::habits`].
    pub habit: u8,
    /// How busy it keeps its GPUs while it runs, in thousandths of what it claims of them: power
    /// goes by it, and nothing else.
    pub busy: u16,
    /// What its list calls it by numbers, if it does.
    pub labels: Option<Labels>,
}

/// As busy as it is claimed, in the thousandths of [`Job::busy`].
pub const BUSY: u16 = 1_000;

/// User, group, executable, queue and partition as a log in the Standard Workload Format
/// numbers them, −1 for what is not known. Nothing is decided by them; a job that is written to a
/// log again keeps them.
pub type Labels = [f64; 5];

impl Job {
    /// GPUs of all its tasks, in thousandths.
    #[must_use]
    pub fn gpu_milli(&self) -> u64 {
        u64::from(self.demand.gpu_total()) * u64::from(self.tasks)
    }
}

/// What jobs of a source do besides computing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Habit {
    /// What each of their GPUs reads, in bytes a second, at full clock.
    pub reads: f64,
    /// What each of their GPUs writes at a checkpoint, in bytes.
    pub checkpoint_bytes: f64,
    /// Work between two checkpoints: at most this much is lost when it is stopped. None
    /// writes none, and starts again from its beginning.
    pub checkpoint: Option<Nanos>,
    /// The share of a step that a gang of several nodes spends on the network when
    /// that is as fast as within a rack.
    pub communication: f64,
}

impl Habit {
    /// What each GPU asks of the file system on average, in bytes a second.
    #[must_use]
    pub fn storage_rate(&self) -> f64 {
        let every = self.checkpoint.map_or(f64::INFINITY, |c| c.as_secs_f64());
        self.reads + self.checkpoint_bytes / every
    }
}

/// Work, in the order in which it comes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Jobs {
    /// By arrival; those of one instant in the order of their lists.
    pub jobs: Vec<Job>,
    /// Names of tenants.
    pub tenants: Vec<String>,
    /// What jobs do besides computing.
    pub habits: Vec<Habit>,
    /// Lines of lists that are no work: without a processor, or without run time.
    pub left_out: u64,
    /// Jobs of lists that were over before the run began, because lists are entered later
    /// ([`Source::from`]); every copy counts.
    pub before_begin: u64,
    /// GPU models that jobs name and no node has: demands know them by the numbers after
    /// those of [`Workload::models`].
    pub other_models: Vec<String>,
}

/// A cluster and its work: what a run begins with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Workload {
    /// In the order in which they are set up.
    pub nodes: Vec<Node>,
    /// Processors, memory and fans of each node, in devices CPU-NODE; empty if that
    /// goes by its CPUs.
    pub hosts: Vec<f64>,
    /// Names of GPU models; a node and a demand know them by their index.
    pub models: Vec<String>,
    /// What comes.
    pub jobs: Jobs,
}

impl Workload {
    /// The nodes that a universe describes, without work. A host draws by its CPUs,
    /// `cpus_per_node` of which are one CPU-NODE, where a group does not say.
    #[must_use]
    pub fn described(groups: &[Group], cpus_per_node: f64) -> Self {
        let mut all = Self::default();
        for group in groups {
            let known = all.models.iter().position(|m| *m == group.model);
            let model = (group.gpus > 0).then(|| {
                known.unwrap_or_else(|| {
                    all.models.push(group.model.clone());
                    all.models.len() - 1
                }) as u8
            });
            let by_cpus = f64::from(group.cpu_milli) / 1_000.0 / cpus_per_node;
            all.nodes.extend(group.nodes(model));
            all.hosts
                .resize(all.nodes.len(), group.host.unwrap_or(by_cpus));
        }
        all
    }

    /// A trace as it was, each pod coming so many times.
    #[must_use]
    pub fn of(trace: Trace, copies: u32) -> Self {
        let job = |pod: &Pod| Job {
            name: pod.name.as_str().into(),
            arrives: pod.arrives,
            runs: pod.runs,
            limit: None,
            tenant: 0,
            priority: 0,
            quality: pod.quality,
            tasks: 1,
            demand: pod.demand,
            habit: 0,
            busy: BUSY,
            labels: None,
        };
        let jobs = trace.pods.iter();
        let jobs = jobs.flat_map(|pod| std::iter::repeat_n(job(pod), copies as usize));
        Self {
            jobs: Jobs {
                jobs: jobs.collect(),
                tenants: vec!["everybody".to_owned()],
                habits: vec![Habit::default()],
                left_out: 0,
                before_begin: 0,
                other_models: Vec::new(),
            },
            nodes: trace.nodes,
            hosts: Vec::new(),
            models: trace.models,
        }
    }
}

impl From<Trace> for Workload {
    fn from(trace: Trace) -> Self {
        Self::of(trace, 1)
    }
}

/// How a list of jobs is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Pods of the openb trace.
    Openb,
    /// Jobs of a Philly virtual cluster.
    Philly,
    /// The Standard Workload Format.
    Swf,
}

impl Format {
    /// Every one with the word for it.
    pub const ALL: [(&'static str, Self); 3] = [
        ("openb", Self::Openb),
        ("philly", Self::Philly),
        ("swf", Self::Swf),
    ];
}

/// A list of jobs, and what it does not tell.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What the universe calls it; the tenant of lists that name none.
    pub name: String,
    /// How it is written; found out if not said.
    pub format: Option<Format>,
    /// A file, or a folder of them in which each `.csv` is one tenant's.
    pub path: PathBuf,
    /// Where the list is entered, in its own time.
    pub from: Nanos,
    /// How many times as fast its time passes.
    pub speed: f64,
    /// By how much run times are divided.
    pub faster: f64,
    /// How many times it comes.
    pub copies: u32,
    /// How much later in the list each copy enters.
    pub stagger: Nanos,
    /// CPUs that come with a GPU, for formats that do not tell, in thousandths.
    pub cpu_milli_per_gpu: u32,
    /// Memory that comes with a GPU, likewise.
    pub memory_mib_per_gpu: u32,
    /// The limit an owner gives, over the run time, for formats without one.
    pub overestimate: Option<f64>,
    /// Whether GPU models that a job names and the site has not are any model to it.
    pub any_model: bool,
    /// The priority of its jobs: no format tells any.
    pub priority: u8,
    /// What its jobs do besides computing.
    pub habit: Habit,
    /// Measured, how busy GPUs are: a list with the columns `util`, in per cent, and `cdf`. Each
    /// job draws its own from it; without one all are as busy as they are claimed.
    pub busy: Option<PathBuf>,
}

impl Default for Source {
    /// A list of its own time, once.
    fn default() -> Self {
        Self {
            name: "everybody".to_owned(),
            format: None,
            path: PathBuf::new(),
            from: Nanos::ZERO,
            speed: 1.0,
            faster: 1.0,
            copies: 1,
            stagger: Nanos::ZERO,
            cpu_milli_per_gpu: 12_000,
            memory_mib_per_gpu: 65_536,
            overestimate: None,
            any_model: false,
            priority: 0,
            habit: Habit::default(),
            busy: None,
        }
    }
}

/// A job as a list has it, in the list's own time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Listed {
    pub(super) name: Box<str>,
    /// Seconds since the list began.
    pub(super) arrives: f64,
    /// Seconds on the list's own machines.
    pub(super) runs: Option<f64>,
    pub(super) limit: Option<f64>,
    pub(super) tenant: Option<Box<str>>,
    pub(super) quality: Quality,
    pub(super) tasks: u16,
    pub(super) demand: Demand,
    pub(super) labels: Option<Labels>,
}

impl Jobs {
    /// Reads every source, paths relative to `root`.
    ///
    /// # Errors
    /// The first thing that is wrong; see [`TraceError`]. Nothing is kept then.
    pub fn read(root: &Path, sources: &[Source], models: &[String]) -> Result<Self, TraceError> {
        let mut jobs = Self::default();
        for source in sources {
            let path = root.join(&source.path);
            let busy = source.busy.as_ref().map(|file| root.join(file));
            let busy = busy.map(|file| Distribution::read(&file, "util", "cdf"));
            let busy = busy.transpose()?;
            for file in files(&path)? {
                let text = open(&file, "jobs")?;
                jobs.add(text, &file, source, busy.as_ref(), models)?;
            }
        }
        jobs.sort();
        Ok(jobs)
    }

    /// Reads one list from anywhere; `file` is for errors and for the tenant's name.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn parse(
        from: impl Read,
        file: &Path,
        source: &Source,
        models: &[String],
    ) -> Result<Self, TraceError> {
        let mut jobs = Self::default();
        jobs.add(BufReader::new(from), file, source, None, models)?;
        jobs.sort();
        Ok(jobs)
    }

    fn add(
        &mut self,
        mut from: impl BufRead,
        file: &Path,
        source: &Source,
        busy: Option<&Distribution>,
        models: &[String],
    ) -> Result<(), TraceError> {
        // A stream for each list: what one draws does not depend on how long another is.
        let list = (self.jobs.len() as u64) << 8 | self.habits.len() as u64;
        let mut stream = Stream::new(0, Tile(list), Purpose::Work);
        let mut drawn = || match busy {
            None => BUSY,
            Some(busy) => (busy.quantile(stream.unit()) * 10.0).clamp(0.0, BUSY.into()) as u16,
        };
        let format = match source.format {
            Some(format) => format,
            None => find_out(file, &mut from)?,
        };
        let (listed, own) = match format {
            Format::Philly => (philly::read(from, file, source)?, Some(stem(file))),
            Format::Swf => (swf::read(from, file, source)?, None),
            Format::Openb => (
                trace::read_jobs(from, file, source.any_model, models, &mut self.other_models)?,
                None,
            ),
        };
        let own = own.unwrap_or_else(|| source.name.clone());
        let habit = u8::try_from(self.habits.len()).unwrap_or(u8::MAX);
        let habit = match self.habits.iter().position(|h| *h == source.habit) {
            Some(known) => known as u8,
            None => {
                self.habits.push(source.habit);
                habit
            }
        };
        for copy in 0..source.copies {
            for job in &listed {
                let busy = drawn();
                match timed(job, source, copy) {
                    None => self.before_begin += 1,
                    Some(_) if job.tasks == 0 => self.left_out += u64::from(copy == 0),
                    Some((arrives, runs, limit)) => {
                        let tenant = self.tenant(job.tenant.as_deref().unwrap_or(&own));
                        let name = match copy {
                            0 => job.name.clone(),
                            _ => format!("{}+{copy}", job.name).into(),
                        };
                        self.jobs.push(Job {
                            name,
                            arrives,
                            runs,
                            limit,
                            tenant,
                            priority: source.priority,
                            quality: job.quality,
                            tasks: job.tasks,
                            demand: job.demand,
                            habit,
                            busy,
                            labels: job.labels,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn tenant(&mut self, name: &str) -> u16 {
        let known = self.tenants.iter().position(|t| t == name);
        known.unwrap_or_else(|| {
            self.tenants.push(name.to_owned());
            self.tenants.len() - 1
        }) as u16
    }

    fn sort(&mut self) {
        self.jobs.sort_by_key(|job| job.arrives);
    }
}

/// When a listed job comes, how long it runs and what limit it has, in the time of the
/// run; none if it is over before the run begins.
fn timed(
    job: &Listed,
    source: &Source,
    copy: u32,
) -> Option<(Instant, Option<Nanos>, Option<Nanos>)> {
    let entered = source.from.as_secs_f64() + f64::from(copy) * source.stagger.as_secs_f64();
    let arrives = (job.arrives - entered) / source.speed;
    let runs = job.runs.map(|r| r / source.faster);
    let left = match runs {
        _ if arrives >= 0.0 => runs,
        Some(runs) if arrives + runs <= 0.0 => return None,
        Some(runs) => Some(runs + arrives),
        None => None,
    };
    let limit = match (job.limit, runs, source.overestimate) {
        (Some(limit), ..) => Some(limit / source.faster),
        (None, Some(runs), Some(over)) => Some(runs * over),
        _ => None,
    };
    let nanos = |seconds: f64| Nanos::from_secs_f64(seconds.clamp(0.0, SECONDS_MAX));
    Some((
        Instant::EPOCH + nanos(arrives),
        left.map(nanos),
        limit.map(nanos),
    ))
}

/// A century and a half: time in nanoseconds ends after five.
const SECONDS_MAX: f64 = 5e9;

/// GPUs as a gang: on one node if they fit, else on as few equal tasks as divide them.
/// The tasks and the GPUs of each; none if those are more tasks than a job can have, 65,535.
#[must_use]
pub fn gang(gpus: u32) -> Option<(u16, u8)> {
    let most = GPUS_MAX as u32;
    let each = (1..=gpus.clamp(1, most))
        .rev()
        .find(|each| gpus.is_multiple_of(*each))
        .unwrap_or(1);
    let tasks = u16::try_from(gpus / each).ok()?;
    Some((tasks, each as u8))
}

/// What a task with so many whole GPUs of any model needs.
pub(super) fn whole_gpus(gpus: u8, source: &Source) -> Demand {
    Demand {
        cpu_milli: source.cpu_milli_per_gpu * u32::from(gpus),
        memory_mib: source.memory_mib_per_gpu * u32::from(gpus),
        gpus,
        gpu_milli: WHOLE,
        models: Models::ANY,
    }
}

fn stem(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// A file, or the lists in a folder, by name.
pub(crate) fn files(path: &Path) -> Result<Vec<PathBuf>, TraceError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let refused = |source| TraceError::File {
        file: path.to_owned(),
        what: "jobs",
        source,
    };
    let entries = std::fs::read_dir(path).map_err(refused)?;
    let mut files = Vec::new();
    for entry in entries {
        let file = entry.map_err(refused)?.path();
        if file.extension().is_some_and(|e| e == "csv") {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        let source = std::io::Error::other("the folder holds no .csv");
        return Err(refused(source));
    }
    Ok(files)
}

/// Opens a list of something, packed or plain.
pub(super) fn open(file: &Path, what: &'static str) -> Result<Box<dyn BufRead>, TraceError> {
    let opened = File::open(file).map_err(|source| TraceError::File {
        file: file.to_owned(),
        what,
        source,
    })?;
    let mut opened = BufReader::new(opened);
    // RFC 1952, § 2.3.1.
    let is_packed = (opened.fill_buf()).is_ok_and(|start| start.starts_with(&[0x1f, 0x8b]));
    if is_packed {
        return Ok(Box::new(BufReader::new(MultiGzDecoder::new(opened))));
    }
    if file.extension().is_some_and(|e| e == "gz") {
        return Err(TraceError::Text {
            file: file.to_owned(),
            line: 1,
            found: "no gzip".to_owned(),
            expected: "a gzipped list, as its name says",
        });
    }
    Ok(Box::new(opened))
}

/// The format by the file's name, else by its first line.
fn find_out(file: &Path, from: &mut impl BufRead) -> Result<Format, TraceError> {
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    if name.ends_with(".swf") || name.ends_with(".swf.gz") {
        return Ok(Format::Swf);
    }
    let start = from
        .fill_buf()
        .map_err(|e| trace::unreadable_text(file, 1, &e))?;
    let line = start.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let has = |columns: &[&str]| {
        columns
            .iter()
            .all(|c| line.split(',').any(|w| w.trim() == *c))
    };
    if line.starts_with(';') {
        Ok(Format::Swf)
    } else if has(&["job_type", "num_steps"]) {
        Ok(Format::Philly)
    } else if has(&["name", "num_gpu"]) {
        Ok(Format::Openb)
    } else {
        Err(TraceError::Text {
            file: file.to_owned(),
            line: 1,
            found: format!("{:?}", line.chars().take(80).collect::<String>()),
            expected: "the columns of an openb or Philly list, a comment of an SWF log, or --format",
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(in super::super) fn source() -> Source {
        Source {
            name: "test".to_owned(),
            ..Source::default()
        }
    }

    const PHILLY: &str = "job_type,num_steps,arrival_s,gpus\n\
        \"LM (batch size 80)\",43900,0.000000,1\n\
        \"LM (batch size 80)\",43900,900.000000,12\n";

    #[test]
    fn what_would_still_run_is_there_at_the_beginning_with_what_it_has_left() {
        let entered = Source {
            from: Nanos::from_secs(600),
            speed: 2.0,
            ..source()
        };
        let jobs = Jobs::parse(PHILLY.as_bytes(), Path::new("vc1.csv"), &entered, &[]).unwrap();
        assert_eq!(jobs.tenants, ["vc1"]);
        let [first, second] = &jobs.jobs[..] else {
            panic!("{jobs:?}")
        };
        // It came 600 s before, which are 300 s at double speed, and runs a thousand.
        assert_eq!(
            (first.arrives, first.runs),
            (Instant::EPOCH, Some(Nanos::from_secs(700)))
        );
        assert_eq!(second.arrives, Instant::EPOCH + Nanos::from_secs(150));
        assert_eq!(second.runs, Some(Nanos::from_secs(1_000)));
        let late = Source {
            from: Nanos::from_secs(5_000),
            ..source()
        };
        let jobs = Jobs::parse(PHILLY.as_bytes(), Path::new("vc1.csv"), &late, &[]).unwrap();
        assert_eq!(jobs.jobs, []);
    }

    #[test]
    fn copies_enter_one_after_the_other_and_have_names_of_their_own() {
        let twice = Source {
            copies: 2,
            stagger: Nanos::from_secs(300),
            overestimate: Some(1.5),
            ..source()
        };
        let jobs = Jobs::parse(PHILLY.as_bytes(), Path::new("vc1.csv"), &twice, &[]).unwrap();
        let seen = jobs.jobs.iter();
        let seen = seen.map(|j| (&*j.name, j.arrives.0 / 1_000_000_000));
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [
                ("vc1-1", 0),
                ("vc1-1+1", 0),
                ("vc1-2+1", 600),
                ("vc1-2", 900)
            ]
        );
        assert_eq!(jobs.jobs[0].limit, Some(Nanos::from_secs(1_500)));
    }

    #[test]
    fn a_gang_is_as_few_equal_tasks_as_divide_its_gpus() {
        let found = [1, 7, 8, 12, 16, 20, 24, 64, 11].map(|gpus| gang(gpus).unwrap());
        let expected = [
            (1, 1),
            (1, 7),
            (1, 8),
            (2, 6),
            (2, 8),
            (4, 5),
            (3, 8),
            (8, 8),
            (11, 1),
        ];
        assert_eq!(found, expected);
        assert_eq!(gang(163_840), Some((20_480, 8)));
        // A prime, which only tasks of one GPU divide.
        assert_eq!(gang(65_537), None);
    }

    #[test]
    fn a_list_nobody_knows_is_refused_with_its_first_line() {
        let error = Jobs::parse(&b"a,b,c\n"[..], Path::new("x.csv"), &source(), &[]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "x.csv:1: \"a,b,c\"; expected the columns of an openb or Philly list, a comment of an SWF log, or --format"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..400),
            format in 0..4_usize,
            header in any::<bool>(),
        ) {
            let source = Source { format: Format::ALL.get(format).map(|f| f.1), ..source() };
            let start = ["name,cpu_milli,memory_mib,num_gpu,gpu_milli\n", "job_type,num_steps,arrival_s,gpus\n", "; Version: 2.2\n", ""][format];
            let mut text = if header { start.as_bytes().to_vec() } else { Vec::new() };
            text.extend(bytes);
            let _ = Jobs::parse(&text[..], Path::new("x"), &source, &[]);
        }

        #[test]
        fn numbers_of_any_size_are_read_or_refused(
            fields in prop::collection::vec(prop_oneof![(-2_i64..100).prop_map(|n| n.to_string()), any::<i64>().prop_map(|n| n.to_string()), any::<f64>().prop_map(|n| n.to_string())], 18),
        ) {
            let swf = fields.join(" ");
            let _ = Jobs::parse(swf.as_bytes(), Path::new("x.swf"), &source(), &[]);
            let philly = format!("job_type,num_steps,arrival_s,gpus\nA3C,{}\n", fields[..3].join(","));
            let _ = Jobs::parse(philly.as_bytes(), Path::new("x.csv"), &source(), &[]);
        }
    }
}
