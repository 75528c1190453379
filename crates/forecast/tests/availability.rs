//! The availability forecast as its callers see it: laws that hold for any history, and histories that are not as they should be.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops where it cannot go on, helpers included"
)]

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc, Weekday};
use chrono_tz::Tz;
use forecast::Quantity;
use forecast::availability::evaluate::{NoTest, Test, evaluate};
use forecast::availability::{
    Ask, Availability, Bound, Expected, Forecaster, Log, Metered, QUANTITIES, Said, Slack, Visit,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use units::{Energy, Interval, Power};

const ZONE: Tz = Tz::America__Los_Angeles;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn local(day: NaiveDate, minutes: i64) -> DateTime<Utc> {
    let midnight = day.and_hms_opt(0, 0, 0).unwrap();
    units::local_instant(ZONE, midnight + TimeDelta::minutes(minutes))
}

fn visit(start: DateTime<Utc>, minutes: i64, kwh: f64, user: u32) -> Visit {
    Visit {
        span: Interval::try_new(start, start + TimeDelta::minutes(minutes)).unwrap(),
        energy: Energy::from_kwh(kwh),
        charge: Power::from_watts(6_600),
        rating: Some(Power::from_watts(6_600)),
        discharge: Power::from_watts(11_000),
        outlet: None,
        user: Some(user),
        group: 0,
        class: 0,
        metered: None,
        slack: None,
        said: user.is_multiple_of(3).then(|| Said {
            departure: start + TimeDelta::minutes(minutes + 20),
            energy: Some(Energy::from_kwh(kwh + 5.0)),
        }),
    }
}

/// A workplace: some thirty cars on working days, fewer on Fridays of every second week, some days fuller than others.
fn workplace(first: NaiveDate, days: i64) -> Vec<Visit> {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut visits = Vec::new();
    for back in 0..days {
        let day = first + TimeDelta::days(back);
        let full: f64 = 0.6 + 0.4 * rng.random::<f64>();
        let share = match day.weekday() {
            Weekday::Sat | Weekday::Sun => 0.05,
            Weekday::Fri if (day.num_days_from_ce() - 1) / 7 % 2 == 0 => 0.15,
            Weekday::Mon | Weekday::Tue | Weekday::Wed | Weekday::Thu | Weekday::Fri => full,
        };
        for user in 0..40 {
            if rng.random::<f64>() < share {
                let start = local(day, 420 + rng.random_range(0..180));
                let minutes = rng.random_range(300..600);
                visits.push(visit(start, minutes, rng.random_range(4.0..30.0), user));
            }
        }
    }
    visits
}

fn ask(hours: usize) -> Ask {
    Ask {
        step: TimeDelta::minutes(60),
        hours,
        paths: 60,
        seed: 3,
        by_group: false,
        threads: 1,
    }
}

fn bits(ahead: &Availability) -> Vec<u32> {
    QUANTITIES
        .iter()
        .flat_map(|q| ahead.paths.of(*q).iter().map(|v| v.to_bits()))
        .collect()
}

fn forecast(visits: &[Visit], until: DateTime<Utc>) -> Availability {
    let log = Log::new(ZONE, visits);
    Forecaster::new(&log).forecast(until, &ask(40))
}

/// The visits ahead on a few paths, after what was learned.
fn one_by_one(visits: &[Visit], until: DateTime<Utc>) -> Vec<Vec<Interval>> {
    let log = Log::new(ZONE, visits);
    let mut forecaster = Forecaster::new(&log);
    forecaster.refit(until, &ask(40));
    let scenarios = forecaster.scenarios(until, until + TimeDelta::hours(12), 3, &ask(40));
    let spans = |e: &Expected| e.stays.iter().map(|s| s.span).collect();
    scenarios.iter().map(spans).collect()
}

#[test]
fn nothing_after_the_origin_changes_a_forecast() {
    let visits = workplace(date("2019-06-03"), 70);
    let until = local(date("2019-07-25"), 11 * 60);
    let whole = forecast(&visits, until);
    let single = one_by_one(&visits, until);
    let known = |v: &&Visit| v.span.start() <= until;

    // Deleted: what began later is gone; what lasts ends a minute later, and took something else.
    let cut: Vec<Visit> = visits
        .iter()
        .filter(known)
        .cloned()
        .map(|mut v| {
            if v.span.end() > until {
                let end = until + TimeDelta::minutes(1);
                v.span = Interval::try_new(v.span.start(), end).unwrap();
                v.energy = Energy::from_kwh(99.0);
            }
            v
        })
        .collect();
    assert_eq!(bits(&whole), bits(&forecast(&cut, until)));
    assert_eq!(single, one_by_one(&cut, until));

    // Shuffled: later visits swap their lengths and users, lasting ones their ends.
    let mut ends: Vec<(TimeDelta, Energy)> = visits
        .iter()
        .filter(|v| v.span.end() > until)
        .map(|v| (v.span.end() - v.span.start(), v.energy))
        .collect();
    ends.reverse();
    let mut ends = ends.into_iter();
    let shuffled: Vec<Visit> = visits
        .iter()
        .cloned()
        .map(|mut v| {
            if v.span.end() > until {
                let (length, energy) = ends.next().unwrap();
                let end = (v.span.start() + length).max(until + TimeDelta::minutes(1));
                v.span = Interval::try_new(v.span.start(), end).unwrap();
                v.energy = energy;
            }
            v
        })
        .collect();
    assert_eq!(bits(&whole), bits(&forecast(&shuffled, until)));
    assert_eq!(single, one_by_one(&shuffled, until));

    // The test can fail: a change before the origin shows.
    let mut changed = visits;
    changed.retain(|v| v.span.start().with_timezone(&ZONE).date_naive() != date("2019-07-24"));
    assert_ne!(bits(&whole), bits(&forecast(&changed, until)));
}

#[test]
fn the_answer_does_not_depend_on_what_was_asked_before() {
    let log = Log::new(ZONE, workplace(date("2019-06-03"), 60));
    let until = local(date("2019-07-25"), 15 * 60);
    let fresh = Forecaster::new(&log).forecast(until, &ask(30));
    let mut asked = Forecaster::new(&log);
    for day in ["2019-07-23", "2019-07-24", "2019-07-26"] {
        asked.forecast(local(date(day), 540), &ask(30));
    }
    assert_eq!(bits(&fresh), bits(&asked.forecast(until, &ask(30))));
}

#[test]
fn vehicles_are_whole_and_nothing_is_negative_or_more_than_the_vehicles_can() {
    let ahead = forecast(
        &workplace(date("2019-06-03"), 60),
        local(date("2019-07-24"), 540),
    );
    let all = |q| ahead.paths.of(q).iter().copied();
    for quantity in QUANTITIES {
        assert!(all(quantity).all(|v| v.is_finite() && v >= 0.0));
    }
    assert!(all(Quantity::PluggedIn).all(|v| v.fract() < 1e-6));
    let empty = all(Quantity::PluggedIn).zip(all(Quantity::PowerUp));
    assert!(empty.filter(|(n, _)| *n < 0.5).all(|(_, kw)| kw < 1e-6));
}

#[test]
fn quantiles_do_not_cross() {
    let ahead = forecast(
        &workplace(date("2019-06-03"), 60),
        local(date("2019-07-24"), 540),
    );
    for quantity in QUANTITIES {
        for step in 0..ahead.paths.steps() {
            let band = ahead.band(quantity, step).unwrap();
            assert!(band.values().windows(2).all(|w| w[0] <= w[1]));
        }
    }
}

#[test]
fn every_second_friday_is_found_by_the_data_and_forecast_so() {
    let visits = workplace(date("2019-06-03"), 120);
    let log = Log::new(ZONE, &visits);
    let mut forecaster = Forecaster::new(&log);
    let noon = |day: &str| {
        let day = date(day);
        (local(day - TimeDelta::days(1), 540), 27)
    };
    let (quiet, step) = noon("2019-09-20");
    let ahead = forecaster.forecast(quiet, &ask(40));
    assert_eq!(
        ahead.rhythm,
        [false, false, false, false, true, false, false]
    );
    let median = |a: &Availability| a.band(Quantity::PluggedIn, step).unwrap().median();
    let first = median(&ahead);
    let (busy, _) = noon("2019-09-27");
    let second = median(&forecaster.forecast(busy, &ask(40)));
    let (low, high) = (first.min(second), first.max(second));
    assert!(low < 12.0 && high > 18.0, "{first} and {second}");
}

#[test]
fn two_fridays_of_each_kind_that_differ_by_far_are_told_apart() {
    let first = date("2019-06-03");
    let cars = |day: NaiveDate| match day.weekday() {
        Weekday::Sat | Weekday::Sun => 1,
        Weekday::Fri if (day.num_days_from_ce() - 1) / 7 % 2 == 0 => 5,
        Weekday::Mon | Weekday::Tue | Weekday::Wed | Weekday::Thu | Weekday::Fri => {
            30 + day.day() % 3
        }
    };
    let rhythm = |weeks: i64| {
        let days = (0..7 * weeks).map(|back| first + TimeDelta::days(back));
        let come = |day| (0..cars(day)).map(move |car| (day, car));
        let visits: Vec<Visit> = days
            .flat_map(come)
            .map(|(day, car)| visit(local(day, 420 + 5 * i64::from(car)), 480, 10.0, car))
            .collect();
        forecast(&visits, local(first + TimeDelta::weeks(weeks), 0)).rhythm
    };
    assert_eq!(rhythm(3), [false; 7], "one Friday of a kind says nothing");
    assert_eq!(rhythm(4), [false, false, false, false, true, false, false]);
}

#[test]
fn the_first_work_day_of_a_site_stands_for_the_next_one() {
    // Friday with many, a weekend with hardly anybody.
    let friday = date("2019-06-14");
    let visits = workplace(friday, 3);
    let monday = friday + TimeDelta::days(3);
    let of_day = |day: NaiveDate| {
        let began =
            |v: &&Visit| v.span.start() >= local(day, 0) && v.span.start() < local(day, 1440);
        f64::from(u32::try_from(visits.iter().filter(began).count()).unwrap())
    };
    assert!(of_day(friday) > 15.0 && of_day(monday - TimeDelta::days(1)) < 5.0);
    let ahead = forecast(&visits, local(monday, 0));
    let noon = ahead.paths.sorted(Quantity::PluggedIn, 12);
    let median = f64::from(noon[noon.len() / 2]);
    assert!(
        median > 0.5 * of_day(friday),
        "{median} of {}",
        of_day(friday)
    );
}

#[test]
fn paths_keep_what_goes_together_and_shuffled_ones_lose_it() {
    let log = Log::new(ZONE, workplace(date("2019-05-06"), 98));
    let test = Test {
        from: date("2019-07-22"),
        to: date("2019-08-10"),
        special: Vec::new(),
        paths: 100,
        seed: 1,
        threads: 2,
    };
    let found = evaluate(&log, &test, &mut |_, _| ()).unwrap();
    let joint = &found.joint;
    assert!(
        (0.80..=0.98).contains(&joint.block_sum.band_90),
        "{joint:?}"
    );
    assert!(joint.block_sum_shuffled.band_90 < 0.82, "{joint:?}");
    assert!(joint.block_sum_shuffled.band_90 < joint.block_sum.band_90 - 0.05);
    let count = &found.quantities[0].pinball;
    assert!(count.below_best_percent > 0.0, "{count:?}");
}

#[test]
fn a_clock_change_inside_the_horizon_keeps_the_local_clock() {
    // Sunday 2019-11-03 has 25 hours; nobody comes on it, and cars come from 07:00 on Monday.
    let visits = workplace(date("2019-08-05"), 91);
    let until = local(date("2019-11-02"), 20 * 60);
    let ahead = forecast(&visits, until);
    let at = |hour: i64| {
        let hours = (local(date("2019-11-04"), hour * 60) - until).num_hours();
        ahead
            .band(Quantity::PluggedIn, usize::try_from(hours).unwrap())
            .unwrap()
            .median()
    };
    assert!(at(5) < 1.0 && at(10) > 10.0, "{} {}", at(5), at(10));
}

#[test]
fn histories_that_are_not_as_they_should_be_are_doubted_or_refused_and_never_not_a_number() {
    let until = local(date("2019-07-25"), 540);
    let sane = |visits: &[Visit], words: &str| {
        let ahead = forecast(visits, until);
        for quantity in QUANTITIES {
            assert!(
                ahead
                    .paths
                    .of(quantity)
                    .iter()
                    .all(|v| v.is_finite() && *v >= 0.0)
            );
        }
        let doubts = ahead.doubts.join("; ");
        assert!(doubts.contains(words), "{doubts:?} / {words}");
    };
    let three: Vec<Visit> = (1..4)
        .map(|d| {
            visit(
                local(date("2019-07-20") + TimeDelta::days(d), 500),
                300,
                10.0,
                1,
            )
        })
        .collect();
    sane(&three, "only 3 visits");
    sane(&[], "no visit");
    let alike: Vec<Visit> = (0..60)
        .map(|d| {
            visit(
                local(date("2019-05-20") + TimeDelta::days(d), 480),
                480,
                12.0,
                1,
            )
        })
        .collect();
    sane(&alike, "");
    let office = workplace(date("2019-06-03"), 60);
    let twice: Vec<Visit> = office.iter().chain(&office[..40]).cloned().collect();
    sane(&twice, "40 repeated");
    assert_eq!(
        bits(&forecast(&office, until)),
        bits(&forecast(&twice, until))
    );
    let mut endless = office.clone();
    endless.push(visit(local(date("2018-06-01"), 480), 365 * 1440, 50.0, 2));
    sane(&endless, "1 endless");
    // 1.4 MWh at 6.6 kW: counted with what sixteen hours bring.
    let night = |kwh| {
        let mut visits = office.clone();
        visits.push(visit(local(date("2019-07-03"), 960), 16 * 60, kwh, 4));
        visits
    };
    sane(&night(1430.0), "1 visits had more energy");
    assert_eq!(
        bits(&forecast(&night(1430.0), until)),
        bits(&forecast(&night(16.0 * 6.6), until))
    );
    // A bus may take more than a car.
    let bus = forecast(&night(400.0), until).doubts.join("; ");
    assert!(!bus.contains("energy"), "{bus}");
    let gap: Vec<Visit> = office
        .into_iter()
        .filter(|v| {
            let day = v.span.start().with_timezone(&ZONE).date_naive();
            !(date("2019-06-20")..date("2019-07-10")).contains(&day)
        })
        .collect();
    sane(&gap, "");
}

#[test]
fn a_hole_in_the_data_is_no_empty_car_park() {
    let office = workplace(date("2019-05-06"), 80);
    let hole: Vec<Visit> = office
        .into_iter()
        .filter(|v| {
            let day = v.span.start().with_timezone(&ZONE).date_naive();
            !(date("2019-06-24")..date("2019-07-15")).contains(&day)
        })
        .collect();
    let ahead = forecast(&hole, local(date("2019-07-22"), 6 * 60));
    let noon = ahead.band(Quantity::PluggedIn, 6).unwrap();
    assert!(noon.median() > 15.0, "{noon:?}");
    assert!(noon.values()[0] > 5.0, "{noon:?}");
}

#[test]
fn a_test_without_anything_to_train_on_or_to_score_is_refused() {
    let log = Log::new(ZONE, workplace(date("2019-06-03"), 14));
    let test = |from: &str, to: &str| Test {
        from: date(from),
        to: date(to),
        special: Vec::new(),
        paths: 20,
        seed: 1,
        threads: 2,
    };
    let run = |test| evaluate(&log, &test, &mut |_, _| ()).unwrap_err();
    assert!(matches!(
        run(test("2019-06-01", "2019-06-10")),
        NoTest::Untrained(_)
    ));
    assert!(matches!(
        run(test("2019-09-01", "2019-09-10")),
        NoTest::Unseen(_)
    ));
    assert!(matches!(
        run(test("2019-06-10", "2019-06-10")),
        NoTest::Empty { .. }
    ));
}

#[test]
fn a_model_no_better_than_the_naive_one_raises_the_alarm_and_steps_back() {
    let first = date("2019-05-06");
    let mut visits = Vec::new();
    let mut off = Vec::new();
    // Eight weeks in which nobody comes on days off, then two in which the calendar says every day is one and everybody comes.
    for back in 0..71 {
        let day = first + TimeDelta::days(back);
        let free = matches!(day.weekday(), Weekday::Wed | Weekday::Thu);
        if free || back >= 56 {
            off.push(day);
        }
        for user in 0..20 {
            if !free && (user + u32::try_from(back).unwrap()) % 9 != 0 {
                let start = local(day, 480 + i64::from(user % 7));
                visits.push(visit(start, 480, 10.0, user));
            }
        }
    }
    let log = Log::new(ZONE, &visits).with_days_off(off);
    let monday = first + TimeDelta::days(70);
    let until = local(monday, 6 * 60);
    let ahead = Forecaster::new(&log).forecast(until, &ask(24));
    assert!(ahead.fallen_back, "{:?}", ahead.against_naive);
    assert!(ahead.doubts.iter().any(|d| d.contains("naive")));
    let noon = ahead.band(Quantity::PluggedIn, 6).unwrap();
    assert!((16.0..=19.0).contains(&noon.median()), "{noon:?}");

    let sound = workplace(date("2019-05-06"), 80);
    let log = Log::new(ZONE, &sound);
    let ahead = Forecaster::new(&log).forecast(local(date("2019-07-22"), 360), &ask(24));
    assert!(!ahead.fallen_back && ahead.against_naive.is_some());
}

/// The workplace with its cars spread over three groups; every fourth battery's state of charge is known.
fn divided() -> Vec<Visit> {
    let office = workplace(date("2019-06-03"), 60).into_iter();
    let divided = office.enumerate().map(|(i, v)| Visit {
        group: u32::try_from(i % 3).unwrap(),
        class: u32::try_from(i % 3 / 2).unwrap(),
        slack: (i % 4 == 0).then(|| Slack {
            room: Energy::from_kwh(6.0),
            spare: Energy::from_kwh(9.0),
        }),
        ..v
    });
    divided.collect()
}

fn by_group(visits: &[Visit], threads: usize) -> Availability {
    let log = Log::new(ZONE, visits);
    let ask = Ask {
        by_group: true,
        threads,
        ..ask(40)
    };
    Forecaster::new(&log).forecast(local(date("2019-07-24"), 540), &ask)
}

#[test]
fn groups_add_up_to_the_pool_on_every_path_and_vehicles_stay_whole() {
    let ahead = by_group(&divided(), 2);
    assert_eq!(ahead.groups.len(), 3);
    let all = ahead.part(&[0, 1, 2]);
    for quantity in QUANTITIES {
        for (sum, pool) in all.of(quantity).iter().zip(ahead.paths.of(quantity)) {
            assert!((sum - pool).abs() <= 1e-3 * pool.max(1.0), "{sum} {pool}");
        }
    }
    for bound in [Bound::Lowest, Bound::Highest] {
        for (sum, pool) in all.energy(bound).iter().zip(ahead.paths.energy(bound)) {
            let off = (sum - pool).abs();
            assert!(off <= 1e-3 * pool.abs().max(1.0), "{sum} {pool}");
        }
    }
    for group in &ahead.groups {
        let counts = group.of(Quantity::PluggedIn);
        assert!(counts.iter().all(|n| n.fract() < 1e-6 && *n >= 0.0));
        assert!(counts.iter().any(|n| *n > 0.0));
    }
    // Nobody is where nobody was asked for.
    assert!(
        ahead
            .part(&[7])
            .of(Quantity::PluggedIn)
            .iter()
            .all(|n| *n < 0.5)
    );
}

#[test]
fn threads_do_not_change_a_forecast() {
    let (one, three) = (by_group(&divided(), 1), by_group(&divided(), 3));
    assert_eq!(bits(&one), bits(&three));
    assert_eq!(one.groups, three.groups);
    assert_eq!(one.paths, three.paths);
}

#[test]
fn energy_lies_between_bounds_that_rise_and_do_not_cross() {
    let ahead = by_group(&divided(), 2);
    for paths in ahead.groups.iter().chain([&ahead.paths]) {
        let bounds = [Bound::Lowest, Bound::Highest].map(|b| paths.energy(b));
        for (low, high) in bounds[0].iter().zip(bounds[1]) {
            assert!(low.is_finite() && high.is_finite() && low <= high && *high >= 0.0);
        }
        for path in bounds[1].chunks_exact(paths.steps()) {
            assert!(path.windows(2).all(|w| w[1] >= w[0] - 1e-3 * w[0].max(1.0)));
        }
        for step in 0..paths.steps() {
            let [low, high] =
                [Bound::Lowest, Bound::Highest].map(|b| paths.energy_band(b, step).unwrap());
            assert!(low.values().windows(2).all(|w| w[0] <= w[1]));
            assert!(low.values().iter().zip(high.values()).all(|(l, h)| l <= h));
        }
    }
}

#[test]
fn a_battery_of_unknown_charge_neither_gives_nor_takes_more_than_it_needs() {
    let known = divided();
    let mut unknown = known.clone();
    unknown.iter_mut().for_each(|v| v.slack = None);
    let (known, unknown) = (by_group(&known, 1), by_group(&unknown, 1));
    let sum = |a: &Availability, b| a.paths.energy(b).iter().map(|v| f64::from(*v)).sum::<f64>();
    assert!(
        unknown
            .paths
            .energy(Bound::Lowest)
            .iter()
            .all(|v| *v >= -1e-3)
    );
    assert!(known.paths.energy(Bound::Lowest).iter().any(|v| *v < -1.0));
    assert!(sum(&known, Bound::Lowest) < sum(&unknown, Bound::Lowest));
    assert!(sum(&known, Bound::Highest) > sum(&unknown, Bound::Highest));
}

#[test]
fn a_meter_read_at_the_origin_says_what_is_left() {
    let until = local(date("2019-07-24"), 600);
    let metered = |kwh: f64| {
        let mut visits = workplace(date("2019-06-03"), 60);
        for v in visits.iter_mut().filter(|v| v.span.contains(until)) {
            v.metered = Some(Metered {
                at: until,
                energy: Energy::from_kwh(kwh),
            });
        }
        let ahead = forecast(&visits, until);
        ahead
            .paths
            .sorted(Quantity::EnergyNeeded, 0)
            .iter()
            .sum::<f32>()
    };
    assert!(metered(0.0) > metered(10.0) && metered(10.0) > metered(90.0));
    assert!(metered(90.0) < 1e-3);
}

#[test]
fn what_was_learned_serves_a_newer_log() {
    let visits = workplace(date("2019-05-06"), 80);
    let (monday, tuesday) = (
        local(date("2019-07-22"), 540),
        local(date("2019-07-23"), 540),
    );
    let known = |until: DateTime<Utc>| {
        let past = visits.iter().filter(move |v| v.span.start() <= until);
        Log::new(ZONE, past)
    };
    let log = known(monday);
    let mut first = Forecaster::new(&log);
    first.refit(monday, &ask(30));
    let learned = first.into_learned();
    assert_eq!(learned.until(), Some(local(date("2019-07-22"), 0)));

    let log = known(tuesday);
    let mut second = Forecaster::resume(&log, learned);
    let stale = second.ahead(tuesday, &ask(30));
    let fresh = second.forecast(tuesday, &ask(30));
    let anew = Forecaster::new(&log).forecast(tuesday, &ask(30));
    assert_eq!(bits(&fresh), bits(&anew));
    assert_ne!(bits(&stale), bits(&anew));
}

#[test]
fn two_days_without_a_record_are_a_hole_where_many_were_expected() {
    // The log was down on a Tuesday and a Wednesday: nothing is scored then, and no past day like them is drawn a week later.
    let down = |day: NaiveDate| {
        let since = (day - date("2019-07-02")).num_days();
        (0..2).contains(&since)
    };
    let visits: Vec<Visit> = workplace(date("2019-05-06"), 70)
        .into_iter()
        .filter(|v| {
            let local = v.span.start().with_timezone(&ZONE).date_naive();
            let until = v.span.end().with_timezone(&ZONE).date_naive();
            !down(local) && !down(until)
        })
        .collect();
    let log = Log::new(ZONE, &visits);
    let test = Test {
        from: date("2019-07-01"),
        to: date("2019-07-06"),
        special: Vec::new(),
        paths: 40,
        seed: 1,
        threads: 2,
    };
    let found = evaluate(&log, &test, &mut |_, _| ()).unwrap();
    let count = &found.quantities[0];
    // Hours of the two days are not scored: five days of eight origins and 36 leads, less what lies in the hole.
    assert!(count.coverage.count < 1_100, "{}", count.coverage.count);
    let ahead = forecast(&visits, local(date("2019-07-09"), 6 * 60));
    let noon = ahead.band(Quantity::PluggedIn, 6).unwrap();
    assert!(noon.values()[0] > 5.0, "{noon:?}");

    // Had they been days off, nobody came: all five days are scored.
    let closed = log.with_days_off([date("2019-07-02"), date("2019-07-03")]);
    let found = evaluate(&closed, &test, &mut |_, _| ()).unwrap();
    let count = &found.quantities[0];
    assert!(count.coverage.count >= 1_400, "{}", count.coverage.count);
}

#[test]
fn a_day_like_none_before_is_still_forecast() {
    // Four hundred cars come by eleven where thirty are usual: more will come, as on other days, and none before is as full.
    let mut visits = workplace(date("2019-05-06"), 80);
    let day = date("2019-07-23");
    visits.retain(|v| v.span.start() < local(day, 0));
    let crowd = (0..400).map(|i| visit(local(day, 420 + i64::from(i % 200)), 240, 10.0, 1_000 + i));
    visits.extend(crowd);
    // Half of the usual cars come in the evening as well.
    let evenings: Vec<Visit> = (0..78)
        .flat_map(|d| (0..15).map(move |i| (date("2019-05-06") + TimeDelta::days(d), i)))
        .map(|(d, i)| visit(local(d, 1140 + i64::from(i)), 120, 8.0, 500 + i))
        .collect();
    visits.extend(evenings);
    let log = Log::new(ZONE, &visits);
    let ahead = Forecaster::new(&log).ahead(local(day, 11 * 60), &ask(24));
    let evening = ahead.band(Quantity::PluggedIn, 9).unwrap();
    assert!(evening.median() > 10.0, "{evening:?}");
}
