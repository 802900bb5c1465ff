//! A request id has its effect once.

use proto::links::v1::{
    BatchCreateLinksRequest, CreateDomainRequest, CreateLinkRequest, DeleteDomainRequest,
    DeleteLinkRequest, Domain, GetLinkRequest, Link, ListLinksRequest, UpdateLinkRequest,
};

use super::harness::{Service, by, create, delete, owner, parent, reason, to, with_slug};

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
    create(&service, &caller, with_slug("taken")).await.unwrap();
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

#[tokio::test]
async fn a_link_is_changed_and_deleted_once_for_a_request_id() {
    let service = Service::start().await;
    let caller = owner();
    let link = create(&service, &caller, to("https://example.com/")).await.unwrap();
    let update = |display_name: &str, request_id: &str| UpdateLinkRequest {
        link: Some(Link {
            name: link.name.clone(),
            display_name: display_name.to_owned(),
            ..Link::default()
        }),
        request_id: request_id.to_owned(),
        ..Default::default()
    };
    let id = uuid::Uuid::new_v4().to_string();
    let first = service.links().update_link(by(&caller, update("first", &id))).await.unwrap();
    service.links().update_link(by(&caller, update("second", ""))).await.unwrap();
    let again = service.links().update_link(by(&caller, update("first", &id))).await.unwrap();
    assert_eq!(first.into_inner(), again.into_inner());
    let get = GetLinkRequest { name: link.name.clone() };
    let read = service.links().get_link(by(&caller, get.clone())).await.unwrap().into_inner();
    assert_eq!(read.link.unwrap().display_name, "second", "it was changed once");
    let other = service.links().update_link(by(&caller, update("third", &id))).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");

    let stale = DeleteLinkRequest {
        name: link.name.clone(),
        etag: link.etag.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let refused = service.links().delete_link(by(&caller, stale.clone())).await;
    assert_eq!(reason(refused), "ETAG_MISMATCH");
    // What failed is not kept: the same id is good for what is right.
    let right = DeleteLinkRequest { etag: String::new(), ..stale };
    for _ in 0..2 {
        service.links().delete_link(by(&caller, right.clone())).await.unwrap();
    }
    assert_eq!(reason(service.links().get_link(by(&caller, get)).await), "NOT_FOUND");
    assert_eq!(reason(delete(&service, &caller, &link.name).await), "NOT_FOUND");
    service.stop().await;
}

#[tokio::test]
async fn a_domain_is_deleted_once_for_a_request_id() {
    let service = Service::start().await;
    let caller = owner();
    let create = || CreateDomainRequest {
        parent: parent(&caller),
        domain: Some(Domain { host: "gone.example.com".to_owned(), ..Domain::default() }),
        ..Default::default()
    };
    let made = service.domains().create_domain(by(&caller, create())).await.unwrap().into_inner();
    let remove = DeleteDomainRequest {
        name: made.domain.unwrap().name,
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    service.domains().delete_domain(by(&caller, remove.clone())).await.unwrap();
    service.domains().create_domain(by(&caller, create())).await.unwrap();
    // Late, and of the domain before this one.
    service.domains().delete_domain(by(&caller, remove)).await.unwrap();
    let taken = service.domains().create_domain(by(&caller, create())).await;
    assert_eq!(reason(taken), "ALREADY_EXISTS", "the second one is still there");
    service.stop().await;
}
