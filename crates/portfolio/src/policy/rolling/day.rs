//! The plan of one delivery day as a person reads it: positions, bids with reasons, vehicles, and what was relaxed.
#![expect(
    clippy::cast_precision_loss,
    reason = "counts of vehicles and days are far below 2^53"
)]

use std::ops::Range;

use chrono::{DateTime, NaiveDate, Utc};
use market::{Direction, Product};
use serde::Serialize;
use units::DeliveryDay;

use super::Rolling;
use super::player::Player;
use crate::reference;

/// Power below which a vehicle does nothing, kW.
const IDLE_KW: f64 = 1e-6;

/// What is decided for one delivery day when its last gate closes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DayPlan {
    /// Delivery day.
    pub day: NaiveDate,
    /// Policy.
    pub policy: &'static str,
    /// Instant of the decision; nothing after it was used.
    pub made_at: DateTime<Utc>,
    /// Position per interval under the expected prices.
    pub positions: Vec<PlannedStep>,
    /// Bids of all products.
    pub bids: Vec<PlannedBid>,
    /// Vehicles that are plugged in, and those that are expected to come.
    pub sessions: Vec<PlannedSession>,
    /// What the plan leaves out of the market's rules.
    pub relaxed: Vec<String>,
}

/// One interval.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedStep {
    /// First instant.
    pub start: DateTime<Utc>,
    /// First instant after.
    pub end: DateTime<Utc>,
    /// Expected day-ahead price, per `MWh`.
    pub expected_price: f64,
    /// Planned fleet power, kW; positive charges.
    pub position_kw: f64,
    /// Of it charging, kW.
    pub charge_kw: f64,
    /// Of it discharging, kW.
    pub discharge_kw: f64,
    /// Reserve offered or sold, MW.
    pub fcr_mw: f64,
    /// See `fcr_mw`.
    pub afrr_up_mw: f64,
    /// See `fcr_mw`.
    pub afrr_down_mw: f64,
    /// Why, in words.
    pub reason: String,
}

/// One bid.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedBid {
    /// Product.
    pub product: &'static str,
    /// `up` sells energy or capacity against less load, `down` buys.
    pub direction: Direction,
    /// First instant of delivery.
    pub start: DateTime<Utc>,
    /// First instant after delivery.
    pub end: DateTime<Utc>,
    /// First instant at which the bid is late.
    pub gate_closes: DateTime<Utc>,
    /// Volume, MW, more than zero.
    pub volume_mw: f64,
    /// Whole MW that a market with a minimum and step of 1 MW would take; energy is taken in steps of 0.1 MW.
    pub rounded_mw: f64,
    /// Price asked: capacity per MW and block, energy per `MWh`; `None` takes any price.
    pub price: Option<f64>,
    /// Probability that the fleet can deliver it, from the ways drawn for the day.
    pub delivery_probability: f64,
    /// For reserve, once the auction is over: whether it was won.
    pub won: Option<bool>,
    /// Why, in words.
    pub reason: String,
}

/// What one vehicle is planned to do on the day.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedSession {
    /// Session, for a vehicle that is plugged in; `None` for one that is expected.
    pub session_id: Option<String>,
    /// Site.
    pub site_id: String,
    /// Probability: 1 for a vehicle that is plugged in.
    pub weight: f64,
    /// Plug-in.
    pub from: DateTime<Utc>,
    /// Plug-out, known or assumed.
    pub until: DateTime<Utc>,
    /// Level owed at departure, kWh.
    pub goal_kwh: f64,
    /// Charged on the day, kWh at the meter.
    pub charged_kwh: f64,
    /// Discharged on the day, kWh at the meter.
    pub discharged_kwh: f64,
}

