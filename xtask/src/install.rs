//! What the tests need and a bare machine lacks.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

use crate::Places;
use crate::steps::run;

/// Packages of the Python environment, pinned.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// Names under which Chromium is installed.
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Makes sure that a Chromium can be started.
pub(crate) fn chromium() -> anyhow::Result<()> {
    if BROWSERS.into_iter().any(answers) {
        return Ok(());
    }
    apt(&["chromium", "fonts-dejavu-core"])
        .context("Chromium is needed for the test of the console")?;
    if BROWSERS.into_iter().any(answers) {
        return Ok(());
    }
    bail!("chromium was installed but does not start")
}

/// A Python with the packages of `requirements.txt`, in the target folder; made anew when they change.
pub(crate) fn python(places: &Places) -> anyhow::Result<PathBuf> {
    let folder = places.target.join("xtask/python");
    let python = folder.join("bin/python");
    let stamp = folder.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == REQUIREMENTS) && answers(&python) {
        return Ok(python);
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("{}: cannot be emptied", folder.display()))?;
    }
    if !Command::new("python3")
        .args(["-c", "import venv, ensurepip"])
        .status()
        .is_ok_and(|s| s.success())
    {
        apt(&["python3", "python3-venv", "python3-pip"])
            .context("Python 3 is needed for the independent solver")?;
    }
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv"]).arg(&folder);
    run(venv)?;
    let wanted = folder.join("wanted.txt");
    fs::write(&wanted, REQUIREMENTS)?;
    let mut pip = Command::new(&python);
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--requirement",
    ])
    .arg(&wanted);
    run(pip).context("the packages of xtask/requirements.txt could not be installed; is the package index reachable?")?;
    fs::rename(&wanted, &stamp)?;
    Ok(python)
}

/// The class path of Apache Kafka that `deploy/kafka/pom.xml` names, in the target folder; collected anew when that changes.
pub(crate) fn kafka(places: &Places) -> anyhow::Result<PathBuf> {
    let home = places.target.join("xtask/kafka");
    let wanted = places.root.join("deploy/kafka/pom.xml");
    let wanted = fs::read(&wanted).with_context(|| format!("{}", wanted.display()))?;
    let mut lacking = Vec::new();
    if !answers("java") {
        lacking.push("default-jre-headless");
    }
    if fs::read(home.join("pom.xml")).is_ok_and(|made| made == wanted) {
        if !lacking.is_empty() {
            apt(&lacking).context("Java is needed to run Apache Kafka")?;
        }
        return Ok(home);
    }
    if !answers("mvn") {
        lacking.push("maven");
    }
    if !lacking.is_empty() {
        apt(&lacking).context("Java and Maven are needed to collect and run Apache Kafka")?;
    }
    let mut fetch = Command::new(places.root.join("deploy/kafka.sh"));
    fetch.arg("fetch").arg(&home);
    run(fetch)
        .context("Apache Kafka could not be collected; is the artifact repository reachable?")?;
    Ok(home)
}

fn answers(program: impl AsRef<std::ffi::OsStr>) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|s| s.success())
}

/// Installs system packages, as root or through sudo.
fn apt(packages: &[&str]) -> anyhow::Result<()> {
    if !answers("apt-get") {
        bail!(
            "{} not found and there is no apt-get: install it with this system's own means",
            packages.join(", ")
        );
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    let command = |arguments: &[&str]| {
        let mut command = Command::new(if root { "apt-get" } else { "sudo" });
        if !root {
            command.args(["--non-interactive", "apt-get"]);
        }
        command
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    eprintln!("    installing {}", packages.join(", "));
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(packages);
    if run(command(&install)).is_ok() {
        return Ok(());
    }
    // The lists of packages may be missing or old.
    run(command(&["update", "--quiet"]))?;
    run(command(&install))
        .with_context(|| format!("install it by hand: apt-get install {}", packages.join(" ")))
}
