//! What caches may do with answers, and what a client saves that has one already.

use super::clients::Answer;
use super::clients::Connection;
use super::clients::request;
use super::world::World;

const VARY: &str = "accept, accept-encoding, origin";

async fn get(world: &World, path: &str, more: &[(&str, &str)]) -> Answer {
    ask(world, "GET", path, more, "").await
}

async fn ask(
    world: &World,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &'static str,
) -> Answer {
    let bearer = world.bearer();
    let mut headers =
        vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    headers.extend(more);
    world.send_body(method, path, &headers, body).await
}

fn tag(answer: &Answer) -> String {
    let tag = answer.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "R54, quoted and strong: {tag}");
    tag
}

#[tokio::test]
async fn r54_what_a_client_has_already_is_not_sent_again() {
    let world = World::start().await;
    let path = format!("{}/links/lnk_1", world.workspace());
    let first = get(&world, &path, &[]).await;
    assert_eq!((first.status, first.header("cache-control")), (200, Some("private, no-cache")));
    let tag = tag(&first);
    assert_eq!(self::tag(&get(&world, &path, &[]).await), tag, "the same bytes, the same tag");
    let weak = format!("W/{tag}, \"other\"");
    for known in [tag.as_str(), &weak, "*"] {
        for method in ["GET", "HEAD"] {
            let again = ask(&world, method, &path, &[("if-none-match", known)], "").await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{method} {again:?}");
            for name in ["etag", "cache-control", "vary", "surrogate-key"] {
                assert_eq!(again.header(name), first.header(name), "{method} {name}");
            }
            assert!(again.header("date").is_some());
            for name in ["content-type", "content-length"] {
                assert_eq!(again.header(name), None, "{method} {name}");
            }
        }
    }
    let uri = world.uri(&path);
    let bearer = world.bearer();
    let headers = [("authorization", bearer.as_str()), ("if-none-match", tag.as_str())];
    let two = Connection::http2(world.address).await.send(request("GET", &uri, &headers, "")).await;
    assert_eq!((two.status, two.body.len()), (304, 0), "{two:?}");
    let other = get(&world, &path, &[("if-none-match", "\"other\"")]).await;
    assert_eq!((other.status, &other.body), (200, &first.body));

    world.doubles.state().link_etag = "7f".to_owned();
    let changed = get(&world, &path, &[("if-none-match", &tag)]).await;
    assert_eq!(changed.status, 200);
    assert_ne!(self::tag(&changed), tag);
}

#[tokio::test]
async fn r54_if_match_comes_first_and_what_does_not_hold_is_412() {
    let world = World::start().await;
    let path = format!("{}/links/lnk_1", world.workspace());
    let tag = tag(&get(&world, &path, &[]).await);
    let both = [("if-match", "\"other\""), ("if-none-match", tag.as_str())];
    let answer = get(&world, &path, &both).await;
    assert_eq!(answer.problem(), (412, "ETAG_MISMATCH".to_owned()));
    let both = [("if-match", tag.as_str()), ("if-none-match", tag.as_str())];
    assert_eq!(get(&world, &path, &both).await.status, 304);
}

