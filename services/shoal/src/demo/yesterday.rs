//! Yesterday's auctions: what the pool sold for today before the demo begins, decided by the same rules from what was
//! known then.

use std::collections::BTreeMap;

use ::fleet::SiteId;
use ::forecast::Stay;
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use market::rules::Rules;
use market::{Area, Award, Bid, BidStatus, Clearing, Position, Product, calendar, gate};
use portfolio::bidding::{self, NoBids, Offered, Question, Scenario};
use portfolio::rolling::{Costs, Grid, Site, Vehicle};
use sim::exchange::{Exchange, Outcome};
use sim::fleet::Fleet;
use sim::twin::Stayed;
use units::{Band, DeliveryDay, Interval, Price, Series};

use super::past;

/// Past weeks that yesterday looked back on.
const WEEKS: i64 = 6;
/// Quantiles of the prices that were seen on this weekday.
const LEVELS: [f64; 3] = [0.1, 0.5, 0.9];
/// Probability with which reserve had to be deliverable.
const PROBABILITY: f64 = 0.95;
/// Costs that the optimizer of the platform decides by too.
pub(super) const COSTS: Costs = Costs {
    import_per_mwh: 0.0,
    export_per_mwh: 0.0,
    wear_per_mwh: 30.0,
    imbalance_spread: 10.0,
};

/// What yesterday left behind.
#[derive(Debug, Default)]
pub(super) struct Yesterday {
    pub(super) bids: Vec<Bid>,
    pub(super) awards: Vec<Award>,
    pub(super) clearings: Vec<Clearing>,
}

/// Bids for the day that contains `now`, made before its gates from the weeks before, and cleared.
///
/// # Errors
/// [`NoBids`] if the rules do not allow a bid that the optimiser made, which is a defect.
pub(super) fn trade(
    area: Area,
    exchange: &mut Exchange,
    fleet: &Fleet,
    past: &[Stayed],
    prices: &[Clearing],
    now: DateTime<Utc>,
) -> Result<Yesterday, NoBids> {
    let today = DeliveryDay::containing(now, area.exchange_zone());
    let mut left = Yesterday::default();
    let mut position = Position::default();
    let rounds = [
        (vec![Product::Fcr], NaiveTime::from_hms_opt(7, 0, 0)),
        (
            vec![Product::AfrrUp, Product::AfrrDown],
            NaiveTime::from_hms_opt(8, 45, 0),
        ),
        (vec![Product::DayAhead], NaiveTime::from_hms_opt(11, 0, 0)),
    ];
    for (products, time) in rounds {
        let asked_at = today.previous().at(time.unwrap_or_default());
        let facts = Facts::at(asked_at, today, fleet, past, prices);
        let offered = facts.bids(area, today, &position, &products)?;
        for bid in offered.bids {
            // The simulated exchange enforces its gate and its rules on us too.
            let status = exchange
                .submit(bid.clone(), asked_at)
                .map_or(BidStatus::Rejected, |()| BidStatus::Acknowledged);
            left.bids.push(Bid { status, ..bid });
        }
        let published = products
            .iter()
            .filter_map(|p| Rules::built_in().at(area, *p, today.start()).ok())
            .map(|rule| gate::results(rule, today))
            .max()
            .unwrap_or(asked_at);
        left.settle(exchange.publish(published), &mut position);
    }
    left.settle(exchange.publish(now), &mut position);
    left.awards = left
        .awards
        .into_iter()
        .filter_map(|award| rest_of(award, now))
        .collect();
    left.bids.retain(|bid| bid.delivery.end() > now);
    Ok(left)
}

/// What is left of `award` at `now`, at its share of the price: the demo begins in the middle of a block.
fn rest_of(award: Award, now: DateTime<Utc>) -> Option<Award> {
    let rest = Interval::try_new(award.delivery.start().max(now), award.delivery.end()).ok()?;
    if rest == award.delivery {
        return Some(award);
    }
    let price = if award.product.is_reserve() {
        Price::from_f64(
            award.price.to_f64() * rest.hours() / award.delivery.hours(),
            2,
            award.price.currency(),
        )?
    } else {
        award.price
    };
    Some(Award {
        delivery: rest,
        price,
        ..award
    })
}

impl Yesterday {
    fn settle(&mut self, outcomes: Vec<Outcome>, position: &mut Position) {
        for outcome in outcomes {
            match outcome {
                Outcome::Award(award) => {
                    self.mark(award.bid, BidStatus::Awarded);
                    position.apply(award.clone());
                    self.awards.push(award);
                }
                Outcome::Rejected { bid, .. } => self.mark(bid, BidStatus::Rejected),
                Outcome::Clearing(clearing) => self.clearings.push(clearing),
                Outcome::Imbalance { .. } => {}
            }
        }
    }

    fn mark(&mut self, id: market::BidId, status: BidStatus) {
        for bid in self.bids.iter_mut().filter(|b| b.id == id) {
            bid.status = status;
        }
    }
}

/// What was known at one moment of yesterday.
struct Facts {
    grid: Grid,
    scenarios: Vec<Scenario>,
    sites: Vec<Site>,
    price: Vec<f64>,
    capacity: Vec<(Product, Series<Band>)>,
}

