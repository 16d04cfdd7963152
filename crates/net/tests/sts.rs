//! Which MTA-STS policy holds, asked of a real web server on loopback.

#![allow(clippy::unwrap_used)] // a failed set-up is a failed test

mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mail::address::Domain;
use mail::mta_sts::Mode;
use net::clock::Clock;
use net::dns::authority::{Authority as NameServer, Zone};
use net::dns::{Resolver, ResolverSettings, Servers};
use net::sts::{Sts, StsAnswer, StsFault, StsSettings};
use net::tls::{Acceptor, Connector, Roots};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use support::{Authority, Files};

const WITHIN: Duration = Duration::from_secs(20);
const HOST: &str = "mta-sts.a.test";
const POLICY: &str = "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 86400\n";

/// Says the same to everybody; or takes the question and says nothing.
struct WebServer {
    address: SocketAddr,
    says: Arc<Mutex<Option<Vec<u8>>>>,
    visits: Arc<AtomicUsize>,
    questions: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl WebServer {
    async fn start(acceptor: Acceptor, says: Option<Vec<u8>>) -> WebServer {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says));
        let visits = Arc::new(AtomicUsize::new(0));
        let questions = Arc::new(Mutex::new(Vec::new()));
        let mut task = JoinSet::new();
        let (answer, count, heard) = (says.clone(), visits.clone(), questions.clone());
        task.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let Ok(mut stream) = acceptor.accept(stream, WITHIN).await else {
                    continue;
                };
                let mut question = vec![0; 4_096];
                let length = stream.read(&mut question).await.unwrap_or(0);
                heard.lock().unwrap().push(String::from_utf8_lossy(&question[..length]).into_owned());
                let answer = answer.lock().unwrap().clone();
                match answer {
                    Some(octets) => {
                        // Whoever has heard enough hangs up.
                        let _ = stream.write_all(&octets).await;
                        let _ = stream.shutdown().await;
                    }
                    None => _ = stream.read(&mut question).await,
                }
            }
        });
        WebServer { address, says, visits, questions, _task: task }
    }

    fn say(&self, octets: Vec<u8>) {
        *self.says.lock().unwrap() = Some(octets);
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::SeqCst)
    }
}

fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nLocation: https://{HOST}/elsewhere\r\n\r\n{body}").into_bytes()
}

fn policy(body: &str) -> Option<Vec<u8>> {
    Some(response("200 OK", "text/plain; charset=utf-8", body))
}

fn zone(id: &str) -> Zone {
    // Asked for each time: a record without a time to live.
    Zone::parse(&format!("_mta-sts.a.test 0 TXT \"v=STSv1; id={id};\"\n{HOST} 0 A 127.0.0.1\nb.test A 127.0.0.1"))
        .unwrap()
}

struct World {
    web: WebServer,
    dns: NameServer,
    sts: Sts,
}

impl World {
    async fn new(says: Option<Vec<u8>>) -> World {
        World::with(says, HOST, |_| {}).await
    }

    async fn with(says: Option<Vec<u8>>, certified: &str, change: impl FnOnce(&mut StsSettings)) -> World {
        let authority = Authority::new("Our root");
        // Tests run at once, so each has files of its own.
        static LABEL: AtomicUsize = AtomicUsize::new(0);
        let label = format!("web-{}", LABEL.fetch_add(1, Ordering::SeqCst));
        let acceptor = Files::new(&label, &authority.issue(&[certified])).acceptor();
        let web = WebServer::start(acceptor, says).await;
        let dns = NameServer::start(([127, 0, 0, 1], 0).into(), zone("1")).await.unwrap();
        let clock = Clock::system();
        let settings = ResolverSettings { servers: Servers::These(vec![dns.address()]), ..ResolverSettings::default() };
        let resolver = Resolver::new(&settings, clock.clone()).unwrap();
        let connector = Connector::new(Roots::none().and_pem(authority.pem().as_bytes()).unwrap());
        let mut settings = StsSettings {
            port: web.address.port(),
            allow_private: vec!["127.0.0.0/8".parse().unwrap()],
            ..StsSettings::default()
        };
        change(&mut settings);
        let sts = Sts::new(Arc::new(resolver), connector.unwrap(), clock, settings);
        World { web, dns, sts }
    }

    async fn policy(&self) -> StsAnswer {
        self.sts.policy(&Domain::parse("a.test").unwrap()).await
    }
}

fn hosts(answer: &StsAnswer) -> Vec<String> {
    answer.enforced().map(|policy| policy.mx().to_vec()).unwrap_or_default()
}

