//! Alternatives of products that exclude each other, on top of a plan that knows everything.

use std::fmt::Write as _;
use std::ops::Range;

use chrono::{DateTime, Utc};
use portfolio::case::Grid;
use portfolio::stack::{self, Problem, Schedule, StackError};
use serde::Serialize;

/// One group: the market takes one of its alternatives at most.
#[derive(Debug, Serialize)]
pub(super) struct Offered {
    name: String,
    alternatives: Vec<Alternative>,
}

/// One product alone.
#[derive(Debug, Serialize)]
struct Alternative {
    product: String,
    blocks: Vec<Volume>,
    /// What holding them costs beyond the plan that sells none of the group, currency, over all that is planned together.
    cost: f64,
    /// The same per MW and hour: the least to ask; null where nothing is worth selling.
    average_price: Option<f64>,
    /// Pay at the known prices less the cost.
    gain: f64,
    relative_gap: f64,
}

#[derive(Debug, Serialize)]
struct Volume {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    volume_mw: f64,
}

/// The alternatives of every group beside what `plan` sells of all other products; blocks are those that deliver on the day.
pub(super) fn offers(
    problem: &Problem,
    plan: &Schedule,
    (grid, day): (Grid, Range<usize>),
    programmes: usize,
) -> Result<Vec<Offered>, StackError> {
    let groups = stack::alternatives(problem, plan, programmes)?;
    let offered = groups.into_iter().map(|group| {
        let alternatives = group.choices.into_iter().map(|choice| {
            let product = &problem.products[choice.product];
            let blocks = product.blocks.iter().zip(&choice.volumes_mw);
            let on_day = blocks
                .filter(|(b, mw)| **mw > 0.0 && b.steps.start < day.end && day.start < b.steps.end);
            Alternative {
                product: product.name.clone(),
                blocks: on_day
                    .map(|(block, mw)| Volume {
                        start: grid.at(block.steps.start),
                        end: grid.at(block.steps.end),
                        volume_mw: *mw,
                    })
                    .collect(),
                cost: choice.cost,
                average_price: choice.average_price,
                gain: choice.gain,
                relative_gap: choice.relative_gap,
            }
        });
        Offered {
            name: group.name,
            alternatives: alternatives.collect(),
        }
    });
    Ok(offered.collect())
}

impl Offered {
    /// One line per alternative.
    pub(super) fn tell(&self, text: &mut String, currency: &str) {
        for choice in &self.alternatives {
            let _ = match choice.average_price {
                Some(price) => writeln!(
                    text,
                    "{}: {} alone in {} blocks of the day, for {price:.2} {currency} per MW and hour or more, gains {:.2} {currency}",
                    self.name,
                    choice.product,
                    choice.blocks.len(),
                    choice.gain
                ),
                None => writeln!(
                    text,
                    "{}: {} is not worth offering",
                    self.name, choice.product
                ),
            };
        }
    }
}
