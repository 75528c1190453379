//! The whole service over a real log, real tables and a real gRPC connection.
#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{
    Acknowledgement, Evse, EvseState, Needs, Protocol, Reading, Setpoint, Site, Telemetry,
};
use runtime::Clock;
use runtime::pipe::Pipe;
use shoal_telemetry_ingest::{Config, Deps, GROUP, run};
use store::{NewRecord, Options, Position, Store, StoreError, Tables, Topic, topic};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use units::{Efficiency, Energy, Power};
use wire::proto;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;

fn start() -> DateTime<Utc> {
    "2026-03-29T00:00:00Z".parse().unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    start() + TimeDelta::seconds(seconds)
}

/// A clock that shows midday of the tests' day: every sample of the morning has happened.
fn clock() -> Clock {
    Clock::accelerated(at(12 * 3_600), 1.0)
}

fn evse(n: usize) -> Evse {
    Evse {
        id: format!("north-{n}/1").parse().unwrap(),
        station: format!("north-{n}").parse().unwrap(),
        site: "north".parse().unwrap(),
        class: "depot".to_owned(),
        protocol: Protocol::Ocpp21,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(11.0),
        charge_efficiency: Efficiency::try_new(0.9).unwrap(),
        discharge_efficiency: Efficiency::try_new(0.9).unwrap(),
    }
}

fn needs() -> Needs {
    Needs {
        departure: Some(at(30_000)),
        energy: Energy::from_kwh(20.0),
        stored: Some(Energy::from_kwh(10.0)),
        capacity: Some(Energy::from_kwh(60.0)),
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::from_kw(7.0),
        floor: Energy::from_kwh(6.0),
    }
}

fn plug_in(n: usize, session: &str, seconds: i64) -> Telemetry {
    Telemetry::PluggedIn {
        session: session.parse().unwrap(),
        evse: evse(n).id,
        vehicle: None,
        at: at(seconds),
    }
}

fn unplug(n: usize, session: &str, seconds: i64) -> Telemetry {
    Telemetry::Unplugged {
        session: session.parse().unwrap(),
        evse: evse(n).id,
        at: at(seconds),
    }
}

fn reading(n: usize, session: &str, seconds: i64, import_wh: i64) -> Telemetry {
    Telemetry::Reading(Reading {
        evse: evse(n).id,
        session: Some(session.parse().unwrap()),
        at: at(seconds),
        power: Some(Power::from_kw(7.2)),
        import_register: Some(Energy::from_wh(import_wh)),
        export_register: Some(Energy::ZERO),
        soc: None,
    })
}

fn record(event: &Telemetry) -> NewRecord {
    NewRecord {
        topic: topic::READINGS,
        key: event.key().to_owned(),
        payload: wire::encode(&proto::telemetry::v1::Telemetry::from(event)),
    }
}

struct Running {
    store: Store,
    client: FleetServiceClient<Channel>,
    stop: CancellationToken,
    done: JoinHandle<Result<(), shoal_telemetry_ingest::Error>>,
}

async fn started(dir: &Path, config: Config) -> Running {
    let options = Options {
        clock: std::sync::Arc::new(clock()),
        ..Options::default()
    };
    let store = Store::open_with(dir, options).await.unwrap();
    let (pipe, listener) = Pipe::new("fleet");
    let stop = CancellationToken::new();
    let deps = Deps {
        clock: clock(),
        log: store.log(),
        tables: store.tables(),
        listener,
    };
    let done = tokio::spawn(run(config, deps, stop.clone()));
    let client = FleetServiceClient::new(pipe.channel()).max_decoding_message_size(usize::MAX);
    Running {
        store,
        client,
        stop,
        done,
    }
}

fn quick() -> Config {
    Config {
        checkpoint_ms: 5,
        ..Config::default()
    }
}

impl Running {
    async fn register(&mut self, count: usize) {
        let site = Site {
            id: "north".parse().unwrap(),
            name: "North depot".to_owned(),
            import_limit: Power::from_kw(500.0),
            export_limit: Power::from_kw(250.0),
        };
        let request = proto::fleet::v1::RegisterRequest {
            sites: vec![(&site).into()],
            evses: (0..count).map(|n| (&evse(n)).into()).collect(),
        };
        self.client.register(request).await.unwrap();
    }

    async fn tell(&self, events: &[Telemetry]) {
        let records = events.iter().map(record).collect();
        self.store.log().append(records).await.unwrap();
    }

