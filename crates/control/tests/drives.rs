//! Does a test drive split a set's mail, compare both sides, and end as it should? (R8.3)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::configuration_set::SetChange;
use control::drive::{Drive, DriveChange, DriveState, NewDrive};
use control::incident::IncidentKind;
use control::lease::Into;
use control::pool::PoolEnd;
use control::publish::Publisher;
use control::{Kind, Refusal, Window};
use engine::drive::Verdict;
use engine::snapshot::{Plan, Snapshot};
use engine::split::Split;
use serde_json::json;
use std::net::IpAddr;
use support::sent::{Sent, send_in};
use support::{Bench, on_both};

const OLD: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 1));

struct Trial<'a> {
    bench: &'a Bench,
    acme: String,
    pool: String,
}

impl Trial<'_> {
    /// An account with a set that names no pool, and a pool of its own with an IP.
    async fn on(bench: &Bench) -> Trial<'_> {
        bench.region().await;
        let ips = bench.ips(1).await;
        let acme = bench.account("acme", Plan::Standard).await;
        let pool = bench.pool(&acme, "fresh").await.id;
        bench.grant(&acme, &ips, Into::Pool("fresh".into())).await;
        let own = bench.key_of(&acme);
        bench.office.create_set(&own, &acme, "letters", SetChange::default()).await.unwrap();
        Trial { bench, acme, pool }
    }

    async fn start(&self, share: u16, days: Option<u32>) -> Result<Drive, Refusal> {
        let new = NewDrive { set: "letters".into(), pool: "fresh".into(), share, days, guarded: true };
        self.bench.office.start_drive(&self.bench.key_of(&self.acme), &self.acme, new).await
    }

    async fn now(&self, drive: &Drive) -> Drive {
        self.bench.office.drive(&self.bench.by, &self.acme, &drive.id).await.unwrap().0
    }

    /// What the data plane is told.
    async fn split(&self) -> (Option<Split>, Option<String>) {
        let publisher = Publisher::load(self.bench.office.clone(), &Snapshot::empty()).await.unwrap();
        let snapshot = publisher.snapshot();
        let set = &snapshot.accounts[self.acme.as_str()].sets["letters"];
        (set.split.clone(), set.pool.as_ref().map(ToString::to_string))
    }

    async fn sent(&self, new: Sent, old: Sent) {
        send_in(self.bench, &self.acme, "letters", (&self.pool, IpAddr::from([192, 0, 2, 1])), "google", new).await;
        send_in(self.bench, &self.acme, "letters", ("pool_s", OLD), "google", old).await;
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, Refusal>) -> (&'static str, Option<String>) {
    let refusal = result.unwrap_err();
    (refusal.code, refusal.field)
}

fn sent(delivered: u16, hard: u16) -> Sent {
    Sent { delivered, hard, ..Sent::default() }
}

