//! `report.json`: the contract's fields first, then what helps to understand them.

use std::path::Path;

use chrono::NaiveDate;
use portfolio::case::Case;
use portfolio::policy::{Account, Limit, Policy, Run};
use serde::Serialize;

/// The document (contract 5). Fields beyond the contract are additive.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) scenario: String,
    pub(super) area: String,
    pub(super) from: NaiveDate,
    pub(super) to: NaiveDate,
    pub(super) currency: String,
    pub(super) vehicles: usize,
    pub(super) sessions: usize,
    pub(super) sessions_skipped: usize,
    pub(super) price_gaps_filled: usize,
    pub(super) policies: Vec<Entry>,
    pub(super) value_capture: Option<f64>,
    /// Policies that were asked for and have no result, with the reason.
    pub(super) unsolved: Vec<Unsolved>,
    /// Things a reader should know: out-of-order input, how figures are formed.
    pub(super) notes: Vec<String>,
}

/// One policy: its account, and what limited it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) account: Account,
    pub(super) limits: Vec<Limit>,
    /// Reserve sold per product and block, as solved and in whole MW.
    pub(super) reserve_blocks: Vec<BlockVolume>,
}

/// Volume of one product in one block.
#[derive(Debug, Serialize)]
pub(super) struct BlockVolume {
    pub(super) product: &'static str,
    pub(super) start: chrono::DateTime<chrono::Utc>,
    pub(super) end: chrono::DateTime<chrono::Utc>,
    /// Published, per MW for the whole block.
    pub(super) price: f64,
    /// What the volume is paid, per MW for the whole block: the price asked where the market pays that; zero where none is sold.
    pub(super) paid: f64,
    /// Volume of the convex relaxation, MW; what the account is settled on.
    pub(super) relaxed_mw: f64,
    /// Whole MW that could be offered of it: rounded down, zero below the minimum bid of 1 MW.
    pub(super) integer_mw: f64,
}

/// A policy without a result.
#[derive(Debug, Serialize)]
pub(super) struct Unsolved {
    pub(super) name: &'static str,
    pub(super) reason: String,
}

/// One policy's run with its account, as all outputs use it.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) run: Run,
    pub(super) account: Account,
}

/// Volumes of all blocks on sale that hold any reserve.
pub(super) fn blocks(case: &Case, run: &Run) -> Vec<BlockVolume> {
    let mut volumes = Vec::new();
    for (p, reserve) in case.reserves.iter().enumerate() {
        for (b, (block, _)) in reserve.on_sale().enumerate() {
            let sold = run.sold_mw.get(p).and_then(|v| v.get(b)).copied();
            let relaxed_mw = sold.unwrap_or(0.0);
            let paid = run.paid.get(p).and_then(|v| v.get(b)).copied();
            volumes.push(BlockVolume {
                product: reserve.product.name(),
                start: block.start,
                end: block.end,
                price: block.price,
                paid: if relaxed_mw > 0.0 {
                    paid.unwrap_or(block.price)
                } else {
                    0.0
                },
                relaxed_mw,
                integer_mw: (relaxed_mw + 1e-9).floor().max(0.0),
            });
        }
    }
    volumes
}

/// Share of the way from unmanaged to the bound that `v2g` goes; `None` where a policy is missing or there is no way.
pub(super) fn value_capture(played: &[Played]) -> Option<f64> {
    let cost = |policy: Policy| {
        played
            .iter()
            .find(|p| p.run.policy == policy)
            .map(|p| p.account.net_cost)
    };
    let unmanaged = cost(Policy::Unmanaged)?;
    let distance = unmanaged - cost(Policy::V2gPerfect)?;
    let gone = unmanaged - cost(Policy::V2g)?;
    (distance != 0.0).then(|| gone / distance)
}

impl Report {
    /// Writes the document as `report.json` into `dir`.
    pub(super) fn write(&self, dir: &Path) -> std::io::Result<()> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        std::fs::write(dir.join("report.json"), text)
    }
}
