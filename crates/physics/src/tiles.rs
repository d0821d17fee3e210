//! How hot does a tile get?
//!
//! A tile in space has one way out for its heat: as light, from its radiator.
//! Per tile, with T its temperature and C its heat capacity,
//!
//! ```text
//! C dT/dt =  P                                electrical power the world set
//!          + L₀ exp((T − T_ref)/T_fold)       leakage, growing with temperature
//!          + Q                                absorbed from the shells inside
//!          − ε σ A s (T⁴ − T_sky⁴)            radiated, s the radiator's usable share
//!          + k Σ (T_j − T)                    conducted from the six neighbours
//! ```
//!
//! Leakage is the villain: above some load it grows faster with T than radiation
//! does, and there is no temperature at which the tile would stop
//! ([`crate::runaway`]).
//!
//! # The method
//!
//! Two-stage Rosenbrock–W of order 2, L-stable, γ = 1 − 1/√2 (Verwer, Spee, Blom
//! and Hundsdorfer 1999, SIAM J. Sci. Comput. 20:1456), with f the right-hand side over C:
//!
//! ```text
//! (1 − γhA) k₁ = f(T)
//! (1 − γhA) k₂ = f(T + h k₁) − 2 k₁
//! T ← T + h (3 k₁ + k₂) / 2
//! ```
//!
//! It keeps its order for *any* A, so A is only what has to be implicit: the slope
//! of a tile's own radiation, −4εσAsT³/C. That is one number a tile, never positive, so
//! the division is always safe, and there is no system to solve. Leakage is explicit because
//! its slope points the other way: no method can be stable where the physics is not.
//!
//! A one-step method applied to all energies at once conserves their sum exactly.
//! So each flow is carried along as if it were another unknown with its own law
//! and its own row of A, which is the expression `h/2 (g(T) + g(T + hk₁) + γh g′ (k₁ + k₂))`
//! below, and the books balance to rounding without anything being defined as the rest.
//!
//! A step is refused and halved for the whole cell when a tile would change by more
//! than a quarter, or its estimated error exceeds a hundredth, of its temperature. In
//! ordinary work that never happens; in a runaway it keeps the numbers finite and
//! right. Conduction is explicit, and a step longer than
//! C/(9k) is cut beforehand (9 k/C is the lattice's fastest rate); for tiles joined
//! so tightly that this hurts, a coarser tile is the better model.
//!
//! What else was considered: docs/decisions/2026-11-21-heat-as-batch-arrays.md.

use crate::constants::{BOLTZMANN, SKY, STEFAN_BOLTZMANN};
use crate::exp::exp;
use alloc::vec;
use alloc::vec::Vec;
use core::iter::Sum;
use core::ops::{Add, AddAssign, Range};
use wire::{
    Hexagons, Joules, JoulesPerKelvin, Kelvin, Seconds, SquareMetres, Watts, WattsPerKelvin,
};

/// What every tile of a cell is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TileModel {
    /// Energy that warms the tile by one kelvin.
    pub heat_capacity: JoulesPerKelvin,
    /// Radiating area, both faces counted if both see the sky.
    pub radiator: SquareMetres,
    /// Emissivity of the radiator, 0 to 1.
    pub emissivity: f64,
    /// Electrical power at rest, without leakage.
    pub idle: Watts,
    /// Electrical power on top of `idle` at clock 1 and activity 1, at temperatures at which
    /// an operation costs what its technology needs.
    pub dynamic: Watts,
    /// What that power buys, and where physics sets its price.
    pub operation: Operation,
    /// How dynamic power grows with the clock: 3 where voltage follows frequency,
    /// since P ∝ f V² and V ∝ f (Chandrakasan et al. 1992, IEEE JSSC 27:473); 1 at fixed voltage.
    pub clock_exponent: f64,
    /// Power that leaks through switches that are off.
    pub leakage: Leakage,
    /// Heat conducted to each of the six neighbours per kelvin of difference.
    pub neighbour_conductance: WattsPerKelvin,
    /// What the radiator sees: space, or an outer shell that shines back.
    pub sky: Kelvin,
}

/// What a tile's dynamic power is spent on. However good a technology is, what it erases
/// costs [`landauer`]'s heat, and more so on a warm tile.
//= requirements H8
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Operation {
    /// What it costs at clock 1 by its technology. Follows the clock as power does, less what
    /// the clock does to the number of operations: clock^(`clock_exponent` − 1).
    pub energy: Joules,
    /// Bits it erases unless it is done reversibly.
    pub bits: f64,
    /// Share of operations that are done reversibly, which erase nothing (Bennett 1973,
    /// IBM J. Res. Dev. 17:525).
    pub reversible: f64,
}

impl Operation {
    /// Dense arithmetic in 16 bits on an H100: 989.4 TFLOP/s at 700 W (NVIDIA H100 Tensor Core
    /// GPU data sheet, SXM, half the figure with sparsity). A multiply–add takes two numbers of 16
    /// bits and a sum of 32 and leaves a sum of 32; it counts as two operations, so each erases
    /// 16 bits at the least.
    pub const STANDARD: Self = Self {
        energy: Joules(0.7e-12),
        bits: 16.0,
        reversible: 0.0,
    };

    /// The least heat that one makes on average at a temperature, whatever the technology.
    #[must_use]
    pub fn least(&self, kelvin: Kelvin) -> Joules {
        landauer(kelvin) * (self.bits * (1.0 - self.reversible))
    }
}

/// Subthreshold leakage, exponential in temperature: `at_reference` × e^((T −
/// `reference`) / `e_fold`). Physically it is T² e^(−V/T), which over the range
/// where chips work is an exponential to within some per cent (Liu et al. 2007, DATE, pp. 1526–1531).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Leakage {
    /// Leakage at the reference temperature.
    pub at_reference: Watts,
    /// Where `at_reference` was measured.
    pub reference: Kelvin,
    /// Warming that multiplies leakage by e. 25 to 35 K for current silicon.
    pub e_fold: Kelvin,
}

