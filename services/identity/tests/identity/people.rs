//! People who sign up and in: what the tests of accounts have in common.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use bus::{Start, Stored};
use proto::common::v1::Tier;
use proto::identity::v1::json_web_keys_service_client::JsonWebKeysServiceClient;
use proto::identity::v1::second_factors_service_client::SecondFactorsServiceClient;
use proto::identity::v1::sessions_service_client::SessionsServiceClient;
use proto::identity::v1::sign_in_response::Outcome;
use proto::identity::v1::users_service_client::UsersServiceClient;
use proto::identity::v1::{
    ConfirmTotpRequest, EnrollTotpRequest, SecondFactorChallenge, SessionTokens, SignInRequest,
    SignInResponse, SignUpRequest, VerifyEmailRequest,
};
use rpc::network::NetworkHash;
use rpc::{Caller, Principal, SessionId, UserId};
use tonic::{Request, Status};

use super::harness::{PATIENCE, Service, by};

pub(super) const EMAIL: &str = "Ada@Example.com";
pub(super) const NAME: &str = "Ada Lovelace";
pub(super) const PASSWORD: &str = "correct horse battery";

/// Someone who is signed in.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) principal: Principal,
    pub(super) tokens: SessionTokens,
}

impl Person {
    pub(super) fn of(tokens: SessionTokens) -> Self {
        let (user, session) = tokens.session.split_once("/sessions/").unwrap();
        let caller = Caller::User {
            user: UserId::parse(user.trim_start_matches("users/")).unwrap(),
            session: SessionId::parse(session).unwrap(),
        };
        let principal = Principal { caller, grants: Vec::new(), tier: Tier::Free };
        Self { principal, tokens }
    }

    /// A call as the edge makes it for them.
    pub(super) fn asks<T>(&self, message: T) -> Request<T> {
        by(&self.principal, message)
    }
}

impl Service {
    pub(super) fn users(&self) -> UsersServiceClient<mesh::Mesh> {
        UsersServiceClient::new(self.edge.clone())
    }

    pub(super) fn sessions(&self) -> SessionsServiceClient<mesh::Mesh> {
        SessionsServiceClient::new(self.edge.clone())
    }

    pub(super) fn factors(&self) -> SecondFactorsServiceClient<mesh::Mesh> {
        SecondFactorsServiceClient::new(self.edge.clone())
    }

    pub(super) fn json_web_keys(&self) -> JsonWebKeysServiceClient<mesh::Mesh> {
        JsonWebKeysServiceClient::new(self.edge.clone())
    }

