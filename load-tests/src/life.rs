//! What happens at a station and when, from its seed: vehicles come and go, meters are read.

use chrono::{DateTime, TimeDelta, Utc};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::outlet::{Meter, Outlet};
use crate::scenario::{Behaviour, Faults};

/// Events that a station keeps while it is offline; the oldest meter values go first beyond that.
pub(crate) const KEPT: usize = 10_000;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    PluggedIn,
    Needs,
    Values,
    Left,
}

/// Something to be told about a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) meter: Meter,
    /// Number of the stay at this station, from 1.
    pub(crate) stay: u32,
    /// When the stay began.
    pub(crate) since: DateTime<Utc>,
    /// Place in the transaction, from 0.
    pub(crate) sequence: i32,
}

/// An event with what goes wrong on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) event: Event,
    /// Sent no sooner.
    pub(crate) not_before: DateTime<Utc>,
    pub(crate) fault: Fault,
}

/// What goes wrong with one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    Late,
    Lost,
    Duplicated,
    Swapped,
}

#[derive(Debug, Clone, Copy)]
struct Stay {
    number: u32,
    since: DateTime<Utc>,
    sequence: i32,
}

/// The life of one station.
#[derive(Debug)]
pub(crate) struct Life {
    rng: ChaCha8Rng,
    /// Never answers a call.
    pub(crate) silent: bool,
    /// Its vehicles may discharge.
    pub(crate) both_ways: bool,
    stays: u32,
    stay: Option<Stay>,
    change_at: Option<DateTime<Utc>>,
    sample_at: Option<DateTime<Utc>>,
    /// From the beginning to the first vehicle; none if there never is one.
    first: Option<TimeDelta>,
}

/// Vehicles that are there from the beginning plug in within so many seconds of it.
const FIRST_PLUGS: f64 = 5.0;

impl Life {
    /// The life of station `number`; nothing happens before it begins.
    pub(crate) fn new(seed: u64, number: usize, behaviour: &Behaviour, faults: &Faults) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number as u64);
        let plugged = rng.random_bool(behaviour.plugged_share);
        let silent = rng.random_bool(faults.silent_share);
        let both_ways = rng.random_bool(behaviour.v2g_share);
        let mut life = Self {
            rng,
            silent,
            both_ways,
            stays: 0,
            stay: None,
            change_at: None,
            sample_at: None,
            first: None,
        };
        life.first = if plugged {
            let share: f64 = life.rng.random_range(0.0..1.0);
            Some(span(share * FIRST_PLUGS))
        } else {
            life.wait(behaviour.away_seconds)
        };
        life
    }

    /// Begins at `at`; a second beginning changes nothing.
    pub(crate) fn begin(&mut self, at: DateTime<Utc>) {
        if let Some(first) = self.first.take() {
            self.change_at = Some(at + first);
        }
    }

    /// An exponential wait of that mean, at least a second; `None` for a mean of 0.
    fn wait(&mut self, mean_seconds: f64) -> Option<TimeDelta> {
        if mean_seconds <= 0.0 {
            return None;
        }
        let share: f64 = self.rng.random_range(0.0..1.0);
        let wait = -(1.0 - share).ln() * mean_seconds;
        Some(span(wait.clamp(1.0, 1e7)))
    }

    /// When something happens next.
    pub(crate) fn next(&self) -> Option<DateTime<Utc>> {
        [self.change_at, self.sample_at].into_iter().flatten().min()
    }

    /// Lives until `now`: what happened is told in order.
    pub(crate) fn advance(
        &mut self,
        now: DateTime<Utc>,
        outlet: &mut Outlet,
        behaviour: &Behaviour,
        faults: &Faults,
        tell: &mut impl FnMut(Told),
    ) {
        while let Some(at) = self.next().filter(|at| *at <= now) {
            if self.change_at == Some(at) {
                self.change(at, outlet, behaviour, tell);
            } else {
                self.sample(at, outlet, behaviour, faults, tell);
            }
        }
    }

    fn change(
        &mut self,
        at: DateTime<Utc>,
        outlet: &mut Outlet,
        behaviour: &Behaviour,
        tell: &mut impl FnMut(Told),
    ) {
        if let Some(mut stay) = self.stay.take() {
            let meter = {
                outlet.advance(at);
                outlet.meter()
            };
            outlet.unplug(at);
            tell(sound(event(Kind::Left, meter, &mut stay)));
            self.sample_at = None;
            self.change_at = self.wait(behaviour.away_seconds).map(|wait| at + wait);
            return;
        }
        outlet.plug_in(at);
        self.stays += 1;
        let mut stay = Stay {
            number: self.stays,
            since: at,
            sequence: 0,
        };
        tell(sound(event(Kind::PluggedIn, outlet.meter(), &mut stay)));
        if self.both_ways {
            let needs = Event {
                kind: Kind::Needs,
                meter: outlet.meter(),
                stay: stay.number,
                since: stay.since,
                sequence: stay.sequence,
            };
            tell(sound(needs));
        }
        self.stay = Some(stay);
        // Meters of a fleet do not tick together.
        let phase: f64 = self.rng.random_range(0.0..1.0);
        let first = at + span(behaviour.meter_seconds * phase) + TimeDelta::milliseconds(1);
        self.sample_at = (behaviour.meter_seconds > 0.0).then_some(first);
        // 1.6 numbers transactions by seconds: two never begin within one.
        self.change_at = self.wait(behaviour.stay_seconds).map(|wait| at + wait);
    }

    fn sample(
        &mut self,
        at: DateTime<Utc>,
        outlet: &mut Outlet,
        behaviour: &Behaviour,
        faults: &Faults,
        tell: &mut impl FnMut(Told),
    ) {
        self.sample_at = Some(at + span(behaviour.meter_seconds.max(0.001)));
        outlet.advance(at);
        let fault = self.fault(faults);
        if let Some(stay) = &mut self.stay {
            let event = event(Kind::Values, outlet.meter(), stay);
            let late = match fault {
                Fault::Late => span(faults.late_seconds),
                Fault::None | Fault::Lost | Fault::Duplicated | Fault::Swapped => TimeDelta::zero(),
            };
            tell(Told {
                event,
                not_before: at + late,
                fault,
            });
        }
    }

    fn fault(&mut self, faults: &Faults) -> Fault {
        let mut at: f64 = self.rng.random_range(0.0..1.0);
        for (share, fault) in [
            (faults.late_share, Fault::Late),
            (faults.lost_share, Fault::Lost),
            (faults.duplicated_share, Fault::Duplicated),
            (faults.swapped_share, Fault::Swapped),
        ] {
            if at < share {
                return fault;
            }
            at -= share;
        }
        Fault::None
    }

    /// A share of `span` at random, for waits between attempts.
    pub(crate) fn jitter(&mut self) -> f64 {
        self.rng.random_range(0.5..1.5)
    }
}

