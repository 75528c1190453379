//! Loads of the pool and of its sites while the vehicles take turns.

use super::problem::Problem;
use super::reserve::{Call, Lane, Way};
use super::vehicle::Vehicle;

/// kW, mean over a step; per site and step where there is a site.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Loads {
    /// The pool as it is expected.
    pub(super) pool: Vec<f64>,
    /// Schedules of the vehicles at each site, with what unsteered ones may take.
    net: Vec<Vec<f64>>,
    /// Part of `net` that unsteered vehicles may take, and may as well not take; the same in each step.
    unsteered: Vec<f64>,
    /// Power kept free for calls that lower the load.
    kept_up: Vec<Vec<f64>>,
    /// Power kept free for calls that raise it.
    kept_down: Vec<Vec<f64>>,
}

impl Loads {
    /// Only the unsteered vehicles.
    pub(super) fn new(problem: &Problem<'_>) -> Self {
        let (steps, sites) = (problem.input.grid.len(), problem.input.sites.len());
        let mut expected = 0.0;
        let mut unsteered = vec![0.0; sites];
        for vehicle in problem.input.plain {
            expected += vehicle.expected_kw;
            // The fuse must carry what it may take, not what it is expected to take.
            if let Some(site) = unsteered.get_mut(vehicle.site) {
                *site += vehicle.allowed_kw;
            }
        }
        let empty = vec![vec![0.0; steps]; sites];
        Self {
            pool: vec![expected; steps],
            net: unsteered.iter().map(|kw| vec![*kw; steps]).collect(),
            unsteered,
            kept_up: empty.clone(),
            kept_down: empty,
        }
    }

    /// Adds a schedule and its reserve with `sign` 1, takes them away with -1.
    pub(super) fn add(&mut self, vehicle: &Vehicle, lane: &Lane, calls: &[Call], sign: f64) {
        self.add_power(vehicle, &lane.net, sign);
        if vehicle.site < self.kept_up.len() && !lane.share.is_none() {
            for j in 0..lane.net.len() {
                for way in [Way::Up, Way::Down] {
                    self.keep(vehicle, way, j, sign * lane.share.kept(calls, way, j));
                }
            }
        }
    }

    /// Adds a schedule that holds no reserve.
    pub(super) fn add_power(&mut self, vehicle: &Vehicle, net: &[f64], sign: f64) {
        for (j, kw) in net.iter().enumerate() {
            self.pool[vehicle.first + j] += sign * kw;
        }
        if let Some(site) = self.net.get_mut(vehicle.site) {
            for (j, kw) in net.iter().enumerate() {
                site[vehicle.first + j] += sign * kw;
            }
        }
    }

    /// Keeps `kw` more free at the vehicle's site in its own step `j`.
    pub(super) fn keep(&mut self, vehicle: &Vehicle, way: Way, j: usize, kw: f64) {
        let kept = match way {
            Way::Up => &mut self.kept_up,
            Way::Down => &mut self.kept_down,
        };
        if let Some(site) = kept.get_mut(vehicle.site) {
            site[vehicle.first + j] += kw;
        }
    }

    /// How far load at a site may still rise in `step` when all reserve is called, kW; below zero where it is too high.
    pub(super) fn rise(&self, problem: &Problem<'_>, site: usize, step: usize) -> f64 {
        problem.input.sites.get(site).map_or(f64::INFINITY, |s| {
            s.import_kw - self.net[site][step] - self.kept_down[site][step]
        })
    }

    /// How far load at a site may still fall in `step` when all reserve is called and nothing unsteered charges, kW.
    pub(super) fn fall(&self, problem: &Problem<'_>, site: usize, step: usize) -> f64 {
        problem.input.sites.get(site).map_or(f64::INFINITY, |s| {
            s.export_kw + self.steered(site, step) - self.kept_up[site][step]
        })
    }

    /// Schedules of the steered vehicles at a site, kW.
    pub(super) fn steered(&self, site: usize, step: usize) -> f64 {
        self.net[site][step] - self.unsteered[site]
    }

    /// Import that a site leaves to the schedules of its vehicles in `step`, kW.
    pub(super) fn for_schedules(&self, problem: &Problem<'_>, site: usize, step: usize) -> f64 {
        problem.input.sites.get(site).map_or(f64::INFINITY, |s| {
            s.import_kw - self.unsteered[site] - self.kept_down[site][step]
        })
    }

    /// Export that a site leaves to the schedules of its vehicles in `step`, kW.
    pub(super) fn export_for_schedules(
        &self,
        problem: &Problem<'_>,
        site: usize,
        step: usize,
    ) -> f64 {
        problem
            .input
            .sites
            .get(site)
            .map_or(f64::INFINITY, |s| s.export_kw - self.kept_up[site][step])
    }
}
