//! Who a call is made for, as proved by the edge, and the one place that decides what it may do.
//!
//! It travels in the metadata `linkmesh-principal-bin`; the mesh's server side decodes it, from peers that may assert
//! one, into the request's extensions, together with what the method asks of it, and nothing else puts one there.

use crate::ApiKeyId;
use crate::Error;
use crate::Permissions;
use crate::Requirement;
use crate::ServiceAccountId;
use crate::SessionId;
use crate::UserId;
use crate::WorkspaceId;
use prost::Message as _;
use proto::common::v1 as wire;
use proto::common::v1::ErrorReason;
use proto::common::v1::Tier;
use proto::common::v1::principal::Caller as WireCaller;
use tonic::metadata::BinaryMetadataValue;

/// Who calls, and what it may do where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Who calls.
    pub caller: Caller,
    /// Where it may do what, each workspace once; at most [`GRANTS_MAX`](Self::GRANTS_MAX).
    pub grants: Vec<Grant>,
    /// What its workspace has paid for.
    pub tier: Tier,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caller {
    /// A program, by a key of a workspace or of a service account in it.
    ApiKey {
        /// The key that was presented.
        key: ApiKeyId,
        /// Whose it is; none: the workspace's own.
        service_account: Option<ServiceAccountId>,
    },
    /// A person who is signed in.
    User {
        /// Who.
        user: UserId,
        /// By which session.
        session: SessionId,
    },
    /// Who runs Linkmesh: may do everything.
    Operator,
}

/// What may be done in one workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// Where.
    pub workspace: WorkspaceId,
    /// What.
    pub permissions: Permissions,
}

impl Principal {
    /// The metadata key that carries one between peers.
    pub const METADATA_KEY: &'static str = "linkmesh-principal-bin";

    /// Workspaces that a user may be a member of. A principal of as many takes some 5 KiB of metadata.
    pub const GRANTS_MAX: usize = 100;

    /// An operator.
    #[must_use]
    pub const fn operator() -> Self {
        Self { caller: Caller::Operator, grants: Vec::new(), tier: Tier::Enterprise }
    }

    /// A key of a workspace, of the lowest tier.
    #[must_use]
    pub fn api_key(key: ApiKeyId, workspace: WorkspaceId, permissions: Permissions) -> Self {
        Self {
            caller: Caller::ApiKey { key, service_account: None },
            grants: vec![Grant { workspace, permissions }],
            tier: Tier::Free,
        }
    }

    /// Lets a request on that the mesh has let in, if its principal may do in `workspace` what the method asks: the first line
    /// of every handler. A method that is about no workspace passes `None`.
    ///
    /// # Errors
    /// As [`authorize`](Self::authorize), and CREDENTIALS_MISSING if it came without a principal.
    pub fn admitted<T>(
        request: &tonic::Request<T>,
        workspace: impl Into<Option<WorkspaceId>>,
    ) -> Result<&Self, Error> {
        let principal = request.extensions().get::<Self>().ok_or_else(|| {
            Error::unauthenticated(
                ErrorReason::CredentialsMissing,
                "the call names no principal; send an API key as `authorization: Bearer …`",
            )
        })?;
        let requirement = request.extensions().get::<Requirement>();
        principal.authorize(requirement.copied(), workspace.into())?;
        Ok(principal)
    }

