//! Where a seeded fleet stands: streets of homes, a workplace, a depot.

use ::fleet::{Evse, EvseId, SiteId};
use units::{Efficiency, Energy, Power};

use crate::dice::Dice;
use crate::driver::{Habit, Place};
use crate::fleet::{Movement, Settings, Site, Vehicle, protocol_of};

const CARS: u64 = 0xca5;
const BUSES: u64 = 0xb25;

/// Homes that share one street cabinet.
const HOMES_PER_STREET: usize = 25;
/// Every fourth car charges at work, the others at home.
const WORKER_EVERY: usize = 4;
/// Charging power of a bidirectional outlet for cars.
const CAR_WATTS: i64 = 11_000;
/// Power of a depot charger, both ways.
const BUS_WATTS: i64 = 150_000;
/// Share of the installed power that a street's fuse carries: not all homes charge at once.
const STREET_FUSE: f64 = 0.75;
/// The same for the workplace and for the depot.
const WORK_FUSE: f64 = 0.85;
const DEPOT_FUSE: f64 = 0.80;
/// One-way efficiency of a charger.
const EFFICIENCY: f64 = 0.94;

pub(crate) struct Parts {
    pub(crate) sites: Vec<Site>,
    pub(crate) evses: Vec<Evse>,
    pub(crate) vehicles: Vec<Vehicle>,
}

pub(crate) fn parts(settings: Settings) -> Parts {
    let mut parts = Parts {
        sites: vec![],
        evses: vec![],
        vehicles: vec![],
    };
    let workers = settings.cars / WORKER_EVERY;
    let homes = settings.cars - workers;
    for car in 0..homes {
        let street = car / HOMES_PER_STREET + 1;
        parts.car(settings, car, &format!("street-{street:02}"), Place::Home);
    }
    for car in homes..settings.cars {
        parts.car(settings, car, "workplace", Place::Work);
    }
    for bus in 0..settings.buses {
        parts.bus(settings, bus);
    }
    parts.fuses();
    parts
}

impl Parts {
    fn car(&mut self, settings: Settings, number: usize, site: &str, place: Place) {
        let mut dice = Dice::of(settings.seed, CARS, number as u64);
        let bidirectional = dice.happens(if place == Place::Home { 0.8 } else { 0.5 });
        let charge = if bidirectional {
            CAR_WATTS
        } else {
            *dice.pick(&[7_400, 11_000])
        };
        let class = if place == Place::Home {
            "home"
        } else {
            "workplace"
        };
        let evse = self.evse(site, class, number + 1, bidirectional, charge);
        let capacity = *dice.pick(&[50.0, 58.0, 64.0, 77.0, 82.0]);
        let habit = match place {
            Place::Home => Habit {
                place,
                leaves: 500.0 + 40.0 * dice.normal(),
                returns: 1_060.0 + 55.0 * dice.normal(),
                km: dice.between(15.0, 65.0),
                stays_away: 0.35,
            },
            Place::Work => Habit {
                place,
                leaves: 500.0 + 25.0 * dice.normal(),
                returns: 1_015.0 + 35.0 * dice.normal(),
                km: dice.between(25.0, 80.0),
                stays_away: 0.12,
            },
        };
        self.vehicles.push(Vehicle {
            id: name(&format!("car-{:04}", number + 1)),
            evse,
            capacity: Energy::from_kwh(capacity),
            floor: Energy::from_kwh(capacity * 0.2),
            wanted: Energy::from_kwh(capacity * dice.between(0.70, 0.85)),
            per_km: Energy::from_kwh(dice.between(0.15, 0.20)),
            movement: Movement::Car(habit),
        });
    }

    fn bus(&mut self, settings: Settings, number: usize) {
        let mut dice = Dice::of(settings.seed, BUSES, number as u64);
        let evse = self.evse("depot", "depot", number + 1, true, BUS_WATTS);
        let capacity = *dice.pick(&[368.0, 420.0, 466.0]);
        self.vehicles.push(Vehicle {
            id: name(&format!("bus-{:03}", number + 1)),
            evse,
            capacity: Energy::from_kwh(capacity),
            floor: Energy::from_kwh(capacity * 0.12),
            wanted: Energy::from_kwh(capacity * 0.60),
            per_km: Energy::from_kwh(dice.between(0.95, 1.10)),
            movement: Movement::Bus { duty: number },
        });
    }

    fn evse(
        &mut self,
        site: &str,
        class: &str,
        number: usize,
        bidirectional: bool,
        watts: i64,
    ) -> EvseId {
        let station = format!("{site}-{number:03}");
        let id: EvseId = name(&format!("{station}/1"));
        #[expect(clippy::expect_used, reason = "a constant between 0 and 1")]
        let efficiency = Efficiency::try_new(EFFICIENCY).expect("an efficiency");
        self.evses.push(Evse {
            id: id.clone(),
            station: name(&station),
            site: name(site),
            class: class.to_owned(),
            protocol: protocol_of(bidirectional, number),
            max_charge: Power::from_watts(watts),
            max_discharge: Power::from_watts(if bidirectional { watts } else { 0 }),
            charge_efficiency: efficiency,
            discharge_efficiency: efficiency,
        });
        id
    }

    /// One site per name met, with a fuse that carries a share of what is installed behind it.
    fn fuses(&mut self) {
        let mut ids: Vec<SiteId> = self.evses.iter().map(|e| e.site.clone()).collect();
        ids.dedup();
        for (number, id) in ids.into_iter().enumerate() {
            let behind = self.evses.iter().filter(|e| e.site == id);
            let (charge, discharge) = behind.fold((Power::ZERO, Power::ZERO), |(c, d), e| {
                (c + e.max_charge, d + e.max_discharge)
            });
            let share = match id.as_str() {
                "depot" => DEPOT_FUSE,
                "workplace" => WORK_FUSE,
                _ => STREET_FUSE,
            };
            self.sites.push(Site {
                name: title(&id, number),
                import_limit: Power::from_watts(
                    (charge.scale(share).watts() / 1_000).max(22) * 1_000,
                ),
                export_limit: Power::from_watts(discharge.scale(share).watts() / 1_000 * 1_000),
                id,
            });
        }
    }
}

fn title(id: &SiteId, number: usize) -> String {
    let streets = [
        "Lime", "Mill", "Harbour", "Station", "Church", "Park", "Market", "Garden",
    ];
    match id.as_str() {
        "depot" => "Bus depot".to_owned(),
        "workplace" => "Workplace".to_owned(),
        _ => match number / streets.len() {
            0 => format!("{} St", streets[number]),
            round => format!("{} St {}", streets[number % streets.len()], round + 1),
        },
    }
}

fn name<T: std::str::FromStr<Err = units::IdError>>(text: &str) -> T {
    #[expect(clippy::expect_used, reason = "built from short printable parts")]
    text.parse().expect("a name of the fleet")
}
