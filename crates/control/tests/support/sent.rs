//! Mail that was sent, and what became of it.

use super::Bench;
use control::archive::{Told, ToldEvent};
use engine::classify::{Class, Meaning, Subtype};
use engine::envelope::{Addresses, Envelope, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId};
use engine::why::PoolRule;
use mail::address::Domain;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub const OUT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

/// What became of mail to a provider: so many delivered, to nobody, and complained of.
#[derive(Clone, Copy, Default)]
pub struct Sent {
    pub delivered: u16,
    pub hard: u16,
    pub complained: u16,
}

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// By the shared pool.
pub async fn send(bench: &Bench, account: &str, provider: &str, sent: Sent) {
    send_by(bench, account, ("pool_s", OUT), provider, sent).await;
}

/// One message to all of them, told in order.
pub async fn send_by(bench: &Bench, account: &str, by: (&str, IpAddr), provider: &str, sent: Sent) {
    send_in(bench, account, "", by, provider, sent).await;
}

/// The same with a configuration set.
pub async fn send_in(bench: &Bench, account: &str, set: &str, (pool, ip): (&str, IpAddr), provider: &str, sent: Sent) {
    let set = Some(set).filter(|set| !set.is_empty());
    let number = NUMBER.fetch_add(1, Ordering::SeqCst);
    let now = bench.office.now();
    let message = MessageId(u128::from(number));
    let all = sent.delivered + sent.hard;
    let recipients = (0..all).map(|n| Recipient {
        address: format!("r{n}@b.test"),
        domain: Domain::parse("b.test").unwrap(),
        notify: None,
        orcpt: None,
    });
    let envelope = Envelope {
        message,
        account: AccountId::new(account),
        stream: StreamId::new("news"),
        wish: Wish { region: RegionId::new("local"), pool: None, set: set.map(Into::into), subaccount: None },
        route: Some(Route {
            pool: PoolId::new(pool),
            name: "shared".into(),
            addresses: Addresses::Shown,
            rule: PoolRule::Shared,
            candidates: vec![ip],
            chosen: ip,
        }),
        sender: None,
        sender_domain: Domain::parse("acme.example").ok(),
        return_path: String::new(),
        recipients: recipients.collect(),
        accepted_at: now,
        due_at: now,
        expires_at: now + Duration::from_secs(100_000),
        tls: TlsWish::IfOffered,
        size: 1,
        message_id_header: format!("<{number}@weir.test>"),
        tags: Vec::new(),
        envid: None,
        ret: None,
        smtputf8: false,
        once: None,
    };
    let event = |kind, recipient: Option<u16>, class: Option<Class>| Event {
        message: Some(message),
        account: Some(AccountId::new(account)),
        pool: Some(PoolId::new(pool)),
        recipient,
        ip: Some(ip),
        provider: Some(provider.into()),
        meaning: class.map(|class| Meaning::own(class, Subtype::UnknownUser)),
        ..Event::new(now, kind)
    };
    let plain =
        |event, address: Option<String>| ToldEvent { event, address, accepted: None, route: None, record: None };
    let accepted = ToldEvent {
        accepted: Some(envelope.clone()),
        record: Some(vec![1]),
        ..plain(event(EventKind::Accepted, None, None), None)
    };
    let became = (0..all).map(|n| {
        let address = Some(format!("r{n}@b.test"));
        match n < sent.delivered {
            true => plain(event(EventKind::Delivered, Some(n), None), address),
            false => plain(event(EventKind::Bounced, Some(n), Some(Class::Hard)), address),
        }
    });
    let complained = (0..sent.complained).map(|n| {
        plain(Event { recipient: Some(n), message: Some(message), ..Event::new(now, EventKind::Complained) }, None)
    });
    let told = vec![
        Told { cursor: number * 3, events: vec![accepted] },
        Told { cursor: number * 3 + 1, events: became.collect() },
        Told { cursor: number * 3 + 2, events: complained.collect() },
    ];
    bench.office.archive().take_in("queue", number * 3 + 2, told).await.unwrap();
    let since = bench.office.counts_kept_since().await.unwrap();
    while bench.office.archive().count(&since).await.unwrap() {}
}
