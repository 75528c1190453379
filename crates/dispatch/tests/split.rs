//! Laws of splitting, over random pools.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;

use chrono::TimeDelta;
use dispatch::{Pool, SiteLimit, Split, Told, Unit, split};
use proptest::prelude::*;
use units::Power;

const fn w(watts: i64) -> Power {
    Power::from_watts(watts)
}

fn unit(i: usize, site: usize, numbers: [i64; 6], weight: u32, min_charge: i64) -> Unit {
    let [plan, up, down, low, high, on] = numbers;
    Unit {
        id: format!("e{i:04}").parse().unwrap(),
        site: format!("s{site}").parse().unwrap(),
        plan: w(plan),
        up: w(up),
        down: w(down),
        low: w(low),
        high: w(high.max(low)),
        min_charge: w(min_charge),
        weight: f64::from(weight),
        on: on > 0,
        told: None,
    }
}

fn told(watts: i64, seconds: i64) -> Told {
    Told {
        power: w(watts),
        age: TimeDelta::seconds(seconds),
    }
}

/// Units of at most 22 kW, some of which may discharge and some of which were told something before, at four sites.
fn units(min_charge: i64) -> impl Strategy<Value = Vec<Unit>> {
    let before = prop::option::of((-12_000_i64..23_000, 0_i64..300));
    let one = (
        0_usize..4,
        [
            -12_000_i64..23_000,
            0..4_000,
            0..4_000,
            -11_000..3_000,
            0..22_000,
            0..2,
        ],
        1_u32..6,
        before,
    );
    prop::collection::vec(one, 0..60).prop_map(move |all| {
        all.into_iter()
            .enumerate()
            .map(|(i, (site, n, k, before))| Unit {
                told: before.map(|(watts, seconds)| told(watts, seconds)),
                ..unit(i, site, n, k, min_charge)
            })
            .collect()
    })
}

fn limits() -> impl Strategy<Value = BTreeMap<fleet::SiteId, SiteLimit>> {
    prop::collection::vec((10_000_i64..200_000, 0_i64..100_000), 3).prop_map(|limits| {
        // The fourth site has no limit.
        limits
            .into_iter()
            .enumerate()
            .map(|(s, (import, export))| {
                (
                    format!("s{s}").parse().unwrap(),
                    SiteLimit {
                        import: w(import),
                        export: w(export),
                    },
                )
            })
            .collect()
    })
}

fn by_id(pool: &Pool, split: &Split) -> BTreeMap<String, Power> {
    pool.ids()
        .iter()
        .map(ToString::to_string)
        .zip(split.powers.iter().copied())
        .collect()
}

/// Lowest and highest sum that units and sites allow; needs above a fuse count up to the fuse.
fn reach(units: &[Unit], limits: &BTreeMap<fleet::SiteId, SiteLimit>) -> (i64, i64) {
    let mut sites: BTreeMap<_, (i64, i64)> = BTreeMap::new();
    for u in units {
        let s = sites.entry(u.site.clone()).or_default();
        s.0 += u.low.watts();
        s.1 += u.high.watts();
    }
    sites
        .into_iter()
        .fold((0, 0), |(low, high), (site, (l, h))| {
            let (least, most) = limits.get(&site).map_or((i64::MIN, i64::MAX), |s| {
                (-s.export.watts(), s.import.watts())
            });
            (low + l.clamp(least, most), high + h.clamp(least, most))
        })
}

