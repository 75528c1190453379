//! A small scenario for the notebook: one week, two sites, prices with a day shape and a negative noon.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Days of the scenario: Monday 4 March 2024 to the Sunday, no clock change.
const DAYS: u32 = 7;

/// Cars at work on weekdays, and at home every night.
const AT_WORK: u32 = 10;
const AT_HOME: u32 = 8;

const SCENARIO: &str = r#"name = "small-week"
area = "NL"
from = 2024-03-04
to = 2024-03-11
step_minutes = 15

[prices]
day_ahead = { file = "prices.csv", column = "eur_mwh" }
fcr = { file = "fcr.csv", column = "eur_mw" }

[fleet]
sessions = "sessions.csv"
charge_efficiency = 0.94
discharge_efficiency = 0.94
min_energy_fraction = 0.1
v2g_share = 1.0
departure_known = true

[[site]]
id = "work"
import_limit_kw = 80.0
export_limit_kw = 60.0

[[site]]
id = "street"
import_limit_kw = 60.0
export_limit_kw = 40.0

[costs]
wear_per_mwh = 30.0

[markets]
day_ahead = true
fcr = { enabled = true, power_factor = 1.25, endurance_minutes = 30, headroom = "window", recovery_steps = 2 }
"#;

/// Writes the scenario into `folder` and gives the path of its TOML file.
pub(crate) fn write(folder: &Path) -> anyhow::Result<PathBuf> {
    let put = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).with_context(|| format!("{}: not writable", file.display()))?;
        Ok::<_, anyhow::Error>(file)
    };
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    put("prices.csv", &prices())?;
    put("fcr.csv", &fcr())?;
    put("sessions.csv", &sessions())?;
    put("scenario.toml", SCENARIO)
}

/// An instant of the week in UTC. Local time is one hour ahead; hours may go past midnight.
fn instant(day: u32, local_hour: u32, minute: u32) -> String {
    let hour = day * 24 + local_hour + 23;
    format!(
        "2024-03-{:02}T{:02}:{minute:02}:00Z",
        3 + hour / 24,
        hour % 24
    )
}

/// Whole numbers that look drawn, the same each time (Lehmer 1951, multiplier of Park and Miller 1988).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u32) -> u32 {
        self.0 = self.0 * 48_271 % 2_147_483_647;
        u32::try_from(self.0 % u64::from(end)).unwrap_or_default()
    }
}

fn prices() -> String {
    let mut draw = Draw(7);
    let mut text = String::from("utc_start,eur_mwh\n");
    for day in 0..DAYS {
        for hour in 0..24 {
            let shape = match hour {
                0..6 => 52.0,
                6..10 => 105.0,
                11..15 if day >= 5 => -18.0,
                10..16 => 38.0,
                16..21 => 128.0,
                _ => 74.0,
            };
            let price = shape + f64::from(draw.below(160)) / 10.0 - 8.0;
            let _ = writeln!(text, "{},{price:.2}", instant(day, hour, 0));
        }
    }
    text
}

fn fcr() -> String {
    let mut draw = Draw(11);
    let mut text = String::from("utc_start,utc_end,eur_mw\n");
    for day in 0..DAYS {
        for block in 0..6 {
            let price = 30.0 + f64::from(draw.below(500)) / 10.0;
            let (start, end) = (instant(day, 4 * block, 0), instant(day, 4 * block + 4, 0));
            let _ = writeln!(text, "{start},{end},{price:.2}");
        }
    }
    text
}

fn sessions() -> String {
    let mut draw = Draw(23);
    let mut text = String::from(
        "session_id,evse_id,vehicle_id,site_id,plug_in,plug_out,energy_arrival_kwh,energy_required_kwh,capacity_kwh,max_charge_kw,max_discharge_kw\n",
    );
    let mut line = |site: &str, car: u32, day: u32, from: (u32, u32), to: (u32, u32)| {
        let (plug_in, plug_out) = (instant(day, from.0, from.1), instant(day, to.0, to.1));
        let arrival = 14 + draw.below(20);
        let required = 44 + draw.below(8);
        let _ = writeln!(
            text,
            "{site}-{car}-{day},{site}-{car},{site}-car-{car},{site},{plug_in},{plug_out},{arrival}.0,{required}.0,60.0,11.0,10.0"
        );
    };
    for day in 0..DAYS {
        for car in 0..AT_WORK {
            if day < 5 {
                line(
                    "work",
                    car,
                    day,
                    (7 + car % 3, 15 * (car % 4)),
                    (16 + car % 2, 15 * (car % 3)),
                );
            }
        }
        for car in 0..AT_HOME {
            if day + 1 < DAYS {
                line(
                    "street",
                    car,
                    day,
                    (17 + car % 4, 15 * (car % 4)),
                    (30 + car % 3, 0),
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_hours_become_instants_across_midnight() {
        assert_eq!(instant(0, 0, 0), "2024-03-03T23:00:00Z");
        assert_eq!(instant(0, 8, 15), "2024-03-04T07:15:00Z");
        assert_eq!(instant(5, 30, 0), "2024-03-10T05:00:00Z");
    }

    #[test]
    fn the_same_week_is_written_each_time_and_every_stay_ends_after_it_begins() {
        assert_eq!(sessions(), sessions());
        for line in sessions().lines().skip(1) {
            let fields: Vec<&str> = line.split(',').collect();
            assert!(fields[4] < fields[5], "{line}");
        }
        assert_eq!(prices().lines().count(), 1 + 7 * 24);
        assert_eq!(fcr().lines().count(), 1 + 7 * 6);
    }
}
