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
use ocpp_kit::rpc::Frame;
use ocpp_kit::types::MessageId;
use ocpp_kit::{RawValue, Version};
use runtime::trace;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use crate::answer::Answer;
use crate::capability::{Capabilities, Learner, Question};
use crate::connection::{Edge, Ended, Heard, lock};
use crate::inquiry::Inquiry;
use crate::mailbox::Seat;
use crate::orders::{Call, Effect, Installed, Target, outcome};
use crate::outbox;
use crate::station::{Outlets, Then};

/// Pings without any sign of life before a connection is given up.
const MISSED_PINGS: u32 = 3;

/// What the reader hands over.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// A frame to write, and what holds once it is written.
    Frame { text: String, then: Then },
    /// The station answered a call of ours. Boxed: queues keep room for the largest of these, and stations are many.
    Answered(Box<Answered>),
}

/// The answer to a call.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) id: MessageId,
    pub(crate) result: Answer,
    /// If the reader took it in as an answer about streams: whether the station does what it was asked.
    pub(crate) streams: Option<Result<bool, String>>,
}

#[derive(Debug)]
struct Outstanding {
    id: MessageId,
    asked: Instant,
    about: About,
}

/// What the outstanding call is about.
#[derive(Debug)]
enum About {
    Setpoint(Box<Told>),
    Question(Question),
}

