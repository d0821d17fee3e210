//! What a program of the host can see and do.
//!
//! Three walls, each for itself incomplete:
//!
//! * **Its own root**: an empty file system into which the host's programs and libraries are bound to
//!   be read, the folders it was promised to be written, the program's own file, a fresh `/tmp` and
//!   `/proc`, and six devices. What was not put there has no name. Needs namespaces of users and mounts.
//! * **Landlock** says the same once more about what stays reachable by other ways (an open descriptor,
//!   a mount), and closes abstract sockets and signals to what is outside. It also stands where
//!   namespaces are refused; but connecting to a socket that has a name in the file system is not its
//!   concern, so there a program can reach the node's.
//! * **seccomp** refuses the calls that programs do not need and kernels were broken through, and those
//!   that would make new namespaces, in which old walls can be climbed.
//!
//! Besides, no program keeps a capability, and none gains a privilege by executing a file.
//!
//! Deliberately absent: a network of its own. A program shares the host's; whoever opens a port opens
//! the host's port.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _,
    RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

use crate::program::Program;

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

/// Gives this process, which must have its own namespaces of users, mounts and processes, a root of
/// its own, and moves it there.
///
/// # Errors
/// If the kernel refuses a step; the process is then somewhere between, and must end.
pub fn enter_own_root(program: &Program) -> Result<(), (String, io::Error)> {
    let step = |what: String| move |error: rustix::io::Errno| (what, io::Error::from(error));
    let made = |what: &Path| {
        let what = format!("making {}", what.display());
        move |error: io::Error| (what, error)
    };
    // Nothing that is mounted from here on may show outside.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).map_err(step("making mounts private".into()))?;
    // Any folder will do as the place of the new root; it is gone from view after the pivot.
    let root = Path::new("/tmp");
    let fresh = |at: &Path, options: &std::ffi::CStr| {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        rustix::mount::mount("tmpfs", at, "tmpfs", flags, options)
            .map_err(step(format!("mounting a fresh {}", at.display())))
    };
    // The sources lie where they lay, but those below /tmp are about to be covered.
    let mut sources = Vec::new();
    let system = SYSTEM.iter().map(|path| (PathBuf::from(path), false));
    let devices = DEVICES.iter().map(|path| (PathBuf::from(path), true));
    let folders = program
        .folders
        .iter()
        .map(|folder| (folder.host.clone(), true));
    let own = std::iter::once((program.path.clone(), false));
    for (path, writable) in system.chain(devices).chain(folders).chain(own) {
        let Ok(kind) = fs::symlink_metadata(&path) else {
            continue;
        };
        let link = kind.is_symlink().then(|| fs::read_link(&path)).transpose();
        let link = link.map_err(made(&path))?;
        let opened = rustix::fs::open(
            &path,
            rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
            rustix::fs::Mode::empty(),
        );
        let opened = opened.map_err(step(format!("opening {}", path.display())))?;
        let is_folder = path.is_dir();
        sources.push((path, writable, link, is_folder, opened));
    }
    fresh(root, c"mode=755")?;
    for folder in ["proc", "dev", "tmp"] {
        let at = root.join(folder);
        fs::create_dir(&at).map_err(made(&at))?;
    }
    fresh(&root.join("tmp"), c"mode=1777")?;
    for (path, writable, link, is_folder, opened) in &sources {
        let at = root.join(path.strip_prefix("/").unwrap_or(path));
        if at.exists() {
            // The program's own file, in a folder that is there already.
            if !writable {
                continue;
            }
        } else {
            let parent = at.parent().unwrap_or(root);
            fs::create_dir_all(parent).map_err(made(parent))?;
            // Only the system's links, such as /bin; those of others were followed.
            if let (Some(link), true) = (link, SYSTEM.iter().any(|known| Path::new(known) == path))
            {
                std::os::unix::fs::symlink(link, &at).map_err(made(&at))?;
                continue;
            }
            let placed = match is_folder {
                true => fs::create_dir(&at),
                false => File::create(&at).map(drop),
            };
            placed.map_err(made(&at))?;
        }
        let from = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(opened));
        rustix::mount::mount_bind_recursive(&from, &at)
            .map_err(step(format!("binding {}", path.display())))?;
        if !writable {
            // A remount must repeat what the mount had, or the kernel refuses it as an escape.
            let had =
                rustix::fs::statvfs(&at).map_err(step(format!("looking at {}", at.display())))?;
            let flags = kept(had.f_flag) | MountFlags::BIND | MountFlags::RDONLY;
            rustix::mount::mount_remount(&at, flags, c"")
                .map_err(step(format!("protecting {}", path.display())))?;
        }
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", root.join("proc"), "proc", flags, None)
        .map_err(step("mounting /proc".into()))?;
    for (name, to) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        let at = root.join("dev").join(name);
        std::os::unix::fs::symlink(Path::new("/proc/self").join(to), &at).map_err(made(&at))?;
    }
    let shm = root.join("dev/shm");
    fs::create_dir(&shm).map_err(made(&shm))?;
    fresh(&shm, c"mode=1777")?;
    drop(sources);
    std::env::set_current_dir(root).map_err(made(root))?;
    // The old root comes to lie over the new one, and is taken away.
    rustix::process::pivot_root(".", ".").map_err(step("changing the root".into()))?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)
        .map_err(step("leaving the old root".into()))?;
    std::env::set_current_dir("/").map_err(made(Path::new("/")))?;
    let root_flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount_remount("/", root_flags, c"").map_err(step("protecting /".into()))
}

