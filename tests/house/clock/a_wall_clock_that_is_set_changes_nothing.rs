//! What if somebody sets the wall clock while mail is on its way?

use crate::support::{Manner, Message, Plan, Smtp, Town, alone, skip, until_true};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DAY_S: i64 = 86_400;
/// Of the only lane, a second.
const RATE: u32 = 100;
const MAIL: usize = 1_000;
const WAITING: usize = 50;

/// The wall clock of one process: a library stands before the system's and adds what a file says. The monotonic clock, and the
/// times of files, are left as they are.
struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    fn new() -> Option<WallClock> {
        let folders = fs::read_dir("/usr/lib").ok()?.filter_map(|entry| Some(entry.ok()?.path()));
        let library = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists())?;
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("wall-clock-{}", std::process::id()));
        let clock = WallClock { library, file };
        clock.set(0);
        Some(clock)
    }

    /// So far from the true time.
    fn set(&self, offset_s: i64) {
        // Under another name first: no reader sees half a number.
        let fresh = self.file.with_extension("new");
        fs::write(&fresh, format!("{offset_s:+}\n")).unwrap();
        fs::rename(&fresh, &self.file).unwrap();
    }

    fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("NO_FAKE_STAT", "1".to_owned()),
        ];
        pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

impl Drop for WallClock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

// E3: a day forward and then a day back, under load: nothing expires, nothing is tried before its time, no rate changes.
#[test]
fn a_day_forward_and_a_day_back_expire_nothing_and_hurry_nothing() {
    let _machine = alone();
    let Some(clock) = WallClock::new() else {
        return skip("libfaketime is not installed (Debian: faketime), so the wall clock of a process cannot be set");
    };
    let town = Town::new();
    let provider = town.provider(1, Manner::default());
    let shaping =
        format!("connections_max = 20\nmessages_per_connection = 1000000\nmessages_per_second = {RATE}\nramp = false");
    // With this lifetime everything would be long past its end on the next day.
    let house = Plan::new(&town)
        .delivery("lifetime_hours", "1")
        .delivery("notify", "\"failure\"")
        .shaping(&shaping)
        .environment(clock.environment())
        .open();
    let waiting: Vec<String> = (0..WAITING).map(|number| house.submit_to(&format!("grey{number}@mail.test"))).collect();
    for id in &waiting {
        house.wait_why(id, "greylisted");
    }
    let tried = provider.heard("RCPT TO:<grey");
    let due = house.recipient(&waiting[0])["next"].clone();

    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut smtp = Smtp::open(house.smtp_at());
            for number in 0..MAIL {
                smtp.take("ann@shop.test", &[&format!("u{number}@mail.test")], &Message::plain("on its way"));
            }
        });
        // Each time in the middle of the load, and the load goes on.
        for (after, offset_s, by_s) in [(100, DAY_S, DAY_S), (250, -DAY_S, -2 * DAY_S), (400, 0, DAY_S)] {
            provider.wait_for(after);
            clock.set(offset_s);
            until_true("the process sees that its wall clock was set", || {
                let told = house.log().lines().filter(|line| line.contains("the wall clock was set")).count();
                told == [DAY_S, -DAY_S, 0].iter().position(|set| *set == offset_s).unwrap() + 1
            });
            let told = house.log().lines().rfind(|line| line.contains("the wall clock was set")).unwrap().to_owned();
            let seen_s: i64 = told.rsplit("by_s=").next().unwrap().trim().parse().unwrap();
            assert!((seen_s - by_s).abs() <= 2, "set by {by_s} s, and told: {told}");
        }
    });
    provider.wait_for(MAIL);
    until_true("only what waits for its time is left", || house.queued() == WAITING);

    assert_eq!(provider.heard("RCPT TO:<grey"), tried, "something was tried before its time");
    assert_eq!(house.recipient(&waiting[0])["next"], due, "a time that was promised has moved");
    for outcome in ["expired", "bounced"] {
        assert_eq!(house.figure(&format!("weir_recipient_outcomes_total{{what=\"{outcome}\"")), 0.0, "{outcome}");
    }
    let busiest = provider.look(|all| {
        let window = |from: usize| {
            let until = all[from].at + Duration::from_secs(1);
            all[from..].iter().take_while(|message| message.at < until).count()
        };
        (0..all.len()).map(window).max().unwrap_or_default()
    });
    println!("the busiest second carried {busiest} messages at a rate of {RATE}");
    assert!(busiest < 2 * RATE as usize, "{busiest} messages in one second at a rate of {RATE}");

    // Its time line is whole: what waited goes when it is told to, once.
    house.retry_all();
    house.wait_queue_empty();
    assert_eq!(provider.count(), MAIL + WAITING);
}
