//! `linkmesh mesh cert operator`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use clap::ValueEnum;
use jiff::Timestamp;
use mesh::LocalAuthority;
use mesh::PeerIdentity;
use mesh::identity::Credentials;
use mesh::identity::CredentialsPem;
use mesh::identity::NewKey;
use mesh::identity::Role;
use mesh::identity::pem;
use proto::mesh::v1::IssueOperatorCertificateRequest;
use proto::mesh::v1::OperatorRole;
use proto::mesh::v1::certificate_admin_service_client::CertificateAdminServiceClient;
use proto::mesh::v1::certificate_admin_service_server::SERVICE_NAME;
use serde_json::json;

use crate::operator;
use crate::operator::CERTIFICATE_FILE;
use crate::operator::KEY_FILE;
use crate::operator::Operator;
use crate::operator::Place;
use crate::operator::ROOTS_FILE;
use crate::operator::Vouching;
use crate::operator::refused;
use crate::print;
use crate::print::Output;

/// Write an operator's certificate, key and roots as files that grpcurl and other gRPC clients take
///
/// Who has the certificate authority's folder is issued one by it; others ask control with the certificate that they have
/// (--identity), which must be an admin's. It is not renewed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  linkmesh mesh cert operator --out me
  linkmesh mesh cert operator --out oncall --role viewer --life 24h
  linkmesh mesh stat --identity me                 the commands take it instead of the authority")]
pub(crate) struct Arguments {
    /// Where to write cert.pem, key.pem and ca.pem; made if missing
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// What it lets its holder do
    #[arg(long, value_enum, default_value_t = OperatorKind::Viewer)]
    role: OperatorKind,
    /// How long it is valid, 1m to 7d
    #[arg(long, value_name = "TIME", default_value = "8h", value_parser = super::duration)]
    life: Duration,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    place: Place,
}

/// The roles of operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OperatorKind {
    /// Look, tap included, and change nothing
    Viewer,
    /// Everything
    Admin,
}

/// What control keeps to as well.
const LIFE_MIN: Duration = Duration::from_mins(1);
const LIFE_MAX: Duration = Duration::from_hours(7 * 24);

/// Issues and writes.
pub(super) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let Arguments { out, role, life, output, place } = arguments;
    anyhow::ensure!(
        (LIFE_MIN..=LIFE_MAX).contains(&life),
        "--life: must be 1m to 7d; a certificate can't be taken back"
    );
    let issued = match place.vouching()? {
        Vouching::Authority(folder) => {
            let role = match role {
                OperatorKind::Viewer => Role::Viewer,
                OperatorKind::Admin => Role::Admin,
            };
            let authority = LocalAuthority::open(&folder)?;
            let peer = PeerIdentity::operator(role);
            authority.issue_to(&peer, life, Timestamp::now())?.pem()
        }
        Vouching::Identity(_) => from_control(&place, role, life).await?,
    };
    let credentials = Credentials::from_pem(&issued)?;
    write(&out, &issued)?;
    let (peer, not_after) = (credentials.peer(), credentials.validity().not_after);
    let at = |name: &str| out.join(name).display().to_string();
    // Of a process that is known, or of an example.
    let known = Operator::find(&place).ok();
    let process = known.as_ref().and_then(|operator| operator.processes().next());
    let (service, address) = process.unwrap_or(("links", "127.0.0.1:7002"));
    let grpcurl = format!(
        "grpcurl -cacert {} -cert {} -key {} -authority {service}.linkmesh.internal {address}",
        at(ROOTS_FILE),
        at(CERTIFICATE_FILE),
        at(KEY_FILE),
    );
    if output.is_json() {
        return print::json(&json!({
            "spiffeId": peer.spiffe_id(), "notAfter": not_after.to_string(),
            "certificate": at(CERTIFICATE_FILE), "key": at(KEY_FILE), "roots": at(ROOTS_FILE),
            "grpcurl": grpcurl,
        }));
    }
    print::line(&format!(
        "{peer} until {not_after}: {}, {}, {}\n\n  {grpcurl} \\\n    linkmesh.mesh.v1.MeshService/ListEndpoints",
        at(CERTIFICATE_FILE),
        at(KEY_FILE),
        at(ROOTS_FILE),
    ))
}

async fn from_control(
    place: &Place,
    role: OperatorKind,
    life: Duration,
) -> anyhow::Result<CredentialsPem> {
    let key = NewKey::generate()?;
    let role = match role {
        OperatorKind::Viewer => OperatorRole::Viewer,
        OperatorKind::Admin => OperatorRole::Admin,
    };
    let request = IssueOperatorCertificateRequest {
        role: role.into(),
        certificate_request: key.request.clone(),
        life: Some(life.try_into().context("--life is too long")?),
    };
    let mesh = Operator::find(place)?.channel(SERVICE_NAME).await?;
    let mut client = CertificateAdminServiceClient::new(mesh.clone());
    let answer = client.issue_operator_certificate(operator::call(request)).await;
    mesh.close().await;
    let answer = answer.map_err(refused("issuing a certificate"))?.into_inner();
    let issued = answer.certificate.context("the answer has no certificate")?;
    let text = |ders: &[Vec<u8>]| ders.iter().map(|der| pem::encode("CERTIFICATE", der)).collect();
    let roots = issued.trust.context("the answer has no roots")?.roots;
    Ok(CredentialsPem { key: key.pem(), chain: text(&issued.chain), roots: text(&roots) })
}

fn write(folder: &Path, issued: &CredentialsPem) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("making {}", folder.display()))?;
    let files =
        [(KEY_FILE, &issued.key), (CERTIFICATE_FILE, &issued.chain), (ROOTS_FILE, &issued.roots)];
    for (name, text) in files {
        let path = folder.join(name);
        let fresh = folder.join(format!("{name}.new"));
        // One that was left behind may have been made with another mode.
        fs::remove_file(&fresh).ok();
        fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .and_then(|()| fs::rename(&fresh, &path))
            .with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}