fn kept(had: rustix::fs::StatVfsMountFlags) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Had;
    let pairs = [
        (Had::NOSUID, MountFlags::NOSUID),
        (Had::NODEV, MountFlags::NODEV),
        (Had::NOEXEC, MountFlags::NOEXEC),
        (Had::NOATIME, MountFlags::NOATIME),
        (Had::NODIRATIME, MountFlags::NODIRATIME),
        (Had::RELATIME, MountFlags::RELATIME),
    ];
    let kept = pairs
        .into_iter()
        .filter(|(had_one, _)| had.contains(*had_one));
    kept.fold(MountFlags::empty(), |all, (_, flag)| all | flag)
}

/// Closes to this process and its children every file but those of the system, to be read, and those
/// promised. With `own_root` they also have `/tmp` and `/proc`, which are theirs alone.
///
/// # Errors
/// If the kernel has no Landlock, or refuses. Nothing is closed then.
pub fn close_files(program: &Program, own_root: bool) -> Result<(), String> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let all = AccessFs::from_all(abi);
    let own = own_root
        .then_some(["/tmp", "/proc", "/dev"])
        .into_iter()
        .flatten();
    let folders = program.folders.iter().map(|folder| folder.host.as_path());
    let writable = DEVICES
        .iter()
        .copied()
        .chain(own)
        .map(Path::new)
        .chain(folders);
    let readable = SYSTEM.iter().map(Path::new).chain([program.path.as_path()]);
    let proc = (!own_root).then_some(Path::new("/proc/self"));
    // In a root of its own there is nothing to list but what was put there.
    let root = own_root.then_some(Path::new("/"));
    let restricted = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|rules| rules.scope(Scope::AbstractUnixSocket | Scope::Signal))
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

/// Calls that fail with "not permitted". Of `clone` and `unshare` only what makes namespaces; `clone3`
/// hides its flags from a filter and is said not to exist, upon which every C library falls back.
const REFUSED: [libc::c_long; 38] = [
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pivot_root,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_userfaultfd,
];

/// Refuses the calls above to this process and its children, for good.
///
/// # Errors
/// If the kernel has no filters, or this processor has no compiler for them.
pub fn refuse_calls() -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let masked = |argument: u8, mask: u64, value: u64| {
        let compare = SeccompCmpOp::MaskedEq(mask);
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, compare, value);
        SeccompRule::new(vec![condition?])
    };
    let namespaces = [
        libc::CLONE_NEWUSER,
        libc::CLONE_NEWNS,
        libc::CLONE_NEWPID,
        libc::CLONE_NEWNET,
        libc::CLONE_NEWIPC,
        libc::CLONE_NEWUTS,
        libc::CLONE_NEWCGROUP,
    ];
    let arch = || std::env::consts::ARCH.try_into();
    let compile =
        |rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32| -> Result<BpfProgram, String> {
            let refuse = SeccompAction::Errno(errno.unsigned_abs());
            let arch = arch().map_err(|error: seccompiler::BackendError| words(&error))?;
            let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
            filter
                .and_then(BpfProgram::try_from)
                .map_err(|error| words(&error))
        };
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let makes = namespaces
        .iter()
        .map(|flag| {
            let flag = u64::from(flag.unsigned_abs());
            masked(0, flag, flag)
        })
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error: seccompiler::BackendError| words(&error))?;
    rules.insert(libc::SYS_clone, makes.clone());
    rules.insert(libc::SYS_unshare, makes);
    // Types into the terminal that is shared with whoever started the program.
    let types = masked(1, u64::from(u32::MAX), libc::TIOCSTI);
    rules.insert(libc::SYS_ioctl, vec![types.map_err(|error| words(&error))?]);
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for program in [compile(absent, libc::ENOSYS)?, compile(rules, libc::EPERM)?] {
        seccompiler::apply_filter(&program).map_err(|error| words(&error))?;
    }
    Ok(())
}
