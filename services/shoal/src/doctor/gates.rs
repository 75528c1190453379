//! The gates that come next, on the clock of their market: a person sees at once whether zone and day are right.

use chrono::{DateTime, Utc};
use market::{Product, Rules, gate};

use super::{Finding, Verdict};
use crate::serve::config::Config;

const WHAT: &str = "gates";

pub(super) fn all(config: &Config, now: DateTime<Utc>) -> Vec<Finding> {
    let area = config.gateway.area;
    let mut findings: Vec<Finding> = Product::ALL
        .into_iter()
        .filter_map(|product| {
            let next = gate::next(Rules::built_in(), area, product, now).ok()?;
            let zone = area.exchange_zone();
            let detail = format!(
                "{area} {}: closes {} for delivery from {}",
                product.name(),
                next.closes.with_timezone(&zone).format("%a %F %R %Z"),
                next.delivery
                    .start()
                    .with_timezone(&zone)
                    .format("%a %F %R %Z")
            );
            Some(Finding::new(WHAT, Verdict::Ok, detail))
        })
        .collect();
    if findings.is_empty() {
        let detail = format!("no product of the rule book is traded in {area} within two weeks");
        findings.push(Finding::new(WHAT, Verdict::Wrong, detail));
    }
    let (bids, plans) = (config.gateway.area, config.optimizer.area);
    if bids != plans {
        let detail = format!(
            "gateway.area is {bids} and optimizer.area {plans}: what is planned is sold elsewhere"
        );
        findings.push(Finding::new(WHAT, Verdict::Wrong, detail));
    }
    findings
}
