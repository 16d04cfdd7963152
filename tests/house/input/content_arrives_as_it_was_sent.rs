//! Is what arrives what was sent, octet for octet, and does its signature hold in other people's eyes?

use crate::support::oracle::{dkim_verdicts, python};
use crate::support::{Dice, Manner, Plan, Received, Town, among_others};
use serde_json::Value;
use std::path::Path;
use std::process::Command;

const MESSAGES: usize = 300;

/// Fields that are ours to add in front, and no others.
const ADDED: [&str; 2] = ["received", "dkim-signature"];

// D14, R1.4
#[test]
fn random_messages_arrive_unchanged_and_their_signatures_hold() {
    let _others = among_others();
    let python = python();
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let keys = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keys-{}", std::process::id()));
    std::fs::create_dir_all(&keys).unwrap();
    let records = [("r1", "rsa"), ("e1", "ed25519")].map(|(selector, kind)| generate(&keys, selector, kind));
    let domain = format!(
        "[[domain]]\nname = \"shop.test\"\naccount = \"shop\"\n\
         dkim = [{{ selector = \"r1\", key = {:?} }}, {{ selector = \"e1\", key = {:?} }}]",
        keys.join("r1.pem"),
        keys.join("e1.pem")
    );
    let house = Plan::new(&town).account("senders = \"verified\"").more(&domain).open();
    let seed = Dice::seed();
    let mut dice = Dice(seed);
    let sent: Vec<Vec<u8>> = (0..MESSAGES).map(|number| random_message(&mut dice, number)).collect();
    let mut smtp = house.smtp();
    for (number, octets) in sent.iter().enumerate() {
        let answer = smtp.send("ann@shop.test", &[&format!("u{number}@mail.test")], octets).unwrap();
        assert_eq!(answer.code, 250, "seed {seed}, number {number}: {answer:?}\n{}", String::from_utf8_lossy(octets));
    }
    let received = provider.wait_for(MESSAGES);
    for message in &received {
        let number: usize = message.header("X-Number").unwrap().parse().unwrap();
        same(&sent[number], message, seed);
    }
    let verdicts = dkim_verdicts(&python, &records, &received);
    for (message, verdict) in received.iter().zip(verdicts) {
        assert_eq!(verdict["signatures"], 2, "seed {seed}: {verdict}");
        assert_eq!(verdict["valid"], serde_json::json!([true, true]), "seed {seed}: {verdict}\n{}", message.text());
    }
    let _ = std::fs::remove_dir_all(keys);
}

/// The body is equal, and so is every header field in its order, behind what we added in front.
fn same(sent: &[u8], message: &Received, seed: u64) {
    let split = |octets: &[u8]| {
        let end = octets.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        (octets[..end + 2].to_vec(), octets[end + 4..].to_vec())
    };
    let (sent_header, sent_body) = split(sent);
    let (header, body) = split(&message.octets);
    let number = message.header("X-Number").unwrap();
    assert!(body == sent_body, "seed {seed}: the body of number {number} differs");
    assert!(header.ends_with(&sent_header), "seed {seed}: the header of number {number} differs:\n{}", message.text());
    let added = String::from_utf8(header[..header.len() - sent_header.len()].to_vec()).unwrap();
    for line in added.split("\r\n").filter(|line| !line.is_empty() && !line.starts_with([' ', '\t'])) {
        let name = line.split(':').next().unwrap().to_ascii_lowercase();
        assert!(ADDED.contains(&name.as_str()), "seed {seed}: {line} was added");
    }
}

/// A message with everything that tempts a server to touch it: folded fields, odd case and spaces, 8-bit text, dots, empty lines.
fn random_message(dice: &mut Dice, number: usize) -> Vec<u8> {
    let mut octets = format!(
        "From: Ann <ann@shop.test>\r\nto:  Bob\t<bob@mail.test>\r\nX-Number: {number}\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\nMessage-Id:<n{number}@shop.test>\r\n"
    )
    .into_bytes();
    for field in 0..dice.below(6) {
        octets.extend_from_slice(format!("X-Field-{field}:").as_bytes());
        for _ in 0..=dice.below(4) {
            octets.extend_from_slice([" ", "\r\n ", "\r\n\t", "  "][dice.below(4)].as_bytes());
            octets.extend_from_slice(&word(dice, false));
        }
        octets.extend_from_slice([&b"\r\n"[..], b" \r\n"][dice.below(2)]);
    }
    octets.extend_from_slice(b"Subject: =?utf-8?q?G=C3=BC?=\r\n  folded\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n");
    for _ in 0..dice.below(40) {
        match dice.below(8) {
            0 => {}
            1 => octets.extend_from_slice(b"."),
            2 => octets.extend_from_slice(b".."),
            3 => octets.extend_from_slice(b"From here on"),
            4 => octets.extend_from_slice(&vec![b'z'; dice.below(998)]),
            _ => {
                for _ in 0..dice.below(12) {
                    octets.extend_from_slice(&word(dice, true));
                    octets.extend_from_slice([&b" "[..], b"  ", b"\t", b" ."][dice.below(4)]);
                }
            }
        }
        octets.extend_from_slice(b"\r\n");
    }
    octets
}

fn word(dice: &mut Dice, eight_bit: bool) -> Vec<u8> {
    let letters: Vec<char> =
        if eight_bit { "abcXYZ019=.;é日🙂~{}".chars().collect() } else { "abcXYZ019=.;-~{}".chars().collect() };
    let text: String = (0..=dice.below(9)).map(|_| letters[dice.below(letters.len())]).collect();
    text.into_bytes()
}

/// Makes a key; the name and the text of its record.
fn generate(folder: &Path, selector: &str, kind: &str) -> (String, String) {
    let file = folder.join(format!("{selector}.pem"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
    command.args([
        "dkim",
        "generate",
        "--domain",
        "shop.test",
        "--selector",
        selector,
        "--kind",
        kind,
        "--json",
        "--out",
    ]);
    let output = command.arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record: Value = serde_json::from_slice(&output.stdout).unwrap();
    (record["name"].as_str().unwrap().to_owned(), record["value"].as_str().unwrap().to_owned())
}
