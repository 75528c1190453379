//! Columns and rows of reactive power: a cone or two per vehicle and step, and what the connection points ask.

use super::super::model::{Model, Plugged, give_way};
use super::super::problem::{Problem, Vehicle};
use super::super::vehicle::Columns;
use super::{Reactive, rating};
use crate::reference::program::{Expression, Program, Row};

/// Power below which nothing can be moved, kW or kvar.
const NOTHING: f64 = 1e-9;

/// Row numbers by meaning, `[site][step]`.
#[derive(Debug, Default)]
pub(in super::super) struct Rows {
    /// Heads of the cones of the point's rating: at most one with all Down activated and one with all Up.
    pub(in super::super) rating: Vec<Vec<Vec<usize>>>,
    pub(in super::super) low: Vec<Vec<Option<usize>>>,
    pub(in super::super) high: Vec<Vec<Option<usize>>>,
    /// `(site, step, row)` of charges.
    pub(in super::super) charged: Vec<(usize, usize, usize)>,
}

/// Adds a vehicle's reactive power and its circles; to be called once its powers and reserve are there.
pub(in super::super) fn build(
    problem: &Problem,
    vehicle: &Vehicle,
    program: &mut Program,
    columns: &mut Columns,
) {
    let Some(kva) = rating(problem, vehicle) else {
        return;
    };
    for (j, share) in vehicle.session.share.iter().enumerate() {
        let most = share * kva;
        if most <= NOTHING {
            columns.reactive.push(Expression::constant(0.0));
            continue;
        }
        let shifted = Expression::column(program.column(0.0, -most, most));
        columns.reactive.push(shifted);
        let (down, up) = (columns.down_kept(j), columns.up_kept(j));
        let both = !(down.is_empty() && up.is_empty());
        for (sign, kept) in [(1.0, down), (-1.0, up)]
            .into_iter()
            .take(1 + usize::from(both))
        {
            let mut active = Row::default();
            active.add(1.0, columns.net(j));
            kept.into_iter().for_each(|kept| active.add(sign, kept));
            let (mut head, mut reactive) = (Row::default(), Row::default());
            head.add(1.0, Expression::constant(most));
            reactive.add(1.0, shifted);
            program.cone(head, [active, reactive]);
        }
    }
}

/// Adds what the connection points ask.
pub(in super::super) fn shared(problem: &Problem, here: &Plugged, model: &mut Model) {
    for (index, site) in problem.sites.iter().enumerate() {
        let mut rows = (Vec::new(), Vec::new(), Vec::new());
        if let Some(record) = &site.reactive {
            let place = Place {
                problem,
                here,
                site: index,
                record,
            };
            for step in 0..problem.import_price.len() {
                rows.0.push(place.rating(model, step));
                rows.1.push(place.side(model, step, -1.0, record.low_kvar));
                rows.2.push(place.side(model, step, 1.0, record.high_kvar));
            }
            place.charges(model);
        }
        model.rows.reactive.rating.push(rows.0);
        model.rows.reactive.low.push(rows.1);
        model.rows.reactive.high.push(rows.2);
    }
}

/// One connection point.
#[derive(Clone, Copy)]
struct Place<'a> {
    problem: &'a Problem,
    here: &'a Plugged,
    site: usize,
    record: &'a Reactive,
}

impl Place<'_> {
    fn at(&self, step: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        let site = std::slice::from_ref(&self.site);
        self.here.at(self.problem, site, step)
    }

    /// Reactive draw in a step, and how far it can be from the base load, kvar.
    fn draw(&self, model: &Model, step: usize) -> (Row, f64) {
        let (mut row, mut most) = (Row::default(), 0.0);
        row.add(1.0, Expression::constant(self.record.base(step)));
        for (v, j) in self.at(step) {
            if let Some(shifted) = model.vehicles[v].reactive.get(j) {
                row.add(1.0, *shifted);
                let vehicle = &self.problem.vehicles[v];
                most += vehicle.rating_kva.unwrap_or(0.0) * vehicle.session.share[j];
            }
        }
        (row, most)
    }

    /// `sign * draw <= sign * limit` unless it cannot be otherwise, with a priced slack.
    fn side(&self, model: &mut Model, step: usize, sign: f64, limit: Option<f64>) -> Option<usize> {
        let (draw, most) = self.draw(model, step);
        let over = sign * (self.record.base(step) - limit?) + most;
        if over <= NOTHING {
            return None;
        }
        let price = self.problem.elastic.reactive_per_kvarh * self.problem.step_hours;
        let mut row = Row::default();
        row.add_row(sign, &draw);
        give_way(model, row, sign * limit?, price, over)
    }

    /// The point's rating with all Down activated and with all Up, one slack for both.
    fn rating(&self, model: &mut Model, step: usize) -> Vec<usize> {
        let Some(kva) = self.record.rating_kva else {
            return Vec::new();
        };
        let (reactive, shift) = self.draw(model, step);
        let base = self.problem.sites[self.site].base(step);
        let (mut draw, mut feed) = (base, -base);
        let (mut down, mut up) = (Row::default(), Row::default());
        for row in [&mut down, &mut up] {
            row.add(1.0, Expression::constant(base));
        }
        for (v, j) in self.at(step) {
            let columns = &model.vehicles[v];
            let session = &self.problem.vehicles[v].session;
            draw += session.charge_kw * session.share[j];
            feed += session.discharge_kw * session.share[j];
            down.add(1.0, columns.net(j));
            up.add(1.0, columns.net(j));
            for kept in columns.down_kept(j) {
                down.add(1.0, kept);
            }
            for kept in columns.up_kept(j) {
                up.add(-1.0, kept);
            }
        }
        let widest = self.record.base(step).abs() + shift;
        let most = draw.abs().max(feed.abs()).hypot(widest);
        if most <= kva {
            return Vec::new();
        }
        let price = self.problem.elastic.site_per_kwh * self.problem.step_hours;
        let slack = Expression::column(model.program.column(price, 0.0, most - kva));
        model.program.above(slack, 0.0);
        let mut heads = Vec::new();
        for active in [down, up] {
            let (mut head, mut other) = (Row::default(), Row::default());
            head.add(1.0, Expression::constant(kva).add(1.0, slack));
            other.add_row(1.0, &reactive);
            heads.push(model.program.cone(head, [active, other]));
        }
        heads
    }

    /// The period's highest draw is at least every draw that counts.
    fn charges(&self, model: &mut Model) {
        for charge in &self.record.charges {
            let owed = charge.owed();
            let above = |step: usize| {
                let (draw, most) = self.draw(model, step);
                (step, draw, self.record.base(step) + most - charge.free_kvar)
            };
            let rows: Vec<(usize, Row, f64)> = charge.steps.iter().map(|s| above(*s)).collect();
            let highest = rows.iter().map(|(_, _, most)| *most).fold(owed, f64::max);
            if highest <= owed + NOTHING {
                let floor = Expression::constant(owed);
                model.program.charge(floor, charge.per_kvar);
                continue;
            }
            let peak = Expression::column(model.program.column(charge.per_kvar, owed, highest));
            model.program.above(peak, owed);
            for (step, mut row, most) in rows {
                row.add(-1.0, peak);
                if most > owed
                    && let Some(row) = model.program.at_most(&mut row, charge.free_kvar)
                {
                    model.rows.reactive.charged.push((self.site, step, row));
                }
            }
        }
    }
}
