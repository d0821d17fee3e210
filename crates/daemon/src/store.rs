//! What a node remembers: which programs it was given, and what became of each.
//!
//! Every change is in the [`annals`](crate::annals) before anybody is told of it, so what was acknowledged outlives a
//! crash at any moment. All that matters of them fits in memory and is held there; the annals are read once, when a
//! node starts. Why no database: docs/decisions/2026-11-21-what-was-acknowledged-is-a-chain.md.
//!
//! A node whose disk is full must still stop programs and know how they ended. New programs are therefore refused
//! while [`RESERVE`] is not free after them, and what became of the others is written into that. Should even that
//! fail, it is *owed*: it holds in memory, and is written as soon as there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use trust::chain::Seal;

use crate::annals::{Annals, AnnalsError, Damaged};
use crate::program::Program;
use crate::supervision::Restart;

/// Room that new programs leave, in bytes: for some four hundred that end.
pub const RESERVE: u64 = 64 << 10;

/// What is remembered of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What is to run.
    pub program: Program,
    /// When it is started again.
    pub restart: Restart,
    /// How it stands.
    pub fate: Fate,
}

/// How a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fate {
    /// Whether it should run: a node that starts resumes it.
    pub wanted: bool,
    /// Its last exit code, if it has ended for good.
    pub code: Option<u8>,
    /// How often it was started.
    pub starts: u64,
    /// Whether the kernel ended some of it, the last time, because its memory was used up.
    pub out_of_memory: bool,
}

impl Fate {
    /// Of what has just been taken.
    pub const BEGINNING: Self = Self {
        wanted: true,
        code: None,
        starts: 0,
        out_of_memory: false,
    };
}

/// One change, as the annals hold it, in JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "change", deny_unknown_fields)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, for as long as it is written"
)]
enum Change {
    Given { name: String, record: Record },
    Became { name: String, fate: Fate },
    Forgotten { name: String },
}

/// Why nothing could be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The annals say so; nothing of the operation took effect.
    #[error("the node's state: {0}")]
    Annals(#[from] AnnalsError),
    /// A record is whole and says nothing that is known here.
    #[error(
        "the node's state: record {number} in {folder} is whole and cannot be understood: {because}; \
         was it written by a newer cosmos?"
    )]
    Record {
        /// Where it is.
        folder: PathBuf,
        /// Which, counted from 1.
        number: usize,
        /// What is wrong.
        because: String,
    },
    /// An earlier cosmos kept its state otherwise.
    #[error(
        "the node's state: {0} is of an earlier cosmos and cannot be read by this one; \
         move it away to begin without what it holds"
    )]
    Earlier(PathBuf),
}

/// The node's state.
#[derive(Debug)]
pub struct Store {
    annals: Annals,
    programs: BTreeMap<String, Record>,
    owed: BTreeSet<String>,
}

impl Store {
    /// Opens it in a node's directory, or makes it there; and what was found to be damaged, of which nothing was
    /// believed.
    ///
    /// # Errors
    /// If it cannot be read, or what is damaged cannot be kept aside.
    pub fn open(data: &Path) -> Result<(Self, Vec<Damaged>), StoreError> {
        let earlier = data.join("state.redb");
        if earlier.exists() {
            return Err(StoreError::Earlier(earlier));
        }
        let folder = data.join("annals");
        let mut programs = BTreeMap::new();
        let (mut number, mut wrong) = (0, None);
        let told = |record: &[u8]| {
            number += 1;
            if wrong.is_none() {
                wrong = apply(&mut programs, record)
                    .err()
                    .map(|because| (number, because));
            }
        };
        let (annals, damaged) = Annals::open(&folder, told)?;
        if let Some((number, because)) = wrong {
            return Err(StoreError::Record {
                folder,
                number,
                because,
            });
        }
        let owed = BTreeSet::new();
        let mut store = Self {
            annals,
            programs,
            owed,
        };
        if store.annals.wants_anew() {
            store.begin_anew()?;
        }
        Ok((store, damaged))
    }

    /// All programs by name.
    #[must_use]
    pub fn programs(&self) -> &BTreeMap<String, Record> {
        &self.programs
    }

    /// Remembers a program; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it could not be written, or less than [`RESERVE`] would be left; the former state holds.
    pub fn give(&mut self, name: &str, record: &Record) -> Result<(), StoreError> {
        let (name, record) = (name.to_owned(), record.clone());
        self.write(&Change::Given { name, record }, RESERVE)
    }

