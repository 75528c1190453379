//! What a vehicle can hold of a reserve product, and how what was sold is shared out.
//!
//! A vehicle that holds `ru` kW up and `rd` kW down of a product in step `j` keeps power free in that step and energy
//! free at every boundary that an activation can reach, which is a safe form of the window rule (`optimisation.md`
//! 2.2): with n steps of endurance and L of recovery,
//!
//! ```text
//! p[j] >= -Pd + factor*ru     p[j] <= Pc - factor*rd
//! e[k] >= F + n*D*ru/ed       e[k] <= C - n*D*rd/ed        for k in j+1 ..= j+n+L
//! ```
//!
//! Any window holds at most n such steps, so no activation within it takes more than is kept. In the last n + L steps
//! of a stay nothing is held: there is no time to make good what an activation took. Vehicles behind a limited site
//! hold nothing, nor do one-way chargers hold up reserve: neither can be promised at a gate a day ahead. A symmetric
//! product is symmetric for the pool: one vehicle may hold more up, another more down.

use std::ops::Range;

use super::player::Player;
use crate::case::{Case, Reserve};
use crate::reference::{Direction, Held, window_steps};

/// What a player holds in one step of one product, kW.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Hold {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

impl Hold {
    /// What of this counts for a product of a direction, kW: of a symmetric one the lesser.
    pub(crate) fn counts(self, direction: Direction) -> f64 {
        match (direction.has_up(), direction.has_down()) {
            (true, true) => self.up.min(self.down),
            (true, false) => self.up,
            _ => self.down,
        }
    }
}

/// What holding a product asks, the same for all vehicles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terms {
    /// Steps from an activation's first until all is well again: n + L.
    pub(crate) tail: usize,
    /// Energy kept per kW held, kWh: `n*D/ed`.
    pub(crate) per_kw: f64,
    /// Power kept per kW held.
    pub(crate) factor: f64,
    direction: Direction,
}

/// The terms of all products, in the order of [`Case::reserves`].
pub(crate) fn terms(case: &Case) -> Vec<Terms> {
    case.reserves
        .iter()
        .map(|reserve| of(case, reserve))
        .collect()
}

fn of(case: &Case, reserve: &Reserve) -> Terms {
    let n = window_steps(reserve.endurance_hours, case.grid.hours());
    #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
    let hours = n as f64 * case.grid.hours();
    Terms {
        tail: n + case.recovery_steps,
        per_kw: hours / case.fleet.discharge_efficiency,
        factor: reserve.power_factor,
        direction: reserve.direction(),
    }
}

/// What a player has to spare for reserve, whichever product and step.
struct Spare {
    begins: usize,
    end: usize,
    /// Power up and down that its own needs leave, kW.
    up_kw: f64,
    down_kw: f64,
    energy: f64,
    /// Energy that may be reckoned with more or less per step from the next on, kWh.
    rise: f64,
    fall: f64,
    floor: f64,
    lowest: f64,
    capacity: f64,
    /// Energy owed at the end, and the most that a step can charge of it, kWh.
    goal: f64,
    per_step: f64,
}

impl Spare {
    /// `None` for a player that holds nothing.
    fn of(case: &Case, player: &Player, discharge: bool) -> Option<Self> {
        let session = &player.session;
        let limited = session.site.is_some_and(|s| {
            case.sites[s].import_kw.is_finite() || case.sites[s].export_kw.is_finite()
        });
        if limited {
            return None;
        }
        let hours = case.grid.hours();
        let (ec, charge) = (case.fleet.charge_efficiency, session.stay.charge_kw);
        let capacity = session.stay.capacity_kwh;
        let owed_to = player
            .at_once
            .as_ref()
            .map_or(session.goal, |_| session.stay.required_kwh);
        let needed = (owed_to.min(capacity) - player.energy).max(0.0) / (ec * charge.max(1e-9));
        if player.at_once.is_some() && needed > 0.0 {
            return None;
        }
        let left = session.share[player.next..].iter().sum::<f64>() * hours;
        let slack = (1.0 - needed / left.max(1e-9)).clamp(0.0, 1.0);
        let power = if discharge { session.discharge_kw } else { 0.0 };
        let half = 0.5 * slack * hours;
        let floor = if player.at_once.is_some() {
            owed_to.max(session.floor)
        } else {
            session.floor
        };
        Some(Self {
            begins: player.begins(),
            end: session.steps().end,
            up_kw: slack * power,
            down_kw: slack * charge,
            energy: player.energy,
            rise: half * ec * charge,
            fall: half * power / case.fleet.discharge_efficiency,
            floor,
            lowest: session.floor,
            capacity,
            goal: session.goal.min(capacity),
            per_step: hours * ec * charge,
        })
    }

