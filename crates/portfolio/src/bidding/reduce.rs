//! A smaller problem that promises less: like stays added up, on an hourly grid.

use std::collections::BTreeMap;
use std::ops::Range;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use units::Interval;

use super::Question;
use crate::reference::{self, Headroom, Problem, Session};
use crate::rolling::{Grid, Vehicle};

/// Length of a reduced step.
const HOUR: TimeDelta = TimeDelta::hours(1);

/// Price of missing energy, EUR per kWh (reference problem R).
const SHORTFALL: f64 = 2.0;

/// Share of energy and power kept back for what adding up unlike batteries overstates (measured: below 1 % where the window is exact).
const KEPT_BACK: f64 = 0.02;

/// The hourly grid of a reduced problem.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hours {
    start: DateTime<Utc>,
    count: usize,
}

impl Hours {
    pub(super) fn new(grid: &Grid) -> Self {
        let floor = grid.now().duration_trunc(HOUR).unwrap_or(grid.now());
        // The running hour is left out.
        let start = if floor < grid.now() {
            floor + HOUR
        } else {
            floor
        };
        let count = usize::try_from((grid.end() - start).num_hours()).unwrap_or(0);
        Self { start, count }
    }

    fn at(&self, hour: usize) -> DateTime<Utc> {
        self.start + HOUR * i32::try_from(hour).unwrap_or(0)
    }

    /// The hours of `span`, if it is made of whole ones inside the grid.
    pub(super) fn range(&self, span: Interval) -> Option<Range<usize>> {
        let index = |at: DateTime<Utc>| usize::try_from((at - self.start).num_hours()).ok();
        let (from, to) = (index(span.start())?, index(span.end())?);
        (span.start() >= self.start && to <= self.count && from < to).then_some(from..to)
    }

    /// The whole hours inside the steps of a vehicle: never more than it is there.
    fn inside(&self, vehicle: &Vehicle, grid: &Grid) -> Option<Range<usize>> {
        let whole = |share: Option<&f64>| share.is_some_and(|f| *f >= 1.0 - 1e-9);
        let from = vehicle.first + usize::from(!whole(vehicle.share.first()));
        let to = (vehicle.first + vehicle.share.len())
            .checked_sub(usize::from(!whole(vehicle.share.last())))?;
        let begin = (grid.at(from) - self.start).num_minutes().max(0);
        let end = (grid.at(to) - self.start).num_minutes().max(0);
        let range = usize::try_from((begin + 59) / 60).ok()?
            ..usize::try_from(end / 60).ok()?.min(self.count);
        (range.start < range.end).then_some(range)
    }
}

/// What makes stays alike: place, whether they can give back, and the hours they are there.
type Likeness = (usize, bool, usize, usize);

/// The reduced problem of a set of vehicles, without reserves on sale.
pub(super) fn problem(question: &Question<'_>, vehicles: &[Vehicle], hours: &Hours) -> Problem {
    let mut groups: BTreeMap<Likeness, Session> = BTreeMap::new();
    for vehicle in vehicles {
        let Some(range) = hours.inside(vehicle, question.grid) else {
            continue;
        };
        if vehicle.charge_kw <= 0.0 {
            continue;
        }
        let key = (
            vehicle.site,
            vehicle.discharge_kw > 0.0,
            range.start,
            range.end,
        );
        match groups.get_mut(&key) {
            Some(group) => add(group, vehicle),
            None => {
                groups.insert(key, alone(vehicle, &range, question.sites.len()));
            }
        }
    }
    let sessions = groups.into_values().map(finished).collect();
    let price: Vec<f64> = (0..hours.count)
        .map(|h| mean_price(question, hours.at(h)))
        .collect();
    Problem {
        step_hours: 1.0,
        import_price: price
            .iter()
            .map(|p| p + question.costs.import_per_mwh)
            .collect(),
        export_price: price
            .iter()
            .map(|p| p - question.costs.export_per_mwh)
            .collect(),
        wear: question.costs.wear_per_mwh,
        shortfall: SHORTFALL,
        sessions,
        sites: question
            .sites
            .iter()
            .map(|s| reference::Site {
                import_kw: s.import_kw,
                export_kw: s.export_kw,
                base_kw: Vec::new(),
            })
            .collect(),
        reserves: Vec::new(),
        headroom: Headroom::Window { recovery_steps: 1 },
    }
}

fn mean_price(question: &Question<'_>, hour: DateTime<Utc>) -> f64 {
    let inside: Vec<f64> = (0..question.grid.len())
        .filter(|step| (hour..hour + HOUR).contains(&question.grid.at(*step)))
        .filter_map(|step| question.price.get(step).copied())
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "four quarter hours")]
    let count = inside.len().max(1) as f64;
    inside.iter().sum::<f64>() / count
}

fn alone(vehicle: &Vehicle, range: &Range<usize>, sites: usize) -> Session {
    let beyond = vehicle.hours_beyond * vehicle.charge_kw * vehicle.charge_efficiency;
    Session {
        site: (vehicle.site < sites).then_some(vehicle.site),
        first: range.start,
        share: vec![1.0; range.len()],
        capacity: vehicle.capacity.max(vehicle.arrival),
        arrival: vehicle.arrival,
        floor: vehicle.floor.min(vehicle.arrival),
        goal: (vehicle.goal - beyond).max(0.0),
        charge_kw: vehicle.charge_kw,
        discharge_kw: vehicle.discharge_kw,
        charge_efficiency: vehicle.charge_efficiency,
        discharge_efficiency: vehicle.discharge_efficiency,
    }
}

fn add(group: &mut Session, vehicle: &Vehicle) {
    let other = alone(
        vehicle,
        &(group.first..group.first + group.share.len()),
        usize::MAX,
    );
    // The worst efficiency of a group counts for all: energy is never made by adding up.
    group.charge_efficiency = group.charge_efficiency.min(other.charge_efficiency);
    group.discharge_efficiency = group.discharge_efficiency.min(other.discharge_efficiency);
    group.capacity += other.capacity;
    group.arrival += other.arrival;
    group.floor += other.floor;
    group.goal += other.goal;
    group.charge_kw += other.charge_kw;
    group.discharge_kw += other.discharge_kw;
}

/// Keeps a little back and puts the goal within reach, as the reference problem wants it.
fn finished(mut group: Session) -> Session {
    group.charge_kw *= 1.0 - KEPT_BACK;
    group.discharge_kw *= 1.0 - KEPT_BACK;
    #[expect(clippy::cast_precision_loss, reason = "hours of a day or two")]
    let hours = group.share.len() as f64;
    let reach = group.arrival + group.charge_efficiency * group.charge_kw * hours;
    group.goal = group.goal.min(group.capacity).min(reach).max(group.floor);
    group
}
