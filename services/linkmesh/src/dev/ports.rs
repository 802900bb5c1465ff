//! The ports of `linkmesh dev`: chosen once, and the same at every start for as long as nobody else has taken them.

use std::fs;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;
use serde::Serialize;
use service::ConfigError;

/// Where clients connect, unless that port is taken.
const EDGE_PORT: u16 = 8080;

/// What listens where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ports {
    /// Where clients connect.
    pub(super) listen: SocketAddr,
    pub(super) admin: u16,
    /// Mesh listeners, on loopback.
    pub(super) control: u16,
    pub(super) identity: u16,
    pub(super) links: u16,
    pub(super) analytics: u16,
    pub(super) edge: u16,
    pub(super) postgres: u16,
}

impl Ports {
    /// Those of the file that are still free, else new ones, which are written there.
    pub(super) fn choose(file: &Path, listen: Option<SocketAddr>) -> anyhow::Result<Ports> {
        // A file of an older version chooses nothing.
        let kept: Option<Ports> =
            fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let kept_port = |of: fn(&Ports) -> u16| {
            let port =
                kept.as_ref().map(of).filter(|port| is_free(Ipv4Addr::LOCALHOST.into(), *port));
            port.map_or_else(stack::port::free, Ok)
        };
        let ports = Ports {
            listen: public(listen, kept.as_ref())?,
            admin: kept_port(|ports| ports.admin)?,
            control: kept_port(|ports| ports.control)?,
            identity: kept_port(|ports| ports.identity)?,
            links: kept_port(|ports| ports.links)?,
            analytics: kept_port(|ports| ports.analytics)?,
            edge: kept_port(|ports| ports.edge)?,
            postgres: match kept.as_ref() {
                // Its predecessor may be stopping still, and the server waits for the port by itself.
                Some(ports) => ports.postgres,
                None => stack::port::free()?,
            },
        };
        fs::write(file, serde_json::to_vec_pretty(&ports)?)
            .with_context(|| format!("writing {}", file.display()))?;
        Ok(ports)
    }
}

fn public(asked: Option<SocketAddr>, kept: Option<&Ports>) -> anyhow::Result<SocketAddr> {
    if let Some(asked) = asked {
        if asked.port() == 0 {
            return Ok(SocketAddr::new(asked.ip(), stack::port::free()?));
        }
        if !is_free(asked.ip(), asked.port()) {
            let why = format!("can't listen on {asked} (--listen): is something else there?");
            return Err(ConfigError::new("edge.listen", why).into());
        }
        return Ok(asked);
    }
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, EDGE_PORT));
    let wished = [kept.map_or(usual, |ports| ports.listen), usual];
    match wished.into_iter().find(|wish| is_free(wish.ip(), wish.port())) {
        Some(free) => Ok(free),
        None => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, stack::port::free()?))),
    }
}

fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind((ip, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_stay_the_same_unless_someone_else_has_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ports.json");
        let first = Ports::choose(&file, Some("127.0.0.1:0".parse().unwrap())).unwrap();
        assert_eq!(Ports::choose(&file, None).unwrap(), first);

        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.links)).unwrap();
        let second = Ports::choose(&file, None).unwrap();
        assert_ne!(second.links, first.links);
        assert_eq!(second.listen, first.listen);
        assert_eq!(Ports::choose(&file, None).unwrap(), second);
    }

    #[test]
    fn a_port_that_was_asked_for_and_is_taken_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = taken.local_addr().unwrap();
        let refused = Ports::choose(&folder.path().join("ports.json"), Some(address)).unwrap_err();
        assert!(refused.to_string().contains("edge.listen"), "{refused}");
    }
}
