//! What the platform holds against what log, market and stations know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::metering::{self, Meter};
use fleet::state::Rules;
use fleet::{EvseId, FleetState, MeterInterval, Site, Telemetry};
use market::BidId;
use runtime::Clock;
use serde::Serialize;
use store::{Position, Store, topic};
use tokio::time::Instant;
use units::Power;
use wire::proto::dispatch::v1::ListActivationsRequest;
use wire::proto::dispatch::v1::dispatch_service_client::DispatchServiceClient;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;
use wire::proto::fleet::v1::{EvseState, GetFleetRequest, RegisterRequest};
use wire::proto::telemetry::v1 as telemetry;

use super::market::Market;
use super::platform::Platform;
use crate::failure::Failure;
use crate::scenario::Scenario;
use crate::server::evse;

const LOOK: Duration = Duration::from_millis(500);
const BATCH: usize = 4_096;

/// Energy as metered against the readings on the log.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Energy {
    pub(crate) readings: u64,
    pub(crate) intervals: u64,
    /// Intervals whose joules or covered seconds are not what the log says, missing ones and those too many.
    pub(crate) intervals_different: u64,
    pub(crate) stays: u64,
    /// Outlets whose stay has not the joules that the log says.
    pub(crate) stays_different: u64,
    pub(crate) joules: i64,
}

/// Bids against the market.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Bids {
    pub(crate) published: u64,
    pub(crate) taken: u64,
    pub(crate) missing: u64,
    /// Told again under the same id since the receipt was lost with the process that should have stored it.
    pub(crate) repeated: u64,
    /// Told again although the row said that the market has it.
    pub(crate) sent_again: u64,
}

/// Awards against tables and dispatcher.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Awards {
    pub(crate) told: u64,
    pub(crate) not_stored: u64,
    pub(crate) not_dispatched: u64,
}

/// Registers site and outlets.
pub(crate) async fn register(scenario: &Scenario, platform: &Platform) -> Result<(), Failure> {
    // Twice what all of them can take: a limit that binds moves everybody a little each second.
    #[expect(clippy::cast_precision_loss, reason = "at most a million")]
    let limit = Power::from_kw(22.0 * scenario.fleet.stations as f64);
    let site = Site {
        id: "load"
            .parse()
            .map_err(|_| Failure::Failed("a site".to_owned()))?,
        name: "load".to_owned(),
        import_limit: limit,
        export_limit: limit,
    };
    let evses: Result<Vec<_>, Failure> = (0..scenario.fleet.stations)
        .map(|number| evse(scenario, number))
        .collect();
    let mut fleet = FleetServiceClient::new(platform.fleet());
    // One message would be too large for a large fleet.
    for evses in evses?.chunks(BATCH) {
        let request = RegisterRequest {
            sites: vec![(&site).into()],
            evses: evses.iter().map(Into::into).collect(),
        };
        let registered = fleet.register(request).await;
        registered.map_err(|e| Failure::of("registrations", &e))?;
    }
    Ok(())
}

