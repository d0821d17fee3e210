//! Which calls of the kernel are refused to a program?
//!
//! Those that programs do not need and kernels were broken through, those that would make new namespaces, in which old
//! walls can be climbed, and the one that types into the terminal which is shared with whoever started the program.
//!
//! The kernel asks a filter about each call: a few words for a machine with one register (BPF). Here the number of
//! the call is looked for by halves among those that are not simply allowed, in six steps. That matters twice. A
//! filter is asked about every number there is when it is put on, to find out what it allows whatever the arguments
//! (`seccomp_cache_prepare_bitmap` in the kernel's `kernel/seccomp.c`, since 5.11): with a list that is gone through
//! from the beginning that took longer than most other steps of a start. And older kernels ask it with every call.

use std::io;

/// Calls that fail with "not permitted". Of `clone` and `unshare` only what makes namespaces.
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

/// What makes namespaces, of the flags of `clone` and `unshare`.
const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// Whose numbers these are (`AUDIT_ARCH_*` of `linux/audit.h`).
#[cfg(target_arch = "x86_64")]
const MACHINE: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const MACHINE: u32 = 0xC000_00B7;
#[cfg(target_arch = "riscv64")]
const MACHINE: u32 = 0xC000_00F3;

/// From here on numbers are the same calls once more, with pointers of 32 bits (x32). Elsewhere there are none as high.
const OTHER_NUMBERS: u32 = 0x4000_0000;

/// Where what is asked about lies (`struct seccomp_data`): the number, the machine, and the lower halves of the first
/// two arguments. Each of these machines has its lowest byte first.
const NUMBER_AT: u32 = 0;
const MACHINE_AT: u32 = 4;
const FIRST_AT: u32 = 16;
const SECOND_AT: u32 = 24;

/// Where a word leads.
#[derive(Clone, Copy)]
enum To {
    Next,
    Word(usize),
    Allowed,
    Refused,
    Absent,
    Foreign,
    /// Depends on the flags, in the first argument.
    Flags,
    /// Depends on what is asked of a device, in the second.
    Device,
}

struct Word {
    code: u32,
    value: u32,
    then: To,
    otherwise: To,
}

fn load(from: u32) -> Word {
    let code = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (then, otherwise) = (To::Next, To::Next);
    Word {
        code,
        value: from,
        then,
        otherwise,
    }
}

fn compare(how: u32, value: u32, then: To, otherwise: To) -> Word {
    let code = libc::BPF_JMP | how | libc::BPF_K;
    Word {
        code,
        value,
        then,
        otherwise,
    }
}

/// What becomes of a call by its number, if it is not simply allowed: in the order of numbers.
fn by_number() -> Vec<(u32, To)> {
    let number = |call: libc::c_long| u32::try_from(call).expect("calls have small numbers");
    let mut all: Vec<_> = REFUSED.map(|call| (number(call), To::Refused)).into();
    // It hides its flags from a filter, and every C library that is told so takes `clone`.
    all.push((number(libc::SYS_clone3), To::Absent));
    all.push((number(libc::SYS_clone), To::Flags));
    all.push((number(libc::SYS_unshare), To::Flags));
    all.push((number(libc::SYS_ioctl), To::Device));
    all.sort_by_key(|(number, _)| *number);
    all
}

/// Looks for the number among these, which are not empty.
fn search(among: &[(u32, To)], words: &mut Vec<Word>) {
    if let [(number, found)] = *among {
        return words.push(compare(libc::BPF_JEQ, number, found, To::Allowed));
    }
    let (lower, upper) = among.split_at(among.len() / 2);
    let place = words.len();
    words.push(compare(libc::BPF_JGE, upper[0].0, To::Next, To::Next));
    search(lower, words);
    words[place].then = To::Word(words.len());
    search(upper, words);
}

/// The filter, which is the same for every program.
#[derive(Debug)]
pub(crate) struct Filter(Vec<libc::sock_filter>);

impl Filter {
    pub(crate) fn new() -> Self {
        let mut words = vec![
            load(MACHINE_AT),
            compare(libc::BPF_JEQ, MACHINE, To::Next, To::Foreign),
            load(NUMBER_AT),
            compare(libc::BPF_JGE, OTHER_NUMBERS, To::Absent, To::Next),
        ];
        search(&by_number(), &mut words);
        let flags = words.len();
        words.push(load(FIRST_AT));
        let makes = NAMESPACES.cast_unsigned();
        words.push(compare(libc::BPF_JSET, makes, To::Refused, To::Allowed));
        let device = words.len();
        words.push(load(SECOND_AT));
        let types = u32::try_from(libc::TIOCSTI).expect("32 bits");
        words.push(compare(libc::BPF_JEQ, types, To::Refused, To::Allowed));
        let ends = words.len();
        let ends_with = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        let answers = [
            libc::SECCOMP_RET_ALLOW,
            ends_with(libc::EPERM),
            ends_with(libc::ENOSYS),
            libc::SECCOMP_RET_KILL_PROCESS,
        ];
        let encoded = words.iter().enumerate().map(|(place, word)| {
            let far = |to| match to {
                To::Next => 0,
                To::Word(word) => word - place - 1,
                To::Flags => flags - place - 1,
                To::Device => device - place - 1,
                To::Allowed => ends - place - 1,
                To::Refused => ends - place,
                To::Absent => ends + 1 - place,
                To::Foreign => ends + 2 - place,
            };
            let far = |to| u8::try_from(far(to)).expect("there are fewer than 256 words");
            bpf(word.code, far(word.then), far(word.otherwise), word.value)
        });
        let returns = answers.map(|answer| bpf(libc::BPF_RET | libc::BPF_K, 0, 0, answer));
        Self(encoded.chain(returns).collect())
    }