    /// What it could hold of a product in step `t` beside what it holds of the others, kW.
    fn beside(&self, player: &Player, terms: &[Terms], product: usize, t: usize) -> Hold {
        let own = &terms[product];
        if player.session.share_at(t) < 1.0 {
            return Hold::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let until = (t - self.begins.min(t)) as f64;
        let highest = (self.energy + self.rise * until).min(self.capacity);
        // After the last activation has been made good there is only so much time left to charge what is owed.
        #[expect(clippy::cast_precision_loss, reason = "a count of steps")]
        let after = self.end.saturating_sub(t + own.tail) as f64;
        let owed = self.goal - self.per_step * after;
        let lowest = (self.energy - self.fall * until).max(self.lowest).max(owed);
        let band = 0.5 * (self.capacity - self.floor);
        // Power and energy are shared each by itself: what is short of one may have plenty of the other.
        let (kw, kwh) = player.kept_for_others(terms, product, t);
        let possible = |kw: f64, kwh: f64| (kw / own.factor).min(kwh / own.per_kw).max(0.0);
        let up = possible(
            self.up_kw - kw.up,
            (highest - self.floor).min(band) - kwh.up,
        );
        let down = possible(
            self.down_kw - kw.down,
            (self.capacity - lowest).min(band) - kwh.down,
        );
        Hold {
            up: if own.direction.has_up() { up } else { 0.0 },
            down: if own.direction.has_down() { down } else { 0.0 },
        }
    }

    /// Steps of `steps` in which it may hold a product.
    fn inside(&self, own: &Terms, steps: &Range<usize>) -> Range<usize> {
        let first = steps.start.max(self.begins);
        first..self.end.saturating_sub(own.tail).min(steps.end).max(first)
    }
}

/// Calls `with` for each of `steps` in which a player could hold some of a product beside what it holds of the others.
pub(crate) fn each_step(
    case: &Case,
    terms: &[Terms],
    player: &Player,
    product: usize,
    steps: &Range<usize>,
    discharge: bool,
    mut with: impl FnMut(usize, Hold),
) {
    if player.session.first >= steps.end || player.session.steps().end <= steps.start {
        return;
    }
    let Some(spare) = Spare::of(case, player, discharge) else {
        return;
    };
    for t in spare.inside(&terms[product], steps) {
        with(t, spare.beside(player, terms, product, t));
    }
}

/// What is to be shared out.
pub(crate) struct Share {
    /// Index into [`Case::reserves`].
    pub(crate) product: usize,
    /// Steps of the period.
    pub(crate) steps: Range<usize>,
    /// Volume, kW.
    pub(crate) kw: f64,
    /// Before this step only vehicles that are there count: who is still to come may not.
    pub(crate) sure_until: usize,
    /// Pictures that the expected vehicles belong to.
    pub(crate) pictures: usize,
}

/// What vehicles could hold of a product in one step in one direction, kW.
#[derive(Debug, Clone, Default)]
struct Could {
    /// What those that are there hold already, and could beyond it.
    held: f64,
    more: f64,
    /// What those expected could in each picture.
    coming: Vec<f64>,
}

/// How much of what each could hold it is asked for.
#[derive(Debug, Clone, Default)]
struct Parts {
    held: f64,
    more: f64,
    coming: Vec<f64>,
}

impl Could {
    /// Counts a player that holds `held` and could hold `more` beyond it, kW.
    fn add(&mut self, player: &Player, held: f64, more: f64) {
        match player.real {
            Some(_) => {
                self.held += held;
                self.more += more;
            }
            None => {
                if let Some(coming) = self.coming.get_mut(player.picture) {
                    *coming += player.part * more;
                }
            }
        }
    }

