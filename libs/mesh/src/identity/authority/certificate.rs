//! What is in the certificates that are issued: roots, intermediates, leaves.

use crate::identity::PeerIdentity;
use crate::identity::Role;
use anyhow::Context as _;
use jiff::Timestamp;
use rand::RngExt as _;
use rcgen::BasicConstraints;
use rcgen::CertificateParams;
use rcgen::DnType;
use rcgen::ExtendedKeyUsagePurpose;
use rcgen::IsCa;
use rcgen::KeyUsagePurpose;
use rcgen::SanType;
use rcgen::SerialNumber;
use std::time::Duration;
use std::time::SystemTime;

/// How far two clocks of the mesh may differ: a certificate is valid this much earlier and longer than it is meant to be used.
/// 20 s, as Linkerd's.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(20);
/// How long a root is valid.
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How many random bytes a serial number has; RFC 5280 allows 20, CAs are to use at least 8 of them.
const SERIAL_BYTES: usize = 16;

pub(super) fn root(now: Timestamp) -> anyhow::Result<CertificateParams> {
    let mut params = params(now, ROOT_LIFE)?;
    // Roots that are trusted at the same time have names of their own, so that tools can tell them apart.
    let number: u32 = rand::rng().random();
    params.distinguished_name.push(DnType::CommonName, format!("linkmesh root {number:08x}"));
    // One intermediate may stand between a root and a leaf.
    make_issuer(&mut params, 1);
    Ok(params)
}

pub(super) fn intermediate(now: Timestamp, life: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = params(now, life)?;
    let number: u32 = rand::rng().random();
    params.distinguished_name.push(DnType::CommonName, format!("linkmesh issuer {number:08x}"));
    make_issuer(&mut params, 0);
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

pub(super) fn leaf(
    peer: &PeerIdentity,
    now: Timestamp,
    life: Duration,
) -> anyhow::Result<CertificateParams> {
    let spiffe_id = peer.spiffe_id().context("a certificate names someone")?;
    let mut params = params(now, life)?;
    params.distinguished_name.push(DnType::CommonName, peer.to_string());
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    // An operator is called by nobody.
    if peer.role == Role::Service {
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        params.subject_alt_names.push(SanType::DnsName(peer.service.dns_name().try_into()?));
    }
    params.subject_alt_names.push(SanType::URI(spiffe_id.try_into()?));
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn params(now: Timestamp, life: Duration) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    let mut serial: [u8; SERIAL_BYTES] = rand::rng().random();
    // A serial number is a positive integer.
    serial[0] = serial[0] & 0x7f | 1;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    let now = SystemTime::from(now);
    params.not_before = (now - CLOCK_SKEW_MAX).into();
    params.not_after = (now + life + CLOCK_SKEW_MAX).into();
    Ok(params)
}

fn make_issuer(params: &mut CertificateParams, issuers_below: u8) {
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(issuers_below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
}
