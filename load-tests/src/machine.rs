//! The machine, and what processes take of it.

use serde::Serialize;

use crate::failure::Failure;

/// The machine that figures were measured on.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// Runnable tasks over the last minute when the run began: others at work make figures worse.
    pub(crate) load_1min: Option<f32>,
    pub(crate) debug_build: bool,
}

impl Machine {
    /// This one; what cannot be read is said to be unknown.
    pub(crate) fn here() -> Self {
        use procfs::Current;
        let unknown = || "unknown".to_owned();
        let cpu = procfs::CpuInfo::current().ok();
        let memory = procfs::Meminfo::current().ok();
        #[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
        let gib = memory.map_or(0.0, |m| m.mem_total as f64 / f64::from(1 << 30));
        Self {
            cpu: cpu
                .and_then(|c| c.model_name(0).map(str::to_owned))
                .unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: (gib * 10.0).round() / 10.0,
            kernel: procfs::sys::kernel::Version::current().map_or_else(
                |_| unknown(),
                |v| format!("{}.{}.{}", v.major, v.minor, v.patch),
            ),
            load_1min: procfs::LoadAverage::current().ok().map(|l| l.one),
            debug_build: cfg!(debug_assertions),
        }
    }
}

/// What processes have used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu_seconds: f64,
    /// Resident memory now.
    pub(crate) rss_kib: u64,
}

impl Usage {
    /// Of all of `pids` together.
    ///
    /// # Errors
    /// Status 1 if one cannot be read.
    pub(crate) fn of(pids: &[u32]) -> Result<Self, Failure> {
        let mut sum = Self::default();
        for pid in pids {
            let read = |error: procfs::ProcError| Failure::of(&format!("process {pid}"), &error);
            let id = i32::try_from(*pid)
                .map_err(|_| Failure::Input(format!("process {pid}: no such number")))?;
            let process = procfs::process::Process::new(id).map_err(read)?;
            let stat = process.stat().map_err(read)?;
            let status = process.status().map_err(read)?;
            #[expect(clippy::cast_precision_loss, reason = "ticks of a run")]
            let ticks = (stat.utime + stat.stime) as f64;
            #[expect(clippy::cast_precision_loss, reason = "a hundred, usually")]
            let per_second = procfs::ticks_per_second() as f64;
            sum.cpu_seconds += ticks / per_second;
            sum.rss_kib += status.vmrss.unwrap_or(0);
        }
        Ok(sum)
    }
}

/// Raises the limit of open files to what the system lets this process have.
///
/// # Errors
/// Status 1 if it cannot be read.
pub(crate) fn open_files() -> Result<u64, Failure> {
    rlimit::increase_nofile_limit(u64::MAX)
        .map_err(|e| Failure::Failed(format!("the limit of open files cannot be raised: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_a_missing_one_is_named() {
        let usage = Usage::of(&[std::process::id()]).unwrap();
        assert!(usage.rss_kib > 1_000, "{usage:?}");
        let refused = Usage::of(&[u32::MAX - 7]).unwrap_err().to_string();
        assert!(refused.contains("4294967288"), "{refused}");
    }
}
