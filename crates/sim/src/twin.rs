//! The unmanaged twin: the same stays with nobody in charge. Every vehicle charges at full power from plug-in until the
//! level its driver asked for.

use std::collections::BTreeMap;

use ::fleet::SiteId;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use units::Energy;

use crate::fleet::{Fleet, Stay};

/// Length of a settlement interval.
const QUARTER: TimeDelta = TimeDelta::minutes(15);

/// Lowest level at which a vehicle arrives: its driver charges on the way before it is lower.
const LOWEST_SHARE: f64 = 0.05;

/// How one stay went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stayed {
    /// The stay.
    pub stay: Stay,
    /// Level at plug-in.
    pub arrival: Energy,
    /// Level at plug-out.
    pub departure: Energy,
    /// When it stopped charging (at the latest at plug-out).
    pub done: DateTime<Utc>,
}

/// Level at plug-in after driving `driven` from `before`.
#[must_use]
pub fn arrival(capacity: Energy, before: Energy, driven: Energy) -> Energy {
    (before - driven).max(Energy::from_kwh(capacity.kwh() * LOWEST_SHARE))
}

/// Level that full power from plug-in to plug-out reaches at most: less than the requirement if the stay is too short.
#[must_use]
pub fn reachable(fleet: &Fleet, stay: &Stay, arrival: Energy) -> Energy {
    let (vehicle, evse) = (
        &fleet.vehicles()[stay.vehicle],
        &fleet.evses()[stay.vehicle],
    );
    let hours = (stay.plug_out - stay.plug_in).as_seconds_f64() / 3_600.0;
    let most = arrival.kwh() + evse.max_charge.kw() * evse.charge_efficiency.share() * hours;
    Energy::from_kwh(most.min(vehicle.capacity.kwh()))
}

/// How every stay that overlaps `from..to` goes when nobody manages it, in order of vehicle and time. The first stay of
/// each vehicle is taken to have left its former one with what the driver wanted.
#[must_use]
pub fn unmanaged(fleet: &Fleet, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Stayed> {
    let mut all = Vec::new();
    for (number, vehicle) in fleet.vehicles().iter().enumerate() {
        let mut level = vehicle.wanted;
        for stay in fleet.stays_of(number, from, to) {
            let stayed = charge_at_once(fleet, stay, level);
            level = stayed.departure;
            all.push(stayed);
        }
    }
    all
}

fn charge_at_once(fleet: &Fleet, stay: Stay, before: Energy) -> Stayed {
    let (vehicle, evse) = (
        &fleet.vehicles()[stay.vehicle],
        &fleet.evses()[stay.vehicle],
    );
    let arrival = arrival(vehicle.capacity, before, stay.driven);
    let departure = reachable(fleet, &stay, arrival)
        .min(stay.required)
        .max(arrival);
    let kw = evse.max_charge.kw() * evse.charge_efficiency.share();
    let seconds = (departure - arrival).kwh() / kw * 3_600.0;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "at most the length of a stay"
    )]
    let charging = TimeDelta::milliseconds((seconds * 1e3).round() as i64);
    let done = (stay.plug_in + charging).min(stay.plug_out);
    Stayed {
        stay,
        arrival,
        departure,
        done,
    }
}

impl Stayed {
    /// Level at `at`, between plug-in and plug-out; before and after, the level at that end.
    #[must_use]
    pub fn level_at(&self, at: DateTime<Utc>) -> Energy {
        let charging = (self.done - self.stay.plug_in).as_seconds_f64();
        let past = (at.clamp(self.stay.plug_in, self.done) - self.stay.plug_in).as_seconds_f64();
        if charging <= 0.0 {
            return self.departure;
        }
        self.arrival + Energy::from_kwh((self.departure - self.arrival).kwh() * (past / charging))
    }

