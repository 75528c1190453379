//! The strip, the centre and the side of the control room.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use wire::proto::dispatch::v1::Cycle;
use wire::proto::portfolio::v1::Plan;

use super::fleet::FleetView;
use super::trace::frequency;
use super::{Flow, Lens, at, kw, mw, said};
use crate::state::{Source, State};

/// A measured frequency or a cycle older than this is not shown as the present one: the cycle is one second.
const CYCLE_LIMIT: TimeDelta = TimeDelta::seconds(10);

/// The clock everyone goes by.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClockView {
    /// The present instant.
    pub now: DateTime<Utc>,
    /// How many times as fast as real time.
    pub speed: f64,
    /// Zone in which the page shows instants.
    pub zone: String,
}

/// A service the console listens to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceView {
    /// Name.
    pub name: &'static str,
    /// True while it answers.
    pub up: bool,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// When it last said something; absent if never.
    pub heard_at: Option<DateTime<Utc>>,
    /// Why it is away.
    pub detail: Option<String>,
}

/// Grid frequency.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FrequencyView {
    /// Hertz; absent if nothing was measured lately.
    pub hz: Option<f64>,
    /// Instant of the newest measurement, however old.
    pub at: Option<DateTime<Utc>>,
}

/// The next gate of one product.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GateView {
    /// Product.
    pub product: String,
    /// When bids must be in.
    pub closes_at: DateTime<Utc>,
    /// Delivery sold there.
    pub delivery_start: Option<DateTime<Utc>>,
    /// End of it.
    pub delivery_end: Option<DateTime<Utc>>,
}

/// Reserve of one product in the present cycle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReserveView {
    /// Product.
    pub product: String,
    /// `up`, `down` or `up and down`.
    pub direction: &'static str,
    /// Sold.
    pub sold_mw: f64,
    /// Held ready.
    pub held_mw: f64,
    /// Held beyond what is sold; negative is a breach.
    pub margin_mw: f64,
}

/// Power of the pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolView {
    /// Metered; absent if nothing is measured.
    pub actual_kw: Option<f64>,
    /// Which way it flows.
    pub flow: Option<Flow>,
    /// Wanted.
    pub target_kw: f64,
    /// Planned.
    pub baseline_kw: f64,
    /// Actual beyond the target.
    pub error_kw: Option<f64>,
    /// Allowed distance.
    pub tolerance_kw: f64,
    /// Part of the target beyond what the fleet can do.
    pub shortfall_kw: f64,
    /// Outlets in the sum.
    pub measured_evses: u32,
    /// Outlets with a vehicle.
    pub connected_evses: u32,
}

/// Somebody who wants something from the pool.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AskView {
    /// `schedule`, `fcr`, `afrr`, `hold`, `kill switch`, `driver`.
    pub who: &'static str,
    /// Wanted power or, for fcr and afrr, wanted change.
    pub kw: Option<f64>,
    /// What it means, in words.
    pub text: String,
    /// True for the one whose set-point won.
    pub won: bool,
}

/// The present cycle.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CycleView {
    /// When.
    pub at: DateTime<Utc>,
    /// True if the dispatcher has been silent for too long.
    pub stale: bool,
    /// `running`, `held` or `killed`.
    pub state: String,
    /// Who decided the target.
    pub winner: Option<String>,
    /// Set-points sent.
    pub setpoints: u32,
    /// The pool.
    pub pool: PoolView,
    /// Reserve by product.
    pub reserves: Vec<ReserveView>,
    /// Who asks.
    pub asking: Vec<AskView>,
}

/// The newest plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlanView {
    /// Name.
    pub id: String,
    /// When it was solved.
    pub solved_at: DateTime<Utc>,
    /// From data until.
    pub data_until: Option<DateTime<Utc>>,
    /// `optimal`, `feasible`, `fallback`.
    pub status: String,
    /// Proven relative distance from the optimum.
    pub relative_gap: Option<f64>,
    /// Expected result of its horizon, decimal; positive is received.
    pub expected: Option<String>,
    /// Currency.
    pub currency: String,
    /// `fresh`, `amber` (one interval old) or `red` (two).
    pub age: &'static str,
    /// What limits the present interval.
    pub reason: Option<String>,
}

/// Something open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Alarm {
    /// `critical` or `warning`.
    pub severity: &'static str,
    /// In words.
    pub text: String,
}

