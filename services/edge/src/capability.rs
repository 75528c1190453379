//! What a station can do, as it says itself when it is asked after it connected. What it does not say is unknown, and it is
//! served with what its version guarantees.

use std::time::Duration;

use fleet::{Mode, Setpoint};
use ocpp_kit::decode::{DecodeError, DecodeOptions, decode_payload};
use ocpp_kit::v1_6::{
    ChangeConfigurationRequest, ChangeConfigurationResponse, ConfigurationStatus,
    GetConfigurationRequest, GetConfigurationResponse,
};
use ocpp_kit::v2_1::{
    Component, EVSE, GetVariableData, GetVariableStatus, GetVariablesRequest, GetVariablesResponse,
    SetVariableData, SetVariableStatus, SetVariablesRequest, SetVariablesResponse, Variable,
};
use ocpp_kit::{RawValue, Version, v1_6, v2_1};
use serde::Serialize;

use crate::config::Config;
use crate::station::Outlets;
use crate::streams::Monitors;
use crate::supply::Supplies;

/// Keys of OCPP 1.6, part 9 of the specification.
const KEYS: [&str; 4] = [
    "SupportedFeatureProfiles",
    "ChargeProfileMaxStackLevel",
    "ChargingScheduleAllowedChargingRateUnit",
    SAMPLE_KEY,
];
const SAMPLE_KEY: &str = "MeterValueSampleInterval";
/// Variables of OCPP 2.0.1, part 2, referenced components and variables.
const VARIABLES: [(&str, &str); 4] = [SMART_CHARGING, STACK_LEVEL, RATE_UNIT, SAMPLE];
/// Variables that 2.1 added.
const VARIABLES_V2X: [(&str, &str); 3] = [V2X, OPERATION_MODES, STREAMS];
const SMART_CHARGING: (&str, &str) = ("SmartChargingCtrlr", "Enabled");
const STACK_LEVEL: (&str, &str) = ("SmartChargingCtrlr", "ProfileStackLevel");
const RATE_UNIT: (&str, &str) = ("SmartChargingCtrlr", "RateUnit");
const SAMPLE: (&str, &str) = ("SampledDataCtrlr", "TxUpdatedInterval");
const V2X: (&str, &str) = ("V2XChargingCtrlr", "Enabled");
const OPERATION_MODES: (&str, &str) = ("V2XChargingCtrlr", "SupportedOperationModes");
const PHASES: (&str, &str) = ("EVSE", "SupplyPhases");
const VOLTAGE: (&str, &str) = ("ElectricalFeed", "ACVoltage");
/// Outlets whose phases are asked for.
const OUTLETS: usize = 16;
const STREAMS: (&str, &str) = ("MonitoringCtrlr", "MaxPeriodicEventStreams");

/// What a station said of itself; `None` is unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    /// It takes charging profiles.
    pub(crate) smart_charging: Option<bool>,
    /// It takes limits in watts.
    pub(crate) watts: Option<bool>,
    /// Highest level of a profile.
    pub(crate) stack_level: Option<i32>,
    /// It may discharge.
    pub(crate) discharge: Option<bool>,
    /// Operation modes of 2.1.
    pub(crate) modes: Option<Vec<String>>,
    /// Periodic event streams that it can have open at a time.
    pub(crate) streams: Option<u32>,
    /// Seconds between meter samples in a transaction.
    pub(crate) sample_seconds: Option<u32>,
    /// How fast it answered last time. One call is outstanding at a time, so it can be told something this often.
    pub(crate) answered: Option<Duration>,
}

/// Where answers are taken in.
#[derive(Debug)]
pub(crate) struct Learner<'a> {
    pub(crate) known: &'a mut Capabilities,
    pub(crate) monitors: &'a mut Monitors,
    pub(crate) supplies: &'a mut Supplies,
}

/// What a station is asked beside set-points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    /// What it can do.
    Capabilities,
    /// To sample its meter this often, in seconds.
    Sample(u32),
    /// To stream the registers of its meters.
    Stream,
    /// To end those streams.
    Unstream,
    /// Which monitors it has on those registers.
    Monitors,
    /// Phases and voltage of its outlets.
    Supply,
    /// To use the certificate that was signed for it.
    Certificate,
}

impl Question {
    /// True for those whose answers change what a station may stream.
    pub(crate) const fn is_about_streams(self) -> bool {
        match self {
            Self::Stream | Self::Unstream | Self::Monitors => true,
            Self::Capabilities | Self::Sample(_) | Self::Supply | Self::Certificate => false,
        }
    }

