//! Which network a call comes from, as the edge tells services: a keyed hash that says nothing but "the same as before".
//!
//! It travels in the metadata `linkmesh-network-bin`. The edge keys it with the day's salt, of the address's first 32 (IPv4) or
//! 64 bits (IPv6), so that guesses from one network can be counted together by whoever never learns an address.

use tonic::metadata::BinaryMetadataValue;
use tonic::metadata::MetadataMap;

/// The metadata key.
pub const METADATA_KEY: &str = "linkmesh-network-bin";

/// A network, for as long as a day lasts.
pub type NetworkHash = [u8; 16];

/// The network of a call; none if whoever called told none, as an operator does.
#[must_use]
pub fn of(metadata: &MetadataMap) -> Option<NetworkHash> {
    let bytes = metadata.get_bin(METADATA_KEY)?.to_bytes().ok()?;
    bytes.as_ref().try_into().ok()
}

/// Puts it into a call's metadata.
pub fn attach(network: &NetworkHash, metadata: &mut MetadataMap) {
    metadata.insert_bin(METADATA_KEY, BinaryMetadataValue::from_bytes(network));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_reads_back_and_other_bytes_are_none() {
        let mut metadata = MetadataMap::new();
        assert_eq!(of(&metadata), None);
        attach(&[7; 16], &mut metadata);
        assert_eq!(of(&metadata), Some([7; 16]));
        metadata.insert_bin(METADATA_KEY, BinaryMetadataValue::from_bytes(&[7; 15]));
        assert_eq!(of(&metadata), None);
    }
}
