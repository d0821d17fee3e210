//! `--set a.b=c`, and `--set a.b=FROM..TO:STEPS` for a sweep.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::quantity::Decimal;

/// One value put in place of the file's: `thermos.enabled=false`,
/// `shell.2.limit=350K`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Override {
    pub(super) path: Vec<String>,
    pub(super) value: String,
    text: String,
}

/// One key given several values in turn: `thermos.gain=0.1/h..2/h:20`.
#[derive(Clone, Debug, PartialEq)]
pub struct Sweep {
    /// The key, dotted from the root.
    pub path: String,
    /// The unit of every value, empty for bare numbers.
    pub unit: String,
    /// Evenly spaced, both ends included.
    pub values: Vec<f64>,
}

/// Why a `--set` says nothing. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingError {
    /// There is no `=`.
    #[error("found \"{0}\", expected KEY=VALUE, such as thermos.enabled=false")]
    NoValue(String),
    /// What precedes the `=` is no dotted key.
    #[error("\"{0}\" is not a key, such as shell.2.limit")]
    BadKey(String),
    /// What follows the `=` begins like a list, a table or a quoted text and does not end like one.
    #[error("{value} is not a value: {reason}")]
    BadValue {
        /// What was written.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// What follows the `=` is no range.
    #[error("found \"{0}\", expected FROM..TO:STEPS, such as 0.1/h..2/h:20")]
    NotARange(String),
    /// An end of the range is no number.
    #[error("\"{0}\" is not a number with a unit, such as 0.1/h")]
    NotANumber(String),
    /// The ends are measured differently.
    #[error("the range begins in \"{from}\" and ends in \"{to}\"; write both in the same unit")]
    TwoUnits {
        /// The unit of the first value.
        from: String,
        /// The unit of the last value.
        to: String,
    },
    /// Both ends are equal.
    #[error("the range begins and ends at {0}, so there is nothing to sweep")]
    Empty(String),
    /// A sweep has from 2 to [`Sweep::STEPS_MAX`] steps.
    #[error("found \"{0}\" steps, expected a whole number from 2 to {max}", max = Sweep::STEPS_MAX)]
    Steps(String),
}

fn split(text: &str) -> Result<(Vec<String>, &str, &str), SettingError> {
    let (path, value) = text
        .split_once('=')
        .ok_or_else(|| SettingError::NoValue(text.to_owned()))?;
    let (path, value) = (path.trim(), value.trim());
    if value.is_empty() {
        return Err(SettingError::NoValue(text.to_owned()));
    }
    let keys = toml_edit::Key::parse(path).map_err(|_| SettingError::BadKey(path.to_owned()))?;
    let keys = keys.iter().map(|key| key.get().to_owned()).collect();
    Ok((keys, path, value))
}

/// The value as TOML, or `None` for a bare word that stands for itself.
pub(super) fn parse_value(value: &str) -> Result<Option<toml_edit::Value>, String> {
    match value.parse() {
        Ok(value) => Ok(Some(value)),
        Err(error) if value.starts_with(['[', '{', '"', '\'']) => {
            let error: toml_edit::TomlError = error;
            Err(error.message().to_owned())
        }
        Err(_) => Ok(None),
    }
}

