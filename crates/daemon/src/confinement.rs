//! What a program of the host can see and do.
//!
//! Three walls, each for itself incomplete:
//!
//! * **Its own root**: an empty file system into which the host's programs and libraries are bound to
//!   be read, the folders it was promised to be written, the program's own file, a fresh `/tmp` and
//!   `/proc`, and six devices, besides those of GPUs that it was given. What was not put there has no name. Needs namespaces of users and mounts.
//!   Two things are taken away again wherever they would show: the node's directory, which holds its socket and what
//!   it knows of other programs, and what of `/etc` only root may read, such as passwords.
//! * **Landlock** says the same once more about what stays reachable by other ways (an open descriptor,
//!   a mount), and closes abstract sockets and signals to what is outside. It also stands where
//!   namespaces are refused; but connecting to a socket that has a name in the file system is not its
//!   concern, so there a program can reach the node's.
//! * **seccomp** refuses calls of the kernel (`calls`) that programs do not need and kernels were broken through, and those
//!   that would make new namespaces, in which old walls can be climbed.
//!
//! Besides, no program keeps a capability, and none gains a privilege by executing a file. Its network is the
//! business of [`network`](crate::network).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::CWD;
use rustix::mount::{
    MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
};
use rustix::thread::UnshareFlags;

use crate::calls::Filter;
use crate::program::{Network, NoFolder, Program};

/// Where programs and libraries of the host lie, and what configures them.
const SYSTEM: [&str; 9] = [
    "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc", "/opt", "/nix",
];

/// Devices that give and take bytes and nothing else.
const DEVICES: [&str; 6] = [
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/tty",
];

type Failed = (String, io::Error);

fn step<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Failed {
    |error| (what.into(), error.into())
}

fn at<E: Into<io::Error>>(what: &str, path: &Path) -> impl FnOnce(E) -> Failed {
    step(format!("{what} {}", path.display()))
}

/// Something of the host's, taken out of its tree before anything is mounted over it.
struct Source {
    path: PathBuf,
    is_folder: bool,
    tree: OwnedFd,
}

impl Source {
    /// With all that is mounted below it; `None` if nothing is there.
    fn take(path: &Path, writable: bool) -> Result<Option<Self>, Failed> {
        let taken = Self::take_as(path, path)?;
        if let (Some(source), false) = (&taken, writable) {
            protect(&source.tree).map_err(at("protecting", path))?;
        }
        Ok(taken)
    }

    /// What lies in one place, as if it lay in another.
    fn take_as(from: &Path, path: &Path) -> Result<Option<Self>, Failed> {
        let Ok(found) = fs::metadata(from) else {
            return Ok(None);
        };
        Ok(Some(Self {
            path: path.to_owned(),
            is_folder: found.is_dir(),
            tree: copy(from)?,
        }))
    }

    /// Puts it below `root` where it lies on the host, making what is missing there.
    fn put(&self, root: &Path) -> Result<(), Failed> {
        let place = below(root, &self.path);
        if !place.exists() {
            if let Some(parent) = place.parent().filter(|parent| *parent != root) {
                fs::create_dir_all(parent).map_err(at("making", parent))?;
            }
            let made = match self.is_folder {
                true => fs::create_dir(&place),
                false => File::create(&place).map(drop),
            };
            made.map_err(at("making", &place))?;
        }
        put(&self.tree, &place)
    }
}

/// A tree of mounts once more.
fn copy(path: &Path) -> Result<OwnedFd, Failed> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    rustix::mount::open_tree(CWD, path, flags).map_err(at("taking", path))
}

fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn put(tree: &OwnedFd, place: &Path) -> Result<(), Failed> {
    rustix::mount::move_mount(
        tree,
        "",
        CWD,
        place,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    )
    .map_err(at("putting something at", place))
}

/// Makes a tree of mounts, each of them, impossible to write through.
fn protect(tree: &OwnedFd) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is empty and ends with a zero, and the attributes are read only, and as long as is said.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn fresh(place: &Path, options: &std::ffi::CStr) -> Result<(), Failed> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("tmpfs", place, "tmpfs", flags, options)
        .map_err(at("mounting a fresh", place))
}

