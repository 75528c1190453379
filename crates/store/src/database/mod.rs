//! The database of the tables: SQLite or PostgreSQL. Everything outside this module speaks to both with the same statements; what
//! differs is named here and in the files below it.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | begin | `BEGIN IMMEDIATE`: one writer | `BEGIN`, with the number of the transaction and a mark that it leaves |
//! | a lost commit | cannot be: same process | the server is asked whether that number has ended, and for the mark |
//! | two rows of one key in a statement | the second replaces the first | an error: the first is left out before |
//! | many rows | statements of 128 rows | binary COPY; where rows are there already, into a staging table and an upsert from there |
//! | time | one table | partitions by day or month, made ahead |
//! | schema | made by whoever opens it | made by `shoal migrate`, checked by whoever opens it |
//! | text | compared byte by byte | the same, by `COLLATE "C"` |
//!
//! Placeholders (`$1`), `ON CONFLICT ... DO UPDATE`, `RETURNING` and the types BIGINT, DOUBLE PRECISION, TEXT and BYTEA are alike.

mod copy;
mod lines;
mod place;
mod schema;
mod sqlite;
mod value;

pub(crate) mod partition;
pub(crate) mod postgres;

pub(crate) use sqlite::FILE;

use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{AssertSqlSafe, PgPool, Postgres, Row as _, Sqlite, SqlitePool};

use crate::error::{StoreError, db};
use crate::upsert::Upsert;

pub(crate) use lines::Lines;
pub use place::{PostgresOptions, TablesIn};
pub(crate) use postgres::{Fate, Learned};
pub(crate) use value::{Key, Sql, Value, Values, sql};

/// Longest that a statement may take, and with it the wait for a server that has gone without a word. The server itself gives a
/// statement up a little earlier ([`postgres`]).
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// How long a caller waits to hear what became of its change after the connection was lost in the middle of a commit: a server
/// that was killed is back by then if it comes back by itself.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// First wait between two questions about it, doubled for each further one.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// Connections to the database. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool, Learned),
}

/// A row of either.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// Types that both hold.
pub(crate) trait Column:
    for<'d> sqlx::Decode<'d, Sqlite>
    + sqlx::Type<Sqlite>
    + for<'d> sqlx::Decode<'d, Postgres>
    + sqlx::Type<Postgres>
{
}

impl<T> Column for T where
    T: for<'d> sqlx::Decode<'d, Sqlite>
        + sqlx::Type<Sqlite>
        + for<'d> sqlx::Decode<'d, Postgres>
        + sqlx::Type<Postgres>
{
}

impl Row {
    pub(crate) fn get<T: Column>(&self, column: &str) -> Result<T, sqlx::Error> {
        match self {
            Self::Sqlite(row) => row.try_get(column),
            Self::Postgres(row) => row.try_get(column),
        }
    }
}

/// Gives up after [`ANSWER_WITHIN`].
async fn bounded<T>(
    answer: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_WITHIN, answer)
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
}

impl Pool {
    /// All rows that `query` answers.
    pub(crate) async fn fetch(&self, query: Sql) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => {
                let rows = query.sqlite().fetch_all(pool).await?;
                Ok(rows.into_iter().map(Row::Sqlite).collect())
            }
            Self::Postgres(pool, _) => {
                let rows = bounded(query.postgres().fetch_all(pool)).await?;
                Ok(rows.into_iter().map(Row::Postgres).collect())
            }
        }
    }

    /// Rows that `query` touched.
    pub(crate) async fn execute(&self, query: Sql) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(pool) => Ok(query.sqlite().execute(pool).await?.rows_affected()),
            Self::Postgres(pool, _) => {
                let done = bounded(query.postgres().execute(pool)).await?;
                Ok(done.rows_affected())
            }
        }
    }

    /// Begins a transaction that writes; dropped without [`Transaction::commit`] it leaves nothing.
    pub(crate) async fn begin(&self) -> Result<Transaction, StoreError> {
        match self {
            Self::Sqlite(pool) => {
                let within = pool.begin_with("BEGIN IMMEDIATE").await;
                within.map(Transaction::Sqlite).map_err(db("begin"))
            }
            Self::Postgres(pool, learned) => {
                postgres::begin(pool, learned).await.map_err(db("begin"))
            }
        }
    }

    /// Asks what became of a transaction whose commit was not answered, until it is known or [`SETTLED_WITHIN`] has passed: true if
    /// it is stored, false if nothing of it is, nor will be.
    pub(crate) async fn settled(&self, of: &Number) -> Option<bool> {
        let started = tokio::time::Instant::now();
        let mut wait = ASK_AGAIN;
        while started.elapsed() < SETTLED_WITHIN {
            match self.fate(of).await {
                Ok(Fate::Done) => return Some(true),
                Ok(Fate::Undone) => return Some(false),
                Ok(Fate::Pending) | Err(_) => tokio::time::sleep(wait).await,
            }
            wait = (wait * 2).min(SETTLED_WITHIN / 10);
        }
        None
    }

    /// Takes away what writers that are gone have left for [`Self::fate`].
    pub(crate) async fn sweep(&self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(pool, _) => postgres::sweep(pool).await.map_err(db("marks of writers")),
        }
    }

    /// What became of a transaction whose commit was not answered.
    pub(crate) async fn fate(&self, of: &Number) -> Result<Fate, sqlx::Error> {
        match self {
            // Its commit is a call of this process.
            Self::Sqlite(_) => Ok(Fate::Undone),
            Self::Postgres(pool, _) => postgres::fate(pool, of).await,
        }
    }
}

/// Names under which the server remembers a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Number {
    /// The server's own. One that was never written to the disk is given out again after a crash, to somebody else.
    number: String,
    /// What the transaction leaves if it is stored, and nobody else does.
    mark: postgres::Mark,
}

/// A commit that was refused, or that nobody answered.
#[derive(Debug)]
pub(crate) enum Uncommitted {
    /// Nothing is stored.
    Refused(sqlx::Error),
    /// The connection was lost in between: [`Pool::fate`] knows.
    Unanswered(Number, sqlx::Error),
}

/// Statements that happen together or not at all.
pub(crate) enum Transaction {
    Sqlite(sqlx::Transaction<'static, Sqlite>),
    Postgres(Box<postgres::Within>),
}

impl Transaction {
    /// Rows that `query` touched.
    pub(crate) async fn execute(&mut self, query: Sql) -> Result<u64, sqlx::Error> {
        match self {
            Self::Sqlite(within) => {
                let done = query.sqlite().execute(&mut **within).await?;
                Ok(done.rows_affected())
            }
            Self::Postgres(within) => within.execute(query).await,
        }
    }

    /// Writes `rows` of `upsert`; of two with the same key the second counts.
    pub(crate) async fn insert(
        &mut self,
        upsert: &Upsert,
        rows: impl Into<Lines<'_>>,
    ) -> Result<(), sqlx::Error> {
        let rows = rows.into();
        match self {
            Self::Sqlite(within) => {
                let rows: Vec<Values<'_>> = rows.iter().collect();
                for row in &rows {
                    row.is_writable(upsert.columns)?;
                }
                for (statement, values) in upsert.statements(rows) {
                    let query = sql(AssertSqlSafe(statement)).bind_all(values);
                    query.sqlite().execute(&mut **within).await?;
                }
                Ok(())
            }
            Self::Postgres(within) => within.insert(upsert, rows).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), Uncommitted> {
        match self {
            Self::Sqlite(within) => within.commit().await.map_err(Uncommitted::Refused),
            Self::Postgres(within) => within.commit().await,
        }
    }
}
