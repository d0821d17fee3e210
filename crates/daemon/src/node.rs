//! The node itself: one thread that decides, and threads that wait for it.
//!
//! The deciding thread owns everything: supervision, what is remembered, processes. It takes one event
//! after another from a bounded queue and does what comes of it, so no two things ever happen at once. What several
//! events in a row leave to be remembered is written together, and only then answered: a disk's sync is waited for once
//! for all who came during the last one.
//! Around it wait one thread for signals, one for the history, one for the sensors, one for the fleet and one for its letters, one for
//! the dashboard, one for connections, one for each connection (at most
//! [`SILENT_MAX`] and [`ANSWERED_MAX`]), and one for each program that runs, which reads what it says and then waits
//! for its end. Programs are started by the deciding thread because they end with the thread that started
//! them.
//!
//! It is started in the foreground; making it a background process is the business of an init system.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;
use std::time::Duration;

use ::node::council::{Became, Fate, Room};
use consensus::{Index, Lease};
use machine::Machine as _;
use rustix::process::{Pid, Signal, WaitOptions};
use signal_hook::iterator::Signals;
use telemetry::{Action, Reason};
use wire::{Instant, Nanos, Tile};

use crate::affairs::{self, Spec};
use crate::braided::{self, Braids};
use crate::cache::make_private;
use crate::cgroup::{self, Hierarchy};
use crate::confinement::{self, Watch};
use crate::control::{self, Answer, Limited, Listed, Request, Status, Wanted};
use crate::duty::{self, Duty};
use crate::fleet::council::{Begin, Order};
use crate::fleet::echo::{self, Echoes};
use crate::fleet::post::{self, Post};
use crate::fleet::{self, Fleet, FleetError, FleetStatus};
use crate::frequency::{self, Frequencies};
use crate::front;
use crate::gpu::{self, Gpus};
use crate::gpu_guard::Decided;
use crate::heat::{self, Heat};
use crate::history::{self, Draft, History};
use crate::journal::Journal;
use crate::keeping::{self, Keeping, NotKept};
use crate::lease::{self, Grip, Tenancy};
use crate::load;
use crate::news::{News, unix_ms};
use crate::nvml;
use crate::program::{self, Kind, Network, Program};
use crate::reasons;
use crate::recital::{self, Afar};
use crate::sensors::{How, Part, Source};
use crate::services;
use crate::spare::Spare;
use crate::stem::{self, Stem};
use crate::store::{self, Membership, Record, Store, StoreError, Wish};
use crate::supervision::{
    Because, Effect, GRACE, Group, GroupId, Id, Input, Intensity, Phase, Restart, Strategy,
    Supervision, Terms,
};
use crate::verdict::Change;
use crate::warden;

/// So many connections may be open whose request has not come yet; the next one closes the one that has been silent
/// longest. Whoever is silent can therefore keep nobody out.
pub const SILENT_MAX: usize = 64;

/// So many may wait for an answer or follow a log; more are refused.
pub const ANSWERED_MAX: usize = 256;

/// Events that may wait; who has another one waits to hand it in.
const EVENTS_MAX: usize = 256;

/// So many that ran for the fleet and have ended are kept, for what they said.
const ENDED_MAX: usize = 16;

/// Whoever is served by what is handed over has so long until it is asked to end: an answer that takes longer is cut off by the program, if that does so.
const LEAVING: Duration = Duration::from_secs(10);

/// About so many bytes of new programs are written at once, and the rest after that: a commit has its limit
/// ([`trust::chain::COMMIT_MAX`]), and JSON may make six of one.
const WRITTEN_MAX: usize = 4 << 20;

/// What became of programs waits so long for company before it is written, if nobody is to be told: one sync for all that
/// end meanwhile.
const OWED: Nanos = Nanos::from_millis(5);

/// And so long after it could not be written.
const OWED_STILL: Nanos = Nanos::SECOND;

/// So long after a capsule was started the spare for the next one is made: whoever asked has been answered by then, and the
/// capsule itself is under way.
const SPARED: Nanos = Nanos::from_millis(1);

/// Why a node did not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// There is one already.
    #[error("a node runs on {data} already{}", process.map(|n| format!(" (process {n})")).unwrap_or_default())]
    Taken {
        /// The directory.
        data: String,
        /// Who has it.
        process: Option<u32>,
    },
    /// The directory, or something in it.
    #[error("{what} {path}: {source}")]
    Directory {
        /// What was being done.
        what: &'static str,
        /// With which file.
        path: String,
        /// What came of it.
        source: io::Error,
    },
    /// Others can look into the directory, and what is in it may not be ours to close.
    #[error(
        "{data} cannot be a node's directory: {because}; expected a folder that only its owner (user {user}) can \
         enter (mode 0700), or one with nothing in it that is not a node's"
    )]
    NotPrivate {
        /// The directory.
        data: String,
        /// What was found.
        because: String,
        /// Whose it should be.
        user: u32,
    },
    /// What it remembers.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The dashboard.
    #[error("serving the dashboard: {0}")]
    Front(#[source] io::Error),
    /// It was too hot to go on.
    //= requirements K2
    #[error(
        "found {celsius:.1} °C, expected less than {limit:.1} °C: the machine goes dark, and its programs with it"
    )]
    TooHot {
        /// How hot.
        celsius: f64,
        /// How hot it may be.
        limit: f64,
    },
    /// It is in no fleet.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The kernel gives no thread or signal.
    #[error("starting the node: {0}")]
    Start(#[from] io::Error),
}

/// Where the dashboard and the API are to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Where it is usual, or on another port of loopback.
    Somewhere,
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Nowhere,
}

/// What happens to a node.
enum Event {
    Asked(Box<Request>, SyncSender<Answer>),
    Ended(Id, u8),
    Signalled,
    /// Programs are to be given this share of the processor.
    Clocked(f64),
    /// The machine passed its limit, in degrees Celsius.
    TooHot(f64),
    /// The council says what is to begin or to end here.
    Ordered(Order),
    /// What was begun under a lease, at its so-manieth start, is well.
    Well(Id, u64),
    /// What is handed over serves nobody here any more, or takes too long.
    Quiet(Id),
}

/// Journals by name, shared with who reads them.
type Journals = Arc<RwLock<BTreeMap<String, Arc<Journal>>>>;

/// How the threads around the deciding one reach it.
#[derive(Clone)]
pub(crate) struct Handle {
    events: SyncSender<Event>,
    journals: Journals,
    /// What happened to programs.
    pub(crate) news: Arc<News>,
    /// What was decided about them.
    pub(crate) history: History,
    fleet: Fleet,
    post: Post,
    braids: Braids,
    /// How hot the machine is.
    pub(crate) heat: Heat,
    keeping: Keeping,
    /// The node's directory.
    pub(crate) data: Arc<Path>,
}

impl Handle {
    /// Asks, and waits for the answer.
    pub(crate) fn ask(&self, request: Request) -> Answer {
        // What is for this machine need not leave it.
        let request = match request {
            Request::On { member, request }
                if (self.fleet.status()).is_some_and(|own| own.name == member) =>
            {
                *request
            }
            other => other,
        };
        match request {
            Request::Load => {
                load::look(self).map_or_else(|other| other, |load| Answer::Load(Box::new(load)))
            }
            Request::Services => match services::look(self) {
                Ok(services) => Answer::Services { services },
                Err(other) => other,
            },
            Request::Why { name } => {
                let known = why(name.as_deref(), &self.events, &self.history, &self.heat);
                match name {
                    Some(name) if affairs::any(&self.fleet) => self.why_shared(&name, known),
                    _ => known,
                }
            }
            Request::Piece { name, from } => piece_of(&self.journals, &name, from),
            Request::Leave => self.leave(&mut |_| {}),
            Request::Inside { name }
                if self.journal(&name).is_none() && affairs::any(&self.fleet) =>
            {
                let because = reasons::elsewhere(&self.fleet, &name);
                Answer::Refused { because }
            }
            Request::WhyShared { name } => self.why_shared(&name, affairs::unknown(&name)),
            Request::WhyMember { name } => self.why_member(name),
            Request::Recover { tenancy } => kept(
                tenancy.program.clone(),
                self.keeping.recover(&tenancy).map(drop),
            ),
            Request::Keep { tenancy, events } => {
                let done = self.keeping.keep(&tenancy, events);
                kept(tenancy.program, done)
            }
            request => {
                let answer = self.answer_of_affairs(&request);
                let answer = answer
                    .or_else(|| answer_of_fleet(&request, &self.fleet, &self.post, &self.braids));
                answer.unwrap_or_else(|| decide(request, &self.events))
            }
        }
    }

    /// Takes leave of the fleet, once what is to be handed over is; `say` hears what is waited for.
    fn leave(&self, say: &mut dyn FnMut(&str)) -> Answer {
        let behind = affairs::hand_over(&self.fleet, &self.keeping, &mut |waits| {
            let _ = writeln!(io::stderr(), "node: leaves: {waits}");
            say(waits);
        });
        for left in &behind {
            let _ = writeln!(io::stderr(), "warning: left the fleet all the same: {left}");
        }
        self.fleet.leave();
        let name = self.fleet.status().map(|status| status.name);
        name.map_or_else(ending, |name| Answer::Left { name, behind })
    }

    /// Why a machine is as it is: what it says itself, if it can be asked, and what was agreed on about it.
    fn why_member(&self, name: String) -> Answer {
        let members = self.fleet.members().unwrap_or_default();
        let Some(member) = members.into_iter().find(|listed| listed.name == name) else {
            let because = format!(
                "there is no machine named {name:?} in the fleet; `cosmos members` lists them"
            );
            return Answer::Refused { because };
        };
        let (tile, state) = (Tile(member.tile), member.state);
        let own = self.ask(Request::On {
            member: name,
            request: Box::new(Request::Why { name: None }),
        });
        let mut why = match own {
            Answer::Why(why) => *why,
            Answer::Refused { because } => {
                let now = format!("it is {state}, as far as this machine knows; {because}");
                history::Why::of(None, now, Vec::new())
            }
            other => return other,
        };
        why.agreed = affairs::about(&self.fleet, tile);
        Answer::Why(Box::new(why))
    }

