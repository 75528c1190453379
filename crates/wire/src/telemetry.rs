//! `shoal.telemetry.v1`: what stations tell.

use fleet::metering::MeterInterval;
use fleet::setpoint::Outcome;
use fleet::{Acknowledgement, Needs, Reading, Telemetry};
use units::{Energy, Power};

use crate::proto::telemetry::v1 as proto;
use crate::proto::telemetry::v1::telemetry::Event;
use crate::{WireError, field};

impl From<&Telemetry> for proto::Telemetry {
    fn from(telemetry: &Telemetry) -> Self {
        let event = match telemetry {
            Telemetry::Connection {
                station,
                evses,
                online,
                at,
            } => Event::Connection(proto::Connection {
                station_id: station.to_string(),
                evse_ids: evses.iter().map(ToString::to_string).collect(),
                online: *online,
                at_micros: at.timestamp_micros(),
            }),
            Telemetry::PluggedIn {
                session,
                evse,
                vehicle,
                at,
            } => Event::PluggedIn(proto::PluggedIn {
                session_id: session.to_string(),
                evse_id: evse.to_string(),
                vehicle_id: vehicle.as_ref().map(ToString::to_string),
                at_micros: at.timestamp_micros(),
            }),
            Telemetry::Needs {
                evse,
                session,
                needs,
                at,
            } => Event::Needs(proto::NeedsStated {
                evse_id: evse.to_string(),
                session_id: session.to_string(),
                needs: Some(needs.into()),
                at_micros: at.timestamp_micros(),
            }),
            Telemetry::Reading(reading) => Event::Reading(reading.into()),
            Telemetry::Unplugged { session, evse, at } => Event::Unplugged(proto::Unplugged {
                session_id: session.to_string(),
                evse_id: evse.to_string(),
                at_micros: at.timestamp_micros(),
            }),
            Telemetry::Acknowledged(ack) => Event::Acknowledged(ack.into()),
        };
        Self { event: Some(event) }
    }
}

impl TryFrom<proto::Telemetry> for Telemetry {
    type Error = WireError;
    fn try_from(wire: proto::Telemetry) -> Result<Self, WireError> {
        match field::required("event", wire.event)? {
            Event::Connection(c) => connection(&c).map_err(|e| e.inside("connection")),
            Event::PluggedIn(p) => plugged_in(&p).map_err(|e| e.inside("plugged_in")),
            Event::Needs(n) => needs_stated(&n).map_err(|e| e.inside("needs")),
            Event::Reading(r) => field::message("reading", Some(r)).map(Self::Reading),
            Event::Unplugged(u) => unplugged(&u).map_err(|e| e.inside("unplugged")),
            Event::Acknowledged(a) => {
                field::message("acknowledged", Some(a)).map(Self::Acknowledged)
            }
        }
    }
}

fn connection(wire: &proto::Connection) -> Result<Telemetry, WireError> {
    Ok(Telemetry::Connection {
        station: field::text("station_id", &wire.station_id)?,
        evses: field::texts("evse_ids", &wire.evse_ids)?,
        online: wire.online,
        at: field::instant("at_micros", wire.at_micros)?,
    })
}

fn plugged_in(wire: &proto::PluggedIn) -> Result<Telemetry, WireError> {
    Ok(Telemetry::PluggedIn {
        session: field::text("session_id", &wire.session_id)?,
        evse: field::text("evse_id", &wire.evse_id)?,
        vehicle: field::optional_text("vehicle_id", wire.vehicle_id.as_deref())?,
        at: field::instant("at_micros", wire.at_micros)?,
    })
}

fn needs_stated(wire: &proto::NeedsStated) -> Result<Telemetry, WireError> {
    Ok(Telemetry::Needs {
        evse: field::text("evse_id", &wire.evse_id)?,
        session: field::text("session_id", &wire.session_id)?,
        needs: field::message("needs", wire.needs)?,
        at: field::instant("at_micros", wire.at_micros)?,
    })
}

fn unplugged(wire: &proto::Unplugged) -> Result<Telemetry, WireError> {
    Ok(Telemetry::Unplugged {
        session: field::text("session_id", &wire.session_id)?,
        evse: field::text("evse_id", &wire.evse_id)?,
        at: field::instant("at_micros", wire.at_micros)?,
    })
}

impl From<&Needs> for proto::Needs {
    fn from(needs: &Needs) -> Self {
        Self {
            departure_micros: needs.departure.map(|d| d.timestamp_micros()),
            energy_joules: needs.energy.joules(),
            stored_joules: needs.stored.map(Energy::joules),
            capacity_joules: needs.capacity.map(Energy::joules),
            max_charge_watts: needs.max_charge.watts(),
            max_discharge_watts: needs.max_discharge.watts(),
            floor_joules: needs.floor.joules(),
        }
    }
}

