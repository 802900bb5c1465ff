//! AuditService.

use proto::identity::v1::audit_service_server::AuditService;
use proto::identity::v1::{
    AuditEvent, ListAuditEventsRequest, ListAuditEventsResponse, ListOwnAuditEventsRequest,
    ListOwnAuditEventsResponse, VerifyAuditEventsRequest, VerifyAuditEventsResponse,
};
use rpc::{Principal, name, page};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Api, failed};
use crate::store::audit::Verified;

/// Events that one call verifies, at most.
const VERIFIED_MAX: i64 = 10_000;
/// Stream, sequence and hash.
const CURSOR_BYTES: usize = 16 + 8 + 32;

#[tonic::async_trait]
impl AuditService for Api {
    async fn list_audit_events(
        &self,
        request: Request<ListAuditEventsRequest>,
    ) -> Result<Response<ListAuditEventsResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let page = Page {
            method: "ListAuditEvents",
            stream: workspace.uuid(),
            size: message.page_size,
            token: &message.page_token,
        };
        let (audit_events, next_page_token) = self.page(&page).await?;
        Ok(Response::new(ListAuditEventsResponse { audit_events, next_page_token }))
    }

    async fn list_own_audit_events(
        &self,
        request: Request<ListOwnAuditEventsRequest>,
    ) -> Result<Response<ListOwnAuditEventsResponse>, Status> {
        let message = request.get_ref();
        let user = Principal::admitted(&request, None)?.user()?;
        let page = Page {
            method: "ListOwnAuditEvents",
            stream: user.uuid(),
            size: message.page_size,
            token: &message.page_token,
        };
        let (audit_events, next_page_token) = self.page(&page).await?;
        Ok(Response::new(ListOwnAuditEventsResponse { audit_events, next_page_token }))
    }

    async fn verify_audit_events(
        &self,
        request: Request<VerifyAuditEventsRequest>,
    ) -> Result<Response<VerifyAuditEventsResponse>, Status> {
        Principal::admitted(&request, None)?;
        let method = "VerifyAuditEvents";
        let behind = page::cursor(method, &[], &request.get_ref().page_token)?
            .map(|bytes| decode_cursor(&bytes).ok_or_else(rpc::Error::invalid_page_token))
            .transpose()?;
        let verified = self.store.verify_audit_events(behind, VERIFIED_MAX).await;
        let verified = verified.map_err(|failure| failed("", failure))?;
        let next = verified.next.map(|next| page::token(method, &[], &encode_cursor(&next)));
        Ok(Response::new(VerifyAuditEventsResponse {
            verified_events: verified.count,
            broken: verified.broken,
            next_page_token: next.unwrap_or_default(),
        }))
    }
}

/// What a call asks for of a stream.
struct Page<'a> {
    method: &'static str,
    stream: Uuid,
    size: i32,
    token: &'a str,
}

impl Api {
    async fn page(&self, page: &Page<'_>) -> Result<(Vec<AuditEvent>, String), rpc::Error> {
        let size = page::size(page.size)?;
        let stream = page.stream.to_string();
        let parameters = [&*stream];
        let before = page::cursor(page.method, &parameters, page.token)?
            .map(|bytes| bytes.try_into().map(i64::from_be_bytes))
            .transpose()
            .map_err(|_| rpc::Error::invalid_page_token())?;
        let listed = self.store.audit_events(page.stream, before, size).await;
        let (events, more) = listed.map_err(|failure| failed("", failure))?;
        let next = events
            .last()
            .filter(|_| more)
            .map(|last| page::token(page.method, &parameters, &last.sequence.to_be_bytes()));
        Ok((events, next.unwrap_or_default()))
    }
}

fn encode_cursor(last: &Verified) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CURSOR_BYTES);
    bytes.extend_from_slice(last.stream.as_bytes());
    bytes.extend_from_slice(&last.sequence.to_be_bytes());
    bytes.extend_from_slice(&last.hash);
    bytes
}

fn decode_cursor(bytes: &[u8]) -> Option<Verified> {
    let (stream, rest) = bytes.split_first_chunk::<16>()?;
    let (sequence, hash) = rest.split_first_chunk::<8>()?;
    Some(Verified {
        stream: Uuid::from_bytes(*stream),
        sequence: i64::from_be_bytes(*sequence),
        hash: hash.try_into().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_other_bytes_are_none() {
        let last = Verified { stream: Uuid::now_v7(), sequence: 7, hash: [9; 32] };
        assert_eq!(decode_cursor(&encode_cursor(&last)), Some(last));
        for length in (0..CURSOR_BYTES).chain([CURSOR_BYTES + 1]) {
            assert_eq!(decode_cursor(&vec![0; length]), None, "{length}");
        }
    }
}
