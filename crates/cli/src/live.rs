//! `cosmos twin live`: a rehearsal, lived as slowly as a node lives, and shown as a node is shown.
//!
//! Whoever knows the dashboard of a node knows this one: it is the same page, asked for through the same requests and behind a key of its own
//! ([`daemon::front`]). Here is what stands behind it instead of a node: one thread that lets the rehearsal catch up with the clock once a second, and in
//! between answers what is asked. Jobs are shown as programs, nodes of the site as machines, GPUs as cores. Times are those of the rehearsal,
//! since its beginning.
//!
//! Nothing can be commanded: what comes is in the universe and its lists. Memory is bounded, apart from what the run itself keeps for its charts.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant as Wall};

use anyhow::{Context as _, Result, bail};
use daemon::control::{Answer, Limited, Listed, Rehearsal, Request, Status};
use daemon::fleet::vitals::Vitals;
use daemon::fleet::{FleetStatus, Holon, Listed as Member};
use daemon::front::live::{Live, Sample, Used};
use daemon::front::{self, Shown};
use daemon::heat::Reading;
use daemon::history::{Decision, Why};
use daemon::journal::Journal;
use daemon::news::News;
use daemon::sensors::{Source, Temperature};
use daemon::supervision::{Phase, Restart};
use twin::observer::Progress;
use twin::rehearsal::{Given, Universe};
use twin::site::{self, Called, Fate, NodeNow, Power, Record, Visit, why};
use wire::{Instant, Kelvin, Nanos};

use crate::arguments;
use crate::progress::Display;
use crate::run::{INTERRUPTED, prepare, watch_for_interrupt};
use crate::universes;

/// From one look at the clock to the next.
const TICK: Duration = Duration::from_secs(1);
/// So many questions wait.
const QUESTIONS_MAX: usize = 64;
/// So many decisions are kept, and so many events.
const DECISIONS_MAX: usize = 20_000;
const EVENTS_MAX: usize = 2_000;
/// So many jobs that ended are still shown.
const ENDED_MAX: usize = 100;
/// An answer to why has at most so many decisions about its subject.
const TOLD_MAX: usize = 100;

