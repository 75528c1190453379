//! Problems from what is already known: the reference problem, and products from the market's table.

use chrono::Datelike as _;
use market::{Holding, Need};
use rust_decimal::prelude::ToPrimitive as _;

use super::problem::{Block, DemandCharge, Elastic, Problem, Product, Site, Vehicle, Way};
use crate::case::Case;
use crate::reference::{self, Reserve};

/// The reference problem as the special case it is, its site limits elastic. One difference: under a site's limit the
/// power kept for energy management counts too, which R leaves out.
impl From<&reference::Problem> for Problem {
    fn from(r: &reference::Problem) -> Self {
        let limit = |kw: f64| kw.is_finite().then_some(kw);
        Self {
            step_hours: r.step_hours,
            import_price: r.import_price.clone(),
            export_price: r.export_price.clone(),
            carbon_price: Vec::new(),
            wear: r.wear,
            elastic: Elastic {
                energy_per_kwh: r.shortfall,
                ..Elastic::default()
            },
            vehicles: r
                .sessions
                .iter()
                .enumerate()
                .map(|(index, session)| Vehicle {
                    name: index.to_string(),
                    session: session.clone(),
                    keep_kwh: 0.0,
                    fixed_kw: Vec::new(),
                    rating_kva: None,
                })
                .collect(),
            sites: r
                .sites
                .iter()
                .enumerate()
                .map(|(index, site)| Site {
                    name: index.to_string(),
                    import_kw: limit(site.import_kw),
                    export_kw: limit(site.export_kw),
                    base_kw: site.base_kw.clone(),
                    demand: Vec::new(),
                    reactive: None,
                    refund: None,
                })
                .collect(),
            areas: Vec::new(),
            products: r.reserves.iter().enumerate().map(product).collect(),
            orders: Vec::new(),
            imbalance: None,
            groups: Vec::new(),
            dimmings: Vec::new(),
            exclusive: Vec::new(),
            headroom: r.headroom,
        }
    }
}

fn product((index, reserve): (usize, &Reserve)) -> Product {
    let way = Way {
        power: reserve.power_factor,
        delivered: 1.0 / reserve.power_factor,
        endurance_hours: reserve.endurance_hours,
    };
    Product {
        name: format!("reserve {index}"),
        up: reserve.direction.has_up().then_some(way),
        down: reserve.direction.has_down().then_some(way),
        minimum_mw: 0.0,
        step_mw: 0.0,
        blocks: reserve
            .blocks
            .iter()
            .map(|block| Block {
                steps: block.steps.clone(),
                price: block.price,
                most_mw: None,
                awarded_mw: 0.0,
                open: true,
            })
            .collect(),
    }
}

impl Product {
    /// The product that `holding` describes, with blocks on sale. Watts become MW and decimals kernel numbers here.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        reason = "a market's volumes are far below 2^53 watts"
    )]
    pub fn of(holding: &Holding, blocks: Vec<Block>) -> Self {
        Self {
            name: holding.name.clone(),
            up: holding.up.and_then(way),
            down: holding.down.and_then(way),
            minimum_mw: holding.minimum_watts as f64 / 1e6,
            step_mw: holding.step_watts as f64 / 1e6,
            blocks,
        }
    }
}

fn way(need: Need) -> Option<Way> {
    let power = (need.delivered + need.management).to_f64()?;
    Some(Way {
        power,
        delivered: need.delivered.to_f64()? / power,
        endurance_hours: f64::from(need.endurance_seconds) / 3600.0,
    })
}

impl Problem {
    /// What a case sells and must respect, everything in its period known: names, demand charges of each local month, and
    /// blocks as the case has them. Network areas, groups, further products and levels kept are the caller's to add.
    #[must_use]
    pub fn of(case: &Case, discharge: bool) -> Self {
        let mut problem = Self::from(&case.problem(discharge));
        for (vehicle, session) in problem.vehicles.iter_mut().zip(&case.sessions) {
            vehicle.name.clone_from(&session.stay.vehicle_id);
        }
        let months = months(case);
        for (site, known) in problem.sites.iter_mut().zip(&case.sites) {
            site.name.clone_from(&known.id);
            if case.costs.demand > 0.0 {
                site.demand = months
                    .iter()
                    .map(|steps| DemandCharge {
                        steps: steps.clone(),
                        per_kw: case.costs.demand,
                        to_date_kw: 0.0,
                        ratchet_kw: 0.0,
                    })
                    .collect();
            }
        }
        for (product, reserve) in problem.products.iter_mut().zip(&case.reserves) {
            reserve.product.name().clone_into(&mut product.name);
        }
        problem
    }
}

/// Steps of each local month of the period.
#[must_use]
pub fn months(case: &Case) -> Vec<Vec<usize>> {
    let month = |step: usize| {
        let local = case.grid.at(step).with_timezone(&case.area.zone());
        (local.year(), local.month())
    };
    let steps: Vec<usize> = (0..case.grid.steps).collect();
    steps
        .chunk_by(|a, b| month(*a) == month(*b))
        .map(<[usize]>::to_vec)
        .collect()
}
