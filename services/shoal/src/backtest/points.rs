//! Connection points of the plan that knows everything: reactive power, and refunds with their ledgers.

use std::fmt::Write as _;
use std::ops::Range;

use chrono::{DateTime, Utc};
use frames::scenario::{RefundBasis, Scenario};
use portfolio::case::{Case, Grid};
use portfolio::stack::{self, Problem, Reactive, ReactiveCharge, Refund, Schedule};
use serde::Serialize;

use super::{convert, extend};

/// The first key of the scenario that only this plan knows; `None` without any.
pub(super) fn key(scenario: &Scenario) -> Option<&'static str> {
    let costs = &scenario.costs;
    if costs.refund_per_mwh > 0.0 {
        Some("costs.refund_per_mwh")
    } else if costs.reactive_per_kvar_month > 0.0 {
        Some("costs.reactive_per_kvar_month")
    } else if scenario.fleet.kva_per_kw.is_some() {
        Some("fleet.kva_per_kw")
    } else {
        let said = scenario
            .sites
            .iter()
            .find_map(|site| site.reactive.as_ref())?;
        Some(
            match (said.rating_kva, said.low_kvar, said.high_kvar, &said.base) {
                (Some(_), ..) => "site.rating_kva",
                (_, Some(_), ..) => "site.reactive_low_kvar",
                (_, _, Some(_), _) => "site.reactive_high_kvar",
                (.., Some(_)) => "site.base_reactive",
                (None, None, None, None) => "site.reactive_peak_to_date_kvar",
            },
        )
    }
}

/// Adds what the scenario says of its connection points.
pub(super) fn extend(problem: &mut Problem, scenario: &Scenario, case: &Case) {
    let (costs, grid) = (&scenario.costs, case.grid);
    let offset = convert::offset(scenario, grid);
    for vehicle in &mut problem.vehicles {
        let active = vehicle.session.charge_kw.max(vehicle.session.discharge_kw);
        vehicle.rating_kva = scenario.fleet.kva_per_kw.map(|ratio| ratio * active);
    }
    let months = stack::months(case);
    let known = extend::begins_in_first_month(scenario, grid);
    for (site, record) in problem.sites.iter_mut().zip(&scenario.sites) {
        let said = record.reactive.clone();
        let charged = costs.reactive_per_kvar_month > 0.0;
        site.reactive = said
            .or_else(|| charged.then(Default::default))
            .map(|point| Reactive {
                base_kvar: point.base.map_or_else(Vec::new, |series| {
                    series.values[offset..offset + grid.steps].to_vec()
                }),
                rating_kva: point.rating_kva,
                low_kvar: point.low_kvar,
                high_kvar: point.high_kvar,
                charges: months
                    .iter()
                    .enumerate()
                    .filter(|_| charged)
                    .map(|(month, steps)| {
                        let before = known && month == 0;
                        let of = |value: f64| if before { value } else { 0.0 };
                        ReactiveCharge {
                            steps: steps.clone(),
                            per_kvar: costs.reactive_per_kvar_month,
                            free_kvar: costs.reactive_free_share * of(record.peak_to_date_kw),
                            to_date_kvar: of(point.peak_to_date_kvar),
                        }
                    })
                    .collect(),
            });
        let round_trip = scenario.fleet.charge_efficiency * scenario.fleet.discharge_efficiency;
        let drawn_per_returned = match costs.refund_basis {
            RefundBasis::Returned => 1.0,
            RefundBasis::Drawn => 1.0 / round_trip,
        };
        site.refund = (costs.refund_per_mwh > 0.0).then_some(Refund {
            per_mwh: costs.refund_per_mwh * drawn_per_returned,
            drawn_per_returned,
            // What happened between the period's beginning and the day is not known: nothing is counted on.
            ledger_kwh: if grid.start == scenario.start {
                record.refund_ledger_kwh
            } else {
                0.0
            },
        });
    }
}

/// A connection point of which the scenario says something, over the day.
#[derive(Debug, Serialize)]
pub(super) struct Point {
    site: String,
    /// Most apparent power through it, kVA.
    rating_kva: Option<f64>,
    /// Fed in and refunded within the day, kWh.
    refunded_kwh: f64,
    /// What is given back for it, currency.
    refund: f64,
    intervals: Vec<Load>,
}

/// Load of a connection point in one interval, base load included.
#[derive(Debug, Serialize)]
struct Load {
    start: DateTime<Utc>,
    /// Positive is drawn.
    active_kw: f64,
    /// Positive is drawn; null where nobody looks at it.
    reactive_kvar: Option<f64>,
}

/// The points with reactive power or a refund, over the steps of `day`.
pub(super) fn points(
    problem: &Problem,
    schedule: &Schedule,
    (grid, day): (Grid, Range<usize>),
) -> Vec<Point> {
    let active = stack::site_kw(problem, schedule);
    let reactive = stack::site_kvar(problem, schedule);
    let refunded = stack::refunded(problem, schedule);
    let mut points = Vec::new();
    for (index, site) in problem.sites.iter().enumerate() {
        if site.reactive.is_none() && site.refund.is_none() {
            continue;
        }
        let refunded_kwh: f64 = refunded[index][day.clone()].iter().sum();
        let rate = site.refund.as_ref().map_or(0.0, |refund| refund.per_mwh);
        let load = |step: usize| Load {
            start: grid.at(step),
            active_kw: active[index][step],
            reactive_kvar: reactive[index].get(step).copied(),
        };
        points.push(Point {
            site: site.name.clone(),
            rating_kva: site.reactive.as_ref().and_then(|r| r.rating_kva),
            refunded_kwh,
            refund: rate * refunded_kwh / 1000.0,
            intervals: day.clone().map(load).collect(),
        });
    }
    points
}

impl Point {
    /// One line: the greatest reactive power either way, and what is refunded.
    pub(super) fn tell(&self, text: &mut String, currency: &str) {
        let kvar = || self.intervals.iter().filter_map(|load| load.reactive_kvar);
        let (low, high) = (
            kvar().fold(f64::INFINITY, f64::min),
            kvar().fold(f64::NEG_INFINITY, f64::max),
        );
        let apparent = self
            .intervals
            .iter()
            .map(|load| load.active_kw.hypot(load.reactive_kvar.unwrap_or(0.0)));
        let apparent = apparent.fold(0.0, f64::max);
        let _ = write!(text, "site {}:", self.site);
        if low <= high {
            let _ = write!(text, " {low:.1} to {high:.1} kvar, up to {apparent:.1} kVA");
            if let Some(rating) = self.rating_kva {
                let _ = write!(text, " of {rating:.1}");
            }
            text.push(';');
        }
        let _ = writeln!(
            text,
            " {:.1} kWh refunded, {:.2} {currency}",
            self.refunded_kwh, self.refund
        );
    }
}
