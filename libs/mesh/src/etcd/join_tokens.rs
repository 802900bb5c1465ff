//! Join tokens in etcd, under `linkmesh/join-tokens/<id>`. Each hangs on a lease of its own, so that it goes by itself when the token
//! has run out.

use super::Members;
use super::answer;
use crate::registry::JOIN_TOKENS_MAX;
use crate::registry::JoinTokenEntry;
use crate::registry::JoinTokenStore;
use anyhow::Context as _;
use anyhow::ensure;
use etcd_client::Client;
use etcd_client::Compare;
use etcd_client::CompareOp;
use etcd_client::GetOptions;
use etcd_client::KeyValue;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use futures_util::future::BoxFuture;
use std::time::Duration;

const PREFIX: &str = "linkmesh/join-tokens/";
/// How many members are tried before etcd counts as away.
const CONNECTS_MAX: usize = 3;

/// The join tokens of a registry in etcd. Each operation has a connection of its own: they are rare.
#[derive(Debug)]
pub(super) struct EtcdJoinTokens {
    pub(super) members: Members,
}

impl EtcdJoinTokens {
    async fn client(&self) -> anyhow::Result<Client> {
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

impl JoinTokenStore for EtcdJoinTokens {
    fn list(&self) -> BoxFuture<'_, anyhow::Result<Vec<JoinTokenEntry>>> {
        Box::pin(async move {
            let limit = i64::try_from(JOIN_TOKENS_MAX).expect("a thousand");
            let all = GetOptions::new().with_prefix().with_limit(limit);
            let read = answer(self.client().await?.get(PREFIX, Some(all))).await?;
            // Someone else may have written there: what can't be read is no token.
            Ok(read.kvs().iter().filter_map(|pair| entry(pair).ok()).collect())
        })
    }

    fn get(&self, id: &str) -> BoxFuture<'_, anyhow::Result<Option<JoinTokenEntry>>> {
        let key = key(id);
        Box::pin(async move {
            let read = answer(self.client().await?.get(key, None)).await?;
            read.kvs().first().map(entry).transpose()
        })
    }

    fn create(
        &self,
        id: &str,
        value: Vec<u8>,
        life: Duration,
    ) -> BoxFuture<'_, anyhow::Result<bool>> {
        let key = key(id);
        Box::pin(async move {
            let mut client = self.client().await?;
            let count = GetOptions::new().with_prefix().with_count_only();
            let there = answer(client.get(PREFIX, Some(count))).await?.count();
            let room = usize::try_from(there).is_ok_and(|there| there < JOIN_TOKENS_MAX);
            ensure!(room, "there are {JOIN_TOKENS_MAX} join tokens; revoke some");
            let seconds = i64::try_from(life.as_secs().max(1)).context("the life is too long")?;
            let lease = answer(client.lease_grant(seconds, None)).await?.id();
            let put = TxnOp::put(key.clone(), value, Some(PutOptions::new().with_lease(lease)));
            let absent = Compare::create_revision(key, CompareOp::Equal, 0);
            let created = answer(client.txn(Txn::new().when([absent]).and_then([put]))).await?;
            Ok(created.succeeded())
        })
    }

    fn replace(&self, entry: JoinTokenEntry) -> BoxFuture<'_, anyhow::Result<bool>> {
        let key = key(&entry.id);
        let unchanged = Compare::mod_revision(key.clone(), CompareOp::Equal, entry.version);
        let put = TxnOp::put(key, entry.value, Some(PutOptions::new().with_ignore_lease()));
        Box::pin(async move {
            let replace = Txn::new().when([unchanged]).and_then([put]);
            Ok(answer(self.client().await?.txn(replace)).await?.succeeded())
        })
    }

    fn delete(&self, id: &str) -> BoxFuture<'_, anyhow::Result<bool>> {
        let key = key(id);
        Box::pin(
            async move { Ok(answer(self.client().await?.delete(key, None)).await?.deleted() > 0) },
        )
    }
}

fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn entry(pair: &KeyValue) -> anyhow::Result<JoinTokenEntry> {
    let id = pair.key_str()?.strip_prefix(PREFIX).context("it has another prefix")?;
    Ok(JoinTokenEntry {
        id: id.to_owned(),
        version: pair.mod_revision(),
        value: pair.value().to_vec(),
    })
}