/// Beyond this many e-folds above its reference, leakage stays what it is there.
///
/// Six e-folds of 30 K are 180 K, so a law measured at 350 K ends at 530 K (257 °C),
/// above what any silicon is rated for: nobody has data there, and a world will have cut
/// the power. The end makes every temperature finite whatever a world forgets.
pub const E_FOLDS_MAX: f64 = 6.0;

impl Leakage {
    /// A tile that does not leak.
    pub const NONE: Self = Self {
        at_reference: Watts::ZERO,
        reference: Kelvin(300.0),
        e_fold: Kelvin(30.0),
    };

    /// What leaks at a temperature.
    #[must_use]
    pub fn at(&self, kelvin: Kelvin) -> Watts {
        let folds = (kelvin.0 - self.reference.0) / self.e_fold.0;
        self.at_reference * exp(folds.min(E_FOLDS_MAX))
    }

    /// Where the law ends: [`E_FOLDS_MAX`] e-folds above the reference.
    #[must_use]
    pub fn ceiling(&self) -> Kelvin {
        self.reference + self.e_fold * E_FOLDS_MAX
    }
}

impl TileModel {
    /// A tile to start from, chosen and not measured: one square metre of blackened radiator on
    /// 12 kg of aluminium (897 J/(kg K), CRC Handbook), which at 330 K gives a time
    /// constant of about 1,500 s; 450 W at full clock, for which it settles near 315 K.
    /// It can carry some 300 W more before [`crate::runaway`].
    pub const STANDARD: Self = Self {
        heat_capacity: JoulesPerKelvin(12.0 * 897.0),
        radiator: SquareMetres(1.0),
        emissivity: 0.9,
        idle: Watts(50.0),
        dynamic: Watts(400.0),
        operation: Operation::STANDARD,
        clock_exponent: 3.0,
        leakage: Leakage {
            at_reference: Watts(60.0),
            reference: Kelvin(330.0),
            e_fold: Kelvin(30.0),
        },
        neighbour_conductance: WattsPerKelvin(0.5),
        sky: SKY,
    };

    /// In how many equal parts a step must be taken at least, so that neighbours even out in it and do not swing.
    #[must_use]
    pub fn substeps(&self, dt: Seconds) -> f64 {
        let conduction = LATTICE_RATE * self.neighbour_conductance.0 / self.heat_capacity.0;
        libm::ceil(dt.0 * conduction).max(1.0)
    }

    /// ε σ A s: what the radiator gives off per K⁴ with this share of it usable.
    #[must_use]
    pub fn radiance(&self, share: f64) -> f64 {
        self.emissivity * STEFAN_BOLTZMANN * self.radiator.0 * share
    }

    /// Dynamic power at a clock and a temperature over that at clock 1: clock^exponent, or what
    /// Landauer's limit makes of so many operations, whichever is more.
    #[must_use]
    pub fn speed(&self, clock: f64, kelvin: Kelvin) -> f64 {
        let least = self.operation.least(kelvin).0 / self.operation.energy.0;
        self.law(clock).max(clock * least)
    }

    /// Whether some temperature up to this one makes operations dearer than the technology
    /// does, at this clock or a higher one.
    #[must_use]
    pub fn is_near_least(&self, clock: f64, kelvin: Kelvin) -> bool {
        self.speed(clock, kelvin) > self.law(clock)
    }

    /// The technology's part of [`TileModel::speed`].
    fn law(&self, clock: f64) -> f64 {
        // The cube is by far the most common, and a power function is slow.
        match self.clock_exponent {
            3.0 => clock * clock * clock,
            1.0 => clock,
            x => libm::pow(clock, x),
        }
    }

    fn check(&self) {
        let sound = self.heat_capacity.0 > 0.0
            && self.radiator.0 >= 0.0
            && (0.0..=1.0).contains(&self.emissivity)
            && self.operation.energy.0 > 0.0
            && self.operation.bits >= 0.0
            && (0.0..=1.0).contains(&self.operation.reversible)
            && self.leakage.at_reference.0 >= 0.0
            && self.leakage.reference.0 >= 0.0
            && self.leakage.e_fold.0 > 0.0
            && self.neighbour_conductance.0 >= 0.0
            && self.sky.0 >= 0.0;
        assert!(sound, "not a tile that can exist: {self:?}");
    }
}

/// Electrical power of a tile, without leakage, at a clock (1 = nominal), an activity (0 idle, 1
/// every unit busy) and a temperature: idle + dynamic × activity × [`TileModel::speed`].
#[must_use]
pub fn power(model: &TileModel, clock: f64, activity: f64, kelvin: Kelvin) -> Watts {
    model.idle + model.dynamic * activity * model.speed(clock, kelvin)
}

//= requirements H8
/// The least heat that erasing one bit makes at a temperature: k_B T ln 2.
/// Source: Landauer 1961, IBM J. Res. Dev. 5:183.
#[must_use]
pub fn landauer(kelvin: Kelvin) -> Joules {
    Joules(BOLTZMANN * kelvin.0 * core::f64::consts::LN_2)
}

//= requirements H1
/// The heat of all tiles of a cell, one number per tile and quantity, in the
/// lattice's order. A world writes `watts`, `radiator_share`, `powered` and
/// `absorbed` between steps and reads `kelvin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Tiles {
    model: TileModel,
    lattice: Hexagons,
    /// Temperature, K.
    pub kelvin: Vec<f64>,
    /// Electrical power without leakage, W; see [`power`]. Counts only while powered.
    pub watts: Vec<f64>,
    /// Share of the radiator that works: 1 whole, 0 lost.
    pub radiator_share: Vec<f64>,
    /// 1 for a live tile, 0 for a dark one, which draws and leaks nothing but
    /// still conducts, absorbs and radiates. A number because it multiplies.
    pub powered: Vec<f64>,
    /// Heat that arrives at each tile from inside, the same for all: a cell is
    /// small in its sky.
    pub absorbed: Watts,
}

