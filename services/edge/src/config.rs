//! What an operator can set.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::security::Security;

/// Port for charge points; 9000 and above are free on most hosts.
const PORT: u16 = 9220;
/// One depot controller each for 10 000 stations fits one process.
const MAX_CONNECTIONS: usize = 10_000;
/// The longest honest messages are meter values of a few kilobytes.
const MESSAGE_LIMIT: usize = 64 * 1024;
/// Beyond this the connection is closed rather than the message refused.
const BUFFER_LIMIT: usize = 1024 * 1024;
/// A station that has not answered by then will not meet a real-time signal either.
const CALL_TIMEOUT_MS: u64 = 10_000;
/// A socket that takes nothing for this long is dead.
const WRITE_TIMEOUT_MS: u64 = 5_000;
/// From accepted socket to finished upgrade.
const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;
/// Silent mobile links are noticed within three of these.
const PING_SECONDS: u64 = 60;
/// Told to stations; any other message counts as a heartbeat.
const HEARTBEAT_SECONDS: u32 = 300;
/// Records waiting for the log before stations have to wait.
const QUEUE_RECORDS: usize = 8_192;

/// Fast enough for verification of frequency reserves within their full activation times.
const POOL_SAMPLE_SECONDS: u32 = 10;
/// Often enough to see a vehicle come, go and charge.
const IDLE_SAMPLE_SECONDS: u32 = 60;
/// A meter value each 100 ms, ten times what is asked for.
const MESSAGES_PER_SECOND: u32 = 100;
/// Some hours of what was kept while offline.
const MESSAGE_BURST: u32 = 500;
/// Two cores do this many key exchanges in a second.
const MAX_HANDSHAKES: usize = 512;
/// The finest that members of a pool are asked for.
const STREAM_SECONDS: u32 = 1;

/// Nominal voltage of a phase against neutral in Europe, IEC 60038.
const SUPPLY_VOLTS: u32 = 230;
/// Most that an outlet can have: a limit shared by fewer phases is lower than asked, never higher.
const SUPPLY_PHASES: u8 = 3;

/// What is taken for the supply of outlets whose stations take limits in amperes only and neither say nor measure it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupplyConfig {
    /// Voltage of a phase against neutral, in volts.
    pub volts: u32,
    /// Phases, 1 to 3.
    pub phases: u8,
}

impl Default for SupplyConfig {
    fn default() -> Self {
        Self {
            volts: SUPPLY_VOLTS,
            phases: SUPPLY_PHASES,
        }
    }
}

/// Settings of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address for charge points; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Connections at a time; more are refused with 503.
    pub max_connections: usize,
    /// Longest message that is read; longer ones are refused and quarantined.
    pub message_limit_bytes: usize,
    /// Longest message that is buffered at all; longer ones end the connection.
    pub buffer_limit_bytes: usize,
    /// Real time a station has to answer a call.
    pub call_timeout_ms: u64,
    /// Real time a socket has to take a message.
    pub write_timeout_ms: u64,
    /// Real time a client has to finish the websocket upgrade.
    pub handshake_timeout_ms: u64,
    /// Real time between pings; three without a sign of life end the connection.
    pub ping_seconds: u64,
    /// Heartbeat interval told to stations.
    pub heartbeat_seconds: u32,
    /// Log records that may wait.
    pub queue_records: usize,
    /// Messages that a station may send each second in the long run; one that sends more is read later.
    pub messages_per_second: u32,
    /// Messages that it may send at once beyond that, as after a lost connection.
    pub message_burst: u32,
    /// Ask stations what they can do once they are connected, and tell them how often to sample their meters.
    pub inquire: bool,
    /// Seconds between meter samples at stations that are told set-points.
    pub pool_sample_seconds: u32,
    /// Seconds between meter samples at others.
    pub idle_sample_seconds: u32,
    /// Seconds between the registers that stations stream which are told set-points and can; 0 asks for no streams.
    pub stream_seconds: u32,
    /// Handshakes at a time; others wait to be accepted. Bounds the work that a storm of reconnecting stations makes.
    pub max_handshakes: usize,
    /// Other edges serve stations of the same fleet over the same log: a set-point for a station that is not connected here
    /// is somebody else's, and a station that connects elsewhere is let go here.
    pub replicas: bool,
    /// Who may come in, and what may be said over the connection.
    pub security: Security,
    /// Phases and voltage behind limits in amperes.
    pub supply: SupplyConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)),
            max_connections: MAX_CONNECTIONS,
            message_limit_bytes: MESSAGE_LIMIT,
            buffer_limit_bytes: BUFFER_LIMIT,
            call_timeout_ms: CALL_TIMEOUT_MS,
            write_timeout_ms: WRITE_TIMEOUT_MS,
            handshake_timeout_ms: HANDSHAKE_TIMEOUT_MS,
            ping_seconds: PING_SECONDS,
            heartbeat_seconds: HEARTBEAT_SECONDS,
            queue_records: QUEUE_RECORDS,
            messages_per_second: MESSAGES_PER_SECOND,
            message_burst: MESSAGE_BURST,
            inquire: true,
            pool_sample_seconds: POOL_SAMPLE_SECONDS,
            idle_sample_seconds: IDLE_SAMPLE_SECONDS,
            stream_seconds: STREAM_SECONDS,
            max_handshakes: MAX_HANDSHAKES,
            replicas: false,
            security: Security::default(),
            supply: SupplyConfig::default(),
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("edge.{key} is {value}, expected {expected}")]
pub struct ConfigError {
    /// Key below `edge`.
    pub key: &'static str,
    /// Value met.
    pub value: u64,
    /// What would do.
    pub expected: &'static str,
}

