//! A battery behind a charger and its meter, integrated exactly: the same instants give the same registers, whatever
//! happened to be read in between.

use chrono::{DateTime, TimeDelta, Utc};
use units::{Efficiency, Energy, Power};

/// Parts of a watt-microsecond: efficiencies are counted in millionths, so nothing is ever rounded.
const MILLION: i128 = 1_000_000;
/// Smallest counted piece of energy: a millionth of a watt for a microsecond.
const PER_JOULE: i128 = MILLION * MILLION;

/// Where a battery stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Discharging stops here, inside the battery.
    pub floor: Energy,
    /// Charging stops here, inside the battery.
    pub ceiling: Energy,
}

/// A battery, its charger and the two registers of its meter.
///
/// Power is at the grid side; positive charges. Between calls of [`Battery::set`] it is constant until the battery
/// meets a bound and stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Battery {
    stored: i128,
    import: i128,
    export: i128,
    charge_ppm: i128,
    drain_ppm: i128,
    bounds: Bounds,
    power: Power,
    at: DateTime<Utc>,
}

impl Battery {
    /// A battery at rest that holds `stored`, with registers at zero.
    #[must_use]
    pub fn new(
        at: DateTime<Utc>,
        stored: Energy,
        charge: Efficiency,
        discharge: Efficiency,
        bounds: Bounds,
    ) -> Self {
        Self {
            stored: pieces(stored),
            import: 0,
            export: 0,
            charge_ppm: ppm(charge.share()),
            drain_ppm: ppm(1.0 / discharge.share()),
            bounds,
            power: Power::ZERO,
            at,
        }
    }

    /// Starts the registers of the meter at these readings.
    #[must_use]
    pub fn with_registers(mut self, import: Energy, export: Energy) -> Self {
        self.import = pieces(import);
        self.export = pieces(export);
        self
    }

    /// Lets time pass until `at`; an earlier instant changes nothing.
    pub fn advance(&mut self, at: DateTime<Utc>) {
        let Some(micros) = (at - self.at).num_microseconds().filter(|m| *m > 0) else {
            return;
        };
        self.at = at;
        let held = self
            .micros_to_bound()
            .map_or(i128::from(micros), |left| left.min(micros.into()));
        let grid = i128::from(self.power.watts()) * held;
        if grid >= 0 {
            self.import += grid * MILLION;
            self.stored += grid * self.charge_ppm;
        } else {
            self.export -= grid * MILLION;
            self.stored += grid * self.drain_ppm;
        }
        if held < i128::from(micros) {
            self.power = Power::ZERO;
        }
    }

    /// Lets time pass until `at`, then holds `power`. A power that a bound forbids is zero.
    pub fn set(&mut self, at: DateTime<Utc>, power: Power) {
        self.advance(at);
        self.power = power;
        if self.micros_to_bound() == Some(0) {
            self.power = Power::ZERO;
        }
    }

    /// Moves the bounds from now on.
    pub fn rebound(&mut self, at: DateTime<Utc>, bounds: Bounds) {
        self.advance(at);
        self.bounds = bounds;
        self.set(at, self.power);
    }

    /// Power at the grid side at the instant advanced to.
    #[must_use]
    pub fn power(&self) -> Power {
        if self.micros_to_bound() == Some(0) {
            Power::ZERO
        } else {
            self.power
        }
    }

    /// Energy inside the battery, whole joules rounded down.
    #[must_use]
    pub fn stored(&self) -> Energy {
        joules(self.stored)
    }

    /// Register of energy taken from the grid, whole joules rounded down.
    #[must_use]
    pub fn import_register(&self) -> Energy {
        joules(self.import)
    }

    /// Register of energy given to the grid, whole joules rounded down.
    #[must_use]
    pub fn export_register(&self) -> Energy {
        joules(self.export)
    }

    /// When the battery meets a bound at the power held; `None` if it never does.
    #[must_use]
    pub fn stops_at(&self) -> Option<DateTime<Utc>> {
        let micros = i64::try_from(self.micros_to_bound()?).ok()?;
        self.at.checked_add_signed(TimeDelta::microseconds(micros))
    }

    /// Microseconds, rounded up, until a bound is met at the power held.
    fn micros_to_bound(&self) -> Option<i128> {
        let (room, rate) = match self.power.watts() {
            0 => return None,
            watts @ 1.. => {
                let room = pieces(self.bounds.ceiling) - self.stored;
                (room, i128::from(watts) * self.charge_ppm)
            }
            watts => {
                let room = self.stored - pieces(self.bounds.floor);
                (room, -i128::from(watts) * self.drain_ppm)
            }
        };
        Some((room.max(0) + rate - 1) / rate)
    }
}

/// Instant at which `energy` has reached the battery at constant grid power from `from`; `None` if it never does.
#[must_use]
pub fn reached_at(
    from: DateTime<Utc>,
    energy: Energy,
    power: Power,
    charge: Efficiency,
) -> Option<DateTime<Utc>> {
    if energy <= Energy::ZERO {
        return Some(from);
    }
    let rate = i128::from(power.watts()) * ppm(charge.share());
    if rate <= 0 {
        return None;
    }
    let micros = i64::try_from((pieces(energy) + rate - 1) / rate).ok()?;
    from.checked_add_signed(TimeDelta::microseconds(micros))
}

