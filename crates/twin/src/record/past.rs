//! What does the history of a run say?
//!
//! Reads `history.db` again: which job was meant, what was decided of it and of the nodes
//! it ran on, and what the run was made from. It changes nothing in the file.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, Row, params};

use super::inputs::Fingerprint;
use super::stored::{self, HISTORY, Opened};
use super::{Inputs, ReadError};
use crate::site::jobs::Format;

/// A finished run on disk.
#[derive(Debug)]
pub struct Past {
    directory: PathBuf,
    connection: Connection,
    /// Its universe's name.
    pub universe: String,
    /// Its seed.
    pub seed: u64,
    /// How far it got, in seconds.
    pub seconds: f64,
    /// Whether it got to its end.
    pub complete: bool,
    /// Its history's hash, in hexadecimal digits.
    pub hash: String,
}

/// Why a run cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum PastError {
    /// There is none, or its history cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No folder of runs has one of a site.
    #[error("no run of a site in {}: name one with --run DIR, or make one with `cosmos twin replay`", path.display())]
    None {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It has no jobs.
    #[error("{} is a run of kind {kind}; only runs of a site have jobs", path.display())]
    NotASite {
        /// The directory.
        path: PathBuf,
        /// What it is.
        kind: String,
    },
    /// It does not say what it was made from.
    #[error("{} does not say what it was made from, so it cannot be simulated again", path.display())]
    NoInputs {
        /// The directory.
        path: PathBuf,
    },
    /// No job is called that.
    #[error("there is no job \"{asked}\" in {}{}", path.display(), did_you_mean(near))]
    UnknownJob {
        /// What was asked for.
        asked: String,
        /// The run.
        path: PathBuf,
        /// Names that are nearly the same.
        near: Vec<String>,
    },
    /// Several jobs are called that.
    #[error(
        "{count} jobs are called \"{asked}\"; name one by its number: {}",
        as_numbers(first)
    )]
    Ambiguous {
        /// What was asked for.
        asked: String,
        /// How many there are.
        count: usize,
        /// The first of them.
        first: Vec<u64>,
    },
}

fn did_you_mean(near: &[String]) -> String {
    match near {
        [] => String::new(),
        names => format!("; did you mean {}?", names.join(", ")),
    }
}

fn as_numbers(first: &[u64]) -> String {
    let all = first.iter().map(|id| format!("#{id}"));
    all.collect::<Vec<_>>().join(", ")
}

/// A job as it is in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct PastJob {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Whose it is.
    pub tenant: String,
    /// What it asks for, in words.
    pub wants: String,
    /// GPUs of all its tasks.
    pub gpus: f64,
    /// Tasks that start together.
    pub tasks: u16,
    /// When it came, s.
    pub arrival: f64,
    /// When it first started, s.
    pub start: Option<f64>,
    /// When it ended, s.
    pub end: Option<f64>,
    /// Where it last ran.
    pub nodes: Vec<u32>,
    /// What became of it.
    pub outcome: String,
}

/// A decision as it is in the history.
#[derive(Clone, Debug, PartialEq)]
pub struct PastDecision {
    /// When, s.
    pub seconds: f64,
    /// What was done.
    pub action: String,
    /// Why.
    pub reason: String,
    /// The node.
    pub node: u32,
    /// See [`telemetry::Decision::found`].
    pub found: Option<f64>,
    /// See [`telemetry::Decision::bound`].
    pub bound: Option<f64>,
    /// More in words.
    pub detail: Option<String>,
    /// The number of what caused it; see [`Past::cause`].
    pub cause: Option<u64>,
}

/// What caused something.
#[derive(Clone, Debug, PartialEq)]
pub struct Cause {
    /// Its number.
    pub id: u64,
    /// When, s.
    pub seconds: f64,
    /// `event`, or `decision`.
    pub kind: &'static str,
    /// What it was, in words.
    pub text: String,
    /// The number of what caused it in turn.
    pub cause: Option<u64>,
}