    /// Remembers what became of a program.
    ///
    /// # Errors
    /// If it could not be written. It holds all the same, but would be forgotten by a crash before there is room.
    pub fn became(&mut self, name: &str, fate: Fate) -> Result<(), StoreError> {
        let Some(record) = self.programs.get_mut(name) else {
            return Ok(());
        };
        record.fate = fate;
        let name = name.to_owned();
        let owing = name.clone();
        self.write(&Change::Became { name, fate }, 0)
            .inspect_err(|_| {
                self.owed.insert(owing);
            })
    }

    /// Forgets a program.
    ///
    /// # Errors
    /// If it could not be written; the program is still known.
    pub fn forget(&mut self, name: &str) -> Result<(), StoreError> {
        let name = name.to_owned();
        self.write(&Change::Forgotten { name }, 0)
    }

    /// Tries to write what is owed; to be called now and then.
    pub fn pay(&mut self) {
        for name in self.owed.clone() {
            let Some(fate) = self.programs.get(&name).map(|record| record.fate) else {
                self.owed.remove(&name);
                continue;
            };
            if self.write(&Change::Became { name, fate }, 0).is_err() {
                return;
            }
        }
    }

    /// The seal over every change so far.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.annals.seal()
    }

    /// How many programs' ends are not on the disk yet.
    #[must_use]
    pub fn owed(&self) -> usize {
        self.owed.len()
    }

    fn write(&mut self, change: &Change, spare: u64) -> Result<(), StoreError> {
        // A segment that is too long can wait; one that is not sound cannot.
        if self.annals.wants_anew() {
            match self.begin_anew() {
                Err(AnnalsError::Disk { .. }) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let written = serde_json::to_vec(change).expect("a change is plain data");
        self.annals.append([written.as_slice()], spare)?;
        apply(&mut self.programs, &written).expect("what was written can be read");
        if let Change::Became { name, .. } | Change::Forgotten { name } = change {
            self.owed.remove(name);
        }
        Ok(())
    }

    fn begin_anew(&mut self) -> Result<(), AnnalsError> {
        let base = self.programs.iter().map(|(name, record)| {
            let (name, record) = (name.clone(), record.clone());
            serde_json::to_vec(&Change::Given { name, record }).expect("a change is plain data")
        });
        let base: Vec<_> = base.collect();
        self.annals.begin_anew(base.iter().map(Vec::as_slice))?;
        self.owed.clear();
        Ok(())
    }
}

fn apply(programs: &mut BTreeMap<String, Record>, written: &[u8]) -> Result<(), String> {
    match serde_json::from_slice(written).map_err(|error| error.to_string())? {
        Change::Given { name, record } => drop(programs.insert(name, record)),
        Change::Became { name, fate } => match programs.get_mut(&name) {
            Some(record) => record.fate = fate,
            None => {
                return Err(format!(
                    "it says what became of {name:?}, which is not known"
                ));
            }
        },
        Change::Forgotten { name } => drop(programs.remove(&name)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::{Limits, Network};

    fn record() -> Record {
        Record {
            program: Program {
                path: "/bin/true".into(),
                name: "true".into(),
                arguments: vec!["a".into()],
                environment: vec![("K".into(), "V".into())],
                directory: "/".into(),
                folders: Vec::new(),
                limits: Limits::default(),
                network: Network::default(),
                ports: Vec::new(),
                health: None,
                seed: None,
            },
            restart: Restart::OnFailure,
            fate: Fate::BEGINNING,
        }
    }

    #[test]
    fn what_was_given_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, damaged) = Store::open(folder.path()).unwrap();
        assert_eq!(damaged, []);
        let ended = Fate {
            wanted: false,
            code: Some(3),
            starts: 2,
            out_of_memory: true,
        };
        for name in ["a", "b", "c"] {
            store.give(name, &record()).unwrap();
        }
        store.became("a", ended).unwrap();
        store.forget("b").unwrap();
        drop(store);
        // Once as it was written, once more as the base of a new segment.
        for _ in 0..2 {
            let (mut store, _) = Store::open(folder.path()).unwrap();
            let names: Vec<_> = store.programs().keys().cloned().collect();
            assert_eq!(names, ["a", "c"]);
            assert_eq!((store.programs()["a"].fate, store.owed()), (ended, 0));
            store.begin_anew().unwrap();
        }
    }

    #[test]
    fn a_record_that_is_whole_and_unknown_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        store.give("a", &record()).unwrap();
        store
            .annals
            .append([&br#"{"change":"painted","name":"a"}"#[..]], 0)
            .unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("record 2"), "{error}");
        assert!(error.contains("painted"), "{error}");
    }
}
