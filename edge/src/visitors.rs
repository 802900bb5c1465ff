//! Visitor hashes: keyed by the day's random salt, so that a visitor is recognised within a UTC day and never after.
//!
//! Salts are made by `analytics` and shared by all edges, fetched a day ahead. Only today's and tomorrow's are kept here, and
//! a dropped key is wiped by the library that holds it. Without today's salt a click has no visitor hash.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use jiff::Timestamp;
use proto::analytics::v1::GetSaltsRequest;
use proto::analytics::v1::Salt;
use proto::analytics::v1::salts_service_client::SaltsServiceClient;
use rpc::network::NetworkHash;
use tokio_util::sync::CancellationToken;

/// 8 bytes of HMAC-SHA-256.
pub(crate) type VisitorHash = [u8; 8];

const DAY_MICROS: i64 = 86_400_000_000;
/// Bytes of a salt.
const SALT_BYTES: usize = 16;
/// Salts of one answer that are looked at: yesterday's, today's, tomorrow's, and no more than that.
const SALTS_MAX: usize = 4;
/// How long an answer with salts is waited for.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// How long until the next attempt after one that failed, at first and at most.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often salts are fetched, and old ones wiped, when all is well.
const REFRESH: Duration = Duration::from_secs(15 * 60);

/// The salts of today and tomorrow. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Visitors(Arc<ArcSwap<Vec<DaySalt>>>);

#[derive(Debug, Clone)]
struct DaySalt {
    day: i64,
    key: hmac::Key,
}

