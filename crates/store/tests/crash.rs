//! A real process is killed in the middle of appending: nothing acknowledged is lost, nothing is torn.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use market::{Area, BidId, BidStatus};
use store::{Change, NewRecord, Position, Store, Topic};

const TOPIC: Topic = Topic::new("crash.v1");

/// Says in the child where its database is.
const DIR: &str = "SHOAL_STORE_CRASH_DIR";

fn batch(writer: u32, number: u32) -> Vec<NewRecord> {
    (0..3)
        .map(|part| NewRecord {
            topic: TOPIC,
            key: format!("{writer}"),
            payload: Bytes::from(format!("{writer}:{number}:{part}")),
        })
        .collect()
}

fn bid(writer: u32, number: u32) -> market::Bid {
    let start = "2026-03-29T00:00:00Z".parse().unwrap();
    let end = "2026-03-29T04:00:00Z".parse().unwrap();
    market::Bid {
        id: BidId::derive("NL", &writer.to_string(), start, number),
        area: Area::Nl,
        product: market::Product::Fcr,
        direction: market::Direction::Symmetric,
        delivery: units::Interval::try_new(start, end).unwrap(),
        volume: units::Power::from_mw(1.0),
        price: None,
        divisible: true,
        gate_closes: start,
        built_at: start,
        delivery_probability: 0.99,
        reason: format!("{writer}:{number}"),
        status: BidStatus::Draft,
    }
}

/// Not a test of its own: the process that the test below kills. Four tasks append batches and bids, and say each one that
/// was acknowledged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started and killed by the test of this file"]
async fn child() {
    let Some(dir) = std::env::var_os(DIR) else {
        return;
    };
    let store = Store::open(dir.as_ref()).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4_u32 {
        let store = store.clone();
        writers.spawn(async move {
            for number in 0.. {
                let change = Change::default()
                    .bids(&[bid(writer, number)])
                    .records(batch(writer, number));
                store.tables().apply(change).await.unwrap();
                println!("ACK {writer} {number} ");
            }
        });
    }
    writers.join_all().await;
}

/// Starts the child on `dir`, kills it after `acks` acknowledgements, and answers all that were said.
fn killed_after(dir: &std::path::Path, acks: usize) -> Vec<(u32, u32)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut said = Vec::new();
    let mut hear = |line: String| {
        // The line is whole or cut by the kill; the test harness may write before it.
        let mut words = line.split("ACK ").nth(1)?.split(' ').map(str::to_owned);
        let ack = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        // What follows the last number shows that it is whole.
        words.next()?;
        said.push(ack);
        Some(())
    };
    let mut heard = 0;
    while heard < acks {
        let line = lines.next().expect("the child runs until it is killed");
        heard += usize::from(hear(line.unwrap()).is_some());
    }
    child.kill().unwrap();
    for line in lines.map_while(Result::ok) {
        hear(line);
    }
    child.wait().unwrap();
    said
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged_and_leaves_nothing_torn() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for acks in [37, 150, 211] {
        let path = dir.path().to_owned();
        let said = tokio::task::spawn_blocking(move || killed_after(&path, acks)).await;
        acknowledged.extend(said.unwrap());

        let store = Store::open(dir.path()).await.unwrap();
        let log = store.log();
        let mut reader = log.replay(TOPIC, &Position::default()).unwrap();
        let mut records = Vec::new();
        while reader.lag() > 0 {
            let batch = tokio::time::timeout(Duration::from_secs(120), reader.next_batch(1_000));
            records.extend(batch.await.unwrap().unwrap());
        }
        for (n, record) in records.iter().enumerate() {
            assert_eq!(record.offset, n as u64 + 1, "no hole, no repetition");
        }
        assert_eq!(records.len() % 3, 0, "batches are whole");
        for batch in records.chunks(3) {
            let (first, last) = (&batch[0].payload, &batch[2].payload);
            assert_eq!(first[..first.len() - 1], last[..last.len() - 1]);
        }
        let stored: std::collections::BTreeSet<&[u8]> =
            records.iter().map(|r| r.payload.as_ref()).collect();
        for (writer, number) in &acknowledged {
            assert!(stored.contains(format!("{writer}:{number}:0").as_bytes()));
        }
        let batches = records.len() / 3;
        let start = "2026-03-29T00:00:00Z".parse().unwrap();
        let end = "2026-03-30T00:00:00Z".parse().unwrap();
        let bids = store.tables().bids_between(start, end).await.unwrap();
        let distinct: std::collections::BTreeSet<_> = records
            .iter()
            .step_by(3)
            .map(|r| r.payload.clone())
            .collect();
        assert_eq!(
            bids.len(),
            distinct.len(),
            "a bid for each batch and no other"
        );
        assert!(batches >= acknowledged.len());
    }
}
