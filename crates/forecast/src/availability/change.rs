//! What is there now, and how that usually changes from this clock to a later one.

use super::level::{Known, fade, quantiles};
use super::num::{narrow, real};
use crate::Quantity;

/// Days looked back on, and changes below which nothing is said.
pub(crate) const DAYS: i32 = 91;
const FEWEST: usize = 14;
/// Age at which a change counts half, days.
const HALF_LIFE: f64 = 28.0;

/// Quantiles, evenly from the lowest to the highest, of what will be there so many hours after `origin`, where `now` is there: one for
/// each hour, none where too few days are known.
pub(crate) fn changed(
    known: Known<'_>,
    quantity: Quantity,
    (origin, now): (i64, f64),
    hours: usize,
) -> Vec<Vec<f32>> {
    let at = |lead: usize| {
        let lead = i64::try_from(lead).unwrap_or(0);
        let mut changes = changes(known, quantity, (origin, origin + 3600 * lead));
        if changes.len() < FEWEST {
            return Vec::new();
        }
        changes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let of = |change: f64| narrow((now + change).max(0.0));
        quantiles(&changes).into_iter().map(of).collect()
    };
    (0..=hours).map(at).collect()
}

/// Past changes between the clocks of two instants, each with its weight.
fn changes(known: Known<'_>, quantity: Quantity, (origin, target): (i64, i64)) -> Vec<(f64, f64)> {
    let [from, to] = [origin, target].map(|at| known.log.clock(at));
    let value = |(day, clock): (i32, i64), back: i32| {
        let at = known.log.instant(day - back, clock);
        let before = known.observed.at(quantity, at)?;
        let part = real(at.rem_euclid(3600)) / 3600.0;
        if part == 0.0 {
            return Some(before);
        }
        let after = known.observed.at(quantity, at + 3600)?;
        Some((1.0 - part) * before + part * after)
    };
    let alike = |day: i32, back: i32| {
        let kind = |day| known.kinds.kind(day, known.off);
        known.alike(kind(day), kind(day - back))
    };
    let change = |back: i32| {
        let change = value(to, back)? - value(from, back)?;
        let mut weight = fade(back, HALF_LIFE) * alike(to.0, back);
        if from.0 != to.0 {
            weight *= alike(from.0, back);
        }
        Some((change, weight))
    };
    (1..=DAYS).filter_map(change).collect()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta, Utc};
    use chrono_tz::Tz;

    use super::super::log::Log;
    use super::super::visit::Visit;
    use super::*;

    /// Four cars a day from eight to noon; from day 30 on three more that stay for good.
    fn visits(first: DateTime<Utc>) -> Vec<Visit> {
        let day = |d: i64, from: i64| first + TimeDelta::days(d) + TimeDelta::hours(from);
        let daily = (0..40).flat_map(|d| (0..4).map(move |_| (day(d, 8), day(d, 12))));
        let lasting = (0..3).map(|_| (day(30, 0), day(50, 0)));
        let visit = |(start, end)| Visit::made(start, end - start, 5.0);
        daily.chain(lasting).map(visit).collect()
    }

    /// What is said at six in the morning of day `day`, when `now` are there, of the hours from then on.
    fn said(day: i64, now: f64) -> Vec<Vec<f32>> {
        let first: DateTime<Utc> = "2019-03-04T00:00:00Z".parse().unwrap();
        let log = Log::new(Tz::UTC, visits(first));
        let origin = (first + TimeDelta::days(day) + TimeDelta::hours(6)).timestamp();
        let said = |known: Known<'_>| changed(known, Quantity::PluggedIn, (origin, now), 36);
        log.small(origin, DAYS, said).unwrap()
    }

    #[test]
    fn who_stays_for_good_is_there_beside_those_who_come_every_day() {
        let said = said(35, 3.0);
        let middle = |hour: usize| {
            let hour: &[f32] = &said[hour];
            super::super::num::floor(f64::from(hour[hour.len() / 2]))
        };
        assert_eq!([0, 1, 3, 7, 24, 27].map(middle), [3, 3, 7, 3, 3, 7]);
        // Only on one day three have come over night.
        assert_eq!(said[27].last(), Some(&10.0));
    }

    #[test]
    fn never_fewer_than_none_and_nothing_where_too_few_days_are_known() {
        assert!(said(35, 0.0).iter().flatten().all(|v| *v >= 0.0));
        assert!(said(10, 3.0).iter().all(Vec::is_empty));
    }
}
