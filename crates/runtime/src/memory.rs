//! Memory of this process against what it may have: while it runs short, who can come later is asked to come later.
//!
//! The system kills a process that goes beyond its limit, with everything it holds. Long before that, those who ask for more are
//! refused: new connections of stations, and calls that nobody's energy depends on. What is there goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use tokio_util::sync::CancellationToken;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// It is over once use is so many hundredths of the limit lower again: not refused and admitted in turn.
const SLACK: u64 = 5;
/// Calls that are taken however short memory is: signals and whoever stops the platform, results of markets, health.
const SPARED: [&str; 3] = ["/shoal.dispatch.", "/shoal.market.", "/grpc.health."];

static SHORT: AtomicBool = AtomicBool::new(false);

/// True while this process is close to its limit.
#[must_use]
pub fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

/// Counts somebody who was refused for want of memory.
pub fn refused(what: &'static str) {
    metrics::counter!("shoal_memory_refused_total", "what" => what).increment(1);
}

/// Tells how much memory this process uses until `stop`. Above `percent` of its limit it [`is_short`]; where nothing sets a limit,
/// nothing is ever short.
pub async fn watch(percent: u8, stop: CancellationToken) {
    let limit = limit();
    if let Some(limit) = limit {
        #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes")]
        metrics::gauge!("shoal_memory_limit_bytes").set(limit as f64);
    }
    while let Some(used) = resident() {
        #[expect(clippy::cast_precision_loss, reason = "a gauge of bytes")]
        metrics::gauge!("shoal_memory_bytes").set(used as f64);
        if let Some(limit) = limit {
            look(used, limit, u64::from(percent));
        }
        if tokio::time::timeout(LOOK, stop.cancelled()).await.is_ok() {
            return;
        }
    }
}

fn look(used: u64, limit: u64, percent: u64) {
    let was = is_short();
    let short = judge(was, used, limit, percent);
    if short != was {
        let now = if short { "short" } else { "enough again" };
        tracing::warn!(
            used,
            limit,
            "memory is {now}: {used} of {limit} bytes are used"
        );
    }
    SHORT.store(short, Ordering::Relaxed);
}

fn judge(was: bool, used: u64, limit: u64, percent: u64) -> bool {
    let bound = if was {
        percent.saturating_sub(SLACK)
    } else {
        percent
    };
    used.saturating_mul(100) >= limit.saturating_mul(bound)
}

/// Turns calls away while memory is short, save those that must come through.
pub(crate) async fn admit(request: Request, next: Next) -> Response {
    if is_short() && can_wait(request.uri().path()) {
        refused("call");
        return tonic::Status::resource_exhausted("memory is short here: try again later")
            .into_http();
    }
    next.run(request).await
}

fn can_wait(path: &str) -> bool {
    !SPARED.iter().any(|spared| path.starts_with(spared))
}

/// Bytes of this process in memory.
fn resident() -> Option<u64> {
    const UNIT: u64 = 1_024;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * UNIT)
}

/// The lowest limit of the control groups that this process is in, bytes.
fn limit() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    limit_in(Path::new("/sys/fs/cgroup"), &groups)
}

fn limit_in(root: &Path, groups: &str) -> Option<u64> {
    let read = |file: PathBuf| -> Option<u64> {
        let text = std::fs::read_to_string(file).ok()?;
        // "max" is no number. Version 1 says a number beyond all memory.
        text.trim().parse().ok().filter(|bytes| *bytes < 1 << 60)
    };
    let mut lowest: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (top, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // In a container the path may be that of the host, of which only the top is seen.
        let mut folder = top.join(path.trim_start_matches('/'));
        while folder.starts_with(&top) {
            lowest = [lowest, read(folder.join(file))]
                .into_iter()
                .flatten()
                .min();
            if !folder.pop() {
                break;
            }
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_short_near_the_limit_until_there_is_room_again() {
        assert!(!judge(false, 89, 100, 90));
        assert!(judge(false, 90, 100, 90));
        assert!(judge(true, 86, 100, 90), "not yet enough");
        assert!(!judge(true, 84, 100, 90));
        assert!(!judge(true, 0, u64::MAX, 90));
    }

    #[test]
    fn signals_and_results_never_wait() {
        for path in [
            "/shoal.dispatch.v1.DispatchService/Signal",
            "/shoal.market.v1.MarketService/Bids",
            "/grpc.health.v1.Health/Check",
        ] {
            assert!(!can_wait(path), "{path}");
        }
        assert!(can_wait("/shoal.telemetry.v1.FleetService/Watch"));
        assert!(can_wait(
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
        ));
    }

    #[test]
    fn the_lowest_limit_of_the_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("pods/one");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("memory.max"), "max\n").unwrap();
        std::fs::write(root.path().join("pods/memory.max"), "2000000\n").unwrap();
        std::fs::write(root.path().join("memory.max"), "3000000\n").unwrap();
        let found = |groups: &str| limit_in(root.path(), groups);
        assert_eq!(found("0::/pods/one\n"), Some(2_000_000));
        assert_eq!(found("0::/elsewhere/that/is/not/seen\n"), Some(3_000_000));
        let old = root.path().join("memory/pods");
        std::fs::create_dir_all(&old).unwrap();
        std::fs::write(old.join("memory.limit_in_bytes"), "1000000").unwrap();
        assert_eq!(found("5:memory:/pods\n4:cpu:/pods\n"), Some(1_000_000));
        assert_eq!(found("0::/pods/one\n5:memory:/pods\n"), Some(1_000_000));
        assert_eq!(found("4:cpu:/pods\n"), None);
        assert_eq!(found("nonsense"), None);
    }

    #[test]
    fn this_process_is_somewhere_in_memory() {
        assert!(resident().is_some_and(|bytes| bytes > 100_000));
    }
}
