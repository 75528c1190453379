//! What the pool should do now: baseline, frequency containment and restoration on top of it.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use market::GridSignal;
use units::Power;

use crate::Droop;

/// Reserve sold for this instant, each at least zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sold {
    /// Frequency containment, both ways.
    pub fcr: Power,
    /// Restoration, by which power may be asked to fall.
    pub afrr_up: Power,
    /// Restoration, by which power may be asked to rise.
    pub afrr_down: Power,
}

/// What the pool should do now and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Power without activation.
    pub baseline: Power,
    /// Change for frequency containment.
    pub fcr: Power,
    /// Change for restoration.
    pub afrr: Power,
    /// Sum of the three.
    pub power: Power,
    /// Distance that counts as followed.
    pub tolerance: Power,
}

impl Target {
    /// Who moved the pool most.
    #[must_use]
    pub fn winner(&self) -> &'static str {
        match (self.fcr, self.afrr) {
            (Power::ZERO, Power::ZERO) => "schedule",
            (fcr, afrr) if fcr.abs() >= afrr.abs() => "fcr",
            _ => "afrr",
        }
    }
}

/// How targets are made and judged.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Droop of frequency containment.
    pub droop: Droop,
    /// Full activation time of restoration: the pool follows its signal at `C` per this time.
    pub full_activation: TimeDelta,
    /// Time the fleet has to reach a target before it is judged.
    pub settling: TimeDelta,
    /// Least distance that counts as followed, however little was sold.
    pub least_tolerance: Power,
}

impl Default for Settings {
    /// Continental FCR (30 s to full response) and aFRR (5 min).
    fn default() -> Self {
        Self {
            droop: Droop::default(),
            full_activation: TimeDelta::seconds(300),
            settling: TimeDelta::seconds(30),
            least_tolerance: Power::from_watts(2_000),
        }
    }
}

/// Longest past of targets kept for judging, whatever the age of the samples.
const LONGEST_MEMORY: TimeDelta = TimeDelta::hours(1);

/// Makes targets and remembers them until they are judged.
#[derive(Debug, Clone, Default)]
pub struct Tracker {
    settings: Settings,
    afrr: Option<(DateTime<Utc>, Power)>,
    targets: VecDeque<(DateTime<Utc>, Power)>,
}

