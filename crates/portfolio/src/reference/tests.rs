//! Tiny problems solved by hand.

use proptest::prelude::*;

use super::*;

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * (1.0 + a.abs().max(b.abs()))
}

/// A two-way vehicle without losses over `steps` whole steps.
fn vehicle(steps: usize, arrival: f64, goal: f64) -> Session {
    Session {
        site: None,
        first: 0,
        share: vec![1.0; steps],
        capacity: 50.0,
        arrival,
        floor: 5.0_f64.min(arrival),
        goal,
        charge_kw: 10.0,
        discharge_kw: 10.0,
        charge_efficiency: 1.0,
        discharge_efficiency: 1.0,
    }
}

/// Whole hours at given prices, no fees, wear of 20 EUR/MWh.
fn hours(prices: &[f64], sessions: Vec<Session>) -> Problem {
    Problem {
        step_hours: 1.0,
        import_price: prices.to_vec(),
        export_price: prices.to_vec(),
        wear: 20.0,
        shortfall: 2.0,
        sessions,
        sites: Vec::new(),
        reserves: Vec::new(),
        headroom: Headroom::Snapshot,
    }
}

fn limited(import_kw: f64, export_kw: f64, base_kw: &[f64]) -> Site {
    Site {
        import_kw,
        export_kw,
        base_kw: base_kw.to_vec(),
    }
}

fn fcr(steps: usize, price: f64) -> Reserve {
    let blocks = vec![Block {
        steps: 0..steps,
        price,
    }];
    Reserve {
        direction: Direction::Symmetric,
        power_factor: 1.0,
        endurance_hours: 0.5,
        blocks,
    }
}

fn answer(problem: &Problem) -> Answer {
    let answer = solve(problem)
        .expect("a valid problem")
        .answer()
        .expect("an answer");
    let violations = check(problem, &answer.schedule);
    assert!(violations.is_empty(), "{violations}");
    assert!(answer.lower_bound <= answer.objective);
    answer
}

#[test]
fn energy_is_bought_in_the_cheapest_hour() {
    let one_way = Session {
        discharge_kw: 0.0,
        ..vehicle(3, 20.0, 28.0)
    };
    let answer = answer(&hours(&[100.0, 40.0, 60.0], vec![one_way]));
    assert!(
        close(answer.objective, 0.32) && answer.relative_gap < 1e-9,
        "{answer:?}"
    );
    assert!(
        close(answer.duals.energy[0][2], 0.04),
        "{:?}",
        answer.duals.energy
    );
}

#[test]
fn a_spread_pays_only_beyond_wear() {
    let cycled = |high: f64| answer(&hours(&[50.0, high], vec![vehicle(2, 20.0, 20.0)])).objective;
    assert!(close(cycled(69.0), 0.0));
    assert!(close(cycled(71.0), 0.01 * (50.0 - 71.0 + 20.0)));
}

#[test]
fn a_shared_limit_moves_the_second_vehicle_to_the_next_hour() {
    let mut problem = hours(
        &[40.0, 60.0],
        vec![vehicle(2, 20.0, 28.0), vehicle(2, 20.0, 28.0)],
    );
    for session in &mut problem.sessions {
        session.site = Some(0);
        session.discharge_kw = 0.0;
    }
    problem.sites = vec![limited(10.0, 0.0, &[1.0, 1.0])];
    let answer = answer(&problem);
    // 16 kWh wanted, 9 fit into the cheap hour; one more kW there would save 2 cents.
    assert!(
        close(answer.objective, 0.009 * 40.0 + 0.007 * 60.0),
        "{}",
        answer.objective
    );
    assert_eq!(answer.duals.import.len(), 2);
    assert!(close(answer.duals.import[0].2, 0.02), "{:?}", answer.duals);
}

#[test]
fn what_a_limit_leaves_no_way_for_is_short_at_its_price() {
    let mut problem = hours(
        &[40.0],
        vec![Session {
            site: Some(0),
            ..vehicle(1, 20.0, 28.0)
        }],
    );
    problem.sites = vec![limited(5.0, 5.0, &[])];
    let answer = answer(&problem);
    assert!(close(answer.schedule.short_kwh(), 3.0));
    assert!(close(answer.objective, 0.2 + 6.0) && close(answer.net_cost, 0.2));
}

