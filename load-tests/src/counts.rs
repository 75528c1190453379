//! What a fleet counts, and how it is put together from several processes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longest time told apart, in microseconds: ten minutes.
const LONGEST: u64 = 600_000_000;
/// Digits that are kept.
const DIGITS: u8 = 3;

/// Times, to three digits. Cheap to share between tasks.
#[derive(Debug)]
pub(crate) struct Times(Mutex<Histogram<u64>>);

impl Default for Times {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "the bounds are constants that fit")]
        let empty = Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("valid bounds");
        Self(Mutex::new(empty))
    }
}

impl Times {
    pub(crate) fn add(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(LONGEST);
        self.put(micros, 1);
    }

    fn put(&self, micros: u64, count: u64) {
        let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times.saturating_record_n(micros.max(1), count);
    }

    /// Every time met with its count, in microseconds.
    pub(crate) fn all(&self) -> Vec<(u64, u64)> {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        times
            .iter_recorded()
            .map(|met| (met.value_iterated_to(), met.count_at_value()))
            .collect()
    }

    /// Adds what another process met.
    pub(crate) fn join(&self, met: &[(u64, u64)]) {
        for (micros, count) in met {
            self.put(*micros, *count);
        }
    }

    pub(crate) fn quantiles(&self) -> Quantiles {
        let times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if times.is_empty() {
            return Quantiles::default();
        }
        #[expect(clippy::cast_precision_loss, reason = "at most ten minutes")]
        let ms = |micros: u64| micros as f64 / 1e3;
        Quantiles {
            count: times.len(),
            p50_ms: Some(ms(times.value_at_quantile(0.5))),
            p99_ms: Some(ms(times.value_at_quantile(0.99))),
            max_ms: Some(ms(times.max())),
        }
    }
}

/// A distribution of times; without a single one its figures are missing, not zero.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Quantiles {
    pub(crate) count: u64,
    pub(crate) p50_ms: Option<f64>,
    pub(crate) p99_ms: Option<f64>,
    pub(crate) max_ms: Option<f64>,
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counters of a running fleet.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $name: AtomicU64,)*
            /// From a call to its answer.
            pub(crate) answer_times: Times,
            /// From the first attempt to a finished upgrade.
            pub(crate) connect_times: Times,
        }

        /// The same at one moment, to be added up.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        pub(crate) struct Figures {
            $($(#[$doc])* pub(crate) $name: u64,)*
        }

        impl Counts {
            pub(crate) fn figures(&self) -> Figures {
                Figures { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }

        impl std::ops::AddAssign<&Figures> for Figures {
            fn add_assign(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
            }
        }
    };
}

counters! {
    /// Connected now.
    connected,
    /// Connections made in all.
    connects,
    /// Attempts that the system refused or that broke.
    connects_failed,
    /// Attempts that the server turned away with an HTTP status.
    connects_refused,
    /// Connections that ended without being asked to.
    disconnects,
    /// Calls written.
    sent,
    /// Calls answered with a result.
    answered,
    /// Calls answered with an error.
    refused,
    /// Calls that were not answered in time and are sent again.
    timed_out,
    /// Messages of transactions that are not answered yet.
    in_hand,
    /// Meter values told and answered.
    meter_values,
    /// Meter values held back, sent twice, sent out of order, never sent: on purpose.
    faults_made,
    /// Meter values dropped because a station was offline for too long.
    overflowed,
    /// Set-points obeyed.
    setpoints_taken,
    /// Set-points and other calls refused.
    setpoints_refused,
    /// Calls left without an answer on purpose.
    left_unanswered,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Takes one away.
pub(crate) fn discount(counter: &AtomicU64) {
    counter.fetch_sub(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_two_processes_add_up() {
        let (one, two) = (Times::default(), Times::default());
        for ms in 1..=100 {
            one.add(Duration::from_millis(ms));
            two.add(Duration::from_millis(1_000 + ms));
        }
        one.join(&two.all());
        let all = one.quantiles();
        assert_eq!(all.count, 200);
        let near = |met: Option<f64>, wanted: f64| {
            let met = met.unwrap();
            assert!((met / wanted - 1.0).abs() < 0.002, "{met} {wanted}");
        };
        near(all.p50_ms, 100.0);
        near(all.p99_ms, 1_098.0);
        near(all.max_ms, 1_100.0);
    }

    #[test]
    fn without_a_time_there_is_no_quantile() {
        assert_eq!(Times::default().quantiles().p99_ms, None);
    }
}
