//! Which universes there are: those in `./universes`, and those built in.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use twin::rehearsal;
use twin::universe::{Document, Problems, Reference};

use crate::arguments;

/// The repository's universes when this command was built, by name.
const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/built_in.rs"));

const FOLDER: &str = "universes";

/// A universe's text and where it came from.
#[derive(Debug)]
pub(crate) struct Universe {
    /// What errors call it.
    pub(crate) file: String,
    pub(crate) text: String,
}

/// Finds what was asked for: a path if it looks like one, else a name.
pub(crate) fn find(asked: &str) -> Result<Universe> {
    let path = Path::new(asked);
    let looks_like_a_path = asked.ends_with(".toml") || asked.contains(std::path::MAIN_SEPARATOR);
    match fs::metadata(path) {
        // A folder that happens to be called like a universe hides none.
        Ok(found) if found.is_dir() && !looks_like_a_path => {}
        Ok(found) if found.is_dir() => bail!(
            "{asked} is a folder; expected a file that describes a universe, such as {}",
            path.join("NAME.toml").display()
        ),
        Ok(_) => return open(path),
        Err(_) if !looks_like_a_path => {}
        Err(e) if e.kind() == ErrorKind::NotFound => bail!("there is no file {asked}"),
        Err(e) => return Err(e).with_context(|| format!("cannot read {asked}")),
    }
    let local = Path::new(FOLDER).join(format!("{asked}.toml"));
    if local.is_file() {
        return open(&local);
    }
    if let Some((name, text)) = BUILT_IN.iter().find(|(name, _)| *name == asked) {
        return Ok(Universe {
            file: format!("{FOLDER}/{name}.toml (built in)"),
            text: (*text).to_owned(),
        });
    }
    let names: Vec<_> = all()?.into_keys().collect();
    let near = names
        .iter()
        .map(|name| (strsim::damerau_levenshtein(asked, name), name))
        .min()
        .filter(|(distance, name)| distance * 2 <= name.chars().count());
    match near {
        Some((_, near)) => bail!("there is no universe \"{asked}\"; did you mean \"{near}\"?"),
        None => bail!("there is no universe \"{asked}\"; `cosmos universes` lists them"),
    }
}

/// `cosmos universes`.
pub(crate) fn show(asked: &arguments::Universes) -> Result<ExitCode> {
    if asked.keys {
        crate::print(&Reference::of(rehearsal::Universe::schema).to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut list = Vec::new();
    for (name, place) in all()? {
        let (file, universe) = match place {
            Place::File(path) => (Some(path.display().to_string()), open(&path)?),
            Place::BuiltIn(text) => {
                let text = text.to_owned();
                let file = name.clone();
                (None, Universe { file, text })
            }
        };
        list.push((name, file, intent(&universe)));
    }
    if asked.json {
        let list: Vec<_> = list
            .iter()
            .map(|(name, file, intent)| {
                let problem = intent.as_ref().err().map(ToString::to_string);
                let intent = intent.as_ref().ok();
                json!({ "name": name, "file": file, "intent": intent, "problem": problem })
            })
            .collect();
        crate::print(&format!("{:#}\n", json!(list)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let width = list.iter().map(|(name, ..)| name.chars().count()).max();
    let width = width.unwrap_or_default();
    let mut text = String::new();
    for (name, _, intent) in &list {
        let intent = match intent {
            Ok(Some(intent)) => intent.clone(),
            Ok(None) => "(says no intent)".to_owned(),
            Err(problems) => {
                let problem = problems.to_string();
                format!(
                    "(cannot be read) {}",
                    problem.lines().next().unwrap_or_default()
                )
            }
        };
        text.push_str(&format!("{name:width$}  {intent}\n"));
    }
    if list.is_empty() {
        text.push_str("There is no universe here: none in ./universes, and none built in.\n");
    }
    crate::print(&text)?;
    Ok(ExitCode::SUCCESS)
}

enum Place {
    File(PathBuf),
    BuiltIn(&'static str),
}

/// Every universe by name; a file in `./universes` hides the one built in.
fn all() -> Result<BTreeMap<String, Place>> {
    let mut all: BTreeMap<_, _> = BUILT_IN
        .iter()
        .map(|(name, text)| ((*name).to_owned(), Place::BuiltIn(text)))
        .collect();
    let folder = Path::new(FOLDER);
    if folder.is_dir() {
        let entries = fs::read_dir(folder).context("cannot list ./universes")?;
        for entry in entries {
            let path = entry.context("cannot list ./universes")?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            if let (Some(name), true) = (stem, path.extension().is_some_and(|e| e == "toml")) {
                all.insert(name.to_owned(), Place::File(path));
            }
        }
    }
    Ok(all)
}

fn open(path: &Path) -> Result<Universe> {
    let file = path.display().to_string();
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {file}"))?;
    Ok(Universe { file, text })
}

/// The one sentence that says what a universe is for. Nothing else in it is
/// looked at, so that a list of universes needs none of them to be right.
fn intent(universe: &Universe) -> Result<Option<String>, Problems> {
    let document = Document::parse(&universe.file, &universe.text, &[])?;
    let root = document.root();
    Ok(root
        .text("intent", "What the universe is for, in a sentence.")
        .optional()
        .filter(|intent| !intent.is_empty()))
}
