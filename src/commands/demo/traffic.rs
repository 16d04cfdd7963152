//! Where does the demo's mail come from? Tenants who send all the time, half by SMTP, half by HTTP.

use crate::client::Target;
use crate::commands::Failure;
use crate::commands::demo::tenants::{NEWS_POOL, NEWSLETTERS, Tenant};
use crate::world::{SITES, Wire};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control::account::DEFAULT_POOL;
use engine::time::Timestamp;
use hyper::Method;
use mail::compose::{Compose, NamedMailbox};
use mail::reply::{Reply, ReplyReader};
use mail::smtp::data::Outgoing;
use net::clock::Clock;
use net::tls::{Connector, Policy};
use serde_json::json;
use sim::dice::Dice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Messages a second, all ways together.
const RATE: u64 = 20;
const ANSWER_WAIT: Duration = Duration::from_secs(20);
const PAUSE_AFTER_FAULT: Duration = Duration::from_secs(1);
const NAMES: &[&str] = &[
    "ann", "bo", "carla", "dirk", "eve", "finn", "grace", "hugo", "ines", "jan", "kim", "lena", "milo", "nora", "otto",
];
/// How long after its submission a scheduled message leaves.
const SCHEDULED_AHEAD: Duration = Duration::from_secs(1_200);
const NEWSLETTER: &str = "newsletter";
const SHIPPING: &str = "shipping";
const SIGN_IN: &str = "sign-in";
const OCCASIONS: &[(&str, &str)] = &[
    ("password-reset", "Reset your password"),
    ("receipt", "Your receipt"),
    (SHIPPING, "Your parcel is on its way"),
    (SIGN_IN, "Your sign-in code"),
    (NEWSLETTER, "What is new this week"),
];

/// All those who send; dropping it cuts them off.
pub struct Traffic {
    stop: watch::Sender<bool>,
    senders: JoinSet<()>,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    refused: AtomicU64,
}

impl Traffic {
    pub fn start(
        tenants: &[Tenant],
        smtp: SocketAddr,
        http: SocketAddr,
        connector: &Connector,
        clock: &Clock,
    ) -> Traffic {
        let (stop, stopped) = watch::channel(false);
        let counts = Arc::new(Counts::default());
        let mut senders = JoinSet::new();
        let period = Duration::from_millis(1_000 * 2 * tenants.len() as u64 / RATE);
        for (seed, tenant) in (1..).zip(tenants) {
            let writer =
                |seed| Writer { tenant: tenant.clone(), dice: Dice::new(seed), clock: clock.clone(), written: 0 };
            let by_smtp = BySmtp { address: smtp, connector: connector.clone(), line: None };
            let by_http = Target::new(format!("http://{http}"), tenant.key.clone());
            let way = Way::Smtp(Box::new(by_smtp));
            senders.spawn(keep_sending(way, writer(seed), period, counts.clone(), stopped.clone()));
            let way = Way::Http(by_http);
            senders.spawn(keep_sending(way, writer(seed + 100), period, counts.clone(), stopped.clone()));
        }
        Traffic { stop, senders, counts }
    }

    /// Submissions that did not succeed; nothing of them is in the queue.
    pub fn refused(&self) -> u64 {
        self.counts.refused.load(Ordering::Relaxed)
    }

    /// Lets each finish the message it has in hands.
    pub async fn stop(mut self) {
        // All may have ended already.
        let _ = self.stop.send(true);
        while self.senders.join_next().await.is_some() {}
    }
}

enum Way {
    Smtp(Box<BySmtp>),
    Http(Target),
}

async fn keep_sending(
    mut way: Way,
    mut writer: Writer,
    period: Duration,
    counts: Arc<Counts>,
    mut stop: watch::Receiver<bool>,
) {
    let mut due = interval(period);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = due.tick() => {}
            _ = stop.wait_for(|stop| *stop) => break,
        }
        let letter = writer.write();
        let sent = match &mut way {
            Way::Smtp(way) => way.send(&letter, &writer).await,
            Way::Http(target) => by_http(target, &letter, &writer).await,
        };
        if let Err(Failure(words)) = sent {
            tracing::debug!(account = writer.tenant.planned.account, "not taken: {words}");
            counts.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PAUSE_AFTER_FAULT).await;
        }
    }
    if let Way::Smtp(way) = way {
        way.leave().await;
    }
}

