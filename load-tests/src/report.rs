//! Documents as tables for people.

use std::fmt::Write as _;

use crate::counts::Quantiles;
use crate::crew::Done;
use crate::machine::Machine;
use crate::{drive, faults, flood, signal, stations};

/// A figure, or that there is none.
fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"))
}

fn times(of: &Quantiles) -> String {
    format!(
        "p50 {} ms, p99 {} ms, max {} ms ({})",
        shown(of.p50_ms, 1),
        shown(of.p99_ms, 1),
        shown(of.max_ms, 1),
        of.count
    )
}

fn machine(of: &Machine) -> String {
    let build = if of.debug_build { ", debug build" } else { "" };
    let load = of
        .load_1min
        .map_or_else(String::new, |l| format!(", load {l:.1}"));
    format!(
        "{} x {}, {} GiB, Linux {}{load}{build}\n",
        of.cores, of.cpu, of.memory_gib, of.kernel
    )
}

fn fleet(of: &Done) -> String {
    let f = &of.figures;
    let lines = [
        format!(
            "connections    {} made, {} turned away, {} failed, {} lost",
            f.connects, f.connects_refused, f.connects_failed, f.disconnects
        ),
        format!(
            "calls          {} sent, {} answered, {} refused, {} timed out, {} messages still in hand",
            f.sent, f.answered, f.refused, f.timed_out, f.in_hand
        ),
        format!("meter values   {} answered", f.meter_values),
        format!(
            "set-points     {} obeyed, {} refused, {} left unanswered",
            f.setpoints_taken, f.setpoints_refused, f.left_unanswered
        ),
        format!("faults         {} made", f.faults_made),
        format!("answers        {}", times(&of.answers)),
        format!("upgrades       {}", times(&of.upgrades)),
    ];
    lines.join("\n") + "\n"
}

/// The table of `shoal-load stations`.
pub(crate) fn of_stations(document: &stations::Document) -> String {
    let mut text = machine(&document.machine);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} stations, all connected {} after {} s, {} at the end; generator {:.2} cores in {} processes",
        document.scenario,
        document.stations,
        if document.all_connected { "yes" } else { "NO" },
        shown(document.connect_seconds, 1),
        document.connected_at_end,
        document.generator_cores,
        document.generators,
    );
    if let Some(server) = &document.server {
        let _ = writeln!(
            text,
            "server         {:.2} cores, memory {} KiB before, {} KiB connected, {} KiB loaded",
            server.cores, server.empty_kib, server.connected_kib, server.loaded_kib
        );
    }
    text + &fleet(&document.fleet)
}

/// The tables of `shoal-load faults`.
pub(crate) fn of_faults(document: &faults::Document) -> String {
    let mut text = machine(&document.machine);
    let d = document;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} stations, {:.0} s, {} kills, {} upgrades",
        d.scenario, d.stations, d.seconds, d.kills, d.upgrades
    );
    for killed in &d.killed {
        let _ = writeln!(
            text,
            "{:<18} killed {:>3} times, served again after at most {:.1} s",
            killed.name, killed.times, killed.back_seconds
        );
    }
    let _ = writeln!(
        text,
        "telemetry      {} taken, {} lost, {} told again",
        d.telemetry.taken, d.telemetry.lost, d.telemetry.doubled
    );
    let _ = writeln!(
        text,
        "energy         {} readings, {} intervals ({} differ), {} stays ({} differ)",
        d.energy.readings,
        d.energy.intervals,
        d.energy.intervals_different,
        d.energy.stays,
        d.energy.stays_different
    );
    let _ = writeln!(
        text,
        "bids           {} published, {} taken, {} missing, {} repeated before their receipt, {} after it",
        d.bids.published, d.bids.taken, d.bids.missing, d.bids.repeated, d.bids.sent_again
    );
    let _ = writeln!(
        text,
        "awards         {} told, {} not stored, {} not dispatched",
        d.awards.told, d.awards.not_stored, d.awards.not_dispatched
    );
    text += &fleet(&d.fleet);
    for unmet in &d.unmet {
        let _ = writeln!(text, "NOT MET        {unmet}");
    }
    text
}

