//! Numbers with units: `"350 K"`, `"2.5 kWh"`, `"5 %/year"`.
//!
//! A number is kept in decimal until its unit is applied, so what is written is
//! what is meant: `"0.1 d"` is 8,640 s to the nanosecond and `"3.09 MW"` is the
//! float nearest to 3,090,000. Time, data and counts never pass through floats.

use std::ops::Bound;

use wire::{
    Joules, JoulesPerKelvin, Kelvin, KelvinPerWatt, Metres, Nanos, SquareMetres, Watts,
    WattsPerKelvin, WattsPerSquareMetre,
};

/// How often, per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
pub struct PerSecond(pub f64);

/// How much a link carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BitsPerSecond(pub u64);

/// How much data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// What a number measures; decides which units it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the names are the dimensions")]
pub enum Dimension {
    Temperature,
    /// Apart from [`Self::Temperature`] because 5 °C apart is not 278.15 K apart.
    TemperatureDifference,
    Time,
    Power,
    Energy,
    Length,
    Area,
    HeatCapacity,
    Conductance,
    Resistance,
    Flux,
    Fraction,
    Rate,
    Bandwidth,
    Data,
    Count,
    Number,
}

/// One unit: a value in it times `numerator · 10^exponent / denominator`, plus
/// `zero`, is the value in the unit of the wire type (nanoseconds for time).
#[derive(Clone, Copy, Debug)]
struct Unit {
    /// How it may be written; the first is how it is printed.
    names: &'static [&'static str],
    numerator: u64,
    exponent: i32,
    denominator: u32,
    zero: f64,
}

const fn unit(names: &'static [&'static str], numerator: u64, exponent: i32) -> Unit {
    Unit {
        names,
        numerator,
        exponent,
        denominator: 1,
        zero: 0.0,
    }
}

const fn per(names: &'static [&'static str], exponent: i32, seconds: u32) -> Unit {
    Unit {
        denominator: seconds,
        ..unit(names, 1, exponent)
    }
}

