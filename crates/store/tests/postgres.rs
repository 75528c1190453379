//! What only a server of its own can do to the tables: be killed, be locked, be unreachable, be older or newer than the program.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{MeterInterval, Reading};
use sqlx::{Connection as _, Row as _};
use store::{Change, PostgresOptions, StoreError, Tables, TablesIn};
use support::postgres::Postgres;
use support::proxy::{Cut, Proxy};
use units::{Energy, Interval};

const PATIENCE: Duration = Duration::from_secs(180);

fn start() -> DateTime<Utc> {
    "2026-03-29T00:00:00Z".parse().unwrap()
}

fn sample(evse: usize, second: i64) -> Reading {
    Reading {
        evse: format!("north-{evse}/1").parse().unwrap(),
        session: None,
        at: start() + TimeDelta::seconds(second),
        power: None,
        import_register: Some(Energy::from_joules(second)),
        export_register: None,
        soc: None,
    }
}

fn interval(n: i64) -> MeterInterval {
    let from = start() + TimeDelta::minutes(15 * n);
    MeterInterval {
        evse: "north-1/1".parse().unwrap(),
        site: "north".parse().unwrap(),
        interval: Interval::try_new(from, from + TimeDelta::minutes(15)).unwrap(),
        import: Energy::from_joules(n),
        export: Energy::ZERO,
        covered_seconds: 900,
        version: 1,
    }
}

/// An error with its causes, as it is shown.
fn line(error: &StoreError) -> String {
    let mut line = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(source) = cause {
        line += &format!(": {source}");
        cause = source.source();
    }
    line
}

/// One server serves all of them, one after the other: some kill it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_may_do_what_it_likes() {
    let Some(mut server) = Postgres::start().await else {
        return;
    };
    who_cannot_come_in_is_told_in_one_line(&server).await;
    tables_that_are_missing_older_or_newer_are_refused(&server).await;
    migrations_at_the_same_time_are_one_and_an_interrupted_one_goes_on(&server).await;
    both_databases_have_the_same_columns(&server).await;
    the_release_before_goes_on_while_a_column_is_added(&server).await;
    a_drop_of_old_rows_waits_for_nobody_for_long(&server).await;
    a_commit_whose_answer_is_lost_is_asked_about(&server).await;
    a_number_that_somebody_else_got_after_a_crash_is_not_believed(&server).await;
    a_killed_server_stores_whole_changes_and_says_which(&mut server).await;
}

async fn who_cannot_come_in_is_told_in_one_line(server: &Postgres) {
    let schema = server.migrated().await;
    let address = server.address(&schema.name).await;
    let wrong = PostgresOptions::new(&address, Some("hunter2")).unwrap();
    let refused = Tables::open(wrong, "test").await.unwrap_err();
    let said = line(&refused);
    assert!(
        said.starts_with("tables at postgres://shoal@127.0.0.1:"),
        "{said}"
    );
    assert!(
        said.contains("password authentication failed for user \"shoal\""),
        "{said}"
    );
    assert!(!said.contains("hunter2") && !said.contains('\n'), "{said}");
    assert!(!refused.is_retryable());

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let nowhere = PostgresOptions::new(&format!("postgres://shoal@127.0.0.1:{port}/shoal"), None);
    let refused = Tables::open(nowhere.unwrap(), "test").await.unwrap_err();
    let said = line(&refused);
    let expected = format!("tables at postgres://shoal@127.0.0.1:{port}/shoal: ");
    assert!(
        said.starts_with(&expected) && said.contains("refused"),
        "{said}"
    );
    assert!(refused.is_retryable());
}

async fn tables_that_are_missing_older_or_newer_are_refused(server: &Postgres) {
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let newest = std::fs::read_dir(migrations).unwrap().count();
    let schema = server.empty().await;
    let open = || Tables::open(schema.options.clone(), "test");
    let said = line(&open().await.unwrap_err());
    assert!(
        said.ends_with("there are none; run `shoal migrate` first"),
        "{said}"
    );

    store::migrate_tables(&schema.options.clone().into())
        .await
        .unwrap();
    assert!(open().await.is_ok());
    let mut beside = server.beside(&schema).await;
    // What a release leaves that knows less.
    sqlx::query(
        "DELETE FROM _sqlx_migrations WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)",
    )
    .execute(&mut beside)
    .await
    .unwrap();
    let said = line(&open().await.unwrap_err());
    assert!(
        said.contains(&format!(
            "they are at version {}, this release needs {newest}",
            newest - 1
        )),
        "{said}"
    );

    // What a newer release leaves that only added.
    let schema = server.migrated().await;
    let open = || Tables::open(schema.options.clone(), "test");
    let mut beside = server.beside(&schema).await;
    sqlx::query("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (99, 'newer', TRUE, '', 0)")
        .execute(&mut beside)
        .await
        .unwrap();
    assert!(open().await.is_ok());
    store::migrate_tables(&schema.options.clone().into())
        .await
        .unwrap();
    // And one that took something away.
    sqlx::query("UPDATE schema_floor SET lowest = 99")
        .execute(&mut beside)
        .await
        .unwrap();
    let said = line(&open().await.unwrap_err());
    assert!(
        said.ends_with(&format!(
            "they are for releases that know version 99, this one knows {newest}; run a newer release"
        )),
        "{said}"
    );
}

