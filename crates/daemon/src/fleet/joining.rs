//! How a stranger becomes a member.
//!
//! The newcomer calls without a certificate, checks the fleet's fingerprint in the handshake, and on one
//! stream says: this is my invitation's secret, this is my key, and this signature, over a value that
//! only this conversation has (a TLS exporter, RFC 5705), proves that I hold it. The authority answers with a
//! certificate, the members' secret and the directory, or with the word for why not.
//!
//! Both messages are of the canonical codec and bounded; a stranger can make the authority read
//! [`REQUEST_BYTES_MAX`] bytes and check one signature, no more.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint};
use trust::invitation::{Invitation, Secret};
use wire::codec::decode_all;
use wire::{Decode, DecodeError, Encode, Reader, Tile};

use super::directory::{Entries, read_name};
use super::refusal::Refusal;
use super::{FleetError, identity, refusal};

/// A request is no longer, in bytes.
pub const REQUEST_BYTES_MAX: usize = 256;
/// An answer is no longer, in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Neither side waits longer for the other.
pub const PATIENCE: Duration = Duration::from_secs(15);

const LABEL: &[u8] = b"cosmos join v1";

/// What a newcomer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The invitation's.
    pub secret: Secret,
    /// Its public key.
    pub key: [u8; 32],
    /// That it holds that, and says so here and now.
    pub proof: [u8; 64],
    /// What it would like to be called.
    pub name: String,
}

/// What it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Come in.
    Welcome(Box<Welcome>),
    /// Stay out.
    Refused {
        /// The word for why, of [`Refusal::name`].
        because: String,
    },
}

/// What makes a newcomer a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Its seat.
    pub tile: Tile,
    /// What it is called.
    pub name: String,
    /// What the authority says of its key, DER.
    pub certificate: Vec<u8>,
    /// The authority's certificate, DER.
    pub authority: Vec<u8>,
    /// What members share.
    pub secret: [u8; 32],
    /// Where the others are.
    pub directory: Entries,
}

impl Encode for Request {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.secret.0);
        out.extend_from_slice(&self.key);
        out.extend_from_slice(&self.proof);
        self.name.as_bytes().encode(out);
    }
}

impl Decode for Request {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            secret: Secret(from.bytes(16)?.try_into().expect("16 bytes")),
            key: from.bytes(32)?.try_into().expect("32 bytes"),
            proof: from.bytes(64)?.try_into().expect("64 bytes"),
            name: read_name(from)?,
        })
    }
}

impl Encode for Answer {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Refused { because } => {
                out.push(0);
                because.as_bytes().encode(out);
            }
            Self::Welcome(welcome) => {
                out.push(1);
                welcome.tile.encode(out);
                welcome.name.as_bytes().encode(out);
                welcome.certificate.encode(out);
                welcome.authority.encode(out);
                out.extend_from_slice(&welcome.secret);
                welcome.directory.encode(out);
            }
        }
    }
}

impl Decode for Answer {
    fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let at = from.position();
        match from.byte()? {
            0 => {
                let at = from.position();
                let because = String::from_utf8(Vec::decode(from)?);
                let because = because.map_err(|error| DecodeError::Invalid {
                    at,
                    what: "text",
                    found: error.as_bytes().len() as u64,
                })?;
                Ok(Self::Refused { because })
            }
            1 => Ok(Self::Welcome(Box::new(Welcome {
                tile: Tile::decode(from)?,
                name: read_name(from)?,
                certificate: Vec::decode(from)?,
                authority: Vec::decode(from)?,
                secret: from.bytes(32)?.try_into().expect("32 bytes"),
                directory: Entries::decode(from)?,
            }))),
            found => Err(DecodeError::Invalid {
                at,
                what: "answer to a newcomer",
                found: found.into(),
            }),
        }
    }
}

/// What the proof is made over; nobody else has it, and it is gone with the connection.
fn moment(connection: &Connection) -> Result<[u8; 32], ConnectionError> {
    let mut moment = [0; 32];
    let exported = connection.export_keying_material(&mut moment, LABEL, b"");
    exported.map_err(|_| ConnectionError::LocallyClosed)?;
    Ok(moment)
}