proptest! {
    #[test]
    fn shares_meet_the_target_as_far_as_limits_allow(
        units in units(0), limits in limits(), target in -800_000_i64..1_500_000,
    ) {
        let pool = Pool::new(units.clone(), &limits);
        let split = split(&pool, w(target));
        let (low, high) = reach(&units, &limits);
        let met: i64 = split.powers.iter().map(|p| p.watts()).sum();
        // Where a need breaks a fuse only the fuse holds: the lower end is then anywhere below it.
        if low == units.iter().map(|u| u.low.watts()).sum::<i64>() || target >= low {
            prop_assert_eq!(met, target.clamp(low, high));
        }
        prop_assert_eq!(split.shortfall, w(target - met));
    }

    #[test]
    fn no_unit_leaves_its_limits_and_no_site_its_fuse(
        units in units(0), limits in limits(), target in -800_000_i64..1_500_000,
    ) {
        let pool = Pool::new(units.clone(), &limits);
        let powers = by_id(&pool, &split(&pool, w(target)));
        let mut sites: BTreeMap<_, (i64, i64)> = BTreeMap::new();
        for u in &units {
            let power = powers[u.id.as_str()];
            prop_assert!(power <= u.high, "{} {power} above {}", u.id, u.high);
            let s = sites.entry(u.site.clone()).or_default();
            s.0 += power.watts();
            s.1 += u.low.watts();
        }
        for (site, (sum, low)) in sites {
            if let Some(limit) = limits.get(&site) {
                prop_assert!(sum <= limit.import.watts());
                prop_assert!(sum >= -limit.export.watts());
                if low <= limit.import.watts() {
                    for u in units.iter().filter(|u| u.site == site) {
                        prop_assert!(powers[u.id.as_str()] >= u.low, "needs are kept where the fuse carries them");
                    }
                }
            }
        }
    }

    #[test]
    fn the_order_in_which_units_are_told_does_not_matter(
        units in units(4_140), limits in limits(), target in -800_000_i64..1_500_000, turn in 0_usize..60,
    ) {
        let mut other = units.clone();
        if !other.is_empty() {
            let turn = turn % other.len();
            other.rotate_left(turn);
            other.reverse();
        }
        let (a, b) = (Pool::new(units, &limits), Pool::new(other, &limits));
        prop_assert_eq!(by_id(&a, &split(&a, w(target))), by_id(&b, &split(&b, w(target))));
    }

    #[test]
    fn a_unit_charges_at_no_less_than_its_least_power_or_not_at_all(
        units in units(4_140), limits in limits(), target in -800_000_i64..1_500_000,
    ) {
        let whole: Vec<Unit> = units
            .into_iter()
            .map(|mut u| {
                // As an envelope gives them: between nothing and the least power there is nothing.
                if u.low > Power::ZERO { u.low = w(4_140) }
                if u.high < w(4_140) && u.high > Power::ZERO { u.high = Power::ZERO }
                u.high = u.high.max(u.low);
                u
            })
            .collect();
        let pool = Pool::new(whole.clone(), &BTreeMap::new());
        let split_up = split(&pool, w(target));
        let powers = by_id(&pool, &split_up);
        for u in &whole {
            let power = powers[u.id.as_str()];
            prop_assert!(power <= Power::ZERO || power >= w(4_140), "{} got {power}", u.id);
            prop_assert!(u.low <= power && power <= u.high);
        }
        let (low, high) = reach(&whole, &BTreeMap::new());
        let off = (split_up.shortfall.watts() - (target - target.clamp(low, high))).abs();
        prop_assert!(off < 4_140, "off by {off} W, which one more or less unit would mend");
        let _ = limits;
    }

    #[test]
    fn what_the_planned_shares_carry_moves_nobody_else(call in 0_i64..2_000) {
        let units = vec![
            unit(0, 0, [5_000, 2_000, 0, 0, 11_000, 1], 1, 0),
            unit(1, 0, [5_000, 0, 0, 0, 11_000, 1], 1, 0),
        ];
        let pool = Pool::new(units, &BTreeMap::new());
        let split = split(&pool, w(10_000 - call));
        prop_assert_eq!(split.powers, vec![w(5_000 - call), w(5_000)]);
    }
}

/// Units that hold 2 kW up and 1 kW down around 5 kW.
fn holding(count: usize) -> Vec<Unit> {
    (0..count)
        .map(|i| unit(i, i / 100, [5_000, 2_000, 1_000, 0, 11_000, 1], 1, 1_380))
        .collect()
}

/// The pool a second later, everybody told what was split.
fn later(units: &mut [Unit], split: &Split) -> usize {
    let mut moved = 0;
    for (unit, power) in units.iter_mut().zip(&split.powers) {
        let same = unit.told.filter(|before| before.power == *power);
        moved += usize::from(same.is_none());
        let age = same.map_or(0, |before| before.age.num_seconds());
        unit.told = Some(told(power.watts(), age + 1));
    }
    moved
}

#[test]
fn a_call_that_moves_a_little_moves_few() {
    let mut units = holding(1_000);
    let split_at = |units: &[Unit], call: i64| {
        split(
            &Pool::new(units.to_vec(), &BTreeMap::new()),
            w(5_000_000 - call),
        )
    };
    let first = split_at(&units, 500_000);
    assert_eq!(
        later(&mut units, &first),
        1_000,
        "nobody had been told before"
    );
    let giving = |s: &Split| s.powers.iter().filter(|p| **p == w(3_000)).count();
    assert_eq!(giving(&first), 250, "those that give, give all they hold");
    for (call, most) in [
        (540_000, 21),
        (540_000, 0),
        (500_300, 21),
        (0, 252),
        (-50_000, 51),
        (40_000, 72),
    ] {
        let next = split_at(&units, call);
        assert_eq!(next.shortfall, Power::ZERO);
        let moved = later(&mut units, &next);
        assert!(moved <= most, "{moved} moved for a call of {call} W");
    }
}