async fn migrations_at_the_same_time_are_one_and_an_interrupted_one_goes_on(server: &Postgres) {
    let schema = server.empty().await;
    let place = TablesIn::from(schema.options.clone());
    // The first is ended while it waits for a table that somebody holds.
    let mut beside = server.beside(&schema).await;
    let mut holds = beside.begin().await.unwrap();
    sqlx::query("CREATE TABLE reading (held BIGINT)")
        .execute(&mut *holds)
        .await
        .unwrap();
    let first = tokio::spawn({
        let place = place.clone();
        async move { store::migrate_tables(&place).await }
    });
    let mut looks = server.beside(&schema).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'shoal migrate' \
             AND wait_event_type = 'Lock')",
        )
        .fetch_one(&mut looks)
        .await
        .unwrap();
        if waits || first.is_finished() {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "the migration meets the table"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.abort();
    let _ = first.await;
    holds.rollback().await.unwrap();
    // The next ones find what the first had done, and do the rest once.
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..3 {
        let place = place.clone();
        tasks.spawn(async move { store::migrate_tables(&place).await });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    Tables::open(place, "test").await.unwrap();
    let pieces: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_inherits WHERE inhparent = to_regclass('reading')",
    )
    .fetch_one(&mut looks)
    .await
    .unwrap();
    assert_eq!(pieces, 9, "yesterday, today and seven days ahead");
}

