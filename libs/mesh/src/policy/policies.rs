//! The policies as they are stored, for who changes them: validated, numbered, and never lost to a race.

use super::Policy;
use super::record::PolicyRecord;
use super::record::VALUE_BYTES_MAX;
use crate::registry::PolicyAppend;
use crate::registry::PolicyHead;
use crate::registry::PolicyStore;
use crate::registry::Registry;
use jiff::Timestamp;
use proto::common::v1::ErrorReason;
use proto::mesh::v1::ServicePolicy;
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;

/// How long the registry may take for one operation, all its requests included.
const STORE_WAIT_MAX: Duration = Duration::from_secs(5);
/// How often a change is tried that others are faster than.
const TRIES_MAX: usize = 10;
/// The longest note, in characters.
const NOTE_CHARACTERS_MAX: usize = 1_000;
/// The policies of a registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Policies {
    store: Arc<dyn PolicyStore>,
}

/// Who changes something, when and why.
#[derive(Debug, Clone)]
pub struct Authorship {
    /// By mesh identity.
    pub author: String,
    /// In the author's words.
    pub note: String,
    /// The time.
    pub now: Timestamp,
}

/// What is stored for a service.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPolicy {
    /// The service's name.
    pub service: String,
    /// What was read; none if it is no record of ours.
    pub record: Option<PolicyRecord>,
    /// Why processes can't use it; none: they do.
    pub problem: Option<String>,
}

/// What a service is to have from now on.
struct Wanted<'a> {
    service: &'a str,
    policy: Option<ServicePolicy>,
    expected: Option<i64>,
}

impl Policies {
    /// Those of `registry`.
    #[must_use]
    pub fn of(registry: &dyn Registry) -> Self {
        Self { store: registry.policy_store() }
    }

    /// Stores a policy in place of its service's, and returns what is then in force: what was, if it says the same.
    ///
    /// # Errors
    /// INVALID_FIELD with every violation; ETAG_MISMATCH if `expected` is not the revision in force (0: there must be none);
    /// STORE_UNAVAILABLE.
    pub async fn apply(
        &self,
        policy: ServicePolicy,
        expected: Option<i64>,
        authorship: &Authorship,
    ) -> Result<PolicyRecord, rpc::Error> {
        Policy::compile(&policy, 1).map_err(rpc::Error::invalid_fields)?;
        let service = policy.service.clone();
        let wanted = Wanted { service: &service, policy: Some(policy), expected };
        self.change(wanted, authorship).await
    }

    /// Stores an earlier policy anew.
    ///
    /// # Errors
    /// NOT_FOUND if the service never had that revision, or has had too many since; INVALID_FIELD if it is not valid any more;
    /// STORE_UNAVAILABLE.
    pub async fn roll_back(
        &self,
        service: &str,
        revision: i64,
        authorship: &Authorship,
    ) -> Result<PolicyRecord, rpc::Error> {
        let history = self.history(service).await?;
        let found = history.into_iter().find(|record| record.revision == revision);
        let found = found.ok_or_else(|| {
            rpc::Error::not_found(format!("revision {revision} of the policy of {service}"))
        })?;
        if let Some(policy) = &found.policy {
            Policy::compile(policy, 1).map_err(rpc::Error::invalid_fields)?;
        }
        let wanted = Wanted { service, policy: found.policy, expected: None };
        self.change(wanted, authorship).await
    }

    /// Removes a service's policy.
    ///
    /// # Errors
    /// NOT_FOUND if there is none; STORE_UNAVAILABLE.
    pub async fn delete(&self, service: &str, authorship: &Authorship) -> Result<(), rpc::Error> {
        let head = self.head(service).await?;
        if head.current.is_none() {
            return Err(rpc::Error::not_found(format!("the policy of {service}")));
        }
        let wanted = Wanted { service, policy: None, expected: None };
        self.change(wanted, authorship).await.map(drop)
    }

