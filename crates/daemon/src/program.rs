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
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::Class;

use crate::gpu::Device;
use crate::health::Health;

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
    /// Whom it can reach, and who it. Capsules reach nobody.
    #[serde(default)]
    pub network: Network,
    /// Ports of its own network that the host's lead to.
    #[serde(default)]
    pub ports: Vec<Port>,
    /// How to find out whether it is well; capsules are not asked.
    #[serde(default)]
    pub health: Option<Health>,
    /// Where a capsule's chance comes from if it is rehearsed: then its time is its own too.
    #[serde(default)]
    pub seed: Option<u64>,
    /// Device nodes that it was given for this run; nobody asks for them by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
}

/// A folder of the host that a program may read and write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// Where it lies: absolute, and without symbolic links.
    pub host: PathBuf,
    /// What a capsule calls it. A program of the host finds it under both names; seen from where it starts, if this
    /// one is relative.
    pub guest: String,
}

/// Whose network a program of the host is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Network {
    /// One of its own, in which there is nothing but itself.
    #[default]
    Own,
    /// The host's.
    Host,
}

/// A port of the host that leads to one of a program in a network of its own, or to a capsule that answers HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Port {
    /// Where the host listens.
    pub host: SocketAddr,
    /// Where the program does, on its loopback. A capsule has no ports of its own: every one leads to it.
    pub guest: u16,
}

impl FromStr for Port {
    type Err = String;

    /// `8080:80`, on the host's loopback, or `0.0.0.0:8080:80`, `[::]:8080:80`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("found \"{text}\", expected [ADDRESS:]HOST:GUEST, such as 8080:80");
        let (host, guest) = text.rsplit_once(':').ok_or_else(wrong)?;
        let guest = guest
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?;
        let host = match host.parse() {
            Ok(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Err(_) => host.parse().map_err(|_| wrong())?,
        };
        match host.port() {
            0 => Err(wrong()),
            _ => Ok(Self { host, guest }),
        }
    }
}

/// Why a folder cannot be shared.
#[derive(Debug, thiserror::Error)]
pub enum NoFolder {
    /// Neither found nor a folder.
    #[error(
        "found no folder {host}, expected one that is there{}",
        if *.divided { "; a colon that is part of a name is written \\:" } else { "" }
    )]
    Absent {
        /// What was looked for.
        host: String,
        /// Whether a colon was taken to end it.
        divided: bool,
    },
    /// A colon and nothing after it.
    #[error("expected a name after the colon")]
    Nameless,
    /// The root.
    #[error("all of the host's files cannot be shared at once; name the folders that are meant")]
    Root,
    /// Something of which every program has its own.
    #[error("every program has {0} of its own, the host's cannot be shared")]
    MadeAnew(&'static str),
    /// The name is in a folder of the system, where nothing can be added.
    #[error("nothing can be given the name {0}: that is inside a folder of the system")]
    Taken(String),
}

impl Folder {
    /// From `PATH[:GUEST]`. A colon that is part of a name is written `\:`, a backslash `\\`. What is relative begins
    /// in `directory`.
    ///
    /// # Errors
    /// If there is no such folder, or it is none that can be shared.
    pub fn read(text: &str, directory: &Path) -> Result<Self, NoFolder> {
        let (mut named, mut guest) = (String::new(), None::<String>);
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            if c == ':' && guest.is_none() {
                guest = Some(String::new());
                continue;
            }
            // A backslash before anything else is itself.
            let escaped = rest.next_if(|next| c == '\\' && matches!(next, ':' | '\\'));
            guest
                .as_mut()
                .unwrap_or(&mut named)
                .push(escaped.unwrap_or(c));
        }
        let divided = guest.is_some();
        let guest = guest.unwrap_or_else(|| named.clone());
        if guest.is_empty() && divided {
            return Err(NoFolder::Nameless);
        }
        let host = directory.join(&named).canonicalize();
        let host = host.ok().filter(|host| host.is_dir());
        let host = host.ok_or(NoFolder::Absent {
            host: named,
            divided,
        })?;
        if host == Path::new("/") {
            return Err(NoFolder::Root);
        }
        let anew = ["/proc", "/dev", "/sys"];
        if let Some(anew) = anew.into_iter().find(|anew| host.starts_with(anew)) {
            return Err(NoFolder::MadeAnew(anew));
        }
        Ok(Self { host, guest })
    }

    /// Its other name for a program of the host that starts in `directory`: absolute, without `.` and `..`.
    #[must_use]
    pub fn named(&self, directory: &Path) -> PathBuf {
        let mut named = PathBuf::new();
        for part in directory.join(&self.guest).components() {
            match part {
                Component::ParentDir => drop(named.pop()),
                Component::CurDir => {}
                part => named.push(part),
            }
        }
        named
    }
}

