//! AggregatorService: the operator's view. Every instance can answer, because what it does goes through the table.

use proto::analytics::v1::DeadLetter;
use proto::analytics::v1::ListDeadLettersRequest;
use proto::analytics::v1::ListDeadLettersResponse;
use proto::analytics::v1::ListPartitionsRequest;
use proto::analytics::v1::ListPartitionsResponse;
use proto::analytics::v1::Partition;
use proto::analytics::v1::RedriveDeadLettersRequest;
use proto::analytics::v1::RedriveDeadLettersResponse;
use proto::analytics::v1::ResumePartitionRequest;
use proto::analytics::v1::ResumePartitionResponse;
use proto::analytics::v1::aggregator_service_server::AggregatorService;
use proto::common::v1::ErrorReason;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use super::failed;
use super::range;
use crate::consume::folder::TOPIC;
use crate::domain::letter::Reason;
use crate::store::Store;
use crate::store::leases::PartitionView;
use crate::store::letters::StoredLetter;

const LIST_DEAD_LETTERS: &str = "ListDeadLetters";

/// The calls of AggregatorService.
#[derive(Clone, Debug)]
pub(crate) struct AggregatorApi {
    pub(crate) store: Store,
    pub(crate) bus: bus::Bus,
}

#[tonic::async_trait]
impl AggregatorService for AggregatorApi {
    async fn list_partitions(
        &self,
        _request: Request<ListPartitionsRequest>,
    ) -> Result<Response<ListPartitionsResponse>, Status> {
        let views = self.store.partitions().await.map_err(|error| failed(&error))?;
        let mut partitions = Vec::with_capacity(views.len());
        for view in views {
            partitions.push(self.partition(view).await?);
        }
        Ok(Response::new(ListPartitionsResponse { partitions }))
    }

    async fn resume_partition(
        &self,
        request: Request<ResumePartitionRequest>,
    ) -> Result<Response<ResumePartitionResponse>, Status> {
        let ResumePartitionRequest { partition, next_offset } = request.into_inner();
        let current = self.view(partition).await?;
        let end = self.end(current.partition).await?;
        if !(0..=end).contains(&next_offset) {
            let why = format!("must be 0 to the partition's end, {end}");
            return Err(rpc::Error::invalid("next_offset", why).into());
        }
        let resumed = self.store.resume(current.partition, next_offset).await;
        if !resumed.map_err(|error| failed(&error))? {
            let why = format!("partition {partition} is not halted");
            return Err(rpc::Error::state_conflict(why).into());
        }
        tracing::warn!(partition, next_offset, was = current.next_offset, "partition resumed");
        let partition = self.partition(self.view(partition).await?).await?;
        Ok(Response::new(ResumePartitionResponse { partition: Some(partition) }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let asked = request.into_inner();
        let size = rpc::page::size(asked.page_size)?;
        let after = match rpc::page::cursor(LIST_DEAD_LETTERS, &[], &asked.page_token)? {
            None => 0,
            Some(bytes) => {
                let id = bytes.try_into().map_err(|_| rpc::Error::invalid_page_token())?;
                i64::from_be_bytes(id)
            }
        };
        let letters = self.store.letters(after, size + 1).await;
        let mut letters = letters.map_err(|error| failed(&error))?;
        let more = letters.len() > size;
        letters.truncate(size);
        let next_page_token = match letters.last().filter(|_| more) {
            Some(last) => rpc::page::token(LIST_DEAD_LETTERS, &[], &last.id.to_be_bytes()),
            None => String::new(),
        };
        let dead_letters = letters.into_iter().map(dead_letter).collect();
        Ok(Response::new(ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn redrive_dead_letters(
        &self,
        request: Request<RedriveDeadLettersRequest>,
    ) -> Result<Response<RedriveDeadLettersResponse>, Status> {
        let RedriveDeadLettersRequest { reason, ignore_window } = request.into_inner();
        let reason = match reason.as_str() {
            "" => None,
            name => Some(Reason::named(name).ok_or_else(|| {
                let known: Vec<&str> = Reason::ALL.into_iter().map(Reason::name).collect();
                rpc::Error::invalid("reason", format!("must be one of {}", known.join(", ")))
            })?),
        };
        let requested = self.store.request_redrive(reason, ignore_window).await;
        let requested = requested.map_err(|error| failed(&error))?;
        let requested = i64::try_from(requested).unwrap_or(i64::MAX);
        Ok(Response::new(RedriveDeadLettersResponse { requested }))
    }
}

impl AggregatorApi {
    async fn view(&self, partition: i32) -> Result<PartitionView, rpc::Error> {
        let views = self.store.partitions().await.map_err(|error| failed(&error))?;
        let number = u32::try_from(partition).ok();
        let view = views.into_iter().find(|view| Some(view.partition) == number);
        view.ok_or_else(|| rpc::Error::not_found(format!("partition {partition}")))
    }

    async fn end(&self, partition: u32) -> Result<i64, rpc::Error> {
        self.bus.end_offset(TOPIC, partition).await.map_err(|error| {
            tracing::warn!(%error, "can't ask for a partition's end");
            rpc::Error::unavailable(ErrorReason::StoreUnavailable, "the log does not answer")
        })
    }

    async fn partition(&self, view: PartitionView) -> Result<Partition, rpc::Error> {
        let end_offset = self.end(view.partition).await?;
        Ok(Partition {
            partition: i32::try_from(view.partition).unwrap_or(i32::MAX),
            owner: view.owner.unwrap_or_default(),
            next_offset: view.next_offset,
            end_offset,
            halt_reason: view.halt_reason.unwrap_or_default(),
            lost_clicks: i64::try_from(view.lost_clicks).unwrap_or(i64::MAX),
        })
    }
}

fn dead_letter(stored: StoredLetter) -> DeadLetter {
    let letter = stored.letter;
    DeadLetter {
        partition: i32::try_from(stored.partition).unwrap_or(i32::MAX),
        incarnation: letter.incarnation.map_or_else(Vec::new, Vec::from),
        number: i64::try_from(letter.number).unwrap_or(i64::MAX),
        reason: letter.reason.name().to_owned(),
        detail: letter.detail,
        payload: letter.payload.to_vec(),
        create_time: range::time(stored.create_micros),
        redrive_time: stored.redrive_micros.and_then(range::time),
    }
}
