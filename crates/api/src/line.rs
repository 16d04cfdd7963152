//! How is somebody else's HTTP server asked? Over one connection that is kept while it is used. Every step has a limit in time and size
//! (F6).

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::time::Timestamp;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use net::dns::{Dns, Families};
use net::tls::{Connector, Policy};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// For a connection, its TLS included.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// From the first octet sent to the answer's status.
const ANSWER_WAIT: Duration = Duration::from_secs(15);
/// For the rest of an answer: it is only kept for whoever looks.
const REST_WAIT: Duration = Duration::from_secs(5);
/// Read of an answer; what comes after it is not looked at.
const ANSWER_OCTETS_MAX: usize = 16 << 10;
const HEAD_OCTETS_MAX: usize = 32 << 10;
/// A connection that has rested for so long is not used again: many servers close it by then, and what a name says may have changed.
pub const RESTED_MAX: Duration = Duration::from_secs(20);

/// A connection, between two requests.
pub struct Line {
    url: String,
    sender: http1::SendRequest<Full<Bytes>>,
    rested_since: Instant,
    /// Drives it.
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was answered: status, and the beginning of the body.
pub struct Answered {
    pub status: StatusCode,
    pub body: Vec<u8>,
    /// Whether the answer was read to its end, and the connection can carry another.
    pub is_whole: bool,
}

/// Why there is no answer to a request.
enum Broken {
    /// Nothing was answered on this connection.
    BeforeAnAnswer(String),
    Otherwise(String),
}

/// The host that an address names, as it is looked up.
pub fn host_of(uri: &Uri) -> Result<&str, String> {
    let host = uri.host().ok_or("the address names no host")?;
    Ok(host.trim_start_matches('[').trim_end_matches(']'))
}

/// Asks over the connection that is there, or over a new one. With the answer comes the connection, where it can carry more.
pub async fn ask(
    line: Option<Line>,
    url: &str,
    request: impl Fn() -> Result<Request<Full<Bytes>>, String>,
    open: impl Future<Output = Result<Line, String>>,
) -> Result<(Answered, Option<Line>), String> {
    let mut reused = line.filter(|line| line.leads_to(url));
    let told = match &mut reused {
        // Closed while it rested: that says nothing of the server.
        Some(line) => match line.converse(request()?).await {
            Err(Broken::BeforeAnAnswer(_)) => None,
            told => Some(told),
        },
        None => None,
    };
    let (told, line) = match (told, reused) {
        (Some(told), Some(line)) => (told, line),
        _ => {
            let mut line = open.await?;
            (line.converse(request()?).await, line)
        }
    };
    match told {
        Ok(answered) => {
            let line = answered.is_whole.then_some(line);
            Ok((answered, line))
        }
        Err(Broken::BeforeAnAnswer(words) | Broken::Otherwise(words)) => Err(words),
    }
}

/// A request signed as Standard Webhooks says: over the id, the moment and the body, by each good secret.
pub fn signed(
    id: &str,
    secrets: &[impl AsRef<[u8]>],
    uri: &Uri,
    body: Bytes,
    now: Timestamp,
) -> Result<Request<Full<Bytes>>, String> {
    let seconds = now.unix_seconds();
    let mut signed = format!("{id}.{seconds}.").into_bytes();
    signed.extend_from_slice(&body);
    let sign = |secret: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, &signed)))
    };
    let signatures: Vec<String> = secrets.iter().map(|secret| sign(secret.as_ref())).collect();
    let authority = uri.authority().ok_or("the address names no host")?.as_str();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Request::post(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .header(USER_AGENT, HeaderValue::from_static("weir"))
        .header("webhook-id", id)
        .header("webhook-timestamp", seconds)
        .header("webhook-signature", signatures.join(" "))
        .body(Full::new(body))
        .map_err(|_| "the address cannot be asked".to_owned())
}