    /// Action and payload in that version, for that station.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn call(
        self,
        version: Version,
        outlets: &Outlets,
        config: &Config,
    ) -> Result<(&'static str, Box<RawValue>), String> {
        Ok(match (self, version) {
            (Self::Capabilities, Version::V1_6) => {
                let mut request = GetConfigurationRequest::new();
                request.key = Some(KEYS.map(str::to_owned).to_vec());
                ("GetConfiguration", written(&request)?)
            }
            (Self::Sample(seconds), Version::V1_6) => {
                let request = ChangeConfigurationRequest::new(SAMPLE_KEY, seconds.to_string());
                ("ChangeConfiguration", written(&request)?)
            }
            (Self::Certificate, _) => {
                let signed = outlets.signed.as_ref().ok_or("nothing was signed")?;
                ("CertificateSigned", signed.call(version)?)
            }
            (Self::Stream, _) => {
                let most = outlets.known.streams.unwrap_or(0);
                let evses = &outlets.station.evses;
                let request = outlets.streams.monitors.begin(evses, most, config);
                ("SetVariableMonitoring", written(&request)?)
            }
            (Self::Unstream, _) => {
                let request = outlets.streams.monitors.end();
                ("ClearVariableMonitoring", written(&request)?)
            }
            (Self::Monitors, _) => {
                let request = Monitors::report(&outlets.station.evses);
                ("GetMonitoringReport", written(&request)?)
            }
            (Self::Supply, _) => {
                let (component, variable) = PHASES;
                let places = (1..).zip(&outlets.station.evses).take(OUTLETS);
                let phases = places.map(|(place, _)| {
                    let mut component = Component::new(component);
                    component.evse = Some(EVSE::new(place));
                    GetVariableData::new(component, Variable::new(variable))
                });
                let (component, variable) = VOLTAGE;
                let volts =
                    GetVariableData::new(Component::new(component), Variable::new(variable));
                let all = phases.chain([volts]);
                (
                    "GetVariables",
                    written(&GetVariablesRequest::new(all.collect()))?,
                )
            }
            (Self::Capabilities, _) => {
                let v2x = VARIABLES_V2X.iter().filter(|_| version == Version::V2_1);
                let all = VARIABLES.iter().chain(v2x).map(|(component, variable)| {
                    GetVariableData::new(Component::new(*component), Variable::new(*variable))
                });
                let request = GetVariablesRequest::new(all.collect());
                ("GetVariables", written(&request)?)
            }
            (Self::Sample(seconds), _) => {
                let (component, variable) = SAMPLE;
                let data = SetVariableData::new(
                    seconds.to_string(),
                    Component::new(component),
                    Variable::new(variable),
                );
                let request = SetVariablesRequest::new(vec![data]);
                ("SetVariables", written(&request)?)
            }
        })
    }

    /// Takes in the answer; true if it says what was asked for or does it.
    ///
    /// # Errors
    /// [`DecodeError`] if it is no answer to that.
    pub(crate) fn answered(
        self,
        version: Version,
        payload: &RawValue,
        learner: Learner<'_>,
    ) -> Result<bool, DecodeError> {
        let options = DecodeOptions::strict();
        let Learner {
            known,
            monitors,
            supplies,
        } = learner;
        let done = match (self, version) {
            (Self::Capabilities, Version::V1_6) => {
                let answer: GetConfigurationResponse = decode_payload(payload, &options)?;
                for key in answer.configuration_key.iter().flatten() {
                    if let Some(value) = &key.value {
                        known.learn16(&key.key, value);
                    }
                }
                true
            }
            (Self::Sample(_), Version::V1_6) => {
                let answer: ChangeConfigurationResponse = decode_payload(payload, &options)?;
                answer.status == ConfigurationStatus::Accepted
            }
            (Self::Certificate, Version::V1_6) => {
                let answer: v1_6::CertificateSignedResponse = decode_payload(payload, &options)?;
                answer.status == v1_6::CertificateSignedStatus::Accepted
            }
            (Self::Certificate, _) => {
                let answer: v2_1::CertificateSignedResponse = decode_payload(payload, &options)?;
                answer.status == v2_1::CertificateSignedStatus::Accepted
            }
            (Self::Stream, _) => monitors.begun(&decode_payload(payload, &options)?),
            (Self::Unstream, _) => monitors.ended(&decode_payload(payload, &options)?),
            (Self::Monitors, _) => monitors.promised(&decode_payload(payload, &options)?),
            (Self::Supply, _) => {
                let answer: GetVariablesResponse = decode_payload(payload, &options)?;
                for result in &answer.get_variable_result {
                    let Some(value) = &result.attribute_value else {
                        continue;
                    };
                    let of = (&*result.component.name, &*result.variable.name);
                    match (of, &result.component.evse) {
                        (PHASES, Some(evse)) => supplies.learn_phases(evse.id, value),
                        (VOLTAGE, _) => supplies.learn_volts(value),
                        _ => {}
                    }
                }
                true
            }
            (Self::Capabilities, _) => {
                let answer: GetVariablesResponse = decode_payload(payload, &options)?;
                for result in &answer.get_variable_result {
                    let told = result.attribute_value.as_ref();
                    let told =
                        told.filter(|_| result.attribute_status == GetVariableStatus::Accepted);
                    if let Some(value) = told {
                        known.learn2((&result.component.name, &result.variable.name), value);
                    }
                }
                true
            }
            (Self::Sample(_), _) => {
                let answer: SetVariablesResponse = decode_payload(payload, &options)?;
                let mut results = answer.set_variable_result.iter();
                results.all(|result| result.attribute_status == SetVariableStatus::Accepted)
            }
        };
        if let (Self::Sample(seconds), true) = (self, done) {
            known.sample_seconds = Some(seconds);
        }
        Ok(done)
    }
}

