#![doc = include_str!("../README.md")]

/// Generated messages and services, by package.
pub mod proto {
    #![allow(
        missing_debug_implementations,
        unreachable_pub,
        unused_qualifications,
        clippy::all,
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
