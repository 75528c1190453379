//! The monitors behind streams: which registers a station is asked to watch, and under which numbers it does.

use std::collections::BTreeMap;

use fleet::Evse;
use ocpp_kit::Version;
use ocpp_kit::types::{Decimal, MessageId};
use ocpp_kit::v2_1::{
    ClearMonitoringStatus, ClearVariableMonitoringRequest, ClearVariableMonitoringResponse,
    Component, ComponentVariable, EVSE, EventNotification, GenericDeviceModelStatus,
    GetMonitoringReportRequest, GetMonitoringReportResponse, Monitor, MonitoringData,
    NotifyMonitoringReportRequest, PeriodicEventStreamParams, SetMonitoringData,
    SetMonitoringStatus, SetVariableMonitoringRequest, SetVariableMonitoringResponse, Variable,
};

use super::Register;
use crate::answer::Answer;
use crate::capability::{Capabilities, Learner, Question};
use crate::config::Config;
use crate::supply::Supplies;

/// Component of the standard device model whose registers name their direction.
const METER: &str = "FiscalMetering";
/// Informational, as OCPP counts severities.
const SEVERITY: i32 = 8;
/// Monitors a station may keep for us.
const MONITORS: usize = 64;
/// Number of the one report that is asked for.
const REPORT: i32 = 1;

/// Where a register is.
pub(super) type Source = (i32, Register);

/// Monitors that a station says it has already, under numbers that are not known here: another process set them.
#[derive(Debug, Default, PartialEq, Eq)]
enum Strays {
    /// None that is known of.
    #[default]
    None,
    /// It has to be asked for their numbers.
    Met,
    /// It was asked, and its report is to come.
    Asked,
}

/// Monitors of one station, by its number.
#[derive(Debug, Default)]
pub(crate) struct Monitors {
    known: BTreeMap<i32, Source>,
    strays: Strays,
    /// The call about them that is outstanding.
    awaited: Option<(MessageId, Question)>,
}

/// What an outlet has to be read by: one that may discharge is metered by both registers only.
pub(super) fn registers(evse: &Evse) -> &'static [Register] {
    if evse.max_discharge.watts() == 0 {
        &[Register::Import]
    } else {
        &[Register::Import, Register::Export]
    }
}

fn component(place: i32) -> Component {
    let mut component = Component::new(METER);
    component.evse = Some(EVSE::new(place));
    component
}

/// The register that a component and variable name, if it is one.
fn source(component: &Component, variable: &Variable) -> Option<Source> {
    let place = component.evse.as_ref().map(|evse| evse.id)?;
    let register = Register::named(&variable.name)?;
    (component.name == METER).then_some((place, register))
}

impl Monitors {
    /// The register that a monitor reads.
    pub(super) fn source(&self, id: i32) -> Option<Source> {
        self.known.get(&id).copied()
    }

    /// True if the station keeps any for us.
    pub(crate) fn any(&self) -> bool {
        !self.known.is_empty()
    }

    /// True if it keeps some whose numbers are not known yet.
    pub(crate) fn strayed(&self) -> bool {
        self.strays != Strays::None
    }

    /// Asks for a stream of each register, for as many outlets as the station has streams for.
    pub(crate) fn begin(
        &self,
        evses: &[Evse],
        most: u32,
        config: &Config,
    ) -> SetVariableMonitoringRequest {
        let mut left = usize::try_from(most).unwrap_or(usize::MAX).min(MONITORS);
        let mut data = Vec::new();
        for (place, evse) in (1..).zip(evses) {
            let wanted = registers(evse);
            let Some(rest) = left.checked_sub(wanted.len()) else {
                break;
            };
            left = rest;
            data.extend(wanted.iter().map(|r| self.monitor((place, *r), config)));
        }
        SetVariableMonitoringRequest::new(data)
    }

    /// A monitor of a register, read at full multiples of the period so that both registers are read at the same instants.
    fn monitor(&self, source: Source, config: &Config) -> SetMonitoringData {
        let mut monitor = SetMonitoringData::new(
            Decimal::from_i64(config.stream_seconds.into()),
            Monitor::PeriodicClockAligned,
            SEVERITY,
            component(source.0),
            Variable::new(source.1.variable()),
        );
        let mut params = PeriodicEventStreamParams::new();
        params.interval = i32::try_from(config.pool_sample_seconds).ok();
        monitor.periodic_event_stream = Some(params);
        monitor.transaction = Some(true);
        let mut known = self.known.iter();
        monitor.id = known.find(|(_, s)| **s == source).map(|(id, _)| *id);
        monitor
    }

