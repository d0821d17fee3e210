//! From a universe file to a run: the schema's root, and what a host measures.

use std::path::{Path, PathBuf};

use crate::braid;
use crate::fleet;
use crate::observer::{Link, Observer, Progress};
use crate::record::history::JobRow;
use crate::record::summary::Kind as Kinds;
use crate::record::{Decisions, History, Inputs, RecordError, RunDirectory, Series, Summary};
use crate::shells::step_response::StepResponse;
use crate::shells::{self, world};
use crate::site::jobs::{Format, Source};
use crate::site::measured::Measured;
use crate::site::neighbour::PowerRecord;
use crate::site::{self, JobRecord, Jobs, Scene, Trace, Workload, swf, trace::TraceError};
use crate::universe::{Document, Problems, Table};
use scheduler::site::{Evidence, words};
use std::cell::RefCell;
use std::io::Write as _;
use std::ops::ControlFlow;
use std::sync::Arc;
use telemetry::Decision;
use wire::Instant;

/// What a universe file describes.
#[derive(Clone, Debug)]
pub enum Universe {
    /// Shells of tiles around a star.
    Shells(Box<shells::Config>),
    /// A GPU cluster's work on racks and cooling loops.
    Site(Box<site::Config>, Option<Arc<Scene>>),
    /// Hosts on one switch, and what was measured of them.
    Fleet(Box<fleet::Config>, Option<Box<fleet::History>>),
    /// Three tori and what befalls them.
    Braid(Box<braid::Config>),
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Shells,
    Site,
    Fleet,
    Braid,
}

impl Universe {
    /// Reads a universe, every key of it.
    ///
    /// # Errors
    /// Everything that is wrong, at once, each with its line.
    pub fn read(document: &Document) -> Result<Self, Problems> {
        document.read(Self::schema)
    }

    /// Reads a universe as a node does that is one of its hosts.
    ///
    /// # Errors
    /// Everything that is wrong, and what no node can be or do, at once, each with its line.
    pub fn deployed(document: &Document) -> Result<fleet::Config, Problems> {
        let read = document.read(|root| match Self::schema(root) {
            Self::Fleet(config, _) => {
                fleet::config::honour(root, &config);
                Some(*config)
            }
            Self::Shells(_) | Self::Site(..) | Self::Braid(_) => {
                root.refuse("kind", "a node is a host of a fleet; expected \"fleet\"");
                None
            }
        });
        Ok(read?.expect("another kind was refused"))
    }

    /// The schema, for [`crate::universe::Reference::of`].
    pub fn schema(root: &Table<'_>) -> Self {
        let name = root.text("name", "What the universe is called.").required();
        let intent = root
            .text("intent", "What it is for, in a sentence.")
            .required();
        let kind = root
            .choice(
                "kind",
                &[
                    ("shells", Kind::Shells),
                    ("site", Kind::Site),
                    ("fleet", Kind::Fleet),
                    ("braid", Kind::Braid),
                ],
                "What it describes.",
            )
            .required();
        match kind {
            Kind::Shells => Self::Shells(Box::new(shells::schema::read(root, name, intent))),
            Kind::Site => Self::Site(Box::new(site::schema(root, name, intent)), None),
            Kind::Fleet => Self::Fleet(Box::new(fleet::config::read(root, name, intent)), None),
            Kind::Braid => Self::Braid(Box::new(braid::config::read(root, name, intent))),
        }
    }

    /// The name in its file.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Shells(config) => &config.name,
            Self::Site(config, _) => &config.name,
            Self::Fleet(config, _) => &config.name,
            Self::Braid(config) => &config.name,
        }
    }

    /// The seed in its file.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        match self {
            Self::Shells(config) => config.seed,
            Self::Site(..) => 1,
            Self::Fleet(config, _) => config.seed,
            Self::Braid(config) => config.seed,
        }
    }

    /// Reads the trace a universe replays, if it replays one. To be called before
    /// anything runs.
    ///
    /// # Errors
    /// If it needs a trace and none was given, or the other way round, or the
    /// trace is missing, cut off or wrong, each with file, line and column.
    pub fn load_trace(&mut self, folder: Option<&Path>) -> Result<(), LoadError> {
        self.load(&Given {
            folder,
            ..Given::default()
        })
    }

    /// The same with lists of jobs in place of those the universe names.
    ///
    /// # Errors
    /// As [`Universe::load_trace`].
    pub fn load(&mut self, given: &Given<'_>) -> Result<(), LoadError> {
        let universe = self.name().to_owned();
        match (&mut *self, given.measured) {
            (Self::Fleet(config, measured), Some(path)) => {
                *measured = Some(Box::new(history(path, config)?));
            }
            (_, None) => {}
            (_, Some(path)) => {
                let path = path.to_owned();
                return Err(LoadError::NoFleet { universe, path });
            }
        }
        if let Self::Site(config, scene) = self {
            *scene = Some(Arc::new(set(config, given.folder, given)?));
            return Ok(());
        }
        let unused = given.folder.or(given.jobs.first().map(PathBuf::as_path));
        match unused.map(Path::to_owned) {
            Some(folder) => Err(LoadError::Unused { universe, folder }),
            None => Ok(()),
        }
    }
}