// R8.3: a share of a set's mail; both sides side by side; then all of it, in one step.
#[test]
fn spec_r8_3_a_drive_is_compared_and_finished() {
    on_both(async |bench| {
        let trial = Trial::on(bench).await;
        let (office, own) = (&bench.office, &bench.key_of(&trial.acme));
        for (share, days, field) in
            [(0, None, "percent"), (10_001, None, "percent"), (100, Some(0), "days"), (100, Some(29), "days")]
        {
            assert_eq!(refused(trial.start(share, days).await).1.as_deref(), Some(field));
        }
        let drive = trial.start(2_000, None).await.unwrap();
        assert_eq!(drive.ends_at.since(drive.started_at).as_secs(), 14 * 86_400);
        assert_eq!(refused(trial.start(2_000, None).await).0, "drive_running");
        let (split, _) = trial.split().await;
        assert_eq!(split.map(|split| (split.to.to_string(), split.share)), Some((trial.pool.clone(), 2_000)));
        let (_, early) = office.drive(own, &trial.acme, "letters").await.unwrap();
        assert!(matches!(early.verdict, Verdict::TooLittle { .. }), "{early:?}");

        bench.days(1);
        trial.sent(sent(4_950, 10), sent(20_000, 600)).await;
        assert_eq!(office.look_at_drives().await.unwrap(), 0);
        let (_, comparison) = office.drive(own, &trial.acme, &drive.id).await.unwrap();
        assert_eq!((comparison.new.outcomes.sent(), comparison.old.outcomes.sent()), (4_960, 20_600));
        assert_eq!(comparison.verdict, Verdict::Better, "{}", comparison.words);
        assert!(
            comparison.words.contains("bounced 0.20 % on the new side and 2.91 % on the old one"),
            "{}",
            comparison.words
        );

        // R2.6: what a running drive uses is not deleted silently; R2.8: another account's drive is not there.
        let end = PoolEnd { move_ips_to: Some("default".into()), ..PoolEnd::default() };
        assert_eq!(refused(office.delete_pool(own, &trial.acme, "fresh", &end).await).0, "pool_in_use");
        let bolt = bench.account("bolt", Plan::Standard).await;
        let other = bench.key_of(&bolt);
        assert_eq!(office.drive(&other, &bolt, &drive.id).await.unwrap_err().kind, Kind::NotFound);

        let done = office.finish_drive(own, &trial.acme, "letters").await.unwrap();
        assert_eq!((done.state, trial.split().await), (DriveState::Finished, (None, Some(trial.pool.clone()))));
        assert_eq!(refused(office.end_drive(own, &trial.acme, "letters").await).0, "drive_over");
        assert_eq!(refused(trial.start(100, None).await), ("same_pool", Some("pool".into())));
        let lines = office.audit(own, Some(&trial.acme), Some(&drive.set), &Window::default()).await.unwrap().items;
        let actions: Vec<&str> = lines.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, ["drive-finished", "drive-started", "created"]);
    });
}

// R8.3: harm ends it, and the account is told with the figures; without the guard it goes on.
#[test]
fn spec_r8_3_harm_ends_a_drive() {
    on_both(async |bench| {
        let trial = Trial::on(bench).await;
        let (office, own) = (&bench.office, &bench.key_of(&trial.acme));
        let drive = trial.start(1_000, Some(28)).await.unwrap();
        let off = DriveChange { guarded: Some(false), ..DriveChange::default() };
        office.change_drive(own, &trial.acme, &drive.id, off).await.unwrap();
        bench.days(1);
        trial.sent(sent(500, 80), sent(9_900, 100)).await;
        assert_eq!(office.look_at_drives().await.unwrap(), 0);
        let on = DriveChange { guarded: Some(true), ..DriveChange::default() };
        office.change_drive(own, &trial.acme, &drive.id, on).await.unwrap();
        assert_eq!(office.look_at_drives().await.unwrap(), 1);
        let over = trial.now(&drive).await;
        assert_eq!((over.state, trial.split().await), (DriveState::Stopped, (None, None)));
        assert!(over.reason.unwrap().contains("bounced 13.79 %"));
        let open = office.incidents(own, None, true, &Window::default()).await.unwrap().items;
        assert_eq!((open.len(), open[0].kind), (1, IncidentKind::TestDrive));
        assert!(open[0].words.contains("The test drive of letters by the pool fresh was stopped"), "{}", open[0].words);
        assert_eq!(office.look_at_drives().await.unwrap(), 0);
    });
}

// R8.3, R7.6: without its pool or its set a drive is over, and the log says so.
#[test]
fn a_drive_ends_with_what_it_needs() {
    on_both(async |bench| {
        let trial = Trial::on(bench).await;
        let (office, own) = (&bench.office, &bench.key_of(&trial.acme));
        let ends = async |reason: &str, drive: &Drive| {
            let over = trial.now(drive).await;
            assert_eq!((over.state, over.reason.as_deref()), (DriveState::Ended, Some(reason)));
            let lines = office.audit(own, Some(&trial.acme), Some(&drive.set), &Window::default()).await.unwrap().items;
            let ended = lines.iter().find(|line| line.action == "drive-ended").unwrap();
            assert_eq!((&ended.detail["drive"], &ended.detail["reason"]), (&json!(drive.id), &json!(reason)));
        };
        let drive = trial.start(1_000, None).await.unwrap();
        let end = PoolEnd { move_ips_to: Some("default".into()), although_used: true };
        office.delete_pool(own, &trial.acme, "fresh", &end).await.unwrap();
        ends("its pool was deleted", &drive).await;
        assert_eq!(trial.split().await, (None, None));

        let new = NewDrive { set: "letters".into(), pool: "default".into(), share: 1_000, days: None, guarded: true };
        let drive = office.start_drive(own, &trial.acme, new).await.unwrap();
        office.delete_set(own, &trial.acme, "letters").await.unwrap();
        ends("its configuration set was deleted", &drive).await;
    });
}

