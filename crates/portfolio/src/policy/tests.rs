//! Laws of the policies on random fleets.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use market::{Area, Product};
use proptest::prelude::*;

mod pay;

use super::{Policy, account, run};
use crate::case::{
    Block, Case, Costs, Fleet, Grid, Planning, Prices, Reserve, Risk, Scoring, Site, Stay,
};
use crate::reference::{Headroom, Schedule, check};

/// Days of history before the period; the period itself has `DAYS`.
const PAST_DAYS: i64 = 8;
const DAYS: i64 = 3;

fn start() -> DateTime<Utc> {
    "2024-03-29T23:00:00Z".parse().unwrap()
}

/// A stay as drawn: minutes after the start of its day, minutes of stay, and shares of what is possible.
#[derive(Debug, Clone)]
pub(super) struct Drawn {
    pub(super) day: i64,
    pub(super) minute: i64,
    pub(super) minutes: i64,
    pub(super) arrival: f64,
    pub(super) wanted: f64,
    pub(super) kw: f64,
    pub(super) site: usize,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    (
        -PAST_DAYS..DAYS,
        0_i64..1440,
        1_i64..1200,
        0.02_f64..0.9,
        0.0_f64..1.0,
        prop::sample::select(vec![3.7, 7.4, 11.0, 22.0]),
        0_usize..3,
    )
        .prop_map(|(day, minute, minutes, arrival, wanted, kw, site)| Drawn {
            day,
            minute,
            minutes,
            arrival,
            wanted,
            kw,
            site,
        })
}

/// Hourly prices from a seed: a daily shape, noise and some negative hours.
pub(super) fn prices(seed: u64) -> Vec<f64> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut noise = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 40).unwrap()) / f64::from(1_u32 << 24)
    };
    let hours = u32::try_from((DAYS + PAST_DAYS) * 24).unwrap();
    (0..hours)
        .map(|h| {
            60.0 + 50.0 * (f64::from(h % 24) / 24.0 * std::f64::consts::TAU).sin()
                + 200.0 * (noise() - 0.5)
        })
        .collect()
}

fn hold(hourly: &[f64]) -> Vec<f64> {
    hourly.iter().flat_map(|p| [*p; 4]).collect()
}

pub(super) fn case(
    stays: &[Drawn],
    hourly: &[f64],
    limits: [f64; 2],
    departure_known: bool,
) -> Case {
    let past = usize::try_from(PAST_DAYS * 24).unwrap();
    let day_ahead = hold(&hourly[past..]);
    let sites = ["a", "b"].iter().zip(limits).map(|(id, kw)| Site {
        id: (*id).to_owned(),
        import_kw: kw,
        export_kw: kw / 2.0,
        base_kw: Vec::new(),
        base_before: Vec::new(),
    });
    let mut case = Case {
        name: "random".to_owned(),
        area: Area::De,
        grid: Grid {
            start: start(),
            step: TimeDelta::minutes(15),
            steps: day_ahead.len(),
        },
        prices: Prices {
            short: day_ahead.iter().map(|p| p + 10.0).collect(),
            long: day_ahead.iter().map(|p| p - 10.0).collect(),
            day_ahead,
            day_ahead_before: hold(&hourly[..past]).into_iter().map(Some).collect(),
            spread: Some(10.0),
        },
        sessions: Vec::new(),
        may_discharge: BTreeSet::new(),
        others: Vec::new(),
        days_off: BTreeSet::new(),
        sites: sites.collect(),
        costs: Costs {
            wear: 20.0,
            ..Costs::default()
        },
        fleet: Fleet {
            charge_efficiency: 0.94,
            discharge_efficiency: 0.93,
            min_energy_fraction: 0.1,
            v2g_share: 1.0,
            departure_known,
        },
        risk: Risk::default(),
        scoring: None,
        day_ahead: true,
        reserves: Vec::new(),
        headroom: Headroom::Snapshot,
        recovery_steps: 2,
    };
    case.place(stays.iter().enumerate().map(stay).collect());
    case
}