const KELVIN: Unit = unit(&["K"], 1, 0);
const CELSIUS: Unit = Unit {
    zero: Kelvin::FREEZING_POINT.0,
    ..unit(&["°C", "degC"], 1, 0)
};
/// A Julian year, as astronomers count: 365.25 d.
const YEAR_S: u32 = 31_557_600;

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Temperature,
        Self::TemperatureDifference,
        Self::Time,
        Self::Power,
        Self::Energy,
        Self::Length,
        Self::Area,
        Self::HeatCapacity,
        Self::Conductance,
        Self::Resistance,
        Self::Flux,
        Self::Fraction,
        Self::Rate,
        Self::Bandwidth,
        Self::Data,
        Self::Count,
        Self::Number,
    ];

    /// Its name with an article, as errors say it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Temperature => "a temperature",
            Self::TemperatureDifference => "a temperature difference",
            Self::Time => "a time",
            Self::Power => "a power",
            Self::Energy => "an energy",
            Self::Length => "a length",
            Self::Area => "an area",
            Self::HeatCapacity => "a heat capacity",
            Self::Conductance => "a thermal conductance",
            Self::Resistance => "a thermal resistance",
            Self::Flux => "a heat flux",
            Self::Fraction => "a fraction",
            Self::Rate => "a rate per time",
            Self::Bandwidth => "a bandwidth",
            Self::Data => "an amount of data",
            Self::Count => "a whole number",
            Self::Number => "a number",
        }
    }

    /// A value as it would stand in a file.
    #[must_use]
    pub const fn example(self) -> &'static str {
        match self {
            Self::Temperature => "\"350 K\"",
            Self::TemperatureDifference => "\"5 K\"",
            Self::Time => "\"90 s\"",
            Self::Power => "\"120 W\"",
            Self::Energy => "\"2.5 kWh\"",
            Self::Length => "\"0.5 AU\"",
            Self::Area => "\"4 m²\"",
            Self::HeatCapacity => "\"18 kJ/K\"",
            Self::Conductance => "\"5 W/K\"",
            Self::Resistance => "\"0.2 K/W\"",
            Self::Flux => "\"1361 W/m²\"",
            Self::Fraction => "0.01 or \"1 %\"",
            Self::Rate => "\"0.1 /h\"",
            Self::Bandwidth => "\"100 Mbit/s\"",
            Self::Data => "\"64 MiB\"",
            Self::Count => "1000",
            Self::Number => "1.5",
        }
    }

    /// The units it may have, as errors list them; none for bare numbers.
    pub fn units(self) -> impl Iterator<Item = &'static str> {
        self.table()
            .iter()
            .flat_map(|unit| unit.names)
            .copied()
            // The Greek mu looks like the micro sign; listing both helps nobody.
            .filter(|name| !name.is_empty() && !name.contains('μ'))
    }

    /// Whether a bare number, without a unit, is enough.
    #[must_use]
    pub fn is_bare(self) -> bool {
        self.table().iter().any(|unit| unit.names.contains(&""))
    }

    /// Whether values below zero make sense without being asked for.
    const fn is_signed(self) -> bool {
        matches!(self, Self::TemperatureDifference | Self::Number)
    }

    const fn table(self) -> &'static [Unit] {
        match self {
            Self::Temperature => &[KELVIN, CELSIUS],
            Self::TemperatureDifference => &[KELVIN],
            Self::Time => {
                &const {
                    [
                        unit(&["ns"], 1, 0),
                        unit(&["µs", "μs", "us"], 1, 3),
                        unit(&["ms"], 1, 6),
                        unit(&["s"], 1, 9),
                        unit(&["min"], 60, 9),
                        unit(&["h"], 3600, 9),
                        unit(&["d"], 86_400, 9),
                        unit(&["year"], YEAR_S as u64, 9),
                    ]
                }
            }
            Self::Power => {
                &const {
                    [
                        unit(&["W"], 1, 0),
                        unit(&["mW"], 1, -3),
                        unit(&["kW"], 1, 3),
                        unit(&["MW"], 1, 6),
                        unit(&["GW"], 1, 9),
                        unit(&["TW"], 1, 12),
                    ]
                }
            }
            Self::Energy => {
                &const {
                    [
                        unit(&["J"], 1, 0),
                        unit(&["kJ"], 1, 3),
                        unit(&["MJ"], 1, 6),
                        unit(&["GJ"], 1, 9),
                        unit(&["Wh"], 3600, 0),
                        unit(&["kWh"], 3600, 3),
                        unit(&["MWh"], 3600, 6),
                        unit(&["pJ"], 1, -12),
                        unit(&["fJ"], 1, -15),
                        unit(&["aJ"], 1, -18),
                    ]
                }
            }
            Self::Length => {
                &const {
                    [
                        unit(&["m"], 1, 0),
                        unit(&["µm", "μm", "um"], 1, -6),
                        unit(&["mm"], 1, -3),
                        unit(&["cm"], 1, -2),
                        unit(&["km"], 1, 3),
                        // Source: IAU 2012 Resolution B2, as wire::Metres.
                        unit(&["AU", "au"], Metres::ASTRONOMICAL_UNIT.0 as u64, 0),
                    ]
                }
            }
            Self::Area => {
                &const {
                    [
                        unit(&["m²", "m^2"], 1, 0),
                        unit(&["mm²", "mm^2"], 1, -6),
                        unit(&["cm²", "cm^2"], 1, -4),
                        unit(&["km²", "km^2"], 1, 6),
                    ]
                }
            }
            Self::HeatCapacity => {
                &const {
                    [
                        unit(&["J/K"], 1, 0),
                        unit(&["kJ/K"], 1, 3),
                        unit(&["MJ/K"], 1, 6),
                    ]
                }
            }
            Self::Conductance => {
                &const {
                    [
                        unit(&["W/K"], 1, 0),
                        unit(&["mW/K"], 1, -3),
                        unit(&["kW/K"], 1, 3),
                        unit(&["MW/K"], 1, 6),
                    ]
                }
            }
            Self::Resistance => {
                &const {
                    [
                        unit(&["K/W"], 1, 0),
                        unit(&["mK/W"], 1, -3),
                        unit(&["K/kW"], 1, -3),
                    ]
                }
            }
            Self::Flux => {
                &const {
                    [
                        unit(&["W/m²", "W/m^2"], 1, 0),
                        unit(&["kW/m²", "kW/m^2"], 1, 3),
                        unit(&["W/cm²", "W/cm^2"], 1, 4),
                    ]
                }
            }
            Self::Fraction => {
                &const {
                    [
                        unit(&[""], 1, 0),
                        unit(&["%"], 1, -2),
                        unit(&["ppm"], 1, -6),
                        unit(&["ppb"], 1, -9),
                    ]
                }
            }
            Self::Rate => {
                &const {
                    [
                        per(&["/s", "Hz"], 0, 1),
                        per(&["/min"], 0, 60),
                        per(&["/h"], 0, 3600),
                        per(&["/d"], 0, 86_400),
                        per(&["/year"], 0, YEAR_S),
                        per(&["%/s"], -2, 1),
                        per(&["%/min"], -2, 60),
                        per(&["%/h"], -2, 3600),
                        per(&["%/d"], -2, 86_400),
                        per(&["%/year"], -2, YEAR_S),
                    ]
                }
            }
            Self::Bandwidth => {
                &const {
                    [
                        unit(&["bit/s"], 1, 0),
                        unit(&["kbit/s"], 1, 3),
                        unit(&["Mbit/s"], 1, 6),
                        unit(&["Gbit/s"], 1, 9),
                        unit(&["Tbit/s"], 1, 12),
                        unit(&["B/s"], 8, 0),
                        unit(&["kB/s"], 8, 3),
                        unit(&["MB/s"], 8, 6),
                        unit(&["GB/s"], 8, 9),
                        unit(&["TB/s"], 8, 12),
                    ]
                }
            }
            Self::Data => {
                &const {
                    [
                        unit(&["B"], 1, 0),
                        unit(&["kB"], 1, 3),
                        unit(&["MB"], 1, 6),
                        unit(&["GB"], 1, 9),
                        unit(&["TB"], 1, 12),
                        unit(&["KiB"], 1 << 10, 0),
                        unit(&["MiB"], 1 << 20, 0),
                        unit(&["GiB"], 1 << 30, 0),
                        unit(&["TiB"], 1 << 40, 0),
                    ]
                }
            }
            Self::Count | Self::Number => &const { [unit(&[""], 1, 0)] },
        }
    }
}

