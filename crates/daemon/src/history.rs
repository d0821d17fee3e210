//! What this node decided, and because of what.
//!
//! Each [`Decision`] says what was done and why in the words that the twin uses ([`telemetry::decision`]), the numbers
//! that settled it, and which other decision caused it; so `why` walks back from a program that does not run to
//! whatever began it. They are kept in `history.db`, a SQLite file that anybody may open, up to [`KEPT`] of them.
//!
//! Nothing hangs on this file: what was acknowledged is in the [annals](crate::annals). So a commit here waits for no
//! disk, a power cut may cost the last second, and a file that cannot be read is put aside and begun anew.
//!
//! One thread writes and answers, in the order in which it was told; whoever decides only hands over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use rusqlite::{Connection, OptionalExtension as _, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use telemetry::{Action, Reason};

use crate::affairs::Decided;
use crate::control::{Answer, Listed};
use crate::heat::Heat;
use crate::news::unix_ms;
use crate::node::unknown_name;
use crate::reasons::Reasons;
use crate::supervision::Phase;

/// The file in a node's directory.
pub const FILE: &str = "history.db";

/// So many decisions are kept; older ones go.
pub const KEPT: u64 = 200_000;

/// An answer to why has at most so many decisions about its subject, the latest.
pub const TOLD_MAX: usize = 100;

/// So many may wait to be written; who decides more waits.
const WAITING_MAX: usize = 4096;

/// Something that was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Counted from 1 since the node has a history.
    pub number: u64,
    /// When, in milliseconds since 1970 by the host's clock.
    pub unix_ms: u64,
    /// About which program; none if about the machine.
    pub program: Option<String>,
    /// What was done.
    #[serde(with = "word")]
    #[schemars(with = "String")]
    pub action: Action,
    /// Why.
    #[serde(with = "word")]
    #[schemars(with = "String")]
    pub reason: Reason,
    /// What was measured, if that settled it: an exit code, a number of restarts, a temperature in degrees Celsius.
    pub found: Option<f64>,
    /// What it was held against, in the same unit.
    pub bound: Option<f64>,
    /// The decision that caused it.
    pub cause: Option<u64>,
    /// All of it in a sentence.
    pub said: String,
}

/// Why something is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Why {
    /// The program asked about, as it is; none if it was the machine.
    pub program: Option<Listed>,
    /// How it is and why, in a sentence.
    pub now: String,
    /// What was decided about it, and what caused that, oldest first.
    pub decisions: Vec<Decision>,
    /// What the fleet agreed on about it, if it was a machine or a program of the fleet, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agreed: Vec<Decided>,
    /// Why the fleet runs it where it does, if it is the fleet's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<Reasons>,
    /// What happened to it on the machine that was asked, if that ran it once and does not now: all else here is of where it is now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

impl Why {
    /// With nothing behind it yet.
    #[must_use]
    pub const fn of(program: Option<Listed>, now: String, decisions: Vec<Decision>) -> Self {
        Self {
            program,
            now,
            decisions,
            agreed: Vec::new(),
            fleet: None,
            earlier: None,
        }
    }
}

/// What a machine knows of something that it ran once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Earlier {
    /// Which machine.
    pub machine: String,
    /// How it is there and why, in a sentence.
    pub now: String,
    /// What that machine decided about it, oldest first.
    pub decisions: Vec<Decision>,
}

/// A decision that is being taken.
#[derive(Clone, Debug)]
pub(crate) struct Draft {
    action: Action,
    pub(crate) reason: Reason,
    program: Option<String>,
    found: Option<f64>,
    bound: Option<f64>,
    cause: Option<u64>,
}

impl Draft {
    pub(crate) fn new(action: Action, reason: Reason) -> Self {
        Self {
            action,
            reason,
            program: None,
            found: None,
            bound: None,
            cause: None,
        }
    }

    pub(crate) fn about(mut self, program: &str) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    pub(crate) fn found(mut self, found: f64) -> Self {
        self.found = Some(found);
        self
    }

    pub(crate) fn against(mut self, bound: f64) -> Self {
        self.bound = Some(bound);
        self
    }

    pub(crate) fn because_of(mut self, cause: Option<u64>) -> Self {
        self.cause = cause;
        self
    }
}

/// A vocabulary's words, as they are written.
trait Word: Copy + 'static {
    const ALL: &'static [Self];
    fn word(self) -> &'static str;
    fn read(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|one| one.word() == word)
    }
}

macro_rules! word {
    ($what:ty) => {
        impl Word for $what {
            const ALL: &'static [Self] = <$what>::ALL;
            fn word(self) -> &'static str {
                self.name()
            }
        }
    };
}
word!(Action);
word!(Reason);

