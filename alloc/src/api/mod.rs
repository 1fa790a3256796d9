//! What users call.

mod fork;
pub(crate) mod global;
pub(crate) mod hint;
mod init;
#[cfg(feature = "model")]
pub mod model;
pub mod raw;
