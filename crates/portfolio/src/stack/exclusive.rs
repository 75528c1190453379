//! Products of which the market takes one at most: sets of alternatives, each a plan of its own, each with its average price
//! (`optimisation.md` 7.4).
//!
//! ```text
//!                plan: everything outside the group is sold and held
//!                  |-- none of the group ----------------- J0
//!                  |-- the first product alone ----------- J1      asked per MW and hour: (J1 + its pay - J0) / (MW * h)
//!                  |-- the second product alone ---------- J2
//! ```
//!
//! Each alternative keeps whatever else is sold, so that any one of them can be awarded, or none.

use serde::{Deserialize, Serialize};

use super::problem::{Problem, Schedule};
use super::solve::solve;
use super::valid::StackError;
use super::whole::solve_whole;

/// Products of which at most one is sold at a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Exclusive {
    /// Name, for reports and refusals.
    pub name: String,
    /// Indices into [`Problem::products`]; each is in one group at most.
    pub products: Vec<usize>,
}

/// One product of a group sold alone, in the volumes that earn most at the problem's prices.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternative {
    /// Index into [`Problem::products`].
    pub product: usize,
    /// One per block of the product, MW.
    pub volumes_mw: Vec<f64>,
    /// What holding them costs beyond the plan that sells none of the group, currency.
    pub cost: f64,
    /// The same per MW and hour sold: the least that may be asked; `None` where nothing is sold.
    pub average_price: Option<f64>,
    /// Pay at the problem's prices less the cost, currency.
    pub gain: f64,
    /// Proven distance of the alternative's plan from the best.
    pub relative_gap: f64,
}

/// The alternatives of one group.
#[derive(Debug, Clone, PartialEq)]
pub struct Alternatives {
    /// The group's name.
    pub name: String,
    /// One per product, in the order of the group.
    pub choices: Vec<Alternative>,
}

/// The alternatives of every group beside what `plan` sells of all other products, each within `programmes` programmes.
///
/// # Errors
/// [`StackError`] where a number or an index makes no sense.
pub fn alternatives(
    problem: &Problem,
    plan: &Schedule,
    programmes: usize,
) -> Result<Vec<Alternatives>, StackError> {
    let offered = problem.exclusive.iter().map(|group| {
        let none = solve(&beside(problem, plan, group, None))?.objective;
        let choices = group
            .products
            .iter()
            .map(|product| alternative(problem, plan, (group, *product), (none, programmes)));
        Ok(Alternatives {
            name: group.name.clone(),
            choices: choices.collect::<Result<_, StackError>>()?,
        })
    });
    offered.collect()
}

fn alternative(
    problem: &Problem,
    plan: &Schedule,
    (group, product): (&Exclusive, usize),
    (none, programmes): (f64, usize),
) -> Result<Alternative, StackError> {
    let alone = beside(problem, plan, group, Some(product));
    let answer = solve_whole(&alone, programmes)?.answer;
    let volumes_mw = answer.schedule.sold_mw[product].clone();
    let blocks = &problem.products[product].blocks;
    let (mut pay, mut hours) = (0.0, 0.0);
    for (block, mw) in blocks.iter().zip(&volumes_mw) {
        pay += block.price * mw;
        let steps: f64 = block.steps.clone().map(|_| problem.step_hours).sum();
        hours += mw * steps;
    }
    let cost = (answer.objective + pay - none).max(0.0);
    Ok(Alternative {
        product,
        volumes_mw,
        cost,
        average_price: (hours > 0.0).then(|| cost / hours),
        gain: pay - cost,
        relative_gap: answer.relative_gap,
    })
}

/// The problem with everything outside a group sold as planned, and of the group only one product on sale.
fn beside(problem: &Problem, plan: &Schedule, group: &Exclusive, only: Option<usize>) -> Problem {
    let mut beside = problem.clone();
    let products = beside.products.iter_mut().zip(&plan.sold_mw).enumerate();
    for (index, (product, sold)) in products.filter(|(index, _)| only != Some(*index)) {
        for (block, sold) in product.blocks.iter_mut().zip(sold) {
            if !group.products.contains(&index) {
                block.awarded_mw += sold;
            }
            block.open = false;
        }
    }
    beside
}
