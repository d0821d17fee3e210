//! What members say to each other.
//!
//! One shape for everything: who to whom, what for ([`Kind`]), the speaker's own
//! incarnation, a digest of its roster, up to 16 claims about others or the digests
//! of 16 sections of its roster, and a tag.
//! One that has nothing to tell is a single cache line and owns no heap, so that a million
//! members may each have one in flight; its one spelling in bytes is at most
//! [`Message::BYTES_MAX`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::slice::from_ref;

use trust::{Key, LANES, Tag};
use wire::{Cell, Decode, DecodeError, Encode, Reader};

use crate::claim::{Claim, INCARNATION_MAX};
use crate::search::bytes;

/// A member's number in its cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct Peer(pub u16);

/// What a message is for.
//= spec 4
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Are you there?
    Ping,
    /// I am.
    Ack,
    /// I cannot reach the target, can you?
    PingReq {
        /// Who does not answer.
        target: Peer,
    },
    /// I heard your request and passed it on. Says nothing of the target, but
    /// tells the asker that it is itself heard.
    Relaying {
        /// The target of the request.
        target: Peer,
    },
    /// Are you there? The origin asks.
    RelayPing {
        /// On whose behalf.
        origin: Peer,
    },
    /// I am; tell the origin.
    RelayAck {
        /// Whom to tell.
        origin: Peer,
    },
    /// The target is there.
    ForwardedAck {
        /// Who answered.
        target: Peer,
    },
    /// Listen.
    Gossip,
}

/// A claim on its way. Eight bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Update {
    /// Whom it is about.
    pub peer: Peer,
    /// Of a suspicion, who found the peer silent; zero otherwise.
    pub accuser: Peer,
    /// What is claimed.
    pub claim: Claim,
}

const _: () = assert!(size_of::<Update>() == 8);

/// How many claims ride in one message: sixteen keep it below 300 bytes, and a
/// burst of 50 deaths fits into four.
pub const SEATS: usize = 16;

/// Up to [`SEATS`] claims, at most one about each peer. None take no room: nearly all
/// messages of a quiet cell carry none, and are moved from hand to hand.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Updates(Option<Box<Seats>>);

/// The first so many are taken, the rest zero.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Seats {
    taken: u8,
    seats: [Update; SEATS],
}

impl Updates {
    /// None.
    pub const NONE: Self = Self(None);

    /// The claims.
    #[must_use]
    pub fn as_slice(&self) -> &[Update] {
        match &self.0 {
            Some(seats) => &seats.seats[..usize::from(seats.taken)],
            None => &[],
        }
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Whether no seat is left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.as_slice().len() == SEATS
    }

    /// Whether there is a claim about this peer.
    #[must_use]
    pub fn mentions(&self, peer: Peer) -> bool {
        self.mentions_within(SEATS, peer)
    }

    /// Whether one of the first so many claims is about this peer.
    pub(crate) fn mentions_within(&self, seats: usize, peer: Peer) -> bool {
        let mut updates = self.as_slice().iter().take(seats);
        updates.any(|update| update.peer == peer)
    }

    /// Seats a claim unless its peer has a seat or none is left.
    pub fn push(&mut self, update: Update) -> bool {
        if self.is_full() || self.mentions(update.peer) {
            return false;
        }
        self.push_new(update);
        true
    }

    /// Seats a claim about a peer that has no seat.
    ///
    /// # Panics
    /// If none is left.
    pub(crate) fn push_new(&mut self, update: Update) {
        debug_assert!(!self.mentions(update.peer));
        let seats = self.0.get_or_insert_with(|| {
            Box::new(Seats {
                taken: 0,
                seats: [Update::default(); SEATS],
            })
        });
        seats.seats[usize::from(seats.taken)] = update;
        seats.taken += 1;
    }
}

impl fmt::Debug for Updates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_slice().fmt(f)
    }
}

/// A digest of each sixteenth of a roster.
pub type Sections = [u32; SECTIONS];

/// Into how many sections a roster is divided to find where two differ.
pub const SECTIONS: usize = 16;

