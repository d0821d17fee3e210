//! How hot is this machine, and how busy?
//!
//! Temperatures come from the kernel's thermal sensors (hwmon, then thermal zones; in thousandths of a
//! degree Celsius). A virtual machine has none: then a model stands in, driven by the measured use that
//! the node and its programs make of the processors (what else runs on a shared host is not its heat), and
//! says so ([`Source::Modelled`]). It is the model of `physics` that the twin runs, one device of the
//! machine's [`Make`](crate::make::Make) in the air of a room of 20 °C, so that a rehearsal and the stand-in agree. Sensors that fall silent
//! are no reason to believe the model: then there is no temperature, and the guard knows what to do without.
//!
//! Power is what the kernel counts ([`crate::energy`]), and where it counts none, what the same model draws; measured power drives the model of
//! the temperature where there is no sensor for that. Everything is read below one folder, `/sys` unless a test says otherwise.
//!
//! What programs use is counted over the process that stands over each and all its descendants, those that
//! ended included, from `/proc`, in user and system time and in resident memory.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use physics::devices::Device;
use physics::site::{Loop, Site};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Kelvin, Seconds, Watts};

use crate::energy::Meters;
use crate::frequency;

/// The air that cools the model, unless somebody says otherwise.
const ROOM: Kelvin = Kelvin::from_celsius(20.0);

/// Where a temperature comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A sensor of this machine.
    Measured,
    /// A model driven by what the node and its programs use of the processors: the machine shows no sensor.
    Modelled,
}

/// Whether something is in force, and how it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// It is read from the machine.
    Measured,
    /// A model stands in for it.
    Modelled,
    /// It can be set.
    InForce,
    /// There is none, or it is not ours.
    None,
}

/// A sensor or an actuator of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Part {
    /// What is read or set.
    pub what: String,
    /// Whether it is.
    pub how: How,
    /// By what, or why not, in a few words.
    pub by: String,
}

/// A temperature.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Temperature {
    /// In degrees Celsius, the hottest of the processor's sensors.
    pub celsius: f64,
    /// Where the device would throttle itself, in degrees Celsius.
    pub limit_celsius: f64,
    /// Whether it was measured.
    pub source: Source,
}

/// What the processor draws.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Power {
    /// In watts, all its packages together.
    pub watts: f64,
    /// Whether it was measured.
    pub source: Source,
}

/// Everything that was read at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Look {
    /// Share of all cores in use since the look before, 0 to 1.
    pub busy: f64,
    /// None if all sensors are silent.
    pub temperature: Option<Temperature>,
    /// What the processor draws.
    pub power: Power,
    /// How fast it runs, in MHz, if the kernel tells.
    pub frequency_mhz: Option<f64>,
}

/// The machine's sensors.
#[derive(Debug)]
pub struct Sensors {
    system: PathBuf,
    /// Files with a temperature each.
    files: Vec<PathBuf>,
    /// Whose they are.
    chips: String,
    meters: Meters,
    device: Device,
    model: Site,
    outside: Kelvin,
    busy: Option<Busy>,
    /// Processor time of this process and its descendants when it was read last, in seconds.
    own: f64,
}

/// Processor time of the host since it started, in ticks.
#[derive(Clone, Copy, Debug)]
struct Busy {
    used: u64,
    all: u64,
}

