//! The present instant, and waiting for a later one.

use std::sync::OnceLock;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// The longest single sleep of the system clock: a wall clock that is set meanwhile is noticed within it.
const LONGEST_NAP: Duration = Duration::from_secs(60);

/// The slowest an accelerated clock may run: slower is a typing error.
const SLOWEST: f64 = 1e-3;

/// The fastest an accelerated clock may run: a day in 86 microseconds is beyond any timer.
const FASTEST: f64 = 1e9;

/// Source of the present instant, in one of two configurations: the system clock, or an accelerated clock that starts at
/// a given instant and runs `speed` times as fast.
///
/// ```text
/// real         0 s ------------ 1 s ------------ 2 s
/// accelerated  start --- start + speed s --- start + 2 speed s
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    accelerated: Option<Accelerated>,
}

#[derive(Debug, Clone, Copy)]
struct Accelerated {
    origin: Instant,
    start: DateTime<Utc>,
    speed: f64,
}

impl Clock {
    /// The wall clock of the machine.
    #[must_use]
    pub const fn system() -> Self {
        Self { accelerated: None }
    }

    /// A clock that shows `start` now and then runs `speed` times as fast as real time. A speed outside 0.001 to 1e9, or
    /// not a number, is brought inside.
    #[must_use]
    pub fn accelerated(start: DateTime<Utc>, speed: f64) -> Self {
        let speed = if speed.is_nan() { 1.0 } else { speed };
        Self {
            accelerated: Some(Accelerated {
                origin: Instant::now(),
                start,
                speed: speed.clamp(SLOWEST, FASTEST),
            }),
        }
    }

    /// This clock, standing still for `span` of real time from now on before it runs. The system clock does not wait.
    #[must_use]
    pub fn after(mut self, span: Duration) -> Self {
        if let Some(clock) = &mut self.accelerated {
            clock.origin = Instant::now() + span;
        }
        self
    }

    /// The present instant, to the microsecond.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.accelerated {
            None => wall(),
            Some(clock) => clock.at(Instant::now().saturating_duration_since(clock.origin)),
        }
    }

    /// Waits until [`Clock::now`] is at or after `at`; returns at once if it is already.
    pub async fn sleep_until(&self, at: DateTime<Utc>) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            let ahead = (at - now).to_std().unwrap_or_default();
            tokio::time::sleep(match &self.accelerated {
                None => ahead.min(LONGEST_NAP),
                Some(clock) => Duration::try_from_secs_f64(ahead.as_secs_f64() / clock.speed)
                    .unwrap_or(LONGEST_NAP)
                    .saturating_add(clock.standing())
                    .max(Duration::from_micros(1)),
            })
            .await;
        }
    }

    /// Waits for `span` of this clock's time; returns at once if it is not positive.
    pub async fn sleep(&self, span: TimeDelta) {
        let now = self.now();
        self.sleep_until(now.checked_add_signed(span).unwrap_or(now))
            .await;
    }

    /// How many times as fast as real time: 1 for the system clock.
    #[must_use]
    pub fn speed(&self) -> f64 {
        self.accelerated.map_or(1.0, |clock| clock.speed)
    }

    /// The real time that `span` of this clock's time takes; zero for a negative span.
    #[must_use]
    pub fn real(&self, span: TimeDelta) -> Duration {
        let seconds = span.to_std().unwrap_or_default().as_secs_f64() / self.speed();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Real milliseconds since some instant early in this process; never steps back. For latencies, not for dates.
    #[must_use]
    pub fn monotonic_ms(&self) -> f64 {
        static ORIGIN: OnceLock<std::time::Instant> = OnceLock::new();
        ORIGIN
            .get_or_init(std::time::Instant::now)
            .elapsed()
            .as_secs_f64()
            * 1e3
    }
}

impl Accelerated {
    /// Real time until it begins to run.
    fn standing(&self) -> Duration {
        self.origin.saturating_duration_since(Instant::now())
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates: 290 000 years of simulated microseconds"
    )]
    fn at(&self, elapsed: Duration) -> DateTime<Utc> {
        let micros = (elapsed.as_secs_f64() * self.speed * 1e6) as i64;
        self.start
            .checked_add_signed(TimeDelta::microseconds(micros))
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl units::Clock for Clock {
    fn now(&self) -> DateTime<Utc> {
        Self::now(self)
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
fn wall() -> DateTime<Utc> {
    let now = Utc::now();
    DateTime::from_timestamp_micros(now.timestamp_micros()).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-03-29T00:00:00Z".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn simulated_time_is_real_time_times_the_speed() {
        let clock = Clock::accelerated(start(), 2400.0);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(clock.now() - start(), TimeDelta::hours(40));
        assert_eq!(
            clock.real(TimeDelta::minutes(15)),
            Duration::from_millis(375)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_sleeper_never_wakes_before_its_instant_and_not_long_after() {
        let clock = Clock::accelerated(start(), 2400.0);
        for minutes in [1, 15, 16, 600] {
            let at = start() + TimeDelta::minutes(minutes);
            clock.sleep_until(at).await;
            assert!(clock.now() >= at);
            // The timer of tokio has a grain of one real millisecond.
            assert!(clock.now() - at <= TimeDelta::milliseconds(2 * 2400));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_waits_stands_still_and_then_runs() {
        let clock = Clock::accelerated(start(), 60.0).after(Duration::from_secs(3));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), start());
        clock.sleep_until(start() + TimeDelta::minutes(1)).await;
        let passed = clock.now() - start();
        assert!(
            passed >= TimeDelta::minutes(1) && passed < TimeDelta::minutes(2),
            "{passed}"
        );
    }

    #[tokio::test]
    async fn a_past_instant_is_not_waited_for() {
        let clock = Clock::system();
        let before = clock.monotonic_ms();
        clock.sleep_until(clock.now() - TimeDelta::hours(1)).await;
        clock.sleep(TimeDelta::hours(-1)).await;
        assert!(clock.monotonic_ms() - before < 1_000.0);
    }

    #[test]
    fn nonsense_speeds_are_brought_inside() {
        for speed in [f64::NAN, -1.0, 0.0, f64::INFINITY] {
            let clock = Clock::accelerated(start(), speed);
            assert!(clock.speed().is_finite() && clock.speed() > 0.0);
            assert!(clock.now() >= start());
        }
    }
}
