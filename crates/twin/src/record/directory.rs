//! When does a run exist?
//!
//! All at once. A run is built in a hidden sibling of the place it will have, on the
//! same file system, and renamed when it is whole. A request that fails, or a
//! program that panics, leaves nothing behind; one that is about to exit in the middle
//! calls [`RunDirectory::abandon_all`]; one killed outright leaves a sibling whose name
//! begins with a dot.
//!
//! A run is never written over another: the name is claimed by making an empty
//! directory, which fails if there is one, and the rename replaces that.
//!
//! Why so: docs/decisions/2026-11-21-a-run-appears-whole.md.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::inputs::Fingerprint;
use super::{History, RecordError, Series, Summary};
use super::{report, stored};

/// A run on its way to disk. Dropped, it takes everything with it.
#[derive(Debug)]
pub struct RunDirectory {
    /// Declared before `made`, so dropped before it: its parent empties first.
    building: TempDir,
    place: Place,
    /// Held to be dropped: undoes the making of the parent.
    made: Option<MadeParents>,
}

/// A run that this process is building.
#[derive(Debug)]
struct Unfinished {
    building: PathBuf,
    /// Directories made for it, innermost first.
    made: Vec<PathBuf>,
}

/// Every run being built. Nothing of a run depends on it; it is there for a process that
/// exits without unwinding, which drops nothing.
static UNFINISHED: Mutex<Vec<Unfinished>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<Unfinished>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often a directory is emptied that another thread still writes into.
const ATTEMPTS: u32 = 10;

impl Drop for RunDirectory {
    fn drop(&mut self) {
        unfinished().retain(|run| run.building != self.building.path());
    }
}

#[derive(Debug)]
enum Place {
    /// `mercury-seed7`, or `mercury-seed7-2` and so on if that is taken.
    Free(PathBuf),
    /// As the user said.
    Exactly(PathBuf),
}

impl RunDirectory {
    /// Begins a run that will be `<root>/<universe>-seed<seed>`, with `-2`, `-3`, …
    /// behind it if there are such runs already. Makes `root` if it is missing.
    pub fn begin(root: &Path, universe: &str, seed: u64) -> Result<Self, RecordError> {
        let name = format!("{}-seed{seed}", file_name(universe));
        Self::build(root, Place::Free(root.join(name)))
    }

    /// Begins what is not one run, with this name in `root`, or `-2`, `-3`, … behind it.
    pub fn begin_as(root: &Path, name: &str) -> Result<Self, RecordError> {
        Self::build(root, Place::Free(root.join(file_name(name))))
    }

    /// Begins a run that will be exactly here; refused if something is.
    pub fn begin_at(path: &Path) -> Result<Self, RecordError> {
        // Asked now as well as at the end, since a run can take hours.
        if path.symlink_metadata().is_ok() {
            let path = path.to_owned();
            return Err(RecordError::Exists { path });
        }
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        Self::build(parent, Place::Exactly(path.to_owned()))
    }

    fn build(parent: &Path, place: Place) -> Result<Self, RecordError> {
        let made = MadeParents::make(parent).map_err(file("create", parent))?;
        let (Place::Free(path) | Place::Exactly(path)) = &place;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut builder = tempfile::Builder::new();
        let prefix = format!(".{name}.");
        builder.prefix(&prefix);
        // A private mode is for secrets; a run is as readable as any other output.
        #[cfg(unix)]
        let umasked = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        #[cfg(unix)]
        builder.permissions(umasked);
        let building = builder
            .tempdir_in(parent)
            .map_err(file("create a directory in", parent))?;
        unfinished().push(Unfinished {
            building: building.path().to_owned(),
            made: made.as_ref().map_or(Vec::new(), |made| made.0.clone()),
        });
        Ok(Self {
            building,
            place,
            made,
        })
    }

    /// Takes away every run this process is building, for a process about to exit
    /// without unwinding. Gives what could not be taken away. No run that is whole is
    /// touched: one about to get its name gets it first.
    #[must_use]
    pub fn abandon_all() -> Vec<PathBuf> {
        let mut left = Vec::new();
        for Unfinished { building, made } in unfinished().drain(..) {
            // Another thread may be making files there while these are removed.
            let gone = |_| fs::remove_dir_all(&building).is_ok() || !building.exists();
            if !(0..ATTEMPTS).any(gone) {
                left.push(building);
            }
            for parent in made {
                let _ = fs::remove_dir(parent);
            }
        }
        left
    }