/// What fills a message.
//= spec 12
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Content {
    /// Claims about others.
    Claims(Updates),
    /// Nothing new, but a doubt whether the recipient holds the same.
    Sections(Box<Sections>),
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Message {
    /// The cell both belong to.
    pub cell: Cell,
    /// Who speaks.
    pub from: Peer,
    /// To whom.
    pub to: Peer,
    /// What for.
    pub kind: Kind,
    /// Which probe it belongs to: the prober's incarnation in the upper half,
    /// its count of probes in the lower. No member ever uses a number twice,
    /// because no two of its lives share an incarnation. Zero in gossip.
    pub number: u64,
    /// The speaker's incarnation.
    pub incarnation: u32,
    /// The digest of the speaker's roster.
    pub digest: u32,
    /// What it has to tell.
    pub content: Content,
    /// Over all the rest.
    pub tag: Tag,
}

const _: () = assert!(size_of::<Message>() == 64);

const UPDATE_BYTES_MAX: usize = 3 + 5 + 3;
/// What BLAKE3 takes at a time. A tag is made over whole blocks, the last filled up with zeros;
/// since a body's own bytes say where it ends, no two bodies become one.
const BLOCK_BYTES: usize = 64;
const BLOCKS_MAX: usize = BODY_BYTES_MAX.div_ceil(BLOCK_BYTES);
const BODY_BYTES_MAX: usize = 10 + 3 + 3 + (1 + 3) + 10 + 5 + 5 + 1 + SEATS * UPDATE_BYTES_MAX;
/// In place of a count of claims.
const SECTIONS_FOLLOW: u64 = SEATS as u64 + 1;
const NO_TAG: Tag = Tag::from_bytes([0; Tag::BYTES]);

impl Message {
    /// The longest encoding.
    pub const BYTES_MAX: usize = BODY_BYTES_MAX + Tag::BYTES;

    /// The length of its encoding.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.body().len + Tag::BYTES
    }

    /// The same message with the tag that proves it.
    #[must_use]
    pub fn sealed(mut self, key: &Key) -> Self {
        self.tag = key.tag(self.body().blocks());
        self
    }

    /// Whether its tag proves it.
    #[must_use]
    pub fn is_proven(&self, key: &Key) -> bool {
        key.verify(self.body().blocks(), &self.tag)
    }

    pub(crate) const fn unsealed(
        cell: Cell,
        (from, to): (Peer, Peer),
        kind: Kind,
        number: u64,
        (incarnation, digest): (u32, u32),
    ) -> Self {
        Self {
            cell,
            from,
            to,
            kind,
            number,
            incarnation,
            digest,
            content: Content::Claims(Updates::NONE),
            tag: NO_TAG,
        }
    }

    /// The claims about others in it.
    #[must_use]
    pub fn claims(&self) -> &[Update] {
        match &self.content {
            Content::Claims(updates) => updates.as_slice(),
            Content::Sections(_) => &[],
        }
    }

    /// Where its claims are in memory, if it has any.
    #[must_use]
    pub fn lies_elsewhere(&self) -> Option<Range<*const u8>> {
        match &self.content {
            Content::Claims(Updates(seats)) => seats.as_ref().map(|s| bytes(from_ref(&**s))),
            Content::Sections(sections) => Some(bytes(sections.as_slice())),
        }
    }

    /// Every peer it names, itself included.
    pub(crate) fn named(&self) -> impl Iterator<Item = Peer> + '_ {
        let party = self.kind.party().unwrap_or(self.from);
        let updates = self.claims().iter();
        [self.from, self.to, party]
            .into_iter()
            .chain(updates.flat_map(|update| [update.peer, update.accuser]))
    }

    /// Everything but the tag, on the stack: an idle member allocates nothing,
    /// not even to prove itself.
    fn body(&self) -> Body {
        let mut body = Body::new();
        self.spell(&mut body);
        body
    }

    fn spell(&self, body: &mut Body) {
        let mut pen = Pen {
            bytes: &mut body.bytes,
            len: 0,
        };
        pen.number(self.cell.0);
        pen.number(self.from.0.into());
        pen.number(self.to.0.into());
        let (code, party) = self.kind.code();
        pen.number(code.into());
        if let Some(party) = party {
            pen.number(party.0.into());
        }
        pen.number(self.number);
        pen.number(self.incarnation.into());
        pen.number(self.digest.into());
        match &self.content {
            Content::Claims(updates) => {
                let updates = updates.as_slice();
                pen.number(updates.len() as u64);
                for update in updates {
                    pen.number(update.peer.0.into());
                    pen.number(update.claim.to_bits().into());
                    if update.claim.is_suspicion() {
                        pen.number(update.accuser.0.into());
                    }
                }
            }
            Content::Sections(sections) => {
                pen.number(SECTIONS_FOLLOW);
                for &section in sections.iter() {
                    pen.number(section.into());
                }
            }
        }
        body.len = pen.len;
    }
}