impl Universe {
    /// Every file that [`Universe::load`] reads and that the run depends on, in order.
    ///
    /// # Errors
    /// If a folder of lists cannot be read.
    pub fn files(&self, given: &Given<'_>) -> Result<Vec<PathBuf>, LoadError> {
        let Self::Site(config, _) = self else {
            return Ok(given.measured.map(Path::to_owned).into_iter().collect());
        };
        let folder = given.folder.unwrap_or(Path::new(""));
        let mut files = Vec::new();
        if let Some(named) = &config.trace {
            let lists = lists(folder, named);
            files.push(lists.join(&named.nodes));
            if given.jobs.is_empty() {
                files.push(lists.join(&named.pods));
            }
        }
        if given.jobs.is_empty() && config.trace.is_none() {
            let busy = config.sources.iter().filter_map(|s| s.busy.as_ref());
            files.extend(busy.map(|file| folder.join(file)));
        }
        let sources = config.sources.iter().map(|s| folder.join(&s.path));
        let sources: Vec<PathBuf> = match given.jobs {
            [] if config.trace.is_none() => sources.collect(),
            jobs => jobs.to_vec(),
        };
        for source in sources {
            files.extend(site::jobs::files(&source)?);
        }
        files.extend(config.neighbours.iter().map(|n| folder.join(&n.record)));
        Ok(files)
    }
}

/// The folder of the lists of a trace, or the one within that holds them.
fn lists(folder: &Path, named: &site::config::Files) -> PathBuf {
    let inner = folder.join("openb");
    let is_inside = !folder.join(&named.nodes).exists() && inner.join(&named.nodes).exists();
    if is_inside { inner } else { folder.to_owned() }
}

/// Files that were given for a universe.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The folder that holds what the universe names.
    pub folder: Option<&'a Path>,
    /// Lists of jobs to replay in place of the universe's own.
    pub jobs: &'a [PathBuf],
    /// How these are written; found out if not said.
    pub format: Option<Format>,
    /// What was measured of real hosts, to be held against a fleet's rehearsals.
    pub measured: Option<&'a Path>,
}

/// Reads what was measured of a fleet.
fn history(path: &Path, config: &fleet::Config) -> Result<fleet::History, LoadError> {
    let unread = |source| LoadError::Unread {
        path: path.to_owned(),
        source,
    };
    let text = std::fs::read_to_string(path).map_err(unread)?;
    fleet::History::read(&text, config).map_err(|source| LoadError::Measured {
        path: path.to_owned(),
        source,
    })
}

