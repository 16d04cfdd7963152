//! Who is reviewed and paused by what became of their mail, and which IPs leave the rotation because a list has them? (R6.3, R6.6)
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

mod support;

use control::account::{AccountChange, Standing};
use control::incident::{Incident, IncidentKind, Weight};
use control::inventory::{IpOrder, NewIps};
use control::lease::Into;
use control::reputation::{Rated, Wanted};
use control::setting::Setting;
use control::signal::SignalKind;
use control::statistics::Dimension;
use control::warm_up::ordered_text;
use control::{Kind, Window};
use engine::event::{Event, EventKind};
use engine::reputation::Level;
use engine::snapshot::Plan;
use engine::tier::Tier;
use engine::why::Why;
use net::dns::authority::Authority;
use net::dns::blocklist::{self, BlockList};
use std::sync::Arc;
use std::time::Duration;
use support::live_dns::{LiveDns, Published};
use support::sent::{OUT, Sent, send};
use support::{Bench, on_both, on_both_with};

async fn incidents(bench: &Bench, only_open: bool) -> Vec<Incident> {
    bench.office.incidents(&bench.by, None, only_open, &Window::default()).await.unwrap().items
}

async fn rated(bench: &Bench, by: Dimension) -> Vec<Rated> {
    let wanted = Wanted { by, account: None, of: None };
    bench.office.reputations(&bench.by, wanted, &Window::default()).await.unwrap().items
}

const GOOD: Sent = Sent { delivered: 1_190, hard: 10, complained: 0 };
const DOUBTFUL: Sent = Sent { delivered: 1_110, hard: 90, complained: 0 };
const BAD: Sent = Sent { delivered: 1_000, hard: 200, complained: 0 };

// R6.3: a review warns, a pause stops sending, and both say what to do.
#[test]
fn spec_r6_3_bad_figures_warn_and_then_stop_with_what_to_do() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let standing = async || bench.office.account(&bench.by, &acme).await.unwrap();
        send(bench, &acme, "google", GOOD).await;
        bench.office.judge_accounts().await.unwrap();
        assert!(incidents(bench, false).await.is_empty());

        bench.days(1);
        send(bench, &acme, "google", DOUBTFUL).await;
        send(bench, &acme, "google", DOUBTFUL).await;
        bench.office.judge_accounts().await.unwrap();
        let open = incidents(bench, true).await;
        assert_eq!((open.len(), open[0].kind, open[0].weight), (1, IncidentKind::Bounces, Weight::Review), "{open:?}");
        assert!(open[0].words.contains("under review") && open[0].words.contains("the limit is 5 %"), "{open:?}");
        assert!(open[0].mend.contains("Stop writing to addresses that do not exist"));
        assert_eq!(standing().await.standing, Standing::Production);

        bench.days(1);
        for _ in 0..3 {
            send(bench, &acme, "google", BAD).await;
        }
        bench.office.judge_accounts().await.unwrap();
        let paused = standing().await;
        assert_eq!(paused.standing, Standing::Paused);
        let reason = paused.standing_reason.unwrap();
        assert!(reason.contains("the limit is 10 %") && reason.contains("ask the operator"), "{reason}");
        assert_eq!(incidents(bench, true).await[0].weight, Weight::Stopped);
        // It knows its own, and nobody else's.
        let seen = bench.office.incidents(&bench.key_of(&acme), None, true, &Window::default()).await.unwrap();
        assert_eq!(seen.items.len(), 1);
        let other = bench.account("other", Plan::Standard).await;
        let none = bench.office.incidents(&bench.key_of(&other), None, true, &Window::default()).await.unwrap();
        assert!(none.items.is_empty());
        let unknown = bench.office.incident(&bench.key_of(&other), &seen.items[0].id).await.unwrap_err();
        assert_eq!(unknown.kind, Kind::NotFound);
        let audit = bench.office.audit(&bench.by, Some(&acme), None, &Window::default()).await.unwrap();
        assert!(audit.items.iter().any(|line| line.action == "paused-by-its-figures"));
        // Looked at again while it sends nothing, it is paused as before.
        bench.days(20);
        bench.office.judge_accounts().await.unwrap();
        assert_eq!(incidents(bench, true).await[0].weight, Weight::Stopped);

        // Let go on, it is not stopped again for what was; it is for what comes.
        let on = AccountChange { standing: Some((Standing::Production, None)), ..AccountChange::default() };
        bench.office.change_account(&bench.by, &acme, on).await.unwrap();
        bench.pass(Duration::from_secs(3_600));
        send(bench, &acme, "google", GOOD).await;
        bench.office.judge_accounts().await.unwrap();
        assert_eq!(standing().await.standing, Standing::Production);
        let open = incidents(bench, true).await;
        assert_eq!((open.len(), open[0].weight), (1, Weight::Review), "it is still under review, and sends");
        bench.pass(Duration::from_secs(7_200));
        send(bench, &acme, "google", BAD).await;
        send(bench, &acme, "google", BAD).await;
        bench.office.judge_accounts().await.unwrap();
        assert_eq!(standing().await.standing, Standing::Paused);
    });
}

