//! Tables that PostgreSQL keeps in pieces of time: old ones are dropped whole instead of row by row.
//!
//! A piece is made as a table of its own and attached: writers of the other pieces do not wait for that. Dropping one needs the
//! table for a moment; whoever holds it for longer than [`DROP_WITHIN`] makes the piece stay until the next round.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, PgPool};

use super::{Pool, bounded, sql};
use crate::error::{StoreError, db};

/// Longest wait of a drop for those who use the table: everyone who comes later waits behind it.
const DROP_WITHIN: &str = "SET LOCAL lock_timeout = '2s'";

/// One at a time makes or drops pieces of a schema.
const ALONE: &str =
    "SELECT pg_advisory_xact_lock(hashtextextended('shoal partitions ' || current_schema(), 0))";

/// Rows that SQLite deletes at once: some milliseconds.
const AT_ONCE: u64 = 5_000;

/// Length of a piece, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Day,
    Month,
}

/// A table in pieces of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Partitioned {
    pub(crate) table: &'static str,
    /// Column with the instant, microseconds.
    pub(crate) column: &'static str,
    pub(crate) by: Span,
    /// How far ahead pieces are made: longer than nobody looks after an installation.
    pub(crate) ahead: TimeDelta,
}

/// Samples of meters: hundreds of millions of rows a day in a large pool.
pub(crate) const READING: Partitioned = Partitioned {
    table: "reading",
    column: "sampled_at",
    by: Span::Day,
    ahead: TimeDelta::days(7),
};

/// Metered intervals: a hundredth of that.
pub(crate) const INTERVAL: Partitioned = Partitioned {
    table: "meter_interval",
    column: "starts_at",
    by: Span::Month,
    ahead: TimeDelta::days(31),
};

/// One piece: rows from its start and before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece {
    first: NaiveDate,
    end: NaiveDate,
}

fn micros(day: NaiveDate) -> i64 {
    day.and_time(chrono::NaiveTime::MIN)
        .and_utc()
        .timestamp_micros()
}

impl Piece {
    /// The piece with `at`; none where a year has no four digits.
    fn with(at: DateTime<Utc>, by: Span) -> Option<Self> {
        let day = at.date_naive();
        if !(0..=9_999).contains(&day.year()) {
            return None;
        }
        let first = match by {
            Span::Day => day,
            Span::Month => day.with_day(1)?,
        };
        let end = match by {
            Span::Day => first.succ_opt()?,
            Span::Month => first.checked_add_months(Months::new(1))?,
        };
        Some(Self { first, end })
    }

    fn name(&self, of: &Partitioned) -> String {
        let (table, first) = (of.table, self.first);
        match of.by {
            Span::Day => format!("{table}_{}", first.format("%Y%m%d")),
            Span::Month => format!("{table}_{}", first.format("%Y%m")),
        }
    }

    /// The piece called `name`; none for a table that somebody else attached.
    fn named(name: &str, of: &Partitioned) -> Option<Self> {
        let digits = name.strip_prefix(of.table)?.strip_prefix('_')?;
        let day = match of.by {
            Span::Day => digits.to_owned(),
            Span::Month => format!("{digits}01"),
        };
        let first = NaiveDate::parse_from_str(&day, "%Y%m%d").ok()?;
        let piece = Self::with(first.and_time(chrono::NaiveTime::MIN).and_utc(), of.by)?;
        (piece.name(of) == name).then_some(piece)
    }
}

/// Pieces that are known to be there. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Partitions(Arc<Mutex<HashSet<String>>>);

