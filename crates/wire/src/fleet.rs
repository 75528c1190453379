//! `shoal.fleet.v1`: what is plugged in now, and past stays.

use fleet::state::PowerAt;
use fleet::{Evse, EvseState, Protocol, Session, SessionState, Site};
use units::{Efficiency, Energy, Power, Soc};

use crate::proto::fleet::v1 as proto;
use crate::{WireError, field};

const PROTOCOLS: [(Protocol, &str); 3] = [
    (Protocol::Ocpp16, Protocol::Ocpp16.name()),
    (Protocol::Ocpp201, Protocol::Ocpp201.name()),
    (Protocol::Ocpp21, Protocol::Ocpp21.name()),
];

impl From<&Evse> for proto::Evse {
    fn from(evse: &Evse) -> Self {
        Self {
            evse_id: evse.id.to_string(),
            station_id: evse.station.to_string(),
            site_id: evse.site.to_string(),
            class: evse.class.clone(),
            protocol: evse.protocol.name().to_owned(),
            max_charge_watts: evse.max_charge.watts(),
            max_discharge_watts: evse.max_discharge.watts(),
            charge_efficiency: evse.charge_efficiency.share(),
            discharge_efficiency: evse.discharge_efficiency.share(),
        }
    }
}

impl TryFrom<proto::Evse> for Evse {
    type Error = WireError;
    fn try_from(wire: proto::Evse) -> Result<Self, WireError> {
        Ok(Self {
            id: field::text("evse_id", &wire.evse_id)?,
            station: field::text("station_id", &wire.station_id)?,
            site: field::text("site_id", &wire.site_id)?,
            class: wire.class,
            protocol: field::word("protocol", &wire.protocol, &PROTOCOLS)?,
            max_charge: field::size("max_charge_watts", wire.max_charge_watts)?,
            max_discharge: field::size("max_discharge_watts", wire.max_discharge_watts)?,
            charge_efficiency: field::efficiency("charge_efficiency", wire.charge_efficiency)?,
            discharge_efficiency: field::efficiency(
                "discharge_efficiency",
                wire.discharge_efficiency,
            )?,
        })
    }
}

impl From<&Site> for proto::Site {
    fn from(site: &Site) -> Self {
        Self {
            site_id: site.id.to_string(),
            name: site.name.clone(),
            import_limit_watts: site.import_limit.watts(),
            export_limit_watts: site.export_limit.watts(),
        }
    }
}

impl TryFrom<proto::Site> for Site {
    type Error = WireError;
    fn try_from(wire: proto::Site) -> Result<Self, WireError> {
        Ok(Self {
            id: field::text("site_id", &wire.site_id)?,
            name: wire.name,
            import_limit: field::size("import_limit_watts", wire.import_limit_watts)?,
            export_limit: field::size("export_limit_watts", wire.export_limit_watts)?,
        })
    }
}

impl From<&EvseState> for proto::EvseState {
    fn from(state: &EvseState) -> Self {
        let evse = proto::Evse::from(&state.evse);
        Self {
            evse_id: evse.evse_id,
            station_id: evse.station_id,
            site_id: evse.site_id,
            class: evse.class,
            protocol: evse.protocol,
            max_charge_watts: evse.max_charge_watts,
            max_discharge_watts: evse.max_discharge_watts,
            charge_efficiency: evse.charge_efficiency,
            discharge_efficiency: evse.discharge_efficiency,
            online: state.online,
            changed_at_micros: state.changed_at.timestamp_micros(),
            session: state.session.as_ref().map(Into::into),
            power_watts: state.power.map(|p| p.power.watts()),
            power_at_micros: state.power.map(|p| p.at.timestamp_micros()),
            setpoint_watts: state.setpoint.map(|p| p.power.watts()),
            setpoint_at_micros: state.setpoint.map(|p| p.at.timestamp_micros()),
            unresponsive: state.unresponsive,
        }
    }
}

impl TryFrom<proto::EvseState> for EvseState {
    type Error = WireError;
    fn try_from(wire: proto::EvseState) -> Result<Self, WireError> {
        let evse = Evse::try_from(proto::Evse {
            evse_id: wire.evse_id,
            station_id: wire.station_id,
            site_id: wire.site_id,
            class: wire.class,
            protocol: wire.protocol,
            max_charge_watts: wire.max_charge_watts,
            max_discharge_watts: wire.max_discharge_watts,
            charge_efficiency: wire.charge_efficiency,
            discharge_efficiency: wire.discharge_efficiency,
        })?;
        let session = wire
            .session
            .map(|s| session_state(&s, &evse).map_err(|e| e.inside("session")))
            .transpose()?;
        Ok(Self {
            evse,
            online: wire.online,
            changed_at: field::instant("changed_at_micros", wire.changed_at_micros)?,
            session,
            power: power_at("power_at_micros", wire.power_watts, wire.power_at_micros)?,
            setpoint: power_at(
                "setpoint_at_micros",
                wire.setpoint_watts,
                wire.setpoint_at_micros,
            )?,
            unresponsive: wire.unresponsive,
        })
    }
}