mod word {
    use super::{Deserialize as _, Deserializer, Serializer, Word, de};

    pub(super) fn serialize<W: Word, S: Serializer>(word: &W, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(word.word())
    }

    pub(super) fn deserialize<'d, W: Word, D: Deserializer<'d>>(from: D) -> Result<W, D::Error> {
        let word = String::deserialize(from)?;
        W::read(&word).ok_or_else(|| de::Error::custom(format!("found the unknown word {word:?}")))
    }
}

/// How a history is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// How many decisions it holds.
    pub(crate) kept: u64,
    /// How many of them name their cause.
    pub(crate) caused: u64,
    /// What the file said the last time something could not be written or read, and how much that cost.
    pub(crate) failed: Option<String>,
}

enum Told {
    Decided(Box<Decision>),
    Why(Option<String>, SyncSender<Vec<Decision>>),
    Shape(SyncSender<Shape>),
}

/// The node's history, as whoever decides or asks has it.
#[derive(Clone, Debug)]
pub(crate) struct History {
    told: SyncSender<Told>,
    next: Arc<AtomicU64>,
}

impl History {
    /// Opens that of a node's directory, or begins it; and what was wrong with it, in a sentence.
    pub(crate) fn open(data: &Path) -> io::Result<(Self, Option<String>)> {
        let path = data.join(FILE);
        let (connection, damaged) = match begin(&path) {
            Ok(connection) => (connection, None),
            Err(error) => {
                let at = path.display();
                let again = if is_damage(&error) {
                    put_aside(&path).map_err(|error| error.to_string()).and_then(|aside| {
                        let connection = begin(&path).map_err(|error| error.to_string())?;
                        let aside = aside.display();
                        Ok((connection, format!("{at} cannot be read: {error}; it is kept in {aside}, and a new one begun")))
                    })
                } else {
                    Err(error.to_string())
                };
                // Nothing hangs on this file: a full disk keeps no node from starting.
                let (connection, said) = match again {
                    Ok(begun) => begun,
                    Err(error) => {
                        let connection = begin(Path::new(":memory:")).map_err(io::Error::other)?;
                        (
                            connection,
                            format!(
                                "{at}: {error}; what is decided is kept in memory until the next start"
                            ),
                        )
                    }
                };
                (connection, Some(said))
            }
        };
        let last: Option<u64> = connection
            .query_row("SELECT max(number) FROM decisions", [], |row| row.get(0))
            .map_err(io::Error::other)?;
        let (told, tells) = sync_channel(WAITING_MAX);
        let thread = thread::Builder::new()
            .name("history".into())
            .stack_size(512 << 10);
        thread.spawn(move || keep(connection, &tells))?;
        let next = Arc::new(AtomicU64::new(last.unwrap_or(0) + 1));
        Ok((Self { told, next }, damaged))
    }

    /// Records a decision; its number, by which others name it as their cause.
    pub(crate) fn decided(&self, draft: Draft, said: String) -> u64 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let Draft {
            action,
            reason,
            program,
            found,
            bound,
            cause,
        } = draft;
        let decision = Box::new(Decision {
            number,
            unix_ms: unix_ms(),
            program,
            action,
            reason,
            found,
            bound,
            cause,
            said,
        });
        let _ = self.told.send(Told::Decided(decision));
        number
    }

    /// What was decided about a program, or about the machine, and what caused it; oldest first.
    pub(crate) fn about(&self, program: Option<&str>) -> Vec<Decision> {
        self.ask(|answer| Told::Why(program.map(str::to_owned), answer))
            .unwrap_or_default()
    }

    /// Returns when everything that was decided is written.
    pub(crate) fn settle(&self) {
        let _ = self.shape();
    }

    /// How it is; none if nobody keeps it any more.
    pub(crate) fn shape(&self) -> Option<Shape> {
        self.ask(Told::Shape)
    }

    fn ask<T>(&self, told: impl FnOnce(SyncSender<T>) -> Told) -> Option<T> {
        let (answer, answered) = sync_channel(1);
        self.told.send(told(answer)).ok()?;
        answered.recv().ok()
    }
}

