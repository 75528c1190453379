//! From numbers to a plan that an operator can read.

use fleet::schedule::{Schedule, Step};
use market::plan::{Held, Plan, PlanStatus, PlanStep};
use market::{PlanId, Product};
use rust_decimal::Decimal;
use units::{Interval, Money, Power};

use super::reserve::{self, Way};
use super::{Input, Made, Shortage, Solved};

/// Closeness at which a limit counts as binding, kW or kWh.
const BINDS: f64 = 1e-3;

/// Reserve missing below this is rounding, kW.
const SHORT_LEAST_KW: f64 = 0.5;

pub(super) fn made(input: &Input<'_>, solved: &Solved) -> Made {
    let grid = input.grid;
    let pool_kw = pool(input, solved);
    let shortages = shortages(input, solved);
    let steps = (0..grid.len())
        .filter_map(|step| plan_step(input, solved, &pool_kw, &shortages, step))
        .collect();
    let plan = Plan {
        id: PlanId::derive(input.area.code(), grid.now()),
        area: input.area,
        solved_at: grid.now(),
        data_until: input.data_until,
        status: PlanStatus::Feasible,
        relative_gap: None,
        expected: expected(input, &pool_kw),
        steps,
    };
    Made {
        plan,
        schedules: schedules(input, solved),
        short_kw: shortages.iter().map(|s| s.kw).fold(0.0, f64::max),
        shortages,
        pool_kw,
    }
}

/// Power of the pool per step, kW.
fn pool(input: &Input<'_>, solved: &Solved) -> Vec<f64> {
    let plain: f64 = input.plain.iter().map(|p| p.expected_kw).sum();
    let mut pool = vec![plain; input.grid.len()];
    for (vehicle, lane) in input.vehicles.iter().zip(&solved.lanes) {
        for (j, kw) in lane.net.iter().enumerate() {
            pool[vehicle.first + j] += kw;
        }
    }
    pool
}

fn shortages(input: &Input<'_>, solved: &Solved) -> Vec<Shortage> {
    let mut found = Vec::new();
    for (k, call) in solved.calls.iter().enumerate() {
        for step in 0..input.grid.len() {
            let missing = |has: bool, way| {
                if has {
                    call.sold[step] - reserve::held(input.vehicles, &solved.lanes, k, way, step)
                } else {
                    0.0
                }
            };
            let kw = missing(call.up, Way::Up).max(missing(call.down, Way::Down));
            if kw > SHORT_LEAST_KW {
                found.push(Shortage {
                    product: call.product,
                    step,
                    kw,
                });
            }
        }
    }
    found
}

fn plan_step(
    input: &Input<'_>,
    solved: &Solved,
    pool: &[f64],
    shortages: &[Shortage],
    step: usize,
) -> Option<PlanStep> {
    let interval = Interval::try_new(input.grid.at(step), input.grid.at(step + 1)).ok()?;
    let held: Vec<Held> = solved
        .calls
        .iter()
        .filter(|call| call.sold[step] > 0.0)
        .map(|call| {
            let short = shortages
                .iter()
                .find(|s| s.product == call.product && s.step == step)
                .map_or(0.0, |s| s.kw);
            Held {
                product: call.product,
                volume: Power::from_kw((call.sold[step] - short).max(0.0)),
            }
        })
        .collect();
    let (low, high) = reach(input, solved, step);
    let baseline = Power::from_kw(pool[step]);
    let reason = reason(input, solved, pool, shortages, step);
    Some(PlanStep {
        interval,
        baseline,
        low: Power::from_kw(low).min(baseline),
        high: Power::from_kw(high).max(baseline),
        held,
        reason,
    })
}

/// Lowest and highest power of the pool in `step` that leave every vehicle on its way and every site within its limits, kW.
fn reach(input: &Input<'_>, solved: &Solved, step: usize) -> (f64, f64) {
    let hours = input.grid.hours(step);
    let mut low = vec![0.0; input.sites.len()];
    let mut high = vec![0.0; input.sites.len()];
    let mut add = |site: usize, from: f64, to: f64| {
        if let (Some(l), Some(h)) = (low.get_mut(site), high.get_mut(site)) {
            *l += from;
            *h += to;
        }
    };
    for ((vehicle, lane), envelope) in input
        .vehicles
        .iter()
        .zip(&solved.lanes)
        .zip(&solved.envelopes)
    {
        let Some(j) = step
            .checked_sub(vehicle.first)
            .filter(|j| *j < vehicle.len())
        else {
            continue;
        };
        let (e, f) = (lane.energy[j], vehicle.share[j]);
        let full = (vehicle.capacity - e).max(0.0) / (vehicle.charge_efficiency * hours);
        let to = (vehicle.charge_kw * f).min(full).max(lane.net[j]);
        let spare = e - envelope.floor[j + 1];
        let from = if spare >= 0.0 {
            -(vehicle.discharge_kw * f).min(spare * vehicle.discharge_efficiency / hours)
        } else {
            -spare / (vehicle.charge_efficiency * hours)
        };
        add(vehicle.site, from.min(lane.net[j]), to);
    }
    for plain in input.plain {
        add(plain.site, plain.expected_kw, plain.expected_kw);
    }
    let mut total = (0.0, 0.0);
    for (s, site) in input.sites.iter().enumerate() {
        total.0 += low[s].max(-site.export_kw);
        total.1 += high[s].min(site.import_kw).max(low[s].max(-site.export_kw));
    }
    total
}

