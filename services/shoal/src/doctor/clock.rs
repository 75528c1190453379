//! Whether the machine's clock is kept by somebody.

use std::process::Command;

use super::{Finding, Verdict};

const WHAT: &str = "clock";

/// Asks the system; gates are closed by the second, and a signal that seems older than ten seconds is not followed.
pub(super) fn synchronised() -> Finding {
    let asked = Command::new("timedatectl")
        .args(["show", "--property=NTPSynchronized", "--value"])
        .output();
    let said = asked.as_ref().map(|output| output.stdout.trim_ascii());
    match said {
        Ok(b"yes") => Finding::new(WHAT, Verdict::Ok, "kept by NTP"),
        Ok(b"no") => Finding::new(
            WHAT,
            Verdict::Warning,
            "not kept by NTP: gates and the age of signals are judged by it; start chrony or systemd-timesyncd",
        ),
        _ => Finding::new(
            WHAT,
            Verdict::Unknown,
            "timedatectl does not say whether NTP keeps it; see that chrony or the host does",
        ),
    }
}
