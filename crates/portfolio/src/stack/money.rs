//! What a schedule costs and what gives way in it, from the schedule alone.

use super::dimming::{self, Place, recovery};
use super::problem::{Owner, Problem, Relaxation, Relaxed, Schedule, VehicleSchedule, Way};
use super::vehicle::keep_levels;
use super::{reactive, refund};
use crate::reference::Headroom;

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

/// Power of the sites in each step with nothing activated, all Up and all Down activated.
#[derive(Debug, Clone)]
pub(super) struct SiteLoad {
    pub(super) net: Vec<f64>,
    pub(super) up: Vec<f64>,
    pub(super) down: Vec<f64>,
}

/// Load of each site, base load included, kW.
pub(super) fn site_loads(problem: &Problem, schedule: &Schedule) -> Vec<SiteLoad> {
    let steps = problem.import_price.len();
    let mut loads: Vec<SiteLoad> = problem
        .sites
        .iter()
        .map(|site| SiteLoad {
            net: (0..steps).map(|step| site.base(step)).collect(),
            up: vec![0.0; steps],
            down: vec![0.0; steps],
        })
        .collect();
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        let Some(load) = vehicle.session.site.and_then(|site| loads.get_mut(site)) else {
            continue;
        };
        for (j, step) in vehicle.session.steps().enumerate() {
            load.net[step] += done.charge_kw[j] - done.discharge_kw[j];
            load.up[step] += done.held.iter().map(|held| held.up_kw[j]).sum::<f64>();
            load.down[step] += done.held.iter().map(|held| held.down_kw[j]).sum::<f64>();
        }
    }
    loads
}

/// Power kept of a product in each step, kW: Up and Down, without the vehicles of `group`.
pub(super) fn kept(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
    group: Option<usize>,
) -> (Vec<f64>, Vec<f64>) {
    let steps = problem.import_price.len();
    let (mut up, mut down) = (vec![0.0; steps], vec![0.0; steps]);
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        if group.is_some_and(|g| problem.groups[g].vehicles.contains(&index)) {
            continue;
        }
        for (j, step) in vehicle.session.steps().enumerate() {
            up[step] += done.held[product].up_kw[j];
            down[step] += done.held[product].down_kw[j];
        }
    }
    (up, down)
}

/// The least that is kept of a product in each step, whatever one group is lost and whatever is dimmed.
pub(super) fn kept_for_certain(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
) -> (Vec<f64>, Vec<f64>) {
    let mut least = kept(problem, schedule, product, None);
    for group in 0..problem.groups.len() {
        let other = kept(problem, schedule, product, Some(group));
        for (mine, theirs) in [(&mut least.0, other.0), (&mut least.1, other.1)] {
            for (m, t) in mine.iter_mut().zip(theirs) {
                *m = m.min(t);
            }
        }
    }
    for (d, dimming) in problem.dimmings.iter().enumerate() {
        if dimming.holds_down {
            for (m, t) in least
                .1
                .iter_mut()
                .zip(while_dimmed(problem, schedule, product, d))
            {
                *m = m.min(t);
            }
        }
    }
    least
}

/// Down power kept of a product in each step while the vehicles of a dimming are dimmed, kW.
fn while_dimmed(
    problem: &Problem,
    schedule: &Schedule,
    product: usize,
    dimming: usize,
) -> Vec<f64> {
    let mut down = vec![0.0; problem.import_price.len()];
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        let mine = dimming::exposed(problem, index).is_some_and(|e| e.dimming == dimming);
        let made = done.dimmed.as_ref().filter(|_| mine);
        for (j, step) in vehicle.session.steps().enumerate() {
            down[step] += made.map_or(done.held[product].down_kw[j], |made| {
                made.down_kw[product][j]
            });
        }
    }
    down
}

/// What full activation of a product in the stay's step `j` takes from and adds to the battery, kW there.
fn flow(
    problem: &Problem,
    vehicle: usize,
    done: &VehicleSchedule,
    product: usize,
    j: usize,
) -> (f64, f64) {
    let session = &problem.vehicles[vehicle].session;
    let held = &done.held[product];
    let drain = session.charge_efficiency * held.up_charge_kw[j]
        + held.up_discharge_kw[j] / session.discharge_efficiency;
    let share = problem.products[product]
        .down
        .map_or(0.0, |way| way.delivered);
    (
        drain,
        share * held.down_kw[j] / session.discharge_efficiency,
    )
}

