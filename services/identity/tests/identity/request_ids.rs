//! Request ids of calls about accounts: each has its effect once, and its answer, which holds secrets, is kept sealed.

use proto::identity::v1::complete_sign_in_request::Factor;
use proto::identity::v1::disable_totp_request::Factor as DisableFactor;
use proto::identity::v1::{
    CompleteSignInRequest, ConfirmTotpRequest, DisableTotpRequest, EndAllSessionsRequest,
    EndSessionRequest, EnrollTotpRequest, EraseUserRequest, ListSessionsRequest,
    ReplaceRecoveryCodesRequest, SignInRequest, UpdateUserRequest, User,
};

use super::harness::{Service, reason};
use super::people::{EMAIL, NAME, PASSWORD, Person, base32, challenge, me, sign_in, tokens, totp};

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