    /// What is stored, by service.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn list(&self) -> Result<Vec<StoredPolicy>, rpc::Error> {
        let entries = within(self.store.list()).await?;
        Ok(entries
            .into_iter()
            .map(|entry| StoredPolicy::read(entry.service, &entry.value))
            .collect())
    }

    /// What a service had, newest first.
    ///
    /// # Errors
    /// STORE_UNAVAILABLE.
    pub async fn history(&self, service: &str) -> Result<Vec<PolicyRecord>, rpc::Error> {
        let values = within(self.store.history(service)).await?;
        let records = values.into_iter().filter_map(|(revision, value)| {
            let record = PolicyRecord::decode(service, &value);
            let record = record.map_err(|reason| {
                tracing::warn!(service, revision, reason, "a policy's history can't be read");
            });
            // The key says which revision it is; the value may have been written by anyone.
            Some(PolicyRecord { revision, ..record.ok()? })
        });
        Ok(records.collect())
    }

    async fn change(
        &self,
        wanted: Wanted<'_>,
        authorship: &Authorship,
    ) -> Result<PolicyRecord, rpc::Error> {
        check_note(&authorship.note)?;
        let Wanted { service, policy, expected } = wanted;
        for _ in 0..TRIES_MAX {
            let head = self.head(service).await?;
            let current = head
                .current
                .as_deref()
                .map(|value| PolicyRecord::decode(service, value).map_err(|_| head.revision));
            let in_force = match &current {
                None => 0,
                Some(Ok(record)) => record.revision,
                Some(Err(newest)) => *newest,
            };
            let said = current.as_ref().and_then(|current| current.as_ref().ok());
            if let Some(record) = said.filter(|record| record.policy == policy) {
                return Ok(record.clone());
            }
            if let Some(expected) = expected.filter(|expected| *expected != in_force) {
                return Err(revision_mismatch(service, expected, in_force));
            }
            let record = PolicyRecord {
                service: service.to_owned(),
                policy: policy.clone(),
                revision: head.revision.max(in_force) + 1,
                apply_time: authorship.now,
                author: authorship.author.clone(),
                note: authorship.note.clone(),
            };
            let value = record.encode();
            check_size(&value)?;
            let append = PolicyAppend {
                service: service.to_owned(),
                after: head.revision,
                revision: record.revision,
                value,
                in_force: record.policy.is_some(),
            };
            if within(self.store.append(append)).await? {
                return Ok(record);
            }
        }
        let message = format!("the policy of {service} is changed by others all the time");
        Err(rpc::Error::overloaded(message, Duration::from_secs(1)))
    }

    async fn head(&self, service: &str) -> Result<PolicyHead, rpc::Error> {
        within(self.store.head(service)).await
    }
}

impl StoredPolicy {
    fn read(service: String, value: &[u8]) -> Self {
        match PolicyRecord::decode(&service, value) {
            Err(problem) => Self { service, record: None, problem: Some(problem) },
            Ok(record) => {
                let problem = record.compile().err();
                Self { service, record: Some(record), problem }
            }
        }
    }
}

fn revision_mismatch(service: &str, expected: i64, in_force: i64) -> rpc::Error {
    let found = match in_force {
        0 => "there is none".to_owned(),
        revision => format!("it is revision {revision}"),
    };
    let wanted = match expected {
        0 => "no policy".to_owned(),
        revision => format!("revision {revision}"),
    };
    let message = format!("the policy of {service} is not as expected: {wanted} was, {found}");
    let mut error = rpc::Error::new(Code::Aborted, ErrorReason::EtagMismatch, message);
    error.metadata.push(("revision", in_force.to_string()));
    error
}

fn check_note(note: &str) -> Result<(), rpc::Error> {
    let characters = note.chars().count();
    if characters > NOTE_CHARACTERS_MAX {
        let limit = format!("must have at most {NOTE_CHARACTERS_MAX} characters");
        return Err(rpc::Error::invalid("note", format!("{limit}, has {characters}")));
    }
    Ok(())
}

fn check_size(value: &[u8]) -> Result<(), rpc::Error> {
    if value.len() > VALUE_BYTES_MAX {
        let limit = format!("must have at most {VALUE_BYTES_MAX} bytes as JSON, with its note");
        return Err(rpc::Error::invalid("policy", format!("{limit}; has {}", value.len())));
    }
    Ok(())
}

/// Awaits the store, for a caller whose own deadline may be far.
async fn within<T>(answer: impl Future<Output = anyhow::Result<T>>) -> Result<T, rpc::Error> {
    let answer = match tokio::time::timeout(STORE_WAIT_MAX, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(error)) => format!("{error:#}"),
        Err(_) => "it did not answer in time".to_owned(),
    };
    tracing::warn!(error = answer, "the registry's policies can't be reached");
    Err(rpc::Error::unavailable(
        ErrorReason::StoreUnavailable,
        "the registry can't be reached; what was in force stays so",
    ))
}
