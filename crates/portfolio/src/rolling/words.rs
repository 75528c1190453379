//! From numbers to a plan that an operator can read.

use fleet::schedule::Schedule;
use market::plan::{self, Plan, PlanStatus, PlanStep};
use market::{PlanId, Product};
use rust_decimal::Decimal;
use units::{Interval, Money, Power};

use super::problem::Problem;
use super::reserve::{Held, Lane, Way};
use super::totals::{BINDS, Totals};
use super::vehicle::{Envelope, Vehicle};
use super::{Input, Made, Shortage, Solved, schedule};

/// Reserve missing below this is rounding, kW.
const SHORT_LEAST_KW: f64 = 0.5;

pub(super) fn made(problem: &Problem<'_>, solved: &Solved) -> Made {
    let input = problem.input;
    let grid = input.grid;
    let totals = Totals::of(problem, &solved.lanes);
    let shortages = shortages(problem, solved);
    let steps = (0..grid.len())
        .filter_map(|step| plan_step(problem, &totals, &shortages, step))
        .collect();
    let plan = Plan {
        id: PlanId::derive(input.area.code(), grid.now()),
        area: input.area,
        solved_at: grid.now(),
        data_until: input.data_until,
        status: PlanStatus::Feasible,
        relative_gap: solved.gap.relative(),
        expected: expected(input, &totals.pool),
        steps,
    };
    Made {
        plan,
        schedules: schedules(problem, solved),
        short_kw: shortages.iter().map(|s| s.kw).fold(0.0, f64::max),
        shortages,
        pool_kw: totals.pool,
        gap: solved.gap,
        work: solved.work,
    }
}

fn shortages(problem: &Problem<'_>, solved: &Solved) -> Vec<Shortage> {
    let held = Held::of(problem, &solved.lanes);
    let mut found = Vec::new();
    for (k, call) in problem.calls.iter().enumerate() {
        for step in 0..problem.input.grid.len() {
            let missing = |has: bool, way| {
                if has {
                    call.sold[step] - held.kw(k, way, step)
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
    problem: &Problem<'_>,
    totals: &Totals,
    shortages: &[Shortage],
    step: usize,
) -> Option<PlanStep> {
    let input = problem.input;
    let interval = Interval::try_new(input.grid.at(step), input.grid.at(step + 1)).ok()?;
    let held: Vec<plan::Held> = problem
        .calls
        .iter()
        .filter(|call| call.sold[step] > 0.0)
        .map(|call| {
            let short = shortages
                .iter()
                .find(|s| s.product == call.product && s.step == step)
                .map_or(0.0, |s| s.kw);
            plan::Held {
                product: call.product,
                volume: Power::from_kw((call.sold[step] - short).max(0.0)),
            }
        })
        .collect();
    let baseline = Power::from_kw(totals.pool[step]);
    let reason = reason(problem, totals, shortages, step);
    Some(PlanStep {
        interval,
        baseline,
        low: Power::from_kw(totals.low[step]).min(baseline),
        high: Power::from_kw(totals.high[step]).max(baseline),
        held,
        reason,
    })
}

/// What limits a step and at which price; empty if nothing does.
fn reason(problem: &Problem<'_>, totals: &Totals, shortages: &[Shortage], step: usize) -> String {
    let input = problem.input;
    let mut words = Vec::new();
    words.extend(departures(input, totals, step));
    for call in problem.calls.iter().filter(|c| c.sold[step] > 0.0) {
        let name = name(call.product);
        let mw = call.sold[step] / 1e3;
        let short = shortages
            .iter()
            .find(|s| s.product == call.product && s.step == step);
        let tight = totals.tight[step];
        words.push(match short {
            Some(short) => format!(
                "{mw:.1} MW {name} is more than the pool holds, {:.0} kW short",
                short.kw
            ),
            None if tight > 0 => format!("holding {mw:.1} MW {name} binds at {tight} vehicles"),
            None => format!("holding {mw:.1} MW {name}"),
        });
    }
    words.extend(sites(input, totals, step));
    if let Some(position) = input.market.position_kw[step] {
        let off = totals.pool[step] - position;
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
fn departures(input: &Input<'_>, totals: &Totals, step: usize) -> Option<String> {
    let (count, first) = totals.departures[step];
    let at = first?.with_timezone(&input.area.zone());
    let noun = if count == 1 { "vehicle" } else { "vehicles" };
    Some(format!(
        "departure of {count} {noun} from {} binds",
        at.format("%H:%M")
    ))
}

/// Connection points that are full.
fn sites(input: &Input<'_>, totals: &Totals, step: usize) -> Option<String> {
    let full: Vec<&str> = totals.full_sites[step]
        .iter()
        .map(|site| input.sites[*site].id.as_str())
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

fn schedules(problem: &Problem<'_>, solved: &Solved) -> Vec<Schedule> {
    let input = problem.input;
    let steered = input.vehicles.iter().enumerate().filter_map(|(i, v)| {
        let lane = &solved.lanes[i];
        v.evse.as_ref()?;
        let reason = vehicle_reason(input, v, lane, &problem.envelopes[i]);
        schedule::steered(input.grid, v, lane, reason)
    });
    let plain = input.plain.iter().map(|p| schedule::plain(input.grid, p));
    let mut schedules: Vec<Schedule> = steered.chain(plain).collect();
    schedules.sort_by(|a, b| a.evse.cmp(&b.evse));
    schedules
}

fn vehicle_reason(
    input: &Input<'_>,
    vehicle: &Vehicle,
    lane: &Lane,
    envelope: &Envelope,
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
