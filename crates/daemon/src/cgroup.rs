//! Limits the kernel keeps: control groups, of version 2 or 1, whichever the host has.
//!
//! Each program gets a group of its own, named after the process that made it; those of a node are together in one
//! ([`Hierarchy::together`]), so that what that is dealt they share, however many they are. What
//! a host does not have or does not let us use is *absent* from [`Group::holds`], and the caller falls
//! back to resource limits for it; nothing here pretends.
//!
//! Version 2 has one tree, and a group that has members cannot pass controllers on; so groups are made
//! under the root of what is mounted here, which root may do. Version 1 has a tree for each controller, and refuses
//! a group more than the one around it has: whoever lowers both begins inside.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use wire::Class;

use crate::program::Limits;

/// How many processes and threads a program may have. A fork bomb ends here; PostgreSQL and a Java
/// server with their hundreds of threads do not.
pub const PROCESSES_MAX: u32 = 4096;

/// The period over which processor time is dealt out, in microseconds: the kernel's own default.
const PERIOD_US: u64 = 100_000;

/// The controllers that are used. Of a disk's time, `io` (version 2) and `blkio` (version 1) deal out by weight where the
/// disk's scheduler knows weights.
const CONTROLLERS: [&str; 5] = ["memory", "cpu", "pids", "io", "blkio"];

/// What a class weighs where several want the same: each four times what the next does. C is what everybody has who
/// asks for nothing, and so weighs what the kernel gives by itself.
fn weight(class: Class) -> u64 {
    match class {
        Class::A => 1600,
        Class::B => 400,
        Class::C => 100,
        Class::D => 25,
    }
}

/// What the host offers.
#[derive(Debug, PartialEq, Eq)]
pub struct Hierarchy {
    /// 2 where all controllers are in one tree.
    pub version: u8,
    /// For each controller the folder in which groups are to be made.
    folders: BTreeMap<&'static str, PathBuf>,
    /// The group around those of a node's programs.
    around: Option<Group>,
}

/// The group of one program. It is removed when this is dropped, if the program is gone by then.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    version: u8,
    /// For each controller that works, this group's folder.
    folders: BTreeMap<&'static str, PathBuf>,
}

impl Hierarchy {
    /// Looks at the host; `None` if it has no control groups, or none that we may use.
    #[must_use]
    pub fn of_this_host() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::read(&mounts, &own)
    }

    /// From `/proc/self/mountinfo` and `/proc/self/cgroup`.
    fn read(mounts: &str, own: &str) -> Option<Self> {
        let mut version = 1;
        let mut folders = BTreeMap::new();
        for line in mounts.lines() {
            let Some((mount, kind)) = line.split_once(" - ") else {
                continue;
            };
            let mount: Vec<_> = mount.split(' ').collect();
            let kind: Vec<_> = kind.split(' ').collect();
            let ([_, _, _, root, point, ..], [kind, _, options, ..]) = (&mount[..], &kind[..])
            else {
                continue;
            };
            let options: Vec<_> = options.split(',').collect();
            // A hybrid host mounts version 2 without controllers, for systemd alone.
            for controller in CONTROLLERS {
                let here = match *kind {
                    "cgroup" => options.contains(&controller),
                    "cgroup2" => !folders.contains_key(controller) && has(point, controller),
                    _ => false,
                };
                if !here {
                    continue;
                }
                if *kind == "cgroup2" {
                    version = 2;
                }
                let own = own_path(own, controller, *kind == "cgroup2").unwrap_or("/");
                // What of the tree is mounted here may begin below its root.
                let below = own.strip_prefix(root.trim_end_matches('/')).unwrap_or("/");
                let point = Path::new(point);
                let folder = match *kind {
                    "cgroup2" => point.to_owned(),
                    _ => point.join(below.trim_start_matches('/')),
                };
                folders.insert(controller, folder);
            }
        }
        (!folders.is_empty()).then_some(Self {
            version,
            folders,
            around: None,
        })
    }

    /// From now on groups are made in one around them, as far as the host lets us.
    #[must_use]
    pub fn together(mut self) -> Self {
        let mut around = Group {
            version: self.version,
            folders: BTreeMap::new(),
        };
        let own = format!("cosmos-{}", std::process::id());
        for (&controller, parent) in &mut self.folders {
            sweep(parent);
            let folder = parent.join(&own);
            let made = match fs::create_dir(&folder) {
                Err(error) => error.kind() == io::ErrorKind::AlreadyExists,
                Ok(()) => true,
            };
            let passes = self.version == 1 || {
                let control = folder.join("cgroup.subtree_control");
                fs::write(control, format!("+{controller}")).is_ok()
            };
            if made && passes {
                around.folders.insert(controller, folder.clone());
                *parent = folder;
            }
        }
        self.around = Some(around);
        self
    }

    /// From now on groups are made in the one around those of a node, if that has one: so what its programs are dealt
    /// is shared.
    #[must_use]
    pub fn beside_those_of(mut self, node: u32) -> Self {
        for parent in self.folders.values_mut() {
            let around = parent.join(format!("cosmos-{node}"));
            if around.is_dir() {
                *parent = around;
            }
        }
        self
    }

    /// Deals out so many cores to all programs together, or as many as there are; `false` if the kernel does not.
    pub fn deal(&self, cores: Option<f64>) -> bool {
        self.around
            .as_ref()
            .is_some_and(|around| around.deal(cores))
    }

    /// Makes a group, sets its limits, and removes those whose makers are gone.
    /// `None` if no controller let itself be used.
    #[must_use]
    pub fn group(&self, name: &str, limits: Limits) -> Option<Group> {
        let mut group = Group {
            version: self.version,
            folders: BTreeMap::new(),
        };
        for (controller, parent) in &self.folders {
            if self.around.is_none() {
                sweep(parent);
            }
            // A group of its own tree costs the kernel something, one for memory the most: who asks for nothing there
            // needs none.
            let asked = match *controller {
                "io" | "blkio" => limits.class.is_some(),
                "memory" => limits.memory.is_some() || self.version == 2,
                _ => true,
            };
            if !asked {
                continue;
            }
            let folder = parent.join(format!("cosmos-{}-{name}", std::process::id()));
            match fs::create_dir(&folder) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => continue,
                _ => {}
            }
            if group.limit(controller, &folder, limits).is_ok() {
                group.folders.insert(controller, folder);
            } else if !group.folders.values().any(|other| *other == folder) {
                let _ = fs::remove_dir(&folder);
            }
        }
        (!group.folders.is_empty()).then_some(group)
    }
}

