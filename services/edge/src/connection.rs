//! One websocket: what comes in is understood and answered, what goes out is written one call at a time.

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::ws::{Message, WebSocket, close_code};
use chrono::{DateTime, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{Setpoint, StationId, Telemetry};
use futures_util::{Stream, StreamExt};
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::{CallError, CallErrorRef, ErrorCode, Frame, FrameError, FrameReply};
use ocpp_kit::types::MessageId;
use ocpp_kit::{RawValue, Version, v1_6, v2_1};
use runtime::Clock;
use runtime::latency::Probe;
use runtime::trace::{self, Pending};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::absent::Absent;
use crate::answer::{Answer, Desk};
use crate::config::Config;
use crate::mailbox::{Mailbox, Seat, Switchboard};
use crate::outbox::{self, Closed, Post};
use crate::registry::Registry;
use crate::security::Guard;
use crate::station::{Outlets, Said, Then};
use crate::writer::{Answered, Outgoing, REPLACED, Writer, acknowledge};
use crate::{v2, v16, v21, v201};

/// Answers that may wait for a slow socket before its reader has to wait too.
const OUTGOING: usize = 16;

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Edge {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) registry: Registry,
    pub(crate) switchboard: Switchboard,
    pub(crate) absent: Absent,
    pub(crate) post: Post,
    pub(crate) probe: Probe,
    /// Set-points that stand for their signal in its trace, by their id.
    pub(crate) traced: Pending<trace::Context>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) stop: CancellationToken,
}

/// When anything was last heard, in milliseconds since the connection began.
#[derive(Debug)]
pub(crate) struct Heard {
    since: Instant,
    millis: AtomicU64,
}

impl Heard {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            millis: AtomicU64::new(0),
        }
    }

    fn now(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Real time since anything was heard.
    pub(crate) fn silence(&self) -> Duration {
        let last = Duration::from_millis(self.millis.load(Ordering::Relaxed));
        self.since.elapsed().saturating_sub(last)
    }
}

/// Locks the outlets of a station.
pub(crate) fn lock(outlets: &Mutex<Outlets>) -> MutexGuard<'_, Outlets> {
    outlets.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a connection ended, and what the close frame says.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: u16,
    pub(crate) why: Cow<'static, str>,
}

impl Ended {
    pub(crate) fn new(code: u16, why: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            why: why.into(),
        }
    }
}

/// Serves one station until its socket closes, a newer connection takes over or the service stops.
pub(crate) async fn serve(
    edge: Arc<Edge>,
    outlets: Arc<Mutex<Outlets>>,
    version: Version,
    socket: WebSocket,
) {
    let (station, evses) = {
        let outlets = lock(&outlets);
        (outlets.station.id.clone(), outlets.station.evse_ids())
    };
    let at = edge.clock.now();
    let (seat, replaced) = edge.switchboard.connect(&station, at);
    if replaced {
        metrics::counter!("shoal_edge_replaced_total").increment(1);
        tracing::warn!(station.id = %station, "station {station} connected again: the older connection is closed");
    }
    gauge(&edge);
    if edge.config.replicas {
        for (place, setpoint) in edge.absent.came(&station, at) {
            put(&edge, &seat.mailbox, place, setpoint).await;
        }
    }
    edge.post
        .tell(&presence(&station, evses.clone(), true, at))
        .await;

    let ended = converse(&edge, &outlets, &station, version, socket, &seat).await;

    let offline = edge.switchboard.disconnect(&station, &seat);
    gauge(&edge);
    let mut said = Said::default();
    {
        let mut outlets = lock(&outlets);
        outlets.streams_end(&mut said);
        outlets.left();
    }
    for reading in &said.events {
        edge.post.tell(reading).await;
    }
    if offline {
        let at = edge.clock.now();
        if edge.config.replicas {
            edge.absent.left(&station, at);
        }
        edge.post.tell(&presence(&station, evses, false, at)).await;
    }
    tracing::debug!(station.id = %station, code = ended.code, "connection of {station} ended: {}", ended.why);
}

fn gauge(edge: &Edge) {
    #[expect(clippy::cast_precision_loss, reason = "a count of connections")]
    metrics::gauge!("shoal_edge_connections").set(edge.switchboard.len() as f64);
}

