//! DomainsService.

use jiff::Timestamp;
use prost::Message as _;
use proto::links::v1::domains_service_server::DomainsService;
use proto::links::v1::{
    CreateDomainRequest, CreateDomainResponse, DeleteDomainRequest, DeleteDomainResponse,
    GetDomainRequest, GetDomainResponse, ListDomainsRequest, ListDomainsResponse,
};
use rpc::{Principal, WorkspaceId, name, page, request_id};
use tonic::{Request, Response, Status};

use super::{Api, failed, identified, invalid, replayed};
use crate::domain::{Domain, Host};
use crate::store::Outcome;
use crate::wire;

#[tonic::async_trait]
impl DomainsService for Api {
    async fn create_domain(
        &self,
        request: Request<CreateDomainRequest>,
    ) -> Result<Response<CreateDomainResponse>, Status> {
        let workspace = name::workspace("parent", &request.get_ref().parent)?;
        Principal::admitted(&request, workspace)?;
        let message = request.into_inner();
        let id = request_id::optional(&message.request_id)?;
        let fingerprint = request_id::fingerprint("CreateDomain", &message);
        let wanted = message.domain.ok_or_else(|| rpc::Error::invalid("domain", "is required"))?;
        let host =
            Host::parse("host", &wanted.host).map_err(|violation| invalid("domain", &violation))?;

        let domain = Domain {
            host,
            workspace: Some(workspace),
            case_sensitive: wanted.case_sensitive,
            create_time: now_in_micros(),
        };
        let response = CreateDomainResponse { domain: Some(wire::domain(&domain)) };
        let request = id.map(|id| identified(workspace, id, &fingerprint));
        let outcome = self.store.create_domain(&domain, request, || response.encode_to_vec()).await;
        Ok(Response::new(match outcome.map_err(|failure| failed("domain", failure))? {
            Outcome::Replayed(bytes) => replayed(&bytes)?,
            Outcome::Done(()) => response,
        }))
    }

    async fn get_domain(
        &self,
        request: Request<GetDomainRequest>,
    ) -> Result<Response<GetDomainResponse>, Status> {
        let (workspace, host) = named(&request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let domain =
            self.store.domain(workspace, &host).await.map_err(|failure| failed("", failure))?;
        Ok(Response::new(GetDomainResponse { domain: Some(wire::domain(&domain)) }))
    }

    async fn list_domains(
        &self,
        request: Request<ListDomainsRequest>,
    ) -> Result<Response<ListDomainsResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent];
        let cursor = page::cursor("ListDomains", &parameters, &message.page_token)?;
        // A forged one may hold a NUL, which the store does not take.
        let behind = String::from_utf8(cursor.unwrap_or_default())
            .ok()
            .filter(|behind| !behind.contains('\0'))
            .ok_or_else(rpc::Error::invalid_page_token)?;

        let listed = self.store.list_domains(workspace, &behind, size).await;
        let (domains, more) = listed.map_err(|failure| failed("", failure))?;
        let next = domains
            .last()
            .filter(|_| more)
            .map(|last| page::token("ListDomains", &parameters, last.host.as_str().as_bytes()));
        Ok(Response::new(ListDomainsResponse {
            domains: domains.iter().map(wire::domain).collect(),
            next_page_token: next.unwrap_or_default(),
        }))
    }

    async fn delete_domain(
        &self,
        request: Request<DeleteDomainRequest>,
    ) -> Result<Response<DeleteDomainResponse>, Status> {
        let message = request.get_ref();
        let (workspace, host) = named(&message.name)?;
        Principal::admitted(&request, workspace)?;
        let id = request_id::optional(&message.request_id)?;
        let fingerprint = request_id::fingerprint("DeleteDomain", message);
        let request = id.map(|id| identified(workspace, id, &fingerprint));
        let now_micros = now_in_micros().as_microsecond();
        let deleted = self.store.delete_domain(workspace, &host, request, now_micros).await;
        deleted.map_err(|failure| failed("", failure))?;
        Ok(Response::new(DeleteDomainResponse {}))
    }
}

/// `workspaces/{workspace}/domains/{host}`.
fn named(text: &str) -> Result<(WorkspaceId, Host), rpc::Error> {
    let (workspace, host) = name::child_text("name", "domains", text)?;
    let host = Host::parse_any("name", host).map_err(|violation| invalid("", &violation))?;
    Ok((workspace, host))
}

/// The present, cut to the microseconds that are kept, so that the first answer is the later ones'.
fn now_in_micros() -> Timestamp {
    Timestamp::from_microsecond(Timestamp::now().as_microsecond())
        .expect("it came from a timestamp")
}
