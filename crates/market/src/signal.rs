//! What the grid operator sends in real time.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use units::Power;

/// One message of the grid operator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GridSignal {
    /// Name, unique; set-points caused by it carry it.
    pub id: String,
    /// Instant of measurement or command.
    pub at: DateTime<Utc>,
    /// Grid frequency in millihertz above 50 Hz, if measured.
    pub deviation_mhz: Option<f64>,
    /// Wanted aFRR activation in load convention: negative asks fleet power to fall (Up); `None` if no set-point is
    /// in force.
    pub afrr: Option<Power>,
}