// R6.3: a review ends when the figures are good again; an operator may choose to be told only.
#[test]
fn spec_r6_3_a_review_ends_when_the_figures_are_good_again() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        bench.office.set_setting(&bench.by, Setting::FiguresPause, 0).await.unwrap();
        // 12 of 1,200 to who tells of complaints; google never does.
        let complained = Sent { delivered: 1_200, hard: 0, complained: 12 };
        send(bench, &acme, "yahoo", complained).await;
        send(bench, &acme, "google", Sent { delivered: 1_200, ..Sent::default() }).await;
        bench.office.judge_accounts().await.unwrap();
        let open = incidents(bench, true).await;
        assert_eq!((open[0].kind, open[0].weight), (IncidentKind::Complaints, Weight::Review));
        assert!(open[0].words.contains("12 of 1200"), "{}", open[0].words);
        let accounts = rated(bench, Dimension::Account).await;
        assert_eq!((accounts[0].of.as_str(), accounts[0].whole.level()), (acme.as_str(), Level::Pause));
        assert_eq!(accounts[0].incidents.len(), 1);
        let yahoo = &accounts[0].by_provider[1];
        assert_eq!((&*yahoo.0, yahoo.1.score.as_ref().unwrap().value), ("yahoo", 0));
        for (by, of) in [(Dimension::Domain, "acme.example"), (Dimension::Ip, "192.0.2.1"), (Dimension::Pool, "pool_s")]
        {
            let found = rated(bench, by).await;
            assert_eq!((found.len(), found[0].of.as_str(), found[0].whole.sent), (1, of, 2_400));
        }
        for _ in 0..27 {
            bench.days(1);
            send(bench, &acme, "yahoo", Sent { delivered: 1_200, ..Sent::default() }).await;
        }
        bench.office.judge_accounts().await.unwrap();
        let all = incidents(bench, false).await;
        assert_eq!(all[0].closed_because.as_deref(), Some("its figures are good again"), "{all:?}");
        assert!(incidents(bench, true).await.is_empty());
    });
}

