//! From published rows to the steps and blocks of a scenario.

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::points::{Point, Points, usual_distance};
use super::{GridSeries, Per, RawSeries, ReserveBlock, ReserveBlocks};
use crate::InputError;

/// A price holds for at most this long: hourly prices are held over their four quarter hours.
const LONGEST_INTERVAL: TimeDelta = TimeDelta::hours(1);
/// Where ends are not given, a block may be this much longer than usual: an autumn change day.
const CHANGE_OF_CLOCKS: TimeDelta = TimeDelta::hours(1);
const HOUR: TimeDelta = TimeDelta::hours(1);

/// The period of a scenario and its step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) start: DateTime<Utc>,
    pub(crate) end: DateTime<Utc>,
    pub(crate) step: TimeDelta,
    pub(crate) zone: Tz,
}

/// An interval with its value.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held<'a> {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
    /// Distance that starts have on this day.
    usual: TimeDelta,
    point: &'a Point,
}

/// Stretches with a value, without a gap from the window's start to its end.
#[derive(Debug, Clone, Default)]
struct Cover {
    stretches: Vec<(DateTime<Utc>, DateTime<Utc>, f64)>,
    gaps_filled: usize,
}

/// The values that are there.
fn raw(points: &Points) -> RawSeries {
    let there = points
        .points
        .iter()
        .filter_map(|p| p.value.map(|v| (p.start, v)));
    let (starts, values) = there.unzip();
    RawSeries { starts, values }
}

/// One value per step: the value that holds over it, or the mean over time of those that share it.
pub(crate) fn grid(points: &Points, window: Window) -> Result<GridSeries, InputError> {
    let held = hold_by_day(&points.points, window.zone);
    let cover = cover(points, &held, window)?;
    let mut values = Vec::new();
    let (mut from, mut next) = (window.start, 0);
    while from < window.end {
        let to = (from + window.step).min(window.end);
        while cover
            .stretches
            .get(next)
            .is_some_and(|(_, end, _)| *end <= from)
        {
            next += 1;
        }
        values.push(mean(&cover.stretches[next..], from, to));
        from = to;
    }
    Ok(GridSeries {
        values,
        gaps_filled: cover.gaps_filled,
        raw: raw(points),
    })
}

/// Capacity blocks with their prices.
pub(crate) fn blocks(
    points: &Points,
    per: Per,
    window: Window,
) -> Result<ReserveBlocks, InputError> {
    let held = hold_blocks(&points.points);
    let cover = cover(points, &held, window)?;
    let block = |start, end, price| ReserveBlock {
        start,
        end,
        price,
        per,
    };
    let there = held
        .iter()
        .filter_map(|h| h.point.value.map(|v| block(h.start, h.end, v)));
    let all: Vec<_> = there.collect();
    let inside = |b: &&ReserveBlock| b.start >= window.start && b.end <= window.end;
    let mut blocks: Vec<_> = all.iter().filter(inside).copied().collect();
    if cover.gaps_filled > 0 {
        let filled = cover
            .stretches
            .iter()
            .filter(|(start, _, _)| !all.iter().any(|b| b.start <= *start && *start < b.end));
        blocks.extend(filled.map(|(start, end, price)| block(*start, *end, *price)));
        blocks.sort_by_key(|b| b.start);
    }
    Ok(ReserveBlocks {
        blocks,
        gaps_filled: cover.gaps_filled,
        all,
    })
}

/// How long each row holds: to the next row, but no longer than starts are apart on that local day.
fn hold_by_day(points: &[Point], zone: Tz) -> Vec<Held<'_>> {
    let day = |p: &Point| p.start.with_timezone(&zone).date_naive();
    let of_file = usual_distance(points.iter().map(|p| p.start)).unwrap_or(HOUR);
    let mut held = Vec::with_capacity(points.len());
    for of_day in points.chunk_by(|a, b| day(a) == day(b)) {
        let usual = usual_distance(of_day.iter().map(|p| p.start)).unwrap_or(of_file);
        let usual = usual.min(LONGEST_INTERVAL);
        held.extend(of_day.iter().map(|p| (p, usual)));
    }
    let next = points.iter().skip(1).map(|p| Some(p.start)).chain([None]);
    let ends = held.iter().zip(next).map(|((p, usual), next)| {
        let end = p.end.unwrap_or(p.start + *usual);
        (*p, next.map_or(end, |n| end.min(n)), *usual)
    });
    ends.map(|(point, end, usual)| Held {
        start: point.start,
        end,
        usual,
        point,
    })
    .collect()
}

