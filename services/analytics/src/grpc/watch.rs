//! WatchClicks: a watch as a stream of messages.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use futures_util::Stream;
use futures_util::stream;
use proto::analytics::v1::WatchClicksResponse;
use proto::analytics::v1::WatchedClick;
use proto::common::v1::ErrorReason;
use rpc::Id;
use rpc::WorkspaceId;
use rpc::kind;
use tonic::Status;
use uuid::Uuid;

use super::range;
use super::range::Subject;
use crate::consume::tail::Filter;
use crate::consume::tail::Placed;
use crate::consume::tail::Tail;
use crate::consume::watch::Watch;
use crate::consume::watch::WatchError;
use crate::domain::click::Click;
use crate::domain::position::Positions;

/// What a watcher that was refused waits before it tries again.
const RETRY_WAIT: Duration = Duration::from_secs(5);
/// A token names at most 4,096 partitions.
const TOKEN_BYTES_MAX: usize = 70_000;

/// The stream of one call.
pub(super) async fn stream(
    tail: &Arc<Tail>,
    subject: &Subject,
    resume_token: &str,
) -> Result<impl Stream<Item = Result<WatchClicksResponse, Status>> + Send + use<>, rpc::Error> {
    let resume = match resume_token {
        "" => None,
        token => Some(decode(token).ok_or_else(|| refused(&WatchError::UnknownPlace))?),
    };
    let filter = Filter {
        workspace: *subject.workspace.as_bytes(),
        links: subject.links.iter().map(|link| link.into_bytes()).collect(),
    };
    let watch = Watch::begin(Arc::clone(tail), filter, resume).await;
    let watch = watch.map_err(|error| refused(&error))?;
    let workspace = subject.workspace;
    Ok(stream::unfold(Some(watch), move |watch| async move {
        let mut watch = watch?;
        match watch.next().await {
            Ok(Some((placed, positions))) => {
                Some((Ok(message(workspace, placed, &positions)), Some(watch)))
            }
            Ok(None) => None,
            Err(error) => Some((Err(refused(&error).into()), None)),
        }
    }))
}

fn message(
    workspace: WorkspaceId,
    placed: Option<Placed>,
    positions: &Positions,
) -> WatchClicksResponse {
    WatchClicksResponse {
        click: placed.map(|placed| watched(workspace, &placed.click)),
        resume_token: BASE64_URL_SAFE_NO_PAD.encode(positions.encode()),
    }
}

fn watched(workspace: WorkspaceId, click: &Click) -> WatchedClick {
    let link = Id::<kind::Link>::from(Uuid::from_bytes(click.link));
    WatchedClick {
        link: format!("workspaces/{workspace}/links/{link}"),
        click_time: range::time(click.time_micros),
        country: click.country.clone(),
        city: click.city.clone(),
        device: click.agent.device.name().to_owned(),
        os: click.agent.os.clone(),
        browser: click.agent.browser.clone(),
        referrer: click.referrer.clone(),
        bot_reason: click.bot.map_or("", |reason| reason.name()).to_owned(),
    }
}

fn decode(token: &str) -> Option<Positions> {
    if token.len() > TOKEN_BYTES_MAX {
        return None;
    }
    Positions::decode(&BASE64_URL_SAFE_NO_PAD.decode(token).ok()?)
}

fn refused(error: &WatchError) -> rpc::Error {
    match error {
        WatchError::Full(_) | WatchError::FellBehind => {
            rpc::Error::overloaded(error.to_string(), RETRY_WAIT)
        }
        WatchError::UnknownPlace | WatchError::Overtaken => {
            rpc::Error::invalid("resume_token", error.to_string())
        }
        WatchError::Unavailable(detail) => {
            tracing::warn!(detail, "a watch can't go on");
            rpc::Error::unavailable(ErrorReason::StoreUnavailable, "the log can't be read now")
        }
    }
}