#[test]
fn base_load_that_alone_breaks_a_limit_is_infeasible_and_named() {
    let mut problem = hours(
        &[40.0, 40.0],
        vec![Session {
            site: Some(0),
            ..vehicle(1, 20.0, 20.0)
        }],
    );
    problem.sites = vec![limited(8.0, 0.0, &[4.0, 12.0])];
    let outcome = solve(&problem).expect("a valid problem");
    assert_eq!(
        outcome,
        Outcome::Infeasible(Infeasible {
            site: 0,
            step: 1,
            excess_kw: 4.0
        })
    );
}

#[test]
fn base_load_that_takes_all_of_the_limit_leaves_nothing_to_one_way_vehicles() {
    let one_way = Session {
        site: Some(0),
        discharge_kw: 0.0,
        ..vehicle(2, 20.0, 30.0)
    };
    let mut problem = hours(&[10.0, 50.0], vec![one_way.clone(), one_way]);
    problem.sites = vec![limited(8.0, 0.0, &[8.0, 0.0])];
    let answer = answer(&problem);
    assert!(
        close(answer.objective, 0.008 * 50.0 + 12.0 * 2.0) && answer.relative_gap < 1e-6,
        "{answer:?}"
    );
}

#[test]
fn a_vehicle_discharges_to_keep_the_base_load_within_its_limit_while_it_can() {
    let mut problem = hours(
        &[10.0, 10.0],
        vec![Session {
            site: Some(0),
            ..vehicle(2, 20.0, 5.0)
        }],
    );
    problem.sites = vec![limited(8.0, 0.0, &[15.0, 15.0])];
    let kept = answer(&problem);
    assert!(
        close(kept.schedule.sessions[0].discharge_kw[1], 7.0),
        "{kept:?}"
    );
    // 14 kWh must come out of the battery; with 13 above the floor there is no way.
    problem.sessions[0].arrival = 18.0;
    let outcome = solve(&problem).expect("a valid problem");
    assert!(
        matches!(
            outcome,
            Outcome::Infeasible(Infeasible {
                site: 0,
                excess_kw: 0.0,
                ..
            })
        ),
        "{outcome:?}"
    );
}

#[test]
fn an_idle_vehicle_sells_its_power_both_ways_and_keeps_the_energy_for_it() {
    let mut session = vehicle(4, 25.0, 25.0);
    (session.charge_efficiency, session.discharge_efficiency) = (0.9, 0.9);
    let mut problem = hours(&[50.0; 4], vec![session]);
    problem.reserves = vec![fcr(4, 100.0)];
    let free = answer(&problem);
    assert!(
        close(free.schedule.block_mw[0][0], 0.010) && close(free.net_cost, -1.0),
        "{free:?}"
    );
    // 10 kW for half an hour take 10 * 0.5/0.9 = 5.56 kWh: the room below the ceiling decides with 4.5 kWh left.
    problem.sessions[0].capacity = 29.5;
    problem.sessions[0].floor = 20.0;
    let tight = answer(&problem);
    assert!(tight.schedule.block_mw[0][0] < 0.009, "{tight:?}");
}

#[test]
fn a_one_way_charger_sells_up_only_while_it_charges() {
    let mut problem = hours(
        &[50.0, 50.0],
        vec![Session {
            discharge_kw: 0.0,
            ..vehicle(2, 20.0, 30.0)
        }],
    );
    problem.reserves = vec![fcr(2, 100.0)];
    // 10 kWh over two hours: 5 kW each leaves 5 kW both ways.
    let answer = answer(&problem);
    assert!(
        close(answer.schedule.block_mw[0][0], 0.005) && close(answer.net_cost, 0.5 - 0.5),
        "{answer:?}"
    );
}

#[test]
fn the_power_factor_is_kept_free_but_not_paid() {
    let mut problem = hours(&[50.0], vec![vehicle(1, 25.0, 25.0)]);
    problem.reserves = vec![Reserve {
        power_factor: 1.25,
        ..fcr(1, 100.0)
    }];
    assert!(close(answer(&problem).schedule.block_mw[0][0], 0.008));
}