fn stay((index, d): (usize, &Drawn)) -> Stay {
    let plug_in = start() + TimeDelta::days(d.day) + TimeDelta::minutes(d.minute);
    Stay {
        session_id: format!("s{index:03}"),
        vehicle_id: format!("v{index:03}"),
        site_id: ["a", "b", "elsewhere"][d.site].to_owned(),
        plug_in,
        plug_out: plug_in + TimeDelta::minutes(d.minutes),
        arrival_kwh: Some(d.arrival * 60.0),
        required_kwh: (d.arrival + d.wanted * (1.0 - d.arrival)) * 60.0,
        capacity_kwh: 60.0,
        charge_kw: d.kw,
        discharge_kw: d.kw,
    }
}

/// What holds for every policy that cannot see ahead, whatever the fleet: batteries and plugs keep their limits.
fn check_limits(case: &Case, done: &super::Run) -> Result<(), TestCaseError> {
    for (s, d) in case.sessions.iter().zip(&done.sessions) {
        for (j, share) in s.share.iter().enumerate() {
            let (c, x) = (d.charge_kw[j], d.discharge_kw[j]);
            prop_assert!(
                c >= -1e-9 && c <= share * s.stay.charge_kw + 1e-6,
                "charge {c} of {share}"
            );
            prop_assert!(
                x >= -1e-9 && x <= share * s.discharge_kw + 1e-6,
                "discharge {x} of {share}"
            );
        }
        for e in &d.energy_kwh {
            prop_assert!(
                *e >= s.floor - 1e-6 && *e <= s.stay.capacity_kwh + 1e-6,
                "energy {e}"
            );
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn nobody_leaves_short_where_sites_are_wide(
        stays in prop::collection::vec(drawn(), 1..30), seed: u64, departure_known: bool,
    ) {
        let case = case(&stays, &prices(seed), [f64::INFINITY, 1e6], departure_known);
        for policy in [Policy::V1g, Policy::V2g] {
            let done = run(&case, policy).unwrap();
            check_limits(&case, &done)?;
            let account = account(&case, &done);
            prop_assert_eq!(account.short_departures, 0, "{}", policy);
            prop_assert_eq!(account.site_limit_breaches, 0, "{}", policy);
            if policy == Policy::V1g {
                prop_assert!(account.energy_discharged_kwh == 0.0);
            }
        }
    }

    #[test]
    fn no_site_limit_is_broken_however_tight(
        stays in prop::collection::vec(drawn(), 1..30), seed: u64, departure_known: bool,
        limits in [1.0_f64..40.0, 1.0_f64..40.0],
    ) {
        let case = case(&stays, &prices(seed), limits, departure_known);
        for policy in [Policy::V1g, Policy::V2g] {
            let done = run(&case, policy).unwrap();
            check_limits(&case, &done)?;
            prop_assert_eq!(account(&case, &done).site_limit_breaches, 0, "{}", policy);
        }
    }

    #[test]
    fn with_an_unknown_departure_nobody_falls_behind_charging_at_once(
        stays in prop::collection::vec(drawn(), 1..20), seed: u64,
    ) {
        let case = case(&stays, &prices(seed), [f64::INFINITY, 1e6], false);
        let alone = run(&case, Policy::Unmanaged).unwrap();
        let done = run(&case, Policy::V2g).unwrap();
        for (a, d) in alone.sessions.iter().zip(&done.sessions) {
            for (left_alone, managed) in a.energy_kwh.iter().zip(&d.energy_kwh) {
                prop_assert!(managed >= &(left_alone - 1e-6), "{managed} kWh where alone has {left_alone}");
            }
        }
    }

    #[test]
    fn decisions_do_not_see_the_future(
        stays in prop::collection::vec(drawn(), 1..25), seed: u64, other: u64,
        departure_known: bool, cut in 1_usize..60,
    ) {
        // Everything that is not known at `cut` hours into the period is replaced by something else.
        let at = start() + TimeDelta::hours(i64::try_from(cut).unwrap());
        let mut changed = prices(seed);
        let known_hours = usize::try_from(PAST_DAYS * 24).unwrap() + published(at);
        changed[known_hours..].copy_from_slice(&prices(other)[known_hours..]);
        let truth = case(&stays, &prices(seed), [60.0, 40.0], departure_known);
        let mut elsewise = case(&stays, &changed, [60.0, 40.0], departure_known);
        for s in &mut elsewise.sessions {
            if s.stay.plug_in >= at {
                let again = Stay { required_kwh: s.arrival, charge_kw: 50.0, ..s.stay.clone() };
                *s = truth.session(again, s.arrival, true);
            } else if !departure_known && s.stay.plug_out > at {
                let again = Stay { plug_out: at + TimeDelta::minutes(37), ..s.stay.clone() };
                *s = truth.session(again, s.arrival, true);
            }
        }
        let (a, b) = (run(&truth, Policy::V2g).unwrap(), run(&elsewise, Policy::V2g).unwrap());
        let known = truth.grid.containing(at);
        for ((s, x), y) in truth.sessions.iter().zip(&a.sessions).zip(&b.sessions) {
            for (j, t) in s.steps().enumerate().take_while(|(_, t)| *t < known) {
                prop_assert_eq!(x.charge_kw[j].to_bits(), y.charge_kw[j].to_bits(), "step {}", t);
                prop_assert_eq!(x.discharge_kw[j].to_bits(), y.discharge_kw[j].to_bits(), "step {}", t);
            }
        }
    }
}

/// Six blocks a day by the local clock over history and period, with one price.
pub(super) fn blocks(case: &Case, price: f64) -> Vec<Block> {
    let mut day = units::DeliveryDay::containing(case.grid.start, case.area.exchange_zone());
    for _ in 0..PAST_DAYS {
        day = day.previous();
    }
    let mut starts = Vec::new();
    while day.start() < case.grid.end() {
        let clock = |hour| chrono::NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
        starts.extend((0..6).map(|block| day.at(clock(4 * block))));
        day = day.next();
    }
    starts.push(day.start());
    starts
        .windows(2)
        .map(|w| Block {
            start: w[0],
            end: w[1],
            price,
            steps: case.grid.whole(w[0], w[1]),
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn what_is_held_obeys_the_window_rule_and_nobody_is_short_for_it(
        stays in prop::collection::vec(drawn(), 20..60), seed: u64, departure_known: bool,
    ) {
        let mut case = case(&stays, &prices(seed), [f64::INFINITY, 1e6], departure_known);
        case.headroom = Headroom::Window { recovery_steps: case.recovery_steps };
        case.sites.clear();
        for s in &mut case.sessions {
            s.site = None;
        }
        let product = |product, power_factor, endurance_hours| Reserve {
            product, power_factor, endurance_hours, blocks: blocks(&case, 400.0),
        };
        case.reserves = vec![
            product(Product::Fcr, 1.25, 0.5),
            product(Product::AfrrUp, 1.0, 1.0),
            product(Product::AfrrDown, 1.0, 1.0),
        ];
        let done = run(&case, Policy::V2g).unwrap();
        let account = account(&case, &done);
        prop_assert_eq!(account.short_departures, 0);
        let problem = case.problem(true);
        let schedule = Schedule { sessions: done.sessions.clone(), block_mw: held_throughout(&case, &done) };
        let broken = check(&problem, &schedule);
        prop_assert!(broken.is_empty(), "{}", broken);
        // What was sold is held or counted as missing.
        for (p, sold) in done.sold_mw.iter().enumerate() {
            for ((_, steps), mw) in case.reserves[p].on_sale().zip(sold) {
                for t in steps {
                    let held = held_at(&case, &done, p, t);
                    prop_assert!(held + done.missing_mw[p][t] >= mw - 1e-9);
                }
            }
        }
    }
}

/// MW of a product that all sessions hold in a step: the lesser direction of a symmetric one.
fn held_at(case: &Case, done: &super::Run, product: usize, t: usize) -> f64 {
    let (mut up, mut down) = (0.0, 0.0);
    for (s, d) in case.sessions.iter().zip(&done.sessions) {
        let Some(held) = d.reserves.get(product) else {
            continue;
        };
        if let Some(j) = t.checked_sub(s.first).filter(|j| *j < s.share.len()) {
            up += held.up_kw(j);
            down += held.down_kw[j];
        }
    }
    let direction = case.reserves[product].direction();
    match (direction.has_up(), direction.has_down()) {
        (true, true) => up.min(down) / 1000.0,
        (true, false) => up / 1000.0,
        _ => down / 1000.0,
    }
}

/// The volume of each block that was held in every step of it.
fn held_throughout(case: &Case, done: &super::Run) -> Vec<Vec<f64>> {
    let least = |p: usize, steps: std::ops::Range<usize>| {
        steps
            .map(|t| held_at(case, done, p, t))
            .fold(f64::INFINITY, f64::min)
    };
    (0..case.reserves.len())
        .map(|p| {
            case.reserves[p]
                .on_sale()
                .map(|(_, steps)| least(p, steps))
                .collect()
        })
        .collect()
}

/// Hours of the period whose price is published at `at`: until the end of the day, of tomorrow after 12:45.
fn published(at: DateTime<Utc>) -> usize {
    let zone = Area::De.exchange_zone();
    let today = units::DeliveryDay::containing(at, zone);
    let out = today.at(chrono::NaiveTime::from_hms_opt(12, 45, 0).unwrap()) <= at;
    let end = if out { today.next().end() } else { today.end() };
    let hours = (end - start()).num_hours();
    usize::try_from(hours)
        .unwrap()
        .min(usize::try_from(DAYS * 24).unwrap())
}

/// A pool that fills up on some days only: twelve cars or two, by the seed, for twenty hours each.
fn now_and_then(seed: u64) -> Vec<Drawn> {
    let crowded = |day: i64| (day.unsigned_abs() * 7 + seed * 5).is_multiple_of(3);
    (-PAST_DAYS..DAYS)
        .flat_map(|day| (0..if crowded(day) { 12 } else { 2 }).map(move |car| (day, car)))
        .map(|(day, car)| all_day(day, car))
        .collect()
}

/// Car `car` of a day, there from half past midnight on for twenty hours.
fn all_day(day: i64, car: i64) -> Drawn {
    Drawn {
        day,
        minute: 30 + car,
        minutes: 1200,
        arrival: 0.5,
        wanted: 0.1,
        kw: 11.0,
        site: 2,
    }
}

#[test]
fn planning_on_scenarios_earns_more_than_planning_on_expected_values_and_delivers_more_often() {
    let (mut cost, mut short, mut sold) = ([0.0; 2], [0; 2], [0; 2]);
    for seed in 0..4 {
        let mut case = case(
            &now_and_then(seed),
            &prices(seed),
            [f64::INFINITY, 1e6],
            true,
        );
        // Missing FCR costs five times its price there; in Germany no more than its pay.
        case.area = Area::Nl;
        case.sites.clear();
        for s in &mut case.sessions {
            s.site = None;
        }
        case.reserves = vec![Reserve {
            product: Product::Fcr,
            power_factor: 1.25,
            endurance_hours: 0.5,
            blocks: blocks(&case, 400.0),
        }];
        for (way, planning) in [Planning::Expected, Planning::Stochastic]
            .into_iter()
            .enumerate()
        {
            case.risk.planning = planning;
            let done = run(&case, Policy::V2g).unwrap();
            let account = account(&case, &done);
            assert_eq!(account.short_departures, 0);
            assert!(account.optimism_gap.is_some_and(f64::is_finite));
            cost[way] += account.net_cost;
            short[way] += account.reserve_blocks_short;
            sold[way] += account.reserve_blocks_sold;
        }
    }
    assert!(sold[1] > 0, "something is sold");
    assert!(cost[1] < cost[0], "{cost:?}");
    assert!(
        short[1] * sold[0] < short[0] * sold[1],
        "{short:?} of {sold:?}"
    );
}

#[test]
fn scoring_positions_changes_no_decision_and_scores_every_day_sold_ahead() {
    let mut case = case(&now_and_then(1), &prices(1), [f64::INFINITY, 1e6], true);
    let plain = run(&case, Policy::V2g).unwrap();
    assert_eq!(plain.scores, []);
    case.scoring = Some(Scoring {
        ways: 20,
        betas: vec![0.0, 1.0],
    });
    let mut scored = run(&case, Policy::V2g).unwrap();
    let scores = std::mem::take(&mut scored.scores);
    assert_eq!(scored, plain);
    let days = plain.planned.iter().map(|(steps, _)| steps);
    assert!(scores.iter().map(|s| &s.steps).eq(days), "{scores:?}");
    for position in scores.iter().flat_map(|s| &s.positions) {
        assert!(position.mean.is_finite() && position.tail >= position.mean - 1e-9);
    }
    assert!(scores.iter().all(|s| s.positions.len() == 2));
    assert!(
        scores
            .iter()
            .any(|s| s.positions[0].tail > s.positions[0].mean)
    );
}
