//! What if there is no room on the disk any more, and then there is again?

use crate::support::disk::SmallDisk;
use crate::support::{Manner, Message, Plan, Town, alone, skip, until_true};
use serde_json::json;
use std::fs;
use std::process::Command;

// A10: nothing more is taken, in words that say try again; what is queued goes on; room heals it; nothing is lost.
#[test]
fn a_full_disk_is_a_later_and_heals_by_itself() {
    let _machine = alone();
    let Some(disk) = SmallDisk::mount("spool", "64m") else {
        return skip("a small file system cannot be mounted without root");
    };
    let town = Town::new();
    // Nobody takes anything yet, so that the queue fills the disk.
    let provider = town.provider(1, Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() });
    let spool = "[spool]\nsegment_bytes = 4194304\nfree_bytes_min = 8388608";
    let house = Plan::new(&town).more(spool).data_in(&disk.join("data")).open();
    let filling = "Filling for a small disk, in lines of ordinary length.\r\n".repeat(4_000);
    let mut accepted = Vec::new();
    let mut smtp = house.smtp();
    let refused = loop {
        let to = format!("u{}@mail.test", accepted.len());
        let answer = smtp.send("ann@shop.test", &[&to], &Message::new(&to).body(&filling)).unwrap();
        if answer.code != 250 {
            break answer;
        }
        accepted.push(to);
        assert!(accepted.len() < 1_000, "the disk never fills");
    };
    assert!([452, 421].contains(&refused.code), "{refused:?}");
    assert!(refused.text.starts_with("4.3.1"), "{refused:?}");
    let answer = house.post(&json!({ "from": "ann@shop.test", "to": "bob@mail.test", "text": "x" }));
    assert!([503, 507].contains(&answer.status), "{}", String::from_utf8_lossy(&answer.body));
    assert!(answer.head.to_ascii_lowercase().contains("retry-after:"), "{}", answer.head);
    // Somebody else takes the rest of the room too: the file system itself says no now.
    let hog = disk.join("hog");
    let _ = Command::new("dd").args(["if=/dev/zero", "bs=64k", &format!("of={}", hog.display())]).output();

    // What is queued goes out although nothing can come in.
    provider.change(Manner::default());
    until_true("all that was accepted is delivered", || {
        house.retry_all();
        provider.count() >= accepted.len()
    });
    fs::remove_file(hog).unwrap();
    until_true("mail is taken again", || {
        house.smtp().send("ann@shop.test", &["after@mail.test"], &Message::plain("after")).unwrap().code == 250
    });
    provider.wait_for_one_to("after@mail.test");
    house.wait_queue_empty();
    let mut got: Vec<String> =
        provider.all().into_iter().flat_map(|message| message.to).filter(|to| to.starts_with('u')).collect();
    let count = got.len();
    got.sort();
    got.dedup();
    assert_eq!(got.len(), count, "something was sent twice");
    assert_eq!(count, accepted.len(), "something was lost");
    drop(house);
}
