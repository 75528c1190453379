//! Certificates and keys: whether they read, and how long they hold.

use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use runtime::tls::{Identity, certificates};
use x509_parser::parse_x509_certificate;

use super::{Finding, Verdict};
use crate::serve::Role;
use crate::serve::config::Config;

const WHAT: &str = "credentials";
/// Time in which somebody should renew a certificate.
const SOON: TimeDelta = TimeDelta::days(21);

pub(super) fn all(config: &Config, roles: &[Role], now: DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(files) = &config.tls {
        findings.push(match Identity::open(files.clone()) {
            Ok(_) => Finding::new(WHAT, Verdict::Ok, "[tls] between services reads"),
            Err(error) => Finding::new(WHAT, Verdict::Wrong, format!("[tls] {error}")),
        });
        findings.extend(holds(&files.certificate, now));
        findings.extend(holds(&files.ca, now));
    }
    if roles.contains(&Role::Edge) {
        findings.push(match shoal_edge::check_security(&config.edge) {
            Ok(()) => Finding::new(WHAT, Verdict::Ok, "[edge.security] reads"),
            Err(error) => Finding::new(WHAT, Verdict::Wrong, format!("[edge.security] {error}")),
        });
        let security = &config.edge.security;
        for file in [&security.certificate, &security.client_ca] {
            findings.extend(file.iter().flat_map(|file| holds(file, now)));
        }
    }
    findings
}

/// How long the certificates of a file hold. One that does not read was told already.
fn holds(file: &Path, now: DateTime<Utc>) -> Vec<Finding> {
    let all = certificates(file, "a certificate").unwrap_or_default();
    let judged = all.iter().filter_map(|certificate| {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let validity = parsed.validity();
        let from = DateTime::from_timestamp(validity.not_before.timestamp(), 0)?;
        let until = DateTime::from_timestamp(validity.not_after.timestamp(), 0)?;
        let shown = format!("{}: {}", file.display(), parsed.subject());
        Some(if now < from {
            let text = format!("{shown} holds only from {}", from.format("%F %RZ"));
            Finding::new(WHAT, Verdict::Wrong, text)
        } else if now >= until {
            let text = format!("{shown} has expired on {}", until.format("%F %RZ"));
            Finding::new(WHAT, Verdict::Wrong, text)
        } else if until - now < SOON {
            let days = (until - now).num_days();
            let text = format!("{shown} expires in {days} days: renew it");
            Finding::new(WHAT, Verdict::Warning, text)
        } else {
            let text = format!("{shown} holds until {}", until.format("%F"));
            Finding::new(WHAT, Verdict::Ok, text)
        })
    });
    judged.collect()
}
