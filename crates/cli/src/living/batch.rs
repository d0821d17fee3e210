//! Many programs from one call: the same one several times, or one for each line of a file.

use std::io::{self, BufRead as _, Read as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use daemon::control::Wanted;
use daemon::news::unix_ms;
use daemon::program::Kind;
use daemon::store::Membership;
use daemon::supervision::Group;

use super::arguments::Run;
use super::attached;

/// A line of a batch is no longer, in bytes.
const LINE_MAX: u64 = 128 << 10;

/// Tells a program that is run several times which of them it is, from 1 on.
const INDEX: &str = "COSMOS_INDEX";

/// What one call wants, as often as it wants it.
pub(super) fn wanted(asked: &Run) -> Result<Vec<Wanted>> {
    let (program, kind) = attached::read(asked)??;
    let program = match kind {
        Kind::Native => attached::with_inherited(program),
        _ => program,
    };
    let after = asked
        .deadline
        .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let one = Wanted {
        name: asked.name.clone(),
        restart: asked.restart.into(),
        group: asked
            .membership
            .clone()
            .or_else(|| membership(asked, &program.name)),
        deadline_unix_ms: after.map(|after| unix_ms().saturating_add(after)),
        program,
    };
    let Some(count) = asked.count else {
        return Ok(vec![one]);
    };
    let each = (1..=count).map(|index| {
        let mut one = one.clone();
        one.name = one.name.map(|name| format!("{name}-{index}"));
        let variable = (INDEX.to_owned(), index.to_string());
        one.program.environment.push(variable);
        one
    });
    Ok(each.collect())
}

/// Programs that come together are a group, so that they do not all start at once.
fn membership(asked: &Run, word: &str) -> Option<Membership> {
    let many = asked.count.is_some() || asked.batch.is_some();
    if asked.group.is_none() && asked.at_once.is_none() && !many {
        return None;
    }
    let own = asked.batch.as_deref().map_or(Path::new(word), |file| file);
    let fits = |c: &char| c.is_ascii_alphanumeric() || "._-".contains(*c);
    let own: String = (own.file_stem().and_then(|stem| stem.to_str()).unwrap_or(""))
        .chars()
        .filter(fits)
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(64)
        .collect();
    let own = if own.is_empty() {
        "batch".to_owned()
    } else {
        own
    };
    let name = asked
        .group
        .clone()
        .or_else(|| asked.name.clone())
        .unwrap_or(own);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let as_many_as_cores = many.then(|| u32::try_from(cores).unwrap_or(1));
    Some(Membership {
        name,
        terms: Group {
            strategy: asked.strategy.into(),
            intensity: asked.intensity.unwrap_or_default(),
            at_once: asked.at_once.or(as_many_as_cores),
        },
    })
}

/// What each line of a file wants; empty lines and those that begin with # want nothing.
pub(super) fn read(file: &Path, asked: &Run) -> Result<Vec<Wanted>> {
    let said = file.display().to_string();
    let mut lines: Box<dyn io::BufRead> = match said.as_str() {
        "-" => Box::new(io::stdin().lock()),
        _ => Box::new(io::BufReader::new(
            std::fs::File::open(file).with_context(|| said.clone())?,
        )),
    };
    let (mut wanted_by_all, mut number) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        number += 1;
        let at = || format!("{said}:{number}");
        let read = lines
            .by_ref()
            .take(LINE_MAX + 1)
            .read_line(&mut line)
            .with_context(at)? as u64;
        if read == 0 {
            return Ok(wanted_by_all);
        }
        anyhow::ensure!(
            read <= LINE_MAX,
            "{}: found a line of more than {LINE_MAX} bytes",
            at()
        );
        let words = split(line.trim_end_matches(['\r', '\n'])).map_err(anyhow::Error::msg);
        let words = words.with_context(at)?;
        if words.first().is_none_or(|word| word.starts_with('#')) {
            continue;
        }
        let one = Run {
            words,
            name: asked.name.as_ref().map(|name| format!("{name}-{number}")),
            membership: membership(asked, ""),
            ..asked.clone()
        };
        wanted_by_all.extend(wanted(&one).with_context(at)?);
    }
}

/// Words as a shell takes them apart, with quotes and backslashes and nothing else.
fn split(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (Some(within), c) if c == within => quote = None,
            (Some('\''), c) => word.get_or_insert_default().push(c),
            (_, '\\') => {
                let next = rest
                    .next()
                    .ok_or("found a backslash at the end of the line")?;
                word.get_or_insert_default().push(next);
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(quote) => Err(format!("there is no second {quote}")),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_taken_apart_as_a_shell_would() {
        for (line, words) in [
            ("", &[][..]),
            ("  a  b ", &["a", "b"]),
            (r#"sh -c 'echo "x"' """#, &["sh", "-c", r#"echo "x""#, ""]),
            (r#"a\ b "c\"d" 'e\f'"#, &["a b", "c\"d", "e\\f"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert!(split("a 'b").unwrap_err().contains("no second '"));
        assert!(split("a \\").is_err());
    }
}