/// Its `/tmp`. It lies in memory and counts as the program's, so a limit of memory bounds it too; without one half of
/// the host's memory would be a program's to fill. A gibibyte is room for what programs put there while they work; who
/// needs more has a folder (`--dir`).
const TMP: &std::ffi::CStr = c"mode=1777,size=1g";

/// Memory shared between its processes, of which PostgreSQL is the usual user: four times what Docker gives.
const SHM: &std::ffi::CStr = c"mode=1777,size=256m";

/// Where in this process's namespace of mounts stands what every program sees, if it is a fork of one that [set the
/// scene](set_the_scene).
static SCENE: OnceLock<PathBuf> = OnceLock::new();

/// The folder of a node's directory over which it stands, in that namespace. Elsewhere it is empty.
pub(crate) const SCENE_FOLDER: &str = "scene";

/// Puts together what every program sees, in a namespace of mounts that this process, which must have one thread, has
/// for itself and for those that are forked from it: what is the same for all, the system with what of it must not be
/// seen taken away, is then not put together for each. What is mounted on the host later, or becomes secret there,
/// does not show in it: see [`Watch`].
///
/// # Errors
/// If the kernel refuses a step, as it does who is not root. Nothing is lost then but time.
pub(crate) fn set_the_scene(data: &Path) -> Result<(), Failed> {
    let data = data.canonicalize().map_err(at("finding", data))?;
    let root = data.join(SCENE_FOLDER);
    crate::cache::make_private(&root).map_err(at("making", &root))?;
    // SAFETY: nothing that is shared with threads is unshared: there are none.
    let unshared = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
    unshared.map_err(step("having mounts of its own"))?;
    // What the host unmounts must not be held here.
    let follow = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", follow).map_err(step("following the host's mounts"))?;
    let nothing = furnish(&root, None)?;
    cover_all_of(&above(&data), &root, &nothing)?;
    nothing.leave()?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change(&root, private).map_err(step("making mounts private"))?;
    close(&root)?;
    let _ = SCENE.set(root);
    Ok(())
}

/// Gives this process, which must have its own namespaces of users, mounts and processes, a root of
/// its own, and moves it there. Of the node's directory, `data`, nothing is seen in it, and of the host's secrets
/// neither.
///
/// # Errors
/// If the kernel refuses a step; the process is then somewhere between, and must end.
pub fn enter_own_root(program: &Program, data: &Path) -> Result<(), Failed> {
    let scene = SCENE.get();
    if let Some(root) = scene
        && program.folders.is_empty()
        && program.devices.is_empty()
        && below(root, &program.path).exists()
    {
        // What came with the namespace cannot be moved; what it is copied to can.
        put(&copy(root)?, root)?;
        mount_own(root)?;
        return move_to(root);
    }
    // Nothing that is mounted from here on may show outside.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("making mounts private"))?;
    let given = program.devices.iter().filter_map(|device| {
        let taken = Source::take(&device.host, true).transpose()?;
        let path = Path::new("/dev").join(&device.name);
        Some(taken.map(|source| Source { path, ..source }))
    });
    let given = given.collect::<Result<Vec<_>, _>>()?;
    let promised = program
        .folders
        .iter()
        .filter_map(|folder| Source::take(&folder.host, true).transpose());
    let promised = promised.collect::<Result<Vec<_>, _>>()?;
    let own = Source::take(&program.path, false)?;
    let above = above(data);
    // Any folder will do as the place of the new root; it is gone from view after the pivot.
    let root = Path::new("/tmp");
    let nothing = furnish(root, scene.map(PathBuf::as_path))?;
    for source in &given {
        source.put(root)?;
    }
    mount_own(root)?;
    // Shortest first, so that one in another is not covered by it.
    let mut promised: Vec<_> = promised.iter().collect();
    promised.sort_by_key(|source| source.path.as_os_str().len());
    for source in promised {
        source.put(root)?;
    }
    if let Some(own) = own.filter(|own| !below(root, &own.path).exists()) {
        own.put(root)?;
    }
    for (path, to) in links_to_folders(program)? {
        let place = below(root, &path);
        // What is there already shows what the host has under this name.
        if fs::symlink_metadata(&place).is_err() {
            let parent = place.parent().unwrap_or(root);
            fs::create_dir_all(parent).map_err(at("making", parent))?;
            std::os::unix::fs::symlink(to, &place).map_err(at("making", &place))?;
        }
    }
    cover_all_of(&above, root, &nothing)?;
    nothing.leave()?;
    close(root)?;
    move_to(root)
}

