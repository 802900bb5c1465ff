//! Accounts: asked for, proved, used, and given another password.

use prost::Message as _;
use proto::events::v1::UserEvent;
use proto::events::v1::user_event::Event;
use proto::identity::v1::{
    ChangePasswordRequest, GetUserRequest, RequestPasswordResetRequest, ResetPasswordRequest,
    SignUpRequest, UpdateUserRequest, User, VerifyEmailRequest,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use super::harness::{Service, reason, stranger, violation};
use super::people::{
    EMAIL, NAME, PASSWORD, Person, from, me, sign_in, sign_up, token_in, tokens, verify,
};

const NEW_PASSWORD: &str = "staple another battery";

#[tokio::test]
async fn someone_signs_up_proves_the_address_and_signs_in_and_nothing_personal_is_stored_in_the_clear()
 {
    let service = Service::start().await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    assert_eq!(reason(service.sign_in(EMAIL, PASSWORD).await), "SIGN_IN_REFUSED", "not proved yet");
    let mail = service.mail(0).await;
    assert!(mail.contains(&format!("To: {EMAIL}\r\n")), "{mail}");
    let token = token_in(&mail);
    let user = service.users().verify_email(verify(&token)).await.unwrap().into_inner().user;

    let person = Person::of(tokens(service.sign_in("ada@example.COM", PASSWORD).await));
    for name in [me(), user.clone()] {
        let get = GetUserRequest { name };
        let read =
            service.users().get_user(person.asks(get)).await.unwrap().into_inner().user.unwrap();
        assert_eq!((read.name.as_str(), read.email.as_str()), (user.as_str(), EMAIL));
        assert_eq!((read.display_name.as_str(), read.totp_enabled), (NAME, false));
        assert!(read.password_set);
    }
    let events = service.on_topic(bus::topics::USER_EVENTS, 1).await;
    let event = UserEvent::decode(events[0].value.clone()).unwrap();
    assert!(matches!(event.event, Some(Event::Registered(_))), "{event:?}");
    assert!(user.ends_with(&uuid::Uuid::from_slice(&event.user_id).unwrap().simple().to_string()));

    let rows = service.rows().await.to_lowercase();
    for personal in [EMAIL, NAME, PASSWORD, &token, "Firefox", &person.tokens.refresh_token] {
        let hex: String = personal.bytes().map(|byte| format!("{byte:02x}")).collect();
        assert!(!rows.contains(&personal.to_lowercase()), "{personal} is stored");
        assert!(!rows.contains(&hex), "{personal} is stored");
    }
    service.stop().await;
}

#[tokio::test]
async fn an_address_with_an_account_is_answered_alike_and_its_owner_is_told() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let mail = service.mail(1).await;
    assert!(mail.contains("already have an account") && !mail.contains("Token"), "{mail}");
    let get = GetUserRequest { name: me() };
    assert!(service.users().get_user(person.asks(get)).await.is_ok());
    service.stop().await;
}

#[tokio::test]
async fn whoever_signs_up_with_anothers_address_gains_nothing_by_its_owners_click() {
    let service = Service::start().await;
    let attacker =
        SignUpRequest { password: "the attackers password".to_owned(), ..sign_up(EMAIL) };
    service.users().sign_up(attacker).await.unwrap();
    let token = token_in(&service.mail(0).await);
    service.users().sign_up(sign_up(EMAIL)).await.unwrap();
    let second = token_in(&service.mail(1).await);
    // The owner follows the wrong mail, and then the right one.
    assert_eq!(reason(service.users().verify_email(verify(&token)).await), "SIGN_IN_REFUSED");
    service.users().verify_email(verify(&second)).await.unwrap();
    let attacker =
        VerifyEmailRequest { password: "the attackers password".to_owned(), ..verify(&token) };
    assert_eq!(reason(service.users().verify_email(attacker).await), "TOKEN_INVALID");
    tokens(service.sign_in(EMAIL, PASSWORD).await);
    service.stop().await;
}

