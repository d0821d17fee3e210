//! What a fleet has agreed on: its programs, the machines they may run on, and who holds what.
//!
//! A [`Register`] is the state behind the voters' log: it follows from that and from nothing else. A program is a name, the bytes that
//! say how to run it (opaque here), how many replicas there should be, and what one of them demands. Each replica has a number
//! that is used once, and the lease on (program, replica) is the right to run it. So *never two holders of one lease* is *never two of one
//! replica*, and a replica that moves while others serve is one with a new number that is up before the old one is recalled.
//!
//! Members give, stop and forget programs, say how much room they have and what became of what they hold. What follows from that is the
//! leader's to decree ([`super::placing`]), and nobody else's. Every decree leaves a [`Decision`] with its reason; the last
//! [`DECISIONS_MAX`] are part of the state, so that whoever leads next can still say why.
//!
//! Everything is bounded, by the constants below.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use consensus::keep::{Keeper, Mark, Stint};
use consensus::lease::{self, Duty, Seen};
use consensus::{Author, Index, Lease, Leases, State, Terms};
use scheduler::Funnel;
use scheduler::fleet::{Amounts, Evidence, Pending, Wanted};
use wire::codec::decode_all;
use wire::{Class, Encode, Instant, Tile};

use super::placing::{self, Barred};

/// So many programs at most, those that were stopped and not forgotten included.
pub const PROGRAMS_MAX: usize = 256;
/// So many replicas of one program at most.
pub const REPLICAS_MAX: u32 = 64;
/// So many replicas of all programs at most: that how everything stands fits into one message.
pub const REPLICAS_ALL_MAX: usize = 512;
/// How a program is run may take so many bytes: a command must fit into half a hundred frames.
pub const SPEC_BYTES_MAX: usize = 32 << 10;
/// What a program has become is kept by so many machines at most.
pub const KEEPERS_MAX: usize = 7;
/// A replica takes so many ports of its machine at most.
pub const DOORS_MAX: usize = 4;
/// A name may be so long, in bytes.
pub const NAME_BYTES_MAX: usize = 48;
/// What a machine says of its failure is cut to so many bytes.
pub const WORDS_BYTES_MAX: usize = 120;
/// So many decisions are remembered.
pub const DECISIONS_MAX: usize = 128;
/// Tiles from this number on are nobody: a cell has fewer seats.
pub const TILES_MAX: u64 = 1_024;

/// What one replica takes, or a machine has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Room {
    /// Processor, in thousandths of a core.
    pub cpu_milli: u64,
    /// Memory, in bytes.
    pub memory: u64,
    /// Whole GPUs.
    pub gpus: u64,
}

impl From<Room> for Amounts {
    fn from(room: Room) -> Self {
        let Room {
            cpu_milli,
            memory,
            gpus,
        } = room;
        Self {
            cpu_milli,
            memory,
            gpus,
        }
    }
}

/// A port of its machine that a replica takes: no other replica is placed beside it that takes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Door {
    /// Its number.
    pub port: u16,
    /// Whether it is reached there from other machines.
    pub outside: bool,
}

