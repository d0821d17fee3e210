//! Where does what a capsule has become outlive its machine?
//!
//! A capsule that lives from event to event is its memory between two of them ([`capsule::events`](crate::capsule::events)). If it runs under a lease, that memory lies with
//! [`KEEPERS`] machines, its own among them, before an answer is said; and whoever holds the lease next takes it from them. What may be said when, and who
//! may go on, is [`consensus::keep`]'s to decide. Here it is carried:
//!
//! ```text
//! capsule ── state file, then `keep` ──▶ node: custody ── letters ──▶ shelves of this machine and of two others
//!         ◀──────── kept ─────────────          │  who they are: the council's register
//! ```
//!
//! * `letter`: what is asked and answered, and how little of it need be said.
//! * `shelves`: what a machine keeps, on its disk.
//! * `custody`: one life of one capsule, on the machine that runs it.
//!
//! With three keepers one may die at a time; a keeper that is gone is replaced with the next event, if another machine is there. In a fleet of one or two machines
//! the one that runs it keeps it alone, because two keepers survive nothing that one does not: there it goes on when that machine is back.
//!
//! Deliberately absent: what programs of the host have in their folders; more than one copy of a capsule that answers.

mod custody;
mod letter;
mod shelves;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use consensus::{Index, Lease};
use node::council::register::{Query, Refusal, Reply, Standing};
use node::council::{self};
use wire::codec::decode_all;
use wire::{Encode as _, Tile};

use crate::affairs::{agreed, any};
use crate::fleet::post::Post;
use crate::fleet::{Fleet, FleetError, PROTOCOL_FREE, SEATS};
use crate::lease::{Tenancy, boottime, said};
use custody::{Custody, named};
use letter::KEPT_BYTES_MAX;
use shelves::Shelves;

pub(crate) use custody::NotKept;
pub use letter::{Answer, Letter};

/// What is kept is kept by so many machines, if there are so many.
pub const KEEPERS: usize = 3;

/// The folder in a node's directory in which it lies.
pub(crate) const FOLDER: &str = "kept";

/// The protocol of letters to keepers, in a frame.
const PROTOCOL: u8 = PROTOCOL_FREE + 2;

/// Who says that it is about to go has gone by then, or stays.
const LEAVING: Duration = Duration::from_secs(40);

/// Who holds a capsule is waited for so long.
const RELIEVED: Duration = Duration::from_secs(3);

/// So often what nobody needs is looked for.
const SWEEP: Duration = Duration::from_secs(60);
/// For the first time once a node has found its fleet.
const SWEEP_FIRST: Duration = Duration::from_secs(5);

/// What this machine keeps, and has kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    fleet: Fleet,
    post: Post,
    shelves: Arc<Shelves>,
    custodies: Custodies,
    leaving: Arc<Leaving>,
    /// Of which programs this machine is to keep what is no longer there.
    gone: Arc<Mutex<Vec<String>>>,
    data: Arc<Path>,
}

/// The lives of capsules on this machine, by their programs.
type Custodies = Arc<Mutex<BTreeMap<u64, Arc<Custody>>>>;

/// Who is about to go, and until when it is chosen as a keeper no more; it may be back.
#[derive(Debug, Default)]
struct Leaving(Mutex<BTreeMap<Tile, u64>>);

impl Leaving {
    fn note(&self, tile: Tile) {
        let until = boottime() + u64::try_from(LEAVING.as_nanos()).unwrap_or(u64::MAX);
        self.all().insert(tile, until);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Tile, u64>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, until| boottime() < *until);
        all
    }
}

/// The file through which a node and a capsule that it holds hand each other what the capsule is.
pub(crate) fn handed(data: &Path, tenancy: &Tenancy) -> PathBuf {
    said(data).join(format!("{}~{}.state", tenancy.number, tenancy.fence))
}

impl Keeping {
    /// Keeps for others from now on.
    ///
    /// # Errors
    /// If there is no folder or thread for it.
    pub(crate) fn open(fleet: Fleet, data: &Path) -> Result<Self, FleetError> {
        let shelves = Arc::new(Shelves::open(data.join(FOLDER))?);
        let (serving, custodies) = (Arc::clone(&shelves), Custodies::default());
        let leaving = Arc::<Leaving>::default();
        let relieving = (Arc::clone(&custodies), Arc::clone(&leaving));
        let post = Post::open(fleet.clone(), PROTOCOL, move |letter| {
            let answer = match decode_all(&letter) {
                Ok(Letter::Relieve { program, tile }) if tile.0 < u64::from(SEATS) => {
                    relieving.1.note(tile);
                    relieve(&relieving.0, program, tile)
                }
                Ok(letter) => serving.answer(letter),
                Err(error) => Answer::Unable(format!("a letter that cannot be read: {error}")),
            };
            answer.to_bytes()
        })?;
        let keeping = Self {
            fleet,
            post,
            shelves,
            custodies,
            leaving,
            gone: Arc::default(),
            data: data.into(),
        };
        let sweeping = keeping.clone();
        thread::Builder::new()
            .name("sweep".into())
            .stack_size(256 << 10)
            .spawn(move || {
                thread::park_timeout(SWEEP_FIRST);
                loop {
                    sweeping.sweep();
                    sweeping.look();
                    // Whoever misses something wants to know when that is over.
                    let is_whole = sweeping.gone().is_none();
                    thread::park_timeout(if is_whole { SWEEP } else { SWEEP_FIRST });
                }
            })?;
        Ok(keeping)
    }