/// What a program may use; `None` for as much as there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory, in bytes.
    pub memory: Option<u64>,
    /// Processor, in cores. For programs of the host only.
    pub cores: Option<f64>,
    /// Whole GPUs, which are its own until it has ended for good. For programs of the host only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
    /// Instructions of WebAssembly, as wasmtime's fuel counts them: one each, structure free.
    pub fuel: Option<u64>,
    /// How much it is given where others want the same: processor, and disk where the host shares that out.
    #[serde(default, with = "class", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub class: Option<Class>,
}

/// A class as its letter.
mod class {
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de};
    use wire::Class;

    #[expect(clippy::ref_option, reason = "serde asks for it")]
    pub(super) fn serialize<S: Serializer>(
        class: &Option<Class>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        class.map(|class| class.to_string()).serialize(to)
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Class>, D::Error> {
        let Some(letter) = Option::<String>::deserialize(from)? else {
            return Ok(None);
        };
        let found = Class::ALL
            .into_iter()
            .find(|class| class.to_string() == letter);
        let wrong = || de::Error::custom(format!("found class {letter:?}, expected A, B, C or D"));
        found.map(Some).ok_or_else(wrong)
    }
}

impl Program {
    /// About how long it is when it is written, in bytes.
    #[must_use]
    pub fn length(&self) -> usize {
        let words = self.arguments.iter().map(String::len);
        let variables = self.environment.iter();
        let variables = variables.map(|(key, value)| key.len() + value.len());
        words.chain(variables).sum()
    }

    /// How many GPUs it asks for.
    #[must_use]
    pub fn gpus(&self) -> usize {
        self.limits.gpus.unwrap_or(0) as usize
    }

    /// Whether what is asked for can be had by a program of this kind.
    ///
    /// # Errors
    /// What cannot, in a sentence.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        let (name, native) = (&self.name, kind == Kind::Native);
        let refused = |because: &str| Err(format!("{name} {because}"));
        if !native && self.limits.cores.is_some() {
            return refused(
                "is a capsule, which has one core (--cpu); its instructions are limited with --fuel",
            );
        }
        if !native && self.gpus() > 0 {
            return refused("is a capsule, which sees no devices (--gpu)");
        }
        if !self.devices.is_empty() {
            return refused("names devices, which a node gives by number (--gpu)");
        }
        if !native && self.network != Network::Own {
            return refused("is a capsule, which has no network (--net)");
        }
        if kind == Kind::Module && !self.ports.is_empty() && !crate::capsule::lives(&self.path) {
            return refused(
                "is a module without on_event, which nobody can ask: expected one that exports it, or a component that answers HTTP (--port)",
            );
        }
        if native && self.seed.is_some() {
            return refused("is no capsule, its time and chance are the host's (--deterministic)");
        }
        if self.seed.is_some() && !self.ports.is_empty() {
            return refused(
                "answers requests, which come when they come: that cannot be repeated (--deterministic, --port)",
            );
        }
        if self.seed.is_some() && !self.folders.is_empty() {
            return refused(
                "is to run the same way twice, and what lies in a folder, in which order and with which times, is the host's (--deterministic, --dir)",
            );
        }
        if !native && self.health.is_some() {
            return refused("is a capsule, which is not asked for its health");
        }
        if native && self.limits.fuel.is_some() {
            return refused("is no capsule, its instructions are not counted (--fuel)");
        }
        if self.network == Network::Host && !self.ports.is_empty() {
            return refused("is in the host's own network, into which nothing leads (--port)");
        }
        if self
            .limits
            .cores
            .is_some_and(|cores| !(0.01..=1024.0).contains(&cores))
        {
            return refused("may use no such number of cores: expected 0.01 to 1024");
        }
        if self.limits.memory == Some(0) {
            return refused("may use no memory at all: expected at least a byte");
        }
        let variables = self
            .environment
            .iter()
            .flat_map(|(key, value)| [key, value]);
        let mut words = std::iter::once(name)
            .chain(&self.arguments)
            .chain(variables);
        if words.any(|word| word.contains('\0')) {
            return refused(
                "has a word or a variable with a zero byte in it, which no program can be given",
            );
        }
        if self
            .environment
            .iter()
            .any(|(key, _)| key.is_empty() || key.contains('='))
        {
            return refused("has a variable without a name, or with '=' in its name");
        }
        match &self.health {
            Some(health)
                if health.failures == 0 || health.every_ms == 0 || health.patience_ms == 0 =>
            {
                refused(
                    "is asked for its health at once and without end: expected at least 1 failure, and times above 0",
                )
            }
            _ => Ok(()),
        }
    }
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

