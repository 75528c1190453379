//! What is asked for at an outlet: the needs of the vehicle, a driver in a hurry, a limit set by somebody else.

use chrono::{DateTime, Utc};
use fleet::Needs;
use units::{Energy, Power};

/// Everything that was said about one stay, from which the pool's view of its needs follows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Asked {
    needs: Option<Needs>,
    /// When the driver asked for priority.
    priority: Option<DateTime<Utc>>,
}

impl Asked {
    /// Needs known from before.
    pub(crate) const fn of(needs: Option<Needs>) -> Self {
        Self {
            needs,
            priority: None,
        }
    }

    /// The vehicle stated needs.
    pub(crate) fn state(&mut self, needs: Needs) {
        self.needs = Some(needs);
    }

    /// The driver pressed "charge now", or took it back.
    pub(crate) fn prioritise(&mut self, since: Option<DateTime<Utc>>) {
        self.priority = since;
    }

    /// What the pool should plan with under a limit of the outlet from elsewhere; `None` while no needs are known.
    ///
    /// Priority leaves no slack: departure at once and no discharge, so that the vehicle charges at full power outside
    /// the pool. A limit caps charging and, as it may protect a cable, discharging too.
    pub(crate) fn effective(&self, limit: Option<Power>) -> Option<Needs> {
        let mut needs = self.needs.clone()?;
        if let Some(since) = self.priority {
            needs.departure = Some(needs.departure.map_or(since, |d| d.min(since)));
            needs.max_discharge = Power::ZERO;
            needs.floor = Energy::ZERO;
        }
        if let Some(limit) = limit {
            needs.max_charge = needs.max_charge.min(limit);
            needs.max_discharge = needs.max_discharge.min(limit);
        }
        Some(needs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(hour: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::hours(hour)
    }

    fn asked() -> Asked {
        let mut asked = Asked::default();
        asked.state(Needs {
            departure: Some(at(8)),
            energy: Energy::from_kwh(20.0),
            stored: None,
            capacity: None,
            max_charge: Power::from_kw(11.0),
            max_discharge: Power::from_kw(9.0),
            floor: Energy::from_kwh(10.0),
        });
        asked
    }

    #[test]
    fn priority_leaves_no_slack_and_can_be_taken_back() {
        let mut asked = asked();
        let before = asked.effective(None);
        asked.prioritise(Some(at(1)));
        let hurried = asked.effective(None).unwrap();
        assert_eq!(hurried.departure, Some(at(1)));
        assert_eq!(hurried.max_discharge, Power::ZERO);
        assert_eq!(hurried.energy, Energy::from_kwh(20.0), "as much as before");
        asked.prioritise(None);
        assert_eq!(asked.effective(None), before);
    }

    #[test]
    fn a_limit_caps_both_directions() {
        let limited = asked().effective(Some(Power::from_kw(4.2))).unwrap();
        assert_eq!(limited.max_charge, Power::from_kw(4.2));
        assert_eq!(limited.max_discharge, Power::from_kw(4.2));
        assert_eq!(Asked::default().effective(None), None, "nothing was asked");
    }
}
