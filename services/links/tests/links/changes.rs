//! The life of a link, as the edge sees it: through Resolve, and through what is announced.

use proto::links::v1::{Link, RedirectStatus, UtmParameters};

use super::harness::{SHARED, Service, create, delete, owner, reason, update, with_slug};

#[tokio::test]
async fn a_link_resolves_to_what_its_owner_last_said() {
    let service = Service::start().await;
    let caller = owner();
    let wanted = Link {
        slug: "Sale".to_owned(),
        destination_uri: "https://example.com/a?b=c#d".to_owned(),
        redirect_status: RedirectStatus::MovedPermanently.into(),
        forward_query: true,
        utm: Some(UtmParameters { source: "mail".to_owned(), ..Default::default() }),
        tags: vec!["spring".to_owned()],
        expire_time: Some(prost_types::Timestamp { seconds: 2_000_000_000, nanos: 0 }),
        expired_destination_uri: "https://example.com/over".to_owned(),
        display_name: "Spring".to_owned(),
        ..Link::default()
    };
    let link = create(&service, &caller, wanted.clone()).await.unwrap();
    assert_eq!(link.short_uri, format!("https://{SHARED}/Sale"));
    assert_eq!((link.domain.as_str(), link.enabled), (SHARED, Some(true)));
    let kept = Link {
        name: String::new(),
        domain: String::new(),
        short_uri: String::new(),
        enabled: None,
        create_time: None,
        update_time: None,
        etag: String::new(),
        ..link.clone()
    };
    assert_eq!(kept, wanted);

    let found = service.resolve(SHARED, "sALE").await;
    assert!(found.domain_known && !found.case_sensitive && found.read_time.is_some());
    assert_eq!(found.normalized_slug, "sale");
    let route = found.route.unwrap();
    assert_eq!(route.destination_uri, "https://example.com/a?b=c&utm_source=mail#d");
    assert_eq!((route.status, route.enabled, route.forward_query), (301, true, true));
    assert_eq!(route.expire_unix_micros, 2_000_000_000_000_000);
    assert_eq!(route.expired_destination_uri, "https://example.com/over");
    assert_eq!(route.utm.unwrap().source, "mail");
    assert_eq!(route.workspace_id, caller.grants[0].workspace.as_bytes());

    let changed = Link { name: link.name.clone(), enabled: Some(false), ..Link::default() };
    let changed = update(&service, &caller, changed, &["enabled", "utm"]).await.unwrap();
    assert_ne!(changed.etag, link.etag);
    assert_eq!(changed.tags, link.tags);
    let again = service.resolve(SHARED, "sale").await;
    assert!(again.version > found.version);
    let route = again.route.unwrap();
    assert_eq!(
        (route.enabled, route.destination_uri.as_str()),
        (false, "https://example.com/a?b=c#d")
    );
    service.stop().await;
}

#[tokio::test]
async fn versions_grow_through_deletion_and_re_creation_and_are_announced_in_order() {
    let service = Service::start().await;
    let caller = owner();
    let mut versions = Vec::new();
    for _ in 0..3 {
        let link = create(&service, &caller, with_slug("again")).await.unwrap();
        versions.push(service.resolve(SHARED, "again").await.version);
        service.changes(|seen| seen.len() == versions.len()).await;
        delete(&service, &caller, &link.name).await.unwrap();
        let gone = service.resolve(SHARED, "again").await;
        assert_eq!(gone.route, None);
        versions.push(gone.version);
        service.changes(|seen| seen.len() == versions.len()).await;
        assert_eq!(reason(delete(&service, &caller, &link.name).await), "NOT_FOUND");
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let announced = service.changes(|seen| seen.len() >= versions.len()).await;
    let seen: Vec<i64> = announced.iter().map(|change| change.version).collect();
    assert_eq!(seen, versions);
    for (nth, change) in announced.iter().enumerate() {
        assert_eq!((change.domain.as_str(), change.slug.as_str()), (SHARED, "again"));
        assert_eq!(change.route.is_some(), nth % 2 == 0);
    }
    service.stop().await;
}

#[tokio::test]
async fn what_is_announced_is_what_resolve_answers() {
    let service = Service::start().await;
    let link = create(&service, &owner(), with_slug("same")).await.unwrap();
    let found = service.resolve(SHARED, "same").await;
    let announced = service.changes(|seen| !seen.is_empty()).await.remove(0);
    assert_eq!(announced.route, found.route);
    assert_eq!(announced.version, found.version);
    assert_eq!(format!("{:x}", announced.version), link.etag);
    service.stop().await;
}

#[tokio::test]
async fn of_links_created_at_once_under_one_slug_exactly_one_is_made() {
    let service = Service::start().await;
    let callers = [owner(), owner(), owner(), owner(), owner()];
    let spellings = ["race", "Race", "RACE", "rAce", "racE"];
    let one = |nth: usize| create(&service, &callers[nth], with_slug(spellings[nth]));
    let (a, b, c, d, e) = tokio::join!(one(0), one(1), one(2), one(3), one(4));
    let (made, refused): (Vec<_>, Vec<_>) = [a, b, c, d, e].into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    for result in refused {
        assert_eq!(reason(result), "ALREADY_EXISTS");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_etag_lets_only_the_faster_of_two_writers_change_a_link() {
    let service = Service::start().await;
    let caller = owner();
    let link = create(&service, &caller, with_slug("etag")).await.unwrap();
    let faster = Link { display_name: "faster".to_owned(), ..link.clone() };
    let faster = update(&service, &caller, faster, &["display_name"]).await.unwrap();
    let slower = Link { display_name: "slower".to_owned(), ..link.clone() };
    let refused = update(&service, &caller, slower, &["display_name"]).await;
    assert_eq!(reason(refused), "ETAG_MISMATCH");
    let delete = |etag: &str| {
        let message = proto::links::v1::DeleteLinkRequest {
            name: link.name.clone(),
            etag: etag.to_owned(),
            ..Default::default()
        };
        let request = super::harness::by(&caller, message);
        let mut client = service.links();
        async move { client.delete_link(request).await }
    };
    assert_eq!(reason(delete(&link.etag).await), "ETAG_MISMATCH");
    delete(&faster.etag).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_random_slug_has_seven_characters_and_what_never_was_has_version_0() {
    let service = Service::start().await;
    let link = create(&service, &owner(), with_slug("")).await.unwrap();
    assert_eq!(link.slug.len(), 7);
    let nothing = service.resolve(SHARED, "never").await;
    assert_eq!((nothing.route, nothing.version, nothing.domain_known), (None, 0, true));
    let nowhere = service.resolve("nowhere.test", "never").await;
    assert!(!nowhere.domain_known && nowhere.route.is_none());
    for odd in ["a\0b", "ü/..", &"x".repeat(5_000)] {
        assert_eq!(service.resolve(SHARED, odd).await.route, None);
    }
    service.stop().await;
}
