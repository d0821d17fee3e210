//! How did it go over time?
//!
//! Two kinds of picture. A **chart** follows a few *groups* (shells, cooling loops,
//! the one cell) through many samples; a **map** shows many *holons* (cells, racks,
//! tiles) in fewer frames. Both keep `f32`: a pixel has ten bits, a double has 53.
//!
//! What only a cluster has (its queue, tenants and jobs, every node of it) hangs on the
//! series as a [`Cluster`].
//!
//! What was not measured is NaN. A metric that no sample of a group measured draws
//! no chart.

use super::Cluster;

/// What is sampled per group. Declared once: chart, history and page use these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Metric {
    /// Temperature, mean over living tiles.
    KelvinMean,
    /// Temperature of the hottest living tile.
    KelvinMax,
    /// Temperature that 99 of 100 living tiles do not exceed.
    KelvinP99,
    /// Heat to be carried away, as a fraction of what can be; above 1 it warms up.
    Load,
    /// Clock, mean over living tiles, as a fraction of full.
    Clock,
    /// Share of its dynamic power that the shells outside let a shell spend, mean over its cells.
    Budget,
    /// The same of the cell that is allowed least.
    BudgetMin,
    /// Share of compute in use.
    Utilisation,
    /// Tiles that are dark by now.
    Dark,
    /// Pieces of work that wait.
    Waiting,
}

/// What one group measured at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// See [`Metric::KelvinMean`].
    pub kelvin_mean: f32,
    /// See [`Metric::KelvinMax`].
    pub kelvin_max: f32,
    /// See [`Metric::KelvinP99`].
    pub kelvin_p99: f32,
    /// See [`Metric::Load`].
    pub load: f32,
    /// See [`Metric::Clock`].
    pub clock: f32,
    /// See [`Metric::Budget`].
    pub budget: f32,
    /// See [`Metric::BudgetMin`].
    pub budget_min: f32,
    /// See [`Metric::Utilisation`].
    pub utilisation: f32,
    /// See [`Metric::Dark`].
    pub dark: f32,
    /// See [`Metric::Waiting`].
    pub waiting: f32,
}

/// A shell, a cooling loop, a cell: what has one line in a chart.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Its name in the universe's words.
    pub name: String,
    /// What no tile in it may exceed; NaN if there is no limit.
    pub limit_kelvin: f32,
    /// Where its tiles begin to throttle by themselves; NaN if they do not.
    pub throttle_kelvin: f32,
    /// The load above which whoever makes its heat is to slow down; NaN if nobody is.
    pub setpoint: f32,
    /// Tiles in it.
    pub tiles: u64,
    columns: [Vec<f32>; Metric::ALL.len()],
}

/// How the holons of a map lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Concentric, one ring per group, the first innermost. `x` is the place around
    /// the ring in turns, `y` is not used.
    Rings,
    /// `x` the place in a row, `y` the row.
    Rows,
    /// `x` and `y` the axial column and row of [`wire::Hexagons`].
    Hexagons,
}

/// A cell, rack or tile on the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Holon {
    /// Its name; if empty, the page says its kind and number.
    pub name: String,
    /// The index of its group, whose limits it is held against.
    pub group: u32,
    /// See [`Layout`].
    pub x: f32,
    /// See [`Layout`].
    pub y: f32,
}

/// Many holons, in few frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    layout: Layout,
    holons: Vec<Holon>,
    frames: Vec<Frame>,
    /// One in this many frames offered is kept.
    every: u64,
    offered: u64,
}

/// One picture of the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// When.
    pub seconds: f64,
    /// The hottest living tile of each holon; NaN if none lives.
    pub kelvin: Vec<f32>,
    /// The share of each holon's tiles that is dark.
    pub dark: Vec<f32>,
}

/// Something worth a mark in every chart: a fault, the first throttle.
#[derive(Clone, Debug, PartialEq)]
pub struct Notable {
    /// When.
    pub seconds: f64,
    /// What, in words.
    pub text: String,
}

