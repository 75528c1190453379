//! Log and tables: whether they answer, and whether what they hold can be.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, EvseState};
use store::{Options, Position, Store, TablesIn, topic};

use super::{Finding, Verdict};
use crate::cli::CliError;
use crate::serve::config::Config;

/// Records read at once.
const BATCH: usize = 4_096;
/// A stamp further ahead of our clock than this was made by another clock.
const SKEW: TimeDelta = TimeDelta::seconds(30);
/// Power below which a sign says nothing: standby of a charger.
const STANDBY_WATTS: i64 = 300;
/// Set-points older than this may have ended since.
const FRESH: TimeDelta = TimeDelta::minutes(5);
/// Names told of a longer list.
const SHOWN: usize = 5;

pub(super) async fn all(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let kafka = config.log.kafka();
    let place = match config.store.place() {
        Ok(place) => place,
        Err(error) => return vec![Finding::new("database", Verdict::Wrong, error)],
    };
    if let TablesIn::Folder(dir) = &place
        && !dir.join("shoal.db").exists()
    {
        let text = format!(
            "{} holds nothing yet: shoal migrate makes it",
            dir.display()
        );
        return vec![Finding::new("database", Verdict::Warning, text)];
    }
    let brokers = kafka.as_ref().map(|kafka| kafka.brokers.clone());
    let opened = match kafka {
        Some(kafka) => Store::over_kafka(place, kafka, "doctor", Options::default()).await,
        None => Store::open(&config.store.dir).await,
    };
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            let text = CliError::failed(&error).to_string();
            return vec![Finding::new("log", Verdict::Wrong, text)];
        }
    };
    let mut findings = vec![Finding::new(
        "log",
        Verdict::Ok,
        brokers.map_or_else(
            || "kept beside the tables".to_owned(),
            |brokers| format!("{brokers} answer, every topic is there"),
        ),
    )];
    match looked(&store, now).await {
        Ok(more) => findings.extend(more),
        Err(error) => {
            findings.push(Finding::new("database", Verdict::Wrong, error.to_string()));
        }
    }
    findings
}

async fn looked(store: &Store, now: DateTime<Utc>) -> Result<Vec<Finding>, CliError> {
    let evses = store.tables().evses().await;
    let evses = evses.map_err(|e| CliError::failed(&e))?;
    let registered = format!("{} outlets are registered", evses.len());
    let (states, newest) = states(store).await?;
    Ok(vec![
        Finding::new("database", Verdict::Ok, registered),
        stamps(newest, now),
        signs(&states, now),
    ])
}

/// The newest state of every outlet, and the newest stamp of the log.
async fn states(
    store: &Store,
) -> Result<(BTreeMap<EvseId, EvseState>, Option<DateTime<Utc>>), CliError> {
    let failed = |e| CliError::failed(&e);
    let log = store.log();
    let end = log.newest(topic::FLEET_STATE).await.map_err(failed)?;
    let mut reader = log
        .replay(topic::FLEET_STATE, &Position::default())
        .map_err(failed)?;
    let (mut states, mut newest) = (BTreeMap::new(), None);
    while !reader.position().covers(&end) {
        for record in reader.next_batch(BATCH).await.map_err(failed)? {
            newest = newest.max(Some(record.appended_at));
            let state = wire::decode::<wire::proto::fleet::v1::EvseState>(&record.payload)
                .and_then(EvseState::try_from);
            if let Ok(state) = state {
                states.insert(state.evse.id.clone(), state);
            }
        }
    }
    Ok((states, newest))
}

/// Whether the log was written by a clock like ours.
fn stamps(newest: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Finding {
    const WHAT: &str = "clock";
    let Some(newest) = newest else {
        return Finding::new(
            WHAT,
            Verdict::Unknown,
            "the log holds no state to compare with",
        );
    };
    let ahead = newest - now;
    if ahead > SKEW {
        let text = format!(
            "the newest record is stamped {} s ahead of this clock: one of the two is off",
            ahead.num_seconds()
        );
        return Finding::new(WHAT, Verdict::Wrong, text);
    }
    let text = format!(
        "the newest state is {} s old",
        (-ahead).num_seconds().max(0)
    );
    Finding::new(WHAT, Verdict::Ok, text)
}

/// Outlets that give where they were told to take, or the other way round: a meter that is wired or read with the wrong sign.
fn signs(states: &BTreeMap<EvseId, EvseState>, now: DateTime<Utc>) -> Finding {
    const WHAT: &str = "signs";
    let told: Vec<(&EvseState, i64, i64)> = states
        .values()
        .filter_map(|state| {
            let (power, setpoint) = (state.power?, state.setpoint?);
            let counts = power.at > setpoint.at && now - power.at < FRESH;
            counts.then(|| (state, power.power.watts(), setpoint.power.watts()))
        })
        .filter(|(_, power, setpoint)| {
            power.abs() > STANDBY_WATTS && setpoint.abs() > STANDBY_WATTS
        })
        .collect();
    let opposed: Vec<&str> = told
        .iter()
        .filter(|(_, power, setpoint)| power.signum() != setpoint.signum())
        .map(|(state, ..)| state.evse.id.as_str())
        .collect();
    if told.is_empty() {
        return Finding::new(
            WHAT,
            Verdict::Unknown,
            "no outlet follows a set-point right now",
        );
    }
    if opposed.is_empty() {
        let text = format!("{} outlets flow the way they are told", told.len());
        return Finding::new(WHAT, Verdict::Ok, text);
    }
    let shown = opposed.iter().take(SHOWN).copied().collect::<Vec<_>>();
    let text = format!(
        "{} of {} outlets flow against their set-point, first {}: is the meter wired or configured the wrong way round?",
        opposed.len(),
        told.len(),
        shown.join(", ")
    );
    Finding::new(WHAT, Verdict::Wrong, text)
}
