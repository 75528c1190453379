//! Which sessions must be decided together, and the rows that join them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::columns::{self, Offer, SessionColumns};
use super::problem::{Problem, Session, SessionSchedule};
use super::program::{Expression, Program, Row};

/// One limit of one site in one step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct SiteRow {
    pub(super) site: usize,
    pub(super) step: usize,
    /// Import limit, else export limit.
    pub(super) import: bool,
    /// What sessions may add: the limit less (plus) the base load, kW.
    pub(super) room: f64,
    /// How far the row may be tightened and still be met by the powers plugged in, kW.
    slack: f64,
}

/// Sessions that share a binding limit or a block, directly or through others.
#[derive(Debug, Default)]
pub(super) struct Component {
    /// Ascending indices into the problem's sessions.
    pub(super) sessions: Vec<usize>,
    pub(super) site_rows: Vec<SiteRow>,
    /// `(product, block)`.
    pub(super) blocks: Vec<(usize, usize)>,
}

/// Excess over a site's limit that counts as kept, kW: a milliwatt, as for the checker.
const TOLERANCE: f64 = 1e-6;

impl Component {
    /// The component's sessions as a problem without sites, whose limits [`Self::keeps_limits`] looks after.
    pub(super) fn apart(&self, problem: &Problem) -> Problem {
        let alone = |index: &usize| Session {
            site: None,
            ..problem.sessions[*index].clone()
        };
        Problem {
            sessions: self.sessions.iter().map(alone).collect(),
            sites: Vec::new(),
            import_price: problem.import_price.clone(),
            export_price: problem.export_price.clone(),
            reserves: problem.reserves.clone(),
            ..*problem
        }
    }

    /// Whether schedules of the component's sessions, in its order, keep its site limits with all reserve called.
    pub(super) fn keeps_limits<'a>(
        &self,
        problem: &Problem,
        schedules: impl Iterator<Item = &'a SessionSchedule>,
    ) -> bool {
        let mut sums: BTreeMap<(usize, usize), [f64; 3]> = self
            .site_rows
            .iter()
            .map(|row| ((row.site, row.step), [0.0; 3]))
            .collect();
        for (index, done) in self.sessions.iter().zip(schedules) {
            let session = &problem.sessions[*index];
            let Some(site) = session.site else { continue };
            for (j, step) in session.steps().enumerate() {
                if let Some([net, up, down]) = sums.get_mut(&(site, step)) {
                    *net += done.charge_kw[j] - done.discharge_kw[j];
                    *up += done.reserves.iter().map(|held| held.up_kw(j)).sum::<f64>();
                    *down += done
                        .reserves
                        .iter()
                        .map(|held| held.down_kw[j])
                        .sum::<f64>();
                }
            }
        }
        self.site_rows.iter().all(|row| {
            let [net, up, down] = sums[&(row.site, row.step)];
            (if row.import { net + down } else { up - net }) <= row.room + TOLERANCE
        })
    }
}

/// Least and most power the sessions of a site can take in each step, kW, with room for reserve called beyond them.
struct Powers {
    least: Vec<f64>,
    most: Vec<f64>,
    /// Beyond `most` (and below `least`), where a product may be sold beyond the power kept for it.
    beyond: Vec<f64>,
}

fn powers(problem: &Problem) -> Vec<Powers> {
    let steps = problem.import_price.len();
    let blank = || Powers {
        least: vec![0.0; steps],
        most: vec![0.0; steps],
        beyond: vec![0.0; steps],
    };
    let mut all: Vec<Powers> = problem.sites.iter().map(|_| blank()).collect();
    let factor = problem
        .reserves
        .iter()
        .map(|reserve| reserve.power_factor)
        .fold(1.0, f64::min);
    for session in &problem.sessions {
        let Some(at) = session.site.and_then(|site| all.get_mut(site)) else {
            continue;
        };
        for (step, share) in session.steps().zip(&session.share) {
            at.most[step] += share * session.charge_kw;
            at.least[step] -= share * session.discharge_kw;
            at.beyond[step] += (session.charge_kw + session.discharge_kw) * (1.0 / factor - 1.0);
        }
    }
    all
}

