//! What is known at an instant: the only door through which `v1g` and `v2g` see the case.
//!
//! A price is known once its auction has published it; a stay once it has ended, a vehicle's needs once it is plugged
//! in, its departure before it happens only where the fleet says so; base load and imbalance prices once measured.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc, Weekday};
use market::gate;
use market::rules::Rules;
use market::{Area, Product};
use units::{DeliveryDay, local_instant};

use crate::case::Case;

/// Days back that a forecast looks for alike ones.
const LOOK_BACK_DAYS: i64 = 42;

/// When bids for a delivery day close, and when their result is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gate {
    /// First instant at which a bid is late.
    pub(crate) closes: DateTime<Utc>,
    /// When the result is published.
    pub(crate) results: DateTime<Utc>,
}

/// Gate of a product for a delivery day. Where the rule book knows no such product in the area, the gate of the
/// coupled European auctions stands in for it, by the area's own clock.
pub(crate) fn gate_of(area: Area, product: Product, day: DeliveryDay) -> Gate {
    if let Ok(rule) = Rules::built_in().at(area, product, day.start()) {
        return Gate {
            closes: gate::closes(rule, day),
            results: gate::results(rule, day),
        };
    }
    let (hour, minutes) = match product {
        Product::Fcr => (8, 30),
        Product::AfrrUp | Product::AfrrDown => (9, 30),
        Product::DayAhead => (12, 45),
    };
    let before = day.previous();
    let closes = before.start() + TimeDelta::hours(hour);
    let local = before
        .date()
        .and_hms_opt(u32::try_from(hour).unwrap_or(12), 0, 0);
    let closes = local.map_or(closes, |l| local_instant(day.zone(), l));
    Gate {
        closes,
        results: closes + TimeDelta::minutes(minutes),
    }
}

/// The case as far as it is known at the start of step `now`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    case: &'a Case,
    /// Instant of the decision.
    at: DateTime<Utc>,
    /// Step that is about to begin, the first to decide on.
    pub(crate) now: usize,
    /// First step whose day-ahead price is not published.
    pub(crate) priced: usize,
}

impl<'a> Known<'a> {
    /// What is known when step `now` begins.
    pub(crate) fn at(case: &'a Case, now: usize) -> Self {
        Self::at_instant(case, now, case.grid.at(now))
    }

    /// What is known at `instant`, which may lie before the period; decisions start with step `now`.
    pub(crate) fn at_instant(case: &'a Case, now: usize, instant: DateTime<Utc>) -> Self {
        let today = DeliveryDay::containing(instant, case.area.exchange_zone());
        let tomorrow = today.next();
        let published = gate_of(case.area, Product::DayAhead, tomorrow).results <= instant;
        let until = if published {
            tomorrow.end()
        } else {
            today.end()
        };
        Self {
            case,
            at: instant,
            now,
            priced: case.grid.first_from(until),
        }
    }

    /// Instant of the decision: when step `now` begins, or earlier for what is decided before the period.
    pub(crate) fn instant(&self) -> DateTime<Utc> {
        self.at
    }

    /// Published day-ahead price of a step; `None` while it is not published.
    pub(crate) fn price(&self, t: usize) -> Option<f64> {
        (t < self.priced)
            .then(|| self.case.prices.day_ahead.get(t).copied())
            .flatten()
    }

    /// Published day-ahead price that holds at an instant, also before the period.
    fn price_at(&self, at: DateTime<Utc>) -> Option<f64> {
        let grid = &self.case.grid;
        if at >= grid.start {
            return self.price(grid.containing(at));
        }
        let before = &self.case.prices.day_ahead_before;
        let back = (grid.start - at).num_milliseconds();
        let step = grid.step.num_milliseconds().max(1);
        let index = before
            .len()
            .checked_sub(usize::try_from((back + step - 1) / step).ok()?)?;
        before[index]
    }

    /// Measured base load of a site in a step that has begun; its own past at the same hour of the week for later ones.
    pub(crate) fn base(&self, site: usize, t: usize) -> f64 {
        let site = &self.case.sites[site];
        if t <= self.now || site.base_kw.is_empty() {
            return site.base(t);
        }
        self.base_forecast(site, t)
    }

    /// The highest of the same hour in the last weeks: a limit must hold on a bad day too.
    fn base_forecast(&self, site: &crate::case::Site, t: usize) -> f64 {
        let step = self.case.grid.step.num_milliseconds().max(1);
        let week = usize::try_from(7 * 86_400_000 / step)
            .unwrap_or(usize::MAX)
            .max(1);
        let day = usize::try_from(86_400_000 / step)
            .unwrap_or(usize::MAX)
            .max(1);
        let seen = |back: usize| -> Option<f64> {
            match t.checked_sub(back) {
                Some(past) if past <= self.now => Some(site.base(past)),
                Some(_) => None,
                None => {
                    let n = site.base_before.len();
                    let index = n.checked_sub(back - t)?;
                    site.base_before.get(index).copied().flatten()
                }
            }
        };
        let alike = (1..=4)
            .filter_map(|k| seen(k * week))
            .fold(f64::NEG_INFINITY, f64::max);
        if alike.is_finite() {
            return alike.max(seen(day).unwrap_or(alike));
        }
        let recent = (1..=7)
            .filter_map(|k| seen(k * day))
            .fold(f64::NEG_INFINITY, f64::max);
        if recent.is_finite() {
            recent
        } else {
            site.base(self.now)
        }
    }