/// A run over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    seconds: Vec<f64>,
    groups: Vec<Group>,
    map: Option<Map>,
    cluster: Option<Box<Cluster>>,
    notables: Vec<Notable>,
    notables_untold: u64,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Self; 10] = [
        Self::KelvinMean,
        Self::KelvinMax,
        Self::KelvinP99,
        Self::Load,
        Self::Clock,
        Self::Budget,
        Self::BudgetMin,
        Self::Utilisation,
        Self::Dark,
        Self::Waiting,
    ];

    /// The word for it in `history.db` and on the page.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::KelvinMean => "kelvin_mean",
            Self::KelvinMax => "kelvin_max",
            Self::KelvinP99 => "kelvin_p99",
            Self::Load => "load",
            Self::Clock => "clock",
            Self::Budget => "budget",
            Self::BudgetMin => "budget_min",
            Self::Utilisation => "utilisation",
            Self::Dark => "dark",
            Self::Waiting => "waiting",
        }
    }

    /// Its unit; empty for a fraction or a count.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::KelvinMean | Self::KelvinMax | Self::KelvinP99 => "K",
            Self::Load
            | Self::Clock
            | Self::Budget
            | Self::BudgetMin
            | Self::Utilisation
            | Self::Dark
            | Self::Waiting => "",
        }
    }

    /// What several samples look like as one. Of what is an extreme already the
    /// extreme is kept, so that no peak is averaged away.
    fn together(self, samples: &[f32]) -> f32 {
        let known = samples.iter().copied().filter(|v| v.is_finite());
        match self {
            Self::KelvinMax | Self::KelvinP99 | Self::Load | Self::Dark | Self::Waiting => {
                known.fold(f32::NAN, f32::max)
            }
            Self::BudgetMin => known.fold(f32::NAN, f32::min),
            Self::KelvinMean | Self::Clock | Self::Budget | Self::Utilisation => {
                let (sum, count) = known.fold((0.0, 0), |(s, n), v| (s + f64::from(v), n + 1));
                (sum / f64::from(count)) as f32
            }
        }
    }
}

impl Sample {
    /// Nothing measured.
    pub const UNKNOWN: Self = Self {
        kelvin_mean: f32::NAN,
        kelvin_max: f32::NAN,
        kelvin_p99: f32::NAN,
        load: f32::NAN,
        clock: f32::NAN,
        budget: f32::NAN,
        budget_min: f32::NAN,
        utilisation: f32::NAN,
        dark: f32::NAN,
        waiting: f32::NAN,
    };

    /// One of its numbers.
    #[must_use]
    pub const fn get(&self, metric: Metric) -> f32 {
        match metric {
            Metric::KelvinMean => self.kelvin_mean,
            Metric::KelvinMax => self.kelvin_max,
            Metric::KelvinP99 => self.kelvin_p99,
            Metric::Load => self.load,
            Metric::Clock => self.clock,
            Metric::Budget => self.budget,
            Metric::BudgetMin => self.budget_min,
            Metric::Utilisation => self.utilisation,
            Metric::Dark => self.dark,
            Metric::Waiting => self.waiting,
        }
    }
}

impl Sample {
    /// Replaces one of its numbers.
    pub const fn set(&mut self, metric: Metric, value: f32) {
        *match metric {
            Metric::KelvinMean => &mut self.kelvin_mean,
            Metric::KelvinMax => &mut self.kelvin_max,
            Metric::KelvinP99 => &mut self.kelvin_p99,
            Metric::Load => &mut self.load,
            Metric::Clock => &mut self.clock,
            Metric::Budget => &mut self.budget,
            Metric::BudgetMin => &mut self.budget_min,
            Metric::Utilisation => &mut self.utilisation,
            Metric::Dark => &mut self.dark,
            Metric::Waiting => &mut self.waiting,
        } = value;
    }
}

impl Default for Sample {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl Group {
    /// A group without samples.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        tiles: u64,
        limit_kelvin: f32,
        throttle_kelvin: f32,
    ) -> Self {
        Self {
            name: name.into(),
            limit_kelvin,
            throttle_kelvin,
            setpoint: f32::NAN,
            tiles,
            columns: Default::default(),
        }
    }

    /// The same group, whose load is to stay below this.
    #[must_use]
    pub const fn below(mut self, setpoint: f64) -> Self {
        self.setpoint = setpoint as f32;
        self
    }

    /// One metric over time, a value per sample.
    #[must_use]
    pub fn column(&self, metric: Metric) -> &[f32] {
        &self.columns[metric as usize]
    }

    /// Whether any sample measured it.
    #[must_use]
    pub fn measured(&self, metric: Metric) -> bool {
        self.column(metric).iter().any(|v| v.is_finite())
    }
}

impl Map {
    /// More frames than this no slider can show.
    pub const FRAMES_MAX: usize = 400;
    /// Holons × frames; each takes 4 bytes of the page, so 6 MB of it.
    pub const VALUES_MAX: usize = 1_500_000;

