//! What the tables must do, over their public interface: in SQLite and on PostgreSQL.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::schedule::{Schedule, Step};
use fleet::{Evse, MeterInterval, Needs, Protocol, Reading, Session, SessionState, Site};
use market::plan::{Held, PlanStatus, PlanStep};
use market::statement::{Line, LineKind};
use market::{
    Area, Award, AwardId, Bid, BidId, BidStatus, Clearing, Direction, Plan, PlanId, Product,
    Statement,
};
use proptest::prelude::*;
use store::{Change, ForecastRow, Keep, Store, StoreError, Tables};
use support::postgres::Postgres;
use units::{Currency, Efficiency, Energy, Interval, Money, Power, Price, Soc};

fn at(hours: i64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-03-29T00:00:00Z".parse().unwrap();
    start + TimeDelta::hours(hours)
}

fn span(from: i64, to: i64) -> Interval {
    Interval::try_new(at(from), at(to)).unwrap()
}

fn price(text: &str) -> Price {
    Price::new(text.parse().unwrap(), Currency::Eur)
}

fn bid(hour: i64) -> Bid {
    Bid {
        id: BidId::derive("NL", "fcr", at(hour), 1),
        area: Area::Nl,
        product: Product::Fcr,
        direction: Direction::Symmetric,
        delivery: span(hour, hour + 4),
        volume: Power::from_mw(1.25),
        price: Some(price("17.3000000000000000000000001")),
        divisible: false,
        gate_closes: at(hour - 16),
        built_at: at(hour - 17),
        delivery_probability: 0.987_654_321,
        reason: "it's \"held\"; by 40 vehicles -- ✓".to_owned(),
        status: BidStatus::Draft,
    }
}

fn evse(n: usize) -> Evse {
    Evse {
        id: format!("north-{n}/1").parse().unwrap(),
        station: format!("north-{n}").parse().unwrap(),
        site: "north".parse().unwrap(),
        class: "depot".to_owned(),
        protocol: Protocol::Ocpp201,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        charge_efficiency: Efficiency::try_new(0.93).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.91).unwrap(),
    }
}

fn stay(name: &str, from: i64, to: Option<i64>) -> SessionState {
    SessionState {
        session: Session {
            id: name.parse().unwrap(),
            evse: evse(1).id,
            site: "north".parse().unwrap(),
            vehicle: Some("bus 7".parse().unwrap()),
            plugged_in: at(from),
            unplugged: to.map(at),
            needs: Some(Needs {
                departure: Some(at(20)),
                energy: Energy::from_kwh(20.0),
                stored: None,
                capacity: Some(Energy::from_kwh(60.0)),
                max_charge: Power::from_kw(11.0),
                max_discharge: Power::ZERO,
                floor: Energy::ZERO,
            }),
        },
        added: Some(Energy::from_joules(-17)),
        soc: Some(Soc::try_new(0.123_456_789_012_345_6).unwrap()),
    }
}

fn metered(hour: i64, version: u32, import: i64) -> MeterInterval {
    MeterInterval {
        evse: evse(1).id,
        site: "north".parse().unwrap(),
        interval: span(hour, hour + 1),
        import: Energy::from_joules(import),
        export: Energy::ZERO,
        covered_seconds: 900,
        version,
    }
}

fn plan(n: u128, solved: i64) -> (Plan, Vec<Schedule>) {
    let plan = Plan {
        id: PlanId(format!("{n:032x}").parse().unwrap()),
        area: Area::Nl,
        solved_at: at(solved),
        data_until: at(solved),
        status: PlanStatus::Optimal,
        relative_gap: Some(1.5e-7),
        expected: Some(Money::new("-12.345".parse().unwrap(), Currency::Eur)),
        steps: vec![PlanStep {
            interval: span(solved, solved + 1),
            baseline: Power::from_kw(100.0),
            low: Power::from_kw(-100.0),
            high: Power::from_kw(300.0),
            held: vec![Held {
                product: Product::Fcr,
                volume: Power::from_mw(1.0),
            }],
            reason: "price".to_owned(),
        }],
    };
    let schedule = Schedule {
        evse: evse(1).id,
        session: Some("s1".parse().unwrap()),
        start: at(solved),
        step_seconds: 900,
        steps: vec![Step {
            power: Power::from_kw(-7.0),
            up: Power::ZERO,
            down: Power::from_kw(3.0),
        }],
        reason: "cheapest".to_owned(),
    };
    (plan, vec![schedule; 3])
}

