//! One deadline for a call and all that is called for it.

use crate::backend::Backend;
use crate::backend::Behaviour;
use crate::world::World;
use crate::world::eventually;
use crate::world::reason;
use proto::links::v1::GetLinkRequest;
use proto::links::v1::links_service_client::LinksServiceClient;
use std::time::Duration;
use std::time::Instant;
use tonic::Code;
use tonic::Request;
use tonic::Status;

/// Three services of which each asks the next, and who asks the first.
struct Chain {
    worlds: [World; 3],
    hops: [Backend; 3],
}

impl Chain {
    async fn start(last: Behaviour) -> Self {
        let first = World::new();
        let worlds = [first.beside(), first.beside(), first];
        let hops = [
            Backend::start(&worlds[0], "links-1", Behaviour::CallOn).await,
            Backend::start(&worlds[1], "links-2", Behaviour::CallOn).await,
            Backend::start(&worlds[2], "links-3", last).await,
        ];
        hops[0].calls_on(worlds[1].mesh("analytics"));
        hops[1].calls_on(worlds[2].mesh("analytics"));
        Self { worlds, hops }
    }

    async fn call(&self, request: Request<GetLinkRequest>) -> Result<(), Status> {
        let mut client = LinksServiceClient::new(self.worlds[0].mesh("edge"));
        client.get_link(request).await.map(|_| ())
    }
}

fn within(timeout: Duration) -> Request<GetLinkRequest> {
    let mut request = Request::new(GetLinkRequest::default());
    request.set_timeout(timeout);
    request
}

#[tokio::test]
async fn a_deadline_goes_down_a_chain_of_services_and_only_shrinks() {
    let chain = Chain::start(Behaviour::Answer).await;
    chain.call(within(Duration::from_secs(5))).await.unwrap();
    let left = chain.hops.each_ref().map(|hop| hop.seen().time_left.unwrap());
    assert!(left[0] <= Duration::from_secs(5), "{left:?}");
    assert!(left[1] < left[0] && left[2] < left[1], "{left:?}");
    assert!(left[2] > Duration::from_secs(1), "{left:?}");
}

/// Clocks differ: what travels is how long is left (gRPC over HTTP/2, "Timeout"), and never a time of day.
#[tokio::test]
async fn what_is_left_of_a_deadline_travels_so_no_clock_has_to_agree_with_another() {
    let chain = Chain::start(Behaviour::Answer).await;
    chain.call(within(Duration::from_secs(5))).await.unwrap();
    for hop in &chain.hops {
        let metadata = hop.seen().metadata;
        let timeout = metadata.get("grpc-timeout").unwrap().to_str().unwrap();
        let now = Instant::now();
        let left = rpc::Deadline::parse(timeout, now).unwrap().left(now);
        assert!(left <= Duration::from_secs(5) && left > Duration::from_secs(1), "{timeout}");
        // Nor anything else by which a clock would be read.
        let mut names: Vec<_> = metadata.keys().map(|key| format!("{key:?}")).collect();
        names.retain(|name| {
            !["grpc-timeout", "te", "content-type", "user-agent", "traceparent", "tracestate"]
                .iter()
                .any(|known| name.contains(known))
        });
        assert!(names.is_empty(), "does it tell the time? {names:?}");
    }
}

#[tokio::test]
async fn a_chain_whose_end_hangs_ends_at_the_first_callers_deadline() {
    let chain = Chain::start(Behaviour::Hang).await;
    // Connections are there, so that what is measured is the deadline.
    chain.hops[2].behave(Behaviour::Answer);
    chain.call(within(Duration::from_secs(5))).await.unwrap();
    chain.hops[2].behave(Behaviour::Hang);
    let started = Instant::now();
    let error = chain.call(within(Duration::from_millis(300))).await.unwrap_err();
    assert_eq!(
        (error.code(), reason(&error).as_str()),
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    let elapsed = started.elapsed();
    assert!((300..3_000).contains(&elapsed.as_millis()), "{elapsed:?}");
    // Nobody goes on with what nobody waits for.
    for hop in &chain.hops {
        eventually("the handler's end", || async { hop.under_way() == 0 }).await;
    }
}

#[tokio::test]
async fn a_task_that_a_handler_spawns_inherits_no_deadline() {
    let chain = Chain::start(Behaviour::Answer).await;
    chain.hops[1].behave(Behaviour::CallOnFromATask);
    chain.call(within(Duration::from_secs(5))).await.unwrap();
    assert!(chain.hops[1].seen().time_left.unwrap() < Duration::from_secs(5));
    assert!(chain.hops[2].seen().time_left.unwrap() > Duration::from_secs(5), "the default");
}

#[tokio::test]
async fn how_much_a_call_matters_goes_down_the_chain_as_well() {
    let chain = Chain::start(Behaviour::Answer).await;
    let mut request = within(Duration::from_secs(10));
    request.metadata_mut().insert("linkmesh-criticality", "sheddable".parse().unwrap());
    chain.call(request).await.unwrap();
    let seen = chain.hops[2].seen().metadata;
    assert_eq!(seen.get("linkmesh-criticality").unwrap(), "sheddable");
}