/// Why a program is as it is, or the machine if none is named.
pub(crate) fn why(listed: Answer, history: &History, heat: &Heat, name: Option<&str>) -> Answer {
    let listed = match listed {
        Answer::List { programs } => programs,
        other => return other,
    };
    let program = match name {
        None => None,
        Some(name) => match listed.into_iter().find(|program| program.name == name) {
            Some(program) => Some(program),
            None => {
                let because = unknown_name(name);
                return Answer::Refused { because };
            }
        },
    };
    let decisions = history.about(name);
    let latest = |is: &dyn Fn(&Decision) -> bool| decisions.iter().rfind(|one| is(one));
    let reading = heat.latest();
    let clock = heat.clock();
    let slowed = || {
        let given = format!("programs get {:.0} % of the processor", clock * 100.0);
        let slowed = latest(&|one| one.action == Action::Throttle);
        match slowed {
            Some(slowed) => format!("{given}: {} (#{})", slowed.said, slowed.number),
            None => given,
        }
    };
    let now = match &program {
        None => match (clock < 1.0, reading) {
            (true, _) => slowed(),
            (false, Some(reading)) => format!(
                "programs get the whole processor: it has {:.1} °C, and is slowed from {:.1} °C on",
                reading.temperature.celsius, reading.temperature.limit_celsius
            ),
            (false, None) => "programs get the whole processor".to_owned(),
        },
        Some(program) => {
            let said = latest(&|one| one.program.is_some() && one.program.as_deref() == name);
            let said = said.map_or("nothing was recorded about it", |one| one.said.as_str());
            let name = &program.name;
            let mut now = match program.phase {
                Phase::Running => format!("{name} runs; {said}"),
                Phase::Stopping => format!("{name} is ending; {said}"),
                _ => format!("{name} does not run; {said}"),
            };
            if clock < 1.0 && program.phase == Phase::Running {
                now += &format!("; {}", slowed());
            }
            now
        }
    };
    Answer::Why(Box::new(Why::of(program, now, decisions)))
}

fn begin(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA wal_autocheckpoint = 1000;
         CREATE TABLE IF NOT EXISTS decisions (
             number INTEGER PRIMARY KEY, unix_ms INTEGER NOT NULL, program TEXT, action TEXT NOT NULL,
             reason TEXT NOT NULL, found REAL, bound REAL, cause INTEGER, said TEXT NOT NULL);
         CREATE INDEX IF NOT EXISTS of_program ON decisions (program, number);",
    )?;
    // A file that is only looked at when somebody asks is found to be broken too late.
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    match found.as_str() {
        "ok" => Ok(connection),
        _ => Err(rusqlite::Error::InvalidColumnName(found)),
    }
}

/// Whether the file is broken, and not merely out of reach at the moment.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, DatabaseCorrupt | NotADatabase)
        }
        // What the check found.
        rusqlite::Error::InvalidColumnName(_) => true,
        _ => false,
    }
}

fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = path.with_extension("damaged");
    fs::rename(path, &aside)?;
    for more in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(more);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(aside)
}

fn keep(mut connection: Connection, told: &Receiver<Told>) {
    let (mut failed, mut lost) = (None::<String>, 0_u64);
    while let Ok(first) = told.recv() {
        // What came meanwhile shares a transaction.
        let mut asked = Vec::new();
        let mut decisions = Vec::new();
        for told in std::iter::once(first).chain(told.try_iter().take(WAITING_MAX)) {
            match told {
                Told::Decided(decision) => decisions.push(*decision),
                other => asked.push(other),
            }
        }
        if let Err(error) = write(&mut connection, &decisions) {
            lost += decisions.len() as u64;
            failed = Some(format!("{lost} decisions were not kept: {error}"));
        }
        for asked in asked {
            match asked {
                Told::Why(program, answer) => {
                    let found = about(&connection, program.as_deref()).unwrap_or_else(|error| {
                        failed = Some(error.to_string());
                        Vec::new()
                    });
                    let _ = answer.send(found);
                }
                Told::Shape(answer) => {
                    let counted = connection.query_row(
                        "SELECT count(*), count(cause) FROM decisions",
                        [],
                        |row| Ok((row.get(0)?, row.get(1)?)),
                    );
                    let (kept, caused) = counted.unwrap_or_else(|error| {
                        failed = Some(error.to_string());
                        (0, 0)
                    });
                    let failed = failed.clone();
                    let _ = answer.send(Shape {
                        kept,
                        caused,
                        failed,
                    });
                }
                Told::Decided(_) => {}
            }
        }
    }
}

fn write(connection: &mut Connection, decisions: &[Decision]) -> rusqlite::Result<()> {
    let Some(last) = decisions.last() else {
        return Ok(());
    };
    let transaction = connection.transaction()?;
    {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO decisions (number, unix_ms, program, action, reason, found, bound, cause, said)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        for decision in decisions {
            insert.execute(params![
                decision.number,
                decision.unix_ms,
                decision.program,
                decision.action.name(),
                decision.reason.name(),
                decision.found,
                decision.bound,
                decision.cause,
                decision.said,
            ])?;
        }
        let mut forget = transaction.prepare_cached("DELETE FROM decisions WHERE number <= ?")?;
        forget.execute([last.number.saturating_sub(KEPT)])?;
    }
    transaction.commit()
}

