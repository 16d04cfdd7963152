//! Can a hostile server break the client's side of SMTP, or make it answer for a recipient it was not asked about?
#![no_main]

use libfuzzer_sys::fuzz_target;
use mail::smtp::client::{Client, ClientSettings, Output, TlsWish, Transaction};
use mail::smtp::command::RecipientParameters;
use std::sync::Arc;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, answers)) = data.split_first() else { return };
    let tls = [TlsWish::Never, TlsWish::IfOffered, TlsWish::Required][usize::from(shape & 3) % 3];
    let mut client = Client::new(ClientSettings { ehlo: "weir.test".to_owned(), tls, chunking: shape & 4 != 0 });
    let recipients = usize::from(shape >> 3 & 3) + 1;
    let mut open = false;
    let mut begun = 0;
    for piece in answers.chunks(usize::from(shape >> 5) * 5 + 1) {
        client.receive(piece);
        while let Some(output) = client.poll() {
            match output {
                Output::Send(pieces) => {
                    let octets: Vec<u8> = pieces.iter().flat_map(|piece| piece.to_vec()).collect();
                    for (place, octet) in octets.iter().enumerate() {
                        assert!(*octet != b'\n' || place > 0 && octets[place - 1] == b'\r', "a bare LF went out");
                    }
                }
                Output::StartTls => client.tls_started(),
                Output::Ready if begun < 3 => {
                    assert!(!open, "ready while a transaction is open");
                    open = true;
                    begun += 1;
                    client.begin(Transaction {
                        from: Some("a@weir.test".to_owned()),
                        recipients: (0..recipients).map(|n| (format!("r{n}@b.test"), RecipientParameters::default())).collect(),
                        prefix: Arc::from(&b"X: y\r\n"[..]),
                        body: Arc::from(&b"From: a@weir.test\r\n\r\n.dot\r\n..\r\ntext\r\n"[..]),
                        ret: None,
                        envid: None,
                        smtputf8: shape & 64 != 0,
                    });
                }
                Output::Ready => client.quit(),
                Output::Done(outcomes) => {
                    assert!(open, "an outcome without a transaction");
                    open = false;
                    assert_eq!(outcomes.len(), recipients, "one outcome for each recipient");
                }
                Output::NotReady(_) | Output::Close => return,
            }
        }
    }
    client.lost();
    while let Some(output) = client.poll() {
        if let Output::Done(outcomes) = output {
            assert!(open);
            open = false;
            assert_eq!(outcomes.len(), recipients);
        }
    }
    assert!(!open, "a transaction was left without an outcome");
});