impl Past {
    /// Opens a run.
    ///
    /// # Errors
    /// If there is none of a site, or its history cannot be read.
    pub fn open(directory: &Path) -> Result<Self, PastError> {
        let Opened {
            db,
            universe,
            seed,
            kind,
            seconds,
            complete,
            hash,
        } = stored::open(directory)?;
        if kind != "site" {
            return Err(PastError::NotASite {
                path: directory.to_owned(),
                kind,
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
            connection: db,
            universe,
            seed,
            seconds,
            complete,
            hash,
        })
    }

    /// Opens the newest run of a site among those in a folder.
    ///
    /// # Errors
    /// If there is none.
    pub fn newest(folder: &Path) -> Result<Self, PastError> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let dated = entries.filter_map(|entry| {
            let path = entry.path();
            let made = path.join(HISTORY).metadata().ok()?.modified().ok()?;
            let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
            (!is_hidden).then_some((made, path))
        });
        let mut dated: Vec<_> = dated.collect();
        dated.sort();
        for (_, path) in dated.into_iter().rev() {
            match Self::open(&path) {
                Ok(past) => return Ok(past),
                // Of another kind.
                Err(PastError::NotASite { .. }) => {}
                // Of another version, or not whole.
                Err(PastError::Read(ReadError::Wrong { path, .. })) if path.ends_with(HISTORY) => {}
                // The newest is meant, and not the one before it.
                Err(damaged) => return Err(damaged),
            }
        }
        Err(PastError::None {
            path: folder.to_owned(),
        })
    }

    /// Where it lies.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn ask<T>(
        &self,
        query: &str,
        with: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, PastError> {
        let asked = self.connection.prepare_cached(query);
        asked
            .and_then(|mut asked| asked.query_map(with, read)?.collect())
            .map_err(|source| {
                let path = self.directory.join(HISTORY);
                ReadError::History { path, source }.into()
            })
    }

