//! A back-test's facts as numbers: the scenario as the kernels see it, and problem R made from it.
//!
//! Power is kW at the grid side, positive charges; energy is kWh inside the battery; prices are currency per `MWh`
//! (capacity: currency per MW for the whole block). Everything is placed on one grid of equal steps over the period.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of steps, sessions and milliseconds are far below 2^53"
)]

use std::collections::BTreeSet;
use std::ops::Range;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Area, Product};

use crate::reference as problem;

/// Price of a kWh missing at departure in the objective of R, currency per kWh (contract 6).
pub const SHORTFALL_PER_KWH: f64 = 2.0;

/// Energy by which a session may miss its goal before it counts as short, kWh (contract 5: 1 Wh).
pub const SHORT_TOLERANCE_KWH: f64 = 1e-3;

/// Excess over a site limit below which nothing is counted, kW.
pub const BREACH_TOLERANCE_KW: f64 = 1e-3;

/// Equal steps from `start` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// First instant.
    pub start: DateTime<Utc>,
    /// Length of a step, positive.
    pub step: TimeDelta,
    /// Number of steps.
    pub steps: usize,
}

impl Grid {
    /// Length of a step, hours (`D`).
    #[must_use]
    pub fn hours(&self) -> f64 {
        self.step.num_milliseconds() as f64 / 3_600_000.0
    }

    /// First instant of step `index`; boundary `steps` is the end of the period.
    #[must_use]
    pub fn at(&self, index: usize) -> DateTime<Utc> {
        self.start + self.step * i32::try_from(index).unwrap_or(i32::MAX)
    }

    /// First instant after the period.
    #[must_use]
    pub fn end(&self) -> DateTime<Utc> {
        self.at(self.steps)
    }

    /// Steps from `start` to `at`, with its fraction; negative before the period.
    fn position(&self, at: DateTime<Utc>) -> f64 {
        (at - self.start).num_milliseconds() as f64 / self.step.num_milliseconds().max(1) as f64
    }

    /// Index of the first step that starts at or after `at`, clipped to the period.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clipped to 0..=steps"
    )]
    pub fn first_from(&self, at: DateTime<Utc>) -> usize {
        self.position(at).ceil().clamp(0.0, self.steps as f64) as usize
    }

    /// Index of the step that contains `at`, clipped to the period (the end of the period gives `steps`).
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clipped to 0..=steps"
    )]
    pub fn containing(&self, at: DateTime<Utc>) -> usize {
        self.position(at).floor().clamp(0.0, self.steps as f64) as usize
    }

    /// The steps wholly inside `start..end`, if both ends fall on steps of the period; `None` otherwise.
    #[must_use]
    pub fn whole(&self, start: DateTime<Utc>, end: DateTime<Utc>) -> Option<Range<usize>> {
        if start < self.start || end > self.end() {
            return None;
        }
        let (a, b) = (self.first_from(start), self.first_from(end));
        (self.at(a) == start && self.at(b) == end && b > a).then_some(a..b)
    }

    /// First step touched by `plug_in..plug_out` and the share of each step inside it (`f` of R).
    #[must_use]
    pub fn shares(&self, plug_in: DateTime<Utc>, plug_out: DateTime<Utc>) -> (usize, Vec<f64>) {
        let first = self.containing(plug_in);
        let last = self.first_from(plug_out).max(first);
        let length = self.step.num_milliseconds().max(1) as f64;
        let share = (first..last)
            .map(|t| {
                let from = self.at(t).max(plug_in);
                let to = (self.at(t) + self.step).min(plug_out);
                ((to - from).num_milliseconds() as f64 / length).clamp(0.0, 1.0)
            })
            .collect();
        (first, share)
    }
}

/// One stay of a vehicle as the session file tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stay {
    /// Name, unique in its file.
    pub session_id: String,
    /// Vehicle.
    pub vehicle_id: String,
    /// Site name.
    pub site_id: String,
    /// Arrival.
    pub plug_in: DateTime<Utc>,
    /// Departure, after `plug_in`.
    pub plug_out: DateTime<Utc>,
    /// Energy at arrival, kWh; unknown is `None`, never zero.
    pub arrival_kwh: Option<f64>,
    /// Level wanted at departure, kWh.
    pub required_kwh: f64,
    /// Usable capacity, kWh.
    pub capacity_kwh: f64,
    /// Most charging power, kW.
    pub charge_kw: f64,
    /// Most discharging power the charger allows, kW.
    pub discharge_kw: f64,
}

