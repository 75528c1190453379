//! What `shoal demo` can be told.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{NaiveTime, TimeDelta};

use crate::cli::CliError;

/// Simulated seconds per real second unless told otherwise: a day in under three minutes, a quarter hour in a second
/// and a half, so that a person can follow it.
const DEFAULT_SPEED: f64 = 600.0;
/// Beyond this a quarter hour is shorter than one trip of a message through the platform.
const FASTEST: f64 = 20_000.0;
/// More vehicles than one process with two cores can play honestly.
const MOST_VEHICLES: usize = 20_000;

/// The day begins before the first gate (FCR at 08:00).
pub(super) const BEGINS: NaiveTime =
    NaiveTime::from_hms_opt(6, 0, 0).expect("06:00 is a time of day");

/// Options of `shoal demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  shoal demo --for 60s --speed 2400 --headless --json")]
pub(crate) struct Args {
    /// Simulated seconds per real second; 1 runs the real-time loop as it is
    #[arg(long, default_value_t = DEFAULT_SPEED)]
    pub(super) speed: f64,
    /// End after this much real time and print the outcome, for example 60s or 5m
    #[arg(long = "for", value_parser = humantime::parse_duration, value_name = "DUR")]
    pub(super) length: Option<Duration>,
    /// Cars
    #[arg(long, default_value_t = 200)]
    pub(super) vehicles: usize,
    /// Buses
    #[arg(long, default_value_t = 30)]
    pub(super) buses: usize,
    /// Everything random follows from it
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Where the console listens
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(super) listen: SocketAddr,
    /// Keep the log and the tables here; must be empty or new
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// No console
    #[arg(long)]
    pub(super) headless: bool,
}

impl Args {
    /// Refuses what cannot be played.
    ///
    /// # Errors
    /// Status 2 with the option, the value met and what was expected.
    pub(super) fn check(&self) -> Result<(), CliError> {
        let refuse = |option: &str, met: &dyn std::fmt::Display, expected: &str| {
            Err(CliError::Input(format!(
                "--{option}: met {met}, expected {expected}"
            )))
        };
        if !(self.speed >= 1.0 && self.speed <= FASTEST) {
            return refuse("speed", &self.speed, "1 to 20000");
        }
        if self.vehicles + self.buses > MOST_VEHICLES {
            return refuse(
                "vehicles",
                &(self.vehicles + self.buses),
                "at most 20000 cars and buses together",
            );
        }
        if self
            .length
            .is_some_and(|length| length < Duration::from_secs(1))
        {
            return refuse(
                "for",
                &humantime::format_duration(self.length.unwrap_or_default()),
                "at least 1s",
            );
        }
        if let Some(dir) = &self.data_dir
            && dir
                .read_dir()
                .is_ok_and(|mut entries| entries.next().is_some())
        {
            return refuse(
                "data-dir",
                &dir.display(),
                "an empty or new folder: this one holds something already",
            );
        }
        Ok(())
    }

    /// Simulated time that will be played; `None` without `--for`.
    pub(super) fn simulated(&self) -> Option<TimeDelta> {
        let seconds = self.length?.as_secs_f64() * self.speed;
        TimeDelta::from_std(Duration::try_from_secs_f64(seconds).ok()?).ok()
    }
}
