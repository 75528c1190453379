//! Problems made from a seed: a pool over one local day with everything on sale at once.

use std::ops::Range;

use portfolio::reference::{Headroom, Session};
use portfolio::stack::{
    Block, DemandCharge, Elastic, NetworkArea, Problem, Product, Site, Vehicle, Way,
};

/// Numbers that look drawn, the same each time (Steele, Lea, Flood 2014).
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn within(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.unit() * end as f64) as usize % end
    }
}

/// What a problem is made of.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) vehicles: usize,
    /// Quarter hours of the day: 92, 96 or 100.
    pub(crate) steps: usize,
    pub(crate) headroom: Headroom,
    /// Factor on every power and energy of a vehicle: a group of like cars that moves as one.
    pub(crate) size: f64,
}

/// Quarter hours of the day a seed plays on: one in five is a spring, one in five an autumn clock change.
pub(crate) fn day(seed: u64) -> usize {
    match seed % 5 {
        0 => 92,
        1 => 100,
        _ => 96,
    }
}

/// Blocks of `hours` wall-clock hours; the clock changes within the first four hours of the day.
pub(crate) fn blocks(steps: usize, hours: usize) -> Vec<Range<usize>> {
    let local = |hour: usize| match steps {
        92 if hour > 2 => hour - 1,
        100 if hour > 2 => hour + 1,
        _ => hour,
    };
    (0..24 / hours)
        .map(|b| (4 * local(b * hours))..(4 * local((b + 1) * hours)).min(steps))
        .filter(|steps| steps.start < steps.end)
        .collect()
}

const fn way(power: f64, delivered: f64, endurance_hours: f64) -> Option<Way> {
    Some(Way {
        power,
        delivered,
        endurance_hours,
    })
}

fn product(
    draw: &mut Draw,
    name: &str,
    (up, down): (Option<Way>, Option<Way>),
    blocks: Vec<Range<usize>>,
    per_mw_hour: f64,
) -> Product {
    let block = |steps: Range<usize>| Block {
        price: per_mw_hour * steps.len() as f64 / 4.0 * draw.within(0.3, 2.0),
        steps,
        most_mw: None,
        awarded_mw: 0.0,
        open: true,
    };
    Product {
        name: name.to_owned(),
        up,
        down,
        minimum_mw: 0.0,
        step_mw: 0.0,
        blocks: blocks.into_iter().map(block).collect(),
    }
}

fn prices(draw: &mut Draw, steps: usize) -> Vec<f64> {
    let sunny = draw.unit() < 0.5;
    let mut prices = Vec::new();
    let mut hour_price = 0.0;
    for t in 0..steps {
        if t % 4 == 0 {
            let shape = match t / 4 {
                0..6 => 50.0,
                6..10 => 110.0,
                10..16 if sunny => -40.0,
                10..16 => 40.0,
                16..21 => 140.0,
                _ => 75.0,
            };
            hour_price = shape + draw.within(-25.0, 25.0);
        }
        prices.push(hour_price + draw.within(-6.0, 6.0));
    }
    prices
}

/// The stay of a car: at home overnight (from midnight on, or until it), or at work by day.
fn session(draw: &mut Draw, kind: Kind, site: usize) -> Session {
    let steps = kind.steps as f64;
    let (from, to) = match draw.below(3) {
        0 => (0.0, draw.within(20.0, 36.0)),
        1 => (draw.within(26.0, 40.0), draw.within(60.0, 76.0)),
        _ => (draw.within(64.0, 80.0), steps),
    };
    let first = from as usize;
    let last = to.ceil() as usize;
    let share = (first..last)
        .map(|t| ((t as f64 + 1.0).min(to) - (t as f64).max(from)).clamp(0.0, 1.0))
        .collect::<Vec<f64>>();
    let capacity = draw.within(40.0, 80.0) * kind.size;
    let arrival = capacity * draw.within(0.15, 0.7);
    let charge_kw = if draw.unit() < 0.7 { 11.0 } else { 22.0 } * kind.size;
    let discharge_kw = if draw.unit() < 0.6 { charge_kw } else { 0.0 };
    let floor = (0.1 * capacity).min(arrival);
    let reach = arrival + 0.94 * charge_kw * share.iter().sum::<f64>() / 4.0;
    Session {
        site: Some(site),
        first,
        share,
        capacity,
        arrival,
        floor,
        goal: (capacity * draw.within(0.6, 0.95)).min(reach).max(floor),
        charge_kw,
        discharge_kw,
        charge_efficiency: 0.94,
        discharge_efficiency: 0.94,
    }
}

