//! Whose address a request comes from: the connection's, or what trusted proxies say, read from the right.

use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;

use http::HeaderMap;
use http::HeaderName;
use service::ConfigError;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Addresses that are looked at from the right; nobody has so many proxies of their own.
const HOPS_MAX: usize = 16;

/// The proxies whose word is taken.
#[derive(Debug, Default)]
pub(crate) struct TrustedProxies(Vec<Network>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    /// IPv4 as mapped into IPv6.
    address: u128,
    prefix_bits: u32,
}

impl TrustedProxies {
    /// Reads `10.0.0.0/8`, `2001:db8::/32` or single addresses.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, ConfigError> {
        let networks = texts.iter().map(|text| {
            network(text).ok_or_else(|| {
                ConfigError::new(
                    "edge.trusted_proxies",
                    format!("{text:?} is no address or network such as 10.0.0.0/8"),
                )
            })
        });
        Ok(Self(networks.collect::<Result<_, _>>()?))
    }

    /// The client's address. What a peer that is not trusted says is not looked at; from a trusted one, the first address
    /// from the right that is not a trusted proxy's.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if self.0.is_empty() || !self.trusts(client) {
            return client;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.filter_map(|value| value.to_str().ok()).flat_map(|text| text.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            let Some(address) = hop_address(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = bits(address);
        self.0.iter().any(|network| {
            let shift = 128 - network.prefix_bits;
            // A shift by all 128 bits overflows: the network is everything.
            shift == 128 || (address ^ network.address) >> shift == 0
        })
    }
}

fn bits(address: IpAddr) -> u128 {
    let v6: Ipv6Addr = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    v6.to_bits()
}

fn network(text: &str) -> Option<Network> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    let width: u32 = if address.is_ipv4() { 32 } else { 128 };
    let prefix_bits = match prefix {
        Some(prefix) => prefix.parse::<u32>().ok().filter(|bits| *bits <= width)?,
        None => width,
    };
    Some(Network { address: bits(address), prefix_bits: 128 - width + prefix_bits })
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`.
fn hop_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    text.strip_prefix('[')?.strip_suffix(']')?.parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> TrustedProxies {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        TrustedProxies::parse(&texts).expect("they are networks")
    }

    fn client(proxies: &TrustedProxies, peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().expect("a header"));
        }
        proxies.client(peer.parse().expect("an address"), &headers).to_string()
    }

    #[test]
    fn the_forwarding_header_is_believed_from_the_right_and_from_trusted_proxies_only() {
        let trusting = proxies(&["10.0.0.0/8", "::1"]);
        for (peer, forwarded, expected) in [
            ("192.0.2.9", &["203.0.113.7"][..], "192.0.2.9"),
            ("10.1.1.1", &[], "10.1.1.1"),
            ("10.1.1.1", &["203.0.113.7"], "203.0.113.7"),
            ("10.1.1.1", &["6.6.6.6, 203.0.113.7"], "203.0.113.7"),
            ("10.1.1.1", &["6.6.6.6, 203.0.113.7, 10.9.9.9"], "203.0.113.7"),
            ("10.1.1.1", &["6.6.6.6", "203.0.113.7"], "203.0.113.7"),
            ("::ffff:10.1.1.1", &["203.0.113.7:4711"], "203.0.113.7"),
            ("::1", &["2001:db8::5"], "2001:db8::5"),
            ("::1", &["[2001:db8::5]:443"], "2001:db8::5"),
            ("10.1.1.1", &["6.6.6.6, nonsense, 10.2.2.2"], "10.2.2.2"),
            ("10.1.1.1", &["nonsense"], "10.1.1.1"),
        ] {
            assert_eq!(client(&trusting, peer, forwarded), expected, "{peer} {forwarded:?}");
        }
        assert_eq!(client(&TrustedProxies::default(), "10.1.1.1", &["6.6.6.6"]), "10.1.1.1");
        assert_eq!(client(&proxies(&["::/0"]), "10.1.1.1", &["6.6.6.6"]), "6.6.6.6");
    }

    #[test]
    fn a_malformed_network_is_refused_with_the_key() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/-1", "host"] {
            let error = TrustedProxies::parse(&[text.to_owned()]).expect_err("it is none");
            assert_eq!(error.key, "edge.trusted_proxies", "{text}");
        }
    }
}