/// A fresh root with what every program sees in it, from where it stands already if it does, and room for what each has
/// for itself.
fn furnish(root: &Path, scene: Option<&Path>) -> Result<Nothing, Failed> {
    let host = Path::new("/");
    let from = |path: &&str| below(scene.unwrap_or(host), Path::new(path));
    let is_link =
        |path: &&str| fs::symlink_metadata(from(path)).is_ok_and(|found| found.is_symlink());
    let (links, folders): (Vec<_>, Vec<_>) = SYSTEM.into_iter().partition(is_link);
    let folders = folders.iter().filter_map(|path| match scene {
        Some(_) => Source::take_as(&from(path), Path::new(path)).transpose(),
        None => Source::take(Path::new(path), false).transpose(),
    });
    let devices =
        (DEVICES.iter()).filter_map(|path| Source::take(Path::new(path), true).transpose());
    let sources = folders.chain(devices).collect::<Result<Vec<_>, _>>()?;
    fresh(root, c"mode=755")?;
    for folder in ["proc", "dev", "dev/shm", "tmp"] {
        let place = root.join(folder);
        fs::create_dir(&place).map_err(at("making", &place))?;
    }
    for path in links {
        let (place, to) = (below(root, Path::new(path)), fs::read_link(path));
        let made = to.and_then(|to| std::os::unix::fs::symlink(to, &place));
        made.map_err(at("making", &place))?;
    }
    for source in &sources {
        source.put(root)?;
    }
    for (name, to) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let place = root.join("dev").join(name);
        let made = std::os::unix::fs::symlink(Path::new("/proc/self").join(to), &place);
        made.map_err(at("making", &place))?;
    }
    let nothing = Nothing::in_folder(root)?;
    let secrets = match scene {
        Some(_) => Vec::new(),
        None => secrets(|_| ()),
    };
    for secret in secrets {
        nothing.cover(&below(root, &secret))?;
    }
    Ok(nothing)
}

/// What is no other program's: its processes, and what it writes to memory.
fn mount_own(root: &Path) -> Result<(), Failed> {
    fresh(&root.join("tmp"), TMP)?;
    fresh(&root.join("dev/shm"), SHM)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", root.join("proc"), "proc", flags, None)
        .map_err(step("mounting /proc"))
}

/// Lets nobody write to a root itself.
fn close(root: &Path) -> Result<(), Failed> {
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount(root, flags, c"").map_err(at("protecting", root))
}

fn move_to(root: &Path) -> Result<(), Failed> {
    std::env::set_current_dir(root).map_err(at("entering", root))?;
    // The old root comes to lie over the new one, and is taken away.
    rustix::process::pivot_root(".", ".").map_err(step("changing the root"))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(step("leaving the old root"))?;
    std::env::set_current_dir("/").map_err(step("entering the new root"))
}

/// The names that programs' folders have besides those of the host, and what they stand for.
fn links_to_folders(program: &Program) -> Result<Vec<(PathBuf, &Path)>, Failed> {
    let mut links = Vec::new();
    for folder in &program.folders {
        let named = folder.named(&program.directory);
        if named == folder.host {
            continue;
        }
        let taken = SYSTEM.iter().any(|system| named.starts_with(system));
        // A link of the host's that leads to the folder is bound with the rest of the system.
        if taken && !named.canonicalize().is_ok_and(|same| same == folder.host) {
            let named = named.display().to_string();
            return Err((
                "naming its folders".to_owned(),
                io::Error::other(NoFolder::Taken(named)),
            ));
        }
        if !taken {
            links.push((named, folder.host.as_path()));
        }
    }
    Ok(links)
}

/// An empty file and an empty folder that nobody may open, to be put over what must not be seen.
struct Nothing {
    file: PathBuf,
    folder: PathBuf,
}