// R5.1
#[tokio::test]
async fn a_policy_is_fetched_once_and_again_when_its_id_changes() {
    let world = World::new(policy(POLICY)).await;
    for _ in 0..3 {
        let answer = world.policy().await;
        assert_eq!(answer.fault, None);
        assert_eq!(hosts(&answer), ["mx.a.test"]);
    }
    assert_eq!(world.web.visits(), 1);
    let asked = world.web.questions.lock().unwrap().remove(0).to_ascii_lowercase();
    assert!(asked.starts_with("get /.well-known/mta-sts.txt http/1.1\r\n"), "{asked}");
    assert!(asked.contains(&format!("host: {HOST}\r\n")), "{asked}");

    world.dns.replace(zone("2"));
    world.web.say(policy(&POLICY.replace("mx.a.test", "new.a.test")).unwrap());
    assert_eq!(hosts(&world.policy().await), ["new.a.test"]);
    assert_eq!(world.web.visits(), 2);

    // RFC 8461 5.1: a record that goes away takes no policy with it.
    world.dns.replace(Zone::default());
    assert_eq!(hosts(&world.policy().await), ["new.a.test"]);
    assert_eq!(world.web.visits(), 2);
}

#[tokio::test]
async fn a_domain_without_a_record_is_not_asked() {
    let world = World::new(policy(POLICY)).await;
    let answer = world.sts.policy(&Domain::parse("b.test").unwrap()).await;
    assert_eq!(answer, StsAnswer::default());
    assert_eq!(world.web.visits(), 0);
}

#[tokio::test]
async fn a_policy_in_testing_is_known_and_not_enforced() {
    let world = World::new(policy(&POLICY.replace("enforce", "testing"))).await;
    let answer = world.policy().await;
    assert_eq!(answer.enforced(), None);
    assert_eq!(answer.policy.map(|policy| policy.mode()), Some(Mode::Testing));
}

/// What is not a policy is told, holds nothing, and is not fetched again at once.
async fn check_fault(world: World, expected: StsFault) {
    for _ in 0..2 {
        let answer = world.policy().await;
        assert_eq!(answer.policy, None);
        assert_eq!(answer.fault, Some(expected.clone()));
    }
    assert_eq!(world.web.visits(), 1);
}

fn host() -> String {
    HOST.to_owned()
}

// R5.1: RFC 8461 3.3
#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 307, 404] {
        let says = response(&format!("{status} There"), "text/plain", POLICY);
        check_fault(World::new(Some(says)).await, StsFault::Status { host: host(), status }).await;
    }
}

#[tokio::test]
async fn a_policy_of_any_length_costs_no_more_than_the_limit() {
    let long = format!("{POLICY}{}", "x: y\n".repeat(20_000));
    let expected = || StsFault::TooLarge { host: host() };
    check_fault(World::new(policy(&long)).await, expected()).await;
    // And when the length is not announced.
    let endless = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n{long}");
    check_fault(World::new(Some(endless.into_bytes())).await, expected()).await;
}

#[tokio::test]
async fn what_is_not_a_policy_is_not_taken_for_one() {
    let html = response("200 OK", "text/html", POLICY);
    check_fault(World::new(Some(html)).await, StsFault::NotText { host: host() }).await;
    let error = mail::mta_sts::PolicyError::Version;
    check_fault(World::new(policy("hello: world\n")).await, StsFault::Policy { host: host(), error }).await;
    let world = World::new(Some(b"SSH-2.0-web\r\n".to_vec())).await;
    assert!(matches!(world.policy().await.fault, Some(StsFault::Http { .. })));
}

// R5.1
#[tokio::test]
async fn the_policy_host_must_prove_its_name() {
    let world = World::with(policy(POLICY), "a.test", |_| {}).await;
    let answer = world.policy().await;
    assert_eq!(answer.policy, None);
    let Some(StsFault::Connect { detail, .. }) = answer.fault else {
        panic!("{answer:?}");
    };
    assert!(detail.contains("not for mta-sts.a.test"), "{detail}");
    assert!(world.web.questions.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_server_that_says_nothing_costs_no_more_than_the_limit() {
    let within = Duration::from_millis(300);
    let world = World::with(None, HOST, |settings| settings.timeout = within).await;
    check_fault(world, StsFault::TimedOut { host: host(), within }).await;
}

// C4
#[tokio::test]
async fn a_policy_host_in_our_own_network_is_not_visited() {
    let world = World::with(policy(POLICY), HOST, |settings| {
        settings.allow_private.clear();
    })
    .await;
    let answer = world.policy().await;
    let address = [127, 0, 0, 1].into();
    let expected = StsFault::NotPublic { host: host(), address, kind: "loopback" };
    assert_eq!(answer.fault, Some(expected));
    assert_eq!(world.web.visits(), 0);
}

#[tokio::test]
async fn a_policy_outlives_a_failure_to_fetch_the_next() {
    let world = World::new(policy(POLICY)).await;
    assert_eq!(hosts(&world.policy().await), ["mx.a.test"]);
    world.dns.replace(zone("2"));
    world.web.say(response("500 Oh", "text/plain", ""));
    let answer = world.policy().await;
    assert_eq!(hosts(&answer), ["mx.a.test"]);
    assert_eq!(answer.fault, Some(StsFault::Status { host: host(), status: 500 }));
}

#[tokio::test]
async fn a_trial_may_say_where_all_policy_hosts_are() {
    let world = World::with(policy(POLICY), HOST, |settings| {
        settings.allow_private.clear();
        settings.address = Some([127, 0, 0, 1].into());
    })
    .await;
    assert_eq!(hosts(&world.policy().await), ["mx.a.test"]);
}
