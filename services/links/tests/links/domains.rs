//! Domains: whose they are, their case rule, and that links never lead to links.

use proto::links::v1::{
    CreateDomainRequest, DeleteDomainRequest, Domain, GetDomainRequest, Link, ListDomainsRequest,
};
use rpc::Principal;
use tonic::Status;

use super::harness::{
    SHARED, Service, by, create, delete, owner, parent, reason, to, update, violation, with_slug,
};

async fn add(
    service: &Service,
    caller: &Principal,
    host: &str,
    case_sensitive: bool,
) -> Result<Domain, Status> {
    let message = CreateDomainRequest {
        parent: parent(caller),
        domain: Some(Domain { host: host.to_owned(), case_sensitive, ..Domain::default() }),
        request_id: String::new(),
    };
    let response = service.domains().create_domain(by(caller, message)).await?;
    Ok(response.into_inner().domain.unwrap())
}

#[tokio::test]
async fn a_domain_serves_its_workspaces_links_and_goes_when_it_has_none() {
    let service = Service::start().await;
    let caller = owner();
    let domain = add(&service, &caller, "GO.Example.com", false).await.unwrap();
    assert_eq!(domain.name, format!("{}/domains/go.example.com", parent(&caller)));
    let get = GetDomainRequest { name: domain.name.clone() };
    let read = service.domains().get_domain(by(&caller, get.clone())).await.unwrap().into_inner();
    assert_eq!(read.domain.unwrap(), domain);
    assert_eq!(reason(add(&service, &owner(), "go.example.com", true).await), "ALREADY_EXISTS");
    assert_eq!(reason(add(&service, &owner(), SHARED, false).await), "ALREADY_EXISTS");

    let link = Link { domain: "go.example.com".to_owned(), ..with_slug("x") };
    let link = create(&service, &caller, link).await.unwrap();
    assert_eq!(link.short_uri, "https://go.example.com/x");
    let remove = DeleteDomainRequest { name: domain.name.clone(), ..Default::default() };
    let refused = service.domains().delete_domain(by(&caller, remove.clone())).await;
    assert_eq!(reason(refused), "STATE_CONFLICT");
    delete(&service, &caller, &link.name).await.unwrap();
    service.domains().delete_domain(by(&caller, remove.clone())).await.unwrap();
    assert_eq!(reason(service.domains().delete_domain(by(&caller, remove)).await), "NOT_FOUND");
    assert_eq!(reason(service.domains().get_domain(by(&caller, get)).await), "NOT_FOUND");
    assert!(!service.resolve("go.example.com", "x").await.domain_known);

    // Whoever takes the host next still counts on where the versions were.
    let before = service.changes(|seen| seen.len() == 2).await.last().unwrap().version;
    let next = owner();
    add(&service, &next, "go.example.com", false).await.unwrap();
    let link = Link { domain: "go.example.com".to_owned(), ..with_slug("x") };
    create(&service, &next, link).await.unwrap();
    assert!(service.resolve("go.example.com", "x").await.version > before);
    service.stop().await;
}

#[tokio::test]
async fn on_a_case_sensitive_domain_two_spellings_are_two_links() {
    let service = Service::start().await;
    let caller = owner();
    add(&service, &caller, "case.example.com", true).await.unwrap();
    let on = |slug: &str| Link { domain: "case.example.com".to_owned(), ..with_slug(slug) };
    let upper = create(&service, &caller, on("Sale")).await.unwrap();
    create(&service, &caller, on("sale")).await.unwrap();
    assert_eq!(reason(create(&service, &caller, on("Sale")).await), "ALREADY_EXISTS");
    let found = service.resolve("case.example.com", "Sale").await;
    assert!(found.case_sensitive);
    assert_eq!(found.normalized_slug, "Sale");
    assert_eq!(format!("{:x}", found.version), upper.etag);
    assert_eq!(service.resolve("case.example.com", "SALE").await.route, None);
    service.stop().await;
}

#[tokio::test]
async fn no_link_leads_to_a_link_domain_whosever_it_is() {
    let service = Service::start().await;
    let (caller, other) = (owner(), owner());
    add(&service, &other, "theirs.example.com", false).await.unwrap();
    let link = create(&service, &caller, to("https://fine.example.com")).await.unwrap();
    for uri in [format!("https://{SHARED}/x"), "http://THEIRS.example.com.:8080/".to_owned()] {
        let (field, why) = violation(create(&service, &caller, to(&uri)).await);
        assert_eq!(field, "link.destination_uri");
        assert!(why.contains("link domain"), "{why}");
        let expired =
            Link { expired_destination_uri: uri.clone(), ..to("https://fine.example.com") };
        let (field, _) = violation(create(&service, &caller, expired).await);
        assert_eq!(field, "link.expired_destination_uri");
        let changed = Link { name: link.name.clone(), ..to(&uri) };
        let (field, _) = violation(update(&service, &caller, changed, &["destination_uri"]).await);
        assert_eq!(field, "link.destination_uri");
    }
    service.stop().await;
}

#[tokio::test]
async fn domains_are_listed_by_host_page_by_page_without_the_shared_one() {
    let service = Service::start().await;
    let caller = owner();
    for host in ["c.example.com", "a.example.com", "b.example.com"] {
        add(&service, &caller, host, false).await.unwrap();
    }
    let mut hosts = Vec::new();
    let mut page_token = String::new();
    loop {
        let message = ListDomainsRequest { parent: parent(&caller), page_size: 2, page_token };
        let page = service.domains().list_domains(by(&caller, message)).await.unwrap().into_inner();
        hosts.extend(page.domains.into_iter().map(|domain| domain.host));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(hosts, ["a.example.com", "b.example.com", "c.example.com"]);
    let shared = GetDomainRequest { name: format!("{}/domains/{SHARED}", parent(&caller)) };
    assert_eq!(reason(service.domains().get_domain(by(&caller, shared)).await), "NOT_FOUND");
    service.stop().await;
}

#[tokio::test]
async fn a_link_made_while_its_domain_is_deleted_is_refused_or_keeps_the_domain() {
    let service = Service::start().await;
    let caller = owner();
    for round in 0..10 {
        let host = format!("race-{round}.example.com");
        let domain = add(&service, &caller, &host, false).await.unwrap();
        let mut domains = service.domains();
        let remove = DeleteDomainRequest { name: domain.name, ..Default::default() };
        let link = Link { domain: host.clone(), ..with_slug("x") };
        let (made, removed) = tokio::join!(
            create(&service, &caller, link),
            domains.delete_domain(by(&caller, remove)),
        );
        assert!(made.is_ok() != removed.is_ok(), "{made:?} {removed:?}");
        assert_eq!(service.resolve(&host, "x").await.route.is_some(), made.is_ok());
    }
    service.stop().await;
}
