//! Sessions: tokens that rotate, and what happens to those that were copied.

use auth::access_token::{Expected, TokenError, TrustedKeys};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use prost::Message as _;
use proto::events::v1::SessionEnded;
use proto::identity::v1::{
    EndAllSessionsRequest, EndSessionRequest, GetJsonWebKeysRequest, ListSessionsRequest,
    RefreshSessionRequest, SessionTokens,
};
use tonic::Status;

use super::harness::{Service, reason, violation};
use super::people::{EMAIL, PASSWORD, Person, me, tokens};

async fn refresh(service: &Service, token: &str, id: &str) -> Result<SessionTokens, Status> {
    let message =
        RefreshSessionRequest { refresh_token: token.to_owned(), request_id: id.to_owned() };
    let answer = service.sessions().refresh_session(message).await?;
    Ok(answer.into_inner().tokens.unwrap())
}

#[tokio::test]
async fn an_access_token_is_proved_by_the_published_keys_and_names_user_and_session() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let keys = service.json_web_keys().get_json_web_keys(GetJsonWebKeysRequest {}).await.unwrap();
    let mut trusted = TrustedKeys::default();
    for key in keys.into_inner().keys {
        assert_eq!(
            (&*key.kty, &*key.crv, &*key.alg, &*key.r#use),
            ("OKP", "Ed25519", "EdDSA", "sig")
        );
        assert!(trusted.insert(key.kid, &BASE64_URL_SAFE_NO_PAD.decode(key.x).unwrap()));
    }
    let expected = Expected { issuer: "linkmesh".to_owned(), audience: "linkmesh".to_owned() };
    let now = jiff::Timestamp::now().as_second();
    let token = &person.tokens.access_token;
    let (claims, _) = trusted.verify(token, &expected, now).unwrap();
    assert_eq!(person.tokens.session, format!("users/{}/sessions/{}", claims.sub, claims.sid));
    assert_eq!(claims.exp - claims.iat, 600);
    let late = trusted.verify(token, &expected, now + 700);
    assert_eq!(late.unwrap_err(), TokenError::Expired);
    service.stop().await;
}

#[tokio::test]
async fn a_refresh_token_is_good_once_and_a_copy_of_it_ends_the_session() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let first = person.tokens.refresh_token.clone();
    let second = refresh(&service, &first, "").await.unwrap();
    assert_eq!(second.session, person.tokens.session);
    assert_ne!(second.refresh_token, first);
    let third = refresh(&service, &second.refresh_token, "").await.unwrap();

    // Old ones are told from made-up ones, which change nothing.
    let mut made_up = third.refresh_token.clone();
    let last = made_up.pop().unwrap();
    made_up.push(if last == 'A' { 'Q' } else { 'A' });
    for text in ["", "lmr_", "x", &made_up] {
        assert_eq!(reason(refresh(&service, text, "").await), "SESSION_ENDED");
    }
    let fourth = refresh(&service, &third.refresh_token, "").await.unwrap();
    assert_eq!(reason(refresh(&service, &first, "").await), "SESSION_ENDED");
    assert_eq!(reason(refresh(&service, &fourth.refresh_token, "").await), "SESSION_ENDED");
    let ends = service.on_topic(bus::topics::SESSION_ENDS, 1).await;
    let ended = SessionEnded::decode(ends[0].value.clone()).unwrap();
    let id = uuid::Uuid::from_slice(&ended.session_id).unwrap().simple().to_string();
    assert!(person.tokens.session.ends_with(&id));
    service.stop().await;
}

#[tokio::test]
async fn whoever_lost_the_answer_of_a_refresh_gets_the_same_again_and_nobody_else_does() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let id = uuid::Uuid::new_v4().to_string();
    let first = refresh(&service, &person.tokens.refresh_token, &id).await.unwrap();
    let again = refresh(&service, &person.tokens.refresh_token, &id).await.unwrap();
    assert_eq!(first.refresh_token, again.refresh_token);
    let next = refresh(&service, &again.refresh_token, "").await.unwrap();
    let other = uuid::Uuid::new_v4().to_string();
    let stolen = refresh(&service, &again.refresh_token, &other).await;
    assert_eq!(reason(stolen), "SESSION_ENDED");
    assert_eq!(reason(refresh(&service, &next.refresh_token, "").await), "SESSION_ENDED");
    service.stop().await;
}

#[tokio::test]
async fn of_two_who_refresh_at_once_only_one_gets_a_token() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let token = person.tokens.refresh_token.as_str();
    let (one, other) = tokio::join!(refresh(&service, token, ""), refresh(&service, token, ""));
    let got = [&one, &other].into_iter().filter(|answer| answer.is_ok()).count();
    assert_eq!(got, 1, "{one:?} {other:?}");
    service.stop().await;
}

#[tokio::test]
async fn sessions_are_listed_and_end_one_by_one_or_all_at_once() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let second = Person::of(tokens(service.sign_in(EMAIL, PASSWORD).await));
    let third = Person::of(tokens(service.sign_in(EMAIL, PASSWORD).await));
    let other = service.person("grace@example.com").await;
    let list = async |person: &Person| {
        let message = ListSessionsRequest { parent: me() };
        let listed = service.sessions().list_sessions(person.asks(message)).await.unwrap();
        listed.into_inner().sessions
    };
    let listed = list(&third).await;
    assert_eq!(listed.len(), 3);
    assert!(listed[0].current && listed[0].name == third.tokens.session);
    assert!(listed.iter().all(|session| session.label == "Firefox on Linux"));

    let end = async |by: &Person, name: &str| {
        service
            .sessions()
            .end_session(by.asks(EndSessionRequest { name: name.to_owned(), ..Default::default() }))
            .await
    };
    // Another's, one's own by name, twice, and the one that calls.
    assert_eq!(reason(end(&other, &second.tokens.session).await), "NOT_FOUND");
    for _ in 0..2 {
        end(&third, &second.tokens.session).await.unwrap();
    }
    assert_eq!(reason(refresh(&service, &second.tokens.refresh_token, "").await), "SESSION_ENDED");
    end(&third, "users/me/sessions/current").await.unwrap();
    assert_eq!(reason(refresh(&service, &third.tokens.refresh_token, "").await), "SESSION_ENDED");
    for name in ["users/me", "users/me/sessions/x", "sessions/current"] {
        assert_eq!(violation(end(&person, name).await).0, "name");
    }

    let all = EndAllSessionsRequest { parent: me(), ..Default::default() };
    let ended = service.sessions().end_all_sessions(person.asks(all)).await.unwrap();
    assert_eq!(ended.into_inner().ended, 1);
    assert_eq!(reason(refresh(&service, &person.tokens.refresh_token, "").await), "SESSION_ENDED");
    assert!(refresh(&service, &other.tokens.refresh_token, "").await.is_ok());
    service.stop().await;
}
