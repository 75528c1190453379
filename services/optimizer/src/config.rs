//! What can be chosen.

use chrono::TimeDelta;
use portfolio::market::Area;
use portfolio::rolling::Costs;
use serde::{Deserialize, Serialize};
use wire::proto::portfolio::v1::bid_decision;

/// Configuration of the optimizer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where the pool is sold.
    pub area: Area,
    /// Hours that a plan looks ahead: over the night to the departures of the next day.
    pub horizon_hours: u32,
    /// Least real time between two plans, ms: a clock that runs fast must not leave the other services without a processor.
    pub plan_every_real_ms: u64,
    /// Real seconds a plan may take; after them the previous one is clipped to what is possible.
    pub plan_limit_real_seconds: f64,
    /// Threads a plan is computed on; the plan does not depend on how many.
    pub plan_threads: usize,
    /// Minutes before a quarter hour at which trading for it ends: whoever was planned keeps to its plan from there on, if it can.
    pub gate_lead_minutes: u32,
    /// Price of moving a vehicle away from what it was planned to do, currency per MWh moved: chargers are not moved for less.
    pub chatter_per_mwh: f64,
    /// Minutes between questions for scenarios and prices ahead.
    pub forecast_every_minutes: u32,
    /// Minutes before a gate at which its bids are built, at least.
    pub lead_minutes: u32,
    /// Real seconds before a gate at which its bids are built, at least: solving takes real time, however fast the clock runs.
    pub lead_real_seconds: f64,
    /// Probability with which reserve on offer must be deliverable.
    pub delivery_probability: f64,
    /// Scenarios looked at; the likeliest are kept.
    pub scenarios: usize,
    /// Price of energy where nothing is published and nothing forecast, currency per MWh.
    pub unknown_price_per_mwh: f64,
    /// Fee on energy taken, currency per MWh.
    pub import_per_mwh: f64,
    /// Fee on energy given, currency per MWh.
    pub export_per_mwh: f64,
    /// Battery wear per MWh discharged.
    pub wear_per_mwh: f64,
    /// What deviating from the sold position costs beside the market's price.
    pub imbalance_spread: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            area: Area::Nl,
            horizon_hours: 30,
            plan_every_real_ms: 300,
            // Far beyond what ten thousand vehicles take; a plan that is later is of no use before the next.
            plan_limit_real_seconds: 60.0,
            plan_threads: 2,
            // The gate of the continuous intraday market in NL and DE control areas.
            gate_lead_minutes: 5,
            chatter_per_mwh: 0.5,
            forecast_every_minutes: 60,
            lead_minutes: 30,
            lead_real_seconds: 4.0,
            delivery_probability: 0.95,
            scenarios: 8,
            unknown_price_per_mwh: 80.0,
            import_per_mwh: 0.0,
            export_per_mwh: 0.0,
            wear_per_mwh: 30.0,
            imbalance_spread: 10.0,
        }
    }
}

impl Config {
    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=72).contains(&self.horizon_hours) {
            return Err(format!(
                "horizon_hours is {}, expected 1 to 72",
                self.horizon_hours
            ));
        }
        if self.forecast_every_minutes == 0 {
            return Err("forecast_every_minutes is 0, expected at least 1".to_owned());
        }
        if self.plan_threads == 0 {
            return Err("plan_threads is 0, expected at least 1".to_owned());
        }
        if self.gate_lead_minutes > 24 * 60 {
            return Err(format!(
                "gate_lead_minutes is {}, expected at most a day",
                self.gate_lead_minutes
            ));
        }
        if self.scenarios == 0 {
            return Err("scenarios is 0, expected at least 1".to_owned());
        }
        if !(0.5..1.0).contains(&self.delivery_probability) {
            return Err(format!(
                "delivery_probability is {}, expected 0.5 to below 1",
                self.delivery_probability
            ));
        }
        for (name, value) in [
            ("lead_real_seconds", self.lead_real_seconds),
            ("plan_limit_real_seconds", self.plan_limit_real_seconds),
            ("chatter_per_mwh", self.chatter_per_mwh),
            ("wear_per_mwh", self.wear_per_mwh),
            ("imbalance_spread", self.imbalance_spread),
        ] {
            if !value.is_finite() || value < 0.0 {
                return Err(format!("{name} is {value}, expected at least 0"));
            }
        }
        for (name, value) in [
            ("unknown_price_per_mwh", self.unknown_price_per_mwh),
            ("import_per_mwh", self.import_per_mwh),
            ("export_per_mwh", self.export_per_mwh),
        ] {
            if !value.is_finite() {
                return Err(format!("{name} is {value}, expected a number"));
            }
        }
        Ok(())
    }

    /// What has a part in bids.
    pub(crate) fn bid_settings(&self) -> bid_decision::Settings {
        bid_decision::Settings {
            import_per_mwh: self.import_per_mwh,
            export_per_mwh: self.export_per_mwh,
            wear_per_mwh: self.wear_per_mwh,
            imbalance_spread: self.imbalance_spread,
            unknown_price_per_mwh: self.unknown_price_per_mwh,
            delivery_probability: self.delivery_probability,
            scenarios: u32::try_from(self.scenarios).unwrap_or(u32::MAX),
        }
    }

    pub(crate) fn costs(&self) -> Costs {
        Costs {
            import_per_mwh: self.import_per_mwh,
            export_per_mwh: self.export_per_mwh,
            wear_per_mwh: self.wear_per_mwh,
            imbalance_spread: self.imbalance_spread,
        }
    }

    pub(crate) fn steps(&self) -> usize {
        usize::try_from(self.horizon_hours).unwrap_or(30) * 4
    }

    /// How long before a gate its bids are built, by a clock of this speed.
    pub(crate) fn lead(&self, speed: f64) -> TimeDelta {
        let real = (self.lead_real_seconds * speed).min(1e7);
        #[expect(clippy::cast_possible_truncation, reason = "at most 1e7 seconds")]
        let real = TimeDelta::seconds(real.ceil() as i64);
        real.max(TimeDelta::minutes(self.lead_minutes.into()))
    }
}
