//! The cheapest schedule of one battery, exactly.
//!
//! Each step has a convex piecewise-linear cost of its power, power limits, and a floor and a ceiling for the energy
//! at its end. The cost to reach an energy level is then itself convex and piecewise linear; it is carried from step
//! to step as segments sorted by slope, without any discretisation:
//!
//! ```text
//! V[t+1](e') = min over e of  V[t](e) + g[t](e' - e)       a merge of two sorted lists of segments
//!              restricted to floor <= e' <= ceiling         a cut at both ends
//! ```
//!
//! The segment that holds the chosen level gives the shadow price of energy, and these prices give a lower bound that
//! is evaluated apart from the recursion ([`bound`]).

mod bound;
mod curve;
#[cfg(test)]
mod tests;

pub(crate) use bound::Sum;
pub use bound::bound;

use curve::{Segment, Vertex};

/// A battery and what its energy is worth at the end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Battery {
    /// Energy at the first boundary, kWh.
    pub arrival_kwh: f64,
    /// Share of grid energy that reaches the battery, above 0, at most 1.
    pub charge_efficiency: f64,
    /// Share of battery energy that reaches the grid, above 0, at most 1.
    pub discharge_efficiency: f64,
    /// Level wanted at the last boundary, kWh.
    pub goal_kwh: f64,
    /// Price of each kWh below the goal, EUR.
    pub shortfall: f64,
    /// Worth of each kWh left at the last boundary, EUR; zero where the battery leaves for good.
    pub end_value: f64,
}

/// One step: what power is possible and what it costs.
///
/// Charging and discharging power share the plug, `c/charge_kw + d/discharge_kw <= 1`; doing both at once is part of
/// the convex model and pays only at deeply negative prices (`optimisation.md` 2.4).
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Length, hours.
    pub hours: f64,
    /// Most charging power, kW, already scaled by the share of the step that is usable.
    pub charge_kw: f64,
    /// Most discharging power, kW, scaled likewise; zero for a one-way charger.
    pub discharge_kw: f64,
    /// Cost of each MWh charged, EUR.
    pub charge_price: f64,
    /// Cost of each MWh discharged, EUR; negative where it earns.
    pub discharge_price: f64,
    /// Further cost of net power (charging less discharging), as marginal prices that never fall from one piece to
    /// the next; zero power costs nothing. Empty where there is none; beyond the last piece its price goes on.
    pub net: Vec<Piece>,
    /// Least net power, kW; minus infinity where only the charger limits.
    pub low_kw: f64,
    /// Most net power, kW; infinity where only the charger limits.
    pub high_kw: f64,
    /// Least energy at the end of the step, kWh.
    pub floor_kwh: f64,
    /// Most energy at the end of the step, kWh.
    pub ceiling_kwh: f64,
}

/// A stretch of net power with one marginal price.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Piece {
    /// Where the stretch ends, kW of net power; it begins where the one before ends.
    pub up_to_kw: f64,
    /// EUR per MWh of net energy.
    pub eur_per_mwh: f64,
}

/// A schedule and its prices. Power per step in kW, energy at all boundaries in kWh.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// Charging power per step.
    pub charge_kw: Vec<f64>,
    /// Discharging power per step.
    pub discharge_kw: Vec<f64>,
    /// Energy at the boundaries, one more than there are steps.
    pub energy_kwh: Vec<f64>,
    /// Energy missing from the goal at the end, kWh.
    pub short_kwh: f64,
    /// Cost of all steps plus the price of missing energy less the worth of what is left, EUR.
    pub cost: f64,
    /// Worth of one more kWh in the battery at the *end* of each step, EUR per kWh. At a kink any price of the
    /// kink's range may be given.
    pub energy_value: Vec<f64>,
}

impl Plan {
    /// Net grid power in step `j`, kW, positive when charging.
    #[must_use]
    pub fn net_kw(&self, j: usize) -> f64 {
        self.charge_kw.get(j).copied().unwrap_or(0.0)
            - self.discharge_kw.get(j).copied().unwrap_or(0.0)
    }
}

/// Why a battery has no schedule.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum NoPlan {
    /// Power limits, floors and ceilings leave no energy level.
    #[error(
        "no energy level is reachable at the end of step {step}: {excess_kwh} kWh lie between what the power limits allow and the floor or ceiling"
    )]
    Unreachable {
        /// Step whose end cannot be reached.
        step: usize,
        /// How much energy is missing (or too much), kWh; infinite where the power limits exclude each other.
        excess_kwh: f64,
    },
    /// The marginal prices of net power fall from one piece to the next.
    #[error("the cost of net power in step {step} is not convex")]
    NotConvex {
        /// The step.
        step: usize,
    },
}

/// Energy below which a floor or ceiling counts as met, kWh: far above rounding, far below a meter's reading.
const REACH_TOLERANCE: f64 = 1e-7;

/// What the forward pass keeps of each step for the way back.
struct Stage {
    /// Left end of the cost to reach before the step, kWh.
    left: f64,
    /// Range of `segments` of the cost to reach before the step.
    segments: std::ops::Range<usize>,
    /// Range of `vertices` of the step's own cost.
    vertices: std::ops::Range<usize>,
}

