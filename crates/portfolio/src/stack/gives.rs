//! What gives way in a schedule, from the schedule alone: whose it is, by how much, at what price.

use super::dimming::{self, Place, recovery};
use super::money::{SiteLoad, activations, kept_for_certain, site_loads};
use super::problem::{Owner, Problem, Relaxation, Relaxed, Schedule, VehicleSchedule};
use super::reactive;
use super::vehicle::keep_levels;

/// Excess up to which nothing is said to be relaxed, kW or kWh: a watt, a watt-hour.
const SAID: f64 = 1e-3;

/// One row that gives way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gives {
    pub(super) owner: Owner,
    pub(super) what: Relaxed,
    pub(super) step: usize,
    pub(super) amount: f64,
    pub(super) price: f64,
}

/// How far a vehicle's schedule misses the level kept for emergencies, kWh, activations included.
fn kept_short(problem: &Problem, index: usize, done: &VehicleSchedule) -> f64 {
    let vehicle = &problem.vehicles[index];
    if vehicle.keep_kwh <= vehicle.session.floor {
        return 0.0;
    }
    let keep = keep_levels(problem, vehicle);
    let mut short = keep
        .iter()
        .zip(&done.energy_kwh)
        .map(|(level, energy)| level - energy)
        .fold(0.0, f64::max);
    activations(problem, index, done, |boundary, _, drain, _| {
        short = short.max(keep[boundary] - done.energy_kwh[boundary] + drain);
    });
    short
}

/// Everything that gives way, however little.
pub(super) fn gives(problem: &Problem, schedule: &Schedule) -> Vec<Gives> {
    let loads = site_loads(problem, schedule);
    let mut all = reactive::gives(problem, schedule, &loads);
    vehicles_give(problem, schedule, &mut all);
    limits_give(problem, &loads, &mut all);
    recovery_gives(problem, schedule, &mut all);
    awards_give(problem, schedule, &mut all);
    all
}

/// Notes a row that gives way by more than nothing.
pub(super) fn push(
    all: &mut Vec<Gives>,
    (owner, what, step): (Owner, Relaxed, usize),
    amount: f64,
    price: f64,
) {
    if amount > 0.0 {
        all.push(Gives {
            owner,
            what,
            step,
            amount,
            price,
        });
    }
}

/// Departures, levels kept and goals after a dimming.
fn vehicles_give(problem: &Problem, schedule: &Schedule, all: &mut Vec<Gives>) {
    let elastic = &problem.elastic;
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        let session = &vehicle.session;
        let last = done.energy_kwh.last().copied().unwrap_or(session.arrival);
        let kept = kept_short(problem, index, done);
        let dimmed = dimming::short(problem, index, done);
        for (what, step, amount, price) in [
            (
                Relaxed::Departure,
                session.steps().end,
                session.goal - last,
                elastic.energy_per_kwh,
            ),
            (Relaxed::Kept, session.first, kept, elastic.energy_per_kwh),
            (
                Relaxed::Dimmed,
                session.first + dimmed.map_or(0, |(begin, _)| begin),
                dimmed.map_or(0.0, |(_, short)| short),
                elastic.dimming_per_kwh,
            ),
        ] {
            let owner = Owner::Vehicle(index);
            push(all, (owner, what, step), amount, price);
        }
    }
}

/// Import and export limits of sites and areas.
fn limits_give(problem: &Problem, loads: &[SiteLoad], all: &mut Vec<Gives>) {
    let elastic = &problem.elastic;
    let mut place = |owner, sites: &[usize], limits: [Option<f64>; 2], step, per_kwh: f64| {
        let sum = |part: &dyn Fn(&SiteLoad) -> f64| {
            let of = |site: &usize| part(&loads[*site]);
            sites.iter().map(of).sum::<f64>()
        };
        let draw = || sum(&|load| load.net[step] + load.down[step]);
        let feed = || sum(&|load| load.up[step] - load.net[step]);
        let price = per_kwh * problem.step_hours;
        for (what, amount) in [
            (Relaxed::Import, limits[0].map(|limit| draw() - limit)),
            (Relaxed::Export, limits[1].map(|limit| feed() - limit)),
        ] {
            let amount = amount.unwrap_or(0.0);
            push(all, (owner, what, step), amount, price);
        }
    };
    for step in 0..problem.import_price.len() {
        for (index, site) in problem.sites.iter().enumerate() {
            let limits = [site.import_kw, site.export_kw];
            place(
                Owner::Site(index),
                &[index],
                limits,
                step,
                elastic.site_per_kwh,
            );
        }
        for (index, area) in problem.areas.iter().enumerate() {
            let limits = [&area.import_kw, &area.export_kw];
            let limits = limits.map(|series| series.get(step).copied().flatten());
            place(
                Owner::Area(index),
                &area.sites,
                limits,
                step,
                elastic.area_per_kwh,
            );
        }
    }
}

