//! Where clicks come from: addresses out of a MaxMind database's IPv4 networks.

use anyhow::Context as _;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::path::Path;

/// How many networks are kept; spread evenly over the database.
const NETWORKS_MAX: usize = 20_000;

/// A source of client addresses.
#[derive(Debug)]
pub(crate) struct Addresses {
    /// First address and size of each network; empty: any public address.
    networks: Vec<(u32, u32)>,
}

impl Addresses {
    /// Reads the database's networks, if there is one; `seed` decides which are kept.
    pub(crate) fn open(mmdb: Option<&Path>, seed: u64) -> anyhow::Result<Self> {
        let Some(path) = mmdb else {
            return Ok(Self { networks: Vec::new() });
        };
        let open = || anyhow::Ok(maxminddb::Reader::open_readfile(path)?);
        let reader = open().with_context(|| format!("opening {}", path.display()))?;
        let everything = "0.0.0.0/0".parse().context("the whole of IPv4")?;
        let mut networks = Vec::new();
        for result in reader.within(everything, Default::default())? {
            let network = result?.network()?;
            if let IpAddr::V4(first) = network.ip()
                && network.prefix() <= 32
                && is_public(first)
            {
                let size = 1_u64 << (32 - u32::from(network.prefix()));
                networks.push((u32::from(first), u32::try_from(size).unwrap_or(u32::MAX)));
            }
        }
        anyhow::ensure!(!networks.is_empty(), "{} has no IPv4 networks", path.display());
        let step = networks.len().div_ceil(NETWORKS_MAX);
        let offset = usize::try_from(seed).unwrap_or(0) % step;
        let networks = networks.into_iter().skip(offset).step_by(step).collect();
        Ok(Self { networks })
    }

    /// The address that two random numbers lead to.
    pub(crate) fn at(&self, which: u64, host: u64) -> Ipv4Addr {
        let count = self.networks.len() as u64;
        let low = |number: u64| u32::try_from(number & 0xffff_ffff).unwrap_or(0);
        if count == 0 {
            // 11.0.0.0 to 99.255.255.255, all public but a shared block at 100.
            return Ipv4Addr::from((11 << 24) + low(host) % (89 << 24));
        }
        let index = usize::try_from(which % count).unwrap_or(0);
        let (first, size) = self.networks[index];
        Ipv4Addr::from(first + low(host) % size)
    }
}

fn is_public(address: Ipv4Addr) -> bool {
    !(address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_unspecified()
        || address.is_multicast()
        || address.octets()[0] >= 224
        || address.octets()[0] == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_database_addresses_are_public() {
        let addresses = Addresses::open(None, 1).expect("nothing to open");
        for number in 0..1_000_u64 {
            let address = addresses.at(number, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(is_public(address) && (11..100).contains(&address.octets()[0]), "{address}");
        }
    }

    #[test]
    fn a_missing_database_is_named() {
        let error = Addresses::open(Some(Path::new("/no/such.mmdb")), 1).expect_err("missing");
        assert!(error.to_string().contains("/no/such.mmdb"));
    }
}
