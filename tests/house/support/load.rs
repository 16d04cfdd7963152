//! Who hands in mail all the time, and which of it was acknowledged?

use super::submitter::Smtp;
use super::{Message, Received, until_true};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

const SUBMITTERS: usize = 3;

/// By number; a new load goes on with the numbers of the one before.
#[derive(Clone, Default)]
pub struct Acknowledged(Arc<Book>);

#[derive(Default)]
struct Book {
    next: AtomicU64,
    numbers: Mutex<BTreeSet<u64>>,
}

impl Acknowledged {
    fn numbers(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self) -> usize {
        self.numbers().len()
    }

    pub fn all(&self) -> BTreeSet<u64> {
        self.numbers().clone()
    }

    pub fn wait(&self, count: usize) {
        until_true(&format!("{count} messages are acknowledged"), || self.count() >= count);
    }

    /// Those that did not arrive.
    pub fn missing(&self, received: &[Received]) -> Vec<u64> {
        missing(&self.numbers(), received)
    }
}

/// Those of these that did not arrive.
pub fn missing(numbers: &BTreeSet<u64>, received: &[Received]) -> Vec<u64> {
    let arrived: BTreeSet<u64> = received.iter().filter_map(number_of).collect();
    numbers.difference(&arrived).copied().collect()
}

fn number_of(message: &Received) -> Option<u64> {
    message.header("Subject")?.strip_prefix("number ")?.parse().ok()
}

/// Submitters at work until they are told to stop. A refusal is a fault of the test.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    pub fn begin(to: SocketAddr, sign_in: Option<&str>, acknowledged: &Acknowledged) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = |_| {
            let (stop, acknowledged, sign_in) = (stop.clone(), acknowledged.clone(), sign_in.map(str::to_owned));
            std::thread::spawn(move || {
                let mut smtp = Smtp::open(to);
                if let Some(sign_in) = sign_in {
                    smtp.expect(&sign_in, 235);
                }
                while !stop.load(Ordering::SeqCst) {
                    let number = acknowledged.0.next.fetch_add(1, Ordering::SeqCst);
                    let octets = Message::plain(&format!("number {number}"));
                    smtp.take("ann@shop.test", &[&format!("u{number}@mail.test")], &octets);
                    acknowledged.numbers().insert(number);
                }
            })
        };
        Load { threads: (0..SUBMITTERS).map(thread).collect(), stop }
    }

    pub fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}
