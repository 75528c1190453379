//! `shoal serve`: chosen services as one process, for as long as nobody stops it.
//!
//! ```text
//! configuration read and checked -> sockets bound -> tasks run -> first signal: intake stops, what is in hand ends
//!                                                                 second signal: out
//! ```

pub(crate) mod config;
pub(crate) mod folder;
mod links;
mod parts;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use runtime::Clock;
use runtime::admin::{self, Health};
use runtime::latency::Probe;
use runtime::tasks::{Duty, Tasks, stop_on_signal};
use serde::Serialize;
use store::{Store, StoreError};
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::config::Config;
use self::folder::Folder;
use self::links::Links;
use self::parts::Parts;
use crate::cli::CliError;
use crate::output::Output;

/// A process that starts waits this long for its log and tables before it gives up and is started anew.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two attempts.
const AGAIN: Duration = Duration::from_secs(2);

/// What is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Role {
    /// Fleet state and metered intervals from readings; one process of this role at a time
    TelemetryIngest,
    /// Availability, energy and prices ahead
    Forecaster,
    /// Plans and bids
    Optimizer,
    /// Markets and grid operators; of several processes one decides, the others stand by
    Gateway,
    /// Operations console in the browser
    Console,
    /// Charge points: OCPP 1.6, 2.0.1 and 2.1
    Edge,
}

impl Role {
    /// Every one there is, in the order in which they start.
    pub(crate) const ALL: [Self; 6] = [
        Self::TelemetryIngest,
        Self::Forecaster,
        Self::Optimizer,
        Self::Gateway,
        Self::Console,
        Self::Edge,
    ];

    /// As it stands in the configuration and in messages.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::TelemetryIngest => "telemetry-ingest",
            Self::Forecaster => "forecaster",
            Self::Optimizer => "optimizer",
            Self::Gateway => "gateway",
            Self::Console => "console",
            Self::Edge => "edge",
        }
    }
}

/// Options of `shoal serve`.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:\n  shoal serve edge --config shoal.toml\n\n\
    Settings come from the file and, over it, from variables: SHOAL_EDGE__LISTEN=0.0.0.0:9220 sets `listen` in [edge].")]
pub(crate) struct Args {
    /// Services to run, the same as --role; all of them where none is named
    #[arg(value_name = "SERVICE")]
    services: Vec<Role>,
    /// Service to run; may be given several times
    #[arg(long = "role", value_name = "NAME")]
    roles: Vec<Role>,
    /// Settings, TOML; without a file everything has its default
    #[arg(long, env = "SHOAL_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the settings as they take effect, TOML (JSON with --json), and end; secrets are starred
    #[arg(long)]
    dump_config: bool,
}

impl Args {
    /// What to run, each once, in the order of starting.
    fn wanted(&self) -> Vec<Role> {
        let named = |role: &Role| self.services.contains(role) || self.roles.contains(role);
        let any = self.services.is_empty() && self.roles.is_empty();
        let all = Role::ALL.into_iter();
        all.filter(|role| any || named(role)).collect()
    }
}

/// The command line, with the verb spelled out where the program is called by the name of a service: `shoal-edge` is
/// `shoal serve edge`.
pub(crate) fn called_as(mut line: Vec<OsString>) -> Vec<OsString> {
    let name = line.first().map(Path::new).and_then(Path::file_stem);
    let service = name.and_then(|name| name.to_str()?.strip_prefix("shoal-"));
    let role = service.and_then(|service| Role::from_str(service, false).ok());
    if let Some(role) = role {
        line.splice(..1, ["shoal", "serve", role.name()].map(OsString::from));
    }
    line
}

/// What was served, told when it is over.
#[derive(Debug, Serialize)]
struct Served {
    services: Vec<&'static str>,
    addresses: Vec<SocketAddr>,
    admin: SocketAddr,
}

