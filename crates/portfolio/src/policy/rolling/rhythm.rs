//! Which past days the traffic of a day resembles: other weekdays only as far as they are alike, and every second week
//! where people work by fortnights.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of vehicles and days are far below 2^53"
)]

use chrono::{Datelike, NaiveDate, Weekday};

use crate::policy::risk;

/// Mean distance from the usual count, as a share of it, up to which another weekday is alike.
const ALIKE: f64 = 0.25;

/// Spread about the usual count of every second week, as a share of that of all weeks, below which there is a rhythm of
/// fortnights.
const FORTNIGHTLY: f64 = 0.5;

/// Days of the same weekday without which other weekdays cannot be told apart from it.
const FEWEST: usize = 3;

/// Those of `past`, days of the kind of `date`, whose traffic tells of `date`. `count` is how many vehicles came.
pub(crate) fn alike(
    date: NaiveDate,
    past: &[NaiveDate],
    count: impl Fn(NaiveDate) -> usize,
) -> Vec<NaiveDate> {
    let of = |day: &NaiveDate| count(*day) as f64;
    let same = |day: &&NaiveDate| day.weekday() == date.weekday();
    let even = |day: &&NaiveDate| (date - **day).num_days() % 14 == 0;
    let weekly: Vec<f64> = past.iter().filter(same).map(of).collect();
    let fortnight: Vec<f64> = past.iter().filter(same).filter(even).map(of).collect();
    let fortnightly = fortnight.len() >= 2
        && weekly.len() >= FEWEST
        && spread(&fortnight) < FORTNIGHTLY * spread(&weekly);
    if weekly.len() < FEWEST {
        return past.to_vec();
    }
    let usual = median(if fortnightly { &fortnight } else { &weekly });
    let resembles = |weekday: Weekday| {
        let counts = past.iter().filter(|d| d.weekday() == weekday).map(of);
        let off: Vec<f64> = counts.map(|c| (c - usual).abs()).collect();
        off.iter().sum::<f64>() <= ALIKE * usual * off.len() as f64
    };
    let keep = |day: &&NaiveDate| {
        if same(day) {
            !fortnightly || even(day)
        } else {
            resembles(day.weekday())
        }
    };
    past.iter().filter(keep).copied().collect()
}

/// Mean distance from the median; zero without any.
fn spread(counts: &[f64]) -> f64 {
    let usual = median(counts);
    counts.iter().map(|c| (c - usual).abs()).sum::<f64>() / counts.len().max(1) as f64
}

/// The middle value, the mean of two middle ones; zero without any.
fn median(counts: &[f64]) -> f64 {
    let odds = vec![1.0; counts.len()];
    risk::median(counts.iter().copied(), &odds)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The work days of the six weeks before Friday, 1 March 2024, latest first.
    fn past() -> Vec<NaiveDate> {
        let date = friday();
        (1..=42)
            .map(|d| date - chrono::TimeDelta::days(d))
            .filter(|d| !matches!(d.weekday(), Weekday::Sat | Weekday::Sun))
            .collect()
    }

    fn friday() -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 3, 1).unwrap()
    }

    fn weeks_before(day: NaiveDate) -> i64 {
        (friday() - day).num_days().div_euclid(7)
    }

    #[test]
    fn every_second_friday_off_is_neither_like_other_fridays_nor_like_other_days() {
        let count = |d: NaiveDate| {
            let off = d.weekday() == Weekday::Fri && weeks_before(d) % 2 == 0;
            if off { 20 } else { 100 }
        };
        let like = alike(friday(), &past(), count);
        assert_eq!(like.len(), 3, "{like:?}");
        assert!(like.iter().all(|d| weeks_before(*d) % 2 == 0));
        let thursday = friday() - chrono::TimeDelta::days(1);
        let before: Vec<_> = past().into_iter().filter(|d| *d < thursday).collect();
        let like = alike(thursday, &before, count);
        assert!(like.iter().all(|d| d.weekday() != Weekday::Fri), "{like:?}");
        assert_eq!(like.len(), 23);
    }

    #[test]
    fn few_days_of_a_weekday_do_not_set_it_apart() {
        let count = |d: NaiveDate| if d.weekday() == Weekday::Fri { 20 } else { 100 };
        let short: Vec<_> = past().into_iter().take(10).collect();
        assert_eq!(alike(friday(), &short, count).len(), short.len());
        assert_eq!(alike(friday(), &past(), count).len(), 6);
    }

    #[test]
    fn days_with_one_traffic_are_all_alike() {
        let count = |d: NaiveDate| 95 + usize::try_from(d.day() % 10).unwrap();
        assert_eq!(alike(friday(), &past(), count).len(), past().len());
    }

    #[test]
    fn one_odd_day_does_not_make_its_weekday_unlike() {
        let odd = friday() - chrono::TimeDelta::days(4);
        let count = |d: NaiveDate| if d == odd { 5 } else { 100 };
        assert_eq!(alike(friday(), &past(), count).len(), past().len());
    }
}
