//! `linkmesh.mesh.v1.MeshService`: what this instance knows of the mesh and did in it, for operators.

mod diagnosis;
mod endpoints;
mod routes;
mod stats;
mod taps;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use futures_util::Stream;
use futures_util::StreamExt as _;
use proto::common::v1::ErrorReason;
use proto::mesh::v1::DrainRequest;
use proto::mesh::v1::DrainResponse;
use proto::mesh::v1::GetDiagnosisRequest;
use proto::mesh::v1::GetDiagnosisResponse;
use proto::mesh::v1::GetStatsRequest;
use proto::mesh::v1::GetStatsResponse;
use proto::mesh::v1::ListEndpointsRequest;
use proto::mesh::v1::ListEndpointsResponse;
use proto::mesh::v1::ListRoutesRequest;
use proto::mesh::v1::ListRoutesResponse;
use proto::mesh::v1::TapRequest;
use proto::mesh::v1::TapResponse;
use proto::mesh::v1::UndrainRequest;
use proto::mesh::v1::UndrainResponse;
use proto::mesh::v1::WatchStatsRequest;
use proto::mesh::v1::WatchStatsResponse;
use proto::mesh::v1::mesh_service_server::MeshService;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::announcer::Rotation;
use crate::announcer::Standing;
use crate::announcer::Wish;

/// How often stats are told to a watcher that does not say.
const PERIOD_DEFAULT: Duration = Duration::from_secs(1);
/// How often they may be told, at the most and at the least.
const PERIOD_MIN: Duration = Duration::from_millis(100);
const PERIOD_MAX: Duration = Duration::from_secs(60);

/// One instance, as its operators see it.
#[derive(Debug, Clone)]
pub(crate) struct MeshNode(pub(crate) Arc<Node>);

/// What answers are made of.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) instance: String,
    pub(crate) version: String,
    pub(crate) started: Instant,
    pub(crate) identity: mesh::Identity,
    pub(crate) mesh: mesh::Mesh,
    /// The calls that it answered.
    pub(crate) answered: mesh::ServerStats,
    pub(crate) taps: mesh::Taps,
    pub(crate) registry: Arc<dyn mesh::Registry>,
    pub(crate) rotation: Rotation,
    /// The instance stops: streams that would go on for ever end.
    pub(crate) stop: CancellationToken,
}

type ResponseStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl MeshService for MeshNode {
    type WatchStatsStream = ResponseStream<WatchStatsResponse>;
    type TapStream = ResponseStream<TapResponse>;

    async fn list_endpoints(
        &self,
        request: Request<ListEndpointsRequest>,
    ) -> Result<Response<ListEndpointsResponse>, Status> {
        let view = self.0.mesh.view();
        Ok(Response::new(endpoints::response(view, &request.into_inner().service)))
    }

    async fn get_stats(
        &self,
        _: Request<GetStatsRequest>,
    ) -> Result<Response<GetStatsResponse>, Status> {
        Ok(Response::new(GetStatsResponse { stats: Some(stats::of(&self.0)) }))
    }

    async fn watch_stats(
        &self,
        request: Request<WatchStatsRequest>,
    ) -> Result<Response<Self::WatchStatsStream>, Status> {
        let period = period(&request.into_inner())?;
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let node = Arc::clone(&self.0);
        let told = futures_util::stream::unfold((ticks, node), |(mut ticks, node)| async move {
            ticks.tick().await;
            let response = WatchStatsResponse { stats: Some(stats::of(&node)) };
            Some((Ok(response), (ticks, node)))
        });
        Ok(Response::new(self.until_stop(told)))
    }

    async fn list_routes(
        &self,
        request: Request<ListRoutesRequest>,
    ) -> Result<Response<ListRoutesResponse>, Status> {
        let views = self.0.mesh.routes();
        Ok(Response::new(routes::response(views, &request.into_inner().service)))
    }

    async fn tap(&self, request: Request<TapRequest>) -> Result<Response<Self::TapStream>, Status> {
        let (filter, limit) = taps::decode(request.into_inner())?;
        let instance = self.0.instance.clone();
        let events = self.0.taps.open(filter, limit)?;
        let shown = events.map(move |event| Ok(taps::encode(&instance, event)));
        Ok(Response::new(self.until_stop(shown)))
    }

    async fn drain(&self, _: Request<DrainRequest>) -> Result<Response<DrainResponse>, Status> {
        let standing = self.rotate(Wish::Drain).await?;
        let instance = self.0.instance.clone();
        Ok(Response::new(DrainResponse { instance, registry_reached: standing.reached }))
    }

    async fn undrain(
        &self,
        _: Request<UndrainRequest>,
    ) -> Result<Response<UndrainResponse>, Status> {
        let standing = self.rotate(Wish::Undrain).await?;
        let instance = self.0.instance.clone();
        Ok(Response::new(UndrainResponse { instance, registry_reached: standing.reached }))
    }

    async fn get_diagnosis(
        &self,
        _: Request<GetDiagnosisRequest>,
    ) -> Result<Response<GetDiagnosisResponse>, Status> {
        Ok(Response::new(diagnosis::of(&self.0).await))
    }
}

impl Node {
    /// The identity that its certificate proves; empty if it proves none.
    fn certified_id(&self) -> String {
        self.identity.certificate().map(|certificate| certificate.spiffe_id).unwrap_or_default()
    }
}

impl MeshNode {
    async fn rotate(&self, wish: Wish) -> Result<Standing, Status> {
        self.0.rotation.ask(wish).await.ok_or_else(|| {
            let message = format!("`{}` is not registered: it starts or stops", self.0.instance);
            rpc::Error::new(Code::FailedPrecondition, ErrorReason::StateConflict, message).into()
        })
    }

    /// The stream, which ends when the instance stops.
    fn until_stop<T: Send + 'static>(
        &self,
        stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ) -> ResponseStream<T> {
        let stop = self.0.stop.clone();
        Box::pin(stream.take_until(stop.cancelled_owned()))
    }
}

fn period(request: &WatchStatsRequest) -> Result<Duration, rpc::Error> {
    let Some(stated) = request.period else { return Ok(PERIOD_DEFAULT) };
    let period = Duration::try_from(stated).ok();
    period.filter(|period| (PERIOD_MIN..=PERIOD_MAX).contains(period)).ok_or_else(|| {
        rpc::Error::invalid("period", format!("must be {PERIOD_MIN:?} to {PERIOD_MAX:?}"))
    })
}
