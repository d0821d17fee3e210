//! The tree of a universe file, each value with the place it came from.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml_edit::{Item, TableLike};

use super::error::{Fault, Place, Problem, Problems, nearest};
use super::reference::Reference;
use super::setting::{self, Override};
use super::table::Table;

/// Where a key or a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nowhere in particular: the file itself.
    Whole,
    /// In the file; line and column from 1, column and width in characters.
    File {
        /// The line.
        line: usize,
        /// The column.
        column: usize,
        /// How many characters, within that line.
        width: usize,
    },
    /// On the command line, after `--set`.
    Flag {
        /// What followed it.
        text: String,
    },
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: Kind,
    /// Where it was written; for a table, its key.
    pub origin: Origin,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the names are TOML's kinds")]
pub enum Kind {
    Text(String),
    Integer(i64),
    Float(f64),
    Flag(bool),
    Date(String),
    List(Vec<Value>),
    Table(Vec<Entry>),
}

/// One key of a table with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key.
    pub name: String,
    /// Where the key was written.
    pub origin: Origin,
    /// What it is set to.
    pub value: Value,
}

/// A universe file that was parsed, what was asked of it so far, and what was
/// found wrong while asking.
#[derive(Debug)]
pub struct Document {
    file: String,
    text: String,
    root: Value,
    pub(super) notes: RefCell<Notes>,
    /// Set when a schema is read for its keys alone, to these choices.
    pub(super) imagined: Option<BTreeMap<String, usize>>,
}

/// What accumulates while a document is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes {
    pub(super) problems: Vec<Problem>,
    /// What one value says against another. Where a value could not be read, something stands in
    /// for it, and nobody wrote what is said against that.
    pub(super) quarrels: Vec<Problem>,
    /// For each table that was opened, the keys that were asked for.
    pub(super) known: BTreeMap<String, BTreeSet<String>>,
    pub(super) reference: Reference,
    /// The choices an imagined document was offered, with how many options.
    pub(super) choices: Vec<(String, usize)>,
}

impl Document {
    /// Parses a file's text and puts the overrides in place, later ones last.
    ///
    /// # Errors
    ///
    /// If the text is not TOML. An override that leads nowhere is reported by
    /// [`Self::read`], together with everything else.
    pub fn parse(file: &str, text: &str, overrides: &[Override]) -> Result<Self, Problems> {
        let lines = Lines::of(text);
        let parsed = toml_edit::Document::parse(text).map_err(|error| {
            let span = error.span().unwrap_or(text.len()..text.len());
            Problem {
                place: place(file, text, &lines.origin(span)),
                key: String::new(),
                fault: Fault::Syntax(error.message().replace('\n', ", ")),
            }
        })?;
        let mut root = Value {
            kind: Kind::Table(entries(parsed.as_table(), &|span| {
                span.map_or(Origin::Whole, |span| lines.origin(span))
            })),
            origin: Origin::Whole,
        };
        let mut notes = Notes::default();
        for setting in overrides {
            if let Err(fault) = put(&mut root, setting) {
                notes.problems.push(Problem {
                    place: Place::Flag {
                        text: setting.to_string(),
                    },
                    key: join_all(&setting.path),
                    fault,
                });
            }
        }
        Ok(Self {
            file: file.to_owned(),
            text: text.to_owned(),
            root,
            notes: RefCell::new(notes),
            imagined: None,
        })
    }

    /// A file in which every table is there and no key is, and each choice
    /// falls as told; for finding out which keys a schema knows.
    pub(super) fn imagined(choices: BTreeMap<String, usize>) -> Self {
        Self {
            file: String::new(),
            text: String::new(),
            root: Value {
                kind: Kind::Table(Vec::new()),
                origin: Origin::Whole,
            },
            notes: RefCell::default(),
            imagined: Some(choices),
        }
    }

