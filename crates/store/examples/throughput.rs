//! What the log carries: `cargo run --release -p store --example throughput -- [RECORDS] [BATCH]`.
//!
//! Appends records of the size of a reading from four tasks to a database on disk while one consumer reads and commits; then
//! reads everything once more from the database, as a consumer does that was away.

use std::time::Instant;

use bytes::Bytes;
use store::{NewRecord, Position, Store, topic};

/// Bytes of an encoded meter reading.
const PAYLOAD: usize = 96;

const TASKS: usize = 4;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let records: usize = args.next().map_or(Ok(200_000), |n| n.parse())?;
    let batch: usize = args.next().map_or(Ok(200), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path()).await?;
    let total = records / (batch * TASKS) * (batch * TASKS);

    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..TASKS {
        let log = store.log();
        tasks.spawn(async move {
            for _ in 0..total / (batch * TASKS) {
                let records = (0..batch).map(|n| NewRecord {
                    topic: topic::READINGS,
                    key: format!("station-{:04}/1", (n * TASKS + task) % 1_000),
                    payload: Bytes::from(vec![7; PAYLOAD]),
                });
                log.append(records.collect()).await?;
            }
            anyhow::Ok(())
        });
    }
    let mut reader = store.log().subscribe(topic::READINGS, "bench").await?;
    let mut read = 0;
    while read < total {
        let records = reader.next_batch(4_096).await?;
        read += records.len();
        reader.commit(&Position::after(&records)).await?;
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    say("append, consume and commit", total, started);

    let started = Instant::now();
    let mut reader = store.log().replay(topic::READINGS, &Position::default())?;
    let mut read = 0;
    while read < total {
        read += reader.next_batch(4_096).await?.len();
    }
    say("read from the database", total, started);

    let started = Instant::now();
    let mut tail = store.log().tail(topic::SETPOINTS).await?;
    for n in 0..1_000_u32 {
        let one = NewRecord {
            topic: topic::SETPOINTS,
            key: n.to_string(),
            payload: Bytes::from(vec![7; PAYLOAD]),
        };
        store.log().append(vec![one]).await?;
        tail.next_batch(1).await?;
    }
    say("append one, receive one", 1_000, started);
    Ok(())
}

#[expect(clippy::print_stderr, reason = "its result is for people")]
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn say(what: &str, records: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let (rate, each) = (records as f64 / seconds, seconds * 1e6 / records as f64);
    eprintln!("{what}: {records} records in {seconds:.2} s, {rate:.0} a second, {each:.1} us each");
}
