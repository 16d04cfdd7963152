//! Does the spool do on a real file system, with its writer, what it does on the simulated disk?
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::PathBuf;

use bytes::Bytes;
use spool::{Cursor, Health, OpenFault, Options, PutFault, ReadFault, check::check, open};

struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        Scratch(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn options() -> Options {
    Options { segment_bytes: 1 << 20, free_min_bytes: 0, ..Options::default() }
}

fn body(nth: u64) -> Bytes {
    Bytes::from(vec![nth as u8; 5000 + nth as usize])
}

// R1.2, A13: what was acknowledged is there after a restart, read by many at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_messages_over_a_restart() {
    let scratch = Scratch::new("restart");
    let (spool, recovered) = open(&scratch.0, options()).unwrap();
    assert_eq!(recovered.live.count(), 0);
    assert!(matches!(open(&scratch.0, options()), Err(OpenFault::Locked(_))));

    let submitters: Vec<_> = (0..16u64)
        .map(|lane| {
            let spool = spool.clone();
            tokio::spawn(async move {
                for nth in (0..50).map(|i| lane * 50 + i) {
                    let head = nth.to_be_bytes().to_vec();
                    spool.put(u128::from(nth), head, body(nth), vec![1, nth as u8]).await.unwrap();
                    if nth % 3 == 0 {
                        spool.remove(u128::from(nth), vec![2, nth as u8]);
                    } else {
                        spool.update(u128::from(nth), vec![nth as u8; 3], vec![]);
                    }
                }
            })
        })
        .collect();
    for submitter in submitters {
        submitter.await.unwrap();
    }
    let twice = spool.put(1, vec![], Bytes::new(), vec![]).await;
    assert_eq!(twice, Err(PutFault::Taken));
    assert_eq!(spool.health(), Health::Accepting);
    spool.close();

    let report = check(&scratch.0).unwrap();
    assert_eq!((report.live, report.events, report.damaged.len()), (533, 1067, 0), "{report}");

    let (spool, recovered) = open(&scratch.0, options()).unwrap();
    assert!(recovered.dropped.is_empty());
    assert_eq!(spool.queued(), 533);
    for live in recovered.live {
        let live = live.unwrap();
        let nth = live.key as u64;
        assert_eq!((live.head, live.state), (nth.to_be_bytes().to_vec(), vec![nth as u8; 3]));
        assert_eq!(spool.read(live.key).unwrap().body, body(nth));
        if let Some(stored) = spool.read_if_cached(live.key) {
            assert_eq!(stored.unwrap().body, body(nth));
        }
    }
    assert!(matches!(spool.read(3), Err(ReadFault::Unknown(3))));
    spool.close();
}

// A reader goes on from its cursor, is told when there is more, and finds its place again after a restart.
#[tokio::test]
async fn tells_readers_of_new_events() {
    let scratch = Scratch::new("events");
    let (spool, _) = open(&scratch.0, options()).unwrap();
    let mut reader = spool.events();
    let mut more = reader.more();
    assert!(reader.next(Cursor(0), 10).unwrap().is_empty());
    spool.note(b"one".to_vec());
    more.changed().await.unwrap();
    let first = reader.next(Cursor(0), 10).unwrap();
    assert_eq!(first.iter().map(|(_, event)| event.as_slice()).collect::<Vec<_>>(), [b"one"]);
    spool.note(b"two".to_vec());
    spool.close();

    let (spool, recovered) = open(&scratch.0, options()).unwrap();
    let second = spool.events().next(first[0].0, 10).unwrap();
    assert_eq!(second.iter().map(|(_, event)| event.as_slice()).collect::<Vec<_>>(), [b"two"]);
    assert_eq!(recovered.events_until, second[0].0);
    let clone = spool.clone();
    spool.close();
    assert_eq!(clone.put(1, vec![], Bytes::new(), vec![]).await, Err(PutFault::Closed));
}
