//! Convex piecewise-linear curves as segments sorted by slope, and the few operations the recursion needs.

use super::{Battery, NoPlan, Step};

/// A straight piece of a convex curve over energy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Segment {
    /// EUR per kWh.
    pub(super) slope: f64,
    /// kWh.
    pub(super) length: f64,
}

/// A corner of a step's cost over the energy it adds to the battery, with the powers that realise it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vertex {
    /// Energy added to the battery, kWh.
    pub(super) gain: f64,
    /// EUR.
    pub(super) cost: f64,
    charge: f64,
    discharge: f64,
}

/// Distance from a kink, kWh, within which both of its slopes are possible shadow prices.
const KINK_TOLERANCE: f64 = 1e-9;

/// Corners nearer to each other than this, kWh, add the same energy; without losses many do, up to rounding.
const SAME_GAIN: f64 = 1e-10;

/// Every corner of a step's cost: the function is linear on each cell between the lines of constant net power where
/// a price changes, so its corners lie where those lines cut the triangle of powers, and at the triangle's own corners.
pub(super) fn corners(battery: &Battery, step: &Step, into: &mut Vec<Vertex>) {
    into.clear();
    let (most, least) = (step.charge_kw.max(0.0), step.discharge_kw.max(0.0));
    let (low, high) = (step.low_kw.max(-least), step.high_kw.min(most));
    let mut at = |charge: f64, discharge: f64| {
        let gain = step.hours
            * (battery.charge_efficiency * charge - discharge / battery.discharge_efficiency);
        into.push(Vertex {
            gain,
            cost: step.cost(charge, discharge),
            charge,
            discharge,
        });
    };
    if low > high {
        return;
    }
    if low <= 0.0 && high >= 0.0 {
        at(0.0, 0.0);
    }
    let kinks = step
        .net
        .iter()
        .map(|piece| piece.up_to_kw)
        .filter(|kw| *kw > low && *kw < high);
    for net in kinks.chain([low, high]) {
        at(net.max(0.0), (-net).max(0.0));
        if most > 0.0 && least > 0.0 {
            // Where c/most + d/least = 1 meets c - d = net.
            let charge = (most * (least + net) / (most + least)).clamp(0.0, most);
            let discharge = (charge - net).clamp(0.0, least);
            if charge.min(discharge) > 0.0 {
                at(charge, discharge);
            }
        }
    }
}

/// The lower convex hull of a step's corners, by rising gain.
pub(super) fn step_hull(
    battery: &Battery,
    step: &Step,
    index: usize,
    into: &mut Vec<Vertex>,
) -> Result<(), NoPlan> {
    if step.net.windows(2).any(|pair| {
        pair[1].eur_per_mwh < pair[0].eur_per_mwh || pair[1].up_to_kw < pair[0].up_to_kw
    }) {
        return Err(NoPlan::NotConvex { step: index });
    }
    corners(battery, step, into);
    if into.is_empty() {
        return Err(NoPlan::Unreachable {
            step: index,
            excess_kwh: f64::INFINITY,
        });
    }
    into.sort_by(|a, b| a.gain.total_cmp(&b.gain).then(a.cost.total_cmp(&b.cost)));
    let mut kept = 0;
    for next in 0..into.len() {
        let vertex = into[next];
        if kept > 0 && vertex.gain - into[kept - 1].gain <= SAME_GAIN {
            if vertex.cost >= into[kept - 1].cost {
                continue;
            }
            kept -= 1;
        }
        while kept >= 2 && !turns_left(into[kept - 2], into[kept - 1], vertex) {
            kept -= 1;
        }
        into[kept] = vertex;
        kept += 1;
    }
    into.truncate(kept);
    Ok(())
}

/// Whether the slope rises at `b` on the way from `a` to `c`.
fn turns_left(a: Vertex, b: Vertex, c: Vertex) -> bool {
    (b.cost - a.cost) * (c.gain - b.gain) < (c.cost - b.cost) * (b.gain - a.gain)
}

/// Slope and length between two neighbouring corners.
fn segment(pair: &[Vertex]) -> Segment {
    let length = pair[1].gain - pair[0].gain;
    Segment {
        slope: (pair[1].cost - pair[0].cost) / length,
        length,
    }
}

/// The powers of a step that adds `gain` kWh at least cost.
pub(super) fn power_at(hull: &[Vertex], gain: f64) -> (f64, f64) {
    let Some(first) = hull.first() else {
        return (0.0, 0.0);
    };
    for pair in hull.windows(2) {
        if gain <= pair[1].gain {
            let share = ((gain - pair[0].gain) / (pair[1].gain - pair[0].gain)).clamp(0.0, 1.0);
            let mix = |a: f64, b: f64| a + share * (b - a);
            return (
                mix(pair[0].charge, pair[1].charge),
                mix(pair[0].discharge, pair[1].discharge),
            );
        }
    }
    let last = hull.last().unwrap_or(first);
    (last.charge, last.discharge)
}

