//! An instance behind a network of its own, which may fail.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::backend::CHAT;
use crate::backend::LINKS;
use crate::world::World;
use crate::world::registration;
use mesh::registry::Lease;
use stack::FaultProxy;
use stack::Faults;

pub(crate) struct Far {
    pub(crate) backend: Backend,
    pub(crate) network: FaultProxy,
    _lease: Box<dyn Lease>,
}

impl Far {
    pub(crate) async fn start(world: &World, instance: &str) -> Self {
        Self::start_behind(world, instance, Faults::NONE).await
    }

    pub(crate) async fn start_behind(world: &World, instance: &str, faults: Faults) -> Self {
        let backend = Backend::unregistered(world, "links", instance, Behaviour::Answer).await;
        let network = FaultProxy::start(backend.address.clone()).await.unwrap();
        network.set(faults);
        let registration = registration(instance, &network.address(), &[LINKS, CHAT]);
        Self { backend, network, _lease: world.registry.register(registration) }
    }
}
