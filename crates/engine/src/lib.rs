//! What should we do next, and why?
//!
//! The decision room: a plain value that is told what happened and what time it is, and says what to do next. No clock, no dice, no
//! socket, no file is here; months can be rehearsed in seconds. Modules from the ground up; each uses only those above its line.

pub mod attempt;
pub mod classify;
pub mod engine;
pub mod envelope;
pub mod event;
pub mod id;
pub mod provider;
pub mod retry;
pub mod route;
pub mod rulefile;
pub mod snapshot;
pub mod time;
pub mod why;

pub use crate::engine::{Action, Alarm, Engine, Figures, Filter, Input, Limits, NotifyKind, Order, Resolution, Room};
