//! When bids are built: early enough to be out before the gate, late enough to know the results before it.

use chrono::{DateTime, TimeDelta, Utc};
use portfolio::market::{Area, Product, Rules, gate};
use units::DeliveryDay;

/// Bids to be built together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// When to begin.
    pub(crate) at: DateTime<Utc>,
    /// Delivery day.
    pub(crate) day: DeliveryDay,
    /// What to offer, in order of their gates.
    pub(crate) products: Vec<Product>,
    /// The first of their gates.
    pub(crate) closes: DateTime<Utc>,
}

/// After results are published it takes a moment until they are known here.
const RESULTS_ARRIVE: TimeDelta = TimeDelta::minutes(2);

/// The next bids to build: those whose beginning comes first, of products and delivery days that are not `done`.
pub(crate) fn next(
    rules: &Rules,
    area: Area,
    lead: TimeDelta,
    now: DateTime<Utc>,
    done: impl Fn(Product, DeliveryDay) -> bool,
) -> Option<Due> {
    let mut days: Vec<DeliveryDay> = Product::ALL
        .into_iter()
        .filter_map(|product| gate::next(rules, area, product, now).ok())
        .flat_map(|next| [next.day, next.day.next()])
        .collect();
    days.sort_by_key(|day| day.start());
    days.dedup();
    days.into_iter()
        .flat_map(|day| of_day(rules, area, lead, now, day, &done))
        .min_by_key(|due| (due.at, due.closes))
}

/// What is to be built for one delivery day. Gates that closed and products that are done still have results to wait for.
fn of_day(
    rules: &Rules,
    area: Area,
    lead: TimeDelta,
    now: DateTime<Utc>,
    day: DeliveryDay,
    done: &impl Fn(Product, DeliveryDay) -> bool,
) -> Vec<Due> {
    let mut gates: Vec<(DateTime<Utc>, DateTime<Utc>, Product)> = Product::ALL
        .into_iter()
        .filter_map(|product| {
            let rule = rules.at(area, product, day.start()).ok()?;
            Some((gate::closes(rule, day), gate::results(rule, day), product))
        })
        .collect();
    gates.sort();
    let mut dues: Vec<Due> = Vec::new();
    let mut last_result: Option<DateTime<Utc>> = None;
    for (closes, results, product) in gates {
        let begin = closes - lead;
        // A result that arrives before half of the lead is gone is worth waiting for.
        let informed = last_result
            .map(|r| r + RESULTS_ARRIVE)
            .filter(|r| *r > begin && *r <= closes - lead / 2);
        let at = informed.unwrap_or(begin);
        let blind = last_result.is_some_and(|r| at < r);
        last_result = last_result.max(Some(results));
        if closes <= now || done(product, day) {
            continue;
        }
        // Reserves that cannot wait for each other's results are decided together: their volumes share the vehicles.
        match dues.last_mut() {
            Some(due)
                if blind && product.is_reserve() && due.products.iter().all(|p| p.is_reserve()) =>
            {
                due.products.push(product);
            }
            _ => dues.push(Due {
                at,
                day,
                products: vec![product],
                closes,
            }),
        }
    }
    dues
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn sequence(lead: TimeDelta, start: &str, count: usize) -> Vec<(String, Vec<Product>)> {
        let mut done: Vec<(Product, DeliveryDay)> = Vec::new();
        let mut now = at(start);
        (0..count)
            .map(|_| {
                let due = next(Rules::built_in(), Area::Nl, lead, now, |p, d| {
                    done.contains(&(p, d))
                })
                .unwrap();
                now = now.max(due.at);
                assert!(due.closes > now, "{due:?} at {now}");
                done.extend(due.products.iter().map(|p| (*p, due.day)));
                (due.at.to_rfc3339(), due.products)
            })
            .collect()
    }

    #[test]
    fn with_time_each_auction_waits_for_the_result_before_it() {
        let seen = sequence(TimeDelta::minutes(20), "2026-01-12T00:00:00Z", 4);
        assert_eq!(
            seen,
            vec![
                ("2026-01-12T06:40:00+00:00".to_owned(), vec![Product::Fcr]),
                (
                    "2026-01-12T07:40:00+00:00".to_owned(),
                    vec![Product::AfrrUp, Product::AfrrDown]
                ),
                (
                    "2026-01-12T10:40:00+00:00".to_owned(),
                    vec![Product::DayAhead]
                ),
                ("2026-01-13T06:40:00+00:00".to_owned(), vec![Product::Fcr]),
            ]
        );
    }

    #[test]
    fn a_fast_clock_decides_the_reserves_together_and_still_waits_for_their_results() {
        let seen = sequence(TimeDelta::minutes(160), "2026-01-12T00:00:00Z", 3);
        assert_eq!(
            seen,
            vec![
                (
                    "2026-01-12T04:20:00+00:00".to_owned(),
                    vec![Product::Fcr, Product::AfrrUp, Product::AfrrDown]
                ),
                (
                    "2026-01-12T08:32:00+00:00".to_owned(),
                    vec![Product::DayAhead]
                ),
                (
                    "2026-01-13T04:20:00+00:00".to_owned(),
                    vec![Product::Fcr, Product::AfrrUp, Product::AfrrDown]
                ),
            ]
        );
    }

    #[test]
    fn a_late_start_bids_at_once_for_what_is_still_open() {
        let now = at("2026-01-12T07:30:00Z");
        let due = next(
            Rules::built_in(),
            Area::Nl,
            TimeDelta::minutes(60),
            now,
            |_, _| false,
        )
        .unwrap();
        assert_eq!(due.products, vec![Product::AfrrUp, Product::AfrrDown]);
        assert!(due.at <= now);
    }

    #[test]
    fn on_change_days_gates_keep_their_wall_clock() {
        let seen = sequence(TimeDelta::minutes(20), "2026-03-28T20:00:00Z", 1);
        assert_eq!(seen[0].0, "2026-03-29T05:40:00+00:00");
    }

    #[test]
    fn an_area_without_products_has_nothing_due() {
        let none = next(
            Rules::built_in(),
            Area::Th,
            TimeDelta::hours(1),
            at("2026-01-12T00:00:00Z"),
            |_, _| false,
        );
        assert_eq!(none, None);
    }
}