const fn pieces(energy: Energy) -> i128 {
    energy.joules() as i128 * PER_JOULE
}

fn joules(pieces: i128) -> Energy {
    // A register of 2^63 joules lasts longer than any meter.
    Energy::from_joules(i64::try_from(pieces.div_euclid(PER_JOULE)).unwrap_or(i64::MAX))
}

#[expect(clippy::cast_possible_truncation, reason = "a share times a million")]
fn ppm(share: f64) -> i128 {
    ((share * 1e6).round() as i128).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_700_000_000_000 + millis).unwrap()
    }

    fn battery(kwh: f64) -> Battery {
        let efficiency = Efficiency::try_new(0.94).unwrap();
        let bounds = Bounds {
            floor: Energy::from_kwh(10.0),
            ceiling: Energy::from_kwh(60.0),
        };
        Battery::new(at(0), Energy::from_kwh(kwh), efficiency, efficiency, bounds)
    }

    proptest! {
        #[test]
        fn reading_in_between_changes_nothing(
            start in 11.0_f64..59.0,
            powers in prop::collection::vec((-11_000_i64..11_000, 1_i64..10_000_000), 1..12),
            reads in prop::collection::vec(0_i64..30_000_000, 0..40),
        ) {
            let (mut plain, mut read) = (battery(start), battery(start));
            let mut now = 0;
            for (watts, millis) in powers {
                plain.set(at(now), Power::from_watts(watts));
                read.set(at(now), Power::from_watts(watts));
                let mut stops: Vec<i64> = reads.iter().map(|r| now + r % millis).collect();
                stops.sort_unstable();
                for stop in stops {
                    let before = (read.import_register(), read.export_register());
                    read.advance(at(stop));
                    prop_assert!(read.import_register() >= before.0);
                    prop_assert!(read.export_register() >= before.1);
                }
                now += millis;
                plain.advance(at(now));
                read.advance(at(now));
            }
            prop_assert_eq!(plain, read);
        }

        #[test]
        fn energy_is_kept(watts in -11_000_i64..11_000, millis in 1_i64..10_000_000, start in 10.0_f64..60.0) {
            let mut battery = battery(start);
            let before = battery.stored;
            battery.set(at(0), Power::from_watts(watts));
            battery.advance(at(millis));
            let drain = ppm(1.0 / 0.94);
            prop_assert_eq!(
                (battery.stored - before) * MILLION,
                battery.import * 940_000 - battery.export * drain
            );
            // A bound is met within one microsecond of power.
            let slack = i128::from(watts.abs()) * drain;
            prop_assert!(battery.stored <= pieces(Energy::from_kwh(60.0)).max(before) + slack);
            prop_assert!(battery.stored >= pieces(Energy::from_kwh(10.0)).min(before) - slack);
        }
    }

    #[test]
    fn registers_are_exact_at_any_instant() {
        let mut battery = battery(20.0).with_registers(Energy::from_wh(5), Energy::ZERO);
        battery.set(at(0), Power::from_kw(3.6));
        battery.advance(at(1_500));
        assert_eq!(
            battery.import_register(),
            Energy::from_joules(5 * 3_600 + 5_400)
        );
        battery.set(at(1_500), Power::from_kw(-3.6));
        battery.advance(at(2_500));
        assert_eq!(battery.export_register(), Energy::from_joules(3_600));
    }

    #[test]
    fn it_stops_at_its_bounds_by_itself() {
        let mut full = battery(59.0);
        full.set(at(0), Power::from_kw(10.0));
        let stop = full.stops_at().unwrap();
        full.advance(at(3_600_000));
        assert_eq!(
            (full.stored(), full.power()),
            (Energy::from_kwh(60.0), Power::ZERO)
        );
        let bought = Energy::from_kwh(1.0 / 0.94);
        assert!((full.import_register() - bought).joules().abs() <= 1);
        assert_eq!((stop - at(0)).num_seconds(), 382);
        full.set(at(3_600_000), Power::from_kw(1.0));
        assert_eq!(full.power(), Power::ZERO);
        let mut empty = battery(10.0);
        empty.set(at(0), Power::from_kw(-5.0));
        empty.advance(at(60_000));
        assert_eq!(empty.export_register(), Energy::ZERO);
    }

    #[test]
    fn the_time_to_reach_an_energy_is_the_time_it_takes() {
        let efficiency = Efficiency::try_new(0.94).unwrap();
        let energy = Energy::from_kwh(9.4);
        let done = reached_at(at(0), energy, Power::from_kw(10.0), efficiency).unwrap();
        assert_eq!(done, at(3_600_000));
        assert_eq!(reached_at(at(0), energy, Power::ZERO, efficiency), None);
    }
}
