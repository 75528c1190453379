//! `shoal.market.v1`: bids, awards, prices, statements and the operator's signals.

use market::statement::{Line, LineKind, Statement};
use market::{Award, Bid, BidStatus, Clearing, Direction, GridSignal, Product};
use units::{Currency, Energy, Power};

use crate::proto::market::v1 as proto;
use crate::{WireError, field};

pub(crate) const PRODUCTS: [(Product, &str); 4] = [
    (Product::DayAhead, "day_ahead"),
    (Product::Fcr, "fcr"),
    (Product::AfrrUp, "afrr_up"),
    (Product::AfrrDown, "afrr_down"),
];

pub(crate) const fn product(product: Product) -> &'static str {
    product.name()
}

const DIRECTIONS: [(Direction, &str); 3] = [
    (Direction::Up, "up"),
    (Direction::Down, "down"),
    (Direction::Symmetric, "symmetric"),
];

const fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => DIRECTIONS[0].1,
        Direction::Down => DIRECTIONS[1].1,
        Direction::Symmetric => DIRECTIONS[2].1,
    }
}

const STATUSES: [(BidStatus, &str); 6] = [
    (BidStatus::Draft, "draft"),
    (BidStatus::Submitted, "submitted"),
    (BidStatus::Acknowledged, "acknowledged"),
    (BidStatus::Awarded, "awarded"),
    (BidStatus::Rejected, "rejected"),
    (BidStatus::Withdrawn, "withdrawn"),
];

const fn status(status: BidStatus) -> &'static str {
    match status {
        BidStatus::Draft => STATUSES[0].1,
        BidStatus::Submitted => STATUSES[1].1,
        BidStatus::Acknowledged => STATUSES[2].1,
        BidStatus::Awarded => STATUSES[3].1,
        BidStatus::Rejected => STATUSES[4].1,
        BidStatus::Withdrawn => STATUSES[5].1,
    }
}

const KINDS: [(LineKind, &str); 4] = [
    (LineKind::Energy, "energy"),
    (LineKind::Imbalance, "imbalance"),
    (LineKind::Capacity, "capacity"),
    (LineKind::Penalty, "penalty"),
];

const fn kind(kind: LineKind) -> &'static str {
    match kind {
        LineKind::Energy => KINDS[0].1,
        LineKind::Imbalance => KINDS[1].1,
        LineKind::Capacity => KINDS[2].1,
        LineKind::Penalty => KINDS[3].1,
    }
}

impl From<&Bid> for proto::Bid {
    fn from(bid: &Bid) -> Self {
        let currency = bid
            .price
            .map_or_else(|| bid.area.currency(), units::Price::currency);
        Self {
            id: bid.id.to_string(),
            area: bid.area.to_string(),
            product: product(bid.product).to_owned(),
            direction: direction(bid.direction).to_owned(),
            start_micros: bid.delivery.start().timestamp_micros(),
            end_micros: bid.delivery.end().timestamp_micros(),
            volume_watts: bid.volume.watts(),
            price: bid.price.map(|p| p.per_unit().to_string()),
            currency: currency.code().to_owned(),
            divisible: bid.divisible,
            gate_closes_micros: bid.gate_closes.timestamp_micros(),
            built_at_micros: bid.built_at.timestamp_micros(),
            delivery_probability: bid.delivery_probability,
            reason: bid.reason.clone(),
            status: status(bid.status).to_owned(),
        }
    }
}

impl TryFrom<proto::Bid> for Bid {
    type Error = WireError;
    fn try_from(wire: proto::Bid) -> Result<Self, WireError> {
        let currency: Currency = field::text("currency", &wire.currency)?;
        Ok(Self {
            id: field::text("id", &wire.id)?,
            area: field::text("area", &wire.area)?,
            product: field::word("product", &wire.product, &PRODUCTS)?,
            direction: field::word("direction", &wire.direction, &DIRECTIONS)?,
            delivery: field::interval(wire.start_micros, wire.end_micros)?,
            volume: field::volume("volume_watts", wire.volume_watts)?,
            price: wire
                .price
                .as_deref()
                .map(|p| field::price("price", p, currency))
                .transpose()?,
            divisible: wire.divisible,
            gate_closes: field::instant("gate_closes_micros", wire.gate_closes_micros)?,
            built_at: field::instant("built_at_micros", wire.built_at_micros)?,
            delivery_probability: field::share("delivery_probability", wire.delivery_probability)?,
            reason: wire.reason,
            status: field::word("status", &wire.status, &STATUSES)?,
        })
    }
}

impl From<&Award> for proto::Award {
    fn from(award: &Award) -> Self {
        Self {
            id: award.id.to_string(),
            bid_id: award.bid.to_string(),
            area: award.area.to_string(),
            product: product(award.product).to_owned(),
            direction: direction(award.direction).to_owned(),
            start_micros: award.delivery.start().timestamp_micros(),
            end_micros: award.delivery.end().timestamp_micros(),
            volume_watts: award.volume.watts(),
            price: award.price.per_unit().to_string(),
            currency: award.price.currency().code().to_owned(),
            awarded_at_micros: award.awarded_at.timestamp_micros(),
        }
    }
}