    /// Waits until everything appended is stored with its effects.
    async fn settled(&self) {
        let log = self.store.log();
        let deadline = std::time::Instant::now() + Duration::from_secs(180);
        for topic in [topic::READINGS, topic::SETPOINTS] {
            let newest = log.newest(topic).await.unwrap();
            while !log.committed(topic, GROUP).await.unwrap().covers(&newest) {
                assert!(std::time::Instant::now() < deadline, "the service keeps up");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    }

    async fn fleet(&mut self) -> Vec<EvseState> {
        let request = proto::fleet::v1::GetFleetRequest {};
        let fleet = self.client.get_fleet(request).await.unwrap().into_inner();
        let states = fleet.evses.into_iter();
        states.map(|state| state.try_into().unwrap()).collect()
    }

    async fn all(&self, topic: Topic) -> Vec<store::Record> {
        let log = self.store.log();
        let newest = log.newest(topic).await.unwrap();
        let mut reader = log.replay(topic, &Position::default()).unwrap();
        let mut all = Vec::new();
        while !reader.position().covers(&newest) {
            all.extend(reader.next_batch(1_000).await.unwrap());
        }
        all
    }

    async fn refused(&self) -> Vec<proto::telemetry::v1::Quarantined> {
        let records = self.all(topic::QUARANTINE).await;
        records
            .iter()
            .map(|record| wire::decode(&record.payload).unwrap())
            .collect()
    }

    async fn stopped(self) {
        self.stop.cancel();
        self.done.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stay_is_followed_from_plug_in_to_the_tables() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = started(dir.path(), quick()).await;
    service.register(2).await;
    service
        .tell(&[
            Telemetry::Connection {
                station: evse(0).station,
                evses: vec![evse(0).id],
                online: true,
                at: at(0),
            },
            plug_in(0, "s1", 60),
            reading(0, "s1", 60, 100_000),
        ])
        .await;
    let request = proto::fleet::v1::StateNeedsRequest {
        evse_id: evse(0).id.to_string(),
        session_id: "s1".to_owned(),
        needs: Some((&needs()).into()),
    };
    service.client.state_needs(request).await.unwrap();
    for n in 1..=60 {
        service
            .tell(&[reading(0, "s1", 60 + n * 60, 100_000 + n * 120)])
            .await;
    }
    service.settled().await;

    let fleet = service.fleet().await;
    let state = &fleet[0];
    assert!(state.online && !fleet[1].online);
    let stay = state.session.as_ref().unwrap();
    assert_eq!(stay.session.needs, Some(needs()));
    assert_eq!(stay.added, Some(Energy::from_kwh(7.2 * 0.9)));

    service.tell(&[unplug(0, "s1", 4_000)]).await;
    service.settled().await;
    let request = proto::fleet::v1::ListSessionsRequest {
        from_micros: start().timestamp_micros(),
        to_micros: at(86_400).timestamp_micros(),
    };
    let past = service.client.list_sessions(request).await.unwrap();
    let past = past.into_inner().sessions;
    assert_eq!(past.len(), 1);
    assert_eq!(past[0].added_joules, Some(Energy::from_kwh(6.48).joules()));
    assert_eq!(past[0].unplugged_micros, Some(at(4_000).timestamp_micros()));

    let request = proto::fleet::v1::ListIntervalsRequest {
        from_micros: start().timestamp_micros(),
        to_micros: at(86_400).timestamp_micros(),
    };
    let metered = service.client.list_intervals(request).await.unwrap();
    let metered = metered.into_inner().intervals;
    let covered: Vec<u32> = metered.iter().map(|i| i.covered_seconds).collect();
    assert_eq!(covered, vec![840, 900, 900, 900]);
    assert_eq!(metered[1].import_joules, Energy::from_wh(1_800).joules());
    assert_eq!(service.all(topic::METER_INTERVALS).await.len(), 4);
    assert!(service.refused().await.is_empty());
    service.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_is_quarantined_with_its_reason_and_the_rest_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = started(dir.path(), quick()).await;
    service.register(1).await;
    let nonsense = NewRecord {
        topic: topic::READINGS,
        key: "north-0/1".to_owned(),
        payload: Bytes::from_static(b"\xff\x00 not protobuf \xfe"),
    };
    let empty = NewRecord {
        payload: Bytes::new(),
        ..nonsense.clone()
    };
    service
        .tell(&[
            plug_in(0, "s1", 0),
            unplug(0, "s1", 60),
            plug_in(0, "s2", 120),
        ])
        .await;
    service
        .store
        .log()
        .append(vec![nonsense, empty])
        .await
        .unwrap();
    let mut back = reading(0, "s2", 300, 900);
    if let Telemetry::Reading(reading) = &mut back {
        reading.power = Some(Power::from_kw(5.0));
    }
    service
        .tell(&[
            reading(7, "s2", 200, 1_000),
            reading(0, "s1", 200, 1_000),
            reading(0, "s2", 200, 1_000),
            back,
            reading(0, "s2", 86_400, 2_000),
            reading(0, "s2", 200, 1_000),
        ])
        .await;
    service.settled().await;
    let reasons: Vec<String> = service
        .refused()
        .await
        .into_iter()
        .map(|r| r.reason)
        .collect();
    let expected = [
        "bytes are not a",
        "event is missing",
        "EVSE north-7/1 is not registered",
        "session s1 is not in progress at EVSE north-0/1",
        "import register steps back from 1.000 kWh to 0.900 kWh",
        "the station's clock is wrong",
    ];
    assert_eq!(reasons.len(), expected.len(), "{reasons:#?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason:?} has no {expected:?}");
    }
    let state = service.fleet().await.remove(0);
    assert_eq!(
        state.power.unwrap().power,
        Power::from_kw(5.0),
        "the rest of the reading counts"
    );
    service.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_set_point_counts_when_accepted_and_one_not_followed_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = started(dir.path(), quick()).await;
    service.register(1).await;
    let setpoint = Setpoint {
        id: "sp1".parse().unwrap(),
        evse: evse(0).id,
        power: Power::from_kw(-5.0),
        mode: fleet::Mode::default(),
        issued_at: at(100),
        expires_at: at(10_000),
        signal: None,
        reason: "test".to_owned(),
    };
    let told = NewRecord {
        topic: topic::SETPOINTS,
        key: evse(0).id.to_string(),
        payload: wire::encode(&proto::dispatch::v1::Setpoint::from(&setpoint)),
    };
    let accepted = Telemetry::Acknowledged(Acknowledgement {
        setpoint: setpoint.id.clone(),
        evse: evse(0).id,
        signal: None,
        outcome: Outcome::Accepted,
        detail: String::new(),
        sent_at: at(101),
        answered_at: at(102),
    });
    service.tell(&[plug_in(0, "s1", 0), accepted]).await;
    service.store.log().append(vec![told]).await.unwrap();
    service.settled().await;
    let state = service.fleet().await.remove(0);
    assert_eq!(state.setpoint.unwrap().power, Power::from_kw(-5.0));
    assert_eq!(state.setpoint.unwrap().at, at(102));
    assert!(!state.unresponsive);

    service.tell(&[reading(0, "s1", 110, 0)]).await;
    service.settled().await;
    assert!(
        !service.fleet().await[0].unresponsive,
        "it has time to settle"
    );
    service.tell(&[reading(0, "s1", 200, 0)]).await;
    service.settled().await;
    assert!(service.fleet().await[0].unresponsive);
    service.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn needs_of_nobody_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = started(dir.path(), quick()).await;
    service.register(1).await;
    let request = |evse: &str, needs| proto::fleet::v1::StateNeedsRequest {
        evse_id: evse.to_owned(),
        session_id: "s1".to_owned(),
        needs,
    };
    let wire_needs = Some((&needs()).into());
    let status = |answer: Result<_, tonic::Status>| answer.map(drop).unwrap_err().code();
    let answer = service
        .client
        .state_needs(request("nowhere/1", wire_needs))
        .await;
    assert_eq!(status(answer), tonic::Code::NotFound);
    let answer = service
        .client
        .state_needs(request("north-0/1", wire_needs))
        .await;
    assert_eq!(status(answer), tonic::Code::FailedPrecondition);
    let answer = service.client.state_needs(request("north-0/1", None)).await;
    assert_eq!(status(answer), tonic::Code::InvalidArgument);
    service.stopped().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_the_fleet_and_every_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut service = started(dir.path(), quick()).await;
    service.register(3).await;
    let request = proto::fleet::v1::GetFleetRequest {};
    let mut watch = service
        .client
        .watch_fleet(request)
        .await
        .unwrap()
        .into_inner();
    for n in 0..3 {
        let state = watch.message().await.unwrap().unwrap();
        assert_eq!(state.evse_id, evse(n).id.to_string());
    }
    service.tell(&[plug_in(1, "s1", 0)]).await;
    let state = watch.message().await.unwrap().unwrap();
    assert_eq!(state.session.unwrap().session_id, "s1");
    service.stopped().await;
}

/// A morning of events of several EVSEs, with refusals, late samples and repetitions in it.
fn morning() -> Vec<Telemetry> {
    let mut events = Vec::new();
    for n in 0..5 {
        events.push(plug_in(n, &format!("a{n}"), 10));
    }
    for minute in 1..200 {
        for n in 0..5_usize {
            let wh = 50_000 + minute * (40 + 10 * i64::try_from(n).unwrap());
            let session = if minute < 100 { "a" } else { "b" };
            if minute == 100 {
                events.push(unplug(n, &format!("a{n}"), minute * 60 - 1));
                events.push(plug_in(n, &format!("b{n}"), minute * 60));
            }
            let event = reading(n, &format!("{session}{n}"), minute * 60, wh);
            match (minute + i64::try_from(n).unwrap()) % 11 {
                0 => events.insert(events.len().saturating_sub(3), event),
                1 => events.extend([event.clone(), event]),
                2 => {}
                _ => events.push(event),
            }
        }
    }
    events
}

/// What a run came to, once it has ended in order: only then do rows of stays that go on have their last figures.
async fn outcome(mut service: Running) -> (Vec<EvseState>, String, usize) {
    let mut fleet = service.fleet().await;
    for state in &mut fleet {
        // Here the instant of registration, which comes after every event and belongs to the run.
        state.changed_at = start();
    }
    let refused = service.refused().await.len();
    let store = service.store.clone();
    service.stopped().await;
    let tables = store.tables();
    let intervals = tables.intervals_between(start(), at(86_400)).await.unwrap();
    let sessions = tables.sessions_between(start(), at(86_400)).await.unwrap();
    (fleet, format!("{intervals:#?}{sessions:#?}"), refused)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_can_store_nothing_ends_instead_of_showing_what_was() {
    let (dir, beside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = Store::open(dir.path()).await.unwrap();
    let (pipe, listener) = Pipe::new("fleet");
    let deps = Deps {
        clock: clock(),
        log: store.log(),
        // They have no place for how far the log was handled.
        tables: Tables::open(beside.path(), "test").await.unwrap(),
        listener,
    };
    let done = tokio::spawn(run(quick(), deps, CancellationToken::new()));
    let mut client = FleetServiceClient::new(pipe.channel());
    let asked = proto::fleet::v1::GetFleetRequest {};
    client.get_fleet(asked).await.unwrap();
    let told = vec![record(&plug_in(0, "s", 0))];
    store.log().append(told).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), done).await;
    let ended = ended.expect("nobody told it to stop").unwrap();
    assert!(
        matches!(
            ended,
            Err(shoal_telemetry_ingest::Error::Store(StoreError::NoLog))
        ),
        "{ended:?}"
    );
    client.get_fleet(asked).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_in_order_and_by_force_end_where_an_undisturbed_run_ends() {
    let events = morning();
    let undisturbed = tempfile::tempdir().unwrap();
    let mut service = started(undisturbed.path(), quick()).await;
    service.register(5).await;
    service.tell(&events).await;
    service.settled().await;
    let expected = outcome(service).await;

    let disturbed = tempfile::tempdir().unwrap();
    let config = Config {
        batch: 7,
        checkpoint_ms: 3,
        checkpoint_records: 40,
    };
    let mut service = started(disturbed.path(), config.clone()).await;
    service.register(5).await;
    for (n, part) in events.chunks(97).enumerate() {
        service.tell(part).await;
        tokio::time::sleep(Duration::from_millis(15)).await;
        if n % 2 == 0 {
            service.stopped().await;
        } else {
            // Cut wherever it is: nothing is flushed.
            service.done.abort();
            let _ = service.done.await;
            // A process takes its store along; here what was handed to it before is stored a moment later, before this.
            let tables = service.store.tables();
            tables.upsert_evse(&evse(0)).await.unwrap();
        }
        service = started(disturbed.path(), config.clone()).await;
    }
    service.settled().await;
    let got = outcome(service).await;
    assert_eq!(got.1, expected.1, "intervals and sessions");
    assert_eq!(got.0, expected.0, "states");
    assert_eq!(got.2, expected.2, "refusals");

    let store = Store::open(disturbed.path()).await.unwrap();
    let tables = store.tables();
    let slices = tables.kept("telemetry-ingest/states").await.unwrap();
    assert!((1..=5).contains(&slices.len()), "{slices:?}");
    let alone = tables.kept(GROUP).await.unwrap();
    assert_eq!(alone, [], "rows of EVSEs whose slice has been saved since");
}
