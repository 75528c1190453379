//! Market areas: zone of the delivery day and currency.

use std::fmt;
use std::str::FromStr;

use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use units::Currency;

/// A bidding zone or tariff area that a fleet is sold in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Area {
    /// Germany and Luxembourg.
    De,
    /// Netherlands.
    Nl,
    /// France.
    Fr,
    /// Great Britain.
    Gb,
    /// Denmark, west.
    Dk1,
    /// Denmark, east.
    Dk2,
    /// Finland.
    Fi,
    /// Thailand.
    Th,
    /// California.
    UsCa,
    /// Japan.
    Jp,
}

/// A code that names no area.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("area {0:?} is unknown, expected one of DE, NL, FR, GB, DK1, DK2, FI, TH, US-CA, JP")]
pub struct AreaError(pub String);

impl Area {
    /// All areas.
    pub const ALL: [Self; 10] = [
        Self::De,
        Self::Nl,
        Self::Fr,
        Self::Gb,
        Self::Dk1,
        Self::Dk2,
        Self::Fi,
        Self::Th,
        Self::UsCa,
        Self::Jp,
    ];

    /// Code as written in scenarios and reports.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::De => "DE",
            Self::Nl => "NL",
            Self::Fr => "FR",
            Self::Gb => "GB",
            Self::Dk1 => "DK1",
            Self::Dk2 => "DK2",
            Self::Fi => "FI",
            Self::Th => "TH",
            Self::UsCa => "US-CA",
            Self::Jp => "JP",
        }
    }

    /// Zone whose midnights bound the local date.
    #[must_use]
    pub const fn zone(self) -> Tz {
        match self {
            Self::De => Tz::Europe__Berlin,
            Self::Nl => Tz::Europe__Amsterdam,
            Self::Fr => Tz::Europe__Paris,
            Self::Gb => Tz::Europe__London,
            Self::Dk1 | Self::Dk2 => Tz::Europe__Copenhagen,
            Self::Fi => Tz::Europe__Helsinki,
            Self::Th => Tz::Asia__Bangkok,
            Self::UsCa => Tz::America__Los_Angeles,
            Self::Jp => Tz::Asia__Tokyo,
        }
    }

    /// Zone of the delivery day of the power exchange: the coupled European auctions use the CET/CEST day in every
    /// participating zone (`markets.md` 1.2).
    #[must_use]
    pub const fn exchange_zone(self) -> Tz {
        match self {
            Self::De | Self::Nl | Self::Fr | Self::Dk1 | Self::Dk2 | Self::Fi => {
                Tz::Europe__Brussels
            }
            Self::Gb | Self::Th | Self::UsCa | Self::Jp => self.zone(),
        }
    }

    /// Currency of prices and statements.
    #[must_use]
    pub const fn currency(self) -> Currency {
        match self {
            Self::De | Self::Nl | Self::Fr | Self::Dk1 | Self::Dk2 | Self::Fi => Currency::Eur,
            Self::Gb => Currency::Gbp,
            Self::Th => Currency::Thb,
            Self::UsCa => Currency::Usd,
            Self::Jp => Currency::Jpy,
        }
    }
}

impl FromStr for Area {
    type Err = AreaError;
    fn from_str(code: &str) -> Result<Self, AreaError> {
        Self::ALL
            .into_iter()
            .find(|a| a.code() == code)
            .ok_or_else(|| AreaError(code.to_owned()))
    }
}

impl TryFrom<String> for Area {
    type Error = AreaError;
    fn try_from(code: String) -> Result<Self, AreaError> {
        code.parse()
    }
}

impl From<Area> for String {
    fn from(area: Area) -> Self {
        area.code().to_owned()
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}