/// Calls the fleet that an invitation names.
///
/// # Errors
/// If nobody answers there, another fleet does, or this one refuses. Nothing has changed then, unless the answer
/// was lost: coming again with the same invitation and key is all right.
pub async fn join(
    endpoint: &Endpoint,
    invitation: &Invitation,
    secret: &identity::Secret,
    name: &str,
) -> Result<Welcome, FleetError> {
    let at = invitation.address;
    let unanswered = |because: String| FleetError::Unanswered { at, because };
    let config = quinn::ClientConfig::new(Arc::new(identity::knocking(invitation.fingerprint)?));
    let host = identity::host_name(invitation.tile);
    let calling = endpoint.connect_with(config, at, &host);
    let calling = calling.map_err(|error| unanswered(error.to_string()))?;
    let late = |_| unanswered(format!("nothing was heard for {} s", PATIENCE.as_secs()));
    let connection = tokio::time::timeout(PATIENCE, calling)
        .await
        .map_err(late)?;
    let connection = connection.map_err(|error| match refusal::alert(&error) {
        Some(refusal::ACCESS_DENIED) => FleetError::WrongFingerprint {
            at,
            expected: invitation.fingerprint,
        },
        _ => unanswered(error.to_string()),
    })?;
    let conversation = async {
        let (mut saying, mut hearing) = connection.open_bi().await?;
        let request = Request {
            secret: invitation.secret,
            key: secret.public(),
            proof: secret.sign(&moment(&connection)?),
            name: name.to_owned(),
        };
        let said = saying.write_all(&request.to_bytes()).await;
        said.map_err(|_| ConnectionError::LocallyClosed)?;
        let _ = saying.finish();
        let heard = hearing.read_to_end(ANSWER_BYTES_MAX).await;
        Ok::<_, ConnectionError>(heard.unwrap_or_default())
    };
    let heard = tokio::time::timeout(PATIENCE, conversation)
        .await
        .map_err(late)?;
    let heard = heard.map_err(|error| unanswered(error.to_string()))?;
    connection.close(0_u32.into(), b"");
    match decode_all(&heard) {
        Ok(Answer::Welcome(welcome)) => Ok(*welcome),
        Ok(Answer::Refused { because }) => Err(FleetError::Refused { at, because }),
        Err(error) => Err(unanswered(format!("what it said cannot be read: {error}"))),
    }
}

/// Hears a newcomer out; `None` is said to one whose request is none.
pub(super) async fn hear(connection: &Connection) -> Option<(Request, quinn::SendStream)> {
    let (answering, mut hearing) = connection.accept_bi().await.ok()?;
    let heard = hearing.read_to_end(REQUEST_BYTES_MAX).await.ok()?;
    let request: Request = decode_all(&heard).ok()?;
    let proven = identity::is_signed(&request.key, &moment(connection).ok()?, &request.proof);
    proven.then_some((request, answering))
}

/// Answers, and waits until that was heard.
pub(super) async fn answer(connection: &Connection, mut to: quinn::SendStream, answer: &Answer) {
    if to.write_all(&answer.to_bytes()).await.is_ok() && to.finish().is_ok() {
        let _ = tokio::time::timeout(PATIENCE, connection.closed()).await;
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused {
            because: refusal.name().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::directory::Entry;

    /// Every beginning of it is refused, and nothing else spells it.
    fn has_one_spelling<T: Decode + Encode + PartialEq + std::fmt::Debug>(value: &T) {
        let bytes = value.to_bytes();
        assert_eq!(decode_all::<T>(&bytes).as_ref(), Ok(value));
        for cut in 0..bytes.len() {
            assert!(decode_all::<T>(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = decode_all::<T>(&flipped) {
                assert_eq!(other.to_bytes(), flipped, "bit {bit}");
            }
        }
    }

    #[test]
    fn what_is_said_at_the_door_is_canonical_and_bounded() {
        let request = Request {
            secret: Secret([1; 16]),
            key: [2; 32],
            proof: [3; 64],
            name: "n".repeat(63),
        };
        assert!(request.to_bytes().len() <= REQUEST_BYTES_MAX);
        has_one_spelling(&request);
        let entry = Entry {
            tile: Tile(63),
            name: "n".repeat(63),
            address: "[2001:db8::1]:65535".parse().unwrap(),
            incarnation: u32::MAX,
        };
        let welcome = |entries: usize| {
            Answer::Welcome(Box::new(Welcome {
                tile: Tile(1),
                name: "one".into(),
                certificate: vec![4; 600],
                authority: vec![5; 600],
                secret: [6; 32],
                directory: Entries(vec![entry.clone(); entries]),
            }))
        };
        has_one_spelling(&welcome(2));
        // A whole fleet's directory.
        assert!(welcome(64).to_bytes().len() <= ANSWER_BYTES_MAX);
        has_one_spelling(&Answer::from(Refusal::InvitationUsed));
    }
}
