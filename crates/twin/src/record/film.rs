//! What did the machine room look like, minute by minute?
//!
//! A [`Film`] keeps four bytes for each node in each of at most [`Film::FRAMES_MAX`]
//! frames: how busy it was, how hot, how much of its GPUs was free, and how much of that
//! nobody typical could have used. A pixel's colour has no more than a byte of meaning, and
//! 1,024 nodes in 300 frames are 1.6 MB of the page. In memory each frame is packed (RFC 1951): nodes that stand next to
//! each other look much the same.
//!
//! Memory does not grow with simulated time: when there are too many frames every second
//! one goes, as in [`super::Map`].
//!
//! Deliberately absent: which job runs where. That is [`super::cluster::Jobs`], exact to the
//! nanosecond; a frame is only a picture.

use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;

/// Where a node stands, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Its name in the trace or universe.
    pub name: String,
    /// The model of its GPUs; empty if it has none.
    pub model: String,
    /// Its GPUs.
    pub gpus: u8,
    /// Its row, from 0.
    pub row: u32,
    /// Its rack, counted through the whole site from 0; a rack stands in one row.
    pub rack: u32,
    /// Its cooling loop, an index into [`super::cluster::Cluster::loops`].
    pub coolant: u32,
    /// Where its hottest device throttles by itself; NaN if it does not.
    pub limit_kelvin: f32,
}

/// What every node measured at one time, a value per node in each.
#[derive(Clone, Copy, Debug)]
pub struct Still<'a> {
    /// Share of its compute in use, 0 to 1; NaN for a node that is dark or switched off.
    pub utilisation: &'a [f32],
    /// Its hottest device, in kelvin; NaN if unknown.
    pub kelvin: &'a [f32],
    /// Share of its GPUs that no job holds, 0 to 1.
    pub free: &'a [f32],
    /// Share of its GPUs that is free and of no use to a typical job (the expected
    /// fragment of Weng et al., USENIX ATC 2023, § 3.2, over the node's GPUs), 0 to 1.
    pub fragmented: &'a [f32],
}

/// One picture, a byte per node in each column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The four columns, one after the other.
    all: Box<[u8]>,
}

/// Every node of a site, over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Film {
    nodes: Vec<Node>,
    seconds: Vec<f64>,
    /// The columns of each, one after the other, packed.
    frames: Vec<Box<[u8]>>,
    /// One in this many frames offered is kept; 0 stands for 1.
    every: u64,
    offered: u64,
}

/// The byte for a share that is not known: the node is dark.
pub const UNKNOWN: u8 = 255;
/// The byte for a share of 1.
pub const WHOLE: u8 = 250;
/// The temperature of the byte 0, which itself says that none is known.
pub const KELVIN_LOW: f32 = 273.15;
/// Kelvin per step of a temperature's byte: half a kelvin, up to 127.5 °C.
pub const KELVIN_STEP: f32 = 0.5;

impl Film {
    /// More frames than this no slider can show.
    pub const FRAMES_MAX: usize = 300;

    /// A film of these nodes, without frames.
    #[must_use]
    pub fn new(nodes: Vec<Node>) -> Self {
        Self {
            nodes,
            ..Self::default()
        }
    }

    /// The nodes, in the order of every frame.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// When each frame was taken.
    #[must_use]
    pub fn seconds(&self) -> &[f64] {
        &self.seconds
    }

    /// What was kept of the frames.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = Frame> + '_ {
        let columns = 4 * self.nodes.len();
        self.frames.iter().map(move |packed| {
            let mut all = Vec::with_capacity(columns);
            let unpacked = DeflateDecoder::new(&packed[..]).read_to_end(&mut all);
            unpacked.expect("what was packed in memory unpacks");
            Frame { all: all.into() }
        })
    }

    /// Whether the next frame would be kept: one that would not need not be computed.
    #[must_use]
    pub const fn wants(&self) -> bool {
        self.every == 0 || self.offered.is_multiple_of(self.every)
    }

    /// Lets a frame pass that was not wanted.
    pub const fn skip(&mut self) {
        self.offered += 1;
    }

    /// Offers a frame.
    ///
    /// # Panics
    /// If a column does not have one value per node.
    pub fn push(&mut self, seconds: f64, still: Still<'_>) {
        for column in [
            still.utilisation,
            still.kelvin,
            still.free,
            still.fragmented,
        ] {
            assert_eq!(
                column.len(),
                self.nodes.len(),
                "a frame has one value per node of the film"
            );
        }
        self.every = self.every.max(1);
        if self.wants() {
            let shares = |column: &[f32]| -> Vec<u8> { column.iter().map(|&v| share(v)).collect() };
            let kelvin: Vec<u8> = still.kelvin.iter().map(|&k| halves(k)).collect();
            let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
            let written = [
                shares(still.utilisation),
                kelvin,
                shares(still.free),
                shares(still.fragmented),
            ]
            .iter()
            .try_for_each(|column| packed.write_all(column))
            .and_then(|()| packed.finish());
            let packed = written.expect("memory takes everything");
            self.seconds.push(seconds);
            self.frames.push(packed.into());
        }
        self.offered += 1;
        if self.frames.len() > Self::FRAMES_MAX {
            keep_every_second(&mut self.seconds);
            keep_every_second(&mut self.frames);
            self.every *= 2;
        }
    }
}

