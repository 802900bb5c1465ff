//! Who clicks: user agents with weights, and which of them are bots.

use anyhow::Context as _;
use serde::Deserialize;

const COMMITTED: &str = include_str!("../data/agents.tsv");

/// What a user agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person's browser.
    Browser,
    /// A crawler, a preview or a tool.
    Bot,
}

/// One user agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// What it certainly is.
    pub kind: Kind,
    /// The header.
    pub text: String,
}

/// A weighted mix of user agents.
#[derive(Debug, Clone)]
pub struct Agents {
    /// Each with the sum of the weights up to it.
    list: Vec<(f64, Agent)>,
    /// Whether the kinds are certain; if not, people and bots are compared as one.
    pub has_certain_kinds: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    user_agent: String,
    weight: f64,
}

impl Agents {
    /// The committed list: some 250 that nobody takes for the other kind.
    ///
    /// # Errors
    /// A line is malformed.
    pub fn committed() -> anyhow::Result<Self> {
        let lines = COMMITTED.lines().filter(|line| !line.starts_with('#'));
        let weighted = lines.map(|line| {
            let mut columns = line.splitn(3, '\t');
            let kind = match columns.next() {
                Some("browser") => Kind::Browser,
                Some("bot") => Kind::Bot,
                other => anyhow::bail!("`{other:?}` is neither browser nor bot"),
            };
            let weight = columns.next().context("a line without a weight")?.parse()?;
            let text = columns.next().context("a line without an agent")?.to_owned();
            Ok((weight, Agent { kind, text }))
        });
        Self::new(weighted.collect::<anyhow::Result<_>>()?, true)
    }

    /// The profiles of the npm package `user-agents` (its `user-agents.json`): what people really use, by weight.
    /// Which of them the platform takes for bots is not certain.
    ///
    /// # Errors
    /// The text is no such file.
    pub fn profiles(json: &str) -> anyhow::Result<Self> {
        let profiles: Vec<Profile> = serde_json::from_str(json).context("profiles")?;
        let weighted = profiles.into_iter().map(|profile| {
            (profile.weight, Agent { kind: Kind::Browser, text: profile.user_agent })
        });
        Self::new(weighted.collect(), false)
    }

    fn new(weighted: Vec<(f64, Agent)>, has_certain_kinds: bool) -> anyhow::Result<Self> {
        anyhow::ensure!(!weighted.is_empty(), "there are no user agents");
        let mut sum = 0.0;
        let mut list = Vec::with_capacity(weighted.len());
        for (weight, agent) in weighted {
            anyhow::ensure!(weight > 0.0, "`{}` has the weight {weight}", agent.text);
            sum += weight;
            list.push((sum, agent));
        }
        Ok(Self { list, has_certain_kinds })
    }

    /// The agent at `position` of 0 to 1 of the mix.
    pub(crate) fn at(&self, position: f64) -> &Agent {
        let (last, rest) = self.list.split_last().expect("never empty");
        let wanted = position * last.0;
        let index = rest.partition_point(|(sum, _)| *sum <= wanted);
        &self.list[index].1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_list_holds_some_250_distinct_agents_of_both_kinds() {
        let agents = Agents::committed().expect("well-formed");
        let mut texts: Vec<&str> =
            agents.list.iter().map(|(_, agent)| agent.text.as_str()).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), agents.list.len());
        assert!((200..=300).contains(&texts.len()));
        let bots = agents.list.iter().filter(|(_, agent)| agent.kind == Kind::Bot).count();
        assert!((50..=100).contains(&bots));
    }

    #[test]
    fn every_position_has_an_agent_in_proportion_to_its_weight() {
        let json = r#"[{"userAgent": "a", "weight": 1}, {"userAgent": "b", "weight": 3}]"#;
        let agents = Agents::profiles(json).expect("well-formed");
        let of = |position| agents.at(position).text.as_str();
        assert_eq!((of(0.0), of(0.24), of(0.26), of(1.0)), ("a", "a", "b", "b"));
    }
}