/// A session of the account: a stay placed on the grid, with its limits as R states them.
#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// The stay itself.
    pub stay: Stay,
    /// Index into [`Case::sites`], where the site has an entry.
    pub site: Option<usize>,
    /// First step touched.
    pub first: usize,
    /// Share of each step plugged in, 0 to 1 (`f`).
    pub share: Vec<f64>,
    /// Energy at plug-in, kWh (`E0`).
    pub arrival: f64,
    /// Never below this, kWh (`F`).
    pub floor: f64,
    /// Level owed at departure, kWh (see [`problem::Session::goal`]).
    pub goal: f64,
    /// Whether the required level was out of reach even at full power from plug-in on.
    pub unreachable: bool,
    /// Most discharging power, kW (`Pd`); zero where this vehicle may not discharge.
    pub discharge_kw: f64,
}

impl Session {
    /// Steps touched.
    #[must_use]
    pub fn steps(&self) -> Range<usize> {
        self.first..self.first + self.share.len()
    }

    /// Share of step `t` of the grid plugged in; zero outside the stay.
    #[must_use]
    pub fn share_at(&self, t: usize) -> f64 {
        t.checked_sub(self.first)
            .and_then(|j| self.share.get(j))
            .copied()
            .unwrap_or(0.0)
    }
}

/// A connection point.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name.
    pub id: String,
    /// Most power drawn, kW; infinite without limit.
    pub import_kw: f64,
    /// Most power fed in, kW; infinite without limit.
    pub export_kw: f64,
    /// Load of everything else, kW per step; empty for none.
    pub base_kw: Vec<f64>,
    /// The same before the period, newest last, as far as it is published; `None` where it is not.
    pub base_before: Vec<Option<f64>>,
}

impl Site {
    /// Load of everything else in step `t`, kW.
    #[must_use]
    pub fn base(&self, t: usize) -> f64 {
        self.base_kw.get(t).copied().unwrap_or(0.0)
    }

    /// Whether net power anywhere between `low` and `high` kW, base load included, breaks a limit.
    #[must_use]
    pub fn is_breached(&self, (low, high): (f64, f64)) -> bool {
        high > self.import_kw + BREACH_TOLERANCE_KW || low < -self.export_kw - BREACH_TOLERANCE_KW
    }
}

/// One block of a reserve product with its published price.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    /// First instant.
    pub start: DateTime<Utc>,
    /// First instant after.
    pub end: DateTime<Utc>,
    /// Currency per MW for the whole block.
    pub price: f64,
    /// Steps of the period it covers; `None` for a block before or after the period or not made of whole steps.
    pub steps: Option<Range<usize>>,
}

impl Block {
    /// Length, hours: 3 or 5 for the first block of a day on which clocks change.
    #[must_use]
    pub fn hours(&self) -> f64 {
        (self.end - self.start).num_milliseconds() as f64 / 3_600_000.0
    }
}

/// A reserve product that may be sold.
#[derive(Debug, Clone, PartialEq)]
pub struct Reserve {
    /// Which one; never the day-ahead energy.
    pub product: Product,
    /// Power kept free per power sold.
    pub power_factor: f64,
    /// Full activation to sustain, hours.
    pub endurance_hours: f64,
    /// Published blocks in order of time, also before the period.
    pub blocks: Vec<Block>,
}

impl Reserve {
    /// Blocks of whole steps of the period, in order: what R sells.
    pub fn on_sale(&self) -> impl Iterator<Item = (&Block, Range<usize>)> {
        self.blocks
            .iter()
            .filter_map(|b| b.steps.clone().map(|s| (b, s)))
    }

    /// Direction as problem R names it.
    #[must_use]
    pub const fn direction(&self) -> problem::Direction {
        match self.product {
            Product::AfrrUp => problem::Direction::Up,
            Product::AfrrDown => problem::Direction::Down,
            Product::Fcr | Product::DayAhead => problem::Direction::Symmetric,
        }
    }
}

/// Prices per step of the period, and what was published before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prices {
    /// Day-ahead, one per step.
    pub day_ahead: Vec<f64>,
    /// Day-ahead before the period, one per step, newest last; `None` where nothing is published.
    pub day_ahead_before: Vec<Option<f64>>,
    /// Paid for a `MWh` drawn beyond the position, one per step.
    pub short: Vec<f64>,
    /// Received for a `MWh` left over, one per step.
    pub long: Vec<f64>,
    /// The constant distance of `short` and `long` from the day-ahead price; `None` where they are published series.
    pub spread: Option<f64>,
}

