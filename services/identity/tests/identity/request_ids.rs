//! Request ids of calls about accounts: each has its effect once, and its answer, which holds secrets, is kept sealed.

use proto::identity::v1::complete_sign_in_request::Factor;
use proto::identity::v1::disable_totp_request::Factor as DisableFactor;
use proto::identity::v1::{
    CompleteSignInRequest, ConfirmTotpRequest, DisableTotpRequest, EndAllSessionsRequest,
    EndSessionRequest, EnrollTotpRequest, EraseUserRequest, ListSessionsRequest,
    ReplaceRecoveryCodesRequest, RequestPasswordResetRequest, SignInRequest, SignUpRequest,
    UpdateUserRequest, User,
};

use super::harness::{Service, reason};
use super::people::{
    EMAIL, NAME, PASSWORD, Person, base32, challenge, from, me, sign_in, sign_up, token_in, tokens,
    totp, verify,
};

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn sessions_of(service: &Service, person: &Person) -> usize {
    let list = person.asks(ListSessionsRequest { parent: me() });
    service.sessions().list_sessions(list).await.unwrap().into_inner().sessions.len()
}

#[tokio::test]
async fn signing_in_twice_under_one_id_is_one_session_and_only_who_knows_the_password_hears_of_it()
{
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let ask = SignInRequest { request_id: id(), ..sign_in(EMAIL, PASSWORD) };
    let first = service.sessions().sign_in(ask.clone()).await.unwrap().into_inner();
    let again = service.sessions().sign_in(ask.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(sessions_of(&service, &person).await, 2);

    // Whoever knows the id alone learns nothing by it.
    let guess = SignInRequest { password: "wrong horse battery".to_owned(), ..ask.clone() };
    assert_eq!(reason(service.sessions().sign_in(guess).await), "SIGN_IN_REFUSED");
    let other = SignInRequest { label: "Another".to_owned(), ..ask };
    assert_eq!(reason(service.sessions().sign_in(other).await), "REQUEST_ID_REUSED");

    let token = tokens(Ok(first)).refresh_token;
    let rows = service.rows().await;
    let hex: String = token.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!rows.contains(&token) && !rows.contains(&hex), "the answer is kept in the clear");
    service.stop().await;
}

#[tokio::test]
async fn a_second_step_whose_answer_was_lost_is_answered_again_and_a_wrong_code_is_not_kept() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (secret, _) = service.enable_totp(&person).await;
    let ask = SignInRequest { request_id: id(), ..sign_in(EMAIL, PASSWORD) };
    let begin = || async { service.sessions().sign_in(ask.clone()).await.unwrap().into_inner() };
    let first = challenge(Ok(begin().await));
    assert_eq!(first, challenge(Ok(begin().await)));

    let request_id = id();
    let complete = |code: String| CompleteSignInRequest {
        challenge_token: first.challenge_token.clone(),
        factor: Some(Factor::TotpCode(code)),
        request_id: request_id.clone(),
    };
    let wrong = service.sessions().complete_sign_in(complete("000000".to_owned())).await;
    assert_eq!(reason(wrong), "FACTOR_REFUSED");
    let right = complete(totp(&secret, 1));
    let done = service.sessions().complete_sign_in(right.clone()).await.unwrap().into_inner();
    // Challenge and code are used up, but for this.
    let again = service.sessions().complete_sign_in(right).await.unwrap().into_inner();
    assert_eq!(done, again);
    assert_eq!(sessions_of(&service, &person).await, 2);
    let other = service.sessions().complete_sign_in(complete("111111".to_owned())).await;
    assert_eq!(reason(other), "REQUEST_ID_REUSED");
    service.stop().await;
}

