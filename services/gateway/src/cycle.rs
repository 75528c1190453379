//! One dispatch cycle: everything known in, set-points and their reasons out. No I/O.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use dispatch::activation::{Delivery, Excursion};
use dispatch::alert::AlertDetector;
use dispatch::envelope::State;
use dispatch::fleet::schedule::{Schedule, Step};
use dispatch::fleet::state::PowerAt;
use dispatch::fleet::{EvseId, EvseState, Setpoint, SignalId};
use dispatch::track::Settings;
use dispatch::{
    Beside, Droop, Envelope, Guard, Pool, Sold, Target, Told, Tracker, Unit, envelope, fallback,
};
use market::settlement::Availability;
use market::{Area, Award, AwardId, GridSignal, Product, Rules};
use units::{Interval, Power};
use wire::proto::dispatch::v1 as proto;

use crate::command::Order;
use crate::config::Pace;
use crate::layout::Layout;
use crate::quarter::Quarter;
use crate::ready::{Headroom, backing, headroom, held, ratio, unanswered};
use crate::view::{View, quarter_of};
use crate::wanted::{Wanted, Why, call_reason};

/// What a cycle decided.
#[derive(Debug, Default)]
pub(crate) struct Decision {
    pub(crate) setpoints: Vec<Setpoint>,
    pub(crate) message: proto::Cycle,
    /// Availability of the quarter hour that ended, if one did.
    pub(crate) closed: Vec<Availability>,
    /// Deliveries to keep with it.
    pub(crate) deliveries: Vec<Delivery>,
    /// Quarter hour that began with this cycle.
    pub(crate) began: Option<Interval>,
}

/// What the dispatcher remembers between cycles.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    pub(crate) order: Order,
    pub(crate) deliveries: BTreeMap<AwardId, Delivery>,
    pub(crate) area: Area,
    /// When it began: the rules of that instant apply.
    pub(crate) began: DateTime<Utc>,
    pub(crate) pace: Pace,
    pub(crate) tracker: Tracker,
    pub(crate) guard: Guard,
    layout: Layout,
    alert: AlertDetector,
    quarter: Quarter,
    excursion: Excursion,
    /// The newest signal that a cycle has answered.
    pub(crate) answered: Option<String>,
    running: Option<Interval>,
}

/// One EVSE in this cycle, connected and plugged in.
pub(crate) struct Member<'a> {
    /// In the [`Layout`].
    pub(crate) place: usize,
    pub(crate) id: &'a EvseId,
    pub(crate) state: &'a EvseState,
    pub(crate) envelope: Envelope,
    pub(crate) step: Step,
    told: Option<Told>,
}

impl Member<'_> {
    /// True if the pool moves it.
    pub(crate) fn is_moved(&self) -> bool {
        self.envelope.is_flexible() && !self.state.unresponsive
    }
}

/// The fleet in this cycle.
#[derive(Default)]
pub(crate) struct Fleet<'a> {
    /// In order of their names.
    pub(crate) members: Vec<Member<'a>>,
    metered: Power,
    measured: u32,
    /// Mean age of the samples.
    age: TimeDelta,
}

impl<'a> Fleet<'a> {
    /// Moved by the pool.
    pub(crate) fn moved(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|m| m.is_moved())
    }

    /// Not moved by it.
    pub(crate) fn fixed(&self) -> impl Iterator<Item = &Member<'a>> {
        self.members.iter().filter(|m| !m.is_moved())
    }
}

fn guard(pace: &Pace) -> Guard {
    Guard::new(pace.threshold, pace.expiry / 2)
}

impl Dispatcher {
    pub(crate) fn new(
        area: Area,
        pace: Pace,
        now: DateTime<Utc>,
        deliveries: Vec<Delivery>,
    ) -> Self {
        let droop = Rules::built_in()
            .at(area, Product::Fcr, now)
            .ok()
            .and_then(Droop::of)
            .unwrap_or_default();
        let settings = Settings {
            droop,
            settling: pace.settling,
            ..Settings::default()
        };
        Self {
            order: Order::default(),
            deliveries: deliveries.into_iter().map(|d| (d.award.id, d)).collect(),
            tracker: Tracker::new(settings),
            guard: guard(&pace),
            layout: Layout::default(),
            alert: AlertDetector::default(),
            quarter: Quarter::default(),
            excursion: Excursion::default(),
            answered: None,
            running: None,
            area,
            began: now,
            pace,
        }
    }

