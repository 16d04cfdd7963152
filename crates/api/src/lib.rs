//! How do programs talk to us? The only room that knows HTTP and JSON.
//!
//! Modules from the ground up; each uses only those above its line.

/// How does a program learn what was wrong?
pub mod problem;
/// What does a request ask?
pub mod asked;
/// How often may one credential call?
pub mod rate;
/// How is somebody else's HTTP server asked?
mod line;
/// Which way did a message go, for collectors of traces?
pub mod trace;
/// Who is asking?
pub mod caller;
/// What became of a message?
pub mod explanation;
/// How does an event look to who may see it?
pub mod kept;
/// How is a message handed in as JSON, and called back?
pub mod messages;
/// How is a webhook's target told, and what is its answer worth?
pub mod post;
/// Where would a message go?
pub mod preview;
/// What would a reply mean?
pub mod reply;
/// What waits, why, and what may be done about it?
pub mod queue;
/// What came back and belongs to no message?
pub mod unmatched;
/// Is the service well?
pub mod health;
/// What of the control plane is there to see and to change?
pub mod native;
/// How does whoever takes the money hear of invoices?
pub mod payments;
/// What is told of all this to programs that read descriptions?
pub mod document;
/// Which calls are there, and what stands before each?
pub mod doors;
/// Who listens, and how does it end?
pub mod server;
/// What is a visitor of a tracking host answered?
pub mod tracking;
