//! x
/// x
pub mod wire { #![allow(missing_docs)] tonic::include_proto!("paintover.v1"); }
