//! The sending half of a connection: answers at once, set-points one call at a time.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::ws::{CloseFrame, Message, WebSocket, close_code};
use chrono::{DateTime, Utc};
use fleet::setpoint::Outcome;
use fleet::{Acknowledgement, Setpoint, Telemetry};
use futures_util::SinkExt;
use futures_util::stream::SplitSink;
use ocpp_kit::Version;
use ocpp_kit::rpc::Frame;
use ocpp_kit::types::MessageId;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::answer::Answer;
use crate::connection::{Edge, Ended, Heard, lock};
use crate::mailbox::Seat;
use crate::orders::{Call, Effect, Installed, outcome};
use crate::station::Outlets;

/// Pings without any sign of life before a connection is given up.
const MISSED_PINGS: u32 = 3;

/// What the reader hands over.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame to write, and the outlet whose transaction it names.
    Frame { text: String, names: Option<i32> },
    /// The station answered a call of ours.
    Answered { id: MessageId, result: Answer },
}

#[derive(Debug)]
struct Outstanding {
    id: MessageId,
    place: i32,
    setpoint: Setpoint,
    sent_at: DateTime<Utc>,
    deadline: Instant,
    effect: Effect,
}

pub(crate) struct Writer {
    edge: Arc<Edge>,
    outlets: Arc<Mutex<Outlets>>,
    version: Version,
    seat: Seat,
    sink: SplitSink<WebSocket, Message>,
    outstanding: Option<Outstanding>,
    installed: BTreeMap<i32, Installed>,
    calls: u64,
}

impl Writer {
    pub(crate) fn new(
        edge: Arc<Edge>,
        outlets: Arc<Mutex<Outlets>>,
        version: Version,
        seat: Seat,
        sink: SplitSink<WebSocket, Message>,
    ) -> Self {
        Self {
            edge,
            outlets,
            version,
            seat,
            sink,
            outstanding: None,
            installed: BTreeMap::new(),
            calls: 0,
        }
    }

