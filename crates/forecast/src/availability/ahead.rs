//! Days ahead, each with what it may resemble.

use std::collections::BTreeSet;

use super::donor::{Donor, HALF_LIFE, donors, growth, like_so_far};
use super::kind::Days;
use super::log::View;
use super::rates::Rates;

/// A visit that comes again as another driver's comes up to so many seconds earlier or later.
pub(crate) const TWIN_SHIFT: i64 = 1800;

/// Age at which a past day counts half for plug-ins one by one, days: they may come from any of many days, so more are looked at.
const SINGLE_HALF_LIFE: f64 = 48.0;

/// A day ahead.
#[derive(Debug)]
pub(crate) struct Ahead {
    pub(crate) day: i32,
    /// Clock from which on plug-ins are new.
    pub(crate) from: i64,
    /// Whole past days that it may resemble, today by what was seen of it so far.
    pub(crate) donors: Vec<Donor>,
    /// Plug-ins one by one; none where the pool is large.
    pub(crate) rates: Option<Rates>,
    /// Past days on which each driver may be looked at; none where the pool is large.
    pub(crate) own: Vec<Donor>,
}

/// Days from the origin's up to local day `last`; whether the pool is `small`.
pub(crate) fn ahead(
    view: &View<'_>,
    days: &Days,
    off: &BTreeSet<i32>,
    (last, small): (i32, bool),
) -> Vec<Ahead> {
    let (today, clock) = view.log().clock(view.until);
    let growth = growth(days, today);
    let of = |day: i32| {
        let like =
            |growth, half_life| donors(days, days.kind(day, off), (today, day), growth, half_life);
        let from = if day == today { clock + 1 } else { 0 };
        let mut whole = like(growth, HALF_LIFE);
        if day == today {
            like_so_far(view, &mut whole, (today, clock));
        }
        let rates = || {
            let donors = like(growth, SINGLE_HALF_LIFE);
            Rates::new(view, &donors, from - TWIN_SHIFT)
        };
        Ahead {
            day,
            from,
            donors: whole,
            rates: small.then(rates),
            own: if small {
                like(0.0, HALF_LIFE)
            } else {
                Vec::new()
            },
        }
    };
    (today..=last).map(of).collect()
}
