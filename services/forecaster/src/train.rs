//! Learning from the past beside the service: once per local day, and what was learned takes its place when it is ready.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use units::DeliveryDay;

use crate::{History, Shared, availability};

/// Starts to learn in the background if a local day has begun since it was done last, and nobody is at it.
pub(crate) async fn if_due(shared: &Arc<Shared>, history: Arc<History>, now: DateTime<Utc>) {
    let midnight = DeliveryDay::containing(now, shared.config.zone).start();
    let before = shared.learned.read().await.clone();
    if before.until().is_some_and(|until| until >= midnight) {
        return;
    }
    let Ok(turn) = shared.training.clone().try_lock_owned() else {
        return;
    };
    let shared = shared.clone();
    tokio::spawn(async move {
        let began = shared.clock.monotonic_ms();
        let config = shared.config.clone();
        let past = (*before).clone();
        let work = move || availability::learn(&config, &history, now, past);
        match tokio::task::spawn_blocking(work).await {
            Ok(Some(learned)) => {
                let seconds = (shared.clock.monotonic_ms() - began) / 1e3;
                metrics::histogram!("shoal_forecast_training_seconds").record(seconds);
                tell(&learned, seconds);
                *shared.learned.write().await = Arc::new(learned);
            }
            Ok(None) => {}
            Err(error) => {
                metrics::counter!("shoal_forecast_failures_total").increment(1);
                tracing::error!("the forecast goes on with what it had learned before: {error}");
            }
        }
        drop(turn);
    });
}

/// How far the model has drifted from what comes.
fn tell(learned: &forecast::availability::Learned, seconds: f64) {
    let alarm = learned.alarm();
    metrics::gauge!("shoal_forecast_fallen_back").set(if alarm { 1.0 } else { 0.0 });
    let Some(watch) = learned.watch() else {
        tracing::info!(
            seconds,
            "learned in {seconds:.1} s; too little came to compare with"
        );
        return;
    };
    metrics::gauge!("shoal_forecast_loss_of_naive_ratio").set(watch.against_naive);
    metrics::gauge!("shoal_forecast_inside_90_ratio").set(watch.inside_90);
    let (loss, inside) = (watch.against_naive, 100.0 * watch.inside_90);
    if alarm {
        metrics::counter!("shoal_forecast_alarms_total").increment(1);
        tracing::error!(
            "the availability forecast lost {loss:.2} of what the naive one did over 14 days: the naive one takes over"
        );
    } else {
        tracing::info!(
            seconds,
            "learned in {seconds:.1} s: {loss:.2} of the naive loss, {inside:.0} % inside the 90 % band"
        );
    }
}