    /// Why a program of the fleet is as it is: who holds a replica says what it decided itself, and those who vote why it is there. What is known here by
    /// that name and is not the fleet's stands as it is.
    fn why_shared(&self, name: &str, here: Answer) -> Answer {
        let (_, replica) = reasons::parts(name);
        let here = match here {
            Answer::Why(why) if replica.is_none() => return Answer::Why(why),
            Answer::Why(why) => Ok(why),
            Answer::Refused { because } => Err(because),
            other => return other,
        };
        let (known, here) = match (reasons::ask(&self.fleet, name), here) {
            // Whatever the others say, it is known what was decided here.
            (Err(_) | Ok(None), Ok(why)) => return Answer::Why(why),
            (Err(because), Err(_)) | (Ok(None), Err(because)) => {
                return Answer::Refused { because };
            }
            (Ok(Some(known)), here) => (known, here),
        };
        let own = self.fleet.status();
        let own = own.map(|own| (Tile(own.tile), own.name));
        let is_here = |tile: &Tile| own.as_ref().is_some_and(|(own, _)| own == tile);
        let afar = |tile: Tile, name: String| {
            let members = self.fleet.members()?;
            let member = members.into_iter().find(|one| one.tile == tile.0)?.name;
            let request = Box::new(Request::Why { name: Some(name) });
            match self.ask(Request::On { member, request }) {
                Answer::Why(why) => Some(*why),
                _ => None,
            }
        };
        let (here, mut known) = (here.ok().map(|why| *why), known);
        let elsewhere = known.holder.filter(|holder| !is_here(holder));
        let held_here = known.holder.as_ref().is_some_and(is_here);
        let told = elsewhere.and_then(|holder| afar(holder, name.to_owned()));
        // Whoever holds it says how it is, and this machine what it knows of it besides.
        let (told, before) = match (here, held_here) {
            (Some(here), true) => (Some(here), None),
            (here, _) => (told, here),
        };
        if let Some(failing) = &known.failing {
            let of = failing.name.clone();
            let again = match &told {
                Some(told) if replica.is_some() => Some(told.decisions.clone()),
                _ if is_here(&failing.on) => {
                    match why(Some(&of), &self.events, &self.history, &self.heat) {
                        Answer::Why(why) => Some(why.decisions),
                        _ => None,
                    }
                }
                _ => afar(failing.on, of).map(|why| why.decisions),
            };
            known.now += &failing.how_often(&again.unwrap_or_default(), unix_ms());
        }
        let fails = known.failing.is_some();
        let mut why = match told {
            Some(told) if fails => history::Why {
                now: known.now,
                ..told
            },
            Some(told) => told,
            None => history::Why::of(None, known.now, Vec::new()),
        };
        why.earlier = before.and_then(|before| {
            Some(history::Earlier {
                machine: own.as_ref()?.1.clone(),
                now: before.now,
                decisions: before.decisions,
            })
        });
        (why.agreed, why.fleet) = (known.agreed, Some(known.reasons));
        Answer::Why(Box::new(why))
    }

    /// What the fleet has agreed on or is to agree on.
    fn answer_of_affairs(&self, request: &Request) -> Option<Answer> {
        let (fleet, here) = (&self.fleet, |name: &str| self.journal(name).is_some());
        match request {
            Request::Give {
                name,
                program,
                restart,
                replicas,
            } => Some(affairs::give(
                fleet,
                name.clone(),
                program.clone(),
                *restart,
                *replicas,
            )),
            Request::Affairs => Some(affairs::all(fleet)),
            Request::Drain { member, undo } => Some(affairs::drain(fleet, member.clone(), *undo)),
            // What is not known here may be the fleet's.
            Request::Stop { name } if !here(name) && affairs::any(fleet) => {
                affairs::stop(fleet, name)
            }
            Request::Remove { name } if !here(name) && affairs::any(fleet) => {
                affairs::forget(fleet, name)
            }
            Request::Expel { member } => Some(affairs::expel(fleet, member)),
            Request::StopShared { name } => {
                Some(affairs::stop(fleet, name).unwrap_or_else(|| affairs::unknown(name)))
            }
            Request::RemoveShared { name } => {
                Some(affairs::forget(fleet, name).unwrap_or_else(|| affairs::unknown(name)))
            }
            _ => None,
        }
    }

    pub(crate) const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// What a program said, if it is known.
    pub(crate) fn journal(&self, name: &str) -> Option<Arc<Journal>> {
        journal_of(&self.journals, name)
    }
}

impl front::Shown for Handle {
    fn ask(&self, request: Request) -> Answer {
        self.ask(request)
    }

    fn knows(&self, program: &str) -> bool {
        self.journal(program).is_some()
    }

    fn journal(&self, program: &str) -> Option<Arc<Journal>> {
        self.journal(program)
    }

    fn news(&self) -> &News {
        &self.news
    }
}

struct Known {
    id: Id,
    record: Record,
    /// Of what runs for the fleet.
    held: Option<Held>,
    process: Option<Process>,
    /// Who waits for its end.
    waiting: Vec<Arc<Waiting>>,
    /// The last decision about it.
    decided: Option<u64>,
    /// And why it was asked to end, while it has not.
    stopped: Option<Reason>,
}

/// Who is told, and what, when the last of those has ended that share this.
struct Waiting {
    answer: SyncSender<Answer>,
    done: Answer,
}

/// What takes effect once it is written, and who is told then.
struct Staged {
    wish: Wish,
    answer: SyncSender<Answer>,
    /// What is told.
    done: Answer,
}

/// A group that has members.
struct Grouped {
    id: GroupId,
    terms: Group,
    members: usize,
}

/// The lease something runs under.
struct Held {
    lease: Lease,
    tenancy: Tenancy,
    grip: Grip,
    /// Whether the council waits to hear what becomes of it.
    awaited: bool,
    /// Whether it was asked to end by the council, or by a node that ends.
    finishing: bool,
    /// What became of the lease, when the council said that it is over.
    lapsed: Option<&'static str>,
    /// What is to begin under its name once it is over.
    next: Option<Box<Begin>>,
    /// Which of its starts is waited for to be well.
    awaits: Arc<AtomicU64>,
}

struct Process {
    pid: Pid,
    since_unix_ms: u64,
    /// Removed with this.
    group: Option<cgroup::Group>,
}

struct Node {
    data: PathBuf,
    store: Store,
    /// What was found to be wrong with it at the start.
    damaged: Vec<String>,
    supervision: Supervision,
    known: BTreeMap<String, Known>,
    names: BTreeMap<Id, String>,
    next_id: Id,
    groups: BTreeMap<String, Grouped>,
    /// Wishes to be written with what is owed.
    staged: Vec<Staged>,
    staged_bytes: usize,
    /// Answers that are true once it is written.
    answers: Vec<(SyncSender<Answer>, Answer)>,
    /// By when what is owed is to be written.
    owed_by: Option<Instant>,
    journals: Journals,
    history: History,
    /// The decision that all of this goes on, or ends.
    turned: Option<u64>,
    /// Whether the host is as the stem knows it.
    watch: Option<Watch>,
    /// A warden for the next capsule, if there was one before.
    spare: Option<Spare>,
    /// When it is to be made.
    spare_due: Option<Instant>,
    /// How many were made.
    spares: u64,
    /// From which wardens are forked, by the deciding thread.
    stem: Stem,
    /// What programs read.
    nothing: OwnedFd,
    host: Option<Hierarchy>,
    limits: Limited,
    fleet: Fleet,
    /// What capsules that are held become.
    keeping: Keeping,
    events: SyncSender<Event>,
    began: std::time::Instant,
    drained: bool,
    news: Arc<News>,
    dashboard: Option<SocketAddr>,
    heat: Heat,
    /// The processor's frequency, if it is ours to set.
    frequencies: Option<Frequencies>,
    /// What programs together are given of the processor's time, at whatever frequency.
    time: f64,
    /// Who deals it out where the kernel does not.
    duty: Duty,
    /// Who has which GPU.
    gpus: Gpus,
    _lock: File,
}

impl Drop for Node {
    fn drop(&mut self) {
        // Nothing of what was set outlives the node.
        self.heat.finish();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real node lives by the host's clock"
)]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

/// Runs the node of a directory, as a member of the fleet that is wished for, until a signal ends it and every
/// program has ended. `ready` is called once it listens, with the number of programs that it resumes, where its
/// dashboard is, and how it is in its fleet. To be called from the main thread.
///
/// # Errors
/// If it cannot start. Nothing runs then.
pub fn up(
    data: &Path,
    dashboard: Asked,
    wishes: fleet::Wishes,
    ready: impl FnOnce(usize, Option<SocketAddr>, &FleetStatus),
) -> Result<(), NodeError> {
    let at = |what: &'static str, path: &Path| {
        let path = path.display().to_string();
        move |source| NodeError::Directory { what, path, source }
    };
    take_over(data)?;
    let lock = lock(data)?;
    let logs = data.join("logs");
    make_private(&logs).map_err(at("making", &logs))?;
    let states = data.join("state");
    make_private(&states).map_err(at("making", &states))?;
    let (store, damaged) = Store::open(data)?;
    let mut damaged: Vec<_> = damaged.iter().map(ToString::to_string).collect();
    let logged = fs::read_dir(&logs).map_err(at("listing", &logs))?.count();
    if store.programs().is_empty() && logged > 0 && damaged.is_empty() {
        damaged.push(format!(
            "found {logged} logs of programs in {} and no record of any program: what was known of them is gone",
            logs.display()
        ));
    }
    let (history, unreadable) =
        History::open(data).map_err(at("opening", &data.join(history::FILE)))?;
    damaged.extend(unreadable);
    for damage in &damaged {
        eprintln!("warning: {damage}");
    }
    let kept = data.join("fleet.redb");
    let archive = patiently(
        || fleet::archive::Archive::open(&kept),
        |error| error.is_held(),
    );
    let make = wishes.make.clone();
    let fleet = fleet::start(data, archive.map_err(FleetError::from)?, wishes)?;
    // What was held in an earlier life is over.
    let said = lease::said(data);
    let _ = fs::remove_dir_all(&said);
    make_private(&said).map_err(at("making", &said))?;
    lease::bound_ledger(data);
    let mut ending = vec![libc::SIGINT, libc::SIGTERM];
    // A terminal that is closed ends a node as Ctrl-C does, unless whoever started it said that it should not (`nohup`).
    if !is_ignored(libc::SIGHUP) {
        ending.push(libc::SIGHUP);
    }
    let mut signals = Signals::new(ending)?;
    let (events, queue) = sync_channel(EVENTS_MAX);
    let host = Hierarchy::of_this_host().map(Hierarchy::together);
    let watch = Watch::begin();
    let mut node = Node {
        data: data.to_owned(),
        limits: limits(host.as_ref()),
        store,
        damaged,
        supervision: Supervision::default(),
        known: BTreeMap::new(),
        names: BTreeMap::new(),
        next_id: 0,
        groups: BTreeMap::new(),
        staged: Vec::new(),
        staged_bytes: 0,
        answers: Vec::new(),
        owed_by: None,
        journals: Journals::default(),
        history: history.clone(),
        turned: None,
        spare: None,
        spare_due: None,
        spares: 0,
        stem: Stem::start(watch.as_ref().map(|_| data))?,
        watch,
        nothing: File::open("/dev/null")?.into(),
        host,
        fleet: fleet.clone(),
        keeping: Keeping::open(fleet.clone(), data)?,
        events: events.clone(),
        began: clock(),
        drained: false,
        news: Arc::default(),
        dashboard: None,
        gpus: Gpus::of(&make.devices),
        frequencies: None,
        time: 1.0,
        duty: Duty::default(),
        heat: Heat::of(make),
        _lock: lock,
    };
    node.take_actuators();
    let wanted = node.remember()?;
    let (ordered, damaged) = fleet.sit(data, room(node.gpus.there()))?;
    for damage in &damaged {
        eprintln!("warning: {damage}");
        node.damaged.push(damage.to_string());
    }
    let ordering = events.clone();
    thread::Builder::new()
        .name("orders".into())
        .spawn(move || {
            for order in ordered {
                if ordering.send(Event::Ordered(order)).is_err() {
                    return;
                }
            }
        })?;
    let mut door = control::Door::open(data).map_err(at("listening in", data))?;
    let signalled = events.clone();
    thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for _ in signals.forever() {
                if signalled.send(Event::Signalled).is_err() {
                    return;
                }
            }
        })?;
    watch_heat(
        &node.heat,
        data,
        fleet.clone(),
        events.clone(),
        history.clone(),
    )?;
    let asked = events.clone();
    let (told, hot) = (history.clone(), node.heat.clone());
    let said = Arc::clone(&node.journals);
    let post = Post::open(fleet.clone(), post::PROTOCOL, move |letter| {
        answer_afar(&letter, &asked, &told, &hot, &said)
    })?;
    let known = fleet.status().ok_or(FleetError::Ended)?;
    let handle = Handle {
        events,
        journals: Arc::clone(&node.journals),
        news: Arc::clone(&node.news),
        history: history.clone(),
        braids: Braids::open(fleet.clone(), data)?,
        fleet,
        post,
        heat: node.heat.clone(),
        keeping: node.keeping.clone(),
        data: data.into(),
    };
    if dashboard != Asked::Nowhere {
        let opened = front::open(data, dashboard, handle.clone());
        node.dashboard = Some(opened.map_err(NodeError::Front)?);
    }
    thread::Builder::new()
        .name("control".into())
        .spawn(move || {
            let (silent, open) = (Arc::new(Silent::default()), Arc::new(AtomicUsize::new(0)));
            loop {
                let Some(stream) = door.comes() else { continue };
                let Ok(number) = silent.add(&stream) else {
                    continue;
                };
                let (silent, open) = (Arc::clone(&silent), Arc::clone(&open));
                let handle = handle.clone();
                // Who finds no thread finds the connection closed.
                let _ = thread::Builder::new()
                    .name("connection".into())
                    .spawn(move || {
                        let has_spoken = || {
                            silent.remove(number);
                            Place::take(&open)
                        };
                        // Who hangs up needs no explanation.
                        let _ = serve(stream, has_spoken, &handle);
                        silent.remove(number);
                    });
            }
        })?;
    ready(wanted.len(), node.dashboard, &known);
    let begun = Draft::new(Action::Start, Reason::Asked).found(wanted.len() as f64);
    let said = match wanted.len() {
        1 => "the node started; 1 program ran when it ended".to_owned(),
        ran => format!("the node started; {ran} programs ran when it ended"),
    };
    node.turned = Some(node.history.decided(begun, said));
    for id in wanted {
        let terms = node.terms(id);
        node.tell(Input::Run(id, terms));
    }
    // From here on who is started was asked for.
    node.turned = None;
    let ended = node.live(&queue);
    history.settle();
    ended
}

