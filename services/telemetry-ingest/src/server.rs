//! `shoal.fleet.v1.FleetService`.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fleet::{Evse, EvseId, EvseState, MeterInterval, Needs, SessionId, Site, Telemetry};
use futures_util::Stream;
use runtime::Clock;
use store::{Change, Log, NewRecord, StoreError, Tables, topic};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};
use wire::fleet::PastSession;
use wire::proto::fleet::v1 as proto;
use wire::proto::fleet::v1::fleet_service_server::FleetService;
use wire::proto::telemetry::v1 as telemetry;

use crate::fold::state_record;
use crate::live::Live;

/// How long a statement of needs waits for the plug-in it belongs to: the app of a driver may be faster than the station.
const PLUG_IN_WAIT: Duration = Duration::from_secs(3);

/// How often it looks meanwhile.
const PLUG_IN_LOOK: Duration = Duration::from_millis(10);

pub(crate) struct Fleet {
    pub(crate) live: Live,
    pub(crate) clock: Clock,
    pub(crate) log: Log,
    pub(crate) tables: Tables,
    pub(crate) stop: CancellationToken,
}

type Watch = Pin<Box<dyn Stream<Item = Result<proto::EvseState, Status>> + Send>>;

#[tonic::async_trait]
impl FleetService for Fleet {
    type WatchFleetStream = Watch;

    async fn register(
        &self,
        request: Request<proto::RegisterRequest>,
    ) -> Result<Response<proto::RegisterResponse>, Status> {
        let request = request.into_inner();
        let sites: Vec<Site> = all("sites", request.sites)?;
        let evses: Vec<Evse> = all("evses", request.evses)?;
        let rows = Change::default().sites(&sites).evses(&evses);
        self.tables.apply(rows).await.map_err(unavailable)?;
        let now = self.clock.now();
        let registered: Vec<EvseState> = self.live.write(|fold| {
            let states = evses.iter().map(|evse| fold.register(evse.clone(), now));
            states.flatten().collect()
        });
        let records = registered.iter().map(state_record);
        let published = Change::default().records(records);
        self.tables.apply(published).await.map_err(unavailable)?;
        self.live.announce(registered);
        tracing::info!(
            sites = sites.len(),
            evses = evses.len(),
            "registered {} sites and {} EVSEs",
            sites.len(),
            evses.len()
        );
        Ok(Response::new(proto::RegisterResponse {
            sites: size(sites.len()),
            evses: size(evses.len()),
        }))
    }

    async fn get_fleet(
        &self,
        _: Request<proto::GetFleetRequest>,
    ) -> Result<Response<proto::Fleet>, Status> {
        let sites = self.tables.sites().await.map_err(unavailable)?;
        let evses = self.live.all();
        Ok(Response::new(proto::Fleet {
            as_of_micros: self.clock.now().timestamp_micros(),
            evses: evses.iter().map(Into::into).collect(),
            sites: sites.iter().map(Into::into).collect(),
        }))
    }

