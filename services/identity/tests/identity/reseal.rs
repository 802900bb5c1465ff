//! Keys that are replaced while there is data under them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use identity::Progress;

use proto::common::v1::Role;
use proto::identity::v1::{
    CreateInvitationRequest, GetUserRequest, Invitation, ListInvitationsRequest, SignInRequest,
};

use super::harness::{PATIENCE, Service, by, parent};
use super::people::{EMAIL, PASSWORD, challenge, me, sign_in};

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test]
async fn after_a_reseal_the_old_key_is_not_needed_and_an_interrupted_one_goes_on() {
    let service = Service::start().await;
    let person = service.person(EMAIL).await;
    service.enable_totp(&person).await;
    for nth in 0..3 {
        service.person(&format!("user{nth}@example.com")).await;
    }
    // What is kept under a request id, and who is invited.
    let ask = SignInRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        ..sign_in("user0@example.com", PASSWORD)
    };
    let answer = service.sessions().sign_in(ask.clone()).await.unwrap().into_inner();
    let owner = service.signed_in_owner().await;
    let invitation = Invitation {
        email: "grace@example.com".to_owned(),
        role: Role::Viewer.into(),
        ..Invitation::default()
    };
    let invite = CreateInvitationRequest {
        parent: parent(&owner),
        invitation: Some(invitation),
        ..Default::default()
    };
    service.invitations().create_invitation(by(&owner, invite)).await.unwrap();
    service.mail(4).await;
    service.until_mails_are_sent().await;
    let keyring = service.keyring.clone();
    let (database, folder) = service.stop_for_another().await;

    let old = fs::read_to_string(&keyring).unwrap();
    let two = BASE64_STANDARD.encode((1..=32).collect::<Vec<u8>>());
    let both = old.replace("active = 1", "active = 2") + &format!("2 = \"{two}\"\n");
    write(&keyring, &both);
    let config = identity::Config::new(database.config(), &keyring);
    // Four users with two fields each and a secret, five sessions with a label, one signing key, one answer, one invitation.
    let stopped = identity::reseal(&config, 1, |progress| {
        anyhow::ensure!(progress.done < 5, "told to stop");
        Ok(())
    });
    assert!(stopped.await.is_err());
    let mut seen = Vec::new();
    let done = identity::reseal(&config, 3, |progress| {
        seen.push(progress);
        Ok(())
    });
    let done = done.await.unwrap();
    assert_eq!(done, Progress { done: 12, of: 12 }, "{seen:?}");
    assert!(seen.is_sorted_by_key(|progress| progress.done));
    let again = identity::reseal(&config, 3, |_| Ok(())).await.unwrap();
    assert_eq!(again, Progress { done: 0, of: 0 });

    let only_new: String = both
        .lines()
        .filter(|line| !line.starts_with("1 = "))
        .fold(String::new(), |text, line| text + line + "\n");
    write(&keyring, &only_new);
    let service = Service::start_on(database, folder, |_| (), None).await;
    let get = person.asks(GetUserRequest { name: me() });
    let read = service.users().get_user(get).await.unwrap().into_inner().user.unwrap();
    assert_eq!(read.email, EMAIL);
    let again = service.sessions().sign_in(ask).await.unwrap().into_inner();
    assert_eq!(again, answer);
    let list = ListInvitationsRequest { parent: parent(&owner), ..Default::default() };
    let list = service.invitations().list_invitations(by(&owner, list)).await.unwrap();
    assert_eq!(list.into_inner().invitations[0].email, "grace@example.com");
    tokio::time::timeout(PATIENCE, async {
        challenge(service.sign_in(EMAIL, PASSWORD).await);
    })
    .await
    .unwrap();
    service.stop().await;
}
