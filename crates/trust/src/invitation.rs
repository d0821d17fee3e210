//! How does somebody who knows nobody find the right fleet, and prove to be expected?
//!
//! By one line of text, carried by a person from a machine that is in to one that is not. It says
//! where to knock, the [`Fingerprint`] of the fleet that must answer there, and a [`Secret`] that whoever
//! answers knows to be good for one newcomer and a short time. The newcomer checks the fingerprint
//! first and shows the secret second, so that a stranger at that address learns nothing.
//!
//! The line is `cosmos1-` and, in base64url without padding (RFC 4648 § 5), the canonical bytes with the first
//! [`CHECK_BYTES`] of their BLAKE3 behind them: a line that lost a letter on its way is refused as such,
//! before anybody is spoken to.
//!
//! Deliberately absent: whether an invitation still holds. Only the fleet knows; the time in the line is
//! there so that a newcomer is told at once instead of after a journey.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::str::FromStr;

use data_encoding::BASE64URL_NOPAD;
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

/// What every invitation begins with; the digit is the version of what follows.
pub const PREFIX: &str = "cosmos1-";

/// So many bytes of check follow the rest.
pub const CHECK_BYTES: usize = 4;

/// No line is longer, in bytes.
pub const LINE_MAX: usize = 160;

/// Which fleet: BLAKE3 of its authority's certificate.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

/// What a newcomer shows: 128 bits nobody can guess.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

/// Everything a newcomer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invitation {
    /// Where to knock.
    pub address: SocketAddr,
    /// Which tile of the fleet answers there.
    pub tile: Tile,
    /// Which fleet it is.
    pub fingerprint: Fingerprint,
    /// What to show there.
    pub secret: Secret,
    /// Until when it holds, in seconds of Unix time.
    pub expires: u64,
}

/// Why a line is no invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoInvitation {
    /// It begins otherwise.
    #[error("found no \"{PREFIX}\" in front, expected the line that `cosmos invite` prints")]
    Prefix,
    /// Nobody would print such a line.
    #[error("found {length} bytes, expected at most {LINE_MAX}")]
    TooLong {
        /// In bytes.
        length: usize,
    },
    /// A character that is none of the 64, or bits that nobody needs.
    #[error("character {at}: not one of an invitation")]
    Character {
        /// Which, counted from 0 at the beginning of the line.
        at: usize,
    },
    /// The check does not fit the rest.
    #[error("the line is damaged: something in it was changed or is missing")]
    Damaged,
    /// The bytes mean nothing.
    #[error(transparent)]
    Meaning(#[from] DecodeError),
}

impl Fingerprint {
    /// Of the authority's certificate in DER.
    #[must_use]
    pub fn of(certificate: &[u8]) -> Self {
        Self(*blake3::hash(certificate).as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    /// The first eight bytes: enough to tell fleets apart by eye, the rest is compared by machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0[..8]
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Secret {
    /// What the fleet keeps of it: who reads that cannot join with it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        *blake3::hash(&self.0).as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(secret)")
    }
}

impl fmt::Display for Invitation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.to_bytes();
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(&check.as_bytes()[..CHECK_BYTES]);
        let text: String = BASE64URL_NOPAD.encode(&bytes);
        write!(f, "{PREFIX}{text}")
    }
}

impl FromStr for Invitation {
    type Err = NoInvitation;

    fn from_str(line: &str) -> Result<Self, NoInvitation> {
        let length = line.len();
        if length > LINE_MAX {
            return Err(NoInvitation::TooLong { length });
        }
        let text = line.strip_prefix(PREFIX).ok_or(NoInvitation::Prefix)?;
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes());
        let bytes = bytes.map_err(|error| NoInvitation::Character {
            at: PREFIX.len() + error.position,
        })?;
        let (bytes, check) = bytes
            .split_last_chunk::<CHECK_BYTES>()
            .ok_or(NoInvitation::Damaged)?;
        if blake3::hash(bytes).as_bytes()[..CHECK_BYTES] != *check {
            return Err(NoInvitation::Damaged);
        }
        Ok(decode_all(bytes)?)
    }
}

impl Encode for Invitation {
    fn encode(&self, out: &mut Vec<u8>) {
        encode_address(self.address, out);
        self.tile.encode(out);
        out.extend_from_slice(&self.fingerprint.0);
        out.extend_from_slice(&self.secret.0);
        self.expires.encode(out);
    }
}

impl Decode for Invitation {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            address: decode_address(from)?,
            tile: Tile::decode(from)?,
            fingerprint: Fingerprint(array(from)?),
            secret: Secret(array(from)?),
            expires: u64::decode(from)?,
        })
    }
}

/// Writes where somebody is: 4 or 6, the bytes of the address, the port.
pub fn encode_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend_from_slice(&ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend_from_slice(&ip.octets());
        }
    }
    address.port().encode(out);
}

/// Reads what [`encode_address`] wrote.
///
/// # Errors
/// If the bytes are nobody's address.
pub fn decode_address(from: &mut Reader<'_>) -> Result<SocketAddr, DecodeError> {
    let at = from.position();
    let ip = match from.byte()? {
        4 => IpAddr::V4(Ipv4Addr::from(array::<4>(from)?)),
        6 => IpAddr::V6(Ipv6Addr::from(array::<16>(from)?)),
        found => {
            return Err(DecodeError::Invalid {
                at,
                what: "kind of address",
                found: found.into(),
            });
        }
    };
    Ok(SocketAddr::new(ip, u16::decode(from)?))
}

fn array<const N: usize>(from: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
    let mut array = [0; N];
    array.copy_from_slice(from.bytes(N)?);
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn invitation() -> Invitation {
        Invitation {
            address: "192.0.2.7:4040".parse().unwrap(),
            tile: Tile(0),
            fingerprint: Fingerprint::of(b"a certificate"),
            secret: Secret([7; 16]),
            expires: 1_790_000_000,
        }
    }

    #[test]
    fn a_line_says_what_was_meant_and_a_damaged_one_nothing() {
        let line = invitation().to_string();
        assert!(line.len() <= LINE_MAX, "{} bytes", line.len());
        assert_eq!(line.parse(), Ok(invitation()));
        for at in 0..line.len() {
            let mut other = line.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(other.parse::<Invitation>().is_err(), "{at}: {other}");
            assert!(line[..at].parse::<Invitation>().is_err(), "cut at {at}");
        }
        assert!((line.clone() + "A").parse::<Invitation>().is_err());
        let long = "A".repeat(LINE_MAX + 1);
        let refused = long.parse::<Invitation>();
        assert_eq!(
            refused,
            Err(NoInvitation::TooLong {
                length: LINE_MAX + 1
            })
        );
    }

    #[test]
    fn secrets_do_not_show() {
        let shown = alloc::format!("{:?}", invitation());
        assert!(
            shown.contains("Secret(secret)") && !shown.contains("7, 7"),
            "{shown}"
        );
    }

    proptest! {
        #[test]
        fn every_invitation_has_one_line(
            v6: bool, ip: u128, port: u16, tile: u64, fingerprint: [u8; 32], secret: [u8; 16], expires: u64,
        ) {
            let ip = if v6 { IpAddr::V6(ip.into()) } else { IpAddr::V4((ip as u32).into()) };
            let invitation = Invitation {
                address: SocketAddr::new(ip, port),
                tile: Tile(tile),
                fingerprint: Fingerprint(fingerprint),
                secret: Secret(secret),
                expires,
            };
            let line = invitation.to_string();
            prop_assert!(line.len() <= LINE_MAX);
            prop_assert_eq!(line.parse(), Ok(invitation));
        }
    }
}
