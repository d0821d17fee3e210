//! Sensors and actuators as a host lays them out: real files and a real library, read and set by a real node.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::nodes::{COUNTERS, counted, rate};
use crate::place::{Place, Up, wait_until};

/// What a kernel shows of a machine with one package and two processors, in a folder instead of `/sys`.
struct System<'a>(&'a Place);

impl System<'_> {
    fn file(&self, path: &str) -> PathBuf {
        self.0.path("sys").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    fn read(&self, path: &str) -> u64 {
        let mut number = None;
        // A file that is written is empty for a moment, which one of the kernel's never is.
        wait_until("there is a number", || {
            let text = fs::read_to_string(self.file(path)).unwrap_or_default();
            number = text.trim().parse().ok();
            number.is_some()
        });
        number.expect("it was waited for")
    }

    fn laid_out(place: &Place) -> System<'_> {
        let system = System(place);
        system.write("class/hwmon/hwmon0/name", "coretemp\n");
        system.write("class/hwmon/hwmon0/temp1_input", "45000\n");
        system.write("class/powercap/intel-rapl:0/name", "package-0\n");
        system.write(
            "class/powercap/intel-rapl:0/max_energy_range_uj",
            "262143328850\n",
        );
        system.write("class/powercap/intel-rapl:0/energy_uj", "7000000\n");
        for processor in 0..2 {
            for (file, khz) in [
                ("cpuinfo_min_freq", "800000\n"),
                ("cpuinfo_max_freq", "4000000\n"),
                ("scaling_max_freq", "3800000\n"),
                ("scaling_cur_freq", "2000000\n"),
            ] {
                let at = format!("devices/system/cpu/cpufreq/policy{processor}/{file}");
                system.write(&at, khz);
            }
        }
        system
    }

    fn allowed(&self) -> [u64; 2] {
        [0, 1].map(|processor| {
            self.read(&format!(
                "devices/system/cpu/cpufreq/policy{processor}/scaling_max_freq"
            ))
        })
    }
}

/// NVML of a machine with two GPUs, which keeps in this folder what was set; none where nothing compiles C.
fn nvml(folder: &Path) -> Option<PathBuf> {
    fs::create_dir_all(folder).unwrap();
    let source = folder.join("nvml.c");
    fs::write(&source, include_str!("../../../daemon/src/nvml.c")).unwrap();
    let library = folder.join("libnvidia-ml.so.1");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(format!("-DFOLDER=\"{}\"", folder.display()))
        .arg(&source)
        .status();
    let is_built = built.is_ok_and(|status| status.success());
    if !is_built {
        println!("skipped, as to GPUs: nothing here compiles C");
    }
    is_built.then_some(library)
}

fn status(place: &Place) -> Value {
    serde_json::from_str(&place.ok(&["status", "--json"])).expect("JSON")
}

/// How each of these parts is known, by what it is.
fn how(parts: &Value) -> Vec<(&str, &str)> {
    let parts = parts.as_array().unwrap().iter();
    parts
        .map(|part| {
            let [what, how] = ["what", "how"].map(|key| part[key].as_str().unwrap());
            (what, how)
        })
        .collect()
}

