//! A registry in memory.

use super::Lease;
use super::Registration;
use super::Registry;
use super::Watch;

#[derive(Debug, Default)]
pub(crate) struct MemoryRegistry {}

impl Registry for MemoryRegistry {
    fn register(&self, _registration: Registration) -> Box<dyn Lease> {
        todo!()
    }

    fn watch(&self) -> Watch {
        todo!()
    }
}