/// Every case of activation a vehicle must carry: boundary, kWh drained and kWh filled by then.
pub(super) fn activations(
    problem: &Problem,
    vehicle: usize,
    done: &VehicleSchedule,
    mut case: impl FnMut(usize, &[(usize, usize, f64)], f64, f64),
) {
    let steps = problem.vehicles[vehicle].session.share.len();
    let hours = problem.step_hours;
    let ends: Vec<(usize, Option<usize>)> = match problem.headroom {
        Headroom::Snapshot => (0..steps)
            .flat_map(|j| [(j, None), (j + 1, None)])
            .collect(),
        Headroom::Window { recovery_steps } => (1..=steps)
            .flat_map(|t| {
                (t.saturating_sub(recovery_steps).max(1)..=t).map(move |end| (t, Some(end)))
            })
            .collect(),
    };
    let mut parts = Vec::new();
    for (index, (boundary, end)) in ends.into_iter().enumerate() {
        parts.clear();
        let (mut drain, mut fill) = (0.0, 0.0);
        for (product, record) in problem.products.iter().enumerate() {
            for (is_up, way) in [(true, record.up), (false, record.down)] {
                let Some(way) = way else { continue };
                let (range, weight) = match end {
                    None => (index / 2..index / 2 + 1, way.endurance_hours),
                    Some(end) => (window(way, end, hours), hours),
                };
                for j in range {
                    let (out, back) = flow(problem, vehicle, done, product, j);
                    let flow = if is_up { out } else { back };
                    if flow > 0.0 {
                        parts.push((product, j, flow * weight));
                        if is_up {
                            drain += flow * weight;
                        } else {
                            fill += flow * weight;
                        }
                    }
                }
            }
        }
        if drain > 0.0 || fill > 0.0 {
            case(boundary, &parts, drain, fill);
        }
    }
}

fn window(way: Way, end: usize, hours: f64) -> std::ops::Range<usize> {
    if way.endurance_hours > 0.0 {
        end.saturating_sub(way.window_steps(hours))..end
    } else {
        end..end
    }
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
    let elastic = &problem.elastic;
    let mut push = |owner, what, step, amount: f64, price| {
        if amount > 0.0 {
            all.push(Gives {
                owner,
                what,
                step,
                amount,
                price,
            });
        }
    };
    for (index, (vehicle, done)) in problem.vehicles.iter().zip(&schedule.vehicles).enumerate() {
        let session = &vehicle.session;
        let last = done.energy_kwh.last().copied().unwrap_or(session.arrival);
        let owner = Owner::Vehicle(index);
        let end = session.steps().end;
        push(
            owner,
            Relaxed::Departure,
            end,
            session.goal - last,
            elastic.energy_per_kwh,
        );
        push(
            owner,
            Relaxed::Kept,
            session.first,
            kept_short(problem, index, done),
            elastic.energy_per_kwh,
        );
        if let Some((begin, short)) = dimming::short(problem, index, done) {
            push(
                owner,
                Relaxed::Dimmed,
                session.first + begin,
                short,
                elastic.dimming_per_kwh,
            );
        }
    }
    let steps = problem.import_price.len();
    for (index, (site, load)) in problem.sites.iter().zip(&loads).enumerate() {
        let price = elastic.site_per_kwh * problem.step_hours;
        for step in 0..steps {
            if let Some(limit) = site.import_kw {
                let over = load.net[step] + load.down[step] - limit;
                push(Owner::Site(index), Relaxed::Import, step, over, price);
            }
            if let Some(limit) = site.export_kw {
                let over = load.up[step] - load.net[step] - limit;
                push(Owner::Site(index), Relaxed::Export, step, over, price);
            }
        }
    }
    for (index, area) in problem.areas.iter().enumerate() {
        let price = elastic.area_per_kwh * problem.step_hours;
        for step in 0..steps {
            let sum = |part: &dyn Fn(&SiteLoad) -> f64| {
                area.sites.iter().map(|s| part(&loads[*s])).sum::<f64>()
            };
            if let Some(limit) = area.import_kw.get(step).copied().flatten() {
                let over = sum(&|load| load.net[step] + load.down[step]) - limit;
                push(Owner::Area(index), Relaxed::Import, step, over, price);
            }
            if let Some(limit) = area.export_kw.get(step).copied().flatten() {
                let over = sum(&|load| load.up[step] - load.net[step]) - limit;
                push(Owner::Area(index), Relaxed::Export, step, over, price);
            }
        }
    }
    for dimming in 0..problem.dimmings.len() {
        for place in Place::all(problem) {
            let owner = match place {
                Place::Site(index) => Owner::Site(index),
                Place::Area(index) => Owner::Area(index),
            };
            let load = recovery(problem, dimming, place, schedule);
            for (step, load) in load.into_iter().enumerate() {
                if let Some((after, room)) = load {
                    let price = place.price(problem);
                    push(owner, Relaxed::ImportAfter, step, after - room, price);
                }
            }
        }
    }
    for (index, product) in problem.products.iter().enumerate() {
        let price = elastic.award_per_kw_hour * problem.step_hours;
        let (up, down) = kept_for_certain(problem, schedule, index);
        for (block, sold) in product.blocks.iter().zip(&schedule.sold_mw[index]) {
            let owed = 1000.0 * (block.awarded_mw + sold);
            for step in block.steps.clone().filter(|_| block.awarded_mw > 0.0) {
                if let Some(way) = product.up {
                    push(
                        Owner::Product(index),
                        Relaxed::AwardUp,
                        step,
                        way.power * owed - up[step],
                        price,
                    );
                }
                if let Some(way) = product.down {
                    push(
                        Owner::Product(index),
                        Relaxed::AwardDown,
                        step,
                        way.power * owed - down[step],
                        price,
                    );
                }
            }
        }
    }
    all
}

