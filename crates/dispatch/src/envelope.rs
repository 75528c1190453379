//! Limits of one EVSE that carry the future: what it may do now so that the vehicle still leaves with what it needs
//! (`optimisation.md` 10.2).
#![expect(
    clippy::cast_precision_loss,
    reason = "watts and joules of one battery are far below 2^53"
)]

use chrono::{DateTime, TimeDelta, Utc};
use fleet::state::EvseState;
use fleet::{Evse, Needs};
use units::Power;

/// Lowest charging power of a three-phase car that charges at all: 6 A on three phases at 230 V (IEC 61851-1).
pub const THREE_PHASE_MINIMUM: Power = Power::from_watts(4_140);
/// Lowest charging power of a single-phase car that charges at all: 6 A at 230 V (IEC 61851-1).
pub const SINGLE_PHASE_MINIMUM: Power = Power::from_watts(1_380);
/// Highest power of a single phase, 32 A at 230 V: whoever charges faster uses three.
const SINGLE_PHASE_MOST: Power = Power::from_watts(7_400);
/// Highest power of an alternating-current socket, 63 A on three phases; above it is direct current, without a lower limit that matters.
const AC_MOST: Power = Power::from_watts(43_500);

/// Why an EVSE may do what it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody is plugged in, or the station is not connected: nothing can be told.
    Absent,
    /// Nobody said what the vehicle needs, or when it leaves while it still needs energy: it charges at full power, outside the pool.
    Unmanaged,
    /// No time to spare: full power, outside the pool.
    Locked,
    /// Part of the pool.
    Flexible,
}

/// Limits of one EVSE until the next decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// Lowest power.
    pub low: Power,
    /// Highest power.
    pub high: Power,
    /// Lowest power if it charges at all.
    pub min_charge: Power,
    /// Why.
    pub state: State,
    /// Time to spare before only full power is enough; `None` where nothing is due.
    pub laxity: Option<TimeDelta>,
    /// True while energy is still needed.
    pub needs_energy: bool,
}

impl Envelope {
    const fn fixed(power: Power, state: State, needs_energy: bool) -> Self {
        Self {
            low: power,
            high: power,
            min_charge: Power::ZERO,
            state,
            laxity: None,
            needs_energy,
        }
    }

    /// True if the pool may move it.
    #[must_use]
    pub fn is_flexible(&self) -> bool {
        self.state == State::Flexible
    }
}

/// How the limits look ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Time until the next decision takes effect: cycle plus latency.
    pub decision: TimeDelta,
    /// Time to spare that is never used up: it covers chargers that deliver less than they say.
    pub margin: TimeDelta,
}

/// Limits of one EVSE at `now`.
///
/// Energies are inside the battery. A vehicle whose stored energy is unknown never discharges, and charges no further than it said it needs: how
/// much room is left is unknown, not zero and not plenty.
#[must_use]
pub fn envelope(state: &EvseState, now: DateTime<Utc>, horizon: Horizon) -> Envelope {
    let Some(session) = state.session.as_ref().filter(|_| state.online) else {
        return Envelope::fixed(Power::ZERO, State::Absent, false);
    };
    let evse = &state.evse;
    let Some(needs) = session.session.needs.as_ref() else {
        return Envelope::fixed(evse.max_charge, State::Unmanaged, true);
    };
    let added = session.added.map_or(0.0, |e| e.joules() as f64) - drained(state, now);
    Battery::new(evse, needs, added).envelope(needs.departure, now, horizon)
}

/// Joules that may have left the battery since the last reading, at least zero: it is taken to discharge for all that time if it did so at the reading, or
/// was told to since. Energy charged since the last reading is not counted before it is measured.
fn drained(state: &EvseState, now: DateTime<Utc>) -> f64 {
    const LONGEST_SECONDS: f64 = 3_600.0;
    let told = state
        .setpoint
        .filter(|s| state.power.is_none_or(|p| s.at > p.at));
    let lowest = state
        .power
        .into_iter()
        .chain(told)
        .map(|p| p.power)
        .min()
        .unwrap_or(Power::ZERO);
    let Some(since) = state.power.or(told).map(|p| p.at) else {
        return 0.0;
    };
    let seconds = (now - since).as_seconds_f64().clamp(0.0, LONGEST_SECONDS);
    let watts = (-lowest.watts()).max(0) as f64;
    watts * seconds / state.evse.discharge_efficiency.share()
}

/// One battery in watts, joules and seconds.
struct Battery {
    most: Power,
    least: Power,
    charge: f64,
    discharge: f64,
    ec: f64,
    ed: f64,
    /// Joules still needed inside the battery; negative once there is more than needed.
    due: f64,
    /// Joules that still fit.
    room: f64,
    /// Joules above the floor; none if unknown.
    spare: f64,
    min_charge: Power,
}

