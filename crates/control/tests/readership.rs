//! Is it known who has read lately, and only by whoever wrote to them? (R4.2)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::active::Readership;
use control::archive::{Told, ToldEvent};
use engine::event::{Event, EventKind, Reader};
use engine::id::AccountId;
use support::on_both;
use support::sent::{Sent, send};

/// The recipient with this number of the message that was sent last does something with it.
async fn visit(bench: &support::Bench, place: u64, recipient: u16, kind: EventKind, reader: Reader) {
    let found = bench.office.archive().search(&control::block::Wanted::default(), None, 1).await.unwrap();
    let event = Event {
        message: found.events[0].event.message,
        account: Some(AccountId::new("acme")),
        recipient: Some(recipient),
        reader: Some(reader),
        ..Event::new(bench.office.now(), kind)
    };
    let event = ToldEvent { record: None, event, address: None, accepted: None, route: None };
    let told = vec![Told { cursor: place, events: vec![event] }];
    bench.office.archive().take_in("readers", place, told).await.unwrap();
}

#[test]
fn readers_are_heard_of_and_kept() {
    on_both(async |bench| {
        bench.region().await;
        let archive = bench.office.archive();
        send(bench, "acme", "google", Sent { delivered: 4, ..Sent::default() }).await;
        visit(bench, 1, 0, EventKind::Clicked, Reader::Person).await;
        visit(bench, 2, 1, EventKind::Opened, Reader::Proxy).await;
        visit(bench, 3, 2, EventKind::Opened, Reader::Machine).await;
        let path = bench.file("active.sealed");
        let mut readers = Readership::kept(&bench.sealer(), &path).unwrap();
        while readers.read_on(archive).await.unwrap() {}
        let now = bench.office.now();
        let idle = |readers: &Readership, account: &str| {
            (0..4).map(|at| readers.list().idle_days(account, &format!("r{at}@b.test"), now)).collect::<Vec<_>>()
        };
        assert_eq!(idle(&readers, "acme"), [Some(0), Some(0), None, None]);
        assert_eq!(idle(&readers, "other"), [None; 4], "R2.8");

        assert!(readers.is_unkept());
        readers.to_keep().write(&bench.sealer(), &path).unwrap();
        readers.is_kept();
        let mut again = Readership::kept(&bench.sealer(), &path).unwrap();
        assert_eq!(idle(&again, "acme"), [Some(0), Some(0), None, None]);
        while again.read_on(archive).await.unwrap() {}
        assert!(!again.is_unkept(), "what is known is not read twice");

        // What cannot be used is made anew from what is kept of events.
        std::fs::write(&path, b"rubbish").unwrap();
        let mut anew = Readership::kept(&bench.sealer(), &path).unwrap();
        while anew.read_on(archive).await.unwrap() {}
        assert_eq!(idle(&anew, "acme"), [Some(0), Some(0), None, None]);
    });
}
