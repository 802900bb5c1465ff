//! Whether an address has an account is told to nobody but its owner: by no answer, and by nothing that is done before one.

use std::collections::BTreeMap;
use std::sync::Arc;

use identity::{Mail, Mailer};
use proto::identity::v1::{
    RequestPasswordResetRequest, ResetPasswordRequest, SignUpRequest, VerifyEmailRequest,
};
use tokio::sync::{Semaphore, mpsc};
use tonic::{Request, Response};

use super::harness::{PATIENCE, Service};
use super::people::{EMAIL, PASSWORD, from, sign_up, token_in, verify};

const UNKNOWN: &str = "grace@example.com";

/// Takes as many mails as it is let, and the next one never: so those behind it wait.
#[derive(Debug)]
struct Slow {
    may_take: Semaphore,
    begun: mpsc::Sender<Mail>,
}

#[tonic::async_trait]
impl Mailer for Slow {
    async fn send(&self, mail: &Mail) -> anyhow::Result<()> {
        self.begun.send(mail.clone()).await?;
        self.may_take.acquire().await?.forget();
        Ok(())
    }
}

/// A service where [`EMAIL`] has an account, and no mail is written any more.
async fn with_mails_that_wait() -> Service {
    let (begun, mut mails) = mpsc::channel(10);
    let mailer = Arc::new(Slow { may_take: Semaphore::new(1), begun });
    let service = Service::start_with(|_| (), Some(mailer)).await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let mail = tokio::time::timeout(PATIENCE, mails.recv()).await.unwrap().unwrap();
    service.users().verify_email(verify(&token_in(&mail.text))).await.unwrap();
    service.users().sign_up(sign_up("in-the-way@example.com")).await.unwrap();
    tokio::time::timeout(PATIENCE, mails.recv()).await.unwrap().unwrap();
    service
}

/// How many rows each table has.
async fn rows(service: &Service) -> BTreeMap<String, i64> {
    let database = service.database.open();
    let tables: Vec<(String,)> = sqlx::query_as(
        "select table_name::text from information_schema.tables where table_schema = 'identity'",
    )
    .fetch_all(database.primary())
    .await
    .unwrap();
    let mut rows = BTreeMap::new();
    for (table,) in tables {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from identity.{table}"));
        let (count,): (i64,) = sqlx::query_as(count).fetch_one(database.primary()).await.unwrap();
        rows.insert(table, count);
    }
    rows
}

/// What a call answers with, headers among it, and adds to each table.
async fn added<T>(
    service: &Service,
    call: impl Future<Output = Result<Response<T>, tonic::Status>>,
) -> (T, Vec<String>, Vec<(String, i64)>) {
    let before = rows(service).await;
    let response = call.await.unwrap();
    let mut names: Vec<_> = response.metadata().keys().map(|key| format!("{key:?}")).collect();
    names.sort();
    let more = rows(service).await.into_iter().map(|(table, count)| {
        let more = count - before[&table];
        (table, more)
    });
    (response.into_inner(), names, more.filter(|(_, more)| *more != 0).collect())
}

/// Each address from a network of its own, so that none finds its network's limit begun.
fn asked<T>(email: &str, message: T) -> Request<T> {
    from([if email == EMAIL { 1 } else { 2 }; 16], message)
}

#[tokio::test]
async fn a_password_reset_is_answered_alike_and_is_the_same_work_whoever_has_an_account() {
    let service = with_mails_that_wait().await;
    let mut seen = Vec::new();
    for email in [EMAIL, UNKNOWN] {
        let request_id = uuid::Uuid::new_v4().to_string();
        let message = RequestPasswordResetRequest { email: email.to_owned(), request_id };
        let mut users = service.users();
        seen.push(added(&service, users.request_password_reset(asked(email, message))).await);
    }
    assert_eq!((&seen[0].0, &seen[0].1), (&seen[1].0, &seen[1].1));
    let mails = seen[0].2.iter().find(|(table, _)| table == "mails").expect("a mail is on its way");
    assert_eq!(mails.1, 1);
    // The address of the account was counted when it signed up; the other's is for the first time.
    let without_attempts = |rows: &[(String, i64)]| {
        rows.iter().filter(|(table, _)| table != "attempts").cloned().collect::<Vec<_>>()
    };
    assert_eq!(without_attempts(&seen[0].2), without_attempts(&seen[1].2));
    service.stop().await;
}

#[tokio::test]
async fn a_sign_up_is_answered_alike_and_is_the_same_work_whoever_has_an_account() {
    let service = with_mails_that_wait().await;
    let mut seen = Vec::new();
    for email in [EMAIL, UNKNOWN] {
        // Counted once before, as the address of the account was.
        let reset =
            RequestPasswordResetRequest { email: email.to_owned(), request_id: String::new() };
        service.users().request_password_reset(asked(email, reset)).await.unwrap();
        let request_id = uuid::Uuid::new_v4().to_string();
        let message = SignUpRequest { request_id, ..sign_up(email) };
        let mut users = service.users();
        seen.push(added(&service, users.sign_up(asked(email, message))).await);
    }
    assert_eq!(seen[0], seen[1]);
    let tables: Vec<_> = seen[0].2.iter().map(|(table, _)| table.as_str()).collect();
    assert!(tables.contains(&"sign_ups") && tables.contains(&"mails"), "{tables:?}");
    service.stop().await;
}

/// A token that nobody was sent, one that was used, and one of another kind are refused in the same words.
#[tokio::test]
async fn a_token_that_does_not_hold_is_refused_in_the_same_words_whatever_it_was() {
    let service = Service::start().await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let used = token_in(&service.mail(0).await);
    service.users().verify_email(verify(&used)).await.unwrap();
    let made_up = auth::Token::generate("lmv").unwrap().reveal().to_owned();
    let mut refusals = Vec::new();
    for token in [&used, &made_up] {
        for password in [PASSWORD, "wrong horse battery"] {
            let message = VerifyEmailRequest { password: password.to_owned(), ..verify(token) };
            refusals.push(service.users().verify_email(message).await.unwrap_err());
        }
    }
    for token in [used.replace("lmv", "lmp"), auth::Token::generate("lmp").unwrap().reveal().into()]
    {
        for new_password in ["staple another battery", "short"] {
            let message = ResetPasswordRequest {
                token: token.clone(),
                new_password: new_password.to_owned(),
                request_id: String::new(),
            };
            refusals.push(service.users().reset_password(message).await.unwrap_err());
        }
    }
    for refusal in &refusals {
        assert_eq!(
            (refusal.code(), refusal.message()),
            (refusals[0].code(), refusals[0].message())
        );
        assert_eq!(refusal.details(), refusals[0].details());
    }
    service.stop().await;
}
