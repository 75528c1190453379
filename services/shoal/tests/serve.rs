//! `shoal serve` as an operator starts it: the built program, real sockets, real signals.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// Settings with free ports and a folder of its own.
fn settings(dir: &Path) -> std::path::PathBuf {
    let file = dir.join("shoal.toml");
    let text = format!(
        "[process]\ngrace_seconds = 30\n[admin]\nlisten = \"127.0.0.1:0\"\n[store]\ndir = {:?}\n[edge]\nlisten = \"127.0.0.1:0\"\n",
        dir.join("data")
    );
    std::fs::write(&file, text).unwrap();
    file
}

struct Served {
    child: Child,
    admin: String,
    edge: String,
}

/// Starts the program and waits until it has said where it listens.
fn serve(settings: &Path) -> Served {
    let mut child = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["serve", "edge", "--json", "--config"])
        .arg(settings)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut admin, mut edge) = (None, None);
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while admin.is_none() || edge.is_none() {
        let line = lines.next().expect("it says where it listens").unwrap();
        let after = |mark: &str| {
            let (_, rest) = line.split_once(mark)?;
            Some(rest.split('/').next()?.to_owned())
        };
        admin = admin.or_else(|| after("served at http://"));
        edge = edge.or_else(|| after("served at ws://"));
    }
    // Nobody may be stopped by a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let (admin, edge) = (admin.unwrap(), edge.unwrap());
    Served { child, admin, edge }
}

/// First line of the answer to a GET.
fn status(address: &str, path: &str) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = socket.read_to_string(&mut answer);
    answer.lines().next().unwrap_or_default().to_owned()
}

/// Waits until the process says that it is ready: it says where it listens a moment before.
fn becomes_ready(admin: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = status(admin, "/readyz");
        if answer.contains("200") {
            return;
        }
        assert!(Instant::now() < deadline, "not ready: {answer}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn terminate(child: &Child) {
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
}

fn ended(child: Child) -> Output {
    let mut child = child;
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it did not end within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

#[test]
fn it_tells_its_health_serves_charge_points_and_stops_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(&settings(dir.path()));
    assert!(status(&served.admin, "/livez").contains("200"));
    becomes_ready(&served.admin);
    assert!(status(&served.admin, "/metrics").contains("200"));
    // A request that is no websocket is turned away by the edge itself.
    assert!(status(&served.edge, "/ocpp/nobody").contains(" 4"));
    terminate(&served.child);
    let output = ended(served.child);
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["services"], serde_json::json!(["edge"]));
    assert_eq!(document["addresses"][0], served.edge.as_str());
}

#[test]
fn a_second_process_over_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path());
    let first = serve(&file);
    let second = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["serve", "--role", "edge", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(said.contains("another process serves from it"), "{said}");
    terminate(&first.child);
    assert!(ended(first.child).status.success());
}

#[test]
fn a_folder_outlives_a_process_that_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path());
    let mut first = serve(&file);
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let again = serve(&file);
    becomes_ready(&again.admin);
    terminate(&again.child);
    assert!(ended(again.child).status.success());
}

#[test]
fn the_settings_that_take_effect_are_printed_and_read_back_alike() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path());
    let dump = |file: &Path, json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
        command.args(["serve", "edge", "--dump-config", "--config"]);
        command.arg(file).env("SHOAL_EDGE__SUPPLY__VOLTS", "240");
        if json {
            command.arg("--json");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = dump(&file, false);
    assert!(text.contains("grace_seconds = 30"), "{text}");
    let again = dir.path().join("again.toml");
    std::fs::write(&again, &text).unwrap();
    assert_eq!(dump(&again, false), text);
    let document: serde_json::Value = serde_json::from_str(&dump(&file, true)).unwrap();
    assert_eq!(document["edge"]["listen"], "127.0.0.1:0");
    assert_eq!(document["edge"]["supply"]["volts"], 240);
    assert_eq!(document["edge"]["security"]["profile"], "open");
    assert!(!dir.path().join("data").exists(), "nothing was opened");
}

#[test]
fn called_by_the_name_of_a_service_it_serves_that() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("shoal-edge");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_shoal"), &program).unwrap();
    let output = Command::new(&program)
        .args(["--dump-config", "--json", "--config"])
        .arg(settings(dir.path()))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["process"]["grace_seconds"], 30);
}

#[test]
fn settings_that_cannot_work_are_refused_before_anything_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("shoal.toml");
    let data = dir.path().join("data");
    let text = format!("[store]\ndir = {data:?}\n[edge]\nmax_connections = 0\n");
    std::fs::write(&file, text).unwrap();
    let refused = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["serve", "edge", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr);
    let expected = format!(
        "error: {}: edge.max_connections: met 0, expected at least 1",
        file.display()
    );
    assert!(said.contains(&expected), "{said}");
    assert!(!data.exists());
}

/// What the doctor finds, and its exit status.
fn doctor(settings: &Path, roles: &[&str]) -> (Vec<(String, String, String)>, Option<i32>) {
    let mut doctor = Command::new(env!("CARGO_BIN_EXE_shoal"));
    doctor.args(["doctor", "--json", "--config"]).arg(settings);
    for role in roles {
        doctor.args(["--role", role]);
    }
    let output = doctor.output().unwrap();
    let document: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    let text = |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = document["findings"].as_array().unwrap().iter();
    let findings = findings
        .map(|f| (text(f, "what"), text(f, "verdict"), text(f, "detail")))
        .collect();
    (findings, output.status.code())
}

#[test]
fn the_doctor_names_what_is_wrong_and_is_content_with_what_works() {
    let dir = tempfile::tempdir().unwrap();
    let file = settings(dir.path());
    let found = |findings: &[(String, String, String)], what: &str, verdict: &str, part: &str| {
        let any = findings
            .iter()
            .any(|(w, v, d)| w == what && v == verdict && d.contains(part));
        assert!(any, "{what} {verdict} {part}: {findings:#?}");
    };
    let (findings, status) = doctor(&file, &["edge"]);
    assert_eq!(status, Some(0), "{findings:#?}");
    found(&findings, "settings", "ok", "edge");
    found(&findings, "credentials", "ok", "[edge.security]");
    found(&findings, "gates", "ok", "day_ahead: closes");
    found(&findings, "database", "warning", "shoal migrate");

    let migrated = Command::new(env!("CARGO_BIN_EXE_shoal"))
        .args(["migrate", "--config"])
        .arg(&file)
        .status();
    assert!(migrated.unwrap().success());
    let (findings, status) = doctor(&file, &["edge"]);
    assert_eq!(status, Some(0), "{findings:#?}");
    found(&findings, "log", "ok", "beside the tables");
    found(&findings, "database", "ok", "0 outlets");
    found(&findings, "signs", "unknown", "no outlet");

    // A gateway without its operator, keys that are not there, a broker that nobody runs.
    let text = std::fs::read_to_string(&file).unwrap()
        + "[edge.security]\nprofile = \"basic\"\ncredentials = \"nowhere\"\n[optimizer]\narea = \"DE\"\n[gateway]\narea = \"NL\"\n";
    std::fs::write(&file, text).unwrap();
    let (findings, status) = doctor(&file, &[]);
    assert_eq!(status, Some(1), "{findings:#?}");
    found(&findings, "settings", "wrong", "peers.operator");
    found(&findings, "credentials", "wrong", "nowhere");
    found(&findings, "gates", "wrong", "optimizer.area DE");
}