/// Per `MWh` through the meter on top of the market price; see the scenario file.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Costs {
    /// Per `MWh` drawn.
    pub import: f64,
    /// Per `MWh` fed in.
    pub export: f64,
    /// Per `MWh` discharged.
    pub wear: f64,
    /// Per kW of a site's highest draw in each local month.
    pub demand: f64,
}

/// Facts of the fleet that are not per session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fleet {
    /// Share of grid energy that reaches the battery (`ec`).
    pub charge_efficiency: f64,
    /// Share of battery energy that reaches the grid (`ed`).
    pub discharge_efficiency: f64,
    /// Never below this share of capacity, except where a vehicle arrives lower.
    pub min_energy_fraction: f64,
    /// Share of vehicles that may discharge, first in order of their ids.
    pub v2g_share: f64,
    /// Whether `v1g` and `v2g` are told the departure at plug-in.
    pub departure_known: bool,
}

/// Whether a plan is made for the mean of what may come, or for all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Planning {
    /// One picture: past days averaged, prices at their mean, every volume at its expected value.
    Expected,
    /// Each past day is a picture of its own, with recourse; volumes hold with the asked probability.
    #[default]
    Stochastic,
}

/// How the policies without foresight weigh what they do not know.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Risk {
    /// Expected values or scenarios.
    pub planning: Planning,
    /// Level of the conditional value at risk, 0 to below 1: the mean of the worst `1 - alpha` of outcomes.
    pub cvar_alpha: f64,
    /// Weight of that mean in the objective, 0 (mean alone) to 1.
    pub beta: f64,
    /// Probability with which reserve sold is held throughout its block, 0 to below 1.
    pub reserve_reliability: f64,
}

impl Default for Risk {
    fn default() -> Self {
        Self {
            planning: Planning::Stochastic,
            cvar_alpha: 0.95,
            beta: 0.0,
            reserve_reliability: 0.9,
        }
    }
}

/// How positions are scored in ways the day may go that they were not made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Scoring {
    /// Ways drawn afresh for each day, at least one.
    pub ways: usize,
    /// Weights of the dear tail for each of which a position is made, from what is known at the gate; only that of
    /// [`Risk::beta`] is sold.
    pub betas: Vec<f64>,
}

/// One back-test as the kernels see it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Scenario name.
    pub name: String,
    /// Area: zones, gates, currency.
    pub area: Area,
    /// Steps of the period.
    pub grid: Grid,
    /// Energy prices.
    pub prices: Prices,
    /// Sessions of the account in the order of the file.
    pub sessions: Vec<Session>,
    /// Vehicles that may discharge.
    pub may_discharge: BTreeSet<String>,
    /// Stays outside the account (arrival energy unknown, or not wholly inside the period): history to learn from.
    pub others: Vec<Stay>,
    /// Local dates, known beforehand, on which the traffic is that of a Sunday: holidays, closed days.
    pub days_off: BTreeSet<NaiveDate>,
    /// Connection points.
    pub sites: Vec<Site>,
    /// Fees and wear.
    pub costs: Costs,
    /// Common facts of the fleet.
    pub fleet: Fleet,
    /// How the unknown is weighed.
    pub risk: Risk,
    /// Whether positions are scored in ways they were not made from. No decision depends on it.
    pub scoring: Option<Scoring>,
    /// Whether energy is sold day-ahead; otherwise all of it settles as imbalance.
    pub day_ahead: bool,
    /// Reserve products that may be sold.
    pub reserves: Vec<Reserve>,
    /// Rule for reserve energy in R.
    pub headroom: problem::Headroom,
    /// Steps until a changed schedule takes effect (`L`).
    pub recovery_steps: usize,
}

/// Names of the vehicles that may discharge: the first `share` of them in order of their ids, to the nearest whole
/// vehicle.
#[must_use]
pub fn v2g_vehicles<'a>(ids: impl IntoIterator<Item = &'a str>, share: f64) -> BTreeSet<&'a str> {
    let all: BTreeSet<&str> = ids.into_iter().collect();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count of vehicles between 0 and their number"
    )]
    let count = (share.clamp(0.0, 1.0) * all.len() as f64).round() as usize;
    all.into_iter().take(count).collect()
}