impl Sensors {
    /// Looks for sensors; `system` is `/sys`.
    #[must_use]
    pub fn found(system: &Path, device: &Device) -> Self {
        let classes = system.join("class");
        let named = |folder: &Path, begins: &str, ends: &str| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
            files.retain(|path| {
                let name = path.file_name().and_then(|name| name.to_str());
                name.is_some_and(|name| name.starts_with(begins) && name.ends_with(ends))
            });
            files.sort();
            files
        };
        // Chips whose sensors sit in the processor: Intel, AMD, Arm.
        const CHIPS: [&str; 4] = ["coretemp", "k10temp", "zenpower", "cpu_thermal"];
        let (mut files, mut chips) = (Vec::new(), BTreeSet::new());
        for chip in named(&classes.join("hwmon"), "hwmon", "") {
            let name = fs::read_to_string(chip.join("name")).unwrap_or_default();
            if CHIPS.contains(&name.trim()) {
                files.extend(named(&chip, "temp", "_input"));
                chips.insert(name.trim().to_owned());
            }
        }
        if files.is_empty() {
            let zones = named(&classes.join("thermal"), "thermal_zone", "");
            files = zones.iter().map(|zone| zone.join("temp")).collect();
            chips.insert("thermal zones".to_owned());
        }
        files.retain(|file| celsius(file).is_some());
        let cooling = Loop {
            setpoint: ROOM,
            outside: ROOM,
            approach: Kelvin(0.0),
            ..Loop::of(Watts(device.max.0 * 2.0))
        };
        let model = Site::new(&[cooling], &[device], &[0]).expect("one device on the one loop");
        Self {
            meters: Meters::found(&classes),
            system: system.to_owned(),
            files,
            chips: chips.into_iter().collect::<Vec<_>>().join(", "),
            device: *device,
            model,
            outside: ROOM,
            busy: None,
            own: 0.0,
        }
    }

    /// Which of them tell what, and what stands in for the rest.
    #[must_use]
    pub fn told(&self) -> Vec<Part> {
        let part = |what: &str, how, by: String| Part {
            what: what.to_owned(),
            how,
            by,
        };
        let nothing = "this machine shows no sensor".to_owned();
        let (files, packages) = (self.files.len(), self.meters.packages());
        let plural = |number: usize| if number == 1 { "" } else { "s" };
        vec![
            match (files, packages) {
                (0, 0) => part("temperature", How::Modelled, nothing),
                (0, _) => part("temperature", How::Modelled, format!("{nothing}; from measured power")),
                _ => {
                    let by = format!("{}, {files} sensor{}", self.chips, plural(files));
                    part("temperature", How::Measured, by)
                }
            },
            match packages {
                0 => part("power", How::Modelled, "no counter of energy may be read here; from what the node and its programs use".to_owned()),
                _ => part("power", How::Measured, format!("powercap, {packages} package{}", plural(packages))),
            },
            match frequency::current_mhz(&self.system) {
                Some(_) => part("frequency", How::Measured, "cpufreq".to_owned()),
                None => part("frequency", How::None, "this machine shows no cpufreq".to_owned()),
            },
        ]
    }

    /// Reads everything; `since` is how long ago it was read last. None the first time: use is a
    /// difference.
    pub fn read(&mut self, since: Seconds) -> Option<Look> {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let now = busy(&stat)?;
        let before = self.busy.replace(now)?;
        let all = now.all.saturating_sub(before.all).max(1);
        let used = now.used.saturating_sub(before.used) as f64 / all as f64;
        let own = use_of(std::process::id()).processor_seconds;
        let spent = (own - std::mem::replace(&mut self.own, own)).max(0.0);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = (spent / since.0.max(1e-3) / cores as f64).min(1.0);
        let power = self.power(share, since);
        Some(Look {
            busy: used,
            temperature: self.temperature(Watts(power.watts), since),
            power,
            frequency_mhz: frequency::current_mhz(&self.system),
        })
    }

    /// What the packages' counters say, or the model at this share of the processor.
    fn power(&mut self, used: f64, since: Seconds) -> Power {
        let (idle, max) = (self.device.idle.0, self.device.max.0);
        match self.meters.read(since) {
            Some(Watts(watts)) => Power {
                watts,
                source: Source::Measured,
            },
            None => Power {
                watts: idle + (max - idle) * used,
                source: Source::Modelled,
            },
        }
    }

    /// Lets the model be cooled by air of this temperature; sensors are left as they are.
    pub fn set_outside(&mut self, outside: Kelvin) {
        self.outside = outside;
    }

    /// The hottest sensor, none if all are silent; where there are none, the model after so long at this power.
    fn temperature(&mut self, power: Watts, since: Seconds) -> Option<Temperature> {
        let limit_celsius = self.device.throttle.as_celsius();
        if !self.files.is_empty() {
            let measured = self.files.iter().filter_map(|file| celsius(file));
            return measured.reduce(f64::max).map(|celsius| Temperature {
                celsius,
                limit_celsius,
                source: Source::Measured,
            });
        }
        self.model.set_watts(0, power);
        self.model.set_outside(0, self.outside);
        self.model.set_supply(0, self.outside);
        self.model.step(since);
        Some(Temperature {
            celsius: Kelvin(self.model.kelvin()[0]).as_celsius(),
            limit_celsius,
            source: Source::Modelled,
        })
    }
}

