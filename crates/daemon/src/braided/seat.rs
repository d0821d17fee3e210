//! A torus at work on a machine, and what the machine knows of the others.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant as Clock};

use machine::Machine;
use runtime::drill::{Player, Sums};
use runtime::{Effect, Input, Strand, Torus};
use trust::Key;
use wire::{Instant, Tile};

use super::lines::Lines;
use super::word::{Terms, Word};
use super::{DESERTED, Id, conductor, config, now, put};

/// Words in front of a torus. A window of sheets is 256, twice over, and the posts of two lanes.
const QUEUE: usize = 2_048;
/// Words a torus takes before it runs again.
const WORDS_AT_ONCE: usize = 256;
/// A torus says where it sits so often.
const SAYS_HERE: Duration = Duration::from_millis(100);

/// Where the torus of a strand sits, as far as was heard.
#[derive(Clone, Copy, Debug)]
struct Route {
    at: Tile,
    incarnation: u32,
}

/// One braid on one machine.
#[derive(Debug)]
pub(super) struct Table {
    id: Id,
    terms: Terms,
    lines: Lines,
    folder: PathBuf,
    began: Clock,
    places: Mutex<Places>,
    over: AtomicBool,
}

#[derive(Debug)]
struct Places {
    routes: [Route; 3],
    /// The queues of the tori that sit here.
    seats: [Option<SyncSender<Word>>; 3],
    /// Of which a seat was given to one already; it is given to no other at the conductor's word.
    begun: [bool; 3],
    conductor_heard: Clock,
}

impl Table {
    pub(super) fn new(id: Id, terms: &Terms, lines: Lines, folder: &Path) -> Self {
        let route = |at| Route { at, incarnation: 0 };
        Self {
            id,
            lines,
            folder: folder.to_owned(),
            began: now(),
            places: Mutex::new(Places {
                routes: terms.hosts.map(route),
                seats: [None, None, None],
                begun: [false; 3],
                conductor_heard: now(),
            }),
            terms: terms.clone(),
            over: AtomicBool::new(false),
        }
    }

    const fn conductor(&self) -> Tile {
        conductor(self.id)
    }

    /// Whether nobody sits here any more.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) {
        self.over.store(true, Ordering::Relaxed);
        self.places().seats = [None, None, None];
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The torus of a strand begins here, unless it did before.
    pub(super) fn begin(table: &Arc<Self>, strand: Strand) -> io::Result<()> {
        let begun = std::mem::replace(&mut table.places().begun[strand as usize], true);
        if begun {
            return Ok(());
        }
        let torus = Torus::new(config(&table.terms), strand, table.now());
        Self::seat(table, torus)
    }

    /// Gives a torus a thread.
    fn seat(table: &Arc<Self>, torus: Torus<Player>) -> io::Result<()> {
        let strand = torus.strand();
        let (queue, inbox) = sync_channel(QUEUE);
        let incarnation = torus.incarnation();
        {
            let mut places = table.places();
            let at = table.lines.here();
            places.routes[strand as usize] = Route { at, incarnation };
            places.seats[strand as usize] = Some(queue);
        }
        let witness = (table.terms.witness)
            .then(|| Witness::open(&table.folder, table.id, strand, incarnation))
            .transpose()?;
        let table = Arc::clone(table);
        let thread = thread::Builder::new().name(format!("braid {strand}"));
        thread.spawn(move || {
            let mut life = Life {
                table,
                strand,
                incarnation,
                witness,
                wants: Vec::new(),
            };
            life.live(torus, &inbox);
        })?;
        Ok(())
    }

    /// Somebody says where a torus sits.
    pub(super) fn moved(&self, strand: Strand, at: Tile, incarnation: u32) {
        if !self.terms.hosts.contains(&at) {
            return;
        }
        let mut places = self.places();
        let route = &mut places.routes[strand as usize];
        if incarnation > route.incarnation {
            *route = Route { at, incarnation };
            // Whoever sat here under a lower one finds nobody speaks to it any more, and ends.
            places.seats[strand as usize] = None;
        }
    }

    pub(super) fn hear(&self, from: Tile, word: Word) {
        let mut places = self.places();
        if from == self.conductor() {
            places.conductor_heard = now();
        }
        let strand = match &word {
            Word::Packet { to, .. } => *to,
            Word::Offered { strand, .. } | Word::Taken { strand, .. } | Word::Ask { strand } => {
                *strand
            }
            _ => return,
        };
        let is_for = matches!(word, Word::Packet { .. }) || from == self.conductor();
        if let Some(seat) = places.seats[strand as usize].as_ref().filter(|_| is_for) {
            // What finds no room is said again.
            put(seat, word);
        }
    }

    fn is_deserted(&self) -> bool {
        let heard = self.places().conductor_heard;
        now().duration_since(heard) > DESERTED
    }

    fn now(&self) -> Instant {
        let nanos = now().duration_since(self.began).as_nanos();
        Instant(u64::try_from(nanos).unwrap_or(u64::MAX - 1))
    }

    /// To another torus, wherever that sits.
    fn carry(&self, to: Strand, bytes: Vec<u8>) {
        let word = Word::Packet { to, bytes };
        let at = self.places().routes[to as usize].at;
        if at == self.lines.here() {
            self.hear(at, word);
        } else {
            self.lines.say(at, self.id, word);
        }
    }

