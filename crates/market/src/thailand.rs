//! Time of use and demand charge of Thailand: the tariff is the market there [TH-MEA, TH-CAP].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, Utc, Weekday};
use chrono_tz::Tz;
use rust_decimal::Decimal;
use serde::Deserialize;
use units::{Currency, Money, Power};

/// What a day off means to the tariff.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolidayKind {
    /// Off-peak all day.
    Official,
    /// Given for a holiday on a weekend: an ordinary weekday to the tariff.
    Substitution,
    /// Royal Ploughing Ceremony: an ordinary weekday to the tariff.
    Ploughing,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Holiday {
    date: NaiveDate,
    #[expect(dead_code, reason = "for the reader of the table")]
    name: String,
    kind: HolidayKind,
}

/// Charges of one connection class, THB before Ft and VAT.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Name of the class.
    pub class: String,
    /// Energy in peak hours, THB per kWh.
    pub peak: Decimal,
    /// Energy in other hours, THB per kWh.
    pub off_peak: Decimal,
    /// Demand, THB per kW and month.
    pub demand: Decimal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    zone: Tz,
    peak_from: String,
    peak_to: String,
    ratchet_months: u32,
    ratchet_percent: u32,
    rate: Vec<Rate>,
    holiday: Vec<Holiday>,
}

/// The tariff with its holidays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    zone: Tz,
    peak: (NaiveTime, NaiveTime),
    ratchet: Decimal,
    ratchet_months: u32,
    rates: Vec<Rate>,
    holidays: BTreeMap<NaiveDate, HolidayKind>,
}

/// A tariff file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TariffError {
    /// Not TOML of the expected shape.
    #[error("tariff does not read: {0}")]
    Shape(#[from] toml::de::Error),
    /// A time that is not `HH:MM`.
    #[error("tariff time {0:?} is not of the form 09:00")]
    Time(String),
}

static BUILT_IN: LazyLock<Tariff> = LazyLock::new(|| {
    #[expect(
        clippy::expect_used,
        reason = "the embedded tariff is read by a test of this crate"
    )]
    Tariff::from_toml(include_str!("../data/thailand.toml")).expect("the embedded tariff is valid")
});

impl Tariff {
    /// The tariff that ships with this version.
    #[must_use]
    pub fn built_in() -> &'static Self {
        &BUILT_IN
    }

    /// A tariff from TOML of the shape of `data/thailand.toml`.
    ///
    /// # Errors
    /// [`TariffError`] for text that does not read.
    pub fn from_toml(text: &str) -> Result<Self, TariffError> {
        let file: File = toml::from_str(text)?;
        let time = |text: &str| {
            NaiveTime::parse_from_str(text, "%H:%M").map_err(|_| TariffError::Time(text.to_owned()))
        };
        Ok(Self {
            zone: file.zone,
            peak: (time(&file.peak_from)?, time(&file.peak_to)?),
            ratchet: Decimal::new(i64::from(file.ratchet_percent), 2),
            ratchet_months: file.ratchet_months,
            rates: file.rate,
            holidays: file.holiday.into_iter().map(|h| (h.date, h.kind)).collect(),
        })
    }

    /// True in peak hours: Monday to Friday 09:00 to 22:00 local, except official holidays. Substitution days and the Ploughing
    /// Ceremony are peak.
    #[must_use]
    pub fn is_peak(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.zone);
        let weekend = matches!(local.weekday(), Weekday::Sat | Weekday::Sun);
        let holiday = self.holidays.get(&local.date_naive()) == Some(&HolidayKind::Official);
        !weekend && !holiday && self.peak.0 <= local.time() && local.time() < self.peak.1
    }

    /// Charges of a class; `None` for a class that the table does not name.
    #[must_use]
    pub fn rate(&self, class: &str) -> Option<&Rate> {
        self.rates.iter().find(|r| r.class == class)
    }

    /// Months over which the highest demand is remembered.
    #[must_use]
    pub const fn ratchet_months(&self) -> u32 {
        self.ratchet_months
    }

    /// Power that the demand charge is billed on, whole kW: the highest quarter-hour mean in peak hours of the month, and at least 70 % of
    /// the highest of the months before.
    #[must_use]
    pub fn billed_kw(&self, month_peak: Power, highest_before: Power) -> Decimal {
        let kw = |power: Power| (Decimal::from(power.watts()) / Decimal::from(1_000)).round();
        kw(month_peak).max(kw(highest_before) * self.ratchet)
    }

    /// The demand charge of a month; paid, so negative.
    #[must_use]
    pub fn demand_charge(&self, rate: &Rate, month_peak: Power, highest_before: Power) -> Money {
        Money::new(
            -(self.billed_kw(month_peak, highest_before) * rate.demand),
            Currency::Thb,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peak(local: &str) -> bool {
        let at = DateTime::parse_from_rfc3339(&format!("{local}:00+07:00")).unwrap();
        Tariff::built_in().is_peak(at.to_utc())
    }

    #[test]
    fn weekends_and_official_holidays_are_off_peak() {
        assert!(!peak("2026-06-06T10:00"), "Saturday");
        assert!(!peak("2026-04-13T10:00"), "Songkran, a Monday");
        assert!(!peak("2026-05-01T10:00"), "Labour Day, a Friday");
        assert!(peak("2026-06-05T10:00"), "Friday");
    }

    #[test]
    fn substitution_days_and_the_ploughing_ceremony_are_peak() {
        assert!(
            peak("2026-06-01T10:00"),
            "Monday, substitution for Visakha Bucha"
        );
        assert!(
            peak("2026-12-07T10:00"),
            "Monday, substitution for 5 December"
        );
        assert!(peak("2026-05-13T10:00"), "Royal Ploughing Ceremony");
    }

    #[test]
    fn peak_runs_from_nine_up_to_ten_at_night() {
        assert!(!peak("2026-06-05T08:59"));
        assert!(peak("2026-06-05T09:00"));
        assert!(peak("2026-06-05T21:59"));
        assert!(!peak("2026-06-05T22:00"));
    }

    #[test]
    fn one_bad_month_is_billed_for_a_year() {
        let tariff = Tariff::built_in();
        let rate = tariff.rate("large_12_24kv").unwrap();
        let (month, before) = (Power::from_kw(600.0), Power::from_kw(1_000.0));
        assert_eq!(tariff.billed_kw(month, before), Decimal::from(700));
        assert_eq!(
            tariff.demand_charge(rate, month, before),
            Money::new(Decimal::from(-93_051), Currency::Thb)
        );
        assert_eq!(
            tariff.billed_kw(Power::from_kw(800.4), before),
            Decimal::from(800)
        );
        assert_eq!(tariff.ratchet_months(), 12);
    }
}