/// What limits a step and at which price; empty if nothing does.
fn reason(
    input: &Input<'_>,
    solved: &Solved,
    pool: &[f64],
    shortages: &[Shortage],
    step: usize,
) -> String {
    let mut words = Vec::new();
    words.extend(departures(input, solved, step));
    for call in solved.calls.iter().filter(|c| c.sold[step] > 0.0) {
        let name = name(call.product);
        let mw = call.sold[step] / 1e3;
        let short = shortages
            .iter()
            .find(|s| s.product == call.product && s.step == step);
        let tight = tight(input, solved, step);
        words.push(match short {
            Some(short) => format!(
                "{mw:.1} MW {name} is more than the pool holds, {:.0} kW short",
                short.kw
            ),
            None if tight > 0 => format!("holding {mw:.1} MW {name} binds at {tight} vehicles"),
            None => format!("holding {mw:.1} MW {name}"),
        });
    }
    words.extend(sites(input, solved, step));
    if let Some(position) = input.market.position_kw[step] {
        let off = pool[step] - position;
        if off.abs() > 50.0 {
            let way = if off > 0.0 { "over" } else { "under" };
            words.push(format!("{:.0} kW {way} the day-ahead position", off.abs()));
        }
    }
    words.extend(price(input, step));
    words.join("; ")
}

pub(super) const fn name(product: Product) -> &'static str {
    match product {
        Product::DayAhead => "day-ahead",
        Product::Fcr => "FCR",
        Product::AfrrUp => "aFRR up",
        Product::AfrrDown => "aFRR down",
    }
}

/// Vehicles that must charge now to leave in time.
fn departures(input: &Input<'_>, solved: &Solved, step: usize) -> Option<String> {
    let mut count = 0_usize;
    let mut first = None;
    for ((vehicle, lane), envelope) in input
        .vehicles
        .iter()
        .zip(&solved.lanes)
        .zip(&solved.envelopes)
    {
        let Some(j) = step
            .checked_sub(vehicle.first)
            .filter(|j| *j < vehicle.len())
        else {
            continue;
        };
        let (Some(leaves), true) = (vehicle.leaves, lane.net[j] > BINDS) else {
            continue;
        };
        if envelope.floor[j + 1] > vehicle.floor
            && lane.energy[j + 1] <= envelope.floor[j + 1] + BINDS
        {
            count += 1;
            first = Some(first.map_or(leaves, |f: chrono::DateTime<chrono::Utc>| f.min(leaves)));
        }
    }
    let at = first?.with_timezone(&input.area.zone());
    let noun = if count == 1 { "vehicle" } else { "vehicles" };
    Some(format!(
        "departure of {count} {noun} from {} binds",
        at.format("%H:%M")
    ))
}

/// Vehicles whose power or energy is at the edge of what their reserve leaves.
fn tight(input: &Input<'_>, solved: &Solved, step: usize) -> usize {
    input
        .vehicles
        .iter()
        .zip(&solved.lanes)
        .filter(|(vehicle, lane)| {
            let Some(j) = step
                .checked_sub(vehicle.first)
                .filter(|j| *j < vehicle.len())
            else {
                return false;
            };
            let (up, down) = (
                lane.share.kept(&solved.calls, Way::Up, j),
                lane.share.kept(&solved.calls, Way::Down, j),
            );
            (up > BINDS && lane.net[j] <= up - vehicle.discharge_kw + BINDS && lane.net[j] > BINDS)
                || (down > BINDS && lane.net[j] >= vehicle.charge_kw - down - BINDS)
        })
        .count()
}

/// Connection points that are full.
fn sites(input: &Input<'_>, solved: &Solved, step: usize) -> Option<String> {
    let mut load = vec![0.0; input.sites.len()];
    for (vehicle, lane) in input.vehicles.iter().zip(&solved.lanes) {
        let Some(j) = step
            .checked_sub(vehicle.first)
            .filter(|j| *j < vehicle.len())
        else {
            continue;
        };
        if let Some(load) = load.get_mut(vehicle.site) {
            *load += lane.net[j] + lane.share.kept(&solved.calls, Way::Down, j);
        }
    }
    let full: Vec<&str> = input
        .sites
        .iter()
        .zip(load)
        .filter(|(site, load)| *load > 0.0 && *load >= site.import_kw - 0.1)
        .map(|(site, _)| site.id.as_str())
        .collect();
    (!full.is_empty()).then(|| format!("import limit of {} binds", full.join(", ")))
}