// R6.4: who goes bad shares IPs with others that do, at once; who does well comes back, after days; the operator may decide
// otherwise, and each side sees why.
#[test]
fn spec_r6_4_senders_share_ips_with_their_like() {
    on_both(async |bench| {
        bench.region().await;
        bench.office.set_setting(&bench.by, Setting::FiguresPause, 0).await.unwrap();
        let acme = bench.account("acme", Plan::Standard).await;
        let own = bench.key_of(&acme);
        let tier = async || bench.office.tier(&own, &acme).await.unwrap();
        let day = async |sent: Sent| {
            bench.days(1);
            send(bench, &acme, "google", sent).await;
            bench.office.judge_accounts().await.unwrap();
            bench.office.judge_accounts().await.unwrap();
        };
        assert_eq!((tier().await.tier, tier().await.would), (Tier::Probation, Tier::Probation));
        for _ in 0..15 {
            day(Sent { delivered: 1_000, hard: 2, complained: 0 }).await;
        }
        let known = tier().await;
        assert_eq!(known.tier, Tier::Standard, "{}", known.words);
        assert!(known.moves[0].words.contains("it is known by now"), "{:?}", known.moves);
        day(BAD).await;
        day(BAD).await;
        let bad = tier().await;
        assert_eq!(bad.tier, Tier::Penalty);
        assert!(bad.moves[0].words.contains("after 7 good days in a row it comes back"), "{:?}", bad.moves);
        let mut days = 0;
        while tier().await.tier == Tier::Penalty {
            day(Sent { delivered: 1_000, hard: 1, complained: 0 }).await;
            days += 1;
            assert!(days < 40);
        }
        assert!(days >= 7 && tier().await.tier == Tier::Standard, "{days}");

        let refused = bench.office.set_tier(&own, &acme, None).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        let set =
            bench.office.set_tier(&bench.by, &acme, Some((Tier::Trusted, "known for years".into()))).await.unwrap();
        assert_eq!((set.tier, set.reason.as_deref()), (Tier::Trusted, Some("known for years")));
        day(BAD).await;
        day(BAD).await;
        assert_eq!(tier().await.tier, Tier::Trusted, "the operator's word stands");
        // What the next round does is seen before it is done.
        let preview = bench.office.tiers(&bench.by, &Window::default()).await.unwrap().items;
        assert_eq!((preview[0].tier, preview[0].would), (Tier::Trusted, Tier::Penalty));
        bench.office.set_tier(&bench.by, &acme, None).await.unwrap();
        bench.office.judge_accounts().await.unwrap();
        assert_eq!(tier().await.tier, Tier::Penalty);

        // One pool for a tier in a region.
        let create =
            async |name: &str| bench.office.create_shared_pool(&bench.by, "local", name, Some(Tier::Penalty)).await;
        create("low").await.unwrap();
        assert_eq!(create("lower").await.unwrap_err().code, "tier_taken");
    });
}

// R6.4: a provider that stops taking mail from a shared IP moves whoever's mail that was, and nobody else.
#[test]
fn who_brought_a_shared_ip_into_trouble_leaves_it() {
    on_both(async |bench| {
        bench.region().await;
        let (good, bad) = (bench.account("good", Plan::Standard).await, bench.account("bad", Plan::Standard).await);
        let new = NewIps { addresses: vec![OUT.to_string()], ..NewIps::default() };
        bench.office.add_ips(&bench.by, new).await.unwrap();
        let pool = bench.office.create_shared_pool(&bench.by, "local", "all", None).await.unwrap();
        bench.office.order_ip(&bench.by, OUT, &IpOrder::Share { pool: pool.id }).await.unwrap();
        send(bench, &good, "google", Sent { delivered: 500, hard: 1, complained: 0 }).await;
        send(bench, &bad, "google", Sent { delivered: 200, hard: 40, complained: 0 }).await;
        let suspended = |provider: &str| Event {
            ip: Some(OUT),
            provider: Some(provider.into()),
            why: Some(Why::LaneSuspended { said: "550 5.7.1 rate".into() }),
            ..Event::new(bench.office.now(), EventKind::LaneSuspended)
        };
        let tier = async |account: &str| bench.office.tier(&bench.by, account).await.unwrap();
        bench.office.take_in("queue", 1, &[suspended("yahoo")], &[]).await.unwrap();
        assert_eq!(tier(&bad).await.tier, Tier::Probation, "nothing was sent there");
        bench.office.take_in("queue", 2, &[suspended("google")], &[]).await.unwrap();
        assert_eq!([tier(&good).await.tier, tier(&bad).await.tier], [Tier::Probation, Tier::Penalty]);
        let why = &tier(&bad).await.moves[0].words;
        assert!(why.contains("40 of 240 messages bounced") && !why.contains("192.0.2"), "{why}");
    });
}