/// A set-point on its way.
#[derive(Debug)]
struct Told {
    place: i32,
    setpoint: Setpoint,
    sent_at: DateTime<Utc>,
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
    inquiry: Inquiry,
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
            inquiry: Inquiry::new(version),
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
            } else if let Some(question) = self.question() {
                self.ask(question).await
            } else {
                let patience = edge.config.call_timeout();
                let deadline = self.outstanding.as_ref().map(|o| o.asked + patience);
                tokio::select! {
                    biased;
                    () = seat.hang_up.cancelled() => {
                        Err(Ended::new(close_code::POLICY, "a newer connection of this station took over"))
                    }
                    () = edge.stop.cancelled() => {
                        Err(Ended::new(close_code::AWAY, "the service is stopping"))
                    }
                    Some(outgoing) = waiting.recv() => match outgoing {
                        Outgoing::Frame { text, then } => self.reply(text, then).await,
                        Outgoing::Answered(answered) => {
                            self.answered(*answered).await;
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
        let waiting = self.seat.mailbox.close();
        let station = lock(&self.outlets).station.id.clone();
        // Elsewhere they may be in hand already; here a newer connection knows nothing of them.
        if self.edge.config.replicas && !self.edge.switchboard.took_over(&station, &self.seat) {
            let outstanding = self.outstanding.take().map(|call| call.about);
            if let Some(About::Setpoint(told)) = outstanding {
                self.edge.absent.release(&told.setpoint);
            }
            for setpoint in waiting {
                self.edge.absent.release(&setpoint);
            }
            return;
        }
        self.give_up("the connection ended before the station answered")
            .await;
        for setpoint in waiting {
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

    async fn reply(&mut self, text: String, then: Then) -> Result<(), Ended> {
        self.write(Message::Text(text.into())).await?;
        if then != Then::default() {
            lock(&self.outlets).written(then);
        }
        self.inquiry.spoken();
        Ok(())
    }

    /// What the station has to be asked now, beside set-points.
    fn question(&self) -> Option<Question> {
        if self.outstanding.is_some() {
            return None;
        }
        let (config, now) = (&self.edge.config, self.edge.clock.now());
        let outlets = lock(&self.outlets);
        if outlets.signed.is_some() {
            return Some(Question::Certificate);
        }
        let monitors = &outlets.streams.monitors;
        self.inquiry.next(config, &outlets.known, monitors, now)
    }

    async fn ask(&mut self, question: Question) -> Result<(), Ended> {
        self.inquiry.asked(question);
        let call = {
            let mut outlets = lock(&self.outlets);
            let call = question.call(self.version, &outlets, &self.edge.config);
            if question == Question::Certificate {
                outlets.signed = None;
            }
            call
        };
        let written = call.and_then(|(action, payload)| self.frame(action, payload));
        match written {
            Ok((id, text)) => {
                if question.is_about_streams() {
                    lock(&self.outlets).streams.monitors.awaits(&id, question);
                }
                self.outstanding = Some(Outstanding {
                    id,
                    asked: Instant::now(),
                    about: About::Question(question),
                });
                self.write(Message::Text(text.into())).await
            }
            Err(error) => {
                self.inquiry.refused(question);
                tracing::error!("{question:?} cannot be written: {error}");
                Ok(())
            }
        }
    }

    /// A call under a new identifier.
    fn frame(
        &mut self,
        action: &'static str,
        payload: Box<RawValue>,
    ) -> Result<(MessageId, String), String> {
        self.calls += 1;
        let id = MessageId::truncating(&format!("sp-{}", self.calls));
        let frame = Frame::Call {
            id: id.clone(),
            action: Cow::Borrowed(action),
            payload: Cow::Owned(payload),
        };
        let text = frame.to_json(self.version).map_err(|e| e.to_string())?;
        Ok((id, text))
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
        self.look_up(place).await;
        let (transaction, level, rate, setpoint) = {
            let outlets = lock(&self.outlets);
            let stay = outlets.stay(place);
            let transaction = stay.map(|s| s.transaction.clone());
            let rate = outlets.rate(self.version, place, &self.edge.config.supply);
            let known = &outlets.known;
            (transaction, known.stack_level, rate, known.fitted(setpoint))
        };
        let call = match transaction {
            None => Err("no vehicle is plugged in".to_owned()),
            Some(transaction) => {
                let held = self.installed.get(&place);
                // What the version cannot say is the more telling reason.
                let target = Target::new(self.version, place, &transaction, level);
                let call =
                    rate.and_then(|rate| Call::saying(&setpoint, target.rated(rate), held, now));
                call.and_then(|call| self.permit(place, &setpoint).map(|()| call))
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

    /// A stay that began at another edge is looked up before it is said that nobody is there.
    async fn look_up(&self, place: i32) {
        if !self.edge.config.replicas || lock(&self.outlets).stay(place).is_some() {
            return;
        }
        if let Err(error) = self.edge.registry.recall(&self.outlets).await {
            tracing::warn!(%error, "stays in progress cannot be looked up: {error}");
        }
    }

    async fn send(&mut self, place: i32, setpoint: Setpoint, call: Call) -> Result<(), Ended> {
        let (id, text) = match self.frame(call.action, call.payload) {
            Ok(framed) => framed,
            Err(error) => {
                let detail = format!("the call cannot be written: {error}");
                acknowledge(&self.edge, &setpoint, Outcome::Rejected, &detail, None).await;
                return Ok(());
            }
        };
        // A signal leaves the value of the profile as it is.
        if call.effect != Effect::Signals {
            lock(&self.outlets).tell(place, setpoint.clone());
        }
        self.inquiry.told(setpoint.expires_at);
        let signal = setpoint.signal.clone();
        self.outstanding = Some(Outstanding {
            id,
            asked: Instant::now(),
            about: About::Setpoint(Box::new(Told {
                place,
                setpoint,
                sent_at: self.edge.clock.now(),
                effect: call.effect,
            })),
        });
        self.write(Message::Text(text.into())).await?;
        if let Some(Outstanding {
            about: About::Setpoint(told),
            ..
        }) = &mut self.outstanding
        {
            told.sent_at = self.edge.clock.now();
        }
        if let Some(signal) = signal {
            self.edge.probe.written(signal.as_str(), 1);
        }
        metrics::counter!("shoal_edge_setpoints_sent_total").increment(1);
        Ok(())
    }

    async fn answered(&mut self, answered: Answered) {
        let Answered {
            id,
            result,
            streams,
        } = answered;
        let Some(call) = self.outstanding.take_if(|o| o.id == id) else {
            return self.unasked(&id, &result).await;
        };
        let took = call.asked.elapsed();
        metrics::histogram!("shoal_edge_answer_seconds").record(took.as_secs_f64());
        lock(&self.outlets).known.answered = Some(took);
        match call.about {
            About::Setpoint(told) => {
                if let Some(hop) = self.edge.traced.met(told.setpoint.id.as_str(), |_| true) {
                    trace_answer(&hop, &told.setpoint, took, &result);
                }
                self.setpoint_answered(*told, result).await;
            }
            About::Question(question) => self.question_answered(question, result, streams),
        }
    }

    /// An answer that nobody waits for, or not any more: OCPP answers it with nothing.
    async fn unasked(&self, id: &MessageId, result: &Answer) {
        let station = lock(&self.outlets).station.id.clone();
        metrics::counter!("shoal_edge_unasked_answers_total").increment(1);
        let reason = format!("an answer to {id}, which {station} was not asked or not any more");
        tracing::debug!(station.id = %station, "{reason}");
        let original = match result {
            Ok(payload) => payload.get().to_owned(),
            Err(error) => error.to_string(),
        };
        let now = self.edge.clock.now();
        let kept = outbox::quarantined(station.as_str(), &reason, original.as_bytes(), now);
        if self.edge.post.outbox.send(vec![kept]).await.is_err() {
            tracing::warn!(station.id = %station, "an unasked answer of {station} is not kept: the service is stopping");
        }
    }

    /// What the station said of itself replaces what it said before. What it answered about streams was taken in when it was
    /// heard, as `streams` says.
    fn question_answered(
        &mut self,
        question: Question,
        result: Answer,
        streams: Option<Result<bool, String>>,
    ) {
        let mut guard = lock(&self.outlets);
        let outlets = &mut *guard;
        let mut known = match question {
            Question::Capabilities => Capabilities {
                answered: outlets.known.answered,
                ..Capabilities::default()
            },
            Question::Sample(_)
            | Question::Supply
            | Question::Certificate
            | Question::Stream
            | Question::Unstream
            | Question::Monitors => outlets.known.clone(),
        };
        let learner = Learner {
            known: &mut known,
            monitors: &mut outlets.streams.monitors,
            supplies: &mut outlets.supplies,
        };
        let done = streams.unwrap_or_else(|| {
            let payload = result.map_err(|error| error.to_string())?;
            let done = question.answered(self.version, &payload, learner);
            done.map_err(|error| format!("unreadable answer: {error}"))
        });
        outlets.known = known;
        let station = &outlets.station.id;
        match done {
            Ok(true) => {
                let known = &outlets.known;
                tracing::debug!(station.id = %station, "{station} answered {question:?}: {known:?}");
            }
            Ok(false) | Err(_) => {
                metrics::counter!("shoal_edge_questions_refused_total").increment(1);
                let why = done.err().unwrap_or_default();
                tracing::debug!(station.id = %station, "{station} refused {question:?}: {why}");
                self.inquiry.refused(question);
            }
        }
    }

    async fn setpoint_answered(&mut self, sent: Told, result: Answer) {
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
                    let late = self.seat.mailbox.put_back(sent.place, sent.setpoint);
                    if let Some(late) = late {
                        let sent_at = Some(sent.sent_at);
                        acknowledge(&self.edge, &late, outcome, REPLACED, sent_at).await;
                    }
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
        let told = match self.outstanding.take().map(|call| call.about) {
            Some(About::Setpoint(told)) => told,
            Some(About::Question(_)) => return self.inquiry.unanswered(),
            None => return,
        };
        self.installed.remove(&told.place);
        let sent_at = Some(told.sent_at);
        acknowledge(
            &self.edge,
            &told.setpoint,
            Outcome::Unreachable,
            why,
            sent_at,
        )
        .await;
    }
}

/// From the call on the wire to the station's answer, as a hop of the signal's trace.
fn trace_answer(
    caused_by: &trace::Context,
    setpoint: &Setpoint,
    took: std::time::Duration,
    answer: &Answer,
) {
    let mut hop = trace::Span::lasted(caused_by, "station.setpoint", took)
        .with("evse.id", setpoint.evse.to_string())
        .with("power_watts", setpoint.power.watts());
    if let Err(error) = answer {
        hop.failed(error.to_string());
    }
}

/// Why a set-point is not told any more.
pub(crate) const REPLACED: &str = "a newer set-point came before it could be sent";

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
