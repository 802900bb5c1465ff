//! The file adapter.

#[derive(Clone, Debug)]
pub(crate) struct FileLog;

#[derive(Debug)]
pub(crate) struct Reader;
