//! Who was thrown out?
//!
//! A certificate holds until it expires, whoever has its key by then. So the authority can say of a seat that no certificate for it counts any more: a
//! signature over the fleet and the tile. It goes round as the directory does, at the beginning of each conversation and whenever it is news; whoever hears it
//! checks the signature, writes it down, ends what it has open with that seat, and answers nobody from there again. The seat stays empty.
//!
//! A machine that is cut off from all who know learns of it with the first word it hears from one of them. Until then the expelled can speak with it: what a
//! stolen machine can do is bounded by how long a partition lasts.
//!
//! Why: docs/decisions/2026-11-29-a-seat-can-be-taken-away.md.
//!
//! Deliberately absent: taking it back (an invitation gives the machine another seat), and a new secret for those who stay: the expelled knows the one that
//! the membership protocol's tags come from, and nobody lets it say a word.

use std::collections::BTreeMap;

use rustls::pki_types::CertificateDer;
use wire::frame::PAYLOAD_BYTES_MAX;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

use super::identity::{self, Authority, IdentityError, Secret};

/// What is signed begins with this.
const LABEL: &[u8] = b"cosmos expelled v1";

/// So many fit into one frame.
pub(super) const EXPULSIONS_MAX: usize = 10;
const _: () = assert!(2 + EXPULSIONS_MAX * (10 + 64) <= PAYLOAD_BYTES_MAX);

/// That no certificate for a seat counts any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Expulsion {
    /// Which seat.
    pub(super) tile: Tile,
    /// The authority's signature.
    signature: [u8; 64],
}

/// Several, as they travel and as they are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expulsions(pub(super) Vec<Expulsion>);

fn words(authority: &CertificateDer<'_>, tile: Tile) -> Vec<u8> {
    let mut words = LABEL.to_vec();
    words.extend_from_slice(authority);
    tile.encode(&mut words);
    words
}

impl Expulsion {
    /// The authority says so.
    pub(super) fn sign(authority: &Authority, tile: Tile) -> Result<Self, IdentityError> {
        let secret = Secret::from_pkcs8(authority.as_pkcs8().to_vec())?;
        let signature = secret.sign(&words(authority.certificate(), tile));
        Ok(Self { tile, signature })
    }

    /// Whether that authority said so.
    pub(super) fn is_of(&self, authority: &CertificateDer<'_>) -> bool {
        let words = words(authority, self.tile);
        identity::key_of(authority)
            .is_some_and(|key| identity::is_signed(&key, &words, &self.signature))
    }
}

impl Encode for Expulsions {
    fn encode(&self, out: &mut Vec<u8>) {
        (self.0.len() as u64).encode(out);
        for expulsion in &self.0 {
            expulsion.tile.encode(out);
            out.extend_from_slice(&expulsion.signature);
        }
    }
}

impl Decode for Expulsions {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = from.count(1 + 64)?;
        let each = (0..count).map(|_| -> Result<_, DecodeError> {
            Ok(Expulsion {
                tile: Tile::decode(from)?,
                signature: from.bytes(64)?.try_into().expect("64 bytes"),
            })
        });
        each.collect::<Result<_, _>>().map(Self)
    }
}

/// Everybody who was thrown out, by seat.
pub(super) type Expelled = BTreeMap<Tile, Expulsion>;

#[cfg(test)]
mod tests {
    use super::*;
    use wire::codec::decode_all;

    #[test]
    fn only_the_fleets_own_authority_can_say_so_and_of_one_seat() {
        let (ours, theirs) = (
            Authority::found(1_000_000).unwrap(),
            Authority::found(1_000_000).unwrap(),
        );
        let said = Expulsion::sign(&ours, Tile(3)).unwrap();
        assert!(said.is_of(ours.certificate()));
        assert!(!said.is_of(theirs.certificate()));
        let other = Expulsion {
            tile: Tile(4),
            ..said
        };
        assert!(!other.is_of(ours.certificate()));
        let forged = Expulsion::sign(&theirs, Tile(3)).unwrap();
        assert!(!forged.is_of(ours.certificate()));
    }

    #[test]
    fn they_travel_whole_and_fit_their_frame() {
        let authority = Authority::found(1_000_000).unwrap();
        let last = Expulsion::sign(&authority, Tile(u64::MAX)).unwrap();
        let all = Expulsions(vec![last; EXPULSIONS_MAX]);
        let bytes = all.to_bytes();
        assert!(bytes.len() <= PAYLOAD_BYTES_MAX, "{}", bytes.len());
        assert_eq!(decode_all(&bytes), Ok(all));
        for cut in 0..bytes.len() {
            assert!(
                decode_all::<Expulsions>(&bytes[..cut]).is_err(),
                "cut at {cut}"
            );
        }
    }
}
