//! The Kafka adapter.

#[derive(Clone, Debug)]
pub(crate) struct Kafka;

#[derive(Debug)]
pub(crate) struct Reader;
