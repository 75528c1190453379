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
use ocpp_kit::decode::{DecodeError, DecodeOptions, decode_payload};
use ocpp_kit::rpc::Frame;
use ocpp_kit::types::MessageId;
use ocpp_kit::{RawValue, Version, v1_6, v2_1};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::answer::Answer;
use crate::connection::{Edge, Ended, Heard, lock};
use crate::instant::life_seconds;
use crate::mailbox::Seat;
use crate::station::Outlets;
use crate::{v16, v21, v201};

/// Pings without any sign of life before a connection is given up.
const MISSED_PINGS: u32 = 3;

/// Action of the fast path of 2.1.
const UPDATE: &str = "UpdateDynamicSchedule";

/// What the reader hands over.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame to write, and the outlet whose transaction it names.
    Frame { text: String, names: Option<i32> },
    /// The station answered a call of ours.
    Answered { id: MessageId, result: Answer },
}

/// A profile that a 2.1 station holds: updates are one number while transaction and life stay the same.
#[derive(Debug, PartialEq, Eq)]
struct Installed {
    transaction: String,
    life_seconds: i32,
}

#[derive(Debug)]
struct Outstanding {
    id: MessageId,
    place: i32,
    setpoint: Setpoint,
    sent_at: DateTime<Utc>,
    deadline: Instant,
    /// The call updates a profile.
    update: bool,
    /// The profile this call installs, if it can be updated later.
    installs: Option<Installed>,
}

/// A call ready to be written.
struct Call {
    action: &'static str,
    payload: Box<RawValue>,
    installs: Option<Installed>,
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
            Some(transaction) => self.call(place, &transaction, &setpoint, now),
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

    /// The call that says a set-point in the station's version.
    fn call(
        &self,
        place: i32,
        transaction: &str,
        setpoint: &Setpoint,
        now: DateTime<Utc>,
    ) -> Result<Call, String> {
        let cannot = || {
            format!(
                "{} asks for discharge, which OCPP {} cannot say",
                setpoint.power, self.version
            )
        };
        match self.version {
            Version::V1_6 => {
                let profile = v16::profile(place, transaction, setpoint, now);
                Call::new("SetChargingProfile", &profile.ok_or_else(cannot)?, None)
            }
            Version::V2_0_1 => {
                let profile = v201::profile(place, transaction, setpoint, now);
                Call::new("SetChargingProfile", &profile.ok_or_else(cannot)?, None)
            }
            Version::V2_1 => self.call21(place, transaction, setpoint),
            other => Err(format!("OCPP {other} is not spoken here")),
        }
    }

    /// A dynamic profile, or one number once it is installed.
    fn call21(&self, place: i32, transaction: &str, setpoint: &Setpoint) -> Result<Call, String> {
        let wanted = Installed {
            transaction: transaction.to_owned(),
            life_seconds: life_seconds(setpoint.expires_at, setpoint.issued_at),
        };
        if self.installed.get(&place) == Some(&wanted) {
            Call::new(UPDATE, &v21::update(place, setpoint), None)
        } else {
            let profile = v21::profile(place, transaction, setpoint);
            Call::new("SetChargingProfile", &profile, Some(wanted))
        }
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
        self.outstanding = Some(Outstanding {
            id,
            place,
            setpoint: setpoint.clone(),
            sent_at: self.edge.clock.now(),
            deadline: Instant::now() + self.edge.config.call_timeout(),
            update: call.action == UPDATE,
            installs: call.installs,
        });
        lock(&self.outlets).tell(place, setpoint);
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
            Ok(payload) => outcome(self.version, sent.update, &payload)
                .unwrap_or_else(|error| (Outcome::Rejected, format!("unreadable answer: {error}"))),
            Err(error) => (Outcome::Rejected, error.to_string()),
        };
        if self.version == Version::V2_1 {
            match (outcome, sent.installs) {
                (Outcome::Accepted, Some(installed)) => {
                    self.installed.insert(sent.place, installed);
                }
                (Outcome::Accepted, None) => {}
                (Outcome::Rejected | Outcome::Unreachable, installs) => {
                    self.installed.remove(&sent.place);
                    // The station may have lost the profile to be updated: install it again.
                    if installs.is_none() && sent.setpoint.expires_at > self.edge.clock.now() {
                        self.seat.mailbox.put_back(sent.place, sent.setpoint);
                        return;
                    }
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

impl Call {
    fn new(
        action: &'static str,
        request: &impl Serialize,
        installs: Option<Installed>,
    ) -> Result<Self, String> {
        let payload = serde_json::value::to_raw_value(request).map_err(|e| e.to_string())?;
        Ok(Self {
            action,
            payload,
            installs,
        })
    }
}

/// What an answer to a profile (or to an update of one) says.
fn outcome(
    version: Version,
    update: bool,
    payload: &RawValue,
) -> Result<(Outcome, String), DecodeError> {
    let options = DecodeOptions::strict();
    let (accepted, detail) = if version == Version::V1_6 {
        let answer: v1_6::SetChargingProfileResponse = decode_payload(payload, &options)?;
        let accepted = answer.status == v1_6::ChargingProfileStatus::Accepted;
        (accepted, answer.status.as_str().to_owned())
    } else {
        let (status, info) = if update {
            let answer: v2_1::UpdateDynamicScheduleResponse = decode_payload(payload, &options)?;
            (answer.status, answer.status_info)
        } else {
            let answer: v2_1::SetChargingProfileResponse = decode_payload(payload, &options)?;
            (answer.status, answer.status_info)
        };
        let reason = info.map_or_else(|| status.as_str().to_owned(), |i| i.reason_code);
        (status == v2_1::ChargingProfileStatus::Accepted, reason)
    };
    Ok(if accepted {
        (Outcome::Accepted, String::new())
    } else {
        (Outcome::Rejected, format!("the station answered {detail}"))
    })
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
