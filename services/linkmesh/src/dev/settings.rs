//! The configuration of `linkmesh dev`: what a file would say, with the chosen ports; the environment lies over it.

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;

use service::ConfigError;
use service::Settings;

use super::ports::Ports;
use crate::config::Configuration;
use crate::config::ServiceName;
use crate::limits;

/// The domain of links that name none. Every machine resolves it to itself.
pub(super) const LINK_DOMAIN: &str = "localhost";

/// All of it, with the database at `postgres`.
pub(super) fn configuration(
    data: &Path,
    ports: &Ports,
    postgres: &str,
) -> Result<Configuration, ConfigError> {
    let said = Settings::load(None, std::env::vars())?;
    Configuration::from_settings(ours(data, ports, postgres).overlaid_by(said), &ServiceName::ALL)
}

fn ours(data: &Path, ports: &Ports, postgres: &str) -> Settings {
    let mut settings = Settings::default();
    let folder = |name: &str| data.join(name).display().to_string();
    settings.set("host", "instance", "dev");
    settings.set("host", "data", data.display().to_string());
    settings.set("host", "admin_listen", loopback(ports.admin));
    settings.set("host", "log", "warn");
    settings.set("mesh", "registry", "memory:");
    settings.set("mesh", "authority", folder("authority"));
    settings.set("bus", "uri", format!("file:{}", folder("bus")));
    settings.set("control", "listen", loopback(ports.control));
    for (service, port) in
        [("identity", ports.identity), ("links", ports.links), ("analytics", ports.analytics)]
    {
        settings.set(service, "listen", loopback(port));
        let server = HashMap::from([("primary".to_owned(), postgres)]);
        settings.set(service, "postgres", server);
    }
    settings.set("identity", "keyring", keyring(data).display().to_string());
    settings.set("links", "shared_domain", LINK_DOMAIN);
    settings.set("links", "short_uri_scheme", "http");
    settings.set("links", "short_uri_port", i64::from(ports.listen.port()));
    settings.set("edge", "listen", ports.listen.to_string());
    settings.set("edge", "mesh_listen", loopback(ports.edge));
    let aliases = HashMap::from([("127.0.0.1".to_owned(), LINK_DOMAIN)]);
    settings.set("edge", "domain_aliases", aliases);
    let limits = HashMap::from([("file".to_owned(), folder(limits::FILE))]);
    settings.set("edge", "limits", limits);
    if let Some(places) = stack::locate::country_database() {
        settings.set("edge", "places_file", places.display().to_string());
    }
    settings
}

/// Where the keys are that personal data is sealed with.
pub(super) fn keyring(data: &Path) -> PathBuf {
    data.join("keyring.toml")
}

fn loopback(port: u16) -> String {
    format!("127.0.0.1:{port}")
}
