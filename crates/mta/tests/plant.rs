//! Does the data plane tell senders what it owes them, and does it end when it is told to?
#![allow(clippy::unwrap_used)] // A test may stop at the first surprise.

use bytes::Bytes;
use engine::NotifyKind;
use engine::envelope::{Envelope, MessageState, RecipientState};
use engine::id::{AccountId, MessageId, PoolId};
use engine::snapshot::{Account, DomainPattern, Ip, IpState, NotifyDefault, Plan, Pool, PoolKind, Senders, Snapshot};
use mail::address::{Domain, Mailbox};
use mail::smtp::command::RecipientParameters;
use mta::deliver::{Means, Patience};
use mta::intake::{Asked, Limits, Offer, Right, Via, Visitor};
use mta::record::{self, Notice, Standing};
use mta::{Plant, Settings};
use net::clock::Clock;
use net::dns::{FixedAnswers, FixedDns, FixedRule, Network};
use net::tls::{Connector, Roots};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A folder of its own, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("weir-plant-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One account without a default pool. It may write to null.test, which takes no mail, and silent.test, whose host never speaks.
fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::empty();
    let account = Account {
        plan: Plan::Enterprise,
        senders: Senders::Any,
        recipients: ["null.test", "silent.test"]
            .map(|name| DomainPattern::Exactly(Domain::parse(name).unwrap()))
            .into(),
        ..Account::default()
    };
    Arc::make_mut(&mut snapshot.accounts).insert(AccountId::new("ann"), Arc::new(account));
    let pool = Pool {
        kind: PoolKind::Standard,
        name: "own".into(),
        region: snapshot.region.clone(),
        account: Some(AccountId::new("ann")),
        ips: vec![IP],
        overflow: None,
    };
    Arc::make_mut(&mut snapshot.pools).insert(PoolId::new("own"), Arc::new(pool));
    let ip = Ip { bind: IP, ehlo: "mx.weir.test".into(), state: IpState::Active, hop: None };
    Arc::make_mut(&mut snapshot.ips).insert(IP, ip);
    snapshot.delivery.notify = NotifyDefault::Failure;
    snapshot
}

/// With room for one message in the queue. Hosts are met on `port`.
fn start(data: &Path, port: u16) -> Plant {
    let clock = Clock::system();
    let rule = |domain: &str, mx: &[(u16, String)], addresses: &[IpAddr]| FixedRule {
        pattern: domain.into(),
        mx: mx.to_vec(),
        addresses: addresses.to_vec(),
        txt: Vec::new(),
        no_such: false,
    };
    let rules = vec![rule("null.test", &[(0, String::new())], &[]), rule("silent.test", &[], &[IP])];
    let dns = Arc::new(FixedDns::new(FixedAnswers { rules }, None));
    let limits =
        Limits { recipients_max: 100, message_bytes_max: 1 << 20, queue_messages_max: 1, receiving_bytes_max: 1 << 20 };
    let settings = Settings {
        host: Domain::parse("weir.test").unwrap(),
        data: data.to_owned(),
        spool: spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() },
        limits,
        engine: engine::Limits::default(),
        snapshot: Arc::new(snapshot()),
        allow_private: Network::ALL.into(),
        seed: 1,
    };
    let means = move |spool| Means {
        clock,
        spool,
        dns,
        connector: Connector::new(Roots::system()).unwrap(),
        sts: None,
        dane: false,
        port,
        chunking: false,
        patience: Patience::default(),
    };
    Plant::start(settings, means).unwrap()
}

