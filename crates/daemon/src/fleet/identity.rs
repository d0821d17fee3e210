//! Who is a machine, and who says so?
//!
//! A machine is an Ed25519 key that never leaves it. A fleet is another, its *authority*, which says in an X.509
//! certificate which key sits on which tile and under which name; the authority's own certificate goes
//! along, and its BLAKE3 is the fleet's [`Fingerprint`]. Two machines that meet show their certificates in the TLS handshake,
//! in both directions, and each accepts exactly those of its own authority: no list of members has to be right
//! for that, and no third party asked.
//!
//! Tile and name stand in the certificate as the host names `N.tile.cosmos` and `NAME.name.cosmos`, so that
//! TLS itself checks that whoever answers is the tile that was called.
//!
//! The first machine founds the fleet and keeps the authority's key; only there can be invited and joined
//! ([decision](../../../../docs/decisions/2026-11-21-a-fleet-is-an-authority-and-what-it-signed.md)).
//!
//! Deliberately absent: taking a certificate back before it expires, renewing one without an invitation, and a
//! second holder of the authority's key.

use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SignatureAlgorithm,
};
use ring::signature::{self, Ed25519KeyPair, KeyPair as _};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{CertificateError, DigitallySignedStruct, RootCertStore, SignatureScheme};
use time::OffsetDateTime;
use trust::invitation::Fingerprint;
use wire::Tile;

/// What members speak, in TLS's negotiation (RFC 7301).
pub const MEMBERS: &[u8] = b"cosmos-fleet/1";
/// What a newcomer speaks.
pub const NEWCOMERS: &[u8] = b"cosmos-join/1";

/// A member's certificate holds for so long, in seconds: a year.
pub const MEMBER_LASTS: u64 = 365 * 86_400;
/// The authority's, and with it the fleet: thirty years.
const AUTHORITY_LASTS: u64 = 30 * MEMBER_LASTS;
/// Certificates hold from a little before they are made, in seconds, because clocks differ.
const CLOCKS_DIFFER: u64 = 3_600;

/// Why an identity could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Making a key or a certificate.
    #[error("making a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// TLS does not take it.
    #[error("a certificate that TLS does not take: {0}")]
    Tls(#[from] rustls::Error),
    /// What lies on disk is no key.
    #[error("the key kept here cannot be read")]
    Key,
}

/// A machine's key.
#[derive(Debug)]
pub struct Secret {
    /// PKCS #8.
    pkcs8: Vec<u8>,
    pair: Ed25519KeyPair,
}

/// What signs a fleet's certificates.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

/// A machine as a member of a fleet.
#[derive(Debug)]
pub struct Identity {
    /// Its key.
    pub secret: Secret,
    /// What the authority says of that.
    pub certificate: CertificateDer<'static>,
    /// The authority's own.
    pub authority: CertificateDer<'static>,
}

/// For how long a certificate holds, in seconds of Unix time.
#[derive(Clone, Copy, Debug)]
pub struct Validity {
    /// From when.
    pub from: u64,
    /// To when.
    pub to: u64,
}

impl Validity {
    /// A member's, made now.
    #[must_use]
    pub const fn of_member(now: u64) -> Self {
        Self {
            from: now.saturating_sub(CLOCKS_DIFFER),
            to: now + MEMBER_LASTS,
        }
    }

    fn put(self, params: &mut CertificateParams) {
        let at = |seconds: u64| {
            let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
            OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        (params.not_before, params.not_after) = (at(self.from), at(self.to));
    }
}

impl Secret {
    /// A new key, out of the kernel's randomness.
    ///
    /// # Errors
    /// If there is none.
    pub fn generate() -> Result<Self, IdentityError> {
        let random = ring::rand::SystemRandom::new();
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(|_| IdentityError::Key)?;
        Self::from_pkcs8(pkcs8.as_ref().to_vec())
    }

    /// A key that was kept.
    ///
    /// # Errors
    /// If the bytes are none.
    pub fn from_pkcs8(pkcs8: Vec<u8>) -> Result<Self, IdentityError> {
        let pair = Ed25519KeyPair::from_pkcs8(&pkcs8).map_err(|_| IdentityError::Key)?;
        Ok(Self { pkcs8, pair })
    }

    /// To be kept where nobody else can read.
    #[must_use]
    pub fn as_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The half that may be known.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        let mut public = [0; 32];
        public.copy_from_slice(self.pair.public_key().as_ref());
        public
    }

