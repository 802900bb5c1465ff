//! How each member of the cluster is, for people who look for what is wrong.

use super::answer;
use super::connect;
use super::location::Location;
use crate::registry::DIAGNOSIS_WAIT_MAX;
use crate::registry::Member;
use crate::registry::MemberHealth;
use anyhow::Context as _;
use etcd_client::ConnectOptions;
use futures_util::future::join_all;
use std::time::Instant;

/// Where the cluster is, without user and password.
pub(super) fn place(location: &Location) -> String {
    let members: Vec<_> = location.members.iter().map(|member| without_scheme(member)).collect();
    format!("etcd://{}", members.join(","))
}

/// Asks all members at once.
pub(super) async fn diagnose(location: &Location) -> Vec<Member> {
    join_all(location.members.iter().map(|member| diagnose_one(location, member))).await
}

async fn diagnose_one(location: &Location, member: &str) -> Member {
    let begun = Instant::now();
    let asked = tokio::time::timeout(DIAGNOSIS_WAIT_MAX, ask(location, member)).await;
    let health = asked.context("it did not answer in time").flatten();
    let address = without_scheme(member).to_owned();
    let health = health.map_err(|error| format!("{error:#}"));
    Member { address, health, took: begun.elapsed() }
}

fn without_scheme(member: &str) -> &str {
    member.split_once("://").map_or(member, |(_, address)| address)
}

async fn ask(location: &Location, member: &str) -> anyhow::Result<MemberHealth> {
    // Also one that knows no leader is to say so.
    let mut client = connect(location, member, ConnectOptions::new()).await?;
    let status = answer(client.status()).await?;
    let member = status.header().map_or(0, etcd_client::ResponseHeader::member_id);
    Ok(MemberHealth {
        version: status.version().to_owned(),
        revision: status.header().map_or(0, etcd_client::ResponseHeader::revision),
        leads: status.leader() == member,
        led: status.leader() != 0,
    })
}
