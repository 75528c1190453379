//! `shoal plan --policy v1g-perfect` and `v2g-perfect`: a delivery day with everything known, all that is on sale sold at
//! once: what the day can earn at most, what binds, and what one more unit of it would earn.

use std::fmt::Write as _;
use std::path::Path;

use chrono::{DateTime, Days, NaiveDate, Utc};
use frames::scenario::Scenario;
use portfolio::case::Case;
use portfolio::policy::Policy;
use portfolio::stack::{self, Answer, Problem};
use serde::Serialize;

use super::constraint::{self, Offered};
use super::points::{self, Point};
use super::{convert, exclusive, extend};
use crate::cli::CliError;

/// Programmes that a search for whole volumes may solve.
const PROGRAMMES: usize = 60;

/// `plan.json` of a policy that knows everything.
#[derive(Debug, Serialize)]
pub(super) struct KnownPlan {
    scenario: String,
    area: &'static str,
    currency: String,
    day: NaiveDate,
    policy: &'static str,
    /// What is planned together: the day, and of the days beside it as much as the scenario has, so that nights are whole.
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    /// Stays that touch the day.
    sessions: usize,
    /// Money over all that is planned together, what was relaxed priced in.
    objective: f64,
    lower_bound: f64,
    relative_gap: f64,
    /// With `--whole`: the objective that volumes of any size would have.
    objective_of_any_volume: Option<f64>,
    positions: Vec<Position>,
    reserves: Vec<Sold>,
    /// What is offered to network operators on top of the plan.
    constraint_offers: Vec<Offered>,
    /// Products that exclude each other, each alternative on top of the plan.
    exclusive_offers: Vec<exclusive::Offered>,
    /// Connection points with reactive power or a refund.
    points: Vec<Point>,
    reasons: Vec<Why>,
    relaxed: Vec<Relaxed>,
}

#[derive(Debug, Serialize)]
struct Position {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// Day-ahead price, per `MWh`.
    price: f64,
    position_kw: f64,
    charge_kw: f64,
    discharge_kw: f64,
}

/// A block of a reserve product that delivers on the day.
#[derive(Debug, Serialize)]
struct Sold {
    product: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    volume_mw: f64,
    /// Per MW for the whole block.
    price: f64,
}

/// A binding limit; `start` is missing for what holds over a whole stay.
#[derive(Debug, Serialize)]
struct Why {
    start: Option<DateTime<Utc>>,
    product: Option<String>,
    limit: String,
    unit: &'static str,
    price: f64,
    sentence: String,
}

/// What had to give.
#[derive(Debug, Serialize)]
struct Relaxed {
    start: DateTime<Utc>,
    owner: String,
    amount: f64,
    /// Currency per unit.
    price: f64,
    cost: f64,
    sentence: String,
}

/// Plans the day.
pub(super) fn plan(
    scenario: &Scenario,
    day: NaiveDate,
    policy: Policy,
    whole: bool,
) -> Result<KnownPlan, CliError> {
    let from = day.pred_opt().unwrap_or(day).max(scenario.from);
    let to = (day + Days::new(2)).min(scenario.to);
    let mut case = convert::case(scenario, Some(from), Some(to))?;
    let days = (
        case.grid.first_from(convert::midnight(scenario, day)?),
        case.grid
            .first_from(convert::midnight(scenario, day + Days::new(1))?),
    );
    case.sessions
        .retain(|s| s.steps().start < days.1 && days.0 < s.steps().end);
    let mut problem = Problem::of(&case, policy.discharges());
    extend::extend(&mut problem, scenario, &case)?;
    let refused =
        |e: stack::StackError| CliError::Input(format!("{}: {e}", scenario.file.display()));
    if !whole {
        for product in &mut problem.products {
            (product.minimum_mw, product.step_mw) = (0.0, 0.0);
        }
    }
    let (answer, relaxation) = if whole || !problem.exclusive.is_empty() {
        let found = stack::solve_whole(&problem, PROGRAMMES).map_err(refused)?;
        (found.answer, whole.then_some(found.relaxation))
    } else {
        (stack::solve(&problem).map_err(refused)?, None)
    };
    let on_day = (case.grid, days.0..days.1);
    let constraint_offers =
        constraint::offers(scenario, on_day.clone(), &problem, &answer.schedule)?;
    let exclusive_offers =
        exclusive::offers(&problem, &answer.schedule, on_day.clone(), PROGRAMMES)
            .map_err(refused)?;
    let points = points::points(&problem, &answer.schedule, on_day);
    let told = Told {
        scenario,
        case: &case,
        problem: &problem,
        answer: &answer,
        day: days.0..days.1,
    };
    Ok(KnownPlan {
        scenario: scenario.name.clone(),
        area: scenario.area.code(),
        currency: scenario.currency().to_string(),
        day,
        policy: policy.name(),
        from: case.grid.start,
        to: case.grid.end(),
        sessions: case.sessions.len(),
        objective: answer.objective,
        lower_bound: answer.lower_bound,
        relative_gap: answer.relative_gap,
        objective_of_any_volume: relaxation,
        positions: told.positions(),
        reserves: told.reserves(),
        constraint_offers,
        exclusive_offers,
        points,
        reasons: told.reasons(),
        relaxed: told.relaxed(),
    })
}

