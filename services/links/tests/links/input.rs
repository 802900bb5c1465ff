//! Every limit of a link answers with its field and the limit, and nothing is written.

use proto::links::v1::{
    CreateDomainRequest, CreateLinkRequest, Domain, GetLinkRequest, Link, ListLinksRequest,
    UtmParameters,
};

use super::harness::{
    Service, by, create, owner, parent, reason, to, update, violation, with_slug,
};

#[tokio::test]
async fn a_link_outside_its_limits_is_refused_with_field_and_limit() {
    let service = Service::start().await;
    let caller = owner();
    let good = || to("https://example.com/");
    let utm = |term: String| Some(UtmParameters { term, ..Default::default() });
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let cases = [
        ("link.destination_uri", "required", to("")),
        (
            "link.destination_uri",
            "2048 bytes",
            to(&format!("https://example.com/{}", "a".repeat(2_048))),
        ),
        ("link.destination_uri", "http or https", to("javascript:alert(1)")),
        ("link.destination_uri", "control", to("https://example.com/\r\nx: y")),
        ("link.destination_uri", "password", to("https://a:b@example.com/")),
        ("link.slug", "64 characters", with_slug(&"x".repeat(65))),
        ("link.slug", "A-Z a-z 0-9", with_slug("no/slash")),
        ("link.slug", "reserved", with_slug("healthz")),
        ("link.domain", "host", Link { domain: "no host".to_owned(), ..good() }),
        ("link.redirect_status", "302", Link { redirect_status: 77, ..good() }),
        ("link.utm.term", "128 characters", Link { utm: utm("x".repeat(129)), ..good() }),
        ("link.tags", "at most 20", Link { tags: vec!["t".to_owned(); 21], ..good() }),
        ("link.tags", "50 characters", Link { tags: vec!["t".repeat(51)], ..good() }),
        ("link.expire_time", "1970", Link { expire_time: time(-1), ..good() }),
        ("link.expire_time", "9999", Link { expire_time: time(i64::MAX), ..good() }),
        (
            "link.expired_destination_uri",
            "http or https",
            Link { expired_destination_uri: "x".to_owned(), ..good() },
        ),
        ("link.display_name", "200 characters", Link { display_name: "x".repeat(201), ..good() }),
    ];
    for (field, limit, link) in cases {
        let (found, why) = violation(create(&service, &caller, link).await);
        assert_eq!(found, field);
        assert!(why.contains(limit), "{field}: {why}");
    }
    let listed = ListLinksRequest { parent: parent(&caller), ..Default::default() };
    let listed = service.links().list_links(by(&caller, listed)).await.unwrap().into_inner();
    assert_eq!(listed.links, []);
    service.stop().await;
}

#[tokio::test]
async fn names_ids_and_missing_messages_are_refused_by_field() {
    let service = Service::start().await;
    let caller = owner();
    for name in ["", "links/x", "workspaces/x/links/y"] {
        let message = GetLinkRequest { name: name.to_owned() };
        assert_eq!(violation(service.links().get_link(by(&caller, message)).await).0, "name");
    }
    let create = CreateLinkRequest { parent: parent(&caller), ..Default::default() };
    let empty = service.links().create_link(by(&caller, create.clone())).await;
    assert_eq!(violation(empty).0, "link");
    let odd =
        CreateLinkRequest { request_id: "7".to_owned(), link: Some(to("https://e.com")), ..create };
    assert_eq!(violation(service.links().create_link(by(&caller, odd)).await).0, "request_id");
    for host in ["", "localhost", "a b", "https://example.com", &"a.".repeat(200)] {
        let domain = Some(Domain { host: host.to_owned(), ..Domain::default() });
        let message =
            CreateDomainRequest { parent: parent(&caller), domain, request_id: String::new() };
        let refused = service.domains().create_domain(by(&caller, message)).await;
        assert_eq!(violation(refused).0, "domain.host", "{host}");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_update_changes_what_can_change_and_refuses_the_rest() {
    let service = Service::start().await;
    let caller = owner();
    let link = create(&service, &caller, with_slug("fixed")).await.unwrap();
    for (paths, field) in [
        (&["slug"][..], "update_mask"),
        (&["create_time"], "update_mask"),
        (&["nonsense"], "update_mask"),
        (&["*", "tags"], "update_mask"),
    ] {
        assert_eq!(violation(update(&service, &caller, link.clone(), paths).await).0, field);
    }
    let moved = Link { slug: "elsewhere".to_owned(), ..link.clone() };
    assert_eq!(violation(update(&service, &caller, moved, &["*"]).await).0, "link.slug");
    let emptied = Link { destination_uri: String::new(), ..link.clone() };
    let refused = update(&service, &caller, emptied, &["destination_uri"]).await;
    assert_eq!(violation(refused).0, "link.destination_uri");

    let replaced = Link { display_name: "all".to_owned(), ..link.clone() };
    let replaced = update(&service, &caller, replaced, &["*"]).await.unwrap();
    assert_eq!((replaced.display_name.as_str(), replaced.slug.as_str()), ("all", "fixed"));
    assert_eq!(reason(update(&service, &caller, link, &["*"]).await), "ETAG_MISMATCH");
    service.stop().await;
}
