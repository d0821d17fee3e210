//! How hot does a GPU site get?
//!
//! On the ground heat leaves through a coolant. A device's junction sits above its
//! coolant by the power times a thermal resistance, and gets there with a time
//! constant of half a minute; the coolant of a loop carries the heat of hundreds of
//! devices to a plant that can reject so many watts and no more. Per device and loop:
//!
//! ```text
//! C dT/dt   = P − (T − T_c)/R
//! C_c dT_c/dt = Σ (T − T_c)/R − rejected          rejected ≤ capacity
//! ```
//!
//! While the plant keeps up it holds the coolant at its setpoint, or as near as the
//! outside allows (wet-bulb temperature plus the tower's approach). When it cannot, the
//! coolant warms and takes every device on the loop with it; nobody's own power need have changed.
//!
//! # The method
//!
//! The devices' equation is linear, so it is solved exactly for a coolant that moves
//! in a straight line during the step. The heat they then give is A + B ΔT_c,
//! with A and B summed over a loop, which makes the loop's own balance an equation
//! for the one unknown ΔT_c; because B is negative it can always be solved. Exact
//! while the coolant is held, of second order while it moves, stable for any step.
//!
//! Deliberately absent: throttling and switching off. Firmware and schedulers do that, and a world
//! plays them by setting watts; [`Site::condition`] says when they would.

use crate::devices::Device;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::iter::Sum;
use core::ops::{Add, AddAssign};
use wire::{Joules, JoulesPerKelvin, Kelvin, Seconds, Watts};

/// A cooling loop and the plant that rejects its heat.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loop {
    /// Supply temperature that the plant aims for.
    pub setpoint: Kelvin,
    /// Most heat that the plant can reject; zero when it has failed.
    pub capacity: Watts,
    /// Heat capacity of the coolant in the loop.
    pub coolant: JoulesPerKelvin,
    /// Outside air or, for a cooling tower, its wet-bulb temperature.
    pub outside: Kelvin,
    /// How far above `outside` the plant's best is, K.
    pub approach: Kelvin,
    /// Warmest supply that the equipment accepts; see [`Site::inlet_excess`].
    pub inlet_max: Kelvin,
}

impl Loop {
    /// A facility loop to start from, by capacity: water at 25 °C, accepted up to 32 °C (ASHRAE TC 9.9
    /// class W32), wet bulb 18 °C and a tower that comes within 4 K of it. The coolant's mass is chosen: 10 litres
    /// a kilowatt of 4,186 J/(kg K), which warms by 1.4 K a minute when the plant fails at full load.
    #[must_use]
    pub fn of(capacity: Watts) -> Self {
        Self {
            setpoint: Kelvin::from_celsius(25.0),
            capacity,
            coolant: JoulesPerKelvin(capacity.0 / 1000.0 * 10.0 * 4_186.0),
            outside: Kelvin::from_celsius(18.0),
            approach: Kelvin(4.0),
            inlet_max: Kelvin::from_celsius(32.0),
        }
    }

    /// Coldest the plant makes the coolant: the setpoint, or what the outside allows.
    #[must_use]
    pub fn target(&self) -> Kelvin {
        self.setpoint.max(self.outside + self.approach)
    }
}

/// How a device is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// Below its throttling temperature.
    Cool,
    /// At or above it: its firmware lowers the clock.
    Throttling,
    /// At or above its shutdown temperature: its firmware switches it off.
    Shutdown,
}

/// Something was placed in what does not exist. Nothing was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// What was placed: "device", "node" or "rack".
    pub what: &'static str,
    /// Which of them.
    pub index: usize,
    /// The container it names.
    pub into: u32,
    /// How many containers there are.
    pub of: usize,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} is placed in number {}, but there are only {}; nothing was built",
            self.what, self.index, self.into, self.of
        )
    }
}

impl core::error::Error for Misplaced {}

fn check(what: &'static str, into: &[u32], of: usize) -> Result<(), Misplaced> {
    match into.iter().position(|&into| into as usize >= of) {
        None => Ok(()),
        Some(index) => Err(Misplaced {
            what,
            index,
            into: into[index],
            of,
        }),
    }
}

/// Where a site's heat went during a step, or over several.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flows {
    /// Electrical energy.
    pub supplied: Joules,
    /// Heat that the plants rejected.
    pub rejected: Joules,
    /// Heat by which devices and coolant are richer.
    pub stored: Joules,
}