fn celsius(file: &Path) -> Option<f64> {
    let text = fs::read_to_string(file).ok()?;
    let thousandths: f64 = text.trim().parse().ok()?;
    // Sensors that are not connected say absurd things.
    Some(thousandths / 1000.0).filter(|celsius| (-50.0..=150.0).contains(celsius))
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal, in ticks.
fn busy(stat: &str) -> Option<Busy> {
    let mut ticks = stat
        .lines()
        .next()?
        .strip_prefix("cpu ")?
        .split_whitespace();
    let mut next = || ticks.next()?.parse::<u64>().ok();
    let (user, nice, system, idle, waiting) = (next()?, next()?, next()?, next()?, next()?);
    let (irq, soft) = (next().unwrap_or(0), next().unwrap_or(0));
    let used = user + nice + system + irq + soft;
    Some(Busy {
        used,
        all: used + idle + waiting,
    })
}

/// What a process and its descendants use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Use {
    /// Processor time so far, in seconds.
    pub processor_seconds: f64,
    /// Resident memory, in bytes; what they share is counted for each.
    pub memory_bytes: u64,
    /// How many processes.
    pub processes: u32,
}

/// What a process uses together with all its descendants, as far as they can be seen.
#[must_use]
pub fn use_of(process: u32) -> Use {
    let mut all = Use::default();
    let mut left = vec![process];
    while let Some(process) = left.pop() {
        let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else {
            continue;
        };
        // Behind the name, which may hold anything: state is field 3, utime 14, stime 15, those of children 16 and 17, rss 24.
        let fields: Vec<_> = match stat.rsplit_once(')') {
            Some((_, rest)) => rest.split_whitespace().collect(),
            None => continue,
        };
        let field = |number: usize| fields.get(number - 3).and_then(|text| text.parse().ok());
        // Its own, and that of children it has waited for.
        let ticks: u64 = (14..=17).filter_map(field).sum();
        all.processor_seconds += ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        all.memory_bytes += field(24).unwrap_or(0) * rustix::param::page_size() as u64;
        all.processes += 1;
        // Whoever forks and goes on in another thread has children of that thread.
        let threads = fs::read_dir(format!("/proc/{process}/task"));
        for thread in threads.into_iter().flatten().flatten() {
            let children = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            left.extend(
                children
                    .split_whitespace()
                    .filter_map(|n| n.parse::<u32>().ok()),
            );
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use physics::devices::{CPU_NODE, EPYC_7763};

    /// The temperature after so long at this share of the processor.
    fn drawn(sensors: &mut Sensors, used: f64, seconds: f64) -> Option<Temperature> {
        let watts = sensors.power(used, Seconds(seconds)).watts;
        sensors.temperature(Watts(watts), Seconds(seconds))
    }

    #[test]
    fn without_a_sensor_use_heats_a_model_and_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut sensors = Sensors::found(folder.path(), &CPU_NODE);
        let mut at = |used, seconds| drawn(&mut sensors, used, seconds).unwrap();
        // Far longer than any time constant: the steady states of `physics`.
        let cold = at(0.0, 10_000.0);
        let hot = at(1.0, 10_000.0);
        assert_eq!(cold.source, Source::Modelled);
        assert!(hot.celsius > cold.celsius + 10.0, "{cold:?} {hot:?}");
        assert!(hot.celsius < hot.limit_celsius);
        let half = at(0.5, 10_000.0).celsius;
        assert!((half - (cold.celsius + hot.celsius) / 2.0).abs() < 0.1);
    }

    #[test]
    fn another_kind_of_machine_warms_otherwise_and_has_its_own_limit() {
        let folder = tempfile::tempdir().unwrap();
        let at = |device: Device| {
            let mut sensors = Sensors::found(folder.path(), &device);
            drawn(&mut sensors, 1.0, 10_000.0).unwrap()
        };
        let resting = |device: Device| {
            let mut sensors = Sensors::found(folder.path(), &device);
            drawn(&mut sensors, 0.0, 10_000.0).unwrap()
        };
        // By the rule of `physics` both are as hot at full power, and differ at rest.
        assert!((at(CPU_NODE).celsius - at(EPYC_7763).celsius).abs() < 0.1);
        assert!(resting(CPU_NODE).celsius > resting(EPYC_7763).celsius + 3.0);
        let throttle = Kelvin::from_celsius(70.0);
        let careful = at(Device {
            throttle,
            ..CPU_NODE
        });
        assert!((careful.limit_celsius - 70.0).abs() < 1e-9);
    }

    #[test]
    fn the_air_outside_is_felt_within_minutes_and_not_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut sensors = Sensors::found(folder.path(), &CPU_NODE);
        let at = |sensors: &mut Sensors, seconds| drawn(sensors, 0.0, seconds).unwrap().celsius;
        let before = at(&mut sensors, 10_000.0);
        sensors.set_outside(Kelvin::from_celsius(70.0));
        let first = at(&mut sensors, 1.0);
        assert!(first > before && first < before + 5.0, "{before} {first}");
        assert!((at(&mut sensors, 10_000.0) - before - 50.0).abs() < 0.01);
    }

    #[test]
    fn the_processors_sensors_are_taken_before_zones_and_the_hottest_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("class/thermal/thermal_zone0/temp", "27800\n");
        let read = |sensors: &mut Sensors| drawn(sensors, 0.3, 1.0).unwrap();
        let zone = read(&mut Sensors::found(folder.path(), &CPU_NODE));
        assert_eq!((zone.celsius, zone.source), (27.8, Source::Measured));
        write("class/hwmon/hwmon0/name", "nvme\n");
        write("class/hwmon/hwmon0/temp1_input", "90000\n");
        write("class/hwmon/hwmon1/name", "coretemp\n");
        write("class/hwmon/hwmon1/temp1_input", "41000\n");
        write("class/hwmon/hwmon1/temp2_input", "43500\n");
        write("class/hwmon/hwmon1/temp3_input", "-128000\n");
        write("class/hwmon/hwmon1/temp4_input", "no number\n");
        let mut chips = Sensors::found(folder.path(), &CPU_NODE);
        assert_eq!(read(&mut chips).celsius, 43.5);
        let told = &chips.told()[0];
        assert_eq!(
            (told.how, told.by.as_str()),
            (How::Measured, "coretemp, 2 sensors")
        );
        // Sensors that fall silent are not taken for a cool machine.
        let mut sensors = Sensors::found(folder.path(), &CPU_NODE);
        for sensor in ["temp1_input", "temp2_input"] {
            write(&format!("class/hwmon/hwmon1/{sensor}"), "no number\n");
        }
        assert_eq!(drawn(&mut sensors, 0.3, 1.0), None);
    }

    #[test]
    fn measured_power_is_told_and_heats_the_model() {
        let folder = tempfile::tempdir().unwrap();
        let zone = folder.path().join("class/powercap/intel-rapl:0");
        fs::create_dir_all(&zone).unwrap();
        let write = |file: &str, text: &str| fs::write(zone.join(file), text).unwrap();
        write("name", "package-0\n");
        write("max_energy_range_uj", "262143328850\n");
        write("energy_uj", "0\n");
        let mut sensors = Sensors::found(folder.path(), &CPU_NODE);
        let how: Vec<_> = sensors.told().iter().map(|part| part.how).collect();
        assert_eq!(how, [How::Modelled, How::Measured, How::None]);
        // Power is a difference: what it was at first is the model's.
        assert_eq!(sensors.power(0.0, Seconds(1.0)).source, Source::Modelled);
        // More than the model's machine takes when it idles.
        write("energy_uj", "1500000000\n");
        let power = sensors.power(0.0, Seconds(1.0));
        assert_eq!((power.watts, power.source), (1500.0, Source::Measured));
        let warm = sensors.temperature(Watts(power.watts), Seconds(10_000.0));
        let mut idle = Sensors::found(Path::new("/nowhere"), &CPU_NODE);
        let idle = drawn(&mut idle, 0.0, 10_000.0).unwrap();
        assert!(
            warm.unwrap().celsius > idle.celsius + 5.0,
            "{warm:?} {idle:?}"
        );
    }

    #[test]
    fn a_line_of_the_kernel_is_read_and_a_cut_one_refused() {
        let line = "cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 2 3 4\n";
        let read = busy(line).unwrap();
        assert_eq!((read.used, read.all), (73, 523));
        assert!(busy("cpu  10 20 30").is_none());
        assert!(busy("").is_none());
    }

    #[test]
    fn this_process_uses_something() {
        let own = use_of(std::process::id());
        assert!(own.memory_bytes > 1 << 20 && own.processes >= 1, "{own:?}");
        assert_eq!(use_of(u32::MAX), Use::default());
    }
}