    /// The mails that were written so far.
    pub(super) fn mails(&self) -> Vec<String> {
        let Ok(files) = std::fs::read_dir(&self.mails) else { return Vec::new() };
        let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        paths.sort();
        paths.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// The nth mail, once it is there.
    pub(super) async fn mail(&self, nth: usize) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(mail) = self.mails().get(nth) {
                return mail.clone();
            }
            assert!(Instant::now() < deadline, "no mail {nth} came");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until no mail is on its way.
    pub(super) async fn until_mails_are_sent(&self) {
        let database = self.database.open();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let waiting = sqlx::query_as("select count(*) from identity.mails");
            let (waiting,): (i64,) = waiting.fetch_one(database.primary()).await.unwrap();
            if waiting == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{waiting} mails were not sent");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Someone with an account, signed in.
    pub(super) async fn person(&self, email: &str) -> Person {
        let before = self.mails().len();
        self.users().sign_up(sign_up(email)).await.unwrap();
        let token = token_in(&self.mail(before).await);
        self.users().verify_email(verify(&token)).await.unwrap();
        Person::of(tokens(self.sign_in(email, PASSWORD).await))
    }

    pub(super) async fn sign_in(
        &self,
        email: &str,
        password: &str,
    ) -> Result<SignInResponse, Status> {
        Ok(self.sessions().sign_in(sign_in(email, password)).await?.into_inner())
    }

    /// Enables the second factor; gives its secret and the recovery codes.
    pub(super) async fn enable_totp(&self, person: &Person) -> (Vec<u8>, Vec<String>) {
        let enroll =
            EnrollTotpRequest { name: me(), password: PASSWORD.to_owned(), ..Default::default() };
        let enrolled = self.factors().enroll_totp(person.asks(enroll)).await.unwrap().into_inner();
        let secret = base32(&enrolled.secret);
        let confirm =
            ConfirmTotpRequest { name: me(), totp_code: totp(&secret, 0), ..Default::default() };
        let confirmed = self.factors().confirm_totp(person.asks(confirm)).await.unwrap();
        (secret, confirmed.into_inner().recovery_codes)
    }

    /// What is on a topic, once there is as much.
    pub(super) async fn on_topic(&self, topic: bus::TopicSpec, count: usize) -> Vec<Stored> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "too little was announced");
            // The relay makes the topic at its start.
            if let Ok(mut reader) = self.bus.reader(topic.name, 0, Start::Beginning).await {
                let records = reader.next(100, Duration::from_millis(100)).await.unwrap();
                if records.len() >= count {
                    return records;
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Everything that is in Postgres, as text: bytes as hexadecimal digits.
    pub(super) async fn rows(&self) -> String {
        let database = self.database.open();
        let tables: Vec<(String,)> = sqlx::query_as(
            "select table_name::text from information_schema.tables where table_schema = 'identity'",
        )
        .fetch_all(database.primary())
        .await
        .unwrap();
        let mut rows = String::new();
        for (table,) in tables {
            let statement =
                format!("select coalesce(string_agg(t::text, ' '), '') from identity.{table} t");
            let (text,): (String,) = sqlx::query_as(sqlx::AssertSqlSafe(statement))
                .fetch_one(database.primary())
                .await
                .unwrap();
            rows.push_str(&text);
        }
        rows
    }
}

pub(super) fn me() -> String {
    "users/me".to_owned()
}

pub(super) fn sign_up(email: &str) -> SignUpRequest {
    SignUpRequest {
        email: email.to_owned(),
        password: PASSWORD.to_owned(),
        display_name: NAME.to_owned(),
        request_id: String::new(),
    }
}

pub(super) fn verify(token: &str) -> VerifyEmailRequest {
    VerifyEmailRequest {
        token: token.to_owned(),
        password: PASSWORD.to_owned(),
        request_id: String::new(),
    }
}

pub(super) fn sign_in(email: &str, password: &str) -> SignInRequest {
    SignInRequest {
        email: email.to_owned(),
        password: password.to_owned(),
        label: "Firefox on Linux".to_owned(),
        request_id: String::new(),
    }
}

/// A call from a network.
pub(super) fn from<T>(network: NetworkHash, message: T) -> Request<T> {
    let mut request = Request::new(message);
    rpc::network::attach(&network, request.metadata_mut());
    request
}

/// The token that a mail carries.
#[track_caller]
pub(super) fn token_in(mail: &str) -> String {
    let (_, rest) = mail.split_once("Token: ").expect("the mail has a token");
    rest.split_whitespace().next().unwrap().to_owned()
}

#[track_caller]
pub(super) fn tokens(answer: Result<SignInResponse, Status>) -> SessionTokens {
    match answer.unwrap().outcome.unwrap() {
        Outcome::Tokens(tokens) => tokens,
        Outcome::Challenge(_) => panic!("a second factor is asked for"),
    }
}

#[track_caller]
pub(super) fn challenge(answer: Result<SignInResponse, Status>) -> SecondFactorChallenge {
    match answer.unwrap().outcome.unwrap() {
        Outcome::Challenge(challenge) => challenge,
        Outcome::Tokens(_) => panic!("no second factor is asked for"),
    }
}

/// The code of an authenticator whose clock is this many steps off.
pub(super) fn totp(secret: &[u8], steps_off: i64) -> String {
    let step = jiff::Timestamp::now().as_second() / 30 + steps_off;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 15);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap()) & 0x7fff_ffff;
    format!("{:06}", number % 1_000_000)
}

pub(super) fn base32(text: &str) -> Vec<u8> {
    let mut bits = String::new();
    for one in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|c| *c == one).unwrap();
        bits.push_str(&format!("{value:05b}"));
    }
    let bytes = bits.as_bytes().chunks_exact(8);
    bytes.map(|bits| u8::from_str_radix(std::str::from_utf8(bits).unwrap(), 2).unwrap()).collect()
}
