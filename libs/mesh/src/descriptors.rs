//! What is known of RPCs and messages in this process: the descriptors of `proto/`, and those that a program adds.
//!
//! One set for the process, as protobuf's own registries are; it is complete before it is first used.

use anyhow::Context as _;
use anyhow::ensure;
use prost_reflect::DescriptorPool;
use std::sync::LazyLock;
use std::sync::Mutex;
use std::sync::PoisonError;

/// All descriptors, decoded when a message is first shown. From the first look at any on, none is added.
pub(crate) static DESCRIPTORS: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut added = ADDED.lock().unwrap_or_else(PoisonError::into_inner);
    added.is_closed = true;
    added.pool.take().unwrap_or_else(|| proto::DESCRIPTORS.clone())
});

/// What a method asks of whom it is called for.
const REQUIRES: &str = "linkmesh.common.v1.requires";

/// What programs added to those of `proto/`.
static ADDED: Mutex<Added> = Mutex::new(Added { sets: Vec::new(), pool: None, is_closed: false });

#[derive(Debug)]
struct Added {
    /// Encoded, in the order in which they came.
    sets: Vec<Vec<u8>>,
    /// All descriptors, if any were added.
    pool: Option<DescriptorPool>,
    /// They were looked at.
    is_closed: bool,
}

/// All descriptors, encoded: those of `proto/`, then what was added. From the first look at any on, none is added.
pub(crate) fn encoded() -> Vec<Vec<u8>> {
    let mut added = ADDED.lock().unwrap_or_else(PoisonError::into_inner);
    added.is_closed = true;
    [&[proto::DESCRIPTOR_SET.to_vec()], added.sets.as_slice()].concat()
}

/// What the method with this gRPC path asks of whom it is called for, of those that programs added. The option is found by its name:
/// in a stranger's protos its number may stand for something else.
pub(crate) fn requirement(path: &str) -> Option<rpc::Requirement> {
    let (service, method) = path.strip_prefix('/')?.split_once('/')?;
    let service = DESCRIPTORS.get_service_by_name(service)?;
    let method = service.methods().find(|found| found.name() == method)?;
    let extension = DESCRIPTORS.get_extension_by_name(REQUIRES)?;
    let options = method.options();
    if !options.has_extension(&extension) {
        return None;
    }
    let said = options.get_extension(&extension).as_message()?.transcode_to().ok()?;
    rpc::Requirement::from_proto(said)
}

/// Makes the services of a program's own protos known, as an encoded `FileDescriptorSet` with all imports: what their
/// `idempotency_level` allows, what `linkmesh.common.v1.requires` asks, which metrics they have, how `tap` shows their messages. To be called before the first mesh or
/// server is made. Methods that are not described can be called too: nothing is assumed of them, so none is repeated that may
/// have had an effect, and none has a deadline unless its caller sets one.
///
/// # Errors
/// If the set is malformed, contradicts what is known, or comes after the first mesh or server.
pub fn describe(descriptor_set: &[u8]) -> anyhow::Result<()> {
    let mut added = ADDED.lock().unwrap_or_else(PoisonError::into_inner);
    ensure!(!added.is_closed, "descriptors must be added before the first mesh or server is made");
    // Added to a copy: a set that is refused leaves nothing behind.
    let mut pool = added.pool.clone().unwrap_or_else(|| proto::DESCRIPTORS.clone());
    pool.decode_file_descriptor_set(descriptor_set).context("the descriptors are refused")?;
    added.pool = Some(pool);
    added.sets.push(descriptor_set.to_vec());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_method_asks_is_found_by_the_options_name() {
        let methods = proto::DESCRIPTORS.services().flat_map(|service| {
            let methods: Vec<_> = service.methods().collect();
            methods.into_iter().map(move |it| format!("/{}/{}", service.full_name(), it.name()))
        });
        let mut said = 0;
        for path in methods {
            assert_eq!(requirement(&path), rpc::Requirement::of_path(&path), "{path}");
            said += usize::from(requirement(&path).is_some());
        }
        assert!(said > 10);
        assert_eq!(requirement("/no.Such/Method"), None);
    }

    #[test]
    fn descriptors_that_are_malformed_or_late_are_refused() {
        // Which of the two depends on what other tests have looked at before.
        assert!(describe(b"\xff").is_err());
        assert!(DESCRIPTORS.get_service_by_name("linkmesh.links.v1.LinksService").is_some());
        let error = describe(proto::DESCRIPTOR_SET).unwrap_err();
        assert!(error.to_string().contains("before the first"), "{error:#}");
    }
}