#[test]
fn up_and_down_are_sold_apart_where_the_products_are() {
    let mut full = vehicle(1, 50.0, 30.0);
    full.floor = 40.0;
    let mut problem = hours(&[10.0], vec![full]);
    let one = |direction, price| Reserve {
        direction,
        endurance_hours: 1.0,
        ..fcr(1, price)
    };
    problem.reserves = vec![one(Direction::Up, 10.0), one(Direction::Down, 10.0)];
    let answer = answer(&problem);
    // The snapshot counts from both boundaries: full at the start leaves no room for Down, and 10 kWh for Up.
    assert!(close(answer.schedule.block_mw[0][0], 0.010), "{answer:?}");
    assert!(close(answer.schedule.block_mw[1][0], 0.0));
}

#[test]
fn a_block_with_a_step_nobody_covers_is_not_sold() {
    let mut problem = hours(&[50.0, 50.0], vec![vehicle(1, 25.0, 25.0)]);
    problem.reserves = vec![fcr(2, 100.0)];
    assert!(close(answer(&problem).schedule.block_mw[0][0], 0.0));
    problem.reserves = vec![fcr(1, -5.0)];
    assert!(close(answer(&problem).schedule.block_mw[0][0], 0.0));
}

#[test]
fn a_step_only_partly_plugged_in_holds_no_reserve() {
    let mut problem = hours(&[50.0], vec![vehicle(1, 25.0, 25.0)]);
    problem.sessions[0].share = vec![0.999];
    problem.reserves = vec![fcr(1, 100.0)];
    assert!(close(answer(&problem).schedule.block_mw[0][0], 0.0));
}

#[test]
fn windows_keep_more_energy_than_a_snapshot() {
    // Quarter hours, half an hour of endurance, two quarters until a new schedule: the energy an old window took is
    // still missing while the next steps discharge.
    let mut session = vehicle(4, 20.0, 5.0);
    session.discharge_kw = 40.0;
    session.charge_kw = 40.0;
    let mut problem = hours(&[50.0, 50.0, 400.0, 400.0], vec![session]);
    problem.step_hours = 0.25;
    problem.reserves = vec![fcr(2, 100.0)];
    let snapshot = answer(&problem);
    problem.headroom = Headroom::Window { recovery_steps: 2 };
    let window = answer(&problem);
    assert!(
        window.objective > snapshot.objective + 1e-3,
        "{} {}",
        window.objective,
        snapshot.objective
    );
    assert!(!check(&problem, &snapshot.schedule).is_empty());
}

#[test]
fn days_of_92_and_100_quarters_are_only_grids() {
    for steps in [92, 100] {
        let prices: Vec<f64> = (0..steps).map(|step| f64::from(step % 7) * 10.0).collect();
        let mut problem = hours(
            &prices,
            vec![vehicle(usize::try_from(steps).expect("small"), 20.0, 40.0)],
        );
        problem.step_hours = 0.25;
        assert!(answer(&problem).relative_gap < 1e-9);
    }
}

#[test]
fn nothing_plugged_in_costs_nothing() {
    let answer = answer(&hours(&[50.0], Vec::new()));
    assert!(close(answer.objective, 0.0) && close(answer.lower_bound, 0.0));
}

#[test]
fn a_session_without_steps_is_only_what_it_lacks() {
    let mut problem = hours(&[50.0], vec![vehicle(0, 20.0, 21.0)]);
    problem.reserves = vec![fcr(1, 100.0)];
    let answer = answer(&problem);
    assert!(close(answer.objective, 2.0), "{answer:?}");
}

#[test]
fn weeks_at_the_plug_are_one_session() {
    let steps = 3 * 7 * 96;
    let prices: Vec<f64> = (0..steps)
        .map(|step| 60.0 + 50.0 * (f64::from(step) * 0.0654).sin())
        .collect();
    let mut problem = hours(&prices, vec![vehicle(2016, 3.0, 45.0)]);
    problem.step_hours = 0.25;
    problem.sessions[0].floor = 3.0;
    let answer = answer(&problem);
    assert!(
        answer.relative_gap < 1e-9 && answer.objective < 0.0,
        "{}",
        answer.objective
    );
}

