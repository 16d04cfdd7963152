//! Does the server's side stay bounded and unmoved, whatever comes in?
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::sync::Arc;

use mail::reply::Reply;
use mail::smtp::server::{Answer, Auth, Output, Question, Session, Settings};
use proptest::prelude::*;

fn settings() -> Settings {
    Settings {
        host: "mx.example".to_owned(),
        size_max: 100_000,
        recipients_max: 3,
        command_line_max: 512,
        errors_max: 5,
        auth: Auth::Always,
        auth_required: false,
        starttls: false,
        hops_max: 100,
    }
}

/// What a session did, with everything it said joined, since a host may write it in any pieces.
#[derive(Debug, Default, PartialEq)]
struct Record {
    said: String,
    asked: Vec<Question>,
    tls: usize,
    closed: usize,
}

impl Record {
    fn messages(&self) -> usize {
        self.asked.iter().filter(|question| matches!(question, Question::Message(_))).count()
    }

    fn codes(&self) -> Vec<&str> {
        self.said.lines().map(|line| &line[..3]).collect()
    }
}

/// Takes all outputs, answering every question with yes, except for users and recipients named `no`.
fn drain(session: &mut Session, record: &mut Record) {
    while let Some(output) = session.poll() {
        match output {
            Output::Send(octets) => record.said.push_str(std::str::from_utf8(&octets).unwrap()),
            Output::StartTls => record.tls += 1,
            Output::Close => record.closed += 1,
            Output::Ask(question) => {
                assert!(session.asking());
                let no = match &question {
                    Question::Recipient { to, .. } => to.local() == "no",
                    Question::Authenticate { user, .. } => user == "no",
                    _ => false,
                };
                record.asked.push(question);
                session.answer(if no { Answer::Refuse(Reply::new(550, (5, 1, 1), "No")) } else { Answer::Yes });
            }
        }
    }
    assert!(!session.asking());
}

fn play(settings: Settings, input: &[u8], piece: usize) -> Record {
    let mut session = Session::new(Arc::new(settings), false);
    let mut record = Record::default();
    for octets in input.chunks(piece) {
        session.receive(octets);
        drain(&mut session, &mut record);
    }
    drain(&mut session, &mut record);
    record
}

const ENVELOPE: &[u8] = b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\n";

// D1: no false end of data makes a second message, and the first is refused.
#[test]
fn a_second_message_inside_a_message_is_none() {
    let inner = b"MAIL FROM:<evil@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nSubject: smuggled\r\n";
    for false_end in [
        &b"\n.\n"[..],
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\r\n\0.\r\n",
        b"\r\r\n.\r\n",
        b"\r\r\n.\r\r\n",
        b"\r\n.\0\r\n",
    ] {
        let wire = [ENVELOPE, b"Subject: x\r\n\r\nhello", false_end, inner, b"\r\n.\r\n"].concat();
        for piece in [1, 3, usize::MAX] {
            let record = play(settings(), &wire, piece);
            let name = format!("{} in pieces of {piece}", false_end.escape_ascii());
            assert_eq!(record.messages(), 0, "{name}");
            assert_eq!(record.codes().last(), Some(&"550"), "{name}");
            assert_eq!(record.said.matches("250 2.1.0").count(), 1, "{name}");
        }
    }
}

// D3: what is sent in clear behind STARTTLS is never carried out.
#[test]
fn commands_behind_starttls_end_the_session() {
    let settings = Settings { starttls: true, ..settings() };
    let together = play(settings.clone(), b"EHLO c\r\nSTARTTLS\r\nMAIL FROM:<a@b.example>\r\n", usize::MAX);
    assert_eq!(together.codes().last(), Some(&"554"));
    assert_eq!((together.tls, together.closed, together.asked.len()), (0, 1, 0));

    // They come after our answer, and before the handshake.
    let mut session = Session::new(Arc::new(settings.clone()), false);
    let mut record = Record::default();
    session.receive(b"EHLO c\r\nSTARTTLS\r\n");
    drain(&mut session, &mut record);
    assert_eq!((record.tls, record.closed), (1, 0));
    session.receive(b"MAIL FROM:<a@b.example>\r\n");
    session.tls_started();
    session.receive(b"EHLO c\r\nMAIL FROM:<a@b.example>\r\n");
    drain(&mut session, &mut record);
    assert_eq!((record.closed, record.asked.len()), (1, 0));
    assert_eq!(record.codes().last(), Some(&"220"));

    // They wait behind a question while STARTTLS does too.
    let waiting = play(settings, b"EHLO c\r\nMAIL FROM:<a@b.example>\r\nSTARTTLS\r\nNOOP\r\n", usize::MAX);
    assert_eq!(waiting.codes().last(), Some(&"554"));
    assert_eq!((waiting.tls, waiting.closed), (0, 1));
}

// D6
#[test]
fn long_lines_are_refused_in_bounded_memory() {
    let with_line = |octets: usize| [&b"NOOP "[..], &vec![b'x'; octets], b"\r\nNOOP\r\n"].concat();
    assert_eq!(play(settings(), &with_line(505), usize::MAX).codes(), ["220", "250", "250"]);
    for piece in [1, 1_000, usize::MAX] {
        assert_eq!(play(settings(), &with_line(506), piece).codes(), ["220", "500", "250"]);
        assert_eq!(play(settings(), &with_line(60_000), piece).codes(), ["220", "500", "250"]);
        assert_eq!(play(settings(), &with_line(100_000), piece).codes(), ["220", "421"]);
    }
    let mut session = Session::new(Arc::new(settings()), false);
    let mut record = Record::default();
    for _ in 0..20 {
        session.receive(&vec![b'x'; 1 << 20]);
        assert!(session.buffered() < 20_000);
    }
    drain(&mut session, &mut record);
    assert_eq!((record.codes(), record.closed), (vec!["220", "421"], 1));
}