    /// Takes nothing that was decided for told: the next cycle tells every EVSE.
    pub(crate) fn tell_all_again(&mut self) {
        self.guard = guard(&self.pace);
    }

    /// Takes these for not sent: whoever goes on from here tells their EVSEs, whatever was sent before.
    pub(crate) fn not_told(&mut self, setpoints: &[Setpoint]) {
        let untold: BTreeSet<&EvseId> = setpoints.iter().map(|s| &s.evse).collect();
        self.guard.retain(|evse| !untold.contains(evse));
    }

    /// Decides what every EVSE is told at `now`.
    pub(crate) fn cycle(&mut self, view: &View, now: DateTime<Utc>) -> Decision {
        let mut decision = Decision::default();
        self.order.expire(now);
        self.turn_quarter(now, &mut decision);
        let stale = view
            .plan
            .as_ref()
            .is_none_or(|p| fallback::is_stale(p, now, self.pace.oldest_plan));
        self.layout.follow(view);
        let fleet = self.gather(view, now, stale);
        let signal = self.fresh_signal(view, now, &mut decision.message);
        let sold = self.sold(view, now);
        let fixed: Power = fleet.fixed().map(contribution).sum();
        let planned: Power = fleet.moved().map(told).sum();
        // A baseline binds where reserve is verified against it; without any, the newest schedules are the better word.
        let binding = !stale && sold != Sold::default();
        let baseline = binding
            .then(|| view.baselines.frozen_at(now).map(|v| v.power))
            .flatten();
        let baseline = baseline.unwrap_or(planned + fixed);
        let target = self.tracker.target(now, baseline, signal, sold);
        let wanted = self.allot(&fleet, target, fixed, signal);
        let headroom = headroom(&self.layout, &fleet, baseline, fixed);
        self.record(view, now, &fleet, &target, headroom, &mut decision.message);
        decision.message.shortfall_watts = wanted.shortfall.watts();
        self.publish(now, &wanted, &target, signal, &mut decision);
        self.describe(
            view,
            now,
            &fleet,
            &target,
            headroom,
            stale,
            &mut decision.message,
        );
        decision
    }

    fn turn_quarter(&mut self, now: DateTime<Utc>, decision: &mut Decision) {
        let Some(interval) = quarter_of(now) else {
            return;
        };
        if self.running != Some(interval) {
            self.running = Some(interval);
            decision.began = Some(interval);
            decision.closed = self.quarter.advance(interval);
            decision.deliveries = self
                .deliveries
                .values()
                .filter(|d| {
                    d.award.delivery.end() >= interval.start() - market::settlement::QUARTER
                })
                .cloned()
                .collect();
            self.deliveries
                .retain(|_, d| d.award.delivery.end() > now - TimeDelta::days(2));
        }
    }

