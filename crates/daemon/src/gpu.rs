//! Which GPUs are here, and who has them?
//!
//! A program is given whole GPUs, as many as it asked for, from when it is known until it has ended for good; while it pauses before it is started again they stay its own. It finds
//! their device nodes in its walls and no others, beside those through which the driver is spoken to, and `CUDA_VISIBLE_DEVICES` and `NVIDIA_VISIBLE_DEVICES` name them: by their
//! identifiers (UUID) where the driver tells them, because numbers count only what is seen.
//!
//! There are as many as there are device nodes `nvidiaN` in `/dev`: what has none cannot be handed to anybody. The driver's library is not asked, so none needs to be there.
//!
//! Deliberately absent: parts of a GPU, GPUs of other makers, and taking one away from a program that runs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::supervision::Id;

/// Where device nodes are.
pub const DEVICES: &str = "/dev";

/// Where NVIDIA's driver tells about each of its GPUs.
const DRIVER: &str = "/proc/driver/nvidia/gpus";

/// Through these the driver is spoken to, whichever GPU is meant.
const BESIDE: [&str; 4] = [
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
];

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gpu {
    /// The number of its device node.
    pub minor: u32,
    /// The driver's identifier, if it tells one.
    pub uuid: Option<String>,
}

/// A device node that a program is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Where it is on the host.
    pub host: PathBuf,
    /// What it is called in `/dev` of the program.
    pub name: String,
}

/// Those of a machine, and who has which.
#[derive(Clone, Debug, Default)]
pub struct Gpus {
    folder: PathBuf,
    all: Vec<Gpu>,
    held: BTreeMap<Id, Vec<Gpu>>,
}

impl Gpus {
    /// Those whose device nodes lie in this folder.
    #[must_use]
    pub fn of(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            all: found(folder, Path::new(DRIVER)),
            held: BTreeMap::new(),
        }
    }

    /// How many there are.
    #[must_use]
    pub fn there(&self) -> usize {
        self.all.len()
    }

    /// How many of them nobody has.
    #[must_use]
    pub fn free(&self) -> usize {
        self.all.len() - self.held.values().map(Vec::len).sum::<usize>()
    }

    /// Whose are to be given back.
    pub fn keep(&mut self, is_kept: impl Fn(Id) -> bool) {
        self.held.retain(|id, _| is_kept(*id));
    }

    /// So many for this program, the first that are free; those it has already if it has some.
    ///
    /// # Errors
    /// How many there are, if these are too few.
    pub fn take(&mut self, id: Id, wanted: usize) -> Result<Vec<Gpu>, String> {
        if let Some(held) = self.held.get(&id) {
            return Ok(held.clone());
        }
        let taken = |gpu: &&Gpu| self.held.values().flatten().any(|held| held == *gpu);
        let free = self.all.iter().filter(|gpu| !taken(gpu));
        let given: Vec<_> = free.take(wanted).cloned().collect();
        if given.len() < wanted {
            return Err(lack(self.there(), self.free(), wanted));
        }
        if wanted > 0 {
            self.held.insert(id, given.clone());
        }
        Ok(given)
    }

    /// The device nodes that go with these.
    #[must_use]
    pub fn devices(&self, given: &[Gpu]) -> Vec<Device> {
        if given.is_empty() {
            return Vec::new();
        }
        let beside = BESIDE.map(str::to_owned);
        let beside = beside
            .into_iter()
            .filter(|name| is_device(&self.folder.join(name)));
        let own = given.iter().map(|gpu| format!("nvidia{}", gpu.minor));
        own.chain(beside)
            .map(|name| Device {
                host: self.folder.join(&name),
                name,
            })
            .collect()
    }
}

/// What to say where there are too few.
#[must_use]
pub fn lack(there: usize, free: usize, wanted: usize) -> String {
    match there {
        0 => format!("found 0 GPUs on this machine, expected {wanted} (--gpu)"),
        _ => format!(
            "found {there} GPUs on this machine, of which {free} are free, expected {wanted} (--gpu)"
        ),
    }
}

