//! A list says to whom an account sends nothing any more, and the data plane has it as the database has.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::suppression::{BATCH_MAX, Feed, Narrowed, NewSuppression, Word};
use control::{Kind, Window};
use engine::doubt::{DoubtKind, Evidence};
use engine::id::MessageId;
use engine::snapshot::Plan;
use engine::suppression::Reason;
use engine::time::Timestamp;
use std::time::Duration;
use support::{Bench, on_both};

fn new(address: &str) -> NewSuppression {
    NewSuppression {
        address: address.into(),
        stream: None,
        reason: Reason::Manual,
        detail: None,
        created_at: None,
        expires_at: None,
    }
}

fn word(bench: &Bench, account: &str, address: &str, message: u128, evidence: Evidence) -> Word {
    Word {
        evidence,
        account: account.into(),
        address: address.into(),
        stream: None,
        message: MessageId(message),
        at: bench.office.now(),
        said: Some("550 5.1.1 no such user".into()),
    }
}

async fn heed(bench: &Bench, words: &[Word]) {
    bench.office.take_in("queue", 1, &[], words).await.unwrap();
}

fn feed(bench: &Bench) -> Feed {
    Feed::kept(&bench.sealer(), &bench.file("suppressions.sealed")).unwrap()
}

fn found(feed: &Feed, account: &str, address: &str, now: Timestamp) -> Option<Reason> {
    feed.list().find(account, address, "news", now, |_| true).map(|listed| listed.reason)
}

// R5.5, R7.6: put, seen, taken off, each in the log of who did what; R2.8: by the account alone.
#[test]
fn spec_r5_5_an_account_arranges_its_own_list() {
    on_both(async |bench| {
        bench.region().await;
        let (acme, other) = (bench.account("acme", Plan::Standard).await, bench.account("other", Plan::Standard).await);
        let (office, own, strange) = (&bench.office, &bench.key_of(&acme), &bench.key_of(&other));
        let put = office.put_suppression(own, &acme, new("Bob.B@Mail.TEST")).await.unwrap();
        assert_eq!((put.address.as_str(), put.reason, put.stream), ("bob.b@mail.test", Reason::Manual, None));
        let again =
            NewSuppression { reason: Reason::Complaint, detail: Some("by telephone".into()), ..new("bob.b@mail.test") };
        office.put_suppression(own, &acme, again).await.unwrap();
        let news = NewSuppression { stream: Some("news".into()), ..new("bob.b@mail.test") };
        office.put_suppression(own, &acme, news).await.unwrap();
        office.put_suppression(own, &acme, new("cy@other.test")).await.unwrap();
        let account = &acme;
        let all = |narrowed: Narrowed, window: Window| async move {
            office.suppressions(own, account, &narrowed, &window).await.unwrap()
        };
        let page = all(Narrowed::default(), Window { limit: Some(2), after: None }).await;
        let told: Vec<_> = page.items.iter().map(|entry| (entry.reason, entry.stream.as_deref())).collect();
        assert_eq!(told, [(Reason::Complaint, None), (Reason::Manual, Some("news"))]);
        let rest = all(Narrowed::default(), Window { limit: Some(2), after: page.next }).await;
        assert_eq!((rest.items[0].address.as_str(), rest.next), ("cy@other.test", None));
        let narrowed = [
            (Narrowed { domain: Some("Other.test".into()), ..Narrowed::default() }, 1),
            (Narrowed { begins: Some("BOB".into()), ..Narrowed::default() }, 2),
            (Narrowed { reason: Some(Reason::Complaint), ..Narrowed::default() }, 1),
            (Narrowed { begins: Some("z".into()), ..Narrowed::default() }, 0),
            (Narrowed { from: Some(office.now()), ..Narrowed::default() }, 3),
            (Narrowed { until: Some(office.now()), ..Narrowed::default() }, 0),
        ];
        for (narrowed, count) in narrowed {
            assert_eq!(all(narrowed, Window::default()).await.items.len(), count);
        }
        let unseen = office.suppressions(strange, &acme, &Narrowed::default(), &Window::default()).await;
        assert_eq!(unseen.unwrap_err().kind, Kind::NotFound);
        assert_eq!(office.put_suppression(strange, &acme, new("x@y.test")).await.unwrap_err().kind, Kind::NotFound);
        assert_eq!(office.put_suppression(own, &acme, new("no address")).await.unwrap_err().kind, Kind::Invalid);

        office.delete_suppression(own, &acme, "BOB.B@mail.test", None).await.unwrap();
        let gone = office.delete_suppression(own, &acme, "bob.b@mail.test", None).await.unwrap_err();
        assert_eq!(gone.kind, Kind::NotFound);
        assert!(office.suppression(own, &acme, "bob.b@mail.test", Some("news")).await.is_ok());
        let log = office.audit(own, Some(&acme), Some("bob.b@mail.test"), &Window::default()).await.unwrap();
        let actions: Vec<&str> = log.items.iter().map(|line| line.action.as_str()).collect();
        assert_eq!(actions, ["removed", "put", "put", "put"]);
    });
}

