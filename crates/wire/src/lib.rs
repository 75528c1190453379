#![doc = include_str!("../README.md")]

mod error;
mod field;

pub mod dispatch;
pub mod fleet;
pub mod forecast;
pub mod market;
pub mod portfolio;
pub mod telemetry;

pub use error::WireError;

use bytes::Bytes;
pub use prost::Message;

/// Every message and service of `proto/`, an encoded `google.protobuf.FileDescriptorSet`: what a server tells about itself.
pub const TYPES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/types.bin"));

/// The bytes of a message, as the log carries them.
#[must_use]
pub fn encode<M: Message>(message: &M) -> Bytes {
    message.encode_to_vec().into()
}

/// The message in `bytes`. Unknown fields are passed over: an older reader understands a newer writer.
///
/// # Errors
/// [`WireError::Decode`] if the bytes are not such a message.
pub fn decode<M: Message + Default>(bytes: &[u8]) -> Result<M, WireError> {
    M::decode(bytes).map_err(|source| WireError::Decode {
        message: std::any::type_name::<M>(),
        source,
    })
}

/// Generated messages and services, by package.
pub mod proto {
    #![allow(
        missing_debug_implementations,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::doc_markdown,
        clippy::missing_errors_doc,
        clippy::wildcard_enum_match_arm,
        reason = "generated"
    )]

    /// `shoal.telemetry`
    pub mod telemetry {
        /// `shoal.telemetry.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.telemetry.v1");
        }
    }
    /// `shoal.fleet`
    pub mod fleet {
        /// `shoal.fleet.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.fleet.v1");
        }
    }
    /// `shoal.forecast`
    pub mod forecast {
        /// `shoal.forecast.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.forecast.v1");
        }
    }
    /// `shoal.portfolio`
    pub mod portfolio {
        /// `shoal.portfolio.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.portfolio.v1");
        }
    }
    /// `shoal.market`
    pub mod market {
        /// `shoal.market.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.market.v1");
        }
    }
    /// `shoal.dispatch`
    pub mod dispatch {
        /// `shoal.dispatch.v1`
        pub mod v1 {
            tonic::include_proto!("shoal.dispatch.v1");
        }
    }
}
