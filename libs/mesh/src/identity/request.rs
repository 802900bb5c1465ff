//! A request for a certificate: a public key, and the proof that whoever asks has the private one.

use super::Fingerprint;
use super::pem;
use anyhow::Context as _;
use anyhow::ensure;
use rcgen::CertificateParams;
use rcgen::CertificateSigningRequestParams;
use rcgen::KeyPair;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rcgen::PKCS_ECDSA_P384_SHA384;
use rcgen::PKCS_ED25519;
use rcgen::PublicKey;
use rcgen::PublicKeyData as _;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::PrivatePkcs8KeyDer;

/// The longest request, in bytes; one for a P-384 key has 400.
const REQUEST_BYTES_MAX: usize = 4096;

/// A key that was just made, with the request for its certificate. It is in no debug output.
pub struct NewKey {
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    /// The PKCS#10 request, DER.
    pub request: Vec<u8>,
}

impl NewKey {
    /// Makes one: ECDSA on P-256, which every stock client verifies.
    ///
    /// # Errors
    /// If the system gives no randomness.
    pub fn generate() -> anyhow::Result<Self> {
        let key = KeyPair::generate().context("making a key")?;
        // Names in a request are ignored, so there are none.
        let request = CertificateParams::default().serialize_request(&key)?;
        Ok(Self {
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            request: request.der().to_vec(),
        })
    }
}

impl NewKey {
    /// The key, PKCS#8 as PEM.
    #[must_use]
    pub fn pem(&self) -> String {
        pem::encode("PRIVATE KEY", self.key.secret_pkcs8_der())
    }
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("NewKey").finish_non_exhaustive()
    }
}

/// A request whose signature was checked. Only the key counts: the names are the issuer's to give.
#[derive(Debug, Clone)]
pub struct CertificateRequest {
    pub(super) public_key: PublicKey,
}

impl CertificateRequest {
    /// Reads a PKCS#10 request.
    ///
    /// # Errors
    /// If it is malformed, not signed by its own key, or for a kind of key that is not taken.
    pub fn parse(der: &[u8]) -> anyhow::Result<Self> {
        ensure!(
            der.len() <= REQUEST_BYTES_MAX,
            "must have at most {REQUEST_BYTES_MAX} bytes, has {}",
            der.len()
        );
        let der = CertificateSigningRequestDer::from(der);
        let request = CertificateSigningRequestParams::from_der(&der)
            .map_err(|error| anyhow::anyhow!("must be a PKCS#10 request, DER: {error}"))?;
        let public_key = request.public_key;
        let taken = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519];
        ensure!(
            taken.contains(&public_key.algorithm()),
            "must be for an ECDSA key on P-256 or P-384, or an Ed25519 key"
        );
        Ok(Self { public_key })
    }

    /// Tells keys apart.
    #[must_use]
    pub fn key_fingerprint(&self) -> Fingerprint {
        Fingerprint::of(self.public_key.der_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_proves_that_the_key_is_there() {
        let key = NewKey::generate().unwrap();
        CertificateRequest::parse(&key.request).unwrap();
        let mut forged = key.request.clone();
        *forged.last_mut().unwrap() ^= 1;
        for wrong in [forged.as_slice(), b"", b"\x30\x03", &[0x30; REQUEST_BYTES_MAX + 1]] {
            assert!(CertificateRequest::parse(wrong).is_err());
        }
    }

    #[test]
    fn a_weak_or_unusual_key_is_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        assert!(CertificateRequest::parse(request.der()).is_err());
    }
}