pub(crate) fn live(asked: &arguments::Live) -> Result<ExitCode> {
    let universe = universes::find(&asked.universe)?;
    let given = Given {
        folder: asked.trace.as_deref(),
        jobs: &asked.jobs,
        ..Given::default()
    };
    let (config, scene, seed) = match prepare(&universe, &asked.settings, &given)? {
        universe @ Universe::Site(..) => {
            let seed = asked.seed.unwrap_or(universe.seed());
            match universe {
                Universe::Site(config, Some(scene)) => (config, scene, seed),
                _ => bail!("the site was not read"),
            }
        }
        other => bail!(
            "universe {}: found another kind, expected a site: nothing else can be lived yet",
            other.name()
        ),
    };
    let stop = watch_for_interrupt()?;
    let listener = front::listen(asked.http).context("the dashboard cannot listen")?;
    let names = names(&scene);
    let news = Arc::new(News::default());
    let book = RefCell::new(Book::new(&scene, &names, &news));
    let mut tell = |record: Record<'_>| book.borrow_mut().hear(&record);
    let mut visit = Visit::new(&config, &scene, seed);
    visit.tell(&mut tell);
    let end = visit.end();
    let begin = Instant::EPOCH + asked.at.map_or(Nanos::ZERO, |at| at.0);
    if begin > end {
        bail!(
            "--at: found a moment after the rehearsal has ended, which is at {}",
            scheduler::site::words::moment(end)
        );
    }
    let mut display = Display::new(asked.quiet, "up to the moment");
    let reached = visit.until(begin, &mut |p| {
        let (now, events) = (p.now, p.events);
        display.update(Progress {
            now,
            end: begin,
            events,
        });
        match stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    display.finish();
    if reached.is_break() {
        return Ok(ExitCode::from(INTERRUPTED));
    }

    let (questions, to_answer) = sync_channel(QUESTIONS_MAX);
    let samples = Arc::new(Live::default());
    let key = front::new_key().context("the kernel gives no randomness for a key")?;
    let shown = Front {
        questions,
        names: names.iter().cloned().collect(),
        news: Arc::clone(&news),
    };
    let address = front::serve(
        listener,
        &key,
        Arc::new(shown),
        Arc::clone(&samples),
        std::future::pending(),
    )
    .context("the dashboard is not served")?;
    let mut stage = Stage {
        config: &config,
        scene: &scene,
        seed,
        address,
        pace: asked.pace,
        names: &names,
        book: &book,
        visit,
        now: begin,
        wanted: begin,
        samples: 0,
    };
    crate::print(&format!("http://{address}/#{key}\n"))?;
    anstream::eprintln!(
        "twin: {} is lived {} times as fast as the clock; Ctrl-C ends it",
        config.name,
        asked.pace
    );
    stage.live(&to_answer, &samples, || stop.load(Ordering::Relaxed));
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::disallowed_methods, reason = "it is lived by the clock")]
fn wall() -> Wall {
    Wall::now()
}

/// What each job is called: by its list, and with its number behind that where another is called the same.
fn names(scene: &site::Scene) -> Vec<String> {
    let jobs = &scene.load.jobs.jobs;
    let mut often: BTreeMap<&str, u32> = BTreeMap::new();
    for job in jobs {
        *often.entry(&job.name).or_default() += 1;
    }
    let named = jobs
        .iter()
        .zip(0_usize..)
        .map(|(job, id)| match often[&*job.name] {
            1 => job.name.to_string(),
            _ => format!("{}#{id}", job.name),
        });
    named.collect()
}

/// What the front asks.
struct Front {
    questions: SyncSender<(Request, SyncSender<Answer>)>,
    names: BTreeSet<String>,
    news: Arc<News>,
}

impl Shown for Front {
    fn ask(&self, request: Request) -> Answer {
        let (answer, answered) = sync_channel(1);
        let ended = || refused("the rehearsal is ending");
        match self.questions.send((request, answer)) {
            Ok(()) => answered.recv().unwrap_or_else(|_| ended()),
            Err(_) => ended(),
        }
    }

    fn knows(&self, program: &str) -> bool {
        self.names.contains(program)
    }

    fn journal(&self, _: &str) -> Option<Arc<Journal>> {
        None
    }

    fn news(&self) -> &News {
        &self.news
    }
}

fn refused(because: impl Into<String>) -> Answer {
    let because = because.into();
    Answer::Refused { because }
}

/// A moment of the rehearsal as pages are told it.
const fn ms(at: Instant) -> u64 {
    at.0 / 1_000_000
}

/// A decision, and what it is about.
struct Told {
    decision: Decision,
    job: Option<usize>,
    node: u32,
}

/// A job that is gone.
struct Gone {
    job: usize,
    fate: Fate,
}

/// What was told while the rehearsal was lived.
struct Book<'a> {
    scene: &'a site::Scene,
    names: &'a [String],
    news: &'a News,
    decisions: VecDeque<Told>,
    /// Events by number: when, what, and because of what.
    events: BTreeMap<u64, (Instant, String, Option<u64>)>,
    /// What last happened to a node.
    befell: BTreeMap<u32, String>,
    ended: VecDeque<Gone>,
    starts: Vec<u16>,
}

impl<'a> Book<'a> {
    fn new(scene: &'a site::Scene, names: &'a [String], news: &'a News) -> Self {
        Self {
            scene,
            names,
            news,
            decisions: VecDeque::new(),
            events: BTreeMap::new(),
            befell: BTreeMap::new(),
            ended: VecDeque::new(),
            starts: vec![0; names.len()],
        }
    }