/// Messages of one cell that are sealed or proven together. Many tags made side by side cost
/// little more than one, and a world that carries a million members' messages has many at hand.
#[derive(Debug, Default)]
pub struct Batch {
    bodies: Vec<Body>,
    taken: usize,
}

impl Batch {
    /// Adds a message.
    pub fn add(&mut self, message: &Message) {
        if self.taken == self.bodies.len() {
            self.bodies.push(Body::new());
        }
        let body = &mut self.bodies[self.taken];
        self.taken += 1;
        body.clear();
        message.spell(body);
    }

    /// Gives the tag that [`Message::sealed`] would give to each that was added, by the order of
    /// adding though not in it, and forgets them.
    pub fn tags(&mut self, key: &Key, mut each: impl FnMut(usize, Tag)) {
        let bodies = &self.bodies[..self.taken];
        tags_of::<BLOCK_BYTES>(bodies, key, &mut each);
        tags_of::<{ 2 * BLOCK_BYTES }>(bodies, key, &mut each);
        tags_of::<{ 3 * BLOCK_BYTES }>(bodies, key, &mut each);
        tags_of::<{ 4 * BLOCK_BYTES }>(bodies, key, &mut each);
        self.taken = 0;
    }
}

const _: () = assert!(BLOCKS_MAX == 4);

/// From so many on, lanes left idle cost less than one after the other.
const SIDE_BY_SIDE: usize = 3;

/// The tags of bodies that fill so many bytes.
fn tags_of<const N: usize>(bodies: &[Body], key: &Key, each: &mut impl FnMut(usize, Tag)) {
    let mut places = [0; LANES];
    let mut texts = [&[0; N]; LANES];
    let mut filled = 0;
    let mut flush = |texts: &[&[u8; N]; LANES], places: &[usize]| {
        if places.len() < SIDE_BY_SIDE {
            let alone = places.iter().zip(texts);
            alone.for_each(|(&place, text)| each(place, key.tag(*text)));
        } else {
            let tags = places.iter().zip(key.tags(texts));
            tags.for_each(|(&place, tag)| each(place, tag));
        }
    };
    for (place, body) in bodies.iter().enumerate() {
        if body.blocks().len() != N {
            continue;
        }
        (texts[filled], places[filled]) = (body.bytes.first_chunk().expect("it fills them"), place);
        filled += 1;
        if filled == LANES {
            flush(&texts, &places);
            filled = 0;
        }
    }
    flush(&texts, &places[..filled]);
}

impl Kind {
    /// The third that is spoken of besides speaker and recipient.
    pub(crate) const fn party(self) -> Option<Peer> {
        self.code().1
    }

    const fn code(self) -> (u8, Option<Peer>) {
        match self {
            Self::Ping => (0, None),
            Self::Ack => (1, None),
            Self::PingReq { target } => (2, Some(target)),
            Self::Relaying { target } => (3, Some(target)),
            Self::RelayPing { origin } => (4, Some(origin)),
            Self::RelayAck { origin } => (5, Some(origin)),
            Self::ForwardedAck { target } => (6, Some(target)),
            Self::Gossip => (7, None),
        }
    }
}

/// Bytes being written, in the canonical spelling of
/// [`wire::codec`] (a property test holds the two together), and zeros.
#[derive(Debug)]
struct Body {
    bytes: [u8; BLOCKS_MAX * BLOCK_BYTES],
    len: usize,
}

