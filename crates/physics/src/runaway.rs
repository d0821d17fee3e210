//! At which load does heat make more heat than can leave?
//!
//! A tile rests where what it radiates equals what it is given plus what it
//! leaks. Radiation grows as T⁴, leakage as an exponential, so drawn over
//! temperature their difference rises, has a highest point, and falls. A load below
//! that point is met at two temperatures: a lower one that is stable and an upper
//! one that is not. At the point the two meet (a *fold*); above it there is no rest,
//! and the tile warms until somebody cuts its power. This is the closed form that tells a
//! scheduler how much a tile can take, before the tile tells it the hard way.

use crate::tiles::TileModel;
use wire::{Kelvin, Watts};

/// The most a tile can stand.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fold {
    /// The hottest temperature at which a tile can rest.
    pub kelvin: Kelvin,
    /// The load (electrical without leakage, plus absorbed) for which it rests
    /// there. Negative if the tile runs away even when left alone.
    pub watts: Watts,
}

/// Where the tile's stable rests end: the tangent point of leakage and radiation,
/// or the ceiling of the leakage law if that comes first.
///
/// `None` if there is no such end, because the tile does not leak, or no beginning,
/// because its radiator cannot keep up with leakage at any temperature.
#[must_use]
pub fn fold(model: &TileModel, radiator_share: f64) -> Option<Fold> {
    let leakage = &model.leakage;
    if leakage.at_reference <= Watts::ZERO {
        return None;
    }
    // 4aT³ against L/fold: the logarithm of their ratio is concave with its top at
    // three e-folds, so above that the slope of the balance changes sign once.
    let radiance = model.radiance(radiator_share);
    let rising = |t: f64| {
        let leaks = leakage.at(Kelvin(t)) / leakage.e_fold;
        4.0 * radiance * t * t * t >= leaks.0
    };
    let (start, ceiling) = (3.0 * leakage.e_fold.0, leakage.ceiling().0);
    if !rising(start) {
        return None;
    }
    let kelvin = Kelvin(if rising(ceiling) {
        ceiling
    } else {
        last_true(start, ceiling, rising)
    });
    Some(Fold {
        kelvin,
        watts: surplus(model, radiator_share, kelvin),
    })
}

/// Where a tile given this load (electrical without leakage, plus absorbed) comes
/// to rest; `None` if it never does below the ceiling of the leakage law.
#[must_use]
pub fn steady_state(model: &TileModel, load: Watts, radiator_share: f64) -> Option<Kelvin> {
    let radiance = model.radiance(radiator_share);
    if model.leakage.at_reference <= Watts::ZERO {
        let sky2 = model.sky.0 * model.sky.0;
        let t4 = load.0 / radiance + sky2 * sky2;
        return (t4 >= 0.0 && t4.is_finite()).then(|| Kelvin(libm::sqrt(libm::sqrt(t4))));
    }
    let fold = fold(model, radiator_share)?;
    if load > fold.watts {
        return None;
    }
    // Below the fold the surplus falls a little at first (leakage near absolute
    // zero), then only rises, and it starts below any load: one crossing.
    let short = |t: f64| surplus(model, radiator_share, Kelvin(t)) < load;
    Some(Kelvin(last_true(0.0, fold.kelvin.0, short)))
}

/// What a tile at this temperature radiates beyond what it leaks.
fn surplus(model: &TileModel, radiator_share: f64, kelvin: Kelvin) -> Watts {
    let (t2, sky2) = (kelvin.0 * kelvin.0, model.sky.0 * model.sky.0);
    Watts(model.radiance(radiator_share) * (t2 * t2 - sky2 * sky2)) - model.leakage.at(kelvin)
}

/// The end of the stretch, from `low` to at most `high`, on which `holds` does;
/// bisected until the two numbers are neighbours, which takes at most 64 steps from any start a
/// temperature can have.
fn last_true(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..64 {
        let middle = 0.5 * (low + high);
        if holds(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    low
}
