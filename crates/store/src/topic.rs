//! The topics: names, keys, partitions, and how long their records are kept. Declared here and nowhere else; what holds them
//! is made from it ([`crate::migrate`] for Kafka, by itself for the embedded log).

use std::fmt;

use chrono::TimeDelta;

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
/// What was refused, with the reason; key station or EVSE.
pub const QUARANTINE: Topic = Topic("telemetry.quarantine.v1");
/// State of each EVSE; key EVSE; compacted.
pub const FLEET_STATE: Topic = Topic("fleet.state.v1");
/// Metered energy per interval; key EVSE.
pub const METER_INTERVALS: Topic = Topic("meter.intervals.v1");
/// Published forecasts; key series.
pub const FORECASTS: Topic = Topic("forecast.published.v1");
/// Plans of the optimiser with their schedules; key area.
pub const PLANS: Topic = Topic("portfolio.plan.v1");
/// What bids were decided from; key area.
pub const BID_DECISIONS: Topic = Topic("portfolio.decisions.v1");
/// Bids built; key bid.
pub const BIDS: Topic = Topic("market.bids.v1");
/// Awards received; key award.
pub const AWARDS: Topic = Topic("market.awards.v1");
/// Clearing prices received; key area and product.
pub const PRICES: Topic = Topic("market.prices.v1");
/// Commands to EVSEs; key EVSE.
pub const SETPOINTS: Topic = Topic("dispatch.setpoints.v1");
/// What each set-point was decided from; key area.
pub const DECISIONS: Topic = Topic("dispatch.decisions.v1");
/// What operators ordered; key person.
pub const COMMANDS: Topic = Topic("dispatch.commands.v1");
/// Settled days; key account and day.
pub const STATEMENTS: Topic = Topic("settlement.statements.v1");

/// What the embedded log keeps of a topic.
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

/// What Kafka keeps of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// Records of the last days, this many.
    Days(u32),
    /// Every record: an auditor may ask.
    Ever,
    /// The newest record of each key, and whatever is younger than `grace`.
    LatestPerKey {
        /// Records younger than this are kept whole, so that a reader close to the head sees each change.
        grace: TimeDelta,
    },
}

/// Over how many partitions Kafka spreads a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// One: the whole topic is in order, and there is little of it.
    One,
    /// As many as the cluster's setting says: in order per key.
    Wide,
}

/// Everything declared about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spec {
    /// Which.
    pub topic: Topic,
    /// Partitions in Kafka; the embedded log has one.
    pub spread: Spread,
    /// Kept by the embedded log.
    pub keep: Retention,
    /// Kept by Kafka.
    pub lifetime: Lifetime,
    /// Largest payload that Kafka takes, bytes.
    pub largest: u32,
}

/// Telemetry and set-points of a fleet of 10 000 over about two hours at one record per EVSE and minute and gigabyte.
const MANY: Retention = Retention::Newest(2_000_000);
/// Documents of some kilobytes to megabytes: about three weeks of one per quarter hour.
const FEW: Retention = Retention::Newest(2_000);
/// Small records that matter for a long time.
const LONG: Retention = Retention::Newest(500_000);

/// States of a day of the demo's fleet, so that the day can be replayed.
const A_DAY: u64 = 500_000;

/// Bytes of a record that tells one thing: a refused message of 64 KiB with its reason fits.
const SMALL: u32 = 256 * 1024;
/// Bytes of a plan with the schedules of a hundred thousand EVSEs.
pub(crate) const LARGE: u32 = 64 * 1024 * 1024;

/// Days of telemetry and set-points in Kafka: a consumer that was down over a long weekend finds its place.
const A_WEEK: Lifetime = Lifetime::Days(7);
/// Days of what the tables keep as well.
const A_MONTH: Lifetime = Lifetime::Days(31);

/// All topics of the platform.
pub const ALL: [Spec; 14] = [
    spec(READINGS, Spread::Wide, MANY, A_WEEK, SMALL),
    spec(QUARANTINE, Spread::One, LONG, A_MONTH, SMALL),
    spec(
        FLEET_STATE,
        Spread::Wide,
        Retention::LatestPerKey { grace: A_DAY },
        Lifetime::LatestPerKey {
            grace: TimeDelta::minutes(10),
        },
        SMALL,
    ),
    spec(METER_INTERVALS, Spread::Wide, LONG, A_MONTH, SMALL),
    spec(FORECASTS, Spread::One, FEW, A_MONTH, LARGE),
    spec(PLANS, Spread::One, FEW, A_MONTH, LARGE),
    spec(BID_DECISIONS, Spread::One, FEW, A_MONTH, LARGE),
    spec(BIDS, Spread::One, LONG, Lifetime::Ever, SMALL),
    spec(AWARDS, Spread::One, LONG, Lifetime::Ever, SMALL),
    spec(PRICES, Spread::One, LONG, Lifetime::Ever, SMALL),
    spec(SETPOINTS, Spread::Wide, MANY, A_WEEK, SMALL),
    spec(DECISIONS, Spread::One, MANY, A_WEEK, LARGE),
    spec(COMMANDS, Spread::One, LONG, Lifetime::Ever, SMALL),
    spec(STATEMENTS, Spread::One, LONG, Lifetime::Ever, LARGE),
];

const fn spec(
    topic: Topic,
    spread: Spread,
    keep: Retention,
    lifetime: Lifetime,
    largest: u32,
) -> Spec {
    Spec {
        topic,
        spread,
        keep,
        lifetime,
        largest,
    }
}

/// What the embedded log keeps of `topic` unless the store was opened with something else.
#[must_use]
pub fn retention(topic: &str) -> Retention {
    ALL.iter()
        .find(|spec| spec.topic.name() == topic)
        .map_or(LONG, |spec| spec.keep)
}
