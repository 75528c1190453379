//! What every EVSE is to be told, and why.

use chrono::TimeDelta;
use dispatch::Target;
use dispatch::envelope::State;
use dispatch::fleet::EvseId;
use market::GridSignal;
use units::Power;

use crate::config::Pace;

/// Why the pool does what it does while nothing is called.
const UNCALLED: &str = "the pool keeps its baseline";

/// Powers and why, in order of the EVSE.
pub(crate) struct Wanted {
    pub(crate) powers: Vec<(EvseId, Power)>,
    whys: Vec<Why>,
    call: String,
    pub(crate) shortfall: Power,
}

/// Why an EVSE is told what it is told; put in words only for what is sent.
#[derive(Clone, Copy)]
pub(crate) enum Why {
    Fixed(State),
    Killed,
    Pool {
        planned: Power,
        low: Power,
        /// Time to spare, if that is known.
        laxity: Option<TimeDelta>,
    },
}

impl Wanted {
    /// Nobody yet, with room for `members`.
    pub(crate) fn new(call: String, members: usize) -> Self {
        Self {
            powers: Vec::with_capacity(members),
            whys: Vec::with_capacity(members),
            call,
            shortfall: Power::ZERO,
        }
    }

    /// The next EVSE in order.
    pub(crate) fn push(&mut self, evse: &EvseId, power: Power, why: Why) {
        self.powers.push((evse.clone(), power));
        self.whys.push(why);
    }

    /// How long the set-point of an EVSE may hold when nobody is heard any more. One that was called comes back soon; one that follows its
    /// plan goes on with it while its vehicle has time to spare, as it would anyway. Giving uses up that time faster than it passes.
    pub(crate) fn holds(&self, i: usize, pace: &Pace) -> TimeDelta {
        let power = self.powers[i].1;
        match self.whys[i] {
            Why::Pool {
                planned,
                laxity: Some(laxity),
                ..
            } if (power - planned).abs() <= pace.threshold && power >= Power::ZERO => {
                laxity.clamp(pace.expiry, pace.planned)
            }
            Why::Pool { .. } | Why::Fixed(_) | Why::Killed => pace.expiry,
        }
    }

    pub(crate) fn reason(&self, i: usize) -> String {
        let power = self.powers[i].1;
        match self.whys[i] {
            Why::Fixed(State::Locked) => {
                "no time to spare: full power, outside the pool".to_owned()
            }
            Why::Fixed(State::Unmanaged) => {
                "needs or departure unknown: charges plainly, outside the pool".to_owned()
            }
            Why::Fixed(State::Absent | State::Flexible) => {
                "does not follow: keeps its plan, outside the pool".to_owned()
            }
            Why::Killed => "kill switch: plain charging".to_owned(),
            Why::Pool { planned, .. } if power == planned && self.call == UNCALLED => {
                "follows its plan".to_owned()
            }
            Why::Pool { planned, .. } if power == planned => {
                format!("{}; others give that, this one follows its plan", self.call)
            }
            Why::Pool { planned, low, .. } if power == low && power > planned => {
                format!("must charge {power} to leave with what it needs")
            }
            Why::Pool { planned, .. } => format!("{}: {power} instead of {planned}", self.call),
        }
    }
}

pub(crate) fn call_reason(target: &Target, signal: Option<&GridSignal>) -> String {
    let deviation = signal.and_then(|s| s.deviation_mhz).unwrap_or(0.0);
    match target.winner() {
        "fcr" => format!(
            "frequency {deviation:+.0} mHz calls {} of the pool",
            target.fcr
        ),
        "afrr" => format!("restoration calls {} of the pool", target.afrr),
        _ => UNCALLED.to_owned(),
    }
}