async fn rows_come_back_as_they_were_and_twice_is_once(tables: Tables) {
    for _ in 0..2 {
        tables.upsert_bids(&[bid(24), bid(28)]).await.unwrap();
        tables.upsert_evses(&[evse(1), evse(0)]).await.unwrap();
        tables
            .upsert_session(&stay("s1", 0, Some(8)))
            .await
            .unwrap();
    }
    let found = tables.bids_between(at(24), at(28)).await.unwrap();
    assert_eq!(found, vec![bid(24)], "half-open");
    assert_eq!(tables.evses().await.unwrap(), vec![evse(0), evse(1)]);
    let stays = tables.sessions_between(at(0), at(24)).await.unwrap();
    assert_eq!(stays, vec![stay("s1", 0, Some(8))]);

    let id = bid(24).id;
    tables
        .set_bid_status(id, BidStatus::Acknowledged)
        .await
        .unwrap();
    let stored = tables.bid(id).await.unwrap().unwrap();
    assert_eq!(stored.status, BidStatus::Acknowledged);
    assert_eq!(tables.bid(bid(99).id).await.unwrap(), None);
}

async fn sites_awards_clearings_statements_and_forecasts_come_back_as_they_were(tables: Tables) {
    let site = Site {
        id: "north".parse().unwrap(),
        name: "Depot Nord".to_owned(),
        import_limit: Power::from_kw(500.0),
        export_limit: Power::ZERO,
    };
    let award = Award {
        id: AwardId(bid(24).id.0),
        bid: bid(24).id,
        area: Area::Nl,
        product: Product::AfrrDown,
        direction: Direction::Down,
        delivery: span(24, 28),
        volume: Power::from_mw(1.0),
        price: price("-3.25"),
        awarded_at: at(9),
    };
    let clearing = Clearing {
        area: Area::UsCa,
        product: Product::DayAhead,
        delivery: span(24, 25),
        price: price("-500"),
        published_at: at(12),
    };
    let statement = |version| Statement {
        account: "pool".to_owned(),
        area: Area::Nl,
        day: span(0, 24),
        version,
        lines: vec![Line {
            kind: LineKind::Capacity,
            product: Product::Fcr,
            interval: span(0, 4),
            energy: Energy::ZERO,
            amount: Money::new("20.10".parse().unwrap(), Currency::Eur),
        }],
        total: Money::new(version.into(), Currency::Eur),
    };
    let forecast = ForecastRow {
        id: "f1".to_owned(),
        series: "price".to_owned(),
        model: "gam".to_owned(),
        issued_at: at(7),
        data_until: at(6),
        covers: span(24, 48),
        body: "{\"p50\":[1.5]}".to_owned(),
    };
    for _ in 0..2 {
        let change = Change::default()
            .sites(std::slice::from_ref(&site))
            .awards(std::slice::from_ref(&award))
            .clearings(std::slice::from_ref(&clearing))
            .statements(&[statement(2), statement(1)])
            .forecasts(std::slice::from_ref(&forecast));
        tables.apply(change).await.unwrap();
    }
    let (from, to) = (at(0), at(48));
    assert_eq!(tables.sites().await.unwrap(), vec![site]);
    assert_eq!(tables.awards_between(from, to).await.unwrap(), vec![award]);
    assert_eq!(
        tables.clearings_between(from, to).await.unwrap(),
        vec![clearing]
    );
    let statements = tables.statements_between(from, to).await.unwrap();
    assert_eq!(statements, vec![statement(2)], "the newest version");
    let forecasts = tables
        .forecasts_between("price", at(47), at(99))
        .await
        .unwrap();
    assert_eq!(forecasts, vec![forecast]);
    assert_eq!(
        tables.forecasts_between("load", from, to).await.unwrap(),
        vec![]
    );
}

