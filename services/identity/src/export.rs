//! Everything that is held on a user, as the JSON document that they can take along.

use jiff::Timestamp;
use serde_json::json;

use crate::domain::User;
use crate::store::{Holdings, Session};

/// Writes it. Secrets are not in it: they are kept as digests, or are of no use elsewhere.
pub(crate) fn document(
    user: &User,
    sessions: &[Session],
    holdings: &Holdings,
    now: Timestamp,
) -> String {
    let providers = holdings.providers.iter();
    let document = json!({
        "exportTime": now.to_string(),
        "user": {
            "name": user.name(),
            "email": user.email.as_str(),
            "displayName": user.display_name,
            "createTime": user.create_time.to_string(),
            "updateTime": user.update_time.to_string(),
            "passwordSet": user.password.is_some(),
        },
        "secondFactor": {
            "totpEnabled": user.totp_enabled,
            "totpBegun": holdings.totp_begun,
            "recoveryCodesLeft": holdings.recovery_codes,
        },
        "sessions": sessions.iter().map(|session| json!({
            "name": format!("{}/sessions/{}", user.name(), session.id),
            "label": session.label,
            "createTime": session.create_time.to_string(),
            "refreshTime": session.refresh_time.to_string(),
            "expireTime": session.expire_time.to_string(),
        })).collect::<Vec<_>>(),
        "providers": providers.map(|(provider, since)| json!({
            "name": format!("providers/{provider}"),
            "createTime": since.to_string(),
        })).collect::<Vec<_>>(),
        "invitations": holdings.invitations.iter().map(|(name, role, until)| json!({
            "name": name,
            "role": role.name(),
            "expireTime": until.to_string(),
        })).collect::<Vec<_>>(),
        "pending": {
            "mails": holdings.mails,
            "tokens": holdings.tokens,
        },
    });
    format!("{document:#}")
}
