//! An edge on a free port over an in-memory log, and a bare websocket client that says what it likes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Evse, Protocol, Setpoint, Telemetry};
use futures_util::{SinkExt, Stream, StreamExt};
use runtime::Clock;
use runtime::latency::Probe;
use serde_json::{Value, json};
use shoal_edge::{Config, Deps, Edge, Error};
use store::{NewRecord, Position, Store, topic};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{WebSocketStream, connect_async};
use tokio_util::sync::CancellationToken;
use units::{Efficiency, Power};
use wire::proto::dispatch::v1 as dispatch;
use wire::proto::telemetry::v1 as telemetry;

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) clock: Clock,
    pub(crate) probe: Probe,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), Error>>,
}

pub(crate) fn evse(station: &str, number: usize, protocol: Protocol) -> Evse {
    let both_ways = protocol == Protocol::Ocpp21;
    let efficiency = Efficiency::try_new(0.94).unwrap();
    Evse {
        id: format!("{station}/{number}").parse().unwrap(),
        station: station.parse().unwrap(),
        site: "street-01".parse().unwrap(),
        class: "home".into(),
        protocol,
        max_charge: Power::from_kw(11.0),
        max_discharge: if both_ways {
            Power::from_kw(11.0)
        } else {
            Power::ZERO
        },
        charge_efficiency: efficiency,
        discharge_efficiency: efficiency,
    }
}

/// Settings under which stations are told set-points and asked nothing: a test says what comes next on the wire.
pub(crate) fn quiet() -> Config {
    Config {
        inquire: false,
        ..Config::default()
    }
}

/// Three stations: `one-way` speaks 1.6, `limited` 2.0.1, `both-ways` 2.1 with two outlets.
pub(crate) async fn bench() -> Bench {
    bench_with(quiet()).await
}

pub(crate) async fn bench_with(config: Config) -> Bench {
    start(stations().await, config, Clock::system(), 0).await
}

/// A store in which the stations are registered.
pub(crate) async fn stations() -> Store {
    let store = Store::in_memory().await.unwrap();
    let evses = [
        evse("one-way", 1, Protocol::Ocpp16),
        evse("limited", 1, Protocol::Ocpp201),
        evse("both-ways", 1, Protocol::Ocpp21),
        evse("both-ways", 2, Protocol::Ocpp21),
    ];
    store.tables().upsert_evses(&evses).await.unwrap();
    store
}

/// A runtime of its own for an edge, so that it can die as a process does: at once, with nothing said and nothing finished.
pub(crate) struct Host(Option<Runtime>);

impl Host {
    pub(crate) fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(Some(
            builder.worker_threads(1).enable_all().build().unwrap(),
        ))
    }

    /// Starts something here and waits for what comes of it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        starting: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.0.as_ref().unwrap().spawn(starting).await.unwrap()
    }

    /// Everything that runs here stops where it is.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An edge over an existing store, at a port (0: a free one).
pub(crate) async fn start(store: Store, config: Config, clock: Clock, port: u16) -> Bench {
    let mut config = Config {
        listen: SocketAddr::from(([127, 0, 0, 1], port)),
        ..config
    };
    // Stations of the bench are simulated, on loopback.
    config.security.discharge_without_tls = true;
    start_as_is(store, config, clock).await
}

/// An edge with exactly these settings.
pub(crate) async fn start_as_is(store: Store, config: Config, clock: Clock) -> Bench {
    let probe = Probe::new();
    let deps = Deps {
        clock,
        log: store.log(),
        tables: store.tables(),
        latency: probe.clone(),
    };
    let edge = Edge::bind(config, deps).await.unwrap();
    let (address, stop) = (edge.address(), CancellationToken::new());
    let running = tokio::spawn(edge.run(stop.clone()));
    Bench {
        store,
        clock,
        probe,
        address,
        stop,
        running,
    }
}

impl Bench {
    pub(crate) async fn connect(&self, identity: &str, subprotocol: &str) -> Client {
        self.try_connect(identity, Some(subprotocol)).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        identity: &str,
        subprotocol: Option<&str>,
    ) -> Result<Client, WsError> {
        let url = format!("ws://{}/ocpp/{identity}", self.address);
        let mut request = url.into_client_request().unwrap();
        if let Some(subprotocol) = subprotocol {
            let value = subprotocol.parse().unwrap();
            request
                .headers_mut()
                .insert("sec-websocket-protocol", value);
        }
        let (socket, _) = connect_async(request).await?;
        Ok(Client::over(socket))
    }

