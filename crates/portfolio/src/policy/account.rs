//! What a policy's doing costs: the figures of `report.json` (contract 5).
//!
//! Energy is priced at the meter: `energy_cost` is the energy used at the day-ahead price, `imbalance_cost` what
//! deviations from the sold position cost beyond that price, so that both together are exactly the money paid for
//! the position and the deviations.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of vehicles and steps are far below 2^53"
)]

use std::collections::BTreeMap;

use chrono::Datelike;
use market::Product;
use serde::Serialize;

use super::{Run, outcome, penalty};
use crate::case::{Case, SHORT_TOLERANCE_KWH, SHORTFALL_PER_KWH};

/// Earned for holding reserve, currency.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct CapacityRevenue {
    /// Frequency containment reserve.
    pub fcr: f64,
    /// Automatic restoration reserve, up.
    pub afrr_up: f64,
    /// Automatic restoration reserve, down.
    pub afrr_down: f64,
}

impl CapacityRevenue {
    /// All products.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.fcr + self.afrr_up + self.afrr_down
    }

    fn of(&mut self, product: Product) -> Option<&mut f64> {
        match product {
            Product::Fcr => Some(&mut self.fcr),
            Product::AfrrUp => Some(&mut self.afrr_up),
            Product::AfrrDown => Some(&mut self.afrr_down),
            Product::DayAhead => None,
        }
    }
}

/// The account of one policy over the period. Money in the currency of the area; positive costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Account {
    /// Policy.
    pub name: String,
    /// Drawn from the grid, kWh at the meter.
    pub energy_charged_kwh: f64,
    /// Fed into the grid, kWh at the meter.
    pub energy_discharged_kwh: f64,
    /// Energy at the day-ahead price.
    pub energy_cost: f64,
    /// Import and export fees.
    pub fees: f64,
    /// Battery wear.
    pub wear_cost: f64,
    /// What deviations from the sold position cost beyond the day-ahead price.
    pub imbalance_cost: f64,
    /// Demand charge on each site's highest draw of each local month. Not part of R's objective.
    pub demand_cost: f64,
    /// Earned for reserve sold.
    pub capacity_revenue: CapacityRevenue,
    /// Earned for activations; zero: a back-test expects none.
    pub activation_revenue: f64,
    /// Charged for reserve sold and not there.
    pub penalties: f64,
    /// Sum of the above, revenue taken off.
    pub net_cost: f64,
    /// The same per vehicle and 365 days.
    pub net_cost_per_vehicle_year: f64,
    /// Sessions that left below what was reachable, by more than 1 Wh.
    pub short_departures: usize,
    /// Sessions whose requirement was out of reach even at full power.
    pub unreachable_sessions: usize,
    /// Energy missing at departure, kWh inside the battery.
    pub energy_short_kwh: f64,
    /// Intervals in which a site was over a limit, reserves fully activated.
    pub site_limit_breaches: usize,
    /// Reserve sold, MW times hours.
    pub reserve_offered_mw_h: f64,
    /// Of it not there, MW times hours.
    pub reserve_unavailable_mw_h: f64,
    /// Blocks in which reserve was sold.
    pub reserve_blocks_sold: usize,
    /// Those of them in which some of it was missing at some time: the joint shortfall.
    pub reserve_blocks_short: usize,
    /// How often the qualification for a product was lost, all products.
    pub qualifications_lost: usize,
    /// What the days sold ahead were expected to cost when their price was out: energy, fees, wear and imbalance.
    pub planned_cost: Option<f64>,
    /// How much more than that they did cost: what the plan was too optimistic by.
    pub optimism_gap: Option<f64>,
    /// Mean cost of the dearest local days, those beyond the level of the conditional value at risk.
    pub daily_cost_cvar: f64,
    /// Proven distance from the optimum of R; `None` where there is no proof.
    pub relative_gap: Option<f64>,
    /// Time spent deciding, seconds; filled by the caller, who has a clock.
    pub solve_seconds: f64,
    /// R's objective: `net_cost` without demand charge, plus 2.00 per kWh short.
    pub objective: f64,
    /// No schedule has a lower objective, where that is proven.
    pub lower_bound: Option<f64>,
}

