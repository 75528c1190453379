//! PostgreSQL: connections, transactions and what became of them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres};

use super::partition::Partitions;
use super::{
    Lines, Number, Pool, PostgresOptions, Sql, Transaction, Uncommitted, bounded, copy, schema, sql,
};
use crate::error::{StoreError, may_pass};
use crate::upsert::Upsert;

/// Connections of a process. One writes, one relays what was written, the others read.
const CONNECTIONS: u32 = 8;

/// How long a server may take to answer at all.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Oldest version whose `pg_xact_status` and partitions are used, and that is still maintained.
const OLDEST: u32 = 140_000;

/// What a session asks of the server. A process that sleeps inside a transaction loses it soon, and with it the rows it locks.
const SESSION: [(&str, &str); 8] = [
    ("statement_timeout", "50s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
    ("default_transaction_isolation", "read committed"),
    ("client_min_messages", "warning"),
    ("tcp_keepalives_idle", "10"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];

/// Rows from which on they go through COPY: fewer are cheaper as a statement.
const BULK: usize = 256;

/// Batches that go through the staging table after one met rows that were there: who repeats one repeats several.
const STAGED: u32 = 16;

impl Pool {
    /// Connections to a server whose tables were made by [`migrate`]; `source` names this process to those who look at it.
    pub(crate) async fn on_server(
        options: &PostgresOptions,
        source: &str,
    ) -> Result<Self, StoreError> {
        let connect = PgConnectOptions::clone(&options.connect)
            .application_name(&format!("shoal {source}"))
            .options(SESSION);
        let mut first = reach(options, &connect).await?;
        schema::check(&mut first, &options.to_string()).await?;
        // What the server thinks of the end of a connection changes nothing.
        let _ = first.close().await;
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(CONNECT_WITHIN)
            .connect_lazy_with(connect);
        Ok(Self::Postgres(pool, Learned::default()))
    }
}

/// Brings the tables on a server up to date.
pub(crate) async fn migrate(
    options: &PostgresOptions,
    now: DateTime<Utc>,
) -> Result<(), StoreError> {
    let connect = PgConnectOptions::clone(&options.connect)
        .application_name("shoal migrate")
        .options([("client_min_messages", "warning")]);
    let mut connection = reach(options, &connect).await?;
    schema::migrate(&mut connection, &connect, &options.to_string(), now).await?;
    let _ = connection.close().await;
    Ok(())
}

/// The first connection: says in one line why there is none.
async fn reach(
    options: &PostgresOptions,
    connect: &PgConnectOptions,
) -> Result<PgConnection, StoreError> {
    let unreachable = |source| StoreError::Unreachable {
        place: options.to_string(),
        source,
    };
    let connection = tokio::time::timeout(CONNECT_WITHIN, connect.connect())
        .await
        .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
        .map_err(unreachable)?;
    match connection.server_version_num() {
        Some(version) if version < OLDEST => Err(StoreError::Schema {
            place: options.to_string(),
            what: format!(
                "the server is PostgreSQL {}, expected {} or newer",
                version / 10_000,
                OLDEST / 10_000
            ),
        }),
        _ => Ok(connection),
    }
}

/// What connections of a process have learned of the tables. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Learned {
    pub(super) partitions: Partitions,
    /// Batches of a table that still go through its staging table.
    staged: Arc<Mutex<HashMap<&'static str, u32>>>,
    marks: Arc<Marks>,
}

/// Marks of one writer's transactions, which follow each other: a row that each replaces.
#[derive(Debug)]
struct Marks {
    writer: Arc<str>,
    next: AtomicU64,
}

impl Default for Marks {
    fn default() -> Self {
        Self {
            writer: uuid::Uuid::new_v4().to_string().into(),
            next: AtomicU64::new(1),
        }
    }
}

/// What a transaction leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mark {
    writer: Arc<str>,
    number: String,
}

/// Group under which marks stand among what consumers keep, and the age at which those of writers that are gone are taken away.
const MARKS: &str = "store/commit";
const MARKS_DAYS: i32 = 7;

