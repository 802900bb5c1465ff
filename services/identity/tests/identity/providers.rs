//! Signing in by a provider, one that behaves and one that does not.

use std::collections::BTreeMap;

use proto::identity::v1::confirm_provider_link_response::Outcome as Confirmed;
use proto::identity::v1::finish_provider_sign_in_response::Outcome;
use proto::identity::v1::providers_service_client::ProvidersServiceClient;
use proto::identity::v1::{
    BeginProviderSignInRequest, ConfirmProviderLinkRequest, FinishProviderSignInRequest,
    GetUserRequest, ListProvidersRequest,
};
use serde_json::json;
use tonic::Status;

use super::harness::{Service, reason, violation};
use super::people::{EMAIL, PASSWORD, Person, me};
use super::provider::{CLIENT_ID, CLIENT_SECRET, Manner, Provider, REDIRECT_URI};

async fn service_with(provider: &Provider) -> Service {
    let config = identity::ProviderConfig {
        display_name: "Example".to_owned(),
        issuer: provider.issuer(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: CLIENT_SECRET.to_owned(),
        redirect_uris: vec![REDIRECT_URI.to_owned()],
    };
    let providers = BTreeMap::from([("example".to_owned(), config)]);
    Service::start_with(|config| config.providers = providers, None).await
}

fn client(service: &Service) -> ProvidersServiceClient<mesh::Mesh> {
    ProvidersServiceClient::new(service.edge.clone())
}

fn begin(name: &str, redirect_uri: &str) -> BeginProviderSignInRequest {
    BeginProviderSignInRequest { name: name.to_owned(), redirect_uri: redirect_uri.to_owned() }
}

/// Goes to the provider and back.
async fn sign_in(service: &Service, provider: &Provider) -> Result<Outcome, Status> {
    let begun =
        client(service).begin_provider_sign_in(begin("providers/example", REDIRECT_URI)).await?;
    let begun = begun.into_inner();
    let (code, state) = provider.visited(&begun.authorization_uri);
    let label = "Firefox".to_owned();
    let finish = FinishProviderSignInRequest {
        flow_token: begun.flow_token,
        state,
        code,
        label,
        ..Default::default()
    };
    let finished = client(service).finish_provider_sign_in(finish).await?;
    Ok(finished.into_inner().outcome.unwrap())
}

#[track_caller]
fn signed_in(outcome: Result<Outcome, Status>) -> Person {
    match outcome.unwrap() {
        Outcome::Tokens(tokens) => Person::of(tokens),
        other @ (Outcome::Challenge(_) | Outcome::LinkRequired(_)) => {
            panic!("not signed in: {other:?}")
        }
    }
}

#[tokio::test]
async fn a_verified_address_that_nobody_has_makes_an_account_and_the_next_time_signs_in_to_it() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    let listed =
        client(&service).list_providers(ListProvidersRequest {}).await.unwrap().into_inner();
    assert_eq!(listed.providers[0].name, "providers/example");
    let first = signed_in(sign_in(&service, &provider).await);
    let get = first.asks(GetUserRequest { name: me() });
    let user = service.users().get_user(get).await.unwrap().into_inner().user.unwrap();
    assert_eq!(
        (user.email.as_str(), user.display_name.as_str()),
        ("ada@example.com", "Ada Lovelace")
    );
    assert!(!user.password_set);
    // Another address there by then: it is the subject that counts.
    provider.behave(Manner { claims: json!({"email": "other@example.com"}), ..Manner::default() });
    let second = signed_in(sign_in(&service, &provider).await);
    assert_eq!(first.principal.user(), second.principal.user());
    assert!(!service.rows().await.contains("248289761001"), "the subject is not in the clear");
    service.stop().await;
}

#[tokio::test]
async fn an_address_that_someone_has_is_linked_once_they_prove_their_account() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    let person = service.person(EMAIL).await;
    let Ok(Outcome::LinkRequired(link)) = sign_in(&service, &provider).await else {
        panic!("it was linked without a word");
    };
    let confirm = |password: &str| ConfirmProviderLinkRequest {
        link_token: link.link_token.clone(),
        password: password.to_owned(),
        ..Default::default()
    };
    let wrong = client(&service).confirm_provider_link(confirm("wrong horse battery")).await;
    assert_eq!(reason(wrong), "SIGN_IN_REFUSED");
    let right = ConfirmProviderLinkRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..confirm(PASSWORD)
    };
    let confirmed = client(&service).confirm_provider_link(right.clone()).await.unwrap();
    let confirmed = confirmed.into_inner();
    assert!(matches!(confirmed.outcome, Some(Confirmed::Tokens(_))));
    let repeated = client(&service).confirm_provider_link(right.clone()).await.unwrap();
    assert_eq!(repeated.into_inner(), confirmed);
    let again = client(&service).confirm_provider_link(confirm(PASSWORD)).await;
    assert_eq!(reason(again), "TOKEN_INVALID");
    // Whoever has token and id does not try passwords against them for long.
    let mut last = String::new();
    for nth in 0..20 {
        let guess =
            ConfirmProviderLinkRequest { password: format!("guess {nth}"), ..right.clone() };
        last = reason(client(&service).confirm_provider_link(guess).await);
    }
    assert_eq!(last, "RATE_LIMITED");
    let linked = signed_in(sign_in(&service, &provider).await);
    assert_eq!(linked.principal.user(), person.principal.user());

    // A second factor is asked for whoever proved the first.
    service.enable_totp(&person).await;
    assert!(matches!(sign_in(&service, &provider).await, Ok(Outcome::Challenge(_))));
    service.stop().await;
}

