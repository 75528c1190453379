//! `shoal doctor`: looks at everything that services rest on, changes nothing, and says what is wrong with what to do about it.

mod clock;
mod credentials;
mod gates;
mod records;

use std::path::PathBuf;

use runtime::Clock;
use serde::Serialize;

use crate::cli::CliError;
use crate::output::Output;
use crate::serve::Role;
use crate::serve::config::{self, Config};

/// Options of `shoal doctor`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  shoal doctor --config shoal.toml\n\nExit status 1 if something is wrong, 2 if the configuration cannot be read."
)]
pub(crate) struct Args {
    /// Service to look after; may be given several times; all of them where none is named
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<Role>,
    /// Settings, TOML, the same as for shoal serve
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// It could not be looked at.
    Unknown,
    /// It works, and will not for long or not as well as it could.
    Warning,
    /// It does not work.
    Wrong,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Wrong => "WRONG",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    detail: String,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, detail: impl Into<String>) -> Self {
        Self {
            what,
            verdict,
            detail: detail.into(),
        }
    }
}

#[derive(Debug, Serialize)]
struct Found {
    findings: Vec<Finding>,
}

/// Looks at everything.
///
/// # Errors
/// Status 2 for a configuration that does not read, status 1 if something is wrong.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let config = config::load(args.config.as_deref(), &[])?;
    let roles = if args.roles.is_empty() {
        Role::ALL.to_vec()
    } else {
        args.roles.clone()
    };
    let clock = Clock::system();
    let mut findings = settings(args, &roles);
    findings.push(clock::synchronised());
    findings.extend(credentials::all(&config, &roles, clock.now()));
    findings.extend(gates::all(&config, clock.now()));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    findings.extend(runtime.block_on(records::all(&config, clock.now())));
    // A broker that does not answer keeps no threads alive.
    runtime.shutdown_background();
    let found = Found { findings };
    output.result(&found, || text(&found))?;
    let wrong = found
        .findings
        .iter()
        .filter(|f| f.verdict == Verdict::Wrong);
    match wrong.count() {
        0 => Ok(()),
        1 => Err(CliError::Failed("1 thing is wrong".to_owned())),
        n => Err(CliError::Failed(format!("{n} things are wrong"))),
    }
}

/// Whether each service would start with these settings.
fn settings(args: &Args, roles: &[Role]) -> Vec<Finding> {
    let check = |role: &Role| {
        let loaded: Result<Config, CliError> = config::load(args.config.as_deref(), &[*role]);
        match loaded {
            Ok(_) => Finding::new("settings", Verdict::Ok, role.name()),
            Err(error) => Finding::new(
                "settings",
                Verdict::Wrong,
                format!("{}: {error}", role.name()),
            ),
        }
    };
    roles.iter().map(check).collect()
}

fn text(found: &Found) -> String {
    let lines = found.findings.iter().map(|finding| {
        let Finding {
            what,
            verdict,
            detail,
        } = finding;
        format!("{:<8} {what:<12} {detail}", verdict.word())
    });
    lines.collect::<Vec<_>>().join("\n")
}