impl Nothing {
    fn in_folder(root: &Path) -> Result<Self, Failed> {
        use std::os::unix::fs::DirBuilderExt as _;
        let (file, folder) = (root.join("nothing"), root.join("nowhere"));
        let made = File::options()
            .create_new(true)
            .write(true)
            .mode(0o000)
            .open(&file);
        made.map_err(at("making", &file))?;
        let made = fs::DirBuilder::new().mode(0o000).create(&folder);
        made.map_err(at("making", &folder))?;
        Ok(Self { file, folder })
    }

    fn cover(&self, place: &Path) -> Result<(), Failed> {
        let Ok(found) = fs::metadata(place) else {
            return Ok(());
        };
        let from = match found.is_dir() {
            true => &self.folder,
            false => &self.file,
        };
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let tree = rustix::mount::open_tree(CWD, from, flags).map_err(at("covering", place))?;
        // Or its owner, who the program may be, could give itself permission.
        protect(&tree).map_err(at("covering", place))?;
        put(&tree, place)
    }

    /// Takes away the names; what was covered stays so.
    fn leave(self) -> Result<(), Failed> {
        fs::remove_file(&self.file).map_err(at("removing", &self.file))?;
        fs::remove_dir(&self.folder).map_err(at("removing", &self.folder))
    }
}

/// What of `/etc` is root's alone: programs that root runs are root, and it is not for them.
/// `enters` is called with each folder before it is read.
fn secrets(mut enters: impl FnMut(&Path)) -> Vec<PathBuf> {
    let mut secrets = Vec::new();
    if !rustix::process::geteuid().is_root() {
        return secrets;
    }
    let mut folders = vec![PathBuf::from("/etc")];
    while let Some(folder) = folders.pop() {
        enters(&folder);
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            // Of the entry, not of what a link leads to: that lies elsewhere, or is met there.
            let Ok(found) = entry.metadata() else {
                continue;
            };
            let open = |bits| found.mode() & bits == bits;
            if found.is_dir() && open(0o005) {
                folders.push(entry.path());
            } else if found.is_dir() || (found.is_file() && !open(0o004)) {
                secrets.push(entry.path());
            }
        }
    }
    secrets
}

/// Whether the host still is what the scene (`set_the_scene`) shows of it. The kernel tells (inotify) of every change
/// that is made by a name in `/etc`, where secrets are, and in `/`; a file that also has a name elsewhere can become secret
/// by that unnoticed. And it tells of mounts.
#[derive(Debug)]
pub struct Watch {
    changes: OwnedFd,
    mounts: File,
}

impl Watch {
    /// From now on; none where the kernel does not tell of all of it.
    #[must_use]
    pub fn begin() -> Option<Self> {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let mounts = File::open("/proc/self/mountinfo").ok()?;
        let changes = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
        let kinds = WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::MOVE
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut complete = inotify::add_watch(&changes, "/", kinds).is_ok();
        secrets(|folder| complete &= inotify::add_watch(&changes, folder, kinds).is_ok());
        complete.then_some(Self { changes, mounts })
    }

    /// Whether anything is different now. It is not told twice.
    pub fn has_seen_a_change(&mut self) -> bool {
        let mut events = [0; 4096];
        let told = rustix::io::read(&self.changes, &mut events);
        let mut asked = [PollFd::new(&self.mounts, PollFlags::PRI)];
        let now = Timespec::default();
        let mounted = rustix::event::poll(&mut asked, Some(&now));
        told != Err(rustix::io::Errno::AGAIN) || mounted != Ok(0)
    }
}

/// Device and inode: what a folder is, by whatever name.
type Identity = (u64, u64);

