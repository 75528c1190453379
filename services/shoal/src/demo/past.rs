//! A past to forecast from: weeks of stays of the same fleet, charged by nobody's plan, and the prices of those weeks.

use ::fleet::state::SessionState;
use ::fleet::{Needs, Session};
use chrono::{DateTime, TimeDelta, Utc};
use sim::fleet::Fleet;
use sim::twin::{self, Stayed};
use store::Tables;
use units::Energy;

/// Same weekdays that a naive forecast looks back on (`forecasting.md`), and one more to start from.
pub(super) const WEEKS: i64 = 9;

/// Stays of `fleet` that ended over the weeks before `now`, charged by nobody's plan.
pub(super) fn play(fleet: &Fleet, now: DateTime<Utc>) -> Vec<Stayed> {
    let mut stays = twin::unmanaged(fleet, now - TimeDelta::weeks(WEEKS), now);
    stays.retain(|s| s.stay.plug_out <= now);
    stays
}

/// Registers the fleet and writes down its past, as onboarding and a year of operation would have.
///
/// # Errors
/// When the tables cannot be written.
pub(super) async fn write(
    tables: &Tables,
    fleet: &Fleet,
    past: &[Stayed],
) -> Result<(), store::StoreError> {
    let sites: Vec<::fleet::charge_point::Site> = fleet
        .sites()
        .iter()
        .map(|site| ::fleet::charge_point::Site {
            id: site.id.clone(),
            name: site.name.clone(),
            import_limit: site.import_limit,
            export_limit: site.export_limit,
        })
        .collect();
    tables.upsert_sites(&sites).await?;
    tables.upsert_evses(fleet.evses()).await?;
    let sessions: Vec<SessionState> = past.iter().map(|stayed| session(fleet, stayed)).collect();
    tables.upsert_sessions(&sessions).await
}

fn session(fleet: &Fleet, stayed: &Stayed) -> SessionState {
    let evse = &fleet.evses()[stayed.stay.vehicle];
    let session = Session {
        id: stayed.stay.id.clone(),
        evse: evse.id.clone(),
        site: evse.site.clone(),
        vehicle: Some(fleet.vehicles()[stayed.stay.vehicle].id.clone()),
        plugged_in: stayed.stay.plug_in,
        unplugged: Some(stayed.stay.plug_out),
        needs: Some(needs(fleet, stayed)),
    };
    SessionState {
        session,
        added: Some(stayed.departure - stayed.arrival),
        soc: None,
    }
}

/// What the driver of a past stay had said. A one-way station of OCPP 1.6 never learns what is in the battery.
pub(super) fn needs(fleet: &Fleet, stayed: &Stayed) -> Needs {
    let (vehicle, evse) = (
        &fleet.vehicles()[stayed.stay.vehicle],
        &fleet.evses()[stayed.stay.vehicle],
    );
    let known = evse.protocol.can_discharge();
    Needs {
        departure: Some(stayed.stay.plug_out),
        energy: (stayed.stay.required - stayed.arrival).max(Energy::ZERO),
        stored: known.then_some(stayed.arrival),
        capacity: known.then_some(vehicle.capacity),
        max_charge: evse.max_charge,
        max_discharge: evse.max_discharge,
        floor: if known { vehicle.floor } else { Energy::ZERO },
    }
}