    /// Decides whether a method may be called that asks this, about this workspace. Nothing else decides it.
    ///
    /// # Errors
    /// NOT_FOUND, in the same words as if it did not exist, for a workspace without a grant; SCOPE_MISSING or
    /// ROLE_INSUFFICIENT; USER_REQUIRED; PEER_NOT_ALLOWED; and METHOD_UNKNOWN if the method does not say what it asks.
    pub fn authorize(
        &self,
        requirement: Option<Requirement>,
        workspace: Option<WorkspaceId>,
    ) -> Result<(), Error> {
        let is_operator = self.caller == Caller::Operator;
        match requirement {
            None => Err(Error::new(
                tonic::Code::PermissionDenied,
                ErrorReason::MethodUnknown,
                "the method is not for clients",
            )),
            Some(Requirement::Anyone) => Ok(()),
            Some(_) if is_operator => Ok(()),
            Some(Requirement::Operator) => Err(Error::new(
                tonic::Code::PermissionDenied,
                ErrorReason::PeerNotAllowed,
                "only an operator may call this method",
            )),
            Some(Requirement::User) => self.user().map(drop),
            Some(Requirement::Permission(scope)) => {
                let workspace = workspace
                    .ok_or_else(|| Error::internal(&"a handler names no workspace to look into"))?;
                match self.permissions(workspace) {
                    None => Err(Error::not_found(format_args!("workspaces/{workspace}"))),
                    Some(held) => self.require(Permissions::of(&[scope]), held),
                }
            }
        }
    }

    /// Refuses to hand out what the caller does not hold in a workspace itself: by a key, a role or an invitation.
    ///
    /// # Errors
    /// SCOPE_MISSING or ROLE_INSUFFICIENT, naming the first scope that is lacking.
    pub fn may_grant(&self, workspace: WorkspaceId, granted: Permissions) -> Result<(), Error> {
        match self.caller {
            Caller::Operator => Ok(()),
            Caller::ApiKey { .. } | Caller::User { .. } => {
                self.require(granted, self.permissions(workspace).unwrap_or_default())
            }
        }
    }

    /// The user who calls.
    ///
    /// # Errors
    /// USER_REQUIRED.
    pub fn user(&self) -> Result<UserId, Error> {
        match self.caller {
            Caller::User { user, .. } => Ok(user),
            Caller::ApiKey { .. } | Caller::Operator => Err(Error::new(
                tonic::Code::PermissionDenied,
                ErrorReason::UserRequired,
                "only a signed-in user may call this",
            )),
        }
    }

    /// What it may do in a workspace; none if it has no part in it.
    fn permissions(&self, workspace: WorkspaceId) -> Option<Permissions> {
        let grant = self.grants.iter().find(|grant| grant.workspace == workspace)?;
        Some(grant.permissions)
    }

    fn require(&self, wanted: Permissions, held: Permissions) -> Result<(), Error> {
        let Some(scope) = wanted.without(held).names().next() else { return Ok(()) };
        Err(match self.caller {
            Caller::User { .. } => Error::role_insufficient(scope),
            Caller::ApiKey { .. } | Caller::Operator => Error::scope_missing(scope),
        })
    }

    /// As the wire has it.
    #[must_use]
    pub fn to_proto(&self) -> wire::Principal {
        let caller = match self.caller {
            Caller::ApiKey { key, service_account } => WireCaller::ApiKey(wire::ApiKeyCaller {
                api_key_id: key.as_bytes().to_vec(),
                service_account_id: service_account
                    .map(|account| account.as_bytes().to_vec())
                    .unwrap_or_default(),
            }),
            Caller::User { user, session } => WireCaller::User(wire::UserCaller {
                user_id: user.as_bytes().to_vec(),
                session_id: session.as_bytes().to_vec(),
            }),
            Caller::Operator => WireCaller::Operator(wire::OperatorCaller {}),
        };
        wire::Principal {
            caller: Some(caller),
            grants: self.grants.iter().map(Grant::to_proto).collect(),
            tier: i32::from(self.tier),
        }
    }

    /// For the metadata.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.to_proto().encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) made, from the metadata value's decoded bytes. Scopes of a newer version
    /// are left out.
    ///
    /// # Errors
    /// MALFORMED.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::malformed(format!("`{}`: {what}", Self::METADATA_KEY));
        let message = wire::Principal::decode(bytes)
            .map_err(|error| wrong(&format!("is no Principal: {error}")))?;
        Self::try_from(&message).map_err(|error| wrong(&error.message))
    }

    /// Puts it into an outgoing call's metadata. Only a peer that may assert one gets it accepted.
    pub fn attach(&self, metadata: &mut tonic::metadata::MetadataMap) {
        metadata.insert_bin(Self::METADATA_KEY, BinaryMetadataValue::from_bytes(&self.encode()));
    }
}

