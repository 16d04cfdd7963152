//! What would happen? Mailbox providers that do not exist, played by rules that real ones are known for.
//!
//! Nothing here is real: no socket, no clock, no dice of its own. Time and a seed come in as values, so that a run repeats.

/// Draws that repeat: a seeded stream of numbers.
pub mod dice;
/// How does a mailbox provider answer an IP, given what it has seen of it?
pub mod provider;
/// How much does a sender send when, and what is its mail like?
pub mod sender;
/// What was really sent?
pub mod history;
/// Who says how much an IP may send today?
pub mod budget;
/// What would happen in three months?
pub mod rehearsal;
/// What does one bad tenant cost the others of a shared pool?
pub mod shared;
/// What is to be rehearsed?
pub mod scenario;
/// How does a rehearsal look on paper?
pub mod page;
