//! Opening the database and the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::SqlitePool;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use tokio::sync::mpsc;
use units::Clock;

use crate::embedded;
use crate::error::{StoreError, db};
use crate::kafka::{self, Kafka, KafkaOptions, TopicFound};
use crate::log::Log;
use crate::outbox::Outbox;
use crate::retain::Retainer;
use crate::tables::Tables;
use crate::tail::Heads;
use crate::topic::{self, Retention};
use crate::writer::{Embedded, QUEUE, Writer, newest_offsets};

/// Connections that read at the same time.
const READERS: u32 = 4;

/// How long a statement waits for another process that holds the database.
const BUSY: Duration = Duration::from_secs(10);

/// Name of the database in its folder.
const FILE: &str = "shoal.db";

/// What can be chosen when a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Says when a record was appended.
    pub clock: Arc<dyn Clock>,
    /// Says what the embedded log keeps of a topic, by its name.
    pub retention: fn(&str) -> Retention,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

impl Default for Options {
    /// The machine's clock and the retention of [`topic::retention`].
    fn default() -> Self {
        Self {
            clock: Arc::new(MachineClock),
            retention: topic::retention,
        }
    }
}

struct MachineClock;

impl Clock for MachineClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "stamps records of a store that was opened without a clock; decides nothing"
    )]
    fn now(&self) -> DateTime<Utc> {
        std::time::SystemTime::now().into()
    }
}

/// Makes what a store over Kafka needs: topics that are missing, and the tables of `dir/shoal.db`. What is there stays. Answers all
/// topics, in the order of their declaration.
///
/// # Errors
/// [`StoreError`] if the database cannot be used, no broker answers, or a topic that was there has too few partitions.
pub async fn migrate(dir: &Path, kafka: &KafkaOptions) -> Result<Vec<TopicFound>, StoreError> {
    open_files(dir).await?;
    kafka::made(kafka).await
}

/// The event log and the tables. Cheap to clone; the writer ends, after what is queued, when the last
/// clone, [`Log`] and [`Tables`] are gone.
#[derive(Debug, Clone)]
pub struct Store {
    log: Log,
    tables: Tables,
}

impl Store {
    /// Opens `dir/shoal.db`, made if absent, with the schema brought up to date.
    ///
    /// # Errors
    /// [`StoreError`] if the folder or the database cannot be used.
    pub async fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Options::default()).await
    }

    /// [`Store::open`] with a clock and a retention of the caller's.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let (writer, readers) = open_files(dir).await?;
        Self::over(writer, readers, options).await
    }

    /// The log on Kafka, the tables in `dir/shoal.db`, made if absent. `source` names this process among those that share the
    /// tables, and stays its name when it is started again: it appends what a process of this name left in the outbox.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, no broker answers, or a topic is missing or has too few partitions.
    pub async fn over_kafka(
        dir: &Path,
        kafka: KafkaOptions,
        source: &str,
        options: Options,
    ) -> Result<Self, StoreError> {
        let (writer, readers) = open_files(dir).await?;
        let log = Kafka::connect(kafka, options.clock, writer.clone()).await?;
        let outbox = Outbox::open(writer, log.clone(), source).await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(Writer::Kafka(outbox).run(queue));
        Ok(Self {
            log: log.into(),
            tables: Tables::new(jobs, readers),
        })
    }

    /// A store that is gone with its last clone. Reads and writes share one connection.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be made.
    pub async fn in_memory() -> Result<Self, StoreError> {
        Self::in_memory_with(Options::default()).await
    }

    /// [`Store::in_memory`] with a clock and a retention of the caller's.
    ///
    /// # Errors
    /// As [`Store::in_memory`].
    pub async fn in_memory_with(options: Options) -> Result<Self, StoreError> {
        let shared = pool(1)
            .connect("sqlite::memory:")
            .await
            .map_err(db("open"))?;
        sqlx::migrate!().run(&shared).await?;
        Self::over(shared.clone(), shared, options).await
    }

    async fn over(
        writer: SqlitePool,
        readers: SqlitePool,
        options: Options,
    ) -> Result<Self, StoreError> {
        let heads = Arc::new(Heads::default());
        heads.advance(newest_offsets(&readers).await?);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Embedded {
            pool: writer,
            heads: heads.clone(),
            clock: options.clock,
            retention: Retainer::new(options.retention, readers.clone(), jobs.downgrade()),
        };
        tokio::spawn(Writer::Embedded(writer).run(queue));
        Ok(Self {
            log: embedded::Log::new(jobs.clone(), readers.clone(), heads).into(),
            tables: Tables::new(jobs, readers),
        })
    }

    /// The event log.
    #[must_use]
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> Tables {
        self.tables.clone()
    }
}

/// Writes and reads of `dir/shoal.db`, made if absent, with the schema brought up to date.
async fn open_files(dir: &Path) -> Result<(SqlitePool, SqlitePool), StoreError> {
    std::fs::create_dir_all(dir).map_err(|source| StoreError::Folder {
        dir: dir.to_owned(),
        source,
    })?;
    let file = SqliteConnectOptions::new()
        .filename(dir.join(FILE))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(BUSY);
    let writer = pool(1)
        .connect_with(file.clone())
        .await
        .map_err(db("open"))?;
    sqlx::migrate!().run(&writer).await?;
    let readers = pool(READERS)
        .connect_with(file.read_only(true))
        .await
        .map_err(db("open for reading"))?;
    Ok((writer, readers))
}

fn pool(connections: u32) -> SqlitePoolOptions {
    // A database in memory is gone with its connection: it is never closed for age or idleness.
    SqlitePoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}
