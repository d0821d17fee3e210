//! How hot and how busy is everybody?
//!
//! Each member says so to all it talks with, every other time it reads its sensors ([`crate::heat::EVERY`]), in a frame of a few bytes. It asks for no
//! answer and decides nothing: placement goes by what was agreed on, not by this. So whoever opens the dashboard of any machine sees all of them, and what
//! is shown says how old it is. Who is cut off is seen to grow old.
//!
//! In a fleet of the most that a cell has seats for that is 63 short frames sent and heard every two seconds. Nothing of it is kept.
//!
//! Deliberately absent: what single programs use. Whoever wants to know asks the machine.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::{Decode, DecodeError, Encode, Kelvin, Reader};

use crate::heat::Reading;
use crate::sensors::{Source, Temperature};

/// One of so many readings is told.
pub(super) const TOLD_EVERY: u32 = 2;

/// How a machine is, by its own sensors.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Vitals {
    /// How busy and how hot it is, and what its programs are given for that.
    #[serde(flatten)]
    pub reading: Reading,
    /// How many leases it holds: what it runs for the fleet.
    pub leases: u32,
    /// Since it said so, in seconds.
    pub age_s: f64,
}

/// The same as it travels: whole numbers of thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    busy: u32,
    clock: u32,
    millikelvin: u32,
    limit_millikelvin: u32,
    modelled: bool,
    leases: u32,
}

/// A share has so many parts.
const WHOLE: u32 = 1_000;
/// Nothing that answers is hotter, in thousandths of a kelvin.
const HOTTEST: u32 = 1_000_000;

fn thousandths(value: f64, most: u32) -> u32 {
    // What is no number is nought, which a cast makes of it.
    (value * 1_000.0).round().clamp(0.0, f64::from(most)) as u32
}

impl Said {
    pub(super) fn of(reading: &Reading, leases: usize) -> Self {
        let kelvin = |celsius| thousandths(Kelvin::from_celsius(celsius).0, HOTTEST);
        Self {
            busy: thousandths(reading.busy, WHOLE),
            clock: thousandths(reading.clock, WHOLE),
            millikelvin: kelvin(reading.temperature.celsius),
            limit_millikelvin: kelvin(reading.temperature.limit_celsius),
            modelled: reading.temperature.source == Source::Modelled,
            leases: u32::try_from(leases).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn vitals(self, age_s: f64) -> Vitals {
        let share = |thousandths| f64::from(thousandths) / 1_000.0;
        let celsius = |millikelvin| Kelvin(share(millikelvin)).as_celsius();
        Vitals {
            reading: Reading {
                busy: share(self.busy),
                temperature: Temperature {
                    celsius: celsius(self.millikelvin),
                    limit_celsius: celsius(self.limit_millikelvin),
                    source: match self.modelled {
                        true => Source::Modelled,
                        false => Source::Measured,
                    },
                },
                clock: share(self.clock),
            },
            leases: self.leases,
            age_s,
        }
    }
}

impl Encode for Said {
    fn encode(&self, out: &mut Vec<u8>) {
        for number in [
            self.busy,
            self.clock,
            self.millikelvin,
            self.limit_millikelvin,
            u32::from(self.modelled),
            self.leases,
        ] {
            number.encode(out);
        }
    }
}

impl Decode for Said {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut number = |what, most| {
            let at = from.position();
            match u32::decode(from)? {
                found if found <= most => Ok(found),
                found => Err(DecodeError::Invalid {
                    at,
                    what,
                    found: found.into(),
                }),
            }
        };
        Ok(Self {
            busy: number("share in thousandths", WHOLE)?,
            clock: number("share in thousandths", WHOLE)?,
            millikelvin: number("temperature", HOTTEST)?,
            limit_millikelvin: number("temperature", HOTTEST)?,
            modelled: number("flag", 1)? == 1,
            leases: number("number of leases", u32::MAX)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::codec::decode_all;

    fn reading(celsius: f64, busy: f64) -> Reading {
        Reading {
            busy,
            temperature: Temperature {
                celsius,
                limit_celsius: 90.0,
                source: Source::Modelled,
            },
            clock: 0.75,
        }
    }

    #[test]
    fn what_is_told_is_heard_to_a_thousandth() {
        let said = Said::of(&reading(41.5, 0.25), 3);
        let heard: Said = decode_all(&said.to_bytes()).unwrap();
        let vitals = heard.vitals(1.5);
        assert!((vitals.reading.temperature.celsius - 41.5).abs() < 1e-3);
        assert!((vitals.reading.temperature.limit_celsius - 90.0).abs() < 1e-3);
        assert_eq!((vitals.reading.busy, vitals.reading.clock), (0.25, 0.75));
        assert_eq!((vitals.leases, vitals.age_s), (3, 1.5));
        assert_eq!(vitals.reading.temperature.source, Source::Modelled);
    }

    #[test]
    fn what_no_machine_can_be_is_neither_said_nor_understood() {
        let said = Said::of(&reading(f64::NAN, 7.0), 0);
        assert_eq!((said.millikelvin, said.busy), (0, WHOLE));
        for wrong in [
            Said {
                busy: 1_001,
                ..said
            },
            Said {
                clock: 1_001,
                ..said
            },
            Said {
                millikelvin: HOTTEST + 1,
                ..said
            },
            Said {
                limit_millikelvin: HOTTEST + 1,
                ..said
            },
        ] {
            assert!(decode_all::<Said>(&wrong.to_bytes()).is_err(), "{wrong:?}");
        }
        let mut flag = said.to_bytes();
        let at = flag.len() - 2;
        flag[at] = 2;
        assert!(decode_all::<Said>(&flag).is_err());
    }
}
