//! `linkmesh identity reseal`: what older keys have sealed is sealed with the active one, so that they can be taken out.

use anyhow::Context as _;
use prometheus_client::registry::Registry;

use crate::config::Config;
use crate::store::{Failure, ResealPlace, Store};

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Values that were resealed since the beginning.
    pub done: u64,
    /// Values that there were to reseal at the beginning; more may have come since, from processes with the old keyring.
    pub of: u64,
}

/// Reseals everything, up to `batch` values in a transaction, and says after each how far it has come. May be stopped at any moment
/// and begun again, and run while services serve.
///
/// # Errors
/// The keyring or Postgres can't be used, a value does not open, or `progress` fails; what was done until then stays done.
pub async fn reseal(
    config: &Config,
    batch: u32,
    mut progress: impl FnMut(Progress) -> anyhow::Result<()>,
) -> anyhow::Result<Progress> {
    let keyring = crate::keyring(config)?;
    let database = pg::Database::open(&config.postgres, &mut Registry::default())?;
    let store = Store::new(database.clone(), keyring, config.tokens.access_token_life());
    let of = store.values_to_reseal().await.map_err(failed)?;
    let mut so_far = Progress { done: 0, of: of.unsigned_abs() };
    progress(so_far)?;
    let mut place = ResealPlace::default();
    while let Some(count) =
        store.reseal_batch(&mut place, i64::from(batch)).await.map_err(failed)?
    {
        so_far.done += u64::try_from(count).context("a batch is no count")?;
        if count > 0 {
            progress(so_far)?;
        }
    }
    database.close().await;
    Ok(so_far)
}

fn failed(failure: Failure) -> anyhow::Error {
    match failure {
        Failure::Database(error) => anyhow::Error::new(error).context("Postgres"),
        Failure::Domain(_) | Failure::Corrupt(_) | Failure::Sealed(_) | Failure::Call(_) => {
            anyhow::anyhow!("{failure:?}")
        }
    }
}
