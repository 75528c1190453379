//! What every event log must do, over its public interface: the embedded one on disk and in memory, and Apache Kafka with tables in
//! SQLite and on PostgreSQL.
//!
//! One runtime and one broker serve all laws: `cargo test` would start a broker for each test program otherwise.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use store::topic::{Lifetime, Retention, Spec, Spread};
use store::{
    Change, KafkaOptions, NewRecord, Options, Position, Store, StoreError, TablesIn, Topic,
};
use support::Broker;
use support::postgres::{Postgres, Schema};
use support::young::Young;

/// Longest wait for what comes at once on a machine with time.
const PATIENCE: Duration = Duration::from_secs(120);

const A: Topic = Topic::new("test.a.v1");
const B: Topic = Topic::new("test.b.v1");
/// Records of 64 KiB at most.
const NARROW: Topic = Topic::new("test.narrow.v1");
const COMPACTED: Topic = Topic::new("test.compacted.v1");

const fn spec(topic: Topic, spread: Spread, lifetime: Lifetime, largest: u32) -> Spec {
    Spec {
        topic,
        spread,
        keep: Retention::Newest(1_000_000),
        lifetime,
        largest,
    }
}

const TOPICS: [Spec; 4] = [
    spec(A, Spread::Wide, Lifetime::Days(1), 1 << 20),
    spec(B, Spread::One, Lifetime::Ever, 1 << 20),
    spec(NARROW, Spread::One, Lifetime::Days(1), 1 << 16),
    spec(
        COMPACTED,
        Spread::One,
        Lifetime::LatestPerKey {
            grace: chrono::TimeDelta::zero(),
        },
        1 << 20,
    ),
];

/// A store and what it lives in.
struct World {
    name: &'static str,
    store: Store,
    /// Where the tables are; none in memory.
    place: Option<TablesIn>,
    /// The schema, on a server.
    schema: Option<Schema>,
    dir: Option<tempfile::TempDir>,
    kafka: Option<KafkaOptions>,
}

impl World {
    /// The same log and tables as a process finds them that starts after this one.
    async fn reopened(self) -> Self {
        drop(self.store);
        let store = match (&self.kafka, self.place.clone().expect("kept on disk")) {
            (Some(kafka), place) => support::store(place, kafka, "test").await,
            (None, TablesIn::Folder(dir)) => Store::open(&dir).await.unwrap(),
            (None, TablesIn::Postgres(_)) => {
                unreachable!("the embedded log has its tables in a folder")
            }
        };
        Self { store, ..self }
    }

    /// What another process does to the tables.
    async fn beside(&self, server: Option<&Postgres>, statement: &'static str) {
        match (&self.place, &self.schema) {
            (_, Some(schema)) => {
                let mut beside = server.unwrap().beside(schema).await;
                sqlx::query(statement).execute(&mut beside).await.unwrap();
            }
            (Some(TablesIn::Folder(dir)), None) => {
                let file = format!("sqlite://{}", dir.join("shoal.db").display());
                let beside = sqlx::SqlitePool::connect(&file).await.unwrap();
                sqlx::query(statement).execute(&beside).await.unwrap();
            }
            _ => unreachable!("nobody else reaches tables in memory"),
        }
    }
}

async fn on_disk() -> World {
    let dir = tempfile::tempdir().unwrap();
    World {
        name: "embedded, on disk",
        store: Store::open(dir.path()).await.unwrap(),
        place: Some(dir.path().into()),
        schema: None,
        dir: Some(dir),
        kafka: None,
    }
}

async fn over(broker: &Broker) -> World {
    let dir = tempfile::tempdir().unwrap();
    let kafka = broker.options(&TOPICS);
    World {
        name: "kafka",
        store: support::store(dir.path(), &kafka, "test").await,
        place: Some(dir.path().into()),
        schema: None,
        dir: Some(dir),
        kafka: Some(kafka),
    }
}

