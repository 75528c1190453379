//! What stands behind a limit in amperes: the phases and the voltage of an outlet.

use std::collections::BTreeMap;

use ocpp_kit::Version;
use ocpp_kit::types::Decimal;
use units::Power;

use crate::config::SupplyConfig;
use crate::meter::Sample;
use crate::sign;
use crate::station::Outlets;

/// Above three phases of 63 A at 230 V no outlet gives alternating current (IEC 62196-2, type 2).
const MOST_AC: Power = Power::from_watts(43_470);
/// What a meter may say of the voltage between a phase and neutral, in volts; anything else is no mains voltage.
const VOLTAGES: std::ops::RangeInclusive<i64> = 80..=300;

/// Phases and voltage of an outlet with alternating current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Supply {
    phases: u8,
    decivolts: u32,
}

impl Supply {
    /// One to three phases, each of so many tenths of a volt against neutral; `None` for what cannot be.
    pub(crate) fn try_new(phases: u8, decivolts: u32) -> Option<Self> {
        let lawful = (1..=3).contains(&phases) && decivolts > 0;
        lawful.then_some(Self { phases, decivolts })
    }

    /// How many phases share a current.
    pub(crate) const fn phases(self) -> u8 {
        self.phases
    }

    /// Power of one tenth of an ampere in each phase, in hundredths of a watt.
    pub(crate) fn centiwatts_per_deciampere(self) -> i64 {
        i64::from(self.phases) * i64::from(self.decivolts)
    }
}

/// In what a limit is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// Watts.
    Watts,
    /// Amperes in each phase.
    Amperes(Supply),
}

/// What a station said of the supply of its outlets, and what their meters showed.
#[derive(Debug, Default)]
pub(crate) struct Supplies {
    /// Phases by outlet; zero is direct current.
    phases: BTreeMap<i32, u8>,
    /// Nominal voltage of its feed, in volts.
    volts: Option<u32>,
    /// Highest phase voltage in the newest sample that told any, in tenths of a volt, by outlet.
    metered: BTreeMap<i32, u32>,
}

impl Supplies {
    /// The station said how many phases an outlet has.
    pub(crate) fn learn_phases(&mut self, place: i32, value: &str) {
        if let Ok(phases) = value.trim().parse()
            && phases <= 3
        {
            self.phases.insert(place, phases);
        }
    }

    /// The station said the voltage of its feed.
    pub(crate) fn learn_volts(&mut self, value: &str) {
        let volts = value
            .trim()
            .parse()
            .ok()
            .and_then(|v: Decimal| v.round_to(0));
        let volts = volts.and_then(|v| i64::try_from(v).ok());
        let volts = volts.filter(|v| VOLTAGES.contains(v));
        self.volts = volts.and_then(|v| v.try_into().ok()).or(self.volts);
    }

    /// A meter showed voltages; of several phases the highest counts.
    pub(crate) fn meter(&mut self, place: i32, samples: &[Sample]) {
        let volts = samples.iter().filter(|s| s.measurand == "Voltage");
        let volts = volts.filter(|s| s.phase.as_deref().is_none_or(to_neutral));
        let volts = volts.filter(|s| s.location.as_deref() != Some("EV"));
        let lawful = volts.filter_map(|s| decivolts(s.value, s.exponent));
        if let Some(highest) = lawful.max() {
            self.metered.insert(place, highest);
        }
    }
}

fn to_neutral(phase: &str) -> bool {
    ["L1", "L2", "L3", "L1-N", "L2-N", "L3-N"].contains(&phase)
}

fn decivolts(value: Decimal, exponent: i32) -> Option<u32> {
    let tenths = value.checked_pow10(exponent.checked_add(1)?)?.round_to(0)?;
    let tenths = i64::try_from(tenths).ok()?;
    VOLTAGES.contains(&(tenths / 10)).then_some(())?;
    tenths.try_into().ok()
}