/// Where a cell's heat went during a step. Sums over its tiles, or over steps and cells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flows {
    /// Electrical energy, leakage included.
    pub supplied: Joules,
    /// The part of `supplied` that leaked.
    pub leaked: Joules,
    /// Heat that arrived from inside.
    pub absorbed: Joules,
    /// Heat radiated, less what the sky radiated back.
    pub radiated: Joules,
    /// Heat by which the tiles are richer.
    pub stored: Joules,
}

impl Flows {
    /// What the books fail to explain: supplied + absorbed − radiated − stored.
    #[must_use]
    pub fn imbalance(&self) -> Joules {
        self.supplied + self.absorbed - self.radiated - self.stored
    }
}

impl AddAssign for Flows {
    fn add_assign(&mut self, other: Self) {
        self.supplied += other.supplied;
        self.leaked += other.leaked;
        self.absorbed += other.absorbed;
        self.radiated += other.radiated;
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

/// Working memory of a step. Whoever steps many cells keeps one and hands it to
/// each: it then stays in the cache, where a cell's own would have to be fetched.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    /// Σ (T_j − T), K; in the second half of a step, the new temperature.
    uneven: Vec<f64>,
    /// T + h k₁, K.
    predicted: Vec<f64>,
    /// k₁, K/s.
    slope: Vec<f64>,
    /// 1 / (1 − γhA).
    damping: Vec<f64>,
}

impl Tiles {
    /// A cell of live, idle tiles at one temperature with whole radiators.
    ///
    /// # Panics
    /// If the model is impossible (no heat capacity, emissivity above 1, …).
    #[must_use]
    pub fn new(model: TileModel, lattice: &Hexagons, initial: Kelvin) -> Self {
        model.check();
        let tiles = lattice.tiles() as usize;
        Self {
            model,
            lattice: *lattice,
            kelvin: vec![initial.0; tiles],
            watts: vec![model.idle.0; tiles],
            radiator_share: vec![1.0; tiles],
            powered: vec![1.0; tiles],
            absorbed: Watts::ZERO,
        }
    }

    /// What the tiles are made of.
    #[must_use]
    pub fn model(&self) -> &TileModel {
        &self.model
    }

    /// Who sits next to whom.
    #[must_use]
    pub fn lattice(&self) -> &Hexagons {
        &self.lattice
    }

    /// Heat held above absolute zero.
    #[must_use]
    pub fn heat(&self) -> Joules {
        self.model.heat_capacity * Kelvin(self.kelvin.iter().sum())
    }

    /// What the cell radiates at this moment, less what the sky radiates back.
    #[must_use]
    pub fn radiating(&self) -> Watts {
        let sky4 = fourth(self.model.sky.0);
        let each = self.kelvin.iter().zip(&self.radiator_share);
        Watts(self.model.radiance(1.0) * each.map(|(t, s)| s * (fourth(*t) - sky4)).sum::<f64>())
    }

    /// Lets `dt` pass with everything a world has set held constant.
    ///
    /// # Panics
    /// If `dt` is negative or the vectors have lost the lattice's length.
    pub fn step(&mut self, dt: Seconds) -> Flows {
        self.step_in(dt, &mut Scratch::default())
    }

    /// [`Tiles::step`] in working memory of the caller's.
    ///
    /// # Panics
    /// As [`Tiles::step`].
    pub fn step_in(&mut self, dt: Seconds, scratch: &mut Scratch) -> Flows {
        assert!(dt.0 >= 0.0, "time runs forwards, not {dt}");
        let tiles = self.lattice.tiles() as usize;
        for column in [
            &self.kelvin,
            &self.watts,
            &self.radiator_share,
            &self.powered,
        ] {
            assert_eq!(column.len(), tiles, "one number per tile of the lattice");
        }
        scratch.resize(tiles);
        let mut flows = Flows::default();
        if dt.0 == 0.0 {
            return flows;
        }
        let mut left = self.model.substeps(dt);
        let mut h = dt.0 / left;
        let finest = h * FINEST;
        while left > 0.0 {
            match self.attempt(h, h > finest, scratch) {
                Some(part) => {
                    flows += part;
                    left -= 1.0;
                }
                None => (h, left) = (h * 0.5, left * 2.0),
            }
        }
        flows
    }