/// What a node has in its directory.
const OURS: [&str; 21] = [
    "annals",
    braided::FOLDER,
    "code",
    "control.sock",
    "council",
    "fleet.redb",
    frequency::BEFORE,
    "held",
    "history.db",
    "history.damaged",
    "history.db-shm",
    "history.db-wal",
    keeping::FOLDER,
    "key",
    lease::LEDGER,
    lease::LEDGER_BEFORE,
    "lock",
    "logs",
    nvml::BEFORE,
    confinement::SCENE_FOLDER,
    "state",
];

/// Makes the directory if need be, and private if that takes nothing from anybody.
fn take_over(data: &Path) -> Result<(), NodeError> {
    let at = |what: &'static str| {
        let path = data.display().to_string();
        move |source| NodeError::Directory { what, path, source }
    };
    make_private(data).map_err(at("making"))?;
    let found = fs::metadata(data).map_err(at("looking at"))?;
    let user = rustix::process::geteuid().as_raw();
    let not_private = |because| NodeError::NotPrivate {
        data: data.display().to_string(),
        because,
        user,
    };
    if found.uid() != user {
        return Err(not_private(format!("it belongs to user {}", found.uid())));
    }
    let mode = found.mode() & 0o777;
    if mode & 0o077 == 0 {
        return Ok(());
    }
    for entry in fs::read_dir(data).map_err(at("listing"))? {
        let name = entry.map_err(at("listing"))?.file_name();
        if !OURS.iter().any(|ours| name == *ours) {
            return Err(not_private(format!(
                "it has mode {mode:04o} and holds {name:?}"
            )));
        }
    }
    fs::set_permissions(data, fs::Permissions::from_mode(0o700)).map_err(at("protecting"))
}

fn lock(data: &Path) -> Result<File, NodeError> {
    let path = data.join("lock");
    let at = |what| {
        let path = path.display().to_string();
        move |source| NodeError::Directory { what, path, source }
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path);
    let mut file = file.map_err(at("opening"))?;
    let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
    let mut holder = None;
    let locked = patiently(
        || rustix::fs::flock(&file, exclusive),
        |_| {
            holder = fs::read_to_string(&path)
                .ok()
                .and_then(|text| text.trim().parse().ok());
            holder.is_none_or(is_ending)
        },
    );
    if locked.is_err() {
        let (data, process) = (data.display().to_string(), holder);
        return Err(NodeError::Taken { data, process });
    }
    let written = file
        .set_len(0)
        .and_then(|()| write!(file, "{}", std::process::id()));
    written.map_err(at("writing"))?;
    Ok(file)
}

/// Whether this process was started to ignore a signal, as far as can be found out.
fn is_ignored(signal: i32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// The process of the node that runs on a directory, if one does.
pub(crate) fn of(data: &Path) -> Option<u32> {
    let file = File::open(data.join("lock")).ok()?;
    let shared = rustix::fs::FlockOperation::NonBlockingLockShared;
    if rustix::fs::flock(&file, shared).is_ok() {
        // Nobody holds it. It is given up with the file.
        return None;
    }
    let text = fs::read_to_string(data.join("lock")).ok()?;
    text.trim().parse().ok()
}

/// Whether a process is gone, or on its way: one that was killed closes its connections before its locks.
fn is_ending(process: u32) -> bool {
    // From include/linux/sched.h; what it means is the same in every version there is.
    const PF_EXITING: u32 = 4;
    let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
        return true;
    };
    // Behind the name, which may hold anything: state first, flags seventh (proc_pid_stat(5), fields 3 and 9).
    let mut fields = stat
        .rsplit_once(')')
        .map_or("", |(_, fields)| fields)
        .split_whitespace();
    let (state, flags) = (fields.next(), fields.nth(5));
    let flags: u32 = flags.and_then(|flags| flags.parse().ok()).unwrap_or(0);
    matches!(state, Some("Z" | "X")) || flags & PF_EXITING != 0
}

/// Tries again while something is held by nobody who lives: a node that was killed while it started a
/// program leaves its files and their locks to a process that is about to execute a warden, and gives
/// them up by that. Milliseconds, on a slow machine more; after five seconds it is something else.
fn patiently<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    mut held_by_nobody: impl FnMut(&E) -> bool,
) -> Result<T, E> {
    const PAUSE: Duration = Duration::from_millis(20);
    for _ in 0..250 {
        match attempt() {
            Err(error) if held_by_nobody(&error) => pause(PAUSE),
            done => return done,
        }
    }
    attempt()
}

#[expect(
    clippy::disallowed_methods,
    reason = "nobody tells when another process executes something else"
)]
fn pause(span: Duration) {
    thread::sleep(span);
}

/// Who keeps limits on this host: found out by trying.
fn limits(host: Option<&Hierarchy>) -> Limited {
    let probed = program::Limits {
        memory: Some(1 << 30),
        cores: Some(1.0),
        ..program::Limits::default()
    };
    let group = host.and_then(|host| host.group("probe", probed));
    let kept = |controller: &str, otherwise: &str| match (&group, host) {
        (Some(group), Some(host)) if group.holds(controller) => format!("cgroup v{}", host.version),
        _ => otherwise.to_owned(),
    };
    Limited {
        memory: kept("memory", "address space of each process (setrlimit)"),
        cores: kept("cpu", "whole cores (affinity)"),
        processes: kept("pids", "nobody"),
    }
}

/// Connections whose request has not come yet, by age.
#[derive(Debug, Default)]
struct Silent(Mutex<(u64, BTreeMap<u64, UnixStream>)>);

impl Silent {
    fn add(&self, stream: &UnixStream) -> io::Result<u64> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, streams) = &mut *held;
        if streams.len() >= SILENT_MAX
            && let Some((_, oldest)) = streams.pop_first()
        {
            // Its thread comes to the end of what it reads.
            let _ = oldest.shutdown(Shutdown::Both);
        }
        streams.insert(*next, stream.try_clone()?);
        *next += 1;
        Ok(*next - 1)
    }

    fn remove(&self, number: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.1.remove(&number);
    }
}

/// One of the connections that may wait for an answer.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Option<Self> {
        let place = Self(Arc::clone(open));
        (open.fetch_add(1, Ordering::Relaxed) < ANSWERED_MAX).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether whoever is on the other side lives among the same processes as the node. A program in its walls does not,
/// and has no business here, by whatever way it came to the socket.
fn is_neighbour(stream: &UnixStream) -> bool {
    let among = |process: &str| fs::read_link(format!("/proc/{process}/ns/pid"));
    let peer = control::process_of_peer(stream);
    match (
        peer.and_then(|peer| among(&peer.to_string())),
        among("self"),
    ) {
        (Ok(theirs), Ok(ours)) => theirs == ours,
        // Where nobody says who is where, the directory's mode must do.
        (_, Err(_)) => true,
        (Err(_), Ok(_)) => false,
    }
}

/// One connection: one request, its answer, and what follows that.
fn serve(
    mut stream: UnixStream,
    has_spoken: impl FnOnce() -> Option<Place>,
    node: &Handle,
) -> Result<(), control::ControlError> {
    stream.set_read_timeout(Some(control::PATIENCE))?;
    stream.set_write_timeout(Some(control::PATIENCE))?;
    let refuse = |mut stream: UnixStream, because: String| {
        control::send(&mut stream, &Answer::Refused { because })
    };
    let request = match control::receive::<Request>(&mut stream) {
        Ok(request) => request,
        Err(error) => return refuse(stream, error.to_string()),
    };
    if !is_neighbour(&stream) {
        let because = "whoever asks lives in another namespace of processes than the node";
        return refuse(stream, because.to_owned());
    }
    let Some(_place) = has_spoken() else {
        let because = format!("{ANSWERED_MAX} others wait for an answer or follow a log already");
        return refuse(stream, because);
    };
    if let Request::Logs { name, follow } = &request {
        if let Some(journal) = node.journal(name) {
            control::send(&mut stream, &Answer::Logs)?;
            return Ok(recital::here(&mut stream, &journal, *follow)?);
        }
        // What is not known here may be the fleet's.
        let found = match affairs::any(&node.fleet) {
            true => Afar::find(node, name),
            false => Err(unknown_name(name)),
        };
        return match found {
            Ok(afar) => {
                control::send(&mut stream, &Answer::Logs)?;
                Ok(afar.tell(&mut stream, *follow)?)
            }
            Err(because) => refuse(stream, because),
        };
    }
    if request == Request::Leave {
        let left = node.leave(&mut |waits| {
            let waits = waits.to_owned();
            // Whoever asked may have gone, and meant it.
            let _ = control::send(&mut stream, &Answer::Leaving { waits });
        });
        return control::send(&mut stream, &left);
    }
    let request = match request {
        Request::On { member, request } => match *request {
            Request::Logs { name, follow } => {
                return recite_afar(&mut stream, node, &member, &name, follow);
            }
            request => Request::On {
                member,
                request: Box::new(request),
            },
        },
        request => request,
    };
    control::send(&mut stream, &node.ask(request))
}

