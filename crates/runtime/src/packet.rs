//! What tori say to each other, as bytes that prove who wrote them.
//!
//! A packet may be lost, doubled, late, or damaged on the way. Damage shows in
//! the tag; everything else is harmless because each kind of packet says the same
//! when it is said twice: numbered sheets and posts are taken once, everything
//! else only ever moves a number up.

use alloc::boxed::Box;
use alloc::vec::Vec;

use trust::{Key, Tag};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader};

use crate::lane::Channel;
use crate::pid::Strand;
use crate::post::Post;
use crate::process::Process;
use crate::projection::Projection;
use crate::record::Sheet;

/// Bytes around a packet's content at most: who, to whom, which incarnation, what
/// kind, and the tag.
pub(crate) const OVERHEAD: usize = 1 + 1 + 5 + 1 + Tag::BYTES;

/// One message from a torus to another.
#[derive(Clone, Debug)]
pub struct Packet<P: Process> {
    pub(crate) from: Strand,
    pub(crate) to: Strand,
    /// Of the sender.
    pub(crate) incarnation: u32,
    pub(crate) content: Content<P>,
}

#[derive(Clone, Debug)]
pub(crate) enum Content<P: Process> {
    /// To the next: how it is with me.
    Projection(Box<Projection>),
    /// To the next: keep this.
    Sheet { position: u64, sheet: Sheet },
    /// To the previous, of this incarnation: I keep everything before this sheet; or
    /// nothing at all, and need everything. One that was given up and lives would else
    /// take for its own what is said of its successor's sheets.
    Held {
        next: u64,
        anything: bool,
        incarnation: u32,
    },
    /// The next posts of a lane.
    Posts {
        channel: Channel,
        first: u64,
        posts: Vec<Post<P>>,
    },
    /// All posts of a lane before this one are in a log that is held.
    Taken { channel: Channel, upto: u64 },
    /// To the previous: you have been given up for one of this incarnation.
    Over { incarnation: u32 },
    /// To the previous: the torus that you give up is out for me too, and I hear only
    /// this incarnation of it.
    Consent { incarnation: u32 },
    /// To the next: my memory is damaged. I have stopped; rebuild me.
    Dark,
}

/// What a packet is about: how large it may be, and how soon it is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Says {
    /// How a torus is; as long as ever.
    Projection,
    /// What is to be kept: a sheet of the log or of a snapshot.
    Sheet,
    /// What crosses: messages and processes.
    Posts,
    /// That something was taken, or who counts; a few bytes.
    Word,
}

impl Says {
    /// What these bytes are about, if they are a packet; nothing is proven.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader::new(bytes);
        Strand::decode(&mut from).ok()?;
        Strand::decode(&mut from).ok()?;
        u32::decode(&mut from).ok()?;
        match from.byte().ok()? {
            0 => Some(Self::Projection),
            1 => Some(Self::Sheet),
            3 => Some(Self::Posts),
            2 | 4..=7 => Some(Self::Word),
            _ => None,
        }
    }
}

/// Why bytes were not taken for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Too short for a tag, or the tag does not prove the rest.
    #[error("the tag does not prove these bytes")]
    Unproven,
    /// Proven, and not a packet of this vocabulary.
    #[error("a proven packet does not decode: {0}")]
    Malformed(#[from] DecodeError),
}

impl<P: Process> Packet<P> {
    pub(crate) fn sealed(&self, key: &Key) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        let tag = key.tag(&bytes);
        bytes.extend(tag.as_bytes());
        bytes
    }

    pub(crate) fn open(bytes: &[u8], key: &Key) -> Result<Self, Unreadable> {
        let (bytes, tag) = (bytes.split_last_chunk()).ok_or(Unreadable::Unproven)?;
        if !key.verify(bytes, &Tag::from_bytes(*tag)) {
            return Err(Unreadable::Unproven);
        }
        Ok(decode_all(bytes)?)
    }
}

impl Encode for Channel {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}

impl Decode for Channel {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        match from.byte()? {
            0 => Ok(Self::First),
            1 => Ok(Self::Onward),
            found => Err(DecodeError::Invalid {
                at,
                what: "channel",
                found: found.into(),
            }),
        }
    }
}

impl<P: Process> Encode for Packet<P> {
    fn encode(&self, out: &mut Vec<u8>) {
        self.from.encode(out);
        self.to.encode(out);
        self.incarnation.encode(out);
        match &self.content {
            Content::Projection(projection) => {
                out.push(0);
                projection.encode(out);
            }
            Content::Sheet { position, sheet } => {
                out.push(1);
                position.encode(out);
                sheet.encode(out);
            }
            Content::Held {
                next,
                anything,
                incarnation,
            } => {
                out.extend([2, u8::from(*anything)]);
                next.encode(out);
                incarnation.encode(out);
            }
            Content::Posts {
                channel,
                first,
                posts,
            } => {
                out.push(3);
                channel.encode(out);
                first.encode(out);
                (posts.len() as u64).encode(out);
                for post in posts {
                    post.encode(out);
                }
            }
            Content::Taken { channel, upto } => {
                out.push(4);
                channel.encode(out);
                upto.encode(out);
            }
            Content::Over { incarnation } => {
                out.push(5);
                incarnation.encode(out);
            }
            Content::Dark => out.push(6),
            Content::Consent { incarnation } => {
                out.push(7);
                incarnation.encode(out);
            }
        }
    }
}

impl<P: Process> Decode for Packet<P> {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let sender = Strand::decode(from)?;
        let to = Strand::decode(from)?;
        let incarnation = u32::decode(from)?;
        let at = from.position();
        let content = match from.byte()? {
            0 => Content::Projection(Box::new(Projection::decode(from)?)),
            1 => Content::Sheet {
                position: u64::decode(from)?,
                sheet: Sheet::decode(from)?,
            },
            2 => {
                let at = from.position();
                let anything = match from.byte()? {
                    0 => false,
                    1 => true,
                    found => {
                        return Err(DecodeError::Invalid {
                            at,
                            what: "truth value",
                            found: found.into(),
                        });
                    }
                };
                let next = u64::decode(from)?;
                let incarnation = u32::decode(from)?;
                Content::Held {
                    next,
                    anything,
                    incarnation,
                }
            }
            3 => {
                let channel = Channel::decode(from)?;
                let first = u64::decode(from)?;
                let count = from.count(2)?;
                let mut posts = Vec::new();
                for _ in 0..count {
                    posts.push(Post::decode(from)?);
                }
                Content::Posts {
                    channel,
                    first,
                    posts,
                }
            }
            4 => Content::Taken {
                channel: Channel::decode(from)?,
                upto: u64::decode(from)?,
            },
            5 => Content::Over {
                incarnation: u32::decode(from)?,
            },
            6 => Content::Dark,
            7 => Content::Consent {
                incarnation: u32::decode(from)?,
            },
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "packet",
                    found: found.into(),
                });
            }
        };
        Ok(Self {
            from: sender,
            to,
            incarnation,
            content,
        })
    }
}
