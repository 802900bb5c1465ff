//! What a `user-agent` header says: device, operating system, browser, and whether it is a bot's.
//!
//! Two maintained rule sets, kept under `data/` with their licences: uap-core for names, crawler-user-agents for bots. Their
//! regular expressions run once for each distinct header; a bounded cache remembers what came out.

use std::sync::Arc;

use moka::sync::Cache;
use regex::bytes::RegexSet;
use regex::bytes::RegexSetBuilder;

const NAMES: &str = include_str!("../../data/uap-core-regexes.yaml");
const CRAWLERS: &str = include_str!("../../data/crawler-user-agents.txt");

/// Distinct user agents that are remembered; with at most 512 bytes each, some 20 MB.
const REMEMBERED_MAX: u64 = 20_000;
/// The crawlers' patterns, compiled, take at most this much.
const CRAWLERS_BYTES_MAX: usize = 64 << 20;

/// Why a click was taken for a bot's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BotReason {
    /// It was a HEAD request.
    Head,
    /// It had no user agent.
    NoUserAgent,
    /// Its user agent is a crawler's, a preview's or a tool's.
    UserAgent,
}

impl BotReason {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            BotReason::Head => "head",
            BotReason::NoUserAgent => "no_user_agent",
            BotReason::UserAgent => "user_agent",
        }
    }
}

/// The kind of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Device {
    /// A computer.
    Desktop,
    /// A phone.
    Mobile,
    /// A tablet.
    Tablet,
    /// A television, a console, a bot, or not known.
    Other,
}

impl Device {
    /// As the API names it.
    pub fn name(self) -> &'static str {
        match self {
            Device::Desktop => "desktop",
            Device::Mobile => "mobile",
            Device::Tablet => "tablet",
            Device::Other => "other",
        }
    }
}

/// What a user agent says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// The kind of device.
    pub device: Device,
    /// The operating system's family; empty if unknown.
    pub os: String,
    /// The browser's family; empty if unknown.
    pub browser: String,
    /// Why it is a bot's; nothing for people.
    pub bot: Option<BotReason>,
}

/// Understands user agents.
pub struct Agents {
    names: ua_parser::Extractor<'static>,
    crawlers: RegexSet,
    remembered: Cache<Box<[u8]>, Arc<Agent>, rapidhash::fast::RandomState>,
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Agents")
            .field("remembered", &self.remembered.entry_count())
            .finish()
    }
}

/// A rule set that was shipped does not compile: the text says which.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// uap-core's YAML.
    #[error("data/uap-core-regexes.yaml: {0}")]
    Yaml(#[from] serde_yaml_ng::Error),
    /// uap-core's expressions.
    #[error("data/uap-core-regexes.yaml: {0}")]
    Names(#[from] ua_parser::Error),
    /// The crawlers' expressions.
    #[error("data/crawler-user-agents.txt: {0}")]
    Crawlers(#[from] regex::Error),
}

impl Agents {
    /// Compiles the rules; takes a moment of processor time.
    pub fn compile() -> Result<Agents, RulesError> {
        let rules: ua_parser::Regexes<'static> = serde_yaml_ng::from_str(NAMES)?;
        let names = ua_parser::Extractor::try_from(rules)?;
        let patterns = CRAWLERS.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let crawlers = RegexSetBuilder::new(patterns)
            .unicode(false)
            .size_limit(CRAWLERS_BYTES_MAX)
            .dfa_size_limit(CRAWLERS_BYTES_MAX)
            .build()?;
        let remembered = Cache::builder()
            .max_capacity(REMEMBERED_MAX)
            .build_with_hasher(rapidhash::fast::RandomState::default());
        Ok(Agents { names, crawlers, remembered })
    }

    /// What a `user-agent` header says.
    pub fn understand(&self, header: &[u8]) -> Arc<Agent> {
        if let Some(agent) = self.remembered.get(header) {
            return agent;
        }
        let agent = Arc::new(self.parse(header));
        self.remembered.insert(header.into(), Arc::clone(&agent));
        agent
    }

    fn parse(&self, header: &[u8]) -> Agent {
        let text = String::from_utf8_lossy(header);
        let text = text.trim();
        if text.is_empty() {
            let bot = Some(BotReason::NoUserAgent);
            return Agent { device: Device::Other, os: String::new(), browser: String::new(), bot };
        }
        let (browser, os, device) = self.names.extract(text);
        let spider = device.is_some_and(|device| device.device == "Spider");
        let bot = spider || self.crawlers.is_match(text.as_bytes());
        let os = os.map(|os| os.os.into_owned()).unwrap_or_default();
        Agent {
            device: if bot { Device::Other } else { device_of(text, &os) },
            os: without_nul(os),
            browser: without_nul(browser.map(|name| name.family.into_owned()).unwrap_or_default()),
            bot: bot.then_some(BotReason::UserAgent),
        }
    }
}

/// Some rules take a name out of the header itself.
fn without_nul(mut name: String) -> String {
    name.retain(|character| character != '\0');
    name
}

/// uap-core names models, not kinds; the kind shows in a few words that vendors have kept for years.
fn device_of(header: &str, os: &str) -> Device {
    let says = |words: &[&str]| words.iter().any(|word| header.contains(word));
    const NEITHER: [&str; 14] = [
        "SmartTV",
        "SMART-TV",
        "Smart TV",
        "AppleTV",
        "Apple TV",
        "GoogleTV",
        "Android TV",
        "HbbTV",
        "Web0S",
        "BRAVIA",
        "AFT",
        "PlayStation",
        "Nintendo",
        "Xbox",
    ];
    if says(&NEITHER) {
        return Device::Other;
    }
    if says(&["iPad", "Tablet", "tablet", "PlayBook", "Kindle", "Silk/"]) {
        // Windows says "Tablet PC" of any computer with a touch screen.
        return if header.contains("Windows NT") { Device::Desktop } else { Device::Tablet };
    }
    if says(&[
        "iPhone",
        "iPod",
        "Windows Phone",
        "Opera Mini",
        "BlackBerry",
        "BB10",
        "KAIOS",
        "Mobile",
    ]) {
        return Device::Mobile;
    }
    match os {
        "iOS" => Device::Mobile,
        // Chrome on Android says "Mobile" on phones and leaves it out on tablets.
        "Android" => Device::Tablet,
        "Windows" | "Mac OS X" | "Linux" | "Ubuntu" | "Chrome OS" | "Debian" | "Fedora"
        | "FreeBSD" | "OpenBSD" | "NetBSD" | "Mac OS" | "Red Hat" | "SUSE" | "Arch Linux"
        | "Linux Mint" | "Solaris" | "CentOS" | "Gentoo" => Device::Desktop,
        _ => Device::Other,
    }
}

#[cfg(test)]
pub(crate) mod tests;
