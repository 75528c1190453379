//! Batteries under full activation, in steps of seconds.

/// Seconds of a simulation step.
const TICK: i64 = 10;

/// Seconds between two starts of an activation that are tried.
const STARTS: i64 = 300;

/// Seconds between two decisions who recharges.
const RECHARGE: i64 = 60;

/// Energy that counts as kept: ten watt-hours, what a charger's register resolves.
const KEPT_KWH: f64 = 0.011;

/// Power over a limit that is rounding: half a watt for each of fifty vehicles.
const KEPT_KW: f64 = 0.05;

/// A vehicle, its schedule, and the reserve it holds. Seconds count from the first step; steps are quarter hours.
#[derive(Debug, Clone)]
pub struct Battery {
    pub site: Option<usize>,
    pub begins: i64,
    pub leaves: i64,
    pub arrival: f64,
    pub floor: f64,
    pub capacity: f64,
    pub wanted: f64,
    pub charge_kw: f64,
    pub discharge_kw: f64,
    pub charge_efficiency: f64,
    pub discharge_efficiency: f64,
    pub net: Vec<f64>,
    pub up: Vec<f64>,
    pub down: Vec<f64>,
}

/// A connection point.
#[derive(Debug, Clone, Copy)]
pub struct Site {
    pub import_kw: f64,
    pub export_kw: f64,
}

/// A full activation, and how long the old schedule still runs after it.
#[derive(Debug, Clone, Copy)]
pub struct Called {
    pub seconds: i64,
    pub recovery_seconds: i64,
}

/// How badly an activation went, at worst over its starts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Worst {
    /// kWh below the floor or above the capacity.
    pub out_of_band: f64,
    /// kWh missing at departure of what the vehicle needs, or would have had without the call.
    pub short: f64,
    /// kW over a limit of its site.
    pub over_limit: f64,
}

/// Activations and how many went wrong.
#[derive(Debug, Clone, Copy, Default)]
pub struct Count {
    pub activations: usize,
    pub out_of_band: usize,
    pub short: usize,
    pub over_limit: usize,
    /// The worst of them, kWh missing at departure.
    pub most_short: f64,
}

impl Count {
    pub fn add(&mut self, worst: &Worst) {
        self.activations += 1;
        self.out_of_band += usize::from(worst.out_of_band > KEPT_KWH);
        self.short += usize::from(worst.short > KEPT_KWH);
        self.over_limit += usize::from(worst.over_limit > KEPT_KW);
        self.most_short = self.most_short.max(worst.short);
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} activations, {} out of the band, {} left short (by {:.3} kWh at most), {} over a site's limit",
            self.activations, self.out_of_band, self.short, self.most_short, self.over_limit
        )
    }
}

impl Battery {
    pub fn holds(&self, kw: f64) -> bool {
        self.up.iter().chain(&self.down).any(|held| *held > kw)
    }

    fn gain(&self, kw: f64, seconds: i64) -> f64 {
        let hours = seconds as f64 / 3_600.0;
        hours
            * if kw >= 0.0 {
                kw * self.charge_efficiency
            } else {
                kw / self.discharge_efficiency
            }
    }

    fn at(&self, series: &[f64], second: i64) -> f64 {
        if second < self.begins || second >= self.leaves {
            return 0.0;
        }
        series.get((second / 900) as usize).copied().unwrap_or(0.0)
    }

    /// Levels without any call, by tick from the first step on.
    fn levels(&self) -> Vec<f64> {
        let mut level = self.arrival;
        let mut levels = vec![level];
        for tick in 0..self.leaves.div_euclid(TICK) + 1 {
            level += self.gain(self.at(&self.net, tick * TICK), TICK);
            levels.push(level);
        }
        levels
    }

    /// Power under a call of `way` (1 raises load, -1 lowers it).
    fn called(&self, way: f64, second: i64) -> f64 {
        let held = if way > 0.0 { &self.down } else { &self.up };
        self.at(&self.net, second) + way * self.at(held, second)
    }

    /// True if a call from `from` on asks anything of it.
    fn asked(&self, way: f64, from: i64, called: Called) -> bool {
        let held = if way > 0.0 { &self.down } else { &self.up };
        let seconds = (from..from + called.seconds).step_by(STARTS as usize);
        let last = from + called.seconds - 1;
        seconds.chain([last]).any(|s| self.at(held, s) > 0.0)
    }

    /// From a start to the end of the recovery: the level then, and the most by which the band was left, kWh.
    fn play(&self, levels: &[f64], way: f64, from: i64, called: Called) -> (f64, f64) {
        let (low, high) = (
            self.floor.min(self.arrival),
            self.capacity.max(self.arrival),
        );
        let mut level = levels[(from / TICK) as usize];
        let mut out: f64 = 0.0;
        let until = (from + called.seconds + called.recovery_seconds).min(self.leaves);
        let mut second = from;
        while second < until {
            let kw = if second < from + called.seconds {
                self.called(way, second)
            } else {
                self.at(&self.net, second)
            };
            level += self.gain(kw, TICK.min(until - second));
            out = out.max(low - level).max(level - high);
            second += TICK;
        }
        (level, out)
    }