    /// All telemetry so far.
    pub(crate) async fn told(&self) -> Vec<Telemetry> {
        self.records(topic::READINGS)
            .await
            .iter()
            .map(|r| {
                let message = wire::decode::<telemetry::Telemetry>(r).unwrap();
                Telemetry::try_from(message).unwrap()
            })
            .collect()
    }

    /// Everything in quarantine so far.
    pub(crate) async fn quarantined(&self) -> Vec<telemetry::Quarantined> {
        let records = self.records(topic::QUARANTINE).await;
        records.iter().map(|r| wire::decode(r).unwrap()).collect()
    }

    async fn records(&self, topic: store::Topic) -> Vec<bytes::Bytes> {
        let log = self.store.log();
        let newest = log.newest(topic).await.unwrap();
        let mut reader = log.replay(topic, &Position::default()).unwrap();
        let mut payloads = Vec::new();
        while !reader.position().covers(&newest) {
            let batch = reader.next_batch(10_000).await.unwrap();
            payloads.extend(batch.into_iter().map(|r| r.payload));
        }
        payloads
    }

    /// Waits until telemetry satisfies a condition.
    pub(crate) async fn until<T>(&self, mut met: impl FnMut(&[Telemetry]) -> Option<T>) -> T {
        let waiting = async {
            loop {
                if let Some(found) = met(&self.told().await) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        match timeout(PATIENCE, waiting).await {
            Ok(found) => found,
            Err(_) => panic!("not met by {:#?}", self.told().await),
        }
    }

    pub(crate) async fn command(&self, setpoint: &Setpoint) {
        let record = NewRecord {
            topic: topic::SETPOINTS,
            key: setpoint.evse.to_string(),
            payload: wire::encode(&dispatch::Setpoint::from(setpoint)),
        };
        self.store.log().append(vec![record]).await.unwrap();
    }

    pub(crate) fn setpoint(&self, id: &str, evse: &str, watts: i64, life: TimeDelta) -> Setpoint {
        let now = self.clock.now();
        Setpoint {
            id: id.parse().unwrap(),
            evse: evse.parse().unwrap(),
            power: Power::from_watts(watts),
            mode: fleet::Mode::default(),
            issued_at: now,
            expires_at: now + life,
            signal: Some("signal-1".parse().unwrap()),
            reason: "test".into(),
        }
    }

    pub(crate) async fn acknowledged(&self, id: &str) -> fleet::Acknowledgement {
        self.until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Acknowledged(ack) if ack.setpoint.as_str() == id => Some(ack.clone()),
                _ => None,
            })
        })
        .await
    }

    /// Asks for a power that is refused and gives the reason.
    pub(crate) async fn refused(
        &self,
        id: &str,
        evse: &str,
        watts: i64,
        life: TimeDelta,
    ) -> String {
        self.command(&self.setpoint(id, evse, watts, life)).await;
        let ack = self.acknowledged(id).await;
        assert_eq!(ack.outcome, fleet::setpoint::Outcome::Rejected);
        ack.detail
    }

    /// Stops the edge and hands back the store.
    pub(crate) async fn finish(self) -> Store {
        self.stop.cancel();
        timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        self.store
    }
}

/// A websocket over any stream.
type Socket = Box<dyn Stream<Item = Result<Message, WsError>> + Send + Unpin>;
type Sink = Box<dyn futures_util::Sink<Message, Error = WsError> + Send + Unpin>;

pub(crate) struct Client {
    stream: Socket,
    sink: Sink,
    calls: u64,
}

