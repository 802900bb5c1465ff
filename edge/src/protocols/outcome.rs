//! How a call went, told to whoever counts it: gRPC says so only at the end, and each protocol in another way.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;

use tonic::Code;

/// Nothing has been said yet.
const UNTOLD: i32 = -1;

/// The code of a call, once it is known. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome(Arc<AtomicI32>);

impl Default for Outcome {
    fn default() -> Self {
        Self(Arc::new(AtomicI32::new(UNTOLD)))
    }
}

impl Outcome {
    pub(crate) fn tell(&self, code: Code) {
        self.0.store(code.into(), Ordering::Relaxed);
    }

    /// `None` for an answer that broke off.
    pub(crate) fn code(&self) -> Option<Code> {
        let code = self.0.load(Ordering::Relaxed);
        (code != UNTOLD).then(|| Code::from_i32(code))
    }
}
