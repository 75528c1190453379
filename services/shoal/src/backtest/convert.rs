//! From the scenario on disk to the case the policies see.

use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use frames::scenario::{self, Imbalance, Scenario};
use frames::series::{RawSeries, ReserveBlocks};
use market::Product;
use portfolio::case::{self, Case, Grid};
use portfolio::reference::Headroom;
use units::DeliveryDay;

use crate::cli::CliError;

/// How far before the period published values are kept to learn from: the same weekday six times over.
const HISTORY_DAYS: u64 = 42;

/// Longest interval that a published energy price or base load holds for.
const LONGEST_HOLD: TimeDelta = TimeDelta::hours(1);

/// The case of a scenario, over `from..to` if given (local dates, inside the scenario's period).
pub(crate) fn case(
    scenario: &Scenario,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
) -> Result<Case, CliError> {
    let window = Window::try_new(scenario, from, to)?;
    let grid = window.grid;
    let mut case = Case {
        name: scenario.name.clone(),
        area: scenario.area,
        grid,
        prices: prices(scenario, &window),
        sessions: Vec::new(),
        may_discharge: std::collections::BTreeSet::new(),
        others: Vec::new(),
        days_off: scenario.fleet.days_off.clone(),
        sites: scenario.sites.iter().map(|s| site(s, &window)).collect(),
        costs: case::Costs {
            import: scenario.costs.import_per_mwh,
            export: scenario.costs.export_per_mwh,
            wear: scenario.costs.wear_per_mwh,
            demand: scenario.costs.demand_per_kw_month,
        },
        fleet: case::Fleet {
            charge_efficiency: scenario.fleet.charge_efficiency,
            discharge_efficiency: scenario.fleet.discharge_efficiency,
            min_energy_fraction: scenario.fleet.min_energy_fraction,
            v2g_share: scenario.fleet.v2g_share,
            departure_known: scenario.fleet.departure_known,
        },
        risk: case::Risk {
            planning: match scenario.risk.planning {
                scenario::Planning::Expected => case::Planning::Expected,
                scenario::Planning::Stochastic => case::Planning::Stochastic,
            },
            cvar_alpha: scenario.risk.cvar_alpha,
            beta: scenario.risk.beta,
            reserve_reliability: scenario.risk.reserve_reliability,
        },
        scoring: None,
        day_ahead: scenario.markets.day_ahead,
        reserves: reserves(scenario, grid),
        headroom: match scenario.markets.fcr.headroom {
            scenario::Headroom::Snapshot => Headroom::Snapshot,
            scenario::Headroom::Window => Headroom::Window {
                recovery_steps: recovery_steps(scenario),
            },
        },
        recovery_steps: recovery_steps(scenario),
    };
    if case.costs.demand > 0.0 {
        add_unlimited_sites(&mut case, scenario);
    }
    case.place(scenario.fleet.sessions.iter().map(stay).collect());
    Ok(case)
}

/// Sites without an entry have no limit, but pay their demand charge all the same.
fn add_unlimited_sites(case: &mut Case, scenario: &Scenario) {
    for session in &scenario.fleet.sessions {
        if case.sites.iter().all(|s| s.id != session.site_id) {
            case.sites.push(case::Site {
                id: session.site_id.clone(),
                import_kw: f64::INFINITY,
                export_kw: f64::INFINITY,
                base_kw: Vec::new(),
                base_before: Vec::new(),
            });
        }
    }
}

fn recovery_steps(scenario: &Scenario) -> usize {
    usize::try_from(scenario.markets.fcr.recovery_steps).unwrap_or(usize::MAX)
}

/// The part of the scenario's period that is played.
struct Window {
    grid: Grid,
    /// Steps of the scenario before `grid` begins.
    offset: usize,
}

impl Window {
    fn try_new(
        scenario: &Scenario,
        from: Option<NaiveDate>,
        to: Option<NaiveDate>,
    ) -> Result<Self, CliError> {
        let from = from.unwrap_or(scenario.from);
        let to = to.unwrap_or(scenario.to);
        if from < scenario.from || to > scenario.to || from >= to {
            return Err(CliError::Input(format!(
                "{}: period {from} to {to} was asked for, expected a first date before the last, inside {} to {}",
                scenario.file.display(),
                scenario.from,
                scenario.to
            )));
        }
        let whole = whole(scenario);
        let offset = whole.first_from(midnight(scenario, from)?);
        let end = whole.first_from(midnight(scenario, to)?);
        let grid = Grid {
            start: whole.at(offset),
            step: whole.step,
            steps: end - offset,
        };
        Ok(Self { grid, offset })
    }

    fn cut(&self, values: &[f64]) -> Vec<f64> {
        values
            .iter()
            .skip(self.offset)
            .take(self.grid.steps)
            .copied()
            .collect()
    }