const COLUMNS: &str = "number, unix_ms, program, action, reason, found, bound, cause, said";

fn read(row: &Row<'_>) -> rusqlite::Result<Decision> {
    let text = |column: usize| row.get::<_, String>(column);
    let (action, reason) = (text(3)?, text(4)?);
    let unknown = |column, word: &str| {
        let because = format!("found the unknown word {word:?}; was it written by a newer cosmos?");
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, because.into())
    };
    Ok(Decision {
        number: row.get(0)?,
        unix_ms: row.get(1)?,
        program: row.get(2)?,
        action: Word::read(&action).ok_or_else(|| unknown(3, &action))?,
        reason: Word::read(&reason).ok_or_else(|| unknown(4, &reason))?,
        found: row.get(5)?,
        bound: row.get(6)?,
        cause: row.get(7)?,
        said: text(8)?,
    })
}

fn about(connection: &Connection, program: Option<&str>) -> rusqlite::Result<Vec<Decision>> {
    let mut found: BTreeMap<u64, Decision> = BTreeMap::new();
    let mut latest = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM decisions WHERE program IS ? ORDER BY number DESC LIMIT ?"
    ))?;
    for decision in latest.query_map(params![program, TOLD_MAX], read)? {
        let decision = decision?;
        found.insert(decision.number, decision);
    }
    // What slows or ends all programs is about each of them.
    if let Some(first) = found.keys().next().copied().filter(|_| program.is_some()) {
        let mut of_all = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM decisions WHERE program IS NULL AND number > ? ORDER BY number DESC LIMIT ?"
        ))?;
        for decision in of_all.query_map(params![first, TOLD_MAX], read)? {
            let decision = decision?;
            found.insert(decision.number, decision);
        }
    }
    let mut one =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM decisions WHERE number = ?"))?;
    let mut missing: BTreeSet<u64> = found.values().filter_map(|one| one.cause).collect();
    // The latest first; who restarts for ever has causes without end.
    for _ in 0..TOLD_MAX {
        let Some(number) = missing.pop_last() else {
            break;
        };
        if found.contains_key(&number) {
            continue;
        }
        if let Some(decision) = one.query_row([number], read).optional()? {
            missing.extend(decision.cause);
            found.insert(number, decision);
        }
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> History {
        let (history, damaged) = History::open(folder).unwrap();
        assert_eq!(damaged, None);
        history
    }

    #[test]
    fn a_cause_is_found_by_whoever_asks_about_its_effect_also_after_a_start() {
        let folder = tempfile::tempdir().unwrap();
        let history = open(folder.path());
        let draft = |action, reason| Draft::new(action, reason);
        let hot = draft(Action::Throttle, Reason::NearLimit)
            .found(91.0)
            .against(90.0);
        let hot = history.decided(hot, "hot".into());
        let fell = draft(Action::End, Reason::Failed).about("a").found(3.0);
        let fell = history.decided(fell, "a ended with 3".into());
        let with = draft(Action::Stop, Reason::GroupFell)
            .about("b")
            .because_of(Some(fell));
        history.decided(with, "b goes with a".into());
        history.settle();
        let history = open(folder.path());
        let numbers = |program| {
            let told = history.about(program);
            told.iter().map(|one| one.number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(Some("b")), [fell, 3]);
        assert_eq!(numbers(None), [hot]);
        assert_eq!(
            history.decided(draft(Action::End, Reason::Failed), "x".into()),
            4
        );
        // What the machine decided after a program began is about it too.
        assert_eq!(numbers(Some("a")), [fell, 4]);
        let shape = history.shape().unwrap();
        assert_eq!((shape.kept, shape.caused, shape.failed), (4, 1, None));
        let told = &history.about(Some("b"))[1];
        let spelled = serde_json::to_value(told).unwrap();
        assert_eq!(spelled["reason"], "its group falls and rises together");
        assert_eq!(&serde_json::from_value::<Decision>(spelled).unwrap(), told);
    }

    #[test]
    fn a_file_that_is_no_history_is_put_aside_and_said() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), "no database at all".repeat(100)).unwrap();
        let (history, damaged) = History::open(folder.path()).unwrap();
        assert!(damaged.unwrap().contains("history.damaged"));
        history.decided(Draft::new(Action::Start, Reason::Asked), "x".into());
        assert_eq!(history.about(None).len(), 1);
        assert!(folder.path().join("history.damaged").exists());
    }
}
