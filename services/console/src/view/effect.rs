//! What a command would do, said before it is given.

use chrono::{DateTime, Utc};
use serde::Serialize;
use wire::proto::fleet::v1::EvseState;
use wire::proto::market::v1::Award;

use super::{Lens, at, kw, mw};
use crate::command::Kind;
use crate::state::State;

/// Reserve that would not be delivered.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Lost {
    /// Product.
    pub product: String,
    /// Sold now.
    pub sold_mw: f64,
}

/// Effect of a command.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Effect {
    /// In one sentence.
    pub summary: &'static str,
    /// Pool power now; absent if not measured.
    pub pool_now_kw: Option<f64>,
    /// Pool power soon after; absent if it depends on the grid.
    pub pool_after_kw: Option<f64>,
    /// Reserve that would not be delivered.
    pub reserve_lost: Vec<Lost>,
    /// Capacity payment of that reserve until the end, decimal with two places; a penalty may come on top. Absent without an end or awards.
    pub payment_at_risk: Option<String>,
    /// Its currency.
    pub currency: Option<String>,
    /// Vehicles whose power may change.
    pub vehicles: usize,
    /// Of these, vehicles that give power now and would stop.
    pub stop_discharging: usize,
}

/// What `kind` would do from now until `until`.
#[must_use]
pub fn effect(state: &State, kind: Kind, until: Option<DateTime<Utc>>, lens: &Lens) -> Effect {
    let cycle = state.cycle();
    let now_kw = cycle.and_then(|c| c.actual_watts).map(kw);
    let plugged = || {
        state
            .evses
            .values()
            .filter(|e| e.online && e.session.is_some())
    };
    let sold = cycle.map(|c| c.products.as_slice()).unwrap_or_default();
    let lost: Vec<Lost> = sold
        .iter()
        .filter(|p| p.sold_watts > 0 && p.product != "day_ahead")
        .map(|p| Lost {
            product: p.product.clone(),
            sold_mw: mw(p.sold_watts),
        })
        .collect();
    let at_risk = until.and_then(|until| payments(&state.awards, lens.now, until));
    let (payment_at_risk, currency) = at_risk.map_or((None, None), |(sum, c)| {
        (Some(format!("{sum:.2}")), Some(c))
    });
    match kind {
        Kind::Hold => Effect {
            summary: "The pool keeps its schedule and ignores frequency and activations until the expiry.",
            pool_now_kw: now_kw,
            pool_after_kw: cycle.map(|c| kw(c.baseline_watts)),
            reserve_lost: lost,
            payment_at_risk,
            currency,
            vehicles: plugged().count(),
            stop_discharging: 0,
        },
        Kind::Kill => Effect {
            summary: "Every charge point falls back to plain charging; no energy or reserve position is followed. One person pulls, two release.",
            pool_now_kw: now_kw,
            pool_after_kw: Some(plugged().map(plain_charging).map(kw).sum()),
            reserve_lost: lost,
            payment_at_risk,
            currency,
            vehicles: plugged().count(),
            stop_discharging: plugged()
                .filter(|e| e.power_watts.is_some_and(|p| p < 0))
                .count(),
        },
        Kind::Release => Effect {
            summary: "The pool follows schedule, frequency and activations again.",
            pool_now_kw: now_kw,
            pool_after_kw: None,
            reserve_lost: Vec::new(),
            payment_at_risk: None,
            currency: None,
            vehicles: plugged().count(),
            stop_discharging: 0,
        },
    }
}

/// Power of an outlet left to itself: full while the vehicle still needs something or nobody said.
fn plain_charging(evse: &EvseState) -> i64 {
    let Some(session) = evse.session.as_ref() else {
        return 0;
    };
    let Some(needs) = session.needs.as_ref() else {
        return evse.max_charge_watts;
    };
    if session
        .added_joules
        .is_some_and(|added| added >= needs.energy_joules)
    {
        return 0;
    }
    evse.max_charge_watts.min(needs.max_charge_watts)
}

/// Capacity payments of the reserve delivered in `now..until`, by share of time; `None` if there are none.
fn payments(awards: &[Award], now: DateTime<Utc>, until: DateTime<Utc>) -> Option<(f64, String)> {
    let paid = awards
        .iter()
        .filter(|a| a.product != "day_ahead")
        .filter_map(|award| {
            let (start, end) = (at(award.start_micros)?, at(award.end_micros)?);
            let shared = (end.min(until) - start.max(now)).as_seconds_f64();
            let whole = (end - start).as_seconds_f64();
            let price: f64 = award.price.parse().ok()?;
            (shared > 0.0 && whole > 0.0).then(|| {
                (
                    mw(award.volume_watts) * price * shared / whole,
                    award.currency.clone(),
                )
            })
        });
    paid.reduce(|(sum, currency), (more, _)| (sum + more, currency))
}
