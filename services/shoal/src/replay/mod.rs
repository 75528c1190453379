//! `shoal replay`: decides a day again from the log, and compares with what was decided, to the byte.

mod bids;
mod found;
mod intervals;
mod setpoints;
mod topics;

use std::path::{Path, PathBuf};

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use store::{Log, LogError, Store, Tables, TablesIn, topic};
use units::{DeliveryDay, Interval};

use self::found::Kind;
use crate::cli::CliError;
use crate::output::Output;
use crate::serve::config::{self, Config};
use crate::serve::folder::Folder;

/// Name of this process among those that share tables beside a log on Kafka.
const PROCESS: &str = "replay";
/// Damaged records that are named; a broken disk has thousands.
const NAMED: usize = 20;

/// Options of `shoal replay`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  shoal replay --day 2026-06-09 --data /var/lib/shoal\n\n\
    Exit status 1 if anything differs, is damaged or cannot be checked any more; 2 for a day or a folder that is none."
)]
pub(crate) struct Args {
    /// Delivery day of the area of [gateway], local calendar
    #[arg(long, value_name = "DATE")]
    day: NaiveDate,
    /// Folder with the log and the tables, instead of store.dir of the settings; nobody may serve from it meanwhile
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Settings, TOML, the same as for shoal serve
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// A record whose bytes changed on the disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Damaged {
    topic: &'static str,
    offset: u64,
    key: String,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Replayed {
    day: NaiveDate,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    bids: Kind,
    setpoints: Kind,
    intervals: Kind,
    damaged_records: usize,
    damaged: Vec<Damaged>,
}

/// Where everything is.
struct Place {
    log: Log,
    tables: Tables,
    _store: Store,
    _folder: Option<Folder>,
}

/// Replays a day.
///
/// # Errors
/// Status 2 for a day or a folder that is none, status 1 if the day does not come out as it was.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &[])?;
    let zone = config.gateway.area.zone();
    let day =
        DeliveryDay::try_new(args.day, zone).map_err(|e| CliError::Input(format!("--day: {e}")))?;
    let span = Interval::try_new(day.start(), day.end())
        .map_err(|e| CliError::Input(format!("--day: {e}")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let replayed = runtime.block_on(async {
        let place = open(&config, args.data.as_deref()).await?;
        replay(&place, args.day, span)
            .await
            .map_err(|e| CliError::failed(&e))
    })?;
    output.result(&replayed, || text(&replayed))?;
    verdict(&replayed)
}

async fn open(config: &Config, data: Option<&Path>) -> Result<Place, CliError> {
    let failed = |e: store::StoreError| CliError::failed(&e);
    let (store, folder) = match config.log.kafka().filter(|_| data.is_none()) {
        Some(kafka) => {
            let place: TablesIn = config.store.place().map_err(CliError::Input)?;
            let options = store::Options::default();
            let store = Store::over_kafka(place, kafka, PROCESS, options).await;
            (store.map_err(failed)?, None)
        }
        None => {
            let dir = data.unwrap_or(&config.store.dir);
            if !Store::is_in(dir) {
                let dir = dir.display();
                return Err(CliError::Input(format!(
                    "--data: {dir} holds no log, expected the store.dir of shoal serve or the data-dir of shoal demo"
                )));
            }
            let folder = Folder::claim(dir)?;
            (Store::open(dir).await.map_err(failed)?, Some(folder))
        }
    };
    Ok(Place {
        log: store.log(),
        tables: store.tables(),
        _store: store,
        _folder: folder,
    })
}

/// What ends a replay before it has an answer.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Tables(#[from] store::StoreError),
}

async fn replay(place: &Place, day: NaiveDate, span: Interval) -> Result<Replayed, Failed> {
    let mut damaged = Vec::new();
    for spec in topic::ALL {
        let found = place.log.damaged(spec.topic).await?.into_iter();
        damaged.extend(found.map(|(offset, key)| Damaged {
            topic: spec.topic.name(),
            offset,
            key,
        }));
    }
    let damaged_records = damaged.len();
    damaged.truncate(NAMED);
    Ok(Replayed {
        day,
        from: span.start(),
        to: span.end(),
        bids: bids::replay(&place.log, span).await?,
        setpoints: setpoints::replay(&place.log, span).await?,
        intervals: intervals::replay(&place.log, &place.tables, span).await?,
        damaged_records,
        damaged,
    })
}

/// Whether an instant lies in a day.
fn within(day: Interval, micros: i64) -> bool {
    (day.start().timestamp_micros()..day.end().timestamp_micros()).contains(&micros)
}

fn verdict(replayed: &Replayed) -> Result<(), CliError> {
    let kinds = [&replayed.bids, &replayed.setpoints, &replayed.intervals];
    let different: u64 = kinds.iter().map(|kind| kind.differences).sum();
    let unchecked: u64 = kinds.iter().map(|kind| kind.not_checked).sum();
    let mut wrong = Vec::new();
    if replayed.damaged_records > 0 {
        wrong.push(format!("{} records are damaged", replayed.damaged_records));
    }
    if different > 0 {
        wrong.push(format!("{different} decisions differ"));
    }
    if unchecked > 0 {
        wrong.push(format!("{unchecked} decisions cannot be checked"));
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(CliError::Failed(format!(
            "{}: {}",
            replayed.day,
            wrong.join(", ")
        )))
    }
}

fn text(replayed: &Replayed) -> String {
    let mut lines = vec![
        format!("{} from {} to {}", replayed.day, replayed.from, replayed.to),
        replayed.bids.line("bids"),
        replayed.setpoints.line("set-points"),
        replayed.intervals.line("intervals"),
    ];
    lines.extend(replayed.damaged.iter().map(|damaged| {
        let Damaged { topic, offset, key } = damaged;
        format!("damaged: record {offset} of {topic}, key {key}")
    }));
    lines.join("\n")
}
