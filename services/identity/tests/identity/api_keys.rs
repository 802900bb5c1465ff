//! API keys: shown once, listed for ever, revoked for good.

use proto::common::v1::Scope;
use proto::events::v1::ApiKeyChanged;
use proto::identity::v1::{
    ApiKey, CreateApiKeyRequest, GetApiKeyRequest, ListApiKeysRequest, RevokeApiKeyRequest,
    RotateApiKeyRequest,
};
use rpc::{Permissions, Principal, kind};

use super::harness::{Service, by, key_with, parent, reason, violation, workspace};

#[tokio::test]
async fn a_key_works_from_its_creation_to_its_revocation_which_is_announced() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let created = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    let key = created.api_key.unwrap();
    let before = service.authenticate(&created.secret).await;
    let principal = Principal::try_from(&before.principal.unwrap()).unwrap();
    let id = rpc::name::child::<kind::ApiKey>("name", "apiKeys", &key.name).unwrap().1;
    let permissions = Permissions::of(&[Scope::LinksRead]);
    assert_eq!(principal, Principal::api_key(id, workspace(&caller), permissions));
    assert!(created.secret.contains(&key.prefix) && before.read_time.is_some());

    let revoke = RevokeApiKeyRequest { name: key.name.clone(), ..Default::default() };
    let revoked = service.api_keys().revoke_api_key(by(&caller, revoke.clone())).await.unwrap();
    let revoked = revoked.into_inner().api_key.unwrap();
    assert!(revoked.revoke_time.is_some());
    let after = service.authenticate(&created.secret).await;
    assert_eq!(after.principal, None);
    assert!(after.version > before.version);
    let again = service.api_keys().revoke_api_key(by(&caller, revoke)).await.unwrap();
    assert_eq!(again.into_inner().api_key.unwrap(), revoked);

    let announced = service.announced::<ApiKeyChanged>(bus::topics::KEY_CHANGES.name, 1).await;
    let [change] = announced.as_slice() else { panic!("announced twice: {announced:?}") };
    let change = change.clone();
    assert_eq!((change.prefix, change.version), (key.prefix, after.version));
    service.stop().await;
}

#[tokio::test]
async fn a_secret_is_shown_once_and_in_no_list() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let message = CreateApiKeyRequest {
        parent: parent(&caller),
        api_key: Some(key_with(&[Scope::LinksRead])),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let create = |message: CreateApiKeyRequest| {
        let mut client = service.api_keys();
        let request = by(&caller, message);
        async move { client.create_api_key(request).await }
    };
    let first = create(message.clone()).await.unwrap().into_inner();
    let again = create(message.clone()).await.unwrap().into_inner();
    assert_eq!(first.api_key, again.api_key);
    assert!(!first.secret.is_empty() && again.secret.is_empty());
    let other = CreateApiKeyRequest { api_key: Some(key_with(&[Scope::LinksWrite])), ..message };
    assert_eq!(reason(create(other).await), "REQUEST_ID_REUSED");

    let key = first.api_key.unwrap();
    let get = GetApiKeyRequest { name: key.name.clone() };
    let read = service.api_keys().get_api_key(by(&caller, get)).await.unwrap().into_inner();
    assert_eq!(read.api_key.as_ref(), Some(&key));
    let secret = first.secret.rsplit('_').next().unwrap();
    assert!(!format!("{read:?}").contains(secret));
    let database = service.stop().await.open();
    let (rows,): (String,) = sqlx::query_as(
        "select string_agg(k::text, '') || (select string_agg(r::text, '') from identity.requests r)
         from identity.api_keys k",
    )
    .fetch_one(database.primary())
    .await
    .unwrap();
    assert!(rows.contains(&key.prefix) && !rows.contains(secret) && !rows.contains(&hex(secret)));
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn keys_are_listed_newest_first_revoked_ones_too() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let mut names = Vec::new();
    for nth in 0..5 {
        let key = ApiKey { display_name: format!("key {nth}"), ..key_with(&[Scope::LinksRead]) };
        names.push(service.create_key(&caller, key).await.unwrap().api_key.unwrap().name);
    }
    let revoke = RevokeApiKeyRequest { name: names[2].clone(), ..Default::default() };
    service.api_keys().revoke_api_key(by(&caller, revoke)).await.unwrap();
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let message = ListApiKeysRequest { parent: parent(&caller), page_size: 2, page_token };
        let page =
            service.api_keys().list_api_keys(by(&caller, message)).await.unwrap().into_inner();
        assert!(page.api_keys.len() <= 2);
        listed.extend(page.api_keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let found: Vec<_> = listed.iter().map(|key| key.name.clone()).collect();
    assert_eq!(found, names.into_iter().rev().collect::<Vec<_>>());
    assert!(listed[2].revoke_time.is_some());
    let odd =
        ListApiKeysRequest { parent: parent(&caller), page_token: "?".to_owned(), page_size: 0 };
    assert_eq!(
        reason(service.api_keys().list_api_keys(by(&caller, odd)).await),
        "INVALID_PAGE_TOKEN"
    );
    service.stop().await;
}

#[tokio::test]
async fn a_key_outside_its_limits_is_refused_with_field_and_limit() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let good = || key_with(&[Scope::LinksRead]);
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let cases = [
        ("api_key.display_name", "1 to 100", ApiKey { display_name: String::new(), ..good() }),
        ("api_key.display_name", "has 101", ApiKey { display_name: "x".repeat(101), ..good() }),
        ("api_key.display_name", "control", ApiKey { display_name: "a\0".to_owned(), ..good() }),
        ("api_key.scopes", "at least one", ApiKey { scopes: vec![], ..good() }),
        ("api_key.scopes", "number 99", ApiKey { scopes: vec![99], ..good() }),
        ("api_key.expire_time", "future", ApiKey { expire_time: time(1_000_000_000), ..good() }),
    ];
    for (field, limit, key) in cases {
        let (found, why) = violation(service.create_key(&caller, key).await);
        assert_eq!(found, field);
        assert!(why.contains(limit), "{field}: {why}");
    }
    let empty = CreateApiKeyRequest { parent: parent(&caller), ..Default::default() };
    let empty = service.api_keys().create_api_key(by(&caller, empty)).await;
    assert_eq!(violation(empty).0, "api_key");
    service.stop().await;
}