    /// Published values at the steps before the window, newest last.
    fn before(&self, raw: &RawSeries) -> Vec<Option<f64>> {
        let first = self
            .grid
            .start
            .checked_sub_days(Days::new(HISTORY_DAYS))
            .unwrap_or(self.grid.start);
        let mut at = self.grid.start;
        let mut values = Vec::new();
        while at > first {
            at -= self.grid.step;
            values.push(raw.at(at, LONGEST_HOLD));
        }
        values.reverse();
        values
    }
}

fn prices(scenario: &Scenario, window: &Window) -> case::Prices {
    let day_ahead = window.cut(&scenario.prices.day_ahead.values);
    let (short, long, spread) = match &scenario.prices.imbalance {
        Imbalance::Series { short, long } => {
            (window.cut(&short.values), window.cut(&long.values), None)
        }
        Imbalance::Spread(spread) => (
            day_ahead.iter().map(|p| p + spread).collect(),
            day_ahead.iter().map(|p| p - spread).collect(),
            Some(*spread),
        ),
    };
    case::Prices {
        day_ahead_before: window.before(&scenario.prices.day_ahead.raw),
        day_ahead,
        short,
        long,
        spread,
    }
}

fn site(site: &scenario::Site, window: &Window) -> case::Site {
    let base = site.base_load.as_ref();
    case::Site {
        id: site.id.clone(),
        import_kw: site.import_limit_kw.unwrap_or(f64::INFINITY),
        export_kw: site.export_limit_kw.unwrap_or(f64::INFINITY),
        base_kw: base.map_or_else(Vec::new, |b| window.cut(&b.values)),
        base_before: base.map_or_else(Vec::new, |b| window.before(&b.raw)),
    }
}

fn reserves(scenario: &Scenario, grid: Grid) -> Vec<case::Reserve> {
    let (fcr, afrr) = (scenario.markets.fcr, scenario.markets.afrr);
    let prices = &scenario.prices;
    let product = |product, enabled: bool, blocks: &Option<ReserveBlocks>, factor, minutes: f64| {
        let blocks = blocks.as_ref().filter(|_| enabled)?;
        Some(case::Reserve {
            product,
            power_factor: factor,
            endurance_hours: minutes / 60.0,
            blocks: published(blocks, scenario.start)
                .map(|b| block(b, &grid))
                .collect(),
        })
    };
    [
        product(
            Product::Fcr,
            fcr.enabled,
            &prices.fcr,
            fcr.power_factor,
            fcr.endurance_minutes,
        ),
        product(
            Product::AfrrUp,
            afrr.enabled,
            &prices.afrr_up,
            1.0,
            afrr.endurance_minutes,
        ),
        product(
            Product::AfrrDown,
            afrr.enabled,
            &prices.afrr_down,
            1.0,
            afrr.endurance_minutes,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Blocks before the scenario's period as published, then those of the period with gaps filled as the scenario asks.
fn published(
    blocks: &ReserveBlocks,
    start: DateTime<Utc>,
) -> impl Iterator<Item = &frames::series::ReserveBlock> {
    let before = blocks.all.iter().filter(move |b| b.end <= start);
    before.chain(&blocks.blocks)
}

fn block(block: &frames::series::ReserveBlock, grid: &Grid) -> case::Block {
    case::Block {
        start: block.start,
        end: block.end,
        price: block.price_per_mw(),
        steps: grid.whole(block.start, block.end),
    }
}

fn stay(session: &frames::sessions::Session) -> case::Stay {
    case::Stay {
        session_id: session.session_id.clone(),
        vehicle_id: session.vehicle_id.clone(),
        site_id: session.site_id.clone(),
        plug_in: session.plug_in,
        plug_out: session.plug_out,
        arrival_kwh: session.energy_arrival_kwh,
        required_kwh: session.energy_required_kwh,
        capacity_kwh: session.capacity_kwh,
        charge_kw: session.max_charge_kw,
        discharge_kw: session.max_discharge_kw,
    }
}

/// Steps of the scenario before a grid inside its period begins.
pub(super) fn offset(scenario: &Scenario, grid: Grid) -> usize {
    whole(scenario).first_from(grid.start)
}

/// Steps of the scenario's whole period.
fn whole(scenario: &Scenario) -> Grid {
    Grid {
        start: scenario.start,
        step: scenario.step,
        steps: scenario.steps(),
    }
}

/// Start of the local date `date` in the scenario's zone.
pub(super) fn midnight(scenario: &Scenario, date: NaiveDate) -> Result<DateTime<Utc>, CliError> {
    DeliveryDay::try_new(date, scenario.zone())
        .map(DeliveryDay::start)
        .map_err(|e| CliError::Input(e.to_string()))
}
