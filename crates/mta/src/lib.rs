//! Take it in, keep it, send it: the data plane.
//!
//! It never asks who may use what: it is told, by a `Snapshot`. Modules from the ground up; each uses only those above its line.

/// What do we tell a submitter whose message we do not take?
pub mod refusal;
/// How often may somebody fail to sign in?
pub mod guarded;
/// Who is at the door, and by what right?
pub mod visitor;
/// What must an account not read in the words of others?
pub mod hidden;
/// What can a Prometheus server ask us?
pub mod metrics;
/// Where do bounces come back to, and how do we know that they are ours?
pub mod return_path;
/// In which octets do envelopes, states and events stand in the spool?
pub mod record;
/// How need a start not read the whole event log again?
pub mod checkpoint;
/// Was this submitted before?
pub mod once;
pub mod quotas;
/// What came back before?
pub mod heard;
/// Which keys sign for which domain?
pub mod sign;
/// What does a message bear, so that we know it when it comes back?
pub mod badge;
mod connection;
/// How does one session carry out what the engine decided?
pub mod deliver;
/// Who carries the engine's decisions to sockets and disk?
pub mod driver;
/// Where do the links of a message lead, where its sender wants to hear of readers?
pub mod links;
/// May this message come in?
pub mod intake;
/// How does a letter of the service's own leave?
pub mod letter;
/// What became of a message, and why?
pub mod explain;
/// What came back that belongs to no message we know?
pub mod unmatched;
/// What comes back, of which message, and what does it change?
pub mod returns;
/// Did anybody open it, and what did they follow?
pub mod tracking;
mod notice;
/// What does a conversation with a submitter say and hear?
pub mod listener;
/// How does all of it begin and end?
pub mod plant;

pub use plant::{Plant, Settings, StartFault};