impl Flows {
    /// What the books fail to explain: supplied − rejected − stored.
    #[must_use]
    pub fn imbalance(&self) -> Joules {
        self.supplied - self.rejected - self.stored
    }
}

impl AddAssign for Flows {
    fn add_assign(&mut self, other: Self) {
        self.supplied += other.supplied;
        self.rejected += other.rejected;
        self.stored += other.stored;
    }
}

impl Add for Flows {
    type Output = Self;
    fn add(mut self, other: Self) -> Self {
        self += other;
        self
    }
}

impl Sum for Flows {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

//= requirements H1
/// The heat of a site: devices on cooling loops.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    loops: Vec<Loop>,
    /// Coolant temperature of each loop, K.
    supply: Vec<f64>,
    /// Mean power rejected by each loop during the last step, W.
    rejected: Vec<f64>,
    /// Mean power each loop was given during the last step, W.
    given: Vec<f64>,
    devices: Vec<Device>,
    cooled_by: Vec<u32>,
    kelvin: Vec<f64>,
    watts: Vec<f64>,
    /// How far each loop's coolant moved during the last step, K.
    moved: Vec<f64>,
    /// Neighbours in the list that share a loop.
    runs: Vec<Run>,
    /// Step length that `pace` was worked out for.
    paced_for: Seconds,
    pace: Pace,
    /// −B of each loop, J/K.
    yielding: Vec<f64>,
}

/// Devices `from..to`, one after the other on the same loop.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Run {
    from: usize,
    to: usize,
    by: usize,
}

/// Every device's numbers for a step of a given length h, with τ = RC. Arrays, because
/// a step is three multiplications for each device and the rest is fetching numbers.
#[derive(Clone, Debug, Default, PartialEq)]
struct Pace {
    /// R, K/W.
    resistance: Vec<f64>,
    /// C (1 − e^(−h/τ)): heat it stores per kelvin of distance from rest, J/K.
    stores: Vec<f64>,
    /// 1 − e^(−h/τ): how far towards rest it gets.
    gain: Vec<f64>,
    /// 1 − gain τ/h: how far it follows a coolant moving steadily during the step.
    follow: Vec<f64>,
}

/// Sums are taken in this many strands, each in the order of the devices, and then
/// added: a fixed order, which the compiler can do several of at a time.
const STRANDS: usize = 8;

impl Site {
    /// Idle devices at rest on loops at their targets. `cooled_by[i]` is the loop of `devices[i]`.
    ///
    /// # Errors
    /// If a device names a loop that is not there.
    ///
    /// # Panics
    /// If the two slices differ in length, or a loop or device has no heat capacity.
    pub fn new(loops: &[Loop], devices: &[&Device], cooled_by: &[u32]) -> Result<Self, Misplaced> {
        assert_eq!(devices.len(), cooled_by.len(), "one loop per device");
        check("device", cooled_by, loops.len())?;
        for part in loops {
            assert!(
                part.coolant.0 > 0.0 && part.capacity.0 >= 0.0,
                "not a loop that can exist: {part:?}"
            );
        }
        for device in devices {
            assert!(
                device.heat_capacity.0 > 0.0 && device.resistance.0 > 0.0,
                "not a device that can exist: {device:?}"
            );
        }
        let supply: Vec<_> = loops.iter().map(|part| part.target().0).collect();
        let rest = |(device, by): (&&Device, &u32)| {
            supply[*by as usize] + (device.resistance * device.idle).0
        };
        Ok(Self {
            kelvin: devices.iter().zip(cooled_by).map(rest).collect(),
            watts: devices.iter().map(|device| device.idle.0).collect(),
            devices: devices.iter().map(|device| **device).collect(),
            cooled_by: cooled_by.to_vec(),
            rejected: vec![0.0; loops.len()],
            given: vec![0.0; loops.len()],
            moved: vec![0.0; loops.len()],
            yielding: vec![0.0; loops.len()],
            runs: runs(cooled_by),
            loops: loops.to_vec(),
            supply,
            paced_for: Seconds::ZERO,
            pace: Pace::default(),
        })
    }

    /// Sets what a device draws from now on.
    pub fn set_watts(&mut self, device: usize, watts: Watts) {
        self.watts[device] = watts.0;
    }

    /// What every device draws, W, in the order they were given.
    #[must_use]
    pub fn watts(&self) -> &[f64] {
        &self.watts
    }

