//! How fast does a server take mail in over HTTP? The same letters as over SMTP, each in the JSON of one call.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Instant, SystemTime};

use crate::generate::{Order, Outcome};
use crate::http::Line;
use crate::letter::Letter;

/// Where calls are taken, and whose they are.
#[derive(Clone, Debug)]
pub struct Door {
    pub to: SocketAddr,
    pub key: String,
}

/// Sends all messages of the order, as fast as possible, over connections that stay open.
pub fn submit(order: &Order, door: &Door) -> io::Result<Outcome> {
    let began = SystemTime::now();
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let one = || -> io::Result<Outcome> {
        let mut outcome = Outcome::empty();
        let mut line = Line::open(door.to, order.patience)?;
        let recipient = |number: u64| order.recipients_domain.replace('%', &(number % order.domains).to_string());
        let letter = Letter::new(&order.from, &format!("reader@{}", recipient(0)), order.size);
        let text = escaped(letter.text());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= order.messages {
                return Ok(outcome);
            }
            let mark = Letter::mark(order.run, number);
            let body = format!(
                r#"{{"from":"{}","to":"reader@{}","subject":"A message of the bench","headers":{{"X-Bench":"{mark}"}},"text":"{text}"}}"#,
                order.from,
                recipient(number),
            );
            let asked = Instant::now();
            let answer = line.call("POST", "/api/v1/messages", &door.key, body.as_bytes())?;
            let took = u32::try_from(asked.elapsed().as_micros()).unwrap_or(u32::MAX);
            if answer.status == 200 {
                outcome.acknowledged += 1;
                outcome.ack_us.push(took);
                outcome.whole_us.push(took);
            } else {
                outcome.refused += 1;
                outcome.last_refusal = Some(format!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)));
            }
        }
    };
    let outcomes: Vec<io::Result<Outcome>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..order.sessions).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|it| it.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))).collect()
    });
    let mut whole = Outcome { began, ..Outcome::empty() };
    for outcome in outcomes {
        whole.absorb(outcome?);
    }
    whole.seconds = start.elapsed().as_secs_f64();
    Ok(whole)
}

/// The text is of letters, spaces, signs and line ends.
fn escaped(text: &str) -> String {
    text.replace("\r\n", "\\r\\n")
}