impl Outlets {
    /// The supply of an outlet: as its meter shows, as the station says, as the settings say; in that order.
    ///
    /// # Errors
    /// Why a current cannot be turned into a power there.
    pub(crate) fn supply(&self, place: i32, config: &SupplyConfig) -> Result<Supply, String> {
        let said = self.supplies.phases.get(&place).copied();
        let direct = said == Some(0)
            || (said.is_none()
                && self
                    .station
                    .evse(place)
                    .is_some_and(|evse| evse.max_charge > MOST_AC));
        if direct {
            return Err(
                "the station takes limits in amperes only, and the voltage of direct current is the vehicle's"
                    .to_owned(),
            );
        }
        let phases = said.unwrap_or(config.phases);
        let metered = self.supplies.metered.get(&place).copied();
        let nominal = || {
            self.supplies
                .volts
                .unwrap_or(config.volts)
                .saturating_mul(10)
        };
        let decivolts = metered.unwrap_or_else(nominal);
        Supply::try_new(phases, decivolts)
            .ok_or_else(|| format!("{phases} phases of {decivolts} dV are no supply"))
    }

    /// In what limits have to be said at an outlet.
    ///
    /// # Errors
    /// Why none can be said, for the acknowledgement.
    pub(crate) fn rate(
        &self,
        version: Version,
        place: i32,
        config: &SupplyConfig,
    ) -> Result<Rate, String> {
        if self.known.watts != Some(false) {
            return Ok(Rate::Watts);
        }
        if version == Version::V2_1 {
            return Err("the station says that it takes limits in amperes only".to_owned());
        }
        self.supply(place, config).map(Rate::Amperes)
    }

    /// The power behind a limit in amperes that somebody else set: at most that much flows.
    ///
    /// # Errors
    /// Why it is not known.
    pub(crate) fn power_of(
        &self,
        place: i32,
        amperes: Decimal,
        phases: Option<i32>,
        config: &SupplyConfig,
    ) -> Result<Power, String> {
        let supply = self.supply(place, config)?;
        let said = phases.and_then(|phases| u8::try_from(phases).ok());
        let said = said.and_then(|phases| Supply::try_new(phases, supply.decivolts));
        sign::power_of_current(amperes, said.unwrap_or(supply)).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::station::tests::station;
    use fleet::Protocol;

    fn sample(value: &str, phase: Option<&str>) -> Sample {
        Sample {
            measurand: "Voltage".into(),
            value: value.parse().unwrap(),
            unit: Some("V".into()),
            exponent: 0,
            phase: phase.map(str::to_owned),
            location: None,
        }
    }

    fn outlets() -> Outlets {
        Outlets::new(station(Protocol::Ocpp201, 2), &BTreeMap::new())
    }

    #[test]
    fn the_meter_knows_better_than_the_station_and_the_station_than_the_settings() {
        let mut outlets = outlets();
        let config = SupplyConfig::default();
        assert_eq!(
            outlets.supply(1, &config),
            Ok(Supply {
                phases: 3,
                decivolts: 2_300
            })
        );
        outlets.supplies.learn_phases(1, "1");
        outlets.supplies.learn_volts("240.0");
        assert_eq!(
            outlets.supply(1, &config),
            Ok(Supply {
                phases: 1,
                decivolts: 2_400
            })
        );
        let three = [("231.4", "L1-N"), ("233.96", "L2-N"), ("404", "L1-L2")];
        let three = three.map(|(volts, phase)| sample(volts, Some(phase)));
        outlets.supplies.meter(1, &three);
        assert_eq!(
            outlets.supply(1, &config),
            Ok(Supply {
                phases: 1,
                decivolts: 2_340
            })
        );
        assert_eq!(
            outlets.supply(2, &config),
            Ok(Supply {
                phases: 3,
                decivolts: 2_400
            })
        );
    }

    #[test]
    fn what_is_no_mains_voltage_is_not_believed() {
        let mut outlets = outlets();
        outlets.supplies.meter(
            1,
            &[
                sample("0", None),
                sample("99999999", None),
                sample("-230", None),
            ],
        );
        outlets.supplies.learn_volts("230000");
        outlets.supplies.learn_phases(1, "7");
        let config = SupplyConfig::default();
        assert_eq!(
            outlets.supply(1, &config),
            Ok(Supply {
                phases: 3,
                decivolts: 2_300
            })
        );
    }

    #[test]
    fn the_current_of_direct_current_tells_no_power() {
        let mut outlets = outlets();
        outlets.supplies.learn_phases(1, "0");
        outlets.station.evses[1].max_charge = Power::from_kw(150.0);
        let config = SupplyConfig::default();
        for place in [1, 2] {
            assert!(
                outlets
                    .supply(place, &config)
                    .unwrap_err()
                    .contains("direct current")
            );
        }
    }
}