/// Reads everything a site begins with.
fn set(
    config: &site::Config,
    folder: Option<&Path>,
    given: &Given<'_>,
) -> Result<Scene, LoadError> {
    let mut wanted: Vec<String> = Vec::new();
    if let Some(files) = &config.trace {
        wanted.extend([files.nodes.clone(), files.pods.clone()]);
    }
    if given.jobs.is_empty() {
        let paths = (config.sources.iter()).flat_map(|s| [Some(&s.path), s.busy.as_ref()]);
        wanted.extend(paths.flatten().map(|path| path.display().to_string()));
    }
    let records = config.neighbours.iter();
    wanted.extend(records.map(|n| n.record.display().to_string()));
    let Some(folder) = folder.or(wanted.is_empty().then_some(Path::new(""))) else {
        return Err(LoadError::Missing {
            universe: config.name.clone(),
            wanted: wanted.join(", "),
        });
    };
    let mut load = match &config.trace {
        Some(files) => Workload::of(
            Trace::read(&lists(folder, files), &files.nodes, &files.pods)?,
            config.copies.get(),
        ),
        None => Workload::described(&config.groups, config.building.cpus_per_node),
    };
    let there_are: u64 = load.nodes.iter().map(|node| u64::from(node.gpus)).sum();
    for tenant in &config.tenants {
        let gpus = tenant.rights.quota.gpu_milli / 1_000;
        if gpus > there_are {
            return Err(LoadError::Promised {
                tenant: tenant.name.clone(),
                gpus,
                there_are,
            });
        }
    }
    if !given.jobs.is_empty() {
        let sources: Vec<Source> = given
            .jobs
            .iter()
            .map(|j| given_source(config, j, given.format))
            .collect();
        load.jobs = Jobs::read(Path::new(""), &sources, &load.models)?;
    } else if config.trace.is_none() {
        load.jobs = Jobs::read(folder, &config.sources, &load.models)?;
    }
    let neighbours = config.neighbours.iter();
    let neighbours = neighbours.map(|n| PowerRecord::read(&folder.join(&n.record)));
    let acme = folder.join("acme");
    Ok(Scene {
        load,
        neighbours: neighbours.collect::<Result<_, _>>()?,
        measured: if acme.is_dir() {
            Measured::acme(&acme)?
        } else {
            Vec::new()
        },
    })
}

/// A list from the command line is read as the universe's first of its format, from its
/// beginning, once and at its own pace.
fn given_source(config: &site::Config, file: &Path, format: Option<Format>) -> Source {
    let alike = config
        .sources
        .iter()
        .find(|s| s.format == format && format.is_some());
    let alike = alike.or(config.sources.first());
    let name = file.file_stem().unwrap_or_default();
    Source {
        name: name.to_string_lossy().into_owned(),
        format,
        path: file.to_owned(),
        from: wire::Nanos::ZERO,
        speed: 1.0,
        faster: 1.0,
        copies: 1,
        busy: None,
        ..alike.cloned().unwrap_or_default()
    }
}

/// Why a universe has no trace to replay.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It needs one and none was given.
    #[error(
        "universe {universe} replays what was recorded: say where it is with --trace DIR, a folder that holds {wanted}"
    )]
    Missing {
        /// Which universe.
        universe: String,
        /// What it expects there.
        wanted: String,
    },
    /// It replays none and one was given.
    #[error("universe {universe} replays no trace, yet --trace {} was given", folder.display())]
    Unused {
        /// Which universe.
        universe: String,
        /// What was given.
        folder: PathBuf,
    },
    /// It promises more than stands there.
    #[error(
        "tenant.{tenant}.gpus: found {gpus}, but the site has {there_are} GPUs, and can guarantee no more"
    )]
    Promised {
        /// To whom.
        tenant: String,
        /// What.
        gpus: u64,
        /// What there is.
        there_are: u64,
    },
    /// It cannot be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// What was measured of hosts was given for something else.
    #[error("universe {universe} is no fleet, yet --measured {} was given", path.display())]
    NoFleet {
        /// Which universe.
        universe: String,
        /// What was given.
        path: PathBuf,
    },
    /// What was measured cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Unread {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What was measured is not of this universe.
    #[error("{}: {source}", path.display())]
    Measured {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: fleet::HistoryError,
    },
}

/// What a run is asked for besides its universe.
#[derive(Clone, Debug)]
pub struct Request {
    /// Chance of everything.
    pub seed: u64,
    /// Workers.
    pub threads: usize,
    /// Where the run directory goes; a new one in `runs` if absent.
    pub out: Option<PathBuf>,
    /// What was changed, as it was written.
    pub overrides: Vec<String>,
    /// The one command that repeats the run.
    pub command: String,
    /// Whether work and decisions are kept as files for other tools.
    pub replay: Option<Replay>,
    /// What it is made from, for whoever wants to visit it again.
    pub inputs: Option<Inputs>,
}

/// What a replay keeps besides the files of every run.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    /// Where the jobs go as they ran, in the Standard Workload Format; `jobs.swf` in the run
    /// directory if not said.
    pub swf: Option<PathBuf>,
    /// Where the decisions go; `decisions.parquet` in the run directory if not said.
    pub decisions: Option<PathBuf>,
}

