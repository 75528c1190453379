//! How far a station's clock is off, from the instants it tells and the instants we hear them.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

/// Messages over which the smallest delay counts: one that was held back does not look like a slow clock.
const WINDOW: usize = 16;
/// Below this nothing is said: the network takes as long.
const NOTEWORTHY: TimeDelta = TimeDelta::seconds(10);

/// The delays of the newest messages: our time of receipt less the station's instant.
#[derive(Debug, Default)]
pub(crate) struct Skew {
    delays: VecDeque<TimeDelta>,
    /// What was said last.
    said: TimeDelta,
}

impl Skew {
    /// Takes in a message that was not kept back. Returns the offset when it is worth saying: for the first time, or when it
    /// has changed by more than the limit.
    pub(crate) fn heard(&mut self, told: DateTime<Utc>, now: DateTime<Utc>) -> Option<TimeDelta> {
        if self.delays.len() == WINDOW {
            self.delays.pop_front();
        }
        self.delays.push_back(now - told);
        let offset = self.offset()?;
        let news = (offset - self.said).abs() > NOTEWORTHY;
        if news {
            self.said = offset;
        }
        news.then_some(offset)
    }

    /// How far the station's clock is behind ours (negative: ahead), at most: the network's delay is part of it.
    pub(crate) fn offset(&self) -> Option<TimeDelta> {
        self.delays.iter().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    #[test]
    fn the_smallest_delay_counts_and_news_is_said_once() {
        let mut skew = Skew::default();
        assert_eq!(
            skew.heard(at(0), at(1)),
            None,
            "a network's delay is no news"
        );
        assert_eq!(skew.heard(at(0), at(900)), None, "kept back, not slow");
        assert_eq!(skew.offset(), Some(TimeDelta::seconds(1)));
        assert_eq!(skew.heard(at(130), at(10)), Some(TimeDelta::seconds(-120)));
        assert_eq!(skew.heard(at(131), at(11)), None, "said before");
    }

    #[test]
    fn a_clock_that_was_set_right_is_believed_again() {
        let mut skew = Skew::default();
        skew.heard(at(130), at(10));
        let news: Vec<_> = (0..20).filter_map(|n| skew.heard(at(n), at(n))).collect();
        assert_eq!(news, [TimeDelta::zero()]);
    }
}