impl Case {
    /// Sorts `stays` into sessions of the account and others, and places the former on the grid.
    ///
    /// A stay belongs to the account if its arrival energy is known and it lies wholly inside the period.
    pub fn place(&mut self, stays: Vec<Stay>) {
        let may = v2g_vehicles(
            stays.iter().map(|s| s.vehicle_id.as_str()),
            self.fleet.v2g_share,
        );
        self.may_discharge = may.into_iter().map(str::to_owned).collect();
        for stay in stays {
            let inside = stay.plug_in >= self.grid.start && stay.plug_out <= self.grid.end();
            match stay.arrival_kwh {
                Some(arrival) if inside => {
                    let v2g = self.may_discharge.contains(&stay.vehicle_id);
                    let session = self.session(stay, arrival, v2g);
                    self.sessions.push(session);
                }
                _ => self.others.push(stay),
            }
        }
    }

    /// The session of R that `stay` makes; `arrival` is its energy at plug-in, kWh.
    #[must_use]
    pub fn session(&self, stay: Stay, arrival: f64, v2g: bool) -> Session {
        let (first, share) = self.grid.shares(stay.plug_in, stay.plug_out);
        let floor = (self.fleet.min_energy_fraction * stay.capacity_kwh).min(arrival);
        let plugged: f64 = share.iter().sum::<f64>() * self.grid.hours();
        let reach = arrival + self.fleet.charge_efficiency * stay.charge_kw * plugged;
        let wanted = stay.required_kwh.min(stay.capacity_kwh);
        Session {
            site: self.sites.iter().position(|s| s.id == stay.site_id),
            first,
            share,
            arrival,
            floor,
            goal: floor.max(wanted.min(reach)),
            unreachable: stay.required_kwh > reach + SHORT_TOLERANCE_KWH,
            discharge_kw: if v2g { stay.discharge_kw } else { 0.0 },
            stay,
        }
    }

    /// Vehicles of the account.
    #[must_use]
    pub fn vehicles(&self) -> usize {
        self.sessions
            .iter()
            .map(|s| s.stay.vehicle_id.as_str())
            .collect::<BTreeSet<_>>()
            .len()
    }

    /// Published price for drawing one `MWh` in step `t`, fees included.
    #[must_use]
    pub fn import_price(&self, t: usize) -> f64 {
        self.prices.day_ahead[t] + self.costs.import
    }

    /// Published price for feeding in one `MWh` in step `t`, fees taken off.
    #[must_use]
    pub fn export_price(&self, t: usize) -> f64 {
        self.prices.day_ahead[t] - self.costs.export
    }

    /// Reference problem R (contract 6), with or without discharging.
    #[must_use]
    pub fn problem(&self, discharge: bool) -> problem::Problem {
        problem::Problem {
            step_hours: self.grid.hours(),
            import_price: (0..self.grid.steps).map(|t| self.import_price(t)).collect(),
            export_price: (0..self.grid.steps).map(|t| self.export_price(t)).collect(),
            wear: self.costs.wear,
            shortfall: SHORTFALL_PER_KWH,
            sessions: self
                .sessions
                .iter()
                .map(|s| self.battery(s, discharge))
                .collect(),
            sites: self.sites.iter().map(limits).collect(),
            reserves: self.reserves.iter().map(offer).collect(),
            headroom: self.headroom,
        }
    }

    fn battery(&self, s: &Session, discharge: bool) -> problem::Session {
        problem::Session {
            site: s.site,
            first: s.first,
            share: s.share.clone(),
            capacity: s.stay.capacity_kwh,
            arrival: s.arrival,
            floor: s.floor,
            goal: s.goal,
            charge_kw: s.stay.charge_kw,
            discharge_kw: if discharge { s.discharge_kw } else { 0.0 },
            charge_efficiency: self.fleet.charge_efficiency,
            discharge_efficiency: self.fleet.discharge_efficiency,
        }
    }
}

fn limits(site: &Site) -> problem::Site {
    problem::Site {
        import_kw: site.import_kw,
        export_kw: site.export_kw,
        base_kw: site.base_kw.clone(),
    }
}

fn offer(reserve: &Reserve) -> problem::Reserve {
    problem::Reserve {
        direction: reserve.direction(),
        power_factor: reserve.power_factor,
        endurance_hours: reserve.endurance_hours,
        blocks: reserve
            .on_sale()
            .map(|(block, steps)| problem::Block {
                steps,
                price: block.price,
            })
            .collect(),
    }
}