#[tokio::test]
async fn r54_if_match_is_the_services_etag_and_aborted_stays_409() {
    let world = World::start().await;
    world.doubles.state().link_etag = "7f".to_owned();
    let path = format!("{}/links/lnk_1", world.workspace());
    let body = r#"{"displayName":"x"}"#;
    let first = tag(&get(&world, &path, &[]).await);
    assert!(first.starts_with("\"7f."), "{first}");
    let changed = ask(&world, "PATCH", &path, &[("if-match", &first)], body).await;
    assert_eq!((changed.status, &changed.json()["etag"]), (200, &"7fx".into()), "{changed:?}");
    assert_eq!(changed.header("cache-control"), Some("private, no-store"));

    let stale = ask(&world, "PATCH", &path, &[("if-match", &first)], body).await;
    assert_eq!(stale.problem(), (412, "ETAG_MISMATCH".to_owned()));
    let deleted = ask(&world, "DELETE", &path, &[("if-match", &first)], "").await;
    assert_eq!(deleted.problem(), (412, "ETAG_MISMATCH".to_owned()));
    let aborted = ask(&world, "PATCH", &path, &[], r#"{"displayName":"x","etag":"7f"}"#).await;
    assert_eq!(aborted.problem(), (409, "ETAG_MISMATCH".to_owned()));

    let next = tag(&changed);
    let chained = ask(&world, "PATCH", &path, &[("if-match", &next)], body).await;
    assert_eq!(chained.status, 200, "the answer to a change has the tag for the next one");
    let bare = ask(&world, "DELETE", &path, &[("if-match", "\"7fxx\"")], "").await;
    assert_eq!(bare.status, 200, "the resource's own etag is taken too: {bare:?}");
    let any = ask(&world, "PATCH", &path, &[("if-match", "*")], body).await;
    assert_eq!(any.status, 200);

    let calls = world.doubles.state().calls.len();
    let weak = ask(&world, "PATCH", &path, &[("if-match", "W/\"7f\"")], body).await;
    assert_eq!(weak.problem().0, 412, "weak tags are equal to none");
    let empty = ask(&world, "PATCH", &path, &[("if-match", "\"\"")], body).await;
    assert_eq!(empty.problem().0, 412, "an empty one is no condition less");
    let two = r#"{"displayName":"x","etag":"8"}"#;
    let two = ask(&world, "PATCH", &path, &[("if-match", "\"7f\"")], two).await;
    assert_eq!(two.problem(), (400, "INVALID_FIELD".to_owned()));
    let links = format!("{}/links", world.workspace());
    let create = r#"{"destinationUri":"https://shop.example"}"#;
    let create = ask(&world, "POST", &links, &[("if-match", "\"7f\"")], create).await;
    assert_eq!(create.problem(), (400, "INVALID_FIELD".to_owned()), "there is nothing to match");
    assert_eq!(world.doubles.state().calls.len(), calls, "no service heard of any");
}

#[tokio::test]
async fn r54_a_change_may_be_meant_for_any_of_some_versions_or_for_what_is_not_there() {
    let world = World::start().await;
    world.doubles.state().link_etag = "7f".to_owned();
    let path = format!("{}/links/lnk_1", world.workspace());
    let body = r#"{"displayName":"x"}"#;
    let current = tag(&get(&world, &path, &[]).await);
    let several = format!("\"a\", W/\"7f\", {current}, \"b\"");
    let changed = ask(&world, "PATCH", &path, &[("if-match", &several)], body).await;
    assert_eq!((changed.status, &changed.json()["etag"]), (200, &"7fx".into()), "{changed:?}");
    let stale = ask(&world, "PATCH", &path, &[("if-match", &several)], body).await;
    assert_eq!(stale.problem(), (412, "ETAG_MISMATCH".to_owned()));
    assert_eq!(world.doubles.state().link_etag, "7fx", "it was changed once");

    // What was done before under the same id, for another of the versions, is found.
    let done_before =
        ask(&world, "PATCH", &path, &[("if-match", "\"taken\", \"7fx\"")], body).await;
    assert_eq!(done_before.status, 200, "{done_before:?}");
    let other = ask(&world, "PATCH", &path, &[("if-match", "\"taken\", \"b\"")], body).await;
    assert_eq!(other.problem(), (409, "REQUEST_ID_REUSED".to_owned()));
    let deleted = ask(&world, "DELETE", &path, &[("if-match", "\"a\", \"7fxx\"")], "").await;
    assert_eq!(deleted.status, 200, "{deleted:?}");

    let absent = [("if-none-match", "*")];
    let there = ask(&world, "PATCH", &path, &absent, body).await;
    assert_eq!(there.problem(), (412, "ETAG_MISMATCH".to_owned()));
    let missing = format!("{}/links/missing", world.workspace());
    let missing = ask(&world, "PATCH", &missing, &absent, body).await;
    assert_eq!(missing.problem(), (404, "NOT_FOUND".to_owned()), "as without a condition");
    assert_eq!(world.doubles.state().link_etag, "7fxx");
    let list = ask(&world, "PATCH", &path, &[("if-none-match", "\"a\"")], body).await;
    assert_eq!(list.problem(), (400, "INVALID_FIELD".to_owned()));
}

#[tokio::test]
async fn r55_a_strong_tag_differs_by_coding_and_holds_for_its_own_alone() {
    let world = World::start().await;
    let path = format!("{}/links/{}", world.workspace(), "x".repeat(2_000));
    let plain = get(&world, &path, &[]).await;
    assert_eq!(plain.header("content-encoding"), None);
    let mut tags = vec![tag(&plain)];
    for coding in ["gzip", "br", "zstd"] {
        let answer = get(&world, &path, &[("accept-encoding", coding)]).await;
        assert_eq!(answer.header("content-encoding"), Some(coding));
        assert_eq!(answer.header("vary"), Some(VARY));
        let length = answer.header("content-length").expect("a length");
        assert_eq!(length.parse(), Ok(answer.body.len()));
        assert!(answer.body.len() < plain.body.len() / 2, "{coding}");
        let head = ask(&world, "HEAD", &path, &[("accept-encoding", coding)], "").await;
        for name in ["content-encoding", "content-length", "etag", "vary"] {
            assert_eq!(head.header(name), answer.header(name), "{name}");
        }
        tags.push(tag(&answer));
    }
    for (at, coding) in ["identity", "gzip", "br", "zstd"].into_iter().enumerate() {
        for (of, tag) in tags.iter().enumerate() {
            let headers = [("accept-encoding", coding), ("if-none-match", tag)];
            let answer = get(&world, &path, &headers).await;
            let expected = if at == of { 304 } else { 200 };
            assert_eq!(answer.status, expected, "{coding} with {tag}");
        }
    }
    let small = format!("{}/links/lnk_1", world.workspace());
    let small = get(&world, &small, &[("accept-encoding", "gzip")]).await;
    assert_eq!(small.header("content-encoding"), None, "it would hardly get smaller");
}

#[tokio::test]
async fn r55_only_what_anyone_may_read_is_for_every_cache() {
    let world = World::start().await;
    let keys = world.send("GET", "/.well-known/jwks.json", &[]).await;
    let public = "public, max-age=300, stale-while-revalidate=300";
    assert_eq!((keys.status, keys.header("cache-control")), (200, Some(public)), "{keys:?}");
    assert_eq!(keys.header("vary"), Some(VARY));
    assert_eq!(keys.header("surrogate-key"), Some(".well-known/jwks.json"));
    assert_eq!(keys.header("x-ratelimit-limit"), None, "one client's limits are not for all");
    let tag = tag(&keys);
    let again = world.send("GET", "/.well-known/jwks.json", &[("if-none-match", &tag)]).await;
    assert_eq!((again.status, again.header("cache-control")), (304, Some(public)));

    let service = "/linkmesh.identity.v1.JsonWebKeysService/GetJsonWebKeys";
    let connect = format!("{service}?connect=v1&encoding=json&message=%7B%7D");
    let keys = world.send("GET", &connect, &[]).await;
    assert_eq!((keys.status, keys.header("cache-control")), (200, Some(public)), "{keys:?}");

    let link = format!("{}/links/lnk_1", world.workspace());
    let mine = get(&world, &link, &[("origin", "https://app.example")]).await;
    assert_eq!(mine.header("cache-control"), Some("private, no-cache"));
    assert_eq!(mine.header("vary"), Some(VARY));
    assert_eq!(mine.headers.get_all("vary").iter().count(), 1, "and once");
    let workspace = link.trim_start_matches("/v1/").trim_end_matches("/links/lnk_1");
    let expected = format!("{workspace}/links/lnk_1 {workspace}");
    assert_eq!(mine.header("surrogate-key"), Some(expected.as_str()));
    let exposed = mine.header("access-control-expose-headers").expect("a list");
    assert!(exposed.split(", ").any(|name| name == "etag"), "{exposed}");

    for (path, headers) in [(link.as_str(), &[][..]), ("/v1/nothing/here", &[]), ("/nolink", &[])] {
        let answer = world.send("GET", path, headers).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
}