#[test]
fn a_problem_that_makes_no_sense_is_refused_with_the_place() {
    let good = hours(&[50.0], vec![vehicle(1, 20.0, 25.0)]);
    let broken = |change: fn(&mut Problem)| {
        let mut problem = good.clone();
        change(&mut problem);
        solve(&problem).expect_err("refused").to_string()
    };
    assert_eq!(
        broken(|p| p.sessions[0].arrival = 51.0),
        "session 0: arrival energy is 51, expected between zero and the capacity"
    );
    assert_eq!(
        broken(|p| p.sessions[0].first = 1),
        "session 0 reaches step 2 of a grid of 1 steps"
    );
    assert_eq!(
        broken(|p| p.sessions[0].site = Some(0)),
        "session 0 is at site 0, but there are only 0"
    );
    assert_eq!(
        broken(|p| p.import_price[0] = f64::NAN),
        "price is NaN, expected a finite number"
    );
    assert_eq!(
        broken(|p| p.step_hours = 0.0),
        "step_hours is 0, expected above zero"
    );
    assert_eq!(
        broken(|p| p.sessions[0].share[0] = 1.5),
        "session 0: share of a step is 1.5, expected between 0 and 1"
    );
    assert_eq!(
        broken(|p| p.export_price.clear()),
        "export price 0 reaches step 0 of a grid of 1 steps"
    );
    assert_eq!(
        broken(|p| p.reserves = vec![fcr(2, 1.0)]),
        "reserve block 0 reaches step 2 of a grid of 1 steps"
    );
    assert_eq!(
        broken(|p| {
            p.reserves = vec![fcr(1, 1.0)];
            let again = p.reserves[0].blocks[0].clone();
            p.reserves[0].blocks.push(again);
        }),
        "blocks of reserve product 0 overlap at step 0"
    );
}

#[test]
fn the_checker_sees_every_kind_of_broken_row() {
    let mut problem = hours(
        &[50.0],
        vec![Session {
            site: Some(0),
            ..vehicle(1, 25.0, 30.0)
        }],
    );
    problem.sites = vec![limited(12.0, 12.0, &[])];
    problem.reserves = vec![fcr(1, 100.0)];
    let good = answer(&problem).schedule;
    let broken = |change: fn(&mut Schedule)| {
        let mut schedule = good.clone();
        change(&mut schedule);
        let found = check(&problem, &schedule);
        found
            .rows
            .iter()
            .map(|violation| violation.row)
            .collect::<Vec<_>>()
    };
    assert!(broken(|s| s.sessions[0].charge_kw[0] = 11.0).contains(&Row::Power));
    assert!(broken(|s| s.sessions[0].charge_kw[0] = -1.0).contains(&Row::Power));
    assert!(broken(|s| s.sessions[0].energy_kwh[1] += 0.1).contains(&Row::Balance));
    assert!(broken(|s| s.sessions[0].energy_kwh[0] = 24.0).contains(&Row::Balance));
    assert!(broken(|s| s.sessions[0].energy_kwh[1] = 51.0).contains(&Row::Band));
    assert!(broken(|s| s.sessions[0].energy_kwh[1] = 29.0).contains(&Row::Goal));
    assert!(broken(|s| s.sessions[0].reserves[0].down_kw[0] = -1.0).contains(&Row::Reserve));
    assert!(broken(|s| s.sessions[0].reserves[0].up_charge_kw[0] = 9.0).contains(&Row::Reserve));
    assert!(broken(|s| s.sessions[0].reserves[0].down_kw[0] = 8.0).contains(&Row::PowerHeadroom));
    assert!(
        broken(|s| s.sessions[0].reserves[0].up_discharge_kw[0] = 90.0)
            .contains(&Row::EnergyHeadroom)
    );
    assert!(broken(|s| s.block_mw[0][0] = 1.0).contains(&Row::Pool));
    assert!(broken(|s| s.sessions[0].charge_kw[0] = 13.0).contains(&Row::Site));
    assert_eq!(broken(|s| s.sessions[0].charge_kw.clear()), [Row::Shape]);
    assert!(broken(|s| s.sessions[0].charge_kw[0] = f64::NAN).contains(&Row::Power));
}