impl Facts {
    fn at(
        asked_at: DateTime<Utc>,
        today: DeliveryDay,
        fleet: &Fleet,
        past: &[Stayed],
        prices: &[Clearing],
    ) -> Self {
        let steps = (today.end() - asked_at).num_minutes() / 15 + 2;
        let grid = Grid::new(asked_at, usize::try_from(steps).unwrap_or(1));
        let sites: Vec<Site> = fleet
            .sites()
            .iter()
            .map(|s| Site {
                id: s.id.clone(),
                import_kw: s.import_limit.kw(),
                export_kw: s.export_limit.kw(),
            })
            .collect();
        let known: Vec<&Clearing> = prices
            .iter()
            .filter(|c| c.published_at <= asked_at)
            .collect();
        Self {
            scenarios: scenarios(&grid, fleet, past, asked_at),
            price: energy_prices(&grid, &known),
            capacity: capacity(today, &known),
            sites,
            grid,
        }
    }

    fn bids(
        &self,
        area: Area,
        day: DeliveryDay,
        position: &Position,
        products: &[Product],
    ) -> Result<Offered, NoBids> {
        let question = Question {
            area,
            rules: Rules::built_in(),
            day,
            grid: &self.grid,
            scenarios: &self.scenarios,
            sites: &self.sites,
            position,
            price: &self.price,
            capacity: &self.capacity,
            probability: PROBABILITY,
            revision: 0,
            costs: COSTS,
        };
        if products == [Product::DayAhead] {
            bidding::energy(&question)
        } else {
            bidding::reserve(&question, products)
        }
    }
}

/// Whole past spans, weeks back, as the ways today may go.
fn scenarios(
    grid: &Grid,
    fleet: &Fleet,
    past: &[Stayed],
    asked_at: DateTime<Utc>,
) -> Vec<Scenario> {
    let sites: BTreeMap<&SiteId, usize> = fleet
        .sites()
        .iter()
        .enumerate()
        .map(|(i, s)| (&s.id, i))
        .collect();
    (1..=WEEKS)
        .map(|weeks| {
            let shift = TimeDelta::weeks(weeks);
            let vehicles = past
                .iter()
                .filter(|s| s.stay.plug_out <= asked_at && s.stay.plug_out + shift > asked_at)
                .filter_map(|s| {
                    let site = sites.get(&fleet.evses()[s.stay.vehicle].site).copied()?;
                    Vehicle::expected(&expected(fleet, s, shift)?, site, grid)
                })
                .collect();
            #[expect(clippy::cast_precision_loss, reason = "a few weeks")]
            Scenario {
                weight: 1.0 / WEEKS as f64,
                vehicles,
            }
        })
        .collect()
}

fn expected(fleet: &Fleet, stayed: &Stayed, shift: TimeDelta) -> Option<Stay<()>> {
    let evse = &fleet.evses()[stayed.stay.vehicle];
    let needs = past::needs(fleet, stayed);
    Some(Stay {
        outlet: (),
        span: Interval::try_new(stayed.stay.plug_in + shift, stayed.stay.plug_out + shift).ok()?,
        energy: needs.energy,
        stored: needs.stored,
        capacity: needs.capacity,
        max_charge: needs.max_charge,
        max_discharge: needs.max_discharge,
        floor: needs.floor,
        charge_efficiency: evse.charge_efficiency,
        discharge_efficiency: evse.discharge_efficiency,
    })
}

/// Published where it was, else the price of the same quarter hour a week earlier.
fn energy_prices(grid: &Grid, known: &[&Clearing]) -> Vec<f64> {
    let by_start: BTreeMap<DateTime<Utc>, f64> = known
        .iter()
        .filter(|c| c.product == Product::DayAhead)
        .map(|c| (c.delivery.start(), c.price.to_f64()))
        .collect();
    let at = |when: DateTime<Utc>| by_start.get(&when).copied();
    (0..grid.len())
        .map(|i| grid.at(i))
        .map(|when| {
            at(when)
                .or_else(|| (1..=WEEKS).find_map(|w| at(when - TimeDelta::weeks(w))))
                .unwrap_or(80.0)
        })
        .collect()
}

/// Quantiles of what each reserve block of this weekday paid in the weeks before.
fn capacity(today: DeliveryDay, known: &[&Clearing]) -> Vec<(Product, Series<Band>)> {
    let step = TimeDelta::minutes(15);
    [Product::Fcr, Product::AfrrUp, Product::AfrrDown]
        .into_iter()
        .filter_map(|product| {
            let bands: Option<Vec<Band>> = calendar::units(today, step)
                .into_iter()
                .map(|quarter| {
                    let paid: Vec<f64> = (1..=WEEKS)
                        .filter_map(|w| {
                            let at = quarter.start() - TimeDelta::weeks(w);
                            known
                                .iter()
                                .find(|c| c.product == product && c.delivery.contains(at))
                        })
                        .map(|c| c.price.to_f64())
                        .collect();
                    let values = ::forecast::quantiles(&paid, &LEVELS)?;
                    Band::try_new(LEVELS.to_vec(), values).ok()
                })
                .collect();
            Some((product, Series::try_new(today.start(), step, bands?).ok()?))
        })
        .collect()
}
