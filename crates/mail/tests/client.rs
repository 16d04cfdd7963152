//! Does the client's side tell the fate of each recipient rightly, whatever the server does?
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::sync::Arc;

use mail::reply::{Reply, ReplyReader};
use mail::smtp::client::{
    Client, ClientSettings, Failure, Opening, Outcome, Output, Phase, SignIn, Stage, TlsWish, Transaction,
};
use mail::smtp::command::{Notify, RecipientParameters, Ret};
use mail::smtp::server::{self, Answer, Auth, Question, Session, Settings};
use proptest::prelude::*;

const ALL: &str =
    "250-mx\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250 CHUNKING\r\n";
const NONE: &str = "250 mx\r\n";

/// A server that is played by hand.
struct Peer {
    client: Client,
}

impl Peer {
    fn new(tls: TlsWish, chunking: bool) -> Peer {
        Peer { client: Client::new(ClientSettings { ehlo: "me.example".to_owned(), tls, chunking, sign_in: None }) }
    }

    /// Greeted, and ready for a transaction.
    fn ready(ehlo: &str, chunking: bool) -> Peer {
        let mut peer = Peer::new(TlsWish::Never, chunking);
        peer.hears("220 mx ESMTP\r\n", &["EHLO me.example"]);
        peer.hears(ehlo, &["Ready"]);
        peer
    }

    /// The server says `said`; then the client does exactly this.
    #[track_caller]
    fn hears(&mut self, said: &str, expected: &[&str]) {
        self.client.receive(said.as_bytes());
        self.does(expected);
    }

    #[track_caller]
    fn does(&mut self, expected: &[&str]) {
        let mut done = Vec::new();
        while let Some(output) = self.client.poll() {
            match output {
                Output::Send(pieces) => {
                    let octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                    let text = octets.escape_ascii().to_string();
                    done.extend(text.split_terminator("\\r\\n").map(str::to_owned));
                }
                Output::Done(outcomes) => done.extend(outcomes.iter().map(described)),
                Output::NotReady(Failure { stage, reply }) => {
                    done.push(format!(
                        "NotReady {stage:?} {}",
                        reply.map_or("-".to_owned(), |reply| reply.code.to_string())
                    ));
                }
                other => done.push(format!("{other:?}")),
            }
        }
        assert_eq!(done, expected);
    }
}

fn described(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Answered { stage, reply } => format!("{stage:?} {}", reply.code),
        Outcome::Lost { stage } => format!("Lost {stage:?}"),
        Outcome::NotTried => "NotTried".to_owned(),
    }
}

fn to(recipients: &[&str]) -> Transaction {
    Transaction {
        from: Some("a@b.example".to_owned()),
        recipients: recipients.iter().map(|&to| (to.to_owned(), RecipientParameters::default())).collect(),
        prefix: b"X: y\r\n"[..].into(),
        body: b"Subject: x\r\n\r\n.hi\r\n"[..].into(),
        ret: None,
        envid: None,
        smtputf8: false,
    }
}

#[test]
fn a_flight_is_pipelined() {
    let mut peer = Peer::ready(ALL, false);
    peer.client.begin(to(&["1@d.example", "2@d.example"]));
    peer.does(&["MAIL FROM:<a@b.example> SIZE=25", "RCPT TO:<1@d.example>", "RCPT TO:<2@d.example>", "DATA"]);
    assert_eq!(peer.client.phase(), Phase::Mail);
    peer.hears("250 ok\r\n", &[]);
    assert_eq!(peer.client.phase(), Phase::Recipient);
    peer.hears("250 ok\r\n550 5.1.1 no\r\n", &[]);
    assert_eq!(peer.client.phase(), Phase::DataStart);
    peer.client.receive(b"354 go\r\n");
    assert_eq!(peer.client.phase(), Phase::DataBlock);
    peer.does(&["X: y", "Subject: x", "", "..hi", "."]);
    assert_eq!(peer.client.phase(), Phase::DataEnd);
    peer.hears("250 2.0.0 queued\r\n", &["End 250", "Recipient 550", "Ready"]);
    assert_eq!(peer.client.phase(), Phase::Ready);
    peer.client.quit();
    peer.does(&["QUIT"]);
    assert_eq!(peer.client.phase(), Phase::Quit);
    peer.hears("221 bye\r\n", &["Close"]);
}