/// What can be asked of the register, besides what [`lease::Command`] asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// By a holder or a leader, about leases: [`lease::Command::Renew`], [`lease::Command::Release`],
    /// [`lease::Command::Assign`], [`lease::Command::Expire`].
    Lease(lease::Command),
    /// By anybody: run this.
    Give {
        /// What to call it; nothing else may be called so.
        name: String,
        /// How to run it: the world's business.
        spec: Arc<[u8]>,
        /// How many of it.
        replicas: u32,
        /// What one takes. Nought is placed anywhere.
        demand: Room,
        /// How urgent it is: the more urgent is placed first.
        class: Class,
        /// Where one is reached.
        doors: Vec<Door>,
    },
    /// By anybody: let it run no more.
    Stop {
        /// What.
        name: String,
    },
    /// By anybody: forget one of which nothing runs.
    Forget {
        /// What.
        name: String,
    },
    /// By a machine: I have so much room.
    Offer(Room),
    /// By a holder: this came of what I hold since that entry.
    Report {
        /// What.
        lease: Lease,
        /// The entry that granted it.
        fence: Index,
        /// What came of it.
        fate: Fate,
    },
    /// By a holder: what the program has become is kept by these from now on; see [`consensus::keep`].
    Keep {
        /// What it holds.
        lease: Lease,
        /// Which of its lives this is; its fence is the entry that granted the lease.
        stint: Stint,
        /// The so-manieth change of the program's keepers, which must be the next.
        change: u32,
        /// Who keeps it.
        keepers: Vec<Keeper>,
    },
    /// By the leader: there is to be one more replica.
    Open {
        /// Of which program.
        program: u64,
        /// Under this number, which must be the next.
        replica: u32,
    },
    /// By the leader: this tile is to run it.
    Place {
        /// What.
        lease: Lease,
        /// Where.
        to: Tile,
        /// What that rests on.
        on: Evidence,
    },
    /// By the leader: it is to run there no more; one that nobody holds is closed.
    Recall {
        /// What.
        lease: Lease,
        /// Why.
        why: Why,
    },
    /// By the leader: it can be placed nowhere.
    Wait {
        /// What.
        lease: Lease,
        /// Which tests the machines fell to.
        on: Funnel,
    },
}

/// What came of what a machine holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It runs, and is well.
    Up,
    /// It fell with this code, and is started again there.
    Fell(u8),
    /// It ended by itself for good, with this code.
    Ended(u8),
    /// It cannot be run here.
    Unable(String),
}

/// Why a replica is recalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    /// Its program was stopped.
    Stopped,
    /// Its machine drains, and it can go on elsewhere.
    Drained,
    /// There is one more than was asked for.
    Surplus,
}

/// What can be asked about the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// How is this program run?
    Spec(u64),
    /// How does everything stand?
    Affairs,
    /// Who keeps what this program has become?
    Keepers(u64),
    /// Why does the program of this name stand as it does?
    Why(String),
}

/// What came of a [`Command`] that is not about leases, or the answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// It is so now.
    Done,
    /// It has this number.
    Given(u64),
    /// To [`Query::Spec`].
    Spec {
        /// What it is called.
        name: String,
        /// As it was given.
        spec: Arc<[u8]>,
    },
    /// To [`Query::Affairs`].
    Affairs(Affairs),
    /// To [`Query::Keepers`].
    Keepers(Keepers),
    /// To [`Query::Why`].
    Why(Box<Explained>),
    /// It was not done, and nothing was.
    Refused(Refusal),
}

/// Why something was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Another program has the name.
    NameTaken,
    /// There is no such program.
    Unknown,
    /// Some of it runs.
    Runs,
    /// There are too many programs.
    Full,
    /// It breaks one of the register's bounds.
    Unbounded,
    /// It was no command or query, or not for whoever asked.
    Unreadable,
}

impl Refusal {
    /// As part of a sentence.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NameTaken => {
                "the fleet has a program of that name already; `cosmos rm` forgets it"
            }
            Self::Unknown => "the fleet has no program of that name",
            Self::Runs => "some of it runs; `cosmos stop` ends it",
            Self::Full => "the fleet knows as many programs as it can; `cosmos rm` forgets some",
            Self::Unbounded => {
                "expected 1 to 64 replicas, at most 4 ports, a name of at most 48 bytes, and at most 32 KiB of words, environment and settings"
            }
            Self::Unreadable => "the voters cannot understand it: they are of another version",
        }
    }
}

/// Who keeps what a program has become.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Keepers {
    /// How often that was changed; none has ever been named at 0.
    pub changes: u32,
    /// By whom it was changed last.
    pub by: Stint,
    /// Who they are.
    pub all: Vec<Keeper>,
}

impl Keepers {
    /// The shelf of a machine that was named, if one was.
    #[must_use]
    pub fn of(&self, tile: Tile) -> Option<Mark> {
        let keeper = self.all.iter().find(|keeper| keeper.tile == tile)?;
        Some(keeper.mark)
    }
}

/// How everything stands, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affairs {
    /// Programs by number.
    pub programs: Vec<Listed>,
    /// Machines by tile.
    pub machines: Vec<Machine>,
    /// What was decided last, oldest first.
    pub decisions: Vec<Decision>,
}

