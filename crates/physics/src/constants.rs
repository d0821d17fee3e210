//! Constants of nature and of the Solar System, each with its source.
//!
//! A quantity that has a type in [`wire::units`] uses it; the rest are `f64` with
//! the SI unit in the documentation. The astronomical unit is
//! [`wire::Metres::ASTRONOMICAL_UNIT`].

use wire::{Kelvin, Watts};

/// Speed of light in vacuum, m/s, exact. Source: SI brochure, 9th ed. (2019), defining constant.
pub const SPEED_OF_LIGHT: f64 = 299_792_458.0;

/// Stefan–Boltzmann constant, W m⁻² K⁻⁴. Source: CODATA 2018 (derived from exact constants).
pub const STEFAN_BOLTZMANN: f64 = 5.670_374_419e-8;

/// Boltzmann constant, J/K, exact. Source: SI brochure, 9th ed. (2019), defining constant.
pub const BOLTZMANN: f64 = 1.380_649e-23;

/// What the Sun radiates. Source: IAU 2015 Resolution B3, nominal solar luminosity.
pub const SOLAR_LUMINOSITY: Watts = Watts(3.828e26);

/// Mass parameter of the Sun, GM, m³/s². Source: IAU 2015 Resolution B3, nominal value.
pub const GM_SUN: f64 = 1.327_124_4e20;

/// Mass parameter of the Earth, GM, m³/s². Source: IAU 2015 Resolution B3, nominal value.
pub const GM_EARTH: f64 = 3.986_004e14;

/// How much slower a clock on the geoid runs than one far from the Earth and
/// at rest to it; a pure number. Source: IAU 2000 Resolution B1.9 (the defining constant `L_G`).
pub const GEOID_RATE: f64 = 6.969_290_134e-10;

/// How much slower a clock carried by the Earth's centre runs, on average, than
/// one far from the Sun and planets; a pure number. Source: IERS Conventions (2010),
/// table 1.1 (`L_C`, average of 1 − d(TCG)/d(TCB)).
pub const EARTH_CENTRE_RATE: f64 = 1.480_826_867_41e-8;

/// The sky behind everything: the cosmic microwave background.
/// Source: Fixsen 2009, ApJ 707:916 (2.725 48 ± 0.000 57 K).
pub const SKY: Kelvin = Kelvin(2.725);