impl TryFrom<&wire::Principal> for Principal {
    type Error = Error;

    fn try_from(message: &wire::Principal) -> Result<Self, Error> {
        let caller = message.caller.as_ref().ok_or_else(|| Error::malformed("names no caller"))?;
        let caller = match caller {
            WireCaller::ApiKey(program) => Caller::ApiKey {
                key: ApiKeyId::from_slice(&program.api_key_id).map_err(|_| wrong("api_key_id"))?,
                service_account: match program.service_account_id.as_slice() {
                    [] => None,
                    bytes => Some(
                        ServiceAccountId::from_slice(bytes)
                            .map_err(|_| wrong("service_account_id"))?,
                    ),
                },
            },
            WireCaller::User(person) => Caller::User {
                user: UserId::from_slice(&person.user_id).map_err(|_| wrong("user_id"))?,
                session: SessionId::from_slice(&person.session_id)
                    .map_err(|_| wrong("session_id"))?,
            },
            WireCaller::Operator(wire::OperatorCaller {}) => Caller::Operator,
        };
        Ok(Self { caller, grants: Grant::read(&message.grants)?, tier: message.tier() })
    }
}

impl Grant {
    /// As the wire has it.
    #[must_use]
    pub fn to_proto(&self) -> wire::Grant {
        wire::Grant {
            workspace_id: self.workspace.as_bytes().to_vec(),
            scopes: self.permissions.numbers(),
        }
    }

    /// Reads a list of grants.
    ///
    /// # Errors
    /// MALFORMED for more than [`Principal::GRANTS_MAX`], or an id that is none.
    pub fn read(grants: &[wire::Grant]) -> Result<Vec<Self>, Error> {
        let (count, most) = (grants.len(), Principal::GRANTS_MAX);
        if count > most {
            return Err(Error::malformed(format!("has {count} grants, at most {most} are taken")));
        }
        let grants = grants.iter().map(|grant| {
            let workspace = WorkspaceId::from_slice(&grant.workspace_id);
            Ok(Self {
                workspace: workspace.map_err(|_| wrong("workspace_id"))?,
                permissions: Permissions::from_numbers(&grant.scopes),
            })
        });
        grants.collect()
    }
}

