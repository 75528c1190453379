//! What a run of the demo prints: forecasts, bids, awards, delivery, money, and the same for the unmanaged twin.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use market::statement::LineKind;
use market::{Award, Bid, BidStatus, Clearing, Product, Statement};
use serde::Serialize;
use sim::fleet::Fleet;
use sim::station::Truth;
use sim::twin;
use units::Energy;
use wire::proto::dispatch::v1 as dispatch;

/// Everything the demo prints at its end.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) seed: u64,
    pub(super) speed: f64,
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) simulated_hours: f64,
    pub(super) vehicles: usize,
    pub(super) buses: usize,
    /// The real-time cycle at this speed; 1 s is the real one.
    pub(super) cycle_seconds: f64,
    pub(super) cycle_lengthened_by: f64,
    pub(super) forecasts_made: u64,
    pub(super) bids: BTreeMap<&'static str, Bids>,
    pub(super) awards: BTreeMap<&'static str, Awards>,
    pub(super) awards_followed: usize,
    pub(super) awards_delivered: usize,
    pub(super) activations: Vec<Activation>,
    pub(super) setpoints: Setpoints,
    pub(super) latency: Latency,
    pub(super) departures: u64,
    pub(super) vehicles_left_short: u64,
    pub(super) energy_short_kwh: f64,
    pub(super) pool: Account,
    pub(super) unmanaged_twin: Account,
    pub(super) better_off_by: f64,
    pub(super) currency: &'static str,
    pub(super) statements: Vec<Site>,
}

/// Bids for one product.
#[derive(Debug, Default, Serialize)]
pub(super) struct Bids {
    pub(super) made: usize,
    pub(super) awarded: usize,
    pub(super) rejected: usize,
    pub(super) mw: f64,
}

/// Awards of one product, those in force at the start included.
#[derive(Debug, Default, Serialize)]
pub(super) struct Awards {
    pub(super) count: usize,
    pub(super) mw_h: f64,
    /// Of them, granted by auctions held during the run.
    pub(super) granted_in_run: usize,
}

/// Delivery of one award of reserve.
#[derive(Debug, Serialize)]
pub(super) struct Activation {
    pub(super) product: String,
    pub(super) start: DateTime<Utc>,
    pub(super) mw: f64,
    pub(super) cycles: u32,
    pub(super) in_tolerance_ratio: f64,
    pub(super) mean_tracking_error_kw: f64,
    pub(super) largest_request_kw: f64,
    pub(super) followed: bool,
}

/// Set-points of the run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Setpoints {
    pub(super) decided: u64,
    pub(super) sent: u64,
    /// A newer one took its place while the station had still to answer.
    pub(super) replaced_before_sending: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) unreachable: u64,
}

/// From the instant a signal was received to the last set-point on the wire, real milliseconds.
#[derive(Debug, Default, Serialize)]
pub(super) struct Latency {
    pub(super) signals: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

/// Money and energy of the pool or of its twin over the settled span.
#[derive(Debug, Default, Serialize)]
pub(super) struct Account {
    pub(super) energy_charged_kwh: f64,
    pub(super) energy_discharged_kwh: f64,
    /// Paid for energy, imbalance included.
    pub(super) energy_cost: f64,
    pub(super) reserve_revenue: f64,
    pub(super) penalties: f64,
    /// Battery wear of what was discharged, at the price that plans use.
    pub(super) wear_cost: f64,
    /// Value of the energy left in the vehicles, at the mean price of the span, against the twin's: negative is a credit.
    pub(super) stored_energy_cost: f64,
    pub(super) net_cost: f64,
}

/// Statement of one site.
#[derive(Debug, Serialize)]
pub(super) struct Site {
    pub(super) account: String,
    /// Local date of delivery.
    pub(super) day: chrono::NaiveDate,
    pub(super) energy_kwh: f64,
    pub(super) energy: f64,
    pub(super) imbalance: f64,
    pub(super) capacity: f64,
    pub(super) penalty: f64,
    pub(super) total: f64,
}

pub(super) fn bids(all: &[Bid]) -> BTreeMap<&'static str, Bids> {
    let mut by: BTreeMap<&'static str, Bids> = Product::ALL
        .iter()
        .map(|p| (p.name(), Bids::default()))
        .collect();
    for bid in all {
        let row = by.entry(bid.product.name()).or_default();
        row.made += 1;
        row.mw += bid.volume.mw();
        match bid.status {
            BidStatus::Awarded => row.awarded += 1,
            BidStatus::Rejected => row.rejected += 1,
            BidStatus::Draft
            | BidStatus::Submitted
            | BidStatus::Acknowledged
            | BidStatus::Withdrawn => {}
        }
    }
    by
}