#[tokio::test]
async fn a_token_is_good_for_one_account_and_a_request_id_for_one_answer() {
    let service = Service::start().await;
    let id = uuid::Uuid::new_v4().to_string();
    let ask = SignUpRequest { request_id: id.clone(), ..sign_up(EMAIL) };
    service.users().sign_up(ask.clone()).await.unwrap();
    let token = token_in(&service.mail(0).await);
    service.users().sign_up(ask.clone()).await.unwrap();
    let other = SignUpRequest { display_name: "Other".to_owned(), ..ask };
    assert_eq!(reason(service.users().sign_up(other).await), "REQUEST_ID_REUSED");

    let id = uuid::Uuid::new_v4().to_string();
    let prove = VerifyEmailRequest { request_id: id, ..verify(&token) };
    let first = service.users().verify_email(prove.clone()).await.unwrap().into_inner();
    let again = service.users().verify_email(prove).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert_eq!(reason(service.users().verify_email(verify(&token)).await), "TOKEN_INVALID");
    for made_up in ["", "lmv_x", &token.replace("lmv_", "lmp_")] {
        assert_eq!(reason(service.users().verify_email(verify(made_up)).await), "TOKEN_INVALID");
    }
    assert_eq!(service.mails().len(), 1);
    service.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_are_refused_in_the_same_words_and_slowed_down() {
    let service = Service::start().await;
    service.person(EMAIL).await;
    service.person("grace@example.com").await;
    let wrong = service.sign_in(EMAIL, "wrong horse battery").await.unwrap_err();
    let unknown = service.sign_in("nobody@example.com", PASSWORD).await.unwrap_err();
    assert_eq!((wrong.code(), wrong.message()), (unknown.code(), unknown.message()));
    assert_eq!(wrong.details(), unknown.details());

    for address in [EMAIL, "nobody@example.com"] {
        let mut refused = service.sign_in(address, "wrong horse battery").await.unwrap_err();
        for _ in 0..10 {
            refused = service.sign_in(address, "wrong horse battery").await.unwrap_err();
        }
        assert_eq!(refused.code(), Code::ResourceExhausted, "{address}: {refused:?}");
        let wait = refused.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!((1..=31).contains(&wait.as_secs()), "{wait:?}");
    }
    assert_eq!(reason(service.sign_in(EMAIL, PASSWORD).await), "RATE_LIMITED", "the right one too");
    tokens(service.sign_in("grace@example.com", PASSWORD).await);
    service.stop().await;
}

#[tokio::test]
async fn a_network_is_slowed_down_whatever_accounts_it_tries() {
    let service = Service::start().await;
    service.person(EMAIL).await;
    let mut refused = 0;
    for nth in 0..40 {
        let attempt = sign_in(&format!("user{nth}@example.com"), PASSWORD);
        let answer = service.sessions().sign_in(from([1; 16], attempt)).await;
        refused += usize::from(reason(answer) == "RATE_LIMITED");
    }
    assert!((1..=10).contains(&refused), "{refused}");
    let elsewhere = from([2; 16], sign_in(EMAIL, PASSWORD));
    assert!(service.sessions().sign_in(elsewhere).await.is_ok());
    service.stop().await;
}

#[tokio::test]
async fn a_forgotten_password_is_replaced_by_mail_and_all_sessions_end() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let ask = |email: &str| RequestPasswordResetRequest {
        email: email.to_owned(),
        request_id: String::new(),
    };
    service.users().request_password_reset(ask("nobody@example.com")).await.unwrap();
    service.users().request_password_reset(ask(EMAIL)).await.unwrap();
    let mail = service.mail(1).await;
    assert!(mail.contains(&format!("To: {EMAIL}")) && mail.contains("within an hour"), "{mail}");
    let token = token_in(&mail);
    let reset = |new_password: &str| ResetPasswordRequest {
        token: token.clone(),
        new_password: new_password.to_owned(),
        request_id: String::new(),
    };
    let (field, why) = violation(service.users().reset_password(reset("short")).await);
    assert!(field == "new_password" && why.contains("15 characters"), "{field} {why}");
    service.users().reset_password(reset(NEW_PASSWORD)).await.unwrap();
    assert_eq!(reason(service.users().reset_password(reset(NEW_PASSWORD)).await), "TOKEN_INVALID");

    assert_eq!(reason(service.sign_in(EMAIL, PASSWORD).await), "SIGN_IN_REFUSED");
    tokens(service.sign_in(EMAIL, NEW_PASSWORD).await);
    let ends = service.on_topic(bus::topics::SESSION_ENDS, 1).await;
    let session =
        proto::events::v1::SessionEnded::decode(ends[0].value.clone()).unwrap().session_id;
    let session = uuid::Uuid::from_slice(&session).unwrap().simple().to_string();
    assert!(person.tokens.session.ends_with(&session));
    assert_eq!(service.mails().len(), 2, "nobody got a mail");
    service.stop().await;
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knows_it_and_their_other_sessions_end() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let other = Person::of(tokens(service.sign_in(EMAIL, PASSWORD).await));
    let change = |old_password: &str| ChangePasswordRequest {
        name: me(),
        old_password: old_password.to_owned(),
        new_password: NEW_PASSWORD.to_owned(),
        request_id: "5c9f3d7e-7a9b-4f6e-9c59-1d9a1f6d2b11".to_owned(),
    };
    let wrong = service.users().change_password(person.asks(change("wrong horse battery"))).await;
    assert_eq!(reason(wrong), "SIGN_IN_REFUSED");
    for _ in 0..2 {
        service.users().change_password(person.asks(change(PASSWORD))).await.unwrap();
    }
    let refresh = |person: &Person| proto::identity::v1::RefreshSessionRequest {
        refresh_token: person.tokens.refresh_token.clone(),
        request_id: String::new(),
    };
    assert_eq!(reason(service.sessions().refresh_session(refresh(&other)).await), "SESSION_ENDED");
    assert!(service.sessions().refresh_session(refresh(&person)).await.is_ok());
    tokens(service.sign_in(EMAIL, NEW_PASSWORD).await);
    service.stop().await;
}

