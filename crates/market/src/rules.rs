//! The product table: dated records, read once from data.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Deserialize;
use units::{DeliveryDay, Interval, Power};

use crate::gate::{Gate, WallClock};
use crate::{Area, Direction, Product};

/// How long the delivery intervals of a product are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, untagged)]
pub enum Delivery {
    /// Market time units of equal length from the start of the delivery day.
    Units {
        /// Minutes of one market time unit.
        unit_minutes: u32,
    },
    /// Blocks between local wall-clock hours: on days when clocks change one block is an hour shorter or longer.
    Blocks {
        /// Wall-clock hours of one block.
        block_hours: u32,
    },
}

/// What may be taken of a bid in part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Divisible {
    /// Every bid may be taken in part.
    Always,
    /// A bid may ask to be taken whole up to a cap.
    IndivisibleAllowed {
        /// Largest indivisible bid, watts.
        cap_watts: i64,
    },
}

/// What an award pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pricing {
    /// Its own bid price.
    PayAsBid,
    /// The clearing price, one for all.
    Marginal,
}

/// Unit in which the market publishes a price. Inside the platform capacity is priced per MW for the whole block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PriceUnit {
    /// Currency per MWh.
    PerMwh,
    /// Currency per MW and hour of the block.
    PerMwHour,
    /// Currency per MW for the whole block.
    PerMwBlock,
}

impl PriceUnit {
    /// A price of the platform (energy per MWh, capacity per MW for the whole `delivery`) in the market's unit.
    #[must_use]
    pub fn from_platform(self, price: Decimal, delivery: Interval) -> Decimal {
        match self {
            Self::PerMwh | Self::PerMwBlock => price,
            Self::PerMwHour => price / hours(delivery),
        }
    }

    /// A price in the market's unit as the platform holds it: energy per MWh, capacity per MW for the whole `delivery`.
    #[must_use]
    pub fn to_platform(self, price: Decimal, delivery: Interval) -> Decimal {
        match self {
            Self::PerMwh | Self::PerMwBlock => price,
            Self::PerMwHour => price * hours(delivery),
        }
    }
}

fn hours(delivery: Interval) -> Decimal {
    Decimal::from(delivery.length().num_seconds()) / Decimal::from(3_600)
}

/// Unit, step and limits of a price, in the market's unit.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRule {
    /// Unit.
    pub unit: PriceUnit,
    /// Smallest difference of two prices.
    pub step: Decimal,
    /// Lowest price, if limited.
    pub floor: Option<Decimal>,
    /// Highest price, if limited.
    pub cap: Option<Decimal>,
}

/// How power must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case", tag = "kind")]
pub enum Dynamics {
    /// A schedule of energy per market time unit.
    Schedule,
    /// In proportion to the deviation of frequency.
    Droop {
        /// Deviation of full response, mHz.
        full_millihertz: u32,
        /// Deviation without response, mHz; Continental FCR has none.
        deadband_millihertz: u32,
        /// Tolerance of measurement and actuation, mHz; not a deadband.
        insensitivity_millihertz: u32,
        /// First reaction within, seconds.
        start_seconds: u32,
        /// Half of the response within, seconds.
        half_seconds: u32,
        /// All of the response within, seconds.
        full_seconds: u32,
    },
    /// To a set-point of the operator.
    Setpoint {
        /// Seconds between set-points.
        cycle_seconds: u32,
        /// Full activation time, seconds.
        full_seconds: u32,
    },
}

/// Whether a limited reservoir answers only the fast part of the deviation when nearly empty or full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReserveMode {
    /// It must.
    Required,
    /// Groups of many small units need not, and must not do so unasked.
    #[default]
    Exempt,
}

/// How long full delivery must be possible, and what else the reservoir rules ask.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endurance {
    /// Duration used for planning, minutes (FCR: `T_minLER`).
    pub minutes: u32,
    /// Lowest value the operator may ask, minutes.
    pub lowest_minutes: u32,
    /// Highest value the operator may ask, minutes.
    pub highest_minutes: u32,
    /// Rated power per qualified power of an independent unit with a limited reservoir.
    pub power_factor: Decimal,
    /// See [`ReserveMode`].
    #[serde(default)]
    pub reserve_mode: ReserveMode,
    /// Minutes after return to the standard range within which the reservoir must be restored.
    pub restore_minutes: Option<u32>,
}

/// What must be measured and when it must be delivered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryRule {
    /// Preferred seconds between samples.
    pub cadence_seconds: u32,
    /// Largest seconds between samples.
    pub slowest_seconds: u32,
    /// Largest measurement error, percent.
    pub error_percent: u32,
    /// When the data of delivery day D must be delivered.
    pub deadline: WallClock,
}

/// Who makes the baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Baseline {
    /// Not needed: energy is compared with the sold position.
    None,
    /// The provider, ahead of the interval; the version frozen before its start counts.
    ProviderForecast,
}

/// Which settlement function computes what an award pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettlementRule {
    /// Position at the auction price, deviation at the imbalance price.
    EnergyV1,
    /// Capacity pro rata of time, less penalties.
    CapacityV1,
}

