//! A policy as it is stored: the JSON form of `PolicyRevision`, so that `etcdctl get` shows what is in force.

use super::Policy;
use crate::registry::POLICY_REVISIONS_MAX;
use jiff::Timestamp;
use prost_reflect::DeserializeOptions;
use prost_reflect::DynamicMessage;
use prost_reflect::MessageDescriptor;
use prost_reflect::SerializeOptions;
use proto::mesh::v1::PolicyRevision;
use proto::mesh::v1::ServicePolicy;
use rpc::Violation;
use std::sync::LazyLock;

/// The longest value that is stored or read, in bytes: a change has it twice, of which etcd takes 1.5 MiB by default, and a whole
/// history is one message of gRPC, which takes 4 MiB.
pub(super) const VALUE_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(VALUE_BYTES_MAX * POLICY_REVISIONS_MAX < 4 << 20);
/// The largest revision: no process that counts gets there, and the next one still is a number.
const REVISION_MAX: i64 = 1 << 53;

static REVISION: LazyLock<MessageDescriptor> = LazyLock::new(|| descriptor("PolicyRevision"));

/// The descriptor of a message of `linkmesh.mesh.v1`.
pub(super) fn descriptor(name: &str) -> MessageDescriptor {
    proto::DESCRIPTORS
        .get_message_by_name(&format!("linkmesh.mesh.v1.{name}"))
        .expect("the descriptors are compiled in")
}

/// A policy as it is or was stored.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRecord {
    /// The service's name.
    pub service: String,
    /// What was said; none if the policy was removed.
    pub policy: Option<ServicePolicy>,
    /// Counts the changes of the service's policy.
    pub revision: i64,
    /// When it was stored.
    pub apply_time: Timestamp,
    /// By whom.
    pub author: String,
    /// Why.
    pub note: String,
}

impl PolicyRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        let message = PolicyRevision {
            policy: self.policy.clone(),
            revision: self.revision,
            apply_time: Some(rpc::time::to_proto(self.apply_time)),
            author: self.author.clone(),
            note: self.note.clone(),
            problem: String::new(),
            service: self.service.clone(),
        };
        let mut dynamic = DynamicMessage::new(REVISION.clone());
        dynamic.transcode_from(&message).expect("a message has its own descriptor");
        let options = SerializeOptions::new().use_proto_field_name(true);
        let mut bytes = Vec::new();
        dynamic
            .serialize_with_options(&mut serde_json::Serializer::new(&mut bytes), &options)
            .expect("times and durations were checked");
        bytes
    }

    /// Reads what is stored for `service`.
    ///
    /// # Errors
    /// Why it can't be used, in words: someone else wrote it, or a newer version of the program.
    pub(super) fn decode(service: &str, value: &[u8]) -> Result<Self, String> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("it has more than {VALUE_BYTES_MAX} bytes"));
        }
        let options = DeserializeOptions::new().deny_unknown_fields(true);
        let mut json = serde_json::Deserializer::from_slice(value);
        let dynamic =
            DynamicMessage::deserialize_with_options(REVISION.clone(), &mut json, &options);
        let dynamic = dynamic.and_then(|dynamic| json.end().map(|()| dynamic));
        let dynamic =
            dynamic.map_err(|error| format!("it is not the JSON of a policy: {error}"))?;
        let message: PolicyRevision =
            dynamic.transcode_to().map_err(|error| format!("it is not a policy: {error}"))?;
        if !(1..=REVISION_MAX).contains(&message.revision) {
            return Err(format!("its revision must be 1 to {REVISION_MAX}"));
        }
        let said = message.policy.as_ref().map_or(&message.service, |policy| &policy.service);
        for said in [said, &message.service] {
            if said != service {
                return Err(format!("it is the policy of `{said}`"));
            }
        }
        let apply_time = match &message.apply_time {
            Some(time) => rpc::time::from_proto("apply_time", time).map_err(|it| it.message)?,
            None => return Err("it does not say when it was stored".to_owned()),
        };
        Ok(Self {
            service: service.to_owned(),
            policy: message.policy,
            revision: message.revision,
            apply_time,
            author: message.author,
            note: message.note,
        })
    }

    /// The policy that it describes.
    ///
    /// # Errors
    /// Why it can't be used, in words.
    pub(super) fn compile(&self) -> Result<Policy, String> {
        let policy = self.policy.as_ref().ok_or("it has no policy")?;
        Policy::compile(policy, self.revision).map_err(|violations| in_words(&violations))
    }
}

fn in_words(violations: &[Violation]) -> String {
    let wrong = violations.iter().map(|it| format!("`{}` {}", it.field, it.description));
    wrong.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> PolicyRecord {
        PolicyRecord {
            service: "links".to_owned(),
            policy: Some(ServicePolicy { service: "links".to_owned(), ..ServicePolicy::default() }),
            revision: 3,
            apply_time: "2026-01-02T03:04:05Z".parse().unwrap(),
            author: "operator".to_owned(),
            note: "why".to_owned(),
        }
    }

    #[test]
    fn what_is_stored_is_json_and_reads_back() {
        let record = record();
        let value = record.encode();
        assert_eq!(
            String::from_utf8(value.clone()).unwrap(),
            r#"{"policy":{"service":"links"},"revision":"3","apply_time":"2026-01-02T03:04:05Z","author":"operator","note":"why","service":"links"}"#
        );
        assert_eq!(PolicyRecord::decode("links", &value).unwrap(), record);
        let removed = PolicyRecord { policy: None, ..record };
        assert_eq!(PolicyRecord::decode("links", &removed.encode()).unwrap(), removed);
    }

    #[test]
    fn what_others_wrote_is_refused_with_the_reason() {
        let long = format!("\"{}\"", "x".repeat(VALUE_BYTES_MAX));
        for (value, reason) in [
            ("", "EOF"),
            ("{", "EOF"),
            ("null", "not the JSON"),
            ("{} {}", "trailing"),
            (long.as_str(), "more than"),
            ("{}", "revision must be"),
            (r#"{"revision":"1","service":"links"}"#, "does not say when"),
            (r#"{"revision":"1","rout":[]}"#, "rout"),
            (r#"{"revision":"9223372036854775807"}"#, "revision must be"),
            (r#"{"revision":"1","service":"edge"}"#, "policy of `edge`"),
            (r#"{"revision":"1","service":"links","policy":{"service":"edge"}}"#, "of `edge`"),
        ] {
            let error = PolicyRecord::decode("links", value.as_bytes()).unwrap_err();
            assert!(error.contains(reason), "{value}: {error}");
        }
    }
}