/// Whether a tree of version 2 passes a controller on to the groups in its root.
fn has(point: &str, controller: &str) -> bool {
    let passed = fs::read_to_string(Path::new(point).join("cgroup.subtree_control"));
    passed.is_ok_and(|passed| passed.split_whitespace().any(|word| word == controller))
}

fn own_path<'a>(own: &'a str, controller: &str, unified: bool) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let found = match unified {
            true => controllers.is_empty(),
            false => controllers.split(',').any(|word| word == controller),
        };
        found.then_some(path)
    })
}

/// Removes empty groups whose makers are gone: a maker that was killed could not.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let maker = name
            .to_str()
            .and_then(|name| name.strip_prefix("cosmos-")?.split('-').next());
        if maker.is_some_and(|maker| !Path::new("/proc").join(maker).exists()) {
            for inside in fs::read_dir(entry.path()).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(inside.path());
            }
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Group {
    fn limit(&self, controller: &str, folder: &Path, limits: Limits) -> io::Result<()> {
        let set = |file: &str, value: String| fs::write(folder.join(file), value);
        match (self.version, controller) {
            (_, "pids") => set("pids.max", PROCESSES_MAX.to_string()),
            (2, "memory") => limits.memory.map_or(Ok(()), |bytes| {
                set("memory.max", bytes.to_string())?;
                // Absent where the kernel has no swap.
                let _ = set("memory.swap.max", "0".to_owned());
                Ok(())
            }),
            (_, "memory") => limits.memory.map_or(Ok(()), |bytes| {
                set("memory.limit_in_bytes", bytes.to_string())?;
                let _ = set("memory.memsw.limit_in_bytes", bytes.to_string());
                Ok(())
            }),
            (_, "io" | "blkio") => limits.class.map_or(Ok(()), |class| {
                // Version 1 takes 10 to 1000, and 500 is what everybody has. Where the disk knows no weights there is
                // no such file.
                let of_1 = (weight(class) * 5).clamp(10, 1000);
                let _ = match self.version {
                    2 => set("io.weight", weight(class).to_string()),
                    _ => set("blkio.weight", of_1.to_string())
                        .or_else(|_| set("blkio.bfq.weight", of_1.to_string())),
                };
                Ok(())
            }),
            (2, _) => {
                let weighed = limits
                    .class
                    .map(|class| set("cpu.weight", weight(class).to_string()));
                weighed.unwrap_or(Ok(()))?;
                limits.cores.map_or(Ok(()), |cores| {
                    set("cpu.max", format!("{} {PERIOD_US}", quota_us(cores)))
                })
            }
            (_, _) => {
                // 1024 is what 100 is in version 2.
                let shares = limits.class.map(|class| weight(class) * 1024 / 100);
                let weighed = shares.map(|shares| set("cpu.shares", shares.to_string()));
                weighed.unwrap_or(Ok(()))?;
                limits.cores.map_or(Ok(()), |cores| {
                    set("cpu.cfs_period_us", PERIOD_US.to_string())?;
                    set("cpu.cfs_quota_us", quota_us(cores).to_string())
                })
            }
        }
    }

    /// Deals out so many cores from now on, or as many as there are; `false` if the kernel does not.
    pub fn deal(&self, cores: Option<f64>) -> bool {
        let Some(folder) = self.folders.get("cpu") else {
            return false;
        };
        let (file, quota) = match (self.version, cores.map(quota_us)) {
            (2, Some(quota)) => ("cpu.max", format!("{quota} {PERIOD_US}")),
            (2, None) => ("cpu.max", format!("max {PERIOD_US}")),
            (_, Some(quota)) => ("cpu.cfs_quota_us", quota.to_string()),
            (_, None) => ("cpu.cfs_quota_us", "-1".to_owned()),
        };
        fs::write(folder.join(file), quota).is_ok()
    }

    /// Whether the kernel keeps this limit: `memory`, `cpu` or `pids`.
    #[must_use]
    pub fn holds(&self, controller: &str) -> bool {
        self.folders.contains_key(controller)
    }

    /// The files into which a process with one thread writes `0` to become a member.
    #[must_use]
    pub fn doors(&self) -> Vec<PathBuf> {
        // Whole processes move under a lock that every fork of the machine takes as well, and that is only had after a
        // grace period of the kernel's: a thread that moves itself needs none. Version 2 does not let it.
        let file = match self.version {
            2 => "cgroup.procs",
            _ => "tasks",
        };
        let doors = self.folders.values().map(|folder| folder.join(file));
        let mut doors: Vec<_> = doors.collect();
        doors.dedup();
        doors
    }

    /// How many members the kernel has killed because the memory was used up.
    #[must_use]
    pub fn killed_for_memory(&self) -> u64 {
        let file = match self.version {
            2 => "memory.events",
            _ => "memory.oom_control",
        };
        let folder = self.folders.get("memory");
        let text = folder.and_then(|folder| fs::read_to_string(folder.join(file)).ok());
        let text = text.unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|number| number.trim().parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for folder in self.folders.values() {
            let _ = fs::remove_dir(folder);
        }
    }
}