/// What is to be sent, before it takes a form.
struct Letter {
    /// What it says of the way it wants to go; mostly nothing.
    wish: Wish,
    to: Vec<String>,
    kind: &'static str,
    subject: String,
    html: Option<String>,
    text: String,
}

/// What picks the pool, before the account's default pool does (R2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    Nothing,
    /// Its configuration set's pool.
    Set,
    /// A pool that it names itself.
    Pool(&'static str),
    /// A pool that it names, and a time: if that pool is empty by then, it falls back (R2.3).
    Later(&'static str),
}

impl Wish {
    /// Of a tenant with several pools, each kind of mail shows a rule.
    fn of(kind: &str, has_news: bool) -> Wish {
        match kind {
            _ if !has_news => Wish::Nothing,
            NEWSLETTER => Wish::Set,
            SIGN_IN => Wish::Pool(DEFAULT_POOL),
            SHIPPING => Wish::Later(NEWS_POOL),
            _ => Wish::Nothing,
        }
    }
}

struct Writer {
    tenant: Tenant,
    dice: Dice,
    clock: Clock,
    written: u64,
}

impl Writer {
    fn write(&mut self) -> Letter {
        self.written += 1;
        let (kind, occasion) = OCCASIONS[self.dice.below(OCCASIONS.len() as u64) as usize];
        // Most mail goes to one person, and a newsletter that can be ended to nobody else.
        let recipients = if kind != NEWSLETTER && self.dice.below(20) == 0 { 2 + self.dice.below(2) } else { 1 };
        let mut to: Vec<String> = (0..recipients).map(|_| self.recipient()).collect();
        to.sort();
        to.dedup();
        Letter {
            wish: Wish::of(kind, self.tenant.planned.has_news()),
            to,
            kind,
            subject: format!("{occasion} ({})", self.written),
            html: (kind == NEWSLETTER).then(|| self.newsletter()),
            text: format!(
                "Good day,\n\nthis is message {} of the demo.\n\n{}\n",
                self.written, self.tenant.planned.account
            ),
        }
    }

    fn newsletter(&self) -> String {
        format!(
            "<html><body><p>Good day,</p><p>there is <a href=\"https://{}/news/{}\">news</a>.</p></body></html>",
            self.tenant.planned.domain, self.written
        )
    }

    fn recipient(&mut self) -> String {
        let mut draw = self.dice.below(100);
        let site = SITES.iter().find(|site| {
            let here = draw < site.share;
            draw = draw.saturating_sub(site.share);
            here
        });
        let site = site.unwrap_or(&SITES[0]);
        let domain = site.domains[self.dice.below(site.domains.len() as u64) as usize];
        let name = NAMES[self.dice.below(NAMES.len() as u64) as usize];
        // Every list has some who moved away; the providers know nobody whose name begins so.
        let gone = if self.dice.below(100) < 3 { "unknown." } else { "" };
        format!("{gone}{name}{}@{domain}", self.dice.below(100))
    }

    fn sender(&self) -> String {
        format!("hello@{}", self.tenant.planned.domain)
    }
}

async fn by_http(target: &Target, letter: &Letter, writer: &Writer) -> Result<(), Failure> {
    let mut body = json!({
        "from": writer.sender(),
        "to": letter.to,
        "subject": letter.subject,
        "text": letter.text,
        "tags": { "kind": letter.kind },
    });
    if let Some(html) = &letter.html {
        body["html"] = html.as_str().into();
    }
    match letter.wish {
        Wish::Nothing => {}
        Wish::Set => body["configuration_set"] = NEWSLETTERS.into(),
        Wish::Pool(pool) => body["pool"] = pool.into(),
        Wish::Later(pool) => {
            body["pool"] = pool.into();
            body["send_at"] = (Timestamp(writer.clock.now()) + SCHEDULED_AHEAD).to_string().into();
        }
    }
    timeout(ANSWER_WAIT, target.call(Method::POST, "/api/v1/messages", Some(&body))).await??;
    Ok(())
}

/// Sends over one connection as long as it holds, signed in under TLS.
struct BySmtp {
    address: SocketAddr,
    connector: Connector,
    line: Option<SmtpLine>,
}

impl BySmtp {
    async fn send(&mut self, letter: &Letter, writer: &Writer) -> Result<(), Failure> {
        let sent = timeout(ANSWER_WAIT, self.try_send(letter, writer)).await?;
        if sent.is_err() {
            self.line = None;
        }
        sent
    }

    async fn try_send(&mut self, letter: &Letter, writer: &Writer) -> Result<(), Failure> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => SmtpLine::open(self.address, &self.connector, &writer.tenant).await?,
        };
        line.send(&writer.sender(), &letter.to, octets(letter, writer)?).await?;
        self.line = Some(line);
        Ok(())
    }

    async fn leave(self) {
        if let Some(mut line) = self.line {
            // It is the end either way.
            let _ = timeout(ANSWER_WAIT, line.ask("QUIT\r\n")).await;
        }
    }
}