/// Settles a run.
#[must_use]
pub fn account(case: &Case, run: &Run) -> Account {
    let (charge, discharge) = run.load(case);
    let mwh = case.grid.hours() / 1000.0;
    let over = |f: &dyn Fn(usize) -> f64| (0..case.grid.steps).map(f).sum::<f64>() * mwh;
    let energy_cost = over(&|t| case.prices.day_ahead[t] * (charge[t] - discharge[t]));
    let fees = over(&|t| case.costs.import * charge[t] + case.costs.export * discharge[t]);
    let wear_cost = over(&|t| case.costs.wear * discharge[t]);
    let imbalance_cost = run.sold_kw.as_ref().map_or(0.0, |sold| {
        over(&|t| deviation_cost(case, t, charge[t] - discharge[t] - sold[t]))
    });
    let reserve = settle_reserve(case, run);
    let demand_cost = demand_cost(case, run);
    let net_cost = energy_cost + fees + wear_cost + imbalance_cost + demand_cost
        - reserve.revenue.total()
        + reserve.penalties;
    let (reserve_blocks_sold, reserve_blocks_short) = outcome::joint_shortfall(case, run);
    let plan = outcome::plan_and_gap(case, run);
    let energy_short_kwh = run.sessions.iter().map(|s| s.short_kwh).sum::<f64>();
    let vehicle_years =
        case.vehicles() as f64 * case.grid.hours() * case.grid.steps as f64 / 8760.0;
    Account {
        name: run.policy.name().to_owned(),
        energy_charged_kwh: over(&|t| charge[t]) * 1000.0,
        energy_discharged_kwh: over(&|t| discharge[t]) * 1000.0,
        energy_cost,
        fees,
        wear_cost,
        imbalance_cost,
        demand_cost,
        capacity_revenue: reserve.revenue,
        activation_revenue: 0.0,
        penalties: reserve.penalties,
        net_cost,
        net_cost_per_vehicle_year: if vehicle_years > 0.0 {
            net_cost / vehicle_years
        } else {
            0.0
        },
        short_departures: count_short(case, run),
        unreachable_sessions: case.sessions.iter().filter(|s| s.unreachable).count(),
        energy_short_kwh,
        site_limit_breaches: breaches(case, run),
        reserve_offered_mw_h: reserve.offered,
        reserve_unavailable_mw_h: reserve.unavailable,
        reserve_blocks_sold,
        reserve_blocks_short,
        qualifications_lost: run.qualifications_lost.iter().sum(),
        planned_cost: plan.map(|p| p.0),
        optimism_gap: plan.map(|p| p.1),
        daily_cost_cvar: outcome::dear_tail(
            outcome::daily_costs(case, run).into_values(),
            case.risk.cvar_alpha,
        ),
        relative_gap: run.relative_gap,
        solve_seconds: 0.0,
        objective: net_cost - demand_cost + SHORTFALL_PER_KWH * energy_short_kwh,
        lower_bound: run.lower_bound,
    }
}

/// What a deviation of `deviation` kW from the position costs beyond the day-ahead price in step `t`: kW times price per
/// `MWh`.
#[must_use]
pub fn deviation_cost(case: &Case, t: usize, deviation: f64) -> f64 {
    let price = case.prices.day_ahead[t];
    if deviation > 0.0 {
        deviation * (case.prices.short[t] - price)
    } else {
        -deviation * (price - case.prices.long[t])
    }
}

/// Sessions that left below what was reachable.
fn count_short(case: &Case, run: &Run) -> usize {
    case.sessions
        .iter()
        .zip(&run.sessions)
        .filter(|(s, done)| {
            let left = done.energy_kwh.last().copied().unwrap_or(s.arrival);
            left < s.goal - SHORT_TOLERANCE_KWH
        })
        .count()
}

struct ReserveAccount {
    revenue: CapacityRevenue,
    penalties: f64,
    offered: f64,
    unavailable: f64,
}

fn settle_reserve(case: &Case, run: &Run) -> ReserveAccount {
    let mut sum = ReserveAccount {
        revenue: CapacityRevenue::default(),
        penalties: 0.0,
        offered: 0.0,
        unavailable: 0.0,
    };
    for block in penalty::blocks(case, run) {
        if let Some(revenue) = sum.revenue.of(block.product) {
            *revenue += block.revenue;
        }
        sum.penalties += block.penalty;
        sum.offered += block.offered_mw_h;
        sum.unavailable += block.missing_mw_h;
    }
    sum
}

/// Net power of each site in each step with the reserve its vehicles hold: `[site][step]`, lowest and highest, kW.
pub fn site_range(case: &Case, run: &Run) -> Vec<Vec<(f64, f64)>> {
    let mut range: Vec<Vec<(f64, f64)>> = case
        .sites
        .iter()
        .map(|s| {
            (0..case.grid.steps)
                .map(|t| (s.base(t), s.base(t)))
                .collect()
        })
        .collect();
    for (session, done) in case.sessions.iter().zip(&run.sessions) {
        let Some(site) = session.site else { continue };
        for (j, t) in session.steps().enumerate() {
            let net = done.charge_kw[j] - done.discharge_kw[j];
            let up: f64 = done.reserves.iter().map(|r| r.up_kw(j)).sum();
            let down: f64 = done.reserves.iter().filter_map(|r| r.down_kw.get(j)).sum();
            let (low, high) = &mut range[site][t];
            *low += net - up;
            *high += net + down;
        }
    }
    range
}

fn breaches(case: &Case, run: &Run) -> usize {
    site_range(case, run)
        .iter()
        .zip(&case.sites)
        .map(|(range, site)| {
            range
                .iter()
                .filter(|range| site.is_breached(**range))
                .count()
        })
        .sum()
}

/// Each site's highest draw of each local month, base load included, at the demand charge. A month begun counts whole.
fn demand_cost(case: &Case, run: &Run) -> f64 {
    if case.costs.demand <= 0.0 {
        return 0.0;
    }
    let mut load: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for site in &case.sites {
        load.insert(
            &site.id,
            (0..case.grid.steps).map(|t| site.base(t)).collect(),
        );
    }
    for (session, done) in case.sessions.iter().zip(&run.sessions) {
        let site = load
            .entry(&session.stay.site_id)
            .or_insert_with(|| vec![0.0; case.grid.steps]);
        for (j, t) in session.steps().enumerate() {
            site[t] += done.charge_kw[j] - done.discharge_kw[j];
        }
    }
    let zone = case.area.zone();
    let mut peaks: BTreeMap<(&str, i32, u32), f64> = BTreeMap::new();
    for (site, load) in &load {
        for (t, kw) in load.iter().enumerate() {
            let local = case.grid.at(t).with_timezone(&zone);
            let peak = peaks
                .entry((site, local.year(), local.month()))
                .or_default();
            *peak = peak.max(*kw);
        }
    }
    peaks.values().sum::<f64>() * case.costs.demand
}
