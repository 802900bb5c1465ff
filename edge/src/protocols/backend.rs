//! What stands behind the protocols: who may call a method, and whom a call goes to.

use std::time::Duration;

use http::HeaderMap;
use http::Request;
use http::Response;
use http::request::Parts;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::body::Body;

use super::coding::Codings;
use super::method::Method;

/// Services that speak gRPC, as the edge's clients may reach them. Cheap to clone.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What clients are told of a failure that the protocols found themselves: as it is, with its reason as an `ErrorInfo`.
    const REFUSAL: fn(Status) -> Status = |status| status;

    /// Bytes that a client's message may have, decompressed.
    fn message_bytes_max(&self) -> usize;

    /// The codings that services read and write. What a client sends in another is decompressed here; what passes is for the
    /// service to limit.
    fn codings(&self) -> Codings;

    /// How long a call may take, whatever its client says.
    fn timeout_max(&self, method: &Method) -> Option<Duration>;

    /// Lets a client in that sent this head, and says what metadata its call has; what the protocols set themselves is
    /// overwritten.
    ///
    /// # Errors
    /// Whoever may not call.
    fn admit(
        &self,
        method: &Method,
        head: &Parts,
    ) -> impl Future<Output = Result<HeaderMap, Status>> + Send;

    /// Makes a call of gRPC.
    ///
    /// # Errors
    /// A call that nobody answered.
    fn call(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = Result<Response<Body>, Status>> + Send;

    /// Cancelled when streams must end because this process does.
    fn leaving(&self) -> &CancellationToken;
}