    /// Who is there is asked for what must be held where few come, those expected for what is then left in their picture.
    fn parts(&self, share: &Share) -> Parts {
        let part = |kw: f64, of: f64| if of > 0.0 { (kw / of).min(1.0) } else { 0.0 };
        let missing = (share.kw - self.held).max(0.0);
        let more = part(missing, self.more + self.poor());
        let left = (missing - more * self.more).max(0.0);
        Parts {
            held: part(share.kw, self.held),
            more,
            coming: self.coming.iter().map(|kw| part(left, *kw)).collect(),
        }
    }

    /// What those expected could hold in the poorest picture: of n pictures and the day to come each is as likely to be the poorest.
    fn poor(&self) -> f64 {
        self.coming.iter().copied().reduce(f64::min).unwrap_or(0.0)
    }
}

impl Parts {
    /// What a player holds that has held `held` and could hold `more` beyond it, kW.
    fn of(&self, player: &Player, held: f64, more: f64) -> f64 {
        match player.real {
            Some(_) => self.held * held + self.more * more,
            None => self
                .coming
                .get(player.picture)
                .map_or(0.0, |part| part * more),
        }
    }
}

/// Shares a volume in each step among the players: what vehicles that are there hold already stays where it is, as the
/// plans made keep it free; what is missing is taken in proportion to what each could hold beyond, who is still to come
/// included as far as even the poorest picture brings it. So each takes its part when it comes: were it left to those expected until
/// they do not come, whoever came before would have used its battery for something else. Vehicles that have refused a part are asked for no more.
pub(crate) fn share_out(
    case: &Case,
    terms: &[Terms],
    players: &mut [Player],
    share: &Share,
    discharge: bool,
) {
    let Share { product, steps, .. } = share;
    let none = Could {
        coming: vec![0.0; share.pictures],
        ..Could::default()
    };
    let mut could: Vec<(usize, usize, Hold, Hold)> = Vec::new();
    let mut sums = vec![(none.clone(), none); steps.len()];
    let mut beyond = vec![Hold::default(); steps.len()];
    for (index, player) in players.iter_mut().enumerate() {
        beyond.fill(Hold::default());
        let add = |t: usize, hold: Hold| beyond[t - steps.start] = hold;
        each_step(case, terms, player, *product, steps, discharge, add);
        for t in steps.clone() {
            let mut held = player.hold(*product, t).unwrap_or_default();
            if player.real.is_none() && held != Hold::default() {
                held = Hold::default();
                player.set_hold(case, *product, t, held);
            }
            if player.real.is_none() && t < share.sure_until {
                continue;
            }
            let most = if player.full {
                held
            } else {
                beyond[t - steps.start]
            };
            let more = Hold {
                up: (most.up - held.up).max(0.0),
                down: (most.down - held.down).max(0.0),
            };
            if held == Hold::default() && more == Hold::default() {
                continue;
            }
            let (up, down) = &mut sums[t - steps.start];
            up.add(player, held.up, more.up);
            down.add(player, held.down, more.down);
            could.push((index, t, held, more));
        }
    }
    let parts: Vec<(Parts, Parts)> = sums
        .iter()
        .map(|(up, down)| (up.parts(share), down.parts(share)))
        .collect();
    for (index, t, held, more) in could {
        let (up, down) = &parts[t - steps.start];
        let hold = Hold {
            up: up.of(&players[index], held.up, more.up),
            down: down.of(&players[index], held.down, more.down),
        };
        players[index].set_hold(case, *product, t, hold);
    }
}

/// Nothing held of any product.
pub(crate) fn nothing(case: &Case, steps: usize) -> Vec<Held> {
    let held = Held {
        up_charge_kw: vec![0.0; steps],
        up_discharge_kw: vec![0.0; steps],
        down_kw: vec![0.0; steps],
    };
    vec![held; case.reserves.len()]
}