/// A power without its instant means nothing.
fn power_at(
    field: &str,
    watts: Option<i64>,
    micros: Option<i64>,
) -> Result<Option<PowerAt>, WireError> {
    watts
        .map(|w| {
            Ok(PowerAt {
                power: Power::from_watts(w),
                at: field::instant(field, field::required(field, micros)?)?,
            })
        })
        .transpose()
}

impl From<&SessionState> for proto::Session {
    fn from(state: &SessionState) -> Self {
        Self {
            session_id: state.session.id.to_string(),
            vehicle_id: state.session.vehicle.as_ref().map(ToString::to_string),
            plugged_in_micros: state.session.plugged_in.timestamp_micros(),
            needs: state.session.needs.as_ref().map(Into::into),
            added_joules: state.added.map(Energy::joules),
            soc_ratio: state.soc.map(Soc::share),
        }
    }
}

/// A stay in progress: its outlet and site are those of the EVSE it is part of.
fn session_state(wire: &proto::Session, evse: &Evse) -> Result<SessionState, WireError> {
    Ok(SessionState {
        session: Session {
            id: field::text("session_id", &wire.session_id)?,
            evse: evse.id.clone(),
            site: evse.site.clone(),
            vehicle: field::optional_text("vehicle_id", wire.vehicle_id.as_deref())?,
            plugged_in: field::instant("plugged_in_micros", wire.plugged_in_micros)?,
            unplugged: None,
            needs: field::optional_message("needs", wire.needs)?,
        },
        // More may have left a battery than reached it since plug-in.
        added: wire.added_joules.map(Energy::from_joules),
        soc: field::optional_soc("soc_ratio", wire.soc_ratio)?,
    })
}

/// A stay as the forecaster learns from it: what happened, and where.
#[derive(Debug, Clone, PartialEq)]
pub struct PastSession {
    /// The stay; `unplugged` is absent while it lasts.
    pub session: Session,
    /// Energy that reached the battery; `None` if nothing was measured.
    pub added: Option<Energy>,
    /// Class of the place.
    pub class: String,
    /// Highest charging power of the outlet at the grid side.
    pub max_charge: Power,
    /// Highest discharging power of the outlet at the grid side as a magnitude.
    pub max_discharge: Power,
    /// Share of grid energy that reaches the battery.
    pub charge_efficiency: Efficiency,
    /// Share of battery energy that reaches the grid.
    pub discharge_efficiency: Efficiency,
}

impl PastSession {
    /// The stay `session` at `evse`, with the energy that reached the battery.
    #[must_use]
    pub fn new(session: Session, added: Option<Energy>, evse: &Evse) -> Self {
        Self {
            session,
            added,
            class: evse.class.clone(),
            max_charge: evse.max_charge,
            max_discharge: evse.max_discharge,
            charge_efficiency: evse.charge_efficiency,
            discharge_efficiency: evse.discharge_efficiency,
        }
    }
}

impl From<&PastSession> for proto::PastSession {
    fn from(past: &PastSession) -> Self {
        let session = &past.session;
        Self {
            session_id: session.id.to_string(),
            evse_id: session.evse.to_string(),
            site_id: session.site.to_string(),
            class: past.class.clone(),
            vehicle_id: session.vehicle.as_ref().map(ToString::to_string),
            plugged_in_micros: session.plugged_in.timestamp_micros(),
            unplugged_micros: session.unplugged.map(|u| u.timestamp_micros()),
            needs: session.needs.as_ref().map(Into::into),
            added_joules: past.added.map(Energy::joules),
            max_charge_watts: past.max_charge.watts(),
            max_discharge_watts: past.max_discharge.watts(),
            charge_efficiency: past.charge_efficiency.share(),
            discharge_efficiency: past.discharge_efficiency.share(),
        }
    }
}

impl TryFrom<proto::PastSession> for PastSession {
    type Error = WireError;
    fn try_from(wire: proto::PastSession) -> Result<Self, WireError> {
        Ok(Self {
            session: Session {
                id: field::text("session_id", &wire.session_id)?,
                evse: field::text("evse_id", &wire.evse_id)?,
                site: field::text("site_id", &wire.site_id)?,
                vehicle: field::optional_text("vehicle_id", wire.vehicle_id.as_deref())?,
                plugged_in: field::instant("plugged_in_micros", wire.plugged_in_micros)?,
                unplugged: field::optional_instant("unplugged_micros", wire.unplugged_micros)?,
                needs: field::optional_message("needs", wire.needs)?,
            },
            added: wire.added_joules.map(Energy::from_joules),
            class: wire.class,
            max_charge: field::size("max_charge_watts", wire.max_charge_watts)?,
            max_discharge: field::size("max_discharge_watts", wire.max_discharge_watts)?,
            charge_efficiency: field::efficiency("charge_efficiency", wire.charge_efficiency)?,
            discharge_efficiency: field::efficiency(
                "discharge_efficiency",
                wire.discharge_efficiency,
            )?,
        })
    }
}