/// The kernel takes no less than a millisecond.
fn quota_us(cores: f64) -> u64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "cores are positive and few"
    )]
    let quota = (cores * PERIOD_US as f64) as u64;
    quota.max(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_of_version_1_are_found_where_they_are_mounted() {
        let mounts = "\
30 29 0:26 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
31 29 0:27 /box /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct
32 29 0:28 / /proc rw - proc proc rw";
        let own = "4:memory:/one/two\n3:cpu,cpuacct:/box/three\n0::/\n";
        let found = Hierarchy::read(mounts, own).unwrap();
        assert_eq!(found.version, 1);
        let folders: Vec<_> = found
            .folders
            .iter()
            .map(|(name, at)| (*name, at.to_str().unwrap()))
            .collect();
        assert_eq!(
            folders,
            [
                ("cpu", "/sys/fs/cgroup/cpu,cpuacct/three"),
                ("memory", "/sys/fs/cgroup/memory/one/two")
            ]
        );
        assert_eq!(
            Hierarchy::read("32 29 0:28 / /proc rw - proc proc rw", own),
            None
        );
    }

    #[test]
    fn a_tree_of_version_2_counts_for_what_it_passes_on() {
        let root = tempfile::tempdir().unwrap();
        let point = root.path().display();
        let mounts = format!("30 29 0:26 / {point} rw - cgroup2 cgroup2 rw");
        assert_eq!(Hierarchy::read(&mounts, "0::/user.slice\n"), None);
        fs::write(root.path().join("cgroup.subtree_control"), "cpu memory\n").unwrap();
        let found = Hierarchy::read(&mounts, "0::/user.slice\n").unwrap();
        assert_eq!(found.version, 2);
        assert_eq!(
            found.folders.keys().copied().collect::<Vec<_>>(),
            ["cpu", "memory"]
        );
        // Folders that are no control group at least show what would be written.
        let limits = Limits {
            memory: Some(4096),
            cores: Some(1.5),
            class: Some(Class::D),
            ..Limits::default()
        };
        let group = found.group("x", limits).unwrap();
        let folder = group.folders["memory"].clone();
        assert_eq!(
            fs::read_to_string(folder.join("memory.max")).unwrap(),
            "4096"
        );
        assert_eq!(
            fs::read_to_string(folder.join("cpu.max")).unwrap(),
            "150000 100000"
        );
        assert_eq!(fs::read_to_string(folder.join("cpu.weight")).unwrap(), "25");
        assert!(group.deal(Some(0.25)));
        let quota = || fs::read_to_string(folder.join("cpu.max")).unwrap();
        assert_eq!(quota(), "25000 100000");
        assert!(group.deal(None));
        assert_eq!(quota(), "max 100000");
        assert!(!group.holds("pids"));
        fs::write(folder.join("memory.events"), "oom 3\noom_kill 2\n").unwrap();
        assert_eq!(group.killed_for_memory(), 2);
    }
}