    /// Energy taken from the grid over `from..to`.
    #[must_use]
    pub fn taken(&self, fleet: &Fleet, from: DateTime<Utc>, to: DateTime<Utc>) -> Energy {
        let efficiency = fleet.evses()[self.stay.vehicle].charge_efficiency.share();
        Energy::from_kwh((self.level_at(to) - self.level_at(from)).kwh() / efficiency)
    }
}

/// Energy taken from the grid per site and quarter hour over `from..to`, which are whole quarter hours.
#[must_use]
pub fn load(
    fleet: &Fleet,
    stays: &[Stayed],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> BTreeMap<(SiteId, DateTime<Utc>), Energy> {
    let mut load: BTreeMap<(SiteId, DateTime<Utc>), Energy> = BTreeMap::new();
    for stayed in stays {
        let site = &fleet.evses()[stayed.stay.vehicle].site;
        let mut start = stayed
            .stay
            .plug_in
            .duration_trunc(QUARTER)
            .unwrap_or(from)
            .max(from);
        while start < stayed.done.min(to) {
            let taken = stayed.taken(fleet, start, start + QUARTER);
            *load.entry((site.clone(), start)).or_default() += taken;
            start += QUARTER;
        }
    }
    load
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Settings;
    use chrono_tz::Europe::Amsterdam;
    use proptest::prelude::*;

    fn fleet(seed: u64) -> Fleet {
        Fleet::new(Settings {
            seed,
            cars: 24,
            buses: 6,
            zone: Amsterdam,
        })
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_fleet_and_another_seed_another() {
        let (from, to) = (at("2026-06-09T04:00:00Z"), at("2026-06-11T04:00:00Z"));
        assert_eq!(fleet(1), fleet(1));
        assert_eq!(fleet(1).stays(from, to), fleet(1).stays(from, to));
        assert_ne!(fleet(1).stays(from, to), fleet(2).stays(from, to));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_stay_does_not_depend_on_the_window_it_is_asked_for(seed in 0_u64..50, day in 0_i64..360) {
            let fleet = fleet(seed);
            let from = at("2026-01-02T00:00:00Z") + TimeDelta::days(day);
            let (mid, to) = (from + TimeDelta::hours(30), from + TimeDelta::days(4));
            let whole = fleet.stays(from, to);
            let part: Vec<Stay> = whole.iter().filter(|s| s.plug_out > mid).cloned().collect();
            prop_assert_eq!(fleet.stays(mid, to), part);
        }

        #[test]
        fn stays_of_one_vehicle_never_overlap_and_levels_stay_in_the_battery(seed in 0_u64..50, day in 0_i64..360) {
            let fleet = fleet(seed);
            let from = at("2026-01-02T00:00:00Z") + TimeDelta::days(day);
            let stays = unmanaged(&fleet, from, from + TimeDelta::days(10));
            for pair in stays.windows(2).filter(|p| p[0].stay.vehicle == p[1].stay.vehicle) {
                prop_assert!(pair[0].stay.plug_out < pair[1].stay.plug_in);
            }
            for s in &stays {
                let capacity = fleet.vehicles()[s.stay.vehicle].capacity;
                prop_assert!(s.stay.plug_in < s.stay.plug_out);
                prop_assert!(Energy::ZERO < s.arrival && s.arrival <= s.departure && s.departure <= capacity);
                prop_assert!(s.stay.required <= capacity);
            }
        }
    }

    #[test]
    fn the_load_of_the_sites_is_what_the_vehicles_take() {
        let fleet = fleet(3);
        let (from, to) = (at("2026-06-09T04:00:00Z"), at("2026-06-12T04:00:00Z"));
        let stays = unmanaged(&fleet, from, to);
        let sites: Energy = load(&fleet, &stays, from, to).into_values().sum();
        let vehicles: Energy = stays.iter().map(|s| s.taken(&fleet, from, to)).sum();
        assert!((sites - vehicles).kwh().abs() < 0.01, "{sites} {vehicles}");
        assert!(vehicles.kwh() > 1_000.0, "{vehicles}");
    }
}
