//! How members join: each start of a service is given a token of its own, made by control.
//!
//! A member that has a certificate needs none, so a start while control is away is no failure.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use proto::mesh::v1::CreateJoinTokenRequest;
use proto::mesh::v1::certificate_admin_service_client::CertificateAdminServiceClient;
use tonic::Request;

use super::launch;
use super::report;
use super::roster::Member;
use super::site::Site;

/// How long a token is taken: longer than a start takes.
const LIFE: Duration = Duration::from_secs(600);
/// How long control may take to make one.
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(15);

/// The file with the member's token.
pub(super) fn file_of(site: &Site, member: Member) -> PathBuf {
    site.folder.join(member.to_string()).join("join-token")
}

/// Gives each of these members a new token, if a control runs.
pub(super) async fn write(site: &mut Site, members: &[Member]) -> anyhow::Result<()> {
    let controlled =
        Member::services().any(|member| member.is_control() && site.running(member).is_some());
    if members.is_empty() || !controlled {
        return Ok(());
    }
    let mesh = launch::operator(site)?;
    let mut client = CertificateAdminServiceClient::new(mesh.clone());
    let mut written = Ok(());
    for member in members {
        let Member::Service(service, _) = member else { continue };
        let mut request = Request::new(CreateJoinTokenRequest {
            services: vec![(*service).to_owned()],
            life: Some(LIFE.try_into().context("ten minutes")?),
            uses_max: 1,
            note: format!("a start of {member}"),
        });
        request.set_timeout(ANSWER_WAIT_MAX);
        match client.create_join_token(request).await {
            Ok(made) => {
                let text = format!("{}\n", made.into_inner().text);
                site.member_folder(*member)?;
                written = site.write_private(&format!("{member}/join-token"), &text);
            }
            Err(status) => {
                // It may have a certificate still.
                let why = status.message();
                written = report::line(&format!("{member}: no new join token: {why}"));
            }
        }
        if written.is_err() {
            break;
        }
    }
    mesh.close().await;
    written
}
