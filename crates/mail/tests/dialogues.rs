//! Does the server's side answer each dialogue in `dialogues/` as it is written there, in whatever pieces it comes?
//!
//! `SET name value` changes a setting. `C: text` is sent with CRLF, `C> text` without; lines of it that stand together are
//! sent together. `S: text` is the start of the next reply line, `ASK text` the next question, `TLS` and `CLOSE` the
//! other outputs; nothing may come that is not written. `ANSWER yes`, `ANSWER yes 250 2.0.0 text` and
//! `ANSWER refuse 550 5.1.1 text` answer the host's part; `STARTED` ends the handshake; `SHUTDOWN` ends the service.
//! Escapes: `\r \n \0 \\ \xNN`, and `\s` for a space at the end of a line.
#![allow(clippy::unwrap_used)] // a test may stop at the first surprise

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use mail::reply::{Reply, ReplyReader};
use mail::smtp::server::{Answer, Auth, Output, Question, Session, Settings};

#[test]
fn dialogues_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script = std::fs::read_to_string(&path).unwrap();
        for piece in [usize::MAX, 1, 2, 7] {
            Play::new(&script, piece).run(&format!("{} in pieces of {piece}", path.display()));
        }
        count += 1;
    }
    assert!(count >= 10, "only {count} dialogues were found");
}

struct Play<'a> {
    script: &'a str,
    piece: usize,
    session: Session,
    unsent: Vec<u8>,
    seen: VecDeque<String>,
}

impl<'a> Play<'a> {
    fn new(script: &'a str, piece: usize) -> Play<'a> {
        let mut settings = Settings {
            host: "mx.example".to_owned(),
            size_max: 1_000,
            recipients_max: 3,
            command_line_max: 512,
            errors_max: 20,
            auth: Auth::Never,
            auth_required: false,
            starttls: false,
            hops_max: 100,
        };
        let mut tls = false;
        for line in script.lines() {
            let Some((name, value)) = line.strip_prefix("SET ").and_then(|set| set.split_once(' ')) else {
                continue;
            };
            match name {
                "size_max" => settings.size_max = value.parse().unwrap(),
                "errors_max" => settings.errors_max = value.parse().unwrap(),
                "auth" => settings.auth = if value == "always" { Auth::Always } else { Auth::UnderTls },
                "auth_required" => settings.auth_required = value == "yes",
                "starttls" => settings.starttls = value == "yes",
                "tls" => tls = value == "yes",
                _ => panic!("no setting {name}"),
            }
        }
        let session = Session::new(Arc::new(settings), tls);
        Play { script, piece, session, unsent: Vec::new(), seen: VecDeque::new() }
    }

    fn run(mut self, name: &str) {
        for (number, line) in self.script.lines().enumerate() {
            let place = format!("{name}, line {}: {line}", number + 1);
            let (word, text) = line.split_once(' ').unwrap_or((line, ""));
            if !matches!(word, "C:" | "C>") {
                self.send();
            }
            match word {
                "" | "#" | "SET" => {}
                "C:" => self.unsent.extend([unescaped(text), b"\r\n".to_vec()].concat()),
                "C>" => self.unsent.extend(unescaped(text)),
                "S:" | "ASK" | "TLS" | "CLOSE" => {
                    self.drain();
                    let seen = self.seen.pop_front().unwrap_or_else(|| panic!("{place}\nbut nothing came"));
                    let matches = if word == "S:" { seen.starts_with(line) } else { seen == line };
                    assert!(matches, "{place}\nbut it was: {seen}");
                }
                "ANSWER" => self.silent(&place).answer(answer(text)),
                "STARTED" => self.silent(&place).tls_started(),
                "SHUTDOWN" => self.silent(&place).shut_down(Reply::new(421, (4, 3, 2), "The service is closing")),
                _ => panic!("{place}\nis no line of a dialogue"),
            }
        }
        self.send();
        self.silent(&format!("{name}, at the end"));
    }

    /// What the host or the client does next, it does when everything said before it was expected.
    fn silent(&mut self, place: &str) -> &mut Session {
        self.drain();
        assert_eq!(self.seen, VecDeque::<String>::new(), "{place}\nbut more had come");
        &mut self.session
    }

    fn send(&mut self) {
        if self.unsent.is_empty() {
            return;
        }
        self.silent("before the client speaks");
        for piece in std::mem::take(&mut self.unsent).chunks(self.piece) {
            self.session.receive(piece);
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll() {
            match output {
                Output::Send(octets) => {
                    let text = String::from_utf8(octets).unwrap();
                    assert!(text.ends_with("\r\n"));
                    self.seen.extend(text.split_terminator("\r\n").map(|line| format!("S: {line}")));
                }
                Output::StartTls => self.seen.push_back("TLS".to_owned()),
                Output::Close => self.seen.push_back("CLOSE".to_owned()),
                Output::Ask(question) => {
                    self.seen.push_back(format!("ASK {}", described(question)));
                }
            }
        }
    }
}

fn described(question: Question) -> String {
    let mut words = Vec::new();
    match question {
        Question::Authenticate { user, password } => {
            return format!("authenticate {user} {password}");
        }
        Question::Data { size } => {
            return size.map_or("data".to_owned(), |size| format!("data {size}"));
        }
        Question::Mail { from, parameters } => {
            words.push(format!("mail <{}>", from.map(|from| from.to_string()).unwrap_or_default()));
            words.extend(parameters.size.map(|size| format!("size={size}")));
            words.extend(parameters.body_8bit.then(|| "8bit".to_owned()));
            words.extend(parameters.smtputf8.then(|| "smtputf8".to_owned()));
            words.extend(parameters.ret.map(|ret| format!("ret={ret}")));
            words.extend(parameters.envid.map(|envid| format!("envid={envid}")));
            words.extend(parameters.require_tls.then(|| "requiretls".to_owned()));
        }
        Question::Recipient { to, parameters } => {
            words.push(format!("recipient <{to}>"));
            words.extend(parameters.notify.map(|notify| format!("notify={notify}")));
            words.extend(parameters.orcpt.map(|orcpt| format!("orcpt={orcpt}")));
        }
        Question::Message(message) => {
            words.push(format!("message from {}", message.ehlo));
            words.extend(message.user.map(|user| format!("user={user}")));
            words.extend(message.tls.then(|| "tls".to_owned()));
            words.push(format!("<{}>", message.from.map(|from| from.to_string()).unwrap_or_default()));
            words.extend(message.recipients.iter().map(|(to, _)| format!("<{to}>")));
            words.push(message.body.escape_ascii().to_string());
        }
    }
    words.join(" ")
}

fn answer(text: &str) -> Answer {
    let (word, reply) = text.split_once(' ').unwrap_or((text, ""));
    let mut reader = ReplyReader::default();
    let reply = reader.receive(&mut format!("{reply}\r\n").as_bytes());
    match (word, reply) {
        ("yes", Ok(Some(reply))) => Answer::YesSaying(reply),
        ("yes", _) => Answer::Yes,
        (_, reply) => Answer::Refuse(reply.unwrap().unwrap()),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        out.push(match octet {
            b'\\' => match octets.next().unwrap() {
                b'r' => b'\r',
                b'n' => b'\n',
                b's' => b' ',
                b'0' => 0,
                b'x' => {
                    let digits = [octets.next().unwrap(), octets.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => other,
            },
            octet => octet,
        });
    }
    out
}
