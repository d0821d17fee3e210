//! How was it before?
//!
//! Some of what a node sets outlives its process: a processor's highest frequency, a GPU's power limit. What they were is written down before the
//! first is touched, and set back when the node ends, or when it starts again after a death. What is set back is forgotten.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// What things were set to, by their names.
pub type Settings = BTreeMap<String, u64>;

/// The file in which it is kept.
#[derive(Debug)]
pub struct Before(PathBuf);

impl Before {
    /// Kept in this file.
    #[must_use]
    pub const fn at(file: PathBuf) -> Self {
        Self(file)
    }

    /// What was written down and has not been set back; nothing if nothing was.
    #[must_use]
    pub fn written(&self) -> Option<Settings> {
        serde_json::from_slice(&fs::read(&self.0).ok()?).ok()
    }

    /// Writes down, all or nothing, and onto the disk.
    ///
    /// # Errors
    /// If it cannot be written. Nothing is to be set then.
    pub fn write(&self, settings: &Settings) -> io::Result<()> {
        let beside = self.0.with_extension("new");
        let mut file = File::create(&beside)?;
        file.write_all(&serde_json::to_vec(settings)?)?;
        file.sync_all()?;
        fs::rename(beside, &self.0)
    }

    /// It is as it was.
    pub fn forget(&self) {
        let _ = fs::remove_file(&self.0);
    }
}