    fn gather<'a>(&self, view: &'a View, now: DateTime<Utc>, stale: bool) -> Fleet<'a> {
        let mut fleet = Fleet::default();
        let mut ages = TimeDelta::zero();
        let (mut schedules, mut sent) =
            (Beside::new(&view.schedules), Beside::new(self.guard.sent()));
        for (place, (id, state)) in view.fleet().iter().enumerate() {
            if let Some(power) = state.power.filter(|_| state.session.is_some()) {
                fleet.metered += power.power;
                fleet.measured += 1;
                ages += (now - power.at).max(TimeDelta::zero());
            }
            let envelope = envelope(state, now, self.pace.horizon);
            if envelope.state == State::Absent {
                continue;
            }
            let schedule = schedules.at(id).filter(|_| !stale);
            fleet.members.push(Member {
                place,
                id,
                step: planned_step(schedule, state, &envelope, now),
                told: sent.at(id).and_then(|sent| sent.in_force(now)),
                state,
                envelope,
            });
        }
        if let Ok(measured) = i32::try_from(fleet.measured)
            && measured > 0
        {
            fleet.age = ages / measured;
        }
        fleet
    }

    /// The newest signal, if it is young enough to follow.
    fn fresh_signal<'a>(
        &mut self,
        view: &'a View,
        now: DateTime<Utc>,
        message: &mut proto::Cycle,
    ) -> Option<&'a GridSignal> {
        let signal = view.signal.as_ref()?;
        message.signal_id = Some(signal.id.clone());
        message.frequency_at_micros = Some(signal.at.timestamp_micros());
        message.deviation_mhz = signal.deviation_mhz;
        if let Some(deviation) = signal.deviation_mhz
            && let Some(since) = self.alert.sample(signal.at, deviation)
        {
            message.alarms.push(format!(
                "alert state of the grid since {}",
                since.format("%H:%M:%SZ")
            ));
        }
        let age = now - signal.at;
        if age > self.pace.oldest_signal {
            message.alarms.push(format!(
                "grid signal is {} s old: no longer followed",
                age.num_seconds()
            ));
            return None;
        }
        Some(signal)
    }

    fn sold(&self, view: &View, now: DateTime<Utc>) -> Sold {
        if self.order != Order::Running {
            return Sold::default();
        }
        Sold {
            fcr: view.position.reserve(Product::Fcr, now),
            afrr_up: view.position.reserve(Product::AfrrUp, now),
            afrr_down: view.position.reserve(Product::AfrrDown, now),
        }
    }

    /// One power per connected EVSE.
    fn allot(
        &self,
        fleet: &Fleet<'_>,
        target: Target,
        fixed: Power,
        signal: Option<&GridSignal>,
    ) -> Wanted {
        let mut wanted = Wanted::new(call_reason(&target, signal), fleet.members.len());
        if matches!(self.order, Order::Killed { .. }) {
            for member in &fleet.members {
                let power = fallback::safe(&member.envelope).power;
                wanted.push(member.id, power, Why::Killed);
            }
            return wanted;
        }
        // What members outside the pool are told and what they draw may differ; the target is moved by the difference.
        let followers = fleet.fixed().filter(|m| !m.state.unresponsive);
        let told_fixed: Power = followers.map(told).sum();
        let (powers, shortfall) = self.split(fleet, target.power - fixed + told_fixed);
        wanted.shortfall = shortfall;
        for (member, power) in fleet.members.iter().zip(powers) {
            let why = if member.is_moved() {
                Why::Pool {
                    planned: member.step.power,
                    low: member.envelope.low,
                    laxity: member.envelope.laxity,
                }
            } else if member.state.unresponsive {
                Why::Fixed(State::Flexible)
            } else {
                Why::Fixed(member.envelope.state)
            };
            wanted.push(member.id, power, why);
        }
        wanted
    }

    /// `target` over all members that follow, one power per member, and what of it is missing. Vehicles outside the pool have no choice, but they
    /// hang on the same fuse: they are split with limits that coincide. Of a fuse, what is left beside those that do not follow counts; they
    /// are told what they were.
    fn split(&self, fleet: &Fleet<'_>, target: Power) -> (Vec<Power>, Power) {
        let layout = &self.layout;
        let mut limits = Cow::Borrowed(layout.limits());
        for member in fleet.members.iter().filter(|m| m.state.unresponsive) {
            if let Some(limit) = &mut limits.to_mut()[layout.site(member.place)] {
                *limit = limit.beside(contribution(member));
            }
        }
        let mut at = vec![None; layout.order().len()];
        for (n, member) in fleet.members.iter().enumerate() {
            at[member.place] = Some(n).filter(|_| !member.state.unresponsive);
        }
        let order: Vec<usize> = layout.order().iter().filter_map(|p| at[*p]).collect();
        let members = order.iter().map(|n| &fleet.members[*n]);
        let limit = |i: usize| limits[layout.site(fleet.members[order[i]].place)];
        let pool = Pool::in_order(members.map(unit).collect(), limit);
        let shares = dispatch::split(&pool, target);
        let mut powers: Vec<Power> = fleet.members.iter().map(told).collect();
        for (n, power) in order.iter().zip(shares.powers) {
            powers[*n] = power;
        }
        (powers, shares.shortfall)
    }

    fn publish(
        &mut self,
        now: DateTime<Utc>,
        wanted: &Wanted,
        target: &Target,
        signal: Option<&GridSignal>,
        decision: &mut Decision,
    ) {
        let pace = self.pace;
        let holds = |i| wanted.holds(i, &pace);
        let chosen = self.guard.select(
            now,
            &wanted.powers,
            holds,
            Power::from_watts(target.tolerance.watts() / 4),
        );
        let mut asked = Beside::new(wanted.powers.iter().map(|(evse, _)| (evse, ())));
        self.guard.retain(|evse| asked.at(evse).is_some());
        let called = target.fcr != Power::ZERO || target.afrr != Power::ZERO;
        // What is sent in later cycles of the same signal is caused by the plan or by expiry, not by the signal.
        let signal: Option<SignalId> = signal
            .filter(|s| called && self.answered.as_deref() != Some(s.id.as_str()))
            .and_then(|s| s.id.parse().ok());
        self.answered.clone_from(&decision.message.signal_id);
        let micros = now.timestamp_micros();
        for (n, i) in chosen.into_iter().enumerate() {
            let (evse, power) = &wanted.powers[i];
            let Ok(id) = format!("{micros}-{n}").parse() else {
                continue;
            };
            decision.setpoints.push(Setpoint {
                id,
                evse: evse.clone(),
                power: *power,
                mode: dispatch::fleet::Mode::default(),
                issued_at: now,
                expires_at: now + holds(i),
                signal: signal.clone(),
                reason: wanted.reason(i),
            });
        }
        decision.message.setpoints = u32::try_from(decision.setpoints.len()).unwrap_or(u32::MAX);
    }

    /// Availability and delivery of every award in force.
    fn record(
        &mut self,
        view: &View,
        now: DateTime<Utc>,
        fleet: &Fleet<'_>,
        target: &Target,
        headroom: Headroom,
        message: &mut proto::Cycle,
    ) {
        let error = (fleet.measured > 0)
            .then(|| self.tracker.error(now, fleet.metered, fleet.age))
            .flatten();
        let off = error.is_some_and(|e| e.abs() > target.tolerance);
        let lasting = self.excursion.lasts(now, off, self.pace.settling);
        let awards: Vec<&Award> = view
            .position
            .in_force(now)
            .filter(|a| a.product.is_reserve())
            .collect();
        if awards.is_empty() {
            return;
        }
        let fcr = view.position.reserve(Product::Fcr, now);
        let mut unfollowed = false;
        for award in awards {
            let sold = view.position.reserve(award.product, now);
            let missing = (sold - held(award.product, headroom, fcr)).clamp(Power::ZERO, sold);
            // Several awards of one product share what is missing in proportion.
            let missing = missing.scale(ratio(award.volume, sold));
            let delivery = self
                .deliveries
                .entry(award.id)
                .or_insert_with(|| Delivery::new(award.clone()));
            let request = delivery.request(target);
            delivery.cycle(request, error, !lasting);
            let late = error
                .filter(|_| lasting)
                .map_or(Power::ZERO, |e| unanswered(e, request, target.tolerance));
            unfollowed |= late > Power::ZERO;
            let late = late
                .scale(ratio(award.volume, sold))
                .min(award.volume - missing.min(award.volume));
            self.quarter.cycle(award, missing, late);
        }
        if unfollowed {
            message
                .alarms
                .push("the pool does not answer as far as it was called".to_owned());
        }
        self.quarter.back(backing(&self.layout, fleet));
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "a message names everything the cycle saw"
    )]
    fn describe(
        &self,
        view: &View,
        now: DateTime<Utc>,
        fleet: &Fleet<'_>,
        target: &Target,
        headroom: Headroom,
        stale: bool,
        message: &mut proto::Cycle,
    ) {
        message.at_micros = now.timestamp_micros();
        message.baseline_watts = target.baseline.watts();
        message.fcr_watts = target.fcr.watts();
        message.afrr_watts = target.afrr.watts();
        message.target_watts = target.power.watts();
        message.actual_watts = (fleet.measured > 0).then(|| fleet.metered.watts());
        message.measured_evses = fleet.measured;
        message.connected_evses = u32::try_from(fleet.members.len()).unwrap_or(u32::MAX);
        message.tolerance_watts = target.tolerance.watts();
        message.state = self.order.name().to_owned();
        message.winner = match &self.order {
            Order::Running => target.winner(),
            Order::Held { .. } => "hold",
            Order::Killed { .. } => "kill switch",
        }
        .to_owned();
        let fcr = view.position.reserve(Product::Fcr, now);
        message.products = [Product::Fcr, Product::AfrrUp, Product::AfrrDown]
            .into_iter()
            .map(|product| proto::Product {
                product: product.name().to_owned(),
                sold_watts: view.position.reserve(product, now).watts(),
                held_watts: held(product, headroom, fcr).watts(),
            })
            .collect();
        if stale && !fleet.members.is_empty() {
            message
                .alarms
                .push("no plan young enough: vehicles charge safely".to_owned());
        }
        let deaf = fleet
            .members
            .iter()
            .filter(|m| m.state.unresponsive)
            .count();
        if deaf > 0 {
            message.alarms.push(format!(
                "{deaf} EVSEs do not follow; others carry their share"
            ));
        }
        if message.shortfall_watts.abs() > message.tolerance_watts {
            message.alarms.push(format!(
                "{} beyond what the fleet can do",
                Power::from_watts(message.shortfall_watts)
            ));
        }
    }
}

