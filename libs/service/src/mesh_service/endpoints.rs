//! Instances as an operator sees them.

use mesh::EndpointState;
use mesh::EndpointView;
use mesh::MeshView;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::endpoint::State;

/// Those of a service; of all if it is empty.
pub(super) fn response(view: MeshView, service: &str) -> ListEndpointsResponse {
    let MeshView { revision, age, endpoints } = view;
    let endpoints = endpoints
        .into_iter()
        .filter(|endpoint| service.is_empty() || endpoint.instance.service == service)
        .map(endpoint)
        .collect();
    ListEndpointsResponse { endpoints, revision, age: age.and_then(|age| age.try_into().ok()) }
}

fn endpoint(view: EndpointView) -> Endpoint {
    let instance = view.instance;
    let (state, out_for) = state(view.state);
    Endpoint {
        service: instance.service,
        instance: instance.instance,
        address: instance.address,
        zone: instance.zone,
        region: instance.region,
        version: instance.version,
        register_time: Some(rpc::time::to_proto(instance.register_time)),
        weight: instance.weight,
        draining: instance.draining,
        suspect: view.suspect,
        pending: view.pending,
        latency: view.latency.and_then(|latency| latency.try_into().ok()),
        grpc_services: view.grpc_services,
        state: state.into(),
        out_for: out_for.and_then(|left| left.try_into().ok()),
        connections: u32::try_from(view.connections).unwrap_or(u32::MAX),
        success_rate: view.success_rate,
        tier: u32::try_from(view.tier).unwrap_or(u32::MAX),
        effective_weight: view.weight,
    }
}

fn state(state: EndpointState) -> (State, Option<std::time::Duration>) {
    match state {
        EndpointState::Idle => (State::Idle, None),
        EndpointState::Connecting => (State::Connecting, None),
        EndpointState::Ready => (State::Ready, None),
        EndpointState::Warming => (State::Warming, None),
        EndpointState::Unhealthy { left } => (State::Unhealthy, Some(left)),
        EndpointState::Ejected { left } => (State::Ejected, Some(left)),
        EndpointState::Draining => (State::Draining, None),
    }
}
