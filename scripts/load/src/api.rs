//! What the generator asks of the API, over gRPC: links are made, counts are read.

use crate::Options;
use crate::Split;
use crate::Target;
use anyhow::Context as _;
use proto::analytics::v1::BreakDownClicksRequest;
use proto::analytics::v1::ClickCounts;
use proto::analytics::v1::CountClicksRequest;
use proto::analytics::v1::Dimension;
use proto::analytics::v1::analytics_service_client::AnalyticsServiceClient;
use proto::links::v1::BatchCreateLinksRequest;
use proto::links::v1::BatchCreateLinksResponse;
use proto::links::v1::Link;
use proto::links::v1::batch_create_links_result::Result as Created;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::collections::HashMap;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Status;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;
use tonic::transport::Endpoint;

/// Links in one BatchCreateLinks call.
const BATCH_LINKS_MAX: usize = 1_000;
/// Items on one page of BreakDownClicks.
const PAGE_ITEMS: i32 = 1_000;
/// How many pages one reading may have: a million links.
const PAGES_MAX: usize = 1_000;
/// How long one call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the API may be away before the run is given up.
const AWAY_MAX: Duration = Duration::from_secs(120);
/// Between two tries of a call that is safe to repeat.
const RETRY_WAIT: Duration = Duration::from_millis(250);
/// A page of 1,000 links and more.
const REPLY_BYTES_MAX: usize = 16 << 20;

/// A client of the API through any of the edges.
#[derive(Debug)]
pub(crate) struct Api {
    channels: Vec<Channel>,
    authorization: AsciiMetadataValue,
    workspace: String,
}

/// What the API reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// By position in the list of links.
    pub(crate) links: Vec<Split>,
    /// The workspace's total.
    pub(crate) total: Split,
}

impl Api {
    pub(crate) fn new(options: &Options) -> anyhow::Result<Self> {
        let channel = |url: &String| {
            let endpoint = Endpoint::from_shared(url.clone())?.timeout(CALL_TIMEOUT);
            anyhow::Ok(endpoint.connect_timeout(CALL_TIMEOUT).connect_lazy())
        };
        let channels = options.urls.iter().map(channel).collect::<anyhow::Result<_>>()?;
        let authorization =
            format!("Bearer {}", options.api_key).parse().context("the API key is no header")?;
        Ok(Self { channels, authorization, workspace: options.workspace.clone() })
    }

    pub(crate) async fn create_links(&self, options: &Options) -> anyhow::Result<Vec<Target>> {
        let mut targets = Vec::with_capacity(options.links);
        while targets.len() < options.links {
            let first = targets.len();
            let count = BATCH_LINKS_MAX.min(options.links - first);
            let request = BatchCreateLinksRequest {
                parent: self.workspace.clone(),
                links: (first..first + count).map(new_link).collect(),
                request_id: uuid::Uuid::new_v4().to_string(),
            };
            let response: BatchCreateLinksResponse = self
                .patiently(|channel| {
                    let request = self.request(request.clone());
                    async move {
                        let client = LinksServiceClient::new(channel);
                        let mut client = client.max_decoding_message_size(REPLY_BYTES_MAX);
                        client.batch_create_links(request).await
                    }
                })
                .await?;
            anyhow::ensure!(response.results.len() == count, "not as many results as links");
            for item in response.results {
                match item.result {
                    Some(Created::Link(link)) => {
                        targets.push(Target {
                            name: link.name,
                            host: link.domain,
                            slug: link.slug,
                        });
                    }
                    Some(Created::Error(error)) => {
                        anyhow::bail!("a link failed: {}", error.message)
                    }
                    None => anyhow::bail!("a result is empty"),
                }
            }
        }
        Ok(targets)
    }

    /// Reads the counts of these links, all pages, and the workspace's total.
    pub(crate) async fn counted(&self, links: &[Target]) -> anyhow::Result<Counted> {
        let positions: HashMap<&str, usize> =
            links.iter().enumerate().map(|(at, link)| (link.name.as_str(), at)).collect();
        let mut counted =
            Counted { links: vec![Split::default(); links.len()], ..Counted::default() };
        let mut page_token = String::new();
        for _ in 0..PAGES_MAX {
            let request = BreakDownClicksRequest {
                parent: self.workspace.clone(),
                dimension: Dimension::Link.into(),
                page_size: PAGE_ITEMS,
                page_token,
                ..BreakDownClicksRequest::default()
            };
            let page = self
                .patiently(|channel| {
                    let request = self.request(request.clone());
                    async move { AnalyticsServiceClient::new(channel).break_down_clicks(request).await }
                })
                .await?;
            for share in &page.shares {
                if let Some(position) = positions.get(share.value.as_str()) {
                    counted.links[*position] =
                        counted.links[*position] + split(share.counts.as_ref());
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        let request = CountClicksRequest { parent: self.workspace.clone(), ..Default::default() };
        let response = self
            .patiently(|channel| {
                let request = self.request(request.clone());
                async move { AnalyticsServiceClient::new(channel).count_clicks(request).await }
            })
            .await?;
        counted.total = split(response.counts.as_ref());
        Ok(counted)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    /// Makes a call that is safe to repeat, through one edge after the other, until one answers.
    async fn patiently<T, F>(&self, call: impl Fn(Channel) -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let start = Instant::now();
        for channel in self.channels.iter().cycle() {
            match call(channel.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) if is_worth_a_retry(&status) && start.elapsed() < AWAY_MAX => {
                    tokio::time::sleep(RETRY_WAIT).await;
                }
                Err(status) => anyhow::bail!("{:?}: {}", status.code(), status.message()),
            }
        }
        anyhow::bail!("there is no edge to ask")
    }
}

fn is_worth_a_retry(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::ResourceExhausted
    ) || std::error::Error::source(status).is_some()
}

fn new_link(number: usize) -> Link {
    Link { destination_uri: format!("https://example.com/load/{number}"), ..Link::default() }
}

fn split(counts: Option<&ClickCounts>) -> Split {
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    counts.map_or_else(Split::default, |counts| Split {
        people: number(counts.clicks),
        bots: number(counts.bot_clicks),
    })
}
