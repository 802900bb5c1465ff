//! What a healthy cluster does, on the cluster that all these tests share; each works in a workspace of its own.

use crate::accounts;
use crate::bad_input;
use crate::certificate_clients;
use crate::client::Api;
use crate::clients;
use crate::cluster::Cluster;
use crate::contract;
use crate::counted;
use crate::limits;
use crate::propagation;
use crate::speaking::Protocol;
use crate::team;
use crate::tenancy;
use anyhow::Context as _;

async fn workspace() -> anyhow::Result<(&'static Cluster, Api)> {
    let cluster = Cluster::shared().await?;
    let api = cluster.workspace().await?;
    Ok((cluster, api))
}

#[tokio::test]
async fn clicks_are_counted_once_people_and_bots_apart() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    counted::clicks_are_counted_once_people_and_bots_apart(&api, cluster.domain()).await
}

#[tokio::test]
async fn a_redirect_follows_the_links_rules() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    counted::a_redirect_follows_the_links_rules(&api, cluster.domain()).await
}

#[tokio::test]
async fn fields_are_refused_by_name_and_limit() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    bad_input::fields_are_refused_by_name_and_limit(&api).await
}

#[tokio::test]
async fn every_limit_that_a_proto_states_is_kept_by_its_service() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    let mails = cluster.folder().join("mails");
    contract::every_limit_that_a_proto_states_is_kept_by_its_service(&api, &mails).await
}

#[tokio::test]
async fn malformed_bodies_and_frames_are_refused() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    bad_input::malformed_bodies_and_frames_are_refused(&api).await
}

#[tokio::test]
async fn nobody_gets_in_without_a_key_or_with_a_forged_principal() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    bad_input::nobody_gets_in_without_a_key_or_with_a_forged_principal(&api).await
}

#[tokio::test]
async fn another_workspaces_key_finds_nothing() -> anyhow::Result<()> {
    let (cluster, one) = workspace().await?;
    let other = cluster.workspace().await?;
    tenancy::another_workspaces_key_finds_nothing(&one, &other).await
}

#[tokio::test]
async fn a_key_has_the_limit_of_its_tier_at_all_edges_together() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    cluster.set_tier(&api.workspace, "premium").await?;
    limits::a_key_has_the_limit_of_its_tier_at_all_edges_together(&cluster.edges(&api)).await
}

#[tokio::test]
async fn changes_of_a_hot_link_reach_every_edge() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    let edges = cluster.edges(&api);
    let within = propagation::PROPAGATED_WITHIN;
    propagation::changes_of_a_hot_link_reach_every_edge(&edges, cluster.domain(), within).await
}

#[tokio::test]
async fn a_revoked_key_stops_working_at_every_edge() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    let edges = cluster.edges(&api);
    propagation::a_revoked_key_stops_working_at_every_edge(&edges, propagation::PROPAGATED_WITHIN)
        .await
}

#[tokio::test]
async fn a_generated_python_client_creates_clicks_and_reads() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::python_creates_clicks_and_reads(&api).await
}

#[tokio::test]
async fn the_openapi_document_is_what_the_edge_does() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    let mails = cluster.folder().join("mails");
    clients::the_openapi_document_is_what_the_edge_does(&api, &mails).await
}

#[tokio::test]
async fn the_docs_page_works_under_its_own_policy() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::the_docs_page_works_under_its_own_policy(&api).await
}

#[tokio::test]
async fn a_node_client_creates_clicks_watches_and_reads() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::node_creates_clicks_watches_and_reads(&api).await
}

#[tokio::test]
async fn a_browsers_grpc_web_code_creates_clicks_and_reads() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::grpc_web_creates_clicks_and_reads(&api).await
}

#[tokio::test]
async fn the_official_grpc_web_client_creates_and_reads() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::official_grpc_web_creates_and_reads(&api).await
}

#[tokio::test]
async fn nice_grpc_web_creates_clicks_and_watches() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::nice_grpc_web_creates_clicks_and_watches(&api).await
}

#[tokio::test]
async fn connects_own_clients_create_click_and_watch() -> anyhow::Result<()> {
    let (_, api) = workspace().await?;
    clients::connect_creates_clicks_and_watches(&api).await
}

#[tokio::test]
async fn a_browser_on_another_origin_creates_clicks_watches_and_reads_that_it_asks_too_often()
-> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    // Of the lowest one nobody is refused here.
    cluster.set_tier(&api.workspace, "premium").await?;
    clients::a_browser_creates_clicks_and_watches(&api).await
}

#[tokio::test]
async fn grpcurl_lists_describes_and_calls() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    clients::grpcurl_lists_describes_and_calls(&api, cluster.domain()).await
}

#[tokio::test]
async fn a_go_program_finds_instances_by_etcds_resolver_and_calls_them() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    certificate_clients::go_finds_instances_by_etcds_resolver_and_calls_them(cluster, &api).await
}

#[tokio::test]
async fn a_plain_python_program_calls_a_service_by_certificate() -> anyhow::Result<()> {
    let cluster = Cluster::shared().await?;
    certificate_clients::python_calls_a_service_by_certificate(cluster).await
}

#[tokio::test]
async fn a_person_comes_and_goes() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    accounts::a_person_comes_and_goes(&api, &cluster.folder().join("mails")).await
}

#[tokio::test]
async fn a_team_comes_and_goes_over_rest_grpc_web_and_connect() -> anyhow::Result<()> {
    let (cluster, api) = workspace().await?;
    let mails = cluster.folder().join("mails");
    for protocol in [Protocol::Rest, Protocol::GrpcWeb, Protocol::Connect] {
        let journey = team::a_team_comes_and_goes(&api, &mails, protocol).await;
        journey.with_context(|| format!("{protocol:?}"))?;
    }
    Ok(())
}
