//! A member of a small cell, what may be said to it, and what it may say.

use std::sync::Arc;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use machine::{Persist, Purpose, Stream};
use membership::message::{SECTIONS, Update};
use membership::{
    Claim, Config, Content, Effect, INCARNATION_MAX, Kind, Member, Message, Peer, State, Updates,
    incarnation_after,
};
use trust::{Key, Tag};
use wire::{Cell, Hexagons, Instant, Tile};

/// Tiles of the cell: few, so that messages concern each other.
pub const TILES: u32 = 12;
const ME: Peer = Peer(5);

/// A message in so few bytes that most of them say something.
#[derive(Clone, Debug, Arbitrary)]
pub struct Said {
    from: u8,
    kind: u8,
    party: u8,
    number: u8,
    incarnation: Number,
    /// Whether what is said of rosters is what this member holds.
    agrees: bool,
    astray: Option<Astray>,
    content: Saying,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Astray {
    OtherCell,
    NotForMe,
    Forged,
    FromNobody,
}

#[derive(Clone, Copy, Debug, Arbitrary)]
enum Number {
    Small(u8),
    Last(u8),
}

#[derive(Clone, Debug, Arbitrary)]
enum Saying {
    Claims(Vec<(u8, u8, u8, Number)>),
    Sections([u8; 4]),
}

impl Number {
    fn value(self) -> u32 {
        match self {
            Self::Small(n) => n.into(),
            Self::Last(n) => INCARNATION_MAX - u32::from(n),
        }
    }
}

fn peer(byte: u8) -> Peer {
    Peer(u16::from(byte) % TILES as u16)
}

impl Said {
    /// The message, sealed by the cell's key.
    pub fn message(&self, hearer: &Member, key: &Key) -> Message {
        let party = peer(self.party);
        let content = match &self.content {
            Saying::Claims(claims) => {
                let mut updates = Updates::NONE;
                for &(of, accuser, state, incarnation) in claims {
                    let states = [State::Alive, State::Suspect, State::Removed, State::Left];
                    let state = states[usize::from(state) % 4];
                    updates.push(Update {
                        peer: peer(of),
                        accuser: peer(accuser),
                        claim: Claim::new(state, incarnation.value()),
                    });
                }
                Content::Claims(updates)
            }
            Saying::Sections(seed) => {
                Content::Sections(Box::new(std::array::from_fn::<_, SECTIONS, _>(|i| {
                    seed[i % 4].into()
                })))
            }
        };
        let mut message = Message {
            cell: Cell(3),
            from: peer(self.from),
            to: ME,
            kind: match self.kind % 8 {
                0 => Kind::Ping,
                1 => Kind::Ack,
                2 => Kind::PingReq { target: party },
                3 => Kind::Relaying { target: party },
                4 => Kind::RelayPing { origin: party },
                5 => Kind::RelayAck { origin: party },
                6 => Kind::ForwardedAck { target: party },
                _ => Kind::Gossip,
            },
            number: u64::from(hearer.incarnation()) << 32 | u64::from(self.number),
            incarnation: self.incarnation.value(),
            digest: if self.agrees { hearer.digest() } else { 7 },
            content,
            tag: Tag::from_bytes([0; Tag::BYTES]),
        };
        match self.astray {
            Some(Astray::OtherCell) => message.cell = Cell(4),
            Some(Astray::NotForMe) => message.to = Peer(6),
            Some(Astray::FromNobody) => message.from = Peer(u16::MAX),
            Some(Astray::Forged) => return message,
            None => {}
        }
        message.sealed(key)
    }
}

/// What has been promised to the cell, and what of it the disk has.
pub struct Promise {
    /// The cell's key.
    pub key: Key,
    durable: u32,
    writing: Vec<Persist>,
    spoken: u32,
}

/// A member that starts at an incarnation.
pub fn member(incarnation: u32) -> (Member, Promise) {
    let grid = Hexagons::of(TILES).expect("3 by 4");
    let config = Arc::new(Config::new(Cell(3), grid, &Key::new([7; 32])));
    let stream = Stream::new(1, Tile(5), Purpose::Membership);
    let promise = Promise {
        key: config.key.clone(),
        durable: 0,
        writing: Vec::new(),
        spoken: 0,
    };
    let member = Member::new(config, ME, incarnation, stream, Instant::EPOCH);
    (member, promise)
}

impl Promise {
    /// The member does this.
    ///
    /// # Panics
    /// If it may not.
    pub fn note(&mut self, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.said(to, &message),
            Effect::Persist(write) => self.write(write),
            Effect::Changed { .. } | Effect::Rejected { .. } => {}
        }
    }

    /// The member wants bytes written.
    ///
    /// # Panics
    /// If it asked for as much before.
    pub fn write(&mut self, persist: Persist) {
        let before = self.writing.last().map_or(0, |last| last.token);
        assert!(persist.token > before, "{persist:?} after {before}");
        self.writing.push(persist);
    }

    /// The disk has finished the write it has had longest.
    pub fn sync(&mut self) -> Option<u64> {
        if self.writing.is_empty() {
            return None;
        }
        let done = self.writing.remove(0);
        let above = incarnation_after(&done.bytes).expect("its own bytes");
        self.durable = self.durable.max(above - 1);
        Some(done.token)
    }

    /// The member says this.
    ///
    /// # Panics
    /// If it speaks as an incarnation that would not survive a crash, goes back to a lower one, talks to
    /// itself or to nobody, or cannot prove who it is.
    pub fn said(&mut self, to: Peer, message: &Message) {
        assert!(
            message.incarnation <= self.durable,
            "{message:?}, durable {}",
            self.durable
        );
        assert!(
            message.incarnation >= self.spoken,
            "{message:?}, was {}",
            self.spoken
        );
        self.spoken = message.incarnation;
        assert!(
            to == message.to && to != ME && u32::from(to.0) < TILES,
            "{message:?}"
        );
        assert_eq!(message.from, ME);
        assert!(message.is_proven(&self.key));
    }

    /// What holds between calls.
    ///
    /// # Panics
    /// If the member believes anything of nobody, or of itself what it does not say, or has grown.
    pub fn holds(&self, member: &Member) {
        for (peer, state, incarnation) in member.exceptions() {
            assert!(u32::from(peer.0) < TILES && incarnation <= INCARNATION_MAX);
            let itself = (State::Alive, member.incarnation());
            assert!(
                peer != ME || (state, incarnation) == itself,
                "{state} {incarnation}"
            );
        }
        assert!(member.local_health() <= 8);
        assert!(
            member.footprint() < 256 + 64 * TILES as usize,
            "{}",
            member.footprint()
        );
    }
}
