//! ResolverService: what the edge asks on a miss.

use jiff::Timestamp;
use proto::links::v1::resolver_service_server::ResolverService;
use proto::links::v1::{ResolveRequest, ResolveResponse};
use tonic::{Request, Response, Status};

use super::{Api, failed};
use crate::wire;

#[tonic::async_trait]
impl ResolverService for Api {
    async fn resolve(
        &self,
        request: Request<ResolveRequest>,
    ) -> Result<Response<ResolveResponse>, Status> {
        let ResolveRequest { domain, slug } = request.into_inner();
        for (field, value) in [("domain", &domain), ("slug", &slug)] {
            if value.is_empty() {
                return Err(rpc::Error::invalid(field, "is required").into());
            }
        }
        // Before the read: whoever counts a time to live from here never counts too little.
        let read_time = Timestamp::now();
        let resolved =
            self.store.resolve(&domain, &slug).await.map_err(|failure| failed("", failure))?;
        Ok(Response::new(ResolveResponse {
            route: resolved.route.as_ref().map(wire::route),
            version: resolved.version,
            read_time: Some(rpc::time::to_proto(read_time)),
            normalized_slug: resolved.normalized_slug,
            domain_known: resolved.domain_known,
            case_sensitive: resolved.case_sensitive,
        }))
    }
}