/// A provider that takes nothing from an IP, and does again.
#[test]
fn a_suspended_lane_is_an_incident_until_it_sends_again() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let ips = bench.ips(2).await;
        bench.grant(&acme, &ips[..1], Into::Default).await;
        let lane = |kind, why: Option<Why>| Event {
            ip: Some(ips[0]),
            provider: Some("microsoft-consumer".into()),
            why,
            next_at: Some(bench.office.now() + Duration::from_secs(14_400)),
            ..Event::new(bench.office.now(), kind)
        };
        let said = Why::LaneSuspended { said: "550 5.7.1 S3150".into() };
        bench.office.take_in("queue", 1, &[lane(EventKind::LaneSuspended, Some(said.clone()))], &[]).await.unwrap();
        let own = bench.key_of(&acme);
        let seen = bench.office.incidents(&own, None, true, &Window::default()).await.unwrap().items;
        assert_eq!((seen[0].kind, seen[0].weight), (IncidentKind::Suspended, Weight::Stopped));
        assert_eq!(seen[0].link.as_deref(), Some("https://olcsupport.office.com/"));
        assert!(seen[0].words.contains("550 5.7.1 S3150") && seen[0].mend.contains("ask for help at"), "{seen:?}");
        bench
            .office
            .take_in("queue", 2, &[lane(EventKind::LaneResumed, Some(Why::SuspensionOver))], &[])
            .await
            .unwrap();
        assert!(incidents(bench, true).await.is_empty());
        // One whose end nobody tells of is over at its time; one may be closed by hand.
        bench.office.take_in("queue", 3, &[lane(EventKind::LaneSuspended, Some(said.clone()))], &[]).await.unwrap();
        bench.pass(Duration::from_secs(20_000));
        assert_eq!(bench.office.end_incidents().await.unwrap(), 1);
        bench.office.take_in("queue", 4, &[lane(EventKind::LaneSuspended, Some(said))], &[]).await.unwrap();
        let id = incidents(bench, true).await[0].id.clone();
        assert_eq!(bench.office.close_incident(&own, &id).await.unwrap_err().kind, Kind::Forbidden);
        let closed = bench.office.close_incident(&bench.by, &id).await.unwrap();
        assert_eq!(closed.closed_because.as_deref(), Some("the operator closed it"));
    });
}

fn lists() -> Vec<BlockList> {
    let mut shipped = blocklist::parse(blocklist::SHIPPED).unwrap();
    shipped.truncate(2);
    for (list, zone) in shipped.iter_mut().zip(["zen.example", "cop.example"]) {
        list.zone = zone.to_owned();
    }
    shipped
}

fn publish(server: &Authority, listed: &[&str]) {
    let sound = ["2.0.0.127.zen.example A 127.0.0.2", "2.0.0.127.cop.example A 127.0.0.2"];
    let published = sound.iter().chain(listed).fold(Published::default(), |published, line| published.with(line));
    published.at(server);
}