fn kept(name: String, done: Result<(), NotKept>) -> Answer {
    match done {
        Ok(()) => Answer::Done { name },
        Err(because) => Answer::Refused {
            because: because.to_string(),
        },
    }
}

fn journal_of(journals: &Journals, name: &str) -> Option<Arc<Journal>> {
    let journals = journals.read().unwrap_or_else(PoisonError::into_inner);
    journals.get(name).cloned()
}

/// A piece of what a program of this machine said.
fn piece_of(journals: &Journals, name: &str, from: u64) -> Answer {
    let Some(journal) = journal_of(journals, name) else {
        return unknown(name);
    };
    match journal.read(from, control::PIECE_MAX) {
        Ok(piece) => Answer::Piece(control::Piece {
            open: journal.wait(piece.next, Duration::ZERO),
            lost: piece.lost,
            bytes: piece.bytes,
            next: piece.next,
        }),
        Err(error) => Answer::Refused {
            because: format!("reading what {name} said: {error}"),
        },
    }
}

/// Where what a capsule of this node becomes is kept, which is asked for events.
fn state_of(data: &Path, name: &str) -> PathBuf {
    data.join("state").join(name).join("snapshot")
}

/// What the deciding thread answers.
fn decide(request: Request, events: &SyncSender<Event>) -> Answer {
    let (answer, answered) = sync_channel(1);
    if events
        .send(Event::Asked(Box::new(request), answer))
        .is_err()
    {
        return ending();
    }
    // A node that ends drops what it was asked.
    answered.recv().unwrap_or_else(|_| ending())
}

/// Why something is as it is, of all that the deciding thread knows: also of what is over, and listed elsewhere.
fn why(name: Option<&str>, events: &SyncSender<Event>, history: &History, heat: &Heat) -> Answer {
    let name_again = name.map(str::to_owned);
    let known = decide(Request::Why { name: name_again }, events);
    history::why(known, history, heat, name)
}

/// What another node of the fleet asked, and the answer to it.
fn answer_afar(
    letter: &[u8],
    events: &SyncSender<Event>,
    history: &History,
    heat: &Heat,
    journals: &Journals,
) -> Vec<u8> {
    let answer = match serde_json::from_slice(letter) {
        Ok(
            request @ (Request::Run { .. }
            | Request::RunAll { .. }
            | Request::List
            | Request::Stop { .. }
            | Request::Remove { .. }),
        ) => decide(request, events),
        Ok(Request::Why { name }) => why(name.as_deref(), events, history, heat),
        Ok(Request::Piece { name, from }) => piece_of(journals, &name, from),
        Ok(_) => Answer::Refused {
            because: "another node may ask for programs, what they said and reasons only"
                .to_owned(),
        },
        Err(error) => Answer::Refused {
            because: format!("a request that cannot be understood: {error}"),
        },
    };
    serde_json::to_vec(&answer).expect("an answer is plain data")
}

fn ending() -> Answer {
    let because = "the node is ending".to_owned();
    Answer::Refused { because }
}

/// What the member answers, which the deciding thread need not wait for.
fn ping(fleet: &Fleet, member: &str, lasts: Duration, beside_bulk: bool) -> Result<Echoes, String> {
    let members = fleet.members().ok_or("the node is ending")?;
    let member = members.into_iter().find(|listed| listed.name == member);
    let to = match member {
        Some(listed) if listed.here => return Err("that is this machine".to_owned()),
        Some(listed) => Tile(listed.tile),
        None => {
            return Err(
                "there is no such machine in the fleet; `cosmos members` lists them".to_owned(),
            );
        }
    };
    echo::listen(fleet, to, lasts, beside_bulk).map_err(|error| error.to_string())
}

/// The machines, in the one holon that a fleet is.
fn members_of(fleet: &Fleet, members: Vec<fleet::Listed>) -> Answer {
    let Some(status) = fleet.status() else {
        return ending();
    };
    let cell = fleet::Holon {
        name: format!("fleet {}", status.fleet),
        level: "cell".to_owned(),
        parent: None,
        cooling: None,
    };
    Answer::Members {
        members,
        holons: vec![cell],
    }
}

fn answer_of_fleet(
    request: &Request,
    fleet: &Fleet,
    post: &Post,
    braids: &Braids,
) -> Option<Answer> {
    let refused = |because| Answer::Refused { because };
    Some(match request {
        Request::Members => match fleet.members() {
            Some(members) => members_of(fleet, members),
            None => ending(),
        },
        Request::Invite { lasts_s } => match fleet.invite(Duration::from_secs(*lasts_s)) {
            Ok(invitation) => Answer::Invitation {
                line: invitation.to_string(),
            },
            Err(because) => refused(because),
        },
        Request::Ping {
            member,
            lasts_ms,
            beside_bulk,
        } => match ping(
            fleet,
            member,
            Duration::from_millis(*lasts_ms),
            *beside_bulk,
        ) {
            Ok(echoes) => Answer::Echoes(echoes),
            Err(because) => refused(because),
        },
        Request::Braid { on, drill } => match braids.start(on, drill) {
            Ok(progress) => Answer::Braid(Box::new(progress)),
            Err(because) => refused(because),
        },
        Request::BraidProgress { braid } => match id_of(braid).and_then(|id| braids.progress(id)) {
            Some(progress) => Answer::Braid(Box::new(progress)),
            None => refused(format!("no drill {braid} was started here")),
        },
        Request::BraidEnd { braid } => {
            if id_of(braid).is_some_and(|id| braids.end(id)) {
                let name = braid.clone();
                Answer::Done { name }
            } else {
                refused(format!("no drill {braid} was started here"))
            }
        }
        Request::On { member, request } => {
            let letter = serde_json::to_vec(request).expect("a request is plain data");
            // A machine that has just died is held alive for some seconds yet.
            let patience = match **request {
                Request::List | Request::Why { .. } | Request::Piece { .. } => {
                    post::PATIENCE_AT_HAND
                }
                _ => post::PATIENCE,
            };
            match post.ask(member, &letter, patience) {
                Ok(answer) => serde_json::from_slice(&answer).unwrap_or_else(|error| {
                    refused(format!(
                        "what {member} answered cannot be understood: {error}"
                    ))
                }),
                Err(error) => refused(format!("asking {member}: {error}")),
            }
        }
        _ => return None,
    })
}

/// The number of a braid.
fn id_of(braid: &str) -> Option<braided::Id> {
    braided::Id::from_str_radix(braid, 16).ok()
}