impl Partitions {
    fn known(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody dropped a piece that was known.
    pub(super) fn forget(&self) {
        self.known().clear();
    }

    /// Makes the pieces of `of` that rows of these instants belong to, where they are missing.
    pub(super) async fn ensure(
        &self,
        pool: &PgPool,
        of: &Partitioned,
        instants: impl Iterator<Item = i64>,
    ) -> Result<(), sqlx::Error> {
        let mut pieces: BTreeMap<i64, Piece> = BTreeMap::new();
        let mut last = 0..0;
        for at in instants {
            if last.contains(&at) {
                continue;
            }
            let piece = DateTime::from_timestamp_micros(at).and_then(|at| Piece::with(at, of.by));
            let Some(piece) = piece else {
                let what = format!("{} {at} of {} is no instant", of.column, of.table);
                return Err(sqlx::Error::Encode(what.into()));
            };
            last = micros(piece.first)..micros(piece.end);
            pieces.insert(last.start, piece);
        }
        for piece in pieces.into_values() {
            let name = piece.name(of);
            if !self.known().contains(&name) {
                let mut connection = pool.acquire().await?;
                bounded(make(&mut connection, of, &piece)).await?;
                self.known().insert(name);
            }
        }
        Ok(())
    }
}

/// Makes the pieces from yesterday to as far ahead as they should be.
pub(super) async fn ahead(
    connection: &mut PgConnection,
    of: &Partitioned,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    let mut at = now - TimeDelta::days(1);
    while let Some(piece) =
        Piece::with(at, of.by).filter(|p| micros(p.first) <= (now + of.ahead).timestamp_micros())
    {
        bounded(make(connection, of, &piece)).await?;
        at = piece.end.and_time(chrono::NaiveTime::MIN).and_utc();
    }
    Ok(())
}

async fn make(
    connection: &mut PgConnection,
    of: &Partitioned,
    piece: &Piece,
) -> Result<(), sqlx::Error> {
    let (table, name) = (of.table, piece.name(of));
    if is_attached(connection, table, &name).await? {
        return Ok(());
    }
    let mut within = connection.begin().await?;
    within.execute(ALONE).await?;
    if is_attached(&mut within, table, &name).await? {
        return Ok(());
    }
    let (from, to) = (micros(piece.first), micros(piece.end));
    within
        .execute(AssertSqlSafe(format!(
            "CREATE TABLE IF NOT EXISTS {name} (LIKE {table} INCLUDING ALL); \
             ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES FROM ({from}) TO ({to})"
        )))
        .await?;
    within.commit().await
}

async fn is_attached(
    connection: &mut PgConnection,
    table: &str,
    name: &str,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM pg_inherits \
         WHERE inhparent = to_regclass($1) AND inhrelid = to_regclass($2))",
    )
    .bind(table)
    .bind(name)
    .fetch_one(connection)
    .await
}

/// Makes pieces ahead and takes away what is older than `keep`, in whole pieces.
pub(crate) async fn housekeep(
    pool: &Pool,
    of: &Partitioned,
    now: DateTime<Utc>,
    keep: TimeDelta,
) -> Result<(), StoreError> {
    let oldest = now
        .checked_sub_signed(keep)
        .and_then(|at| Piece::with(at, of.by));
    match pool {
        Pool::Sqlite(_) => {
            let Some(oldest) = oldest else { return Ok(()) };
            delete(pool, of, micros(oldest.first)).await
        }
        Pool::Postgres(postgres, learned) => {
            let mut connection = postgres.acquire().await.map_err(db("connection"))?;
            ahead(&mut connection, of, now)
                .await
                .map_err(db("partitions of a table"))?;
            if let Some(oldest) = oldest {
                drop_before(&mut connection, of, oldest.first)
                    .await
                    .map_err(db("drop of old partitions"))?;
                learned.partitions.forget();
            }
            Ok(())
        }
    }
}

async fn delete(pool: &Pool, of: &Partitioned, before: i64) -> Result<(), StoreError> {
    let (table, column) = (of.table, of.column);
    loop {
        let some = sql(AssertSqlSafe(format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} < $1 LIMIT {AT_ONCE})"
        )));
        let deleted = pool.execute(some.bind(before)).await;
        if deleted.map_err(db("deletion of old rows"))? < AT_ONCE {
            return Ok(());
        }
    }
}

async fn drop_before(
    connection: &mut PgConnection,
    of: &Partitioned,
    oldest: NaiveDate,
) -> Result<(), sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid \
         WHERE inhparent = to_regclass($1) ORDER BY relname",
    )
    .bind(of.table)
    .fetch_all(&mut *connection)
    .await?;
    for name in names {
        if Piece::named(&name, of).is_none_or(|piece| piece.end > oldest) {
            continue;
        }
        let mut within = connection.begin().await?;
        within.execute(DROP_WITHIN).await?;
        within.execute(ALONE).await?;
        within
            .execute(AssertSqlSafe(format!("DROP TABLE IF EXISTS {name}")))
            .await?;
        within.commit().await?;
        tracing::info!("dropped {name}: it is older than what is kept");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_follow_each_other_and_are_known_by_name(
            seconds in -2_000_000_000_i64..8_000_000_000,
            by_day: bool,
        ) {
            let of = if by_day { READING } else { INTERVAL };
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let piece = Piece::with(at, of.by).unwrap();
            prop_assert!((micros(piece.first)..micros(piece.end)).contains(&at.timestamp_micros()));
            let next = piece.end.and_time(chrono::NaiveTime::MIN).and_utc();
            prop_assert_eq!(Piece::with(next, of.by).unwrap().first, piece.end);
            prop_assert_eq!(Piece::named(&piece.name(&of), &of), Some(piece));
        }
    }

    #[test]
    fn a_table_of_another_name_is_not_ours() {
        for name in ["reading_2026", "reading_20261301", "reading_old", "reading"] {
            assert_eq!(Piece::named(name, &READING), None, "{name}");
        }
        assert!(Piece::named("meter_interval_202602", &INTERVAL).is_some());
    }
}
