//! `linkmesh.mesh.v1.MeshService`: what this process knows of the mesh, for operators.

use proto::mesh::v1::Endpoint;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::mesh_service_server::MeshService;
use tonic::Request;
use tonic::Response;
use tonic::Status;

/// Answers from one service's mesh handle.
#[derive(Debug)]
pub(crate) struct MeshView {
    pub(crate) mesh: mesh::Mesh,
}

#[tonic::async_trait]
impl MeshService for MeshView {
    async fn list_endpoints(
        &self,
        request: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let wanted = request.into_inner().service;
        let view = self.mesh.view();
        let endpoints = view
            .endpoints
            .into_iter()
            .filter(|endpoint| wanted.is_empty() || endpoint.instance.service == wanted)
            .map(endpoint)
            .collect();
        Ok(Response::new(ListEndpointsResponse {
            endpoints,
            revision: view.revision,
            age: view.age.and_then(|age| age.try_into().ok()),
        }))
    }
}

fn endpoint(view: mesh::EndpointView) -> Endpoint {
    let instance = view.instance;
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
    }
}
