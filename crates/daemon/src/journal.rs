//! What a program says, kept within bounds.
//!
//! Standard output and standard error come through one pipe, so that what is read is in the order in
//! which it was said. It is kept as it came, in two files: when the newer reaches [`FILE_MAX`] bytes it
//! replaces the older. A reader follows by position, counted from the first byte ever said, and is told
//! when it was too slow and bytes are gone. Who has ended has no file open.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// No file of a journal is larger, in bytes; a journal has two.
pub const FILE_MAX: u64 = 4 << 20;

/// One program's journal. Its writer is the thread that reads the program's pipe.
#[derive(Debug)]
pub struct Journal {
    newer: PathBuf,
    older: PathBuf,
    state: Mutex<State>,
    more: Condvar,
    file_max: u64,
}

#[derive(Debug)]
struct State {
    /// To be appended to; opened again if there is something to append after it was closed.
    file: Option<File>,
    /// Position of the first byte of the older and of the newer file, and of the next to be written.
    older_from: u64,
    newer_from: u64,
    end: u64,
    /// Whether a writer may come back.
    open: bool,
    /// How many bytes could not be written since the last that could.
    unwritten: u64,
}

/// Opened to be appended to, by its owner alone.
fn begin(path: &Path) -> io::Result<File> {
    let file = File::options()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    Ok(file)
}

/// A piece of a journal.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// How many bytes before it are no longer kept.
    pub lost: u64,
    /// What was said.
    pub bytes: Vec<u8>,
    /// Where to go on.
    pub next: u64,
}

impl Journal {
    /// Opens the journal of this name in a folder, and goes on with what is there.
    ///
    /// # Errors
    /// If its files cannot be opened.
    pub fn open(folder: &Path, name: &str) -> io::Result<Self> {
        Self::with_bound(folder, name, FILE_MAX)
    }