/// `± digits · 10^exponent`, with every digit that was written up to the 25th.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) negative: bool,
    pub(super) digits: u128,
    pub(super) exponent: i32,
}

impl Decimal {
    /// Splits `"0.1 /h"` into the number and the unit's spelling; `None` if it
    /// does not begin with a number.
    pub(super) fn split(text: &str) -> Option<(Self, &str)> {
        // A further digit times the largest numerator still fits in a u128.
        const DIGITS_MAX: u128 = 10_u128.pow(24);
        let text = text.trim();
        let (negative, unsigned) = match text.strip_prefix(['-', '−']) {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let mut number = Self {
            negative,
            digits: 0,
            exponent: 0,
        };
        let (mut seen_digit, mut after_point, mut end) = (false, false, unsigned.len());
        for (at, c) in unsigned.char_indices() {
            match c {
                '0'..='9' => {
                    seen_digit = true;
                    if number.digits < DIGITS_MAX {
                        number.digits = number.digits * 10 + u128::from(c as u8 - b'0');
                        number.exponent -= i32::from(after_point);
                    } else {
                        number.exponent += i32::from(!after_point);
                    }
                }
                '_' if seen_digit => {}
                '.' if !after_point => after_point = true,
                _ => {
                    end = at;
                    break;
                }
            }
        }
        if !seen_digit {
            return None;
        }
        let mut unit = &unsigned[end..];
        if let Some(power) = unit.strip_prefix(['e', 'E']) {
            let digits = power.strip_prefix(['+', '-']).unwrap_or(power);
            let len = digits.bytes().take_while(u8::is_ascii_digit).count();
            if len > 0 {
                // Beyond any float or integer either way; no need to count.
                let size = digits[..len].parse().unwrap_or(100_000).min(100_000);
                number.exponent = number.exponent.saturating_add(if power.starts_with('-') {
                    -size
                } else {
                    size
                });
                unit = &digits[len..];
            }
        }
        Some((number, unit.trim()))
    }

    fn as_f64(self) -> f64 {
        let size: f64 = format!("{}e{}", self.digits, self.exponent)
            .parse()
            .expect("digits, an e and an integer are a float");
        if self.negative { -size } else { size }
    }

    /// Rounded to the nearest whole number, with whether nothing was lost.
    fn as_u64(self) -> Result<(u64, bool), Unfit> {
        if self.digits == 0 {
            return Ok((0, true));
        }
        if self.negative {
            return Err(Unfit::Negative);
        }
        let power = 10_u128.checked_pow(self.exponent.unsigned_abs());
        let (whole, exact) = match (power, self.exponent >= 0) {
            (Some(power), true) => (self.digits.checked_mul(power), true),
            (None, true) => (None, true),
            (Some(power), false) => {
                let (whole, rest) = (self.digits / power, self.digits % power);
                let up = u128::from(rest >= power - rest);
                (Some(whole + up), rest == 0)
            }
            (None, false) => (Some(0), false),
        };
        let whole = whole.and_then(|whole| u64::try_from(whole).ok());
        whole.map_or(Err(Unfit::TooLarge), |whole| Ok((whole, exact)))
    }
}

/// A number and the unit it was written in.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    number: Decimal,
    unit: Unit,
}