/// The least cost to reach each energy level; infinite outside `left .. left + sum of lengths`.
pub(super) struct Reach {
    /// Lowest reachable level, kWh.
    pub(super) left: f64,
    /// By rising slope.
    pub(super) segments: Vec<Segment>,
    spare: Vec<Segment>,
}

impl Reach {
    /// Only one level, at no cost.
    pub(super) fn at(level: f64) -> Self {
        Self {
            left: level,
            segments: Vec::new(),
            spare: Vec::new(),
        }
    }

    /// Adds a step: the sum of levels, each split at least cost.
    pub(super) fn add(&mut self, hull: &[Vertex]) {
        self.left += hull.first().map_or(0.0, |vertex| vertex.gain);
        self.spare.clear();
        let mut push = |segment: Segment| match self.spare.last_mut() {
            Some(last) if last.slope >= segment.slope => last.length += segment.length,
            _ => self.spare.push(segment),
        };
        let mut old = self.segments.iter().copied().peekable();
        for own in hull.windows(2).map(segment) {
            while let Some(before) = old.next_if(|before| before.slope <= own.slope) {
                push(before);
            }
            push(own);
        }
        old.for_each(push);
        std::mem::swap(&mut self.segments, &mut self.spare);
    }

    /// Restricts the levels to a band; the error is by how much the band is missed, kWh.
    pub(super) fn clip(&mut self, floor: f64, ceiling: f64, tolerance: f64) -> Result<(), f64> {
        let right = self.left + self.segments.iter().map(|s| s.length).sum::<f64>();
        let missed = (floor - right)
            .max(self.left - ceiling)
            .max(floor - ceiling);
        if missed > tolerance || missed.is_nan() {
            return Err(missed);
        }
        let mut cut = (floor - self.left).max(0.0);
        let mut gone = 0;
        for segment in &mut self.segments {
            let taken = cut.min(segment.length);
            segment.length -= taken;
            self.left += taken;
            cut -= taken;
            if segment.length > 0.0 {
                break;
            }
            gone += 1;
        }
        self.segments.drain(..gone);
        let mut over = right - ceiling;
        while over > 0.0 {
            let Some(last) = self.segments.last_mut() else {
                break;
            };
            if last.length > over {
                last.length -= over;
                break;
            }
            over -= last.length;
            self.segments.pop();
        }
        Ok(())
    }

    /// The best last level and a price of energy there, given what the end is worth.
    pub(super) fn best_end(&self, battery: &Battery) -> (f64, f64) {
        let (mut level, mut below) = (self.left, f64::NEG_INFINITY);
        let worth = |level: f64| {
            battery.end_value
                + if level < battery.goal_kwh {
                    battery.shortfall
                } else {
                    0.0
                }
        };
        for segment in &self.segments {
            let end = level + segment.length;
            if segment.slope >= worth(level) {
                return (level, below.max(worth(level)));
            }
            if end > battery.goal_kwh
                && level < battery.goal_kwh
                && segment.slope >= battery.end_value
            {
                return (battery.goal_kwh, segment.slope);
            }
            (level, below) = (end, segment.slope);
        }
        (level, below.max(worth(level)))
    }
}

/// How a level after a step is made up.
pub(super) struct Split {
    /// Energy of the cost to reach before the step, kWh above its left end.
    pub(super) before: f64,
    /// Energy the step adds, kWh.
    pub(super) gain: f64,
    /// Price of energy after the step, EUR per kWh: the price nearest to the next step's that both sides accept.
    pub(super) value: f64,
}

/// Splits `above` kWh (counted from the left end before the step) between what was there and what the step adds.
pub(super) fn split(before: &[Segment], hull: &[Vertex], above: f64, next_value: f64) -> Split {
    let least = hull.first().map_or(0.0, |vertex| vertex.gain);
    let mut left = (above - least).max(0.0);
    let mut out = Split {
        before: 0.0,
        gain: least,
        value: next_value,
    };
    let (mut lower, mut upper) = (f64::NEG_INFINITY, f64::INFINITY);
    let mut old = before.iter().copied().peekable();
    let mut own = hull.windows(2).map(segment).peekable();
    loop {
        let from_old = match (old.peek(), own.peek()) {
            (Some(a), Some(b)) => a.slope <= b.slope,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let Some(next) = (if from_old { old.next() } else { own.next() }) else {
            break;
        };
        let taken = left.min(next.length);
        if from_old {
            out.before += taken;
        } else {
            out.gain += taken;
        }
        // A kink within the tolerance on either side widens the range of prices.
        if left > KINK_TOLERANCE {
            lower = next.slope;
        }
        if next.length - left > KINK_TOLERANCE {
            upper = next.slope;
            break;
        }
        left -= taken;
    }
    if lower.is_finite() || upper.is_finite() {
        out.value = next_value.max(lower).min(upper.max(lower));
    }
    out
}