#[test]
fn without_pipelining_it_goes_step_by_step() {
    let mut peer = Peer::ready(NONE, true);
    peer.client.begin(to(&["1@d.example", "2@d.example"]));
    peer.does(&["MAIL FROM:<a@b.example>"]);
    peer.hears("250 ok\r\n", &["RCPT TO:<1@d.example>"]);
    peer.hears("450 later\r\n", &["RCPT TO:<2@d.example>"]);
    peer.hears("250 ok\r\n", &["DATA"]);
    peer.hears("354 go\r\n", &["X: y", "Subject: x", "", "..hi", "."]);
    peer.hears("550 5.7.1 spam\r\n", &["Recipient 450", "End 550", "Ready"]);
    // MAIL refused: nothing more is said.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&["MAIL FROM:<a@b.example>"]);
    peer.hears("451 later\r\n", &["Mail 451", "Ready"]);
    // Nobody accepted: RSET, and only its answer makes ready.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&["MAIL FROM:<a@b.example>"]);
    peer.hears("250 ok\r\n", &["RCPT TO:<1@d.example>"]);
    peer.hears("550 no\r\n", &["Recipient 550", "RSET"]);
    peer.hears("250 ok\r\n", &["Ready"]);
}

#[test]
fn a_refused_flight_is_brought_back_into_step() {
    let flight = ["MAIL FROM:<a@b.example> SIZE=25", "RCPT TO:<1@d.example>", "DATA"];
    let mut peer = Peer::ready(ALL, false);
    // All refused, DATA refused too.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("250 ok\r\n550 no\r\n554 nobody\r\n", &["Recipient 550", "RSET"]);
    peer.hears("250 ok\r\n", &["Ready"]);
    // All refused, and yet "go on": a lone dot.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("250 ok\r\n550 no\r\n354 go\r\n", &["."]);
    peer.hears("250 thanks for nothing\r\n", &["Recipient 550", "Ready"]);
    // MAIL refused: the rest of the flight is refused in its wake.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("550 no\r\n503 what\r\n503 what\r\n", &["Mail 550", "Ready"]);
    // DATA refused.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("250 ok\r\n250 ok\r\n451 full\r\n", &["Data 451", "RSET"]);
    peer.hears("421 enough\r\n", &["Close"]);
}

#[test]
fn chunking_sends_everything_at_once() {
    let mut peer = Peer::ready(ALL, true);
    let flight =
        ["MAIL FROM:<a@b.example> SIZE=25", "RCPT TO:<1@d.example>", "BDAT 25 LAST", "X: y", "Subject: x", "", ".hi"];
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("250 ok\r\n250 ok\r\n250 done\r\n", &["End 250", "Ready"]);
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.hears("250 ok\r\n550 no\r\n554 nobody\r\n", &["Recipient 550", "RSET"]);
    peer.hears("250 ok\r\n", &["Ready"]);
    // All of it is out: whatever answer is missing, the server may have the message.
    peer.client.begin(to(&["1@d.example"]));
    peer.does(&flight);
    peer.client.lost();
    peer.does(&["Lost End", "Close"]);
}