/// Why an amount cannot be held by the type it should become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Below zero, where that has no meaning.
    Negative,
    /// More than the type holds.
    TooLarge,
    /// Not whole, where only whole numbers count.
    NotWhole,
}

impl Amount {
    /// Reads `"0.1 /h"` as this dimension; `None` unless it is a number
    /// followed by one of the dimension's units.
    #[must_use]
    pub fn parse(text: &str, dimension: Dimension) -> Option<Self> {
        let (number, name) = Decimal::split(text)?;
        let unit = *dimension
            .table()
            .iter()
            .find(|unit| unit.names.contains(&name))?;
        Some(Self { number, unit })
    }

    fn scaled(&self) -> Decimal {
        Decimal {
            digits: self.number.digits * u128::from(self.unit.numerator),
            exponent: self.number.exponent.saturating_add(self.unit.exponent),
            ..self.number
        }
    }

    fn real(&self) -> Result<f64, Unfit> {
        let si = self.scaled().as_f64() / f64::from(self.unit.denominator) + self.unit.zero;
        if si.is_finite() {
            Ok(si)
        } else {
            Err(Unfit::TooLarge)
        }
    }
}

/// A type that numbers in a file become.
pub trait Scalar: Copy + PartialOrd + 'static {
    /// None of it.
    const ZERO: Self;
    /// One of the unit the type is named after.
    const ONE: Self;
    /// The most it holds, where whole numbers bound it.
    const MAX: Option<Self>;

    /// The amount in this type.
    ///
    /// # Errors
    ///
    /// If the type cannot hold it.
    fn from_amount(amount: &Amount) -> Result<Self, Unfit>;

    /// The shortest way to write it that reads back as exactly the same value.
    fn write(self, dimension: Dimension) -> String;
}

macro_rules! real {
    ($($name:ident),*) => {$(
        impl Scalar for $name {
            const ZERO: Self = Self(0.0);
            const ONE: Self = Self(1.0);
            const MAX: Option<Self> = None;
            fn from_amount(amount: &Amount) -> Result<Self, Unfit> {
                amount.real().map(Self)
            }
            fn write(self, dimension: Dimension) -> String {
                write_real(self.0, dimension)
            }
        }
    )*};
}
real!(
    Kelvin,
    Watts,
    Joules,
    Metres,
    SquareMetres,
    JoulesPerKelvin,
    WattsPerKelvin,
    KelvinPerWatt,
    WattsPerSquareMetre,
    PerSecond
);

