//! The steps of `cargo xtask test`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::{Places, install, scenario};

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Fmt,
    Clippy,
    Test,
    Chart,
    Browser,
    Notebook,
}

impl Step {
    /// In the order they run: what fails fast comes first.
    pub(crate) const ALL: [Self; 6] = [
        Self::Fmt,
        Self::Clippy,
        Self::Test,
        Self::Chart,
        Self::Browser,
        Self::Notebook,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Fmt => "fmt",
            Self::Clippy => "clippy",
            Self::Test => "test",
            Self::Chart => "chart",
            Self::Browser => "browser",
            Self::Notebook => "notebook",
        }
    }

    pub(crate) const fn says(self) -> &'static str {
        match self {
            Self::Fmt => "is the code formatted",
            Self::Clippy => "lints of all targets",
            Self::Test => {
                "tests of all crates, with the independent solver, a real Kafka and a real PostgreSQL"
            }
            Self::Chart => "the Helm chart, its alert rules and dashboards",
            Self::Browser => "the console in headless Chromium",
            Self::Notebook => "a small back-test, read by the notebooks",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.name() == name)
    }

    pub(crate) fn run(self, places: &Places) -> anyhow::Result<()> {
        match self {
            Self::Fmt => run(cargo(places, &["fmt", "--all", "--check"])),
            Self::Clippy => {
                let what = [
                    "clippy",
                    "--locked",
                    "--workspace",
                    "--all-targets",
                    "--",
                    "-D",
                    "warnings",
                ];
                run(cargo(places, &what))
            }
            Self::Test => {
                let python = install::python(places)?;
                let kafka = install::kafka(places)?;
                let postgres = install::postgres()?;
                let mut tests = cargo(
                    places,
                    &["test", "--locked", "--workspace", "--no-fail-fast"],
                );
                tests.env("SHOAL_PYTHON", python);
                tests.env("SHOAL_KAFKA_HOME", kafka);
                tests.env("SHOAL_POSTGRES", postgres);
                run(tests)
            }
            Self::Chart => chart(places),
            Self::Browser => {
                install::chromium()?;
                // One browser at a time: two cores do not feed four of them.
                let what = ["test", "--locked", "--workspace", "--test", "browser", "--"];
                let mut tests = cargo(places, &what);
                tests.args(["--ignored", "--test-threads", "1"]);
                run(tests)
            }
            Self::Notebook => notebook(places),
        }
    }
}

/// Renders the chart with helm and checks what comes out, with the program that is to read its settings.
fn chart(places: &Places) -> anyhow::Result<()> {
    let python = install::python(places)?;
    let helm = install::helm(places, &python)?;
    let promtool = install::promtool(places)?;
    let program = program(places)?;
    let mut tests = Command::new(python);
    tests.current_dir(&places.root);
    tests.args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]);
    tests.arg("xtask/chart");
    tests.env("PYTHONDONTWRITEBYTECODE", "1");
    tests.env("SHOAL_CHART", places.root.join("helm/shoal"));
    tests.env("SHOAL_HELM", helm);
    tests.env("SHOAL_PROMTOOL", promtool);
    tests.env("SHOAL_BIN", program);
    run(tests)
}

/// The program `shoal` as the tests build it: a build of its own would choose other features of shared crates and take minutes.
fn program(places: &Places) -> anyhow::Result<PathBuf> {
    run(cargo(
        places,
        &["test", "--locked", "--quiet", "--workspace", "--no-run"],
    ))?;
    Ok(places.target.join("debug/shoal"))
}

/// Back-tests the small scenario and executes the notebooks on the result.
fn notebook(places: &Places) -> anyhow::Result<()> {
    let python = install::python(places)?;
    let folder = places.target.join("xtask/notebook");
    let file = scenario::write(&folder)?;
    let out = folder.join("out");
    let mut backtest = Command::new(program(places)?);
    backtest.arg("backtest");
    backtest.arg(&file).arg("--out").arg(&out);
    run(backtest)?;
    let mut notebooks = Command::new(python);
    notebooks.current_dir(&places.root);
    notebooks.args([
        "-m",
        "pytest",
        "--quiet",
        "-p",
        "no:cacheprovider",
        "--nbmake",
        "--nbmake-timeout=300",
        "notebooks",
    ]);
    notebooks.env("SHOAL_BACKTEST", &out);
    run(notebooks)
}

pub(crate) fn cargo(places: &Places, arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command
        .current_dir(&places.root)
        .args(arguments)
        .env("CARGO_TARGET_DIR", &places.target);
    command
}

/// Runs a program to its end; a status other than 0 is an error that names it.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let program = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default()
        .to_owned();
    let first: Vec<_> = command
        .get_args()
        .take(4)
        .map(OsStr::to_string_lossy)
        .map(|a| a.into_owned())
        .collect();
    let line = format!("{} {}", program.to_string_lossy(), first.join(" "));
    let status = command
        .status()
        .with_context(|| format!("{line}: cannot be started"))?;
    if !status.success() {
        bail!("{line} ...: {status}");
    }
    Ok(())
}