async fn stays_are_found_by_overlap_and_an_open_one_lasts(tables: Tables) {
    let stays = [
        stay("past", 0, Some(4)),
        stay("over", 2, Some(10)),
        stay("open", 3, None),
        stay("later", 12, Some(14)),
    ];
    tables.upsert_sessions(&stays).await.unwrap();
    let names = |found: Vec<SessionState>| -> Vec<String> {
        found.iter().map(|s| s.session.id.to_string()).collect()
    };
    let found = tables.sessions_between(at(4), at(12)).await.unwrap();
    assert_eq!(names(found), ["over", "open"]);
    assert_eq!(names(tables.open_sessions().await.unwrap()), ["open"]);
}

async fn an_older_version_never_replaces_a_newer_one(tables: Tables) {
    for (version, import) in [(2, 20), (1, 10), (3, 30), (2, 21)] {
        tables
            .upsert_interval(&metered(0, version, import))
            .await
            .unwrap();
    }
    let found = tables.intervals_between(at(0), at(1)).await.unwrap();
    assert_eq!(found, vec![metered(0, 3, 30)]);
}

async fn the_newest_plan_comes_with_its_schedules_and_old_schedules_go(tables: Tables) {
    assert_eq!(tables.latest_plan(Area::Nl).await.unwrap(), None);
    for n in (0..10_i64).rev() {
        let (plan, schedules) = plan(n.unsigned_abs().into(), n);
        tables.upsert_plan(&plan, &schedules).await.unwrap();
    }
    assert_eq!(
        tables.latest_plan(Area::Nl).await.unwrap(),
        Some(plan(9, 9))
    );
    assert_eq!(tables.latest_plan(Area::De).await.unwrap(), None);
    assert_eq!(tables.plans_between(at(0), at(10)).await.unwrap().len(), 10);
}

async fn what_a_consumer_keeps_is_replaced_and_forgotten_by_key(tables: Tables) {
    let keep =
        |key: &str, body: &str| Change::default().keep("g", [(key.to_owned(), body.to_owned())]);
    for (key, body) in [("a", "1"), ("b", "2"), ("a", "3"), ("b", "")] {
        tables.apply(keep(key, body)).await.unwrap();
    }
    let kept = tables.kept("g").await.unwrap();
    assert_eq!(kept, vec![("a".to_owned(), "3".to_owned())]);
    assert_eq!(tables.kept("h").await.unwrap(), vec![]);
}

fn sample(station: usize, minute: i64) -> Reading {
    Reading {
        evse: evse(station).id,
        session: (minute % 2 == 0).then(|| "s1".parse().unwrap()),
        at: at(0) + TimeDelta::minutes(minute),
        power: Some(Power::from_watts(-minute)),
        import_register: (minute % 3 == 0).then(|| Energy::from_joules(minute)),
        export_register: None,
        soc: Some(Soc::try_new(0.1).unwrap()),
    }
}

async fn samples_come_back_by_meter_and_what_is_missing_stays_missing(tables: Tables) {
    let rows: Vec<Reading> = (0..6).flat_map(|m| [sample(1, m), sample(2, m)]).collect();
    for _ in 0..2 {
        tables.upsert_readings(&rows).await.unwrap();
    }
    let found = tables
        .readings_between(&evse(2).id, at(0), at(0) + TimeDelta::minutes(5))
        .await
        .unwrap();
    assert_eq!(found, (0..5).map(|m| sample(2, m)).collect::<Vec<_>>());
}

