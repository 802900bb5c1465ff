//! Who belongs to the cluster, under which names, and in which order they stop.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use stack::Signal;

/// Instances of each service.
const INSTANCES: u8 = 2;

/// The services, in the order in which they start.
pub(super) const SERVICES: [&str; 5] =
    [control::NAME, identity::NAME, links::NAME, analytics::NAME, edge::NAME];

/// One process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    Etcd,
    Redis,
    Kafka,
    Postgres,
    Replica,
    /// A service's name and the number of the instance, from 1.
    Service(&'static str, u8),
}

pub(super) const SERVERS: [Member; 5] =
    [Member::Etcd, Member::Redis, Member::Kafka, Member::Postgres, Member::Replica];

impl Member {
    pub(super) fn all() -> impl Iterator<Item = Self> {
        SERVERS.into_iter().chain(Self::services())
    }

    pub(super) fn services() -> impl Iterator<Item = Self> {
        SERVICES.into_iter().flat_map(Self::instances)
    }

    pub(super) fn instances(service: &'static str) -> impl Iterator<Item = Self> {
        (1..=INSTANCES).map(move |number| Self::Service(service, number))
    }

    /// Whether it issues the others' certificates.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Service(control::NAME, _))
    }

    pub(super) fn stop_signal(self) -> Signal {
        match self {
            // Its SIGTERM waits for every client to leave by itself.
            Self::Postgres | Self::Replica => Signal::Interrupt,
            Self::Etcd | Self::Redis | Self::Kafka | Self::Service(..) => Signal::Terminate,
        }
    }

    /// How long a stop may take before it becomes a kill.
    pub(super) fn stop_time_max(self) -> Duration {
        match self {
            // Calls finish, then the spool is shipped; Kafka may be away.
            Self::Service(..) => Duration::from_secs(60),
            Self::Etcd | Self::Redis | Self::Kafka | Self::Postgres | Self::Replica => {
                Duration::from_secs(20)
            }
        }
    }
}

/// Edges first, so that nobody calls a service that stops; the servers last.
pub(super) fn stop_order() -> Vec<Vec<Member>> {
    let (edges, services): (Vec<_>, Vec<_>) =
        Member::services().partition(|member| matches!(member, Member::Service(edge::NAME, _)));
    let (replica, servers): (Vec<_>, Vec<_>) =
        SERVERS.into_iter().partition(|member| *member == Member::Replica);
    vec![edges, services, replica, servers]
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Etcd => f.write_str("etcd"),
            Self::Redis => f.write_str("redis"),
            Self::Kafka => f.write_str("kafka"),
            Self::Postgres => f.write_str("postgres"),
            Self::Replica => f.write_str("replica"),
            Self::Service(name, number) => write!(f, "{name}-{number}"),
        }
    }
}

impl FromStr for Member {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::all().find(|member| member.to_string() == text).ok_or_else(|| {
            let names: Vec<String> = Self::all().map(|member| member.to_string()).collect();
            format!("expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_member_is_found_by_its_name_and_stops_exactly_once() {
        let stopped: Vec<Member> = stop_order().concat();
        for member in Member::all() {
            assert_eq!(member.to_string().parse(), Ok(member));
            assert_eq!(stopped.iter().filter(|other| **other == member).count(), 1, "{member}");
        }
        assert_eq!(Member::all().count(), 15);
        assert!("links-3".parse::<Member>().unwrap_err().contains("links-2"));
    }
}
