//! What happens at one outlet: a timeline of stays, orders and meter marks, advanced exactly to any instant.
//!
//! Nothing here waits. Whoever looks brings the time along; everything due until then happens at its own instant, in
//! order, however late somebody looks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use units::{Energy, Power};

use crate::battery::{Battery, Bounds};
use crate::fleet::{Fleet, Stay};
use crate::twin;

/// Clock-aligned meter values.
const QUARTER: TimeDelta = TimeDelta::minutes(15);
/// Before a run the fleet charged without anybody in charge for so long: enough to forget where it began.
const PAST: TimeDelta = TimeDelta::days(10);

/// Power that a station was told to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    /// At the grid side; positive charges.
    pub(crate) power: Power,
    /// When it takes hold.
    pub(crate) from: DateTime<Utc>,
    /// The dead-man switch: then the outlet charges plainly.
    pub(crate) until: Option<DateTime<Utc>>,
}

/// Something to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// A stay began with this level in the battery.
    PluggedIn { stay: Stay, arrival: Energy },
    /// A quarter hour of the clock passed.
    Aligned,
    /// A stay ended.
    Left { stay: Stay },
}

/// Meter and battery at one instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) at: DateTime<Utc>,
    pub(crate) import: Energy,
    pub(crate) export: Energy,
    pub(crate) power: Power,
    /// Energy in the battery; `None` while nobody is plugged in.
    pub(crate) stored: Option<Energy>,
}

/// Something to be told, with the meter at that instant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) what: What,
    pub(crate) meter: Meter,
}

/// How departures went.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Departures {
    pub(crate) begun: u64,
    pub(crate) ended: u64,
    pub(crate) left_short: u64,
    pub(crate) short: Energy,
}

#[derive(Debug)]
struct Plugged {
    stay: Stay,
    arrival: Energy,
    battery: Battery,
    order: Option<Order>,
    coming: Option<Order>,
}

/// One outlet and the vehicle that lives there.
#[derive(Debug)]
pub(crate) struct Outlet {
    fleet: Arc<Fleet>,
    vehicle: usize,
    tolerance: Energy,
    start: DateTime<Utc>,
    now: DateTime<Utc>,
    next_quarter: DateTime<Utc>,
    stays: VecDeque<Stay>,
    level: Energy,
    registers: (Energy, Energy),
    plugged: Option<Plugged>,
    reports: VecDeque<Report>,
    departures: Departures,
    quarters: BTreeMap<DateTime<Utc>, (Energy, Energy)>,
    marked: (Energy, Energy),
}

impl Outlet {
    /// The outlet of vehicle `vehicle` from `start` on, with the stays that begin before `until`. Up to `start` nobody
    /// was in charge; a stay in progress is told from its plug-in on. A departure counts as short from `tolerance` on.
    pub(crate) fn new(
        fleet: Arc<Fleet>,
        vehicle: usize,
        start: DateTime<Utc>,
        until: DateTime<Utc>,
        tolerance: Energy,
    ) -> Self {
        let mut level = fleet.vehicles()[vehicle].wanted;
        let mut stays: VecDeque<Stay> = fleet.stays_of(vehicle, start - PAST, until).into();
        while let Some(past) = stays.pop_front_if(|stay| stay.plug_out <= start) {
            let arrival = twin::arrival(fleet.vehicles()[vehicle].capacity, level, past.driven);
            level = past
                .required
                .min(twin::reachable(&fleet, &past, arrival))
                .max(arrival);
        }
        let now = stays.front().map_or(start, |stay| stay.plug_in.min(start));
        // Registers begin where the meter's life has brought them: some place of its own.
        let register =
            Energy::from_wh(1_000 * (1_000 + 37 * i64::try_from(vehicle % 997).unwrap_or(0)));
        Self {
            fleet,
            vehicle,
            tolerance,
            start,
            now,
            next_quarter: next_quarter(start),
            stays,
            level,
            registers: (register, Energy::ZERO),
            plugged: None,
            reports: VecDeque::new(),
            departures: Departures::default(),
            quarters: BTreeMap::new(),
            marked: (register, Energy::ZERO),
        }
    }

    /// Lets everything happen that is due until `to`.
    pub(crate) fn advance(&mut self, to: DateTime<Utc>) {
        self.settle();
        while let Some(next) = self.next_event().filter(|next| *next <= to) {
            self.pass(next);
            self.settle();
        }
        self.pass(to);
    }

