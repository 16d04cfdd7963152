//! How do programs talk to us? The only room that knows HTTP and JSON.
//!
//! Modules from the ground up; each uses only those above its line.

/// How does a program learn what was wrong?
pub mod problem;
/// Who is asking?
pub mod caller;
/// What became of a message?
pub mod explanation;
/// How is a message handed in as JSON, and called back?
pub mod messages;
/// Where would a message go?
pub mod preview;
/// What waits, why, and what may be done about it?
pub mod queue;
/// Who listens, and how does it end?
pub mod server;
