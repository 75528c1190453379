//! What the vehicles add up to, per step of the grid.

use chrono::{DateTime, Utc};

use super::problem::Problem;
use super::reserve::{Lane, Way};
use super::vehicle::{Envelope, Vehicle};

/// Closeness at which a limit counts as binding, kW or kWh.
pub(super) const BINDS: f64 = 1e-3;

/// A site within this of its limit is full, kW.
const FULL_KW: f64 = 0.1;

/// One entry per step of the grid in each.
pub(super) struct Totals {
    /// Power of the pool, kW.
    pub(super) pool: Vec<f64>,
    /// Lowest and highest power of the pool that leave every vehicle on its way and every site within its limits, kW.
    pub(super) low: Vec<f64>,
    /// See `low`.
    pub(super) high: Vec<f64>,
    /// Vehicles that must charge now to leave in time, and the first of their departures.
    pub(super) departures: Vec<(usize, Option<DateTime<Utc>>)>,
    /// Vehicles whose power is at the edge of what their reserve leaves.
    pub(super) tight: Vec<usize>,
    /// Sites whose import limit is reached with all reserve called.
    pub(super) full_sites: Vec<Vec<usize>>,
}

impl Totals {
    pub(super) fn of(problem: &Problem<'_>, lanes: &[Lane]) -> Self {
        let input = problem.input;
        let steps = input.grid.len();
        let plain: f64 = input.plain.iter().map(|p| p.expected_kw).sum();
        let mut totals = Self {
            pool: vec![plain; steps],
            low: vec![0.0; steps],
            high: vec![0.0; steps],
            departures: vec![(0, None); steps],
            tight: vec![0; steps],
            full_sites: vec![Vec::new(); steps],
        };
        for (i, lane) in lanes.iter().enumerate() {
            totals.add_vehicle(problem, i, lane);
        }
        let mut unsteered = vec![0.0; input.sites.len()];
        for plain in input.plain {
            if let Some(site) = unsteered.get_mut(plain.site) {
                *site += plain.expected_kw;
            }
        }
        for (site, unsteered) in unsteered.into_iter().enumerate() {
            totals.add_site(problem, lanes, site, unsteered);
        }
        totals
    }

    fn add_vehicle(&mut self, problem: &Problem<'_>, i: usize, lane: &Lane) {
        let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
        let holds = !lane.share.is_none();
        for (j, net) in lane.net.iter().enumerate() {
            let step = vehicle.first + j;
            self.pool[step] += net;
            if let Some(leaves) = vehicle
                .leaves
                .filter(|_| must_charge(vehicle, envelope, lane, j))
            {
                let (count, first) = &mut self.departures[step];
                *count += 1;
                *first = Some(first.map_or(leaves, |f| f.min(leaves)));
            }
            if holds {
                let kept = |way| lane.share.kept(&problem.calls, way, j);
                let (up, down) = (kept(Way::Up), kept(Way::Down));
                let low = up > BINDS && *net <= up - vehicle.discharge_kw + BINDS && *net > BINDS;
                let high = down > BINDS && *net >= vehicle.charge_kw - down - BINDS;
                self.tight[step] += usize::from(low || high);
            }
        }
    }

    fn add_site(&mut self, problem: &Problem<'_>, lanes: &[Lane], site: usize, unsteered: f64) {
        let limits = &problem.input.sites[site];
        let steps = problem.input.grid.len();
        let (mut low, mut high) = (vec![unsteered; steps], vec![unsteered; steps]);
        let mut load = vec![0.0; steps];
        for i in &problem.members[site] {
            let (vehicle, lane) = (&problem.input.vehicles[*i], &lanes[*i]);
            for (j, net) in lane.net.iter().enumerate() {
                let step = vehicle.first + j;
                let (from, to) = reach(problem, *i, lane, j);
                low[step] += from;
                high[step] += to;
                load[step] += net + lane.share.kept(&problem.calls, Way::Down, j);
            }
        }
        for step in 0..steps {
            let from = low[step].max(-limits.export_kw);
            self.low[step] += from;
            self.high[step] += high[step].min(limits.import_kw).max(from);
            if load[step] > 0.0 && load[step] >= limits.import_kw - FULL_KW {
                self.full_sites[step].push(site);
            }
        }
    }
}

/// True if the vehicle must charge in its own step `j` to leave in time.
fn must_charge(vehicle: &Vehicle, envelope: &Envelope, lane: &Lane, j: usize) -> bool {
    lane.net[j] > BINDS
        && envelope.floor[j + 1] > vehicle.floor
        && lane.energy[j + 1] <= envelope.floor[j + 1] + BINDS
}

/// Lowest and highest power in own step `j` that leave vehicle `i` on its way, kW.
fn reach(problem: &Problem<'_>, i: usize, lane: &Lane, j: usize) -> (f64, f64) {
    let (vehicle, envelope) = (&problem.input.vehicles[i], &problem.envelopes[i]);
    let hours = problem.input.grid.hours(vehicle.first + j);
    let (level, f) = (lane.energy[j], vehicle.share[j]);
    let full = (vehicle.capacity - level).max(0.0) / (vehicle.charge_efficiency * hours);
    let spare = level - envelope.floor[j + 1];
    let low = if spare >= 0.0 {
        -(vehicle.discharge_kw * f).min(spare * vehicle.discharge_efficiency / hours)
    } else {
        -spare / (vehicle.charge_efficiency * hours)
    };
    (
        low.min(lane.net[j]),
        (vehicle.charge_kw * f).min(full).max(lane.net[j]),
    )
}