/// The same for blocks, whose ends are given or follow from the next start.
fn hold_blocks(points: &[Point]) -> Vec<Held<'_>> {
    let usual = usual_distance(points.iter().map(|p| p.start)).unwrap_or(HOUR);
    let next = points.iter().skip(1).map(|p| Some(p.start)).chain([None]);
    let held = points.iter().zip(next).map(|(point, next)| {
        let close = next.filter(|n| *n - point.start <= usual + CHANGE_OF_CLOCKS);
        let end = point.end.or(close).unwrap_or(point.start + usual);
        let end = next.map_or(end, |n| end.min(n));
        Held {
            start: point.start,
            end,
            usual,
            point,
        }
    });
    held.collect()
}

fn cover(points: &Points, held: &[Held<'_>], window: Window) -> Result<Cover, InputError> {
    let mut cover = Cover::default();
    let mut upto = window.start;
    let mut last = None;
    for h in held {
        let Some(value) = h.point.value else { continue };
        if h.start >= window.end {
            break;
        }
        if h.end > upto {
            if h.start > upto {
                fill(points, held, &mut cover, last, (upto, h.start))?;
            }
            cover
                .stretches
                .push((h.start.max(upto), h.end.min(window.end), value));
            upto = h.end;
        }
        last = Some((value, h.usual));
    }
    if upto < window.end {
        fill(points, held, &mut cover, last, (upto, window.end))?;
    }
    Ok(cover)
}

/// Holds the last value over a gap, or refuses it by name.
fn fill(
    points: &Points,
    held: &[Held<'_>],
    cover: &mut Cover,
    last: Option<(f64, TimeDelta)>,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<(), InputError> {
    let Some((value, usual)) = last.filter(|_| points.source.hold) else {
        return Err(gap(points, held, from, to));
    };
    let mut at = from;
    while at < to {
        let end = (at + usual).min(to);
        cover.stretches.push((at, end, value));
        cover.gaps_filled += 1;
        at = end;
    }
    Ok(())
}

fn gap(points: &Points, held: &[Held<'_>], from: DateTime<Utc>, to: DateTime<Utc>) -> InputError {
    let empty = held
        .iter()
        .find(|h| h.point.value.is_none() && h.end > from && h.start < to);
    let after = points.points.iter().find(|p| p.start >= from);
    let near = empty.map(|h| h.point).or(after).or(points.points.last());
    let usual = held
        .iter()
        .rfind(|h| h.start < from)
        .map_or(HOUR, |h| h.usual);
    let first = (from + usual).min(to);
    let hint = if points.source.hold {
        "a value before it to hold"
    } else {
        "no gaps, or fill = \"hold\" in the scenario"
    };
    let what = format!(
        "{} has no value for {}/{} (gap up to {}), expected {hint}",
        points.column,
        stamp(from),
        stamp(first),
        stamp(to)
    );
    near.map_or_else(
        || {
            InputError::file(
                points.source.files.first().cloned().unwrap_or_default(),
                what.clone(),
            )
        },
        |p| InputError::new(&points.source.files[p.file], p.place.clone(), what.clone()),
    )
}

fn stamp(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a step has at most an hour of seconds"
)]
fn mean(
    stretches: &[(DateTime<Utc>, DateTime<Utc>, f64)],
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> f64 {
    if let Some((_, end, value)) = stretches.first()
        && *end >= to
    {
        return *value;
    }
    let shares = stretches.iter().take_while(|(start, _, _)| *start < to);
    let (sum, seconds) = shares.fold((0.0, 0.0), |(sum, total), (start, end, value)| {
        let seconds = ((*end).min(to) - (*start).max(from)).num_seconds() as f64;
        (sum + value * seconds, total + seconds)
    });
    sum / seconds
}
