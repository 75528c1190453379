//! Stretches in which a log says nothing: it was down, the car park was not empty.

use std::collections::BTreeSet;

use chrono_tz::Tz;

use super::kind;
use super::log::local;
use super::num::size;
use super::visit::{Packed, clock};

/// A stretch of so many seconds without a visit is a hole, however few were expected.
const LONG: i64 = 7 * 86_400;
/// Whole local days without a visit that are a hole where many were expected. One such day may be a day off.
const DAYS: i32 = 2;
/// Plug-ins that count as many: chance alone keeps all of them away once in five hundred million times.
const MANY: f64 = 20.0;
/// Weeks before the stretch that say how many to expect: the median of as many same weekdays.
const WEEKS: usize = 4;

/// A stretch without anybody plugged in that was a hole in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hole {
    /// The last plug-out before it.
    from: i64,
    /// The next plug-in; the end of time if none was seen.
    to: i64,
    /// When it had lasted too long to be taken for an empty car park.
    seen: i64,
}

impl Hole {
    /// The stretch itself, if it was seen to be a hole at `until`.
    pub(crate) fn seen_at(&self, until: i64) -> Option<(i64, i64)> {
        (self.seen <= until).then_some((self.from, self.to))
    }
}

/// Holes between `visits`, which are in order of their plug-in; on local days `off` as few are expected as on a Sunday. Whether a stretch
/// is one depends on what came before it only.
pub(crate) fn holes(zone: Tz, visits: &[Packed], off: &BTreeSet<i32>) -> Vec<Hole> {
    let mut holes = Vec::new();
    let Some(first) = visits.first() else {
        return holes;
    };
    let mut busy = first.end();
    let next = visits.iter().map(|v| (v.start, v.end()));
    for (place, (start, end)) in next.chain([(i64::MAX, i64::MAX)]).enumerate() {
        if start.saturating_sub(busy) >= i64::from(DAYS) * 82_800 {
            let seen = seen(zone, &visits[..place], busy, off);
            if seen <= start {
                holes.push(Hole {
                    from: busy,
                    to: start,
                    seen,
                });
            }
        }
        busy = busy.max(end);
    }
    holes
}

/// When a stretch without a visit since `from`, after `before`, cannot be an empty car park any more.
fn seen(zone: Tz, before: &[Packed], from: i64, off: &BTreeSet<i32>) -> i64 {
    let (day, _) = clock(zone, from);
    let mut expected = 0.0;
    for (whole, day) in (1..).zip(day + 1..) {
        let midnight = local(zone, day + 1, 0);
        if midnight >= from + LONG {
            break;
        }
        let as_usual = usual(before, day);
        expected += if off.contains(&day) {
            as_usual.min(usual(before, kind::sunday(day)))
        } else {
            as_usual
        };
        if whole >= DAYS && expected >= MANY {
            return midnight;
        }
    }
    from + LONG
}

/// Median plug-ins of the last same weekdays before local day `day`.
fn usual(before: &[Packed], day: i32) -> f64 {
    let arrivals = |day: i32| {
        let from = before.partition_point(|v| v.day < day);
        before.partition_point(|v| v.day <= day) - from
    };
    let weeks = (1..).take(WEEKS).map(|week| day - 7 * week);
    let mut past: Vec<f64> = weeks.map(|d| size(arrivals(d))).collect();
    past.sort_by(f64::total_cmp);
    f64::midpoint(past[(WEEKS - 1) / 2], past[WEEKS / 2])
}