    /// Expected distance of the imbalance prices from the day-ahead price, per `MWh`: short above it, long below it,
    /// neither negative, so that expecting both stays convex.
    pub(crate) fn spreads(&self) -> (f64, f64) {
        const STEPS_TO_LEARN: usize = 96 * 28;
        const UNKNOWN: f64 = 10.0;
        if let Some(spread) = self.case.prices.spread {
            return (spread.max(0.0), spread.max(0.0));
        }
        // A settlement price is published the day after.
        let day = usize::try_from(86_400_000 / self.case.grid.step.num_milliseconds().max(1))
            .unwrap_or(1);
        let end = self.now.saturating_sub(day);
        let begin = end.saturating_sub(STEPS_TO_LEARN);
        if end == begin {
            return (UNKNOWN, UNKNOWN);
        }
        let prices = &self.case.prices;
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let n = (end - begin) as f64;
        let mean = |f: &dyn Fn(usize) -> f64| (begin..end).map(f).sum::<f64>() / n;
        let short = mean(&|t| prices.short[t] - prices.day_ahead[t]);
        let long = mean(&|t| prices.day_ahead[t] - prices.long[t]);
        (short.max(0.0), long.max(0.0))
    }

    /// Expected day-ahead price for `steps`: the published one, else the mean of alike days, nearer ones weighing more.
    ///
    /// `None` for a step without any past to learn from.
    pub(crate) fn outlook(&self, steps: std::ops::Range<usize>) -> Vec<Option<f64>> {
        let mut cache: BTreeMap<DateTime<Utc>, Option<f64>> = BTreeMap::new();
        steps
            .map(|t| {
                self.price(t).or_else(|| {
                    // Hourly prices make four steps alike.
                    let at = self.case.grid.at(t);
                    let key =
                        at - TimeDelta::milliseconds(at.timestamp_millis().rem_euclid(900_000));
                    *cache.entry(key).or_insert_with(|| self.expected_price(at))
                })
            })
            .collect()
    }

    fn expected_price(&self, at: DateTime<Utc>) -> Option<f64> {
        let (mut sum, mut weights) = (0.0, 0.0);
        for (lag, then) in self.alike(at) {
            if let Some(price) = self.price_at(then) {
                let weight = lag.weight();
                sum += weight * price;
                weights += weight;
            }
        }
        (weights > 0.0).then(|| sum / weights)
    }

    /// The same local clock time on earlier days, newest first, with how alike the day is.
    fn alike(&self, at: DateTime<Utc>) -> impl Iterator<Item = (Lag, DateTime<Utc>)> {
        let zone = self.case.area.exchange_zone();
        let local = at.with_timezone(&zone).naive_local();
        let kind = DayKind::of(local.date());
        (1..=LOOK_BACK_DAYS).map(move |days| {
            let then = local - TimeDelta::days(days);
            let lag = Lag {
                days,
                same_kind: DayKind::of(then.date()) == kind,
                same_weekday: days % 7 == 0,
            };
            (lag, local_instant(zone, then))
        })
    }

    /// Day-ahead prices of one past day each, laid over `steps` by local clock time: what the day could look like.
    pub(crate) fn price_pictures(
        &self,
        steps: std::ops::Range<usize>,
        count: usize,
    ) -> Vec<Vec<f64>> {
        let zone = self.case.area.exchange_zone();
        let locals: Vec<_> = steps
            .map(|t| self.case.grid.at(t).with_timezone(&zone).naive_local())
            .collect();
        (1..=LOOK_BACK_DAYS)
            .filter_map(|days| {
                locals
                    .iter()
                    .map(|l| self.price_at(local_instant(zone, *l - TimeDelta::days(days))))
                    .collect::<Option<Vec<f64>>>()
            })
            .take(count)
            .collect()
    }
}

/// How far back an alike day lies.
#[derive(Debug, Clone, Copy)]
struct Lag {
    days: i64,
    same_kind: bool,
    same_weekday: bool,
}

impl Lag {
    /// Halved every five days, doubled for the same weekday, nearly nothing for another kind of day.
    fn weight(self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a count of days")]
        let age = 0.5_f64.powf(self.days as f64 / 5.0);
        let kind = if self.same_kind { 1.0 } else { 0.1 };
        let weekday = if self.same_weekday { 2.0 } else { 1.0 };
        age * kind * weekday
    }
}

/// Kinds of day that people and prices tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DayKind {
    Work,
    Saturday,
    Sunday,
}

impl DayKind {
    fn of(date: NaiveDate) -> Self {
        match date.weekday() {
            Weekday::Sat => Self::Saturday,
            Weekday::Sun => Self::Sunday,
            Weekday::Mon | Weekday::Tue | Weekday::Wed | Weekday::Thu | Weekday::Fri => Self::Work,
        }
    }
}
