//! What click number `n` is: a pure function of the seed, so that a run can be repeated.

use crate::Kind;
use crate::Options;
use crate::addresses::Addresses;
use crate::agents::Agents;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Where people come from; an empty one sends no referrer.
const REFERRERS: [&str; 12] = [
    "",
    "",
    "",
    "https://www.google.com/",
    "https://www.bing.com/",
    "https://duckduckgo.com/",
    "https://t.co/abc",
    "https://www.facebook.com/",
    "https://www.reddit.com/r/deals/comments/1",
    "https://news.ycombinator.com/item?id=1",
    "https://mail.example.org/inbox",
    "https://blog.example.net/2026/07/best-of",
];

/// What is in the query; most clicks have none.
const QUERIES: [&str; 8] = [
    "",
    "",
    "",
    "",
    "",
    "?utm_source=newsletter&utm_medium=email&utm_campaign=summer",
    "?utm_source=instagram&utm_medium=social&utm_content=story",
    "?utm_source=google&utm_medium=cpc&utm_campaign=brand&utm_term=shoes",
];

/// One click.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Click<'p> {
    /// Index of the link.
    pub(crate) link: usize,
    pub(crate) kind: Kind,
    pub(crate) agent: &'p str,
    pub(crate) address: Ipv4Addr,
    pub(crate) referrer: &'static str,
    pub(crate) query: &'static str,
}

/// All clicks of a run.
#[derive(Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// Sum of the links' popularity up to each.
    popularity: Vec<f64>,
    agents: Arc<Agents>,
    addresses: Addresses,
}

impl Plan {
    pub(crate) fn new(options: &Options, links: usize, addresses: Addresses) -> Self {
        let mut sum = 0.0;
        let popularity = (1..=links)
            .map(|rank| {
                sum += (rank as f64).powf(-options.zipf_exponent);
                sum
            })
            .collect();
        let agents = Arc::clone(&options.agents);
        Self { seed: options.seed, popularity, agents, addresses }
    }

    /// Click `number`.
    pub(crate) fn click(&self, number: u64) -> Click<'_> {
        let mut random = Random::new(self.seed, number);
        let total = self.popularity.last().copied().unwrap_or(0.0);
        let wanted = random.unit() * total;
        let last = self.popularity.len().saturating_sub(1);
        let link = self.popularity.partition_point(|sum| *sum <= wanted).min(last);
        let agent = self.agents.at(random.unit());
        Click {
            link,
            kind: agent.kind,
            agent: &agent.text,
            address: self.addresses.at(random.next(), random.next()),
            referrer: random.choose(&REFERRERS),
            query: random.choose(&QUERIES),
        }
    }
}

/// SplitMix64: tiny, and the same in every version of every library.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn new(seed: u64, number: u64) -> Self {
        let mut mixed = Self(seed);
        let start = mixed.next() ^ number;
        Self(start)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0, inclusive, to 1, exclusive.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn choose(&mut self, from: &[&'static str]) -> &'static str {
        let index = self.next() % from.len() as u64;
        usize::try_from(index).ok().and_then(|index| from.get(index)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, zipf_exponent: f64) -> Plan {
        let options = Options::new(vec![], String::new(), String::new()).expect("agents");
        let options = Options { seed, zipf_exponent, ..options };
        Plan::new(&options, 1_000, Addresses::open(None, 1).expect("nothing to open"))
    }

    #[test]
    fn a_seed_repeats_itself_and_another_does_not() {
        let of = |seed| {
            let plan = plan(seed, 1.0);
            (0..50).map(|number| plan.click(number).address).collect::<Vec<_>>()
        };
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
    }

    #[test]
    fn popularity_follows_zipf() {
        let shares = |exponent| {
            let plan = plan(1, exponent);
            let mut clicks = vec![0_u32; 1_000];
            for number in 0..100_000 {
                clicks[plan.click(number).link] += 1;
            }
            clicks
        };
        let zipf = shares(1.0);
        // 1 / H(1000) = 13.4 % for the first, a tenth of that for the tenth.
        assert!((12_500..14_300).contains(&zipf[0]), "{}", zipf[0]);
        assert!((1_150..1_550).contains(&zipf[9]), "{}", zipf[9]);
        assert!(shares(0.0).iter().all(|clicks| (40..180).contains(clicks)));
    }

    #[test]
    fn both_kinds_click() {
        let plan = plan(1, 1.0);
        let bots = (0..10_000).filter(|number| plan.click(*number).kind == Kind::Bot).count();
        assert!((1_000..2_500).contains(&bots), "{bots}");
    }
}
