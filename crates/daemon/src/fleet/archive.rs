//! What a member must not forget: who it is, as which incarnation it spoke, where the others were, and which
//! invitations it gave out.
//!
//! One file, readable by its owner alone, because the keys are in it. Each change is durable when the call
//! returns (redb commits with a sync), and a founding or a joining is one change: killed at any moment, a
//! machine is in a fleet or is not.

use std::cell::RefCell;
use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

use super::book::Given;
use super::directory::{Entry, read_name};
use super::expulsion::Expulsions;

const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts");
const DIRECTORY: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("directory");
const INVITATIONS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("invitations");

const STANDING: &str = "standing";
const AUTHORITY: &str = "authority";
const INCARNATION: &str = "incarnation";
const ADDRESS: &str = "address";
const KEY: &str = "key";
const LIFE: &str = "life";
const VOTED: &str = "voted";
const EXPELLED: &str = "expelled";
const SHOWN: &str = "shown";

/// Why something could not be kept, or is kept no longer.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: String,
        /// What came of it.
        source: io::Error,
    },
    /// What is there is no such database any more.
    #[error(
        "{path}: what this machine knows of its fleet is damaged ({because}); without the file it founds a fleet of its own and needs an invitation to come back"
    )]
    Unreadable {
        /// Which.
        path: String,
        /// What was found.
        because: redb::Error,
    },
    /// The database says so; nothing of the operation took effect.
    #[error("the fleet's state: {0}")]
    Database(#[from] redb::Error),
    /// A record cannot be read.
    #[error("the fleet's state: {what} is damaged: {because}")]
    Damaged {
        /// Which.
        what: &'static str,
        /// What is wrong.
        because: DecodeError,
    },
}

impl ArchiveError {
    /// Whether another process has it open.
    #[must_use]
    pub fn is_held(&self) -> bool {
        matches!(self, Self::Database(redb::Error::DatabaseAlreadyOpen))
    }
}

/// What makes a machine a member.
#[derive(Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its key, PKCS #8.
    pub key: Vec<u8>,
    /// What the authority says of it, DER.
    pub certificate: Vec<u8>,
    /// The authority's own certificate, DER.
    pub authority: Vec<u8>,
    /// On which tile it sits.
    pub tile: Tile,
    /// What people call it.
    pub name: String,
    /// What all members share, and nobody else: the membership protocol's tags come from it.
    pub secret: [u8; 32],
}

impl Encode for Standing {
    fn encode(&self, out: &mut Vec<u8>) {
        self.key.encode(out);
        self.certificate.encode(out);
        self.authority.encode(out);
        self.tile.encode(out);
        self.name.as_bytes().encode(out);
        out.extend_from_slice(&self.secret);
    }
}

impl Decode for Standing {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: Vec::decode(from)?,
            certificate: Vec::decode(from)?,
            authority: Vec::decode(from)?,
            tile: Tile::decode(from)?,
            name: read_name(from)?,
            secret: from.bytes(32)?.try_into().expect("32 bytes"),
        })
    }
}

/// The file.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    /// Once a write has failed, for want of room say, redb answers no more until it is opened again. None if that failed too.
    database: RefCell<Option<Database>>,
}

fn opened(path: &Path) -> Result<Database, ArchiveError> {
    let at = |source| ArchiveError::File {
        path: path.display().to_string(),
        source,
    };
    // Before there is anything in it.
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    file.and_then(|file| file.set_permissions(Permissions::from_mode(0o600)))
        .map_err(at)?;
    Database::create(path).map_err(|error| match redb::Error::from(error) {
        redb::Error::DatabaseAlreadyOpen => ArchiveError::from(redb::Error::DatabaseAlreadyOpen),
        because => ArchiveError::Unreadable {
            path: path.display().to_string(),
            because,
        },
    })
}

impl Archive {
    /// Opens it, or makes it.
    ///
    /// # Errors
    /// If the file cannot be opened or is no database.
    pub fn open(path: &Path) -> Result<Self, ArchiveError> {
        let archive = Self {
            path: path.to_owned(),
            database: RefCell::new(Some(opened(path)?)),
        };
        archive.with(|database| {
            let write = database.begin_write()?;
            write.open_table(FACTS)?;
            write.open_table(DIRECTORY)?;
            write.open_table(INVITATIONS)?;
            Ok(write.commit()?)
        })?;
        Ok(archive)
    }

    fn with<T>(
        &self,
        does: impl Fn(&Database) -> Result<T, redb::Error>,
    ) -> Result<T, ArchiveError> {
        let mut kept = self.database.borrow_mut();
        if let Some(database) = kept.as_ref() {
            match does(database) {
                Err(redb::Error::PreviousIo) => *kept = None,
                done => return Ok(done?),
            }
        }
        let database = kept.insert(opened(&self.path)?);
        Ok(does(database)?)
    }

