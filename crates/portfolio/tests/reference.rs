//! The solver of R against an independent one: HiGHS on the contract's own rows (`reference/solve_r.py`).
//!
//! Runs where `SHOAL_PYTHON` names an interpreter with `highspy` and `numpy`; without it the comparison says so.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::panic,
    reason = "numbers made from seeds; a test says what it met"
)]

#[path = "reference/synthetic.rs"]
mod synthetic;

use portfolio::reference::{
    Answer, Effort, Headroom, Outcome, Problem, check, solve, solve_on, solve_with,
};
use synthetic::{Kind, problem};

const WINDOW: Headroom = Headroom::Window { recovery_steps: 2 };

/// Families of problems, by name.
fn families() -> Vec<(&'static str, Kind)> {
    let energy = Kind::energy(12, 96);
    let sites = Kind {
        sites: 2,
        tightness: 0.25,
        ..energy
    };
    vec![
        ("energy", energy),
        (
            "energy at negative prices",
            Kind {
                negative_prices: true,
                ..energy
            },
        ),
        ("one-way energy", Kind { v2g: 0.0, ..energy }),
        ("sites", sites),
        (
            "tight sites at negative prices",
            Kind {
                tightness: 0.05,
                negative_prices: true,
                ..sites
            },
        ),
        (
            "base load that vehicles must make up for",
            Kind {
                base: (-0.5, 0.45),
                ..sites
            },
        ),
        (
            "base load in the way of FCR",
            Kind {
                base: (-0.3, 0.25),
                fcr: Some(WINDOW),
                ..sites
            },
        ),
        ("one-way sites", Kind { v2g: 0.0, ..sites }),
        (
            "FCR, snapshot",
            Kind {
                fcr: Some(Headroom::Snapshot),
                ..energy
            },
        ),
        (
            "FCR, window",
            Kind {
                fcr: Some(WINDOW),
                ..energy
            },
        ),
        (
            "FCR, window, one-way",
            Kind {
                fcr: Some(WINDOW),
                v2g: 0.0,
                ..energy
            },
        ),
        (
            "FCR, snapshot, one-way, sites",
            Kind {
                fcr: Some(Headroom::Snapshot),
                v2g: 0.0,
                ..sites
            },
        ),
        (
            "FCR and aFRR, window",
            Kind {
                fcr: Some(WINDOW),
                afrr: true,
                ..energy
            },
        ),
        (
            "FCR and aFRR, snapshot, sites",
            Kind {
                fcr: Some(Headroom::Snapshot),
                afrr: true,
                ..sites
            },
        ),
        (
            "FCR and aFRR, long window, sites, negative",
            Kind {
                fcr: Some(Headroom::Window { recovery_steps: 4 }),
                afrr: true,
                negative_prices: true,
                ..sites
            },
        ),
        (
            "aFRR alone",
            Kind {
                afrr: true,
                ..energy
            },
        ),
    ]
}

fn seeds() -> u64 {
    std::env::var_os("SHOAL_REFERENCE_SEEDS")
        .and_then(|n| n.to_str()?.parse().ok())
        .unwrap_or(4)
}

fn solved(name: &str, seed: u64, problem: &Problem) -> Option<Answer> {
    match solve(problem).expect("a valid problem") {
        Outcome::Solved(answer) => Some(*answer),
        Outcome::Infeasible(_) => None,
        Outcome::Stalled { reason } => panic!("{name}, seed {seed}: stalled: {reason}"),
    }
}

#[test]
fn schedules_keep_every_row_and_their_bounds_hold() {
    for (name, kind) in families() {
        for seed in 0..seeds() {
            let problem = problem(kind, seed);
            let Some(answer) = solved(name, seed, &problem) else {
                continue;
            };
            let violations = check(&problem, &answer.schedule);
            assert!(violations.is_empty(), "{name}, seed {seed}: {violations}");
            assert!(
                answer.lower_bound <= answer.objective,
                "{name}, seed {seed}"
            );
            assert!(
                answer.relative_gap < 1e-5 || answer.objective - answer.lower_bound < 1e-6,
                "{name}, seed {seed}: gap {} of {}",
                answer.relative_gap,
                answer.objective
            );
        }
    }
}

#[test]
fn the_order_of_sessions_and_the_number_of_threads_do_not_change_the_value() {
    for (name, kind) in families() {
        let problem = problem(kind, 77);
        let Some(answer) = solved(name, 77, &problem) else {
            continue;
        };
        let one = solve_on(&problem, 1)
            .expect("a valid problem")
            .answer()
            .expect("an answer");
        assert_eq!(one, answer, "{name}");
        let mut turned = problem.clone();
        turned.sessions.reverse();
        let turned = solved(name, 77, &turned).expect("as feasible as before");
        let tolerance = 1e-5 * answer.objective.abs().max(1.0);
        assert!(
            (turned.objective - answer.objective).abs() < tolerance,
            "{name}: {} {}",
            turned.objective,
            answer.objective
        );
    }
}

