//! A person's account from the first mail to the last byte, through REST, as a browser's code would.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::Context as _;
use anyhow::ensure;
use aws_lc_rs::hmac;
use serde_json::Value;
use serde_json::json;

use crate::client::Answer;
use crate::client::Api;

/// How long a mail may take, and the end of a session to reach an edge; ten times what is promised, or more.
pub const WITHIN: Duration = Duration::from_secs(20);
pub const PASSWORD: &str = "correct horse battery";

/// Signs up, proves the address, enables a second factor, signs in with it, refreshes, is copied, takes everything along, and is
/// erased. `mails` is where the cluster writes mails.
pub async fn a_person_comes_and_goes(api: &Api, mails: &Path) -> anyhow::Result<()> {
    let nobody = api.with_key("");
    let email = format!("ada-{}@example.com", uuid::Uuid::new_v4().simple());

    let asked = json!({"email": email, "password": PASSWORD, "displayName": "Ada"});
    expect(&post(&nobody, "/v1/users:signUp", asked).await?, 200)?;
    let token = token_mailed_to(mails, &email, "lmv_").await?;
    let proved = json!({"token": token, "password": PASSWORD});
    let user = expect(&post(&nobody, "/v1/users:verifyEmail", proved).await?, 200)?["user"].clone();

    let credentials = json!({"email": email, "password": PASSWORD, "label": "test"});
    let first = expect(&post(&nobody, "/v1/sessions:signIn", credentials.clone()).await?, 200)?;
    let me = nobody.with_key(text(&first["tokens"]["accessToken"])?);
    let read = expect(&me.rest("GET", "/v1/users/me", None).await?, 200)?;
    ensure!(read["email"] == email.as_str() && read["name"] == user, "{read}");
    // Who is signed in has no part in the workspace: it does not exist.
    expect(&me.rest("GET", "/v1/{w}", None).await?, 404)?;

    let enrolled = json!({"password": PASSWORD});
    let enrolled = expect(&post(&me, "/v1/users/me/totp:enroll", enrolled).await?, 200)?;
    let secret = base32(text(&enrolled["secret"])?)?;
    let confirmed = json!({"totpCode": totp(&secret, 0)});
    let confirmed = expect(&post(&me, "/v1/users/me/totp:confirm", confirmed).await?, 200)?;
    ensure!(confirmed["recoveryCodes"].as_array().is_some_and(|codes| codes.len() == 10));

    let challenged = expect(&post(&nobody, "/v1/sessions:signIn", credentials).await?, 200)?;
    let challenge = text(&challenged["challenge"]["challengeToken"])?.to_owned();
    let answer = json!({"challengeToken": challenge, "totpCode": totp(&secret, 1)});
    let second = expect(&post(&nobody, "/v1/sessions:completeSignIn", answer).await?, 200)?;
    let second = &second["tokens"];

    let refresh = |token: &Value| json!({"refreshToken": token});
    let old = second["refreshToken"].clone();
    let fresh = expect(&post(&nobody, "/v1/sessions:refresh", refresh(&old)).await?, 200)?;
    let copied = nobody.with_key(text(&fresh["tokens"]["accessToken"])?);
    expect(&copied.rest("GET", "/v1/users/me", None).await?, 200)?;
    let reused = post(&nobody, "/v1/sessions:refresh", refresh(&old)).await?;
    ensure!(expect(&reused, 401)?["reason"] == "SESSION_ENDED", "{reused:?}");
    let newest = refresh(&fresh["tokens"]["refreshToken"]);
    expect(&post(&nobody, "/v1/sessions:refresh", newest).await?, 401)?;
    let deadline = Instant::now() + WITHIN;
    loop {
        let answer = copied.rest("GET", "/v1/users/me", None).await?;
        if answer.status == 401 && answer.json()["reason"] == "ACCESS_TOKEN_INVALID" {
            break;
        }
        ensure!(
            Instant::now() < deadline,
            "the edge takes the token of an ended session: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let exported = expect(&me.rest("GET", "/v1/users/me:export", None).await?, 200)?;
    let document: Value = serde_json::from_str(text(&exported["document"])?)?;
    ensure!(document["user"]["email"] == email.as_str(), "{document}");
    ensure!(document["secondFactor"]["totpEnabled"] == true, "{document}");
    let erased = post(&me, "/v1/users/me:erase", json!({"password": PASSWORD})).await?;
    expect(&erased, 200)?;
    let gone = json!({"email": email, "password": PASSWORD});
    let gone = post(&nobody, "/v1/sessions:signIn", gone).await?;
    ensure!(expect(&gone, 401)?["reason"] == "SIGN_IN_REFUSED", "{gone:?}");

    let keys = expect(&nobody.rest("GET", "/.well-known/jwks.json", None).await?, 200)?;
    ensure!(keys["keys"][0]["kty"] == "OKP" && keys["keys"][0]["alg"] == "EdDSA", "{keys}");
    Ok(())
}

/// A new person, who calls by an access token.
pub async fn signed_in(api: &Api, mails: &Path, email: &str) -> anyhow::Result<Api> {
    let nobody = api.with_key("");
    let asked = json!({"email": email, "password": PASSWORD, "displayName": "Somebody"});
    expect(&post(&nobody, "/v1/users:signUp", asked).await?, 200)?;
    let token = token_mailed_to(mails, email, "lmv_").await?;
    let proved = json!({"token": token, "password": PASSWORD});
    expect(&post(&nobody, "/v1/users:verifyEmail", proved).await?, 200)?;
    let credentials = json!({"email": email, "password": PASSWORD});
    let begun = expect(&post(&nobody, "/v1/sessions:signIn", credentials).await?, 200)?;
    Ok(nobody.with_key(text(&begun["tokens"]["accessToken"])?))
}

async fn post(api: &Api, path: &str, body: Value) -> anyhow::Result<Answer> {
    api.rest("POST", path, Some(body)).await
}

fn expect(answer: &Answer, status: u16) -> anyhow::Result<Value> {
    ensure!(answer.status == status, "expected {status}: {answer:?}");
    Ok(answer.json())
}

pub fn text(value: &Value) -> anyhow::Result<&str> {
    value.as_str().with_context(|| format!("{value} is no text"))
}

/// The token of a scheme that was mailed to an address.
pub async fn token_mailed_to(folder: &Path, email: &str, scheme: &str) -> anyhow::Result<String> {
    let deadline = Instant::now() + WITHIN;
    loop {
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_mail = file.path().extension().is_some_and(|extension| extension == "eml");
            let text = if is_mail { std::fs::read_to_string(file.path())? } else { String::new() };
            let token = text.split_whitespace().find(|word| word.starts_with(scheme));
            if let Some(token) = token.filter(|_| text.contains(&format!("To: {email}\r\n"))) {
                return Ok(token.to_owned());
            }
        }
        ensure!(Instant::now() < deadline, "no mail came to {email}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The code of an authenticator (RFC 6238) whose clock is this many steps off.
pub fn totp(secret: &[u8], steps_off: i64) -> String {
    let step = jiff::Timestamp::now().as_second() / 30 + steps_off;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret);
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[19] & 15);
    let number = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", number % 1_000_000)
}

pub fn base32(text: &str) -> anyhow::Result<Vec<u8>> {
    let mut bits = String::new();
    for one in text.bytes() {
        let value = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".iter().position(|known| *known == one);
        bits.push_str(&format!("{:05b}", value.context("no base 32")?));
    }
    let bytes = bits.as_bytes().chunks_exact(8).map(std::str::from_utf8);
    bytes.map(|bits| Ok(u8::from_str_radix(bits?, 2)?)).collect()
}