/// Leaves a set-point in a mailbox, and says what became of it or of the one that it replaced.
pub(crate) async fn put(edge: &Edge, mailbox: &Mailbox, place: i32, setpoint: Setpoint) {
    match mailbox.put(place, setpoint) {
        Ok(None) => {}
        Ok(Some(replaced)) => {
            metrics::counter!("shoal_edge_setpoints_replaced_total").increment(1);
            // Other edges wait to see it answered.
            if edge.config.replicas {
                acknowledge(edge, &replaced, Outcome::Unreachable, REPLACED, None).await;
            }
        }
        // Whoever the station comes to answers it.
        Err(refused) if edge.config.replicas => edge.absent.release(&refused),
        Err(refused) => {
            let why = "the station is disconnecting";
            acknowledge(edge, &refused, Outcome::Unreachable, why, None).await;
        }
    }
}

/// What is told of a station.
pub(crate) fn presence(
    station: &StationId,
    evses: Vec<fleet::EvseId>,
    online: bool,
    at: DateTime<Utc>,
) -> Telemetry {
    Telemetry::Connection {
        station: station.clone(),
        evses,
        online,
        at,
    }
}

async fn converse(
    edge: &Arc<Edge>,
    outlets: &Arc<Mutex<Outlets>>,
    station: &StationId,
    version: Version,
    socket: WebSocket,
    seat: &Seat,
) -> Ended {
    let heard = Heard::new();
    let (sink, stream) = socket.split();
    let (outgoing, waiting) = mpsc::channel(OUTGOING);
    let mut writer = Writer::new(
        Arc::clone(edge),
        Arc::clone(outlets),
        version,
        seat.clone(),
        sink,
    );
    let reader = Reader {
        edge,
        outlets,
        station,
        version,
        outgoing,
        heard: &heard,
    };
    let ended = tokio::select! {
        ended = reader.run(stream) => ended,
        ended = writer.run(waiting, &heard) => ended,
    };
    writer.finish(&ended).await;
    ended
}

struct Reader<'a> {
    edge: &'a Edge,
    outlets: &'a Mutex<Outlets>,
    station: &'a StationId,
    version: Version,
    outgoing: mpsc::Sender<Outgoing>,
    heard: &'a Heard,
}

/// Holds back a station that sends more than its share: it is read later, and nothing is lost.
struct Pace {
    left: f64,
    burst: f64,
    per_second: f64,
    last: Instant,
}

impl Pace {
    fn new(config: &Config) -> Self {
        let burst = f64::from(config.message_burst);
        Self {
            left: burst,
            burst,
            per_second: f64::from(config.messages_per_second),
            last: Instant::now(),
        }
    }

    async fn keep(&mut self) {
        let earned = self.last.elapsed().as_secs_f64() * self.per_second;
        self.last = Instant::now();
        self.left = (self.left + earned).min(self.burst) - 1.0;
        if self.left < 0.0 {
            metrics::counter!("shoal_edge_held_back_total").increment(1);
            tokio::time::sleep(Duration::from_secs_f64(-self.left / self.per_second)).await;
        }
    }
}

