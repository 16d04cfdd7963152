//! What should we do next, and why?
//!
//! The decision room: a plain value that is told what happened and what time it is, and says what to do next. No clock, no dice, no
//! socket, no file is here; months can be rehearsed in seconds. Modules from the ground up; each uses only those above its line.

pub mod time;
pub mod month;
pub mod id;
pub mod digests;
pub mod suppression;
pub mod active;
pub mod judged;
pub mod why;
pub mod guard;
pub mod tally;
pub mod attempt;
pub mod rulefile;
pub mod classify;
pub mod vocabulary;
pub mod envelope;
pub mod event;
pub mod simulator;
pub mod counts;
pub mod reader;
pub mod aftermath;
pub mod pace;
pub mod doubt;
pub mod provider;
pub mod schedule;
pub mod warmup;
pub mod overflow;
pub mod scale;
pub mod reputation;
pub mod tier;
pub mod drive;
pub mod fit;
pub mod case;
pub mod policy;
pub mod quota;
pub mod retry;
pub mod posting;
pub mod split;
pub mod snapshot;
pub mod charge;
pub mod advice;
pub mod route;
pub mod shape;
mod slab;
mod queue;
pub mod engine;

pub use crate::engine::{
    Action, Alarm, Cancellable, Engine, Figures, Filter, Input, LaneView, Learned, Limits, NotifyKind, Order,
    Resolution, Room, Shown, ShownHome, ShownRecipient, WarmUpView,
};
