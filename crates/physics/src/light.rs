//! How long does light take?

use crate::constants::SPEED_OF_LIGHT;
use wire::{Metres, Nanos};

/// The time light takes over a distance in vacuum, to the nearest nanosecond.
/// A negative distance or NaN takes none.
#[must_use]
pub fn light_time(distance: Metres) -> Nanos {
    Nanos::from_secs_f64(distance.0 / SPEED_OF_LIGHT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_everybody_knows() {
        for (au, seconds, within) in [
            // The light time of one astronomical unit (IERS Conventions 2010: 499.004 783 84 s).
            (1.0, 499.004_783_84, 1e-8),
            // From the innermost shell to the outermost at conjunction: about 3.4 h.
            (24.5, 3.4 * 3600.0, 20.0),
        ] {
            let took = light_time(Metres::from_au(au)).as_secs_f64();
            assert!((took - seconds).abs() <= within, "{au} AU took {took} s");
        }
        assert_eq!(light_time(Metres(SPEED_OF_LIGHT)), Nanos::SECOND);
        assert_eq!(light_time(Metres(-1.0)), Nanos::ZERO);
    }
}
