//! How long a signal takes to reach the wire, in real time whatever the clock's speed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Signals that may still get set-points; older ones are counted as done.
const OPEN_SIGNALS: usize = 4_096;
/// Finished signals kept for quantiles: more than a day of one signal a second.
const KEPT: usize = 100_000;

/// From the instant a signal was received to the last set-point it caused on the wire.
///
/// The gateway says [`started`](Self::started), the edge says [`written`](Self::written); both hold clones of one
/// probe. A signal that caused no set-point does not count.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<Mutex<Signals>>);

#[derive(Debug, Default)]
struct Signals {
    open: BTreeMap<String, Open>,
    order: VecDeque<String>,
    done: VecDeque<f64>,
    writes: u64,
}

#[derive(Debug)]
struct Open {
    started: Instant,
    last_ms: Option<f64>,
}

/// Quantiles of the signal path in real milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quantiles {
    /// Signals that caused at least one set-point on the wire.
    pub signals: u64,
    /// Set-points written.
    pub writes: u64,
    /// Half of the signals were faster.
    pub p50_ms: f64,
    /// 99 of 100 were faster.
    pub p99_ms: f64,
    /// The slowest.
    pub max_ms: f64,
}

impl Probe {
    /// A probe that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A signal was received now.
    pub fn started(&self, signal: &str) {
        let mut signals = self.lock();
        let open = Open {
            started: Instant::now(),
            last_ms: None,
        };
        if signals.open.insert(signal.to_owned(), open).is_none() {
            signals.order.push_back(signal.to_owned());
        }
        while signals.order.len() > OPEN_SIGNALS {
            signals.finish_oldest();
        }
    }

    /// `count` set-points caused by the signal have just been written to sockets. A signal nobody started is ignored.
    pub fn written(&self, signal: &str, count: u64) {
        let mut signals = self.lock();
        if let Some(open) = signals.open.get_mut(signal) {
            open.last_ms = Some(open.started.elapsed().as_secs_f64() * 1e3);
            signals.writes += count;
        }
    }

    /// Quantiles over the newest signals, those in progress included; zeros before the first.
    #[must_use]
    pub fn quantiles(&self) -> Quantiles {
        let signals = self.lock();
        let mut times: Vec<f64> = signals.done.iter().copied().collect();
        times.extend(signals.open.values().filter_map(|open| open.last_ms));
        let writes = signals.writes;
        drop(signals);
        times.sort_by(f64::total_cmp);
        let at = |per_cent: usize| {
            let rank = (times.len() * per_cent).div_ceil(100).max(1) - 1;
            times.get(rank).copied().unwrap_or(0.0)
        };
        Quantiles {
            signals: times.len() as u64,
            writes,
            p50_ms: at(50),
            p99_ms: at(99),
            max_ms: times.last().copied().unwrap_or(0.0),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Signals> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Signals {
    fn finish_oldest(&mut self) {
        let oldest = self.order.pop_front();
        let last = oldest.and_then(|name| self.open.remove(&name)?.last_ms);
        self.done.extend(last);
        if self.done.len() > KEPT {
            self.done.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_last_write_counts_and_silent_signals_do_not() {
        let probe = Probe::new();
        probe.started("a");
        probe.started("silent");
        probe.written("a", 2);
        std::thread::sleep(Duration::from_millis(20));
        probe.written("a", 1);
        probe.written("unknown", 1);
        let seen = probe.quantiles();
        assert_eq!((seen.signals, seen.writes), (1, 3));
        assert!(seen.p99_ms >= 20.0, "{seen:?}");
        assert!(seen.max_ms >= seen.p50_ms);
    }

    #[test]
    fn memory_is_bounded_and_finished_signals_still_count() {
        let probe = Probe::new();
        for n in 0..OPEN_SIGNALS + 10 {
            probe.started(&n.to_string());
            probe.written(&n.to_string(), 1);
        }
        let held = probe.lock().open.len();
        assert_eq!(held, OPEN_SIGNALS);
        assert_eq!(probe.quantiles().signals, (OPEN_SIGNALS + 10) as u64);
    }
}
