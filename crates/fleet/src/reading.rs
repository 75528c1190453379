//! What comes in from a station.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Power, Soc};

use crate::{Acknowledgement, Evse, EvseId, Needs, SessionId, StationId, VehicleId};

/// One sample of a meter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Outlet.
    pub evse: EvseId,
    /// Stay during which it was taken, if any.
    pub session: Option<SessionId>,
    /// Instant of the sample by the station's clock.
    pub at: DateTime<Utc>,
    /// Power at the grid side; positive charges.
    pub power: Option<Power>,
    /// Register of energy taken from the grid since the meter was built; never steps back.
    pub import_register: Option<Energy>,
    /// Register of energy given to the grid since the meter was built; never steps back.
    pub export_register: Option<Energy>,
    /// State of charge, where the vehicle tells it.
    pub soc: Option<Soc>,
}

/// Everything a station can tell, as it travels on `telemetry.readings.v1` (key: EVSE or station).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Telemetry {
    /// A station came (back) online or lost its connection.
    Connection {
        /// Station.
        station: StationId,
        /// Its outlets.
        evses: Vec<EvseId>,
        /// Connected or not.
        online: bool,
        /// When.
        at: DateTime<Utc>,
    },
    /// A vehicle plugged in.
    PluggedIn {
        /// Stay.
        session: SessionId,
        /// Outlet.
        evse: EvseId,
        /// Vehicle, where known.
        vehicle: Option<VehicleId>,
        /// When.
        at: DateTime<Utc>,
    },
    /// Somebody stated (or corrected) what the vehicle needs.
    Needs {
        /// Outlet.
        evse: EvseId,
        /// Stay.
        session: SessionId,
        /// What it must have at departure.
        needs: Needs,
        /// When it was said.
        at: DateTime<Utc>,
    },
    /// A meter sample.
    Reading(Reading),
    /// A vehicle left.
    Unplugged {
        /// Stay.
        session: SessionId,
        /// Outlet.
        evse: EvseId,
        /// When.
        at: DateTime<Utc>,
    },
    /// A station answered a set-point.
    Acknowledged(Acknowledgement),
}

impl Telemetry {
    /// Key on the log: the EVSE, or the station for a connection event.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Connection { station, .. } => station.as_str(),
            Self::PluggedIn { evse, .. }
            | Self::Needs { evse, .. }
            | Self::Unplugged { evse, .. } => evse.as_str(),
            Self::Reading(reading) => reading.evse.as_str(),
            Self::Acknowledged(ack) => ack.evse.as_str(),
        }
    }

    /// Instant of the event by the station's clock.
    #[must_use]
    pub const fn at(&self) -> DateTime<Utc> {
        match self {
            Self::Connection { at, .. }
            | Self::PluggedIn { at, .. }
            | Self::Needs { at, .. }
            | Self::Unplugged { at, .. } => *at,
            Self::Reading(reading) => reading.at,
            Self::Acknowledged(ack) => ack.answered_at,
        }
    }
}