impl Frame {
    fn column(&self, number: usize) -> &[u8] {
        let nodes = self.all.len() / 4;
        &self.all[number * nodes..][..nodes]
    }

    /// Shares of compute in use: [`WHOLE`] for all of it, [`UNKNOWN`] for a dark node.
    #[must_use]
    pub fn utilisation(&self) -> &[u8] {
        self.column(0)
    }

    /// Temperatures, in steps of [`KELVIN_STEP`] above [`KELVIN_LOW`]; 0 if unknown.
    #[must_use]
    pub fn kelvin(&self) -> &[u8] {
        self.column(1)
    }

    /// Shares of GPUs that no job holds, as [`Frame::utilisation`].
    #[must_use]
    pub fn free(&self) -> &[u8] {
        self.column(2)
    }

    /// Shares of GPUs that are free and of no use, as [`Frame::utilisation`].
    #[must_use]
    pub fn fragmented(&self) -> &[u8] {
        self.column(3)
    }
}

/// The first, third, fifth and so on.
pub(super) fn keep_every_second<T>(all: &mut Vec<T>) {
    let mut index = 0;
    all.retain(|_| {
        index += 1;
        index % 2 == 1
    });
}

fn share(value: f32) -> u8 {
    if value.is_nan() {
        return UNKNOWN;
    }
    (value.clamp(0.0, 1.0) * f32::from(WHOLE)).round() as u8
}

fn halves(kelvin: f32) -> u8 {
    if kelvin.is_nan() {
        return 0;
    }
    ((kelvin - KELVIN_LOW) / KELVIN_STEP)
        .round()
        .clamp(1.0, 255.0) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn film(nodes: usize) -> Film {
        let node = |i| Node {
            name: format!("n{i}"),
            model: "H100".to_owned(),
            gpus: 8,
            row: 0,
            rack: 0,
            coolant: 0,
            limit_kelvin: 360.0,
        };
        Film::new((0..nodes).map(node).collect())
    }

    #[test]
    fn a_byte_keeps_a_share_to_half_a_percent_and_a_temperature_to_a_quarter_kelvin() {
        for i in 0..=1_000_u16 {
            let value = f32::from(i) / 1_000.0;
            let back = f32::from(share(value)) / f32::from(WHOLE);
            assert!((back - value).abs() <= 0.5 / f32::from(WHOLE) + 1e-6);
            let kelvin = 274.0 + 120.0 * value;
            let back = KELVIN_LOW + KELVIN_STEP * f32::from(halves(kelvin));
            assert!((back - kelvin).abs() <= KELVIN_STEP / 2.0 + 1e-3);
        }
        assert_eq!((share(f32::NAN), halves(f32::NAN)), (UNKNOWN, 0));
        // Beyond the scale is its end, never the byte that says unknown.
        assert_eq!((share(7.0), halves(1e9), halves(0.0)), (WHOLE, 255, 1));
    }

    #[test]
    fn a_frame_comes_out_as_it_went_in() {
        let mut film = film(3);
        film.push(
            7.0,
            Still {
                utilisation: &[0.0, 0.5, f32::NAN],
                kelvin: &[300.0, 310.0, f32::NAN],
                free: &[1.0, 0.25, 0.75],
                fragmented: &[0.1, 0.2, 0.3],
            },
        );
        let frame = film.frames().next().expect("it was kept");
        assert_eq!(frame.utilisation(), [0, 125, UNKNOWN]);
        assert_eq!(frame.kelvin(), [54, 74, 0]);
        assert_eq!(frame.free(), [250, 63, 188]);
        assert_eq!(frame.fragmented(), [25, 50, 75]);
    }

    #[test]
    fn a_film_of_any_length_keeps_a_bounded_even_spread() {
        for offered in [1_u32, 301, 86_400] {
            let mut film = film(2);
            for t in 0..offered {
                let one = [0.5, f32::NAN];
                film.push(
                    f64::from(t),
                    Still {
                        utilisation: &one,
                        kelvin: &one,
                        free: &one,
                        fragmented: &one,
                    },
                );
            }
            let seconds = film.seconds();
            assert!(seconds.len() <= Film::FRAMES_MAX && seconds.len() == film.frames().len());
            assert!(offered == 1 || seconds.len() * 2 >= Film::FRAMES_MAX);
            let gaps: Vec<f64> = seconds.windows(2).map(|w| w[1] - w[0]).collect();
            assert!(gaps.windows(2).all(|w| w[0] == w[1]), "{gaps:?}");
        }
    }
}
