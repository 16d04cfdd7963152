//! How do two mail servers talk?
//!
//! Both sides have one shape: octets go in by `receive`, `poll` says what to do until it says `None`. Neither knows a
//! socket or a clock, so a test can play any conversation, in any pieces.

/// One line of the client's side: verbs, paths, parameters.
pub mod command;

/// The message between DATA and the dot, or in chunks: both directions.
pub mod data;

/// The side that takes mail.
pub mod server;

/// The side that gives mail.
pub mod client;
