//! A request id has its effect once.

use proto::links::v1::{
    BatchCreateLinksRequest, CreateDomainRequest, CreateLinkRequest, Domain, ListLinksRequest,
};

use super::harness::{Service, by, delete, owner, parent, reason, to, with_slug};

#[tokio::test]
async fn the_same_request_again_answers_with_what_the_first_one_made() {
    let service = Service::start().await;
    let caller = owner();
    let request_id = uuid::Uuid::new_v4().to_string();
    let message = CreateLinkRequest {
        parent: parent(&caller),
        link: Some(to("https://example.com/")),
        request_id: request_id.clone(),
    };
    let mut clients = (service.links(), service.links());
    let (first, second) = tokio::join!(
        clients.0.create_link(by(&caller, message.clone())),
        clients.1.create_link(by(&caller, message.clone())),
    );
    let first = first.unwrap().into_inner();
    assert_eq!(first, second.unwrap().into_inner());
    let link = first.link.clone().unwrap();
    delete(&service, &caller, &link.name).await.unwrap();
    let mut client = service.links();
    let third = client.create_link(by(&caller, message.clone())).await.unwrap().into_inner();
    assert_eq!(first, third);

    let list = ListLinksRequest { parent: parent(&caller), ..Default::default() };
    let listed = service.links().list_links(by(&caller, list)).await.unwrap().into_inner();
    assert_eq!(listed.links, []);

    let other =
        CreateLinkRequest { link: Some(to("https://example.com/other")), ..message.clone() };
    let reused = service.links().create_link(by(&caller, other)).await;
    assert_eq!(reason(reused), "REQUEST_ID_REUSED");
    let batch = BatchCreateLinksRequest {
        parent: parent(&caller),
        links: vec![to("https://example.com/")],
        request_id: request_id.clone(),
    };
    let reused = service.links().batch_create_links(by(&caller, batch)).await;
    assert_eq!(reason(reused), "REQUEST_ID_REUSED");
    let domain = Domain { host: "ids.example.com".to_owned(), ..Domain::default() };
    let domain = CreateDomainRequest {
        parent: parent(&caller),
        domain: Some(domain),
        request_id: request_id.clone(),
    };
    assert_eq!(
        reason(service.domains().create_domain(by(&caller, domain)).await),
        "REQUEST_ID_REUSED"
    );

    let elsewhere = owner();
    let theirs = CreateLinkRequest { parent: parent(&elsewhere), ..message };
    service.links().create_link(by(&elsewhere, theirs)).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_request_that_failed_leaves_its_id_free() {
    let service = Service::start().await;
    let caller = owner();
    super::harness::create(&service, &caller, with_slug("taken")).await.unwrap();
    let request_id = uuid::Uuid::new_v4().to_string();
    let message = |slug: &str| CreateLinkRequest {
        parent: parent(&caller),
        link: Some(with_slug(slug)),
        request_id: request_id.clone(),
    };
    let refused = service.links().create_link(by(&caller, message("taken"))).await;
    assert_eq!(reason(refused), "ALREADY_EXISTS");
    service.links().create_link(by(&caller, message("free"))).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_domain_is_created_once_for_its_request_id() {
    let service = Service::start().await;
    let caller = owner();
    let message = CreateDomainRequest {
        parent: parent(&caller),
        domain: Some(Domain { host: "Once.Example.com".to_owned(), ..Domain::default() }),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let first = service.domains().create_domain(by(&caller, message.clone())).await.unwrap();
    let second = service.domains().create_domain(by(&caller, message)).await.unwrap();
    assert_eq!(first.into_inner(), second.into_inner());
    service.stop().await;
}