    /// The root table, for reading in several steps; [`Self::finish`] ends it.
    #[must_use]
    pub fn root(&self) -> Table<'_> {
        Table::root(self, &self.root)
    }

    /// Reads the whole document with a schema.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file and the overrides.
    pub fn read<T>(&self, schema: impl FnOnce(&Table<'_>) -> T) -> Result<T, Problems> {
        let read = schema(&self.root());
        self.finish()?;
        Ok(read)
    }

    /// Ends the reading: what was written and never asked for is unknown.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the file and the overrides.
    pub fn finish(&self) -> Result<(), Problems> {
        self.find_unknown(&self.root, "");
        let Notes {
            mut problems,
            quarrels,
            ..
        } = self.notes.borrow().clone();
        let unread = |problem: &Problem| {
            matches!(
                problem.fault,
                Fault::Missing { .. } | Fault::Unexpected { .. }
            )
        };
        if !problems.iter().any(unread) {
            problems.extend(quarrels);
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Problems::sorted(problems))
        }
    }

    /// Whether anything was found wrong so far.
    #[must_use]
    pub fn has_problems(&self) -> bool {
        let notes = self.notes.borrow();
        !(notes.problems.is_empty() && notes.quarrels.is_empty())
    }

    pub(super) fn complain(&self, origin: &Origin, key: &str, fault: Fault) {
        let problem = self.problem(origin, key, fault);
        let problems = &mut self.notes.borrow_mut().problems;
        if !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// As [`Self::complain`], of a value that is good by itself.
    pub(super) fn quarrel(&self, origin: &Origin, key: &str, fault: Fault) {
        let problem = self.problem(origin, key, fault);
        let quarrels = &mut self.notes.borrow_mut().quarrels;
        if !quarrels.contains(&problem) {
            quarrels.push(problem);
        }
    }

    fn problem(&self, origin: &Origin, key: &str, fault: Fault) -> Problem {
        Problem {
            place: place(&self.file, &self.text, origin),
            key: key.to_owned(),
            fault,
        }
    }

    fn find_unknown(&self, value: &Value, path: &str) {
        match &value.kind {
            Kind::List(values) => {
                for (i, value) in values.iter().enumerate() {
                    self.find_unknown(value, &join(path, &i.to_string()));
                }
            }
            Kind::Table(entries) => {
                // Nobody opened it: whoever read it as something else has complained.
                let Some(known) = self.notes.borrow().known.get(path).cloned() else {
                    return;
                };
                for entry in entries {
                    let child = join(path, &entry.name);
                    if known.contains(&entry.name) {
                        self.find_unknown(&entry.value, &child);
                    } else if let Origin::Flag { text } = &entry.origin {
                        // A flag has no neighbours to look at, so the whole path is compared.
                        let key = text.split('=').next().unwrap_or_default().trim();
                        let hint = self.hint_anywhere(key);
                        self.complain(&entry.origin, key, Fault::Unknown { hint });
                    } else {
                        let hint = hint(&entry.name, known.iter().map(String::as_str));
                        self.complain(&entry.origin, &child, Fault::Unknown { hint });
                    }
                }
            }
            _ => {}
        }
    }

    fn hint_anywhere(&self, key: &str) -> String {
        let notes = self.notes.borrow();
        let has_children = |path: &str| {
            let mut inside = notes.known.range(path.to_owned()..);
            inside.any(|(table, _)| table == path || table.starts_with(&format!("{path}.")))
        };
        let paths: Vec<_> = notes
            .known
            .iter()
            .flat_map(|(table, keys)| keys.iter().map(move |key| join(table, key)))
            // A table itself cannot be meant, only what is in it.
            .filter(|path| !has_children(path))
            .collect();
        hint(key, paths.iter().map(String::as_str))
    }
}

fn hint<'c>(word: &str, candidates: impl Iterator<Item = &'c str> + Clone) -> String {
    const SHOWN_MAX: usize = 12;
    if let Some(near) = nearest(word, candidates.clone()) {
        return format!("did you mean `{near}`?");
    }
    let mut all: Vec<_> = candidates.map(|name| format!("`{name}`")).collect();
    if all.is_empty() {
        return "there are no keys here".to_owned();
    }
    if all.len() > SHOWN_MAX {
        all.truncate(SHOWN_MAX);
        all.push("…".to_owned());
    }
    format!("known here: {}", all.join(", "))
}

/// A key as it would be written in a path; quoted unless it is a bare word.
pub(super) fn join(path: &str, name: &str) -> String {
    let is_bare = !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    let dot = if path.is_empty() { "" } else { "." };
    if is_bare {
        format!("{path}{dot}{name}")
    } else {
        format!("{path}{dot}{name:?}")
    }
}

fn join_all(names: &[String]) -> String {
    names
        .iter()
        .fold(String::new(), |path, name| join(&path, name))
}

impl Value {
    /// The entries of a table, `None` for anything else.
    #[must_use]
    pub fn as_table(&self) -> Option<&[Entry]> {
        match &self.kind {
            Kind::Table(entries) => Some(entries),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As it stands in a file, shortened to what an error needs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN_MAX: usize = 60;
        match &self.kind {
            Kind::Text(text) if text.chars().count() > SHOWN_MAX => {
                let start: String = text.chars().take(SHOWN_MAX).collect();
                write!(f, "{:?}", start + "…")
            }
            Kind::Text(text) => write!(f, "{text:?}"),
            Kind::Integer(number) => write!(f, "{number}"),
            Kind::Float(number) => write!(f, "{number:?}"),
            Kind::Flag(flag) => write!(f, "{flag}"),
            Kind::Date(date) => write!(f, "the date {date}"),
            Kind::List(_) => f.write_str("a list"),
            Kind::Table(_) => f.write_str("a table"),
        }
    }
}

/// Where the lines of a text begin.
struct Lines<'t> {
    text: &'t str,
    starts: Vec<usize>,
}

