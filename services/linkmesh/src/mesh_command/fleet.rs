//! All instances of the mesh, as the first process that answers knows them: asked at once, each within a deadline.

use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream;
use mesh::Mesh;
use proto::mesh::v1::Endpoint;
use proto::mesh::v1::mesh_service_client::MeshServiceClient;
use proto::mesh::v1::mesh_service_server::SERVICE_NAME;
use tonic::Request;
use tonic::Response;
use tonic::Status;

use crate::operator::Operator;

/// How long one instance may take to answer, connecting included.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(3);
/// How many instances are asked at the same time.
const ASKED_MAX: usize = 64;

/// The instances, each with a channel of its own.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) instances: Vec<Instance>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) endpoint: Endpoint,
    mesh: Mesh,
}

/// What an instance answered, or why it did not.
pub(super) type Answer<'a, T> = (&'a Endpoint, Result<T, Status>);

impl Fleet {
    /// Those of a service; all if it is empty.
    pub(super) async fn find(operator: &Operator, service: &str) -> anyhow::Result<Fleet> {
        let known = operator.endpoints(service).await?.endpoints;
        let instances = known.into_iter().map(|endpoint| {
            let mesh = operator.channel_to(&endpoint, SERVICE_NAME)?;
            anyhow::Ok(Instance { endpoint, mesh })
        });
        Ok(Fleet { instances: instances.collect::<Result<_, _>>()? })
    }

    /// Who is there now: who has come is added, who has gone is left.
    pub(super) async fn refresh(
        &mut self,
        operator: &Operator,
        service: &str,
    ) -> anyhow::Result<()> {
        let known = operator.endpoints(service).await?.endpoints;
        let same =
            |a: &Endpoint, b: &Endpoint| (&a.instance, &a.address) == (&b.instance, &b.address);
        let mut gone = std::mem::take(&mut self.instances);
        for endpoint in known {
            let before = gone.iter().position(|instance| same(&instance.endpoint, &endpoint));
            let instance = match before {
                Some(at) => gone.swap_remove(at),
                None => Instance { mesh: operator.channel_to(&endpoint, SERVICE_NAME)?, endpoint },
            };
            self.instances.push(instance);
        }
        Fleet { instances: gone }.close().await;
        Ok(())
    }

    /// Asks all of them, and returns in their order.
    pub(super) async fn ask<T, F>(
        &self,
        ask: impl Fn(MeshServiceClient<Mesh>) -> F,
    ) -> Vec<Answer<'_, T>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let asked = self.instances.iter().map(|instance| {
            let answer = ask(instance.client());
            async move { (&instance.endpoint, answer.await.map(Response::into_inner)) }
        });
        stream::iter(asked).buffered(ASKED_MAX).collect().await
    }

    /// Ends all connections.
    pub(super) async fn close(self) {
        let closing = self.instances.iter().map(|instance| instance.mesh.close());
        futures_util::future::join_all(closing).await;
    }
}

impl Instance {
    pub(super) fn client(&self) -> MeshServiceClient<Mesh> {
        MeshServiceClient::new(self.mesh.clone())
    }
}

/// A question that waits for its answer for a few seconds.
pub(super) fn question<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_WAIT_MAX);
    request
}

/// Those who answered; the others are complained of on standard error, so that nobody takes a part for the whole.
pub(super) fn answered<T>(answers: Vec<Answer<'_, T>>) -> anyhow::Result<Vec<T>> {
    let asked = answers.len();
    let (answered, problems) = sorted(answers);
    anyhow::ensure!(
        !answered.is_empty() || asked == 0,
        "no instance answered; `linkmesh mesh check` looks for the reason\n  {}",
        problems.join("\n  ")
    );
    for problem in problems {
        crate::print::problem(&format!("not counted: {problem}"));
    }
    Ok(answered)
}

/// Those who answered, and why the others did not.
pub(super) fn sorted<T>(answers: Vec<Answer<'_, T>>) -> (Vec<T>, Vec<String>) {
    let mut problems = Vec::new();
    let mut answered = Vec::new();
    for (endpoint, answer) in answers {
        match answer {
            Ok(answer) => answered.push(answer),
            Err(status) => problems.push(format!("{}: {}", endpoint.instance, status.message())),
        }
    }
    (answered, problems)
}