async fn thousands_of_rows_and_then_half_of_them_again_are_stored_once(tables: Tables) {
    let rows: Vec<Reading> = (0..4_000).map(|m| sample(1, m)).collect();
    tables.upsert_readings(&rows).await.unwrap();
    let mut again = rows[2_000..].to_vec();
    for row in &mut again {
        row.power = None;
    }
    // Twice in one change, too.
    let change = Change::default()
        .readings(again.clone())
        .readings(rows[3_000..].to_vec());
    tables.apply(change).await.unwrap();
    let found = tables
        .readings_between(&evse(1).id, at(0), at(1_000))
        .await
        .unwrap();
    let expected = [&rows[..2_000], &again[..1_000], &rows[3_000..]].concat();
    assert_eq!(found, expected);
}

async fn of_one_interval_in_many_rows_the_newest_version_counts_however_they_come(tables: Tables) {
    let rows: Vec<MeterInterval> = (0..900_u32)
        .map(|n| metered(i64::from(n % 300), (n / 300 * 2 + n) % 5, i64::from(n)))
        .collect();
    tables.upsert_intervals(&rows).await.unwrap();
    let found = tables.intervals_between(at(0), at(300)).await.unwrap();
    for (hour, interval) in (0..300).zip(found) {
        let newest = rows
            .iter()
            .filter(|row| row.interval == span(hour, hour + 1))
            .max_by_key(|row| row.version)
            .unwrap();
        assert_eq!(&interval, newest);
    }
}

async fn ids_come_in_the_order_of_their_bytes(tables: Tables) {
    let named = |name: &str| Site {
        id: name.parse().unwrap(),
        name: name.to_owned(),
        import_limit: Power::ZERO,
        export_limit: Power::ZERO,
    };
    let sites: Vec<Site> = ["a-b", "B", "a", "ab", "b", "A1"].map(named).into();
    tables.upsert_sites(&sites).await.unwrap();
    let found = tables.sites().await.unwrap();
    let found: Vec<String> = found.iter().map(|site| site.id.to_string()).collect();
    assert_eq!(found, ["A1", "B", "a", "a-b", "ab", "b"]);
}

async fn a_text_that_one_of_the_databases_cannot_hold_is_refused_for_good(tables: Tables) {
    let site = Site {
        id: "north".parse().unwrap(),
        name: "nul\0".to_owned(),
        import_limit: Power::ZERO,
        export_limit: Power::ZERO,
    };
    let refused = tables.upsert_site(&site).await.unwrap_err();
    assert!(!refused.is_retryable(), "{refused:?}");
    assert_eq!(tables.sites().await.unwrap(), vec![]);
}

async fn one_bad_change_harms_none_that_came_with_it(tables: Tables) {
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..60_i64 {
        let tables = tables.clone();
        tasks.spawn(async move {
            let mut bid = bid(n);
            if n == 30 {
                bid.reason.push('\0');
            }
            (n, tables.upsert_bid(&bid).await)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let (n, stored) = done.unwrap();
        assert_eq!(stored.is_err(), n == 30, "{n}: {stored:?}");
    }
    assert_eq!(tables.bids_between(at(0), at(99)).await.unwrap().len(), 59);
}

async fn what_is_older_than_what_is_kept_goes_in_whole_days_and_months(tables: Tables) {
    let day = |n: i64| n * 24 * 60;
    let samples: Vec<Reading> = (-40..1).map(|n| sample(1, day(n))).collect();
    let intervals: Vec<MeterInterval> = (-400..1).map(|n| metered(n * 24, 1, 5)).collect();
    tables.upsert_readings(&samples).await.unwrap();
    tables.upsert_intervals(&intervals).await.unwrap();
    let keep = Keep {
        readings: TimeDelta::days(10),
        intervals: TimeDelta::days(100),
    };
    for _ in 0..2 {
        tables.housekeep(at(12), keep).await.unwrap();
    }
    let evse = evse(1).id;
    let left = tables.readings_between(&evse, at(-9_999), at(99)).await;
    assert_eq!(left.unwrap(), samples[30..].to_vec());
    let left = tables.intervals_between(at(-9_999), at(99)).await.unwrap();
    let first: DateTime<Utc> = "2025-12-01T00:00:00Z".parse().unwrap();
    let kept = intervals.iter().filter(|i| i.interval.start() >= first);
    assert_eq!(left, kept.cloned().collect::<Vec<_>>());
    // Late data of a time that was taken away are stored, until the next round.
    tables.upsert_reading(&samples[0]).await.unwrap();
    let late = tables.readings_between(&evse, at(-9_999), at(-900)).await;
    assert_eq!(late.unwrap(), samples[..1].to_vec());
}

async fn tables_without_a_log_refuse_records_and_rows_stay_out(tables: Tables) {
    let record = store::NewRecord {
        topic: store::topic::BIDS,
        key: "k".to_owned(),
        payload: bytes::Bytes::new(),
    };
    let change = Change::default().bids(&[bid(24)]).records([record]);
    let refused = tables.apply(change).await.unwrap_err();
    assert!(matches!(refused, StoreError::NoLog), "{refused:?}");
    assert_eq!(tables.bids_between(at(0), at(99)).await.unwrap(), vec![]);
}

/// Each law on a database of its own.
macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        mod in_sqlite {
            $(
                #[tokio::test]
                async fn $law() {
                    let dir = tempfile::tempdir().unwrap();
                    super::$law(store::Tables::open(dir.path(), "test").await.unwrap()).await;
                }
            )*
        }

        /// One server serves all of them.
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn postgres_keeps_the_same_laws() {
            let Some(server) = Postgres::start().await else { return };
            $(
                println!("{}", stringify!($law));
                let schema = server.migrated().await;
                $law(Tables::open(schema.options.clone(), "test").await.unwrap()).await;
            )*
        }
    };
}

