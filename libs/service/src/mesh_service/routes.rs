//! What is done with the calls that an instance makes.

use mesh::RouteView;
use mesh::ServiceRoutesView;
use proto::mesh::v1::ListRoutesResponse;
use proto::mesh::v1::RouteInForce;
use proto::mesh::v1::ServiceRoutes;

/// Of the calls to a service; to all if it is empty.
pub(super) fn response(views: Vec<ServiceRoutesView>, service: &str) -> ListRoutesResponse {
    let wanted = views.into_iter().filter(|view| service.is_empty() || view.service == service);
    let services = wanted.map(|view| ServiceRoutes {
        service: view.service,
        revision: view.revision,
        balancing: view.balancing,
        routes: view.routes.into_iter().map(route).collect(),
    });
    ListRoutesResponse { services: services.collect() }
}

fn route(view: RouteView) -> RouteInForce {
    RouteInForce {
        name: view.name,
        matches: view.matches,
        timeout: view.timeout.and_then(|timeout| timeout.try_into().ok()),
        attempts_max: u32::try_from(view.attempts_max).unwrap_or(u32::MAX),
        actions: view.actions,
        calls: view.calls,
        failures: view.failures,
    }
}