/// A program, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The entry that gave it.
    pub number: u64,
    /// What it is called.
    pub name: String,
    /// How many there should be; 0 for one that was stopped.
    pub replicas: u32,
    /// Where a replica is reached on its machine.
    pub doors: Vec<Door>,
    /// How each replica is.
    pub standing: Vec<(u32, Standing)>,
}

/// Why a program stands as it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// How it stands.
    pub listed: Listed,
    /// What one replica takes.
    pub demand: Room,
    /// What the place of each replica that has one rests on, since it was given to whoever holds it.
    pub on: Vec<(u32, Evidence)>,
    /// Why some of it waits now, if some does.
    pub pending: Option<Pending>,
    /// What of it is remembered, oldest first.
    pub decisions: Vec<Decision>,
}

impl Explained {
    /// What is asked for.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        wanted(self.demand, &self.listed.doors, self.listed.replicas)
    }
}

/// What is asked for, wherever it is.
fn wanted(demand: Room, doors: &[Door], replicas: u32) -> Wanted {
    Wanted {
        each: demand.into(),
        ports: doors.iter().map(|door| door.port).collect(),
        replicas,
        ..Wanted::default()
    }
}

/// How a replica is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Nobody holds it, and which tests the machines fell to if that was found out.
    Waits(Option<Funnel>),
    /// Somebody does.
    Held {
        /// Who.
        by: Tile,
        /// Since which entry.
        fence: Index,
        /// Whether it runs and is well, as far as was reported.
        up: bool,
        /// With which code it fell, if it did and has not been well since.
        fell: Option<u8>,
        /// Whether it is being ended there.
        recalled: bool,
    },
    /// It ended by itself for good, with this code.
    Ended(u8),
}

/// A machine, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Where it sits.
    pub tile: Tile,
    /// What it is to do.
    pub duty: Duty,
    /// Whether it renews.
    pub present: bool,
    /// What it has.
    pub room: Room,
}

/// Something that was decided, and why.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decision {
    /// The entry that says so.
    pub at: Index,
    /// About which program, if about one.
    pub program: String,
    /// About which of its replicas, if about one.
    pub replica: Option<u32>,
    /// What.
    pub what: What,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum What {
    /// So many of it are to run.
    Given(u32),
    /// None of it is to run.
    Stopped,
    /// It runs there from now on: the least loaded of so many that could, after those with fewer of the same program.
    Placed(Tile, u32),
    /// It can be placed nowhere: so many machines fell to each test.
    Waits(Funnel),
    /// It is well there.
    Up(Tile),
    /// It fell there with this code, and is started again.
    Fell(Tile, u8),
    /// It is to be let go there.
    Recalled(Tile, Why),
    /// It was let go there.
    Released(Tile),
    /// Nothing was heard from there for longer than a lease lasts.
    Expired(Tile),
    /// It ended there by itself, with this code.
    Ended(Tile, u8),
    /// It could not be run there.
    Unable(Tile, String),
    /// The machine has this duty from now on.
    Assigned(Tile, Duty),
}

/// A program, as the register has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Program {
    pub(super) name: String,
    pub(super) spec: Arc<[u8]>,
    pub(super) replicas: u32,
    pub(super) demand: Room,
    pub(super) class: Class,
    pub(super) doors: Vec<Door>,
    /// The number of its next replica.
    pub(super) next: u32,
    pub(super) slots: BTreeMap<u32, Slot>,
    /// Where it could not be run, and how often in a row.
    pub(super) unable: BTreeMap<Tile, u32>,
    pub(super) keepers: Keepers,
}

/// A replica, besides who holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Whether its holder reported it well.
    pub(super) up: bool,
    /// With which code it fell on its holder, if it did and has not been well since.
    pub(super) fell: Option<u8>,
    /// How it ended by itself, which closes the matter.
    pub(super) ended: Option<u8>,
    pub(super) waits: Option<Funnel>,
    /// What its place rests on, while somebody holds it.
    pub(super) on: Option<Evidence>,
}

impl Program {
    /// What is asked for.
    pub(super) fn wanted(&self) -> Wanted {
        wanted(self.demand, &self.doors, self.replicas)
    }
}

