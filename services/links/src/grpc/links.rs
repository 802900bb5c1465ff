//! LinksService.

use jiff::Timestamp;
use prost::Message as _;
use proto::google::rpc::Status as WireStatus;
use proto::links::v1::links_service_server::LinksService;
use proto::links::v1::{
    BatchCreateLinksRequest, BatchCreateLinksResponse, BatchCreateLinksResult, CreateLinkRequest,
    CreateLinkResponse, DeleteLinkRequest, DeleteLinkResponse, GetLinkRequest, GetLinkResponse,
    ListLinksRequest, ListLinksResponse, UpdateLinkRequest, UpdateLinkResponse,
    batch_create_links_result,
};
use rpc::{Principal, kind, name, page, request_id};
use tonic::{Request, Response, Status};

use super::{Api, failed, identified, invalid, parse, refusal, replayed};
use crate::domain::{Cursor, Error, Filter, Link, Order, Violation};
use crate::store::{Creation, Edit, Listing, Outcome};
use crate::wire;

/// Links that one call creates, at most.
const BATCH_LINKS_MAX: usize = 10_000;

#[tonic::async_trait]
impl LinksService for Api {
    async fn create_link(
        &self,
        request: Request<CreateLinkRequest>,
    ) -> Result<Response<CreateLinkResponse>, Status> {
        let workspace = name::workspace("parent", &request.get_ref().parent)?;
        Principal::admitted(&request, workspace)?;
        let message = request.into_inner();
        let id = request_id::optional(&message.request_id)?;
        let fingerprint = request_id::fingerprint("CreateLink", &message);
        let link = message.link.ok_or_else(|| rpc::Error::invalid("link", "is required"))?;
        let draft = parse::draft(link).map_err(|violation| invalid("link", &violation))?;

        let request = id.map(|id| identified(workspace, id, &fingerprint));
        let creation = Creation { workspace, request, now: Timestamp::now() };
        let respond =
            |link: &Link| CreateLinkResponse { link: Some(wire::link(link, &self.origin)) };
        let keep = |results: &[Result<Link, Error>]| {
            results.iter().all(Result::is_ok).then(|| {
                results.iter().flatten().next().map(|link| respond(link).encode_to_vec())
            })?
        };
        let outcome = Box::pin(self.store.create_links(&creation, &[Ok(draft)], keep)).await;
        let response = match outcome.map_err(|failure| failed("link", failure))? {
            Outcome::Replayed(bytes) => replayed(&bytes)?,
            Outcome::Done(mut results) => {
                let result = results.pop().expect("one result for one draft");
                respond(&result.map_err(|error| refusal("link", error))?)
            }
        };
        Ok(Response::new(response))
    }

    async fn batch_create_links(
        &self,
        request: Request<BatchCreateLinksRequest>,
    ) -> Result<Response<BatchCreateLinksResponse>, Status> {
        let workspace = name::workspace("parent", &request.get_ref().parent)?;
        Principal::admitted(&request, workspace)?;
        let message = request.into_inner();
        let id = request_id::required(&message.request_id)?;
        let count = message.links.len();
        if count == 0 || count > BATCH_LINKS_MAX {
            let why = format!("must be 1 to {BATCH_LINKS_MAX}, are {count}");
            return Err(rpc::Error::invalid("links", why).into());
        }
        let fingerprint = request_id::fingerprint("BatchCreateLinks", &message);
        let drafts: Vec<_> =
            message.links.into_iter().map(|link| parse::draft(link).map_err(Error::from)).collect();

        let request = Some(identified(workspace, id, &fingerprint));
        let creation = Creation { workspace, request, now: Timestamp::now() };
        let keep =
            |results: &[Result<Link, Error>]| Some(self.batch_response(results).encode_to_vec());
        let outcome = Box::pin(self.store.create_links(&creation, &drafts, keep)).await;
        let response = match outcome.map_err(|failure| failed("link", failure))? {
            Outcome::Replayed(bytes) => replayed(&bytes)?,
            Outcome::Done(results) => self.batch_response(&results),
        };
        Ok(Response::new(response))
    }

    async fn get_link(
        &self,
        request: Request<GetLinkRequest>,
    ) -> Result<Response<GetLinkResponse>, Status> {
        let (workspace, link) =
            name::child::<kind::Link>("name", "links", &request.get_ref().name)?;
        Principal::admitted(&request, workspace)?;
        let link = self.store.link(workspace, link).await.map_err(|failure| failed("", failure))?;
        Ok(Response::new(GetLinkResponse { link: Some(wire::link(&link, &self.origin)) }))
    }

