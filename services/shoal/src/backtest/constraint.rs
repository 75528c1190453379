//! What is offered to network operators on top of a plan that knows everything: a price for each bound of a scenario's
//! `[[constraint_offer]]`.

use std::fmt::Write as _;
use std::ops::Range;

use chrono::{DateTime, Utc};
use frames::scenario::Scenario;
use portfolio::case::Grid;
use portfolio::stack::{self, Problem, Request, Schedule};
use serde::Serialize;

use crate::cli::CliError;

/// An offer in instants and names.
#[derive(Debug, Serialize)]
pub(super) struct Offered {
    name: String,
    area: String,
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// When the operators will have answered; until then the plan is followed.
    answered: DateTime<Utc>,
    choices: Vec<Choice>,
}

/// One bound and what is asked for it.
#[derive(Debug, Serialize)]
struct Choice {
    bound_kw: f64,
    volume_kw: f64,
    moved_kwh: f64,
    rebound_kwh: f64,
    cost: f64,
    cost_with_others: f64,
    /// For the whole order; null where it cannot be kept.
    price: Option<f64>,
    gives_way: Vec<String>,
}

/// The offers of the scenario whose bounds begin on the day (steps of `grid`), priced on top of `plan`.
pub(super) fn offers(
    scenario: &Scenario,
    (grid, day): (Grid, Range<usize>),
    problem: &Problem,
    plan: &Schedule,
) -> Result<Vec<Offered>, CliError> {
    let refused = |what: String| CliError::Input(format!("{}: {what}", scenario.file.display()));
    let on_day = (grid.at(day.start), grid.at(day.end));
    let asked = scenario.extras.offers.iter();
    let asked: Vec<_> = asked
        .filter(|o| on_day.0 <= o.from && o.from < on_day.1)
        .collect();
    let mut requests = Vec::new();
    for offer in &asked {
        let steps = grid.whole(offer.from, offer.to).ok_or_else(|| {
            refused(format!(
                "constraint_offer {}: to is {}, expected it within what is planned together, up to {}",
                offer.name,
                offer.to,
                grid.end()
            ))
        })?;
        requests.push(Request {
            name: offer.name.clone(),
            area: offer.area,
            steps,
            bounds_kw: offer.bounds_kw.clone(),
            rebound_per_mwh: offer.rebound_per_mwh,
            margin_share: offer.margin_share,
        });
    }
    let answered = asked.iter().filter_map(|o| o.answered).max();
    let earliest = requests.iter().map(|r| r.steps.start).min();
    let notice = answered
        .map(|at| grid.first_from(at))
        .or(earliest)
        .unwrap_or(0);
    let priced =
        stack::offers(problem, plan, &requests, notice).map_err(|e| refused(e.to_string()))?;
    let told = priced
        .into_iter()
        .zip(&asked)
        .map(|(offer, request)| Offered {
            name: offer.name,
            area: problem.areas[request.area].name.clone(),
            start: request.from,
            end: request.to,
            answered: grid.at(notice),
            choices: offer.choices.into_iter().map(Choice::from).collect(),
        });
    Ok(told.collect())
}

impl From<stack::Choice> for Choice {
    fn from(choice: stack::Choice) -> Self {
        Self {
            bound_kw: choice.bound_kw,
            volume_kw: choice.volume_kw,
            moved_kwh: choice.moved_kwh,
            rebound_kwh: choice.rebound_kwh,
            cost: choice.cost,
            cost_with_others: choice.cost_with_others,
            price: choice.price,
            gives_way: choice.gives_way,
        }
    }
}

impl Offered {
    /// One line per bound.
    pub(super) fn tell(&self, text: &mut String, currency: &str, zone: chrono_tz::Tz) {
        let at = |t: &DateTime<Utc>| t.with_timezone(&zone).format("%H:%M").to_string();
        for choice in &self.choices {
            let _ = write!(
                text,
                "offer {} {} to {}: {} at most {:.1} kW, {:.1} kW below the plan, ",
                self.name,
                at(&self.start),
                at(&self.end),
                self.area,
                choice.bound_kw,
                choice.volume_kw
            );
            let _ = match (choice.price, choice.gives_way.first()) {
                (Some(price), _) => writeln!(text, "for {price:.2} {currency}"),
                (None, why) => writeln!(
                    text,
                    "not offered: {}",
                    why.map_or("it cannot be kept", String::as_str)
                ),
            };
        }
    }
}
