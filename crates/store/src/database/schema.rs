//! The tables as this release knows them, and whether those of a database will do.
//!
//! Migrations of both databases have the same numbers. They only add, so that the release before still serves while they run; one
//! that takes something away raises `schema_floor`, and releases below it refuse to start.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Executor as _, PgConnection, SqlitePool};

use super::partition::{self, INTERVAL, READING};
use crate::error::{StoreError, db};

/// Wait for a statement of a migration to get its table: who comes later waits behind it.
const TABLE_WITHIN: (&str, &str) = ("lock_timeout", "5s");

/// How often it is asked whether another migration has ended.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Longest wait for another migration.
const ALONE_WITHIN: Duration = Duration::from_secs(600);

const TRY_ALONE: &str =
    "SELECT pg_try_advisory_lock(hashtextextended('shoal migrate ' || current_schema(), 0))";
const NO_LONGER_ALONE: &str =
    "SELECT pg_advisory_unlock(hashtextextended('shoal migrate ' || current_schema(), 0))";

const APPLIED: &str = "SELECT version FROM _sqlx_migrations WHERE success ORDER BY version";
const LOWEST: &str = "SELECT MAX(lowest) FROM schema_floor";

fn of_sqlite() -> Migrator {
    let mut all = sqlx::migrate!("./migrations/sqlite");
    // A newer release may have added to them.
    all.set_ignore_missing(true);
    all
}

fn of_postgres() -> Migrator {
    let mut all = sqlx::migrate!("./migrations/postgres");
    all.set_ignore_missing(true);
    // Locked by ours, which waits with patience though statements do not.
    all.set_locking(false);
    all
}

/// Brings the tables of a file up to date.
pub(super) async fn sqlite(pool: &SqlitePool) -> Result<(), StoreError> {
    let known = of_sqlite();
    known.run(pool).await?;
    let lowest: Option<i64> = sqlx::query_scalar(LOWEST)
        .fetch_one(pool)
        .await
        .map_err(db("floor of the schema"))?;
    usable(&known, lowest).map_err(|what| schema("shoal.db", what))
}

/// Brings the tables on a server up to date, and makes partitions ahead, while `connection` keeps others out. May be ended at any
/// moment and run again.
pub(super) async fn migrate(
    connection: &mut PgConnection,
    connect: &PgConnectOptions,
    place: &str,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    alone(connection, place).await?;
    let connect = connect.clone().options([TABLE_WITHIN]);
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect_lazy_with(connect);
    let known = of_postgres();
    let migrated = known.run(&pool).await;
    pool.close().await;
    migrated?;
    let lowest = lowest(connection).await?;
    usable(&known, lowest).map_err(|what| schema(place, what))?;
    for table in [READING, INTERVAL] {
        partition::ahead(connection, &table, now)
            .await
            .map_err(db("partitions of a table"))?;
    }
    connection
        .execute(NO_LONGER_ALONE)
        .await
        .map_err(db("end of the migration"))?;
    Ok(())
}

/// Waits until no other process migrates. The lock is gone with the connection.
async fn alone(connection: &mut PgConnection, place: &str) -> Result<(), StoreError> {
    let started = tokio::time::Instant::now();
    let mut told = false;
    loop {
        let alone: bool = sqlx::query_scalar(TRY_ALONE)
            .fetch_one(&mut *connection)
            .await
            .map_err(db("lock of the migration"))?;
        if alone {
            return Ok(());
        }
        if started.elapsed() > ALONE_WITHIN {
            let what = format!(
                "another migration runs for more than {} s",
                ALONE_WITHIN.as_secs()
            );
            return Err(schema(place, what));
        }
        if !told {
            tracing::info!("waits for another migration of {place}");
            told = true;
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Refuses tables on a server that are older than this release needs, or newer than it can use.
pub(super) async fn check(connection: &mut PgConnection, place: &str) -> Result<(), StoreError> {
    let made: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(db("version of the schema"))?;
    let applied: Vec<i64> = if made {
        let versions = sqlx::query_scalar(APPLIED).fetch_all(&mut *connection);
        versions.await.map_err(db("version of the schema"))?
    } else {
        Vec::new()
    };
    let known = of_postgres();
    if let Some(lacking) = known.iter().find(|m| !applied.contains(&m.version)) {
        let what = match applied.last() {
            None => "there are none; run `shoal migrate` first".to_owned(),
            Some(found) => format!(
                "they are at version {found}, this release needs {} ({}); run its `shoal migrate` first",
                newest(&known),
                lacking.description
            ),
        };
        return Err(schema(place, what));
    }
    let lowest = lowest(connection).await?;
    usable(&known, lowest).map_err(|what| schema(place, what))
}

async fn lowest(connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    sqlx::query_scalar(LOWEST)
        .fetch_one(connection)
        .await
        .map_err(db("floor of the schema"))
}

fn newest(known: &Migrator) -> i64 {
    known.iter().map(|m| m.version).max().unwrap_or(0)
}

fn usable(known: &Migrator, lowest: Option<i64>) -> Result<(), String> {
    let newest = newest(known);
    match lowest {
        Some(lowest) if lowest > newest => Err(format!(
            "they are for releases that know version {lowest}, this one knows {newest}; run a newer release"
        )),
        _ => Ok(()),
    }
}

fn schema(place: &str, what: String) -> StoreError {
    StoreError::Schema {
        place: place.to_owned(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_databases_have_the_same_migrations_in_the_same_order() {
        let names = |of: Migrator| -> Vec<(i64, String)> {
            of.iter()
                .map(|m| (m.version, m.description.to_string()))
                .collect()
        };
        assert_eq!(names(of_sqlite()), names(of_postgres()));
    }

    #[test]
    fn a_floor_above_what_is_known_is_refused() {
        let known = of_postgres();
        assert!(usable(&known, None).is_ok());
        assert!(usable(&known, Some(newest(&known))).is_ok());
        let said = usable(&known, Some(newest(&known) + 1)).unwrap_err();
        assert!(said.contains("run a newer release"), "{said}");
    }
}