async fn both_databases_have_the_same_columns(server: &Postgres) {
    type Columns = BTreeMap<String, BTreeSet<(String, bool)>>;
    let schema = server.migrated().await;
    let mut beside = server.beside(&schema).await;
    let rows = sqlx::query(
        "SELECT c.table_name::text, c.column_name::text, c.is_nullable = 'YES' FROM information_schema.columns c \
         JOIN pg_class ON pg_class.oid = to_regclass(c.table_name::text) \
         WHERE c.table_schema = current_schema() AND NOT pg_class.relispartition",
    )
    .fetch_all(&mut beside)
    .await
    .unwrap();
    let mut on_server = Columns::new();
    for row in rows {
        on_server
            .entry(row.get(0))
            .or_default()
            .insert((row.get(1), row.get(2)));
    }
    let dir = tempfile::tempdir().unwrap();
    Tables::open(dir.path(), "test").await.unwrap();
    let file = format!("sqlite://{}", dir.path().join("shoal.db").display());
    let file = sqlx::SqlitePool::connect(&file).await.unwrap();
    let rows = sqlx::query(
        "SELECT m.name, p.name, p.\"notnull\" = 0 FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS p \
         WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&file)
    .await
    .unwrap();
    let mut in_file = Columns::new();
    for row in rows {
        in_file
            .entry(row.get(0))
            .or_default()
            .insert((row.get(1), row.get(2)));
    }
    for only in ["log", "log_topic"] {
        assert!(in_file.remove(only).is_some());
    }
    for tables in [&mut on_server, &mut in_file] {
        assert!(tables.remove("_sqlx_migrations").is_some());
    }
    assert_eq!(on_server, in_file);
}

async fn the_release_before_goes_on_while_a_column_is_added(server: &Postgres) {
    let schema = server.migrated().await;
    let tables = Tables::open(schema.options.clone(), "old").await.unwrap();
    let many = |from: i64| (from..from + 400).map(interval).collect::<Vec<_>>();
    tables.upsert_intervals(&many(0)).await.unwrap();
    let read = || tables.intervals_between(start(), start() + TimeDelta::days(99));
    assert_eq!(read().await.unwrap().len(), 400);
    let mut newer = server.beside(&schema).await;
    sqlx::query("ALTER TABLE meter_interval ADD COLUMN loss_joules BIGINT")
        .execute(&mut newer)
        .await
        .unwrap();
    // What its connections prepared was made for the narrower table.
    for from in [200, 400] {
        tables.upsert_intervals(&many(from)).await.unwrap();
    }
    for _ in 0..20 {
        assert_eq!(read().await.unwrap().len(), 800);
    }
}

async fn a_drop_of_old_rows_waits_for_nobody_for_long(server: &Postgres) {
    let schema = server.migrated().await;
    let tables = Tables::open(schema.options.clone(), "test").await.unwrap();
    tables.upsert_reading(&sample(1, 0)).await.unwrap();
    let mut beside = server.beside(&schema).await;
    let mut reads = beside.begin().await.unwrap();
    sqlx::query("SELECT COUNT(*) FROM reading")
        .execute(&mut *reads)
        .await
        .unwrap();
    let keep = store::Keep {
        readings: TimeDelta::days(2),
        ..store::Keep::default()
    };
    let now = start() + TimeDelta::days(30);
    let refused = tables.housekeep(now, keep).await.unwrap_err();
    assert!(refused.is_retryable(), "{}", line(&refused));
    // Whoever came meanwhile is served.
    tables.upsert_reading(&sample(1, 1)).await.unwrap();
    reads.rollback().await.unwrap();
    tables.housekeep(now, keep).await.unwrap();
    let evse = sample(1, 0).evse;
    let left = tables.readings_between(&evse, start(), now).await.unwrap();
    assert_eq!(left, vec![]);
}

async fn a_commit_whose_answer_is_lost_is_asked_about(server: &Postgres) {
    let schema = server.migrated().await;
    let proxy = Proxy::to(server.port()).await;
    let through = server.through(proxy.port, &schema);
    let tables = Tables::open(through, "test").await.unwrap();
    let direct = Tables::open(schema.options.clone(), "direct")
        .await
        .unwrap();
    let found = |second: i64| {
        let direct = &direct;
        async move {
            let (evse, at) = (sample(1, second).evse, sample(1, second).at);
            let found = direct.readings_between(&evse, at, at + TimeDelta::seconds(1));
            !found.await.unwrap().is_empty()
        }
    };
    let mut second = 0;
    // Its partition is made, with a commit of its own.
    tables.upsert_reading(&sample(1, second)).await.unwrap();
    // The server has stored it: the caller hears so. It has not: the caller hears that.
    for (cut, stored) in [(Cut::After, true), (Cut::Before, false), (Cut::After, true)] {
        second += 1;
        proxy.set(cut);
        let heard = tables.upsert_reading(&sample(1, second)).await;
        assert_eq!(proxy.get(), Cut::Open, "the commit was cut off");
        assert_eq!(heard.is_ok(), stored, "{heard:?}");
        assert_eq!(found(second).await, stored);
        if let Err(refused) = heard {
            assert!(refused.is_retryable(), "{}", line(&refused));
            assert!(!matches!(refused, StoreError::Unanswered { .. }));
        }
    }
    // Nobody can be asked for long: the caller hears that nobody knows, and the next one that nothing was stored.
    second += 1;
    proxy.set(Cut::AfterForLong);
    let heard = tables.upsert_reading(&sample(1, second)).await.unwrap_err();
    assert!(
        matches!(heard, StoreError::Unanswered { .. }),
        "{}",
        line(&heard)
    );
    assert!(found(second).await);
    second += 1;
    let heard = tables.upsert_reading(&sample(1, second)).await.unwrap_err();
    assert!(matches!(heard, StoreError::Away { .. }), "{}", line(&heard));
    proxy.set(Cut::Open);
    tables.upsert_reading(&sample(1, second)).await.unwrap();
    assert!(found(second).await);
}

/// A server that died before it had written anything of a transaction gives its number to another one, whose end is then told for it.
async fn a_number_that_somebody_else_got_after_a_crash_is_not_believed(server: &Postgres) {
    let schema = server.migrated().await;
    let proxy = Proxy::to(server.port()).await;
    let mut beside = server.beside(&schema).await;
    for told in ["committed", "aborted"] {
        let tell = format!(
            "CREATE OR REPLACE FUNCTION pg_xact_status(xid8) RETURNS text LANGUAGE sql AS $$ SELECT '{told}' $$"
        );
        sqlx::query(sqlx::AssertSqlSafe(tell))
            .execute(&mut beside)
            .await
            .unwrap();
        let through = server.in_front(proxy.port, &schema);
        let tables = Tables::open(through, "test").await.unwrap();
        tables.upsert_reading(&sample(1, 0)).await.unwrap();
        for (second, cut, stored) in [(1, Cut::Before, false), (2, Cut::After, true)] {
            proxy.set(cut);
            let heard = tables.upsert_reading(&sample(1, second)).await;
            assert_eq!(proxy.get(), Cut::Open, "the commit was cut off");
            assert_eq!(heard.is_ok(), stored, "told {told}: {heard:?}");
        }
        // Marks of writers that are gone do not stay.
        let marks = async |beside: &mut sqlx::PgConnection| -> i64 {
            let count = "SELECT COUNT(*) FROM consumer_state WHERE group_name = 'store/commit'";
            sqlx::query_scalar(count).fetch_one(beside).await.unwrap()
        };
        assert_eq!(marks(&mut beside).await, 1);
        tables
            .housekeep(start(), store::Keep::default())
            .await
            .unwrap();
        assert_eq!(marks(&mut beside).await, 1);
        let old = "UPDATE consumer_state SET body = '1 0' WHERE group_name = 'store/commit'";
        sqlx::query(old).execute(&mut beside).await.unwrap();
        tables
            .housekeep(start(), store::Keep::default())
            .await
            .unwrap();
        assert_eq!(marks(&mut beside).await, 0);
    }
}

/// What a writer heard of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    Stored,
    NotStored,
    Nothing,
}

