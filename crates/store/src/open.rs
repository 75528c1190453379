//! Opening the database and the log.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{mpsc, oneshot};
use units::Clock;

use crate::alone::Alone;
use crate::database::{Pool, TablesIn, postgres};
use crate::embedded;
use crate::error::StoreError;
use crate::kafka::{self, Kafka, KafkaOptions, TopicFound};
use crate::log::Log;
use crate::outbox::Outbox;
use crate::retain::Retainer;
use crate::tables::{self, Tables};
use crate::tail::Heads;
use crate::topic::{self, Retention};
use crate::writer::{Embedded, QUEUE, Writer, newest_offsets};

/// Between two rounds that take old rows away and make partitions ahead: pieces are days, and made days ahead.
const HOUSEKEEPING: Duration = Duration::from_secs(3_600);

/// How long rows of time series are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Samples of meters; zero for none. They are what metered intervals are made of; a month suffices to look into a complaint.
    pub readings: TimeDelta,
    /// Metered intervals. Settlements are corrected and audited for up to three years.
    pub intervals: TimeDelta,
}

impl Keep {
    /// True if samples of meters are to be kept at all.
    #[must_use]
    pub const fn keeps_readings(self) -> bool {
        !self.readings.is_zero()
    }
}

impl Default for Keep {
    fn default() -> Self {
        Self {
            readings: TimeDelta::days(31),
            intervals: TimeDelta::days(1_100),
        }
    }
}

/// What can be chosen when a store is opened.
#[derive(Clone)]
pub struct Options {
    /// Says when a record was appended.
    pub clock: Arc<dyn Clock>,
    /// Says what the embedded log keeps of a topic, by its name.
    pub retention: fn(&str) -> Retention,
    /// Says what is kept in the tables. The embedded store keeps all intervals, and, opened without options, all samples.
    pub keep: Keep,
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
            keep: Keep::default(),
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

/// Makes what a store over Kafka needs: the tables, and topics that are missing. What is there stays; it may be ended at any moment
/// and run again. Answers all topics, in the order of their declaration.
///
/// # Errors
/// [`StoreError`] if the database cannot be used, no broker answers, or a topic that was there has too few partitions.
pub async fn migrate(
    tables: impl Into<TablesIn>,
    kafka: &KafkaOptions,
) -> Result<Vec<TopicFound>, StoreError> {
    migrate_tables(&tables.into()).await?;
    kafka::made(kafka).await
}

/// Brings the tables up to date, and makes partitions ahead. What is there stays; it may be ended at any moment and run again, and
/// the release before may go on using the tables.
///
/// # Errors
/// [`StoreError`] if the database cannot be used.
pub async fn migrate_tables(tables: &TablesIn) -> Result<(), StoreError> {
    match tables {
        TablesIn::Folder(dir) => Pool::in_folder(dir).await.map(drop),
        TablesIn::Postgres(options) => {
            postgres::migrate(options, Options::default().clock.now()).await
        }
    }
}

/// Connections that write, and that read.
async fn connect(tables: &TablesIn, source: &str) -> Result<(Pool, Pool), StoreError> {
    match tables {
        TablesIn::Folder(dir) => Pool::in_folder(dir).await,
        TablesIn::Postgres(options) => {
            let pool = Pool::on_server(options, source).await?;
            Ok((pool.clone(), pool))
        }
    }
}

impl Tables {
    /// The tables alone: changes are of rows only, and nobody takes old rows away but [`Tables::housekeep`]. `source` names this
    /// process to those who look at the server. Tables in a folder are made if absent, on a server they must be there.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, or its tables are not for this release.
    pub async fn open(tables: impl Into<TablesIn>, source: &str) -> Result<Self, StoreError> {
        let (writer, readers) = connect(&tables.into(), source).await?;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let alone = Alone {
            pool: writer.clone(),
        };
        tokio::spawn(Writer::Alone(alone).run(queue));
        Ok(Self::new(jobs, readers, writer, Keep::default()))
    }
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
        let (writer, readers) = Pool::in_folder(dir).await?;
        Self::over(writer, readers, Options::default(), None).await
    }

