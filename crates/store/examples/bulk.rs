//! What many rows at once cost: `PGPASSWORD=... cargo run --release -p store --example bulk -- URL [ROWS] [BATCH]`.
//!
//! Upserts samples of meters and metered intervals through the tables, each batch a change, and beside it, in turns and into the same
//! partitions, the same number of rows of the same length by nothing but PostgreSQL's binary COPY, each batch a transaction,
//! written out before the clock starts. Prints rows per second of both and their ratio. Expects a database of its own: rows of
//! `bulk-...` and `bare-...` are left in it.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{MeterInterval, Reading};
use sqlx::{Connection as _, PgConnection};
use store::{Change, PostgresOptions, Tables};
use units::{Energy, Interval, Power};

/// Turns of each: what the machine does beside falls on both.
const TURNS: usize = 4;

/// Meters that take turns in a batch.
const METERS: usize = 10_000;

/// A kind of rows, as the tables take them and as COPY does.
trait Kind {
    type Row: Clone + Send + Sync;
    const COPY: &'static str;
    fn row(meter: &str, number: i64) -> Self::Row;
    fn change(rows: &[Self::Row]) -> Change;
    fn encode(row: &Self::Row, to: &mut Encoder);
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_742_400, 0).unwrap_or_default()
}

struct Samples;

impl Kind for Samples {
    type Row = Reading;
    const COPY: &'static str = "COPY reading (evse, sampled_at, session, power_watts, import_register_joules, \
        export_register_joules, soc_ratio) FROM STDIN WITH (FORMAT binary)";

    fn row(meter: &str, number: i64) -> Reading {
        #[expect(clippy::expect_used, reason = "names made here are well formed")]
        let (evse, session) = (
            meter.parse().expect("an EVSE id"),
            format!("{meter}-{}", number / 1_000)
                .parse()
                .expect("a session id"),
        );
        Reading {
            evse,
            session: Some(session),
            at: start() + TimeDelta::seconds(10 * number),
            power: Some(Power::from_watts(7_000 + number)),
            import_register: Some(Energy::from_joules(70_000 * number)),
            export_register: Some(Energy::ZERO),
            soc: None,
        }
    }

    fn change(rows: &[Reading]) -> Change {
        Change::default().readings(rows.to_vec())
    }

    fn encode(row: &Reading, to: &mut Encoder) {
        to.row(7);
        to.text(row.evse.as_str());
        to.integer(row.at.timestamp_micros());
        match &row.session {
            Some(session) => to.text(session.as_str()),
            None => to.null(),
        }
        to.integer(row.power.map_or(0, Power::watts));
        to.integer(row.import_register.map_or(0, Energy::joules));
        to.integer(row.export_register.map_or(0, Energy::joules));
        to.null();
    }
}

struct Intervals;

impl Kind for Intervals {
    type Row = MeterInterval;
    const COPY: &'static str = "COPY meter_interval (evse, starts_at, ends_at, site, import_joules, export_joules, \
        covered_seconds, version) FROM STDIN WITH (FORMAT binary)";

    #[expect(
        clippy::expect_used,
        reason = "names and spans made here are well formed"
    )]
    fn row(meter: &str, number: i64) -> MeterInterval {
        let from = start() + TimeDelta::minutes(15 * number);
        MeterInterval {
            evse: meter.parse().expect("an EVSE id"),
            site: "north".parse().expect("a site id"),
            interval: Interval::try_new(from, from + TimeDelta::minutes(15)).expect("a span"),
            import: Energy::from_joules(9_900_000 + number),
            export: Energy::ZERO,
            covered_seconds: 900,
            version: 1,
        }
    }

    fn change(rows: &[MeterInterval]) -> Change {
        Change::default().intervals(rows)
    }

    fn encode(row: &MeterInterval, to: &mut Encoder) {
        to.row(8);
        to.text(row.evse.as_str());
        to.integer(row.interval.start().timestamp_micros());
        to.integer(row.interval.end().timestamp_micros());
        to.text(row.site.as_str());
        to.integer(row.import.joules());
        to.integer(row.export.joules());
        to.integer(i64::from(row.covered_seconds));
        to.integer(i64::from(row.version));
    }
}

/// Rows in the format of COPY.
struct Encoder(Vec<u8>);

impl Encoder {
    fn new() -> Self {
        Self(b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec())
    }

    fn row(&mut self, columns: i16) {
        self.0.extend(columns.to_be_bytes());
    }

    fn integer(&mut self, value: i64) {
        self.0.extend(8_i32.to_be_bytes());
        self.0.extend(value.to_be_bytes());
    }