    async fn list_links(
        &self,
        request: Request<ListLinksRequest>,
    ) -> Result<Response<ListLinksResponse>, Status> {
        let message = request.get_ref();
        let workspace = name::workspace("parent", &message.parent)?;
        Principal::admitted(&request, workspace)?;
        let filter = Filter::parse(&message.filter).map_err(|violation| invalid("", &violation))?;
        let order = Order::parse(&message.order_by).map_err(|violation| invalid("", &violation))?;
        let size = page::size(message.page_size)?;
        let parameters = [&*message.parent, &*message.filter, &*message.order_by];
        let behind = page::cursor("ListLinks", &parameters, &message.page_token)?
            .map(|bytes| Cursor::decode(&bytes, order).ok_or_else(rpc::Error::invalid_page_token))
            .transpose()?;

        let listing = Listing { workspace, filter: &filter, order, behind, size };
        let (links, next) =
            self.store.list_links(&listing).await.map_err(|failure| failed("", failure))?;
        let token = |cursor: Cursor| page::token("ListLinks", &parameters, &cursor.encode());
        Ok(Response::new(ListLinksResponse {
            links: links.iter().map(|link| wire::link(link, &self.origin)).collect(),
            next_page_token: next.map_or_else(String::new, token),
        }))
    }

    async fn update_link(
        &self,
        request: Request<UpdateLinkRequest>,
    ) -> Result<Response<UpdateLinkResponse>, Status> {
        let message = request.get_ref();
        let UpdateLinkRequest { link: wanted, update_mask, request_id } = message;
        let wanted = wanted.as_ref().ok_or_else(|| rpc::Error::invalid("link", "is required"))?;
        let (workspace, link) = name::child::<kind::Link>("link.name", "links", &wanted.name)?;
        Principal::admitted(&request, workspace)?;
        let changes = parse::changes(wanted, update_mask.as_ref())?;

        let id = request_id::optional(request_id)?;
        let fingerprint = request_id::fingerprint("UpdateLink", message);
        let request = id.map(|id| identified(workspace, id, &fingerprint));
        let edit = Edit { workspace, link, etag: &wanted.etag, request, now: Timestamp::now() };
        let respond =
            |link: &Link| UpdateLinkResponse { link: Some(wire::link(link, &self.origin)) };
        let unless_moved = |link: &Link| {
            let fixed = [
                ("domain", link.host.as_str(), &wanted.domain),
                ("slug", link.slug.as_str(), &wanted.slug),
            ];
            match fixed.iter().find(|(_, is, wanted)| !wanted.is_empty() && *is != wanted.as_str())
            {
                Some((field, is, _)) => {
                    let why = format!("can't be changed, is `{is}`; create another link");
                    Err(Error::Invalid(Violation::new(field, why)))
                }
                None => Ok(changes),
            }
        };
        let keep = |link: &Link| respond(link).encode_to_vec();
        let updated = self.store.update_link(&edit, unless_moved, keep).await;
        Ok(Response::new(match updated.map_err(|failure| failed("link", failure))? {
            Outcome::Replayed(bytes) => replayed(&bytes)?,
            Outcome::Done(link) => respond(&link),
        }))
    }

    async fn delete_link(
        &self,
        request: Request<DeleteLinkRequest>,
    ) -> Result<Response<DeleteLinkResponse>, Status> {
        let message = request.get_ref();
        let (workspace, link) = name::child::<kind::Link>("name", "links", &message.name)?;
        Principal::admitted(&request, workspace)?;
        let id = request_id::optional(&message.request_id)?;
        let fingerprint = request_id::fingerprint("DeleteLink", message);
        let request = id.map(|id| identified(workspace, id, &fingerprint));
        let edit = Edit { workspace, link, etag: &message.etag, request, now: Timestamp::now() };
        self.store.delete_link(&edit).await.map_err(|failure| failed("", failure))?;
        Ok(Response::new(DeleteLinkResponse {}))
    }
}

impl Api {
    fn batch_response(&self, results: &[Result<Link, Error>]) -> BatchCreateLinksResponse {
        let result = |result: &Result<Link, Error>| match result {
            Ok(link) => batch_create_links_result::Result::Link(wire::link(link, &self.origin)),
            Err(error) => batch_create_links_result::Result::Error(status(error)),
        };
        let results =
            results.iter().map(|one| BatchCreateLinksResult { result: Some(result(one)) });
        BatchCreateLinksResponse { results: results.collect() }
    }
}

/// An item's error, with the details that CreateLink would send.
fn status(error: &Error) -> WireStatus {
    let status = Status::from(refusal("link", error.clone()));
    // The details of a gRPC status are this very message, encoded.
    WireStatus::decode(status.details()).unwrap_or_else(|_| WireStatus {
        code: i32::from(status.code()),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
