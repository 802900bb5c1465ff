//! What a host shows: the admin listener, and on every service's own listener health, reflection and `MeshService`.

use std::sync::Arc;

use prometheus_client::metrics::gauge::Gauge;
use proto::analytics::v1::GetSaltsRequest;
use proto::analytics::v1::GetSaltsResponse;
use proto::analytics::v1::salts_service_client::SaltsServiceClient;
use proto::analytics::v1::salts_service_server;
use proto::analytics::v1::salts_service_server::SaltsService;
use proto::analytics::v1::salts_service_server::SaltsServiceServer;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server;
use service::Assembly;
use service::Condition;
use service::Host;
use tokio::sync::Semaphore;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::hosted::ANY_PORT;
use crate::hosted::Hosted;
use crate::hosted::PATIENCE;
use crate::hosted::config;
use crate::hosted::spawn;

const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection";

/// A service whose calls arrive, and are answered when the test allows it.
#[derive(Debug, Clone)]
struct Gated {
    arrived: Arc<Semaphore>,
    allowed: Arc<Semaphore>,
}

impl Default for Gated {
    fn default() -> Gated {
        Gated { arrived: Arc::new(Semaphore::new(0)), allowed: Arc::new(Semaphore::new(0)) }
    }
}

#[tonic::async_trait]
impl SaltsService for Gated {
    async fn get_salts(
        &self,
        _request: Request<GetSaltsRequest>,
    ) -> Result<Response<GetSaltsResponse>, Status> {
        self.arrived.add_permits(1);
        self.allowed.acquire().await.expect("never closed").forget();
        Ok(Response::new(GetSaltsResponse::default()))
    }
}

impl Gated {
    fn assembly(self) -> Assembly {
        Assembly {
            routes: tonic::service::Routes::new(SaltsServiceServer::new(self)),
            grpc_services: vec![salts_service_server::SERVICE_NAME],
            access: mesh::Access::new().allow(salts_service_server::SERVICE_NAME, &["operator"]),
            ..Assembly::default()
        }
    }
}

