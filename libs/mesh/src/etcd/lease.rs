//! Keeps an instance registered: a lease, the keys under it, and both anew whenever they are lost.

use super::Members;
use super::answer;
use super::value;
use crate::backoff::Backoff;
use crate::registry::Instance;
use crate::registry::Registration;
use anyhow::Context as _;
use anyhow::bail;
use anyhow::ensure;
use etcd_client::Client;
use etcd_client::LeaseKeepAliveStream;
use etcd_client::LeaseKeeper;
use etcd_client::PutOptions;
use etcd_client::Txn;
use etcd_client::TxnOp;
use jiff::Timestamp;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long an instance that says nothing stays registered. Short, because it is only ever a hint: who still answers
/// stays in use.
const LEASE_TTL: Duration = Duration::from_secs(5);
/// How often the lease is renewed.
const RENEW_EVERY: Duration = Duration::from_millis(1_500);
/// How long etcd may leave renewals unanswered before the connection is given up.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// The waits between two attempts: an instance is back within this of etcd's return.
const RETRY_WAIT: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// etcd's limit of operations in one transaction, less some room.
const KEYS_PER_TRANSACTION_MAX: usize = 100;

const _: () = assert!(SILENCE_MAX.as_millis() < LEASE_TTL.as_millis());
const _: () = assert!(RENEW_EVERY.as_millis() * 2 < SILENCE_MAX.as_millis());

/// What is to become of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    Serving,
    Draining,
    Gone,
}

/// What is wanted, and how often that has changed: by the number one tells which change etcd has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Order {
    pub(super) wanted: Wanted,
    pub(super) number: u64,
}

/// What is held under a lease.
pub(super) trait Hold: Send {
    /// For the log.
    fn name(&self) -> &str;

    /// Puts the keys under a lease, which may hold them already.
    fn put(
        &mut self,
        client: &mut Client,
        lease: i64,
        draining: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// The keys of an instance.
pub(super) struct Registered {
    instance: Instance,
    grpc_services: Vec<String>,
}

/// Works towards what is wanted until the registration is gone, or the task is ended.
pub(super) async fn keep<H: Hold>(
    members: Members,
    held: H,
    mut orders: watch::Receiver<Order>,
    reached: watch::Sender<Option<u64>>,
) {
    let mut holder = Holder { held, lease: None, reached };
    let mut backoff = Backoff::new(RETRY_WAIT.0, RETRY_WAIT.1);
    let mut away = false;
    loop {
        let mut registered = false;
        let Err(error) = holder.hold(&members, &mut orders, &mut registered).await else {
            return;
        };
        if registered {
            backoff.reset();
        }
        if registered || !away {
            tracing::warn!(
                instance = holder.held.name(),
                error = format!("{error:#}"),
                "the registration in etcd is not kept up; trying again"
            );
        }
        away = !registered;
        tokio::time::sleep(backoff.next()).await;
    }
}

struct Holder<H> {
    held: H,
    /// The lease that was last granted; it may have run out since.
    lease: Option<i64>,
    /// The number of the last order that etcd has.
    reached: watch::Sender<Option<u64>>,
}

impl<H: Hold> Holder<H> {
    /// Returns `Ok` when the registration is gone, as wanted.
    async fn hold(
        &mut self,
        members: &Members,
        orders: &mut watch::Receiver<Order>,
        registered: &mut bool,
    ) -> anyhow::Result<()> {
        let mut client = members.connect().await?;
        let lease = self.lease(&mut client).await?;
        let (mut keeper, mut answers) = self.renew(&mut client, lease).await?;
        // Also with a lease that still lives: what was written before the disconnect may not have arrived.
        let order = *orders.borrow_and_update();
        if self.reach(&mut client, lease, order).await? {
            return Ok(());
        }
        *registered = true;

        let mut renew = tokio::time::interval(RENEW_EVERY);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                message = answers.message() => {
                    heard = Instant::now();
                    let message = message?.context("etcd closed the lease's stream")?;
                    if message.ttl() <= 0 {
                        self.lease = None;
                        bail!("the lease was lost");
                    }
                }
                _ = renew.tick() => {
                    ensure!(heard.elapsed() < SILENCE_MAX, "etcd is silent");
                    answer(keeper.keep_alive()).await?;
                }
                changed = orders.changed() => {
                    changed.context("nobody wants the registration any more")?;
                    let order = *orders.borrow_and_update();
                    if self.reach(&mut client, lease, order).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// The lease held before, or a new one.
    async fn lease(&mut self, client: &mut Client) -> anyhow::Result<i64> {
        if let Some(lease) = self.lease {
            return Ok(lease);
        }
        let ttl = i64::try_from(LEASE_TTL.as_secs()).expect("a few seconds");
        let lease = answer(client.lease_grant(ttl, None)).await?.id();
        self.lease = Some(lease);
        Ok(lease)
    }

    async fn renew(
        &mut self,
        client: &mut Client,
        lease: i64,
    ) -> anyhow::Result<(LeaseKeeper, LeaseKeepAliveStream)> {
        let renewed = answer(client.lease_keep_alive(lease)).await;
        if let Err(error) = &renewed
            && is_lease_lost(error)
        {
            self.lease = None;
        }
        renewed
    }

    /// Returns whether that was the end.
    async fn reach(
        &mut self,
        client: &mut Client,
        lease: i64,
        Order { wanted, number }: Order,
    ) -> anyhow::Result<bool> {
        // Whoever only sees the deletion must have seen `draining` before, or it takes the instance for suspect.
        let put = self.held.put(client, lease, wanted != Wanted::Serving).await;
        if let Err(error) = &put
            && is_lease_lost(error)
        {
            self.lease = None;
        }
        put?;
        if wanted == Wanted::Gone {
            // Only what this lease holds: another instance may have taken the name over.
            answer(client.lease_revoke(lease)).await?;
        }
        self.reached.send_replace(Some(number));
        Ok(wanted == Wanted::Gone)
    }
}

impl Registered {
    pub(super) fn new(registration: Registration) -> Self {
        let instance = Instance::new(&registration, Timestamp::now());
        Self { instance, grpc_services: registration.grpc_services }
    }
}

impl Hold for Registered {
    fn name(&self) -> &str {
        &self.instance.instance
    }

    /// All keys of the instance, in one revision.
    async fn put(&mut self, client: &mut Client, lease: i64, draining: bool) -> anyhow::Result<()> {
        self.instance.draining = draining;
        let value = value::encode(&self.instance);
        for grpc_services in self.grpc_services.chunks(KEYS_PER_TRANSACTION_MAX) {
            let puts: Vec<TxnOp> = grpc_services
                .iter()
                .map(|grpc_service| {
                    let key = value::key(grpc_service, &self.instance.instance);
                    let options = PutOptions::new().with_lease(lease);
                    TxnOp::put(key, value.clone(), Some(options))
                })
                .collect();
            answer(client.txn(Txn::new().and_then(puts))).await?;
        }
        Ok(())
    }
}

fn is_lease_lost(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<etcd_client::Error>() {
        Some(etcd_client::Error::LeaseKeepAliveError(_)) => true,
        Some(etcd_client::Error::GRpcStatus(status)) => status.code() == tonic::Code::NotFound,
        _ => false,
    }
}
