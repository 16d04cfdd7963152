//! Does an operator see that somebody speaks something else than HTTP at the door for it?

use crate::support::{Plan, Town, among_others, until_true};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

#[test]
fn what_cannot_be_read_as_http_is_counted_by_what_it_was() {
    let _others = among_others();
    let house = Plan::new(&Town::new()).open();
    let figure = |what: &str| house.figure(&format!("weir_http_connections_broken_total{{what=\"{what}\"}}"));
    for octets in [&b"EHLO somebody.test\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 hello over TLS"] {
        let before = figure("not_http");
        let mut stream = TcpStream::connect(house.http_at()).unwrap();
        stream.write_all(octets).unwrap();
        // It ends by itself.
        let _ = stream.read_to_end(&mut Vec::new());
        until_true("it is counted", || figure("not_http") > before);
    }
    // Half a request, and gone.
    let mut stream = TcpStream::connect(house.http_at()).unwrap();
    stream.write_all(b"POST /api/v1/messages HTTP/1.1\r\nHost: weir").unwrap();
    stream.shutdown(Shutdown::Both).unwrap();
    until_true("it is counted", || figure("closed") >= 1.0);
    assert_eq!(figure("not_http"), 2.0);
}
