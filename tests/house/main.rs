//! Does the whole house keep its promises? The real binary, against providers on loopback that do what they are told.
//!
//! One file is one behaviour. All stand in one test binary, because linking takes longer than most of them.

#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

mod thin_thread;
mod input;
mod next_hop;
mod names;
mod crash;
mod scarcity;
mod clock;
mod operator;
mod command_line;
mod tenants;
mod readers;
mod events;
