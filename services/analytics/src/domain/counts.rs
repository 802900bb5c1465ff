//! Two numbers that are never added to each other: clicks by people, and clicks by bots.

/// Clicks by people and by bots, previews and HEAD requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    /// By people.
    pub clicks: u64,
    /// By bots.
    pub bot_clicks: u64,
}

impl Counts {
    /// Adds one click.
    pub fn count(&mut self, bot: bool) {
        if bot {
            self.bot_clicks += 1;
        } else {
            self.clicks += 1;
        }
    }

    /// Adds what was counted elsewhere. Saturates: a count can't wrap into a small one.
    pub fn add(&mut self, other: Counts) {
        self.clicks = self.clicks.saturating_add(other.clicks);
        self.bot_clicks = self.bot_clicks.saturating_add(other.bot_clicks);
    }

    /// Both together: only to put values into an order.
    pub fn weight(&self) -> u64 {
        self.clicks.saturating_add(self.bot_clicks)
    }

    /// Nothing was counted.
    pub fn is_zero(&self) -> bool {
        self.clicks == 0 && self.bot_clicks == 0
    }
}