#[tokio::test]
async fn the_process_says_what_it_is_waiting_for_until_every_condition_holds() {
    let folder = tempfile::tempdir().unwrap();
    let (holds, condition) = watch::channel(true);
    let host = Host::new(config(&folder), "1.0").add("links", ANY_PORT, |_| async {
        let ready = vec![Condition::new("shared-domain", condition)];
        Ok(Assembly { ready, ..Assembly::default() })
    });
    let hosted = Hosted::ready(host, &folder).await;
    assert!(hosted.admin("/readyz").await.starts_with("HTTP/1.1 200"));

    holds.send_replace(false);
    let answer = hosted.admin("/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.ends_with("not ready:\nlinks: shared-domain\n"), "{answer}");
    assert!(hosted.admin("/livez").await.starts_with("HTTP/1.1 200"), "alive all the same");

    let mut health = HealthClient::new(hosted.operator("links", &[HEALTH]));
    wait_for_status(&mut health, "", ServingStatus::NotServing).await;
    holds.send_replace(true);
    wait_for_status(&mut health, "", ServingStatus::Serving).await;
    hosted.stop().await.unwrap();
}

async fn wait_for_status(
    client: &mut HealthClient<mesh::Mesh>,
    service: &str,
    wanted: ServingStatus,
) {
    let request = HealthCheckRequest { service: service.to_owned() };
    let mut statuses = client.watch(request).await.unwrap().into_inner();
    let seen = async {
        while let Some(status) = statuses.next().await {
            if status.unwrap().status() == wanted {
                return;
            }
        }
        panic!("the watch ended");
    };
    timeout(PATIENCE, seen).await.expect("in time");
}

#[tokio::test]
async fn one_page_shows_the_metrics_of_all_services() {
    let folder = tempfile::tempdir().unwrap();
    let mut host = Host::new(config(&folder), "1.2.3");
    for name in ["links", "identity"] {
        host = host.add(name, ANY_PORT, |cx| async move {
            let gauge: Gauge = Gauge::default();
            cx.metrics.lock().register("db_connections_active", "Connections in use", gauge);
            Ok(Assembly::default())
        });
    }
    let hosted = Hosted::ready(host, &folder).await;
    let page = hosted.admin("/metrics").await;
    assert!(page.contains("content-type: application/openmetrics-text"), "{page}");
    assert_eq!(page.matches("# TYPE db_connections_active gauge").count(), 1, "{page}");
    assert!(page.contains("db_connections_active{service=\"links\"} 0"), "{page}");
    assert!(page.contains("db_connections_active{service=\"identity\"} 0"), "{page}");
    assert!(page.contains("version=\"1.2.3\""), "{page}");
    let mut families: Vec<_> = page.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    let all = families.len();
    families.sort_unstable();
    families.dedup();
    assert_eq!(families.len(), all, "a family appears twice:\n{page}");
    assert!(hosted.admin("/").await.starts_with("HTTP/1.1 404"));
    hosted.stop().await.unwrap();
}

#[tokio::test]
async fn every_listener_serves_health_reflection_and_its_view_of_the_mesh() {
    let folder = tempfile::tempdir().unwrap();
    let gated = Gated::default();
    gated.allowed.add_permits(1);
    let host = Host::new(config(&folder), "1.0")
        .add("links", ANY_PORT, |_| async { Ok(Assembly::default()) })
        .add("analytics", ANY_PORT, |_| async { Ok(gated.assembly()) });
    let hosted = Hosted::ready(host, &folder).await;
    let salts = salts_service_server::SERVICE_NAME;
    let seen = [HEALTH, REFLECTION, mesh_service_server::SERVICE_NAME, salts];
    let analytics = hosted.operator("analytics", &seen);

    let mut health = HealthClient::new(analytics.clone());
    wait_for_status(&mut health, salts, ServingStatus::Serving).await;
    let unknown = HealthCheckRequest { service: "a.B".to_owned() };
    assert_eq!(health.check(unknown).await.unwrap_err().code(), Code::NotFound);

    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut reflection = ServerReflectionClient::new(analytics.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter([request])).await;
    let answer = answers.unwrap().into_inner().next().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("no list: {answer:?}");
    };
    let mut listed: Vec<_> = listed.service.into_iter().map(|service| service.name).collect();
    listed.sort_unstable();
    assert!(listed.contains(&salts.to_owned()), "{listed:?}");
    assert!(listed.contains(&"linkmesh.mesh.v1.MeshService".to_owned()), "{listed:?}");
    assert!(!listed.contains(&"linkmesh.links.v1.LinksService".to_owned()), "{listed:?}");

    let mut mesh = MeshServiceClient::new(analytics.clone());
    let listing = async {
        loop {
            let answer = mesh.list_endpoints(ListEndpointsRequest::default()).await.unwrap();
            let known: Vec<_> =
                answer.into_inner().endpoints.into_iter().map(|one| one.instance).collect();
            if known == ["analytics-1", "links-1"] {
                return;
            }
        }
    };
    timeout(PATIENCE, listing).await.expect("both are found");

    SaltsServiceClient::new(analytics.clone()).get_salts(GetSaltsRequest {}).await.unwrap();
    let page = hosted.admin("/metrics").await;
    let counted = "http_requests_total{service=\"analytics\",method=\"POST\",route=\"/linkmesh.analytics.v1.SaltsService/GetSalts\",code=\"200\",grpc_code=\"OK\"} 1";
    assert!(page.contains(counted), "{page}");
    analytics.close().await;
    hosted.stop().await.unwrap();
}

#[tokio::test]
async fn a_call_in_flight_is_finished_at_the_stop() {
    let folder = tempfile::tempdir().unwrap();
    let gated = Gated::default();
    let served = gated.clone();
    let host = Host::new(config(&folder), "1.0")
        .add("analytics", ANY_PORT, |_| async { Ok(served.assembly()) });
    let hosted = Hosted::ready(host, &folder).await;
    let mesh = hosted.operator("analytics", &[salts_service_server::SERVICE_NAME]);
    let mut client = SaltsServiceClient::new(mesh.clone());
    let call = spawn(async move { client.get_salts(GetSaltsRequest {}).await });
    timeout(PATIENCE, gated.arrived.acquire()).await.expect("in time").unwrap().forget();

    hosted.ask_to_stop();
    // While it drains the admin listener says so, and the listener takes nobody new.
    let address = hosted.addresses.services[0].1;
    let refused = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("nobody new");
    assert!(hosted.admin("/readyz").await.contains("stopping"));

    gated.allowed.add_permits(1);
    timeout(PATIENCE, call).await.expect("answered").unwrap().expect("answered well");
    hosted.ended().await.unwrap();
    mesh.close().await;
}