fn event(kind: Kind, meter: Meter, stay: &mut Stay) -> Event {
    let sequence = stay.sequence;
    stay.sequence += 1;
    Event {
        kind,
        meter,
        stay: stay.number,
        since: stay.since,
        sequence,
    }
}

fn sound(event: Event) -> Told {
    Told {
        event,
        not_before: event.meter.at,
        fault: Fault::None,
    }
}

/// Seconds to the millisecond: the resolution in which stations tell time.
#[expect(
    clippy::cast_possible_truncation,
    reason = "at most four months, checked with the scenario"
)]
pub(crate) fn span(seconds: f64) -> TimeDelta {
    TimeDelta::milliseconds((seconds * 1e3) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn lived(seed: u64, steps: &[i64], faults: &Faults) -> Vec<Told> {
        let behaviour = Behaviour {
            meter_seconds: 10.0,
            plugged_share: 1.0,
            stay_seconds: 100.0,
            away_seconds: 30.0,
            ..Behaviour::default()
        };
        let mut life = Life::new(seed, 7, &behaviour, faults);
        life.begin(start());
        let mut outlet = Outlet::new(start());
        let mut told = Vec::new();
        for step in steps {
            let now = start() + TimeDelta::seconds(*step);
            life.advance(now, &mut outlet, &behaviour, faults, &mut |t| told.push(t));
        }
        told
    }

    #[test]
    fn a_life_depends_on_its_seed_and_not_on_when_one_looks() {
        let faults = Faults {
            late_share: 0.2,
            lost_share: 0.2,
            ..Faults::default()
        };
        let all: Vec<i64> = (0..=1_000).collect();
        assert_eq!(lived(1, &all, &faults), lived(1, &[1_000], &faults));
        assert_ne!(lived(1, &[1_000], &faults), lived(2, &[1_000], &faults));
    }

    #[test]
    fn stays_begin_and_end_in_turn_and_instants_never_repeat() {
        let told = lived(3, &[3_600], &Faults::default());
        let mut open = false;
        for pair in told.windows(2) {
            let later = pair[1].event.meter.at > pair[0].event.meter.at;
            let needs = pair[1].event.kind == Kind::Needs;
            assert!(later || needs, "{pair:?}");
        }
        for t in &told {
            match t.event.kind {
                Kind::PluggedIn => assert!(!std::mem::replace(&mut open, true)),
                Kind::Left => assert!(std::mem::replace(&mut open, false)),
                Kind::Needs | Kind::Values => assert!(open),
            }
        }
        assert!(told.iter().filter(|t| t.event.kind == Kind::Left).count() > 3);
    }

    #[test]
    fn faults_come_in_their_shares() {
        let faults = Faults {
            lost_share: 0.25,
            ..Faults::default()
        };
        let told = lived(4, &[36_000], &faults);
        let values = told.iter().filter(|t| t.event.kind == Kind::Values);
        let (lost, all) = values.fold((0, 0), |(lost, all), t| {
            (lost + u32::from(t.fault == Fault::Lost), all + 1)
        });
        let share = f64::from(lost) / f64::from(all);
        assert!(share > 0.2 && share < 0.3, "{share}");
    }
}