    fn hear(&mut self, record: &Record<'_>) {
        use telemetry::Action;
        let called = Called(&self.scene.load);
        match record {
            Record::Decision(decision, evidence, link) => {
                let job = usize::try_from(decision.work)
                    .ok()
                    .filter(|job| *job < self.names.len());
                let node = decision.subject.0 as u32;
                let mut said = match job {
                    Some(_) => called.decision(decision, *evidence),
                    None => called.about_node(decision),
                };
                // An event causes nothing that could be pointed at: it is told instead.
                let mut cause = link.cause;
                while let Some((at, what, before)) = cause.and_then(|cause| self.events.get(&cause))
                {
                    let at = scheduler::site::words::moment(*at);
                    said.push_str(&format!("; because at {at} {what}"));
                    cause = *before;
                }
                if let Some(job) = job {
                    let phase = match decision.action {
                        Action::Place | Action::Migrate => Some(Phase::Running),
                        Action::Queue | Action::Preempt => Some(Phase::Waiting),
                        _ => None,
                    };
                    if phase == Some(Phase::Running) {
                        self.starts[job] = self.starts[job].saturating_add(1);
                    }
                    if let Some(phase) = phase {
                        self.news
                            .tell_at(ms(decision.at), &self.names[job], Some(phase));
                    }
                }
                if self.decisions.len() == DECISIONS_MAX {
                    self.decisions.pop_front();
                }
                let known = |number: f64| number.is_finite().then_some(number);
                self.decisions.push_back(Told {
                    decision: Decision {
                        number: link.id,
                        unix_ms: ms(decision.at),
                        program: job.map(|job| self.names[job].clone()),
                        action: decision.action,
                        reason: decision.reason,
                        found: known(decision.found),
                        bound: known(decision.bound),
                        cause,
                        said,
                    },
                    job,
                    node,
                });
            }
            Record::Event {
                at,
                kind,
                node,
                detail,
                link,
            } => {
                if *kind == "finished" {
                    return;
                }
                if let Some(node) = node {
                    let at = scheduler::site::words::moment(*at);
                    self.befell
                        .insert(*node as u32, format!("at {at} {detail}"));
                }
                self.events
                    .insert(link.id, (*at, detail.clone(), link.cause));
                if self.events.len() > EVENTS_MAX {
                    self.events.pop_first();
                }
            }
            Record::Job(record) => {
                let (job, fate) = (record.id as usize, record.fate);
                if matches!(fate, Fate::Running | Fate::Waiting) {
                    return;
                }
                if self.ended.len() == ENDED_MAX {
                    self.ended.pop_front();
                }
                self.ended.push_back(Gone { job, fate });
                let at = record.ended.unwrap_or(record.job.arrives);
                self.news
                    .tell_at(ms(at), &self.names[job], Some(phase_of(fate)));
            }
        }
    }

    /// The last decisions of which this is true, and what caused them, oldest first.
    fn about(&self, is: impl Fn(&Told) -> bool) -> Vec<Decision> {
        let mut wanted = BTreeSet::new();
        let (mut found, mut own) = (Vec::new(), 0);
        for told in self.decisions.iter().rev() {
            let is_own = own < TOLD_MAX && is(told);
            if is_own || wanted.contains(&told.decision.number) {
                own += usize::from(is_own);
                wanted.extend(told.decision.cause);
                found.push(told.decision.clone());
            }
        }
        found.reverse();
        // A cause that is not kept any more is no cause to point at.
        let kept: BTreeSet<u64> = found.iter().map(|decision| decision.number).collect();
        for decision in &mut found {
            decision.cause = decision.cause.filter(|cause| kept.contains(cause));
        }
        found
    }
}

/// How a job that is gone is shown.
const fn phase_of(fate: Fate) -> Phase {
    match fate {
        Fate::Finished => Phase::Ended { code: Some(0) },
        // As of timeout(1), and as of a program that could not be run.
        Fate::AtLimit => Phase::Ended { code: Some(124) },
        Fate::Refused => Phase::Ended { code: Some(126) },
        Fate::Lost => Phase::Ended { code: Some(137) },
        Fate::Running => Phase::Running,
        Fate::Waiting => Phase::Waiting,
    }
}

/// What is lived.
struct Stage<'a> {
    config: &'a site::Config,
    scene: &'a site::Scene,
    seed: u64,
    address: SocketAddr,
    pace: f64,
    names: &'a [String],
    book: &'a RefCell<Book<'a>>,
    visit: Visit<'a>,
    /// Everything up to here has happened.
    now: Instant,
    /// Everything up to here is to have happened by now.
    wanted: Instant,
    samples: u64,
}