fn any_session(steps: usize) -> impl Strategy<Value = Session> {
    let stay =
        (0..steps, 1..=steps).prop_map(move |(first, length)| (first, length.min(steps - first)));
    (
        stay,
        0.0_f64..=1.0,
        0.1_f64..0.9,
        0.0_f64..1.0,
        prop_oneof![Just(0.0), Just(11.0)],
        0.85_f64..1.0,
    )
        .prop_map(
            |((first, length), edge, arrival, goal, discharge_kw, efficiency)| {
                let mut share = vec![1.0; length];
                share[0] = edge;
                Session {
                    site: Some(0),
                    first,
                    share,
                    arrival: 50.0 * arrival,
                    goal: 50.0 * goal,
                    discharge_kw,
                    charge_efficiency: efficiency,
                    discharge_efficiency: efficiency,
                    ..vehicle(length, 50.0 * arrival, 0.0)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked: rows kept, bound below, the gap small, a vehicle more never makes the pool's reserve dearer.
    #[test]
    fn answers_are_feasible_and_bounded(
        sessions in prop::collection::vec(any_session(12), 1..8),
        prices in prop::collection::vec(-150.0_f64..250.0, 12),
        limit in 5.0_f64..60.0,
        reserve in 0.0_f64..200.0,
        window in any::<bool>(),
    ) {
        let mut problem = hours(&prices, sessions);
        problem.step_hours = 0.25;
        problem.sites = vec![limited(limit, limit, &[])];
        problem.reserves = vec![fcr(8, reserve)];
        problem.headroom = if window { Headroom::Window { recovery_steps: 2 } } else { Headroom::Snapshot };
        let outcome = solve(&problem).expect("a valid problem");
        let Outcome::Solved(answer) = outcome else { return Err(TestCaseError::fail(format!("{outcome:?}"))) };
        let violations = check(&problem, &answer.schedule);
        prop_assert!(violations.is_empty(), "{}", violations);
        prop_assert!(answer.lower_bound <= answer.objective);
        prop_assert!(answer.objective - answer.lower_bound < 1e-5 * answer.objective.abs().max(0.1), "{:?}", answer.relative_gap);
        prop_assert!((objective(&problem, &answer.schedule) - answer.objective).abs() < 1e-12);
    }

    /// Full and empty batteries, dead chargers, steps that hardly count, bands of no width: nothing of it may get the
    /// solver stuck.
    #[test]
    fn degenerate_vehicles_are_solved_too(
        kinds in prop::collection::vec((0_usize..5, 0_usize..4, 0_usize..4, 0_usize..4, 0_usize..4), 1..6),
        prices in prop::collection::vec(prop_oneof![Just(0.0), Just(50.0), -100.0_f64..200.0], 12),
        limit in prop_oneof![Just(0.0), Just(10.0), Just(1e9)],
        factor in prop_oneof![Just(1.0), Just(1.25), Just(0.8)],
        window in any::<bool>(),
    ) {
        let sessions = kinds.iter().map(|(level, into, from, share, band)| {
            let whole = vehicle(12 - share, 20.0, 40.0);
            let arrival = [0.0, 5.0, 20.0, 49.999_999, 50.0][*level];
            Session {
                site: Some(0),
                first: *share,
                share: whole.share.iter().enumerate().map(|(j, _)| if j == *share { [0.0, 1e-7, 0.5, 1.0][*share] } else { 1.0 }).collect(),
                arrival,
                floor: [0.0, 5.0, arrival, 1.0][*band].min(arrival),
                charge_kw: [0.0, 1e-3, 11.0, 150.0][*into],
                discharge_kw: [0.0, 1e-3, 11.0, 150.0][*from],
                ..whole
            }
        });
        let mut problem = hours(&prices, sessions.collect());
        problem.step_hours = 0.25;
        problem.sites = vec![limited(limit, limit, &[])];
        let up = Reserve { direction: Direction::Up, power_factor: factor, endurance_hours: 1.0, ..fcr(12, 30.0) };
        problem.reserves = vec![Reserve { power_factor: factor, ..fcr(8, 90.0) }, up];
        problem.headroom = if window { Headroom::Window { recovery_steps: 3 } } else { Headroom::Snapshot };
        let outcome = solve(&problem).expect("a valid problem");
        let Outcome::Solved(answer) = outcome else { return Err(TestCaseError::fail(format!("{outcome:?}"))) };
        let violations = check(&problem, &answer.schedule);
        prop_assert!(violations.is_empty(), "{}", violations);
        prop_assert!(answer.lower_bound <= answer.objective);
        // Two-way vehicles behind a limit of nothing at all have no interior: the bound may then be far off.
        if limit > 0.0 {
        prop_assert!(answer.objective - answer.lower_bound < 1e-4 * answer.objective.abs().max(1.0), "{:?}", answer.relative_gap);
        }
    }
}
