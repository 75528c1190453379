//! Names of bids, awards and plans.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, uuid::Error> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_name!(
    /// A bid. Its idempotency key: derived from what is bid for (area, product, delivery, revision), so that the same
    /// bid built twice has the same name and is sent once.
    BidId
);
uuid_name!(
    /// An award.
    AwardId
);
uuid_name!(
    /// A plan of the optimiser.
    PlanId
);

impl BidId {
    /// The name of revision `revision` of our bid in `area` for `product` over the delivery that starts at `start`.
    #[must_use]
    pub fn derive(
        area: &str,
        product: &str,
        start: chrono::DateTime<chrono::Utc>,
        revision: u32,
    ) -> Self {
        let key = format!("{area}|{product}|{}|{revision}", start.timestamp_micros());
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()))
    }
}

impl PlanId {
    /// The name of the plan made for `area` at `solved_at`: the same plan made twice has the same name.
    #[must_use]
    pub fn derive(area: &str, solved_at: chrono::DateTime<chrono::Utc>) -> Self {
        let key = format!("plan|{area}|{}", solved_at.timestamp_micros());
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()))
    }
}

impl AwardId {
    /// The name of the award of `bid`: the same result read twice has the same name.
    #[must_use]
    pub fn derive(bid: BidId) -> Self {
        Self(Uuid::new_v5(
            &Uuid::NAMESPACE_OID,
            format!("award|{bid}").as_bytes(),
        ))
    }
}