/// Room that counts as none, kW.
const NO_ROOM: f64 = 1e-9;

/// The problem with one-way vehicles unplugged for steps in which base load takes all of their site's import and
/// nobody there can give any back: the same problem, but one whose rows have an interior.
pub(super) fn without_shut_steps(problem: &Problem) -> Cow<'_, Problem> {
    let mut open = Cow::Borrowed(problem);
    for (site, powers) in powers(problem).iter().enumerate() {
        let limits = &problem.sites[site];
        for step in 0..problem.import_price.len() {
            let shut = limits.import_kw - limits.base(step) <= NO_ROOM && powers.least[step] >= 0.0;
            if shut && powers.most[step] > 0.0 {
                let there = |session: &&mut Session| {
                    session.site == Some(site) && session.steps().contains(&step)
                };
                for session in open.to_mut().sessions.iter_mut().filter(there) {
                    session.share[step - session.first] = 0.0;
                }
            }
        }
    }
    open
}

/// Every limit that powers plugged in and base load could break; or the first that they must break.
pub(super) fn site_rows(problem: &Problem) -> Result<Vec<SiteRow>, (usize, usize, f64)> {
    let mut rows = Vec::new();
    for (site, powers) in powers(problem).iter().enumerate() {
        let limits = &problem.sites[site];
        for step in 0..problem.import_price.len() {
            let base = limits.base(step);
            for (import, room, least, most) in [
                (
                    true,
                    limits.import_kw - base,
                    powers.least[step],
                    powers.most[step],
                ),
                (
                    false,
                    limits.export_kw + base,
                    -powers.most[step],
                    -powers.least[step],
                ),
            ] {
                let slack = room - least;
                // A hair of rounding in the limit or the base load is no reason to give up.
                if slack < -NO_ROOM {
                    return Err((site, step, -slack));
                }
                if most + powers.beyond[step] > room && most > least {
                    rows.push(SiteRow {
                        site,
                        step,
                        import,
                        room,
                        slack: slack.max(0.0),
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// Groups sessions into components, ordered by their first session; sessions alone and free of blocks form one each.
pub(super) fn components(problem: &Problem, offer: &Offer, rows: &[SiteRow]) -> Vec<Component> {
    let steps = problem.import_price.len();
    let mut groups = Groups::new(problem.sessions.len());
    let mut limited = vec![vec![false; steps]; problem.sites.len()];
    for row in rows {
        limited[row.site][row.step] = true;
    }
    let mut at_site: Vec<Vec<Option<usize>>> = limited
        .iter()
        .map(|steps| vec![None; steps.len()])
        .collect();
    let mut at_block: Vec<Vec<Option<usize>>> = problem
        .reserves
        .iter()
        .map(|reserve| vec![None; reserve.blocks.len()])
        .collect();
    for (index, session) in problem.sessions.iter().enumerate() {
        for (j, step) in session.steps().enumerate() {
            if let Some(site) = session
                .site
                .filter(|site| limited[*site][step] && session.share[j] > 0.0)
            {
                groups.join(index, *at_site[site][step].get_or_insert(index));
            }
            if offer.touches(session, j) {
                for (product, seen) in at_block.iter_mut().enumerate() {
                    if let Some(block) = offer.block(product, step) {
                        groups.join(index, *seen[block].get_or_insert(index));
                    }
                }
            }
        }
    }
    let mut place = vec![usize::MAX; problem.sessions.len()];
    let mut found: Vec<Component> = Vec::new();
    for index in 0..problem.sessions.len() {
        let root = groups.root(index);
        if place[root] == usize::MAX {
            place[root] = found.len();
            found.push(Component::default());
        }
        found[place[root]].sessions.push(index);
    }
    for row in rows {
        if let Some(index) = at_site[row.site][row.step] {
            found[place[groups.root(index)]].site_rows.push(*row);
        }
    }
    for (product, seen) in at_block.iter().enumerate() {
        for (block, first) in seen.iter().enumerate() {
            if let Some(index) = first {
                found[place[groups.root(*index)]]
                    .blocks
                    .push((product, block));
            }
        }
    }
    found
}

/// Disjoint sets.
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn new(count: usize) -> Self {
        Self {
            parent: (0..count).collect(),
        }
    }

    fn root(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[a.max(b)] = a.min(b);
    }
}

/// A component as a programme.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) program: Program,
    /// Columns of each session of the component.
    pub(super) sessions: Vec<SessionColumns>,
    /// Row of the programme for each of the component's site rows, where it has columns.
    pub(super) site_rows: Vec<Option<usize>>,
}

/// How far site limits are tightened against the solver's last digits, kW; a tenth of a milliwatt.
const MARGIN: f64 = 1e-7;

/// Builds a component's programme.
pub(super) fn model(problem: &Problem, offer: &Offer, component: &Component) -> Model {
    let mut program = Program::default();
    let sessions: Vec<SessionColumns> = component
        .sessions
        .iter()
        .map(|index| columns::build(problem, offer, &problem.sessions[*index], &mut program))
        .collect();
    let mut present: Vec<Vec<(usize, usize)>> = vec![Vec::new(); problem.import_price.len()];
    for (place, index) in component.sessions.iter().enumerate() {
        for (j, step) in problem.sessions[*index].steps().enumerate() {
            present[step].push((place, j));
        }
    }
    let mut row = Row::default();
    let site_rows = component.site_rows.iter().map(|limit| {
        for (place, j) in &present[limit.step] {
            let (own, own_session) = (
                &sessions[*place],
                &problem.sessions[component.sessions[*place]],
            );
            if own_session.site != Some(limit.site) {
                continue;
            }
            let sign = if limit.import { 1.0 } else { -1.0 };
            row.add(sign, own.charge[*j]);
            row.add(-sign, own.discharge[*j]);
            for held in &own.held {
                row.add(
                    1.0,
                    if limit.import {
                        held[*j].down
                    } else {
                        held[*j].up
                    },
                );
            }
        }
        let margin = MARGIN.min(limit.slack / 2.0);
        let at = program.at_most(&mut row, limit.room - margin);
        program.margins.extend(at.map(|at| (at, margin)));
        at
    });
    let site_rows = site_rows.collect();
    for (product, block) in &component.blocks {
        pool_rows(
            problem,
            component,
            &sessions,
            &present,
            (*product, *block),
            &mut program,
        );
    }
    Model {
        program,
        sessions,
        site_rows,
    }
}

/// The volume of a block as a column (kW), and the rows that hold it in every step.
fn pool_rows(
    problem: &Problem,
    component: &Component,
    sessions: &[SessionColumns],
    present: &[Vec<(usize, usize)>],
    (product, block): (usize, usize),
    program: &mut Program,
) {
    let reserve = &problem.reserves[product];
    let block = &reserve.blocks[block];
    let able = |session: &Session, j: usize| session.whole(j) && columns::can_move(session);
    let most = block.steps.clone().map(|step| {
        let there = present[step]
            .iter()
            .map(|(place, j)| (&problem.sessions[component.sessions[*place]], *j));
        let can = there.filter(|(session, j)| able(session, *j));
        can.map(|(session, _)| columns::most_reserve(session, reserve))
            .sum::<f64>()
    });
    let most = most.fold(f64::INFINITY, f64::min);
    let sold = Expression::column(program.column(-block.price / 1000.0, 0.0, most));
    program.above(sold, 0.0);
    let mut row = Row::default();
    for step in block.steps.clone() {
        for up in [true, false] {
            let direction = reserve.direction;
            if !(if up {
                direction.has_up()
            } else {
                direction.has_down()
            }) {
                continue;
            }
            row.add(1.0, sold);
            for (place, j) in &present[step] {
                let held = &sessions[*place].held[product][*j];
                row.add(-1.0, if up { held.up } else { held.down });
            }
            program.at_most(&mut row, 0.0);
        }
    }
}
