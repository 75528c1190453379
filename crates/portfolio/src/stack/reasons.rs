//! Why a plan is as it is: for each step and product what binds, its price, and what one more unit would earn.

use serde::Serialize;

use super::gives::owner_name;
use super::problem::{Answer, Owner, Problem};

/// Price below which a limit does not count as binding, currency per unit.
const CHEAP: f64 = 1e-6;

/// One binding limit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reason {
    /// Step of the grid; `None` for what holds over a whole stay.
    pub step: Option<usize>,
    /// Product it limits; `None` for energy.
    pub product: Option<String>,
    /// What binds.
    pub limit: String,
    /// Unit of the price: `kW`, `kWh`, `kVA`, `kvar`, `MW`, `h`.
    pub unit: &'static str,
    /// What one more unit would earn over the horizon, currency.
    pub price: f64,
    /// The same as a sentence.
    pub sentence: String,
}

/// Everything that binds, in order of the grid, then by vehicle; `currency` is how money is called in sentences.
#[must_use]
pub fn reasons(problem: &Problem, answer: &Answer, currency: &str) -> Vec<Reason> {
    let mut found = Vec::new();
    limits(problem, answer, currency, &mut found);
    points(problem, answer, currency, &mut found);
    products(problem, answer, currency, &mut found);
    found.sort_by_key(|reason| reason.step);
    vehicles(problem, answer, currency, &mut found);
    found
}

fn limits(problem: &Problem, answer: &Answer, currency: &str, found: &mut Vec<Reason>) {
    let prices = &answer.prices;
    let tables = [
        (&prices.site_import, true, "import"),
        (&prices.site_export, true, "export"),
        (&prices.area_import, false, "import"),
        (&prices.area_export, false, "export"),
    ];
    for (table, is_site, word) in tables {
        for (index, steps) in table.iter().enumerate() {
            let owner = if is_site {
                Owner::Site(index)
            } else {
                Owner::Area(index)
            };
            let name = owner_name(problem, owner);
            for (step, price) in steps
                .iter()
                .enumerate()
                .filter(|(_, price)| **price > CHEAP)
            {
                let limit = format!("{word} limit of {name}");
                let sentence = format!(
                    "the {limit} binds: one more kW in this interval would earn {price:.4} {currency}"
                );
                found.push(Reason {
                    step: Some(step),
                    product: None,
                    limit,
                    unit: "kW",
                    price: *price,
                    sentence,
                });
            }
        }
    }
}

/// Ratings, reactive power and refunds of connection points.
fn points(problem: &Problem, answer: &Answer, currency: &str, found: &mut Vec<Reason>) {
    let prices = &answer.prices;
    for (index, site) in problem.sites.iter().enumerate() {
        let name = owner_name(problem, Owner::Site(index));
        let mut push = |step, limit: String, unit, price: f64, what: &str| {
            if price.abs() > CHEAP {
                let sentence = format!(
                    "the {limit} binds: {what} would earn {:.4} {currency}",
                    price.abs()
                );
                found.push(Reason {
                    step,
                    product: None,
                    limit,
                    unit,
                    price,
                    sentence,
                });
            }
        };
        for (step, price) in prices.site_rating[index].iter().enumerate() {
            let limit = format!("rating of {name}");
            push(
                Some(step),
                limit,
                "kVA",
                *price,
                "one more kVA in this interval",
            );
        }
        for (step, price) in prices.site_reactive[index].iter().enumerate() {
            let limit = format!("reactive power at {name}");
            let what = if *price > 0.0 {
                "one kvar less of base load in this interval"
            } else {
                "one kvar more of base load in this interval"
            };
            push(Some(step), limit, "kvar", *price, what);
        }
        if site.refund.is_some() {
            let limit = format!("ledger of refunds at {name}");
            let what = "one more kWh drawn before";
            push(None, limit, "kWh", prices.site_ledger[index], what);
        }
    }
}

fn products(problem: &Problem, answer: &Answer, currency: &str, found: &mut Vec<Reason>) {
    let prices = &answer.prices;
    for (index, product) in problem.products.iter().enumerate() {
        for (table, word) in [
            (&prices.hold_up[index], "Up"),
            (&prices.hold_down[index], "Down"),
        ] {
            for (step, price) in table
                .iter()
                .enumerate()
                .filter(|(_, price)| **price > CHEAP)
            {
                let limit = format!("{word} power of the pool");
                let sentence = format!(
                    "{} sells what the pool can hold of {word} power here: one more MW held in this interval would earn {price:.2} {currency}",
                    product.name
                );
                found.push(Reason {
                    step: Some(step),
                    product: Some(product.name.clone()),
                    limit,
                    unit: "MW",
                    price: *price,
                    sentence,
                });
            }
        }
        for (block, price) in product
            .blocks
            .iter()
            .zip(&prices.block[index])
            .filter(|(_, p)| **p > CHEAP)
        {
            let most = block.most_mw.unwrap_or(f64::INFINITY);
            let sentence = format!(
                "{} is sold up to the {most:.3} MW allowed: one more MW in this block would earn {price:.2} {currency}",
                product.name
            );
            found.push(Reason {
                step: Some(block.steps.start),
                product: Some(product.name.clone()),
                limit: "volume allowed".to_owned(),
                unit: "MW",
                price: *price,
                sentence,
            });
        }
    }
}

fn vehicles(problem: &Problem, answer: &Answer, currency: &str, found: &mut Vec<Reason>) {
    for (vehicle, prices) in problem.vehicles.iter().zip(&answer.prices.vehicles) {
        let name = &vehicle.name;
        let rows = [
            (
                prices.charge_kw,
                "charging power",
                "kW",
                "one more kW of charger",
            ),
            (
                prices.discharge_kw,
                "discharging power",
                "kW",
                "one more kW of feeding back",
            ),
            (
                prices.capacity_kwh,
                "battery",
                "kWh",
                "one more kWh of usable battery",
            ),
            (
                prices.goal_kwh,
                "energy owed at departure",
                "kWh",
                "one kWh less owed at departure",
            ),
            (
                prices.dimming_kwh,
                "energy to be there after a dimming",
                "kWh",
                "one kWh less to be there after a dimming",
            ),
            (
                prices.rating_kva,
                "apparent power",
                "kVA",
                "one more kVA of charger",
            ),
            (
                prices.earlier_hour,
                "arrival",
                "h",
                "an hour plugged in earlier, at the rate of its first minutes,",
            ),
            (
                prices.later_hour,
                "departure",
                "h",
                "an hour plugged in longer, at the rate of its first minutes,",
            ),
        ];
        for (price, limit, unit, what) in rows {
            let Some(price) = price.filter(|price| price.abs() > CHEAP) else {
                continue;
            };
            found.push(Reason {
                step: None,
                product: None,
                limit: format!("{limit} of vehicle {name}"),
                unit,
                price,
                sentence: format!("{what} would earn {price:.4} {currency} at vehicle {name}"),
            });
        }
    }
}