    async fn watch_fleet(
        &self,
        _: Request<proto::GetFleetRequest>,
    ) -> Result<Response<Watch>, Status> {
        let live = self.live.clone();
        let stop = self.stop.clone();
        let stream = async_stream::stream! {
            let (now, mut changes) = live.watch();
            for state in &now {
                yield Ok(state.into());
            }
            loop {
                let change = tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    change = changes.recv() => change,
                };
                match change {
                    Ok(state) => yield Ok(state.as_ref().into()),
                    // Too slow for the changes: the whole fleet again says the same.
                    Err(RecvError::Lagged(_)) => {
                        for state in &live.all() {
                            yield Ok(state.into());
                        }
                    }
                    Err(RecvError::Closed) => break,
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }

    async fn state_needs(
        &self,
        request: Request<proto::StateNeedsRequest>,
    ) -> Result<Response<proto::StateNeedsResponse>, Status> {
        let request = request.into_inner();
        let evse: EvseId = text("evse_id", &request.evse_id)?;
        let session: SessionId = text("session_id", &request.session_id)?;
        let needs = request
            .needs
            .ok_or_else(|| Status::invalid_argument("needs is missing"))?;
        let needs = Needs::try_from(needs)
            .map_err(|error| Status::invalid_argument(format!("needs.{error}")))?;
        self.in_progress(&evse, &session).await?;
        let event = Telemetry::Needs {
            evse,
            session,
            needs,
            at: self.clock.now(),
        };
        let record = NewRecord {
            topic: topic::READINGS,
            key: event.key().to_owned(),
            payload: wire::encode(&telemetry::Telemetry::from(&event)),
        };
        self.log
            .append(vec![record])
            .await
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(proto::StateNeedsResponse {}))
    }

    async fn list_sessions(
        &self,
        request: Request<proto::ListSessionsRequest>,
    ) -> Result<Response<proto::ListSessionsResponse>, Status> {
        let request = request.into_inner();
        let (from, to) = span(request.from_micros, request.to_micros)?;
        let stays = self.tables.sessions_between(from, to).await;
        let mut stays = stays.map_err(unavailable)?;
        stays.retain(|stay| stay.session.unplugged.is_some());
        stays.sort_by(|a, b| {
            let key = |s: &fleet::SessionState| (s.session.unplugged, s.session.id.clone());
            key(b).cmp(&key(a))
        });
        let evses: BTreeMap<EvseId, Evse> = self
            .live
            .all()
            .into_iter()
            .map(|state| (state.evse.id.clone(), state.evse))
            .collect();
        let sessions = stays
            .into_iter()
            .filter_map(|stay| {
                let evse = evses.get(&stay.session.evse)?;
                Some((&PastSession::new(stay.session, stay.added, evse)).into())
            })
            .collect();
        Ok(Response::new(proto::ListSessionsResponse { sessions }))
    }

    async fn list_intervals(
        &self,
        request: Request<proto::ListIntervalsRequest>,
    ) -> Result<Response<proto::ListIntervalsResponse>, Status> {
        let request = request.into_inner();
        let (from, to) = span(request.from_micros, request.to_micros)?;
        let intervals: Vec<MeterInterval> = self
            .tables
            .intervals_between(from, to)
            .await
            .map_err(unavailable)?;
        Ok(Response::new(proto::ListIntervalsResponse {
            intervals: intervals.iter().map(Into::into).collect(),
        }))
    }
}

impl Fleet {
    /// Waits a moment for `session` to be in progress at `evse`.
    async fn in_progress(&self, evse: &EvseId, session: &SessionId) -> Result<(), Status> {
        let deadline = tokio::time::Instant::now() + PLUG_IN_WAIT;
        loop {
            let state = self
                .live
                .get(evse)
                .ok_or_else(|| Status::not_found(format!("EVSE {evse} is not registered")))?;
            if state.session.is_some_and(|now| now.session.id == *session) {
                return Ok(());
            }
            if tokio::time::Instant::now() >= deadline || self.stop.is_cancelled() {
                return Err(Status::failed_precondition(format!(
                    "session {session} is not in progress at EVSE {evse}"
                )));
            }
            tokio::time::sleep(PLUG_IN_LOOK).await;
        }
    }
}

fn all<M, T>(field: &str, messages: Vec<M>) -> Result<Vec<T>, Status>
where
    T: TryFrom<M, Error = wire::WireError>,
{
    messages
        .into_iter()
        .enumerate()
        .map(|(n, message)| {
            T::try_from(message)
                .map_err(|error| Status::invalid_argument(format!("{field}[{n}].{error}")))
        })
        .collect()
}

fn text<T: std::str::FromStr<Err = units::IdError>>(field: &str, text: &str) -> Result<T, Status> {
    text.parse()
        .map_err(|error| Status::invalid_argument(format!("{field}: {error}")))
}

fn span(from: i64, to: i64) -> Result<(DateTime<Utc>, DateTime<Utc>), Status> {
    let instant = |field: &str, micros| {
        DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| Status::invalid_argument(format!("{field}: {micros} is no instant")))
    };
    let (from, to) = (instant("from_micros", from)?, instant("to_micros", to)?);
    if from < to {
        Ok((from, to))
    } else {
        Err(Status::invalid_argument(format!(
            "to_micros: {to} is not after {from}"
        )))
    }
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the shape that map_err asks for"
)]
fn unavailable(error: StoreError) -> Status {
    tracing::error!(error = %error, "the store refused a call");
    Status::unavailable(error.to_string())
}

fn size(of: usize) -> u32 {
    u32::try_from(of).unwrap_or(u32::MAX)
}
