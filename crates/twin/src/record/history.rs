//! Why did that happen?
//!
//! `history.db`, an SQLite file for whoever asks, with any tool that speaks SQL:
//!
//! ```sql
//! SELECT round(seconds) AS t, action, reason, found, bound FROM decisions
//! WHERE work = 17 ORDER BY seconds;
//! ```
//!
//! The file describes itself: `SELECT * FROM schema`. What brought a record about is one number in
//! it, `cause`: docs/decisions/2026-11-21-a-record-names-its-cause.md.
//!
//! It is written fast and made safe late. Until [`History::finish`] it has no journal
//! and is never synced: a run that dies takes its hidden directory with it
//! ([`super::RunDirectory`]), so there is nothing a half-written file could harm.
//! Rows are bound from a buffer in batches and indexes are built once, at the end:
//! 1.2 to 1.8 million decisions per second, 0.5 million with the indexes, 107 bytes
//! each (`examples/history_speed.rs`, two busy cores). A megabyte of pages is kept, which an hour of a site fills as well as
//! a day. Dropped without
//! `finish`, a history is still whole and readable but its `runs` table is empty.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use telemetry::Decision;

use super::{Inputs, Metric, RecordError, Series, Summary};
use crate::observer::Link;
use crate::site::jobs::Format;

/// The version of the tables, also in `PRAGMA user_version`. It grows when a column
/// changes its name or meaning, not when one is added.
pub const VERSION: u32 = 1;

/// A history being written.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
    decisions: Vec<DecisionRow>,
    events: Vec<EventRow>,
    jobs: Vec<JobRow>,
    /// Bytes of what is buffered, about.
    buffered: usize,
    closed: bool,
}

/// A row of `jobs`.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRow {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: Box<str>,
    /// Whose it is.
    pub tenant: Box<str>,
    /// Tasks that start together.
    pub tasks: u16,
    /// GPUs of all of them.
    pub gpus: f64,
    /// What it asks for, in words.
    pub wants: Box<str>,
    /// When it came, s.
    pub arrival: f64,
    /// When it first started, s.
    pub start: Option<f64>,
    /// When it ended, s.
    pub end: Option<f64>,
    /// Where its tasks last ran.
    pub nodes: Vec<u32>,
    /// What became of it, in a word.
    pub outcome: &'static str,
}

/// Bytes bound per transaction: large enough that the statement is looked up rarely, small
/// enough to stay in cache. Counted in bytes because a site's decisions have a page of
/// text each, and rows of it would be megabytes that a short run does not fill.
const BATCH: usize = 384 << 10;

#[derive(Debug)]
struct DecisionRow {
    decision: Decision,
    cell: Option<u64>,
    count: u64,
    detail: Option<Box<str>>,
    link: Link,
}

#[derive(Debug)]
struct EventRow {
    seconds: f64,
    kind: &'static str,
    subject: Option<u64>,
    detail: Option<Box<str>>,
    link: Link,
}

struct Table {
    name: &'static str,
    meaning: &'static str,
    columns: &'static [Column],
}

struct Column {
    name: &'static str,
    sql: &'static str,
    unit: &'static str,
    meaning: &'static str,
}

const fn column(
    name: &'static str,
    sql: &'static str,
    unit: &'static str,
    meaning: &'static str,
) -> Column {
    Column {
        name,
        sql,
        unit,
        meaning,
    }
}

