//! What if the end of the last file is rubbish, as a power cut may leave it?

use crate::support::{Dice, Manner, Plan, Town, among_others};
use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::process::Command;

const SEEDS: u64 = 5;

// A7: noise behind what was written. It starts, everything promised is there, and the damage is told.
#[test]
fn noise_behind_the_last_record_is_dropped_and_told() {
    let _others = among_others();
    let first = Dice::seed();
    for seed in first..first + SEEDS {
        let mut dice = Dice(seed);
        let town = Town::new();
        let provider = town.provider(1, Manner { banner: Some("421 4.3.2 Later"), ..Manner::default() });
        let mut house = Plan::new(&town).open();
        let ids: Vec<String> = (0..20).map(|number| house.submit_to(&format!("u{number}@mail.test"))).collect();
        house.kill();
        let queue = house.data.join("queue");
        let last = newest(&queue);
        let mut file = OpenOptions::new().write(true).open(&last).unwrap();
        // Room is set aside in front of the records; the noise stands right behind the last of them.
        let octets = fs::read(&last).unwrap();
        let end = octets.iter().rposition(|octet| *octet != 0).unwrap() as u64 + 64;
        file.seek(SeekFrom::Start(end)).unwrap();
        let noise: Vec<u8> = (0..4096).map(|_| dice.roll() as u8).collect();
        file.write_all(&noise).unwrap();
        drop(file);
        house.start();
        assert!(house.log().contains("found on start"), "seed {seed}: {}", house.log());
        provider.change(Manner::default());
        for id in &ids {
            house.retry(id);
        }
        for id in &ids {
            house.wait_state(id, "delivered");
        }
        assert_eq!(provider.count(), 20, "seed {seed}");
        // Nobody who uses it: the spool's own check finds nothing to complain of but what was dropped.
        let (status, _) = house.terminate();
        assert!(status.success());
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["queue", "check", "--data"])
            .arg(&house.data)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn newest(folder: &PathBuf) -> PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).max().expect("the queue has a file")
}
