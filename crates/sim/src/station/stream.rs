//! Periodic event streams of a 2.1 station: registers of its meter, sampled often and told in batches.

use std::collections::BTreeMap;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    ClearMonitoringResult, ClearMonitoringStatus, ClearVariableMonitoringRequest,
    ClearVariableMonitoringResponse, ConstantStreamData, GenericStatus, Monitor,
    NotifyPeriodicEventStreamRequest, OpenPeriodicEventStreamRequest, PeriodicEventStreamParams,
    SetMonitoringData, SetMonitoringResult, SetMonitoringStatus, SetVariableMonitoringRequest,
    SetVariableMonitoringResponse, StreamDataElement,
};
use units::Energy;

use super::outlet::Meter;
use super::run::{Mouth, Station, ocpp_time};
use super::speak2::{PLACE, watt_hours};

/// Streams that a station can have open at a time, as it says of itself.
pub(super) const STREAMS: usize = 2;

/// What a monitor reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Register {
    Import,
    Export,
}

impl Register {
    fn of(self, meter: &Meter) -> Energy {
        match self {
            Self::Import => meter.import,
            Self::Export => meter.export,
        }
    }
}

/// A monitor of a register, as it was told.
#[derive(Debug, Clone, Copy)]
struct Watch {
    register: Register,
    /// Time between samples.
    every: TimeDelta,
    /// Time between messages.
    batch: TimeDelta,
}

/// Monitors of a station, by number.
#[derive(Debug, Default)]
pub(super) struct Monitors {
    watched: BTreeMap<i32, Watch>,
    given: i32,
}

impl Monitors {
    /// Sets, or replaces, monitors.
    pub(super) fn set(
        &mut self,
        asked: SetVariableMonitoringRequest,
    ) -> SetVariableMonitoringResponse {
        let each = asked.set_monitoring_data.into_iter();
        SetVariableMonitoringResponse::new(each.map(|one| self.set_one(one)).collect())
    }

    fn set_one(&mut self, asked: SetMonitoringData) -> SetMonitoringResult {
        let watch = watch(&asked);
        let register = watch.as_ref().ok().map(|asked| asked.register);
        let same = |w: &Watch| register == Some(w.register);
        let known = asked.id.is_none() && self.watched.values().any(same);
        let full = asked.id.is_none() && self.watched.len() == STREAMS;
        let gone = asked.id.is_some_and(|id| !self.watched.contains_key(&id));
        let (status, id) = match watch {
            Ok(_) if known => (SetMonitoringStatus::Duplicate, None),
            Ok(_) if full || gone => (SetMonitoringStatus::Rejected, None),
            Ok(watch) => {
                let id = asked.id.unwrap_or(self.given + 1);
                self.given = self.given.max(id);
                self.watched.insert(id, watch);
                (SetMonitoringStatus::Accepted, Some(id))
            }
            Err(why) => (why, None),
        };
        let mut result = SetMonitoringResult::new(
            status,
            asked.r#type,
            asked.component,
            asked.variable,
            asked.severity,
        );
        result.id = id;
        result
    }

    /// Ends monitors and what they stream.
    pub(super) fn clear(
        &mut self,
        asked: &ClearVariableMonitoringRequest,
    ) -> ClearVariableMonitoringResponse {
        let each = asked.id.iter().map(|id| {
            let status = match self.watched.remove(id) {
                Some(_) => ClearMonitoringStatus::Accepted,
                None => ClearMonitoringStatus::NotFound,
            };
            ClearMonitoringResult::new(status, *id)
        });
        ClearVariableMonitoringResponse::new(each.collect())
    }
}

fn watch(asked: &SetMonitoringData) -> Result<Watch, SetMonitoringStatus> {
    let place = asked.component.evse.as_ref().map(|evse| evse.id);
    if asked.component.name != "FiscalMetering" || place != Some(PLACE) {
        return Err(SetMonitoringStatus::UnknownComponent);
    }
    let register = match asked.variable.name.as_str() {
        "EnergyImportRegister" => Register::Import,
        "EnergyExportRegister" => Register::Export,
        _ => return Err(SetMonitoringStatus::UnknownVariable),
    };
    let Some(params) = &asked.periodic_event_stream else {
        return Err(SetMonitoringStatus::Rejected);
    };
    if asked.r#type != Monitor::PeriodicClockAligned {
        return Err(SetMonitoringStatus::UnsupportedMonitorType);
    }
    let whole = asked.value.round_to(0).and_then(|v| i64::try_from(v).ok());
    let every = whole.filter(|seconds| (1..=3_600).contains(seconds));
    let every = TimeDelta::seconds(every.ok_or(SetMonitoringStatus::Rejected)?);
    let batch = TimeDelta::seconds(params.interval.unwrap_or(0).into()).max(every);
    Ok(Watch {
        register,
        every,
        batch,
    })
}