fn octets(letter: &Letter, writer: &Writer) -> Result<Vec<u8>, Failure> {
    let now = writer.clock.now();
    let mut headers = vec![("X-Kind".to_owned(), letter.kind.to_owned())];
    match letter.wish {
        Wish::Nothing => {}
        Wish::Set => headers.push(("X-SES-CONFIGURATION-SET".to_owned(), NEWSLETTERS.to_owned())),
        // R1.3; by SMTP what is named leaves at once.
        Wish::Pool(pool) | Wish::Later(pool) => {
            let options = json!({ "options": { "ip_pool": pool } });
            headers.push(("X-MSYS-API".to_owned(), options.to_string()));
        }
    }
    let compose = Compose {
        from: NamedMailbox::parse(&writer.sender())?,
        to: letter.to.iter().map(|to| NamedMailbox::parse(to)).collect::<Result<_, _>>()?,
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: letter.subject.clone(),
        text: Some(letter.text.clone()),
        html: letter.html.clone(),
        attachments: Vec::new(),
        headers,
        date_unix: now.div_euclid(1_000_000),
        message_id: format!("<{}.{now}@{}>", writer.written, writer.tenant.planned.domain),
        seed: writer.written,
    };
    Ok(compose.write()?)
}

/// A submitter's side of SMTP, step by step: what any mail library does.
struct SmtpLine {
    stream: Box<dyn Wire>,
    reader: ReplyReader,
}

impl SmtpLine {
    async fn open(address: SocketAddr, connector: &Connector, tenant: &Tenant) -> Result<SmtpLine, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut line = SmtpLine { stream: Box::new(stream), reader: ReplyReader::default() };
        good(&line.hear().await?)?;
        let hello = format!("EHLO {}\r\n", tenant.planned.domain);
        line.ask(&hello).await?;
        line.ask("STARTTLS\r\n").await?;
        let secured = connector.connect(line.stream, "localhost", &Policy::Opportunistic, ANSWER_WAIT).await?;
        let mut line = SmtpLine { stream: Box::new(secured), reader: ReplyReader::default() };
        line.ask(&hello).await?;
        let secret = STANDARD.encode(format!("\0{}\0{}", tenant.user, tenant.password));
        line.ask(&format!("AUTH PLAIN {secret}\r\n")).await?;
        Ok(line)
    }

    async fn send(&mut self, from: &str, to: &[String], octets: Vec<u8>) -> Result<(), Failure> {
        let outgoing = Outgoing::new(Arc::from([]), octets.into())?;
        self.ask(&format!("MAIL FROM:<{from}>\r\n")).await?;
        for recipient in to {
            self.ask(&format!("RCPT TO:<{recipient}>\r\n")).await?;
        }
        self.ask("DATA\r\n").await?;
        for piece in outgoing.dotted() {
            self.stream.write_all(&piece).await?;
        }
        self.stream.flush().await?;
        good(&self.hear().await?)
    }

    async fn ask(&mut self, command: &str) -> Result<(), Failure> {
        self.stream.write_all(command.as_bytes()).await?;
        self.stream.flush().await?;
        good(&self.hear().await?)
    }

    /// The next reply. One is awaited at a time, so nothing follows it.
    async fn hear(&mut self) -> Result<Reply, Failure> {
        let mut buffer = [0; 4_096];
        loop {
            let heard = self.stream.read(&mut buffer).await?;
            if heard == 0 {
                return Err(Failure("the connection was closed".to_owned()));
            }
            if let Some(reply) = self.reader.receive(&mut &buffer[..heard])? {
                return Ok(reply);
            }
        }
    }
}

fn good(reply: &Reply) -> Result<(), Failure> {
    if reply.code < 400 { Ok(()) } else { Err(Failure(reply.to_string())) }
}
