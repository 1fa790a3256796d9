//! What users call.

mod fork;
pub(crate) mod global;
pub(crate) mod hint;
mod init;
pub mod raw;