/// Multiples of the capacity price taken for reserve that was sold and missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PenaltyRule {
    /// Reserve that was not there.
    pub unavailable_factor: u32,
    /// Reserve that was there and did not answer.
    pub no_response_factor: u32,
    /// What comes on top when reserve of the product is missing again. The statement of one day does not know the days
    /// before and leaves it out.
    #[serde(default)]
    pub repeated: Option<RepeatedPenalty>,
    /// When reserve that is missing again and again ends the qualification; `None` where that is not known to happen.
    #[serde(default)]
    pub qualification: Option<QualificationRule>,
}

/// When a provider whose reserve is missing too often may no longer offer the product, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QualificationRule {
    /// Days back from the end of a block that are looked at.
    pub window_days: u32,
    /// Blocks delivered within them below which nothing is concluded, at least 1.
    pub blocks: u32,
    /// Share of those blocks in which some was missing, percent, above which the qualification ends.
    pub short_percent: u32,
    /// Days until the provider is qualified again, counted from that end.
    pub restored_days: u32,
}

/// What a provider pays on top from the second time on that reserve it sold is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedPenalty {
    /// For each `MWh` missing the greater of the block's mean capacity price per hour and the price of intraday energy
    /// (`markets.md` 5.1).
    CapacityOrEnergyPrice,
}

/// The energy side of a capacity product.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnergyRule {
    /// Minutes of one delivery interval.
    pub unit_minutes: u32,
    /// Minutes before its start at which the gate closes, on UTC instants.
    pub minutes_before: u32,
    /// What activated energy pays.
    pub pricing: Pricing,
    /// Price limits.
    pub price: PriceRule,
}

impl EnergyRule {
    /// The rolling gate of the energy market.
    #[must_use]
    pub fn gate(&self) -> Gate {
        Gate::Rolling {
            before: TimeDelta::minutes(i64::from(self.minutes_before)),
        }
    }
}

/// Rules of one product in one area over one period of validity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub area: Area,
    /// What.
    pub product: Product,
    /// Who buys.
    pub buyer: String,
    /// First instant of delivery under these rules.
    pub valid_from: DateTime<Utc>,
    /// First instant of delivery no longer under them.
    pub valid_to: Option<DateTime<Utc>>,
    /// Zone of the delivery day.
    pub calendar_zone: Tz,
    /// When bids are taken.
    pub gate: Gate,
    /// Delivery intervals.
    pub delivery: Delivery,
    /// Directions that a bid may have.
    pub directions: Vec<Direction>,
    /// Smallest volume.
    pub minimum: Power,
    /// Volumes are whole numbers of it.
    pub step: Power,
    /// Largest volume of one bid.
    pub maximum: Option<Power>,
    /// Whether bids may be taken in part.
    pub divisible: Divisible,
    /// What an award pays.
    pub pricing: Pricing,
    /// Price limits.
    pub price: PriceRule,
    /// How power must follow.
    pub dynamics: Dynamics,
    /// Reservoir rules, for reserve.
    pub endurance: Option<Endurance>,
    /// Measurement rules, for reserve.
    pub telemetry: Option<TelemetryRule>,
    /// Baseline.
    pub baseline: Baseline,
    /// Settlement function.
    pub settlement: SettlementRule,
    /// Penalty, for reserve.
    pub penalty: Option<PenaltyRule>,
    /// Energy side of a capacity product.
    pub energy: Option<EnergyRule>,
}

/// A product table that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RulesError {
    /// Not TOML of the expected shape.
    #[error("product table does not read: {0}")]
    Shape(#[from] toml::de::Error),
    /// A record contradicts itself.
    #[error("{product} of {area} from {from}: {what}")]
    Record {
        /// Area of the record.
        area: Area,
        /// Product of the record.
        product: &'static str,
        /// Its first date.
        from: NaiveDate,
        /// What is wrong.
        what: String,
    },
}

/// No rules for what was asked.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[error("no rules for {product} in {area} at {at}", product = .product.name())]
pub struct NoRule {
    /// Area asked for.
    pub area: Area,
    /// Product asked for.
    pub product: Product,
    /// Start of the delivery asked for.
    pub at: DateTime<Utc>,
}

/// All rules, by area and product, in order of validity.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    records: BTreeMap<(Area, Product), Vec<Rule>>,
}

static BUILT_IN: LazyLock<Rules> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the embedded table is read by a test of this crate"
    )]
    Rules::from_toml(include_str!("../data/products.toml")).expect("the embedded table is valid")
});

impl Rules {
    /// The table that ships with this version.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// A table from TOML text of the shape of `data/products.toml`.
    ///
    /// # Errors
    /// [`RulesError`] naming the record and what it contradicts.
    pub fn from_toml(text: &str) -> Result<Self, RulesError> {
        let table: Table = toml::from_str(text)?;
        let mut rules = Self::default();
        for record in &table.product {
            for area in &record.areas {
                let rule = record.rule(*area)?;
                rules
                    .records
                    .entry((*area, record.product))
                    .or_default()
                    .push(rule);
            }
        }
        for records in rules.records.values_mut() {
            records.sort_by_key(|r| r.valid_from);
            refuse_overlap(records)?;
        }
        Ok(rules)
    }