    /// Where a file of the run lies while it is built.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.building.path().join(name)
    }

    /// Begins `history.db`.
    pub fn history(&self) -> Result<History, RecordError> {
        History::create(&self.path(stored::HISTORY))
    }

    /// Writes one file of the run.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RecordError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(file("write", &path))
    }

    /// Writes all files and gives the run its name, which it returns. A run that
    /// was stopped says so in its summary and is kept the same way.
    pub fn finish(
        self,
        mut history: History,
        summary: &Summary,
        series: &Series,
    ) -> Result<PathBuf, RecordError> {
        history.series(series)?;
        history.finish(summary)?;
        let history = self.path(stored::HISTORY);
        let print = Fingerprint::of(&history).map_err(file("read", &history))?;
        self.write(stored::SEAL, &print.as_line())?;
        self.write("summary.json", &summary.to_json())?;
        let page = self.path("report.html");
        fs::File::create(&page)
            .map(io::BufWriter::new)
            .and_then(|mut to| {
                report::write_run_page(&mut to, summary, series)?;
                io::Write::flush(&mut to)
            })
            .map_err(file("write", &page))?;
        self.keep()
    }

    /// Gives what was written so far its name, which it returns.
    pub fn keep(mut self) -> Result<PathBuf, RecordError> {
        let parts = fs::read_dir(self.building.path());
        for part in parts.map_err(file("read", self.building.path()))? {
            let path = part.map_err(file("read", self.building.path()))?.path();
            // Before the rename, so that no crash can show a whole directory of empty files.
            fs::File::open(&path)
                .and_then(|part| part.sync_all())
                .map_err(file("write", &path))?;
        }
        // Whoever abandons runs waits until this one has its name.
        let mut others = unfinished();
        let path = self.claim()?;
        if let Err(source) = fs::rename(self.building.path(), &path) {
            let _ = fs::remove_dir(&path);
            return Err(file("rename the finished run to", &path)(source));
        }
        others.retain(|run| run.building != self.building.path());
        drop(others);
        self.building.disable_cleanup(true);
        self.made = None;
        Ok(path)
    }

    /// Makes an empty directory that nobody else has.
    fn claim(&self) -> Result<PathBuf, RecordError> {
        let mut number = 1_u64;
        loop {
            let path = match &self.place {
                Place::Free(path) if number > 1 => {
                    let mut name = path.clone().into_os_string();
                    name.push(format!("-{number}"));
                    PathBuf::from(name)
                }
                Place::Free(path) | Place::Exactly(path) => path.clone(),
            };
            match (fs::create_dir(&path), &self.place) {
                (Ok(()), _) => return Ok(path),
                (Err(e), Place::Free(_)) if e.kind() == ErrorKind::AlreadyExists => number += 1,
                (Err(e), Place::Exactly(_)) if e.kind() == ErrorKind::AlreadyExists => {
                    return Err(RecordError::Exists { path });
                }
                (Err(source), _) => return Err(file("create", &path)(source)),
            }
        }
    }
}

/// Directories made on the way to a run. Dropped, it removes those still empty.
#[derive(Debug)]
struct MadeParents(Vec<PathBuf>);

impl MadeParents {
    /// Makes what is missing of `path`; `None` if nothing is.
    fn make(path: &Path) -> io::Result<Option<Self>> {
        let missing = path
            .ancestors()
            .take_while(|p| *p != Path::new("") && !p.exists());
        let made = Self(missing.map(Path::to_owned).collect());
        fs::create_dir_all(path)?;
        Ok((!made.0.is_empty()).then_some(made))
    }
}

impl Drop for MadeParents {
    fn drop(&mut self) {
        for path in &self.0 {
            // Innermost first; one that is not empty has become somebody's.
            let _ = fs::remove_dir(path);
        }
    }
}

fn file(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::File {
        doing,
        path,
        source,
    }
}

/// A universe's name as part of a file name: letters, digits, `-`, `_` and inner dots.
fn file_name(universe: &str) -> String {
    let safe = |c: char| match c {
        c if c.is_alphanumeric() => c,
        '-' | '_' | '.' => c,
        _ => '-',
    };
    // At most 48 × 4 bytes: with seed, number and the sibling's suffix still within the
    // 255 a file name may have.
    let name: String = universe.chars().map(safe).take(48).collect();
    match name.trim_matches(['.', '-']) {
        "" => "universe".to_owned(),
        name => name.to_owned(),
    }
}