    /// [`Site::watts`] to be written to.
    pub fn watts_mut(&mut self) -> &mut [f64] {
        &mut self.watts
    }

    /// Junction temperatures, K, in the order the devices were given.
    #[must_use]
    pub fn kelvin(&self) -> &[f64] {
        &self.kelvin
    }

    /// What a device is.
    #[must_use]
    pub fn device(&self, device: usize) -> &Device {
        &self.devices[device]
    }

    /// The loop that cools a device.
    #[must_use]
    pub fn cooled_by(&self, device: usize) -> usize {
        self.cooled_by[device] as usize
    }

    /// How a device is doing.
    #[must_use]
    pub fn condition(&self, device: usize) -> Condition {
        let (is, kelvin) = (&self.devices[device], Kelvin(self.kelvin[device]));
        if kelvin >= is.shutdown {
            Condition::Shutdown
        } else if kelvin >= is.throttle {
            Condition::Throttling
        } else {
            Condition::Cool
        }
    }

    /// The loops as they are now.
    #[must_use]
    pub fn loops(&self) -> &[Loop] {
        &self.loops
    }

    /// Sets how much a loop's plant can reject from now on; zero for one that has failed.
    pub fn set_capacity(&mut self, of: usize, capacity: Watts) {
        self.loops[of].capacity = capacity.max(Watts::ZERO);
    }

    /// Sets the weather a loop's plant has to work with.
    pub fn set_outside(&mut self, of: usize, outside: Kelvin) {
        self.loops[of].outside = outside;
    }

    /// Exchanges a loop's coolant for some of this temperature: what a machine has that draws in the air outside.
    pub fn set_supply(&mut self, of: usize, supply: Kelvin) {
        self.supply[of] = supply.0;
    }

    /// Temperature of the coolant a loop supplies.
    #[must_use]
    pub fn supply(&self, of: usize) -> Kelvin {
        Kelvin(self.supply[of])
    }

    /// Mean heat a loop took from its devices during the last step.
    #[must_use]
    pub fn load(&self, of: usize) -> Watts {
        Watts(self.given[of])
    }

    /// Mean heat a loop's plant rejected during the last step.
    #[must_use]
    pub fn rejected(&self, of: usize) -> Watts {
        Watts(self.rejected[of])
    }

    /// How far a loop's supply is above what its equipment accepts; negative while it is below.
    #[must_use]
    pub fn inlet_excess(&self, of: usize) -> Kelvin {
        self.supply(of) - self.loops[of].inlet_max
    }

    /// Heat held above absolute zero by devices and coolant.
    #[must_use]
    pub fn heat(&self) -> Joules {
        let devices = self.devices.iter().zip(&self.kelvin);
        let loops = self.loops.iter().zip(&self.supply);
        devices
            .map(|(device, t)| device.heat_capacity * Kelvin(*t))
            .sum::<Joules>()
            + loops.map(|(part, t)| part.coolant * Kelvin(*t)).sum()
    }

    /// Lets `dt` pass with power, capacity and weather held constant.
    ///
    /// # Panics
    /// If `dt` is negative.
    pub fn step(&mut self, dt: Seconds) -> Flows {
        assert!(dt.0 >= 0.0, "time runs forwards, not {dt}");
        if dt.0 == 0.0 {
            return Flows::default();
        }
        if self.paced_for != dt {
            self.set_pace(dt);
        }
        let h = dt.0;
        let (mut supplied, mut stored) = (0.0, 0.0);

        // Devices, as if the coolant stood still; `given` collects A: what they were
        // supplied less what they stored.
        self.given.fill(0.0);
        for &Run { from, to, by } in &self.runs {
            let (watts, stores) = advance(
                self.supply[by],
                &mut self.kelvin[from..to],
                &self.watts[from..to],
                &self.pace.resistance[from..to],
                &self.pace.gain[from..to],
                &self.pace.stores[from..to],
            );
            supplied += watts * h;
            stored += stores;
            self.given[by] += watts * h - stores;
        }

        // Loops: C_c ΔT_c = A + B ΔT_c − rejected.
        let mut rejected = 0.0;
        for (i, part) in self.loops.iter().enumerate() {
            let (most, target) = (part.capacity.0 * h, part.target().0);
            let hold = target - self.supply[i];
            let to_hold = self.given[i] - (part.coolant.0 + self.yielding[i]) * hold;
            let rejects = to_hold.clamp(0.0, most);
            let warming = if rejects == to_hold {
                hold
            } else {
                (self.given[i] - rejects) / (part.coolant.0 + self.yielding[i])
            };
            self.supply[i] += warming;
            self.given[i] = (self.given[i] - self.yielding[i] * warming) / h;
            self.rejected[i] = rejects / h;
            rejected += rejects;
            stored += part.coolant.0 * warming;
            self.moved[i] = warming;
        }

        // Devices again: what the coolant's movement adds. Their heat for it is −B ΔT_c.
        for (moved, yielding) in self.moved.iter().zip(&self.yielding) {
            stored += yielding * moved;
        }
        for &Run { from, to, by } in &self.runs {
            let moved = self.moved[by];
            if moved != 0.0 {
                let follow = &self.pace.follow[from..to];
                for (t, follow) in self.kelvin[from..to].iter_mut().zip(follow) {
                    *t += follow * moved;
                }
            }
        }
        Flows {
            supplied: Joules(supplied),
            rejected: Joules(rejected),
            stored: Joules(stored),
        }
    }