impl Tracker {
    /// A tracker that has no past.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            afrr: None,
            targets: VecDeque::new(),
        }
    }

    /// The target at `now`. A signal beyond what was sold is followed as far as it was sold.
    pub fn target(
        &mut self,
        now: DateTime<Utc>,
        baseline: Power,
        signal: Option<&GridSignal>,
        sold: Sold,
    ) -> Target {
        let deviation = signal.and_then(|s| s.deviation_mhz).unwrap_or(0.0);
        let fcr = self.settings.droop.response(sold.fcr, deviation);
        let asked = signal.and_then(|s| s.afrr).unwrap_or(Power::ZERO);
        let afrr = self.ramp(now, asked.clamp(-sold.afrr_up, sold.afrr_down), sold);
        let power = baseline + fcr + afrr;
        self.remember(now, power);
        let share = self
            .settings
            .droop
            .tolerance(sold.fcr + sold.afrr_up.max(sold.afrr_down));
        Target {
            baseline,
            fcr,
            afrr,
            power,
            tolerance: share.max(self.settings.least_tolerance),
        }
    }

    /// Moves towards `asked` at the rate of the full activation time, never beyond what is sold now.
    fn ramp(&mut self, now: DateTime<Utc>, asked: Power, sold: Sold) -> Power {
        let (since, from) = self.afrr.unwrap_or((now, Power::ZERO));
        let from = from.clamp(-sold.afrr_up, sold.afrr_down);
        let full = self.settings.full_activation.as_seconds_f64().max(1.0);
        let passed = (now - since).as_seconds_f64().max(0.0) / full;
        let reach = sold.afrr_up.max(sold.afrr_down).scale(passed.min(2.0));
        let value = asked.clamp(from - reach, from + reach);
        self.afrr = Some((now, value));
        value
    }

    fn remember(&mut self, now: DateTime<Utc>, power: Power) {
        self.targets.push_back((now, power));
        while self.targets.len() > 1
            && self
                .targets
                .front()
                .is_some_and(|(at, _)| now - *at > LONGEST_MEMORY)
        {
            self.targets.pop_front();
        }
    }

    /// How far restoration has ramped, and when: all that later targets follow from.
    #[must_use]
    pub const fn restoration(&self) -> Option<(DateTime<Utc>, Power)> {
        self.afrr
    }

    /// Goes on from where another tracker was.
    pub const fn resume(&mut self, at: DateTime<Utc>, restoration: Power) {
        self.afrr = Some((at, restoration));
    }

    /// Distance of `metered` pool power, from samples `age` old on average, to the band of targets that were in force during the response
    /// window before `now`; zero inside, positive above the band. `None` before the first target.
    #[must_use]
    pub fn error(&self, now: DateTime<Utc>, metered: Power, age: TimeDelta) -> Option<Power> {
        let from = now - self.settings.settling - age.max(TimeDelta::zero());
        // The target in force at the start of the window is the last one said before it.
        let first = self
            .targets
            .partition_point(|(at, _)| *at <= from)
            .saturating_sub(1);
        let window = self.targets.range(first..).map(|(_, power)| *power);
        let low = window.clone().min()?;
        let high = window.max()?;
        Some(metered - metered.clamp(low, high))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-01-10T10:00:00Z".parse().unwrap()
    }

    fn signal(deviation_mhz: Option<f64>, afrr_kw: Option<f64>) -> GridSignal {
        GridSignal {
            id: "s".to_owned(),
            at: start(),
            deviation_mhz,
            afrr: afrr_kw.map(Power::from_kw),
        }
    }

    const fn kw(kw: i64) -> Power {
        Power::from_watts(kw * 1_000)
    }

    #[test]
    fn containment_is_at_once_and_restoration_ramps_over_its_full_activation_time() {
        let mut tracker = Tracker::default();
        let sold = Sold {
            fcr: kw(2_000),
            afrr_up: kw(1_000),
            afrr_down: Power::ZERO,
        };
        let asked = signal(Some(-100.0), Some(-3_000.0));
        let first = tracker.target(start(), kw(500), Some(&asked), sold);
        assert_eq!(
            (first.fcr, first.afrr, first.power),
            (kw(-1_000), Power::ZERO, kw(-500))
        );
        let half = tracker.target(
            start() + TimeDelta::seconds(150),
            kw(500),
            Some(&asked),
            sold,
        );
        assert_eq!(half.afrr, kw(-500));
        let full = tracker.target(
            start() + TimeDelta::seconds(600),
            kw(500),
            Some(&asked),
            sold,
        );
        assert_eq!(full.afrr, kw(-1_000), "no more than was sold");
        let gone = tracker.target(
            start() + TimeDelta::seconds(601),
            kw(500),
            Some(&asked),
            Sold::default(),
        );
        assert_eq!(
            (gone.power, gone.winner()),
            (kw(500), "schedule"),
            "nothing sold, nothing followed"
        );
    }

    #[test]
    fn the_error_is_the_distance_to_the_targets_of_the_response_window() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.error(start(), kw(1), TimeDelta::zero()), None);
        for (seconds, power) in [(0, 100), (60, 200), (120, 150)] {
            tracker.target(
                start() + TimeDelta::seconds(seconds),
                kw(power),
                None,
                Sold::default(),
            );
        }
        let now = start() + TimeDelta::seconds(160);
        let error = |metered: i64, age: i64| {
            tracker
                .error(now, kw(metered), TimeDelta::seconds(age))
                .unwrap()
        };
        assert_eq!(error(150, 0), Power::ZERO);
        assert_eq!(
            error(190, 0),
            kw(40),
            "the target of 120 s has had its time to settle"
        );
        assert_eq!(
            error(190, 30),
            Power::ZERO,
            "older samples may still show the one before"
        );
        assert_eq!(error(90, 300), kw(-10));
    }
}
