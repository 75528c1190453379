//! A vehicle as the rolling plan sees it: when it is there, what it must have, what it can do.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, EvseState, SessionId};
use forecast::Stay;
use units::{Energy, Power};

use super::grid::Grid;
use super::reserve::Way;

/// Share of charging power that catching up is planned with: a charger that gives a little less than its rating must not make a
/// vehicle late.
const CATCH_UP: f64 = 0.95;

/// A vehicle that nobody said when it leaves holds reserve no further ahead than this: it may be gone by then.
const TRUSTED_STAY: TimeDelta = TimeDelta::hours(1);

/// Rounding of energy levels, kWh.
pub(super) const EPSILON: f64 = 1e-7;

/// A battery with a charger around it, on the grid of the plan. Powers kW at the grid side, energies kWh inside the battery.
#[derive(Debug, Clone, PartialEq)]
pub struct Vehicle {
    /// Outlet; `None` for a vehicle that is only expected.
    pub evse: Option<EvseId>,
    /// Its stay.
    pub session: Option<SessionId>,
    /// Index of its site.
    pub site: usize,
    /// First step it touches.
    pub first: usize,
    /// Share of each step during which it is plugged in.
    pub share: Vec<f64>,
    /// Energy now or at plug-in. Where the stored energy is unknown: energy added so far, counted from zero.
    pub arrival: f64,
    /// Never discharged below this.
    pub floor: f64,
    /// Wanted at departure.
    pub goal: f64,
    /// Usable size; where unknown, the goal.
    pub capacity: f64,
    /// Most charging power.
    pub charge_kw: f64,
    /// Most discharging power; zero if it may not.
    pub discharge_kw: f64,
    /// Share of grid energy that reaches the battery.
    pub charge_efficiency: f64,
    /// Share of battery energy that reaches the grid.
    pub discharge_efficiency: f64,
    /// When it leaves, if that is known.
    pub leaves: Option<DateTime<Utc>>,
    /// Hours it stays beyond the grid; zero if it leaves within.
    pub hours_beyond: f64,
    /// First step from which on it holds no reserve.
    pub reserve_until: usize,
}

/// A vehicle of which nobody knows what it needs: it charges as if it were not steered.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    /// Outlet.
    pub evse: EvseId,
    /// Its stay.
    pub session: SessionId,
    /// Index of its site.
    pub site: usize,
    /// What it is allowed, kW.
    pub allowed_kw: f64,
    /// What it is expected to take, kW.
    pub expected_kw: f64,
}

/// What an occupied EVSE asks of the plan.
#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Needs are known.
    Steer(Vehicle),
    /// Needs are unknown.
    Plain(Plain),
}

impl Task {
    /// The task of an EVSE in state `state` at site number `site`; `None` if no vehicle is plugged in.
    #[must_use]
    pub fn of(state: &EvseState, site: usize, grid: &Grid) -> Option<Self> {
        let stay = state.session.as_ref()?;
        let evse = &state.evse;
        let Some(needs) = &stay.session.needs else {
            let allowed_kw = evse.max_charge.kw();
            return Some(Self::Plain(Plain {
                evse: evse.id.clone(),
                session: stay.session.id.clone(),
                site,
                allowed_kw,
                expected_kw: state
                    .power
                    .map_or(allowed_kw, |p| p.power.kw().clamp(0.0, allowed_kw)),
            }));
        };
        let added = stay.added.unwrap_or(Energy::ZERO).kwh();
        // Unknown stored energy: count from zero at plug-in, and never discharge.
        let known = needs.stored.map(Energy::kwh);
        let base = known.unwrap_or(0.0);
        let goal = base + needs.energy.kwh();
        let may_discharge = known.is_some() && evse.protocol.can_discharge();
        let capacity = match (known, needs.capacity) {
            (Some(_), Some(capacity)) => capacity.kwh().max(base + added),
            _ => goal.max(base + added),
        };
        let usable = state.online && !state.unresponsive;
        let vehicle = Vehicle {
            evse: Some(evse.id.clone()),
            session: Some(stay.session.id.clone()),
            site,
            first: 0,
            share: Vec::new(),
            arrival: (base + added).max(0.0),
            floor: if known.is_some() {
                needs.floor.kwh()
            } else {
                0.0
            },
            goal: goal.min(capacity),
            capacity,
            charge_kw: evse.max_charge.min(needs.max_charge).kw().max(0.0),
            discharge_kw: if may_discharge {
                evse.max_discharge.min(needs.max_discharge).kw().max(0.0)
            } else {
                0.0
            },
            charge_efficiency: evse.charge_efficiency.share(),
            discharge_efficiency: evse.discharge_efficiency.share(),
            leaves: needs.departure,
            hours_beyond: 0.0,
            reserve_until: if usable { usize::MAX } else { 0 },
        };
        Some(Self::Steer(vehicle.placed(grid, grid.now())))
    }
}