#[test]
fn an_independent_solver_finds_the_same_objective() {
    let Some(python) = std::env::var_os("SHOAL_PYTHON") else {
        eprintln!(
            "skipped: SHOAL_PYTHON does not name a Python with highspy, so there is nothing to compare with"
        );
        return;
    };
    let cases: Vec<(&str, u64, Problem)> = families()
        .into_iter()
        .flat_map(|(name, kind)| (0..seeds()).map(move |seed| (name, seed, problem(kind, seed))))
        .collect();
    let problems: Vec<&Problem> = cases.iter().map(|(_, _, problem)| problem).collect();
    let file = std::env::temp_dir().join(format!("shoal-reference-{}.json", std::process::id()));
    std::fs::write(&file, serde_json::to_vec(&problems).expect("plain numbers"))
        .expect("a writable folder");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/solve_r.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(&file)
        .output()
        .expect("an interpreter");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    std::fs::remove_file(&file).expect("our own file");
    let text = String::from_utf8(output.stdout).expect("JSON");
    // HiGHS itself may print a line of its own in between.
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(lines.len(), cases.len(), "{text}");
    let (mut worst, mut infeasible) = (0.0_f64, 0);
    for ((name, seed, problem), line) in cases.iter().zip(lines) {
        let theirs: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let ours = solved(name, *seed, problem);
        let Some(objective) = theirs["objective"].as_f64() else {
            assert!(
                ours.is_none(),
                "{name}, seed {seed}: {theirs} against {:?}",
                ours.map(|a| a.objective)
            );
            infeasible += 1;
            continue;
        };
        let ours =
            ours.unwrap_or_else(|| panic!("{name}, seed {seed}: infeasible against {objective}"));
        let off = (ours.objective - objective).abs() / objective.abs().max(1.0);
        assert!(
            off < 1e-5,
            "{name}, seed {seed}: {} against {objective}",
            ours.objective
        );
        assert!(
            ours.lower_bound <= objective + 1e-6 * objective.abs().max(1.0),
            "{name}, seed {seed}: bound above"
        );
        worst = worst.max(off);
    }
    eprintln!(
        "{} problems, {infeasible} without a schedule, objectives at most {worst:e} apart",
        cases.len()
    );
}

/// Families the structured path has rows for.
fn structured_families() -> Vec<(&'static str, Kind)> {
    let pool = Kind {
        fcr: Some(WINDOW),
        ..Kind::energy(40, 96)
    };
    let sites = Kind {
        sites: 5,
        tightness: 0.3,
        ..pool
    };
    vec![
        ("window", pool),
        ("window, one-way", Kind { v2g: 0.0, ..pool }),
        ("window, sites", sites),
        (
            "window, base load at tight sites",
            Kind {
                base: (-0.3, 0.25),
                tightness: 0.15,
                ..sites
            },
        ),
        (
            "window, negative prices",
            Kind {
                negative_prices: true,
                ..sites
            },
        ),
        (
            "windows without recovery",
            Kind {
                fcr: Some(Headroom::Window { recovery_steps: 0 }),
                ..pool
            },
        ),
        (
            "snapshot, sites",
            Kind {
                fcr: Some(Headroom::Snapshot),
                ..sites
            },
        ),
        ("sites without a pool", Kind { fcr: None, ..sites }),
    ]
}

fn answered(problem: &Problem, effort: Effort) -> Option<Answer> {
    solve_with(problem, effort)
        .expect("a valid problem")
        .answer()
}

const STRUCTURED: Effort = Effort {
    threads: 2,
    structured_from: 2,
    gap: 5e-5,
    few: None,
};

const GENERAL: Effort = Effort {
    structured_from: usize::MAX,
    ..STRUCTURED
};

#[test]
fn the_structured_path_and_the_general_one_prove_the_same_optimum() {
    let mut taken = 0;
    for (name, kind) in structured_families() {
        let mut other = 0;
        for seed in 0..seeds() {
            let problem = problem(kind, 100 + seed);
            let Some(general) = answered(&problem, GENERAL) else {
                continue;
            };
            let answer = answered(&problem, STRUCTURED).expect("as feasible as for the other");
            let violations = check(&problem, &answer.schedule);
            assert!(violations.is_empty(), "{name}, seed {seed}: {violations}");
            let size = general.objective.abs().max(1.0);
            assert!(
                answer.objective - answer.lower_bound <= 1e-3 * size,
                "{name}, seed {seed}: {} {}",
                answer.lower_bound,
                answer.objective
            );
            assert!(
                answer.lower_bound <= general.objective + 1e-7 * size
                    && general.lower_bound <= answer.objective + 1e-7 * size,
                "{name}, seed {seed}: {}..{} against {}..{}",
                answer.lower_bound,
                answer.objective,
                general.lower_bound,
                general.objective
            );
            other += u32::from(answer.schedule != general.schedule);
        }
        taken += u32::from(other > 0);
    }
    // Where limits leave next to no interior the path may give up, and the general solver answers.
    assert!(
        taken >= 3,
        "the structured path was taken in {taken} families"
    );
}

#[test]
fn a_few_sites_balance_a_pool_and_keep_every_row_under_a_bound_that_holds() {
    let kind = Kind {
        fcr: Some(WINDOW),
        sites: 60,
        tightness: 0.5,
        // A one-way vehicle that arrives full has no interior, and all would go to the general solver.
        v2g: 1.0,
        ..Kind::energy(960, 96)
    };
    let problem = problem(kind, 1);
    let whole = answered(&problem, STRUCTURED).expect("feasible");
    // With so few, one vehicle's jump is percents.
    let balanced = Effort {
        gap: 1e-2,
        few: Some(320),
        ..STRUCTURED
    };
    let split = answered(&problem, balanced).expect("feasible");
    assert!(check(&problem, &split.schedule).is_empty());
    assert!(split.lower_bound <= whole.objective && whole.lower_bound <= split.objective);
    assert!(split.relative_gap < 0.05, "{}", split.relative_gap);
    let one = answered(
        &problem,
        Effort {
            threads: 1,
            ..balanced
        },
    );
    assert!(one == Some(split), "another answer on one thread");
    let one = answered(
        &problem,
        Effort {
            threads: 1,
            ..STRUCTURED
        },
    );
    assert!(one == Some(whole), "another answer on one thread");
}
