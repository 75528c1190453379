//! What a scenario adds to its case for the plan that knows everything: products, areas, groups, dimming, carbon, levels
//! kept, peaks; what its connection points add is in [`super::points`].

use std::collections::BTreeSet;

use chrono::{DateTime, Datelike as _, Utc};
use frames::scenario::{self, Scenario};
use market::Holdings;
use market::dimming::behind_manager;
use portfolio::case::{Case, Grid};
use portfolio::stack::{Block, Dimming, Exclusive, Group, Left, NetworkArea, Problem, Product};
use units::Power;

use super::{convert, points};
use crate::cli::CliError;

/// Refuses what only this plan knows, for policies that do not.
pub(super) fn refuse_extras(scenario: &Scenario) -> Result<(), CliError> {
    let extras = &scenario.extras;
    let key = if !extras.products.is_empty() {
        "product"
    } else if !extras.areas.is_empty() {
        "dso_area"
    } else if !extras.groups.is_empty() {
        "group"
    } else if !extras.dimmings.is_empty() {
        "dimming"
    } else if !extras.offers.is_empty() {
        "constraint_offer"
    } else if !extras.exclusive.is_empty() {
        "exclusive"
    } else if let Some(key) = points::key(scenario) {
        key
    } else if scenario.prices.carbon.is_some() {
        "prices.carbon"
    } else if scenario.fleet.keep_fraction > 0.0 {
        "fleet.keep_fraction"
    } else if scenario.sites.iter().any(|s| s.peak_to_date_kw > 0.0) {
        "site.peak_to_date_kw"
    } else {
        return Ok(());
    };
    Err(CliError::Input(format!(
        "{}: {key}: only `shoal plan --policy v1g-perfect` or `v2g-perfect` plans with it, expected a scenario without",
        scenario.file.display()
    )))
}

/// What the scenario adds to its case.
pub(super) fn extend(
    problem: &mut Problem,
    scenario: &Scenario,
    case: &Case,
) -> Result<(), CliError> {
    let grid = case.grid;
    let offset = convert::offset(scenario, grid);
    let extras = &scenario.extras;
    if let Some(carbon) = &scenario.prices.carbon {
        problem.carbon_price = carbon.values[offset..offset + grid.steps].to_vec();
    }
    for vehicle in &mut problem.vehicles {
        vehicle.keep_kwh = scenario.fleet.keep_fraction * vehicle.session.capacity;
    }
    peaks(problem, scenario, grid);
    points::extend(problem, scenario, case);
    problem.areas = extras
        .areas
        .iter()
        .map(|area| NetworkArea {
            name: area.id.clone(),
            sites: area.sites.clone(),
            import_kw: (0..grid.steps)
                .map(|t| area.import.at(offset + t))
                .collect(),
            export_kw: (0..grid.steps)
                .map(|t| area.export.at(offset + t))
                .collect(),
        })
        .collect();
    problem.groups = extras
        .groups
        .iter()
        .map(|group| Group {
            name: group.name.clone(),
            vehicles: at_sites(case, &group.sites),
        })
        .collect();
    problem.dimmings = extras
        .dimmings
        .iter()
        .map(|record| dimming(record, scenario, case))
        .collect();
    // What the two reserves of [markets] come in; an area without a record sells any volume.
    for product in &mut problem.products {
        if let Some(holding) = Holdings::built_in().at(scenario.area, &product.name, grid.start) {
            let volumes = Product::of(holding, Vec::new());
            (product.minimum_mw, product.step_mw) = (volumes.minimum_mw, volumes.step_mw);
        }
    }
    for offer in &extras.products {
        problem.products.push(product(offer, scenario, grid)?);
    }
    let named = |name: &String| problem.products.iter().position(|p| p.name == *name);
    let groups = extras.exclusive.iter().map(|group| Exclusive {
        name: group.name.clone(),
        // A product without blocks in what is planned together is in no plan.
        products: group.products.iter().filter_map(named).collect(),
    });
    problem.exclusive = groups.collect();
    Ok(())
}

fn product(
    offer: &scenario::ProductOffer,
    scenario: &Scenario,
    grid: Grid,
) -> Result<Product, CliError> {
    let blocks: Vec<Block> = offer
        .price
        .blocks
        .iter()
        .filter_map(|b| {
            Some(Block {
                steps: grid.whole(b.start, b.end)?,
                price: b.price_per_mw(),
                most_mw: offer.qualified_mw,
                awarded_mw: 0.0,
                open: true,
            })
        })
        .collect();
    let holding = Holdings::built_in()
        .at(scenario.area, &offer.name, grid.start)
        .ok_or_else(|| {
            CliError::Input(format!(
                "{}: product {}: not bought in {} on {}",
                scenario.file.display(),
                offer.name,
                scenario.area.code(),
                grid.start.with_timezone(&scenario.zone()).date_naive()
            ))
        })?;
    Ok(Product::of(holding, blocks))
}

/// Peaks of the month before the period, where the plan begins in its first month.
fn peaks(problem: &mut Problem, scenario: &Scenario, grid: Grid) {
    if begins_in_first_month(scenario, grid) {
        for (site, known) in problem.sites.iter_mut().zip(&scenario.sites) {
            if let Some(charge) = site.demand.first_mut() {
                charge.to_date_kw = known.peak_to_date_kw;
            }
        }
    }
}

/// Whether what is planned together begins in the month in which the scenario does: only then are its peaks known.
pub(super) fn begins_in_first_month(scenario: &Scenario, grid: Grid) -> bool {
    let month = |at: DateTime<Utc>| {
        let local = at.with_timezone(&scenario.zone());
        (local.year(), local.month())
    };
    month(grid.start) == month(scenario.start)
}

/// Indices of the sessions at some sites.
fn at_sites(case: &Case, sites: &[usize]) -> Vec<usize> {
    let there = |v: &usize| case.sessions[*v].site.is_some_and(|s| sites.contains(&s));
    (0..case.sessions.len()).filter(there).collect()
}

/// What is left of the draw: to each charge point, or to all that the sessions know of at a site with an energy manager.
fn dimming(record: &scenario::Dimming, scenario: &Scenario, case: &Case) -> Dimming {
    let left = if record.energy_manager {
        let of_site = |site: &usize| Left {
            vehicles: at_sites(case, &[*site]),
            kw: behind_manager(
                charge_points(scenario, *site),
                Power::from_kw(record.device_kw),
            )
            .kw(),
        };
        record.sites.iter().map(of_site).collect()
    } else {
        let of_vehicle = |v: usize| Left {
            vehicles: vec![v],
            kw: record.device_kw,
        };
        at_sites(case, &record.sites)
            .into_iter()
            .map(of_vehicle)
            .collect()
    };
    Dimming {
        name: record.name.clone(),
        hours: record.longest_minutes / 60.0,
        left,
        holds_down: record.hold_down,
    }
}

/// Charge points of a site that any session of the scenario uses.
fn charge_points(scenario: &Scenario, site: usize) -> usize {
    let id = &scenario.sites[site].id;
    let here = scenario.fleet.sessions.iter().filter(|s| s.site_id == *id);
    let points: BTreeSet<&str> = here.map(|s| s.evse_id.as_str()).collect();
    points.len()
}