/// Day-ahead energy, FCR of limited energy, aFRR both ways, FCR-D up, demand charges and the limits of two areas.
pub(crate) fn problem(seed: u64, kind: Kind) -> Problem {
    let mut draw = Draw(seed.wrapping_mul(0x51_7C_C1_B7).wrapping_add(17));
    let steps = kind.steps;
    let day_ahead = prices(&mut draw, steps);
    let count = (kind.vehicles / 20).max(2);
    let vehicles: Vec<Vehicle> = (0..kind.vehicles)
        .map(|index| Vehicle {
            name: index.to_string(),
            session: session(&mut draw, kind, index % count),
            keep_kwh: 0.0,
            fixed_kw: Vec::new(),
            rating_kva: None,
        })
        .collect();
    let power_at = |site: usize| -> f64 {
        let here = vehicles.iter().filter(|v| v.session.site == Some(site));
        here.map(|v| v.session.charge_kw).sum()
    };
    let sites: Vec<Site> = (0..count)
        .map(|site| {
            let power = power_at(site);
            Site {
                name: format!("site-{site}"),
                import_kw: Some(0.45 * power),
                export_kw: Some(0.3 * power),
                base_kw: (0..steps).map(|_| power * draw.within(0.0, 0.1)).collect(),
                demand: vec![DemandCharge {
                    steps: (36..steps.min(88)).collect(),
                    per_kw: draw.within(0.05, 0.4),
                    to_date_kw: 0.1 * power,
                    ratchet_kw: 0.0,
                }],
                reactive: None,
                refund: None,
            }
        })
        .collect();
    let areas = (0..2)
        .map(|area| {
            let sites: Vec<usize> = (0..count).filter(|site| site % 2 == area).collect();
            let power: f64 = sites.iter().map(|site| power_at(*site)).sum();
            let tight = |t: usize| if (64..84).contains(&t) { 0.2 } else { 0.4 };
            NetworkArea {
                name: format!("area-{area}"),
                sites,
                import_kw: (0..steps).map(|t| Some(tight(t) * power)).collect(),
                export_kw: vec![Some(0.25 * power); steps],
            }
        })
        .collect();
    let lasting = way(1.25, 0.8, 0.5);
    let products = vec![
        product(&mut draw, "fcr", (lasting, lasting), blocks(steps, 4), 15.0),
        product(
            &mut draw,
            "afrr_up",
            (way(1.0, 1.0, 1.0), None),
            blocks(steps, 4),
            9.0,
        ),
        product(
            &mut draw,
            "afrr_down",
            (None, way(1.0, 1.0, 1.0)),
            blocks(steps, 4),
            7.0,
        ),
        product(
            &mut draw,
            "fcr_d_up",
            (way(1.0, 1.0, 1.0 / 3.0), way(0.2, 0.0, 0.0)),
            blocks(steps, 1),
            12.0,
        ),
    ];
    Problem {
        step_hours: 0.25,
        import_price: day_ahead.iter().map(|p| p + 5.0).collect(),
        export_price: day_ahead.iter().map(|p| p - 2.0).collect(),
        carbon_price: Vec::new(),
        wear: 30.0,
        elastic: Elastic::default(),
        vehicles,
        sites,
        areas,
        products,
        orders: Vec::new(),
        imbalance: None,
        groups: Vec::new(),
        dimmings: Vec::new(),
        exclusive: Vec::new(),
        headroom: kind.headroom,
    }
}