/// What a fleet has agreed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Register {
    pub(super) leases: Leases,
    pub(super) programs: BTreeMap<u64, Program>,
    pub(super) rooms: BTreeMap<Tile, Room>,
    pub(super) decisions: VecDeque<Decision>,
}

/// What a leader remembers by its own clock.
#[derive(Clone, Debug, Default, PartialEq, Hash)]
pub struct Memory {
    pub(super) seen: Seen,
    pub(super) barred: Barred,
}

impl Register {
    /// Of a fleet that has agreed on nothing but how long a lease lasts.
    #[must_use]
    pub const fn new(terms: Terms) -> Self {
        Self {
            leases: Leases::new(terms),
            programs: BTreeMap::new(),
            rooms: BTreeMap::new(),
            decisions: VecDeque::new(),
        }
    }

    /// Who holds what.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What a program is called and how it is run.
    #[must_use]
    pub fn spec(&self, program: u64) -> Option<(&str, &Arc<[u8]>)> {
        let program = self.programs.get(&program)?;
        Some((&program.name, &program.spec))
    }

    /// What was decided last, oldest first.
    pub fn decisions(&self) -> impl Iterator<Item = &Decision> {
        self.decisions.iter()
    }

    /// How everything stands.
    #[must_use]
    pub fn affairs(&self) -> Affairs {
        let programs = self.programs.iter();
        let programs = programs.map(|(number, program)| self.listed(*number, program));
        let machines = self.leases.tiles().map(|(tile, duty, present)| Machine {
            tile,
            duty,
            present,
            room: self.rooms.get(&tile).copied().unwrap_or_default(),
        });
        Affairs {
            programs: programs.collect(),
            machines: machines.collect(),
            decisions: self.decisions.iter().cloned().collect(),
        }
    }

    fn listed(&self, number: u64, program: &Program) -> Listed {
        let slots = program.slots.iter();
        let standing =
            slots.map(|(replica, slot)| (*replica, self.standing(number, *replica, slot)));
        Listed {
            number,
            name: program.name.clone(),
            replicas: program.replicas,
            doors: program.doors.clone(),
            standing: standing.collect(),
        }
    }

    /// Why a program stands as it does; `memory` is the leader's.
    fn explain(&self, memory: &Memory, now: Instant, name: &str) -> Option<Explained> {
        let number = self.named(name)?;
        let program = self.programs.get(&number)?;
        let slots = program.slots.iter();
        let on = slots.filter_map(|(replica, slot)| Some((*replica, slot.on.clone()?)));
        let decisions = self.decisions.iter().filter(|one| one.program == name);
        Some(Explained {
            listed: self.listed(number, program),
            demand: program.demand,
            on: on.collect(),
            pending: placing::explain(self, memory, now, number),
            decisions: decisions.cloned().collect(),
        })
    }

    fn standing(&self, program: u64, replica: u32, slot: &Slot) -> Standing {
        let lease = Lease { program, replica };
        match (slot.ended, self.leases.holder(lease)) {
            (Some(code), _) => Standing::Ended(code),
            (None, None) => Standing::Waits(slot.waits),
            (None, Some((by, fence))) => Standing::Held {
                by,
                fence,
                up: slot.up,
                fell: slot.fell,
                recalled: self.leases.is_recalled(lease),
            },
        }
    }

    fn slot(&mut self, lease: Lease) -> Option<&mut Slot> {
        let program = self.programs.get_mut(&lease.program)?;
        program.slots.get_mut(&lease.replica)
    }

    fn close(&mut self, lease: Lease) {
        if let Some(program) = self.programs.get_mut(&lease.program) {
            program.slots.remove(&lease.replica);
        }
    }

