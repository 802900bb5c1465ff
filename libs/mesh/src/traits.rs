//! What a caller knows of a method from descriptors that are newer than this program.

use crate::methods::METHODS;
use crate::methods::Messages;
use crate::methods::Method;
use crate::methods::Safety;
use std::sync::LazyLock;

/// What a method allows, by its descriptor. In the extensions of a request it goes before what this program was built with: for
/// callers, such as a gateway, that read descriptors while they run. Such calls are counted under the method `other`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MethodTraits {
    /// Whether it is `NO_SIDE_EFFECTS` or `IDEMPOTENT`: it may be done again though it may have been done.
    pub is_repeatable: bool,
    /// Whether it takes a stream.
    pub client_streams: bool,
    /// Whether it answers with a stream.
    pub server_streams: bool,
}

/// A method for each combination, by the bits of its index.
static ALL: LazyLock<Vec<Method>> = LazyLock::new(|| {
    let of_bits = |bits: usize| {
        let messages = |bit| if bits & bit != 0 { Messages::Stream } else { Messages::One };
        Method {
            safety: if bits & REPEATABLE != 0 { Safety::Repeatable } else { Safety::Once },
            requests: messages(CLIENT_STREAMS),
            responses: messages(SERVER_STREAMS),
            ..Method::unknown()
        }
    };
    (0..=REPEATABLE | CLIENT_STREAMS | SERVER_STREAMS).map(of_bits).collect()
});
const REPEATABLE: usize = 1;
const CLIENT_STREAMS: usize = 2;
const SERVER_STREAMS: usize = 4;

impl MethodTraits {
    /// What is known of the method with this gRPC path without being told; of one that is not known, nothing is assumed.
    #[must_use]
    pub fn built_in(path: &str) -> Self {
        let method = METHODS.of_path(path);
        Self {
            is_repeatable: method.safety == Safety::Repeatable,
            client_streams: method.requests == Messages::Stream,
            server_streams: method.responses == Messages::Stream,
        }
    }

    pub(crate) fn method(self) -> &'static Method {
        let bit = |is_set, bit| if is_set { bit } else { 0 };
        let bits = bit(self.is_repeatable, REPEATABLE)
            | bit(self.client_streams, CLIENT_STREAMS)
            | bit(self.server_streams, SERVER_STREAMS);
        &ALL[bits]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_is_what_is_told_of_it() {
        for bits in 0..8 {
            let is_set = |bit: usize| bits & bit != 0;
            let traits = MethodTraits {
                is_repeatable: is_set(REPEATABLE),
                client_streams: is_set(CLIENT_STREAMS),
                server_streams: is_set(SERVER_STREAMS),
            };
            let method = traits.method();
            assert_eq!(method.safety == Safety::Repeatable, traits.is_repeatable);
            assert_eq!(method.requests == Messages::Stream, traits.client_streams);
            assert_eq!(method.responses == Messages::Stream, traits.server_streams);
            assert_eq!((method.index, method.requires), (None, None));
        }
        let get = MethodTraits::built_in("/linkmesh.links.v1.LinksService/GetLink");
        assert!(get.is_repeatable && !get.client_streams && !get.server_streams);
        let unknown = MethodTraits::built_in("/no.Such/Method");
        assert!(!unknown.is_repeatable && unknown.client_streams && unknown.server_streams);
    }
}