    /// Asks to end all streams.
    pub(crate) fn end(&self) -> ClearVariableMonitoringRequest {
        ClearVariableMonitoringRequest::new(self.known.keys().copied().collect())
    }

    /// Asks which monitors it has on the registers of its outlets.
    pub(crate) fn report(evses: &[Evse]) -> GetMonitoringReportRequest {
        let places = (1..).zip(evses).take(MONITORS);
        let each =
            places.flat_map(|(place, evse)| registers(evse).iter().map(move |r| (place, *r)));
        let each = each.map(|(place, register)| {
            let mut of = ComponentVariable::new(component(place));
            of.variable = Some(Variable::new(register.variable()));
            of
        });
        let mut request = GetMonitoringReportRequest::new(REPORT);
        request.component_variable = Some(each.collect());
        request
    }

    /// The call with that identifier is about monitors.
    pub(crate) fn awaits(&mut self, id: &MessageId, question: Question) {
        self.awaited = Some((id.clone(), question));
    }

    /// Takes in an answer if it is the one to the outstanding call about monitors; then says whether the station does what it
    /// was asked, or why not.
    pub(crate) fn hear(&mut self, id: &MessageId, answer: &Answer) -> Option<Result<bool, String>> {
        let (_, question) = self.awaited.take_if(|(awaited, _)| awaited == id)?;
        let answer = answer.as_ref().map_err(ToString::to_string);
        Some(answer.and_then(|payload| {
            let learner = Learner {
                known: &mut Capabilities::default(),
                monitors: self,
                supplies: &mut Supplies::default(),
            };
            question
                .answered(Version::V2_1, payload, learner)
                .map_err(|error| format!("unreadable answer: {error}"))
        }))
    }

    /// Takes in the answer to [`Self::begin`]; true if any register will be streamed, or may be once strays are known.
    pub(crate) fn begun(&mut self, answer: &SetVariableMonitoringResponse) -> bool {
        let mut any = false;
        for result in &answer.set_monitoring_result {
            let source = source(&result.component, &result.variable);
            if source.is_some() && result.status == SetMonitoringStatus::Duplicate {
                self.strays = Strays::Met;
                any = true;
            }
            let id = result
                .id
                .filter(|_| result.status == SetMonitoringStatus::Accepted);
            if let (Some(source), Some(id)) = (source, id) {
                any |= self.learn(id, source);
            }
        }
        any
    }

    /// Takes in the answer to [`Self::end`]: what the station ended, or never had, is forgotten.
    pub(crate) fn ended(&mut self, answer: &ClearVariableMonitoringResponse) -> bool {
        for result in &answer.clear_monitoring_result {
            if result.status != ClearMonitoringStatus::Rejected {
                self.known.remove(&result.id);
            }
        }
        self.known.is_empty()
    }

    /// Takes in the answer to [`Self::report`]; true if a report will come.
    pub(crate) fn promised(&mut self, answer: &GetMonitoringReportResponse) -> bool {
        let comes = answer.status == GenericDeviceModelStatus::Accepted;
        self.strays = if comes { Strays::Asked } else { Strays::None };
        comes
    }

    /// Takes in a part of a report: monitors of the registers that somebody like us set.
    pub(crate) fn reported(&mut self, told: &NotifyMonitoringReportRequest) {
        if self.strays != Strays::Asked || told.request_id != REPORT {
            return;
        }
        for data in told.monitor.iter().flatten() {
            self.learn_each(data);
        }
        if told.tbc != Some(true) {
            self.strays = Strays::None;
        }
    }

    fn learn_each(&mut self, data: &MonitoringData) {
        let Some(source) = source(&data.component, &data.variable) else {
            return;
        };
        for monitor in &data.variable_monitoring {
            let ours = monitor.r#type == Monitor::PeriodicClockAligned
                && monitor.severity == SEVERITY
                && monitor.event_notification_type == EventNotification::CustomMonitor;
            if ours {
                self.learn(monitor.id, source);
            }
        }
    }

    /// Keeps the number of a monitor; false if there are too many.
    fn learn(&mut self, id: i32, source: Source) -> bool {
        let room = self.known.len() < MONITORS || self.known.contains_key(&id);
        if room {
            self.known.insert(id, source);
        }
        room
    }
}
