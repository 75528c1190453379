//! One dispatch cycle over 100 000 EVSEs: everything known in, set-points out, as the log and its replay have it.
#![expect(clippy::unwrap_used, reason = "a benchmark may end")]

use std::hint::black_box;

use chrono::{DateTime, TimeDelta, Utc};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use dispatch::fleet::schedule::{Schedule, Step};
use dispatch::fleet::state::{EvseState, PowerAt, SessionState};
use dispatch::fleet::{Evse, Needs, Protocol, Session, Site};
use market::plan::{PlanStatus, PlanStep};
use market::{Area, Award, AwardId, BidId, Direction, GridSignal, Plan, PlanId, Product};
use shoal_gateway::replay::Replay;
use units::{Currency, Efficiency, Energy, Interval, Power, Price};
use wire::proto::dispatch::v1 as proto;

const EVSES: usize = 100_000;

fn start() -> DateTime<Utc> {
    "2026-01-10T10:00:00Z".parse().unwrap()
}

/// Sites are not named in the order of their EVSEs.
fn site_name(i: usize, per_site: usize) -> String {
    format!("s{:05}", (i / per_site * 7_919) % 100_003)
}

fn state(i: usize, per_site: usize) -> EvseState {
    let (id, site) = (format!("cs-{i:06}/1"), site_name(i, per_site));
    let discharge = Power::from_watts(if i.is_multiple_of(3) { 11_000 } else { 0 });
    let session = Session {
        id: format!("session-{i}").parse().unwrap(),
        evse: id.parse().unwrap(),
        site: site.parse().unwrap(),
        vehicle: None,
        plugged_in: start() - TimeDelta::hours(2),
        unplugged: None,
        needs: Some(Needs {
            departure: Some(start() + TimeDelta::hours(8)),
            energy: Energy::from_kwh(20.0),
            stored: Some(Energy::from_kwh(25.0)),
            capacity: Some(Energy::from_kwh(60.0)),
            max_charge: Power::from_watts(11_000),
            max_discharge: discharge,
            floor: Energy::from_kwh(6.0),
        }),
    };
    EvseState {
        evse: Evse {
            id: id.parse().unwrap(),
            station: format!("cs-{i:06}").parse().unwrap(),
            site: site.parse().unwrap(),
            class: "home".to_owned(),
            protocol: Protocol::Ocpp21,
            max_charge: Power::from_watts(11_000),
            max_discharge: discharge,
            charge_efficiency: Efficiency::try_new(0.92).unwrap(),
            discharge_efficiency: Efficiency::try_new(0.92).unwrap(),
        },
        online: true,
        changed_at: start(),
        session: Some(SessionState {
            session,
            added: Some(Energy::from_kwh(5.0)),
            soc: None,
        }),
        power: Some(PowerAt {
            power: Power::from_watts(5_500),
            at: start(),
        }),
        setpoint: None,
        unresponsive: i.is_multiple_of(1_000),
    }
}

fn schedule(state: &EvseState) -> Schedule {
    let step = Step {
        power: Power::from_watts(5_500),
        up: Power::from_watts(500),
        down: Power::from_watts(500),
    };
    Schedule {
        evse: state.evse.id.clone(),
        session: state.session.as_ref().map(|s| s.session.id.clone()),
        start: start(),
        step_seconds: 900,
        steps: vec![step; 4],
        reason: String::new(),
    }
}

fn snapshot(per_site: usize) -> proto::Snapshot {
    let fleet: Vec<EvseState> = (0..EVSES).map(|i| state(i, per_site)).collect();
    let hour = Interval::try_new(start(), start() + TimeDelta::hours(1)).unwrap();
    let plan = Plan {
        id: PlanId::derive("NL", start()),
        area: Area::Nl,
        solved_at: start(),
        data_until: start(),
        status: PlanStatus::Optimal,
        relative_gap: None,
        expected: None,
        steps: vec![PlanStep {
            interval: hour,
            baseline: Power::from_mw(500.0),
            low: Power::ZERO,
            high: Power::from_mw(1_000.0),
            held: Vec::new(),
            reason: String::new(),
        }],
    };
    let schedules: Vec<Schedule> = fleet.iter().map(schedule).collect();
    let bid = BidId::derive("NL", "fcr", start(), 0);
    let award = Award {
        id: AwardId::derive(bid),
        bid,
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: hour,
        volume: Power::from_mw(40.0),
        price: Price::from_f64(10.0, 2, Currency::Eur).unwrap(),
        awarded_at: start(),
    };
    let site = |i| Site {
        id: site_name(i, per_site).parse().unwrap(),
        name: String::new(),
        import_limit: Power::from_watts(22_000 * i64::try_from(per_site).unwrap()),
        export_limit: Power::from_watts(22_000 * i64::try_from(per_site).unwrap()),
    };
    proto::Snapshot {
        area: Area::Nl.code().to_owned(),
        began_micros: start().timestamp_micros(),
        at_micros: start().timestamp_micros(),
        pace: Some(proto::Pace {
            cycle_micros: 1_000_000,
            expiry_micros: 120_000_000,
            planned_micros: Some(900_000_000),
            oldest_signal_micros: 10_000_000,
            settling_micros: 30_000_000,
            oldest_plan_micros: 3_600_000_000,
            decision_micros: 5_000_000,
            margin_micros: 60_000_000,
            threshold_watts: 50,
        }),
        fleet: fleet.iter().map(Into::into).collect(),
        sites: (0..EVSES)
            .step_by(per_site)
            .map(|i| (&site(i)).into())
            .collect(),
        plan: Some((&plan, schedules.as_slice()).into()),
        awards: vec![(&award).into()],
        order: "\"Running\"".to_owned(),
        ..proto::Snapshot::default()
    }
}

fn step(n: i32) -> proto::Step {
    let at = start() + TimeDelta::seconds(i64::from(n) + 1);
    let signal = GridSignal {
        id: format!("f{n}"),
        at,
        deviation_mhz: Some(f64::from(n * 37 % 160 - 80)),
        afrr: None,
    };
    proto::Step {
        at_micros: at.timestamp_micros(),
        taken: vec![proto::Taken {
            taken: Some(proto::taken::Taken::Signal((&signal).into())),
        }],
        ..proto::Step::default()
    }
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("cycle 100k");
    group.sample_size(20);
    for per_site in [1, 50] {
        let mut replay = Replay::from(&snapshot(per_site)).unwrap();
        let mut n = 0;
        replay.cycle(&step(n)).unwrap();
        group.bench_function(format!("sites of {per_site}"), |b| {
            b.iter_batched(
                || {
                    n += 1;
                    step(n)
                },
                |step| {
                    for taken in &step.taken {
                        replay.take(taken.taken.as_ref().unwrap()).unwrap();
                    }
                    black_box(replay.cycle(&step).unwrap().len())
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