/// Everything but traces and fleet.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Live {
    /// The clock.
    pub clock: ClockView,
    /// The services.
    pub sources: Vec<SourceView>,
    /// Grid frequency.
    pub frequency: FrequencyView,
    /// Next gate of each product, nearest first.
    pub gates: Vec<GateView>,
    /// The present cycle; absent before the first.
    pub cycle: Option<CycleView>,
    /// The newest plan; absent before the first.
    pub plan: Option<PlanView>,
    /// Open alarms, worst first.
    pub alarms: Vec<Alarm>,
}

/// The live part of the page.
#[must_use]
pub fn live(state: &State, fleet: &FleetView, zone: &str, lens: &Lens) -> Live {
    let plan = state.plan.as_ref().and_then(|p| plan(p, lens));
    let cycle = state.cycle().and_then(|c| cycle(c, fleet, lens));
    let sources = sources(state);
    let alarms = alarms(state, &sources, cycle.as_ref(), plan.as_ref(), fleet);
    Live {
        clock: ClockView {
            now: lens.now,
            speed: lens.speed,
            zone: zone.to_owned(),
        },
        frequency: frequency_view(state, lens),
        gates: gates(state, lens.now),
        cycle,
        plan,
        sources,
        alarms,
    }
}

fn sources(state: &State) -> Vec<SourceView> {
    let view = |source: Source| {
        let contact = state.contacts.get(&source);
        SourceView {
            name: source.name(),
            up: contact.is_some_and(|c| c.up),
            since: contact.and_then(|c| c.since),
            heard_at: contact.and_then(|c| c.heard),
            detail: contact.and_then(|c| said(&c.detail)),
        }
    };
    Source::ALL.into_iter().map(view).collect()
}

fn frequency_view(state: &State, lens: &Lens) -> FrequencyView {
    let newest = state
        .cycles
        .iter()
        .rev()
        .find(|c| c.cycle.deviation_mhz.is_some());
    let measured =
        newest.and_then(|c| at(c.cycle.frequency_at_micros.unwrap_or(c.cycle.at_micros)));
    FrequencyView {
        hz: newest
            .and_then(|c| frequency(&c.cycle))
            .filter(|_| measured.is_some_and(|m| !lens.is_stale(m, CYCLE_LIMIT))),
        at: measured,
    }
}

/// Nearest first; a gate that closed meanwhile is not the next one.
fn gates(state: &State, now: DateTime<Utc>) -> Vec<GateView> {
    let mut gates: Vec<GateView> = state
        .gates
        .iter()
        .filter_map(|gate| {
            Some(GateView {
                product: gate.product.clone(),
                closes_at: at(gate.closes_micros)?,
                delivery_start: at(gate.delivery_start_micros),
                delivery_end: at(gate.delivery_end_micros),
            })
        })
        .filter(|gate| gate.closes_at > now)
        .collect();
    gates.sort_by_key(|gate| gate.closes_at);
    gates
}

fn cycle(cycle: &Cycle, fleet: &FleetView, lens: &Lens) -> Option<CycleView> {
    let when = at(cycle.at_micros)?;
    Some(CycleView {
        at: when,
        stale: lens.is_stale(when, CYCLE_LIMIT),
        state: cycle.state.clone(),
        winner: said(&cycle.winner),
        setpoints: cycle.setpoints,
        pool: pool(cycle),
        reserves: cycle
            .products
            .iter()
            .map(|p| ReserveView {
                product: p.product.clone(),
                direction: direction(&p.product),
                sold_mw: mw(p.sold_watts),
                held_mw: mw(p.held_watts),
                margin_mw: mw(p.held_watts - p.sold_watts),
            })
            .collect(),
        asking: asking(cycle, fleet),
    })
}

fn pool(cycle: &Cycle) -> PoolView {
    PoolView {
        actual_kw: cycle.actual_watts.map(kw),
        flow: cycle.actual_watts.map(Flow::of),
        target_kw: kw(cycle.target_watts),
        baseline_kw: kw(cycle.baseline_watts),
        error_kw: cycle.actual_watts.map(|a| kw(a - cycle.target_watts)),
        tolerance_kw: kw(cycle.tolerance_watts),
        shortfall_kw: kw(cycle.shortfall_watts),
        measured_evses: cycle.measured_evses,
        connected_evses: cycle.connected_evses,
    }
}

/// Name of a product for people.
fn name(product: &str) -> &str {
    match product {
        "day_ahead" => "Day-ahead",
        "fcr" => "FCR",
        "afrr_up" => "aFRR up",
        "afrr_down" => "aFRR down",
        other => other,
    }
}

