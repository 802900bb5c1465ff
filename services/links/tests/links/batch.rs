//! Thousands of links in one call.

use proto::links::v1::batch_create_links_result::Result as Item;
use proto::links::v1::{BatchCreateLinksRequest, BatchCreateLinksResponse, Link};
use rpc::Principal;
use tonic::Status;

use super::harness::{
    SHARED, Service, by, create, owner, parent, reason, to, violation, with_slug,
};

async fn batch(
    service: &Service,
    caller: &Principal,
    links: Vec<Link>,
) -> Result<BatchCreateLinksResponse, Status> {
    let request_id = uuid::Uuid::new_v4().to_string();
    let message = BatchCreateLinksRequest { parent: parent(caller), links, request_id };
    Ok(service.links().batch_create_links(by(caller, message)).await?.into_inner())
}

fn codes(response: &BatchCreateLinksResponse) -> Vec<i32> {
    let code = |item: &Item| match item {
        Item::Link(_) => 0,
        Item::Error(status) => status.code,
    };
    response.results.iter().map(|result| code(result.result.as_ref().unwrap())).collect()
}

#[tokio::test]
async fn each_link_of_a_batch_has_its_own_result_in_the_order_of_the_request() {
    let service = Service::start().await;
    let caller = owner();
    create(&service, &caller, with_slug("taken")).await.unwrap();
    let links = vec![
        with_slug("zebra"),
        with_slug("Taken"),
        to("ftp://example.com"),
        with_slug("apple"),
        with_slug("ZEBRA"),
        Link { domain: "not.ours.test".to_owned(), ..to("https://example.com") },
        to(&format!("https://{SHARED}/loop")),
        to("https://example.com"),
        Link { tags: vec!["a".to_owned(), "b".to_owned()], ..with_slug("tagged") },
    ];
    let response = batch(&service, &caller, links).await.unwrap();
    // OK, ALREADY_EXISTS, INVALID_ARGUMENT, OK, ALREADY_EXISTS, NOT_FOUND, INVALID_ARGUMENT, OK, OK
    assert_eq!(codes(&response), [0, 6, 3, 0, 6, 5, 3, 0, 0]);
    let Some(Item::Error(error)) = &response.results[2].result else { panic!("{response:?}") };
    assert!(error.message.contains("`link.destination_uri`"), "{error:?}");
    let types: Vec<_> = error.details.iter().map(|detail| detail.type_url.as_str()).collect();
    assert!(types.iter().any(|one| one.ends_with("google.rpc.ErrorInfo")), "{types:?}");
    assert!(types.iter().any(|one| one.ends_with("google.rpc.BadRequest")), "{types:?}");
    let Some(Item::Link(tagged)) = &response.results[8].result else { panic!("{response:?}") };
    assert_eq!(tagged.tags, ["a", "b"]);
    assert!(service.resolve(SHARED, "zebra").await.route.is_some());
    let announced = service.changes(|seen| seen.len() == 5).await;
    assert!(announced.iter().all(|change| change.route.is_some()));
    service.stop().await;
}

#[tokio::test]
async fn ten_thousand_links_are_one_call_that_can_be_repeated_and_one_more_is_refused() {
    let service = Service::start().await;
    let caller = owner();
    let link = |nth: usize| match nth % 2 {
        0 => to(&format!("https://example.com/{nth}")),
        _ => Link { slug: format!("bulk-{nth}"), ..to(&format!("https://example.com/{nth}")) },
    };
    let links: Vec<_> = (0..10_000).map(link).collect();
    let message = BatchCreateLinksRequest {
        parent: parent(&caller),
        links: links.clone(),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let mut client = service.links();
    let first = client.batch_create_links(by(&caller, message.clone())).await.unwrap().into_inner();
    assert_eq!(codes(&first), vec![0; 10_000]);
    let again = client.batch_create_links(by(&caller, message)).await.unwrap().into_inner();
    assert_eq!(first, again);

    let response = batch(&service, &caller, links.clone()).await.unwrap();
    assert_eq!(
        codes(&response),
        (0..10_000).map(|nth| if nth % 2 == 0 { 0 } else { 6 }).collect::<Vec<_>>()
    );

    let too_many = links.into_iter().chain([link(10_000)]).collect();
    let (field, why) = violation(batch(&service, &caller, too_many).await);
    assert_eq!((field.as_str(), why.as_str()), ("links", "must be 1 to 10000, are 10001"));
    assert_eq!(violation(batch(&service, &caller, Vec::new()).await).0, "links");
    service.stop().await;
}

#[tokio::test]
async fn batches_at_once_over_the_same_slugs_make_each_link_once() {
    let service = Service::start().await;
    let callers = [owner(), owner()];
    let slugs: Vec<String> = (0..500).map(|nth| format!("both-{nth}")).collect();
    let forth = slugs.iter().map(|slug| with_slug(slug)).collect();
    let back = slugs.iter().rev().map(|slug| with_slug(slug)).collect();
    let (first, second) =
        tokio::join!(batch(&service, &callers[0], forth), batch(&service, &callers[1], back));
    let made = |response: &BatchCreateLinksResponse| {
        codes(response).iter().filter(|code| **code == 0).count()
    };
    assert_eq!(made(&first.unwrap()) + made(&second.unwrap()), slugs.len());
    service.stop().await;
}

#[tokio::test]
async fn a_batch_needs_a_request_id() {
    let service = Service::start().await;
    let caller = owner();
    let message = BatchCreateLinksRequest {
        parent: parent(&caller),
        links: vec![to("https://example.com")],
        request_id: String::new(),
    };
    let result = service.links().batch_create_links(by(&caller, message)).await;
    assert_eq!(reason(result), "INVALID_FIELD");
    service.stop().await;
}