impl Reader<'_> {
    async fn run(
        self,
        mut stream: impl Stream<Item = Result<Message, axum::Error>> + Unpin,
    ) -> Ended {
        let mut pace = Pace::new(&self.edge.config);
        loop {
            let message = stream.next().await;
            self.heard.now();
            pace.keep().await;
            let taken = match message {
                Some(Ok(Message::Text(text))) => self.text(text.as_str()).await,
                Some(Ok(Message::Binary(bytes))) => {
                    self.refuse("a binary message, expected OCPP-J text", &bytes)
                        .await
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
                Some(Ok(Message::Close(_))) | None => {
                    return Ended::new(close_code::NORMAL, "the station closed it");
                }
                Some(Err(error)) => return self.broken(&error).await,
            };
            if let Err(Closed) = taken {
                return Ended::new(close_code::AWAY, "the service is stopping");
            }
        }
    }

    /// The socket cannot be read any further.
    async fn broken(&self, error: &axum::Error) -> Ended {
        let why = error.to_string();
        let (too_long, text) = ("Space limit exceeded", "UTF-8");
        let code = if why.contains(too_long) {
            close_code::SIZE
        } else if why.contains(text) {
            close_code::INVALID
        } else {
            return Ended::new(close_code::PROTOCOL, why);
        };
        let limit = self.edge.config.buffer_limit_bytes;
        let reason = format!("{why}, expected text of at most {limit} bytes");
        // The bytes were never all received, so there is nothing to keep but the fact.
        let _ = self.refuse(&reason, &[]).await;
        Ended::new(code, reason)
    }

    async fn text(&self, text: &str) -> Result<(), Closed> {
        let limit = self.edge.config.message_limit_bytes;
        let frame = Frame::parse(text, self.version);
        if text.len() > limit {
            let reason = format!(
                "a message of {} bytes, expected at most {limit}",
                text.len()
            );
            self.refuse(&reason, text.as_bytes()).await?;
            if let Ok(Frame::Call { id, .. }) = frame {
                self.fail(id, CallError::new(ErrorCode::FormatViolation, reason))
                    .await;
            }
            return Ok(());
        }
        match frame {
            Ok(Frame::Call {
                id,
                action,
                payload,
            }) => self.call(id, &action, &payload, text).await,
            Ok(Frame::CallResult { id, payload }) => {
                self.answered(id, Ok(payload.into_owned())).await;
                Ok(())
            }
            Ok(Frame::CallError { id, error }) => {
                self.answered(id, Err(error.to_call_error())).await;
                Ok(())
            }
            Ok(Frame::CallResultError { error, .. }) => {
                let reason = format!("our answer was refused: {}", error.to_call_error());
                self.refuse(&reason, text.as_bytes()).await
            }
            Ok(Frame::Send {
                action, payload, ..
            }) => self.unconfirmed(&action, &payload, text).await,
            Err(error) => self.unreadable(&error, text).await,
        }
    }

    async fn unreadable(&self, error: &FrameError, text: &str) -> Result<(), Closed> {
        let reason = format!("{error}, expected an OCPP {} frame", self.version);
        self.refuse(&reason, text.as_bytes()).await?;
        match error.reply(self.version) {
            // 1.6 has no identifier for a message that carries none.
            FrameReply::CallError
                if self.version.uses_unreadable_message_id()
                    || error.reply_id() != MessageId::unreadable() =>
            {
                let answer = CallError::new(error.error_code(), reason);
                self.fail(error.reply_id(), answer).await;
            }
            FrameReply::CallResultError => {
                let answer = CallError::new(error.error_code(), reason);
                let frame = Frame::CallResultError {
                    id: error.reply_id(),
                    error: borrowed(&answer),
                };
                self.send(&frame).await;
            }
            FrameReply::CallError | FrameReply::Ignore => {}
        }
        Ok(())
    }

    /// A call: what it said is durable before it is answered.
    async fn call(
        &self,
        id: MessageId,
        action: &str,
        payload: &RawValue,
        text: &str,
    ) -> Result<(), Closed> {
        metrics::counter!("shoal_edge_messages_total", "version" => self.version.subprotocol())
            .increment(1);
        let mut said = Said::default();
        let answer = self.understand(action, payload, &mut said).await;
        if let Err(error) = &answer
            && said.refused.is_empty()
        {
            said.refused.push(error.to_string());
        }
        if let Some(offset) = said.skew {
            self.clock_is_off(offset);
        }
        let records = self.records(&said, action, text);
        self.edge.post.outbox.write(records).await?;
        match answer {
            Ok(payload) => {
                let payload = Cow::Owned(payload);
                self.send_then(&Frame::CallResult { id, payload }, said.then)
                    .await;
            }
            Err(error) => self.fail(id, error).await,
        }
        Ok(())
    }

    /// A message that is never answered: the station is read on once what it said is queued for the log.
    async fn unconfirmed(
        &self,
        action: &str,
        payload: &RawValue,
        text: &str,
    ) -> Result<(), Closed> {
        metrics::counter!("shoal_edge_messages_total", "version" => self.version.subprotocol())
            .increment(1);
        let mut said = Said::default();
        v21::unconfirmed(&mut lock(self.outlets), action, payload, &mut said);
        let records = self.records(&said, action, text);
        if records.is_empty() {
            return Ok(());
        }
        self.edge.post.outbox.send(records).await
    }

    /// What a message said, and the message itself if anything in it was refused.
    fn records(&self, said: &Said, action: &str, text: &str) -> Vec<store::NewRecord> {
        let mut records: Vec<_> = said.events.iter().map(outbox::record).collect();
        if !said.refused.is_empty() {
            let reason = format!("{action}: {}", said.refused.join("; "));
            records.push(self.quarantine(&reason, text.as_bytes()));
        }
        records
    }

    fn clock_is_off(&self, offset: TimeDelta) {
        let (station, seconds) = (self.station, offset.as_seconds_f64());
        metrics::histogram!("shoal_edge_clock_offset_seconds").record(seconds);
        tracing::warn!(station.id = %station, seconds, "the clock of {station} is {seconds:.0} s behind ours");
    }

    async fn understand(&self, action: &str, payload: &RawValue, said: &mut Said) -> Answer {
        let desk = Desk {
            now: self.edge.clock.now(),
            heartbeat_seconds: self.edge.config.heartbeat_seconds,
            tokens: &self.edge.guard.tokens,
            supply: &self.edge.config.supply,
            issuer: self.edge.guard.issuer.as_ref(),
        };
        let request = match self.version {
            Version::V1_6 => {
                let action = v1_6::Action::from_wire(action)
                    .ok_or_else(|| CallError::not_implemented(action))?;
                let options = DecodeOptions::strict();
                let request = v1_6::CsRequest::decode(action, payload, &options)?;
                return v16::handle(&mut lock(self.outlets), request, desk, said);
            }
            Version::V2_0_1 => v201::decode(action, payload)?,
            Version::V2_1 => v21::decode(action, payload)?,
            _ => return Err(CallError::not_implemented(action)),
        };
        self.recall_if_unknown(&request).await;
        v2::handle(&mut lock(self.outlets), request, desk, said)
    }

    /// A transaction begun before this process did, at a station with several outlets, is looked up in the tables.
    async fn recall_if_unknown(&self, request: &v2_1::CsRequest) {
        let unknown = if let v2_1::CsRequest::TransactionEvent(event) = request {
            let id = &event.transaction_info.transaction_id;
            let evse = event.evse.as_ref().map(|e| e.id);
            lock(self.outlets).place_of(evse, id).is_none()
        } else if let v2_1::CsRequest::NotifyEVChargingNeeds(needs) = request {
            lock(self.outlets).session(needs.evse_id).is_none()
        } else {
            false
        };
        if unknown && let Err(error) = self.edge.registry.recall(self.outlets).await {
            let station = self.station;
            tracing::warn!(station.id = %station, %error, "stays of {station} cannot be looked up: {error}");
        }
    }

    async fn answered(&self, id: MessageId, result: Answer) {
        // The station may open a stream of a monitor on the heels of this answer, before the writer looks at it.
        let streams = lock(self.outlets).streams.monitors.hear(&id, &result);
        let answered = Answered {
            id,
            result,
            streams,
        };
        // The writer ends before the reader only when the connection is over.
        let _ = self
            .outgoing
            .send(Outgoing::Answered(Box::new(answered)))
            .await;
    }

    async fn fail(&self, id: MessageId, error: CallError) {
        let error = borrowed(&error);
        self.send(&Frame::CallError { id, error }).await;
    }

    async fn send(&self, frame: &Frame<'_>) {
        self.send_then(frame, Then::default()).await;
    }

    /// Sends a frame, and what holds once it is on the wire.
    async fn send_then(&self, frame: &Frame<'_>, then: Then) {
        match frame.to_json(self.version) {
            Ok(text) => {
                let _ = self.outgoing.send(Outgoing::Frame { text, then }).await;
            }
            Err(error) => {
                tracing::error!(station.id = %self.station, %error, "answer to {} cannot be written: {error}", self.station);
            }
        }
    }

    /// Says in the log and keeps in quarantine what was refused.
    async fn refuse(&self, reason: &str, original: &[u8]) -> Result<(), Closed> {
        let record = self.quarantine(reason, original);
        self.edge.post.outbox.write(vec![record]).await
    }

    fn quarantine(&self, reason: &str, original: &[u8]) -> store::NewRecord {
        let station = self.station;
        metrics::counter!("shoal_edge_refused_total").increment(1);
        tracing::warn!(station.id = %station, "message of station {station} refused: {reason}");
        outbox::quarantined(station.as_str(), reason, original, self.edge.clock.now())
    }
}

fn borrowed(error: &CallError) -> CallErrorRef<'static> {
    let details = serde_json::value::to_raw_value(&error.details)
        .unwrap_or_else(|_| RawValue::NULL.to_owned());
    CallErrorRef {
        code: error.code.clone(),
        description: Cow::Owned(error.description.clone()),
        details: Cow::Owned(details),
    }
}
