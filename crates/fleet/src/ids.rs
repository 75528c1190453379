//! Names of the things in a fleet, each a type of its own.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use units::{Id, IdError};

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Id);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(name: &str) -> Result<Self, IdError> {
                name.parse().map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

name!(
    /// A charging station: one OCPP identity, one websocket.
    StationId
);
name!(
    /// One outlet that serves one vehicle at a time; unique over the fleet (`STATION/1`).
    EvseId
);
name!(
    /// A car or a bus.
    VehicleId
);
name!(
    /// A grid connection point with its fuse.
    SiteId
);
name!(
    /// One stay of one vehicle at one EVSE, from plug-in to plug-out.
    SessionId
);
name!(
    /// One command to one EVSE.
    SetpointId
);
name!(
    /// One call of a grid operator (a frequency sample, an activation); every set-point names what caused it.
    SignalId
);
