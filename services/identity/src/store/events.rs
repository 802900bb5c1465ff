//! What is told to others of a user, and what they ask for in return: ids alone.

use bus::topics::USER_EVENTS;
use jiff::Timestamp;
use pg::outbox::Change;
use prost::Message as _;
use proto::events::v1::UserEvent;
use proto::events::v1::user_event::Event;
use rpc::UserId;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Failure, Store};

impl Store {
    /// Adds an event to the transaction that makes it true.
    pub(super) async fn tell(
        &self,
        transaction: &mut PgConnection,
        user: UserId,
        event: Event,
        now: Timestamp,
    ) -> Result<(), Failure> {
        let change = Change {
            topic: USER_EVENTS.name.into(),
            key: user.as_bytes().to_vec(),
            value: UserEvent {
                event_id: Uuid::now_v7().as_bytes().to_vec(),
                user_id: user.as_bytes().to_vec(),
                time_unix_micros: now.as_microsecond().unsigned_abs(),
                event: Some(event),
            }
            .encode_to_vec(),
        };
        Ok(self.outbox.append(transaction, vec![change]).await?)
    }
}