    /// Puts it on this thread and those it will start, for good. They must have no way to gain privileges any more.
    ///
    /// # Errors
    /// If the kernel has no filters.
    pub(crate) fn put_on(&self) -> io::Result<()> {
        let program = libc::sock_fprog {
            len: u16::try_from(self.0.len()).expect("it is short"),
            filter: self.0.as_ptr().cast_mut(),
        };
        // SAFETY: the kernel copies the words during the call, and writes nothing.
        let done = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                0,
                &raw const program,
            )
        };
        match done {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// A word of BPF: what to do, how many words to skip if it is so and if it is not, and a number.
pub(crate) fn bpf(code: u32, then: u8, otherwise: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter {
        code: u16::try_from(code).expect("a few bits"),
        jt: then,
        jf: otherwise,
        k: value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers, by the rules of the kernel's interpreter for the words it is made of.
    fn answer(filter: &Filter, machine: u32, number: u32, arguments: [u64; 2]) -> (u32, usize) {
        let data = |at: u32| match at {
            NUMBER_AT => number,
            MACHINE_AT => machine,
            FIRST_AT => arguments[0] as u32,
            SECOND_AT => arguments[1] as u32,
            other => panic!("nothing is at {other}"),
        };
        let (mut register, mut place, mut steps) = (0, 0, 0);
        loop {
            let word = filter.0[place];
            let code = u32::from(word.code);
            (place, steps) = (place + 1, steps + 1);
            let so = match code & 0xF8 {
                _ if code & 7 == libc::BPF_RET => return (word.k, steps),
                _ if code & 7 == libc::BPF_LD => {
                    register = data(word.k);
                    continue;
                }
                libc::BPF_JEQ => register == word.k,
                libc::BPF_JGE => register >= word.k,
                libc::BPF_JSET => register & word.k != 0,
                other => panic!("no word is {other:#x}"),
            };
            place += usize::from(if so { word.jt } else { word.jf });
        }
    }

    #[test]
    fn what_is_refused_is_refused_and_the_rest_allowed_within_a_few_steps() {
        let filter = Filter::new();
        let errno = |errno: i32| libc::SECCOMP_RET_ERRNO | errno.unsigned_abs();
        let refused = REFUSED.map(|call| call as u32);
        for number in 0..1024_u32 {
            let expected = match libc::c_long::from(number) {
                libc::SYS_clone3 => errno(libc::ENOSYS),
                _ if refused.contains(&number) => errno(libc::EPERM),
                _ => libc::SECCOMP_RET_ALLOW,
            };
            let (found, steps) = answer(&filter, MACHINE, number, [0, 0]);
            assert_eq!(found, expected, "{number}");
            assert!(steps <= 13, "{number}: {steps} steps");
        }
        let cases = [
            (libc::SYS_clone, libc::CLONE_VM as u64, 0, true),
            (libc::SYS_clone, libc::CLONE_NEWUSER as u64, 0, false),
            (
                libc::SYS_unshare,
                libc::CLONE_NEWNS as u64 | 1 << 40,
                0,
                false,
            ),
            (libc::SYS_unshare, libc::CLONE_FILES as u64, 0, true),
            (libc::SYS_ioctl, 0, libc::TIOCSTI | 1 << 40, false),
            (libc::SYS_ioctl, libc::TIOCSTI, libc::TCGETS, true),
        ];
        for (call, first, second, allowed) in cases {
            let (found, _) = answer(&filter, MACHINE, call as u32, [first, second]);
            let allows = found == libc::SECCOMP_RET_ALLOW;
            assert_eq!(allows, allowed, "{call} {first:#x} {second:#x}");
        }
        let (foreign, _) = answer(&filter, MACHINE ^ 1, 0, [0, 0]);
        assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
        let (other, _) = answer(&filter, MACHINE, OTHER_NUMBERS | 1, [0, 0]);
        assert_eq!(other, errno(libc::ENOSYS));
    }

    #[test]
    fn the_kernel_refuses_them_to_the_thread_that_has_the_filter() {
        let tried = std::thread::spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            Filter::new().put_on().unwrap();
            let call = |number: libc::c_long| {
                // SAFETY: with these arguments none of the calls does anything, also where it is allowed.
                let done = unsafe { libc::syscall(number, -1, -1, -1, -1, -1) };
                (done, io::Error::last_os_error().raw_os_error())
            };
            let refused = REFUSED.map(|number| (number, call(number)));
            (refused, call(libc::SYS_clone3), call(libc::SYS_getpid))
        });
        let (refused, absent, allowed) = tried.join().unwrap();
        for (number, found) in refused {
            assert_eq!(found, (-1, Some(libc::EPERM)), "{number}");
        }
        assert_eq!(absent, (-1, Some(libc::ENOSYS)));
        assert_eq!(allowed.0, i64::from(std::process::id()));
    }
}
