//! How a process that has no certificate yet knows whom it asks for one: by the fingerprints of the roots.
//!
//! A join token (or the configuration) pins the SHA-256 of the roots; the server that takes joins shows its root with its
//! chain. What leads to a pinned root is verified as always. kubeadm does the same.

use super::Fingerprint;
use super::tls;
use anyhow::ensure;
use rustls::CertificateError;
use rustls::ClientConfig;
use rustls::DigitallySignedStruct;
use rustls::Error;
use rustls::RootCertStore;
use rustls::SignatureScheme;
use rustls::client::Resumption;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::danger::ServerCertVerified;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::crypto::verify_tls12_signature;
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::UnixTime;
use rustls::version::TLS13;
use std::sync::Arc;

/// What is opened without a certificate of one's own, to a server that leads to one of `pins`.
pub(super) fn client(pins: &[Fingerprint]) -> anyhow::Result<ClientConfig> {
    ensure!(!pins.is_empty(), "nothing says which root is to be trusted");
    let provider = tls::provider();
    let verifier = PinnedRoots { pins: pins.into(), provider: Arc::clone(&provider) };
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    client.alpn_protocols = vec![tls::ALPN.to_vec()];
    client.resumption = Resumption::disabled();
    Ok(client)
}

/// Trusts the roots among what the server shows whose fingerprints are known, and what leads to them.
#[derive(Debug)]
struct PinnedRoots {
    pins: Box<[Fingerprint]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoots {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let mut roots = RootCertStore::empty();
        for shown in intermediates {
            // A fingerprint is public and compared with one: nothing leaks by how long that takes.
            if self.pins.contains(&Fingerprint::of(shown)) {
                roots.add(shown.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            tracing::warn!(
                pins = ?self.pins,
                "the server that would issue a certificate shows none of the roots that are pinned"
            );
            return Err(CertificateError::UnknownIssuer.into());
        }
        let provider = Arc::clone(&self.provider);
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