// B14
#[test]
fn too_many_recipients_are_not_refused() {
    for answer in ["452 4.5.3 enough\r\n", "452 Too many recipients\r\n", "552 too many recipients\r\n"] {
        let mut peer = Peer::ready(ALL, false);
        peer.client.begin(to(&["1@d.example", "2@d.example", "3@d.example"]));
        peer.does(&[
            "MAIL FROM:<a@b.example> SIZE=25",
            "RCPT TO:<1@d.example>",
            "RCPT TO:<2@d.example>",
            "RCPT TO:<3@d.example>",
            "DATA",
        ]);
        peer.hears(
            &format!("250 ok\r\n250 ok\r\n{answer}{answer}354 go\r\n"),
            &["X: y", "Subject: x", "", "..hi", "."],
        );
        peer.hears("250 ok\r\n", &["End 250", "NotTried", "NotTried", "Ready"]);
    }
    // Step by step: the others are not even named.
    let mut peer = Peer::ready(NONE, false);
    peer.client.begin(to(&["1@d.example", "2@d.example", "3@d.example"]));
    peer.does(&["MAIL FROM:<a@b.example>"]);
    peer.hears("250 ok\r\n", &["RCPT TO:<1@d.example>"]);
    peer.hears("250 ok\r\n", &["RCPT TO:<2@d.example>"]);
    peer.hears("452 4.5.3 enough\r\n", &["DATA"]);
    peer.hears("354 go\r\n", &["X: y", "Subject: x", "", "..hi", "."]);
    peer.hears("250 ok\r\n", &["End 250", "NotTried", "NotTried", "Ready"]);
    // Before anyone is accepted it is a refusal, and so is a mailbox that is full.
    let mut peer = Peer::ready(ALL, false);
    peer.client.begin(to(&["1@d.example", "2@d.example", "3@d.example"]));
    peer.client.receive(b"250 ok\r\n452 4.5.3 enough\r\n250 ok\r\n452 4.2.2 full\r\n354 go\r\n");
    peer.client.receive(b"250 ok\r\n");
    while let Some(output) = peer.client.poll() {
        if let Output::Done(outcomes) = output {
            assert_eq!(
                outcomes.iter().map(described).collect::<Vec<_>>(),
                ["Recipient 452", "End 250", "Recipient 452"]
            );
            return;
        }
    }
    panic!("nothing was done");
}

// B8
#[test]
fn a_421_settles_what_is_open_and_closes() {
    let flight = [
        "MAIL FROM:<a@b.example> SIZE=25",
        "RCPT TO:<1@d.example>",
        "RCPT TO:<2@d.example>",
        "RCPT TO:<3@d.example>",
        "DATA",
    ];
    for (answers, outcomes) in [
        ("421 bye\r\n", ["Mail 421", "Mail 421", "Mail 421"]),
        ("250 ok\r\n250 ok\r\n550 no\r\n421 bye\r\n", ["Recipient 421", "Recipient 550", "Recipient 421"]),
        ("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n421 bye\r\n", ["Data 421", "Recipient 550", "Data 421"]),
    ] {
        let mut peer = Peer::ready(ALL, false);
        peer.client.begin(to(&["1@d.example", "2@d.example", "3@d.example"]));
        peer.does(&flight);
        peer.hears(answers, &[&outcomes[..], &["Close"]].concat());
        // The host did not know yet.
        peer.client.begin(to(&["1@d.example"]));
        peer.does(&["Lost Mail"]);
    }
    // While idle.
    let mut peer = Peer::ready(ALL, false);
    peer.hears("421 4.4.2 idle for too long\r\n", &["Close"]);
    assert_eq!(peer.client.farewell(), Some(&Reply::new(421, (4, 4, 2), "idle for too long")));
}

// B4, B7: a message is only ever "perhaps delivered" once all of it is written.
#[test]
fn a_lost_connection_tells_how_far_it_was() {
    let start = || {
        let mut peer = Peer::ready(ALL, false);
        peer.client.begin(to(&["1@d.example", "2@d.example"]));
        while peer.client.poll().is_some() {}
        peer
    };
    for (answers, outcomes) in [
        ("", ["Lost Mail", "Lost Mail"]),
        ("250 ok\r\n550 no\r\n", ["Recipient 550", "Lost Recipient"]),
        ("250 ok\r\n550 no\r\n250 ok\r\n", ["Recipient 550", "Lost Data"]),
    ] {
        let mut peer = start();
        peer.client.receive(answers.as_bytes());
        peer.client.lost();
        peer.does(&[&outcomes[..], &["Close"]].concat());
    }
    // Handed to the host, but not written.
    let mut peer = start();
    peer.client.receive(b"250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n");
    assert!(matches!(peer.client.poll(), Some(Output::Send(_))));
    assert_eq!(peer.client.phase(), Phase::DataBlock);
    peer.client.lost();
    peer.does(&["Recipient 550", "Lost Data", "Close"]);
    // Written.
    let mut peer = start();
    peer.hears("250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n", &["X: y", "Subject: x", "", "..hi", "."]);
    peer.hears("25", &[]);
    peer.client.lost();
    peer.does(&["Recipient 550", "Lost End", "Close"]);
}

