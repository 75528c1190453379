//! The whole problem as one programme: vehicles, then everything they share.

use super::dimming::{self, Place};
use super::problem::{Order, Problem};
use super::vehicle::{self, Columns};
use super::{reactive, refund};
use crate::reference::program::{Expression, Program, Row};

/// Power below which a limit is out of reach, kW.
const NOTHING: f64 = 1e-9;

/// A programme and where to find things in it.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) program: Program,
    pub(super) vehicles: Vec<Columns>,
    /// Volume sold beyond awards, MW: `[product][block]`.
    pub(super) sold: Vec<Vec<Expression>>,
    /// Bought beyond what is held, kW, one per order.
    pub(super) ordered: Vec<Expression>,
    pub(super) rows: Rows,
}

/// Row numbers by meaning; `None` where a row cannot bind and was left out.
#[derive(Debug, Default)]
pub(super) struct Rows {
    /// `[site][step]`
    pub(super) site_import: Vec<Vec<Option<usize>>>,
    pub(super) site_export: Vec<Vec<Option<usize>>>,
    /// `[area][step]`
    pub(super) area_import: Vec<Vec<Option<usize>>>,
    pub(super) area_export: Vec<Vec<Option<usize>>>,
    /// `(place, step, dimming, row)` of the import limits after a dimming.
    pub(super) recovery: Vec<(Place, usize, usize, usize)>,
    /// `[product][step]`, every row of that step: the pool's own and one per group.
    pub(super) hold_up: Vec<Vec<Vec<usize>>>,
    pub(super) hold_down: Vec<Vec<Vec<usize>>>,
    /// `[product][block]`: most that may be sold.
    pub(super) block: Vec<Vec<Option<usize>>>,
    /// `(site, step, row)` of demand charges.
    pub(super) demand: Vec<(usize, usize, usize)>,
    /// `[step]`: load less orders.
    pub(super) position: Vec<Option<usize>>,
    pub(super) reactive: reactive::Rows,
    pub(super) refund: refund::Rows,
}

/// Builds the programme of a problem that passed its check.
pub(super) fn build(problem: &Problem) -> Model {
    let mut model = Model::default();
    for vehicle in problem.vehicles.iter().enumerate() {
        let columns = vehicle::build(problem, vehicle, &mut model.program);
        model.vehicles.push(columns);
    }
    let here = Plugged::new(problem);
    products(problem, &here, &mut model);
    for site in 0..problem.sites.len() {
        limits(problem, &here, &mut model, &[site], None);
    }
    for area in 0..problem.areas.len() {
        let sites = &problem.areas[area].sites;
        limits(problem, &here, &mut model, sites, Some(area));
    }
    dimming::shared(problem, &here, &mut model);
    reactive::shared(problem, &here, &mut model);
    refund::shared(problem, &here, &mut model);
    demand(problem, &here, &mut model);
    position(problem, &here, &mut model);
    model
}

/// Who is plugged in when: `[step]` with vehicle and step of its stay.
pub(super) struct Plugged {
    pub(super) steps: Vec<Vec<(usize, usize)>>,
}

impl Plugged {
    fn new(problem: &Problem) -> Self {
        let mut steps = vec![Vec::new(); problem.import_price.len()];
        for (index, vehicle) in problem.vehicles.iter().enumerate() {
            for (j, step) in vehicle.session.steps().enumerate() {
                steps[step].push((index, j));
            }
        }
        Self { steps }
    }

    /// Who is plugged in at `sites` in a step, and in which step of its stay.
    pub(super) fn at<'a>(
        &'a self,
        problem: &'a Problem,
        sites: &'a [usize],
        step: usize,
    ) -> impl Iterator<Item = (usize, usize)> + 'a {
        self.steps[step].iter().copied().filter(|(v, _)| {
            let site = problem.vehicles[*v].session.site;
            site.is_some_and(|site| sites.contains(&site))
        })
    }
}

