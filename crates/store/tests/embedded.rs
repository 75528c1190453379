//! What the embedded log does beyond the laws of every log: offsets without holes, latency, retention by count, one file.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

use std::time::Duration;

use bytes::Bytes;
use store::topic::Retention;
use store::{NewRecord, Options, Position, Store, Topic};

const A: Topic = Topic::new("test.a.v1");

fn record(topic: Topic, key: &str, payload: impl Into<Vec<u8>>) -> NewRecord {
    NewRecord {
        topic,
        key: key.to_owned(),
        payload: Bytes::from(payload.into()),
    }
}

fn numbered(topic: Topic, numbers: std::ops::Range<u32>) -> Vec<NewRecord> {
    numbers
        .map(|n| record(topic, &format!("k{}", n % 7), n.to_le_bytes()))
        .collect()
}

fn number(record: &store::Record) -> u32 {
    u32::from_le_bytes(record.payload.as_ref().try_into().unwrap())
}

async fn read(subscription: &mut store::Subscription, count: usize) -> Vec<store::Record> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(120), subscription.next_batch(500))
            .await
            .expect("records arrive")
            .unwrap();
        all.extend(batch);
    }
    all
}

/// Each law holds on disk and in memory.
async fn stores() -> Vec<(Store, Option<tempfile::TempDir>)> {
    let dir = tempfile::tempdir().unwrap();
    let disk = Store::open(dir.path()).await.unwrap();
    vec![(disk, Some(dir)), (Store::in_memory().await.unwrap(), None)]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_append_is_not_torn_by_others() {
    for (store, _dir) in stores().await {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..16_u32 {
            let log = store.log();
            writers.spawn(async move {
                for batch in 0..20 {
                    let from = writer * 10_000 + batch * 5;
                    log.append(numbered(A, from..from + 5)).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        let mut reader = store.log().subscribe(A, "g").await.unwrap();
        assert_eq!(reader.lag(), 16 * 100);
        let read = read(&mut reader, 16 * 100).await;
        let offsets = read.iter().map(|r| r.offset);
        assert!(offsets.eq(1..=16 * 100));
        for batch in read.chunks(5) {
            assert!(batch.windows(2).all(|w| number(&w[1]) == number(&w[0]) + 1));
        }
    }
}

#[tokio::test]
async fn a_waiting_reader_is_woken_within_milliseconds() {
    for (store, _dir) in stores().await {
        let log = store.log();
        let mut reader = log.subscribe(A, "g").await.unwrap();
        let mut worst = Duration::ZERO;
        let mut sum = Duration::ZERO;
        for n in 0..50_u32 {
            let appending = log.append(numbered(A, n..n + 1));
            let started = std::time::Instant::now();
            let (appended, got) = tokio::join!(appending, reader.next_batch(10));
            appended.unwrap();
            assert_eq!(got.unwrap().len(), 1);
            worst = worst.max(started.elapsed());
            sum += started.elapsed();
        }
        // Append and delivery together; the bound is loose because tests share the machine.
        assert!(sum / 50 < Duration::from_millis(25), "mean {:?}", sum / 50);
        println!("append to delivery: mean {:?}, worst {worst:?}", sum / 50);
    }
}

#[tokio::test]
async fn a_reader_far_behind_gets_every_record_from_the_database() {
    let dir = tempfile::tempdir().unwrap();
    let log = Store::open(dir.path()).await.unwrap().log();
    let total = 40_000;
    for from in (0..total).step_by(4_000) {
        log.append(numbered(A, from..from + 4_000)).await.unwrap();
    }
    let mut reader = log.subscribe(A, "slow").await.unwrap();
    let all = read(&mut reader, total as usize).await;
    assert_eq!(
        all.iter().map(number).collect::<Vec<_>>(),
        (0..total).collect::<Vec<_>>()
    );
}

/// Waits until at most `most` records of topic A are left in the database: retention works beside the appends, and what is
/// in memory says nothing about it.
async fn shrunk(dir: &std::path::Path, most: i64) {
    let file = format!("sqlite://{}", dir.join("shoal.db").display());
    let beside = sqlx::SqlitePool::connect(&file).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    let (mut before, mut unchanged) = (-1, 0);
    loop {
        let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM log WHERE topic = $1")
            .bind(A.name())
            .fetch_one(&beside)
            .await
            .unwrap();
        // What is taken away goes in steps: it is over once nothing more goes.
        unchanged = if left == before { unchanged + 1 } else { 0 };
        if left <= most && unchanged >= 25 {
            return;
        }
        before = left;
        assert!(std::time::Instant::now() < deadline, "{left} records left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn retention_keeps_the_newest_records_and_offsets_go_on() {
    fn small(_: &str) -> Retention {
        Retention::Newest(1_000)
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: small,
        ..Options::default()
    };
    {
        let log = Store::open_with(dir.path(), options.clone())
            .await
            .unwrap()
            .log();
        for from in (0..42_000).step_by(2_000) {
            log.append(numbered(A, from..from + 2_000)).await.unwrap();
        }
        shrunk(dir.path(), 1_000 + 10_000).await;
    }
    let log = Store::open_with(dir.path(), options).await.unwrap().log();
    let mut late = log.subscribe(A, "late").await.unwrap();
    let first = late.next_batch(1).await.unwrap();
    assert!(first[0].offset > 31_000, "{}", first[0].offset);
    assert_eq!(
        number(&first[0]) + 1,
        u32::try_from(first[0].offset).unwrap()
    );
    let begins = log.beginning(A).await.unwrap();
    assert_eq!(begins, Position::at(0, first[0].offset - 1));
    log.append(numbered(A, 0..1)).await.unwrap();
    assert_eq!(log.newest(A).await.unwrap(), Position::at(0, 42_001));
}

#[tokio::test]
async fn compaction_keeps_the_newest_record_of_each_key() {
    fn compact(_: &str) -> Retention {
        Retention::LatestPerKey { grace: 10 }
    }
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        retention: compact,
        ..Options::default()
    };
    {
        let log = Store::open_with(dir.path(), options.clone())
            .await
            .unwrap()
            .log();
        log.append(vec![record(A, "rare", *b"once")]).await.unwrap();
        for from in (0..22_000).step_by(2_000) {
            log.append(numbered(A, from..from + 2_000)).await.unwrap();
        }
        shrunk(dir.path(), 8 + 10 + 10_000).await;
    }
    let log = Store::open_with(dir.path(), options).await.unwrap().log();
    let mut all = log.replay(A, &Position::default()).unwrap();
    let newest = log.newest(A).await.unwrap().of(0);
    let mut kept = Vec::new();
    while kept
        .last()
        .is_none_or(|r: &store::Record| r.offset < newest)
    {
        kept.extend(all.next_batch(1_000).await.unwrap());
    }
    assert_eq!(kept[0].key, "rare");
    assert!(kept.len() <= 10_018, "{} records kept", kept.len());
    assert!(kept.len() >= 18, "{} records kept", kept.len());
    assert!(kept.windows(2).all(|w| w[0].offset < w[1].offset));
}

#[tokio::test]
async fn a_second_store_over_the_same_file_takes_offsets_up_where_the_first_left_them() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).await.unwrap().log();
    let second = Store::open(dir.path()).await.unwrap().log();
    first.append(numbered(A, 0..3)).await.unwrap();
    // The second does not know yet: the collision is refused whole, and the next attempt goes on after it.
    assert!(
        second
            .append(numbered(A, 3..4))
            .await
            .unwrap_err()
            .is_retryable()
    );
    second.append(numbered(A, 3..4)).await.unwrap();
    assert_eq!(second.newest(A).await.unwrap(), Position::at(0, 4));
    let mut reader = second.subscribe(A, "g").await.unwrap();
    let got: Vec<u32> = read(&mut reader, 4).await.iter().map(number).collect();
    assert_eq!(got, vec![0, 1, 2, 3]);
}

#[tokio::test]
async fn one_bad_change_of_a_group_harms_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let file = format!("sqlite://{}", dir.path().join("shoal.db").display());
    let beside = sqlx::SqlitePool::connect(&file).await.unwrap();
    sqlx::raw_sql(
        "CREATE TRIGGER poison BEFORE INSERT ON log WHEN NEW.record_key = 'bad' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END",
    )
    .execute(&beside)
    .await
    .unwrap();
    let log = store.log();
    let appends = (0..20_u32).map(|n| {
        let log = log.clone();
        let key = if n % 5 == 0 { "bad" } else { "good" };
        async move { log.append(vec![record(A, key, n.to_le_bytes())]).await }
    });
    let mut set = tokio::task::JoinSet::new();
    for append in appends {
        set.spawn(append);
    }
    let (stored, refused): (Vec<_>, Vec<_>) =
        set.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((stored.len(), refused.len()), (16, 4));
    let mut reader = log.subscribe(A, "g").await.unwrap();
    let offsets: Vec<u64> = read(&mut reader, 16)
        .await
        .iter()
        .map(|r| r.offset)
        .collect();
    assert_eq!(
        offsets,
        (1..=16).collect::<Vec<_>>(),
        "refused ones leave no hole"
    );
}

#[tokio::test]
async fn a_record_that_changed_on_the_disk_is_named_and_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    {
        let log = Store::open(dir.path()).await.unwrap().log();
        log.append(numbered(A, 0..20)).await.unwrap();
        assert_eq!(log.damaged(A).await.unwrap(), []);
    }
    let file = format!("sqlite://{}", dir.path().join("shoal.db").display());
    let beside = sqlx::SqlitePool::connect(&file).await.unwrap();
    // A payload, a key, an instant; a record of before has nothing to hold it against.
    for change in [
        "payload = X'09000001' WHERE log_offset = 4",
        "record_key = 'k8' WHERE log_offset = 11",
        "appended_at = appended_at + 1 WHERE log_offset = 20",
        "checksum = NULL, payload = X'07000001' WHERE log_offset = 8",
    ] {
        let change = format!("UPDATE log SET {change}");
        let changed = sqlx::query(sqlx::AssertSqlSafe(change)).execute(&beside);
        assert_eq!(changed.await.unwrap().rows_affected(), 1);
    }
    beside.close().await;

    let store = Store::open(dir.path()).await.unwrap();
    let log = store.log();
    let damaged = log.damaged(A).await.unwrap();
    let offsets: Vec<u64> = damaged.iter().map(|(offset, _)| *offset).collect();
    assert_eq!(offsets, [4, 11, 20]);
    let mut reader = log.replay(A, &Position::default()).unwrap();
    // One at a time: a batch of nothing but damage is no end.
    let mut read = Vec::new();
    while read.len() < 17 {
        read.extend(reader.next_batch(1).await.unwrap());
    }
    let read: Vec<u64> = read.iter().map(|record| record.offset).collect();
    let expected: Vec<u64> = (1..20).filter(|n| ![4, 11].contains(n)).collect();
    assert_eq!(read, expected);
    // What comes after the damage at the end is read.
    log.append(numbered(A, 20..21)).await.unwrap();
    let next = reader.next_batch(1).await.unwrap();
    assert_eq!(next[0].offset, 21);
}
