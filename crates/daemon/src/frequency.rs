//! How fast does the processor run, and how fast may it?
//!
//! Where the kernel lets frequencies be set (cpufreq), a hot machine's processor is slowed by its frequency first: voltage follows, so the same work costs less heat
//! than in bursts at full speed. What a frequency cannot give, because it has a lowest, the kernel's or the node's dealing out
//! of time does ([`crate::duty`], [`crate::cgroup`]). It slows whatever runs on the machine, not the node's programs alone.
//!
//! A limit outlives whoever set it. What it was before is written down ([`Before`]), set back when the node ends, and at its
//! next start if it was killed. Of several nodes of one machine one sets frequencies: who holds the lock of the first limit.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::before::{Before, Settings};
use crate::energy::number;

/// In a node's directory.
pub const BEFORE: &str = "frequencies.before";

/// Processors that run at one frequency.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Policy {
    folder: PathBuf,
    /// The lowest and the highest there is, in kHz.
    least: u64,
    most: u64,
}

fn policies(system: &Path) -> Vec<Policy> {
    let folder = system.join("devices/system/cpu/cpufreq");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let policies = entries.filter_map(|entry| {
        let folder = entry.path();
        let of = |file: &str| number(&folder.join(file));
        let (least, most) = (of("cpuinfo_min_freq")?, of("cpuinfo_max_freq")?);
        (0 < least && least <= most).then_some(Policy {
            folder,
            least,
            most,
        })
    });
    let mut policies: Vec<_> = policies.collect();
    policies.sort_by(|a, b| a.folder.cmp(&b.folder));
    policies
}

/// The mean over the machine's processors just now, in MHz; none where nobody tells. `system` is `/sys`.
#[must_use]
pub fn current_mhz(system: &Path) -> Option<f64> {
    let policies = policies(system);
    let now = policies
        .iter()
        .map(|policy| number(&policy.folder.join("scaling_cur_freq")));
    let now: Vec<_> = now.collect::<Option<_>>()?;
    (!now.is_empty()).then(|| now.iter().sum::<u64>() as f64 / now.len() as f64 / 1e3)
}

/// The limits of a machine's frequencies, as far as they are ours to set. They are as they were when this is dropped.
#[derive(Debug)]
pub struct Frequencies {
    policies: Vec<Policy>,
    before: Before,
    /// What was found, once something was set.
    found: Option<Settings>,
    _lock: File,
}

impl Frequencies {
    /// Takes them, and sets back what a node of this directory left behind when it was killed. `system` is `/sys`.
    ///
    /// # Errors
    /// Why there is nothing to set, in a few words.
    pub fn take(system: &Path, data: &Path) -> Result<Self, String> {
        let policies = policies(system);
        let first = policies.first().ok_or("this machine shows no cpufreq")?;
        let lock = limit(first);
        let lock = File::options().read(true).write(true).open(&lock);
        let lock = lock.map_err(|error| format!("not ours to set: {error}"))?;
        let exclusive = rustix::fs::FlockOperation::NonBlockingLockExclusive;
        rustix::fs::flock(&lock, exclusive)
            .map_err(|_| "another node of this machine sets them".to_owned())?;
        let before = Before::at(data.join(BEFORE));
        if let Some(settings) = before.written() {
            set_back(&settings).map_err(|error| format!("setting them back: {error}"))?;
            before.forget();
        }
        // Whether it may be written is known when it has been: with what it says already nothing changes.
        let now = number(&limit(first)).ok_or("its limit cannot be read")?;
        fs::write(limit(first), now.to_string())
            .map_err(|error| format!("not ours to set: {error}"))?;
        Ok(Self {
            policies,
            before,
            found: None,
            _lock: lock,
        })
    }

    /// Of which highest frequencies, in a few words.
    #[must_use]
    pub fn told(&self) -> String {
        let least = self.policies.iter().map(|policy| policy.least).min();
        let most = self.policies.iter().map(|policy| policy.most).max();
        format!(
            "cpufreq, from {} to {} MHz",
            least.unwrap_or(0) / 1000,
            most.unwrap_or(0) / 1000
        )
    }

    /// Lets processors run at no more than this share of their highest frequency, or as near to it as they can. Tells the
    /// share that this is: what it is above the other is to be got otherwise.
    pub fn allow(&mut self, share: f64) -> f64 {
        if share >= 1.0 {
            self.release();
            return 1.0;
        }
        match self.set(share) {
            Ok(reached) => reached,
            Err(error) => {
                eprintln!("warning: the processor's frequency cannot be limited: {error}");
                self.release();
                1.0
            }
        }
    }

