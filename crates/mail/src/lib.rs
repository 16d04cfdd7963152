//! What do the standards of mail say? No socket, no clock, no file is touched here.

/// Mail addresses and domains.
pub mod address;
/// SMTP replies: read and written.
pub mod reply;