impl Vehicle {
    /// A vehicle that a forecast expects; `None` if it does not touch the grid.
    #[must_use]
    pub fn expected<K>(stay: &Stay<K>, site: usize, grid: &Grid) -> Option<Self> {
        let base = stay.stored.map_or(0.0, Energy::kwh);
        let goal = base + stay.energy.kwh();
        let capacity = match (stay.stored, stay.capacity) {
            (Some(_), Some(capacity)) => capacity.kwh().max(base),
            _ => goal,
        };
        let kw = |power: Power| power.kw().max(0.0);
        let vehicle = Self {
            evse: None,
            session: None,
            site,
            first: 0,
            share: Vec::new(),
            arrival: base,
            floor: if stay.stored.is_some() {
                stay.floor.kwh()
            } else {
                0.0
            },
            goal: goal.min(capacity),
            capacity,
            charge_kw: kw(stay.max_charge),
            discharge_kw: if stay.stored.is_some() {
                kw(stay.max_discharge)
            } else {
                0.0
            },
            charge_efficiency: stay.charge_efficiency.share(),
            discharge_efficiency: stay.discharge_efficiency.share(),
            leaves: Some(stay.span.end()),
            hours_beyond: 0.0,
            reserve_until: usize::MAX,
        };
        let vehicle = vehicle.placed(grid, stay.span.start());
        (!vehicle.share.is_empty()).then_some(vehicle)
    }

    /// Puts the stay from `from` on the grid. A departure that is over already is as good as none: the vehicle stands there.
    fn placed(mut self, grid: &Grid, from: DateTime<Utc>) -> Self {
        self.leaves = self.leaves.filter(|leaves| *leaves > grid.now());
        (self.first, self.share) = grid.shares(from, self.leaves.unwrap_or(grid.end()));
        if let Some(leaves) = self.leaves {
            #[expect(clippy::cast_precision_loss, reason = "seconds of a stay")]
            let beyond = (leaves - grid.end()).num_seconds().max(0) as f64 / 3_600.0;
            self.hours_beyond = beyond;
        } else {
            let trusted = grid.shares(grid.now(), grid.now() + TRUSTED_STAY).1.len();
            self.reserve_until = self.reserve_until.min(trusted);
        }
        self
    }

    /// Number of steps it touches.
    pub(super) const fn len(&self) -> usize {
        self.share.len()
    }

    /// True if it may hold reserve in its own step `j`: there for the whole of it, and trusted that long.
    pub(super) fn may_hold(&self, j: usize) -> bool {
        self.first + j < self.reserve_until && self.share.get(j).is_some_and(|f| *f >= 1.0 - 1e-9)
    }

    /// True if it can give energy back.
    pub(super) fn two_way(&self) -> bool {
        self.discharge_kw > 0.0
    }

    /// True if it leaves between two boundaries of the grid.
    pub(super) fn leaves_within_a_step(&self) -> bool {
        self.share.last().is_some_and(|f| *f < 1.0 - 1e-9)
    }

    /// Energy in the battery per kWh at the grid by which a call of `way` moves power.
    pub(super) fn factor(&self, way: Way) -> f64 {
        match way {
            Way::Up => self.up_factor(),
            Way::Down => self.down_factor(),
        }
    }

    /// Energy that leaves the battery per kWh by which power falls at the grid: a one-way charger only charges less.
    fn up_factor(&self) -> f64 {
        if self.two_way() {
            1.0 / self.discharge_efficiency
        } else {
            self.charge_efficiency
        }
    }

    /// Energy that enters the battery per kWh by which power rises at the grid; with discharge, the larger of both ways.
    fn down_factor(&self) -> f64 {
        self.up_factor()
    }

    /// Energy that the battery gains per hour at `kw` at the grid, kWh.
    pub(super) fn gain(&self, kw: f64) -> f64 {
        if kw >= 0.0 {
            kw * self.charge_efficiency
        } else {
            kw / self.discharge_efficiency
        }
    }

    /// Energy that full power adds in its own step `j`.
    fn reach(&self, grid: &Grid, j: usize) -> f64 {
        grid.hours(self.first + j) * self.share[j] * self.charge_efficiency * self.charge_kw
    }

    /// The levels between which it must stay, at each boundary of its steps.
    pub(super) fn envelope(&self, grid: &Grid) -> Envelope {
        let m = self.len();
        let mut full = vec![self.arrival; m + 1];
        for j in 0..m {
            full[j + 1] = (full[j] + self.reach(grid, j)).min(self.capacity.max(self.arrival));
        }
        let mut must = vec![f64::NEG_INFINITY; m + 1];
        if self.leaves.is_some() {
            let beyond = self.hours_beyond * self.charge_efficiency * self.charge_kw;
            must[m] = self.goal - CATCH_UP * beyond;
            for j in (0..m).rev() {
                // The last step before departure is kept free to catch up in.
                let spare = j + 1 == m && self.hours_beyond <= 0.0;
                must[j] = must[j + 1]
                    - if spare {
                        0.0
                    } else {
                        CATCH_UP * self.reach(grid, j)
                    };
            }
        } else {
            // It may leave at any moment: charge at once to what it needs, and keep it.
            must.fill(self.goal);
        }
        let lowest = self.floor.min(self.arrival);
        let floor = must
            .iter()
            .zip(&full)
            .map(|(must, full)| must.min(full - EPSILON).max(lowest))
            .collect();
        Envelope {
            full,
            floor,
            goal: must[m].max(lowest),
        }
    }
}

/// Energy levels at the boundaries of a vehicle's steps, kWh.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Envelope {
    /// Reached by full power from the start.
    pub(super) full: Vec<f64>,
    /// Least from which full power still reaches the goal in time, as far as that is possible at all.
    pub(super) floor: Vec<f64>,
    /// Wanted at the last boundary.
    pub(super) goal: f64,
}