pub(super) fn awards(all: &[Award], began: DateTime<Utc>) -> BTreeMap<&'static str, Awards> {
    let mut by: BTreeMap<&'static str, Awards> = Product::ALL
        .iter()
        .map(|p| (p.name(), Awards::default()))
        .collect();
    for award in all {
        let row = by.entry(award.product.name()).or_default();
        row.count += 1;
        row.mw_h += award.volume.mw() * award.delivery.hours();
        row.granted_in_run += usize::from(award.awarded_at > began);
    }
    by
}

impl From<&dispatch::Activation> for Activation {
    fn from(a: &dispatch::Activation) -> Self {
        Self {
            product: a.product.clone(),
            start: DateTime::from_timestamp_micros(a.start_micros).unwrap_or_default(),
            mw: units::Power::from_watts(a.volume_watts).mw(),
            cycles: a.cycles,
            in_tolerance_ratio: f64::from(a.cycles_in_tolerance) / f64::from(a.cycles.max(1)),
            mean_tracking_error_kw: a.mean_abs_error_watts / 1e3,
            largest_request_kw: units::Power::from_watts(a.largest_request_watts).kw(),
            followed: a.followed,
        }
    }
}

pub(super) fn site(statement: &Statement) -> Site {
    let sum = |kind: LineKind| -> f64 {
        // Negative zero prints badly.
        statement
            .lines
            .iter()
            .filter(|l| l.kind == kind)
            .map(|l| l.amount.to_f64())
            .sum::<f64>()
            + 0.0
    };
    Site {
        account: statement.account.clone(),
        day: statement
            .day
            .start()
            .with_timezone(&statement.area.exchange_zone())
            .date_naive(),
        energy_kwh: statement
            .lines
            .iter()
            .filter(|l| l.kind == LineKind::Energy)
            .map(|l| l.energy.kwh())
            .sum(),
        energy: sum(LineKind::Energy),
        imbalance: sum(LineKind::Imbalance),
        capacity: sum(LineKind::Capacity),
        penalty: sum(LineKind::Penalty),
        total: statement.total.to_f64(),
    }
}

/// The span that the statements of the pool cover: settled energy ends before the run does.
pub(super) fn settled_until(pool: &[&Statement], from: DateTime<Utc>) -> DateTime<Utc> {
    pool.iter()
        .flat_map(|s| &s.lines)
        .filter(|l| matches!(l.kind, LineKind::Energy | LineKind::Imbalance))
        .map(|l| l.interval.end())
        .max()
        .unwrap_or(from)
}

/// The pool's account over `from..until`.
pub(super) fn pool(
    statements: &[&Statement],
    truth: &Truth,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    wear: f64,
) -> Account {
    let mut account = Account::default();
    for line in statements.iter().flat_map(|s| &s.lines) {
        let amount = line.amount.to_f64();
        match line.kind {
            LineKind::Energy | LineKind::Imbalance => account.energy_cost -= amount,
            LineKind::Capacity => account.reserve_revenue += amount,
            LineKind::Penalty => account.penalties -= amount,
        }
    }
    for ((_, start), energy) in &truth.energy {
        if (from..until).contains(start) {
            account.energy_charged_kwh += energy.import.kwh();
            account.energy_discharged_kwh += energy.export.kwh();
        }
    }
    account.wear_cost = account.energy_discharged_kwh / 1e3 * wear;
    account
}

/// The twin's account over `from..until`: every kilowatt hour at the day-ahead price of its quarter hour, as if somebody
/// had foreseen it exactly.
pub(super) fn twin_account(
    fleet: &Fleet,
    stays: &[twin::Stayed],
    prices: &[Clearing],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
) -> Account {
    let mut account = Account::default();
    for ((_, start), energy) in twin::load(fleet, stays, from, until) {
        account.energy_charged_kwh += energy.kwh();
        account.energy_cost += energy.mwh() * price_at(prices, start).unwrap_or(0.0);
    }
    account
}

fn price_at(prices: &[Clearing], at: DateTime<Utc>) -> Option<f64> {
    prices
        .iter()
        .find(|c| c.product == Product::DayAhead && c.delivery.contains(at))
        .map(|c| c.price.to_f64())
}

/// Mean day-ahead price over `from..until`, per MWh.
pub(super) fn mean_price(prices: &[Clearing], from: DateTime<Utc>, until: DateTime<Utc>) -> f64 {
    let (mut sum, mut count, mut at) = (0.0, 0.0, from);
    while at < until {
        if let Some(price) = price_at(prices, at) {
            sum += price;
            count += 1.0;
        }
        at += TimeDelta::minutes(15);
    }
    if count > 0.0 { sum / count } else { 0.0 }
}

/// Energy in the pool's vehicles at `until`, from what is in them at the end and what flowed since.
pub(super) fn pool_stored(truth: &Truth, fleet: &Fleet, until: DateTime<Utc>) -> Energy {
    // One efficiency holds for the whole simulated fleet.
    let (ec, ed) = fleet.evses().first().map_or((1.0, 1.0), |e| {
        (e.charge_efficiency.share(), e.discharge_efficiency.share())
    });
    let since: f64 = truth
        .energy
        .iter()
        .filter(|((_, start), _)| *start >= until)
        .map(|(_, e)| e.import.kwh() * ec - e.export.kwh() / ed)
        .sum();
    truth.stored - Energy::from_kwh(since)
}

