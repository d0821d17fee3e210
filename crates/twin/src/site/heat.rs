//! What does each device draw, and how hot does that make it?
//!
//! Power changes whenever a job comes or goes, heat advances in steps. In between,
//! the joules of every device that changed are added up, and the step is given their
//! mean: the energy is exact, and within a step the temperature is that of a
//! device which drew the same evenly.

use physics::devices::Device;
use physics::site::{Flows, Site};
use wire::{Instant, KelvinPerWatt, Seconds, Watts};

use super::config::Outside;
use super::floor::Floor;
use super::jobs::BUSY;

/// Every device of the site and the heat of it all.
#[derive(Clone)]
pub(super) struct Devices {
    site: Site,
    exponent: f64,
    /// Of each device: what is claimed of it, and what it has.
    claimed: Vec<u32>,
    whole: Vec<u32>,
    /// What is claimed of it, each claim times how busy it is kept in thousandths.
    busy: Vec<u64>,
    clock: Vec<f64>,
    on: Vec<bool>,
    /// Drawn now, and joules since the last step until `since`.
    watts: Vec<f64>,
    joules: Vec<f64>,
    since: Vec<Instant>,
    is_changed: Vec<bool>,
    changed: Vec<u32>,
    /// Devices with work below full clock, and how many they are.
    slowed: Vec<bool>,
    slowed_count: u64,
    /// Where each begins to slow itself down, and where it switches itself off, K.
    throttle: Vec<f64>,
    shutdown: Vec<f64>,
    extremes: Extremes,
    now: Instant,
    /// Where energy went until now.
    pub(super) flows: Flows,
}

/// The hottest of all devices by three measures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extremes {
    /// Its temperature, K.
    pub(super) kelvin: f64,
    /// How far one is above where it slows itself down, K; negative below.
    pub(super) over_throttle: f64,
    /// The same for where it switches itself off.
    pub(super) over_shutdown: f64,
}

impl Devices {
    /// The devices of a floor, idle. Each one's thermal resistance is multiplied by
    /// what `manufacture` gives.
    pub(super) fn new(floor: &Floor, exponent: f64, mut manufacture: impl FnMut() -> f64) -> Self {
        let made: Vec<Device> = floor
            .devices
            .iter()
            .map(|device| Device {
                resistance: KelvinPerWatt(device.resistance.0 * manufacture()),
                ..*device
            })
            .collect();
        let count = made.len();
        let whole = |d: usize| {
            let place = &floor.nodes[floor.node_of[d] as usize];
            if d == place.processors() {
                place.cpu_milli
            } else {
                scheduler::ledger::WHOLE.into()
            }
        };
        let made: Vec<&Device> = made.iter().collect();
        let site = Site::new(&floor.loops, &made, &floor.cooled_by)
            .expect("the floor puts every device on one of its loops");
        Self {
            exponent,
            claimed: vec![0; count],
            busy: vec![0; count],
            whole: (0..count).map(whole).collect(),
            clock: vec![1.0; count],
            on: vec![true; count],
            watts: site.watts().to_vec(),
            joules: vec![0.0; count],
            since: vec![Instant::EPOCH; count],
            is_changed: vec![false; count],
            changed: Vec::new(),
            slowed: vec![false; count],
            slowed_count: 0,
            throttle: made.iter().map(|d| d.throttle.0).collect(),
            shutdown: made.iter().map(|d| d.shutdown.0).collect(),
            extremes: Extremes {
                kelvin: f64::NEG_INFINITY,
                over_throttle: f64::NEG_INFINITY,
                over_shutdown: f64::NEG_INFINITY,
            },
            now: Instant::EPOCH,
            flows: Flows::default(),
            site,
        }
    }

    /// The hottest devices at the last step.
    pub(super) const fn extremes(&self) -> Extremes {
        self.extremes
    }

    /// Devices that have work and are below full clock.
    pub(super) const fn slowed(&self) -> u64 {
        self.slowed_count
    }

    pub(super) fn is_on(&self, device: usize) -> bool {
        self.on[device]
    }

    pub(super) fn is_slowed(&self, device: usize) -> bool {
        self.slowed[device]
    }

    /// What a device draws now, W.
    pub(super) fn watts(&self, device: usize) -> f64 {
        self.watts[device]
    }

    /// The share of a device that is claimed.
    pub(super) fn used(&self, device: usize) -> f64 {
        f64::from(self.claimed[device]) / f64::from(self.whole[device])
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) const fn site(&self) -> &Site {
        &self.site
    }

    pub(super) const fn site_mut(&mut self) -> &mut Site {
        &mut self.site
    }

    pub(super) fn clock(&self, device: usize) -> f64 {
        self.clock[device]
    }