/// A yes that is out of step must never pass for this message's.
#[test]
fn a_server_out_of_step_is_left() {
    for (answers, outcome) in [
        ("354 go\r\n", "Lost Mail"),
        ("250 ok\r\n354 go\r\n", "Lost Recipient"),
        ("250 ok\r\n250 ok\r\n250 ok\r\n", "Lost Data"),
        ("250 ok\r\nnonsense\r\n", "Lost Recipient"),
    ] {
        let mut peer = Peer::ready(ALL, false);
        peer.client.begin(to(&["1@d.example"]));
        while peer.client.poll().is_some() {}
        peer.hears(answers, &[outcome, "Close"]);
    }
}

#[test]
fn what_can_be_known_before_is_answered_here() {
    // Too large.
    let mut peer = Peer::ready(ALL, false);
    peer.client.begin(Transaction { body: vec![b'x'; 1_000].into(), ..to(&["1@d.example"]) });
    peer.does(&["Local 552", "Ready"]);
    // The server lacks SMTPUTF8: one recipient needs it, or the header does, or only the client said so.
    let mut peer = Peer::ready(NONE, false);
    peer.client.begin(to(&["\u{e9}@d.example", "\u{e8}@d.example"]));
    peer.does(&["Local 553", "Local 553", "Ready"]);
    peer.client.begin(Transaction {
        body: "Subject: \u{e9}\r\n\r\nx\r\n".as_bytes().into(),
        smtputf8: true,
        ..to(&["1@d.example"])
    });
    peer.does(&["Local 553", "Ready"]);
    peer.client.begin(Transaction { smtputf8: true, ..to(&["1@d.example", "\u{e9}@d.example"]) });
    peer.does(&["MAIL FROM:<a@b.example>"]);
    peer.hears("550 no\r\n", &["Mail 550", "Local 553", "Ready"]);
    // Nobody at all.
    peer.client.begin(to(&[]));
    peer.does(&["Ready"]);
}

// D2, D4: nothing in a field ends a line.
#[test]
fn fields_cannot_carry_commands() {
    let mut peer = Peer::ready(ALL, false);
    peer.client.begin(Transaction { from: Some("a@b.example>\r\nDATA\r\n".to_owned()), ..to(&["1@d.example"]) });
    peer.does(&["Local 553", "Ready"]);
    peer.client.begin(Transaction { body: b"a\n.\nb\r\n"[..].into(), ..to(&["1@d.example"]) });
    peer.does(&["Local 550", "Ready"]);
    let mut transaction = to(&["1@d.example\r\nQUIT", "2@d.example"]);
    transaction.envid = Some("x\r\nQUIT".to_owned());
    transaction.recipients[1].1.orcpt = Some("rfc822;a\r\nQUIT".to_owned());
    peer.client.begin(transaction);
    peer.does(&["MAIL FROM:<a@b.example> SIZE=25", "RCPT TO:<2@d.example>", "DATA"]);
    let mut client = Client::new(ClientSettings {
        ehlo: "a\r\nQUIT".to_owned(),
        tls: TlsWish::Never,
        chunking: false,
        sign_in: None,
    });
    client.receive(b"220 mx\r\n");
    let Some(Output::Send(pieces)) = client.poll() else { panic!() };
    assert_eq!(&*pieces[0], b"EHLO aQUIT\r\n");
}

#[test]
fn parameters_go_to_a_server_that_offers_them() {
    let mut transaction = to(&["\u{e9}@d.example"]);
    transaction.from = None;
    transaction.body = "Subject: x\r\n\r\n\u{e9}\r\n".as_bytes().into();
    transaction.ret = Some(Ret::Headers);
    transaction.envid = Some("x+2By".to_owned());
    transaction.recipients[0].1 =
        RecipientParameters { notify: Some(Notify::NEVER), orcpt: Some("rfc822;e@d.example".to_owned()) };
    let mut peer = Peer::ready(ALL, false);
    peer.client.begin(transaction);
    peer.does(&[
        "MAIL FROM:<> SIZE=24 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x+2By",
        "RCPT TO:<\\xc3\\xa9@d.example> NOTIFY=NEVER ORCPT=rfc822;e@d.example",
        "DATA",
    ]);
}

#[test]
fn opening_by_helo() {
    let mut peer = Peer::new(TlsWish::IfOffered, false);
    peer.hears("220-mx\r\n220 ready\r\n", &["EHLO me.example"]);
    peer.hears("502 what\r\n", &["HELO me.example"]);
    peer.hears("250 mx\r\n", &["Ready"]);
}

