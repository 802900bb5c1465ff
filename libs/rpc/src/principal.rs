//! Who a call is made for, as proved by the edge.
//!
//! It travels in the metadata `linkmesh-principal-bin`; the mesh's server side decodes it, from peers that may assert
//! one, into the request's extensions, and nothing else puts one there.

use crate::ApiKeyId;
use crate::Error;
use crate::WorkspaceId;
use prost::Message as _;
use proto::common::v1::ErrorReason;
use proto::common::v1::Scope;
use tonic::metadata::BinaryMetadataValue;

/// The caller's workspace, and what its key may do there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The workspace that the call is scoped to.
    pub workspace: WorkspaceId,
    /// The key that was presented; nil for an operator.
    pub api_key: ApiKeyId,
    /// What it may do.
    pub scopes: Vec<Scope>,
}

impl Principal {
    /// The metadata key that carries one between peers.
    pub const METADATA_KEY: &'static str = "linkmesh-principal-bin";

    /// Every scope there is: what an operator asserts.
    pub const ALL_SCOPES: [Scope; 5] = [
        Scope::LinksRead,
        Scope::LinksWrite,
        Scope::AnalyticsRead,
        Scope::WorkspaceRead,
        Scope::WorkspaceWrite,
    ];

    /// The principal of a request that the mesh has let in.
    ///
    /// # Errors
    /// CREDENTIALS_MISSING if it came without one.
    pub fn of<T>(request: &tonic::Request<T>) -> Result<&Self, Error> {
        request.extensions().get::<Self>().ok_or_else(|| {
            Error::unauthenticated(
                ErrorReason::CredentialsMissing,
                "the call names no principal; send an API key as `authorization: Bearer …`",
            )
        })
    }

    /// Refuses a caller whose key lacks `scope`.
    ///
    /// # Errors
    /// SCOPE_MISSING.
    pub fn require(&self, scope: Scope) -> Result<(), Error> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        Err(Error::scope_missing(scope.as_str_name()))
    }

    /// Refuses a caller of another workspace, in the same words as one that does not exist.
    ///
    /// # Errors
    /// NOT_FOUND.
    pub fn require_workspace(&self, workspace: WorkspaceId) -> Result<(), Error> {
        if self.workspace == workspace {
            return Ok(());
        }
        Err(Error::not_found(format_args!("workspaces/{workspace}")))
    }

    /// For the metadata.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        proto::common::v1::Principal {
            workspace_id: self.workspace.as_bytes().to_vec(),
            api_key_id: self.api_key.as_bytes().to_vec(),
            scopes: self.scopes.iter().map(|scope| i32::from(*scope)).collect(),
        }
        .encode_to_vec()
    }

    /// Reads what [`encode`](Self::encode) made, from the metadata value's decoded bytes. Scopes of a newer version
    /// are left out.
    ///
    /// # Errors
    /// MALFORMED.
    pub fn decode(bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what: &str| Error::malformed(format!("`{}`: {what}", Self::METADATA_KEY));
        let message = proto::common::v1::Principal::decode(bytes)
            .map_err(|error| wrong(&format!("is no Principal: {error}")))?;
        Self::try_from(&message).map_err(|error| wrong(&error.message))
    }

    /// Puts it into an outgoing call's metadata. Only a peer that may assert one gets it accepted.
    pub fn attach(&self, metadata: &mut tonic::metadata::MetadataMap) {
        metadata.insert_bin(Self::METADATA_KEY, BinaryMetadataValue::from_bytes(&self.encode()));
    }
}

impl TryFrom<&proto::common::v1::Principal> for Principal {
    type Error = Error;

    fn try_from(message: &proto::common::v1::Principal) -> Result<Self, Error> {
        Ok(Self {
            workspace: WorkspaceId::from_slice(&message.workspace_id)
                .map_err(|_| Error::malformed("workspace_id must have 16 bytes"))?,
            api_key: ApiKeyId::from_slice(&message.api_key_id)
                .map_err(|_| Error::malformed("api_key_id must have 16 bytes"))?,
            scopes: message.scopes().filter(|scope| *scope != Scope::Unspecified).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        Principal {
            workspace: WorkspaceId::new(),
            api_key: ApiKeyId::new(),
            scopes: vec![Scope::LinksRead],
        }
    }

    #[test]
    fn a_principal_reads_back_what_it_writes() {
        let principal = principal();
        assert_eq!(Principal::decode(&principal.encode()), Ok(principal));
    }

    #[test]
    fn a_malformed_principal_is_refused_by_name() {
        for bytes in [&b"\xff\xff"[..], b"", b"\x0a\x01a"] {
            let error = Principal::decode(bytes).expect_err("it is malformed");
            assert_eq!(error.reason, ErrorReason::Malformed);
            assert!(error.message.contains("linkmesh-principal-bin"));
        }
    }

    #[test]
    fn another_workspace_does_not_exist_for_the_caller() {
        let principal = principal();
        assert!(principal.require_workspace(principal.workspace).is_ok());
        let error = principal.require_workspace(WorkspaceId::new()).expect_err("another's");
        assert_eq!(error.reason, ErrorReason::NotFound);
    }

    #[test]
    fn a_missing_scope_is_named() {
        let error = principal().require(Scope::LinksWrite).expect_err("it has only LINKS_READ");
        assert!(error.message.contains("SCOPE_LINKS_WRITE"));
    }
}
