//! How does this compare with what was measured?
//!
//! The cumulative distributions of GPU power and core temperature on two clusters of
//! A100s at the Shanghai AI Laboratory (Hu et al., *Characterization of Large Language
//! Model Development in the Datacenter*, NSDI '24; AcmeTrace), against those of the replay. The
//! distance is Kolmogorov and Smirnov's: the largest difference between both cumulative
//! distributions, 0 if they are the same and 1 if they do not overlap.
//!
//! Power is compared twice: in watts, where other devices have other powers and must
//! differ, and as a share of the device's maximum (an A100's 400 W there), which says
//! something about how busy they are.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::trace::{List, TraceError};

/// What was measured on a cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Which.
    pub name: String,
    /// Power of its GPUs, W.
    pub power: Distribution,
    /// The most each of them draws, W.
    pub max_watts: f64,
    /// Their core temperature, °C.
    pub celsius: Distribution,
}

impl Measured {
    /// Reads both clusters of AcmeTrace from a folder: `gpu_power_kalos.csv` and so on.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn acme(folder: &Path) -> Result<Vec<Self>, TraceError> {
        let read = |(name, file): (&str, &str)| {
            let power = folder.join(format!("gpu_power_{file}.csv"));
            let celsius = folder.join(format!("gpu_temp_{file}.csv"));
            Ok(Self {
                name: name.to_owned(),
                power: Distribution::read(&power, "power_w", "cdf")?,
                max_watts: physics::devices::A100.max.0,
                celsius: Distribution::read(&celsius, "gpu_temp_c", "cdf")?,
            })
        };
        [("AcmeTrace Kalos", "kalos"), ("AcmeTrace Seren", "seren")]
            .into_iter()
            .map(read)
            .collect()
    }
}

/// Counts in bins of equal width from 0; what is above the last is counted there.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    width: f64,
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(width: f64, bins: usize) -> Self {
        Self {
            width,
            counts: vec![0; bins],
            total: 0,
        }
    }

    /// Counts a value; below 0 is 0.
    pub fn count(&mut self, value: f64) {
        let bin = (value / self.width) as usize;
        let last = self.counts.len() - 1;
        self.counts[bin.min(last)] += 1;
        self.total += 1;
    }

    /// The share of values below the upper end of each bin.
    fn cumulative(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let mut below = 0;
        self.counts.iter().enumerate().map(move |(i, count)| {
            below += count;
            let upper = (i + 1) as f64 * self.width;
            (upper, below as f64 / self.total as f64)
        })
    }

    /// The value that a share of all does not exceed, to a bin; NaN if none was counted.
    #[must_use]
    pub fn quantile(&self, q: f64) -> f64 {
        let found = self.cumulative().find(|(_, share)| *share >= q);
        found.map_or(f64::NAN, |(upper, _)| upper)
    }

    /// The distance from a measured distribution whose values are divided by `unit`;
    /// NaN if nothing was counted.
    #[must_use]
    pub fn distance(&self, measured: &Distribution, unit: f64) -> f64 {
        if self.total == 0 {
            return f64::NAN;
        }
        let apart = self
            .cumulative()
            .map(|(upper, share)| (share - measured.share_below(upper * unit)).abs());
        apart.fold(0.0, f64::max)
    }
}

/// What a distribution comes to at least, in per cent: less is a list that was cut off.
const WHOLE: f64 = 99.99;

/// A cumulative distribution: values and the share in per cent that does not exceed each.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    points: Vec<(f64, f64)>,
}

impl Distribution {
    /// Reads two columns of a list.
    ///
    /// # Errors
    /// The first thing that is wrong: a missing column, a value that is no number, or a
    /// distribution that falls.
    pub fn read(file: &Path, value: &'static str, share: &'static str) -> Result<Self, TraceError> {
        let opened = File::open(file).map_err(|source| TraceError::File {
            file: file.to_owned(),
            what: "a measured distribution",
            source,
        })?;
        Self::parse(opened, file, value, share)
    }