/// Leaves a mark and asks for the number of the transaction.
const MARKED: &str = "WITH mark AS (INSERT INTO consumer_state (group_name, state_key, body) \
     VALUES ($1, $2, $3 || ' ' || extract(epoch FROM now())::bigint) \
     ON CONFLICT (group_name, state_key) DO UPDATE SET body = EXCLUDED.body) \
     SELECT pg_current_xact_id()::text";

impl Learned {
    /// True if rows of the next batch of `table` are likely to be new.
    fn is_fresh(&self, table: &'static str) -> bool {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        match staged.get_mut(table) {
            None | Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
        }
    }

    /// A batch of `table` held rows that were there.
    fn met_again(&self, table: &'static str) {
        let mut staged = self.staged.lock().unwrap_or_else(PoisonError::into_inner);
        staged.insert(table, STAGED);
    }
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is stored.
    Done,
    /// Nothing of it is stored, nor will be.
    Undone,
    /// The server has not noticed yet that we are gone.
    Pending,
}

/// A number that has ended is not enough to go by: a transaction of which nothing had reached the disk when the server died leaves its
/// number to the next one. Only its own mark says that it is stored.
pub(super) async fn fate(pool: &PgPool, of: &Number) -> Result<Fate, sqlx::Error> {
    let status = sqlx::query_scalar("SELECT pg_xact_status($1::xid8)").bind(of.number.clone());
    let status: Option<String> = match bounded(status.fetch_one(pool)).await {
        Ok(status) => status,
        Err(error) if may_pass(&error) => return Err(error),
        Err(error) => {
            // A server that was set back to before the transaction.
            tracing::error!(%error, "the server does not know transaction {}", of.number);
            None
        }
    };
    if status.as_deref() == Some("in progress") {
        return Ok(Fate::Pending);
    }
    // Asked for after it has ended: what it left is to be seen by now.
    let mark = sqlx::query_scalar(
        "SELECT split_part(body, ' ', 1) FROM consumer_state WHERE group_name = $1 AND state_key = $2",
    );
    let mark = mark.bind(MARKS).bind(&*of.mark.writer);
    let left: Option<String> = bounded(mark.fetch_optional(pool)).await?;
    Ok(if left.as_ref() == Some(&of.mark.number) {
        Fate::Done
    } else {
        Fate::Undone
    })
}

/// Takes away the marks of writers that have stored nothing for days.
pub(super) async fn sweep(pool: &PgPool) -> Result<(), sqlx::Error> {
    let old = sqlx::query(
        "DELETE FROM consumer_state WHERE group_name = $1 \
         AND split_part(body, ' ', 2)::bigint < extract(epoch FROM now() - make_interval(days => $2))",
    );
    let swept = bounded(old.bind(MARKS).bind(MARKS_DAYS).execute(pool)).await?;
    tracing::debug!(
        "{} marks of writers that are gone were taken away",
        swept.rows_affected()
    );
    Ok(())
}

/// A transaction in hand.
pub(crate) struct Within {
    within: sqlx::Transaction<'static, Postgres>,
    number: Number,
    pool: PgPool,
    learned: Learned,
    /// Tables whose staging table was used.
    staged: HashSet<&'static str>,
}

pub(super) async fn begin(pool: &PgPool, learned: &Learned) -> Result<Transaction, sqlx::Error> {
    let mut within = bounded(pool.begin()).await?;
    let mark = Mark {
        writer: Arc::clone(&learned.marks.writer),
        number: learned
            .marks
            .next
            .fetch_add(1, Ordering::Relaxed)
            .to_string(),
    };
    let marked = sqlx::query_scalar(MARKED);
    let marked = marked.bind(MARKS).bind(&*mark.writer).bind(&mark.number);
    let number = bounded(marked.fetch_one(&mut *within)).await?;
    Ok(Transaction::Postgres(Box::new(Within {
        within,
        number: Number { number, mark },
        pool: pool.clone(),
        learned: learned.clone(),
        staged: HashSet::new(),
    })))
}

impl Within {
    pub(super) async fn execute(&mut self, query: Sql) -> Result<u64, sqlx::Error> {
        let done = bounded(query.postgres().execute(&mut *self.within)).await;
        done.inspect_err(|refused| self.heard(refused))
            .map(|done| done.rows_affected())
    }