    /// Claims more of a device, or returns some of it, and keeps so many thousandths of that busy;
    /// gives what is claimed now and what it has.
    pub(super) fn claim(
        &mut self,
        now: Instant,
        device: usize,
        change: i64,
        busy: u16,
    ) -> (u32, u32) {
        let claimed = i64::from(self.claimed[device]) + change;
        self.claimed[device] = u32::try_from(claimed).expect("what is returned was claimed");
        let busy = change * i64::from(busy);
        let busy = self.busy[device].checked_add_signed(busy);
        self.busy[device] = busy.expect("what is returned was claimed as busy");
        self.update(now, device);
        (self.claimed[device], self.whole[device])
    }

    pub(super) fn set_clock(&mut self, now: Instant, device: usize, clock: f64) {
        self.clock[device] = clock;
        self.update(now, device);
    }

    pub(super) fn switch(&mut self, now: Instant, device: usize, on: bool) {
        self.on[device] = on;
        self.update(now, device);
    }

    fn update(&mut self, now: Instant, d: usize) {
        if !self.is_changed[d] {
            self.is_changed[d] = true;
            self.changed.push(d as u32);
            (self.joules[d], self.since[d]) = (0.0, self.now);
        }
        self.joules[d] += self.watts[d] * now.since(self.since[d]).as_secs_f64();
        self.since[d] = now;
        let Device { idle, max, .. } = *self.site.device(d);
        let slowed = self.on[d] && self.claimed[d] > 0 && self.clock[d] < 1.0;
        if slowed != self.slowed[d] {
            self.slowed[d] = slowed;
            self.slowed_count = self.slowed_count + u64::from(slowed) - u64::from(!slowed);
        }
        self.watts[d] = if self.on[d] {
            let used = self.busy[d] as f64 / (f64::from(self.whole[d]) * f64::from(BUSY));
            let clock = self.clock[d];
            let slowed = if clock < 1.0 {
                libm::pow(clock, self.exponent)
            } else {
                1.0
            };
            idle.0 + (max.0 - idle.0) * used * slowed
        } else {
            0.0
        };
    }

    /// Lets heat flow until now.
    pub(super) fn advance(&mut self, now: Instant, outside: &Outside) {
        let span = now.since(self.now).as_secs_f64();
        if span == 0.0 {
            return;
        }
        for &d in &self.changed {
            let d = d as usize;
            let rest = self.watts[d] * now.since(self.since[d]).as_secs_f64();
            self.site
                .set_watts(d, Watts((self.joules[d] + rest) / span));
        }
        let middle = self.now.as_secs_f64() + span / 2.0;
        for l in 0..self.site.loops().len() {
            self.site.set_outside(l, outside.at(middle));
        }
        self.flows += self.site.step(Seconds(span));
        self.now = now;
        for &d in &self.changed {
            self.is_changed[d as usize] = false;
            self.site
                .set_watts(d as usize, Watts(self.watts[d as usize]));
        }
        self.changed.clear();
        self.extremes = extremes(self.site.kelvin(), &self.throttle, &self.shutdown);
    }

    /// The load of a loop as its meter tells it, in watts: the heat its devices
    /// give it, and what it holds above its target, to be got rid of in ten minutes.
    /// A loop that just failed is hot long after it is repaired.
    pub(super) fn to_reject(&self, of: usize) -> f64 {
        let part = &self.site.loops()[of];
        let above = self.site.supply(of).0 - part.target().0;
        self.site.load(of).0 + (part.coolant.0 * above.max(0.0)) / 600.0
    }

    /// Whether a loop's plant keeps its coolant where it aims.
    pub(super) fn holds(&self, of: usize) -> bool {
        self.site.supply(of).0 - self.site.loops()[of].target().0 < HELD
    }
}

/// In strands, as [`Site::step`] sums, and without a branch: this is asked after every
/// step, and almost always the answer is that all is well.
fn extremes(kelvin: &[f64], throttle: &[f64], shutdown: &[f64]) -> Extremes {
    const STRANDS: usize = 4;
    const LEAST: f64 = f64::NEG_INFINITY;
    let more = |a: f64, b: f64| if a > b { a } else { b };
    let mut most = [[LEAST; STRANDS]; 3];
    let parts = kelvin.chunks(STRANDS).zip(throttle.chunks(STRANDS));
    for ((k, t), s) in parts.zip(shutdown.chunks(STRANDS)) {
        for i in 0..k.len() {
            most[0][i] = more(most[0][i], k[i]);
            most[1][i] = more(most[1][i], k[i] - t[i]);
            most[2][i] = more(most[2][i], k[i] - s[i]);
        }
    }
    let [kelvin, over_throttle, over_shutdown] =
        most.map(|strands| strands.into_iter().fold(LEAST, more));
    Extremes {
        kelvin,
        over_throttle,
        over_shutdown,
    }
}

/// A coolant this near its target, in kelvin, is at it.
const HELD: f64 = 0.01;

impl Outside {
    /// The temperature at a time in seconds since a midnight.
    fn at(&self, seconds: f64) -> wire::Kelvin {
        const DAY: f64 = 86_400.0;
        let since_warmest = (seconds - 15.0 / 24.0 * DAY) / DAY;
        wire::Kelvin(self.mean.0 + self.swing.0 * libm::cos(core::f64::consts::TAU * since_warmest))
    }
}