    /// To everybody: the torus of this strand sits here.
    fn say_here(&self, strand: Strand, incarnation: u32) {
        let mut all: Vec<Tile> = self.terms.hosts.to_vec();
        all.push(self.conductor());
        all.extend(self.places().routes.map(|route| route.at));
        all.sort_unstable();
        all.dedup();
        for to in all {
            self.tell(
                to,
                Word::Here {
                    strand,
                    incarnation,
                },
            );
        }
    }

    fn tell(&self, to: Tile, word: Word) {
        self.lines.say(to, self.id, word);
    }
}

/// A torus's time on its thread.
struct Life {
    table: Arc<Table>,
    strand: Strand,
    incarnation: u32,
    witness: Option<Witness>,
    wants: Vec<Effect<Player>>,
}

impl Life {
    fn live(&mut self, mut torus: Torus<Player>, inbox: &Receiver<Word>) {
        let mut says_at = now();
        self.testify(&torus);
        while !self.table.is_over() {
            let Some(due) = torus.deadline() else { return };
            if says_at <= now() {
                says_at = now() + SAYS_HERE;
                self.table.say_here(self.strand, self.incarnation);
                if self.table.is_deserted() {
                    return self.table.end();
                }
            }
            let idle = due.since(self.table.now());
            let mut word = match inbox.recv_timeout(Duration::from_nanos(idle.0)) {
                Ok(word) => Some(word),
                Err(RecvTimeoutError::Timeout) => None,
                // Another sits in its place, or all is over.
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for _ in 0..WORDS_AT_ONCE {
                let Some(said) = word else { break };
                self.take(&mut torus, said);
                word = inbox.try_recv().ok();
            }
            let now = self.table.now();
            if torus.deadline().is_some_and(|due| due <= now) {
                let wants = &mut self.wants;
                torus.wake(now, &mut |effect| wants.push(effect));
                self.obey(&torus);
            }
        }
    }

    fn take(&mut self, torus: &mut Torus<Player>, word: Word) {
        let input = match word {
            Word::Packet { bytes, .. } => Input::Received(bytes),
            Word::Offered { number, offer, .. } => Input::Offered { number, offer },
            Word::Taken { upto, .. } => Input::Taken { upto },
            Word::Ask { strand } => {
                let (incarnation, sums) = (self.incarnation, Sums::of(torus.lattice()));
                let answer = Word::Sums {
                    strand,
                    incarnation,
                    sums,
                };
                return self.table.tell(self.table.conductor(), answer);
            }
            _ => return,
        };
        let now = self.table.now();
        let wants = &mut self.wants;
        torus.handle(now, input, &mut |effect| wants.push(effect));
        self.obey(torus);
    }

    fn obey(&mut self, torus: &Torus<Player>) {
        // Before anybody hears of it.
        self.testify(torus);
        let strand = self.strand;
        let conductor = self.table.conductor();
        for effect in std::mem::take(&mut self.wants) {
            match effect {
                Effect::Send { to, bytes } => self.table.carry(to, bytes),
                Effect::Accepted { upto } => {
                    self.table.tell(conductor, Word::Accepted { strand, upto });
                }
                Effect::Told { number, report } => {
                    let word = Word::Told {
                        strand,
                        number,
                        report,
                    };
                    self.table.tell(conductor, word);
                }
                Effect::Rebuilt(torus) => {
                    let (of, incarnation) = (torus.strand(), torus.incarnation());
                    match Table::seat(&self.table, *torus) {
                        Ok(()) => self.table.say_here(of, incarnation),
                        Err(error) => {
                            eprintln!(
                                "warning: braid {:016x}: no seat for {of}: {error}",
                                self.table.id
                            );
                        }
                    }
                }
                Effect::Lost(strand) => self.table.tell(conductor, Word::Lost { strand }),
                // What is not acknowledged is offered again.
                Effect::Refused { .. }
                | Effect::Missed { .. }
                | Effect::Stopped(_)
                | Effect::Rejected(_) => {}
            }
        }
    }

    fn testify(&mut self, torus: &Torus<Player>) {
        if let Some(witness) = &mut self.witness
            && let Err(error) = witness.write(torus)
        {
            eprintln!(
                "warning: braid {:016x}: its witness ends: {error}",
                self.table.id
            );
            self.witness = None;
        }
    }
}

/// What a torus amounted to after each sheet of its log, one line for each: what its successor, whose first line is what it was
/// rebuilt as, can be held against even if the machine was killed.
struct Witness {
    file: File,
    next: u64,
}

impl Witness {
    fn open(folder: &Path, braid: Id, strand: Strand, incarnation: u32) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let path = folder.join(format!("{braid:016x}-{strand}-{incarnation}.witness"));
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self { file, next: 0 })
    }

    fn write(&mut self, torus: &Torus<Player>) -> io::Result<()> {
        let Some(sheet) = torus.written().filter(|sheet| *sheet >= self.next) else {
            return Ok(());
        };
        self.next = sheet + 1;
        let tag = Key::new([0; 32]).tag(&torus.lattice().canonical());
        let tag = u128::from_be_bytes(*tag.as_bytes());
        writeln!(self.file, "{sheet} {tag:032x}")
    }
}