/// The objective: money of energy, wear, carbon, peaks and capacity, and the price of everything that gives way.
#[must_use]
pub fn objective(problem: &Problem, schedule: &Schedule) -> f64 {
    let elastic: f64 = gives(problem, schedule)
        .iter()
        .map(|g| g.amount * g.price)
        .sum();
    net_cost(problem, schedule) + elastic
}

/// Money of a schedule, without the prices of what gives way.
#[must_use]
pub fn net_cost(problem: &Problem, schedule: &Schedule) -> f64 {
    let mwh = problem.step_hours / 1000.0;
    let mut total = 0.0;
    let mut load = vec![0.0; problem.import_price.len()];
    for (vehicle, done) in problem.vehicles.iter().zip(&schedule.vehicles) {
        for ((step, c), d) in vehicle
            .session
            .steps()
            .zip(&done.charge_kw)
            .zip(&done.discharge_kw)
        {
            let carbon = problem.carbon_price.get(step).copied().unwrap_or(0.0);
            total += mwh
                * (problem.import_price[step] * c - problem.export_price[step] * d
                    + carbon * (c - d)
                    + problem.wear * d);
            load[step] += c - d;
        }
    }
    for (product, sold) in problem.products.iter().zip(&schedule.sold_mw) {
        for (block, sold) in product.blocks.iter().zip(sold) {
            total -= block.price * (block.awarded_mw + sold);
        }
    }
    for (site, load) in problem.sites.iter().zip(site_loads(problem, schedule)) {
        for charge in &site.demand {
            let floor = charge.to_date_kw.max(charge.ratchet_kw).max(0.0);
            let peak = charge
                .steps
                .iter()
                .map(|step| load.net[*step])
                .fold(floor, f64::max);
            total += charge.per_kw * peak;
        }
    }
    total += reactive::peak_cost(problem, schedule) - refund::earned(problem, schedule);
    if let Some(imbalance) = &problem.imbalance {
        for (order, more) in problem.orders.iter().zip(&schedule.ordered_kw) {
            for step in order.steps.clone() {
                total += mwh * (order.price * more + order.half_spread * more.abs());
                load[step] -= order.held_kw + more;
            }
        }
        for (step, open) in load.iter().enumerate() {
            let price = if *open > 0.0 {
                imbalance.short[step]
            } else {
                imbalance.long[step]
            };
            total += mwh * price * open;
        }
    }
    total
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