/// The cluster: the log on Kafka, the tables on PostgreSQL.
async fn clustered(broker: &Broker, server: &Postgres) -> World {
    let kafka = broker.options(&TOPICS);
    let schema = server.empty().await;
    World {
        name: "kafka and postgresql",
        store: support::store(schema.options.clone(), &kafka, "test").await,
        place: Some(schema.options.clone().into()),
        schema: Some(schema),
        dir: None,
        kafka: Some(kafka),
    }
}

/// Each law holds on disk, in memory and, if there is a broker, over Kafka; with a server as well, in a cluster.
async fn worlds(broker: Option<&Broker>, server: Option<&Postgres>) -> Vec<World> {
    let memory = World {
        name: "embedded, in memory",
        store: Store::in_memory().await.unwrap(),
        place: None,
        schema: None,
        dir: None,
        kafka: None,
    };
    let mut worlds = vec![on_disk().await, memory];
    if let Some(broker) = broker {
        worlds.push(over(broker).await);
        if let Some(server) = server {
            worlds.push(clustered(broker, server).await);
        }
    }
    worlds
}

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

fn numbers(records: &[store::Record]) -> BTreeSet<u32> {
    let numbers: BTreeSet<u32> = records.iter().map(number).collect();
    assert_eq!(numbers.len(), records.len(), "none comes twice");
    numbers
}

/// The next `count` records; patient, for a machine that has other work.
async fn read(subscription: &mut store::Subscription, count: usize) -> Vec<store::Record> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = tokio::time::timeout(Duration::from_secs(120), subscription.next_batch(500));
        all.extend(batch.await.expect("records arrive").unwrap());
    }
    all
}

async fn nothing_comes(subscription: &mut store::Subscription) {
    let waited = tokio::time::timeout(Duration::from_millis(300), subscription.next_batch(1)).await;
    assert!(waited.is_err(), "got {waited:?}");
}

/// Records of one key are in order, and offsets of one partition rise by one.
fn is_in_order(records: &[store::Record]) {
    let mut last: BTreeMap<&str, u32> = BTreeMap::new();
    let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
    for record in records {
        let n = number(record);
        assert!(last.insert(&record.key, n).is_none_or(|before| before < n));
        let before = ends.insert(record.partition, record.offset).unwrap_or(0);
        assert_eq!(record.offset, before + 1, "no hole, no repetition");
    }
}

async fn records_of_a_key_come_in_order_with_offsets_from_one(world: &World) {
    let log = world.store.log();
    log.append(numbered(A, 0..10)).await.unwrap();
    let mixed = [numbered(B, 0..1), numbered(A, 10..30), numbered(B, 1..2)].concat();
    log.append(mixed).await.unwrap();
    let mut reader = log.subscribe(A, "order").await.unwrap();
    let all = read(&mut reader, 30).await;
    assert_eq!(numbers(&all), (0..30).collect());
    is_in_order(&all);
    assert!(all.iter().all(|r| r.topic == A));
    nothing_comes(&mut reader).await;
    assert_eq!(reader.position(), log.newest(A).await.unwrap());
    assert_eq!(reader.position().total(), 30);
    assert_eq!(reader.lag(), 0);
}

