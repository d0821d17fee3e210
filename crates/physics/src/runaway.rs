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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tiles::Leakage;
    use proptest::prelude::*;

    const STANDARD: TileModel = TileModel::STANDARD;

    #[test]
    fn without_leakage_it_is_the_fourth_root_and_has_no_fold() {
        let model = TileModel {
            leakage: Leakage::NONE,
            sky: Kelvin(0.0),
            ..STANDARD
        };
        let rest = steady_state(&model, Watts(1e6), 1.0).unwrap();
        assert!((rest.0 / libm::pow(1e6 / model.radiance(1.0), 0.25) - 1.0).abs() < 1e-12);
        assert_eq!(fold(&model, 1.0), None);
        assert_eq!(steady_state(&model, Watts(1.0), 0.0), None);
    }

    #[test]
    fn at_the_fold_leakage_and_radiation_touch() {
        let fold = fold(&STANDARD, 1.0).unwrap();
        let radiates =
            |t: f64| STANDARD.radiance(1.0) * (libm::pow(t, 4.0) - libm::pow(STANDARD.sky.0, 4.0));
        let leaks = |t: f64| STANDARD.leakage.at(Kelvin(t)).0;
        let t = fold.kelvin.0;
        // They meet …
        assert!((radiates(t) / (leaks(t) + fold.watts.0) - 1.0).abs() < 1e-9);
        // … with the same slope, taken by differences …
        let slope = |f: &dyn Fn(f64) -> f64| (f(t + 0.01) - f(t - 0.01)) / 0.02;
        assert!((slope(&radiates) / slope(&leaks) - 1.0).abs() < 1e-6);
        // … and on either side leakage wins.
        for aside in [t - 5.0, t + 5.0] {
            assert!(radiates(aside) < leaks(aside) + fold.watts.0);
        }
    }

    #[test]
    fn there_is_a_rest_up_to_the_fold_and_none_beyond() {
        for share in [0.5, 1.0] {
            let fold = fold(&STANDARD, share).unwrap();
            let below = steady_state(&STANDARD, fold.watts * (1.0 - 1e-9), share).unwrap();
            // Near a fold the rest approaches as the square root of what is left.
            assert!(below < fold.kelvin && (fold.kelvin - below).0 < 0.05);
            assert_eq!(
                steady_state(&STANDARD, fold.watts * (1.0 + 1e-9), share),
                None
            );
        }
    }

    #[test]
    fn a_radiator_too_small_for_the_leakage_never_rests() {
        let mut model = STANDARD;
        model.leakage.at_reference = Watts(1e5);
        assert_eq!(steady_state(&model, Watts(0.0), 0.01), None);
    }

    proptest! {
        #[test]
        fn a_rest_is_a_rest_the_lowest_and_stable(load in 0.0..1_000.0, leak in 1e-6..300.0, share in 0.1..1.0) {
            let mut model = STANDARD;
            model.leakage.at_reference = Watts(leak);
            if let Some(rest) = steady_state(&model, Watts(load), share) {
                let off = surplus(&model, share, rest).0 - load;
                prop_assert!(off.abs() < 1e-8 * (1.0 + load + leak), "{off} W at {rest}");
                for part in 1..100 {
                    let cooler = rest * (f64::from(part) / 100.0);
                    prop_assert!(surplus(&model, share, cooler).0 < load);
                }
                prop_assert!(surplus(&model, share, rest + Kelvin(0.01)).0 > load
                    || rest + Kelvin(0.02) > fold(&model, share).unwrap().kelvin);
            }
        }

        #[test]
        fn more_load_is_never_cooler(load in 0.0..900.0, more in 0.0..100.0) {
            let at = |watts| steady_state(&STANDARD, Watts(watts), 1.0);
            match (at(load), at(load + more)) {
                (Some(less), Some(more)) => prop_assert!(more >= less),
                (None, Some(_)) => prop_assert!(false, "less load ran away"),
                _ => {}
            }
        }
    }
}