fn written(request: &impl Serialize) -> Result<Box<RawValue>, String> {
    serde_json::value::to_raw_value(request).map_err(|e| e.to_string())
}

/// Items of a list as OCPP writes it.
fn listed(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// Whether a list has an item; unknown if it has neither that nor the other that there is.
fn said_among(list: &str, item: &str, other: &str) -> Option<bool> {
    let has = |item: &str| listed(list).any(|listed| listed == item);
    (has(item) || has(other)).then(|| has(item))
}

fn truth(value: &str) -> Option<bool> {
    value.trim().to_lowercase().parse().ok()
}

impl Capabilities {
    fn learn16(&mut self, key: &str, value: &str) {
        match key {
            "SupportedFeatureProfiles" => {
                self.smart_charging = Some(listed(value).any(|profile| profile == "SmartCharging"));
            }
            "ChargeProfileMaxStackLevel" => self.stack_level = value.trim().parse().ok(),
            "ChargingScheduleAllowedChargingRateUnit" => {
                self.watts = said_among(value, "Power", "Current");
            }
            SAMPLE_KEY => self.sample_seconds = value.trim().parse().ok(),
            _ => {}
        }
    }

    fn learn2(&mut self, variable: (&str, &str), value: &str) {
        match variable {
            SMART_CHARGING => self.smart_charging = truth(value),
            STACK_LEVEL => self.stack_level = value.trim().parse().ok(),
            RATE_UNIT => self.watts = said_among(value, "W", "A"),
            SAMPLE => self.sample_seconds = value.trim().parse().ok(),
            STREAMS => self.streams = value.trim().parse().ok(),
            V2X => self.discharge = truth(value),
            OPERATION_MODES => self.modes = Some(listed(value).map(str::to_owned).collect()),
            _ => {}
        }
    }

    /// Checks that the station can be told a set-point. What is unknown is not held against it.
    ///
    /// # Errors
    /// Why not, for the acknowledgement.
    pub(crate) fn permit(&self, setpoint: &Setpoint) -> Result<(), String> {
        if self.smart_charging == Some(false) {
            return Err("the station says that it takes no charging profiles".to_owned());
        }
        if self.discharge == Some(false) && setpoint.mode.lowest(setpoint.power).is_export() {
            return Err("the station says that it does not discharge".to_owned());
        }
        if !self.has(&setpoint.mode) {
            let name = setpoint.mode.name();
            return Err(format!("the station says that it has no mode {name}"));
        }
        Ok(())
    }

    /// The set-point as this station can take it: one that has no central set-point follows a limit, which says the same as
    /// long as nothing is discharged.
    pub(crate) fn fitted(&self, mut setpoint: Setpoint) -> Setpoint {
        let central = matches!(setpoint.mode, Mode::CentralSetpoint | Mode::Signal(_));
        let without = !self.has(&setpoint.mode) || self.discharge == Some(false);
        if central && without && !setpoint.power.is_export() {
            setpoint.mode = Mode::ChargingOnly;
        }
        setpoint
    }

    /// Charging within a limit is what every station does, listed or not.
    fn has(&self, mode: &Mode) -> bool {
        let Some(modes) = &self.modes else {
            return true;
        };
        let lists = |mode: &Mode| modes.iter().any(|name| name == mode.name());
        match mode {
            Mode::ChargingOnly => true,
            // Without a curve a signal comes as the power it leads to.
            Mode::Signal(_) => lists(mode) || lists(&Mode::CentralSetpoint),
            Mode::CentralSetpoint
            | Mode::Idle
            | Mode::LocalFrequency(_)
            | Mode::CentralFrequency(_)
            | Mode::LocalLoadBalancing { .. } => lists(mode),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use serde_json::{Value, json};
    use units::Power;

    fn setpoint(watts: i64, mode: Mode) -> Setpoint {
        Setpoint {
            id: "sp".parse().unwrap(),
            evse: "S/1".parse().unwrap(),
            power: Power::from_watts(watts),
            mode,
            issued_at: DateTime::UNIX_EPOCH,
            expires_at: DateTime::UNIX_EPOCH,
            signal: None,
            reason: String::new(),
        }
    }

    fn learnt(version: Version, answer: &Value) -> Capabilities {
        let mut known = Capabilities::default();
        let raw = serde_json::value::to_raw_value(answer).unwrap();
        let learner = Learner {
            known: &mut known,
            monitors: &mut Monitors::default(),
            supplies: &mut Supplies::default(),
        };
        let answered = Question::Capabilities.answered(version, &raw, learner);
        assert!(answered.unwrap());
        known
    }

    #[test]
    fn a_1_6_station_says_what_it_can_in_its_configuration() {
        let key = |key: &str, value: &str| json!({"key": key, "readonly": true, "value": value});
        let known = learnt(
            Version::V1_6,
            &json!({"configurationKey": [
                key("SupportedFeatureProfiles", "Core, SmartCharging"),
                key("ChargeProfileMaxStackLevel", "0"),
                key("ChargingScheduleAllowedChargingRateUnit", "Current"),
                key("MeterValueSampleInterval", "soon"),
            ], "unknownKey": ["x"]}),
        );
        assert_eq!(known.smart_charging, Some(true));
        assert_eq!((known.stack_level, known.sample_seconds), (Some(0), None));
        assert_eq!(known.discharge, None, "1.6 has no word for it");
        assert_eq!(known.watts, Some(false), "amperes only");
    }

    #[test]
    fn a_2_1_station_without_v2x_is_told_limits_and_no_discharge() {
        let told = |(component, variable): (&str, &str), value: &str| {
            json!({"attributeStatus": "Accepted", "attributeValue": value,
                "component": {"name": component}, "variable": {"name": variable}})
        };
        let unknown = json!({"attributeStatus": "UnknownVariable",
            "component": {"name": "SmartChargingCtrlr"}, "variable": {"name": "Enabled"}});
        let known = learnt(
            Version::V2_1,
            &json!({"getVariableResult": [
                told(V2X, "False"), told(OPERATION_MODES, "ChargingOnly,Idle"), told(RATE_UNIT, "A,W"),
                told(SAMPLE, "60"), unknown,
            ]}),
        );
        assert_eq!(known.smart_charging, None);
        assert_eq!(known.sample_seconds, Some(60));
        let fitted = known.fitted(setpoint(5_000, Mode::CentralSetpoint));
        assert_eq!(fitted.mode, Mode::ChargingOnly);
        assert_eq!(known.permit(&fitted), Ok(()));
        let out = known.fitted(setpoint(-5_000, Mode::CentralSetpoint));
        assert!(known.permit(&out).unwrap_err().contains("not discharge"));
        assert_eq!(known.permit(&setpoint(0, Mode::Idle)), Ok(()));
        let balancing = Mode::LocalLoadBalancing {
            discharge: Power::ZERO,
        };
        assert!(known.permit(&setpoint(0, balancing)).is_err());
    }

    #[test]
    fn what_a_station_does_not_say_is_not_held_against_it() {
        let unknown = Capabilities::default();
        for mode in [Mode::CentralSetpoint, Mode::Signal(3)] {
            let asked = setpoint(-5_000, mode);
            assert_eq!(unknown.fitted(asked.clone()), asked);
            assert_eq!(unknown.permit(&asked), Ok(()));
        }
    }
}