async fn appends_of_many_tasks_interleave_and_each_keeps_its_order(world: &World) {
    let log = world.store.log();
    let mut tail = log.tail(A).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8_u32 {
        let log = log.clone();
        writers.spawn(async move {
            for batch in 0..10 {
                let from = writer * 10_000 + batch * 5;
                let key = format!("writer {writer}");
                let records = (from..from + 5).map(|n| record(A, &key, n.to_le_bytes()));
                log.append(records.collect()).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    let all = read(&mut tail, 8 * 50).await;
    for writer in 0..8_u32 {
        let all = all.iter().map(number);
        let mine: Vec<u32> = all.filter(|n| n / 10_000 == writer).collect();
        assert_eq!(mine.len(), 50);
        assert!(mine.is_sorted(), "records of one writer keep their order");
    }
}

async fn groups_do_not_see_each_other_and_a_commit_never_goes_back(world: &World) {
    let log = world.store.log();
    let end = log.newest(B).await.unwrap().total();
    log.append(numbered(B, 0..4)).await.unwrap();
    let mut one = log.subscribe(B, "one").await.unwrap();
    let mine = read(&mut one, usize::try_from(end).unwrap() + 4).await;
    let (all, less) = (Position::after(&mine), Position::after(&mine[..2]));
    one.commit(&all).await.unwrap();
    one.commit(&less).await.unwrap();
    assert_eq!(log.committed(B, "one").await.unwrap(), all);
    assert!(log.committed(B, "two").await.unwrap().is_start());
    let mut two = log.subscribe(B, "two").await.unwrap();
    assert_eq!(read(&mut two, mine.len()).await, mine);
}

async fn a_tail_begins_now_and_cannot_commit(world: &World) {
    let log = world.store.log();
    log.append(numbered(A, 0..4)).await.unwrap();
    let mut tail = log.tail(A).await.unwrap();
    // Appended before the tail is asked for the first time.
    log.append(numbered(A, 4..6)).await.unwrap();
    assert_eq!(numbers(&read(&mut tail, 2).await), [4, 5].into());
    nothing_comes(&mut tail).await;
    let refused = tail.commit(&Position::at(0, 5)).await.unwrap_err();
    assert!(!refused.is_retryable());
}

async fn a_replay_begins_anywhere_and_reads_every_partition(world: &World) {
    let log = world.store.log();
    let before = log.newest(A).await.unwrap();
    log.append(numbered(A, 0..20)).await.unwrap();
    let first = read(&mut log.replay(A, &before).unwrap(), 20).await;
    assert_eq!(numbers(&first), (0..20).collect());
    let mut middle = before.clone();
    middle.join(&Position::after(&first[..12]));
    let rest = read(&mut log.replay(A, &middle).unwrap(), 8).await;
    assert_eq!(numbers(&rest), numbers(&first[12..]));
    let whole = log.newest(A).await.unwrap().total();
    let mut all = log.replay(A, &Position::default()).unwrap();
    let all = read(&mut all, usize::try_from(whole).unwrap()).await;
    assert_eq!(all.len() as u64, whole);
}

async fn a_dropped_wait_loses_no_record(world: &World) {
    let log = world.store.log();
    let mut reader = log.tail(A).await.unwrap();
    for n in 0..5_u32 {
        for _ in 0..3 {
            let cut = tokio::time::timeout(Duration::from_millis(2), reader.next_batch(1)).await;
            assert!(cut.is_err());
        }
        log.append(numbered(A, n..n + 1)).await.unwrap();
        assert_eq!(number(&read(&mut reader, 1).await[0]), n);
    }
}

/// Whoever waits for several things at once stops waiting for this one again and again.
async fn a_reader_that_is_never_waited_for_long_begins_all_the_same(world: &World) {
    let log = world.store.log();
    log.append(numbered(A, 0..20)).await.unwrap();
    let wanted = usize::try_from(log.newest(A).await.unwrap().total()).unwrap();
    let mut reader = log.subscribe(A, "impatient").await.unwrap();
    let mut met = 0;
    let begun = std::time::Instant::now();
    while met < wanted {
        let waits = tokio::time::timeout(Duration::from_micros(300), reader.next_batch(7));
        match waits.await {
            Ok(records) => met += records.unwrap().len(),
            // What goes on beside it needs the time.
            Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
        }
        assert!(begun.elapsed() < PATIENCE, "{met} of {wanted} records");
    }
}

async fn what_is_left_of_a_topic_begins_before_its_oldest_record(world: &World) {
    let log = world.store.log();
    log.append(numbered(A, 0..4)).await.unwrap();
    let begins = log.beginning(A).await.unwrap();
    let newest = log.newest(A).await.unwrap();
    let whole = usize::try_from(newest.total() - begins.total()).unwrap();
    let all = read(&mut log.replay(A, &begins).unwrap(), whole).await;
    assert_eq!(Position::after(&all), newest);
    for (partition, before) in begins.partitions() {
        let first = all.iter().find(|record| record.partition == partition);
        assert!(first.is_none_or(|record| record.offset == before + 1));
    }
}

async fn a_record_that_is_refused_is_an_error_and_harms_no_other(world: &World) {
    let log = world.store.log();
    if world.kafka.is_some() {
        let refused = log
            .append(vec![record(NARROW, "k", vec![7; 1 << 17])])
            .await;
        let refused = refused.unwrap_err();
        assert!(!refused.is_retryable(), "{refused:?}");
        let store::LogError::Append(why) = refused else {
            panic!("{refused:?}")
        };
        let line = "record \"k\" for test.narrow.v1 has 131072 bytes, expected at most 65536";
        assert_eq!(why.to_string(), line);
        let unknown = Topic::new("test.unknown.v1");
        let refused = log.append(vec![record(unknown, "k", *b"1")]).await;
        assert!(!refused.unwrap_err().is_retryable());
    }
    let mut tail = log.tail(NARROW).await.unwrap();
    log.append(numbered(NARROW, 0..3)).await.unwrap();
    assert_eq!(numbers(&read(&mut tail, 3).await), (0..3).collect());
    log.append(vec![]).await.unwrap();
    nothing_comes(&mut tail).await;
}

async fn rows_records_and_position_are_stored_together(world: &World) {
    let (log, tables) = (world.store.log(), world.store.tables());
    log.append(numbered(A, 0..12)).await.unwrap();
    let mut reader = log.subscribe(A, "together").await.unwrap();
    let whole = usize::try_from(log.newest(A).await.unwrap().total()).unwrap();
    let handled = Position::after(&read(&mut reader, whole).await);
    let mut out = log.tail(B).await.unwrap();
    let kept = [("place".to_owned(), "\"here\"".to_owned())];
    let change = Change::default()
        .keep("together", kept.clone())
        .records(numbered(B, 0..40))
        .commit(A, "together", &handled);
    tables.apply(change).await.unwrap();
    assert_eq!(tables.kept("together").await.unwrap(), kept);
    assert_eq!(log.committed(A, "together").await.unwrap(), handled);
    let all = read(&mut out, 40).await;
    assert_eq!(
        all.iter().map(number).collect::<Vec<_>>(),
        (0..40).collect::<Vec<_>>(),
        "one partition keeps the order of a change"
    );
    nothing_comes(&mut out).await;
}

/// Consumes the world.
async fn what_was_committed_survives_and_the_rest_comes_again(world: World) {
    let log = world.store.log();
    let mut reader = log.subscribe(A, "survives").await.unwrap();
    log.append(numbered(A, 0..100)).await.unwrap();
    let whole = usize::try_from(log.newest(A).await.unwrap().total()).unwrap();
    let all = read(&mut reader, whole).await;
    let handled = Position::after(&all[..whole - 30]);
    reader.commit(&handled).await.unwrap();
    drop((reader, log));
    let world = world.reopened().await;
    let log = world.store.log();
    let mut reader = log.subscribe(A, "survives").await.unwrap();
    let again = read(&mut reader, 30).await;
    let places = |records: &[store::Record]| -> BTreeSet<(u32, u64)> {
        records.iter().map(|r| (r.partition, r.offset)).collect()
    };
    assert_eq!(places(&again), places(&all[whole - 30..]));
    log.append(numbered(A, 100..101)).await.unwrap();
    assert_eq!(number(&read(&mut reader, 1).await[0]), 100);
    // A position that only the rows know counts as well.
    let end = reader.position();
    let change = Change::default().commit(A, "survives", &end);
    world.store.tables().apply(change).await.unwrap();
    drop((reader, log));
    let world = world.reopened().await;
    let log = world.store.log();
    assert_eq!(log.committed(A, "survives").await.unwrap(), end);
    let mut reader = log.subscribe(A, "survives").await.unwrap();
    nothing_comes(&mut reader).await;
}

macro_rules! laws {
    ($world:expr; $($law:ident),* $(,)?) => {
        $(
            println!("{}: {}", $world.name, stringify!($law));
            $law($world).await;
        )*
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_log_keeps_its_laws() {
    let broker = Broker::start();
    let mut server = Postgres::start().await;
    for world in worlds(broker.as_ref(), server.as_ref()).await {
        laws!(&world;
            records_of_a_key_come_in_order_with_offsets_from_one,
            appends_of_many_tasks_interleave_and_each_keeps_its_order,
            groups_do_not_see_each_other_and_a_commit_never_goes_back,
            a_tail_begins_now_and_cannot_commit,
            a_replay_begins_anywhere_and_reads_every_partition,
            a_dropped_wait_loses_no_record,
            a_reader_that_is_never_waited_for_long_begins_all_the_same,
            what_is_left_of_a_topic_begins_before_its_oldest_record,
            a_record_that_is_refused_is_an_error_and_harms_no_other,
            rows_records_and_position_are_stored_together,
        );
        if world.place.is_some() {
            what_was_committed_survives_and_the_rest_comes_again(world).await;
        }
    }
    let Some(broker) = broker else { return };
    topics_are_made_once_and_too_few_partitions_are_named(&broker).await;
    two_readers_of_a_group_share_a_topic_and_one_takes_over_from_the_other(&broker).await;
    who_lost_a_partition_cannot_store_what_follows_from_it(over(&broker).await, None).await;
    if let Some(server) = &mut server {
        let world = clustered(&broker, server).await;
        who_lost_a_partition_cannot_store_what_follows_from_it(world, Some(server)).await;
        records_are_on_the_log_once_rows_are_stored_though_the_server_is_killed(&broker, server)
            .await;
    }
    what_the_outbox_holds_is_appended_after_a_restart(&broker).await;
    compaction_keeps_the_newest_record_of_each_key(&broker).await;
    a_broker_that_crashes_loses_nothing_acknowledged(&broker).await;
    a_broker_that_names_nobody_is_found_again(&broker).await;
    tokio::task::spawn_blocking(move || who_reads_can_end_though_the_broker_is_gone(&broker))
        .await
        .unwrap();
}

async fn topics_are_made_once_and_too_few_partitions_are_named(broker: &Broker) {
    let dir = tempfile::tempdir().unwrap();
    let kafka = broker.options(&TOPICS);
    let missing = Store::over_kafka(dir.path(), kafka.clone(), "test", Options::default()).await;
    let missing = missing.unwrap_err().to_string();
    assert!(missing.contains("test.a.v1 does not exist"), "{missing}");
    let made = store::migrate(dir.path(), &kafka).await.unwrap();
    assert!(made.iter().all(|topic| topic.made) && made.len() == 4);
    assert_eq!((made[0].partitions, made[1].partitions), (3, 1));
    let again = store::migrate(dir.path(), &kafka).await.unwrap();
    assert!(again.iter().all(|topic| !topic.made));
    let wider = KafkaOptions {
        partitions: 5,
        ..kafka
    };
    let narrow = store::migrate(dir.path(), &wider).await.unwrap_err();
    let line = format!(
        "topics of the log: {}test.a.v1 has 3 partitions, expected at least 5",
        wider.prefix
    );
    assert_eq!(narrow.to_string(), line);
}

/// Reads one batch, stores its effect keyed by record, commits.
async fn handle(reader: &mut store::Subscription, effects: &mut Vec<u32>) {
    let waiting = tokio::time::timeout(Duration::from_millis(200), reader.next_batch(20)).await;
    let Ok(batch) = waiting else { return };
    let batch = batch.unwrap();
    effects.extend(batch.iter().map(number));
    reader.commit(&Position::after(&batch)).await.unwrap();
}

async fn two_readers_of_a_group_share_a_topic_and_one_takes_over_from_the_other(broker: &Broker) {
    let world = over(broker).await;
    let log = world.store.log();
    let mut effects = Vec::new();
    let mut first = log.subscribe(A, "shared").await.unwrap();
    let mut appended = 0;
    let deadline = std::time::Instant::now() + Duration::from_secs(180);
    // Alone, it has everything.
    while first.position().total() < 60 || first.position().partitions().count() < 3 {
        log.append(numbered(A, appended..appended + 20))
            .await
            .unwrap();
        appended += 20;
        handle(&mut first, &mut effects).await;
        assert!(std::time::Instant::now() < deadline, "the first reads");
    }
    // A second one joins and does not read: the first gives up its share to it, and goes on reading the rest.
    let mut second = log.subscribe(A, "shared").await.unwrap();
    let mut since_given_back = 0;
    while since_given_back < 3 {
        log.append(numbered(A, appended..appended + 20))
            .await
            .unwrap();
        appended += 20;
        let begun = std::time::Instant::now();
        handle(&mut first, &mut effects).await;
        assert!(
            begun.elapsed() < Duration::from_secs(30),
            "a commit waits for who does not read"
        );
        since_given_back += u32::from(first.position().partitions().count() < 3);
        assert!(
            std::time::Instant::now() < deadline,
            "the first gives back its share"
        );
    }
    // It is given its share while records keep coming.
    while second.position().is_start() {
        log.append(numbered(A, appended..appended + 20))
            .await
            .unwrap();
        appended += 20;
        handle(&mut first, &mut effects).await;
        handle(&mut second, &mut effects).await;
        assert!(
            std::time::Instant::now() < deadline,
            "the second is given a share"
        );
    }
    let shared: BTreeSet<u32> = first.position().partitions().map(|(p, _)| p).collect();
    assert!(
        second
            .position()
            .partitions()
            .all(|(p, _)| !shared.contains(&p))
    );
    // The first leaves; the second goes on with all.
    drop(first);
    let newest = |log: store::Log| async move { log.newest(A).await.unwrap() };
    while !log
        .committed(A, "shared")
        .await
        .unwrap()
        .covers(&newest(log.clone()).await)
    {
        handle(&mut second, &mut effects).await;
        assert!(
            std::time::Instant::now() < deadline,
            "the second takes over"
        );
    }
    // A commit that meets the sharing out may be late, and what it covered is met again: effects are keyed.
    let effects: BTreeSet<u32> = effects.into_iter().collect();
    assert_eq!(effects, (0..appended).collect(), "no gap");
}

async fn who_lost_a_partition_cannot_store_what_follows_from_it(
    world: World,
    server: Option<&Postgres>,
) {
    let kafka = world.kafka.clone().unwrap();
    let log = world.store.log();
    log.append(numbered(B, 0..10)).await.unwrap();
    let mut old = log.subscribe(B, "fenced").await.unwrap();
    let seen = Position::after(&read(&mut old, 10).await);
    // The first thing that another holder does; the first one sleeps through it, as after a SIGSTOP.
    world
        .beside(server, "UPDATE log_position SET epoch = epoch + 1")
        .await;
    let kept = [("who".to_owned(), "1".to_owned())];
    let change = Change::default()
        .keep("fenced", kept)
        .commit(B, "fenced", &seen);
    let refused = world.store.tables().apply(change.clone()).await;
    let refused = refused.unwrap_err();
    assert!(
        matches!(refused, StoreError::Fenced { partition: 0, .. }),
        "{refused:?}"
    );
    let tables = world.store.tables();
    assert!(tables.kept("fenced").await.unwrap().is_empty());
    // The other one meets the same records, for nothing was committed, and stores what follows.
    let place = world.place.clone().unwrap();
    let other = support::store(place, &kafka, "other").await;
    drop(old);
    let mut new = other.log().subscribe(B, "fenced").await.unwrap();
    assert_eq!(Position::after(&read(&mut new, 10).await), seen);
    other.tables().apply(change.clone()).await.unwrap();
    assert_eq!(other.tables().kept("fenced").await.unwrap().len(), 1);
    // Who holds nothing at all is refused likewise.
    let refused = world.store.tables().apply(change).await.unwrap_err();
    assert!(matches!(refused, StoreError::Fenced { .. }), "{refused:?}");
}

/// Four tasks store a row and its record together, again until each is stored, while the server is killed and comes back.
async fn records_are_on_the_log_once_rows_are_stored_though_the_server_is_killed(
    broker: &Broker,
    server: &mut Postgres,
) {
    const EACH: u32 = 150;
    let world = clustered(broker, server).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..4 {
        let tables = world.store.tables();
        tasks.spawn(async move {
            for n in 0..EACH {
                let number = task * EACH + n;
                let change = Change::default()
                    .keep("killed", [(number.to_string(), "1".to_owned())])
                    .records(numbered(A, number..number + 1));
                while let Err(refused) = tables.apply(change.clone()).await {
                    assert!(refused.is_retryable(), "{refused:?}");
                }
            }
        });
    }
    for kept in [50, 300] {
        let deadline = std::time::Instant::now() + Duration::from_secs(180);
        while world.store.tables().kept("killed").await.unwrap().len() < kept {
            assert!(std::time::Instant::now() < deadline, "rows are stored");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        server.kill();
        server.start_again().await;
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let tables = world.store.tables();
    let all = usize::try_from(4 * EACH).unwrap();
    assert_eq!(tables.kept("killed").await.unwrap().len(), all);
    let mut reader = world.store.log().replay(A, &Position::default()).unwrap();
    let mut found = BTreeSet::new();
    while found.len() < all {
        found.extend(numbers(&read(&mut reader, 1).await));
    }
    assert_eq!(found, (0..4 * EACH).collect());
}

async fn what_the_outbox_holds_is_appended_after_a_restart(broker: &Broker) {
    let world = over(broker).await;
    let dir = world.dir.as_ref().unwrap().path().to_owned();
    let file = format!("sqlite://{}", dir.join("shoal.db").display());
    let beside = sqlx::SqlitePool::connect(&file).await.unwrap();
    // What a process leaves that died between its transaction and the append.
    for (id, topic) in [
        (1_i64, B.name()),
        (2, B.name()),
        (3, "from.a.newer.release.v9"),
    ] {
        sqlx::query("INSERT INTO outbox (source, id, topic, record_key, payload, written_at) VALUES ('test', $1, $2, 'k', $3, 0)")
            .bind(id)
            .bind(topic)
            .bind(u32::try_from(id).unwrap().to_le_bytes().to_vec())
            .execute(&beside)
            .await
            .unwrap();
    }
    let world = world.reopened().await;
    let mut reader = world.store.log().replay(B, &Position::default()).unwrap();
    assert_eq!(numbers(&read(&mut reader, 2).await), [1, 2].into());
    nothing_comes(&mut reader).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let left: Vec<(String, i64)> = sqlx::query_as("SELECT source, id FROM outbox")
            .fetch_all(&beside)
            .await
            .unwrap();
        if left.len() == 1 {
            assert!(left[0].0.starts_with("test/refused/") && left[0].1 == 3);
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{left:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn compaction_keeps_the_newest_record_of_each_key(broker: &Broker) {
    let world = over(broker).await;
    let log = world.store.log();
    log.append(vec![record(COMPACTED, "rare", 0_u32.to_le_bytes())])
        .await
        .unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(180);
    let mut next = 1;
    loop {
        // A segment is closed by the first record after its time.
        log.append(numbered(COMPACTED, next..next + 50))
            .await
            .unwrap();
        next += 50;
        let newest = log.newest(COMPACTED).await.unwrap();
        let mut reader = log.replay(COMPACTED, &Position::default()).unwrap();
        let mut all = Vec::new();
        while !reader.position().covers(&newest) {
            all.extend(reader.next_batch(1_000).await.unwrap());
        }
        assert_eq!(all[0].key, "rare");
        let mut last: BTreeMap<&str, u32> = BTreeMap::new();
        for record in &all {
            assert!(
                last.insert(&record.key, number(record))
                    .is_none_or(|n| n < number(record))
            );
        }
        assert_eq!(last.len(), 8);
        assert_eq!(last.values().max(), Some(&(next - 1)));
        if (all.len() as u64) < newest.total() {
            return;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "nothing was compacted"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn a_broker_that_crashes_loses_nothing_acknowledged(broker: &Broker) {
    let world = over(broker).await;
    let log = world.store.log();
    let mut reader = log.subscribe(A, "steady").await.unwrap();
    log.append(numbered(A, 0..50)).await.unwrap();
    let first = read(&mut reader, 50).await;
    reader.commit(&Position::after(&first)).await.unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| broker.crash_and_return());
    });
    // The append and the read wait for the broker.
    log.append(numbered(A, 50..100)).await.unwrap();
    let rest = read(&mut reader, 50).await;
    assert_eq!(
        numbers(&rest),
        (50..100).collect(),
        "neither lost nor repeated"
    );
    reader.commit(&Position::after(&rest)).await.unwrap();
    assert_eq!(
        log.committed(A, "steady").await.unwrap(),
        log.newest(A).await.unwrap()
    );
    // Changes with rows are stored while it is away, too.
    let change = Change::default()
        .keep("steady", [("k".to_owned(), "1".to_owned())])
        .records(numbered(A, 100..110));
    world.store.tables().apply(change).await.unwrap();
    let last = read(&mut reader, 10).await;
    assert_eq!(numbers(&last), (100..110).collect());
}

/// A broker that has just started may name no broker at all; the library lets go of those it knew, and never asks again.
async fn a_broker_that_names_nobody_is_found_again(broker: &Broker) {
    const ROUNDS: u32 = 6;
    let young = Young::to(broker.port()).await;
    broker.advertise(young.port);
    let dir = tempfile::tempdir().unwrap();
    let kafka = KafkaOptions {
        brokers: format!("127.0.0.1:{}", young.port),
        ..broker.options(&TOPICS)
    };
    let store = support::store(dir.path(), &kafka, "test").await;
    let log = store.log();
    let mut grouped = log.subscribe(A, "young").await.unwrap();
    let mut alone = log.replay(A, &Position::default()).unwrap();
    log.append(numbered(A, 0..50)).await.unwrap();
    let first = read(&mut grouped, 50).await;
    grouped.commit(&Position::after(&first)).await.unwrap();
    assert_eq!(numbers(&read(&mut alone, 50).await).len(), 50);
    let mut told = 0;
    for round in 1..=ROUNDS {
        let next = round * 50..(round + 1) * 50;
        let waited = tokio::time::timeout(PATIENCE, async {
            told += young.begin_again().await;
            // As services do: what was refused is appended again.
            while let Err(refused) = log.append(numbered(A, next.clone())).await {
                assert!(refused.is_retryable(), "{refused:?}");
            }
            for reader in [&mut grouped, &mut alone] {
                let mut missing: BTreeSet<u32> = next.clone().collect();
                while !missing.is_empty() {
                    for n in numbers(&reader.next_batch(100).await.unwrap()) {
                        missing.remove(&n);
                    }
                }
            }
            let reached = log.newest(A).await.unwrap();
            grouped.commit(&reached).await.unwrap();
        });
        assert!(waited.await.is_ok(), "appended and read in round {round}");
    }
    assert!(told >= ROUNDS, "{told} answers without a broker");
}

/// The last one: the broker does not come back.
#[expect(
    clippy::print_stderr,
    reason = "a test that ends its process says why itself"
)]
fn who_reads_can_end_though_the_broker_is_gone(broker: &Broker) {
    let (ending, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let world = over(broker).await;
                let log = world.store.log();
                log.append(numbered(A, 0..50)).await.unwrap();
                let mut readers = Vec::new();
                for group in ["one", "two", "three"] {
                    let mut reader = log.subscribe(A, group).await.unwrap();
                    let some = read(&mut reader, 20).await;
                    // Told to Kafka on the way, as rows are.
                    let change = Change::default().commit(A, group, &Position::after(&some));
                    world.store.tables().apply(change).await.unwrap();
                    readers.push(reader);
                }
                broker.crash();
                for reader in &mut readers {
                    let waited = reader.next_batch(100);
                    let _ = tokio::time::timeout(Duration::from_millis(100), waited).await;
                }
            });
            drop(runtime);
            ending.send(()).unwrap();
        });
        let waited = ended.recv_timeout(PATIENCE);
        if waited.is_err() {
            // The thread that cannot end would hold up the test for ever.
            eprintln!("who reads cannot end without a broker");
            std::process::exit(1);
        }
    });
}
