//! How hot and hungry are real devices?
//!
//! What a device draws and where it protects itself is what its driver reports: the log
//! `nvidia-smi -q` prints of a device at rest. Each entry names the log it was read from:
//!
//! * `gls`: the logs in github.com/thamada/gls, `gls/*_smi.py`, and in its predecessor
//!   thamada/nvidia-smi, `nvsim/*_smi.py`, taken in November 2024.
//! * An issue: the log quoted in that issue on GitHub.
//!
//! *Idle* is the log's power draw, the mean where it shows several devices. *Max* is its default
//! power limit, which is the TDP of the data sheet. *Throttle* is "GPU Max Operating Temp" and
//! *shutdown* "GPU Shutdown Temp". From the H100 on a log gives margins instead: the limit
//! is "GPU Current Temp" + "GPU T.Limit Temp", and shutdown lies above it by "GPU Shutdown
//! T.Limit Temp".
//!
//! No maker publishes the thermal resistance and capacity of a device *with its cooler*, so these
//! are derived, all by the same two rules, stated at [`MARGIN`] and [`TIME_CONSTANT`]. Good for
//! rehearsing a fleet; whoever has telemetry of his own should replace them.

use wire::{JoulesPerKelvin, Kelvin, KelvinPerWatt, Seconds, Watts};

/// A kind of device with its cooler.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Device {
    /// As traces and drivers call it.
    pub name: &'static str,
    /// Power with nothing to do.
    pub idle: Watts,
    /// Most power it draws for long: TDP.
    pub max: Watts,
    /// From the junction to the coolant (or inlet air).
    pub resistance: KelvinPerWatt,
    /// Energy that warms chip and cooler by one kelvin.
    pub heat_capacity: JoulesPerKelvin,
    /// Where it begins to lower its clock (the driver's "max operating temperature").
    pub throttle: Kelvin,
    /// Where it switches itself off.
    pub shutdown: Kelvin,
}

/// Coolant at which a device's cooler is taken to be sized.
pub const DESIGN_COOLANT: Kelvin = Kelvin::from_celsius(30.0);

/// Distance to throttling, K, at full power and [`DESIGN_COOLANT`]: resistance follows
/// from it, (throttle − 13 K − 30 °C) / TDP. It is the A100's, whose resistance can be
/// read off telemetry: on the Kalos cluster (AcmeTrace, CC-BY-4.0) the 5th and 95th
/// percentiles of GPU power, 61.9 and 413 W, and of core temperature, 25 and 62 °C, give
/// 37 K / 351 W = 0.105 K/W, hence 72 °C at 400 W over 30 °C, 13 K below its 85 °C.
pub const MARGIN: f64 = 13.0;

/// Time constant of chip and cooler; heat capacity is this over resistance. Chosen
/// so that a step in power is 90 % settled after a minute, as GPU telemetry shows under a
/// load that sets in and stays.
pub const TIME_CONSTANT: Seconds = Seconds(25.0);

const fn device(name: &'static str, idle: f64, max: f64, throttle: f64, shutdown: f64) -> Device {
    let resistance = (throttle - MARGIN - DESIGN_COOLANT.as_celsius()) / max;
    Device {
        name,
        idle: Watts(idle),
        max: Watts(max),
        resistance: KelvinPerWatt(resistance),
        heat_capacity: JoulesPerKelvin(TIME_CONSTANT.0 / resistance),
        throttle: Kelvin::from_celsius(throttle),
        shutdown: Kelvin::from_celsius(shutdown),
    }
}