    fn set_pace(&mut self, dt: Seconds) {
        let Pace {
            resistance,
            stores,
            gain: gains,
            follow,
        } = &mut self.pace;
        for list in [&mut *resistance, stores, gains, follow] {
            list.clear();
        }
        self.yielding.fill(0.0);
        for (device, by) in self.devices.iter().zip(&self.cooled_by) {
            let (r, c) = (device.resistance.0, device.heat_capacity.0);
            let tau = r * c;
            let gain = -libm::expm1(-dt.0 / tau);
            let follows = 1.0 - gain * tau / dt.0;
            resistance.push(r);
            stores.push(c * gain);
            gains.push(gain);
            follow.push(follows);
            self.yielding[*by as usize] += c * follows;
        }
        self.paced_for = dt;
    }
}

fn runs(cooled_by: &[u32]) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for (i, &by) in cooled_by.iter().enumerate() {
        let by = by as usize;
        match runs.last_mut() {
            Some(last) if last.by == by => last.to = i + 1,
            _ => runs.push(Run {
                from: i,
                to: i + 1,
                by,
            }),
        }
    }
    runs
}

/// Brings devices nearer to rest over a coolant that stands still. Gives what they
/// drew, W, and what they stored, J.
fn advance(
    supply: f64,
    kelvin: &mut [f64],
    watts: &[f64],
    resistance: &[f64],
    gain: &[f64],
    stores: &[f64],
) -> (f64, f64) {
    let (mut drawn, mut stored) = ([0.0; STRANDS], [0.0; STRANDS]);
    let one = |t: &mut f64, w: f64, r: f64, gain: f64, stores: f64| {
        let away = supply + w * r - *t;
        *t += gain * away;
        stores * away
    };
    let whole = kelvin.len() / STRANDS * STRANDS;
    let (kelvin, kelvin_rest) = kelvin.split_at_mut(whole);
    let parts = kelvin.chunks_exact_mut(STRANDS);
    let parts = parts.zip(watts.chunks_exact(STRANDS));
    let parts = parts.zip(resistance.chunks_exact(STRANDS));
    let parts = parts.zip(gain.chunks_exact(STRANDS));
    let parts = parts.zip(stores.chunks_exact(STRANDS));
    for ((((t, w), r), gain), stores) in parts {
        for i in 0..STRANDS {
            drawn[i] += w[i];
            stored[i] += one(&mut t[i], w[i], r[i], gain[i], stores[i]);
        }
    }
    for (i, t) in kelvin_rest.iter_mut().enumerate() {
        let d = whole + i;
        drawn[i] += watts[d];
        stored[i] += one(t, watts[d], resistance[d], gain[d], stores[d]);
    }
    (drawn.iter().sum(), stored.iter().sum())
}

/// Which device sits in which node, rack and row, and what a rack's feed can carry.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    node_of: Vec<u32>,
    rack_of: Vec<u32>,
    row_of: Vec<u32>,
    rows: usize,
    /// Most power each rack's feed carries.
    pub rack_limit: Vec<Watts>,
}

/// What every level of a site draws.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Draw {
    /// Each node.
    pub nodes: Vec<Watts>,
    /// Each rack.
    pub racks: Vec<Watts>,
    /// Each row.
    pub rows: Vec<Watts>,
    /// The whole site.
    pub site: Watts,
}