fn identity(path: &Path) -> Option<Identity> {
    let found = fs::metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

/// A folder, the one it is in, and so on: what each is, and the way from there to the first.
fn above(folder: &Path) -> Vec<(Identity, PathBuf)> {
    let folder = folder.canonicalize().unwrap_or_default();
    let above = folder.ancestors().filter_map(|above| {
        Some((
            identity(above)?,
            folder.strip_prefix(above).ok()?.to_owned(),
        ))
    });
    above.collect()
}

/// Covers a folder of the host wherever it shows below `root`: a mount there that has it in it, by whatever name,
/// begins at one of the folders above it.
fn cover_all_of(
    above: &[(Identity, PathBuf)],
    root: &Path,
    nothing: &Nothing,
) -> Result<(), Failed> {
    let mounts = fs::read_to_string("/proc/self/mountinfo");
    let mounts = mounts.map_err(step("reading /proc/self/mountinfo"))?;
    // Each once: of mounts over each other only the last is seen.
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    let points: BTreeSet<_> = points.map(unescaped).collect();
    for point in points {
        let Some(found) = point.starts_with(root).then(|| identity(&point)).flatten() else {
            continue;
        };
        for (_, rest) in above.iter().filter(|(identity, _)| *identity == found) {
            nothing.cover(&point.join(rest))?;
        }
    }
    Ok(())
}

/// A name as `/proc/self/mountinfo` writes it: blanks, tabs, line ends and backslashes as three octal digits.
fn unescaped(text: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt as _;
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Which of a program's folders, or of the system's, holds a folder of the host or lies in it: what walls of files
/// alone cannot keep apart.
#[must_use]
pub fn shows<'a>(program: &'a Program, data: &Path, system: bool) -> Option<&'a Path> {
    // What is not there yet would be made below what is.
    let there = data.ancestors().find_map(|above| above.canonicalize().ok());
    let there = there?;
    let system = SYSTEM.iter().map(Path::new).filter(|_| system);
    let folders = program.folders.iter().map(|folder| folder.host.as_path());
    let full = data.canonicalize().is_ok();
    folders
        .chain(system)
        .find(|folder| there.starts_with(folder) || (full && folder.starts_with(&there)))
}

/// Closes to this process and its children every file but those of the system, to be read, and those
/// promised. With `own_root` they also have `/tmp` and `/proc`, which are theirs alone, and may signal whom they see:
/// whoever goes inside later is another domain to Landlock, and should not be kept from what it came for.
///
/// # Errors
/// If the kernel has no Landlock, or refuses. Nothing is closed then.
pub fn close_files(program: &Program, own_root: bool) -> Result<(), String> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    // In a root of its own all of /dev is what was put there.
    let own: &[&str] = match own_root {
        true => &["/tmp", "/proc", "/dev"],
        false => &DEVICES,
    };
    let folders = program.folders.iter().map(|folder| folder.host.as_path());
    let writable = (own.iter().map(Path::new))
        .chain(folders)
        .chain(program.devices.iter().map(|device| device.host.as_path()));
    // There a link leads to another of these, or to nothing.
    let readable = SYSTEM.iter().map(Path::new);
    let readable = readable.filter(|path| !own_root || !path.is_symlink());
    let readable = readable.chain([program.path.as_path()]);
    let proc = (!own_root).then_some(Path::new("/proc/self"));
    // In a root of its own there is nothing to list but what was put there.
    let root = own_root.then_some(Path::new("/"));
    let mut scopes = BitFlags::<Scope>::EMPTY;
    if !own_root {
        scopes |= Scope::Signal;
    }
    if !own_root || program.network == Network::Host {
        scopes |= Scope::AbstractUnixSocket;
    }
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| match scopes.is_empty() {
            true => Ok(rules),
            false => rules.scope(scopes),
        })
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable.chain(proc), read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(writable, all)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(root, AccessFs::ReadDir)))
        .and_then(|rules| rules.restrict_self());
    match restricted {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("the kernel has no Landlock".to_owned())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Gives up every capability for good, also those that executing a file as root would bring.
///
/// # Errors
/// If the kernel refuses.
pub fn give_up_privileges() -> io::Result<()> {
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::clear_ambient_capability_set()?;
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = rustix::thread::CapabilitySet::empty();
    rustix::thread::set_capabilities(None, sets)?;
    for capability in rustix::thread::CapabilitySet::all().iter() {
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            // A kernel older than the capability, or one that we have none to give up of.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Refuses to this process and its children, for good, the calls of the kernel that no program needs (`calls`).
///
/// # Errors
/// If the kernel has no filters.
pub fn refuse_calls() -> io::Result<()> {
    filter().put_on()
}

/// The filter that refuses them, which is the same for every program: made once, by who is forked if need be.
pub(crate) fn filter() -> &'static Filter {
    static MADE: OnceLock<Filter> = OnceLock::new();
    MADE.get_or_init(Filter::new)
}
