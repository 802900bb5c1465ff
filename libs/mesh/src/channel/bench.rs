//! What is measured one by one: the choice of an endpoint and the bookkeeping of a call, without a connection.

use super::bare::Bare;
use super::flight::Flight;
use super::routes::Picked;
use crate::policy::Policy;
use crate::registry::Registration;
use std::fmt;
use std::time::Instant;
use tonic::Code;

/// A service with endpoints that lead nowhere, under the default policy.
pub struct Pick(Bare);

impl fmt::Debug for Pick {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pick").field("endpoints", &self.0.endpoints.len()).finish()
    }
}

impl Pick {
    /// A service with this many endpoints, all of them ready.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn new(endpoints: usize) -> Self {
        assert!(endpoints > 0, "there is something to choose");
        let registration = |at: usize| {
            let address = format!("127.0.0.1:{at}");
            Registration::new(&format!("links-{at}"), "links", &address, &[])
        };
        let registrations = (0..endpoints).map(registration).collect();
        Self(Bare::new(Policy::default_of("links"), registrations, Instant::now()))
    }

    /// All that a call costs beside the request and the response: an endpoint is chosen, a stream reserved, the call begins, is
    /// answered and ends well, the stream is given back.
    ///
    /// # Panics
    /// If no endpoint is ready, which can't be.
    pub fn call(&self) {
        let started = Instant::now();
        let Picked::Endpoint(endpoint, stream) = self.0.pick(&[], None, started) else {
            panic!("every endpoint is ready");
        };
        let mut flight = Flight::begin(endpoint, stream, started, None);
        flight.answered();
        flight.finish(Code::Ok);
    }
}
