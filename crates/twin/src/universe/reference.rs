//! Every key a schema knows, from the schema itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::document::{Document, join};
use super::table::Table;

/// The keys a schema asks for, in the order it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reference {
    /// One for each key.
    pub keys: Vec<KeyNote>,
}

/// What there is to know about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyNote {
    /// The table it is in, dotted; `N` stands for an index, `NAME` for any name.
    pub table: String,
    /// The key.
    pub key: String,
    /// What it may be set to.
    pub expects: String,
    /// What it is if it is not set.
    pub absence: Absence,
    /// What it means.
    pub doc: String,
}

/// What it means that a key is not there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Absence {
    /// A mistake.
    Wrong,
    /// Something by itself, which the key's text explains.
    Meaningful,
    /// This value.
    Default(String),
    /// What follows from other keys in this way.
    Derived(&'static str),
}

impl Reference {
    /// Runs the schema over nothing, once for every way its choices can fall,
    /// and notes what it asks for. The schema meets placeholders within the
    /// ranges it states, and must not panic on them.
    pub fn of<T>(schema: impl Fn(&Table<'_>) -> T) -> Self {
        let mut reference = Self::default();
        let mut tried = BTreeSet::new();
        let mut ahead = vec![BTreeMap::new()];
        while let Some(choices) = ahead.pop() {
            let document = Document::imagined(choices.clone());
            schema(&document.root());
            let notes = document.notes.into_inner();
            for note in notes.reference.keys {
                reference.note(note);
            }
            for (path, options) in notes.choices {
                for option in 0..options {
                    // What was chosen further out stays, since it led here.
                    if !choices.contains_key(&path) && tried.insert((path.clone(), option)) {
                        let mut further = choices.clone();
                        further.insert(path.clone(), option);
                        ahead.push(further);
                    }
                }
            }
        }
        reference
    }

    pub(super) fn note(&mut self, note: KeyNote) {
        let is_known = |known: &KeyNote| known.table == note.table && known.key == note.key;
        if !self.keys.iter().any(is_known) {
            self.keys.push(note);
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables: Vec<&str> = Vec::new();
        for note in &self.keys {
            if !tables.contains(&note.table.as_str()) {
                tables.push(&note.table);
            }
        }
        for table in tables {
            for note in self.keys.iter().filter(|note| note.table == table) {
                writeln!(f, "{}", join(table, &note.key))?;
                writeln!(f, "    {}", note.doc)?;
                match &note.absence {
                    Absence::Wrong => writeln!(f, "    {}; required", note.expects)?,
                    Absence::Meaningful => writeln!(f, "    {}; optional", note.expects)?,
                    Absence::Default(value) => {
                        writeln!(f, "    {}; default {value}", note.expects)?;
                    }
                    Absence::Derived(how) => {
                        writeln!(f, "    {}; default: {how}", note.expects)?;
                    }
                }
            }
        }
        Ok(())
    }
}
