//! The configuration file of a process: `[host]`, `[mesh]`, `[bus]`, and a section for each service.

use std::fmt;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::path::Path;

use clap::ValueEnum;
use serde::de::DeserializeOwned;
use service::ConfigError;
use service::HostConfig;
use service::Settings;

/// A service that a process can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum ServiceName {
    /// Certificates and policies of the mesh
    Control,
    /// Workspaces and API keys
    Identity,
    /// Links, domains, and what is at a short link
    Links,
    /// Folds clicks into counts and answers queries
    Analytics,
    /// What clients connect to: redirects, REST, gRPC-Web, gRPC
    Edge,
}

impl ServiceName {
    /// All, in the order in which they start.
    pub(crate) const ALL: [ServiceName; 5] = [
        ServiceName::Control,
        ServiceName::Identity,
        ServiceName::Links,
        ServiceName::Analytics,
        ServiceName::Edge,
    ];

    /// The name in the mesh, which is the section's too.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            ServiceName::Control => control::NAME,
            ServiceName::Identity => identity::NAME,
            ServiceName::Links => links::NAME,
            ServiceName::Analytics => analytics::NAME,
            ServiceName::Edge => edge::NAME,
        }
    }

    /// The key of its mesh listener. The edge's `listen` is where clients connect, and its mesh listener, which only
    /// operators call, is on the same address and any port unless `mesh_listen` says otherwise.
    fn listen_key(self) -> &'static str {
        match self {
            ServiceName::Control
            | ServiceName::Identity
            | ServiceName::Links
            | ServiceName::Analytics => "listen",
            ServiceName::Edge => "mesh_listen",
        }
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Settings of one service.
#[derive(Debug, Clone)]
pub(crate) struct Section<C> {
    /// Where its mesh listener is.
    pub(crate) listen: SocketAddr,
    /// What the service itself is told.
    pub(crate) config: C,
}

/// All settings of a process, checked.
#[derive(Debug, Clone)]
pub(crate) struct Configuration {
    pub(crate) host: HostConfig,
    pub(crate) control: Option<Section<control::Config>>,
    pub(crate) identity: Option<Section<identity::Config>>,
    pub(crate) links: Option<Section<links::Config>>,
    pub(crate) analytics: Option<Section<analytics::Config>>,
    pub(crate) edge: Option<Section<edge::Config>>,
}

impl Configuration {
    /// Reads the file, if one is named, and the environment.
    pub(crate) fn load(
        file: Option<&Path>,
        wanted: &[ServiceName],
    ) -> Result<Configuration, ConfigError> {
        Configuration::from_settings(Settings::load(file, std::env::vars())?, wanted)
    }

    /// Checks everything that is said, for services that are not `wanted` too: one file may serve all processes, and a
    /// typo is found by the first. What such services would need and is not said (their databases, mostly) is not missed.
    pub(crate) fn from_settings(
        mut settings: Settings,
        wanted: &[ServiceName],
    ) -> Result<Configuration, ConfigError> {
        let services = ServiceName::ALL.map(ServiceName::as_str);
        settings.accept_only(&[&["host", "mesh", "bus"], services.as_slice()].concat())?;
        let mut configuration = Configuration {
            host: HostConfig::from_settings(&settings)?,
            control: section(&mut settings, ServiceName::Control, wanted)?,
            identity: section(&mut settings, ServiceName::Identity, wanted)?,
            links: section(&mut settings, ServiceName::Links, wanted)?,
            analytics: section(&mut settings, ServiceName::Analytics, wanted)?,
            edge: section::<edge::Config>(&mut settings, ServiceName::Edge, wanted)?,
        };
        if let Some(edge) = &mut configuration.edge
            && edge.listen.port() == 0
            && edge.listen.ip().is_loopback()
        {
            edge.listen.set_ip(edge.config.listen.ip());
        }
        configuration.check()?;
        Ok(configuration)
    }

    /// Has every service look at its own settings, as it does again at its start.
    fn check(&self) -> Result<(), ConfigError> {
        if let Some(section) = &self.control {
            section.config.check()?;
        }
        if let Some(section) = &self.identity {
            section.config.check()?;
        }
        if let Some(section) = &self.links {
            section.config.check()?;
        }
        if let Some(section) = &self.analytics {
            section.config.check()?;
        }
        if let Some(section) = &self.edge {
            section.config.check()?;
        }
        Ok(())
    }

    /// Where the mesh listeners of services are, as far as this file says.
    pub(crate) fn mesh_listeners(&self) -> Vec<(ServiceName, SocketAddr)> {
        let control = self.control.as_ref().map(|section| section.listen);
        let identity = self.identity.as_ref().map(|section| section.listen);
        let links = self.links.as_ref().map(|section| section.listen);
        let analytics = self.analytics.as_ref().map(|section| section.listen);
        let edge = self.edge.as_ref().map(|section| section.listen);
        let listeners =
            ServiceName::ALL.into_iter().zip([control, identity, links, analytics, edge]);
        listeners.filter_map(|(name, listen)| listen.map(|listen| (name, listen))).collect()
    }
}