/// Up is less charging or more discharging.
fn direction(product: &str) -> &'static str {
    if product.ends_with("_up") {
        "up"
    } else if product.ends_with("_down") {
        "down"
    } else {
        "up and down"
    }
}

fn asking(cycle: &Cycle, fleet: &FleetView) -> Vec<AskView> {
    let won = |who: &str| cycle.winner == who;
    let mut asks = vec![
        AskView {
            who: "schedule",
            kw: Some(kw(cycle.baseline_watts)),
            text: format!("the plan: {}", flow_word(cycle.baseline_watts)),
            won: won("schedule"),
        },
        change("fcr", cycle.fcr_watts, won("fcr")),
        change("afrr", cycle.afrr_watts, won("afrr")),
    ];
    let drivers = fleet.count("tight") + fleet.count("short");
    asks.push(AskView {
        who: "driver",
        kw: None,
        text: match drivers {
            0 => "none needs full power now".to_owned(),
            n => format!("{n} must charge at full power"),
        },
        won: won("driver"),
    });
    match cycle.state.as_str() {
        "held" => asks.push(operator(
            "hold",
            "schedule only, activations are ignored",
            won("hold"),
        )),
        "killed" => asks.push(operator(
            "kill switch",
            "every charge point charges by itself",
            won("kill switch"),
        )),
        _ => {}
    }
    asks
}

fn operator(who: &'static str, text: &str, won: bool) -> AskView {
    AskView {
        who,
        kw: None,
        text: text.to_owned(),
        won,
    }
}

fn change(who: &'static str, watts: i64, won: bool) -> AskView {
    let text = match watts.signum() {
        -1 => "up: less charging",
        1 => "down: more charging",
        _ => "nothing asked",
    };
    AskView {
        who,
        kw: Some(kw(watts)),
        text: text.to_owned(),
        won,
    }
}

const fn flow_word(watts: i64) -> &'static str {
    match Flow::of(watts) {
        Flow::Charging => "charging",
        Flow::Discharging => "discharging",
        Flow::Still => "still",
    }
}

fn plan(plan: &Plan, lens: &Lens) -> Option<PlanView> {
    let solved_at = at(plan.solved_at_micros)?;
    let age = lens.now - solved_at;
    let now = lens.now.timestamp_micros();
    let step = plan
        .steps
        .iter()
        .find(|s| s.start_micros <= now && now < s.end_micros);
    Some(PlanView {
        id: plan.id.clone(),
        solved_at,
        data_until: at(plan.data_until_micros),
        status: plan.status.clone(),
        relative_gap: plan.relative_gap,
        expected: plan.expected_amount.clone(),
        currency: plan.currency.clone(),
        age: if age > lens.plan_interval * 2 {
            "red"
        } else if age > lens.plan_interval {
            "amber"
        } else {
            "fresh"
        },
        reason: step.and_then(|s| said(&s.reason)),
    })
}

fn alarms(
    state: &State,
    sources: &[SourceView],
    cycle: Option<&CycleView>,
    plan: Option<&PlanView>,
    fleet: &FleetView,
) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let mut raise = |severity, text: String| alarms.push(Alarm { severity, text });
    for source in sources.iter().filter(|s| !s.up && s.since.is_some()) {
        raise("critical", format!("{} does not answer", source.name));
    }
    if let Some(cycle) = cycle {
        if cycle.stale {
            raise("critical", "dispatcher is silent".to_owned());
        }
        if cycle.state == "killed" {
            raise("critical", "kill switch is pulled".to_owned());
        }
        for reserve in cycle.reserves.iter().filter(|r| r.margin_mw < 0.0) {
            raise(
                "critical",
                format!("{} sold beyond held", name(&reserve.product)),
            );
        }
    }
    match plan.map(|p| (p.age, p.status.as_str())) {
        Some(("red", _)) => raise("critical", "plan is two intervals old".to_owned()),
        Some((_, "fallback")) => raise("warning", "plan is a fallback".to_owned()),
        _ => {}
    }
    for text in state.cycle().into_iter().flat_map(|c| &c.alarms) {
        raise("warning", text.clone());
    }
    let codes = [
        ("short", "critical", "cannot be full in time"),
        ("unresponsive", "warning", "not following set-point"),
        ("offline", "warning", "not connected"),
        ("silent", "warning", "no meter values"),
    ];
    for (code, severity, text) in codes {
        let count = fleet.count(code);
        if count > 0 {
            raise(severity, format!("{text}: {count} of {}", fleet.total));
        }
    }
    alarms.sort_by_key(|a| a.severity);
    alarms
}
