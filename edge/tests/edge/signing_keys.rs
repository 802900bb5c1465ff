//! Where the keys of access tokens come from, and do not come from: the fault list, 6.

use auth::access_token::Claims;
use proto::identity::v1::JsonWebKey;
use rpc::SessionId;
use rpc::UserId;
use tokio::sync::Semaphore;

use super::clients::Answer;
use super::doubles::Doubles;
use super::setup::Setup;
use super::tokens::claims;
use super::world::World;

/// Who ask at once.
const MANY: usize = 50;
/// Of a token that is good: the service knows nothing of its user.
const PROVED: u16 = 404;

async fn ask(world: &World, token: &str) -> Answer {
    let link = format!("{}/links/lnk_1", world.workspace());
    world.send("GET", &link, &[("authorization", &format!("Bearer {token}"))]).await
}

fn token_of(keys: &Doubles) -> String {
    keys.signing_key().sign(&claims(UserId::new(), SessionId::new())).expect("signed")
}

fn is_unavailable(answer: &Answer) -> bool {
    answer.status == 503
        && answer.problem().1 == "SIGNING_KEYS_UNAVAILABLE"
        && answer.header("retry-after").is_some()
}

/// An edge that starts before such doubles.
async fn behind(prepare: impl FnOnce(&Doubles)) -> World {
    let setup = Setup::default();
    prepare(&setup.doubles);
    World::set_up(setup, |_| ()).await
}

#[tokio::test]
async fn r46_an_edge_that_starts_without_keys_says_so_and_serves_as_soon_as_it_has_them() {
    let world = behind(|doubles| doubles.state().is_away = true).await;
    let token = token_of(&world.doubles);
    for _ in 0..3 {
        let answer = ask(&world, &token).await;
        assert!(is_unavailable(&answer), "{answer:?}");
    }
    world.doubles.state().is_away = false;
    world.eventually("it serves", async || ask(&world, &token).await.status == PROVED).await;
}

#[tokio::test]
async fn r46_keys_that_are_no_keys_are_none_and_take_no_place() {
    let world = World::start().await;
    let token = token_of(&world.doubles);
    assert_eq!(ask(&world, &token).await.status, PROVED);
    let good = world.doubles.published_key();
    let junk = [
        JsonWebKey { x: "!!!".to_owned(), ..good.clone() },
        JsonWebKey { x: "AAAA".to_owned(), ..good.clone() },
        JsonWebKey { kty: "RSA".to_owned(), ..good.clone() },
        JsonWebKey { crv: "P-256".to_owned(), ..good.clone() },
        JsonWebKey { alg: "HS256".to_owned(), ..good.clone() },
        JsonWebKey::default(),
    ];
    world.doubles.state().published = Some(junk.to_vec());
    let unknown = ask(&world, &token_of(&Doubles::new())).await;
    assert!(is_unavailable(&unknown), "nobody can tell: {unknown:?}");
    assert_eq!(ask(&world, &token).await.status, PROVED, "what was read before holds");
    let new = Doubles::new();
    let among = junk.into_iter().chain([good, new.published_key()]).collect();
    world.doubles.state().published = Some(among);
    let token = token_of(&new);
    world.eventually("it is read", async || ask(&world, &token).await.status == PROVED).await;
}

