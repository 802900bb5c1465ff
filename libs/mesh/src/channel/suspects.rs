//! Asks instances that left the registry without a word whether they are still there.

use super::connection::Peer;
use super::endpoint::Endpoint;
use super::reach::instance_at;
use super::reach::instance_on;
use crate::identity::Identity;
use std::sync::Arc;

/// What came of it.
pub(super) struct Answer {
    pub(super) instance: String,
    pub(super) address: String,
    pub(super) answered: bool,
}

/// Asks one: on its connection, or on one for the question.
pub(super) async fn ask(endpoint: Arc<Endpoint>, identity: Identity) -> Answer {
    let Endpoint { instance, address, service, .. } = &*endpoint;
    let found = match endpoint.connection() {
        Some(connection) => instance_on(&connection).await.ok(),
        None => None,
    };
    // A connection whose streams are all in use can't be asked, and says nothing of the instance.
    let found = match found {
        Some(found) => Ok(found),
        None => instance_at(Peer { address, service, endpoint: None }, &identity).await,
    };
    let answered = match found {
        Ok(found) => found == *instance,
        Err(error) => {
            let error = format!("{error:#}");
            tracing::debug!(instance, error, "a suspect does not answer");
            false
        }
    };
    Answer { instance: instance.clone(), address: address.clone(), answered }
}
