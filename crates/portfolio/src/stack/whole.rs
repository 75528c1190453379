//! Volumes as a market takes them: nothing or at least the smallest, in whole steps. Branch and bound over the blocks.

use super::problem::{Answer, Block, Problem};
use super::solve::solve;
use super::valid::StackError;

/// Volume by which a bid may miss a whole number of steps, as a share of a step.
const WHOLE: f64 = 1e-6;

/// Gap at which branching ends, relative to the money: that of a single programme.
const GOOD_ENOUGH: f64 = 1e-6;

/// A schedule that sells whole volumes only.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The schedule, its volumes, and the bound proven for whole volumes.
    pub answer: Answer,
    /// Objective of the relaxation, volumes of any size.
    pub relaxation: f64,
    /// Programmes solved.
    pub programmes: usize,
}

/// What is allowed of one volume, MW; `None` above for no limit but the block's own.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Span {
    low: f64,
    high: Option<f64>,
}

#[derive(Debug, Clone)]
struct Node {
    spans: Vec<Vec<Span>>,
    /// No schedule within the spans has a lower objective.
    bound: f64,
}

/// Solves a problem with whole volumes, within `programmes` programmes: the best found by then, with the bound proven.
///
/// A volume that must be at least so much counts as awarded, so that every node has an answer; one that is not held
/// gives way at the price of an award and is never better than selling less.
///
/// # Errors
/// [`StackError`] where a number or an index makes no sense.
pub fn solve_whole(problem: &Problem, programmes: usize) -> Result<Whole, StackError> {
    let free = Span {
        low: 0.0,
        high: None,
    };
    let spans: Vec<Vec<Span>> = problem
        .products
        .iter()
        .map(|p| {
            // What is qualified below the least a bid may be cannot be sold at all.
            let shut = |most: f64| most < p.minimum_mw.max(p.step_mw) - WHOLE;
            let span = |block: &Block| Span {
                high: block.most_mw.filter(|most| shut(*most)).map(|_| 0.0),
                ..free
            };
            p.blocks.iter().map(span).collect()
        })
        .collect();
    let relaxed = solve(problem)?;
    let relaxation = relaxed.objective;
    let mut solved = 1;
    let root = if spans.iter().flatten().all(|span| span.high.is_none()) {
        relaxed
    } else {
        solved += 1;
        solve(&within(problem, &spans))?
    };
    let bound = root.lower_bound;
    let mut open = vec![(Node { spans, bound }, root)];
    let mut best: Option<(Vec<Vec<Span>>, Answer)> = None;
    let mut closed = f64::INFINITY;
    let mut next_dive = 0;
    while let Some((node, answer)) = open.pop() {
        if best
            .as_ref()
            .is_some_and(|(_, known)| node.bound >= known.objective - slack(known.objective))
        {
            closed = closed.min(node.bound);
            continue;
        }
        let Some((p, b, volume)) = most_broken(problem, &node, &answer) else {
            closed = closed.min(node.bound);
            keep(&mut best, &node, answer);
            continue;
        };
        if solved >= programmes {
            open.push((node, answer));
            break;
        }
        if solved >= next_dive {
            let (spans, known, took) = dive(problem, &node, &answer)?;
            solved += took;
            let bound = known.lower_bound;
            keep(&mut best, &Node { spans, bound }, known);
            next_dive = solved + DIVE;
        }
        let (below, above) = sides(problem, p, volume, node.spans[p][b]);
        let mut children = Vec::new();
        for span in [below, above].into_iter().flatten() {
            let mut spans = node.spans.clone();
            spans[p][b] = span;
            let answer = solve(&within(problem, &spans))?;
            solved += 1;
            let bound = answer.lower_bound.max(node.bound);
            children.push((Node { spans, bound }, answer));
        }
        // The better side is looked at first, the others by their bound.
        children.sort_by(|a, b| b.0.bound.total_cmp(&a.0.bound));
        open.extend(children);
        open.sort_by(|a, b| b.0.bound.total_cmp(&a.0.bound));
    }
    finish(problem, best, &open, closed, (relaxation, solved))
}

/// Every so many programmes the search dives for a whole answer from where it stands.
const DIVE: usize = 8;

fn slack(objective: f64) -> f64 {
    GOOD_ENOUGH * objective.abs().max(0.01)
}

fn keep(best: &mut Option<(Vec<Vec<Span>>, Answer)>, node: &Node, answer: Answer) {
    if best
        .as_ref()
        .is_none_or(|(_, known)| answer.objective < known.objective)
    {
        *best = Some((node.spans.clone(), answer));
    }
}

