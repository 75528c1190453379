//! `positions.parquet` and `sessions.parquet`; columns are described in `docs/backtest.md`.

use frames::table::{Column, Table, TableError};
use market::Product;
use portfolio::case::Case;
use portfolio::policy::account::site_range;

use super::report::Played;

/// One row per policy and interval.
pub(super) fn positions(case: &Case, played: &[Played]) -> Result<Table, TableError> {
    let steps = case.grid.steps;
    let rows = || played.iter().flat_map(|p| (0..steps).map(move |t| (p, t)));
    let loads: Vec<_> = played.iter().map(|p| p.run.load(case)).collect();
    let charge = || loads.iter().flat_map(|l| l.0.iter().copied());
    let discharge = || loads.iter().flat_map(|l| l.1.iter().copied());
    let net = charge().zip(discharge()).map(|(c, d)| c - d);
    let sold = rows().zip(charge().zip(discharge()).map(|(c, d)| c - d));
    let sold = sold.map(|((p, t), net)| p.run.sold_kw.as_ref().map_or(net, |sold| sold[t]));
    let held = |product| Column::floats(held_mw(case, played, product));
    Table::new()
        .with(
            "policy",
            Column::texts(rows().map(|(p, _)| p.account.name.clone())),
        )?
        .with(
            "interval_start",
            Column::instants(rows().map(|(_, t)| case.grid.at(t))),
        )?
        .with(
            "day_ahead_price",
            Column::floats(rows().map(|(_, t)| case.prices.day_ahead[t])),
        )?
        .with(
            "imbalance_price_short",
            Column::floats(rows().map(|(_, t)| case.prices.short[t])),
        )?
        .with(
            "imbalance_price_long",
            Column::floats(rows().map(|(_, t)| case.prices.long[t])),
        )?
        .with("charge_kw", Column::floats(charge()))?
        .with("discharge_kw", Column::floats(discharge()))?
        .with("net_kw", Column::floats(net))?
        .with("sold_kw", Column::floats(sold))?
        .with("fcr_mw", held(Product::Fcr))?
        .with("afrr_up_mw", held(Product::AfrrUp))?
        .with("afrr_down_mw", held(Product::AfrrDown))?
        .with("site_limit_breaches", Column::ints(breaches(case, played)))
}

/// Reserve sold of one product per policy and interval, MW.
fn held_mw(case: &Case, played: &[Played], product: Product) -> Vec<f64> {
    let steps = case.grid.steps;
    let mut held = vec![0.0; steps * played.len()];
    for (i, p) in played.iter().enumerate() {
        for (index, reserve) in case.reserves.iter().enumerate() {
            if reserve.product != product {
                continue;
            }
            for (b, (_, span)) in reserve.on_sale().enumerate() {
                let sold = p.run.sold_mw.get(index).and_then(|v| v.get(b)).copied();
                for t in span {
                    held[i * steps + t] = sold.unwrap_or(0.0);
                }
            }
        }
    }
    held
}

/// Sites over a limit per policy and interval.
fn breaches(case: &Case, played: &[Played]) -> Vec<i64> {
    let mut counts = Vec::with_capacity(played.len() * case.grid.steps);
    for p in played {
        let ranges = site_range(case, &p.run);
        for t in 0..case.grid.steps {
            let over = case
                .sites
                .iter()
                .zip(&ranges)
                .filter(|(s, r)| s.is_breached(r[t]));
            counts.push(i64::try_from(over.count()).unwrap_or(i64::MAX));
        }
    }
    counts
}

/// One row per policy and session.
pub(super) fn sessions(case: &Case, played: &[Played]) -> Result<Table, TableError> {
    let rows = || {
        played.iter().flat_map(|p| {
            let done = case.sessions.iter().zip(&p.run.sessions);
            done.map(move |(s, d)| (p, s, d))
        })
    };
    let hours = case.grid.hours();
    let price = |s: &portfolio::case::Session, d: &portfolio::reference::SessionSchedule| -> f64 {
        let steps = s.steps().enumerate();
        let cost =
            steps.map(|(j, t)| case.prices.day_ahead[t] * (d.charge_kw[j] - d.discharge_kw[j]));
        cost.sum::<f64>() * hours / 1000.0
    };
    Table::new()
        .with(
            "policy",
            Column::texts(rows().map(|(p, ..)| p.account.name.clone())),
        )?
        .with(
            "session_id",
            Column::texts(rows().map(|(_, s, _)| s.stay.session_id.clone())),
        )?
        .with(
            "vehicle_id",
            Column::texts(rows().map(|(_, s, _)| s.stay.vehicle_id.clone())),
        )?
        .with(
            "site_id",
            Column::texts(rows().map(|(_, s, _)| s.stay.site_id.clone())),
        )?
        .with(
            "plug_in",
            Column::instants(rows().map(|(_, s, _)| s.stay.plug_in)),
        )?
        .with(
            "plug_out",
            Column::instants(rows().map(|(_, s, _)| s.stay.plug_out)),
        )?
        .with(
            "energy_arrival_kwh",
            Column::floats(rows().map(|(_, s, _)| s.arrival)),
        )?
        .with(
            "energy_departure_kwh",
            Column::floats(
                rows().map(|(_, s, d)| d.energy_kwh.last().copied().unwrap_or(s.arrival)),
            ),
        )?
        .with(
            "energy_required_kwh",
            Column::floats(rows().map(|(_, s, _)| s.stay.required_kwh)),
        )?
        .with(
            "energy_goal_kwh",
            Column::floats(rows().map(|(_, s, _)| s.goal)),
        )?
        .with(
            "charged_kwh",
            Column::floats(rows().map(|(_, _, d)| d.charge_kw.iter().sum::<f64>() * hours)),
        )?
        .with(
            "discharged_kwh",
            Column::floats(rows().map(|(_, _, d)| d.discharge_kw.iter().sum::<f64>() * hours)),
        )?
        .with(
            "short_kwh",
            Column::floats(rows().map(|(_, _, d)| d.short_kwh)),
        )?
        .with(
            "energy_cost",
            Column::floats(rows().map(|(_, s, d)| price(s, d))),
        )
}