// R6.6: a listing takes the IP out of rotation and tells the operator; what lets go of it brings it back, by a short warm-up.
#[test]
fn spec_r6_6_a_listed_ip_leaves_the_rotation_and_comes_back_slowly() {
    let dns = Arc::new(LiveDns::default());
    on_both_with(dns.clone(), async |bench| {
        let server = dns.serve().await;
        publish(&server, &[]);
        let office = bench.with_lists(dns.clone(), lists()).await;
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let ips = bench.ips(2).await;
        bench.grant(&acme, &ips, Into::Default).await;
        let reason = async |at: usize| office.ip(&bench.by, ips[at]).await.unwrap().rotation_reason;
        let half_an_hour = Duration::from_secs(1_801);
        bench.pass(half_an_hour);
        assert_eq!(office.watch_lists(10).await.unwrap(), 2);
        assert_eq!(office.watch_lists(10).await.unwrap(), 0, "each some times an hour");

        let listed =
            ["1.2.0.192.zen.example A 127.0.0.3", "1.2.0.192.zen.example TXT \"See https://zen.example/192.0.2.1.\""];
        publish(&server, &listed);
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        assert_eq!(reason(0).await, None, "once may be a slip");
        bench.pass(Duration::from_secs(301));
        assert_eq!(office.watch_lists(10).await.unwrap(), 1, "it is looked at again soon, and it alone");
        let why = reason(0).await.unwrap();
        assert!(why.contains("is on the block list Spamhaus ZEN (CSS: low reputation"), "{why}");
        assert_eq!(reason(1).await, None);
        let open = incidents(bench, true).await;
        assert_eq!((open.len(), open[0].kind, open[0].weight), (1, IncidentKind::Listed, Weight::Stopped));
        assert_eq!(open[0].link.as_deref(), Some("https://zen.example/192.0.2.1"));
        assert_eq!(open[0].account.as_deref(), Some(acme.as_str()));

        // Its list does not answer: it has not let go of it.
        Published::default().with("2.0.0.127.cop.example A 127.0.0.2").failing("1.2.0.192.zen.example").at(&server);
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        assert!(reason(0).await.is_some());
        publish(&server, &[]);
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        assert_eq!(reason(0).await, None);
        let back = office.ip(&bench.by, ips[0]).await.unwrap();
        assert_eq!(back.warm_up.map(|warm_up| ordered_text(warm_up.ordered)).as_deref(), Some("percent 25"));
        assert_eq!(incidents(bench, false).await[0].closed_because.as_deref(), Some("no list has it any more"));

        // A list that few heed: it goes on sending, and what it may send does not grow.
        publish(&server, &["2.2.0.192.cop.example A 127.0.0.2"]);
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        assert_eq!((reason(1).await, incidents(bench, true).await[0].weight), (None, Weight::Review));
        let held = office.ip(&bench.by, ips[1]).await.unwrap().warm_up.unwrap();
        assert_eq!(ordered_text(held.ordered), "pause");
        publish(&server, &[]);
        bench.pass(half_an_hour);
        office.watch_lists(10).await.unwrap();
        let held = office.ip(&bench.by, ips[1]).await.unwrap().warm_up.unwrap();
        assert_eq!(ordered_text(held.ordered), "resume");
    });
}

fn feed(verdict: &str, day: &str, traps: u32) -> String {
    format!("192.0.2.1,{day} 12:00 AM,{day} 11:00 PM,9000,9000,8000,{verdict},0.3%,,,{traps},,,\r\n")
}