    /// Lets power flow until `at`, with nothing happening before.
    fn pass(&mut self, at: DateTime<Utc>) {
        if at <= self.now {
            return;
        }
        if self.now <= self.start && self.start <= at {
            self.pass_meter(self.start);
            // What the meter showed at the start is not part of the run.
            self.marked = self.registers;
        }
        self.pass_meter(at);
        self.now = at;
    }

    fn pass_meter(&mut self, at: DateTime<Utc>) {
        if let Some(plugged) = &mut self.plugged {
            plugged.battery.advance(at);
            self.registers = (
                plugged.battery.import_register(),
                plugged.battery.export_register(),
            );
        }
    }

    /// Everything due at this very instant.
    fn settle(&mut self) {
        if self.next_quarter <= self.now {
            self.mark(self.next_quarter);
            self.next_quarter += QUARTER;
        }
        if self
            .plugged
            .as_ref()
            .is_some_and(|p| p.stay.plug_out <= self.now)
        {
            self.leave();
        }
        if self.plugged.is_none()
            && let Some(stay) = self.stays.pop_front_if(|stay| stay.plug_in <= self.now)
        {
            self.arrive(stay);
        }
        self.follow();
    }

    /// When something happens next; `None` never happens, as quarters go on.
    pub(crate) fn next_event(&self) -> Option<DateTime<Utc>> {
        let stay = match &self.plugged {
            Some(plugged) => Some(plugged.stay.plug_out),
            None => self.stays.front().map(|stay| stay.plug_in),
        };
        let coming = self.plugged.as_ref().and_then(|p| p.coming).map(|o| o.from);
        let ending = self
            .plugged
            .as_ref()
            .and_then(|p| p.order)
            .and_then(|o| o.until);
        [stay, coming, ending, Some(self.next_quarter)]
            .into_iter()
            .flatten()
            .min()
    }

    fn mark(&mut self, at: DateTime<Utc>) {
        let taken = (
            self.registers.0 - self.marked.0,
            self.registers.1 - self.marked.1,
        );
        self.marked = self.registers;
        self.quarters.insert(at - QUARTER, taken);
        self.report(What::Aligned);
    }

    fn arrive(&mut self, stay: Stay) {
        let (vehicle, evse) = (
            &self.fleet.vehicles()[self.vehicle],
            &self.fleet.evses()[self.vehicle],
        );
        let arrival = twin::arrival(vehicle.capacity, self.level, stay.driven);
        let bounds = Bounds {
            floor: vehicle.floor,
            ceiling: stay.required,
        };
        let mut battery = Battery::new(
            stay.plug_in,
            arrival,
            evse.charge_efficiency,
            evse.discharge_efficiency,
            bounds,
        )
        .with_registers(self.registers.0, self.registers.1);
        battery.set(stay.plug_in, evse.max_charge);
        self.departures.begun += 1;
        self.plugged = Some(Plugged {
            stay: stay.clone(),
            arrival,
            battery,
            order: None,
            coming: None,
        });
        self.report(What::PluggedIn { stay, arrival });
    }

    fn leave(&mut self) {
        let Some(plugged) = self.plugged.as_mut() else {
            return;
        };
        plugged.battery.set(plugged.stay.plug_out, Power::ZERO);
        let (stay, arrival) = (plugged.stay.clone(), plugged.arrival);
        self.level = plugged.battery.stored();
        let reachable = twin::reachable(&self.fleet, &stay, arrival);
        let missing = (stay.required.min(reachable) - self.level).max(Energy::ZERO);
        self.departures.ended += 1;
        self.departures.short += missing;
        if missing > self.tolerance {
            self.departures.left_short += 1;
        }
        self.report(What::Left { stay });
        self.plugged = None;
    }

    /// Does what it was told, or charges plainly.
    fn follow(&mut self) {
        let (vehicle, evse) = (
            &self.fleet.vehicles()[self.vehicle],
            &self.fleet.evses()[self.vehicle],
        );
        let Some(plugged) = &mut self.plugged else {
            return;
        };
        let mut changed = false;
        if let Some(order) = plugged.coming.take_if(|o| o.from <= self.now) {
            plugged.order = Some(order);
            changed = true;
        }
        let over = |o: &mut Order| o.until.is_some_and(|until| until <= self.now);
        changed |= plugged.order.take_if(over).is_some();
        if !changed {
            return;
        }
        let ceiling = match plugged.order {
            Some(_) => vehicle.capacity,
            None => plugged.stay.required,
        };
        let floor = vehicle.floor;
        let power = plugged.order.map_or(evse.max_charge, |o| {
            o.power.clamp(-evse.max_discharge, evse.max_charge)
        });
        plugged.battery.rebound(self.now, Bounds { floor, ceiling });
        plugged.battery.set(self.now, power);
    }

