//! When the synchronous area is in alert, hence when limited reservoirs begin to be used up (`markets.md` 4.3).

use chrono::{DateTime, TimeDelta, Utc};

/// End of the standard range, mHz.
const STANDARD_MHZ: f64 = 50.0;
/// Deviation that is an alert after [`LONG`].
const LARGE_MHZ: f64 = 100.0;
/// Deviation that is an alert at once.
const LARGEST_MHZ: f64 = 200.0;
const LONG: TimeDelta = TimeDelta::minutes(5);
const LONGEST: TimeDelta = TimeDelta::minutes(15);

/// Watches frequency samples for the alert state: more than 50 mHz for 15 minutes, more than 100 mHz for 5, or 200 mHz at once, in
/// either direction. It ends when frequency is back within 50 mHz.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AlertDetector {
    outside_standard: Option<DateTime<Utc>>,
    outside_large: Option<DateTime<Utc>>,
    alert: Option<DateTime<Utc>>,
}

impl AlertDetector {
    /// Takes in one sample and says since when there is an alert, if there is one.
    pub fn sample(&mut self, at: DateTime<Utc>, deviation_mhz: f64) -> Option<DateTime<Utc>> {
        let size = deviation_mhz.abs();
        let since =
            |begun: Option<DateTime<Utc>>, outside: bool| outside.then(|| begun.unwrap_or(at));
        self.outside_standard = since(self.outside_standard, size > STANDARD_MHZ);
        self.outside_large = since(self.outside_large, size > LARGE_MHZ);
        let held =
            |begun: Option<DateTime<Utc>>, span: TimeDelta| begun.is_some_and(|b| at - b >= span);
        if self.outside_standard.is_none() {
            self.alert = None;
        } else if self.alert.is_none()
            && (size >= LARGEST_MHZ
                || held(self.outside_large, LONG)
                || held(self.outside_standard, LONGEST))
        {
            self.alert = Some(at);
        }
        self.alert
    }

    /// Since when there is an alert, if there is one.
    #[must_use]
    pub const fn since(&self) -> Option<DateTime<Utc>> {
        self.alert
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert_after(deviation: f64) -> Option<TimeDelta> {
        let start: DateTime<Utc> = "2026-01-10T00:00:00Z".parse().unwrap();
        let mut detector = AlertDetector::default();
        (0..3_600)
            .map(TimeDelta::seconds)
            .find(|after| detector.sample(start + *after, deviation).is_some())
    }

    #[test]
    fn an_alert_begins_when_the_rule_book_says() {
        assert_eq!(alert_after(60.0), Some(TimeDelta::minutes(15)), "50.060 Hz");
        assert_eq!(
            alert_after(-110.0),
            Some(TimeDelta::minutes(5)),
            "49.890 Hz"
        );
        assert_eq!(alert_after(-200.0), Some(TimeDelta::zero()), "49.800 Hz");
        assert_eq!(
            alert_after(50.0),
            None,
            "the edge of the standard range is inside"
        );
    }

    #[test]
    fn a_return_to_the_standard_range_ends_it_and_counts_anew() {
        let start: DateTime<Utc> = "2026-01-10T00:00:00Z".parse().unwrap();
        let mut detector = AlertDetector::default();
        assert!(detector.sample(start, 200.0).is_some());
        assert_eq!(
            detector.sample(start + TimeDelta::minutes(3), 60.0),
            Some(start),
            "still outside"
        );
        assert_eq!(detector.sample(start + TimeDelta::minutes(4), 40.0), None);
        assert_eq!(detector.sample(start + TimeDelta::minutes(5), 60.0), None);
        assert_eq!(detector.sample(start + TimeDelta::minutes(19), 60.0), None);
        assert!(
            detector
                .sample(start + TimeDelta::minutes(20), 60.0)
                .is_some()
        );
    }
}