impl Config {
    /// Checks everything that the types leave open.
    ///
    /// # Errors
    /// [`ConfigError`] naming the first key that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = [
            ("max_connections", self.max_connections as u64),
            ("message_limit_bytes", self.message_limit_bytes as u64),
            ("call_timeout_ms", self.call_timeout_ms),
            ("write_timeout_ms", self.write_timeout_ms),
            ("handshake_timeout_ms", self.handshake_timeout_ms),
            ("ping_seconds", self.ping_seconds),
            ("heartbeat_seconds", self.heartbeat_seconds.into()),
            ("queue_records", self.queue_records as u64),
            ("messages_per_second", self.messages_per_second.into()),
            ("pool_sample_seconds", self.pool_sample_seconds.into()),
            ("idle_sample_seconds", self.idle_sample_seconds.into()),
            ("message_burst", self.message_burst.into()),
            ("max_handshakes", self.max_handshakes as u64),
        ];
        for (key, value) in positive {
            if value == 0 {
                return Err(ConfigError {
                    key,
                    value,
                    expected: "at least 1",
                });
            }
        }
        if self.buffer_limit_bytes < self.message_limit_bytes {
            return Err(ConfigError {
                key: "buffer_limit_bytes",
                value: self.buffer_limit_bytes as u64,
                expected: "at least message_limit_bytes",
            });
        }
        let supply = [
            (
                "supply.volts",
                u64::from(self.supply.volts),
                80..=300,
                "80 to 300",
            ),
            (
                "supply.phases",
                u64::from(self.supply.phases),
                1..=3,
                "1 to 3",
            ),
        ];
        for (key, value, lawful, expected) in supply {
            if !lawful.contains(&value) {
                return Err(ConfigError {
                    key,
                    value,
                    expected,
                });
            }
        }
        Ok(())
    }

    pub(crate) const fn call_timeout(&self) -> Duration {
        Duration::from_millis(self.call_timeout_ms)
    }

    pub(crate) const fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_valid_and_zeros_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let broken = Config {
            ping_seconds: 0,
            ..Config::default()
        };
        assert_eq!(
            broken.validate().unwrap_err().to_string(),
            "edge.ping_seconds is 0, expected at least 1"
        );
        let supply = SupplyConfig {
            phases: 4,
            ..SupplyConfig::default()
        };
        let broken = Config {
            supply,
            ..Config::default()
        };
        assert_eq!(
            broken.validate().unwrap_err().to_string(),
            "edge.supply.phases is 4, expected 1 to 3"
        );
    }
}