    fn text(&mut self, value: &str) {
        let length = i32::try_from(value.len()).unwrap_or(i32::MAX);
        self.0.extend(length.to_be_bytes());
        self.0.extend(value.as_bytes());
    }

    fn null(&mut self) {
        self.0.extend((-1_i32).to_be_bytes());
    }

    fn end(mut self) -> Vec<u8> {
        self.0.extend((-1_i16).to_be_bytes());
        self.0
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args
        .next()
        .ok_or_else(|| anyhow::anyhow!("the address of a database is missing"))?;
    let rows: usize = args.next().map_or(Ok(400_000), |n| n.parse())?;
    let batch: usize = args.next().map_or(Ok(10_000), |n| n.parse())?;
    let options = PostgresOptions::new(&url, None)?;
    store::migrate_tables(&options.clone().into()).await?;
    let tables = Tables::open(options, "bulk").await?;
    let mut bare = PgConnection::connect(&url).await?;
    let run = std::process::id();
    turns::<Samples>("samples", run, rows, batch, &tables, &mut bare).await?;
    turns::<Intervals>("intervals", run, rows, batch, &tables, &mut bare).await?;
    again::<Intervals>("intervals that are there", run, batch, &tables).await
}

/// Batches of turn `turn`: each meter's next rows, as a fleet sends them.
fn batches<K: Kind>(
    who: &str,
    run: u32,
    turn: usize,
    rows: usize,
    batch: usize,
) -> Vec<Vec<K::Row>> {
    let first = turn * rows;
    let one = |n: usize| {
        let meter = format!("{who}-{run}-{:05}/1", n % METERS);
        K::row(&meter, i64::try_from(n / METERS).unwrap_or(i64::MAX))
    };
    let all: Vec<K::Row> = (first..first + rows).map(one).collect();
    all.chunks(batch).map(<[K::Row]>::to_vec).collect()
}

async fn turns<K: Kind>(
    what: &str,
    run: u32,
    rows: usize,
    batch: usize,
    tables: &Tables,
    bare: &mut PgConnection,
) -> anyhow::Result<()> {
    let rows = rows / TURNS;
    // Partitions are there, and every page of a small table is warm.
    for who in ["bulk", "bare"] {
        for rows in batches::<K>(
            &format!("{who}-warm"),
            run,
            0,
            TURNS * rows,
            batch.max(1_000),
        )
        .iter()
        .take(1)
        {
            tables.apply(K::change(rows)).await?;
        }
    }
    let (mut upserted, mut copied) = (Duration::ZERO, Duration::ZERO);
    for turn in 0..TURNS {
        let changes: Vec<Change> = batches::<K>("bulk", run, turn, rows, batch)
            .iter()
            .map(|rows| K::change(rows))
            .collect();
        let started = Instant::now();
        for change in changes {
            tables.apply(change).await?;
        }
        upserted += started.elapsed();

        let buffers: Vec<Vec<u8>> = batches::<K>("bare", run, turn, rows, batch)
            .iter()
            .map(|rows| {
                let mut to = Encoder::new();
                rows.iter().for_each(|row| K::encode(row, &mut to));
                to.end()
            })
            .collect();
        let started = Instant::now();
        for buffer in buffers {
            let mut copy = bare.copy_in_raw(K::COPY).await?;
            copy.send(buffer.as_slice()).await?;
            copy.finish().await?;
        }
        copied += started.elapsed();
    }
    let all = rows * TURNS;
    let (upserts, copies) = (rate(all, upserted), rate(all, copied));
    say(&format!(
        "{what}: {all} rows in batches of {batch}: upsert {upserts:.0} a second, bare COPY {copies:.0}, ratio {:.2}",
        upserts / copies
    ));
    Ok(())
}

/// The same rows over again, as after a death between effect and commit.
async fn again<K: Kind>(what: &str, run: u32, batch: usize, tables: &Tables) -> anyhow::Result<()> {
    let changes = batches::<K>("bulk", run, 0, 10 * batch, batch);
    for rows in &changes {
        tables.apply(K::change(rows)).await?;
    }
    let started = Instant::now();
    for rows in &changes {
        tables.apply(K::change(rows)).await?;
    }
    say(&format!(
        "{what}: upsert {:.0} a second",
        rate(10 * batch, started.elapsed())
    ));
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn rate(rows: usize, took: Duration) -> f64 {
    rows as f64 / took.as_secs_f64()
}

#[expect(clippy::print_stderr, reason = "its result is for people")]
fn say(line: &str) {
    eprintln!("{line}");
}