// R5.5: what is in the database is in the list: put, changed, taken off, by whomever, kept, and after a long absence.
#[test]
fn the_data_plane_has_the_list_as_the_database_has_it() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own, now) = (&bench.office, &bench.key_of(&acme), bench.office.now());
        let mut first = feed(bench);
        assert!(!office.hear(&mut first).await.unwrap());
        office.put_suppression(own, &acme, new("bob@mail.test")).await.unwrap();
        let beside = bench.again().await;
        let brief = NewSuppression { expires_at: Some(now + Duration::from_secs(3_600)), ..new("cy@mail.test") };
        beside.put_suppression(own, &acme, brief).await.unwrap();
        let news = NewSuppression { stream: Some("news".into()), ..new("dee@mail.test") };
        beside.put_suppression(own, &acme, news).await.unwrap();
        assert!(office.hear(&mut first).await.unwrap() && !office.hear(&mut first).await.unwrap());
        for address in ["bob@mail.test", "cy@mail.test", "dee@mail.test"] {
            assert_eq!(found(&first, &acme, address, now), Some(Reason::Manual), "{address}");
            assert_eq!(found(&first, "acc_other", address, now), None);
        }
        assert!(first.is_unkept());
        first.to_keep().write(&bench.sealer(), &bench.file("suppressions.sealed")).unwrap();

        office.delete_suppression(own, &acme, "bob@mail.test", None).await.unwrap();
        let mut kept = feed(bench);
        assert_eq!(found(&kept, &acme, "bob@mail.test", now), Some(Reason::Manual), "as it was kept");
        assert!(office.hear(&mut kept).await.unwrap());
        assert_eq!(found(&kept, &acme, "bob@mail.test", now), None);
        assert_eq!(kept.list().len(), 2);

        // What has ended by itself is taken off, and after a long absence the whole is read.
        bench.days(1);
        office.tidy_suppressions().await.unwrap();
        assert!(office.hear(&mut kept).await.unwrap());
        assert_eq!(kept.list().len(), 1);
        bench.days(20);
        office.tidy_suppressions().await.unwrap();
        let mut late = feed(bench);
        office.hear(&mut late).await.unwrap();
        assert_eq!((late.list().len(), found(&late, &acme, "dee@mail.test", now)), (1, Some(Reason::Manual)));

        // Another database, with nothing in it: the list is empty too, and it is told so.
        office.delete_suppression(own, &acme, "dee@mail.test", Some("news")).await.unwrap();
        bench.days(20);
        office.tidy_suppressions().await.unwrap();
        let mut gone = feed(bench);
        assert!(!gone.list().is_empty() && office.hear(&mut gone).await.unwrap());
        assert!(gone.list().is_empty());
        let news = NewSuppression { stream: Some("news".into()), ..new("dee@mail.test") };
        office.put_suppression(own, &acme, news).await.unwrap();
        std::fs::write(bench.file("suppressions.sealed"), "nothing").unwrap();
        let mut anew = feed(bench);
        office.hear(&mut anew).await.unwrap();
        assert_eq!(anew.list().len(), 1);
    });
}