// B12
#[test]
fn opening_under_tls() {
    let offer = "250-mx\r\n250-SIZE 5\r\n250 STARTTLS\r\n";
    for wish in [TlsWish::IfOffered, TlsWish::Required] {
        let mut peer = Peer::new(wish, false);
        peer.hears("220 mx\r\n", &["EHLO me.example"]);
        peer.hears(offer, &["STARTTLS"]);
        peer.hears("220 go\r\n", &["StartTls"]);
        assert_eq!(peer.client.phase(), Phase::StartTls);
        peer.client.tls_started();
        peer.does(&["EHLO me.example"]);
        // What was offered in clear counts no more.
        peer.hears("250 mx\r\n", &["Ready"]);
        peer.client.begin(to(&["1@d.example"]));
        peer.does(&["MAIL FROM:<a@b.example>"]);
    }
    // Not offered, or refused.
    for (wish, ehlo, answer, expected) in [
        (TlsWish::IfOffered, NONE, "", &["Ready"][..]),
        (TlsWish::Required, NONE, "", &["QUIT", "NotReady TlsNotOffered 250", "Close"]),
        (TlsWish::IfOffered, offer, "454 not now\r\n", &["STARTTLS", "Ready"]),
        (TlsWish::Required, offer, "454 not now\r\n", &["STARTTLS", "QUIT", "NotReady StartTls 454", "Close"]),
        (TlsWish::IfOffered, offer, "421 bye\r\n", &["STARTTLS", "NotReady StartTls 421", "Close"]),
        // Clear octets behind the server's yes.
        (
            TlsWish::IfOffered,
            offer,
            "220 go\r\n250 evil\r\n",
            &["STARTTLS", "StartTls", "NotReady StartTls -", "Close"],
        ),
    ] {
        let mut peer = Peer::new(wish, false);
        peer.hears("220 mx\r\n", &["EHLO me.example"]);
        peer.client.receive(ehlo.as_bytes());
        peer.hears(answer, expected);
    }
    // The handshake fails.
    let mut peer = Peer::new(TlsWish::Required, false);
    peer.client.receive(format!("220 mx\r\n{offer}220 go\r\n").as_bytes());
    peer.client.lost();
    peer.does(&["EHLO me.example", "STARTTLS", "StartTls", "NotReady StartTls -", "Close"]);
}

// B8, B10
#[test]
fn opening_fails_with_its_stage() {
    for (said, expected) in [
        ("421 busy\r\n", &["NotReady Banner 421", "Close"][..]),
        ("554 no\r\n", &["QUIT", "NotReady Banner 554", "Close"]),
        ("hello\r\n", &["NotReady Banner -", "Close"]),
        ("220 mx\r\n450 later\r\n", &["EHLO me.example", "QUIT", "NotReady Hello 450", "Close"]),
        (
            "220 mx\r\n500 x\r\n500 x\r\n",
            &["EHLO me.example", "HELO me.example", "QUIT", "NotReady Hello 500", "Close"],
        ),
    ] {
        Peer::new(TlsWish::Never, false).hears(said, expected);
    }
    let mut peer = Peer::new(TlsWish::Never, false);
    peer.client.lost();
    assert!(matches!(peer.client.poll(), Some(Output::NotReady(Failure { stage: Opening::Banner, reply: None }))));
}

/// A server that is asked to sign in at, greeted and heard this of.
fn asked_to_sign_in(offers: &str, done: &[&str]) -> Peer {
    let sign_in = Some(SignIn { user: "ann".to_owned(), password: "a secret".to_owned() });
    let settings = ClientSettings { ehlo: "me.example".to_owned(), tls: TlsWish::Never, chunking: false, sign_in };
    let mut peer = Peer { client: Client::new(settings) };
    peer.hears("220 mx ESMTP\r\n", &["EHLO me.example"]);
    peer.hears(offers, done);
    peer
}

