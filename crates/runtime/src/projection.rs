//! What does one torus tell the next about itself, however large it is?
//!
//! As many bytes for a million processes as for none, every number at its place.
//! Nothing in it is counted for the occasion: each number is kept up to date as
//! events happen. A projection replaces the one before; an older one, or the same
//! again, changes nothing.

use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Instant, Nanos, Reader};

use crate::pid::{Strand, Weight};

/// One torus as the next one sees it.
//= requirements B2
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projection {
    /// Whose.
    pub from: Strand,
    /// How often that torus has been rebuilt.
    pub incarnation: u32,
    /// Counts up with each.
    pub sequence: u64,
    /// When it was made.
    pub sent: Instant,
    /// How long until the next one.
    pub interval: Nanos,
    /// Processes there.
    pub processes: u32,
    /// Sites that are free.
    pub free: u32,
    /// Processes that wait for a turn.
    pub ready: u32,
    /// Messages in mailboxes.
    pub mail: u32,
    /// Turns taken since the beginning.
    pub events: u64,
    /// Deadlines missed since the beginning.
    pub missed: u64,
    /// The earliest deadline that somebody waits with; [`Instant::END`] for none.
    pub earliest: Instant,
    /// The lightest work that is admitted.
    pub floor: Weight,
    /// Processes without a deadline that wait for a turn, by weight.
    pub weights: [u32; Weight::CLASSES],
    /// The boundary face: processes in each of 8 × 8 squares of the torus, along
    /// the curve.
    pub face: [u32; 64],
    /// Sheets of the log written.
    pub written: u64,
    /// The sheet that holds the latest snapshot or audit.
    pub cut: u64,
    /// What the state amounted to there.
    pub digest: u64,
    /// The incarnation to be put in the place of the torus before that one, which
    /// it has given up; 0 if it has not. Whoever reads this is asked to consent.
    pub asking: u32,
}

/// The requirement's limit, in bytes.
pub const PROJECTION_BYTES_MAX: usize = 5_000;

impl Projection {
    /// Its length on the wire.
    pub const BYTES: usize = 2 + 9 * 8 + 4 * (6 + Weight::CLASSES + 64);
}

const _: () = assert!(Projection::BYTES + crate::packet::OVERHEAD <= PROJECTION_BYTES_MAX);

impl Encode for Projection {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([self.from as u8, self.floor.class() as u8]);
        for long in [
            self.sequence,
            self.sent.0,
            self.interval.0,
            self.events,
            self.missed,
            self.earliest.0,
            self.written,
            self.cut,
            self.digest,
        ] {
            out.extend(long.to_le_bytes());
        }
        let shorts = [
            self.incarnation,
            self.processes,
            self.free,
            self.ready,
            self.mail,
            self.asking,
        ];
        for short in shorts.iter().chain(&self.weights).chain(&self.face) {
            out.extend(short.to_le_bytes());
        }
    }
}

impl Decode for Projection {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        fn long(from: &mut Reader<'_>) -> Result<u64, DecodeError> {
            let bytes = from.bytes(8)?;
            Ok(u64::from_le_bytes(bytes.try_into().expect("8 bytes")))
        }
        fn short(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
            let bytes = from.bytes(4)?;
            Ok(u32::from_le_bytes(bytes.try_into().expect("4 bytes")))
        }
        let strand = Strand::decode(from)?;
        let floor = Weight::decode(from)?;
        let sequence = long(from)?;
        let sent = Instant(long(from)?);
        let interval = Nanos(long(from)?);
        let events = long(from)?;
        let missed = long(from)?;
        let earliest = Instant(long(from)?);
        let written = long(from)?;
        let cut = long(from)?;
        let digest = long(from)?;
        let incarnation = short(from)?;
        let processes = short(from)?;
        let free = short(from)?;
        let ready = short(from)?;
        let mail = short(from)?;
        let asking = short(from)?;
        let mut weights = [0; Weight::CLASSES];
        for weight in &mut weights {
            *weight = short(from)?;
        }
        let mut face = [0; 64];
        for region in &mut face {
            *region = short(from)?;
        }
        Ok(Self {
            from: strand,
            incarnation,
            sequence,
            sent,
            interval,
            processes,
            free,
            ready,
            mail,
            events,
            missed,
            earliest,
            floor,
            weights,
            face,
            written,
            cut,
            digest,
            asking,
        })
    }
}