fn finish(
    problem: &Problem,
    best: Option<(Vec<Vec<Span>>, Answer)>,
    open: &[(Node, Answer)],
    closed: f64,
    (relaxation, programmes): (f64, usize),
) -> Result<Whole, StackError> {
    let (spans, mut answer) = match best {
        Some(found) => found,
        None => {
            // Nothing was found within the programmes allowed: sell nothing.
            let none = Span {
                low: 0.0,
                high: Some(0.0),
            };
            let spans: Vec<Vec<Span>> = problem
                .products
                .iter()
                .map(|p| vec![none; p.blocks.len()])
                .collect();
            let answer = solve(&within(problem, &spans))?;
            (spans, answer)
        }
    };
    for (p, blocks) in spans.iter().enumerate() {
        let step = problem.products[p].step_mw;
        for (b, span) in blocks.iter().enumerate() {
            let volume = answer.schedule.sold_mw[p][b] + span.low;
            answer.schedule.sold_mw[p][b] = if step > 0.0 {
                (volume / step).round() * step
            } else {
                volume
            };
        }
    }
    let bound = open
        .iter()
        .map(|(node, _)| node.bound)
        .fold(closed, f64::min);
    answer.lower_bound = bound.min(answer.objective);
    answer.relative_gap =
        (answer.objective - answer.lower_bound) / answer.objective.abs().max(0.01);
    Ok(Whole {
        answer,
        relaxation,
        programmes,
    })
}

/// The problem with the least volumes counted as awarded and the most as qualified.
fn within(problem: &Problem, spans: &[Vec<Span>]) -> Problem {
    let mut narrowed = problem.clone();
    for (product, spans) in narrowed.products.iter_mut().zip(spans) {
        for (block, span) in product.blocks.iter_mut().zip(spans) {
            block.awarded_mw += span.low;
            let most = match (block.most_mw, span.high) {
                (Some(most), Some(high)) => Some(most.min(high)),
                (most, high) => most.or(high),
            };
            block.most_mw = most.map(|most| (most - span.low).max(0.0));
        }
    }
    narrowed
}

/// The volume farthest from whole: product, block and volume, MW.
fn most_broken(problem: &Problem, node: &Node, answer: &Answer) -> Option<(usize, usize, f64)> {
    let mut worst: Option<(usize, usize, f64)> = None;
    let mut far = WHOLE;
    for (p, product) in problem.products.iter().enumerate() {
        for b in 0..product.blocks.len() {
            let volume = answer.schedule.sold_mw[p][b] + node.spans[p][b].low;
            let (below, above) = neighbours(product.minimum_mw, product.step_mw, volume);
            let unit = product.step_mw.max(product.minimum_mw);
            let distance = (volume - below).min(above - volume);
            if unit > 0.0 && distance / unit > far {
                far = distance / unit;
                worst = Some((p, b, volume));
            }
        }
    }
    worst
}

/// The whole volumes on either side of one.
fn neighbours(minimum: f64, step: f64, volume: f64) -> (f64, f64) {
    if volume < minimum {
        return (0.0, minimum);
    }
    if step <= 0.0 {
        return (volume, volume);
    }
    let below = (volume / step + WHOLE).floor() * step;
    (
        below,
        if volume - below <= WHOLE * step {
            below
        } else {
            below + step
        },
    )
}

/// What remains of a span below and above a volume that is not whole.
fn sides(
    problem: &Problem,
    product: usize,
    volume: f64,
    span: Span,
) -> (Option<Span>, Option<Span>) {
    let record = &problem.products[product];
    let (below, above) = neighbours(record.minimum_mw, record.step_mw, volume);
    let under = (below >= span.low).then_some(Span {
        low: span.low,
        high: Some(below),
    });
    let over = span
        .high
        .is_none_or(|high| above <= high + 1e-12)
        .then_some(Span {
            low: above,
            high: span.high,
        });
    (under, over)
}

/// Volumes fixed at the whole ones below them, one product after the other from the one that earns most, so that the next
/// takes up what rounding has left. Gives the programmes it took.
fn dive(
    problem: &Problem,
    node: &Node,
    answer: &Answer,
) -> Result<(Vec<Vec<Span>>, Answer, usize), StackError> {
    let mut spans = node.spans.clone();
    let mut current = answer.clone();
    let earned = |p: usize| -> f64 {
        let blocks = problem.products[p]
            .blocks
            .iter()
            .zip(&answer.schedule.sold_mw[p]);
        blocks
            .zip(&node.spans[p])
            .map(|((block, sold), span)| block.price * (sold + span.low))
            .sum()
    };
    let mut order: Vec<usize> = (0..spans.len()).collect();
    order.sort_by(|a, b| earned(*b).total_cmp(&earned(*a)));
    for p in &order {
        let record = &problem.products[*p];
        for (b, span) in spans[*p].iter_mut().enumerate() {
            let volume = current.schedule.sold_mw[*p][b] + span.low;
            let below = neighbours(record.minimum_mw, record.step_mw, volume).0;
            let fixed = below.max(span.low);
            *span = Span {
                low: fixed,
                high: Some(fixed),
            };
        }
        current = solve(&within(problem, &spans))?;
    }
    Ok((spans, current, order.len()))
}