    /// One step of the method, or `None` and no change if it may be `refused` and should be.
    fn attempt(&mut self, h: f64, refusable: bool, scratch: &mut Scratch) -> Option<Flows> {
        let tiles = self.kelvin.len();
        let pace = Pace::of(&self.model, self.absorbed, h);
        let blocks = || {
            (0..tiles)
                .step_by(BLOCK)
                .map(|at| at..tiles.min(at + BLOCK))
        };
        let mut block = Block::default();
        let mut sums = Sums::default();

        uneven(&self.kelvin, &self.lattice, &mut scratch.uneven);
        for range in blocks() {
            predict(&pace, self, scratch, range.clone(), &mut block);
            let n = range.len();
            scratch.predicted[range.clone()].copy_from_slice(&block.kelvin[..n]);
            scratch.slope[range.clone()].copy_from_slice(&block.slope[..n]);
            scratch.damping[range].copy_from_slice(&block.damping[..n]);
            add(&block.supplied[..n], &mut sums.supplied);
            sums.take(&block, n);
        }
        if refusable && sums.strained() {
            return None;
        }

        uneven(&scratch.predicted, &self.lattice, &mut scratch.uneven);
        for range in blocks() {
            correct(&pace, self, scratch, range.clone(), &mut block);
            let n = range.len();
            scratch.uneven[range].copy_from_slice(&block.kelvin[..n]);
            add(&block.changed[..n], &mut sums.changed);
            sums.take(&block, n);
        }
        if refusable && sums.strained() {
            return None;
        }
        self.kelvin.copy_from_slice(&scratch.uneven);

        // Rates summed are per kelvin of heat capacity, except the watts.
        let capacity = self.model.heat_capacity.0;
        let leaked = 0.5 * h * capacity * total(&sums.leaked);
        Some(Flows {
            supplied: Joules(h * total(&sums.supplied) + leaked),
            leaked: Joules(leaked),
            absorbed: Joules(h * self.absorbed.0 * tiles as f64),
            radiated: Joules(0.5 * h * capacity * total(&sums.radiated)),
            stored: Joules(capacity * total(&sums.changed)),
        })
    }
}

/// γ of the method, 1 − 1/√2: the smaller of the two that make it L-stable.
const GAMMA: f64 = 1.0 - core::f64::consts::FRAC_1_SQRT_2;
/// The largest eigenvalue of the hexagonal lattice's Laplacian: neighbours in a
/// three-coloured pattern, 6 − 2 × 3 cos 120°.
const LATTICE_RATE: f64 = 9.0;
/// A tile may change by this part of its temperature in one piece of a step …
const CHANGE_MAX: f64 = 0.25;
/// … with this part as the estimated error, which is that of the first-order
/// solution inside the method; its own is one order smaller.
const ERROR_MAX: f64 = 0.01;
/// Added to the temperature before taking those parts, so that a tile near
/// absolute zero may be warmed at all.
const FLOOR: f64 = 20.0;
/// A step is halved sixteen times at most: 300 s becomes 5 ms.
const FINEST: f64 = 1.0 / 65_536.0;

/// Sums are kept in this many lanes, so that a compiler may use registers of up to
/// four numbers and the order of additions is the same whatever it uses.
const LANES: usize = 4;
/// Tiles whose results are kept on the stack between computing and summing: plain
/// loops over arrays that nothing else can point to are what compilers vectorise.
const BLOCK: usize = 64;

fn fourth(x: f64) -> f64 {
    let squared = x * x;
    squared * squared
}

fn total(lanes: &[f64; LANES]) -> f64 {
    (lanes[0] + lanes[1]) + (lanes[2] + lanes[3])
}

/// The model's numbers as the inner loops want them: per kelvin of heat capacity.
struct Pace {
    h: f64,
    per_watt: f64,
    absorbed: f64,
    radiance: f64,
    sky4: f64,
    implicit: f64,
    leak: f64,
    reference: f64,
    per_fold: f64,
    conductance: f64,
}

impl Pace {
    fn of(model: &TileModel, absorbed: Watts, h: f64) -> Self {
        let per_watt = 1.0 / model.heat_capacity.0;
        let radiance = model.radiance(1.0) * per_watt;
        Self {
            h,
            per_watt,
            absorbed: absorbed.0 * per_watt,
            radiance,
            sky4: fourth(model.sky.0),
            implicit: 4.0 * GAMMA * h * radiance,
            leak: model.leakage.at_reference.0 * per_watt,
            reference: model.leakage.reference.0,
            per_fold: 1.0 / model.leakage.e_fold.0,
            conductance: model.neighbour_conductance.0 * per_watt,
        }
    }

    #[inline(always)]
    fn leaking(&self, kelvin: f64) -> f64 {
        let folds = (kelvin - self.reference) * self.per_fold;
        self.leak
            * exp(if folds < E_FOLDS_MAX {
                folds
            } else {
                E_FOLDS_MAX
            })
    }
}

/// What the inner loops work out for a block of tiles.
struct Block {
    /// Temperature after the stage, K.
    kelvin: [f64; BLOCK],
    slope: [f64; BLOCK],
    damping: [f64; BLOCK],
    supplied: [f64; BLOCK],
    leaked: [f64; BLOCK],
    radiated: [f64; BLOCK],
    changed: [f64; BLOCK],
    /// By how much a tile exceeds what one piece of a step may do, K.
    strain: [f64; BLOCK],
}

impl Default for Block {
    fn default() -> Self {
        let none = [0.0; BLOCK];
        Self {
            kelvin: none,
            slope: none,
            damping: none,
            supplied: none,
            leaked: none,
            radiated: none,
            changed: none,
            strain: none,
        }
    }
}

/// The blocks' sums, per lane.
#[derive(Default)]
struct Sums {
    supplied: [f64; LANES],
    leaked: [f64; LANES],
    radiated: [f64; LANES],
    changed: [f64; LANES],
    /// The worst tile's.
    strain: [f64; LANES],
}

impl Sums {
    /// What both stages report.
    fn take(&mut self, block: &Block, n: usize) {
        add(&block.leaked[..n], &mut self.leaked);
        add(&block.radiated[..n], &mut self.radiated);
        for chunk in block.strain[..n].chunks(LANES) {
            for (worst, over) in self.strain.iter_mut().zip(chunk) {
                *worst = if *over > *worst { *over } else { *worst };
            }
        }
    }

    fn strained(&self) -> bool {
        self.strain.iter().any(|over| *over > 0.0)
    }
}

fn add(column: &[f64], lanes: &mut [f64; LANES]) {
    let mut sums = *lanes;
    let mut chunks = column.chunks_exact(LANES);
    for chunk in &mut chunks {
        for l in 0..LANES {
            sums[l] += chunk[l];
        }
    }
    for (sum, x) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += x;
    }
    *lanes = sums;
}

impl Scratch {
    fn resize(&mut self, tiles: usize) {
        for column in [
            &mut self.uneven,
            &mut self.predicted,
            &mut self.slope,
            &mut self.damping,
        ] {
            column.resize(tiles, 0.0);
        }
    }
}

