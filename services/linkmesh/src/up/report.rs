//! What `linkmesh up` says: on standard output for people, and in `up.env` for shells.

use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::Context as _;

use super::configuration::LINK_DOMAIN;
use super::roster::Member;
use super::site::Site;

/// One line on standard output.
pub(super) fn line(text: &str) -> anyhow::Result<()> {
    writeln!(std::io::stdout(), "{text}").context("writing to standard output")
}

/// Every member with its state, process id and port.
pub(super) fn status(site: &Site) -> anyhow::Result<()> {
    line(&format!("{:<12} {:<8} {:>8} {:>6}", "MEMBER", "STATE", "PID", "PORT"))?;
    for member in Member::all() {
        let process = site.running(member);
        let state = if process.is_some() { "running" } else { "stopped" };
        let pid = process.map_or_else(String::new, |process| process.pid.to_string());
        let port = site.known_port(&member.to_string());
        let port = port.map_or_else(String::new, |port| port.to_string());
        line(&format!("{:<12} {state:<8} {pid:>8} {port:>6}", member.to_string()))?;
    }
    Ok(())
}

/// Writes `up.env`: everything that a shell, a test or the load generator needs to know.
pub(super) fn write_environment(site: &Site) -> anyhow::Result<()> {
    let mut text = String::from("# Written by `linkmesh up`; to be sourced.\n");
    let mut set = |name: &str, value: &str| writeln!(text, "export LINKMESH_{name}='{value}'");
    let address = |name: &str| match site.known_port(name) {
        Some(port) => format!("127.0.0.1:{port}"),
        None => String::new(),
    };
    set("URL", &format!("http://{}", address("edge-1")))?;
    set("URL_2", &format!("http://{}", address("edge-2")))?;
    set("GRPC", &address("edge-1"))?;
    set("LINK_DOMAIN", LINK_DOMAIN)?;
    if let Some(seed) = &site.saved.seed {
        set("WORKSPACE", &seed.workspace)?;
        set("API_KEY", &seed.api_key)?;
    }
    set("ETCD", &format!("etcd://{}", address("etcd")))?;
    set("KAFKA", &format!("kafka://{}", address("kafka")))?;
    set("REDIS", &format!("redis://{}", address("redis")))?;
    set("POSTGRES", site.saved.postgres.as_deref().unwrap_or_default())?;
    set("POSTGRES_REPLICA", site.saved.replica.as_deref().unwrap_or_default())?;
    set("AUTHORITY", &site.folder.join("authority").to_string_lossy())?;
    for member in Member::all() {
        let name = member.to_string().to_uppercase().replace('-', "_");
        let pid = site.running(member).map(|process| process.pid.to_string());
        set(&format!("PID_{name}"), pid.as_deref().unwrap_or_default())?;
        let port = site.known_port(&member.to_string()).map(|port| port.to_string());
        set(&format!("PORT_{name}"), port.as_deref().unwrap_or_default())?;
        if let Some(admin) = site.known_port(&format!("{member}.admin")) {
            set(&format!("ADMIN_{name}"), &format!("http://127.0.0.1:{admin}"))?;
        }
    }
    site.write_private("up.env", &text)
}

/// The end of a start: where things are, and what to try.
pub(super) fn welcome(site: &Site) -> anyhow::Result<()> {
    status(site)?;
    let file = site.folder.join("up.env");
    let seed = site.saved.seed.as_ref().context("nothing was seeded")?;
    // As it was called: what is printed can be pasted, wherever the program is.
    let program = std::env::args().next().context("a program has a name")?;
    line(&format!(
        "
Linkmesh is up: 10 processes and their servers.

  workspace  {}
  API key    {}
  the rest   . {}   (LINKMESH_URL, LINKMESH_URL_2, LINKMESH_API_KEY, LINKMESH_WORKSPACE, …)
  logs       {}/*/*.log

  {program} up status
  {program} up kill links-2 && {program} up restart links-2
  {program} up down",
        seed.workspace,
        seed.api_key,
        file.display(),
        site.folder.display(),
    ))
}
