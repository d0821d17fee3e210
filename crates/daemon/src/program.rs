//! What is to run?
//!
//! A [`Program`] is all that a node keeps of a request: which file, with which words, in which
//! environment, seeing which folders, within which limits. It is what a command hands to the
//! node, what the node keeps on disk, and what it hands to the process that runs it; there is
//! one spelling of it, JSON.
//!
//! What a file *is* ([`Kind`]) is read from its first bytes, never from its name.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A program, its surroundings and its limits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// The file, absolute.
    pub path: PathBuf,
    /// What it is called, its first word (`argv[0]`).
    pub name: String,
    /// The words after its name.
    pub arguments: Vec<String>,
    /// Its whole environment: nothing is added to it.
    pub environment: Vec<(String, String)>,
    /// Where it starts, absolute. A capsule has no such place.
    pub directory: PathBuf,
    /// The folders of the host that it sees.
    pub folders: Vec<Folder>,
    /// What it may use.
    pub limits: Limits,
}

/// A folder of the host that a program may read and write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it lies, absolute.
    pub host: PathBuf,
    /// What a capsule calls it. A program of the host calls it what the host does.
    pub guest: String,
}

/// What a program may use; `None` for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processor, in cores. For programs of the host only.
    pub cores: Option<f64>,
    /// Instructions of WebAssembly, as wasmtime's fuel counts them: one each, structure free.
    pub fuel: Option<u64>,
}

/// What a program of the host finds in its environment besides what was asked for: where programs
/// are, whose they are, and how to talk to a person.
const INHERITED: [&str; 8] = [
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TERM",
];

/// What of our environment goes without saying; what was asked for comes after it and holds.
pub fn inherited() -> impl Iterator<Item = (String, String)> {
    INHERITED
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), std::env::var(key).ok()?)))
}

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A WebAssembly module: version 1, layer 0.
    Module,
    /// A WebAssembly component: layer 1.
    Component,
    /// What the kernel can execute: ELF, or a script that names its interpreter.
    Native,
}

/// Why there is nothing to run.
#[derive(Debug, thiserror::Error)]
pub enum NoProgram {
    /// Neither a file nor on the path.
    #[error(
        "there is no program {name:?}: found no such file{searched}", 
        searched = if *.on_path { " in the folders of PATH" } else { "" }
    )]
    Absent {
        /// What was asked for.
        name: String,
        /// Whether `PATH` was searched.
        on_path: bool,
    },
    /// There, and nothing that can be executed.
    #[error(
        "{path} cannot be run: found {found}, expected a WebAssembly module or component, or an executable file"
    )]
    NotExecutable {
        /// The file.
        path: PathBuf,
        /// What it looks like.
        found: &'static str,
    },
    /// There, and unreadable.
    #[error("reading {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl NoProgram {
    /// The exit code a shell would give: 127 for what is not there, 126 for what cannot be run.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Absent { .. } => 127,
            Self::NotExecutable { .. } | Self::Unreadable { .. } => 126,
        }
    }
}

/// Finds a program as a shell does: a word with a slash is a file; another is looked for in the
/// folders of `path`. A WebAssembly file of the current folder needs no slash, so that
/// `cosmos run hello.wasm` works.
///
/// # Errors
/// If there is none.
pub fn find(word: &str, path: Option<&str>) -> Result<PathBuf, NoProgram> {
    let file = Path::new(word);
    let here = word.contains('/') || (word.ends_with(".wasm") && file.is_file());
    let found = if here {
        file.exists().then(|| file.to_owned())
    } else {
        let folders = path.unwrap_or("/usr/local/bin:/usr/bin:/bin").split(':');
        let files = folders.map(|folder| Path::new(folder).join(word));
        files.into_iter().find(|file| is_executable(file))
    };
    let found = found.ok_or_else(|| NoProgram::Absent {
        name: word.to_owned(),
        on_path: !here,
    })?;
    std::path::absolute(&found).map_err(|source| NoProgram::Unreadable {
        path: found,
        source,
    })
}

fn is_executable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

/// Looks at the first bytes of a file.
///
/// # Errors
/// If it cannot be read, or is nothing that can run.
pub fn kind(path: &Path) -> Result<Kind, NoProgram> {
    let not = |found| {
        Err(NoProgram::NotExecutable {
            path: path.to_owned(),
            found,
        })
    };
    let unreadable = |source| NoProgram::Unreadable {
        path: path.to_owned(),
        source,
    };
    if path.is_dir() {
        return not("a folder");
    }
    let mut first = Vec::new();
    // What is there may change under a program's hands: a pipe must not make a node wait.
    let opened = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path);
    match opened {
        Ok(file) if !file.metadata().map_err(unreadable)?.is_file() => {
            return not("no regular file");
        }
        Ok(file) => file.take(8).read_to_end(&mut first).map_err(unreadable)?,
        // Executable and unreadable is allowed, and then it is no WebAssembly of ours.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied && is_executable(path) => 0,
        Err(error) => return Err(unreadable(error)),
    };
    match first.as_slice() {
        [0, b'a', b's', b'm', 1, 0, 0, 0] => Ok(Kind::Module),
        // Version 0x0d is the pre-standard number that all components carry today; the layer is 1.
        [0, b'a', b's', b'm', 0x0d, 0, 1, 0] => Ok(Kind::Component),
        [0, b'a', b's', b'm', ..] => not("WebAssembly of a version that is not known here"),
        _ if is_executable(path) => Ok(Kind::Native),
        _ => not("a file without permission to execute"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_kind_is_read_from_bytes_and_not_from_names() {
        let folder = tempfile::tempdir().unwrap();
        let check = |bytes: &[u8], mode: u32| {
            let path = folder.path().join("x.wasm");
            fs::write(&path, bytes).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            kind(&path).map_err(|error| error.exit_code())
        };
        assert_eq!(
            check(b"\0asm\x01\0\0\0rest", 0o644).ok(),
            Some(Kind::Module)
        );
        assert_eq!(
            check(b"\0asm\x0d\0\x01\0", 0o644).ok(),
            Some(Kind::Component)
        );
        assert_eq!(check(b"#!/bin/sh\n", 0o755).ok(), Some(Kind::Native));
        assert_eq!(check(b"\0asm\x02\0\0\0", 0o755), Err(126));
        assert_eq!(check(b"plain text", 0o644), Err(126));
        assert_eq!(check(b"", 0o644), Err(126));
        assert_eq!(kind(folder.path()).unwrap_err().exit_code(), 126);
        let pipe = folder.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o755);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert_eq!(kind(&pipe).unwrap_err().exit_code(), 126);
    }

    #[test]
    fn a_word_without_a_slash_is_looked_for_on_the_path() {
        assert_eq!(
            find("sh", Some("/nowhere:/bin")).unwrap(),
            Path::new("/bin/sh")
        );
        assert_eq!(find("sh", Some("/nowhere")).unwrap_err().exit_code(), 127);
        assert_eq!(find("/bin/no-such", None).unwrap_err().exit_code(), 127);
    }
}