impl Line {
    /// To wherever the host is, which its operator has named.
    pub async fn open_by_name(url: &str, uri: &Uri, dns: &dyn Dns, connector: &Connector) -> Result<Line, String> {
        let host = host_of(uri)?;
        let addresses = match host.parse() {
            Ok(literal) => vec![literal],
            Err(_) => dns.addresses(host, Families::Both).await.map_err(|fault| fault.to_string())?.addresses,
        };
        let mut why = format!("{host} has no address");
        for address in addresses {
            match Line::open(url, uri, address, connector).await {
                Ok(line) => return Ok(line),
                Err(words) => why = words,
            }
        }
        Err(why)
    }

    /// To this address, and no other that the host may have.
    pub async fn open(url: &str, uri: &Uri, address: IpAddr, connector: &Connector) -> Result<Line, String> {
        let is_tls = uri.scheme_str() == Some("https");
        let host = uri.host().ok_or("the address names no host")?;
        let to = SocketAddr::new(address, uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 }));
        let stream = timeout(CONNECT_WAIT, TcpStream::connect(to))
            .await
            .map_err(|_| format!("{to} did not answer within {} seconds", CONNECT_WAIT.as_secs()))?
            .map_err(|fault| format!("{to}: {fault}"))?;
        let _ = stream.set_nodelay(true);
        if is_tls {
            let stream = connector.connect(stream, host, &Policy::Sts, CONNECT_WAIT).await;
            Line::over(stream.map_err(|fault| format!("TLS with {host}: {fault}"))?, url).await
        } else {
            Line::over(stream, url).await
        }
    }

    async fn over<S>(stream: S, url: &str) -> Result<Line, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let builder = http1::Builder::new().max_buf_size(HEAD_OCTETS_MAX).handshake(TokioIo::new(stream)).await;
        let (sender, connection) = builder.map_err(|fault| broken(&fault))?;
        let task = tokio::spawn(async move {
            // Who waits for an answer on it hears how it ended.
            let _ = connection.await;
        });
        Ok(Line { url: url.to_owned(), sender, rested_since: Instant::now(), task })
    }

    fn leads_to(&self, url: &str) -> bool {
        self.url == url && self.rested_since.elapsed() < RESTED_MAX && !self.sender.is_closed()
    }

    async fn converse(&mut self, request: Request<Full<Bytes>>) -> Result<Answered, Broken> {
        let response = match timeout(ANSWER_WAIT, self.sender.send_request(request)).await {
            Err(_) => return Err(Broken::Otherwise(format!("no answer within {} seconds", ANSWER_WAIT.as_secs()))),
            Ok(Err(fault)) if fault.is_parse() => return Err(Broken::Otherwise(broken(&fault))),
            Ok(Err(fault)) => return Err(Broken::BeforeAnAnswer(broken(&fault))),
            Ok(Ok(response)) => response,
        };
        let status = response.status();
        let (body, is_whole) = rest(response).await.map_err(|fault| Broken::Otherwise(broken(&fault)))?;
        self.rested_since = Instant::now();
        Ok(Answered { status, body, is_whole })
    }
}

fn broken(fault: &hyper::Error) -> String {
    format!("the conversation broke off: {fault}")
}

/// As much of the answer as is looked at, and whether that is all. What is slow or endless is left; what breaks off is a fault.
async fn rest(response: Response<Incoming>) -> Result<(Vec<u8>, bool), hyper::Error> {
    let mut body = response.into_body();
    let mut octets = Vec::new();
    let until = Instant::now() + REST_WAIT;
    while octets.len() < ANSWER_OCTETS_MAX && !body.is_end_stream() {
        match timeout_at(until, body.frame()).await {
            Ok(Some(frame)) => {
                if let Some(data) = frame?.data_ref() {
                    octets.extend_from_slice(&data[..data.len().min(ANSWER_OCTETS_MAX - octets.len())]);
                }
            }
            Ok(None) => return Ok((octets, true)),
            Err(_) => break,
        }
    }
    let is_whole = body.is_end_stream();
    Ok((octets, is_whole))
}
