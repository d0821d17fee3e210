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

impl<P: Process> Encode for Post<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Offer(Offer::Message { to, message, due }) => {
                out.push(0);
                to.encode(out);
                encode_due(*due, out);
                message.encode(out);
            }
            Self::Offer(Offer::Spawn { process, weight }) => {
                out.push(1);
                weight.encode(out);
                process.encode(out);
            }
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
            Self::Report(Report::Said { from, message }) => {
                out.push(5);
                from.encode(out);
                message.encode(out);
            }
            Self::Report(Report::Spawned { offer, pid }) => {
                out.push(6);
                offer.encode(out);
                pid.encode(out);
            }
            Self::Report(Report::Nobody { offer }) => {
                out.push(7);
                offer.encode(out);
            }
        }
    }
}

impl<P: Process> Decode for Post<P> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match from.byte()? {
            0 => {
                let to = Pid::decode(from)?;
                let due = decode_due(from)?;
                let message = P::Message::decode(from)?;
                Self::Offer(Offer::Message { to, message, due })
            }
            1 => {
                let weight = Weight::decode(from)?;
                let process = P::decode(from)?;
                Self::Offer(Offer::Spawn { process, weight })
            }
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
            5 => Self::Report(Report::Said {
                from: Pid::decode(from)?,
                message: P::Message::decode(from)?,
            }),
            6 => Self::Report(Report::Spawned {
                offer: u64::decode(from)?,
                pid: Pid::decode(from)?,
            }),
            7 => Self::Report(Report::Nobody {
                offer: u64::decode(from)?,
            }),
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "post",
                    found: found.into(),
                });
            }
        })
    }
}
