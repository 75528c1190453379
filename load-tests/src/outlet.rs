//! The outlet of a load-test station: registers, power, and the profile it was told. The battery is not modelled: a load
//! test lasts minutes.

use chrono::{DateTime, TimeDelta, Utc};
use units::Power;

/// Power of a vehicle that hears nothing: plain charging, the default profile of every version.
pub(crate) const PLAIN: Power = Power::from_watts(11_000);

/// Micro watt-seconds per joule: time is counted in microseconds.
const PER_JOULE: i64 = 1_000_000;

/// What a profile asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) power: Power,
    /// The power follows from here on.
    pub(crate) from: DateTime<Utc>,
    /// The dead-man switch: plain charging after it. `None` holds for ever.
    pub(crate) until: Option<DateTime<Utc>>,
}

impl Order {
    fn power_at(&self, at: DateTime<Utc>) -> Power {
        if self.until.is_some_and(|until| at >= until) {
            PLAIN
        } else {
            self.power
        }
    }
}

/// A 2.1 profile that later updates refer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dynamic {
    pub(crate) id: i32,
    pub(crate) life: Option<TimeDelta>,
    pub(crate) number: Number,
}

/// Which number of an update is the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Number {
    Setpoint,
    Limit,
    /// Idle: no number renews it.
    None,
}

/// What the meter shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meter {
    pub(crate) at: DateTime<Utc>,
    /// Positive charges.
    pub(crate) power: Power,
    /// Register of energy taken, in joules.
    pub(crate) import_joules: i64,
    /// Register of energy given, in joules, as a magnitude.
    pub(crate) export_joules: i64,
}

/// Registers and power of one outlet.
#[derive(Debug, Clone)]
pub(crate) struct Outlet {
    at: DateTime<Utc>,
    plugged: bool,
    import: i64,
    export: i64,
    current: Option<Order>,
    next: Option<Order>,
    pub(crate) dynamic: Option<Dynamic>,
    /// Transaction in progress as the other side calls it.
    pub(crate) transaction: Option<String>,
    /// A start is on its way whose answer names the transaction (1.6).
    pub(crate) starting: bool,
}

impl Outlet {
    /// Nobody is plugged in.
    pub(crate) const fn new(at: DateTime<Utc>) -> Self {
        Self {
            at,
            plugged: false,
            import: 0,
            export: 0,
            current: None,
            next: None,
            dynamic: None,
            transaction: None,
            starting: false,
        }
    }

    pub(crate) fn plug_in(&mut self, at: DateTime<Utc>) {
        self.advance(at);
        self.plugged = true;
        self.forget();
    }

    pub(crate) fn unplug(&mut self, at: DateTime<Utc>) {
        self.advance(at);
        self.plugged = false;
        self.transaction = None;
        self.forget();
    }

    /// Drops what it was told.
    pub(crate) fn forget(&mut self) {
        (self.current, self.next, self.dynamic) = (None, None, None);
    }

    /// Takes an order; false if nobody is plugged in.
    pub(crate) fn order(&mut self, now: DateTime<Utc>, order: Order) -> bool {
        self.advance(now);
        if self.plugged {
            self.next = Some(order);
        }
        self.plugged
    }

    /// Counts energy up to `to`; an instant before the last one changes nothing.
    pub(crate) fn advance(&mut self, to: DateTime<Utc>) {
        let cuts = [
            self.current.and_then(|order| order.until),
            self.next.map(|order| order.from),
            self.next.and_then(|order| order.until),
        ];
        let mut cuts: Vec<DateTime<Utc>> = cuts
            .into_iter()
            .flatten()
            .filter(|cut| *cut > self.at && *cut < to)
            .collect();
        cuts.sort_unstable();
        cuts.push(to);
        for cut in cuts {
            self.count_until(cut);
        }
        if let Some(next) = self.next.filter(|next| next.from <= self.at) {
            (self.current, self.next) = (Some(next), None);
        }
    }

    fn count_until(&mut self, to: DateTime<Utc>) {
        let held = (to - self.at).num_microseconds().unwrap_or(0);
        if held <= 0 {
            return;
        }
        let moved = self.power_at(self.at).watts() * held;
        self.import += moved.max(0);
        self.export += (-moved).max(0);
        self.at = to;
    }

    fn power_at(&self, at: DateTime<Utc>) -> Power {
        if !self.plugged {
            return Power::ZERO;
        }
        let orders = [self.next.filter(|next| at >= next.from), self.current];
        let order = orders.into_iter().flatten().next();
        order.map_or(PLAIN, |order| order.power_at(at))
    }

    pub(crate) fn meter(&self) -> Meter {
        Meter {
            at: self.at,
            power: self.power_at(self.at),
            import_joules: self.import / PER_JOULE,
            export_joules: self.export / PER_JOULE,
        }
    }

    pub(crate) const fn is_plugged(&self) -> bool {
        self.plugged
    }

    /// When the order that holds now, or comes next, runs out; `None` without one, or for one without a timer.
    pub(crate) fn timer(&self) -> Option<DateTime<Utc>> {
        self.next.or(self.current).and_then(|order| order.until)
    }

    /// An order other than plain charging holds now.
    pub(crate) fn is_told(&self) -> bool {
        let live = |order: &Order| order.until.is_none_or(|until| self.at < until);
        self.plugged && self.current.as_ref().is_some_and(live)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn an_order_holds_from_its_reaction_to_its_timer_and_then_it_charges_plainly() {
        let mut outlet = Outlet::new(at(0));
        outlet.plug_in(at(0));
        let order = Order {
            power: Power::from_watts(-4_000),
            from: at(10),
            until: Some(at(30)),
        };
        assert!(outlet.order(at(5), order));
        outlet.advance(at(20));
        assert!(outlet.is_told() && outlet.meter().power == order.power);
        outlet.advance(at(40));
        let meter = outlet.meter();
        assert_eq!(meter.power, PLAIN);
        assert_eq!(meter.import_joules, 11_000 * 20);
        assert_eq!(meter.export_joules, 4_000 * 20);
        assert!(!outlet.is_told());
    }

    #[test]
    fn an_order_for_an_empty_outlet_is_refused_and_moves_nothing() {
        let mut outlet = Outlet::new(at(0));
        let order = Order {
            power: Power::from_watts(7_000),
            from: at(0),
            until: None,
        };
        assert!(!outlet.order(at(0), order));
        outlet.advance(at(100));
        assert_eq!(outlet.meter().import_joules, 0);
    }

    #[test]
    fn energy_does_not_depend_on_how_often_it_is_counted() {
        let order = Order {
            power: Power::from_watts(3_333),
            from: at(7),
            until: Some(at(61)),
        };
        let run = |step: usize| {
            let mut outlet = Outlet::new(at(0));
            outlet.plug_in(at(0));
            outlet.order(at(3), order);
            for second in (3..=90).step_by(step) {
                outlet.advance(at(second));
            }
            outlet.advance(at(90));
            outlet.meter()
        };
        assert_eq!(run(1), run(87));
    }
}