// R5.5: what mail shows; told twice it is once, and a list that somebody has put right stays right.
#[test]
fn what_mail_shows_is_taken_to_heart_once() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let bounce = word(bench, &acme, "bob@mail.test", 1, Evidence::Enough(Reason::Bounce));
        heed(bench, &[bounce.clone(), bounce]).await;
        let entry = office.suppression(own, &acme, "bob@mail.test", None).await.unwrap();
        assert_eq!((entry.reason, entry.detail.as_deref()), (Reason::Bounce, Some("550 5.1.1 no such user")));
        assert_eq!(entry.message.as_deref(), Some("00000000000000000000000000000001"));
        heed(bench, &[word(bench, &acme, "bob@mail.test", 2, Evidence::Enough(Reason::Bounce))]).await;
        assert_eq!(office.suppression(own, &acme, "bob@mail.test", None).await.unwrap(), entry);
        // A complaint weighs more, and what was to end does not when it is shown again; what somebody put there stays.
        heed(bench, &[word(bench, &acme, "bob@mail.test", 2, Evidence::Enough(Reason::Complaint))]).await;
        assert_eq!(office.suppression(own, &acme, "bob@mail.test", None).await.unwrap().reason, Reason::Complaint);
        let soon = Some(office.now() + Duration::from_secs(3_600));
        let ending = NewSuppression { reason: Reason::Bounce, expires_at: soon, ..new("eve@mail.test") };
        office.put_suppression(own, &acme, ending).await.unwrap();
        office.put_suppression(own, &acme, new("fay@mail.test")).await.unwrap();
        for address in ["eve@mail.test", "fay@mail.test"] {
            heed(bench, &[word(bench, &acme, address, 3, Evidence::Enough(Reason::Bounce))]).await;
        }
        let eve = office.suppression(own, &acme, "eve@mail.test", None).await.unwrap();
        assert_eq!((eve.reason, eve.expires_at), (Reason::Bounce, None));
        assert_eq!(office.suppression(own, &acme, "fay@mail.test", None).await.unwrap().reason, Reason::Manual);
        heed(bench, &[word(bench, "acc_gone", "bob@mail.test", 2, Evidence::Enough(Reason::Complaint))]).await;

        // A bounce from before somebody took the address off the list, heard of later, does not bring it back; a new one does.
        let early = word(bench, &acme, "gus@mail.test", 4, Evidence::Enough(Reason::Bounce));
        heed(bench, std::slice::from_ref(&early)).await;
        bench.days(1);
        let late = word(bench, &acme, "gus@mail.test", 5, Evidence::Enough(Reason::Bounce));
        bench.days(1);
        office.delete_suppression(own, &acme, "gus@mail.test", None).await.unwrap();
        heed(bench, &[early, late]).await;
        assert!(office.suppression(own, &acme, "gus@mail.test", None).await.is_err());
        bench.days(1);
        heed(bench, &[word(bench, &acme, "gus@mail.test", 6, Evidence::Enough(Reason::Bounce))]).await;
        assert_eq!(office.suppression(own, &acme, "gus@mail.test", None).await.unwrap().reason, Reason::Bounce);

        // Doubt: three messages over two weeks, and none delivered between.
        let full = Evidence::Doubt(DoubtKind::MailboxFull);
        for message in 10..13 {
            heed(bench, &[word(bench, &acme, "cy@mail.test", message, full)]).await;
            bench.days(6);
        }
        assert_eq!(office.in_doubt(10).await.unwrap().unwrap().len(), 1);
        assert_eq!(office.in_doubt(0).await.unwrap(), None);
        // Only what stays delivered counts.
        heed(bench, &[word(bench, &acme, "cy@mail.test", 13, Evidence::Delivered)]).await;
        assert_eq!(office.in_doubt(10).await.unwrap().unwrap().len(), 1);
        bench.days(6);
        heed(bench, &[word(bench, &acme, "cy@mail.test", 14, Evidence::Delivered)]).await;
        assert_eq!(office.in_doubt(10).await.unwrap().unwrap(), []);
        // This host takes each message, and sends it back.
        for message in 20..23 {
            assert!(office.suppression(own, &acme, "cy@mail.test", None).await.is_err());
            heed(bench, &[word(bench, &acme, "cy@mail.test", message, Evidence::Delivered)]).await;
            heed(bench, &[word(bench, &acme, "cy@mail.test", message, full)]).await;
            bench.days(7);
        }
        assert_eq!(office.suppression(own, &acme, "cy@mail.test", None).await.unwrap().reason, Reason::Bounce);
        assert_eq!(office.in_doubt(10).await.unwrap().unwrap(), []);
        heed(bench, &[word(bench, &acme, "dee@mail.test", 30, full)]).await;
        bench.days(61);
        office.tidy_suppressions().await.unwrap();
        assert_eq!(office.in_doubt(10).await.unwrap().unwrap(), [], "forgotten");
    });
}

#[test]
fn many_are_taken_at_once_and_one_that_is_wrong_is_named() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let mut many: Vec<NewSuppression> = (0..BATCH_MAX - 1).map(|at| new(&format!("p{at}@mail.test"))).collect();
        many.insert(7, new("nobody"));
        let taken = office.put_suppressions(own, &acme, many.clone()).await.unwrap();
        assert_eq!((taken.put, taken.wrong.len(), taken.wrong[0].0), (BATCH_MAX - 1, 1, 7));
        let mut list = feed(bench);
        office.hear(&mut list).await.unwrap();
        assert_eq!(list.list().len(), BATCH_MAX - 1);
        many.push(new("one@too.many"));
        assert_eq!(office.put_suppressions(own, &acme, many).await.unwrap_err().kind, Kind::Invalid);
        let log = office.audit(own, Some(&acme), Some("list"), &Window::default()).await.unwrap();
        assert_eq!((log.items.len(), &log.items[0].detail["count"]), (1, &(BATCH_MAX - 1).into()));
    });
}
