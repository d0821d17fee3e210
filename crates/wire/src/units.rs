//! Physical quantities. One type per dimension, always in the SI unit named by
//! the type; the compiler refuses to add watts to joules.
//!
//! They are `f64` inside and never order events: time that orders is
//! [`crate::Nanos`]. Products and quotients exist where physics needs them, as
//! operators between the types concerned.

use core::fmt;
use core::ops::{Add, AddAssign, Div, Mul, Neg, Sub, SubAssign};

macro_rules! quantity {
    ($(#[$doc:meta])* $name:ident, $symbol:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
        #[repr(transparent)]
        pub struct $name(pub f64);

        impl $name {
            /// None of it.
            pub const ZERO: Self = Self(0.0);

            /// The bare number, in the unit the type is named after.
            #[must_use]
            pub const fn get(self) -> f64 {
                self.0
            }

            /// The larger of the two; a NaN loses.
            #[must_use]
            pub const fn max(self, other: Self) -> Self {
                Self(self.0.max(other.0))
            }

            /// The smaller of the two; a NaN loses.
            #[must_use]
            pub const fn min(self, other: Self) -> Self {
                Self(self.0.min(other.0))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)?;
                f.write_str(concat!(" ", $symbol))
            }
        }

        impl Add for $name {
            type Output = Self;
            fn add(self, other: Self) -> Self {
                Self(self.0 + other.0)
            }
        }
        impl Sub for $name {
            type Output = Self;
            fn sub(self, other: Self) -> Self {
                Self(self.0 - other.0)
            }
        }
        impl AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                self.0 += other.0;
            }
        }
        impl SubAssign for $name {
            fn sub_assign(&mut self, other: Self) {
                self.0 -= other.0;
            }
        }
        impl Neg for $name {
            type Output = Self;
            fn neg(self) -> Self {
                Self(-self.0)
            }
        }
        impl Mul<f64> for $name {
            type Output = Self;
            fn mul(self, by: f64) -> Self {
                Self(self.0 * by)
            }
        }
        impl Div<f64> for $name {
            type Output = Self;
            fn div(self, by: f64) -> Self {
                Self(self.0 / by)
            }
        }
        /// The ratio of two like quantities is a bare number.
        impl Div for $name {
            type Output = f64;
            fn div(self, by: Self) -> f64 {
                self.0 / by.0
            }
        }
        impl core::iter::Sum for $name {
            fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
                all.fold(Self::ZERO, Add::add)
            }
        }
    };
}

macro_rules! product {
    ($a:ident * $b:ident = $c:ident) => {
        impl Mul<$b> for $a {
            type Output = $c;
            fn mul(self, by: $b) -> $c {
                $c(self.0 * by.0)
            }
        }
        impl Mul<$a> for $b {
            type Output = $c;
            fn mul(self, by: $a) -> $c {
                $c(self.0 * by.0)
            }
        }
        impl Div<$b> for $c {
            type Output = $a;
            fn div(self, by: $b) -> $a {
                $a(self.0 / by.0)
            }
        }
        impl Div<$a> for $c {
            type Output = $b;
            fn div(self, by: $a) -> $b {
                $b(self.0 / by.0)
            }
        }
    };
}

quantity!(
    /// Absolute temperature.
    Kelvin, "K"
);
quantity!(
    /// Power; heat per second.
    Watts, "W"
);
quantity!(
    /// Energy.
    Joules, "J"
);
quantity!(
    /// Length.
    Metres, "m"
);
quantity!(
    /// Area.
    SquareMetres, "m²"
);
quantity!(
    /// A span of time inside physics, where it multiplies a power. Events are
    /// ordered by [`crate::Nanos`] instead.
    Seconds, "s"
);
quantity!(
    /// Heat capacity of a body.
    JoulesPerKelvin, "J/K"
);
quantity!(
    /// Thermal conductance.
    WattsPerKelvin, "W/K"
);
quantity!(
    /// Thermal resistance.
    KelvinPerWatt, "K/W"
);
quantity!(
    /// Radiant flux through an area.
    WattsPerSquareMetre, "W/m²"
);

product!(Watts * Seconds = Joules);
product!(JoulesPerKelvin * Kelvin = Joules);
product!(WattsPerKelvin * Kelvin = Watts);
product!(KelvinPerWatt * Watts = Kelvin);
product!(WattsPerSquareMetre * SquareMetres = Watts);

impl Metres {
    /// One astronomical unit, exact by definition. Source: IAU 2012 Resolution B2.
    pub const ASTRONOMICAL_UNIT: Self = Self(149_597_870_700.0);

    /// This many astronomical units.
    #[must_use]
    pub const fn from_au(au: f64) -> Self {
        Self(au * Self::ASTRONOMICAL_UNIT.0)
    }

    /// In astronomical units.
    #[must_use]
    pub const fn as_au(self) -> f64 {
        self.0 / Self::ASTRONOMICAL_UNIT.0
    }
}

impl Kelvin {
    /// 0 °C. Source: the definition of the Celsius scale (BIPM SI brochure, 9th ed.).
    pub const FREEZING_POINT: Self = Self(273.15);

    /// From degrees Celsius.
    #[must_use]
    pub const fn from_celsius(degrees: f64) -> Self {
        Self(degrees + Self::FREEZING_POINT.0)
    }

    /// In degrees Celsius.
    #[must_use]
    pub const fn as_celsius(self) -> f64 {
        self.0 - Self::FREEZING_POINT.0
    }
}

impl From<crate::Nanos> for Seconds {
    fn from(span: crate::Nanos) -> Self {
        Self(span.as_secs_f64())
    }
}