/// First stage: k₁ and T + h k₁ of a block. Not inlined, so that the compiler
/// still knows the block to be apart from everything read.
#[inline(never)]
fn predict(pace: &Pace, tiles: &Tiles, scratch: &Scratch, at: Range<usize>, out: &mut Block) {
    let n = at.len().min(BLOCK);
    let kelvin = &tiles.kelvin[at.clone()][..n];
    let watts = &tiles.watts[at.clone()][..n];
    let share = &tiles.radiator_share[at.clone()][..n];
    let powered = &tiles.powered[at.clone()][..n];
    let uneven = &scratch.uneven[at][..n];
    for i in 0..n {
        let t = kelvin[i];
        let t2 = t * t;
        let supplied = powered[i] * watts[i];
        let leaked = powered[i] * pace.leaking(t);
        let radiated = pace.radiance * share[i] * (t2 * t2 - pace.sky4);
        let f = (supplied * pace.per_watt + leaked)
            + (pace.absorbed - radiated)
            + pace.conductance * uneven[i];
        let damping = 1.0 / (1.0 + pace.implicit * share[i] * (t2 * t));
        let slope = damping * f;
        let change = pace.h * slope;
        out.damping[i] = damping;
        out.slope[i] = slope;
        out.kelvin[i] = t + change;
        out.supplied[i] = supplied;
        out.leaked[i] = leaked;
        out.radiated[i] = radiated;
        out.strain[i] = change.abs() - CHANGE_MAX * (t + FLOOR);
    }
}

/// Second stage: k₂ and the new temperature of a block.
#[inline(never)]
fn correct(pace: &Pace, tiles: &Tiles, scratch: &Scratch, at: Range<usize>, out: &mut Block) {
    let n = at.len().min(BLOCK);
    let kelvin = &tiles.kelvin[at.clone()][..n];
    let watts = &tiles.watts[at.clone()][..n];
    let share = &tiles.radiator_share[at.clone()][..n];
    let powered = &tiles.powered[at.clone()][..n];
    let predicted = &scratch.predicted[at.clone()][..n];
    let slope = &scratch.slope[at.clone()][..n];
    let damping = &scratch.damping[at.clone()][..n];
    let uneven = &scratch.uneven[at][..n];
    for i in 0..n {
        let (t, p, k1) = (kelvin[i], predicted[i], slope[i]);
        let p2 = p * p;
        let leaked = powered[i] * pace.leaking(p);
        let radiated = pace.radiance * share[i] * (p2 * p2 - pace.sky4);
        let f = (powered[i] * watts[i] * pace.per_watt + leaked)
            + (pace.absorbed - radiated)
            + pace.conductance * uneven[i];
        let both = k1 + damping[i] * (f - 2.0 * k1);
        let change = 0.5 * pace.h * both;
        let next = p + change;
        out.kelvin[i] = next;
        out.leaked[i] = leaked;
        out.radiated[i] = radiated + pace.implicit * share[i] * (t * t * t) * both;
        out.changed[i] = next - t;
        out.strain[i] = change.abs() - ERROR_MAX * (t + FLOOR);
    }
}

