//! How services ask each other: through memory within the process, over TCP to others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use runtime::pipe::{Listener, Pipe, peer};
use runtime::tls::Identity;
use tonic::transport::Channel;

use super::config::Config;
use super::{Role, socket};
use crate::cli::CliError;

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Asked {
    /// `FleetService` of telemetry-ingest.
    Fleet,
    /// `ForecastService` of the forecaster.
    Forecast,
    /// `PlanService` of the optimizer.
    Plan,
    /// `MarketService` and `DispatchService` of the gateway.
    Gateway,
    /// `MarketOperator` of exchange and grid operator, outside the platform.
    Operator,
}

impl Asked {
    /// Who answers, if one of ours does.
    const fn role(self) -> Option<Role> {
        match self {
            Self::Fleet => Some(Role::TelemetryIngest),
            Self::Forecast => Some(Role::Forecaster),
            Self::Plan => Some(Role::Optimizer),
            Self::Gateway => Some(Role::Gateway),
            Self::Operator => None,
        }
    }

    /// Whom the services of `role` ask.
    pub(super) const fn by(role: Role) -> &'static [Self] {
        match role {
            Role::TelemetryIngest | Role::Edge => &[],
            Role::Forecaster => &[Self::Fleet, Self::Gateway],
            Role::Optimizer => &[Self::Fleet, Self::Forecast],
            Role::Gateway => &[Self::Operator],
            Role::Console => &[Self::Fleet, Self::Forecast, Self::Plan, Self::Gateway],
        }
    }
}

/// The ends of the pipes of this process, and the addresses of others.
pub(super) struct Links {
    pipes: BTreeMap<Asked, Pipe>,
    listeners: BTreeMap<Asked, (Listener, SocketAddr)>,
    peers: BTreeMap<Asked, Channel>,
    identity: Option<Arc<Identity>>,
}

impl Links {
    /// Opens the sockets of what the services of `roles` answer.
    ///
    /// # Errors
    /// A socket that cannot be opened, an address that is none.
    pub(super) async fn open(config: &Config, roles: &[Role]) -> Result<Self, CliError> {
        let identity = config.tls.clone().map(Identity::open).transpose();
        let mut links = Self {
            pipes: BTreeMap::new(),
            listeners: BTreeMap::new(),
            peers: BTreeMap::new(),
            identity: identity.map_err(|e| CliError::failed(&e))?.map(Arc::new),
        };
        let secured = links.identity.is_some();
        for (asked, key, listen) in config.grpc.listeners() {
            let Some(role) = asked.role().filter(|role| roles.contains(role)) else {
                continue;
            };
            let (socket, address) = socket(key, listen).await?;
            tracing::info!(%address, "{} is asked at grpc://{address}/", role.name());
            let (pipe, listener) = Pipe::new(role.name());
            let listener = listener
                .and_socket(socket, links.identity.as_ref())
                .telling(wire::TYPES);
            links.pipes.insert(asked, pipe);
            links.listeners.insert(asked, (listener, address));
        }
        for asked in roles.iter().flat_map(|role| Asked::by(*role)) {
            let here = links.pipes.contains_key(asked);
            if let Some(address) = config.peers.address(*asked, &config.grpc, here, secured) {
                let channel = peer(&address, links.identity.as_ref()).map_err(|wrong| {
                    CliError::Input(format!("peers.{}: {wrong}", config.peers.key(*asked)))
                })?;
                links.peers.insert(*asked, channel);
            }
        }
        Ok(links)
    }

    /// The server's end of what a service of this process answers, once.
    pub(super) fn listener(&mut self, asked: Asked) -> Result<(Listener, SocketAddr), CliError> {
        let listener = self.listeners.remove(&asked);
        listener.ok_or_else(|| CliError::Failed(format!("nobody answers {asked:?} here")))
    }

    /// How this process reaches others by their address.
    pub(super) fn dial(&self) -> impl Fn(&str) -> Option<Channel> + Send + Sync + use<> {
        let identity = self.identity.clone();
        move |address| peer(address, identity.as_ref()).ok()
    }

    /// `http` or `https`.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.identity.is_some() {
            "https"
        } else {
            "http"
        }
    }

    /// A client of it, here or in another process.
    pub(super) fn channel(&self, asked: Asked) -> Result<Channel, CliError> {
        let other = self.peers.get(&asked).cloned();
        let channel = other.or_else(|| self.pipes.get(&asked).map(Pipe::channel));
        channel.ok_or_else(|| CliError::Failed(format!("nobody is known who answers {asked:?}")))
    }
}
