//! Every call is scoped to its caller's workspace and needs its scope, and comes from a peer that may call.

use proto::common::v1::Scope;
use proto::links::v1::links_service_client::LinksServiceClient;
use proto::links::v1::resolver_service_client::ResolverServiceClient;
use proto::links::v1::*;
use rpc::Principal;
use tonic::{Request, Status};

use super::harness::{SHARED, Service, by, create, owner, parent, reason, to, with_slug, without};

const DOMAIN: &str = "tenant.example.com";

fn request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Every public call about what `target` owns, made by `caller`.
async fn every_call(
    service: &Service,
    caller: &Principal,
    target: &Principal,
    link: &str,
) -> Vec<(&'static str, Result<(), Status>)> {
    let (mut links, mut domains) = (service.links(), service.domains());
    let domain = format!("{}/domains/{DOMAIN}", parent(target));
    let changed = Link { name: link.to_owned(), display_name: "x".to_owned(), ..Link::default() };
    let new_domain = Domain { host: "new.example.com".to_owned(), ..Domain::default() };
    let (parent, link) = (parent(target), link.to_owned());
    vec![
        (
            "CreateLink",
            links
                .create_link(by(
                    caller,
                    CreateLinkRequest {
                        parent: parent.clone(),
                        link: Some(to("https://example.com/")),
                        request_id: request_id(),
                    },
                ))
                .await
                .map(drop),
        ),
        (
            "BatchCreateLinks",
            links
                .batch_create_links(by(
                    caller,
                    BatchCreateLinksRequest {
                        parent: parent.clone(),
                        links: vec![to("https://example.com/")],
                        request_id: request_id(),
                    },
                ))
                .await
                .map(drop),
        ),
        (
            "GetLink",
            links.get_link(by(caller, GetLinkRequest { name: link.clone() })).await.map(drop),
        ),
        (
            "ListLinks",
            links
                .list_links(by(
                    caller,
                    ListLinksRequest { parent: parent.clone(), ..Default::default() },
                ))
                .await
                .map(drop),
        ),
        (
            "UpdateLink",
            links
                .update_link(by(
                    caller,
                    UpdateLinkRequest { link: Some(changed), ..Default::default() },
                ))
                .await
                .map(drop),
        ),
        (
            "DeleteLink",
            links
                .delete_link(by(caller, DeleteLinkRequest { name: link, ..Default::default() }))
                .await
                .map(drop),
        ),
        (
            "CreateDomain",
            domains
                .create_domain(by(
                    caller,
                    CreateDomainRequest {
                        parent: parent.clone(),
                        domain: Some(new_domain),
                        request_id: request_id(),
                    },
                ))
                .await
                .map(drop),
        ),
        (
            "GetDomain",
            domains
                .get_domain(by(caller, GetDomainRequest { name: domain.clone() }))
                .await
                .map(drop),
        ),
        (
            "ListDomains",
            domains
                .list_domains(by(caller, ListDomainsRequest { parent, ..Default::default() }))
                .await
                .map(drop),
        ),
        (
            "DeleteDomain",
            domains
                .delete_domain(by(
                    caller,
                    DeleteDomainRequest { name: domain, ..Default::default() },
                ))
                .await
                .map(drop),
        ),
    ]
}

async fn with_a_link_and_a_domain(service: &Service) -> (Principal, Link) {
    let caller = owner();
    let link = create(service, &caller, with_slug("mine")).await.unwrap();
    let message = CreateDomainRequest {
        parent: parent(&caller),
        domain: Some(Domain { host: DOMAIN.to_owned(), ..Domain::default() }),
        request_id: String::new(),
    };
    service.domains().create_domain(by(&caller, message)).await.unwrap();
    (caller, link)
}

#[tokio::test]
async fn for_another_workspaces_key_nothing_of_it_exists() {
    let service = Service::start().await;
    let (target, link) = with_a_link_and_a_domain(&service).await;
    for (call, result) in every_call(&service, &owner(), &target, &link.name).await {
        assert_eq!(reason(result), "NOT_FOUND", "{call}");
    }
    // Nor under a name that claims it for the caller.
    let thief = owner();
    let claimed = link.name.replace(&parent(&target), &parent(&thief));
    let message = GetLinkRequest { name: claimed };
    assert_eq!(reason(service.links().get_link(by(&thief, message)).await), "NOT_FOUND");
    let theirs = Link { domain: DOMAIN.to_owned(), ..with_slug("x") };
    assert_eq!(reason(create(&service, &thief, theirs).await), "NOT_FOUND");
    for (call, result) in every_call(&service, &target, &target, &link.name).await {
        result.unwrap_or_else(|status| panic!("{call}: {status:?}"));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_key_without_the_scope_is_told_which_one_it_lacks() {
    let service = Service::start().await;
    let (target, link) = with_a_link_and_a_domain(&service).await;
    let reads = ["GetLink", "ListLinks", "GetDomain", "ListDomains"];
    let reader = without(&target, Scope::LinksWrite);
    for (call, result) in every_call(&service, &reader, &target, &link.name).await {
        match reads.contains(&call) {
            true => result.unwrap_or_else(|status| panic!("{call}: {status:?}")),
            false => assert_eq!(reason(result), "SCOPE_MISSING", "{call}"),
        }
    }
    let writer = without(&target, Scope::LinksRead);
    for (call, result) in every_call(&service, &writer, &target, &link.name).await {
        if reads.contains(&call) {
            assert_eq!(reason(result), "SCOPE_MISSING", "{call}");
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn a_call_without_a_principal_or_from_another_service_is_refused() {
    let service = Service::start().await;
    let (_, link) = with_a_link_and_a_domain(&service).await;
    let message = GetLinkRequest { name: link.name.clone() };
    let anonymous = service.links().get_link(Request::new(message.clone())).await;
    assert_eq!(reason(anonymous), "CREDENTIALS_MISSING");

    let analytics = service.mesh_of("analytics");
    let stranger = LinksServiceClient::new(analytics.clone()).get_link(Request::new(message)).await;
    assert_eq!(reason(stranger), "PEER_NOT_ALLOWED");
    let operator = service.mesh_of("operator");
    let resolve = ResolveRequest { domain: SHARED.to_owned(), slug: "mine".to_owned() };
    let resolved = ResolverServiceClient::new(operator.clone()).resolve(resolve).await;
    assert_eq!(reason(resolved), "PEER_NOT_ALLOWED");
    analytics.close().await;
    operator.close().await;
    service.stop().await;
}
