//! What did an earlier run leave?
//!
//! [`Stored`] reads a run's directory back: the outcome from `summary.json`, its course from
//! `history.db`. It takes nothing on trust: the two must be of the same run, whole, and of
//! a version this program knows. Nothing is ever written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::history::VERSION;
use super::inputs::Fingerprint;
use super::{Group, Metric, Sample, Series, Summary};

/// A run, read back.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where it lies.
    pub directory: PathBuf,
    /// How it ended.
    pub summary: Summary,
    /// How it went: groups and marks, without map and cluster.
    pub series: Series,
}

/// Why a run cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// There is no such thing, or it may not be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// What was asked for.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A directory that is no run's.
    #[error("{} is no run: it holds no {missing}", path.display())]
    NoRun {
        /// The directory.
        path: PathBuf,
        /// The file it should hold.
        missing: &'static str,
    },
    /// JSON that is none, or says something else than expected.
    #[error("{}:{}:{}: {}; expected {expected}", path.display(), fault.line(), fault.column(), in_words(fault))]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and where.
        fault: serde_json::Error,
        /// What should have been there.
        expected: &'static str,
    },
    /// SQLite cannot make sense of a history.
    #[error("{} is damaged or no history: {source}", path.display())]
    History {
        /// The history.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A history has other bytes than the run left.
    #[error(
        "{} was changed after its run: found BLAKE3 {found:.12}…, expected {expected:.12}… as in {SEAL}",
        path.display()
    )]
    Changed {
        /// The history.
        path: PathBuf,
        /// Its BLAKE3.
        found: String,
        /// What it was.
        expected: String,
    },
    /// It can be read and cannot be right.
    #[error("{}: {what}", path.display())]
    Wrong {
        /// The file or directory.
        path: PathBuf,
        /// What was found and what was expected.
        what: String,
    },
}

/// What is wrong with JSON, without the place, which stands before it.
fn in_words(fault: &serde_json::Error) -> String {
    let text = fault.to_string();
    let reason = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(reason, _)| reason);
    match fault.classify() {
        serde_json::error::Category::Eof => "the file ends in the middle".to_owned(),
        serde_json::error::Category::Data => reason.to_owned(),
        _ => format!("this is no JSON ({reason})"),
    }
}

impl ReadError {
    pub(super) fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, source }
    }

    pub(super) fn json(
        path: &Path,
        expected: &'static str,
    ) -> impl FnOnce(serde_json::Error) -> Self {
        let path = path.to_owned();
        move |fault| Self::Json {
            path,
            fault,
            expected,
        }
    }

    pub(super) fn wrong(path: &Path, what: &str) -> Self {
        Self::Wrong {
            path: path.to_owned(),
            what: what.to_owned(),
        }
    }
}

/// The file of a run that holds what was decided.
pub(super) const HISTORY: &str = "history.db";

/// The file that holds its BLAKE3, so that nobody reads a history that is not the run's: its bytes may be changed by
/// whoever opens it with any tool.
pub(super) const SEAL: &str = "history.db.b3";

impl Stored {
    /// Reads a run's directory.
    ///
    /// # Errors
    /// If it does not exist, is no run's, or its files are torn, of another version, or of
    /// different runs.
    pub fn read(directory: &Path) -> Result<Self, ReadError> {
        if !directory.is_dir() {
            // Lets the operating system say what is the matter.
            fs::read_dir(directory).map_err(ReadError::file(directory))?;
        }
        for missing in ["summary.json", HISTORY] {
            if !directory.join(missing).is_file() {
                return Err(ReadError::NoRun {
                    path: directory.to_owned(),
                    missing,
                });
            }
        }
        let path = directory.join("summary.json");
        let text = fs::read_to_string(&path).map_err(ReadError::file(&path))?;
        let summary: Summary = serde_json::from_str(&text).map_err(ReadError::json(
            &path,
            "the summary.json of a run of this version",
        ))?;
        let Opened { db, hash, .. } = open(directory)?;
        if hash != format!("{:032x}", summary.history_hash) {
            let what = format!(
                "summary.json and history.db are of different runs: history hash {:032x} in the \
                 one, {hash} in the other",
                summary.history_hash
            );
            return Err(ReadError::wrong(directory, &what));
        }
        let path = directory.join(HISTORY);
        Ok(Self {
            directory: directory.to_owned(),
            summary,
            series: course(&db).map_err(|source| ReadError::History { path, source })?,
        })
    }
}

/// The history of a run, and what it says of the run as a whole.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Connection,
    pub(super) universe: String,
    pub(super) seed: u64,
    pub(super) kind: String,
    /// How far it got, in seconds.
    pub(super) seconds: f64,
    /// Whether it got to its end.
    pub(super) complete: bool,
    /// In hexadecimal digits.
    pub(super) hash: String,
}

/// Opens the history in a run's directory.
///
/// # Errors
/// If there is none, it is torn or of another version, or its run was killed.
pub(super) fn open(directory: &Path) -> Result<Opened, ReadError> {
    let opened = open_unverified(directory);
    // Whatever SQLite makes of it, a history that was changed is told as that.
    match (&opened, verify(directory)) {
        (Ok(_), verified) => verified?,
        (Err(_), Err(changed @ ReadError::Changed { .. })) => return Err(changed),
        (Err(_), _) => {}
    }
    opened
}

