//! Lists: filters, orders, pages.

use proto::links::v1::{Link, ListLinksRequest, ListLinksResponse};
use rpc::Principal;
use tonic::Status;

use super::harness::{
    Service, by, create, delete, owner, parent, reason, update, violation, with_slug,
};

async fn list(
    service: &Service,
    caller: &Principal,
    message: ListLinksRequest,
) -> Result<ListLinksResponse, Status> {
    let message = ListLinksRequest { parent: parent(caller), ..message };
    Ok(service.links().list_links(by(caller, message)).await?.into_inner())
}

async fn slugs(service: &Service, caller: &Principal, filter: &str, order_by: &str) -> Vec<String> {
    let message = ListLinksRequest {
        filter: filter.to_owned(),
        order_by: order_by.to_owned(),
        page_size: 2,
        ..Default::default()
    };
    let mut found = Vec::new();
    let mut page_token = String::new();
    loop {
        let page = list(service, caller, ListLinksRequest { page_token, ..message.clone() })
            .await
            .unwrap();
        assert!(page.links.len() <= 2);
        found.extend(page.links.into_iter().map(|link| link.slug));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return found;
        }
    }
}

#[tokio::test]
async fn links_are_filtered_ordered_and_paged() {
    let service = Service::start().await;
    let caller = owner();
    let mut made = Vec::new();
    for (slug, tag, enabled) in [
        ("Bravo", "x", true),
        ("alpha", "y", true),
        ("echo", "x", false),
        ("Delta", "z", true),
        ("charlie", "x", true),
    ] {
        let link = Link {
            tags: vec![tag.to_owned(), "all".to_owned()],
            enabled: Some(enabled),
            ..with_slug(slug)
        };
        made.push(create(&service, &caller, link).await.unwrap());
    }
    create(&service, &owner(), with_slug("foreign")).await.unwrap();
    let touched = Link { display_name: "touched".to_owned(), ..made[1].clone() };
    update(&service, &caller, touched, &["display_name"]).await.unwrap();

    let third = made[2].create_time.unwrap();
    let third = rpc::time::from_proto("create_time", &third).unwrap();
    let cases = [
        ("", "", vec!["charlie", "Delta", "echo", "alpha", "Bravo"]),
        ("", "create_time", vec!["Bravo", "alpha", "echo", "Delta", "charlie"]),
        ("", "slug", vec!["Bravo", "Delta", "alpha", "charlie", "echo"]),
        ("", "slug desc", vec!["echo", "charlie", "alpha", "Delta", "Bravo"]),
        ("", "update_time desc", vec!["alpha", "charlie", "Delta", "echo", "Bravo"]),
        ("tag = \"x\"", "create_time", vec!["Bravo", "echo", "charlie"]),
        ("tag = \"x\" AND enabled = true", "create_time", vec!["Bravo", "charlie"]),
        ("tag = \"nothing\"", "", vec![]),
        ("slug = \"BRAVO\"", "", vec!["Bravo"]),
        ("domain = \"GO.linkmesh.test\" AND tag = \"y\"", "", vec!["alpha"]),
        ("domain = \"elsewhere.test\"", "", vec![]),
        (&format!("create_time >= \"{third}\""), "create_time", vec!["echo", "Delta", "charlie"]),
        (&format!("create_time < \"{third}\""), "create_time", vec!["Bravo", "alpha"]),
    ];
    for (filter, order_by, expected) in cases {
        assert_eq!(
            slugs(&service, &caller, filter, order_by).await,
            expected,
            "{filter:?} {order_by:?}"
        );
    }
    service.stop().await;
}

#[tokio::test]
async fn a_page_goes_on_where_the_last_one_ended_whatever_was_deleted_meanwhile() {
    let service = Service::start().await;
    let caller = owner();
    let mut names = Vec::new();
    for slug in ["a", "b", "c", "d"] {
        names.push(create(&service, &caller, with_slug(slug)).await.unwrap().name);
    }
    let first =
        ListLinksRequest { page_size: 2, order_by: "slug".to_owned(), ..Default::default() };
    let page = list(&service, &caller, first.clone()).await.unwrap();
    delete(&service, &caller, &names[1]).await.unwrap();
    let next = ListLinksRequest { page_token: page.next_page_token.clone(), ..first.clone() };
    let rest = list(&service, &caller, next.clone()).await.unwrap();
    let rest: Vec<_> = rest.links.iter().map(|link| link.slug.as_str()).collect();
    assert_eq!(rest, ["c", "d"]);

    let other_order = ListLinksRequest { order_by: "slug desc".to_owned(), ..next.clone() };
    assert_eq!(reason(list(&service, &caller, other_order).await), "INVALID_PAGE_TOKEN");
    let other_filter = ListLinksRequest { filter: "enabled = true".to_owned(), ..next.clone() };
    assert_eq!(reason(list(&service, &caller, other_filter).await), "INVALID_PAGE_TOKEN");
    assert_eq!(reason(list(&service, &owner(), next).await), "INVALID_PAGE_TOKEN");
    service.stop().await;
}

#[tokio::test]
async fn a_list_names_what_is_wrong_with_its_parameters() {
    let service = Service::start().await;
    let caller = owner();
    let cases = [
        (
            "filter",
            ListLinksRequest { filter: "colour = \"red\"".to_owned(), ..Default::default() },
        ),
        ("filter", ListLinksRequest { filter: "x".repeat(1_001), ..Default::default() }),
        ("order_by", ListLinksRequest { order_by: "clicks".to_owned(), ..Default::default() }),
        ("page_size", ListLinksRequest { page_size: -1, ..Default::default() }),
        ("page_token", ListLinksRequest { page_token: "?".to_owned(), ..Default::default() }),
    ];
    for (field, message) in cases {
        assert_eq!(violation(list(&service, &caller, message).await).0, field);
    }
    service.stop().await;
}
