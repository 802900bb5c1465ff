//! Bad input from outside: each answers with the field, the limit and a stable reason, and changes nothing.

use crate::client::Answer;
use crate::client::Api;
use serde_json::Value;
use serde_json::json;
use tonic_types::StatusExt as _;

fn assert_problem(answer: &Answer, status: u16, reason: &str, field: &str) {
    let problem = answer.json();
    assert_eq!(answer.status, status, "{problem}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{problem}");
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["reason"], reason, "{problem}");
    assert!(problem.to_string().contains(field), "{field} is not named: {problem}");
}

async fn links(api: &Api) -> anyhow::Result<Value> {
    Ok(api.rest("GET", "/v1/{w}/links?pageSize=1000", None).await?.json())
}

/// Fields out of their limits, over REST.
pub async fn fields_are_refused_by_name_and_limit(api: &Api) -> anyhow::Result<()> {
    let before = links(api).await?;
    let long = format!("https://example.com/{}", "x".repeat(2_048));
    let fine = "https://example.com/";
    for (link, field) in [
        (json!({"destinationUri": "not a url"}), "destination_uri"),
        (json!({"destinationUri": "javascript:alert(1)"}), "http"),
        (json!({"destinationUri": "https://example.com/\r\nset-cookie: a=b"}), "destination_uri"),
        (json!({"destinationUri": long}), "2048"),
        (json!({}), "destination_uri"),
        (json!({"destinationUri": fine, "slug": "no/slash"}), "slug"),
        (json!({"destinationUri": fine, "slug": "x".repeat(65)}), "64"),
        (json!({"destinationUri": fine, "slug": "v1"}), "reserved"),
        (
            json!({"destinationUri": fine, "tags": vec!["t"; 21].iter().enumerate().map(|(i, t)| format!("{t}{i}")).collect::<Vec<_>>()}),
            "20",
        ),
        (json!({"destinationUri": fine, "displayName": "x".repeat(201)}), "200"),
    ] {
        let answer = api.rest("POST", "/v1/{w}/links", Some(link)).await?;
        assert_problem(&answer, 400, "INVALID_FIELD", field);
    }
    let answer = api.rest("GET", "/v1/{w}/links?pageToken=AAAA", None).await?;
    assert_problem(&answer, 400, "INVALID_PAGE_TOKEN", "page_token");
    let answer = api.rest("GET", "/v1/{w}/links?filter=color%20%3D%20%22red%22", None).await?;
    assert_problem(&answer, 400, "INVALID_FIELD", "filter");
    let answer = api.rest("GET", "/v1/{w}/links?colour=red", None).await?;
    assert_eq!(answer.status, 400, "{answer:?}");
    let answer = api.rest("GET", "/v1/{w}/clicks:intervals?timeZone=Mars/Olympus", None).await?;
    assert_problem(&answer, 400, "INVALID_FIELD", "time_zone");
    assert_eq!(links(api).await?, before, "nothing was half-written");
    Ok(())
}

/// Bodies and frames that can't be decoded, or are too large.
pub async fn malformed_bodies_and_frames_are_refused(api: &Api) -> anyhow::Result<()> {
    let path = format!("/v1/{}/links", api.workspace);
    let bearer = format!("Bearer {}", api.key);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    for body in
        ["{", "[]", "{\"destinationUri\": 7}", "{\"nope\": 1}", "{\"slug\":\"a\",\"slug\":\"b\"}"]
    {
        let answer = api.http("POST", &path, &headers, body).await?;
        assert_eq!(answer.status, 400, "{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert!(answer.json()["reason"].is_string(), "{answer:?}");
    }
    let plain = [("authorization", bearer.as_str()), ("content-type", "text/plain")];
    assert_problem(
        &api.http("POST", &path, &plain, "{}").await?,
        415,
        "MEDIA_TYPE_UNSUPPORTED",
        "application/json",
    );
    let huge = format!("{{\"displayName\": \"{}\"}}", "x".repeat(20 << 20));
    assert_problem(&api.http("POST", &path, &headers, huge).await?, 413, "BODY_TOO_LARGE", "bytes");
    assert_eq!(api.rest("GET", "/v1/nothing/here", None).await?.status, 404);
    let answer = api.rest("PUT", "/v1/{w}/links", None).await?;
    assert_eq!(answer.status, 405);
    assert!(answer.header("allow").contains("POST"), "{answer:?}");

    let get = "linkmesh.links.v1.LinksService/GetLink";
    let status = api.grpc_bytes(get, (&b"\xff\xff\xff"[..]).into()).await.expect_err("no message");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert_eq!(status.get_details_error_info().expect("an ErrorInfo").reason, "MALFORMED");
    let status = api.grpc(get, json!({"name": "links/1"})).await.expect_err("no such name");
    let violations = status.get_details_bad_request().expect("it names the field");
    assert_eq!(violations.field_violations[0].field, "name");
    Ok(())
}

/// Keys that are missing, malformed or unknown, and metadata that only the edge may set.
pub async fn nobody_gets_in_without_a_key_or_with_a_forged_principal(
    api: &Api,
) -> anyhow::Result<()> {
    let path = format!("/v1/{}/links", api.workspace);
    let answer = api.http("GET", &path, &[], "").await?;
    assert_problem(&answer, 401, "CREDENTIALS_MISSING", "authorization");
    assert!(answer.header("www-authenticate").starts_with("Bearer"), "{answer:?}");
    let unknown = format!("{}x", &api.key[..api.key.len() - 1]);
    for key in ["", "x", "lmk_", "lmk_abc_def", &unknown, &"a".repeat(5_000)] {
        let bearer = format!("Bearer {key}");
        let answer = api.http("GET", &path, &[("authorization", &bearer)], "").await?;
        assert_eq!(answer.status, 401, "{key}: {answer:?}");
    }
    // A principal with every scope of this very workspace, made by the client.
    let id = rpc::WorkspaceId::parse(&api.workspace["workspaces/".len()..])?;
    let principal = rpc::Principal::api_key(rpc::ApiKeyId::NIL, id, rpc::Permissions::ALL);
    let mut metadata = tonic::metadata::MetadataMap::new();
    principal.attach(&mut metadata);
    let forged = metadata.into_headers();
    let forged = forged[rpc::Principal::METADATA_KEY].to_str()?.to_owned();
    let answer = api.http("GET", &path, &[(rpc::Principal::METADATA_KEY, &forged)], "").await?;
    assert_eq!(answer.status, 401, "{answer:?}");
    Ok(())
}
