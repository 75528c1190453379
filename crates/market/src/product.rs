//! What can be sold.

use serde::{Deserialize, Serialize};

/// Direction of a volume at the market's border; inside, the sign of power says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Relieves a shortage: fleet power falls. For energy: we sell.
    Up,
    /// Relieves a surplus: fleet power rises. For energy: we buy.
    Down,
    /// Both at once (frequency containment reserve).
    Symmetric,
}

/// A kind of product; its rules are dated data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Product {
    /// Energy of the day-ahead auction, per market time unit.
    DayAhead,
    /// Frequency containment reserve, symmetric capacity in blocks.
    Fcr,
    /// Automatic frequency restoration reserve, capacity up.
    AfrrUp,
    /// Automatic frequency restoration reserve, capacity down.
    AfrrDown,
}

impl Product {
    /// All products.
    pub const ALL: [Self; 4] = [Self::DayAhead, Self::Fcr, Self::AfrrUp, Self::AfrrDown];

    /// Name as written in reports, topics and configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::DayAhead => "day_ahead",
            Self::Fcr => "fcr",
            Self::AfrrUp => "afrr_up",
            Self::AfrrDown => "afrr_down",
        }
    }

    /// True for capacity held in reserve, false for energy.
    #[must_use]
    pub const fn is_reserve(self) -> bool {
        !matches!(self, Self::DayAhead)
    }
}