/// Why a run left nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// A finished run.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub summary: Summary,
    /// Where it lies.
    pub directory: PathBuf,
}

/// What a run leaves in memory.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended, and what it cost this host.
    pub summary: Summary,
    /// Charts and map.
    pub series: Series,
    /// What the backpressure loop did, if there is one and it had to act.
    pub step_response: Option<StepResponse>,
}

/// Runs a universe and records it.
///
/// # Errors
/// If the run cannot be recorded; nothing is left behind then.
pub fn run(
    universe: Universe,
    request: &Request,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Finished, RunError> {
    let directory = match &request.out {
        Some(path) => RunDirectory::begin_at(path)?,
        None => RunDirectory::begin(Path::new("runs"), universe.name(), request.seed)?,
    };
    let decisions = request.replay.as_ref().map(|replay| {
        let inside = || directory.path("decisions.parquet");
        Decisions::create(&replay.decisions.clone().unwrap_or_else(inside))
    });
    let scene = match &universe {
        Universe::Site(_, Some(scene)) => scene.clone(),
        _ => Arc::default(),
    };
    let log = (request.replay.is_some()).then(|| swf::Scribe::new(universe.name(), &scene.load));
    let mut scribe = Scribe {
        history: begin(&directory, &universe, request)?,
        batch: Vec::new(),
        decisions: decisions.transpose()?,
        scene,
        failed: None,
        progress,
    };
    let Outcome {
        summary, series, ..
    } = simulate(universe, request, &mut scribe);
    scribe.flush();
    if let Some(error) = scribe.failed {
        return Err(error.into());
    }
    if let Some(decisions) = scribe.decisions {
        decisions.finish()?;
    }
    let (mut history, scene) = (scribe.history, scribe.scene);
    if let (Some(replay), Some(log)) = (&request.replay, log) {
        let inside = || directory.path("jobs.swf");
        let path = replay.swf.clone().unwrap_or_else(inside);
        write_log(&path, &log, &scene.load, &mut history)?;
    }
    drop(scene);
    for notable in series.notables() {
        let text = &notable.text;
        history.event(notable.seconds, "notable", None, text, Link::default())?;
    }
    let directory = directory.finish(history, &summary, &series)?;
    Ok(Finished { summary, directory })
}

/// Writes the jobs of a history as a log, one after the other.
fn write_log(
    path: &Path,
    log: &swf::Scribe,
    load: &Workload,
    history: &mut History,
) -> Result<(), RecordError> {
    let failed = |source| RecordError::File {
        doing: "write",
        path: path.to_owned(),
        source,
    };
    let to = std::fs::File::create(path).map_err(failed)?;
    let to = RefCell::new(std::io::BufWriter::new(to));
    let write = |text: &str| to.borrow_mut().write_all(text.as_bytes()).map_err(failed);
    history.each_job(
        |jobs| write(&log.header(jobs)),
        |id, times, outcome| {
            let at = |seconds: f64| Instant((seconds * 1e9).round() as u64);
            let [started, ended] = times.map(|seconds| seconds.map(at));
            let fate = site::Fate::ALL.into_iter().find(|f| f.name() == outcome);
            let job = &load.jobs.jobs[id as usize];
            write(&log.line(&JobRecord {
                id,
                job,
                tenant: "",
                started,
                ended,
                tasks: &[],
                fate: fate.expect("written by its name"),
            }))
        },
    )?;
    to.into_inner().flush().map_err(failed)
}

/// A history with what is known before the run.
fn begin(
    directory: &RunDirectory,
    universe: &Universe,
    request: &Request,
) -> Result<History, RecordError> {
    let mut history = directory.history()?;
    if let Some(inputs) = &request.inputs {
        history.inputs(inputs)?;
    }
    if let Universe::Site(config, Some(scene)) = universe {
        let floor = site::floor::Floor::new(&scene.load, &config.building);
        for (id, (node, place)) in (0..).zip(scene.load.nodes.iter().zip(&floor.nodes)) {
            let model = node
                .model
                .map(|m| scene.load.models[usize::from(m)].as_str());
            history.node((id, &node.name), model, node.gpus, place.coolant)?;
        }
    }
    Ok(history)
}

/// Runs a universe and keeps what is left of it in memory.
pub fn simulate(universe: Universe, request: &Request, observer: &mut dyn Observer) -> Outcome {
    let before = Host::now();
    let mut outcome = match universe {
        Universe::Shells(config) => {
            let options = world::Options {
                seed: request.seed,
                threads: request.threads,
            };
            let world::Outcome {
                summary,
                series,
                step_response,
            } = world::run(*config, options, observer);
            Outcome {
                summary,
                series,
                step_response,
            }
        }
        Universe::Fleet(config, measured) => {
            let outcome = fleet::run(&config, measured.as_deref(), request.seed, observer);
            Outcome {
                summary: outcome.summary,
                series: outcome.series,
                step_response: None,
            }
        }
        Universe::Braid(config) => {
            let outcome = braid::run(&config, request.seed, observer);
            Outcome {
                summary: outcome.summary,
                series: outcome.series,
                step_response: None,
            }
        }
        Universe::Site(config, scene) => {
            let scene = scene.expect("a site's trace is loaded before it runs");
            let observer = RefCell::new(observer);
            let outcome = site::run(
                &config,
                &scene,
                request.seed,
                &mut |at| {
                    let site::Progress {
                        now, end, events, ..
                    } = at;
                    observer
                        .borrow_mut()
                        .progress(Progress { now, end, events })
                },
                &mut |record| match record {
                    site::Record::Decision(decision, evidence, link) => {
                        observer.borrow_mut().decided(decision, evidence, link);
                    }
                    site::Record::Job(job) => observer.borrow_mut().job(&job),
                    site::Record::Event {
                        at,
                        kind,
                        node,
                        detail,
                        link,
                    } => {
                        let mut observer = observer.borrow_mut();
                        observer.happened(at, kind, node, &detail, link);
                    }
                },
            );
            let summary = outcome.summary(&config, &scene.measured, request.seed);
            Outcome {
                summary,
                series: outcome.series,
                step_response: None,
            }
        }
    };
    before.measure(&mut outcome.summary);
    outcome.summary.overrides.clone_from(&request.overrides);
    outcome.summary.command.clone_from(&request.command);
    outcome
}

/// Writes decisions down as they come. A full disk stops the run.
struct Scribe<'a> {
    history: History,
    /// What names and jobs are taken from; empty where there are none.
    scene: Arc<Scene>,
    batch: Vec<(Decision, Option<u64>, Link)>,
    decisions: Option<Decisions>,
    failed: Option<RecordError>,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
}