    /// A map without frames.
    #[must_use]
    pub fn new(layout: Layout, holons: Vec<Holon>) -> Self {
        Self {
            layout,
            holons,
            frames: Vec::new(),
            every: 1,
            offered: 0,
        }
    }

    /// How its holons lie.
    #[must_use]
    pub const fn layout(&self) -> Layout {
        self.layout
    }

    /// What is on it.
    #[must_use]
    pub fn holons(&self) -> &[Holon] {
        &self.holons
    }

    /// What was kept of the frames.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether the next frame would be kept: one that would not need not be computed.
    #[must_use]
    pub const fn wants(&self) -> bool {
        self.offered.is_multiple_of(self.every)
    }

    /// Offers a frame, with a value per holon. Memory stays bounded: when there are too many, every
    /// second one goes, and from then on only half as many are kept.
    pub fn push(&mut self, frame: Frame) {
        assert_eq!(
            (frame.kelvin.len(), frame.dark.len()),
            (self.holons.len(), self.holons.len()),
            "a frame has one value per holon of the map"
        );
        if self.wants() {
            self.frames.push(frame);
        }
        self.offered += 1;
        let too_many = self.frames.len() > Self::FRAMES_MAX
            || self.frames.len() * self.holons.len() > Self::VALUES_MAX;
        if too_many && self.frames.len() > 2 {
            let mut index = 0;
            self.frames.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.every *= 2;
        }
    }
}

impl Series {
    /// Marks beyond this number are counted, not told: a chart full of lines says
    /// nothing, and the history has them all.
    pub const NOTABLES_MAX: usize = 500;
    /// Samples kept of a run of whatever length: two for each pixel of a chart. When there are
    /// more, each two of the neighbours become one, as in a chart.
    pub const SAMPLES_MAX: usize = 2_000;

    /// A series of these groups, on this map.
    #[must_use]
    pub fn new(groups: Vec<Group>, map: Option<Map>) -> Self {
        if let Some(map) = &map {
            assert!(
                map.holons.iter().all(|h| (h.group as usize) < groups.len()),
                "each holon of the map belongs to a group of the series"
            );
        }
        Self {
            groups,
            map,
            ..Self::default()
        }
    }

    /// When samples were taken.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// The groups with their columns.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The map, if the universe has one.
    #[must_use]
    pub const fn map(&self) -> Option<&Map> {
        self.map.as_ref()
    }

    /// The map, to push frames to.
    pub const fn map_mut(&mut self) -> Option<&mut Map> {
        self.map.as_mut()
    }

    /// The same series, of a cluster.
    #[must_use]
    pub fn with_cluster(mut self, cluster: Cluster) -> Self {
        self.cluster = Some(Box::new(cluster));
        self
    }

    /// What only a cluster has.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The same, to be added to.
    pub fn cluster_mut(&mut self) -> Option<&mut Cluster> {
        self.cluster.as_deref_mut()
    }

    /// The marks, in the order they were made.
    #[must_use]
    pub fn notables(&self) -> &[Notable] {
        &self.notables
    }

    /// Marks that were made beyond [`Self::NOTABLES_MAX`].
    #[must_use]
    pub const fn notables_untold(&self) -> u64 {
        self.notables_untold
    }

    /// Takes a sample of every group, in the order of the groups.
    pub fn push(&mut self, seconds: f64, samples: &[Sample]) {
        assert_eq!(
            samples.len(),
            self.groups.len(),
            "a sample has one row per group"
        );
        debug_assert!(
            self.seconds.last().is_none_or(|&last| last <= seconds),
            "time does not run backwards"
        );
        self.seconds.push(seconds);
        for (group, sample) in self.groups.iter_mut().zip(samples) {
            for metric in Metric::ALL {
                group.columns[metric as usize].push(sample.get(metric));
            }
        }
        if self.seconds.len() > Self::SAMPLES_MAX {
            let (seconds, columns) = self.together(2);
            self.seconds = seconds;
            for (group, columns) in self.groups.iter_mut().zip(columns) {
                group.columns = columns;
            }
        }
    }

    /// So many neighbours as one, which is placed at their end.
    fn together(&self, stretch: usize) -> (Vec<f64>, Vec<[Vec<f32>; Metric::ALL.len()]>) {
        let last = |times: &[f64]| times.last().copied();
        let columns = self.groups.iter().map(|group| {
            Metric::ALL.map(|metric| {
                let stretches = group.column(metric).chunks(stretch);
                stretches.map(|values| metric.together(values)).collect()
            })
        });
        let seconds = self.seconds.chunks(stretch).filter_map(last);
        (seconds.collect(), columns.collect())
    }

