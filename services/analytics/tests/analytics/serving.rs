//! The service's calls as its generated clients make them, in process, with the principal that the mesh would bring.

use jiff::Timestamp;
use proto::analytics::v1::aggregator_service_client::AggregatorServiceClient;
use proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use proto::common::v1::Scope;
use rpc::ApiKeyId;
use rpc::Id;
use rpc::LinkId;
use rpc::Permissions;
use rpc::Principal;
use rpc::Requirement;
use rpc::WorkspaceId;
use tonic::service::Routes;
use uuid::Uuid;

use crate::harness::Harness;
use crate::harness::Running;

/// One instance's calls. Its tail reads until this is dropped.
pub(crate) struct Api {
    routes: Routes,
    tail: Running,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.tail.stop.cancel();
    }
}

impl Api {
    pub(crate) async fn new(harness: &Harness) -> Api {
        let shared = harness.shared();
        let tail = analytics::consume::tail::Tail::new(
            harness.bus.clone(),
            harness.agents(),
            shared.metrics.clone(),
        );
        let reading = Running::spawn(|stop| tail.clone().run(stop));
        let routes = analytics::routes(harness.store.clone(), harness.bus.clone(), tail);
        Api { routes, tail: reading }
    }

    pub(crate) fn analytics(&self) -> AnalyticsServiceClient<Routes> {
        AnalyticsServiceClient::new(self.routes.clone())
    }

    pub(crate) fn operator(&self) -> AggregatorServiceClient<Routes> {
        AggregatorServiceClient::new(self.routes.clone())
    }

    /// A call made for a workspace.
    pub(crate) fn by<T>(&self, workspace: Uuid, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        let permissions = Permissions::of(&[Scope::AnalyticsRead]);
        let workspace = WorkspaceId::from(workspace);
        let extensions = request.extensions_mut();
        extensions.insert(Principal::api_key(ApiKeyId::new(), workspace, permissions));
        // What the mesh puts beside it.
        extensions.insert(Requirement::Permission(Scope::AnalyticsRead));
        request
    }
}

pub(crate) fn workspace_name(workspace: Uuid) -> String {
    let workspace: WorkspaceId = Id::from(workspace);
    format!("workspaces/{workspace}")
}

pub(crate) fn link_name(workspace: Uuid, link: Uuid) -> String {
    let link: LinkId = Id::from(link);
    format!("{}/links/{link}", workspace_name(workspace))
}

#[expect(clippy::unnecessary_wraps, reason = "as messages have it")]
pub(crate) fn time(at: Timestamp) -> Option<prost_types::Timestamp> {
    Some(rpc::time::to_proto(at))
}