/// Waits until all that is queued is one message to a.test: the notice.
async fn only_the_notice_is_left(plant: &Plant, about: MessageId) {
    let told = async {
        loop {
            let shown = plant.driver.ask(|engine, _| engine.list(&engine::Filter::default(), 10, None)).await.unwrap();
            let notice = shown.iter().all(|shown| shown.message != about)
                && shown.iter().any(|shown| shown.recipients.iter().any(|one| one.domain.as_str() == "a.test"));
            if notice && plant.spool.queued() == 1 {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), told).await.expect("the sender is told");
}

async fn sent(plant: &Plant, to: &str) -> Arc<Envelope> {
    let visitor = Visitor { via: Via::Http, peer: Some(IP), right: Right::Account(AccountId::new("ann")) };
    let offer = Offer {
        message: None,
        from: Some(Mailbox::parse("ann@a.test").unwrap()),
        recipients: vec![(Mailbox::parse(to).unwrap(), RecipientParameters::default())],
        octets: b"From: ann@a.test\r\nSubject: x\r\n\r\nHi\r\n".to_vec(),
        protocol: "HTTP",
        asked: Asked { pool: Some("own".into()), ..Asked::default() },
        stream: None,
        send_at: None,
        tags: Vec::new(),
        tls: None,
        envid: None,
        ret: None,
        smtputf8: false,
        once: None,
    };
    plant.intake.admit(&visitor, offer).await.unwrap().envelope
}

// The queue is full, the sender is not among the recipients the account may write to, and it has no default pool: the notice
// comes in all the same, and only then does the message leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bounce_is_told_to_the_sender() {
    let folder = Folder::new("bounce");
    let plant = start(&folder.0, 25);
    let envelope = sent(&plant, "bob@null.test").await;
    only_the_notice_is_left(&plant, envelope.message).await;
    plant.stop(Duration::from_secs(10)).await;
}

// R1.2 for notices: the crash came after the bounce was written and before its notice was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_notice_that_was_owed_at_a_crash_is_written_at_the_next_start() {
    let folder = Folder::new("crash");
    let (first, second) = (folder.0.join("first"), folder.0.join("second"));
    let plant = start(&first, 25);
    let envelope = sent(&plant, "bob@null.test").await;
    plant.stop(Duration::from_secs(10)).await;

    let options = spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() };
    let (spool, _) = spool::open(&second, options).unwrap();
    let key = envelope.message.0;
    let head = record::write_envelope(&envelope);
    spool.put(key, head, Bytes::from_static(b"Subject: x\r\n\r\nHi\r\n"), Vec::new()).await.unwrap();
    let state =
        MessageState { recipients: vec![RecipientState::Bounced], route: None, moved: None, delay_notified: false };
    let notice = Notice { kind: NotifyKind::Failed, recipients: vec![0], events: Vec::new() };
    let standing = Standing { state, owed: [Arc::new(notice)].into() };
    spool.update(key, record::write_standing(&standing), Vec::new());
    spool.close();

    let plant = start(&second, 25);
    only_the_notice_is_left(&plant, envelope.message).await;
    plant.stop(Duration::from_secs(10)).await;
}

// Nothing is owed, all is over, and the crash came before the message left: it goes without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_finished_leaves_at_the_next_start() {
    let folder = Folder::new("finished");
    let (first, second) = (folder.0.join("first"), folder.0.join("second"));
    let plant = start(&first, 25);
    let envelope = sent(&plant, "bob@null.test").await;
    plant.stop(Duration::from_secs(10)).await;

    let options = spool::Options { free_min_bytes: 1 << 20, ..spool::Options::default() };
    let (spool, _) = spool::open(&second, options).unwrap();
    let (key, head) = (envelope.message.0, record::write_envelope(&envelope));
    spool.put(key, head, Bytes::from_static(b"Subject: x\r\n\r\nHi\r\n"), Vec::new()).await.unwrap();
    let state =
        MessageState { recipients: vec![RecipientState::Bounced], route: None, moved: None, delay_notified: false };
    spool.update(key, record::write_standing(&Standing { state, owed: [].into() }), Vec::new());
    spool.close();

    let plant = start(&second, 25);
    let gone = async {
        while !plant.recovered() || plant.spool.queued() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it leaves");
    plant.stop(Duration::from_secs(10)).await;
}

// A host that takes the connection and never greets would be waited for a minute; a stop gives it up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_does_not_wait_for_a_connection_that_is_being_made() {
    let folder = Folder::new("stop");
    let silent = tokio::net::TcpListener::bind((IP, 0)).await.unwrap();
    let plant = start(&folder.0, silent.local_addr().unwrap().port());
    sent(&plant, "bob@silent.test").await;
    let _connection = silent.accept().await.unwrap();

    let began = std::time::Instant::now();
    plant.stop(Duration::from_secs(40)).await;
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
