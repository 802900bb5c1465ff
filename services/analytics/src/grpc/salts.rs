//! SaltsService: the keys of the visitors' hashes, for edges only.

use jiff::Timestamp;
use proto::analytics::v1::GetSaltsRequest;
use proto::analytics::v1::GetSaltsResponse;
use proto::analytics::v1::Salt;
use proto::analytics::v1::salts_service_server::SaltsService;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use super::failed;
use crate::store::Store;

/// The calls of SaltsService.
#[derive(Clone, Debug)]
pub(crate) struct SaltsApi {
    pub(crate) store: Store,
}

#[tonic::async_trait]
impl SaltsService for SaltsApi {
    async fn get_salts(
        &self,
        _request: Request<GetSaltsRequest>,
    ) -> Result<Response<GetSaltsResponse>, Status> {
        let now = Timestamp::now().as_microsecond();
        // Thrown away where a day has its salt already.
        let fresh = [rand::random(), rand::random()];
        let salts = self.store.salts(now, fresh).await.map_err(|error| failed(&error))?;
        let salts = salts.into_iter().map(|(day, key)| Salt { day, key: key.to_vec() });
        Ok(Response::new(GetSaltsResponse { salts: salts.collect() }))
    }
}