#[tokio::test]
async fn a_workspace_has_at_most_a_thousand_live_keys() {
    let service = Service::start().await;
    let caller = service.owner().await;
    sqlx::query(
        "insert into identity.api_keys (id, workspace_id, display_name, prefix, digest, scopes,
             expire_micros, create_micros, revoke_micros, version)
         select gen_random_uuid(), $1, 'k', 'filler' || n, '', '{1}',
             case when n % 3 = 1 then 1 end, 0, case when n % 3 = 2 then 1 end, 1
         from generate_series(1, 2997) n",
    )
    .bind(workspace(&caller).uuid())
    .execute(service.database.open().primary())
    .await
    .unwrap();
    // 999 of them are neither expired nor revoked.
    let one = || service.create_key(&caller, key_with(&[Scope::LinksRead]));
    let (first, second) = tokio::join!(one(), one());
    let (made, refused): (Vec<_>, Vec<_>) = [first, second].into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (1, 1));
    assert_eq!(reason(refused.into_iter().next().unwrap()), "STATE_CONFLICT");
    service.stop().await;
}

#[tokio::test]
async fn a_rotated_key_works_beside_the_new_one_for_as_long_as_was_asked() {
    let service = Service::start().await;
    let caller = service.owner().await;
    let old = service.create_key(&caller, key_with(&[Scope::LinksRead])).await.unwrap();
    let name = old.api_key.as_ref().unwrap().name.clone();
    let rotate = |name: &str, seconds| RotateApiKeyRequest {
        name: name.to_owned(),
        overlap: Some(prost_types::Duration { seconds, nanos: 0 }),
        request_id: uuid::Uuid::new_v4().to_string(),
    };
    let message = rotate(&name, 3_600);
    let call = |message: RotateApiKeyRequest| {
        let mut client = service.api_keys();
        let request = by(&caller, message);
        async move { client.rotate_api_key(request).await }
    };
    let new = call(message.clone()).await.unwrap().into_inner();
    let again = call(message).await.unwrap().into_inner();
    assert_eq!(again.api_key, new.api_key);
    assert!(!new.secret.is_empty() && again.secret.is_empty());
    let beside = service.authenticate(&old.secret).await;
    assert!(beside.principal.is_some() && beside.expire_time.is_some());
    let principal =
        Principal::try_from(&service.authenticate(&new.secret).await.principal.unwrap());
    let permissions = Permissions::of(&[Scope::LinksRead]);
    assert_eq!(principal.unwrap().grants[0].permissions, permissions);

    let new_name = new.api_key.unwrap().name;
    let newest = call(rotate(&new_name, 0)).await.unwrap().into_inner();
    assert_eq!(service.authenticate(&new.secret).await.principal, None);
    assert!(service.authenticate(&newest.secret).await.principal.is_some());
    assert_eq!(reason(call(rotate(&new_name, 0)).await), "STATE_CONFLICT");
    assert_eq!(violation(call(rotate(&name, 604_801)).await).0, "overlap");
    service.stop().await;
}
