//! How much power does the processor draw?
//!
//! Where the kernel counts energy (powercap: RAPL of Intel and AMD), power is measured: the packages' counters, read twice and divided by
//! the time between. A counter begins again after its range, so what it lost by that is added; it does so in minutes at the
//! soonest, and is read every second. Since 2020 counters may be read by root alone, because they give secrets away (CVE-2020-8694).
//!
//! Parts of a package (cores, memory) are counted in it, and what a second driver counts again (`intel-rapl-mmio`) is the same package under the
//! same name.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use wire::{Seconds, Watts};

/// The counters of a machine's packages.
#[derive(Debug, Default)]
pub struct Meters(Vec<Meter>);

#[derive(Debug)]
struct Meter {
    file: PathBuf,
    /// The highest it counts to, in millionths of a joule.
    range: u64,
    last: Option<u64>,
}

impl Meters {
    /// Those that may be read, in the folder of all classes (`/sys/class`).
    #[must_use]
    pub fn found(classes: &Path) -> Self {
        let zones = fs::read_dir(classes.join("powercap"));
        let zones = zones.into_iter().flatten().flatten();
        let mut packages = BTreeMap::new();
        for zone in zones.map(|zone| zone.path()) {
            let name = fs::read_to_string(zone.join("name")).unwrap_or_default();
            let (file, range) = (
                zone.join("energy_uj"),
                number(&zone.join("max_energy_range_uj")),
            );
            if let (true, Some(range), Some(_)) =
                (name.starts_with("package"), range, number(&file))
            {
                let last = None;
                packages.insert(name, Meter { file, range, last });
            }
        }
        Self(packages.into_values().collect())
    }

    /// How many packages are counted.
    #[must_use]
    pub fn packages(&self) -> usize {
        self.0.len()
    }

    /// What all of them drew since they were read last, so long ago; none the first time, and when one falls silent.
    pub fn read(&mut self, since: Seconds) -> Option<Watts> {
        let mut microjoules = 0;
        let mut whole = !self.0.is_empty();
        for meter in &mut self.0 {
            let now = number(&meter.file);
            match (std::mem::replace(&mut meter.last, now), now) {
                (Some(before), Some(now)) => microjoules += spent(before, now, meter.range),
                _ => whole = false,
            }
        }
        (whole && since.0 > 0.0).then(|| Watts(microjoules as f64 / 1e6 / since.0))
    }
}

/// How far a counter went, which begins again after its range.
fn spent(before: u64, now: u64, range: u64) -> u64 {
    match now.checked_sub(before) {
        Some(spent) => spent,
        None => range.saturating_sub(before) + now,
    }
}

/// A file that holds a whole number.
pub(crate) fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel lays it out: two packages, one of them told twice, and a part of one.
    fn two_packages(folder: &Path) -> impl Fn(&str, u64) {
        let zones = [
            ("intel-rapl:0", "package-0"),
            ("intel-rapl:0:0", "core"),
            ("intel-rapl:1", "package-1"),
            ("intel-rapl-mmio:0", "package-0"),
        ];
        let folder = folder.join("powercap");
        for (zone, name) in zones {
            fs::create_dir_all(folder.join(zone)).unwrap();
            fs::write(folder.join(zone).join("name"), format!("{name}\n")).unwrap();
            let range = folder.join(zone).join("max_energy_range_uj");
            fs::write(range, "262143328850\n").unwrap();
        }
        move |zone, energy| {
            fs::write(folder.join(zone).join("energy_uj"), format!("{energy}\n")).unwrap();
        }
    }

    #[test]
    fn packages_are_added_and_a_counter_that_begins_again_loses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let count = two_packages(folder.path());
        for zone in ["intel-rapl:0", "intel-rapl-mmio:0"] {
            count(zone, 1_000_000);
        }
        count("intel-rapl:0:0", 500_000);
        count("intel-rapl:1", 262_143_328_850 - 4_000_000);
        let mut meters = Meters::found(folder.path());
        assert_eq!(meters.packages(), 2);
        assert_eq!(meters.read(Seconds(1.0)), None, "power is a difference");
        for zone in ["intel-rapl:0", "intel-rapl-mmio:0"] {
            count(zone, 61_000_000);
        }
        count("intel-rapl:0:0", 40_000_000);
        count("intel-rapl:1", 26_000_000);
        // 60 J and 4 + 26 J in two seconds.
        assert_eq!(meters.read(Seconds(2.0)), Some(Watts(45.0)));
        fs::write(folder.path().join("powercap/intel-rapl:1/energy_uj"), "").unwrap();
        assert_eq!(meters.read(Seconds(1.0)), None, "one alone is not all");
    }

    #[test]
    fn without_counters_or_leave_to_read_them_there_is_no_power() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Meters::found(folder.path()).packages(), 0);
        let _ = two_packages(folder.path());
        let mut meters = Meters::found(folder.path());
        assert_eq!((meters.packages(), meters.read(Seconds(1.0))), (0, None));
    }
}