laws! {
    rows_come_back_as_they_were_and_twice_is_once,
    sites_awards_clearings_statements_and_forecasts_come_back_as_they_were,
    stays_are_found_by_overlap_and_an_open_one_lasts,
    an_older_version_never_replaces_a_newer_one,
    the_newest_plan_comes_with_its_schedules_and_old_schedules_go,
    what_a_consumer_keeps_is_replaced_and_forgotten_by_key,
    samples_come_back_by_meter_and_what_is_missing_stays_missing,
    thousands_of_rows_and_then_half_of_them_again_are_stored_once,
    of_one_interval_in_many_rows_the_newest_version_counts_however_they_come,
    ids_come_in_the_order_of_their_bytes,
    a_text_that_one_of_the_databases_cannot_hold_is_refused_for_good,
    one_bad_change_harms_none_that_came_with_it,
    what_is_older_than_what_is_kept_goes_in_whole_days_and_months,
    tables_without_a_log_refuse_records_and_rows_stay_out,
}

#[tokio::test]
async fn the_embedded_store_keeps_its_tables_in_memory_as_well() {
    let tables = Store::in_memory().await.unwrap().tables();
    rows_come_back_as_they_were_and_twice_is_once(tables).await;
}

#[tokio::test]
async fn what_nobody_of_ours_writes_is_refused_with_its_column() {
    let dir = tempfile::tempdir().unwrap();
    let tables = Store::open(dir.path()).await.unwrap().tables();
    tables.upsert_bid(&bid(24)).await.unwrap();
    let file = format!("sqlite://{}", dir.path().join("shoal.db").display());
    let foreign = sqlx::SqlitePool::connect(&file).await.unwrap();
    sqlx::query("UPDATE bid SET area = 'XX'")
        .execute(&foreign)
        .await
        .unwrap();
    let refused = tables.bids_between(at(24), at(28)).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Corrupt { table: "bid", column: "area", value, .. } if value == "XX"),
        "{refused}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn any_number_of_rows_is_stored_whole(count in 0_usize..700) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
                    let tables = Store::in_memory().await.unwrap().tables();
            let rows: Vec<_> = (0..count).map(|n| metered(i64::try_from(n).unwrap(), 1, 5)).collect();
            tables.upsert_intervals(&rows).await.unwrap();
            let found = tables.intervals_between(at(0), at(1_000)).await.unwrap();
            assert_eq!(found, rows);
        });
    }
}
