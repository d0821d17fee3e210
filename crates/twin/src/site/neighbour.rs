//! What does the machine next door draw?
//!
//! A record of power over time, as it was published for the Frontier supercomputer: the
//! power of each of its 25 cooling distribution units in watts, every 15 s, in columns
//! `power[1]` and so on beside `time` in seconds. Only their sum counts here. A
//! machine of many megawatts on the same plant is the worst neighbour a site can
//! have: on 7 April 2024 Frontier's power rose by 3.09 MW within 15 s.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use wire::{Instant, Watts};

use super::plan::Neighbour;
use super::trace::{List, SECONDS_MAX, TraceError};

/// Power over time.
#[derive(Clone, Debug, PartialEq)]
pub struct PowerRecord {
    seconds: Vec<f64>,
    watts: Vec<f64>,
}

/// More than any machine draws: what is above is not watts.
const WATTS_MAX: f64 = 1e10;

impl PowerRecord {
    /// Reads a record.
    ///
    /// # Errors
    /// The first thing that is wrong: no column of power, a value that is no power, or time
    /// that does not advance.
    pub fn read(file: &Path) -> Result<Self, TraceError> {
        let opened = File::open(file).map_err(|source| TraceError::File {
            file: file.to_owned(),
            what: "power over time",
            source,
        })?;
        Self::parse(opened, file)
    }

    /// Reads a record from anywhere; `file` is for errors.
    ///
    /// # Errors
    /// As [`PowerRecord::read`].
    pub fn parse(from: impl Read, file: &Path) -> Result<Self, TraceError> {
        let mut list = List::open(file, from)?;
        let time = list.column("time")?;
        let powers = list.columns_like("power");
        if powers.is_empty() {
            list.column("power")?;
        }
        let (mut seconds, mut watts) = (Vec::<f64>::new(), Vec::new());
        while list.next()? {
            let at = list.decimal(time, 0.0, SECONDS_MAX as f64)?;
            if seconds.last().is_some_and(|last| *last >= at) {
                return Err(list.wrong(time, "a time after that of the line before"));
            }
            let mut sum = 0.0;
            for &power in &powers {
                sum += list.decimal(power, 0.0, WATTS_MAX)?;
            }
            seconds.push(at);
            watts.push(sum);
        }
        if watts.is_empty() {
            return Err(list.ends_here("at least one line of power"));
        }
        Ok(Self { seconds, watts })
    }

    /// The power at a time in seconds: the last that was recorded until then.
    #[must_use]
    pub fn at(&self, seconds: f64) -> Watts {
        let after = self.seconds.partition_point(|&s| s <= seconds);
        Watts(self.watts[after.saturating_sub(1)])
    }

    /// The largest rise from one line to the next, and when it began.
    #[must_use]
    pub fn largest_step(&self) -> (f64, Watts) {
        let steps = self.watts.windows(2).zip(&self.seconds);
        let steps = steps.map(|(pair, &at)| (at, Watts(pair[1] - pair[0])));
        steps.fold((0.0, Watts::ZERO), |most, step| {
            if step.1 > most.1 { step } else { most }
        })
    }
}

impl Neighbour {
    /// What it takes from our loops, all together, at a time of the run, once the plant
    /// has followed.
    #[must_use]
    pub fn takes(&self, record: &PowerRecord, now: Instant) -> Watts {
        let since = now.since(Instant::EPOCH);
        if since < self.at || since >= self.at + self.lasts {
            return Watts::ZERO;
        }
        let power = record.at((since - self.at + self.from).as_secs_f64());
        Watts((power.0 - self.above.0).max(0.0) * self.share).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "time,power[1],power[2],OA Wetbulb Temp\n\
        0.0,10.0,20.0,4.5\n15.0,30.0,40.5,4.5\n30.0,0.0,1.0,4.5\n";

    fn parse(text: &str) -> Result<PowerRecord, String> {
        PowerRecord::parse(text.as_bytes(), Path::new("cdu.csv")).map_err(|e| e.to_string())
    }

    #[test]
    fn units_add_up_and_the_last_line_holds() {
        let record = parse(RECORD).unwrap();
        let found = [0.0, 14.9, 15.0, 99.0].map(|s| record.at(s).0);
        assert_eq!(found, [30.0, 30.0, 70.5, 1.0]);
        assert_eq!(record.largest_step(), (0.0, Watts(40.5)));
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_what_was_expected() {
        for (text, message) in [
            (
                "time,watts\n0,1\n",
                "cdu.csv:1: found the columns \"time,watts\"; expected power among them",
            ),
            (
                "time,power[1]\n",
                "cdu.csv:2: the list ends here; expected at least one line of power",
            ),
            (
                "time,power[1]\n0,hot\n",
                "cdu.csv:2: power: found \"hot\"; expected a number from 0 to 10000000000",
            ),
            (
                "time,power[1]\n5,1\n5,1\n",
                "cdu.csv:3: time: found \"5\"; expected a time after that of the line before",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), message);
        }
    }
}
