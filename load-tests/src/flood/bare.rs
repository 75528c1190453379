//! The yardsticks: what librdkafka and PostgreSQL do with nothing around them, on the same topic and the same table.

use std::time::{Duration, Instant};

use fleet::Reading;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use sqlx::PgConnection;
use store::topic;

use super::fleet::Vehicles;
use crate::failure::Failure;

/// Rows of one transaction: as many as the service stores with one checkpoint when it is behind.
const BATCH: usize = 50_000;

/// A broker that is there answers within this time.
const ANSWER: Duration = Duration::from_secs(30);

const COPY: &str = "COPY reading (evse, sampled_at, session, power_watts, import_register_joules, export_register_joules, soc_ratio) \
    FROM STDIN WITH (FORMAT binary)";

/// Records per second that a consumer takes from the topic of readings, from the first to the last.
pub(super) fn consumed(brokers: &str, partitions: u32) -> Result<f64, Failure> {
    let failed = |e: rdkafka::error::KafkaError| Failure::of("the bare consumer", &e);
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "shoal-load-bare")
        .set("enable.auto.commit", "false")
        .create()
        .map_err(failed)?;
    let name = topic::READINGS.name();
    let mut list = TopicPartitionList::new();
    let mut wanted = 0;
    for partition in 0..i32::try_from(partitions).unwrap_or(i32::MAX) {
        let marks = consumer.fetch_watermarks(name, partition, ANSWER);
        let (low, high) = marks.map_err(failed)?;
        wanted += (high - low).unsigned_abs();
        list.add_partition_offset(name, partition, Offset::Beginning)
            .map_err(failed)?;
    }
    consumer.assign(&list).map_err(failed)?;
    let mut since = None;
    let (mut records, mut bytes) = (0_u64, 0);
    while records < wanted {
        let Some(message) = consumer.poll(ANSWER) else {
            return Err(Failure::Failed(format!(
                "the bare consumer met {records} of {wanted} records"
            )));
        };
        bytes += message.map_err(failed)?.payload_len();
        since.get_or_insert_with(Instant::now);
        records += 1;
    }
    tracing::info!("the bare consumer took {records} records of {bytes} bytes");
    Ok(rate(
        records,
        since.map_or(Duration::ZERO, |since| since.elapsed()),
    ))
}

/// Rows per second that PostgreSQL takes by nothing but binary COPY, written out before the clock starts: readings `from` to `to` of
/// the vehicles under names of the same length.
pub(super) async fn copied(
    to: &mut PgConnection,
    vehicles: &Vehicles,
    readings: std::ops::Range<u64>,
) -> Result<f64, Failure> {
    let failed = |e: sqlx::Error| Failure::of("the bare COPY", &e);
    let rows = readings.end - readings.start;
    let mut took = Duration::ZERO;
    let mut next = readings.start;
    while next < readings.end {
        let end = readings.end.min(next + BATCH as u64);
        let mut buffer = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
        for n in next..end {
            encode(&vehicles.reading(n, vehicles.instant(n))?, &mut buffer);
        }
        buffer.extend((-1_i16).to_be_bytes());
        let started = Instant::now();
        let mut copy = to.copy_in_raw(COPY).await.map_err(failed)?;
        copy.send(buffer.as_slice()).await.map_err(failed)?;
        copy.finish().await.map_err(failed)?;
        took += started.elapsed();
        next = end;
    }
    Ok(rate(rows, took))
}

/// A row in the format of COPY.
fn encode(row: &Reading, to: &mut Vec<u8>) {
    let name = |flood: &str| flood.replacen("flood", "naked", 1).into_bytes();
    let integer = |value: i64| value.to_be_bytes().to_vec();
    let fields = [
        Some(name(row.evse.as_str())),
        Some(integer(row.at.timestamp_micros())),
        row.session.as_ref().map(|session| name(session.as_str())),
        row.power.map(|power| integer(power.watts())),
        row.import_register.map(|energy| integer(energy.joules())),
        row.export_register.map(|energy| integer(energy.joules())),
        None,
    ];
    to.extend(7_i16.to_be_bytes());
    for field in fields {
        let length = field
            .as_ref()
            .map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
        to.extend(length.to_be_bytes());
        to.extend(field.unwrap_or_default());
    }
}

/// How many per second.
pub(super) fn rate(count: u64, took: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let count = count as f64;
    count / took.as_secs_f64().max(1e-9)
}