/// The cheapest schedule of a battery over its steps.
///
/// # Errors
/// [`NoPlan::Unreachable`] when limits, floors and ceilings exclude every schedule; [`NoPlan::NotConvex`] when a
/// step's cost of net power is not convex.
pub fn cheapest(battery: &Battery, steps: &[Step]) -> Result<Plan, NoPlan> {
    let mut stages = Vec::with_capacity(steps.len());
    let mut kept: Vec<Segment> = Vec::new();
    let mut vertices: Vec<Vertex> = Vec::with_capacity(steps.len() * 3);
    let mut reach = curve::Reach::at(battery.arrival_kwh);
    let mut hull = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        curve::step_hull(battery, step, index, &mut hull)?;
        let segments = kept.len()..kept.len() + reach.segments.len();
        kept.extend_from_slice(&reach.segments);
        let own = vertices.len()..vertices.len() + hull.len();
        vertices.extend_from_slice(&hull);
        stages.push(Stage {
            left: reach.left,
            segments,
            vertices: own,
        });
        reach.add(&hull);
        reach
            .clip(step.floor_kwh, step.ceiling_kwh, REACH_TOLERANCE)
            .map_err(|excess_kwh| NoPlan::Unreachable {
                step: index,
                excess_kwh,
            })?;
    }
    let (end, value) = reach.best_end(battery);
    Ok(walk_back(
        battery, steps, &stages, &kept, &vertices, end, value,
    ))
}

/// Follows the cost to reach from the end back to the start, then the energy forward from the arrival.
fn walk_back(
    battery: &Battery,
    steps: &[Step],
    stages: &[Stage],
    kept: &[Segment],
    vertices: &[Vertex],
    end: f64,
    end_value: f64,
) -> Plan {
    let count = steps.len();
    let mut plan = Plan {
        charge_kw: vec![0.0; count],
        discharge_kw: vec![0.0; count],
        energy_kwh: Vec::with_capacity(count + 1),
        energy_value: vec![0.0; count],
        ..Plan::default()
    };
    let (mut energy, mut value) = (end, end_value);
    for (index, stage) in stages.iter().enumerate().rev() {
        let hull = &vertices[stage.vertices.clone()];
        let split = curve::split(
            &kept[stage.segments.clone()],
            hull,
            energy - stage.left,
            value,
        );
        let (charge, discharge) = curve::power_at(hull, split.gain);
        plan.charge_kw[index] = charge;
        plan.discharge_kw[index] = discharge;
        plan.energy_value[index] = split.value;
        energy = stage.left + split.before;
        value = split.value;
    }
    let mut level = battery.arrival_kwh;
    plan.energy_kwh.push(level);
    for (index, step) in steps.iter().enumerate() {
        let (charge, discharge) = (plan.charge_kw[index], plan.discharge_kw[index]);
        level += step.hours
            * (battery.charge_efficiency * charge - discharge / battery.discharge_efficiency);
        plan.energy_kwh.push(level);
        plan.cost += step.cost(charge, discharge);
    }
    plan.short_kwh = (battery.goal_kwh - level).max(0.0);
    plan.cost += battery.end_cost(level);
    plan
}

impl Battery {
    /// Price of missing energy less the worth of what is left at `level` kWh, EUR.
    pub(crate) fn end_cost(&self, level: f64) -> f64 {
        self.shortfall * (self.goal_kwh - level).max(0.0) - self.end_value * level
    }
}

impl Step {
    /// A step of a battery whose energy buys and sells at fixed prices: no further limits, band `floor..ceiling`.
    #[must_use]
    pub fn priced(hours: f64, power: [f64; 2], price: [f64; 2], band: [f64; 2]) -> Self {
        Self {
            hours,
            charge_kw: power[0],
            discharge_kw: power[1],
            charge_price: price[0],
            discharge_price: price[1],
            net: Vec::new(),
            low_kw: f64::NEG_INFINITY,
            high_kw: f64::INFINITY,
            floor_kwh: band[0],
            ceiling_kwh: band[1],
        }
    }

    /// Cost of charging and discharging with these powers, EUR.
    #[must_use]
    pub fn cost(&self, charge_kw: f64, discharge_kw: f64) -> f64 {
        let direct = self.charge_price * charge_kw + self.discharge_price * discharge_kw;
        self.hours / 1000.0 * (direct + self.net_cost(charge_kw - discharge_kw))
    }

    /// Integral of the marginal prices of net power from zero, in EUR/MWh times kW.
    fn net_cost(&self, net_kw: f64) -> f64 {
        let (from, to, sign) = if net_kw >= 0.0 {
            (0.0, net_kw, 1.0)
        } else {
            (net_kw, 0.0, -1.0)
        };
        let mut begin = f64::NEG_INFINITY;
        let mut total = 0.0;
        for (index, piece) in self.net.iter().enumerate() {
            let last = index + 1 == self.net.len();
            let end = if last { f64::INFINITY } else { piece.up_to_kw };
            let (low, high) = (from.max(begin), to.min(end));
            if high > low {
                total += piece.eur_per_mwh * (high - low);
            }
            begin = end;
        }
        sign * total
    }
}