// RFC 4954: PLAIN where there is a choice, with all that it needs at once.
#[test]
fn it_signs_in_where_it_is_told_to() {
    let plain = "AUTH PLAIN AGFubgBhIHNlY3JldA==";
    let both = "250-mx\r\n250 AUTH LOGIN PLAIN\r\n";
    let mut peer = asked_to_sign_in(both, &[plain]);
    assert_eq!(peer.client.phase(), Phase::Hello);
    peer.hears("235 2.7.0 Welcome\r\n", &["Ready"]);
    let mut peer = asked_to_sign_in("250-mx\r\n250 AUTH LOGIN\r\n", &["AUTH LOGIN"]);
    peer.hears("334 VXNlcm5hbWU6\r\n", &["YW5u"]);
    peer.hears("334 UGFzc3dvcmQ6\r\n", &["YSBzZWNyZXQ="]);
    peer.hears("235 2.7.0 Welcome\r\n", &["Ready"]);

    asked_to_sign_in(both, &[plain]).hears("535 5.7.8 No\r\n", &["QUIT", "NotReady Auth 535", "Close"]);
    asked_to_sign_in(both, &[plain]).hears("421 4.3.2 Later\r\n", &["NotReady Auth 421", "Close"]);
    // It asks for what it was told already: a server that is out of step hears no password twice.
    asked_to_sign_in(both, &[plain]).hears("334 \r\n", &["QUIT", "NotReady Auth 334", "Close"]);
    let unknown = "250-mx\r\n250 AUTH CRAM-MD5\r\n";
    asked_to_sign_in(unknown, &["QUIT", "NotReady AuthNotOffered 250", "Close"]);
    let mut peer = asked_to_sign_in(both, &[plain]);
    peer.client.lost();
    peer.does(&["NotReady Auth -", "Close"]);
    let said = format!("{:?}", peer.client);
    assert!(said.contains("ann") && !said.contains("a secret"), "{said}");
}

// What the server offers in clear is not believed, and nothing secret is said before TLS is there.
#[test]
fn no_password_goes_before_tls() {
    let sign_in = Some(SignIn { user: "ann".to_owned(), password: "a secret".to_owned() });
    let settings = ClientSettings { ehlo: "me.example".to_owned(), tls: TlsWish::Required, chunking: false, sign_in };
    let mut peer = Peer { client: Client::new(settings) };
    peer.hears("220 mx ESMTP\r\n", &["EHLO me.example"]);
    peer.hears("250-mx\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n", &["STARTTLS"]);
    peer.hears("220 go\r\n", &["StartTls"]);
    peer.client.tls_started();
    peer.does(&["EHLO me.example"]);
    peer.hears("250-mx\r\n250 AUTH LOGIN\r\n", &["AUTH LOGIN"]);
}

/// Plays a whole transaction between both sides: what arrived, and the outcomes.
fn meet(transaction: Transaction, chunking: bool, piece: usize) -> (Vec<server::Submission>, Vec<Outcome>, Vec<u8>) {
    let settings = Settings {
        host: "mx.example".to_owned(),
        size_max: 1 << 20,
        recipients_max: 4,
        command_line_max: 2_000,
        errors_max: 20,
        auth: Auth::Never,
        auth_required: false,
        starttls: false,
        hops_max: 100,
    };
    let mut session = Session::new(Arc::new(settings), false);
    let mut client =
        Client::new(ClientSettings { ehlo: "me.example".to_owned(), tls: TlsWish::IfOffered, chunking, sign_in: None });
    let (mut arrived, mut outcomes, mut wire) = (Vec::new(), Vec::new(), Vec::new());
    let mut transaction = Some(transaction);
    for _round in 0..1_000 {
        while let Some(output) = session.poll() {
            match output {
                server::Output::Send(octets) => octets.chunks(piece).for_each(|octets| client.receive(octets)),
                server::Output::Ask(Question::Message(message)) => {
                    arrived.push(*message);
                    session.answer(Answer::Yes);
                }
                server::Output::Ask(Question::Recipient { to, .. }) if to.local().starts_with('n') => {
                    session.answer(Answer::Refuse(Reply::new(550, (5, 1, 1), "No")));
                }
                server::Output::Ask(_) => session.answer(Answer::Yes),
                server::Output::StartTls | server::Output::Close => {}
            }
        }
        match client.poll() {
            Some(Output::Send(pieces)) => {
                let octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                wire.extend_from_slice(&octets);
                octets.chunks(piece).for_each(|octets| session.receive(octets));
            }
            Some(Output::Ready) => match transaction.take() {
                Some(transaction) => client.begin(transaction),
                None => client.quit(),
            },
            Some(Output::Done(done)) => outcomes = done,
            Some(Output::Close) => return (arrived, outcomes, wire),
            Some(other) => panic!("{other:?}"),
            None => {}
        }
    }
    panic!("both sides wait")
}