    /// The same from anywhere; `file` is for errors.
    ///
    /// # Errors
    /// As [`Distribution::read`].
    pub fn parse(
        from: impl Read,
        file: &Path,
        value: &'static str,
        share: &'static str,
    ) -> Result<Self, TraceError> {
        let mut list = List::open(file, from)?;
        let (value, share) = (list.column(value)?, list.column(share)?);
        let mut points: Vec<(f64, f64)> = Vec::new();
        while list.next()? {
            let point = (
                list.decimal(value, 0.0, 1e12)?,
                list.decimal(share, 0.0, 100.0)?,
            );
            if points.last().is_some_and(|last| last.0 > point.0) {
                return Err(list.wrong(value, "a value not below that of the line before"));
            }
            if points.last().is_some_and(|last| last.1 > point.1) {
                return Err(list.wrong(share, "a share not below that of the line before"));
            }
            points.push(point);
        }
        match points.last() {
            None => return Err(list.ends_here("at least one point of the distribution")),
            Some((_, last)) if *last < WHOLE => {
                return Err(TraceError::Text {
                    file: file.to_owned(),
                    line: list.line(),
                    found: format!("the list ends at {last} %"),
                    expected: "its last line to say 100 %: it was cut off",
                });
            }
            Some(_) => {}
        }
        Ok(Self { points })
    }

    /// The smallest value that at least this share of what was measured, 0 to 1, does not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let at = (self.points).partition_point(|(_, upto)| *upto < share * 100.0);
        self.points[at.min(self.points.len() - 1)].0
    }

    /// The share of what was measured that does not exceed this, 0 to 1.
    #[must_use]
    pub fn share_below(&self, value: f64) -> f64 {
        let after = self.points.partition_point(|(v, _)| *v <= value);
        match after.checked_sub(1) {
            Some(i) => self.points[i].1 / 100.0,
            None => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(text: &str) -> Result<Distribution, String> {
        let file = Path::new("gpu.csv");
        Distribution::parse(text.as_bytes(), file, "power_w", "cdf").map_err(|e| e.to_string())
    }

    #[test]
    fn the_distance_is_the_largest_between_both_distributions() {
        let same = measured("power_w,cdf\n10,25\n20,50\n30,75\n40,100\n").unwrap();
        let mut histogram = Histogram::new(10.0, 10);
        for value in [5.0, 15.0, 25.0, 35.0] {
            histogram.count(value);
        }
        assert_eq!(histogram.distance(&same, 1.0), 0.0);
        assert_eq!(histogram.distance(&same, 10.0), 0.75);
        // Three of four moved up by one bin: two quarters are where one is expected.
        let mut moved = Histogram::new(10.0, 10);
        for value in [15.0, 15.0, 25.0, 95.0] {
            moved.count(value);
        }
        assert_eq!(moved.distance(&same, 1.0), 0.25);
        assert_eq!(moved.quantile(0.5), 20.0);
        assert!(Histogram::new(1.0, 2).distance(&same, 1.0).is_nan());
    }

    #[test]
    fn a_quantile_is_a_value_that_was_measured() {
        let values = measured("power_w,cdf\n10,25\n20,50\n30,75\n40,100\n").unwrap();
        let quantiles = [0.0, 0.25, 0.26, 0.75, 1.0].map(|share| values.quantile(share));
        assert_eq!(quantiles, [10.0, 10.0, 20.0, 30.0, 40.0]);
        // As many draws lie below a value as were measured below it.
        let below = (0..1_000).filter(|i| values.quantile(f64::from(*i) / 1_000.0) <= 20.0);
        assert_eq!(below.count() as f64 / 1_000.0, 0.501);
    }

    #[test]
    fn what_is_wrong_is_named_with_file_line_and_what_was_expected() {
        for (text, message) in [
            (
                "watts,cdf\n",
                "gpu.csv:1: found the columns \"watts,cdf\"; expected power_w among them",
            ),
            (
                "power_w,cdf\n3,1\n2,1\n",
                "gpu.csv:3: power_w: found \"2\"; expected a value not below that of the line before",
            ),
            (
                "power_w,cdf\n3,2\n3,1\n",
                "gpu.csv:3: cdf: found \"1\"; expected a share not below that of the line before",
            ),
            (
                "power_w,cdf\n3,101\n",
                "gpu.csv:2: cdf: found \"101\"; expected a number from 0 to 100",
            ),
            (
                "power_w,cdf\n3,99\n",
                "gpu.csv:3: the list ends at 99 %; expected its last line to say 100 %: it was cut off",
            ),
            (
                "power_w,cdf\n",
                "gpu.csv:2: the list ends here; expected at least one point of the distribution",
            ),
        ] {
            assert_eq!(measured(text).unwrap_err(), message);
        }
    }
}