fn wrong(field: &str) -> Error {
    Error::malformed(format!("{field} must have 16 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::common::v1::Scope;

    const READ: Option<Requirement> = Some(Requirement::Permission(Scope::LinksRead));
    const WRITE: Option<Requirement> = Some(Requirement::Permission(Scope::LinksWrite));

    fn reader(workspace: WorkspaceId) -> Principal {
        Principal::api_key(ApiKeyId::new(), workspace, Permissions::of(&[Scope::LinksRead]))
    }

    fn user(workspace: WorkspaceId) -> Principal {
        let caller = Caller::User { user: UserId::new(), session: SessionId::new() };
        Principal { caller, tier: Tier::Premium, ..reader(workspace) }
    }

    fn reason(decision: Result<(), Error>) -> Option<ErrorReason> {
        decision.err().map(|error| error.reason)
    }

    #[test]
    fn a_principal_reads_back_what_it_writes() {
        let workspace = WorkspaceId::new();
        let account = Some(ServiceAccountId::new());
        let of_account = Principal {
            caller: Caller::ApiKey { key: ApiKeyId::new(), service_account: account },
            ..reader(workspace)
        };
        for principal in [reader(workspace), user(workspace), of_account, Principal::operator()] {
            assert_eq!(Principal::decode(&principal.encode()), Ok(principal));
        }
    }

    #[test]
    fn a_malformed_principal_is_refused_by_name() {
        let many = vec![reader(WorkspaceId::new()).grants[0]; Principal::GRANTS_MAX + 1];
        let many = Principal { grants: many, ..Principal::operator() }.encode();
        for bytes in [&b"\xff\xff"[..], b"", b"\x0a\x01a", b"\x0a\x00", b"\x12\x00", &many] {
            let error = Principal::decode(bytes).expect_err("it is malformed");
            assert_eq!(error.reason, ErrorReason::Malformed);
            assert!(error.message.contains("linkmesh-principal-bin"));
        }
    }

    #[test]
    fn a_principal_of_as_many_workspaces_as_may_be_fits_into_metadata() {
        let grant = || Grant { workspace: WorkspaceId::new(), permissions: Permissions::ALL };
        let grants = std::iter::repeat_with(grant).take(Principal::GRANTS_MAX).collect();
        let bytes = Principal { grants, ..user(WorkspaceId::new()) }.encode();
        // In base64 a third more; the mesh takes 32 KiB of headers.
        assert!(bytes.len() < 5 * 1024, "{}", bytes.len());
        assert!(Principal::decode(&bytes).is_ok());
    }

    #[test]
    fn another_workspace_does_not_exist_for_the_caller() {
        let workspace = WorkspaceId::new();
        for principal in [reader(workspace), user(workspace)] {
            assert_eq!(principal.authorize(READ, Some(workspace)), Ok(()));
            let other = principal.authorize(READ, Some(WorkspaceId::new()));
            assert_eq!(reason(other), Some(ErrorReason::NotFound));
        }
    }

    #[test]
    fn a_missing_permission_is_named_for_a_key_and_for_a_role() {
        let workspace = WorkspaceId::new();
        for (principal, expected) in [
            (reader(workspace), ErrorReason::ScopeMissing),
            (user(workspace), ErrorReason::RoleInsufficient),
        ] {
            let error = principal.authorize(WRITE, Some(workspace)).expect_err("it only reads");
            assert_eq!((error.reason, error.code), (expected, tonic::Code::PermissionDenied));
            assert!(error.message.contains("SCOPE_LINKS_WRITE"));
        }
    }

    #[test]
    fn what_a_method_does_not_say_is_denied_to_all() {
        let workspace = WorkspaceId::new();
        for principal in [reader(workspace), user(workspace), Principal::operator()] {
            let decided = principal.authorize(None, Some(workspace));
            assert_eq!(reason(decided), Some(ErrorReason::MethodUnknown));
        }
        let forgotten = user(workspace).authorize(READ, None);
        assert_eq!(reason(forgotten), Some(ErrorReason::Internal));
    }

    #[test]
    fn some_methods_are_for_users_and_some_for_operators() {
        let workspace = WorkspaceId::new();
        let (user_only, operator_only) = (Some(Requirement::User), Some(Requirement::Operator));
        assert_eq!(user(workspace).authorize(user_only, None), Ok(()));
        let key = reader(workspace).authorize(user_only, None);
        assert_eq!(reason(key), Some(ErrorReason::UserRequired));
        for principal in [reader(workspace), user(workspace)] {
            let decided = principal.authorize(operator_only, None);
            assert_eq!(reason(decided), Some(ErrorReason::PeerNotAllowed));
        }
        for requirement in [user_only, operator_only, WRITE] {
            let decided = Principal::operator().authorize(requirement, Some(WorkspaceId::new()));
            assert_eq!(decided, Ok(()));
        }
    }

    #[test]
    fn nobody_hands_out_what_it_does_not_hold() {
        let workspace = WorkspaceId::new();
        let wanted = Permissions::of(&[Scope::LinksRead, Scope::LinksWrite]);
        assert_eq!(
            reason(user(workspace).may_grant(workspace, wanted)),
            Some(ErrorReason::RoleInsufficient)
        );
        assert_eq!(
            user(workspace).may_grant(workspace, Permissions::of(&[Scope::LinksRead])),
            Ok(())
        );
        assert!(user(workspace).may_grant(WorkspaceId::new(), wanted).is_err());
        assert_eq!(Principal::operator().may_grant(workspace, Permissions::ALL), Ok(()));
    }
}
