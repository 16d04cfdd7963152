//! How do we reach the outside? The clock, DNS, dialling from a chosen address, TLS both ways, MTA-STS policies.
//!
//! Nothing here decides about mail: what a standard says is in `mail`, when and from where to send is in `engine`.
//! From the ground up; a module uses only those above its own line.

pub mod clock;
pub mod dns;
pub mod dial;
pub mod interfaces;
pub mod tls;

// Apart, because rustfmt sorts neighbours: it uses `dns` and `tls`.
pub mod sts;
