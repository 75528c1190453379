//! Brokers and the database, run by the scripts of `deploy`.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::failure::Failure;

/// A broker or a database server, run by a script of `deploy`.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    pub(crate) script: PathBuf,
    /// Where its programs are.
    pub(crate) home: PathBuf,
    pub(crate) dir: PathBuf,
    /// Processes that the script starts.
    pub(crate) count: usize,
}

impl Server {
    /// The processes, each with its name and as a server of its own.
    pub(crate) fn each(&self) -> impl Iterator<Item = (String, Self)> {
        (1..=self.count).map(|number| {
            let mut one = self.clone();
            one.count = 1;
            if self.count == 1 {
                return ("broker".to_owned(), one);
            }
            one.dir = self.dir.join(number.to_string());
            (format!("broker-{number}"), one)
        })
    }

    /// Sends its process a signal.
    pub(crate) async fn signal(&self, signal: &str) -> Result<(), Failure> {
        let file = self.dir.join("pid");
        let failed = |e: std::io::Error| Failure::Failed(format!("{}: {e}", file.display()));
        let pid = std::fs::read_to_string(&file).map_err(failed)?;
        let mut kill = Command::new("kill");
        kill.args([signal, pid.trim()]);
        kill.status().await.map_err(failed)?;
        Ok(())
    }

    /// Starts it, or starts it again; answers its address.
    pub(crate) async fn up(&self) -> Result<String, Failure> {
        self.run("up", Some(&self.home)).await
    }

    pub(crate) async fn run(&self, verb: &str, home: Option<&Path>) -> Result<String, Failure> {
        let shown = self.script.display();
        let mut command = Command::new(&self.script);
        let count = home.filter(|_| self.count > 1);
        let count = count.map(|_| self.count.to_string());
        let ran = command
            .arg(verb)
            .args(home)
            .arg(&self.dir)
            .args(count)
            .stderr(Stdio::inherit())
            .output()
            .await;
        let output = ran.map_err(|e| Failure::Input(format!("{shown}: {e}")))?;
        if !output.status.success() {
            let status = output.status;
            return Err(Failure::Failed(format!("{shown} {verb}: {status}")));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}