/// What `schedule` plans for an EVSE now; safe charging where that is not about this stay, or there is none.
fn planned_step(
    schedule: Option<&Schedule>,
    state: &EvseState,
    envelope: &Envelope,
    now: DateTime<Utc>,
) -> Step {
    let session = state.session.as_ref().map(|s| &s.session.id);
    schedule
        .filter(|schedule| schedule.session.as_ref() == session)
        .and_then(|schedule| fallback::step_at(schedule, now))
        .unwrap_or_else(|| fallback::safe(envelope))
}

fn unit(member: &Member<'_>) -> Unit {
    let measured = member.state.power.map_or(0, |p| p.power.watts());
    // Little time to spare moves little: weight grows with its inverse, in hours (`optimisation.md` 10.3).
    let hours = member
        .envelope
        .laxity
        .map_or(1.0, |l| l.as_seconds_f64().max(60.0) / 3_600.0);
    Unit {
        id: member.id.clone(),
        site: member.state.evse.site.clone(),
        plan: member.step.power,
        up: member.step.up,
        down: member.step.down,
        low: member.envelope.low,
        high: member.envelope.high,
        min_charge: member.envelope.min_charge,
        weight: 1.0 + (1.0 / hours).min(10.0),
        on: measured > 0,
        told: member.told,
    }
}

/// What an EVSE that the pool does not move draws: what was measured since it was told, else what it is told. One that
/// does not follow draws what was measured last.
pub(crate) fn contribution(member: &Member<'_>) -> Power {
    let state = member.state;
    let told_since = |measured: PowerAt| state.setpoint.is_some_and(|s| s.at > measured.at);
    match state.power {
        Some(measured) if state.unresponsive || !told_since(measured) => measured.power,
        _ => told(member),
    }
}

/// What an EVSE that the pool does not move is told: its step within its limits.
fn told(member: &Member<'_>) -> Power {
    member
        .step
        .power
        .clamp(member.envelope.low, member.envelope.high)
}
