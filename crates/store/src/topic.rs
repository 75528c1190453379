//! Names of the topics and how long their records are kept.

use std::fmt;

/// Name of an ordered sequence of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(&'static str);

impl Topic {
    /// A topic called `name`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self(name)
    }

    /// Name as stored.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// What stations tell; key EVSE or station.
pub const READINGS: Topic = Topic("telemetry.readings.v1");
/// What was refused, with the reason.
pub const QUARANTINE: Topic = Topic("telemetry.quarantine.v1");
/// State of each EVSE; key EVSE; compacted.
pub const FLEET_STATE: Topic = Topic("fleet.state.v1");
/// Metered energy per interval; key EVSE.
pub const METER_INTERVALS: Topic = Topic("meter.intervals.v1");
/// Published forecasts.
pub const FORECASTS: Topic = Topic("forecast.published.v1");
/// Plans of the optimiser with their schedules.
pub const PLANS: Topic = Topic("portfolio.plan.v1");
/// Bids built.
pub const BIDS: Topic = Topic("market.bids.v1");
/// Awards received.
pub const AWARDS: Topic = Topic("market.awards.v1");
/// Clearing prices received.
pub const PRICES: Topic = Topic("market.prices.v1");
/// Commands to EVSEs; key EVSE.
pub const SETPOINTS: Topic = Topic("dispatch.setpoints.v1");
/// Settled days.
pub const STATEMENTS: Topic = Topic("settlement.statements.v1");

/// What is kept of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retention {
    /// The newest records, this many.
    Newest(u64),
    /// The newest record of each key, and whatever else is among the newest `grace` records.
    LatestPerKey {
        /// Records younger than this many are kept whole, so that a reader close to the head sees each change.
        grace: u64,
    },
}

/// Telemetry and set-points of a fleet of 10 000 over about two hours at one record per EVSE and minute and gigabyte.
const MANY: u64 = 2_000_000;
/// Documents of some kilobytes to megabytes: about three weeks of one per quarter hour.
const FEW: u64 = 2_000;
/// Small records that matter for a long time.
const LONG: u64 = 500_000;

/// What is kept of `topic` unless the store was opened with something else.
#[must_use]
pub fn retention(topic: &str) -> Retention {
    match topic {
        "fleet.state.v1" => Retention::LatestPerKey { grace: 50_000 },
        "telemetry.readings.v1" | "dispatch.setpoints.v1" => Retention::Newest(MANY),
        "portfolio.plan.v1" | "forecast.published.v1" => Retention::Newest(FEW),
        _ => Retention::Newest(LONG),
    }
}
