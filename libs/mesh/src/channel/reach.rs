//! Whether a process can be reached, and if not, why: for people, who are told the cause and not that a call failed.

use super::connection::Connection;
use super::connection::Peer;
use crate::identity::Identity;
use crate::identity::ServiceName;
use anyhow::Context as _;
use std::sync::Arc;
use std::time::Duration;

/// How long the answer may take on a connection that is open.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Opens a connection to `address` (`host:port`) as `identity`, and asks which instance of `service` answers there. Takes a few
/// seconds at the most.
///
/// # Errors
/// If nobody answers there, or someone else, or who answers does not trust us or is not trusted; the chain of causes says which.
pub async fn reach(identity: &Identity, service: &str, address: &str) -> anyhow::Result<String> {
    let service = ServiceName::parse(service)?;
    instance_at(Peer { address, service: &service, endpoint: None }, identity).await
}

/// Which instance answers there, on a connection of its own for the question.
pub(super) async fn instance_at(peer: Peer<'_>, identity: &Identity) -> anyhow::Result<String> {
    let (connection, driver) = Connection::open(peer, identity, &Arc::default()).await?;
    tokio::select! {
        instance = instance_on(&connection) => instance,
        () = driver => anyhow::bail!("the connection was lost"),
    }
}

/// Which instance answers on a connection.
pub(super) async fn instance_on(connection: &Arc<Connection>) -> anyhow::Result<String> {
    let asked = tokio::time::timeout(ANSWER_WAIT_MAX, connection.instance()).await;
    asked.context("no answer in time")?
}
