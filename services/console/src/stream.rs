//! Server-sent events: the newest view to every browser, never a queue of old ones.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::App;
use crate::problem::Problem;
use crate::view::fleet::{Filter, FleetView, fleet};
use crate::view::live::{Live, live};
use crate::view::trace::{Point, points};

/// Shortest real time between two views: five a second is what an eye follows.
const SHORTEST: Duration = Duration::from_millis(200);

/// Longest real time between two views: ages and staleness move on without news.
const LONGEST: Duration = Duration::from_secs(1);

/// Shortest real time between two lists of charge points.
const FLEET_EVERY: Duration = Duration::from_secs(1);

/// Events a browser may be behind before newer ones wait for it.
const BEHIND: usize = 4;

/// Real time a browser may take to read before it is dropped; it connects again by itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// Newest view, made once for all browsers; `None` before the first.
pub(crate) type Published = watch::Sender<Option<Arc<Live>>>;

/// The view stream and the number of browsers that watch it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Watchers {
    newest: Published,
    count: Arc<AtomicUsize>,
}

/// One place among the watchers, given back when dropped.
struct Seat(Arc<AtomicUsize>);

impl Watchers {
    fn seat(&self, most: usize) -> Option<Seat> {
        let taken = self.count.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(self.count.clone());
        (taken < most).then_some(seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What the `live` event carries.
#[derive(Debug, Serialize)]
struct LiveEvent<'a> {
    #[serde(flatten)]
    live: &'a Live,
    /// True if `points` is the whole trace, false if it goes on from the one before.
    whole: bool,
    /// Length of the trace.
    trace_seconds: i64,
    points: Vec<Point>,
}

impl App {
    /// The present view, whole.
    pub(crate) fn live(&self) -> Live {
        let lens = self.lens();
        let state = self.shared.read();
        let counted = fleet(
            &state,
            &Filter {
                limit: Some(0),
                ..Filter::default()
            },
            &lens,
        );
        live(&state, &counted, self.config.zone.name(), &lens)
    }

    pub(crate) fn fleet_view(&self, filter: &Filter) -> FleetView {
        fleet(&self.shared.read(), filter, &self.lens())
    }

    fn live_event(&self, live: &Live, last: &mut Option<u64>) -> Option<Event> {
        let points = points(&self.shared.read(), *last);
        let event = LiveEvent {
            live,
            whole: last.is_none(),
            trace_seconds: self.config.trace(self.clock.speed()).num_seconds(),
            points,
        };
        let made = Event::default().event("live").json_data(&event).ok();
        *last = event.points.last().map(|p| p.number).or(*last);
        made
    }
}

/// Makes a view when something changed, at most every [`SHORTEST`] and at least every [`LONGEST`].
pub(crate) fn spawn_publisher(app: &App) {
    let app = app.clone();
    let mut changes = app.shared.changes();
    tokio::spawn(async move {
        loop {
            app.watchers.newest.send_replace(Some(Arc::new(app.live())));
            tokio::select! {
                () = app.stop.cancelled() => return,
                () = tokio::time::sleep(SHORTEST) => {}
            }
            tokio::select! {
                () = app.stop.cancelled() => return,
                changed = changes.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LONGEST - SHORTEST) => {}
            }
        }
    });
}

/// `GET /api/v1/events`
pub(crate) async fn events(
    State(app): State<App>,
    filter: Result<Query<Filter>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let Query(filter) = filter.map_err(|e| Problem::bad_request(e.body_text()))?;
    let Some(seat) = app.watchers.seat(app.config.most_watchers) else {
        let most = app.config.most_watchers;
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{most} browsers watch already"),
        ));
    };
    let (send, receive) = mpsc::channel(BEHIND);
    tokio::spawn(watch_for(app, filter, send, seat));
    let stream = ReceiverStream::new(receive).map(Ok::<Event, Infallible>);
    Ok(Sse::new(stream)
        .keep_alive(KeepAlive::default())
        .into_response())
}

/// Sends to one browser until it leaves, is too slow, or the console stops.
async fn watch_for(app: App, filter: Filter, send: mpsc::Sender<Event>, seat: Seat) {
    let _seat = seat;
    let mut newest = app.watchers.newest.subscribe();
    newest.mark_changed();
    let mut last = None;
    let mut fleet_at: Option<tokio::time::Instant> = None;
    loop {
        tokio::select! {
            () = app.stop.cancelled() => return,
            () = send.closed() => return,
            changed = newest.changed() => if changed.is_err() { return },
        }
        let Some(live) = newest.borrow_and_update().clone() else {
            continue;
        };
        let mut batch = vec![app.live_event(&live, &mut last)];
        if fleet_at.is_none_or(|at| at.elapsed() >= FLEET_EVERY) {
            fleet_at = Some(tokio::time::Instant::now());
            batch.push(
                Event::default()
                    .event("fleet")
                    .json_data(app.fleet_view(&filter))
                    .ok(),
            );
        }
        for event in batch.into_iter().flatten() {
            if send.send_timeout(event, PATIENCE).await.is_err() {
                return;
            }
        }
    }
}