    /// The job of this name or number: `#17` is always a number, anything else a name
    /// first.
    ///
    /// # Errors
    /// If there is none, or several have the name.
    pub fn job(&self, asked: &str) -> Result<PastJob, PastError> {
        let number = |text: &str| text.parse::<i64>().ok();
        let mut found = match asked.strip_prefix('#') {
            Some(text) => self.jobs_where("id = ?", number(text).unwrap_or(-1))?,
            None => self.jobs_where("name = ?", asked)?,
        };
        if found.is_empty()
            && let Some(id) = number(asked)
        {
            found = self.jobs_where("id = ?", id)?;
        }
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(PastError::UnknownJob {
                asked: asked.to_owned(),
                path: self.directory.clone(),
                near: self.near(asked)?,
            }),
            count => Err(PastError::Ambiguous {
                asked: asked.to_owned(),
                count,
                first: found.iter().take(5).map(|job| job.id).collect(),
            }),
        }
    }

    fn jobs_where(
        &self,
        condition: &str,
        value: impl rusqlite::ToSql,
    ) -> Result<Vec<PastJob>, PastError> {
        let query = format!(
            "SELECT id, name, tenant, wants, gpus, tasks, arrival, start, \"end\", nodes, outcome \
             FROM jobs WHERE {condition} ORDER BY id"
        );
        self.ask(&query, params![value], |row| {
            let nodes: Option<String> = row.get(9)?;
            let nodes = nodes.unwrap_or_default();
            Ok(PastJob {
                id: row.get::<_, i64>(0)? as u64,
                name: row.get(1)?,
                tenant: row.get(2)?,
                wants: row.get(3)?,
                gpus: row.get(4)?,
                tasks: row.get(5)?,
                arrival: row.get(6)?,
                start: row.get(7)?,
                end: row.get(8)?,
                nodes: nodes.split(' ').filter_map(|n| n.parse().ok()).collect(),
                outcome: row.get(10)?,
            })
        })
    }

    /// Names that are nearly this one.
    fn near(&self, asked: &str) -> Result<Vec<String>, PastError> {
        let names = self.ask("SELECT DISTINCT name FROM jobs", [], |row| row.get(0))?;
        let far = asked.chars().count() / 2;
        let far_of = |name: &String| strsim::damerau_levenshtein(asked, name);
        let near = names.into_iter().map(|name| (far_of(&name), name));
        let mut near: Vec<(usize, String)> = near.filter(|(far_of, _)| *far_of <= far).collect();
        near.sort();
        Ok(near.into_iter().take(3).map(|(_, name)| name).collect())
    }

    /// When each job that ever started did so first, by its number, in seconds.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn starts(&self) -> Result<Vec<(u64, f64)>, PastError> {
        let query = "SELECT id, start FROM jobs WHERE start IS NOT NULL ORDER BY id";
        self.ask(query, [], |row| {
            Ok((row.get::<_, i64>(0)? as u64, row.get(1)?))
        })
    }

    /// The numbers of jobs that were told to wait.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn waited(&self) -> Result<Vec<u64>, PastError> {
        let query = "SELECT DISTINCT work FROM decisions WHERE action = 'queue' ORDER BY work";
        self.ask(query, [], |row| Ok(row.get::<_, i64>(0)? as u64))
    }

    /// What a node is called.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn node(&self, node: u32) -> Result<String, PastError> {
        let query = "SELECT name FROM nodes WHERE id = ?";
        let names = self.ask(query, params![node], |row| row.get(0))?;
        Ok(names
            .into_iter()
            .next()
            .unwrap_or_else(|| format!("node {node}")))
    }

    /// What was decided of a job, in order.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn decisions(&self, job: u64) -> Result<Vec<PastDecision>, PastError> {
        let query = "SELECT seconds, action, reason, subject, found, bound, detail, cause FROM decisions \
                     WHERE work = ? ORDER BY seconds, rowid";
        self.ask(query, params![job as i64], decision)
    }

    /// What slowed these nodes down, or let them go, between two times.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn slowed(
        &self,
        nodes: &[u32],
        from: f64,
        to: f64,
    ) -> Result<Vec<PastDecision>, PastError> {
        let query = "SELECT seconds, action, reason, subject, found, bound, detail, cause FROM decisions \
                     WHERE action IN ('throttle', 'release', 'darken') AND work IS NULL \
                     AND seconds BETWEEN ? AND ? ORDER BY seconds, rowid";
        let mut all = Vec::new();
        for row in self.ask(query, params![from, to], decision)? {
            // Equal decisions of one instant share a row, which lists their nodes.
            let listed = row.detail.as_deref().unwrap_or_default();
            let listed = listed.strip_prefix("tile:found ").unwrap_or_default();
            let listed = listed.split(' ').filter_map(|pair| {
                let (node, found) = pair.split_once(':')?;
                Some((node.parse::<u32>().ok()?, found.parse::<f64>().ok()))
            });
            let mut here: Vec<(u32, Option<f64>)> = listed.collect();
            if here.is_empty() {
                here.push((row.node, row.found));
            }
            here.retain(|(node, _)| nodes.contains(node));
            all.extend(here.into_iter().map(|(node, found)| PastDecision {
                node,
                found,
                detail: None,
                ..row.clone()
            }));
        }
        Ok(all)
    }

    /// What has this number: an event or a decision.
    ///
    /// # Errors
    /// If the history cannot be read.
    pub fn cause(&self, id: u64) -> Result<Option<Cause>, PastError> {
        let number = |row: &Row<'_>, column| -> rusqlite::Result<Option<u64>> {
            Ok(row.get::<_, Option<i64>>(column)?.map(|n| n as u64))
        };
        let query = "SELECT seconds, detail, kind, cause, name FROM events LEFT JOIN jobs \
                     ON kind = 'finished' AND jobs.id = CAST(substr(detail, 5) AS INTEGER) \
                     WHERE events.id = ?";
        let event = self.ask(query, params![id as i64], |row| {
            let (detail, kind): (Option<String>, String) = (row.get(1)?, row.get(2)?);
            let text = match (kind.as_str(), detail) {
                ("finished", Some(job)) => match row.get::<_, Option<String>>(4)? {
                    Some(name) => format!("{name} ({job}) ended"),
                    None => format!("{job} ended"),
                },
                (_, Some(text)) => text,
                (_, None) => kind,
            };
            Ok(Cause {
                id,
                seconds: row.get(0)?,
                kind: "event",
                text,
                cause: number(row, 3)?,
            })
        })?;
        if let Some(event) = event.into_iter().next() {
            return Ok(Some(event));
        }
        // Equal decisions of one instant share a row, which has the number of the first.
        let query = "SELECT d.seconds, action, reason, subject, found, bound, cause, \
                     coalesce(n.name, subject) FROM decisions d LEFT JOIN nodes n ON n.id = subject \
                     WHERE d.id <= ?1 AND d.id + count > ?1 ORDER BY d.id DESC LIMIT 1";
        let decision = self.ask(query, params![id as i64], |row| {
            let (action, reason): (String, String) = (row.get(1)?, row.get(2)?);
            let [found, bound] = [row.get::<_, Option<f64>>(4)?, row.get(5)?];
            let node: String = row.get(7)?;
            let numbers = match (found, bound) {
                (Some(found), Some(bound)) => format!(", {found:.2} against {bound:.2}"),
                _ => String::new(),
            };
            Ok(Cause {
                id,
                seconds: row.get(0)?,
                kind: "decision",
                text: format!("{action} on {node}: {reason}{numbers}"),
                cause: number(row, 6)?,
            })
        })?;
        Ok(decision.into_iter().next())
    }

    /// What the run was made from.
    ///
    /// # Errors
    /// If it does not say, or the history cannot be read.
    pub fn inputs(&self) -> Result<Inputs, PastError> {
        let mut inputs = Inputs::default();
        let query = "SELECT kind, name, text, bytes, blake3 FROM inputs ORDER BY rowid";
        let rows = self.ask(query, [], |row| {
            let (kind, name): (String, String) = (row.get(0)?, row.get(1)?);
            let (text, bytes): (Option<String>, Option<i64>) = (row.get(2)?, row.get(3)?);
            let blake3: Option<String> = row.get(4)?;
            Ok((kind, name, text, bytes, blake3))
        })?;
        let mut is_told = false;
        for (kind, name, text, bytes, blake3) in rows {
            let text = text.unwrap_or_default();
            match kind.as_str() {
                "version" => inputs.version = name,
                "universe" => (inputs.universe, inputs.text, is_told) = (name, text, true),
                "setting" => inputs.settings.push(text),
                "folder" => inputs.folder = Some(name.into()),
                "jobs" => {
                    inputs.jobs.push(name.into());
                    let format = Format::ALL.iter().find(|(word, _)| *word == text);
                    inputs.format = format.map(|(_, format)| *format);
                }
                "file" => inputs.files.push(Fingerprint {
                    path: name.into(),
                    bytes: bytes.unwrap_or(0) as u64,
                    blake3: blake3.unwrap_or_default(),
                }),
                _ => {}
            }
        }
        if is_told {
            Ok(inputs)
        } else {
            Err(PastError::NoInputs {
                path: self.directory.clone(),
            })
        }
    }
}

fn decision(row: &Row<'_>) -> rusqlite::Result<PastDecision> {
    Ok(PastDecision {
        seconds: row.get(0)?,
        action: row.get(1)?,
        reason: row.get(2)?,
        node: row.get::<_, i64>(3)? as u32,
        found: row.get(4)?,
        bound: row.get(5)?,
        detail: row.get(6)?,
        cause: row.get::<_, Option<i64>>(7)?.map(|id| id as u64),
    })
}