    /// Proof that whoever holds this key saw these bytes.
    #[must_use]
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        let mut signed = [0; 64];
        signed.copy_from_slice(self.pair.sign(bytes).as_ref());
        signed
    }
}

/// Whether the holder of a key signed these bytes.
#[must_use]
pub fn is_signed(public: &[u8; 32], bytes: &[u8], by: &[u8; 64]) -> bool {
    let key = signature::UnparsedPublicKey::new(&signature::ED25519, public);
    key.verify(bytes, by).is_ok()
}

struct Public<'a>(&'a [u8; 32]);

impl PublicKeyData for Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ED25519
    }
}

impl Authority {
    /// A new fleet's.
    ///
    /// # Errors
    /// If no key can be made.
    pub fn found(now: u64) -> Result<Self, IdentityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519)?;
        let mut params = Self::params();
        let (from, to) = (now.saturating_sub(CLOCKS_DIFFER), now + AUTHORITY_LASTS);
        Validity { from, to }.put(&mut params);
        let certificate = params.self_signed(&key)?.der().clone();
        Ok(Self { key, certificate })
    }

    /// One that was kept.
    ///
    /// # Errors
    /// If the bytes are no key.
    pub fn from_kept(pkcs8: &[u8], certificate: Vec<u8>) -> Result<Self, IdentityError> {
        let key = PrivatePkcs8KeyDer::from(pkcs8);
        Ok(Self {
            key: KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)?,
            certificate: certificate.into(),
        })
    }

    /// To be kept where nobody else can read.
    #[must_use]
    pub fn as_pkcs8(&self) -> &[u8] {
        self.key.serialized_der()
    }

    /// What everybody in the fleet trusts.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a signature needs of it, the same for every certificate.
    fn params() -> CertificateParams {
        let mut params = CertificateParams::default();
        let mut name = DistinguishedName::new();
        name.push(DnType::CommonName, "cosmos fleet");
        params.distinguished_name = name;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params
    }

    /// Says that the holder of a key sits on this tile and is called this.
    ///
    /// # Errors
    /// If the name is no host name.
    pub fn admit(
        &self,
        public: &[u8; 32],
        tile: Tile,
        name: &str,
        validity: Validity,
    ) -> Result<CertificateDer<'static>, IdentityError> {
        let mut params = CertificateParams::default();
        let mut subject = DistinguishedName::new();
        subject.push(DnType::CommonName, name);
        params.distinguished_name = subject;
        params.subject_alt_names = vec![
            SanType::DnsName(host_name(tile).try_into()?),
            SanType::DnsName(format!("{name}.name.cosmos").try_into()?),
        ];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        validity.put(&mut params);
        let issuer = Issuer::new(Self::params(), &self.key);
        Ok(params.signed_by(&Public(public), &issuer)?.der().clone())
    }
}

/// A tile as TLS names it.
#[must_use]
pub fn host_name(tile: Tile) -> String {
    format!("{}.tile.cosmos", tile.0)
}

/// The tile that a certificate, found valid already, is about.
pub(super) fn tile_of(certificate: &CertificateDer<'_>) -> Option<Tile> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate.valid_dns_names();
    names.find_map(|name| Some(Tile(name.strip_suffix(".tile.cosmos")?.parse().ok()?)))
}

/// The public key of an authority, by its certificate.
pub(super) fn key_of(authority: &CertificateDer<'_>) -> Option<[u8; 32]> {
    let anchor = webpki::anchor_from_trusted_cert(authority).ok()?;
    // All of them are Ed25519 keys, and the last thing there (RFC 8410 § 4).
    let info = anchor.subject_public_key_info.as_ref();
    info.get(info.len().checked_sub(32)?..)?.try_into().ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn only(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    Ok(Arc::new(roots))
}

impl Identity {
    /// The fleet it belongs to.
    #[must_use]
    pub fn fleet(&self) -> Fingerprint {
        Fingerprint::of(&self.authority)
    }

    fn chain(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let chain = vec![self.certificate.clone(), self.authority.clone()];
        let key = PrivatePkcs8KeyDer::from(self.secret.pkcs8.clone());
        (chain, key.into())
    }

    /// How it answers: to members of its fleet, and to newcomers, who have no certificate yet.
    ///
    /// # Errors
    /// If TLS does not take the certificate.
    pub fn answering(&self) -> Result<QuicServerConfig, IdentityError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(only(&self.authority)?, provider())
                .allow_unauthenticated()
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let (chain, key) = self.chain();
        let mut config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![MEMBERS.to_vec(), NEWCOMERS.to_vec()];
        config.send_tls13_tickets = 0;
        quic(config)
    }

    /// How it calls another member.
    ///
    /// # Errors
    /// If TLS does not take the certificate.
    pub fn calling(&self) -> Result<QuicClientConfig, IdentityError> {
        let verifier =
            WebPkiServerVerifier::builder_with_provider(only(&self.authority)?, provider())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        let (chain, key) = self.chain();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(verifier)
            .with_client_auth_cert(chain, key)?;
        config.alpn_protocols = vec![MEMBERS.to_vec()];
        // A session resumed shows no certificate, and so proves nothing of today.
        config.resumption = rustls::client::Resumption::disabled();
        called(config)
    }
}