/// Waits until what is held is what is known, or for `patience`; the last difference is answered.
pub(crate) async fn agreed<T: Clone>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<(T, bool), Failure>,
) -> Result<T, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let (met, agrees) = look().await?;
        if agrees || Instant::now() > deadline {
            return Ok(met);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Folds the readings of the log anew, in one process that nobody kills, and compares.
pub(super) async fn energy(
    store: &Store,
    platform: &Platform,
    patience: Duration,
) -> Result<Energy, Failure> {
    let known = Known::read(store).await?;
    agreed(patience, async || {
        let stored = intervals(store).await?;
        let mut fleet =
            FleetServiceClient::new(platform.fleet()).max_decoding_message_size(usize::MAX);
        let states = fleet
            .get_fleet(GetFleetRequest {})
            .await
            .map_err(|e| Failure::of("state of the fleet", &e))?
            .into_inner()
            .evses;
        let met = known.against(&stored, &states);
        let agrees = met.intervals_different == 0 && met.stays_different == 0;
        Ok((met, agrees))
    })
    .await
}

async fn intervals(store: &Store) -> Result<Vec<MeterInterval>, Failure> {
    let tables = store.tables();
    let all = tables.intervals_between(DateTime::UNIX_EPOCH, DateTime::<Utc>::MAX_UTC);
    all.await.map_err(|e| Failure::of("metered intervals", &e))
}

/// The fleet as the log tells it.
pub(crate) struct Known {
    readings: u64,
    intervals: BTreeMap<(EvseId, DateTime<Utc>), MeterInterval>,
    /// Joules of the stay of each outlet; none where nobody is plugged in or nothing was measured.
    stays: BTreeMap<String, Option<i64>>,
}

impl Known {
    pub(crate) async fn read(store: &Store) -> Result<Self, Failure> {
        let unread = |e| Failure::of("readings on the log", &e);
        let now = Clock::system().now();
        let mut state = FleetState::new(Rules::default());
        let tables = store.tables();
        let evses = tables
            .evses()
            .await
            .map_err(|e| Failure::of("outlets", &e))?;
        for evse in evses {
            state.register(evse, now);
        }
        let mut meters: BTreeMap<EvseId, Meter> = BTreeMap::new();
        let rules = metering::Rules::default();
        let log = store.log();
        let newest = log.newest(topic::READINGS).await.map_err(unread)?;
        let mut reader = log
            .replay(topic::READINGS, &Position::default())
            .map_err(unread)?;
        let mut readings = 0;
        while !reader.position().covers(&newest) {
            for record in reader.next_batch(BATCH).await.map_err(unread)? {
                let message = wire::decode::<telemetry::Telemetry>(&record.payload);
                let told = message
                    .and_then(Telemetry::try_from)
                    .map_err(|e| Failure::of("telemetry on the log", &e))?;
                let effect = state.apply(&told, now);
                let Some(reading) = effect.accepted else {
                    continue;
                };
                readings += 1;
                if let Some(known) = state.get(&reading.evse) {
                    let meter = meters.entry(reading.evse.clone()).or_default();
                    meter.take(&reading, &known.evse, &rules);
                }
            }
        }
        let mut intervals = BTreeMap::new();
        let mut stays = BTreeMap::new();
        for known in state.iter() {
            let evse = &known.evse;
            if let Some(meter) = meters.get_mut(&evse.id) {
                for interval in meter.publish(evse) {
                    intervals.insert((evse.id.clone(), interval.interval.start()), interval);
                }
            }
            let added = known.session.as_ref().and_then(|session| session.added);
            stays.insert(evse.id.to_string(), added.map(|e| e.joules()));
        }
        Ok(Self {
            readings,
            intervals,
            stays,
        })
    }

    /// Intervals of the tables that are not what the log says.
    pub(crate) async fn intervals_different(&self, store: &Store) -> Result<u64, Failure> {
        Ok(self
            .against(&intervals(store).await?, &[])
            .intervals_different)
    }

    fn against(&self, stored: &[MeterInterval], states: &[EvseState]) -> Energy {
        let mut met = Energy {
            readings: self.readings,
            intervals: stored.len() as u64,
            joules: stored.iter().map(|i| i.net().joules()).sum(),
            ..Energy::default()
        };
        let key = |i: &MeterInterval| (i.evse.clone(), i.interval.start());
        let held: BTreeMap<_, _> = stored.iter().map(|i| (key(i), i)).collect();
        let figures = |i: &MeterInterval| (i.import, i.export, i.covered_seconds);
        let keys: BTreeSet<_> = held.keys().chain(self.intervals.keys()).collect();
        for key in keys {
            let held = held.get(key).map(|i| figures(i));
            if held != self.intervals.get(key).map(figures) {
                met.intervals_different += 1;
            }
        }
        for state in states {
            let added = state.session.as_ref().and_then(|s| s.added_joules);
            met.stays += u64::from(state.session.is_some());
            if self.stays.get(&state.evse_id).copied().flatten() != added {
                met.stays_different += 1;
            }
        }
        met
    }
}

/// Waits until every bid is with the market.
pub(super) async fn bids(
    store: &Store,
    market: &Market,
    published: &BTreeSet<BidId>,
    patience: Duration,
) -> Result<Bids, Failure> {
    market.watch(store.tables());
    agreed(patience, async || {
        let taken = market.bids();
        let missing = published
            .iter()
            .filter(|id| !taken.contains_key(&id.to_string()));
        let met = Bids {
            published: published.len() as u64,
            taken: taken.len() as u64,
            missing: missing.count() as u64,
            repeated: taken.values().map(|times| u64::from(times - 1)).sum(),
            sent_again: market.sent_again(),
        };
        let agrees = met.missing == 0;
        Ok((met, agrees))
    })
    .await
}

/// Waits until every award is stored and was dispatched at least once.
pub(super) async fn awards(
    store: &Store,
    platform: &Platform,
    patience: Duration,
) -> Result<Awards, Failure> {
    let told = platform.market.awards();
    let now = Clock::system().now();
    let (from, to) = (now - TimeDelta::days(1), now + TimeDelta::days(1));
    agreed(patience, async || {
        let stored = store.tables().awards_between(from, to).await;
        let stored = stored.map_err(|e| Failure::of("awards", &e))?;
        let stored: BTreeSet<String> = stored.iter().map(|a| a.id.to_string()).collect();
        let mut dispatched = BTreeSet::new();
        let request = ListActivationsRequest {
            from_micros: from.timestamp_micros(),
            to_micros: to.timestamp_micros(),
        };
        for gateway in platform.gateways() {
            let mut client = DispatchServiceClient::new(gateway.clone());
            // One that is just being elected says so.
            if let Ok(answer) = client.list_activations(request).await {
                let all = answer.into_inner().activations;
                dispatched.extend(all.into_iter().filter(|a| a.cycles > 0).map(|a| a.award_id));
            }
        }
        let lacking = |held: &BTreeSet<String>| {
            let lacking = told.iter().filter(|a| !held.contains(&a.id.to_string()));
            lacking.count() as u64
        };
        let met = Awards {
            told: told.len() as u64,
            not_stored: lacking(&stored),
            not_dispatched: lacking(&dispatched),
        };
        let agrees = met.not_stored == 0 && met.not_dispatched == 0;
        Ok((met, agrees))
    })
    .await
}
