//! Dimming as columns and rows of the programme.

use super::super::model::{Model, Plugged, give_way};
use super::super::problem::{Problem, Vehicle};
use super::super::vehicle::Columns;
use super::{Exposed, Left, Place, exposed, while_in};
use crate::reference::program::{Expression, Program, Row};

/// Power below which nothing can be drawn, kW.
const NOTHING: f64 = 1e-9;

/// The columns of one exposed vehicle.
#[derive(Debug, Default)]
pub(in super::super) struct Contingency {
    pub(in super::super) during: Vec<Expression>,
    pub(in super::super) after: Vec<Expression>,
    /// `[product][step of the stay]`
    pub(in super::super) down: Vec<Vec<Option<Expression>>>,
    /// Rows of the energy margin, in the programme's numbers.
    pub(in super::super) rows: Vec<usize>,
}

/// Adds what a vehicle does when dimmed, after its other columns and rows.
pub(in super::super) fn build(
    problem: &Problem,
    (vehicle, exposed): (&Vehicle, Exposed),
    program: &mut Program,
    columns: &Columns,
) -> Contingency {
    let steps = vehicle.session.share.len();
    let mut made = Contingency {
        down: vec![vec![None; steps]; problem.products.len()],
        ..Contingency::default()
    };
    for j in 0..steps {
        powers(
            problem,
            (vehicle, exposed),
            program,
            (columns, j),
            &mut made,
        );
    }
    margin(problem, (vehicle, exposed), program, columns, &mut made);
    made
}

/// Draw while dimmed and after in step `j`, and Down held beside it.
fn powers(
    problem: &Problem,
    (vehicle, exposed): (&Vehicle, Exposed),
    program: &mut Program,
    (columns, j): (&Columns, usize),
    made: &mut Contingency,
) {
    let most = exposed.most(vehicle, j);
    let can = vehicle.session.share[j] * vehicle.session.charge_kw;
    let held = (0..problem.products.len()).filter_map(|p| Some((p, columns.down[p][j]?)));
    let held: Vec<(usize, Expression)> = held.filter(|_| exposed.holds_down).collect();
    let bounded = |program: &mut Program, high: f64| {
        let column = Expression::column(program.column(0.0, 0.0, high));
        program.above(column, 0.0);
        program.below(column, high);
        column
    };
    // Where a limit may hold back what comes after, it must be able to hold back this too.
    let free = exposed.shared || exposed.limited || !held.is_empty();
    let during = if most > NOTHING && free {
        bounded(program, most)
    } else {
        Expression::constant(most)
    };
    if most > NOTHING && !held.is_empty() {
        let mut sum = Row::default();
        sum.add(1.0, during);
        for (product, kept) in &held {
            let down = Expression::column(program.column(0.0, 0.0, most));
            program.above(down, 0.0);
            program.below(down.add(-1.0, *kept), 0.0);
            sum.add(1.0, down);
            made.down[*product][j] = Some(down);
        }
        program.at_most(&mut sum, most);
    }
    let after = if can > NOTHING && (exposed.limited || !held.is_empty()) {
        let after = bounded(program, can);
        program.below(during.add(-1.0, after), 0.0);
        after
    } else {
        Expression::constant(can)
    };
    if !held.is_empty() && !after.is_constant() {
        let mut sum = Row::default();
        sum.add(1.0, after);
        for (_, kept) in &held {
            sum.add(1.0, *kept);
        }
        program.at_most(&mut sum, can);
    }
    made.during.push(during);
    made.after.push(after);
}

