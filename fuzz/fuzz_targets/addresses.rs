//! Can any text break the reading of addresses, replies, policies and records, or pass as an address that is two?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::address::{Domain, Mailbox};
use mail::mailboxes::{NamedMailbox, parse_list};
use mail::reply::ReplyReader;

fuzz_target!(|data: &[u8]| {
    let mut reader = ReplyReader::default();
    let mut rest = data;
    while let Ok(Some(reply)) = reader.receive(&mut rest) {
        let mut out = Vec::new();
        reply.write(&mut out);
        assert!(out.ends_with(b"\r\n"));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(domain) = Domain::parse(text) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain), "a canonical form is its own canonical form");
    }
    if let Ok(mailbox) = Mailbox::parse(text) {
        let written = mailbox.to_string();
        assert!(!written.chars().any(char::is_control), "{written:?}");
        assert_eq!(Mailbox::parse(&written).as_ref(), Ok(&mailbox));
    }
    let _ = NamedMailbox::parse(text);
    let _ = parse_list(text);
    let _ = mail::mta_sts::record_id(&[text.to_owned()]);
    let _ = mail::mta_sts::Policy::parse(text);
});
