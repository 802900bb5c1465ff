//! Why descriptors make no contract.

use transcode::RouteError;

/// What is wrong with descriptors. None of it is served in part.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The file.
    #[error("{0:#}")]
    Unreadable(anyhow::Error),
    /// No FileDescriptorSet, only a part of one, or one whose files contradict each other.
    #[error("no FileDescriptorSet with all imports: {0}")]
    Malformed(String),
    /// A rule that can't be served, or two for the same requests.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// Nobody would know whom to let in.
    #[error("{0} has a route and no `linkmesh.common.v1.requires` that is known here")]
    Undeclared(String),
    /// A method for operators is reached through the mesh alone.
    #[error("{0} has a route and is for operators, who have no business at the edge")]
    ForOperators(String),
    /// The edge answers there itself, or would never look for a method there.
    #[error("{method} has {path}, {why}")]
    OwnPath { method: String, path: String, why: &'static str },
    /// What caches are told would be wrong.
    #[error("{method} has a `linkmesh.common.v1.caching` that {why}")]
    Caching { method: String, why: &'static str },
    /// A part of a set may be a set, too.
    #[error("there is no method that clients may call")]
    Empty,
}

impl Refusal {
    /// The same in a word, for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Malformed(_) => "malformed",
            Self::Route(RouteError::Rule { .. }) => "route",
            Self::Route(RouteError::Duplicate { .. }) => "route_ambiguous",
            Self::Undeclared(_) => "requires_missing",
            Self::ForOperators(_) => "requires_operator",
            Self::OwnPath { .. } => "own_path",
            Self::Caching { .. } => "caching",
            Self::Empty => "empty",
        }
    }
}
