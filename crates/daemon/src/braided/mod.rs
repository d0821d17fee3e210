//! One braid whose tori sit on different machines of a fleet.
//!
//! What tori say to each other is sealed bytes, and whether a thread or a line carries them is nothing to them. So a machine
//! that is asked to gives one torus a thread (`seat`), and its packets travel in the fleet's frames ([`word`]): projections in class A,
//! everything else in class B. When a machine dies, the one that keeps the copy of its torus rebuilds it and lets it
//! sit beside its own; all others hear where it sits now and send there.
//!
//! Where the torus of a strand sits is whatever was said last by whoever sits there, under the highest incarnation: each says so
//! several times a second. Who hears that another sits in its place under a higher one ends.
//!
//! What runs there is a drill ([`runtime::drill`]), whose outcome is known beforehand: the machine that was asked for it
//! stands outside the braid, gives it work and judges ([`course`]). If that machine is gone, the others end the braid after [`DESERTED`]; if it
//! knows nothing of the braid any more, it says so to whoever says where it sits in it, and that is the end of it there.
//!
//! A machine is trusted as far as the fleet trusts it: frames prove who sent them, packets that one of the braid did.
//!
//! Deliberately absent: a bound on how long a message takes, programs other than drills, and a rebuilt torus that moves to a
//! machine which has none. Until the copies are whole again, and as long as two tori sit on one machine, the loss of another is the end of the braid, and it says so.
//!
//! Tour: [`word`] what machines say · `lines` how it gets there · `seat` a torus at work · [`course`] who gives the work.

pub mod course;
mod lines;
mod seat;
pub mod word;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use runtime::{Config, Limits, Strand};
use trust::Key;
use wire::{Nanos, Tile};

use crate::fleet::{Fleet, FleetError, Heard, PROTOCOL_FREE, SEATS};
use course::{Course, Drill, Progress};
use lines::Lines;
use seat::Table;
use word::{Arriving, Terms, Word};

/// The protocol of braids, in a frame; those below are of letters, of the council and of what is kept elsewhere.
pub const PROTOCOL: u8 = PROTOCOL_FREE + 3;
/// Where witnesses are kept, in a node's directory.
pub(crate) const FOLDER: &str = "braids";
/// So many braids has a machine part in at a time.
pub const BRAIDS_MAX: usize = 8;
/// Nobody has given work for so long, or asked how it goes, or nothing was heard of a torus: the braid ends.
pub const DESERTED: Duration = Duration::from_secs(30);
/// So many drills can be asked about that were started here, most of them over.
const COURSES_MAX: usize = 4 * BRAIDS_MAX;
/// Processes of a drill, at most.
pub const PLAYERS_MAX: u32 = 1_000_000;

/// Which braid: drawn by chance, but for the last byte, which is the tile of the machine that gives the work. So nobody else
/// begins a braid under that name, whoever heard it.
pub type Id = u64;

/// Who gives the work of a braid of this name.
const fn conductor(id: Id) -> Tile {
    Tile(id & 0xff)
}

/// Every braid that this machine has part in.
#[derive(Clone, Debug)]
pub struct Braids {
    fleet: Fleet,
    lines: Lines,
    /// Where witnesses are kept.
    folder: PathBuf,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    tables: BTreeMap<Id, Arc<Table>>,
    courses: BTreeMap<Id, Course>,
}

impl Known {
    /// Forgets drills that were over long ago, or are too many.
    fn forget(&mut self) {
        self.courses.retain(|_, course| !course.is_forgotten());
        while self.courses.len() >= COURSES_MAX {
            let over = |(id, course): (&Id, &Course)| course.over_since().map(|since| (since, *id));
            let Some((_, id)) = self.courses.iter().filter_map(over).min() else {
                return;
            };
            self.courses.remove(&id);
        }
    }
}

/// Tori on machines: a death is noticed within one or two seconds, and a hiccup of half of one is none.
fn config(terms: &Terms) -> Config {
    let each = terms.players.clamp(1 << 12, 1 << 24);
    Config {
        limits: Limits {
            processes: each,
            mailbox: 4_096,
            mail: 1 << 22,
            lane: 4_096,
        },
        interval_min: Nanos::from_millis(20),
        interval_max: Nanos::from_millis(50),
        patience: 40,
        ..Config::new(Key::new(terms.key))
    }
}