impl<'t> Lines<'t> {
    fn of(text: &'t str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.match_indices('\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    fn origin(&self, span: std::ops::Range<usize>) -> Origin {
        let start = self.text.floor_char_boundary(span.start);
        let line = self.starts.partition_point(|&line| line <= start);
        let from = self.starts[line - 1];
        let line_end = self.text[start..]
            .find('\n')
            .map_or(self.text.len(), |at| start + at);
        let end = self
            .text
            .ceil_char_boundary(span.end)
            .clamp(start, line_end);
        Origin::File {
            line,
            column: self.text[from..start].chars().count() + 1,
            width: self.text[start..end].trim_end().chars().count().max(1),
        }
    }
}

fn place(file: &str, text: &str, origin: &Origin) -> Place {
    match origin {
        Origin::Whole => Place::File {
            file: file.to_owned(),
        },
        Origin::File {
            line,
            column,
            width,
        } => Place::Line {
            file: file.to_owned(),
            line: *line,
            column: *column,
            width: *width,
            source: text.lines().nth(line - 1).unwrap_or_default().to_owned(),
        },
        Origin::Flag { text } => Place::Flag { text: text.clone() },
    }
}

/// Turns a place in the parsed text into an origin.
type Locate<'l> = dyn Fn(Option<std::ops::Range<usize>>) -> Origin + 'l;

fn entries(table: &dyn TableLike, locate: &Locate<'_>) -> Vec<Entry> {
    table
        .iter()
        .map(|(name, item)| {
            let key = table.key(name).and_then(toml_edit::Key::span);
            let origin = locate(key.or_else(|| item.span()));
            let value = item_value(item, &origin, locate);
            Entry {
                name: name.to_owned(),
                origin,
                value,
            }
        })
        .collect()
}

fn item_value(item: &Item, key: &Origin, locate: &Locate<'_>) -> Value {
    match item {
        Item::Value(value) => from_toml(value, key, locate),
        Item::ArrayOfTables(tables) => Value {
            kind: Kind::List(
                tables
                    .iter()
                    .map(|table| Value {
                        kind: Kind::Table(entries(table, locate)),
                        origin: locate(table.span()),
                    })
                    .collect(),
            ),
            origin: key.clone(),
        },
        Item::Table(table) => Value {
            kind: Kind::Table(entries(table, locate)),
            origin: key.clone(),
        },
        Item::None => Value {
            kind: Kind::Table(Vec::new()),
            origin: key.clone(),
        },
    }
}

fn from_toml(value: &toml_edit::Value, key: &Origin, locate: &Locate<'_>) -> Value {
    use toml_edit::Value as Toml;
    let kind = match value {
        Toml::String(text) => Kind::Text(text.value().clone()),
        Toml::Integer(number) => Kind::Integer(*number.value()),
        Toml::Float(number) => Kind::Float(*number.value()),
        Toml::Boolean(flag) => Kind::Flag(*flag.value()),
        Toml::Datetime(date) => Kind::Date(date.value().to_string()),
        Toml::Array(values) => Kind::List(
            values
                .iter()
                .map(|value| from_toml(value, &locate(value.span()), locate))
                .collect(),
        ),
        Toml::InlineTable(table) => {
            return Value {
                kind: Kind::Table(entries(table, locate)),
                origin: key.clone(),
            };
        }
    };
    Value {
        kind,
        origin: locate(value.span()),
    }
}

/// Puts an override in place; tables on the way that do not exist are made,
/// since every key in them may have a default.
fn put(root: &mut Value, setting: &Override) -> Result<(), Fault> {
    let origin = Origin::Flag {
        text: setting.to_string(),
    };
    let value = match setting::parse_value(&setting.value).map_err(Fault::Syntax)? {
        Some(value) => from_toml(&value, &origin, &|_| origin.clone()),
        None => Value {
            kind: Kind::Text(setting.value.clone()),
            origin: origin.clone(),
        },
    };
    let (mut at, mut path) = (root, String::new());
    for name in &setting.path {
        let here = at.to_string();
        at = match &mut at.kind {
            Kind::Table(entries) => {
                let i = entries.iter().position(|entry| entry.name == *name);
                let i = i.unwrap_or_else(|| {
                    entries.push(Entry {
                        name: name.clone(),
                        origin: origin.clone(),
                        value: Value {
                            kind: Kind::Table(Vec::new()),
                            origin: origin.clone(),
                        },
                    });
                    entries.len() - 1
                });
                &mut entries[i].value
            }
            Kind::List(values) => {
                let len = values.len();
                let i = name.parse().ok().filter(|&i: &usize| i < len);
                let nowhere = || {
                    Fault::Nowhere(match len {
                        0 => format!("`{path}` is empty"),
                        1 => format!("`{path}` has one entry, {}", join(&path, "0")),
                        _ => format!(
                            "`{path}` has {len} entries, {} to {}",
                            join(&path, "0"),
                            join(&path, &(len - 1).to_string())
                        ),
                    })
                };
                &mut values[i.ok_or_else(nowhere)?]
            }
            _ => return Err(Fault::Nowhere(format!("`{path}` is {here}, not a table"))),
        };
        path = join(&path, name);
    }
    *at = value;
    Ok(())
}