#[tokio::test]
async fn what_a_second_factor_shows_once_it_shows_again_to_the_same_request() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let enroll = EnrollTotpRequest { name: me(), password: PASSWORD.to_owned(), request_id: id() };
    let enrolled = service.factors().enroll_totp(person.asks(enroll.clone())).await.unwrap();
    let enrolled = enrolled.into_inner();
    let again = service.factors().enroll_totp(person.asks(enroll)).await.unwrap().into_inner();
    assert_eq!(enrolled, again);
    let secret = base32(&enrolled.secret);

    let confirm = ConfirmTotpRequest { name: me(), totp_code: totp(&secret, 0), request_id: id() };
    let mut shown = Vec::new();
    for _ in 0..2 {
        let confirmed = service.factors().confirm_totp(person.asks(confirm.clone())).await;
        shown.push(confirmed.unwrap().into_inner().recovery_codes);
    }
    assert_eq!((shown[0].len(), &shown[0]), (10, &shown[1]));

    let replace =
        ReplaceRecoveryCodesRequest { name: me(), totp_code: totp(&secret, 1), request_id: id() };
    let mut replaced = Vec::new();
    for _ in 0..2 {
        let codes = service.factors().replace_recovery_codes(person.asks(replace.clone())).await;
        replaced.push(codes.unwrap().into_inner().recovery_codes);
    }
    assert_eq!(replaced[0], replaced[1]);
    assert_ne!(replaced[0], shown[0]);
    let rows = service.rows().await;
    for code in &replaced[0] {
        let hex: String = code.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!rows.contains(code) && !rows.contains(&hex), "a code is kept in the clear");
    }

    let disable = DisableTotpRequest {
        name: me(),
        factor: Some(DisableFactor::RecoveryCode(replaced[0][0].clone())),
        request_id: id(),
    };
    for _ in 0..2 {
        service.factors().disable_totp(person.asks(disable.clone())).await.unwrap();
    }
    let late = DisableTotpRequest { request_id: String::new(), ..disable };
    let late = service.factors().disable_totp(person.asks(late)).await;
    assert_eq!(reason(late), "STATE_CONFLICT");
    service.stop().await;
}

#[tokio::test]
async fn an_account_is_changed_signed_out_and_erased_once() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let user = User { name: me(), display_name: "Countess".to_owned(), ..User::default() };
    let update = UpdateUserRequest { user: Some(user), request_id: id(), ..Default::default() };
    let first = service.users().update_user(person.asks(update.clone())).await.unwrap();
    let back = User { name: me(), display_name: NAME.to_owned(), ..User::default() };
    let back = UpdateUserRequest { user: Some(back), ..Default::default() };
    service.users().update_user(person.asks(back)).await.unwrap();
    let again = service.users().update_user(person.asks(update)).await.unwrap();
    assert_eq!(first.into_inner(), again.into_inner());
    let get = person.asks(proto::identity::v1::GetUserRequest { name: me() });
    let read = service.users().get_user(get).await.unwrap().into_inner().user.unwrap();
    assert_eq!(read.display_name, NAME, "it was changed once");
    assert!(!service.rows().await.contains("Countess"), "an answer is kept in the clear");

    let other = Person::of(tokens(service.sign_in(EMAIL, PASSWORD).await));
    let end = EndSessionRequest { name: other.tokens.session.clone(), request_id: id() };
    for _ in 0..2 {
        service.sessions().end_session(person.asks(end.clone())).await.unwrap();
    }
    assert_eq!(sessions_of(&service, &person).await, 1);
    let all = EndAllSessionsRequest { parent: me(), request_id: id() };
    for _ in 0..2 {
        let ended = service.sessions().end_all_sessions(person.asks(all.clone())).await.unwrap();
        assert_eq!(ended.into_inner().ended, 1, "the second is the first one's answer");
    }

    let erase = EraseUserRequest { name: me(), password: PASSWORD.to_owned(), request_id: id() };
    for _ in 0..2 {
        service.users().erase_user(person.asks(erase.clone())).await.unwrap();
    }
    let user = person.principal.user().unwrap();
    let (kept,): (i64,) =
        sqlx::query_as("select count(*) from identity.requests where workspace_id = $1")
            .bind(user.uuid())
            .fetch_one(service.database.open().primary())
            .await
            .unwrap();
    assert_eq!(kept, 1, "nothing of theirs but the erasure itself");
    service.stop().await;
}

