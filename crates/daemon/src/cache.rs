//! Compiled code, kept by what it was compiled from.
//!
//! Compiling is most of a capsule's start, and gives the same code for the same bytes, the same
//! settings and the same compiler. So an entry is named by the BLAKE3 of those, and carries the
//! BLAKE3 of itself in front: what was torn or flipped is *seen* and compiled anew. That matters
//! more here than elsewhere, because compiled code is executed as it lies on disk.
//!
//! The hash finds accidents, not enemies: who can write into the data directory could write code
//! with the right hash. The directory therefore belongs to its owner alone (mode 0700), and so
//! does everything in it.
//!
//! Deliberately absent: an upper bound of its size, and anything that removes old entries.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The folder with the entries.
#[derive(Debug)]
pub struct Cache {
    folder: PathBuf,
}

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(blake3::Hash);

/// What the cache holds under a key.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry {
    /// What was put there, byte for byte.
    Whole(Vec<u8>),
    /// Something else; whoever asked should put it there anew.
    Corrupt,
    /// Nothing.
    Absent,
}

impl Key {
    /// Of code compiled from these bytes in this way; `how` names compiler, version and settings.
    #[must_use]
    pub fn of(bytes: &[u8], how: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("cosmos compiled code v1");
        hasher.update(blake3::hash(how.as_bytes()).as_bytes());
        hasher.update(bytes);
        Self(hasher.finalize())
    }
}

impl Cache {
    /// In this folder, which is made on the first write.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Where an entry lies.
    #[must_use]
    pub fn path(&self, key: Key) -> PathBuf {
        self.folder.join(key.0.to_hex().as_str())
    }

    /// Reads an entry. One that cannot be read is absent: a cache can only help.
    #[must_use]
    pub fn read(&self, key: Key) -> Entry {
        let Ok(mut bytes) = fs::read(self.path(key)) else {
            return Entry::Absent;
        };
        let Some((sum, code)) = bytes.split_first_chunk::<{ blake3::OUT_LEN }>() else {
            return Entry::Corrupt;
        };
        if blake3::hash(code) != *sum {
            return Entry::Corrupt;
        }
        bytes.drain(..blake3::OUT_LEN);
        Entry::Whole(bytes)
    }

    /// Writes an entry aside and renames it, so that a reader sees all of it or none.
    ///
    /// # Errors
    /// If the folder cannot be written; nothing is under the key's name that was not before.
    pub fn write(&self, key: Key, code: &[u8]) -> io::Result<()> {
        make_private(&self.folder)?;
        let path = self.path(key);
        let aside = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = fs::File::create(&aside)?;
        let written = file
            .write_all(blake3::hash(code).as_bytes())
            .and_then(|()| file.write_all(code))
            .and_then(|()| fs::rename(&aside, &path));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }
}

/// Makes a folder and those above it, for its owner only.
///
/// # Errors
/// As the file system.
pub fn make_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_whole_corrupt_or_absent() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("code"));
        let key = Key::of(b"module", "how");
        assert_eq!(cache.read(key), Entry::Absent);
        cache.write(key, b"machine code").unwrap();
        assert_eq!(cache.read(key), Entry::Whole(b"machine code".to_vec()));
        let whole = fs::read(cache.path(key)).unwrap();
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 1;
            fs::write(cache.path(key), &flipped).unwrap();
            assert_eq!(cache.read(key), Entry::Corrupt, "byte {place}");
            fs::write(cache.path(key), &whole[..place]).unwrap();
            assert_eq!(cache.read(key), Entry::Corrupt, "cut at {place}");
        }
    }

    #[test]
    fn other_bytes_and_other_settings_have_other_keys() {
        let key = Key::of(b"module", "how");
        assert_ne!(key, Key::of(b"modulE", "how"));
        assert_ne!(key, Key::of(b"module", "How"));
        assert_ne!(Key::of(b"ab", "c"), Key::of(b"b", "ca"));
    }
}