impl Client {
    /// A client over a websocket that is open.
    pub(crate) fn over<S>(socket: WebSocketStream<S>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sink, stream) = socket.split();
        Self {
            stream: Box::new(stream),
            sink: Box::new(sink),
            calls: 0,
        }
    }

    pub(crate) async fn send(&mut self, text: impl Into<String>) {
        self.sink
            .send(Message::Text(text.into().into()))
            .await
            .unwrap();
    }

    pub(crate) async fn send_bytes(&mut self, bytes: Vec<u8>) {
        self.sink.send(Message::Binary(bytes.into())).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, text: String) -> Result<(), WsError> {
        self.sink.send(Message::Text(text.into())).await
    }

    /// The next frame; `None` once the connection is closed.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        let waiting = async {
            loop {
                match self.stream.next().await? {
                    Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).unwrap()),
                    Ok(Message::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        timeout(PATIENCE, waiting).await.expect("an answer in time")
    }

    /// The close code, once the connection is closed.
    pub(crate) async fn closed(&mut self) -> Option<u16> {
        let waiting = async {
            while let Some(message) = self.stream.next().await {
                match message {
                    Ok(Message::Close(frame)) => return frame.map(|f| f.code.into()),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
            None
        };
        timeout(PATIENCE, waiting).await.expect("closed in time")
    }

    /// Sends a call and returns the whole frame that answers it.
    pub(crate) async fn ask(&mut self, action: &str, payload: Value) -> Value {
        self.calls += 1;
        let id = format!("c{}", self.calls);
        self.send(json!([2, id, action, payload]).to_string()).await;
        let answer = self.next().await.expect("still connected");
        assert_eq!(answer[1], json!(id), "{answer}");
        answer
    }

    /// Sends a call and returns the payload of its result.
    pub(crate) async fn call(&mut self, action: &str, payload: Value) -> Value {
        let answer = self.ask(action, payload).await;
        assert_eq!(answer[0], json!(3), "{answer}");
        answer[2].clone()
    }

    /// Waits for a call of the other side; returns its identifier, action and payload.
    pub(crate) async fn called(&mut self) -> (String, String, Value) {
        let frame = self.next().await.expect("still connected");
        assert_eq!(frame[0], json!(2), "{frame}");
        let text = |i: usize| frame[i].as_str().unwrap().to_owned();
        (text(1), text(2), frame[3].clone())
    }

    pub(crate) async fn answer(&mut self, id: &str, payload: Value) {
        self.send(json!([3, id, payload]).to_string()).await;
    }

    /// Begins a 1.6 transaction and returns its number.
    pub(crate) async fn start16(&mut self, at: DateTime<Utc>) -> i64 {
        let start = json!({"connectorId": 1, "idTag": "car-0001", "meterStart": 1000, "timestamp": at.to_rfc3339()});
        let started = self.call("StartTransaction", start).await;
        assert_eq!(started["idTagInfo"]["status"], "Accepted");
        started["transactionId"].as_i64().unwrap()
    }

    /// Tells needs of a vehicle that agrees to be discharged by up to 9 kW at an outlet with a transaction.
    pub(crate) async fn agree2(&mut self, evse: i32) {
        let needs = json!({"evseId": evse, "chargingNeeds": {
            "requestedEnergyTransfer": "DC_BPT", "departureTime": "2036-06-10T05:00:00Z",
            "dcChargingParameters": {"evMaxCurrent": 30, "evMaxVoltage": 400, "stateOfCharge": 50, "evEnergyCapacity": 60000},
            "v2xChargingParameters": {"maxChargePower": 11000, "maxDischargePower": 9000, "evTargetEnergyRequest": 15000,
                "evMaxEnergyRequest": 30000, "evMinV2XEnergyRequest": -18000},
        }});
        let answer = self.call("NotifyEVChargingNeeds", needs).await;
        assert_eq!(answer["status"], "Processing");
    }

    /// Sends a transaction event of 2.0.1 or 2.1 for outlet 1.
    pub(crate) async fn event2(&mut self, kind: &str, transaction: &str, at: DateTime<Utc>) {
        self.call("TransactionEvent", event2(kind, transaction, at))
            .await;
    }
}

pub(crate) fn event2(kind: &str, transaction: &str, at: DateTime<Utc>) -> Value {
    json!({
        "eventType": kind, "timestamp": at.to_rfc3339(), "triggerReason": "CablePluggedIn", "seqNo": 0,
        "transactionInfo": {"transactionId": transaction}, "evse": {"id": 1},
        "idToken": {"idToken": "car-0002", "type": "Central"},
    })
}

/// Sessions told to have begun.
pub(crate) fn sessions(told: &[Telemetry]) -> BTreeSet<String> {
    told.iter()
        .filter_map(|t| match t {
            Telemetry::PluggedIn { session, .. } => Some(session.to_string()),
            _ => None,
        })
        .collect()
}