// R8.3, R6.3: what an account would be reviewed for ends a drive, also where the old side is as bad.
#[test]
fn spec_r8_3_a_limit_ends_a_drive() {
    on_both(async |bench| {
        let trial = Trial::on(bench).await;
        let drive = trial.start(1_000, None).await.unwrap();
        bench.days(1);
        trial.sent(sent(900, 78), sent(9_200, 800)).await;
        assert_eq!(bench.office.look_at_drives().await.unwrap(), 0, "of so little nothing is said");
        trial.sent(sent(900, 78), sent(0, 0)).await;
        assert_eq!(bench.office.look_at_drives().await.unwrap(), 1);
        let over = trial.now(&drive).await;
        assert_eq!(over.state, DriveState::Stopped);
        let reason = over.reason.unwrap();
        assert!(reason.starts_with("the new side is over a limit: 156 of 1956 messages"), "{reason}");
    });
}

// R8.3: the rest moves day by day; and what nobody decides goes back when its time is over.
#[test]
fn a_drive_grows_day_by_day_or_ends_with_its_time() {
    on_both(async |bench| {
        let trial = Trial::on(bench).await;
        let (office, own) = (&bench.office, &bench.key_of(&trial.acme));
        let drive = trial.start(5_000, Some(28)).await.unwrap();
        let salt = trial.split().await.0.unwrap().salt;
        let grows = DriveChange { step: Some(2_000), ..DriveChange::default() };
        office.change_drive(own, &trial.acme, &drive.id, grows).await.unwrap();
        assert_eq!(office.look_at_drives().await.unwrap(), 0, "not before the next day");
        for share in [7_000, 9_000] {
            bench.days(1);
            assert_eq!((office.look_at_drives().await.unwrap(), office.look_at_drives().await.unwrap()), (1, 0));
            let split = trial.split().await.0.unwrap();
            assert_eq!((split.share, split.salt), (share, salt), "nobody changes sides");
        }
        bench.days(1);
        office.look_at_drives().await.unwrap();
        assert_eq!(trial.now(&drive).await.state, DriveState::Finished);
        assert_eq!(trial.split().await, (None, Some(trial.pool.clone())));

        let none = SetChange { pool: Some(None), ..SetChange::default() };
        office.change_set(own, &trial.acme, "letters", none).await.unwrap();
        let drive = trial.start(1_000, Some(7)).await.unwrap();
        bench.days(7);
        assert_eq!(bench.again().await.look_at_drives().await.unwrap(), 1);
        let over = trial.now(&drive).await;
        assert_eq!((over.state, trial.split().await), (DriveState::Ended, (None, None)));
        assert!(over.reason.unwrap().starts_with("its time was over. Too little was sent"));
        // Who said that the rest moves day by day is not brought back half way by the day that was planned for the end.
        let drive = trial.start(1_000, Some(2)).await.unwrap();
        let grows = DriveChange { step: Some(2_000), ..DriveChange::default() };
        office.change_drive(own, &trial.acme, &drive.id, grows).await.unwrap();
        for share in [3_000, 5_000, 7_000, 9_000] {
            bench.days(1);
            // The guard looks many times a day.
            let looked = (office.look_at_drives().await.unwrap(), office.look_at_drives().await.unwrap());
            assert_eq!((looked, trial.now(&drive).await.state), ((1, 0), DriveState::Running));
            assert_eq!(trial.split().await.0.map(|split| split.share), Some(share));
        }
        bench.days(1);
        office.look_at_drives().await.unwrap();
        assert_eq!(trial.now(&drive).await.state, DriveState::Finished);
        let none = SetChange { pool: Some(None), ..SetChange::default() };
        office.change_set(own, &trial.acme, "letters", none).await.unwrap();
        // Who deletes the set ends its drive.
        let drive = trial.start(1_000, None).await.unwrap();
        office.delete_set(own, &trial.acme, "letters").await.unwrap();
        assert_eq!(trial.now(&drive).await.state, DriveState::Ended);
    });
}