/// Tells what a program on another machine said. One that answers no more ends it: it may have been killed, and what it ran is then
/// to be looked for elsewhere.
fn recite_afar(
    stream: &mut UnixStream,
    node: &Handle,
    member: &str,
    name: &str,
    follow: bool,
) -> Result<(), control::ControlError> {
    let ask = |from| {
        node.ask(Request::On {
            member: member.to_owned(),
            request: Box::new(Request::Piece {
                name: name.to_owned(),
                from,
            }),
        })
    };
    let mut answer = ask(0);
    match &answer {
        Answer::Piece(_) => control::send(stream, &Answer::Logs)?,
        other => return control::send(stream, other),
    }
    let mut begun = false;
    loop {
        let piece = match answer {
            Answer::Piece(piece) => piece,
            Answer::Refused { because } => {
                writeln!(stream, "\n[{because}]")?;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if piece.lost > 0 && begun {
            writeln!(stream, "\n[{} bytes are no longer kept]", piece.lost)?;
        }
        begun = true;
        stream.write_all(&piece.bytes)?;
        if piece.bytes.is_empty() {
            if !follow || !piece.open || recital::is_gone(stream)? {
                return Ok(());
            }
            pause(control::PIECE_EVERY);
        }
        answer = ask(piece.next);
    }
}

fn unknown(name: &str) -> Answer {
    Answer::Refused {
        because: unknown_name(name),
    }
}

pub(crate) fn unknown_name(name: &str) -> String {
    format!(
        "there is no program named {name:?} on this node; `cosmos ps` lists those that are, `cosmos ps --fleet` what the fleet runs, and where"
    )
}

impl Node {
    /// What was remembered; of these the programs that should run.
    fn remember(&mut self) -> Result<Vec<Id>, NodeError> {
        let mut wanted = Vec::new();
        for (name, record) in self.store.programs().clone() {
            let resumed = record.fate.wanted;
            let id = self.know(&name, record)?;
            wanted.extend(resumed.then_some(id));
        }
        Ok(wanted)
    }

    fn know(&mut self, name: &str, record: Record) -> Result<Id, NodeError> {
        self.know_in(&self.data.join("logs"), name, record, None)
    }

    /// As somebody whose words are kept in that folder.
    fn know_in(
        &mut self,
        folder: &Path,
        name: &str,
        record: Record,
        held: Option<Held>,
    ) -> Result<Id, NodeError> {
        let journal = Journal::open(folder, name);
        let journal = journal.map_err(|source| NodeError::Directory {
            what: "opening the log of",
            path: name.to_owned(),
            source,
        })?;
        journal.set_open(record.fate.wanted);
        let mut journals = self
            .journals
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        journals.insert(name.to_owned(), Arc::new(journal));
        let id = self.next_id;
        self.next_id += 1;
        self.names.insert(id, name.to_owned());
        if let Some(group) = &record.group {
            let (next, terms) = (self.next_id, group.terms);
            let grouped = self.groups.entry(group.name.clone());
            let grouped = grouped.or_insert(Grouped {
                id: next,
                terms,
                members: 0,
            });
            grouped.members += 1;
        }
        let known = Known {
            id,
            record,
            held,
            process: None,
            waiting: Vec::new(),
            decided: None,
            stopped: None,
        };
        self.known.insert(name.to_owned(), known);
        Ok(id)
    }

    /// On which terms a program runs, by the clock that supervision is told.
    fn terms(&self, id: Id) -> Terms {
        let record = &self.known[&self.names[&id]].record;
        let group = record.group.as_ref().and_then(|group| {
            let grouped = self.groups.get(&group.name)?;
            Some((grouped.id, grouped.terms))
        });
        let deadline = record.deadline_unix_ms.map(|by| {
            let left = by.saturating_sub(unix_ms());
            self.now() + Nanos::from_millis(left)
        });
        Terms {
            restart: record.restart,
            deadline,
            group,
        }
    }

    fn now(&self) -> Instant {
        let lived = clock().duration_since(self.began).as_nanos();
        Instant(u64::try_from(lived).unwrap_or(u64::MAX))
    }

    fn live(mut self, queue: &Receiver<Event>) -> Result<(), NodeError> {
        while !self.drained {
            let due = self.supervision.deadline().into_iter();
            let due = due.chain(self.owed_by).chain(self.spare_due);
            let event = match due.min() {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => {
                    let left = Duration::from_nanos(due.since(self.now()).0);
                    queue.recv_timeout(left)
                }
            };
            match event {
                Ok(event) => self.happened(event)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            // What came meanwhile shares what follows.
            for event in queue.try_iter().take(EVENTS_MAX) {
                self.happened(event)?;
            }
            let now = self.now();
            if self.supervision.deadline().is_some_and(|due| due <= now) {
                let mut effects = Vec::new();
                self.supervision
                    .wake(now, &mut |effect| effects.push(effect));
                self.obey(effects);
            }
            if self.owed_by.is_none() && self.store.owes() {
                self.owed_by = Some(now + OWED);
            }
            let nobody_waits = self.staged.is_empty() && self.answers.is_empty();
            let later = self.owed_by.is_none_or(|by| now < by);
            if !(nobody_waits && later) || self.drained {
                self.write();
            }
            if self.spare_due.take_if(|due| *due <= now).is_some() {
                self.make_spare();
            }
        }
        // The last word, when nothing runs here any more.
        self.fleet.leave();
        Ok(())
    }

    fn happened(&mut self, event: Event) -> Result<(), NodeError> {
        match event {
            Event::Asked(request, answer) => self.answer(*request, answer),
            Event::Ended(id, code) => {
                self.look_why(id);
                self.tell(Input::Ended(id, code));
            }
            Event::Signalled => {
                let held = self.known.values_mut();
                for held in held.filter_map(|known| known.held.as_mut()) {
                    held.finishing = true;
                }
                if !self.supervision.is_draining() {
                    // It may take as long as the slowest of them, and whoever waits at a terminal is to know for what.
                    let running = self.known.values().filter(|known| known.process.is_some());
                    let whom = match running.count() {
                        0 => String::new(),
                        1 => format!("; 1 program is asked to end, and forced after {GRACE}"),
                        n => format!("; {n} programs are asked to end, and forced after {GRACE}"),
                    };
                    // The terminal may be gone already.
                    let _ = writeln!(io::stderr(), "node: ends{whom}");
                }
                let end = Draft::new(Action::Stop, Reason::Draining);
                let said = "the node was told to end".to_owned();
                self.turned = Some(self.history.decided(end, said));
                self.tell(Input::Drain);
            }
            Event::Clocked(share) => self.clocked(share),
            Event::Ordered(order) => self.ordered(order),
            Event::Well(id, starts) => self.well(id, starts),
            Event::Quiet(id) => {
                if self.names.contains_key(&id) {
                    self.tell(Input::Stop(id));
                }
            }
            Event::TooHot(celsius) => {
                // Programs end with this process, at once.
                let limit = self.heat.make().device.shutdown.as_celsius();
                return Err(NodeError::TooHot { celsius, limit });
            }
        }
        if self.staged_bytes > WRITTEN_MAX {
            self.write();
        }
        Ok(())
    }

    /// Writes what is owed and staged, and then does and answers what depends on it.
    fn write(&mut self) {
        let mut staged = std::mem::take(&mut self.staged);
        self.staged_bytes = 0;
        let wishes = |staged: &[Staged]| -> Vec<Wish> {
            staged.iter().map(|staged| staged.wish.clone()).collect()
        };
        let mut written = self.store.write(&wishes(&staged));
        if written.is_err() && staged.len() > 1 {
            // What is too much together may fit alone.
            let all = std::mem::take(&mut staged);
            for one in all {
                match self.store.write(std::slice::from_ref(&one.wish)) {
                    Ok(()) => staged.push(one),
                    Err(error) => refuse(&one.answer, error.to_string()),
                }
            }
            written = Ok(());
        }
        match written {
            Ok(()) => {
                for one in staged {
                    self.fulfil(one);
                }
            }
            Err(error) => {
                if !self.answers.is_empty() {
                    eprintln!("error: what became of programs cannot be written yet: {error}");
                }
                for one in staged {
                    refuse(&one.answer, error.to_string());
                }
            }
        }
        for (answer, said) in self.answers.drain(..) {
            // Who asked may have gone.
            let _ = answer.send(said);
        }
        // A disk that is full may have room later.
        self.owed_by = self.store.owes().then(|| self.now() + OWED_STILL);
    }

    /// Does what has just been written.
    fn fulfil(&mut self, staged: Staged) {
        match staged.wish {
            Wish::Give(given) => {
                let mut ids = Vec::new();
                for (name, record) in given {
                    match self.know(&name, record) {
                        Ok(id) => ids.push(id),
                        Err(error) => return refuse(&staged.answer, error.to_string()),
                    }
                }
                for id in ids {
                    let terms = self.terms(id);
                    self.tell(Input::Run(id, terms));
                }
            }
            Wish::Forget(name) => self.forgotten(&name),
        }
        self.answers.push((staged.answer, staged.done));
    }

    fn tell(&mut self, input: Input) {
        let mut effects = Vec::new();
        self.supervision
            .handle(self.now(), input, &mut |effect| effects.push(effect));
        self.obey(effects);
    }

    fn obey(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Start(id) => self.start(id),
                Effect::Ask(id) => self.signal(id, Signal::TERM),
                Effect::Force(id) => self.signal(id, Signal::KILL),
                Effect::Became(id, phase, because) => self.became(id, phase, because),
                Effect::Drained => self.drained = true,
            }
        }
    }

    fn signal(&self, id: Id, signal: Signal) {
        if let Some(process) = self
            .known
            .get(&self.names[&id])
            .and_then(|known| known.process.as_ref())
        {
            warden::signal(process.pid, signal);
        }
    }

    /// Takes what can be set, and notes what that is.
    fn take_actuators(&mut self) {
        let part = |what: &str, how, by: String| Part {
            what: what.to_owned(),
            how,
            by,
        };
        let time = match self.limits.deals_time() {
            true => self.limits.cores.clone(),
            false => format!(
                "programs are stopped and go on in turns of {} ms: no control group for cpu",
                duty::PERIOD.as_millis()
            ),
        };
        let taken = Frequencies::take(&self.heat.make().system, &self.data);
        let frequency = match &taken {
            Ok(frequencies) => part("frequency", How::InForce, frequencies.told()),
            Err(why) => part("frequency", How::None, why.clone()),
        };
        self.frequencies = taken.ok();
        let time = part("processor time", How::InForce, time);
        self.heat.set_actuators(vec![time, frequency]);
    }

    /// Gives all programs together their share of the processor: by its frequency as far as that goes, and by time. What one of
    /// them may have at most is never more.
    fn clocked(&mut self, share: f64) {
        self.heat.set_clock(share);
        let frequencies = self.frequencies.as_mut();
        let reached = frequencies.map_or(1.0, |frequencies| frequencies.allow(share));
        let share = (share / reached).min(1.0);
        let lower = share < std::mem::replace(&mut self.time, share);
        let Some(host) = self.host.as_ref().filter(|_| self.limits.deals_time()) else {
            return self.duty.allow(share);
        };
        let all = (share < 1.0).then(|| share * cores());
        if !lower {
            host.deal(all);
        }
        for known in self.known.values() {
            let limit = known.record.program.limits.cores;
            let process = known.process.as_ref();
            if let (Some(_), Some(group)) = (limit, process.and_then(|p| p.group.as_ref())) {
                group.deal(dealt(limit, share));
            }
        }
        if lower {
            host.deal(all);
        }
    }

    fn start(&mut self, id: Id) {
        let name = self.names[&id].clone();
        if let Some(known) = self.known.get_mut(&name) {
            known.record.fate.starts += 1;
        }
        let seen = self.watch.as_mut().is_some_and(Watch::has_seen_a_change);
        let renewed = match seen {
            true => {
                self.watch = Watch::begin();
                self.renew_stem()
            }
            false => Ok(()),
        };
        let spawned = match renewed.and_then(|()| self.spawn(id, &name)) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.renew_stem().and_then(|()| self.spawn(id, &name))
            }
            spawned => spawned,
        };
        let code = match spawned {
            Ok(()) => return,
            Err(error) => {
                let said = format!("error: {name} was not started: {error}\n");
                if let Some(journal) = self.journal(&name) {
                    let _ = journal.write(said.as_bytes());
                }
                125
            }
        };
        // Not at once: whoever obeys is in the midst of effects.
        if let Err(TrySendError::Full(ended)) = self.events.try_send(Event::Ended(id, code)) {
            let events = self.events.clone();
            thread::spawn(move || events.send(ended));
        }
    }

    fn spawn(&mut self, id: Id, name: &str) -> io::Result<()> {
        let journal = self.journal(name).ok_or(io::ErrorKind::NotFound)?;
        let known = self.known.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let program = known.record.program.clone();
        let program = &self.equipped(id, &program)?;
        let known = self.known.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        let mut limits = program.limits;
        // What is none is told so by its warden.
        let kind = program::kind(&program.path).unwrap_or(Kind::Native);
        if kind != Kind::Native {
            // The engine counts a capsule's memory itself; its own is not the capsule's.
            limits.memory = None;
        }
        limits.cores = dealt(limits.cores, self.time);
        let (said, saying) = io::pipe()?;
        let lease = known.held.as_ref().map(|held| (&held.tenancy, &held.grip));
        if let Some(held) = &known.held {
            if !held.grip.holds() {
                return Err(io::Error::other("its lease has ended"));
            }
            lease::bound_ledger(&self.data);
            held.grip.set_well(false);
            await_well(
                held,
                (id, known.record.fate.starts),
                program.health.is_some(),
                self.events.clone(),
            )?;
        }
        let state = match &known.held {
            Some(held) => keeping::handed(&self.data, &held.tenancy),
            None => state_of(&self.data, name),
        };
        // A spare has the groups of who asks for nothing.
        let spare = match kind {
            Kind::Native => None,
            _ if limits.class.is_some() => None,
            _ => self.spare.take(),
        };
        let place = (self.data.clone(), Some(state));
        let streams = [self.nothing.as_fd(), saying.as_fd(), saying.as_fd()];
        let spare = spare.and_then(|spare| {
            let ordered = warden::order(spare, program, lease, place.clone(), streams);
            // It has ended: somebody has killed it, or the stem.
            ordered.ok()
        });
        let (child, group) = match spare {
            Some(ordered) => ordered,
            None => {
                let group = self.host.as_ref().and_then(|host| host.group(name, limits));
                let (stem, told) = (&self.stem, (program, kind));
                let child = warden::fork(stem, told, group.as_ref(), lease, place, streams)?;
                (child, group)
            }
        };
        drop(saying);
        let itself = kind != Kind::Native;
        let warden = child;
        self.duty.add(id, duty::Ward { warden, itself });
        known.process = Some(Process {
            pid: child,
            since_unix_ms: unix_ms(),
            group,
        });
        let events = self.events.clone();
        let reader = thread::Builder::new()
            .name("program".into())
            .stack_size(128 << 10);
        let resting = known.held.as_ref().map(|held| held.tenancy.clone());
        let resting = resting.map(|tenancy| (self.keeping.clone(), tenancy));
        let spawned = reader.spawn(move || {
            let code = attend(child, said, &journal);
            if let Some((keeping, tenancy)) = resting {
                keeping.rest(&tenancy);
            }
            let _ = events.send(Event::Ended(id, code));
        });
        if kind != Kind::Native {
            self.spare_due = Some(self.now() + SPARED);
        }
        spawned.map(drop)
    }

    /// Has a warden wait for the next capsule, if none does.
    fn make_spare(&mut self) {
        if self.spare.is_some() || self.supervision.is_draining() {
            return;
        }
        self.spares += 1;
        // No program has such a name.
        let name = format!("~{}", self.spares);
        let nothing = program::Limits::default();
        let group = self
            .host
            .as_ref()
            .and_then(|host| host.group(&name, nothing));
        // Without one a start takes longer.
        self.spare = Spare::start(&self.stem, group, &self.data).ok();
    }

    /// Somebody has killed the stem, or the host is no longer as it knows it: nothing that it forked goes on unknown, and
    /// nothing that it forked for later is used.
    fn renew_stem(&mut self) -> io::Result<()> {
        self.spare = None;
        self.stem = Stem::start(self.watch.as_ref().map(|_| self.data.as_path()))?;
        let programs = self.known.values();
        let programs = programs.filter_map(|known| Some(known.process.as_ref()?.pid));
        let known: BTreeSet<_> = (programs.chain([self.stem.process()]))
            .map(Pid::as_raw_pid)
            .collect();
        for stray in stem::strays(|child| known.contains(&child.as_raw_pid())) {
            warden::end(stray);
            let wait = || rustix::process::waitpid(Some(stray), WaitOptions::empty());
            rustix::io::retry_on_intr(wait)?;
        }
        Ok(())
    }

    /// How many GPUs are nobody's. What was given and has not been started yet has its own already.
    fn gpus_free(&self) -> usize {
        let known = self.known.values();
        let lives = |known: &&Known| !has_ended(self.supervision.phase(known.id));
        let known = known.filter(lives).map(|known| known.record.program.gpus());
        let staged = self.staged.iter().filter_map(|staged| match &staged.wish {
            Wish::Give(given) => Some(
                given
                    .iter()
                    .map(|(_, record)| record.program.gpus())
                    .sum::<usize>(),
            ),
            Wish::Forget(_) => None,
        });
        self.gpus.there().saturating_sub(known.chain(staged).sum())
    }

    /// The program as it is started, with the GPUs that it asked for.
    fn equipped(&mut self, id: Id, program: &Program) -> io::Result<Program> {
        let Self {
            gpus, supervision, ..
        } = self;
        gpus.keep(|id| !has_ended(supervision.phase(id)));
        let given = gpus.take(id, program.gpus()).map_err(io::Error::other)?;
        let mut program = program.clone();
        program.devices = gpus.devices(&given);
        program.environment.extend(gpu::variables(&given));
        Ok(program)
    }

    /// Of a program that has ended: whether its memory was used up, which its code does not say.
    fn look_why(&mut self, id: Id) {
        let name = self.names[&id].clone();
        let journal = self.journal(&name);
        let Some(known) = self.known.get_mut(&name) else {
            return;
        };
        let group = known
            .process
            .as_ref()
            .and_then(|process| process.group.as_ref());
        let killed = group.is_some_and(|group| group.killed_for_memory() > 0);
        known.record.fate.out_of_memory = killed;
        if let (true, Some(limit), Some(journal)) =
            (killed, known.record.program.limits.memory, journal)
        {
            let said = program::used_up_memory(&name, limit);
            let _ = journal.write(format!("error: {said}\n").as_bytes());
        }
    }

    fn journal(&self, name: &str) -> Option<Arc<Journal>> {
        journal_of(&self.journals, name)
    }

    fn became(&mut self, id: Id, phase: Phase, because: Because) {
        let name = self.names[&id].clone();
        self.decide(id, &name, phase, because);
        self.news.tell(&name, Some(phase));
        let journal = self.journal(&name);
        let known = self
            .known
            .get_mut(&name)
            .expect("whoever is named is known");
        if matches!(phase, Phase::Pausing { .. } | Phase::Ended { .. }) {
            known.process = None;
            self.duty.remove(id);
        }
        let code = match phase {
            Phase::Ended { code } => code,
            // Neither what its lease ended or was asked to end is started again here, nor what cannot be started here.
            Phase::Pausing { code } => match &known.held {
                Some(held) if COULD_NOT.contains(&code) || held.finishing || !held.grip.holds() => {
                    let id = known.id;
                    return self.tell(Input::Stop(id));
                }
                Some(held) => {
                    let fell = Became::Fated(Fate::Fell(code));
                    let fence = Index(held.tenancy.fence);
                    return self.fleet.became(held.lease, fence, fell);
                }
                None => return,
            },
            _ => return,
        };
        known.record.fate.code = code;
        if let Some(held) = &mut known.held {
            let next = held.next.take();
            for waiting in known.waiting.drain(..).filter_map(Arc::into_inner) {
                let _ = waiting.answer.send(waiting.done);
            }
            if let Some(journal) = &journal {
                journal.set_open(false);
            }
            if std::mem::take(&mut held.awaited) {
                let became = match code {
                    Some(code) if !held.finishing && held.grip.holds() => {
                        fate(code, journal.as_deref())
                    }
                    // It was asked to end, or its lease ended it.
                    _ => Became::Over,
                };
                self.fleet
                    .became(held.lease, Index(held.tenancy.fence), became);
            }
            match next {
                Some(begin) => self.begin(*begin),
                None => self.forget_some(),
            }
            return;
        }
        // Who ends in a drain is wanted all the same, if anybody wanted it: a node that starts resumes it.
        if !self.supervision.is_draining() {
            known.record.fate.wanted = false;
        }
        self.store.became(&name, known.record.fate);
        if let Some(journal) = journal {
            journal.set_open(false);
        }
        for waiting in known.waiting.drain(..).filter_map(Arc::into_inner) {
            self.answers.push((waiting.answer, waiting.done));
        }
    }

    /// Of what ran for the fleet and has ended, what the last few said can still be read; the rest is forgotten.
    fn forget_some(&mut self) {
        let ended = self.known.values().filter(|known| self.is_over(known));
        let mut ended: Vec<_> = ended.map(|known| known.id).collect();
        ended.sort_unstable();
        ended.truncate(ended.len().saturating_sub(ENDED_MAX));
        for id in ended {
            let name = self.names[&id].clone();
            self.forgotten(&name);
        }
    }

    /// Whether it ran for the fleet, and does not any more.
    fn is_over(&self, known: &Known) -> bool {
        let held = known.held.as_ref();
        held.is_some_and(|held| !held.awaited) && has_ended(self.supervision.phase(known.id))
    }

    /// Records why a program became what it is.
    fn decide(&mut self, id: Id, name: &str, phase: Phase, because: Because) {
        let other = match because {
            Because::Fell(other) | Because::TooOften(other) if other != id => {
                self.names.get(&other)
            }
            _ => None,
        };
        let known = &self.known[name];
        let due = self.supervision.due(id);
        let lapsed = known.held.as_ref().and_then(|held| match phase {
            Phase::Running | Phase::Waiting => None,
            // Its warden may have ended it before the council said so.
            _ => (held.lapsed).or_else(|| (!held.grip.holds()).then_some("run out")),
        });
        let change = Change {
            shared: known.held.is_some(),
            lapsed,
            phase,
            because,
            record: &known.record,
            stopped: known.stopped,
            other: other.map(|other| {
                let decided = self.known.get(other).and_then(|other| other.decided);
                (other.as_str(), decided)
            }),
            own: known.decided,
            turned: self.turned,
            pause: due.map(|due| due.since(self.now()).as_secs_f64()),
            clock: self.heat.clock(),
        };
        let (draft, said) = change.decision();
        let reason = draft.reason;
        let number = self.history.decided(draft.about(name), said);
        let known = self.known.get_mut(name).expect("it was there just now");
        known.decided = Some(number);
        known.stopped = match phase {
            Phase::Stopping => Some(reason),
            _ => None,
        };
        known.record.fate.late |= because == Because::Late;
    }

    fn answer(&mut self, request: Request, answer: SyncSender<Answer>) {
        let answered = match request {
            Request::Run {
                name,
                program,
                restart,
            } => {
                let wanted = Wanted {
                    name,
                    program,
                    restart,
                    group: None,
                    deadline_unix_ms: None,
                };
                match self.check(vec![wanted]) {
                    Ok(given) => {
                        let name = given[0].0.clone();
                        return self.stage(Wish::Give(given), answer, Answer::Done { name });
                    }
                    Err(because) => Answer::Refused { because },
                }
            }
            Request::RunAll { programs } => match self.check(programs) {
                Ok(given) => {
                    let names = given.iter().map(|(name, _)| name.clone()).collect();
                    return self.stage(Wish::Give(given), answer, Answer::Given { names });
                }
                Err(because) => Answer::Refused { because },
            },
            Request::List => Answer::List {
                // What ran here for the fleet is listed where it runs now.
                programs: self.list(|node, known| !node.is_over(known)),
            },
            // The reasons are not in this thread.
            Request::Why { .. } => Answer::List {
                programs: self.list(|_, _| true),
            },
            Request::Status => {
                let status = self.status().map(Box::new);
                status.map_or_else(ending, Answer::Status)
            }
            Request::Stop { name } => match self.known.get_mut(&name) {
                None => unknown(&name),
                Some(Known {
                    held: Some(held), ..
                }) if held.awaited => Answer::Refused {
                    because: format!(
                        "{name} runs for the fleet; `cosmos stop {}` ends all of it",
                        held.tenancy.program
                    ),
                },
                Some(known) => {
                    let id = known.id;
                    if !has_ended(self.supervision.phase(id)) {
                        // From here on a node that starts would not resume it, whatever happens.
                        known.record.fate.wanted = false;
                        // Who wants an end gets it, also where it cannot be written down.
                        self.store.became(&name, known.record.fate);
                        let done = Answer::Done { name };
                        known.waiting.push(Arc::new(Waiting { answer, done }));
                        self.tell(Input::Stop(id));
                        return;
                    }
                    Answer::Done { name }
                }
            },
            Request::Wait { name } => match self.known.get_mut(&name) {
                None => unknown(&name),
                Some(known) if has_ended(self.supervision.phase(known.id)) => Answer::Done { name },
                Some(known) => {
                    let done = Answer::Done { name };
                    return known.waiting.push(Arc::new(Waiting { answer, done }));
                }
            },
            Request::WaitAll { names } => {
                if let Some(name) = names.iter().find(|name| !self.known.contains_key(*name)) {
                    let _ = answer.send(unknown(name));
                    return;
                }
                let done = Answer::Given {
                    names: names.clone(),
                };
                let waiting = Arc::new(Waiting { answer, done });
                for name in names {
                    if let Some(known) = self.known.get_mut(&name)
                        && !has_ended(self.supervision.phase(known.id))
                    {
                        known.waiting.push(Arc::clone(&waiting));
                    }
                }
                // All of them have.
                if let Some(Waiting { answer, done }) = Arc::into_inner(waiting) {
                    self.answers.push((answer, done));
                }
                return;
            }
            Request::Remove { name } => match self.may_be_forgotten(&name) {
                Ok(()) => {
                    let wish = Wish::Forget(name.clone());
                    return self.stage(wish, answer, Answer::Done { name });
                }
                Err(because) => Answer::Refused { because },
            },
            Request::Outside { celsius } => self.outside(celsius),
            Request::Inside { name } => self.inside(&name),
            // Answered where the connection is: the one takes as long as the reader likes, others need not keep
            // this thread, and the rest is the member's affair.
            Request::Logs { .. } => Answer::Logs,
            Request::Load
            | Request::Services
            | Request::WhyShared { .. }
            | Request::Piece { .. }
            | Request::WhyMember { .. }
            | Request::Members
            | Request::Invite { .. }
            | Request::Leave
            | Request::On { .. }
            | Request::Recover { .. }
            | Request::Keep { .. }
            | Request::Give { .. }
            | Request::Affairs
            | Request::Expel { .. }
            | Request::StopShared { .. }
            | Request::RemoveShared { .. }
            | Request::Ping { .. }
            | Request::Braid { .. }
            | Request::BraidProgress { .. }
            | Request::BraidEnd { .. }
            | Request::Drain { .. } => ending(),
        };
        if self.store.owes() && self.store.owed() == 0 {
            // What became of programs is told once it is written.
            return self.answers.push((answer, answered));
        }
        // Who asked may have gone.
        let _ = answer.send(answered);
    }

    fn stage(&mut self, wish: Wish, answer: SyncSender<Answer>, done: Answer) {
        if let Wish::Give(given) = &wish {
            let sizes = given.iter().map(|(_, record)| record.program.length());
            self.staged_bytes += sizes.sum::<usize>();
        }
        self.staged.push(Staged { wish, answer, done });
    }

    /// The programs that are wanted with their names, if all of them can be had.
    fn check(&self, wanted: Vec<Wanted>) -> Result<Vec<(String, Record)>, String> {
        if self.supervision.is_draining() {
            return Err("the node is ending".to_owned());
        }
        // Whoever asked just before has not been answered yet, and has its names all the same.
        let staged = self.staged.iter().filter_map(|staged| match &staged.wish {
            Wish::Give(given) => Some(given.iter().map(|(name, _)| name.clone())),
            Wish::Forget(_) => None,
        });
        let mut taken: BTreeSet<String> = staged.flatten().collect();
        let mut groups: BTreeMap<String, Group> = BTreeMap::new();
        let mut kinds: BTreeMap<PathBuf, Kind> = BTreeMap::new();
        let mut numbers = BTreeMap::new();
        let mut given = Vec::with_capacity(wanted.len());
        let (mut gpus, free) = (0, self.gpus_free());
        for wanted in wanted {
            let Wanted {
                name,
                program,
                restart,
                group,
                deadline_unix_ms,
            } = wanted;
            let name = name.unwrap_or_else(|| self.free_name(&program.path, &taken, &mut numbers));
            if !is_name(&name) {
                return Err(format!(
                    "the name {name:?}: expected at most 64 letters, digits, '.', '_' and '-', the first a letter or digit"
                ));
            }
            if self.known.contains_key(&name) || taken.contains(&name) {
                return Err(format!(
                    "there is a program named {name:?} already; `cosmos rm {name}` forgets it"
                ));
            }
            let kind = match kinds.get(&program.path) {
                Some(kind) => *kind,
                None => {
                    let kind = program::kind(&program.path).map_err(|error| error.to_string())?;
                    kinds.insert(program.path.clone(), kind);
                    kind
                }
            };
            program.check(kind)?;
            gpus += program.gpus();
            if gpus > free {
                let wanted = program.gpus();
                let left = (free + wanted).saturating_sub(gpus);
                return Err(format!(
                    "{name}: {}",
                    gpu::lack(self.gpus.there(), left, wanted)
                ));
            }
            if let Some(Membership { name: group, terms }) = &group {
                if !is_name(group) {
                    return Err(format!(
                        "the group {group:?}: expected a name like a program's"
                    ));
                }
                let of_staged = groups.get(group).copied();
                let of_known = self.groups.get(group).map(|grouped| grouped.terms);
                match of_known.or(of_staged) {
                    Some(found) if found != *terms => {
                        return Err(format!(
                            "the group {group} is there already, {}; found {}",
                            spelled(&found),
                            spelled(terms)
                        ));
                    }
                    _ => groups.insert(group.clone(), *terms),
                };
                if terms.strategy == Strategy::AllForOne && restart == Restart::Never {
                    return Err(format!(
                        "{name} is never started again (--restart), so {group} cannot rise with it"
                    ));
                }
            }
            taken.insert(name.clone());
            let record = Record {
                program,
                restart,
                fate: store::Fate::BEGINNING,
                group,
                deadline_unix_ms,
            };
            given.push((name, record));
        }
        Ok(given)
    }

    fn ordered(&mut self, order: Order) {
        let held = |node: &Self, lease: Lease, fence: Index| {
            let known = node.known.values().find(|known| {
                known.held.as_ref().is_some_and(|held| {
                    held.lease == lease && held.tenancy.fence == fence.0 && held.awaited
                })
            })?;
            Some((known.id, node.names[&known.id].clone()))
        };
        if let Order::Finish(lease, fence) | Order::End(lease, fence, _) = &order {
            // What was to begin under it has not yet, and must not.
            for held in self
                .known
                .values_mut()
                .filter_map(|known| known.held.as_mut())
            {
                let waits = |next: &mut Box<Begin>| (next.lease, next.fence) == (*lease, *fence);
                held.next.take_if(waits);
            }
        }
        match order {
            Order::Begin(begin) => self.begin(*begin),
            Order::Finish(lease, fence) => match held(self, lease, fence) {
                Some((id, name)) => self.finish(id, &name),
                None => self.fleet.became(lease, fence, Became::Over),
            },
            Order::End(lease, fence, why) => {
                let Some((id, name)) = held(self, lease, fence) else {
                    return;
                };
                if let Some(journal) = self.journal(&name) {
                    let said = format!("error: {name} was ended: its lease here has {why}\n");
                    let _ = journal.write(said.as_bytes());
                }
                let Some(known) = self.known.get_mut(&name) else {
                    return;
                };
                if let Some(held) = &mut known.held {
                    (held.awaited, held.lapsed) = (false, Some(why));
                }
                let process = known.process.as_ref().map(|process| process.pid);
                self.tell(Input::Stop(id));
                if let Some(process) = process {
                    warden::lapse(process);
                }
            }
        }
    }

    /// Lets what runs for the fleet end: once nobody is served by it any more, if it is reached through ports.
    fn finish(&mut self, id: Id, name: &str) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        let Some(held) = &mut known.held else {
            return;
        };
        held.finishing = true;
        let carried = known.record.program.network == Network::Own
            && !known.record.program.ports.is_empty()
            // A capsule that answers requests shuts its own door.
            && matches!(program::kind(&known.record.program.path), Ok(Kind::Native));
        if let (true, Some(process)) = (carried, &known.process) {
            warden::shut(process.pid);
            if await_quiet(held.grip.clone(), id, self.events.clone()).is_ok() {
                return;
            }
        }
        self.tell(Input::Stop(id));
    }

    /// Runs a replica of a program of the fleet, as if it had been asked for here.
    fn begin(&mut self, begin: Begin) {
        let (lease, fence) = (begin.lease, begin.fence);
        let name = format!("{}~{}", begin.name, lease.replica);
        if let Some(known) = self.known.get_mut(&name) {
            let over = matches!(
                self.supervision.phase(known.id),
                None | Some(Phase::Ended { .. })
            );
            if let (false, Some(held)) = (over, &mut known.held) {
                held.next = Some(Box::new(begin));
                return;
            }
            self.forgotten(&name);
        }
        let unable = |because: String| Became::Fated(Fate::Unable(because));
        if self.supervision.is_draining() {
            return self
                .fleet
                .became(lease, fence, unable("the machine is ending".to_owned()));
        }
        let begun = self.begin_as(&name, begin);
        match begun {
            Ok((id, restart)) => self.tell(Input::Run(id, Terms::alone(restart))),
            Err(because) => self.fleet.became(lease, fence, unable(because)),
        }
    }

    fn begin_as(&mut self, name: &str, begin: Begin) -> Result<(Id, Restart), String> {
        // Another machine has checked it, or says so; files are named by it.
        if !is_name(&begin.name) {
            return Err(format!("{:?} is no name of a program", begin.name));
        }
        let Spec { program, restart } =
            serde_json::from_slice(&begin.spec).map_err(|error| error.to_string())?;
        let kind = program::kind(&program.path).map_err(|error| error.to_string())?;
        program.check(kind)?;
        lease::bound_ledger(&self.data);
        let record = Record {
            program,
            restart,
            fate: store::Fate::BEGINNING,
            group: None,
            deadline_unix_ms: None,
        };
        let held = Held {
            lease: begin.lease,
            tenancy: Tenancy {
                program: begin.name,
                number: begin.lease.program,
                replica: begin.lease.replica,
                fence: begin.fence.0,
            },
            grip: begin.grip,
            awaited: true,
            finishing: false,
            lapsed: None,
            next: None,
            awaits: Arc::default(),
        };
        let folder = lease::said(&self.data);
        let id = self
            .know_in(&folder, name, record, Some(held))
            .map_err(|error| error.to_string())?;
        Ok((id, restart))
    }

    fn well(&mut self, id: Id, starts: u64) {
        let known = self.names.get(&id).and_then(|name| self.known.get(name));
        let Some(known) = known.filter(|known| known.record.fate.starts == starts) else {
            return;
        };
        if let (Some(held), Some(Phase::Running)) = (&known.held, self.supervision.phase(id)) {
            let up = Became::Fated(Fate::Up);
            self.fleet.became(held.lease, Index(held.tenancy.fence), up);
        }
    }

    fn outside(&self, celsius: f64) -> Answer {
        let refused = |because: &str| Answer::Refused {
            because: because.to_owned(),
        };
        let source = self.heat.latest().map(|reading| reading.temperature.source);
        if source == Some(Source::Measured) {
            return refused(
                "this machine's temperature is measured; only a modelled one can be told what it is like outside",
            );
        }
        if !(-100.0..=200.0).contains(&celsius) {
            return refused("expected a temperature from -100 to 200 °C");
        }
        self.heat.set_outside(wire::Kelvin::from_celsius(celsius));
        Answer::Done {
            name: format!("{celsius} °C"),
        }
    }

    /// A name that nobody has; `numbers` says from where on to look.
    fn free_name(
        &self,
        path: &Path,
        taken: &BTreeSet<String>,
        numbers: &mut BTreeMap<String, u64>,
    ) -> String {
        let stem = program::stem(path, 48);
        let number = numbers.entry(stem.clone()).or_insert(0);
        loop {
            *number += 1;
            let name = format!("{stem}-{number}");
            if !self.known.contains_key(&name) && !taken.contains(&name) {
                return name;
            }
        }
    }

    fn list(&self, which: impl Fn(&Self, &Known) -> bool) -> Vec<Listed> {
        let listed = self.known.iter().filter(|(_, known)| which(self, known));
        let listed = listed.map(|(name, known)| Listed {
            name: name.clone(),
            program: known.record.program.path.display().to_string(),
            arguments: known.record.program.arguments.clone(),
            restart: known.record.restart,
            phase: self.supervision.phase(known.id).unwrap_or(Phase::Ended {
                code: known.record.fate.code,
            }),
            process: known
                .process
                .as_ref()
                .and_then(|process| process.pid.as_raw_pid().try_into().ok()),
            since_unix_ms: known.process.as_ref().map(|process| process.since_unix_ms),
            starts: known.record.fate.starts,
            out_of_memory: known.record.fate.out_of_memory,
            late: known.record.fate.late,
            group: known.record.group.clone(),
            shared: known.held.is_some(),
        });
        listed.collect()
    }

    fn status(&self) -> Option<Status> {
        Some(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            seconds: self.now().since(Instant(0)).as_secs_f64(),
            running: self
                .known
                .values()
                .filter(|known| known.process.is_some())
                .count(),
            known: (self.known.values())
                .filter(|known| !self.is_over(known))
                .count(),
            cores: thread::available_parallelism().map_or(1, usize::from),
            ending: self.supervision.is_draining(),
            dashboard: self.dashboard,
            limits: self.limits.clone(),
            changes: self.store.seal().to_string(),
            unwritten: self.store.owed(),
            damaged: (self.damaged.iter().cloned())
                .chain(self.keeping.gone())
                .collect(),
            heat: self.heat.latest(),
            atmosphere: self.heat.atmosphere(),
            fleet: self.fleet.status()?,
            machine: self.heat.make().told(),
            gpus: self.gpus.there(),
            gpus_free: self.gpus_free(),
            rehearsal: None,
        })
    }

    fn inside(&self, name: &str) -> Answer {
        let Some(known) = self.known.get(name) else {
            return unknown(name);
        };
        match &known.process {
            Some(process) => Answer::Inside(Box::new(warden::Host {
                program: known.record.program.clone(),
                process: process.pid.as_raw_pid(),
                doors: process
                    .group
                    .as_ref()
                    .map(cgroup::Group::doors)
                    .unwrap_or_default(),
            })),
            None => Answer::Refused {
                because: format!("{name} does not run; `cosmos ps` says how it is"),
            },
        }
    }

    fn may_be_forgotten(&self, name: &str) -> Result<(), String> {
        let Some(known) = self.known.get(name) else {
            return Err(unknown_name(name));
        };
        let phase = self.supervision.phase(known.id);
        match has_ended(phase) {
            true => Ok(()),
            false => Err(format!(
                "{name} has not ended; `cosmos stop {name}` ends it"
            )),
        }
    }

    fn forgotten(&mut self, name: &str) {
        // Two may have asked for it at once.
        let Some(known) = self.known.remove(name) else {
            return;
        };
        self.supervision.forget(known.id);
        self.names.remove(&known.id);
        if known.held.is_none() {
            // With what it had become, if it was such a capsule; most were not.
            if let Some(folder) = state_of(&self.data, name).parent() {
                let _ = fs::remove_dir_all(folder);
            }
        }
        if let Some(group) = known.record.group
            && let Some(grouped) = self.groups.get_mut(&group.name)
        {
            grouped.members -= 1;
            if grouped.members == 0 {
                self.groups.remove(&group.name);
            }
        }
        self.news.tell(name, None);
        let mut journals = self
            .journals
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(journal) = journals.remove(name) {
            // Its program is forgotten either way.
            let _ = journal.remove();
        }
    }
}