    fn set(&mut self, share: f64) -> io::Result<f64> {
        if self.found.is_none() {
            let found = self.policies.iter().filter_map(|policy| {
                let limit = limit(policy);
                Some((limit.display().to_string(), number(&limit)?))
            });
            let found: Settings = found.collect();
            self.before.write(&found)?;
            self.found = Some(found);
        }
        // The slowest of those that a share would be too low for decides what is left to do.
        let mut reached: f64 = share;
        for policy in &self.policies {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a frequency is positive and less"
            )]
            let wanted = (policy.most as f64 * share) as u64;
            let allowed = wanted.clamp(policy.least, policy.most);
            fs::write(limit(policy), allowed.to_string())?;
            reached = reached.max(allowed as f64 / policy.most as f64);
        }
        Ok(reached.min(1.0))
    }

    fn release(&mut self) {
        let Some(found) = self.found.take() else {
            return;
        };
        match set_back(&found) {
            Ok(()) => self.before.forget(),
            // It is written down: the next start tries again.
            Err(error) => {
                eprintln!("warning: the processor's frequency is not as it was: {error}");
            }
        }
    }
}

impl Drop for Frequencies {
    fn drop(&mut self) {
        self.release();
    }
}

fn limit(policy: &Policy) -> PathBuf {
    policy.folder.join("scaling_max_freq")
}

fn set_back(settings: &Settings) -> io::Result<()> {
    for (file, khz) in settings {
        match fs::write(file, khz.to_string()) {
            // A processor may have been taken out meanwhile.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel lays it out: efficient and fast cores, each kind at a frequency of its own.
    fn two_kinds() -> (tempfile::TempDir, impl Fn(usize) -> String) {
        let folder = tempfile::tempdir().unwrap();
        let at = |policy: usize| {
            folder
                .path()
                .join(format!("devices/system/cpu/cpufreq/policy{policy}"))
        };
        for (policy, [least, most, now]) in [
            [800_000, 4_000_000, 3_000_000],
            [400_000, 2_000_000, 1_000_000],
        ]
        .into_iter()
        .enumerate()
        {
            fs::create_dir_all(at(policy)).unwrap();
            for (file, khz) in [
                ("cpuinfo_min_freq", least),
                ("cpuinfo_max_freq", most),
                ("scaling_max_freq", most),
                ("scaling_cur_freq", now),
            ] {
                fs::write(at(policy).join(file), format!("{khz}\n")).unwrap();
            }
        }
        let places = [at(0), at(1)];
        let limit = move |policy: usize| {
            let text = fs::read_to_string(places[policy].join("scaling_max_freq")).unwrap();
            text.trim().to_owned()
        };
        (folder, limit)
    }

    #[test]
    fn a_share_is_reached_by_frequency_as_far_as_that_goes_and_all_is_given_back() {
        let (system, limit) = two_kinds();
        let data = tempfile::tempdir().unwrap();
        assert_eq!(current_mhz(system.path()), Some(2000.0));
        let mut frequencies = Frequencies::take(system.path(), data.path()).unwrap();
        assert_eq!(frequencies.told(), "cpufreq, from 400 to 4000 MHz");
        assert!((frequencies.allow(0.5) - 0.5).abs() < 1e-9);
        assert_eq!((limit(0), limit(1)), ("2000000".into(), "1000000".into()));
        // Below the lowest, the rest is for others to do.
        assert!((frequencies.allow(0.1) - 0.2).abs() < 1e-9);
        assert_eq!((limit(0), limit(1)), ("800000".into(), "400000".into()));
        assert!((frequencies.allow(1.0) - 1.0).abs() < 1e-9);
        assert_eq!((limit(0), limit(1)), ("4000000".into(), "2000000".into()));
        assert!(!data.path().join(BEFORE).exists());
        frequencies.allow(0.3);
        drop(frequencies);
        assert_eq!((limit(0), limit(1)), ("4000000".into(), "2000000".into()));
    }

    #[test]
    fn who_was_killed_while_it_slowed_sets_back_at_the_next_start_what_somebody_had_chosen() {
        let (system, limit) = two_kinds();
        let data = tempfile::tempdir().unwrap();
        let chosen = system
            .path()
            .join("devices/system/cpu/cpufreq/policy0/scaling_max_freq");
        fs::write(&chosen, "3600000").unwrap();
        let mut frequencies = Frequencies::take(system.path(), data.path()).unwrap();
        frequencies.allow(0.25);
        let why = Frequencies::take(system.path(), data.path()).unwrap_err();
        assert_eq!(why, "another node of this machine sets them");
        // As SIGKILL leaves it: the lock is gone, and nothing was set back.
        let Frequencies {
            policies, found, ..
        } = &mut frequencies;
        policies.clear();
        *found = None;
        drop(frequencies);
        assert_eq!(limit(0), "1000000");
        let again = Frequencies::take(system.path(), data.path()).unwrap();
        assert_eq!((limit(0), limit(1)), ("3600000".into(), "2000000".into()));
        assert!(!data.path().join(BEFORE).exists());
        drop(again);
    }

    #[test]
    fn a_machine_without_cpufreq_says_so() {
        let (system, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let why = Frequencies::take(system.path(), data.path()).unwrap_err();
        assert_eq!(why, "this machine shows no cpufreq");
        assert_eq!(current_mhz(system.path()), None);
    }
}
