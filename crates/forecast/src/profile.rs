//! From stays to series: vehicles, power and energy over time.

use chrono::{DateTime, TimeDelta, Utc};
use units::{Interval, Series};

use crate::Stay;

/// A hole in the data is not an empty car park: a stretch of this length without a single vehicle is unknown.
const HOLE: TimeDelta = TimeDelta::days(7);

/// What is counted. Vehicles are taken to charge at once, as they would if nobody steered them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Vehicles plugged in.
    PluggedIn,
    /// Watts by which power can fall: what is being charged, and discharge where allowed.
    PowerUp,
    /// Watts by which power can rise: charging power not in use.
    PowerDown,
    /// Joules still to be delivered, inside the batteries.
    EnergyNeeded,
}

impl Quantity {
    fn of<K>(self, stay: &Stay<K>, at: DateTime<Utc>) -> f64 {
        let charging = at < stay.charged_by();
        let (charge, discharge) = (stay.max_charge.kw() * 1e3, stay.max_discharge.kw() * 1e3);
        match self {
            Self::PluggedIn => 1.0,
            Self::PowerUp => discharge + if charging { charge } else { 0.0 },
            Self::PowerDown => {
                if charging {
                    0.0
                } else {
                    charge
                }
            }
            Self::EnergyNeeded => remaining(stay, at),
        }
    }
}

fn remaining<K>(stay: &Stay<K>, at: DateTime<Utc>) -> f64 {
    const JOULES_PER_KWH: f64 = 3.6e6;
    let Ok(charged) = Interval::try_new(stay.span.start(), at) else {
        return stay.energy.kwh() * JOULES_PER_KWH;
    };
    let added = charged.hours() * stay.max_charge.kw() * stay.charge_efficiency.share();
    (stay.energy.kwh() - added).max(0.0) * JOULES_PER_KWH
}

/// `quantity` at the start of every `step` of `over`, from the stays that are known. Before the first stay, and in any
/// stretch of seven days without a vehicle, the value is unknown.
#[must_use]
pub fn profile<K>(
    stays: &[Stay<K>],
    over: Interval,
    step: TimeDelta,
    quantity: Quantity,
) -> Option<Series<Option<f64>>> {
    let starts: Vec<DateTime<Utc>> =
        (step > TimeDelta::zero()).then(|| over.steps(step).collect())?;
    let mut values = vec![0.0; starts.len()];
    for stay in stays {
        let from = starts.partition_point(|s| *s < stay.span.start());
        let to = starts.partition_point(|s| *s < stay.span.end());
        for (value, at) in values[from..to].iter_mut().zip(&starts[from..to]) {
            *value += quantity.of(stay, *at);
        }
    }
    let holes = holes(stays, over);
    let known = starts
        .iter()
        .zip(values)
        .map(|(at, value)| (!holes.iter().any(|h| h.contains(*at))).then_some(value))
        .collect();
    Series::try_new(over.start(), step, known).ok()
}

/// Stretches of `over` without a vehicle that are too long to be believed, and what lies before the first stay.
fn holes<K>(stays: &[Stay<K>], over: Interval) -> Vec<Interval> {
    let mut spans: Vec<Interval> = stays.iter().map(|s| s.span).collect();
    spans.sort();
    let Some(first) = spans.first() else {
        return vec![over];
    };
    let mut holes: Vec<Interval> = Interval::try_new(over.start(), first.start())
        .into_iter()
        .collect();
    let mut busy_until = first.end();
    for span in &spans {
        if span.start() - busy_until >= HOLE {
            holes.extend(Interval::try_new(busy_until, span.start()));
        }
        busy_until = busy_until.max(span.end());
    }
    if over.end() - busy_until >= HOLE {
        holes.extend(Interval::try_new(busy_until, over.end()));
    }
    holes
}

#[cfg(test)]
mod tests {
    use super::*;
    use units::{Efficiency, Energy, Power};

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn stay(from: &str, to: &str) -> Stay<u32> {
        Stay {
            outlet: 1,
            span: Interval::try_new(at(from), at(to)).unwrap(),
            energy: Energy::from_kwh(11.0),
            stored: None,
            capacity: None,
            max_charge: Power::from_kw(11.0),
            max_discharge: Power::from_kw(5.0),
            floor: Energy::ZERO,
            charge_efficiency: Efficiency::try_new(1.0).unwrap(),
            discharge_efficiency: Efficiency::try_new(1.0).unwrap(),
        }
    }

    fn values(stays: &[Stay<u32>], quantity: Quantity) -> Vec<Option<f64>> {
        let over =
            Interval::try_new(at("2024-01-01T00:00:00Z"), at("2024-01-01T04:00:00Z")).unwrap();
        let series = profile(stays, over, TimeDelta::minutes(30), quantity).unwrap();
        series.values().to_vec()
    }

    #[test]
    fn a_stay_charges_at_once_and_then_waits() {
        let stays = [stay("2024-01-01T00:30:00Z", "2024-01-01T03:00:00Z")];
        let some = |v: [f64; 7]| -> Vec<Option<f64>> {
            std::iter::once(None)
                .chain(v.into_iter().map(Some))
                .collect()
        };
        assert_eq!(
            values(&stays, Quantity::PluggedIn),
            some([1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
        );
        assert_eq!(
            values(&stays, Quantity::PowerUp),
            some([16e3, 16e3, 5e3, 5e3, 5e3, 0.0, 0.0])
        );
        assert_eq!(
            values(&stays, Quantity::PowerDown),
            some([0.0, 0.0, 11e3, 11e3, 11e3, 0.0, 0.0])
        );
        let needed = values(&stays, Quantity::EnergyNeeded);
        assert_eq!(needed[1], Some(39.6e6));
        assert!((needed[2].unwrap() - 19.8e6).abs() < 1.0 && needed[3] == Some(0.0));
    }

    #[test]
    fn a_week_without_a_vehicle_is_unknown_a_day_is_empty() {
        let stays = [
            stay("2024-01-01T08:00:00Z", "2024-01-01T17:00:00Z"),
            stay("2024-01-03T08:00:00Z", "2024-01-03T17:00:00Z"),
            stay("2024-01-20T08:00:00Z", "2024-01-20T17:00:00Z"),
        ];
        let over =
            Interval::try_new(at("2023-12-30T00:00:00Z"), at("2024-01-21T00:00:00Z")).unwrap();
        let series = profile(&stays, over, TimeDelta::hours(1), Quantity::PluggedIn).unwrap();
        let value = |t: &str| *series.at(at(t)).unwrap();
        assert_eq!(value("2023-12-31T12:00:00Z"), None);
        assert_eq!(value("2024-01-02T12:00:00Z"), Some(0.0));
        assert_eq!(value("2024-01-10T12:00:00Z"), None);
        assert_eq!(value("2024-01-20T12:00:00Z"), Some(1.0));
        assert_eq!(value("2024-01-20T20:00:00Z"), Some(0.0));
    }
}
