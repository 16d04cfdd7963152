//! Can any octets break the reading, preparing, signing or verifying of messages?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::dkim;
use mail::message::{Message, Preparing, fields, mend_line_ends, prepare, split};

fuzz_target!(|data: &[u8]| {
    let _ = Message::parse(data.to_vec());
    let _ = dkim::verify(data, &|_| Some("v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=".to_owned()));
    let (header, _) = split(data);
    for field in fields(header) {
        let _ = field.unfolded();
    }
    let preparing = Preparing {
        date_unix: 1_700_000_000,
        message_id: "<a@weir.test>".to_owned(),
        remove: &["X-MSYS-API", "X-SES-*"],
        trace: Some("by weir.test with ESMTP id 1; date".to_owned()),
    };
    for octets in [data.to_vec(), mend_line_ends(data.to_vec())] {
        let Ok(prepared) = prepare(octets, &preparing) else { continue };
        let text = &prepared.octets;
        assert!(text.ends_with(b"\r\n"));
        assert!(!prepared.from.is_empty());
        let mut length = 0;
        let mut before = 0;
        for octet in text {
            match octet {
                b'\n' => {
                    assert_eq!(before, b'\r', "a bare LF came through");
                    assert!(length <= 999, "a line is too long for the wire");
                    length = 0;
                }
                _ => {
                    assert!(before != b'\r', "a bare CR came through");
                    length += 1;
                }
            }
            before = *octet;
        }
        // What was made fit once is fit: it passes again, and its removed fields are gone.
        let again = prepare(text.clone(), &preparing).expect("what was prepared can be prepared");
        assert!(again.removed.is_empty());
        assert_eq!(again.message_id, prepared.message_id);
    }
});
