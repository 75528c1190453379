//! One plan's problem: its input with what follows from it at once.

use super::Input;
use super::parallel;
use super::reserve::{self, Call};
use super::vehicle::Envelope;

/// Width of the ramp between the price of being short and of being long, as a share of what the chargers can draw together: without it, vehicles
/// one after the other would get stuck at the kink.
const RAMP_SHARE: f64 = 0.05;

/// Narrowest ramp, kW.
const RAMP_LEAST_KW: f64 = 5.0;

/// The input with envelopes, calls and the sites whose limit can bind.
pub(super) struct Problem<'a> {
    pub(super) input: &'a Input<'a>,
    pub(super) envelopes: Vec<Envelope>,
    pub(super) calls: Vec<Call>,
    /// Vehicles of each site, in the input's order.
    pub(super) members: Vec<Vec<usize>>,
    /// Per site: true if its chargers together can draw more than it carries.
    pub(super) contested: Vec<bool>,
    /// Per site: true if its chargers together can draw or give more than it carries.
    pub(super) limited: Vec<bool>,
    /// kW from the position at which deviating costs the whole spread.
    pub(super) ramp: f64,
}

impl<'a> Problem<'a> {
    pub(super) fn new(input: &'a Input<'a>, threads: usize) -> Self {
        let vehicles = input.vehicles;
        let mut members = vec![Vec::new(); input.sites.len()];
        let mut most = vec![0.0; input.sites.len()];
        let mut least = vec![0.0; input.sites.len()];
        for (i, vehicle) in vehicles.iter().enumerate() {
            if let Some(of_site) = members.get_mut(vehicle.site) {
                of_site.push(i);
                most[vehicle.site] += vehicle.charge_kw;
                least[vehicle.site] += vehicle.discharge_kw;
            }
        }
        for plain in input.plain {
            if let Some(most) = most.get_mut(plain.site) {
                *most += plain.allowed_kw;
            }
        }
        let all: f64 = vehicles.iter().map(|v| v.charge_kw).sum();
        Self {
            input,
            envelopes: parallel::each(threads, vehicles.len(), |i| {
                vehicles[i].envelope(input.grid)
            }),
            calls: reserve::calls(input, input.grid),
            contested: input
                .sites
                .iter()
                .zip(&most)
                .map(|(site, most)| *most > site.import_kw)
                .collect(),
            limited: (0..input.sites.len())
                .map(|s| most[s] > input.sites[s].import_kw || least[s] > input.sites[s].export_kw)
                .collect(),
            members,
            ramp: (all * RAMP_SHARE).max(RAMP_LEAST_KW),
        }
    }
}
