//! What do the standards of mail say? No socket, no clock, no file is touched here.

/// Mail addresses and domains.
pub mod address;

/// SMTP replies: read and written.
pub mod reply;

/// SMTP: both sides of the conversation.
pub mod smtp;

/// Texts written for the wire: dates, folds, encoded words, quoted-printable.
pub mod encode;

/// The mailboxes of a header field.
pub mod mailboxes;

/// Messages as octets: their fields, and what submission changes.
pub mod message;

/// Messages written from their parts.
pub mod compose;

/// The parts of a message, and other texts in their place.
pub mod parts;

/// HTML texts, and where they lead to.
pub mod html;

/// DKIM: signing, keys, verifying.
pub mod dkim;

/// Delivery status notifications.
pub mod dsn;

/// What comes back: reports of delivery, complaints, automatic answers.
pub mod report;
/// MTA-STS: does a domain's policy let us speak to this host?
pub mod mta_sts;

/// DANE: do a host's TLSA records vouch for its certificates?
pub mod dane;

/// What a domain must publish, and whether it does.
pub mod records;
