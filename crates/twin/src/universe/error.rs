//! What can be wrong with a universe, and where.

use std::fmt;

use thiserror::Error;

/// Where a problem was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a line of the file.
    Line {
        /// The file's name, as it was asked for.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The column in characters, from 1.
        column: usize,
        /// How many characters are meant.
        width: usize,
        /// The line itself.
        source: String,
    },
    /// In no line, because something is missing.
    File {
        /// The file's name, as it was asked for.
        file: String,
    },
    /// In a `--set` on the command line.
    Flag {
        /// What followed `--set`.
        text: String,
    },
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Fault {
    /// Not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that must be there is not.
    #[error("missing, expected {expected}")]
    Missing {
        /// What should have been there.
        expected: String,
    },
    /// There is a value, but not such a value.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// The value as it was written.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// Nobody asked for this key.
    #[error("unknown key; {hint}")]
    Unknown {
        /// The nearest key that exists, or all of them.
        hint: String,
    },
    /// A `--set` points at a place the file does not have.
    #[error("leads nowhere: {0}")]
    Nowhere(String),
    /// The schema refused a value for a reason of its own.
    #[error("found {found}, but {reason}")]
    Refused {
        /// The value as it was written.
        found: String,
        /// Why it cannot be.
        reason: String,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key, dotted from the root; empty where there is none.
    pub key: String,
    /// What.
    pub fault: Fault,
}

/// Everything that is wrong, in the order of the file; nothing was run.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub struct Problems(pub Vec<Problem>);

impl Problem {
    fn rank(&self) -> (usize, usize) {
        match &self.place {
            Place::Line { line, column, .. } => (*line, *column),
            Place::File { .. } => (usize::MAX - 1, 0),
            Place::Flag { .. } => (usize::MAX, 0),
        }
    }
}

impl Problems {
    pub(super) fn sorted(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(Problem::rank);
        Self(problems)
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

impl fmt::Display for Problem {
    /// The problem in one line, then the line of the file with a caret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match &self.place {
            Place::Line { file, line, .. } => {
                write!(f, "{file}:{line}: ")?;
                &self.key
            }
            Place::File { file } => {
                write!(f, "{file}: ")?;
                &self.key
            }
            Place::Flag { text } => {
                write!(f, "--set {text}: ")?;
                // The flag begins with the key; once is enough.
                if text.starts_with(&self.key) {
                    ""
                } else {
                    &self.key
                }
            }
        };
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        writeln!(f, "{}", self.fault)?;
        if let Place::Line {
            line,
            column,
            width,
            source,
            ..
        } = &self.place
        {
            let gutter = line.to_string();
            // A tab stays a tab, so that the caret stands below its character.
            let visible = |c: char| {
                if c.is_control() && c != '\t' {
                    '\u{fffd}'
                } else {
                    c
                }
            };
            let shown: String = source.chars().map(visible).collect();
            let indent: String = source
                .chars()
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .chain(std::iter::repeat(' '))
                .take(column - 1)
                .collect();
            writeln!(f, "{gutter} | {shown}")?;
            writeln!(
                f,
                "{:1$} | {indent}{2}",
                "",
                gutter.len(),
                "^".repeat((*width).max(1))
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| problem.fmt(f))
    }
}

/// The candidate that was probably meant, if one is close enough.
pub(super) fn nearest<'c>(
    word: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| distance * 5 <= 2 * candidate.chars().count().max(3))
        .map(|(_, candidate)| candidate)
}
