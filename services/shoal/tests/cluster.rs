//! Services as processes over Apache Kafka: a station plugs in at one of two edges, its readings arrive in the state of the fleet,
//! set-points find the edge that holds its socket, and when that one is killed the other takes the station.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends at the first surprise"
)]

#[path = "../../../crates/store/tests/support/kafka.rs"]
mod support;

mod processes;

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, Mode, Protocol, Setpoint, Site};
use futures_util::{SinkExt as _, StreamExt as _};
use processes::{serve, shoal};
use runtime::Clock;
use serde_json::{Value, json};
use store::{KafkaOptions, NewRecord, Options, Store, topic};
use support::{Broker, signal};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use tonic::transport::Channel;
use units::{Efficiency, Power};
use wire::proto::dispatch::v1::Setpoint as SetpointMessage;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::fleet::v1::{EvseState, GetFleetRequest, RegisterRequest};

const PATIENCE: Duration = Duration::from_secs(120);

fn settings(dir: &Path, kafka: &KafkaOptions) -> PathBuf {
    let file = dir.join("shoal.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[grpc]\ntelemetry_ingest = \"127.0.0.1:0\"\n[store]\ndir = {:?}\n\
         [log]\nbrokers = {:?}\nprefix = {:?}\npartitions = 3\nreplication = 1\n\
         [edge]\nlisten = \"127.0.0.1:0\"\nreplicas = true\n",
        dir.join("data"),
        kafka.brokers,
        kafka.prefix
    );
    std::fs::write(&file, text).unwrap();
    file
}

fn evse() -> Evse {
    let efficiency = Efficiency::try_new(0.94).unwrap();
    Evse {
        id: "street/1".parse().unwrap(),
        station: "street".parse().unwrap(),
        site: "north".parse().unwrap(),
        class: "public".to_owned(),
        protocol: Protocol::Ocpp16,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    }
}