    /// Writes until the connection has to end; returns why.
    pub(crate) async fn run(
        &mut self,
        mut waiting: mpsc::Receiver<Outgoing>,
        heard: &Heard,
    ) -> Ended {
        let period = std::time::Duration::from_secs(self.edge.config.ping_seconds);
        let mut ping = interval_at(Instant::now() + period, period);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let edge = Arc::clone(&self.edge);
        let seat = self.seat.clone();
        loop {
            let step = if self.outstanding.is_none()
                && let Some((place, setpoint)) = seat.mailbox.take(|place| self.may_tell(place))
            {
                self.command(place, setpoint).await
            } else {
                let deadline = self.outstanding.as_ref().map(|o| o.deadline);
                tokio::select! {
                    biased;
                    () = seat.hang_up.cancelled() => {
                        Err(Ended::new(close_code::POLICY, "a newer connection of this station took over"))
                    }
                    () = edge.stop.cancelled() => {
                        Err(Ended::new(close_code::AWAY, "the service is stopping"))
                    }
                    Some(outgoing) = waiting.recv() => match outgoing {
                        Outgoing::Frame { text, names } => self.reply(text, names).await,
                        Outgoing::Answered { id, result } => {
                            self.answered(&id, result).await;
                            Ok(())
                        }
                    },
                    () = seat.mailbox.arrival(), if deadline.is_none() => Ok(()),
                    () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                        self.give_up("the station did not answer in time").await;
                        Ok(())
                    }
                    _ = ping.tick() => {
                        if heard.silence() > period * MISSED_PINGS {
                            Err(Ended::new(close_code::PROTOCOL, "no sign of life"))
                        } else {
                            self.write(Message::Ping(Vec::new().into())).await
                        }
                    }
                }
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    /// Says goodbye, and what became of set-points that were not answered.
    pub(crate) async fn finish(&mut self, ended: &Ended) {
        let reason: String = ended.why.chars().take(100).collect();
        let close = Message::Close(Some(CloseFrame {
            code: ended.code,
            reason: reason.into(),
        }));
        // The socket may be gone already.
        let _ = self.write(close).await;
        self.give_up("the connection ended before the station answered")
            .await;
        for setpoint in self.seat.mailbox.close() {
            let detail = "the connection ended before it could be sent";
            acknowledge(&self.edge, &setpoint, Outcome::Unreachable, detail, None).await;
        }
    }

    /// Discharge needs a connection that nobody else can speak on, and an outlet and a vehicle that allow it.
    fn permit(&self, place: i32, setpoint: &Setpoint) -> Result<(), String> {
        if setpoint.mode.lowest(setpoint.power).is_export() && !self.edge.guard.allows_discharge() {
            return Err(
                "discharge is refused over connections without TLS, as edge.security says"
                    .to_owned(),
            );
        }
        lock(&self.outlets).permit(place, setpoint)
    }

    /// Set-points for an outlet wait until its transaction has a name at the station.
    fn may_tell(&self, place: i32) -> bool {
        lock(&self.outlets).may_be_told(place)
    }

    async fn reply(&mut self, text: String, names: Option<i32>) -> Result<(), Ended> {
        self.write(Message::Text(text.into())).await?;
        if let Some(place) = names {
            lock(&self.outlets).name(place);
        }
        Ok(())
    }

    async fn write(&mut self, message: Message) -> Result<(), Ended> {
        match timeout(self.edge.config.write_timeout(), self.sink.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Ended::new(close_code::PROTOCOL, error.to_string())),
            Err(_) => Err(Ended::new(
                close_code::POLICY,
                "the station takes no messages: cut off as too slow",
            )),
        }
    }

    /// Sends a set-point, or says why not.
    async fn command(&mut self, place: i32, setpoint: Setpoint) -> Result<(), Ended> {
        let now = self.edge.clock.now();
        if setpoint.expires_at <= now {
            let detail = format!("expired at {} before it could be sent", setpoint.expires_at);
            acknowledge(&self.edge, &setpoint, Outcome::Unreachable, &detail, None).await;
            return Ok(());
        }
        let transaction = lock(&self.outlets)
            .stay(place)
            .map(|s| s.transaction.clone());
        let call = match transaction {
            None => Err("no vehicle is plugged in".to_owned()),
            Some(transaction) => {
                let held = self.installed.get(&place);
                // What the version cannot say is the more telling reason.
                Call::saying(&setpoint, self.version, place, &transaction, held, now)
                    .and_then(|call| self.permit(place, &setpoint).map(|()| call))
            }
        };
        let call = match call {
            Ok(call) => call,
            Err(why) => {
                acknowledge(&self.edge, &setpoint, Outcome::Rejected, &why, None).await;
                return Ok(());
            }
        };
        self.send(place, setpoint, call).await
    }

    async fn send(&mut self, place: i32, setpoint: Setpoint, call: Call) -> Result<(), Ended> {
        self.calls += 1;
        let id = MessageId::truncating(&format!("sp-{}", self.calls));
        let frame = Frame::Call {
            id: id.clone(),
            action: Cow::Borrowed(call.action),
            payload: Cow::Owned(call.payload),
        };
        let text = match frame.to_json(self.version) {
            Ok(text) => text,
            Err(error) => {
                let detail = format!("the call cannot be written: {error}");
                acknowledge(&self.edge, &setpoint, Outcome::Rejected, &detail, None).await;
                return Ok(());
            }
        };
        let tells = call.effect != Effect::Signals;
        self.outstanding = Some(Outstanding {
            id,
            place,
            setpoint: setpoint.clone(),
            sent_at: self.edge.clock.now(),
            deadline: Instant::now() + self.edge.config.call_timeout(),
            effect: call.effect,
        });
        // A signal leaves the value of the profile as it is.
        if tells {
            lock(&self.outlets).tell(place, setpoint);
        }
        self.write(Message::Text(text.into())).await?;
        let sent_at = self.edge.clock.now();
        if let Some(sent) = &mut self.outstanding {
            sent.sent_at = sent_at;
            if let Some(signal) = &sent.setpoint.signal {
                self.edge.probe.written(signal.as_str(), 1);
            }
        }
        metrics::counter!("shoal_edge_setpoints_sent_total").increment(1);
        Ok(())
    }

    async fn answered(&mut self, id: &MessageId, result: Answer) {
        let Some(sent) = self.outstanding.take_if(|o| o.id == *id) else {
            let station = lock(&self.outlets).station.id.clone();
            tracing::debug!(station.id = %station, "answer to {id}, which {station} was not asked or not any more");
            return;
        };
        let (outcome, detail) = match result {
            Ok(payload) => outcome(self.version, &sent.effect, &payload)
                .unwrap_or_else(|error| (Outcome::Rejected, format!("unreadable answer: {error}"))),
            Err(error) => (Outcome::Rejected, error.to_string()),
        };
        match (outcome, sent.effect) {
            (_, Effect::Limits) | (Outcome::Accepted, Effect::Signals) => {}
            (Outcome::Accepted, Effect::Installs(installed)) => {
                self.installed.insert(sent.place, installed);
            }
            (Outcome::Accepted, Effect::Updates(until)) => {
                let held = self.installed.remove(&sent.place);
                self.installed
                    .extend(held.map(|held| (sent.place, held.renewed(until))));
            }
            (Outcome::Rejected | Outcome::Unreachable, Effect::Installs(_)) => {
                self.installed.remove(&sent.place);
            }
            (Outcome::Rejected | Outcome::Unreachable, Effect::Updates(_) | Effect::Signals) => {
                // The station may have lost the profile to be updated: install it again.
                self.installed.remove(&sent.place);
                if sent.setpoint.expires_at > self.edge.clock.now() {
                    self.seat.mailbox.put_back(sent.place, sent.setpoint);
                    return;
                }
            }
        }
        acknowledge(
            &self.edge,
            &sent.setpoint,
            outcome,
            &detail,
            Some(sent.sent_at),
        )
        .await;
    }

    /// The outstanding call will not be answered.
    async fn give_up(&mut self, why: &str) {
        if let Some(sent) = self.outstanding.take() {
            self.installed.remove(&sent.place);
            let sent_at = Some(sent.sent_at);
            acknowledge(
                &self.edge,
                &sent.setpoint,
                Outcome::Unreachable,
                why,
                sent_at,
            )
            .await;
        }
    }
}

/// Tells what became of a set-point. `sent_at` is none if it never was on the wire.
pub(crate) async fn acknowledge(
    edge: &Edge,
    setpoint: &Setpoint,
    outcome: Outcome,
    detail: &str,
    sent_at: Option<DateTime<Utc>>,
) {
    let answered_at = edge.clock.now();
    let label = match outcome {
        Outcome::Accepted => "accepted",
        Outcome::Rejected => "rejected",
        Outcome::Unreachable => "unreachable",
    };
    metrics::counter!("shoal_edge_setpoints_answered_total", "outcome" => label).increment(1);
    let acknowledgement = Telemetry::Acknowledged(Acknowledgement {
        setpoint: setpoint.id.clone(),
        evse: setpoint.evse.clone(),
        signal: setpoint.signal.clone(),
        outcome,
        detail: detail.to_owned(),
        sent_at: sent_at.unwrap_or(answered_at),
        answered_at,
    });
    edge.post.tell(&acknowledgement).await;
}