/// What is refused of what a station tells, and why.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An outlet that nobody registered.
    #[error("EVSE {0} is not registered")]
    UnknownEvse(EvseId),
    /// A station that none of the registered outlets belongs to.
    #[error("no EVSE of station {0} is registered")]
    UnknownStation(StationId),
    /// An instant that has not come.
    #[error("{at} is {} s ahead of {now}, more than {} s: the station's clock is wrong", (*.at - *.now).num_seconds(), .bound.num_seconds())]
    Future {
        /// As told.
        at: DateTime<Utc>,
        /// Ours.
        now: DateTime<Utc>,
        /// How far ahead is believed.
        bound: TimeDelta,
    },
    /// An instant so long ago that the station's clock cannot be right.
    #[error("{at} is {} days before {now}, more than {}: the station's clock is wrong", (*.now - *.at).num_days(), .bound.num_days())]
    Ancient {
        /// As told.
        at: DateTime<Utc>,
        /// Ours.
        now: DateTime<Utc>,
        /// How far back is believed.
        bound: TimeDelta,
    },
    /// The same sample again.
    #[error("the sample of {at} was taken in before")]
    Duplicate {
        /// Its instant.
        at: DateTime<Utc>,
    },
    /// An event older than what is known.
    #[error("{what} of {at} is older than the one of {known}")]
    Stale {
        /// What kind of event.
        what: &'static str,
        /// Its instant.
        at: DateTime<Utc>,
        /// Instant of the newest one known.
        known: DateTime<Utc>,
    },
    /// A power that the outlet cannot carry.
    #[error("power {power} is outside {low} to {high}, the rating with its margin")]
    Power {
        /// As told.
        power: Power,
        /// Lowest believed.
        low: Power,
        /// Highest believed.
        high: Power,
    },
    /// A register that stepped back in time order.
    #[error("{register} register steps back from {before} to {after}")]
    StepsBack {
        /// `import` or `export`.
        register: &'static str,
        /// At the earlier instant.
        before: Energy,
        /// At the later instant.
        after: Energy,
    },
    /// A register that grew faster than the outlet can carry.
    #[error("{register} register jumps from {before} to {after}, more than {most} since then")]
    Jumps {
        /// `import` or `export`.
        register: &'static str,
        /// At the earlier instant.
        before: Energy,
        /// At the later instant.
        after: Energy,
        /// Most that the rating with its margin allows.
        most: Energy,
    },
    /// A register below zero.
    #[error("{register} register {value} is negative")]
    Negative {
        /// `import` or `export`.
        register: &'static str,
        /// As told.
        value: Energy,
    },
    /// A stay that is over, or that never began.
    #[error("session {session} is not in progress at EVSE {evse}")]
    GoneSession {
        /// Stay named.
        session: SessionId,
        /// Outlet.
        evse: EvseId,
    },
    /// Needs that no battery can have.
    #[error("needs: {what} {value} is negative")]
    Needs {
        /// Which figure.
        what: &'static str,
        /// As told, in joules or watts.
        value: i64,
    },
}

impl Refusal {
    /// Short name, for counting.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::UnknownEvse(_) => "unknown_evse",
            Self::UnknownStation(_) => "unknown_station",
            Self::Future { .. } => "future",
            Self::Ancient { .. } => "ancient",
            Self::Duplicate { .. } => "duplicate",
            Self::Stale { .. } => "stale",
            Self::Power { .. } => "power",
            Self::StepsBack { .. } => "register_steps_back",
            Self::Jumps { .. } => "register_jumps",
            Self::Negative { .. } => "register_negative",
            Self::GoneSession { .. } => "gone_session",
            Self::Needs { .. } => "needs",
        }
    }

    /// True for what delivering twice or out of order brings about by itself: counted, nobody has to look at it.
    #[must_use]
    pub const fn is_harmless(&self) -> bool {
        matches!(self, Self::Duplicate { .. } | Self::Stale { .. })
    }
}

/// How far a reading may be from what is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// How far ahead of us a station's clock may be.
    pub ahead: TimeDelta,
    /// How old a sample may be: stations keep what they could not send.
    pub behind: TimeDelta,
    /// Share of the rating by which power may exceed it: meters err, and three-phase sums overshoot.
    pub power_share: f64,
    /// Power by which the rating may be exceeded whatever it is: standby and reactive rounding.
    pub power_slack: Power,
    /// Energy by which a register may exceed the rating: some registers count whole kilowatt hours.
    pub register_slack: Energy,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ahead: TimeDelta::minutes(5),
            behind: TimeDelta::days(35),
            power_share: 0.1,
            power_slack: Power::from_watts(500),
            register_slack: Energy::from_wh(2_000),
        }
    }
}

/// A register and the instant it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterAt {
    /// Value since the meter was built.
    pub value: Energy,
    /// When.
    pub at: DateTime<Utc>,
}

/// What was accepted of one outlet so far, as far as the next reading is checked against it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Accepted {
    /// Newest reading, as accepted.
    pub newest: Option<Reading>,
    /// Newest import register.
    pub import: Option<RegisterAt>,
    /// Newest export register.
    pub export: Option<RegisterAt>,
}

/// A reading with what was refused of it taken out.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// What is left; `None` if nothing is.
    pub kept: Option<Reading>,
    /// What was taken out, and why.
    pub refused: Vec<Refusal>,
}