fn products(problem: &Problem, here: &Plugged, model: &mut Model) {
    let steps = problem.import_price.len();
    for (index, product) in problem.products.iter().enumerate() {
        model.rows.hold_up.push(vec![Vec::new(); steps]);
        model.rows.hold_down.push(vec![Vec::new(); steps]);
        let (mut sold, mut most_rows) = (Vec::new(), Vec::new());
        for block in &product.blocks {
            model
                .program
                .charge(Expression::constant(block.awarded_mw), -block.price);
            let able = block
                .steps
                .clone()
                .map(|step| able_mw(problem, here, model, index, step))
                .fold(f64::INFINITY, f64::min);
            let most = block.most_mw.unwrap_or(f64::INFINITY);
            let high = able.min(most);
            let volume = if block.open && high > NOTHING && high.is_finite() {
                let volume = Expression::column(model.program.column(-block.price, 0.0, high));
                model.program.above(volume, 0.0);
                let mut row = Row::default();
                row.add(1.0, volume);
                most_rows.push(if most <= able {
                    model.program.at_most(&mut row, most)
                } else {
                    None
                });
                volume
            } else {
                most_rows.push(None);
                Expression::constant(0.0)
            };
            for step in block.steps.clone() {
                hold(
                    problem,
                    here,
                    model,
                    (index, step),
                    volume,
                    block.awarded_mw,
                );
            }
            sold.push(volume);
        }
        model.sold.push(sold);
        model.rows.block.push(most_rows);
    }
}

/// Most of a product that those plugged in could hold in a step at all, MW.
fn able_mw(problem: &Problem, here: &Plugged, model: &Model, product: usize, step: usize) -> f64 {
    let total = |can: &dyn Fn(&Columns, usize) -> bool| {
        here.steps[step]
            .iter()
            .filter(|(v, j)| can(&model.vehicles[*v], *j))
            .map(|(v, _)| &problem.vehicles[*v].session)
            .map(|session| session.charge_kw + session.discharge_kw)
            .sum::<f64>()
    };
    let record = &problem.products[product];
    let up = record
        .up
        .map(|way| total(&|columns, j| columns.up[product][j].is_some()) / (1000.0 * way.power));
    let down = record
        .down
        .map(|way| total(&|columns, j| columns.down[product][j].is_some()) / (1000.0 * way.power));
    up.into_iter().chain(down).fold(f64::INFINITY, f64::min)
}

/// What the pool may have lost when it must hold what it sold.
#[derive(Clone, Copy)]
enum Lost {
    Nothing,
    /// All of the vehicles of a group.
    Group(usize),
    /// The draw of a dimming's vehicles, and the Down they do not hold while dimmed.
    Draw(usize),
}

impl Lost {
    /// Everything that may be lost at once, for Up or for Down.
    fn all(problem: &Problem, is_up: bool) -> impl Iterator<Item = Self> + '_ {
        let groups = (0..problem.groups.len()).map(Lost::Group);
        let dimmings = (0..problem.dimmings.len())
            .filter(move |d| !is_up && problem.dimmings[*d].holds_down)
            .map(Lost::Draw);
        std::iter::once(Lost::Nothing).chain(groups).chain(dimmings)
    }

    /// What is left of `held` at a vehicle, and whether that is another amount.
    fn left(
        self,
        problem: &Problem,
        (v, j): (usize, usize),
        (product, held, columns): (usize, Expression, &Columns),
    ) -> (Option<Expression>, bool) {
        match self {
            Self::Nothing => (Some(held), false),
            Self::Group(g) if problem.groups[g].vehicles.contains(&v) => (None, true),
            Self::Draw(d) if dimming::exposed(problem, v).is_some_and(|e| e.dimming == d) => {
                let made = columns.contingency.as_ref();
                (made.and_then(|made| made.down[product][j]), true)
            }
            Self::Group(_) | Self::Draw(_) => (Some(held), false),
        }
    }
}