    fn decided(&mut self, at: Index, about: Option<Lease>, what: What) {
        let program = about.and_then(|lease| self.programs.get(&lease.program));
        let program = program
            .map(|program| program.name.clone())
            .unwrap_or_default();
        let replica = match what {
            What::Given(_) | What::Stopped => None,
            _ => about.map(|lease| lease.replica),
        };
        let swings = |what: &What| match what {
            What::Up(tile) | What::Fell(tile, _) => Some(*tile),
            _ => None,
        };
        if let Some(tile) = swings(&what) {
            // Who falls and rises again and again must not take the place of what others did.
            self.decisions.retain(|old| {
                let same = old.program == program && old.replica == replica;
                !same || swings(&old.what) != Some(tile)
            });
        }
        if self.decisions.len() >= DECISIONS_MAX {
            self.decisions.pop_front();
        }
        self.decisions.push_back(Decision {
            at,
            program,
            replica,
            what,
        });
    }

    fn obey_about_leases(
        &mut self,
        at: Index,
        by: Option<Author>,
        command: lease::Command,
        bytes: &[u8],
    ) -> Vec<u8> {
        use lease::Command as About;
        match command {
            // A lease is placed and recalled by the leader, with a reason: see [`Command`].
            About::Grant { .. } | About::Recall { .. } => {
                return lease::Answer::Unreadable.to_bytes();
            }
            About::Assign { tile, .. } if tile.0 >= TILES_MAX => {
                return lease::Answer::Unreadable.to_bytes();
            }
            About::Assign { tile, duty } => {
                if self.leases.tile(tile).is_none_or(|(had, _)| had != duty) {
                    self.decided(at, None, What::Assigned(tile, duty));
                }
            }
            About::Renew | About::Release { .. } | About::Expire { .. } => {}
        }
        let held: Vec<_> = match command {
            About::Release { lease, .. } => self
                .leases
                .holder(lease)
                .map(|(tile, _)| (lease, tile))
                .into_iter()
                .collect(),
            About::Expire { holder, .. } => {
                let held = self.leases.held().filter(|(_, tile, _)| *tile == holder);
                held.map(|(lease, tile, _)| (lease, tile)).collect()
            }
            _ => Vec::new(),
        };
        let held: Vec<_> = held
            .into_iter()
            .map(|(lease, tile)| (lease, tile, self.leases.is_recalled(lease)))
            .collect();
        let answer = self.leases.apply(at, by, bytes);
        for (lease, tile, recalled) in held {
            if self.leases.holder(lease).is_some() {
                continue;
            }
            let what = match command {
                About::Expire { .. } => What::Expired(tile),
                _ => What::Released(tile),
            };
            self.decided(at, Some(lease), what);
            if recalled {
                self.close(lease);
            } else if let Some(slot) = self.slot(lease) {
                (slot.up, slot.fell, slot.on) = (false, None, None);
            }
        }
        answer
    }

    fn give(&mut self, at: Index, program: Program) -> Reply {
        let Program {
            name,
            spec,
            replicas,
            ..
        } = &program;
        let fits = (1..=REPLICAS_MAX).contains(replicas)
            && (1..=NAME_BYTES_MAX).contains(&name.len())
            && program.doors.len() <= DOORS_MAX
            && spec.len() <= SPEC_BYTES_MAX;
        if !fits {
            return Reply::Refused(Refusal::Unbounded);
        }
        if self.named(name).is_some() {
            return Reply::Refused(Refusal::NameTaken);
        }
        let slots: usize = self
            .programs
            .values()
            .map(|program| program.slots.len())
            .sum();
        if self.programs.len() >= PROGRAMS_MAX || slots + program.slots.len() > REPLICAS_ALL_MAX {
            return Reply::Refused(Refusal::Full);
        }
        let (number, replicas) = (at.0, *replicas);
        self.programs.insert(number, program);
        let about = Lease {
            program: number,
            replica: 0,
        };
        self.decided(at, Some(about), What::Given(replicas));
        Reply::Given(number)
    }

    fn named(&self, name: &str) -> Option<u64> {
        let mut programs = self.programs.iter();
        programs
            .find(|(_, program)| program.name == name)
            .map(|(number, _)| *number)
    }