impl Observer for Scribe<'_> {
    fn progress(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.failed.is_some() {
            return ControlFlow::Break(());
        }
        (self.progress)(progress)
    }

    fn decision(&mut self, decision: &Decision, cell: Option<u64>) {
        self.one_more(decision, cell, Link::default());
    }

    fn decided(&mut self, decision: &Decision, evidence: Option<&Evidence>, link: Link) {
        let load = &self.scene.load;
        let Some(listed) = load.jobs.jobs.get(decision.work as usize) else {
            return self.one_more(decision, None, link);
        };
        let job = site::world::asked(decision.work, listed);
        let detail = site::why::detail(decision, evidence, &job, &site::Called(load));
        self.flush();
        if self.failed.is_none() {
            let written = self.history.decision(decision, None, 1, &detail, link);
            self.failed = written.err();
        }
        if let Some(decisions) = &mut self.decisions
            && self.failed.is_none()
        {
            self.failed = decisions.push(decision).err();
        }
    }

    fn job(&mut self, record: &JobRecord<'_>) {
        if self.failed.is_none() {
            let names = site::Called(&self.scene.load);
            let job = site::world::asked(record.id, record.job);
            let wants = words::wants(&job, &names);
            self.failed = self.history.job(row(record, wants)).err();
        }
    }

    fn event(&mut self, at: Instant, kind: &'static str, subject: Option<u64>, detail: &str) {
        self.happened(at, kind, subject, detail, Link::default());
    }

    fn happened(
        &mut self,
        at: Instant,
        kind: &'static str,
        subject: Option<u64>,
        detail: &str,
        link: Link,
    ) {
        if self.failed.is_none() {
            let seconds = at.as_secs_f64();
            let written = self.history.event(seconds, kind, subject, detail, link);
            self.failed = written.err();
        }
    }
}

