//! Request ids of calls, with what they stand for.
//!
//! What must stay true: an id that one caller has chosen means nothing in the calls of another. So each is looked up in a namespace: a
//! workspace's, a user's, or, where nobody is known yet, one that is made of whose call it says to be ([`Store::namespace`]).

use jiff::Timestamp;
use pg::requests::Request;
use prost::Message;
use rpc::{Principal, request_id};
use uuid::Uuid;

use crate::store::{Act, Store};

/// The request id of a call, if it has one, with what it stands for, and when the call came.
#[derive(Debug)]
pub(crate) struct Identified {
    namespace: Uuid,
    id: Option<Uuid>,
    fingerprint: [u8; 32],
    now: Timestamp,
}

/// What is kept of a request, to know it again.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kept<'a> {
    /// A hash of it.
    Hashed,
    /// A hash with a key of this store's: the request holds a secret or an address, and a bare hash of one could be tried against.
    Keyed(&'a Store),
}

impl Identified {
    pub(crate) fn new(
        namespace: Uuid,
        id: &str,
        method: &str,
        message: &impl Message,
        kept: Kept<'_>,
    ) -> Result<Self, rpc::Error> {
        let id = request_id::optional(id)?;
        let hash = request_id::fingerprint(method, message);
        let fingerprint = match kept {
            Kept::Hashed => hash,
            Kept::Keyed(store) => store.keyed_fingerprint(&hash),
        };
        Ok(Self { namespace, id, fingerprint, now: crate::grpc::now_in_micros() })
    }

    pub(crate) fn as_request(&self) -> Option<Request<'_>> {
        let fingerprint = &self.fingerprint;
        self.id.map(|id| Request { workspace: self.namespace, id, fingerprint })
    }

    /// What its caller does.
    pub(crate) fn act<'a>(&'a self, by: &'a Principal) -> Act<'a> {
        Act { by, request: self.as_request(), now: self.now }
    }
}
