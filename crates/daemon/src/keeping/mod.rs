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
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use consensus::{Index, Lease};
use node::council::register::Refusal;
use wire::codec::decode_all;
use wire::{Encode as _, Tile};

use crate::fleet::post::Post;
use crate::fleet::{Fleet, FleetError, PROTOCOL_FREE, SEATS};
use crate::lease::{Tenancy, said};
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

/// So often what nobody needs is looked for.
const SWEEP: Duration = Duration::from_secs(60);

/// What this machine keeps, and has kept.
#[derive(Clone, Debug)]
pub(crate) struct Keeping {
    fleet: Fleet,
    post: Post,
    shelves: Arc<Shelves>,
    custodies: Arc<Mutex<BTreeMap<u64, Arc<Custody>>>>,
    data: Arc<Path>,
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
        let serving = Arc::clone(&shelves);
        let post = Post::open(fleet.clone(), PROTOCOL, move |letter| {
            let answer = match decode_all(&letter) {
                Ok(letter) => serving.answer(letter),
                Err(error) => Answer::Unable(format!("a letter that cannot be read: {error}")),
            };
            answer.to_bytes()
        })?;
        let keeping = Self {
            fleet,
            post,
            shelves,
            custodies: Arc::default(),
            data: data.into(),
        };
        let sweeping = keeping.clone();
        thread::Builder::new()
            .name("sweep".into())
            .stack_size(256 << 10)
            .spawn(move || {
                loop {
                    thread::park_timeout(SWEEP);
                    sweeping.sweep();
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

    fn ask(&self, tile: Tile, letter: Letter, patience: Duration) -> Option<Answer> {
        if self.own() == Some(tile) {
            return Some(self.shelves.answer(letter));
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
        let own = members.iter().find(|member| member.here);
        let own = own.map_or(0, |member| member.tile);
        let seats = u64::from(SEATS);
        let mut alive: Vec<_> = members
            .iter()
            .filter(|member| member.here || member.state == "alive")
            .map(|member| Tile(member.tile))
            .filter(|tile| !but.contains(tile))
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
                    let mine = own.is_none_or(|own| keepers.tiles.contains(&own));
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
}