async fn a_killed_server_stores_whole_changes_and_says_which(server: &mut Postgres) {
    /// Rows of a change: more than go into a statement, of two tables.
    const ROWS: usize = 300;
    let schema = server.migrated().await;
    let tables = Tables::open(schema.options.clone(), "test").await.unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stored = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4_i64 {
        let (tables, stop, stored) = (tables.clone(), stop.clone(), stored.clone());
        tasks.spawn(async move {
            let mut heard = Vec::new();
            for n in 0.. {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                let number = n * 4 + task;
                let rows: Vec<Reading> = (0..ROWS).map(|evse| sample(evse, number)).collect();
                let change = Change::default()
                    .readings(rows)
                    .intervals(&[interval(number)]);
                heard.push((
                    number,
                    match tables.apply(change).await {
                        Ok(()) => {
                            stored.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                            Heard::Stored
                        }
                        Err(StoreError::Unanswered { .. }) => Heard::Nothing,
                        Err(refused) => {
                            assert!(refused.is_retryable(), "{}", line(&refused));
                            Heard::NotStored
                        }
                    },
                ));
            }
            heard
        });
    }
    let deadline = std::time::Instant::now() + PATIENCE;
    for round in 1..=3 {
        let before = stored.load(std::sync::atomic::Ordering::Relaxed);
        while stored.load(std::sync::atomic::Ordering::Relaxed) < before + 10 * round {
            assert!(std::time::Instant::now() < deadline, "it goes on");
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
        server.kill();
        server.start_again().await;
    }
    let before = stored.load(std::sync::atomic::Ordering::Relaxed);
    while stored.load(std::sync::atomic::Ordering::Relaxed) < before + 10 {
        assert!(
            std::time::Instant::now() < deadline,
            "it goes on after the last"
        );
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let heard: BTreeMap<i64, Heard> = tasks.join_all().await.into_iter().flatten().collect();

    let mut beside = server.beside(&schema).await;
    let found: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT import_register_joules, COUNT(*) FROM reading GROUP BY import_register_joules",
    )
    .fetch_all(&mut beside)
    .await
    .unwrap();
    let whole = i64::try_from(ROWS).unwrap();
    assert!(
        found.iter().all(|(_, rows)| *rows == whole),
        "no change is torn"
    );
    let samples: BTreeSet<i64> = found.into_iter().map(|(number, _)| number).collect();
    let metered: BTreeSet<i64> = sqlx::query_scalar("SELECT import_joules FROM meter_interval")
        .fetch_all(&mut beside)
        .await
        .unwrap()
        .into_iter()
        .collect();
    assert_eq!(samples, metered, "both tables or none");
    for (number, heard) in heard {
        match heard {
            Heard::Stored => assert!(samples.contains(&number), "{number} was said to be stored"),
            Heard::NotStored => {
                assert!(
                    !samples.contains(&number),
                    "{number} was said not to be stored"
                );
            }
            Heard::Nothing => {}
        }
    }
}
