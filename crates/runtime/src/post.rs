//! What crosses between tori, and between a torus and its world.

use alloc::vec::Vec;

use wire::{Decode, DecodeError, Encode, Instant, Reader};

use crate::pid::{Pid, Weight};
use crate::process::Process;

/// What may be asked of a torus from outside.
#[derive(Clone, Debug)]
pub enum Offer<P: Process> {
    /// Say this to a process.
    Message {
        /// To whom.
        to: Pid,
        /// What.
        message: P::Message,
        /// To be taken before; [`Instant::END`] for whenever.
        due: Instant,
    },
    /// Start a process.
    Spawn {
        /// As it begins.
        process: P,
        /// How heavily it weighs.
        weight: Weight,
    },
}

/// What a torus tells its world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report<M> {
    /// A process says this.
    Said {
        /// Who.
        from: Pid,
        /// What.
        message: M,
    },
    /// The process of this offer has started under this name.
    Spawned {
        /// The number of the offer.
        offer: u64,
        /// Its name.
        pid: Pid,
    },
    /// The message of this offer was for a process that is no more.
    Nobody {
        /// The number of the offer.
        offer: u64,
    },
}

/// What travels in a lane.
#[derive(Clone, Debug)]
pub(crate) enum Post<P: Process> {
    Offer(Offer<P>),
    /// A message for a process that is away from home.
    Forward {
        to: Pid,
        message: P::Message,
        due: Instant,
    },
    /// A process moves; or comes home, where it found no room.
    Arrive {
        home: Pid,
        weight: Weight,
        process: P,
        mail: Vec<(P::Message, Instant)>,
    },
    /// A process that was away is no more.
    Ended {
        home: Pid,
    },
    Report(Report<P::Message>),
}

/// Never is the usual deadline, and takes one byte.
pub(crate) fn encode_due(due: Instant, out: &mut Vec<u8>) {
    due.0.wrapping_add(1).encode(out);
}

pub(crate) fn decode_due(from: &mut Reader<'_>) -> Result<Instant, DecodeError> {
    u64::decode(from).map(|due| Instant(due.wrapping_sub(1)))
}

impl<P: Process> Encode for Offer<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Message { to, message, due } => {
                out.push(0);
                to.encode(out);
                encode_due(*due, out);
                message.encode(out);
            }
            Self::Spawn { process, weight } => {
                out.push(1);
                weight.encode(out);
                process.encode(out);
            }
        }
    }
}

impl<P: Process> Offer<P> {
    /// What follows its kind; none if that is no offer's.
    fn decode_kind(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            0 => {
                let to = Pid::decode(from)?;
                let due = decode_due(from)?;
                let message = P::Message::decode(from)?;
                Self::Message { to, message, due }
            }
            1 => {
                let weight = Weight::decode(from)?;
                let process = P::decode(from)?;
                Self::Spawn { process, weight }
            }
            _ => return Ok(None),
        }))
    }
}

impl<P: Process> Decode for Offer<P> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let kind = from.byte()?;
        let offer = Self::decode_kind(kind, from)?;
        offer.ok_or_else(|| unknown(at, "offer", kind))
    }
}

impl<M: Encode> Encode for Report<M> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Said { from, message } => {
                out.push(5);
                from.encode(out);
                message.encode(out);
            }
            Self::Spawned { offer, pid } => {
                out.push(6);
                offer.encode(out);
                pid.encode(out);
            }
            Self::Nobody { offer } => {
                out.push(7);
                offer.encode(out);
            }
        }
    }
}

impl<M: Decode> Report<M> {
    /// What follows its kind; none if that is no report's.
    fn decode_kind(kind: u8, from: &mut Reader<'_>) -> Result<Option<Self>, DecodeError> {
        Ok(Some(match kind {
            5 => Self::Said {
                from: Pid::decode(from)?,
                message: M::decode(from)?,
            },
            6 => Self::Spawned {
                offer: u64::decode(from)?,
                pid: Pid::decode(from)?,
            },
            7 => Self::Nobody {
                offer: u64::decode(from)?,
            },
            _ => return Ok(None),
        }))
    }
}

impl<M: Decode> Decode for Report<M> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let kind = from.byte()?;
        let report = Self::decode_kind(kind, from)?;
        report.ok_or_else(|| unknown(at, "report", kind))
    }
}

fn unknown(at: usize, what: &'static str, kind: u8) -> DecodeError {
    DecodeError::Invalid {
        at,
        what,
        found: kind.into(),
    }
}

impl<P: Process> Encode for Post<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Offer(offer) => offer.encode(out),
            Self::Forward { to, message, due } => {
                out.push(2);
                to.encode(out);
                encode_due(*due, out);
                message.encode(out);
            }
            Self::Arrive {
                home,
                weight,
                process,
                mail,
            } => {
                out.push(3);
                home.encode(out);
                weight.encode(out);
                process.encode(out);
                (mail.len() as u64).encode(out);
                for (message, due) in mail {
                    encode_due(*due, out);
                    message.encode(out);
                }
            }
            Self::Ended { home } => {
                out.push(4);
                home.encode(out);
            }
            Self::Report(report) => report.encode(out),
        }
    }
}

impl<P: Process> Decode for Post<P> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()? {
            2 => {
                let to = Pid::decode(from)?;
                let due = decode_due(from)?;
                let message = P::Message::decode(from)?;
                Self::Forward { to, message, due }
            }
            3 => {
                let home = Pid::decode(from)?;
                let weight = Weight::decode(from)?;
                let process = P::decode(from)?;
                let count = from.count(1)?;
                let mut mail = Vec::new();
                for _ in 0..count {
                    let due = decode_due(from)?;
                    mail.push((P::Message::decode(from)?, due));
                }
                Self::Arrive {
                    home,
                    weight,
                    process,
                    mail,
                }
            }
            4 => Self::Ended {
                home: Pid::decode(from)?,
            },
            kind => {
                if let Some(offer) = Offer::decode_kind(kind, from)? {
                    return Ok(Self::Offer(offer));
                }
                let report = Report::decode_kind(kind, from)?;
                Self::Report(report.ok_or_else(|| unknown(at, "post", kind))?)
            }
        })
    }
}
