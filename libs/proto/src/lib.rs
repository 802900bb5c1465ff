//! The messages, clients and servers generated from `proto/`, and the descriptors of all of them.
//!
//! Nothing here is written by hand but the way to reach what is generated.

#![allow(missing_docs, clippy::all, reason = "generated; the documentation is in proto/")]

use std::sync::LazyLock;

mod generated {
    include!(concat!(env!("OUT_DIR"), "/all.rs"));
}

pub use generated::google;
pub use generated::linkmesh::*;

/// Every file of `proto/` with its imports, comments and options, as an encoded `FileDescriptorSet`.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The same, decoded once, extensions such as `google.api.http` included.
pub static DESCRIPTORS: LazyLock<prost_reflect::DescriptorPool> = LazyLock::new(|| {
    prost_reflect::DescriptorPool::decode(DESCRIPTOR_SET).expect("the build encoded the set")
});
