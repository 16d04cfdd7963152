//! Can any dialogue break the server's side of SMTP, or bring a message in that could be read as two?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::smtp::server::{Answer, Auth, Output, Question, Session, Settings};
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, dialogue)) = data.split_first() else { return };
    let settings = Arc::new(Settings {
        host: "weir.test".to_owned(),
        size_max: 4_096,
        recipients_max: 3,
        command_line_max: 512,
        errors_max: 10,
        auth: [Auth::Never, Auth::UnderTls, Auth::Always][usize::from(shape & 3) % 3],
        auth_required: shape & 4 != 0,
        starttls: shape & 8 != 0,
        hops_max: 100,
    });
    let mut session = Session::new(settings, shape & 16 != 0);
    // Small pieces find what whole lines hide.
    let piece = usize::from(shape >> 5) * 7 + 1;
    for piece in dialogue.chunks(piece) {
        session.receive(piece);
        while let Some(output) = session.poll() {
            match output {
                Output::Send(octets) => assert!(octets.ends_with(b"\r\n"), "an answer is whole lines"),
                Output::StartTls => session.tls_started(),
                Output::Ask(Question::Message(submission)) => {
                    assert!(submission.body.is_empty() || submission.body.ends_with(b"\r\n"));
                    assert!(clean(&submission.body), "bare CR, LF or NUL came through");
                    assert!(submission.body.len() as u64 <= 4_096);
                    assert!((1..=3).contains(&submission.recipients.len()));
                    session.answer(Answer::Yes);
                }
                Output::Ask(_) => session.answer(Answer::Yes),
                Output::Close => return,
            }
        }
        assert!(session.buffered() <= 1 << 20, "memory is bounded");
    }
});

fn clean(body: &[u8]) -> bool {
    let mut before = b'\n';
    for (place, octet) in body.iter().enumerate() {
        let after = body.get(place + 1).copied();
        let fine = match octet {
            b'\r' => after == Some(b'\n'),
            b'\n' => before == b'\r',
            0 => false,
            _ => true,
        };
        if !fine {
            return false;
        }
        before = *octet;
    }
    true
}