/// Serves until a signal or a service that ends by itself.
///
/// # Errors
/// Status 2 for a configuration that cannot work, status 1 when a socket or the folder is taken or a service fails.
pub(crate) fn run(args: &Args, output: Output) -> Result<(), CliError> {
    let roles = args.wanted();
    let config = config::load(args.config.as_deref(), &roles)?;
    if args.dump_config {
        let text = runtime::config::dump(&config).map_err(|e| CliError::failed(&e))?;
        return output.result(&config, || text);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let inside = runtime.enter();
    let service = format!("shoal-{}", config.log.process(&roles));
    let _exporting =
        runtime::telemetry::init_exporting(&config.logging, &config.telemetry, &service)
            .map_err(|e| CliError::Input(chain(&e)))?;
    drop(inside);
    let served = runtime.block_on(serve(config, &roles))?;
    output.result(&served, || "stopped in order".to_owned())
}

async fn serve(config: Config, roles: &[Role]) -> Result<Served, CliError> {
    let metrics = runtime::telemetry::metrics().map_err(|e| CliError::failed(&e))?;
    let (door, admin) = socket("admin.listen", config.admin.listen).await?;
    tracing::info!(address = %admin, "health and metrics are served at http://{admin}/readyz and /metrics");
    let health = Health::default();
    for role in roles {
        health.expect(role.name());
    }
    // Health is told while services wait for their store, and while they drain: hence its own stop.
    let closing = CancellationToken::new();
    let told = tokio::spawn(admin::serve(door, health.clone(), metrics, closing.clone()));
    let (store, _folder) = store(&config, roles).await?;
    let grace = config.process.grace();
    let mut parts = Parts {
        links: Links::open(&config, roles).await?,
        config,
        store,
        clock: Clock::system(),
        latency: Probe::new(),
        stop: CancellationToken::new(),
    };
    let mut bound = Vec::with_capacity(roles.len());
    for role in roles {
        bound.push(parts.bind(*role).await?);
    }

    let mut tasks = Tasks::new(parts.stop.clone(), grace);
    let mut addresses = Vec::new();
    for service in bound {
        addresses.extend(service.addresses);
        tasks.spawn(service.role.name(), Duty::Essential, service.run);
        health.set(service.role.name(), true);
    }
    tokio::spawn(not_ready_after(parts.stop.clone(), health, roles.to_vec()));
    tokio::spawn(stop_on_signal(parts.stop.clone()));
    let percent = parts.config.process.memory_percent;
    tokio::spawn(runtime::memory::watch(percent, parts.stop.clone()));
    let ran = tasks.run().await.map_err(|e| CliError::failed(&e));
    closing.cancel();
    if let Ok(Err(error)) = told.await {
        tracing::warn!(%error, "health was no longer told: {error}");
    }
    ran?;
    tracing::info!("stopped: everything in hand is done");
    Ok(Served {
        services: roles.iter().map(|role| role.name()).collect(),
        addresses,
        admin,
    })
}

/// Nobody shall send new work to a process that drains.
async fn not_ready_after(stop: CancellationToken, health: Health, roles: Vec<Role>) {
    stop.cancelled().await;
    for role in roles {
        health.set(role.name(), false);
    }
}

/// The log on Kafka and the tables beside other processes, or both embedded and the folder ours until the process ends: a
/// second one would append to a log whose readers do not see it.
async fn store(config: &Config, roles: &[Role]) -> Result<(Store, Option<Folder>), CliError> {
    let dir = &config.store.dir;
    let Some(kafka) = config.log.kafka() else {
        let folder = Folder::claim(dir)?;
        let options = store::Options {
            keep: config.store.keep(false),
            ..store::Options::default()
        };
        let store = Store::open_with(dir, options);
        let store = store.await.map_err(|e| CliError::failed(&e))?;
        return Ok((store, Some(folder)));
    };
    let process = config.log.process(roles);
    let place = config.store.place().map_err(CliError::Input)?;
    let options = store::Options {
        keep: config.store.keep(true),
        ..store::Options::default()
    };
    let open = || {
        let (place, kafka, options) = (place.clone(), kafka.clone(), options.clone());
        Store::over_kafka(place, kafka, &process, options)
    };
    let store = patiently(open).await.map_err(|e| CliError::failed(&e))?;
    Ok((store, None))
}

/// Opens log and tables, and waits a while for those that are away: after a power cut a broker is back later than what needs it.
async fn patiently<F>(mut open: impl FnMut() -> F) -> Result<Store, StoreError>
where
    F: Future<Output = Result<Store, StoreError>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match open().await {
            Err(error) if error.is_retryable() && Instant::now() < deadline => {
                metrics::counter!("shoal_store_away_total").increment(1);
                tracing::warn!(%error, "log or tables are away, the next attempt is in {AGAIN:?}: {error}");
                tokio::time::sleep(AGAIN).await;
            }
            other => return other,
        }
    }
}

/// Opens the socket of the setting called `key`.
async fn socket(key: &str, listen: SocketAddr) -> Result<(TcpListener, SocketAddr), CliError> {
    let refused = |error: std::io::Error| {
        CliError::Failed(format!("{key}: {listen} cannot be opened: {error}"))
    };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    Ok((listener, address))
}

/// An error with its causes in one line.
fn chain(error: &(dyn StdError + 'static)) -> String {
    CliError::failed(error).to_string()
}
