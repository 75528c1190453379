//! What is known of the days: prices by clock hour, and forecasts published before the gate.

use chrono::{Datelike, NaiveDate, NaiveDateTime, TimeDelta};

/// Clock hours of a day.
pub const HOURS: usize = 24;

/// One value per clock hour. On the day that skips an hour its value lies between its neighbours', on the day that
/// repeats one it is the mean of both.
pub type Hours = [f64; HOURS];

/// One local day.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceDay {
    /// Local date.
    pub date: NaiveDate,
    /// Auction prices, currency per `MWh`; `None` until they are published.
    pub price: Option<Hours>,
    /// What was forecast for the day before its gate (load, wind and sun, ...), the same series in the same order every
    /// day.
    pub known: Vec<Hours>,
    /// A public holiday, by a calendar known long before.
    pub holiday: bool,
}

/// What keeps days from being a history of prices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PriceError {
    /// A date is missing, or out of order.
    #[error("{met} follows {before}, expected the next day")]
    Gap {
        /// Last good date.
        before: NaiveDate,
        /// What came next.
        met: NaiveDate,
    },
    /// A day with another number of forecast series than the first.
    #[error("{date} has {met} series of forecasts, expected {expected} as on the first day")]
    Known {
        /// The day.
        date: NaiveDate,
        /// Series it has.
        met: usize,
        /// Series of the first day.
        expected: usize,
    },
    /// A value that is no number.
    #[error("{date} hour {hour}: a value that is no finite number")]
    NotFinite {
        /// The day.
        date: NaiveDate,
        /// Clock hour.
        hour: usize,
    },
    /// Too little to learn from.
    #[error("{met} days with prices before {day}, expected at least {expected}")]
    TooFew {
        /// Day to forecast.
        day: NaiveDate,
        /// Days with prices before it.
        met: usize,
        /// Least number.
        expected: usize,
    },
}

/// Consecutive days, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct PriceDays(Vec<PriceDay>);

impl PriceDays {
    /// Days in order.
    ///
    /// # Errors
    /// [`PriceError`] for a missing day, a value that is no number, or forecasts that do not match the first day's.
    pub fn try_new(days: Vec<PriceDay>) -> Result<Self, PriceError> {
        for pair in days.windows(2) {
            if pair[0].date.succ_opt() != Some(pair[1].date) {
                return Err(PriceError::Gap {
                    before: pair[0].date,
                    met: pair[1].date,
                });
            }
        }
        let expected = days.first().map_or(0, |d| d.known.len());
        for day in &days {
            if day.known.len() != expected {
                return Err(PriceError::Known {
                    date: day.date,
                    met: day.known.len(),
                    expected,
                });
            }
            let hours = day.known.iter().chain(&day.price);
            if let Some(hour) = hours
                .filter_map(|h| h.iter().position(|v| !v.is_finite()))
                .next()
            {
                return Err(PriceError::NotFinite {
                    date: day.date,
                    hour,
                });
            }
        }
        Ok(Self(days))
    }

    /// The days.
    #[must_use]
    pub fn days(&self) -> &[PriceDay] {
        &self.0
    }

    /// Place of `date`.
    #[must_use]
    pub fn index(&self, date: NaiveDate) -> Option<usize> {
        self.0.iter().position(|d| d.date == date)
    }
}

impl PriceDay {
    /// Day of the week from Monday 0; a holiday counts as Sunday.
    #[must_use]
    pub fn kind(&self) -> usize {
        if self.holiday {
            return 6;
        }
        self.date.weekday().num_days_from_monday() as usize
    }
}

/// The clock hours of `date` from values by local clock: `None` if an hour is neither there nor skipped by the clock.
///
/// `at` gives all values whose local clock shows that hour: none, one or two.
#[must_use]
pub fn clock_hours(date: NaiveDate, at: impl Fn(NaiveDateTime) -> Vec<f64>) -> Option<Hours> {
    let start = date.and_hms_opt(0, 0, 0)?;
    #[expect(clippy::cast_precision_loss, reason = "one or two values")]
    let mean = |v: Vec<f64>| (!v.is_empty()).then(|| v.iter().sum::<f64>() / v.len() as f64);
    let read: Vec<_> = (0..24)
        .map(|h| mean(at(start + TimeDelta::hours(h))))
        .collect();
    let mut hours = [0.0; HOURS];
    for (hour, slot) in hours.iter_mut().enumerate() {
        let beside = || {
            let before = read.get(hour.checked_sub(1)?).copied()??;
            Some((before + read.get(hour + 1).copied()??) / 2.0)
        };
        *slot = read[hour].or_else(beside)?;
    }
    Some(hours)
}

/// Public holidays of the whole of Germany (the Unity treaty of 1990 and the laws of all sixteen states).
#[must_use]
pub fn german_holiday(date: NaiveDate) -> bool {
    let fixed = matches!(
        (date.month(), date.day()),
        (1, 1) | (5, 1) | (10, 3) | (12, 25 | 26)
    );
    let moving = easter(date.year())
        .is_some_and(|easter| matches!((date - easter).num_days(), -2 | 1 | 39 | 50));
    fixed || moving
}

/// Easter Sunday of the Gregorian calendar (Meeus, Astronomical Algorithms 1991, chapter 8).
fn easter(year: i32) -> Option<NaiveDate> {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e) = (b / 4, b % 4);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let day = (h + l - 7 * m + 33 * month + 19) % 32;
    NaiveDate::from_ymd_opt(year, u32::try_from(month).ok()?, u32::try_from(day).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    #[test]
    fn easter_and_the_days_that_follow_it() {
        for (year, easter_day) in [
            (2019, "2019-04-21"),
            (2020, "2020-04-12"),
            (2024, "2024-03-31"),
            (2038, "2038-04-25"),
        ] {
            assert_eq!(easter(year), Some(date(easter_day)));
        }
        for day in [
            "2020-04-10",
            "2020-04-13",
            "2020-05-21",
            "2020-06-01",
            "2020-10-03",
            "2020-12-26",
        ] {
            assert!(german_holiday(date(day)), "{day}");
        }
        assert!(!german_holiday(date("2020-04-14")));
    }

    #[test]
    fn a_skipped_hour_lies_between_and_a_repeated_one_is_the_mean() {
        use chrono::Timelike;
        let skipped = clock_hours(date("2020-03-29"), |at| match at.hour() {
            2 => vec![],
            hour => vec![f64::from(hour)],
        });
        assert!((skipped.unwrap()[2] - 2.0).abs() < 1e-12);
        let repeated = clock_hours(date("2020-10-25"), |at| match at.hour() {
            2 => vec![4.0, 6.0],
            hour => vec![f64::from(hour)],
        });
        assert!((repeated.unwrap()[2] - 5.0).abs() < 1e-12);
        assert_eq!(clock_hours(date("2020-10-25"), |_| vec![]), None);
    }

    #[test]
    fn a_history_with_a_hole_or_a_value_that_is_no_number_is_refused() {
        let day = |text: &str, price: f64| PriceDay {
            date: date(text),
            price: Some([price; HOURS]),
            known: vec![],
            holiday: false,
        };
        let hole = PriceDays::try_new(vec![day("2020-01-01", 1.0), day("2020-01-03", 1.0)]);
        assert!(
            hole.unwrap_err()
                .to_string()
                .contains("2020-01-03 follows 2020-01-01")
        );
        let nan = PriceDays::try_new(vec![day("2020-01-01", f64::NAN)]);
        assert!(nan.unwrap_err().to_string().contains("no finite number"));
    }
}
