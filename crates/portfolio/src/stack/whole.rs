//! Volumes as a market takes them: nothing or at least the smallest, in whole steps, one product of an exclusive group at a
//! time. Branch and bound over the blocks.

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

/// Where a node's answer is not what the market takes.
#[derive(Debug, Clone, Copy)]
enum Broken {
    /// Product, block and a volume that is not whole, MW.
    Fraction(usize, usize, f64),
    /// Two blocks of one exclusive group, both sold at the same time.
    Together((usize, usize), (usize, usize)),
}

/// Blocks that must not be sold beside a block: `[product][block]`.
type Rivals = Vec<Vec<Vec<(usize, usize)>>>;

fn rivals(problem: &Problem) -> Rivals {
    let of = |p: usize, block: &Block| -> Vec<(usize, usize)> {
        let group = problem.exclusive.iter().find(|g| g.products.contains(&p));
        let others = group.into_iter().flat_map(|group| &group.products);
        others
            .filter(|q| **q != p)
            .flat_map(|q| {
                let blocks = problem.products[*q].blocks.iter().enumerate();
                blocks.map(move |(c, other)| (*q, c, other))
            })
            .filter(|(_, _, other)| {
                other.steps.start < block.steps.end && block.steps.start < other.steps.end
            })
            .map(|(q, c, _)| (q, c))
            .collect()
    };
    let products = problem.products.iter().enumerate();
    products
        .map(|(p, product)| product.blocks.iter().map(|block| of(p, block)).collect())
        .collect()
}

/// Solves a problem with whole volumes and exclusive groups kept, within `programmes` programmes: the best found by then, with the bound proven.
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
    problem.check()?;
    let rivals = rivals(problem);
    let awarded = |(q, c): &(usize, usize)| problem.products[*q].blocks[*c].awarded_mw > 0.0;
    let spans: Vec<Vec<Span>> = problem
        .products
        .iter()
        .zip(&rivals)
        .map(|(p, rivals)| {
            // What is qualified below the least a bid may be cannot be sold at all.
            let shut = |most: f64| most < p.minimum_mw.max(p.step_mw) - WHOLE;
            let span = |(block, rivals): (&Block, &Vec<(usize, usize)>)| Span {
                high: (block.most_mw.is_some_and(shut) || rivals.iter().any(awarded))
                    .then_some(0.0),
                ..free
            };
            p.blocks.iter().zip(rivals).map(span).collect()
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
        let Some(broken) = most_broken(problem, &rivals, &node, &answer) else {
            closed = closed.min(node.bound);
            keep(&mut best, &node, answer);
            continue;
        };
        if solved >= programmes {
            open.push((node, answer));
            break;
        }
        if solved >= next_dive {
            let (spans, known, took) = dive(problem, &rivals, &node, &answer)?;
            solved += took;
            let bound = known.lower_bound;
            let found = Node { spans, bound };
            if most_broken(problem, &rivals, &found, &known).is_none() {
                keep(&mut best, &found, known);
            }
            next_dive = solved + DIVE;
        }
        let mut children = Vec::new();
        for (p, b, span) in branches(problem, &node, broken) {
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
            } else if volume > WHOLE {
                volume
            } else {
                0.0
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

/// Blocks of an exclusive group that are sold together, those of the most volume first; else the volume farthest from whole.
fn most_broken(problem: &Problem, rivals: &Rivals, node: &Node, answer: &Answer) -> Option<Broken> {
    let sold = |p: usize, b: usize| answer.schedule.sold_mw[p][b] + node.spans[p][b].low;
    let mut together: Option<((usize, usize), (usize, usize))> = None;
    let mut least = WHOLE;
    for (p, blocks) in rivals.iter().enumerate() {
        for (b, others) in blocks.iter().enumerate() {
            for (q, c) in others {
                let both = sold(p, b).min(sold(*q, *c));
                if both > least {
                    (least, together) = (both, Some(((p, b), (*q, *c))));
                }
            }
        }
    }
    if let Some((one, other)) = together {
        return Some(Broken::Together(one, other));
    }
    let mut worst = None;
    let mut far = WHOLE;
    for (p, product) in problem.products.iter().enumerate() {
        for b in 0..product.blocks.len() {
            let volume = sold(p, b);
            let (below, above) = neighbours(product.minimum_mw, product.step_mw, volume);
            let unit = product.step_mw.max(product.minimum_mw);
            let distance = (volume - below).min(above - volume);
            if unit > 0.0 && distance / unit > far {
                far = distance / unit;
                worst = Some(Broken::Fraction(p, b, volume));
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

/// The blocks and spans that a node is divided by.
fn branches(problem: &Problem, node: &Node, broken: Broken) -> Vec<(usize, usize, Span)> {
    match broken {
        Broken::Fraction(p, b, volume) => {
            let (below, above) = sides(problem, p, volume, node.spans[p][b]);
            let spans = [below, above].into_iter().flatten();
            spans.map(|span| (p, b, span)).collect()
        }
        Broken::Together(one, other) => {
            // One of both is not sold.
            let shut = |(p, b): (usize, usize)| {
                let span = node.spans[p][b];
                let high = Some(0.0);
                (span.low <= 0.0).then_some((p, b, Span { high, ..span }))
            };
            [one, other].into_iter().filter_map(shut).collect()
        }
    }
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
/// takes up what rounding has left; what is sold shuts its rivals. Gives the programmes it took.
fn dive(
    problem: &Problem,
    rivals: &Rivals,
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
        let any = record.step_mw <= 0.0 && record.minimum_mw <= 0.0;
        for b in 0..record.blocks.len() {
            let span = spans[*p][b];
            let volume = current.schedule.sold_mw[*p][b] + span.low;
            let below = neighbours(record.minimum_mw, record.step_mw, volume).0;
            let shut = span.high == Some(0.0);
            let fixed = if shut { 0.0 } else { below.max(span.low) };
            if !any || shut {
                spans[*p][b] = Span {
                    low: fixed,
                    high: Some(fixed),
                };
            }
            if fixed > WHOLE {
                for (q, c) in &rivals[*p][b] {
                    let rival = &mut spans[*q][*c];
                    if rival.low <= 0.0 {
                        rival.high = Some(0.0);
                    }
                }
            }
        }
        current = solve(&within(problem, &spans))?;
    }
    Ok((spans, current, order.len()))
}