#[tokio::test]
async fn strangers_who_choose_the_same_id_have_nothing_to_do_with_each_other() {
    let service = Service::start().await;
    let (ada, grace) = (EMAIL, "grace@example.com");
    for email in [ada, grace] {
        service.person(email).await;
    }
    let request_id = id();
    let ask = |email| SignInRequest { request_id: request_id.clone(), ..sign_in(email, PASSWORD) };
    let mut sessions = Vec::new();
    for email in [ada, grace] {
        let asked = service.sessions().sign_in(ask(email)).await.unwrap().into_inner();
        sessions.push(tokens(Ok(asked)).session);
    }
    assert_ne!(sessions[0], sessions[1]);
    // Nor do two methods, whoever asks: another can't take the ids of an address by asking for mails to it.
    for email in [ada, grace] {
        let reset =
            RequestPasswordResetRequest { email: email.to_owned(), request_id: request_id.clone() };
        service.users().request_password_reset(reset).await.unwrap();
        let sign_up = SignUpRequest { request_id: request_id.clone(), ..sign_up(email) };
        service.users().sign_up(sign_up).await.unwrap();
    }
    // An address is the same one however it is written.
    let other = SignInRequest { label: "Another".to_owned(), ..ask("ADA@EXAMPLE.COM") };
    assert_eq!(reason(service.sessions().sign_in(other).await), "REQUEST_ID_REUSED");
    service.stop().await;
}

#[tokio::test]
async fn whoever_guesses_an_id_beside_anothers_address_is_not_in_their_way() {
    let service = Service::start().await;
    let request_id = id();
    let ask = |password: &str| SignUpRequest {
        request_id: request_id.clone(),
        password: password.to_owned(),
        ..sign_up(EMAIL)
    };
    service.users().sign_up(ask("the guessers own password")).await.unwrap();
    service.mail(0).await;
    for _ in 0..2 {
        service.users().sign_up(ask(PASSWORD)).await.unwrap();
    }
    let token = token_in(&service.mail(1).await);
    service.users().verify_email(verify(&token)).await.unwrap();
    tokens(service.sign_in(EMAIL, PASSWORD).await);
    service.until_mails_are_sent().await;
    assert_eq!(service.mails().len(), 2, "one for each of them");
    service.stop().await;
}

#[tokio::test]
async fn a_mail_that_another_network_asked_for_under_the_same_id_keeps_none_from_being_sent() {
    let service = Service::start().await;
    service.person(EMAIL).await;
    let request_id = id();
    let reset = |network, email: &str| {
        let email = email.to_owned();
        from([network; 16], RequestPasswordResetRequest { email, request_id: request_id.clone() })
    };
    service.users().request_password_reset(reset(1, "ADA@example.com")).await.unwrap();
    service.mail(1).await;
    service.users().request_password_reset(reset(2, EMAIL)).await.unwrap();
    service.mail(2).await;

    let grace = "grace@example.com";
    service.person(grace).await;
    for _ in 0..2 {
        service.users().request_password_reset(reset(1, grace)).await.unwrap();
    }
    service.until_mails_are_sent().await;
    assert_eq!(service.mails().len(), 5, "the same network's is one");
    service.stop().await;
}

