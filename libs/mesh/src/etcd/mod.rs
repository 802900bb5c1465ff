//! The registry in etcd.

use crate::registry::Lease;
use crate::registry::Registration;
use crate::registry::Registry;
use crate::registry::Watch;

#[derive(Debug)]
pub(crate) struct EtcdRegistry {}

impl EtcdRegistry {
    pub(crate) fn new(_members: &str) -> anyhow::Result<Self> {
        todo!()
    }
}

impl Registry for EtcdRegistry {
    fn register(&self, _registration: Registration) -> Box<dyn Lease> {
        todo!()
    }

    fn watch(&self) -> Watch {
        todo!()
    }
}