impl Layout {
    /// `node_of[device]`, `rack_of[node]`, `row_of[rack]`, `rack_limit[rack]`. A node's own processors are devices too.
    ///
    /// # Errors
    /// If a device or node is placed in what is not there.
    ///
    /// # Panics
    /// Unless there is one limit per rack.
    pub fn new(
        node_of: &[u32],
        rack_of: &[u32],
        row_of: &[u32],
        rack_limit: &[Watts],
    ) -> Result<Self, Misplaced> {
        check("device", node_of, rack_of.len())?;
        check("node", rack_of, row_of.len())?;
        assert_eq!(row_of.len(), rack_limit.len(), "one limit per rack");
        Ok(Self {
            node_of: node_of.to_vec(),
            rack_of: rack_of.to_vec(),
            row_of: row_of.to_vec(),
            rows: row_of.iter().max().map_or(0, |last| *last as usize + 1),
            rack_limit: rack_limit.to_vec(),
        })
    }

    /// Adds up what devices draw (see [`Site::watts`]) level by level.
    #[must_use]
    pub fn draw(&self, watts: &[f64]) -> Draw {
        let sum = |parts: &[Watts], into: &[u32], of: usize| {
            let mut sums = vec![Watts::ZERO; of];
            for (part, into) in parts.iter().zip(into) {
                sums[*into as usize] += *part;
            }
            sums
        };
        let devices: Vec<_> = watts.iter().copied().map(Watts).collect();
        let nodes = sum(&devices, &self.node_of, self.rack_of.len());
        let racks = sum(&nodes, &self.rack_of, self.row_of.len());
        let rows = sum(&racks, &self.row_of, self.rows);
        Draw {
            site: rows.iter().copied().sum(),
            nodes,
            racks,
            rows,
        }
    }

