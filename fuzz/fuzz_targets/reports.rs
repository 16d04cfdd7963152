//! Can any mail break the reading of what comes back, or have it say more than it may?
#![no_main]

use engine::classify::{Rules, normalised};
use libfuzzer_sys::fuzz_target;
use mail::report::{RECIPIENTS_MAX, Said, read};
use std::sync::OnceLock;

fuzz_target!(|data: &[u8]| {
    // The shipped rules are compiled once: they cost more than many mails.
    static RULES: OnceLock<Rules> = OnceLock::new();
    let rules = RULES.get_or_init(Rules::shipped);
    let read = read(data);
    assert!(read.original.len() <= 64 << 10, "an original is a header of bounded size");
    for name in ["Message-ID", "X-Weir-Token", "Feedback-ID"] {
        for value in read.original_fields(name) {
            assert!(!value.contains(['\r', '\n']), "an unfolded value is one line");
        }
    }
    match &read.said {
        Said::Delivery(reported) => {
            assert!(reported.len() <= RECIPIENTS_MAX);
            for one in reported {
                let reply = &one.reply;
                assert!((200..600).contains(&reply.code), "{reply:?}");
                assert!(!reply.text.chars().any(char::is_control), "{reply:?}");
                assert!(reply.text.chars().count() <= 2_000);
                for word in one.addresses.iter().chain(&one.host) {
                    assert!(!word.chars().any(char::is_control), "{word:?}");
                }
                assert!(normalised(&reply.text).len() <= 4_096);
                assert!(!rules.classify("google", reply).meaning.rule.is_empty());
            }
        }
        Said::Feedback(feedback) => assert!(feedback.recipients.len() <= RECIPIENTS_MAX),
        Said::Answer | Said::Else => {}
    }
});
