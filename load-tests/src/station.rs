//! One station: connects, tells what happens to it one call at a time, obeys, and keeps what was not answered.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::{SinkExt, StreamExt};
use ocpp_kit::rpc::{CallErrorRef, Frame};
use ocpp_kit::types::MessageId;
use ocpp_kit::{RawValue, Version};
use runtime::Clock;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::connect::{Closed, Socket, Target};
use crate::counts::{Counts, count, discount};
use crate::ledger::Ledger;
use crate::life::{Event, Fault, KEPT, Kind, Life, Told, span};
use crate::outlet::Outlet;
use crate::scenario::Scenario;
use crate::speech;

/// Time for TCP, TLS and the upgrade.
const CONNECT: Duration = Duration::from_secs(60);
/// A call without an answer for this long is made again.
const PATIENCE: Duration = Duration::from_secs(30);
/// Wait after the first lost connection; doubles up to [`LONGEST_WAIT`], with a random half on either side.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(16);
/// A station without anything to do looks around this often.
const IDLE: Duration = Duration::from_secs(3_600);

/// What all stations of a process share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) scenario: Scenario,
    pub(crate) target: Target,
    pub(crate) clock: Clock,
    pub(crate) counts: Counts,
    pub(crate) ledger: Option<Ledger>,
    /// Lives begin once this fires: until then stations connect and keep quiet.
    pub(crate) begin: CancellationToken,
    /// No new events; what is in hand is still told.
    pub(crate) finish: CancellationToken,
    /// Goodbye.
    pub(crate) stop: CancellationToken,
    /// Counts storms: a change drops every connection.
    pub(crate) storms: watch::Receiver<u64>,
}

/// A station, its past and what it has in hand.
#[derive(Debug)]
pub(crate) struct Station {
    shared: Arc<Shared>,
    number: usize,
    identity: String,
    version: Version,
    life: Life,
    outlet: Arc<Mutex<Outlet>>,
    in_hand: VecDeque<Told>,
    /// Numbers that the other side gave to stays (1.6).
    names: VecDeque<(u32, i32)>,
    calls: u64,
    attempts: u32,
}

/// The call that waits for its answer.
#[derive(Debug)]
struct Asked {
    id: MessageId,
    since: Instant,
    about: About,
}

#[derive(Debug)]
enum About {
    Boot,
    Status,
    Heartbeat,
    Told(Told),
}

