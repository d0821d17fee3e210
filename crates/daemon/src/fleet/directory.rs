//! Where is everybody?
//!
//! The membership protocol speaks of tiles; a socket needs an address and a person a name. The directory
//! holds both for each tile that ever came. A member says where it is when a conversation begins and whenever
//! it rises to a new incarnation, which stands beside the address: of two entries about one
//! tile the one of the higher incarnation holds, and only its owner raises that. Whoever learns something
//! new tells all it talks with, once; so everybody comes to the same directory in whatever order
//! the words arrive.
//!
//! Members may say where others are, and are believed: whoever has a certificate may fail but does not lie, as the
//! membership protocol assumes too. A wrong address leads nowhere, because TLS checks which tile answers there.
//!
//! Deliberately absent: whether somebody is there. That is the membership protocol's to say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use trust::invitation::{decode_address, encode_address};
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

/// A name is no longer, in bytes: it is a label of a host name (RFC 1035 § 2.3.4).
pub const NAME_MAX: usize = 63;

/// So many entries fit into one frame.
pub const ENTRIES_MAX: usize = 10;

const ENTRY_BYTES_MAX: usize = 10 + 1 + NAME_MAX + 1 + 16 + 3 + 5;
const _: () = assert!(2 + ENTRIES_MAX * ENTRY_BYTES_MAX <= PAYLOAD_BYTES_MAX);

/// What is known of one tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which.
    pub tile: Tile,
    /// What people call it.
    pub name: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Since which incarnation.
    pub incarnation: u32,
}

/// Several entries, as they travel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(pub Vec<Entry>);

/// Everybody who ever came, by tile.
#[derive(Clone, Debug, Default)]
pub struct Directory(BTreeMap<Tile, Entry>);

impl Directory {
    /// Takes an entry if it is newer than what is known; says whether it was.
    pub fn learn(&mut self, entry: Entry) -> bool {
        let known = self.0.get(&entry.tile);
        let newer = known.is_none_or(|known| entry.incarnation > known.incarnation);
        if newer {
            self.0.insert(entry.tile, entry);
        }
        newer
    }

    /// What is known of a tile.
    #[must_use]
    pub fn get(&self, tile: Tile) -> Option<&Entry> {
        self.0.get(&tile)
    }

    /// Everybody, by tile.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.values()
    }

    /// The one with this name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&Entry> {
        self.iter().find(|entry| entry.name == name)
    }
}

/// Whether people may call a machine this: a label of a host name in lower case.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=NAME_MAX).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The nearest name to what a host is called.
#[must_use]
pub fn name_from(host: &str) -> String {
    let label = host
        .split('.')
        .next()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let label: String = label
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .take(NAME_MAX - 4)
        .collect();
    match label.trim_matches('-') {
        "" => "node".to_owned(),
        label => label.to_owned(),
    }
}

impl Encode for Entry {
    fn encode(&self, out: &mut Vec<u8>) {
        self.tile.encode(out);
        self.name.as_bytes().encode(out);
        encode_address(self.address, out);
        self.incarnation.encode(out);
    }
}

impl Decode for Entry {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tile = Tile::decode(from)?;
        let name = read_name(from)?;
        Ok(Self {
            tile,
            name,
            address: decode_address(from)?,
            incarnation: u32::decode(from)?,
        })
    }
}

/// Reads a name that is one.
pub(super) fn read_name(from: &mut Reader<'_>) -> Result<String, DecodeError> {
    let at = from.position();
    let bytes = Vec::decode(from)?;
    let found = bytes.len() as u64;
    let name = String::from_utf8(bytes).ok().filter(|name| is_name(name));
    name.ok_or(DecodeError::Invalid {
        at,
        what: "name of a machine",
        found,
    })
}

impl Encode for Entries {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u64).encode(out);
        self.0.iter().for_each(|entry| entry.encode(out));
    }
}

impl Decode for Entries {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        // Tile, length of the name, one letter, kind, four bytes, port, incarnation.
        let count = from.count(1 + 1 + 1 + 1 + 4 + 1 + 1)?;
        let entries = (0..count).map(|_| Entry::decode(from));
        entries.collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::codec::decode_all;

    fn entry(tile: u64, incarnation: u32) -> Entry {
        Entry {
            tile: Tile(tile),
            name: format!("m{tile}"),
            address: SocketAddr::from(([192, 0, 2, 1], 4000 + tile as u16)),
            incarnation,
        }
    }

    #[test]
    fn the_higher_incarnation_holds_in_whatever_order_it_comes() {
        let mut directory = Directory::default();
        assert!(directory.learn(entry(1, 2)));
        assert!(!directory.learn(entry(1, 2)));
        assert!(!directory.learn(entry(1, 1)));
        assert!(directory.learn(entry(1, 3)));
        assert_eq!(directory.named("m1"), Some(&entry(1, 3)));
    }

    #[test]
    fn entries_travel_whole_and_fit_their_frame() {
        let longest = Entry {
            tile: Tile(u64::MAX),
            name: "x".repeat(NAME_MAX),
            address: "[2001:db8::1]:65535".parse().unwrap(),
            incarnation: u32::MAX,
        };
        let entries = Entries(vec![longest; ENTRIES_MAX]);
        let bytes = entries.to_bytes();
        assert!(bytes.len() <= PAYLOAD_BYTES_MAX, "{}", bytes.len());
        assert_eq!(decode_all(&bytes), Ok(entries));
        // A count that lies takes no memory.
        let mut lying = u64::MAX.to_bytes();
        lying.push(0);
        assert!(decode_all::<Entries>(&lying).is_err());
    }

    #[test]
    fn names_are_labels_of_host_names() {
        for name in ["a", "node-7", "0"] {
            assert!(is_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "a.b", "ä", &"x".repeat(64)] {
            assert!(!is_name(name), "{name}");
        }
        for (host, name) in [
            ("Big_Box.example.org", "big-box"),
            ("", "node"),
            ("---", "node"),
        ] {
            assert_eq!(name_from(host), name);
            assert!(is_name(&name_from(host)));
        }
    }
}
