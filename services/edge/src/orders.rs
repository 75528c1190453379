//! A set-point as the call that says it in the station's version, and what the answer means.

use chrono::{DateTime, Utc};
use fleet::setpoint::Outcome;
use fleet::{Curve, Mode, Setpoint};
use ocpp_kit::decode::{DecodeError, DecodeOptions, decode_payload};
use ocpp_kit::{RawValue, Version, v1_6, v2_1};
use serde::Serialize;

use crate::instant::life_seconds;
use crate::supply::Rate;
use crate::{v16, v21, v201};

/// Level of our profiles; an installer's local defaults lie below.
const STACK_LEVEL: i32 = 1;

/// Where a set-point goes: the transaction at an outlet of a station.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) version: Version,
    /// Number of the outlet, from 1.
    pub(crate) place: i32,
    /// Transaction as the station calls it.
    pub(crate) transaction: &'a str,
    /// Level of the profile.
    pub(crate) stack_level: i32,
    /// In what limits are said.
    pub(crate) rate: Rate,
}

impl<'a> Target<'a> {
    /// The transaction at an outlet of a station that takes profiles up to the level `most`, where that is known.
    pub(crate) fn new(
        version: Version,
        place: i32,
        transaction: &'a str,
        most: Option<i32>,
    ) -> Self {
        Self {
            version,
            place,
            transaction,
            stack_level: most.map_or(STACK_LEVEL, |most| most.clamp(0, STACK_LEVEL)),
            rate: Rate::Watts,
        }
    }

    /// The same in another unit; of 1.6 and 2.0.1 only.
    pub(crate) const fn rated(self, rate: Rate) -> Self {
        Self { rate, ..self }
    }
}

/// What a 2.1 station holds: one number renews it while transaction, life and mode stay the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    transaction: String,
    life_seconds: i32,
    mode: Held,
    /// Until when it holds, unless it is renewed.
    until: DateTime<Utc>,
}

/// Mode of an installed profile.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Held {
    CentralSetpoint,
    ChargingOnly,
    Idle,
    LocalFrequency(Curve),
    CentralFrequency(Curve),
    LocalLoadBalancing,
}

impl Held {
    fn by(mode: &Mode) -> Self {
        match mode {
            // A signal for a station without a curve comes as the power it leads to.
            Mode::CentralSetpoint | Mode::Signal(_) => Self::CentralSetpoint,
            Mode::ChargingOnly => Self::ChargingOnly,
            Mode::Idle => Self::Idle,
            Mode::LocalFrequency(curve) => Self::LocalFrequency(curve.clone()),
            Mode::CentralFrequency(curve) => Self::CentralFrequency(curve.clone()),
            Mode::LocalLoadBalancing { .. } => Self::LocalLoadBalancing,
        }
    }
}

/// What a call does at the station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// A limit for 1.6 and 2.0.1, which nothing later refers to.
    Limits,
    /// Installs a profile of 2.1.
    Installs(Installed),
    /// Renews it with one number until then.
    Updates(DateTime<Utc>),
    /// Tells the balancing signal, which an installed curve translates.
    Signals,
}

/// A call ready to be written.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) action: &'static str,
    pub(crate) payload: Box<RawValue>,
    pub(crate) effect: Effect,
}

impl Call {
    fn new(action: &'static str, request: &impl Serialize, effect: Effect) -> Result<Self, String> {
        let payload = serde_json::value::to_raw_value(request).map_err(|e| e.to_string())?;
        Ok(Self {
            action,
            payload,
            effect,
        })
    }

    /// The call that says a set-point for the transaction at an outlet, given what the station holds there.
    ///
    /// # Errors
    /// Why it cannot be said, for the acknowledgement.
    pub(crate) fn saying(
        setpoint: &Setpoint,
        target: Target<'_>,
        installed: Option<&Installed>,
        now: DateTime<Utc>,
    ) -> Result<Self, String> {
        let version = target.version;
        setpoint
            .mode
            .check(setpoint.power)
            .map_err(|error| error.to_string())?;
        match version {
            Version::V1_6 => {
                limits_only(setpoint, version)?;
                let profile = v16::profile(target, setpoint, now);
                let profile = profile.ok_or_else(|| cannot_discharge(setpoint, version))?;
                Self::new(SET, &profile, Effect::Limits)
            }
            Version::V2_0_1 => {
                limits_only(setpoint, version)?;
                let profile = v201::profile(target, setpoint, now);
                let profile = profile.ok_or_else(|| cannot_discharge(setpoint, version))?;
                Self::new(SET, &profile, Effect::Limits)
            }
            Version::V2_1 => Self::saying21(setpoint, target, installed, now),
            other => Err(format!("OCPP {other} is not spoken here")),
        }
    }

