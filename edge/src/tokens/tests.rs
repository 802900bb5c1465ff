//! Rules R46 and R48 of the edge: keys that come, go, and can't be read; and what is remembered of a token.

use super::*;

use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use auth::access_token::SigningKey;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::Ed25519KeyPair;
use aws_lc_rs::signature::KeyPair as _;
use tonic_types::StatusExt as _;

const NOW: i64 = 1_800_000_000;

/// Where keys are published, as a test wants it.
#[derive(Clone, Default)]
struct Published {
    keys: Arc<StdMutex<Option<Vec<JsonWebKey>>>>,
    reads: Arc<AtomicUsize>,
}

struct Key {
    signing: SigningKey,
    public: JsonWebKey,
}

fn key(kid: &str) -> Key {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(pkcs8.as_ref()).unwrap();
    let public = JsonWebKey {
        kty: "OKP".to_owned(),
        crv: "Ed25519".to_owned(),
        x: BASE64_URL_SAFE_NO_PAD.encode(pair.public_key().as_ref()),
        kid: kid.to_owned(),
        alg: "EdDSA".to_owned(),
        r#use: "sig".to_owned(),
    };
    Key { signing: SigningKey::from_pkcs8(kid, pkcs8.as_ref()), public }
}

impl Published {
    /// None: it can't be read.
    fn set(&self, keys: Option<&[&Key]>) {
        let keys = keys.map(|keys| keys.iter().map(|key| key.public.clone()).collect());
        *self.keys.lock().unwrap() = keys;
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn tokens(&self) -> Tokens {
        let expected = Expected { issuer: "linkmesh".to_owned(), audience: "linkmesh".to_owned() };
        let published = self.clone();
        Tokens::reading(expected, move || {
            let published = published.clone();
            Box::pin(async move {
                published.reads.fetch_add(1, Ordering::SeqCst);
                // So that calls at once are really under way at once.
                tokio::task::yield_now().await;
                let keys = published.keys.lock().unwrap().clone();
                keys.ok_or_else(|| Status::unavailable("told to fail"))
            })
        })
    }
}

fn signed(key: &Key, session: SessionId, exp: i64) -> String {
    let claims = Claims {
        iss: "linkmesh".to_owned(),
        aud: "linkmesh".to_owned(),
        sub: UserId::new().to_string(),
        sid: session.to_string(),
        iat: NOW,
        nbf: NOW,
        exp,
        jti: "1".to_owned(),
    };
    key.signing.sign(&claims).unwrap()
}

fn token(key: &Key) -> String {
    signed(key, SessionId::new(), NOW + 600)
}

/// The reason of a refusal; "" if there is none.
async fn reason(tokens: &Tokens, token: &str, now_seconds: i64) -> String {
    match tokens.signed_in(&Presented::new(token), now_seconds).await {
        Ok(_) => String::new(),
        Err(status) => status.get_details_error_info().expect("an ErrorInfo").reason,
    }
}

#[tokio::test]
async fn r46_keys_that_can_not_be_read_are_no_wrong_token() {
    let (published, one) = (Published::default(), key("k1"));
    let tokens = published.tokens();
    let status = tokens.signed_in(&Presented::new(&token(&one)), NOW).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(reason(&tokens, &token(&one), NOW).await, "SIGNING_KEYS_UNAVAILABLE");
    published.set(Some(&[]));
    let later = NOW + RETRY_SECONDS;
    let why = reason(&tokens, &token(&one), later).await;
    assert_eq!(why, "SIGNING_KEYS_UNAVAILABLE", "an empty set");
    published.set(Some(&[&one]));
    assert_eq!(reason(&tokens, &token(&one), later + RETRY_SECONDS).await, "");
}

#[tokio::test]
async fn r46_a_read_that_fails_has_failed_for_all_who_wait_for_it() {
    let (published, one, two) = (Published::default(), key("k1"), key("k2"));
    let tokens = published.tokens();
    let ask_at_once = async |token: String, now| {
        let calls = (0..50).map(|_| reason(&tokens, &token, now));
        let said = futures_util::future::join_all(calls).await;
        assert!(said.iter().all(|why| why == "SIGNING_KEYS_UNAVAILABLE"), "{said:?}");
    };
    ask_at_once(token(&one), NOW).await;
    ask_at_once(token(&one), NOW + RETRY_SECONDS - 1).await;
    assert_eq!(published.reads(), 1);
    published.set(Some(&[&one]));
    let now = NOW + RETRY_SECONDS;
    assert_eq!(reason(&tokens, &token(&one), now).await, "");

    // A new key that can't be read is no wrong one, however often it is asked for.
    published.set(None);
    for _ in 0..2 {
        ask_at_once(token(&two), now).await;
    }
    assert_eq!(published.reads(), 3);
    published.set(Some(&[&one, &two]));
    assert_eq!(reason(&tokens, &token(&two), now + RETRY_SECONDS).await, "");
}

#[tokio::test]
async fn r46_a_clock_that_goes_back_keeps_no_key_from_being_read() {
    let (published, one) = (Published::default(), key("k1"));
    let tokens = published.tokens();
    let far = NOW + 86_400;
    assert_eq!(reason(&tokens, &token(&one), far).await, "SIGNING_KEYS_UNAVAILABLE");
    published.set(Some(&[&one]));
    assert_eq!(reason(&tokens, &token(&one), NOW).await, "");
}

#[tokio::test]
async fn r46_the_set_is_read_by_one_for_all_who_wait() {
    let (published, one) = (Published::default(), key("k1"));
    published.set(Some(&[&one]));
    let tokens = published.tokens();
    let calls = (0..50).map(|_| {
        let (tokens, token) = (tokens.clone(), token(&one));
        async move { tokens.signed_in(&Presented::new(&token), NOW).await }
    });
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(published.reads(), 1);
}

#[tokio::test]
async fn r46_good_keys_are_used_while_their_source_is_away_and_no_longer_than_an_hour() {
    let (published, one) = (Published::default(), key("k1"));
    published.set(Some(&[&one]));
    let tokens = published.tokens();
    assert_eq!(reason(&tokens, &token(&one), NOW).await, "");
    published.set(None);
    let later = NOW + KEYS_AGE_MAX - 1;
    let lasting = || signed(&one, SessionId::new(), NOW + 2 * KEYS_AGE_MAX);
    assert_eq!(reason(&tokens, &lasting(), later).await, "");
    let known = lasting();
    assert_eq!(reason(&tokens, &known, later).await, "");
    for token in [lasting(), known] {
        assert_eq!(reason(&tokens, &token, later + 1).await, "SIGNING_KEYS_UNAVAILABLE");
    }
}

#[tokio::test]
async fn r46_an_unknown_key_makes_the_set_be_read_once_in_a_while() {
    let (published, one, two) = (Published::default(), key("k1"), key("k2"));
    published.set(Some(&[&one]));
    let tokens = published.tokens();
    assert_eq!(reason(&tokens, &token(&one), NOW).await, "");
    for _ in 0..10 {
        assert_eq!(reason(&tokens, &token(&two), NOW).await, "ACCESS_TOKEN_INVALID");
    }
    assert_eq!(published.reads(), 2, "one for the first, one for the unknown");
    published.set(Some(&[&one, &two]));
    let soon = NOW + UNKNOWN_KEY_COOLDOWN - 1;
    assert_eq!(reason(&tokens, &token(&two), soon).await, "ACCESS_TOKEN_INVALID");
    assert_eq!(reason(&tokens, &token(&two), soon + 1).await, "");
    assert_eq!(published.reads(), 3);

    // An unknown key that can't be looked for is no wrong one, and takes nothing from the good ones.
    published.set(None);
    let late = soon + 1 + UNKNOWN_KEY_COOLDOWN;
    assert_eq!(reason(&tokens, &token(&key("k3")), late).await, "SIGNING_KEYS_UNAVAILABLE");
    assert_eq!(reason(&tokens, &token(&one), late).await, "");
}

#[tokio::test]
async fn r48_a_token_is_remembered_for_a_minute_at_most_and_not_beyond_its_time_or_its_key() {
    let (published, one, two) = (Published::default(), key("k1"), key("k2"));
    published.set(Some(&[&one, &two]));
    let tokens = published.tokens();
    let (long, short) = (token(&one), signed(&one, SessionId::new(), NOW - 50));
    for token in [&long, &short] {
        assert_eq!(reason(&tokens, token, NOW).await, "");
    }
    let is_remembered = |token: &str, now| tokens.remembered(&hash(token), now).is_some();
    assert!(is_remembered(&long, NOW + 59) && !is_remembered(&long, NOW + 60));
    assert!(is_remembered(&short, NOW + 9) && !is_remembered(&short, NOW + 10), "its own time");

    // The same claims under another signature are another token.
    let mut forged = long.clone();
    let last = forged.pop().unwrap();
    forged.push(if last == 'A' { 'Q' } else { 'A' });
    assert_eq!(reason(&tokens, &forged, NOW).await, "ACCESS_TOKEN_INVALID");

    published.set(Some(&[&two]));
    tokens.fetch(&mut Attempts::default(), NOW).await.unwrap();
    assert!(!is_remembered(&long, NOW), "its key is gone");
    assert_eq!(reason(&tokens, &long, NOW).await, "ACCESS_TOKEN_INVALID");
}

/// R52.
#[tokio::test]
async fn r52_a_token_that_was_proved_is_no_guess_until_it_or_its_session_is_over() {
    let (published, one) = (Published::default(), key("k1"));
    published.set(Some(&[&one]));
    let tokens = published.tokens();
    let session = SessionId::new();
    let (text, unseen) = (signed(&one, session, NOW + 600), signed(&one, session, NOW + 601));
    let knows = |text: &str, now| tokens.knows(&Presented::new(text), now);
    assert!(!knows(&text, NOW));
    assert_eq!(reason(&tokens, &text, NOW).await, "");
    let over = NOW + 600 + SKEW_SECONDS;
    // That its proof is over after a minute does not make it a guess.
    for now in [NOW, NOW + VERIFIED_TTL, NOW + VERIFIED_TTL + 1, over - 1] {
        assert!(knows(&text, now) && !knows(&unseen, now), "{now}");
    }
    assert!(!knows(&text, over));

    let mut forged = text.clone();
    forged.push('A');
    assert_eq!(reason(&tokens, &forged, NOW).await, "ACCESS_TOKEN_INVALID");
    assert!(!knows(&forged, NOW), "what was refused stays a guess");

    let ended = SessionEnded {
        session_id: session.as_bytes().to_vec(),
        tokens_expire_unix_micros: ((NOW + 660) * 1_000_000).unsigned_abs(),
    };
    tokens.end(&ended, NOW * 1_000_000);
    assert!(!knows(&text, NOW));
}

#[tokio::test]
async fn a_session_that_has_ended_is_refused_whether_its_token_was_seen_or_not() {
    let (published, one) = (Published::default(), key("k1"));
    published.set(Some(&[&one]));
    let tokens = published.tokens();
    let (session, other) = (SessionId::new(), SessionId::new());
    let (seen, unseen) = (signed(&one, session, NOW + 600), signed(&one, session, NOW + 599));
    assert_eq!(reason(&tokens, &seen, NOW).await, "");
    let micros = |seconds: i64| (seconds * 1_000_000).unsigned_abs();
    let ended = |session: SessionId, until| SessionEnded {
        session_id: session.as_bytes().to_vec(),
        tokens_expire_unix_micros: micros(until),
    };
    tokens.end(&ended(session, NOW + 660), NOW * 1_000_000);
    // Long ago: none of its tokens is alive, and nothing needs to be remembered.
    tokens.end(&ended(other, NOW - 1), NOW * 1_000_000);
    for token in [&seen, &unseen] {
        assert_eq!(reason(&tokens, token, NOW).await, "ACCESS_TOKEN_INVALID");
    }
    assert_eq!(reason(&tokens, &signed(&one, other, NOW + 600), NOW).await, "");
    tokens.0.ended.run_pending_tasks();
    assert_eq!(tokens.0.ended.entry_count(), 1);
}

#[test]
fn an_api_key_is_no_token() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, text.parse().unwrap());
        presented(&headers).map(|token| token.text.to_owned())
    };
    let key = format!("Bearer {}", auth::ApiKey::generate().unwrap().reveal());
    assert_eq!(read(&key), None);
    assert_eq!(read("bearer  a.b.c ").as_deref(), Some("a.b.c"));
    for text in ["Bearer a.b", "Bearer a.b.c.d", "Basic a.b.c", "Bearer"] {
        assert_eq!(read(text), None, "{text}");
    }
    assert!(presented(&HeaderMap::new()).is_none());
}
