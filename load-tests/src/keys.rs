//! Certificates and keys of a run: made afresh, gone with its folder.

use std::fmt::Write as _;
use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use toml::{Table, Value};

use crate::failure::Failure;
use crate::scenario::Scenario;

/// Makes what the security profile of the scenario asks for, and says so on both sides.
///
/// # Errors
/// Status 1 if a file cannot be written.
pub(crate) fn make(scenario: &mut Scenario, dir: &Path) -> Result<(), Failure> {
    let profile = scenario.security.profile;
    let mut said = Table::new();
    let name = match profile {
        0 => "open",
        1 => "basic",
        2 => "tls-basic",
        _ => "mutual-tls",
    };
    said.insert("profile".to_owned(), Value::String(name.to_owned()));
    if profile < 2 {
        // Both ends are on this machine.
        said.insert("discharge_without_tls".to_owned(), Value::Boolean(true));
    }
    if matches!(profile, 1 | 2) {
        passwords(scenario, dir, &mut said)?;
    }
    if profile >= 2 {
        certificates(scenario, dir, &mut said)?;
    }
    let settings = &mut scenario.edge.settings;
    settings.insert("security".to_owned(), Value::Table(said));
    Ok(())
}

/// A key of 128 random bits per station, and its hash for the server.
fn passwords(scenario: &mut Scenario, dir: &Path, said: &mut Table) -> Result<(), Failure> {
    let mut rng = ChaCha8Rng::seed_from_u64(scenario.seed);
    let (mut clear, mut hashed) = (String::new(), String::new());
    for number in 0..scenario.fleet.stations {
        let identity = scenario.identity(number);
        let key = format!("{:032x}", rng.random::<u128>());
        // Writing to a string cannot fail.
        let _ = writeln!(clear, "{identity} {key}");
        let _ = writeln!(hashed, "{}", shoal_edge::credentials_line(&identity, &key));
    }
    let (stations, server) = (dir.join("passwords"), dir.join("credentials"));
    write(&stations, &clear)?;
    write(&server, &hashed)?;
    said.insert("credentials".to_owned(), path(&server));
    scenario.security.passwords = Some(stations);
    Ok(())
}

/// An authority, a certificate for this machine, and in profile 3 one per station.
fn certificates(scenario: &mut Scenario, dir: &Path, said: &mut Table) -> Result<(), Failure> {
    let failed = |e: rcgen::Error| Failure::of("a certificate cannot be made", &e);
    let mut params = CertificateParams::new(Vec::<String>::new()).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let name = "Authority of the load test";
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().map_err(failed)?;
    let root = params.self_signed(&key).map_err(failed)?;
    let authority = dir.join("ca.pem");
    write(&authority, &root.pem())?;
    let issuer = Issuer::new(params, key);

    let sign = |name: &str, hosts: Vec<String>, stem: &str| {
        let mut params = CertificateParams::new(hosts).map_err(failed)?;
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(failed)?;
        let signed = params.signed_by(&key, &issuer).map_err(failed)?;
        write(&dir.join(format!("{stem}.pem")), &signed.pem())?;
        write(&dir.join(format!("{stem}.key")), &key.serialize_pem())
    };
    let hosts = ["127.0.0.1", "localhost"].map(str::to_owned).to_vec();
    sign("localhost", hosts, "server")?;
    said.insert("certificate".to_owned(), path(&dir.join("server.pem")));
    said.insert("key".to_owned(), path(&dir.join("server.key")));
    scenario.security.ca = Some(authority.clone());
    if scenario.security.profile == 3 {
        for number in 0..scenario.fleet.stations {
            let identity = scenario.identity(number);
            sign(&identity, Vec::new(), &identity)?;
        }
        said.insert("client_ca".to_owned(), path(&authority));
        let pattern =
            |ending: &str| Some(dir.join(format!("{{id}}{ending}")).display().to_string());
        scenario.security.certificate = pattern(".pem");
        scenario.security.key = pattern(".key");
    }
    Ok(())
}

fn path(file: &Path) -> Value {
    Value::String(file.display().to_string())
}

fn write(file: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(file, text)
        .map_err(|e| Failure::Failed(format!("{}: not writable: {e}", file.display())))
}