    /// A signal for a curve, one number for a profile, or a profile.
    fn saying21(
        setpoint: &Setpoint,
        target: Target<'_>,
        installed: Option<&Installed>,
        now: DateTime<Utc>,
    ) -> Result<Self, String> {
        let transaction = target.transaction;
        let holds = installed.filter(|held| held.transaction == transaction && held.until > now);
        if let (Mode::Signal(value), Some(held)) = (&setpoint.mode, holds)
            && matches!(held.mode, Held::CentralFrequency(_))
        {
            let signal = v21::signal(*value, setpoint.issued_at);
            return Self::new("AFRRSignal", &signal, Effect::Signals);
        }
        let wanted = Installed {
            transaction: transaction.to_owned(),
            life_seconds: life_seconds(setpoint.expires_at, setpoint.issued_at),
            mode: Held::by(&setpoint.mode),
            until: setpoint.expires_at,
        };
        let renews = installed.is_some_and(|held| {
            let same = wanted.clone().renewed(held.until);
            same == *held
        });
        if let Some(update) = v21::update(target.place, setpoint).filter(|_| renews) {
            return Self::new(UPDATE, &update, Effect::Updates(setpoint.expires_at));
        }
        let profile = v21::profile(target, setpoint);
        Self::new(SET, &profile, Effect::Installs(wanted))
    }
}

impl Installed {
    /// The same with a longer life.
    pub(crate) fn renewed(mut self, until: DateTime<Utc>) -> Self {
        self.until = until;
        self
    }
}

const SET: &str = "SetChargingProfile";
/// The fast path of 2.1.
const UPDATE: &str = "UpdateDynamicSchedule";

fn cannot_discharge(setpoint: &Setpoint, version: Version) -> String {
    format!(
        "{} asks for discharge, which OCPP {version} cannot say",
        setpoint.power
    )
}

/// Versions before 2.1 know limits: a mode in which the station decides by itself beyond that cannot be said.
fn limits_only(setpoint: &Setpoint, version: Version) -> Result<(), String> {
    match &setpoint.mode {
        Mode::CentralSetpoint | Mode::ChargingOnly | Mode::Idle | Mode::Signal(_) => Ok(()),
        Mode::LocalLoadBalancing { discharge } if discharge.watts() == 0 => Ok(()),
        other @ (Mode::LocalFrequency(_)
        | Mode::CentralFrequency(_)
        | Mode::LocalLoadBalancing { .. }) => Err(format!(
            "{} is a mode that OCPP {version} cannot say",
            other.name()
        )),
    }
}

/// What an answer says.
///
/// # Errors
/// [`DecodeError`] if it is none to that call.
pub(crate) fn outcome(
    version: Version,
    effect: &Effect,
    payload: &RawValue,
) -> Result<(Outcome, String), DecodeError> {
    let options = DecodeOptions::strict();
    let (accepted, detail) = if version == Version::V1_6 {
        let answer: v1_6::SetChargingProfileResponse = decode_payload(payload, &options)?;
        let accepted = answer.status == v1_6::ChargingProfileStatus::Accepted;
        (accepted, answer.status.as_str().to_owned())
    } else {
        let (accepted, status, info) = match effect {
            Effect::Signals => {
                let answer: v2_1::AFRRSignalResponse = decode_payload(payload, &options)?;
                let accepted = answer.status == v2_1::GenericStatus::Accepted;
                (
                    accepted,
                    answer.status.as_str().to_owned(),
                    answer.status_info,
                )
            }
            Effect::Updates(_) => {
                let answer: v2_1::UpdateDynamicScheduleResponse =
                    decode_payload(payload, &options)?;
                of_profile(&answer.status, answer.status_info)
            }
            Effect::Limits | Effect::Installs(_) => {
                let answer: v2_1::SetChargingProfileResponse = decode_payload(payload, &options)?;
                of_profile(&answer.status, answer.status_info)
            }
        };
        (accepted, info.map_or(status, |i| i.reason_code))
    };
    Ok(if accepted {
        (Outcome::Accepted, String::new())
    } else {
        (Outcome::Rejected, format!("the station answered {detail}"))
    })
}

fn of_profile(
    status: &v2_1::ChargingProfileStatus,
    info: Option<v2_1::StatusInfo>,
) -> (bool, String, Option<v2_1::StatusInfo>) {
    let accepted = *status == v2_1::ChargingProfileStatus::Accepted;
    (accepted, status.as_str().to_owned(), info)
}