fn lock(outlet: &Mutex<Outlet>) -> MutexGuard<'_, Outlet> {
    outlet.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Station {
    pub(crate) fn new(shared: &Arc<Shared>, number: usize, outlet: Arc<Mutex<Outlet>>) -> Self {
        let scenario = &shared.scenario;
        let version = scenario.version(number);
        let mut life = Life::new(scenario.seed, number, &scenario.behaviour, &scenario.faults);
        life.both_ways &= version == Version::V2_1;
        Self {
            identity: scenario.identity(number),
            version,
            life,
            outlet,
            number,
            in_hand: VecDeque::new(),
            names: VecDeque::new(),
            calls: 0,
            attempts: 0,
            shared: Arc::clone(shared),
        }
    }

    /// Lives from `begin` until the stop.
    pub(crate) async fn live(mut self, begin: Instant) {
        let stop = self.shared.stop.clone();
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep_until(begin) => {}
        }
        loop {
            let open = timeout(CONNECT, Box::pin(self.connect()));
            let opened = tokio::select! {
                () = stop.cancelled() => return,
                opened = open => opened,
            };
            if let Ok(Some(socket)) = opened {
                self.attempts = 0;
                count(&self.shared.counts.connected);
                let ended = Box::pin(self.converse(socket)).await;
                discount(&self.shared.counts.connected);
                if ended.is_break() {
                    return;
                }
                count(&self.shared.counts.disconnects);
            }
            let wait = self.wait();
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    fn wait(&mut self) -> Duration {
        let doubled = FIRST_WAIT.saturating_mul(1 << self.attempts.min(10));
        self.attempts += 1;
        doubled.min(LONGEST_WAIT).mul_f64(self.life.jitter())
    }

    async fn connect(&self) -> Option<Socket> {
        let shared = &self.shared;
        let since = Instant::now();
        let open = shared
            .target
            .open(self.number, &self.identity, self.version);
        match open.await {
            Ok(socket) => {
                count(&shared.counts.connects);
                shared.counts.connect_times.add(since.elapsed());
                Some(socket)
            }
            Err(error) => {
                count(match error {
                    Closed::Refused(_) => &shared.counts.connects_refused,
                    Closed::Io(_) | Closed::Websocket(_) | Closed::Input(_) => {
                        &shared.counts.connects_failed
                    }
                });
                tracing::debug!(station.id = self.identity, %error, "{} did not connect: {error}", self.identity);
                None
            }
        }
    }

    /// Talks until the connection ends; breaks when the station shall end.
    async fn converse(&mut self, mut socket: Socket) -> ControlFlow<()> {
        let shared = Arc::clone(&self.shared);
        let mut storms = shared.storms.clone();
        storms.mark_unchanged();
        let mut asked: Option<Asked> = None;
        let mut first = VecDeque::from([About::Boot, About::Status]);
        let beat = shared.scenario.behaviour.heartbeat_seconds;
        let beat = (beat > 0.0).then(|| crate::scenario::seconds(beat));
        let mut beat_at = beat.map(|period| Instant::now() + period);
        let mut begun = shared.begin.is_cancelled();
        let ended = loop {
            let now = shared.clock.now();
            self.look(now);
            if asked.is_none() {
                if beat_at.is_some_and(|at| at <= Instant::now()) {
                    beat_at = beat.map(|period| Instant::now() + period);
                    first.push_back(About::Heartbeat);
                }
                if let Some(about) = first.pop_front().or_else(|| self.pick(now)) {
                    match self.ask(&mut socket, about).await {
                        Ok(asking) => {
                            asked = asking;
                            continue;
                        }
                        Err(told) => {
                            self.in_hand.extend(told);
                            break ControlFlow::Continue(());
                        }
                    }
                }
            }
            let wake = self.wake(now, asked.as_ref(), beat_at);
            tokio::select! {
                () = shared.stop.cancelled() => break ControlFlow::Break(()),
                () = shared.begin.cancelled(), if !begun => begun = true,
                Ok(()) = storms.changed() => break ControlFlow::Continue(()),
                message = socket.next() => match message {
                    Some(Ok(Message::Text(text))) => {
                        if !self.hear(&mut socket, &text, &mut asked).await {
                            break ControlFlow::Continue(());
                        }
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => break ControlFlow::Continue(()),
                    Some(Ok(_)) => {}
                },
                () = sleep_until(wake) => {}
            }
            if asked
                .as_ref()
                .is_some_and(|a| a.since.elapsed() >= PATIENCE)
            {
                count(&shared.counts.timed_out);
                self.keep(asked.take().as_ref());
            }
        };
        self.keep(asked.as_ref());
        if ended.is_break() {
            // The other side may be gone already.
            let _ = timeout(Duration::from_secs(1), socket.close(None)).await;
        }
        ended
    }

    /// Puts back what was not answered.
    fn keep(&mut self, asked: Option<&Asked>) {
        if let Some(Asked {
            about: About::Told(told),
            ..
        }) = asked
        {
            self.in_hand.push_front(*told);
        }
    }

    /// When to look again if nobody says anything.
    fn wake(&self, now: DateTime<Utc>, asked: Option<&Asked>, beat: Option<Instant>) -> Instant {
        let here = Instant::now();
        let event = (!self.shared.finish.is_cancelled())
            .then(|| self.life.next())
            .flatten();
        let held = asked
            .is_none()
            .then(|| self.in_hand.iter().map(|told| told.not_before).min())
            .flatten();
        let times = [event, held].into_iter().flatten();
        let times = times.map(|at| here + (at - now).to_std().unwrap_or_default());
        let answer = asked.map(|a| a.since + PATIENCE);
        let beat = beat.filter(|_| asked.is_none());
        let all = times.chain(answer).chain(beat);
        // The timer of the runtime counts whole milliseconds.
        all.min()
            .unwrap_or(here + IDLE)
            .max(here + Duration::from_millis(1))
    }

    /// Lives until now and takes in hand what is to be told.
    fn look(&mut self, now: DateTime<Utc>) {
        if self.shared.finish.is_cancelled() || !self.shared.begin.is_cancelled() {
            return;
        }
        self.life.begin(now);
        let shared = &self.shared;
        let (behaviour, faults) = (&shared.scenario.behaviour, &shared.scenario.faults);
        let counts = &shared.counts;
        let in_hand = &mut self.in_hand;
        let mut outlet = lock(&self.outlet);
        let version = self.version;
        let mut starting = false;
        let mut tell = |told: Told| {
            if told.event.kind == Kind::PluggedIn {
                starting = true;
            }
            if told.fault != Fault::None {
                count(&counts.faults_made);
            }
            let copies = match told.fault {
                Fault::Lost => 0,
                Fault::Duplicated => 2,
                Fault::None | Fault::Late | Fault::Swapped => 1,
            };
            for _ in 0..copies {
                count(&counts.in_hand);
                in_hand.push_back(told);
            }
            let full = in_hand.len() > KEPT;
            let oldest = in_hand.iter().position(|t| t.event.kind == Kind::Values);
            if let Some(oldest) = oldest.filter(|_| full) {
                in_hand.remove(oldest);
                discount(&counts.in_hand);
                count(&counts.overflowed);
            }
        };
        self.life
            .advance(now, &mut outlet, behaviour, faults, &mut tell);
        if starting && outlet.is_plugged() {
            outlet.starting = version == Version::V1_6;
        }
    }

    /// The next message that may be told now. Beginning and end of a stay wait for what was before; what goes wrong with
    /// meter values is their own affair.
    fn pick(&mut self, now: DateTime<Utc>) -> Option<About> {
        let ready = |told: &Told| told.not_before <= now;
        let mut index = self.in_hand.iter().position(ready)?;
        let told = self.in_hand[index];
        // Out of order: the next one of the same stay overtakes it.
        if told.fault == Fault::Swapped
            && let Some(next) = self.in_hand.get(index + 1)
            && next.event.kind == Kind::Values
            && next.event.stay == told.event.stay
            && ready(next)
        {
            index += 1;
        } else if told.fault == Fault::Swapped && self.in_hand.len() == index + 1 {
            // Nothing to overtake it yet: it waits until there is, at most a meter period and a bit.
            let period = span(self.shared.scenario.behaviour.meter_seconds * 1.5);
            if now < told.event.meter.at + period && !self.shared.finish.is_cancelled() {
                self.in_hand[index].not_before = now + span(0.5);
                return None;
            }
        }
        self.in_hand.remove(index).map(About::Told)
    }

    /// Writes a call. `Ok(None)` if there is nothing to say; the error carries what was not said because the socket is gone.
    async fn ask(
        &mut self,
        socket: &mut Socket,
        about: About,
    ) -> Result<Option<Asked>, Option<Told>> {
        let now = self.shared.clock.now();
        let plugged = lock(&self.outlet).is_plugged();
        let call = match &about {
            About::Boot => speech::boot(self.version),
            About::Status => speech::status(self.version, plugged, now),
            About::Heartbeat => speech::heartbeat(self.version),
            About::Told(told) => {
                if self.version != Version::V1_6 && told.event.kind == Kind::PluggedIn {
                    lock(&self.outlet).transaction = Some(speech::transaction(&told.event));
                }
                speech::tell(self.version, &told.event, self.name(told.event.stay))
            }
        };
        let Some((action, payload)) = call else {
            // Nothing that this version can say.
            if let About::Told(_) = about {
                discount(&self.shared.counts.in_hand);
            }
            return Ok(None);
        };
        self.calls += 1;
        let id = MessageId::truncating(&self.calls.to_string());
        let frame = Frame::Call {
            id: id.clone(),
            action: Cow::Borrowed(action),
            payload: Cow::Owned(payload),
        };
        let told = match &about {
            About::Told(told) => Some(*told),
            About::Boot | About::Status | About::Heartbeat => None,
        };
        let since = Instant::now();
        if !self.write(socket, &frame).await {
            return Err(told);
        }
        count(&self.shared.counts.sent);
        Ok(Some(Asked { id, since, about }))
    }

    async fn write(&self, socket: &mut Socket, frame: &Frame<'_>) -> bool {
        match frame.to_json(self.version) {
            Ok(text) => socket.send(Message::Text(text.into())).await.is_ok(),
            Err(error) => {
                tracing::error!(station.id = self.identity, %error, "{} cannot say something: {error}", self.identity);
                true
            }
        }
    }

    fn name(&self, stay: u32) -> Option<i32> {
        let known = self.names.iter().find(|(known, _)| *known == stay);
        known.map(|(_, number)| *number)
    }

    /// Takes what came in; false if the socket is gone.
    async fn hear(&mut self, socket: &mut Socket, text: &str, asked: &mut Option<Asked>) -> bool {
        match Frame::parse(text, self.version) {
            Ok(Frame::CallResult { id, payload }) => {
                if let Some(answered) = asked.take_if(|a| a.id == id) {
                    self.answered(&answered, &payload);
                }
                true
            }
            Ok(Frame::CallError { id, error }) => {
                if let Some(refused) = asked.take_if(|a| a.id == id) {
                    self.refused(&refused, &error.to_call_error().to_string());
                }
                true
            }
            Ok(Frame::Call {
                id,
                action,
                payload,
            }) => {
                if self.life.silent {
                    count(&self.shared.counts.left_unanswered);
                    return true;
                }
                let now = self.shared.clock.now();
                self.obey(socket, id, &action, &payload, now).await
            }
            Ok(Frame::CallResultError { .. } | Frame::Send { .. }) => true,
            Err(error) => {
                tracing::warn!(station.id = self.identity, %error, "{} heard what is no frame: {error}", self.identity);
                true
            }
        }
    }

    async fn obey(
        &mut self,
        socket: &mut Socket,
        id: MessageId,
        action: &str,
        payload: &RawValue,
        now: DateTime<Utc>,
    ) -> bool {
        let reaction = self.shared.scenario.behaviour.reaction_seconds;
        let result = {
            let mut outlet = lock(&self.outlet);
            speech::obey(self.version, action, payload, &mut outlet, now, reaction)
        };
        let counts = &self.shared.counts;
        let frame = match result {
            Ok(payload) => {
                let taken = payload.get().contains("\"Accepted\"");
                count(if taken {
                    &counts.setpoints_taken
                } else {
                    &counts.setpoints_refused
                });
                Frame::CallResult {
                    id,
                    payload: Cow::Owned(payload),
                }
            }
            Err(error) => {
                count(&counts.setpoints_refused);
                Frame::CallError {
                    id,
                    error: CallErrorRef {
                        code: error.code.clone(),
                        description: Cow::Owned(error.description),
                        details: Cow::Owned(empty()),
                    },
                }
            }
        };
        self.write(socket, &frame).await
    }

    fn answered(&mut self, answered: &Asked, payload: &RawValue) {
        let counts = &self.shared.counts;
        count(&counts.answered);
        counts.answer_times.add(answered.since.elapsed());
        let About::Told(Told { event, .. }) = answered.about else {
            return;
        };
        discount(&counts.in_hand);
        if event.kind == Kind::Values {
            count(&counts.meter_values);
        }
        self.bookkeep(&event);
        if self.version == Version::V1_6
            && event.kind == Kind::PluggedIn
            && let Some(number) = speech::named(payload)
        {
            self.names.push_back((event.stay, number));
            // Late values of a stay or two before may still be in hand.
            if self.names.len() > 4 {
                self.names.pop_front();
            }
            let mut outlet = lock(&self.outlet);
            outlet.transaction = Some(number.to_string());
            outlet.starting = false;
        }
    }

    fn bookkeep(&self, event: &Event) {
        if let Some(ledger) = &self.shared.ledger
            && let Err(error) = ledger.keep(&self.identity, event)
        {
            tracing::error!(%error, "the ledger cannot be written: {error}");
        }
    }

    fn refused(&self, refused: &Asked, why: &str) {
        count(&self.shared.counts.refused);
        if let About::Told(_) = refused.about {
            discount(&self.shared.counts.in_hand);
        }
        tracing::warn!(
            station.id = self.identity,
            "{} was refused: {why}",
            self.identity
        );
    }
}

/// No details.
fn empty() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new())
        .unwrap_or_else(|_| RawValue::NULL.to_owned())
}