    fn stop(&mut self, at: Index, name: &str) -> Reply {
        let Some(number) = self.named(name) else {
            return Reply::Refused(Refusal::Unknown);
        };
        let Some(program) = self.programs.get_mut(&number) else {
            return Reply::Refused(Refusal::Unknown);
        };
        if program.replicas == 0 {
            return Reply::Done;
        }
        program.replicas = 0;
        let slots: Vec<_> = program.slots.keys().copied().collect();
        self.decided(
            at,
            Some(Lease {
                program: number,
                replica: 0,
            }),
            What::Stopped,
        );
        for replica in slots {
            self.recall(
                at,
                Lease {
                    program: number,
                    replica,
                },
                Why::Stopped,
            );
        }
        Reply::Done
    }

    fn recall(&mut self, at: Index, lease: Lease, why: Why) {
        match self.leases.holder(lease) {
            None => self.close(lease),
            Some(_) if self.leases.is_recalled(lease) => {}
            Some((tile, _)) => {
                let recall = lease::Command::Recall { lease };
                self.leases.apply(at, None, &recall.to_bytes());
                self.decided(at, Some(lease), What::Recalled(tile, why));
            }
        }
    }

    fn forget(&mut self, name: &str) -> Reply {
        let Some(number) = self.named(name) else {
            return Reply::Refused(Refusal::Unknown);
        };
        let program = &self.programs[&number];
        let runs = |replica: &u32| {
            self.leases
                .holder(Lease {
                    program: number,
                    replica: *replica,
                })
                .is_some()
        };
        if program.replicas > 0 && program.slots.values().any(|slot| slot.ended.is_none())
            || program.slots.keys().any(runs)
        {
            return Reply::Refused(Refusal::Runs);
        }
        self.programs.remove(&number);
        Reply::Done
    }

    fn report(&mut self, at: Index, by: Tile, lease: Lease, fence: Index, fate: Fate) {
        if self.leases.holder(lease) != Some((by, fence)) {
            return;
        }
        let Some(program) = self.programs.get_mut(&lease.program) else {
            return;
        };
        let Some(slot) = program.slots.get_mut(&lease.replica) else {
            return;
        };
        let what = match fate {
            Fate::Up if slot.up => return,
            Fate::Up => {
                (slot.up, slot.fell) = (true, None);
                program.unable.remove(&by);
                What::Up(by)
            }
            Fate::Fell(_) if slot.fell.is_some() => return,
            Fate::Fell(code) => {
                (slot.up, slot.fell) = (false, Some(code));
                What::Fell(by, code)
            }
            Fate::Ended(code) => {
                (slot.up, slot.fell, slot.ended) = (false, None, Some(code));
                What::Ended(by, code)
            }
            Fate::Unable(words) => {
                (slot.up, slot.fell) = (false, None);
                let often = program.unable.entry(by).or_default();
                *often = often.saturating_add(1);
                What::Unable(by, words)
            }
        };
        self.decided(at, Some(lease), what);
    }

    fn place(&mut self, at: Index, lease: Lease, to: Tile, on: Evidence) {
        let open = self.slot(lease).is_some_and(|slot| slot.ended.is_none());
        if !open || self.leases.holder(lease).is_some() {
            return;
        }
        let grant = lease::Command::Grant { lease, to };
        self.leases.apply(at, None, &grant.to_bytes());
        if self.leases.holder(lease).is_some() {
            let fit = on.funnel.left();
            if let Some(slot) = self.slot(lease) {
                (slot.up, slot.fell, slot.waits, slot.on) = (false, None, None, Some(on));
            }
            self.decided(at, Some(lease), What::Placed(to, fit));
        }
    }

