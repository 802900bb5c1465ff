//! A click as it is counted, the dimensions that tell clicks apart, and which clicks are too old or too new.

use std::sync::Arc;
use std::time::Duration;

use super::agent::Agent;
use super::agent::BotReason;
use super::quarter::Quarter;

/// A click may lie this far ahead of the moment its record was appended: clocks differ.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// What clicks are told apart by in a rollup. The link is not among them: it is a part of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// ISO 3166-1 alpha-2.
    Country,
    /// `Linköping, SE`.
    City,
    /// `desktop`, `mobile`, `tablet` or `other`.
    Device,
    /// The operating system's family.
    Os,
    /// The browser's family.
    Browser,
    /// The referring host.
    Referrer,
    /// `utm_source`.
    UtmSource,
    /// `utm_medium`.
    UtmMedium,
    /// `utm_campaign`.
    UtmCampaign,
    /// `utm_term`.
    UtmTerm,
    /// `utm_content`.
    UtmContent,
    /// Why a click was taken for a bot's; people's clicks have none.
    BotReason,
}

/// Every dimension, in the order of their indices.
pub const DIMENSIONS: [Dimension; 12] = [
    Dimension::Country,
    Dimension::City,
    Dimension::Device,
    Dimension::Os,
    Dimension::Browser,
    Dimension::Referrer,
    Dimension::UtmSource,
    Dimension::UtmMedium,
    Dimension::UtmCampaign,
    Dimension::UtmTerm,
    Dimension::UtmContent,
    Dimension::BotReason,
];

impl Dimension {
    /// Its place in [`DIMENSIONS`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Its number in stored bytes, which never changes: its index plus one.
    pub fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// One click, decoded, its texts made valid and cut, its user agent understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Click {
    /// Whose link it was.
    pub workspace: [u8; 16],
    /// Which link.
    pub link: [u8; 16],
    /// When, microseconds since 1970, by the edge's clock.
    pub time_micros: i64,
    /// Why it is a bot's; nothing for people.
    pub bot: Option<BotReason>,
    /// The visitor's hash; nothing without a salt.
    pub visitor: Option<u64>,
    /// ISO 3166-1 alpha-2, or empty.
    pub country: String,
    /// The city's name with its country, or empty.
    pub city: String,
    /// What the user agent says.
    pub agent: Arc<Agent>,
    /// The referring host, or empty.
    pub referrer: String,
    /// `utm_source`, `utm_medium`, `utm_campaign`, `utm_term` and `utm_content`, each maybe empty.
    pub utm: [String; 5],
}

impl Click {
    /// The quarter hour that it is counted in.
    pub fn quarter(&self) -> Quarter {
        Quarter::of(self.time_micros)
    }

    /// Its value of a dimension; nothing where the dimension does not apply to it.
    pub fn value(&self, dimension: Dimension) -> Option<&str> {
        Some(match dimension {
            Dimension::Country => &self.country,
            Dimension::City => &self.city,
            Dimension::Device => self.agent.device.name(),
            Dimension::Os => &self.agent.os,
            Dimension::Browser => &self.agent.browser,
            Dimension::Referrer => &self.referrer,
            Dimension::UtmSource => &self.utm[0],
            Dimension::UtmMedium => &self.utm[1],
            Dimension::UtmCampaign => &self.utm[2],
            Dimension::UtmTerm => &self.utm[3],
            Dimension::UtmContent => &self.utm[4],
            Dimension::BotReason => self.bot?.name(),
        })
    }
}

/// Which clicks are counted: those that were made not too long before their record was appended, and not after it.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// How long counts are kept.
    pub retention: Duration,
}

impl Window {
    /// Whether a click of `time_micros` may be counted, in a record appended at `append_micros`.
    pub fn holds(&self, time_micros: i64, append_micros: i64) -> bool {
        let oldest = append_micros.saturating_sub(micros(self.retention));
        let newest = append_micros.saturating_add(micros(AHEAD_MAX));
        (oldest..=newest).contains(&time_micros)
    }
}

/// A duration in microseconds, as moments are kept.
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// Bytes as text that Postgres and protobuf take: valid UTF-8 without NUL, at most `bytes_max` bytes, cut between
/// characters.
pub fn text(bytes: Vec<u8>, bytes_max: usize) -> String {
    let mut text = String::from_utf8(bytes)
        .unwrap_or_else(|invalid| String::from_utf8_lossy(invalid.as_bytes()).into_owned());
    if text.contains('\0') {
        text.retain(|character| character != '\0');
    }
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn dimensions_keep_their_stored_numbers() {
        for (index, dimension) in DIMENSIONS.into_iter().enumerate() {
            assert_eq!(dimension.index(), index);
            assert_eq!(usize::from(dimension.number()), index + 1);
        }
    }

    #[test]
    fn the_window_reaches_back_for_the_retention_and_five_minutes_ahead() {
        let window = Window { retention: Duration::from_secs(3600) };
        let append = 10_000_000_000;
        assert!(window.holds(append, append));
        assert!(window.holds(append - 3_600_000_000, append));
        assert!(!window.holds(append - 3_600_000_001, append));
        assert!(window.holds(append + 300_000_000, append));
        assert!(!window.holds(append + 300_000_001, append));
    }

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(text("åäö".into(), 3), "å");
        assert_eq!(text(b"a\0b".to_vec(), 10), "ab");
        assert_eq!(text(vec![0xff, b'x'], 10), "\u{fffd}x");
    }

    proptest! {
        #[test]
        fn any_bytes_become_text_within_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let text = text(bytes, 128);
            prop_assert!(text.len() <= 128);
            prop_assert!(!text.contains('\0'));
        }
    }
}