    /// Marks something in every chart.
    pub fn note(&mut self, seconds: f64, text: impl Into<String>) {
        if self.notables.len() < Self::NOTABLES_MAX {
            self.notables.push(Notable {
                seconds,
                text: text.into(),
            });
        } else {
            self.notables_untold += 1;
        }
    }

    /// The same samples as at most `points`, for a chart that has no more pixels;
    /// without the map and the cluster. Each stands for a stretch of time and is placed at its end.
    #[must_use]
    pub fn thinned(&self, points: usize) -> Self {
        let stretch = self.seconds.len().div_ceil(points.max(1)).max(1);
        let (seconds, columns) = self.together(stretch);
        let groups = self.groups.iter().zip(columns);
        let groups = groups.map(|(group, columns)| Group {
            columns,
            name: group.name.clone(),
            ..*group
        });
        Self {
            seconds,
            groups: groups.collect(),
            map: None,
            cluster: None,
            notables: self.notables.clone(),
            notables_untold: self.notables_untold,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holons(count: usize) -> Vec<Holon> {
        (0..count)
            .map(|i| Holon {
                name: String::new(),
                group: 0,
                x: i as f32,
                y: 0.0,
            })
            .collect()
    }

    #[test]
    fn a_thinned_series_keeps_the_worst_and_averages_the_rest() {
        let mut series = Series::new(vec![Group::new("inner", 10, 400.0, 380.0)], None);
        for i in 0..10_u8 {
            let sample = Sample {
                kelvin_mean: f32::from(i),
                kelvin_max: if i == 3 { 500.0 } else { f32::from(i) },
                ..Sample::UNKNOWN
            };
            series.push(f64::from(i), &[sample]);
        }
        let thin = series.thinned(2);
        assert_eq!(thin.seconds(), [4.0, 9.0]);
        assert_eq!(thin.groups()[0].column(Metric::KelvinMean), [2.0, 7.0]);
        assert_eq!(thin.groups()[0].column(Metric::KelvinMax), [500.0, 9.0]);
        assert!(!thin.groups()[0].measured(Metric::Waiting));
        assert_eq!(series.thinned(10).seconds(), series.seconds());
    }

    #[test]
    fn a_series_of_any_length_is_bounded_and_keeps_the_worst() {
        let mut series = Series::new(vec![Group::new("inner", 10, 400.0, 380.0)], None);
        for i in 0..10 * Series::SAMPLES_MAX as u32 {
            let sample = Sample {
                kelvin_max: if i == 777 { 390.0 } else { 300.0 },
                clock: (i % 2) as f32,
                ..Sample::UNKNOWN
            };
            series.push(f64::from(i), &[sample]);
            assert!(series.seconds().len() <= Series::SAMPLES_MAX);
        }
        let group = &series.groups()[0];
        let hottest = group.column(Metric::KelvinMax).iter().copied();
        assert_eq!(hottest.fold(0.0, f32::max), 390.0);
        // Ones and zeros by turns are halves wherever several became one.
        let clock = group.column(Metric::Clock);
        assert!(clock[..clock.len() / 2].iter().all(|&c| c == 0.5));
        assert!(series.seconds().windows(2).all(|w| w[0] < w[1]));
        assert!(!group.measured(Metric::Budget));
    }

    #[test]
    fn a_map_offered_any_number_of_frames_keeps_a_bounded_even_spread() {
        for count in [1, 700, 10_000] {
            let mut map = Map::new(Layout::Rows, holons(count));
            for i in 0..3_000_u32 {
                map.push(Frame {
                    seconds: f64::from(i),
                    kelvin: vec![300.0; count],
                    dark: vec![0.0; count],
                });
            }
            let frames = map.frames();
            assert!(frames.len() <= Map::FRAMES_MAX && frames.len() >= 70);
            assert!(frames.len() * count <= Map::VALUES_MAX);
            let gap = frames[1].seconds - frames[0].seconds;
            for pair in frames.windows(2) {
                assert_eq!(pair[1].seconds - pair[0].seconds, gap);
            }
        }
    }

    #[test]
    fn marks_beyond_the_bound_are_counted() {
        let mut series = Series::new(Vec::new(), None);
        for i in 0..Series::NOTABLES_MAX + 3 {
            series.note(i as f64, "a cooling loop failed");
        }
        assert_eq!(series.notables().len(), Series::NOTABLES_MAX);
        assert_eq!(series.notables_untold(), 3);
    }
}