    fn with_bound(folder: &Path, name: &str, file_max: u64) -> io::Result<Self> {
        let (newer, older) = (
            folder.join(format!("{name}.log")),
            folder.join(format!("{name}.log.1")),
        );
        let file = begin(&newer)?;
        let newer_from = fs::metadata(&older).map_or(0, |found| found.len());
        let end = newer_from + file.metadata()?.len();
        let state = State {
            file: Some(file),
            older_from: 0,
            newer_from,
            end,
            open: true,
            unwritten: 0,
        };
        Ok(Self {
            newer,
            older,
            state: Mutex::new(state),
            more: Condvar::new(),
            file_max,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change below is whole before the next can fail.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds what was said. What cannot be written is not kept, and how much that was is said in its place once there
    /// is room again.
    ///
    /// # Errors
    /// If it cannot be written; what fitted is kept.
    pub fn write(&self, said: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        if state.unwritten > 0 {
            let note = format!("\n[{} bytes could not be kept]\n", state.unwritten);
            if self.add(&mut state, note.as_bytes()).is_ok() {
                state.unwritten = 0;
            }
        }
        let before = state.end;
        let added = match state.unwritten {
            0 => self.add(&mut state, said),
            _ => Err(io::ErrorKind::StorageFull.into()),
        };
        state.unwritten += said.len() as u64 - (state.end - before);
        self.more.notify_all();
        added
    }

    fn add(&self, state: &mut State, mut said: &[u8]) -> io::Result<()> {
        while !said.is_empty() {
            let room = self.file_max - (state.end - state.newer_from).min(self.file_max);
            if room == 0 {
                fs::rename(&self.newer, &self.older)?;
                state.file = None;
                (state.older_from, state.newer_from) = (state.newer_from, state.end);
                continue;
            }
            let fits = usize::try_from(room).unwrap_or(usize::MAX).min(said.len());
            let file = match &mut state.file {
                Some(file) => file,
                none => none.insert(begin(&self.newer)?),
            };
            let written = file.write(&said[..fits])?;
            state.end += written as u64;
            said = &said[written..];
        }
        Ok(())
    }

    /// Says whether more may come; who follows a journal that is closed comes to its end.
    pub fn set_open(&self, open: bool) {
        let mut state = self.state();
        state.open = open;
        if !open {
            state.file = None;
        }
        drop(state);
        self.more.notify_all();
    }

    /// At most `most` bytes from a position on.
    ///
    /// # Errors
    /// If they cannot be read.
    pub fn read(&self, from: u64, most: usize) -> io::Result<Piece> {
        // Held while reading: the files must not change their names meanwhile.
        let state = self.state();
        let begin = from.clamp(state.older_from, state.end);
        let (path, file_from, file_end) = match begin < state.newer_from {
            true => (&self.older, state.older_from, state.newer_from),
            false => (&self.newer, state.newer_from, state.end),
        };
        let most = (most as u64).min(file_end - begin);
        let mut bytes = Vec::new();
        if most > 0 {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(begin - file_from))?;
            file.take(most).read_to_end(&mut bytes)?;
        }
        let next = begin + bytes.len() as u64;
        Ok(Piece {
            lost: begin.saturating_sub(from),
            bytes,
            next,
        })
    }

    /// Waits until there is more than `from`, or there will be none: then it says `false`. Comes back
    /// after `patience` at the latest, so that who waits can look around.
    #[must_use]
    pub fn wait(&self, from: u64, patience: Duration) -> bool {
        let state = self.state();
        let waited = self
            .more
            .wait_timeout_while(state, patience, |state| state.end <= from && state.open);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.open || state.end > from
    }

    /// Removes what was kept.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        let _held = self.state();
        for path in [&self.newer, &self.older] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_never_grows_beyond_two_files_and_says_what_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::with_bound(folder.path(), "x", 10).unwrap();
        let piece = |lost, bytes: &[u8], next| Piece {
            lost,
            bytes: bytes.to_vec(),
            next,
        };
        journal.write(b"0123456789abcdef").unwrap();
        assert_eq!(journal.read(0, 100).unwrap(), piece(0, b"0123456789", 10));
        assert_eq!(journal.read(10, 4).unwrap(), piece(0, b"abcd", 14));
        journal.write(b"ghijKLMNO").unwrap();
        assert_eq!(journal.read(0, 100).unwrap(), piece(10, b"abcdefghij", 20));
        assert_eq!(journal.read(20, 100).unwrap(), piece(0, b"KLMNO", 25));
        assert_eq!(journal.read(25, 100).unwrap(), piece(0, b"", 25));
        for entry in fs::read_dir(folder.path()).unwrap() {
            assert!(entry.unwrap().metadata().unwrap().len() <= 10);
        }
        drop(journal);
        let again = Journal::with_bound(folder.path(), "x", 10).unwrap();
        assert_eq!(again.read(10, 100).unwrap(), piece(0, b"KLMNO", 15));
    }

    #[test]
    fn who_has_ended_has_no_file_open_and_goes_on_if_it_speaks_again() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "x").unwrap();
        journal.write(b"ab").unwrap();
        let here = folder.path().canonicalize().unwrap();
        let open = || {
            let files = fs::read_dir("/proc/self/fd").unwrap().flatten();
            let files = files.filter_map(|file| fs::read_link(file.path()).ok());
            files.filter(|file| file.starts_with(&here)).count()
        };
        assert_eq!(open(), 1);
        journal.set_open(false);
        assert_eq!(open(), 0);
        journal.write(b"cd").unwrap();
        assert_eq!(journal.read(1, 100).unwrap().bytes, b"bcd");
        drop(journal);
        let again = Journal::open(folder.path(), "x").unwrap();
        again.write(b"ef").unwrap();
        assert_eq!(again.read(0, 100).unwrap().bytes, b"abcdef");
    }

    #[test]
    fn who_follows_a_closed_journal_comes_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::open(folder.path(), "x").unwrap();
        journal.write(b"ab").unwrap();
        let nobody_waits = Duration::ZERO;
        assert!(journal.wait(0, nobody_waits));
        assert!(journal.wait(2, nobody_waits), "it is open, more may come");
        journal.set_open(false);
        assert!(
            journal.wait(0, nobody_waits),
            "there is something to read yet"
        );
        assert!(!journal.wait(2, nobody_waits));
    }
}
