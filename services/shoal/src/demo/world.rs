//! The world around the platform: vehicles and their drivers, the clock they live by, the app they tell their needs to.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use runtime::Clock;
use sim::station::{Boxed, DriverApp, Stated, Time};
use tonic::transport::Channel;
use wire::proto::fleet::v1::StateNeedsRequest;
use wire::proto::fleet::v1::fleet_service_client::FleetServiceClient;

/// Real time before a driver taps again when the app did not answer.
const AGAIN: Duration = Duration::from_millis(200);
/// A driver gives up after this many taps: the vehicle then charges at once, as it does when nothing is said.
const ATTEMPTS: u32 = 50;

/// The platform's clock, as the world sees it.
#[derive(Debug, Clone)]
pub(super) struct WorldTime(pub(super) Clock);

impl Time for WorldTime {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

/// The app of drivers whose charge point cannot tell what their vehicle needs.
#[derive(Debug, Clone)]
pub(super) struct App {
    fleet: Channel,
}

impl App {
    /// An app that tells `FleetService` at `fleet`.
    pub(super) fn shared(fleet: Channel) -> Arc<dyn DriverApp> {
        Arc::new(Self { fleet })
    }
}

impl DriverApp for App {
    fn state(&self, stated: Stated) -> Boxed<'_, ()> {
        let mut client = FleetServiceClient::new(self.fleet.clone());
        Box::pin(async move {
            let request = StateNeedsRequest {
                evse_id: stated.evse.to_string(),
                session_id: stated.session.to_string(),
                needs: Some((&stated.needs).into()),
            };
            for _ in 0..ATTEMPTS {
                match client.state_needs(request.clone()).await {
                    Ok(_) => return,
                    Err(status) => {
                        tracing::debug!(session.id = %stated.session, "needs not taken yet: {status}")
                    }
                }
                tokio::time::sleep(AGAIN).await;
            }
            tracing::warn!(session.id = %stated.session, "the driver of {} could not state a need", stated.evse);
        })
    }
}
