//! What a node remembers: which programs it was given, and what became of each.
//!
//! Every change is in the [`annals`](crate::annals) before anybody is told of it, so what was acknowledged outlives a
//! crash at any moment. Changes that come together are written together: what became of programs is *owed* until
//! [`Store::write`], which whoever decides calls before it answers. All that matters of them fits in memory and is held there; the annals are read once, when a
//! node starts. Why no database: docs/decisions/2026-11-21-what-was-acknowledged-is-a-chain.md.
//!
//! A node whose disk is full must still stop programs and know how they ended. New programs are therefore refused
//! while [`RESERVE`] is not free after them, and what became of the others is written into that. Should even that
//! fail, it stays owed: it holds in memory, and is written as soon as there is room.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use trust::chain::Seal;

use crate::annals::{Annals, AnnalsError, Damaged};
use crate::program::Program;
use crate::supervision::{Group, Restart};

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
    /// The group it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<Membership>,
    /// By when it has to have ended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_unix_ms: Option<u64>,
}

/// Which group a program belongs to, and on which terms all of it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Membership {
    /// Its name.
    pub name: String,
    /// What holds for all of it.
    #[serde(flatten)]
    pub terms: Group,
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
    /// Whether it was ended because its deadline passed.
    #[serde(default)]
    pub late: bool,
}

impl Fate {
    /// Of what has just been taken.
    pub const BEGINNING: Self = Self {
        wanted: true,
        code: None,
        starts: 0,
        out_of_memory: false,
        late: false,
    };
}

/// A change that takes effect once it is written.
#[derive(Clone, Debug)]
pub enum Wish {
    /// Programs to be remembered, all or none of them.
    Give(Vec<(String, Record)>),
    /// A program to be forgotten.
    Forget(String),
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
    /// Whether what is owed could not be written the last time.
    stuck: bool,
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
                let read = serde_json::from_slice::<Change>(record);
                let read = read.map_err(|error| error.to_string());
                wrong = (read.and_then(|change| change.apply(&mut programs)).err())
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
            stuck: false,
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

    /// Notes what became of a program. It holds, and is on the disk after the next [`Store::write`] that succeeds.
    pub fn became(&mut self, name: &str, fate: Fate) {
        if let Some(record) = self.programs.get_mut(name) {
            record.fate = fate;
            self.owed.insert(name.to_owned());
        }
    }

    /// Writes what is owed and what is wished, in one commit; it is on the disk when this returns.
    ///
    /// # Errors
    /// If it could not be written, or less than [`RESERVE`] would be left after new programs. What is owed still is,
    /// and nothing that was wished has happened.
    pub fn write(&mut self, wishes: &[Wish]) -> Result<(), StoreError> {
        let mut changes = Vec::new();
        for name in &self.owed {
            if let Some(record) = self.programs.get(name) {
                let (name, fate) = (name.clone(), record.fate);
                changes.push(Change::Became { name, fate });
            }
        }
        let mut spare = 0;
        for wish in wishes {
            match wish.clone() {
                Wish::Give(given) => {
                    spare = RESERVE;
                    let given = given.into_iter();
                    changes.extend(given.map(|(name, record)| Change::Given { name, record }));
                }
                Wish::Forget(name) => changes.push(Change::Forgotten { name }),
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        // A segment that is too long can wait; one that is not sound cannot.
        if self.annals.wants_anew() {
            match self.begin_anew() {
                Err(AnnalsError::Disk { .. }) | Ok(()) => {}
                Err(error) => return Err(error.into()),
            }
        }
        let written = changes.iter();
        let written = written.map(|change| serde_json::to_vec(change).expect("plain data"));
        let written: Vec<_> = written.collect();
        let appended = (self.annals).append(written.iter().map(Vec::as_slice), spare);
        self.stuck = appended.is_err();
        appended?;
        self.owed.clear();
        for change in changes {
            change
                .apply(&mut self.programs)
                .expect("what was wished fits what is known");
        }
        Ok(())
    }

    /// The seal over every change so far.
    #[must_use]
    pub fn seal(&self) -> Seal {
        self.annals.seal()
    }

    /// Whether anything became of programs that is not written.
    #[must_use]
    pub fn owes(&self) -> bool {
        !self.owed.is_empty()
    }

    /// How many programs' ends the disk has not taken.
    #[must_use]
    pub fn owed(&self) -> usize {
        if self.stuck { self.owed.len() } else { 0 }
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

impl Change {
    fn apply(self, programs: &mut BTreeMap<String, Record>) -> Result<(), String> {
        match self {
            Self::Given { name, record } => drop(programs.insert(name, record)),
            Self::Became { name, fate } => match programs.get_mut(&name) {
                Some(record) => record.fate = fate,
                None => {
                    return Err(format!(
                        "it says what became of {name:?}, which is not known"
                    ));
                }
            },
            Self::Forgotten { name } => drop(programs.remove(&name)),
        }
        Ok(())
    }
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
                devices: Vec::new(),
            },
            restart: Restart::OnFailure,
            fate: Fate::BEGINNING,
            group: None,
            deadline_unix_ms: None,
        }
    }

    fn give(store: &mut Store, names: &[&str]) {
        let given = names.iter().map(|name| ((*name).to_owned(), record()));
        store.write(&[Wish::Give(given.collect())]).unwrap();
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
            late: false,
        };
        give(&mut store, &["a", "b"]);
        give(&mut store, &["c"]);
        store.became("a", ended);
        store.became("b", ended);
        assert_eq!((store.owed.len(), store.owed()), (2, 0));
        store.write(&[Wish::Forget("b".to_owned())]).unwrap();
        drop(store);
        // Once as it was written, once more as the base of a new segment.
        for _ in 0..2 {
            let (mut store, _) = Store::open(folder.path()).unwrap();
            let names: Vec<_> = store.programs().keys().cloned().collect();
            assert_eq!(names, ["a", "c"]);
            assert_eq!((store.programs()["a"].fate, store.owed.len()), (ended, 0));
            store.begin_anew().unwrap();
        }
    }

    #[test]
    fn a_record_that_is_whole_and_unknown_is_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(folder.path()).unwrap();
        give(&mut store, &["a"]);
        store
            .annals
            .append([&br#"{"change":"painted","name":"a"}"#[..]], 0)
            .unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("record 2"), "{error}");
        assert!(error.contains("painted"), "{error}");
    }
}