impl TryFrom<proto::Award> for Award {
    type Error = WireError;
    fn try_from(wire: proto::Award) -> Result<Self, WireError> {
        let currency: Currency = field::text("currency", &wire.currency)?;
        Ok(Self {
            id: field::text("id", &wire.id)?,
            bid: field::text("bid_id", &wire.bid_id)?,
            area: field::text("area", &wire.area)?,
            product: field::word("product", &wire.product, &PRODUCTS)?,
            direction: field::word("direction", &wire.direction, &DIRECTIONS)?,
            delivery: field::interval(wire.start_micros, wire.end_micros)?,
            volume: field::volume("volume_watts", wire.volume_watts)?,
            price: field::price("price", &wire.price, currency)?,
            awarded_at: field::instant("awarded_at_micros", wire.awarded_at_micros)?,
        })
    }
}

impl From<&Clearing> for proto::Clearing {
    fn from(clearing: &Clearing) -> Self {
        Self {
            area: clearing.area.to_string(),
            product: product(clearing.product).to_owned(),
            start_micros: clearing.delivery.start().timestamp_micros(),
            end_micros: clearing.delivery.end().timestamp_micros(),
            price: clearing.price.per_unit().to_string(),
            currency: clearing.price.currency().code().to_owned(),
            published_at_micros: clearing.published_at.timestamp_micros(),
        }
    }
}

impl TryFrom<proto::Clearing> for Clearing {
    type Error = WireError;
    fn try_from(wire: proto::Clearing) -> Result<Self, WireError> {
        let currency: Currency = field::text("currency", &wire.currency)?;
        Ok(Self {
            area: field::text("area", &wire.area)?,
            product: field::word("product", &wire.product, &PRODUCTS)?,
            delivery: field::interval(wire.start_micros, wire.end_micros)?,
            price: field::price("price", &wire.price, currency)?,
            published_at: field::instant("published_at_micros", wire.published_at_micros)?,
        })
    }
}

impl From<&Statement> for proto::Statement {
    fn from(statement: &Statement) -> Self {
        Self {
            account: statement.account.clone(),
            area: statement.area.to_string(),
            start_micros: statement.day.start().timestamp_micros(),
            end_micros: statement.day.end().timestamp_micros(),
            version: statement.version,
            lines: statement.lines.iter().map(Into::into).collect(),
            total: statement.total.amount().to_string(),
            currency: statement.total.currency().code().to_owned(),
        }
    }
}

impl TryFrom<proto::Statement> for Statement {
    type Error = WireError;
    fn try_from(wire: proto::Statement) -> Result<Self, WireError> {
        let currency: Currency = field::text("currency", &wire.currency)?;
        let lines = wire
            .lines
            .iter()
            .enumerate()
            .map(|(i, l)| line(l, currency).map_err(|e| e.inside(&format!("lines[{i}]"))))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            account: field::text("account", &wire.account)?,
            area: field::text("area", &wire.area)?,
            day: field::interval(wire.start_micros, wire.end_micros)?,
            version: wire.version,
            lines,
            total: field::money("total", &wire.total, currency)?,
        })
    }
}

impl From<&Line> for proto::StatementLine {
    fn from(line: &Line) -> Self {
        Self {
            kind: kind(line.kind).to_owned(),
            product: product(line.product).to_owned(),
            start_micros: line.interval.start().timestamp_micros(),
            end_micros: line.interval.end().timestamp_micros(),
            energy_joules: line.energy.joules(),
            amount: line.amount.amount().to_string(),
        }
    }
}

/// A line carries no currency of its own: it is the statement's.
fn line(wire: &proto::StatementLine, currency: Currency) -> Result<Line, WireError> {
    Ok(Line {
        kind: field::word("kind", &wire.kind, &KINDS)?,
        product: field::word("product", &wire.product, &PRODUCTS)?,
        interval: field::interval(wire.start_micros, wire.end_micros)?,
        energy: Energy::from_joules(wire.energy_joules),
        amount: field::money("amount", &wire.amount, currency)?,
    })
}

impl From<&GridSignal> for proto::GridSignal {
    fn from(signal: &GridSignal) -> Self {
        Self {
            id: signal.id.clone(),
            at_micros: signal.at.timestamp_micros(),
            deviation_mhz: signal.deviation_mhz,
            afrr_watts: signal.afrr.map(Power::watts),
        }
    }
}

impl TryFrom<proto::GridSignal> for GridSignal {
    type Error = WireError;
    fn try_from(wire: proto::GridSignal) -> Result<Self, WireError> {
        Ok(Self {
            id: field::text("id", &wire.id)?,
            at: field::instant("at_micros", wire.at_micros)?,
            deviation_mhz: field::optional_finite("deviation_mhz", wire.deviation_mhz)?,
            afrr: wire.afrr_watts.map(Power::from_watts),
        })
    }
}