struct Station(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Station {
    /// Tries as a station does: an edge that has just started may not know it yet.
    async fn connect(edge: &str) -> Self {
        let deadline = std::time::Instant::now() + PATIENCE;
        loop {
            let url = format!("ws://{edge}/ocpp/street");
            let mut request = url.into_client_request().unwrap();
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", "ocpp1.6".parse().unwrap());
            match connect_async(request).await {
                Ok((socket, _)) => return Self(socket),
                Err(refused) => assert!(std::time::Instant::now() < deadline, "{refused}"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn say(&mut self, frame: Value) {
        let text = Message::Text(frame.to_string().into());
        self.0.send(text).await.unwrap();
    }

    /// The next answer or set-point; what else is asked is not supported here.
    async fn next(&mut self) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.expect("in time");
            let Message::Text(text) = message.expect("open").unwrap() else {
                continue;
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            if frame[0] != 2 || frame[2] == "SetChargingProfile" {
                return frame;
            }
            self.say(json!([4, frame[1], "NotSupported", "", {}])).await;
        }
    }

    async fn accept(&mut self, call: &Value) {
        self.say(json!([3, call[1], {"status": "Accepted"}])).await;
    }

    async fn call(&mut self, id: &str, action: &str, payload: Value) -> Value {
        self.say(json!([2, id, action, payload])).await;
        let mut answer = self.next().await;
        while answer[0] == 2 {
            // An edge that has not read yet that another one delivered a set-point delivers it once more.
            self.accept(&answer).await;
            answer = self.next().await;
        }
        assert_eq!(
            (&answer[0], &answer[1]),
            (&json!(3), &json!(id)),
            "{answer}"
        );
        answer[2].clone()
    }

    async fn meter(
        &mut self,
        id: &str,
        transaction: &Value,
        at: DateTime<Utc>,
        watts: u32,
        wh: u32,
    ) {
        let values = json!({"connectorId": 1, "transactionId": transaction, "meterValue": [
            {"timestamp": at.to_rfc3339(), "sampledValue": [
                {"value": watts.to_string(), "measurand": "Power.Active.Import", "unit": "W"},
                {"value": wh.to_string(), "measurand": "Energy.Active.Import.Register", "unit": "Wh"},
            ]},
        ]});
        self.call(id, "MeterValues", values).await;
    }

    /// Limit of the next set-point, accepted.
    async fn told(&mut self) -> f64 {
        let call = self.next().await;
        assert_eq!(call[2], "SetChargingProfile", "{call}");
        self.accept(&call).await;
        let schedule = &call[3]["csChargingProfiles"]["chargingSchedule"];
        schedule["chargingSchedulePeriod"][0]["limit"]
            .as_f64()
            .unwrap()
    }
}

/// Waits until the state of the EVSE is as wanted.
async fn until(
    fleet: &mut FleetServiceClient<Channel>,
    what: &str,
    wanted: impl Fn(&EvseState) -> bool,
) {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = fleet.get_fleet(GetFleetRequest {}).await.unwrap();
        let evses = answer.into_inner().evses;
        if evses.first().is_some_and(&wanted) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{what}: {evses:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn command(log: &store::Log, name: &str, watts: i64) {
    let now: DateTime<Utc> = Clock::system().now();
    let setpoint = Setpoint {
        id: name.parse().unwrap(),
        evse: evse().id,
        power: Power::from_watts(watts),
        mode: Mode::default(),
        issued_at: now,
        expires_at: now + TimeDelta::minutes(10),
        signal: None,
        reason: "test".to_owned(),
    };
    let record = NewRecord {
        topic: topic::SETPOINTS,
        key: setpoint.evse.to_string(),
        payload: wire::encode(&SetpointMessage::from(&setpoint)),
    };
    log.append(vec![record]).await.unwrap();
}

fn register() -> RegisterRequest {
    let site = Site {
        id: "north".parse().unwrap(),
        name: "North".to_owned(),
        import_limit: Power::from_kw(500.0),
        export_limit: Power::from_kw(250.0),
    };
    RegisterRequest {
        sites: vec![(&site).into()],
        evses: vec![(&evse()).into()],
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_station_is_served_by_processes_over_kafka_and_outlives_the_edge_it_is_connected_to() {
    let Some(broker) = Broker::start() else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let kafka = broker.options(&topic::ALL);
    let settings = settings(dir.path(), &kafka);
    let early = shoal(&settings).args(["serve", "edge"]).output().unwrap();
    let said = String::from_utf8_lossy(&early.stderr);
    assert!(
        !early.status.success() && said.contains("shoal migrate"),
        "{said}"
    );
    let migrated = shoal(&settings)
        .args(["migrate", "--json"])
        .output()
        .unwrap();
    let document: Value = serde_json::from_slice(&migrated.stdout).unwrap();
    assert_eq!(
        document["topics"].as_array().unwrap().len(),
        topic::ALL.len()
    );

    let ingest = serve(&settings, "telemetry-ingest", "ingest", "grpc://");
    let near = serve(&settings, "edge", "edge-0", "served at ws://");
    let far = serve(&settings, "edge", "edge-1", "served at ws://");
    let mut fleet = FleetServiceClient::connect(format!("http://{}", ingest.address))
        .await
        .unwrap();
    fleet.register(register()).await.unwrap();

    let begin: DateTime<Utc> = Clock::system().now();
    let at = |seconds| begin - TimeDelta::minutes(2) + TimeDelta::seconds(seconds);
    let mut station = Station::connect(&near.address).await;
    let start = json!({"connectorId": 1, "idTag": "car", "meterStart": 1_000, "timestamp": at(0).to_rfc3339()});
    let started = station.call("a", "StartTransaction", start).await;
    let transaction = started["transactionId"].clone();
    station.meter("b", &transaction, at(10), 7_000, 1_020).await;
    until(&mut fleet, "plugged in", |state| {
        state.session.is_some() && state.power_watts == Some(7_000)
    })
    .await;

    // Whoever decides appends; the edge with the socket acts, the other is silent.
    let data = dir.path().join("data");
    let decides = Store::over_kafka(&data, kafka.clone(), "gateway", Options::default());
    let log = decides.await.unwrap().log();
    command(&log, "first", 4_000).await;
    assert!((station.told().await - 4_000.0).abs() < 1e-6);
    until(&mut fleet, "set-point", |state| {
        state.setpoint_watts == Some(4_000)
    })
    .await;

    signal("-KILL", &near.child.id().to_string());
    drop(station);
    let mut station = Station::connect(&far.address).await;
    station.meter("c", &transaction, at(60), 4_000, 1_080).await;
    until(&mut fleet, "same stay at the other edge", |state| {
        state.power_watts == Some(4_000) && state.session.is_some()
    })
    .await;
    command(&log, "second", 9_000).await;
    assert!((station.told().await - 9_000.0).abs() < 1e-6);

    // The state outlives the service that keeps it.
    drop(ingest);
    station.meter("d", &transaction, at(90), 9_000, 1_150).await;
    let ingest = serve(&settings, "telemetry-ingest", "ingest", "grpc://");
    let mut fleet = FleetServiceClient::connect(format!("http://{}", ingest.address))
        .await
        .unwrap();
    until(&mut fleet, "what was told meanwhile", |state| {
        state.power_watts == Some(9_000) && state.setpoint_watts == Some(9_000)
    })
    .await;
    let added = |state: &EvseState| state.session.as_ref().and_then(|s| s.added_joules);
    // 150 Wh through the meter, 94 % of it into the battery; each reading counted once.
    until(&mut fleet, "energy", |state| {
        added(state) == Some(150 * 3_600 * 94 / 100)
    })
    .await;
}
