//! What do the mail standards say? No socket, no clock, no product words.

pub mod dane;
pub mod encode;
pub mod mta_sts;