impl Scribe<'_> {
    fn one_more(&mut self, decision: &Decision, cell: Option<u64>, link: Link) {
        let alike = self.batch.first().is_some_and(|(first, in_cell, of)| {
            let same = |d: &Decision| (d.at, d.action, d.reason, d.work);
            // A row of several stands for as many numbers, from the first on.
            let next = of.id == 0 || link.id == of.id + self.batch.len() as u64;
            *in_cell == cell
                && decision.work == Decision::NO_WORK
                && same(first) == same(decision)
                && of.cause == link.cause
                && next
        });
        if !alike {
            self.flush();
        }
        self.batch.push((*decision, cell, link));
        if let Some(decisions) = &mut self.decisions
            && self.failed.is_none()
        {
            self.failed = decisions.push(decision).err();
        }
    }

    /// Tiles of a cell that decide the same at the same instant share a row, which
    /// lists them with what each measured.
    fn flush(&mut self) {
        let Some((first, cell, link)) = self.batch.first() else {
            return;
        };
        let detail = if self.batch.len() == 1 {
            String::new()
        } else {
            let tiles = self
                .batch
                .iter()
                .map(|(d, ..)| format!("{}:{:.2}", d.subject.0, d.found));
            format!("tile:found {}", tiles.collect::<Vec<_>>().join(" "))
        };
        if self.failed.is_none() {
            let count = self.batch.len() as u64;
            let written = (self.history).decision(first, *cell, count, &detail, *link);
            self.failed = written.err();
        }
        self.batch.clear();
    }
}

fn row(record: &JobRecord<'_>, wants: String) -> JobRow {
    JobRow {
        id: record.id,
        name: record.job.name.clone(),
        tenant: record.tenant.into(),
        tasks: record.job.tasks,
        gpus: record.job.gpu_milli() as f64 / 1_000.0,
        wants: wants.into(),
        arrival: record.job.arrives.as_secs_f64(),
        start: record.started.map(|at| at.as_secs_f64()),
        end: record.ended.map(|at| at.as_secs_f64()),
        nodes: record.tasks.iter().map(|task| task.node).collect(),
        outcome: record.fate.name(),
    }
}

/// What only the host of a run can know: how long it took and how much it held.
#[derive(Clone, Copy, Debug)]
pub struct Host {
    wall: std::time::Instant,
    cpu_seconds: f64,
}

impl Host {
    /// The moment before a run.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the cost of a run is a question for the wall clock"
    )]
    pub fn now() -> Self {
        Self {
            wall: std::time::Instant::now(),
            cpu_seconds: cpu_seconds(),
        }
    }

    /// Seconds since then: by the clock on the wall, and of processor time.
    #[must_use]
    pub fn elapsed_seconds(&self) -> (f64, f64) {
        let after = Self::now();
        let wall = after.wall.duration_since(self.wall).as_secs_f64();
        (wall, after.cpu_seconds - self.cpu_seconds)
    }

    /// Fills in what the run since then cost.
    pub fn measure(&self, summary: &mut Summary) {
        let after = Self::now();
        summary.wall_seconds = after.wall.duration_since(self.wall).as_secs_f64();
        summary.events_per_second = summary.events as f64 / summary.wall_seconds;
        summary.peak_rss_bytes = peak_rss_bytes();
        // All processor time of the run, engine and heat model included, was
        // spent on so many tile-seconds: an upper bound of what the protocols
        // would cost a tile whose core is like this host's.
        //= requirements U5
        let tile_seconds = summary.tiles as f64 * summary.simulated_seconds;
        let spent = (after.cpu_seconds - self.cpu_seconds) / tile_seconds;
        // A process is no tile.
        let is_told = spent.is_finite() && summary.kind != Kinds::Braid;
        summary.os_overhead_fraction = is_told.then_some(spent);
    }
}

/// Processor time of this process so far; NaN where the system does not tell.
fn cpu_seconds() -> f64 {
    // Fields 14 and 15 of proc(5), in clock ticks of 1/100 s; the name in field 2
    // may hold spaces, so counting starts behind its closing bracket.
    let ticks = || {
        let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
        let user: f64 = fields.next()?.parse().ok()?;
        let system: f64 = fields.next()?.parse().ok()?;
        Some(user + system)
    };
    ticks().map_or(f64::NAN, |ticks| ticks / 100.0)
}

/// The most memory this process ever held; 0 where the system does not tell.
#[must_use]
pub fn peak_rss_bytes() -> u64 {
    let peak = || {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    peak().unwrap_or(0) * 1024
}
