//! What a node remembers: which programs it was given, and what became of each.
//!
//! Every change is on disk before anybody is told of it (redb commits with a sync), so what was
//! acknowledged outlives a crash at any moment.

use std::path::Path;

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use serde::{Deserialize, Serialize};

use crate::program::Program;
use crate::supervision::Restart;

/// Programs by name, each a [`Record`] in JSON.
const PROGRAMS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("programs");

/// What is remembered of one program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What is to run.
    pub program: Program,
    /// When it is started again.
    pub restart: Restart,
    /// Whether it should run: a node that starts resumes it.
    pub wanted: bool,
    /// Its last exit code, if it has ended for good.
    pub code: Option<u8>,
    /// How often it was started.
    pub starts: u64,
}

/// Why nothing could be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database says so; nothing of the operation took effect.
    #[error("the node's state: {0}")]
    Database(#[from] redb::Error),
    /// A record cannot be read.
    #[error("the node's state: the record of {name:?} is damaged: {because}")]
    Record {
        /// The program.
        name: String,
        /// What is wrong.
        because: serde_json::Error,
    },
}

impl StoreError {
    /// Whether another process has it open.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Database(redb::Error::DatabaseAlreadyOpen))
    }
}

/// The node's state on disk.
#[derive(Debug)]
pub struct Store(Database);

impl Store {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If the file cannot be opened or is no database.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let database = Database::create(path).map_err(redb::Error::from)?;
        let write = database.begin_write().map_err(redb::Error::from)?;
        write.open_table(PROGRAMS).map_err(redb::Error::from)?;
        write.commit().map_err(redb::Error::from)?;
        Ok(Self(database))
    }

    /// Everything, by name.
    ///
    /// # Errors
    /// If something cannot be read.
    pub fn all(&self) -> Result<Vec<(String, Record)>, StoreError> {
        let read = self.0.begin_read().map_err(redb::Error::from)?;
        let table = read.open_table(PROGRAMS).map_err(redb::Error::from)?;
        let mut all = Vec::new();
        for entry in table.iter().map_err(redb::Error::from)? {
            let (name, record) = entry.map_err(redb::Error::from)?;
            let name = name.value().to_owned();
            let record = serde_json::from_slice(record.value());
            match record {
                Ok(record) => all.push((name, record)),
                Err(because) => return Err(StoreError::Record { name, because }),
            }
        }
        Ok(all)
    }

    /// Remembers a program, or forgets it; durable when this returns.
    ///
    /// # Errors
    /// If it could not be written; the former state holds.
    pub fn put(&self, name: &str, record: Option<&Record>) -> Result<(), StoreError> {
        let write = self.0.begin_write().map_err(redb::Error::from)?;
        {
            let mut table = write.open_table(PROGRAMS).map_err(redb::Error::from)?;
            let old = match record {
                Some(record) => {
                    let record = serde_json::to_vec(record).expect("a record is plain data");
                    table.insert(name, record.as_slice())
                }
                None => table.remove(name),
            };
            old.map_err(redb::Error::from)?;
        }
        write.commit().map_err(redb::Error::from)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Limits;

    #[test]
    fn what_was_put_is_there_when_it_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.redb");
        let program = Program {
            path: "/bin/true".into(),
            name: "true".into(),
            arguments: vec!["a".into()],
            environment: vec![("K".into(), "V".into())],
            directory: "/".into(),
            folders: Vec::new(),
            limits: Limits::default(),
        };
        let (restart, wanted, code, starts) = (Restart::OnFailure, true, None, 3);
        let record = Record {
            program,
            restart,
            wanted,
            code,
            starts,
        };
        let store = Store::open(&path).unwrap();
        store.put("a", Some(&record)).unwrap();
        store.put("b", Some(&record)).unwrap();
        store.put("b", None).unwrap();
        drop(store);
        assert_eq!(
            Store::open(&path).unwrap().all().unwrap(),
            [("a".to_owned(), record)]
        );
    }
}
