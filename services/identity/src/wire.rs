//! What this service's types are on the wire.

use prost::Message as _;
use proto::common::v1::Tier;
use proto::events::v1::ApiKeyChanged;
use proto::identity::v1 as api;
use rpc::{Caller, Grant, Principal, SessionId, time};

use crate::domain::{
    ApiKey, Invitation, Inviter, Member, ServiceAccount, User, Workspace, service_account_name,
};
use crate::store::{Presented, Session};

/// The encoded value of a key's change.
pub(crate) fn api_key_changed(prefix: &str, version: i64) -> Vec<u8> {
    ApiKeyChanged { prefix: prefix.to_owned(), version }.encode_to_vec()
}

/// A tier as it is stored; what is not known is the lowest.
pub(crate) fn tier(number: i32) -> Tier {
    match Tier::try_from(number) {
        Ok(Tier::Unspecified) | Err(_) => Tier::Free,
        Ok(tier) => tier,
    }
}

/// A member.
pub(crate) fn member(member: &Member) -> api::Member {
    api::Member {
        name: member.name(),
        role: member.role.number(),
        create_time: Some(time::to_proto(member.create_time)),
        update_time: Some(time::to_proto(member.update_time)),
    }
}

/// An invitation.
pub(crate) fn invitation(invitation: &Invitation) -> api::Invitation {
    let inviter = match invitation.inviter {
        Inviter::User(user) => format!("users/{user}"),
        Inviter::Key(_) | Inviter::Operator => String::new(),
    };
    api::Invitation {
        name: invitation.name(),
        email: invitation.email.as_str().to_owned(),
        role: invitation.role.number(),
        inviter,
        create_time: Some(time::to_proto(invitation.create_time)),
        expire_time: Some(time::to_proto(invitation.expire_time)),
    }
}

/// A service account.
pub(crate) fn service_account(account: &ServiceAccount) -> api::ServiceAccount {
    api::ServiceAccount {
        name: account.name(),
        display_name: account.display_name.clone(),
        role: account.role.number(),
        create_time: Some(time::to_proto(account.create_time)),
        update_time: Some(time::to_proto(account.update_time)),
    }
}

/// A workspace.
pub(crate) fn workspace(workspace: &Workspace) -> api::Workspace {
    api::Workspace {
        name: workspace.name(),
        display_name: workspace.display_name.clone(),
        create_time: Some(time::to_proto(workspace.create_time)),
        update_time: Some(time::to_proto(workspace.update_time)),
        etag: workspace.etag(),
        tier: tier(workspace.tier).into(),
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
        service_account: key
            .service_account
            .map(|account| service_account_name(key.workspace, account))
            .unwrap_or_default(),
    }
}

/// Whom a key stands for.
pub(crate) fn principal(presented: &Presented) -> proto::common::v1::Principal {
    let Presented { key, role, tier: number, .. } = presented;
    let caller = Caller::ApiKey { key: key.id, service_account: key.service_account };
    let grants = vec![Grant { workspace: key.workspace, permissions: key.permissions(*role) }];
    Principal { caller, grants, tier: tier(*number) }.to_proto()
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
