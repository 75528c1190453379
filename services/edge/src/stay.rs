//! Names of stays and the numbers of OCPP 1.6 transactions: derived, so that a restart forgets nothing.

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{EvseId, SessionId};
use uuid::Uuid;

/// First second that a transaction number can name: 2020-01-01T00:00:00Z.
const EPOCH_SECONDS: i64 = 1_577_836_800;
/// Connectors whose number fits; larger 1.6 stations are refused.
const CONNECTORS: i64 = 4;

/// Name of a stay: `{evse}:{transaction}`, or a digest of it where that is too long for a name.
pub(crate) fn session_id(evse: &EvseId, transaction: &str) -> SessionId {
    let plain = format!("{evse}:{transaction}");
    let named = plain.parse().or_else(|_| {
        let digest = Uuid::new_v5(&Uuid::NAMESPACE_URL, plain.as_bytes());
        digest.to_string().parse()
    });
    #[expect(clippy::expect_used, reason = "a UUID is 36 printable characters")]
    named.expect("a digest is a valid name")
}

/// Number of a 1.6 transaction: seconds since 2020 times four plus the connector. Reaches until January 2037.
/// `None` for a connector beyond the fourth or an instant that cannot be numbered.
pub(crate) fn transaction_number(connector: i32, started: DateTime<Utc>) -> Option<i32> {
    let place = i64::from(connector) - 1;
    let seconds = started.timestamp() - EPOCH_SECONDS;
    if !(0..CONNECTORS).contains(&place) || seconds < 0 {
        return None;
    }
    i32::try_from(seconds * CONNECTORS + place).ok()
}

/// Connector and start named by a transaction number that we gave; `None` for one that we cannot have given.
pub(crate) fn named_by(transaction: i32) -> Option<(i32, DateTime<Utc>)> {
    let number = i64::from(transaction);
    if number < 0 {
        return None;
    }
    let started = DateTime::UNIX_EPOCH + TimeDelta::seconds(number / CONNECTORS + EPOCH_SECONDS);
    let connector = i32::try_from(number % CONNECTORS).ok()? + 1;
    Some((connector, started))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_number_names_its_connector_and_start(
            connector in 1_i32..=4, seconds in EPOCH_SECONDS..EPOCH_SECONDS + (1 << 29),
        ) {
            let at = DateTime::from_timestamp(seconds, 0).unwrap();
            let number = transaction_number(connector, at).unwrap();
            prop_assert_eq!(named_by(number), Some((connector, at)));
        }

        #[test]
        fn no_number_panics(number in any::<i32>(), connector in any::<i32>()) {
            let _ = named_by(number);
            let _ = transaction_number(connector, DateTime::UNIX_EPOCH);
        }

        #[test]
        fn every_transaction_has_a_name(transaction in ".{0,80}") {
            let evse: EvseId = "STATION/1".parse().unwrap();
            prop_assert_eq!(session_id(&evse, &transaction), session_id(&evse, &transaction));
        }
    }

    #[test]
    fn the_fifth_connector_has_no_number() {
        let at = DateTime::from_timestamp(EPOCH_SECONDS, 0).unwrap();
        assert_eq!(transaction_number(5, at), None);
        assert_eq!(transaction_number(0, at), None);
    }
}
