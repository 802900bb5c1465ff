//! Three etcd servers that are one: what one of them loses, the others have.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::etcd::Member;
use crate::{Etcd, EtcdOptions, Options, port};

/// How many servers there are: the fewest of which one may be lost.
const MEMBERS: usize = 3;
/// How long an election may take on a busy machine; etcd's own time-out is one second.
const ELECTION_TIME_MAX: Duration = Duration::from_secs(20);
const ELECTION_POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running cluster. Its members live and die as single servers do.
#[derive(Debug)]
pub struct EtcdCluster {
    members: [Etcd; MEMBERS],
}

impl EtcdCluster {
    /// Starts all members below `folder`, and returns when all are healthy.
    ///
    /// # Errors
    /// etcd is not installed, or does not serve in time.
    pub async fn start(folder: &Path, etcd: EtcdOptions) -> anyhow::Result<Self> {
        let peer_ports = [port::free()?, port::free()?, port::free()?];
        let named = |number: usize| format!("linkmesh-{}", number + 1);
        let cluster: Vec<String> = (peer_ports.iter().enumerate())
            .map(|(number, port)| format!("{}={}", named(number), Member::url(*port)))
            .collect();
        let cluster = cluster.join(",");
        let start = async |number: usize| {
            let options = Options::bound(folder.join(named(number)))?;
            let member = Member {
                name: named(number),
                peer_port: peer_ports[number],
                cluster: cluster.clone(),
            };
            // Boxed: three of them are a large future.
            Box::pin(Etcd::start_member(options, etcd.clone(), member)).await
        };
        // At once: none is healthy before there is a majority.
        let (one, two, three) = tokio::try_join!(start(0), start(1), start(2))?;
        Ok(Self { members: [one, two, three] })
    }

    /// As the mesh's registry takes it: `etcd://127.0.0.1:PORT,127.0.0.1:PORT,…`.
    pub fn url(&self) -> String {
        let addresses: Vec<String> = self.members.iter().map(Etcd::address).collect();
        format!("etcd://{}", addresses.join(","))
    }

    /// The members, in the order in which [`Self::url`] names them.
    pub fn members(&self) -> &[Etcd] {
        &self.members
    }

    /// Which member leads, waiting for an election that is under way.
    ///
    /// # Errors
    /// Nobody is elected in time.
    pub async fn leader(&self) -> anyhow::Result<usize> {
        let deadline = Instant::now() + ELECTION_TIME_MAX;
        loop {
            for (number, member) in self.members.iter().enumerate() {
                // A member that is down or has no leader answers nothing of use; another will.
                if let Ok((own, leader)) = member.member_and_leader().await
                    && own == leader
                {
                    return Ok(number);
                }
            }
            if Instant::now() > deadline {
                bail!("etcd has no leader after {ELECTION_TIME_MAX:?}");
            }
            tokio::time::sleep(ELECTION_POLL_INTERVAL).await;
        }
    }
}