/// How somebody without a certificate calls the fleet with this fingerprint.
///
/// # Errors
/// If TLS does not take the configuration.
pub fn knocking(fleet: Fingerprint) -> Result<QuicClientConfig, IdentityError> {
    let provider = provider();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Expected { fleet, provider }))
        .with_no_client_auth();
    config.alpn_protocols = vec![NEWCOMERS.to_vec()];
    called(config)
}

fn quic(config: rustls::ServerConfig) -> Result<QuicServerConfig, IdentityError> {
    let none = |_| rustls::Error::General("no cipher suite for QUIC".into());
    Ok(QuicServerConfig::try_from(config).map_err(none)?)
}

fn called(config: rustls::ClientConfig) -> Result<QuicClientConfig, IdentityError> {
    let none = |_| rustls::Error::General("no cipher suite for QUIC".into());
    Ok(QuicClientConfig::try_from(config).map_err(none)?)
}

/// Accepts who was certified by the authority with this fingerprint, which goes along as the last of the chain.
#[derive(Debug)]
struct Expected {
    fleet: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Expected {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let expected = intermediates.last();
        let expected = expected.filter(|authority| Fingerprint::of(authority) == self.fleet);
        let Some(authority) = expected else {
            let failure = CertificateError::ApplicationVerificationFailure;
            return Err(rustls::Error::InvalidCertificate(failure));
        };
        let roots = only(&authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&self.provider))
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        // QUIC has no older TLS than 1.3 (RFC 9001 § 4.2).
        Err(rustls::Error::General("TLS 1.2 in QUIC".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_which_tile_and_only_a_signature_of_its_key_counts() {
        let authority = Authority::found(1_000_000).unwrap();
        let secret = Secret::generate().unwrap();
        let validity = Validity::of_member(1_000_000);
        let certificate = authority
            .admit(&secret.public(), Tile(7), "seven", validity)
            .unwrap();
        assert_eq!(tile_of(&certificate), Some(Tile(7)));
        assert_eq!(tile_of(authority.certificate()), None);
        let signed = secret.sign(b"these bytes");
        assert!(is_signed(&secret.public(), b"these bytes", &signed));
        assert!(!is_signed(&secret.public(), b"other bytes", &signed));
        assert!(!is_signed(
            &Secret::generate().unwrap().public(),
            b"these bytes",
            &signed
        ));
    }

    #[test]
    fn a_kept_authority_signs_as_before() {
        let authority = Authority::found(1_000_000).unwrap();
        let kept = authority.certificate().to_vec();
        let again = Authority::from_kept(authority.as_pkcs8(), kept).unwrap();
        let secret = Secret::generate().unwrap();
        let validity = Validity::of_member(1_000_000);
        let admit = |authority: &Authority| {
            authority
                .admit(&secret.public(), Tile(1), "one", validity)
                .unwrap()
        };
        let identity = |certificate| Identity {
            secret: Secret::from_pkcs8(secret.as_pkcs8().to_vec()).unwrap(),
            certificate,
            authority: authority.certificate().clone(),
        };
        assert!(identity(admit(&authority)).answering().is_ok());
        assert!(identity(admit(&again)).calling().is_ok());
        // A certificate for another key is none.
        let other = Secret::generate().unwrap();
        let strange = authority
            .admit(&other.public(), Tile(1), "one", validity)
            .unwrap();
        assert!(identity(strange).answering().is_err());
    }
}