#[tokio::test]
async fn anothers_account_does_not_exist_and_a_key_is_no_user() {
    let service = Service::start().await;
    let (person, other) = (service.person(EMAIL).await, service.person("b@example.com").await);
    let (user, _) = other.tokens.session.split_once("/sessions/").unwrap();
    let get = |name: &str| GetUserRequest { name: name.to_owned() };
    assert_eq!(reason(service.users().get_user(person.asks(get(user))).await), "NOT_FOUND");
    let made_up = format!("users/{}", rpc::UserId::new());
    assert_eq!(reason(service.users().get_user(person.asks(get(&made_up))).await), "NOT_FOUND");
    for malformed in ["me", "users/you", "users/"] {
        let refused = service.users().get_user(person.asks(get(malformed))).await;
        assert_eq!(violation(refused).0, "name", "{malformed}");
    }
    let by_key = super::harness::by(&stranger(), get("users/me"));
    assert_eq!(reason(service.users().get_user(by_key).await), "USER_REQUIRED");
    let by_nobody = service.users().get_user(get("users/me")).await;
    assert_eq!(reason(by_nobody), "CREDENTIALS_MISSING");
    service.stop().await;
}

#[tokio::test]
async fn a_name_is_changed_unless_someone_else_was_faster() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let update = |display_name: &str, etag: &str| UpdateUserRequest {
        user: Some(User {
            name: me(),
            display_name: display_name.to_owned(),
            etag: etag.to_owned(),
            ..User::default()
        }),
        ..Default::default()
    };
    let changed = service.users().update_user(person.asks(update("Ada L.", ""))).await.unwrap();
    let changed = changed.into_inner().user.unwrap();
    assert_eq!(changed.display_name, "Ada L.");
    let first = service.users().update_user(person.asks(update("A", &changed.etag))).await;
    assert!(first.is_ok());
    let second = service.users().update_user(person.asks(update("B", &changed.etag))).await;
    assert_eq!(reason(second), "ETAG_MISMATCH");
    service.stop().await;
}

#[tokio::test]
async fn what_is_out_of_its_limits_is_refused_with_field_and_limit() {
    let service = Service::start().await;
    let good = || sign_up(EMAIL);
    for (field, limit, message) in [
        ("email", "address", SignUpRequest { email: "ada".to_owned(), ..good() }),
        ("email", "required", SignUpRequest { email: String::new(), ..good() }),
        ("email", "254", SignUpRequest { email: "a".repeat(300), ..good() }),
        ("password", "15", SignUpRequest { password: "short".to_owned(), ..good() }),
        ("password", "256", SignUpRequest { password: "ab cde ".repeat(50), ..good() }),
        ("display_name", "1 to 100", SignUpRequest { display_name: String::new(), ..good() }),
        ("request_id", "UUID", SignUpRequest { request_id: "1".to_owned(), ..good() }),
    ] {
        let (found, why) = violation(service.users().sign_up(message).await);
        assert_eq!(found, field);
        assert!(why.contains(limit), "{field}: {why}");
    }
    // Three mails an hour.
    for _ in 0..3 {
        service.users().sign_up(good()).await.unwrap();
    }
    assert_eq!(reason(service.users().sign_up(good()).await), "RATE_LIMITED");
    service.stop().await;
}