impl TryFrom<proto::Needs> for Needs {
    type Error = WireError;
    fn try_from(wire: proto::Needs) -> Result<Self, WireError> {
        Ok(Self {
            departure: field::optional_instant("departure_micros", wire.departure_micros)?,
            energy: field::content("energy_joules", wire.energy_joules)?,
            stored: field::optional_content("stored_joules", wire.stored_joules)?,
            capacity: field::optional_content("capacity_joules", wire.capacity_joules)?,
            max_charge: field::size("max_charge_watts", wire.max_charge_watts)?,
            max_discharge: field::size("max_discharge_watts", wire.max_discharge_watts)?,
            floor: field::content("floor_joules", wire.floor_joules)?,
        })
    }
}

impl From<&Reading> for proto::Reading {
    fn from(reading: &Reading) -> Self {
        Self {
            evse_id: reading.evse.to_string(),
            session_id: reading.session.as_ref().map(ToString::to_string),
            at_micros: reading.at.timestamp_micros(),
            power_watts: reading.power.map(Power::watts),
            import_register_joules: reading.import_register.map(Energy::joules),
            export_register_joules: reading.export_register.map(Energy::joules),
            soc_ratio: reading.soc.map(units::Soc::share),
        }
    }
}

impl TryFrom<proto::Reading> for Reading {
    type Error = WireError;
    fn try_from(wire: proto::Reading) -> Result<Self, WireError> {
        Ok(Self {
            evse: field::text("evse_id", &wire.evse_id)?,
            session: field::optional_text("session_id", wire.session_id.as_deref())?,
            at: field::instant("at_micros", wire.at_micros)?,
            power: wire.power_watts.map(Power::from_watts),
            import_register: field::optional_content(
                "import_register_joules",
                wire.import_register_joules,
            )?,
            export_register: field::optional_content(
                "export_register_joules",
                wire.export_register_joules,
            )?,
            soc: field::optional_soc("soc_ratio", wire.soc_ratio)?,
        })
    }
}

impl From<&Acknowledgement> for proto::Acknowledgement {
    fn from(ack: &Acknowledgement) -> Self {
        let outcome = match ack.outcome {
            Outcome::Accepted => proto::Outcome::Accepted,
            Outcome::Rejected => proto::Outcome::Rejected,
            Outcome::Unreachable => proto::Outcome::Unreachable,
        };
        Self {
            setpoint_id: ack.setpoint.to_string(),
            evse_id: ack.evse.to_string(),
            signal_id: ack.signal.as_ref().map(ToString::to_string),
            outcome: outcome.into(),
            detail: ack.detail.clone(),
            sent_at_micros: ack.sent_at.timestamp_micros(),
            answered_at_micros: ack.answered_at.timestamp_micros(),
        }
    }
}

fn outcome(number: i32) -> Result<Outcome, WireError> {
    match proto::Outcome::try_from(number) {
        Ok(proto::Outcome::Accepted) => Ok(Outcome::Accepted),
        Ok(proto::Outcome::Rejected) => Ok(Outcome::Rejected),
        Ok(proto::Outcome::Unreachable) => Ok(Outcome::Unreachable),
        Ok(proto::Outcome::Unspecified) => Err(WireError::missing("outcome")),
        Err(_) => Err(WireError::invalid(
            "outcome",
            format!("{number} is unknown, expected 1 to 3"),
        )),
    }
}

impl TryFrom<proto::Acknowledgement> for Acknowledgement {
    type Error = WireError;
    fn try_from(wire: proto::Acknowledgement) -> Result<Self, WireError> {
        Ok(Self {
            setpoint: field::text("setpoint_id", &wire.setpoint_id)?,
            evse: field::text("evse_id", &wire.evse_id)?,
            signal: field::optional_text("signal_id", wire.signal_id.as_deref())?,
            outcome: outcome(wire.outcome)?,
            detail: wire.detail,
            sent_at: field::instant("sent_at_micros", wire.sent_at_micros)?,
            answered_at: field::instant("answered_at_micros", wire.answered_at_micros)?,
        })
    }
}

impl From<&MeterInterval> for proto::MeterInterval {
    fn from(meter: &MeterInterval) -> Self {
        Self {
            evse_id: meter.evse.to_string(),
            site_id: meter.site.to_string(),
            start_micros: meter.interval.start().timestamp_micros(),
            end_micros: meter.interval.end().timestamp_micros(),
            import_joules: meter.import.joules(),
            export_joules: meter.export.joules(),
            covered_seconds: meter.covered_seconds,
            version: meter.version,
        }
    }
}

impl TryFrom<proto::MeterInterval> for MeterInterval {
    type Error = WireError;
    fn try_from(wire: proto::MeterInterval) -> Result<Self, WireError> {
        Ok(Self {
            evse: field::text("evse_id", &wire.evse_id)?,
            site: field::text("site_id", &wire.site_id)?,
            interval: field::interval(wire.start_micros, wire.end_micros)?,
            import: field::content("import_joules", wire.import_joules)?,
            export: field::content("export_joules", wire.export_joules)?,
            covered_seconds: wire.covered_seconds,
            version: wire.version,
        })
    }
}