    fn obey(&mut self, at: Index, by: Option<Author>, command: Command) -> Reply {
        match (command, by) {
            (
                Command::Give {
                    name,
                    spec,
                    replicas,
                    demand,
                    class,
                    doors,
                },
                Some(_),
            ) => {
                let slots =
                    (0..replicas.min(REPLICAS_MAX)).map(|replica| (replica, Slot::default()));
                return self.give(
                    at,
                    Program {
                        name,
                        spec,
                        replicas,
                        demand,
                        class,
                        doors,
                        next: replicas,
                        slots: slots.collect(),
                        unable: BTreeMap::new(),
                        keepers: Keepers::default(),
                    },
                );
            }
            (Command::Stop { name }, Some(_)) => return self.stop(at, &name),
            (Command::Forget { name }, Some(_)) => return self.forget(&name),
            (Command::Offer(room), Some(author)) if author.tile.0 < TILES_MAX => {
                self.rooms.insert(author.tile, room);
                // It says so once at each start: who left is back.
                if let Some((Duty::Leaving, _)) = self.leases.tile(author.tile) {
                    let (tile, duty) = (author.tile, Duty::Serving);
                    let assign = lease::Command::Assign { tile, duty };
                    self.leases.apply(at, by, &assign.to_bytes());
                    self.decided(at, None, What::Assigned(tile, duty));
                }
            }
            (Command::Report { lease, fence, fate }, Some(author)) => {
                self.report(at, author.tile, lease, fence, fate);
            }
            (
                Command::Keep {
                    lease,
                    stint,
                    change,
                    keepers,
                },
                Some(author),
            ) => {
                let by = (author.tile, stint.fence);
                let program = self.programs.get_mut(&lease.program);
                let (Some(program), true) = (program, self.leases.holder(lease) == Some(by)) else {
                    return Reply::Refused(Refusal::Unknown);
                };
                let named = Keepers {
                    changes: change,
                    by: stint,
                    all: keepers,
                };
                // What was heard before is so.
                if program.keepers.changes.checked_add(1) == Some(change) {
                    program.keepers = named;
                } else if program.keepers != named {
                    return Reply::Refused(Refusal::Unknown);
                }
            }
            (Command::Open { program, replica }, None) => {
                if let Some(program) = self.programs.get_mut(&program)
                    && program.next == replica
                    && program.replicas > 0
                    && program.slots.len() <= REPLICAS_MAX as usize
                {
                    program.next += 1;
                    program.slots.insert(replica, Slot::default());
                }
            }
            (Command::Place { lease, to, on }, None) => self.place(at, lease, to, on),
            (Command::Recall { lease, why }, None) => self.recall(at, lease, why),
            (Command::Wait { lease, on }, None) => {
                let free = self.leases.holder(lease).is_none();
                if let Some(slot) = self.slot(lease)
                    && free
                    && slot.waits != Some(on)
                {
                    slot.waits = Some(on);
                    self.decided(at, Some(lease), What::Waits(on));
                }
            }
            _ => return Reply::Refused(Refusal::Unreadable),
        }
        Reply::Done
    }
}

impl State for Register {
    type Memory = Memory;

    fn apply(&mut self, at: Index, by: Option<Author>, command: &[u8]) -> Vec<u8> {
        match decode_all(command) {
            Ok(Command::Lease(about)) => self.obey_about_leases(at, by, about, command),
            Ok(command) => self.obey(at, by, command).to_bytes(),
            Err(_) => Reply::Refused(Refusal::Unreadable).to_bytes(),
        }
    }

    fn may_wait(&self, by: Author, command: &[u8]) -> bool {
        self.leases.may_wait(by, command)
    }

    fn read(&self, memory: &Memory, now: Instant, query: &[u8]) -> Vec<u8> {
        let reply = match decode_all(query) {
            Ok(Query::Spec(number)) => match self.spec(number) {
                Some((name, spec)) => Reply::Spec {
                    name: name.into(),
                    spec: spec.clone(),
                },
                None => Reply::Refused(Refusal::Unknown),
            },
            Ok(Query::Affairs) => Reply::Affairs(self.affairs()),
            Ok(Query::Keepers(number)) => match self.programs.get(&number) {
                Some(program) => Reply::Keepers(program.keepers.clone()),
                None => Reply::Refused(Refusal::Unknown),
            },
            Ok(Query::Why(name)) => match self.explain(memory, now, &name) {
                Some(explained) => Reply::Why(Box::new(explained)),
                None => Reply::Refused(Refusal::Unknown),
            },
            Err(_) => Reply::Refused(Refusal::Unreadable),
        };
        reply.to_bytes()
    }

    fn look(
        &self,
        memory: &mut Memory,
        now: Instant,
        decree: &mut impl FnMut(Vec<u8>),
    ) -> Option<Instant> {
        let next = self.leases.look(&mut memory.seen, now, decree);
        placing::look(self, memory, now, &mut |command| decree(command.to_bytes()));
        next
    }
}