impl Braids {
    /// Takes part from now on in whatever it is asked to.
    ///
    /// # Errors
    /// If the kernel gives no thread.
    pub fn open(fleet: Fleet, data: &Path) -> Result<Self, FleetError> {
        let heard = fleet.listen(PROTOCOL);
        let members = fleet.members().ok_or(FleetError::Ended)?;
        let here = members.into_iter().find(|member| member.here);
        let here = Tile(here.ok_or(FleetError::Ended)?.tile);
        let (lines, said) = Lines::new(fleet.clone(), here)?;
        let braids = Self {
            lines,
            fleet,
            folder: data.join(FOLDER),
            known: Arc::default(),
        };
        let (sorting, hearing) = (braids.clone(), braids.clone());
        let thread = || thread::Builder::new().name("braids".into());
        thread().spawn(move || sorting.sort(&heard))?;
        thread().spawn(move || {
            for (braid, word) in said {
                hearing.take(here, braid, word);
            }
        })?;
        Ok(braids)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sort(&self, heard: &Receiver<Heard>) {
        let mut arriving = Arriving::default();
        for Heard { from, payload, .. } in heard {
            if let Some((braid, word)) = arriving.take(from, &payload) {
                self.take(from, braid, word);
            }
        }
    }

    fn take(&self, from: Tile, braid: Id, word: Word) {
        match word {
            Word::Sit { terms, strand } => self.sit(from, braid, &terms, strand),
            Word::Here {
                strand,
                incarnation,
            } => {
                let known = self.known();
                let table = known.tables.get(&braid);
                if let Some(table) = table {
                    table.moved(strand, from, incarnation);
                }
                let course = known.courses.get(&braid);
                match course.filter(|course| !course.is_over()) {
                    Some(course) => {
                        course.hear(
                            from,
                            Word::Here {
                                strand,
                                incarnation,
                            },
                        );
                    }
                    None if conductor(braid) == self.lines.here() => {
                        self.lines.say(from, braid, Word::End);
                    }
                    None => {}
                }
            }
            Word::End => {
                let mut known = self.known();
                let table = known.tables.get(&braid);
                if table.is_some_and(|_| conductor(braid) == from) {
                    let table = known.tables.remove(&braid);
                    table.expect("just seen").end();
                }
            }
            word if word.is_for_the_conductor() => {
                if let Some(course) = self.known().courses.get(&braid) {
                    course.hear(from, word);
                }
            }
            word => {
                let table = self.known().tables.get(&braid).cloned();
                if let Some(table) = table {
                    table.hear(from, word);
                }
            }
        }
    }

    fn sit(&self, from: Tile, braid: Id, terms: &Terms, strand: Strand) {
        let here = self.lines.here();
        let mut known = self.known();
        known.tables.retain(|_, table| !table.is_over());
        let is_of_fleet = |tile: &Tile| tile.0 < u64::from(SEATS);
        if conductor(braid) != from
            || terms.hosts[strand as usize] != here
            || !terms.hosts.iter().all(is_of_fleet)
            || terms.players > PLAYERS_MAX
        {
            return;
        }
        if known.tables.len() >= BRAIDS_MAX && !known.tables.contains_key(&braid) {
            return self.lines.say(from, braid, Word::Full { strand });
        }
        let table = known.tables.entry(braid).or_insert_with(|| {
            let table = Table::new(braid, terms, self.lines.clone(), &self.folder);
            Arc::new(table)
        });
        let table = Arc::clone(table);
        drop(known);
        if let Err(error) = Table::begin(&table, strand) {
            eprintln!("warning: braid {braid:016x}: no thread for {strand}: {error}");
        }
    }

    /// Starts a drill on these machines, one torus on each.
    ///
    /// # Errors
    /// Why not, in a sentence; then nothing was started.
    pub fn start(&self, on: &[String], drill: &Drill) -> Result<Progress, String> {
        let ending = || "the node is ending".to_owned();
        let members = self.fleet.members().ok_or_else(ending)?;
        let [a, b, c] = on else {
            return Err(format!(
                "found {} machine{}, expected three",
                on.len(),
                if on.len() == 1 { "" } else { "s" }
            ));
        };
        let mut hosts = [Tile(0); 3];
        for (host, name) in hosts.iter_mut().zip([a, b, c]) {
            let member = members.iter().find(|member| &member.name == name);
            let member = member.ok_or_else(|| {
                format!(
                    "there is no machine named {name:?} in the fleet; `cosmos members` lists them"
                )
            })?;
            if member.state != "alive" {
                return Err(format!(
                    "{name} is {}, expected one that is alive",
                    member.state
                ));
            }
            *host = Tile(member.tile);
        }
        drill.check()?;
        let names = members
            .into_iter()
            .map(|member| (Tile(member.tile), member.name));
        let mut known = self.known();
        known.forget();
        let under_way = known.courses.values().filter(|course| !course.is_over());
        if under_way.count() >= BRAIDS_MAX {
            return Err(format!("{BRAIDS_MAX} drills are under way, expected fewer"));
        }
        let course = Course::start(self.lines.clone(), hosts, names.collect(), drill);
        let course = course.map_err(|error| format!("starting a drill: {error}"))?;
        let progress = course.progress();
        known.courses.insert(course.id(), course);
        Ok(progress)
    }

    /// How a drill stands that was started here.
    #[must_use]
    pub fn progress(&self, braid: Id) -> Option<Progress> {
        self.known().courses.get(&braid).map(Course::progress)
    }

    /// Ends a drill that was started here; false if there is none.
    #[must_use]
    pub fn end(&self, braid: Id) -> bool {
        let course = self.known().courses.remove(&braid);
        course.is_some_and(|course| {
            course.end();
            true
        })
    }
}

/// Puts something in a queue, or loses it if that is full: whatever is said here is said again.
fn put<T>(queue: &SyncSender<T>, what: T) -> bool {
    queue.try_send(what).is_ok()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a braid on machines lives by their clocks"
)]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}