    /// The rules for delivery that starts at `delivery_start`.
    ///
    /// # Errors
    /// [`NoRule`] if the product was not traded in that area then.
    pub fn at(
        &self,
        area: Area,
        product: Product,
        delivery_start: DateTime<Utc>,
    ) -> Result<&Rule, NoRule> {
        self.records
            .get(&(area, product))
            .and_then(|records| {
                records.iter().rev().find(|r| {
                    r.valid_from <= delivery_start
                        && r.valid_to.is_none_or(|to| delivery_start < to)
                })
            })
            .ok_or(NoRule {
                area,
                product,
                at: delivery_start,
            })
    }

    /// Every rule, by area, product and validity.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.records.values().flatten()
    }
}

fn refuse_overlap(records: &[Rule]) -> Result<(), RulesError> {
    for pair in records.windows(2) {
        if pair[0].valid_to.is_none_or(|to| to > pair[1].valid_from) {
            return Err(RulesError::Record {
                area: pair[1].area,
                product: pair[1].product.name(),
                from: pair[1]
                    .valid_from
                    .with_timezone(&pair[1].calendar_zone)
                    .date_naive(),
                what: "the record before it is still valid".to_owned(),
            });
        }
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    product: Vec<Record>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GateRecord {
    zone: Tz,
    opens: Option<WallClock>,
    closes: WallClock,
    results: WallClock,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    areas: Vec<Area>,
    product: Product,
    buyer: String,
    valid_from: NaiveDate,
    valid_to: Option<NaiveDate>,
    calendar_zone: Tz,
    gate: GateRecord,
    delivery: Delivery,
    directions: Vec<Direction>,
    minimum_watts: i64,
    step_watts: i64,
    maximum_watts: Option<i64>,
    divisible: Divisible,
    pricing: Pricing,
    price: PriceRule,
    dynamics: Dynamics,
    endurance: Option<Endurance>,
    telemetry: Option<TelemetryRule>,
    baseline: Baseline,
    settlement: SettlementRule,
    penalty: Option<PenaltyRule>,
    energy: Option<EnergyRule>,
}

impl Record {
    fn rule(&self, area: Area) -> Result<Rule, RulesError> {
        let wrong = |what: String| RulesError::Record {
            area,
            product: self.product.name(),
            from: self.valid_from,
            what,
        };
        if let Some(what) = self.contradiction() {
            return Err(wrong(what));
        }
        let midnight = |date: NaiveDate| {
            DeliveryDay::try_new(date, self.calendar_zone)
                .map(DeliveryDay::start)
                .map_err(|e| wrong(e.to_string()))
        };
        Ok(Rule {
            area,
            product: self.product,
            buyer: self.buyer.clone(),
            valid_from: midnight(self.valid_from)?,
            valid_to: self.valid_to.map(midnight).transpose()?,
            calendar_zone: self.calendar_zone,
            gate: Gate::Wall {
                zone: self.gate.zone,
                opens: self.gate.opens,
                closes: self.gate.closes,
                results: self.gate.results,
            },
            delivery: self.delivery,
            directions: self.directions.clone(),
            minimum: Power::from_watts(self.minimum_watts),
            step: Power::from_watts(self.step_watts),
            maximum: self.maximum_watts.map(Power::from_watts),
            divisible: self.divisible,
            pricing: self.pricing,
            price: self.price.clone(),
            dynamics: self.dynamics,
            endurance: self.endurance.clone(),
            telemetry: self.telemetry.clone(),
            baseline: self.baseline,
            settlement: self.settlement,
            penalty: self.penalty,
            energy: self.energy.clone(),
        })
    }

    /// What in this record cannot be, if anything.
    fn contradiction(&self) -> Option<String> {
        if self.step_watts <= 0 || self.minimum_watts <= 0 {
            return Some("minimum_watts and step_watts must be more than zero".to_owned());
        }
        if self.minimum_watts % self.step_watts != 0 {
            return Some("minimum_watts is not a whole number of step_watts".to_owned());
        }
        if self.directions.is_empty() {
            return Some("directions is empty".to_owned());
        }
        if self.valid_to.is_some_and(|to| to <= self.valid_from) {
            return Some("valid_to is not after valid_from".to_owned());
        }
        let lengths = match self.delivery {
            Delivery::Units { unit_minutes } => unit_minutes > 0 && 60 % unit_minutes == 0,
            Delivery::Blocks { block_hours } => block_hours > 0 && 24 % block_hours == 0,
        };
        if !lengths {
            return Some("delivery does not divide the hour or the day".to_owned());
        }
        let reserve =
            self.endurance.is_some() && self.telemetry.is_some() && self.penalty.is_some();
        if self.product.is_reserve() && !reserve {
            return Some("reserve needs endurance, telemetry and penalty".to_owned());
        }
        let qualification = self.penalty.and_then(|penalty| penalty.qualification);
        if qualification.is_some_and(|q| q.blocks == 0 || q.short_percent > 100) {
            return Some(
                "qualification needs blocks of at least 1 and short_percent of at most 100"
                    .to_owned(),
            );
        }
        None
    }
}