/// The table of `shoal-load flood`.
pub(crate) fn of_flood(document: &flood::Document) -> String {
    let mut text = machine(&document.machine);
    let d = document;
    let rates = |of: &[f64]| {
        let all: Vec<String> = of.iter().map(|rate| format!("{rate:.0}")).collect();
        all.join(" and ")
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} vehicles over {} partitions, load {} at the end",
        d.scenario,
        d.vehicles,
        d.partitions,
        d.load_at_end
            .map_or_else(|| "-".to_owned(), |l| format!("{l:.1}"))
    );
    let b = &d.backlog;
    let _ = writeln!(
        text,
        "backlog        {} readings in {:.1} s: {:.0} a second, {} kills, {} states, {} s of processor, {} MiB\n\
         bare           consumer {} a second, COPY {} a second: ratio {:.2}",
        b.readings,
        b.seconds,
        b.per_second,
        b.kills,
        b.states,
        shown(b.cpu_seconds, 1),
        b.rss_mib,
        rates(&b.bare_consumer_per_second),
        rates(&b.bare_copy_per_second),
        b.ratio
    );
    if let Some(held) = &d.held {
        let _ = writeln!(
            text,
            "held           {} readings, {:.0} a second for {:.0} s, {:.2} cores, {} MiB\n\
             told late      {}\nto the row     {}\nto the state   {}",
            held.readings,
            held.per_second,
            held.seconds,
            held.cores,
            held.rss_mib,
            times(&held.late),
            times(&held.to_row),
            times(&held.to_state)
        );
    }
    let k = &d.kept;
    let different = k.intervals_different;
    let _ = writeln!(
        text,
        "kept           {} rows of {} readings, registers off by {} J, {} intervals ({} differ)",
        k.rows,
        k.readings,
        k.joules_off,
        k.intervals,
        different.map_or_else(|| "not compared".to_owned(), |n| n.to_string())
    );
    for unmet in &d.unmet {
        let _ = writeln!(text, "NOT MET        {unmet}");
    }
    text
}

/// The table of `shoal-load signal`.
pub(crate) fn of_signal(document: &signal::Document) -> String {
    let mut text = machine(&document.machine);
    let d = document;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{}: {} stations, {} vehicles, {:.0} kW of reserve, {:.0} s, load {} at the end\n\
         signals        {}, of which {} moved somebody: {:.0} set-points each, at most {}; {} did not arrive\n\
         to the first   {}\nto the last    {}",
        d.scenario,
        d.stations,
        d.plugged,
        d.reserve_kw,
        d.seconds,
        d.load_at_end
            .map_or_else(|| "-".to_owned(), |l| format!("{l:.1}")),
        d.signals,
        d.signals_answered,
        d.setpoints_per_signal,
        d.setpoints_most,
        d.setpoints_undelivered,
        times(&d.to_first),
        times(&d.to_last)
    );
    text += &fleet(&d.fleet);
    for unmet in &d.unmet {
        let _ = writeln!(text, "NOT MET        {unmet}");
    }
    text
}

/// The table of `shoal-load edge`: the curve, then the last run in full.
pub(crate) fn of_edge(document: &drive::Document) -> String {
    let mut text = machine(&document.machine);
    let _ = writeln!(
        text,
        "{:>9} {:>8} {:>9} {:>12} {:>12} {:>12} {:>11} {:>10} {:>9}",
        "stations",
        "connect",
        "idle KiB",
        "connect CPU",
        "load CPU",
        "generator",
        "load RSS",
        "set-point",
        "lost"
    );
    let _ = writeln!(
        text,
        "{:>9} {:>8} {:>9} {:>12} {:>12} {:>12} {:>11} {:>10} {:>9}",
        "", "s", "each", "ms each", "cores", "cores", "MiB", "p99 ms", ""
    );
    for row in &document.rows {
        let _ = writeln!(
            text,
            "{:>9} {:>8} {:>9.1} {:>12.2} {:>12.2} {:>12.2} {:>11} {:>10} {:>9}",
            row.stations,
            shown(row.connect_seconds, 1),
            row.server_idle.kib_per_station,
            row.server_idle.connect_cpu_ms_per_station,
            row.server_loaded.cores,
            row.generator_cores,
            row.server_loaded.rss_kib / 1_024,
            shown(row.balance.setpoint_log_to_socket.p99_ms, 1),
            row.balance.lost,
        );
    }
    if let Some(row) = document.rows.last() {
        text.push_str(&last(row));
    }
    for unmet in &document.unmet {
        let _ = writeln!(text, "NOT MET        {unmet}");
    }
    if document.unmet.is_empty() {
        text.push_str("everything expected was met\n");
    }
    text
}

fn last(row: &drive::Row) -> String {
    let mut text = fleet(&row.fleet);
    let balance = &row.balance;
    let _ = writeln!(
        text,
        "on the log     {} taken, {} lost, {} doubled, {} not answered; {} set-points: {} accepted, {} rejected, {} unreachable",
        balance.taken,
        balance.lost,
        balance.doubled,
        balance.unanswered,
        balance.setpoints.told,
        balance.setpoints.accepted,
        balance.setpoints.rejected,
        balance.setpoints.unreachable,
    );
    let _ = writeln!(
        text,
        "log to socket  {}",
        times(&balance.setpoint_log_to_socket)
    );
    if let Some(storm) = &row.storm {
        let _ = writeln!(
            text,
            "storm          all back after {} s, {:.2} ms of processor each, {:.2} cores, at most {} MiB",
            shown(storm.back_seconds, 1),
            storm.cpu_ms_per_station,
            storm.cores,
            storm.peak_rss_kib / 1_024,
        );
    }
    if let Some(deadman) = &row.deadman {
        let _ = writeln!(
            text,
            "deadman        {} of {} discharged; none any more after {} s, all plain after {} s, timer {} s, {} after it",
            deadman.discharging_before,
            deadman.told_before,
            shown(deadman.discharge_ended_seconds, 1),
            shown(deadman.plain_again_seconds, 1),
            deadman.timer_seconds,
            deadman.discharging_after_timer,
        );
    }
    text
}