/// The answer in instants and names.
struct Told<'a> {
    scenario: &'a Scenario,
    case: &'a Case,
    problem: &'a Problem,
    answer: &'a Answer,
    /// Steps of the day.
    day: std::ops::Range<usize>,
}

impl Told<'_> {
    fn positions(&self) -> Vec<Position> {
        let (mut charge, mut discharge) = (
            vec![0.0; self.case.grid.steps],
            vec![0.0; self.case.grid.steps],
        );
        for (vehicle, done) in self
            .problem
            .vehicles
            .iter()
            .zip(&self.answer.schedule.vehicles)
        {
            let first = vehicle.session.first;
            for (sum, kw) in charge[first..].iter_mut().zip(&done.charge_kw) {
                *sum += kw;
            }
            for (sum, kw) in discharge[first..].iter_mut().zip(&done.discharge_kw) {
                *sum += kw;
            }
        }
        self.day
            .clone()
            .map(|t| Position {
                start: self.case.grid.at(t),
                end: self.case.grid.at(t + 1),
                price: self.case.prices.day_ahead[t],
                position_kw: charge[t] - discharge[t],
                charge_kw: charge[t],
                discharge_kw: discharge[t],
            })
            .collect()
    }

    fn reserves(&self) -> Vec<Sold> {
        let mut sold = Vec::new();
        for (product, volumes) in self
            .problem
            .products
            .iter()
            .zip(&self.answer.schedule.sold_mw)
        {
            for (block, volume) in product.blocks.iter().zip(volumes) {
                let (start, end) = (block.steps.start, block.steps.end);
                if start < self.day.end && self.day.start < end {
                    sold.push(Sold {
                        product: product.name.clone(),
                        start: self.case.grid.at(start),
                        end: self.case.grid.at(end),
                        volume_mw: *volume,
                        price: block.price,
                    });
                }
            }
        }
        sold
    }

    fn reasons(&self) -> Vec<Why> {
        let currency = self.scenario.currency().to_string();
        stack::reasons(self.problem, self.answer, &currency)
            .into_iter()
            .filter(|r| r.step.is_none_or(|step| self.day.contains(&step)))
            .map(|r| Why {
                start: r.step.map(|step| self.case.grid.at(step)),
                product: r.product,
                limit: r.limit,
                unit: r.unit,
                price: r.price,
                sentence: r.sentence,
            })
            .collect()
    }

    fn relaxed(&self) -> Vec<Relaxed> {
        self.answer
            .relaxed
            .iter()
            .map(|r| Relaxed {
                start: self.case.grid.at(r.step),
                owner: stack::owner_name(self.problem, r.owner),
                amount: r.amount,
                price: r.price,
                cost: r.cost,
                sentence: r.sentence.clone(),
            })
            .collect()
    }
}

impl KnownPlan {
    /// What a person reads on the terminal: the day by interval, what is sold, what binds most.
    pub(super) fn table(&self, dir: &Path, zone: chrono_tz::Tz) -> String {
        const SHOWN: usize = 12;
        let at = |t: &DateTime<Utc>| t.with_timezone(&zone).format("%H:%M").to_string();
        let mut text = format!(
            "{} ({}), {}: plan of {} with everything known, {} stays; {:.2} {} (gap {:.1e})\n{:<6} {:>14} {:>12} {:>14}\n",
            self.scenario,
            self.area,
            self.day,
            self.policy,
            self.sessions,
            self.objective,
            self.currency,
            self.relative_gap,
            "local",
            format!("{}/MWh", self.currency),
            "charging kW",
            "discharging kW",
        );
        for step in &self.positions {
            let _ = writeln!(
                text,
                "{:<6} {:>14.1} {:>12.1} {:>14.1}",
                at(&step.start),
                step.price,
                step.charge_kw,
                step.discharge_kw
            );
        }
        for sold in self.reserves.iter().filter(|s| s.volume_mw > 0.0) {
            let _ = writeln!(
                text,
                "{} {} to {}: {:.3} MW at {:.2} {} per MW and block",
                sold.product,
                at(&sold.start),
                at(&sold.end),
                sold.volume_mw,
                sold.price,
                self.currency
            );
        }
        for offer in &self.constraint_offers {
            offer.tell(&mut text, &self.currency, zone);
        }
        for offer in &self.exclusive_offers {
            offer.tell(&mut text, &self.currency);
        }
        for point in &self.points {
            point.tell(&mut text, &self.currency);
        }
        let mut dearest: Vec<&Why> = self.reasons.iter().collect();
        dearest.sort_by(|a, b| b.price.abs().total_cmp(&a.price.abs()));
        for why in dearest.iter().take(SHOWN) {
            let when = why.start.as_ref().map(|t| at(t) + " ").unwrap_or_default();
            let _ = writeln!(text, "{when}{}", why.sentence);
        }
        if self.reasons.len() > SHOWN {
            let _ = writeln!(
                text,
                "and {} more limits that bind",
                self.reasons.len() - SHOWN
            );
        }
        for relaxed in &self.relaxed {
            let _ = writeln!(text, "relaxed: {}", relaxed.sentence);
        }
        let _ = writeln!(text, "written to {}", dir.join("plan.json").display());
        text
    }
}