    /// Takes an order for the stay in progress. False if nobody is plugged in.
    pub(crate) fn order(&mut self, order: Order) -> bool {
        let Some(plugged) = &mut self.plugged else {
            return false;
        };
        plugged.coming = Some(order);
        self.settle();
        true
    }

    /// Forgets orders: plain charging from now on.
    pub(crate) fn release(&mut self) {
        let now = self.now;
        if let Some(plugged) = &mut self.plugged {
            plugged.coming = None;
            if let Some(order) = &mut plugged.order {
                order.until = Some(now);
            }
        }
        self.settle();
    }

    /// The stay in progress.
    pub(crate) fn stay(&self) -> Option<&Stay> {
        self.plugged.as_ref().map(|p| &p.stay)
    }

    /// Meter and battery at the instant advanced to.
    pub(crate) fn meter(&self) -> Meter {
        let battery = self.plugged.as_ref().map(|p| &p.battery);
        Meter {
            at: self.now,
            import: self.registers.0,
            export: self.registers.1,
            power: battery.map_or(Power::ZERO, Battery::power),
            stored: battery.map(Battery::stored),
        }
    }

    fn report(&mut self, what: What) {
        // Before the start only a stay in progress is news.
        if self.now < self.start && !matches!(what, What::PluggedIn { .. }) {
            return;
        }
        let meter = self.meter();
        self.reports.push_back(Report { what, meter });
    }

    /// The next thing to be told, in order.
    pub(crate) fn take_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// How departures went so far.
    pub(crate) const fn departures(&self) -> Departures {
        self.departures
    }

    /// Energy in the vehicle, plugged in or not; driving is taken out at the next plug-in.
    pub(crate) fn level(&self) -> Energy {
        self.plugged
            .as_ref()
            .map_or(self.level, |p| p.battery.stored())
    }

    /// True import and export of each whole quarter hour since the start, and of the one in progress.
    pub(crate) fn quarters(
        &self,
    ) -> impl Iterator<Item = (DateTime<Utc>, Energy, Energy)> + use<'_> {
        let now = (
            self.next_quarter - QUARTER,
            self.registers.0 - self.marked.0,
            self.registers.1 - self.marked.1,
        );
        let whole = self
            .quarters
            .iter()
            .map(|(start, (import, export))| (*start, *import, *export));
        whole.chain(std::iter::once(now))
    }
}

