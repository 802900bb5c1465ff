//! `linkmesh mesh cert rotate-root`: another root in place of the one that everyone trusts, without a failed call.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use anyhow::bail;
use anyhow::ensure;
use clap::Args;
use clap::ValueEnum;
use jiff::Timestamp;
use mesh::LocalAuthority;
use mesh::identity::Rotation;

use super::status;
use super::status::Seen;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::Vouching;
use crate::print;

/// How often everyone is asked whether they are there.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Replace the root of the certificate authority, step by step, while everything goes on
///
/// prepare: a second root is made, and trusted. activate: it issues; the first is trusted still, and whoever has a certificate
/// of it gets another within minutes. finish: the first is trusted no more. Between the steps every instance is asked whether it
/// is there yet. Works on the authority's folder, which every control reads; where that is a Kubernetes Secret, take one step
/// (--step), put the folder's files into the Secret, and take the next.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh cert rotate-root
  linkmesh mesh cert rotate-root --step prepare --authority authority/
  linkmesh mesh cert status                        who trusts what, and has a certificate of which root")]
pub(crate) struct Arguments {
    /// Take only this step, if everyone is ready for it
    #[arg(long, value_enum, value_name = "STEP")]
    step: Option<Step>,
    /// How long to wait for everyone before a step
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = super::duration)]
    wait: Duration,
    /// Take the step whoever is not ready; they are refused by the others then
    #[arg(long, requires = "step")]
    force: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Make a second root, to be trusted
    Prepare,
    /// Have it issue
    Activate,
    /// Trust the first no more
    Finish,
}

/// Takes one step, or all that are left.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { step, wait, force, place } = arguments;
    let Vouching::Authority(folder) = place.vouching()? else {
        bail!("the root is in the authority's folder: name it with --authority");
    };
    if let Some(step) = step {
        if !force {
            let behind = behind(&folder, &place, step).await?;
            ensure!(behind.is_empty(), "not ready for it yet: {}", behind.join("; "));
        }
        return take(&folder, step);
    }
    let first = match Rotation::of(&folder)? {
        Rotation::Settled => 0,
        Rotation::Prepared { .. } => 1,
        Rotation::Activated { .. } => 2,
    };
    for step in &[Step::Prepare, Step::Activate, Step::Finish][first..] {
        ready(&folder, &place, *step, wait).await?;
        take(&folder, *step)?;
    }
    Ok(())
}

async fn ready(folder: &Path, place: &Place, step: Step, wait: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut said = String::new();
    loop {
        // A rotation must survive that an instance restarts meanwhile.
        let behind = match behind(folder, place, step).await {
            Ok(behind) if behind.is_empty() => return Ok(()),
            Ok(behind) => behind.join("; "),
            Err(error) => format!("{error:#}"),
        };
        ensure!(began.elapsed() < wait, "not ready within {wait:?} (--wait): {behind}");
        if behind != said {
            print::line(&format!("waiting: {behind}"))?;
            said = behind;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Who is not ready for a step, and why.
async fn behind(folder: &Path, place: &Place, step: Step) -> anyhow::Result<Vec<String>> {
    let wanted = match (step, Rotation::of(folder)?) {
        (Step::Prepare, _) => return Ok(Vec::new()),
        (Step::Activate, Rotation::Prepared { next }) => next,
        (Step::Finish, Rotation::Activated { .. }) => LocalAuthority::open(folder)?.signer().root(),
        (Step::Activate, _) => bail!("there is no second root: --step prepare"),
        (Step::Finish, _) => bail!("no second root issues: --step activate"),
    };
    let wanted = wanted.to_string();
    // Anew for each look: who asks is issued a certificate of the root that issues now, and trusts what is trusted now.
    let seen = status::look(&Operator::find(place)?, "").await?;
    Ok(seen.iter().filter_map(|seen| reason(seen, step, &wanted)).collect())
}

fn reason(Seen { instance, identity }: &Seen, step: Step, wanted: &str) -> Option<String> {
    let identity = match identity {
        Ok(identity) => identity,
        Err(error) => return Some(format!("{instance}: {error}")),
    };
    let is_ready = match step {
        Step::Prepare => true,
        Step::Activate => identity.trusted_roots.iter().any(|root| root == wanted),
        Step::Finish => identity.root == wanted,
    };
    let what = match step {
        Step::Finish => "has a certificate of the first root",
        Step::Prepare | Step::Activate => "does not trust the second root",
    };
    (!is_ready).then(|| format!("{instance} {what}"))
}

fn take(folder: &Path, step: Step) -> anyhow::Result<()> {
    match step {
        Step::Prepare => {
            let next = Rotation::prepare(folder, Timestamp::now())?;
            print::line(&format!("prepared: the second root is {next}"))
        }
        Step::Activate => {
            Rotation::activate(folder)?;
            let root = LocalAuthority::open(folder)?.signer().root();
            print::line(&format!("activated: {root} issues"))
        }
        Step::Finish => {
            Rotation::finish(folder)?;
            print::line("finished: the first root is trusted no more")
        }
    }
}