    /// Racks that draw more than their feed carries, and by how much.
    pub fn overdrawn(&self, draw: &Draw) -> impl Iterator<Item = (usize, Watts)> {
        let excess = draw
            .racks
            .iter()
            .zip(&self.rack_limit)
            .map(|(is, most)| *is - *most);
        excess
            .enumerate()
            .filter(|(_, excess)| *excess > Watts::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::{A100, ALL, H100, T4};
    use alloc::string::ToString;
    use proptest::prelude::*;

    /// `n` devices on one loop with capacity to spare.
    fn site(device: &Device, n: usize) -> Site {
        let part = Loop::of(device.max * (2.0 * n as f64));
        Site::new(&[part], &vec![device; n], &vec![0; n]).unwrap()
    }

    fn run(site: &mut Site, dt: f64, steps: u32) -> Flows {
        (0..steps).map(|_| site.step(Seconds(dt))).sum()
    }

    //= requirements H1
    #[test]
    fn devices_rest_at_coolant_plus_power_times_resistance() {
        for device in ALL {
            let mut site = site(device, 3);
            site.set_watts(1, device.max);
            run(&mut site, 60.0, 60);
            let coolant = site.supply(0);
            assert_eq!(coolant, site.loops()[0].target(), "the loop keeps up");
            for (i, watts) in [device.idle, device.max, device.idle]
                .into_iter()
                .enumerate()
            {
                let rest = coolant + device.resistance * watts;
                assert!(
                    (site.kelvin()[i] - rest.0).abs() < 1e-9,
                    "{} {i}",
                    device.name
                );
            }
        }
    }

    #[test]
    fn a_step_in_power_is_answered_exactly_whatever_the_step_in_time() {
        let rise = (H100.resistance * (H100.max - H100.idle)).0;
        for dt in [0.1, 1.0, 15.0, 150.0] {
            let mut site = site(&H100, 1);
            let start = site.kelvin()[0];
            site.set_watts(0, H100.max);
            run(&mut site, dt, (150.0 / dt) as u32);
            let answer = rise * (1.0 - libm::exp(-150.0 / crate::devices::TIME_CONSTANT.0));
            assert!(
                (site.kelvin()[0] - start - answer).abs() < 1e-6,
                "dt = {dt}"
            );
        }
    }

    /// One H100 and a loop of `coolant` J/K whose plant has failed: two bodies that
    /// exchange heat, which has a closed form. Device and coolant after some time.
    fn failed(coolant: f64, dt: f64, seconds: f64) -> (Site, (f64, f64)) {
        let part = Loop {
            coolant: JoulesPerKelvin(coolant),
            ..Loop::of(Watts(1_000.0))
        };
        let mut site = Site::new(&[part], &[&H100], &[0]).unwrap();
        let (t0, tc0) = (site.kelvin()[0], site.supply(0).0);
        site.set_capacity(0, Watts::ZERO);
        site.set_watts(0, H100.max);
        run(&mut site, dt, (seconds / dt) as u32);
        let (r, c, p) = (H100.resistance.0, H100.heat_capacity.0, H100.max.0);
        // The difference δ obeys δ' = P/C − δ/R (1/C + 1/C_c); the energy is P t.
        let pace = (1.0 / c + 1.0 / coolant) / r;
        let rest = p / c / pace;
        let apart = rest + (t0 - tc0 - rest) * libm::exp(-pace * seconds);
        let energy = c * t0 + coolant * tc0 + p * seconds;
        let tc = (energy - c * apart) / (c + coolant);
        (site, (tc + apart, tc))
    }

    #[test]
    fn when_the_plant_fails_device_and_coolant_warm_as_two_bodies_do() {
        for (coolant, dt, within) in [
            (50_000.0, 1.0, 1e-6),
            (50_000.0, 30.0, 1e-5),
            (2_000.0, 1.0, 1e-5),
        ] {
            let (site, (device, water)) = failed(coolant, dt, 600.0);
            assert!(
                (site.kelvin()[0] / device - 1.0).abs() < within,
                "device {}, should be {device}",
                site.kelvin()[0]
            );
            assert!(
                (site.supply(0).0 / water - 1.0).abs() < within,
                "coolant {}, should be {water}",
                site.supply(0)
            );
        }
    }

    #[test]
    fn order_is_two_while_the_coolant_moves() {
        let off = |dt| {
            let (site, (device, _)) = failed(500.0, dt, 60.0);
            (site.kelvin()[0] - device).abs()
        };
        let ratio = off(2.0) / off(1.0);
        assert!((3.5..4.5).contains(&ratio), "error fell by {ratio}, not 4");
    }

    #[test]
    fn a_loop_rejects_what_it_must_and_no_more_than_it_can() {
        let part = Loop {
            capacity: Watts(1_000.0),
            ..Loop::of(Watts(1_000.0))
        };
        let mut site = Site::new(&[part], &[&A100; 4], &[0; 4]).unwrap();
        let target = part.target();
        // Within capacity: the supply is held, and what is rejected is what is given.
        site.watts_mut().fill(240.0);
        run(&mut site, 60.0, 60);
        assert_eq!(site.supply(0), target);
        assert!((site.rejected(0).0 - 960.0).abs() < 1e-6);
        // Beyond: the excess of 600 W warms coolant and devices together.
        site.watts_mut().fill(400.0);
        run(&mut site, 60.0, 10);
        let before = site.supply(0);
        run(&mut site, 60.0, 10);
        assert!((site.rejected(0).0 - 1_000.0).abs() < 1e-6);
        let rate = (site.supply(0) - before).0 / 600.0;
        let bodies = part.coolant.0 + 4.0 * A100.heat_capacity.0;
        assert!((rate / (600.0 / bodies) - 1.0).abs() < 1e-3, "{rate} K/s");
        assert!(site.inlet_excess(0) > Kelvin(0.0));
        // Repaired: it comes back to the target and stays.
        site.set_capacity(0, Watts(5_000.0));
        run(&mut site, 60.0, 60);
        assert_eq!(site.supply(0), target);
        assert!((site.rejected(0).0 - 1_600.0).abs() < 1e-6);
    }

    #[test]
    fn warm_weather_lifts_the_supply() {
        let mut site = site(&T4, 2);
        site.set_outside(0, Kelvin::from_celsius(30.0));
        run(&mut site, 600.0, 100);
        assert_eq!(site.supply(0), Kelvin::from_celsius(34.0));
        assert_eq!(site.inlet_excess(0).get().round(), 2.0);
    }

    #[test]
    fn a_failed_loop_leaves_the_others_cool() {
        let part = Loop::of(Watts(10_000.0));
        let mut site = Site::new(&[part, part], &[&H100; 6], &[0, 1, 0, 1, 0, 1]).unwrap();
        site.watts_mut().fill(700.0);
        run(&mut site, 60.0, 30);
        site.set_capacity(0, Watts::ZERO);
        run(&mut site, 60.0, 120);
        for i in 0..6 {
            let cool = site.cooled_by(i) == 1;
            assert_eq!(
                site.condition(i) == Condition::Cool,
                cool,
                "{i}: {} K",
                site.kelvin()[i]
            );
        }
        run(&mut site, 60.0, 120);
        assert_eq!(site.condition(0), Condition::Shutdown);
    }

    #[test]
    fn half_the_step_gives_the_same_temperatures() {
        // A day on which the plant loses and regains capacity and the work comes and goes.
        let end = |dt: f64| {
            let mut site = site(&A100, 40);
            let mut seen = Vec::new();
            for minute in (0..1_440).step_by(5) {
                for i in 0..40 {
                    site.set_watts(i, Watts(60.0 + ((minute / 60 + i * 7) % 9) as f64 * 40.0));
                }
                let share = if (300..600).contains(&minute) {
                    0.2
                } else {
                    1.0
                };
                site.set_capacity(0, A100.max * (40.0 * share));
                run(&mut site, dt, (300.0 / dt) as u32);
                seen.extend_from_slice(site.kelvin());
            }
            seen
        };
        let (whole, half) = (end(60.0), end(30.0));
        assert!(whole.iter().any(|kelvin| *kelvin > 360.0), "it did get hot");
        let worst = whole
            .iter()
            .zip(&half)
            .map(|(a, b)| (a / b - 1.0).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-3, "{worst}");
    }

    #[test]
    fn a_device_in_no_loop_is_refused_by_name() {
        let refused = Site::new(&[Loop::of(Watts(1.0))], &[&T4, &T4], &[0, 1]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "device 1 is placed in number 1, but there are only 1; nothing was built"
        );
        let nowhere = Layout::new(&[0], &[3], &[0], &[Watts(1.0)]).unwrap_err();
        assert_eq!((nowhere.what, nowhere.into), ("node", 3));
    }

    #[test]
    fn racks_know_what_they_draw_and_when_it_is_too_much() {
        // Five devices in three nodes in two racks in one row.
        let layout = Layout::new(
            &[0, 0, 1, 2, 2],
            &[0, 0, 1],
            &[0, 0],
            &[Watts(1_000.0), Watts(500.0)],
        )
        .unwrap();
        let draw = layout.draw(&[300.0, 300.0, 300.0, 300.0, 300.0]);
        assert_eq!(draw.nodes, [Watts(600.0), Watts(300.0), Watts(600.0)]);
        assert_eq!(draw.racks, [Watts(900.0), Watts(600.0)]);
        assert_eq!(
            (draw.rows.as_slice(), draw.site),
            ([Watts(1_500.0)].as_slice(), Watts(1_500.0))
        );
        assert!(layout.overdrawn(&draw).eq([(1, Watts(100.0))]));
    }

    proptest! {
        //= requirements H1
        #[test]
        fn energy_is_conserved_through_any_weather_and_failure(
            placed in prop::collection::vec((0_usize..ALL.len(), 0_u32..3), 1..40),
            days in prop::collection::vec((1.0..600.0, 0.0..2.0, 0.0..1.0, -20.0..50.0), 1..30),
        ) {
            let devices: Vec<_> = placed.iter().map(|(device, _)| ALL[*device]).collect();
            let cooled_by: Vec<_> = placed.iter().map(|(_, by)| *by).collect();
            let max: Watts = devices.iter().map(|device| device.max).sum();
            let mut site = Site::new(&[Loop::of(max); 3], &devices, &cooled_by).unwrap();
            let before = site.heat();
            let mut total = Flows::default();
            for (dt, capacity, work, celsius) in days {
                for (i, device) in devices.iter().enumerate() {
                    site.set_watts(i, device.idle + (device.max - device.idle) * work);
                }
                for i in 0..3 {
                    site.set_capacity(i, max * capacity * (f64::from(i as u32) / 2.0));
                    site.set_outside(i, Kelvin::from_celsius(celsius));
                }
                total += site.step(Seconds(dt));
                prop_assert!(site.kelvin().iter().all(|kelvin| kelvin.is_finite() && *kelvin > 200.0));
            }
            prop_assert!(total.imbalance().0.abs() <= 1e-6 * total.supplied.0, "{total:?}");
            let stored = site.heat() - before;
            prop_assert!((stored - total.stored).0.abs() <= 1e-6 * total.supplied.0);
        }
    }
}
