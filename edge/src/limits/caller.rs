//! Whose requests are counted together, and where a request's verdict is kept until it is answered.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::limits::Verdict;
use crate::limits::rules::Rule;

/// Whose requests are counted together.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(super) kind: Kind,
    /// What it is called in Redis; none if it can't be named there.
    pub(super) id: Option<[u8; 16]>,
    pub(super) hash: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Key,
    User,
    Address,
}

/// What a request was charged to its address, in case it need not have been.
#[derive(Debug)]
pub(crate) struct Charge {
    pub(super) caller: Caller,
    pub(super) rule: Arc<Rule>,
    pub(super) taken: Taken,
}

/// Where a request was taken from its buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    InRedis,
    /// At this edge, as one of so many that share the limits.
    Here {
        shares: u32,
    },
}

/// Where a request is from, and what its answer says about limits; an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) address: IpAddr,
    /// What was decided last about it.
    decided: Arc<Mutex<Option<Verdict>>>,
}

impl Kind {
    fn letter(self) -> char {
        match self {
            Self::Key => 'k',
            Self::User => 'u',
            Self::Address => 'a',
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::User => "user",
            Self::Address => "address",
        }
    }
}

impl Caller {
    /// A bucket's name in Redis. What stands in braces is what a cluster of Redis shares out by: a caller's buckets stay together.
    pub(super) fn bucket(&self, rule: &Rule) -> Option<String> {
        let id = u128::from_be_bytes(self.id?);
        Some(format!("limit:{{{}{id:032x}}}:{}", self.kind.letter(), rule.bucket))
    }
}

impl Client {
    pub(crate) fn at(address: IpAddr) -> Self {
        Self { address, decided: Arc::default() }
    }

    /// Has the answer say this, in place of what it would have said before.
    pub(crate) fn tell(&self, verdict: Verdict) {
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(verdict);
    }

    pub(crate) fn told(&self) -> Option<Verdict> {
        self.decided.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