/// Checks `reading` against the rating of its outlet, the time, and what was accepted before. A bad figure is taken out and
/// the rest goes on; a wrong instant or a repetition leaves nothing.
#[must_use]
pub fn check(
    reading: &Reading,
    evse: &Evse,
    accepted: &Accepted,
    now: DateTime<Utc>,
    limits: &Limits,
) -> Checked {
    if let Err(refusal) = check_instant(reading.at, now, limits) {
        return Checked {
            kept: None,
            refused: vec![refusal],
        };
    }
    let mut kept = reading.clone();
    let mut refused = Vec::new();
    if let Some(power) = kept.power
        && let Err(refusal) = check_power(power, evse, limits)
    {
        kept.power = None;
        refused.push(refusal);
    }
    let mut check_one = |value: &mut Option<Energy>, last, rating, register| {
        if let Some(read) = *value
            && let Err(refusal) = check_register(read, reading.at, last, rating, register, limits)
        {
            *value = None;
            refused.push(refusal);
        }
    };
    check_one(
        &mut kept.import_register,
        accepted.import,
        evse.max_charge,
        "import",
    );
    check_one(
        &mut kept.export_register,
        accepted.export,
        evse.max_discharge,
        "export",
    );
    if accepted.newest.as_ref() == Some(&kept) {
        refused.push(Refusal::Duplicate { at: reading.at });
        return Checked {
            kept: None,
            refused,
        };
    }
    let empty = kept.power.is_none()
        && kept.import_register.is_none()
        && kept.export_register.is_none()
        && kept.soc.is_none();
    Checked {
        kept: (!empty).then_some(kept),
        refused,
    }
}

/// Checks the instant of anything a station tells.
///
/// # Errors
/// [`Refusal::Future`] and [`Refusal::Ancient`].
pub fn check_instant(
    at: DateTime<Utc>,
    now: DateTime<Utc>,
    limits: &Limits,
) -> Result<(), Refusal> {
    if at - now > limits.ahead {
        let bound = limits.ahead;
        return Err(Refusal::Future { at, now, bound });
    }
    if now - at > limits.behind {
        let bound = limits.behind;
        return Err(Refusal::Ancient { at, now, bound });
    }
    Ok(())
}

fn check_power(power: Power, evse: &Evse, limits: &Limits) -> Result<(), Refusal> {
    let with_margin = |rating: Power| rating.scale(1.0 + limits.power_share) + limits.power_slack;
    let high = with_margin(evse.max_charge);
    let low = -with_margin(evse.max_discharge);
    if low <= power && power <= high {
        Ok(())
    } else {
        Err(Refusal::Power { power, low, high })
    }
}

fn check_register(
    value: Energy,
    at: DateTime<Utc>,
    last: Option<RegisterAt>,
    rating: Power,
    register: &'static str,
    limits: &Limits,
) -> Result<(), Refusal> {
    if value < Energy::ZERO {
        return Err(Refusal::Negative { register, value });
    }
    let Some(last) = last else { return Ok(()) };
    let (before, after) = if at < last.at {
        (value, last.value)
    } else {
        (last.value, value)
    };
    if after < before {
        return Err(Refusal::StepsBack {
            register,
            before,
            after,
        });
    }
    let most = rating
        .scale(1.0 + limits.power_share)
        .over((at - last.at).abs() + TimeDelta::seconds(1))
        + limits.register_slack;
    if after - before > most {
        return Err(Refusal::Jumps {
            register,
            before,
            after,
            most,
        });
    }
    Ok(())
}

impl Accepted {
    /// Takes in what [`check`] kept.
    pub fn take(&mut self, kept: &Reading) {
        let newer = |known: Option<RegisterAt>, value: Option<Energy>| match (known, value) {
            (Some(known), _) if known.at > kept.at => Some(known),
            (_, Some(value)) => Some(RegisterAt { value, at: kept.at }),
            (known, None) => known,
        };
        self.import = newer(self.import, kept.import_register);
        self.export = newer(self.export, kept.export_register);
        if self
            .newest
            .as_ref()
            .is_none_or(|newest| newest.at <= kept.at)
        {
            self.newest = Some(kept.clone());
        }
    }
}
