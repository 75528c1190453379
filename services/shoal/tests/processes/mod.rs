//! Services as processes of the built program.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    dead_code,
    reason = "helpers of tests; each uses its own part"
)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A running service; killed when the test ends early.
pub(crate) struct Process {
    pub(crate) child: Child,
    pub(crate) address: String,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn shoal(settings: &Path) -> Command {
    let mut shoal = Command::new(env!("CARGO_BIN_EXE_shoal"));
    shoal.env("SHOAL_CONFIG", settings).stdin(Stdio::null());
    // Where a test reads what is exported it does not wait long for it.
    shoal.env("OTEL_BSP_SCHEDULE_DELAY", "200");
    shoal.env("OTEL_METRIC_EXPORT_INTERVAL", "500");
    shoal
}

/// Starts a service and waits until it says after `mark` where it is reached.
pub(crate) fn serve(settings: &Path, role: &str, process: &str, mark: &str) -> Process {
    serve_all(settings, &[role], process, mark)
}

/// The same with several services in one process.
pub(crate) fn serve_all(settings: &Path, roles: &[&str], process: &str, mark: &str) -> Process {
    let mut child = shoal(settings)
        .arg("serve")
        .args(roles)
        .env("SHOAL_LOG__PROCESS", process)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    let address = loop {
        let Some(Ok(line)) = lines.next() else {
            panic!("{process} does not say where it is: {said:#?}");
        };
        if let Some((_, rest)) = line.split_once(mark) {
            break rest.split('/').next().unwrap().to_owned();
        }
        said.push(line);
    };
    // Nobody may be stopped by a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Process { child, address }
}
