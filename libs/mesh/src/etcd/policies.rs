//! Policies in etcd: what is in force under `linkmesh/policies/<service>`, and what was under
//! `linkmesh/policy-history/<service>/<revision>`, since etcd itself forgets what it has compacted.
//!
//! A change is one transaction. Its history key is new and follows the newest one, so of two writers one is first and the
//! other is told.

use super::Members;
use super::answer;
use super::watch;
use super::watch::Kind;
use super::watch::prefix_end;
use crate::registry::POLICY_REVISIONS_MAX;
use crate::registry::PolicyAppend;
use crate::registry::PolicyChange;
use crate::registry::PolicyEntry;
use crate::registry::PolicyHead;
use crate::registry::PolicyHistory;
use crate::registry::PolicyStore;
use anyhow::Context as _;
use anyhow::ensure;
use etcd_client::Client;
use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::DeleteOptions;
use etcd_client::GetOptions;
use etcd_client::GetResponse;
use etcd_client::SortOrder;
use etcd_client::SortTarget;
use etcd_client::Txn;
use etcd_client::TxnOp;
use etcd_client::TxnOpResponse;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

/// What the keys of the history begin with.
const HISTORY_PREFIX: &str = "linkmesh/policy-history/";
/// The longest service name that is accepted, in bytes: a DNS label's limit.
const NAME_BYTES_MAX: usize = 63;
/// How many members are tried before etcd counts as away.
const CONNECTS_MAX: usize = 3;

/// What is in force.
pub(super) struct Policies;

impl Kind for Policies {
    const PREFIX: &'static str = "linkmesh/policies/";
    const WHAT: &'static str = "policies";
    type Entry = PolicyEntry;
    type Change = PolicyChange;

    fn entry(key: &[u8], value: &[u8]) -> anyhow::Result<PolicyEntry> {
        Ok(PolicyEntry { service: service(key)?, value: value.to_vec() })
    }

    fn put(entry: PolicyEntry) -> PolicyChange {
        PolicyChange::Put(entry)
    }

    fn delete(key: &[u8]) -> anyhow::Result<PolicyChange> {
        Ok(PolicyChange::Delete { service: service(key)? })
    }
}

fn service(key: &[u8]) -> anyhow::Result<String> {
    let key = std::str::from_utf8(key).context("it is not UTF-8")?;
    let name = key.strip_prefix(Policies::PREFIX).context("it has another prefix")?;
    ensure!(
        !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('/'),
        "it must end in a service's name, 1 to {NAME_BYTES_MAX} bytes without a slash"
    );
    Ok(name.to_owned())
}

fn current_key(service: &str) -> String {
    format!("{}{service}", Policies::PREFIX)
}

fn history_prefix(service: &str) -> String {
    format!("{HISTORY_PREFIX}{service}/")
}

/// In order of the revisions.
fn history_key(service: &str, revision: i64) -> String {
    format!("{HISTORY_PREFIX}{service}/{revision:020}")
}

fn revision(key: &[u8]) -> anyhow::Result<i64> {
    let key = std::str::from_utf8(key).context("it is not UTF-8")?;
    let (_, revision) = key.rsplit_once('/').context("it names no revision")?;
    revision.parse().with_context(|| format!("the key {key} names no revision"))
}

/// The policies of a registry in etcd.
pub(super) struct EtcdPolicies {
    members: Members,
    /// The connection that the last operation left behind, if it went well.
    client: Mutex<Option<Client>>,
}

impl fmt::Debug for EtcdPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdPolicies").field("members", &self.members).finish_non_exhaustive()
    }
}

impl EtcdPolicies {
    pub(super) fn new(members: Members) -> Self {
        Self { members, client: Mutex::default() }
    }

    /// Asks etcd over the connection that is there; if that fails, or there is none, over a new one. A change may then be made
    /// twice, of which the second finds that it is not the first.
    async fn ask<T, A>(&self, ask: impl Fn(Client) -> A) -> anyhow::Result<T>
    where
        A: Future<Output = anyhow::Result<T>>,
    {
        let kept = self.kept().take();
        if let Some(client) = kept
            && let Ok(answer) = ask(client.clone()).await
        {
            *self.kept() = Some(client);
            return Ok(answer);
        }
        let client = self.connect().await?;
        let answer = ask(client.clone()).await?;
        *self.kept() = Some(client);
        Ok(answer)
    }

    fn kept(&self) -> MutexGuard<'_, Option<Client>> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> anyhow::Result<Client> {
        let mut connected = self.members.connect().await;
        for _ in 1..CONNECTS_MAX {
            if connected.is_ok() {
                break;
            }
            connected = self.members.connect().await;
        }
        connected
    }
}

