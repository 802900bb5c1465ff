//! Who is signed in, as an edge sees it: proved by an access token on every protocol, until its session ends.

use auth::access_token::Claims;
use proto::events::v1::SessionEnded;
use rpc::Caller;
use rpc::SessionId;
use rpc::UserId;

use super::world::World;

pub(super) fn claims(user: UserId, session: SessionId) -> Claims {
    let now = jiff::Timestamp::now().as_second();
    Claims {
        iss: "linkmesh".to_owned(),
        aud: "linkmesh".to_owned(),
        sub: user.to_string(),
        sid: session.to_string(),
        iat: now,
        nbf: now,
        exp: now + 600,
        jti: "1".to_owned(),
    }
}

#[tokio::test]
async fn services_are_told_the_user_and_the_session_of_a_token() {
    let world = World::start().await;
    let (user, session) = (UserId::new(), SessionId::new());
    let bearer =
        format!("Bearer {}", world.doubles.signing_key().sign(&claims(user, session)).unwrap());
    let headers = [("authorization", bearer.as_str())];
    let link = format!("{}/links/lnk_1", world.workspace());
    // A user without a part in the workspace: the service refuses, and it was told who asks.
    let answer = world.send("GET", &link, &headers).await;
    assert_eq!(answer.problem(), (404, "NOT_FOUND".to_owned()), "{answer:?}");
    let (_, principal) = world.doubles.state().calls.pop().expect("it was called");
    assert_eq!(principal.expect("a principal").caller, Caller::User { user, session });
}

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused_and_keys_that_can_not_be_read_are_no_refusal() {
    let world = World::start().await;
    let link = format!("{}/links/lnk_1", world.workspace());
    let claims = claims(UserId::new(), SessionId::new());
    let good = world.doubles.signing_key().sign(&claims).unwrap();
    let elsewhere = Claims { aud: "elsewhere".to_owned(), ..claims };
    let elsewhere = world.doubles.signing_key().sign(&elsewhere).unwrap();
    for token in [&*elsewhere, "a.b.c", &format!("{good}A")] {
        let answer =
            world.send("GET", &link, &[("authorization", &format!("Bearer {token}"))]).await;
        assert_eq!(answer.problem(), (401, "ACCESS_TOKEN_INVALID".to_owned()), "{token}");
        let challenge = answer.header("www-authenticate").expect("a challenge");
        assert!(challenge.contains("invalid_token"), "{challenge}");
    }
}

#[tokio::test]
async fn identity_that_is_away_from_the_start_makes_tokens_wait_and_not_wrong() {
    let world = World::with(|_| ()).await;
    world.doubles.state().is_away = true;
    let other = super::doubles::Doubles::new();
    let token = other.signing_key().sign(&claims(UserId::new(), SessionId::new())).unwrap();
    let link = format!("{}/links/lnk_1", world.workspace());
    let answer = world.send("GET", &link, &[("authorization", &format!("Bearer {token}"))]).await;
    // Its key is unknown, and it can't be looked for.
    assert_eq!(answer.problem(), (503, "SIGNING_KEYS_UNAVAILABLE".to_owned()), "{answer:?}");
    assert!(answer.header("retry-after").is_some());
}

#[tokio::test]
async fn the_token_of_a_session_that_ends_is_refused_soon_and_its_other_tokens_with_it() {
    let world = World::start().await;
    let (user, session) = (UserId::new(), SessionId::new());
    let link = format!("{}/links/lnk_1", world.workspace());
    let token = world.doubles.signing_key().sign(&claims(user, session)).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str())];
    assert_eq!(world.send("GET", &link, &headers).await.status, 404);
    let micros = jiff::Timestamp::now().as_microsecond() + 660_000_000;
    let ended = SessionEnded {
        session_id: session.as_bytes().to_vec(),
        tokens_expire_unix_micros: micros.unsigned_abs(),
    };
    world.publish(bus::topics::SESSION_ENDS.name, &session.to_string(), &ended).await;
    world
        .eventually("the end is heard of", async || {
            world.send("GET", &link, &headers).await.status == 401
        })
        .await;
    let other = world.doubles.signing_key().sign(&claims(user, SessionId::new())).unwrap();
    let other = world.send("GET", &link, &[("authorization", &format!("Bearer {other}"))]).await;
    assert_eq!(other.status, 404, "another session goes on");
}
