//! Is a sender told, by mail, that a message could not be delivered? The real binary, a remote host that refuses.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(30);

/// Refuses recipients named `gone`, takes all others; hands on each message that it took.
fn remote() -> (u16, Receiver<String>) {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let (taken, messages) = channel();
    std::thread::spawn(move || {
        for stream in socket.incoming() {
            let taken = taken.clone();
            std::thread::spawn(move || converse(stream.unwrap(), &taken));
        }
    });
    (port, messages)
}

fn converse(mut stream: TcpStream, taken: &Sender<String>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut say = |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).is_ok();
    say("220 remote.test ESMTP");
    while let Some(Ok(line)) = lines.next() {
        let said = match line.get(..4).unwrap_or_default().to_ascii_uppercase().as_str() {
            "RCPT" if line.contains("<gone@") => say("550 5.1.1 No such user here"),
            "DATA" => {
                say("354 Go on");
                let message: Vec<String> =
                    lines.by_ref().map_while(Result::ok).take_while(|line| line != ".").collect();
                let _ = taken.send(message.join("\n"));
                say("250 2.0.0 Thanks")
            }
            "QUIT" => return,
            _ => say("250 remote.test"),
        };
        if !said {
            return;
        }
    }
}

/// Ends with the test, however that ends.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn service(folder: &std::path::Path, remote: u16) -> (Service, String) {
    let config = format!(
        r#"
host = "weir.test"
[[listener]]
address = "127.0.0.1:0"
tls = "none"
trusted = ["127.0.0.0/8"]
account = "acme"
[[account]]
id = "acme"
senders = "any"
[[ip]]
address = "127.0.0.1"
[[pool]]
id = "shared"
kind = "shared"
ips = ["127.0.0.1"]
[delivery]
port = {remote}
tls = "never"
notify = "failure"
allow_private = ["127.0.0.0/8"]
[dns]
only_answers = true
[[dns.answer]]
domain = "*.test"
addresses = ["127.0.0.1"]
"#
    );
    fs::write(folder.join("weir.toml"), config).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--config"])
        .arg(folder.join("weir.toml"))
        .arg("--data")
        .arg(folder.join("data"))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let log = BufReader::new(child.stderr.take().unwrap());
    let service = Service(child);
    let (found, address) = channel();
    // Reads to the end, so that the service never waits for its log.
    std::thread::spawn(move || {
        for line in log.lines().map_while(Result::ok) {
            if let Some((_, address)) = line.split_once("taking mail by SMTP address=") {
                let _ = found.send(address.trim().to_owned());
            }
        }
    });
    (service, address.recv_timeout(PATIENCE).unwrap())
}

fn submit(address: &str, to: &str) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut hear = || loop {
        let line = lines.next().unwrap().unwrap();
        if line.as_bytes().get(3) != Some(&b'-') {
            return line;
        }
    };
    hear();
    let body = "From: ann@a.test\r\nSubject: Hello\r\n\r\nHi\r\n.";
    for said in ["EHLO client.test", "MAIL FROM:<ann@a.test>", &format!("RCPT TO:<{to}>"), "DATA", body] {
        stream.write_all(format!("{said}\r\n").as_bytes()).unwrap();
        let answer = hear();
        assert!(answer.starts_with('2') || answer.starts_with('3'), "{said}: {answer}");
    }
}

// R5.3
#[test]
fn a_refused_recipient_comes_back_as_a_notice() {
    let folder = std::env::temp_dir().join(format!("weir-notice-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (port, messages) = remote();
    let (service, address) = service(&folder, port);
    submit(&address, "gone@b.test");
    let notice = messages.recv_timeout(PATIENCE).expect("a notice arrives at the sender's host");
    for part in
        ["To: <ann@a.test>", "Action: failed", "Final-Recipient: rfc822; gone@b.test", "550 5.1.1 No such user here"]
    {
        assert!(notice.contains(part), "{part} is missing in:\n{notice}");
    }
    drop(service);
    fs::remove_dir_all(&folder).unwrap();
}