/// The task's part: samples taken and not yet told.
#[derive(Debug, Default)]
pub(super) struct Streamer {
    /// Streams that were asked for, and whether they were accepted, by monitor; a stream has its monitor's number.
    asked: BTreeMap<i32, bool>,
    samples: Vec<Meter>,
    sample_at: Option<DateTime<Utc>>,
    send_at: Option<DateTime<Utc>>,
}

impl Streamer {
    /// Samples and tells what is due; answers when there is more to do. Registers are all read at the shortest period that
    /// was asked for, while somebody is plugged in.
    pub(super) async fn step(&mut self, mouth: &Mouth<'_>, plugged: bool) -> Option<DateTime<Utc>> {
        let watched = mouth.station.watched();
        self.asked.retain(|id, _| watched.contains_key(id));
        for (id, watch) in &watched {
            if !self.asked.contains_key(id) {
                let taken = open(mouth, *id, watch).await;
                self.asked.insert(*id, taken);
            }
        }
        let streams = watched.iter();
        let streams: Vec<_> = streams
            .filter(|(id, _)| self.asked.get(id) == Some(&true))
            .collect();
        let every = streams.iter().map(|(_, w)| w.every).min();
        let batch = streams.iter().map(|(_, w)| w.batch).min();
        let (Some(every), Some(batch), true) = (every, batch, plugged) else {
            self.send(mouth, &streams).await;
            (self.sample_at, self.send_at) = (None, None);
            return None;
        };
        let meter = mouth.station.meter();
        let send_at = *self.send_at.get_or_insert(meter.at + batch);
        let sample_at = *self.sample_at.get_or_insert(next_multiple(meter.at, every));
        if sample_at <= meter.at {
            self.sample_at = Some(next_multiple(meter.at, every));
            self.samples.push(meter);
        }
        if send_at <= meter.at {
            self.send_at = Some(meter.at + batch);
            self.send(mouth, &streams).await;
        }
        // Both are set here.
        self.sample_at.min(self.send_at)
    }

    async fn send(&mut self, mouth: &Mouth<'_>, streams: &[(&i32, &Watch)]) {
        let samples = std::mem::take(&mut self.samples);
        let Some(first) = samples.first() else {
            return;
        };
        for (id, watch) in streams {
            let data = samples.iter().map(|meter| {
                let micros = (meter.at - first.at).num_microseconds().unwrap_or_default();
                let value = watt_hours(watch.register.of(meter)).to_string();
                StreamDataElement::new(Decimal::new(micros, 6), value)
            });
            let base = ocpp_time(first.at);
            mouth
                .send(NotifyPeriodicEventStreamRequest::new(
                    data.collect(),
                    **id,
                    0,
                    base,
                ))
                .await;
        }
    }
}

/// The next full multiple of a period of the clock.
fn next_multiple(after: DateTime<Utc>, every: TimeDelta) -> DateTime<Utc> {
    after.duration_trunc(every).unwrap_or(after) + every
}

/// Asks to stream what a monitor reads.
async fn open(mouth: &Mouth<'_>, id: i32, watch: &Watch) -> bool {
    let mut params = PeriodicEventStreamParams::new();
    params.interval = i32::try_from(watch.batch.num_seconds()).ok();
    let stream = ConstantStreamData::new(id, params, id);
    let answer = mouth
        .call(OpenPeriodicEventStreamRequest::new(stream))
        .await;
    answer.is_some_and(|answer| answer.status == GenericStatus::Accepted)
}

impl Station {
    fn watched(&self) -> BTreeMap<i32, Watch> {
        self.lock().monitors.watched.clone()
    }

    fn meter(&self) -> Meter {
        self.look().0.outlet.meter()
    }
}