/// NVIDIA Tesla P100 SXM2. Idle and 300 W: issue openbmc/openbmc-test-automation#637, which shows no
/// limits; those of [`P100_PCIE`], the same chip, stand in.
pub const P100: Device = device("P100", 35.0, 300.0, 82.0, 85.0);
/// NVIDIA Tesla P100 PCIe 16 GB: issue NVIDIA/dcgm-exporter#16. This driver reports no maximum operating
/// temperature; "GPU Slowdown Temp" stands in for it.
pub const P100_PCIE: Device = device("P100-PCIE", 25.0, 250.0, 82.0, 85.0);
/// NVIDIA V100 SXM2 16 GB: `gls` `V100_x8`, idle 39 to 45 W. With 32 GB the limits are the same: issue NVIDIA/nvidia-docker#1076.
pub const V100: Device = device("V100", 42.0, 300.0, 83.0, 90.0);
/// [`V100`] with 16 GB, as the openb trace names it.
pub const V100M16: Device = Device {
    name: "V100M16",
    ..V100
};
/// [`V100`] with 32 GB, as the openb trace names it.
pub const V100M32: Device = Device {
    name: "V100M32",
    ..V100
};
/// NVIDIA T4. A log of 5 July 2023, driver 530.30.02, board 900-2G183-0000-001. 70 W also: NVIDIA T4
/// product brief, "Overview".
pub const T4: Device = device("T4", 14.0, 70.0, 85.0, 96.0);
/// NVIDIA A10: `gls` `A10`.
pub const A10: Device = device("A10", 16.0, 150.0, 91.0, 101.0);
/// NVIDIA A100 SXM4 40 GB. A log of eight, driver 535.129.03, part 20B0-884-A1. With 80 GB the limits are the
/// same, though a board may allow 500 W: `gls` `A100SXMx4`.
pub const A100: Device = device("A100", 52.0, 400.0, 85.0, 92.0);
/// NVIDIA H100 SXM5 80 GB: `gls` `H100SXMx8`, idle 75 to 100 W.
pub const H100: Device = device("H100", 85.0, 700.0, 87.0, 95.0);
/// NVIDIA H200 SXM: `gls` `H200`.
pub const H200: Device = device("H200", 75.0, 700.0, 87.0, 95.0);
/// NVIDIA GH200 480 GB, processor and GPU together: `gls` `GH200`, its "Module Power Readings". Limits are its GPU's.
pub const GH200: Device = device("GH200", 170.0, 1000.0, 86.0, 94.0);
/// NVIDIA B200 SXM. Idle: issue ROCm/legacy-rocm-build#5219, air-cooled. Max and limits: "Power, clocks and thermals: the 1000 W
/// envelope", measurements of 17 August 2026 on eight of them, driver 595.71.05, sections 2 and 3. There one
/// idles at 190 W and 31 °C, and at 990 W they are at 52 to 61 °C: 0.026 to 0.038 K/W, where [`MARGIN`] gives 0.045.
pub const B200: Device = device("B200", 137.0, 1000.0, 88.0, 93.0);
/// "G1" of the openb trace, which says only that G1, G2 and G3 are undisclosed. No node
/// of the published list has one. The [`T4`] stands in.
pub const G1: Device = Device { name: "G1", ..T4 };
/// "G2" of the openb trace (undisclosed): eight in a node of 96 vCPU. The [`A10`]
/// stands in, an inference card of the trace's years; a guess.
pub const G2: Device = Device { name: "G2", ..A10 };
/// "G3" of the openb trace (undisclosed): eight in a node of 128 vCPU and 768 GiB. The [`A100`]
/// stands in, whose usual server looks like that; a guess.
pub const G3: Device = Device { name: "G3", ..A100 };
/// AMD EPYC 7763 socket. 280 W is the most a processor of its generation may be set to (KitGuru, "AMD EPYC Turin
/// processors may come with up to 256 cores and 600W cTDP"). The rest stands in, since AMD publishes no such figures: idle a quarter of that, twice a GPU's
/// share, because its I/O die never rests; 90 °C, and 15 K above.
pub const EPYC_7763: Device = device("EPYC-7763", 73.0, 280.0, 90.0, 105.0);
/// A server without GPUs or the host of some: two [`EPYC_7763`] and 100 W for memory,
/// disks and fans (assumed), as one body.
pub const CPU_NODE: Device = device("CPU-NODE", 246.0, 660.0, 90.0, 105.0);

/// All of them.
pub const ALL: [&Device; 17] = [
    &P100, &P100_PCIE, &V100, &V100M16, &V100M32, &T4, &A10, &A100, &H100, &H200, &GH200, &B200,
    &G1, &G2, &G3, &EPYC_7763, &CPU_NODE,
];

/// The device of this name, upper or lower case.
#[must_use]
pub fn lookup(model: &str) -> Option<&'static Device> {
    ALL.into_iter()
        .find(|device| device.name.eq_ignore_ascii_case(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_full_power_and_design_coolant_every_device_keeps_its_margin() {
        for device in ALL {
            let full = DESIGN_COOLANT + device.resistance * device.max;
            assert!(
                ((device.throttle - full).0 - MARGIN).abs() < 1e-9,
                "{} at {full}",
                device.name
            );
            assert!(device.idle < device.max && device.throttle < device.shutdown);
        }
    }

    #[test]
    fn the_rule_gives_the_resistance_measured_on_the_a100() {
        assert!(
            (A100.resistance.0 / 0.105 - 1.0).abs() < 0.01,
            "{}",
            A100.resistance
        );
    }

    #[test]
    fn every_model_of_the_openb_trace_is_known() {
        for model in ["P100", "T4", "V100M16", "V100M32", "A10", "G1", "G2", "G3"] {
            assert_eq!(lookup(model).map(|d| d.name), Some(model));
        }
        assert_eq!(lookup("h100").map(|d| d.max), Some(Watts(700.0)));
        assert_eq!(lookup("abacus"), None);
    }

    #[test]
    fn names_are_unique() {
        for device in ALL {
            assert_eq!(lookup(device.name), Some(device));
        }
    }
}
