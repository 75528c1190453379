//! The bound: reference problem R solved with the whole period known.

use super::{Limit, Policy, PolicyError, Run};
use crate::case::Case;
use crate::reference::{self as problem, Answer, Outcome};

/// Solves R with discharging (`v2g-perfect`) or without.
pub(super) fn run(case: &Case, policy: Policy) -> Result<Run, PolicyError> {
    let stated = case.problem(policy.discharges());
    match problem::solve(&stated).map_err(PolicyError::Problem)? {
        Outcome::Solved(answer) => Ok(record(case, policy, *answer)),
        Outcome::Infeasible(at) => Err(PolicyError::Infeasible {
            site: case.sites[at.site].id.clone(),
            at: case.grid.at(at.step),
            excess_kw: at.excess_kw,
        }),
        Outcome::Stalled { reason } => Err(PolicyError::Stalled(reason)),
    }
}

fn record(case: &Case, policy: Policy, answer: Answer) -> Run {
    let mut limits = Vec::new();
    for (index, site) in case.sites.iter().enumerate() {
        for (word, duals) in [
            ("import", &answer.duals.import),
            ("export", &answer.duals.export),
        ] {
            let kw = if word == "import" {
                site.import_kw
            } else {
                site.export_kw
            };
            let mine: Vec<f64> = duals.iter().filter(|d| d.0 == index).map(|d| d.2).collect();
            if !mine.is_empty() {
                limits.push(Limit {
                    what: format!("site {}: {word} limit of {kw} kW", site.id),
                    steps: mine.len(),
                    cost: Some(mine.iter().sum::<f64>()),
                });
            }
        }
    }
    limits.sort_by(|a, b| b.cost.unwrap_or(0.0).total_cmp(&a.cost.unwrap_or(0.0)));
    Run {
        policy,
        sessions: answer.schedule.sessions,
        sold_kw: None,
        sold_mw: answer.schedule.block_mw,
        // Who knows the marginal price asks just that, and is paid it under either pricing.
        paid: Vec::new(),
        missing_mw: Vec::new(),
        qualifications_lost: Vec::new(),
        planned: Vec::new(),
        scores: Vec::new(),
        relative_gap: Some(answer.relative_gap),
        lower_bound: Some(answer.lower_bound),
        limits,
    }
}