    /// A piece that was there when its rows were looked at may have been dropped since.
    fn heard(&self, refused: &sqlx::Error) {
        let code = refused
            .as_database_error()
            .and_then(|refused| refused.code());
        if code.as_deref() == Some(NO_PARTITION) {
            self.learned.partitions.forget();
        }
    }

    pub(super) async fn insert(
        &mut self,
        upsert: &Upsert,
        rows: Lines<'_>,
    ) -> Result<(), sqlx::Error> {
        let survey = rows.survey(upsert)?;
        if let Some(of) = upsert.partitioned {
            let instants = survey.instants.into_iter();
            self.learned
                .partitions
                .ensure(&self.pool, &of, instants)
                .await?;
        }
        // Whoever has them in order has left out doubles already.
        let rows = if survey.in_order {
            rows
        } else {
            upsert.last_of_each(rows.iter().collect()).into()
        };
        if rows.len() >= BULK {
            return self.bulk(upsert, &rows).await;
        }
        for (statement, values) in upsert.statements(rows.iter().collect()) {
            self.execute(sql(AssertSqlSafe(statement)).bind_all(values))
                .await?;
        }
        Ok(())
    }

    /// Many rows: straight into their table, at the full speed of COPY. If some of them are there already, nothing of that is kept and
    /// they go through a staging table and an upsert instead, which costs three times as much.
    async fn bulk(&mut self, upsert: &Upsert, rows: &Lines<'_>) -> Result<(), sqlx::Error> {
        let table = upsert.table;
        if upsert.key.is_empty() {
            return bounded(copy::rows(&mut self.within, table, upsert.columns, rows)).await;
        }
        if !upsert.repeats && self.learned.is_fresh(table) {
            if self.copied(upsert, rows).await? {
                return Ok(());
            }
            self.learned.met_again(table);
        }
        let stage = format!("stage_{table}");
        let make = if self.staged.insert(table) {
            format!(
                "CREATE TEMPORARY TABLE IF NOT EXISTS {stage} (LIKE {table}) ON COMMIT DELETE ROWS"
            )
        } else {
            format!("TRUNCATE {stage}")
        };
        self.execute(sql(AssertSqlSafe(make))).await?;
        bounded(copy::rows(&mut self.within, &stage, upsert.columns, rows)).await?;
        let columns = upsert.columns.join(", ");
        let merge = format!(
            "{} SELECT {columns} FROM {stage}{}",
            upsert.into(),
            upsert.on_conflict()
        );
        self.execute(sql(AssertSqlSafe(merge))).await?;
        Ok(())
    }

    /// Copies `rows` into their table; false, and nothing done, if one of them was there.
    async fn copied(&mut self, upsert: &Upsert, rows: &Lines<'_>) -> Result<bool, sqlx::Error> {
        let mut part = bounded(self.within.begin()).await?;
        match bounded(copy::rows(&mut part, upsert.table, upsert.columns, rows)).await {
            Ok(()) => bounded(part.commit()).await.map(|()| true),
            Err(sqlx::Error::Database(met)) if met.is_unique_violation() => {
                bounded(part.rollback()).await.map(|()| false)
            }
            Err(refused) => {
                drop(part);
                self.heard(&refused);
                Err(refused)
            }
        }
    }

    pub(super) async fn commit(self) -> Result<(), Uncommitted> {
        match bounded(self.within.commit()).await {
            Ok(()) => Ok(()),
            Err(error @ sqlx::Error::Database(_)) if !is_farewell(&error) => {
                Err(Uncommitted::Refused(error))
            }
            Err(error) => Err(Uncommitted::Unanswered(self.number, error)),
        }
    }
}

/// `check_violation`: no partition takes the row.
const NO_PARTITION: &str = "23514";

/// True if the server says that it goes, and not what became of the statement (class 57, operator intervention; 08, connection).
fn is_farewell(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|e| e.code());
    code.is_none_or(|code| code.starts_with("57") || code.starts_with("08"))
}
