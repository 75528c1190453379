//! Meter values of all versions as readings.

use chrono::{DateTime, Utc};
use fleet::{EvseId, Reading, SessionId};
use ocpp_kit::types::Decimal;
use units::{Energy, Power, Soc};

use crate::sign::{self, QuantityError};

/// One sampled value, in the names that all versions share on the wire.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) measurand: String,
    pub(crate) value: Decimal,
    pub(crate) unit: Option<String>,
    pub(crate) exponent: i32,
    pub(crate) phase: Option<String>,
    pub(crate) location: Option<String>,
}

/// What all versions assume where no measurand is given.
pub(crate) const DEFAULT_MEASURAND: &str = "Energy.Active.Import.Register";

/// A reading made of samples, and what was wrong with those that could not be used.
pub(crate) fn reading(
    evse: &EvseId,
    session: Option<SessionId>,
    at: DateTime<Utc>,
    samples: &[Sample],
) -> (Reading, Vec<String>) {
    let mut refused = Vec::new();
    let mut watts = |name| quantity(samples, name, sign::power, &mut refused);
    let import: Option<Power> = watts("Power.Active.Import");
    let export: Option<Power> = watts("Power.Active.Export");
    let mut joules = |name| quantity(samples, name, sign::energy, &mut refused);
    let import_register: Option<Energy> = joules(DEFAULT_MEASURAND);
    let export_register: Option<Energy> = joules("Energy.Active.Export.Register");
    let reading = Reading {
        evse: evse.clone(),
        session,
        at,
        power: sign::net_power(import, export),
        import_register,
        export_register,
        soc: state_of_charge(samples, &mut refused),
    };
    (reading, refused)
}

/// True if a reading says anything at all.
pub(crate) fn says_something(reading: &Reading) -> bool {
    reading.power.is_some()
        || reading.import_register.is_some()
        || reading.export_register.is_some()
        || reading.soc.is_some()
}

/// The samples of one measurand from the place nearest to the grid: the one without a phase, or the sum over phases.
fn quantity<Q: std::iter::Sum>(
    samples: &[Sample],
    measurand: &str,
    convert: impl Fn(Decimal, Option<&str>, i32) -> Result<Q, QuantityError>,
    refused: &mut Vec<String>,
) -> Option<Q> {
    let nearest = samples
        .iter()
        .filter(|s| s.measurand == measurand)
        .filter_map(|s| distance(s).map(|d| (d, s)));
    let place = nearest.clone().map(|(d, _)| d).min()?;
    let here: Vec<&Sample> = nearest
        .filter(|(d, _)| *d == place)
        .map(|(_, s)| s)
        .collect();
    let whole = here.iter().find(|s| s.phase.is_none());
    let parts: Vec<&Sample> = match whole {
        Some(sample) => vec![sample],
        None => here.into_iter().filter(|s| is_phase(s)).collect(),
    };
    let converted: Result<Vec<Q>, _> = parts
        .iter()
        .map(|s| convert(s.value, s.unit.as_deref(), s.exponent))
        .collect();
    match converted {
        Ok(values) if values.is_empty() => None,
        Ok(values) => Some(values.into_iter().sum()),
        Err(error) => {
            refused.push(format!("{measurand}: {error}"));
            None
        }
    }
}

/// How far from the grid a sample was taken; `None` for places that do not measure the connection.
fn distance(sample: &Sample) -> Option<u8> {
    match sample.location.as_deref() {
        Some("Upstream") => Some(0),
        Some("Inlet") => Some(1),
        None | Some("Outlet") => Some(2),
        Some(_) => None,
    }
}

fn is_phase(sample: &Sample) -> bool {
    let phases = ["L1", "L2", "L3", "L1-N", "L2-N", "L3-N"];
    sample.phase.as_deref().is_some_and(|p| phases.contains(&p))
}

fn state_of_charge(samples: &[Sample], refused: &mut Vec<String>) -> Option<Soc> {
    let sample = samples.iter().find(|s| s.measurand == "SoC")?;
    let share = sample.value.to_f64_lossy() / 100.0;
    Soc::try_new(share)
        .map_err(|error| refused.push(format!("SoC: {error}")))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(measurand: &str, value: &str, unit: &str) -> Sample {
        Sample {
            measurand: measurand.into(),
            value: value.parse().unwrap(),
            unit: Some(unit.into()),
            exponent: 0,
            phase: None,
            location: None,
        }
    }

    fn read(samples: &[Sample]) -> (Reading, Vec<String>) {
        let evse = "S/1".parse().unwrap();
        reading(&evse, None, DateTime::UNIX_EPOCH, samples)
    }

    #[test]
    fn a_discharge_at_the_plug_is_a_negative_reading() {
        let (reading, refused) = read(&[
            sample("Power.Active.Import", "0", "W"),
            sample("Power.Active.Export", "9.5", "kW"),
            sample("Energy.Active.Export.Register", "1.5", "kWh"),
        ]);
        assert!(refused.is_empty());
        assert_eq!(reading.power, Some(Power::from_watts(-9_500)));
        assert_eq!(reading.export_register, Some(Energy::from_wh(1_500)));
        assert_eq!(reading.import_register, None, "missing is not zero");
    }

    #[test]
    fn phases_add_up_unless_the_whole_is_given() {
        let phase = |name: &str, value: &str| Sample {
            phase: Some(name.into()),
            ..sample("Power.Active.Import", value, "W")
        };
        let phases = [phase("L1", "100"), phase("L2", "200"), phase("N", "9")];
        assert_eq!(read(&phases).0.power, Some(Power::from_watts(300)));
        let mut whole = phases.to_vec();
        whole.push(sample("Power.Active.Import", "310", "W"));
        assert_eq!(read(&whole).0.power, Some(Power::from_watts(310)));
    }

    #[test]
    fn the_grid_side_wins_and_the_vehicle_side_is_ignored() {
        let at = |place: &str, value: &str| Sample {
            location: Some(place.into()),
            ..sample("Power.Active.Import", value, "W")
        };
        let (reading, _) = read(&[at("EV", "1"), at("Outlet", "90"), at("Upstream", "100")]);
        assert_eq!(reading.power, Some(Power::from_watts(100)));
        assert_eq!(read(&[at("EV", "1")]).0.power, None);
    }

    #[test]
    fn what_cannot_be_used_is_said_and_the_rest_is_kept() {
        let (reading, refused) = read(&[
            sample("SoC", "130", "Percent"),
            sample("Power.Active.Import", "5", "A"),
            sample(DEFAULT_MEASURAND, "1", "kWh"),
        ]);
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(reading.import_register, Some(Energy::from_wh(1_000)));
        assert_eq!((reading.power, reading.soc), (None, None));
    }
}