#[test]
fn giving_goes_round() {
    let mut units = holding(100);
    let mut given = vec![0_i64; units.len()];
    let (mut moved, mut most) = (0, 0);
    for second in 0..3_600 {
        let pool = Pool::new(units.clone(), &BTreeMap::new());
        let split = split(&pool, w(500_000 - 60_000));
        assert_eq!(split.shortfall, Power::ZERO);
        for (given, power) in given.iter_mut().zip(&split.powers) {
            *given += 5_000 - power.watts();
        }
        let told = later(&mut units, &split);
        if second > 0 {
            moved += told;
            most = most.max(told);
        }
    }
    // Thirty of a hundred give at a time; an hour is twenty turns and more.
    let (least, greatest) = (given.iter().min().unwrap(), given.iter().max().unwrap());
    let mean = 3_600 * 60_000 / 100;
    assert!(
        *least > mean / 2 && *greatest < 2 * mean,
        "{least} to {greatest} Ws of {mean}"
    );
    assert!(
        moved < 2 * 30 * 40 && most <= 30,
        "{moved} moved, {most} at once"
    );
}

#[test]
fn beyond_the_plan_those_with_time_to_spare_go_first_and_ties_go_by_name() {
    let units = vec![
        unit(0, 0, [0, 0, 0, 0, 11_000, 0], 1, 0),
        unit(1, 0, [0, 0, 0, 0, 11_000, 0], 2, 0),
        unit(2, 1, [0, 0, 0, 0, 11_000, 0], 2, 0),
    ];
    let pool = Pool::new(units, &BTreeMap::new());
    assert_eq!(
        split(&pool, w(14_000)).powers,
        vec![w(11_000), w(3_000), w(0)]
    );
    let same = (0..3)
        .map(|i| unit(i, 0, [0, 0, 0, 0, 11_000, 0], 1, 0))
        .collect();
    let pool = Pool::new(same, &BTreeMap::new());
    assert_eq!(split(&pool, w(10)).powers, vec![w(10), w(0), w(0)]);
}

#[test]
fn a_site_at_its_fuse_leaves_the_rest_to_others() {
    let units = (0..4)
        .map(|i| unit(i, i / 2, [0, 0, 0, 0, 11_000, 0], 1, 0))
        .collect();
    let fuse = SiteLimit {
        import: w(5_000),
        export: w(0),
    };
    let pool = Pool::new(units, &BTreeMap::from([("s0".parse().unwrap(), fuse)]));
    let split = split(&pool, w(20_000));
    assert_eq!(split.powers, vec![w(5_000), w(0), w(11_000), w(4_000)]);
    assert_eq!(split.shortfall, Power::ZERO);
}

#[test]
fn those_that_charge_already_stay_on_first() {
    let units = vec![
        unit(0, 0, [0, 0, 0, 0, 11_000, 0], 1, 4_140),
        unit(1, 0, [0, 0, 0, 0, 11_000, 1], 1, 4_140),
    ];
    let pool = Pool::new(units, &BTreeMap::new());
    assert_eq!(split(&pool, w(5_000)).powers, vec![w(0), w(5_000)]);
    assert_eq!(
        split(&pool, w(3_000)).powers,
        vec![w(0), w(0)],
        "less than one can charge at"
    );
}

#[test]
fn an_empty_pool_falls_short_of_everything() {
    let split = split(&Pool::default(), w(-5));
    assert_eq!((split.powers.len(), split.shortfall), (0, w(-5)));
}

#[test]
fn a_fuse_that_others_use_up_leaves_nothing_and_never_panics() {
    let units: Vec<Unit> = (0..3)
        .map(|i| unit(i, 0, [3_000, 0, 0, 1_000, 11_000, 1], 1, 0))
        .collect();
    for left in [-50_000, -1, 0, 2_000, 40_000] {
        let limit = SiteLimit {
            import: w(10_000),
            export: w(10_000),
        }
        .beside(w(10_000 - left));
        let pool = Pool::new(
            units.clone(),
            &BTreeMap::from([("s0".parse().unwrap(), limit)]),
        );
        for target in [-50_000, 0, 9_000, 50_000] {
            let split = split(&pool, w(target));
            let sum: Power = split.powers.iter().copied().sum();
            assert!(sum <= w(left.max(0)), "{sum} of {left} W");
        }
    }
}
