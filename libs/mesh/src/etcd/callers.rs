//! The ordinals of callers in etcd, under `linkmesh/callers/<service>/<ordinal>`: each is taken by a transaction that only one can
//! win, and held by a lease.

use super::answer;
use super::lease::Hold;
use super::watch::Kind;
use super::watch::prefix_end;
use crate::registry::Caller;
use crate::registry::CallerChange;
use crate::registry::lowest_free;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use etcd_client::Client;
use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::GetOptions;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use serde::Deserialize;
use serde::Serialize;

/// How often an ordinal is tried for that someone else took first, before etcd is asked anew after a while.
const CLAIMS_MAX: usize = 16;
/// How many callers of one service are counted.
const CALLERS_MAX: i64 = 10_000;

/// All callers of all services.
pub(super) struct Callers;

/// Fields may be added: an older version ignores what it doesn't know.
#[derive(Debug, Serialize, Deserialize)]
struct Value {
    process: String,
    #[serde(default)]
    zone: String,
}

impl Kind for Callers {
    const PREFIX: &'static str = "linkmesh/callers/";
    const WHAT: &'static str = "callers";
    type Entry = Caller;
    type Change = CallerChange;

    fn entry(key: &[u8], value: &[u8]) -> anyhow::Result<Caller> {
        let (service, ordinal) = parse_key(key)?;
        let Value { process, zone } = serde_json::from_slice(value)?;
        Ok(Caller { service, ordinal, process, zone })
    }

    fn put(entry: Caller) -> CallerChange {
        CallerChange::Put(entry)
    }

    fn delete(key: &[u8]) -> anyhow::Result<CallerChange> {
        let (service, ordinal) = parse_key(key)?;
        Ok(CallerChange::Delete { service, ordinal })
    }
}

fn parse_key(key: &[u8]) -> anyhow::Result<(String, u32)> {
    let key = std::str::from_utf8(key).context("it is not UTF-8")?;
    let rest = key.strip_prefix(Callers::PREFIX).context("it has another prefix")?;
    let (service, ordinal) = rest.split_once('/').context("it names no ordinal")?;
    ensure!(!service.is_empty(), "it names no service");
    Ok((service.to_owned(), ordinal.parse().context("its ordinal is no number")?))
}

/// An ordinal that is to be held.
#[derive(Debug)]
pub(super) struct Ordinal {
    pub(super) service: String,
    pub(super) zone: String,
    pub(super) process: String,
}

impl Hold for Ordinal {
    fn name(&self) -> &str {
        &self.process
    }

    /// Takes the lowest ordinal that is free, unless the lease holds one already.
    async fn put(&mut self, client: &mut Client, lease: i64, _: bool) -> anyhow::Result<()> {
        let prefix = format!("{}{}/", Callers::PREFIX, self.service);
        let value = Value { process: self.process.clone(), zone: self.zone.clone() };
        let value = serde_json::to_vec(&value).expect("strings have a JSON form");
        for _ in 0..CLAIMS_MAX {
            let options = GetOptions::new().with_range(prefix_end(&prefix)).with_limit(CALLERS_MAX);
            let found = answer(client.get(prefix.clone(), Some(options))).await?;
            if found.kvs().iter().any(|pair| pair.lease() == lease) {
                return Ok(());
            }
            let taken = found.kvs().iter().filter_map(|pair| Some(parse_key(pair.key()).ok()?.1));
            let key = format!("{prefix}{}", lowest_free(taken));
            let is_free = Compare::create_revision(key.clone(), CompareOp::Equal, 0);
            let options = PutOptions::new().with_lease(lease);
            let put = TxnOp::put(key, value.clone(), Some(options));
            let claim = Txn::new().when([is_free]).and_then([put]);
            if answer(client.txn(claim)).await?.succeeded() {
                return Ok(());
            }
        }
        bail!("others were faster {CLAIMS_MAX} times");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn malformed_keys_and_values_are_errors() {
        let value = br#"{"process":"x","zone":"a"}"#;
        let caller = Callers::entry(b"linkmesh/callers/edge/7", value).unwrap();
        assert_eq!(
            (caller.service.as_str(), caller.ordinal, caller.zone.as_str()),
            ("edge", 7, "a")
        );
        for key in ["linkmesh/callers/edge", "linkmesh/callers//1", "linkmesh/callers/edge/x", "x"]
        {
            assert!(Callers::entry(key.as_bytes(), value).is_err(), "{key}");
        }
        assert!(Callers::entry(b"linkmesh/callers/edge/7", b"{}").is_err());
    }
}
