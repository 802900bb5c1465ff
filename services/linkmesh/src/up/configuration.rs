//! The configuration file of each service process: what an operator would write, with the chosen ports.

use anyhow::Context as _;
use toml::{Table, Value, toml};

use super::roster::Member;
use super::site::Site;
use super::tokens;
use crate::limits;

/// Links that name no domain live on this one, which needs no DNS.
pub(super) const LINK_DOMAIN: &str = "localhost";

pub(super) const ZONE: &str = "local-a";
pub(super) const REGION: &str = "local";

/// Writes every service's `config.toml`.
pub(super) fn write_all(site: &mut Site) -> anyhow::Result<()> {
    limits::write_missing(&site.folder.join(limits::FILE))?;
    for member in Member::services() {
        let Member::Service(service, _) = member else { continue };
        let folder = site.member_folder(member)?;
        let admin_port = site.port(&format!("{member}.admin"))?;
        let mut config = shared(site, admin_port)?;
        let host = section(&mut config, "host")?;
        host.insert("instance".into(), member.to_string().into());
        host.insert("data".into(), folder.join("data").to_string_lossy().as_ref().into());
        let token = tokens::file_of(site, member).to_string_lossy().into_owned();
        section(&mut config, "mesh")?.insert("join_token".into(), token.into());
        let own = own_section(site, service, member)?;
        config.insert(service.to_owned(), Value::Table(own));
        let text = toml::to_string_pretty(&config).context("encoding a configuration")?;
        site.write_private(&format!("{member}/config.toml"), &text)?;
    }
    Ok(())
}

/// Where the member's configuration is, within the folder.
pub(super) fn file_of(site: &Site, member: Member) -> std::path::PathBuf {
    site.folder.join(member.to_string()).join("config.toml")
}

fn shared(site: &mut Site, admin_port: u16) -> anyhow::Result<Table> {
    let admin = format!("127.0.0.1:{admin_port}");
    let registry = format!("etcd://127.0.0.1:{}", site.port("etcd")?);
    let bus = format!("kafka://127.0.0.1:{}", site.port("kafka")?);
    let authority = site.folder.join("authority").to_string_lossy().into_owned();
    Ok(toml! {
        [host]
        zone = ZONE
        region = REGION
        log = "info"
        log_format = "json"
        admin_listen = admin
        // Whoever stands before the edges, a test or a load generator, asks them several times meanwhile.
        unready_notice = "500ms"

        [mesh]
        registry = registry
        // What control issues with; the others read it for nothing, and operators' commands do.
        authority = authority
        issuer = "control:"

        [bus]
        uri = bus
    })
}

fn own_section(site: &mut Site, service: &'static str, member: Member) -> anyhow::Result<Table> {
    let listen = format!("127.0.0.1:{}", site.port(&member.to_string())?);
    let mut own = if service == edge::NAME {
        let redis = format!("redis://127.0.0.1:{}", site.port("redis")?);
        let mesh_listen = format!("127.0.0.1:{}", site.port(&format!("{member}.mesh"))?);
        let mut own = toml! {
            redis = redis
            mesh_listen = mesh_listen
            // The load generator speaks for its visitors in the forwarding header.
            trusted_proxies = ["127.0.0.0/8"]
        };
        let aliases = Table::from_iter([("127.0.0.1".to_owned(), Value::from(LINK_DOMAIN))]);
        own.insert("domain_aliases".into(), Value::Table(aliases));
        let limits = site.folder.join(limits::FILE).to_string_lossy().into_owned();
        // All processes share one machine: a Redis that waits for its turn is not away.
        let limits = toml! {
            file = limits
            wait_max = "250ms"
        };
        own.insert("limits".into(), Value::Table(limits));
        if let Some(places) = stack::locate::country_database() {
            own.insert("places_file".into(), places.to_string_lossy().as_ref().into());
        }
        own
    } else if service == control::NAME {
        let mut own = Table::new();
        if let Some(life) = &site.saved.certificate_life {
            own.insert("certificate_life".into(), life.as_str().into());
        }
        own
    } else {
        let saved = &site.saved;
        let primary = saved.postgres.clone().context("Postgres has not been started")?;
        let replicas: Vec<String> = saved.replica.iter().cloned().collect();
        toml! { postgres = { primary = primary, replicas = replicas } }
    };
    if service == identity::NAME {
        // One for all instances, made with the cluster.
        let keyring = site.folder.join("keyring.toml");
        seal::Keyring::open_or_create(&keyring)?;
        own.insert("keyring".into(), keyring.to_string_lossy().as_ref().into());
        let mails = Table::from_iter([(
            "folder".to_owned(),
            Value::from(site.folder.join("mails").to_string_lossy().as_ref()),
        )]);
        own.insert("mail".into(), Value::Table(mails));
    }
    if service == links::NAME {
        own.insert("shared_domain".into(), LINK_DOMAIN.into());
        own.insert("short_uri_scheme".into(), "http".into());
        let edge_port = site.port(&Member::Service(edge::NAME, 1).to_string())?;
        own.insert("short_uri_port".into(), i64::from(edge_port).into());
    }
    own.insert("listen".into(), listen.into());
    Ok(own)
}

fn section<'a>(config: &'a mut Table, name: &str) -> anyhow::Result<&'a mut Table> {
    let section = config.get_mut(name).and_then(Value::as_table_mut);
    section.with_context(|| format!("no section {name}"))
}