    /// Begins a life of a capsule: writes what it has become to the file that is handed, and says whether there is anything.
    pub(crate) fn recover(&self, tenancy: &Tenancy) -> Result<bool, NotKept> {
        let program = tenancy.number;
        let lease = Lease {
            program,
            replica: tenancy.replica,
        };
        let custodies = || {
            self.custodies
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(before) = custodies().remove(&program) {
            before.end();
        }
        let (custody, bytes) = Custody::begin(self, lease, Index(tenancy.fence))?;
        custodies().insert(program, custody);
        let path = handed(&self.data, tenancy);
        let unwritten =
            |error: io::Error| NotKept::Unnamed(format!("writing {}: {error}", path.display()));
        match &bytes {
            Some(bytes) => std::fs::write(&path, bytes).map_err(unwritten)?,
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unwritten(error));
                }
                _ => {}
            },
        }
        Ok(bytes.is_some())
    }

    /// Keeps what a capsule has become by so many events, which lies in the file that is handed.
    pub(crate) fn keep(&self, tenancy: &Tenancy, events: u64) -> Result<(), NotKept> {
        let custody = {
            let custodies = self
                .custodies
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            custodies.get(&tenancy.number).cloned()
        };
        let custody = custody.filter(|custody| custody.fence().0 == tenancy.fence);
        let custody = custody.ok_or(NotKept::Lost)?;
        let path = handed(&self.data, tenancy);
        let bytes = std::fs::read(&path)
            .map_err(|error| NotKept::Unnamed(format!("reading {}: {error}", path.display())))?;
        if bytes.len() > KEPT_BYTES_MAX {
            return Err(NotKept::TooLong {
                found: bytes.len(),
                most: KEPT_BYTES_MAX,
            });
        }
        custody.keep(events, bytes)?;
        let tending = Arc::clone(&custody);
        // The answer need not wait for it, and without a thread the next event brings another occasion.
        let _ = thread::Builder::new()
            .name("tend".into())
            .stack_size(256 << 10)
            .spawn(move || tending.tend());
        Ok(())
    }

    /// The process of a capsule has ended: nobody of that life waits for anything any more.
    pub(crate) fn rest(&self, tenancy: &Tenancy) {
        let mut custodies = self
            .custodies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(custody) = custodies.get(&tenancy.number)
            && custody.fence().0 == tenancy.fence
        {
            custody.end();
            custodies.remove(&tenancy.number);
        }
        drop(custodies);
        let handed = handed(&self.data, tenancy);
        for more in ["", ".lock", ".new"] {
            let mut name = handed.clone().into_os_string();
            name.push(more);
            // Most programs were never handed anything.
            let _ = std::fs::remove_file(name);
        }
    }

    /// Asks who holds capsules that this machine keeps to let others keep them: whose are not yet. It is about to go, and asks nobody after
    /// that time (`CLOCK_BOOTTIME`).
    pub(crate) fn still_kept(&self, own: Tile, until: u64) -> Result<Vec<String>, String> {
        self.leaving.note(own);
        let Reply::Affairs(affairs) = agreed(&self.fleet, council::read(Query::Affairs))? else {
            return Err(Refusal::Unreadable.words().to_owned());
        };
        let mut left = Vec::new();
        // What was stopped is never asked for again.
        for program in affairs.programs.iter().filter(|one| one.replicas > 0) {
            if boottime() >= until {
                let name = &program.name;
                left.push(format!(
                    "whether {name} is kept here was not asked any more"
                ));
                continue;
            }
            let keepers = named(self, program.number).map_err(|error| error.to_string())?;
            if keepers.of(own).is_none() {
                continue;
            }
            let mut standing = program.standing.iter();
            let holder = standing.find_map(|(_, standing)| match standing {
                Standing::Held { by, .. } => Some(*by),
                _ => None,
            });
            let (name, program) = (&program.name, program.number);
            left.push(match holder {
                Some(holder) => {
                    let letter = Letter::Relieve { program, tile: own };
                    match self.ask(holder, letter, RELIEVED) {
                        Some(Answer::Taken) => continue,
                        _ => format!(
                            "what {name} has become is kept here, and {}, which runs it, has named nobody else yet",
                            self.name(holder)
                        ),
                    }
                }
                None => format!(
                    "what {name} has become is kept here, and as nobody runs it nobody can let another keep it"
                ),
            });
        }
        Ok(left)
    }

    fn ask(&self, tile: Tile, letter: Letter, patience: Duration) -> Option<Answer> {
        if self.own() == Some(tile) {
            return Some(match letter {
                Letter::Relieve { program, tile } => relieve(&self.custodies, program, tile),
                letter => self.shelves.answer(letter),
            });
        }
        let answer = self
            .post
            .ask_tile(tile, &letter.to_bytes(), patience)
            .ok()?;
        decode_all(&answer).ok()
    }

    fn own(&self) -> Option<Tile> {
        Some(Tile(self.fleet.status()?.tile))
    }

    fn name(&self, tile: Tile) -> String {
        let members = self.fleet.members().unwrap_or_default();
        let member = members.into_iter().find(|member| member.tile == tile.0);
        member.map_or_else(|| format!("tile {}", tile.0), |member| member.name)
    }

    /// Whether a machine is held to be alive.
    fn is_there(&self, tile: Tile) -> bool {
        let members = self.fleet.members().unwrap_or_default();
        let alive = |state: &str| matches!(state, "alive" | "suspect");
        members
            .iter()
            .any(|member| member.tile == tile.0 && alive(&member.state))
    }

    /// Who should keep something of this machine's: itself, and the next that are alive, in a ring, so that not all machines have the same keepers.
    fn others(&self, but: &[Tile]) -> Vec<Tile> {
        let members = self.fleet.members().unwrap_or_default();
        let leaving = self.leaving.all().clone();
        let own = members.iter().find(|member| member.here);
        let own = own.map_or(0, |member| member.tile);
        let seats = u64::from(SEATS);
        let mut alive: Vec<_> = members
            .iter()
            .filter(|member| member.here || member.state == "alive")
            .map(|member| Tile(member.tile))
            .filter(|tile| !but.contains(tile) && !leaving.contains_key(tile))
            .collect();
        alive.sort_by_key(|tile| (tile.0 + seats - own % seats) % seats);
        // An even number survives no more than the odd one below it.
        let count = KEEPERS.min(alive.len());
        alive.truncate(count - usize::from(count > 0 && count % 2 == 0));
        alive
    }

    /// Removes what is kept of programs that the fleet has forgotten, and what others keep by now.
    fn sweep(&self) {
        let there = self.shelves.programs();
        for program in there {
            match named(self, program) {
                Ok(keepers) => {
                    let own = self.own();
                    let mine = own.is_none_or(|own| keepers.of(own).is_some());
                    let given = self.shelves.given_by(program);
                    // Somebody who came later has named others: so what an earlier one proposed can never be agreed on.
                    if !mine && given.is_some_and(|given| given.fence < keepers.by.fence) {
                        self.shelves.clear(program);
                    }
                }
                Err(NotKept::Unnamed(because)) if because == Refusal::Unknown.words() => {
                    self.shelves.clear(program);
                }
                Err(_) => {}
            }
        }
    }

    /// Looks whether what the voters say that this machine keeps is there.
    fn look(&self) {
        let Some(own) = self.own().filter(|_| any(&self.fleet)) else {
            return;
        };
        let Ok(Reply::Affairs(affairs)) = agreed(&self.fleet, council::read(Query::Affairs)) else {
            return;
        };
        let programs = affairs.programs.iter().filter(|one| one.replicas > 0);
        let gone = programs.filter(|program| {
            let named = named(self, program.number).ok();
            let named = named.and_then(|keepers| keepers.of(own));
            // What is damaged is not gone: whoever holds the lease is told of it.
            let found = self.shelves.mark(program.number).ok();
            named
                .zip(found)
                .is_some_and(|(named, found)| named != found)
        });
        let gone: Vec<_> = gone.map(|program| program.name.clone()).collect();
        let mut known = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != gone && !gone.is_empty() {
            eprintln!("warning: {}", lost(&gone));
        }
        *known = gone;
    }

    /// What this machine should keep and does not, in a sentence, if there is such a thing.
    pub(crate) fn gone(&self) -> Option<String> {
        let gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        (!gone.is_empty()).then(|| lost(&gone))
    }
}

/// Lets another machine keep a capsule that runs here in the place of one that is about to go.
fn relieve(custodies: &Custodies, program: u64, of: Tile) -> Answer {
    let custody = {
        let custodies = custodies.lock().unwrap_or_else(PoisonError::into_inner);
        custodies.get(&program).cloned()
    };
    match custody.is_some_and(|custody| custody.relieve(of)) {
        true => Answer::Taken,
        false => Answer::Lacks,
    }
}

fn lost(programs: &[String]) -> String {
    format!(
        "what this machine kept of {} is gone: somebody emptied {FOLDER}/, or its disk is another; it counts no more as a keeper of that until the next event of \
         each, with which it is named again",
        programs.join(", ")
    )
}