/// What the pool sells of a product it must hold, also without any one group and while any one dimming lasts.
fn hold(
    problem: &Problem,
    here: &Plugged,
    model: &mut Model,
    (product, step): (usize, usize),
    volume: Expression,
    awarded: f64,
) {
    let record = &problem.products[product];
    for (is_up, way) in [(true, record.up), (false, record.down)] {
        let Some(way) = way else { continue };
        if volume.is_constant() && awarded <= 0.0 {
            continue;
        }
        let wanted = 1000.0 * way.power;
        let short = (awarded > 0.0).then(|| {
            let price = problem.elastic.award_per_kw_hour * problem.step_hours;
            let short = Expression::column(model.program.column(price, 0.0, wanted * awarded));
            model.program.above(short, 0.0);
            model.program.below(short, wanted * awarded);
            short
        });
        for lost in Lost::all(problem, is_up) {
            let mut row = Row::default();
            row.add(wanted, volume);
            if let Some(short) = short {
                row.add(-1.0, short);
            }
            let mut loses = false;
            for (v, j) in &here.steps[step] {
                let columns = &model.vehicles[*v];
                let held = if is_up {
                    columns.up[product][*j].map(|up| up.kept)
                } else {
                    columns.down[product][*j]
                };
                let Some(held) = held else { continue };
                let (left, other) = lost.left(problem, (*v, *j), (product, held, columns));
                loses |= other;
                if let Some(left) = left {
                    row.add(-1.0, left);
                }
            }
            if !loses && !matches!(lost, Lost::Nothing) {
                continue; // The pool's own row says the same.
            }
            if let Some(row) = model.program.at_most(&mut row, -wanted * awarded) {
                let rows = if is_up {
                    &mut model.rows.hold_up
                } else {
                    &mut model.rows.hold_down
                };
                rows[product][step].push(row);
            }
        }
    }
}

/// Import and export limits of one site, or of the sites of an area; each row may give way at a price.
fn limits(
    problem: &Problem,
    here: &Plugged,
    model: &mut Model,
    sites: &[usize],
    area: Option<usize>,
) {
    let elastic = &problem.elastic;
    let price = problem.step_hours
        * if area.is_some() {
            elastic.area_per_kwh
        } else {
            elastic.site_per_kwh
        };
    let (mut import_rows, mut export_rows) = (Vec::new(), Vec::new());
    for step in 0..problem.import_price.len() {
        let (import, export) = match area {
            Some(area) => (
                problem.areas[area].import_kw.get(step).copied().flatten(),
                problem.areas[area].export_kw.get(step).copied().flatten(),
            ),
            None => {
                let site = &problem.sites[sites[0]];
                (site.import_kw, site.export_kw)
            }
        };
        let base: f64 = sites
            .iter()
            .map(|site| problem.sites[*site].base(step))
            .sum();
        let most = |power: &dyn Fn(&super::Session) -> f64| {
            here.at(problem, sites, step)
                .map(|(v, j)| (&problem.vehicles[v].session, j))
                .map(|(session, j)| power(session) * session.share[j])
                .sum::<f64>()
        };
        let draw = base + most(&|session| session.charge_kw);
        let feed = most(&|session| session.discharge_kw) - base;
        import_rows.push(
            import
                .filter(|limit| draw > limit + NOTHING)
                .and_then(|limit| {
                    let net = net_row(problem, here, model, sites, step, 1.0);
                    give_way(model, net, limit - base, price, draw - limit)
                }),
        );
        export_rows.push(
            export
                .filter(|limit| feed > limit + NOTHING)
                .and_then(|limit| {
                    let net = net_row(problem, here, model, sites, step, -1.0);
                    give_way(model, net, limit + base, price, feed - limit)
                }),
        );
    }
    let rows = &mut model.rows;
    if area.is_some() {
        rows.area_import.push(import_rows);
        rows.area_export.push(export_rows);
    } else {
        rows.site_import.push(import_rows);
        rows.site_export.push(export_rows);
    }
}

/// `row - slack <= limit` with a priced slack. Where no column is in the row the excess is a constant.
pub(super) fn give_way(
    model: &mut Model,
    mut row: Row,
    limit: f64,
    price: f64,
    most: f64,
) -> Option<usize> {
    let slack = Expression::column(model.program.column(price, 0.0, most));
    model.program.above(slack, 0.0);
    row.add(-1.0, slack);
    model.program.at_most(&mut row, limit)
}

/// Net power of those at `sites` times `sign`, with their reserve activated in that direction.
fn net_row(
    problem: &Problem,
    here: &Plugged,
    model: &Model,
    sites: &[usize],
    step: usize,
    sign: f64,
) -> Row {
    let mut row = Row::default();
    for (v, j) in here.at(problem, sites, step) {
        let columns = &model.vehicles[v];
        row.add(sign, columns.net(j));
        let kept = if sign > 0.0 {
            columns.down_kept(j)
        } else {
            columns.up_kept(j)
        };
        kept.into_iter().for_each(|kept| row.add(1.0, kept));
    }
    row
}

