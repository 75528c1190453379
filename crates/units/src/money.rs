//! Money and prices: decimal, with their currency.

use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub};
use std::str::FromStr;

use rust_decimal::Decimal;
use rust_decimal::prelude::{FromPrimitive, ToPrimitive};
use serde::{Deserialize, Serialize};

use crate::Energy;

/// Currency of a market area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Currency {
    /// Euro.
    Eur,
    /// Pound sterling.
    Gbp,
    /// United States dollar.
    Usd,
    /// Thai baht.
    Thb,
    /// Japanese yen.
    Jpy,
}

impl Currency {
    /// ISO 4217 code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Eur => "EUR",
            Self::Gbp => "GBP",
            Self::Usd => "USD",
            Self::Thb => "THB",
            Self::Jpy => "JPY",
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// A currency code that no area uses.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("currency {0:?} is unknown, expected one of EUR, GBP, USD, THB, JPY")]
pub struct CurrencyError(pub String);

impl FromStr for Currency {
    type Err = CurrencyError;
    fn from_str(code: &str) -> Result<Self, CurrencyError> {
        [Self::Eur, Self::Gbp, Self::Usd, Self::Thb, Self::Jpy]
            .into_iter()
            .find(|c| c.code() == code)
            .ok_or_else(|| CurrencyError(code.to_owned()))
    }
}

/// An amount of money, exact to the decimal.
///
/// # Panics
/// Adding amounts of two currencies panics: it is a programming error that no rate can mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Money {
    amount: Decimal,
    currency: Currency,
}

impl Money {
    /// `amount` of `currency`; positive is received by us.
    #[must_use]
    pub const fn new(amount: Decimal, currency: Currency) -> Self {
        Self { amount, currency }
    }

    /// Nothing, in `currency`.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self {
            amount: Decimal::ZERO,
            currency,
        }
    }

    /// Exact amount.
    #[must_use]
    pub const fn amount(self) -> Decimal {
        self.amount
    }

    /// Currency of the amount.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// Amount as floating point, for reports and kernels.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.amount.to_f64().unwrap_or(f64::NAN)
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        assert_eq!(
            self.currency, other.currency,
            "amounts of two currencies cannot be added"
        );
        Self {
            amount: self.amount + other.amount,
            currency: self.currency,
        }
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self {
            amount: -self.amount,
            currency: self.currency,
        }
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} {}", self.amount, self.currency)
    }
}

/// A price per megawatt hour (energy) or per megawatt (capacity, for the span its product names).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Price {
    per_unit: Decimal,
    currency: Currency,
}

impl Price {
    /// `per_unit` of `currency` per MWh or MW.
    #[must_use]
    pub const fn new(per_unit: Decimal, currency: Currency) -> Self {
        Self { per_unit, currency }
    }

    /// Price from floating point, rounded to `decimals`; `None` if it is not finite.
    #[must_use]
    pub fn from_f64(per_unit: f64, decimals: u32, currency: Currency) -> Option<Self> {
        Decimal::from_f64(per_unit).map(|p| Self {
            per_unit: p.round_dp(decimals),
            currency,
        })
    }

    /// Amount per unit.
    #[must_use]
    pub const fn per_unit(self) -> Decimal {
        self.per_unit
    }

    /// Amount per unit as floating point.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        self.per_unit.to_f64().unwrap_or(f64::NAN)
    }

    /// Currency of the price.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// What `energy` costs at this price per MWh: positive energy (taken from the grid) is paid, so money is
    /// negative.
    #[must_use]
    pub fn pay_for(self, energy: Energy) -> Money {
        const JOULES_PER_MWH: i64 = 3_600_000_000;
        let mwh = Decimal::from(energy.joules()) / Decimal::from(JOULES_PER_MWH);
        Money::new(-(mwh * self.per_unit), self.currency)
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.per_unit, self.currency)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn energy_taken_is_paid_and_energy_given_is_earned() {
        let price = Price::new(Decimal::new(8050, 2), Currency::Eur);
        let bought = price.pay_for(Energy::from_kwh(1_000.0));
        assert_eq!(bought.to_string(), "-80.50 EUR");
        assert_eq!(price.pay_for(-Energy::from_kwh(1_000.0)), -bought);
    }

    #[test]
    #[should_panic(expected = "two currencies")]
    fn amounts_of_two_currencies_do_not_add() {
        let _ = Money::zero(Currency::Eur) + Money::zero(Currency::Gbp);
    }
}