/// Where the price of a step stands among those ahead.
fn price(input: &Input<'_>, step: usize) -> Option<String> {
    let prices = &input.market.price;
    let price = prices[step];
    let below = prices.iter().filter(|p| **p < price).count();
    let above = prices.iter().filter(|p| **p > price).count();
    let quarter = prices.len() / 4;
    let currency = input.area.currency();
    if above + below == 0 {
        None
    } else if below < quarter && above > quarter {
        Some(format!("cheap at {price:.1} {currency}/MWh"))
    } else if above < quarter && below > quarter {
        Some(format!("dear at {price:.1} {currency}/MWh"))
    } else {
        None
    }
}

/// Expected outcome of the horizon in money; positive is received.
fn expected(input: &Input<'_>, pool: &[f64]) -> Option<Money> {
    let mut total = 0.0;
    for (step, kw) in pool.iter().enumerate() {
        let mwh = input.grid.hours(step) / 1e3;
        let price = input.market.price[step];
        total -= match input.market.position_kw[step] {
            // The position itself is paid for at its award; see below.
            Some(position) => {
                mwh * (price * (kw - position)
                    + input.costs.imbalance_spread * (kw - position).abs())
            }
            None => mwh * price * kw,
        };
    }
    let horizon = Interval::try_new(input.grid.now(), input.grid.end()).ok()?;
    for award in input.position.awards() {
        let Some(part) = award.delivery.overlap(horizon) else {
            continue;
        };
        let price = award.price.to_f64();
        total += if award.product.is_reserve() {
            award.volume.mw() * price * part.hours() / award.delivery.hours()
        } else {
            -market::position::signed_power(award).mw() * part.hours() * price
        };
    }
    let amount = Decimal::from_f64_retain(total)?.round_dp(2);
    Some(Money::new(amount, input.area.currency()))
}

fn schedules(input: &Input<'_>, solved: &Solved) -> Vec<Schedule> {
    let grid = input.grid;
    let step_seconds = u32::try_from(super::STEP.num_seconds()).unwrap_or(900);
    let steered = input
        .vehicles
        .iter()
        .zip(&solved.lanes)
        .zip(&solved.envelopes)
        .filter_map(|((v, lane), e)| {
            let steps = (0..v.len())
                .map(|j| {
                    let f = v.share[j].max(1e-6);
                    Step {
                        power: Power::from_kw(
                            (lane.net[j] / f).clamp(-v.discharge_kw, v.charge_kw),
                        ),
                        up: Power::from_kw(lane.share.callable(Way::Up, j)),
                        down: Power::from_kw(lane.share.callable(Way::Down, j)),
                    }
                })
                .collect();
            Some(Schedule {
                evse: v.evse.clone()?,
                session: v.session.clone(),
                start: grid.at(v.first),
                step_seconds,
                steps,
                reason: vehicle_reason(input, v, lane, e),
            })
        });
    let plain = input.plain.iter().map(|p| Schedule {
        evse: p.evse.clone(),
        session: Some(p.session.clone()),
        start: grid.start(),
        step_seconds,
        steps: vec![
            Step {
                power: Power::from_kw(p.allowed_kw),
                ..Step::default()
            };
            grid.len()
        ],
        reason: "needs unknown: charges unsteered".to_owned(),
    });
    let mut schedules: Vec<Schedule> = steered.chain(plain).collect();
    schedules.sort_by(|a, b| a.evse.cmp(&b.evse));
    schedules
}

fn vehicle_reason(
    input: &Input<'_>,
    vehicle: &super::Vehicle,
    lane: &reserve::Lane,
    envelope: &super::Envelope,
) -> String {
    let Some(end) = lane.energy.last() else {
        return String::new();
    };
    let short = envelope.goal - end;
    let reachable = envelope.full.last().copied().unwrap_or(vehicle.arrival);
    let when = vehicle.leaves.map_or_else(
        || "departure unknown: charges at once to what it needs".to_owned(),
        |leaves| {
            format!(
                "leaves {} with {:.1} kWh",
                leaves
                    .with_timezone(&input.area.zone())
                    .format("%d %b %H:%M"),
                vehicle.goal
            )
        },
    );
    let mut words = vec![when];
    if envelope.goal > reachable + 0.01 {
        words.push(format!(
            "{:.1} kWh out of reach at full power",
            envelope.goal - reachable
        ));
    } else if short > 0.01 {
        words.push(format!("{short:.1} kWh short: its site is full"));
    }
    let most = |way| {
        (0..vehicle.len())
            .map(|j| lane.share.callable(way, j))
            .fold(0.0, f64::max)
    };
    let (up, down) = (most(Way::Up), most(Way::Down));
    if up.max(down) > BINDS {
        words.push(format!("holds up to {up:.1} kW up, {down:.1} kW down"));
    }
    words.join("; ")
}
