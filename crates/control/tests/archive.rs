//! Events are kept once each, found by what they say, and let go of in time.
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::archive::{Archive, Told, ToldEvent};
use control::block::{Kept, Wanted};
use control::statistics::{Dimension, Figures, Question};
use control::{Actor, Kind, Window};
use engine::classify::{Class, Meaning, Subtype};
use engine::counts::Grain;
use engine::envelope::{Addresses, Envelope, PoolRule, Recipient, Route, TlsWish, Wish};
use engine::event::{Event, EventKind};
use engine::id::{AccountId, MessageId, PoolId, RegionId, StreamId, SubaccountId};
use engine::snapshot::{Holder, Plan};
use engine::time::Timestamp;
use mail::address::Domain;
use mail::reply::Reply;
use std::net::IpAddr;
use std::time::Duration;
use support::{START, on_both};

const BLOCK: u64 = 1_024;

fn at(n: u64) -> Timestamp {
    Timestamp(START) + Duration::from_secs(n)
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

fn envelope(n: u64) -> Envelope {
    let recipient =
        |address: String| Recipient { address, domain: Domain::parse("b.test").unwrap(), notify: None, orcpt: None };
    let managed = n.is_multiple_of(5);
    Envelope {
        message: MessageId(u128::from(n) + 1),
        account: AccountId::new(if n.is_multiple_of(3) { "ann" } else { "bob" }),
        stream: StreamId::new("news"),
        wish: Wish {
            region: RegionId::new("local"),
            pool: None,
            set: Some("weekly".into()),
            subaccount: n.is_multiple_of(2).then(|| SubaccountId::new("part")),
        },
        route: Some(Route {
            pool: PoolId::new(if managed { "pool_m" } else { "pool_s" }),
            name: "own".into(),
            addresses: if managed { Addresses::Hidden } else { Addresses::Shown },
            rule: PoolRule::AccountDefault,
            candidates: vec![ip(1), ip(2)],
            chosen: ip(1),
        }),
        sender: None,
        sender_domain: None,
        return_path: String::new(),
        recipients: vec![recipient(format!("R{n}@B.test")), recipient(format!("s{n}@b.test"))],
        accepted_at: at(n),
        due_at: at(n),
        expires_at: at(n + 1_000_000),
        tls: TlsWish::IfOffered,
        size: 1,
        message_id_header: format!("<{n}@weir.test>"),
        tags: vec![("campaign".into(), (n % 7).to_string())],
        envid: None,
        ret: None,
        smtputf8: false,
        once: None,
    }
}

/// Accepted for two recipients; then one record that says what became of each.
fn told(n: u64) -> [Told; 2] {
    let envelope = envelope(n);
    let accepted = Event {
        message: Some(envelope.message),
        account: Some(envelope.account.clone()),
        pool: Some(envelope.route.as_ref().unwrap().pool.clone()),
        ip: Some(ip(1)),
        ..Event::new(at(n), EventKind::Accepted)
    };
    let about = |kind, of: u16, class| Event {
        message: Some(envelope.message),
        account: Some(envelope.account.clone()),
        pool: Some(envelope.route.as_ref().unwrap().pool.clone()),
        recipient: Some(of),
        ip: Some(ip(if n.is_multiple_of(4) { 2 } else { 1 })),
        provider: Some("gmail".into()),
        reply: Some(Reply::new(250, (2, 0, 0), format!("queued as {n}"))),
        meaning: class,
        ..Event::new(at(n) + Duration::from_millis(250), kind)
    };
    let plain = |event, address: Option<&str>| ToldEvent {
        event,
        address: address.map(str::to_owned),
        accepted: None,
        route: None,
        record: None,
    };
    let first = ToldEvent {
        event: accepted,
        address: None,
        accepted: Some(envelope.clone()),
        route: None,
        record: Some(record(n)),
    };
    let hard = Some(Meaning::own(Class::Hard, Subtype::UnknownUser));
    // The second one's address was not at hand.
    let became = vec![
        plain(about(EventKind::Delivered, 0, None), Some(&envelope.recipients[0].address)),
        plain(about(EventKind::Bounced, 1, hard), None),
    ];
    [Told { cursor: n * 2 + 1, events: vec![first] }, Told { cursor: n * 2 + 2, events: became }]
}

/// As the data plane would have it read again.
fn record(n: u64) -> Vec<u8> {
    format!("accepted {n}").into_bytes()
}

async fn keep(archive: &Archive, messages: std::ops::Range<u64>) {
    let mut rest: Vec<Told> = messages.flat_map(told).collect();
    while !rest.is_empty() {
        let later = rest.split_off(rest.len().min(300));
        archive.take_in("queue", rest.last().unwrap().cursor, rest).await.unwrap();
        rest = later;
    }
}

/// All pages, newest first.
async fn all(archive: &Archive, wanted: &Wanted) -> Vec<Kept> {
    let (mut found, mut before) = (Vec::new(), None);
    loop {
        let page = archive.search(wanted, before, 97).await.unwrap();
        found.extend(page.events);
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

// R6.1, F7: each once, in order, with what the log does not repeat; told twice, or from before where it was, changes nothing.
#[test]
fn what_is_told_is_kept_once_and_whole() {
    on_both(async |bench| {
        let archive = bench.office.archive();
        // Enough for a run of each level.
        let messages = BLOCK * 70 / 4;
        keep(archive, 0..messages).await;
        let end = *archive.end().borrow();
        assert_eq!(end, i64::try_from(messages * 4).unwrap());
        keep(archive, messages - 50..messages).await;
        let again = bench.again().await;
        assert_eq!(again.archive().taken_in("queue").await.unwrap(), Some(messages * 2));
        keep(again.archive(), messages - 50..messages + 1).await;
        let events = all(again.archive(), &Wanted::default()).await;
        assert_eq!(events.len() as u64, (messages + 1) * 4);
        assert!(events.windows(2).all(|pair| pair[0].number == pair[1].number + 1));
        let mut ids: Vec<String> = events.iter().map(Kept::id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), events.len());

        // The acceptance was seen by another process: it is looked up.
        let story = again.archive().story(MessageId(u128::from(messages))).await.unwrap();
        let told: Vec<_> = story.iter().map(|kept| (kept.event.kind, kept.address.as_deref().unwrap())).collect();
        let (first, second) = (format!("R{}@B.test", messages - 1), format!("s{}@b.test", messages - 1));
        let expected = [
            (EventKind::Accepted, &*first),
            (EventKind::Accepted, &*second),
            (EventKind::Delivered, &*first),
            (EventKind::Bounced, &*second),
        ];
        assert_eq!(told, expected);
        assert_eq!(story[0].record.as_deref(), Some(&*record(messages - 1)));
        assert!(story[1..].iter().all(|kept| kept.record.is_none()));
        assert!(story.iter().all(|kept| kept.about.set.as_deref() == Some("weekly")));
        assert_eq!(story[2].began, Some(at(messages - 1)));
        assert_eq!(story[2].event, told_event(messages - 1));
        again.close().await;
    });
}

fn told_event(n: u64) -> Event {
    told(n)[1].events[0].event.clone()
}

// R6.1: by recipient, message, tag, IP, pool, class, kind, provider, stream, time; alone and together, page by page.
#[test]
fn events_are_found_by_what_they_say() {
    on_both(async |bench| {
        let archive = bench.office.archive();
        let messages = BLOCK * 13 / 4 + 100;
        keep(archive, 0..messages).await;
        let everything = all(archive, &Wanted::default()).await;
        // Who has kept them has the newest at hand; who comes later reads rows.
        let later = bench.again().await;
        let some = |text: &str| Some(text.to_owned());
        let (base, ann) = (Wanted::default(), Some("ann".to_owned()));
        let searches = [
            Wanted { recipient: some("r2001@b.test"), ..base.clone() },
            Wanted { recipient: some("nobody@b.test"), ..base.clone() },
            Wanted { message: Some(MessageId(77)), ..base.clone() },
            Wanted { account: ann.clone(), ..base.clone() },
            Wanted { account: ann.clone(), tag: Some(("campaign".into(), some("3"))), ..base.clone() },
            Wanted {
                account: ann.clone(),
                tag: Some(("campaign".into(), None)),
                subaccount: some("part"),
                ..base.clone()
            },
            Wanted { tag: Some(("campaign".into(), some("6"))), class: some("hard"), ..base.clone() },
            Wanted { ip: Some(ip(2)), pool: some("pool_m"), ..base.clone() },
            Wanted { ip: Some(ip(2)), concealing: true, ..base.clone() },
            Wanted { pool: some("own"), kinds: vec![EventKind::Delivered], ..base.clone() },
            Wanted { provider: some("gmail"), stream: some("news"), set: some("weekly"), ..base.clone() },
            Wanted { from: Some(at(500)), until: Some(at(2_100)), kinds: vec![EventKind::Bounced], ..base.clone() },
            Wanted { account: ann, from: Some(at(messages - 40)), ..base.clone() },
        ];
        for wanted in searches {
            let expected: Vec<_> = everything.iter().filter(|kept| fits(kept, &wanted)).cloned().collect();
            assert_eq!(all(archive, &wanted).await.len(), expected.len(), "{wanted:?}");
            assert_eq!(all(archive, &wanted).await, expected, "{wanted:?}");
            // Forwards it is the same, from wherever one begins.
            let begins = [0, 1_500, i64::try_from(messages * 3 - 30).unwrap()];
            for (from, archive) in begins.iter().flat_map(|from| [(*from, archive), (*from, later.archive())]) {
                let mut found = Vec::new();
                let mut place = from;
                let end = *archive.end().borrow();
                while place < end {
                    let read = archive.read_on(&wanted, place, 97).await.unwrap();
                    assert!(read.next > place && read.events.len() <= 97 + BLOCK as usize);
                    found.extend(read.events.iter().map(|kept| (**kept).clone()));
                    place = read.next;
                }
                found.reverse();
                let expected: Vec<_> = expected.iter().filter(|kept| kept.number >= from).cloned().collect();
                assert_eq!(found, expected, "{wanted:?} from {from}");
            }
        }
    });
}

/// As a reader would say it.
fn fits(kept: &Kept, wanted: &Wanted) -> bool {
    let (event, about) = (&kept.event, &kept.about);
    let is = |asked: &Option<String>, is: Option<&str>| asked.as_deref().is_none_or(|asked| is == Some(asked));
    let class = event.meaning.as_ref().map(|_| "hard");
    let tagged = wanted.tag.as_ref().is_none_or(|(name, value)| {
        about.tags.iter().any(|(own, is)| own == name && value.as_ref().is_none_or(|value| is == value))
    });
    is(&wanted.account, event.account.as_ref().map(AccountId::as_str))
        && is(&wanted.subaccount, about.subaccount.as_deref())
        && is(&wanted.recipient, kept.address.as_deref().map(str::to_lowercase).as_deref())
        && is(&wanted.stream, Some(&about.stream))
        && is(&wanted.set, about.set.as_deref())
        && is(&wanted.class, class)
        && is(&wanted.provider, event.provider.as_deref())
        && (is(&wanted.pool, event.pool.as_ref().map(PoolId::as_str)) || is(&wanted.pool, about.pool_name.as_deref()))
        && wanted.message.is_none_or(|message| event.message == Some(message))
        && wanted.ip.is_none_or(|ip| event.ip == Some(ip) && (!wanted.concealing || about.concealed.is_empty()))
        && tagged
        && (wanted.kinds.is_empty() || wanted.kinds.contains(&event.kind))
        && wanted.from.is_none_or(|from| event.at >= from)
        && wanted.until.is_none_or(|until| event.at < until)
}

#[test]
fn what_is_old_or_too_much_goes_and_the_rest_is_found_as_before() {
    on_both(async |bench| {
        let archive = bench.office.archive();
        let messages = BLOCK * 20 / 4;
        keep(archive, 0..messages).await;
        let bytes = archive.bytes().await.unwrap();
        assert_eq!(archive.forget(at(0), i64::MAX).await.unwrap(), 0);
        // Blocks go as a whole: the one that holds a younger event stays.
        let gone = archive.forget(at(messages / 2 - 1), i64::MAX).await.unwrap();
        assert_eq!(gone, i64::try_from(BLOCK * 9).unwrap());
        let rest = all(archive, &Wanted::default()).await;
        assert_eq!(rest.len() as u64, messages * 4 - BLOCK * 9);
        assert!(archive.story(MessageId(5)).await.unwrap().is_empty());
        assert_eq!(archive.story(MessageId(u128::from(messages))).await.unwrap().len(), 4);
        assert_eq!(archive.read_on(&Wanted::default(), 0, 1).await.unwrap().events[0].number, gone);
        assert_eq!(archive.number_at(at(0)).await.unwrap(), gone);
        assert_eq!(archive.number_at(at(messages - 1)).await.unwrap(), i64::try_from(messages * 4 - 4).unwrap());
        assert_eq!(archive.number_at(at(messages + 1)).await.unwrap(), i64::try_from(messages * 4).unwrap());
        archive.forget(at(0), bytes / 4).await.unwrap();
        assert!(archive.bytes().await.unwrap() <= bytes / 4);
        assert_eq!(archive.story(MessageId(u128::from(messages))).await.unwrap().len(), 4);
        keep(archive, messages..messages + 10).await;
        assert_eq!(archive.story(MessageId(u128::from(messages) + 10)).await.unwrap().len(), 4);
    });
}

fn only_days(_: engine::counts::Grain) -> Timestamp {
    Timestamp(0)
}

async fn count(archive: &Archive) {
    while archive.count(only_days).await.unwrap() {}
}

// R6.2: by minute, hour and day, told apart by whatever is asked; counted once, whatever is told twice or begins again.
#[test]
fn spec_r6_2_counts_are_of_each_event_once_wherever_they_are_asked() {
    on_both(async |bench| {
        bench.region().await;
        let archive = bench.office.archive();
        let messages = 9_000;
        keep(archive, 0..4_000).await;
        count(archive).await;
        keep(archive, 3_900..messages).await;
        count(archive).await;
        let again = bench.again().await;
        count(again.archive()).await;
        let ask = async |question: Question| again.statistics(&bench.by, question).await.unwrap();
        let whole = Question { from: Some(at(0)), until: Some(at(86_400)), ..Question::default() };
        let all = ask(whole.clone()).await;
        assert_eq!((all.from, all.until), (at(0), at(86_400)));
        let of = |figures: &Figures, counts: [i64; 4]| {
            let names = ["accepted", "delivered", "hard", "deferred"];
            assert_eq!(names.map(|name| figures.counts[name]), counts, "{figures:?}");
        };
        let n = i64::try_from(messages).unwrap();
        of(&all.figures[0], [2 * n, n, n, 0]);
        let (p50, p95) = (all.figures[0].p50_s.unwrap(), all.figures[0].p95_s.unwrap());
        assert!(p50 <= p95 && p95 <= 1.0, "{p50} {p95}");
        // An hour, minute by minute; each has 60 messages, of which 20 are ann's.
        let hour = Question {
            account: None,
            grain: Some(Grain::Minute),
            from: Some(at(3_600)),
            until: Some(at(7_200)),
            by: vec![Dimension::Account],
            ..Question::default()
        };
        let hour = ask(hour).await;
        assert_eq!(hour.figures.len(), 120);
        of(&hour.figures[0], [40, 20, 20, 0]);
        assert_eq!(hour.figures[0].of, [(Dimension::Account, "ann".to_owned())]);
        of(&hour.figures[1], [80, 40, 40, 0]);
        let by = vec![Dimension::Provider, Dimension::Ip];
        let split = ask(Question { by, grain: Some(Grain::Day), ..whole }).await;
        let sums: i64 = split.figures.iter().map(|figures| figures.counts["delivered"]).sum();
        assert_eq!((sums, split.figures.len()), (n, 3), "{split:?}");
        assert_eq!(split.figures[1].of, [(Dimension::Provider, "gmail".into()), (Dimension::Ip, "192.0.2.1".into())]);
        // What is not kept by the minute any more is still kept by the day.
        let since = |grain| if grain == Grain::Minute { at(1_000_000) } else { at(0) };
        again.archive().forget_counts(since).await.unwrap();
        let minutes = Question { grain: Some(Grain::Minute), from: Some(at(0)), ..Question::default() };
        assert!(ask(minutes).await.figures.is_empty());
        again.close().await;
    });
}

// R2.8: an account sees its own, and of a managed pool no address.
#[test]
fn an_account_sees_its_own_figures_and_events_and_no_managed_address() {
    on_both(async |bench| {
        bench.region().await;
        let (acme, other) = (bench.account("acme", Plan::Standard).await, bench.account("other", Plan::Standard).await);
        let archive = bench.office.archive();
        let of = |n: u64, account: &str| {
            let mut told = told(n);
            for event in told.iter_mut().flat_map(|told| &mut told.events) {
                event.event.account = Some(AccountId::new(account));
                if let Some(accepted) = &mut event.accepted {
                    accepted.account = AccountId::new(account);
                }
            }
            told
        };
        let told: Vec<Told> = (0..40).flat_map(|n| of(n, if n < 30 { &acme } else { &other })).collect();
        archive.take_in("queue", 1_000, told).await.unwrap();
        count(archive).await;
        let (office, own) = (&bench.office, &bench.key_of(&acme));
        let window = Window { limit: Some(500), ..Window::default() };
        let seen = office.events(own, Wanted::default(), &window).await.unwrap();
        assert_eq!(seen.items.len(), 120);
        let named = Wanted { account: Some("other".into()), ..Wanted::default() };
        assert_eq!(office.events(own, named, &window).await.unwrap_err().kind, Kind::NotFound);
        let message = Wanted { message: Some(MessageId(36)), ..Wanted::default() };
        assert!(office.events(own, message, &window).await.unwrap().items.is_empty());
        // Of 30 messages, 6 are by a managed pool; of those, 2 from 192.0.2.2.
        let ip = Wanted { ip: Some(ip(2)), ..Wanted::default() };
        let shown = office.events(own, ip.clone(), &window).await.unwrap().items;
        assert!(!shown.is_empty() && shown.iter().all(|kept| kept.about.concealed.is_empty()));
        let all = office.events(&bench.by, Wanted { account: Some(acme.clone()), ..ip }, &window).await.unwrap().items;
        assert!(all.len() > shown.len());

        let range = Question { from: Some(at(0)), until: Some(at(3_600)), ..Question::default() };
        let by_ip = Question { by: vec![Dimension::Ip], ..range.clone() };
        let seen = office.statistics(own, by_ip.clone()).await.unwrap();
        assert_eq!(seen.figures[0].of, [(Dimension::Ip, String::new())]);
        assert_eq!(seen.figures.iter().map(|figures| figures.counts["delivered"]).sum::<i64>(), 30);
        let hidden = Question { ip: Some("192.0.2.2".parse().unwrap()), ..range.clone() };
        let (to_own, to_operator) = (
            office.statistics(own, hidden.clone()).await.unwrap(),
            office.statistics(&bench.by, hidden).await.unwrap(),
        );
        assert!(to_own.figures[0].counts["delivered"] < to_operator.figures[0].counts["delivered"]);
        let others = Question { account: Some(other), ..range };
        assert_eq!(office.statistics(own, others).await.unwrap_err().kind, Kind::NotFound);
        let part = Actor { holder: part_of(&acme), ..own.clone() };
        let seen = office.events(&part, Wanted::default(), &window).await.unwrap();
        assert!(
            seen.items.len() == 60 && seen.items.iter().all(|kept| kept.about.subaccount.as_deref() == Some("part"))
        );
        assert_eq!(
            office.statistics(&part, by_ip).await.unwrap().figures.iter().map(|f| f.counts["accepted"]).sum::<i64>(),
            30
        );
    });
}

fn part_of(account: &str) -> Holder {
    Holder::Account { account: AccountId::new(account), subaccount: Some(SubaccountId::new("part")) }
}

// F4: a late bounce takes the delivery's place in its hour, whoever tells it how often; a complaint counts when it comes, as the
// delivery's.
#[test]
fn spec_f4_what_comes_back_corrects_the_hour_of_the_delivery_once() {
    on_both(async |bench| {
        bench.region().await;
        let archive = bench.office.archive();
        keep(archive, 0..100).await;
        count(archive).await;
        let back = |cursor: u64, n: u64, kind: EventKind, class: Class| {
            let event = Event {
                message: Some(MessageId(u128::from(n) + 1)),
                recipient: Some(0),
                meaning: Some(Meaning::own(class, Subtype::General)),
                ..Event::new(at(3 * 86_400), kind)
            };
            Told { cursor, events: vec![ToldEvent { event, address: None, accepted: None, route: None, record: None }] }
        };
        let comes = vec![
            back(1_000, 7, EventKind::Returned, Class::Hard),
            // The same again, in other words; and one that was never delivered, only bounced.
            back(1_001, 7, EventKind::Returned, Class::Soft),
            back(1_002, 8, EventKind::Complained, Class::Undetermined),
            back(1_003, 8, EventKind::Complained, Class::Undetermined),
        ];
        archive.take_in("queue", 1_003, comes).await.unwrap();
        count(archive).await;
        archive.take_in("queue", 1_004, vec![back(1_004, 7, EventKind::Returned, Class::Hard)]).await.unwrap();
        count(archive).await;
        let hours = async |from: Timestamp, grain: Grain| {
            let asked = Question {
                from: Some(from),
                until: Some(from + Duration::from_secs(3_600)),
                grain: Some(grain),
                by: vec![Dimension::Ip, Dimension::Provider],
                ..Question::default()
            };
            let figures = bench.office.statistics(&bench.by, asked).await.unwrap().figures;
            let sum = |name: &str| figures.iter().map(|figures| figures.counts[name]).sum::<i64>();
            (sum("delivered"), sum("hard"), sum("soft"), sum("complained"), figures)
        };
        for grain in [Grain::Minute, Grain::Hour] {
            let (delivered, hard, soft, complained, _) = hours(at(0), grain).await;
            assert_eq!((delivered, hard, soft, complained), (99, 101, 0, 0));
        }
        let (delivered, hard, soft, complained, figures) = hours(at(3 * 86_400), Grain::Hour).await;
        assert_eq!((delivered, hard, soft, complained), (0, 0, 0, 1));
        // It is the delivery's IP and provider that it counts for.
        let of = [(Dimension::Ip, "192.0.2.2".to_owned()), (Dimension::Provider, "gmail".to_owned())];
        assert_eq!(figures[0].of, of);
        let story = archive.story(MessageId(8)).await.unwrap();
        assert_eq!(story.last().unwrap().about, story[0].about);
        assert_eq!(story.last().unwrap().address.as_deref(), Some("R7@B.test"));
    });
}