impl Body {
    const fn new() -> Self {
        Self {
            bytes: [0; BLOCKS_MAX * BLOCK_BYTES],
            len: 0,
        }
    }

    fn clear(&mut self) {
        self.bytes[..self.len].fill(0);
        self.len = 0;
    }

    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What a tag is made over.
    fn blocks(&self) -> &[u8] {
        &self.bytes[..self.len.next_multiple_of(BLOCK_BYTES)]
    }
}

/// Writes a body; apart from it, so that the length stays in a register.
struct Pen<'a> {
    bytes: &'a mut [u8; BLOCKS_MAX * BLOCK_BYTES],
    len: usize,
}

impl Pen<'_> {
    #[inline]
    fn number(&mut self, mut rest: u64) {
        while rest >= 0x80 {
            self.bytes[self.len] = rest as u8 | 0x80;
            self.len += 1;
            rest >>= 7;
        }
        self.bytes[self.len] = rest as u8;
        self.len += 1;
    }
}

impl Encode for Message {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.body().as_slice());
        out.extend_from_slice(self.tag.as_bytes());
    }
}

impl Decode for Message {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let cell = Cell(u64::decode(from)?);
        let sender = Peer::decode(from)?;
        let to = Peer::decode(from)?;
        let kind = Kind::decode(from)?;
        let number = u64::decode(from)?;
        let incarnation = read_incarnation(from)?;
        let digest = u32::decode(from)?;
        let content = Content::decode(from)?;
        let mut tag = [0; Tag::BYTES];
        tag.copy_from_slice(from.bytes(Tag::BYTES)?);
        Ok(Self {
            cell,
            from: sender,
            to,
            kind,
            number,
            incarnation,
            digest,
            content,
            tag: Tag::from_bytes(tag),
        })
    }
}

impl Decode for Peer {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        u16::decode(from).map(Self)
    }
}

impl Decode for Kind {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        Ok(match u64::decode(from)? {
            0 => Self::Ping,
            1 => Self::Ack,
            2 => Self::PingReq {
                target: Peer::decode(from)?,
            },
            3 => Self::Relaying {
                target: Peer::decode(from)?,
            },
            4 => Self::RelayPing {
                origin: Peer::decode(from)?,
            },
            5 => Self::RelayAck {
                origin: Peer::decode(from)?,
            },
            6 => Self::ForwardedAck {
                target: Peer::decode(from)?,
            },
            7 => Self::Gossip,
            found => {
                return Err(DecodeError::Invalid {
                    at,
                    what: "kind of membership message",
                    found,
                });
            }
        })
    }
}

impl Decode for Content {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        let count = u64::decode(from)?;
        if count == SECTIONS_FOLLOW {
            let mut sections = Box::new([0; SECTIONS]);
            for section in sections.iter_mut() {
                *section = u32::decode(from)?;
            }
            return Ok(Self::Sections(sections));
        }
        if count > SEATS as u64 {
            return Err(DecodeError::Invalid {
                at,
                what: "count of updates",
                found: count,
            });
        }
        let mut updates = Updates::NONE;
        for _ in 0..count {
            let at = from.position();
            let update = Update::decode(from)?;
            if !updates.push(update) {
                return Err(DecodeError::Invalid {
                    at,
                    what: "second claim about one peer",
                    found: update.peer.0.into(),
                });
            }
        }
        Ok(Self::Claims(updates))
    }
}

impl Decode for Update {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let peer = Peer::decode(from)?;
        let claim = Claim::from_bits(u32::decode(from)?);
        let accuser = if claim.is_suspicion() {
            Peer::decode(from)?
        } else {
            Peer(0)
        };
        Ok(Self {
            peer,
            accuser,
            claim,
        })
    }
}

/// Reads an incarnation, which leaves two bits of its word to the state.
pub(crate) fn read_incarnation(from: &mut Reader<'_>) -> Result<u32, DecodeError> {
    let at = from.position();
    let incarnation = u32::decode(from)?;
    if incarnation > INCARNATION_MAX {
        return Err(DecodeError::Invalid {
            at,
            what: "incarnation",
            found: incarnation.into(),
        });
    }
    Ok(incarnation)
}
