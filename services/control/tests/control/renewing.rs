//! Certificates that are renewed, kept, and survive what happens to control and its root.

use crate::harness::World;
use crate::harness::eventually;
use jiff::Timestamp;
use mesh::Identity;
use mesh::identity::Rotation;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
/// The shortest: renewed after six or seven seconds.
const SHORT: Duration = Duration::from_secs(10);

fn rotations(identity: &Identity) -> u64 {
    identity.certificate().unwrap().rotations
}

#[tokio::test]
async fn a_certificate_is_renewed_and_control_may_be_away_meanwhile() {
    let world = World::new();
    let control = world.control(SHORT).await;
    let token = world.token(&["links"], 1).await;
    let issuing = world.joining("links", &token);
    let identity = issuing.first().await.unwrap();
    let first = identity.certificate().unwrap().validity;
    let _renewing = world.renewing(issuing, &identity);
    control.stop().await;
    eventually("it has tried", || async {
        !identity.certificate().unwrap().last_failure.is_empty()
    })
    .await;
    assert_eq!(rotations(&identity), 0, "what it has goes on being used");

    let control = world.control(SHORT).await;
    eventually("it is renewed", || async { rotations(&identity) > 0 }).await;
    let renewed = identity.certificate().unwrap();
    assert!(renewed.validity.not_after > first.not_after);
    assert_eq!(renewed.last_failure, "");
    control.stop().await;
}

#[tokio::test]
async fn a_restart_needs_neither_control_nor_a_token() {
    let world = World::new();
    let control = world.control(HOUR).await;
    let token = world.token(&["links"], 1).await;
    let first = world.joining("links", &token).first().await.unwrap();
    control.stop().await;
    std::fs::remove_file(&token).unwrap();
    let again = world.joining("links", &token).first().await.unwrap();
    assert_eq!(again.certificate().unwrap().validity, first.certificate().unwrap().validity);
}

#[tokio::test]
async fn a_root_is_replaced_and_everyone_follows() {
    let world = World::new();
    // A tenth of its life is three seconds.
    let control = world.control(Duration::from_secs(30)).await;
    let token = world.token(&["links"], 1).await;
    let issuing = world.joining("links", &token);
    let identity = issuing.first().await.unwrap();
    let _renewing = world.renewing(issuing, &identity);
    let folder = world.authority_folder();
    let trusted = || {
        let roots = identity.certificate().unwrap().roots;
        roots.into_iter().map(|root| root.fingerprint).collect::<Vec<_>>()
    };

    let second = Rotation::prepare(&folder, Timestamp::now()).unwrap();
    let text = second.to_string();
    eventually("it trusts both", || async { trusted().contains(&text) }).await;
    assert_ne!(identity.certificate().unwrap().root, Some(second));
    Rotation::activate(&folder).unwrap();
    eventually("its certificate is one of the second", || async {
        identity.certificate().unwrap().root == Some(second)
    })
    .await;
    assert_eq!(trusted().len(), 2);
    Rotation::finish(&folder).unwrap();
    eventually("it trusts the second alone", || async { trusted() == [text.clone()] }).await;
    // What it keeps is what it has.
    let kept = std::fs::read_to_string(world.kept("links")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["roots"].as_str().unwrap().matches("BEGIN CERTIFICATE").count(), 1);
    control.stop().await;
}