/// The variables by which programs know theirs.
#[must_use]
pub fn variables(given: &[Gpu]) -> Vec<(String, String)> {
    if given.is_empty() {
        return Vec::new();
    }
    let names = given.iter().map(|gpu| match &gpu.uuid {
        Some(uuid) => uuid.clone(),
        None => gpu.minor.to_string(),
    });
    let names = names.collect::<Vec<_>>().join(",");
    ["CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"]
        .map(|key| (key.to_owned(), names.clone()))
        .into()
}

fn is_device(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|found| found.file_type().is_char_device())
}

/// By the numbers of their device nodes.
fn found(folder: &Path, driver: &Path) -> Vec<Gpu> {
    let uuids = uuids(driver);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let minors = entries.filter_map(|entry| {
        let name = entry.file_name();
        let minor = name.to_str()?.strip_prefix("nvidia")?.parse().ok()?;
        is_device(&entry.path()).then_some(minor)
    });
    let mut all: Vec<_> = minors
        .map(|minor| Gpu {
            minor,
            uuid: uuids.get(&minor).cloned(),
        })
        .collect();
    all.sort_by_key(|gpu| gpu.minor);
    all
}

/// What the driver calls the GPU of each device node.
fn uuids(driver: &Path) -> BTreeMap<u32, String> {
    let entries = fs::read_dir(driver).into_iter().flatten().flatten();
    let told = entries.filter_map(|entry| {
        let text = fs::read_to_string(entry.path().join("information")).ok()?;
        let field = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key))?;
            Some(line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
        };
        let minor = field("Device Minor")?.parse().ok()?;
        Some((minor, field("GPU UUID")?))
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(number: u32) -> Gpus {
        Gpus {
            folder: PathBuf::from("/dev"),
            all: (0..number).map(|minor| Gpu { minor, uuid: None }).collect(),
            held: BTreeMap::new(),
        }
    }

    #[test]
    fn each_is_given_to_one_and_again_when_that_is_gone() {
        let mut gpus = machine(3);
        let minors = |given: Vec<Gpu>| given.iter().map(|gpu| gpu.minor).collect::<Vec<_>>();
        assert_eq!(minors(gpus.take(1, 2).unwrap()), [0, 1]);
        assert_eq!(minors(gpus.take(2, 1).unwrap()), [2]);
        // Whoever has some keeps them, however often it is started.
        assert_eq!(minors(gpus.take(1, 2).unwrap()), [0, 1]);
        assert_eq!(
            gpus.take(3, 1).unwrap_err(),
            "found 3 GPUs on this machine, of which 0 are free, expected 1 (--gpu)"
        );
        gpus.keep(|id| id != 1);
        assert_eq!(gpus.free(), 2);
        assert_eq!(minors(gpus.take(3, 1).unwrap()), [0]);
        assert_eq!(
            machine(0).take(1, 1).unwrap_err(),
            "found 0 GPUs on this machine, expected 1 (--gpu)"
        );
        assert_eq!(machine(0).take(1, 0), Ok(Vec::new()));
    }

    #[test]
    fn they_are_named_as_the_driver_names_them() {
        let folder = tempfile::tempdir().unwrap();
        for (place, minor, uuid) in [("0000:41:00.0", 1, "GPU-b"), ("0000:01:00.0", 0, "GPU-a")] {
            let gpu = folder.path().join(place);
            fs::create_dir(&gpu).unwrap();
            let text = format!(
                "Model: \t\t NVIDIA H100\nIRQ:   \t\t 60\nGPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
            );
            fs::write(gpu.join("information"), text).unwrap();
        }
        let uuids = uuids(folder.path());
        assert_eq!(uuids[&0], "GPU-a");
        assert_eq!(uuids[&1], "GPU-b");
        let given = [0, 1].map(|minor| Gpu {
            minor,
            uuid: uuids.get(&minor).cloned(),
        });
        assert_eq!(
            variables(&given)[0],
            ("CUDA_VISIBLE_DEVICES".to_owned(), "GPU-a,GPU-b".to_owned())
        );
        // A plain file is no GPU.
        fs::write(folder.path().join("nvidia0"), "").unwrap();
        assert_eq!(found(folder.path(), folder.path()), []);
    }
}