/// Nobody waits for more than one reading, and no good token waits at all.
#[tokio::test]
async fn r46_a_source_that_is_slow_is_waited_for_once_by_all() {
    let world = behind(|doubles| {
        doubles.keys_gate.forget_permits(Semaphore::MAX_PERMITS);
    })
    .await;
    let token = token_of(&world.doubles);
    let asked = (0..MANY).map(|_| ask(&world, &token));
    let answers = futures_util::future::join_all(asked).await;
    assert!(answers.iter().all(is_unavailable), "{answers:?}");
    let publications = world.doubles.state().publications;
    assert!(publications <= 4, "{publications} readings for {MANY} who waited");

    world.doubles.keys_gate.add_permits(MANY);
    world.eventually("it serves", async || ask(&world, &token).await.status == PROVED).await;
    world.doubles.keys_gate.forget_permits(Semaphore::MAX_PERMITS);
    let unknown = token_of(&Doubles::new());
    let mut waiting = std::pin::pin!(ask(&world, &unknown));
    let begun = world.doubles.state().publications;
    let reading = async || world.doubles.state().publications > begun;
    tokio::select! {
        () = world.eventually("it is read for the unknown one", reading) => {}
        answer = waiting.as_mut() => panic!("too soon: {answer:?}"),
    }
    let other = token_of(&world.doubles);
    tokio::select! {
        biased;
        answer = waiting.as_mut() => panic!("the good one waited for {answer:?}"),
        answer = ask(&world, &other) => assert_eq!(answer.status, PROVED),
    }
    let answer = waiting.await;
    assert!(is_unavailable(&answer), "{answer:?}");
}

#[tokio::test]
async fn r46_made_up_keys_are_looked_for_once_and_take_nothing_from_good_ones() {
    let world = World::start().await;
    let good = token_of(&world.doubles);
    assert_eq!(ask(&world, &good).await.status, PROVED);
    let before = world.doubles.state().publications;
    let made_up = (0..MANY).map(|_| async { ask(&world, &token_of(&Doubles::new())).await });
    let answers = futures_util::future::join_all(made_up).await;
    let are_wrong = answers.iter().all(|answer| answer.problem().1 == "ACCESS_TOKEN_INVALID");
    assert!(are_wrong, "{answers:?}");
    assert_eq!(world.doubles.state().publications, before + 1);
    let other = token_of(&world.doubles);
    for token in [&good, &other] {
        assert_eq!(ask(&world, token).await.status, PROVED);
    }
}

#[tokio::test]
async fn r46_a_key_is_taken_as_soon_as_it_signs() {
    let world = World::start().await;
    let (old, new) = (world.doubles.clone(), Doubles::new());
    assert_eq!(ask(&world, &token_of(&old)).await.status, PROVED);
    world.doubles.state().published = Some(vec![old.published_key(), new.published_key()]);
    for keys in [&new, &old] {
        assert_eq!(ask(&world, &token_of(keys)).await.status, PROVED);
    }
}

#[tokio::test]
async fn r48_a_key_that_is_withdrawn_proves_nothing_more_and_what_it_proved_is_forgotten() {
    let (old, new) = (Doubles::new(), Doubles::new());
    let both = vec![old.published_key(), new.published_key()];
    let world = behind(|doubles| doubles.state().published = Some(both)).await;
    let (by_old, by_new) = (token_of(&old), token_of(&new));
    for token in [&by_old, &by_new] {
        assert_eq!(ask(&world, token).await.status, PROVED);
    }
    world.doubles.state().published = Some(vec![new.published_key()]);
    // Whatever makes the edge read the set: here a key that nobody has published.
    assert_eq!(ask(&world, &token_of(&Doubles::new())).await.status, 401);
    for token in [&by_old, &token_of(&old)] {
        assert_eq!(ask(&world, token).await.problem().1, "ACCESS_TOKEN_INVALID");
    }
    assert_eq!(ask(&world, &by_new).await.status, PROVED);
}

#[tokio::test]
async fn r45_a_token_is_over_at_its_time_whether_it_is_remembered_or_not() {
    let world = World::start().await;
    let now = jiff::Timestamp::now().as_second();
    let expiring = |exp| {
        let claims = Claims { exp, ..claims(UserId::new(), SessionId::new()) };
        world.doubles.signing_key().sign(&claims).expect("signed")
    };
    // Clocks may be a minute apart.
    let over = ask(&world, &expiring(now - auth::access_token::SKEW_SECONDS)).await;
    assert_eq!(over.problem(), (401, "ACCESS_TOKEN_INVALID".to_owned()));
    let last = expiring(now - auth::access_token::SKEW_SECONDS + 5);
    assert_eq!(ask(&world, &last).await.status, PROVED);
    world.eventually("its time is over", async || ask(&world, &last).await.status == 401).await;
}