/// Of a program that was not started since the node was, there is no phase: it had ended before.
fn has_ended(phase: Option<Phase>) -> bool {
    matches!(phase, None | Some(Phase::Ended { .. }))
}

fn refuse(answer: &SyncSender<Answer>, because: String) {
    // Who asked may have gone.
    let _ = answer.send(Answer::Refused { because });
}

fn spelled(terms: &Group) -> String {
    let strategy = match terms.strategy {
        Strategy::OneForOne => "one-for-one",
        Strategy::AllForOne => "all-for-one",
    };
    let Intensity {
        restarts,
        within_ms,
    } = terms.intensity;
    let within = Nanos::from_millis(within_ms);
    let at_once = match terms.at_once {
        Some(most) => format!(", {most} at a time"),
        None => String::new(),
    };
    format!("{strategy}, at most {restarts} restarts in {within}{at_once}")
}

/// The exit codes that say that a program could not be started: cosmos failed, it cannot be executed, it is not there.
const COULD_NOT: std::ops::RangeInclusive<u8> = 125..=127;

/// What the council is told of a program that ended by itself.
fn fate(code: u8, said: Option<&Journal>) -> Became {
    if !COULD_NOT.contains(&code) {
        return Became::Fated(Fate::Ended(code));
    }
    let said = said.and_then(|journal| journal.read(0, 64 << 10).ok());
    let said = said.map(|piece| String::from_utf8_lossy(&piece.bytes).into_owned());
    let last = said.as_deref().and_then(|said| said.lines().next_back());
    let last = last.map_or_else(|| format!("it ended with {code}"), str::to_owned);

    Became::Fated(Fate::Unable(last))
}

