//! Energy that reached the battery since plug-in.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::{Energy, Soc};

use crate::reading::{Accepted, RegisterAt};
use crate::{Evse, Needs};

/// Where the registers and the state of charge stood at plug-in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Baseline {
    import: Option<Energy>,
    export: Option<Energy>,
    soc: Option<Soc>,
}

impl Baseline {
    /// Registers do not move while nothing is plugged in: what was read since the stay before ended is where this one
    /// begins. A register read earlier would count the end of that stay as energy of this one, and the vehicle would leave
    /// with less than it needs.
    pub(super) fn at_plug_in(accepted: &Accepted, idle_since: Option<DateTime<Utc>>) -> Self {
        let value = |register: Option<RegisterAt>| {
            register
                .filter(|r| idle_since.is_none_or(|since| r.at >= since))
                .map(|r| r.value)
        };
        Self {
            import: value(accepted.import),
            export: value(accepted.export),
            soc: None,
        }
    }

    /// Takes the first values of the stay where none was known before.
    pub(super) fn complete(&mut self, accepted: &Accepted, soc: Option<Soc>) {
        self.import = self.import.or(accepted.import.map(|r| r.value));
        self.export = self.export.or(accepted.export.map(|r| r.value));
        self.soc = self.soc.or(soc);
    }

    /// Energy added to the battery: import times the charging efficiency less export over the discharging efficiency;
    /// without registers, what the state of charge gained times the capacity; `None` if neither is known. May be
    /// negative after a discharge. Rounded to the joule.
    pub(super) fn added(
        &self,
        accepted: &Accepted,
        soc: Option<Soc>,
        evse: &Evse,
        needs: Option<&Needs>,
    ) -> Option<Energy> {
        self.by_registers(accepted, evse)
            .or_else(|| self.by_soc(soc, needs))
    }

    fn by_registers(&self, accepted: &Accepted, evse: &Evse) -> Option<Energy> {
        let import = accepted.import?.value - self.import?;
        let export = match (accepted.export, self.export) {
            (Some(now), Some(then)) => now.value - then,
            _ => Energy::ZERO,
        };
        let stored = import.kwh() * evse.charge_efficiency.share()
            - export.kwh() / evse.discharge_efficiency.share();
        Some(Energy::from_kwh(stored))
    }

    fn by_soc(&self, soc: Option<Soc>, needs: Option<&Needs>) -> Option<Energy> {
        let capacity = needs?.capacity?;
        let gained = soc?.share() - self.soc?.share();
        Some(Energy::from_kwh(capacity.kwh() * gained))
    }
}