impl Stage<'_> {
    /// Until it is stopped; also after its end, when nothing happens any more.
    fn live(
        &mut self,
        asked: &Receiver<(Request, SyncSender<Answer>)>,
        live: &Live,
        stops: impl Fn() -> bool,
    ) {
        let (began, first) = (wall(), self.now);
        let mut due = began;
        while !stops() {
            let now = wall();
            if now < due {
                match asked.recv_timeout(due - now) {
                    // Who asked may have gone.
                    Ok((request, answer)) => drop(answer.send(self.answer(request))),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                continue;
            }
            // Whatever waits is answered before the next step, however long steps take.
            while let Ok((request, answer)) = asked.try_recv() {
                let _ = answer.send(self.answer(request));
            }
            let lived = Nanos::from_secs_f64(began.elapsed().as_secs_f64() * self.pace);
            self.wanted = (first + lived).min(self.visit.end());
            // What cannot be done in time is done later, and said to be late; questions must not wait for it.
            let step = Nanos::from_secs_f64(TICK.as_secs_f64() * self.pace);
            let next = self.wanted.min(self.now + step);
            if next > self.now {
                let _ = self.visit.until(next, &mut |_| ControlFlow::Continue(()));
                self.now = next;
            }
            self.samples += 1;
            live.add(self.sample());
            due += TICK;
            due = due.max(wall());
        }
    }

    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Status(Box::new(self.status())),
            Request::List => Answer::List {
                programs: self.programs(),
            },
            Request::Members => Answer::Members {
                members: self.members(),
                holons: self.holons(),
            },
            Request::Why { name: None } => self.why_site(),
            Request::Why { name: Some(name) } => self.why_job(&name),
            Request::WhyMember { name } => self.why_node(&name),
            Request::Services => refused("a rehearsal has none of a node's layers to look at"),
            _ => refused(
                "this is a rehearsal: what comes is in its universe, and nothing can be commanded",
            ),
        }
    }

    fn reading(&self) -> Reading {
        let site = self.visit.site_now();
        reading(site.busy, site.clock, site.kelvin, site.throttle_kelvin)
    }

    fn status(&self) -> Status {
        let jobs = self.visit.jobs_now();
        let (running, known) = jobs.fold((0, 0), |(running, known), job| {
            (running + usize::from(!job.tasks.is_empty()), known + 1)
        });
        let alive = self
            .visit
            .nodes_now()
            .filter(|node| node.power != Power::Dark);
        let (site, nobody) = (self.visit.site_now(), || {
            "nobody: it is rehearsed".to_owned()
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            seconds: self.now.as_secs_f64(),
            running,
            known,
            cores: site.gpus as usize,
            ending: false,
            dashboard: Some(self.address),
            limits: Limited {
                memory: nobody(),
                cores: nobody(),
                processes: nobody(),
            },
            heat: Some(self.reading()),
            fleet: FleetStatus {
                fleet: self.config.name.clone(),
                name: self.config.name.clone(),
                tile: 0,
                address: self.address,
                authority: false,
                alive: alive.count(),
                known: self.scene.load.nodes.len(),
                refused: BTreeMap::new(),
                expelled: false,
                council: None,
            },
            changes: String::new(),
            unwritten: 0,
            damaged: Vec::new(),
            machine: daemon::make::Told::default(),
            gpus: site.gpus as usize,
            gpus_free: (f64::from(site.gpus) * (1.0 - site.busy)).floor() as usize,
            atmosphere: daemon::heat::Atmosphere::default(),
            rehearsal: Some(Rehearsal {
                universe: self.config.name.clone(),
                intent: self.config.intent.clone(),
                seed: self.seed,
                at_s: self.now.as_secs_f64(),
                end_s: self.visit.end().as_secs_f64(),
                pace: self.pace,
                behind_s: self.wanted.since(self.now).as_secs_f64(),
            }),
        }
    }

    /// A job as a program is listed.
    fn listed(&self, job: usize, phase: Phase, since: Option<Instant>) -> Listed {
        let load = &self.scene.load;
        let tenant = usize::from(load.jobs.jobs[job].tenant);
        Listed {
            name: self.names[job].clone(),
            program: load.jobs.tenants[tenant].clone(),
            arguments: vec![Called(load).wants(job as u64)],
            restart: Restart::Never,
            phase,
            process: None,
            since_unix_ms: since.map(ms),
            starts: self.book.borrow().starts[job].into(),
            out_of_memory: false,
            late: phase == phase_of(Fate::AtLimit),
            group: None,
            shared: false,
        }
    }

    fn programs(&self) -> Vec<Listed> {
        let jobs = self.visit.jobs_now().map(|job| {
            let phase = match job.tasks {
                [] => Phase::Waiting,
                _ => Phase::Running,
            };
            self.listed(job.id as usize, phase, job.started)
        });
        let mut programs: Vec<_> = jobs.collect();
        let ended: Vec<_> = self
            .book
            .borrow()
            .ended
            .iter()
            .map(|gone| (gone.job, gone.fate))
            .collect();
        programs.extend(
            ended
                .into_iter()
                .map(|(job, fate)| self.listed(job, phase_of(fate), None)),
        );
        programs.sort_by(|a, b| a.name.cmp(&b.name));
        programs
    }

    fn members(&self) -> Vec<Member> {
        let first_rack = 1 + self.visit.rows_now().len();
        let nodes = self
            .visit
            .nodes_now()
            .zip(&self.scene.load.nodes)
            .zip(0_u64..);
        let members = nodes.map(|((now, node), tile)| Member {
            name: node.name.clone(),
            tile,
            address: None,
            state: state(now.power).to_owned(),
            incarnation: 0,
            since_ms: 0,
            here: false,
            holon: first_rack + now.rack as usize,
            vitals: Some(vitals(&now)),
        });
        members.collect()
    }

    fn holons(&self) -> Vec<Holon> {
        let rows = self.visit.rows_now();
        let mut holons = vec![Holon {
            name: self.config.name.clone(),
            level: "site".to_owned(),
            parent: None,
            cooling: None,
        }];
        holons.extend(rows.iter().zip(0..).map(|(row, n)| Holon {
            name: format!("row {n}, loop {}", row.coolant),
            level: "row".to_owned(),
            parent: Some(0),
            cooling: Some(row.load),
        }));
        holons.extend(self.visit.row_of().iter().zip(0..).map(|(row, n)| Holon {
            name: format!("rack {n}"),
            level: "rack".to_owned(),
            parent: Some(1 + *row as usize),
            cooling: None,
        }));
        holons
    }

    fn why_site(&self) -> Answer {
        let reading = self.reading();
        let now = format!(
            "at {} of {}: {:.0} % of all GPUs are claimed, at {:.0} % of full clock; the device closest to its limit has {:.1} °C and slows itself down at {:.1} °C",
            scheduler::site::words::moment(self.now),
            scheduler::site::words::moment(self.visit.end()),
            reading.busy * 100.0,
            reading.clock * 100.0,
            reading.temperature.celsius,
            reading.temperature.limit_celsius
        );
        let book = self.book.borrow();
        let mut now = vec![now];
        let events = book.events.values().rev().take(8);
        now.extend(
            events
                .map(|(at, what, _)| format!("at {} {what}", scheduler::site::words::moment(*at))),
        );
        told(None, now.join("\n"), book.about(|told| told.job.is_none()))
    }

    fn why_job(&self, name: &str) -> Answer {
        let Some(job) = self.names.iter().position(|own| own == name) else {
            return refused(format!("there is no job named {name:?}"));
        };
        let (id, called) = (job as u64, Called(&self.scene.load));
        let explanation = self.visit.explain(id, self.now);
        let words = why::explanation_in_words(&explanation, self.now, &called);
        let book = self.book.borrow();
        let gone = book.ended.iter().rev().find(|gone| gone.job == job);
        let phase = match (&explanation, gone) {
            (_, Some(gone)) => phase_of(gone.fate),
            (scheduler::site::explain::Explanation::Running(_), None) => Phase::Running,
            _ => Phase::Waiting,
        };
        let now = words.unwrap_or_else(|| {
            let comes = self.scene.load.jobs.jobs[job].arrives;
            match gone {
                Some(gone) => format!("{name} is gone: {}", gone.fate.name().replace('_', " ")),
                None if comes > self.now => {
                    format!(
                        "{name} has not come yet: it comes at {}",
                        scheduler::site::words::moment(comes)
                    )
                }
                None => format!("{name} is gone, longer ago than is kept here"),
            }
        });
        let decisions = book.about(|told| told.job == Some(job));
        drop(book);
        told(Some(self.listed(job, phase, None)), now, decisions)
    }

    fn why_node(&self, name: &str) -> Answer {
        let nodes = &self.scene.load.nodes;
        let Some(n) = nodes.iter().position(|node| node.name == name) else {
            return refused(format!("there is no node named {name:?}"));
        };
        let now = self
            .visit
            .nodes_now()
            .nth(n)
            .expect("one for each of the list");
        let vitals = vitals(&now);
        let temperature = vitals.reading.temperature;
        let mut lines = vec![format!(
            "{name} is {}: {:.0} % of it is claimed by {} jobs, its slowest device runs at {:.0} % of full clock, the one closest to its limit has {:.1} °C and slows itself down at {:.1} °C",
            state(now.power),
            now.busy * 100.0,
            now.jobs,
            now.clock * 100.0,
            temperature.celsius,
            temperature.limit_celsius
        )];
        let book = self.book.borrow();
        lines.extend(book.befell.get(&(n as u32)).cloned());
        let jobs = self
            .visit
            .jobs_now()
            .filter(|job| job.tasks.iter().any(|task| task.node as usize == n));
        let jobs: Vec<_> = jobs
            .map(|job| self.names[job.id as usize].as_str())
            .collect();
        if !jobs.is_empty() {
            lines.push(format!("here run {}", jobs.join(", ")));
        }
        let decisions = book.about(|told| {
            told.node == n as u32 && told.job.is_none_or(|_| is_about_place(&told.decision))
        });
        told(None, lines.join("\n"), decisions)
    }

    fn sample(&self) -> Sample {
        let load = &self.scene.load;
        let memory = |mib: u64| mib << 20;
        let running = self.visit.jobs_now().filter(|job| !job.tasks.is_empty());
        let programs: BTreeMap<_, _> = running
            .map(|job| {
                let (id, tasks) = (job.id as usize, job.tasks.len() as u64);
                let used = Used {
                    cores: job.gpus,
                    memory_bytes: memory(u64::from(load.jobs.jobs[id].demand.memory_mib) * tasks),
                    processes: tasks as u32,
                };
                (self.names[id].clone(), used)
            })
            .collect();
        let together = Used::sum(programs.values());
        let own = daemon::sensors::use_of(std::process::id());
        Sample {
            number: self.samples,
            unix_ms: ms(self.now),
            reading: self.reading(),
            memory_used_bytes: together.memory_bytes,
            memory_total_bytes: load
                .nodes
                .iter()
                .map(|node| memory(node.memory_mib.into()))
                .sum(),
            node: Used {
                cores: 0.0,
                memory_bytes: own.memory_bytes,
                processes: own.processes,
            },
            together,
            programs,
        }
    }
}

fn told(program: Option<Listed>, now: String, decisions: Vec<Decision>) -> Answer {
    Answer::Why(Box::new(Why::of(program, now, decisions)))
}

/// Whether a decision about a job is one about where it runs. Others name the first node for want of any.
fn is_about_place(decision: &Decision) -> bool {
    use telemetry::Action;
    matches!(
        decision.action,
        Action::Place | Action::Migrate | Action::Preempt | Action::Lose
    )
}

fn reading(busy: f64, clock: f64, kelvin: f64, throttle_kelvin: f64) -> Reading {
    Reading {
        busy,
        temperature: Temperature {
            celsius: Kelvin(kelvin).as_celsius(),
            limit_celsius: Kelvin(throttle_kelvin).as_celsius(),
            source: Source::Modelled,
        },
        clock,
    }
}

fn vitals(now: &NodeNow) -> Vitals {
    Vitals {
        reading: reading(now.busy, now.clock, now.kelvin, now.throttle_kelvin),
        leases: now.jobs,
        age_s: 0.0,
    }
}

const fn state(power: Power) -> &'static str {
    match power {
        Power::On => "alive",
        Power::Parked => "parked",
        Power::Dark => "dark",
    }
}