/// Says when what was begun under a lease is well: once its health was asked for and found, or, where nothing is asked, once it has
/// run for a second. Gives up with the lease, and with the next start.
fn await_well(
    held: &Held,
    (id, starts): (Id, u64),
    is_asked: bool,
    events: SyncSender<Event>,
) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(100);
    let thread = thread::Builder::new()
        .name("well".into())
        .stack_size(64 << 10);
    held.awaits.store(starts, Ordering::Relaxed);
    let (grip, awaits) = (held.grip.clone(), Arc::clone(&held.awaits));
    let waiting = thread.spawn(move || {
        let begun = lease::boottime();
        while grip.holds() && awaits.load(Ordering::Relaxed) == starts {
            pause(PAUSE);
            let settled = lease::boottime().saturating_sub(begun) >= 1_000_000_000;
            if grip.is_well() || !is_asked && settled {
                let _ = events.send(Event::Well(id, starts));
                return;
            }
        }
    });
    waiting.map(drop)
}

/// Says when what is handed over serves nobody any more, at the latest after [`LEAVING`].
fn await_quiet(grip: Grip, id: Id, events: SyncSender<Event>) -> io::Result<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let thread = thread::Builder::new()
        .name("quiet".into())
        .stack_size(64 << 10);
    let waiting = thread.spawn(move || {
        let begun = lease::boottime();
        let patience = u64::try_from(LEAVING.as_nanos()).unwrap_or(u64::MAX);
        while !grip.is_quiet() && lease::boottime().saturating_sub(begun) < patience {
            pause(PAUSE);
        }
        let _ = events.send(Event::Quiet(id));
    });
    waiting.map(drop)
}