#[tokio::test]
async fn an_answer_is_erased_with_its_user() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (secret, _) = service.enable_totp(&person).await;
    let ask = SignInRequest { request_id: id(), ..sign_in(EMAIL, PASSWORD) };
    let begun = challenge(Ok(service.sessions().sign_in(ask).await.unwrap().into_inner()));
    let complete = CompleteSignInRequest {
        challenge_token: begun.challenge_token,
        factor: Some(Factor::TotpCode(totp(&secret, 1))),
        request_id: id(),
    };
    service.sessions().complete_sign_in(complete).await.unwrap();
    let other = SignInRequest { request_id: id(), ..sign_in("grace@example.com", PASSWORD) };
    service.person("grace@example.com").await;
    service.sessions().sign_in(other).await.unwrap();
    let count = async |table: &str| {
        let count = sqlx::AssertSqlSafe(format!("select count(*) from identity.{table}"));
        let database = service.database.open();
        let count = sqlx::query_as(count).fetch_one(database.primary());
        let (count,): (i64,) = count.await.unwrap();
        count
    };
    assert_eq!((count("answers").await, count("requests").await), (3, 3));
    let erase = EraseUserRequest { name: me(), password: PASSWORD.to_owned(), request_id: id() };
    service.users().erase_user(person.asks(erase)).await.unwrap();
    // What is left is somebody else's, and the erasure itself.
    assert_eq!((count("answers").await, count("requests").await), (1, 2));
    service.stop().await;
}

#[tokio::test]
async fn a_second_step_that_was_done_tells_no_guesser_its_code() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (secret, _) = service.enable_totp(&person).await;
    let begun = challenge(service.sign_in(EMAIL, PASSWORD).await);
    let right = CompleteSignInRequest {
        challenge_token: begun.challenge_token,
        factor: Some(Factor::TotpCode(totp(&secret, 1))),
        request_id: id(),
    };
    service.sessions().complete_sign_in(right.clone()).await.unwrap();
    let mut last = String::new();
    for nth in 0..20 {
        let factor = Some(Factor::TotpCode(format!("x{nth}")));
        let guess = CompleteSignInRequest { factor, ..right.clone() };
        last = reason(service.sessions().complete_sign_in(guess).await);
    }
    assert_eq!(last, "RATE_LIMITED");
    service.stop().await;
}

#[tokio::test]
async fn a_second_step_that_is_sent_twice_at_once_takes_one_code_and_begins_one_session() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (_, codes) = service.enable_totp(&person).await;
    let begun = challenge(service.sign_in(EMAIL, PASSWORD).await);
    let complete = CompleteSignInRequest {
        challenge_token: begun.challenge_token,
        factor: Some(Factor::RecoveryCode(codes[0].clone())),
        request_id: id(),
    };
    let send = || async { service.sessions().complete_sign_in(complete.clone()).await };
    let (one, other, third) = tokio::join!(send(), send(), send());
    let one = one.unwrap().into_inner();
    assert_eq!(one, other.unwrap().into_inner());
    assert_eq!(one, third.unwrap().into_inner());
    assert_eq!(sessions_of(&service, &person).await, 2);
    service.stop().await;
}

#[tokio::test]
async fn a_sealed_answer_is_forgotten_after_a_day_with_its_request_id() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let ask = SignInRequest { request_id: id(), ..sign_in(EMAIL, PASSWORD) };
    service.sessions().sign_in(ask.clone()).await.unwrap();
    sqlx::query("update identity.answers set create_micros = 0")
        .execute(service.database.open().primary())
        .await
        .unwrap();
    // What has expired is deleted at the start.
    let (database, folder) = service.stop_for_another().await;
    let service = Service::start_on(database, folder, |_| (), None).await;
    let deadline = std::time::Instant::now() + super::harness::PATIENCE;
    loop {
        let statement = "select (select count(*) from identity.answers)
             + (select count(*) from identity.requests)";
        let database = service.database.open();
        let (left,): (i64,) =
            sqlx::query_as(statement).fetch_one(database.primary()).await.unwrap();
        if left == 0 {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{left} rows are kept");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    service.sessions().sign_in(ask).await.unwrap();
    assert_eq!(sessions_of(&service, &person).await, 3);
    service.stop().await;
}