/// Σ (T_j − T) over each tile's six neighbours, as [`Hexagons::neighbours`] has
/// them, by whole rows: same, above and below, of which the last two are also
/// needed shifted by one.
#[inline(never)]
fn uneven(kelvin: &[f64], lattice: &Hexagons, out: &mut [f64]) {
    let (columns, rows) = (lattice.columns() as usize, lattice.rows() as usize);
    let (last, inner) = (columns - 1, columns - 2);
    let row = |r: usize| &kelvin[r * columns..][..columns];
    for (r, out) in out.chunks_exact_mut(columns).enumerate() {
        let here = row(r);
        let above = row(if r == 0 { rows - 1 } else { r - 1 });
        let below = row(if r + 1 == rows { 0 } else { r + 1 });
        let six = |west: f64, t: f64, east: f64, below: (f64, f64), above: (f64, f64)| {
            ((west + east) + (below.0 + below.1)) + (above.0 + above.1) - 6.0 * t
        };
        let (west, at, east) = (&here[..inner], &here[1..last], &here[2..]);
        let (south_west, south) = (&below[..inner], &below[1..last]);
        let (north, north_east) = (&above[1..last], &above[2..]);
        for (i, out) in out[1..last].iter_mut().enumerate() {
            *out = six(
                west[i],
                at[i],
                east[i],
                (south_west[i], south[i]),
                (north[i], north_east[i]),
            );
        }
        out[0] = six(
            here[last],
            here[0],
            here[1],
            (below[last], below[0]),
            (above[0], above[1]),
        );
        out[last] = six(
            here[last - 1],
            here[last],
            here[0],
            (below[last - 1], below[last]),
            (above[last], above[0]),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runaway::{fold, steady_state};
    use proptest::prelude::*;

    const STANDARD: TileModel = TileModel::STANDARD;

    /// Nothing but a radiator under a black sky.
    const BARE: TileModel = TileModel {
        leakage: Leakage::NONE,
        neighbour_conductance: WattsPerKelvin(0.0),
        sky: Kelvin(0.0),
        ..STANDARD
    };

    fn cell(model: TileModel, tiles: u32, initial: f64) -> Tiles {
        Tiles::new(model, &Hexagons::of(tiles).unwrap(), Kelvin(initial))
    }

    fn run(tiles: &mut Tiles, dt: f64, steps: u32) -> Flows {
        let mut scratch = Scratch::default();
        (0..steps)
            .map(|_| tiles.step_in(Seconds(dt), &mut scratch))
            .sum()
    }

    /// Deterministic numbers in 0..1 that look unrelated.
    fn scatter(i: usize) -> f64 {
        let mixed = (i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> 40) as f64 / (1_u64 << 24) as f64
    }

    fn assert_close(is: f64, should: f64, within: f64, what: &str) {
        assert!(
            (is / should - 1.0).abs() <= within,
            "{what}: {is}, should be {should}"
        );
    }

    #[test]
    fn rows_give_the_same_as_asking_each_tile_for_its_neighbours() {
        for tiles in [9, 12, 64, 1_000] {
            let lattice = Hexagons::of(tiles).unwrap();
            let kelvin: Vec<_> = (0..tiles as usize).map(|i| 300.0 + scatter(i)).collect();
            let mut by_rows = vec![0.0; kelvin.len()];
            uneven(&kelvin, &lattice, &mut by_rows);
            for tile in 0..tiles {
                let at = |tile: u32| kelvin[tile as usize];
                let asked: f64 = lattice
                    .neighbours(tile)
                    .map(|n| at(n) - at(tile))
                    .iter()
                    .sum();
                assert!(
                    (by_rows[tile as usize] - asked).abs() < 1e-9,
                    "{tile} of {tiles}"
                );
            }
        }
    }

    //= requirements H1
    #[test]
    fn a_bare_tile_rests_where_t4_says() {
        for (watts, share) in [(10.0, 1.0), (450.0, 1.0), (450.0, 0.5), (3_000.0, 1.0)] {
            let mut tiles = cell(BARE, 9, 300.0);
            tiles.watts.fill(watts);
            tiles.radiator_share.fill(share);
            run(&mut tiles, 600.0, 2_000);
            let rest = libm::pow(watts / BARE.radiance(share), 0.25);
            assert_close(tiles.kelvin[4], rest, 1e-9, "rest");
        }
    }

    #[test]
    fn a_tile_with_nothing_to_do_takes_the_temperature_of_its_sky() {
        let model = TileModel {
            sky: Kelvin(250.0),
            ..BARE
        };
        for start in [100.0, 400.0] {
            let mut tiles = cell(model, 9, start);
            tiles.watts.fill(0.0);
            run(&mut tiles, 600.0, 500);
            assert_close(tiles.kelvin[0], 250.0, 1e-9, "rest");
            assert!(tiles.radiating().0.abs() < 1e-3);
        }
    }

    #[test]
    fn a_leaking_tile_rests_where_the_balance_says() {
        for load in [20.0, 200.0, 450.0, 600.0] {
            let mut tiles = cell(STANDARD, 9, 250.0);
            tiles.watts.fill(load * 0.75);
            tiles.absorbed = Watts(load * 0.25);
            run(&mut tiles, 300.0, 3_000);
            let rest = steady_state(&STANDARD, Watts(load), 1.0).unwrap();
            assert_close(tiles.kelvin[0], rest.0, 1e-6, "rest");
        }
    }

    #[test]
    fn conduction_rests_where_the_linear_balance_says() {
        // No radiator: heat put in at one tile and taken out at another flows through the lattice, and
        // Kirchhoff's law must hold at every tile: k Σ (T_j − T) = −P.
        let model = TileModel {
            radiator: SquareMetres(0.0),
            neighbour_conductance: WattsPerKelvin(2.0),
            ..BARE
        };
        let mut tiles = cell(model, 12, 300.0);
        tiles.watts.fill(0.0);
        (tiles.watts[1], tiles.watts[7]) = (100.0, -100.0);
        run(&mut tiles, 5_000.0, 50);
        let mut flow = vec![0.0; 12];
        uneven(&tiles.kelvin, tiles.lattice(), &mut flow);
        for (tile, flow) in flow.iter().enumerate() {
            assert!((2.0 * flow + tiles.watts[tile]).abs() < 1e-6, "tile {tile}");
        }
    }

    //= requirements H1
    #[test]
    fn a_dark_tile_cools_as_the_cubes_say() {
        // C dT/dt = −εσA T⁴ has the solution T⁻³ = T₀⁻³ + 3 (εσA/C) t.
        let mut tiles = cell(BARE, 9, 400.0);
        tiles.powered.fill(0.0);
        for (dt, steps, within) in [
            (30.0, 1_000, 1e-5),
            (150.0, 200, 1e-4),
            (300.0, 100, 3e-4),
            (3_600.0, 24, 2e-3),
        ] {
            tiles.kelvin.fill(400.0);
            run(&mut tiles, dt, steps);
            let elapsed = dt * f64::from(steps);
            let rate = 3.0 * BARE.radiance(1.0) / BARE.heat_capacity.0;
            let cubes = libm::pow(400.0, -3.0) + rate * elapsed;
            assert_close(
                tiles.kelvin[0],
                libm::pow(cubes, -1.0 / 3.0),
                within,
                "cooling",
            );
        }
    }

    #[test]
    fn a_small_step_in_power_is_answered_with_one_time_constant() {
        // Linearised about a rest at T: ΔT = ΔP/G (1 − e^(−t/τ)), G = 4εσAT³ − L/T_fold, τ = C/G.
        let load = Watts(450.0);
        let rest = steady_state(&STANDARD, load, 1.0).unwrap();
        let slope = 4.0 * STANDARD.radiance(1.0) * libm::pow(rest.0, 3.0)
            - STANDARD.leakage.at(rest).0 / STANDARD.leakage.e_fold.0;
        let tau = STANDARD.heat_capacity.0 / slope;
        let mut tiles = cell(STANDARD, 9, rest.0);
        let more = 1e-4;
        tiles.watts.fill(load.0 + more);
        for minutes in 1..=60 {
            run(&mut tiles, 60.0, 1);
            let answer = more / slope * (1.0 - libm::exp(-60.0 * f64::from(minutes) / tau));
            // Of the final change.
            let off = (tiles.kelvin[0] - rest.0 - answer).abs() / (more / slope);
            assert!(off < 1e-4, "{off} after {minutes} min, τ = {tau} s");
        }
    }

    #[test]
    fn a_wave_in_the_lattice_decays_at_its_own_rate() {
        // cos(2π column/columns) is an eigenvector of the lattice: east and west count
        // once each, the row below and above once each straight and once shifted.
        let model = TileModel {
            radiator: SquareMetres(0.0),
            neighbour_conductance: WattsPerKelvin(1.0),
            ..BARE
        };
        let mut tiles = cell(model, 1_000, 0.0);
        tiles.watts.fill(0.0);
        let columns = tiles.lattice().columns() as usize;
        let phase = core::f64::consts::TAU / columns as f64;
        let wave = |i: usize| libm::cos(phase * (i % columns) as f64);
        for (i, kelvin) in tiles.kelvin.iter_mut().enumerate() {
            *kelvin = 300.0 + wave(i);
        }
        let seconds = 100.0 * 1_000.0;
        run(&mut tiles, 100.0, 1_000);
        let rate = (4.0 - 4.0 * libm::cos(phase)) / model.heat_capacity.0;
        let left = libm::exp(-rate * seconds);
        for i in [0, 7, 999] {
            assert!(
                (tiles.kelvin[i] - 300.0 - left * wave(i)).abs() < 1e-4,
                "tile {i}"
            );
        }
    }

    /// A day and a half of changing work, with tiles dying, radiators failing and
    /// power cut where it gets too hot, as a world would do it.
    fn eventful(tiles: &mut Tiles, dt: f64, clock_max: f64, mut watch: impl FnMut(&Tiles, Flows)) {
        let mut scratch = Scratch::default();
        let steps = (130_000.0 / dt) as usize;
        for step in 0..steps {
            // Events fall on multiples of 3,000 s so that runs with other steps see the same.
            let now = step as f64 * dt;
            if now % 3_000.0 == 0.0 {
                let era = (now / 3_000.0) as usize;
                for i in 0..tiles.kelvin.len() {
                    let chance = scatter(i + 7_777 * era);
                    tiles.watts[i] = power(
                        &STANDARD,
                        clock_max * (0.4 + 0.6 * chance),
                        scatter(i + era),
                        Kelvin(tiles.kelvin[i]),
                    )
                    .0;
                    tiles.powered[i] = if scatter(i + 31 * era) < 0.05 {
                        0.0
                    } else {
                        1.0
                    };
                    tiles.radiator_share[i] = if chance < 0.03 { 0.4 } else { 1.0 };
                    if tiles.kelvin[i] > 380.0 {
                        tiles.powered[i] = 0.0;
                    }
                }
                tiles.absorbed = Watts(200.0 * scatter(era));
            }
            let flows = tiles.step_in(Seconds(dt), &mut scratch);
            watch(tiles, flows);
        }
    }

    //= requirements H1
    #[test]
    fn energy_is_conserved_through_faults_and_each_flow_follows_its_own_law() {
        let mut tiles = cell(STANDARD, 1_000, 290.0);
        let start = tiles.heat();
        let mut total = Flows::default();
        let (mut radiated, mut before) = (0.0, None);
        eventful(&mut tiles, 60.0, 1.5, |tiles, flows| {
            total += flows;
            assert!(flows.imbalance().0.abs() <= 1e-9 * flows.supplied.0);
            // The trapezium rule over what the temperatures say, where nothing jumped.
            let now = tiles.radiating().0;
            radiated += 60.0 * 0.5 * (before.unwrap_or(now) + now);
            before = Some(now);
        });
        let stored = tiles.heat() - start;
        let missing = total.supplied + total.absorbed - total.radiated - stored;
        assert!(
            missing.0.abs() <= 1e-6 * total.supplied.0,
            "{missing} of {}",
            total.supplied
        );
        assert_close(total.radiated.0, radiated, 1e-3, "radiated");
        assert!(total.leaked.0 > 0.0 && total.leaked < total.supplied);
    }

    #[test]
    fn supplied_and_leaked_are_what_was_asked_for() {
        let mut tiles = cell(STANDARD, 12, 300.0);
        for i in 0..12 {
            tiles.watts[i] = 10.0 * i as f64;
            tiles.powered[i] = f64::from(u8::from(i % 3 != 0));
        }
        tiles.absorbed = Watts(5.0);
        let flows = tiles.step(Seconds(1.0));
        // Tiles 0, 3, 6, 9 are dark; the others draw 480 W together and leak at 300 K.
        let leaks = 8.0 * STANDARD.leakage.at(Kelvin(300.0)).0;
        assert_close(flows.leaked.0, leaks, 1e-3, "leaked");
        assert_close(flows.supplied.0, 480.0 + flows.leaked.0, 1e-12, "supplied");
        assert_close(flows.absorbed.0, 60.0, 1e-12, "absorbed");
    }

    #[test]
    fn half_the_step_gives_the_same_temperatures() {
        let end = |dt| {
            let mut tiles = cell(STANDARD, 1_000, 290.0);
            let mut hottest = 0.0_f64;
            let mut eras = Vec::new();
            let mut elapsed = 0.0;
            eventful(&mut tiles, dt, 1.25, |tiles, _| {
                elapsed += dt;
                if elapsed % 300.0 == 0.0 {
                    eras.push(tiles.kelvin.clone());
                }
                hottest = tiles.kelvin.iter().copied().fold(hottest, f64::max);
            });
            (eras, hottest)
        };
        let ((whole, hottest), (half, _)) = (end(300.0), end(150.0));
        // Busy, but below where the power is cut: a threshold turns the smallest
        // difference into a large one, and that is not the method's doing.
        assert!((340.0..380.0).contains(&hottest), "{hottest} K at most");
        assert_eq!(whole.len(), half.len());
        let both = whole.iter().flatten().zip(half.iter().flatten());
        let worst = both.map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-3, "{worst}");
    }

    #[test]
    fn order_is_two() {
        let end = |dt: f64| {
            let mut tiles = cell(STANDARD, 64, 290.0);
            for i in 0..64 {
                tiles.watts[i] = 450.0 * scatter(i);
            }
            run(&mut tiles, dt, (6_000.0 / dt) as u32);
            tiles.kelvin[11]
        };
        let exact = end(1.0);
        let ratio = (end(200.0) - exact) / (end(100.0) - exact);
        assert!((3.3..4.8).contains(&ratio), "error fell by {ratio}, not 4");
    }

    //= requirements H1
    #[test]
    fn a_tile_beyond_its_fold_runs_away_and_one_below_does_not() {
        let fold = fold(&STANDARD, 1.0).unwrap();
        for (load, runs_away) in [(0.98, false), (1.02, true)] {
            let mut tiles = cell(STANDARD, 9, 300.0);
            tiles.watts.fill(fold.watts.0 * load);
            run(&mut tiles, 300.0, 2_000);
            let hot = tiles.kelvin[0] > STANDARD.leakage.ceiling().0;
            assert_eq!(
                hot, runs_away,
                "{} K at {load} of the fold",
                tiles.kelvin[0]
            );
            assert!(tiles.kelvin[0].is_finite());
        }
    }

    #[test]
    fn leakage_ends_at_its_ceiling_in_the_law_and_in_the_loop() {
        let law = &STANDARD.leakage;
        let most = law.at(law.ceiling());
        assert_close(
            most.0,
            60.0 * libm::exp(E_FOLDS_MAX),
            1e-9,
            "at the ceiling",
        );
        assert_eq!(law.at(Kelvin(2_000.0)), most);
        let mut tiles = cell(STANDARD, 9, 700.0);
        let leaked = tiles.step(Seconds(1e-3)).leaked;
        assert_close(leaked.0, 9.0 * most.0 * 1e-3, 1e-9, "in the loop");
    }

    #[test]
    fn cutting_the_power_ends_a_runaway() {
        let mut tiles = cell(STANDARD, 9, 500.0);
        tiles.watts.fill(2_000.0);
        run(&mut tiles, 3_600.0, 24);
        assert!(
            tiles.kelvin[0] > 600.0,
            "it did run away: {}",
            tiles.kelvin[0]
        );
        tiles.powered.fill(0.0);
        let flows = run(&mut tiles, 300.0, 300);
        assert_eq!(flows.supplied, Joules::ZERO);
        assert!(tiles.kelvin[0] < 300.0, "{}", tiles.kelvin[0]);
    }

    #[test]
    fn a_step_of_no_time_changes_nothing() {
        let mut tiles = cell(STANDARD, 9, 300.0);
        let before = tiles.clone();
        assert_eq!(tiles.step(Seconds(0.0)), Flows::default());
        assert_eq!(tiles, before);
    }

    #[test]
    fn dynamic_power_is_cubic_in_the_clock() {
        let power = |clock, activity| power(&STANDARD, clock, activity, Kelvin(350.0));
        assert_eq!(power(1.0, 1.0), Watts(450.0));
        assert_eq!(power(0.5, 1.0), Watts(100.0));
        assert_eq!(power(1.0, 0.0), STANDARD.idle);
    }

    //= requirements H8
    #[test]
    fn no_operation_costs_less_than_landauer_says() {
        // At 300 K a bit costs 2.871e-21 J: this technology needs twice that for its one bit.
        let mut model = STANDARD;
        model.operation = Operation {
            energy: Joules(5.742e-21),
            bits: 1.0,
            reversible: 0.0,
        };
        let dynamic = |model: &TileModel, clock, kelvin| {
            (power(model, clock, 1.0, Kelvin(kelvin)) - model.idle).0 / model.dynamic.0
        };
        assert_eq!(dynamic(&model, 1.0, 300.0), 1.0);
        // As warm as it takes to pay for both halves, and once more.
        assert_eq!(dynamic(&model, 1.0, 599.0), 1.0);
        assert_close(dynamic(&model, 1.0, 1200.0), 2.0, 1e-3, "at 1200 K");
        // A quarter of the energy an operation would be below the limit: half stays.
        assert_close(
            dynamic(&model, 0.5, 300.0),
            0.5 * 0.5,
            1e-3,
            "at half clock",
        );
        assert!(model.is_near_least(0.5, Kelvin(300.0)));
        assert!(!model.is_near_least(0.9, Kelvin(300.0)));
        // Half of them reversibly: twice as warm.
        model.operation.reversible = 0.5;
        assert_eq!(dynamic(&model, 1.0, 1198.0), 1.0);
        model.operation.reversible = 1.0;
        assert_close(dynamic(&model, 0.1, 5_000.0), 0.001, 1e-9, "without any");
        // What is built today is ten million times above.
        let today = Operation::STANDARD;
        let times = today.energy.0 / today.least(Kelvin(330.0)).0;
        assert!((1e7..2e7).contains(&times), "{times}");
    }

    //= requirements H8
    #[test]
    fn a_bit_costs_what_landauer_says() {
        // The textbook figure: 2.87e-21 J, or 0.0179 eV, at 300 K.
        assert_close(landauer(Kelvin(300.0)).0, 2.871e-21, 1e-3, "at 300 K");
        assert_eq!(landauer(Kelvin(0.0)), Joules::ZERO);
    }

    prop_compose! {
        fn any_model()(
            capacity in 1.0..1e5, radiator in 0.0..10.0, emissivity in 0.0..=1.0, leak in 0.0..1e3,
            reference in 200.0..400.0, e_fold in 5.0..60.0, conductance in 0.0..50.0, sky in 0.0..300.0,
        ) -> TileModel {
            TileModel {
                heat_capacity: JoulesPerKelvin(capacity),
                radiator: SquareMetres(radiator),
                emissivity,
                leakage: Leakage { at_reference: Watts(leak), reference: Kelvin(reference), e_fold: Kelvin(e_fold) },
                neighbour_conductance: WattsPerKelvin(conductance),
                sky: Kelvin(sky),
                ..STANDARD
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nothing_is_ever_infinite_negative_or_unaccounted_for(
            model in any_model(), dt in 0.1..1e4, start in 3.0..1500.0,
            watts in prop::collection::vec(0.0..1e4, 12), off in 0_usize..12, absorbed in 0.0..1e3,
        ) {
            let mut tiles = cell(model, 12, start);
            tiles.watts.copy_from_slice(&watts);
            tiles.powered[off] = 0.0;
            tiles.radiator_share[(off + 5) % 12] = 0.0;
            tiles.absorbed = Watts(absorbed);
            let before = tiles.heat();
            let mut flows = Flows::default();
            for _ in 0..20 {
                flows += tiles.step(Seconds(dt));
                for kelvin in &tiles.kelvin {
                    prop_assert!(kelvin.is_finite() && *kelvin > 0.0, "{kelvin} K");
                }
            }
            let turnover = flows.supplied.0 + flows.absorbed.0 + flows.radiated.0.abs() + before.0;
            prop_assert!(flows.imbalance().0.abs() <= 1e-9 * turnover, "{flows:?}");
            let stored = tiles.heat() - before;
            prop_assert!((stored - flows.stored).0.abs() <= 1e-9 * turnover);
        }
    }
}