impl Scalar for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const MAX: Option<Self> = None;
    fn from_amount(amount: &Amount) -> Result<Self, Unfit> {
        amount.real()
    }
    fn write(self, dimension: Dimension) -> String {
        write_real(self, dimension)
    }
}

macro_rules! whole {
    ($($name:ident),*) => {$(
        impl Scalar for $name {
            const ZERO: Self = Self(0);
            const ONE: Self = Self(1);
            const MAX: Option<Self> = Some(Self(u64::MAX));
            fn from_amount(amount: &Amount) -> Result<Self, Unfit> {
                amount.scaled().as_u64().map(|(whole, _)| Self(whole))
            }
            fn write(self, dimension: Dimension) -> String {
                write_whole(self.0, dimension)
            }
        }
    )*};
}
whole!(Nanos, BitsPerSecond, Bytes);

impl Scalar for u64 {
    const ZERO: Self = 0;
    const ONE: Self = 1;
    const MAX: Option<Self> = Some(Self::MAX);
    fn from_amount(amount: &Amount) -> Result<Self, Unfit> {
        match amount.scaled().as_u64()? {
            (whole, true) => Ok(whole),
            (_, false) => Err(Unfit::NotWhole),
        }
    }
    fn write(self, dimension: Dimension) -> String {
        write_whole(self, dimension)
    }
}

fn joined(number: &str, unit: &Unit) -> String {
    let name = unit.names[0];
    let space = if name.is_empty() { "" } else { " " };
    format!("{number}{space}{name}")
}

fn write_real(value: f64, dimension: Dimension) -> String {
    let digits = |x: f64| {
        let plain = format!("{x}");
        if plain.len() > 12 {
            format!("{x:e}")
        } else {
            plain
        }
    };
    let base = joined(&digits(value), &dimension.table()[0]);
    if value == 0.0 {
        return base;
    }
    let others = dimension.table()[1..].iter().flat_map(|unit| {
        let scale = 10_f64.powi(unit.exponent) * unit.numerator as f64;
        let exact = (value - unit.zero) * f64::from(unit.denominator) / scale;
        // The division may miss the number that was meant by the last bit.
        let meant = format!("{exact:.11e}").parse().unwrap_or(exact);
        [meant, exact].map(|x| joined(&digits(x), unit))
    });
    let reads_back = |text: &String| {
        Amount::parse(text, dimension).is_some_and(|amount| amount.real() == Ok(value))
    };
    // A decimal point costs less to read than another digit.
    let length = |text: &String| text.chars().filter(|&c| c != '.').count();
    match others.filter(reads_back).min_by_key(length) {
        Some(text) if length(&text) < length(&base) => text,
        _ => base,
    }
}

fn write_whole(value: u64, dimension: Dimension) -> String {
    let table = dimension.table();
    let (size, unit) = table
        .iter()
        .filter_map(|unit| {
            let power = 10_u64.checked_pow(u32::try_from(unit.exponent).ok()?)?;
            Some((unit.numerator.checked_mul(power)?, unit))
        })
        .filter(|(size, _)| value >= *size && value.is_multiple_of(*size))
        .max_by_key(|(size, _)| *size)
        .unwrap_or((1, &table[0]));
    joined(&(value / size).to_string(), unit)
}

/// One end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Low,
    High,
}

/// The ends between which a value must lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Range<T> {
    pub(super) low: Bound<T>,
    pub(super) high: Bound<T>,
}

impl<T: Scalar> Range<T> {
    /// Everything that makes sense in a dimension; only few go below zero.
    pub(super) const fn of(dimension: Dimension) -> Self {
        let low = if dimension.is_signed() {
            Bound::Unbounded
        } else {
            Bound::Included(T::ZERO)
        };
        Self {
            low,
            high: Bound::Unbounded,
        }
    }

    pub(super) fn contains(&self, value: T) -> bool {
        std::ops::RangeBounds::contains(&(self.low, self.high), &value)
    }

    /// A value within it, away from zero if possible, since somebody may
    /// divide by it before the problem that made it necessary is reported.
    pub(super) fn placeholder(&self) -> T {
        let ends = [self.low, self.high]
            .into_iter()
            .filter_map(|end| match end {
                Bound::Included(value) => Some(value),
                Bound::Excluded(_) | Bound::Unbounded => None,
            });
        ends.chain([T::ONE])
            .find(|value| *value != T::ZERO && self.contains(*value))
            .unwrap_or(T::ZERO)
    }