impl Rolling<'_> {
    /// The plan for `day` as it stands before step `now`, made at `made_at`.
    pub(super) fn day_plan(&self, day: DeliveryDay, now: usize, made_at: DateTime<Utc>) -> DayPlan {
        let grid = &self.case.grid;
        let steps = grid.first_from(day.start())..grid.first_from(day.end());
        let mut bids = self.energy_bids(day, &steps);
        bids.extend(self.reserve_bids(&steps));
        DayPlan {
            day: day.date(),
            policy: self.policy.name(),
            made_at,
            positions: steps
                .clone()
                .map(|t| self.planned_step(&steps, t))
                .collect(),
            bids,
            sessions: self
                .players
                .iter()
                .filter(|p| {
                    p.session.steps().end > steps.start.max(now) && p.session.first < steps.end
                })
                .map(|p| self.planned_session(p, &steps))
                .collect(),
            relaxed: self.relaxed(),
        }
    }

    /// Volume the offer for the day has at the expected prices; the plan's load where energy is not sold day-ahead.
    fn position(&self, day: DeliveryDay, steps: &Range<usize>, t: usize) -> f64 {
        let offers = self.pending.iter().chain(&self.offers);
        offers
            .filter(|o| o.day == day)
            .find_map(|o| o.profiles.first()?.kw.get(t - steps.start).copied())
            .unwrap_or_else(|| self.pool.load(t))
    }

    fn planned_step(&self, steps: &Range<usize>, t: usize) -> PlannedStep {
        let (mut charge, mut discharge) = (0.0, 0.0);
        for player in &self.players {
            if let Some(j) = own_step(player, t) {
                charge += player.weight * player.charge[j];
                discharge += player.weight * player.discharge[j];
            }
        }
        let held = |product| self.held_mw(product, t);
        PlannedStep {
            start: self.case.grid.at(t),
            end: self.case.grid.at(t + 1),
            expected_price: self.market.price[t],
            position_kw: charge - discharge,
            charge_kw: charge,
            discharge_kw: discharge,
            fcr_mw: held(Product::Fcr),
            afrr_up_mw: held(Product::AfrrUp),
            afrr_down_mw: held(Product::AfrrDown),
            reason: self.reason(steps, t, charge, discharge),
        }
    }

    /// Reserve of a product offered and not lost in step `t`, MW.
    fn held_mw(&self, product: Product, t: usize) -> f64 {
        let bids = self
            .bids
            .iter()
            .filter(|b| b.steps.contains(&t) && b.won != Some(false));
        bids.filter(|b| self.case.reserves[b.product].product == product)
            .map(|b| b.mw)
            .sum()
    }

    /// Where the price stands in its day, who does what, and which limit binds at which price.
    fn reason(&self, steps: &Range<usize>, t: usize, charge: f64, discharge: f64) -> String {
        let currency = self.case.area.currency();
        let price = self.market.price[t];
        let cheaper = steps
            .clone()
            .filter(|s| self.market.price[*s] < price)
            .count();
        let share = 100.0 * cheaper as f64 / steps.len().max(1) as f64;
        let active = self
            .players
            .iter()
            .filter_map(|p| own_step(p, t).map(|j| (p, j)));
        let (mut charging, mut discharging, mut full, mut worth) = (0.0, 0.0, 0.0, 0.0_f64);
        for (p, j) in active {
            charging += if p.charge[j] > IDLE_KW { p.weight } else { 0.0 };
            discharging += if p.discharge[j] > IDLE_KW {
                p.weight
            } else {
                0.0
            };
            let most = p.session.share[j] * p.session.stay.charge_kw;
            if p.charge[j] > IDLE_KW && p.charge[j] >= most - IDLE_KW {
                full += p.weight;
                let value = p.worth.get(j).copied().unwrap_or(0.0)
                    * 1000.0
                    * self.case.fleet.charge_efficiency;
                // A vehicle that cannot be filled in time is worth any price; the largest sensible one is shown.
                worth = worth.max((value - price).min(1000.0));
            }
        }
        let mut words =
            format!("{price:.1} {currency}/MWh expected, {share:.0} % of the day is cheaper");
        if charge > IDLE_KW {
            words += &format!("; {charging:.1} vehicles charge {charge:.1} kW");
        }
        if discharge > IDLE_KW {
            words += &format!("; {discharging:.1} vehicles discharge {discharge:.1} kW");
        }
        if charge <= IDLE_KW && discharge <= IDLE_KW {
            words += "; nothing is gained by charging or discharging now";
        }
        if full > 0.0 && worth > 0.0 {
            words += &format!(
                "; charger power binds for {full:.1} of them, worth up to {worth:.1} {currency} per MWh more"
            );
        }
        words
    }

    fn energy_bids(&self, day: DeliveryDay, steps: &Range<usize>) -> Vec<PlannedBid> {
        if !self.case.day_ahead {
            return Vec::new();
        }
        let gate = super::known::gate_of(self.case.area, Product::DayAhead, day);
        let alternatives = self
            .pending
            .iter()
            .chain(&self.offers)
            .find(|o| o.day == day);
        let group = alternatives.map_or(0, |o| o.profiles.len());
        steps
            .clone()
            .filter_map(|t| {
                let kw = self.position(day, steps, t);
                (kw.abs() > IDLE_KW).then(|| PlannedBid {
                    product: Product::DayAhead.name(),
                    direction: if kw > 0.0 { Direction::Down } else { Direction::Up },
                    start: self.case.grid.at(t),
                    end: self.case.grid.at(t + 1),
                    gate_closes: gate.closes,
                    volume_mw: kw.abs() / 1000.0,
                    rounded_mw: (kw.abs() / 100.0).floor() / 10.0,
                    price: None,
                    delivery_probability: self.energy_probability(t, kw),
                    won: None,
                    reason: format!(
                        "{} for {:.1} kW of {}; one of {group} schedules in an exclusive group, of which the auction takes the cheapest at its prices",
                        if kw > 0.0 { "buy" } else { "sell" },
                        kw.abs(),
                        if kw > 0.0 { "charging" } else { "discharging" },
                    ),
                })
            })
            .collect()
    }

    /// Share of the pictures in which the fleet's plan alone reaches the volume in this interval.
    fn energy_probability(&self, t: usize, kw: f64) -> f64 {
        let pictures = self
            .players
            .iter()
            .map(|p| p.picture + 1)
            .max()
            .unwrap_or(1);
        let mut loads = vec![0.0; pictures];
        let mut sure = 0.0;
        for player in &self.players {
            match player.real {
                Some(_) => sure += player.net(t),
                None => loads[player.picture] += player.net(t),
            }
        }
        let enough = loads
            .iter()
            .filter(|l| (sure + **l) * kw.signum() >= kw.abs() - IDLE_KW);
        enough.count() as f64 / pictures as f64
    }

    fn reserve_bids(&self, steps: &Range<usize>) -> Vec<PlannedBid> {
        self.bids
            .iter()
            .filter(|b| steps.contains(&b.steps.start))
            .map(|b| {
                let reserve = &self.case.reserves[b.product];
                PlannedBid {
                    product: reserve.product.name(),
                    direction: match reserve.direction() {
                        reference::Direction::Up => Direction::Up,
                        reference::Direction::Down => Direction::Down,
                        reference::Direction::Symmetric => Direction::Symmetric,
                    },
                    start: self.case.grid.at(b.steps.start),
                    end: self.case.grid.at(b.steps.end),
                    gate_closes: b.closes,
                    volume_mw: b.mw,
                    rounded_mw: b.mw.floor(),
                    price: Some(b.price),
                    delivery_probability: b.probability,
                    won: b.won,
                    reason: format!(
                        "{:.1} kW can be held throughout with a probability of {:.2}, by the ways drawn for the day; holding it costs {:.2} {} per MW and block",
                        b.mw * 1000.0,
                        b.probability,
                        b.cost,
                        self.case.area.currency(),
                    ),
                }
            })
            .collect()
    }

    fn planned_session(&self, player: &Player, steps: &Range<usize>) -> PlannedSession {
        let (mut charged, mut discharged) = (0.0, 0.0);
        for t in steps.clone() {
            if let Some(j) = own_step(player, t) {
                charged += player.charge[j];
                discharged += player.discharge[j];
            }
        }
        let hours = self.case.grid.hours();
        let stay = &player.session.stay;
        PlannedSession {
            session_id: player.real.map(|_| stay.session_id.clone()),
            site_id: stay.site_id.clone(),
            weight: player.weight,
            from: stay.plug_in,
            until: stay.plug_out,
            goal_kwh: player.session.goal,
            charged_kwh: charged * hours,
            discharged_kwh: discharged * hours,
        }
    }

    fn relaxed(&self) -> Vec<String> {
        let mut words = vec![
            "volumes are not rounded to the market's steps: rounded_mw says what would be taken".to_owned(),
            "the lowest charging power of a vehicle is not kept: the dispatcher switches whole vehicles".to_owned(),
        ];
        if !self.case.reserves.is_empty() {
            words.push("vehicles behind a limited site hold no reserve, one-way chargers no upward reserve".to_owned());
        }
        if !self.case.fleet.departure_known {
            words.push("departures are not known: stays are assumed to end early".to_owned());
        }
        words
    }
}

/// Index of step `t` of the grid within the session, if it is inside.
fn own_step(player: &Player, t: usize) -> Option<usize> {
    t.checked_sub(player.session.first)
        .filter(|j| *j < player.charge.len())
}