#[test]
fn auth_lines_may_be_longer() {
    let line = [&b"EHLO c\r\nAUTH PLAIN "[..], &vec![b'A'; 10_000], b"\r\n"].concat();
    assert_eq!(play(settings(), &line, 100).codes().last(), Some(&"501"));
    let line = [&b"EHLO c\r\nAUTH PLAIN "[..], &vec![b'A'; 20_000], b"\r\n"].concat();
    assert_eq!(play(settings(), &line, 100).codes().last(), Some(&"500"));
}

// D7: the refusal comes after the data, the memory is given back at once, and the connection goes on.
#[test]
fn a_message_over_the_limit_is_read_to_its_end() {
    let mut session = Session::new(Arc::new(settings()), false);
    let mut record = Record::default();
    session.receive(ENVELOPE);
    drain(&mut session, &mut record);
    assert!(session.in_data());
    for _ in 0..2_000 {
        session.receive(b"0123456789012345678901234567890123456789012345678901234567890123456789\r\n");
        assert!(session.buffered() <= 100_000);
    }
    assert_eq!(session.buffered(), 0);
    session.receive(b".\r\nNOOP\r\n");
    drain(&mut session, &mut record);
    assert_eq!(record.codes()[record.codes().len() - 2..], ["552", "250"]);
    assert_eq!(record.messages(), 0);
}

#[test]
fn a_message_without_end_is_given_up() {
    let mut session = Session::new(Arc::new(Settings { size_max: 10, ..settings() }), false);
    let mut record = Record::default();
    session.receive(ENVELOPE);
    drain(&mut session, &mut record);
    let block = vec![b'x'; 1 << 20];
    for _ in 0..66 {
        session.receive(&block);
    }
    drain(&mut session, &mut record);
    assert_eq!((record.codes().last(), record.closed), (Some(&"421"), 1));
}

#[test]
fn a_client_that_never_stops_pipelining_is_held_in_bounded_memory() {
    let mut session = Session::new(Arc::new(settings()), false);
    let mut record = Record::default();
    session.receive(b"HELO c\r\n");
    drain(&mut session, &mut record);
    // A question is open at any time, so there is always something that waits.
    let round = b"MAIL FROM:<a@b.example>\r\nRSET\r\n";
    session.receive(round);
    for _ in 0..10_000 {
        session.receive(round);
        while session.poll().is_some() {}
        assert!(session.asking());
        session.answer(Answer::Yes);
        assert!(session.buffered() <= 2 * round.len());
    }
}

/// Octets that look like SMTP often enough to get deep.
fn speech() -> impl Strategy<Value = Vec<u8>> {
    let phrase = prop_oneof![
        4 => prop::sample::select(vec![
            &b"EHLO c\r\n"[..], b"MAIL FROM:<a@b.example>\r\n", b"MAIL FROM:<> SIZE=9 BODY=8BITMIME\r\n", b"RCPT TO:<c@d.example>\r\n",
            b"RCPT TO:<no@d.example>\r\n", b"DATA\r\n", b".\r\n", b"\r\n.\r\n", b"BDAT 7\r\n", b"BDAT 3 LAST\r\n", b"BDAT 0 LAST\r\n",
            b"RSET\r\n", b"NOOP\r\n", b"QUIT\r\n", b"AUTH PLAIN AG5vAHgAeA==\r\n", b"AUTH LOGIN\r\n", b"YW5u\r\n", b"*\r\n", b"HELO x\r\n",
        ]).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(prop::sample::select(&b"\r\n.\0 :<>@ab"[..]), 1..12),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(phrase, 0..40).prop_map(|phrases| phrases.concat())
}

proptest! {
    #[test]
    fn pieces_of_the_input_do_not_matter(input in speech(), piece in 1usize..40) {
        let settings = Settings { size_max: 40, ..settings() };
        let whole = play(settings.clone(), &input, usize::MAX);
        prop_assert_eq!(&play(settings.clone(), &input, 1), &whole);
        prop_assert_eq!(&play(settings, &input, piece), &whole);
        prop_assert!(whole.closed <= 1);
    }

    #[test]
    fn what_is_passed_on_is_clean_lines(input in speech()) {
        let wire = [ENVELOPE, &input, b"\r\n.\r\n"].concat();
        for question in play(settings(), &wire, 9).asked {
            if let Question::Message(message) = question {
                prop_assert!(!message.recipients.is_empty());
                prop_assert!(message.body.is_empty() || message.body.ends_with(b"\r\n"));
                let text = message.body.escape_ascii().to_string().replace("\\r\\n", "");
                prop_assert!(!text.contains("\\r") && !text.contains("\\n") && !text.contains("\\x00"));
            }
        }
    }

    #[test]
    fn noise_does_no_harm(pieces in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..50), 0u8..8), 0..30)) {
        let mut session = Session::new(Arc::new(Settings { starttls: true, ..settings() }), false);
        for (octets, act) in pieces {
            session.receive(&octets);
            match act {
                0 => session.tls_started(),
                1 => session.answer(Answer::Yes),
                2 => session.answer(Answer::Refuse(Reply::new(450, (4, 0, 0), "no"))),
                3 => session.receive(b"STARTTLS\r\n"),
                4 => session.receive(b"\r\nBDAT 18446744073709551615 LAST\r\n"),
                5 => session.shut_down(Reply::new(421, (4, 3, 2), "closing")),
                _ => while session.poll().is_some() {},
            }
        }
    }
}