/// Energy in the twin's vehicles at `until`; what was driven since the last stay is not taken out yet, as for the pool.
pub(super) fn twin_stored(fleet: &Fleet, stays: &[twin::Stayed], until: DateTime<Utc>) -> Energy {
    let mut levels: BTreeMap<usize, Energy> = BTreeMap::new();
    for stayed in stays.iter().filter(|s| s.stay.plug_in <= until) {
        levels.insert(stayed.stay.vehicle, stayed.level_at(until));
    }
    (0..fleet.vehicles().len())
        .map(|v| {
            levels
                .get(&v)
                .copied()
                .unwrap_or(fleet.vehicles()[v].wanted)
        })
        .sum()
}

impl Account {
    /// Adds up; `extra` is energy in the battery beyond the other's, credited at `price` per MWh as it would have to be
    /// bought through the charger.
    pub(super) fn close(&mut self, extra: Energy, price: f64, efficiency: f64) {
        self.stored_energy_cost = -extra.mwh() * price / efficiency + 0.0;
        self.net_cost = self.energy_cost - self.reserve_revenue
            + self.penalties
            + self.wear_cost
            + self.stored_energy_cost;
    }
}

impl Outcome {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let c = self.currency;
        let _ = writeln!(
            out,
            "{:.1} simulated hours at speed {}, {} cars and {} buses, seed {}",
            self.simulated_hours, self.speed, self.vehicles, self.buses, self.seed
        );
        let _ = writeln!(
            out,
            "real-time cycle {:.0} s ({:.0} times the real one), signal to last set-point on the wire p50 {:.1} ms, p99 {:.1} ms, worst {:.1} ms over {} signals",
            self.cycle_seconds,
            self.cycle_lengthened_by,
            self.latency.p50_ms,
            self.latency.p99_ms,
            self.latency.max_ms,
            self.latency.signals
        );
        let _ = writeln!(out, "forecasts made          {:>8}", self.forecasts_made);
        for (product, bids) in &self.bids {
            let awards = self
                .awards
                .get(product)
                .map_or((0, 0.0), |a| (a.count, a.mw_h));
            let _ = writeln!(
                out,
                "{product:<10} bids {:>4} ({:>6.1} MW)  rejected {:>3}  awards {:>4} ({:>6.1} MW h)",
                bids.made, bids.mw, bids.rejected, awards.0, awards.1
            );
        }
        let _ = writeln!(
            out,
            "awards followed         {:>8} of {} delivered",
            self.awards_followed, self.awards_delivered
        );
        for a in &self.activations {
            let _ = writeln!(
                out,
                "  {:<10} {} {:.1} MW  {:>5} cycles {:>5.1} % in tolerance, mean error {:>6.1} kW, largest request {:>8.1} kW{}",
                a.product,
                a.start.format("%d %H:%MZ"),
                a.mw,
                a.cycles,
                100.0 * a.in_tolerance_ratio,
                a.mean_tracking_error_kw,
                a.largest_request_kw,
                if a.followed { "" } else { "  NOT FOLLOWED" }
            );
        }
        let s = &self.setpoints;
        let _ = writeln!(
            out,
            "set-points sent         {:>8}, accepted {}, rejected {}, unreachable {}",
            s.sent, s.accepted, s.rejected, s.unreachable
        );
        let _ = writeln!(
            out,
            "departures              {:>8}, of them short {} ({:.2} kWh)",
            self.departures, self.vehicles_left_short, self.energy_short_kwh
        );
        for (name, a) in [
            ("pool", &self.pool),
            ("unmanaged twin", &self.unmanaged_twin),
        ] {
            let _ = writeln!(
                out,
                "{name:<15} charged {:>9.1} kWh, discharged {:>8.1} kWh, energy {:>9.2} {c}, reserve {:>8.2} {c}, penalties {:>7.2} {c}, wear {:>6.2} {c}, stored {:>7.2} {c}, net cost {:>9.2} {c}",
                a.energy_charged_kwh,
                a.energy_discharged_kwh,
                a.energy_cost,
                a.reserve_revenue,
                a.penalties,
                a.wear_cost,
                a.stored_energy_cost,
                a.net_cost
            );
        }
        let _ = writeln!(
            out,
            "better off by           {:>8.2} {c}",
            self.better_off_by
        );
        for s in &self.statements {
            let _ = writeln!(
                out,
                "  {:<12} {}  {:>9.1} kWh  energy {:>9.2}  imbalance {:>8.2}  capacity {:>8.2}  penalty {:>7.2}  total {:>9.2} {c}",
                s.account,
                s.day,
                s.energy_kwh,
                s.energy,
                s.imbalance,
                s.capacity,
                s.penalty,
                s.total
            );
        }
        out
    }
}
