//! The generator's own count: per link, answered and lost, people and bots apart.

use crate::Kind;
use serde::Serialize;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// A number of people's clicks and one of bots'.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Split {
    /// By people.
    pub people: u64,
    /// By bots.
    pub bots: u64,
}

impl Split {
    /// Both.
    #[must_use]
    pub fn total(self) -> u64 {
        self.people + self.bots
    }
}

impl std::ops::Add for Split {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { people: self.people + other.people, bots: self.bots + other.bots }
    }
}

impl std::iter::Sum for Split {
    fn sum<I: Iterator<Item = Self>>(items: I) -> Self {
        items.fold(Self::default(), |sum, item| sum + item)
    }
}

/// Counted while the clicks run, by all connections.
#[derive(Debug)]
pub(crate) struct Tally {
    links: Vec<Cells>,
}

#[derive(Debug, Default)]
struct Cells {
    answered: Pair,
    lost: Pair,
}

#[derive(Debug, Default)]
struct Pair {
    people: AtomicU64,
    bots: AtomicU64,
}

impl Pair {
    fn add(&self, kind: Kind) {
        let cell = match kind {
            Kind::Browser => &self.people,
            Kind::Bot => &self.bots,
        };
        cell.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Split {
        Split {
            people: self.people.load(Ordering::Relaxed),
            bots: self.bots.load(Ordering::Relaxed),
        }
    }
}

impl Tally {
    pub(crate) fn new(links: usize) -> Self {
        Self { links: (0..links).map(|_| Cells::default()).collect() }
    }

    /// The click was redirected.
    pub(crate) fn answered(&self, link: usize, kind: Kind) {
        self.links[link].answered.add(kind);
    }

    /// No answer came: the click may have been recorded.
    pub(crate) fn lost(&self, link: usize, kind: Kind) {
        self.links[link].lost.add(kind);
    }

    /// Answered and lost clicks of a link.
    pub(crate) fn of(&self, link: usize) -> (Split, Split) {
        (self.links[link].answered.read(), self.links[link].lost.read())
    }

    /// Answered and lost clicks of all.
    pub(crate) fn total(&self) -> (Split, Split) {
        let of =
            |cells: fn(&Cells) -> &Pair| self.links.iter().map(|link| cells(link).read()).sum();
        (of(|link| &link.answered), of(|link| &link.lost))
    }
}