/// The tables, declared once: what creates them also fills `schema`.
const TABLES: [Table; 8] = [
    Table {
        name: "runs",
        meaning: "The run, in one row; none if it was stopped before it could be summed up",
        columns: &[
            column("universe", "TEXT NOT NULL", "", "Name of the universe"),
            column("intent", "TEXT NOT NULL", "", "What it is for"),
            column("kind", "TEXT NOT NULL", "", "shells, site or cell"),
            column(
                "seed",
                "TEXT NOT NULL",
                "",
                "Seed; text, because SQLite has no unsigned 64-bit number",
            ),
            column("threads", "INTEGER NOT NULL", "", "Threads it ran on"),
            column("tiles", "INTEGER NOT NULL", "", "Tiles simulated"),
            column("simulated_seconds", "REAL", "s", "Coordinate time reached"),
            column("wall_seconds", "REAL", "s", "Time it took"),
            column("events", "INTEGER NOT NULL", "", "Events processed"),
            column("peak_rss_bytes", "INTEGER NOT NULL", "B", "Memory, at most"),
            column(
                "history_hash",
                "TEXT NOT NULL",
                "",
                "Equal for equal seeds, whatever the threads",
            ),
            column(
                "complete",
                "INTEGER NOT NULL",
                "",
                "0 if stopped before its end",
            ),
            column("held", "INTEGER NOT NULL", "", "1 if every invariant held"),
            column(
                "command",
                "TEXT NOT NULL",
                "",
                "The command that repeats it",
            ),
            column("summary", "TEXT NOT NULL", "", "summary.json, whole"),
        ],
    },
    Table {
        name: "decisions",
        meaning: "What was decided, for whom, and the two numbers that settled it",
        columns: &[
            column("seconds", "REAL NOT NULL", "s", "When, coordinate time"),
            column("action", "TEXT NOT NULL", "", "What was done"),
            column("reason", "TEXT NOT NULL", "", "Why"),
            column(
                "subject",
                "INTEGER NOT NULL",
                "",
                "The tile that decided or was decided on; of a batch, the first",
            ),
            column("cell", "INTEGER", "", "Its cell, where known"),
            column("work", "INTEGER", "", "The piece of work, if there is one"),
            column(
                "found",
                "REAL",
                "",
                "What was measured: kelvin, a fraction or a score, by reason",
            ),
            column(
                "bound",
                "REAL",
                "",
                "What it was held against, in the same unit",
            ),
            column(
                "count",
                "INTEGER NOT NULL",
                "",
                "Equal decisions this row stands for",
            ),
            column(
                "detail",
                "TEXT",
                "",
                "More in words; of a batch, its tiles; of a site's job JSON: text and evidence",
            ),
            column(
                "id",
                "INTEGER",
                "",
                "At a site: its number; decisions and events are counted together, and a batch has as many as it stands for",
            ),
            column(
                "cause",
                "INTEGER",
                "",
                "The id of the event or decision that brought it about, if one did",
            ),
        ],
    },
    Table {
        name: "events",
        meaning: "What happened to the universe: faults, repairs, violations",
        columns: &[
            column("seconds", "REAL NOT NULL", "s", "When, coordinate time"),
            column("kind", "TEXT NOT NULL", "", "What happened"),
            column("subject", "INTEGER", "", "The tile, if it was one"),
            column("detail", "TEXT", "", "More in words"),
            column("id", "INTEGER", "", "See decisions"),
            column("cause", "INTEGER", "", "See decisions"),
        ],
    },
    Table {
        name: "jobs",
        meaning: "What became of each job of a site, when all is known of it",
        columns: &[
            column(
                "id",
                "INTEGER PRIMARY KEY",
                "",
                "Its number, as decisions.work",
            ),
            column("name", "TEXT NOT NULL", "", "Its name in its list"),
            column("tenant", "TEXT NOT NULL", "", "Whose it is"),
            column("tasks", "INTEGER NOT NULL", "", "Tasks that start together"),
            column("gpus", "REAL NOT NULL", "", "GPUs of all tasks together"),
            column("wants", "TEXT NOT NULL", "", "What it asks for, in words"),
            column("arrival", "REAL NOT NULL", "s", "When it came"),
            column("start", "REAL", "s", "When it first started"),
            column("end", "REAL", "s", "When it ended"),
            column(
                "nodes",
                "TEXT",
                "",
                "Where its tasks last ran, a number each",
            ),
            column(
                "outcome",
                "TEXT NOT NULL",
                "",
                "finished, at_limit, refused, lost, running or waiting",
            ),
        ],
    },
    Table {
        name: "inputs",
        meaning: "What the run was made from: enough to make it again",
        columns: &[
            column(
                "kind",
                "TEXT NOT NULL",
                "",
                "universe, setting, folder, jobs, file or version",
            ),
            column("name", "TEXT NOT NULL", "", "A path, or what it is called"),
            column("text", "TEXT", "", "A universe whole, a setting, a format"),
            column("bytes", "INTEGER", "B", "A file's length"),
            column("blake3", "TEXT", "", "A file's BLAKE3, hexadecimal"),
        ],
    },
    Table {
        name: "nodes",
        meaning: "The nodes of a site by the numbers that decisions and jobs name",
        columns: &[
            column("id", "INTEGER PRIMARY KEY", "", "Its number"),
            column("name", "TEXT NOT NULL", "", "Its name"),
            column("model", "TEXT", "", "Its GPU model, if it has GPUs"),
            column("gpus", "INTEGER NOT NULL", "", "Its GPUs"),
            column("coolant", "INTEGER NOT NULL", "", "Its cooling loop"),
        ],
    },
    Table {
        name: "groups",
        meaning: "What samples are taken of, in the order of the report",
        columns: &[
            column("name", "TEXT NOT NULL", "", "Shell, cooling loop or cell"),
            column("tiles", "INTEGER NOT NULL", "", "Tiles in it"),
            column("limit_kelvin", "REAL", "K", "What no tile in it may exceed"),
            column(
                "throttle_kelvin",
                "REAL",
                "K",
                "Where its tiles begin to throttle by themselves",
            ),
            column(
                "setpoint",
                "REAL",
                "",
                "The load above which whoever makes its heat is to slow down",
            ),
        ],
    },
    Table {
        name: "samples",
        meaning: "Groups over time, up to 2,000 samples; of a longer run several are one, as in its charts",
        columns: &[
            column("seconds", "REAL NOT NULL", "s", "When, coordinate time"),
            column(
                "group_name",
                "TEXT NOT NULL",
                "",
                "Shell, cooling loop or cell",
            ),
            column(
                "metric",
                "TEXT NOT NULL",
                "",
                "kelvin_* in K, tiles dark, work waiting; the others are fractions",
            ),
            column("value", "REAL NOT NULL", "", "Its value"),
        ],
    },
];

