//! What was not let in, and why.
//!
//! Everything that comes from outside and is turned away is counted under a word of this vocabulary, and
//! `cosmos status --json` shows the counts: somebody who tries keys at the door, a machine with a
//! certificate that ran out, and a peer of another version look alike in a packet capture and
//! must not look alike to an operator. The words of frames are [`trust::envelope::Refused::name`]'s.

use std::collections::BTreeMap;

use quinn::ConnectionError;
use trust::envelope;

/// Why somebody or something was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The invitation was used, by somebody else.
    InvitationUsed,
    /// It came after the invitation's time.
    InvitationExpired,
    /// This fleet gave out no such invitation.
    InvitationUnknown,
    /// The newcomer meant another fleet: it says so, or it broke off on seeing this one's fingerprint.
    InvitationForeign,
    /// Joining, it said something else than a request, or did not hold the key it named.
    JoinMalformed,
    /// All seats are taken.
    FleetFull,
    /// Here is not where newcomers are taken in.
    NotTheAuthority,
    /// It meant to speak as a member and showed no certificate.
    CertificateMissing,
    /// Its certificate is of another fleet, is forged, or does not say what it should.
    CertificateWrong,
    /// Its certificate has expired, or holds only later.
    CertificateExpired,
    /// Its certificate is for a seat that was taken away.
    CertificateRevoked,
    /// The handshake failed otherwise.
    Handshake,
    /// Too many were at the door at once.
    Crowd,
    /// The frame itself.
    Frame(envelope::Refused),
    /// A frame of one class came the way of another.
    FrameWrongWay,
    /// A frame of a protocol nobody here speaks, or whose payload means nothing.
    FrameNonsense,
    /// What the member refused.
    Message(membership::Reason),
    /// What the council refused.
    Council(consensus::Reason),
}

impl Refusal {
    /// The word for it.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::InvitationUsed => "invitation-used",
            Self::InvitationExpired => "invitation-expired",
            Self::InvitationUnknown => "invitation-unknown",
            Self::InvitationForeign => "invitation-of-another-fleet",
            Self::JoinMalformed => "join-malformed",
            Self::FleetFull => "fleet-full",
            Self::NotTheAuthority => "not-the-authority",
            Self::CertificateMissing => "certificate-missing",
            Self::CertificateWrong => "certificate-wrong",
            Self::CertificateExpired => "certificate-expired",
            Self::CertificateRevoked => "certificate-revoked",
            Self::Handshake => "handshake",
            Self::Crowd => "too-many-at-once",
            Self::Frame(refused) => refused.name(),
            Self::FrameWrongWay => "frame-wrong-way",
            Self::FrameNonsense => "frame-nonsense",
            Self::Message(membership::Reason::WrongCell) => "message-wrong-cell",
            Self::Message(membership::Reason::NotForMe) => "message-not-for-me",
            Self::Message(membership::Reason::Forged) => "message-forged",
            Self::Message(membership::Reason::Nobody) => "message-names-nobody",
            Self::Message(membership::Reason::Stale) => "message-stale",
            Self::Council(consensus::Reason::WrongCell) => "council-wrong-cell",
            Self::Council(consensus::Reason::NotForMe) => "council-not-for-me",
            Self::Council(consensus::Reason::NotItsAuthor) => "council-not-its-author",
            Self::Council(consensus::Reason::Rival) => "council-rival",
            Self::Council(consensus::Reason::Unsaid) => "council-unsays-what-was-agreed",
            Self::Council(consensus::Reason::Unreadable) => "council-unreadable",
        }
    }

    /// Why a handshake with somebody who came here failed; `None` if it just went away.
    ///
    /// QUIC carries TLS alerts as error codes 0x100 to 0x1ff (RFC 9001 § 4.8); the alerts are those of RFC 8446 § 6.2.
    #[must_use]
    pub fn of_handshake(error: &ConnectionError) -> Option<Self> {
        Some(match alert(error) {
            Some(CERTIFICATE_EXPIRED) if ours(error) => Self::CertificateExpired,
            Some(ACCESS_DENIED) if !ours(error) => Self::InvitationForeign,
            Some(42..=51) if ours(error) => Self::CertificateWrong,
            Some(_) => Self::Handshake,
            None => match error {
                ConnectionError::TransportError(_) | ConnectionError::VersionMismatch => {
                    Self::Handshake
                }
                _ => return None,
            },
        })
    }
}

const CERTIFICATE_EXPIRED: u8 = 45;
/// What somebody says who finds another fleet than the one invited to.
pub(super) const ACCESS_DENIED: u8 = 49;

/// The TLS alert with which a connection failed.
pub(super) fn alert(error: &ConnectionError) -> Option<u8> {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return None,
    };
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// Whether this side found the fault.
const fn ours(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(_))
}

/// How often each happened.
#[derive(Clone, Debug, Default)]
pub struct Refusals(BTreeMap<&'static str, u64>);

impl Refusals {
    /// Once more.
    pub fn count(&mut self, refusal: Refusal) {
        *self.0.entry(refusal.name()).or_default() += 1;
    }

    /// Those that happened, by name.
    #[must_use]
    pub fn counted(&self) -> BTreeMap<String, u64> {
        let counted = self.0.iter();
        counted
            .map(|(name, count)| ((*name).to_owned(), *count))
            .collect()
    }
}
