//! What the service digests: `cargo run --release -p shoal-telemetry-ingest --example flood -- [READINGS] [EVSES] [DAYS]`.
//!
//! Appends meter readings to the embedded log as fast as it takes them and measures the time until each of them has had its
//! effects: state published, intervals, sessions and, unless DAYS is 0, a row of its own in the tables, offset committed.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, Protocol, Reading, Telemetry};
use runtime::Clock;
use runtime::pipe::Pipe;
use shoal_telemetry_ingest::{Config, Deps, GROUP, run};
use store::{Keep, NewRecord, Options, Store, topic};
use tokio_util::sync::CancellationToken;
use units::{Efficiency, Energy, Power};
use wire::proto;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;

/// Records per append, as an edge process with many stations sends them.
const BATCH: usize = 500;

/// Seconds between two samples of one EVSE.
const PERIOD: i64 = 60;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let readings: usize = args.next().map_or(Ok(200_000), |n| n.parse())?;
    let evses: usize = args.next().map_or(Ok(1_000), |n| n.parse())?;
    let days: i64 = args.next().map_or(Ok(2), |n| n.parse())?;
    let dir = tempfile::tempdir()?;
    let start: DateTime<Utc> = "2026-03-29T00:00:00Z".parse()?;
    let clock = Clock::accelerated(start + TimeDelta::days(20), 1.0);
    let options = Options {
        keep: Keep {
            readings: TimeDelta::days(days),
            ..Keep::default()
        },
        ..Options::default()
    };
    let store = Store::open_with(dir.path(), options).await?;
    let (pipe, listener) = Pipe::new("fleet");
    let stop = CancellationToken::new();
    let deps = Deps {
        clock,
        log: store.log(),
        tables: store.tables(),
        listener,
    };
    let service = tokio::spawn(run(Config::default(), deps, stop.clone()));
    let registration = proto::fleet::v1::RegisterRequest {
        sites: vec![],
        evses: (0..evses)
            .map(|n| anyhow::Ok((&evse(n)?).into()))
            .collect::<Result<_, _>>()?,
    };
    FleetServiceClient::new(pipe.channel())
        .register(registration)
        .await?;

    let started = Instant::now();
    let mut batch = Vec::with_capacity(BATCH);
    for n in 0..readings {
        batch.push(record(n % evses, i64::try_from(n / evses)?, start)?);
        if batch.len() == BATCH {
            store.log().append(std::mem::take(&mut batch)).await?;
        }
    }
    store.log().append(batch).await?;
    say("appended", readings, started);
    let newest = store.log().newest(topic::READINGS).await?;
    while !store
        .log()
        .committed(topic::READINGS, GROUP)
        .await?
        .covers(&newest)
    {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    say("digested", readings, started);
    stop.cancel();
    service.await??;
    Ok(())
}

fn evse(n: usize) -> anyhow::Result<Evse> {
    Ok(Evse {
        id: format!("station-{n:05}/1").parse()?,
        station: format!("station-{n:05}").parse()?,
        site: format!("site-{:03}", n / 20).parse()?,
        class: "workplace".to_owned(),
        protocol: Protocol::Ocpp21,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(11.0),
        charge_efficiency: Efficiency::try_new(0.94)?,
        discharge_efficiency: Efficiency::try_new(0.94)?,
    })
}

fn record(evse: usize, period: i64, start: DateTime<Utc>) -> anyhow::Result<NewRecord> {
    let event = Telemetry::Reading(Reading {
        evse: format!("station-{evse:05}/1").parse()?,
        session: None,
        at: start + TimeDelta::seconds(period * PERIOD),
        power: Some(Power::from_kw(7.2)),
        import_register: Some(Energy::from_wh(period * 120)),
        export_register: Some(Energy::ZERO),
        soc: None,
    });
    Ok(NewRecord {
        topic: topic::READINGS,
        key: event.key().to_owned(),
        payload: wire::encode(&proto::telemetry::v1::Telemetry::from(&event)),
    })
}

#[expect(clippy::print_stderr, reason = "its result is for people")]
#[expect(clippy::cast_precision_loss, reason = "a rate")]
fn say(what: &str, readings: usize, started: Instant) {
    let seconds = started.elapsed().as_secs_f64();
    let rate = readings as f64 / seconds;
    eprintln!("{what} {readings} readings in {seconds:.2} s: {rate:.0} a second");
}
