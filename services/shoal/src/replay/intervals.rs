//! Metered intervals, folded again from the readings.
//!
//! How many versions an interval has depends on when its figures were written down; what each version says does not. So each
//! must be what the meters showed at some moment, one after the other, and the last what they show after the last reading that
//! was handled.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use fleet::metering::{self, INTERVAL, Meter};
use fleet::{Evse, EvseId, FleetState, MeterInterval, Telemetry};
use store::{Log, Position, Record, Tables, topic};
use units::Interval;
use wire::proto::telemetry::v1 as proto;

use super::Failed;
use super::found::{Kind, parting};
use super::topics::Topics;

/// What an interval is known by.
type Key = (EvseId, DateTime<Utc>);

/// Compares the intervals that began in `day`.
pub(super) async fn replay(log: &Log, tables: &Tables, day: Interval) -> Result<Kind, Failed> {
    let mut kind = Kind::default();
    let logged = logged(log, day, &mut kind).await?;
    let evses = tables.evses().await?;
    let handled = log
        .committed(topic::READINGS, shoal_telemetry_ingest::GROUP)
        .await?;
    let mut fold = Fold::new(&evses, refused(log).await?);
    let mut readings = Topics::open(log, topic::READINGS, &Position::default()).await?;
    loop {
        let batch = readings.next().await?;
        if batch.is_empty() {
            break;
        }
        let handled = |record: &&Record| record.offset <= handled.of(record.partition);
        batch.iter().filter(handled).for_each(|r| fold.take(r));
    }
    for (key, records) in logged {
        fold.compare(key, &records, &mut kind);
    }
    for ((evse, start), seen) in &fold.shown {
        if day.contains(*start) && !seen.logged && !fold.began_late(*start) {
            kind.differs(format!("{evse} {start}"), "is not on the log");
        }
    }
    Ok(kind)
}

async fn logged(
    log: &Log,
    day: Interval,
    kind: &mut Kind,
) -> Result<BTreeMap<Key, Vec<Record>>, Failed> {
    let mut logged: BTreeMap<Key, Vec<Record>> = BTreeMap::new();
    let all = Topics::open(log, topic::METER_INTERVALS, &Position::default()).await?;
    for record in all.all().await? {
        let interval =
            wire::decode::<proto::MeterInterval>(&record.payload).and_then(MeterInterval::try_from);
        match interval {
            Ok(interval) if day.contains(interval.interval.start()) => {
                let key = (interval.evse, interval.interval.start());
                logged.entry(key).or_default().push(record);
            }
            Ok(_) => {}
            Err(error) => kind.differs(format!("record {}", record.offset), error.to_string()),
        }
    }
    Ok(logged)
}

/// Readings that were refused because of the time at which they came, which only quarantine tells.
async fn refused(log: &Log) -> Result<BTreeSet<(u32, u64)>, Failed> {
    let all = Topics::open(log, topic::QUARANTINE, &Position::default()).await?;
    let place = |record: &Record| {
        let refused = wire::decode::<proto::Quarantined>(&record.payload).ok()?;
        let rest = refused.reason.strip_prefix(topic::READINGS.name())?;
        let (place, why) = rest.trim_start().split_once(": ")?;
        let (partition, offset) = place.split_once(':')?;
        let untimely = why.contains("the station's clock is wrong");
        let place = (partition.parse().ok()?, offset.parse().ok()?);
        untimely.then_some(place)
    };
    Ok(all.all().await?.iter().filter_map(place).collect())
}

/// Figures that the meter of an interval showed, one after the other.
#[derive(Default)]
struct Shown {
    figures: Vec<MeterInterval>,
    logged: bool,
}

struct Fold {
    state: FleetState,
    meters: BTreeMap<EvseId, Meter>,
    rules: metering::Rules,
    refused: BTreeSet<(u32, u64)>,
    shown: BTreeMap<Key, Shown>,
    /// Instant of the first reading that is left, if those before it are gone.
    first: Option<DateTime<Utc>>,
    begun: bool,
}

impl Fold {
    fn new(evses: &[Evse], refused: BTreeSet<(u32, u64)>) -> Self {
        let mut state = FleetState::new(fleet::state::Rules::default());
        for evse in evses {
            state.register(evse.clone(), DateTime::<Utc>::MIN_UTC);
        }
        Self {
            state,
            meters: BTreeMap::new(),
            rules: metering::Rules::default(),
            refused,
            shown: BTreeMap::new(),
            first: None,
            begun: false,
        }
    }

    fn take(&mut self, record: &Record) {
        let event = wire::decode::<proto::Telemetry>(&record.payload).and_then(Telemetry::try_from);
        let Ok(event) = event else { return };
        if !std::mem::replace(&mut self.begun, true) && record.offset > 1 {
            self.first = Some(event.at());
        }
        if self.refused.contains(&(record.partition, record.offset)) {
            return;
        }
        // The time of receipt only serves to refuse, and what it refused is known.
        let effect = self.state.apply(&event, event.at());
        let Some(reading) = effect.accepted else {
            return;
        };
        let Some(evse) = self.state.get(&reading.evse).map(|state| &state.evse) else {
            return;
        };
        let meter = self.meters.entry(reading.evse.clone()).or_default();
        meter.take(&reading, evse, &self.rules);
        for interval in meter.publish(evse) {
            let key = (interval.evse.clone(), interval.interval.start());
            self.shown.entry(key).or_default().figures.push(interval);
        }
    }

    /// Whether readings of that time may be gone.
    fn began_late(&self, start: DateTime<Utc>) -> bool {
        self.first
            .is_some_and(|first| start < first + INTERVAL + TimeDelta::hours(1))
    }

    fn compare(&mut self, (evse, start): Key, records: &[Record], kind: &mut Kind) {
        let id = format!("{evse} {start}");
        if self.began_late(start) {
            let why = "readings of that time are no longer kept";
            return kind.unchecked(records.len() as u64, why);
        }
        let shown = self.shown.entry((evse, start)).or_default();
        shown.logged = true;
        let mut ahead = shown.figures.iter();
        let (mut version, mut last) = (0, None);
        for record in records {
            let Ok(logged) = wire::decode::<proto::MeterInterval>(&record.payload) else {
                continue;
            };
            // What was appended twice says the same twice.
            if last.as_ref() == Some(&record.payload) {
                continue;
            }
            last = Some(record.payload.clone());
            version += 1;
            let again = |figures: &MeterInterval| {
                let figures = MeterInterval {
                    version,
                    ..figures.clone()
                };
                proto::MeterInterval::from(&figures)
            };
            if ahead.any(|figures| wire::encode(&again(figures)) == record.payload) {
                kind.found_again += 1;
            } else {
                let what = shown.figures.last().map_or_else(
                    || "no reading gives it".to_owned(),
                    |figures| parting(&logged, &again(figures)),
                );
                return kind.differs(id, what);
            }
        }
        if let Some(newer) = ahead.next_back() {
            let newer = proto::MeterInterval::from(newer);
            kind.differs(id, format!("readings that were handled give {newer:?}"));
        }
    }
}