#[tokio::test]
async fn an_address_that_is_not_verified_proves_nothing() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    service.person(EMAIL).await;
    for claims in [
        json!({"email_verified": false}),
        json!({"email_verified": null}),
        json!({"email_verified": "false"}),
        json!({"email": null}),
        json!({"email": "not an address"}),
    ] {
        provider.behave(Manner { claims: claims.clone(), ..Manner::default() });
        let answer = sign_in(&service, &provider).await;
        assert_eq!(reason(answer), "EMAIL_UNVERIFIED", "{claims}");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_answer_that_proves_nothing_is_refused() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    let now = jiff::Timestamp::now().as_second();
    let claims = |claims| Manner { claims, ..Manner::default() };
    let header = |header| Manner { header, ..Manner::default() };
    for (what, manner) in [
        ("nonce", claims(json!({"nonce": "another"}))),
        ("nonce", claims(json!({"nonce": null}))),
        ("another client", claims(json!({"aud": "another"}))),
        ("azp", claims(json!({"aud": [CLIENT_ID, "another"]}))),
        ("azp", claims(json!({"azp": "another"}))),
        ("another issuer", claims(json!({"iss": "https://evil.example"}))),
        ("expired", claims(json!({"exp": now - 3_600}))),
        ("not valid yet", claims(json!({"nbf": now + 3_600}))),
        ("subject", claims(json!({"sub": ""}))),
        ("algorithm", header(json!({"alg": "none"}))),
        ("algorithm", header(json!({"alg": "HS256"}))),
        ("algorithm", header(json!({"alg": "RS256"}))),
        ("critical", header(json!({"crit": ["exp"]}))),
        ("unknown key", header(json!({"kid": "p2"}))),
        ("signature", Manner { forges: true, ..Manner::default() }),
        ("signature", Manner { unsigned: true, ..Manner::default() }),
    ] {
        provider.behave(manner.clone());
        let status = sign_in(&service, &provider).await.unwrap_err();
        assert!(status.message().contains(what), "{manner:?}: {status:?}");
        assert_eq!(reason::<()>(Err(status)), "PROVIDER_REFUSED", "{manner:?}");
    }
    provider.behave(Manner::default());
    signed_in(sign_in(&service, &provider).await);
    service.stop().await;
}

#[tokio::test]
async fn a_flow_is_good_once_and_for_the_browser_that_began_it() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    let begun = async || {
        let asked = begin("providers/example", REDIRECT_URI);
        client(&service).begin_provider_sign_in(asked).await.unwrap().into_inner()
    };
    let (one, other) = (begun().await, begun().await);
    let (_, other_state) = provider.visited(&other.authorization_uri);
    let (code, state) = provider.visited(&one.authorization_uri);
    let finish = |flow_token: &str, state: &str| FinishProviderSignInRequest {
        flow_token: flow_token.to_owned(),
        state: state.to_owned(),
        code: code.clone(),
        ..Default::default()
    };
    // Another's callback in this browser, and then its own: the flow is used up by the first.
    for state in [&other_state, &state] {
        let answer = client(&service).finish_provider_sign_in(finish(&one.flow_token, state)).await;
        assert_eq!(reason(answer), "TOKEN_INVALID");
    }
    let made_up = client(&service).finish_provider_sign_in(finish("lmf_x", &state)).await;
    assert_eq!(reason(made_up), "TOKEN_INVALID");
    // The code challenge of `one` was seen last, so the code of `other` is not exchanged.
    let answer =
        client(&service).finish_provider_sign_in(finish(&other.flow_token, &other_state)).await;
    assert_eq!(reason(answer), "PROVIDER_REFUSED");

    let unknown = client(&service).begin_provider_sign_in(begin("providers/x", REDIRECT_URI)).await;
    assert_eq!(reason(unknown), "NOT_FOUND");
    let elsewhere = begin("providers/example", "https://app.example/callback/evil");
    let elsewhere = client(&service).begin_provider_sign_in(elsewhere).await;
    assert_eq!(violation(elsewhere).0, "redirect_uri");
    service.stop().await;
}

#[tokio::test]
async fn a_provider_that_is_slow_failing_or_down_is_no_refusal() {
    let provider = Provider::start().await;
    let service = service_with(&provider).await;
    provider.behave(Manner {
        fails_at: Some("/.well-known/openid-configuration"),
        ..Manner::default()
    });
    assert_eq!(reason(sign_in(&service, &provider).await), "PROVIDER_UNAVAILABLE");
    for path in ["/token", "/jwks"] {
        provider.behave(Manner { fails_at: Some(path), ..Manner::default() });
        assert_eq!(reason(sign_in(&service, &provider).await), "PROVIDER_UNAVAILABLE", "{path}");
    }
    provider.behave(Manner { hangs_at: Some("/token"), ..Manner::default() });
    let status = sign_in(&service, &provider).await.unwrap_err();
    assert!(status.message().contains("longer than 5 s"), "{status:?}");
    // Discovery and keys are remembered, the token endpoint is not.
    provider.behave(Manner::default());
    signed_in(sign_in(&service, &provider).await);
    let begun = client(&service)
        .begin_provider_sign_in(begin("providers/example", REDIRECT_URI))
        .await
        .unwrap()
        .into_inner();
    let (code, state) = provider.visited(&begun.authorization_uri);
    drop(provider);
    let finish = FinishProviderSignInRequest {
        flow_token: begun.flow_token,
        state,
        code,
        ..Default::default()
    };
    let down = client(&service).finish_provider_sign_in(finish).await;
    assert_eq!(reason(down), "PROVIDER_UNAVAILABLE");
    service.stop().await;
}
