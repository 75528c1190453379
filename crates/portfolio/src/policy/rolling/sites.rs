//! Serving the vehicles behind a site that has too little for all: least laxity first.
//!
//! The schedule made here charges as early as the site allows, so it is the safest there is; the best answers of the
//! vehicles then start from it and can only make it cheaper, never shorter.

use crate::case::Case;

use super::known::Known;
use super::player::Player;
use super::pool::Pool;

/// What the walk through the steps knows of one vehicle.
struct Turn {
    /// Index into the players.
    player: usize,
    /// Energy now, kWh.
    energy: f64,
    /// Hours plugged in from now to its departure, shares counted.
    left: f64,
}

/// Replaces the plans of the plugged-in vehicles behind `site` by the safest ones.
pub(crate) fn serve(
    case: &Case,
    known: &Known<'_>,
    pool: &mut Pool,
    players: &mut [Player],
    site: usize,
    discharge: bool,
) {
    let mut turns = Vec::new();
    let mut end = known.now;
    for (index, player) in players.iter_mut().enumerate() {
        if player.real.is_none() || player.session.site != Some(site) {
            continue;
        }
        pool.count(player, -1.0);
        player.charge[player.next..].fill(0.0);
        player.discharge[player.next..].fill(0.0);
        end = end.max(player.session.steps().end);
        turns.push(Turn {
            player: index,
            energy: player.energy,
            left: player.session.share[player.next..].iter().sum::<f64>() * case.grid.hours(),
        });
    }
    for t in known.now..end {
        // What is left in the pool's book is what vehicles do in a step already set.
        let taken = known.base(site, t) + pool.site_net(site, t);
        let room = case.sites[site].import_kw - taken;
        let least = -case.sites[site].export_kw - taken;
        serve_step(case, players, &mut turns, t, (least, room), discharge);
    }
    for turn in &turns {
        pool.count(&players[turn.player], 1.0);
    }
}

/// One step: the least lax first, each as fast as it can.
fn serve_step(
    case: &Case,
    players: &mut [Player],
    turns: &mut [Turn],
    t: usize,
    (least, most): (f64, f64),
    discharge: bool,
) {
    let (hours, ec) = (case.grid.hours(), case.fleet.charge_efficiency);
    let laxity = |turn: &Turn| {
        let session = &players[turn.player].session;
        let needed =
            (session.goal - turn.energy).max(0.0) / (ec * session.stay.charge_kw.max(1e-9));
        turn.left - needed
    };
    let mut order: Vec<(f64, usize)> = turns.iter().map(laxity).zip(0..).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut room = most;
    let mut total = 0.0;
    for (_, k) in &order {
        let turn = &mut turns[*k];
        let player = &mut players[turn.player];
        let share = player.session.share_at(t);
        if t < player.begins() || share <= 0.0 {
            continue;
        }
        let missing = (player.session.goal - turn.energy).max(0.0) / (ec * hours);
        let power = missing
            .min(share * player.session.stay.charge_kw)
            .min(room.max(0.0));
        player.charge[t - player.session.first] = power;
        turn.energy += ec * hours * power;
        turn.left -= share * hours;
        room -= power;
        total += power;
    }
    if total < least || (total > most && discharge) {
        settle_limit(
            case,
            players,
            turns,
            &order,
            t,
            (least, most, total),
            discharge,
        );
    }
}

/// Base load alone breaks a limit: charge beyond what is owed, or discharge, as far as the batteries go.
fn settle_limit(
    case: &Case,
    players: &mut [Player],
    turns: &mut [Turn],
    order: &[(f64, usize)],
    t: usize,
    (least, most, mut total): (f64, f64, f64),
    discharge: bool,
) {
    let (hours, ec) = (case.grid.hours(), case.fleet.charge_efficiency);
    for (_, k) in order.iter().rev() {
        let turn = &mut turns[*k];
        let player = &mut players[turn.player];
        let (share, session) = (player.session.share_at(t), &player.session);
        if t < player.begins() || share <= 0.0 {
            continue;
        }
        let j = t - session.first;
        if total < least {
            let free = (session.stay.capacity_kwh - turn.energy).max(0.0) / (ec * hours);
            let more = (share * session.stay.charge_kw - player.charge[j])
                .min(free)
                .min(least - total)
                .max(0.0);
            player.charge[j] += more;
            turn.energy += ec * hours * more;
            total += more;
        } else if total > most && discharge && player.charge[j] <= 0.0 {
            let ed = case.fleet.discharge_efficiency;
            let stored = (turn.energy - session.floor).max(0.0) * ed / hours;
            let less = (share * session.discharge_kw)
                .min(stored)
                .min(total - most)
                .max(0.0);
            player.discharge[j] += less;
            turn.energy -= hours * less / ed;
            total -= less;
        }
    }
}