impl FromStr for Override {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (keys, _, value) = split(text)?;
        parse_value(value).map_err(|reason| SettingError::BadValue {
            value: value.to_owned(),
            reason,
        })?;
        Ok(Self {
            path: keys,
            value: value.to_owned(),
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Sweep {
    /// More runs than anyone waits for.
    pub const STEPS_MAX: usize = 10_000;

    /// Whether a setting is written as a range, right or wrong.
    #[must_use]
    pub fn is_range(text: &str) -> bool {
        text.split_once('=').is_some_and(|(_, value)| {
            let value = value.trim();
            value.contains("..") && !value.starts_with(['[', '{', '"', '\''])
        })
    }

    /// One setting for each value, to be run in this order.
    pub fn settings(&self) -> impl Iterator<Item = Override> {
        self.values.iter().map(|value| {
            let space = if self.unit.is_empty() { "" } else { " " };
            format!("{}={value}{space}{}", self.path, self.unit)
                .parse()
                .expect("a key that was parsed before and a number")
        })
    }
}

impl FromStr for Sweep {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let (_, path, range) = split(text)?;
        let not_a_range = || SettingError::NotARange(range.to_owned());
        let (ends, steps) = range.rsplit_once(':').ok_or_else(not_a_range)?;
        let (from, to) = ends.split_once("..").ok_or_else(not_a_range)?;
        let end = |text: &str| {
            let number = Decimal::split(text);
            number
                .map(|(number, unit)| (number, unit.to_owned()))
                .ok_or_else(|| SettingError::NotANumber(text.trim().to_owned()))
        };
        let ((first, from_unit), (last, to_unit)) = (end(from)?, end(to)?);
        let unit = match (from_unit.as_str(), to_unit.as_str()) {
            (a, b) if a == b => from_unit,
            ("", _) => to_unit,
            (_, "") => from_unit,
            _ => {
                return Err(SettingError::TwoUnits {
                    from: from_unit,
                    to: to_unit,
                });
            }
        };
        let count = steps
            .trim()
            .parse()
            .ok()
            .filter(|count| (2..=Self::STEPS_MAX).contains(count))
            .ok_or_else(|| SettingError::Steps(steps.trim().to_owned()))?;
        let values = between(first, last, count)
            .ok_or_else(|| SettingError::NotANumber(ends.trim().to_owned()))?;
        if values[0] == values[count - 1] {
            return Err(SettingError::Empty(from.trim().to_owned()));
        }
        Ok(Self {
            path: path.to_owned(),
            unit,
            values,
        })
    }
}

/// `count` values from `first` to `last`. Whole numbers divided once, so that
/// three steps from 0.1 to 0.3 pass through 0.2 and not 0.20000000000000004;
/// `None` if a number has more than about fifteen digits.
fn between(first: Decimal, last: Decimal, count: usize) -> Option<Vec<f64>> {
    const WHOLE_IN_F64: u128 = 1 << 53;
    let exponent = first.exponent.min(last.exponent).min(0);
    let whole = |number: Decimal| {
        let power = 10_u128.checked_pow((number.exponent - exponent).unsigned_abs())?;
        let size = number.digits.checked_mul(power)?;
        let size = i128::try_from(size).ok().filter(|_| size < WHOLE_IN_F64)?;
        Some(if number.negative { -size } else { size })
    };
    let (first, last) = (whole(first)?, whole(last)?);
    let gaps = count as i128 - 1;
    let scale = 10_u128.checked_pow(exponent.unsigned_abs())?;
    let divisor = scale.checked_mul(gaps.unsigned_abs())? as f64;
    let value = |i: i128| (first * (gaps - i) + last * i) as f64 / divisor;
    Some((0..=gaps).map(value).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sweep_is_a_list_of_settings() {
        let sweep: Sweep = "thermos.gain=0.1/h..0.3/h:3".parse().unwrap();
        let settings: Vec<_> = sweep.settings().map(|one| one.to_string()).collect();
        assert_eq!(
            settings,
            [
                "thermos.gain=0.1 /h",
                "thermos.gain=0.2 /h",
                "thermos.gain=0.3 /h"
            ]
        );
        for (text, unit, values) in [
            ("a=1000..3000:3", "", vec![1000.0, 2000.0, 3000.0]),
            ("a=-1..1 K:3", "K", vec![-1.0, 0.0, 1.0]),
            ("a=1e3 W .. 0 W : 2", "W", vec![1000.0, 0.0]),
            ("a=1%..2%:2", "%", vec![1.0, 2.0]),
        ] {
            let sweep: Sweep = text.parse().unwrap();
            assert_eq!(
                (sweep.unit.as_str(), sweep.values),
                (unit, values),
                "{text}"
            );
        }
    }

    #[test]
    fn a_wrong_setting_says_what_was_expected() {
        for (text, says) in [
            (
                "a",
                "found \"a\", expected KEY=VALUE, such as thermos.enabled=false",
            ),
            (
                "a=",
                "found \"a=\", expected KEY=VALUE, such as thermos.enabled=false",
            ),
            ("a..b=1", "\"a..b\" is not a key, such as shell.2.limit"),
            (
                "a=[1, 2",
                "[1, 2 is not a value: unclosed array, expected `]`",
            ),
        ] {
            assert_eq!(text.parse::<Override>().unwrap_err().to_string(), says);
        }
        for (text, says) in [
            (
                "a=1..2",
                "found \"1..2\", expected FROM..TO:STEPS, such as 0.1/h..2/h:20",
            ),
            (
                "a=12:3",
                "found \"12:3\", expected FROM..TO:STEPS, such as 0.1/h..2/h:20",
            ),
            (
                "a=x..2:3",
                "\"x\" is not a number with a unit, such as 0.1/h",
            ),
            (
                "a=1h..2d:3",
                "the range begins in \"h\" and ends in \"d\"; write both in the same unit",
            ),
            (
                "a=1..1:3",
                "the range begins and ends at 1, so there is nothing to sweep",
            ),
            (
                "a=1..2:1",
                "found \"1\" steps, expected a whole number from 2 to 10000",
            ),
            (
                "a=1..2:x",
                "found \"x\" steps, expected a whole number from 2 to 10000",
            ),
        ] {
            assert_eq!(text.parse::<Sweep>().unwrap_err().to_string(), says);
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|[a-z.]{1,5}=[-0-9.e+hKW:\\[\"']{0,20}") {
            let _ = text.parse::<Override>();
            if let Ok(sweep) = text.parse::<Sweep>() {
                prop_assert_eq!(sweep.settings().count(), sweep.values.len());
            }
        }
    }
}