// What providers say counts: traps in the score, a bad word as an incident until a later day is better.
#[test]
fn what_providers_say_of_ips_and_domains_is_kept_and_counts() {
    on_both(async |bench| {
        bench.region().await;
        let acme = bench.account("acme", Plan::Standard).await;
        let ips = bench.ips(2).await;
        bench.grant(&acme, &ips, Into::Default).await;
        assert_eq!(ips[0], OUT);
        bench.days(10);
        send(bench, &acme, "microsoft-consumer", GOOD).await;
        send(bench, &acme, "google", GOOD).await;
        let import = async |kind, text: &str| bench.office.import_signals(&bench.by, kind, text).await;
        let ip = async || rated(bench, Dimension::Ip).await.remove(0);
        let score = |of: &Rated, at: usize| u32::from(of.by_provider[at].1.score.as_ref().unwrap().value);
        let before = ip().await;

        let broken = feed("GREEN", "11/9/2026", 0) + "192.0.2.2,x";
        let refused = import(SignalKind::Snds, &broken).await.unwrap_err();
        assert!(refused.sentence.contains("line 2") && refused.sentence.contains("Nothing of the file"), "{refused}");
        let all = async || bench.office.signals(&bench.by, None, &Window::default()).await.unwrap().items;
        assert!(all().await.is_empty(), "a file is taken whole or not at all");

        let imported = import(SignalKind::Snds, &feed("RED", "11/9/2026", 4)).await.unwrap();
        assert_eq!((imported.put, imported.opened.len()), (1, 1), "{imported:?}");
        let after = ip().await;
        assert_eq!(after.signals[0].words(), imported.opened[0]);
        // 4 of 8,000 are half of the limit; google has not said anything.
        assert_eq!(score(&before, 0), score(&after, 0));
        assert!(score(&after, 1) < score(&before, 1) * 6 / 10, "{} {}", score(&after, 1), score(&before, 1));
        let open = incidents(bench, true).await;
        assert_eq!((open[0].kind, open[0].ip, open[0].weight), (IncidentKind::Signal, Some(OUT), Weight::Review));
        assert_eq!((open[0].evidence["traps"].as_i64(), open[0].account.as_deref()), (Some(4), Some(acme.as_str())));
        assert_eq!(import(SignalKind::Snds, &feed("RED", "11/10/2026", 4)).await.unwrap().opened.len(), 0);
        // The same day again is another word for it; an older one changes nothing.
        import(SignalKind::Snds, &feed("GREEN", "11/8/2026", 0)).await.unwrap();
        assert_eq!((all().await.len(), incidents(bench, true).await.len()), (3, 1));
        import(SignalKind::Snds, &feed("YELLOW", "11/10/2026", 0)).await.unwrap();
        assert_eq!(all().await.len(), 3);
        let closed = incidents(bench, false).await;
        let because = "a later day is better: YELLOW for 2026-11-10";
        assert_eq!((closed.len(), closed[0].closed_because.as_deref()), (1, Some(because)));

        // A domain's is for the account that has shown it to be its own.
        let domain = control::domain::NewDomain { name: "acme.example".into(), ..Default::default() };
        bench.office.create_domain(&bench.by, &acme, domain).await.unwrap();
        bench.office.verify_domain_without_dns(&bench.by, &acme, "acme.example").await.unwrap();
        let table = "domain,date,spam rate,domain reputation\nacme.example,2026-11-10,0.35%,BAD\nforeign.example,2026-11-10,,BAD\n";
        assert_eq!(import(SignalKind::Postmaster, table).await.unwrap().opened.len(), 2);
        let own = bench.key_of(&acme);
        let seen = bench.office.incidents(&own, None, true, &Window::default()).await.unwrap().items;
        assert_eq!(
            (seen.len(), seen[0].domain.as_deref(), seen[0].provider.as_deref()),
            (1, Some("acme.example"), Some("google"))
        );
        let domain = &rated(bench, Dimension::Domain).await[0];
        assert_eq!((domain.incidents.len(), domain.signals[0].complaints.unwrap().words().as_str()), (1, "0.35 %"));
        bench.office.judge_accounts().await.unwrap();
        assert_eq!(bench.office.signals(&own, None, &Window::default()).await.unwrap_err().kind, Kind::Forbidden);
        let refused = bench.office.import_signals(&own, SignalKind::Postmaster, table).await.unwrap_err();
        assert_eq!(refused.kind, Kind::Forbidden);
        let one = Window { limit: Some(1), after: None };
        let page = bench.office.signals(&bench.by, Some("192.0.2.1"), &one).await.unwrap();
        let next = Window { after: page.next, ..one };
        let second = bench.office.signals(&bench.by, Some("192.0.2.1"), &next).await.unwrap().items;
        assert_eq!((page.items[0].day - 1, second.len()), (second[0].day, 1));
    });
}