//= requirements K1
#[test]
fn what_a_machine_shows_is_read_and_what_was_set_is_as_before_after_any_end() {
    let place = Place::new();
    let system = System::laid_out(&place);
    let gpus = place.path("gpus");
    let library = nvml(&gpus);
    let up = || {
        let mut up = place.command(&["up", "--http", "off", "--system", "sys", "--nvml"]);
        up.arg(library.as_deref().unwrap_or(Path::new("libnone.so.1")));
        Up::with_warnings(&mut up).0
    };
    fs::write(gpus.join("permitted"), "").unwrap();
    let limit = || {
        let text = fs::read_to_string(gpus.join("limit")).unwrap_or_default();
        text.trim().parse::<u64>().unwrap_or(700_000)
    };
    let mut node = up();
    wait_until("power is known", || {
        status(&place)["atmosphere"]["power"]["source"] == "measured"
    });
    let known = status(&place)["atmosphere"].clone();
    let gpu = if library.is_some() {
        "measured"
    } else {
        "none"
    };
    let set = if library.is_some() {
        "in-force"
    } else {
        "none"
    };
    assert_eq!(
        how(&known["sensors"]),
        [
            ("temperature", "measured"),
            ("power", "measured"),
            ("frequency", "measured"),
            ("gpus", gpu)
        ]
    );
    assert_eq!(
        how(&known["actuators"]),
        [
            ("processor time", "in-force"),
            ("frequency", "in-force"),
            ("gpu power", set)
        ]
    );
    assert_eq!(known["frequency_mhz"], 2000.0);
    let said = place.ok(&["status"]);
    for part in [
        "45.0 °C of 90 °C (measured)",
        "powercap, 1 package",
        "frequency 2000 MHz: measured (cpufreq)",
        "cpufreq, from 800 to 4000 MHz",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    if library.is_some() {
        assert_eq!(known["gpus"][0]["watts"], 312.5);
        assert!(
            said.contains("61 °C of 95 °C, 312 W of 700 W, 42 % busy"),
            "{said}"
        );
    }
    let heat = |celsius: u32| {
        let text = format!("{}\n", celsius * 1000);
        system.write("class/hwmon/hwmon0/temp1_input", &text);
        fs::write(gpus.join("celsius"), celsius.to_string()).unwrap();
    };
    let is_slow = || system.allowed()[0] < 3_000_000 && (library.is_none() || limit() < 650_000);
    let is_as_before =
        || system.allowed() == [3_800_000; 2] && (library.is_none() || limit() == 700_000);
    // Killed while hot: it stays slow, and the next start gives back what somebody had chosen, as soon as it is there.
    heat(97);
    wait_until("it is slow", is_slow);
    node.0.kill().unwrap();
    node.0.wait().unwrap();
    assert!(is_slow());
    heat(45);
    let node = up();
    wait_until("it is as before", is_as_before);
    // Cool again while it runs.
    heat(97);
    wait_until("it is slow", is_slow);
    assert!(status(&place)["heat"]["clock"].as_f64() < Some(1.0));
    heat(45);
    wait_until("it is as before", is_as_before);
    // And told to end while hot.
    heat(97);
    wait_until("it is slow", is_slow);
    let mut node = node;
    node.signal("-TERM");
    assert_eq!(node.0.wait().unwrap().code(), Some(0));
    assert!(is_as_before(), "{:?} {}", system.allowed(), limit());
}

/// A node on a host that has no control groups: in a view of the file system from which they were taken away.
fn without_control_groups(place: &Place) -> Option<Up> {
    let node = place.command(&["up", "--http", "off"]);
    let script = "umount -lR /sys/fs/cgroup && exec \"$@\"";
    let mut alone = Command::new("unshare");
    alone.args(["--mount", "sh", "-c", script, "sh"]);
    alone.arg(node.get_program()).args(node.get_args());
    alone.current_dir(place.0.path());
    alone.env("COSMOS_DATA", place.path("data"));
    alone.stdin(Stdio::null()).stdout(Stdio::null());
    alone.stderr(Stdio::piped());
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "umount -lR /sys/fs/cgroup"])
        .output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        println!("skipped: control groups cannot be taken away from a node here");
        return None;
    }
    Some(Up::with_warnings(&mut alone).0)
}

//= requirements K1
#[test]
fn without_control_groups_a_hot_machine_slows_its_programs_in_turns_and_lets_them_go_on() {
    let place = Place::new();
    let Some(_up) = without_control_groups(&place) else {
        return;
    };
    wait_until("a temperature is known", || {
        status(&place)["heat"].is_object()
    });
    if status(&place)["heat"]["temperature"]["source"] != "modelled" {
        println!(
            "skipped: this machine shows its temperature, and nobody may make it hot for a test"
        );
        return;
    }
    assert_eq!(status(&place)["limits"]["cores"], "whole cores (affinity)");
    let actuator = status(&place)["atmosphere"]["actuators"][0].clone();
    assert_eq!(actuator["how"], "in-force");
    assert!(
        actuator["by"].as_str().unwrap().contains("in turns"),
        "{actuator}"
    );
    let script = "n=0; while :; do n=$((n + 1)); [ $((n % 20000)) = 0 ] && echo $n; done";
    for name in COUNTERS {
        place.ok(&["run", "-d", "--name", name, "sh", "-c", script]);
    }
    wait_until("they count", || counted(&place) > 0);
    let cool = rate(&place, 4);
    // Without any work it would be 95 °C: in the band in which the guard slows, and below the limit.
    place.ok(&["outside", "78"]);
    let clock = || status(&place)["heat"]["clock"].as_f64().unwrap();
    // So much less that it shows beside whoever else has work for the processors.
    wait_until("programs get less", || clock() < 0.3);
    let hot = rate(&place, 4);
    assert!(hot < cool * 3 / 4, "{hot} while hot, {cool} while cool");
    // What stands still can be asked to end, and ends.
    place.ok(&["stop", COUNTERS[0]]);
    assert_eq!(place.program(COUNTERS[0])["code"], 143);
    place.ok(&["outside", "-20"]);
    wait_until("programs get everything", || clock() == 1.0);
    let before = counted(&place);
    wait_until("the others go on", || counted(&place) > before + cool / 2);
    // It answers with 1 because of what is missing here.
    let services = place.cosmos(&["services"], "").out;
    assert!(services.contains("by stopping them in turns"), "{services}");
}