/// Whenever the dimming begins, what is left brings the vehicle to its goal.
fn margin(
    problem: &Problem,
    (vehicle, exposed): (&Vehicle, Exposed),
    program: &mut Program,
    columns: &Columns,
    made: &mut Contingency,
) {
    let session = &vehicle.session;
    let goal = session.goal / problem.step_hours;
    let floor = session.floor / problem.step_hours;
    if goal <= floor + NOTHING {
        return;
    }
    let price = problem.elastic.dimming_per_kwh * problem.step_hours;
    let mut short = None;
    for begin in 0..session.share.len() {
        let end = exposed.end(vehicle, begin);
        let mut row = Row::default();
        let mut sure = floor;
        let drawn = made.during[begin..end].iter().chain(&made.after[end..]);
        for power in drawn {
            row.add(-session.charge_efficiency, *power);
            sure += if power.is_constant() {
                session.charge_efficiency * power.constant
            } else {
                0.0
            };
        }
        if sure >= goal {
            continue; // Even an empty battery gets there.
        }
        let short = *short.get_or_insert_with(|| {
            let short = Expression::column(program.column(price, 0.0, goal - floor));
            program.above(short, 0.0);
            short
        });
        row.add(-1.0, columns.energy[begin]);
        row.add(-1.0, short);
        made.rows.extend(program.at_most(&mut row, -goal));
    }
}

/// Rows that vehicles share: what an energy manager has to share out, and import limits after a dimming.
pub(in super::super) fn shared(problem: &Problem, here: &Plugged, model: &mut Model) {
    for (d, dimming) in problem.dimmings.iter().enumerate() {
        for left in dimming.left.iter().filter(|l| l.vehicles.len() > 1) {
            for step in 0..problem.import_price.len() {
                share_out(problem, here, model, left, step);
            }
        }
        for place in Place::all(problem) {
            for step in 0..problem.import_price.len() {
                recover(problem, here, model, (d, place), step);
            }
        }
    }
}

fn share_out(problem: &Problem, here: &Plugged, model: &mut Model, left: &Left, step: usize) {
    let mut row = Row::default();
    let mut most = 0.0;
    for (v, j) in here.steps[step]
        .iter()
        .filter(|(v, _)| left.vehicles.contains(v))
    {
        let Some(made) = &model.vehicles[*v].contingency else {
            continue;
        };
        let vehicle = &problem.vehicles[*v];
        if vehicle.session.share[*j] > 0.0 {
            let weight = while_in(problem, (*v, *j));
            most += left.kw.min(vehicle.session.charge_kw);
            row.add(weight, made.during[*j]);
            for down in made.down.iter().filter_map(|product| product[*j]) {
                row.add(weight, down);
            }
        }
    }
    if most > left.kw + NOTHING {
        model.program.at_most(&mut row, left.kw);
    }
}

/// After a dimming the vehicles concerned keep the import limit with all the others there, which go on as planned. Others
/// that could only draw because these fed back make it give way.
fn recover(
    problem: &Problem,
    here: &Plugged,
    model: &mut Model,
    (dimming, place): (usize, Place),
    step: usize,
) {
    let Some(room) = place.room(problem, step) else {
        return;
    };
    let mut row = Row::default();
    let (mut concerned, mut most) = (false, 0.0);
    for (v, j) in here.steps[step]
        .iter()
        .filter(|(v, _)| place.has(problem, *v))
    {
        let columns = &model.vehicles[*v];
        let dimmed = columns
            .contingency
            .as_ref()
            .filter(|_| exposed(problem, *v).is_some_and(|e| e.dimming == dimming));
        row.add(
            1.0,
            dimmed.map_or_else(|| columns.net(*j), |made| made.after[*j]),
        );
        concerned |= dimmed.is_some();
        let session = &problem.vehicles[*v].session;
        most += session.share[*j] * session.charge_kw;
        if dimmed.is_none() || problem.dimmings[dimming].holds_down {
            for kept in columns.down_kept(*j) {
                row.add(1.0, kept);
            }
        }
    }
    if concerned && most > room + NOTHING {
        let row = give_way(model, row, room, place.price(problem), most);
        let row = row.map(|row| (place, step, dimming, row));
        model.rows.recovery.extend(row);
    }
}