impl Battery {
    fn new(evse: &Evse, needs: &Needs, added: f64) -> Self {
        let most = evse.max_charge.min(needs.max_charge).max(Power::ZERO);
        let may_discharge = evse.protocol.can_discharge() && needs.stored.is_some();
        let discharge = if may_discharge {
            evse.max_discharge.min(needs.max_discharge).max(Power::ZERO)
        } else {
            Power::ZERO
        };
        let due = needs.energy.joules() as f64 - added;
        let stored = needs.stored.map(|e| e.joules() as f64 + added);
        let room = match (stored, needs.capacity) {
            (Some(stored), Some(capacity)) => capacity.joules() as f64 - stored,
            _ => due,
        };
        let spare = stored.map_or(0.0, |stored| stored - needs.floor.joules() as f64);
        Self {
            most,
            least: -discharge,
            charge: most.watts() as f64,
            discharge: discharge.watts() as f64,
            ec: evse.charge_efficiency.share(),
            ed: evse.discharge_efficiency.share(),
            due,
            room: room.max(0.0),
            spare: spare.max(0.0),
            min_charge: minimum(most, discharge),
        }
    }

    fn envelope(
        &self,
        departure: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        horizon: Horizon,
    ) -> Envelope {
        let needs_energy = self.due > 0.0 && self.room > 0.0;
        let Some(departure) = departure else {
            return if needs_energy {
                Envelope::fixed(self.most, State::Unmanaged, true)
            } else {
                self.flexible(0.0, horizon, None, false)
            };
        };
        let left = (departure - now).as_seconds_f64();
        let full = self.ec * self.charge;
        let laxity = if full > 0.0 {
            left - self.due.max(0.0) / full
        } else {
            0.0
        };
        let laxity = laxity - horizon.margin.as_seconds_f64();
        if needs_energy && (laxity <= 0.0 || left <= 0.0) {
            return Envelope {
                laxity: Some(seconds(laxity)),
                ..Envelope::fixed(self.most, State::Locked, true)
            };
        }
        let envelope = self.flexible(left, horizon, Some(laxity), needs_energy);
        if left <= 0.0 {
            // Overdue: it may leave any moment, so nothing is taken from it any more.
            return Envelope {
                low: envelope.low.max(Power::ZERO),
                high: envelope.high.max(Power::ZERO),
                ..envelope
            };
        }
        envelope
    }

    /// `left`: seconds to departure, only used with a `laxity`.
    fn flexible(
        &self,
        left: f64,
        horizon: Horizon,
        laxity: Option<f64>,
        needs_energy: bool,
    ) -> Envelope {
        let ahead = horizon.decision.as_seconds_f64().max(1.0);
        let fits = self.room / (self.ec * ahead);
        let high = self.charge.min(fits);
        let mut low = (-self.discharge).max(-self.spare * self.ed / ahead);
        if let Some(laxity) = laxity {
            let step = ahead.min(left.max(1.0));
            // What must have reached the battery when the next decision takes effect, so that full power from there on is enough.
            let reachable = self.ec * self.charge * (left - horizon.margin.as_seconds_f64() - step);
            let must = self.due - reachable;
            let power = if must > 0.0 {
                must / (self.ec * step)
            } else {
                must * self.ed / step
            };
            low = low.max(power.min(self.charge));
            debug_assert!(laxity.is_finite());
        }
        let mut envelope = Envelope {
            // Limits are rounded to the side of the vehicle: the need up, the room down.
            low: watts(low.ceil()).clamp(self.least, self.most),
            high: watts(high.floor()).clamp(self.least, self.most),
            min_charge: self.min_charge,
            state: State::Flexible,
            laxity: laxity.map(seconds),
            needs_energy,
        };
        envelope.high = envelope.high.max(envelope.low);
        envelope.reach_minimum();
        envelope
    }
}

impl Envelope {
    /// Between nothing and the lowest charging power there is nothing: a need is rounded up to it, a room below it is none.
    fn reach_minimum(&mut self) {
        if self.low > Power::ZERO && self.low < self.min_charge {
            self.low = self.min_charge;
            self.high = self.high.max(self.low);
        }
        if self.high > Power::ZERO && self.high < self.min_charge {
            self.high = if self.needs_energy {
                // The last bit of a need: the vehicle itself stops when it is full.
                self.min_charge
            } else {
                Power::ZERO
            };
            self.low = self.low.min(self.high);
        }
    }
}

/// Lowest charging power of a vehicle that charges at `most` when it charges fastest.
fn minimum(most: Power, discharge: Power) -> Power {
    if most > AC_MOST || discharge > Power::ZERO || most <= Power::ZERO {
        Power::ZERO
    } else if most <= SINGLE_PHASE_MOST {
        SINGLE_PHASE_MINIMUM.min(most)
    } else {
        THREE_PHASE_MINIMUM.min(most)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "limits of one EVSE, saturates"
)]
fn watts(value: f64) -> Power {
    Power::from_watts(value as i64)
}

#[expect(clippy::cast_possible_truncation, reason = "bounded before")]
fn seconds(value: f64) -> TimeDelta {
    const LONGEST: f64 = 1e9;
    TimeDelta::milliseconds((value.clamp(-LONGEST, LONGEST) * 1e3) as i64)
}