/// Demand charges: the peak is at least every draw that counts (4.2).
fn demand(problem: &Problem, here: &Plugged, model: &mut Model) {
    for (index, site) in problem.sites.iter().enumerate() {
        for charge in &site.demand {
            let floor = charge.to_date_kw.max(charge.ratchet_kw).max(0.0);
            let draw = |step: usize| {
                site.base(step)
                    + here
                        .at(problem, &[index], step)
                        .map(|(v, j)| (&problem.vehicles[v].session, j))
                        .map(|(session, j)| session.charge_kw * session.share[j])
                        .sum::<f64>()
            };
            let highest = charge
                .steps
                .iter()
                .map(|step| draw(*step))
                .fold(floor, f64::max);
            if highest <= floor + NOTHING {
                model
                    .program
                    .charge(Expression::constant(floor), charge.per_kw);
                continue;
            }
            let peak = Expression::column(model.program.column(charge.per_kw, floor, highest));
            model.program.above(peak, floor);
            for step in charge
                .steps
                .iter()
                .copied()
                .filter(|step| draw(*step) > floor)
            {
                let mut row = Row::default();
                for (v, j) in here.at(problem, &[index], step) {
                    row.add(1.0, model.vehicles[v].net(j));
                }
                row.add(-1.0, peak);
                if let Some(row) = model.program.at_most(&mut row, -site.base(step)) {
                    model.rows.demand.push((index, step, row));
                }
            }
        }
    }
}

/// Orders, and what is drawn beyond them at the imbalance price.
fn position(problem: &Problem, here: &Plugged, model: &mut Model) {
    let Some(imbalance) = &problem.imbalance else {
        return;
    };
    let mwh = problem.step_hours / 1000.0;
    for order in &problem.orders {
        let ordered = ordered(problem, order, model);
        for step in order.steps.clone() {
            // What is bought and not drawn earns the long price.
            let bought = ordered.add(1.0, Expression::constant(order.held_kw));
            model.program.charge(bought, -mwh * imbalance.long[step]);
        }
        model.ordered.push(ordered);
    }
    for step in 0..problem.import_price.len() {
        let mut row = Row::default();
        let mut most = 0.0;
        for (v, j) in &here.steps[step] {
            let net = model.vehicles[*v].net(*j);
            let session = &problem.vehicles[*v].session;
            most += session.charge_kw * session.share[*j];
            row.add(1.0, net);
            model.program.charge(net, mwh * imbalance.long[step]);
        }
        for (order, ordered) in problem.orders.iter().zip(&model.ordered) {
            if order.steps.contains(&step) {
                row.add(-1.0, ordered.add(1.0, Expression::constant(order.held_kw)));
                most += (order.most_kw - order.held_kw).max(0.0);
            }
        }
        let spread = imbalance.short[step] - imbalance.long[step];
        let short = Expression::column(model.program.column(mwh * spread, 0.0, most));
        model.program.above(short, 0.0);
        row.add(-1.0, short);
        model
            .rows
            .position
            .push(model.program.at_most(&mut row, 0.0));
    }
}

/// What is bought beyond what is held, as a column or two.
fn ordered(problem: &Problem, order: &Order, model: &mut Model) -> Expression {
    if !order.open || order.most_kw <= NOTHING {
        return Expression::constant(0.0);
    }
    let mut side = |sign: f64, low: f64| {
        let mwh: f64 = order
            .steps
            .clone()
            .map(|_| problem.step_hours / 1000.0)
            .sum();
        let price = sign * mwh * sign.mul_add(order.half_spread, order.price);
        let column = Expression::column(model.program.column(price, low, order.most_kw));
        model.program.above(column, low);
        model.program.below(column, order.most_kw);
        column
    };
    if order.half_spread > 0.0 {
        let (buy, sell) = (side(1.0, 0.0), side(-1.0, 0.0));
        buy.add(-1.0, sell)
    } else {
        side(1.0, -order.most_kw)
    }
}