impl PolicyStore for EtcdPolicies {
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<PolicyEntry>>> {
        Box::pin(self.ask(async |mut client| Ok(watch::list::<Policies>(&mut client).await?.1)))
    }

    fn head(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHead>> {
        let newest = GetOptions::new()
            .with_prefix()
            .with_keys_only()
            .with_sort(SortTarget::Key, SortOrder::Descend)
            .with_limit(1);
        let reads = Txn::new().and_then([
            TxnOp::get(current_key(service), None),
            TxnOp::get(history_prefix(service), Some(newest)),
        ]);
        Box::pin(self.ask(move |mut client| {
            let reads = reads.clone();
            async move {
                let read = answer(client.txn(reads)).await?;
                let mut answers = read.op_responses().into_iter().filter_map(got);
                let (current, newest) = (answers.next(), answers.next());
                let (current, newest) = current.zip(newest).context("etcd left out an answer")?;
                let revision = newest.kvs().first().map(|pair| revision(pair.key())).transpose()?;
                Ok(PolicyHead {
                    current: current.kvs().first().map(|pair| pair.value().to_vec()),
                    revision: revision.unwrap_or_default(),
                })
            }
        }))
    }

    fn history(&self, service: &str) -> BoxFuture<'_, anyhow::Result<PolicyHistory>> {
        let prefix = history_prefix(service);
        let limit = i64::try_from(POLICY_REVISIONS_MAX).expect("a few dozen");
        let newest_first = GetOptions::new()
            .with_prefix()
            .with_sort(SortTarget::Key, SortOrder::Descend)
            .with_limit(limit);
        Box::pin(self.ask(move |mut client| {
            let (prefix, newest_first) = (prefix.clone(), newest_first.clone());
            async move {
                let read = answer(client.get(prefix, Some(newest_first))).await?;
                let pairs = read.kvs().iter();
                pairs.map(|pair| Ok((revision(pair.key())?, pair.value().to_vec()))).collect()
            }
        }))
    }

    fn append(&self, change: PolicyAppend) -> BoxFuture<'_, anyhow::Result<bool>> {
        let change = transaction(change);
        Box::pin(self.ask(move |mut client| {
            let change = change.clone();
            async move { Ok(answer(client.txn(change)).await?.succeeded()) }
        }))
    }
}

/// A change, on the condition that nobody made another since.
fn transaction(change: PolicyAppend) -> Txn {
    let PolicyAppend { service, after, revision, value, in_force } = change;
    let added = history_key(&service, revision);
    let mut when = vec![Compare::create_revision(added.clone(), CompareOp::Equal, 0)];
    if after == 0 {
        // Nobody may have begun a history meanwhile.
        let prefix = history_prefix(&service);
        let none = Compare::create_revision(prefix.clone(), CompareOp::Equal, 0);
        when.push(none.with_range(prefix_end(&prefix)));
    } else {
        let newest = history_key(&service, after);
        when.push(Compare::create_revision(newest, CompareOp::Greater, 0));
    }
    let current = current_key(&service);
    let in_force = if in_force {
        TxnOp::put(current, value.clone(), None)
    } else {
        TxnOp::delete(current, None)
    };
    let mut operations = vec![in_force, TxnOp::put(added, value, None)];
    let kept = i64::try_from(POLICY_REVISIONS_MAX).expect("a few dozen");
    if revision > kept {
        let oldest_kept = history_key(&service, revision - kept + 1);
        let older = DeleteOptions::new().with_range(oldest_kept);
        operations.push(TxnOp::delete(history_prefix(&service), Some(older)));
    }
    Txn::new().when(when).and_then(operations)
}

fn got(response: TxnOpResponse) -> Option<GetResponse> {
    match response {
        TxnOpResponse::Get(got) => Some(got),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) | TxnOpResponse::Txn(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_are_in_order_of_revision() {
        assert_eq!(service(current_key("links").as_bytes()).unwrap(), "links");
        assert_eq!(revision(history_key("links", 12).as_bytes()).unwrap(), 12);
        assert!(history_key("links", 9) < history_key("links", 10));
        assert!(history_key("links", i64::MAX).as_str() < "linkmesh/policy-history/links0");
        let long = format!("linkmesh/policies/{}", "a".repeat(64));
        for key in ["linkmesh/policies/", "linkmesh/policies/a/b", "other/links", long.as_str()] {
            assert!(service(key.as_bytes()).is_err(), "{key}");
        }
    }
}
