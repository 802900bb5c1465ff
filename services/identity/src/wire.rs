//! What this service's types are on the wire.

use prost::Message as _;
use proto::events::v1::ApiKeyChanged;
use proto::identity::v1 as api;
use rpc::{Principal, SessionId, time};

use crate::domain::{ApiKey, User, Workspace};
use crate::store::Session;

/// The encoded value of a key's change.
pub(crate) fn api_key_changed(key: &ApiKey) -> Vec<u8> {
    ApiKeyChanged { prefix: key.prefix.clone(), version: key.version }.encode_to_vec()
}

/// A workspace.
pub(crate) fn workspace(workspace: &Workspace) -> api::Workspace {
    api::Workspace {
        name: format!("workspaces/{}", workspace.id),
        display_name: workspace.display_name.clone(),
        create_time: Some(time::to_proto(workspace.create_time)),
        update_time: Some(time::to_proto(workspace.update_time)),
        etag: workspace.etag(),
    }
}

/// A key, without its secret.
pub(crate) fn api_key(key: &ApiKey) -> api::ApiKey {
    api::ApiKey {
        name: key.name(),
        display_name: key.display_name.clone(),
        prefix: key.prefix.clone(),
        scopes: key.scopes.numbers(),
        expire_time: key.expire_time.map(time::to_proto),
        create_time: Some(time::to_proto(key.create_time)),
        last_use_time: key.last_use_time.map(time::to_proto),
        revoke_time: key.revoke_time.map(time::to_proto),
    }
}

/// Whom a key stands for.
pub(crate) fn principal(key: &ApiKey) -> proto::common::v1::Principal {
    Principal::api_key(key.id, key.workspace, key.scopes).to_proto()
}

/// A user.
pub(crate) fn user(user: &User) -> api::User {
    api::User {
        name: user.name(),
        email: user.email.as_str().to_owned(),
        display_name: user.display_name.clone(),
        totp_enabled: user.totp_enabled,
        password_set: user.password.is_some(),
        create_time: Some(time::to_proto(user.create_time)),
        update_time: Some(time::to_proto(user.update_time)),
        etag: user.etag(),
    }
}

/// A session, as seen from one of them.
pub(crate) fn session(session: &Session, current: SessionId) -> api::Session {
    api::Session {
        name: format!("users/{}/sessions/{}", session.user, session.id),
        label: session.label.clone(),
        create_time: Some(time::to_proto(session.create_time)),
        refresh_time: Some(time::to_proto(session.refresh_time)),
        expire_time: Some(time::to_proto(session.expire_time)),
        current: session.id == current,
    }
}