const INDEXES: &str = "
    CREATE INDEX decisions_by_work ON decisions (work, seconds) WHERE work IS NOT NULL;
    CREATE INDEX decisions_by_subject ON decisions (subject, seconds);
    CREATE INDEX decisions_by_id ON decisions (id) WHERE id IS NOT NULL;
    CREATE INDEX events_by_id ON events (id) WHERE id IS NOT NULL;
    CREATE INDEX events_by_kind ON events (kind, seconds);
    CREATE INDEX events_by_subject ON events (subject, seconds);
    CREATE INDEX jobs_by_tenant ON jobs (tenant, arrival);
    CREATE INDEX jobs_by_name ON jobs (name);
    CREATE INDEX samples_by_metric ON samples (metric, group_name, seconds);
";

impl History {
    /// Begins a history in a file that does not exist yet.
    pub fn create(path: &Path) -> Result<Self, RecordError> {
        // SQLite would open what is there.
        std::fs::File::create_new(path).map_err(|source| RecordError::File {
            doing: "create",
            path: path.to_owned(),
            source,
        })?;
        let connection = Connection::open(path)
            .and_then(|connection| {
                connection.execute_batch(
                    "PRAGMA page_size = 8192;
                     PRAGMA cache_size = -1024;
                     PRAGMA journal_mode = OFF;
                     PRAGMA synchronous = OFF;
                     PRAGMA locking_mode = EXCLUSIVE;",
                )?;
                connection.execute_batch(&tables())?;
                Ok(connection)
            })
            .map_err(refused("create", path))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            decisions: Vec::new(),
            events: Vec::new(),
            jobs: Vec::new(),
            buffered: 0,
            closed: false,
        })
    }

    /// Records a decision, or `count` equal ones of which it is the first.
    //= requirements S7
    pub fn decision(
        &mut self,
        decision: &Decision,
        cell: Option<u64>,
        count: u64,
        detail: &str,
        link: Link,
    ) -> Result<(), RecordError> {
        self.decisions.push(DecisionRow {
            decision: *decision,
            cell,
            count,
            link,
            detail: (!detail.is_empty()).then(|| detail.into()),
        });
        self.holds(size_of::<DecisionRow>() + detail.len())
    }

    /// So many bytes more are buffered.
    fn holds(&mut self, more: usize) -> Result<(), RecordError> {
        self.buffered += more;
        if self.buffered >= BATCH {
            return self.flush();
        }
        Ok(())
    }

    /// Records something that happened to the universe.
    pub fn event(
        &mut self,
        seconds: f64,
        kind: &'static str,
        subject: Option<u64>,
        detail: &str,
        link: Link,
    ) -> Result<(), RecordError> {
        self.events.push(EventRow {
            link,
            seconds,
            kind,
            subject,
            detail: (!detail.is_empty()).then(|| detail.into()),
        });
        self.holds(size_of::<EventRow>() + detail.len())
    }

    /// Records what became of a job.
    pub fn job(&mut self, row: JobRow) -> Result<(), RecordError> {
        let texts = row.name.len() + row.tenant.len() + row.wants.len();
        let bytes = size_of::<JobRow>() + texts + size_of_val(&*row.nodes);
        self.jobs.push(row);
        self.holds(bytes)
    }

    /// How many jobs were recorded, and their number, start, end and outcome in the order of
    /// their numbers.
    pub fn each_job(
        &mut self,
        begin: impl FnOnce(u64) -> Result<(), RecordError>,
        mut each: impl FnMut(u64, [Option<f64>; 2], &str) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        self.flush()?;
        let refused = || refused("read jobs from", &self.path);
        let count = "SELECT count(*) FROM jobs";
        let count = self
            .connection
            .query_row(count, [], |row| row.get::<_, i64>(0));
        begin(count.map_err(refused())? as u64)?;
        let query = "SELECT id, start, \"end\", outcome FROM jobs ORDER BY id";
        let mut query = self.connection.prepare(query).map_err(refused())?;
        let mut rows = query.query([]).map_err(refused())?;
        while let Some(row) = rows.next().map_err(refused())? {
            let read = || {
                let times = [row.get(1)?, row.get(2)?];
                let outcome = row.get_ref(3)?.as_str()?;
                Ok((row.get::<_, i64>(0)? as u64, times, outcome))
            };
            let (id, times, outcome) = read().map_err(refused())?;
            each(id, times, outcome)?;
        }
        Ok(())
    }

    /// Records what the run is made from.
    pub fn inputs(&mut self, inputs: &Inputs) -> Result<(), RecordError> {
        let path = |path: &Path| path.display().to_string();
        let format = Format::ALL.iter().find(|(_, f)| Some(*f) == inputs.format);
        let format = format.map(|(word, _)| *word);
        let insert = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut to = transaction.prepare("INSERT INTO inputs VALUES (?, ?, ?, ?, ?)")?;
            let none = || (None::<i64>, None::<&str>);
            let mut add = |kind: &str, name: &str, text: Option<&str>, (bytes, hash): (_, _)| {
                to.execute(params![kind, name, text, bytes, hash])
            };
            add("version", &inputs.version, None, none())?;
            add("universe", &inputs.universe, Some(&inputs.text), none())?;
            for setting in &inputs.settings {
                add("setting", "", Some(setting), none())?;
            }
            if let Some(folder) = &inputs.folder {
                add("folder", &path(folder), None, none())?;
            }
            for jobs in &inputs.jobs {
                add("jobs", &path(jobs), format, none())?;
            }
            for file in &inputs.files {
                let print = (Some(signed(file.bytes)), Some(file.blake3.as_str()));
                add("file", &path(&file.path), None, print)?;
            }
            drop(to);
            transaction.commit()
        };
        insert().map_err(refused("write inputs to", &self.path))
    }

    /// Records a node: its number, name, model, GPUs and cooling loop.
    pub fn node(
        &mut self,
        (id, name): (u32, &str),
        model: Option<&str>,
        gpus: u8,
        coolant: u16,
    ) -> Result<(), RecordError> {
        let add = self
            .connection
            .prepare_cached("INSERT INTO nodes VALUES (?, ?, ?, ?, ?)");
        add.and_then(|mut add| add.execute(params![id, name, model, gpus, coolant]))
            .map_err(refused("write nodes to", &self.path))?;
        Ok(())
    }

    /// Records every sample of every group.
    pub fn series(&mut self, series: &Series) -> Result<(), RecordError> {
        let insert = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut to = transaction.prepare("INSERT INTO groups VALUES (?, ?, ?, ?, ?)")?;
            for group in series.groups() {
                let numbers = [group.limit_kelvin, group.throttle_kelvin, group.setpoint];
                let [limit, throttle, setpoint] = numbers.map(|v| known(v.into()));
                to.execute(params![
                    group.name,
                    signed(group.tiles),
                    limit,
                    throttle,
                    setpoint
                ])?;
            }
            drop(to);
            let mut to = transaction.prepare("INSERT INTO samples VALUES (?, ?, ?, ?)")?;
            for group in series.groups() {
                for metric in Metric::ALL {
                    let rows = series.seconds().iter().zip(group.column(metric));
                    for (seconds, value) in rows.filter(|(_, value)| value.is_finite()) {
                        to.execute(params![seconds, group.name, metric.name(), value])?;
                    }
                }
            }
            drop(to);
            transaction.commit()
        };
        insert().map_err(refused("write samples to", &self.path))
    }

    /// Writes the one row of `runs` and leaves a file that any SQLite opens, for
    /// reading and for writing.
    pub fn finish(mut self, summary: &Summary) -> Result<(), RecordError> {
        let insert = self.connection.execute(
            "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                summary.universe,
                summary.intent,
                summary.kind.name(),
                summary.seed.to_string(),
                summary.threads,
                signed(summary.tiles),
                known(summary.simulated_seconds),
                known(summary.wall_seconds),
                signed(summary.events),
                signed(summary.peak_rss_bytes),
                format!("{:032x}", summary.history_hash),
                summary.complete,
                summary.held(),
                summary.command,
                summary.to_json(),
            ],
        );
        insert.map_err(refused("write the run to", &self.path))?;
        self.close()
    }

    /// Binds what is buffered.
    fn flush(&mut self) -> Result<(), RecordError> {
        let insert = || {
            let transaction = self.connection.unchecked_transaction()?;
            let mut to = transaction.prepare_cached(
                "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            )?;
            for row in &self.decisions {
                let it = &row.decision;
                let work = (it.work != Decision::NO_WORK).then_some(signed(it.work));
                to.execute(params![
                    it.at.as_secs_f64(),
                    it.action.name(),
                    it.reason.name(),
                    signed(it.subject.0),
                    row.cell.map(signed),
                    work,
                    known(it.found),
                    known(it.bound),
                    signed(row.count),
                    row.detail,
                    number(row.link.id),
                    row.link.cause.map(signed),
                ])?;
            }
            drop(to);
            let mut to =
                transaction.prepare_cached("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)")?;
            for row in &self.events {
                to.execute(params![
                    row.seconds,
                    row.kind,
                    row.subject.map(signed),
                    row.detail,
                    number(row.link.id),
                    row.link.cause.map(signed),
                ])?;
            }
            drop(to);
            let mut to = transaction
                .prepare_cached("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
            for row in &self.jobs {
                let nodes = row.nodes.iter().map(ToString::to_string);
                let nodes = nodes.collect::<Vec<_>>().join(" ");
                to.execute(params![
                    signed(row.id),
                    row.name,
                    row.tenant,
                    row.tasks,
                    row.gpus,
                    row.wants,
                    row.arrival,
                    row.start,
                    row.end,
                    (!nodes.is_empty()).then_some(nodes),
                    row.outcome,
                ])?;
            }
            drop(to);
            transaction.commit()
        };
        let done = insert().map_err(refused("write decisions to", &self.path));
        // Also after an error: a row is never written twice.
        self.decisions.clear();
        self.events.clear();
        self.jobs.clear();
        self.buffered = 0;
        done
    }

    /// Everything buffered to the file, indexes, and an ordinary journal.
    fn close(&mut self) -> Result<(), RecordError> {
        self.closed = true;
        self.flush()?;
        self.connection
            .execute_batch(INDEXES)
            .and_then(|()| {
                // Both are kept in the file or end with the connection; said here so
                // that they hold even if a default changes.
                self.connection.execute_batch(
                    "PRAGMA locking_mode = NORMAL;
                     PRAGMA journal_mode = DELETE;",
                )
            })
            .map_err(refused("finish", &self.path))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if !self.closed {
            // There is nobody left to tell; `finish` tells.
            let _ = self.close();
        }
    }
}

fn tables() -> String {
    let mut sql = format!(
        "PRAGMA user_version = {VERSION};
         CREATE TABLE schema (version INTEGER NOT NULL, table_name TEXT NOT NULL,
             column_name TEXT, unit TEXT NOT NULL, meaning TEXT NOT NULL);"
    );
    let quoted = |text: &str| text.replace('\'', "''");
    for table in &TABLES {
        let columns: Vec<_> = (table.columns.iter())
            .map(|column| format!("{} {}", column.name, column.sql))
            .collect();
        sql += &format!("CREATE TABLE {} ({});", table.name, columns.join(", "));
        let whole = column("", "", "", table.meaning);
        for column in std::iter::once(&whole).chain(table.columns) {
            sql += &format!(
                "INSERT INTO schema VALUES ({VERSION}, '{}', nullif('{}', ''), '{}', '{}');",
                table.name,
                column.name,
                column.unit,
                quoted(column.meaning),
            );
        }
    }
    sql
}

/// SQLite's integers are signed; no count or number of a run reaches 2⁶³.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// NULL where records are not numbered.
fn number(id: u64) -> Option<i64> {
    (id > 0).then(|| signed(id))
}

/// NULL for what was not measured; SQLite would keep an infinity.
fn known(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn refused(doing: &'static str, path: &Path) -> impl FnOnce(rusqlite::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::History {
        doing,
        path,
        source,
    }
}