fn section<C: DeserializeOwned>(
    settings: &mut Settings,
    name: ServiceName,
    wanted: &[ServiceName],
) -> Result<Option<Section<C>>, ConfigError> {
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let is_wanted = wanted.contains(&name);
    if !is_wanted && !settings.has(name.as_str()) {
        return Ok(None);
    }
    let listen = settings.take(name.as_str(), name.listen_key())?.unwrap_or(any_port);
    match settings.section(name.as_str()) {
        Ok(config) => Ok(Some(Section { listen, config })),
        Err(error) if !is_wanted && error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(toml: &str, environment: &[(&str, &str)]) -> Result<Configuration, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("linkmesh.toml");
        std::fs::write(&file, toml).unwrap();
        let environment =
            environment.iter().map(|(name, value)| (String::from(*name), String::from(*value)));
        Configuration::from_settings(
            Settings::load(Some(&file), environment)?,
            &[ServiceName::Links],
        )
    }

    const LINKS: &str = "[links.postgres]\nprimary = 'postgres://localhost/links'\n";

    #[test]
    fn a_refused_setting_is_named_in_full() {
        let refused = [
            ("[hots]\n", "hots"),
            ("[host]\nzoen = 'a'\n", "host.zoen"),
            ("[host]\nlog_format = 'xml'\n", "host.log_format"),
            ("[host]\ntraces_ratio = 2.0\n", "host.traces_ratio"),
            ("[host]\ndrain_max = '5 minutes'\n", "host.drain_max"),
            ("[host]\ndrain_max = '2h'\n", "host.drain_max"),
            ("[host]\ninstance = 'Links 1'\n", "host.instance"),
            ("[host]\nadmin_listen = 'localhost'\n", "host.admin_listen"),
            ("[host]\ntraces_endpoint = 'collector:4317'\n", "host.traces_endpoint"),
            ("[bus]\nuri = 'rabbit://a'\n", "bus.uri"),
            ("[edge]\ntrusted_proxies = ['10.0.0.0/33']\n", "edge.trusted_proxies"),
            ("[edge]\ncors_origins = ['app.example']\n", "edge.cors_origins"),
            ("[edge]\naccess_log = 'some'\n", "edge.access_log"),
            ("[edge]\naccess_log_lines_max = 0\n", "edge.access_log_lines_max"),
            ("[edge.limits]\nwait_max = '2s'\n", "edge.limits.wait_max"),
            ("[edge.limits]\nfiel = 'limits.toml'\n", "edge.limits.fiel"),
            ("[links]\nlisten = 'nowhere'\n", "links.listen"),
            ("[links.postgres]\nprimari = 'x'\n", "links.postgres.primari"),
            ("[links]\n", "links.postgres"),
            (
                "[links.postgres]\nprimary = 'postgres://a/b'\nconnections_max = 'many'\n",
                "links.postgres.connections_max",
            ),
            ("[links.postgres]\nprimary = 'nowhere'\n", "links.postgres"),
            ("[analytics]\nnonsense = 1\n", "analytics.nonsense"),
        ];
        for (toml, key) in refused {
            let toml =
                if toml.contains("[links") { toml.to_owned() } else { format!("{toml}{LINKS}") };
            let error = load(&toml, &[]).expect_err(&toml);
            assert_eq!(error.key, key, "{toml}: {error}");
        }
    }

    #[test]
    fn a_refusal_says_what_is_accepted() {
        let error = load(&format!("[host]\nlog_format = 'xml'\n{LINKS}"), &[]).unwrap_err();
        assert!(error.to_string().contains("expected one of auto, json, text"), "{error}");
        let error = load(&format!("[host]\nzoen = 'a'\n{LINKS}"), &[]).unwrap_err();
        assert!(error.to_string().contains("`zone`"), "{error}");
        assert!(error.to_string().contains("LINKMESH__HOST__ZOEN"), "{error}");
    }

    #[test]
    fn the_environment_lies_over_the_file() {
        let environment = [
            ("LINKMESH__LINKS__POSTGRES__PRIMARY", "postgres://other/links"),
            ("LINKMESH__LINKS__POSTGRES__CONNECTIONS_MAX", "7"),
            ("LINKMESH__LINKS__POSTGRES__REPLICAS", "['postgres://replica/links']"),
            ("LINKMESH__HOST__INSTANCE", "7"),
            ("LINKMESH_URL", "http://not-a-setting"),
        ];
        let configuration = load(LINKS, &environment).unwrap();
        let postgres = configuration.links.unwrap().config.postgres;
        assert_eq!(postgres.primary, "postgres://other/links");
        assert_eq!(postgres.connections_max, 7);
        assert_eq!(postgres.replicas, ["postgres://replica/links"]);
        assert_eq!(configuration.host.host.instance.as_deref(), Some("7"));
    }

    #[test]
    fn a_service_that_is_not_run_needs_no_database() {
        let configuration =
            load(&format!("[identity]\nlisten = '0.0.0.0:4000'\n{LINKS}"), &[]).unwrap();
        assert!(configuration.identity.is_none());
        assert!(configuration.links.is_some());
    }

    #[test]
    fn a_file_that_is_no_toml_is_refused_with_its_name() {
        let error = load("[host\n", &[]).unwrap_err();
        assert!(error.to_string().contains("linkmesh.toml"), "{error}");
    }
}
