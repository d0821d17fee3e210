//! From what was this run made?
//!
//! A run is a function of its universe, its settings, its lists and its seed. `history.db`
//! keeps the first two whole and a fingerprint of every list, so that a moment of the run
//! can be visited again, or somebody is told that it cannot: lists that were changed
//! would give another run with the same name.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::site::jobs::Format;

/// What a run was made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inputs {
    /// What errors call the universe's file.
    pub universe: String,
    /// Its text.
    pub text: String,
    /// What was changed in it, as it was written.
    pub settings: Vec<String>,
    /// The folder its lists are in.
    pub folder: Option<PathBuf>,
    /// Lists of jobs in place of the universe's own.
    pub jobs: Vec<PathBuf>,
    /// How these are written, if that was said.
    pub format: Option<Format>,
    /// Every file that was read, in order.
    pub files: Vec<Fingerprint>,
    /// The version of the twin.
    pub version: String,
}

/// A file as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// Where it lies: relative to the folder if it lies in it, absolute else.
    pub path: PathBuf,
    /// How long it is.
    pub bytes: u64,
    /// The BLAKE3 of its bytes, in hexadecimal digits.
    pub blake3: String,
}

/// Why a run cannot be made again from its inputs.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// A file cannot be read.
    #[error(
        "cannot read {}, from which the run was made: {source}; say where it is now with --trace DIR",
        path.display()
    )]
    Gone {
        /// Which.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A file has other bytes.
    #[error(
        "{} is not what the run was made from: found {found_bytes} bytes with BLAKE3 {found:.12}…, \
         expected {expected_bytes} bytes with {expected:.12}…; nothing was simulated",
        path.display()
    )]
    Changed {
        /// Which.
        path: PathBuf,
        /// Its length.
        found_bytes: u64,
        /// Its BLAKE3.
        found: String,
        /// Its length then.
        expected_bytes: u64,
        /// Its BLAKE3 then.
        expected: String,
    },
}

impl Fingerprint {
    /// Reads a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut hasher = blake3::Hasher::new();
        let mut file = File::open(path)?;
        let mut block = vec![0; 1 << 16];
        let mut bytes = 0;
        loop {
            let read = file.read(&mut block)?;
            if read == 0 {
                break;
            }
            hasher.update(&block[..read]);
            bytes += read as u64;
        }
        Ok(Self {
            path: path.to_owned(),
            bytes,
            blake3: hasher.finalize().to_hex().to_string(),
        })
    }

    /// Its BLAKE3 and its name, as `b3sum` writes and checks them.
    #[must_use]
    pub fn as_line(&self) -> String {
        let name = self.path.file_name().unwrap_or_default();
        format!("{}  {}\n", self.blake3, name.to_string_lossy())
    }
}

impl Inputs {
    /// Takes the fingerprint of each of these files.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn read(&mut self, files: &[PathBuf]) -> io::Result<()> {
        self.folder = self.folder.as_deref().map(Path::canonicalize).transpose()?;
        for path in files {
            let whole = path.canonicalize()?;
            let mut print = Fingerprint::of(&whole)?;
            if let Some(folder) = &self.folder
                && let Ok(inside) = whole.strip_prefix(folder)
            {
                print.path = inside.to_owned();
            }
            self.files.push(print);
        }
        Ok(())
    }

    /// Compares every file with what it was, those of the folder in `folder` if they
    /// have moved there.
    ///
    /// # Errors
    /// The first that is gone or has changed.
    pub fn verify(&self, folder: Option<&Path>) -> Result<(), InputError> {
        let folder = folder.or(self.folder.as_deref()).unwrap_or(Path::new(""));
        for expected in &self.files {
            let path = folder.join(&expected.path);
            let found = Fingerprint::of(&path);
            let found = found.map_err(|source| InputError::Gone {
                path: path.clone(),
                source,
            })?;
            if (found.bytes, &found.blake3) != (expected.bytes, &expected.blake3) {
                return Err(InputError::Changed {
                    path,
                    found_bytes: found.bytes,
                    found: found.blake3,
                    expected_bytes: expected.bytes,
                    expected: expected.blake3.clone(),
                });
            }
        }
        Ok(())
    }
}