    /// What it leaves with if nobody calls, and at most what it needs.
    fn promised(&self, levels: &[f64]) -> f64 {
        let last = levels[(self.leaves / TICK) as usize];
        self.wanted.min(last)
    }
}

/// The worst activation of a battery that nobody shares a limit with: after the recovery it charges at full power.
pub fn worst_alone(battery: &Battery, called: Called) -> Worst {
    let levels = battery.levels();
    let promised = battery.promised(&levels);
    let mut worst = Worst::default();
    for way in [-1.0, 1.0] {
        for from in (0..battery.leaves).step_by(STARTS as usize) {
            if !battery.asked(way, from, called) {
                continue;
            }
            let (level, out) = battery.play(&levels, way, from, called);
            let until = (from + called.seconds + called.recovery_seconds).min(battery.leaves);
            let full = level + battery.gain(battery.charge_kw, battery.leaves - until);
            worst.out_of_band = worst.out_of_band.max(out);
            worst.short = worst.short.max(promised - full.min(battery.capacity));
        }
    }
    worst
}

/// The worst activation of each battery that holds more than `least`, all being called together: after the recovery those that miss energy recharge
/// under the limits of their sites, the one with least time to spare first.
pub fn worst_together(
    batteries: &[Battery],
    sites: &[Site],
    called: Called,
    least: f64,
) -> Vec<Worst> {
    let levels: Vec<Vec<f64>> = batteries.iter().map(Battery::levels).collect();
    let mut worst = vec![Worst::default(); batteries.len()];
    let mut members = vec![Vec::new(); sites.len()];
    for (i, battery) in batteries.iter().enumerate() {
        members[battery.site.unwrap()].push(i);
    }
    for (site, members) in sites.iter().zip(&members) {
        let last = members
            .iter()
            .map(|i| batteries[*i].leaves)
            .max()
            .unwrap_or(0);
        let first = members
            .iter()
            .map(|i| batteries[*i].begins)
            .min()
            .unwrap_or(0);
        for way in [-1.0, 1.0] {
            for from in (first..last).step_by(STARTS as usize) {
                let asked = |i: &usize| batteries[*i].asked(way, from, called);
                if members.iter().any(asked) {
                    at_site(
                        batteries,
                        &levels,
                        (site, members),
                        (way, from, called),
                        &mut worst,
                    );
                }
            }
        }
    }
    let each = batteries.iter().zip(worst);
    each.filter(|(battery, _)| battery.holds(least))
        .map(|(_, worst)| worst)
        .collect()
}

fn at_site(
    batteries: &[Battery],
    levels: &[Vec<f64>],
    (site, members): (&Site, &[usize]),
    (way, from, called): (f64, i64, Called),
    worst: &mut [Worst],
) {
    for second in (from..from + called.seconds).step_by(STARTS as usize) {
        let load: f64 = members
            .iter()
            .map(|i| batteries[*i].called(way, second))
            .sum();
        let over = (load - site.import_kw).max(-load - site.export_kw);
        for i in members {
            worst[*i].over_limit = worst[*i].over_limit.max(over);
        }
    }
    let until = from + called.seconds + called.recovery_seconds;
    let mut level: Vec<f64> = Vec::with_capacity(members.len());
    for i in members {
        let battery = &batteries[*i];
        if battery.leaves <= from {
            level.push(f64::INFINITY);
            continue;
        }
        let start = from.max(battery.begins);
        let (end, out) = battery.play(&levels[*i], way, start, called);
        worst[*i].out_of_band = worst[*i].out_of_band.max(out);
        level.push(end);
    }
    recharge(batteries, levels, (site, members), until, &mut level);
    for (i, level) in members.iter().zip(&level) {
        let promised = batteries[*i].promised(&levels[*i]);
        worst[*i].short = worst[*i].short.max(promised - level);
    }
}

/// Charges those that miss energy from `second` on until all have left.
fn recharge(
    batteries: &[Battery],
    levels: &[Vec<f64>],
    (site, members): (&Site, &[usize]),
    mut second: i64,
    level: &mut [f64],
) {
    let promised: Vec<f64> = members
        .iter()
        .map(|i| batteries[*i].promised(&levels[*i]))
        .collect();
    loop {
        let mut waiting: Vec<(f64, usize)> = members
            .iter()
            .enumerate()
            .filter(|(n, i)| batteries[**i].leaves > second && level[*n] < promised[*n])
            .map(|(n, i)| {
                let battery = &batteries[*i];
                let rate = battery.charge_kw * battery.charge_efficiency;
                let hours = (battery.leaves - second) as f64 / 3_600.0;
                (hours - (promised[n] - level[n]) / rate, n)
            })
            .collect();
        if waiting.is_empty() {
            return;
        }
        waiting.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut left = site.import_kw;
        for (_, n) in waiting {
            let battery = &batteries[members[n]];
            let seconds = RECHARGE.min(battery.leaves - second);
            let hours = seconds as f64 / 3_600.0;
            let need = (promised[n] - level[n]) / (battery.charge_efficiency * hours);
            let kw = need.min(battery.charge_kw).min(left);
            left -= kw;
            level[n] += battery.gain(kw, seconds);
        }
        second += RECHARGE;
    }
}