/// Import limits after a dimming.
fn recovery_gives(problem: &Problem, schedule: &Schedule, all: &mut Vec<Gives>) {
    for dimming in 0..problem.dimmings.len() {
        for place in Place::all(problem) {
            let owner = match place {
                Place::Site(index) => Owner::Site(index),
                Place::Area(index) => Owner::Area(index),
            };
            let load = recovery(problem, dimming, place, schedule);
            for (step, load) in load.into_iter().enumerate() {
                let amount = load.map_or(0.0, |(after, room)| after - room);
                let (what, price) = (Relaxed::ImportAfter, place.price(problem));
                push(all, (owner, what, step), amount, price);
            }
        }
    }
}

/// Awards that are not held.
fn awards_give(problem: &Problem, schedule: &Schedule, all: &mut Vec<Gives>) {
    let price = problem.elastic.award_per_kw_hour * problem.step_hours;
    for (index, product) in problem.products.iter().enumerate() {
        let (up, down) = kept_for_certain(problem, schedule, index);
        let sold = product.blocks.iter().zip(&schedule.sold_mw[index]);
        for (block, sold) in sold.filter(|(block, _)| block.awarded_mw > 0.0) {
            let owed = 1000.0 * (block.awarded_mw + sold);
            for step in block.steps.clone() {
                for (what, way, held) in [
                    (Relaxed::AwardUp, product.up, &up),
                    (Relaxed::AwardDown, product.down, &down),
                ] {
                    let owner = Owner::Product(index);
                    let amount = way.map_or(0.0, |way| way.power * owed - held[step]);
                    push(all, (owner, what, step), amount, price);
                }
            }
        }
    }
}

/// What gives way by more than a watt or a watt-hour, dearest first, neighbouring steps of one limit together.
pub(super) fn relaxed(problem: &Problem, schedule: &Schedule) -> Vec<Relaxation> {
    let mut said: Vec<(Relaxation, usize)> = Vec::new();
    for give in gives(problem, schedule)
        .into_iter()
        .filter(|g| g.amount > SAID)
    {
        let cost = give.amount * give.price;
        let last = said
            .iter_mut()
            .rev()
            .find(|(r, _)| r.owner == give.owner && r.what == give.what);
        match last {
            Some((known, last)) if *last + 1 == give.step => {
                known.amount = known.amount.max(give.amount);
                known.price += give.price;
                known.cost += cost;
                *last = give.step;
            }
            _ => said.push((
                Relaxation {
                    owner: give.owner,
                    what: give.what,
                    step: give.step,
                    amount: give.amount,
                    price: give.price,
                    cost,
                    sentence: String::new(),
                },
                give.step,
            )),
        }
    }
    let mut said: Vec<Relaxation> = said
        .into_iter()
        .map(|(relaxation, last)| Relaxation {
            sentence: sentence(problem, &relaxation, last),
            ..relaxation
        })
        .collect();
    said.sort_by(|a, b| b.cost.total_cmp(&a.cost));
    said
}

fn sentence(problem: &Problem, r: &Relaxation, last: usize) -> String {
    let when = if last > r.step {
        format!("in steps {} to {last}", r.step)
    } else {
        format!("in step {}", r.step)
    };
    let (name, amount) = (owner_name(problem, r.owner), r.amount);
    match r.what {
        Relaxed::Departure => format!("{name} leaves {amount:.2} kWh short at step {}", r.step),
        Relaxed::Kept => {
            format!("{name} falls {amount:.2} kWh below the level kept for emergencies")
        }
        Relaxed::Dimmed => {
            let by = match r.owner {
                Owner::Vehicle(v) => dimming::exposed(problem, v).map(|e| e.dimming),
                Owner::Site(_) | Owner::Area(_) | Owner::Product(_) => None,
            };
            let by = by.map_or("", |d| problem.dimmings[d].name.as_str());
            format!(
                "{name} would leave {amount:.2} kWh short after a dimming of {by} that begins {when}"
            )
        }
        Relaxed::Import => format!("{name} draws up to {amount:.2} kW above its limit {when}"),
        Relaxed::ImportAfter => {
            format!(
                "{name} would draw up to {amount:.2} kW above its limit {when}, after a dimming"
            )
        }
        Relaxed::Export => format!("{name} feeds back up to {amount:.2} kW above its limit {when}"),
        Relaxed::Rating => format!("{name} carries up to {amount:.2} kVA above its rating {when}"),
        Relaxed::ReactiveLow => {
            format!("{name} draws up to {amount:.2} kvar less than it should {when}")
        }
        Relaxed::ReactiveHigh => {
            format!("{name} draws up to {amount:.2} kvar more than it should {when}")
        }
        Relaxed::AwardUp => {
            format!("up to {amount:.2} kW of the Up power awarded for {name} are not held {when}")
        }
        Relaxed::AwardDown => {
            format!("up to {amount:.2} kW of the Down power awarded for {name} are not held {when}")
        }
    }
}

/// Name of an owner as a sentence has it.
#[must_use]
pub fn owner_name(problem: &Problem, owner: Owner) -> String {
    match owner {
        Owner::Vehicle(index) => format!("vehicle {}", problem.vehicles[index].name),
        Owner::Site(index) => format!("site {}", problem.sites[index].name),
        Owner::Area(index) => format!("area {}", problem.areas[index].name),
        Owner::Product(index) => problem.products[index].name.clone(),
    }
}