    /// " from 1 s to 10 d", to follow the name of the dimension; `text` says each end.
    pub(super) fn describe(&self, text: impl Fn(End, T) -> String) -> String {
        let (low, high) = (
            |value| text(End::Low, value),
            |value| text(End::High, value),
        );
        match (self.low, self.high) {
            (Bound::Unbounded, Bound::Unbounded) => String::new(),
            (Bound::Included(from), Bound::Unbounded) => format!(" of at least {}", low(from)),
            (Bound::Excluded(from), Bound::Unbounded) => format!(" above {}", low(from)),
            (Bound::Unbounded, Bound::Included(to)) => format!(" of at most {}", high(to)),
            (Bound::Unbounded, Bound::Excluded(to)) => format!(" below {}", high(to)),
            (Bound::Included(from), Bound::Included(to)) => {
                format!(" from {} to {}", low(from), high(to))
            }
            (Bound::Included(from), Bound::Excluded(to)) => {
                format!(" from {} to below {}", low(from), high(to))
            }
            (Bound::Excluded(from), Bound::Included(to)) => {
                format!(" above {}, up to {}", low(from), high(to))
            }
            (Bound::Excluded(from), Bound::Excluded(to)) => {
                format!(" above {}, below {}", low(from), high(to))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::num;
    use proptest::prelude::*;

    fn read<T: Scalar>(text: &str, dimension: Dimension) -> Option<T> {
        T::from_amount(&Amount::parse(text, dimension)?).ok()
    }

    #[test]
    fn what_is_written_is_what_is_meant() {
        use Dimension::*;
        for (text, dimension, si) in [
            ("0.5 AU", Length, 74_798_935_350.0),
            ("350 K", Temperature, 350.0),
            ("350K", Temperature, 350.0),
            ("25 °C", Temperature, 298.15),
            ("25 degC", Temperature, 298.15),
            ("-40 °C", Temperature, 233.149_999_999_999_98),
            ("1 %", Fraction, 0.01),
            ("0.01", Fraction, 0.01),
            ("20 ppm", Fraction, 20e-6),
            ("120 W", Power, 120.0),
            ("3.09 MW", Power, 3_090_000.0),
            ("2.5 kWh", Energy, 9e6),
            ("4 m^2", Area, 4.0),
            ("4 m²", Area, 4.0),
            ("0.2 K/W", Resistance, 0.2),
            ("5 W/K", Conductance, 5.0),
            ("18 kJ/K", HeatCapacity, 18_000.0),
            ("5 %/year", Rate, 0.05 / 31_557_600.0),
            ("0.1/h", Rate, 0.1 / 3600.0),
            ("1.4 m", Length, 1.4),
            ("1_000.5e-1 W", Power, 100.05),
            ("+.5 W", Power, 0.5),
        ] {
            assert_eq!(read::<f64>(text, dimension), Some(si), "{text}");
        }
    }

    #[test]
    fn whole_quantities_never_pass_through_floats() {
        for (text, nanos) in [
            ("10 d", Nanos::DAY * 10),
            ("3 h", Nanos::HOUR * 3),
            ("90 s", Nanos::from_secs(90)),
            ("250 ms", Nanos::from_millis(250)),
            ("1 year", Nanos::from_secs(31_557_600)),
            ("0.1 d", Nanos::from_secs(8640)),
            // 2⁵³ + 1 is the first whole number a float cannot hold.
            ("9007199254740993 ns", Nanos(9_007_199_254_740_993)),
            ("9007199.254740993 s", Nanos(9_007_199_254_740_993)),
            ("18446744073709551615 ns", Nanos(u64::MAX)),
            ("1.5 ns", Nanos(2)),
            ("1e-300 s", Nanos(0)),
        ] {
            assert_eq!(read(text, Dimension::Time), Some(nanos), "{text}");
        }
        assert_eq!(
            read("100 Mbit/s", Dimension::Bandwidth),
            Some(BitsPerSecond(100_000_000))
        );
        assert_eq!(
            read("12.5 MB/s", Dimension::Bandwidth),
            Some(BitsPerSecond(100_000_000))
        );
        assert_eq!(read("64 MiB", Dimension::Data), Some(Bytes(64 << 20)));
    }

    #[test]
    fn what_does_not_fit_says_how() {
        let unfit = |text, dimension| {
            let amount = Amount::parse(text, dimension).expect("a number with a unit");
            u64::from_amount(&amount).unwrap_err()
        };
        assert_eq!(unfit("-3 s", Dimension::Time), Unfit::Negative);
        assert_eq!(
            unfit("18446744073709551616 ns", Dimension::Time),
            Unfit::TooLarge
        );
        assert_eq!(unfit("1e99999999999 s", Dimension::Time), Unfit::TooLarge);
        assert_eq!(unfit("1.5", Dimension::Count), Unfit::NotWhole);
        let huge = Amount::parse("1e400 W", Dimension::Power).unwrap();
        assert_eq!(f64::from_amount(&huge), Err(Unfit::TooLarge));
    }

    #[test]
    fn anything_else_is_not_a_number_with_a_unit() {
        for text in [
            "", "K", "350", "350 k", "350 K K", "1..2 K", "e3 K", "--1 K", "nan K",
        ] {
            assert!(
                Amount::parse(text, Dimension::Temperature).is_none(),
                "{text}"
            );
        }
    }

    #[test]
    fn values_are_written_as_people_write_them() {
        use Dimension::*;
        for (value, dimension, text) in [
            (350.0, Temperature, "350 K"),
            (298.15, Temperature, "25 °C"),
            (0.0, Temperature, "0 K"),
            (3.09e6, Power, "3.09 MW"),
            (74_798_935_350.0, Length, "0.5 AU"),
            (0.1 / 3600.0, Rate, "0.1 /h"),
            (0.05 / 31_557_600.0, Rate, "5 %/year"),
            (0.25, Fraction, "0.25"),
        ] {
            assert_eq!(value.write(dimension), text);
        }
        assert_eq!(Nanos::from_secs(90).write(Time), "90 s");
        assert_eq!((Nanos::DAY * 10).write(Time), "10 d");
        assert_eq!(Nanos(1_000_000_001).write(Time), "1000000001 ns");
        assert_eq!(Bytes(64 << 20).write(Data), "64 MiB");
    }

    #[test]
    fn no_two_units_of_a_dimension_share_a_spelling_and_examples_parse() {
        for dimension in Dimension::ALL {
            let mut names: Vec<_> = dimension.units().collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{dimension:?}");
            for example in dimension.example().split(" or ") {
                assert!(Amount::parse(example.trim_matches('"'), dimension).is_some());
            }
        }
    }

    proptest! {
        #[test]
        fn writing_and_reading_back_changes_nothing(
            value in prop_oneof![num::f64::NORMAL | num::f64::SUBNORMAL | num::f64::ZERO, -1e6..1e6_f64],
            at in 0..Dimension::ALL.len(),
        ) {
            let dimension = Dimension::ALL[at];
            prop_assert_eq!(read::<f64>(&value.write(dimension), dimension), Some(value));
        }

        #[test]
        fn whole_values_survive_as_well(value: u64, zeros in 0_u32..20) {
            let value = value / 10_u64.pow(zeros) * 10_u64.pow(zeros);
            for dimension in [Dimension::Time, Dimension::Data, Dimension::Bandwidth] {
                prop_assert_eq!(read(&Nanos(value).write(dimension), dimension), Some(Nanos(value)));
            }
        }

        #[test]
        fn no_text_panics(text in "\\PC*|[-+0-9._eE ]{0,60}[a-zµ°/%²^]{0,4}", at in 0..Dimension::ALL.len()) {
            let dimension = Dimension::ALL[at];
            if let Some(amount) = Amount::parse(&text, dimension) {
                let _ = u64::from_amount(&amount);
                let _ = f64::from_amount(&amount);
            }
        }
    }
}