/// A name for a program after its file, of at most so many letters and a number, that is not taken.
pub(crate) fn free_name(path: &Path, letters: usize, taken: impl Fn(&str) -> bool) -> String {
    let stem = stem(path, letters);
    let mut names = (1..).map(|number| format!("{stem}-{number}"));
    names
        .find(|name| !taken(name))
        .expect("there are more numbers than programs")
}

/// With what such a name begins.
pub(crate) fn stem(path: &Path, letters: usize) -> String {
    let stem = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or("program");
    let stem: String = stem
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
        .take(letters)
        .collect();
    let stem = stem.trim_start_matches(['.', '_', '-']);
    let stem = if stem.is_empty() { "program" } else { stem };
    stem.to_owned()
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
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => 127,
            Self::NotExecutable { .. } | Self::Unreadable { .. } => 126,
        }
    }
}

/// What is said of a program that the kernel ended because of its limit of memory, in bytes.
#[must_use]
pub fn used_up_memory(name: &str, limit: u64) -> String {
    format!("{name} was stopped: it used more than its limit of {limit} bytes of memory (--mem)")
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
    fn a_folder_has_two_names_and_a_colon_between_them() {
        let here = tempfile::tempdir().unwrap();
        let here = here.path().canonicalize().unwrap();
        for name in ["a", "a:b", "a\\b"] {
            fs::create_dir(here.join(name)).unwrap();
        }
        std::os::unix::fs::symlink("a", here.join("link")).unwrap();
        for (text, host, named) in [
            ("a", "a", "a"),
            ("./x/../a", "a", "a"),
            ("link", "a", "link"),
            ("a:/srv/x", "a", "/srv/x"),
            ("a:x:y", "a", "x:y"),
            (r"a\:b", "a:b", "a:b"),
            (r"a\:b:c", "a:b", "c"),
            (r"a\\b", r"a\b", r"a\b"),
            (r"a\b", r"a\b", r"a\b"),
        ] {
            if text.contains("x/..") {
                fs::create_dir_all(here.join("x")).unwrap();
            }
            let folder = Folder::read(text, &here).unwrap();
            assert_eq!(folder.host, here.join(host), "{text}");
            assert_eq!(folder.named(&here), here.join(named), "{text}");
        }
        for (text, says) in [
            ("c:d", "a colon that is part of a name is written \\:"),
            ("a:", "expected a name after the colon"),
            ("/", "name the folders that are meant"),
            ("/usr/..", "name the folders that are meant"),
            ("/proc/self", "every program has /proc of its own"),
            ("/dev/shm", "every program has /dev of its own"),
        ] {
            let said = Folder::read(text, &here).unwrap_err().to_string();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn a_port_leads_from_the_hosts_loopback_unless_it_says_otherwise() {
        let read = |text: &str| {
            text.parse::<Port>()
                .map(|port| (port.host.to_string(), port.guest))
        };
        assert_eq!(read("8080:80"), Ok(("127.0.0.1:8080".into(), 80)));
        assert_eq!(read("0.0.0.0:8080:80"), Ok(("0.0.0.0:8080".into(), 80)));
        assert_eq!(read("[::1]:8080:80"), Ok(("[::1]:8080".into(), 80)));
        for wrong in [
            "", "80", ":80", "80:", "0:80", "80:0", "65536:1", "host:1:2", "::1:1:2",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
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
