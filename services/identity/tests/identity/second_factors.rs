//! Second factors: enrolled, asked for, used once, and lost.

use proto::identity::v1::complete_sign_in_request::Factor;
use proto::identity::v1::disable_totp_request::Factor as DisableFactor;
use proto::identity::v1::{
    CompleteSignInRequest, ConfirmTotpRequest, DisableTotpRequest, EnrollTotpRequest,
    ReplaceRecoveryCodesRequest, SessionTokens,
};
use tonic::Status;

use super::harness::{Service, reason};
use super::people::{EMAIL, PASSWORD, Person, challenge, me, tokens, totp};

async fn complete(
    service: &Service,
    challenge_token: &str,
    factor: Factor,
) -> Result<SessionTokens, Status> {
    let message = CompleteSignInRequest {
        challenge_token: challenge_token.to_owned(),
        factor: Some(factor),
        ..Default::default()
    };
    let answer = service.sessions().complete_sign_in(message).await?;
    Ok(answer.into_inner().tokens.unwrap())
}

#[tokio::test]
async fn signing_in_takes_a_code_that_is_right_and_new() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (secret, codes) = service.enable_totp(&person).await;
    assert_eq!(codes.len(), 10);

    let asked = challenge(service.sign_in(EMAIL, PASSWORD).await).challenge_token;
    // Neither the code that confirmed the factor nor one before it is taken; the next one is.
    let replayed = complete(&service, &asked, Factor::TotpCode(totp(&secret, -1))).await;
    assert_eq!(reason(replayed), "FACTOR_REFUSED");
    let code = totp(&secret, 1);
    let signed_in = complete(&service, &asked, Factor::TotpCode(code.clone())).await.unwrap();
    assert!(signed_in.session.starts_with("users/usr_"));
    let again = complete(&service, &asked, Factor::TotpCode(code)).await;
    assert_eq!(reason(again), "TOKEN_INVALID", "a challenge is good once");
    service.stop().await;
}

#[tokio::test]
async fn a_challenge_is_used_up_by_five_wrong_answers_and_codes_can_not_be_tried_for_long() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (_, codes) = service.enable_totp(&person).await;
    let asked = challenge(service.sign_in(EMAIL, PASSWORD).await).challenge_token;
    for _ in 0..5 {
        let wrong = complete(&service, &asked, Factor::TotpCode("123".to_owned())).await;
        assert_eq!(reason(wrong), "FACTOR_REFUSED");
    }
    let used_up = complete(&service, &asked, Factor::RecoveryCode(codes[0].clone())).await;
    assert_eq!(reason(used_up), "TOKEN_INVALID");
    // Another challenge does not begin anew, even for whoever knows the password.
    let asked = challenge(service.sign_in(EMAIL, PASSWORD).await).challenge_token;
    let limited = complete(&service, &asked, Factor::RecoveryCode(codes[0].clone())).await;
    assert_eq!(reason(limited), "RATE_LIMITED");
    service.stop().await;
}

#[tokio::test]
async fn a_recovery_code_signs_in_once_however_it_is_typed() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let (_, codes) = service.enable_totp(&person).await;
    let typed = codes[0].replace('-', " ").to_uppercase();
    for (code, expected) in [(&typed, None), (&codes[0], Some("FACTOR_REFUSED")), (&codes[1], None)]
    {
        let asked = challenge(service.sign_in(EMAIL, PASSWORD).await).challenge_token;
        let answer = complete(&service, &asked, Factor::RecoveryCode(code.clone())).await;
        match expected {
            None => assert!(answer.is_ok(), "{answer:?}"),
            Some(expected) => assert_eq!(reason(answer), expected),
        }
    }
    let rows = service.rows().await;
    assert!(!codes.iter().any(|code| rows.contains(code.as_str())));
    service.stop().await;
}

#[tokio::test]
async fn a_factor_is_enabled_by_a_code_and_disabled_by_one() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    let confirm = |code: &str| ConfirmTotpRequest {
        name: me(),
        totp_code: code.to_owned(),
        ..Default::default()
    };
    let enroll =
        EnrollTotpRequest { name: me(), password: PASSWORD.to_owned(), ..Default::default() };
    let early = service.factors().confirm_totp(person.asks(confirm("000000"))).await;
    assert_eq!(reason(early), "STATE_CONFLICT");
    let wrong = EnrollTotpRequest { password: "wrong horse battery".to_owned(), ..enroll.clone() };
    let refused = service.factors().enroll_totp(person.asks(wrong)).await;
    assert_eq!(reason(refused), "SIGN_IN_REFUSED");
    let enrolled = service.factors().enroll_totp(person.asks(enroll.clone())).await.unwrap();
    assert!(
        enrolled.into_inner().uri.starts_with("otpauth://totp/Linkmesh:Ada%40Example.com?secret=")
    );
    assert_eq!(
        reason(service.factors().confirm_totp(person.asks(confirm("1"))).await),
        "FACTOR_REFUSED"
    );
    // What was only begun is not asked for.
    tokens(service.sign_in(EMAIL, PASSWORD).await);

    let (secret, codes) = service.enable_totp(&person).await;
    let again = service.factors().enroll_totp(person.asks(enroll)).await;
    assert_eq!(reason(again), "STATE_CONFLICT");
    let replace = ReplaceRecoveryCodesRequest {
        name: me(),
        totp_code: totp(&secret, 1),
        ..Default::default()
    };
    let replaced = service.factors().replace_recovery_codes(person.asks(replace)).await.unwrap();
    let replaced = replaced.into_inner().recovery_codes;
    let disable = |code: &str| DisableTotpRequest {
        name: me(),
        factor: Some(DisableFactor::RecoveryCode(code.to_owned())),
        ..Default::default()
    };
    let old = service.factors().disable_totp(person.asks(disable(&codes[0]))).await;
    assert_eq!(reason(old), "FACTOR_REFUSED");
    service.factors().disable_totp(person.asks(disable(&replaced[0]))).await.unwrap();
    Person::of(tokens(service.sign_in(EMAIL, PASSWORD).await));
    service.stop().await;
}
