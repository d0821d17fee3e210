//! Which invitations still hold?
//!
//! The authority writes down the digest of each secret it gave out, until when it holds, and, once, who came
//! with it. That somebody came is durable before the certificate leaves, so an invitation is good for
//! one machine however often the power fails. The same machine, known by its key, may come with it
//! again and gets the same seat: its answer may have been lost on the way.
//!
//! Time comes in as an argument; what is written down goes out as data.

use std::collections::BTreeMap;

use trust::invitation::Secret;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

use super::directory::read_name;
use super::refusal::Refusal;

/// An invitation is remembered so long after its end, in seconds, so that who comes too late is
/// told so.
pub const REMEMBERED: u64 = 86_400;

/// So many may be open at a time.
pub const OPEN_MAX: usize = 1_024;

/// One invitation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Until when it holds, in seconds of Unix time.
    pub expires: u64,
    /// Who came with it.
    pub used: Option<Guest>,
}

/// Who came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guest {
    /// Its public key.
    pub key: [u8; 32],
    /// The seat it got.
    pub tile: Tile,
    /// What it is called.
    pub name: String,
}

/// The invitations of a fleet, by the digest of their secret.
#[derive(Clone, Debug, Default)]
pub struct Book(BTreeMap<[u8; 32], Given>);

impl Book {
    /// As it was kept.
    #[must_use]
    pub fn of(kept: impl IntoIterator<Item = ([u8; 32], Given)>) -> Self {
        Self(kept.into_iter().collect())
    }

    /// Writes one in; `None` if too many are open.
    #[must_use]
    pub fn give(&mut self, secret: &Secret, expires: u64) -> Option<Given> {
        if self.0.len() >= OPEN_MAX {
            return None;
        }
        let given = Given {
            expires,
            used: None,
        };
        self.0.insert(secret.digest(), given.clone());
        Some(given)
    }

    /// Whether the holder of a key may come in with this; `Some` is who it was before.
    ///
    /// # Errors
    /// Why not.
    pub fn check(
        &self,
        secret: &Secret,
        key: &[u8; 32],
        now: u64,
    ) -> Result<Option<&Guest>, Refusal> {
        let given = self.0.get(&secret.digest());
        let given = given.ok_or(Refusal::InvitationUnknown)?;
        match &given.used {
            Some(guest) if guest.key != *key => Err(Refusal::InvitationUsed),
            _ if now >= given.expires => Err(Refusal::InvitationExpired),
            guest => Ok(guest.as_ref()),
        }
    }

    /// Notes who came with it; to be kept before anybody is told.
    ///
    /// # Panics
    /// If it was never given.
    pub fn note(&mut self, secret: &Secret, guest: Guest) -> Given {
        let given = self.0.get_mut(&secret.digest()).expect("a checked one");
        given.used = Some(guest);
        given.clone()
    }

    /// Forgets what ended long ago, and says what.
    pub fn forget(&mut self, now: u64) -> Vec<[u8; 32]> {
        let old = |given: &Given| now > given.expires.saturating_add(REMEMBERED);
        let forgotten: Vec<_> = self
            .0
            .iter()
            .filter(|(_, given)| old(given))
            .map(|(digest, _)| *digest)
            .collect();
        self.0.retain(|_, given| !old(given));
        forgotten
    }

    /// Those who came.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.0.values().filter_map(|given| given.used.as_ref())
    }
}

impl Encode for Given {
    fn encode(&self, out: &mut Vec<u8>) {
        self.expires.encode(out);
        if let Some(guest) = &self.used {
            out.extend_from_slice(&guest.key);
            guest.tile.encode(out);
            guest.name.as_bytes().encode(out);
        }
    }
}

impl Decode for Given {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let expires = u64::decode(from)?;
        let used = match from.remaining() {
            0 => None,
            _ => Some(Guest {
                key: from.bytes(32)?.try_into().expect("32 bytes"),
                tile: Tile::decode(from)?,
                name: read_name(from)?,
            }),
        };
        Ok(Self { expires, used })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wire::codec::decode_all;

    #[test]
    fn an_invitation_is_good_for_one_and_for_a_time() {
        let (secret, us, thief) = (Secret([1; 16]), [2; 32], [3; 32]);
        let mut book = Book::default();
        assert_eq!(book.check(&secret, &us, 0), Err(Refusal::InvitationUnknown));
        let _ = book.give(&secret, 100);
        assert_eq!(book.check(&secret, &us, 99), Ok(None));
        assert_eq!(
            book.check(&secret, &us, 100),
            Err(Refusal::InvitationExpired)
        );
        let guest = Guest {
            key: us,
            tile: Tile(4),
            name: "four".into(),
        };
        let given = book.note(&secret, guest.clone());
        assert_eq!(decode_all(&given.to_bytes()), Ok(given));
        assert_eq!(book.check(&secret, &us, 50), Ok(Some(&guest)));
        assert_eq!(
            book.check(&secret, &thief, 50),
            Err(Refusal::InvitationUsed)
        );
        assert_eq!(
            book.check(&secret, &thief, 500),
            Err(Refusal::InvitationUsed)
        );
        assert_eq!(book.guests().collect::<Vec<_>>(), [&guest]);
        assert_eq!(book.forget(100 + REMEMBERED), Vec::<[u8; 32]>::new());
        assert_eq!(book.forget(101 + REMEMBERED), [secret.digest()]);
    }
}
