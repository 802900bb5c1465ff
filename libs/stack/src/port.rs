//! Ports that stay a server's own: chosen once, free, and outside the range from which the system hands out the ports of
//! outgoing connections, so that none is taken while its server is down.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, bail};

/// Below it live well-known services.
const LOWEST: u16 = 15_000;
/// Fewer ports than this below the outgoing range are not worth staying there.
const FEWEST: u16 = 1_000;

/// One sequence per process that starts anywhere: unique within the process without a registry, and two processes
/// hardly ever try the same port in the same moment.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| {
    let random = uuid::Uuid::new_v4();
    let [a, b, c, d, ..] = *random.as_bytes();
    AtomicU32::new(u32::from_be_bytes([a, b, c, d]))
});

/// A port on which nothing listens on any address of this machine.
///
/// # Errors
/// All ports of the range are taken.
pub fn free() -> anyhow::Result<u16> {
    let range = choose_from();
    let size = u32::from(range.end - range.start);
    for _ in 0..size {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % size;
        let step = u16::try_from(step).expect("smaller than a range of ports");
        let port = range.start + step;
        // Every address, not only loopback: a server elsewhere on the port would make for confusing reading.
        if TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port between {} and {}", range.start, range.end)
}

/// The port that the file names, or a free one that is then written there: how a choice survives restarts.
///
/// # Errors
/// The file can't be read or written, or holds no port.
pub fn kept(file: &Path) -> anyhow::Result<u16> {
    if let Ok(text) = fs::read_to_string(file) {
        return text.trim().parse().with_context(|| format!("no port in {}", file.display()));
    }
    let port = free()?;
    fs::write(file, format!("{port}\n")).with_context(|| format!("writing {}", file.display()))?;
    Ok(port)
}

fn choose_from() -> Range<u16> {
    let outgoing_from = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse::<u16>().ok())
        .unwrap_or(32_768);
    if outgoing_from >= LOWEST + FEWEST { LOWEST..outgoing_from } else { LOWEST..u16::MAX }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_never_gets_the_same_port_twice_in_a_row() {
        let first = free().unwrap();
        let second = free().unwrap();
        assert_ne!(first, second);
        assert!(choose_from().contains(&first));
    }

    #[test]
    fn a_kept_port_is_the_same_the_next_time() {
        let folder = crate::TemporaryFolder::new().unwrap();
        let file = folder.path().join("port");
        assert_eq!(kept(&file).unwrap(), kept(&file).unwrap());
    }
}