proptest! {
    #[test]
    fn both_sides_agree(
        lines in prop::collection::vec("[.a\u{e9}]{0,5}", 0..100),
        complete in any::<bool>(),
        names in prop::collection::vec("[yn][a-z]{3}", 1..7),
        chunking in any::<bool>(),
        piece in 1usize..100,
    ) {
        let mut body = format!("X: y\r\n\r\n{}", lines.join("\r\n")).into_bytes();
        if complete { body.extend_from_slice(b"\r\n"); }
        let addresses: Vec<String> = names.iter().map(|name| format!("{name}@d.example")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let transaction = Transaction { body: body.clone().into(), prefix: Vec::new().into(), ..to(&addresses) };
        let (arrived, outcomes, wire) = meet(transaction, chunking, piece);

        let welcome = names.iter().filter(|name| name.starts_with('y')).count().min(4);
        prop_assert_eq!(arrived.len(), usize::from(welcome > 0));
        if !body.ends_with(b"\r\n") { body.extend_from_slice(b"\r\n"); }
        for message in &arrived {
            prop_assert_eq!(&message.body, &body);
            prop_assert_eq!(message.recipients.len(), welcome);
        }
        prop_assert_eq!(outcomes.len(), names.len());
        let delivered = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Answered { stage: Stage::End, reply } if reply.is_positive()));
        prop_assert_eq!(delivered.count(), welcome);
        // No lone CR or LF was ever on the wire.
        let rest = wire.escape_ascii().to_string().replace("\\r\\n", "");
        prop_assert!(!rest.contains("\\r") && !rest.contains("\\n"));
    }

    #[test]
    fn noise_does_no_harm(
        said in prop::collection::vec(prop_oneof![
            prop::sample::select(vec!["220 x\r\n", "250 x\r\n", "354 x\r\n", "421 x\r\n", "452 4.5.3 x\r\n", "550 x\r\n", "250-x\r\n", ALL, "x"])
                .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..10),
        ], 0..30),
        chunking in any::<bool>(),
        piece in 1usize..20,
    ) {
        // The host acts between one thing said and the next; how each of them is cut must not matter.
        let play = |piece: usize| {
            let mut client = Client::new(ClientSettings { ehlo: "me".to_owned(), tls: TlsWish::Never, chunking, sign_in: None });
            let (mut record, mut open, mut done) = (Vec::new(), 0, 0);
            for phrase in said.iter().map(Some).chain([None]) {
                match phrase {
                    Some(phrase) => phrase.chunks(piece).for_each(|octets| client.receive(octets)),
                    None => client.lost(),
                }
                while let Some(output) = client.poll() {
                    match &output {
                        Output::Ready => {
                            client.begin(to(&["1@d.example", "2@d.example"]));
                            open += 1;
                        }
                        Output::Done(outcomes) => {
                            assert_eq!(outcomes.len(), 2);
                            done += 1;
                        }
                        _ => {}
                    }
                    record.push(format!("{output:?}"));
                }
            }
            assert_eq!(open, done, "every transaction ends");
            assert_eq!(record.iter().filter(|output| *output == "Close").count(), 1);
            record
        };
        prop_assert_eq!(play(piece), play(usize::MAX));
    }

    #[test]
    fn replies_do_not_depend_on_pieces(said in prop::collection::vec(prop::sample::select(&b"25 -.0x\r\n\n\xc3"[..]), 0..80), piece in 1usize..10) {
        let read = |piece: usize| {
            let mut reader = ReplyReader::default();
            let mut replies = Vec::new();
            for octets in said.chunks(piece) {
                let mut rest = octets;
                while !rest.is_empty() {
                    match reader.receive(&mut rest) {
                        Ok(reply) => replies.extend(reply.map(Ok)),
                        Err(error) => {
                            replies.push(Err(error));
                            return replies;
                        }
                    }
                }
            }
            replies
        };
        prop_assert_eq!(read(piece), read(usize::MAX));
    }
}