/// What this machine has for programs of the fleet.
fn room(gpus: usize) -> Room {
    Room {
        cpu_milli: (cores() * 1_000.0) as u64,
        memory: load::memory().total_bytes,
        gpus: gpus as u64,
    }
}

/// Tells the guard every temperature, and the deciding thread what the guard made of it.
fn watch_heat(
    heat: &Heat,
    data: &Path,
    fleet: Fleet,
    events: SyncSender<Event>,
    history: History,
) -> io::Result<()> {
    let mut share = 1.0;
    let (read, told) = (heat.clone(), history.clone());
    let of_gpus = move |decided: Decided| {
        let draft = Draft::new(decided.action, decided.reason);
        let draft = draft.found(decided.found).against(decided.bound);
        told.decided(draft, decided.said);
    };
    let sense = move |temperature: wire::Kelvin| {
        // What sensors that fell silent said before is not how the machine is.
        let reading = read.latest_and_age().filter(|(_, age)| *age < heat::EVERY);
        let Some(guarded) = fleet.sense(temperature, reading.map(|(reading, _)| reading)) else {
            return false;
        };
        if let Some((action, reason, found, bound)) = guarded.decided {
            let [found, bound] = [found, bound].map(|kelvin| wire::Kelvin(kelvin).as_celsius());
            let draft = Draft::new(action, reason).found(found).against(bound);
            let said = match action {
                Action::Darken => {
                    format!("the machine goes dark: found {found:.1} °C, it may have {bound:.1} °C")
                }
                Action::Release => format!(
                    "programs get the whole processor again: found {found:.1} °C, slowed from {bound:.1} °C on"
                ),
                _ => format!(
                    "programs are slowed: found {found:.1} °C, slowed from {bound:.1} °C on"
                ),
            };
            history.decided(draft, said);
        }
        if guarded.dark {
            let _ = events.send(Event::TooHot(temperature.as_celsius()));
            return false;
        }
        guarded.clock == std::mem::replace(&mut share, guarded.clock)
            || events.send(Event::Clocked(guarded.clock)).is_ok()
    };
    heat.watch(data, sense, of_gpus)
}

/// How many cores a program that is limited may use while all together are given this share of the processor.
fn dealt(limit: Option<f64>, share: f64) -> Option<f64> {
    limit.map(|limit| limit.min(share * cores()))
}

/// How many cores this machine has for programs.
fn cores() -> f64 {
    thread::available_parallelism().map_or(1, usize::from) as f64
}

/// Reads what a program says until nobody can say more, then waits for its end.
fn attend(child: Pid, mut said: io::PipeReader, journal: &Journal) -> u8 {
    let mut piece = vec![0; 16 << 10];
    loop {
        match said.read(&mut piece) {
            Ok(0) => break,
            // A full disk costs the log its words, and the program nothing.
            Ok(length) => drop(journal.write(&piece[..length])),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    loop {
        match rustix::process::waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) => {
                let signalled = status.terminating_signal().map(|signal| 128 + signal);
                let code = status.exit_status().or(signalled);
                return code.map_or(125, |code| code.to_le_bytes()[0]);
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return 125,
        }
    }
}

/// Names become names of files.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    begins && name.len() <= 64 && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_killed_holds_nothing_for_long() {
        assert!(!is_ending(std::process::id()));
        let mut child = std::process::Command::new("sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        assert!(!is_ending(child.id()));
        child.kill().unwrap();
        // Nobody has waited for it: it is there, and nothing of it.
        let dies = patiently(|| is_ending(child.id()).then_some(()).ok_or(()), |()| true);
        assert!(dies.is_ok() && Path::new(&format!("/proc/{}", child.id())).exists());
        child.wait().unwrap();
        assert!(is_ending(child.id()));
    }
}