/// First whole quarter hour after `at`.
fn next_quarter(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(QUARTER).unwrap_or(at) + QUARTER
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Settings;
    use chrono_tz::Europe::Amsterdam;
    use proptest::prelude::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn fleet() -> Arc<Fleet> {
        Arc::new(Fleet::new(Settings {
            seed: 7,
            cars: 12,
            buses: 3,
            zone: Amsterdam,
        }))
    }

    fn outlet(fleet: &Arc<Fleet>, vehicle: usize) -> Outlet {
        let start = at("2026-06-09T04:00:00Z");
        let tolerance = Energy::from_wh(1);
        Outlet::new(
            Arc::clone(fleet),
            vehicle,
            start,
            start + TimeDelta::days(3),
            tolerance,
        )
    }

    fn reports(outlet: &mut Outlet) -> Vec<Report> {
        std::iter::from_fn(|| outlet.take_report()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn looking_more_often_changes_nothing(
            vehicle in 0_usize..15,
            orders in prop::collection::vec((0_i64..170_000, -20_000_i64..20_000, 1_i64..20_000), 0..12),
            looks in prop::collection::vec(0_i64..200_000, 0..60),
        ) {
            let fleet = fleet();
            let start = at("2026-06-09T04:00:00Z");
            let (mut seldom, mut often) = (outlet(&fleet, vehicle), outlet(&fleet, vehicle));
            let mut moments: Vec<(i64, Option<Order>)> = looks.iter().map(|s| (*s, None)).collect();
            for (seconds, watts, life) in orders {
                let from = start + TimeDelta::seconds(seconds + 2);
                let order = Order {
                    power: Power::from_watts(watts),
                    from,
                    until: Some(from + TimeDelta::seconds(life)),
                };
                moments.push((seconds, Some(order)));
            }
            moments.sort_by_key(|(seconds, _)| *seconds);
            for (seconds, order) in moments {
                often.advance(start + TimeDelta::seconds(seconds));
                if let Some(order) = order {
                    seldom.advance(start + TimeDelta::seconds(seconds));
                    prop_assert_eq!(seldom.order(order), often.order(order));
                }
            }
            let end = start + TimeDelta::days(3);
            seldom.advance(end);
            often.advance(end);
            prop_assert_eq!(seldom.meter(), often.meter());
            prop_assert_eq!(reports(&mut seldom), reports(&mut often));
            let energy = |o: &Outlet| o.quarters().collect::<Vec<_>>();
            prop_assert_eq!(energy(&seldom), energy(&often));
        }
    }

    #[test]
    fn left_alone_it_charges_like_the_twin() {
        let fleet = fleet();
        let start = at("2026-06-09T04:00:00Z");
        let end = start + TimeDelta::days(2);
        for vehicle in 0..15 {
            let mut outlet = outlet(&fleet, vehicle);
            outlet.advance(end);
            let ended = outlet.departures();
            assert_eq!(ended.left_short, 0, "vehicle {vehicle} {ended:?}");
            let (import, export) = outlet
                .quarters()
                .fold((Energy::ZERO, Energy::ZERO), |(i, e), (_, di, de)| {
                    (i + di, e + de)
                });
            let twin = twin::unmanaged(&fleet, start - PAST, end);
            let taken: Energy = twin
                .iter()
                .filter(|s| s.stay.vehicle == vehicle && s.stay.plug_out > start)
                .map(|s| s.taken(&fleet, start, end))
                .sum();
            assert!(
                (import - taken).kwh().abs() < 0.02,
                "vehicle {vehicle}: {import} {taken}"
            );
            assert_eq!(export, Energy::ZERO);
        }
    }

    #[test]
    fn an_order_holds_until_its_dead_man_switch_and_then_it_charges_plainly() {
        let fleet = fleet();
        let vehicle = 14; // a bus, back in the evening
        let mut outlet = outlet(&fleet, vehicle);
        let evening = at("2026-06-09T21:30:00Z");
        outlet.advance(evening);
        assert!(outlet.stay().is_some());
        let order = Order {
            power: Power::from_kw(-50.0),
            from: evening + TimeDelta::seconds(2),
            until: Some(evening + TimeDelta::seconds(62)),
        };
        let before = outlet.meter();
        assert!(outlet.order(order));
        outlet.advance(evening + TimeDelta::seconds(30));
        assert_eq!(outlet.meter().power, Power::from_kw(-50.0));
        outlet.advance(evening + TimeDelta::seconds(70));
        let after = outlet.meter();
        assert_eq!(
            after.export - before.export,
            Power::from_kw(50.0).over(TimeDelta::seconds(60))
        );
        assert_eq!(
            after.power,
            Power::from_kw(150.0),
            "no discharge once the order is over"
        );
    }

    #[test]
    fn a_vehicle_that_was_held_back_leaves_short_and_is_counted() {
        let fleet = fleet();
        let mut outlet = outlet(&fleet, 14);
        let mut now = at("2026-06-09T12:00:00Z");
        while outlet
            .stay()
            .is_none_or(|stay| stay.plug_in < at("2026-06-09T15:00:00Z"))
        {
            now += TimeDelta::minutes(1);
            outlet.advance(now);
        }
        let hold = Order {
            power: Power::ZERO,
            from: now,
            until: None,
        };
        assert!(outlet.order(hold));
        outlet.advance(at("2026-06-10T12:00:00Z"));
        let departures = outlet.departures();
        assert_eq!(departures.left_short, 1, "{departures:?}");
        assert!(departures.short.kwh() > 10.0, "{departures:?}");
    }

    #[test]
    fn a_stay_in_progress_is_told_from_its_plug_in_and_the_past_is_not_metered() {
        let fleet = fleet();
        let start = at("2026-06-09T04:00:00Z");
        let mut met = 0;
        for vehicle in 0..15 {
            let mut outlet = outlet(&fleet, vehicle);
            outlet.advance(start);
            let told = reports(&mut outlet);
            for report in &told {
                met += 1;
                assert!(matches!(report.what, What::PluggedIn { .. }), "{report:?}");
                assert!(report.meter.at <= start);
            }
            let past: Energy = outlet.quarters().map(|(_, import, _)| import).sum();
            assert_eq!(past, Energy::ZERO, "vehicle {vehicle}");
        }
        assert!(met > 3);
    }
}