/// The same, whatever its seal says.
fn open_unverified(directory: &Path) -> Result<Opened, ReadError> {
    let path = directory.join(HISTORY);
    if !path.is_file() {
        return Err(ReadError::NoRun {
            path: directory.to_owned(),
            missing: HISTORY,
        });
    }
    let refused = |source| ReadError::History {
        path: path.clone(),
        source,
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    let db = Connection::open_with_flags(as_it_lies(&path), flags).map_err(refused)?;
    let version: u32 = db
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(refused)?;
    if version != VERSION {
        let what = format!("found tables of version {version}; expected {VERSION}");
        return Err(ReadError::wrong(&path, &what));
    }
    let query = "SELECT universe, seed, kind, simulated_seconds, complete, history_hash FROM runs";
    let row = db.query_row(query, [], |row| {
        Ok((
            row.get(0)?,
            row.get::<_, String>(1)?,
            row.get(2)?,
            row.get::<_, Option<f64>>(3)?,
            row.get(4)?,
            row.get(5)?,
        ))
    });
    match row {
        Ok((universe, seed, kind, seconds, complete, hash)) => Ok(Opened {
            db,
            universe,
            seed: seed.parse().unwrap_or(0),
            kind,
            seconds: seconds.unwrap_or(0.0),
            complete,
            hash,
        }),
        Err(rusqlite::Error::QueryReturnedNoRows) => {
            let what = "its run was stopped before it could be summed up";
            Err(ReadError::wrong(&path, what))
        }
        Err(source) => Err(refused(source)),
    }
}

/// What SQLite is to open for a file that nobody writes any more: as it lies, without what a log beside it would make of it,
/// and so that nothing is written beside it. See *Uniform Resource Identifiers* in SQLite's manual.
fn as_it_lies(path: &Path) -> std::ffi::OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut uri = match path.is_absolute() {
        true => b"file://".to_vec(),
        false => b"file:".to_vec(),
    };
    for &byte in path.as_os_str().as_bytes() {
        match byte {
            b'?' | b'#' | b'%' => uri.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            byte => uri.push(byte),
        }
    }
    uri.extend_from_slice(b"?immutable=1");
    std::ffi::OsString::from_vec(uri)
}

/// Compares a history with what its run left.
fn verify(directory: &Path) -> Result<(), ReadError> {
    let history = &directory.join(HISTORY);
    let seal = directory.join(SEAL);
    let line = match fs::read_to_string(&seal) {
        Ok(line) => line,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(ReadError::NoRun {
                path: directory.to_owned(),
                missing: SEAL,
            });
        }
        Err(source) => return Err(ReadError::file(&seal)(source)),
    };
    let found = Fingerprint::of(history).map_err(ReadError::file(history))?;
    let expected = line.split_whitespace().next().unwrap_or("");
    if expected.len() != found.blake3.len() || !expected.bytes().all(|b| b.is_ascii_hexdigit()) {
        let expected = "expected the BLAKE3 of history.db, 64 hexadecimal digits, and its name";
        let what = format!("found {:?}; {expected}", line.trim_end());
        return Err(ReadError::wrong(&seal, &what));
    }
    if expected == found.blake3 {
        return Ok(());
    }
    Err(ReadError::Changed {
        path: history.to_owned(),
        found: found.blake3,
        expected: expected.to_owned(),
    })
}

/// Groups with their samples, and the marks.
fn course(db: &Connection) -> Result<Series, rusqlite::Error> {
    let number = |value: Option<f64>| value.unwrap_or(f64::NAN);
    let mut query = db.prepare(
        "SELECT name, tiles, limit_kelvin, throttle_kelvin, setpoint FROM groups ORDER BY rowid",
    )?;
    let groups = query.query_map([], |row| {
        let tiles = row.get::<_, i64>(1)?.unsigned_abs();
        let [limit, throttle, setpoint] = [row.get(2)?, row.get(3)?, row.get(4)?].map(number);
        let name: String = row.get(0)?;
        Ok(Group::new(name, tiles, limit as f32, throttle as f32).below(setpoint))
    })?;
    let groups: Vec<Group> = groups.collect::<Result<_, _>>()?;
    let places: BTreeMap<String, usize> =
        (groups.iter().map(|g| g.name.clone()).zip(0..)).collect();

    // By the bits of the time, which sort like times that are not negative.
    let mut samples: BTreeMap<u64, Vec<Sample>> = BTreeMap::new();
    let mut query = db.prepare("SELECT seconds, group_name, metric, value FROM samples")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let (seconds, group, metric): (f64, String, String) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let metric = Metric::ALL.into_iter().find(|m| m.name() == metric);
        // A metric that a later version measures is left out.
        if let (Some(&group), Some(metric)) = (places.get(&group), metric) {
            let at = samples.entry(seconds.to_bits());
            let at = at.or_insert_with(|| vec![Sample::UNKNOWN; places.len()]);
            at[group].set(metric, row.get::<_, f64>(3)? as f32);
        }
    }
    let mut series = Series::new(groups, None);
    for (seconds, samples) in samples {
        series.push(f64::from_bits(seconds), &samples);
    }
    let mut query =
        db.prepare("SELECT seconds, detail FROM events WHERE kind = 'notable' ORDER BY rowid")?;
    let mut rows = query.query([])?;
    while let Some(row) = rows.next()? {
        let text: Option<String> = row.get(1)?;
        series.note(row.get(0)?, text.unwrap_or_default());
    }
    Ok(series)
}