    fn fact(&self, name: &str) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(FACTS)?;
            Ok(table.get(name)?.map(|bytes| bytes.value().to_vec()))
        })
    }

    fn put(&self, facts: &[(&str, &[u8])]) -> Result<(), ArchiveError> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(FACTS)?;
                for (name, bytes) in facts {
                    table.insert(*name, *bytes)?;
                }
            }
            Ok(write.commit()?)
        })
    }

    /// What makes this machine a member, if it is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn standing(&self) -> Result<Option<Standing>, ArchiveError> {
        let what = "who this machine is";
        let damaged = |because| ArchiveError::Damaged { what, because };
        let bytes = self.fact(STANDING)?;
        bytes
            .map(|bytes| decode_all(&bytes).map_err(damaged))
            .transpose()
    }

    /// The authority's key, where it is kept.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn authority(&self) -> Result<Option<Vec<u8>>, ArchiveError> {
        Ok(self.fact(AUTHORITY)?.filter(|key| !key.is_empty()))
    }

    /// Becomes a member, of a fleet founded here if there is an authority's key, with what is known of the
    /// others. Whatever fleet this machine was in before is forgotten.
    ///
    /// # Errors
    /// If it could not be written; the former state holds.
    pub fn enter(
        &self,
        standing: &Standing,
        authority: Option<&[u8]>,
        others: &[Entry],
    ) -> Result<(), ArchiveError> {
        self.with(|database| {
            let write = database.begin_write()?;
            write.delete_table(DIRECTORY)?;
            write.delete_table(INVITATIONS)?;
            {
                let mut facts = write.open_table(FACTS)?;
                let standing = standing.to_bytes();
                let authority = authority.unwrap_or_default();
                for (name, bytes) in [(STANDING, standing.as_slice()), (AUTHORITY, authority)] {
                    facts.insert(name, bytes)?;
                }
                facts.remove(INCARNATION)?;
                facts.remove(VOTED)?;
                facts.remove(EXPELLED)?;
                let mut directory = write.open_table(DIRECTORY)?;
                for entry in others {
                    let bytes = entry.to_bytes();
                    directory.insert(entry.tile.0, bytes.as_slice())?;
                }
                write.open_table(INVITATIONS)?;
            }
            Ok(write.commit()?)
        })
    }

    /// The key this machine first asked to be taken in with, PKCS #8.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn key(&self) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.fact(KEY)
    }

    /// Keeps that.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_key(&self, key: &[u8]) -> Result<(), ArchiveError> {
        self.put(&[(KEY, key)])
    }

    /// The membership protocol's record of its last incarnation, if it ever spoke.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn incarnation(&self) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.fact(INCARNATION)
    }

    /// Keeps that record.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_incarnation(&self, record: &[u8]) -> Result<(), ArchiveError> {
        self.put(&[(INCARNATION, record)])
    }

    /// The digest of the invitation that this machine joined with last, if that was noted.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn shown(&self) -> Result<Option<Vec<u8>>, ArchiveError> {
        self.fact(SHOWN)
    }

    /// Keeps that.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_shown(&self, digest: &[u8; 32]) -> Result<(), ArchiveError> {
        self.put(&[(SHOWN, digest)])
    }

    /// How often this machine has asked to be told that, this time included: a number that is higher with each life.
    ///
    /// # Errors
    /// If it cannot be read or written.
    pub fn next_life(&self) -> Result<u64, ArchiveError> {
        let what = "how often this machine has started";
        let damaged = |because| ArchiveError::Damaged { what, because };
        let last = self.fact(LIFE)?;
        let last = last
            .map_or(Ok(0), |bytes| decode_all::<u64>(&bytes))
            .map_err(damaged)?;
        let life = last.saturating_add(1);
        self.put(&[(LIFE, &life.to_bytes())])?;
        Ok(life)
    }

    /// Whether this machine's vote in its fleet was ever written down; `Some(false)` if it was, and has been taken away.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn voted(&self) -> Result<Option<bool>, ArchiveError> {
        Ok(self.fact(VOTED)?.map(|bytes| bytes == [1]))
    }

    /// Keeps that.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_voted(&self, voted: bool) -> Result<(), ArchiveError> {
        self.put(&[(VOTED, &[voted.into()])])
    }

    /// Who was thrown out.
    pub(super) fn expelled(&self) -> Result<Expulsions, ArchiveError> {
        let what = "who was expelled";
        let damaged = |because| ArchiveError::Damaged { what, because };
        let bytes = self.fact(EXPELLED)?;
        bytes.map_or(Ok(Expulsions::default()), |bytes| {
            decode_all(&bytes).map_err(damaged)
        })
    }

    /// Keeps that.
    pub(super) fn put_expelled(&self, all: &Expulsions) -> Result<(), ArchiveError> {
        self.put(&[(EXPELLED, &all.to_bytes())])
    }

    /// Where this machine listened last, as it was written.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn address(&self) -> Result<Option<String>, ArchiveError> {
        Ok(self
            .fact(ADDRESS)?
            .and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// Keeps that.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_address(&self, address: &str) -> Result<(), ArchiveError> {
        self.put(&[(ADDRESS, address.as_bytes())])
    }

    /// Where the others were.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn directory(&self) -> Result<Vec<Entry>, ArchiveError> {
        let what = "the directory";
        let damaged = |because| ArchiveError::Damaged { what, because };
        let kept = self.with(|database| {
            let table = database.begin_read()?.open_table(DIRECTORY)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                all.push(entry?.1.value().to_vec());
            }
            Ok(all)
        })?;
        let entries = kept.iter().map(|bytes| decode_all(bytes).map_err(damaged));
        entries.collect()
    }

    /// Keeps where somebody is.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_entry(&self, entry: &Entry) -> Result<(), ArchiveError> {
        self.with(|database| {
            let write = database.begin_write()?;
            let bytes = entry.to_bytes();
            write
                .open_table(DIRECTORY)?
                .insert(entry.tile.0, bytes.as_slice())?;
            Ok(write.commit()?)
        })
    }

    /// The invitations that were given out, by the digest of their secret.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn invitations(&self) -> Result<Vec<([u8; 32], Given)>, ArchiveError> {
        let what = "an invitation";
        let damaged = |because| ArchiveError::Damaged { what, because };
        let kept = self.with(|database| {
            let table = database.begin_read()?.open_table(INVITATIONS)?;
            let mut all = Vec::new();
            for entry in table.iter()? {
                let (digest, given) = entry?;
                if let Ok(digest) = <[u8; 32]>::try_from(digest.value()) {
                    all.push((digest, given.value().to_vec()));
                }
            }
            Ok(all)
        })?;
        let given = kept.iter().map(|(digest, bytes)| {
            let given = decode_all(bytes).map_err(damaged)?;
            Ok((*digest, given))
        });
        given.collect()
    }

    /// Keeps what became of an invitation; `None` forgets it.
    ///
    /// # Errors
    /// If it could not be written; the former holds.
    pub fn put_invitation(
        &self,
        digest: &[u8; 32],
        given: Option<&Given>,
    ) -> Result<(), ArchiveError> {
        self.with(|database| {
            let write = database.begin_write()?;
            {
                let mut table = write.open_table(INVITATIONS)?;
                match given {
                    Some(given) => {
                        let bytes = given.to_bytes();
                        table.insert(digest.as_slice(), bytes.as_slice())?;
                    }
                    None => drop(table.remove(digest.as_slice())?),
                }
            }
            Ok(write.commit()?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_fleet_leaves_nothing_of_the_old_and_only_its_owner_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fleet.redb");
        let archive = Archive::open(&path).unwrap();
        assert!(archive.standing().unwrap().is_none());
        let standing = |tile| Standing {
            key: vec![1],
            certificate: vec![2],
            authority: vec![3],
            tile: Tile(tile),
            name: "a".into(),
            secret: [4; 32],
        };
        let entry = |tile| Entry {
            tile: Tile(tile),
            name: "b".into(),
            address: "127.0.0.1:1".parse().unwrap(),
            incarnation: 1,
        };
        archive.enter(&standing(0), Some(b"key"), &[]).unwrap();
        archive.put_entry(&entry(1)).unwrap();
        archive.put_incarnation(&[7]).unwrap();
        let given = Given {
            expires: 9,
            used: None,
        };
        archive.put_invitation(&[5; 32], Some(&given)).unwrap();
        assert_eq!(archive.authority().unwrap().as_deref(), Some(&b"key"[..]));
        assert_eq!(archive.invitations().unwrap(), [([5; 32], given)]);
        archive.enter(&standing(3), None, &[entry(2)]).unwrap();
        assert!(archive.standing().unwrap() == Some(standing(3)));
        assert_eq!(archive.authority().unwrap(), None);
        assert_eq!(archive.directory().unwrap(), [entry(2)]);
        assert_eq!(archive.incarnation().unwrap(), None);
        assert_eq!(archive.invitations().unwrap(), []);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