impl Visitors {
    /// Who clicks on a domain, as far as this day is concerned; none without the day's salt.
    pub(crate) fn hash(
        &self,
        now_micros: i64,
        address: IpAddr,
        user_agent: &[u8],
        domain: &[u8],
    ) -> Option<VisitorHash> {
        let day = now_micros.div_euclid(DAY_MICROS);
        let salts = self.0.load();
        let salt = salts.iter().find(|salt| salt.day == day)?;
        let mut context = hmac::Context::with_key(&salt.key);
        let address = match address {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        context.update(&address.octets());
        // The domain's length stands between, so that no two inputs read the same.
        let domain_bytes = u16::try_from(domain.len()).unwrap_or(u16::MAX);
        context.update(&domain_bytes.to_be_bytes());
        context.update(domain);
        context.update(user_agent);
        let tag = context.sign();
        tag.as_ref().first_chunk().copied()
    }

    /// Which network an address is of, as far as this day is concerned: its first 32 bits (IPv4) or 64 (IPv6), which is what one
    /// subscriber has. None without the day's salt.
    pub(crate) fn network(&self, now_micros: i64, address: IpAddr) -> Option<NetworkHash> {
        // Shorter than what a visitor's hash begins with, so no network is a visitor.
        self.network_under(b"", now_micros, address)
    }

    /// What the limits of an address's network are counted under, as far as this day is concerned. It is in Redis, where nobody
    /// shall find what services are told: the same bits, under another beginning.
    pub(crate) fn limited(&self, now_micros: i64, address: IpAddr) -> Option<NetworkHash> {
        // Of a length that neither a visitor's nor a network's input has.
        self.network_under(b"limit", now_micros, address)
    }

    fn network_under(
        &self,
        beginning: &[u8],
        now_micros: i64,
        address: IpAddr,
    ) -> Option<NetworkHash> {
        let day = now_micros.div_euclid(DAY_MICROS);
        let salts = self.0.load();
        let salt = salts.iter().find(|salt| salt.day == day)?;
        let mut context = hmac::Context::with_key(&salt.key);
        context.update(beginning);
        match address.to_canonical() {
            IpAddr::V4(v4) => context.update(&v4.octets()),
            IpAddr::V6(v6) => context.update(&v6.octets()[..8]),
        }
        context.sign().as_ref().first_chunk().copied()
    }

    /// Takes the salts of today and tomorrow, and drops all others. Returns whether tomorrow's is among them.
    pub(crate) fn install(&self, salts: &[Salt], now_micros: i64) -> bool {
        let today = now_micros.div_euclid(DAY_MICROS);
        let kept: Vec<DaySalt> = salts
            .iter()
            .take(SALTS_MAX)
            .filter(|salt| salt.key.len() == SALT_BYTES)
            .map(|salt| DaySalt {
                day: i64::from(salt.day),
                key: hmac::Key::new(hmac::HMAC_SHA256, &salt.key),
            })
            .filter(|salt| salt.day == today || salt.day == today + 1)
            .collect();
        let has_tomorrow = kept.iter().any(|salt| salt.day == today + 1);
        self.0.store(Arc::new(kept));
        has_tomorrow
    }

    /// Drops the salts of days that are over.
    fn wipe(&self, now_micros: i64) {
        let today = now_micros.div_euclid(DAY_MICROS);
        let salts = self.0.load();
        if salts.iter().any(|salt| salt.day < today) {
            let kept = salts.iter().filter(|salt| salt.day >= today).cloned().collect();
            self.0.store(Arc::new(kept));
        }
    }

    /// Fetches salts until `stop`: again soon while tomorrow's is missing, else every quarter of an hour.
    pub(crate) async fn run(self, mesh: mesh::Mesh, stop: CancellationToken) -> anyhow::Result<()> {
        let mut retry = RETRY_MIN;
        loop {
            let now_micros = Timestamp::now().as_microsecond();
            self.wipe(now_micros);
            let wait = match self.fetch(&mesh, now_micros).await {
                Ok(true) => {
                    retry = RETRY_MIN;
                    REFRESH
                }
                Ok(false) => RETRY_MAX,
                Err(error) => {
                    tracing::warn!(error = %format!("{error:#}"), "the salts can't be fetched");
                    retry = (retry * 2).min(RETRY_MAX);
                    retry
                }
            };
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn fetch(&self, mesh: &mesh::Mesh, now_micros: i64) -> anyhow::Result<bool> {
        let mut client = SaltsServiceClient::new(mesh.clone());
        let mut request = tonic::Request::new(GetSaltsRequest {});
        request.set_timeout(FETCH_TIMEOUT);
        let answer = tokio::time::timeout(FETCH_TIMEOUT, client.get_salts(request)).await;
        let mut salts = answer.context("no answer in time")??.into_inner().salts;
        let has_tomorrow = self.install(&salts, now_micros);
        for salt in &mut salts {
            salt.key.fill(0);
        }
        Ok(has_tomorrow)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: i64 = DAY_MICROS * 20_000 + DAY_MICROS / 2;

    fn salt(day: i32, byte: u8) -> Salt {
        Salt { day, key: vec![byte; SALT_BYTES] }
    }

    fn hash(visitors: &Visitors, now_micros: i64, address: &str) -> Option<VisitorHash> {
        visitors.hash(now_micros, address.parse().expect("an address"), b"agent", b"l.example")
    }

    #[test]
    fn a_visitor_is_the_same_within_a_day_and_another_one_on_the_next() {
        let visitors = Visitors::default();
        assert!(visitors.install(&[salt(19_999, 1), salt(20_000, 2), salt(20_001, 3)], NOON));
        let one = hash(&visitors, NOON, "192.0.2.1");
        assert!(one.is_some());
        assert_eq!(one, hash(&visitors, NOON + 1, "192.0.2.1"));
        assert_eq!(one, hash(&visitors, NOON, "::ffff:192.0.2.1"));
        assert_ne!(one, hash(&visitors, NOON, "192.0.2.2"));
        assert_ne!(one, hash(&visitors, NOON + DAY_MICROS, "192.0.2.1"));
        assert_eq!(hash(&visitors, NOON - DAY_MICROS, "192.0.2.1"), None, "it is over");
        assert_eq!(hash(&visitors, NOON + 2 * DAY_MICROS, "192.0.2.1"), None, "it has none yet");
    }

    #[test]
    fn a_day_that_is_over_loses_its_salt_and_a_malformed_one_is_no_salt() {
        let visitors = Visitors::default();
        assert!(!visitors.install(&[salt(20_000, 2), Salt { day: 20_001, key: vec![1] }], NOON));
        visitors.wipe(NOON + DAY_MICROS);
        assert_eq!(hash(&visitors, NOON, "192.0.2.1"), None);
    }

    #[test]
    fn what_limits_are_counted_under_is_of_a_network_and_no_other_hash_of_it() {
        let visitors = Visitors::default();
        visitors.install(&[salt(20_000, 2)], NOON);
        let limited = |address: &str| visitors.limited(NOON, address.parse().expect("an address"));
        let one = limited("192.0.2.1");
        assert_eq!(one, limited("::ffff:192.0.2.1"));
        assert_ne!(one, limited("192.0.2.2"));
        assert_ne!(one, visitors.network(NOON, IpAddr::from([192, 0, 2, 1])));
        assert_eq!(limited("2001:db8::1"), limited("2001:db8::2:1"));
        assert_ne!(limited("2001:db8::1"), limited("2001:db8:0:1::1"));
        let tomorrow = visitors.limited(NOON + DAY_MICROS, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(tomorrow, None);
    }

    #[test]
    fn the_parts_of_the_input_can_not_be_shifted() {
        let visitors = Visitors::default();
        visitors.install(&[salt(20_000, 2)], NOON);
        let address = IpAddr::from([192, 0, 2, 1]);
        assert_ne!(
            visitors.hash(NOON, address, b"bc", b"a"),
            visitors.hash(NOON, address, b"c", b"ab")
        );
    }
}
