//! Mails that can't be delivered at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use identity::{Mail, Mailer};
use tokio::sync::mpsc;

use super::harness::{PATIENCE, Service};
use super::people::{EMAIL, PASSWORD, sign_up, token_in, tokens, verify};

/// Takes a mail at the third attempt.
#[derive(Debug)]
struct Fickle {
    attempts: AtomicUsize,
    taken: mpsc::Sender<Mail>,
}

#[tonic::async_trait]
impl Mailer for Fickle {
    async fn send(&self, mail: &Mail) -> anyhow::Result<()> {
        anyhow::ensure!(self.attempts.fetch_add(1, Ordering::SeqCst) >= 2, "told to fail");
        self.taken.send(mail.clone()).await?;
        Ok(())
    }
}

#[tokio::test]
async fn a_mail_that_is_not_taken_is_offered_again_and_its_last_token_is_the_one_that_works() {
    let (taken, mut mails) = mpsc::channel(10);
    let mailer = Arc::new(Fickle { attempts: AtomicUsize::new(0), taken });
    let service = Service::start_with(|_| (), Some(mailer.clone())).await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let mail = tokio::time::timeout(PATIENCE, mails.recv()).await.unwrap().unwrap();
    assert_eq!((mail.to.as_str(), mailer.attempts.load(Ordering::SeqCst)), (EMAIL, 3));
    service.users().verify_email(verify(&token_in(&mail.text))).await.unwrap();
    tokens(service.sign_in(EMAIL, PASSWORD).await);

    let database = service.database.open();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (left,): (i64,) = sqlx::query_as("select count(*) from identity.mails")
            .fetch_one(database.primary())
            .await
            .unwrap();
        if left == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "a mail that was taken is kept");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(mails.try_recv().is_err(), "it was sent once");
    service.stop().await;
}

#[tokio::test]
async fn links_in_mails_lead_to_the_configured_place_with_the_token_where_no_server_sees_it() {
    let service = Service::start_with(
        |config| config.mail.link_base = Some("https://app.example/".to_owned()),
        None,
    )
    .await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let mail = service.mail(0).await;
    assert!(mail.contains("https://app.example/verify-email#token=lmv_"), "{mail}");
    service.stop().await;
}

#[tokio::test]
async fn a_mail_of_a_kind_to_come_and_one_that_does_not_open_keep_no_other_from_being_sent() {
    let service = Service::start().await;
    sqlx::query(
        "insert into identity.mails (id, kind, email_hash, email, due_micros, expire_micros)
         select gen_random_uuid(), kind, 'x', 'x', 0, 9e15 from unnest(array[1, 3, 9]) kind",
    )
    .execute(service.database.open().primary())
    .await
    .unwrap();
    service.person(EMAIL).await;
    service.stop().await;
}
