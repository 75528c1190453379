//! When a station is asked something beside set-points: what it can do, once it has spoken; how often to sample its meter,
//! when it joins or leaves the pool.

use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::Version;

use crate::capability::{Capabilities, Question};
use crate::config::Config;
use crate::streams::Monitors;

/// A station stays in the pool this long after its last set-point expired: short gaps between set-points change nothing.
const HOLD: TimeDelta = TimeDelta::minutes(5);

/// What was asked over one connection.
#[derive(Debug)]
pub(crate) struct Inquiry {
    version: Version,
    /// The station was answered once: before that it may not be ready to be asked.
    spoken: bool,
    /// It was asked what it can do.
    asked: bool,
    /// It was asked for phases and voltage.
    supply_asked: bool,
    /// It leaves questions unanswered and is not asked any more.
    deaf: bool,
    /// Sampling that it refused.
    refused: Option<u32>,
    /// It was asked to stream.
    streaming: bool,
    /// It was asked which monitors it has.
    reported: bool,
    /// It refused to stream or to end that: it is not asked for it again.
    streams_refused: bool,
    /// Until when it is a member of the pool.
    member_until: Option<DateTime<Utc>>,
}

impl Inquiry {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            spoken: false,
            asked: false,
            supply_asked: false,
            deaf: false,
            refused: None,
            streaming: false,
            reported: false,
            streams_refused: false,
            member_until: None,
        }
    }

    /// The station was answered.
    pub(crate) fn spoken(&mut self) {
        self.spoken = true;
    }

    /// The station was told a set-point that holds until then.
    pub(crate) fn told(&mut self, until: DateTime<Utc>) {
        self.member_until = self.member_until.max(Some(until + HOLD));
    }

    /// What to ask next, if anything.
    pub(crate) fn next(
        &self,
        config: &Config,
        known: &Capabilities,
        monitors: &Monitors,
        now: DateTime<Utc>,
    ) -> Option<Question> {
        if !config.inquire || !self.spoken || self.deaf {
            return None;
        }
        if !self.asked {
            return Some(Question::Capabilities);
        }
        // 1.6 has no word for them.
        if known.watts == Some(false) && !self.supply_asked && self.version != Version::V1_6 {
            return Some(Question::Supply);
        }
        let member = self.member_until.is_some_and(|until| until > now);
        let seconds = if member {
            config.pool_sample_seconds
        } else {
            config.idle_sample_seconds
        };
        let news = known.sample_seconds != Some(seconds) && self.refused != Some(seconds);
        if news {
            return Some(Question::Sample(seconds));
        }
        // An outlet that may discharge has two registers.
        let able = config.stream_seconds > 0 && known.streams.is_some_and(|most| most > 1);
        if self.streams_refused || !able {
            None
        } else if !member {
            monitors.any().then_some(Question::Unstream)
        } else if monitors.strayed() {
            // Until its report came nothing can be replaced; what it still has after that is not ours.
            (!self.reported).then_some(Question::Monitors)
        } else {
            (!self.streaming).then_some(Question::Stream)
        }
    }

    /// A question is on its way.
    pub(crate) fn asked(&mut self, question: Question) {
        match question {
            Question::Capabilities => self.asked = true,
            Question::Supply => self.supply_asked = true,
            Question::Sample(_) | Question::Certificate => {}
            Question::Stream => self.streaming = true,
            Question::Unstream => self.streaming = false,
            // Once their numbers are known it is asked to stream again.
            Question::Monitors => (self.reported, self.streaming) = (true, false),
        }
    }

    /// A question was refused: what it was about stays as it is.
    pub(crate) fn refused(&mut self, question: Question) {
        match question {
            Question::Capabilities | Question::Supply | Question::Certificate => {}
            Question::Sample(seconds) => self.refused = Some(seconds),
            Question::Stream | Question::Unstream | Question::Monitors => {
                self.streams_refused = true;
            }
        }
    }

    /// A question was not answered in time. Another would keep set-points waiting.
    pub(crate) fn unanswered(&mut self) {
        self.deaf = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_the_pool_sample_often_and_others_seldom() {
        let (config, at) = (Config::default(), DateTime::UNIX_EPOCH);
        let mut known = Capabilities::default();
        let monitors = Monitors::default();
        let mut inquiry = Inquiry::new(Version::V2_1);
        assert_eq!(
            inquiry.next(&config, &known, &monitors, at),
            None,
            "it has not spoken"
        );
        inquiry.spoken();
        let first = inquiry.next(&config, &known, &monitors, at).unwrap();
        assert_eq!(first, Question::Capabilities);
        inquiry.asked(first);
        let idle = Question::Sample(config.idle_sample_seconds);
        assert_eq!(inquiry.next(&config, &known, &monitors, at), Some(idle));
        known.sample_seconds = Some(config.idle_sample_seconds);
        assert_eq!(inquiry.next(&config, &known, &monitors, at), None);
        inquiry.told(at + TimeDelta::seconds(30));
        let often = Question::Sample(config.pool_sample_seconds);
        assert_eq!(inquiry.next(&config, &known, &monitors, at), Some(often));
        known.sample_seconds = Some(config.pool_sample_seconds);
        let later = at + TimeDelta::minutes(6);
        assert_eq!(inquiry.next(&config, &known, &monitors, later), Some(idle));
        inquiry.refused(idle);
        assert_eq!(
            inquiry.next(&config, &known, &monitors, later),
            None,
            "asked once"
        );
    }

    #[test]
    fn a_station_that_does_not_answer_is_left_alone() {
        let mut inquiry = Inquiry::new(Version::V2_1);
        inquiry.spoken();
        inquiry.unanswered();
        let known = Capabilities::default();
        let next = inquiry.next(
            &Config::default(),
            &known,
            &Monitors::default(),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!(next, None);
    }
}
