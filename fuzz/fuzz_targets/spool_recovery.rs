//! Can any octets on the disk stop a spool from opening, or bring back a message that was not put?
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spool::sim::SimDisk;
use spool::{Options, open_on};
use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

const KEYS: u128 = 6;

// The input says what becomes of the files of a good spool: which file, where, and what stands there instead.
fuzz_target!(|data: &[u8]| {
    let disk = SimDisk::new();
    let dir = Path::new("/spool");
    let options = Options { segment_bytes: 4_096, reserve_bytes: 0, free_min_bytes: 0, ..Options::default() };
    let Ok((spool, recovered)) = open_on(Arc::new(disk.clone()), dir, options.clone()) else { panic!("an empty disk opens") };
    drop(recovered);
    for key in 1..=KEYS {
        let mut put = Box::pin(spool.put(key, vec![key as u8; 40], Bytes::from(vec![b'x'; 900]), vec![1; 20]));
        let mut context = Context::from_waker(Waker::noop());
        while let Poll::Pending = put.as_mut().poll(&mut context) {
            std::thread::yield_now();
        }
    }
    spool.update(2, vec![9; 30], vec![2; 10]);
    spool.remove(3, vec![3; 10]);
    spool.close();

    let paths = disk.paths();
    let mut rest = data;
    while let [file, high, low, length, tail @ ..] = rest {
        let path = &paths[usize::from(*file) % paths.len()];
        let place = usize::from(u16::from_be_bytes([*high, *low]));
        let length = usize::from(*length).min(tail.len());
        let (octets, after) = tail.split_at(length);
        disk.tamper(path, |file| {
            if octets.is_empty() {
                file.truncate(place);
                return;
            }
            let place = place.min(file.len());
            let end = (place + octets.len()).min(file.len());
            file.splice(place..end, octets.iter().copied());
        });
        rest = after;
    }

    // A file of a newer version may refuse to open; nothing else may.
    let Ok((spool, recovered)) = open_on(Arc::new(disk), dir, options) else { return };
    for message in recovered.live.flatten() {
        assert!((1..=KEYS).contains(&message.key), "a message that was never put came back");
        if let Ok(stored) = spool.read(message.key) {
            assert_eq!(stored.head, vec![message.key as u8; 40], "a damaged head passed for a good one");
            assert_eq!(stored.body.as_ref(), vec![b'x'; 900], "a damaged body passed for a good one");
        }
    }
    spool.close();
});