    /// Whether a folder holds a log or tables.
    #[must_use]
    pub fn is_in(dir: &Path) -> bool {
        dir.join(crate::database::FILE).is_file()
    }

    /// [`Store::open`] with a clock and a retention of the caller's. Samples of meters older than is to be kept by that clock are
    /// taken away, every hour.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn open_with(dir: &Path, options: Options) -> Result<Self, StoreError> {
        let (writer, readers) = Pool::in_folder(dir).await?;
        let (alive, gone) = oneshot::channel();
        let ever = Keep {
            intervals: TimeDelta::MAX,
            ..options.keep
        };
        let kept = Options {
            keep: ever,
            ..options.clone()
        };
        tokio::spawn(housekeeping(writer.clone(), kept, gone));
        Self::over(writer, readers, options, Some(alive)).await
    }

    /// The log on Kafka, the tables in a folder, made if absent, or on a PostgreSQL server, made by [`migrate`]. `source` names
    /// this process among those that share the tables, and stays its name when it is started again: it appends what a process of
    /// this name left in the outbox.
    ///
    /// # Errors
    /// [`StoreError`] if the database cannot be used, its tables are not for this release, no broker answers, or a topic is missing
    /// or has too few partitions.
    pub async fn over_kafka(
        tables: impl Into<TablesIn>,
        kafka: KafkaOptions,
        source: &str,
        options: Options,
    ) -> Result<Self, StoreError> {
        let (writer, readers) = connect(&tables.into(), source).await?;
        let log = Kafka::connect(kafka, Arc::clone(&options.clock), writer.clone()).await?;
        let outbox = Outbox::open(writer.clone(), log.clone(), source).await?;
        let keep = options.keep;
        let (jobs, queue) = mpsc::channel(QUEUE);
        let (alive, gone) = oneshot::channel();
        tokio::spawn(housekeeping(writer.clone(), options, gone));
        tokio::spawn(async move {
            Writer::Kafka(outbox).run(queue).await;
            drop(alive);
        });
        Ok(Self {
            log: log.into(),
            tables: Tables::new(jobs, readers, writer, keep),
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
        let shared = Pool::in_memory().await?;
        Self::over(shared.clone(), shared, options, None).await
    }

    /// `alive` is dropped when the store is gone.
    async fn over(
        writer: Pool,
        readers: Pool,
        options: Options,
        alive: Option<oneshot::Sender<()>>,
    ) -> Result<Self, StoreError> {
        let heads = Arc::new(Heads::default());
        heads.advance(newest_offsets(&readers).await?);
        let (jobs, queue) = mpsc::channel(QUEUE);
        let embedded = Embedded {
            pool: writer.clone(),
            heads: heads.clone(),
            clock: options.clock,
            retention: Retainer::new(options.retention, readers.clone(), jobs.downgrade()),
        };
        tokio::spawn(async move {
            Writer::Embedded(embedded).run(queue).await;
            drop(alive);
        });
        Ok(Self {
            log: embedded::Log::new(jobs.clone(), readers.clone(), heads).into(),
            tables: Tables::new(jobs, readers, writer, options.keep),
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

/// Takes away old rows and makes partitions ahead, from the start on, until the store is gone.
async fn housekeeping(pool: Pool, options: Options, mut gone: oneshot::Receiver<()>) {
    loop {
        if let Err(error) = tables::housekeep(&pool, options.clock.now(), options.keep).await {
            metrics::counter!("shoal_store_housekeeping_failures_total").increment(1);
            tracing::warn!(error = %error, "old rows stay and partitions are not made ahead for now: {error}");
        }
        if tokio::time::timeout(HOUSEKEEPING, &mut gone).await.is_ok() {
            return;
        }
    }
}
